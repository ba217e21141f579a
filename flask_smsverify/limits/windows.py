"""Sliding windows, and the cooldown between sends: pure arithmetic on milliseconds."""

from __future__ import annotations

import math


def seconds_left(since_ms: int, seconds: int, now_ms: int) -> int:
    """Return whole seconds until a window is over that began then; at least 1."""
    return max(1, math.ceil((since_ms + seconds * 1000 - now_ms) / 1000))


def cooldown_left(last_ms: int, sends: int, delays: tuple[int, ...], now_ms: int) -> int:
    """Return whole seconds until the next send is allowed; 0 if it is allowed now.

    :param last_ms: when the last send was.
    :param sends: how many sends there were in a row.
    :param delays: seconds before the second, third … send; the last repeats.
    """
    if not sends:
        return 0
    delay = delays[min(sends, len(delays)) - 1]
    return max(0, math.ceil((min(last_ms, now_ms) + delay * 1000 - now_ms) / 1000))


def share_of(total: int, part: float) -> int:
    """Return a part of a limit, rounded down. The sum of decimals such as 0.1 is not exact."""
    return math.floor(round(total * part, 6))
