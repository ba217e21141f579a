"""Rate limits: cases 75 to 80 of docs/safety.md, and the usage log against a model."""

from __future__ import annotations

import functools
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import pytest
from examples import examples
from flask import Flask
from flows import NO_LIMITS, Flow, Native
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parallel import guess, outcome, race, send_to
from sqlalchemy import delete, event, insert, select, text
from sqlalchemy.orm import Session

from flask_smsverify import keyring, signals
from flask_smsverify.db.models import Streak, UsageSend
from flask_smsverify.db.prepared import PreparedSelect, RowValues
from flask_smsverify.db.types import to_ms
from flask_smsverify.errors import (
    NotCarried,
    RateLimited,
    Rejected,
    StoreUnavailable,
    TooManyAttempts,
    TooSoon,
    Unavailable,
    WrongCode,
)
from flask_smsverify.limits.addresses import parse_address
from flask_smsverify.limits.keys import UsageKeys
from flask_smsverify.limits.sends import SendKeys, SendLog
from flask_smsverify.limits.usage_log import Recorded, last_id, reset_site
from flask_smsverify.senders.base import CodeMessage, Receipt
from flask_smsverify.senders.memory import Memory
from flask_smsverify.settings import Limit
from flask_smsverify.settings.limits_notation import parse_limits

MakeFlow = Callable[..., Flow]
#: How many threads send codes in the background.
_THREADS = 4


def test_an_account_can_request_codes_for_three_mobiles_a_day(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS={"user": None}, SMSVERIFY_RESEND_DELAYS=(1,))
    outcomes = []
    for mobile in ("09120000001", "09120000002", "09120000001", "09120000003", "09120000004"):
        outcomes.append(outcome(lambda to=mobile: flow.start(mobile=to)))
        flow.clock.advance(2)
    assert outcomes == ["ok", "ok", "ok", "ok", "RateLimited"]


def test_disabled_limits_refuse_nothing(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS=NO_LIMITS, SMSVERIFY_MAX_ATTEMPTS=100)
    for _ in range(30):
        flow.clock.advance(121)
        challenge = flow.start(ip="192.0.2.1")
    outcomes = {outcome(lambda: flow.check(challenge, flow.wrong(challenge))) for _ in range(40)}
    assert outcomes == {"WrongCode"}
    assert len(flow.memory.messages) == 30


def test_the_site_failure_limit_stops_guesses_with_one_signal_at_half(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, users=9, SMSVERIFY_LIMITS={"site_failures": "10/hour"})
    reports = []

    def receive(_app: object, *, scope: str, limit: str) -> None:
        reports.append((scope, limit))

    challenges = [flow.start(number) for number in range(1, 10)]
    with signals.limit_reached.connected_to(receive):
        for challenge in challenges[:2]:
            flow.check(challenge, flow.code(challenge))
        outcomes = [
            outcome(lambda c=challenge: flow.check(c, flow.wrong(c)))
            for _ in range(2)
            for challenge in challenges[2:]
        ]
    assert outcomes == ["WrongCode"] * 10 + ["TooManyAttempts"] * 4
    assert reports.count(("site_failures", "half")) == 1
    assert reports.count(("site_failures", "whole")) == 1
    assert flow.used("site_failures") == 10


