"""What the logs of sends and guesses share: windows, counts, and what a decision returns.

One row of a log is one send or one guess. It holds keyed digests of what it counts against, and the
indexes on `(key, at)` make a count as cheap as the limit is small. Windows slide exactly: "5 an
hour" means that no hour holds more than 5. A refund sets a row's keys to NULL, or removes the row.

For the windows of the whole site, each row has a time of its own, `site_at`. A reset moves it into
the past, and every other scope still counts the row.

`verification` adds the counts to its own columns, so that one SELECT reads all that a decision
needs. Everything here runs in a transaction of the caller that holds the locks of the keys
(`db.locks`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    bindparam,
    func,
    select,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute, Session

from ..db.prepared import PreparedSelect, constant
from ..settings import Limit

Limits = Mapping[str, tuple[Limit, ...]]
LimitItems = tuple[tuple[str, tuple[Limit, ...]], ...]
Column = InstrumentedAttribute[Any]
#: Labelled columns of a SELECT.
Counts = Sequence[ColumnElement[Any]]

#: Seconds by which the clocks of two processes may differ. A send dated further ahead was written
#: by a wrong clock and starts no cooldown. The limits still count it.
CLOCK_SKEW = 60

#: How many logs with different limits a process shares among apps.
MAX_SHARED = 64

NOW: ColumnElement[int] = bindparam("now", type_=BigInteger)


class Window(NamedTuple):
    """One limit of one scope.

    :param column: the column that holds the scope's keys.
    :param key: the parameter with the key that is counted.
    :param condition: which rows count.
    :param is_open: whether it refuses nobody who owns the mobile: it is the part of the mobile's
        limit that is not reserved for its owner, or counts the guesses of those who have not proved
        the mobile.
    """

    scope: str
    limit: Limit
    column: Column
    key: str
    condition: ColumnElement[bool] | None = None
    is_open: bool = False

    @property
    def label(self) -> str:
        """The label of the count in a row of the SELECT."""
        name = f"{self.scope}_open" if self.is_open else self.scope
        return f"{name}_{self.limit.seconds}"


class Overrun(NamedTuple):
    """A limit that is used up.

    :param wait: whole seconds until a unit is free.
    """

    scope: str
    wait: int


class Reached(NamedTuple):
    """A limit that a unit has half used or used up.

    :param part: `half`, `whole`, or `open`: the part of the site's limit without evidence, or of a
        mobile's that is not reserved for its owner.
    :param seconds: the window.
    """

    scope: str
    part: str
    seconds: int


class Recorded(NamedTuple):
    """A send or a guess in the log.

    :param is_open: whether it is a send without evidence.
    """

    id: int
    is_open: bool
    reached: tuple[Reached, ...]


class Log:
    """A log and the statements with its counts, which are built once."""

    def __init__(self) -> None:
        self._statements: dict[Hashable, PreparedSelect] = {}

    def statement(self, kind: Hashable, build: Callable[[], PreparedSelect]) -> PreparedSelect:
        """Return the statement of one kind.

        :param build: makes it at the first use.
        """
        if kind not in self._statements:
            self._statements[kind] = build()
        return self._statements[kind]


def tightest(limits: Limits) -> Limits:
    """Return the limits with one for each scope and window, the smallest."""
    return {
        scope: tuple({limit.seconds: limit for limit in sorted(every, reverse=True)}.values())
        for scope, every in limits.items()
    }


def counts_of(windows: Iterable[Window]) -> Counts:
    """Return how much of each limit its key has used. Windows with the same label count the same.

    Each count is a scalar subquery. In one SELECT with joins, SQLite would store each joined table
    first, and PostgreSQL would compare every order of the joins: both take longer than the counts.
    """
    return [_count_of(window) for window in {window.label: window for window in windows}.values()]


def _count_of(window: Window) -> ColumnElement[int]:
    log = window.column.class_
    is_counted = [
        window.column == bindparam(window.key, type_=BigInteger),
        log.at > ago(window.limit.seconds),
    ]
    if window.condition is not None:
        is_counted.append(window.condition)
    count = select(func.count()).select_from(log).where(*is_counted)
    return count.scalar_subquery().label(window.label)


def half_of(limit: Limit) -> int:
    """Return half of a limit, rounded up."""
    return -(-limit.amount // 2)


def ago(seconds: int) -> ColumnElement[int]:
    """Return an SQL expression: the time so many seconds ago, in milliseconds.

    The constants of a SELECT with many counts are part of its text. Drivers process each parameter,
    and psycopg parses a statement with more than 50 each time.
    """
    return NOW - constant(seconds * 1000)


def wait_for(session: Session, window: Window, key: object, now_ms: int) -> int:
    """Return whole seconds until a used-up limit has a unit: when the N-th last row ages out."""
    at = window.column.class_.at
    query = (
        select(at)
        .where(window.column == key)
        .order_by(at.desc())
        .limit(1)
        .offset(window.limit.amount - 1)
    )
    if window.condition is not None:
        query = query.where(window.condition)
    return seconds_left(session.scalar(query) or now_ms, window.limit.seconds, now_ms)


def longest(overruns: Iterable[Overrun]) -> int:
    """Return the longest wait in whole seconds; 0 if no limit is used up."""
    return max((overrun.wait for overrun in overruns), default=0)


def last_id(session: Session, site_at: Column) -> int:
    """Return the id of a log's newest row; 0 if it is empty. The caller holds the site's lock."""
    return session.scalar(select(func.max(site_at.class_.id))) or 0


def reset_site(
    session: Session,
    site_at: Column,
    limits: Sequence[Limit],
    now_ms: int,
    *,
    up_to: int,
    most: int = 5_000,
) -> bool:
    """Move the oldest rows out of the windows of the whole site. Other scopes still count them.

    The rows keep their order and numbers, so a later refund lowers the right ones. The caller holds
    the lock of the site's sends or guesses.

    :param site_at: the column of the log.
    :param up_to: the id of the newest row to move.
    :param most: how many rows to move at a time, apart from those of the same millisecond.
    :returns: whether rows are left to move.
    """
    log = site_at.class_
    longest = max(limit.seconds for limit in limits)
    before = now_ms - (longest + CLOCK_SKEW) * 1000
    in_windows = (site_at > before, log.id <= up_to)
    beyond = select(site_at).where(*in_windows).order_by(site_at).limit(1).offset(most)
    next_at = session.scalar(beyond)
    moved = in_windows if next_at is None else (*in_windows, site_at < next_at + 1)
    session.connection().execute(update(log).where(*moved).values({site_at.key: before}))
    return next_at is not None


def seconds_left(since_ms: int, seconds: int, now_ms: int) -> int:
    """Return the whole seconds until a window that began at `since_ms` ends; at least 1."""
    return max(1, math.ceil((since_ms + seconds * 1000 - now_ms) / 1000))
