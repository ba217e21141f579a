"""Whether a request carries the credentials of its user itself, instead of a session cookie.

Programs authenticate by a header, which Flask-Login's `request_loader` reads, and keep no cookies.
Each of their requests proves who sent it.
"""

from __future__ import annotations

from typing import Any

import flask_login
from flask import Flask, current_app, request

from .users import current_user, is_logged_in

#: The key in the WSGI environment that marks a request whose user `request_loader` returned.
_LOADED = "smsverify.loaded_from_request"
#: Credentials that a browser adds automatically to requests of other sites.
_AMBIENT_SCHEMES = ("basic", "digest", "negotiate", "ntlm")


def connect(app: Flask) -> None:
    """Mark the requests from which Flask-Login loads the user."""
    flask_login.user_loaded_from_request.connect(_note, app)


def _note(_app: Flask, **_: Any) -> None:
    request.environ[_LOADED] = True


def are_in_request() -> bool:
    """Return whether this request itself logs the user in.

    The host's `request_loader` returned the user, or the user is logged in although the request has
    neither a session cookie nor a remember cookie.
    """
    if not is_logged_in(current_user()):
        return False
    if request.environ.get(_LOADED):
        return True
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # a werkzeug LocalProxy
    session_cookie = app.session_interface.get_cookie_name(app)
    remember_cookie = app.config.get("REMEMBER_COOKIE_NAME", flask_login.COOKIE_NAME)
    return session_cookie not in request.cookies and remember_cookie not in request.cookies


def are_forgeable() -> bool:
    """Return whether another site may have sent this request with the browser's credentials.

    A browser adds Basic credentials, client certificates and cookies to a form that another site
    submits. Other sites can add neither an `Authorization` header nor a JSON body, unless the host
    allows it with CORS.
    """
    if request.is_json or _has_explicit_authorization():
        return False
    if request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
        return True
    origin = request.headers.get("Origin")
    return origin is not None and origin.partition("://")[2] != request.host


def _has_explicit_authorization() -> bool:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return bool(value) and scheme.lower() not in _AMBIENT_SCHEMES
