"""The ids of rows."""

from __future__ import annotations

import re
import time
import uuid

import pytest

from flask_smsverify.db.ids import new_id, shorten


def test_an_id_begins_with_the_time_as_a_uuid_of_version_7_does() -> None:
    before = time.time_ns() // 1_000_000
    row_id = new_id()
    after = time.time_ns() // 1_000_000
    assert re.fullmatch("[0-9a-f]{32}", row_id)
    assert before <= uuid.UUID(row_id).int >> 80 <= after


def test_ids_of_one_millisecond_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_795_869_353_073_000_000)
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {row_id[:12] for row_id in ids} == {"01a22227a471"}


def test_the_short_form_of_an_id_shows_its_random_end() -> None:
    assert shorten("01a22227a471" + "0" * 12 + "89abcdef") == "…89abcdef"
