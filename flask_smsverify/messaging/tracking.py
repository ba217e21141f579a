"""Delivery reports and messages from phones that gateways send to webhooks.

A delivery report moves the state of an attempt forward, never back, and never out of a final state.
It proves no mobile. A report that arrives before the receipt of its attempt is written is kept for
a few minutes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from .. import signals
from ..db.ledger import Ledger
from ..db.models import Attempt, EarlyReport, Incoming, Message
from ..delivery.attempts import storable_cost
from ..delivery.states import further, progress, settle
from ..phone import ascii_digits, mask
from ..senders.base import DeliveryReport, DeliveryState, ReceivedText
from ..senders.convert import derived_id, to_e164
from .batch_counts import COUNT_OF, add_counts

#: How long a report is kept for its attempt. Receipts are written within `SEND_DEADLINE`.
_EARLY_REPORT_LIFETIME = timedelta(minutes=5)
#: The shortest text column of the databases (MariaDB's TEXT), in characters of four bytes.
_MAX_TEXT_LENGTH = 16_000
_MAX_NUMBER_LENGTH = 64


class Tracker:
    """Records delivery reports and messages from phones.

    :param emit: sends a signal.
    :param on_received: called with new messages from phones in the transaction that stores them;
        returns a function that is called after the commit.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        emit: Callable[..., None],
        on_received: Callable[[Session, Sequence[Incoming]], Callable[[], None]],
    ) -> None:
        self._ledger = ledger
        self._emit = emit
        self._on_received = on_received

    def record(self, sender: str, items: Iterable[ReceivedText | DeliveryReport]) -> None:
        """Record what one call of a webhook contains. Recording it again changes nothing.

        :param sender: the sender's name.
        :raises StoreUnavailable: the gateway should call again.
        """
        messages: list[ReceivedText] = []
        states: dict[str, str] = {}
        costs: dict[str, Decimal] = {}
        for item in items:
            if isinstance(item, ReceivedText):
                messages.append(item)
            elif item.status is not DeliveryState.UNKNOWN:
                states[item.id] = further(states.get(item.id), item.status)
                if (cost := storable_cost(item.cost)) is not None:
                    costs[item.id] = cost
        if states:
            self._record_reports(sender, states, costs)
        if messages:
            self._record_messages(sender, messages)

    # --- delivery reports ------------------------------------------------------------------------

    def _record_reports(
        self, sender: str, states: Mapping[str, str], costs: Mapping[str, Decimal]
    ) -> None:
        """Move attempts to the states that their gateway reports.

        The receipt of an attempt may be written at this moment. A report without an attempt is
        therefore kept first and applied again after that; delivery writes the receipt first and
        looks for kept reports after that. Whichever commits second finds the row of the other.

        :param states: by the gateway's ids.
        :param costs: by the gateway's ids. The costs of reports that are kept are dropped.
        """
        known = self._move(sender, states, costs)
        early = {
            gateway_id: state for gateway_id, state in states.items() if gateway_id not in known
        }
        if early:
            self._keep(sender, early)
            self.apply_early_reports(sender, early)

    def apply_early_reports(self, sender: str, gateway_ids: Iterable[str]) -> None:
        """Apply the reports that arrived before the receipts of these attempts were written."""
        now = self._ledger.clock()
        by_key = {derived_id(sender, gateway_id): gateway_id for gateway_id in gateway_ids}
        kept = select(EarlyReport).where(EarlyReport.id.in_(by_key), EarlyReport.until >= now)
        early = self._ledger.read(lambda session: session.scalars(kept).all())
        if early:
            self._move(sender, {by_key[report.id]: report.state for report in early})

    def _move(
        self,
        sender: str,
        states: Mapping[str, str],
        costs: Mapping[str, Decimal] = MappingProxyType({}),
    ) -> set[str]:
        """Move attempts to these states, or further if a kept report says so.

        :param costs: of attempts whose cost may not be known yet.
        :returns: the gateway's ids for which there is an attempt.
        """
        now = self._ledger.clock()
        by_key = {derived_id(sender, gateway_id): gateway_id for gateway_id in states}
        # Applied and deleted in one transaction, so that a report that arrives meanwhile stays.
        kept = select(EarlyReport).where(EarlyReport.id.in_(by_key)).order_by(EarlyReport.id)

        def work(session: Session) -> tuple[set[str], list[tuple[Message, Attempt]]]:
            early = {
                by_key[report.id]: report for report in session.scalars(kept.with_for_update())
            }
            known: set[str] = set()
            moved: list[tuple[Message, Attempt]] = []
            counts: dict[str, Counter[str]] = {}
            for message, attempts in _lock_messages(session, sender, states):
                before = message.state
                for attempt in attempts:
                    gateway_id = attempt.gateway_id or ""
                    if attempt.sender != sender or gateway_id not in states:
                        continue
                    known.add(gateway_id)
                    if attempt.cost is None:
                        attempt.cost = costs.get(gateway_id)
                    report = early.get(gateway_id)
                    if report is not None and report.until < now:
                        report = None  # deleted below, but too old to be applied
                    state = further(report.state if report else None, states[gateway_id])
                    if progress(attempt.state) < progress(state):
                        attempt.state, attempt.updated_at = state, now
                        moved.append((message, attempt))
                settle(message, [attempt.state for attempt in attempts])
                if message.state != before:
                    message.updated_at = now
                    _count_change(counts, message, before)
            add_counts(session, counts, now)
            for gateway_id in known & early.keys():
                session.delete(early[gateway_id])
            return known, moved

        known, moved = self._ledger.run(work)
        for message, attempt in moved:
            self._announce(message, attempt)
        return known

    def _announce(self, message: Message, attempt: Attempt) -> None:
        if attempt.state == DeliveryState.DELIVERED:
            signal = signals.message_delivered
        elif attempt.state in (DeliveryState.UNDELIVERED, DeliveryState.REJECTED):
            signal = signals.message_failed
        else:
            return
        self._emit(
            signal,
            message_id=message.id,
            kind=message.kind,
            sender_name=attempt.sender,
            mobile=mask(message.recipient),
        )

    def _keep(self, sender: str, states: Mapping[str, str]) -> None:
        """Keep reports until their attempts exist; for each attempt, the one with most progress."""
        now = self._ledger.clock()
        keys = {derived_id(sender, gateway_id): state for gateway_id, state in states.items()}
        kept = select(EarlyReport).where(EarlyReport.id.in_(keys)).order_by(EarlyReport.id)

        def work(session: Session) -> None:
            session.execute(delete(EarlyReport).where(EarlyReport.until < now))
            reports = {report.id: report for report in session.scalars(kept.with_for_update())}
            for key, state in sorted(keys.items()):
                if key in reports:
                    reports[key].state = further(reports[key].state, state)
                else:
                    until = now + _EARLY_REPORT_LIFETIME
                    session.add(EarlyReport(id=key, state=str(state), until=until))

        self._ledger.run(work)

    # --- messages from phones --------------------------------------------------------------------

    def incoming(self, incoming_id: str) -> Incoming | None:
        """Return a message from a phone by the id in the signal `message_received`."""
        return self._ledger.read(lambda session: session.get(Incoming, incoming_id))

    def _record_messages(self, sender: str, messages: Iterable[ReceivedText]) -> None:
        """Insert messages from phones. One that is already stored is left alone."""
        now = self._ledger.clock()
        rows = {
            (key := derived_id(sender, message.id)): {
                "id": key,
                "sender": sender,
                "originator": _storable(
                    to_e164(ascii_digits(message.originator)), _MAX_NUMBER_LENGTH
                ),
                "line": _storable(message.line, _MAX_NUMBER_LENGTH),
                "text": _storable(message.text, _MAX_TEXT_LENGTH),
                "received_at": message.received_at or now,
            }
            for message in messages
        }

        def work(session: Session) -> tuple[list[Incoming], Callable[[], None]]:
            insert = self._ledger.insert_if_absent
            added = {key for key, row in sorted(rows.items()) if insert(session, Incoming, row)}
            new = [Incoming(**row) for key, row in rows.items() if key in added]
            return new, self._on_received(session, new)

        new, announce = self._ledger.run(work)
        announce()
        for message in new:
            self._emit(
                signals.message_received,
                incoming_id=message.id,
                sender_name=sender,
                mobile=mask(message.originator),
            )


