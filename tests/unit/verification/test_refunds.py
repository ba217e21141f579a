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


def test_a_rejected_number_counts_a_try_and_keeps_the_cooldown(flow: Flow) -> None:
    """Otherwise refused numbers would allow unlimited gateway calls. Other units are refunded."""
    flow.memory.fail_with(Rejected("memory", "no"))
    with pytest.raises(SendFailed):
        flow.start(ip="192.0.2.1")
    assert [flow.used("site"), flow.used("user", "1"), flow.used("ip", "192.0.2.1")] == [0, 0, 0]
    assert flow.used("tries", "192.0.2.1") == flow.used("tries_network", "192.0.2.9") == 1
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


def test_a_refunded_send_frees_its_unit_of_the_site_if_others_have_left_the_window(
    flow: Flow,
) -> None:
    flow.start()
    flow.clock.advance(86_400)
    flow.memory.fail_with(Unavailable("memory", "no"))
    with pytest.raises(SendFailed):
        flow.start()
    assert flow.used("site") == 0


def test_a_send_to_a_foreign_mobile_that_failed_is_refunded(
    make_flow: Callable[..., Flow], sqlite: str
) -> None:
    flow = make_flow(
        sqlite, SMSVERIFY_ALLOWED_REGIONS=("IR", "AE"), SMSVERIFY_LIMITS={"foreign": "1/day"}
    )
    flow.memory.fail_with(Unavailable("memory", "no"))
    with pytest.raises(SendFailed):
        flow.start(mobile="+971501234561")
    assert flow.used("foreign") == 0
    flow.start(mobile="+971501234562")
    assert flow.used("foreign") == 1


@pytest.mark.parametrize("refused_by", ["first", "second"])
def test_a_number_that_one_gateway_refused_keeps_the_cooldown_whatever_the_others_said(
    flow: Flow, refused_by: str
) -> None:
    """Else an outage of one gateway would allow unlimited calls of the other."""
    first, second = Memory(name="first"), Memory(name="second")
    flow.route(first, second)
    for memory in (first, second):
        error = Rejected if memory.name == refused_by else Unavailable
        memory.fail_with(error(memory.name, "no"))
    with pytest.raises(SendFailed):
        flow.start(ip="192.0.2.1")
    assert flow.used("tries", "192.0.2.1") == 1
    assert outcome(lambda: flow.start(ip="192.0.2.1")) == "TooSoon"


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


def test_a_send_that_fails_after_its_code_was_entered_does_not_cancel_the_challenge(
    flow: Flow,
) -> None:
    send = flow.memory.send_code

    def prove_first(message: Any) -> Any:
        flow.check(flow.verifier.latest(flow.user()), message.code)
        return send(message)

    flow.memory.fail_with(Unavailable("memory", "down"))
    flow.memory.send_code = prove_first  # type: ignore[method-assign]  # a proof at this moment
    assert outcome(flow.start) == "SendFailed"
    assert flow.verifier.latest(flow.user()).state == Challenge.VERIFIED
    assert flow.state_of(1) == "verified"


def test_a_send_that_fails_while_its_account_is_erased_is_refunded(flow: Flow) -> None:
    send = flow.memory.send_code

    def erase_first(message: Any) -> Any:
        flow.verifier.forget(flow.user())
        return send(message)

    flow.memory.fail_with(Unavailable("memory", "down"))
    flow.memory.send_code = erase_first  # type: ignore[method-assign]  # at this moment
    assert outcome(flow.start) == "SendFailed"
    assert flow.used("site") == 0
    assert flow.verifier.latest(flow.user()) is None
