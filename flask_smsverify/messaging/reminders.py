"""Which reminders are due today: "15 days before", "the day after".

Invoices, domains and their dates belong to the host app, so the host runs a daily job that reports
the events. This module computes the dates for which the job looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta


@dataclass(frozen=True, slots=True)
class Reminder:
    """An event that is reported some days before or after a date.

    :param event: such as `invoice.reminder`.
    :param days: how many days before the date; negative for days after it.
    """

    event: str
    days: int


@dataclass(frozen=True, slots=True)
class DueReminder:
    """A reminder that is due today.

    :param event: the event to report.
    :param first: the first date to remind of.
    :param last: the last date to remind of.
    """

    event: str
    first: date
    last: date

    def __contains__(self, day: date) -> bool:
        return self.first <= day <= self.last


def due_reminders(
    reminders: Iterable[Reminder], *, today: date, catch_up_days: int = 2
) -> Iterator[DueReminder]:
    """Yield the reminders that are due today, with the dates to which they apply.

    Report each event with a `dedupe_key` of the item and its date. Then a job that runs twice
    reminds once, and a job that did not run for some days sends the missed reminders late. A
    reminder is not sent after its date if it belongs before it.

    :param today: today's date in the host's time zone.
    :param catch_up_days: for how many days a missed reminder is sent later.
    """
    for reminder in reminders:
        last = today + timedelta(days=reminder.days)
        first = last - timedelta(days=catch_up_days)
        if reminder.days >= 0:
            first = max(first, today)
        yield DueReminder(reminder.event, first, last)
