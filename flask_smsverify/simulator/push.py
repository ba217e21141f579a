"""The call that pushes a received message to the user's app.

The URL must be on loopback, so that the simulator never sends a request to another machine.
"""

import http.client
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode, urlsplit

from .hosts import host_name, is_loopback

TIMEOUT: Final = 5.0
"""Seconds to wait for the user's app."""


def check_url(url: str) -> None:
    """Raise ValueError if a URL is not http on loopback."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError("push_url is not a URL") from error
    if parts.scheme != "http" or not is_loopback(host_name(parts.hostname or "")) or port == 0:
        raise ValueError("push_url must be http:// on 127.0.0.1, localhost or [::1]")


def push(url: str, query: Mapping[str, str]) -> dict[str, object]:
    """GET a URL with a query added. Redirects are not followed.

    :returns: `{"url", "status"}`, or `{"url", "error"}` if there was no response.
    """
    check_url(url)
    parts = urlsplit(url)
    full_query = "&".join(piece for piece in (parts.query, urlencode(query)) if piece)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT)
    try:
        connection.request("GET", f"{parts.path or '/'}?{full_query}")
        return {"url": url, "status": connection.getresponse().status}
    except (OSError, http.client.HTTPException) as error:
        return {"url": url, "error": str(error) or type(error).__name__}
    finally:
        connection.close()
