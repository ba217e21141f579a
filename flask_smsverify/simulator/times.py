"""Times in the gateways' formats."""

import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Final

TEHRAN: Final = timezone(timedelta(hours=3, minutes=30))
"""The zone of times that gateways print without one. Iran has no daylight saving since 2022."""


def tehran_time(moment: datetime) -> str:
    """Return a time in Tehran as `2023-09-24 23:55:20`."""
    return moment.astimezone(TEHRAN).strftime("%Y-%m-%d %H:%M:%S")


def parse_tehran_time(text: str) -> datetime | None:
    """Parse a date or a time such as `2024-01-01` or `2024-01-01 10:00:00`, in Tehran by default.

    :returns: None if the text is neither.
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


def parse_shamsi_date(text: str) -> datetime | None:
    """Return the start of a Persian day such as `1405/01/01` in Tehran; None if it is invalid."""
    match = re.fullmatch(r"(1[34]\d\d)[/-](\d{1,2})[/-](\d{1,2})", text.strip())
    if match is None:
        return None
    year, month, day = (int(part) for part in match.groups())
    if not 1 <= month <= 12 or not 1 <= day <= (31 if month <= 6 else 30):
        return None
    # The calendar's 33-year cycle has 8 leap years. The offset makes 1405/01/01 2026-03-21.
    cycle = year + 1595
    days = 365 * cycle + cycle // 33 * 8 + (cycle % 33 + 3) // 4 + day
    days += (month - 1) * 31 if month < 7 else (month - 7) * 30 + 186
    moment = date.fromordinal(days - 355_668 - 365)
    return datetime(moment.year, moment.month, moment.day, tzinfo=TEHRAN)
