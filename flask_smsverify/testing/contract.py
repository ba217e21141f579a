"""The contract of senders: the pytest class that every sender must pass.

Each test makes all calls that the sender supports. An assertion's message names the call that
failed, and the answer or misbehaviour that caused it.
"""

# ruff: noqa: S101 -- a contract consists of assertions

from __future__ import annotations

import contextlib
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import ClassVar

try:
    import pytest
except ImportError as missing:
    raise ImportError(
        "SenderContract needs pytest, which is not installed. Run: pip install pytest"
    ) from missing

from ..errors import Misconfigured, SenderError, Unavailable, Unknown
from ..senders.base import (
    Capability,
    Channel,
    CodeMessage,
    DeliveryState,
    Pattern,
    Receipt,
    Sender,
    Text,
)
from ..senders.deadline import deadline
from .loopback import (
    LoopbackGateway,
    Misbehaviour,
    Reply,
    Request,
    close,
    close_in_body,
    close_in_head,
    drip_body,
    drip_head,
    hang,
    hang_after_head,
    reset,
    send_endless_body,
    send_gzip_bomb,
    send_no_gzip,
    send_no_http,
)

MOBILE = "+989123456789"
OTHER_MOBILE = "+989356789012"
CODE = "480192"
TEXT = "Gooseberry marmalade ripens on Thursday"
CODE_TEXT = f"Gooseberry {CODE} marmalade"

#: What must not appear in errors, reprs and logs, in addition to the credentials.
SECRETS = ("9123456789", "9356789012", CODE, "Gooseberry", "marmalade")

#: Complete answers that no gateway gives for success.
INVALID_ANSWERS: Mapping[str, Reply] = {
    "html": Reply(200, b"<!doctype html><title>Hello</title><p>Success", "text/html"),
    "html_404": Reply(404, b"<h1>Not found</h1>", "text/html"),
    "html_502": Reply(502, b"<h1>Bad gateway</h1>", "text/html"),
    "empty": Reply(200),
    "nothing": Reply(204),
    "spaces": Reply(200, b"  \r\n"),
    "half_json": Reply(200, b'{"Code": 0, "status": 1, "data": [{"id": "17", "to'),
    "deep_list": Reply(200, b"[" * 200_000),
    "deep_object": Reply(200, b'{"data":' * 100_000),
    "not_utf8": Reply(200, b"\xff\xfe\x00\xd8"),
    "nan": Reply(200, b"NaN"),
    "endless_number": Reply(200, b"9" * 10_000),
    "word": Reply(200, b'"ok"'),
    "empty_text": Reply(200, b'""'),
    "list_of_null": Reply(200, b"[null]"),
    "list_of_lists": Reply(200, b"[[]]"),
    "data_null": Reply(200, b'{"Code": null, "status": null, "data": null}'),
    "data_words": Reply(200, b'{"Code": "zero", "status": "fine", "data": "yes"}'),
    "data_flags": Reply(200, b'{"Code": false, "status": false, "data": true}'),
    "xml": Reply(200, b"<response></response>", "text/xml"),
    "half_xml": Reply(200, b"<response><MsgID>", "text/xml"),
}

#: Answers like these, which may also mean that there are no received texts.
EMPTY_ANSWERS: Mapping[str, Reply] = {
    "null": Reply(200, b"null"),
    "empty_list": Reply(200, b"[]"),
    "empty_object": Reply(200, b"{}"),
}

#: HTTP statuses that are not success, whatever the body says.
ERROR_STATUSES = (301, 302, 307, 400, 401, 402, 403, 404, 405, 409, 422, 429, 500, 502, 503)

#: What may happen after the request was written. The message may have been sent.
LOST_ANSWERS: Sequence[Misbehaviour] = (
    hang,
    hang_after_head,
    drip_head,
    drip_body,
    reset,
    close,
    close_in_head,
    close_in_body,
    send_endless_body,
    send_gzip_bomb,
    send_no_gzip,
    send_no_http,
)

#: Payloads that no gateway pushes.
INVALID_PUSHES: Sequence[object] = (None, {}, "", "x", 7, [{}], {"id": None}, {"x": "y" * 99})

#: Texts that are hard to write in some format.
DIFFICULT_TEXTS = ("\ud800", "a\x00b", "\u202e\u0007", "👍🏽", "x" * 5000)

#: The deadline of the calls to a misbehaving gateway, in seconds.
SECONDS = 0.4

