"""The log of guesses, from which their rate limits are counted. `usage_log` explains it.

Wrong codes are the scope `failures`. They count against a subject: the account; without one the
mobile, or the devices of its owner, whom a stranger's guesses must not refuse. Those of accounts
that have not proved the mobile count together as well, because each account would give an attacker
more guesses at one mobile otherwise.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, bindparam, delete, func, select
from sqlalchemy.orm import Session

from ..db.models import UsageGuess
from ..db.prepared import PreparedSelect, PreparedWrite, RowValues, constant
from ..db.rows import numbered_insert
from ..settings import Limit
from .usage_log import (
    MAX_SHARED,
    Counts,
    LimitItems,
    Limits,
    Log,
    Overrun,
    Reached,
    Recorded,
    Window,
    ago,
    counts_of,
    half_of,
    longest,
    seconds_left,
    tightest,
    wait_for,
)

_INSERT_GUESS = numbered_insert(UsageGuess)
_DELETE_GUESS = PreparedWrite(
    delete(UsageGuess).where(UsageGuess.id == bindparam("guess_id", type_=BigInteger))
)


class GuessKeys(NamedTuple):
    """The digests that one guess counts against.

    :param mobile: only locked.
    :param guesses: the account, or the mobile without one; only locked.
    :param subject: the same, or the devices of the mobile's owner.
    :param number: the mobile, for guesses of accounts that have not proved it.
    """

    mobile: int
    guesses: int
    subject: int
    number: int | None

    @property
    def locks(self) -> list[int]:
        """The keys to lock before a decision."""
        return [self.mobile, self.guesses]


class GuessLog(Log):
    """The log of guesses. Apps with the same limits share one, through `shared`."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits = tightest(limits)

    @staticmethod
    def shared(limits: Limits) -> GuessLog:
        """Return the log for these limits, with the statements that were compiled for it."""
        return _shared_guess_log(tuple(limits.items()))

    @cached_property
    def _windows(self) -> list[Window]:
        """The limits of an account; without one of a mobile, or of its owner's devices."""
        return [
            Window("failures", limit, UsageGuess.subject, "subject")
            for limit in self._limits["failures"]
        ]

    @cached_property
    def _open_windows(self) -> list[Window]:
        """The limits of all accounts that have not proved the mobile."""
        return [
            Window("failures", limit, UsageGuess.number, "number", is_open=True)
            for limit in self._limits["failures"]
        ]

    @cached_property
    def counts(self) -> Counts:
        """The counts of the subject and of the whole site."""
        return [*counts_of(self._windows), *self._site_counts]

    @cached_property
    def counts_of_account(self) -> Counts:
        """The same, and the counts of the number that an account guesses at."""
        return [*self.counts, *counts_of(self._open_windows)]

    @cached_property
    def _site_counts(self) -> Counts:
        return [_count_site(limit) for limit in self._limits["site_failures"]]

    @cached_property
    def _site_statement(self) -> PreparedSelect:
        return PreparedSelect(select(*self._site_counts))

    def read_site(self, session: Session, now_ms: int) -> Any:
        """Return the counts of the whole site; None without such a limit."""
        if not self._site_counts:
            return None
        return self._site_statement.one(session, {"now": now_ms})

    def overruns(
        self,
        session: Session,
        row: RowValues,
        subject: int,
        now_ms: int,
        *,
        number: int | None = None,
        is_first: bool,
    ) -> list[Overrun]:
        """Return the limits that refuse a guess.

        :param row: a row of `counts_of_account`; `counts` is enough without a number.
        :param number: the key of the mobile; None if its limit does not count the guess.
        :param is_first: whether it is the first guess of its challenge, which no limit of the whole
            site refuses.
        """
        found = [
            Overrun(window.scope, wait_for(session, window, key, now_ms))
            for key, windows in ((subject, self._windows), (number, self._open_windows))
            for window in (windows if key is not None else ())
            if row[window.label] >= window.limit.amount
        ]
        if not is_first:
            found += self.site_overruns(session, row, now_ms)
        return found

    def wait_of(self, session: Session, subject: int, now_ms: int) -> int:
        """Return whole seconds until a subject has a guess left; 0 if it has one now."""
        statement = self.statement("subject", lambda: PreparedSelect(select(*self.counts)))
        row = statement.one(session, {"now": now_ms, "subject": subject})
        return longest(self.overruns(session, row, subject, now_ms, is_first=True))

    def site_overruns(self, session: Session, row: RowValues, now_ms: int) -> list[Overrun]:
        """Return the limits of the whole site that are used up.

        :param row: a row of `counts` or of `read_site`.
        """
        found = []
        for limit in self._limits["site_failures"]:
            if row[f"site_failures_{limit.seconds}"] < limit.amount:
                continue
            nth = (
                select(UsageGuess.site_at)
                .order_by(UsageGuess.site_at.desc())
                .limit(1)
                .offset(limit.amount - 1)
            )
            wait = seconds_left(session.scalar(nth) or now_ms, limit.seconds, now_ms)
            found.append(Overrun("site_failures", wait))
        return found

    def record(
        self,
        session: Session,
        site: RowValues,
        now_ms: int,
        *,
        subject: int,
        number: int | None,
        ip: int | None,
        network: int | None,
    ) -> Recorded:
        """Add a guess to the log.

        :param number: the key of the mobile; None if its limit does not count the guess.
        :param site: what `read_site` returned under the lock of the site's guesses.
        """
        values = {
            "at": now_ms,
            "site_at": now_ms,
            "subject": subject,
            "number": number,
            "ip": ip,
            "network": network,
        }
        guess_id = _INSERT_GUESS.run(session, values)
        reached = []
        for limit in self._limits["site_failures"]:
            used = site[f"site_failures_{limit.seconds}"] + 1
            if used == limit.amount:
                reached.append(Reached("site_failures", "whole", limit.seconds))
            elif used == half_of(limit):
                reached.append(Reached("site_failures", "half", limit.seconds))
        return Recorded(guess_id, False, tuple(reached))

    def refund(self, session: Session, recorded: Recorded, now_ms: int) -> list[Reached]:
        """Remove a guess from the log: because it was right or revealed nothing.

        :returns: the limits of which this guess had used the half, if it is still used.
        """
        _DELETE_GUESS.run(session, {"guess_id": recorded.id})
        halves = {item for item in recorded.reached if item.part == "half"}
        if not halves:
            return []
        site = self.read_site(session, now_ms)
        return [
            item
            for limit in self._limits["site_failures"]
            if (item := Reached("site_failures", "half", limit.seconds)) in halves
            and site[f"site_failures_{limit.seconds}"] >= half_of(limit)
        ]


def _count_site(limit: Limit) -> ColumnElement[int]:
    """Return an SQL expression: the guesses of the whole site, counted up to the limit."""
    rows = (
        select(UsageGuess.id)
        .where(UsageGuess.site_at > ago(limit.seconds))
        .order_by(UsageGuess.site_at.desc())
        .limit(constant(limit.amount))
        .subquery(f"site_rows_{limit.seconds}")
    )
    count = select(func.count(rows.c.id)).scalar_subquery()
    return count.label(f"site_failures_{limit.seconds}")


@lru_cache(maxsize=MAX_SHARED)
def _shared_guess_log(limits: LimitItems) -> GuessLog:
    return GuessLog(dict(limits))
