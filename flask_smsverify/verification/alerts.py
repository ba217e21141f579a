"""Alerts: report a used-up limit by a signal, and to the staff once a day."""

from __future__ import annotations

import logging
from datetime import timedelta

from sqlalchemy.orm import Session

from .. import signals
from ..db.ledger import Ledger
from ..db.models import Alert
from ..errors import StoreUnavailable
from ..limits.usage import Reservation
from .rules import Announcer

log = logging.getLogger(__name__)

_REPEAT_AFTER = timedelta(days=1)


class LimitAlerts:
    """Reports limits that a reservation used up."""

    def __init__(self, ledger: Ledger, announcer: Announcer) -> None:
        self._ledger = ledger
        self._announcer = announcer

    def report(self, reservation: Reservation) -> None:
        """Report what a reservation used up. The reservation stands even if this fails."""
        for scope in dict.fromkeys(reservation.used_up):
            self._announcer.emit(signals.limit_reached, scope=scope, limit="whole")
            if scope == "site":
                self._notify_staff(scope)
        for scope in reservation.half_used:
            if scope == "site_failures":
                self._announcer.emit(signals.limit_reached, scope=scope, limit="half")

    def _notify_staff(self, scope: str) -> None:
        try:
            is_due = self._ledger.run(lambda session: self._is_due(session, f"limit {scope}"))
        except StoreUnavailable:
            log.exception("the staff could not be notified that the limit %r is used up", scope)
            return
        if is_due:
            self._announcer.notify("limit.reached", mobile=None)

    def _is_due(self, session: Session, name: str) -> bool:
        """Return whether an alert was not sent within a day, and record that it is sent now."""
        now = self._ledger.clock()
        row = session.get(Alert, name, with_for_update=True)
        if row is not None and row.until > now:
            return False
        session.merge(Alert(name=name, until=now + _REPEAT_AFTER))
        return True
