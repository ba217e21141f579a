"""Hides the credentials in a request before it is remembered or shown.

What is hidden: `Authorization` and the gateways' key headers, and the values of passwords, tokens
and keys in queries, forms, JSON and XML. User names, numbers and texts stay; they are why one
looks. Everything else of the request is kept as it was received.
"""

import re
from collections.abc import Iterable
from urllib.parse import unquote_plus

HIDDEN = "•••"

_HEADERS = frozenset({"x-api-key", "x-sms-ir-secure-token", "cookie", "proxy-authorization"})
_NAMES = (
    "password", "passwd", "token", "tokenkey", "apikey", "api_key", "x-api-key", "userapikey",
    "secretkey", "secret_key", "secret",
)  # fmt: skip
_NAME = "|".join(_NAMES)
_JSON = re.compile(
    rf'("(?:{_NAME})"\s*:\s*)(?:"(?:\\.|[^"\\])*"?|[^\s,"\[\]{{}}]+)', re.IGNORECASE | re.DOTALL
)
_XML = re.compile(
    rf"(<(?P<name>(?:[\w.\-]+:)?(?:{_NAME}))(?:\s(?:[^>]*[^/>])?)?>).*?(</(?P=name)\s*>|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_MULTIPART = re.compile(
    rf'(\bname="?(?:{_NAME})"?[^\n]*\n(?:[^\n]+\n)*?\r?\n).*?(?=\r?\n--|\Z)',
    re.IGNORECASE | re.DOTALL,
)
_SCHEMES = frozenset({"basic", "bearer", "digest"})


def mask_header(name: str, value: str) -> str:
    """The header's value, or what may be shown of it: the scheme of an `Authorization`."""
    lowered = name.lower()
    if lowered == "authorization":
        scheme = value.partition(" ")[0]
        return f"{scheme} {HIDDEN}" if scheme.lower() in _SCHEMES else HIDDEN
    return HIDDEN if lowered in _HEADERS else value


def mask_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The headers with credentials hidden."""
    return {name: mask_header(name, value) for name, value in headers}


def mask_form(encoded: str) -> str:
    """A query or form body with the values of secret fields hidden."""
    return "&".join(_mask_pair(pair) for pair in encoded.split("&"))


def mask_body(body: str) -> str:
    """A body with its credentials hidden, whatever its type and whatever type it claims."""
    hidden = _JSON.sub(rf'\1"{HIDDEN}"', mask_form(body))
    return _MULTIPART.sub(rf"\1{HIDDEN}", _XML.sub(rf"\1{HIDDEN}\3", hidden))


def _mask_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    secret = unquote_plus(name).strip().casefold() in _NAMES
    return f"{name}={HIDDEN}" if equals and secret else pair
