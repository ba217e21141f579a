"""Cache headers: no response about a visitor may be stored."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Response, request

_STATIC = "smsverify.static"


def no_store(response: Response) -> Response:
    """Forbid caches to store a response."""
    response.headers["Cache-Control"] = "no-store"
    response.vary.update(["Cookie", "Accept", "Accept-Language"])
    return response


def no_store_below(url_prefixes: Sequence[str], response: Response) -> Response:
    """Apply `no_store` to every response below these URL prefixes, except to static files.

    This covers responses that no view returned, such as 404 and 405.
    """
    path = f"{request.path}/"
    is_below = any(path.startswith(f"{prefix}/") for prefix in url_prefixes)
    return no_store(response) if is_below and request.endpoint != _STATIC else response
