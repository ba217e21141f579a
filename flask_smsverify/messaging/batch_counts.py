"""The counts of a batch: how many of its messages are in which state."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from ..db.models import Batch, Message

#: State of a message → the count of its batch.
COUNT_OF = {
    Message.EXPIRED: "skipped",
    Message.SKIPPED: "skipped",
    "failed": "failed",
    "rejected": "failed",
    "undelivered": "sent",
    "unknown": "unknown",
    "queued": "sent",
    "sent": "sent",
    "delivered": "sent",
}


def add_counts(session: Session, counts: Mapping[str, Mapping[str, int]], now: datetime) -> None:
    """Change the counts of batches.

    :param counts: id of a batch → name of a count → the difference.
    """
    for batch_id, differences in sorted(counts.items()):
        session.execute(
            update(Batch)
            .where(Batch.id == batch_id)
            .values(
                {getattr(Batch, name): getattr(Batch, name) + n for name, n in differences.items()}
                | {Batch.updated_at: now}
            )
            .execution_options(synchronize_session=False)
        )


def recount(session: Session, batch: Batch) -> None:
    """Count the messages of a locked batch by state. Those that were erased count no more."""
    states = session.execute(
        select(Message.state, func.count())
        .where(Message.batch_id == batch.id)
        .group_by(Message.state)
    )
    counts = dict.fromkeys({"recipients", *COUNT_OF.values()}, 0)
    for state, count in states:
        counts["recipients"] += count
        if state in COUNT_OF:
            counts[COUNT_OF[state]] += count
    for name, count in counts.items():
        setattr(batch, name, count)
