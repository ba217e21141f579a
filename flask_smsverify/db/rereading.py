"""When a process reads a small table again that staff can change in another process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..forks import after_fork
from .ledger import Ledger

#: Seconds after which a table is read again.
_MAX_AGE = 0.5
#: Seconds for which threads use the earlier values while another thread reads.
_MAX_AGE_MEANWHILE = 1.0


class Rereading:
    """Repeats a reading, so that a process uses values less than a second old. Thread-safe.

    :param read: reads the table, and returns whether the database answered. While it does not
        answer, the values of the last reading are used.
    """

    def __init__(
        self,
        ledger: Ledger,
        read: Callable[[], bool],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._read = read
        self._monotonic = monotonic
        self._read_at: float | None = None
        self._has_failed = False
        self._lock = threading.Lock()
        after_fork(self._reset_after_fork)

    def if_due(self) -> None:
        """Read if the last reading is too old.

        Nothing is read within a transaction of the ledger, which must not wait for a second one.
        """
        if not self._is_due() or self._ledger.is_in_transaction:
            return
        # One thread reads. The others use the values that they have, but wait if these are too old.
        if self._lock.acquire(blocking=self._is_waited_for()):
            try:
                if self._is_due():
                    self._read_now()
            finally:
                self._lock.release()

    def now(self) -> None:
        """Read now, so that this process does not use values from before its own change."""
        with self._lock:
            self._read_now()

    def _read_now(self) -> None:
        self._has_failed = not self._read()
        self._read_at = self._monotonic()

    def _age(self) -> float:
        return float("inf") if self._read_at is None else self._monotonic() - self._read_at

    def _is_due(self) -> bool:
        return self._age() >= _MAX_AGE

    def _is_waited_for(self) -> bool:
        """Return whether a thread waits for another one's reading. It does not during an outage."""
        return not self._has_failed and self._age() >= _MAX_AGE_MEANWHILE

    def _reset_after_fork(self) -> None:
        self._lock = threading.Lock()
