"""Redirect targets: only paths of this site."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote, urlsplit

from flask import request

from ..state import get_state
from .negotiation import is_fetch, is_htmx

#: Control and format characters, surrogates, and line separators.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_MAX_LENGTH = 2000
#: Characters that RFC 3986, 3.3 and 3.4 allow unquoted in a path, and in a query.
_IN_PATH = "/:@!$&'()*+,;=~"
_IN_QUERY = _IN_PATH + "?%"


def safe_path(target: object) -> str | None:
    """Return the target if it is a path on this site and cannot be read as anything else.

    Browsers read `\\` as `/`, remove tabs and newlines, and read `//host` and `/\\host` as another
    site. All of these are refused.
    """
    if not isinstance(target, str) or not target.startswith("/") or len(target) > _MAX_LENGTH:
        return None
    if target.startswith("//") or "\\" in target:
        return None
    if any(unicodedata.category(char) in _REFUSED_CATEGORIES for char in target):
        return None
    try:
        parts = urlsplit(target)
    except ValueError:
        return None
    return None if parts.scheme or parts.netloc else target


def next_url(target: object) -> str:
    """Return a safe target, else `SMSVERIFY_NEXT_URL`, which is a path within the app."""
    return safe_path(target) or request.script_root + get_state().settings.next_url


def is_sign_in() -> bool:
    """Return whether this request is to the pages of the sign-in."""
    return (request.endpoint or "").startswith("smsverify.sign_in")


def requested_path() -> str | None:
    """Return where a refused visitor wanted to go: this page, or for a POST its referrer.

    A script's request is not a page: the visitor returns to the page that the script runs on.
    """
    if is_htmx():
        visible = visible_url()
        return _path_of(visible) if visible else None
    if request.method in ("GET", "HEAD"):
        return (referrer_path() if is_fetch() else None) or _current_path()
    return referrer_path()


def referrer_path() -> str | None:
    """Return the page that led to this request, if it is on this site."""
    return _path_of(request.referrer or "")


def visible_url() -> str | None:
    """Return the URL that the browser shows for an HTMX request, if it is on this site."""
    url = request.headers.get("HX-Current-URL") or request.referrer or ""
    return url if _path_of(url) else None


def _current_path() -> str | None:
    # Flask has unquoted the path; a quoted `?` or `#` in it must not end it.
    path = quote(request.script_root + request.path, safe=_IN_PATH)
    query = quote(request.query_string, safe=_IN_QUERY)
    return safe_path(f"{path}?{query}" if query else path)


def _path_of(url: str) -> str | None:
    """Return the path and query of a URL on this site; None for any other URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or parts.netloc != request.host:
        return None
    return safe_path(parts.path + (f"?{parts.query}" if parts.query else ""))
