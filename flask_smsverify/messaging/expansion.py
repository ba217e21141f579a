"""The expansion of a batch: its recipients are read one by one and become outbox rows.

Rows are added in slices, each in a transaction of its own. A unique key ensures that a number is in
a batch at most once. So an interrupted expansion can be run again, also beside another one.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from ..db.inserts import insert_absent
from ..db.ledger import Ledger
from ..db.models import Batch, Message
from ..log_events import log_event, log_external_error
from .opt_out import OptOuts
from .outbox import Draft, new_rows
from .recipients import LIST, Recipient, Recipients

log = logging.getLogger(__name__)

#: How many recipients one transaction adds. SQLite allows 32,766 parameters in a statement.
SLICE = 500
#: After how many slices workers are woken.
_WAKE_SLICES = 10
#: An expansion that has added nothing for this long was interrupted.
_INTERRUPTED = timedelta(minutes=2)


@dataclass(slots=True)
class _Counts:
    """The counts of one run of an expansion.

    :param opted_out: the numbers that were left out.
    """

    valid: int = 0
    invalid: int = 0
    opted_out: set[str] = field(default_factory=set, repr=False)


class Expansion:
    """Adds the recipients of batches.

    :param host_context: returns the context in which the host's users can be read by a worker.
    :param wake: called when a batch has recipients to send to.
    """

    def __init__(
        self,
        ledger: Ledger,
        opt_outs: OptOuts,
        recipients: Recipients,
        *,
        host_context: Callable[[], AbstractContextManager[object]],
        wake: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._opt_outs = opt_outs
        self._recipients = recipients
        self._host_context = host_context
        self._wake = wake

    def run(
        self,
        batch: Batch,
        recipients: Iterable[Recipient],
        progress: Callable[[Batch], None] | None = None,
    ) -> Batch:
        """Add recipients to a batch. Numbers that it has are left alone.

        :param progress: called with the batch after each slice.
        """
        counts = _Counts()
        try:
            for number, part in enumerate(slices(recipients)):
                stored = self._add(batch, part, counts)
                if number % _WAKE_SLICES == 0:
                    self._wake()
                if progress is not None:
                    progress(stored)
                if stored.state == Batch.STOPPED:
                    return stored
        except Exception:
            self._end(batch.id, Batch.INCOMPLETE, (Batch.EXPANDING,))
            raise
        stored = self._end(batch.id, Batch.RUNNING, (Batch.EXPANDING, Batch.INCOMPLETE))
        self._wake()
        return stored

    def take_interrupted(self, batch: Batch, now: datetime, *, at_once: bool = False) -> bool:
        """Take over the expansion of a batch if it was interrupted, and return whether it was.

        :param batch: locked, so that only one of several callers takes it.
        :param at_once: do not wait to see whether another process still adds recipients.
        """
        is_interrupted = batch.phase == Batch.INCOMPLETE or (
            batch.phase == Batch.EXPANDING and (at_once or batch.expanded_at < now - _INTERRUPTED)
        )
        if is_interrupted:
            _begin(batch, now)
        return is_interrupted

    def run_again(self, batch_id: str) -> None:
        """Continue an expansion at once, even if another process may still run it.

        It does nothing if the batch is complete, or if its recipients cannot be read again.
        """

        def work(session: Session) -> Batch | None:
            batch = _locked(session, batch_id)
            is_open = batch.phase in (Batch.EXPANDING, Batch.INCOMPLETE)
            if not is_open or batch.source == LIST:
                return None
            _begin(batch, self._ledger.clock())
            return batch

        batch = self._ledger.run(work)
        if batch is not None:
            self.run(batch, self._recipients.read(batch.source))

    def resume_interrupted(self) -> int:
        """Continue expansions whose process died, and mark those that cannot be continued.

        An error of the recipients ends the expansion of their batch only.

        :returns: how many were continued.
        """
        now = self._ledger.clock()
        stale = select(Batch.id).where(
            or_(Batch.state == Batch.EXPANDING, Batch.paused_phase == Batch.EXPANDING),
            Batch.expanded_at < now - _INTERRUPTED,
        )
        count = 0
        for batch_id in self._ledger.read(lambda session: session.scalars(stale).all()):

            def work(session: Session, batch_id: str = batch_id) -> Batch | None:
                batch = _locked(session, batch_id)
                return batch if self.take_interrupted(batch, now) else None

            batch = self._ledger.run(work)
            if batch is None:
                continue
            if batch.source == LIST:
                log.warning(
                    "the recipients of batch %s were not read to the end",
                    batch.id,
                    extra=log_event("batch_incomplete"),
                )
                self._end(batch.id, Batch.INCOMPLETE, (Batch.EXPANDING,))
                continue
            try:
                with self._host_context():
                    self.run(batch, self._recipients.read(batch.source))
            except Exception as error:  # noqa: BLE001 -- the host's code; others must go on
                log_external_error(
                    log,
                    "the recipients of batch %s were not read to the end",
                    batch.id,
                    error=error,
                    event="batch_incomplete",
                )
                continue
            count += 1
        return count

    def _add(self, batch: Batch, part: Sequence[Recipient], counts: _Counts) -> Batch:
        found: dict[str, Recipient] = {}
        for recipient in part:
            if recipient.mobile is None:
                counts.invalid += 1
            else:
                counts.valid += 1
                found.setdefault(recipient.mobile, recipient)
        opted_out = self._opt_outs.among(found)
        drafts = {
            digest("bulk", batch.id, mobile): Draft(
                kind=Message.BULK,
                recipient=mobile,
                text=batch.text,
                parts=batch.parts,
                user_id=recipient.user_id,
                batch_id=batch.id,
                not_before=batch.not_before,
                dedupe_key=digest("bulk", batch.id, mobile),
            )
            for mobile, recipient in found.items()
        }

        def work(session: Session) -> tuple[Batch, set[str]]:
            now = self._ledger.clock()
            stored = _locked(session, batch.id)
            if stored.state == Batch.STOPPED:
                return stored, set()
            # Only while the batch is locked are its recipients added. On MariaDB, an INSERT would
            # lock the rows that exist, in the opposite order to a worker that sends them.
            present = set(
                session.scalars(select(Message.dedupe_key).where(Message.dedupe_key.in_(drafts)))
            )
            absent = [draft for key, draft in drafts.items() if key not in present]
            new = [draft for draft in absent if draft.recipient not in opted_out]
            added = insert_absent(session.connection(), Message, new_rows(new, now)) if new else []
            # Another run of this expansion may have ended, or failed, and the batch with it.
            if added or stored.phase == Batch.INCOMPLETE:
                _begin(stored, now)
            left_out = counts.opted_out | {one.recipient for one in absent} & opted_out
            stored.recipients += len(added)
            # Another run may have read more.
            stored.invalid = max(stored.invalid, counts.invalid)
            stored.opted_out = max(stored.opted_out, len(left_out))
            duplicates = counts.valid - len(left_out) - stored.recipients
            stored.duplicates = max(stored.duplicates, duplicates)
            stored.expanded_at = stored.updated_at = now
            return stored, left_out

        stored, counts.opted_out = self._ledger.run(work)
        return stored

    def _end(self, batch_id: str, phase: str, before: Iterable[str]) -> Batch:
        def work(session: Session) -> Batch:
            batch = _locked(session, batch_id)
            if batch.phase in before:
                batch.phase = phase
                batch.finished_at, batch.updated_at = None, self._ledger.clock()
            return batch

        return self._ledger.run(work)


def _locked(session: Session, batch_id: str) -> Batch:
    return session.get_one(Batch, batch_id, with_for_update=True)


def _begin(batch: Batch, now: datetime) -> None:
    batch.phase = Batch.EXPANDING
    batch.expanded_at = batch.updated_at = now
    batch.finished_at = None


def slices(recipients: Iterable[Recipient]) -> Iterator[list[Recipient]]:
    """Return recipients in lists of at most `SLICE`."""
    source = iter(recipients)
    while part := list(islice(source, SLICE)):
        yield part


def digest(*parts: str) -> str:
    """Return a unique key of at most 64 characters."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
