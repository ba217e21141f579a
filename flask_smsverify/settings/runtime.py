"""The settings that staff can change while the app runs, as one versioned snapshot.

A rule that needs one of these settings reads `LiveSettings.current` when it runs, and keeps no
copy. A snapshot is immutable, so all values that are read from one belong together.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..errors import ConfigurationError, MobileError
from .checks import suggest
from .quiet_hours import QuietHours
from .schema import PREFIX, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSettings:
    """One version of the settings that staff can change.

    :param version: 1 at start; each update has the next number.
    :param areas: area → on, off, or the endpoint patterns that it guards.
    :param exempt_groups: names of groups whose users need no verification.
    :param revalidation_days: for how many days a proof is valid; 0: without end.
    :param signature: the end of every text; may be empty.
    :param site_name: the name in texts and on pages.
    :param staff_mobiles: the recipients of staff notices, in E.164.
    :param quiet_hours: when event and bulk texts wait; None: never.
    """

    version: int
    areas: Mapping[str, bool | tuple[str, ...]]
    exempt_groups: tuple[str, ...]
    revalidation_days: int
    signature: str
    site_name: str
    staff_mobiles: tuple[str, ...] = dataclasses.field(repr=False)
    quiet_hours: QuietHours | None


#: The names that `LiveSettings.update` accepts.
RUNTIME_NAMES = tuple(
    item.name for item in dataclasses.fields(RuntimeSettings) if item.name != "version"
)
_CHECKS = {
    item.name: item.metadata["check"]
    for item in dataclasses.fields(Settings)
    if item.name in RUNTIME_NAMES
}


class LiveSettings:
    """Holds the current `RuntimeSettings` of an app. Thread-safe.

    :param settings: the configuration at start.
    :param default_site_name: the site's name where `SMSVERIFY_SITE_NAME` is None.
    :param parse_mobile: returns a mobile in E.164, or raises `MobileError`.
    :raises ConfigurationError: one of `SMSVERIFY_STAFF_MOBILES` is not a mobile.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        default_site_name: str,
        parse_mobile: Callable[[object], str],
    ) -> None:
        self._default_site_name = default_site_name
        self._parse_mobile = parse_mobile
        self._lock = threading.Lock()
        initial = {name: getattr(settings, name) for name in RUNTIME_NAMES}
        self._current = RuntimeSettings(version=1, **self._complete(initial))

    @property
    def current(self) -> RuntimeSettings:
        """The newest version."""
        return self._current

    def update(self, **changes: object) -> RuntimeSettings:
        """Replace some settings, checked as at start, and return the new version.

        Settings that are not given keep their values. If one value is wrong, nothing changes.

        :raises ConfigurationError: a value is wrong, or a setting cannot be changed at run time.
        """
        checked: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in _CHECKS:
                raise ConfigurationError(
                    f"{PREFIX}{name.upper()} cannot be changed while the app runs"
                    f"{suggest(name, RUNTIME_NAMES)}"
                )
            try:
                checked[name] = _CHECKS[name](value)
            except ConfigurationError as error:
                raise ConfigurationError(f"{PREFIX}{name.upper()} {error}") from None
        completed = self._complete(checked)
        with self._lock:
            version = self._current.version + 1
            self._current = dataclasses.replace(self._current, version=version, **completed)
            return self._current

    def _complete(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return checked values as `RuntimeSettings` holds them."""
        completed = dict(values)
        if "areas" in values:
            completed["areas"] = MappingProxyType(dict(values["areas"]))
        if "site_name" in values:
            completed["site_name"] = values["site_name"] or self._default_site_name
        if "staff_mobiles" in values:
            completed["staff_mobiles"] = self._parse_mobiles(values["staff_mobiles"])
        return completed

    def _parse_mobiles(self, mobiles: tuple[str, ...]) -> tuple[str, ...]:
        parsed = []
        for number, mobile in enumerate(mobiles, start=1):
            try:
                parsed.append(self._parse_mobile(mobile))
            except MobileError as error:
                raise ConfigurationError(
                    f"{PREFIX}STAFF_MOBILES: number {number}: {error}"
                ) from None
        return tuple(parsed)
