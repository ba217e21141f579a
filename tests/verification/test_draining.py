"""Against draining: cases 18 to 28 and 48 of docs/safety.md, with exact counts."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from flows import MEMORY, NO_LIMITS, Flow, Native
from parallel import CROWD, Crowd, outcome, race, send_to

from flask_smsverify import signals
from flask_smsverify.db.models import Attempt, Budget, Challenge, Message, Verification
from flask_smsverify.errors import (
    AccountLocked,
    InvalidMobile,
    Misconfigured,
    NoChallenge,
    RateLimited,
    RegionNotAllowed,
    Rejected,
    SendFailed,
    StoreUnavailable,
    TooSoon,
    Unavailable,
    Unknown,
)
from flask_smsverify.senders.memory import Memory

MakeFlow = Callable[..., Flow]


@pytest.mark.race
def test_of_100_sends_at_once_to_one_mobile_exactly_the_cap_goes_out(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 18, with threads; and case 20: many accounts, one mobile."""
    flow = make_flow(database, users=100, SMSVERIFY_SENDS_IN_FLIGHT=100)
    ends = race(100, lambda number: send_to(flow.app, number + 1, "09120000001"))
    assert ends["ok"] == 5
    assert ends["ok"] + ends["RateLimited"] + ends["TooSoon"] == 100
    assert len(flow.memory.messages) == 5
    assert flow.used("mobile", "+989120000001") == 5


@pytest.mark.race
def test_of_sends_from_several_processes_exactly_the_sites_cap_goes_out(
    make_flow: MakeFlow, database: str, crowd: Crowd
) -> None:
    """Case 18, with processes."""
    config: dict[str, Any] = {
        "SMSVERIFY_SENDERS": MEMORY,
        "SMSVERIFY_LIMITS": {"site": "9/day"},
        "SMSVERIFY_SENDS_IN_FLIGHT": 100,
    }
    flow = make_flow(database, users=CROWD, **config)
    ends = crowd.race(database, config, "send", None)
    assert ends == {"ok": 9, "RateLimited": CROWD - 9}
    assert flow.used("site") == 9


@pytest.mark.race
def test_of_sends_at_once_by_one_user_one_goes_out(make_flow: MakeFlow, database: str) -> None:
    """Cases 18 and 28: a double click sends once."""
    flow = make_flow(database)
    assert race(30, lambda _: send_to(flow.app, 1, None)) == {"ok": 1, "TooSoon": 29}
    assert len(flow.memory.messages) == 1


