"""The delivery job of a code: which code each sender carries."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flows import Flow, Native
from leaks import LONG_CODES
from sqlalchemy import delete, select

from flask_smsverify.db.models import Attempt, Message
from flask_smsverify.errors import (
    ChannelUnavailable,
    Misconfigured,
    Rejected,
    SendFailed,
    StoreUnavailable,
    Unavailable,
    Unknown,
)
from flask_smsverify.limits.sends import SendKeys
from flask_smsverify.senders.base import Capability, CodeMessage, Receipt
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


def test_a_failed_resend_releases_no_native_codes_of_an_earlier_send(
    native_flow: tuple[Flow, Native],
) -> None:
    """The gateway still accepts the code that it has sent."""
    flow, native = native_flow
    challenge = flow.start()
    flow.clock.advance(31)
    native.sending.append(Unavailable("native", "down"))
    with pytest.raises(SendFailed):
        flow.verifier.resend(challenge)
    assert flow.verifier.load(challenge.id).native_sender == "native"
    assert flow.check(challenge, native.sent[0][1]).sender == "native"


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
    assert flow.verifier.last_message(flow.verifier.latest(flow.user(2))).state == "failed"


def test_start_returns_the_challenge_with_the_code_of_the_sender_that_took_it(flow: Flow) -> None:
    first, second = Memory(name="first"), Native(name="second", also_own=False)
    flow.route(first, second)
    first.fail_with(Unavailable("first", "down"))
    assert flow.start(1).native_sender == "second"

    flow.set_mobile(2, "09123450001")
    flow.route(second, Memory(name="third"))
    challenge = flow.start(2)
    assert (challenge.native_sender, challenge.own_sent) == (None, True)


@pytest.mark.parametrize(("error", "state"), [(Unavailable, "sending"), (Unknown, "unknown")])
def test_a_message_that_failed_is_being_sent_again_by_the_next_sender(
    flow: Flow, error: type[Unavailable | Unknown], state: str
) -> None:
    """A message that may have arrived stays one that may have arrived."""
    first, second = Memory(name="first"), Memory(name="second")
    flow.route(first, second)
    first.fail_with(error("first", "no"))
    send, states = second.send_code, []

    def note_state(message: CodeMessage) -> Receipt:
        challenge = flow.verifier.latest(flow.user())
        states.append(flow.verifier.last_message(challenge).state)
        return send(message)

    second.send_code = note_state  # type: ignore[method-assign]  # at this moment
    flow.start()
    assert states == [state]


def test_a_code_is_sent_by_the_next_sender_even_if_its_message_was_purged(flow: Flow) -> None:
    first, second = Memory(name="first"), Memory(name="second")
    flow.route(first, second)

    def purge(_message: CodeMessage) -> Receipt:
        flow.state.ledger.run(lambda session: session.execute(delete(Message)))
        raise Unavailable("first", "down")

    first.send_code = purge  # type: ignore[method-assign]  # at this moment
    challenge = flow.start()
    assert flow.check(challenge, second.last.code).verified_at


@pytest.mark.parametrize(
    ("channel", "capability"), [("sms", Capability.CODE_SMS), ("voice", Capability.CODE_VOICE)]
)
def test_a_sender_of_one_channel_carries_the_codes_of_that_channel(
    flow: Flow, channel: str, capability: Capability, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Memory, "capabilities", frozenset({capability}))
    assert flow.start(channel=channel).own_sent
    assert len(flow.memory.messages) == 1


def test_only_a_test_number_needs_no_sender_for_its_channel(
    make_flow: Callable[..., Flow], sqlite: str
) -> None:
    flow = make_flow(sqlite, users=2, SMSVERIFY_TEST_NUMBERS={"09123450001": "246810"})
    flow.route(Native(also_own=False))
    with pytest.raises(ChannelUnavailable):
        flow.start(2, channel="voice")
    assert flow.check(flow.start(1, channel="voice"), "246810").verified_at


def test_the_repr_of_a_job_contains_no_code_and_no_mobile(
    make_flow: Callable[..., Flow], sqlite: str
) -> None:
    flow = make_flow(sqlite, **LONG_CODES)
    challenge = flow.start()
    message = Message(id="m" * 32, channel="sms")
    send = Send(SendKeys(mobile=1, cooldown=2, guesses=3, subject=3, number=4), challenge.mobile)
    job = flow.verifier._issuer._jobs.prepare(
        challenge, message, send, locale="en", settings=flow.state.live.current
    )
    assert isinstance(job, CodeJob)
    assert flow.code(challenge) not in repr(job)
    assert challenge.mobile not in repr(job) + repr(send)
