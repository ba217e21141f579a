"""Claims of proof tokens: in the host's transaction, by one account, announced after its commit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from conftest import database_params
from flask_login import UserMixin
from flask_sqlalchemy import SQLAlchemy
from flows import NO_LIMITS, Flow, Native
from hostapp import User, create_app, db
from parallel import outcome, race, send_to, wait_until
from sqlalchemy import String

from flask_smsverify import signals
from flask_smsverify.db.locks import Locks
from flask_smsverify.errors import AccountLocked, InvalidToken, MobileTaken, WrongCode
from flask_smsverify.keyring import Keyring
from flask_smsverify.senders.memory import Memory
from flask_smsverify.testing import outbox
from flask_smsverify.users import HostUsers

MakeFlow = Callable[..., Flow]
MOBILE = "+989120000000"


@pytest.mark.race
def test_of_6_parallel_claims_of_one_mobile_exactly_one_succeeds(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 31: in the host's transactions, which on MariaDB do not see later commits."""
    flow = make_flow(database, users=6, SMSVERIFY_LIMITS=NO_LIMITS, SMSVERIFY_RESEND_DELAYS=(1,))
    tokens = []
    for _ in range(6):
        challenge = flow.sign_up(MOBILE)
        proof = flow.check(challenge, flow.code(challenge))
        tokens.append(flow.verifier.proof_token(proof))
    db.session.remove()
    all_have_read = Barrier(6)

    def claim(at: int) -> None:
        with flow.app.app_context():
            user = flow.user(at + 1)
            all_have_read.wait(60)
            flow.verifier.claim(tokens[at], user, purpose="sign-up")
            db.session.commit()

    outcomes = race(6, claim)
    assert outcomes == {"ok": 1, "MobileTaken": 5}
    assert flow.holders(MOBILE) == 1


def token_for(flow: Flow, mobile: str) -> str:
    challenge = flow.sign_up(mobile)
    return str(flow.verifier.proof_token(flow.check(challenge, flow.code(challenge))))


def test_a_claim_is_announced_after_the_hosts_commit_and_not_after_a_rollback(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, users=1, SMSVERIFY_MOBILE_POLICY="transfer")
    flow.prove(1)
    token = token_for(flow, "+989123450001")
    announced: list[str] = []

    def receive(_app: Any, **values: Any) -> None:
        announced.append(values["user_id"])

    with signals.mobile_verified.connected_to(receive, flow.app):
        for _ in range(3):
            newcomer = User()
            db.session.add(newcomer)
            flow.verifier.claim(token, newcomer, purpose="sign-up")
            db.session.rollback()
        flow.state.workers.wait()
        assert announced == []
        assert all(message.code for message in flow.memory.messages)
        assert flow.state_of(1) == "verified"
        newcomer = User()
        db.session.add(newcomer)
        flow.verifier.claim(token, newcomer, purpose="sign-up")
        with db.session.begin_nested():
            db.session.add(User())
        assert announced == [], "the release of a savepoint is not a commit"
        db.session.commit()
    assert announced == [str(newcomer.id)]
    flow.state.workers.wait()
    assert not flow.memory.last.code


@pytest.mark.parametrize("channel", ["sms", "voice"])
def test_a_claimed_proof_keeps_the_channel_and_the_sender_of_its_code(
    make_flow: MakeFlow, database: str, channel: str
) -> None:
    flow = make_flow(database)
    flow.route(Memory(name="first"), Memory(name="second"), sms=["first"], voice=["second"])
    challenge = flow.sign_up(MOBILE, channel=channel)
    token = flow.verifier.proof_token(flow.check(challenge, flow.code(challenge)))
    announced: list[dict[str, Any]] = []

    def receive(_app: Any, **values: Any) -> None:
        announced.append(values)

    with signals.mobile_verified.connected_to(receive, flow.app):
        flow.verifier.claim(token, flow.user(), purpose="sign-up")
        db.session.commit()
    verification = flow.verification()
    assert verification is not None
    sender = "first" if channel == "sms" else "second"
    assert (verification.channel, verification.sender) == (channel, sender)
    assert [values["channel"] for values in announced] == [channel]


