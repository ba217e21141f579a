"""What guards and widgets have looked up during one request, and how the request is answered.

It is kept in the WSGI environment, not in `flask.g`: an app context that a test opens outlives its
requests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flask import current_app, has_request_context, request, session

_LOOKUPS = "smsverify.lookups"
_JSON = "smsverify.json"


@dataclass(slots=True)
class Lookups:
    """What one request has looked up.

    :param rows: a user's id and mobile → their row; None if they have none.
    :param has_changed: whether a verification has changed since the request began. Then the host's
        transaction may be older than the change, and its snapshot may not show it.
    """

    rows: dict[tuple[str, str | None], Any] = field(default_factory=dict)
    has_changed: bool = False


def lookups() -> Lookups:
    """Return what this request has looked up; outside a request, nothing."""
    if not has_request_context():
        return Lookups()
    found: Lookups = request.environ.setdefault(_LOOKUPS, Lookups())
    return found


def has_session() -> bool:
    """Return whether the request has a session. A host may open none for programs."""
    is_missing: bool = current_app.session_interface.is_null_session(session)
    return not is_missing


def invalidate() -> None:
    """Drop what was looked up, because a verification has changed."""
    found = lookups()
    found.rows.clear()
    found.has_changed = True


def demand_json() -> None:
    """Answer this request in JSON, for every client."""
    request.environ[_JSON] = True


def demands_json() -> bool:
    """Return whether this request is answered in JSON, for every client."""
    return bool(request.environ.get(_JSON))
