"""The clock of an app: one object that every rule asks for the time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the time of day, aware, in UTC."""
    return datetime.now(UTC)


class Clock:
    """Return the time when called. Tests replace `source`.

    :param source: returns an aware time in UTC.
    """

    def __init__(self, source: Callable[[], datetime] = utc_now) -> None:
        self.source = source

    def __call__(self) -> datetime:
        return self.source()
