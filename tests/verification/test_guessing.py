"""Against guessing: cases 1 to 16 of docs/safety.md, each with exact counts."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy
from conftest import database_params
from flows import MEMORY, NO_LIMITS, Flow, Native, flow_of
from hostapp import create_app, db
from parallel import CROWD, Crowd, guess, outcome, race

from flask_smsverify.db.models import Base, Challenge, UsedToken
from flask_smsverify.errors import (
    AccountLocked,
    CheckFailed,
    CodeExpired,
    InvalidCode,
    NoChallenge,
    SendFailed,
    SMSVerifyError,
    TooManyAttempts,
    Unavailable,
    Unknown,
    WrongCode,
)
from flask_smsverify.keyring import Keyring
from flask_smsverify.verification import codes

MakeFlow = Callable[..., Flow]


def counted_compares(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    compared: list[bool] = []
    same = codes.is_same_code

    def counting(typed: str, right: str) -> bool:
        compared.append(result := same(typed, right))
        return result

    monkeypatch.setattr(codes, "is_same_code", counting)
    return compared


@pytest.mark.race
def test_of_100_wrong_codes_at_once_exactly_5_are_compared(
    make_flow: MakeFlow, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 1, with threads."""
    flow = make_flow(database)
    challenge = flow.start()
    wrong = flow.wrong(challenge)
    compared = counted_compares(monkeypatch)
    ends = race(100, lambda _: guess(flow.app, challenge.id, wrong))
    assert ends == {"WrongCode": 5, "TooManyAttempts": 95}
    assert compared == [False] * 5
    assert flow.verifier.load(challenge.id).state == Challenge.EXHAUSTED
    assert flow.verification(1).failures == 5


NINE_TRIES = {"SMSVERIFY_MAX_ATTEMPTS": 9}


@pytest.mark.parametrize("account", [True, False])
@pytest.mark.parametrize(
    ("config", "refused_with"),
    [
        ({}, TooManyAttempts),
        (NINE_TRIES | {"SMSVERIFY_LIMITS": {"failures": "5/day"}}, TooManyAttempts),
        (NINE_TRIES | {"SMSVERIFY_LIMITS": {"site_failures": "5/hour"}}, TooManyAttempts),
        (NINE_TRIES | {"SMSVERIFY_CONSECUTIVE_FAILURES": 5}, AccountLocked),
    ],
    ids=["no attempt is left", "no failure is left", "the site has none left", "it is locked"],
)
def test_a_guess_too_many_holds_up_nobody(
    make_flow: MakeFlow,
    sqlite: str,
    monkeypatch: pytest.MonkeyPatch,
    config: dict[str, Any],
    refused_with: type[SMSVerifyError],
    account: bool,
) -> None:
    """It writes nothing and locks nothing, and hears what it would have heard under the lock."""
    flow = make_flow(sqlite, **config)
    if account:
        challenge = flow.start()
    else:
        challenge = flow.verifier.start_for("09123450007", purpose="sign-up", ip="203.0.113.7")
        flow.state.workers.wait()
    wrong = flow.wrong(challenge)
    for _ in range(5):
        with pytest.raises(WrongCode):
            flow.check(challenge, wrong, ip="203.0.113.7")
    if not account and refused_with is AccountLocked:
        return  # there is no account to lock

    def refused() -> Any:
        with pytest.raises(refused_with) as found:
            flow.check(challenge, flow.code(challenge), ip="203.0.113.7")
        return found.value

    with monkeypatch.context() as without_the_look:
        without_the_look.setattr(flow.verifier._checker, "_refuse_early", lambda *_: None)
        under_the_lock = refused()
    written: list[object] = []
    monkeypatch.setattr(flow.state.ledger, "run", written.append)
    early = refused()
    assert written == []
    assert vars(early) == vars(under_the_lock)
    assert str(early) == str(under_the_lock)


@pytest.mark.race
def test_of_wrong_codes_from_several_processes_exactly_5_are_compared(
    make_flow: MakeFlow, database: str, crowd: Crowd
) -> None:
    """Case 1, with processes."""
    config = {"SMSVERIFY_SENDERS": MEMORY}
    flow = make_flow(database, **config)
    challenge = flow.start()
    pairs = [(challenge.id, flow.wrong(challenge))]
    ends = crowd.race(database, config, "guess", pairs)
    assert ends == {"WrongCode": 5, "TooManyAttempts": CROWD - 5}


