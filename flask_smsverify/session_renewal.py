"""A new session at a login: a session id that was planted before it must not lead to the account.

Flask's own sessions are in the cookie and have no id. Server-side sessions have one, and their
extensions offer different ways to replace it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from flask import current_app, g, session

#: The session keys of this package, which may belong to an earlier visitor.
_OWN_PREFIX = "_smsverify"


def renew_session() -> None:
    """Give the session a new id and a new CSRF token, and keep what the host stored in it.

    Call it when the session is not empty: Flask-Session's `regenerate` ignores an empty session.
    """
    _drop_csrf_token()
    content: Any = session._get_current_object()  # type: ignore[attr-defined]  # a LocalProxy has it
    kept = dict(content)
    _replace_id(content)
    # A backend may empty the session with its old record.
    for key, value in kept.items():
        if key not in content:
            content[key] = value
    content.modified = True


def drop_own_keys() -> None:
    """Remove this package's session keys, because they belong to the visitor before the login."""
    for key in [key for key in session if key.startswith(_OWN_PREFIX)]:
        session.pop(key)


def _replace_id(content: Any) -> None:
    before = getattr(content, "sid", None)
    regenerate = _regenerate_of(content)
    if regenerate is not None:
        regenerate()
    if before is not None and getattr(content, "sid", None) == before:
        # Flask-Session before 0.6 has no function for this. It stores a session under `sid`.
        content.sid = secrets.token_urlsafe(32)


def _regenerate_of(content: Any) -> Callable[[], object] | None:
    """Return the function that replaces the session's id; None if the backend has none.

    Flask-Session has it on the interface, Flask-KVSession on the session.
    """
    on_interface = getattr(current_app.session_interface, "regenerate", None)
    if on_interface is not None:
        return lambda: on_interface(content)
    on_session: Callable[[], object] | None = getattr(content, "regenerate", None)
    return on_session


def _drop_csrf_token() -> None:
    """Remove Flask-WTF's token, because the visitor before the login may know it."""
    name = current_app.config.get("WTF_CSRF_FIELD_NAME", "csrf_token")
    session.pop(name, None)
    g.pop(name, None)
