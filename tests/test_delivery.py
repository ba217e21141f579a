"""One thing through a route: failover where it can help, one deadline, every try in the ledger."""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from clocks import Stopwatch
from conftest import MakeApp, database_params
from flask import Flask
from hostapp import User, db
from sqlalchemy import select
from sqlalchemy.orm import Session

from flask_smsverify.db.ledger import Ledger
from flask_smsverify.db.models import Message
from flask_smsverify.delivery.breaker import FAILURES, REST, Breakers
from flask_smsverify.delivery.failover import CodeOrder, Delivered, Delivery, Routes
from flask_smsverify.errors import (
    ChannelUnavailable,
    ConfigurationError,
    Misconfigured,
    Rejected,
    SenderError,
    SendFailed,
    StoreUnavailable,
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
    Misbehaviour,
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

OWN = frozenset({Capability.CODE_SMS, Capability.CODE_VOICE, Capability.TEXT})
NATIVE = frozenset({Capability.NATIVE_CODE})

#: What a fake does when it is asked: raise an error, give a receipt, or be called.
Answer = SenderError | Exception | DeliveryState | Receipt | Callable[[], Receipt]


class Fake(Sender):
    """A sender that does what it was told, call by call; the last is repeated."""

    gateway = "fake"

    def __init__(
        self, name: str, *answers: Answer, can: frozenset[Capability] = OWN, verdict: object = True
    ) -> None:
        super().__init__(name=name)
        self.can = can
        self.answers: list[Answer] = list(answers) or [DeliveryState.SENT]
        self.verdict = verdict
        self.calls: list[str] = []
        self.references: list[str] = []
        self._lock = threading.Lock()

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self.can

    def _answer(self, kind: str) -> Receipt:
        with self._lock:
            self.calls.append(kind)
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
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict  # type: ignore[return-value] -- what a host's gateway may do


def unavailable(name: str, **kwargs: bool) -> Unavailable:
    return Unavailable(name, "it is down", **kwargs)


def rejected(name: str) -> Rejected:
    return Rejected(name, "this number is refused")


def unknown(name: str) -> Unknown:
    return Unknown(name, "no whole answer")


def misconfigured(name: str) -> Misconfigured:
    return Misconfigured(name, "there is no such line")


@dataclass
class Desk:
    """What an order's functions were asked."""

    pays: bool = True
    claims: bool = True
    asked_to_pay: int = 0
    repaid: int = 0
    claimed: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    own_claimed: int = 0
    release_error: Exception | None = None
    pay_error: Exception | None = None

    def order(self, channel: str = "sms") -> CodeOrder:
        return CodeOrder(
            challenge_id="c" * 32,
            user_id="1",
            own=CodeMessage(MOBILE, CODE, CODE_TEXT, channel, reference="c" * 32),  # type: ignore[arg-type] -- a channel
            claim_native=self._claim_native,
            release_native=self._release,
            claim_own=self._claim_own,
            pay_again=self._pay,
            repay=self._repay,
        )

    def _claim_native(self, _session: Session, sender: str) -> bool:
        if self.claims:
            self.claimed.append(sender)
        return self.claims

    def _release(self, sender: str) -> None:
        self.released.append(sender)
        if self.release_error is not None:
            raise self.release_error

    def _claim_own(self, _session: Session) -> None:
        self.own_claimed += 1

    def _pay(self) -> bool:
        self.asked_to_pay += 1
        if self.pay_error is not None:
            raise self.pay_error
        return self.pays

    def _repay(self) -> None:
        self.repaid += 1


class Office:
    """A delivery over a route of fakes, and the ledger that it writes."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.desk = Desk()
        self.seconds = 15.0
        self.in_flight = 8
        self.delivery: Delivery | None = None

    def opens(self, *senders: Sender) -> Delivery:
        routes = Routes({sender.name: sender for sender in senders}, {})
        self.delivery = Delivery(
            self.ledger,
            routes,
            seconds=self.seconds,
            in_flight=self.in_flight,
            emit=lambda signal, **values: signal.send(self, **values),
            clock=lambda: datetime.now(UTC),
        )
        return self.delivery

    def sends(self, *senders: Sender, channel: str = "sms") -> Delivered:
        return self.opens(*senders).send_code(self.desk.order(channel))

    def messages(self) -> list[Message]:
        """The ledger's, in the order of the tries; none of them shows what was sent."""
        found = self.ledger.read(
            lambda session: list(session.scalars(select(Message).order_by(Message.created_at)))
        )
        for message in found:
            assert not re.search(r"\d{4,}", message.reason or "")
            assert not {"Gooseberry", "marmalade", "shop"} & set((message.reason or "").split())
        return found

    def tries(self) -> list[tuple[str, str]]:
        return [(message.sender, message.state) for message in self.messages()]


@pytest.fixture
def office(app: Flask) -> Iterator[Office]:
    office = Office(app.extensions["smsverify"].ledger)
    yield office
    if office.delivery is not None:
        office.delivery.close()


# --- codes: when the next sender is asked ---------------------------------------------------------


def test_the_first_sender_that_takes_a_code_is_the_only_one_asked(office: Office) -> None:
    one, other = Fake("one", DeliveryState.QUEUED), Fake("other")
    delivered = office.sends(one, other)
    [message] = office.messages()
    assert delivered == Delivered(DeliveryState.QUEUED, "one", native=False, message_id=message.id)
    assert (one.calls, other.calls) == (["sms"], [])
    assert (message.kind, message.state, message.gateway_id) == ("code", "queued", "one-1")
    assert (message.recipient, message.channel, message.parts) == (MOBILE, "sms", 1)
    assert (message.challenge_id, message.user_id, message.reason) == ("c" * 32, "1", None)


def test_an_unavailable_sender_is_passed_over(office: Office) -> None:
    one, other = Fake("one", unavailable("one")), Fake("other")
    assert office.sends(one, other).sender == "other"
    assert office.tries() == [("one", "failed"), ("other", "sent")]
    assert office.messages()[0].reason == "it is down"
    assert office.desk.asked_to_pay == 0, "the first copy cannot have gone out"


@pytest.mark.parametrize(
    ("make", "level"), [(rejected, logging.WARNING), (misconfigured, logging.ERROR)]
)
def test_what_another_sender_would_not_mend_ends_the_route(
    office: Office,
    make: Callable[[str], SenderError],
    level: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    error, other = make("one"), Fake("other")
    with pytest.raises(SendFailed) as failed:
        office.sends(Fake("one", error), other)
    assert failed.value.causes == (error,)
    assert not failed.value.maybe_sent
    assert other.calls == []
    assert office.tries() == [("one", "failed")]
    [record] = [record for record in caplog.records if record.name.endswith("delivery")]
    assert record.levelno == level
    assert record.getMessage() == f"{type(error).__name__}: {error}"


def test_every_cause_is_kept_in_order(office: Office) -> None:
    causes = [unavailable("one"), unavailable("two"), rejected("three")]
    with pytest.raises(SendFailed) as failed:
        office.sends(*(Fake(cause.gateway, cause) for cause in causes), Fake("four"))
    assert failed.value.causes == tuple(causes)
    assert office.tries() == [("one", "failed"), ("two", "failed"), ("three", "failed")]


def test_a_code_that_may_be_out_goes_once_more_by_another_sender(office: Office) -> None:
    assert office.sends(Fake("one", unknown("one")), Fake("other")).sender == "other"
    assert office.tries() == [("one", "unknown"), ("other", "sent")]
    assert (office.desk.asked_to_pay, office.desk.repaid) == (1, 0)


def test_a_third_copy_never_goes_out(office: Office) -> None:
    third = Fake("three")
    delivered = office.sends(Fake("one", unknown("one")), Fake("two", unknown("two")), third)
    assert (delivered.state, delivered.sender) == (DeliveryState.UNKNOWN, "one")
    assert third.calls == []
    assert (office.desk.asked_to_pay, office.desk.repaid) == (1, 0)


def test_a_second_copy_is_paid_for_once_however_many_senders_it_takes(office: Office) -> None:
    delivered = office.sends(
        Fake("one", unknown("one")), Fake("two", unavailable("two")), Fake("three")
    )
    assert delivered.sender == "three"
    assert (office.desk.asked_to_pay, office.desk.repaid) == (1, 0)


def test_a_second_copy_that_nobody_took_is_repaid(office: Office) -> None:
    delivered = office.sends(
        Fake("one", unknown("one")), Fake("two", unavailable("two")), Fake("three", rejected("x"))
    )
    assert (delivered.state, delivered.sender) == (DeliveryState.UNKNOWN, "one")
    assert (office.desk.asked_to_pay, office.desk.repaid) == (1, 1)


def test_without_a_budget_for_it_no_second_copy_goes_out(office: Office) -> None:
    office.desk.pays = False
    other = Fake("other")
    assert office.sends(Fake("one", unknown("one")), other).state is DeliveryState.UNKNOWN
    assert other.calls == []
    assert office.desk.repaid == 0


def test_after_a_certain_failure_and_an_open_end_a_second_copy_goes_out(office: Office) -> None:
    senders = [Fake("one", unavailable("one")), Fake("two", unknown("two")), Fake("three")]
    assert office.sends(*senders).sender == "three"
    assert office.desk.asked_to_pay == 1


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
def test_a_receipt_that_is_not_a_yes_is_not_taken_for_one(
    office: Office, receipt: Receipt, state: DeliveryState | None
) -> None:
    if state is None:
        with pytest.raises(SendFailed) as failed:
            office.sends(Fake("one", receipt))
        assert isinstance(failed.value.causes[0], Rejected)
        assert office.tries() == [("one", "failed")]
    else:
        assert office.sends(Fake("one", receipt)).state is state
        assert office.sends(Fake("one", receipt), Fake("other")).sender == "other"
        assert office.tries() == [("one", "unknown"), ("one", "unknown"), ("other", "sent")]


def test_a_mistake_in_a_hosts_gateway_means_what_no_answer_means(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    mistake = KeyError(f"{MOBILE} {CODE_TEXT}")
    assert office.sends(Fake("one", mistake), Fake("other")).sender == "other"
    assert office.tries() == [("one", "unknown"), ("other", "sent")]
    assert office.messages()[0].reason == "its code raised KeyError"
    assert "one raised KeyError at" in caplog.text
    assert "in _answer" in caplog.text
    assert CODE not in caplog.text
    assert MOBILE not in caplog.text


def test_no_receipt_at_all_is_no_answer(office: Office) -> None:
    nothing = Fake("one", lambda: None)  # type: ignore[arg-type, return-value] -- a host's mistake
    assert office.sends(nothing).state is DeliveryState.UNKNOWN


def test_a_wrong_configuration_is_not_passed_over(office: Office) -> None:
    other = Fake("other")
    with pytest.raises(ConfigurationError):
        office.sends(Fake("one", ConfigurationError("wrong")), other)
    assert other.calls == []


def test_a_call_is_asked_of_who_can_call(office: Office) -> None:
    mute = Fake("mute", can=frozenset({Capability.CODE_SMS}))
    assert office.sends(mute, Fake("other"), channel="voice").sender == "other"
    [message] = office.messages()
    assert (message.channel, message.parts) == ("voice", None)
    with pytest.raises(ChannelUnavailable):
        office.sends(mute, channel="voice")


# --- native codes ---------------------------------------------------------------------------------


def test_a_native_code_is_claimed_and_its_text_is_nobodys(office: Office) -> None:
    assert office.sends(Fake("one", can=NATIVE)).native
    [message] = office.messages()
    assert (message.kind, message.parts) == ("native_code", None)
    assert (office.desk.claimed, office.desk.own_claimed) == (["one"], 0)


@pytest.mark.parametrize("make", [unavailable, rejected, misconfigured])
def test_a_native_claim_is_released_when_the_code_certainly_did_not_go_out(
    office: Office, make: Callable[[str], SenderError]
) -> None:
    with pytest.raises(SendFailed):
        office.sends(Fake("one", make("one"), can=NATIVE))
    assert office.desk.released == ["one"]


def test_a_native_claim_is_kept_while_the_code_may_be_out(office: Office) -> None:
    delivered = office.sends(Fake("one", unknown("one"), can=NATIVE), Fake("other"))
    assert (delivered.sender, delivered.native) == ("other", False)
    assert office.desk.released == []
    assert office.desk.own_claimed == 1


def test_a_claim_that_cannot_be_released_does_not_stop_the_code(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    office.desk.release_error = StoreUnavailable("gone")
    office_sent = office.sends(Fake("one", unavailable("one"), can=NATIVE), Fake("other"))
    assert office_sent.sender == "other"
    assert "could not be released" in caplog.text


def test_where_the_native_code_is_taken_the_sender_brings_ours(office: Office) -> None:
    office.desk.claims = False
    one = Fake("one", can=NATIVE | OWN)
    assert not office.sends(one).native
    assert one.calls == ["sms"]


def test_a_sender_with_nothing_to_do_is_not_noted(office: Office) -> None:
    office.desk.claims = False
    busy = Fake("busy", can=NATIVE)
    assert office.sends(busy, Fake("other")).sender == "other"
    assert (busy.calls, office.tries()) == ([], [("other", "sent")])
    with pytest.raises(SendFailed) as failed:
        office.sends(busy)
    assert failed.value.causes == ()


@pytest.mark.parametrize("verdict", [True, False])
def test_a_native_verdict_is_the_gateways(office: Office, verdict: bool) -> None:
    delivery = office.opens(Fake("one", can=NATIVE, verdict=verdict))
    assert delivery.check_native_code("one", MOBILE, CODE) is verdict


@pytest.mark.parametrize("verdict", ["false", 1, None, KeyError("x"), unknown("one")])
def test_what_is_no_plain_verdict_is_none(office: Office, verdict: object) -> None:
    delivery = office.opens(Fake("one", can=NATIVE, verdict=verdict))
    with pytest.raises(Unknown) as error:
        delivery.check_native_code("one", MOBILE, CODE)
    assert error.value.written


def test_a_sender_that_is_gone_gives_no_verdict_and_costs_no_attempt(office: Office) -> None:
    with pytest.raises(Unavailable) as error:
        office.opens(Fake("one")).check_native_code("gone", MOBILE, CODE)
    assert not error.value.written


# --- texts ----------------------------------------------------------------------------------------


def send_text(office: Office, *senders: Sender) -> Receipt:
    return office.opens(*senders).send_text(Text(MOBILE, TEXT, "ref-1"))


def test_a_text_goes_by_the_next_sender_only_where_the_first_certainly_failed(
    office: Office,
) -> None:
    one, other = Fake("one", unavailable("one")), Fake("other")
    assert send_text(office, one, other).id == "other-1"
    assert office.tries() == [("one", "failed"), ("other", "sent")]
    assert other.references == ["ref-1"]
    assert {message.kind for message in office.messages()} == {"notice"}


@pytest.mark.parametrize("make", [unknown, rejected, misconfigured])
def test_a_text_that_may_be_out_or_is_refused_does_not_go_again(
    office: Office, make: Callable[[str], SenderError]
) -> None:
    error, other = make("one"), Fake("other")
    with pytest.raises(SendFailed) as failed:
        send_text(office, Fake("one", error), other)
    assert failed.value.causes == (error,)
    assert failed.value.maybe_sent is isinstance(error, Unknown)
    assert other.calls == []


def test_without_a_sender_for_texts_there_is_no_channel(office: Office) -> None:
    with pytest.raises(ChannelUnavailable):
        send_text(office, Fake("one", can=NATIVE))


# --- the ledger -----------------------------------------------------------------------------------


class Failing(Ledger):
    """A ledger whose writes fail from some on."""

    def __init__(self, ledger: Ledger, good: int) -> None:
        self._real, self._good = ledger, good

    def run(self, work):  # type: ignore[no-untyped-def] -- as the ledger's
        self._good -= 1
        if self._good < 0:
            raise StoreUnavailable("the database did not take the write")
        return self._real.run(work)


def test_a_try_is_in_the_ledger_before_the_gateway_is_asked(office: Office) -> None:
    def look() -> Receipt:
        assert office.tries() == [("one", "sending")]
        return Receipt(MOBILE, DeliveryState.SENT)

    assert office.sends(Fake("one", look)).state is DeliveryState.SENT
    assert office.tries() == [("one", "sent")]


def test_without_a_ledger_no_gateway_is_asked(office: Office) -> None:
    office.ledger = Failing(office.ledger, 0)
    one = Fake("one")
    with pytest.raises(StoreUnavailable):
        office.sends(one)
    with pytest.raises(StoreUnavailable):
        send_text(office, one)
    assert one.calls == []


def test_a_send_counts_though_its_outcome_could_not_be_noted(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    real = office.ledger
    office.ledger = Failing(real, 1)
    assert office.sends(Fake("one")).state is DeliveryState.SENT
    office.ledger = Failing(real, 1)
    assert send_text(office, Fake("one")).status is DeliveryState.SENT
    assert caplog.text.count("could not be written down") == 2
    assert MOBILE not in caplog.text
    office.ledger = real
    assert office.tries() == [("one", "sending"), ("one", "sending")]


@pytest.mark.parametrize("breaks_at", ["the payment", "the message"])
def test_a_ledger_that_fails_later_does_not_deny_a_copy_that_may_be_out(
    office: Office, breaks_at: str
) -> None:
    if breaks_at == "the payment":
        office.desk.pay_error = StoreUnavailable("gone")
    else:
        office.ledger = Failing(office.ledger, 2)
    other = Fake("other")
    assert office.sends(Fake("one", unknown("one")), other).state is DeliveryState.UNKNOWN
    assert other.calls == []


@pytest.mark.parametrize("database", database_params(), indirect=True)
def test_an_id_that_no_column_holds_does_not_undo_a_send(database: str, make_app: MakeApp) -> None:
    office = Office(make_app(database).extensions["smsverify"].ledger)
    ids = ["x" * 5000, "x" * 128, "شناسه", ""]
    for number in ids:
        assert (
            office.sends(Fake("one", Receipt(MOBILE, DeliveryState.SENT, number))).state
            is DeliveryState.SENT
        )
    assert [message.state for message in office.messages()] == ["sent"] * 4
    assert {message.gateway_id for message in office.messages()} == {None, *ids[1:]}


@pytest.mark.parametrize("database", database_params(), indirect=True)
def test_what_a_database_refuses_of_an_outcome_is_logged_alone(
    database: str, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    office = Office(make_app(database).extensions["smsverify"].ledger)
    assert (
        office.sends(Fake("one", Receipt(MOBILE, DeliveryState.SENT, "a\x00b\ud800"))).sender
        == "one"
    )
    assert MOBILE not in caplog.text
    with pytest.raises(SendFailed):
        office.sends(Fake("one", Rejected("one", "é" * 500)))
    assert office.messages()[-1].reason == "é" * 191


# --- the deadline ---------------------------------------------------------------------------------

#: How much later a route may end on a busy machine.
SLACK = 2.5


@contextmanager
def nobody_accepts() -> Iterator[str]:
    """An address whose queue of connections is full, so that connecting hangs."""
    with ExitStack() as stack:
        listener = stack.enter_context(closing(socket.socket()))
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def raygan(name: str, url: str, seconds: float = 60) -> Raygan:
    return Raygan(
        username="u",
        password="p",
        native_codes=False,
        base_url=url,
        timeout=(seconds, seconds, seconds),
        name=name,
    )


@pytest.mark.parametrize("misbehaviour", [hang, hang_after_head, drip_head, drip_body])
def test_one_deadline_spans_a_route_of_hanging_gateways(
    office: Office, misbehaviour: Misbehaviour
) -> None:
    office.seconds = 0.7
    with LoopbackGateway(lambda _: Reply(200, b"6001")) as gateway:
        gateway.misbehave = misbehaviour
        senders = [raygan(f"r{number}", gateway.url) for number in range(4)]
        began = time.monotonic()
        assert office.sends(*senders).state is DeliveryState.UNKNOWN
        assert time.monotonic() - began < 0.7 + SLACK
    assert office.tries() == [("r0", "unknown")]


def test_connections_that_hang_end_at_the_deadline_and_nothing_was_sent(office: Office) -> None:
    office.seconds = 0.7
    with nobody_accepts() as url:
        began = time.monotonic()
        with pytest.raises(SendFailed) as failed:
            office.sends(*(raygan(f"r{number}", url) for number in range(4)))
        assert time.monotonic() - began < 0.7 + SLACK
    assert [cause.written for cause in failed.value.causes] == [False]


def test_a_sender_that_hangs_leaves_time_for_the_next(office: Office) -> None:
    with nobody_accepts() as url, LoopbackGateway(lambda _: Reply(200, b"6001")) as gateway:
        delivered = office.sends(raygan("slow", url, 0.2), raygan("good", gateway.url))
    assert delivered.sender == "good"
    assert office.tries() == [("slow", "failed"), ("good", "sent")]


def test_a_short_deadline_still_tries_the_first_sender(office: Office) -> None:
    office.seconds = 0.3
    other = Fake("other")
    with pytest.raises(SendFailed):
        office.sends(Fake("one", unavailable("one")), other)
    assert other.calls == [], "too little is left for another"
    assert office.sends(Fake("one")).sender == "one"
    assert send_text(office, Fake("one")).id == "one-1"


def test_a_verdict_has_a_deadline_too(office: Office) -> None:
    office.seconds = 0.5
    with LoopbackGateway(lambda _: Reply(200)) as gateway:
        gateway.misbehave = drip_head
        sender = Raygan(
            username="u", password="p", base_url=gateway.url, timeout=(60, 60, 60), name="r"
        )
        delivery = office.opens(sender)
        began = time.monotonic()
        with pytest.raises(Unknown):
            delivery.check_native_code("r", MOBILE, CODE)
        assert time.monotonic() - began < 0.5 + SLACK


# --- calls in flight ------------------------------------------------------------------------------


def test_a_full_house_goes_to_the_next_sender(office: Office) -> None:
    office.in_flight = 2
    inside, leave = threading.Semaphore(0), threading.Event()

    def wait() -> Receipt:
        inside.release()
        assert leave.wait(10)
        return Receipt(MOBILE, DeliveryState.SENT)

    slow, other = Fake("slow", wait), Fake("other")
    delivery = office.opens(slow, other)
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(delivery.send_code, office.desk.order()) for _ in range(2)]
        assert inside.acquire(timeout=10)
        assert inside.acquire(timeout=10)
        assert delivery.send_code(office.desk.order()).sender == "other"
        leave.set()
        assert [one.result().sender for one in waiting] == ["slow", "slow"]
    assert delivery.send_code(office.desk.order()).sender == "slow", "a place is free again"
    failed = [message for message in office.messages() if message.state == "failed"]
    assert [(one.sender, one.reason) for one in failed] == [
        ("slow", "too many calls are waiting for it")
    ]
    assert delivery.breaker_state("slow") == "closed", "being asked too often is no fault of its"


@pytest.mark.parametrize(
    "error", [unavailable("one"), unknown("one"), rejected("one"), KeyError("x")]
)
def test_a_call_that_fails_gives_its_place_back(office: Office, error: Exception) -> None:
    office.in_flight = 1
    one = Fake("one", error, error, error, DeliveryState.SENT)
    delivery = office.opens(one)
    for _ in range(3):
        try:
            delivery.send_code(office.desk.order())
        except SendFailed as failed:
            assert failed.causes == (error,)  # noqa: PT017 -- and not a full house
    assert delivery.send_code(office.desk.order()).state is DeliveryState.SENT


# --- senders at fault -----------------------------------------------------------------------------


def with_clock(delivery: Delivery) -> Stopwatch:
    clock = Stopwatch()
    delivery._breakers = Breakers(clock=clock)
    return clock


def test_a_sender_at_fault_is_left_alone_until_a_probe_does_well(office: Office) -> None:
    one, other = Fake("one", *[unavailable("one")] * FAILURES, DeliveryState.SENT), Fake("other")
    delivery = office.opens(one, other)
    clock = with_clock(delivery)
    order = office.desk.order()
    for _ in range(FAILURES + 3):
        assert delivery.send_code(order).sender == "other"
    assert len(one.calls) == FAILURES
    assert delivery.breaker_state("one") == "opened"
    clock.advance(REST)
    assert delivery.send_code(order).sender == "one"
    assert delivery.breaker_state("one") == "closed"


def test_a_sender_that_rests_is_better_than_nobody(office: Office) -> None:
    one = Fake("one", *[unavailable("one")] * FAILURES, DeliveryState.SENT)
    other = Fake("other", *[DeliveryState.SENT] * FAILURES, unavailable("other"))
    delivery = office.opens(one, other)
    for _ in range(FAILURES):
        delivery.send_code(office.desk.order())
    assert delivery.breaker_state("one") == "opened"
    assert delivery.send_code(office.desk.order()).sender == "one"
    assert office.tries()[-2:] == [("other", "failed"), ("one", "sent")]


def test_nobody_waits_for_a_sender_at_fault_where_a_copy_may_be_out(office: Office) -> None:
    one = Fake("one", unavailable("one"))
    other = Fake("other", *[DeliveryState.SENT] * FAILURES, unknown("other"))
    delivery = office.opens(one, other)
    for _ in range(FAILURES + 1):
        delivered = delivery.send_code(office.desk.order())
    assert delivered.state is DeliveryState.UNKNOWN
    assert len(one.calls) == FAILURES
    assert office.desk.asked_to_pay == 0


def test_a_whole_route_at_fault_is_tried_all_the_same_and_comes_back(office: Office) -> None:
    one, other = Fake("one", unavailable("one")), Fake("other", unavailable("other"))
    delivery = office.opens(one, other)
    for _ in range(FAILURES * 2):
        with pytest.raises(SendFailed) as failed:
            delivery.send_code(office.desk.order())
        assert [cause.gateway for cause in failed.value.causes] == ["one", "other"]
    one.answers = other.answers = [DeliveryState.SENT]
    assert [delivery.send_code(office.desk.order()).sender for _ in range(2)] == ["one", "one"]
    assert delivery.breaker_state("one") == "closed"


@pytest.mark.parametrize("make", [rejected, misconfigured])
def test_bad_numbers_leave_a_sender_in_use(
    office: Office, make: Callable[[str], SenderError]
) -> None:
    answers: list[Answer] = []
    for _ in range(FAILURES):
        answers += [make("one")] * FAILURES + [DeliveryState.SENT]
    other = Fake("other")
    delivery = office.opens(Fake("one", *answers), other)
    for number in range(len(answers)):
        good = number % (FAILURES + 1) == FAILURES
        if good:
            assert delivery.send_code(office.desk.order()).sender == "one"
        else:
            with pytest.raises(SendFailed):
                delivery.send_code(office.desk.order())
    assert other.calls == []
    assert delivery.breaker_state("one") == "closed"


def test_a_rested_sender_is_probed_by_one_call_of_many(office: Office) -> None:
    callers = 12
    probing, leave = threading.Event(), threading.Event()

    def probe() -> Receipt:
        probing.set()
        assert leave.wait(20)
        return Receipt(MOBILE, DeliveryState.SENT)

    one, other = Fake("one", *[unavailable("one")] * FAILURES, probe), Fake("other")
    office.in_flight = callers
    delivery = office.opens(one, other)
    clock = with_clock(delivery)
    for _ in range(FAILURES):
        delivery.send_code(office.desk.order())
    clock.advance(REST)
    barrier = threading.Barrier(callers)

    def send(_: int) -> str:
        barrier.wait()
        delivered = delivery.send_code(office.desk.order())
        if delivered.sender == "other" and len(other.calls) == FAILURES + callers - 1:
            leave.set()  # everybody else is served
        return delivered.sender

    with ThreadPoolExecutor(callers) as threads:
        asked = list(threads.map(send, range(callers)))
    assert probing.is_set()
    assert sorted(asked) == ["one"] + ["other"] * (callers - 1)
    assert delivery.breaker_state("one") == "closed"


def test_a_turn_ends_with_the_order_whatever_becomes_of_it(office: Office) -> None:
    one = Fake("one", *[unavailable("one")] * FAILURES)
    delivery = office.opens(one, Fake("other"))
    clock = with_clock(delivery)
    for _ in range(FAILURES):
        delivery.send_code(office.desk.order())
    for error in (rejected("one"), unknown("one"), ConfigurationError("wrong")):
        clock.advance(REST)
        one.answers = [error]
        try:
            delivery.send_code(office.desk.order())
        except (SendFailed, ConfigurationError) as ended:
            assert ended is not None  # noqa: PT017 -- it may end so
        clock.advance(REST)
        with delivery._breakers.turn("one") as in_use:
            assert in_use


# --- what is done in the background ---------------------------------------------------------------


def test_settling_waits_also_for_what_the_background_begins(office: Office) -> None:
    delivery = office.opens(Fake("one"))
    done: list[int] = []

    def work(left: int) -> None:
        if left:
            delivery.in_background(work, left - 1)
        else:
            threading.Event().wait(0.1)  # the others are over long before
        done.append(left)

    delivery.in_background(work, 5)
    workers.wait()
    assert sorted(done) == [0, 1, 2, 3, 4, 5]


def test_what_fails_in_the_background_is_logged(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    delivery = office.opens(Fake("one"))

    def fail(error: Exception) -> None:
        raise error

    delivery.in_background(fail, SendFailed([unavailable("one")]))
    delivery.in_background(fail, ValueError("a mistake"))
    workers.wait()
    told = [(record.levelname, record.exc_info is None) for record in caplog.records]
    assert sorted(told) == [("ERROR", False), ("WARNING", True)]
    assert "no sender took it: one: it is down" in caplog.text


# --- routes ---------------------------------------------------------------------------------------


def test_a_job_that_is_not_named_gets_every_sender_that_can_do_it() -> None:
    native, own = Fake("native", can=NATIVE), Fake("own")
    routes = Routes({"native": native, "own": own}, {"text": ["own"]})
    assert routes.route("sms") == [native, own]
    assert routes.route("voice") == routes.route("text") == [own]


def test_a_route_keeps_its_order_and_names_a_sender_once() -> None:
    one, other = Fake("one"), Fake("other")
    senders = {"one": one, "other": other}
    routes = Routes(senders, {"sms": ["other", "one", "other"], "voice": []})
    assert routes.route("sms") == [other, one]
    assert not routes.can("voice")


def test_a_route_through_a_sender_that_cannot_do_it_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"SMSVERIFY_ROUTES\['voice'\] names 'native'"):
        Routes({"native": Fake("native", can=NATIVE)}, {"voice": ["native"]})


def test_nothing_shows_a_code() -> None:
    order = Desk().order()
    assert CODE not in repr(order)
    assert MOBILE not in repr(order)


# --- real senders, from the verifier on -----------------------------------------------------------

SENDERS = {
    "main": {
        "gateway": "raygan",
        "username": "u",
        "password": "p",
        "line": "50002910",
        "timeout": (2, 2, 2),
    },
    "spare": {"gateway": "smsir", "api_key": "k", "line": "30001234", "timeout": (2, 2, 2)},
}


@pytest.fixture
def shop(make_app: MakeApp, sqlite: str, simulator: Simulator) -> Iterator[Flask]:
    """An app whose senders all go to the simulator, with its context."""
    app = make_app(
        sqlite,
        SMSVERIFY_SENDERS=SENDERS,
        SMSVERIFY_SIMULATOR_URL=simulator.url,
        SMSVERIFY_LIMITS={"mobile": None, "user": None},
        SMSVERIFY_RESEND_DELAYS=(1,),
    )
    with app.app_context():
        yield app


def start(shop: Flask) -> str:
    """Start a challenge for user 1; what its messages in the ledger say, try by try."""
    state = shop.extensions["smsverify"]
    user = db.session.get(User, 1)
    db.session.rollback()
    challenge = state.verifier.start(user)
    rows = state.ledger.read(
        lambda session: session.execute(
            select(Message.sender, Message.kind, Message.state)
            .where(Message.challenge_id == challenge.id)
            .order_by(Message.created_at)
        ).all()
    )
    return ", ".join(f"{sender} {kind} {state}" for sender, kind, state in rows)


def check(shop: Flask, code: str) -> None:
    user = db.session.get(User, 1)
    db.session.rollback()
    shop.extensions["smsverify"].verifier.check(user, code)


@pytest.mark.parametrize("fault", ["no_credit", "bad_credentials"])
def test_a_gateway_that_does_not_know_us_is_passed_over(
    shop: Flask, simulator: Simulator, fault: str
) -> None:
    simulator.fault("raygan", fault)
    assert start(shop) == "main native_code failed, spare code queued"
    [message] = simulator.messages()
    check(shop, str(message["code"]))


def test_a_lost_native_answer_and_the_code_that_follows_it_are_both_right(
    shop: Flask, simulator: Simulator
) -> None:
    simulator.fault("raygan", "lost_answer", 1)
    assert start(shop) == "main native_code unknown, spare code queued"
    codes = {str(one["gateway"]): str(one["code"]) for one in simulator.messages()}
    assert set(codes) == {"raygan", "smsir"}
    check(shop, codes["raygan"])


def test_our_own_code_after_a_lost_native_answer_is_right(
    shop: Flask, simulator: Simulator
) -> None:
    simulator.fault("raygan", "lost_answer", 1)
    start(shop)
    codes = {str(one["gateway"]): str(one["code"]) for one in simulator.messages()}
    check(shop, codes["smsir"])


def test_two_copies_of_a_code_of_ours_are_the_same_code(app: Flask) -> None:
    with outbox(app) as box, app.app_context():
        delivery = app.extensions["smsverify"].delivery
        one, other = Memory(name="one"), Memory(name="other")
        one.fail_with(unknown("one"), arrives=True)
        with delivery.rerouted(Routes({"one": one, "other": other}, {})):
            start(app)
        assert one.last.code == other.last.code
        check(app, str(one.last.code))
        assert len(box) == 0


def test_all_gateways_down_and_back_need_no_restart(shop: Flask, simulator: Simulator) -> None:
    for gateway in ("raygan", "smsir"):
        simulator.fault(gateway, "http_500")
    for _ in range(FAILURES + 1):
        with pytest.raises(SendFailed):
            start(shop)
    delivery = shop.extensions["smsverify"].delivery
    assert delivery.breaker_state("main") == delivery.breaker_state("spare") == "opened"
    simulator.clear_faults()
    assert start(shop) == "main native_code sent"
    check(shop, str(simulator.messages()[0]["code"]))


def test_one_bad_number_among_good_ones_fails_alone(simulator: Simulator, app: Flask) -> None:
    sender = build("spare", SENDERS["spare"], registered={}, simulator_url=simulator.url)
    office = Office(app.extensions["smsverify"].ledger)
    delivery = office.opens(sender)
    for _ in range(FAILURES + 1):
        with pytest.raises(SendFailed) as failed:
            delivery.send_text(Text("+12025550123", TEXT))
        assert isinstance(failed.value.causes[0], Rejected)
        assert delivery.send_text(Text(MOBILE, TEXT)).id
    assert delivery.breaker_state("spare") == "closed"
    assert [message["to"] for message in simulator.messages()] == [MOBILE] * (FAILURES + 1)
    assert {message.state for message in office.messages()} == {"failed", "queued"}


@pytest.mark.parametrize("kind", [Unavailable, Unknown, Rejected, Misconfigured])
def test_a_gateways_reason_is_one_line_of_the_log_and_of_the_ledger(
    office: Office, caplog: pytest.LogCaptureFixture, kind: type[SenderError]
) -> None:
    """Case 45 of docs/safety.md: also where a host's own gateway passes on what it was told."""
    caplog.set_level(logging.DEBUG)
    said = "no\r\nWARNING root: forged\x0b\x85\u2028\x1b[2J it is"
    with suppress(SendFailed):
        office.sends(Fake("one", kind("one", said, code="7\r\n8")))
    delivery = office.opens(Fake("two", kind("two", said)))
    delivery.in_background(delivery.send_code, office.desk.order())
    workers.wait()
    assert [record for record in caplog.records if "forged" in record.getMessage()]
    written = [record.getMessage() for record in caplog.records]
    written += [message.reason or "" for message in office.messages()]
    for line in written:
        assert len(line.splitlines()) <= 1
        assert "\x1b" not in line
