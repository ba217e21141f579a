"""When to ask a gateway for the state of a message. Pure functions."""

from __future__ import annotations

from datetime import datetime, timedelta

#: Seconds between two questions; the last one repeats.
_DELAYS = (10, 30, 60, 120, 300, 900, 3600, 3 * 3600, 6 * 3600)
#: Operators report within two days. A state that is not final then stays as it is.
MAX_AGE = timedelta(days=3)


def next_check(created_at: datetime, checks: int, now: datetime) -> datetime | None:
    """Return when to ask next; None if the message is too old.

    :param checks: how often the gateway was asked.
    """
    at = now + timedelta(seconds=_DELAYS[min(checks, len(_DELAYS) - 1)])
    return at if at - created_at <= MAX_AGE else None
