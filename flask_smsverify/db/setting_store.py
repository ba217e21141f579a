"""The settings that staff have changed: the table `smsverify_setting`.

A process reads the table again, at most every half second, when an app context begins and when
`LiveSettings.current` is read, and puts the values into `LiveSettings`. So every decision uses
values that are less than a second old, also in threads without an app context. In a busy process,
one request in each half second waits for this query. After an idle second, all requests that begin
at the same time wait for one query.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from ..errors import ConfigurationError, StoreUnavailable
from ..log_events import log_event
from ..settings.runtime import LiveSettings
from .ledger import Ledger
from .models import Setting
from .rereading import Rereading

log = logging.getLogger(__name__)

#: Called in the transaction of a change with the key, the value before and the value after.
Record = Callable[[Session, str, object, object], None]


class SettingStore:
    """Reads and writes the settings that staff have changed. Thread-safe.

    :param is_used: whether the app has staff pages. Without them nobody can have changed anything,
        and the table is not read.
    """

    def __init__(
        self,
        ledger: Ledger,
        live: LiveSettings,
        *,
        is_used: Callable[[], bool],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._live = live
        self._is_used = is_used
        self._seen: Mapping[str, str] = {}
        self._rereading = Rereading(ledger, self._read, monotonic=monotonic)

    def start(self) -> None:
        """Read the table from now on. The host's tables may not exist before the first request."""
        self._live.refresh_by(self.refresh)

    def on_context(self, _app: object, **_: object) -> None:
        """Read the table if it is due. A receiver of Flask's signal `appcontext_pushed`."""
        self.refresh()

    def refresh(self) -> None:
        """Read the table if it is due."""
        if self._is_used():
            self._rereading.if_due()

    def save(self, changes: Mapping[str, object], record: Record) -> None:
        """Write changed settings and use them in this process.

        :param changes: name → value in the form of the configuration; None restores the configured
            value.
        :param record: called for each setting whose value changes.
        :raises ConfigurationError: a value is wrong. Nothing was written.
        :raises StoreUnavailable: nothing was written.
        """
        for name, value in changes.items():
            if value is not None:
                self._live.check(name, value)

        def work(session: Session) -> None:
            now = self._ledger.clock()
            for name, value in sorted(changes.items()):
                # Inserted first, so that there is a row to lock.
                before = {"key": name, "value": _NOTHING, "updated_at": now}
                self._ledger.insert_if_absent(session, Setting, before)
                row = session.get_one(Setting, name, with_for_update=True)
                stored = _parse(name, row.value)
                merged = _merge_areas(stored, value) if name == "areas" else value
                if merged == stored:
                    continue
                record(session, name, stored, merged)
                row.value = json.dumps(merged, ensure_ascii=False)
                row.updated_at = now

        self._ledger.run(work)
        self._rereading.now()

    def _read(self) -> bool:
        try:
            seen = self._ledger.read(_read_all)
        except (StoreUnavailable, ConfigurationError, SQLAlchemyError) as error:
            # The tables may not exist yet, or the database may be down. A request that needs it
            # fails anyway; the last values are used.
            log.debug(
                "the settings of the staff could not be read: %s",
                type(error).__name__,
                extra=log_event("stored_settings_not_read"),
            )
            return False
        if seen != self._seen:
            values = {name: _parse(name, text) for name, text in seen.items()}
            self._live.overlay({name: value for name, value in values.items() if value is not None})
            self._seen = seen
        return True


#: The value of a row without a change.
_NOTHING = "null"


def _read_all(session: Session) -> Mapping[str, str]:
    rows = session.execute(select(Setting.key, Setting.value).where(Setting.value != _NOTHING))
    return {str(key): str(value) for key, value in rows}


def _parse(name: str, text: str) -> object:
    """Return a stored value; None for no change, and for a row that somebody has edited wrongly."""
    try:
        return json.loads(text)
    except ValueError:
        log.warning(
            "the stored setting %s is not used: it is no JSON",
            name,
            extra=log_event("stored_setting_refused"),
        )
        return None


def _merge_areas(stored: object, changes: object) -> object:
    """Return the areas that staff have switched after another change of some of them."""
    if not isinstance(changes, Mapping):
        return changes
    merged = dict(stored) if isinstance(stored, Mapping) else {}
    merged.update(changes)
    return merged
