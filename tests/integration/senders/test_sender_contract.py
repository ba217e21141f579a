"""The contract fails for the mistakes that are likely in a new gateway."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest
from senders.cases import each_case

from flask_smsverify.errors import Unavailable, Unknown
from flask_smsverify.senders.base import (
    Capability,
    CodeMessage,
    DeliveryState,
    Receipt,
    ReceivedText,
    Sender,
    Text,
)
from flask_smsverify.senders.http import HttpTransport
from flask_smsverify.testing import (
    LoopbackGateway,
    Misbehaviour,
    Reply,
    Request,
    SenderContract,
    close,
    contract,
    drip_head,
)


class Acme(Sender):
    """A correct sender, which each test breaks in one way."""

    gateway = "acme"
    batch_limit = 10

    def __init__(self, *, key: str, base_url: str) -> None:
        super().__init__()
        self._key = key
        self._http = HttpTransport(self.identity, base_url)

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.TEXT})

    def close(self) -> None:
        self._http.close()

    def send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        return [self._send(text) for text in batch]

    def _send(self, text: Text) -> Receipt:
        body = {"key": self._key, "to": text.to, "text": text.text}
        answer = self._http.request("POST", "/send", json=body)
        answer.raise_for_service_error()
        parsed = answer.json()
        if answer.status != 200 or not isinstance(parsed, dict) or "sent" not in parsed:
            answer.raise_unreadable("a number")
        return Receipt(text.to, DeliveryState.SENT, str(parsed["sent"]), reference=text.reference)


class AcmeContract(SenderContract):
    credentials = ("open-sesame",)
    sender_class: Any = Acme

    def make_sender(self, base_url: str) -> Sender:
        sender: Sender = self.sender_class(key="open-sesame", base_url=base_url)
        return sender

    def answer(self, request: Request) -> Reply:
        return Reply(200, b'{"sent": 17}')


class TestAcmeContract(AcmeContract):
    pass


def failure_of(test: Callable[..., object], sender_class: type[Sender], *extra: object) -> str:
    """Run one test of the contract with a broken sender, and return the message of its failure.

    :param extra: the test's other arguments, with `LoopbackGateway` in place of the gateway.
    """
    suite = AcmeContract()
    suite.sender_class = sender_class
    with (
        LoopbackGateway(suite.answer, hang_seconds=1.5) as gateway,
        closing(suite.make_sender(gateway.url)) as sender,
        pytest.raises((AssertionError, pytest.fail.Exception)) as failed,
    ):
        test(suite, sender, *(gateway if one is LoopbackGateway else one for one in extra))
    return str(failed.value)


class AcceptsEverything(Acme):
    def _send(self, text: Text) -> Receipt:
        answer = self._http.request("POST", "/send", json={"text": text.text})
        id_ = answer.text[:5] or None
        return Receipt(text.to, DeliveryState.SENT, id_, reference=text.reference)


@each_case("name", ["html", "empty", "half_json", "deep_list", "null"])
def test_accepting_an_invalid_answer_fails_and_names_the_call_and_the_answer(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = {**contract.INVALID_ANSWERS, **contract.EMPTY_ANSWERS}
    with monkeypatch.context() as patch:
        patch.setattr(contract, "INVALID_ANSWERS", {name: answers[name]})
        patch.setattr(contract, "EMPTY_ANSWERS", {})
        test = SenderContract.test_wire_an_invalid_answer_is_an_error
        message = failure_of(test, AcceptsEverything, LoopbackGateway, caplog)
    assert message.startswith(f"send_text with the answer {name}: it was taken for success")


@each_case("status", [400, 500])
def test_accepting_an_error_status_fails_and_names_the_call_and_the_status(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(contract, "ERROR_STATUSES", (status,))
        test = SenderContract.test_wire_an_error_status_is_an_error_whatever_the_body
        message = failure_of(test, AcceptsEverything, LoopbackGateway)
    assert message.startswith(f"send_text with HTTP {status}: it was taken for success")


def lost_answer_failure(
    sender_class: type[Sender], misbehaviour: Misbehaviour, monkeypatch: pytest.MonkeyPatch
) -> str:
    with monkeypatch.context() as patch:
        patch.setattr(contract, "LOST_ANSWERS", (misbehaviour,))
        test = SenderContract.test_wire_a_lost_answer_is_unknown_within_the_deadline
        return failure_of(test, sender_class, LoopbackGateway)


class RaisesHttpxErrors(Acme):
    def _send(self, text: Text) -> Receipt:
        with httpx.Client(trust_env=False, timeout=30) as client:
            sent = client.post(f"{self._http.base_url}/send", json={"text": text.text})
        id_ = str(sent.json()["sent"])
        return Receipt(text.to, DeliveryState.SENT, id_, reference=text.reference)


class HasNoDeadline(RaisesHttpxErrors):
    def _send(self, text: Text) -> Receipt:
        try:
            return super()._send(text)
        except httpx.HTTPError:
            raise self.make_error(Unknown, "no complete answer") from None


def test_a_client_without_a_deadline_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    message = lost_answer_failure(HasNoDeadline, drip_head, monkeypatch)
    assert message.startswith("send_text with drip_head: took ")
    assert "with a deadline of 0.4 s" in message


def test_an_error_that_is_not_a_sender_error_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    message = lost_answer_failure(RaisesHttpxErrors, close, monkeypatch)
    assert message.startswith("send_text with close: raised RemoteProtocolError, which is no Sen")


class RaisesUnavailableForUnknown(Acme):
    def _send(self, text: Text) -> Receipt:
        try:
            return super()._send(text)
        except Unknown as error:
            raise self.make_error(Unavailable, error.reason) from None


class ReportsNoWrite(Acme):
    def _send(self, text: Text) -> Receipt:
        try:
            return super()._send(text)
        except Unknown as error:
            raise self.make_error(Unavailable, error.reason, written=False) from None


@each_case("broken", [RaisesUnavailableForUnknown, ReportsNoWrite])
def test_unavailable_after_a_lost_answer_fails(
    broken: type[Sender], monkeypatch: pytest.MonkeyPatch
) -> None:
    message = lost_answer_failure(broken, close, monkeypatch)
    assert "the message may have been sent" in message


class ShowsSecrets(Acme):
    def __repr__(self) -> str:
        return f"<Acme with {self._key}>"

    def _send(self, text: Text) -> Receipt:
        logging.getLogger("acme").debug("sending %s", text.text)
        try:
            return super()._send(text)
        except Exception as error:
            raise self.make_error(Unavailable, f"{text.to}: {error}") from error


@pytest.mark.leaks
def test_showing_secrets_fails(caplog: pytest.LogCaptureFixture) -> None:
    repr_test = SenderContract.test_the_sender_has_a_name_and_its_repr_shows_no_credential
    assert "the sender's repr shows 'open-sesame'" in failure_of(repr_test, ShowsSecrets)
    log_test = SenderContract.test_the_log_shows_no_message_and_no_credential
    assert "send_text: the log shows" in failure_of(log_test, ShowsSecrets, caplog)
    echo_test = SenderContract.test_wire_an_error_does_not_repeat_the_request
    message = failure_of(echo_test, ShowsSecrets, LoopbackGateway, caplog)
    assert message.startswith("send_text with an echo with HTTP 200: the error shows")


class OmitsTheGateway(Acme):
    def _send(self, text: Text) -> Receipt:
        raise Unavailable(self.name, "down")


class GivesNoAdvice(Acme):
    def _send(self, text: Text) -> Receipt:
        raise self.make_error(Unavailable, "down", advice="")


class NamesAnotherSender(Acme):
    def _send(self, text: Text) -> Receipt:
        raise Unavailable("another", "down", gateway="acme")


def test_an_error_without_sender_gateway_or_advice_fails(caplog: pytest.LogCaptureFixture) -> None:
    test = SenderContract.test_wire_an_invalid_answer_is_an_error
    for broken, expected in {
        OmitsTheGateway: "the error's gateway is ''",
        GivesNoAdvice: "the error has no advice",
        NamesAnotherSender: "the error's sender is 'another'",
    }.items():
        message = failure_of(test, broken, LoopbackGateway, caplog)
        assert message.startswith("send_text with the answer html: " + expected)


class ListsTooMuch(Acme):
    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.TEXT, Capability.CREDIT})


class ListsTooLittle(Acme):
    def send_code(self, message: CodeMessage) -> Receipt:
        return self._send(Text(message.to, message.text, message.reference))

    def received(self, since: datetime) -> Iterator[ReceivedText]:
        return iter(())


def test_wrong_capabilities_fail_and_name_the_method() -> None:
    overrides = SenderContract.test_the_sender_overrides_the_methods_of_its_capabilities
    assert "credit is not overridden" in failure_of(overrides, ListsTooMuch)
    unsupported = SenderContract.test_calls_without_their_capability_raise_unavailable
    assert failure_of(unsupported, ListsTooLittle).startswith("send_code by sms: it works")


class ReversesReceipts(Acme):
    def send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        return list(reversed(super().send_batch(batch)))


class OmitsReceipts(Acme):
    def send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        return super().send_batch(batch)[:1]


@each_case("broken", [ReversesReceipts, OmitsReceipts])
def test_receipts_in_the_wrong_order_or_number_fail(broken: type[Sender]) -> None:
    test = SenderContract.test_many_texts_get_receipts_in_their_order
    assert failure_of(test, broken).startswith("send_many with equal texts: ")


class ReportsAFloatAsCost(Acme):
    def _send(self, text: Text) -> Receipt:
        cost: Any = 1.5
        return replace(super()._send(text), cost=cost)


class ReportsANegativeCost(Acme):
    def _send(self, text: Text) -> Receipt:
        return replace(super()._send(text), cost=Decimal(-1))


@each_case("broken", [ReportsAFloatAsCost, ReportsANegativeCost])
def test_a_cost_that_is_not_an_amount_fails(broken: type[Sender]) -> None:
    test = SenderContract.test_a_text_gets_a_receipt
    assert failure_of(test, broken).startswith("send_text: the receipt's cost is ")


class AcceptsEveryPush(Acme):
    def parse_push(self, payload: object) -> list[Any]:
        return []


def test_accepting_an_invalid_push_fails() -> None:
    test = SenderContract.test_an_invalid_push_raises_unknown_or_unavailable
    assert failure_of(test, AcceptsEveryPush).startswith("parse_push(None): it accepts")
