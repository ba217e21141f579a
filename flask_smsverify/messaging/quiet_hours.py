"""Which quiet hours hold for a sender, and when they end. `settings.quiet_hours` parses them.

`dispatch` and `bulk_dispatch` wait for the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from ..clock import Clock
from ..errors import ConfigurationError
from ..i18n.locales import load_timezone
from ..settings.quiet_hours import QuietHours, check_quiet_hours
from ..settings.runtime import LiveSettings

#: Name of a sender → when its quiet hours end; None: it may send now.
QuietUntil = Callable[[str], datetime | None]


def quiet_hours_of(
    senders: Mapping[str, Mapping[str, Any]], live: LiveSettings, clock: Clock, *, timezone: str
) -> QuietUntil:
    """Return the function that says when a sender's quiet hours end.

    A sender's option `quiet_hours` replaces `SMSVERIFY_QUIET_HOURS`, which staff can change.

    :param senders: name → options.
    :param timezone: the name of the zone of the times of day.
    :raises ConfigurationError: an option is wrong. The message names the sender.
    """
    zone = load_timezone(timezone)
    own: dict[str, QuietHours | None] = {}
    for name, options in senders.items():
        if "quiet_hours" in options:
            try:
                own[name] = check_quiet_hours(options["quiet_hours"])
            except ConfigurationError as error:
                raise ConfigurationError(
                    f"SMSVERIFY_SENDERS[{name!r}]: quiet_hours {error}"
                ) from None

    def quiet_until(sender: str) -> datetime | None:
        hours = own.get(sender, live.current.quiet_hours)
        return None if hours is None else hours.end_after(clock(), zone)

    return quiet_until
