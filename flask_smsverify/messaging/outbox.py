"""The outbox: texts that wait in `smsverify_message` until a worker sends them.

A text is added in the host's transaction. A worker leases rows that are due. A lease is a random
token and a time at which it ends. A worker must hold its lease when it opens an attempt, so a lease
that has ended and was taken by another worker sends nothing.

If a worker dies, its leases end and another worker takes the rows. A row without an open attempt
was not sent and is sent now. A row with an open attempt may have been sent: the attempt becomes
`unknown`, and the text is not sent again.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, func, or_, select, update
from sqlalchemy.orm import Session

from ..db.ids import new_id
from ..db.inserts import insert_absent
from ..db.ledger import Ledger
from ..db.models import MESSAGES, Attempt, Batch, Message, OptOut
from ..delivery.states import best
from ..errors import SMSVerifyError
from ..senders.base import DeliveryState
from .batch_counts import COUNT_OF, add_counts, recount

#: The kinds of messages that wait here.
KINDS = (Message.EVENT, Message.BULK)
#: The states in which nothing was sent, or the gateway reported that it did not arrive.
RESENDABLE = (
    Attempt.FAILED,
    Message.EXPIRED,
    Message.SKIPPED,
    DeliveryState.UNKNOWN,
    DeliveryState.UNDELIVERED,
    DeliveryState.REJECTED,
)
#: The cause of an attempt that is unknown because its worker died.
WORKER_DIED = "the worker stopped before the gateway's answer was recorded"
OPTED_OUT = "the number opted out"

#: The age at which a lease is renewed for a call. Until then, what is left of it must be longer
#: than a call that was prepared may take.
RENEWED_AFTER = timedelta(seconds=10)

_MAX_CAUSE = 191

_LOCK = (
    select(MESSAGES.c.id, MESSAGES.c.lease, MESSAGES.c.state, MESSAGES.c.next_try_at)
    .where(MESSAGES.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(MESSAGES.c.id)
    .with_for_update()
)
_RENEW = (
    update(MESSAGES)
    .where(MESSAGES.c.id.in_(bindparam("ids", expanding=True)))
    .values(next_try_at=bindparam("until"))
)


class LeaseLostError(SMSVerifyError):
    """Another worker has taken the row meanwhile. Nothing was sent under this lease."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A text to add to the outbox.

    :param recipient: E.164.
    :param patterns: sender → approved pattern, as JSON.
    :param dedupe_key: a digest; None if a second equal text is wanted.
    """

    kind: str
    recipient: str
    text: str
    parts: int
    event: str | None = None
    audience: str | None = None
    user_id: str | None = None
    locale: str | None = None
    patterns: str | None = None
    batch_id: str | None = None
    not_before: datetime | None = None
    expires_at: datetime | None = None
    dedupe_key: str | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """Rows that a worker holds under a token.

    :param found: how many rows were due, including those that were closed.
    """

    token: str
    found: int
    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class Locked:
    """What another worker or staff may have changed in a row, in a transaction that locks it.

    :param lease: the token under which the row is leased.
    :param is_open: whether it is still to be sent.
    """

    lease: str | None
    state: str
    is_open: bool


class Outbox:
    """Adds, leases and closes outbox rows.

    :param lease_seconds: how long a lease lasts. It is renewed for an attempt, and must be longer
        than the deadline of a route.
    :param wake_events: called with the ids of event texts that are to be sent again.
    :param wake_bulk: called when texts of batches are to be sent again.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        lease_seconds: float,
        wake_events: Callable[[Sequence[str]], None],
        wake_bulk: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._wake_events = wake_events
        self._wake_bulk = wake_bulk
        self._lease_duration = timedelta(seconds=lease_seconds)

    # --- adding ----------------------------------------------------------------------------------

    def add(self, connection: Connection, drafts: Sequence[Draft]) -> list[tuple[str, int]]:
        """Add texts in a transaction of the caller's, with one INSERT.

        :returns: the id of each new message and the position of its draft, without drafts whose
            dedupe key exists.
        """
        now = self._ledger.clock()
        # In the order of the unique keys, so that two transactions do not wait for each other.
        order = sorted(range(len(drafts)), key=lambda index: drafts[index].dedupe_key or "")
        rows = {new_id(): index for index in order}
        new = self._ledger.run_in(
            connection,
            lambda session: insert_absent(
                session.connection(),
                Message,
                [_row(message_id, drafts[index], now) for message_id, index in rows.items()],
            ),
        )
        return sorted(((message_id, rows[message_id]) for message_id in new), key=itemgetter(1))

    # --- leasing --------------------------------------------------------------------------------

    def lease(
        self,
        kind: str,
        limit: int,
        *,
        batch_id: str | None = None,
        ids: Iterable[str] | None = None,
    ) -> Lease:
        """Take rows that are due, so that no other worker takes them.

        Rows that have expired, whose number has opted out, or whose last worker died after it had
        called a gateway, are closed instead.

        :param ids: take these rows only.
        """
        condition = Message.kind == kind
        if batch_id is not None:
            condition &= Message.batch_id == batch_id
        if ids is not None:
            condition &= Message.id.in_(list(ids))
        token = secrets.token_hex(16)

        def work(session: Session) -> Lease:
            now = self._ledger.clock()
            until = now + self._lease_duration
            due = condition & (Message.next_try_at <= now)
            query = (
                select(Message.id, Message.lease)
                .where(due)
                .order_by(Message.next_try_at)
                .limit(limit)
            )
            if self._skips_locked(session):
                query = query.with_for_update(skip_locked=True)
            found = {row.id: row.lease for row in session.execute(query)}
            if not found:
                return Lease(token, 0, [])
            # The condition again, for databases that cannot skip rows of another worker.
            session.execute(
                update(Message)
                .where(Message.id.in_(found), due)
                .values(lease=token, next_try_at=until, state=Attempt.SENDING, updated_at=now)
                .execution_options(synchronize_session=False)
            )
            taken = session.scalars(
                select(Message).where(Message.id.in_(found), Message.lease == token)
            ).all()
            again = {row_id for row_id, lease in found.items() if lease is not None}
            kept = self._keep_sendable(session, taken, again, now)
            _count_closed(session, taken, now)
            return Lease(token, len(taken), kept)

        return self._ledger.run(work)

    def _skips_locked(self, session: Session) -> bool:
        dialect: Any = session.get_bind().dialect
        if dialect.name == "postgresql":
            return True
        if dialect.name not in ("mysql", "mariadb"):
            return False
        version: tuple[int, ...] = dialect.server_version_info or ()
        return version >= ((10, 6) if dialect.is_mariadb else (8, 0, 1))

    def _keep_sendable(
        self, session: Session, messages: Sequence[Message], again: set[str], now: datetime
    ) -> list[Message]:
        """Return the rows that can be sent, and close the others.

        :param again: the ids of rows that another worker had leased.
        """
        mobiles = {message.recipient for message in messages}
        opted_out = set(session.scalars(select(OptOut.mobile).where(OptOut.mobile.in_(mobiles))))
        kept = []
        for message in sorted(messages, key=lambda message: message.created_at):
            if message.id in again and not self._may_send_again(session, message, now):
                continue
            if message.expires_at is not None and message.expires_at <= now:
                _close(message, Message.EXPIRED, now)
            elif message.recipient in opted_out:
                _close(message, Message.SKIPPED, now, OPTED_OUT)
            else:
                kept.append(message)
        return kept

    def _may_send_again(self, session: Session, message: Message, now: datetime) -> bool:
        """Close a row whose last worker died after it had called a gateway."""
        attempts = session.scalars(
            select(Attempt).where(Attempt.message_id == message.id).order_by(Attempt.id)
        ).all()
        # The other attempts have an outcome: they failed, or staff sent the message again.
        is_open = [attempt for attempt in attempts if attempt.state == Attempt.SENDING]
        if not is_open:
            return True
        for attempt in is_open:
            attempt.state, attempt.cause = str(DeliveryState.UNKNOWN), WORKER_DIED
            attempt.updated_at, attempt.next_check_at = now, now
        _close(message, best(attempt.state for attempt in attempts), now, WORKER_DIED)
        return False

    def hold(self, session: Session, message_id: str, token: str) -> None:
        """Renew a lease in the transaction that opens an attempt.

        :raises LeaseLostError: another worker has the row.
        """
        until = self._ledger.clock() + self._lease_duration
        result: Any = session.execute(
            update(Message)
            .where(Message.id == message_id, Message.lease == token)
            .values(next_try_at=until)
            .execution_options(synchronize_session=False)
        )
        if result.rowcount != 1:
            raise LeaseLostError("another worker has taken the message")

    def lock(self, session: Session, ids: Sequence[str]) -> Mapping[str, Locked]:
        """Lock rows until the end of the transaction, in the order in which all lock them.

        :returns: id of a row → what it contains now. Rows that were erased are missing.
        """
        rows = session.connection().execute(_LOCK, {"ids": ids})
        return {row.id: Locked(row.lease, row.state, row.next_try_at is not None) for row in rows}

    def renew(self, session: Session, messages: Iterable[Message]) -> None:
        """Renew the leases of locked rows that were leased more than `RENEWED_AFTER` ago."""
        now = self._ledger.clock()
        latest = now + self._lease_duration - RENEWED_AFTER
        old = [
            message.id
            for message in messages
            if message.next_try_at is None or message.next_try_at < latest
        ]
        if old:
            session.connection().execute(_RENEW, {"ids": old, "until": now + self._lease_duration})

    def release(self, lease: Lease, messages: Iterable[Message]) -> None:
        """Give back rows that were leased and not sent."""
        self._update(
            [message.id for message in messages],
            lease.token,
            state=Message.WAITING,
            next_try_at=self._ledger.clock(),
            lease=None,
        )

    # --- closing ---------------------------------------------------------------------------------

    def postpone(
        self, message: Message, token: str, until: datetime, *, tries: int, cause: str | None
    ) -> None:
        """Let a row wait until a later time."""
        self._update(
            [message.id],
            token,
            state=Message.WAITING,
            next_try_at=until,
            lease=None,
            tries=tries,
            cause=cause and cause[:_MAX_CAUSE],
        )

    def close(self, message: Message, token: str, state: str, cause: str, *, tries: int) -> None:
        """Close a row that is not sent."""
        self._update(
            [message.id],
            token,
            state=state,
            next_try_at=None,
            lease=None,
            tries=tries,
            cause=cause[:_MAX_CAUSE],
        )

    def skip(self, batch_id: str, limit: int, cause: str) -> int:
        """Close rows of a batch that no worker holds, because they are not to be sent any more.

        A row whose last worker died after it had called a gateway becomes `unknown` instead.

        :param limit: the most rows to close.
        :returns: how many were closed.
        """

        def work(session: Session) -> int:
            now = self._ledger.clock()
            free = (
                select(Message.id, Message.lease)
                .where(
                    Message.batch_id == batch_id,
                    Message.next_try_at.is_not(None),
                    or_(Message.state == Message.WAITING, Message.next_try_at <= now),
                )
                .limit(limit)
                .with_for_update()
            )
            found = {row.id: row.lease for row in session.execute(free)}
            died = [row_id for row_id, lease in found.items() if lease is not None]
            skipped = found.keys() - died
            left = session.scalars(select(Message).where(Message.id.in_(died))).all()
            for message in left:
                if self._may_send_again(session, message, now):
                    _close(message, Message.SKIPPED, now, cause)
            _count_closed(session, left, now)
            if skipped:
                add_counts(session, {batch_id: {COUNT_OF[Message.SKIPPED]: len(skipped)}}, now)
                session.execute(
                    update(Message)
                    .where(Message.id.in_(skipped))
                    .values(state=Message.SKIPPED, cause=cause, next_try_at=None, updated_at=now)
                    .execution_options(synchronize_session=False)
                )
            return len(found)

        return self._ledger.run(work)

    def _update(self, ids: Sequence[str], token: str, **values: object) -> None:
        """Change rows that are still held under this token."""
        if not ids:
            return
        now = self._ledger.clock()
        statement = (
            update(Message)
            .where(Message.id.in_(ids), Message.lease == token)
            .values(updated_at=now, **values)
            .execution_options(synchronize_session=False)
        )
        self._ledger.run(lambda session: session.execute(statement) and None)

    def abandon(self, token: str) -> int:
        """Record the unfinished attempts of a worker that must stop while it waits for gateways.

        Attempts that have no answer become `unknown`. Rows without one wait for another worker.

        :returns: how many rows may have been sent.
        """

        def work(session: Session) -> int:
            now = self._ledger.clock()
            held = session.scalars(
                select(Message).where(Message.lease == token).with_for_update()
            ).all()
            unknown = 0
            for message in held:
                if self._may_send_again(session, message, now):
                    message.state, message.lease = Message.WAITING, None
                    message.next_try_at = message.updated_at = now
                else:
                    unknown += 1
            _count_closed(session, held, now)
            return unknown

        return self._ledger.run(work)

    # --- for staff and workers -------------------------------------------------------------------

    def next_due(self, kinds: Iterable[str] = KINDS) -> datetime | None:
        """Return when the next row is due; None if nothing waits."""
        query = select(func.min(Message.next_try_at)).where(
            Message.kind.in_(list(kinds)), Message.next_try_at.is_not(None)
        )
        return self._ledger.read(lambda session: session.scalar(query))

    def count_due(self, kind: str, limit: int) -> int:
        """Return how many rows of a kind are due, or the limit if there are more."""
        due = (
            select(Message.id)
            .where(Message.kind == kind, Message.next_try_at <= self._ledger.clock())
            .limit(limit)
            .subquery()
        )
        query = select(func.count()).select_from(due)
        return self._ledger.read(lambda session: session.scalar(query) or 0)

    def has_due(self, ids: Iterable[str]) -> bool:
        """Return whether one of these rows is due."""
        query = (
            select(Message.id)
            .where(Message.id.in_(list(ids)), Message.next_try_at <= self._ledger.clock())
            .limit(1)
        )
        return self._ledger.read(lambda session: session.scalar(query)) is not None

    def resend(self, ids: Iterable[str]) -> int:
        """Let messages that were not sent wait again, starting with the first try.

        Messages that are sent, waiting, of another kind, or of a batch that was stopped or purged
        are left alone. A message whose outcome is unknown may then arrive twice. A batch that was
        done is opened again.

        :returns: how many messages wait again.
        """
        wanted = list(ids)

        def work(session: Session) -> list[Message]:
            now = self._ledger.clock()
            messages = session.scalars(
                select(Message)
                .where(_is_resendable(), Message.id.in_(wanted))
                .order_by(Message.id)
                .with_for_update()
            ).all()
            # A batch may be stopped until it is locked.
            batches = _lock_batches(session, {one.batch_id for one in messages if one.batch_id})
            waiting = [one for one in messages if one.batch_id is None or one.batch_id in batches]
            for message in waiting:
                message.state, message.next_try_at = Message.WAITING, now
                message.lease = message.cause = message.expires_at = None
                message.tries, message.updated_at = 0, now
            session.flush()
            for batch in batches.values():
                _reopen(session, batch, now)
            return waiting

        waiting = self._ledger.run(work)
        events = [message.id for message in waiting if message.kind == Message.EVENT]
        if events:
            self._wake_events(events)
        if len(events) < len(waiting):
            self._wake_bulk()
        return len(waiting)

    def unresolved(self, limit: int = 100, *, after: str | None = None) -> list[Message]:
        """Return messages that staff should look at, newest first: unknown and failed ones.

        :param after: the id of the last message of the previous page.
        """

        def work(session: Session) -> list[Message]:
            query = select(Message).where(
                Message.kind.in_(KINDS),
                Message.state.in_((str(DeliveryState.UNKNOWN), Attempt.FAILED)),
                Message.next_try_at.is_(None),
            )
            last = session.get(Message, after) if after is not None else None
            if last is not None:
                query = query.where(
                    or_(
                        Message.created_at < last.created_at,
                        (Message.created_at == last.created_at) & (Message.id < last.id),
                    )
                )
            ordered = query.order_by(Message.created_at.desc(), Message.id.desc())
            return list(session.scalars(ordered.limit(limit)))

        return self._ledger.read(work)


