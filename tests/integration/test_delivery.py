"""Delivery: failover, deadline, cap on calls in flight, breakers, and the rows of attempts."""

from __future__ import annotations

import logging
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from decimal import Decimal, localcontext
from typing import Any

import pytest
from clocks import Stopwatch
from conftest import MakeApp
from flask import Flask
from hostapp import User, db
from sqlalchemy import select
from sqlalchemy.orm import Session

from flask_smsverify.db.ledger import Ledger
from flask_smsverify.db.models import Attempt, Message
from flask_smsverify.delivery import Delivered, Delivery, Routes
from flask_smsverify.delivery.attempts import Attempts
from flask_smsverify.delivery.breaker import FAILURE_THRESHOLD, OPEN_SECONDS, Breakers
from flask_smsverify.errors import (
    ChannelUnavailable,
    ConfigurationError,
    Misconfigured,
    Rejected,
    SenderError,
    SendFailed,
    StoreUnavailable,
    TextRefused,
    Unavailable,
    Unknown,
)
from flask_smsverify.senders.base import (
    Capability,
    CodeMessage,
    DeliveryState,
    Receipt,
    Sender,
    Text,
)
from flask_smsverify.senders.memory import Memory
from flask_smsverify.senders.raygan import Raygan
from flask_smsverify.senders.registry import build
from flask_smsverify.simulator import Simulator
from flask_smsverify.testing import (
    LoopbackGateway,
    Reply,
    drip_body,
    drip_head,
    hang,
    hang_after_head,
    outbox,
)

MOBILE = "+989123456789"
CODE = "480192"
CODE_TEXT = f"Your code for the shop is {CODE}"
TEXT = "Gooseberry marmalade ripens on Thursday"
#: Seconds to wait for a thread, on a slow machine too.
_WAIT = 60

OWN = frozenset({Capability.CODE_SMS, Capability.CODE_VOICE, Capability.TEXT})
NATIVE = frozenset({Capability.NATIVE_CODE})

#: What a fake sender does with a call: raise an error, return a receipt, or run a function.
Answer = Exception | DeliveryState | Receipt | Callable[[], Receipt]


class FakeSender(Sender):
    """A sender with a list of answers, one for each call. The last answer is repeated."""

    gateway = "fake"

    def __init__(
        self,
        name: str,
        *answers: Answer,
        capabilities: frozenset[Capability] = OWN,
        verdict: object = True,
    ) -> None:
        super().__init__(name=name)
        self.answers: list[Answer] = list(answers) or [DeliveryState.SENT]
        self.calls: list[str] = []
        self.references: list[str] = []
        self._capabilities = capabilities
        self._verdict = verdict
        self._lock = threading.Lock()

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._capabilities

    def _answer(self, call: str) -> Receipt:
        with self._lock:
            self.calls.append(call)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Receipt):
            return answer
        if isinstance(answer, DeliveryState):
            return Receipt(MOBILE, answer, f"{self.name}-{len(self.calls)}")
        return answer()

    def send_code(self, message: CodeMessage) -> Receipt:
        return self._answer(message.channel)

    def send_native_code(self, to: str) -> Receipt:
        return self._answer("native")

    def send_text(self, to: str, text: str, *, reference: str = "") -> Receipt:
        self.references.append(reference)
        return self._answer("text")

    def check_native_code(self, to: str, code: str) -> bool:
        self.calls.append("check")
        if isinstance(self._verdict, Exception):
            raise self._verdict
        return self._verdict  # type: ignore[return-value] -- a host's gateway may return anything


class FakeJob:
    """A `Job` that sends one code and counts what the delivery asks of it."""

    def __init__(
        self,
        attempts: Attempts,
        channel: str = "sms",
        *,
        allows_second_copy: bool = True,
        skipped: frozenset[str] = frozenset(),
    ) -> None:
        self.kind = channel
        self.second_copies_reserved = 0
        self.second_copies_refunded = 0
        self.undone: list[str] = []
        self._attempts = attempts
        self._allows_second_copy = allows_second_copy
        self._skipped = skipped
        self._code = CodeMessage(MOBILE, CODE, CODE_TEXT, channel)  # type: ignore[arg-type] -- a channel
        now = attempts.new("", FakeSender("any")).created_at
        self.message = Message(
            id=secrets.token_hex(16),
            kind=Message.CODE,
            challenge_id="c" * 32,
            user_id="1",
            recipient=MOBILE,
            channel=channel,
            state=Attempt.SENDING,
            created_at=now,
            updated_at=now,
        )

    def can_use(self, sender: Sender) -> bool:
        return True

    def open_attempt(self, session: Session, sender: Sender) -> Attempt | None:
        if sender.name in self._skipped:
            return None
        session.merge(self.message)
        native = Capability.NATIVE_CODE in sender.capabilities
        return self._attempts.new(self.message.id, sender, native=native)

    def call(self, sender: Sender, attempt: Attempt) -> Receipt:
        if attempt.native:
            return sender.send_native_code(MOBILE)
        return sender.send_code(self._code)

    def may_send_second_copy(self) -> bool:
        self.second_copies_reserved += self._allows_second_copy
        return self._allows_second_copy

    def second_copy_failed(self) -> None:
        self.second_copies_refunded += 1

    def attempt_failed(self, attempt: Attempt) -> None:
        self.undone.append(attempt.sender)


