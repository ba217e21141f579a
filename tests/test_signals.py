"""Signals: who hears what, and that nothing secret is in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from hostapp import User, db

from flask_smsverify import signals
from flask_smsverify.errors import Unavailable, WrongCode

MOBILE = "+98912•••0001"


@pytest.fixture
def heard(app: Flask) -> Iterator[list[Any]]:
    """Every signal of a run as (name, values), in order."""
    said: list[tuple[str, dict[str, Any]]] = []
    names = [name for name in vars(signals) if hasattr(getattr(signals, name), "connect")]
    receivers = []
    for name in names:

        def receive(_app: Flask, name: str = name, **values: Any) -> None:
            said.append((name, values))

        getattr(signals, name).connect(receive, app)
        receivers.append(receive)
    yield said
    receivers.clear()  # blinker holds them weakly; until here this list held them


def test_a_proof_is_told_step_by_step(app: Flask, heard: list[Any]) -> None:
    state = app.extensions["smsverify"]
    memory = state.delivery.routes.senders["memory"]
    with app.app_context():
        user = db.session.get(User, 1)
        state.verifier.start(user)
        code = memory.last.code
        wrong = "0" * 6 if code != "0" * 6 else "1" * 6
        with pytest.raises(WrongCode):
            state.verifier.check(user, wrong)
        state.verifier.check(user, code)
        state.verifier.revoke(user, by="staff")
    assert [name for name, _ in heard] == [
        "message_sent",
        "code_sent",
        "verification_failed",
        "mobile_verified",
        "verification_revoked",
    ]
    values = dict(heard)
    assert values["message_sent"]["mobile"] == MOBILE
    assert values["code_sent"]["gateway"] == "memory"
    assert values["verification_failed"]["attempts_left"] == 4
    assert values["mobile_verified"] == {
        "user_id": "1",
        "mobile": MOBILE,
        "channel": "sms",
        "purpose": "verify",
    }
    assert code not in str(heard)
    assert "9123450001" not in str(heard)


def test_a_message_that_no_gateway_took_is_told(app: Flask, heard: list[Any]) -> None:
    state = app.extensions["smsverify"]
    memory = state.delivery.routes.senders["memory"]
    memory.fail_with(Unavailable("memory", "down", written=False))
    with app.app_context(), pytest.raises(Exception, match="no sender took it"):
        state.verifier.start(db.session.get(User, 1))
    assert [name for name, _ in heard] == ["message_failed"]


def test_a_receiver_that_fails_spoils_neither_send_nor_proof(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_app: Flask, **_values: Any) -> None:
        raise RuntimeError("a mistake of the host's")

    state = app.extensions["smsverify"]
    memory = state.delivery.routes.senders["memory"]
    with (
        app.app_context(),
        signals.code_sent.connected_to(fail, app),
        signals.mobile_verified.connected_to(fail, app),
    ):
        user = db.session.get(User, 1)
        state.verifier.start(user)
        state.verifier.check(user, memory.last.code)
        assert state.verifier.status(user).state == "verified"
    assert "a receiver of the signal mobile-verified failed" in caplog.text