def _is_resendable() -> ColumnElement[bool]:
    return (
        Message.kind.in_(KINDS)
        & Message.next_try_at.is_(None)
        & Message.state.in_([str(state) for state in RESENDABLE])
        & or_(
            Message.batch_id.is_(None),
            Message.batch_id.not_in(select(Batch.id).where(Batch.state == Batch.STOPPED)),
        )
    )


def _lock_batches(session: Session, batch_ids: Iterable[str]) -> Mapping[str, Batch]:
    """Lock batches, and return those whose messages can be sent: not stopped and not purged."""
    locked = {
        batch_id: session.get(Batch, batch_id, with_for_update=True)
        for batch_id in sorted(batch_ids)
    }
    return {
        batch_id: batch
        for batch_id, batch in locked.items()
        if batch is not None and batch.state != Batch.STOPPED
    }


def _reopen(session: Session, batch: Batch, now: datetime) -> None:
    """Let a locked batch be sent on of which a message waits again, and count again."""
    recount(session, batch)
    if batch.state == Batch.DONE:
        batch.state = Batch.RUNNING
    batch.finished_at, batch.updated_at = None, now


def _close(message: Message, state: str, now: datetime, cause: str | None = None) -> None:
    message.state, message.cause, message.updated_at = state, cause, now
    message.next_try_at = message.lease = None