#: The methods that a sender overrides for each capability.
METHODS: Mapping[Capability, tuple[str, ...]] = {
    Capability.TEXT: ("send_batch",),
    Capability.PATTERN: ("send_pattern",),
    Capability.CODE_SMS: ("send_code",),
    Capability.CODE_VOICE: ("send_code",),
    Capability.NATIVE_CODE: ("send_native_code", "check_native_code"),
    Capability.CREDIT: ("credit",),
    Capability.STATUS: ("statuses",),
    Capability.INCOMING: ("received",),
    Capability.FIND: ("find",),
    Capability.CONTACTS: ("contacts",),
    Capability.PRICES: ("part_price",),
    Capability.FILTER: ("reachable",),
}

_SENDS = ("send_text", "send_pattern", "send_code by sms", "send_code by voice", "send_native_code")


def _code_message(channel: Channel) -> CodeMessage:
    return CodeMessage(MOBILE, CODE, CODE_TEXT, channel, reference="ref-code")


def _give(reply: Reply, _request: Request) -> Reply:
    return reply


def _catch(call: Callable[[], object], *kinds: type[SenderError]) -> SenderError | None:
    """Make a call and return the error of these kinds that it raised; None for none."""
    try:
        call()
    except kinds as error:
        return error
    return None


def _calls(
    sender: Sender, ids: Sequence[str], pattern: Pattern
) -> dict[str, tuple[Capability, Callable[[], object]]]:
    """Return one call of every method, by its name."""
    return {
        "send_text": (
            Capability.TEXT,
            lambda: sender.send_text(MOBILE, TEXT, reference="ref-text"),
        ),
        "send_pattern": (
            Capability.PATTERN,
            lambda: sender.send_pattern(MOBILE, pattern, reference="ref-pattern"),
        ),
        "send_code by sms": (Capability.CODE_SMS, lambda: sender.send_code(_code_message("sms"))),
        "send_code by voice": (
            Capability.CODE_VOICE,
            lambda: sender.send_code(_code_message("voice")),
        ),
        "send_native_code": (Capability.NATIVE_CODE, lambda: sender.send_native_code(MOBILE)),
        "check_native_code": (
            Capability.NATIVE_CODE,
            lambda: sender.check_native_code(MOBILE, CODE),
        ),
        "credit": (Capability.CREDIT, sender.credit),
        "statuses": (Capability.STATUS, lambda: sender.statuses(ids)),
        "received": (
            Capability.INCOMING,
            lambda: list(sender.received(datetime.now(UTC) - timedelta(days=2))),
        ),
    }


