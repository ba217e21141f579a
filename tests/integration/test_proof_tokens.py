"""Proof tokens: a mobile is proved before there is an account, and claimed once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import database_params
from flask import Flask
from flask_login import UserMixin
from flask_sqlalchemy import SQLAlchemy
from flows import MEMORY, flow_of
from hostapp import User, create_app, db
from parallel import outcome
from sqlalchemy.exc import IntegrityError

from flask_smsverify import signals
from flask_smsverify.errors import InvalidToken, MobileTaken, NoChallenge
from flask_smsverify.testing import outbox
from flask_smsverify.verification.check import Proof

MOBILE = "+989121112233"
#: Seconds to wait for a thread that always continues, even on a slow machine.
TIMEOUT = 60

MakeApp = Callable[..., Flask]


def prove(app: Flask, mobile: str = MOBILE, purpose: str = "sign-up") -> str:
    """Return a token for a mobile that was proved."""
    verifier = app.extensions["smsverify"].verifier
    with outbox(app) as box:
        challenge = verifier.start_for(mobile, purpose=purpose)
        proof = verifier.check(verifier.load(challenge.id), box.last.code)
    assert isinstance(proof, Proof)
    assert proof.mobile == mobile
    return str(verifier.proof_token(proof))


def sign_up(token: str, verifier: Any, purpose: str = "sign-up") -> User:
    user = User()
    db.session.add(user)
    verifier.claim(token, user, purpose=purpose)
    return user


@pytest.mark.parametrize("max_age", [None, "600", 600.5])
def test_max_age_must_be_whole_seconds(app: Flask, max_age: Any) -> None:
    token = prove(app)
    verifier = app.extensions["smsverify"].verifier
    with app.app_context():
        with pytest.raises(TypeError, match="max_age must be whole seconds"):
            verifier.load_proof(token, purpose="sign-up", max_age=max_age)
        with pytest.raises(TypeError, match="max_age must be whole seconds"):
            verifier.claim(token, User(), purpose="sign-up", max_age=max_age)


def test_a_token_gives_a_new_user_the_mobile_and_the_verification(
    make_app: MakeApp, database: str
) -> None:
    app = make_app(database)
    verifier = app.extensions["smsverify"].verifier
    token = prove(app)
    with app.app_context():
        assert verifier.load_proof(token, purpose="sign-up") == MOBILE
        user = sign_up(token, verifier)
        db.session.commit()
        assert user.mobile == MOBILE
        assert verifier.status(user).state == "verified"


def test_a_token_can_be_used_once(make_app: MakeApp, database: str) -> None:
    app = make_app(database)
    verifier = app.extensions["smsverify"].verifier
    token = prove(app)
    with app.app_context():
        sign_up(token, verifier)
        db.session.commit()
        with pytest.raises(InvalidToken):
            verifier.load_proof(token, purpose="sign-up")
        with pytest.raises(InvalidToken):
            sign_up(token, verifier)
        db.session.rollback()


def test_a_sign_up_that_is_rolled_back_leaves_the_token_usable(
    make_app: MakeApp, database: str
) -> None:
    app = make_app(database)
    verifier = app.extensions["smsverify"].verifier
    token = prove(app)
    with app.app_context():
        sign_up(token, verifier)
        db.session.rollback()
        assert verifier.load_proof(token, purpose="sign-up") == MOBILE
        user = sign_up(token, verifier)
        db.session.commit()
        assert verifier.status(user).state == "verified"


def test_a_rolled_back_claim_does_not_change_an_existing_user(
    make_app: MakeApp, database: str
) -> None:
    app = make_app(database)
    verifier = app.extensions["smsverify"].verifier
    token = prove(app)
    with app.app_context():
        user = db.session.get(User, 1)
        before = user.mobile
        verifier.claim(token, user, purpose="sign-up")
        db.session.rollback()
        assert user.mobile == before
        assert verifier.status(user).state == "unverified"
        assert verifier.load_proof(token, purpose="sign-up") == MOBILE


@pytest.mark.parametrize("change", ["purpose", "forged", "old", "not text"])
def test_an_invalid_token_is_refused(app: Flask, change: str) -> None:
    verifier = app.extensions["smsverify"].verifier
    token: Any = prove(app)
    purpose, max_age = "sign-up", 600
    if change == "purpose":
        purpose = "payment"
    elif change == "forged":
        token = token[:-2] + ("aa" if token[-2:] != "aa" else "bb")
    elif change == "old":
        max_age = -1
    else:
        token = None
    with app.app_context():
        with pytest.raises(InvalidToken):
            verifier.load_proof(token, purpose=purpose, max_age=max_age)
        with pytest.raises(InvalidToken):
            verifier.claim(token, db.session.get(User, 1), purpose=purpose, max_age=max_age)


def test_a_token_for_a_mobile_of_another_account_is_refused(
    make_app: MakeApp, database: str
) -> None:
    app = make_app(database)
    verifier = app.extensions["smsverify"].verifier
    token, second = prove(app), prove(app)
    with app.app_context():
        sign_up(token, verifier)
        db.session.commit()
        with pytest.raises(MobileTaken):
            sign_up(second, verifier)
        db.session.rollback()
        assert db.session.query(User).filter_by(mobile=MOBILE).count() == 1


def test_the_code_of_a_sign_up_can_be_used_once(app: Flask) -> None:
    verifier = app.extensions["smsverify"].verifier
    app.extensions["smsverify"].workers.wait()
    with outbox(app) as box:
        challenge = verifier.start_for(MOBILE, purpose="sign-up")
        code = box.last.code
        verifier.check(challenge, code)
        with pytest.raises(NoChallenge):
            verifier.check(challenge, code)


def test_neither_token_nor_proof_contains_the_mobile_in_its_repr(app: Flask) -> None:
    verifier = app.extensions["smsverify"].verifier
    with outbox(app) as box:
        challenge = verifier.start_for(MOBILE, purpose="sign-up")
        proof = verifier.check(challenge, box.last.code)
    assert MOBILE[-7:] not in repr(proof)
    assert MOBILE[-7:] not in repr(challenge)


def test_a_token_can_be_used_once_while_servers_have_different_keys(
    make_app: MakeApp, database: str
) -> None:
    options = {"SMSVERIFY_MOBILE_POLICY": "transfer"}
    old = make_app(database, users=2, SECRET_KEY="old", **options)
    new = create_app(database, SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"], **options)
    token = prove(old)
    with new.app_context():
        new.extensions["smsverify"].verifier.claim(
            token, db.session.get(User, 1), purpose="sign-up"
        )
        db.session.commit()
    with old.app_context(), pytest.raises(InvalidToken):
        old.extensions["smsverify"].verifier.claim(
            token, db.session.get(User, 2), purpose="sign-up"
        )
    new.extensions["smsverify"].close()
    with new.app_context():
        db.session.remove()
        db.engine.dispose()


def test_a_used_token_stays_used_after_the_max_age_of_its_claim(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite)
    flow = flow_of(app)
    token = prove(app)
    with app.app_context():
        flow.verifier.claim(token, flow.user(), purpose="sign-up", max_age=60)
        db.session.commit()
        flow.clock.advance(61)
        with pytest.raises(InvalidToken):
            flow.verifier.load_proof(token, purpose="sign-up", max_age=600)


def test_a_token_that_a_parallel_transaction_used_is_refused(
    make_app: MakeApp, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first check cannot see an uncommitted use; the unique row of the use decides."""
    app = make_app(sqlite, users=2, SMSVERIFY_ACCOUNTS_PER_MOBILE=0)
    verifier = app.extensions["smsverify"].verifier
    token = prove(app)
    with app.app_context():
        verifier.claim(token, db.session.get(User, 1), purpose="sign-up")
        db.session.commit()
        monkeypatch.setattr("flask_smsverify.verification.claim.is_token_used", lambda *_: False)
        with pytest.raises(InvalidToken):
            verifier.claim(token, db.session.get(User, 2), purpose="sign-up")
        db.session.rollback()