def _count_closed(session: Session, messages: Iterable[Message], now: datetime) -> None:
    """Count the messages that were closed, of those that were leased, in their batches."""
    counts: dict[str, Counter[str]] = {}
    for message in messages:
        if message.batch_id is not None and message.state in COUNT_OF:
            counts.setdefault(message.batch_id, Counter())[COUNT_OF[message.state]] += 1
    add_counts(session, counts, now)


def new_rows(drafts: Iterable[Draft], now: datetime) -> list[Mapping[str, object]]:
    """Return the rows of new messages, in the order of their unique keys."""
    ordered = sorted(drafts, key=lambda draft: draft.dedupe_key or "")
    return [_row(new_id(), draft, now) for draft in ordered]


def _row(message_id: str, draft: Draft, now: datetime) -> Mapping[str, object]:
    return {
        "id": message_id,
        "kind": draft.kind,
        "event": draft.event,
        "audience": draft.audience,
        "user_id": draft.user_id,
        "recipient": draft.recipient,
        "channel": "sms",
        "text": draft.text,
        "locale": draft.locale,
        "patterns": draft.patterns,
        "batch_id": draft.batch_id,
        "state": Message.WAITING,
        "parts": draft.parts,
        "tries": 0,
        "next_try_at": max(now, draft.not_before or now),
        "not_before": draft.not_before,
        "expires_at": draft.expires_at,
        "dedupe_key": draft.dedupe_key,
        "created_at": now,
        "updated_at": now,
    }
