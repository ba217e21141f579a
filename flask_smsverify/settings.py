"""Every `SMSVERIFY_*` key: its type, its default and its check.

`Settings.read` takes Flask's configuration once, at start. A wrong value or an unknown key stops
the start with the key's name and what would be right. Options of single senders are checked by
the senders themselves.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

import phonenumbers
from limits import parse_many

from .errors import ConfigurationError

PREFIX = "SMSVERIFY_"

DEFAULT_BUDGETS: Mapping[str, str | None] = {
    "mobile": "5/hour;10/day",
    "user": "5/hour;10/day",
    "mobiles_per_user": "3/day",
    "ip": "20/hour;60/day",
    "foreign": "50/day",
    "site": "1000/day",
    "failures": "15/day",
    "site_failures": "300/hour",
    "messages": None,
}


class Limit(NamedTuple):
    """At most `amount` in any window of `seconds`."""

    amount: int
    seconds: int


T = TypeVar("T")
_Check = Callable[[object], T]


def _key(check: _Check[Any], default: object) -> Any:  # a dataclass field stands for any type
    """A field that reads `SMSVERIFY_<ITS NAME>` through `check`; the default goes through too."""
    return field(metadata={"check": check, "default": default})


# --- checks: each takes what was configured and returns it in its type, or raises with what would
# --- be right


def _refuse(right: str) -> ConfigurationError:
    return ConfigurationError(right)


def _whole(low: int, high: int | None = None) -> _Check[int]:
    span = f"from {low} to {high}" if high is not None else f"of {low} or more"

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _refuse(f"must be a whole number {span}")
        if value < low or (high is not None and value > high):
            raise _refuse(f"must be a whole number {span}")
        return value

    return check


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 120:
        raise _refuse("must be a number of seconds above 0 and up to 120")
    return float(value)


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise _refuse("must be True or False")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _refuse("must be text")
    return value


def _site_name(value: object) -> str | None:
    if value is not None and (not isinstance(value, str) or not printable(value)):
        raise _refuse("must be a name in one line, or None for the app's")
    return value


def _signature(value: object) -> str:
    if not isinstance(value, str) or (value and not printable(value.replace("\n", ""))):
        raise _refuse("must be a text without control characters")
    return value


def printable(text: str) -> bool:
    """Whether it says something, in one line; what joins and directs letters is part of it."""
    return bool(text.strip()) and all(
        unicodedata.category(sign) not in ("Cc", "Cs", "Zl", "Zp") for sign in text
    )


def _attribute(value: object) -> str:
    if not isinstance(value, str) or not value.isidentifier():
        raise _refuse("must be the name of an attribute of the user model")
    return value


def _one_of(*choices: str) -> _Check[str]:
    def check(value: object) -> str:
        if value not in choices:
            raise _refuse("must be " + " or ".join(map(repr, choices)))
        return str(value)

    return check


def _listed(value: object, right: str) -> list[object]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise _refuse(right)
    return list(value)


def _names(value: object) -> tuple[str, ...]:
    right = "must be a list of names, not a single text"
    names = _listed(value, right)
    if not all(isinstance(name, str) and name for name in names):
        raise _refuse(right)
    return tuple(map(str, names))


def _regions(value: object) -> tuple[str, ...]:
    regions = tuple(map(_region, _names(value)))
    if not regions:
        raise _refuse("must name at least one region, such as ('IR',)")
    return regions


def _region(value: object) -> str:
    if not isinstance(value, str) or value.upper() not in phonenumbers.SUPPORTED_REGIONS:
        raise _refuse("must be a region's two letters, such as 'IR'")
    return value.upper()


def _delays(value: object) -> tuple[int, ...]:
    right = "must be a list of whole seconds, none below 1, such as (30, 60, 90, 120)"
    delays = _listed(value, right)
    if not delays:
        raise _refuse(right)
    try:
        return tuple(map(_whole(1, 86_400), delays))
    except ConfigurationError:
        raise _refuse(right) from None


def _budgets(value: object) -> Mapping[str, tuple[Limit, ...]]:
    if not isinstance(value, Mapping):
        raise _refuse("must be a mapping from a scope to limits such as '5/hour;10/day'")
    unknown = [str(scope) for scope in value if scope not in DEFAULT_BUDGETS]
    if unknown:
        raise _refuse(f"has no scope {unknown[0]!r}{_nearest(unknown[0], DEFAULT_BUDGETS)}")
    return {scope: _limits(scope, limits) for scope, limits in {**DEFAULT_BUDGETS, **value}.items()}


def _limits(scope: str, notation: object) -> tuple[Limit, ...]:
    if notation is None:
        return ()
    right = f"[{scope!r}] must be None or limits such as '5/hour;10/day', none of them 0"
    if not isinstance(notation, str):
        raise _refuse(right)
    try:
        items = parse_many(notation)
    except ValueError:
        raise _refuse(right) from None
    limits = tuple(Limit(item.amount, item.get_expiry()) for item in items)
    if any(limit.amount < 1 or limit.seconds < 12 for limit in limits):
        raise _refuse(right + ", over windows of 12 seconds or more")
    return limits


def _areas(value: object) -> Mapping[str, bool | tuple[str, ...]]:
    right = "must map an area to True, False or endpoint patterns such as ['billing.*']"
    if not isinstance(value, Mapping):
        raise _refuse(right)
    areas: dict[str, bool | tuple[str, ...]] = {}
    for area, switch in value.items():
        if not isinstance(area, str) or not area:
            raise _refuse(right)
        if isinstance(switch, bool):
            areas[area] = switch
            continue
        try:
            areas[area] = _names(switch)
        except ConfigurationError:
            raise _refuse(right) from None
    return areas


def _senders(value: object) -> Mapping[str, Mapping[str, object]]:
    right = "must map a name to a sender's options, such as {'main': {'gateway': 'raygan', …}}"
    if not isinstance(value, Mapping):
        raise _refuse(right)
    for name, options in value.items():
        if not isinstance(name, str) or not name or len(name) > 64:
            raise _refuse(right)
        if not isinstance(options, Mapping) or not isinstance(options.get("gateway"), str):
            raise _refuse(f"[{name!r}] needs 'gateway', the kind of gateway it speaks to")
    return value


def _routes(value: object) -> Mapping[str, tuple[str, ...]]:
    right = "must map 'sms', 'voice' or 'text' to a list of senders' names"
    if not isinstance(value, Mapping) or set(value) - {"sms", "voice", "text"}:
        raise _refuse(right)
    return {kind: _names(names) for kind, names in value.items()}


def _code_text(value: object) -> str | Mapping[str, str] | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Mapping) and set(value) <= {"fa", "en"}:
        return {str(locale): _text(text) for locale, text in value.items()}
    raise _refuse("must be a text, or a mapping from 'fa' and 'en' to texts")


def _path(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"(/[\w.~-]+)+", value, re.ASCII):
        raise _refuse("must be a path that starts with a slash and does not end with one")
    return value


def _local_url(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"/(?!/)[!-\[\]-~]*", value):
        raise _refuse("must be a path on this site, such as '/'")
    return value


_HOST = re.compile(
    r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.IGNORECASE
)


def _host(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _HOST.fullmatch(value):
        raise _refuse("must be a bare host name, such as 'example.com' or 'xn--mgba3a4f16a.ir'")
    return value.lower()


def _secret(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # what `from_prefixed_env` makes of a secret of digits
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]{16,}", value):
        raise _refuse("must be 16 or more letters, digits, '-' and '_'")
    return value


def _url(value: object) -> str | None:
    if value is None:
        return None
    right = "must be an address such as 'http://127.0.0.1:8025'"
    if not isinstance(value, str):
        raise _refuse(right)
    try:
        parts = urlsplit(value)
    except ValueError:
        raise _refuse(right) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _refuse(right)
    return value.rstrip("/")


def _test_numbers(value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping) or not all(
        isinstance(code, str) and code.isdecimal() and code.isascii() for code in value.values()
    ):
        raise _refuse("must map mobiles to codes in quotes, such as {'+98 912 000 0000': '123456'}")
    return {str(mobile): code for mobile, code in value.items()}


def _date(value: object) -> date | None:
    if value is None or (isinstance(value, date) and not isinstance(value, datetime)):
        return value
    try:
        return date.fromisoformat(value)  # type: ignore[arg-type]  # what is not text raises TypeError, caught below
    except (TypeError, ValueError):
        raise _refuse("must be a date such as '2030-01-31'") from None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings:
    """The checked configuration. `docs/configuration.md` says what each key means."""

    senders: Mapping[str, Mapping[str, object]] = _key(_senders, {})
    routes: Mapping[str, tuple[str, ...]] = _key(_routes, {})
    code_length: int = _key(_whole(4, 10), 6)
    code_lifetime: int = _key(_whole(30, 600), 600)
    max_attempts: int = _key(_whole(1, 100), 5)
    resend: Literal["same", "new"] = _key(_one_of("same", "new"), "same")
    resend_delays: tuple[int, ...] = _key(_delays, (30, 60, 90, 120))
    revalidation_days: int = _key(_whole(0, 36_500), 90)
    exempt_groups: tuple[str, ...] = _key(_names, ())
    areas: Mapping[str, bool | tuple[str, ...]] = _key(_areas, {})
    login_gate: bool = _key(_boolean, False)
    mobile_field: str = _key(_attribute, "mobile")
    email_field: str = _key(_attribute, "email")
    groups_field: str = _key(_attribute, "groups")
    accounts_per_mobile: int = _key(_whole(0), 1)
    mobile_policy: Literal["refuse", "transfer"] = _key(_one_of("refuse", "transfer"), "refuse")
    default_region: str = _key(_region, "IR")
    allowed_regions: tuple[str, ...] = _key(_regions, ("IR",))
    budgets: Mapping[str, tuple[Limit, ...]] = _key(_budgets, {})
    send_deadline: float = _key(_seconds, 15)
    sends_in_flight: int = _key(_whole(1, 1000), 8)
    recheck_seconds: int = _key(_whole(0, 86_400), 0)
    consecutive_failures: int = _key(_whole(1, 1_000_000), 100)
    signature: str = _key(_signature, "")
    site_name: str | None = _key(_site_name, None)
    code_text: str | Mapping[str, str] | None = _key(_code_text, None)
    webotp_host: str | None = _key(_host, None)
    url_prefix: str = _key(_path, "/verify-mobile")
    admin_url: str = _key(_path, "/admin/smsverify")
    next_url: str = _key(_local_url, "/")
    queue: str = _key(_one_of("inline"), "inline")
    staff_mobiles: tuple[str, ...] = _key(_names, ())
    test_numbers: Mapping[str, str] = _key(_test_numbers, {})
    test_numbers_until: date | None = _key(_date, None)
    hook_secret: str | None = _key(_secret, None)
    simulator_url: str | None = _key(_url, None)

    def __repr__(self) -> str:
        return f"<Settings of {len(self.senders)} senders>"  # the values hold credentials

    @classmethod
    def read(cls, config: Mapping[str, Any], *, development: bool) -> Settings:
        """Read and check every key.

        :param config: Flask's configuration, or any mapping with `SMSVERIFY_*` keys.
        :param development: whether the app is in debug or testing; some keys are for that only.
        :raises ConfigurationError: the key's name, and what would be right.
        """
        known = {PREFIX + item.name.upper(): item for item in dataclasses.fields(cls)}
        for key in config:
            if key.startswith(PREFIX) and key not in known:
                raise ConfigurationError(f"there is no setting {key}{_nearest(key, known)}")
        values = {}
        for key, item in known.items():
            try:
                values[item.name] = item.metadata["check"](
                    config.get(key, item.metadata["default"])
                )
            except ConfigurationError as error:
                raise ConfigurationError(f"{key} {error}") from None
        settings = cls(**values)
        settings._check_together(development=development)
        return settings

    def _check_together(self, *, development: bool) -> None:
        if self.default_region not in self.allowed_regions:
            raise ConfigurationError(
                "SMSVERIFY_DEFAULT_REGION must be among SMSVERIFY_ALLOWED_REGIONS"
            )
        if not development:
            if not self.senders:
                raise ConfigurationError(
                    "SMSVERIFY_SENDERS is empty, so no code could be sent; configure a sender"
                )
            if self.simulator_url:
                raise ConfigurationError(
                    "SMSVERIFY_SIMULATOR_URL is refused outside debug and testing"
                )
            today = datetime.now(UTC).date()
            if self.test_numbers and not (
                self.test_numbers_until and self.test_numbers_until > today
            ):
                raise ConfigurationError(
                    "SMSVERIFY_TEST_NUMBERS is refused outside debug and testing, unless "
                    "SMSVERIFY_TEST_NUMBERS_UNTIL is a date in the future"
                )
        for kind, names in self.routes.items():
            for name in names:
                if name not in self.senders:
                    raise ConfigurationError(
                        f"SMSVERIFY_ROUTES[{kind!r}] names {name!r}, which is not in "
                        f"SMSVERIFY_SENDERS{_nearest(name, self.senders)}"
                    )


def _nearest(name: str, known: Iterable[str]) -> str:
    [*near] = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""
