"""The checks of setting values.

Each check takes a configured value, and returns it in its type or raises a `ConfigurationError`.
The error's text follows the key's name (`about`): "SMSVERIFY_CODE_LENGTH must be …".
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from typing import TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..errors import ConfigurationError
from .limits_notation import Limit, parse_limits

T = TypeVar("T")
Check = Callable[[object], T]

#: The shortest window of a rate limit, in seconds.
MIN_LIMIT_WINDOW = 12
#: The longest `APP_ID`, in characters.
MAX_APP_ID = 64


def about(key: str, error: object) -> ConfigurationError:
    """Return the error of a check after its key, as in `SMSVERIFY_LIMITS['ip'] must be …`."""
    text = str(error)
    return ConfigurationError(f"{key}{text}" if text.startswith("[") else f"{key} {text}")


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a clause that suggests the known name nearest to a wrong one, or nothing."""
    [*near] = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def is_printable(text: str) -> bool:
    """Return whether a text is a single line that is not blank.

    Joiners and direction marks, which Persian text needs, are allowed.
    """
    return bool(text.strip()) and all(
        unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp") for char in text
    )


# --- numbers and switches -----------------------------------------------------------------------


def check_integer(low: int, high: int | None = None) -> Check[int]:
    """Return a check for a whole number in a range."""
    expected = f"must be a whole number from {low} to {high}"
    if high is None:
        expected = f"must be a whole number of {low} or more"

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigurationError(expected)
        if value < low or (high is not None and value > high):
            raise ConfigurationError(expected)
        return value

    return check


def check_seconds(value: object) -> float:
    """Check a number of seconds above 0 and up to 120."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 120:
        raise ConfigurationError("must be a number of seconds above 0 and up to 120")
    return float(value)


def check_share(value: object) -> float:
    """Check a part of a whole, from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigurationError("must be a number from 0 to 1")
    return float(value)


def check_bool(value: object) -> bool:
    """Check a switch."""
    if not isinstance(value, bool):
        raise ConfigurationError("must be True or False")
    return value


def check_optional_bool(value: object) -> bool | None:
    """Check a switch that is None if something else decides."""
    if value is not None and not isinstance(value, bool):
        raise ConfigurationError("must be True, False or None")
    return value


def check_date(value: object) -> date | None:
    """Check a date, which may be given as ISO 8601 text."""
    if value is None or (isinstance(value, date) and not isinstance(value, datetime)):
        return value
    try:
        return date.fromisoformat(value)  # type: ignore[arg-type]  # TypeError for what is no text
    except (TypeError, ValueError):
        raise ConfigurationError("must be a date such as '2030-01-31'") from None


def check_timezone(value: object) -> str:
    """Check the name of a time zone in the IANA database."""
    if value == "Asia/Tehran":
        return "Asia/Tehran"  # known without a database, as on Windows
    try:
        return ZoneInfo(str(value)).key
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ConfigurationError("must be the name of a time zone, such as 'Asia/Tehran'") from None


def check_delays(value: object) -> tuple[int, ...]:
    """Check a list of whole seconds that is not empty."""
    expected = "must be a list of whole seconds, none below 0, such as (30, 60, 90, 120)"
    delays = _as_list(value, expected)
    if not delays:
        raise ConfigurationError(expected)
    try:
        return tuple(map(check_integer(0, 86_400), delays))
    except ConfigurationError:
        raise ConfigurationError(expected) from None


# --- texts and names ----------------------------------------------------------------------------


def check_text(value: object) -> str:
    """Check any text."""
    if not isinstance(value, str):
        raise ConfigurationError("must be text")
    return value


def check_site_name(value: object) -> str | Mapping[str, str] | None:
    """Check the name of the site, or its name in each language. None stands for the app's name."""
    if value is None:
        return None
    return _check_by_language(
        value,
        is_printable,
        "must be a name in one line, a mapping from a language such as 'fa' to the name in it, or "
        "None for the app's name",
    )


