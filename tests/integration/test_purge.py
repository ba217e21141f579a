"""Case 85 of docs/safety.md: what `purge` deletes and what it keeps."""

from __future__ import annotations

from datetime import timedelta

import pytest
from conftest import MakeApp
from flask import Flask
from flows import flow_of
from sqlalchemy import func, select

from flask_smsverify.db import purge as purging
from flask_smsverify.db.models import Alert, Base, Challenge, Message, Verification
from flask_smsverify.db.purge import purge
from flask_smsverify.errors import TooSoon, WrongCode

MEMORY = {"memory": {"gateway": "memory"}}


def counts(app: Flask) -> dict[str, int]:
    ledger = app.extensions["smsverify"].ledger
    return {
        table.name: ledger.read(
            lambda session, table=table: session.scalar(select(func.count()).select_from(table))
        )
        for table in Base.metadata.sorted_tables
    }


def test_400_days_of_use_leave_only_what_the_last_90_days_need(
    make_app: MakeApp, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "_SLICE", 7)
    app = make_app(database, users=3, SMSVERIFY_SENDERS=MEMORY)
    with app.app_context():
        flow = flow_of(app)
        for _ in range(20):
            flow.prove(1)
            flow.start(2)
            flow.verifier.start_for("09121110000", purpose="sign-up")
            flow.state.workers.wait()
            flow.clock.advance(days=20)
        flow.state.ledger.run(
            lambda session: session.add(Alert(name="old", until=flow.clock() - timedelta(days=1)))
        )
        before = counts(app)
        assert before["smsverify_challenge"] == before["smsverify_message"] == 60
        deleted = purge(flow.state.ledger, timedelta(days=90))
        after = counts(app)
    # The last 4 of 20 rounds are 20 to 80 days old.
    assert after["smsverify_challenge"] == after["smsverify_message"] == 12
    assert after["smsverify_attempt"] == 12
    assert after["smsverify_alert"] == 0
    assert deleted["smsverify_message"] == 48
    assert after["smsverify_verification"] == 1, "user 2 never proved anything"
    with app.app_context():
        flow = flow_of(app, flow.clock)
        assert flow.verifier.status(flow.user(1)).mobile == "+989123450001"
        assert flow.verification(1) is not None


def test_purge_keeps_limits_cooldowns_open_challenges_and_locks(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, users=2, SMSVERIFY_SENDERS=MEMORY, SMSVERIFY_CONSECUTIVE_FAILURES=1)
    with app.app_context():
        flow = flow_of(app)
        challenge = flow.start(1)
        locked = flow.start(2)
        with pytest.raises(WrongCode):
            flow.check(locked, flow.wrong(locked))
        purge(flow.state.ledger, timedelta(days=2))
        with pytest.raises(TooSoon):
            flow.start(1)
        assert flow.used("mobile", "+989123450001") == 1
        assert flow.check(challenge, flow.code(challenge)).verified_at
        flow.clock.advance(days=400)
        purge(flow.state.ledger, timedelta(days=2), longest_limit=timedelta(days=300))
        assert counts(app)["smsverify_usage_send"] == 2, "a limit of 300 days needs 600 of usage"
        assert counts(app)["smsverify_usage_guess"] == 1
        purge(flow.state.ledger, timedelta(days=2))
        assert counts(app)["smsverify_usage_send"] == 1, "the site's windows are counted from it"
        assert counts(app)["smsverify_usage_guess"] == 0
        assert flow.verifier.status(flow.user(2)).locked
        left = flow.state.ledger.read(
            lambda session: [
                session.scalar(select(func.count()).select_from(model))
                for model in (Challenge, Message, Verification)
            ]
        )
    assert left == [0, 0, 2]


def test_purge_after_a_reset_of_the_site_keeps_the_limits_of_accounts(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, users=2, SMSVERIFY_SENDERS=MEMORY)
    with app.app_context():
        flow = flow_of(app)
        for number in (1, 2):
            challenge = flow.start(number)
            with pytest.raises(WrongCode):
                flow.check(challenge, flow.wrong(challenge))
        flow.reset("site", "site_failures")
        flow.clock.advance(days=200)
        purge(flow.state.ledger, timedelta(days=2), longest_limit=timedelta(days=150))
        assert counts(app)["smsverify_usage_send"] == counts(app)["smsverify_usage_guess"] == 2
        flow.clock.advance(days=101)
        purge(flow.state.ledger, timedelta(days=2), longest_limit=timedelta(days=150))
        assert counts(app)["smsverify_usage_send"] == 1
        assert counts(app)["smsverify_usage_guess"] == 0


def test_the_command_lists_what_it_deleted_and_refuses_short_ages(app: Flask) -> None:
    run = app.test_cli_runner().invoke
    assert "smsverify_challenge" in run(args=["smsverify", "purge"]).output
    for age in ("1d", "0d", "90", "soon", "-3d", "12h"):
        result = run(args=["smsverify", "purge", "--older-than", age])
        assert result.exit_code == 2, age
        assert "such as 90d" in result.output
    with pytest.raises(ValueError, match="at least 2 days"):
        purge(app.extensions["smsverify"].ledger, timedelta(days=1))
