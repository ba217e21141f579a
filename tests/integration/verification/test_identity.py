"""Which account holds a mobile, and for how long: cases 31, 32, 34, 35 and 58 of docs/safety.md."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import database_params
from flask_login import UserMixin
from flask_sqlalchemy import SQLAlchemy
from flows import NO_LIMITS, Flow
from hostapp import TextUser, User, UuidUser, create_app, db
from parallel import PROCESSES, Processes, guess, is_waiting, outcome, race, wait_until
from sqlalchemy import LargeBinary, String, delete, update
from sqlalchemy.types import TypeDecorator

from flask_smsverify.db.models import Challenge, Message, Verification
from flask_smsverify.errors import CodeExpired, MobileTaken, NoChallenge, TooSoon
from flask_smsverify.testing import outbox
from flask_smsverify.verification.ownership import Claimant, Ownership

MakeFlow = Callable[..., Flow]
MOBILE = "+989120000000"


def enter_own_code(flow: Flow, challenges: list[Challenge]) -> Callable[[int], None]:
    """Return a function that enters the right code of the n-th challenge."""
    pairs = [(challenge.id, flow.code(challenge)) for challenge in challenges]
    return lambda at: guess(flow.app, *pairs[at])


@pytest.mark.race
@pytest.mark.parametrize("limit", [1, 3])
def test_of_8_parallel_proofs_of_one_mobile_exactly_the_limit_succeeds(
    make_flow: MakeFlow, database: str, limit: int
) -> None:
    """Case 31, with threads. The host has not written the new mobiles yet."""
    flow = make_flow(
        database, users=8, SMSVERIFY_LIMITS=NO_LIMITS, SMSVERIFY_ACCOUNTS_PER_MOBILE=limit
    )
    challenges = [flow.start(number, mobile=MOBILE) for number in range(1, 9)]
    outcomes = race(8, enter_own_code(flow, challenges))
    assert outcomes == {"ok": limit, "MobileTaken": 8 - limit}
    assert flow.holders(MOBILE) == limit


@pytest.mark.race
def test_of_parallel_proofs_in_several_processes_exactly_one_succeeds(
    make_flow: MakeFlow, database: str, processes: Processes
) -> None:
    """Case 31, with processes. The accounts have the mobile already."""
    config = {"SMSVERIFY_LIMITS": NO_LIMITS}
    flow = make_flow(database, users=2 * PROCESSES, **config)
    for number in range(1, 2 * PROCESSES + 1):
        flow.set_mobile(number, MOBILE)
    challenges = [flow.start(number) for number in range(1, 2 * PROCESSES + 1)]
    pairs = [(challenge.id, flow.code(challenge)) for challenge in challenges]
    outcomes = processes.race(database, config, "guess", pairs, threads=2)
    assert outcomes == {"ok": 1, "MobileTaken": 2 * PROCESSES - 1}


@pytest.mark.race
def test_after_8_parallel_transfers_exactly_one_account_holds_the_mobile(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 31, with the policy `transfer`."""
    flow = make_flow(
        database, users=8, SMSVERIFY_LIMITS=NO_LIMITS, SMSVERIFY_MOBILE_POLICY="transfer"
    )
    challenges = [flow.start(number, mobile=MOBILE) for number in range(1, 9)]
    outcomes = race(8, enter_own_code(flow, challenges))
    assert outcomes == {"ok": 8}
    assert flow.holders(MOBILE) == 1