def test_the_nth_goes_the_next_does_not_and_no_turn_of_a_window_bursts(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """Case 19: asking every half minute for three hours, no hour ever sees more than five."""
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


def test_one_account_has_its_cap_whatever_mobiles_it_asks_for(flow: Flow) -> None:
    """Case 18."""
    for at in range(5):
        flow.start(mobile=f"0912000000{at % 3}")
        flow.clock.advance(121)
    with pytest.raises(RateLimited) as caught:
        flow.start(mobile="09120000002")
    assert caught.value.scope == "user"


@pytest.mark.race
def test_one_address_has_its_cap_whatever_mobiles_it_asks_for(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 21: with threads."""
    flow = make_flow(database, users=40, SMSVERIFY_SENDS_IN_FLIGHT=100)

    def send(number: int) -> None:
        with flow.app.app_context():
            flow.verifier.start(flow.user(number + 1), ip="192.0.2.7")

    assert race(40, send) == {"ok": 20, "RateLimited": 20}


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("nonsense", "other nonsense", True),
    ],
)
def test_addresses_are_counted_ipv6_by_their_64(
    make_flow: MakeFlow, sqlite: str, one: str, other: str, shared: bool
) -> None:
    flow = make_flow(sqlite, users=2, SMSVERIFY_LIMITS={"ip": "1/hour"})
    flow.start(1, ip=one)
    assert outcome(lambda: flow.start(2, ip=other)) == ("RateLimited" if shared else "ok")


def test_without_an_address_no_address_is_counted(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite, users=5, SMSVERIFY_LIMITS={"ip": "1/hour"})
    for number in range(1, 6):
        flow.start(number)
    assert len(flow.memory.messages) == 5


def test_a_foreign_prefix_has_a_cap_of_its_own(make_flow: MakeFlow, sqlite: str) -> None:
    """Case 22: whatever the addresses."""
    flow = make_flow(
        sqlite,
        users=9,
        SMSVERIFY_ALLOWED_REGIONS=("IR", "AE"),
        SMSVERIFY_LIMITS={"foreign": "3/day"},
    )
    ends = Counter(
        outcome(lambda n=n: flow.start(n, mobile=f"+97150123456{n}", ip=f"198.51.100.{n}"))
        for n in range(1, 9)
    )
    assert ends == {"ok": 3, "RateLimited": 5}
    assert flow.start(9).mobile == "+989123450009"


@pytest.mark.parametrize(
    ("mobile", "error"),
    [
        ("+971501234567", RegionNotAllowed),
        ("+447911123456", RegionNotAllowed),
        ("+870773123456", RegionNotAllowed),  # Inmarsat
        ("+881612345678", RegionNotAllowed),  # a satellite's
        ("+979123456789", InvalidMobile),  # premium, international
        ("+989099999999999", InvalidMobile),
        ("02188776655", InvalidMobile),  # Tehran, a landline
        ("9099071234", InvalidMobile),  # premium
        ("110", InvalidMobile),
        ("30001234", InvalidMobile),
    ],
)
def test_what_would_cost_dearly_is_refused_before_a_unit_is_spent(
    flow: Flow, mobile: str, error: type[Exception]
) -> None:
    """Case 23."""
    with pytest.raises(error):
        flow.start(mobile=mobile, ip="192.0.2.1")
    with pytest.raises(error):
        flow.verifier.start_for(mobile, purpose="sign-up", ip="192.0.2.1")
    assert flow.used("site") == flow.used("user", "1") == flow.used("ip", "192.0.2.1") == 0
    assert flow.memory.messages == []


def test_a_store_that_is_down_sends_nothing(
    make_flow: MakeFlow, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 25, where the database goes between two steps; tests/test_ledger.py has the others."""
    flow = make_flow(sqlite)

    def down(*_: object, **__: object) -> None:
        raise StoreUnavailable("down")

    monkeypatch.setattr(flow.state.usage, "lock", down)
    with pytest.raises(StoreUnavailable):
        flow.start()
    assert flow.memory.messages == []


def test_a_store_that_goes_down_before_the_gateway_is_asked_costs_nothing(
    make_flow: MakeFlow, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = make_flow(sqlite)

    def down(*_: object, **__: object) -> None:
        raise StoreUnavailable("down")

    with monkeypatch.context() as patched:
        patched.setattr(flow.state.delivery, "_open_attempt", down)
        with pytest.raises(StoreUnavailable):
            flow.start()
    assert flow.memory.messages == []
    assert flow.used("site") == 0
    assert flow.start().sends == 1


def test_a_stranger_who_burns_a_mobiles_budget_leaves_half_to_its_owner(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 26: by accounts and by sign-ups, and the proof may have aged."""
    flow = make_flow(database, users=20, SMSVERIFY_REVALIDATION_DAYS=1)
    flow.prove(1)
    flow.clock.advance(2 * 86_400)
    assert flow.verifier.status(flow.user()).state == "expired"
    ends = Counter(outcome(lambda n=n: flow.start(n, mobile="09123450001")) for n in range(2, 8))
    ends[outcome(lambda: flow.verifier.start_for("09123450001", purpose="sign-up"))] += 1
    assert ends == {"ok": 3, "RateLimited": 4}
    flow.state.workers.wait()
    challenge = flow.start(1)
    flow.clock.advance(31)
    flow.verifier.resend(challenge)
    assert flow.check(challenge, flow.code(challenge)).verified_at
    flow.clock.advance(31)
    with pytest.raises(RateLimited) as caught:
        flow.start(1)
    assert caught.value.scope == "mobile"


def test_whoever_lost_a_mobile_has_no_share_kept(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite, users=9)
    flow.prove(1)
    flow.verifier.revoke(flow.user(1), by="staff")
    flow.clock.advance(7200)
    ends = Counter(outcome(lambda n=n: flow.start(n, mobile="09123450001")) for n in range(2, 9))
    assert ends == {"ok": 5, "RateLimited": 2}


def test_the_sites_budget_is_a_hard_stop_with_one_signal(make_flow: MakeFlow, sqlite: str) -> None:
    """Case 27."""
    flow = make_flow(sqlite, users=9, SMSVERIFY_LIMITS={"site": "4/day"})
    told: list[tuple[str, str]] = []

    def hear(_app: object, *, scope: str, limit: str) -> None:
        told.append((scope, limit))

    with signals.limit_reached.connected_to(hear):
        ends = Counter(outcome(lambda n=n: flow.start(n)) for n in range(1, 10))
    assert ends == {"ok": 4, "RateLimited": 5}
    assert told == [("site", "whole")]


def test_a_second_copy_that_takes_the_sites_last_unit_is_told(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """Case 27: whatever takes it."""
    flow = make_flow(sqlite, SMSVERIFY_LIMITS={"site": "2/day"})
    first, second = Memory(name="first"), Memory(name="second")
    flow.route(first, second)
    first.fail_with(Unknown("first", "no answer"), arrives=True)
    told = []

    def hear(_app: object, *, scope: str, limit: str) -> None:
        told.append(scope)

    with signals.limit_reached.connected_to(hear):
        flow.start()
    assert told.count("site") == 1


def test_a_wrong_code_sends_nothing(flow: Flow) -> None:
    """Case 28."""
    challenge = flow.start()
    for _ in range(6):
        outcome(lambda: flow.check(challenge, flow.wrong(challenge)))
    assert len(flow.memory.messages) == 1
    assert flow.used("site") == 1


def test_looking_sends_nothing(flow: Flow) -> None:
    """Case 28: what a page that is reloaded asks."""
    challenge = flow.start()
    for _ in range(5):
        flow.verifier.status(flow.user())
        flow.verifier.latest(flow.user())
        flow.verifier.load(challenge.id)
    assert len(flow.memory.messages) == 1


# --- pauses ---------------------------------------------------------------------------------------


def test_pauses_grow_over_challenges_and_start_anew_after_a_proof(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS=NO_LIMITS)
    pauses = []
    for at in range(6):
        challenge = flow.start(mobile=f"0912000000{at}")
        pauses.append((challenge.resend_at - flow.clock.now).total_seconds())
        flow.clock.advance(pauses[-1] - 1)
        with pytest.raises(TooSoon) as caught:
            flow.start(mobile=f"0912000000{at}")
        assert caught.value.retry_after == 1
        flow.clock.advance(1)
    assert pauses == [30, 60, 90, 120, 120, 120]
    challenge = flow.start()
    flow.check(challenge, flow.code(challenge))
    assert (flow.start().resend_at - flow.clock.now).total_seconds() == 30


def test_a_clock_that_was_set_back_far_does_not_make_anybody_wait_for_it(flow: Flow) -> None:
    flow.start()
    flow.clock.advance(-5)
    assert outcome(flow.start) == "TooSoon"
    flow.clock.advance(-7200)
    assert flow.start().sends == 1


# --- what comes back ------------------------------------------------------------------------------


def test_a_number_that_gateways_refuse_cannot_be_asked_for_without_end(flow: Flow) -> None:
    """What costs money comes back; the address's unit and the pause stay."""
    flow.memory.fail_with(Rejected("memory", "no"))
    with pytest.raises(SendFailed):
        flow.start(ip="192.0.2.1")
    assert [flow.used("site"), flow.used("user", "1"), flow.used("ip", "192.0.2.1")] == [0, 0, 1]
    assert outcome(lambda: flow.start(ip="192.0.2.1")) == "TooSoon"
    assert flow.memory.messages == []


def test_a_resend_that_gateways_refuse_keeps_the_pause(flow: Flow) -> None:
    challenge = flow.start()
    flow.clock.advance(31)
    flow.memory.fail_with(Rejected("memory", "no"))
    with pytest.raises(SendFailed):
        flow.verifier.resend(challenge)
    assert flow.verifier.load(challenge.id).resend_at > flow.clock.now
    assert outcome(lambda: flow.verifier.resend(challenge)) == "TooSoon"


def test_a_code_that_died_while_it_waited_to_be_sent_is_not_sent(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could use it any more, and nobody pays for it."""
    waiting: list[Callable[[], object]] = []

    def later(work: Callable[..., object], *arguments: object) -> None:
        waiting.append(functools.partial(work, *arguments))

    monkeypatch.setattr(flow.verifier._issuer._dispatcher, "run_in_background", later)
    challenge = flow.verifier.start_for("09120000001", purpose="sign-up")
    assert flow.used("site") == 1
    flow.clock.advance(601)
    [deliver] = waiting
    assert outcome(deliver) == "SendFailed"
    assert flow.memory.messages == []
    assert flow.used("site") == 0
    assert flow.verifier.load(challenge.id).state == Challenge.CANCELLED


def test_a_resend_that_fails_beside_a_proof_gives_the_address_back_once(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """While the resend is with the gateway, a right code is on its way and a wrong one ends all."""
    flow = make_flow(sqlite, users=3, SMSVERIFY_LIMITS={"ip": "9/day"}, SMSVERIFY_MAX_ATTEMPTS=2)
    ip = "192.0.2.1"
    flow.start(2, ip=ip)
    flow.start(3, ip=ip)
    challenge = flow.start(ip=ip)
    flow.clock.advance(31)
    checker = flow.verifier._checker
    counted: list[Any] = []

    class Busy(Memory):
        def send_code(self, _message: Any) -> Any:
            charges = flow.verifier._guesses.charges(challenge, ip)
            counted.append(checker._count(challenge, flow.code(challenge), charges))
            assert outcome(lambda: flow.check(challenge, flow.wrong(challenge))) == "WrongCode"
            raise Unavailable("busy", "down", written=False)

    flow.route(Busy(name="busy"))
    assert outcome(lambda: flow.start(ip=ip)) == "SendFailed"
    [guess] = counted
    checker._prove(guess, is_native=False, store=None)
    assert flow.verifier.status(flow.user()).state == "verified"
    assert flow.used("ip", ip) == 2, "the others' units"


def test_who_is_refused_by_a_spent_budget_leaves_no_row(make_flow: MakeFlow, sqlite: str) -> None:
    """However many numbers are asked for, the table does not grow."""
    flow = make_flow(sqlite, users=3, SMSVERIFY_LIMITS={"site": "1/day"})
    flow.start(1)

    def rows() -> int:
        return int(flow.state.ledger.read(lambda session: session.query(Budget).count()))

    before = rows()
    for number in (2, 3):
        assert outcome(lambda number=number: flow.start(number)) == "RateLimited"
    assert rows() == before


@pytest.mark.parametrize("error", [Unavailable, Misconfigured])
def test_a_send_that_failed_for_certain_gives_everything_back(
    flow: Flow, error: type[Unavailable | Misconfigured]
) -> None:
    flow.memory.fail_with(error("memory", "no"))
    with pytest.raises(SendFailed) as caught:
        flow.start(ip="192.0.2.1")
    assert [type(cause) for cause in caught.value.causes] == [error]
    for scope, key in [
        ("mobile", "+989123450001"),
        ("user", "1"),
        ("mobiles_per_user", "1"),
        ("ip", "192.0.2.1"),
        ("site", ""),
    ]:
        assert flow.used(scope, key) == 0, scope
    assert flow.verifier.latest(flow.user()).state == Challenge.CANCELLED
    again = flow.start()
    assert (again.resend_at - flow.clock.now).total_seconds() == 30


def test_a_send_that_may_have_gone_out_stays_counted(flow: Flow) -> None:
    """Case 48."""
    flow.memory.fail_with(Unknown("memory", "no answer"), arrives=True)
    challenge = flow.start()
    assert flow.used("site") == 1
    assert flow.verifier.last_message(challenge).state == "unknown"
    assert flow.check(challenge, flow.memory.last.code).verified_at


def test_an_address_gets_every_unit_of_a_proved_challenge_back(flow: Flow) -> None:
    challenge = flow.start(ip="192.0.2.1")
    flow.clock.advance(31)
    flow.verifier.resend(challenge, ip="192.0.2.2")
    flow.clock.advance(61)
    flow.verifier.resend(challenge, ip="192.0.2.1")
    assert flow.used("ip", "192.0.2.1") == 2
    flow.check(challenge, flow.code(challenge))
    assert flow.used("ip", "192.0.2.1") == flow.used("ip", "192.0.2.2") == 0
    assert flow.used("mobile", "+989123450001") == flow.used("site") == 3


def test_a_failed_resend_takes_only_its_own_address_unit_back(flow: Flow) -> None:
    """The first send's unit looks just like it, in the same slice of the same window."""
    flow.start(2, ip="192.0.2.1")
    challenge = flow.start(ip="192.0.2.1")
    flow.clock.advance(31)
    flow.memory.fail_with(Unavailable("memory", "down"))
    assert outcome(lambda: flow.verifier.resend(challenge, ip="192.0.2.1")) == "SendFailed"
    assert flow.used("ip", "192.0.2.1") == 2
    flow.check(challenge, flow.code(challenge))
    assert flow.used("ip", "192.0.2.1") == 1, "another's unit"


def test_a_send_that_fails_after_the_proof_gives_no_address_unit_back_twice(flow: Flow) -> None:
    other = flow.start(2, ip="192.0.2.1")
    challenge = flow.start(ip="192.0.2.1")
    flow.clock.advance(31)
    send = flow.memory.send_code

    def prove_first(message: Any) -> Any:
        flow.check(challenge, message.code)
        return send(message)

    flow.memory.fail_with(Unavailable("memory", "down"))
    flow.memory.send_code = prove_first  # type: ignore[method-assign]  # a proof in this moment
    assert outcome(lambda: flow.verifier.resend(challenge, ip="192.0.2.1")) == "SendFailed"
    assert flow.used("ip", "192.0.2.1") == 1, "the other challenge's unit is still taken"
    assert flow.verifier.load(other.id).state == Challenge.PENDING
    assert flow.used("site") == 2


# --- two copies -----------------------------------------------------------------------------------


@pytest.mark.parametrize("native", [False, True])
def test_after_a_timeout_both_copies_work_and_both_are_paid(
    make_flow: MakeFlow, database: str, native: bool
) -> None:
    """Case 48."""
    for tried in (0, 1):
        flow = make_flow(database, users=2)
        number = tried + 1
        first: Any = Native(name="first") if native else Memory(name="first")
        second = Memory(name="second")
        flow.route(first, second)
        if native:
            first.sent.append(("+989123450001", "1111"))
            first.sent.append(("+989123450002", "1111"))
            first.sending.append(Unknown("first", "no answer"))
        else:
            first.fail_with(Unknown("first", "no answer"), arrives=True)
        before = flow.used("site")
        challenge = flow.start(number)
        assert flow.used("site") - before == 2
        codes = ["1111" if native else first.last.code, second.last.code]
        assert flow.check(challenge, codes[tried]).verified_at


def test_a_second_copy_that_was_not_sent_is_not_paid(flow: Flow) -> None:
    senders = [Memory(name=name) for name in ("first", "second", "third")]
    flow.route(*senders)
    senders[0].fail_with(Unknown("first", "no answer"), arrives=True)
    for sender in senders[1:]:
        sender.fail_with(Unavailable(sender.name, "down"))
    assert flow.start().state == Challenge.PENDING
    assert flow.used("site") == 1


def test_two_copies_are_never_paid_as_three(flow: Flow) -> None:
    senders = [Memory(name=name) for name in ("first", "second", "third")]
    flow.route(*senders)
    senders[0].fail_with(Unknown("first", "no answer"), arrives=True)
    senders[1].fail_with(Unavailable("second", "down"))
    flow.start()
    assert len(senders[2].messages) == 1
    assert flow.used("site") == flow.used("mobile", "+989123450001") == 2


def test_no_third_copy_is_sent(flow: Flow) -> None:
    senders = [Memory(name=name) for name in ("first", "second", "third")]
    flow.route(*senders)
    for sender in senders:
        sender.fail_with(Unknown(sender.name, "no answer"), arrives=True)
    flow.start()
    assert [len(sender.messages) for sender in senders] == [1, 1, 0]
    assert flow.used("site") == 2


def test_without_a_unit_left_no_second_copy_is_sent(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS={"site": "1/day"})
    first, second = Memory(name="first"), Memory(name="second")
    flow.route(first, second)
    first.fail_with(Unknown("first", "no answer"), arrives=True)
    challenge = flow.start()
    assert second.messages == []
    assert flow.check(challenge, first.last.code).verified_at


def test_a_store_that_goes_down_after_a_copy_may_be_out_is_no_failure(
    make_flow: MakeFlow, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = make_flow(sqlite)
    first, second = Memory(name="first"), Memory(name="second")
    flow.route(first, second)
    first.fail_with(Unknown("first", "no answer"), arrives=True)

    def down(*_: object, **__: object) -> None:
        raise StoreUnavailable("down")

    monkeypatch.setattr(flow.state.usage, "reserve", down)
    challenge = flow.start()
    assert second.messages == []
    assert flow.check(challenge, first.last.code).verified_at


def test_a_refused_number_ends_the_route(flow: Flow) -> None:
    first, second = Memory(name="first"), Memory(name="second")
    flow.route(first, second)
    first.fail_with(Rejected("first", "black-listed"))
    with pytest.raises(SendFailed):
        flow.start()
    assert second.messages == []


def test_a_native_sender_that_is_down_does_not_keep_its_claim(flow: Flow) -> None:
    first, second = Native(name="first", also_own=False), Native(name="second", also_own=False)
    flow.route(first, second)
    first.sending.append(Unavailable("first", "down"))
    challenge = flow.start()
    assert flow.verifier.load(challenge.id).native_sender == "second"
    assert flow.check(challenge, second.sent[0][1]).sender == "second"


def test_every_try_is_an_attempt_of_one_message(flow: Flow) -> None:
    first, second = Memory(name="first"), Memory(name="second")
    flow.route(first, second)
    first.fail_with(Unavailable("first", "down"))
    challenge = flow.start()
    attempts = flow.state.ledger.read(
        lambda session: [
            (row.sender, row.state) for row in session.query(Attempt).order_by(Attempt.sender)
        ]
    )
    assert attempts == [("first", "failed"), ("second", "sent")]
    [message] = flow.state.ledger.read(lambda session: session.query(Message).all())
    assert message.state == "sent"
    assert flow.verifier.last_message(challenge).id == message.id


@pytest.mark.parametrize("who", ["a user", "a stranger"])
def test_a_send_that_is_refused_makes_no_row(flow: Flow, who: str) -> None:
    def ask(number: int) -> object:
        mobile = f"0935{number:07}"
        if who == "a user":
            return flow.start(1, mobile=mobile, ip="203.0.113.9")
        return flow.verifier.start_for(mobile, purpose="sign-up", ip="203.0.113.9")

    def rows() -> int:
        return int(flow.state.ledger.read(lambda session: session.query(Budget).count()))

    asked = iter(range(1000))
    spent = 3 if who == "a user" else 20
    for _ in range(spent):
        ask(next(asked))
        flow.clock.advance(121)
    flow.state.workers.wait()
    made = rows()
    for _ in range(20):
        with pytest.raises(RateLimited):
            ask(next(asked))
    assert rows() == made


def test_a_send_that_comes_too_soon_makes_no_row(flow: Flow) -> None:
    flow.start()
    made = flow.state.ledger.read(lambda session: session.query(Budget).count())
    for number in range(20):
        with pytest.raises(TooSoon):
            flow.start(mobile=f"0935{number:07}")
    assert flow.state.ledger.read(lambda session: session.query(Budget).count()) == made


def test_what_no_waiting_helps_against_is_said_before_the_pause(flow: Flow) -> None:
    challenge = flow.start()
    flow.verifier.revoke(flow.user(), by="staff")
    with pytest.raises(NoChallenge):
        flow.verifier.resend(challenge)
    flow.state.ledger.run(lambda session: setattr(session.get(Verification, "1"), "failures", 100))
    with pytest.raises(AccountLocked):
        flow.start()


def test_a_code_that_went_out_is_sent_though_the_staff_cannot_be_told(
    make_flow: MakeFlow, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS={"site": "1/day"})

    def down(*_: object) -> bool:
        raise StoreUnavailable("away")

    monkeypatch.setattr(flow.verifier._issuer._limits._alerts, "_is_due", down)
    challenge = flow.start()
    assert flow.check(challenge, flow.memory.last.code or "").verified_at


@pytest.mark.parametrize("ahead", [2 * 3600, 26 * 3600])
def test_a_clock_that_is_ahead_for_a_moment_brings_no_second_cap(flow: Flow, ahead: int) -> None:
    """Case 19: what was spent before counts again once the clock is right."""
    for _ in range(5):
        flow.start(1)
        flow.clock.advance(121)
    with pytest.raises(RateLimited):
        flow.start(1)
    flow.clock.advance(ahead)
    flow.start(1)
    flow.clock.advance(-ahead + 121)
    with pytest.raises(RateLimited):
        flow.start(1)
    assert flow.used("mobile", "+989123450001") == 6


# --- a process that dies between two steps --------------------------------------------------------


class _DeathError(BaseException):
    """What no `except Exception` stops."""


def test_who_dies_before_the_gateway_is_asked_leaves_a_challenge_that_can_be_sent_again(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise _DeathError

    with monkeypatch.context() as patched:
        patched.setattr(flow.state.delivery, "deliver", die)
        with pytest.raises(_DeathError):
            flow.start()
    assert flow.used("site") == 1
    with pytest.raises(TooSoon):
        flow.start()
    flow.clock.advance(31)
    challenge = flow.start()
    assert challenge.sends == 2
    assert flow.check(challenge, flow.memory.last.code).verified_at


def test_who_dies_before_the_comparison_has_spent_the_attempt(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    challenge = flow.start()

    def die(*_: object) -> None:
        raise _DeathError

    with monkeypatch.context() as patched:
        patched.setattr(flow.verifier._checker, "_compare", die)
        for _ in range(5):
            with pytest.raises(_DeathError):
                flow.check(challenge, flow.code(challenge))
    assert outcome(lambda: flow.check(challenge, flow.code(challenge))) == "TooManyAttempts"
    flow.clock.advance(31)
    assert flow.start().id != challenge.id


# --- while a gateway is asked ---------------------------------------------------------------------


def test_while_a_gateway_is_asked_no_transaction_of_ours_is_open(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 47: whatever it is asked, so that one that hangs holds no row and no connection."""
    flow = make_flow(database, users=4, SMSVERIFY_LIMITS=NO_LIMITS)
    pool: Any = flow.state.ledger.engine.pool
    open_then: dict[str, int] = {}

    class Looking(Native):
        def _look(self, what: str) -> None:
            open_then[what] = pool.checkedout()

        def send_native_code(self, to: str) -> Any:
            self._look("native code")
            return super().send_native_code(to)

        def check_native_code(self, to: str, code: str) -> bool:
            self._look("verdict")
            return super().check_native_code(to, code)

        def send_code(self, message: Any) -> Any:
            self._look(f"code by {message.channel}, {message.to[-4:]}")
            return super().send_code(message)

    native = Looking(name="first")
    flow.route(native, Memory(name="second"))
    challenge = flow.start()
    flow.clock.advance(31)
    flow.verifier.resend(challenge, channel="voice")
    flow.check(challenge, native.sent[0][1])
    flow.start(2, channel="voice")
    flow.verifier.start_for("09120000009", purpose="sign-up", channel="voice")
    flow.state.workers.wait()
    assert open_then == {
        "native code": 0,
        "verdict": 0,
        "code by voice, 0001": 0,
        "code by voice, 0002": 0,
        "code by voice, 0009": 0,
    }