def check_app_id(value: object) -> str | None:
    """Check the id of the app. None stands for the app's name."""
    if value is not None and (
        not isinstance(value, str) or not is_printable(value) or len(value) > MAX_APP_ID
    ):
        raise ConfigurationError(
            f"must be text of up to {MAX_APP_ID} characters, or None for the app's name"
        )
    return value


def check_template(value: object) -> str | None:
    """Check the name of a template. None stands for the built-in one."""
    if value is not None and (not isinstance(value, str) or not is_printable(value)):
        raise ConfigurationError("must be the name of a template, or None for the built-in one")
    return value


def check_signature(value: object) -> str | Mapping[str, str]:
    """Check the end of every text, or of the texts in each language.

    It may have several lines or be empty.
    """
    return _check_by_language(
        value,
        lambda text: not text or is_printable(text.replace("\n", "")),
        "must be a text without control characters, or a mapping from a language such as 'fa' to "
        "the text in it",
    )


def _check_by_language(
    value: object, is_valid: Callable[[str], bool], expected: str
) -> str | Mapping[str, str]:
    """Check one text for every language, or a text for each. The languages are checked later."""
    if isinstance(value, str) and is_valid(value):
        return value
    if isinstance(value, Mapping) and value:
        texts = {
            locale: text
            for locale, text in value.items()
            if isinstance(locale, str) and isinstance(text, str) and is_valid(text)
        }
        if len(texts) == len(value):
            return texts
    raise ConfigurationError(expected)


def check_footer(value: object) -> str | None:
    """Check the last line of event texts. None and the empty text stand for none."""
    if value is not None and (not isinstance(value, str) or (value and not is_printable(value))):
        raise ConfigurationError("must be a text in one line, such as 'لغو۱۱', or None")
    return value or None


def check_attribute(value: object) -> str:
    """Check the name of an attribute."""
    if not isinstance(value, str) or not value.isidentifier():
        raise ConfigurationError("must be the name of an attribute of the user model")
    return value


def check_one_of(*choices: str) -> Check[str]:
    """Return a check for one of several words."""

    def check(value: object) -> str:
        if value not in choices:
            raise ConfigurationError("must be " + " or ".join(map(repr, choices)))
        return str(value)

    return check


def check_names(value: object) -> tuple[str, ...]:
    """Check a list of names, none of them empty."""
    expected = "must be a list of names, not a single text"
    names = _as_list(value, expected)
    if not all(isinstance(name, str) and name for name in names):
        raise ConfigurationError(expected)
    return tuple(map(str, names))


def check_code_text(value: object) -> str | Mapping[str, str] | None:
    """Check the text of a code: one for all languages, or one for each."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Mapping) and all(isinstance(locale, str) for locale in value):
        return {locale: _check_in(locale, check_text, text) for locale, text in value.items()}
    raise ConfigurationError("must be a text, or map a language such as 'fa' to its text")


def check_secret(value: object) -> str | None:
    """Check a secret that is part of a URL."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # Flask's `from_prefixed_env` turns digits into a number
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]{16,}", value):
        raise ConfigurationError("must be 16 or more letters, digits, '-' and '_'")
    return value


def check_retriever_hash(value: object) -> str | None:
    """Check the hash of an Android app (SMS Retriever API, "Computing your app's hash string")."""
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9+/]{11}", value):
        raise ConfigurationError("must be the 11 characters of an Android app's hash")
    return value


# --- regions, limits, areas, senders ------------------------------------------------------------


def check_region(value: object) -> str:
    """Check a region's two letters (ISO 3166-1)."""
    import phonenumbers  # here, because its metadata takes long to load

    if not isinstance(value, str) or value.upper() not in phonenumbers.SUPPORTED_REGIONS:
        raise ConfigurationError("must be a region's two letters, such as 'IR'")
    return value.upper()


def check_regions(value: object) -> tuple[str, ...]:
    """Check a list of regions that is not empty."""
    regions = tuple(map(check_region, check_names(value)))
    if not regions:
        raise ConfigurationError("must name at least one region, such as ('IR',)")
    return regions


