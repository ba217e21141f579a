"""Second copies: case 48 of docs/safety.md, from the limits to the attempts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flows import NO_LIMITS, Flow, Native

from flask_smsverify import signals
from flask_smsverify.db.models import Attempt, Challenge, Message, UsageSend
from flask_smsverify.errors import (
    RateLimited,
    Rejected,
    SendFailed,
    StoreUnavailable,
    Unavailable,
    Unknown,
)
from flask_smsverify.senders.memory import Memory

MakeFlow = Callable[..., Flow]


@pytest.mark.parametrize("native", [False, True])
def test_after_a_timeout_both_copies_are_right_and_both_are_counted(
    make_flow: MakeFlow, database: str, native: bool
) -> None:
    """Case 48."""
    for entered in (0, 1):
        flow = make_flow(database, users=2)
        number = entered + 1
        first: Any = Native(name="first") if native else Memory(name="first")
        second = Memory(name="second")
        flow.route(first, second)
        if native:
            first.sent.append(("+989123450001", "1111"))
            first.sent.append(("+989123450002", "1111"))
            first.sending.append(Unknown("first", "no answer"))
        else:
            first.fail_with(Unknown("first", "no answer"), arrives=True)
        before = flow.used("site")
        challenge = flow.start(number)
        assert flow.used("site") - before == 2
        codes = ["1111" if native else first.last.code, second.last.code]
        assert flow.check(challenge, codes[entered]).verified_at


def test_a_second_copy_that_was_not_sent_is_not_counted(flow: Flow) -> None:
    senders = [Memory(name=name) for name in ("first", "second", "third")]
    flow.route(*senders)
    senders[0].fail_with(Unknown("first", "no answer"), arrives=True)
    for sender in senders[1:]:
        sender.fail_with(Unavailable(sender.name, "down"))
    assert flow.start().state == Challenge.PENDING
    assert flow.used("site") == 1


def test_a_second_copy_that_uses_a_limit_up_is_reported(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS=NO_LIMITS | {"mobile": "2/hour"})
    first, second = Memory(name="first"), Memory(name="second")
    flow.route(first, second)
    first.fail_with(Unknown("first", "no answer"), arrives=True)
    reached: list[str] = []

    def receive(_app: Flask, scope: str, limit: str) -> None:
        reached.append(f"{scope} {limit}")

    with signals.limit_reached.connected_to(receive):
        flow.start()
    assert reached == ["mobile whole"]


def test_two_copies_are_counted_as_two(flow: Flow) -> None:
    senders = [Memory(name=name) for name in ("first", "second", "third")]
    flow.route(*senders)
    senders[0].fail_with(Unknown("first", "no answer"), arrives=True)
    senders[1].fail_with(Unavailable("second", "down"))
    flow.start()
    assert len(senders[2].messages) == 1
    assert flow.used("site") == flow.used("mobile", "+989123450001") == 2


def test_a_second_copy_counts_against_no_address_before_the_proof_and_after_it(flow: Flow) -> None:
    first, second = Memory(name="first"), Memory(name="second")
    flow.route(first, second)
    first.fail_with(Unknown("first", "no answer"), arrives=True)
    challenge = flow.start(ip="192.0.2.1")
    assert [flow.used("site"), flow.used("ip", "192.0.2.1")] == [2, 1]
    flow.check(challenge, second.last.code)
    assert [flow.used("site"), flow.used("ip", "192.0.2.1")] == [2, 0]
    rows = flow.state.ledger.read(lambda session: session.query(UsageSend).all())
    assert [row.challenge_id for row in rows] == [challenge.id, None]


def test_no_third_copy_is_sent(flow: Flow) -> None:
    senders = [Memory(name=name) for name in ("first", "second", "third")]
    flow.route(*senders)
    for sender in senders:
        sender.fail_with(Unknown(sender.name, "no answer"), arrives=True)
    flow.start()
    assert [len(sender.messages) for sender in senders] == [1, 1, 0]
    assert flow.used("site") == 2


def test_no_second_copy_is_sent_beyond_a_limit(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS={"site": "1/day"})
    first, second = Memory(name="first"), Memory(name="second")
    flow.route(first, second)
    first.fail_with(Unknown("first", "no answer"), arrives=True)
    challenge = flow.start()
    assert second.messages == []
    assert flow.check(challenge, first.last.code).verified_at


def test_a_database_failure_after_the_first_copy_does_not_fail_the_send(
    make_flow: MakeFlow, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = make_flow(sqlite)
    first, second = Memory(name="first"), Memory(name="second")
    flow.route(first, second)
    first.fail_with(Unknown("first", "no answer"), arrives=True)

    limits = flow.verifier._issuer._limits
    record = limits.record

    def record_once(*arguments: Any, **options: Any) -> Any:
        if first.messages:
            raise StoreUnavailable("down")
        return record(*arguments, **options)

    monkeypatch.setattr(limits, "record", record_once)
    challenge = flow.start()
    assert second.messages == []
    assert flow.check(challenge, first.last.code).verified_at


def test_a_refused_number_ends_the_route(flow: Flow) -> None:
    first, second = Memory(name="first"), Memory(name="second")
    flow.route(first, second)
    first.fail_with(Rejected("first", "black-listed"))
    with pytest.raises(SendFailed):
        flow.start()
    assert second.messages == []


def test_every_try_is_an_attempt_of_one_message(flow: Flow) -> None:
    first, second = Memory(name="first"), Memory(name="second")
    flow.route(first, second)
    first.fail_with(Unavailable("first", "down"))
    challenge = flow.start()
    attempts = flow.state.ledger.read(
        lambda session: [
            (row.sender, row.state) for row in session.query(Attempt).order_by(Attempt.sender)
        ]
    )
    assert attempts == [("first", "failed"), ("second", "sent")]
    [message] = flow.state.ledger.read(lambda session: session.query(Message).all())
    assert message.state == "sent"
    assert flow.verifier.last_message(challenge).id == message.id


def test_a_second_copy_for_a_stranger_counts_against_the_unproven_share(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """Case 26: otherwise failing gateways would let a stranger use up the owner's half."""
    flow = make_flow(sqlite, SMSVERIFY_LIMITS={"mobile": "5/hour"})
    flow.prove()
    flow.clock.advance(hours=2)
    first, second = Memory(name="first"), Memory(name="second")
    flow.route(first, second)
    sent = 0
    for _ in range(4):
        first.fail_with(Unknown("first", "no answer"), arrives=True)
        try:
            flow.sign_up("09123450001")
        except RateLimited:
            break
        sent += 1
        flow.clock.advance(130)
    assert sent == 2, "two copies each, of a share of three"
    flow.route(Memory(name="memory"))
    assert flow.start().sends == 1
