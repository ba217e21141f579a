"""The age of a login: whether the visitor entered credentials a short time ago.

Flask-Login's own mark of a fresh login never ages. A receiver of its signals stores the time of the
login in the session.
"""

from __future__ import annotations

from typing import Any

import flask_login
from flask import Flask, session

from . import credentials
from .state import get_state
from .verification.rules import CLOCK_SKEW

#: The session key of the login's time and of the user that it belongs to.
_LOGIN = "smsverify_login_at"
#: The session key in which Flask-Login keeps the user.
_USER = "_user_id"


def connect(app: Flask) -> None:
    """Store the time of every login, including repeated ones, in the session."""
    flask_login.user_logged_in.connect(_record_login, app)
    flask_login.user_login_confirmed.connect(_record_login, app)


def _record_login(app: Flask, **_: Any) -> None:
    session[_LOGIN] = [session.get(_USER), get_state(app).clock().timestamp()]


def is_fresh() -> bool:
    """Return whether the credentials were entered within `SMSVERIFY_FRESH_LOGIN` seconds.

    A request that carries the credentials itself is always fresh.
    """
    if credentials.are_in_request():
        return True
    state = get_state()
    login = session.get(_LOGIN)
    if not (flask_login.login_fresh() and isinstance(login, list) and len(login) == 2):
        return False
    user, at = login
    if user is None or user != session.get(_USER):
        return False
    age = state.clock().timestamp() - at
    return bool(-CLOCK_SKEW.total_seconds() <= age < state.settings.fresh_login)