def _count_change(counts: dict[str, Counter[str]], message: Message, before: str) -> None:
    """Count a message under its new state in its batch instead of the previous one."""
    old, new = COUNT_OF.get(before), COUNT_OF.get(message.state)
    if message.batch_id is None or old is None or new is None or old == new:
        return
    batch = counts.setdefault(message.batch_id, Counter())
    batch[old] -= 1
    batch[new] += 1


def _lock_messages(
    session: Session, sender: str, gateway_ids: Iterable[str]
) -> list[tuple[Message, list[Attempt]]]:
    """Lock the messages of these attempts, and return each with all its attempts.

    The message's row is the lock of all its attempts: a transaction that changes an attempt's state
    locks the message first and computes the message's state from all of them.
    """
    found = select(Attempt.message_id).where(
        Attempt.gateway_id.in_(gateway_ids), Attempt.sender == sender
    )
    message_ids = session.scalars(found).all()
    if not message_ids:
        return []
    locked = select(Message).where(Message.id.in_(message_ids)).order_by(Message.id)
    messages = session.scalars(locked.with_for_update()).all()
    attempts: dict[str, list[Attempt]] = {message.id: [] for message in messages}
    siblings = select(Attempt).where(Attempt.message_id.in_(attempts)).order_by(Attempt.id)
    for attempt in session.scalars(siblings.with_for_update()):
        attempts[attempt.message_id].append(attempt)
    return [(message, attempts[message.id]) for message in messages]


def _storable(text: str, max_length: int) -> str:
    """Return text that every database accepts: without NUL and lone surrogates, and cut short."""
    without_nul = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return without_nul.encode("utf-8", "replace").decode()[:max_length]
