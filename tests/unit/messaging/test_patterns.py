"""Events that go by patterns which a gateway has approved."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from conftest import MakeApp
from flask import Flask

from flask_smsverify.delivery import Routes
from flask_smsverify.errors import ChannelUnavailable, ConfigurationError, Unavailable
from flask_smsverify.senders.base import (
    Capability,
    DeliveryState,
    Pattern,
    PatternRules,
    Receipt,
    Sender,
    Text,
)

SENDERS = {
    "patterns": {"gateway": "patterned"},
    "other": {"gateway": "patterned"},
    "texts": {"gateway": "memory"},
}
ORDER = {"template": 100, "values": {"ORDER": "{{ order.number }}", "BY": "{{ site }}"}}
MOBILE = "+989123456789"


class Patterned(Sender):
    """Keeps patterns, and sends no texts."""

    gateway = "patterned"
    pattern_rules: ClassVar[PatternRules] = PatternRules(max_template=999, max_length=25)

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.sent: list[tuple[str, Pattern, str]] = []
        self.is_down = False

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.PATTERN})

    def send_pattern(self, to: str, pattern: Pattern, *, reference: str = "") -> Receipt:
        self.check_pattern(pattern)
        if self.is_down:
            raise self.make_error(Unavailable, "it is down")
        self.sent.append((to, pattern, reference))
        return Receipt(to, DeliveryState.QUEUED, "1", reference)


@pytest.fixture
def make(make_app: MakeApp, sqlite: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes an app with these patterns."""
    from flask_smsverify.senders import registry

    real = registry._find_class

    def find(name: str, kind: str, registered: Any) -> type[Sender]:
        return Patterned if kind == "patterned" else real(name, kind, registered)

    monkeypatch.setattr(registry, "_find_class", find)

    def build(patterns: object, **config: Any) -> Flask:
        config = {"SMSVERIFY_SENDERS": SENDERS, "SMSVERIFY_SITE_NAME": "Chenar"} | config
        return make_app(sqlite, SMSVERIFY_PATTERNS=patterns, **config)

    return build


def compose(
    app: Flask, event: str = "order.accepted", audience: str = "user", **values: object
) -> Any:
    texts = app.extensions["smsverify"].event_texts
    values = values or {"order_number": 1042}
    with app.app_context():
        return texts.compose(event, audience, "en", values)


def test_an_event_has_the_pattern_of_each_sender_with_its_values(make: Any) -> None:
    app = make({"order.accepted": {"patterns": ORDER, "other": {"template": "7"}}})
    composed = compose(app)
    assert "1042" in composed.text
    assert composed.patterns == {
        "patterns": Pattern("100", {"ORDER": "1042", "BY": "Chenar"}),
        "other": Pattern("7", {}),
    }
    assert compose(app, "ticket.closed", ticket_number=1, ticket_subject="x").patterns == {}


def test_values_in_a_list_keep_their_order(make: Any) -> None:
    app = make({"order.accepted": {"other": {"template": 7, "values": ["b", "{{ site }}", "a"]}}})
    assert list(compose(app).patterns["other"].values.values()) == ["b", "Chenar", "a"]


