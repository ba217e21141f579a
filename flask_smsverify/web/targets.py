"""Where to go afterwards: only ever a path of our own site, and the demand that travels with it."""

from __future__ import annotations

import unicodedata
from datetime import timedelta
from urllib.parse import quote, urlsplit

from flask import request
from itsdangerous import BadSignature, URLSafeSerializer

from ..extension import State, secrets_of

#: Control and format characters, halves of characters, and line ends that are not ASCII.
_NOT_IN_PATHS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_DEMAND_SALT = "flask_smsverify.demand"
_MAX_LENGTH = 2000
#: What RFC 3986, 3.3 and 3.4 leave as it is in a path, and beside it in a query.
_IN_PATH = "/:@!$&'()*+,;=~"
_IN_QUERY = _IN_PATH + "?%"


def safe_path(target: object) -> str | None:
    """The target where it is a path on this site and cannot be read as anything else.

    Browsers read `\\` as `/`, drop tabs and newlines, and take `//host` and `/\\host` for another
    site, so all of these are refused, and everything that is not a path from the root.
    """
    if not isinstance(target, str) or not target.startswith("/") or len(target) > _MAX_LENGTH:
        return None
    if target.startswith("//") or "\\" in target:
        return None
    if any(unicodedata.category(char) in _NOT_IN_PATHS for char in target):
        return None
    try:
        parts = urlsplit(target)
    except ValueError:
        return None
    return None if parts.scheme or parts.netloc else target


def next_of(target: object, state: State) -> str:
    """A safe target, or `SMSVERIFY_NEXT_URL`, which is a path within the app."""
    return safe_path(target) or request.script_root + state.settings.next_url


def here() -> str | None:
    """What a visitor who was stopped wanted: this page, or for a POST the one it came from."""
    if request.method in ("GET", "HEAD"):
        # Flask has unquoted the path; a `?` or `#` that was quoted in it must not end it.
        path = quote(request.script_root + request.path, safe=_IN_PATH)
        query = quote(request.query_string, safe=_IN_QUERY)
        return safe_path(f"{path}?{query}" if query else path)
    try:
        referrer = urlsplit(request.referrer or "")
    except ValueError:
        return None
    if referrer.scheme not in ("http", "https") or referrer.netloc != request.host:
        return None
    return safe_path(referrer.path + (f"?{referrer.query}" if referrer.query else ""))


class Demands:
    """Demands for a fresh proof (`within`), signed: a visitor can carry but not ease them."""

    def __init__(self, state: State) -> None:
        # itsdangerous signs with the last key of a list.
        secrets = secrets_of(state.app)[::-1]
        self._serializer = URLSafeSerializer(secrets, salt=_DEMAND_SALT)

    def dump(self, user_id: str, within: timedelta) -> str:
        """The demand as text for a URL."""
        return str(self._serializer.dumps([user_id, within.total_seconds()]))

    def load(self, token: object, user_id: str) -> timedelta | None:
        """The demand that was made of this user; None where there is none or it is not genuine."""
        if not isinstance(token, str) or not token:
            return None
        try:
            whose, seconds = self._serializer.loads(token)
        except (BadSignature, ValueError, TypeError):
            return None
        return timedelta(seconds=seconds) if whose == user_id else None
