"""Times in JSON, in UTC and whole seconds, and the seconds until a time.

They are rounded so that a client that follows them is neither early nor late.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta


def earliest(moment: datetime | None) -> str | None:
    """Return the time at which something becomes possible, rounded up."""
    return latest(moment and moment + timedelta(microseconds=999_999))


def latest(moment: datetime | None) -> str | None:
    """Return the time at which something expires or happened, rounded down."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_until(moment: datetime | None, now: datetime) -> int:
    """Return the seconds until something is possible, rounded up; 0 if it already is."""
    return 0 if moment is None else max(0, math.ceil((moment - now).total_seconds()))


def seconds_left(moment: datetime | None, now: datetime) -> int:
    """Return the seconds for which something is still valid, rounded down; 0 if it is over."""
    return 0 if moment is None else max(0, math.floor((moment - now).total_seconds()))
