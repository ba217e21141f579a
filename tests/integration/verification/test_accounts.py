"""What staff and the host do with an account's verification, and whose rows it changes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from conftest import database_params
from flows import NO_LIMITS, Flow, Native
from hostapp import db
from parallel import in_app, is_waiting, outcome, wait_until
from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from flask_smsverify.db.models import (
    Attempt,
    Challenge,
    Message,
    MobileChange,
    NativeHold,
    Verification,
)
from flask_smsverify.errors import MobileTaken

MakeFlow = Callable[..., Flow]
OWN, OTHER, NEW = "+989123450001", "+989123450002", "+989351112233"
TABLES = (Attempt, Challenge, Message, MobileChange, Verification)


def keys(flow: Flow) -> set[Any]:
    """The keys of all rows that are about somebody."""
    return flow.state.ledger.read(
        lambda session: {
            (table.__name__, *inspect(row).identity)
            for table in TABLES
            for row in session.scalars(select(table))
        }
    )


# --- erase --------------------------------------------------------------------------------------


def test_erasing_a_user_erases_all_rows_about_them_and_none_about_others(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, users=3, SMSVERIFY_LIMITS=NO_LIMITS)
    native = Native()
    flow.route(native)
    changes = flow.verifier.changes

    flow.check(flow.start(2), native.sent[-1][1])
    changes.send_to_new(flow.user(2), NEW)
    changes.prove_new(flow.user(2), native.sent[-1][1])
    changes.send_to_old(flow.user(2))
    flow.start(3)
    flow.start(3, mobile=OWN, purpose="payment", channel="voice")
    flow.sign_up(OTHER)
    of_others = keys(flow)
    assert Counter(name for name, _ in of_others) == {
        "Attempt": 6,
        "Challenge": 6,
        "Message": 6,
        "MobileChange": 1,
        "Verification": 2,
    }

    flow.check(flow.start(1), native.sent[-1][1])
    changes.send_to_new(flow.user(1), "+989351112244")
    changes.prove_new(flow.user(1), native.sent[-1][1])
    flow.start(1, purpose="payment", channel="voice")
    flow.sign_up(OWN)
    of_user = keys(flow) - of_others
    assert {name for name, _ in of_user} == {table.__name__ for table in TABLES}

    flow.verifier.forget(flow.user(1))
    assert keys(flow) == of_others
    held = flow.state.ledger.read(lambda session: len(session.scalars(select(NativeHold)).all()))
    assert held == 2  # the gateway may accept codes for both mobiles of the user


def test_erasing_a_user_keeps_the_rows_about_a_mobile_whose_proof_was_revoked(flow: Flow) -> None:
    """The mobile may belong to somebody else since."""
    flow.prove()
    flow.verifier.revoke(flow.user(), by="staff")
    challenge = flow.sign_up(OWN)
    flow.verifier.forget(flow.user())
    assert {("Challenge", challenge.id)} == {key for key in keys(flow) if key[0] == "Challenge"}
    assert len([key for key in keys(flow) if key[0] == "Message"]) == 1


def test_a_user_who_never_requested_a_code_can_be_erased(flow: Flow) -> None:
    flow.prove(2)
    flow.sign_up(OWN)
    before = keys(flow)
    flow.verifier.forget(flow.user())
    assert keys(flow) == before


def test_erasing_a_locked_account_does_not_unlock_it(flow: Flow) -> None:
    flow.start(2)

    def lock(session: Session) -> None:
        session.get_one(Verification, "2").locked_at = flow.clock()

    flow.state.ledger.run(lock)
    flow.verifier.forget(flow.user(2))
    flow.clock.advance(60)
    assert outcome(lambda: flow.start(2)) == "AccountLocked"
    assert outcome(lambda: flow.start(1)) == "ok"


@pytest.mark.parametrize("database", database_params("postgresql", "mariadb"), indirect=True)
def test_an_attempt_that_a_parallel_transaction_adds_is_erased_with_its_user(
    make_flow: MakeFlow, database: str
) -> None:
    """A sender failed, and the message is passed to the next one."""
    flow = make_flow(database)
    challenge = flow.start()
    db.session.remove()
    ends: list[str] = []

    def forget() -> None:
        ends.append(outcome(lambda: in_app(flow.app, lambda verifier: verifier.forget_id("1"))))

    def add_attempt(session: Session) -> None:
        session.get_one(Challenge, challenge.id, with_for_update=True)
        [message] = session.scalars(select(Message).with_for_update())
        session.add(flow.state.delivery._attempts.new(message.id, flow.memory))
        session.flush()
        thread.start()
        wait_until(lambda: bool(ends) or is_waiting(flow.state.ledger.engine))

    thread = threading.Thread(target=forget)
    flow.state.ledger.run(add_attempt)
    thread.join(60)
    assert ends == ["ok"]
    assert keys(flow) == set()


@pytest.mark.parametrize("database", database_params("postgresql"), indirect=True)
def test_erasing_a_user_does_not_wait_for_the_codes_of_others(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, users=2)
    flow.start(1)
    other = flow.start(2)

    def forget_beside(session: Session) -> None:
        session.get_one(Challenge, other.id, with_for_update=True)
        session.scalars(select(Message).where(Message.user_id == "2").with_for_update()).all()
        flow.verifier.forget(flow.user(1))

    flow.state.ledger.run(forget_beside)
    assert {key for key in keys(flow) if key[0] == "Challenge"} == {("Challenge", other.id)}


def test_an_account_that_staff_unlocked_stays_unlocked_when_it_is_erased_again(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, SMSVERIFY_CONSECUTIVE_FAILURES=1, SMSVERIFY_LIMITS=NO_LIMITS)
    challenge = flow.start()
    assert outcome(lambda: flow.check(challenge, flow.wrong(challenge))) == "WrongCode"
    flow.verifier.forget(flow.user())
    flow.clock.advance(60)
    assert outcome(flow.start) == "AccountLocked"
    flow.verifier.unlock(flow.user())
    flow.verifier.forget(flow.user())
    assert outcome(flow.start) == "ok"


# --- revoke and unlock --------------------------------------------------------------------------


def test_a_revocation_cancels_the_codes_of_no_other_user(flow: Flow) -> None:
    revoked, other, nobodys = flow.start(1), flow.start(2), flow.sign_up(NEW)
    flow.verifier.revoke(flow.user(), by="staff")
    states = [flow.verifier.load(challenge.id).state for challenge in (revoked, other, nobodys)]
    assert states == [Challenge.CANCELLED, Challenge.PENDING, Challenge.PENDING]


def test_a_mobile_without_an_account_is_unlocked_alone(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite, SMSVERIFY_CONSECUTIVE_FAILURES=1, SMSVERIFY_LIMITS=NO_LIMITS)
    for mobile in (NEW, OTHER):
        challenge = flow.sign_up(mobile)
        assert outcome(lambda c=challenge: flow.check(c, flow.wrong(c))) == "WrongCode"
    flow.verifier.unlock(NEW)
    flow.clock.advance(60)
    assert outcome(lambda: flow.sign_up(NEW)) == "ok"
    assert outcome(lambda: flow.sign_up(OTHER)) == "AccountLocked"


# --- vouch --------------------------------------------------------------------------------------


def test_staff_cannot_vouch_for_a_mobile_that_another_account_holds(flow: Flow) -> None:
    flow.prove(1)
    flow.set_mobile(2, OWN)
    with pytest.raises(MobileTaken):
        flow.verifier.mark_verified(flow.user(2), by="staff")
    assert [flow.state_of(1), flow.state_of(2)] == ["verified", "unverified"]


def test_staff_who_vouch_for_a_user_unlock_the_account(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite, SMSVERIFY_CONSECUTIVE_FAILURES=1)
    challenge = flow.start()
    assert outcome(lambda: flow.check(challenge, flow.wrong(challenge))) == "WrongCode"
    assert flow.verifier.status(flow.user()).locked
    flow.verifier.mark_verified(flow.user(), by="staff")
    assert flow.state_of() == "verified"
    assert (flow.verification().failures, flow.verification().locked_at) == (0, None)
