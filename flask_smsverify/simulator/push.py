"""Hands a received message on to the user's app, as a gateway that pushes does.

The address must be this machine's own: the simulator is a toy for one desk and fetches nothing from
anywhere else.
"""

import http.client
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

from .hosts import host_name, is_loopback

SECONDS = 5.0


def check_address(url: str) -> str:
    """The address, or ValueError with what would be right."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError("push_url is not an address") from error
    if parts.scheme != "http" or not is_loopback(host_name(parts.hostname or "")) or port == 0:
        raise ValueError("push_url must be http:// on 127.0.0.1, localhost or [::1]")
    return url


def push(url: str, query: Mapping[str, str]) -> dict[str, object]:
    """GET the address with the query added. Answers `{"url", "status"}`, or `{"url", "error"}`
    where nobody answered; redirects are not followed."""
    parts = urlsplit(check_address(url))
    joined = "&".join(piece for piece in (parts.query, urlencode(query)) if piece)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=SECONDS)
    try:
        connection.request("GET", f"{parts.path or '/'}?{joined}")
        return {"url": url, "status": connection.getresponse().status}
    except (OSError, http.client.HTTPException) as error:
        return {"url": url, "error": str(error) or type(error).__name__}
    finally:
        connection.close()
