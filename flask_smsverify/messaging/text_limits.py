"""The limits of event texts. Bulk texts have none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from sqlalchemy import ColumnElement, select

from ..db.ledger import Ledger
from ..db.models import Message, Verification
from ..limits.other_counts import Charge, Counters, Reservation
from ..settings import Limit

_ALL = "messages"
_UNPROVED = "unproved_events"


class TextLimits:
    """Counts event texts: all of them, and those to a mobile that nobody has proved.

    :param limits: scope → its limits.
    """

    def __init__(
        self,
        ledger: Ledger,
        counters: Counters,
        limits: Mapping[str, tuple[Limit, ...]],
        clock: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._counters = counters
        self._limits = limits
        self._clock = clock

    def reserve(self, message: Message) -> Reservation:
        """Take a unit for an event text.

        :raises LimitError: a limit is used up.
        """
        charges = []
        if self._limits.get(_ALL):
            charges.append(Charge(_ALL, "", self._limits[_ALL]))
        unproved = self._limits.get(_UNPROVED)
        if unproved and message.audience != "staff" and not self._is_proved(message.recipient):
            charges.append(Charge(_UNPROVED, message.recipient, unproved))
        return self._counters.reserve(charges, self._clock()) if charges else Reservation()

    def refund(self, reservation: Reservation) -> None:
        """Give the units of a text back that was not sent and will be counted again."""
        if reservation.ids:
            self._ledger.run(lambda session: self._counters.refund(session, reservation))

    def _is_proved(self, mobile: str) -> bool:
        return self._exists(_proved(mobile))

    def has_proved(self, user_id: str, mobile: str) -> bool:
        """Return whether a user has proved a mobile, however long ago."""
        return self._exists(_proved(mobile) & (Verification.user_id == user_id))

    def _exists(self, condition: ColumnElement[bool]) -> bool:
        query = select(Verification.user_id).where(condition).limit(1)
        return self._ledger.read(lambda session: session.scalar(query)) is not None


def _proved(mobile: str) -> ColumnElement[bool]:
    return (
        (Verification.mobile == mobile)
        & Verification.verified_at.is_not(None)
        & Verification.revoked_at.is_(None)
    )
