"""Demands for a recent proof (`within`), signed, so that a visitor can pass but not change them."""

from __future__ import annotations

from datetime import timedelta

from itsdangerous import BadSignature, URLSafeSerializer

from ..state import get_state

_SALT = "flask_smsverify.demand"


def dump_demand(user_id: str, within: timedelta) -> str:
    """Return a demand as text for a URL."""
    return str(_serializer().dumps([user_id, within.total_seconds()]))


def load_demand(token: object, user_id: str) -> timedelta | None:
    """Return the demand that was made for this user; None if there is no valid one."""
    if not isinstance(token, str) or not token:
        return None
    try:
        demanded_of, seconds = _serializer().loads(token)
    except (BadSignature, ValueError, TypeError):
        return None
    return timedelta(seconds=seconds) if demanded_of == user_id else None


def _serializer() -> URLSafeSerializer:
    return URLSafeSerializer(get_state().keyring.signing_keys(), salt=_SALT)
