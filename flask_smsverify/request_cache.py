"""What guards and widgets have looked up during one request, and how it can be answered.

It is kept in the WSGI environment, not in `flask.g`: an app context that a test opens outlives its
requests.
"""

from __future__ import annotations

from typing import Any

from flask import current_app, has_request_context, request, session

_ROWS = "smsverify.rows"
_CHANGED = "smsverify.changed"
_JSON = "smsverify.json"


def cached_rows() -> dict[tuple[str, str | None], Any]:
    """Return the looked-up rows of this request by user id and mobile; without one a new dict."""
    if not has_request_context():
        return {}
    rows: dict[tuple[str, str | None], Any] = request.environ.setdefault(_ROWS, {})
    return rows


def has_session() -> bool:
    """Return whether the request has a session. A host may open none for programs."""
    is_missing: bool = current_app.session_interface.is_null_session(session)
    return not is_missing


def has_changed() -> bool:
    """Return whether a verification has changed during this request.

    Then the host's transaction may be older than the change, and its snapshot may not show it.
    """
    return has_request_context() and bool(request.environ.get(_CHANGED))


def invalidate() -> None:
    """Drop what was looked up: a verification has changed."""
    if has_request_context():
        request.environ[_CHANGED] = True
        request.environ.pop(_ROWS, None)


def demand_json() -> None:
    """Answer this request in JSON, for every client."""
    request.environ[_JSON] = True


def demands_json() -> bool:
    """Return whether this request is answered in JSON, for every client."""
    return bool(request.environ.get(_JSON))
