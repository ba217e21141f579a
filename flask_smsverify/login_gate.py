"""The login gate: with `SMSVERIFY_LOGIN_GATE`, a login waits until the mobile is verified."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import flask_login
from flask import current_app, session
from flask.typing import ResponseReturnValue
from itsdangerous import BadSignature

from .db.models import UsedToken
from .errors import TooSoon
from .guard import decide
from .session_renewal import drop_own_keys, renew_session
from .state import AppState, get_state
from .users import current_user, is_active, is_logged_in, without_proxy
from .verification.policy import Status
from .verification.rules import CLOCK_SKEW

#: The session key of a login that waits for a code.
_PENDING_LOGIN = "_smsverify_pending_login"
#: How long a login may wait.
_MAX_WAIT = timedelta(minutes=30)
#: Seconds between two emails with a link to one account.
_EMAIL_PAUSE = 300
_LINK_SALT = "flask_smsverify.first_proof"


def login_user(user: Any, *, remember: bool) -> ResponseReturnValue | bool:
    """Log a user in, or keep the login pending. `SMSVerify.login_user` documents the result."""
    state = get_state()
    user = without_proxy(user)
    if state.settings.login_gate and is_active(user):
        if state.users.stands_for_user(user):  # a user of another class may be exempt
            # The code of this login must go to the proved number, which a change that is due may
            # replace.
            state.verifier.changes.apply_due(user)
        decision = decide(user)
        if not decision.allowed:
            if is_logged_in(current_user()):
                flask_login.logout_user()  # another user must not see the page of this login
            session[_PENDING_LOGIN] = {
                "user": state.users.id_of(user),
                # Changes with the password if the host makes it depend on it, as Flask-Security
                # does.
                "login": user.get_id(),
                "remember": bool(remember),
                "at": state.clock().timestamp(),
            }
            # With the old id, an attacker who planted it could prove their own mobile here.
            renew_session()
            return state.guard_responses.login_pending(decision)
    return log_in(user, remember=remember)


def pending_user(state: AppState) -> Any:
    """Return the user whose login waits in this session; None without one."""
    pending = session.get(_PENDING_LOGIN)
    if not isinstance(pending, dict):
        return None
    age = state.clock().timestamp() - pending["at"]
    if not -CLOCK_SKEW.total_seconds() <= age < _MAX_WAIT.total_seconds():
        return None
    user: Any = state.users.find(pending["user"])
    if user is None:
        return None
    login = _flask_login_user(state, user, pending)
    if login is None or not is_active(login) or login.get_id() != pending.get("login"):
        return None
    return user


def _flask_login_user(state: AppState, user: Any, pending: dict[str, Any]) -> Any:
    """Return Flask-Login's object for a user: the user, or the object that wraps it."""
    if state.callbacks.user_getter is None:
        return user
    loader = current_app.login_manager._user_callback  # type: ignore[attr-defined]  # the user_loader
    found = without_proxy(loader(pending.get("login")))
    is_same = found is not None and state.users.id_of(found) == pending["user"]
    return found if is_same else None


# --- the first number of an account ---------------------------------------------------------------


def is_vouched_for(state: AppState, status: Status) -> bool:
    """Return whether the pending login of a user with this status may prove a number.

    A password alone suffices for a number that the account has proved before. For its first one,
    `SMSVERIFY_LOGIN_GATE_FIRST_PROOF` decides.
    """
    mode = state.settings.login_gate_first_proof
    if mode == "phone" or status.verified_at is not None:
        return True
    return mode == "email" and session.get(_PENDING_LOGIN, {}).get("vouched") is True


def send_email_link(state: AppState, user: Any, url_of: Callable[[str], str]) -> None:
    """Let the host send the link that vouches for a pending login, once in five minutes.

    The link works in this session only: a thief of the password has another session.

    :param url_of: returns the URL of a token.
    :raises TooSoon: the account got a link a short time ago.
    """
    now = state.clock()
    period, elapsed = divmod(now.timestamp(), _EMAIL_PAUSE)
    values: dict[str, object] = {
        "digest": state.keyring.digest("first proof", state.users.id_of(user), str(int(period))),
        "until": now + timedelta(seconds=_EMAIL_PAUSE),
    }
    ledger = state.ledger
    if not ledger.run(lambda store: ledger.insert_if_absent(store, UsedToken, values)):
        raise TooSoon(max(1, math.ceil(_EMAIL_PAUSE - elapsed)))
    nonce = secrets.token_urlsafe(16)
    pending = session[_PENDING_LOGIN] | {"email": nonce}
    session[_PENDING_LOGIN] = pending
    token = state.signing.dump([pending["user"], pending["login"], nonce], _LINK_SALT)
    sender = state.callbacks.email_sender
    assert sender is not None  # noqa: S101 -- for the type checker; checked at start
    sender(user, url_of(token))


def accept_email_link(state: AppState, user: Any, token: str) -> bool:
    """Let the pending login prove a number; return False if the link belongs to another session."""
    pending = session.get(_PENDING_LOGIN)
    if not isinstance(pending, dict) or not isinstance(pending.get("email"), str):
        return False
    try:
        content = state.signing.load(token, _LINK_SALT, max_age=int(_MAX_WAIT.total_seconds()))
    except BadSignature:
        return False
    if content != [state.users.id_of(user), pending["login"], pending["email"]]:
        return False
    session[_PENDING_LOGIN] = {key: value for key, value in pending.items() if key != "email"} | {
        "vouched": True
    }
    return True


# --- the login ------------------------------------------------------------------------------------


def complete_login(user: Any) -> None:
    """Complete a pending login."""
    pending = session.get(_PENDING_LOGIN, {})
    user = _flask_login_user(get_state(), user, pending)
    log_in(user, remember=bool(pending.get("remember")))


def discard_login() -> None:
    """Discard a pending login, with everything that this session keeps about it."""
    session.pop(_PENDING_LOGIN, None)
    drop_own_keys()


def log_in(user: Any, *, remember: bool) -> bool:
    """Log a user in, in a session with a new id (OWASP ASVS 5.0, 7.2.4).

    What the host has stored in the session stays.

    :returns: what Flask-Login's `login_user` returns: False for an inactive user.
    """
    drop_own_keys()
    if not flask_login.login_user(user, remember=remember):
        return False
    renew_session()
    return True
