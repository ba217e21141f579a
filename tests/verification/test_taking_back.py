"""What a proof changes is announced when it is kept, and taken back where it is not."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from conftest import database_params
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from hostapp import User, db
from sqlalchemy import LargeBinary, String
from sqlalchemy.types import TypeDecorator

from flask_smsverify import SMSVerify, signals
from flask_smsverify.errors import AccountLocked, InvalidToken, MobileTaken, WrongCode
from flask_smsverify.keyring import Keyring
from flask_smsverify.testing import outbox
from flask_smsverify.users import HostUsers

MakeFlow = Any


class HostRefusesError(Exception):
    """What a host's own table says."""


def refuse(_proved: Any) -> None:
    raise HostRefusesError


def state_of(flow: Any, number: int) -> str:
    return str(flow.verifier.status(flow.user(number)).state)


def test_a_proof_that_the_host_does_not_keep_leaves_everything_as_it_was(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, users=2, SMSVERIFY_MOBILE_POLICY="transfer")
    flow.prove(1)
    flow.prove(2)
    told = len([message for message in flow.memory.messages if not message.code])
    heard: list[str] = []

    def hear(_app: Any, **values: Any) -> None:
        heard.append(values["user_id"])

    flow.clock.advance(3600)
    challenge = flow.start(2, mobile="09123450001")
    with (
        signals.mobile_verified.connected_to(hear, flow.app),
        signals.verification_revoked.connected_to(hear, flow.app),
        pytest.raises(HostRefusesError),
    ):
        flow.verifier.check(flow.user(2), flow.code(challenge), store=refuse)
    flow.state.workers.wait()
    assert [state_of(flow, 1), state_of(flow, 2)] == ["verified", "verified"]
    assert heard == []
    assert len([message for message in flow.memory.messages if not message.code]) == told


def test_an_old_number_that_was_proved_by_another_meanwhile_is_not_given_back(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, users=2)
    flow.prove(1)
    flow.clock.advance(3600)
    challenge = flow.start(1, mobile="09129990000")
    code = flow.code(challenge)

    def another_comes(_proved: Any) -> None:
        flow.move(2, "09123450001")
        flow.prove(2)
        raise HostRefusesError

    with pytest.raises(HostRefusesError):
        flow.verifier.check(flow.user(1), code, store=another_comes)
    assert [state_of(flow, 1), state_of(flow, 2)] == ["unverified", "verified"]


def test_a_newer_proof_outlives_an_older_one_that_the_host_does_not_keep(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, SMSVERIFY_LIMITS={"user": None})
    challenge = flow.start(mobile="09129990000")

    def a_newer_one(_proved: Any) -> None:
        flow.clock.advance(31)
        newer = flow.start()
        flow.check(newer, flow.code(newer))
        raise HostRefusesError

    with pytest.raises(HostRefusesError):
        flow.verifier.check(flow.user(), flow.code(challenge), store=a_newer_one)
    assert state_of(flow, 1) == "verified"
    assert flow.verification().mobile == "+989123450001"


def test_what_staff_took_back_meanwhile_is_not_given_back(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, users=2, SMSVERIFY_MOBILE_POLICY="transfer")
    flow.prove(1)
    flow.clock.advance(3600)
    challenge = flow.start(2, mobile="09123450001")

    def staff_revoke(_proved: Any) -> None:
        flow.clock.advance(1)
        flow.verifier.revoke(flow.user(1), by="staff")
        raise HostRefusesError

    with pytest.raises(HostRefusesError):
        flow.verifier.check(flow.user(2), flow.code(challenge), store=staff_revoke)
    assert [state_of(flow, 1), state_of(flow, 2)] == ["unverified", "unverified"]


def test_what_staff_took_back_from_the_prover_meanwhile_is_not_given_back(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database)
    flow.prove()
    flow.clock.advance(3600)
    challenge = flow.start(mobile="09129990000")

    def staff_revoke(_proved: Any) -> None:
        flow.verifier.revoke(flow.user(), by="staff")
        raise HostRefusesError

    with pytest.raises(HostRefusesError):
        flow.verifier.check(flow.user(), flow.code(challenge), store=staff_revoke)
    assert state_of(flow, 1) == "unverified"


