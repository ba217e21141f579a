"""Dispatch of batches: several calls in flight, each with as many texts as the gateway takes.

Each call has a sender, and so connections, of its own: one shared HTTP client reaches a fifth of
the throughput with many calls in flight. For two calls in flight there are three threads, so that
some write to the database while the others wait for gateways. The threads share what they lease
(`LeasePool`) and the transactions in which they write (`GroupCommit`), so a gateway that takes one
text per call costs no transaction per text.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import islice

from sqlalchemy import bindparam, func, or_, select, update
from sqlalchemy.orm import Session

from .. import signals
from ..db.group_commit import GroupCommit
from ..db.ids import new_id
from ..db.ledger import Ledger
from ..db.models import ATTEMPTS, MESSAGES, Attempt, Batch, Message
from ..db.rows import insert_all
from ..delivery.attempts import Attempts, storable_cost, storable_id
from ..delivery.failover import Delivery
from ..delivery.states import TAKEN
from ..errors import Misconfigured, Rejected, SenderError, SMSVerifyError, Unavailable, Unknown
from ..forks import after_fork
from ..log_events import log_event
from ..senders.base import Capability, DeliveryState, Receipt, Sender, Text
from .batch_counts import COUNT_OF, add_counts
from .bulk import ACTIVE, BulkSends
from .call_slots import CallSlots, NoSlot
from .dispatch import MAX_RETRIES, may_retry_help, retry_wait
from .lease_pool import LeasePool
from .outbox import Lease, Locked, Outbox
from .quiet_hours import QuietUntil
from .worker import run_in_threads

log = logging.getLogger(__name__)

#: The most texts of one call. Raygan takes 50,000, but a lost answer leaves all of them unknown.
MAX_CALL = 1000
#: Rows that a thread takes at first, and at most, where the gateway takes few texts a call. Then it
#: takes as many as it sends in `_PORTION_SECONDS`, because all must be sent before the lease ends.
_FIRST_PORTION, _MAX_PORTION = 3, 100
_PORTION_SECONDS = 10.0
#: Seconds that a prepared call waits for a slot. With the call, it must end before the lease does.
_SLOT_SECONDS = 30.0
#: The most messages of one transaction: databases limit the parameters of a statement.
_MAX_WRITE = 5000
#: From so many calls in flight on, a write waits for others for so many seconds: with more outcomes
#: in one transaction, the processor does less.
_MANY_CALLS, _WRITE_PAUSE = 16, 0.005
#: How long to wait while every sender of texts is skipped by its breaker.
_BLOCKED = timedelta(seconds=10)
_BLACKLISTED = "the number is on the operator's blacklist"
_MAX_CAUSE = 191

#: An attempt that another worker closed as `unknown` may have been found at the gateway since.
_RECORD_ATTEMPT = update(ATTEMPTS).where(
    ATTEMPTS.c.id == bindparam("key"),
    or_(ATTEMPTS.c.state == Attempt.SENDING, ATTEMPTS.c.state == str(DeliveryState.UNKNOWN)),
)
_ACTIVE_BATCHES = select(Batch.id).where(
    Batch.id.in_(bindparam("ids", expanding=True)), Batch.state.in_(ACTIVE)
)
_CLOSE_MESSAGES = update(MESSAGES).where(MESSAGES.c.id.in_(bindparam("ids", expanding=True)))


@dataclass(frozen=True, slots=True)
class _Call:
    """Messages that one sender is about to get, and the attempts at them."""

    token: str
    sender: Sender
    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The outcome of one message.

    :param attempt: the attempt to record; None if no sender was called.
    :param state: the state of the attempt, and of the message unless it is tried again.
    :param retry_at: when to try again; None if the message is closed.
    :param goes_on: whether the message stays open, for another sender or another worker.
    :param error: why the sender did not take it, if another one may.
    """

    message: Message
    token: str
    attempt: Attempt | None
    state: str
    cause: str | None = None
    gateway_id: str | None = None
    cost: Decimal | None = None
    next_check_at: datetime | None = None
    retry_at: datetime | None = None
    goes_on: bool = False
    error: SenderError | None = None
    is_announced: bool = True

    def may_record(self, message: Locked | None) -> bool:
        """Return whether the outcome is written.

        :param message: as it is now; None if it was erased.
        """
        return self.attempt is not None or (message is not None and message.lease == self.token)

    def may_close(self, message: Locked | None) -> bool:
        """Return whether the message gets this state. It does not while another worker has it.

        Without a lease, another worker has closed the message as `unknown`, because it found the
        attempt open. If staff have sent it again since, it goes on waiting, unless the gateway took
        it now.
        """
        if message is None or self.goes_on:
            return False
        if message.lease is not None or self.attempt is None:
            return message.lease == self.token
        if message.is_open:
            return self.state in TAKEN
        return message.state == DeliveryState.UNKNOWN