class Harness:
    """Builds deliveries over fake senders, and reads the rows that they write."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.seconds = 120.0
        self.in_flight = 8
        self.delivery: Delivery | None = None

    def build(self, *senders: Sender) -> Delivery:
        self.delivery = Delivery(
            self.ledger,
            Routes({sender.name: sender for sender in senders}, {}),
            self._new_attempts(),
            seconds=self.seconds,
            in_flight=self.in_flight,
        )
        return self.delivery

    def _new_attempts(self) -> Attempts:
        return Attempts(self.ledger, emit=lambda signal, **values: signal.send(self, **values))

    def job(self, channel: str = "sms", **options: Any) -> FakeJob:
        return FakeJob(self._new_attempts(), channel, **options)

    def send_code(
        self, *senders: Sender, channel: str = "sms", job: FakeJob | None = None
    ) -> Delivered:
        return self.build(*senders).deliver(job or self.job(channel))

    def send_text(self, *senders: Sender) -> Delivered:
        return self.build(*senders).send_text(Text(MOBILE, TEXT, "ref-1"))

    def use_stopwatch(self) -> Stopwatch:
        """Replace the breakers of the delivery by new ones that use a stopwatch."""
        assert self.delivery is not None
        stopwatch = Stopwatch()
        self.delivery._calls.breakers = Breakers(clock=stopwatch)
        return stopwatch

    def messages(self) -> list[Message]:
        return self.ledger.read(
            lambda session: list(session.scalars(select(Message).order_by(Message.created_at)))
        )

    def rows(self) -> list[Attempt]:
        """Return the attempts in their order. No cause may contain what was sent."""
        attempts = self.ledger.read(
            lambda session: list(session.scalars(select(Attempt).order_by(Attempt.created_at)))
        )
        for attempt in attempts:
            assert not re.search(r"\d{4,}", attempt.cause or "")
            assert not {"Gooseberry", "marmalade", "shop"} & set((attempt.cause or "").split())
        return attempts

    def attempts(self) -> list[tuple[str, str]]:
        """Return the sender and the state of every attempt, in order."""
        return [(attempt.sender, attempt.state) for attempt in self.rows()]


@pytest.fixture
def harness(app: Flask) -> Iterator[Harness]:
    harness = Harness(app.extensions["smsverify"].ledger)
    yield harness
    if harness.delivery is not None:
        harness.delivery.close()


def unavailable(name: str, **options: bool) -> Unavailable:
    return Unavailable(name, "it is down", **options)


def rejected(name: str) -> Rejected:
    return Rejected(name, "this number is refused")


def unknown(name: str) -> Unknown:
    return Unknown(name, "no whole answer")


def misconfigured(name: str) -> Misconfigured:
    return Misconfigured(name, "there is no such line")


# --- failover of codes ----------------------------------------------------------------------------


def test_a_sender_that_takes_the_code_ends_the_route(harness: Harness) -> None:
    one, other = FakeSender("one", DeliveryState.QUEUED), FakeSender("other")
    assert harness.send_code(one, other) == Delivered(DeliveryState.QUEUED, "one", native=False)
    assert (one.calls, other.calls) == (["sms"], [])
    [message], [attempt] = harness.messages(), harness.rows()
    assert (message.kind, message.state) == ("code", "queued")
    assert (message.recipient, message.channel) == (MOBILE, "sms")
    assert (message.challenge_id, message.user_id) == ("c" * 32, "1")
    assert (attempt.message_id, attempt.state) == (message.id, "queued")
    assert (attempt.gateway_id, attempt.cause) == ("one-1", None)


def test_an_unavailable_sender_is_followed_by_the_next(harness: Harness) -> None:
    one, other, job = FakeSender("one", unavailable("one")), FakeSender("other"), harness.job()
    assert harness.send_code(one, other, job=job).sender == "other"
    assert harness.attempts() == [("one", "failed"), ("other", "sent")]
    assert harness.rows()[0].cause == "it is down"
    assert [message.state for message in harness.messages()] == ["sent"]
    assert job.second_copies_reserved == 0, "the first sender certainly sent nothing"


def test_a_text_that_one_gateway_does_not_carry_is_sent_by_the_next(harness: Harness) -> None:
    refusal = TextRefused("one", "the text contains a link", gateway="fake", code="14")
    delivered = harness.send_code(FakeSender("one", refusal), FakeSender("other"))
    assert delivered.sender == "other"
    assert harness.attempts() == [("one", "failed"), ("other", "sent")]


@pytest.mark.parametrize(
    ("make", "level"), [(rejected, logging.WARNING), (misconfigured, logging.ERROR)]
)
def test_a_refusal_or_a_misconfiguration_ends_the_route(
    harness: Harness,
    make: Callable[[str], SenderError],
    level: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    error, other = make("one"), FakeSender("other")
    with pytest.raises(SendFailed) as failed:
        harness.send_code(FakeSender("one", error), other)
    assert failed.value.causes == (error,)
    assert not failed.value.maybe_sent
    assert other.calls == []
    assert harness.attempts() == [("one", "failed")]
    [record] = [record for record in caplog.records if record.name.endswith("delivery.calls")]
    assert record.levelno == level
    assert record.getMessage() == f"{type(error).__name__}: {error}"


def test_send_failed_has_the_cause_of_every_attempt_in_order(harness: Harness) -> None:
    causes = [unavailable("one"), unavailable("two"), rejected("three")]
    with pytest.raises(SendFailed) as failed:
        harness.send_code(*(FakeSender(cause.sender, cause) for cause in causes), FakeSender("4"))
    assert failed.value.causes == tuple(causes)
    assert harness.attempts() == [("one", "failed"), ("two", "failed"), ("three", "failed")]
    assert [message.state for message in harness.messages()] == ["failed"]


def test_after_unknown_a_code_goes_out_once_more_by_the_next_sender(harness: Harness) -> None:
    job = harness.job()
    one, other = FakeSender("one", unknown("one")), FakeSender("other")
    assert harness.send_code(one, other, job=job).sender == "other"
    assert harness.attempts() == [("one", "unknown"), ("other", "sent")]
    assert [message.state for message in harness.messages()] == ["sent"]
    assert (job.second_copies_reserved, job.second_copies_refunded) == (1, 0)


def test_a_third_copy_is_never_sent(harness: Harness) -> None:
    job, third = harness.job(), FakeSender("three")
    senders = [FakeSender("one", unknown("one")), FakeSender("two", unknown("two")), third]
    delivered = harness.send_code(*senders, job=job)
    assert (delivered.state, delivered.sender) == (DeliveryState.UNKNOWN, "one")
    assert third.calls == []
    assert (job.second_copies_reserved, job.second_copies_refunded) == (1, 0)


def test_a_second_copy_is_reserved_once_for_all_senders(harness: Harness) -> None:
    job = harness.job()
    senders = [FakeSender("one", unknown("one")), FakeSender("two", unavailable("two"))]
    assert harness.send_code(*senders, FakeSender("three"), job=job).sender == "three"
    assert (job.second_copies_reserved, job.second_copies_refunded) == (1, 0)


def test_a_second_copy_that_no_sender_takes_is_refunded(harness: Harness) -> None:
    job = harness.job()
    senders = [FakeSender("one", unknown("one")), FakeSender("two", unavailable("two"))]
    delivered = harness.send_code(*senders, FakeSender("three", rejected("three")), job=job)
    assert (delivered.state, delivered.sender) == (DeliveryState.UNKNOWN, "one")
    assert (job.second_copies_reserved, job.second_copies_refunded) == (1, 1)


def test_a_job_that_allows_no_second_copy_sends_none(harness: Harness) -> None:
    job, other = harness.job(allows_second_copy=False), FakeSender("other")
    delivered = harness.send_code(FakeSender("one", unknown("one")), other, job=job)
    assert delivered.state is DeliveryState.UNKNOWN
    assert other.calls == []
    assert job.second_copies_refunded == 0


def test_a_second_copy_is_sent_if_an_earlier_sender_certainly_failed(harness: Harness) -> None:
    job = harness.job()
    senders = [FakeSender("one", unavailable("one")), FakeSender("two", unknown("two"))]
    assert harness.send_code(*senders, FakeSender("three"), job=job).sender == "three"
    assert job.second_copies_reserved == 1


@pytest.mark.parametrize(
    ("receipt", "state"),
    [
        (Receipt(MOBILE, DeliveryState.REJECTED, error=rejected("one")), None),
        (Receipt(MOBILE, DeliveryState.SENT, error=rejected("one")), None),
        (Receipt(MOBILE, DeliveryState.REJECTED), None),
        (Receipt(MOBILE, DeliveryState.UNDELIVERED), None),
        (Receipt(MOBILE, DeliveryState.UNKNOWN), DeliveryState.UNKNOWN),
        (Receipt(MOBILE, DeliveryState.UNKNOWN, error=unknown("one")), DeliveryState.UNKNOWN),
    ],
)
def test_a_receipt_that_reports_a_failure_counts_as_that_failure(
    harness: Harness, receipt: Receipt, state: DeliveryState | None
) -> None:
    if state is None:
        with pytest.raises(SendFailed) as failed:
            harness.send_code(FakeSender("one", receipt))
        assert isinstance(failed.value.causes[0], Rejected)
        assert harness.attempts() == [("one", "failed")]
    else:
        assert harness.send_code(FakeSender("one", receipt)).state is state
        assert harness.send_code(FakeSender("one", receipt), FakeSender("other")).sender == "other"
        assert harness.attempts() == [("one", "unknown"), ("one", "unknown"), ("other", "sent")]


def test_an_unexpected_exception_of_a_sender_counts_as_unknown(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    bug = KeyError(f"{MOBILE} {CODE_TEXT}")
    assert harness.send_code(FakeSender("one", bug), FakeSender("other")).sender == "other"
    assert harness.attempts() == [("one", "unknown"), ("other", "sent")]
    assert harness.rows()[0].cause == "its code raised KeyError"
    assert "the code of one failed: KeyError at" in caplog.text
    assert "in _answer" in caplog.text
    assert CODE not in caplog.text
    assert MOBILE not in caplog.text


def test_a_send_without_a_receipt_counts_as_unknown(harness: Harness) -> None:
    sender = FakeSender("one", lambda: None)  # type: ignore[arg-type, return-value] -- a bug of a host
    assert harness.send_code(sender).state is DeliveryState.UNKNOWN


def test_a_configuration_error_of_a_sender_is_raised_and_ends_the_route(harness: Harness) -> None:
    other = FakeSender("other")
    with pytest.raises(ConfigurationError):
        harness.send_code(FakeSender("one", ConfigurationError("wrong")), other)
    assert other.calls == []


def test_a_voice_code_goes_to_senders_that_can_call(harness: Harness) -> None:
    sms_only = FakeSender("sms", capabilities=frozenset({Capability.CODE_SMS}))
    assert harness.send_code(sms_only, FakeSender("other"), channel="voice").sender == "other"
    [message] = harness.messages()
    assert message.channel == "voice"
    with pytest.raises(ChannelUnavailable):
        harness.send_code(sms_only, channel="voice")


# --- what the job decides -------------------------------------------------------------------------


def test_a_delivery_states_whether_the_gateway_generated_the_code(harness: Harness) -> None:
    assert harness.send_code(FakeSender("one", capabilities=NATIVE)).native
    [attempt] = harness.rows()
    assert attempt.native
    delivered = harness.send_code(
        FakeSender("one", unknown("one"), capabilities=NATIVE), FakeSender("other")
    )
    assert (delivered.sender, delivered.native) == ("other", False)


def test_an_attempt_is_undone_only_if_it_certainly_sent_nothing(harness: Harness) -> None:
    for make in (unavailable, rejected, misconfigured):
        job = harness.job()
        with pytest.raises(SendFailed):
            harness.send_code(FakeSender("one", make("one")), job=job)
        assert job.undone == ["one"], make
    for answer in (unknown("one"), KeyError("a bug"), DeliveryState.SENT):
        job = harness.job()
        harness.send_code(FakeSender("one", answer), job=job)
        assert job.undone == [], answer


def test_a_sender_that_the_job_skips_is_neither_called_nor_recorded(harness: Harness) -> None:
    skipped = FakeSender("skipped")
    job = harness.job(skipped=frozenset({"skipped"}))
    assert harness.send_code(skipped, FakeSender("other"), job=job).sender == "other"
    assert (skipped.calls, harness.attempts()) == ([], [("other", "sent")])
    with pytest.raises(SendFailed) as failed:
        harness.send_code(skipped, job=job)
    assert failed.value.causes == ()


# --- native verdicts ------------------------------------------------------------------------------


def test_a_native_verdict_is_returned(harness: Harness) -> None:
    for verdict in (True, False):
        delivery = harness.build(FakeSender("one", capabilities=NATIVE, verdict=verdict))
        assert delivery.check_native_code("one", MOBILE, CODE) is verdict


def test_a_verdict_that_is_not_a_boolean_is_unknown(harness: Harness) -> None:
    for verdict in ("false", 1, None, KeyError("x"), unknown("one")):
        delivery = harness.build(FakeSender("one", capabilities=NATIVE, verdict=verdict))
        with pytest.raises(Unknown) as error:
            delivery.check_native_code("one", MOBILE, CODE)
        assert error.value.written, verdict


def test_a_sender_that_is_no_longer_configured_is_unavailable_and_was_not_called(
    harness: Harness,
) -> None:
    with pytest.raises(Unavailable) as error:
        harness.build(FakeSender("one")).check_native_code("gone", MOBILE, CODE)
    assert not error.value.written


# --- texts ----------------------------------------------------------------------------------------


def test_a_text_goes_to_the_next_sender_if_the_first_is_unavailable(harness: Harness) -> None:
    one, other = FakeSender("one", unavailable("one")), FakeSender("other")
    assert harness.send_text(one, other) == Delivered(DeliveryState.SENT, "other", native=False)
    assert harness.attempts() == [("one", "failed"), ("other", "sent")]
    assert harness.rows()[1].gateway_id == "other-1"
    assert other.references == ["ref-1"]
    [message] = harness.messages()
    assert (message.kind, message.state, message.parts) == ("notice", "sent", 1)


@pytest.mark.parametrize("make", [unknown, rejected, misconfigured])
def test_a_text_that_may_have_been_sent_or_was_refused_is_not_sent_again(
    harness: Harness, make: Callable[[str], SenderError]
) -> None:
    error, other = make("one"), FakeSender("other")
    with pytest.raises(SendFailed) as failed:
        harness.send_text(FakeSender("one", error), other)
    assert failed.value.causes == (error,)
    assert failed.value.maybe_sent is isinstance(error, Unknown)
    assert other.calls == []


def test_texts_need_a_sender_that_can_send_texts(harness: Harness) -> None:
    with pytest.raises(ChannelUnavailable):
        harness.send_text(FakeSender("one", capabilities=NATIVE))


# --- the rows of attempts -------------------------------------------------------------------------


class FailingLedger(Ledger):
    """A ledger whose writes fail after a number of successful ones."""

    def __init__(self, ledger: Ledger, successes: int) -> None:
        self.clock = ledger.clock
        self.read = ledger.read  # type: ignore[method-assign] -- delegation
        self._ledger, self._successes = ledger, successes

    def run(self, work):  # type: ignore[no-untyped-def] -- as the ledger's
        self._successes -= 1
        if self._successes < 0:
            raise StoreUnavailable("the database did not take the write")
        return self._ledger.run(work)


def test_an_attempt_is_committed_before_the_gateway_is_called(harness: Harness) -> None:
    def read_attempts() -> Receipt:
        assert harness.attempts() == [("one", "sending")]
        return Receipt(MOBILE, DeliveryState.SENT)

    assert harness.send_code(FakeSender("one", read_attempts)).state is DeliveryState.SENT
    assert harness.attempts() == [("one", "sent")]


def test_no_gateway_is_called_if_the_attempt_cannot_be_written(harness: Harness) -> None:
    harness.ledger = FailingLedger(harness.ledger, 0)
    one = FakeSender("one")
    with pytest.raises(StoreUnavailable):
        harness.send_code(one)
    with pytest.raises(StoreUnavailable):
        harness.send_text(one)
    assert one.calls == []


def test_a_send_succeeds_even_if_its_receipt_cannot_be_written(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    real = harness.ledger
    for send in (harness.send_code, harness.send_text):
        harness.ledger = FailingLedger(real, 1)
        assert send(FakeSender("one")).state is DeliveryState.SENT
    assert len(re.findall(r"the outcome of attempt \w+ could not be recorded", caplog.text)) == 2
    assert MOBILE not in caplog.text
    assert harness.attempts() == [("one", "sending"), ("one", "sending")]


def test_a_second_copy_that_cannot_be_written_leaves_the_outcome_unknown(harness: Harness) -> None:
    harness.ledger = FailingLedger(harness.ledger, 2)  # the first attempt, and its failure
    job, other = harness.job(), FakeSender("other")
    delivered = harness.send_code(FakeSender("one", unknown("one")), other, job=job)
    assert delivered.state is DeliveryState.UNKNOWN
    assert other.calls == []
    assert job.second_copies_refunded == 1


def test_a_gateway_id_that_is_too_long_is_dropped_and_the_send_succeeds(
    database: str, make_app: MakeApp
) -> None:
    harness = Harness(make_app(database).extensions["smsverify"].ledger)
    ids = ["x" * 5000, "x" * 128, "شناسه", ""]
    for gateway_id in ids:
        receipt = Receipt(MOBILE, DeliveryState.SENT, gateway_id)
        assert harness.send_code(FakeSender("one", receipt)).state is DeliveryState.SENT
    assert harness.attempts() == [("one", "sent")] * 4
    assert {attempt.gateway_id for attempt in harness.rows()} == {None, *ids[1:]}


def test_the_cost_that_a_gateway_reports_is_stored_exactly(
    database: str, make_app: MakeApp
) -> None:
    harness = Harness(make_app(database).extensions["smsverify"].ledger)
    costs = ["0", "0.1", "1.10", "123456789012345.123456", "999999999999999", "0.000001"]
    for cost in costs:
        harness.send_code(
            FakeSender("one", Receipt(MOBILE, DeliveryState.SENT, cost=Decimal(cost)))
        )
    assert [attempt.cost for attempt in harness.rows()] == list(map(Decimal, costs))


def test_a_cost_that_is_no_amount_is_dropped_and_the_send_succeeds(harness: Harness) -> None:
    costs: list[Any] = [None, 1.5, "1", *map(Decimal, ("NaN", "sNaN", "Infinity", "-1", "1E+15"))]
    for cost in costs:
        receipt = Receipt(MOBILE, DeliveryState.SENT, cost=cost)
        assert harness.send_code(FakeSender("one", receipt)).state is DeliveryState.SENT
    assert harness.attempts() == [("one", "sent")] * len(costs)
    assert {attempt.cost for attempt in harness.rows()} == {None}


def test_a_cost_with_the_error_of_a_float_is_rounded(harness: Harness) -> None:
    for cost in ("3.3000000000000003", "1E-99999", "-0.0"):
        with localcontext(prec=3):  # as a host may have it
            harness.send_code(
                FakeSender("one", Receipt(MOBILE, DeliveryState.SENT, cost=Decimal(cost)))
            )
    assert [str(attempt.cost) for attempt in harness.rows()] == ["3.3", "0", "0"]


def test_an_outcome_that_a_database_refuses_is_logged(
    database: str, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    harness = Harness(make_app(database).extensions["smsverify"].ledger)
    receipt = Receipt(MOBILE, DeliveryState.SENT, "a\x00b\ud800")
    assert harness.send_code(FakeSender("one", receipt)).sender == "one"
    assert MOBILE not in caplog.text
    with pytest.raises(SendFailed):
        harness.send_code(FakeSender("one", Rejected("one", "é" * 500)))
    assert harness.rows()[-1].cause == "é" * 191


# --- the deadline ---------------------------------------------------------------------------------

#: The timeouts of the senders below, in seconds. A route that ends before half of this was ended by
#: its deadline and not by a timeout, however slow the machine is.
TIMEOUT = 300


@contextmanager
def a_full_backlog() -> Iterator[str]:
    """Yield an address whose queue of connections is full, so that connecting hangs."""
    with ExitStack() as stack:
        listener = stack.enter_context(closing(socket.socket()))
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def make_raygan(name: str, url: str, *, timeout: float = TIMEOUT, native: bool = False) -> Raygan:
    return Raygan(
        username="u",
        password="p",
        native_codes=native,
        base_url=url,
        timeout=(timeout, timeout, timeout),
        name=name,
    )


@contextmanager
def ended_by_the_deadline() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < TIMEOUT / 2


def loopback() -> LoopbackGateway:
    return LoopbackGateway(lambda _: Reply(200, b"6001"), hang_seconds=TIMEOUT)


def test_one_deadline_covers_a_route_of_hanging_gateways(harness: Harness) -> None:
    """Case 47."""
    misbehaviours = (hang, hang_after_head, drip_head, drip_body)
    for misbehaviour in misbehaviours:
        with loopback() as gateway:
            gateway.misbehave = misbehaviour
            senders = [make_raygan(f"r{number}", gateway.url) for number in range(4)]
            delivered = within_a_deadline(harness, senders)
            assert delivered.state is DeliveryState.UNKNOWN, misbehaviour
    attempts = [attempt for attempt in harness.attempts() if attempt[1] != "failed"]
    assert attempts == [("r0", "unknown")] * len(misbehaviours)


def within_a_deadline(harness: Harness, senders: Sequence[Sender]) -> Delivered:
    """Send a code with a short deadline, or a longer one if the request had no time to begin."""
    for seconds in (0.7, 2.0, 5.0):
        harness.seconds = seconds
        with ended_by_the_deadline(), suppress(SendFailed):
            return harness.send_code(*senders)
    pytest.fail("no deadline left time for a request")


def test_connections_that_hang_end_at_the_deadline_and_nothing_was_sent(harness: Harness) -> None:
    harness.seconds = 0.7
    with a_full_backlog() as url, ended_by_the_deadline(), pytest.raises(SendFailed) as failed:
        harness.send_code(*(make_raygan(f"r{number}", url) for number in range(4)))
    assert [cause.written for cause in failed.value.causes] == [False]


def test_a_sender_that_hangs_leaves_time_for_the_next(harness: Harness) -> None:
    with a_full_backlog() as url, loopback() as gateway:
        delivered = harness.send_code(
            make_raygan("slow", url, timeout=0.2), make_raygan("good", gateway.url)
        )
    assert delivered.sender == "good"
    assert harness.attempts() == [("slow", "failed"), ("good", "sent")]


def test_the_first_sender_is_tried_however_short_the_deadline_is(harness: Harness) -> None:
    harness.seconds = 0.3
    other = FakeSender("other")
    with pytest.raises(SendFailed):
        harness.send_code(FakeSender("one", unavailable("one")), other)
    assert other.calls == [], "too little time is left for another sender"
    assert harness.send_code(FakeSender("one")).sender == "one"
    assert harness.send_text(FakeSender("one")).sender == "one"


def test_a_native_verdict_has_the_deadline_too(harness: Harness) -> None:
    harness.seconds = 0.5
    with loopback() as gateway:
        gateway.misbehave = drip_head
        delivery = harness.build(make_raygan("r", gateway.url, native=True))
        with ended_by_the_deadline(), pytest.raises(Unknown):
            delivery.check_native_code("r", MOBILE, CODE)


# --- calls in flight ------------------------------------------------------------------------------


def test_a_sender_with_too_many_calls_in_flight_is_followed_by_the_next(harness: Harness) -> None:
    harness.in_flight = 2
    started, leave = threading.Semaphore(0), threading.Event()

    def wait() -> Receipt:
        started.release()
        assert leave.wait(_WAIT)
        return Receipt(MOBILE, DeliveryState.SENT)

    slow, other = FakeSender("slow", wait), FakeSender("other")
    delivery = harness.build(slow, other)
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(delivery.deliver, harness.job()) for _ in range(2)]
        for _ in waiting:
            assert started.acquire(timeout=_WAIT)
        assert delivery.deliver(harness.job()).sender == "other"
        leave.set()
        assert [sent.result().sender for sent in waiting] == ["slow", "slow"]
    assert delivery.deliver(harness.job()).sender == "slow", "its calls have ended"
    failed = [attempt for attempt in harness.rows() if attempt.state == "failed"]
    assert [(attempt.sender, attempt.cause) for attempt in failed] == [
        ("slow", "too many calls are in flight")
    ]
    assert delivery.breakers.state("slow") == "closed", "the cap is no failure of the sender"


def test_while_a_sender_hangs_on_8_sends_the_others_go_by_the_next_at_once(
    make_app: MakeApp, database: str
) -> None:
    """Case 81, with the default settings."""
    started, leave = threading.Semaphore(0), threading.Event()

    def hang() -> Receipt:
        started.release()
        assert leave.wait(_WAIT)
        return Receipt(MOBILE, DeliveryState.SENT)

    app = make_app(database, users=20)
    state = app.extensions["smsverify"]
    slow, other = FakeSender("slow", hang), FakeSender("other")
    state.delivery.use_routes(Routes({"slow": slow, "other": other}, {}))

    def start(number: int) -> None:
        with app.app_context():
            state.verifier.start(db.session.get(User, number))

    with ThreadPoolExecutor(8) as threads:
        hanging = [threads.submit(start, number) for number in range(1, 9)]
        for _ in hanging:
            assert started.acquire(timeout=_WAIT)
        for number in range(9, 21):
            start(number)  # would wait for the deadline at the sender that hangs
        assert len(other.calls) == 12
        leave.set()
        for sent in hanging:
            sent.result()
    assert len(slow.calls) == 8


def test_a_call_that_fails_is_no_longer_in_flight(harness: Harness) -> None:
    harness.in_flight = 1
    for error in (unavailable("one"), unknown("one"), rejected("one"), KeyError("x")):
        delivery = harness.build(FakeSender("one", error, error, error, DeliveryState.SENT))
        for _ in range(3):
            try:
                delivery.deliver(harness.job())
            except SendFailed as failed:
                assert failed.causes == (error,)  # noqa: PT017 -- not the cap's error
        assert delivery.deliver(harness.job()).state is DeliveryState.SENT, error


# --- breakers -------------------------------------------------------------------------------------


def test_a_failing_sender_is_skipped_until_a_probe_succeeds(harness: Harness) -> None:
    one = FakeSender("one", *[unavailable("one")] * FAILURE_THRESHOLD, DeliveryState.SENT)
    delivery = harness.build(one, FakeSender("other"))
    stopwatch = harness.use_stopwatch()
    for _ in range(FAILURE_THRESHOLD + 3):
        assert delivery.deliver(harness.job()).sender == "other"
    assert len(one.calls) == FAILURE_THRESHOLD
    assert delivery.breakers.state("one") == "open"
    stopwatch.advance(OPEN_SECONDS)
    assert delivery.deliver(harness.job()).sender == "one"
    assert delivery.breakers.state("one") == "closed"


def test_a_sender_with_an_open_breaker_is_tried_after_all_others(harness: Harness) -> None:
    one = FakeSender("one", *[unavailable("one")] * FAILURE_THRESHOLD, DeliveryState.SENT)
    other = FakeSender("other", *[DeliveryState.SENT] * FAILURE_THRESHOLD, unavailable("other"))
    delivery = harness.build(one, other)
    harness.use_stopwatch()
    for _ in range(FAILURE_THRESHOLD):
        delivery.deliver(harness.job())
    assert delivery.breakers.state("one") == "open"
    assert delivery.deliver(harness.job()).sender == "one"
    assert harness.attempts()[-2:] == [("other", "failed"), ("one", "sent")]


def test_a_sender_with_an_open_breaker_gets_no_second_copy(harness: Harness) -> None:
    one = FakeSender("one", unavailable("one"))
    other = FakeSender("other", *[DeliveryState.SENT] * FAILURE_THRESHOLD, unknown("other"))
    delivery = harness.build(one, other)
    harness.use_stopwatch()
    for _ in range(FAILURE_THRESHOLD):
        delivery.deliver(harness.job())
    job = harness.job()
    assert delivery.deliver(job).state is DeliveryState.UNKNOWN
    assert len(one.calls) == FAILURE_THRESHOLD
    assert job.second_copies_reserved == 0


def test_a_route_of_open_breakers_is_still_tried_and_recovers(harness: Harness) -> None:
    one = FakeSender("one", unavailable("one"))
    other = FakeSender("other", unavailable("other"))
    delivery = harness.build(one, other)
    for _ in range(FAILURE_THRESHOLD * 2):
        with pytest.raises(SendFailed) as failed:
            delivery.deliver(harness.job())
        assert [cause.sender for cause in failed.value.causes] == ["one", "other"]
    one.answers = other.answers = [DeliveryState.SENT]
    assert [delivery.deliver(harness.job()).sender for _ in range(2)] == ["one", "one"]
    assert delivery.breakers.state("one") == "closed"


@pytest.mark.parametrize("make", [rejected, misconfigured])
def test_refusals_and_misconfigurations_open_no_breaker(
    harness: Harness, make: Callable[[str], SenderError]
) -> None:
    answers: list[Answer] = [*[make("one")] * FAILURE_THRESHOLD, DeliveryState.SENT]
    other = FakeSender("other")
    delivery = harness.build(FakeSender("one", *answers * FAILURE_THRESHOLD), other)
    for _ in range(FAILURE_THRESHOLD):
        for _ in range(FAILURE_THRESHOLD):
            with pytest.raises(SendFailed):
                delivery.deliver(harness.job())
        assert delivery.deliver(harness.job()).sender == "one"
    assert other.calls == []
    assert delivery.breakers.state("one") == "closed"


def test_one_of_many_parallel_calls_probes_a_sender(harness: Harness) -> None:
    callers = 12
    probing, leave = threading.Event(), threading.Event()

    def probe() -> Receipt:
        probing.set()
        assert leave.wait(_WAIT)
        return Receipt(MOBILE, DeliveryState.SENT)

    one = FakeSender("one", *[unavailable("one")] * FAILURE_THRESHOLD, probe)
    other = FakeSender("other")
    harness.in_flight = callers
    delivery = harness.build(one, other)
    stopwatch = harness.use_stopwatch()
    for _ in range(FAILURE_THRESHOLD):
        delivery.deliver(harness.job())
    stopwatch.advance(OPEN_SECONDS)
    barrier = threading.Barrier(callers)

    def send(_: int) -> str:
        barrier.wait(_WAIT)
        delivered = delivery.deliver(harness.job())
        if delivered.sender == "other" and len(other.calls) == FAILURE_THRESHOLD + callers - 1:
            leave.set()  # all other calls have ended
        return delivered.sender

    with ThreadPoolExecutor(callers) as threads:
        used = list(threads.map(send, range(callers)))
    assert probing.is_set()
    assert sorted(used) == ["one"] + ["other"] * (callers - 1)
    assert delivery.breakers.state("one") == "closed"


def test_a_probe_ends_with_its_delivery_whatever_the_outcome(harness: Harness) -> None:
    one = FakeSender("one", *[unavailable("one")] * FAILURE_THRESHOLD)
    delivery = harness.build(one, FakeSender("other"))
    stopwatch = harness.use_stopwatch()
    for _ in range(FAILURE_THRESHOLD):
        delivery.deliver(harness.job())
    for error in (rejected("one"), unknown("one"), ConfigurationError("wrong")):
        stopwatch.advance(OPEN_SECONDS)
        one.answers = [error]
        with suppress(SendFailed, ConfigurationError):
            delivery.deliver(harness.job())
        stopwatch.advance(OPEN_SECONDS)
        with delivery.breakers.admit("one") as is_admitted:
            assert is_admitted, error


# --- routes ---------------------------------------------------------------------------------------


def test_a_route_that_is_not_configured_has_every_capable_sender() -> None:
    native, own = FakeSender("native", capabilities=NATIVE), FakeSender("own")
    routes = Routes({"native": native, "own": own}, {"text": ["own"]})
    assert routes.route("sms") == [native, own]
    assert routes.route("voice") == routes.route("text") == [own]


def test_a_configured_route_keeps_its_order_and_has_each_sender_once() -> None:
    one, other = FakeSender("one"), FakeSender("other")
    senders = {"one": one, "other": other}
    routes = Routes(senders, {"sms": ["other", "one", "other"], "voice": []})
    assert routes.route("sms") == [other, one]
    assert not routes.can("voice")


def test_a_route_with_a_sender_that_is_not_capable_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"SMSVERIFY_ROUTES\['voice'\] names 'native'"):
        Routes({"native": FakeSender("native", capabilities=NATIVE)}, {"voice": ["native"]})


# --- built-in senders with the simulator, from the verifier on ------------------------------------

SENDERS = {
    "main": {
        "gateway": "raygan",
        "username": "u",
        "password": "p",
        "line": "50002910",
        "timeout": (_WAIT, _WAIT, _WAIT),
    },
    "spare": {
        "gateway": "smsir",
        "api_key": "k",
        "line": "30001234",
        "timeout": (_WAIT, _WAIT, _WAIT),
    },
}


@pytest.fixture
def shop(make_app: MakeApp, sqlite: str, simulator: Simulator) -> Iterator[Flask]:
    """An app whose senders use the simulator, with its context."""
    app = make_app(
        sqlite,
        SMSVERIFY_SENDERS=SENDERS,
        SMSVERIFY_SIMULATOR_URL=simulator.url,
        SMSVERIFY_SEND_DEADLINE=_WAIT,
        SMSVERIFY_LIMITS={"mobile": None, "user": None},
        SMSVERIFY_RESEND_DELAYS=(1,),
    )
    with app.app_context():
        yield app


def start(app: Flask) -> str:
    """Start a challenge for user 1; return the attempts at its code."""
    state = app.extensions["smsverify"]
    user = db.session.get(User, 1)
    db.session.rollback()
    challenge = state.verifier.start(user)
    rows = state.ledger.read(
        lambda session: session.execute(
            select(Attempt.sender, Attempt.native, Attempt.state)
            .join(Message, Message.id == Attempt.message_id)
            .where(Message.challenge_id == challenge.id)
            .order_by(Attempt.created_at)
        ).all()
    )
    return ", ".join(
        f"{sender} {'native' if native else 'own'} {state}" for sender, native, state in rows
    )


def check(app: Flask, code: object) -> None:
    user = db.session.get(User, 1)
    db.session.rollback()
    app.extensions["smsverify"].verifier.check(user, str(code))


def codes_by_gateway(simulator: Simulator) -> dict[str, str]:
    return {str(message["gateway"]): str(message["code"]) for message in simulator.messages()}


@pytest.mark.parametrize("fault", ["no_credit", "bad_credentials"])
def test_a_gateway_that_refuses_the_account_is_followed_by_the_next(
    shop: Flask, simulator: Simulator, fault: str
) -> None:
    simulator.fault("raygan", fault)
    assert start(shop) == "main native failed, spare own queued"
    [message] = simulator.messages()
    check(shop, message["code"])


@pytest.mark.parametrize("gateway", ["raygan", "smsir"])
def test_after_a_lost_native_answer_both_codes_are_right(
    shop: Flask, simulator: Simulator, gateway: str
) -> None:
    simulator.fault("raygan", "lost_answer", 1)
    assert start(shop) == "main native unknown, spare own queued"
    codes = codes_by_gateway(simulator)
    assert set(codes) == {"raygan", "smsir"}
    check(shop, codes[gateway])


def test_two_copies_of_an_own_code_are_the_same_code(app: Flask) -> None:
    with outbox(app) as box, app.app_context():
        delivery = app.extensions["smsverify"].delivery
        one, other = Memory(name="one"), Memory(name="other")
        one.fail_with(unknown("one"), arrives=True)
        with delivery.rerouted(Routes({"one": one, "other": other}, {})):
            start(app)
        assert one.last.code == other.last.code
        check(app, one.last.code)
        assert len(box) == 0


def test_delivery_recovers_from_an_outage_of_all_gateways_without_a_restart(
    shop: Flask, simulator: Simulator
) -> None:
    """Case 51."""
    for gateway in ("raygan", "smsir"):
        simulator.fault(gateway, "http_500")
    for _ in range(FAILURE_THRESHOLD + 1):
        with pytest.raises(SendFailed):
            start(shop)
    breakers = shop.extensions["smsverify"].delivery.breakers
    assert breakers.state("main") == breakers.state("spare") == "open"
    simulator.clear_faults()
    assert start(shop) == "main native sent"
    check(shop, simulator.messages()[0]["code"])


def test_a_bad_number_fails_alone_and_leaves_its_sender_in_use(
    simulator: Simulator, harness: Harness
) -> None:
    """Case 50."""
    delivery = harness.build(
        build("spare", SENDERS["spare"], registered={}, simulator_url=simulator.url)
    )
    for _ in range(FAILURE_THRESHOLD + 1):
        with pytest.raises(SendFailed) as failed:
            delivery.send_text(Text("+12025550123", TEXT))
        assert isinstance(failed.value.causes[0], Rejected)
        assert delivery.send_text(Text(MOBILE, TEXT)).state is DeliveryState.QUEUED
    assert delivery.breakers.state("spare") == "closed"
    sent_to = [message["to"] for message in simulator.messages()]
    assert sent_to == [MOBILE] * (FAILURE_THRESHOLD + 1)
    assert {state for _, state in harness.attempts()} == {"failed", "queued"}


@pytest.mark.parametrize("kind", [Unavailable, Unknown, Rejected, Misconfigured])
def test_a_gateways_reason_is_one_line_in_the_log_and_in_the_database(
    app: Flask, harness: Harness, caplog: pytest.LogCaptureFixture, kind: type[SenderError]
) -> None:
    """Case 45 of docs/safety.md: also if a host's own gateway passes text of the service on."""
    caplog.set_level(logging.DEBUG)
    reason = "no\r\nWARNING root: forged\x0b\x85\u2028\x1b[2J it is"
    with suppress(SendFailed):
        harness.send_code(FakeSender("one", kind("one", reason, code="7\r\n8")))
    delivery = harness.build(FakeSender("two", kind("two", reason)))
    workers = app.extensions["smsverify"].workers
    workers.submit(delivery.deliver, harness.job())
    workers.wait()
    assert [record for record in caplog.records if "forged" in record.getMessage()]
    written = [record.getMessage() for record in caplog.records]
    written += [attempt.cause or "" for attempt in harness.rows()]
    for line in written:
        assert len(line.splitlines()) <= 1
        assert "\x1b" not in line
