"""Times in the gateways' formats."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Final

TEHRAN: Final = timezone(timedelta(hours=3, minutes=30))
"""The zone of times that gateways print without one. Iran has no daylight saving since 2022."""


def tehran_time(moment: datetime) -> str:
    """Return a time in Tehran as `2023-09-24 23:55:20`."""
    return moment.astimezone(TEHRAN).strftime("%Y-%m-%d %H:%M:%S")


def parse_tehran_time(text: str) -> datetime | None:
    """Parse a date or a time such as `2024-01-01` or `2024-01-01 10:00:00`, in Tehran by default.

    Return None if the text is neither.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=TEHRAN)


def from_timestamp(seconds: int) -> datetime | None:
    """Return the time of a UNIX timestamp, or None if it is out of range."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
