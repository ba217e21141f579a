"""What people are told by the way: old numbers, earlier holders, the staff."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask_login import current_user
from hostapp import User, db

from flask_smsverify import signals
from flask_smsverify.errors import BudgetSpent, Rejected
from flask_smsverify.testing import Outbox, outbox

MakeApp = Callable[..., Flask]
NEW = "+989129998877"


def verify(verifier: Any, box: Outbox, user: Any, mobile: str | None = None) -> None:
    """Prove a number for a user, whatever the pauses."""
    challenge = verifier.start(user, mobile=mobile)
    [*_, message] = [kept for kept in box.messages if kept.code]
    verifier.check(challenge, message.code)


def test_the_old_number_is_told_when_another_is_proved(app: Flask) -> None:
    verifier = app.extensions["smsverify"].verifier
    with app.app_context(), outbox(app) as box:
        user = db.session.get(User, 1)
        old = verifier.mobile_of(user)
        verify(verifier, box, user)
        verify(verifier, box, user, NEW)
        notice = box.last
    assert notice.to == old
    assert notice.code is None
    assert "به شماره‌ای که به 8877 ختم می‌شود تغییر کرد" in notice.text
    assert NEW not in notice.text


@pytest.mark.parametrize(
    ("mobile", "ending"), [("+989129998877", "in 8877."), ("+4915112345678", "in 678.")]
)
def test_a_new_number_is_told_by_its_last_digits(
    make_app: MakeApp, sqlite: str, mobile: str, ending: str
) -> None:
    """A masked number would be drawn with its signs in disorder inside a Persian SMS."""
    app = make_app(sqlite, SMSVERIFY_ALLOWED_REGIONS=["IR", "DE"])
    app.extensions["test_smsverify"].locale_getter(lambda: "en")
    verifier = app.extensions["smsverify"].verifier
    with app.app_context(), outbox(app) as box:
        user = db.session.get(User, 1)
        verify(verifier, box, user)
        verify(verifier, box, user, mobile)
    assert ending in box.last.text
    assert "•" not in box.last.text


def test_proving_the_same_number_again_tells_nobody(app: Flask) -> None:
    verifier = app.extensions["smsverify"].verifier
    with app.app_context(), outbox(app) as box:
        user = db.session.get(User, 1)
        verify(verifier, box, user)
        verify(verifier, box, user)
        assert all(message.code for message in box.messages)


def test_a_transfer_tells_the_number_and_takes_the_earlier_verification(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, users=2, SMSVERIFY_MOBILE_POLICY="transfer")
    verifier = app.extensions["smsverify"].verifier
    with app.app_context(), outbox(app) as box:
        first, second = db.session.get(User, 1), db.session.get(User, 2)
        second.mobile = first.mobile
        db.session.commit()
        verify(verifier, box, first)
        verify(verifier, box, second)
        assert box.last.code is None
        assert box.last.to == verifier.mobile_of(first)
        assert verifier.status(first).state == "unverified"
        assert verifier.status(second).state == "verified"


def test_the_staff_are_told_once_that_the_site_has_nothing_left(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(
        sqlite,
        users=4,
        SMSVERIFY_BUDGETS={"site": "2/day"},
        SMSVERIFY_STAFF_MOBILES=["09121110000", "09121110001"],
    )
    state = app.extensions["smsverify"]
    spent: list[str] = []

    def note(_app: Flask, scope: str, limit: str) -> None:
        spent.append(f"{scope} {limit}")

    with app.app_context(), outbox(app) as box, signals.budget_spent.connected_to(note, app):
        for number in (1, 2):
            state.verifier.start(db.session.get(User, number))
        for number in (3, 4):
            with pytest.raises(BudgetSpent) as refused:
                state.verifier.start(db.session.get(User, number))
            assert refused.value.scope == "site"
        told = [message.to for message in box.messages if not message.code]
        assert sorted(told) == ["+989121110000", "+989121110001"]
        assert spent == ["site whole"]
        # Lifted and spent again on the same day: a signal again, the staff not.
        state.budgets.lift(state.verifier.budget_claims())
        for number in (3, 4):
            state.verifier.start(db.session.get(User, number))
        assert spent == ["site whole"] * 2
        assert len([message for message in box.messages if not message.code]) == 2


def test_the_staff_are_told_though_the_hosts_language_cannot_be_asked_in_the_background(
    make_app: MakeApp, sqlite: str
) -> None:
    """A sign-up spends the last unit; a getter that looks at the user fails outside a request."""
    app = make_app(
        sqlite, SMSVERIFY_BUDGETS={"site": "1/day"}, SMSVERIFY_STAFF_MOBILES=["09121110000"]
    )
    app.extensions["test_smsverify"].locale_getter(
        lambda: current_user.locale if current_user.is_authenticated else "en"
    )
    state = app.extensions["smsverify"]
    sent: list[str] = []

    def note(_app: Flask, **values: str) -> None:
        sent.append(values["gateway"])

    with (
        app.app_context(),
        outbox(app) as box,
        signals.code_sent.connected_to(note, app),
        app.test_request_context("/", environ_base={"REMOTE_ADDR": "192.0.2.1"}),
    ):
        state.verifier.start_for("09129990000", purpose="sign-up")
        state.delivery.settle()
        assert [message.to for message in box.messages if not message.code] == ["+989121110000"]
        assert sent == ["outbox"]


def test_a_notice_that_cannot_go_out_does_not_spoil_the_proof(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    verifier = app.extensions["smsverify"].verifier
    memory = app.extensions["smsverify"].delivery.routes.senders["memory"]
    with app.app_context():
        user = db.session.get(User, 1)
        old = verifier.mobile_of(user)
        for mobile in (None, NEW):
            challenge = verifier.start(user, mobile=mobile)
            memory.fail_with(Rejected("memory", "refused"), to=old)
            verifier.check(challenge, memory.last.code)
            if mobile is None:
                memory.clear()
                verifier._parts.budgets.lift(verifier.budget_claims(user_id="1"))
        app.extensions["smsverify"].delivery.settle()
        assert verifier.latest(user).state == "verified"
    assert "the notice mobile.changed was not sent" in caplog.text


def test_notices_are_counted_by_the_budget_for_messages(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_BUDGETS={"messages": "1/day", "mobiles_per_user": None})
    verifier = app.extensions["smsverify"].verifier
    with app.app_context(), outbox(app) as box:
        user = db.session.get(User, 1)
        verify(verifier, box, user)
        for mobile in ("+989129998801", "+989129998802", "+989129998803"):
            verify(verifier, box, user, mobile)
        assert len([message for message in box.messages if not message.code]) == 1
