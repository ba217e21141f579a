"""Guesses at a number: by accounts that have not proved it, without an account, by its owner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle, islice

import pytest
from flows import NO_LIMITS, Flow, Native
from parallel import guess, outcome, race
from sqlalchemy import insert, select

from flask_smsverify.db.models import Challenge, Streak
from flask_smsverify.errors import NoChallenge, RateLimited, TooManyAttempts

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


def failures(flow: Flow, mobile: str = MOBILE) -> dict[str, int]:
    """Return the failures of a day at a number, as staff see them."""
    report = flow.state.limit_report
    usages = report.usage(report.scopes(mobile=mobile), flow.clock())
    return {usage.scope: usage.used for usage in usages if "failures" in usage.scope}


def of_accounts(flow: Flow, mobile: str = MOBILE) -> int:
    """Return how many failures of accounts that have not proved a number count against it."""
    return failures(flow, mobile).get("failures (accounts)", 0)


def of_visitors(flow: Flow, mobile: str = MOBILE) -> int:
    """Return how many failures without an account count against a number."""
    return failures(flow, mobile)["failures"]


def streaks(flow: Flow) -> list[int]:
    rows = select(Streak.failures).order_by(Streak.failures)
    return flow.state.ledger.read(lambda session: list(session.scalars(rows)))


def token(flow: Flow) -> str:
    """Return the token of a device on which the first user has proved the number."""
    return flow.verifier.devices.dump(MOBILE, "1")


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


def test_accounts_share_the_failures_of_a_number(owned: Flow) -> None:
    first, second = owned.start(2, mobile=MOBILE), owned.start(3, mobile=MOBILE)
    assert wrong(owned, first, 2) + wrong(owned, second, 3) == {"WrongCode": 5}
    for challenge in (first, second):
        assert outcome(lambda c=challenge: owned.check(c, owned.code(c))) == "TooManyAttempts"
    assert owned.start(2, mobile=NEW), "the account has guesses at another number"
    assert owned.used("failures", "user 2") == 2


def test_guesses_with_an_account_and_without_one_refuse_nobody_of_the_others(owned: Flow) -> None:
    assert wrong(owned, owned.sign_up(MOBILE), 5) == {"WrongCode": 5}
    assert outcome(lambda: owned.sign_up(MOBILE)) == "TooManyAttempts"
    challenge = owned.start(2, mobile=MOBILE)
    assert wrong(owned, challenge, 4) == {"WrongCode": 4}
    owned.reset("failures", mobile=MOBILE)
    assert wrong(owned, owned.start(3, mobile=MOBILE), 5) == {"WrongCode": 5}
    assert outcome(lambda: owned.start(4, mobile=MOBILE)) == "TooManyAttempts"
    visitor = owned.sign_up(MOBILE)
    assert owned.check(visitor, owned.code(visitor)).mobile == MOBILE


@pytest.mark.parametrize("days", [0, 400], ids=["valid", "expired"])
def test_guesses_of_others_do_not_refuse_an_account_that_has_proved_the_number(
    owned: Flow, days: int
) -> None:
    owned.clock.advance(days=days)
    assert wrong(owned, owned.start(2, mobile=MOBILE), 5) == {"WrongCode": 5}
    assert outcome(lambda: owned.start(3, mobile=MOBILE)) == "TooManyAttempts"
    challenge = owned.start(1)
    assert wrong(owned, challenge, 4) == {"WrongCode": 4}
    assert of_accounts(owned) == 5
    assert owned.check(challenge, owned.code(challenge)).mobile == MOBILE


def test_guesses_of_an_account_whose_proof_was_revoked_count_against_the_number(
    owned: Flow,
) -> None:
    owned.verifier.revoke(owned.user(1), by="staff")
    assert wrong(owned, owned.start(1), 5) == {"WrongCode": 5}
    assert of_accounts(owned) == 5
    assert outcome(lambda: owned.start(2, mobile=MOBILE)) == "TooManyAttempts"


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
    assert (of_accounts(owned, NEW), of_accounts(owned)) == (1, 0)
    changes.prove_new(owned.user(1), owned.code(challenge))
    challenge = changes.send_to_old(owned.user(1)).challenge
    assert outcome(lambda: changes.confirm(owned.user(1), owned.wrong(challenge))) == "WrongCode"
    assert (of_accounts(owned, NEW), of_accounts(owned)) == (1, 0)
    assert owned.used("failures", "user 1") == 2


def test_a_right_native_code_of_an_account_leaves_no_failure_of_the_number(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite)
    native = Native()
    flow.route(native)
    challenge = flow.start()
    assert outcome(lambda: flow.check(challenge, "00000000")) == "WrongCode"
    assert of_accounts(flow) == 1
    flow.check(challenge, native.sent[-1][1])
    assert of_accounts(flow) == 1


@pytest.mark.race
def test_parallel_guesses_of_accounts_use_exactly_the_failures_of_their_number(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, users=6, **FEW)
    challenges = [flow.start(number, mobile=MOBILE) for number in range(2, 7)]
    pairs = [(challenge.id, flow.wrong(challenge)) for challenge in challenges]
    outcomes = race(25, lambda number: guess(flow.app, *pairs[number % 5]))
    assert outcomes == {"WrongCode": 5, "TooManyAttempts": 20}
    assert of_accounts(flow) == 5


# --- the device of the owner ----------------------------------------------------------------------


def test_a_device_of_the_owner_signs_in_while_a_stranger_guesses(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database)
    flow.prove(1)
    flow.clock.advance(days=2)
    guess_all_day(flow, cycle([lambda: flow.sign_up(MOBILE)]))
    assert outcome(lambda: flow.sign_up(MOBILE)) in ("TooManyAttempts", "RateLimited")
    challenge = flow.sign_up(MOBILE, device=token(flow))
    assert flow.check(challenge, flow.code(challenge)).mobile == MOBILE


def test_a_lock_by_strangers_does_not_lock_a_device_of_the_owner(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, SMSVERIFY_CONSECUTIVE_FAILURES=5, **NO_WAITS)
    flow.prove(1)
    assert wrong(flow, flow.sign_up(MOBILE), 5) == {"WrongCode": 5}
    assert outcome(lambda: flow.sign_up(MOBILE)) == "AccountLocked"
    challenge = flow.sign_up(MOBILE, device=token(flow))
    assert wrong(flow, challenge) == {"WrongCode": 1}
    assert streaks(flow) == [1, 5]
    assert flow.check(challenge, flow.code(challenge)).mobile == MOBILE
    assert streaks(flow) == [0, 5]
    assert outcome(lambda: flow.sign_up(MOBILE)) == "AccountLocked"
    flow.verifier.unlock(MOBILE)
    assert flow.sign_up(MOBILE).sends == 1


def test_guesses_on_a_device_of_the_owner_have_a_limit_of_their_own(owned: Flow) -> None:
    challenge = owned.sign_up(MOBILE, device=token(owned))
    assert wrong(owned, challenge, 5) == {"WrongCode": 5}
    assert of_visitors(owned) == 0
    assert wrong(owned, owned.sign_up(MOBILE), 5) == {"WrongCode": 5}
    assert outcome(lambda: owned.sign_up(MOBILE, device=token(owned))) == "TooManyAttempts"


def test_a_device_with_too_many_failures_in_a_day_counts_like_that_of_a_stranger(
    owned: Flow,
) -> None:
    """A token must not be a disadvantage."""
    challenge, open_one = (owned.sign_up(MOBILE, device=token(owned)) for _ in range(2))
    assert wrong(owned, challenge, 5) == {"WrongCode": 5}
    assert not owned.sign_up(MOBILE, device=token(owned)).by_device
    # The open code has no guess left either, so a new one replaces it.
    with pytest.raises(NoChallenge):
        owned.verifier.resend(open_one, device=token(owned), may_replace=False)
    replaced = owned.verifier.resend(open_one, device=token(owned))
    assert not replaced.by_device
    assert owned.verifier.load(open_one.id).state == Challenge.SUPERSEDED
    assert wrong(owned, replaced, 4) == {"WrongCode": 4}
    assert owned.check(replaced, owned.code(replaced)).mobile == MOBILE
    assert of_visitors(owned) == 4


def test_failures_on_a_device_of_an_earlier_owner_do_not_refuse_that_of_the_new_one(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, users=2, **FEW, SMSVERIFY_MOBILE_POLICY="transfer")
    flow.prove(1)
    assert wrong(flow, flow.sign_up(MOBILE, device=token(flow)), 5) == {"WrongCode": 5}
    flow.prove(2, mobile=MOBILE)
    challenge = flow.sign_up(MOBILE, device=flow.verifier.devices.dump(MOBILE, "2"))
    assert flow.check(challenge, flow.code(challenge)).mobile == MOBILE


def test_a_device_with_too_many_failures_in_a_row_counts_like_that_of_a_stranger(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """It may be that of an earlier owner, and a token must not be a disadvantage."""
    flow = make_flow(sqlite, SMSVERIFY_CONSECUTIVE_FAILURES=5, **NO_WAITS)
    flow.prove(1)
    challenge = flow.sign_up(MOBILE, device=token(flow))
    assert wrong(flow, challenge, 6) == {"WrongCode": 5, "AccountLocked": 1}
    challenge = flow.sign_up(MOBILE, device=token(flow))
    assert not challenge.by_device
    assert wrong(flow, challenge, 6) == {"WrongCode": 5, "AccountLocked": 1}
    assert outcome(lambda: flow.sign_up(MOBILE, device=token(flow))) == "AccountLocked"
    flow.verifier.unlock(MOBILE)
    assert streaks(flow) == []
    assert flow.sign_up(MOBILE, device=token(flow)).by_device


def test_a_resend_keeps_what_the_guesses_count_against(owned: Flow) -> None:
    own, strange = owned.sign_up(MOBILE, device=token(owned)), owned.sign_up(MOBILE)
    assert (own.by_device, strange.by_device) == (True, False)
    own = owned.verifier.resend(own)
    strange = owned.verifier.resend(strange, device=token(owned))
    assert (own.sends, own.by_device) == (strange.sends, not strange.by_device) == (2, True)
    assert wrong(owned, own, 4) + wrong(owned, strange, 4) == {"WrongCode": 8}
    assert of_visitors(owned) == 4
    assert wrong(owned, owned.sign_up(MOBILE)) == {"WrongCode": 1}
    # Now no guess is left to strangers, and one to the device.
    assert outcome(lambda: owned.verifier.resend(strange, device=token(owned))) == "TooManyAttempts"
    assert owned.verifier.resend(own).sends == 3
    assert wrong(owned, own) == {"WrongCode": 1}
    assert outcome(lambda: owned.sign_up(MOBILE, device=token(owned))) == "TooManyAttempts"


def test_a_new_code_on_a_device_of_the_owner_replaces_one_of_a_stranger(owned: Flow) -> None:
    challenge = owned.sign_up(MOBILE)
    assert wrong(owned, challenge, 5) == {"WrongCode": 5}
    replaced = owned.sign_up(MOBILE, device=token(owned))
    assert replaced.by_device
    assert owned.check(replaced, owned.code(replaced)).mobile == MOBILE


@pytest.mark.parametrize("loss", ["revoked", "proved by another account", "another number"])
def test_a_token_that_is_not_of_the_present_owner_counts_like_none(
    make_flow: MakeFlow, sqlite: str, loss: str
) -> None:
    flow = make_flow(
        sqlite,
        users=2,
        **FEW,
        SMSVERIFY_MOBILE_POLICY="transfer",
    )
    flow.prove(1)
    device = token(flow)
    if loss == "revoked":
        flow.verifier.revoke(flow.user(1), by="staff")
    elif loss == "another number":
        device = flow.verifier.devices.dump(NEW, "1")
    else:
        flow.set_mobile(2, MOBILE)
        flow.prove(2)
    challenge = flow.sign_up(MOBILE, device=device)
    assert not challenge.by_device
    assert wrong(flow, challenge, 5) == {"WrongCode": 5}
    assert of_visitors(flow) == 5
    assert outcome(lambda: flow.sign_up(MOBILE, device=device)) == "TooManyAttempts"


def test_a_device_counts_by_the_stored_challenge_and_not_by_the_callers(owned: Flow) -> None:
    challenge = owned.sign_up(MOBILE)
    vars(challenge)["by_device"] = True
    assert outcome(lambda: owned.verifier.check(challenge, owned.wrong(challenge))) == "WrongCode"
    assert of_visitors(owned) == 1
    vars(challenge)["by_device"] = True
    assert owned.verifier.check(challenge, owned.code(challenge)).mobile == MOBILE


def test_wrong_native_codes_on_a_device_of_the_owner_count_apart(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, **FEW)
    flow.prove(1)
    native = Native()
    flow.route(native)
    challenge = flow.sign_up(MOBILE, device=token(flow))
    assert outcome(lambda: flow.check(challenge, "00000000")) == "WrongCode"
    assert (of_visitors(flow), streaks(flow)) == (0, [1])
    assert flow.check(challenge, native.sent[-1][1]).mobile == MOBILE
    assert (of_visitors(flow), streaks(flow)) == (0, [0])


@pytest.mark.race
def test_parallel_guesses_of_the_owner_and_of_strangers_use_exactly_their_limits(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, users=3, **FEW)
    flow.prove(1)
    challenges = [flow.start(2, mobile=MOBILE), flow.sign_up(MOBILE)]
    challenges += [flow.sign_up(MOBILE, device=token(flow)) for _ in range(2)]
    pairs = [(challenge.id, flow.wrong(challenge)) for challenge in challenges]
    outcomes = race(32, lambda number: guess(flow.app, *pairs[number % 4]))
    assert outcomes == {"WrongCode": 15, "TooManyAttempts": 17}
    assert failures(flow) == dict.fromkeys(
        ("failures", "failures (owner's device)", "failures (accounts)"), 5
    )
    assert streaks(flow) == [5, 5]


# --- staff, and rows that are older ---------------------------------------------------------------


def test_a_reset_of_a_number_resets_its_owners_device_and_no_account(owned: Flow) -> None:
    assert wrong(owned, owned.start(2, mobile=MOBILE), 3) == {"WrongCode": 3}
    assert wrong(owned, owned.sign_up(MOBILE), 5) == {"WrongCode": 5}
    every = {"failures": 5, "failures (accounts)": 3}
    assert failures(owned) == every
    assert wrong(owned, owned.sign_up(MOBILE, device=token(owned)), 5) == {"WrongCode": 5}
    every["failures (owner's device)"] = 5
    assert failures(owned) == every
    owned.reset("failures", user_id="2")
    assert failures(owned) == every
    owned.reset("failures", mobile=NEW)
    assert failures(owned) == every
    assert wrong(owned, owned.start(3, mobile=NEW)) == {"WrongCode": 1}
    owned.reset("failures", mobile=MOBILE)
    assert failures(owned) == {"failures": 0}
    assert owned.used("failures", "user 3") == of_accounts(owned, NEW) == 1
    for device in (None, token(owned)):
        challenge = owned.sign_up(MOBILE, device=device)
        assert owned.check(challenge, owned.code(challenge)).mobile == MOBILE


def test_a_challenge_that_is_older_than_its_column_is_not_by_a_device(owned: Flow) -> None:
    challenge = owned.sign_up(MOBILE)
    columns = {
        column.key: getattr(challenge, column.key)
        for column in Challenge.__table__.columns
        if column.computed is None and column.key != "by_device"
    }
    older = columns | dict.fromkeys(("id", "open_key", "native_key"), "0" * 32)
    owned.state.ledger.run(
        lambda session: session.execute(insert(Challenge.__table__).values(older))
    )
    stored = owned.verifier.load("0" * 32)
    assert stored.by_device is False
    assert wrong(owned, stored) == {"WrongCode": 1}
    assert of_visitors(owned) == 1
