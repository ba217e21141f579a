"""Who holds which mobile: cases 31 to 35 and 58 of docs/safety.md."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from flows import NO_LIMITS, Flow
from hostapp import TextUser, User, UuidUser, create_app, db
from parallel import PROCESSES, Crowd, guess, outcome, race
from sqlalchemy import update

from flask_smsverify.db.models import Challenge, Message
from flask_smsverify.errors import CodeExpired, MobileTaken, NoChallenge, TooSoon

MakeFlow = Callable[..., Flow]
MOBILE = "+989120000000"


def holders(flow: Flow, mobile: str) -> int:
    rows = [flow.verification(number) for number in range(1, 9)]
    return sum(1 for row in rows if row and row.mobile == mobile and not row.revoked_at)


def _proving(flow: Flow, open_ones: list[Challenge]) -> Callable[[int], None]:
    """Each thread enters the right code of its own challenge."""
    pairs = [(challenge.id, flow.code(challenge)) for challenge in open_ones]
    return lambda at: guess(flow.app, *pairs[at])


@pytest.mark.race
@pytest.mark.parametrize("limit", [1, 3])
def test_of_8_accounts_that_prove_one_mobile_at_once_the_limit_holds_it(
    make_flow: MakeFlow, database: str, limit: int
) -> None:
    """Case 31, with threads; each is changing its number, so the host has not written it yet."""
    flow = make_flow(
        database, users=8, SMSVERIFY_LIMITS=NO_LIMITS, SMSVERIFY_ACCOUNTS_PER_MOBILE=limit
    )
    open_ones = [flow.start(number, mobile=MOBILE) for number in range(1, 9)]
    ends = race(8, _proving(flow, open_ones))
    assert ends == {"ok": limit, "MobileTaken": 8 - limit}
    assert holders(flow, MOBILE) == limit


@pytest.mark.race
def test_of_accounts_in_several_processes_one_proves_the_mobile(
    make_flow: MakeFlow, database: str, crowd: Crowd
) -> None:
    """Case 31, with processes; each account has the number already."""
    config = {"SMSVERIFY_LIMITS": NO_LIMITS}
    flow = make_flow(database, users=2 * PROCESSES, **config)
    for number in range(1, 2 * PROCESSES + 1):
        flow.move(number, MOBILE)
    open_ones = [flow.start(number) for number in range(1, 2 * PROCESSES + 1)]
    pairs = [(challenge.id, flow.code(challenge)) for challenge in open_ones]
    ends = crowd.race(database, config, "guess", pairs, threads=2)
    assert ends == {"ok": 1, "MobileTaken": 2 * PROCESSES - 1}


@pytest.mark.race
def test_of_8_transfers_at_once_the_last_one_holds(make_flow: MakeFlow, database: str) -> None:
    """Case 31, with `transfer`: everybody succeeds, and one has it in the end."""
    flow = make_flow(
        database, users=8, SMSVERIFY_LIMITS=NO_LIMITS, SMSVERIFY_MOBILE_POLICY="transfer"
    )
    open_ones = [flow.start(number, mobile=MOBILE) for number in range(1, 9)]
    ends = race(8, _proving(flow, open_ones))
    assert ends == {"ok": 8}
    assert holders(flow, MOBILE) == 1


@pytest.mark.race
def test_two_accounts_that_swap_their_mobiles_at_once_both_keep_the_new_one(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 31: a transfer takes back the proof of the mobile, not a newer one of another."""
    flow = make_flow(
        database, users=2, SMSVERIFY_LIMITS=NO_LIMITS, SMSVERIFY_MOBILE_POLICY="transfer"
    )
    one, two = "+989120000001", "+989120000002"
    flow.prove(1, mobile=one)
    flow.prove(2, mobile=two)
    flow.move(1, one)
    flow.move(2, two)
    flow.clock.advance(3600)
    open_ones = [flow.start(1, mobile=two), flow.start(2, mobile=one)]
    ends = race(2, _proving(flow, open_ones))
    assert ends == {"ok": 2}
    for number, mobile in ((1, two), (2, one)):
        row = flow.verification(number)
        assert (row.mobile, row.revoked_at) == (mobile, None)