@dataclass(frozen=True, slots=True)
class _Step:
    """The writes of a thread between two calls: the outcomes of the last one, and the next one."""

    outcomes: Sequence[_Outcome] = ()
    call: _Call | None = None

    def size(self) -> int:
        """Return the number of messages that are written."""
        return len(self.outcomes) + (len(self.call.messages) if self.call is not None else 0)


class BulkDispatcher:
    """Sends the messages of batches. Implements `worker.Queue`.

    :param own_sender: returns a sender with connections of its own for one call at a time.
    :param in_flight: the number of calls in flight.
    """

    def __init__(
        self,
        ledger: Ledger,
        outbox: Outbox,
        batches: BulkSends,
        delivery: Delivery,
        attempts: Attempts,
        *,
        quiet_until: QuietUntil,
        own_sender: Callable[[Sender], Sender],
        in_flight: int,
    ) -> None:
        self.name = "bulk"
        self._ledger = ledger
        self._outbox = outbox
        self._batches = batches
        self._delivery = delivery
        self._attempts = attempts
        self._quiet_until = quiet_until
        self._own_sender = own_sender
        self._in_flight = in_flight
        # Some threads write while as many as may be in flight wait for gateways.
        self._threads = in_flight + (in_flight + 1) // 2
        self._blocked_until: datetime | None = None
        self._reset()
        after_fork(self._reset)

    def _reset(self) -> None:
        """Start without leases and threads, as a forked process does."""
        self._pools: list[LeasePool] = []
        self._write = GroupCommit(
            self._write_steps,
            largest=_MAX_WRITE,
            size=_Step.size,
            pause=_WRITE_PAUSE if self._in_flight >= _MANY_CALLS else 0.0,
        )

    # --- the queue -------------------------------------------------------------------------------

    def send_due(self, stop: threading.Event) -> int:
        """Send batches until none has a due message, or the event is set."""
        self._batches.close_stopped()
        self._batches.resume_interrupted()
        self._blocked_until = None
        count = 0
        while not stop.is_set() and (due := self._due_batches()):
            for batch_id in due:
                count += self._send_batch(batch_id, stop)
                self._batches.finish(batch_id)
            if self._is_blocked():
                break
        for batch_id in self._open_batches():
            self._batches.finish(batch_id)
        # One that was stopped meanwhile has got back the rows that were leased here.
        self._batches.close_stopped()
        return count

    def has_work(self) -> bool:
        """Return whether a batch has a due message, or is to be closed or continued."""
        return bool(self._batches.open_ids())

    def next_due(self) -> datetime | None:
        """Return when the next message may be sent, or closed if its batch is stopped."""
        query = (
            select(func.min(Message.next_try_at))
            .join(Batch, Batch.id == Message.batch_id)
            .where(Batch.state.in_((*ACTIVE, Batch.STOPPED)), Batch.finished_at.is_(None))
            .where(Message.next_try_at.is_not(None))
        )
        due = self._ledger.read(lambda session: session.scalar(query))
        if due is None:
            return None
        return max(
            time for time in (due, self._blocked_until, self._quiet_end()) if time is not None
        )

    def abandon(self) -> int:
        """Record the unfinished attempts of threads that cannot be waited for."""
        tokens = [token for pool in list(self._pools) for token in pool.tokens()]
        return sum(map(self._outbox.abandon, tokens))

    def _is_blocked(self) -> bool:
        """Return whether every sender of texts is skipped by its breaker."""
        return self._blocked_until is not None

    def _open_batches(self) -> Sequence[str]:
        query = (
            select(Batch.id)
            .where(Batch.state.in_(ACTIVE), Batch.finished_at.is_(None))
            .order_by(Batch.created_at)
        )
        return self._ledger.read(lambda session: session.scalars(query).all())

    def _due_batches(self) -> list[str]:
        if self._quiet_end() is not None:
            return []
        now = self._ledger.clock()

        def work(session: Session) -> list[str]:
            return [
                batch_id
                for batch_id in self._open_batches()
                if session.scalar(
                    select(Message.id)
                    .where(Message.batch_id == batch_id, Message.next_try_at <= now)
                    .limit(1)
                )
            ]

        return self._ledger.read(work)

    def _quiet_end(self) -> datetime | None:
        """Return when the first sender may send; None if one may send now."""
        ends = [self._quiet_until(sender.name) for sender in self._delivery.routes.route("text")]
        known = [end for end in ends if end is not None]
        return min(known) if known and len(known) == len(ends) else None

    def _send_batch(self, batch_id: str, stop: threading.Event) -> int:
        """Send messages of a batch until none is due."""
        slots = CallSlots(self._in_flight, self._own_sender)
        pool = LeasePool(
            partial(self._lease, batch_id),
            lambda lease: self._outbox.release(lease, lease.messages),
            threads=self._threads,
            largest=MAX_CALL,
        )
        self._pools.append(pool)
        with contextlib.ExitStack() as closing:
            closing.callback(self._pools.remove, pool)
            closing.callback(slots.close)
            closing.callback(pool.close)
            return run_in_threads(self._threads, partial(self._send_portions, pool, slots, stop))

    # --- one thread ------------------------------------------------------------------------------

    def _send_portions(self, pool: LeasePool, slots: CallSlots, stop: threading.Event) -> int:
        count, size = 0, _FIRST_PORTION
        limits = [sender.batch_limit for sender in self._delivery.routes.route("text")]
        call = min(MAX_CALL, max(limits, default=1))
        while not stop.is_set() and not self._is_blocked():
            portion = pool.take(max(size, call), at_least=call)
            if portion is None:
                break
            count += len(portion.messages)
            begin = time.monotonic()
            self._send_lease(portion, slots, stop)
            each = (time.monotonic() - begin) / len(portion.messages)
            size = max(1, min(_MAX_PORTION, int(_PORTION_SECONDS / max(each, 1e-3))))
            pool.done(portion)
        return count

    def _lease(self, batch_id: str, size: int) -> Lease | None:
        """Lease rows of a batch; return None if it is paused, stopped or closed."""
        state = self._ledger.read(
            lambda session: session.scalar(select(Batch.state).where(Batch.id == batch_id))
        )
        if state not in ACTIVE:
            return None
        return self._outbox.lease(Message.BULK, size, batch_id=batch_id)

    def _send_lease(self, lease: Lease, slots: CallSlots, stop: threading.Event) -> None:
        waiting = list(lease.messages)
        causes: dict[str, list[SenderError]] = {}
        called = False
        for sender in self._delivery.routes.route("text"):
            if not waiting or self._quiet_until(sender.name) is not None:
                continue
            with self._delivery.breakers.admit(sender.name) as is_admitted:
                if not is_admitted:
                    continue
                called = True
                waiting = self._send_by(sender, slots, lease, waiting, causes, stop)
        if not waiting:
            return
        if not called or stop.is_set():
            self._outbox.release(lease, waiting)
            if not stop.is_set():
                self._blocked_until = self._ledger.clock() + _BLOCKED
            return
        if self._quiet_end() is not None:  # they have begun meanwhile
            self._outbox.release(lease, [one for one in waiting if one.id not in causes])
            waiting = [one for one in waiting if one.id in causes]
        now = self._ledger.clock()
        if waiting:
            self._write(_Step([_failed(one, lease.token, causes, now) for one in waiting]))

    def _send_by(
        self,
        sender: Sender,
        slots: CallSlots,
        lease: Lease,
        messages: Sequence[Message],
        causes: dict[str, list[SenderError]],
        stop: threading.Event,
    ) -> list[Message]:
        """Send with one sender, and return the messages that another one may send."""
        if stop.is_set():
            return list(messages)
        left: list[Message] = []
        outcomes: list[_Outcome] = []
        source = iter(self._without_blacklisted(sender, slots, lease, messages, stop))
        while part := list(islice(source, min(MAX_CALL, sender.batch_limit))):
            if stop.is_set() or self._quiet_until(sender.name) is not None:
                left += part
                continue
            opened = self._write(_Step(outcomes, _Call(lease.token, sender, part)))
            self._announce(sender, outcomes)
            if not opened:  # the batch is paused or stopped, or another worker has the messages
                self._outbox.release(lease, [*part, *source])
                return left
            outcomes = self._call(sender, slots, lease.token, opened, stop)
            for outcome in outcomes:
                if outcome.goes_on:
                    if outcome.error is not None:
                        causes.setdefault(outcome.message.id, []).append(outcome.error)
                    left.append(outcome.message)
        if outcomes:
            self._write(_Step(outcomes))
            self._announce(sender, outcomes)
        return left

    def _without_blacklisted(
        self,
        sender: Sender,
        slots: CallSlots,
        lease: Lease,
        messages: Sequence[Message],
        stop: threading.Event,
    ) -> Sequence[Message]:
        """Close the messages to numbers that the gateway would charge for but not reach."""
        if Capability.FILTER not in sender.capabilities:
            return messages
        try:
            with (
                slots.take(sender, stop, timeout=_SLOT_SECONDS) as own,
                self._delivery.context(),
            ):
                reachable = own.reachable([message.recipient for message in messages])
        except NoSlot:
            return messages  # their calls will find none either
        except SenderError as error:
            log.warning(
                "the blacklist was not read: %s", error, extra=log_event("blacklist_not_read")
            )
            return messages
        blocked = [message for message in messages if message.recipient not in reachable]
        if blocked:
            skipped = [
                _Outcome(message, lease.token, None, Message.SKIPPED, _BLACKLISTED)
                for message in blocked
            ]
            self._write(_Step(skipped))
        return [message for message in messages if message.recipient in reachable]

    def _call(
        self,
        sender: Sender,
        slots: CallSlots,
        token: str,
        opened: Sequence[tuple[Message, Attempt]],
        stop: threading.Event,
    ) -> list[_Outcome]:
        call = opened[0][1].call_reference or ""
        texts = [
            Text(message.recipient, message.text or "", message.id, call) for message, _ in opened
        ]
        try:
            with slots.take(sender, stop, timeout=_SLOT_SECONDS) as own:
                receipts = self._delivery.send_batch(own, texts)
        except NoSlot as error:
            return [_not_made(token, *pair, cause=str(error)) for pair in opened]
        except SenderError as error:
            receipts = [Receipt.failed(text, error) for text in texts]
        except SMSVerifyError as error:
            failure = sender.make_error(Misconfigured, str(error)[:_MAX_CAUSE])
            receipts = [Receipt.failed(text, failure) for text in texts]
        return [
            self._outcome(sender, message, token, attempt, receipt)
            for (message, attempt), receipt in zip(opened, receipts, strict=True)
        ]

    def _outcome(
        self, sender: Sender, message: Message, token: str, attempt: Attempt, receipt: Receipt
    ) -> _Outcome:
        error = receipt.error
        if error is None and receipt.status in (DeliveryState.REJECTED, DeliveryState.UNDELIVERED):
            error = sender.make_error(Rejected, "its receipt says that nothing was sent")
        if error is None and receipt.status is DeliveryState.UNKNOWN:
            error = sender.make_error(Unknown, "its receipt does not say whether it was sent")
        if error is None:
            return _Outcome(
                message,
                token,
                attempt,
                str(receipt.status),
                gateway_id=storable_id(receipt),
                cost=storable_cost(receipt.cost),
                next_check_at=self._attempts.first_check(sender, receipt),
            )
        if isinstance(error, Unknown):
            asks = Capability.FIND in sender.capabilities
            return _Outcome(
                message,
                token,
                attempt,
                str(DeliveryState.UNKNOWN),
                error.reason,
                next_check_at=self._ledger.clock() if asks else None,
            )
        return _Outcome(
            message,
            token,
            attempt,
            Attempt.FAILED,
            error.reason,
            goes_on=isinstance(error, Unavailable),
            error=error,
        )

    def _announce(self, sender: Sender, outcomes: Sequence[_Outcome]) -> None:
        ids = [outcome.gateway_id for outcome in outcomes if outcome.gateway_id is not None]
        self._attempts.apply_early_reports(sender, ids)
        for outcome in outcomes:
            assert outcome.attempt is not None  # noqa: S101 -- `_call` sets it
            if not outcome.is_announced:
                continue
            if outcome.state == Attempt.FAILED:
                signal = signals.message_failed
            elif outcome.state == DeliveryState.UNKNOWN:
                continue
            else:
                signal = signals.message_sent
            if signal.receivers:
                self._attempts.announce(signal, outcome.message, outcome.attempt)

    # --- transactions that several threads share -------------------------------------------------

    def _write_steps(self, steps: Sequence[_Step]) -> list[list[tuple[Message, Attempt]]]:
        """Write the outcomes of the last calls and the attempts of the next ones.

        If another worker has taken a message because the lease had ended, only the outcome of an
        attempt is recorded, and the message is left to that worker.

        :returns: for each step, what its call may send.
        """
        all_outcomes = [outcome for step in steps for outcome in step.outcomes]
        calls = [step.call for step in steps if step.call is not None]
        ids = [message.id for call in calls for message in call.messages]
        ids += [outcome.message.id for outcome in all_outcomes]

        def work(session: Session) -> list[list[tuple[Message, Attempt]]]:
            # The lock also orders the outcomes after a delivery report.
            locked = self._outbox.lock(session, ids)
            outcomes = [one for one in all_outcomes if one.may_record(locked.get(one.message.id))]
            opened = iter(self._open_attempts(session, calls, locked) if calls else ())
            if outcomes:  # last, because it locks the batch
                self._record_outcomes(session, outcomes, locked)
            return [next(opened) if step.call is not None else [] for step in steps]

        return self._ledger.run(work)

    def _open_attempts(
        self, session: Session, calls: Sequence[_Call], locked: Mapping[str, Locked]
    ) -> list[list[tuple[Message, Attempt]]]:
        """Write the attempts of several calls, for messages of active batches that are held."""
        opened = []
        batches = {message.batch_id for call in calls for message in call.messages}
        active = set(session.connection().scalars(_ACTIVE_BATCHES, {"ids": list(batches)}))
        for call in calls:
            reference = new_id()
            pairs = []
            for message in call.messages:
                now = locked.get(message.id)
                is_held = now is not None and now.lease == call.token
                if is_held and message.batch_id in active:
                    attempt = self._attempts.new(message.id, call.sender)
                    attempt.call_reference = reference
                    pairs.append((message, attempt))
            opened.append(pairs)
        self._outbox.renew(session, [message for pairs in opened for message, _ in pairs])
        insert_all(session, [attempt for pairs in opened for _, attempt in pairs])
        return opened

    def _record_outcomes(
        self, session: Session, outcomes: Sequence[_Outcome], locked: Mapping[str, Locked]
    ) -> None:
        """Write the outcomes of several calls, and count them in their batches."""
        attempts = [outcome for outcome in outcomes if outcome.attempt is not None]
        now = self._ledger.clock()
        if attempts:
            session.connection().execute(
                _RECORD_ATTEMPT,
                [
                    {
                        "key": outcome.attempt.id,  # type: ignore[union-attr]  # see above
                        "state": outcome.state,
                        "gateway_id": outcome.gateway_id,
                        "cause": outcome.cause and outcome.cause[:_MAX_CAUSE],
                        "cost": outcome.cost,
                        "next_check_at": outcome.next_check_at,
                        "updated_at": now,
                    }
                    for outcome in attempts
                ],
            )
        closed = [one for one in outcomes if one.may_close(locked.get(one.message.id))]
        self._close_messages(session, closed, locked, now)

    def _close_messages(
        self,
        session: Session,
        outcomes: Iterable[_Outcome],
        locked: Mapping[str, Locked],
        now: datetime,
    ) -> None:
        """Write the messages' states, with one UPDATE for all that become the same."""
        same: dict[tuple[tuple[str, object], ...], list[str]] = {}
        counts: dict[str, Counter[str]] = {}
        for outcome in outcomes:
            message = outcome.message
            is_retry = outcome.retry_at is not None
            state = Message.WAITING if is_retry else outcome.state
            # Every sender of the route was tried before.
            no_sender_took_it = outcome.attempt is None and outcome.state == Attempt.FAILED
            becomes = (
                ("state", state),
                ("cause", outcome.cause and outcome.cause[:_MAX_CAUSE]),
                ("next_try_at", outcome.retry_at),
                ("tries", message.tries + int(no_sender_took_it)),
            )
            same.setdefault(becomes, []).append(message.id)
            if message.batch_id is None:
                continue
            differences = counts.setdefault(message.batch_id, Counter())
            before = locked[message.id].state
            if before in COUNT_OF:  # another worker has closed and counted it
                differences[COUNT_OF[before]] -= 1
            if state in COUNT_OF:
                differences[COUNT_OF[state]] += 1
        for values, ids in same.items():
            session.connection().execute(
                _CLOSE_MESSAGES, dict(values) | {"ids": ids, "lease": None, "updated_at": now}
            )
        add_counts(session, counts, now)


def _failed(
    message: Message, token: str, causes: Mapping[str, Sequence[SenderError]], now: datetime
) -> _Outcome:
    """Return the outcome of a message that no sender took.

    :param causes: id of a message → why the senders did not take it.
    """
    errors = causes.get(message.id, ())
    is_tried_again = may_retry_help(errors) and message.tries < MAX_RETRIES
    return _Outcome(
        message,
        token,
        None,
        Attempt.FAILED,
        f"{errors[-1].sender}: {errors[-1].reason}" if errors else None,
        retry_at=now + retry_wait(message.tries) if is_tried_again else None,
    )


def _not_made(token: str, message: Message, attempt: Attempt, *, cause: str) -> _Outcome:
    """Return the outcome of a call that was prepared and not made."""
    return _Outcome(
        message,
        token,
        attempt,
        Attempt.FAILED,
        cause,
        goes_on=True,
        is_announced=False,
    )
