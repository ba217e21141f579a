"""CSRF tokens, with Flask-WTF and the host app's settings for it.

The pages check tokens themselves, also in an app with Flask-WTF's `CSRFProtect`, which would refuse
programs that need no token. The pages are exempted from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from flask import Blueprint, current_app, request
from flask_wtf import CSRFProtect
from flask_wtf.csrf import generate_csrf, same_origin, validate_csrf
from wtforms import ValidationError

from ..forks import Lock
from ..request_cache import has_session
from .visitor import is_authenticated_by_request

_lock = Lock()
#: `CSRFProtect` → whether the host exempted the pages.
_exempted_by_host: WeakKeyDictionary[CSRFProtect, bool] = WeakKeyDictionary()


def take_over(blueprint: Blueprint) -> None:
    """Keep the host's `CSRFProtect` from checking the current request, and remember its exemptions.

    It must run before the host's `before_request` functions.
    """
    protection = _protection()
    if protection is None:
        return
    with _lock:
        if protection not in _exempted_by_host:
            exempted = blueprint in protection._exempt_blueprints
            _exempted_by_host[protection] = exempted
            protection.exempt(blueprint)


def is_csrf_valid() -> bool:
    """Whether the request has a valid token, or needs none.

    It needs none if the host requires none or exempts the pages, or if the request carries its
    user's credentials itself.

    :raises StoreUnavailable: the host's database did not respond.
    """
    if not is_csrf_required(request.endpoint or ""):
        return True
    token: Any = next(filter(None, map(request.headers.get, csrf_headers())), None)
    if not token and not request.is_json:
        token = request.form.get(csrf_field_name())
    try:
        validate_csrf(token)
    except ValidationError:
        return is_authenticated_by_request()
    return _is_referrer_ours() or is_authenticated_by_request()


def csrf_headers() -> Sequence[str]:
    """Return the names of the headers in which a program may send the token."""
    names: Sequence[str] = current_app.config.get(
        "WTF_CSRF_HEADERS", ("X-CSRFToken", "X-CSRF-Token")
    )
    return names


def csrf_field_name() -> str:
    """Return the name of the hidden form field."""
    return str(current_app.config.get("WTF_CSRF_FIELD_NAME", "csrf_token"))


def csrf_token() -> str:
    """Return a token for the current session; empty if the host app requires none or has none."""
    is_useful = has_session() and is_csrf_required(request.endpoint or "")
    return generate_csrf() if is_useful else ""


def is_csrf_required(endpoint: str) -> bool:
    """Whether the host app requires a token for the POST requests of a page."""
    is_enabled = bool(current_app.config.get("WTF_CSRF_ENABLED", True))
    return is_enabled and not _is_exempted(endpoint)


def _protection() -> CSRFProtect | None:
    protection = current_app.extensions.get("csrf")
    return protection if isinstance(protection, CSRFProtect) else None


def _is_exempted(endpoint: str) -> bool:
    """Return whether the host exempted a page, or all of its blueprint, from its `CSRFProtect`."""
    protection = _protection()
    if protection is None:
        return False
    view = current_app.view_functions[endpoint]
    is_view_exempted = f"{view.__module__}.{view.__name__}" in protection._exempt_views
    if is_view_exempted or endpoint.partition(".")[0] != "smsverify":
        return is_view_exempted  # the staff pages have a blueprint of their own
    pages = current_app.blueprints["smsverify"]
    # Before the first request, the exemption is still in its place.
    return _exempted_by_host.get(protection, pages in protection._exempt_blueprints)


def _is_referrer_ours() -> bool:
    """Make the same check of `WTF_CSRF_SSL_STRICT` as `CSRFProtect`."""
    is_strict = current_app.config.get("WTF_CSRF_SSL_STRICT", True)
    if _protection() is None or not request.is_secure or not is_strict:
        return True
    return bool(same_origin(request.referrer or "", f"https://{request.host}/"))
