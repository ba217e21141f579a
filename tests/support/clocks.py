"""Clocks that a test advances."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """A fixed time of day.

    :param start: the time at first; by default the current time in whole milliseconds. The usage
        log rounds to them, so with half a millisecond two times would be one nearer or further.
    """

    def __init__(self, start: datetime | None = None) -> None:
        now = datetime.now(UTC)
        whole = now.replace(microsecond=now.microsecond // 1000 * 1000)
        self.start = self.now = start or whole

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float = 0, **by: float) -> None:
        """Advance the clock by seconds, or by `minutes=`, `hours=`, `days=`."""
        self.now += timedelta(seconds=seconds, **by)


class Stopwatch:
    """A fixed monotonic clock in seconds, in place of `time.monotonic`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