def test_a_lost_proof_is_not_given_back_over_a_newer_holder(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 31: 2 takes the mobile from 1, 3 from 2, and then 2's own proof does not last."""
    flow = make_flow(database, users=3, SMSVERIFY_MOBILE_POLICY="transfer")
    flow.prove(1)
    flow.clock.advance(3600)
    challenge = flow.start(2, mobile="09123450001")

    def a_third_comes(_proved: Any) -> None:
        flow.clock.advance(1)
        flow.move(3, "09123450001")
        flow.prove(3)
        raise HostRefusesError

    with pytest.raises(HostRefusesError):
        flow.verifier.check(flow.user(2), flow.code(challenge), store=a_third_comes)
    assert [state_of(flow, number) for number in (1, 2, 3)] == [
        "unverified",
        "unverified",
        "verified",
    ]


def test_a_lost_proof_is_given_back_though_its_taker_has_proved_something_newer(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, users=2, SMSVERIFY_MOBILE_POLICY="transfer")
    flow.prove(1)
    flow.clock.advance(3600)
    challenge = flow.start(2, mobile="09123450001")

    def something_newer(_proved: Any) -> None:
        flow.clock.advance(31)
        flow.prove(2)
        raise HostRefusesError

    with pytest.raises(HostRefusesError):
        flow.verifier.check(flow.user(2), flow.code(challenge), store=something_newer)
    assert [state_of(flow, 1), state_of(flow, 2)] == ["verified", "verified"]


def test_a_number_that_was_lost_does_not_hear_of_the_next(make_flow: MakeFlow, sqlite: str) -> None:
    """By then it is another account's."""
    flow = make_flow(sqlite, users=2, SMSVERIFY_MOBILE_POLICY="transfer")
    flow.prove(1)
    flow.clock.advance(3600)
    flow.prove(2, mobile="09123450001")
    flow.state.workers.wait()
    before = len(flow.memory.messages)
    flow.clock.advance(3600)
    flow.prove(1, mobile="09129990000")
    flow.state.workers.wait()
    assert [message.to for message in flow.memory.messages[before:]] == ["+989129990000"]


# --- claims --------------------------------------------------------------------------------------


def token_for(flow: Any, mobile: str) -> str:
    challenge = flow.verifier.start_for(mobile, purpose="sign-up")
    flow.state.workers.wait()
    return str(flow.verifier.proof_token(flow.check(challenge, flow.code(challenge))))


def test_a_claim_is_announced_when_the_host_commits_and_never_after_a_rollback(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, users=1, SMSVERIFY_MOBILE_POLICY="transfer")
    flow.prove(1)
    token = token_for(flow, "+989123450001")
    heard: list[str] = []

    def hear(_app: Any, **values: Any) -> None:
        heard.append(values["user_id"])

    with signals.mobile_verified.connected_to(hear, flow.app):
        for _ in range(3):
            newcomer = User()
            db.session.add(newcomer)
            flow.verifier.claim(token, newcomer, purpose="sign-up")
            db.session.rollback()
        flow.state.workers.wait()
        assert heard == []
        assert all(message.code for message in flow.memory.messages)
        assert state_of(flow, 1) == "verified"
        newcomer = User()
        db.session.add(newcomer)
        flow.verifier.claim(token, newcomer, purpose="sign-up")
        with db.session.begin_nested():
            db.session.add(User())
        assert heard == [], "a savepoint is no commit"
        db.session.commit()
    assert heard == [str(newcomer.id)]
    flow.state.workers.wait()
    assert not flow.memory.last.code


def test_a_claim_is_announced_nowhere_after_the_session_was_closed(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, users=2)
    token = token_for(flow, "09129990000")
    heard: list[str] = []

    def hear(_app: Any, **values: Any) -> None:
        heard.append(values["user_id"])

    with signals.mobile_verified.connected_to(hear, flow.app):
        flow.verifier.claim(token, flow.user(1), purpose="sign-up")
        db.session.close()
        flow.user(2).note = "another story"
        db.session.commit()
    assert heard == []
    assert state_of(flow, 1) == "unverified"


def test_a_refused_claim_leaves_the_user_as_it_was(make_flow: MakeFlow, sqlite: str) -> None:
    """Whatever the host commits afterwards."""
    flow = make_flow(sqlite, users=2)
    flow.prove(1)
    flow.prove(2)
    flow.clock.advance(3600)
    token = token_for(flow, "09123450001")
    with pytest.raises(MobileTaken):
        flow.verifier.claim(token, flow.user(2), purpose="sign-up")
    flow.user(1).note = "somebody tried"
    db.session.commit()
    assert flow.user(2).mobile == "09123450002"
    assert state_of(flow, 2) == "verified"


def test_a_claimed_proof_is_as_old_as_the_code(make_flow: MakeFlow, database: str) -> None:
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


def test_a_claimed_mobile_is_held_also_where_its_user_cannot_be_seen_yet(
    make_flow: MakeFlow, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction of the host's that began before the claim sees neither user nor mobile."""
    flow = make_flow(sqlite, users=2)
    token = token_for(flow, "09129990000")
    flow.clock.advance(599)
    flow.verifier.claim(token, flow.user(1), purpose="sign-up")
    db.session.commit()
    challenge = flow.start(2, mobile="09129990000")
    find = HostUsers.find
    monkeypatch.setattr(
        HostUsers, "find", lambda users, key: None if key == "1" else find(users, key)
    )
    with pytest.raises(MobileTaken):
        flow.verifier.check(flow.user(2), flow.code(challenge))


def test_a_proof_older_than_a_revocation_gives_nothing_back(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite)
    flow.prove()
    flow.clock.advance(3600)
    token = token_for(flow, "09123450001")
    flow.clock.advance(1)
    flow.verifier.revoke(flow.user(), by="staff")
    with pytest.raises(InvalidToken, match="revoked after this proof"):
        flow.verifier.claim(token, flow.user(), purpose="sign-up")
    db.session.rollback()
    assert state_of(flow, 1) == "unverified"


@pytest.mark.parametrize("database", database_params("postgresql"), indirect=True)
@pytest.mark.parametrize("policy", ["refuse", "transfer"])
def test_a_claim_sees_a_holder_that_came_after_its_transaction_began(
    make_flow: MakeFlow, database: str, policy: str
) -> None:
    """Case 31, where the host runs at REPEATABLE READ."""
    flow = make_flow(
        database,
        users=2,
        SMSVERIFY_MOBILE_POLICY=policy,
        SQLALCHEMY_ENGINE_OPTIONS={"isolation_level": "REPEATABLE READ"},
    )
    token = token_for(flow, "09129990000")
    flow.move(2, "09129990000")
    flow.clock.advance(60)
    assert flow.user(1).mobile  # a look, with which the transaction begins

    def another_proves() -> None:
        with flow.app.app_context():
            flow.prove(2)
            db.session.remove()

    thread = threading.Thread(target=another_proves)
    thread.start()
    thread.join()
    with pytest.raises(MobileTaken):
        flow.verifier.claim(token, flow.user(1), purpose="sign-up")
    db.session.rollback()
    assert [state_of(flow, 1), state_of(flow, 2)] == ["unverified", "verified"]


@pytest.mark.parametrize("column", ["unique", "not null"])
def test_a_claim_fits_a_strict_column_of_the_hosts(tmp_path: Any, column: str) -> None:
    strict = SQLAlchemy()

    class Person(strict.Model):  # type: ignore[name-defined]  # the usual way
        id = strict.Column(strict.Integer, primary_key=True)
        mobile = strict.Column(String(16), unique=True, nullable=column == "unique")

    app = Flask("strict")
    app.config.update(
        SECRET_KEY="x", TESTING=True, SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path / 'x.sqlite'}"
    )
    strict.init_app(app)
    SMSVerify(app, strict, user_model=Person)
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
        strict.engine.dispose()


def test_a_claim_does_not_pass_a_lock(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite, SMSVERIFY_CONSECUTIVE_FAILURES=3)
    challenge = flow.start()
    for _ in range(3):
        with pytest.raises(WrongCode):
            flow.check(challenge, flow.wrong(challenge))
    token = token_for(flow, "+989129990000")
    with pytest.raises(AccountLocked):
        flow.verifier.claim(token, flow.user(), purpose="sign-up")
    db.session.rollback()
    assert state_of(flow, 1) == "unverified"


def test_a_change_of_secret_keys_revives_no_token(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite, users=2)
    token = token_for(flow, "+989129990000")
    flow.verifier.claim(token, flow.user(1), purpose="sign-up")
    db.session.commit()
    keyring = Keyring(["a new secret", "a secret of the tests"])
    flow.verifier._tokens._keyring = keyring
    with pytest.raises(InvalidToken):
        flow.verifier.load_proof(token, purpose="sign-up")
    with pytest.raises(InvalidToken):
        flow.verifier.claim(token, flow.user(2), purpose="sign-up")
    db.session.rollback()


class Guid(TypeDecorator[str]):
    """A key type of a host's own, of which SQLAlchemy can tell no Python type."""

    impl = String(36)
    cache_ok = True

    @property
    def python_type(self) -> type[Any]:
        return object


@pytest.mark.parametrize(
    ("kind", "keys"), [(Guid, ("one", "two")), (LargeBinary(16), (b"\x01" * 16, b"\x02" * 16))]
)
def test_one_account_a_mobile_holds_for_keys_of_every_kind(
    sqlite: str, kind: Any, keys: tuple[Any, Any]
) -> None:
    own = SQLAlchemy()  # these models are in no other test's tables

    class Member(own.Model):  # type: ignore[misc,name-defined]  # Flask-SQLAlchemy's base is dynamic
        id = own.Column(kind, primary_key=True)
        mobile = own.Column(own.String(32))

    app = Flask("host")
    app.config.update(SECRET_KEY="secret", TESTING=True, SQLALCHEMY_DATABASE_URI=sqlite)
    own.init_app(app)
    SMSVerify(app, own, user_model=Member)
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
