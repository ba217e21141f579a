"""Draining: cases 18 to 28 and 47 of docs/safety.md, with exact counts."""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from conftest import database_params
from flows import MEMORY, NO_LIMITS, Flow, Native
from parallel import TOTAL, Processes, is_waiting, outcome, race, send_to, wait_until
from sqlalchemy import select, update

from flask_smsverify import signals
from flask_smsverify.db.models import Challenge, Message, UsageSend, Verification
from flask_smsverify.errors import (
    AccountLocked,
    InvalidMobile,
    NoChallenge,
    RateLimited,
    RegionNotAllowed,
    StoreUnavailable,
    TooSoon,
    Unavailable,
    Unknown,
)
from flask_smsverify.senders.memory import Memory
from flask_smsverify.verification import alerts

MakeFlow = Callable[..., Flow]


@pytest.mark.race
def test_of_100_parallel_sends_to_one_mobile_exactly_the_limit_is_sent(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 18, with threads, and case 20: many accounts, one mobile."""
    flow = make_flow(database, users=100, SMSVERIFY_SENDS_IN_FLIGHT=100)
    outcomes = race(100, lambda number: send_to(flow.app, number + 1, "09120000001"))
    assert outcomes["ok"] == 5
    assert outcomes["ok"] + outcomes["RateLimited"] + outcomes["TooSoon"] == 100
    assert len(flow.memory.messages) == 5
    assert flow.used("mobile", "+989120000001") == 5


@pytest.mark.race
def test_of_sends_from_parallel_processes_exactly_the_site_limit_is_sent(
    make_flow: MakeFlow, database: str, processes: Processes
) -> None:
    """Case 18, with processes."""
    config: dict[str, Any] = {
        "SMSVERIFY_SENDERS": MEMORY,
        "SMSVERIFY_LIMITS": {"site": "9/day"},
        "SMSVERIFY_SITE_RESERVED": 0,
        "SMSVERIFY_SENDS_IN_FLIGHT": 100,
    }
    flow = make_flow(database, users=TOTAL, **config)
    outcomes = processes.race(database, config, "send", None)
    assert outcomes == {"ok": 9, "RateLimited": TOTAL - 9}
    assert flow.used("site") == 9


@pytest.mark.race
def test_of_30_parallel_sends_by_one_user_exactly_one_is_sent(
    make_flow: MakeFlow, database: str
) -> None:
    """Cases 18 and 28: a double click sends once."""
    flow = make_flow(database)
    assert race(30, lambda _: send_to(flow.app, 1, None)) == {"ok": 1, "TooSoon": 29}
    assert len(flow.memory.messages) == 1


def test_no_window_contains_more_sends_than_the_limit(make_flow: MakeFlow, sqlite: str) -> None:
    """Case 19: of requests every half minute for three hours, at most five an hour are sent."""
    flow = make_flow(
        sqlite, SMSVERIFY_LIMITS=NO_LIMITS | {"mobile": "5/hour"}, SMSVERIFY_RESEND_DELAYS=(1,)
    )
    began, sent = flow.clock.now, []
    for _ in range(360):
        if outcome(flow.start) == "ok":
            sent.append((flow.clock.now - began).total_seconds())
        flow.clock.advance(30)
    assert sent[:5] == [0, 30, 60, 90, 120]
    assert all(later - earlier >= 3600 for earlier, later in zip(sent, sent[5:], strict=False))
    assert 3600 <= sent[5] <= 3600 + 300
    assert len(sent) == 15


def test_an_account_has_one_limit_for_all_mobiles(flow: Flow) -> None:
    """Case 18."""
    for at in range(5):
        flow.start(mobile=f"0912000000{at % 3}")
        flow.clock.advance(121)
    with pytest.raises(RateLimited) as caught:
        flow.start(mobile="09120000002")
    assert caught.value.scope == "user"


@pytest.mark.race
def test_an_address_has_one_limit_for_all_accounts(make_flow: MakeFlow, database: str) -> None:
    """Case 21, with threads."""
    flow = make_flow(
        database,
        users=40,
        SMSVERIFY_SENDS_IN_FLIGHT=100,
        SMSVERIFY_LIMITS={"ip": "20/hour"},
    )

    def send(number: int) -> None:
        with flow.app.app_context():
            flow.verifier.start(flow.user(number + 1), ip="192.0.2.7")

    assert race(40, send) == {"ok": 20, "RateLimited": 20}


@pytest.mark.race
@pytest.mark.parametrize(
    ("scope", "limits", "address"),
    [
        ("network", {"network": "12/hour"}, "192.0.2.{}"),
        ("wide", {"wide": "12/hour"}, "2001:db8:0:{}00::7"),
        ("network_share", {"site": "48/hour"}, "192.0.2.{}"),
    ],
    ids=["network", "wide", "share"],
)
def test_of_parallel_sends_by_the_users_of_a_network_exactly_the_limit_is_sent(
    make_flow: MakeFlow, database: str, scope: str, limits: dict[str, str], address: str
) -> None:
    """Case 18. Their transactions do not wait for each other before the lock of the site."""
    flow = make_flow(
        database,
        users=30,
        SMSVERIFY_SENDS_IN_FLIGHT=100,
        SMSVERIFY_LIMITS=NO_LIMITS | limits,
        SMSVERIFY_SITE_RESERVED=0,
        SMSVERIFY_NETWORK_SHARE=0.25 if scope == "network_share" else 1,
    )
    refused = []

    def send(number: int) -> None:
        with flow.app.app_context():
            try:
                flow.verifier.start(flow.user(number + 1), ip=address.format(number + 1))
            except RateLimited as error:
                refused.append(error.scope)
                raise

    assert race(30, send) == {"ok": 12, "RateLimited": 18}
    assert refused == [scope] * 18
    assert len(flow.memory.messages) == 12


def test_ipv6_addresses_are_counted_by_their_64_bit_prefix(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, users=12, SMSVERIFY_LIMITS={"ip": "1/hour"})
    pairs = (
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8:1::1", "2001:db8:1:1::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.2", "192.0.2.3", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("nonsense", "other nonsense", True),
    )
    for at, (one, other, is_same) in enumerate(pairs):
        flow.start(2 * at + 1, ip=one)
        expected = "RateLimited" if is_same else "ok"
        assert outcome(lambda: flow.start(2 * at + 2, ip=other)) == expected, (one, other)  # noqa: B023


def test_sends_without_an_address_are_not_counted_by_address(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, users=5, SMSVERIFY_LIMITS={"ip": "1/hour"})
    for number in range(1, 6):
        flow.start(number)
    assert len(flow.memory.messages) == 5


def test_each_foreign_prefix_has_a_limit(make_flow: MakeFlow, sqlite: str) -> None:
    """Case 22: for all addresses together."""
    flow = make_flow(
        sqlite,
        users=9,
        SMSVERIFY_ALLOWED_REGIONS=("IR", "AE"),
        SMSVERIFY_LIMITS={"foreign": "3/day"},
    )
    outcomes = Counter(
        outcome(lambda n=n: flow.start(n, mobile=f"+97150123456{n}", ip=f"198.51.100.{n}"))
        for n in range(1, 9)
    )
    assert outcomes == {"ok": 3, "RateLimited": 5}
    assert flow.start(9).mobile == "+989123450009"


def test_a_used_up_limit_of_a_foreign_prefix_names_the_time_of_its_oldest_send(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(
        sqlite,
        users=9,
        SMSVERIFY_ALLOWED_REGIONS=("IR", "AE"),
        SMSVERIFY_LIMITS={"foreign": "3/hour"},
    )
    for number, seconds in ((1, 0), (2, 600), (3, 300)):
        flow.clock.advance(seconds)
        flow.start(number, mobile=f"+97150123456{number}")
    with pytest.raises(RateLimited) as caught:
        flow.start(4, mobile="+971501234564")
    assert (caught.value.scope, caught.value.retry_after) == ("foreign", 2700)
    flow.clock.advance(2700)
    assert flow.start(4, mobile="+971501234564").sends == 1
    with pytest.raises(RateLimited) as caught:
        flow.start(5, mobile="+971501234565")
    assert caught.value.retry_after == 600


def test_half_and_all_of_the_limit_of_a_foreign_prefix_are_reported(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(
        sqlite,
        users=4,
        SMSVERIFY_ALLOWED_REGIONS=("IR", "AE"),
        SMSVERIFY_LIMITS=NO_LIMITS | {"foreign": "3/hour"},
    )
    reports: list[tuple[int, str, str]] = []
    sent = 0

    def receive(_app: object, *, scope: str, limit: str) -> None:
        reports.append((sent, scope, limit))

    with signals.limit_reached.connected_to(receive):
        for sent in (1, 2, 3):
            flow.start(sent, mobile=f"+97150123456{sent}")
    assert reports == [(2, "foreign", "half"), (3, "foreign", "whole")]


def test_premium_satellite_and_landline_numbers_are_refused_before_anything_is_counted(
    flow: Flow,
) -> None:
    """Case 23."""
    for mobile, error in (
        ("+971501234567", RegionNotAllowed),
        ("+447911123456", RegionNotAllowed),
        ("+870773123456", RegionNotAllowed),  # Inmarsat
        ("+881612345678", RegionNotAllowed),  # satellite
        ("+979123456789", InvalidMobile),  # international premium rate
        ("+989099999999999", InvalidMobile),
        ("02188776655", InvalidMobile),  # landline in Tehran
        ("9099071234", InvalidMobile),  # premium rate
        ("110", InvalidMobile),
        ("30001234", InvalidMobile),
    ):
        with pytest.raises(error):
            flow.start(mobile=mobile, ip="192.0.2.1")
        with pytest.raises(error):
            flow.sign_up(mobile, ip="192.0.2.1")
        for scope, key in (("site", ""), ("user", "1"), ("ip", "192.0.2.1")):
            assert flow.used(scope, key) == 0, (mobile, scope)
    assert flow.memory.messages == []


def test_nothing_is_sent_if_the_limits_cannot_be_locked(
    make_flow: MakeFlow, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 25, for a database that fails between two steps. `test_ledger.py` has the others."""
    flow = make_flow(sqlite)

    def down(*_: object, **__: object) -> None:
        raise StoreUnavailable("down")

    monkeypatch.setattr(flow.verifier._issuer._limits, "record", down)
    with pytest.raises(StoreUnavailable):
        flow.start()
    assert flow.memory.messages == []


def test_a_send_whose_second_attempt_cannot_be_written_is_refunded(
    make_flow: MakeFlow, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = make_flow(sqlite)
    first, second = Memory(name="first"), Memory(name="second")
    flow.route(first, second)
    first.fail_with(Unavailable("first", "down", written=False))

    def down(*_: object, **__: object) -> None:
        raise StoreUnavailable("down")

    with monkeypatch.context() as patched:
        patched.setattr(flow.state.delivery, "_open_attempt", down)
        with pytest.raises(StoreUnavailable):
            flow.start()
    assert first.messages == second.messages == []
    assert flow.used("site") == 0
    assert flow.start().sends == 1


def test_half_of_a_mobiles_limit_is_reserved_for_its_owner(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 26: against other accounts and sign-ups, also after the owner's proof has expired."""
    flow = make_flow(database, users=20, SMSVERIFY_REVALIDATION_DAYS=1)
    flow.prove(1)
    flow.clock.advance(2 * 86_400)
    assert flow.verifier.status(flow.user()).state == "expired"
    outcomes = Counter(
        outcome(lambda n=n: flow.start(n, mobile="09123450001")) for n in range(2, 8)
    )
    outcomes[outcome(lambda: flow.sign_up("09123450001"))] += 1
    assert outcomes == {"ok": 3, "RateLimited": 4}
    flow.state.workers.wait()
    challenge = flow.start(1)
    flow.clock.advance(31)
    flow.verifier.resend(challenge)
    assert flow.check(challenge, flow.code(challenge)).verified_at
    flow.clock.advance(31)
    with pytest.raises(RateLimited) as caught:
        flow.start(1)
    assert caught.value.scope == "mobile"


def test_one_of_two_sends_to_a_mobile_is_reserved_for_its_owner(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, users=3, SMSVERIFY_LIMITS={"mobile": "2/hour;9/day"})
    flow.prove(1)
    flow.clock.advance(3600)
    outcomes = [outcome(lambda n=n: flow.start(n, mobile="09123450001")) for n in (2, 3)]
    assert outcomes == ["ok", "RateLimited"]
    assert flow.start(1).sends == 1


def test_a_revoked_owner_has_no_reserved_half(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite, users=9)
    flow.prove(1)
    flow.verifier.revoke(flow.user(1), by="staff")
    flow.clock.advance(7200)
    outcomes = Counter(
        outcome(lambda n=n: flow.start(n, mobile="09123450001")) for n in range(2, 9)
    )
    assert outcomes == {"ok": 5, "RateLimited": 2}


def test_the_site_limit_stops_all_sends_with_one_signal_at_each_part(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """Case 27."""
    flow = make_flow(sqlite, users=9, SMSVERIFY_LIMITS={"site": "4/day"}, SMSVERIFY_SITE_RESERVED=0)
    reports: list[tuple[str, str]] = []

    def receive(_app: object, *, scope: str, limit: str) -> None:
        reports.append((scope, limit))

    with signals.limit_reached.connected_to(receive):
        outcomes = Counter(outcome(lambda n=n: flow.start(n)) for n in range(1, 10))
    assert outcomes == {"ok": 4, "RateLimited": 5}
    assert reports == [("site", "half"), ("site", "whole")]


def test_a_second_copy_that_uses_up_the_site_limit_is_reported(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """Case 27."""
    flow = make_flow(sqlite, SMSVERIFY_LIMITS={"site": "2/day"}, SMSVERIFY_SITE_RESERVED=0)
    first, second = Memory(name="first"), Memory(name="second")
    flow.route(first, second)
    first.fail_with(Unknown("first", "no answer"), arrives=True)
    reports = []

    def receive(_app: object, *, scope: str, limit: str) -> None:
        reports.append(scope)

    with signals.limit_reached.connected_to(receive):
        flow.start()
    assert reports == ["site", "site"], "at the half and at the end"


def test_a_wrong_code_sends_nothing(flow: Flow) -> None:
    """Case 28."""
    challenge = flow.start()
    for _ in range(6):
        outcome(lambda: flow.check(challenge, flow.wrong(challenge)))
    assert len(flow.memory.messages) == 1
    assert flow.used("site") == 1


def test_reading_the_status_sends_nothing(flow: Flow) -> None:
    """Case 28: the reads of a page that is reloaded."""
    challenge = flow.start()
    for _ in range(5):
        flow.verifier.status(flow.user())
        flow.verifier.latest(flow.user())
        flow.verifier.load(challenge.id)
    assert len(flow.memory.messages) == 1


def test_cooldowns_grow_across_challenges_and_reset_after_a_proof(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS=NO_LIMITS)
    cooldowns = []
    for at in range(6):
        challenge = flow.start(mobile=f"0912000000{at}")
        cooldowns.append((challenge.resend_at - flow.clock.now).total_seconds())
        flow.clock.advance(cooldowns[-1] - 1)
        with pytest.raises(TooSoon) as caught:
            flow.start(mobile=f"0912000000{at}")
        assert caught.value.retry_after == 1
        flow.clock.advance(1)
    assert cooldowns == [30, 60, 90, 120, 120, 120]
    challenge = flow.start()
    flow.check(challenge, flow.code(challenge))
    assert (flow.start().resend_at - flow.clock.now).total_seconds() == 30


def test_a_proof_ends_no_cooldown_of_another_account(flow: Flow) -> None:
    challenge = flow.start(1)
    flow.start(2, mobile="09121112222")
    flow.check(challenge, flow.code(challenge))
    with pytest.raises(TooSoon) as caught:
        flow.start(2, mobile="09121112222")
    assert caught.value.retry_after == 30


@pytest.mark.parametrize(("left", "wait"), [(0.001, 90), (0, 30)])
def test_the_cooldown_is_the_shortest_again_after_an_hour_without_a_send(
    make_flow: MakeFlow, sqlite: str, left: float, wait: int
) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS=NO_LIMITS, SMSVERIFY_RESEND_DELAYS=(30, 90))
    flow.start()
    flow.clock.advance(30)
    flow.start()
    flow.clock.advance(3600 - left)
    flow.start()
    with pytest.raises(TooSoon) as caught:
        flow.start()
    assert caught.value.retry_after == wait


def test_a_clock_set_back_far_does_not_extend_the_cooldown(flow: Flow) -> None:
    flow.start()
    flow.clock.advance(-5)
    assert outcome(flow.start) == "TooSoon"
    flow.clock.advance(-7200)
    assert flow.start().sends == 1


def test_a_code_that_expired_before_it_was_sent_is_not_sent(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could not be used, so it must not cost anything."""
    waiting: list[Callable[[], object]] = []

    def later(work: Callable[..., object], *arguments: object, **_: object) -> None:
        waiting.append(functools.partial(work, *arguments))

    monkeypatch.setattr(flow.state.workers, "submit", later)
    challenge = flow.sign_up("09120000001")
    assert flow.used("site") == 1
    flow.clock.advance(600)
    [deliver] = waiting
    assert outcome(deliver) == "SendFailed"
    assert flow.memory.messages == []
    assert flow.used("site") == 0
    assert flow.verifier.load(challenge.id).state == Challenge.CANCELLED


def test_a_send_refused_by_the_site_limit_creates_no_row(make_flow: MakeFlow, sqlite: str) -> None:
    """Refused requests must not make the table grow."""
    flow = make_flow(sqlite, users=3, SMSVERIFY_LIMITS={"site": "1/day"})
    flow.start(1)

    def rows() -> int:
        return int(flow.state.ledger.read(lambda session: session.query(UsageSend).count()))

    before = rows()
    for number in (2, 3):
        assert outcome(lambda number=number: flow.start(number)) == "RateLimited"
    assert rows() == before


@pytest.mark.parametrize("requester", ["an account", "a sign-up"])
def test_a_refused_send_creates_no_row(flow: Flow, requester: str) -> None:
    def request_code(number: int) -> object:
        mobile = f"0935{number:07}"
        if requester == "an account":
            return flow.start(1, mobile=mobile, ip="203.0.113.9")
        return flow.sign_up(mobile, ip="203.0.113.9")

    def rows() -> int:
        return int(flow.state.ledger.read(lambda session: session.query(UsageSend).count()))

    numbers = iter(range(1000))
    allowed = 3 if requester == "an account" else 60
    for _ in range(allowed):
        request_code(next(numbers))
        flow.clock.advance(121)
    flow.state.workers.wait()
    before = rows()
    for _ in range(20):
        with pytest.raises(RateLimited):
            request_code(next(numbers))
    assert rows() == before


def test_a_send_during_the_cooldown_creates_no_row(flow: Flow) -> None:
    flow.start()
    before = flow.state.ledger.read(lambda session: session.query(UsageSend).count())
    for number in range(20):
        with pytest.raises(TooSoon):
            flow.start(mobile=f"0935{number:07}")
    assert flow.state.ledger.read(lambda session: session.query(UsageSend).count()) == before


def test_a_lock_and_a_closed_challenge_are_reported_before_the_cooldown(flow: Flow) -> None:
    challenge = flow.start()
    flow.verifier.revoke(flow.user(), by="staff")
    with pytest.raises(NoChallenge):
        flow.verifier.resend(challenge)
    flow.state.ledger.run(lambda session: setattr(session.get(Verification, "1"), "failures", 100))
    with pytest.raises(AccountLocked):
        flow.start()


def test_a_send_succeeds_even_if_the_staff_cannot_be_notified(
    make_flow: MakeFlow, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS={"site": "1/day"})

    def down(*_: object) -> bool:
        raise StoreUnavailable("away")

    monkeypatch.setattr(alerts, "take_alert", down)
    challenge = flow.start()
    assert flow.check(challenge, flow.memory.last.code or "").verified_at


def test_a_clock_that_was_ahead_for_a_moment_does_not_reset_a_limit(flow: Flow) -> None:
    """Case 19: earlier sends count again as soon as the clock is right."""
    for number, hours in ((1, 2), (2, 26)):
        for _ in range(5):
            flow.start(number)
            flow.clock.advance(121)
        with pytest.raises(RateLimited):
            flow.start(number)
        flow.clock.advance(hours=hours)
        flow.start(number)
        flow.clock.advance(121, hours=-hours)
        with pytest.raises(RateLimited):
            flow.start(number)
        assert flow.used("mobile", f"+98912345000{number}") == 6, hours


def test_no_transaction_is_open_during_a_gateway_call(make_flow: MakeFlow, database: str) -> None:
    """Case 47: a gateway that hangs must hold no row and no connection."""
    flow = make_flow(database, users=4, SMSVERIFY_LIMITS=NO_LIMITS)
    ledger = flow.state.ledger
    pool: Any = ledger.engine.pool
    assert ledger.read(lambda session: session.connection() and pool.checkedout()) == 1
    open_connections: dict[str, int] = {}

    class Observing(Native):
        def _observe(self, call: str) -> None:
            open_connections[call] = pool.checkedout()

        def send_native_code(self, to: str) -> Any:
            self._observe("native code")
            return super().send_native_code(to)

        def check_native_code(self, to: str, code: str) -> bool:
            self._observe("verdict")
            return super().check_native_code(to, code)

        def send_code(self, message: Any) -> Any:
            self._observe(f"code by {message.channel}, {message.to[-4:]}")
            return super().send_code(message)

    native = Observing(name="first")
    flow.route(native, Memory(name="second"))
    challenge = flow.start()
    flow.clock.advance(31)
    flow.verifier.resend(challenge, channel="voice")
    flow.check(challenge, native.sent[0][1])
    flow.start(2, channel="voice")
    flow.sign_up("09120000009", channel="voice")
    flow.state.workers.wait()
    assert open_connections == {
        "native code": 0,
        "verdict": 0,
        "code by voice, 0001": 0,
        "code by voice, 0002": 0,
        "code by voice, 0009": 0,
    }
    assert ledger.engine.pool is pool


def test_an_address_has_one_limit_for_accounts_and_sign_ups(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """Case 21."""
    flow = make_flow(sqlite, users=9, SMSVERIFY_LIMITS={"ip": "20/hour"})
    outcomes = Counter(
        outcome(lambda n=n: flow.sign_up(f"091200000{n:02}", ip="192.0.2.7")) for n in range(18)
    )
    outcomes.update(outcome(lambda n=n: flow.start(n, ip="192.0.2.7")) for n in range(1, 6))
    assert outcomes == {"ok": 20, "RateLimited": 3}
    flow.state.workers.wait()
    assert len(flow.memory.messages) == 20


def test_many_addresses_with_one_foreign_prefix_share_the_site_limit(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """Case 22: also if the region is allowed and has no limit. Other regions cost no unit."""
    flow = make_flow(
        sqlite,
        users=12,
        SMSVERIFY_ALLOWED_REGIONS=("IR", "AE"),
        SMSVERIFY_LIMITS={"foreign": None, "site": "7/day"},
        SMSVERIFY_SITE_RESERVED=0,
        SMSVERIFY_NETWORK_SHARE=1,
    )
    outcomes: Counter[str] = Counter()
    for n in range(1, 13):
        ip = f"198.51.100.{n}"
        outcomes[outcome(lambda n=n, ip=ip: flow.start(n, mobile=f"+4915112345{n:03}", ip=ip))] += 1
        outcomes[outcome(lambda n=n, ip=ip: flow.sign_up(f"+4915112345{n:03}", ip=ip))] += 1
    assert outcomes == {"RegionNotAllowed": 24}
    assert flow.used("site") == 0
    scopes: Counter[str] = Counter()
    for n in range(1, 13):
        ip = f"198.51.100.{n}"
        try:
            if n % 2:
                flow.start(n, mobile=f"+9715012345{n:02}", ip=ip)
            else:
                flow.sign_up(f"+9715012345{n:02}", ip=ip)
        except RateLimited as error:
            scopes[error.scope] += 1
    assert scopes == {"site": 5}
    flow.state.workers.wait()
    assert len(flow.memory.messages) == 7


def test_a_day_of_requests_by_others_leaves_the_owner_half_of_a_mobiles_limit(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """Cases 20 and 26: by accounts and sign-ups, from changing addresses, every ten minutes."""
    flow = make_flow(sqlite, users=25)
    flow.prove(1)
    flow.clock.advance(2 * 86_400)
    outcomes: Counter[str] = Counter()
    for turn in range(6 * 23):
        number, ip = 2 + turn % 24, f"198.51.{turn % 100}.1"
        if turn % 2:
            outcomes[outcome(lambda ip=ip: flow.sign_up("09123450001", ip=ip))] += 1
        else:
            outcomes[
                outcome(lambda n=number, ip=ip: flow.start(n, mobile="09123450001", ip=ip))
            ] += 1
        flow.state.workers.wait()
        flow.clock.advance(600)
    assert outcomes == {"ok": 5, "RateLimited": 6 * 23 - 5}
    flow.state.workers.wait()
    assert len(flow.memory.messages) == 1 + 5
    for _ in range(5):
        flow.clock.advance(120)
        challenge = flow.start(1)
    assert flow.check(challenge, flow.code(challenge)).verified_at
    assert outcome(lambda: flow.start(1)) == "RateLimited"


@pytest.mark.parametrize(
    ("model", "state"), [(Challenge, Challenge.VERIFIED), (Message, "delivered")]
)
@pytest.mark.parametrize("database", database_params("postgresql", "mariadb"), indirect=True)
def test_a_refund_waits_for_a_parallel_change_of_its_challenge_or_message(
    make_flow: MakeFlow,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    model: type[Challenge | Message],
    state: str,
) -> None:
    """Else it would overwrite a state that it has not seen."""
    flow = make_flow(database)
    engine, issuer = flow.state.ledger.engine, flow.verifier._issuer
    refund, is_written, is_over = issuer._refund, threading.Event(), threading.Event()

    def write() -> None:
        with engine.begin() as connection:
            connection.execute(update(model).values(state=state))
            is_written.set()
            wait_until(lambda: is_over.is_set() or is_waiting(engine))

    rival = threading.Thread(target=write)

    def refund_beside_rival(*arguments: Any, **options: Any) -> None:
        rival.start()
        assert is_written.wait(60)
        refund(*arguments, **options)

    def down(*_: object) -> None:
        raise StoreUnavailable("down")

    first = Memory(name="first")
    flow.route(first, Memory(name="second"))
    first.fail_with(Unavailable("first", "down", written=False))
    monkeypatch.setattr(issuer, "_refund", refund_beside_rival)
    monkeypatch.setattr(flow.state.delivery, "_open_attempt", down)  # the message stays open
    with pytest.raises(StoreUnavailable):
        flow.start()
    is_over.set()
    rival.join(60)
    with engine.connect() as connection:
        assert connection.scalars(select(model.state)).all() == [state]