def check_limits(defaults: Mapping[str, str | None]) -> Check[Mapping[str, tuple[Limit, ...]]]:
    """Return a check for rate limits by scope.

    :param defaults: every scope with its default notation, which is used if a scope is left out.
    """

    def check(value: object) -> Mapping[str, tuple[Limit, ...]]:
        if not isinstance(value, Mapping):
            raise ConfigurationError("must be a mapping from a scope to limits such as '5/hour'")
        unknown = [str(scope) for scope in value if scope not in defaults]
        if unknown:
            raise ConfigurationError(f"has no scope {unknown[0]!r}{suggest(unknown[0], defaults)}")
        return {
            scope: _check_scope(scope, notation)
            for scope, notation in {**defaults, **value}.items()
        }

    return check


def _check_scope(scope: str, notation: object) -> tuple[Limit, ...]:
    if notation is None:
        return ()
    if not isinstance(notation, str):
        raise ConfigurationError(f"[{scope!r}] must be None or limits such as '5/hour;10/day'")
    try:
        limits = parse_limits(notation)
    except ValueError as error:
        raise ConfigurationError(
            f"[{scope!r}] must be None or limits such as '5/hour;10/day': {error}"
        ) from None
    if any(limit.seconds < MIN_LIMIT_WINDOW for limit in limits):
        raise ConfigurationError(
            f"[{scope!r}] must have windows of {MIN_LIMIT_WINDOW} seconds or more"
        )
    return limits


def check_areas(value: object) -> Mapping[str, bool | tuple[str, ...]]:
    """Check areas: each is on, off, or a list of endpoint patterns."""
    expected = "must map an area to True, False or endpoint patterns such as ['billing.*']"
    if not isinstance(value, Mapping):
        raise ConfigurationError(expected)
    areas: dict[str, bool | tuple[str, ...]] = {}
    for area, switch in value.items():
        if not isinstance(area, str) or not area:
            raise ConfigurationError(expected)
        if isinstance(switch, bool):
            areas[area] = switch
            continue
        try:
            areas[area] = check_names(switch)
        except ConfigurationError:
            raise ConfigurationError(expected) from None
    return areas


def check_senders(value: object) -> Mapping[str, Mapping[str, object]]:
    """Check that each sender has a name and a gateway. The senders check their own options."""
    expected = "must map a name to a sender's options, such as {'main': {'gateway': 'raygan', …}}"
    if not isinstance(value, Mapping):
        raise ConfigurationError(expected)
    if isinstance(value.get("gateway"), str):
        raise ConfigurationError(
            f"holds the options of one sender. Put them under a name: "
            f"{{'main': {{'gateway': {value['gateway']!r}, …}}}}"
        )
    for name, options in value.items():
        if not isinstance(name, str) or not name or len(name) > 64:
            raise ConfigurationError(expected)
        if not isinstance(options, Mapping) or not isinstance(options.get("gateway"), str):
            raise ConfigurationError(f"[{name!r}] needs 'gateway', the kind of its gateway")
    return value


def check_patterns(value: object) -> Mapping[str, Mapping[str, Mapping[str, object]]]:
    """Check patterns: event → sender → template and values. The names in them are checked later."""
    expected = (
        "must map an event to senders and each sender to its pattern, such as "
        "{'order.accepted': {'main': {'template': 100, 'values': {'ORDER': '{{ order_number }}'}}}}"
    )
    if not isinstance(value, Mapping):
        raise ConfigurationError(expected)
    for event, patterns in value.items():
        if not isinstance(event, str) or not isinstance(patterns, Mapping):
            raise ConfigurationError(expected)
        for sender, pattern in patterns.items():
            if not isinstance(sender, str) or not isinstance(pattern, Mapping):
                raise ConfigurationError(expected)
    return value


def check_routes(value: object) -> Mapping[str, tuple[str, ...]]:
    """Check routes: lists of senders' names."""
    if not isinstance(value, Mapping) or set(value) - {"sms", "voice", "text"}:
        raise ConfigurationError("must map 'sms', 'voice' or 'text' to a list of senders' names")
    return {route: _check_in(route, check_names, names) for route, names in value.items()}


