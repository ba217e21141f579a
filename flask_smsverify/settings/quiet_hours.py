"""The time of day during which event and bulk texts wait, such as `22:00-07:00`."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta, tzinfo
from typing import NamedTuple

from ..errors import ConfigurationError

_NOTATION = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


class QuietHours(NamedTuple):
    """From one time of day to another, which may be on the next day."""

    begin: time
    end: time

    def end_after(self, now: datetime, zone: tzinfo) -> datetime | None:
        """Return the end of the quiet hours that contain a time; None if they do not contain it.

        :param now: aware.
        :param zone: the zone of the times of day.
        """
        local = now.astimezone(zone)
        clock, day = local.time(), local.date()
        if self.begin < self.end:
            is_quiet = self.begin <= clock < self.end
        else:
            is_quiet = clock >= self.begin or clock < self.end
            if clock >= self.begin:
                day += timedelta(days=1)
        if not is_quiet:
            return None
        return datetime.combine(day, self.end, zone).astimezone(now.tzinfo)


def check_quiet_hours(value: object) -> QuietHours | None:
    """Check quiet hours; None or an empty text: there are none."""
    if value is None or value == "":
        return None
    if isinstance(value, QuietHours):
        return value
    found = _NOTATION.fullmatch(value) if isinstance(value, str) else None
    if found is None or found.groups()[:2] == found.groups()[2:]:
        raise ConfigurationError("must be two different times such as '22:00-07:00'")
    return QuietHours(time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4])))
