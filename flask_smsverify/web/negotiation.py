"""Whether a response is JSON or HTML."""

from __future__ import annotations

from flask import request

_JSON = ("application/json", "application/problem+json")
#: A longer `Accept` is ignored, because parsing it would take too long.
_MAX_HEADER_LENGTH = 1_000


def wants_json() -> bool:
    """Whether the client is a program: it sends JSON, or prefers JSON to HTML."""
    if request.is_json:
        return True
    if len(request.headers.get("Accept", "")) > _MAX_HEADER_LENGTH:
        return False
    return request.accept_mimetypes.best_match(["text/html", *_JSON]) in _JSON
