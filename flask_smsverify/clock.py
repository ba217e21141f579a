"""The clock of an app: one object that returns the time to every rule.

With several hosts, times come from the database's clock: a code of one host must not seem to be
from the future on another. Each process compares its host's clock with the database's once a
minute, so that no request waits for a statement of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from .log_events import log_event

log = logging.getLogger(__name__)

#: A difference that is worth a warning: cookies and certificates depend on the host's own clock.
NOTABLE = timedelta(seconds=5)


def utc_now() -> datetime:
    """Return the time of day, aware, in UTC."""
    return datetime.now(UTC)


class Clock:
    """Return the time when called. Tests replace `source`.

    :param host_time: returns the time of this host, aware and in UTC.
    """

    def __init__(self, host_time: Callable[[], datetime] = utc_now) -> None:
        self.host_time = host_time
        #: What is added to the host's time.
        self.offset = timedelta(0)
        self.source: Callable[[], datetime] = self._corrected

    def __call__(self) -> datetime:
        return self.source()

    def correct(self, reading: datetime, *, before: datetime, after: datetime) -> None:
        """Follow the database's clock.

        A difference that the duration of the reading explains is ignored, so that it does not move
        the time back and forth.

        :param reading: the database's time.
        :param before: the host's time before the statement was sent.
        :param after: the host's time after the answer.
        """
        half = (after - before) / 2
        offset = reading - (before + half)
        if abs(offset - self.offset) <= half:
            return
        was_notable, self.offset = self.is_notable, offset
        if self.is_notable and not was_notable:
            log.warning(
                "the host's clock differs from the database's, which is used, by %.0f seconds",
                -offset.total_seconds(),
                extra=log_event("clock_differs"),
            )

    @property
    def is_notable(self) -> bool:
        """Whether the clocks differ so much that the host's should be set."""
        return abs(self.offset) >= NOTABLE

    def _corrected(self) -> datetime:
        return self.host_time() + self.offset
