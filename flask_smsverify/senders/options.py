"""Read and check the options that several senders have in common."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple
from urllib.parse import urlsplit

from ..errors import ConfigurationError
from ..secret import Secret


class Timeout(NamedTuple):
    """Seconds to connect, between two reads, and for the whole call including DNS."""

    connect: float = 3
    read: float = 10
    whole: float = 12


DEFAULT_TIMEOUT = Timeout()


def parse_credential(sender: str, option: str, value: object) -> Secret:
    """Return a credential as a `Secret`, which no `repr` shows.

    :param sender: the sender's name, for the message.
    :raises ConfigurationError: the option is missing or not text.
    """
    return Secret(parse_text(sender, option, value))


def parse_text(sender: str, option: str, value: object) -> str:
    """Return an option as text.

    Flask reads an environment variable of digits as an `int`, so an `int` is converted. A `float`
    or a `bool` is refused, because its original spelling is lost.

    :param sender: the sender's name, for the message.
    :raises ConfigurationError: the option is missing or not text.
    """
    if isinstance(value, bool | float) or not isinstance(value, str | int):
        raise ConfigurationError(
            f"{sender}: the option {option!r} must be text, not {type(value).__name__}. "
            "In an environment variable, put it in double quotes."
        )
    text = str(value)
    if not text.strip():
        raise ConfigurationError(f"{sender}: the option {option!r} is missing or empty")
    return text


def parse_number(sender: str, option: str, value: object) -> int | None:
    """Return an option that is a whole number; None if it is None or empty.

    :raises ConfigurationError: the option is not a whole number.
    """
    if value in (None, ""):
        return None
    text = parse_text(sender, option, value)
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ConfigurationError(f"{sender}: {option} must be a whole number")
    return int(text)


def parse_flag(sender: str, option: str, value: object) -> bool:
    """Return an option that is true or false.

    :raises ConfigurationError: the option is not a bool.
    """
    if not isinstance(value, bool):
        raise ConfigurationError(f"{sender}: {option} must be true or false")
    return value


def check_base_url(sender: str, base_url: object, *, allow_http: bool) -> str:
    """Return a base URL without its final slash.

    :param allow_http: accept `http:` for hosts that are not loopback.
    :raises ConfigurationError: not a URL, or `http:` to a host that is not loopback.
    """
    import httpx

    if not isinstance(base_url, str):
        raise ConfigurationError(f"{sender}: base_url must be text")
    parse_flag(sender, "allow_http", allow_http)
    try:
        parts = urlsplit(base_url)
        host, _port, _parsed = parts.hostname, parts.port, httpx.URL(base_url)
    except (ValueError, httpx.InvalidURL):
        raise ConfigurationError(f"{sender}: base_url is not a valid URL") from None
    if (
        parts.scheme not in ("http", "https")
        or not host
        or "@" in parts.netloc
        or parts.query
        or parts.fragment
    ):
        raise ConfigurationError(
            f"{sender}: base_url must be an https URL without credentials, query or fragment"
        )
    if parts.scheme == "http" and not allow_http and not _is_loopback(host):
        raise ConfigurationError(
            f"{sender}: base_url is plain http, which exposes credentials and codes on the "
            "network. Use https, or set allow_http."
        )
    return base_url.rstrip("/")


def check_timeout(sender: str, timeout: object) -> Timeout:
    """Return a timeout from three positive numbers of seconds.

    :raises ConfigurationError: anything else.
    """
    if (
        isinstance(timeout, tuple | list)
        and len(timeout) == 3
        and all(
            isinstance(part, int | float) and not isinstance(part, bool) and 0 < part < 86_400
            for part in timeout
        )
    ):
        return Timeout(*timeout)
    raise ConfigurationError(
        f"{sender}: timeout must be three positive numbers of seconds: connect, read, whole"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
