"""Native codes: case 7a of docs/safety.md, and checks by the gateway."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest
from conftest import database_params
from flows import NO_LIMITS, Flow, Native, count_comparisons
from hostapp import db
from parallel import guess, is_waiting, outcome, race, wait_until
from sqlalchemy import delete, update

from flask_smsverify.db.models import Attempt, Challenge, Message, UsedToken, Verification
from flask_smsverify.errors import (
    CheckFailed,
    InvalidCode,
    NoChallenge,
    SendFailed,
    Unavailable,
    Unknown,
    WrongCode,
)
from flask_smsverify.senders.base import CodeMessage, Receipt
from flask_smsverify.senders.memory import Memory

MakeFlow = Callable[..., Flow]


def test_a_native_code_is_accepted_once(native_flow: tuple[Flow, Native]) -> None:
    """Case 7a: the gateway would accept the code again."""
    flow, native = native_flow
    challenge = flow.start()
    [(_, code)] = native.sent
    assert flow.check(challenge, code).sender == "native"
    again = flow.start()
    with pytest.raises(WrongCode):
        flow.check(again, code)
    assert native.checked == [("+989123450001", code)]


def test_a_used_native_code_with_leading_zeros_is_refused(
    native_flow: tuple[Flow, Native],
) -> None:
    """Case 7a: a gateway may compare codes as numbers."""
    flow, _ = native_flow
    native = Native(as_numbers=True)
    flow.route(native)
    challenge = flow.start()
    [(_, code)] = native.sent
    flow.check(challenge, code)
    again = flow.start()
    with pytest.raises(WrongCode):
        flow.check(again, f"0{code}")


def test_a_native_code_can_be_accepted_again_after_its_lifetime(
    native_flow: tuple[Flow, Native],
) -> None:
    """A gateway has few codes, so it generates the same code again at some time."""
    flow, native = native_flow
    flow.check(flow.start(), native.sent[0][1])
    flow.clock.advance(600)
    challenge = flow.start()
    native.sent.append(("+989123450001", code := native.sent[0][1]))
    assert flow.check(challenge, code).verified_at == flow.clock()


@pytest.mark.parametrize("proved_by", ["own", "native", "nothing"])
def test_a_native_code_of_one_account_is_refused_for_another_with_the_same_mobile(
    native_flow: tuple[Flow, Native], proved_by: str
) -> None:
    """Case 7a: also if the first account's challenge is closed and its codes have not expired."""
    flow, native = native_flow
    flow.set_mobile(2, "09123450001")
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
    assert len(native.sent) == 3, "the first account's codes have expired"


@pytest.mark.parametrize("cause", ["a failed send", "an erased user"])
def test_a_native_code_without_an_open_challenge_is_refused_for_another_account(
    native_flow: tuple[Flow, Native], cause: str
) -> None:
    """Case 7a: the gateway accepts the code of a superseded or erased challenge."""
    flow, native = native_flow
    flow.set_mobile(2, "09123450001")
    first = flow.start(1)
    flow.clock.advance(60)
    if cause == "an erased user":
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
    assert len(native.sent) == 2, "the first account's code has expired"


@pytest.mark.parametrize("first", ["a failed send", "a call with the own code"])
def test_an_account_gets_a_native_code_if_another_with_the_same_mobile_got_none(
    native_flow: tuple[Flow, Native], first: str
) -> None:
    flow, native = native_flow
    flow.set_mobile(2, "09123450001")
    if first == "a call with the own code":
        flow.start(1, channel="voice")
    else:
        native.sending.append(Unavailable("native", "down"))
        with pytest.raises(SendFailed):
            flow.start(1)
    flow.start(3)  # a native code for another mobile
    second = flow.start(2)
    assert flow.verifier.load(second.id).native_sender == "native"
    assert flow.check(second, native.sent[1][1]).verified_at


def test_an_account_gets_a_native_code_after_a_failed_send(
    native_flow: tuple[Flow, Native],
) -> None:
    flow, native = native_flow
    flow.start(2)  # a native code for another mobile
    flow.check(flow.start(), native.sent[1][1])
    native.sending.append(Unavailable("native", "down"))
    with pytest.raises(SendFailed):
        flow.start()
    challenge = flow.start()
    assert flow.verifier.load(challenge.id).native_sender is not None
    assert flow.check(challenge, native.sent[2][1]).verified_at