def test_a_number_that_is_being_changed_is_held_before_the_host_writes_it(flow: Flow) -> None:
    """Case 31: the second prover comes between the first one's proof and its page's commit."""
    flow.prove(1, mobile=MOBILE)
    with pytest.raises(MobileTaken):
        flow.prove(2, mobile=MOBILE)
    flow.move(1, MOBILE)
    assert flow.verifier.status(flow.user(1)).state == "verified"


def test_a_number_that_the_host_never_wrote_is_free_after_a_minute(flow: Flow) -> None:
    flow.prove(1, mobile=MOBILE)
    flow.clock.advance(61)
    assert flow.prove(2, mobile=MOBILE).mobile == MOBILE


def test_an_account_that_moved_on_holds_its_mobile_against_nobody(flow: Flow) -> None:
    flow.move(2, "09123450001")
    flow.prove(1)
    flow.move(1, "09120000009")
    assert flow.prove(2).mobile == "+989123450001"


def test_an_account_that_moved_on_does_not_come_back_by_moving_back(flow: Flow) -> None:
    flow.move(2, "09123450001")
    flow.prove(1)
    flow.move(1, "09120000009")
    flow.prove(2)
    flow.move(1, "09123450001")
    assert flow.verifier.status(flow.user(1)).state == "unverified"
    assert flow.verifier.status(flow.user(2)).state == "verified"


def test_a_proof_that_aged_out_holds_a_mobile_against_nobody(flow: Flow) -> None:
    flow.move(2, "09123450001")
    flow.prove(1)
    flow.clock.advance(90 * 86_400)
    assert flow.prove(2).mobile == "+989123450001"


def test_a_deleted_user_holds_a_mobile_against_nobody(flow: Flow) -> None:
    flow.prove(1)
    db.session.delete(flow.user(1))
    db.session.commit()
    flow.move(2, "09123450001")
    assert flow.prove(2).mobile == "+989123450001"