def test_a_refused_claim_does_not_use_up_the_token(make_app: MakeApp, database: str) -> None:
    app = make_app(database, users=2)
    verifier = app.extensions["smsverify"].verifier
    token = prove(app)
    with app.app_context():
        holder, user = db.session.get(User, 2), db.session.get(User, 1)
        holder.mobile = MOBILE
        db.session.commit()
        verifier.mark_verified(holder, by="staff")
        user.note = "unrelated"
        with pytest.raises(MobileTaken):
            verifier.claim(token, user, purpose="sign-up")
        db.session.commit()
        verifier.revoke(holder, by="staff")
        verifier.claim(token, user, purpose="sign-up")
        db.session.commit()
        assert verifier.status(user).state == "verified"


@pytest.mark.parametrize("database", database_params("postgresql", "mariadb"), indirect=True)
def test_a_claim_does_not_undo_a_revocation_that_was_committed_before_it(
    make_app: MakeApp, database: str
) -> None:
    """Also if the claim's transaction began before it, or waited for the mobile meanwhile."""
    app = make_app(database, users=2, SMSVERIFY_ACCOUNTS_PER_MOBILE=0)
    verifier = app.extensions["smsverify"].verifier
    with app.app_context():
        user = db.session.get(User, 1)
        verifier.mark_verified(user, by="staff")
        verifier.revoke(user, by="staff")
        db.session.remove()
    token, another = prove(app), prove(app)
    has_read, revoked, holds, go = (threading.Event() for _ in range(4))
    outcomes: list[str] = []

    def claim_late() -> None:
        user = db.session.get(User, 1)
        has_read.set()
        assert revoked.wait(TIMEOUT)
        verifier.claim(token, user, purpose="sign-up")
        db.session.commit()

    def hold_the_mobile() -> None:
        verifier.claim(another, db.session.get(User, 2), purpose="sign-up")
        holds.set()
        assert go.wait(TIMEOUT)
        db.session.commit()

    def run(act: Callable[[], None]) -> None:
        with app.app_context():
            outcomes.append(outcome(act))

    late = threading.Thread(target=run, args=(claim_late,))
    late.start()
    assert has_read.wait(TIMEOUT)
    other = threading.Thread(target=run, args=(hold_the_mobile,))
    other.start()
    assert holds.wait(TIMEOUT)
    if database.startswith("postgresql"):  # each statement has a new snapshot
        revoked.set()
        time.sleep(0.5)
    with app.app_context():
        verifier.revoke(db.session.get(User, 1), by="staff")
        db.session.remove()
    revoked.set()
    go.set()
    late.join(TIMEOUT)
    other.join(TIMEOUT)
    assert sorted(outcomes) == ["InvalidToken", "ok"]
    with app.app_context():
        assert verifier.status(db.session.get(User, 1)).state == "unverified"
        assert verifier.load_proof(token, purpose="sign-up") == MOBILE


