"""Refunds: sends that fail, and sends whose code is entered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flows import Flow
from parallel import outcome

from flask_smsverify.db.models import Challenge
from flask_smsverify.errors import Misconfigured, Rejected, SendFailed, Unavailable, Unknown
from flask_smsverify.senders.memory import Memory

MakeFlow = Callable[..., Flow]


def test_a_rejected_number_keeps_the_cooldown_and_the_address_unit(flow: Flow) -> None:
    """Otherwise refused numbers would allow unlimited gateway calls. Other units are refunded."""
    flow.memory.fail_with(Rejected("memory", "no"))
    with pytest.raises(SendFailed):
        flow.start(ip="192.0.2.1")
    assert [flow.used("site"), flow.used("user", "1"), flow.used("ip", "192.0.2.1")] == [0, 0, 1]
    assert outcome(lambda: flow.start(ip="192.0.2.1")) == "TooSoon"
    assert flow.memory.messages == []


def test_a_rejected_resend_keeps_the_cooldown(flow: Flow) -> None:
    challenge = flow.start()
    flow.clock.advance(31)
    flow.memory.fail_with(Rejected("memory", "no"))
    with pytest.raises(SendFailed):
        flow.verifier.resend(challenge)
    assert flow.verifier.load(challenge.id).resend_at > flow.clock.now
    assert outcome(lambda: flow.verifier.resend(challenge)) == "TooSoon"


def test_a_resend_that_fails_during_a_proof_refunds_the_address_once(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """During the resend, a right code is counted, and a wrong code exhausts the challenge."""
    flow = make_flow(sqlite, users=3, SMSVERIFY_LIMITS={"ip": "9/day"}, SMSVERIFY_MAX_ATTEMPTS=2)
    ip = "192.0.2.1"
    flow.start(2, ip=ip)
    flow.start(3, ip=ip)
    challenge = flow.start(ip=ip)
    flow.clock.advance(31)
    checker = flow.verifier._checker
    counted: list[Any] = []

    class Busy(Memory):
        def send_code(self, _message: Any) -> Any:
            charges = flow.verifier._guesses.charges(challenge, ip)
            counted.append(checker._count(challenge, flow.code(challenge), charges))
            assert outcome(lambda: flow.check(challenge, flow.wrong(challenge))) == "WrongCode"
            raise Unavailable("busy", "down", written=False)

    flow.route(Busy(name="busy"))
    assert outcome(lambda: flow.start(ip=ip)) == "SendFailed"
    [guess] = counted
    checker._prove(guess, is_native=False, store=None)
    assert flow.verifier.status(flow.user()).state == "verified"
    assert flow.used("ip", ip) == 2, "the units of the other challenges"


@pytest.mark.parametrize("error", [Unavailable, Misconfigured])
def test_a_send_that_certainly_failed_is_refunded(
    flow: Flow, error: type[Unavailable | Misconfigured]
) -> None:
    flow.memory.fail_with(error("memory", "no"))
    with pytest.raises(SendFailed) as caught:
        flow.start(ip="192.0.2.1")
    assert [type(cause) for cause in caught.value.causes] == [error]
    for scope, key in [
        ("mobile", "+989123450001"),
        ("user", "1"),
        ("mobiles_per_user", "1"),
        ("ip", "192.0.2.1"),
        ("site", ""),
    ]:
        assert flow.used(scope, key) == 0, scope
    assert flow.verifier.latest(flow.user()).state == Challenge.CANCELLED
    again = flow.start()
    assert (again.resend_at - flow.clock.now).total_seconds() == 30


def test_a_send_that_may_have_succeeded_stays_counted(flow: Flow) -> None:
    """Case 48."""
    flow.memory.fail_with(Unknown("memory", "no answer"), arrives=True)
    challenge = flow.start()
    assert flow.used("site") == 1
    assert flow.verifier.last_message(challenge).state == "unknown"
    assert flow.check(challenge, flow.memory.last.code).verified_at


def test_a_proof_refunds_every_address_that_requested_its_code(flow: Flow) -> None:
    challenge = flow.start(ip="192.0.2.1")
    flow.clock.advance(31)
    flow.verifier.resend(challenge, ip="192.0.2.2")
    flow.clock.advance(61)
    flow.verifier.resend(challenge, ip="192.0.2.1")
    assert flow.used("ip", "192.0.2.1") == 2
    flow.check(challenge, flow.code(challenge))
    assert flow.used("ip", "192.0.2.1") == flow.used("ip", "192.0.2.2") == 0
    assert flow.used("mobile", "+989123450001") == flow.used("site") == 3


def test_a_failed_resend_refunds_only_its_own_address_unit(flow: Flow) -> None:
    """The units of both sends are equal: same slice, same window."""
    flow.start(2, ip="192.0.2.1")
    challenge = flow.start(ip="192.0.2.1")
    flow.clock.advance(31)
    flow.memory.fail_with(Unavailable("memory", "down"))
    assert outcome(lambda: flow.verifier.resend(challenge, ip="192.0.2.1")) == "SendFailed"
    assert flow.used("ip", "192.0.2.1") == 2
    flow.check(challenge, flow.code(challenge))
    assert flow.used("ip", "192.0.2.1") == 1, "the unit of the other challenge"


def test_a_send_that_fails_after_the_proof_refunds_no_address_unit_twice(flow: Flow) -> None:
    other = flow.start(2, ip="192.0.2.1")
    challenge = flow.start(ip="192.0.2.1")
    flow.clock.advance(31)
    send = flow.memory.send_code

    def prove_first(message: Any) -> Any:
        flow.check(challenge, message.code)
        return send(message)

    flow.memory.fail_with(Unavailable("memory", "down"))
    flow.memory.send_code = prove_first  # type: ignore[method-assign]  # a proof at this moment
    assert outcome(lambda: flow.verifier.resend(challenge, ip="192.0.2.1")) == "SendFailed"
    assert flow.used("ip", "192.0.2.1") == 1, "the unit of the other challenge still counts"
    assert flow.verifier.load(other.id).state == Challenge.PENDING
    assert flow.used("site") == 2
