"""Times in JSON: a program that goes by them is neither early nor late."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from clocks import Clock
from flask import Flask
from hostapp import db
from visiting import (
    CHECK,
    CONFIRM,
    MOBILE,
    OTHER,
    SEND,
    STATUS,
    api,
    browser,
    forget_limits,
    last_code,
    prove,
    set_user,
)

from flask_smsverify import require_verified_mobile
from flask_smsverify.db.models import Challenge, MobileChange, Verification
from flask_smsverify.web.times import earliest, latest, seconds_left, seconds_until

MakeApp = Callable[..., Flask]
#: Between two seconds, as nearly every time is.
MOMENT = datetime(2026, 5, 1, 12, 0, 0, 400_000, tzinfo=UTC)
SIGN_IN = "/verify-mobile/sign-in"
PROGRAM = {"Accept": "application/json"}


@pytest.fixture
def app(make_app: MakeApp, sqlite: str) -> Flask:
    app = make_app(
        sqlite,
        SMSVERIFY_SIGN_IN=True,
        SMSVERIFY_RESEND_DELAYS=(30,),
    )
    app.extensions["smsverify"].clock.source = Clock(MOMENT)

    @app.route("/transfer")
    @require_verified_mobile(within=timedelta(minutes=10))
    def transfer() -> str:
        return "transferred"

    return app


def stored(app: Flask, model: Any, column: str, **values: Any) -> datetime:
    with app.app_context():
        found = db.session.scalars(db.select(model).filter_by(**values)).one()
        moment: datetime = getattr(found, column)
        return moment


def is_early(text: str, moment: datetime) -> bool:
    return datetime.fromisoformat(text) < moment


def is_late(text: str, moment: datetime) -> bool:
    return datetime.fromisoformat(text) > moment


def test_a_time_is_written_in_utc_and_whole_seconds() -> None:
    tehran = MOMENT.astimezone(ZoneInfo("Asia/Tehran"))
    assert latest(tehran) == "2026-05-01T12:00:00Z"
    assert earliest(tehran) == "2026-05-01T12:00:01Z"
    assert earliest(MOMENT.replace(microsecond=0)) == "2026-05-01T12:00:00Z"
    assert (earliest(None), latest(None)) == (None, None)


def test_seconds_to_wait_are_rounded_up_and_seconds_of_validity_down() -> None:
    later = MOMENT + timedelta(seconds=29, milliseconds=1)
    assert (seconds_until(later, MOMENT), seconds_left(later, MOMENT)) == (30, 29)
    assert (seconds_until(MOMENT, later), seconds_left(MOMENT, later)) == (0, 0)
    assert (seconds_until(None, MOMENT), seconds_left(None, MOMENT)) == (0, 0)


def test_the_times_of_a_code_are_never_early_or_late(app: Flask) -> None:
    client = browser(app)
    body = api(client, SEND).json
    assert not is_early(body["resend_at"], stored(app, Challenge, "resend_at"))
    assert not is_late(body["expires_at"], stored(app, Challenge, "expires_at"))


def test_the_times_of_a_proof_are_never_late(app: Flask) -> None:
    client = browser(app)
    prove(app, client)
    body = client.get(STATUS).json
    verified_at = stored(app, Verification, "verified_at")
    assert not is_late(body["verified_at"], verified_at)
    assert not is_late(body["expires_at"], verified_at + timedelta(days=90))


def test_a_changed_number_counts_at_the_time_that_a_program_reads(app: Flask) -> None:
    client = browser(app)
    prove(app, client)
    forget_limits(app)
    set_user(app, mobile=OTHER)
    api(client, SEND)
    api(client, CHECK, code=last_code(app))
    demand = client.get("/transfer", headers=PROGRAM).get_json(force=True)["demand"]
    settled_at = client.get(f"{STATUS}?demand={demand}").json["settled_at"]
    assert not is_early(settled_at, stored(app, Verification, "settled_at"))


def test_the_times_of_a_change_are_never_early_or_late(app: Flask) -> None:
    client = browser(app)
    prove(app, client)
    forget_limits(app)
    api(client, MOBILE, mobile=OTHER, send=True)
    change = api(client, CHECK, code=last_code(app)).json["change"]
    to_old = {"purpose": "smsverify.old_number"}
    assert not is_early(change["resend_at"], stored(app, Challenge, "resend_at", **to_old))
    assert not is_late(change["code_expires_at"], stored(app, Challenge, "expires_at", **to_old))
    delayed = api(client, CONFIRM, lost=True).json["change"]
    assert not is_early(delayed["applies_at"], stored(app, MobileChange, "applies_at"))


def test_the_times_of_a_sign_in_are_never_early_or_late(app: Flask) -> None:
    body = api(browser(app, None), SIGN_IN, mobile="09121110000").json
    assert not is_early(body["resend_at"], stored(app, Challenge, "resend_at"))
    assert not is_late(body["expires_at"], stored(app, Challenge, "expires_at"))
