"""Signals: what each step emits, and that no signal carries a secret."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conftest import MakeApp
from flask import Flask, current_app
from hostapp import User, db
from leaks import LONG_CODES
from visiting import wrong

from flask_smsverify import signals
from flask_smsverify.errors import SendFailed, Unavailable, WrongCode
from flask_smsverify.testing import outbox

MOBILE = "+98912•••0001"


@pytest.fixture
def app(make_app: MakeApp, sqlite: str) -> Flask:
    return make_app(sqlite, **LONG_CODES)


@pytest.fixture
def emitted(app: Flask) -> Iterator[list[Any]]:
    """Every signal of a test as (name, values), in order."""
    emitted: list[tuple[str, dict[str, Any]]] = []
    names = [name for name in vars(signals) if hasattr(getattr(signals, name), "connect")]
    receivers = []  # blinker holds receivers weakly
    for name in names:

        def receive(_app: Flask, name: str = name, **values: Any) -> None:
            emitted.append((name, values))

        getattr(signals, name).connect(receive, app)
        receivers.append(receive)
    yield emitted
    receivers.clear()


def test_each_step_of_a_verification_emits_its_signal(app: Flask, emitted: list[Any]) -> None:
    state = app.extensions["smsverify"]
    memory = state.delivery.routes.senders["memory"]
    with app.app_context():
        user = db.session.get(User, 1)
        state.verifier.start(user)
        code = memory.last.code
        with pytest.raises(WrongCode):
            state.verifier.check(user, wrong(code))
        state.verifier.check(user, code)
        state.verifier.revoke(user, by="staff")
    assert [name for name, _ in emitted] == [
        "message_sent",
        "code_sent",
        "verification_failed",
        "mobile_verified",
        "verification_revoked",
    ]
    values = dict(emitted)
    assert values["message_sent"]["mobile"] == MOBILE
    assert values["message_sent"]["sender_name"] == values["code_sent"]["sender_name"] == "memory"
    assert values["verification_failed"]["attempts_left"] == 4
    assert values["mobile_verified"] == {
        "user_id": "1",
        "mobile": MOBILE,
        "channel": "sms",
        "purpose": "verify",
    }
    assert code not in str(emitted)
    assert "9123450001" not in str(emitted)


def test_a_failed_attempt_emits_message_failed(app: Flask, emitted: list[Any]) -> None:
    state = app.extensions["smsverify"]
    memory = state.delivery.routes.senders["memory"]
    memory.fail_with(Unavailable("memory", "down", written=False))
    with app.app_context(), pytest.raises(SendFailed):
        state.verifier.start(db.session.get(User, 1))
    [(name, values)] = emitted
    assert name == "message_failed"
    assert values["sender_name"] == "memory"
    assert values["mobile"] == MOBILE


def test_a_failing_receiver_affects_neither_the_send_nor_the_proof(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_app: Flask, **_values: Any) -> None:
        raise RuntimeError(f"a bug of the host app, with {mobile}")  # which no log shows

    app.testing, mobile = False, "09121234567"
    reached: list[str] = []

    def note(_app: Flask, **values: Any) -> None:
        reached.append(values["purpose"])

    async def note_async(_app: Flask, **values: Any) -> None:
        reached.append("async")

    state = app.extensions["smsverify"]
    memory = state.delivery.routes.senders["memory"]
    with (
        app.app_context(),
        signals.code_sent.connected_to(fail, app),
        signals.mobile_verified.connected_to(fail, app),
        signals.mobile_verified.connected_to(note, app),
        signals.mobile_verified.connected_to(note_async, app),
    ):
        user = db.session.get(User, 1)
        state.verifier.start(user)
        state.verifier.check(user, memory.last.code)
        assert state.verifier.status(user).state == "verified"
    assert "a receiver of the signal mobile-verified failed: RuntimeError at\n" in caplog.text
    assert sorted(reached) == ["async", "verify"]


def test_a_failing_receiver_fails_the_hosts_test(app: Flask) -> None:
    def fail(_app: Flask, **_values: Any) -> None:
        raise RuntimeError("a bug of the host app")

    state = app.extensions["smsverify"]
    with (
        app.app_context(),
        signals.code_sent.connected_to(fail, app),
        pytest.raises(RuntimeError, match="a bug of the host app"),
    ):
        state.verifier.start(db.session.get(User, 1))


def test_a_receiver_that_fails_in_a_worker_thread_fails_the_hosts_test(app: Flask) -> None:
    def fail(_app: Flask, **_values: Any) -> None:
        raise RuntimeError("a bug of the host app")

    verifier = app.extensions["smsverify"].verifier
    with app.app_context(), signals.code_sent.connected_to(fail, app):
        with outbox(app) as box:
            verifier.start_for("09121110000", purpose="sign-up")
            with pytest.raises(RuntimeError, match="a bug of the host app"):
                _ = box.last
        with pytest.raises(RuntimeError, match="a bug of the host app"), outbox(app):
            verifier.start_for("09121110000", purpose="sign-up")


def test_what_a_receiver_commits_in_a_worker_thread_is_stored(app: Flask) -> None:
    def store(_app: Flask, **_values: Any) -> None:
        db.session.get(User, 1).note = "a code was sent"
        db.session.commit()

    state = app.extensions["smsverify"]
    with signals.code_sent.connected_to(store, app):
        with app.app_context():
            state.verifier.start_for("09121110000", purpose="sign-up")
        state.workers.wait()
    with app.app_context():
        assert db.session.get(User, 1).note == "a code was sent"


def test_receivers_run_in_an_app_context_also_in_worker_threads(app: Flask) -> None:
    seen: list[str | None] = []

    def note(_sender: Flask, **_values: object) -> None:
        seen.append(current_app.name)
        seen.append(db.session.get(User, 1).mobile)

    with signals.code_sent.connected_to(note, app):
        state = app.extensions["smsverify"]
        with app.app_context():
            state.verifier.start_for("09121110000", purpose="sign-up", ip="192.0.2.1")
        state.workers.wait()
    assert seen == ["host", "09123450001"]