@pytest.mark.race
def test_the_right_code_50_times_at_once_succeeds_exactly_once(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 2, with threads; those that came second cost no failure units either."""
    flow = make_flow(database)
    challenge = flow.start()
    right = flow.code(challenge)
    ends = race(50, lambda _: guess(flow.app, challenge.id, right))
    assert ends["ok"] == 1
    assert set(ends) <= {"ok", "NoChallenge", "TooManyAttempts"}
    assert flow.used("failures", "user 1") == 0
    assert flow.used("site_failures") == 0
    assert flow.verification(1).failures == 0


@pytest.mark.race
def test_the_right_code_from_several_processes_succeeds_exactly_once(
    make_flow: MakeFlow, database: str, crowd: Crowd
) -> None:
    """Case 2, with processes."""
    config = {"SMSVERIFY_SENDERS": MEMORY}
    flow = make_flow(database, **config)
    challenge = flow.start()
    pairs = [(challenge.id, flow.code(challenge))]
    ends = crowd.race(database, config, "guess", pairs)
    assert ends["ok"] == 1
    assert set(ends) <= {"ok", "NoChallenge", "TooManyAttempts"}


@pytest.mark.race
def test_a_right_code_among_wrong_ones_never_makes_more_than_5_comparisons(
    make_flow: MakeFlow, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = make_flow(database)
    challenge = flow.start()
    tried = [flow.code(challenge), *[flow.wrong(challenge)] * 29]
    compared = counted_compares(monkeypatch)
    race(30, lambda number: guess(flow.app, challenge.id, tried[number]))
    assert 1 <= len(compared) <= 5


def test_a_rollback_of_the_host_returns_no_attempt(make_flow: MakeFlow, database: str) -> None:
    """Case 3."""
    flow = make_flow(database)
    challenge = flow.start()
    for _ in range(5):
        flow.user().note = "never written"
        with pytest.raises(WrongCode):
            flow.check(challenge, flow.wrong(challenge))
        db.session.rollback()
    assert flow.verifier.load(challenge.id).attempts == 5
    with pytest.raises(TooManyAttempts):
        flow.check(challenge, flow.code(challenge))


def test_resending_gives_no_new_attempts(flow: Flow) -> None:
    """Case 4: the challenge's, and over new challenges the account's."""
    challenge = flow.start()
    for _ in range(3):
        assert outcome(lambda: flow.check(challenge, flow.wrong(challenge))) == "WrongCode"
    flow.clock.advance(31)
    assert flow.verifier.resend(challenge).id == challenge.id
    ends = Counter(outcome(lambda: flow.check(challenge, flow.wrong(challenge))) for _ in range(10))
    assert ends == {"WrongCode": 2, "TooManyAttempts": 8}


def test_new_challenges_share_the_accounts_15_failures_a_day(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 4: an exhausted challenge is followed by another, the account's budget is the same."""
    flow = make_flow(database, SMSVERIFY_LIMITS={"user": None, "mobile": None})
    ends: Counter[str] = Counter()
    for _ in range(3):
        flow.clock.advance(601)
        spare = flow.start(purpose="payment")
        challenge = flow.start()
        ends.update(outcome(lambda c=challenge: flow.check(c, flow.wrong(c))) for _ in range(6))
    assert ends == {"WrongCode": 15, "TooManyAttempts": 3}
    sent = len(flow.memory.messages)
    # Neither an open challenge takes a guess, a right one even, nor is another code sent.
    for refused in (lambda: flow.check(spare, flow.code(spare)), flow.start):
        with pytest.raises(TooManyAttempts) as caught:
            refused()
        assert caught.value.retry_after > 3600
    assert len(flow.memory.messages) == sent


def test_a_fresh_session_changes_nothing(make_flow: MakeFlow, sqlite: str) -> None:
    """Case 5: whoever comes, with whatever cookie, finds the same challenge and the same counts."""
    flow = make_flow(sqlite)
    challenge = flow.start()
    for _ in range(5):
        with flow.app.app_context(), pytest.raises(WrongCode):
            flow.verifier.check(flow.user(), flow.wrong(challenge))
    with flow.app.app_context(), pytest.raises(TooManyAttempts):
        flow.verifier.check(flow.user(), flow.code(challenge))


def test_an_old_copy_of_a_challenge_is_worth_nothing(flow: Flow) -> None:
    """Case 5: what a caller kept from before is not believed."""
    challenge = flow.start()
    stale = flow.verifier.load(challenge.id)
    for _ in range(5):
        with pytest.raises(WrongCode):
            flow.check(challenge, flow.wrong(challenge))
    with pytest.raises(TooManyAttempts):
        flow.verifier.check(stale, flow.code(challenge))


def test_sms_and_voice_share_one_budget(flow: Flow) -> None:
    """Case 6."""
    challenge = flow.start(channel="sms")
    for _ in range(3):
        assert outcome(lambda: flow.check(challenge, flow.wrong(challenge))) == "WrongCode"
    flow.clock.advance(31)
    by_voice = flow.verifier.resend(challenge, channel="voice")
    assert by_voice.channel == "voice"
    assert flow.memory.last.code == flow.memory.messages[0].code
    ends = [outcome(lambda: flow.check(by_voice, flow.wrong(challenge))) for _ in range(4)]
    assert ends == ["WrongCode", "WrongCode", "TooManyAttempts", "TooManyAttempts"]


def test_a_lock_between_start_and_check_refuses(make_flow: MakeFlow, database: str) -> None:
    """Case 7: even the right code."""
    flow = make_flow(database, SMSVERIFY_CONSECUTIVE_FAILURES=3)
    challenge = flow.start()
    for _ in range(3):
        with pytest.raises(WrongCode):
            flow.check(challenge, flow.wrong(challenge))
    with pytest.raises(AccountLocked):
        flow.check(challenge, flow.code(challenge))
    assert flow.verifier.status(flow.user()).locked


def test_a_lock_that_falls_while_a_right_code_is_compared_refuses(flow: Flow) -> None:
    """Case 7: the lock is looked at again where the challenge is used up."""
    native = Native(name="memory", also_own=False)
    flow.route(native)
    challenge = flow.start()
    [(_, code)] = native.sent
    ask = native.check_native_code

    def lock_first(to: str, typed: str) -> bool:
        def lock(session: Any) -> None:
            from flask_smsverify.db.models import Verification

            session.get(Verification, "1").locked_at = flow.clock()

        flow.state.ledger.run(lock)
        return ask(to, typed)

    native.check_native_code = lock_first  # type: ignore[method-assign]  # a lock in this moment
    with pytest.raises(AccountLocked):
        flow.check(challenge, code)
    assert flow.verification().verified_at is None


@pytest.mark.race
def test_parallel_guesses_lock_after_exactly_the_configured_streak(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 7: with threads."""
    flow = make_flow(
        database,
        SMSVERIFY_CONSECUTIVE_FAILURES=7,
        SMSVERIFY_MAX_ATTEMPTS=100,
        SMSVERIFY_LIMITS=NO_LIMITS,
    )
    challenge = flow.start()
    ends = race(30, lambda _: guess(flow.app, challenge.id, flow.wrong(challenge)))
    assert ends == {"WrongCode": 7, "AccountLocked": 23}
    assert flow.verification().locked_at is not None
    flow.verifier.unlock(flow.user())
    assert flow.check(challenge, flow.code(challenge)).verified_at is not None


def test_a_locked_account_gets_no_code(flow: Flow) -> None:
    flow.start()
    flow.clock.advance(31)

    def lock(session: Any) -> None:
        from flask_smsverify.db.models import Verification

        session.get(Verification, "1").locked_at = flow.clock()

    flow.state.ledger.run(lock)
    with pytest.raises(AccountLocked):
        flow.start()
    assert len(flow.memory.messages) == 1


def test_a_success_ends_the_streak(flow: Flow) -> None:
    for _ in range(3):
        challenge = flow.start()
        with pytest.raises(WrongCode):
            flow.check(challenge, flow.wrong(challenge))
        flow.check(challenge, flow.code(challenge))
        assert flow.verification().failures == 0
    assert flow.used("failures", "user 1") == 3


# --- native codes -------------------------------------------------------------------------------


@pytest.fixture
def native_flow(make_flow: MakeFlow, sqlite: str) -> tuple[Flow, Native]:
    flow = make_flow(sqlite, users=4, SMSVERIFY_ACCOUNTS_PER_MOBILE=0)
    native = Native()
    flow.route(native)
    return flow, native


def test_a_native_code_is_taken_once(native_flow: tuple[Flow, Native]) -> None:
    """Case 7a: though the gateway says yes as often as it is asked."""
    flow, native = native_flow
    challenge = flow.start()
    [(_, code)] = native.sent
    assert flow.check(challenge, code).sender == "native"
    again = flow.start()
    with pytest.raises(WrongCode):
        flow.check(again, code)
    assert native.checked == [("+989123450001", code)]


def test_a_used_native_code_with_more_zeros_is_used_all_the_same(
    native_flow: tuple[Flow, Native],
) -> None:
    """Case 7a: a gateway may read codes as numbers."""
    flow, _ = native_flow
    native = Native(as_numbers=True)
    flow.route(native)
    challenge = flow.start()
    [(_, code)] = native.sent
    flow.check(challenge, code)
    again = flow.start()
    with pytest.raises(WrongCode):
        flow.check(again, f"0{code}")


def test_a_used_native_code_is_forgotten_when_it_would_have_died(
    native_flow: tuple[Flow, Native],
) -> None:
    """A gateway has few codes, and makes the same one again some day."""
    flow, native = native_flow
    flow.check(flow.start(), native.sent[0][1])
    flow.clock.advance(601)
    challenge = flow.start()
    native.sent.append(("+989123450001", code := native.sent[0][1]))
    assert flow.check(challenge, code).verified_at == flow.clock()


@pytest.mark.parametrize("proved_by", ["own", "native", "nothing"])
def test_a_native_code_of_one_account_is_nothing_to_another_with_that_mobile(
    native_flow: tuple[Flow, Native], proved_by: str
) -> None:
    """Case 7a: also when the first account's challenge is over, while its codes live."""
    flow, native = native_flow
    flow.move(2, "09123450001")
    first = flow.start(1)
    flow.clock.advance(31)
    flow.verifier.resend(first)
    flow.clock.advance(61)
    if proved_by == "own":
        flow.verifier.resend(first, channel="voice")
        flow.check(first, native.own[-1].code)
    elif proved_by == "native":
        flow.check(first, native.sent[1][1])
    second = flow.start(2)
    assert flow.verifier.load(second.id).native_sender is None
    assert len(native.sent) == 2
    assert native.own[-1].code == flow.code(second)
    with pytest.raises((WrongCode, InvalidCode)):
        flow.check(second, native.sent[0][1])
    flow.clock.advance(601)
    flow.verifier.start(flow.user(2))
    assert len(native.sent) == 3, "the first account's codes have died"


@pytest.mark.parametrize("lost_by", ["a send that failed", "erasing the user"])
def test_a_native_code_whose_challenge_lost_its_hold_is_nothing_to_another(
    native_flow: tuple[Flow, Native], lost_by: str
) -> None:
    """Case 7a: the gateway takes the code still, though no challenge of ours stands for it."""
    flow, native = native_flow
    flow.move(2, "09123450001")
    first = flow.start(1)
    flow.clock.advance(60)
    if lost_by == "erasing the user":
        flow.verifier.forget(flow.user(1))
    else:
        for _ in range(5):
            with pytest.raises(WrongCode):
                flow.check(first, "9999")
        native.sending.append(Unavailable("native", "down"))
        with pytest.raises(SendFailed):
            flow.start(1)
    second = flow.start(2)
    assert flow.verifier.load(second.id).native_sender is None
    with pytest.raises((WrongCode, InvalidCode)):
        flow.check(second, native.sent[0][1])
    flow.clock.advance(601)
    flow.verifier.start(flow.user(2))
    assert len(native.sent) == 2, "the first account's code has died"


@pytest.mark.parametrize("first_got", ["nothing, for the send failed", "a call with our own code"])
def test_an_account_gets_a_native_code_where_the_first_with_that_mobile_got_none(
    native_flow: tuple[Flow, Native], first_got: str
) -> None:
    flow, native = native_flow
    flow.move(2, "09123450001")
    if first_got == "a call with our own code":
        flow.start(1, channel="voice")
    else:
        native.sending.append(Unavailable("native", "down"))
        with pytest.raises(SendFailed):
            flow.start(1)
    second = flow.start(2)
    assert flow.verifier.load(second.id).native_sender == "native"
    assert flow.check(second, native.sent[0][1]).verified_at


def test_an_account_whose_send_failed_gets_a_native_code_again(
    native_flow: tuple[Flow, Native],
) -> None:
    flow, native = native_flow
    flow.check(flow.start(), native.sent[0][1])
    native.sending.append(Unavailable("native", "down"))
    with pytest.raises(SendFailed):
        flow.start()
    challenge = flow.start()
    assert flow.verifier.load(challenge.id).native_sender is not None
    assert flow.check(challenge, native.sent[1][1]).verified_at


@pytest.mark.race
def test_one_native_challenge_for_a_mobile_holds_when_two_begin_at_once(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 7a, with threads."""
    flow = make_flow(database, users=8, SMSVERIFY_LIMITS=NO_LIMITS)
    native = Native()
    flow.route(native)

    def begin(number: int) -> None:
        with flow.app.app_context():
            flow.verifier.start(flow.user(number + 1), mobile="09120000000")

    assert race(8, begin) == {"ok": 8}
    assert len(native.sent) == 1
    assert len(native.own) == 7


def test_an_account_whose_native_challenge_is_over_gets_a_native_code_again(
    native_flow: tuple[Flow, Native],
) -> None:
    """Where a gateway does nothing else, an exhausted challenge must not end in a dead end."""
    flow, _ = native_flow
    native = Native(also_own=False)
    flow.route(native)
    challenge = flow.start()
    for _ in range(5):
        with pytest.raises(WrongCode):
            flow.check(challenge, "999999")
    flow.clock.advance(31)
    flow.start()
    assert len(native.sent) == 2
    assert flow.verifier.check(flow.user(), native.sent[1][1]).verified_at


@pytest.mark.race
def test_native_guesses_at_once_reach_the_gateway_exactly_5_times(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database)
    native = Native(also_own=False)
    flow.route(native)
    challenge = flow.start()
    ends = race(40, lambda _: guess(flow.app, challenge.id, "0000"))
    assert len(native.checked) + ends["CheckFailed"] >= 5
    assert len(native.checked) <= 5
    assert ends["WrongCode"] + ends["CheckFailed"] + ends["TooManyAttempts"] == 40


def test_a_question_that_never_left_costs_no_attempt(native_flow: tuple[Flow, Native]) -> None:
    flow, native = native_flow
    challenge = flow.start()
    native.checking.append(Unavailable("native", "refused", written=False))
    with pytest.raises(CheckFailed):
        flow.check(challenge, "9999")
    assert flow.verifier.load(challenge.id).attempts == 0
    assert flow.verification().failures == 0
    assert flow.used("failures", "user 1") == 0
    assert flow.used("site_failures") == 0


def test_a_question_without_an_answer_costs_its_attempt(native_flow: tuple[Flow, Native]) -> None:
    flow, native = native_flow
    challenge = flow.start()
    native.checking.append(Unknown("native", "no answer"))
    with pytest.raises(CheckFailed):
        flow.check(challenge, "9999")
    assert flow.verifier.load(challenge.id).attempts == 1
    assert flow.verification().failures == 1


def test_a_dead_native_gateway_gives_no_free_guesses_at_our_own_code(
    native_flow: tuple[Flow, Native], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 1: ours is compared first, so the attempt stays even if the gateway was never asked."""
    flow, native = native_flow
    challenge = flow.start()
    flow.clock.advance(31)
    flow.verifier.resend(challenge, channel="voice")
    native.checking.extend(Unavailable("native", "refused", written=False) for _ in range(50))
    compared = counted_compares(monkeypatch)
    ends = Counter(outcome(lambda: flow.check(challenge, flow.wrong(challenge))) for _ in range(20))
    assert ends == {"CheckFailed": 5, "TooManyAttempts": 15}
    assert compared == [False] * 5


# --- what is right, and for how long --------------------------------------------------------------


def test_ones_own_success_clears_nobody_elses_counters(flow: Flow) -> None:
    """Case 8."""
    attacked = flow.start(1)
    for _ in range(4):
        with pytest.raises(WrongCode):
            flow.check(attacked, flow.wrong(attacked))
    flow.prove(2)
    flow.verifier.start_for("09123450003", purpose="sign-up")
    flow.state.workers.wait()
    assert flow.verifier.load(attacked.id).attempts == 4
    assert flow.verification(1).failures == 4
    assert flow.used("failures", "user 1") == 4
    assert flow.used("site_failures") == 4


def test_a_used_code_is_refused_for_this_and_for_another_purpose(flow: Flow) -> None:
    """Case 9."""
    challenge = flow.start()
    code = flow.code(challenge)
    flow.check(challenge, code)
    with pytest.raises(NoChallenge):
        flow.check(challenge, code)
    other = flow.start(purpose="payment")
    assert flow.code(other) != code
    with pytest.raises(WrongCode):
        flow.verifier.check(flow.user(), code, purpose="payment")


@pytest.mark.parametrize(("age", "end"), [(599, "ok"), (600, "CodeExpired"), (601, "CodeExpired")])
def test_a_code_lives_to_the_second(make_flow: MakeFlow, database: str, age: int, end: str) -> None:
    """Case 10."""
    flow = make_flow(database)
    challenge = flow.start()
    flow.clock.advance(age)
    assert outcome(lambda: flow.check(challenge, flow.code(challenge))) == end
    assert flow.verifier.load(challenge.id).attempts == (1 if end == "ok" else 0)


def test_a_resend_lengthens_no_life(flow: Flow) -> None:
    challenge = flow.start()
    flow.clock.advance(500)
    flow.verifier.resend(challenge)
    flow.clock.advance(100)
    with pytest.raises(CodeExpired):
        flow.check(challenge, flow.code(challenge))


def test_a_clock_that_was_set_back_lengthens_no_life(flow: Flow) -> None:
    challenge = flow.start()
    flow.clock.advance(-3600)
    with pytest.raises(CodeExpired):
        flow.check(challenge, flow.code(challenge))
    again = flow.start()
    assert again.id != challenge.id
    assert flow.check(again, flow.code(again)).mobile == "+989123450001"


def test_after_a_new_resend_only_the_new_code_is_right(make_flow: MakeFlow, sqlite: str) -> None:
    """Case 11."""
    flow = make_flow(sqlite, SMSVERIFY_RESEND="new")
    challenge = flow.start()
    old = flow.memory.last.code
    flow.clock.advance(31)
    flow.verifier.resend(challenge)
    new = flow.memory.last.code
    assert new != old
    with pytest.raises(WrongCode):
        flow.check(challenge, old)
    assert flow.check(challenge, new).verified_at


def test_a_new_resend_that_nobody_took_leaves_the_old_code_right(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, SMSVERIFY_RESEND="new")
    challenge = flow.start()
    flow.clock.advance(31)
    flow.memory.fail_with(Unavailable("memory", "down"))
    assert outcome(lambda: flow.verifier.resend(challenge)) == "SendFailed"
    assert flow.check(challenge, flow.memory.last.code).verified_at


def test_the_same_resend_repeats_the_code(flow: Flow) -> None:
    challenge = flow.start()
    flow.clock.advance(31)
    flow.verifier.resend(challenge)
    first, second = (kept.code for kept in flow.memory.messages)
    assert first == second


def test_a_code_of_one_user_is_nothing_to_another(flow: Flow) -> None:
    """Case 12."""
    mine, theirs = flow.start(1), flow.start(2)
    with pytest.raises(WrongCode):
        flow.verifier.check(flow.user(2), flow.code(mine))
    with pytest.raises(WrongCode):
        flow.verifier.check(flow.user(1), flow.code(theirs))


def test_a_code_for_one_mobile_is_nothing_for_another(flow: Flow) -> None:
    """Case 12: the later challenge supersedes."""
    first = flow.start(mobile="09120000001")
    flow.clock.advance(31)
    second = flow.start(mobile="09120000002")
    assert flow.code(first) != flow.code(second)
    with pytest.raises(NoChallenge):
        flow.check(first, flow.code(first))
    with pytest.raises(WrongCode):
        flow.verifier.check(flow.user(), flow.code(first))
    assert flow.check(second, flow.code(second)).mobile == "+989120000002"


@pytest.mark.parametrize(
    "spelt",
    [
        "{}",
        " {} ",
        "{0[0]}{0[1]}{0[2]} {0[3]}{0[4]}{0[5]}",
        "{0[0]}{0[1]}{0[2]}-{0[3]}{0[4]}{0[5]}",
    ],
)
@pytest.mark.parametrize(
    "digits", ["0123456789", "۰۱۲۳۴۵۶۷۸۹", "٠١٢٣٤٥٦٧٨٩", "０１２３４５６７８９"]
)
def test_every_spelling_of_the_right_code_is_right(flow: Flow, spelt: str, digits: str) -> None:
    """Case 13."""
    challenge = flow.start()
    typed = spelt.format(flow.code(challenge)).translate(str.maketrans("0123456789", digits))
    assert flow.check(challenge, typed).verified_at


@pytest.mark.parametrize(
    "typed",
    [
        "+123456",
        "123_456",
        "12345",
        "1234567",
        "",
        "      ",
        "abcdef",
        "12345\x00",
        "123456\x00",
        "१२३४५",
        "1" * 1_000_000,
        "١" * 1_000_000,
        None,
        123456,
        1.5,
        True,
        ["123456"],
        {"code": "123456"},
        b"123456",
    ],
    ids=lambda typed: repr(typed)[:20],
)
def test_what_cannot_be_a_code_costs_nothing(flow: Flow, typed: object) -> None:
    """Case 13."""
    challenge = flow.start()
    with pytest.raises(InvalidCode):
        flow.verifier.check(challenge, typed)
    assert flow.verifier.load(challenge.id).attempts == 0
    assert flow.verification().failures == 0
    assert flow.used("failures", "user 1") == 0


def test_100_000_codes_are_uniform_and_keep_their_zeros() -> None:
    """Case 14: χ² of 10 first digits and 100 last two, each below its value at p = 10⁻⁶."""
    keyring = Keyring(["a key"])
    made = [
        keyring.code(keyring.current_id, f"{number:032x}", "+989120000000", "verify", 0, 6)
        for number in range(100_000)
    ]
    assert {len(code) for code in made} == {6}
    for counts, cells, bound in (
        (Counter(code[0] for code in made), 10, 48.3),
        (Counter(code[-2:] for code in made), 100, 181.0),
    ):
        expected = len(made) / cells
        assert len(counts) == cells
        assert sum((count - expected) ** 2 / expected for count in counts.values()) < bound


def test_a_stolen_database_holds_no_code_and_nothing_that_any_key_but_ours_can_test(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 15."""
    flow = make_flow(database)
    native = Native()
    challenge = flow.start()
    own = flow.code(challenge)
    flow.route(native)
    flow.clock.advance(601)
    second = flow.start()
    flow.check(second, native.sent[0][1])
    stolen = flow.state.ledger.read(
        lambda session: json.dumps(
            [
                [str(value) for value in row]
                for table in Base.metadata.sorted_tables
                for row in session.execute(sqlalchemy.select(table))
            ]
        )
    )
    assert challenge.id in stolen
    assert not re.search(rf"(?<!\d){own}(?!\d)", stolen)
    assert not re.search(rf"(?<!\d){native.sent[0][1]}(?!\d)", stolen)
    other = Keyring(["another key"])
    assert other.current_id != flow.state.keyring.current_id
    assert challenge.key_id not in other
    second = flow.verifier.load(second.id)
    used = flow.verifier._checker._native._accepted_digest(second, native.sent[0][1])
    assert used in stolen
    assert other.digest("native code", "native", second.mobile, native.sent[0][1]) not in stolen


def test_codes_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 16: by the function that is made for it."""
    asked: list[tuple[bytes, bytes]] = []
    monkeypatch.setattr(
        hmac, "compare_digest", lambda typed, right: bool(asked.append((typed, right)))
    )
    codes.is_same_code("123456", "123456")
    assert asked == [(b"123456", b"123456")]


def test_a_challenge_whose_key_is_gone_has_expired_and_costs_nothing(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite)
    challenge = flow.start()
    flow.use_keys("a new key")
    with pytest.raises(CodeExpired):
        flow.check(challenge, "123456")
    assert flow.verifier.load(challenge.id).attempts == 0


def test_a_fallback_key_keeps_its_challenges(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite)
    challenge = flow.start()
    code = flow.code(challenge)
    flow.use_keys("a new key", "a secret of the tests")
    assert flow.check(challenge, code).verified_at


@pytest.mark.parametrize(
    "challenge_id", ["", "0" * 31, "0" * 33, "\x00" * 32, "é" * 32, "g" * 32, "1" * 10_000]
)
def test_what_cannot_be_a_challenges_id_is_no_challenge(
    make_flow: MakeFlow, database: str, challenge_id: str
) -> None:
    with pytest.raises(NoChallenge):
        make_flow(database).verifier.load(challenge_id)


def test_the_fifth_wrong_code_says_0_and_what_follows_says_when(flow: Flow) -> None:
    challenge = flow.start()
    left = []
    for _ in range(5):
        with pytest.raises(WrongCode) as caught:
            flow.check(challenge, flow.wrong(challenge))
        left.append(caught.value.attempts_left)
    assert left == [4, 3, 2, 1, 0]
    flow.clock.advance(10)
    with pytest.raises(TooManyAttempts) as refused:
        flow.check(challenge, flow.code(challenge))
    assert refused.value.retry_after == 20


def test_before_a_code_of_ours_was_sent_ours_is_not_taken(
    native_flow: tuple[Flow, Native],
) -> None:
    flow, native = native_flow
    challenge = flow.start()
    assert native.own == []
    with pytest.raises(WrongCode):
        flow.check(challenge, flow.code(challenge))


def test_a_native_code_that_is_used_while_the_gateway_thinks_is_refused(
    native_flow: tuple[Flow, Native],
) -> None:
    """Case 7a: what was used is looked at again where the challenge is used up."""
    flow, native = native_flow
    challenge = flow.start()
    [(_, code)] = native.sent
    ask = native.check_native_code

    def use_first(to: str, typed: str) -> bool:
        opened = flow.verifier.load(challenge.id)
        row = UsedToken(
            digest=flow.verifier._checker._native._accepted_digest(opened, typed),
            until=flow.clock() + timedelta(minutes=10),
        )
        flow.state.ledger.run(lambda session: session.add(row))
        return ask(to, typed)

    native.check_native_code = use_first  # type: ignore[method-assign]  # a use in this moment
    with pytest.raises(NoChallenge):
        flow.check(challenge, code)
    assert flow.verification().verified_at is None


@pytest.mark.race
def test_wrong_codes_from_several_processes_lock_after_exactly_the_configured_streak(
    make_flow: MakeFlow, database: str, crowd: Crowd
) -> None:
    """Case 7, with processes; then even the right code is refused."""
    config: dict[str, Any] = {
        "SMSVERIFY_SENDERS": MEMORY,
        "SMSVERIFY_CONSECUTIVE_FAILURES": 7,
        "SMSVERIFY_MAX_ATTEMPTS": 100,
        "SMSVERIFY_LIMITS": NO_LIMITS,
    }
    flow = make_flow(database, **config)
    challenge = flow.start()
    pairs = [(challenge.id, flow.wrong(challenge))]
    ends = crowd.race(database, config, "guess", pairs)
    assert ends == {"WrongCode": 7, "AccountLocked": CROWD - 7}
    with pytest.raises(AccountLocked):
        flow.check(challenge, flow.code(challenge))


@pytest.mark.race
def test_a_new_secret_key_before_the_old_one_lets_nobody_begin_anew(
    make_flow: MakeFlow, make_app: Any, sqlite: str
) -> None:
    """Cases 1 and 7a: with the old key as a fallback, what was spent and used stays so."""
    config = {"SMSVERIFY_LIMITS": {"user": None, "mobile": None, "failures": "4/day"}}
    flow = make_flow(sqlite, users=2, **config)
    native = Native()
    flow.route(native)
    flow.start(2)
    used = native.sent[-1][1]
    flow.check(flow.verifier.latest(flow.user(2)), used)
    challenge = flow.start(1)
    for _ in range(4):
        assert outcome(lambda: flow.check(challenge, "000000")) == "WrongCode"
    keys = {"SECRET_KEY": "new", "SECRET_KEY_FALLBACKS": ["a secret of the tests"]}
    later = flow_of(create_app(sqlite, SMSVERIFY_SENDERS=MEMORY, **config, **keys), flow.clock)
    with later.app.app_context():
        later.clock.advance(31)
        later.route(native)
        assert outcome(lambda: later.start(1)) == "TooManyAttempts"
        later.verifier.revoke(later.user(2), by="staff")
        again = later.start(2)
        assert outcome(lambda: later.check(again, used)) == "WrongCode"
        later.state.close()


def test_a_right_code_among_those_that_lock_an_account_comes_before_the_lock_or_not_at_all(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 7, with threads: never both proved and locked."""
    flow = make_flow(database, SMSVERIFY_CONSECUTIVE_FAILURES=3)
    challenge = flow.start()
    right, wrong = flow.code(challenge), flow.wrong(challenge)
    for _ in range(2):
        assert outcome(lambda: flow.check(challenge, wrong)) == "WrongCode"
    ends = race(10, lambda at: guess(flow.app, challenge.id, wrong if at % 2 else right))
    standing = flow.verification(1)
    assert ends["ok"] + ends["WrongCode"] == 1
    assert (standing.verified_at is not None) is (ends["ok"] == 1)
    assert (standing.locked_at is not None) is (ends["WrongCode"] == 1)


def test_an_attackers_own_proofs_in_between_bring_no_guess_back(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 8: neither by an account of its own nor by sign-ups for the victim's mobile."""
    flow = make_flow(
        database,
        users=2,
        SMSVERIFY_LIMITS={"user": None, "mobile": None},
        SMSVERIFY_RESEND_DELAYS=(1,),
    )
    ends: Counter[str] = Counter()
    for _ in range(3):
        victim = flow.start(1, ip="192.0.2.1")
        ends.update(
            outcome(lambda c=victim: flow.check(c, flow.wrong(c), ip="192.0.2.1")) for _ in range(5)
        )
        own = flow.start(2, ip="192.0.2.9")
        assert flow.check(own, flow.code(own), ip="192.0.2.9").verified_at
        strange = flow.verifier.start_for("09123450001", purpose="sign-up", ip="192.0.2.9")
        flow.state.workers.wait()
        assert flow.check(strange, flow.code(strange), ip="192.0.2.9").mobile == victim.mobile
        flow.clock.advance(601)
    assert ends == {"WrongCode": 15}
    assert outcome(lambda: flow.start(1, ip="192.0.2.1")) == "TooManyAttempts"
    assert flow.verification(1).failures == 15
    assert flow.used("failures", "user 1") == flow.used("site_failures") == 15
    assert flow.used("ip", "192.0.2.1") == 3, "the victim's challenges were not proved"
    assert flow.used("ip", "192.0.2.9") == 0


def digests(code: str, beside: set[str]) -> dict[str, str]:
    """What a thief can make of a code with what stands beside it: digest → how it was made."""
    made = {}
    for name in ("md5", "sha1", "sha256", "sha512", "sha3_256", "blake2b"):
        for other in beside:
            for text in {code} | {
                joined
                for between in ("", ":", "|", " ", "\0")
                for joined in (f"{code}{between}{other}", f"{other}{between}{code}")
            }:
                made[hashlib.new(name, text.encode()).hexdigest()] = f"{name} of {text!r}"
            keyed = hmac.new(other.encode(), code.encode(), name)
            made[keyed.hexdigest()] = f"HMAC-{name} under {other!r}"
    return made


def test_no_table_holds_a_code_or_a_digest_that_can_be_made_without_our_key(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 15: every table, after every way that a code goes."""
    flow = make_flow(database, users=3, SMSVERIFY_LIMITS=NO_LIMITS)
    proved = flow.start(1, ip="192.0.2.1")
    assert outcome(lambda: flow.check(proved, flow.wrong(proved))) == "WrongCode"
    flow.clock.advance(31)
    flow.verifier.resend(proved, channel="voice")
    flow.check(proved, flow.code(proved))
    still_open = flow.start(2)
    strange = flow.verifier.start_for("09120000009", purpose="sign-up", ip="192.0.2.1")
    flow.state.workers.wait()
    token = flow.verifier.proof_token(flow.check(strange, flow.code(strange)))
    flow.verifier.claim(token, flow.user(2), purpose="sign-up")
    db.session.commit()
    native = Native()
    flow.route(native)
    flow.check(flow.start(3), native.sent[0][1])
    flow.clock.advance(121)
    flow.start(3)
    sent = {flow.code(one) for one in (proved, still_open, strange)}
    sent |= {code for _, code in native.sent}
    assert len(sent) == 5

    everything = sqlalchemy.MetaData()
    everything.reflect(db.engine)
    with db.engine.connect() as connection:
        values = [
            value.decode("latin-1") if isinstance(value, bytes) else str(value)
            for table in everything.sorted_tables
            for row in connection.execute(sqlalchemy.select(table))
            for value in row
            if not isinstance(value, datetime)
        ]
    stolen = "\n".join(values)
    assert {table.name for table in Base.metadata.sorted_tables} < set(everything.tables)
    assert proved.id in stolen
    assert "a secret of the tests" not in stolen
    beside = {value for value in values if 0 < len(value) < 64}
    for code in sent:
        assert not re.search(rf"(?<!\d){code}(?!\d)", stolen)
        for digest, how in digests(code, beside).items():
            assert digest[:16] not in stolen, how
            assert base64.b64encode(bytes.fromhex(digest))[:16].decode() not in stolen, how


@pytest.mark.parametrize("database", database_params("postgresql", "mariadb"), indirect=True)
def test_a_claim_that_is_not_committed_holds_up_its_own_user_alone(
    make_flow: MakeFlow, database: str
) -> None:
    """Else whoever keeps one open and guesses meanwhile stops all checking of the site."""
    flow = make_flow(database, users=2)
    proof = flow.verifier.start_for("09121112233", purpose="sign-up")
    token = flow.verifier.proof_token(flow.check(proof, flow.code(proof)))
    first, second = flow.start(1), flow.start(2)
    flow.verifier.claim(token, flow.user(1), purpose="sign-up")
    ends: list[str] = []

    def check(challenge: Challenge, code: str) -> threading.Thread:
        def run() -> None:
            ends.append(outcome(lambda: guess(flow.app, challenge.id, code)))

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    # The same user types wrong codes, which wait for the claim; then somebody else a right one.
    waiting = [check(first, flow.wrong(first)) for _ in range(3)]
    time.sleep(0.5)
    assert ends == []
    check(second, flow.code(second)).join(5)
    assert ends == ["ok"]
    db.session.rollback()
    for thread in waiting:
        thread.join(30)
    assert Counter(ends) == {"ok": 1, "WrongCode": 3}


def test_a_code_is_good_though_the_clock_was_ahead_for_a_moment(flow: Flow) -> None:
    flow.clock.advance(3600)
    flow.start()
    flow.clock.advance(-3600)
    flow.clock.advance(300)
    challenge = flow.start()
    assert flow.verifier.status(flow.user()).state == "pending"
    assert flow.verifier.check(flow.user(), flow.code(challenge)).verified_at
