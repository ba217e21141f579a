"""Cache headers: no response about a visitor may be stored."""

from __future__ import annotations

from flask import Response, request


def no_store(response: Response) -> Response:
    """Forbid caches to store a response."""
    response.headers["Cache-Control"] = "no-store"
    response.vary.update(["Cookie", "Accept", "Accept-Language"])
    return response


def no_store_below(url_prefix: str, response: Response) -> Response:
    """Apply `no_store` to every response below a URL prefix, except to static files.

    This covers responses that no view returned, such as 404 and 405.
    """
    is_below = f"{request.path}/".startswith(f"{url_prefix}/")
    return no_store(response) if is_below and request.endpoint != "smsverify.static" else response
