"""Guessing: cases 1 to 8 of docs/safety.md, with exact counts."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from conftest import database_params
from flows import MEMORY, NO_LIMITS, Flow, Native, count_comparisons, flow_of
from hostapp import create_app, db
from parallel import TOTAL, Processes, guess, outcome, race, send_to, wait_until

from flask_smsverify.db.models import Challenge, UsageGuess, Verification
from flask_smsverify.errors import AccountLocked, SMSVerifyError, TooManyAttempts, WrongCode

MakeFlow = Callable[..., Flow]
NINE_ATTEMPTS = {"SMSVERIFY_MAX_ATTEMPTS": 9}
#: Seconds to wait for a thread that always ends, even on a slow machine.
TIMEOUT = 60


@pytest.mark.race
def test_of_100_parallel_wrong_codes_exactly_5_are_compared(
    make_flow: MakeFlow, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 1, with threads."""
    flow = make_flow(database)
    challenge = flow.start()
    wrong = flow.wrong(challenge)
    compared = count_comparisons(monkeypatch)
    outcomes = race(100, lambda _: guess(flow.app, challenge.id, wrong))
    assert outcomes == {"WrongCode": 5, "TooManyAttempts": 95}
    assert compared == [False] * 5
    assert flow.verifier.load(challenge.id).state == Challenge.EXHAUSTED
    assert flow.verification(1).failures == 5


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({}, TooManyAttempts),
        (NINE_ATTEMPTS | {"SMSVERIFY_LIMITS": {"failures": "5/day"}}, TooManyAttempts),
        (NINE_ATTEMPTS | {"SMSVERIFY_LIMITS": {"site_failures": "5/hour"}}, TooManyAttempts),
        (NINE_ATTEMPTS | {"SMSVERIFY_CONSECUTIVE_FAILURES": 5}, AccountLocked),
    ],
    ids=["attempts", "failures of the account", "failures of the site", "lock"],
)
def test_a_guess_beyond_a_limit_is_refused_and_changes_nothing(
    make_flow: MakeFlow,
    sqlite: str,
    monkeypatch: pytest.MonkeyPatch,
    config: dict[str, Any],
    error: type[SMSVerifyError],
) -> None:
    flow = make_flow(sqlite, **config)
    ip = "203.0.113.7"
    challenges = [flow.start(), flow.sign_up("09123450007", ip=ip)]
    flow.state.workers.wait()
    for challenge in challenges:
        flow.state.limit_report.reset(flow.state.limit_report.scopes())
        for _ in range(5):
            with pytest.raises(WrongCode):
                flow.check(challenge, flow.wrong(challenge), ip=ip)
        before = flow.state.ledger.read(lambda session: session.query(UsageGuess).count())
        compared = count_comparisons(monkeypatch)
        for code in (flow.code(challenge), flow.wrong(challenge)):
            with pytest.raises(error):
                flow.check(challenge, code, ip=ip)
        assert compared == []
        assert flow.verifier.load(challenge.id).attempts == 5
        after = flow.state.ledger.read(lambda session: session.query(UsageGuess).count())
        assert after == before


@pytest.mark.race
def test_of_wrong_codes_from_parallel_processes_exactly_5_are_compared(
    make_flow: MakeFlow, database: str, processes: Processes
) -> None:
    """Case 1, with processes."""
    config = {"SMSVERIFY_SENDERS": MEMORY}
    flow = make_flow(database, **config)
    challenge = flow.start()
    pairs = [(challenge.id, flow.wrong(challenge))]
    outcomes = processes.race(database, config, "guess", pairs)
    assert outcomes == {"WrongCode": 5, "TooManyAttempts": TOTAL - 5}


