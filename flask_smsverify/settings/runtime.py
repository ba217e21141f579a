"""The settings that staff can change while the app runs, as one versioned snapshot.

A rule that needs one of these settings reads `LiveSettings.current` when it runs, and keeps no
copy. A snapshot is immutable, so all values that are read from one belong together. Each read of
`current` looks for changes by other processes, so a loop that runs for hours also uses the newest
values. `db.setting_store` reads those from the database.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..errors import ConfigurationError, MobileError
from ..forks import Lock
from ..log_events import log_event
from .checks import about, suggest
from .quiet_hours import QuietHours
from .schema import PREFIX, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSettings:
    """One version of the settings that staff can change.

    :param version: 1 at start; each update has the next number.
    :param areas: area → on, off, or the endpoint patterns that it guards.
    :param exempt_groups: names of groups whose users need no verification.
    :param revalidation_days: for how many days a proof is valid; 0: no limit.
    :param signature: locale → the end of every text; may be empty.
    :param site_name: locale → the name in texts and on pages.
    :param staff_mobiles: the recipients of staff notices, in E.164.
    :param quiet_hours: when event and bulk texts wait; None: never.
    """

    version: int
    areas: Mapping[str, bool | tuple[str, ...]]
    exempt_groups: tuple[str, ...]
    revalidation_days: int
    signature: Mapping[str, str]
    site_name: Mapping[str, str]
    staff_mobiles: tuple[str, ...] = dataclasses.field(repr=False)
    quiet_hours: QuietHours | None


log = logging.getLogger(__name__)

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
    :param default_site_name: the site's name if `SMSVERIFY_SITE_NAME` is None.
    :param complete_texts: returns the text of every locale from one text, or from the texts of some
        languages; raises `ConfigurationError` for a language without texts.
    :param parse_mobile: returns a mobile in E.164, or raises `MobileError`.
    :raises ConfigurationError: one of `SMSVERIFY_STAFF_MOBILES` is not a mobile, or a text is in an
        unknown language.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        default_site_name: str,
        complete_texts: Callable[[str | Mapping[str, str]], Mapping[str, str]],
        parse_mobile: Callable[[object], str],
    ) -> None:
        self._default_site_name = default_site_name
        self._complete_texts = complete_texts
        self._parse_mobile = parse_mobile
        self._refresh: Callable[[], None] = _do_nothing
        self._lock = Lock()
        initial = {name: getattr(settings, name) for name in RUNTIME_NAMES}
        self._initial = self._complete(initial)
        self._current = RuntimeSettings(version=1, **self._initial)

    @property
    def current(self) -> RuntimeSettings:
        """The newest version. Within a transaction of the ledger, the one known before it."""
        self._refresh()
        return self._current

    def refresh_by(self, refresh: Callable[[], None]) -> None:
        """Call a function before each reading of `current`, which may call `overlay`."""
        self._refresh = refresh

    def update(self, **changes: object) -> RuntimeSettings:
        """Replace some settings, checked as at start, and return the new version.

        Settings that are not given keep their values. If one value is wrong, nothing changes.

        :raises ConfigurationError: a value is wrong, or a setting cannot be changed at run time.
        """
        completed: dict[str, Any] = {}
        for name, value in changes.items():
            completed |= self.check(name, value)
        with self._lock:
            version = self._current.version + 1
            self._current = dataclasses.replace(self._current, version=version, **completed)
            return self._current

    def overlay(self, changes: Mapping[str, object]) -> RuntimeSettings:
        """Use these values in place of the configuration's, and the configuration's for the rest.

        A value that is not valid any more, after another version wrote it, is left out and logged.
        An area that is switched on again has the patterns of the configuration.
        """
        completed = dict(self._initial)
        for name, value in changes.items():
            configured = completed.get(name)
            try:
                completed |= self.check(name, value)
            except ConfigurationError as error:
                log.warning(
                    "a stored setting is not used: %s",
                    error,
                    extra=log_event("stored_setting_refused"),
                )
                continue
            if name == "areas" and isinstance(configured, Mapping):
                completed[name] = _overlay_areas(configured, completed[name])
        with self._lock:
            version = self._current.version + 1
            self._current = RuntimeSettings(version=version, **completed)
            return self._current

    def check(self, name: str, value: object) -> dict[str, Any]:
        """Return a setting as `RuntimeSettings` holds it.

        :raises ConfigurationError: the value is wrong, or the setting is fixed at start.
        """
        if name not in _CHECKS:
            raise ConfigurationError(
                f"{PREFIX}{name.upper()} cannot be changed while the app runs"
                f"{suggest(name, RUNTIME_NAMES)}"
            )
        try:
            return self._complete({name: _CHECKS[name](value)})
        except ConfigurationError as error:
            text = str(error)
            key = f"{PREFIX}{name.upper()}"
            raise (error if text.startswith(key) else about(key, text)) from None

    def _complete(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return checked values as `RuntimeSettings` holds them."""
        completed = dict(values)
        if "areas" in values:
            completed["areas"] = MappingProxyType(dict(values["areas"]))
        if "site_name" in values:
            completed["site_name"] = values["site_name"] or self._default_site_name
        for name in ("site_name", "signature"):
            if name in values:
                try:
                    completed[name] = self._complete_texts(completed[name])
                except ConfigurationError as error:
                    raise about(f"{PREFIX}{name.upper()}", error) from None
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


def _do_nothing() -> None:
    return None


def _overlay_areas(
    configured: Mapping[str, bool | tuple[str, ...]], switched: Mapping[str, bool | tuple[str, ...]]
) -> Mapping[str, bool | tuple[str, ...]]:
    """Return the areas of the configuration after some of them were switched."""
    areas = dict(configured)
    for name, value in switched.items():
        patterns = configured.get(name, True)
        areas[name] = patterns if value is True and not isinstance(patterns, bool) else value
    return MappingProxyType(areas)
