"""Whether more codes than usual are sent to numbers that are never proved."""

from __future__ import annotations

import time
from datetime import timedelta

from sqlalchemy import case, func, select

from ..db.ledger import Ledger
from ..db.models import Challenge
from ..forks import Lock
from ..limits.report import LimitReport

#: For how many seconds the conversion is reused in this process, because counting is expensive.
_REMEMBERED = 5
#: The age of the challenges without an account that are counted: younger ones may still be proved.
_OLDEST, _YOUNGEST = timedelta(hours=1), timedelta(minutes=2)
#: With fewer challenges than this, the conversion is not meaningful.
_ENOUGH = 30
#: With a lower part of them proved, the sends are unusual.
_USUAL_CONVERSION = 1 / 3


class SendPressure:
    """Compares the sends without an account with what is usual."""

    def __init__(self, ledger: Ledger, report: LimitReport) -> None:
        self._ledger = ledger
        self._report = report
        self._lock = Lock()
        self._answer = False
        self._until = 0.0

    def is_high(self) -> bool:
        """Return whether half of a limit of the whole site is used, or few codes are entered."""
        return self._is_half_used() or self._is_conversion_low()

    def _is_half_used(self) -> bool:
        # Sends without a solution are counted while there is pressure, and must not prolong it.
        scopes = [scope for scope in self._report.scopes() if scope.name != "unsolved"]
        usages = self._report.usage(scopes, self._ledger.clock())
        return any(2 * usage.used >= usage.limit.amount for usage in usages)

    def _is_conversion_low(self) -> bool:
        with self._lock:
            if time.monotonic() >= self._until:
                self._answer = self._read_conversion()
                self._until = time.monotonic() + _REMEMBERED
            return self._answer

    def _read_conversion(self) -> bool:
        now = self._ledger.clock()
        is_proved = case((Challenge.state == Challenge.VERIFIED, 1))
        query = select(func.count(), func.count(is_proved)).where(
            Challenge.created_at.between(now - _OLDEST, now - _YOUNGEST),
            Challenge.user_id.is_(None),
        )
        sent, proved = self._ledger.read(lambda session: session.execute(query).one())
        return bool(sent >= _ENOUGH and proved < sent * _USUAL_CONVERSION)