def test_refused_guesses_do_not_count_against_the_site_failure_limit(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """Guesses at exhausted challenges, at locked accounts, and beyond the limit of an account."""
    flow = make_flow(
        sqlite,
        users=4,
        SMSVERIFY_CONSECUTIVE_FAILURES=8,
        SMSVERIFY_LIMITS={"failures": "3/day", "site_failures": "50/hour"},
    )
    failed, exhausted = flow.start(1), flow.start(2)
    for _ in range(20):
        outcome(lambda: flow.check(failed, flow.wrong(failed)))
    assert flow.used("site_failures") == 3
    flow.reset("failures", user_id="1", mobile="+989123450001")
    for _ in range(20):
        outcome(lambda: flow.check(exhausted, flow.wrong(exhausted)))
    assert flow.used("site_failures") == 6
    for _ in range(2):
        flow.reset("failures", user_id="2", mobile="+989123450002")
        for _ in range(20):
            outcome(lambda: flow.check(exhausted, flow.wrong(exhausted)))
    assert flow.used("site_failures") == 8


def test_the_site_failure_limit_refuses_second_guesses_until_it_is_reset(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 77: the first guess of a challenge is never refused by it."""
    flow = make_flow(database, users=4, SMSVERIFY_LIMITS={"site_failures": "3/hour"})
    attacked, mine, other = flow.start(1), flow.start(2), flow.start(3)
    for _ in range(3):
        outcome(lambda: flow.check(attacked, flow.wrong(attacked)))
    assert flow.check(mine, flow.code(mine)).verified_at
    assert outcome(lambda: flow.check(other, flow.wrong(other))) == "WrongCode"
    assert outcome(lambda: flow.check(other, flow.code(other))) == "TooManyAttempts"
    flow.state.limit_report.reset(flow.state.limit_report.scopes())
    assert flow.check(other, flow.code(other)).verified_at


def test_the_used_up_failures_of_the_site_name_the_time_of_the_oldest_one(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(
        sqlite,
        users=4,
        SMSVERIFY_LIMITS={"site_failures": "3/hour"},
        SMSVERIFY_CODE_LIFETIME=600,
    )
    challenges = [flow.start(number) for number in range(1, 5)]
    for challenge, seconds in zip(challenges, (0, 200, 100, 60), strict=True):
        flow.clock.advance(seconds)
        assert outcome(lambda c=challenge: flow.check(c, flow.wrong(c))) == "WrongCode"
    with pytest.raises(TooManyAttempts) as caught:
        flow.check(challenges[3], flow.wrong(challenges[3]))
    assert caught.value.retry_after == 3600 - 160


def test_a_reset_of_the_sites_failures_gives_nobody_new_guesses(
    make_flow: MakeFlow, database: str
) -> None:
    """An attack on the site and its reset leave an attacker with the guesses of the day."""
    flow = make_flow(
        database,
        users=2,
        SMSVERIFY_LIMITS={"failures": "4/day", "failures_ip": "4/hour", "site_failures": "4/hour"},
    )
    ip = "192.0.2.1"
    attacked, other = flow.start(1), flow.start(2)
    for _ in range(4):
        assert outcome(lambda: flow.check(attacked, flow.wrong(attacked), ip=ip)) == "WrongCode"
    assert outcome(lambda: flow.check(other, flow.wrong(other))) == "WrongCode"
    assert flow.used("site_failures") == 4
    assert outcome(lambda: flow.check(other, flow.wrong(other))) == "TooManyAttempts"

    flow.reset("site_failures")
    assert flow.used("site_failures") == 0
    assert flow.used("failures", "user 1") == flow.used("failures_ip", ip) == 4
    assert flow.used("failures_network", ip) == 4
    assert flow.verification(1).failures == 4
    assert outcome(lambda: flow.check(attacked, flow.code(attacked))) == "TooManyAttempts"
    with pytest.raises(RateLimited) as caught:
        flow.sign_up("09120000001", ip=ip)
    assert caught.value.scope == "failures_ip"
    assert outcome(lambda: flow.check(other, flow.wrong(other))) == "WrongCode"
    assert flow.used("site_failures") == 1
    assert flow.used("failures", "user 2") == 2


def test_a_reset_of_the_sites_sends_forgets_no_other_count(
    make_flow: MakeFlow, database: str
) -> None:
    """The cooldown and a network's share of the site's limit stay too."""
    flow = make_flow(database, users=2, SMSVERIFY_LIMITS={"site": "60/day"})
    ip, neighbour = "192.0.2.1", "192.0.2.2"
    flow.start(1, ip=ip)
    assert flow.sign_up("09120000001", ip=ip).sends == 1
    assert flow.sign_up("09120000002", ip=neighbour).sends == 1
    assert outcome(lambda: flow.sign_up("09120000003", ip=neighbour)) == "RateLimited"
    flow.reset("site")
    assert flow.used("site") == 0
    assert flow.used("ip", ip) == 2
    assert flow.used("wide", ip) == 3
    assert flow.used("mobile", "+989123450001") == flow.used("user", "1") == 1
    assert outcome(lambda: flow.start(1, ip=ip)) == "TooSoon"
    assert outcome(lambda: flow.sign_up("09120000003", ip=neighbour)) == "RateLimited"
    assert flow.sign_up("09120000003", ip="198.51.100.1").sends == 1
    assert flow.used("site") == 1


def test_a_reset_of_a_user_forgets_nothing_of_the_site_and_of_addresses(flow: Flow) -> None:
    ip = "192.0.2.1"
    challenge = flow.start(1, ip=ip)
    other = flow.start(2, ip=ip)
    for guessed in (challenge, other):
        assert outcome(lambda c=guessed: flow.check(c, flow.wrong(c), ip=ip)) == "WrongCode"
    flow.reset(user_id="1")
    assert flow.used("user", "1") == flow.used("failures", "user 1") == 0
    assert flow.used("user", "2") == flow.used("failures", "user 2") == 1
    assert flow.used("site") == flow.used("ip", ip) == 2
    assert flow.used("site_failures") == flow.used("failures_ip", ip) == 2
    assert flow.used("mobile", "+989123450001") == 1
    assert flow.verification(1).failures == 1


@pytest.mark.parametrize("reset", [{"mobile": "+989123450001"}, {"user_id": "1"}])
@pytest.mark.parametrize("has_account", [True, False])
def test_a_reset_ends_the_cooldown_of_a_number_that_a_gateway_refused(
    flow: Flow, reset: dict[str, str], has_account: bool
) -> None:
    """A cooldown without an account is the mobile's alone."""

    def send(purpose: str) -> str:
        if has_account:
            return outcome(lambda: flow.start(1, purpose=purpose))
        return outcome(lambda: flow.sign_up("09123450001"))

    flow.memory.fail_with(Rejected("memory", "no"))
    send("order")
    assert send("order") == "TooSoon"
    flow.reset(**reset)
    ends = has_account or "mobile" in reset
    assert send("order") == ("ok" if ends else "TooSoon")


def test_a_reset_works_before_the_first_code_was_sent(make_flow: MakeFlow, database: str) -> None:
    flow = make_flow(database)
    flow.reset("site", "site_failures", "foreign")
    assert flow.start(1).sends == 1
    assert flow.used("site") == 1


def test_a_reset_of_a_large_limit_lets_sends_pass_in_between(
    make_flow: MakeFlow, database: str
) -> None:
    """Every send of the site waits for a transaction of the reset."""
    flow = make_flow(database, SMSVERIFY_LIMITS={"site": "1000000/day"}, SMSVERIFY_SITE_RESERVED=0)
    flow.start(1)  # creates the rows of the locks
    now_ms = to_ms(flow.clock.now)
    earlier = [
        {"at": at, "site_at": at, "site_count": count, "open_count": count, "by_owner": False}
        for count, at in enumerate(range(now_ms - 60_000, now_ms - 60_000 + 12_000), 2)
    ]
    flow.state.ledger.run(lambda session: session.execute(insert(UsageSend), earlier) and None)
    assert flow.used("site") == 12_001
    assert count_transactions(flow, lambda: flow.reset("site")) == 3
    assert flow.used("site") == 0
    flow.clock.advance(61)
    flow.start(1)
    assert flow.used("site") == 1


@pytest.mark.race
def test_sends_and_guesses_at_the_time_of_a_reset_are_counted_once(
    make_flow: MakeFlow, database: str
) -> None:
    """Each counts before the reset or after it."""
    flow = make_flow(
        database,
        users=24,
        SMSVERIFY_LIMITS={"site": "10/day", "site_failures": "10/hour"},
        SMSVERIFY_SITE_RESERVED=0,
    )
    app = flow.app
    challenges = [flow.start(number) for number in range(1, 7)]
    wrong = [(challenge.id, flow.wrong(challenge)) for challenge in challenges]

    def act(number: int) -> None:
        if number == 0:
            with app.app_context():
                flow.reset("site", "site_failures")
        elif number <= 18:
            send_to(app, 6 + number, None)
        else:
            guess(app, *wrong[number - 19])

    ends = race(25, act)
    assert ends["WrongCode"] == 6
    assert set(ends) == {"ok", "RateLimited", "WrongCode"}
    after = flow.used("site")
    assert after <= 10
    assert 6 + (ends["ok"] - 1) - after <= 10, "not more before the reset"
    assert flow.used("site_failures") <= 6
    assert all(flow.used("failures", f"user {number}") == 1 for number in range(1, 7))
    for number in range(10 - after):
        assert flow.sign_up(f"0912000{number:04}").sends == 1
    assert outcome(lambda: flow.sign_up("09120001111")) == "RateLimited"


class RefusesOddNumbers(Memory):
    """A gateway that refuses every other mobile."""

    def send_code(self, message: Any) -> Any:
        if int(message.to) % 2:
            raise NotCarried(self.name, "this number is refused")
        return super().send_code(message)


@pytest.mark.race
def test_parallel_sends_and_refunds_leave_the_count_of_the_site_exact(
    make_flow: MakeFlow, database: str
) -> None:
    """A refund lowers the numbers of later sends, which a parallel send continues."""
    limits = NO_LIMITS | {"site": "1000/day"}
    flow = make_flow(database, users=24, SMSVERIFY_LIMITS=limits, SMSVERIFY_SENDS_IN_FLIGHT=100)
    flow.route(RefusesOddNumbers(name="memory"))
    ends = race(24, lambda number: send_to(flow.app, number + 1, None))
    assert ends == {"ok": 12, "SendFailed": 12}
    assert flow.used("site") == 12


def test_failures_at_a_mobile_without_an_account_are_counted_by_mobile(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """From whatever address: another address gives no more guesses."""
    flow = make_flow(sqlite, SMSVERIFY_LIMITS={"failures": "4/day"}, SMSVERIFY_RESEND_DELAYS=(1,))
    for turn, ip in enumerate(("192.0.2.1", "198.51.100.2")):
        flow.clock.advance(2 * turn)
        challenge = flow.sign_up("09120000001", ip=ip)
        for _ in range(2):
            assert outcome(lambda c=challenge, ip=ip: flow.check(c, flow.wrong(c), ip=ip)) == (
                "WrongCode"
            )
    assert outcome(lambda: flow.check(challenge, flow.code(challenge), ip="203.0.113.3")) == (
        "TooManyAttempts"
    )


def test_of_two_windows_that_are_used_up_the_longer_wait_counts(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(
        sqlite,
        SMSVERIFY_LIMITS=NO_LIMITS | {"failures": "2/hour;2/day", "mobile": "2/hour;2/day"},
    )
    for _ in range(2):
        challenge = flow.start()
        with pytest.raises(WrongCode):
            flow.check(challenge, flow.wrong(challenge))
        flow.clock.advance(minutes=4)
    until_the_first_is_a_day_old = 86_400 - 2 * 240
    for refused in (lambda: flow.check(challenge, flow.wrong(challenge)), flow.start):
        with pytest.raises(TooManyAttempts) as caught:
            refused()
        assert caught.value.retry_after == until_the_first_is_a_day_old
    flow.reset("failures", user_id="1", mobile="+989123450001")
    with pytest.raises(RateLimited) as limited:
        flow.start()
    assert limited.value.retry_after == until_the_first_is_a_day_old


@pytest.mark.parametrize("scope", ["mobile", "user", "mobiles_per_user", "ip", "site", "foreign"])
def test_a_unit_is_free_exactly_at_the_end_of_its_window(
    make_flow: MakeFlow, sqlite: str, scope: str
) -> None:
    """Of two windows the longer one decides."""
    flow = make_flow(
        sqlite,
        SMSVERIFY_ALLOWED_REGIONS=("IR", "AE"),
        SMSVERIFY_LIMITS=NO_LIMITS | {scope: "1/minute;1/hour"},
    )
    number = "+97150123456" if scope == "foreign" else "+98912345000"
    flow.start(mobile=f"{number}1", ip="192.0.2.1")
    flow.clock.advance(40)
    other = f"{number}{1 if scope == 'mobile' else 2}"
    for wait, advance in [(3560, 3559.999), (1, 0.001)]:
        with pytest.raises(RateLimited) as caught:
            flow.start(mobile=other, ip="192.0.2.1")
        assert (caught.value.scope, caught.value.retry_after) == (scope, wait)
        flow.clock.advance(advance)
    flow.start(mobile=other, ip="192.0.2.1")


@pytest.mark.parametrize("scope", ["mobile", "user", "ip"])
def test_the_wait_until_a_unit_is_free_depends_on_no_other_key(
    make_flow: MakeFlow, sqlite: str, scope: str
) -> None:
    flow = make_flow(
        sqlite,
        users=2,
        SMSVERIFY_LIMITS=NO_LIMITS | {scope: "2/hour"},
        SMSVERIFY_RESEND_DELAYS=(1,),
    )
    for number in (1, 1, 2, 2):
        flow.start(number, ip=f"192.0.2.{number}")
        flow.clock.advance(600)
    with pytest.raises(RateLimited) as caught:
        flow.start(1, ip="192.0.2.1")
    assert caught.value.retry_after == 3600 - 4 * 600


def test_the_wait_for_the_open_half_of_a_mobile_does_not_depend_on_its_owner(
    make_flow: MakeFlow, sqlite: str
) -> None:
    limits = NO_LIMITS | {"mobile": "5/hour"}
    flow = make_flow(sqlite, users=6, SMSVERIFY_LIMITS=limits, SMSVERIFY_RESEND_DELAYS=(1,))
    flow.prove(1)
    flow.clock.advance(3600)
    for number in (2, 3, 4, 1):
        flow.start(number, mobile="09123450001")
        flow.clock.advance(600)
    with pytest.raises(RateLimited) as caught:
        flow.start(5, mobile="09123450001")
    assert caught.value.retry_after == 3600 - 4 * 600


@pytest.mark.parametrize("scope", ["failures", "site_failures"])
def test_a_guess_is_free_exactly_at_the_end_of_its_window(
    make_flow: MakeFlow, sqlite: str, scope: str
) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS=NO_LIMITS | {scope: "2/minute"})
    challenge = flow.start()
    for _ in range(2):
        assert outcome(lambda: flow.check(challenge, flow.wrong(challenge))) == "WrongCode"
    for wait, advance in [(60, 59.999), (1, 0.001)]:
        with pytest.raises(TooManyAttempts) as caught:
            flow.check(challenge, flow.code(challenge))
        assert caught.value.retry_after == wait
        flow.clock.advance(advance)
    assert flow.check(challenge, flow.code(challenge))


@pytest.mark.parametrize("scope", ["user", "mobiles_per_user"])
def test_each_window_of_a_limit_counts_on_its_own(
    make_flow: MakeFlow, sqlite: str, scope: str
) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS=NO_LIMITS | {scope: "1/hour;2/day"})
    outcomes = []
    for number in range(3):
        outcomes.append(outcome(lambda n=number: flow.start(mobile=f"+98912345100{n}")))
        flow.clock.advance(hours=1)
    assert outcomes == ["ok", "ok", "RateLimited"]


def test_a_mobile_that_was_used_before_a_window_counts_as_another_one_in_it(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS=NO_LIMITS | {"mobiles_per_user": "1/hour;2/day"})
    first, second = "+989351110001", "+989351110002"
    flow.start(mobile=first)
    flow.clock.advance(7200)
    flow.start(mobile=second)
    flow.clock.advance(600)
    with pytest.raises(RateLimited) as caught:
        flow.start(mobile=first)
    assert (caught.value.scope, caught.value.retry_after) == ("mobiles_per_user", 3000)


def test_a_code_to_the_number_to_be_replaced_is_no_use_of_a_mobile(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS=NO_LIMITS | {"mobiles_per_user": "2/hour"})
    changes = flow.verifier.changes
    flow.prove()
    flow.clock.advance(600)
    changes.send_to_new(flow.user(), "+989351110001")
    changes.prove_new(flow.user(), flow.memory.last.code)
    flow.clock.advance(600)
    changes.send_to_old(flow.user())
    with pytest.raises(RateLimited) as caught:
        flow.start(mobile="+989351110002", purpose="payment")
    assert caught.value.retry_after == 3600 - 1200


def test_evidence_does_not_exceed_the_limit_of_the_site(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS=NO_LIMITS | {"site": "2/day"})
    flow.prove()
    outcomes = []
    for _ in range(2):
        flow.clock.advance(hours=1)
        outcomes.append(outcome(flow.start))
    assert outcomes == ["ok", "RateLimited"]


def test_a_reset_of_the_site_empties_its_longest_window(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite, users=3, SMSVERIFY_LIMITS=NO_LIMITS | {"site": "2/hour;2/day"})
    flow.start(1)
    flow.start(2)
    assert outcome(lambda: flow.start(3)) == "RateLimited"
    flow.reset("site")
    assert flow.used("site") == 0
    assert outcome(lambda: flow.start(3)) == "ok"


def test_failures_of_an_address_refuse_new_anonymous_challenges_and_no_guess(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """Case 75: nobody's failure refuses a guess at a code that was sent to somebody else."""
    flow = make_flow(sqlite, users=2, SMSVERIFY_LIMITS={"failures_ip": "15/hour"})
    ip = "192.0.2.1"
    challenges = [flow.sign_up(f"0912000{n:04}", ip=ip) for n in range(17)]
    for challenge in challenges[:15]:
        assert outcome(lambda c=challenge: flow.check(c, flow.wrong(c), ip=ip)) == "WrongCode"
    assert flow.check(challenges[15], flow.code(challenges[15]), ip=ip).mobile
    assert outcome(lambda: flow.check(challenges[16], flow.wrong(challenges[16]), ip=ip)) == (
        "WrongCode"
    )
    assert flow.check(challenges[16], flow.code(challenges[16]), ip=ip).mobile
    with pytest.raises(RateLimited) as caught:
        flow.sign_up("09120001111", ip=ip)
    assert caught.value.scope == "failures_ip"
    assert flow.start(1, ip=ip).sends == 1, "an account is not anonymous"
    assert flow.sign_up("09120001112", ip="192.0.2.2").sends == 1


def test_a_mobile_without_an_account_is_locked_after_the_streak(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """Case 80: 15 failures a day reach the streak of 100 in a week; a right code ends it."""
    flow = make_flow(sqlite, SMSVERIFY_LIMITS={"failures": "15/day"})
    wrong = 0
    while wrong < 100:
        challenge = flow.sign_up("09120000001")
        for _ in range(5):
            result = outcome(lambda c=challenge: flow.check(c, flow.wrong(c)))
            wrong += result == "WrongCode"
        flow.clock.advance(hours=8)
    assert outcome(lambda: flow.sign_up("09120000001")) == "AccountLocked"
    assert outcome(lambda: flow.check(challenge, flow.code(challenge))) == "AccountLocked"
    assert flow.sign_up("09120000002").sends == 1
    flow.verifier.unlock("09120000001")
    challenge = flow.sign_up("09120000001")
    assert flow.check(challenge, flow.code(challenge)).mobile == "+989120000001"


def test_a_right_code_ends_the_streak_of_a_mobile_without_an_account(flow: Flow) -> None:
    challenge = flow.sign_up("09120000001")
    for _ in range(4):
        assert outcome(lambda: flow.check(challenge, flow.wrong(challenge))) == "WrongCode"

    def failures() -> list[int]:
        return list(
            flow.state.ledger.read(lambda session: session.scalars(select(Streak.failures)))
        )

    assert failures() == [4]
    flow.check(challenge, flow.code(challenge))
    assert failures() == [0]


def test_erasing_a_user_ends_no_streak_and_no_limit(flow: Flow) -> None:
    """Case 79."""
    challenge = flow.start()
    for _ in range(4):
        assert outcome(lambda: flow.check(challenge, flow.wrong(challenge))) == "WrongCode"
    flow.verifier.forget(flow.user())
    assert flow.used("failures", "user 1") == 4
    flow.clock.advance(31)
    flow.start()
    assert flow.verification().failures == 4


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("5/day", [("mobile", "open"), ("mobile", "whole")]),
        ("1/day", [("mobile", "whole")]),
    ],
    ids=["three of five are open", "one of one is open"],
)
def test_the_end_of_a_mobiles_open_part_is_not_reported_as_its_end(
    make_flow: MakeFlow, sqlite: str, limit: str, expected: list[tuple[str, str]]
) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS={"mobile": limit}, SMSVERIFY_RESEND_DELAYS=(0,))
    reports: list[tuple[str, str]] = []

    def receive(_app: object, *, scope: str, limit: str) -> None:
        reports.append((scope, limit))

    with signals.limit_reached.connected_to(receive):
        strangers = [outcome(lambda: flow.sign_up("09123450001")) for _ in range(4)]
        owners = [outcome(lambda: flow.start(1)) for _ in range(3)]
    is_shared = limit == "5/day"
    assert strangers.count("ok") == (3 if is_shared else 1)
    assert owners.count("ok") == (2 if is_shared else 0)
    assert reports == expected


def test_a_send_reports_no_limit_that_it_does_not_count_against(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(
        sqlite,
        SMSVERIFY_LIMITS=NO_LIMITS | {"site": "10/day", "failures": "2/day", "tries": "2/hour"},
        SMSVERIFY_SITE_RESERVED=0.8,
        SMSVERIFY_NETWORK_SHARE=1,
    )
    challenge = flow.start(ip="192.0.2.1")
    assert outcome(lambda: flow.check(challenge, flow.wrong(challenge))) == "WrongCode"
    flow.memory.fail_with(Rejected("memory", "no"))
    assert outcome(lambda: flow.start(purpose="order", ip="192.0.2.1")) == "SendFailed"
    assert flow.used("failures", "user 1") == flow.used("tries", "192.0.2.1") == 1
    assert flow.check(challenge, flow.code(challenge))
    reports: list[str] = []

    def receive(_app: object, *, scope: str, limit: str) -> None:
        reports.append(scope)

    with signals.limit_reached.connected_to(receive):
        flow.start(purpose="payment", ip="192.0.2.1")  # the last open unit of the site stays free
    assert reports == []


# --- addresses ------------------------------------------------------------------------------------


def test_proved_sends_of_an_address_weigh_a_tenth(make_flow: MakeFlow, sqlite: str) -> None:
    """200 people behind one address do not use it up, and 200 SIMs do not send without end."""
    flow = make_flow(
        sqlite, SMSVERIFY_LIMITS={"ip": "6/hour", "network": None, "wide": None, "site": None}
    )

    def prove(mobile: str) -> None:
        challenge = flow.sign_up(mobile, ip="192.0.2.1")
        flow.check(challenge, flow.code(challenge))

    outcomes = []
    for n in range(70):
        outcomes.append(outcome(lambda n=n: prove(f"0912000{n:04}")))
    assert outcomes == ["ok"] * 60 + ["RateLimited"] * 10


def test_a_proof_lightens_the_sends_of_no_earlier_challenge(flow: Flow) -> None:
    earlier = flow.start(ip="192.0.2.1")
    flow.clock.advance(700)
    challenge = flow.start(ip="192.0.2.1")
    assert challenge.id != earlier.id
    flow.check(challenge, flow.code(challenge))
    assert flow.used("ip", "192.0.2.1") == 1


ADDRESS_SCOPES = ("ip", "network", "wide")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["oldest first", "newest first"])
def test_each_of_two_open_challenges_of_a_mobile_weighs_a_tenth_once_it_is_proved(
    make_flow: MakeFlow, database: str, order: tuple[int, int]
) -> None:
    """The first proof ends the cooldown, which both challenges have in common."""
    flow, ip = make_flow(database), "192.0.2.1"
    challenges = []
    for _ in order:
        challenges.append(flow.sign_up("09120000001", ip=ip))
        flow.clock.advance(31)
    for left, number in zip((1, 0), order, strict=True):
        flow.check(challenges[number], flow.code(challenges[number]))
        assert [flow.used(scope, ip) for scope in ADDRESS_SCOPES] == [left] * 3
    assert flow.used("mobile", "+989120000001") == flow.used("site") == 2


@pytest.mark.parametrize("reset", [{"mobile": "+989123450001"}, {"user_id": "1"}])
def test_a_proof_lightens_its_sends_after_a_reset_of_their_mobile_or_user(
    make_flow: MakeFlow, database: str, reset: dict[str, str]
) -> None:
    """The reset ends the cooldown."""
    flow, ip = make_flow(database), "192.0.2.1"
    challenge = flow.start(ip=ip)
    flow.reset(**reset)
    flow.check(challenge, flow.code(challenge))
    assert [flow.used(scope, ip) for scope in ADDRESS_SCOPES] == [0] * 3
    assert flow.used("site") == 1


def test_a_proof_lightens_its_sends_after_an_old_secret_was_removed(flow: Flow) -> None:
    """The keys of the log are digests with the oldest secret."""
    flow.use_keys("the newer secret", "the older secret")
    challenge = flow.start(ip="192.0.2.1")
    flow.use_keys("the newer secret")
    flow.check(challenge, flow.code(challenge))
    [row] = flow.state.ledger.read(lambda session: session.query(UsageSend).all())
    assert [row.ip, row.network, row.wide, row.cooldown] == [None] * 4


def test_a_send_that_fails_after_its_challenge_was_proved_is_refunded(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow, ip, mobile = make_flow(sqlite), "192.0.2.1", "+989120000001"
    challenge = flow.sign_up(mobile, ip=ip)
    code = flow.code(challenge)
    flow.clock.advance(31)
    flow.route(sender := Waiting(mobile))
    flow.verifier.resend(challenge, ip=ip)
    assert sender.is_called.wait(60)
    flow.check(challenge, code)
    assert [flow.used("site"), flow.used("mobile", mobile), flow.used("ip", ip)] == [2, 2, 0]
    flow.sign_up("09120000002", ip=ip, wait=False)
    sender.may_answer.set()
    flow.state.workers.wait()
    assert [flow.used("site"), flow.used("mobile", mobile), flow.used("ip", ip)] == [2, 1, 1]


def test_a_proof_forgives_no_number_that_a_gateway_refused(flow: Flow) -> None:
    """A refused send of the same challenge counts as one of `tries`."""
    ip = "192.0.2.1"
    challenge = flow.start(ip=ip)
    flow.clock.advance(31)
    flow.memory.fail_with(Rejected("memory", "no"))
    assert outcome(lambda: flow.verifier.resend(challenge, ip=ip)) == "SendFailed"
    flow.check(challenge, flow.code(challenge))
    assert flow.used("ip", ip) == 0
    assert flow.used("tries", ip) == flow.used("tries_network", ip) == 1


def test_sends_with_evidence_weigh_a_tenth_against_their_address(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS=NO_LIMITS | {"ip": "60/hour", "site": "100/day"})
    flow.prove(ip="198.51.100.1")
    for n in range(2, 32):
        flow.start(purpose=f"purpose {n}", ip="192.0.2.1")
    assert flow.used("site") == 31
    assert flow.used("ip", "192.0.2.1") == 3


def test_one_wide_network_takes_at_most_a_tenth_of_the_open_share(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """Case 76: 50 /64s of one /48 ask; 600 of the site's 1,000 a day are open."""
    flow = make_flow(sqlite, SMSVERIFY_LIMITS={"wide": None, "network": None})
    sent = sum(
        outcome(lambda n=n: flow.sign_up(f"0912{n:07}", ip=f"2001:db8:0:{n % 50:x}::1")) == "ok"
        for n in range(80)
    )
    assert sent == 60
    with pytest.raises(RateLimited) as caught:
        flow.sign_up("09120001111", ip="2001:db8:0:99::1")
    assert caught.value.scope == "network_share"


def test_seventeen_networks_leave_a_sixth_of_the_open_share(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """Case 76, and requests with evidence are served after it."""
    flow = make_flow(sqlite, users=3)
    flow.prove(1)
    flow.clock.advance(121)
    sent = 0
    for network in range(17):
        for n in range(70):
            mobile = f"0912{network:03}{n:04}"
            sent += outcome(lambda m=mobile, i=network: flow.sign_up(m, ip=f"10.0.{i}.1")) == "ok"
            if n % 30 == 29:
                flow.clock.advance(900)
    assert 400 < sent <= 500
    assert flow.sign_up("09350000001", ip="10.9.9.9").sends == 1
    assert flow.start(1, ip="10.0.0.1").sends == 1


def test_a_part_of_the_sites_limit_is_reserved_for_requests_with_evidence(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, users=3, SMSVERIFY_LIMITS={"site": "10/day"})
    flow.prove(1)
    flow.clock.advance(121)
    outcomes = [outcome(lambda n=n: flow.sign_up(f"0912000{n:04}")) for n in range(7)]
    assert outcomes == ["ok"] * 5 + ["RateLimited"] * 2, "the first send of user 1 was open too"
    assert flow.start(1).sends == 1
    assert outcome(lambda: flow.start(2)) == "RateLimited", "an account without a proof"


@pytest.mark.parametrize("number", [1, 2])
def test_a_refund_frees_a_unit_of_the_open_part_only_if_its_send_was_open(
    make_flow: MakeFlow, sqlite: str, number: int
) -> None:
    """User 1 has evidence, and user 2 has none."""
    flow = make_flow(sqlite, users=2, SMSVERIFY_LIMITS={"site": "10/day"})
    flow.prove(1)
    flow.clock.advance(121)
    flow.memory.fail_with(Unavailable("memory", "down"))
    assert outcome(lambda: flow.start(number)) == "SendFailed"
    outcomes = [outcome(lambda n=n: flow.sign_up(f"0912000{n:04}")) for n in range(7)]
    assert outcomes == ["ok"] * 5 + ["RateLimited"] * 2, "the first send of user 1 was open too"


def test_the_waits_for_the_sites_limit_and_its_open_part_end_with_their_oldest_sends(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(
        sqlite,
        users=2,
        SMSVERIFY_LIMITS=NO_LIMITS | {"site": "5/hour"},
        SMSVERIFY_SITE_RESERVED=0.4,
        SMSVERIFY_NETWORK_SHARE=1,
    )

    def send(number: int) -> None:
        flow.start(number, purpose=f"at {flow.clock.now}")  # each purpose has its own cooldown
        flow.clock.advance(100)

    def wait(number: int) -> int:
        with pytest.raises(RateLimited) as caught:
            send(number)
        return caught.value.retry_after

    flow.prove(1)
    flow.clock.advance(4000)
    for number in (2, 1, 2, 2):  # only the first user's sends have evidence
        send(number)
    assert wait(2) == 3600 - 400
    send(1)
    assert wait(1) == 3600 - 500


def test_an_account_without_a_proof_that_holds_uses_no_reserved_part(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, users=2, SMSVERIFY_LIMITS={"site": "10/day"})
    flow.prove(1)
    flow.verifier.revoke(flow.user(1), by="staff")
    flow.start(2)
    flow.clock.advance(121)
    outcomes = [outcome(lambda n=n: flow.sign_up(f"0912000{n:04}")) for n in range(5)]
    assert outcomes == ["ok"] * 4 + ["RateLimited"]
    assert [outcome(lambda n=n: flow.start(n)) for n in (1, 2)] == ["RateLimited"] * 2


def test_the_half_of_a_mobiles_limit_is_reserved_for_the_holder_of_this_mobile(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, users=4, SMSVERIFY_LIMITS={"mobile": "2/hour;9/day"})
    flow.prove(1)
    flow.clock.advance(60)
    flow.prove(2)
    flow.clock.advance(3600)
    outcomes = [outcome(lambda n=n: flow.start(n, mobile="09123450001")) for n in (3, 4)]
    assert outcomes == ["ok", "RateLimited"]
    assert flow.start(1).sends == 1


def test_a_device_that_proved_a_mobile_opens_the_half_of_its_owner(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """Case 78. Without a proof that holds, a token opens nothing."""
    flow = make_flow(sqlite, users=3, SMSVERIFY_LIMITS={"site": None})
    flow.prove(1)
    mobile = "+989123450001"
    token = flow.verifier.devices.dump(mobile, "1")
    flow.clock.advance(days=2)
    for _ in range(3):
        flow.sign_up(mobile)
        flow.clock.advance(121)
    assert outcome(lambda: flow.sign_up(mobile)) == "RateLimited"
    devices = flow.verifier.devices
    for forged in (token[:-2], devices.dump("+989123450002", "1"), 7, "x" * 9000):
        assert outcome(lambda forged=forged: flow.sign_up(mobile, device=forged)) == "RateLimited"
    assert flow.sign_up(mobile, device=token).sends == 1
    flow.clock.advance(121)
    flow.verifier.revoke(flow.user(1), by="staff")
    assert outcome(lambda: flow.sign_up(mobile, device=token)) == "RateLimited"
    assert not devices.is_of_owner(devices.dump(mobile, ""), mobile, None), "nobody holds it"


@pytest.mark.parametrize("loss", ["revoked", "proved by another account"])
def test_a_device_token_that_is_older_than_a_revocation_stays_void(
    make_flow: MakeFlow, database: str, loss: str
) -> None:
    """A browser that was lost or stolen gets nothing back when the account proves the mobile."""
    flow = make_flow(
        database, users=2, SMSVERIFY_MOBILE_POLICY="transfer", SMSVERIFY_LIMITS=NO_LIMITS
    )
    flow.prove(1)
    mobile = "+989123450001"
    lost = flow.verifier.devices.dump(mobile, "1")
    flow.clock.advance(60)
    if loss == "revoked":
        flow.verifier.revoke(flow.user(1), by="staff")
    else:
        flow.prove(2, mobile=mobile)
    flow.clock.advance(60)
    flow.prove(1, mobile=mobile)
    kept = flow.verifier.devices.dump(mobile, "1")
    assert not flow.sign_up(mobile, device=lost).by_device
    flow.clock.advance(60)
    assert flow.sign_up(mobile, device=kept).by_device
    flow.clock.advance(60)
    flow.prove(1, mobile=mobile)
    flow.clock.advance(60)
    assert flow.sign_up(mobile, device=kept).by_device, "a proof alone ends no token"


def test_device_tokens_can_be_turned_off(make_flow: MakeFlow, sqlite: str) -> None:
    devices = make_flow(sqlite, SMSVERIFY_DEVICE_TOKEN_DAYS=0).verifier.devices
    mobile = "+989123450001"
    assert not devices.is_of_owner(devices.dump(mobile, "1"), mobile, "1")


def test_refused_numbers_stop_an_address_and_an_outage_stops_nobody(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """Case 65: `tries` stops an address, and the cooldown a number. The breaker stays closed."""
    flow = make_flow(sqlite, SMSVERIFY_LIMITS={"tries": "8/hour"})
    down = Unavailable("memory", "down")
    refused = NotCarried("memory", "not this operator")
    for n in range(10):
        flow.memory.fail_with(down)
        flow.sign_up(f"0935000{n:04}", ip="192.0.2.1")
    assert flow.used("tries", "192.0.2.1") == flow.used("ip", "192.0.2.1") == 0
    flow.route(memory := Memory(name="other"))
    for n in range(8):
        memory.fail_with(refused)
        flow.sign_up(f"0936000{n:04}", ip="192.0.2.1")
    assert flow.state.delivery.breakers.state("other") == "closed"
    with pytest.raises(RateLimited) as caught:
        flow.sign_up("09370000001", ip="192.0.2.1")
    assert caught.value.scope == "tries"
    with pytest.raises(TooSoon):
        flow.sign_up("09360000007", ip="198.51.100.1")
    assert flow.used("site") == 0


class Waiting(Memory):
    """A gateway that lets one mobile wait, and then fails."""

    def __init__(self, mobile: str) -> None:
        super().__init__(name="memory")
        self._mobile = mobile
        self.is_called, self.may_answer = threading.Event(), threading.Event()

    def send_code(self, message: CodeMessage) -> Receipt:
        if message.to == self._mobile:
            self.is_called.set()
            assert self.may_answer.wait(60)
            raise Unavailable(self.name, "down")
        return super().send_code(message)


@pytest.fixture
def reached() -> Iterator[list[str]]:
    """The limits and parts that signals report."""
    parts: list[str] = []

    def receive(_app: Flask, scope: str, limit: str) -> None:
        parts.append(f"{scope} {limit}")

    with signals.limit_reached.connected_to(receive):
        yield parts


@pytest.mark.parametrize(("scope", "prefix"), [("site", "+98912000"), ("foreign", "+97150123")])
def test_half_of_a_limit_is_reported_if_the_send_that_used_it_fails_after_the_next(
    make_flow: MakeFlow, sqlite: str, reached: list[str], scope: str, prefix: str
) -> None:
    flow = make_flow(
        sqlite,
        SMSVERIFY_ALLOWED_REGIONS=("IR", "AE"),
        SMSVERIFY_LIMITS=NO_LIMITS | {scope: "10/day"},
        SMSVERIFY_SITE_RESERVED=0,
    )
    mobiles = [f"{prefix}{n:04}" for n in range(11)]
    flow.route(sender := Waiting(mobiles[5]))
    for mobile in mobiles[1:5]:
        flow.sign_up(mobile)
    flow.sign_up(mobiles[5], wait=False)
    assert sender.is_called.wait(60)
    flow.sign_up(mobiles[6], wait=False)
    assert reached == []
    sender.may_answer.set()
    flow.state.workers.wait()
    assert reached == [f"{scope} half"]
    for mobile in mobiles[7:]:
        flow.sign_up(mobile)
    assert reached == [f"{scope} half"]


def test_half_of_the_sites_failures_is_reported_if_the_guess_that_used_it_is_right(
    make_flow: MakeFlow, sqlite: str, reached: list[str]
) -> None:
    limits = NO_LIMITS | {"site_failures": "4/hour"}
    flow = make_flow(sqlite, users=4, SMSVERIFY_LIMITS=limits, SMSVERIFY_ACCOUNTS_PER_MOBILE=0)
    native = Native()
    flow.route(native)
    challenges = [flow.start(user) for user in range(1, 5)]
    right = native.sent[1][1]
    is_called, may_answer = threading.Event(), threading.Event()
    compare = native.check_native_code

    def check_native_code(to: str, code: str) -> bool:
        if code == right:
            is_called.set()
            assert may_answer.wait(60)
        return compare(to, code)

    native.check_native_code = check_native_code  # type: ignore[method-assign]  # it waits

    def check_right() -> None:
        with flow.app.app_context():
            flow.check(challenges[1], right)

    def check_wrong(number: int) -> None:
        with pytest.raises(WrongCode):
            flow.check(challenges[number], "99999999")

    check_wrong(0)
    thread = threading.Thread(target=check_right)
    thread.start()
    assert is_called.wait(60)
    check_wrong(2)
    assert reached == []
    may_answer.set()
    thread.join(60)
    assert reached == ["site_failures half"]
    check_wrong(3)
    assert reached == ["site_failures half"]


def test_one_network_gets_a_tenth_of_what_known_users_have_left(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """Case 76, after a day on which known users needed more than their reserved part."""
    flow = make_flow(sqlite, users=75, SMSVERIFY_LIMITS={"site": "100/day"})
    for user in range(1, 76):
        flow.prove(user, ip=f"10.{user}.0.1")
        flow.clock.advance(hours=1)
    flow.clock.advance(days=1)
    for user in range(1, 75):
        flow.start(user, ip=f"10.{user}.0.1")
    for n in range(2):
        flow.sign_up(f"0913000{n:04}", ip="203.0.113.1")
    with pytest.raises(RateLimited) as caught:
        flow.sign_up("09130000009", ip="203.0.113.2")
    assert caught.value.scope == "network_share"
    flow.sign_up("09130000009", ip="198.51.100.1")
    flow.start(75, ip="203.0.113.1")


def test_the_wait_of_a_refusal_by_the_site_is_read_after_the_transaction(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """It takes a dozen statements, and all other sends wait for the lock of the site."""
    flow = make_flow(sqlite, SMSVERIFY_LIMITS={"site": "10/day"})
    flow.sign_up("09130000001", ip="203.0.113.1")
    steps: list[str] = []
    engine = flow.state.ledger.engine

    def collect(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        steps.append("wait" if "ORDER BY smsverify_usage_send.at" in statement else "other")

    def roll_back(_connection: Any) -> None:
        steps.append("rollback")

    event.listen(engine, "before_cursor_execute", collect)
    event.listen(engine, "rollback", roll_back)
    try:
        with pytest.raises(RateLimited) as caught:
            flow.sign_up("09130000002", ip="203.0.113.1")
    finally:
        event.remove(engine, "before_cursor_execute", collect)
        event.remove(engine, "rollback", roll_back)
    assert caught.value.scope == "network_share"
    assert steps.index("rollback") < steps.index("wait")


def test_a_code_that_waited_is_sent_if_the_tries_cannot_be_counted(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> bool:
        raise StoreUnavailable("down")

    monkeypatch.setattr(flow.verifier._issuer._limits.log, "are_tries_used_up", fail)
    challenge = flow.sign_up("09130000001", ip="203.0.113.1")
    assert flow.check(challenge, flow.memory.last.code).mobile == "+989130000001"


def test_sends_from_one_48_wait_in_one_queue(make_flow: MakeFlow, sqlite: str) -> None:
    """Case 82."""
    may_answer = threading.Event()

    class Slow(Memory):
        def send_code(self, message: CodeMessage) -> Receipt:
            assert may_answer.wait(60)
            return super().send_code(message)

    flow = make_flow(sqlite)
    flow.route(sender := Slow(name="memory"))
    for n in range(60):
        flow.sign_up(f"0912000{n:04}", ip=f"2001:db8:5:{n:x}00::1", wait=False)
    flow.sign_up("09139999999", ip="203.0.113.1", wait=False)
    may_answer.set()
    flow.state.workers.wait()
    mobiles = [message.to for message in sender.messages]
    assert len(mobiles) == 61
    assert mobiles.index("+989139999999") < 3 * _THREADS


def test_sends_that_wait_in_the_queue_end_with_the_tries(make_flow: MakeFlow, sqlite: str) -> None:
    """Case 65. When they were accepted, no gateway had refused any of them."""
    answers = threading.Event()

    class Refusing(Memory):
        calls = 0

        def send_code(self, message: CodeMessage) -> Receipt:
            answers.wait(60)
            Refusing.calls += 1
            raise NotCarried(self.name, "not this operator")

    flow = make_flow(sqlite, SMSVERIFY_LIMITS={"tries": "8/hour"})
    flow.route(Refusing(name="memory"))
    for n in range(40):
        flow.sign_up(f"0936000{n:04}", ip="192.0.2.1", wait=False)
    answers.set()
    flow.state.workers.wait()
    assert 8 <= Refusing.calls < 8 + _THREADS
    assert flow.used("site") == 0


@pytest.mark.parametrize("raw", ["", None, "unix:", "@"])
def test_requests_without_an_address_share_no_limit(flow: Flow, raw: str | None) -> None:
    assert parse_address(raw) is None


def test_an_address_is_read_in_every_form() -> None:
    for raw, ip, network, wide in [
        ("192.0.2.7:443", "192.0.2.7", "192.0.2.0/24", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.0/24", "192.0.2.0/24"),
        ("[2001:db8:1:2ff::7]:80", "2001:db8:1:2ff::/64", "2001:db8:1:200::/56", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/64", "fe80::/56", "fe80::/48"),
        # An IPv4 address behind a translator, and the /48 of 6to4 that its owner has.
        ("64:ff9b::192.0.2.7", "192.0.2.7", "192.0.2.0/24", "192.0.2.0/24"),
        ("2002:c000:207::1", "192.0.2.7", "192.0.2.0/24", "192.0.2.0/24"),
    ]:
        assert parse_address(raw) == (ip, network, wide), raw


def test_requests_whose_address_is_unreadable_share_their_limits() -> None:
    [shared] = {
        parse_address(raw) for raw in ("nonsense", "999.1.1.1", "999.1.1.1:80", "[]", "[]:80")
    }
    assert shared is not None


# --- the log against a model ----------------------------------------------------------------------


def record_or_wait(
    log: SendLog,
    session: Session,
    row: RowValues,
    keys: SendKeys,
    now: int,
    *,
    has_evidence: bool = False,
    is_alone: bool = False,
) -> Recorded | int:
    """Record a send, or return the wait if the site or a network refuses it.

    :param row: the counts of the log.
    :param now: in seconds.
    """
    recorded = log.record(
        session,
        row,
        keys,
        now * 1000,
        challenge_id="c",
        is_owner=True,
        has_evidence=has_evidence,
        is_alone=is_alone,
    )
    if recorded is not None:
        return recorded
    overruns = log.site_overruns(session, keys, now * 1000, has_evidence=has_evidence)
    return max(overrun.wait for overrun in overruns)


class Model:
    """The limits by brute force: every send with its time and keys."""

    LIMITS: ClassVar = {"mobile": "3/hour;5/day", "user": "4/hour", "ip": "5/hour", "site": "9/day"}

    def __init__(self) -> None:
        self.sends: list[dict[str, Any]] = []

    def allows(self, now: float, keys: dict[str, Any]) -> bool:
        for scope, notation in self.LIMITS.items():
            for amount, seconds in parse_limits(notation):
                used = sum(
                    send["at"] > now - seconds
                    and (scope == "site" or (scope in keys and send.get(scope) == keys[scope]))
                    for send in self.sends
                )
                if used >= amount:
                    return False
        return True


STEPS = st.lists(
    st.tuples(
        st.integers(0, 4000), st.integers(1, 3), st.integers(0, 2), st.booleans(), st.booleans()
    ),
    max_size=40,
)


@settings(
    max_examples=examples(40),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
def test_the_log_decides_as_a_model_that_counts_every_send(flow: Flow, steps: Any) -> None:
    """With refunds, and with waits after which exactly the next send is allowed."""
    limits = {**dict.fromkeys(NO_LIMITS), **Model.LIMITS}
    parsed = {scope: parse_limits(text) if text else () for scope, text in limits.items()}
    flow.state.limit_report.reset_all()
    log = SendLog(parsed, delays=(0,), reserved=0, network_share=1)
    model, keys_of, now = Model(), UsageKeys(flow.state.keyring), 1_000_000
    for seconds, mobile, ip, has_account, is_refunded in steps:
        now += seconds
        address = parse_address(f"192.0.2.{ip}") if ip else None
        user = str(mobile) if has_account else None
        keys = keys_of.for_send(f"mobile {mobile}", user, address, purpose="verify")
        named = {"mobile": mobile} | ({"user": mobile} if user else {}) | ({"ip": ip} if ip else {})

        def decide(at: int, keys: Any = keys, has: bool = has_account) -> Any:
            counts = log.counts(has_account=has, has_address=keys.ip is not None)
            statement = PreparedSelect(select(*counts))

            def work(session: Any) -> Any:
                row = statement.one(session, {"now": at * 1000, **keys._asdict()})
                overruns = log.overruns(session, row, keys, at * 1000, is_owner=True)
                if overruns:
                    return max(overrun.wait for overrun in overruns)
                return record_or_wait(log, session, row, keys, at)

            return flow.state.ledger.run(work)

        decided = decide(now)
        is_allowed = model.allows(now, named)
        assert isinstance(decided, Recorded) == is_allowed, (now, named, decided)
        if not is_allowed:
            assert not model.allows(now + decided - 1, named), "the wait is too long"
            continue
        if is_refunded:
            flow.state.ledger.run(
                lambda session, r=decided, k=keys, at=now: log.refund(
                    session, r, k, at * 1000, is_refused=False
                )
            )
        else:
            model.sends.append({"at": now, **named})


class SiteModel:
    """The site's limit by brute force, with its reserved part and the shares of networks."""

    LIMITS = parse_limits("9/hour;14/2 hours")
    RESERVED, SHARE = 0.3, 0.4

    def __init__(self) -> None:
        #: The time of each send, its network if it counts against one, and whether it is open.
        self.sends: list[tuple[int, int | None, bool]] = []

    def allows(self, now: int, network: int, *, has_evidence: bool) -> bool:
        return all(
            self._allows(limit, now, network, has_evidence=has_evidence) for limit in self.LIMITS
        )

    def _allows(self, limit: Limit, now: int, network: int, *, has_evidence: bool) -> bool:
        recent = [send for send in self.sends if send[0] > now - limit.seconds]
        if len(recent) >= limit.amount:
            return False
        if has_evidence:
            return True
        open_amount = limit.amount - int(limit.amount * self.RESERVED)
        free_open = open_amount - sum(is_open for _, _, is_open in recent)
        free = min(free_open, limit.amount - len(recent))
        own = sum(counted == network for _, counted, _ in recent)
        return free > 0 and (not own or own < math.floor(self.SHARE * (free + own) + 1e-6))

    def add(self, now: int, network: int, *, has_evidence: bool) -> None:
        is_weighed = has_evidence and (len(self.sends) + 1) % 10
        self.sends.append((now, None if is_weighed else network, not has_evidence))


@settings(
    max_examples=examples(100),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 1500), st.integers(1, 3), st.sampled_from([False, False, True])),
        max_size=40,
    )
)
def test_the_log_shares_the_sites_limit_as_a_model_that_counts_every_send(
    flow: Flow, steps: Any
) -> None:
    """The wait of a refusal is exact: after it the send is allowed, and a second before it not."""
    flow.state.ledger.run(lambda session: session.execute(delete(UsageSend)))
    parsed = {**dict.fromkeys(NO_LIMITS, ()), "site": SiteModel.LIMITS}
    log = SendLog(parsed, delays=(0,), reserved=SiteModel.RESERVED, network_share=SiteModel.SHARE)
    model, keys_of, now = SiteModel(), UsageKeys(flow.state.keyring), 1_000_000
    statement = PreparedSelect(select(*log.counts(has_account=False, has_address=True)))
    for seconds, network, has_evidence in steps:
        now += seconds
        address = parse_address(f"10.0.{network}.1")
        keys = keys_of.for_send("mobile", None, address, purpose="verify")

        def decide(session: Any, keys: Any = keys, at: int = now, has: bool = has_evidence) -> Any:
            row = statement.one(session, {"now": at * 1000, **keys._asdict()})
            return record_or_wait(log, session, row, keys, at, has_evidence=has, is_alone=True)

        decided = flow.state.ledger.run(decide)
        if model.allows(now, network, has_evidence=has_evidence):
            assert isinstance(decided, Recorded), (now, network, has_evidence, decided)
            model.add(now, network, has_evidence=has_evidence)
        else:
            assert isinstance(decided, int), (now, network, has_evidence, decided)
            at = now + decided
            assert model.allows(at, network, has_evidence=has_evidence), "the wait is too short"
            assert not model.allows(at - 1, network, has_evidence=has_evidence), "it is too long"


@settings(
    max_examples=examples(40),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 2000), st.sampled_from(["send", "send", "refund", "reset"])),
        max_size=40,
    )
)
def test_a_reset_of_the_site_is_exact_amid_sends_and_late_refunds(flow: Flow, steps: Any) -> None:
    flow.state.limit_report.reset_all()
    limits = parse_limits("3/hour;5/day")
    parsed = {**dict.fromkeys(NO_LIMITS, ()), "site": limits}
    log = SendLog(parsed, delays=(0,), reserved=0, network_share=1)
    run, now = flow.state.ledger.run, 1_000_000
    keys = UsageKeys(flow.state.keyring).for_send("mobile", None, None, purpose="verify")
    #: The times of the sends that count, and what may be refunded, with its time.
    counted: list[int] = []
    sent: list[tuple[int, Recorded]] = []
    for seconds, action in steps:
        now += seconds
        if action == "reset":
            reset = functools.partial(
                reset_site, site_at=UsageSend.site_at, limits=limits, now_ms=now * 1000, most=2
            )
            up_to = run(lambda session: last_id(session, UsageSend.site_at))
            while run(lambda session, reset=reset, up_to=up_to: reset(session, up_to=up_to)):
                pass
            counted = []
        elif action == "refund" and sent:
            at, recorded = sent.pop(0)
            run(
                lambda session, r=recorded, at=now: log.refund(
                    session, r, keys, at * 1000, is_refused=False
                )
            )
            if at in counted:
                counted.remove(at)
        elif action == "send":
            decided = run(lambda session, at=now: record_or_wait(log, session, {}, keys, at))
            is_allowed = all(
                sum(at > now - limit.seconds for at in counted) < limit.amount for limit in limits
            )
            assert isinstance(decided, Recorded) == is_allowed, (now, counted, decided)
            if is_allowed:
                counted.append(now)
                sent.append((now, decided))


@pytest.mark.race
def test_parallel_sends_of_any_keys_are_exact_and_do_not_deadlock(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 18 with every scope at once: 40 requests that share a mobile, an address or the site."""
    flow = make_flow(
        database,
        users=9,
        SMSVERIFY_LIMITS=NO_LIMITS
        | {"mobile": "3/day", "user": "4/day", "ip": "6/day", "site": "17/day"},
        SMSVERIFY_RESEND_DELAYS=(0,),
        SMSVERIFY_SITE_RESERVED=0,
        SMSVERIFY_NETWORK_SHARE=1,
    )
    app = flow.app

    def request(number: int) -> None:
        with app.app_context():
            flow.verifier.start(
                flow.user(1 + number % 8),
                mobile=f"091200000{number % 7:02}",
                ip=f"192.0.2.{number % 5}",
            )

    ends = race(40, request)
    assert set(ends) <= {"ok", "RateLimited"}
    rows = flow.state.ledger.read(lambda session: session.query(UsageSend).all())
    for column, most in (("mobile", 3), ("account", 4), ("ip", 6)):
        counts = Counter(getattr(row, column) for row in rows)
        assert max(counts.values()) <= most, column
    assert len(rows) == ends["ok"] <= 17
    assert sorted(row.site_count for row in rows) == list(range(1, len(rows) + 1))


def test_usage_rows_contain_no_mobile(flow: Flow) -> None:
    flow.start(ip="192.0.2.1")
    found = flow.state.ledger.read(
        lambda session: session.execute(text("SELECT * FROM smsverify_usage_send")).all()
    )
    assert len(found) == 1
    assert "9123450001" not in str(found)
    assert "192.0.2" not in str(found)


def test_a_send_has_two_transactions_and_a_check_one(make_flow: MakeFlow, database: str) -> None:
    """A native code is checked in two, since its gateway is asked in between."""
    flow = make_flow(database)
    flow.prove(1)  # creates the rows of the locks
    flow.clock.advance(3601)
    assert count_transactions(flow, lambda: flow.start(1)) == 2
    challenge = flow.verifier.latest(flow.user(1))
    wrong, right = flow.wrong(challenge), flow.code(challenge)
    check = functools.partial(flow.verifier.check, challenge)
    assert count_transactions(flow, lambda: outcome(lambda: check(wrong))) == 1
    assert count_transactions(flow, lambda: check(right)) == 1
    flow.clock.advance(3601)
    native = Native(name="native", also_own=False)
    flow.route(native)
    challenge = flow.start(1)
    [(_, code)] = native.sent
    assert count_transactions(flow, lambda: flow.verifier.check(challenge, code)) == 2


def count_transactions(flow: Flow, work: Callable[[], object]) -> int:
    """Return how many transactions of the ledger a function commits."""
    count = 0

    def on_commit(_connection: object) -> None:
        nonlocal count
        count += 1

    event.listen(flow.state.ledger.engine, "commit", on_commit)
    try:
        work()
    finally:
        event.remove(flow.state.ledger.engine, "commit", on_commit)
    return count


def test_a_check_derives_each_key_once(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    challenge = flow.start(1)
    wrong, right = flow.wrong(challenge), flow.code(challenge)
    derived: Counter[tuple[str, ...]] = Counter()
    join = keyring._join

    def count(parts: Sequence[str]) -> bytes:
        derived[tuple(parts)] += 1
        return join(parts)

    monkeypatch.setattr(keyring, "_join", count)
    for code in (wrong, right):
        outcome(lambda code=code: flow.verifier.check(flow.user(1), code, ip="192.0.2.1"))
        assert max(derived.values()) == 1
        derived.clear()
