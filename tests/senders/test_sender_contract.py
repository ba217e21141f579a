"""The contract notices the mistakes that a new gateway's file is likely to have."""

import logging
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import datetime

import httpx
import pytest

from flask_smsverify.errors import Unavailable, Unknown
from flask_smsverify.senders.base import (
    Capability,
    CodeMessage,
    Receipt,
    Sender,
    Status,
    Text,
)
from flask_smsverify.senders.http import HttpTransport
from flask_smsverify.testing import (
    LoopbackGateway,
    Reply,
    Request,
    SenderContract,
    close,
    drip_head,
)


class Acme(Sender):
    """A good sender, from which each test makes a bad one."""

    gateway = "acme"
    batch_limit = 10

    def __init__(self, *, key: str, base_url: str) -> None:
        super().__init__()
        self._key = key
        self._http = HttpTransport(self.name, base_url)

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.TEXT})

    def close(self) -> None:
        self._http.close()

    def _send_batch(self, batch: list[Text]) -> list[Receipt]:  # type: ignore[override] -- a test's own sender
        return [self._send(text) for text in batch]

    def _send(self, text: Text) -> Receipt:
        body = {"key": self._key, "to": text.to, "text": text.text}
        answer = self._http.request("POST", "/send", json=body)
        answer.refuse_service_faults()
        parsed = answer.json()
        if answer.status != 200 or not isinstance(parsed, dict) or "sent" not in parsed:
            answer.unreadable("a number")
        return Receipt(text.to, Status.SENT, str(parsed["sent"]), reference=text.reference)


class AcmeContract(SenderContract):
    credentials = ("open-sesame",)
    sender_class: type[Sender] = Acme

    def make_sender(self, base_url: str) -> Sender:
        return self.sender_class(key="open-sesame", base_url=base_url)  # type: ignore[call-arg] -- a test's own sender

    def answer(self, request: Request) -> Reply:
        return Reply(200, b'{"sent": 17}')


class TestAcmeContract(AcmeContract):
    pass


def broken(call: Callable[..., object], sender_class: type[Sender], *args: object) -> str:
    """Hold a bad sender to one test of the contract, and have it fail; says how."""
    contract = AcmeContract()
    contract.sender_class = sender_class  # type: ignore[misc] -- for this one object
    with (
        LoopbackGateway(contract.answer) as gateway,
        closing(contract.make_sender(gateway.url)) as sender,
        pytest.raises((AssertionError, pytest.fail.Exception)) as failed,
    ):
        call(contract, sender, *(gateway if one is LoopbackGateway else one for one in args))
    return str(failed.value)


class Trusting(Acme):
    def _send(self, text: Text) -> Receipt:
        answer = self._http.request("POST", "/send", json={"text": text.text})
        return Receipt(text.to, Status.SENT, answer.text[:5] or None, reference=text.reference)


def test_taking_any_answer_for_success_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    test = SenderContract.test_wire_a_strange_answer_is_an_error
    for name in ("html", "empty", "half_json", "deep_list", "null"):
        broken(test, Trusting, LoopbackGateway, name, caplog)
    broken(
        SenderContract.test_wire_a_good_body_under_a_bad_status_is_an_error,
        Trusting,
        LoopbackGateway,
        500,
    )


class Plain(Acme):
    def _send(self, text: Text) -> Receipt:
        with httpx.Client(trust_env=False, timeout=1) as client:
            sent = client.post(f"{self._http.base_url}/send", json={"text": text.text})
        return Receipt(text.to, Status.SENT, str(sent.json()["sent"]), reference=text.reference)


@pytest.mark.parametrize("misbehaviour", [drip_head, close])
def test_a_client_without_a_deadline_or_errors_of_ours_is_noticed(
    misbehaviour: Callable[..., None],
) -> None:
    broken(
        SenderContract.test_wire_a_lost_answer_is_unknown_and_in_time,
        Plain,
        LoopbackGateway,
        misbehaviour,
    )


class Talkative(Acme):
    def __repr__(self) -> str:
        return f"<Acme with {self._key}>"

    def _send(self, text: Text) -> Receipt:
        logging.getLogger("acme").debug("sending %s", text.text)
        try:
            return super()._send(text)
        except Exception as error:
            raise Unavailable(self.name, f"{text.to}: {error}") from error


@pytest.mark.talks
def test_showing_secrets_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    broken(SenderContract.test_it_has_a_name_and_shows_no_credential, Talkative)
    broken(SenderContract.test_the_log_shows_no_message_and_no_credential, Talkative, caplog)
    broken(
        SenderContract.test_wire_an_answer_that_repeats_the_request_is_not_repeated,
        Talkative,
        LoopbackGateway,
        500,
        caplog,
    )


class Hopeful(Acme):
    def _send(self, text: Text) -> Receipt:
        try:
            return super()._send(text)
        except Exception as error:
            raise Unavailable(self.name, "try another") from error


class Denying(Acme):
    def _send(self, text: Text) -> Receipt:
        try:
            return super()._send(text)
        except Unknown as error:
            raise Unavailable(self.name, error.reason, written=False) from None


@pytest.mark.parametrize("bad", [Hopeful, Denying])
def test_calling_a_lost_answer_unavailable_is_noticed(bad: type[Sender]) -> None:
    said = broken(
        SenderContract.test_wire_a_lost_answer_is_unknown_and_in_time,
        bad,
        LoopbackGateway,
        close,
    )
    assert "it may have been sent" in said


class Boastful(Acme):
    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.TEXT, Capability.CREDIT})


class Modest(Acme):
    def send_code(self, message: CodeMessage) -> Receipt:
        return self._send(Text(message.to, message.text, message.reference))

    def received(self, since: datetime):  # type: ignore[no-untyped-def] -- a test's own sender
        return iter(())


def test_capabilities_that_are_not_so_are_noticed() -> None:
    broken(SenderContract.test_its_capabilities_are_methods_that_it_writes, Boastful)
    broken(SenderContract.test_what_it_cannot_do_it_refuses_with_nothing_written, Modest)


class Muddled(Acme):
    def _send_batch(self, batch: list[Text]) -> list[Receipt]:  # type: ignore[override] -- a test's own sender
        return list(reversed(super()._send_batch(batch)))


class Short(Acme):
    def _send_batch(self, batch: list[Text]) -> list[Receipt]:  # type: ignore[override] -- a test's own sender
        return super()._send_batch(batch)[:1]


@pytest.mark.parametrize("bad", [Muddled, Short])
def test_receipts_out_of_order_or_left_out_are_noticed(bad: type[Sender]) -> None:
    broken(SenderContract.test_many_texts_give_a_receipt_each_in_order, bad)


def test_the_package_needs_no_pytest() -> None:
    """And what does, says so."""
    script = """
import sys
sys.modules["pytest"] = None
import flask_smsverify, flask_smsverify.senders.raygan
assert "flask_smsverify.testing" not in sys.modules
try:
    import flask_smsverify.testing
except ImportError as error:
    assert "pip install pytest" in str(error), error
else:
    raise SystemExit("it was imported")
"""
    subprocess.run([sys.executable, "-c", script], check=True)
