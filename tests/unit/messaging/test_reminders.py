"""Which reminders a daily job reports."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from flask_smsverify import Reminder, due_reminders

TODAY = date(2026, 11, 27)


def test_a_reminder_is_about_the_date_so_many_days_ahead_or_ago() -> None:
    before, after = due_reminders(
        [Reminder("domain.renewal_notice", 15), Reminder("invoice.first_overdue", -1)],
        today=TODAY,
        catch_up_days=0,
    )
    assert (before.event, before.first, before.last) == (
        "domain.renewal_notice",
        date(2026, 12, 12),
        date(2026, 12, 12),
    )
    assert after.first == after.last == date(2026, 11, 26)
    assert date(2026, 11, 26) in after
    assert TODAY not in after


def test_a_reminder_before_a_date_is_never_sent_after_it() -> None:
    [due] = due_reminders([Reminder("invoice.reminder", 1)], today=TODAY)
    assert (due.first, due.last) == (TODAY, TODAY + timedelta(days=1))


@given(
    st.integers(-60, 60),
    st.integers(0, 5),
    st.lists(st.booleans(), min_size=200, max_size=200),
)
def test_a_daily_job_reports_each_date_whose_day_it_missed_for_a_short_time(
    days: int, catch_up_days: int, runs: list[bool]
) -> None:
    start, target = TODAY, TODAY + timedelta(days=100)
    reported = [
        start + timedelta(days=number)
        for number, runs_today in enumerate(runs)
        if runs_today
        for due in due_reminders(
            [Reminder("x", days)], today=start + timedelta(days=number), catch_up_days=catch_up_days
        )
        if target in due
    ]
    right_day = target - timedelta(days=days)
    assert all(right_day <= day <= right_day + timedelta(days=catch_up_days) for day in reported)
    assert days < 0 or all(day <= target for day in reported)
    if runs[(right_day - start).days]:
        assert reported[0] == right_day
