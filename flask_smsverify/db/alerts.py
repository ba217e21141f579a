"""Alerts: notices to staff that are not repeated for some time."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy.orm import Session

from .ledger import Ledger
from .models import Alert


def take_alert(ledger: Ledger, name: str, repeat_after: timedelta) -> bool:
    """Return whether an alert is due, and record it, so that it is not due again for some time.

    If several processes ask for the same alert at once, one of them gets `True`.

    :param name: at most 64 ASCII characters.
    :param repeat_after: for how long the alert is not due again.
    :raises StoreUnavailable: nothing was recorded.
    """

    def work(session: Session) -> bool:
        now = ledger.clock()
        row = session.get(Alert, name, with_for_update=True)
        if row is not None and row.until > now:
            return False
        session.merge(Alert(name=name, until=now + repeat_after))
        return True

    return ledger.run(work)