@pytest.mark.parametrize("cause", ["an open challenge", "a failed send", "an erased user"])
@pytest.mark.parametrize(("seconds", "is_native"), [(599.9, False), (600, True)])
def test_the_native_codes_of_a_mobile_are_free_exactly_at_the_end_of_their_lifetime(
    native_flow: tuple[Flow, Native], cause: str, seconds: float, is_native: bool
) -> None:
    """Case 7a: neither own codes nor the native codes of other mobiles make it later."""
    flow, native = native_flow
    flow.set_mobile(2, "09123450001")
    first = flow.start(1)
    if cause == "an erased user":
        flow.verifier.forget(flow.user(1))
    elif cause == "a failed send":
        for _ in range(5):
            assert outcome(lambda: flow.check(first, "9999")) == "WrongCode"
    flow.clock.advance(60)
    if cause == "an open challenge":
        flow.verifier.resend(first, channel="voice")
    elif cause == "a failed send":
        native.sending.append(Unavailable("native", "down"))
        assert outcome(lambda: flow.start(1)) == "SendFailed"
    flow.clock.advance(seconds - 60)
    flow.start(3)
    second = flow.verifier.load(flow.start(2).id)
    assert (second.native_sender is not None) is is_native


@pytest.mark.race
@pytest.mark.parametrize("database", database_params("postgresql", "mariadb"), indirect=True)
def test_native_codes_do_not_become_free_while_their_challenge_is_sent_again(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 7a: the next challenge waits for the send, and then sees its attempt."""
    flow = make_flow(database, users=2)
    native = Native()
    flow.route(native)
    flow.set_mobile(2, "09123450001")
    flow.start(1)
    flow.clock.advance(600)
    db.session.remove()
    engine = flow.state.ledger.engine
    outcomes: list[str] = []

    def start() -> None:
        with flow.app.app_context():
            outcomes.append(outcome(lambda: flow.start(2)))
            db.session.remove()

    thread = threading.Thread(target=start)
    with engine.begin() as connection:
        connection.execute(update(Challenge).values(sends=2))
        connection.execute(update(Attempt).values(created_at=flow.clock()))
        thread.start()
        wait_until(lambda: bool(outcomes) or is_waiting(engine))
    thread.join(60)
    assert outcomes == ["ok"]
    assert (len(native.sent), len(native.own)) == (1, 1)


def test_a_native_code_of_a_sign_up_is_refused_for_another_sign_up_with_the_same_mobile(
    native_flow: tuple[Flow, Native],
) -> None:
    """Case 7a: two sign-ups may be of two persons, so neither follows the other."""
    flow, native = native_flow
    first = flow.sign_up("09120000000")
    flow.clock.advance(31)
    flow.verifier.resend(first)
    flow.state.workers.wait()
    flow.check(first, native.sent[1][1])
    flow.clock.advance(61)
    second = flow.sign_up("09120000000")
    assert len(native.sent) == 2
    with pytest.raises((WrongCode, InvalidCode)):
        flow.check(second, native.sent[0][1])


def test_a_sign_up_whose_native_codes_were_released_still_keeps_them_from_another(
    native_flow: tuple[Flow, Native],
) -> None:
    """Case 7a: of its two sends at once, one reached the mobile, and the other released them."""
    flow, native = native_flow
    first = flow.sign_up("09120000000")
    flow.verifier._issuer._jobs._native.release(first.id, "native")
    flow.clock.advance(31)
    second = flow.sign_up("09120000000")
    assert flow.verifier.load(second.id).native_sender is None
    flow.clock.advance(61)
    flow.verifier.resend(first)
    flow.state.workers.wait()
    assert flow.verifier.load(first.id).native_sender == "native"
    assert len(native.sent) == 2


def test_native_codes_are_free_once_the_messages_of_their_challenge_were_purged(
    native_flow: tuple[Flow, Native],
) -> None:
    flow, native = native_flow
    flow.set_mobile(2, "09123450001")
    flow.start(1)
    for table in (Attempt, Message):
        flow.state.ledger.run(lambda session, table=table: session.execute(delete(table)))
    flow.start(2)
    assert len(native.sent) == 2


def test_the_native_codes_of_two_senders_are_independent(flow: Flow) -> None:
    first, second = Native(name="first", also_own=False), Native(name="second", also_own=False)
    flow.route(first, second)
    flow.set_mobile(2, "09123450001")
    flow.start(1)
    flow.start(2)
    assert [len(first.sent), len(second.sent)] == [1, 1]


def test_a_replaced_challenge_that_is_still_sent_takes_no_native_codes_from_the_new_one(
    flow: Flow,
) -> None:
    """The new challenge is sent while the first sender fails for the one before."""
    first, second = Native(name="first"), Native(name="second")
    flow.route(first, second)
    send = first.send_native_code

    def send_the_next_one(to: str) -> Receipt:
        first.send_native_code = send  # type: ignore[method-assign]  # once
        first.sending.append(Unavailable("first", "down"))
        flow.clock.advance(545)
        flow.start()
        raise Unavailable("first", "down")

    first.send_native_code = send_the_next_one  # type: ignore[method-assign]  # at this moment
    flow.start()
    assert len(second.sent) == len(second.own) == 1
    assert flow.verifier.check(flow.user(), second.sent[0][1]).verified_at


@pytest.mark.race
def test_of_8_parallel_sends_to_one_mobile_exactly_one_is_native(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 7a, with threads."""
    flow = make_flow(database, users=8, SMSVERIFY_LIMITS=NO_LIMITS)
    native = Native()
    flow.route(native)

    def start(number: int) -> None:
        with flow.app.app_context():
            flow.verifier.start(flow.user(number + 1), mobile="09120000000")

    assert race(8, start) == {"ok": 8}
    assert len(native.sent) == 1
    assert len(native.own) == 7


def test_an_account_gets_a_native_code_after_an_exhausted_challenge(
    native_flow: tuple[Flow, Native],
) -> None:
    """Otherwise an account could not verify again if the gateway sends native codes only."""
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
def test_of_40_parallel_native_guesses_at_most_5_reach_the_gateway(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database)
    native = Native(also_own=False)
    flow.route(native)
    challenge = flow.start()
    outcomes = race(40, lambda _: guess(flow.app, challenge.id, "0000"))
    assert len(native.checked) + outcomes["CheckFailed"] >= 5
    assert len(native.checked) <= 5
    assert outcomes["WrongCode"] + outcomes["CheckFailed"] + outcomes["TooManyAttempts"] == 40


def test_a_check_that_did_not_reach_the_gateway_costs_no_attempt(
    native_flow: tuple[Flow, Native],
) -> None:
    flow, native = native_flow
    challenge = flow.start()
    native.checking.append(Unavailable("native", "refused", written=False))
    with pytest.raises(CheckFailed):
        flow.check(challenge, "9999")
    assert flow.verifier.load(challenge.id).attempts == 0
    assert flow.verification().failures == 0
    assert flow.used("failures", "user 1") == 0
    assert flow.used("site_failures") == 0


def test_a_check_without_an_answer_costs_an_attempt(native_flow: tuple[Flow, Native]) -> None:
    flow, native = native_flow
    challenge = flow.start()
    native.checking.append(Unknown("native", "no answer"))
    with pytest.raises(CheckFailed):
        flow.check(challenge, "9999")
    assert flow.verifier.load(challenge.id).attempts == 1
    assert flow.verification().failures == 1


def test_a_right_native_code_takes_back_only_its_own_guess(
    native_flow: tuple[Flow, Native],
) -> None:
    flow, native = native_flow
    other = flow.start(2)
    with pytest.raises(WrongCode):
        flow.verifier.check(other, "9999")
    challenge = flow.start(1)
    flow.check(challenge, native.sent[-1][1])
    assert (flow.used("failures", "user 1"), flow.used("failures", "user 2")) == (0, 1)


def test_an_unreachable_native_gateway_gives_no_free_guesses_at_the_own_code(
    native_flow: tuple[Flow, Native], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 1: the own code is compared first, so the attempt counts without a gateway call."""
    flow, native = native_flow
    challenge = flow.start()
    flow.clock.advance(31)
    flow.verifier.resend(challenge, channel="voice")
    native.checking.extend(Unavailable("native", "refused", written=False) for _ in range(50))
    compared = count_comparisons(monkeypatch)
    outcomes = Counter(
        outcome(lambda: flow.check(challenge, flow.wrong(challenge))) for _ in range(20)
    )
    assert outcomes == {"CheckFailed": 5, "TooManyAttempts": 15}
    assert compared == [False] * 5


def test_the_own_code_is_refused_before_it_was_sent(
    native_flow: tuple[Flow, Native],
) -> None:
    flow, native = native_flow
    challenge = flow.start()
    assert native.own == []
    with pytest.raises(WrongCode):
        flow.check(challenge, flow.code(challenge))


def test_a_native_code_that_is_used_during_its_check_is_refused(
    native_flow: tuple[Flow, Native],
) -> None:
    """Case 7a: used codes are checked again in the transaction that uses up the challenge."""
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

    native.check_native_code = use_first  # type: ignore[method-assign]  # a use at this moment
    with pytest.raises(NoChallenge):
        flow.check(challenge, code)
    assert flow.verification().verified_at is None


def before_the_verdict(native: Native, work: Callable[[], object]) -> None:
    """Run a function while the gateway compares the next code."""
    ask = native.check_native_code

    def check_native_code(to: str, typed: str) -> bool:
        native.check_native_code = ask  # type: ignore[method-assign]  # once
        work()
        return ask(to, typed)

    native.check_native_code = check_native_code  # type: ignore[method-assign]  # at this moment


def test_a_native_code_of_a_challenge_that_is_replaced_during_its_check_is_refused(
    native_flow: tuple[Flow, Native],
) -> None:
    """The right code is no failure: the account's limit does not count it."""
    flow, native = native_flow
    challenge = flow.start()
    [(_, code)] = native.sent
    flow.clock.advance(590)
    before_the_verdict(native, flow.start)
    with pytest.raises(NoChallenge):
        flow.check(challenge, code)
    assert flow.verification().verified_at is None
    assert flow.used("failures", "user 1") == 0


def test_a_wrong_native_code_stays_counted_if_its_account_is_erased_during_the_check(
    native_flow: tuple[Flow, Native],
) -> None:
    flow, native = native_flow
    challenge = flow.start()
    before_the_verdict(native, lambda: flow.verifier.forget(flow.user()))
    with pytest.raises(NoChallenge):
        flow.check(challenge, "9999")
    assert flow.used("failures", "user 1") == 1


def test_a_guess_that_is_taken_back_after_a_proof_shortens_no_later_streak(
    native_flow: tuple[Flow, Native],
) -> None:
    """Else the account could be guessed at once more than the streak allows."""
    flow, native = native_flow
    payment = flow.start(purpose="payment", channel="voice")
    challenge = flow.start()
    before_the_verdict(native, lambda: flow.check(payment, flow.code(payment)))
    native.checking.append(Unavailable("native", "refused", written=False))
    with pytest.raises(CheckFailed):
        flow.check(challenge, "9999")
    assert flow.verification().failures == 0

    new = "+989351112233"
    flow.verifier.changes.send_to_new(flow.user(), new)
    payment = flow.start(purpose="payment", channel="voice")
    before_the_verdict(native, lambda: flow.check(payment, flow.code(payment)))
    flow.verifier.changes.prove_new(flow.user(), native.sent[-1][1])
    assert flow.verification().failures == 0


def test_wrong_native_codes_exhaust_the_challenge_and_lock_the_account(
    native_flow: tuple[Flow, Native],
) -> None:
    flow, _ = native_flow
    challenge = flow.start()
    flow.state.ledger.run(
        lambda session: setattr(session.get_one(Verification, "1"), "failures", 95)
    )
    outcomes = [outcome(lambda: flow.check(challenge, "9999")) for _ in range(5)]
    assert outcomes == ["WrongCode"] * 5
    assert flow.verifier.load(challenge.id).state == Challenge.EXHAUSTED
    assert flow.verification().locked_at == flow.clock.now


def test_the_last_wrong_native_code_does_not_end_a_challenge_that_was_proved_meanwhile(
    native_flow: tuple[Flow, Native],
) -> None:
    flow, native = native_flow
    challenge = flow.start()
    [(_, code)] = native.sent
    ask, is_asked, is_proved = native.check_native_code, threading.Event(), threading.Event()
    wrong: list[str] = []

    def check_native_code(to: str, typed: str) -> bool:
        if typed == "9999":
            is_asked.set()
            is_proved.wait(60)
        else:
            last.start()
            is_asked.wait(60)
        return ask(to, typed)

    def guess_wrong() -> None:
        with flow.app.app_context():
            wrong.append(outcome(lambda: flow.check(challenge, "9999")))

    for _ in range(3):
        assert outcome(lambda: flow.check(challenge, "8888")) == "WrongCode"
    last = threading.Thread(target=guess_wrong)
    native.check_native_code = check_native_code  # type: ignore[method-assign]  # at this moment
    flow.check(challenge, code)
    is_proved.set()
    last.join(60)
    assert wrong == ["WrongCode"]
    assert flow.verifier.load(challenge.id).state == Challenge.VERIFIED


def test_a_native_proof_of_a_new_number_leaves_the_streak_as_it_was(
    native_flow: tuple[Flow, Native],
) -> None:
    """Else its owner would be locked, or a thief of the password never."""
    flow, native = native_flow
    flow.check(flow.start(), native.sent[0][1])
    flow.verifier.changes.send_to_new(flow.user(), "+989351112233")
    with pytest.raises(WrongCode):
        flow.verifier.changes.prove_new(flow.user(), "9999")
    flow.verifier.changes.prove_new(flow.user(), native.sent[-1][1])
    assert flow.verification().failures == 1


def test_a_challenge_without_a_guess_left_is_not_sent_again(
    native_flow: tuple[Flow, Native],
) -> None:
    """It is still open: none of its guesses got an answer."""
    flow, native = native_flow
    challenge = flow.start()
    native.checking.extend(Unknown("native", "no answer") for _ in range(5))
    outcomes = Counter(outcome(lambda: flow.check(challenge, "9999")) for _ in range(6))
    assert outcomes == {"CheckFailed": 5, "TooManyAttempts": 1}
    flow.clock.advance(60)
    assert flow.start().id != challenge.id


def test_an_unavailable_native_sender_is_replaced_by_the_next(flow: Flow) -> None:
    first, second = Native(name="first", also_own=False), Native(name="second", also_own=False)
    flow.route(first, second)
    first.sending.append(Unavailable("first", "down"))
    challenge = flow.start()
    assert flow.verifier.load(challenge.id).native_sender == "second"
    assert flow.check(challenge, second.sent[0][1]).sender == "second"


@pytest.mark.race
@pytest.mark.parametrize("database", database_params("postgresql", "mariadb"), indirect=True)
def test_a_failover_waits_for_a_parallel_send_that_assigns_native_codes(
    make_flow: MakeFlow, database: str
) -> None:
    """Else two gateways would send a native code, and only one of the codes would be right."""
    flow = make_flow(database)
    engine = flow.state.ledger.engine
    is_assigned, is_over = threading.Event(), threading.Event()

    def assign() -> None:
        with engine.begin() as connection:
            connection.execute(update(Challenge).values(native_sender="other"))
            is_assigned.set()
            wait_until(lambda: is_over.is_set() or is_waiting(engine))

    rival = threading.Thread(target=assign)

    class First(Memory):
        def send_code(self, message: CodeMessage) -> Receipt:
            rival.start()
            is_assigned.wait(60)
            raise Unavailable(self.name, "down")

    second = Native(name="second")
    flow.route(First(name="first"), second)
    challenge = flow.start()
    is_over.set()
    rival.join(60)
    assert flow.verifier.load(challenge.id).native_sender == "other"
    assert second.sent == []
    assert [message.code for message in second.own] == [flow.code(challenge)]
