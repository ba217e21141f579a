"""Tracking: what gateways say of a message after its receipt, and messages from phones.

A report moves a message's state forward, never back, and never out of a final state; it proves no
mobile. One that comes before the receipt is written down waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from .. import models, signals
from ..ledger import Ledger
from ..models import EarlyReport, Message
from ..phone import mask
from ..senders.base import Incoming, Report, Status, e164, own_id

#: How far along each state of a message is; those that are not here are final.
_PROGRESS = {Message.SENDING: 0, Status.UNKNOWN: 0, Status.QUEUED: 1, Status.SENT: 2}
_FINAL = 3
#: So long a report waits for its message. A receipt is written down within `SEND_DEADLINE`.
_WAITS = timedelta(minutes=5)
#: In characters of four bytes each, what the smallest of the databases' text columns holds.
_LONGEST_TEXT = 16_000
_LONGEST_NAME = 64


class Tracker:
    """Notes what gateways say.

    :param emit: sends a signal.
    """

    def __init__(
        self, ledger: Ledger, *, emit: Callable[..., None], clock: Callable[[], datetime]
    ) -> None:
        self._ledger = ledger
        self._emit = emit
        self._clock = clock

    def take(self, sender: str, told: Iterable[Incoming | Report]) -> None:
        """Note all that a gateway told us; to be told the same again changes nothing.

        :param sender: the sender's name.
        :raises StoreUnavailable: the database did not take it; being told again helps.
        """
        for item in told:
            if isinstance(item, Report):
                self.report(sender, item)
            else:
                self.receive(sender, item)

    # --- delivery reports ------------------------------------------------------------------------

    def report(self, sender: str, report: Report) -> None:
        """Move a message on to the state that its gateway reports.

        Where no message has that id, the report is kept before another look: the receipt may be
        written down at this moment, and who writes it looks for reports after that. One of the two
        sees the other.
        """
        if report.status is Status.UNKNOWN or self._move(sender, report.id, report.status):
            return
        self._keep(sender, report.id, report.status)
        self.catch_up(sender, report.id)

    def catch_up(self, sender: str, gateway_id: str) -> None:
        """Apply the report that came before this message's receipt was written down, if any."""
        key = own_id(sender, gateway_id)
        early = self._ledger.read(lambda session: session.get(EarlyReport, key))
        if early is not None:
            self._move(sender, gateway_id, early.state)

    def _move(self, sender: str, gateway_id: str, state: str) -> bool:
        """Bring the messages with this id as far as `state`, or as far as a report that waits.

        :returns: whether there are any.
        """
        now = self._clock()
        key = own_id(sender, gateway_id)

        def work(session: Session) -> tuple[bool, list[Message]]:
            # Used and taken away in this transaction, so that one that comes meanwhile stays.
            early = session.get(EarlyReport, key, with_for_update=True)
            found = session.scalars(
                select(Message)
                .where(Message.gateway_id == gateway_id, Message.sender == sender)
                .with_for_update()
            )
            # MariaDB takes an id with spaces at its end for the one without.
            messages = [message for message in found if message.gateway_id == gateway_id]
            furthest = max(state, early.state if early else state, key=_progress)
            moved = [one for one in messages if _progress(one.state) < _progress(furthest)]
            for message in moved:
                message.state, message.updated_at = str(furthest), now
            if early is not None and messages:
                session.delete(early)
            return bool(messages), moved

        known, moved = self._ledger.run(work)
        for message in moved:
            self._announce(message)
        return known

    def _announce(self, message: Message) -> None:
        if message.state == Status.DELIVERED:
            signal = signals.message_delivered
        elif message.state in (Status.UNDELIVERED, Status.REJECTED):
            signal = signals.message_failed
        else:
            return
        self._emit(
            signal,
            message_id=message.id,
            kind=message.kind,
            gateway=message.sender,
            mobile=mask(message.recipient),
        )

    def _keep(self, sender: str, gateway_id: str, state: str) -> None:
        """Keep a report until its message is there, and the furthest one of several."""
        now = self._clock()
        key = own_id(sender, gateway_id)

        def work(session: Session) -> None:
            session.execute(delete(EarlyReport).where(EarlyReport.until < now))
            early = session.get(EarlyReport, key, with_for_update=True)
            if early is None:
                session.add(EarlyReport(id=key, state=str(state), until=now + _WAITS))
            elif _progress(early.state) < _progress(state):
                early.state = str(state)

        self._ledger.run(work)

    # --- messages from phones --------------------------------------------------------------------

    def incoming(self, incoming_id: str) -> models.Incoming | None:
        """A message from a phone, by the id that the signal `message_received` carries."""
        return self._ledger.read(lambda session: session.get(models.Incoming, incoming_id))

    def receive(self, sender: str, message: Incoming) -> None:
        """Note a message from a phone, once however often it is told."""
        now = self._clock()
        row = {
            "id": own_id(sender, message.id),
            "sender": sender,
            "originator": _storable(e164(message.sender), _LONGEST_NAME),
            "line": _storable(message.line, _LONGEST_NAME),
            "text": _storable(message.text, _LONGEST_TEXT),
            "received_at": message.received_at or now,
        }
        is_new = self._ledger.run(
            lambda session: self._ledger.insert_if_absent(session, models.Incoming, row)
        )
        if is_new:
            self._emit(
                signals.message_received,
                incoming_id=row["id"],
                gateway=sender,
                mobile=mask(str(row["originator"])),
            )


def _progress(state: str) -> int:
    return _PROGRESS.get(state, _FINAL)


def _storable(text: str, longest: int) -> str:
    """Text as every database takes it: PostgreSQL refuses NUL, and all refuse half characters."""
    whole = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return whole.encode("utf-8", "replace").decode()[:longest]
