"""Redirect targets: only paths of this site, and URLs on the app's own hosts."""

from __future__ import annotations

import logging
import unicodedata
from urllib.parse import quote, urlsplit

from flask import current_app, request

from ..log_events import log_event
from ..state import get_state
from .hosts import are_pages_here, is_own_host
from .negotiation import is_fetch, is_htmx

log = logging.getLogger(__name__)

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


def safe_target(target: object) -> str | None:
    """Return the target if it is a path on this host, or a URL on one of the app's own hosts."""
    path = safe_path(target)
    if path is not None or not isinstance(target, str):
        return path
    return _target_of(target)


def next_url(target: object) -> str:
    """Return a safe target, else `SMSVERIFY_NEXT_URL`, which is a path within the app."""
    return safe_target(target) or request.script_root + get_state().settings.next_url


def external_url(url: str) -> str:
    """Return the full URL of a page of this site, for a message.

    The host is the configured one and never that of the request: with a forged host, an attacker
    could send the recipient to another site.
    """
    parts = urlsplit(url)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    settings = get_state().settings
    host = settings.pages_host(current_app.config.get("SERVER_NAME")) or settings.webotp_host
    if not host:
        log.warning(
            "SERVER_NAME is not set: the link to undo a change of number has no host",
            extra=log_event("undo_link_without_host"),
        )
        return path
    scheme = "https" if request.is_secure else current_app.config["PREFERRED_URL_SCHEME"]
    return f"{scheme}://{host}{path}"


def is_sign_in() -> bool:
    """Return whether this request is to the pages of the sign-in."""
    return (request.endpoint or "").startswith("smsverify.sign_in")


def requested_url() -> str | None:
    """Return the URL that a refused visitor wanted: this page, or for a POST its referrer.

    A script's request is not a page: the visitor returns to the page on which the script runs. The
    URL has a host if the pages are on another one.
    """
    if is_htmx():
        wanted = visible_url()
    elif request.method in ("GET", "HEAD"):
        wanted = (referrer_url() if is_fetch() else None) or _current_url()
    else:
        wanted = referrer_url()
    if wanted is None or not wanted.startswith("/") or are_pages_here():
        return wanted
    return f"{request.scheme}://{request.host}{wanted}"


def referrer_url() -> str | None:
    """Return the page that led to this request, if it is on a host of the app's own."""
    return _target_of(request.referrer or "")


def form_url() -> str:
    """Return the page with the form that was sent, for a link back to it.

    Without a referrer, it is this URL if it also serves a page, else `SMSVERIFY_NEXT_URL`.
    """
    is_here = request.method not in ("GET", "HEAD") and _serves_page()
    return referrer_url() or (_current_url() if is_here else None) or next_url(None)


def _serves_page() -> bool:
    adapter = current_app.create_url_adapter(request)
    return adapter is not None and adapter.test(method="GET")


def visible_url() -> str | None:
    """Return the URL that the browser shows for an HTMX request, if it is one of the app's own."""
    return _target_of(request.headers.get("HX-Current-URL", "")) or referrer_url()


def _current_url() -> str | None:
    # Flask has unquoted the path; a quoted `?` or `#` in it must not end it.
    path = quote(request.script_root + request.path, safe=_IN_PATH)
    query = quote(request.query_string, safe=_IN_QUERY)
    return safe_path(f"{path}?{query}" if query else path)


def _target_of(url: str) -> str | None:
    """Return a URL on a host of the app's own, without host if it is this request's; else None."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not is_own_host(parts.netloc):
        return None
    path = safe_path((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
    if path is None or parts.netloc == request.host:
        return path
    if request.is_secure and parts.scheme == "http":
        return None
    return f"{parts.scheme}://{parts.netloc}{path}"
