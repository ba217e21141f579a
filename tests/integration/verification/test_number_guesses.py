"""Guesses at a number: by accounts that have not proved it, and without an account."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle, islice

import pytest
from flows import NO_LIMITS, Flow, Native
from parallel import guess, outcome, race
from sqlalchemy import select, update

from flask_smsverify.db.models import Challenge, Streak, UsageGuess
from flask_smsverify.errors import RateLimited, TooManyAttempts

MakeFlow = Callable[..., Flow]
#: That of the first user, and one that nobody has.
MOBILE, NEW = "+989123450001", "+989351112233"
#: No limit of sends and no cooldown refuses anything.
NO_WAITS = {"SMSVERIFY_LIMITS": NO_LIMITS, "SMSVERIFY_RESEND_DELAYS": (0,)}
#: The same, with few failures.
FEW = NO_WAITS | {"SMSVERIFY_LIMITS": NO_LIMITS | {"failures": "5/day"}}


def wrong(flow: Flow, challenge: Challenge, times: int = 1) -> Counter[str]:
    """Enter wrong codes, and return the outcomes."""
    return Counter(
        outcome(lambda: flow.check(challenge, flow.wrong(challenge))) for _ in range(times)
    )


def guess_all_day(flow: Flow, senders: Iterator[Callable[[], Challenge]]) -> Counter[str]:
    """Let these request codes in turn, once an hour, and enter wrong ones."""
    outcomes: Counter[str] = Counter()
    for send in islice(senders, 24):
        try:
            challenge = send()
        except (TooManyAttempts, RateLimited) as error:
            outcomes[type(error).__name__] += 1
        else:
            outcomes += wrong(flow, challenge, 5)
        flow.clock.advance(3500)
    return outcomes


def at_number(flow: Flow, mobile: str = MOBILE) -> int:
    """Return how many failures of a day count against a number."""
    return flow.used("failures", f"mobile {mobile}")


def streaks(flow: Flow) -> list[int]:
    rows = select(Streak.failures).order_by(Streak.failures)
    return flow.state.ledger.read(lambda session: list(session.scalars(rows)))


@pytest.fixture
def owned(make_flow: MakeFlow, sqlite: str) -> Flow:
    """The first of five users has proved the number, and 5 failures a day are allowed."""
    flow = make_flow(sqlite, users=5, **FEW)
    flow.prove(1)
    return flow


# --- accounts -------------------------------------------------------------------------------------


def test_four_accounts_have_fifteen_guesses_a_day_at_one_number(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, users=5)
    senders = [lambda n=number: flow.start(n, mobile=MOBILE) for number in (2, 3, 4, 5)]
    assert guess_all_day(flow, cycle(senders))["WrongCode"] == 15


def test_accounts_and_visitors_without_one_share_the_failures_of_a_number(owned: Flow) -> None:
    first, second = owned.start(2, mobile=MOBILE), owned.start(3, mobile=MOBILE)
    visitor = owned.sign_up(MOBILE)
    assert wrong(owned, first, 2) + wrong(owned, visitor, 2) + wrong(owned, second) == {
        "WrongCode": 5
    }
    for challenge in (first, second, visitor):
        assert outcome(lambda c=challenge: owned.check(c, owned.code(c))) == "TooManyAttempts"
    assert owned.start(2, mobile=NEW), "the account has guesses at another number"
    assert owned.used("failures", "user 2") == 2


@pytest.mark.parametrize("days", [0, 400], ids=["valid", "expired"])
def test_guesses_of_others_do_not_refuse_an_account_that_has_proved_the_number(
    owned: Flow, days: int
) -> None:
    owned.clock.advance(days=days)
    assert wrong(owned, owned.start(2, mobile=MOBILE), 5) == {"WrongCode": 5}
    assert outcome(lambda: owned.start(3, mobile=MOBILE)) == "TooManyAttempts"
    challenge = owned.start(1)
    assert wrong(owned, challenge, 4) == {"WrongCode": 4}
    assert at_number(owned) == 5
    assert owned.check(challenge, owned.code(challenge)).mobile == MOBILE


def test_guesses_of_an_account_whose_proof_was_revoked_count_against_the_number(
    owned: Flow,
) -> None:
    owned.verifier.revoke(owned.user(1), by="staff")
    assert wrong(owned, owned.start(1), 5) == {"WrongCode": 5}
    assert at_number(owned) == 5
    assert outcome(lambda: owned.sign_up(MOBILE)) == "TooManyAttempts"


def test_guesses_of_accounts_lock_no_number(make_flow: MakeFlow, sqlite: str) -> None:
    """An attacker with many accounts could lock any number otherwise."""
    flow = make_flow(sqlite, users=5, SMSVERIFY_CONSECUTIVE_FAILURES=6, **NO_WAITS)
    for number in (2, 3, 4):
        assert wrong(flow, flow.start(number, mobile=MOBILE), 5) == {"WrongCode": 5}
    assert streaks(flow) == []
    assert flow.sign_up(MOBILE).sends == 1


def test_a_change_of_number_counts_against_the_new_number_and_not_the_old_one(
    owned: Flow,
) -> None:
    changes = owned.verifier.changes
    challenge = changes.send_to_new(owned.user(1), NEW).challenge
    assert outcome(lambda: changes.prove_new(owned.user(1), owned.wrong(challenge))) == "WrongCode"
    assert (at_number(owned, NEW), at_number(owned)) == (1, 0)
    changes.prove_new(owned.user(1), owned.code(challenge))
    challenge = changes.send_to_old(owned.user(1)).challenge
    assert outcome(lambda: changes.confirm(owned.user(1), owned.wrong(challenge))) == "WrongCode"
    assert (at_number(owned, NEW), at_number(owned)) == (1, 0)
    assert owned.used("failures", "user 1") == 2


def test_a_right_native_code_of_an_account_leaves_no_failure_of_the_number(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite)
    native = Native()
    flow.route(native)
    challenge = flow.start()
    assert outcome(lambda: flow.check(challenge, "00000000")) == "WrongCode"
    assert at_number(flow) == 1
    flow.check(challenge, native.sent[-1][1])
    assert at_number(flow) == 1


@pytest.mark.race
def test_parallel_guesses_of_accounts_and_visitors_use_exactly_the_failures_of_their_number(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, users=6, **FEW)
    challenges = [flow.start(number, mobile=MOBILE) for number in range(2, 7)]
    challenges += [flow.sign_up(MOBILE) for _ in range(2)]
    pairs = [(challenge.id, flow.wrong(challenge)) for challenge in challenges]
    outcomes = race(28, lambda number: guess(flow.app, *pairs[number % 7]))
    assert outcomes == {"WrongCode": 5, "TooManyAttempts": 23}
    assert at_number(flow) == 5


# --- staff, and rows that are older ---------------------------------------------------------------


def test_a_reset_of_a_number_resets_no_account(owned: Flow) -> None:
    assert wrong(owned, owned.start(2, mobile=MOBILE), 3) == {"WrongCode": 3}
    assert wrong(owned, owned.sign_up(MOBILE), 2) == {"WrongCode": 2}
    owned.reset("failures", user_id="2")
    assert at_number(owned) == 5
    assert wrong(owned, owned.start(3, mobile=NEW)) == {"WrongCode": 1}
    owned.reset("failures", mobile=MOBILE)
    assert at_number(owned) == 0
    assert owned.used("failures", "user 3") == at_number(owned, NEW) == 1
    challenge = owned.sign_up(MOBILE)
    assert owned.check(challenge, owned.code(challenge)).mobile == MOBILE


def test_failures_that_are_older_than_the_column_refuse_what_they_refused(owned: Flow) -> None:
    """Those without an account refuse visitors without one, and no account."""
    assert wrong(owned, owned.sign_up(MOBILE), 5) == {"WrongCode": 5}
    owned.state.ledger.run(lambda session: session.execute(update(UsageGuess).values(number=None)))
    assert outcome(lambda: owned.sign_up(MOBILE)) == "TooManyAttempts"
    challenge = owned.start(2, mobile=MOBILE)
    assert wrong(owned, challenge) == {"WrongCode": 1}
    owned.reset("failures", mobile=MOBILE)
    assert owned.sign_up(MOBILE).sends == 1