def check_test_numbers(value: object) -> Mapping[str, str]:
    """Check a mapping from mobiles to fixed codes. The mobiles are parsed later."""
    if not isinstance(value, Mapping) or not all(
        isinstance(code, str) and code.isdecimal() and code.isascii() for code in value.values()
    ):
        raise ConfigurationError(
            "must map mobiles to codes in quotes, such as {'+98 912 000 0000': '123456'}"
        )
    return {str(mobile): code for mobile, code in value.items()}


# --- URLs ---------------------------------------------------------------------------------------

_HOST = re.compile(
    r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.IGNORECASE
)


_SUPPORT_URL = re.compile(r"(https?://[!-~]+|mailto:[!-~]+|tel:\+?[0-9-]+)", re.IGNORECASE)


def check_frame_ancestors(value: object) -> str:
    """Check the sources of the CSP directive `frame-ancestors` (CSP Level 3, 6.4.2)."""
    if not isinstance(value, str) or not re.fullmatch(r"[!-+\--:<-~]+( [!-+\--:<-~]+)*", value):
        raise ConfigurationError(
            "must be the sources of a frame-ancestors directive, such as \"'none'\" or "
            "\"'self' https://portal.example\""
        )
    return value


def check_path(value: object) -> str:
    """Check the URL prefix of a blueprint."""
    if not isinstance(value, str) or not re.fullmatch(r"(/[\w.~-]+)+", value, re.ASCII):
        raise ConfigurationError(
            "must be a path that starts with a slash and does not end with one"
        )
    return value


def check_local_url(value: object) -> str:
    """Check a URL on this site. `//` and backslashes would lead to another host."""
    if not isinstance(value, str) or not re.fullmatch(r"/(?!/)[!-\[\]-~]*", value):
        raise ConfigurationError("must be a path on this site, such as '/'")
    return value


def check_support_url(value: object) -> str | None:
    """Check the URL of help for users: a page, an email address or a phone number; or None."""
    if value is None:
        return None
    is_link = isinstance(value, str) and _SUPPORT_URL.fullmatch(value)
    if not isinstance(value, str) or not (is_link or value.startswith("/")):
        raise ConfigurationError(
            "must be a path, or start with 'https://', 'http://', 'mailto:' or 'tel:'"
        )
    return value if is_link else check_local_url(value)


def check_optional_local_url(value: object) -> str | None:
    """Check a URL on this site, or None."""
    return None if value is None else check_local_url(value)


def check_host(value: object) -> str | None:
    """Check a host name without scheme and port."""
    if value is None:
        return None
    if not isinstance(value, str) or not _HOST.fullmatch(value):
        raise ConfigurationError(
            "must be a bare host name, such as 'example.com' or 'xn--mgba3a4f16a.ir'"
        )
    return value.lower()


def check_netloc(value: object) -> str | None:
    """Check a host name, which may have a port."""
    if value is None:
        return None
    host, colon, port = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not _HOST.fullmatch(host) or (colon and not re.fullmatch(r"[0-9]+", port)):
        raise ConfigurationError(
            "must be a host without scheme, such as 'www.example.com' or 'localhost:5000'"
        )
    return str(value).lower()


def check_url(value: object) -> str | None:
    """Check a URL with scheme and host. A slash at its end is removed."""
    if value is None:
        return None
    expected = "must be an address such as 'http://127.0.0.1:8025'"
    if not isinstance(value, str):
        raise ConfigurationError(expected)
    try:
        parts = urlsplit(value)
    except ValueError:
        raise ConfigurationError(expected) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(expected)
    return value.rstrip("/")


def _check_in(key: str, check: Check[T], value: object) -> T:
    """Check the value of a key in a mapping."""
    try:
        return check(value)
    except ConfigurationError as error:
        raise about(f"[{key!r}]", error) from None


def _as_list(value: object, expected: str) -> list[object]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise ConfigurationError(expected)
    return list(value)
