"""Tracking: what gateways say of a message after its receipt, and messages from phones.

A report moves a message's state forward, never back, and never out of a final state; it proves no
mobile. One that comes before the receipt is written down waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from .. import models, signals
from ..ledger import Ledger
from ..models import EarlyReport, Message
from ..phone import ascii_digits, mask
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
        messages, furthest = [], dict[str, str]()
        for item in told:
            if isinstance(item, Incoming):
                messages.append(item)
            elif item.status is not Status.UNKNOWN:
                furthest[item.id] = _further(furthest.get(item.id), item.status)
        if furthest:
            self._report(sender, furthest)
        if messages:
            self._receive(sender, messages)

    # --- delivery reports ------------------------------------------------------------------------

    def _report(self, sender: str, states: Mapping[str, str]) -> None:
        """Move messages on to the states that their gateway reports.

        Where no message has an id, its report is kept before another look: the receipt may be
        written down at this moment, and who writes it looks for reports after that. One of the two
        sees the other.

        :param states: by the gateway's ids.
        """
        known = self._move(sender, states)
        early = {id_: state for id_, state in states.items() if id_ not in known}
        if early:
            self._keep(sender, early)
            self.catch_up(sender, early)

    def catch_up(self, sender: str, ids: Iterable[str]) -> None:
        """Apply the reports that came before the receipts of these messages were written down.

        :param ids: the gateway's.
        """
        now = self._clock()
        keys = {own_id(sender, id_): id_ for id_ in ids}
        waiting = select(EarlyReport).where(EarlyReport.id.in_(keys), EarlyReport.until >= now)
        early = self._ledger.read(lambda session: session.scalars(waiting).all())
        if early:
            self._move(sender, {keys[report.id]: report.state for report in early})

    def _move(self, sender: str, states: Mapping[str, str]) -> set[str]:
        """Bring messages as far as these states, or as far as reports that wait for them.

        :returns: those of the gateway's ids that any message has.
        """
        now = self._clock()
        keys = {own_id(sender, id_): id_ for id_ in states}
        # Used and taken away in one transaction, so that what comes meanwhile stays.
        waiting = select(EarlyReport).where(EarlyReport.id.in_(keys)).order_by(EarlyReport.id)
        named = (
            select(Message)
            .where(Message.gateway_id.in_(states), Message.sender == sender)
            .order_by(Message.id)
        )

        def work(session: Session) -> tuple[set[str], list[Message]]:
            early = {
                keys[report.id]: report for report in session.scalars(waiting.with_for_update())
            }
            known, moved = set[str](), []
            for message in session.scalars(named.with_for_update()):
                id_ = message.gateway_id or ""
                if id_ not in states:
                    continue  # MariaDB takes an id with spaces at its end for the one without
                known.add(id_)
                report = early.get(id_)
                before = report.state if report is not None and report.until >= now else None
                state = _further(before, states[id_])
                if _progress(message.state) < _progress(state):
                    message.state, message.updated_at = state, now
                    moved.append(message)
            for id_ in known & early.keys():
                session.delete(early[id_])
            return known, moved

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

    def _keep(self, sender: str, states: Mapping[str, str]) -> None:
        """Keep reports until their messages are there, and the furthest one of several."""
        now = self._clock()
        keys = {own_id(sender, id_): state for id_, state in states.items()}
        waiting = select(EarlyReport).where(EarlyReport.id.in_(keys)).order_by(EarlyReport.id)

        def work(session: Session) -> None:
            session.execute(delete(EarlyReport).where(EarlyReport.until < now))
            there = {report.id: report for report in session.scalars(waiting.with_for_update())}
            for key, state in sorted(keys.items()):
                if key in there:
                    there[key].state = _further(there[key].state, state)
                else:
                    session.add(EarlyReport(id=key, state=str(state), until=now + _WAITS))

        self._ledger.run(work)

    # --- messages from phones --------------------------------------------------------------------

    def incoming(self, incoming_id: str) -> models.Incoming | None:
        """A message from a phone, by the id that the signal `message_received` carries."""
        return self._ledger.read(lambda session: session.get(models.Incoming, incoming_id))

    def _receive(self, sender: str, messages: Iterable[Incoming]) -> None:
        """Note messages from phones, each once however often it is told."""
        now = self._clock()
        rows = {
            (id_ := own_id(sender, message.id)): {
                "id": id_,
                "sender": sender,
                "originator": _storable(e164(ascii_digits(message.sender)), _LONGEST_NAME),
                "line": _storable(message.line, _LONGEST_NAME),
                "text": _storable(message.text, _LONGEST_TEXT),
                "received_at": message.received_at or now,
            }
            for message in messages
        }

        def work(session: Session) -> list[dict[str, object]]:
            insert = self._ledger.insert_if_absent
            return [row for _, row in sorted(rows.items()) if insert(session, models.Incoming, row)]

        for row in self._ledger.run(work):
            self._emit(
                signals.message_received,
                incoming_id=row["id"],
                gateway=sender,
                mobile=mask(str(row["originator"])),
            )


def _progress(state: str) -> int:
    return _PROGRESS.get(state, _FINAL)


def _further(first: str | None, then: str) -> str:
    """The state that is further along; of two final ones, the one that was told first."""
    return str(then if first is None or _progress(first) < _progress(then) else first)


def _storable(text: str, longest: int) -> str:
    """Text as every database takes it: PostgreSQL refuses NUL, and all refuse half characters."""
    whole = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return whole.encode("utf-8", "replace").decode()[:longest]
