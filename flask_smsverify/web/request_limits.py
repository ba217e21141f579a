"""Limits on the size of a request, applied before anything parses it.

A rejected request continues as an empty one. A view responds to it later, because the host app's
own `before_request` functions run first, and its templates may depend on them.
"""

from __future__ import annotations

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge

#: Larger bodies are rejected unread, unless the host app's own limit is smaller.
MAX_BODY_BYTES = 1_200_000
#: Bodies with more separators are rejected unparsed. A megabyte of text takes milliseconds to
#: parse; a megabyte of `[],[],…`, `a=1&a=1&…` or `%2f%2f…` takes some hundred. Deep nesting needs
#: no limit here: the JSON parser stops at about a thousand levels.
MAX_SEPARATORS = 20_000
_SEPARATORS = (b",", b"&", b"%")
#: No form of this package is multipart, and the multipart parser is slow on many inputs.
_MAX_MULTIPART_BYTES = 32 * 1024
#: The key in the WSGI environment that marks a rejected request.
_REJECTED = "smsverify.rejected"


def limit_request(max_bytes: int = MAX_BODY_BYTES) -> None:
    """Reject the current request if parsing it would take long or fail.

    :param max_bytes: the largest body.
    """
    try:
        _check_body(max_bytes)
        request.query_string.decode()
    except (RequestEntityTooLarge, UnicodeDecodeError):
        reject_request()


def reject_request() -> None:
    """Make the current request an empty one."""
    request.environ[_REJECTED] = True
    request.environ |= {"CONTENT_TYPE": "", "CONTENT_LENGTH": "0"}
    request.query_string = b""


def is_rejected() -> bool:
    """Whether the current request was rejected."""
    return _REJECTED in request.environ


def _check_body(max_bytes: int) -> None:
    """Read the body.

    :raises RequestEntityTooLarge: too many bytes or separators.
    """
    if request.mimetype.startswith("multipart/"):
        max_bytes = min(max_bytes, _MAX_MULTIPART_BYTES)
    if request.max_content_length is not None:
        max_bytes = min(max_bytes, request.max_content_length)
    request.max_content_length = max_bytes
    body = request.get_data()
    # Werkzeug truncates a body without a Content-Length at the limit and raises nothing.
    is_truncated = body and request.content_length is None and len(body) >= max_bytes
    if is_truncated or sum(map(body.count, _SEPARATORS)) > MAX_SEPARATORS:
        raise RequestEntityTooLarge
