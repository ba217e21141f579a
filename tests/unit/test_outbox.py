"""`flask_smsverify.testing.outbox`, which apps use in their tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from conftest import MakeApp
from flask import Flask
from flask.testing import FlaskClient
from visiting import CHECK, OWN, SEND, STATUS, age, browser, phone

from flask_smsverify.errors import Rejected
from flask_smsverify.testing import outbox


def test_the_outbox_collects_messages_instead_of_sending_them(
    app: Flask, client: FlaskClient
) -> None:
    phone(app).fail_with(Rejected("memory", "the configured sender must not be used"))
    with outbox(app) as box:
        assert len(box) == 0
        client.post(SEND, data={"channel": "voice"})
        assert len(box) == 1
        assert (box.last.to, box.last.channel) == (OWN, "voice")
        assert client.post(CHECK, data={"code": box.last.code}).location == "/"
        box.clear()
        assert box.messages == []
    assert phone(app).messages == []


def test_an_empty_outbox_has_no_last_message(app: Flask) -> None:
    with outbox(app) as box, pytest.raises(AssertionError, match="nothing was sent"):
        _ = box.last


def test_the_configured_senders_are_back_after_the_block_also_after_an_error(
    app: Flask, client: FlaskClient
) -> None:
    def fail() -> None:
        with outbox(app) as box:
            box.advance(timedelta(days=1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert client.post(SEND, json={}).json["state"] == "pending"
    assert len(phone(app).messages) == 1


def test_limits_and_cooldowns_are_empty_at_the_start_of_the_block_and_after_it(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, SMSVERIFY_LIMITS={"user": "1/day", "site": "1/day"})
    client = browser(app)
    assert client.post(SEND, json={}).status_code == 200
    assert client.post(SEND, json={}).status_code == 429
    with outbox(app) as box:
        assert client.post(SEND, json={}).status_code == 200
        assert client.post(SEND, json={}).status_code == 429
        assert len(box) == 1
    assert client.post(SEND, json={}).status_code == 200


def test_advance_moves_the_clock_of_proofs_cooldowns_and_codes_until_the_block_ends(
    app: Flask, client: FlaskClient
) -> None:
    with outbox(app) as box:
        client.post(SEND)
        assert client.post(SEND, json={}).status_code == 429
        box.advance(timedelta(seconds=31))
        assert client.post(SEND, json={}).status_code == 200
        box.advance(timedelta(minutes=11))
        assert client.post(CHECK, json={"code": box.last.code}).status_code == 422
        client.post(SEND)
        client.post(CHECK, data={"code": box.last.code})
        assert client.get("/guarded").text == "guarded"
        box.advance(timedelta(days=89))
        assert client.get("/guarded").text == "guarded"
        box.advance(timedelta(days=1))
        assert client.get("/guarded").status_code == 302
        assert client.get(STATUS).json["state"] == "expired"
    age(app, timedelta(minutes=12))  # the proof was written by the clock that was ahead
    assert client.get("/guarded").text == "guarded"


def test_a_page_states_a_wait_by_the_clock_of_the_outbox(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = datetime.now(UTC)
    monkeypatch.setattr(app.extensions["smsverify"].clock, "source", lambda: start)
    with outbox(app) as box:
        box.advance(timedelta(hours=5))
        client.post(SEND)
        box.advance(timedelta(seconds=10))
        target = client.post(SEND).location
        box.advance(timedelta(seconds=5))
        page = client.get(target, headers={"Accept-Language": "en"}).text
        assert "You can request a new one in 15 seconds." in page


def test_the_outbox_waits_for_sends_in_the_background(app: Flask) -> None:
    with app.app_context(), outbox(app) as box:
        app.extensions["smsverify"].verifier.start_for("0935 111 2233", purpose="sign-up")
        assert box.last.to == "+989351112233"


def test_outboxes_can_be_nested(app: Flask, client: FlaskClient) -> None:
    with outbox(app) as outer:
        with outbox(app) as inner:
            client.post(SEND)
            assert len(inner) == 1
        assert len(outer) == 0