def test_a_native_code_that_is_claimed_keeps_its_sender(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite)
    native = Native(also_own=False)
    flow.route(native)
    challenge = flow.sign_up(MOBILE)
    token = flow.verifier.proof_token(flow.check(challenge, native.sent[-1][1]))
    verification = flow.verifier.claim(token, flow.user(), purpose="sign-up")
    db.session.commit()
    assert (verification.channel, verification.sender) == ("sms", "native")


def test_a_proof_can_be_claimed_after_its_challenge_was_erased(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """`forget` erases the challenges about a mobile that its user had proved."""
    flow = make_flow(sqlite, users=2)
    flow.set_mobile(2, MOBILE)
    flow.prove(2)
    token = token_for(flow, MOBILE)
    flow.verifier.forget(flow.user(2))
    verification = flow.verifier.claim(token, flow.user(1), purpose="sign-up")
    db.session.commit()
    assert (verification.channel, verification.sender) == (None, None)
    assert flow.state_of(1) == "verified"


def test_a_proof_without_an_account_is_announced_again_when_it_is_claimed(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite)
    announced: list[str | None] = []

    def receive(_app: Any, **values: Any) -> None:
        announced.append(values["user_id"])

    with signals.mobile_verified.connected_to(receive, flow.app):
        token = token_for(flow, MOBILE)
        flow.verifier.claim(token, flow.user(), purpose="sign-up")
        db.session.commit()
    assert announced == [None, "1"]


def test_a_claim_is_not_announced_after_its_session_was_closed(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, users=2)
    token = token_for(flow, "09129990000")
    announced: list[str] = []

    def receive(_app: Any, **values: Any) -> None:
        announced.append(values["user_id"])

    with signals.mobile_verified.connected_to(receive, flow.app):
        flow.verifier.claim(token, flow.user(1), purpose="sign-up")
        db.session.close()
        flow.user(2).note = "unrelated"
        db.session.commit()
    assert announced == []
    assert flow.state_of(1) == "unverified"


def test_a_refused_claim_does_not_change_the_user(make_flow: MakeFlow, sqlite: str) -> None:
    """Also if the host commits afterwards."""
    flow = make_flow(sqlite, users=2)
    flow.prove(1)
    flow.prove(2)
    flow.clock.advance(3600)
    token = token_for(flow, "09123450001")
    with pytest.raises(MobileTaken):
        flow.verifier.claim(token, flow.user(2), purpose="sign-up")
    flow.user(1).note = "unrelated"
    db.session.commit()
    assert flow.user(2).mobile == "09123450002"
    assert flow.state_of(2) == "verified"


def test_the_age_of_a_claimed_proof_counts_from_the_right_code(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database)
    token = token_for(flow, "09129990000")
    proved = flow.clock.now
    flow.clock.advance(599)
    verification = flow.verifier.claim(token, flow.user(), purpose="sign-up")
    db.session.commit()
    assert abs(verification.verified_at - proved) < timedelta(milliseconds=1)
    status = flow.verifier.status(flow.user())
    decision = flow.state.policy.decide(
        status, flow.clock.now, area=None, within=timedelta(minutes=1)
    )
    assert decision.reason == "too_old"


@pytest.mark.parametrize("seen", ["no user", "the mobile before"])
def test_a_claimed_mobile_is_held_even_if_its_user_is_not_visible_yet(
    make_flow: MakeFlow, sqlite: str, monkeypatch: pytest.MonkeyPatch, seen: str
) -> None:
    """A host transaction that began before the claim sees neither the user nor the mobile."""
    flow = make_flow(sqlite, users=2)
    before = User(id=1, mobile=flow.user(1).mobile) if seen == "the mobile before" else None
    flow.prove(1)
    flow.clock.advance(3600)
    token = token_for(flow, "09129990000")
    flow.clock.advance(599)
    flow.verifier.claim(token, flow.user(1), purpose="sign-up")
    db.session.commit()
    challenge = flow.start(2, mobile="09129990000")
    find = HostUsers.find
    monkeypatch.setattr(
        HostUsers, "find", lambda users, key: before if key == "1" else find(users, key)
    )
    with pytest.raises(MobileTaken):
        flow.verifier.check(flow.user(2), flow.code(challenge))


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_token_that_is_not_newer_than_a_revocation_cannot_be_claimed(
    make_flow: MakeFlow, sqlite: str, seconds: int
) -> None:
    flow = make_flow(sqlite)
    flow.prove()
    flow.clock.advance(3600)
    token = token_for(flow, "09123450001")
    flow.clock.advance(seconds)
    flow.verifier.revoke(flow.user(), by="staff")
    with pytest.raises(InvalidToken, match="revoked after this proof"):
        flow.verifier.claim(token, flow.user(), purpose="sign-up")
    db.session.rollback()
    assert flow.state_of(1) == "unverified"


def test_a_proof_after_a_revocation_can_be_claimed(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite)
    flow.prove()
    flow.clock.advance(3600)
    flow.verifier.revoke(flow.user(), by="staff")
    flow.clock.advance(1)
    token = token_for(flow, "09123450001")
    flow.verifier.claim(token, flow.user(), purpose="sign-up")
    db.session.commit()
    assert flow.state_of(1) == "verified"


@pytest.mark.parametrize("policy", ["refuse", "transfer"])
def test_two_claims_of_one_mobile_in_one_transaction_leave_one_holder(
    make_flow: MakeFlow, database: str, policy: str
) -> None:
    """Case 31. No other connection sees the first claim."""
    flow = make_flow(database, users=2, SMSVERIFY_MOBILE_POLICY=policy)
    first = token_for(flow, MOBILE)
    flow.clock.advance(300)
    second = token_for(flow, MOBILE)
    flow.verifier.claim(first, flow.user(1), purpose="sign-up")
    if policy == "refuse":
        with pytest.raises(MobileTaken):
            flow.verifier.claim(second, flow.user(2), purpose="sign-up")
    else:
        flow.verifier.claim(second, flow.user(2), purpose="sign-up")
    db.session.commit()
    states = ["verified", "unverified"]
    assert [flow.state_of(1), flow.state_of(2)] == (states if policy == "refuse" else states[::-1])


def test_a_mobile_passes_from_one_account_to_another_in_one_transaction(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, users=2)
    flow.prove(1)
    flow.clock.advance(3600)
    own, other = token_for(flow, "+989123450001"), token_for(flow, MOBILE)
    flow.verifier.claim(other, flow.user(1), purpose="sign-up")
    flow.verifier.claim(own, flow.user(2), purpose="sign-up")
    db.session.commit()
    assert [flow.state_of(1), flow.state_of(2)] == ["verified", "verified"]
    assert flow.user(2).mobile == "+989123450001"


def test_a_claim_takes_a_mobile_from_its_oldest_holder(make_flow: MakeFlow, database: str) -> None:
    """Also if that one has claimed an older proof in the same transaction."""
    flow = make_flow(
        database, users=3, SMSVERIFY_MOBILE_POLICY="transfer", SMSVERIFY_ACCOUNTS_PER_MOBILE=2
    )
    old = token_for(flow, MOBILE)
    flow.clock.advance(240)
    flow.set_mobile(2, MOBILE)
    flow.prove(2)
    flow.clock.advance(240)
    new = token_for(flow, MOBILE)
    flow.verifier.claim(old, flow.user(1), purpose="sign-up")
    flow.verifier.claim(new, flow.user(3), purpose="sign-up")
    db.session.commit()
    assert [flow.state_of(number) for number in (1, 2, 3)] == [
        "unverified",
        "verified",
        "verified",
    ]


def by_code(flow: Flow, challenge_id: str, code: str) -> None:
    flow.verifier.check(flow.verifier.load(challenge_id), code)


def by_staff(flow: Flow, _challenge_id: str, _code: str) -> None:
    flow.verifier.mark_verified(flow.user(2), by="staff")


@pytest.mark.parametrize("database", database_params("postgresql", "mariadb"), indirect=True)
@pytest.mark.parametrize("prove", [by_code, by_staff])
def test_a_proof_waits_for_an_uncommitted_claim_of_its_mobile(
    make_flow: MakeFlow,
    database: str,
    prove: Callable[[Flow, str, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Case 31: the transaction of the host may last for seconds."""
    flow = make_flow(database, users=2)
    token = token_for(flow, MOBILE)
    flow.set_mobile(2, MOBILE)
    flow.clock.advance(60)
    challenge = flow.start(2)
    challenge_id, code = challenge.id, flow.code(challenge)
    flow.verifier.claim(token, flow.user(1), purpose="sign-up")
    waits = threading.Event()
    outcomes: list[str] = []
    wait_for = Locks._wait_for

    def note(locks: Locks, claims: frozenset[int]) -> Any:
        waits.set()
        return wait_for(locks, claims)

    monkeypatch.setattr(Locks, "_wait_for", note)

    def run() -> None:
        with flow.app.app_context():
            outcomes.append(outcome(lambda: prove(flow, challenge_id, code)))
            db.session.remove()

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: waits.is_set() or bool(outcomes))
    assert outcomes == []
    db.session.commit()
    thread.join(60)
    assert outcomes == ["MobileTaken"]
    assert flow.holders(MOBILE) == 1
    assert flow.state_of(1) == "verified"


@pytest.mark.parametrize("database", database_params("postgresql", "mariadb"), indirect=True)
def test_a_proof_does_not_wait_for_an_uncommitted_claim_of_another_mobile(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, users=2)
    flow.verifier.claim(token_for(flow, MOBILE), flow.user(1), purpose="sign-up")

    def prove(_at: int) -> None:
        with flow.app.app_context():
            by_staff(flow, "", "")
            db.session.remove()

    assert race(1, prove) == {"ok": 1}
    db.session.commit()
    assert [flow.state_of(1), flow.state_of(2)] == ["verified", "verified"]


@pytest.mark.parametrize("database", database_params("postgresql", "mariadb"), indirect=True)
def test_a_send_does_not_wait_for_an_uncommitted_claim_of_its_user(
    make_flow: MakeFlow, database: str
) -> None:
    """It leaves the user's row, which does not exist yet, to the claim."""
    flow = make_flow(database, users=1)
    flow.verifier.claim(token_for(flow, MOBILE), flow.user(1), purpose="sign-up")
    assert race(1, lambda _: send_to(flow.app, 1, None)) == {"ok": 1}
    db.session.commit()
    assert flow.state_of(1) == "verified"


@pytest.mark.parametrize("database", database_params("postgresql"), indirect=True)
@pytest.mark.parametrize(
    ("policy", "limit", "earlier", "expected"),
    [
        ("refuse", 1, 0, "MobileTaken"),
        ("transfer", 1, 0, "MobileTaken"),
        ("refuse", 2, 1, "MobileTaken"),
        ("transfer", 2, 1, "MobileTaken"),
        ("refuse", 2, 0, "ok"),
        ("refuse", 0, 0, "ok"),
    ],
)
def test_a_claim_counts_a_holder_that_was_committed_after_its_transaction_began(
    make_flow: MakeFlow, database: str, policy: str, limit: int, earlier: int, expected: str
) -> None:
    """Case 31, with a host at REPEATABLE READ. The claim cannot revoke such a holder.

    :param earlier: how many accounts have proved the mobile before.
    """
    flow = make_flow(
        database,
        users=3,
        SMSVERIFY_MOBILE_POLICY=policy,
        SMSVERIFY_ACCOUNTS_PER_MOBILE=limit,
        SQLALCHEMY_ENGINE_OPTIONS={"isolation_level": "REPEATABLE READ"},
    )
    token = token_for(flow, MOBILE)
    flow.set_mobile(2, MOBILE)
    flow.clock.advance(60)
    if earlier:
        flow.set_mobile(3, MOBILE)
        flow.prove(3)
        flow.clock.advance(60)
        db.session.rollback()
    assert flow.user(1).mobile  # starts the transaction

    def others_prove() -> None:
        with flow.app.app_context():
            flow.prove(2)
            if not earlier:
                flow.prove(3)  # another mobile
            db.session.remove()

    thread = threading.Thread(target=others_prove)
    thread.start()
    thread.join()
    assert outcome(lambda: flow.verifier.claim(token, flow.user(1), purpose="sign-up")) == expected
    if expected == "ok":
        db.session.commit()
    else:
        db.session.rollback()
    assert flow.state_of(1) == ("verified" if expected == "ok" else "unverified")
    assert flow.state_of(2) == "verified"


@pytest.mark.parametrize("column", ["unique", "not null"])
def test_a_claim_works_with_a_unique_or_not_null_mobile_column(sqlite: str, column: str) -> None:
    strict = SQLAlchemy()

    class Person(UserMixin, strict.Model):  # type: ignore[name-defined]  # Flask-SQLAlchemy's base is dynamic
        id = strict.Column(strict.Integer, primary_key=True)
        mobile = strict.Column(String(16), unique=True, nullable=column == "unique")

    app = create_app(sqlite, Person, database=strict)
    state = app.extensions["smsverify"]
    with app.app_context():
        strict.create_all()
        tokens = []
        with outbox(app) as box:
            for mobile in ("09129990000", "09129990001"):
                challenge = state.verifier.start_for(mobile, purpose="sign-up")
                proof = state.verifier.check(challenge, box.last.code)
                tokens.append(state.verifier.proof_token(proof))
        strict.session.add(Person(mobile="+989129990001"))
        strict.session.commit()
        new = Person()
        strict.session.add(new)
        state.verifier.claim(tokens[0], new, purpose="sign-up")
        strict.session.commit()
        assert new.mobile == "+989129990000"
        with pytest.raises(MobileTaken):
            state.verifier.claim(tokens[1], new, purpose="sign-up")
        strict.session.rollback()
        assert new.mobile == "+989129990000"
        state.close()
        strict.session.remove()
        strict.engine.dispose()


def test_a_locked_account_cannot_claim_a_token(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite, SMSVERIFY_CONSECUTIVE_FAILURES=3)
    challenge = flow.start()
    for _ in range(3):
        with pytest.raises(WrongCode):
            flow.check(challenge, flow.wrong(challenge))
    token = token_for(flow, "+989129990000")
    with pytest.raises(AccountLocked):
        flow.verifier.claim(token, flow.user(), purpose="sign-up")
    db.session.rollback()
    assert flow.state_of(1) == "unverified"


def test_a_new_secret_key_with_a_fallback_keeps_tokens_used(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, users=2)
    token = token_for(flow, "+989129990000")
    flow.verifier.claim(token, flow.user(1), purpose="sign-up")
    db.session.commit()
    keyring = Keyring(["a new secret", "a secret of the tests"], app_id="host")
    flow.verifier._tokens._keyring = keyring
    with pytest.raises(InvalidToken):
        flow.verifier.load_proof(token, purpose="sign-up")
    with pytest.raises(InvalidToken):
        flow.verifier.claim(token, flow.user(2), purpose="sign-up")
    db.session.rollback()
