"""How many codes were sent and proved: per day, sender and operator.

A finished day does not change any more, except if data is deleted. Its figures are kept for an hour
in each process. A view then counts the current day alone, however many codes came before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, case, distinct, func, select
from sqlalchemy.orm import Session

from ..db.models import Attempt, Challenge, Message
from ..verification.rules import CLOCK_SKEW

#: How long the figures of a finished day are kept.
_KEPT = timedelta(hours=1)
# Labels to group by. With pg8000, an expression that occurs twice has other parameters each time,
# and PostgreSQL then treats it as two expressions.
_DAY, _PREFIX = "day_number", "mobile_prefix"


@dataclass(frozen=True, slots=True)
class Count:
    """How many challenges were sent and proved."""

    sent: int = 0
    proved: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.sent + other.sent, self.proved + other.proved)


@dataclass(frozen=True, slots=True)
class DayFigures:
    """The challenges that were created on one day.

    :param prefixes: by the first six characters of the mobile, which identify its operator.
    """

    senders: dict[str, Count] = field(default_factory=dict)
    prefixes: dict[str, Count] = field(default_factory=dict)

    @property
    def total(self) -> Count:
        return sum(self.prefixes.values(), Count())


class FigureCache:
    """Counts days, and keeps the figures of finished ones. Thread-safe.

    :param open_for: how long after its creation a challenge can still be proved.
    """

    def __init__(self, open_for: timedelta) -> None:
        self._open_for = open_for + CLOCK_SKEW
        #: First moment and end of a day → when it was counted, and its figures.
        self._days: dict[tuple[datetime, datetime], tuple[datetime, DayFigures]] = {}

    def count(
        self, session: Session, begins: Sequence[datetime], now: datetime
    ) -> list[DayFigures]:
        """Return the figures of consecutive days, the last of which is the current one.

        :param begins: the first moment of each day, oldest first.
        """
        days = list(zip(begins, [*begins[1:], now], strict=True))
        found = [self._find(day, now) for day in days]
        first = next(number for number, figures in enumerate(found) if figures is None)
        counted = _count(session, begins[first:])
        for day, figures in zip(days[first:], counted, strict=True):
            if day[1] + self._open_for <= now:
                self._days[day] = now, figures
        for day in [day for day in list(self._days) if day[0] < begins[0]]:
            self._days.pop(day, None)
        return [figures for figures in found[:first] if figures is not None] + counted

    def _find(self, day: tuple[datetime, datetime], now: datetime) -> DayFigures | None:
        counted_at, figures = self._days.get(day, (now - _KEPT, None))
        return figures if timedelta() <= now - counted_at < _KEPT else None


def _count(session: Session, begins: Sequence[datetime]) -> list[DayFigures]:
    """Return the figures of each day from the database."""
    days = [DayFigures() for _ in begins]
    is_counted = (Challenge.created_at >= begins[0], Challenge.sends > 0)
    # The databases have no common function for the day of a moment in a time zone.
    day: ColumnElement[int] = case(
        *((Challenge.created_at >= begin, number) for number, begin in _newest_first(begins))
    ).label(_DAY)
    prefix = func.substr(Challenge.mobile, 1, 6).label(_PREFIX)
    is_proved = func.sum(case((Challenge.state == Challenge.VERIFIED, 1), else_=0))
    by_prefix = select(day, prefix, func.count(), is_proved).where(*is_counted)
    for number, start, sent, proved in session.execute(by_prefix.group_by(_DAY, _PREFIX)):
        days[number].prefixes[str(start)] = Count(sent, int(proved or 0))
    proved_id = case((Challenge.state == Challenge.VERIFIED, Challenge.id))
    # With inner joins, SQLite would begin with all attempts: it has no statistics before ANALYZE.
    by_sender = (
        select(
            day, Attempt.sender, func.count(distinct(Challenge.id)), func.count(distinct(proved_id))
        )
        .outerjoin(Message, Message.challenge_id == Challenge.id)
        .outerjoin(Attempt, Attempt.message_id == Message.id)
        .where(*is_counted)
    )
    for number, sender, sent, proved in session.execute(by_sender.group_by(_DAY, Attempt.sender)):
        if sender is not None:  # codes of test numbers are not sent
            days[number].senders[sender] = Count(sent, proved)
    return days


def _newest_first(begins: Sequence[datetime]) -> Iterable[tuple[int, datetime]]:
    return reversed(list(enumerate(begins)))


def merge(figures: Iterable[dict[str, Count]]) -> dict[str, Count]:
    """Return the sums by name."""
    merged: dict[str, Count] = {}
    for counts in figures:
        for name, count in counts.items():
            merged[name] = merged.get(name, Count()) + count
    return merged
