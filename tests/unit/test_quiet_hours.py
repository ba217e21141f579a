"""Quiet hours: which times they contain, to the second."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from flask_smsverify.settings.quiet_hours import check_quiet_hours

TEHRAN = timezone(timedelta(hours=3, minutes=30))


@pytest.mark.parametrize(
    ("hours", "local", "end"),
    [
        ("22:00-07:00", "2026-11-20T21:59:59", None),
        ("22:00-07:00", "2026-11-20T22:00:00", "2026-11-21T07:00:00"),
        ("22:00-07:00", "2026-11-21T00:00:00", "2026-11-21T07:00:00"),
        ("22:00-07:00", "2026-11-21T06:59:59", "2026-11-21T07:00:00"),
        ("22:00-07:00", "2026-11-21T07:00:00", None),
        ("13:00-15:30", "2026-11-20T12:59:59", None),
        ("13:00-15:30", "2026-11-20T13:00:00", "2026-11-20T15:30:00"),
        ("13:00-15:30", "2026-11-20T15:29:59", "2026-11-20T15:30:00"),
        ("13:00-15:30", "2026-11-20T15:30:00", None),
    ],
)
def test_quiet_hours_contain_their_begin_and_not_their_end(
    hours: str, local: str, end: str | None
) -> None:
    quiet = check_quiet_hours(hours)
    assert quiet is not None
    now = datetime.fromisoformat(local).replace(tzinfo=TEHRAN).astimezone(UTC)
    expected = None if end is None else datetime.fromisoformat(end).replace(tzinfo=TEHRAN)
    assert quiet.end_after(now, TEHRAN) == expected