def test_a_pattern_is_for_users_where_the_key_does_not_name_the_staff(make: Any) -> None:
    user, staff = {"template": 1}, {"template": 2}
    app = make({"domain.renewed": {"other": user}, "staff/domain.renewed": {"other": staff}})
    values = {"domain_name": "a.ir", "expiry_date": "2027-01-01", "client_name": "Sara"}
    assert compose(app, "domain.renewed", **values).patterns["other"].template == "1"
    assert compose(app, "domain.renewed", "staff", **values).patterns["other"].template == "2"
    staff_only = make({"ticket.opened": {"other": {"template": 3}}})
    ticket = {"ticket_number": 1, "ticket_subject": "x", "client_name": "y"}
    assert compose(staff_only, "ticket.opened", "staff", **ticket).patterns["other"].template == "3"


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (
            {"order.acepted": {"patterns": ORDER}},
            "no event 'order.acepted'; did you mean order",
        ),
        ({"staff/order.accepted": {"patterns": ORDER}}, "no text for 'staff'"),
        ({"x/order.accepted": {"patterns": ORDER}}, "must be 'user' or 'staff'"),
        ({"order.accepted": {"pattern": ORDER}}, "no sender 'pattern' .*; did you mean patterns"),
        ({"order.accepted": {"texts": ORDER}}, "has no patterns"),
        ({"order.accepted": {"other": {"tmplate": 1}}}, "no key 'tmplate'; did you mean template"),
        ({"order.accepted": {"other": {"values": {}}}}, "'template' must be"),
        ({"order.accepted": {"other": {"template": 1000}}}, "whole number from 1 to 999"),
        ({"order.accepted": {"other": {"template": 1, "values": "x"}}}, "'values' must map"),
        ({"order.accepted": {"other": {"template": 1, "values": {"A": 7}}}}, "'values' must map"),
        (
            {"order.accepted": {"other": {"template": 1, "values": {"A": "{{ amount }}"}}}},
            "unknown value 'amount'",
        ),
        (
            {"order.accepted": {"other": {"template": 1, "values": {"A": "x" * 26}}}},
            "the value 'A' is longer than 25 characters",
        ),
        ({"order.accepted": ORDER}, "must map an event to senders"),
        ([], "must map an event to senders"),
    ],
)
def test_a_wrong_pattern_stops_the_start(make: Any, patterns: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        make(patterns)
    assert "SMSVERIFY_PATTERNS" in str(refused.value)


def test_a_pattern_of_a_sender_that_the_route_leaves_out_stops_the_start(make: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"no sender 'other' .* SMSVERIFY_ROUTES"):
        make({"order.accepted": {"other": ORDER}}, SMSVERIFY_ROUTES={"text": ["texts"]})


def test_values_that_the_gateway_would_refuse_go_by_text_instead(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = make({"order.accepted": {"patterns": ORDER}})
    with caplog.at_level(logging.WARNING):
        composed = compose(app, order_number="x" * 26)
    assert composed.patterns == {}
    assert "the value 'ORDER' is longer than 25 characters" in caplog.text
    assert "xxxx" not in caplog.text


def test_staff_replace_and_remove_patterns(make: Any) -> None:
    app = make({"order.accepted": {"patterns": ORDER, "other": ORDER}})
    texts = app.extensions["smsverify"].event_texts
    with app.app_context():
        edited = {"template": 8, "values": {"N": "{{ order_number }}"}}
        texts.save("order.accepted", "user", patterns={"patterns": None, "other": edited})
        assert compose(app).patterns == {"other": Pattern("8", {"N": "1042"})}
        for wrong in ({"other": {"template": "x"}}, {"texts": edited}, {"nobody": edited}):
            with pytest.raises(ConfigurationError):
                texts.save("order.accepted", "user", patterns=wrong)
        texts.save("order.accepted", "user", patterns={})
        assert set(compose(app).patterns) == {"patterns", "other"}


def send(app: Flask, names: Sequence[str]) -> Any:
    """Send an event to these senders in order, and return their objects by name."""
    delivery = app.extensions["smsverify"].delivery
    senders = {name: delivery.routes.senders[name] for name in names}
    composed = compose(app)
    with app.app_context(), delivery.rerouted(Routes(senders, {})):
        delivery.send_text(
            Text(MOBILE, composed.text, "ref"), event="order.accepted", patterns=composed.patterns
        )
    return senders


def test_a_sender_with_a_pattern_sends_it_and_the_next_one_the_text(make: Any) -> None:
    app = make({"order.accepted": {"patterns": ORDER}})
    senders = send(app, ["patterns", "texts"])
    [(to, pattern, reference)] = senders["patterns"].sent
    assert (to, pattern.template, reference) == (MOBILE, "100", "ref")
    assert senders["texts"].messages == []
    senders["patterns"].is_down = True
    assert "1042" in send(app, ["patterns", "texts"])["texts"].last.text


def test_a_sender_that_has_neither_a_pattern_nor_texts_is_skipped(make: Any) -> None:
    app = make({"order.accepted": {"patterns": ORDER}})
    senders = send(app, ["other", "texts"])
    assert senders["other"].sent == []
    assert len(senders["texts"].messages) == 1
    with pytest.raises(ChannelUnavailable):
        send(app, ["other"])