def test_an_exhausted_challenge_stays_closed_when_more_attempts_are_allowed(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite)
    challenge = flow.start()
    code = flow.code(challenge)
    for _ in range(5):
        assert outcome(lambda: flow.check(challenge, flow.wrong(challenge))) == "WrongCode"
    flow = make_flow(sqlite, **NINE_ATTEMPTS)
    with pytest.raises(TooManyAttempts):
        flow.check(challenge, code)


@pytest.mark.race
def test_of_50_parallel_right_codes_exactly_one_succeeds(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 2, with threads. The other right codes do not count as failures."""
    flow = make_flow(database)
    challenge = flow.start()
    right = flow.code(challenge)
    outcomes = race(50, lambda _: guess(flow.app, challenge.id, right))
    assert outcomes["ok"] == 1
    assert set(outcomes) <= {"ok", "NoChallenge", "TooManyAttempts"}
    assert flow.used("failures", "user 1") == 0
    assert flow.used("site_failures") == 0
    assert flow.verification(1).failures == 0


@pytest.mark.race
def test_of_right_codes_from_parallel_processes_exactly_one_succeeds(
    make_flow: MakeFlow, database: str, processes: Processes
) -> None:
    """Case 2, with processes."""
    config = {"SMSVERIFY_SENDERS": MEMORY}
    flow = make_flow(database, **config)
    challenge = flow.start()
    pairs = [(challenge.id, flow.code(challenge))]
    outcomes = processes.race(database, config, "guess", pairs)
    assert outcomes["ok"] == 1
    assert set(outcomes) <= {"ok", "NoChallenge", "TooManyAttempts"}


@pytest.mark.race
def test_parallel_right_and_wrong_codes_cause_at_most_5_comparisons(
    make_flow: MakeFlow, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = make_flow(database)
    challenge = flow.start()
    typed = [flow.code(challenge), *[flow.wrong(challenge)] * 29]
    compared = count_comparisons(monkeypatch)
    race(30, lambda number: guess(flow.app, challenge.id, typed[number]))
    assert 1 <= len(compared) <= 5


def test_a_rollback_of_the_host_does_not_restore_attempts(
    make_flow: MakeFlow, database: str
) -> None:
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


def test_a_resend_does_not_restore_attempts(flow: Flow) -> None:
    """Case 4: a resend keeps the count of the challenge."""
    challenge = flow.start()
    for _ in range(3):
        assert outcome(lambda: flow.check(challenge, flow.wrong(challenge))) == "WrongCode"
    flow.clock.advance(31)
    assert flow.verifier.resend(challenge).id == challenge.id
    outcomes = Counter(
        outcome(lambda: flow.check(challenge, flow.wrong(challenge))) for _ in range(10)
    )
    assert outcomes == {"WrongCode": 2, "TooManyAttempts": 8}


def test_new_challenges_share_the_accounts_15_failures_a_day(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 4: a new challenge after an exhausted one uses the same limit of the account."""
    flow = make_flow(database, SMSVERIFY_LIMITS={"user": None, "mobile": None})
    outcomes: Counter[str] = Counter()
    for _ in range(3):
        flow.clock.advance(601)
        spare = flow.start(purpose="payment")
        challenge = flow.start()
        outcomes.update(outcome(lambda c=challenge: flow.check(c, flow.wrong(c))) for _ in range(6))
    assert outcomes == {"WrongCode": 15, "TooManyAttempts": 3}
    sent = len(flow.memory.messages)
    # Even a right guess at another open challenge is refused, and no code is sent.
    for refused in (lambda: flow.check(spare, flow.code(spare)), flow.start):
        with pytest.raises(TooManyAttempts) as caught:
            refused()
        assert caught.value.retry_after > 3600
    assert len(flow.memory.messages) == sent


def test_attempts_do_not_depend_on_the_session(make_flow: MakeFlow, sqlite: str) -> None:
    """Case 5: a new session finds the same challenge with the same counts."""
    flow = make_flow(sqlite)
    challenge = flow.start()
    for _ in range(5):
        with flow.app.app_context(), pytest.raises(WrongCode):
            flow.verifier.check(flow.user(), flow.wrong(challenge))
    with flow.app.app_context(), pytest.raises(TooManyAttempts):
        flow.verifier.check(flow.user(), flow.code(challenge))


def test_a_stale_copy_of_a_challenge_does_not_restore_attempts(flow: Flow) -> None:
    """Case 5: the counts are read from the database."""
    challenge = flow.start()
    stale = flow.verifier.load(challenge.id)
    for _ in range(5):
        with pytest.raises(WrongCode):
            flow.check(challenge, flow.wrong(challenge))
    with pytest.raises(TooManyAttempts):
        flow.verifier.check(stale, flow.code(challenge))


def test_sms_and_voice_share_the_attempts(flow: Flow) -> None:
    """Case 6."""
    challenge = flow.start(channel="sms")
    for _ in range(3):
        assert outcome(lambda: flow.check(challenge, flow.wrong(challenge))) == "WrongCode"
    flow.clock.advance(31)
    by_voice = flow.verifier.resend(challenge, channel="voice")
    assert by_voice.channel == "voice"
    assert flow.memory.last.code == flow.memory.messages[0].code
    outcomes = [outcome(lambda: flow.check(by_voice, flow.wrong(challenge))) for _ in range(4)]
    assert outcomes == ["WrongCode", "WrongCode", "TooManyAttempts", "TooManyAttempts"]


def test_a_locked_account_cannot_verify_with_the_right_code(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 7."""
    flow = make_flow(database, SMSVERIFY_CONSECUTIVE_FAILURES=3)
    challenge = flow.start()
    for _ in range(3):
        with pytest.raises(WrongCode):
            flow.check(challenge, flow.wrong(challenge))
    with pytest.raises(AccountLocked):
        flow.check(challenge, flow.code(challenge))
    assert flow.verifier.status(flow.user()).locked


def test_an_account_that_is_locked_during_the_comparison_is_refused(flow: Flow) -> None:
    """Case 7: the lock is checked again in the transaction that uses up the challenge."""
    native = Native(name="memory", also_own=False)
    flow.route(native)
    challenge = flow.start()
    [(_, code)] = native.sent
    ask = native.check_native_code

    def lock_first(to: str, typed: str) -> bool:
        def lock(session: Any) -> None:

            session.get(Verification, "1").locked_at = flow.clock()

        flow.state.ledger.run(lock)
        return ask(to, typed)

    native.check_native_code = lock_first  # type: ignore[method-assign]  # a lock at this moment
    with pytest.raises(AccountLocked):
        flow.check(challenge, code)
    assert flow.verification().verified_at is None


@pytest.mark.race
def test_parallel_wrong_codes_lock_the_account_after_exactly_the_configured_number(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 7, with threads."""
    flow = make_flow(
        database,
        SMSVERIFY_CONSECUTIVE_FAILURES=7,
        SMSVERIFY_MAX_ATTEMPTS=100,
        SMSVERIFY_LIMITS=NO_LIMITS,
    )
    challenge = flow.start()
    outcomes = race(30, lambda _: guess(flow.app, challenge.id, flow.wrong(challenge)))
    assert outcomes == {"WrongCode": 7, "AccountLocked": 23}
    assert flow.verification().locked_at is not None
    flow.verifier.unlock(flow.user())
    assert flow.check(challenge, flow.code(challenge)).verified_at is not None


@pytest.mark.race
def test_parallel_wrong_codes_at_many_accounts_use_exactly_the_limit_of_the_site(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 77: first guesses count and are not refused, so these are the second ones."""
    limits = NO_LIMITS | {"site_failures": "30/hour"}
    flow = make_flow(database, users=24, SMSVERIFY_LIMITS=limits)
    challenges = [flow.start(number) for number in range(1, 25)]
    wrong = [(challenge.id, flow.wrong(challenge)) for challenge in challenges]
    assert {outcome(lambda g=pair: guess(flow.app, *g)) for pair in wrong} == {"WrongCode"}
    outcomes = race(24, lambda number: guess(flow.app, *wrong[number]))
    assert outcomes == {"WrongCode": 6, "TooManyAttempts": 18}
    assert flow.used("site_failures") == 30


@pytest.mark.race
def test_parallel_wrong_codes_for_two_mobiles_use_exactly_the_limit_of_their_account(
    make_flow: MakeFlow, database: str
) -> None:
    """The account is locked, and not only the mobile of the challenge."""
    limits = NO_LIMITS | {"failures": "5/day"}
    flow = make_flow(database, SMSVERIFY_LIMITS=limits, SMSVERIFY_MAX_ATTEMPTS=100)
    challenges = [
        flow.start(1, purpose="login"),
        flow.start(1, purpose="pay", mobile="09351112233"),
    ]
    wrong = [(challenge.id, flow.wrong(challenge)) for challenge in challenges]
    outcomes = race(20, lambda number: guess(flow.app, *wrong[number % 2]))
    assert outcomes == {"WrongCode": 5, "TooManyAttempts": 15}
    assert flow.verification(1).failures == 5


def test_a_locked_account_gets_no_code(flow: Flow) -> None:
    flow.start()
    flow.clock.advance(31)

    def lock(session: Any) -> None:

        session.get(Verification, "1").locked_at = flow.clock()

    flow.state.ledger.run(lock)
    with pytest.raises(AccountLocked):
        flow.start()
    assert len(flow.memory.messages) == 1


def test_a_right_code_resets_the_consecutive_failures(flow: Flow) -> None:
    for _ in range(3):
        challenge = flow.start()
        with pytest.raises(WrongCode):
            flow.check(challenge, flow.wrong(challenge))
        flow.check(challenge, flow.code(challenge))
        assert flow.verification().failures == 0
    assert flow.used("failures", "user 1") == 3


def test_a_right_code_resets_no_counter_of_another_account(flow: Flow) -> None:
    """Case 8."""
    attacked = flow.start(1)
    for _ in range(4):
        with pytest.raises(WrongCode):
            flow.check(attacked, flow.wrong(attacked))
    flow.prove(2)
    flow.sign_up("09123450003")
    flow.state.workers.wait()
    assert flow.verifier.load(attacked.id).attempts == 4
    assert flow.verification(1).failures == 4
    assert flow.used("failures", "user 1") == 4
    assert flow.used("site_failures") == 4


def test_wrong_codes_report_the_attempts_left_and_then_the_wait(flow: Flow) -> None:
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


@pytest.mark.race
def test_wrong_codes_from_parallel_processes_lock_the_account_after_exactly_the_configured_number(
    make_flow: MakeFlow, database: str, processes: Processes
) -> None:
    """Case 7, with processes. Afterwards the right code is refused too."""
    config: dict[str, Any] = {
        "SMSVERIFY_SENDERS": MEMORY,
        "SMSVERIFY_CONSECUTIVE_FAILURES": 7,
        "SMSVERIFY_MAX_ATTEMPTS": 100,
        "SMSVERIFY_LIMITS": NO_LIMITS,
    }
    flow = make_flow(database, **config)
    challenge = flow.start()
    pairs = [(challenge.id, flow.wrong(challenge))]
    outcomes = processes.race(database, config, "guess", pairs)
    assert outcomes == {"WrongCode": 7, "AccountLocked": TOTAL - 7}
    with pytest.raises(AccountLocked):
        flow.check(challenge, flow.code(challenge))


def test_a_new_secret_key_with_a_fallback_resets_no_limit_and_no_used_code(
    make_flow: MakeFlow, make_app: Any, sqlite: str
) -> None:
    """Cases 1 and 7a: with the old key as a fallback, failures and used native codes count."""
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


@pytest.mark.race
def test_parallel_right_and_wrong_codes_either_verify_or_lock_the_account(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 7, with threads: never both proved and locked."""
    flow = make_flow(database, SMSVERIFY_CONSECUTIVE_FAILURES=3)
    challenge = flow.start()
    right, wrong = flow.code(challenge), flow.wrong(challenge)
    for _ in range(2):
        assert outcome(lambda: flow.check(challenge, wrong)) == "WrongCode"
    outcomes = race(10, lambda at: guess(flow.app, challenge.id, wrong if at % 2 else right))
    verification = flow.verification(1)
    assert outcomes["ok"] + outcomes["WrongCode"] == 1
    assert (verification.verified_at is not None) is (outcomes["ok"] == 1)
    assert (verification.locked_at is not None) is (outcomes["WrongCode"] == 1)


def test_proofs_of_an_attacker_refund_no_guess_at_another_account(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 8: neither with another account nor with sign-ups for the same mobile."""
    flow = make_flow(
        database,
        users=2,
        SMSVERIFY_LIMITS={"user": None, "mobile": None},
        SMSVERIFY_RESEND_DELAYS=(1,),
    )
    outcomes: Counter[str] = Counter()
    for _ in range(3):
        own = flow.start(2, ip="192.0.2.9")
        assert flow.check(own, flow.code(own), ip="192.0.2.9").verified_at
        victim = flow.start(1, ip="192.0.2.1")
        sign_up = flow.sign_up("09123450001", ip="192.0.2.9")
        assert flow.check(sign_up, flow.code(sign_up), ip="192.0.2.9").mobile == victim.mobile
        outcomes.update(
            outcome(lambda c=victim: flow.check(c, flow.wrong(c), ip="192.0.2.1")) for _ in range(5)
        )
        flow.clock.advance(601)
    assert outcomes == {"WrongCode": 15}
    assert outcome(lambda: flow.start(1, ip="192.0.2.1")) == "TooManyAttempts"
    assert flow.verification(1).failures == 15
    assert flow.used("failures", "user 1") == flow.used("site_failures") == 15
    assert flow.used("ip", "192.0.2.1") == 3, "the victim's challenges were not proved"
    assert flow.used("ip", "192.0.2.9") == 0


@pytest.mark.parametrize("database", database_params("postgresql", "mariadb"), indirect=True)
def test_an_uncommitted_claim_blocks_only_the_guesses_of_its_own_user(
    make_flow: MakeFlow, database: str
) -> None:
    """Cases 63 and 64: of 18 guesses, eight wait for the claim, and none with a shared lock."""
    flow = make_flow(database, users=3)
    proof = flow.sign_up("09121112233")
    token = flow.verifier.proof_token(flow.check(proof, flow.code(proof)))
    first, second = flow.start(1), flow.start(2)
    flow.verifier.claim(token, flow.user(1), purpose="sign-up")
    outcomes: list[str] = []

    def check(challenge: Challenge, code: str) -> threading.Thread:
        def run() -> None:
            outcomes.append(outcome(lambda: guess(flow.app, challenge.id, code)))

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    # The guesses of the same user wait for the claim; all others do not, nor do sends.
    waiting = [check(first, flow.wrong(first)) for _ in range(18)]
    wait_until(lambda: len(outcomes) == 10)
    assert outcomes == ["StoreUnavailable"] * 10
    check(second, flow.code(second)).join(TIMEOUT)
    assert outcomes[10:] == ["ok"]
    sent = race(1, lambda _: send_to(flow.app, 3, None))
    flow.clock.advance(31)
    sent += race(1, lambda _: send_to(flow.app, 1, None))
    assert sent == {"ok": 2}
    db.session.rollback()
    for thread in waiting:
        thread.join(TIMEOUT)
    assert Counter(outcomes) == {
        "ok": 1,
        "WrongCode": 5,
        "TooManyAttempts": 3,
        "StoreUnavailable": 10,
    }
