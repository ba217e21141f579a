"""The notation of rate limits: `"5/hour;10/day"`."""

from __future__ import annotations

import re
from typing import NamedTuple

_UNIT_SECONDS = {
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86_400,
    "month": 30 * 86_400,
    "year": 360 * 86_400,
}
_LIMIT = re.compile(
    r"\s*(?P<amount>[0-9]+)\s*(?:/|per)\s*(?P<multiple>[0-9]+)?\s*(?P<unit>[a-z]+?)s?\s*",
    re.IGNORECASE,
)


class Limit(NamedTuple):
    """At most `amount` in any window of `seconds`."""

    amount: int
    seconds: int


def parse_limits(notation: str) -> tuple[Limit, ...]:
    """Parse one or more limits.

    Each is written `5/hour`, `5 per hour` or `5 per 2 hours`, with `;`, `,` or `|` between them.
    The units are second, minute, hour, day, month (30 days) and year (360 days), in the singular
    or the plural and in any case.

    :raises ValueError: the text is not in this notation, or an amount or a window is 0. The
        message says which part is wrong.
    """
    return tuple(_parse_limit(part) for part in re.split("[;,|]", notation))


def _parse_limit(part: str) -> Limit:
    match = _LIMIT.fullmatch(part)
    unit = _UNIT_SECONDS.get(match["unit"].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"{part.strip()!r} is not a limit such as '5/hour' or '5 per 2 hours'")
    limit = Limit(int(match["amount"]), int(match["multiple"] or 1) * unit)
    if limit.amount < 1 or limit.seconds < 1:
        raise ValueError(f"{part.strip()!r} has a 0; to lift a limit, set it to None")
    return limit
