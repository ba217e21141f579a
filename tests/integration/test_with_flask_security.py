"""The recipe for apps with Flask-Security, with the real package."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_smsverify.testing import outbox

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SIGN_IN = "/verify-mobile/sign-in"
MOBILE = "0912 345 6789"
PASSWORD = "a password of the tests"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Flask-Security's own imports
        module = importlib.import_module("with_flask_security")
    yield module
    sys.modules.pop("with_flask_security")


@pytest.fixture
def app(recipe: Any, tmp_path: Path) -> Iterator[Flask]:
    app = recipe.create_app(
        {
            "TESTING": True,
            "WTF_CSRF_ENABLED": False,
            "SECURITY_PASSWORD_HASH": "plaintext",
            "SECURITY_HASHING_SCHEMES": ["plaintext"],
            "SECURITY_DEPRECATED_HASHING_SCHEMES": [],
            "SECURITY_PASSWORD_SCHEMES": ["plaintext"],
            "SECURITY_PASSWORD_SINGLE_HASH": True,
            "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path / 'test.sqlite'}",
        }
    )
    yield app
    with app.app_context():
        recipe.smsverify.close()
        recipe.db.session.remove()
        recipe.db.engine.dispose()


def sign_in(app: Flask, client: FlaskClient) -> int:
    with outbox(app) as box:
        client.post(SIGN_IN, data={"mobile": MOBILE})
        return client.post(f"{SIGN_IN}/check", data={"code": box.last.code}).status_code


def test_a_user_of_flask_security_signs_in_with_a_mobile(app: Flask, recipe: Any) -> None:
    with app.app_context():
        admin = recipe.users.create_role(name="admin")
        user = recipe.users.create_user(
            email="sara@example.com", password=PASSWORD, mobile=MOBILE, roles=[admin]
        )
        recipe.db.session.commit()
        recipe.smsverify.verifier.mark_verified(user, by="a test")
    client = app.test_client()
    assert client.get("/staff").status_code in (302, 401, 403)
    assert sign_in(app, client) == 303
    assert client.get("/account").text == "your account"
    assert client.get("/staff").text == "for staff"
    with client.session_transaction() as session:
        with app.app_context():
            [user] = recipe.db.session.scalars(recipe.db.select(recipe.User)).all()
        assert session["_user_id"] == user.fs_uniquifier

    # The password login is still there, and its session is as good.
    client.post("/logout")
    assert client.get("/account").status_code in (302, 401)
    client.post("/login", data={"email": "sara@example.com", "password": PASSWORD})
    assert client.get("/account").text == "your account"


def test_a_new_user_gets_what_flask_security_needs(app: Flask, recipe: Any) -> None:
    client, other = app.test_client(), app.test_client()
    assert sign_in(app, client) == 303
    assert client.get("/account").text == "your account"
    assert client.get("/staff").status_code in (302, 403)
    assert sign_in(app, other) == 303
    with app.app_context():
        [user] = recipe.db.session.scalars(recipe.db.select(recipe.User)).all()
        assert (user.mobile, user.email, user.active) == ("+989123456789", None, True)
        # This signs the user out on every device.
        recipe.users.set_uniquifier(user)
        recipe.db.session.commit()
    for browser in (client, other):
        assert browser.get("/account").status_code in (302, 401)


def test_an_inactive_user_is_not_signed_in(app: Flask, recipe: Any) -> None:
    client = app.test_client()
    sign_in(app, client)
    with app.app_context():
        [user] = recipe.db.session.scalars(recipe.db.select(recipe.User)).all()
        recipe.users.deactivate_user(user)
        recipe.db.session.commit()
    other = app.test_client()
    with outbox(app) as box:
        other.post(SIGN_IN, json={"mobile": MOBILE})
        answer = other.post(f"{SIGN_IN}/check", json={"code": box.last.code})
    assert answer.status_code == 403
    assert other.get("/account").status_code in (302, 401)
