"""Sync: ask the gateways for delivery states and for messages from phones.

An attempt is asked about until its state is final or it is three days old, newest first, and less
and less often. An attempt whose answer was lost is looked up by the reference of its call, if the
gateway supports that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from .. import signals
from ..db.ledger import Ledger
from ..db.models import Attempt, Batch, Incoming, Message
from ..delivery.attempts import Attempts, storable_cost, storable_id
from ..delivery.checks import next_check
from ..delivery.failover import Delivery
from ..delivery.states import progress, settle
from ..errors import SenderError
from ..log_events import log_event
from ..senders.base import Capability, DeliveryState, Receipt, Sender
from ..senders.batching import batched
from .batch_counts import recount
from .tracking import Tracker

_FINAL = progress(DeliveryState.DELIVERED)


log = logging.getLogger(__name__)

#: How many attempts one call of `Sender.statuses` asks about.
_SLICE = 200
#: Calls of one sync to each sender, so that a sync ends in spite of a backlog.
_MAX_SLICES = 50
#: How many messages from phones one transaction records.
_RECEIVED_SLICE = 100
#: Gateways filter by whole days, in a time zone that most do not name.
_OVERLAP = timedelta(days=1)
_FIRST_FETCH = timedelta(days=3)


@dataclass(slots=True)
class Synced:
    """What one sync did at a sender.

    :param asked: attempts whose state was asked for.
    :param found: attempts whose answer was lost and whose outcome is now known.
    :param received: messages from phones that the gateway listed, new or not.
    :param failed: why the gateway could not be asked; None if it could.
    """

    sender: str
    asked: int = 0
    found: int = 0
    received: int = 0
    failed: str | None = None


class StateSync:
    """Asks gateways. Several processes may do so at the same time."""

    def __init__(
        self, ledger: Ledger, delivery: Delivery, attempts: Attempts, tracker: Tracker
    ) -> None:
        self._ledger = ledger
        self._delivery = delivery
        self._attempts = attempts
        self._tracker = tracker

    def run(self) -> list[Synced]:
        """Ask each sender for everything that is due. A gateway that fails is asked again later."""
        return [self._sync(sender) for sender in self._delivery.routes.senders.values()]

    def ask_once(self, challenge_id: str) -> bool:
        """Ask about the messages of a challenge that are due and were never asked about.

        :returns: whether nothing is left to ask for the first time.
        :raises SenderError: a gateway could not be asked. `run` asks it again.
        """
        query = (
            select(Attempt)
            .join(Message, Message.id == Attempt.message_id)
            .where(Message.challenge_id == challenge_id, Attempt.gateway_id.is_not(None))
            .where(Attempt.next_check_at.is_not(None), Attempt.checks == 0)
        )
        now = self._ledger.clock()
        found = self._ledger.read(lambda session: session.scalars(query).all())
        is_due = [
            attempt.next_check_at is not None and attempt.next_check_at <= now for attempt in found
        ]
        if not any(is_due):  # without the lock of a write
            return not found
        by_sender: dict[str, list[Attempt]] = {}
        for attempt in self._take(query.where(Attempt.next_check_at <= now)):
            by_sender.setdefault(attempt.sender, []).append(attempt)
        for name, attempts in by_sender.items():
            sender = self._delivery.routes.senders.get(name)
            if sender is not None and Capability.STATUS in sender.capabilities:
                self._ask(sender, attempts)
        return all(is_due)

    def _sync(self, sender: Sender) -> Synced:
        result = Synced(sender.name)
        steps: list[tuple[Capability, Callable[[Sender, Synced], None]]] = [
            (Capability.STATUS, self._ask_states),
            (Capability.FIND, self._find_lost),
            (Capability.INCOMING, self._fetch_received),
        ]
        for capability, step in steps:
            if capability not in sender.capabilities:
                continue
            try:
                step(sender, result)
            except SenderError as error:
                log.warning(
                    "%s could not be asked: %s",
                    sender.name,
                    error,
                    extra=log_event("gateway_not_asked"),
                )
                result.failed = error.reason
        return result

    # --- states ----------------------------------------------------------------------------------

    def _ask_states(self, sender: Sender, result: Synced) -> None:
        for _ in range(_MAX_SLICES):
            due = self._take(self._due(sender, Attempt.gateway_id.is_not(None)))
            if not due:
                return
            result.asked += self._ask(sender, due)

    def _ask(self, sender: Sender, attempts: Sequence[Attempt]) -> int:
        """Ask for states and record them; return how many were asked for."""
        ids = [attempt.gateway_id for attempt in attempts if attempt.gateway_id is not None]
        self._tracker.record(sender.name, sender.reports(ids))
        return len(ids)

    def _due(self, sender: Sender, condition: ColumnElement[bool]) -> Select[Any]:
        return (
            select(Attempt)
            .where(Attempt.sender == sender.name, condition)
            .where(Attempt.next_check_at <= self._ledger.clock())
        )

    def _take(self, query: Select[Any]) -> Sequence[Attempt]:
        """Return attempts that are due, and store when to ask again.

        This is stored before the gateway is asked, so that two processes do not ask for the same
        attempts, and a gateway that fails is not asked again at once.
        """
        locked = query.order_by(Attempt.created_at.desc()).limit(_SLICE).with_for_update(of=Attempt)

        def work(session: Session) -> list[Attempt]:
            now = self._ledger.clock()
            due = session.scalars(locked).all()
            for attempt in due:
                is_final = progress(attempt.state) == _FINAL
                attempt.next_check_at = (
                    None if is_final else next_check(attempt.created_at, attempt.checks, now)
                )
                attempt.checks += 1
            return [attempt for attempt in due if progress(attempt.state) != _FINAL]

        return self._ledger.run(work)

    # --- lost answers ----------------------------------------------------------------------------

    def _find_lost(self, sender: Sender, result: Synced) -> None:
        for _ in range(_MAX_SLICES):
            due = self._take(self._due(sender, Attempt.gateway_id.is_(None)))
            if not due:
                return
            by_call: dict[str, list[Attempt]] = {}
            for attempt in due:
                if attempt.call_reference is not None:
                    by_call.setdefault(attempt.call_reference, []).append(attempt)
            for call, attempts in by_call.items():
                result.found += self._find(sender, call, attempts)

    def _find(self, sender: Sender, call: str, attempts: Sequence[Attempt]) -> int:
        """Ask for one call, and record what the gateway reports about it."""
        ids = [attempt.message_id for attempt in attempts]
        query = select(Message.id, Message.recipient).where(Message.id.in_(ids))
        recipients = self._ledger.read(
            lambda session: {row.id: row.recipient for row in session.execute(query)}
        )
        receipts = sender.find(call, sorted(set(recipients.values())))
        found = {
            attempt.message_id: (attempt, receipt)
            for attempt in attempts
            if (receipt := receipts.get(recipients.get(attempt.message_id, ""))) is not None
            and receipt.status is not DeliveryState.UNKNOWN
        }
        if not found:
            return 0
        moved = self._ledger.run(lambda session: self._record_found(session, sender, found))
        gateway_ids = [attempt.gateway_id for _, attempt in moved if attempt.gateway_id]
        self._attempts.apply_early_reports(sender, gateway_ids)
        for message, attempt in moved:
            self._attempts.announce(signals.message_sent, message, attempt)
        return len(moved)

    def _record_found(
        self, session: Session, sender: Sender, found: dict[str, tuple[Attempt, Receipt]]
    ) -> list[tuple[Message, Attempt]]:
        now = self._ledger.clock()
        moved = []
        messages = session.scalars(
            select(Message).where(Message.id.in_(found)).order_by(Message.id).with_for_update()
        ).all()
        for message in messages:
            known, receipt = found[message.id]
            attempt = session.get(Attempt, known.id, with_for_update=True)
            if attempt is None or attempt.state != DeliveryState.UNKNOWN:
                continue  # a webhook or another process was faster
            attempt.state, attempt.gateway_id = str(receipt.status), storable_id(receipt)
            attempt.cost = storable_cost(receipt.cost)
            attempt.next_check_at = self._attempts.first_check(sender, receipt)
            attempt.updated_at = message.updated_at = now
            session.flush()
            states = select(Attempt.state).where(Attempt.message_id == message.id)
            settle(message, session.scalars(states).all())
            moved.append((message, attempt))
        session.flush()
        for batch_id in sorted({message.batch_id for message in messages if message.batch_id}):
            batch = session.get(Batch, batch_id, with_for_update=True)
            if batch is not None:
                recount(session, batch)
        return moved

    # --- messages from phones --------------------------------------------------------------------

    def _fetch_received(self, sender: Sender, result: Synced) -> None:
        newest = self._ledger.read(
            lambda session: session.scalar(
                select(func.max(Incoming.received_at)).where(Incoming.sender == sender.name)
            )
        )
        now = self._ledger.clock()
        since = now - _FIRST_FETCH if newest is None else min(newest, now) - _OVERLAP
        for part in batched(sender.received(since), _RECEIVED_SLICE):
            result.received += len(part)
            self._tracker.record(sender.name, part)
