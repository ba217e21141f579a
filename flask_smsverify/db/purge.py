"""Purge: delete rows that are no longer needed, in slices, so that no transaction holds many locks.

A verification is kept for as long as its user, because a later change of the mobile depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, select
from sqlalchemy.orm import Session

from .ledger import Ledger
from .models import (
    Alert,
    Attempt,
    Audit,
    Batch,
    Challenge,
    EarlyReport,
    Incoming,
    Lock,
    Message,
    MobileChange,
    NativeHold,
    Streak,
    UsageEvent,
    UsageGuess,
    UsageSend,
    UsedToken,
    Verification,
)
from .types import to_ms

#: How many rows one transaction deletes.
_SLICE = 1000

#: An open change can be applied for a month after its delay, which is a month at most.
_LONGEST_CHANGE = timedelta(days=60)
#: The audit is kept for a year, however short the age of other rows is.
_AUDIT_AGE = timedelta(days=365)
#: Nothing younger is deleted: codes and cooldowns end long before that.
MIN_AGE = timedelta(days=2)


def purge(
    ledger: Ledger, older_than: timedelta, *, longest_limit: timedelta = timedelta(days=1)
) -> dict[str, int]:
    """Delete rows that are older and not needed any more.

    :param longest_limit: the longest window of a rate limit. Usage is kept at least as long.
    :returns: table → number of deleted rows.
    :raises ValueError: younger than `MIN_AGE`.
    """
    if older_than < MIN_AGE:
        raise ValueError(f"older_than must be at least {MIN_AGE.days} days")
    now = ledger.clock()
    return {
        model.__tablename__: sum(_delete_slices(ledger, model, condition))
        for model, condition in _conditions(now, now - older_than, longest_limit)
    }


def _conditions(
    now: datetime, cutoff: datetime, longest_limit: timedelta
) -> list[tuple[Any, ColumnElement[bool]]]:
    """Return what is deleted, in an order in which no row refers to a deleted one."""
    is_referred_to = exists().where(Attempt.message_id == Message.id)
    never_proved = and_(
        Verification.verified_at.is_(None),
        Verification.locked_at.is_(None),
        Verification.failures == 0,
        Verification.created_at < cutoff,
    )
    return [
        (Attempt, Attempt.created_at < cutoff),
        (
            Message,
            and_(Message.created_at < cutoff, Message.next_try_at.is_(None), ~is_referred_to),
        ),
        (Batch, and_(Batch.finished_at.is_not(None), Batch.created_at < cutoff)),
        (Challenge, Challenge.created_at < cutoff),
        (MobileChange, and_(MobileChange.closed_at.is_not(None), MobileChange.proved_at < cutoff)),
        (MobileChange, MobileChange.proved_at < min(cutoff, now - _LONGEST_CHANGE)),
        (Verification, never_proved),
        (Incoming, Incoming.received_at < cutoff),
        *_usage_conditions(to_ms(min(cutoff, now - 2 * longest_limit))),
        (Streak, and_(Streak.failures == 0, Streak.updated_at < cutoff)),
        (Lock, Lock.claimed_at < cutoff),
        (UsedToken, UsedToken.until < now),
        (NativeHold, NativeHold.until < now),
        (EarlyReport, EarlyReport.until < now),
        (Alert, Alert.until < now),
        (Audit, Audit.at < min(cutoff, now - _AUDIT_AGE)),
    ]


def _usage_conditions(before_ms: int) -> list[tuple[Any, ColumnElement[bool]]]:
    """Return what is deleted of the usage log.

    The newest of the old sends is kept, because the site's windows are counted from it. A reset of
    the site's limits makes rows old for the site alone, so both times count.
    """
    newest_old = (
        select(UsageSend.id)
        .where(UsageSend.site_at < before_ms)
        .order_by(UsageSend.site_at.desc(), UsageSend.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    return [
        (
            UsageSend,
            and_(
                UsageSend.site_at < before_ms,
                UsageSend.at < before_ms,
                UsageSend.id < newest_old,
            ),
        ),
        (UsageGuess, and_(UsageGuess.site_at < before_ms, UsageGuess.at < before_ms)),
        (UsageEvent, UsageEvent.at < before_ms),
    ]


def _delete_slices(ledger: Ledger, model: Any, condition: ColumnElement[bool]) -> Iterator[int]:
    [key] = model.__mapper__.primary_key

    def work(session: Session) -> int:
        # MariaDB has no LIMIT in a subquery of IN.
        keys = session.scalars(select(key).where(condition).limit(_SLICE)).all()
        if keys:
            session.execute(delete(model).where(key.in_(keys), condition))
        return len(keys)

    while deleted := ledger.run(work):
        yield deleted
