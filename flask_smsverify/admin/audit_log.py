"""The audit: what staff did. Every change is one row."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from ..db.ids import new_id
from ..db.models import Audit
from ..errors import RateLimited, SMSVerifyError
from ..state import get_state
from ..web.times import seconds_until
from .blueprint import staff_id

_MAX_SUBJECT = 191


def record(action: str, subject: str, **detail: object) -> str:
    """Write a row about the current staff member, and return its id.

    :param action: the last part of the path.
    :param detail: what was changed, without codes and without texts of codes.
    """
    state = get_state()
    row = Audit(
        id=new_id(),
        who=staff_id(),
        action=action,
        subject=subject[:_MAX_SUBJECT],
        detail=json.dumps(detail, ensure_ascii=False, default=str),
        at=state.clock(),
    )
    state.ledger.run(lambda session: session.add(row))
    return row.id


@contextlib.contextmanager
def recorded(action: str, subject: str, **detail: object) -> Iterator[None]:
    """Record an action that the block performs.

    The row is written first, so no action is missing from the audit, even if the process stops
    between the two. It is removed if the action is refused with an error that changes nothing.
    """
    audit_id = record(action, subject, **detail)
    try:
        yield
    except SMSVerifyError:
        get_state().ledger.run(
            lambda session: session.execute(delete(Audit).where(Audit.id == audit_id))
        )
        raise


def record_limited(action: str, subject: str, *, limit: int, window: timedelta) -> None:
    """Record an action that one person may perform only `limit` times in `window`.

    The row is written and committed before the rows are counted, so the limit also holds for
    requests at the same time.

    :raises RateLimited: the limit is used up. The row is removed.
    """
    state = get_state()
    audit_id = record(action, subject)
    now = state.clock()
    mine = (Audit.who == staff_id(), Audit.action == action, Audit.at > now - window)

    def work(session: Session) -> int | None:
        count = session.scalar(select(func.count()).where(*mine)) or 0
        if count <= limit:
            return None
        session.execute(delete(Audit).where(Audit.id == audit_id))
        oldest = select(Audit.at).where(*mine).order_by(Audit.at.desc()).offset(limit - 1).limit(1)
        freed_at = (session.scalar(oldest) or now) + window
        return max(1, seconds_until(freed_at, now))

    retry_after = state.ledger.run(work)
    if retry_after is not None:
        raise RateLimited(retry_after, "staff_search")
