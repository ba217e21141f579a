"""Proving a number before there is an account, and using the proof once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from hostapp import User, db

from flask_smsverify.errors import InvalidToken, MobileTaken, NoChallenge
from flask_smsverify.testing import outbox
from flask_smsverify.verification.checking import Proof

MOBILE = "+989121112233"

MakeApp = Callable[..., Flask]


def prove(app: Flask, mobile: str = MOBILE, purpose: str = "sign-up") -> str:
    """A token for a number that was proved."""
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


def test_a_token_gives_a_new_user_the_number_and_the_verification(
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


def test_an_existing_user_who_claims_and_rolls_back_gets_nothing(
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
def test_a_token_that_is_not_good_here_is_refused(app: Flask, change: str) -> None:
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


def test_a_token_for_a_number_that_another_account_holds_is_refused(
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


def test_each_start_for_is_a_challenge_of_its_own_whose_code_works_once(app: Flask) -> None:
    verifier = app.extensions["smsverify"].verifier
    app.extensions["smsverify"].delivery.settle()
    with outbox(app) as box:
        challenge = verifier.start_for(MOBILE, purpose="sign-up")
        code = box.last.code
        verifier.check(challenge, code)
        with pytest.raises(NoChallenge):
            verifier.check(challenge, code)


def test_neither_token_nor_proof_shows_the_number_in_its_repr(app: Flask) -> None:
    verifier = app.extensions["smsverify"].verifier
    with outbox(app) as box:
        challenge = verifier.start_for(MOBILE, purpose="sign-up")
        proof = verifier.check(challenge, box.last.code)
    assert MOBILE[-7:] not in repr(proof)
    assert MOBILE[-7:] not in repr(challenge)
