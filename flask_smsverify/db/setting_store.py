"""The settings that staff have changed: the table `smsverify_setting`.

Each process reads the table again when it begins something new, at most every half second, and
puts the values into `LiveSettings`. So a change is in force everywhere within a second, and no
request waits for a query of its own.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from ..errors import ConfigurationError, StoreUnavailable
from ..forks import after_fork
from ..log_events import log_event
from ..settings.runtime import LiveSettings
from .ledger import Ledger
from .models import Setting

log = logging.getLogger(__name__)

#: Seconds for which a process uses what it has read.
_MAX_AGE = 0.5

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
        self._monotonic = monotonic
        self._read_at: float | None = None
        self._seen: Mapping[str, str] = {}
        self._lock = threading.Lock()
        after_fork(self._reset_after_fork)

    def on_context(self, _app: object, **_: object) -> None:
        """Read the table if it is due. A receiver of Flask's signal `appcontext_pushed`."""
        if not (self._is_used() and self._is_due()):
            return
        # One thread reads; the others go on with what they have.
        if self._lock.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._lock.release()

    def save(self, changes: Mapping[str, object], record: Record) -> None:
        """Write changed settings and put them in force in this process.

        :param changes: name → value as configuration has it; None restores the configuration's.
        :param record: called for each setting whose value is another one than before.
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
                stored = None if row.value == _NOTHING else json.loads(row.value)
                merged = _merge_areas(stored, value) if name == "areas" else value
                if merged == stored:
                    continue
                record(session, name, stored, merged)
                row.value = json.dumps(merged, ensure_ascii=False)
                row.updated_at = now

        self._ledger.run(work)
        with self._lock:
            self._refresh()

    def _is_due(self) -> bool:
        return self._read_at is None or self._monotonic() - self._read_at >= _MAX_AGE

    def _refresh(self) -> None:
        try:
            seen = self._ledger.read(_read_all)
        except (StoreUnavailable, ConfigurationError, SQLAlchemyError) as error:
            # The tables may not exist yet, or the database may be away. A request that needs it
            # fails by itself; the last values stay in force.
            log.debug(
                "the settings of the staff could not be read: %s",
                type(error).__name__,
                extra=log_event("stored_settings_not_read"),
            )
        else:
            if seen != self._seen:
                self._live.overlay({name: json.loads(value) for name, value in seen.items()})
                self._seen = seen
        self._read_at = self._monotonic()

    def _reset_after_fork(self) -> None:
        self._lock = threading.Lock()


#: The value of a row without a change.
_NOTHING = "null"


def _read_all(session: Session) -> Mapping[str, str]:
    rows = session.execute(select(Setting.key, Setting.value).where(Setting.value != _NOTHING))
    return {str(key): str(value) for key, value in rows}


def _merge_areas(stored: object, changes: object) -> object:
    """Return the areas that staff have switched after another change of some of them."""
    if not isinstance(changes, Mapping):
        return changes
    merged = dict(stored) if isinstance(stored, Mapping) else {}
    merged.update(changes)
    return merged
