"""What a proof changes is announced when it is kept, and taken back where it is not."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from hostapp import User, db
from sqlalchemy import LargeBinary, String
from sqlalchemy.types import TypeDecorator

from flask_smsverify import SMSVerify, signals
from flask_smsverify.errors import AccountLocked, InvalidToken, MobileTaken, WrongCode
from flask_smsverify.testing import outbox
from flask_smsverify.verification.codes import Keyring

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
    flow.state.delivery.settle()
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
    flow = make_flow(database, SMSVERIFY_BUDGETS={"user": None})
    challenge = flow.start(mobile="09129990000")

    def a_newer_one(_proved: Any) -> None:
        flow.clock.advance(31)
        newer = flow.start()
        flow.check(newer, flow.code(newer))
        raise HostRefusesError

    with pytest.raises(HostRefusesError):
        flow.verifier.check(flow.user(), flow.code(challenge), store=a_newer_one)
    assert state_of(flow, 1) == "verified"
    assert flow.standing().mobile == "+989123450001"


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


def token_for(flow: Any, mobile: str) -> str:
    challenge = flow.verifier.start_for(mobile, purpose="sign-up")
    flow.state.delivery.settle()
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
        flow.state.delivery.settle()
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
    flow.state.delivery.settle()
    assert not flow.memory.last.code


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
    with app.app_context(), outbox(app) as box:
        own.create_all()
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