def test_the_host_is_asked_while_no_lock_of_ours_is_held(
    make_flow: MakeFlow, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connections are not ours: to wait for one inside our transaction could wait for ever."""
    flow = make_flow(database, users=2)
    flow.prove(1)
    flow.move(2, "09123450001")
    challenge = flow.start(2)
    inside = []
    find, run = flow.state.users.find, flow.state.ledger._transact
    depth = []

    def transact(work: object, *, read_only: bool) -> object:
        depth.append(read_only)
        try:
            return run(work, read_only=read_only)
        finally:
            depth.pop()

    def found(user_id: str) -> object:
        inside.append(bool(depth))
        return find(user_id)

    monkeypatch.setattr(flow.state.ledger, "_transact", transact)
    monkeypatch.setattr(flow.state.users, "find", found)
    assert outcome(lambda: flow.check(challenge, flow.code(challenge))) == "MobileTaken"
    assert inside
    assert not any(inside)


def test_who_changes_the_mobile_is_unverified_at_once(flow: Flow) -> None:
    """Case 32."""
    flow.prove(1)
    assert flow.verifier.status(flow.user()).state == "verified"
    flow.move(1, "09120000009")
    assert flow.verifier.status(flow.user()).state == "unverified"
    flow.move(1, None)
    assert flow.verifier.status(flow.user()).state == "unverified"


def test_a_code_is_void_once_the_mobile_changes(flow: Flow) -> None:
    """Case 34."""
    challenge = flow.start()
    flow.move(1, "09120000009")
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


def test_a_change_of_number_is_void_too_once_the_mobile_changes_otherwise(flow: Flow) -> None:
    """Case 34: and asking again for the same number gives a challenge that can be met."""
    challenge = flow.start(mobile=MOBILE)
    flow.move(1, "09120000009")
    with pytest.raises(CodeExpired):
        flow.check(challenge, flow.code(challenge))
    flow.clock.advance(31)
    again = flow.start(mobile=MOBILE)
    assert again.id != challenge.id
    assert flow.check(again, flow.code(again)).mobile == MOBILE


def test_day_89_counts_and_day_90_does_not(make_flow: MakeFlow, database: str) -> None:
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


def test_a_delivery_report_proves_nothing(flow: Flow) -> None:
    """Case 58."""
    flow.start()
    delivered = update(Message).values(state="delivered")
    flow.state.ledger.run(lambda session: session.execute(delivered))
    assert flow.verifier.status(flow.user()).state == "pending"
    assert flow.verification().verified_at is None


# --- superseding, superseded, taken back ----------------------------------------------------------


def test_another_mobile_supersedes_and_does_not_shorten_the_pause(flow: Flow) -> None:
    first = flow.start()
    with pytest.raises(TooSoon):
        flow.start(mobile=MOBILE)
    assert flow.verifier.load(first.id).state == Challenge.PENDING
    flow.clock.advance(31)
    flow.start(mobile=MOBILE)
    assert flow.verifier.load(first.id).state == Challenge.SUPERSEDED


def test_with_under_a_minute_left_a_resend_is_a_new_challenge(flow: Flow) -> None:
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


def test_revoking_closes_what_is_open(flow: Flow) -> None:
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


def test_forgetting_leaves_nothing_but_budgets(flow: Flow) -> None:
    flow.prove()
    open_one = flow.start()
    flow.verifier.forget(flow.user())
    assert flow.verification() is None
    assert outcome(lambda: flow.verifier.load(open_one.id)) == "NoChallenge"
    assert flow.used("mobile", "+989123450001") == 2


# --- keys of users --------------------------------------------------------------------------------


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


def test_users_may_have_uuids(make_flow: MakeFlow, database: str) -> None:
    flow = make_flow(database, user_model=UuidUser)
    user = UuidUser(id=uuid.uuid4(), mobile="09120000000")
    db.session.add(user)
    db.session.commit()
    challenge = flow.verifier.start(user)
    assert flow.check(challenge, flow.code(challenge)).user_id == str(user.id)
    assert flow.state.users.find(str(user.id)) is user
    assert flow.state.users.find("not a uuid") is None


def test_several_apps_in_one_process_know_nothing_of_each_other(
    make_flow: MakeFlow, tmp_path: object
) -> None:
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


def test_two_apps_over_one_database_share_budgets_and_challenges(
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


@pytest.mark.race
def test_of_6_sign_ups_that_claim_one_mobile_at_once_one_gets_it(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 31: in the host's own transactions, which on MariaDB do not see what came since."""
    flow = make_flow(database, users=6, SMSVERIFY_LIMITS=NO_LIMITS, SMSVERIFY_RESEND_DELAYS=(1,))
    tokens = []
    for _ in range(6):
        challenge = flow.verifier.start_for(MOBILE, purpose="sign-up")
        flow.state.workers.wait()
        proof = flow.check(challenge, flow.code(challenge))
        tokens.append(flow.verifier.proof_token(proof))
    db.session.remove()
    all_have_looked = Barrier(6)

    def claim(at: int) -> None:
        with flow.app.app_context():
            user = flow.user(at + 1)
            all_have_looked.wait(30)
            flow.verifier.claim(tokens[at], user, purpose="sign-up")
            db.session.commit()

    ends = race(6, claim)
    assert ends == {"ok": 1, "MobileTaken": 5}
    assert holders(flow, MOBILE) == 1


@pytest.fixture(params=["Europe/Berlin", "America/New_York"])
def summer_time(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process, and the connections that ask it, in a zone whose clocks are changed."""
    for name in ("TZ", "PGTZ"):
        monkeypatch.setenv(name, request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("summer_time")
@pytest.mark.parametrize("month", [1, 9], ids=["into summer", "out of it"])
def test_90_days_are_90_times_24_hours_though_the_clocks_are_changed_meanwhile(
    make_flow: MakeFlow, database: str, month: int
) -> None:
    """Case 35: an hour lost or won on the way makes a proof live neither longer nor shorter."""
    flow = make_flow(database)
    flow.clock.now = datetime(2026, month, 20, 1, 30, tzinfo=UTC)
    flow.prove()
    for seconds, state in [(90 * 86_400 - 1, "verified"), (1, "expired"), (3600, "expired")]:
        flow.clock.advance(seconds)
        assert flow.verifier.status(flow.user()).state == state
