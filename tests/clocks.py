"""Clocks that stand still until a test turns them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """The time of day.

    :param start: where it stands at first; the time it is, unless told.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self.start = self.now = start or datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float = 0, **by: float) -> None:
        """Turn it on, by seconds or by `minutes=`, `hours=`, `days=`."""
        self.now += timedelta(seconds=seconds, **by)


class Stopwatch:
    """Seconds since some moment, as `time.monotonic` counts them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
