"""The delivery job of a code: which code each sender carries."""

from __future__ import annotations

import pytest
from flows import Flow, Native
from sqlalchemy import select

from flask_smsverify.db.models import Attempt, Message
from flask_smsverify.errors import (
    Misconfigured,
    Rejected,
    SendFailed,
    StoreUnavailable,
    Unavailable,
)
from flask_smsverify.limits.sends import SendKeys
from flask_smsverify.senders.memory import Memory
from flask_smsverify.verification.code_job import CodeJob
from flask_smsverify.verification.send_limits import Send


def test_a_native_code_is_assigned_to_its_challenge_and_has_no_segments(
    native_flow: tuple[Flow, Native],
) -> None:
    flow, _ = native_flow
    challenge = flow.verifier.load(flow.start().id)
    assert (challenge.native_sender, challenge.own_sent) == ("native", False)
    message = flow.verifier.last_message(challenge)
    assert (message.kind, message.parts) == ("code", None)
    [is_native] = flow.state.ledger.read(
        lambda session: session.scalars(select(Attempt.native)).all()
    )
    assert is_native


def test_the_segments_of_an_own_code_are_counted_for_sms_only(flow: Flow) -> None:
    assert flow.verifier.last_message(flow.start(1)).parts == 1
    assert flow.verifier.last_message(flow.start(2, channel="voice")).parts is None


def test_native_codes_are_released_if_certainly_none_was_sent(
    native_flow: tuple[Flow, Native],
) -> None:
    flow, native = native_flow
    for number, error in enumerate((Unavailable, Rejected, Misconfigured), start=1):
        native.sending.append(error("native", "no"))
        with pytest.raises(SendFailed):
            flow.start(number)
        challenge = flow.verifier.latest(flow.user(number))
        assert (challenge.native_sender, challenge.native_key) == (None, challenge.id), error


def test_a_failed_release_of_native_codes_does_not_stop_the_next_sender(
    flow: Flow, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    native, memory = Native(also_own=False), Memory(name="memory")
    flow.route(native, memory)
    native.sending.append(Unavailable("native", "down"))

    def fail(*_: object) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(flow.verifier._issuer._jobs._native, "release", fail)
    challenge = flow.start()
    assert flow.check(challenge, memory.last.code).verified_at
    assert "could not be released" in caplog.text


def test_a_sender_carries_the_own_code_if_its_native_codes_belong_to_another_challenge(
    native_flow: tuple[Flow, Native],
) -> None:
    flow, native = native_flow
    flow.set_mobile(2, "09123450001")
    flow.start(1)
    challenge = flow.verifier.load(flow.start(2).id)
    assert (len(native.sent), len(native.own)) == (1, 1)
    assert (challenge.native_sender, challenge.own_sent) == (None, True)


def test_a_sender_without_a_code_for_the_challenge_is_skipped(
    native_flow: tuple[Flow, Native],
) -> None:
    flow, _ = native_flow
    native = Native(also_own=False)
    flow.route(native)
    flow.set_mobile(2, "09123450001")
    flow.start(1)
    with pytest.raises(SendFailed) as failed:
        flow.start(2)
    assert failed.value.causes == ()
    assert len(native.sent) == 1


def test_the_repr_of_a_job_contains_no_code_and_no_mobile(flow: Flow) -> None:
    challenge = flow.start()
    message = Message(id="m" * 32, channel="sms")
    send = Send(SendKeys(mobile=1, cooldown=2, guesses=3), challenge.mobile)
    job = flow.verifier._issuer._jobs.prepare(
        challenge, message, send, locale="en", settings=flow.state.live.current
    )
    assert isinstance(job, CodeJob)
    assert flow.code(challenge) not in repr(job)
    assert challenge.mobile not in repr(job) + repr(send)
