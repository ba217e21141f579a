"""Bulk sends: one text to many recipients, as a batch of outbox rows.

Recipients are read one by one and added in slices, each in a transaction of its own. A unique key
ensures that a number is in a batch at most once. So an interrupted expansion can be run again.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Protocol

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from ..db.inserts import insert_absent
from ..db.ledger import Ledger
from ..db.models import Batch, Message
from ..errors import ConfigurationError
from ..log_events import log_event
from .batch_counts import recount
from .opt_out import OptOuts
from .outbox import Draft, new_rows
from .recipients import LIST, Recipient, Recipients

log = logging.getLogger(__name__)

#: How many recipients one transaction adds. SQLite allows 32,766 parameters in a statement.
_SLICE = 500
#: After how many slices workers are woken.
_WAKE_SLICES = 10
#: An expansion that has added nothing for this long was interrupted.
_INTERRUPTED = timedelta(minutes=2)
#: How many invalid items a preview shows.
_SHOWN_INVALID = 20
STOPPED = "the batch was stopped"

#: The columns that count.
_COUNTS = (
    "recipients",
    "invalid",
    "duplicates",
    "opted_out",
    "skipped",
    "sent",
    "failed",
    "unknown",
)

#: The states in which a batch is sent.
ACTIVE = (Batch.EXPANDING, Batch.RUNNING, Batch.INCOMPLETE)


class FinishedText(Protocol):
    """A text with signature and footer."""

    @property
    def text(self) -> str:
        """The text."""

    @property
    def parts(self) -> int:
        """The number of its SMS parts."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a bulk send would do.

    :param text: the text as it would be sent.
    :param recipients: the number of messages.
    :param invalid: the first of the items that are neither a mobile nor a user with one.
    :param cost: in the gateway's unit; None if the first sender of texts reports no prices.
    """

    text: str
    parts: int
    recipients: int
    invalid_count: int
    duplicates: int
    opted_out: int
    invalid: tuple[str, ...] = field(repr=False)
    cost: Decimal | None


@dataclass(slots=True)
class _Counts:
    """The counts of one run of an expansion."""

    valid: int = 0
    invalid: int = 0
    opted_out: int = 0


class BulkSends:
    """Creates batches, and pauses, resumes and stops them.

    :param finish: adds signature and footer to a text, and counts its parts.
    :param part_price: returns the price of one part of a text; None if it is not known.
    :param host_context: returns the context in which the host's users can be read by a worker.
    :param wake: called when a batch has recipients to send to.
    """

    def __init__(
        self,
        ledger: Ledger,
        opt_outs: OptOuts,
        recipients: Recipients,
        *,
        finish: Callable[[str], FinishedText],
        part_price: Callable[[str], Decimal | None],
        host_context: Callable[[], AbstractContextManager[object]],
        wake: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._opt_outs = opt_outs
        self._recipients = recipients
        self._finish = finish
        self._part_price = part_price
        self._host_context = host_context
        self._wake = wake

    # --- creating --------------------------------------------------------------------------------

    def preview(self, text: str, to: object) -> Preview:
        """Return what `send` would do. Nothing is written and nothing is sent."""
        finished = self._finish(_checked(text))
        seen: set[str] = set()
        counts, shown, opted_out = _Counts(), list[str](), set[str]()
        for part in _slices(self._recipients.read(to)):
            mobiles = []
            for recipient in part:
                if recipient.mobile is not None:
                    counts.valid += 1
                    mobiles.append(recipient.mobile)
                    continue
                counts.invalid += 1
                if len(shown) < _SHOWN_INVALID:
                    shown.append(recipient.shown)
            new = set(mobiles) - seen
            seen |= new
            opted_out |= self._opt_outs.among(new)
        total = len(seen) - len(opted_out)
        price = self._part_price(finished.text) if total else None
        return Preview(
            text=finished.text,
            parts=finished.parts,
            recipients=total,
            invalid_count=counts.invalid,
            duplicates=counts.valid - len(seen),
            opted_out=len(opted_out),
            invalid=tuple(shown),
            cost=None if price is None else price * finished.parts * total,
        )

    def send(
        self,
        text: str,
        to: object,
        *,
        batch: str | None = None,
        dedupe_key: str | None = None,
        not_before: datetime | None = None,
        started_by: str | None = None,
        progress: Callable[[Batch], None] | None = None,
    ) -> Batch:
        """Queue a text to many. See `SMSVerify.send`.

        :param started_by: who started it, for staff pages.
        :param progress: called with the batch after each slice.
        """
        if not_before is not None and not_before.tzinfo is None:
            raise ValueError("not_before needs a time zone, such as datetime.now(UTC)")
        finished = self._finish(_checked(text))
        now = self._ledger.clock()
        key = None if dedupe_key is None else _digest("batch", dedupe_key)
        row: dict[str, object] = {
            "id": secrets.token_hex(16),
            "name": batch,
            "text": finished.text,
            "parts": finished.parts,
            "source": self._recipients.source_of(to),
            "started_by": started_by,
            "state": Batch.EXPANDING,
            "not_before": not_before,
            "dedupe_key": key,
            "created_at": now,
            "updated_at": now,
        }
        counts = dict.fromkeys(_COUNTS, 0)

        def work(session: Session) -> tuple[Batch, bool]:
            if insert_absent(session.connection(), Batch, [row | counts]):
                return session.get_one(Batch, row["id"]), True
            found = session.scalars(select(Batch).where(Batch.dedupe_key == key)).one()
            return found, self._take_interrupted(session, found, now)

        stored, is_mine = self._ledger.run(work)
        if is_mine:
            return self._expand(stored, self._recipients.read(to), progress)
        return stored

    def _take_interrupted(self, session: Session, batch: Batch, now: datetime) -> bool:
        """Take over a batch whose expansion was interrupted, in one transaction only."""
        result = session.execute(
            update(Batch)
            .where(
                Batch.id == batch.id,
                (Batch.state == Batch.INCOMPLETE)
                | ((Batch.state == Batch.EXPANDING) & (Batch.updated_at < now - _INTERRUPTED)),
            )
            .values(state=Batch.EXPANDING, updated_at=now, finished_at=None)
            .execution_options(synchronize_session="fetch")
        )
        return bool(result.rowcount)  # type: ignore[attr-defined]  # an UPDATE returns a CursorResult

    def _expand(
        self,
        batch: Batch,
        recipients: Iterator[Recipient],
        progress: Callable[[Batch], None] | None = None,
    ) -> Batch:
        """Add the recipients to a batch. Numbers that it has are left alone."""
        counts = _Counts()
        try:
            for number, part in enumerate(_slices(recipients)):
                stored = self._add(batch, part, counts)
                if number % _WAKE_SLICES == 0:
                    self._wake()
                if progress is not None:
                    progress(stored)
                if stored.state == Batch.STOPPED:
                    return stored
        except Exception:
            self._set_state(batch.id, Batch.INCOMPLETE, (Batch.EXPANDING,))
            raise
        self._set_state(batch.id, Batch.RUNNING, (Batch.EXPANDING,))
        self._wake()
        return self.get(batch.id)

    def _add(self, batch: Batch, part: Sequence[Recipient], counts: _Counts) -> Batch:
        found: dict[str, Recipient] = {}
        for recipient in part:
            if recipient.mobile is None:
                counts.invalid += 1
            else:
                counts.valid += 1
                found.setdefault(recipient.mobile, recipient)
        opted_out = self._opt_outs.among(found)
        counts.opted_out += len(opted_out)
        drafts = [
            Draft(
                kind=Message.BULK,
                recipient=mobile,
                text=batch.text,
                parts=batch.parts,
                user_id=recipient.user_id,
                batch_id=batch.id,
                not_before=batch.not_before,
                dedupe_key=_digest("bulk", batch.id, mobile),
            )
            for mobile, recipient in found.items()
            if mobile not in opted_out
        ]

        def work(session: Session) -> Batch:
            now = self._ledger.clock()
            stored = session.get_one(Batch, batch.id, with_for_update=True)
            if stored.state == Batch.STOPPED:
                return stored
            new = (
                insert_absent(session.connection(), Message, new_rows(drafts, now))
                if drafts
                else []
            )
            stored.recipients += len(new)
            stored.invalid, stored.opted_out = counts.invalid, counts.opted_out
            stored.duplicates = max(0, counts.valid - counts.opted_out - stored.recipients)
            stored.updated_at = now
            return stored

        return self._ledger.run(work)

    def resume_interrupted(self) -> int:
        """Continue expansions whose process died, and mark those that cannot be continued.

        :returns: how many were continued.
        """
        now = self._ledger.clock()
        stale = select(Batch.id).where(
            Batch.state == Batch.EXPANDING, Batch.updated_at < now - _INTERRUPTED
        )
        count = 0
        for batch_id in self._ledger.read(lambda session: session.scalars(stale).all()):

            def work(session: Session, batch_id: str = batch_id) -> Batch | None:
                batch = session.get_one(Batch, batch_id)
                return batch if self._take_interrupted(session, batch, now) else None

            batch = self._ledger.run(work)
            if batch is None:
                continue
            if batch.source == LIST:
                log.warning(
                    "the recipients of batch %s were not read to the end",
                    batch.id,
                    extra=log_event("batch_incomplete"),
                )
                self._set_state(batch.id, Batch.INCOMPLETE, (Batch.EXPANDING,))
                continue
            with self._host_context():
                self._expand(batch, self._recipients.read(batch.source))
            count += 1
        return count

    # --- control ---------------------------------------------------------------------------------

    def get(self, batch_id: str) -> Batch:
        """Return a batch with its counts.

        :raises ConfigurationError: there is no such batch.
        """
        batch = self._ledger.read(lambda session: session.get(Batch, batch_id))
        if batch is None:
            raise ConfigurationError(f"there is no batch {batch_id!r}")
        return batch

    def pause(self, batch_id: str) -> Batch:
        """Send no more of a batch for now. Calls in flight are completed."""
        self._set_state(batch_id, Batch.PAUSED, (Batch.RUNNING,))
        return self.get(batch_id)

    def resume(self, batch_id: str) -> Batch:
        """Continue a paused batch."""
        self._set_state(batch_id, Batch.RUNNING, (Batch.PAUSED,))
        self._wake()
        return self.get(batch_id)

    def stop(self, batch_id: str) -> Batch:
        """Send no more of a batch. Calls in flight are completed."""
        self._set_state(batch_id, Batch.STOPPED, (*ACTIVE, Batch.PAUSED))
        self.close_stopped()
        return self.get(batch_id)

    def open_ids(self) -> list[str]:
        """Return the ids of batches that are not finished and not paused."""
        query = select(Batch.id).where(Batch.finished_at.is_(None), Batch.state != Batch.PAUSED)
        return self._ledger.read(lambda session: list(session.scalars(query)))

    def close_stopped(self) -> None:
        """Close the rows of stopped batches that no worker holds."""
        open_batches = select(Batch.id).where(
            Batch.state == Batch.STOPPED, Batch.finished_at.is_(None)
        )
        for batch_id in self._ledger.read(lambda session: session.scalars(open_batches).all()):
            while self._close_slice(batch_id):
                pass
            self.finish(batch_id)

    def _close_slice(self, batch_id: str) -> int:
        waiting = (
            select(Message.id)
            .where(
                Message.batch_id == batch_id,
                Message.next_try_at.is_not(None),
                Message.state == Message.WAITING,
            )
            .limit(_SLICE)
            .with_for_update()
        )

        def work(session: Session) -> int:
            now = self._ledger.clock()
            ids = session.scalars(waiting).all()
            if ids:
                session.execute(
                    update(Message)
                    .where(Message.id.in_(ids))
                    .values(state=Message.SKIPPED, cause=STOPPED, next_try_at=None, updated_at=now)
                )
            return len(ids)

        return self._ledger.run(work)

    def finish(self, batch_id: str) -> bool:
        """Close a batch in which no message waits any more, and count its messages again.

        :returns: whether it is finished.
        """

        def work(session: Session) -> bool:
            now = self._ledger.clock()
            batch = session.get_one(Batch, batch_id, with_for_update=True)
            waits = (
                select(Message.id)
                .where(Message.batch_id == batch_id, Message.next_try_at.is_not(None))
                .limit(1)
            )
            if batch.state in (Batch.EXPANDING, Batch.PAUSED) or session.scalar(waits) is not None:
                return False
            recount(session, batch)
            if batch.state == Batch.RUNNING:
                batch.state = Batch.DONE
            batch.finished_at = batch.updated_at = now
            return True

        return self._ledger.run(work)

    def _set_state(self, batch_id: str, state: str, before: Iterable[str]) -> None:
        statement = (
            update(Batch)
            .where(Batch.id == batch_id, Batch.state.in_(tuple(before)))
            .values(state=state, updated_at=self._ledger.clock())
        )
        self._ledger.run(lambda session: session.execute(statement) and None)


def _checked(text: object) -> str:
    if not isinstance(text, str) or not text.strip():
        raise ValueError("the text is empty")
    return text.strip()


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _slices(recipients: Iterable[Recipient]) -> Iterator[list[Recipient]]:
    source = iter(recipients)
    while part := list(islice(source, _SLICE)):
        yield part
