"""The other limits, which have one key: of notices, event texts, changes of a number, some sends.

The sends are codes to foreign numbers, and codes without a solution of the proof of work. They
count here as well as in the usage log.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from ..db.ledger import Ledger
from ..db.locks import Locks
from ..db.models import UsageEvent
from ..db.rows import numbered_insert
from ..db.types import to_ms
from ..errors import RateLimited
from ..keyring import Keyring
from ..settings import Limit
from .usage_log import Reached, half_of, seconds_left


@dataclass(frozen=True, slots=True)
class Charge:
    """One unit to take from one scope.

    :param scope: its name in `SMSVERIFY_LIMITS`, or another name.
    :param key: the mobile or user that is limited; empty for the whole site.
    """

    scope: str
    key: str = field(repr=False)  # a mobile, often
    limits: tuple[Limit, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """The usage of one limit.

    :param wait: whole seconds until a unit is free; 0 if one is free now.
    """

    scope: str
    limit: Limit
    used: int
    wait: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """Units that were taken.

    :param ids: of their rows.
    :param at_ms: the time of these rows.
    :param reached: limits that are half used or used up.
    """

    ids: tuple[int, ...] = ()
    at_ms: int = 0
    reached: tuple[Reached, ...] = ()


class Counters:
    """Counts events in the ledger."""

    def __init__(self, ledger: Ledger, locks: Locks, keyring: Keyring) -> None:
        self._ledger = ledger
        self._locks = locks
        self._keyring = keyring

    def reserve(self, charges: Sequence[Charge], now: datetime) -> Reservation:
        """Take a unit for every charge, or none, and commit.

        :raises RateLimited: a limit is used up; names the one with the longest wait.
        :raises StoreUnavailable: the database did not take it.
        """
        keys = [self._key(charge) for charge in charges]
        return self._locks.run(keys, lambda session, _: self.reserve_locked(session, charges, now))

    def reserve_locked(
        self, session: Session, charges: Sequence[Charge], now: datetime
    ) -> Reservation:
        """Take the units in a transaction that holds the locks of `keys_of(charges)`.

        :raises RateLimited: a limit is used up.
        """
        self._refuse(session, charges, now)
        reached = [
            Reached(charge.scope, part, limit.seconds)
            for charge in charges
            for limit in charge.limits
            if (part := _part_reached(self._count(session, charge, limit, to_ms(now)) + 1, limit))
        ]
        ids = []
        for charge in charges:
            values = {"at": to_ms(now), "subject": self._key(charge)}
            ids.append(_INSERT.run(session, values))
        return Reservation(tuple(ids), to_ms(now), tuple(reached))

    def keys_of(self, charges: Iterable[Charge]) -> list[int]:
        """Return the keys to lock for these charges."""
        return [self._key(charge) for charge in charges]

    def check(self, charges: Sequence[Charge], now: datetime) -> None:
        """Raise what `reserve` would raise. Take nothing.

        :raises RateLimited: a limit is used up.
        """
        self._ledger.read(lambda session: self._refuse(session, charges, now))

    def halves_used(
        self, session: Session, charges: Sequence[Charge], reached: Iterable[Reached], now_ms: int
    ) -> list[Reached]:
        """Return the limits of which a refunded unit had used the half, if it is still used."""
        halves = {item for item in reached if item.part == "half"}
        return [
            item
            for charge in charges
            for limit in charge.limits
            if (item := Reached(charge.scope, "half", limit.seconds)) in halves
            and self._count(session, charge, limit, now_ms) >= half_of(limit)
        ]

    def refund(self, session: Session, reservation: Reservation) -> None:
        """Refund units in the caller's transaction, unless a reset has done so."""
        if reservation.ids:
            # SQLite gives the ids of deleted rows to new ones.
            is_same = UsageEvent.id.in_(reservation.ids) & (UsageEvent.at == reservation.at_ms)
            session.execute(delete(UsageEvent).where(is_same))

    def usage_in(self, session: Session, charges: Sequence[Charge], now_ms: int) -> list[Usage]:
        """Return the usage of every limit of these charges, in the caller's transaction."""
        return [
            self._usage(session, charge, limit, now_ms)
            for charge in charges
            for limit in charge.limits
        ]

    def reset_in(self, session: Session, charges: Sequence[Charge]) -> None:
        """Reset the usage of these charges in the caller's transaction."""
        keys = self.keys_of(charges)
        session.execute(delete(UsageEvent).where(UsageEvent.subject.in_(keys)))

    def _refuse(self, session: Session, charges: Sequence[Charge], now: datetime) -> None:
        overruns = [
            (usage.wait, usage.scope)
            for charge in charges
            for limit in charge.limits
            if (usage := self._usage(session, charge, limit, to_ms(now))).wait
        ]
        if overruns:
            wait, scope = max(overruns)
            raise RateLimited(wait, scope)

    def _usage(self, session: Session, charge: Charge, limit: Limit, now_ms: int) -> Usage:
        used = self._count(session, charge, limit, now_ms)
        wait = 0
        if used >= limit.amount:
            nth = (
                select(UsageEvent.at)
                .where(UsageEvent.subject == self._key(charge))
                .order_by(UsageEvent.at.desc())
                .limit(1)
                .offset(limit.amount - 1)
            )
            wait = seconds_left(session.scalar(nth) or now_ms, limit.seconds, now_ms)
        return Usage(charge.scope, limit, used, wait)

    def _count(self, session: Session, charge: Charge, limit: Limit, now_ms: int) -> int:
        since = now_ms - limit.seconds * 1000
        counted = select(func.count()).where(
            UsageEvent.subject == self._key(charge), UsageEvent.at > since
        )
        return session.scalar(counted) or 0

    def _key(self, charge: Charge) -> int:
        return self._keyring.key("event", charge.scope, charge.key)


_INSERT = numbered_insert(UsageEvent)


def _part_reached(used: int, limit: Limit) -> str | None:
    if used == limit.amount:
        return "whole"
    return "half" if used == half_of(limit) else None