@pytest.mark.race
def test_two_accounts_that_swap_mobiles_in_parallel_keep_the_new_ones(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 31: a transfer revokes the proof of its mobile, not a newer proof of another mobile."""
    flow = make_flow(
        database, users=2, SMSVERIFY_LIMITS=NO_LIMITS, SMSVERIFY_MOBILE_POLICY="transfer"
    )
    one, two = "+989120000001", "+989120000002"
    flow.prove(1, mobile=one)
    flow.prove(2, mobile=two)
    flow.set_mobile(1, one)
    flow.set_mobile(2, two)
    flow.clock.advance(3600)
    challenges = [flow.start(1, mobile=two), flow.start(2, mobile=one)]
    outcomes = race(2, enter_own_code(flow, challenges))
    assert outcomes == {"ok": 2}
    for number, mobile in ((1, two), (2, one)):
        row = flow.verification(number)
        assert (row.mobile, row.revoked_at) == (mobile, None)


def prove_by_code(flow: Flow) -> None:
    challenge = flow.start(2)
    flow.verifier.check(flow.user(2), flow.code(challenge))


def prove_by_claim(flow: Flow) -> None:
    challenge = flow.sign_up(MOBILE)
    token = flow.verifier.proof_token(flow.check(challenge, flow.code(challenge)))
    flow.verifier.claim(token, flow.user(2), purpose="sign-up")
    db.session.commit()


@pytest.mark.parametrize("database", database_params("postgresql", "mariadb"), indirect=True)
@pytest.mark.parametrize(
    ("prove", "end"),
    [
        (prove_by_code, "revoked"),
        (prove_by_code, "moved"),
        (prove_by_code, "erased"),
        (prove_by_claim, "revoked"),
        (prove_by_claim, "moved"),
    ],
)
def test_a_proof_does_not_count_a_holder_whose_proof_ends_in_a_parallel_transaction(
    make_flow: MakeFlow,
    database: str,
    prove: Callable[[Flow], None],
    end: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Case 31. It waits for that transaction, and then uses the committed row."""
    flow = make_flow(database, users=2)
    for number in (1, 2):
        flow.set_mobile(number, MOBILE)
    flow.prove(1)
    flow.clock.advance(3600)
    db.session.remove()
    engine = flow.state.ledger.engine
    row = Verification.user_id == "1"
    change: Any = {
        "revoked": update(Verification).where(row).values(revoked_at=flow.clock()),
        "moved": update(Verification).where(row).values(mobile="+989120000001"),
        "erased": delete(Verification).where(row),
    }[end]
    prepared, changed = threading.Event(), threading.Event()
    prepare = Ownership.prepare
    outcomes: list[str] = []

    def prepare_before_the_change(*args: Any) -> Claimant:
        claimant = prepare(*args)
        prepared.set()
        changed.wait(60)
        return claimant

    def run() -> None:
        with flow.app.app_context():
            outcomes.append(outcome(lambda: prove(flow)))
            db.session.remove()

    monkeypatch.setattr(Ownership, "prepare", prepare_before_the_change)
    thread = threading.Thread(target=run)
    thread.start()
    with engine.begin() as connection:
        wait_until(lambda: bool(outcomes) or prepared.is_set())
        connection.execute(change)
        changed.set()
        wait_until(lambda: bool(outcomes) or is_waiting(engine))
    thread.join(60)
    assert outcomes == ["ok"]
    assert flow.state_of(2) == "verified"
    assert flow.holders(MOBILE) == 1


def test_a_new_mobile_is_held_before_the_host_writes_it(flow: Flow) -> None:
    """Case 31: the second proof comes between the first proof and the host's commit."""
    flow.prove(1, mobile=MOBILE)
    with pytest.raises(MobileTaken):
        flow.prove(2, mobile=MOBILE)
    flow.set_mobile(1, MOBILE)
    assert flow.verifier.status(flow.user(1)).state == "verified"


def test_a_mobile_that_the_host_never_wrote_is_free_after_a_minute(flow: Flow) -> None:
    flow.prove(1, mobile=MOBILE)
    flow.clock.advance(59.9)
    with pytest.raises(MobileTaken):
        flow.prove(2, mobile=MOBILE)
    flow.clock.advance(0.1)
    assert flow.prove(3, mobile=MOBILE).mobile == MOBILE


def test_a_new_mobile_is_free_at_once_if_the_host_writes_another_one(flow: Flow) -> None:
    """Also if the account asks for the new mobile again."""
    flow.prove(1, mobile=MOBILE)
    flow.set_mobile(1, "09120000009")
    flow.clock.advance(31)
    flow.start(1, mobile=MOBILE)
    assert flow.prove(2, mobile=MOBILE).mobile == MOBILE


def test_a_transfer_takes_a_mobile_from_its_oldest_holder_alone(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(
        sqlite, users=3, SMSVERIFY_MOBILE_POLICY="transfer", SMSVERIFY_ACCOUNTS_PER_MOBILE=2
    )
    for number in (2, 1, 3):
        flow.set_mobile(number, MOBILE)
        flow.prove(number)
        flow.clock.advance(3600)
    assert [flow.state_of(number) for number in (1, 2, 3)] == [
        "verified",
        "unverified",
        "verified",
    ]


def test_any_number_of_accounts_may_hold_a_mobile_without_a_limit(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, users=3, SMSVERIFY_ACCOUNTS_PER_MOBILE=0)
    for number in (1, 2, 3):
        flow.set_mobile(number, MOBILE)
        flow.prove(number)
    assert flow.holders(MOBILE) == 3


def test_an_account_does_not_hold_its_previous_mobile(flow: Flow) -> None:
    flow.set_mobile(2, "09123450001")
    flow.prove(1)
    flow.set_mobile(1, "09120000009")
    assert flow.prove(2).mobile == "+989123450001"


def test_an_account_that_returns_to_a_mobile_proved_by_another_is_unverified(flow: Flow) -> None:
    flow.set_mobile(2, "09123450001")
    flow.prove(1)
    flow.set_mobile(1, "09120000009")
    flow.prove(2)
    flow.set_mobile(1, "09123450001")
    assert flow.verifier.status(flow.user(1)).state == "unverified"
    assert flow.verifier.status(flow.user(2)).state == "verified"


def test_an_expired_proof_does_not_hold_its_mobile(flow: Flow) -> None:
    flow.set_mobile(2, "09123450001")
    flow.prove(1)
    flow.clock.advance(90 * 86_400)
    assert flow.prove(2).mobile == "+989123450001"


def test_a_deleted_user_does_not_hold_a_mobile(flow: Flow) -> None:
    flow.prove(1)
    db.session.delete(flow.user(1))
    db.session.commit()
    flow.set_mobile(2, "09123450001")
    assert flow.prove(2).mobile == "+989123450001"


def test_the_hosts_users_are_not_read_during_a_ledger_transaction(
    make_flow: MakeFlow, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To wait for a connection of the host inside a ledger transaction could deadlock."""
    flow = make_flow(database, users=2)
    flow.prove(1)
    flow.set_mobile(2, "09123450001")
    challenge = flow.start(2)
    read_inside = []
    find, run = flow.state.users.find, flow.state.ledger._run
    depth = []

    def transact(work: object, *, read_only: bool) -> object:
        depth.append(read_only)
        try:
            return run(work, read_only=read_only)
        finally:
            depth.pop()

    def find_user(user_id: str) -> object:
        read_inside.append(bool(depth))
        return find(user_id)

    monkeypatch.setattr(flow.state.ledger, "_run", transact)
    monkeypatch.setattr(flow.state.users, "find", find_user)
    assert outcome(lambda: flow.check(challenge, flow.code(challenge))) == "MobileTaken"
    assert read_inside
    assert not any(read_inside)


def test_a_changed_mobile_is_unverified_at_once(flow: Flow) -> None:
    """Case 32."""
    flow.prove(1)
    assert flow.verifier.status(flow.user()).state == "verified"
    flow.set_mobile(1, "09120000009")
    assert flow.verifier.status(flow.user()).state == "unverified"
    flow.set_mobile(1, None)
    assert flow.verifier.status(flow.user()).state == "unverified"


def test_a_code_is_void_after_the_mobile_changes(flow: Flow) -> None:
    """Case 34."""
    challenge = flow.start()
    flow.set_mobile(1, "09120000009")
    with pytest.raises(CodeExpired):
        flow.verifier.check(flow.user(), flow.code(challenge))
    with pytest.raises(CodeExpired):
        flow.check(challenge, flow.code(challenge))
    assert flow.verifier.load(challenge.id).attempts == 0
    assert flow.verifier.status(flow.user()).state == "unverified"
    flow.clock.advance(31)
    with pytest.raises(NoChallenge):
        flow.verifier.resend(challenge)
    assert len(flow.memory.messages) == 1
    again = flow.start()
    assert again.mobile == "+989120000009"
    assert flow.verifier.load(challenge.id).state == Challenge.SUPERSEDED
    assert flow.check(again, flow.code(again)).mobile == "+989120000009"


def test_the_code_for_a_new_mobile_is_void_after_the_mobile_changes_otherwise(flow: Flow) -> None:
    """Case 34. A new request for the same mobile gives a challenge that can be verified."""
    challenge = flow.start(mobile=MOBILE)
    flow.set_mobile(1, "09120000009")
    with pytest.raises(CodeExpired):
        flow.check(challenge, flow.code(challenge))
    flow.clock.advance(31)
    again = flow.start(mobile=MOBILE)
    assert again.id != challenge.id
    assert flow.check(again, flow.code(again)).mobile == MOBILE


def test_a_proof_expires_exactly_after_90_days(make_flow: MakeFlow, database: str) -> None:
    """Case 35: to the microsecond."""
    flow = make_flow(database)
    proved = flow.prove().verified_at
    state = flow.state.policy.status
    row = flow.verification()
    for age, expected in [
        (timedelta(days=90) - timedelta(microseconds=1), "verified"),
        (timedelta(days=90), "expired"),
        (timedelta(days=91), "expired"),
        (timedelta(minutes=-1), "verified"),
        (timedelta(minutes=-1, microseconds=-1), "expired"),
        (timedelta(days=-30), "expired"),
    ]:
        assert state(row, "+989123450001", proved + age).state == expected, age


def test_a_delivery_report_does_not_verify_a_mobile(flow: Flow) -> None:
    """Case 58."""
    flow.start()
    delivered = update(Message).values(state="delivered")
    flow.state.ledger.run(lambda session: session.execute(delivered))
    assert flow.verifier.status(flow.user()).state == "pending"
    assert flow.verification().verified_at is None


def test_another_mobile_supersedes_the_challenge_and_keeps_the_cooldown(flow: Flow) -> None:
    first = flow.start()
    with pytest.raises(TooSoon):
        flow.start(mobile=MOBILE)
    assert flow.verifier.load(first.id).state == Challenge.PENDING
    flow.clock.advance(31)
    flow.start(mobile=MOBILE)
    assert flow.verifier.load(first.id).state == Challenge.SUPERSEDED


def test_a_resend_in_the_last_minute_starts_a_new_challenge(flow: Flow) -> None:
    challenge = flow.start()
    flow.clock.advance(540)
    assert flow.verifier.resend(challenge).id == challenge.id
    flow.clock.advance(59)
    with pytest.raises(TooSoon):
        flow.verifier.resend(challenge)
    flow.clock.advance(2)
    again = flow.verifier.resend(challenge)
    assert again.id != challenge.id
    assert flow.verifier.load(challenge.id).state == Challenge.EXPIRED
    flow.clock.advance(541)
    third = flow.verifier.resend(again)
    assert third.id != again.id
    assert flow.verifier.load(again.id).state == Challenge.SUPERSEDED
    again = third
    assert flow.check(again, flow.memory.last.code).verified_at


def test_a_revocation_closes_the_open_challenge(flow: Flow) -> None:
    flow.prove()
    challenge = flow.start()
    flow.verifier.revoke(flow.user(), by="staff")
    with pytest.raises(NoChallenge):
        flow.check(challenge, flow.code(challenge))
    with pytest.raises(NoChallenge):
        flow.verifier.resend(challenge)
    assert flow.verifier.status(flow.user()).state == "unverified"
    flow.clock.advance(31)
    assert flow.prove().revoked_at is None


def test_forgetting_a_user_erases_everything_but_usage(flow: Flow) -> None:
    flow.prove()
    challenge = flow.start()
    flow.verifier.forget(flow.user())
    assert flow.verification() is None
    assert outcome(lambda: flow.verifier.load(challenge.id)) == "NoChallenge"
    assert outcome(lambda: flow.verifier.resend(challenge)) == "NoChallenge"
    assert flow.used("mobile", "+989123450001") == 2


def test_users_whose_keys_differ_by_an_accent_or_by_case_are_different_users(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, user_model=TextUser)
    keys = ["aB3", "ab3", "áb3"]
    db.session.add_all(TextUser(id=key, mobile=f"091200000{at:02}") for at, key in enumerate(keys))
    db.session.commit()
    first, second, third = (db.session.get(TextUser, key) for key in keys)
    challenge = flow.verifier.start(first)
    assert flow.check(challenge, flow.code(challenge)).user_id == "aB3"
    assert flow.verifier.status(first).state == "verified"
    assert flow.verifier.status(second).state == "unverified"
    assert flow.verifier.status(third).state == "unverified"
    for user in (second, third):
        challenge = flow.verifier.start(user)
        flow.check(challenge, flow.code(challenge))
    assert {flow.verifier.status(user).state for user in (first, second, third)} == {"verified"}


def test_users_can_have_uuid_keys(make_flow: MakeFlow, database: str) -> None:
    flow = make_flow(database, user_model=UuidUser)
    user = UuidUser(id=uuid.uuid4(), mobile="09120000000")
    db.session.add(user)
    db.session.commit()
    challenge = flow.verifier.start(user)
    assert flow.check(challenge, flow.code(challenge)).user_id == str(user.id)
    assert flow.state.users.find(str(user.id)) is user
    assert flow.state.users.find("not a uuid") is None


def test_apps_in_one_process_are_independent(make_flow: MakeFlow, tmp_path: object) -> None:
    one = make_flow(f"sqlite:///{tmp_path}/one.sqlite")
    challenge = one.start()
    code = one.code(challenge)
    two = make_flow(f"sqlite:///{tmp_path}/two.sqlite", SECRET_KEY="another")
    with two.app.app_context():
        assert two.start().id != challenge.id
        assert outcome(lambda: two.check(challenge, code)) == "NoChallenge"
    with one.app.app_context():
        assert one.check(challenge, code).mobile == "+989123450001"
    assert one.state.verifier is not two.state.verifier


def test_apps_with_one_database_share_limits_and_challenges(
    make_flow: MakeFlow, database: str
) -> None:
    one = make_flow(database)
    challenge = one.start()
    app = create_app(database)
    try:
        with app.app_context():
            two = Flow(app, one.clock)
            assert two.verifier.load(challenge.id).mobile == challenge.mobile
            assert outcome(lambda: two.verifier.start(db.session.get(User, 1))) == "TooSoon"
    finally:
        app.extensions["smsverify"].close()
        with app.app_context():
            db.engine.dispose()


@pytest.fixture(params=["Europe/Berlin", "America/New_York"])
def summer_time(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run the process and its connections in a time zone with daylight saving time."""
    for name in ("TZ", "PGTZ"):
        monkeypatch.setenv(name, request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("summer_time")
@pytest.mark.parametrize("month", [1, 9], ids=["to summer time", "to winter time"])
def test_daylight_saving_time_does_not_change_the_90_days(
    make_flow: MakeFlow, database: str, month: int
) -> None:
    """Case 35."""
    flow = make_flow(database)
    flow.clock.now = datetime(2026, month, 20, 1, 30, tzinfo=UTC)
    flow.prove()
    for seconds, state in [(90 * 86_400 - 1, "verified"), (1, "expired"), (3600, "expired")]:
        flow.clock.advance(seconds)
        assert flow.verifier.status(flow.user()).state == state


class Guid(TypeDecorator[str]):
    """A custom key type whose Python type SQLAlchemy cannot determine."""

    impl = String(36)
    cache_ok = True

    @property
    def python_type(self) -> type[Any]:
        return object


@pytest.mark.parametrize(
    ("kind", "keys"), [(Guid, ("one", "two")), (LargeBinary(16), (b"\x01" * 16, b"\x02" * 16))]
)
def test_users_can_have_keys_of_custom_and_binary_types(
    sqlite: str, kind: Any, keys: tuple[Any, Any]
) -> None:
    own = SQLAlchemy()  # keeps these models out of the tables of other tests

    class Member(UserMixin, own.Model):  # type: ignore[misc,name-defined]  # Flask-SQLAlchemy's base is dynamic
        id = own.Column(kind, primary_key=True)
        mobile = own.Column(own.String(32))

    app = create_app(sqlite, Member, database=own)
    verifier = app.extensions["smsverify"].verifier
    with app.app_context():
        own.create_all()
    with app.app_context(), outbox(app) as box:
        own.session.add_all(Member(id=key, mobile="09123450001") for key in keys)
        own.session.commit()
        first, second = (own.session.get(Member, key) for key in keys)
        challenge = verifier.start(first)
        assert verifier.check(challenge, box.last.code).verified_at
        challenge = verifier.start(second)
        with pytest.raises(MobileTaken):
            verifier.check(challenge, box.last.code)
        assert verifier.status(first).state == "verified"
        own.session.remove()
        own.engine.dispose()
    app.extensions["smsverify"].close()
