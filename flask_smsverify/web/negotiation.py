"""Who the client is: a program, which gets JSON, HTMX, or a browser, which gets pages."""

from __future__ import annotations

from flask import Response, request

from .. import request_cache

_XHTML = "application/xhtml+xml"
_JSON = ("application/json", "application/problem+json")
#: A longer `Accept` is ignored, because parsing it would take too long.
_MAX_HEADER_LENGTH = 1_000


def wants_json() -> bool:
    """Whether the client is a program.

    A program sends JSON, prefers JSON to HTML, accepts no HTML, or is a script's `fetch`
    (`Sec-Fetch-Dest: empty`) or XMLHttpRequest. A request without `Accept` is a browser's. A guard
    with `answer="json"` treats every client as a program.
    """
    if request_cache.demands_json():
        return True
    if is_htmx():  # also a `fetch`, and it can follow a redirect of its own kind
        return False
    return request.is_json or is_fetch() or _prefers_json()


def is_fetch() -> bool:
    """Whether a script sent the request (Fetch Metadata, 2.1).

    Over plain HTTP, browsers send no Fetch Metadata. jQuery and others send another header.
    """
    return (
        request.headers.get("Sec-Fetch-Dest") == "empty"
        or request.headers.get("X-Requested-With") == "XMLHttpRequest"
    )


def is_htmx() -> bool:
    """Whether HTMX sent the request."""
    return request.headers.get("HX-Request") == "true"


def _prefers_json() -> bool:
    accept = request.headers.get("Accept", "")
    if not accept.strip() or len(accept) > _MAX_HEADER_LENGTH:
        return False
    accepted = request.accept_mimetypes
    if not accepted.quality("text/html") and _XHTML not in accepted.values():
        return True
    return accepted.best_match(["text/html", _XHTML, *_JSON]) in _JSON


def adapt_redirect(response: Response) -> Response:
    """Change a redirect so that HTMX replaces the whole page.

    The XMLHttpRequest of HTMX follows an ordinary redirect automatically, and the page would end up
    in a fragment of the previous one.
    """
    if is_htmx() and response.location and 300 <= response.status_code < 400:
        response.headers["HX-Redirect"] = response.headers.pop("Location")
        response.status_code = 200
        response.set_data(b"")
    return response
