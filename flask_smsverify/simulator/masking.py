"""Mask credentials in requests, before the simulator stores or shows them.

`Authorization`, the gateways' key headers, and the values of passwords, tokens and keys in queries,
forms, JSON and XML are masked. User names, phone numbers and texts stay readable, because the page
must show them.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote_plus

MASK: Final = "•••"

_SECRET_HEADERS = frozenset({"x-api-key", "x-sms-ir-secure-token", "cookie", "proxy-authorization"})
_SECRET_FIELDS = (
    "password", "passwd", "token", "tokenkey", "apikey", "api_key", "x-api-key", "userapikey",
    "secretkey", "secret_key", "secret",
)  # fmt: skip
_SECRET_FIELD = "|".join(_SECRET_FIELDS)
_JSON = re.compile(
    rf'("(?:{_SECRET_FIELD})"\s*:\s*)(?:"(?:\\.|[^"\\])*"?|[^\s,"\[\]{{}}]+)',
    re.IGNORECASE | re.DOTALL,
)
_XML = re.compile(
    rf"(<(?P<name>(?:[\w.\-]+:)?(?:{_SECRET_FIELD}))(?:\s(?:[^>]*[^/>])?)?>).*?(</(?P=name)\s*>|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_MULTIPART = re.compile(
    rf'(\bname="?(?:{_SECRET_FIELD})"?[^\n]*\n(?:[^\n]+\n)*?\r?\n).*?(?=\r?\n--|\Z)',
    re.IGNORECASE | re.DOTALL,
)
_SCHEMES = frozenset({"basic", "bearer", "digest"})


def mask_header(name: str, value: str) -> str:
    """Return a header's value, masked if it is secret. An `Authorization` keeps its scheme."""
    lowered = name.lower()
    if lowered == "authorization":
        scheme = value.partition(" ")[0]
        return f"{scheme} {MASK}" if scheme.lower() in _SCHEMES else MASK
    return MASK if lowered in _SECRET_HEADERS else value


def mask_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers with credentials masked."""
    return {name: mask_header(name, value) for name, value in headers}


def mask_form(encoded: str) -> str:
    """Return a query or a form body with the values of secret fields masked."""
    return "&".join(_mask_pair(pair) for pair in encoded.split("&"))


def mask_body(body: str) -> str:
    """Return a body with credentials masked.

    All formats are tried, because a wrong Content-Type must not expose a password.
    """
    masked = _JSON.sub(rf'\1"{MASK}"', mask_form(body))
    return _MULTIPART.sub(rf"\1{MASK}", _XML.sub(rf"\1{MASK}\3", masked))


def _mask_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    is_secret = unquote_plus(name).strip().casefold() in _SECRET_FIELDS
    return f"{name}={MASK}" if equals and is_secret else pair