class SenderContract:
    """The rules for every sender, whatever its gateway does. Subclass it as `Test…`.

    For a sender that speaks HTTP, override `make_sender` and `answer`. For any other sender, write
    a fixture `sender` and set `speaks_http` to False. The tests whose names start with `test_wire_`
    are then not collected.
    """

    #: The credentials of the sender. They must not appear in errors, reprs and logs.
    credentials: ClassVar[Sequence[str]] = ()
    #: Ids that make `statuses` ask the gateway. If empty, the id of a sent text is used.
    known_ids: ClassVar[Sequence[str]] = ()
    #: A pattern with values that the gateway accepts. Override it if the ids are not numbers.
    pattern: ClassVar[Pattern] = Pattern("17", {"name": "Gooseberry"})
    #: Whether the sender speaks HTTP to its gateway.
    speaks_http: ClassVar[bool] = True
    #: Whether the sender makes a request before a send, such as for a token. If that one fails, the
    #: send may say that nothing was sent.
    signs_in_first: ClassVar[bool] = False
    #: Whether writing messages to the log is the purpose of the sender.
    logs_messages: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.speaks_http:
            for name in (name for name in dir(SenderContract) if name.startswith("test_wire_")):
                setattr(cls, name, None)

    def make_sender(self, base_url: str) -> Sender:
        """Return a sender with every capability, for a gateway at this URL."""
        raise NotImplementedError

    def answer(self, request: Request) -> Reply:
        """Return the gateway's answer of success. Every mobile, text and code is valid."""
        raise NotImplementedError

    @pytest.fixture
    def gateway(self) -> Iterator[LoopbackGateway]:
        """A gateway on 127.0.0.1 that answers with `answer`."""
        if type(self).make_sender is SenderContract.make_sender:
            pytest.skip("override make_sender and answer, or set speaks_http to False")
        with LoopbackGateway(self.answer) as gateway:
            yield gateway

    @pytest.fixture
    def sender(self, gateway: LoopbackGateway) -> Iterator[Sender]:
        """The sender under test."""
        with contextlib.closing(self.make_sender(gateway.url)) as sender:
            yield sender

    # --- every sender ----------------------------------------------------------------------------

    def test_the_sender_has_a_name_and_its_repr_shows_no_credential(self, sender: Sender) -> None:
        assert isinstance(sender.name, str)
        assert sender.name, "the sender has no name"
        self._check_secrets(repr(sender), str(sender), where="the sender's repr")

    def test_the_sender_overrides_the_methods_of_its_capabilities(self, sender: Sender) -> None:
        for capability in sender.capabilities:
            for method in METHODS[Capability(capability)]:
                is_overridden = getattr(type(sender), method) is not getattr(Sender, method)
                assert is_overridden, f"{method} is not overridden, but {capability} is listed"

    def test_calls_without_their_capability_raise_unavailable(self, sender: Sender) -> None:
        for name, (capability, call) in _calls(sender, ["17"], self.pattern).items():
            if capability in sender.capabilities:
                continue
            error = _catch(call, Unavailable)
            assert error is not None, f"{name}: it works, but {capability} is not in capabilities"
            assert not error.written, f"{name}: the error has written=True"
            self._check_error(sender, error, name)

    def test_a_text_gets_a_receipt(self, sender: Sender) -> None:
        if Capability.TEXT in sender.capabilities:
            receipt = sender.send_text(MOBILE, TEXT, reference="ref-text")
            self._check_receipt(receipt, MOBILE, "ref-text", "send_text")

    def test_a_pattern_gets_a_receipt(self, sender: Sender) -> None:
        if Capability.PATTERN in sender.capabilities:
            sender.check_pattern(self.pattern)
            receipt = sender.send_pattern(MOBILE, self.pattern, reference="ref-pattern")
            self._check_receipt(receipt, MOBILE, "ref-pattern", "send_pattern")
            self._check_secrets(repr(self.pattern), where="the pattern's repr")

    def test_a_pattern_that_breaks_the_gateways_rules_is_refused_before_the_call(
        self, sender: Sender
    ) -> None:
        if Capability.PATTERN not in sender.capabilities:
            return
        [name, *_] = self.pattern.values
        rules = sender.pattern_rules
        wrong = [Pattern(self.pattern.template, {name: char}) for char in rules.forbidden]
        if rules.max_length is not None:
            wrong.append(Pattern(self.pattern.template, {name: "x" * (rules.max_length + 1)}))
        if rules.max_template is not None:
            wrong += [Pattern(template, self.pattern.values) for template in ("", "0", "x", "-1")]
        if not rules.allows_links:
            wrong.append(Pattern(self.pattern.template, {name: "https://a.example"}))
        for pattern in wrong:
            for call in (
                partial(sender.check_pattern, pattern),
                partial(sender.send_pattern, MOBILE, pattern),
            ):
                error = _catch(call, Misconfigured)
                assert error is not None, f"send_pattern: it accepts {pattern.template!r}"
                assert not error.written, "send_pattern: the error has written=True"
                self._check_error(sender, error, "send_pattern")

    def test_many_texts_get_receipts_in_their_order(self, sender: Sender) -> None:
        if Capability.TEXT not in sender.capabilities:
            return
        equal = [Text(to, TEXT, f"equal-{to[-2:]}") for to in (OTHER_MOBILE, MOBILE)]
        different = [
            Text(MOBILE, f"{TEXT} first", "different-1"),
            Text(OTHER_MOBILE, f"{TEXT} second", "different-2"),
            Text(MOBILE, f"{TEXT} third", "different-3"),
        ]
        for name, texts in {"equal": equal, "different": different, "no": []}.items():
            call = f"send_many with {name} texts"
            receipts = list(sender.send_many(iter(texts)))
            assert len(receipts) == len(texts), f"{call}: {len(receipts)} receipts"
            for receipt, text in zip(receipts, texts, strict=True):
                self._check_receipt(receipt, text.to, text.reference, call)

    def test_many_texts_are_read_one_batch_at_a_time(
        self, sender: Sender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if Capability.TEXT not in sender.capabilities:
            return
        monkeypatch.setattr(type(sender), "batch_limit", 2)
        count = 0

        def texts() -> Iterator[Text]:
            nonlocal count
            for number in range(5):
                count += 1
                yield Text(MOBILE, TEXT, f"stream-{number}")

        receipts = sender.send_many(texts())
        first = next(receipts)
        assert count <= 3, f"send_many: it read {count} texts before the first receipt"
        references = [first.reference, *(receipt.reference for receipt in receipts)]
        assert references == [f"stream-{number}" for number in range(5)], "send_many: the order"

    def test_a_code_gets_a_receipt(self, sender: Sender) -> None:
        channels: dict[Capability, Channel] = {
            Capability.CODE_SMS: "sms",
            Capability.CODE_VOICE: "voice",
        }
        for capability, channel in channels.items():
            if capability in sender.capabilities:
                receipt = sender.send_code(_code_message(channel))
                self._check_receipt(receipt, MOBILE, "ref-code", f"send_code by {channel}")
        if Capability.NATIVE_CODE in sender.capabilities:
            self._check_receipt(sender.send_native_code(MOBILE), MOBILE, "", "send_native_code")
            verdict = sender.check_native_code(MOBILE, CODE)
            assert isinstance(verdict, bool), f"check_native_code: it returned {verdict!r}"

    def test_credit_states_and_received_texts_have_their_types(self, sender: Sender) -> None:
        supported = sender.capabilities
        if Capability.CREDIT in supported:
            amount = sender.credit().amount
            assert isinstance(amount, Decimal), "credit: the amount is not a Decimal"
            assert amount.is_finite(), "credit: the amount is not finite"
        if Capability.STATUS in supported:
            assert sender.statuses([]) == {}, "statuses: states without ids"
            ids = [*self._status_ids(sender), "an-unknown-id"]
            states = sender.statuses(ids)
            assert set(states) == set(ids), "statuses: not one state for each id"
            for state in states.values():
                assert isinstance(state, DeliveryState), f"statuses: {state!r} is no DeliveryState"
            unknown = states["an-unknown-id"]
            assert unknown is DeliveryState.UNKNOWN, f"statuses: an unknown id is {unknown}"
        if Capability.INCOMING in supported:
            for text in sender.received(datetime.now(UTC) - timedelta(days=3650)):
                assert text.id, "received: a text without id"
                received_at = text.received_at
                is_utc = received_at is None or received_at.utcoffset() == timedelta()
                assert is_utc, "received: a time that is not UTC"
                assert not text.text or text.text not in repr(text), "received: repr shows the text"

    def test_an_invalid_push_raises_unknown_or_unavailable(self, sender: Sender) -> None:
        for payload in INVALID_PUSHES:
            name = f"parse_push({payload!r:.40})"
            error = _catch(partial(sender.parse_push, payload), Unknown, Unavailable)
            assert error is not None, f"{name}: it accepts what no gateway sends"
            self._check_error(sender, error, name)

    def test_a_difficult_text_is_sent_or_raises_a_sender_error(self, sender: Sender) -> None:
        for text in DIFFICULT_TEXTS:
            message = CodeMessage(MOBILE, CODE, text)
            calls: dict[Capability, Callable[[], object]] = {
                Capability.TEXT: partial(sender.send_text, MOBILE, text),
                Capability.CODE_SMS: partial(sender.send_code, message),
            }
            for capability, call in calls.items():
                if capability in sender.capabilities:
                    error = _catch(call, SenderError)
                    if error is not None:
                        self._check_error(sender, error, f"{capability} with {text[:5]!a}")

    def test_threads_can_share_the_sender(self, sender: Sender) -> None:
        if Capability.TEXT not in sender.capabilities:
            return
        with ThreadPoolExecutor(4) as threads:
            calls = [
                threads.submit(sender.send_text, MOBILE, TEXT, reference=f"thread-{number}")
                for number in range(12)
            ]
        for number, call in enumerate(calls):
            reference = f"thread-{number}"
            self._check_receipt(call.result(), MOBILE, reference, f"send_text in {reference}")

    def test_the_log_shows_no_message_and_no_credential(
        self, sender: Sender, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        ids = self._status_ids(sender)
        for name, (capability, call) in _calls(sender, ids, self.pattern).items():
            if capability in sender.capabilities:
                call()
            if not self.logs_messages:
                self._check_secrets(caplog.text, where=f"{name}: the log")

    # --- senders that speak HTTP -----------------------------------------------------------------

    def test_wire_an_invalid_answer_is_an_error(
        self, sender: Sender, gateway: LoopbackGateway, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        ids = self._status_ids(sender)
        for name, reply in {**INVALID_ANSWERS, **EMPTY_ANSWERS}.items():
            gateway.answer = partial(_give, reply)
            case = f"the answer {name}"
            self._fail_all(sender, ids, case, accepts_empty=name in EMPTY_ANSWERS)
            self._check_secrets(caplog.text, where=f"the log after {case}")
            caplog.clear()
        self._check_recovery(sender, gateway)

    def test_wire_an_error_status_is_an_error_whatever_the_body(
        self, sender: Sender, gateway: LoopbackGateway
    ) -> None:
        ids = self._status_ids(sender)
        for status in ERROR_STATUSES:

            def answer(request: Request, status: int = status) -> Reply:
                good = self.answer(request)
                headers = {"Location": f"{gateway.url}/elsewhere"} if status < 400 else {}
                return Reply(status, good.body, good.content_type, headers)

            gateway.answer = answer
            errors = self._fail_all(sender, ids, f"HTTP {status}")
            if status in (429, 500, 502, 503):
                for name, error in errors.items():
                    assert isinstance(error, Unavailable | Unknown), (
                        f"{name} with HTTP {status}: raised {type(error).__name__}, although the "
                        "service failed"
                    )
            followed = [one.target for one in gateway.requests if "elsewhere" in one.target]
            assert not followed, f"HTTP {status}: a redirect was followed"

    def test_wire_an_error_does_not_repeat_the_request(
        self, sender: Sender, gateway: LoopbackGateway, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        ids = self._status_ids(sender)
        for status in (200, 400, 403, 422, 500):

            def answer(request: Request, status: int = status) -> Reply:
                echo = f"{request.target} {dict(request.headers)} {request.body.decode()}"
                echo = f"{CODE_TEXT} {TEXT} {MOBILE} {' '.join(self.credentials)} {echo}"
                body = {
                    "Code": 9999,
                    "status": echo,
                    "Message": echo,
                    "message": echo,
                    "errors": {echo: [echo]},
                    "meta": {"status": 9999, "message": echo},
                }
                return Reply(status, json.dumps(body).encode())

            gateway.answer = answer
            case = f"an echo with HTTP {status}"
            self._fail_all(sender, ids, case)
            self._check_secrets(caplog.text, where=f"the log after {case}")
            caplog.clear()

    def test_wire_a_lost_answer_is_unknown_within_the_deadline(
        self, sender: Sender, gateway: LoopbackGateway
    ) -> None:
        ids = self._status_ids(sender)
        for misbehaviour in LOST_ANSWERS:
            self._check_lost_answer(sender, gateway, misbehaviour, ids)

    def test_wire_a_refused_connection_is_unavailable_and_nothing_is_written(self) -> None:
        if type(self).make_sender is SenderContract.make_sender:
            pytest.skip("override make_sender and answer, or set speaks_http to False")
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        with contextlib.closing(self.make_sender(f"http://127.0.0.1:{port}")) as sender:
            errors = self._fail_all(sender, self.known_ids, "a refused connection")
        for name, error in errors.items():
            assert isinstance(error, Unavailable), f"{name}: raised {type(error).__name__}"
            assert not error.written, f"{name}: the error has written=True"

    # --- checks ----------------------------------------------------------------------------------

    def _check_lost_answer(
        self,
        sender: Sender,
        gateway: LoopbackGateway,
        misbehaviour: Misbehaviour,
        ids: Sequence[str],
    ) -> None:
        """Check that every call ends before the gateway does, and that a send is unknown."""
        case = misbehaviour.__name__
        gateway.misbehave = misbehaviour
        began = time.monotonic()
        errors = self._fail_all(sender, ids, case)
        took = time.monotonic() - began
        # The gateway hangs much longer than the deadline, so that a busy machine passes too.
        assert took < gateway.hang_seconds, (
            f"{', '.join(errors)} with {case}: took {took:.0f} s with a deadline of {SECONDS} s"
        )
        for name in _SENDS:
            if name in errors and not self.signs_in_first:
                error = errors[name]
                for _ in range(5):  # a busy machine may not write within the deadline
                    if error.written:
                        break
                    error = self._fail_all(sender, ids, case, only=name)[name]
                assert isinstance(error, Unknown), (
                    f"{name} with {case}: raised {type(error).__name__}, although the message may "
                    "have been sent"
                )
        self._check_recovery(sender, gateway)

    def _status_ids(self, sender: Sender) -> Sequence[str]:
        """Return ids that make `statuses` ask the gateway."""
        if self.known_ids or not {Capability.STATUS, Capability.TEXT} <= sender.capabilities:
            return self.known_ids
        receipt = sender.send_text(MOBILE, TEXT)
        assert receipt.id, "send_text: a receipt without id, but the sender supports statuses"
        return [receipt.id]

    def _fail_all(
        self,
        sender: Sender,
        ids: Sequence[str],
        case: str,
        *,
        accepts_empty: bool = False,
        only: str | None = None,
    ) -> dict[str, SenderError]:
        """Make all supported calls in parallel, and return their errors by the calls' names.

        :param case: why they must fail, for messages.
        :param accepts_empty: whether the answer may mean that there are no received texts.
        :param only: the one call to make.
        """
        calls = {
            name: call
            for name, (capability, call) in _calls(sender, ids, self.pattern).items()
            if capability in sender.capabilities
            and (ids or name != "statuses")
            and only in (None, name)
        }

        def within_deadline(call: Callable[[], object]) -> object:
            with deadline(SECONDS):
                return call()

        errors: dict[str, SenderError] = {}
        with ThreadPoolExecutor(len(calls) or 1) as threads:
            running = {name: threads.submit(within_deadline, call) for name, call in calls.items()}
        for name, run in running.items():
            error = run.exception()
            if error is None:
                result = run.result()
                is_empty = (
                    name == "statuses"
                    and isinstance(result, dict)
                    and set(result.values()) <= {DeliveryState.UNKNOWN}
                ) or (name == "received" and accepts_empty and result == [])
                assert is_empty, f"{name} with {case}: it was taken for success"
                continue
            assert isinstance(error, SenderError), (
                f"{name} with {case}: raised {type(error).__name__}, which is no SenderError"
            )
            self._check_error(sender, error, f"{name} with {case}")
            errors[name] = error
        return errors

    def _check_recovery(self, sender: Sender, gateway: LoopbackGateway) -> None:
        """Check that the sender works after the gateway recovered."""
        gateway.misbehave, gateway.answer = None, self.answer
        for name, (capability, call) in _calls(sender, [], self.pattern).items():
            if capability in sender.capabilities and name in _SENDS:
                error = _catch(call, SenderError)
                assert error is None, f"{name}: still fails after the gateway recovered: {error}"

    def _check_receipt(self, receipt: Receipt, to: str, reference: str, call: str) -> None:
        assert isinstance(receipt, Receipt), f"{call}: it returned {type(receipt).__name__}"
        assert receipt.error is None, f"{call}: the receipt has an error: {receipt.error}"
        assert receipt.to == to, f"{call}: the receipt has another mobile"
        assert receipt.reference == reference, f"{call}: the receipt has another reference"
        accepted = (DeliveryState.QUEUED, DeliveryState.SENT, DeliveryState.DELIVERED)
        assert receipt.status in accepted, f"{call}: the receipt is {receipt.status}"
        has_valid_id = receipt.id is None or (isinstance(receipt.id, str) and receipt.id)
        assert has_valid_id, f"{call}: the receipt's id is {receipt.id!r}"
        cost = receipt.cost
        is_amount = isinstance(cost, Decimal) and cost.is_finite() and cost >= 0
        assert cost is None or is_amount, f"{call}: the receipt's cost is {cost!r}"
        self._check_secrets(repr(receipt), where=f"{call}: the receipt's repr")

    def _check_error(self, sender: Sender, error: SenderError, call: str) -> None:
        assert error.sender == sender.name, f"{call}: the error's sender is {error.sender!r}"
        assert error.gateway == sender.gateway, (
            f"{call}: the error's gateway is {error.gateway!r}; make errors with make_error"
        )
        assert error.reason, f"{call}: the error has no reason"
        assert error.advice, f"{call}: the error has no advice"
        shown = (error.reason, error.code or "", error.advice)
        self._check_secrets(*shown, where=f"{call}: the error")
        link: BaseException | None = error
        while link is not None:
            parts = (str(link), repr(link), *map(repr, link.args))
            self._check_secrets(*parts, where=f"{call}: {type(link).__name__}")
            link = link.__cause__ or link.__context__

    def _check_secrets(self, *parts: str, where: str) -> None:
        for secret in (*SECRETS, *self.credentials):
            assert not any(secret in part for part in parts), f"{where} shows {secret!r}"
