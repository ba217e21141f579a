"""The report of limits: what is used, when a unit is free, and whose usage a reset forgets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flows import NO_LIMITS, Flow
from parallel import outcome
from sqlalchemy import select

from flask_smsverify.db.models import Alert
from flask_smsverify.errors import RateLimited
from flask_smsverify.limits.other_counts import Charge, Counters, Usage
from flask_smsverify.settings import Limit

MakeFlow = Callable[..., Flow]

#: Per scope: what names the first and the second user's usage in a report.
KEYS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "mobile": ({"mobile": "+989123450001"}, {"mobile": "+989123450002"}),
    "user": ({"user_id": "1"}, {"user_id": "2"}),
    "ip": ({"ip": "192.0.2.1"}, {"ip": "198.51.100.2"}),
    "network": ({"ip": "192.0.2.1"}, {"ip": "198.51.100.2"}),
    "site": ({}, {}),
}


def usage(flow: Flow, scope: str, named: dict[str, str]) -> Usage:
    """Return the usage of the one limit of a scope."""
    report = flow.state.limit_report
    found = report.usage(report.scopes(**named), flow.clock())
    [shown] = [one for one in found if one.scope == scope]
    return shown


def ip(number: int) -> str:
    return KEYS["ip"][number - 1]["ip"]


@pytest.mark.parametrize("scope", KEYS)
def test_the_report_names_the_usage_and_the_wait_of_one_key(
    make_flow: MakeFlow, sqlite: str, scope: str
) -> None:
    """The window slides: a unit is free exactly when its send is an hour old."""
    flow = make_flow(
        sqlite,
        users=2,
        SMSVERIFY_LIMITS=NO_LIMITS | {scope: "2/hour"},
        SMSVERIFY_RESEND_DELAYS=(1,),
        SMSVERIFY_SITE_RESERVED=0,
        SMSVERIFY_NETWORK_SHARE=1,
    )
    own, other = KEYS[scope]

    def send(number: int = 1) -> None:
        flow.start(number, ip=ip(number))

    def shown(named: dict[str, str] = own) -> tuple[int, int]:
        found = usage(flow, scope, named)
        return found.used, found.wait

    assert shown() == (0, 0)
    send()
    flow.clock.advance(3000)
    assert shown() == (1, 0)
    send()
    flow.clock.advance(100)
    if scope != "site":
        send(2)
        assert shown(other) == (1, 0)
    flow.clock.advance(200)
    assert shown() == (2, 300)
    with pytest.raises(RateLimited) as refused:
        send()
    assert refused.value.retry_after == 300
    flow.clock.advance(299.999)
    assert shown() == (2, 1)
    flow.clock.advance(0.001)
    assert shown() == (1, 0)
    send()
    assert shown() == (2, 3000)


def test_the_report_names_the_usage_and_the_wait_of_an_accounts_mobiles(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(
        sqlite,
        users=2,
        SMSVERIFY_LIMITS=NO_LIMITS | {"mobiles_per_user": "2/hour"},
        SMSVERIFY_RESEND_DELAYS=(1,),
    )

    def shown(user: str = "1") -> tuple[int, int]:
        found = usage(flow, "mobiles_per_user", {"user_id": user})
        return found.used, found.wait

    def send(number: int, mobile: int) -> None:
        flow.start(number, mobile=f"+98935111000{mobile}")
        flow.clock.advance(600)

    send(1, 1)
    send(1, 2)
    send(2, 3)
    assert (shown("1"), shown("2")) == ((2, 1800), (1, 0))
    send(1, 1)
    assert shown() == (2, 1800)  # the second mobile was used 1,800 s ago, the first one since
    with pytest.raises(RateLimited) as refused:
        send(1, 3)
    assert refused.value.retry_after == 1800
    flow.clock.advance(1800)
    assert shown() == (1, 0)


@pytest.mark.parametrize("scope", ["failures", "site_failures"])
def test_the_report_names_the_usage_and_the_wait_of_wrong_codes(
    make_flow: MakeFlow, sqlite: str, scope: str
) -> None:
    flow = make_flow(sqlite, users=2, SMSVERIFY_LIMITS=NO_LIMITS | {scope: "2/hour"})
    named = {} if scope == "site_failures" else {"user_id": "1"}

    def shown() -> tuple[int, int]:
        found = usage(flow, scope, named)
        return found.used, found.wait

    for used in (1, 2):
        challenge = flow.start()
        assert outcome(lambda c=challenge: flow.check(c, flow.wrong(c))) == "WrongCode"
        assert shown() == (used, 3600 - 1000 if used == 2 else 0)
        flow.clock.advance(1000)
    challenge = flow.start(2)
    if scope == "failures":
        assert outcome(lambda: flow.check(challenge, flow.wrong(challenge))) == "WrongCode"
    assert shown() == (2, 1600)
    flow.clock.advance(1600)
    assert shown() == (1, 0)


@pytest.mark.parametrize("scope", ["mobile", "user", "ip", "mobiles_per_user", "failures"])
def test_a_reset_of_one_key_forgets_nothing_of_another(
    make_flow: MakeFlow, sqlite: str, scope: str
) -> None:
    flow = make_flow(sqlite, users=2)
    named = {"mobiles_per_user": KEYS["user"], "failures": KEYS["user"]}
    own, other = named.get(scope, KEYS.get(scope))
    for number in (1, 2):
        challenge = flow.start(number, ip=ip(number))
        assert outcome(lambda c=challenge: flow.check(c, flow.wrong(c))) == "WrongCode"

    def used(named: dict[str, str]) -> set[int]:
        report = flow.state.limit_report
        found = report.usage(report.scopes(**named), flow.clock())
        return {one.used for one in found if one.scope == scope}

    assert (used(own), used(other)) == ({1}, {1})
    flow.reset(scope, **own)
    assert (used(own), used(other)) == ({0}, {1})


def test_a_reset_of_a_mobiles_notices_forgets_none_of_another_mobile(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS=NO_LIMITS | {"notices": "2/hour"})
    counters: Counters = flow.verifier.changes._counters
    own, other = KEYS["mobile"]
    for named, advance in ((own, 600), (other, 600), (other, 600), (own, 600)):
        charge = Charge("notices", named["mobile"], (Limit(2, 3600),))
        counters.reserve([charge], flow.clock())
        flow.clock.advance(advance)

    def shown(named: dict[str, str]) -> tuple[int, int]:
        found = usage(flow, "notices", named)
        return found.used, found.wait

    assert (shown(own), shown(other)) == ((2, 1200), (2, 1800))
    flow.reset("notices", **own)
    assert (shown(own), shown(other)) == ((0, 0), (2, 1800))


def test_a_reset_forgets_no_report_of_another_limit(make_flow: MakeFlow, sqlite: str) -> None:
    """Else the staff would be notified again of a limit that was not reset."""
    limits = NO_LIMITS | {"site": "2/day", "user": "9/day"}
    flow = make_flow(sqlite, SMSVERIFY_LIMITS=limits, SMSVERIFY_SITE_RESERVED=0)
    flow.start()

    def reported() -> list[Any]:
        return flow.state.ledger.read(lambda session: list(session.scalars(select(Alert.name))))

    before = reported()
    assert before
    flow.reset("user", user_id="1")
    assert reported() == before
    flow.reset("site")
    assert reported() == []
