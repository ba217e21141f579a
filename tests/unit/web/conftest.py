"""The fixture for tests of pending logins."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import MakeApp
from flask import Flask, redirect, request, session
from flask_login import current_user, login_user
from hostapp import User, db
from leaks import LONG_CODES


def with_gate(app: Flask) -> Flask:
    """Add a login view behind the gate, and views that show the user and the session."""
    smsverify = app.extensions["test_smsverify"]

    @app.route("/enter/<int:key>", methods=["GET", "POST"])
    def enter(key: int) -> Any:
        answer = smsverify.login_user(
            db.session.get(User, key), remember="remember" in request.args
        )
        return redirect("/open") if answer is True else answer

    @app.route("/remember/<int:key>")
    def remember(key: int) -> str:
        login_user(db.session.get(User, key), remember=True)
        return "remembered"

    @app.route("/me")
    def me() -> str:
        return str(current_user.id) if current_user.is_authenticated else "nobody"

    @app.route("/session")
    def whole_session() -> dict[str, Any]:
        return dict(session)

    return app


@pytest.fixture
def gated(make_app: MakeApp, sqlite: str) -> Flask:
    """An app with the login gate on, three users, and long codes."""
    app = make_app(
        sqlite,
        users=3,
        SMSVERIFY_LOGIN_GATE=True,
        SMSVERIFY_EXEMPT_GROUPS=["staff"],
        **LONG_CODES,
    )
    return with_gate(app)
