"""Find the proofs that end soon, to remind their users."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from ..db.ledger import Ledger
from ..db.models import Verification
from .host import Users
from .policy import Policy

#: How many rows are read at a time.
_PAGE = 500


@dataclass(frozen=True, slots=True)
class ExpiringProof:
    """A proof that ends soon.

    :param user: the user, from the host's session.
    :param verified_at: when the mobile was proved: the same until the user proves it again.
    """

    user: object
    verified_at: datetime
    expires_at: datetime


def find_expiring(
    ledger: Ledger, policy: Policy, users: Users, within: timedelta
) -> Iterator[ExpiringProof]:
    """Yield the valid proofs that end within a duration, soonest first.

    Users who are exempt, who are deleted, or who have another mobile now are left out. Each page is
    read when the iteration reaches it.
    """
    now = ledger.clock()
    end = policy.expiry(now)
    if end is None:
        return
    lifetime = end - now
    after: tuple[datetime, str] | None = None
    while True:
        page = partial(_read_page, start=now - lifetime, within=within, after=after)
        rows = ledger.read(page)
        for row in rows:
            user = users.find(row.user_id)
            if user is None or row.verified_at is None:
                continue
            if users.mobile_of(user) == row.mobile and not users.is_exempt(user):
                yield ExpiringProof(user, row.verified_at, row.verified_at + lifetime)
        if len(rows) < _PAGE:
            return
        last = rows[-1]
        assert last.verified_at is not None  # noqa: S101 -- the query says so
        after = last.verified_at, last.user_id


def _read_page(
    session: Session, *, start: datetime, within: timedelta, after: tuple[datetime, str] | None
) -> Sequence[Verification]:
    query = (
        select(Verification)
        .where(
            Verification.verified_at > start,
            Verification.verified_at <= start + within,
            Verification.revoked_at.is_(None),
        )
        .order_by(Verification.verified_at, Verification.user_id)
        .limit(_PAGE)
    )
    if after is not None:
        moment, user_id = after
        query = query.where(
            or_(
                Verification.verified_at > moment,
                and_(Verification.verified_at == moment, Verification.user_id > user_id),
            )
        )
    return session.scalars(query).all()
