"""Bulk sends: one text to many recipients, as a batch of outbox rows.

`expansion` adds the recipients, and `bulk_dispatch` sends to them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from ..db.ids import new_id
from ..db.inserts import insert_absent
from ..db.ledger import Ledger
from ..db.models import Batch, Message
from ..errors import ConfigurationError
from .batch_counts import recount
from .expansion import SLICE, Expansion, digest, slices
from .opt_out import OptOuts
from .outbox import Outbox
from .recipients import Recipients

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


class BulkSends:
    """Creates batches, and pauses, resumes and stops them.

    :param finish: adds signature and footer to a text, and counts its parts.
    :param part_price: returns the price of one part of a text; None if it is not known.
    :param wake: called when a batch has recipients to send to.
    """

    def __init__(
        self,
        ledger: Ledger,
        outbox: Outbox,
        expansion: Expansion,
        opt_outs: OptOuts,
        recipients: Recipients,
        *,
        finish: Callable[[str], FinishedText],
        part_price: Callable[[str], Decimal | None],
        wake: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._expansion = expansion
        self._opt_outs = opt_outs
        self._recipients = recipients
        self._finish = finish
        self._part_price = part_price
        self._wake = wake

    # --- creating --------------------------------------------------------------------------------

    def preview(self, text: str, to: object) -> Preview:
        """Return what `send` would do. Nothing is written and nothing is sent."""
        finished = self._finish(_checked(text))
        seen: set[str] = set()
        valid, invalid = 0, 0
        shown, opted_out = list[str](), set[str]()
        for part in slices(self._recipients.read(to)):
            mobiles = []
            for recipient in part:
                if recipient.mobile is not None:
                    valid += 1
                    mobiles.append(recipient.mobile)
                    continue
                invalid += 1
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
            invalid_count=invalid,
            duplicates=valid - len(seen),
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
        at_once: bool = False,
    ) -> Batch:
        """Queue a text to many. See `SMSVerify.send`.

        :param at_once: continue the batch with this key even if its recipients may still be added.
        :param started_by: who started it, for staff pages.
        :param progress: called with the batch after each slice.
        """
        if not_before is not None and not_before.tzinfo is None:
            raise ValueError("not_before needs a time zone, such as datetime.now(UTC)")
        finished = self._finish(_checked(text))
        now = self._ledger.clock()
        key = None if dedupe_key is None else digest("batch", dedupe_key)
        row: dict[str, object] = {
            "id": new_id(),
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
            "expanded_at": now,
        }
        counts = dict.fromkeys(_COUNTS, 0)

        def work(session: Session) -> tuple[Batch, bool]:
            if insert_absent(session.connection(), Batch, [row | counts]):
                return session.get_one(Batch, row["id"]), True
            same = select(Batch).where(Batch.dedupe_key == key).with_for_update()
            found = session.scalars(same).one()
            return found, self._expansion.take_interrupted(found, now, at_once=at_once)

        stored, is_mine = self._ledger.run(work)
        if is_mine:
            return self._expansion.run(stored, self._recipients.read(to), progress)
        return stored

    # --- control ---------------------------------------------------------------------------------

    def get(self, batch_id: str) -> Batch:
        """Return a batch with its counts.

        :raises ConfigurationError: there is no such batch.
        """
        return _found(batch_id, self._ledger.read(lambda session: session.get(Batch, batch_id)))

    def pause(self, batch_id: str) -> Batch:
        """Send no more of a batch for now. Calls in flight are completed.

        Its recipients are still read to the end.
        """

        def change(batch: Batch) -> None:
            if batch.state in ACTIVE and batch.finished_at is None:
                batch.paused_phase, batch.state = batch.state, Batch.PAUSED

        return self._change(batch_id, change)

    def resume(self, batch_id: str) -> Batch:
        """Continue a paused batch."""

        def change(batch: Batch) -> None:
            if batch.state == Batch.PAUSED:
                batch.state, batch.paused_phase = batch.phase, None

        batch = self._change(batch_id, change)
        self._wake()
        return batch

    def stop(self, batch_id: str) -> Batch:
        """Send no more of a batch. Calls in flight are completed."""

        def change(batch: Batch) -> None:
            if batch.state in (*ACTIVE, Batch.PAUSED) and batch.finished_at is None:
                batch.state, batch.paused_phase = Batch.STOPPED, None

        self._change(batch_id, change)
        self.close_stopped()
        return self.get(batch_id)

    def _change(self, batch_id: str, change: Callable[[Batch], None]) -> Batch:
        def work(session: Session) -> Batch | None:
            batch = session.get(Batch, batch_id, with_for_update=True)
            if batch is not None:
                change(batch)
                batch.updated_at = self._ledger.clock()
            return batch

        return _found(batch_id, self._ledger.run(work))

    def resume_interrupted(self) -> int:
        """Continue expansions whose process died. See `Expansion.resume_interrupted`."""
        return self._expansion.resume_interrupted()

    def expand_again(self, batch_id: str) -> Batch:
        """Continue an expansion now. See `Expansion.run_again`.

        :raises ConfigurationError: there is no such batch.
        """
        self.get(batch_id)
        self._expansion.run_again(batch_id)
        return self.get(batch_id)

    def open_ids(self) -> list[str]:
        """Return the ids of batches that are not finished, and not paused without an expansion."""
        query = select(Batch.id).where(
            Batch.finished_at.is_(None),
            or_(Batch.state != Batch.PAUSED, Batch.paused_phase == Batch.EXPANDING),
        )
        return self._ledger.read(lambda session: list(session.scalars(query)))

    def close_stopped(self) -> None:
        """Close the rows of stopped batches that no worker holds."""
        open_batches = select(Batch.id).where(
            Batch.state == Batch.STOPPED, Batch.finished_at.is_(None)
        )
        for batch_id in self._ledger.read(lambda session: session.scalars(open_batches).all()):
            while self._outbox.skip(batch_id, SLICE, STOPPED):
                pass
            self.finish(batch_id)

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


def _checked(text: object) -> str:
    if not isinstance(text, str) or not text.strip():
        raise ValueError("the text is empty")
    return text.strip()


def _found(batch_id: str, batch: Batch | None) -> Batch:
    if batch is None:
        raise ConfigurationError(f"there is no batch {batch_id!r}")
    return batch
