"""Endpoints that a guard of many endpoints leaves open: login, logout, static files, own pages.

A user without a mobile must be able to log out, and to log in again if that is required. A guard of
the login view itself would redirect anonymous visitors in a circle.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from flask import Flask, request

_BLUEPRINTS = ("smsverify", "smsverify_admin", "smsverify_webhooks")
#: `login`, `sign_out`, `log-in`, `user_logout`, `login_view`, and the like.
_LOGIN_OR_LOGOUT = re.compile(
    r"(?:(?:do|user|auth|account|member|session|oauth|oidc|saml|sso)[_-]?)?"
    r"(?:log|sign)[_-]?(?:in|out|on|off)"
    r"(?:[_-]?(?:view|page|form|user|get|post|submit|callback))?",
    re.IGNORECASE,
)


def is_own(endpoint: str) -> bool:
    """Return whether an endpoint is a page of this extension."""
    return endpoint.partition(".")[0] in _BLUEPRINTS


def is_static(app: Flask, endpoint: str) -> bool:
    """Return whether an endpoint is static files served by Flask, of the app or a blueprint."""
    blueprint, _, view = endpoint.rpartition(".")
    if view != "static":
        return False
    owner = app.blueprints.get(blueprint) if blueprint else app
    return owner is not None and owner.has_static_folder


def matches(endpoint: str, patterns: Iterable[str]) -> bool:
    """Return whether an endpoint matches one of the patterns, in which `*` matches any text."""
    return any(fnmatch.fnmatchcase(endpoint, pattern) for pattern in patterns)


def unmatched(patterns: Iterable[str], endpoints: Collection[str]) -> list[str]:
    """Return the patterns that match no endpoint."""
    return [
        pattern
        for pattern in patterns
        if not any(fnmatch.fnmatchcase(endpoint, pattern) for endpoint in endpoints)
    ]


def is_login_or_logout(app: Flask, endpoint: str) -> bool:
    """Return whether the current request's endpoint is a login or a logout view.

    These are the views that Flask-Login redirects to, and views whose name, or path without
    variable parts, ends with such a word.
    """
    return endpoint in login_endpoints(app) or is_named_login_or_logout(app, endpoint)


def is_named_login_or_logout(app: Flask, endpoint: str) -> bool:
    """Return whether the name or a path of an endpoint is that of a login or logout view."""
    if _LOGIN_OR_LOGOUT.fullmatch(endpoint.rpartition(".")[2]):
        return True
    return any(
        _LOGIN_OR_LOGOUT.fullmatch(rule.rule.rstrip("/").rpartition("/")[2])
        for rule in app.url_map.iter_rules(endpoint)
        if not rule.arguments
    )


def login_endpoints(app: Flask) -> set[str]:
    """Return the endpoints that Flask-Login redirects to, also those for the request's blueprint.

    Flask-Login accepts an endpoint, a path and a URL.
    """
    manager = getattr(app, "login_manager", None)
    if manager is None:
        return set()
    views = [manager.login_view, manager.refresh_view, *manager.blueprint_login_views.values()]
    return {_endpoint_of(view) for view in views if view}


def _endpoint_of(view: str) -> str:
    if view.startswith("."):  # relative to the blueprint of the request
        return f"{request.blueprint}{view}" if request.blueprint else view[1:]
    if not view.startswith(("/", "http://", "https://")):
        return view
    path = request.script_root + request.path
    is_here = urlsplit(view).path.rstrip("/") == path.rstrip("/")
    return request.endpoint or "" if is_here else ""
