"""Alerts: signal that a limit is half used or used up, and notify staff of shared limits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta

from .. import signals
from ..db.alerts import take_alert
from ..db.ledger import Ledger
from ..db.models import Alert
from ..errors import StoreUnavailable
from ..limits.usage_log import Reached
from ..log_events import log_event
from .host import Announcer

log = logging.getLogger(__name__)

#: Staff get at most one notice in this time about each part of a limit, however short its window
#: is. Otherwise an attacker could use up their limit of notices before an attack on another limit.
_REPEAT_NOTICE = timedelta(days=1)

#: Limits that all users share. They are also reported when they are half used, and each report is
#: made once in a window.
SHARED_SCOPES = frozenset({"site", "foreign", "site_failures"})


class LimitAlerts:
    """Reports limits that were reached."""

    def __init__(self, ledger: Ledger, announcer: Announcer) -> None:
        self._ledger = ledger
        self._announcer = announcer

    def report(self, reached: Sequence[Reached]) -> None:
        """Report limits that a unit has half or wholly used. On failure, the unit still counts."""
        for scope, part, seconds in reached:
            if scope not in SHARED_SCOPES:
                if part != "half":
                    self._announcer.emit(signals.limit_reached, scope=scope, limit=part)
                continue
            window = timedelta(seconds=seconds)
            if self._is_first(f"{Alert.LIMIT}{scope} {part} {seconds}", window):
                self._announcer.emit(signals.limit_reached, scope=scope, limit=part)
                if self._is_first(f"{Alert.NOTICE}{scope} {part}", _REPEAT_NOTICE):
                    self._notify(scope, part)

    def _notify(self, scope: str, part: str) -> None:
        self._announcer.notify(
            "limit.reached",
            mobile=None,
            limit_name=f"{scope}/open" if part == "open" else scope,
            percent="50" if part == "half" else "100",
        )

    def _is_first(self, name: str, repeat_after: timedelta) -> bool:
        try:
            return take_alert(self._ledger, name, repeat_after)
        except StoreUnavailable:
            log.exception(
                "it is unknown whether the limit was reported before: %s",
                name,
                extra=log_event("limit_alert_unclear"),
            )
            return True
