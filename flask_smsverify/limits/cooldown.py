"""The cooldown between sends: how long it is after each of them, and how much of it is left.

`verification.send_limits` refuses a send before its end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def delay_after(sends: int, delays: Sequence[int]) -> int:
    """Return the seconds of cooldown after `sends` sends in a row.

    :param delays: seconds before the second, third … send; the last repeats.
    """
    return delays[min(sends, len(delays)) - 1]


def cooldown_left(last_ms: int, sends: int, delays: Sequence[int], now_ms: int) -> int:
    """Return the whole seconds until the next send is allowed; 0 if it is allowed now.

    :param last_ms: when the last send was.
    :param sends: how many sends there were in a row.
    :param delays: as in `delay_after`.
    """
    if not sends:
        return 0
    ends_ms = min(last_ms, now_ms) + delay_after(sends, delays) * 1000
    return max(0, math.ceil((ends_ms - now_ms) / 1000))