class StopError(Exception):
    """Raised by the host to roll back a savepoint."""


def roll_back_a_savepoint() -> None:
    with contextlib.suppress(StopError), db.session.begin_nested():
        raise StopError


@pytest.fixture
def announced() -> Iterator[list[str]]:
    """Return the list of users whose proofs were announced."""
    users: list[str] = []

    def receive(_app: Flask, *, user_id: str, **_: object) -> None:
        users.append(user_id)

    with signals.mobile_verified.connected_to(receive):
        yield users


@pytest.mark.parametrize("before", [True, False])
def test_a_claim_is_announced_despite_a_failed_savepoint(
    make_app: MakeApp, sqlite: str, announced: list[str], before: bool
) -> None:
    app = make_app(sqlite)
    verifier = app.extensions["smsverify"].verifier
    token = prove(app)
    announced.clear()  # the proof had no user
    with app.app_context():
        if before:
            with db.session.begin_nested():
                sign_up(token, verifier)
        else:
            sign_up(token, verifier)
        roll_back_a_savepoint()
        assert announced == []
        db.session.commit()
    assert announced == ["2"]


@pytest.mark.parametrize("rolled_back", ["savepoint", "flush", "outer savepoint"])
def test_a_rolled_back_claim_is_not_announced(
    make_app: MakeApp, sqlite: str, announced: list[str], rolled_back: str
) -> None:
    app = make_app(sqlite)
    verifier = app.extensions["smsverify"].verifier
    token = prove(app)
    announced.clear()  # the proof had no user
    with app.app_context():
        db.session.add(User(note="something else"))
        db.session.flush()
        if rolled_back == "savepoint":
            with contextlib.suppress(StopError), db.session.begin_nested():
                sign_up(token, verifier)
                raise StopError
        elif rolled_back == "outer savepoint":
            with contextlib.suppress(StopError), db.session.begin_nested():
                with db.session.begin_nested():
                    sign_up(token, verifier)
                raise StopError
        else:
            with contextlib.suppress(IntegrityError), db.session.begin_nested():
                sign_up(token, verifier)
                db.session.add(User(id=1))  # it exists
                db.session.flush()
        db.session.commit()
        assert verifier.load_proof(token, purpose="sign-up") == MOBILE
    assert announced == []


def test_a_mobile_in_a_unique_column_of_the_host_is_taken(
    tmp_path: Path, server_databases: dict[str, str]
) -> None:
    """The column is unique and not null, so the user cannot be inserted before the claim."""
    own = SQLAlchemy()

    class Person(UserMixin, own.Model):  # type: ignore[name-defined,misc]
        id = own.Column(own.Integer, primary_key=True)
        email = own.Column(own.String(60), unique=True)
        mobile = own.Column(own.String(32), nullable=False, unique=True)

    for kind in ("sqlite", *server_databases):
        url = server_databases.get(kind, f"sqlite:///{tmp_path / 'own.sqlite'}")
        app = create_app(url, Person, database=own, SMSVERIFY_SENDERS=MEMORY)
        verifier = app.extensions["smsverify"].verifier
        with app.app_context():
            own.drop_all()
            own.create_all()
            own.session.add(Person(mobile=MOBILE, email="a@b.example"))
            own.session.commit()
        token = prove(app)
        with app.app_context():
            person = Person()
            own.session.add(person)
            with pytest.raises(MobileTaken) as taken:
                verifier.claim(token, person, purpose="sign-up")
            assert MOBILE not in str(taken.value)
            assert taken.value.__cause__ is None
            own.session.rollback()
            other = Person(email="a@b.example")
            own.session.add(other)
            token = prove(app, "+989121112244")
            with pytest.raises(IntegrityError):
                verifier.claim(token, other, purpose="sign-up")
            own.session.rollback()
            own.drop_all()
            own.session.remove()
            own.engine.dispose()
        app.extensions["smsverify"].close()
