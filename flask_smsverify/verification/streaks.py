"""Wrong guesses in a row that no verification row counts.

An account's streak is in its verification. A mobile that is proved without an account has its
streak here, as does an account whose verification was erased: erasing it resets no limit.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from ..db.models import Streak, Verification
from ..db.rows import new_row


def new_verification(user_id: str, streak: Streak | None, now: datetime) -> Verification:
    """Return a new verification row, with the streak that an earlier one had when it was erased."""
    return new_row(
        Verification,
        user_id=user_id,
        failures=streak.failures if streak else 0,
        locked_at=streak.locked_at if streak else None,
        created_at=now,
    )


def keep_streak(session: Session, subject: int, verification: Verification, now: datetime) -> None:
    """Keep the streak of a verification that is erased, in place of one that was kept earlier."""
    earlier = session.get(Streak, subject)
    if verification.failures or verification.locked_at:
        session.merge(
            Streak(
                subject=subject,
                failures=verification.failures,
                locked_at=verification.locked_at,
                updated_at=now,
            )
        )
    elif earlier is not None:
        session.delete(earlier)
