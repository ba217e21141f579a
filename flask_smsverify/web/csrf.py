"""CSRF tokens, by Flask-WTF and the host app's settings for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import current_app, request
from flask_wtf.csrf import generate_csrf, validate_csrf
from wtforms import ValidationError


def is_csrf_valid() -> bool:
    """Whether the request has a valid token, or the host app requires none."""
    if not _is_enabled():
        return True
    token: Any = next(filter(None, map(request.headers.get, csrf_headers())), None)
    if not token and not request.is_json:
        token = request.form.get(csrf_field_name())
    try:
        validate_csrf(token)
    except ValidationError:
        return False
    return True


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
    """Return a token for the current session; empty if the host app requires none."""
    return generate_csrf() if _is_enabled() else ""


def _is_enabled() -> bool:
    return bool(current_app.config.get("WTF_CSRF_ENABLED", True))
