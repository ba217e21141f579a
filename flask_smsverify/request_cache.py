"""What guards and widgets have looked up during one request, and how the request is answered.

It is kept in the WSGI environment, not in `flask.g`: an app context that a test opens outlives its
requests. Each app has its own, because middleware may pass one environment to several apps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flask import Flask, current_app, has_request_context, request, session

_LOOKUPS = "smsverify.lookups"


@dataclass(slots=True)
class Lookups:
    """What one request has looked up.

    :param rows: a user's id and mobile → their row; None if they have none.
    :param has_changed: whether a verification has changed since the request began. Then the host's
        transaction may be older than the change, and its snapshot may not show it.
    :param demands_json: whether the request is answered in JSON, for every client.
    """

    rows: dict[tuple[str, str | None], Any] = field(default_factory=dict)
    has_changed: bool = False
    demands_json: bool = False


def lookups() -> Lookups:
    """Return what this request has looked up; outside a request, nothing."""
    if not has_request_context():
        return Lookups()
    of_apps: dict[Flask, Lookups] = request.environ.setdefault(_LOOKUPS, {})
    proxy: Any = current_app
    return of_apps.setdefault(proxy._get_current_object(), Lookups())


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
    lookups().demands_json = True


def demands_json() -> bool:
    """Return whether this request is answered in JSON, for every client."""
    return lookups().demands_json
