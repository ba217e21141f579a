"""Locks: rows that a transaction locks before a decision on data that others may change.

Three kinds of rows are in the table `smsverify_lock`:

- 1,022 stripes, which exist from the start. The digest of a key selects its stripe, so no row has
  to be created for a key. Unrelated keys may share a stripe, so a stripe is held for a few
  milliseconds only.
- Two rows for the counts of the whole site. A transaction locks them after everything else.
- One row for each mobile and each user for which a host's transaction claims a proof. That
  transaction may last for seconds, so it must not hold a stripe. The rows are created by the claim.

The rows of one statement are locked in the order of their ids, and a transaction locks claim rows
before stripes, and stripes before the site. So no two transactions wait for each other.

SQLite has one writer at a time and needs none of this.

A lock is a statement of its own: with the lock and the counting in one statement, PostgreSQL counts
in a snapshot from before the lock was free.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from typing import TypeVar

from sqlalchemy import BigInteger, ScalarSelect, bindparam, func, select, update
from sqlalchemy.orm import Session

from ..errors import StoreUnavailable
from ..forks import after_fork
from .errors import is_lock_not_available
from .ledger import LOCK_SECONDS, Ledger
from .models import Lock
from .prepared import PreparedSelect

STRIPES = 1024
#: The rows that order the counts of the whole site.
SITE_SENDS, SITE_GUESSES = 0, 1
_FIRST_STRIPE = 2
#: Ids of claim rows are above those of stripes.
_FIRST_CLAIM = 1 << 20

#: Seconds between two tries to lock the row of a claim, at first and at most. No connection is held
#: in between. Many requests may wait for one claim, so they must not keep the processor busy.
_FIRST_POLL, _LONGEST_POLL = 0.05, 0.8
#: How many requests of one process may wait for a claim. Each holds a connection of the host's
#: pool, from which its user was read, so the others are refused at once.
_MAX_WAITING = 8

#: The row of a claim is renewed when it is older, so that `purge` does not delete it meanwhile.
_FRESH = timedelta(days=1)

T = TypeVar("T")


class ClaimInProgress(Exception):
    """Restarts a transaction that found claim rows which it has not locked.

    :param ids: the ids of these rows.
    """

    def __init__(self, ids: frozenset[int]) -> None:
        super().__init__("a claim may be in progress")
        self.ids = ids


class _RowsMissing(Exception):
    """The rows that exist from the start were not created yet."""


@dataclass(frozen=True, slots=True)
class Held:
    """The claim rows that a transaction has locked.

    :param claims: their ids.
    """

    claims: frozenset[int]

    def require(self, *found: int | None) -> None:
        """Restart the transaction unless it has locked the claim rows that were found.

        :param found: ids of rows; None for one that does not exist.
        """
        missing = frozenset(row for row in found if row is not None) - self.claims
        if missing:
            raise ClaimInProgress(missing)


def claim_id(key: int) -> int:
    """Return the id of the row of a claimed key."""
    return _FIRST_CLAIM + (key & ((1 << 62) - 1))


def _stripe(key: int) -> int:
    return _FIRST_STRIPE + key % (STRIPES - _FIRST_STRIPE)


class Locks:
    """Locks keys, which are digests of 64 bits."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: Counter[int] = Counter()
        self._waiting_lock = threading.Lock()
        after_fork(self._reset_after_fork)

    @property
    def is_needed(self) -> bool:
        """Whether transactions have to lock rows."""
        return self._ledger.dialect != "sqlite"  # a host's tests may replace the database

    def run(self, keys: Iterable[int], work: Callable[[Session, Held], T]) -> T:
        """Run a function in a transaction of the ledger that holds the locks of these keys.

        :param work: gets the claims whose rows are locked. It passes the claim rows that it finds
            to `Held.require`, which restarts the transaction with these rows locked.
        :raises StoreUnavailable: the database did not take the write, a claim takes too long, or
            too many requests wait for it.
        """
        stripes = sorted({_stripe(key) for key in keys})
        held = Held(frozenset())
        give_up_at = time.monotonic() + LOCK_SECONDS
        pause = _FIRST_POLL
        with contextlib.ExitStack() as waiting:
            while True:
                try:
                    return self._ledger.run(partial(self._lock_and_work, held, stripes, work))
                except _RowsMissing:
                    self._create_rows()
                except ClaimInProgress as found:
                    held = Held(held.claims | found.ids)
                except StoreUnavailable as error:
                    is_claimed = bool(held.claims) and is_lock_not_available(error.__cause__)
                    if not is_claimed or time.monotonic() >= give_up_at:
                        raise
                    if pause == _FIRST_POLL:
                        waiting.enter_context(self._wait_for(held.claims))
                    time.sleep(random.uniform(pause / 2, pause))  # noqa: S311 -- no secret depends on it
                    pause = min(2 * pause, _LONGEST_POLL)

    @contextlib.contextmanager
    def _wait_for(self, claims: frozenset[int]) -> Iterator[None]:
        """Count this request among those that wait for these claims.

        :raises StoreUnavailable: too many wait already.
        """
        with self._waiting_lock:
            if any(self._waiting[claim] >= _MAX_WAITING for claim in claims):
                raise StoreUnavailable("too many requests wait for a claim of this mobile")
            self._waiting.update(claims)
        try:
            yield
        finally:
            with self._waiting_lock:
                self._waiting.subtract(claims)
                self._waiting += Counter()  # drops what is zero

    def _reset_after_fork(self) -> None:
        self._waiting, self._waiting_lock = Counter(), threading.Lock()

    def _lock_and_work(
        self,
        held: Held,
        stripes: Sequence[int],
        work: Callable[[Session, Held], T],
        session: Session,
    ) -> T:
        if held.claims:
            # Without waiting, because a waiting transaction keeps a connection of the pool.
            rows = select(Lock.id).where(Lock.id.in_(held.claims)).order_by(Lock.id)
            session.execute(rows.with_for_update(nowait=True)).all()
        self.lock_rows(session, stripes)
        return work(session, held)

    def lock_site(self, session: Session, row: int) -> None:
        """Lock the counts of the site, as the last lock of a transaction.

        :param row: `SITE_SENDS` or `SITE_GUESSES`.
        """
        self.lock_rows(session, [row])

    def lock_rows(self, session: Session, ids: Sequence[int]) -> None:
        """Lock rows that exist from the start."""
        if not self.is_needed or not ids:
            return
        parameters = {f"id_{number}": row for number, row in enumerate(ids)}
        if len(_lock_statement(len(ids)).all(session, parameters)) != len(ids):
            raise _RowsMissing

    def _create_rows(self) -> None:
        """Create the rows that exist from the start, while the others that find none wait.

        Parallel inserts would fail: when MariaDB ends one of them as a deadlock, all that wait for
        its rows become deadlocks too.
        """
        self._ledger.run(partial(self._insert_rows, range(1)))
        self._ledger.run(self._insert_missing_rows)

    def _insert_missing_rows(self, session: Session) -> None:
        self.lock_rows(session, [SITE_SENDS])
        count = select(func.count()).select_from(Lock).where(Lock.id < STRIPES)
        # Another transaction that holds a row may wait for the first one, so a complete table is
        # left alone.
        if session.scalar(count) != STRIPES:
            self._insert_rows(range(1, STRIPES), session)

    def _insert_rows(self, ids: range, session: Session) -> None:
        rows = [{"id": row, "claimed_at": None} for row in ids]
        self._ledger.insert_missing(session, Lock, rows)

    # --- claims in the host's transaction --------------------------------------------------------

    def open_claim(self, key: int) -> None:
        """Create or renew the row of a claimed key, when no transaction holds the key's stripe.

        From then on, every transaction that locks the key finds the row and waits for the host's
        transaction that has locked it by `lock_claim`.
        """
        if not self.is_needed:
            return

        def work(session: Session, _held: Held) -> None:
            now = self._ledger.clock()
            row = session.get(Lock, claim_id(key))
            if row is None:
                session.add(Lock(id=claim_id(key), claimed_at=now))
            elif row.claimed_at is not None and row.claimed_at < now - _FRESH:
                # A fresh row is not written: the host's transaction may hold it already.
                row.claimed_at = now

        self.run([key], work)

    def lock_claim(self, session: Session, key: int) -> None:
        """Lock the row of a claimed key in the host's transaction, after `open_claim`.

        On SQLite there is no row, and the UPDATE takes the write lock of the database.
        """
        if self.is_needed:
            row = select(Lock.id).where(Lock.id == claim_id(key))
            session.execute(row.with_for_update()).all()
        else:
            nothing = update(Lock).where(Lock.id == claim_id(key)).values(claimed_at=None)
            session.execute(nothing, execution_options={"synchronize_session": False})


@cache
def _lock_statement(count: int) -> PreparedSelect:
    """Return the statement that locks so many rows."""
    ids = [bindparam(f"id_{number}", type_=BigInteger) for number in range(count)]
    rows = select(Lock.id).where(Lock.id.in_(ids)).order_by(Lock.id)
    return PreparedSelect(rows.with_for_update())


def claimed(name: str) -> ScalarSelect[int]:
    """Return an SQL expression: the id of a claim row if it exists, from this bind parameter."""
    return select(Lock.id).where(Lock.id == bindparam(name, type_=BigInteger)).scalar_subquery()
