"""What users of the package import in their tests.

`SenderContract` is what every sender must pass, ours and a user's own. It needs pytest, and so
does this module. For a sender that speaks HTTP it runs a gateway of its own on 127.0.0.1, a
`LoopbackGateway`, that answers as the test's author says or misbehaves as gateways do::

    class TestAcme(SenderContract):
        credentials = ("the-key",)

        def make_sender(self, base_url):
            return Acme(key="the-key", base_url=base_url)

        def answer(self, request):
            return Reply(200, b'{"sent": 17}')
"""

# ruff: noqa: S101 -- a contract is made of assertions

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import ClassVar

try:
    import pytest
except ImportError as missing:
    raise ImportError(
        "flask_smsverify.testing needs pytest, which is not installed: pip install pytest"
    ) from missing

from flask import Flask

from .delivery import Routes
from .errors import SenderError, Unavailable, Unknown
from .extension import state_of
from .senders.base import Capability, Channel, CodeMessage, Receipt, Sender, Status, Text
from .senders.http import MAX_ANSWER_BYTES, deadline
from .senders.memory import Kept, Memory

# --- what an app sends ---------------------------------------------------------------------------


class Outbox:
    """What an app sent while `outbox` was in force, oldest first."""

    def __init__(self, memory: Memory, settle: Callable[[], None]) -> None:
        self._memory = memory
        self._settle = settle

    def __len__(self) -> int:
        return len(self.messages)

    @property
    def messages(self) -> list[Kept]:
        """The messages, each with `to`, `text`, `code`, `channel`; waits for the background."""
        self._settle()
        return self._memory.messages

    @property
    def last(self) -> Kept:
        """The last one.

        :raises AssertionError: nothing was sent.
        """
        messages = self.messages
        assert messages, "nothing was sent"
        return messages[-1]

    def clear(self) -> None:
        """Forget what was sent so far."""
        self._settle()
        self._memory.clear()


@contextlib.contextmanager
def outbox(app: Flask) -> Iterator[Outbox]:
    """Collect what an app sends instead of sending it, whatever senders it has.

    For example::

        with outbox(app) as box:
            client.post("/verify-mobile/send")
            client.post("/verify-mobile/check", data={"code": box.last.code})
    """
    delivery = state_of(app).delivery
    memory = Memory(name="outbox")
    with delivery.rerouted(Routes({"outbox": memory}, {})):
        yield Outbox(memory, delivery.settle)


# --- a gateway on loopback -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came over the wire.

    :param target: path and query, as in the request's first line.
    :param headers: by their names in small letters.
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def json(self) -> object:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole and proper HTTP answer."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    def head(self) -> bytes:
        """The first line and the headers."""
        lines = [f"HTTP/1.1 {self.status} Whatever", f"Content-Type: {self.content_type}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += [f"Content-Length: {len(self.body)}", "", ""]
        return "\r\n".join(lines).encode()


class Exchange:
    """One request on its connection, for what misbehaves by hand."""

    def __init__(self, request: Request, connection: socket.socket, stop: threading.Event) -> None:
        self.request = request
        self._connection = connection
        self._stop = stop

    def send(self, data: bytes) -> None:
        """Write bytes; nothing happens where nobody listens any more."""
        with contextlib.suppress(OSError):
            self._connection.sendall(data)

    def answer(self, reply: Reply) -> None:
        """Write a whole answer, and in it that the connection is closed after it.

        A client that is not told may write its next request into the closing connection, and lose
        it there.
        """
        told = replace(reply, headers={"Connection": "close", **reply.headers})
        self.send(told.head() + told.body)

    def wait(self, seconds: float) -> bool:
        """Pause; False where the gateway is being stopped."""
        return not self._stop.wait(seconds)

    def reset(self) -> None:
        """Tear the connection down with a TCP reset."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()


#: How long a gateway hangs or drips. Then it closes, so that a sender that waits fails its test and
#: does not hang it.
PATIENCE = 4.0

#: What a gateway does with a request. Its connection is closed when it returns.
Misbehaviour = Callable[[Exchange], None]


def hang(exchange: Exchange) -> None:
    """Take the request and say nothing."""
    exchange.wait(PATIENCE)


def hang_after_head(exchange: Exchange) -> None:
    """Promise a body and say nothing more."""
    exchange.send(Reply(200, b"x" * 100).head())
    exchange.wait(PATIENCE)


def drip_head(exchange: Exchange) -> None:
    """Send one header after the other, each soon enough for a timeout per read."""
    exchange.send(b"HTTP/1.1 200 OK\r\n")
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends and exchange.wait(0.03):
        exchange.send(b"X-Still: here\r\n")


def drip_body(exchange: Exchange) -> None:
    """Send one byte after the other, each soon enough for a timeout per read."""
    exchange.send(Reply(200, b" " * 100_000).head())
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends and exchange.wait(0.03):
        exchange.send(b" ")


def reset(exchange: Exchange) -> None:
    """Reset the connection once the request is read."""
    exchange.reset()


def close(_exchange: Exchange) -> None:
    """Close the connection once the request is read."""


def close_in_head(exchange: Exchange) -> None:
    """Close the connection in the middle of the headers."""
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Ty")


def close_in_body(exchange: Exchange) -> None:
    """Close the connection in the middle of the body."""
    exchange.send(Reply(200, b'{"data": [{"id": "1", "Code": 0}]}').head() + b'{"data": [')


def endless_body(exchange: Exchange) -> None:
    """Send four times what an answer may have."""
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(4 * MAX_ANSWER_BYTES // 0x10000):
        exchange.send(chunk)
    exchange.send(b"0\r\n\r\n")


def gzip_bomb(exchange: Exchange) -> None:
    """Send a few kilobytes that unpack to four times what an answer may have."""
    packed = _packed_spaces(4 * MAX_ANSWER_BYTES)
    reply = Reply(200, packed, headers={"Content-Encoding": "gzip"})
    exchange.send(reply.head() + packed)


@cache
def _packed_spaces(length: int) -> bytes:
    return gzip.compress(b" " * length)


def not_gzip(exchange: Exchange) -> None:
    """Say gzip, and send something else."""
    reply = Reply(200, b"{} is not gzip", headers={"Content-Encoding": "gzip"})
    exchange.send(reply.head() + reply.body)


def not_http(exchange: Exchange) -> None:
    """Speak another protocol."""
    exchange.send(b"SSH-2.0-OpenSSH_9.9\r\n")


class LoopbackGateway:
    """An HTTP server on 127.0.0.1 that answers by a function or misbehaves. A context manager.

    :param answer: gives the reply to a request.
    :param tls: speak TLS.
    """

    def __init__(
        self, answer: Callable[[Request], Reply], *, tls: ssl.SSLContext | None = None
    ) -> None:
        self.answer = answer
        #: What is done with each request instead of answering it; None: answer.
        self.misbehave: Misbehaviour | None = None
        #: Every request that was read, in order.
        self.requests: list[Request] = []
        #: How many connections were taken.
        self.connections = 0
        self._tls = tls
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def open_connections(self) -> int:
        """How many of them are not closed from this side yet."""
        return len(self._open)

    def __enter__(self) -> LoopbackGateway:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        with contextlib.suppress(OSError):  # wakes the thread that waits for a connection
            socket.create_connection(self._listener.getsockname(), timeout=1).close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):  # wakes the one that reads from it
                connection.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(5)
        self._listener.close()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name="loopback-gateway", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._stop.is_set():
                return connection.close()
            connection.settimeout(30)
            self.connections += 1
            self._open.add(connection)
            self._start(self._serve, connection)

    def _serve(self, plain: socket.socket) -> None:
        connection = plain
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(plain, server_side=True)
                self._open.add(connection)
            while (request := self._read(connection)) is not None:
                self.requests.append(request)
                if self.misbehave is not None:
                    return self.misbehave(Exchange(request, connection, self._stop))
                reply = self.answer(request)
                connection.sendall(reply.head() + reply.body)
        except OSError:
            return None
        finally:
            connection.close()
            plain.close()
            self._open -= {plain, connection}

    def _read(self, connection: socket.socket) -> Request | None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (more := connection.recv(65_536)):
                return None
            head += more
        head, _, body = head.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        pairs = (line.split(":", 1) for line in lines)
        headers = {name.strip().lower(): value.strip() for name, value in pairs}
        while len(body) < int(headers.get("content-length", 0)):
            if not (more := connection.recv(65_536)):
                return None
            body += more
        return Request(method, target, headers, body)


# --- the contract --------------------------------------------------------------------------------

MOBILE = "+989123456789"
OTHER_MOBILE = "+989356789012"
CODE = "480192"
TEXT = "Gooseberry marmalade ripens on Thursday"
CODE_TEXT = f"Gooseberry {CODE} marmalade"

#: What must not show in any error, repr or log line, besides the credentials.
SECRETS = ("9123456789", "9356789012", CODE, "Gooseberry", "marmalade")

#: Answers that are whole, and are not success for any gateway.
NO_ANSWERS: Mapping[str, Reply] = {
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

#: The same, where "no received messages" could be read from it.
EMPTY_ANSWERS: Mapping[str, Reply] = {
    "null": Reply(200, b"null"),
    "empty_list": Reply(200, b"[]"),
    "empty_object": Reply(200, b"{}"),
}

#: HTTP statuses that turn even a good body into no success.
REFUSALS = (301, 302, 307, 400, 401, 402, 403, 404, 405, 409, 422, 429, 500, 502, 503)

#: What happens when the request was written: a message may have gone out.
LOST_ANSWERS: Sequence[Misbehaviour] = (
    hang,
    hang_after_head,
    drip_head,
    drip_body,
    reset,
    close,
    close_in_head,
    close_in_body,
    endless_body,
    gzip_bomb,
    not_gzip,
    not_http,
)

#: How long a call may take here, and how much later it may end on a busy machine.
SECONDS, GRACE = 0.4, 2.5

#: For each capability, the methods that a sender with it writes.
METHODS: Mapping[Capability, tuple[str, ...]] = {
    Capability.TEXT: ("_send_batch",),
    Capability.CODE_SMS: ("send_code",),
    Capability.CODE_VOICE: ("send_code",),
    Capability.NATIVE_CODE: ("send_native_code", "check_native_code"),
    Capability.CREDIT: ("credit",),
    Capability.STATUS: ("statuses",),
    Capability.INCOMING: ("received",),
}


def _code_message(channel: Channel) -> CodeMessage:
    return CodeMessage(MOBILE, CODE, CODE_TEXT, channel, reference="ref-code")


def _uses(sender: Sender, ids: Sequence[str]) -> dict[str, tuple[Capability, Callable[[], object]]]:
    """One use of everything that a sender might do."""
    return {
        "send_text": (
            Capability.TEXT,
            lambda: sender.send_text(MOBILE, TEXT, reference="ref-text"),
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
    """What every sender must do, whatever its gateway does. Subclass it as `Test…`.

    For a sender that speaks HTTP, write `make_sender` and `answer`. For another, write a fixture
    `sender` and set `speaks_http` to False; the tests of the wire are then not collected.
    """

    #: Credentials that the sender was made with; they may show up nowhere.
    credentials: ClassVar[Sequence[str]] = ()
    #: Ids for `statuses` that make it ask the gateway; else those of texts it has sent are taken.
    known_ids: ClassVar[Sequence[str]] = ()
    #: Whether it talks to a gateway by HTTP.
    speaks_http: ClassVar[bool] = True
    #: Whether a request of its own, for instance for a token, comes before a send. Where that one
    #: fails, a send may say that nothing went out.
    signs_in_first: ClassVar[bool] = False
    #: Whether showing messages in the log is what the sender is for.
    logs_messages: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.speaks_http:
            for name in (name for name in dir(SenderContract) if name.startswith("test_wire_")):
                setattr(cls, name, None)

    def make_sender(self, base_url: str) -> Sender:
        """A sender with every capability on, whose gateway is at this address."""
        raise NotImplementedError

    def answer(self, request: Request) -> Reply:
        """What the gateway answers on a good day. Any mobile, text and code is good."""
        raise NotImplementedError

    @pytest.fixture
    def gateway(self) -> Iterator[LoopbackGateway]:
        """The gateway on loopback, answering by `answer`."""
        if type(self).make_sender is SenderContract.make_sender:
            pytest.skip("write make_sender and answer, or set speaks_http to False")
        with LoopbackGateway(self.answer) as gateway:
            yield gateway

    @pytest.fixture
    def sender(self, gateway: LoopbackGateway) -> Iterator[Sender]:
        """The sender under test."""
        with contextlib.closing(self.make_sender(gateway.url)) as sender:
            yield sender

    # --- whatever it speaks ------------------------------------------------------------------

    def test_it_has_a_name_and_shows_no_credential(self, sender: Sender) -> None:
        assert isinstance(sender.name, str)
        assert sender.name, "a sender without a name cannot be told from another"
        self._discreet(repr(sender), str(sender), what="the sender's repr")

    def test_its_capabilities_are_methods_that_it_writes(self, sender: Sender) -> None:
        for capability in sender.capabilities:
            for method in METHODS[Capability(capability)]:
                written = getattr(type(sender), method) is not getattr(Sender, method)
                assert written, f"it claims {capability} and does not write {method}"

    def test_what_it_cannot_do_it_refuses_with_nothing_written(self, sender: Sender) -> None:
        for use, (capability, call) in _uses(sender, ["17"]).items():
            if capability in sender.capabilities:
                continue
            with pytest.raises(Unavailable) as refused:
                call()
            assert not refused.value.written, f"{use}: nothing was written, but its error says so"
            self._check_error(sender, refused.value, use)

    def test_a_text_gives_a_receipt(self, sender: Sender) -> None:
        if Capability.TEXT in sender.capabilities:
            receipt = sender.send_text(MOBILE, TEXT, reference="ref-text")
            self._check_receipt(receipt, MOBILE, "ref-text")

    def test_many_texts_give_a_receipt_each_in_order(self, sender: Sender) -> None:
        if Capability.TEXT not in sender.capabilities:
            return
        alike = [Text(to, TEXT, f"alike-{to[-2:]}") for to in (OTHER_MOBILE, MOBILE)]
        unlike = [
            Text(MOBILE, f"{TEXT} first", "unlike-1"),
            Text(OTHER_MOBILE, f"{TEXT} second", "unlike-2"),
            Text(MOBILE, f"{TEXT} third", "unlike-3"),
        ]
        for texts in (alike, unlike, []):
            receipts = list(sender.send_many(iter(texts)))
            assert len(receipts) == len(texts), "a receipt for each text, no more and no fewer"
            for receipt, text in zip(receipts, texts, strict=True):
                self._check_receipt(receipt, text.to, text.reference)

    def test_many_texts_are_taken_a_batch_at_a_time(
        self, sender: Sender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if Capability.TEXT not in sender.capabilities:
            return
        monkeypatch.setattr(type(sender), "batch_limit", 2)
        taken = 0

        def texts() -> Iterator[Text]:
            nonlocal taken
            for number in range(5):
                taken += 1
                yield Text(MOBILE, TEXT, f"stream-{number}")

        receipts = sender.send_many(texts())
        first = next(receipts)
        assert taken <= 3, "it reads on before it gives the first receipts"
        references = [first.reference, *(receipt.reference for receipt in receipts)]
        assert references == [f"stream-{number}" for number in range(5)]

    def test_a_code_gives_a_receipt(self, sender: Sender) -> None:
        channels: dict[Capability, Channel] = {
            Capability.CODE_SMS: "sms",
            Capability.CODE_VOICE: "voice",
        }
        for capability, channel in channels.items():
            if capability in sender.capabilities:
                receipt = sender.send_code(_code_message(channel))
                self._check_receipt(receipt, MOBILE, "ref-code")
        if Capability.NATIVE_CODE in sender.capabilities:
            self._check_receipt(sender.send_native_code(MOBILE), MOBILE, "")
            assert isinstance(sender.check_native_code(MOBILE, CODE), bool)

    def test_it_tells_credit_states_and_received_messages(self, sender: Sender) -> None:
        can = sender.capabilities
        if Capability.CREDIT in can:
            amount = sender.credit().amount
            assert isinstance(amount, Decimal)
            assert amount.is_finite()
        if Capability.STATUS in can:
            assert sender.statuses([]) == {}
            ids = [*self._ids(sender), "an-id-of-nothing"]
            states = sender.statuses(ids)
            assert set(states) == set(ids), "a state for every id, and for no other"
            assert all(isinstance(state, Status) for state in states.values())
            assert states["an-id-of-nothing"] is Status.UNKNOWN
        if Capability.INCOMING in can:
            for message in sender.received(datetime.now(UTC) - timedelta(days=3650)):
                assert message.id
                assert message.received_at is None or message.received_at.utcoffset() == timedelta()
                assert message.text not in repr(message) or not message.text

    @pytest.mark.parametrize(
        "said", [None, {}, "", "x", 7, [{}], {"id": None}, {"x": "y" * 99}], ids=repr
    )
    def test_what_a_gateway_never_pushes_is_refused(self, sender: Sender, said: object) -> None:
        with pytest.raises((Unknown, Unavailable)) as refused:
            sender.read_push(said)
        self._check_error(sender, refused.value, "read_push")

    @pytest.mark.parametrize(
        "text", ["\ud800", "a\x00b", "\u202e\u0007", "👍🏽", "x" * 5000], ids=ascii
    )
    def test_no_text_makes_it_raise_anything_else(self, sender: Sender, text: str) -> None:
        calls: dict[Capability, Callable[[], object]] = {
            Capability.TEXT: lambda: sender.send_text(MOBILE, text),
            Capability.CODE_SMS: lambda: sender.send_code(CodeMessage(MOBILE, CODE, text)),
        }
        for capability, call in calls.items():
            if capability in sender.capabilities:
                try:
                    call()
                except SenderError as error:
                    self._check_error(sender, error, f"a text of {text[:5]!a}")

    def test_threads_may_share_it(self, sender: Sender) -> None:
        if Capability.TEXT not in sender.capabilities:
            return
        with ThreadPoolExecutor(4) as threads:
            calls = [
                threads.submit(sender.send_text, MOBILE, TEXT, reference=f"thread-{number}")
                for number in range(12)
            ]
        for number, call in enumerate(calls):
            self._check_receipt(call.result(), MOBILE, f"thread-{number}")

    def test_the_log_shows_no_message_and_no_credential(
        self, sender: Sender, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        ids = self._ids(sender)
        for capability, call in _uses(sender, ids).values():
            if capability in sender.capabilities:
                call()
        if not self.logs_messages:
            self._discreet(caplog.text, what="the log")

    # --- over the wire -----------------------------------------------------------------------

    @pytest.mark.parametrize("name", [*NO_ANSWERS, *EMPTY_ANSWERS])
    def test_wire_a_strange_answer_is_an_error(
        self,
        sender: Sender,
        gateway: LoopbackGateway,
        name: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        ids = self._ids(sender)
        gateway.answer = lambda _: NO_ANSWERS.get(name) or EMPTY_ANSWERS[name]
        self._all_fail(sender, ids, may_be_empty=name in EMPTY_ANSWERS)
        self._discreet(caplog.text, what="the log")
        self._works_again(sender, gateway)

    @pytest.mark.parametrize("status", REFUSALS)
    def test_wire_a_good_body_under_a_bad_status_is_an_error(
        self, sender: Sender, gateway: LoopbackGateway, status: int
    ) -> None:
        ids = self._ids(sender)

        def answer(request: Request) -> Reply:
            good = self.answer(request)
            headers = {"Location": f"{gateway.url}/elsewhere"} if status < 400 else {}
            return Reply(status, good.body, good.content_type, headers)

        gateway.answer = answer
        errors = self._all_fail(sender, ids)
        if status in (429, 500, 502, 503):
            for use, error in errors.items():
                assert isinstance(error, Unavailable | Unknown), f"{use}: {status} is the service's"
        assert not [one for one in gateway.requests if "elsewhere" in one.target], (
            "it followed a redirect"
        )

    @pytest.mark.parametrize("status", [200, 400, 403, 422, 500])
    def test_wire_an_answer_that_repeats_the_request_is_not_repeated(
        self,
        sender: Sender,
        gateway: LoopbackGateway,
        status: int,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        ids = self._ids(sender)

        def answer(request: Request) -> Reply:
            said = f"{request.target} {dict(request.headers)} {request.body.decode()}"
            said = f"{CODE_TEXT} {TEXT} {MOBILE} {' '.join(self.credentials)} {said}"
            body = {
                "Code": 9999,
                "status": said,
                "Message": said,
                "message": said,
                "errors": {said: [said]},
                "meta": {"status": 9999, "message": said},
            }
            return Reply(status, json.dumps(body).encode())

        gateway.answer = answer
        self._all_fail(sender, ids)
        self._discreet(caplog.text, what="the log")

    @pytest.mark.parametrize("misbehaviour", LOST_ANSWERS, ids=lambda one: one.__name__)
    def test_wire_a_lost_answer_is_unknown_and_in_time(
        self,
        sender: Sender,
        gateway: LoopbackGateway,
        misbehaviour: Misbehaviour,
    ) -> None:
        ids = self._ids(sender)
        gateway.misbehave = misbehaviour
        began = time.monotonic()
        errors = self._all_fail(sender, ids)
        took = time.monotonic() - began
        assert took < SECONDS + GRACE, f"it took {took:.1f} s of {SECONDS} s"
        for use in ("send_text", "send_code by sms", "send_code by voice", "send_native_code"):
            if use in errors and not self.signs_in_first:
                error = errors[use]
                if not error.written:  # where a busy machine did not get to write, it does alone
                    error = self._all_fail(sender, ids, only=use)[use]
                assert isinstance(error, Unknown), f"{use}: it may have been sent"
        self._works_again(sender, gateway)

    def test_wire_a_refused_connection_is_unavailable_with_nothing_written(self) -> None:
        if type(self).make_sender is SenderContract.make_sender:
            pytest.skip("write make_sender and answer, or set speaks_http to False")
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            port = nobody.getsockname()[1]
        with contextlib.closing(self.make_sender(f"http://127.0.0.1:{port}")) as sender:
            for use, error in self._all_fail(sender, self.known_ids).items():
                assert isinstance(error, Unavailable), f"{use}: nobody is there"
                assert not error.written, f"{use}: nothing was written, but its error says so"

    # --- how it is checked -------------------------------------------------------------------

    def _ids(self, sender: Sender) -> Sequence[str]:
        """Ids that `statuses` has to ask its gateway about."""
        if self.known_ids or not {Capability.STATUS, Capability.TEXT} <= sender.capabilities:
            return self.known_ids
        receipt = sender.send_text(MOBILE, TEXT)
        assert receipt.id, "a sender that tells where messages are gives its messages ids"
        return [receipt.id]

    def _all_fail(
        self,
        sender: Sender,
        ids: Sequence[str],
        *,
        may_be_empty: bool = False,
        only: str | None = None,
    ) -> dict[str, SenderError]:
        """Use everything that it can do, all at once, and have each use fail properly."""
        uses = {
            use: call
            for use, (capability, call) in _uses(sender, ids).items()
            if capability in sender.capabilities
            and (ids or use != "statuses")
            and only in (None, use)
        }

        def within_deadline(call: Callable[[], object]) -> object:
            with deadline(SECONDS):
                return call()

        errors: dict[str, SenderError] = {}
        with ThreadPoolExecutor(len(uses) or 1) as threads:
            running = {use: threads.submit(within_deadline, call) for use, call in uses.items()}
        for use, run in running.items():
            error = run.exception()
            if error is None:
                result = run.result()
                nothing_said = (
                    use == "statuses"
                    and isinstance(result, dict)
                    and set(result.values()) <= {Status.UNKNOWN}
                ) or (use == "received" and may_be_empty and result == [])
                assert nothing_said, f"{use}: it took this for success"
                continue
            assert isinstance(error, SenderError), f"{use}: raised {type(error).__name__}"
            self._check_error(sender, error, use)
            errors[use] = error
        return errors

    def _works_again(self, sender: Sender, gateway: LoopbackGateway) -> None:
        gateway.misbehave, gateway.answer = None, self.answer
        for use, (capability, call) in _uses(sender, []).items():
            if capability in sender.capabilities and use.startswith("send"):
                call()

    def _check_receipt(self, receipt: Receipt, to: str, reference: str) -> None:
        assert isinstance(receipt, Receipt)
        assert receipt.error is None, f"a receipt with an error: {receipt.error}"
        assert receipt.to == to, "a receipt names the mobile as it was asked for"
        assert receipt.reference == reference
        assert receipt.status in (Status.QUEUED, Status.SENT, Status.DELIVERED)
        assert receipt.id is None or (isinstance(receipt.id, str) and receipt.id)
        self._discreet(repr(receipt), what="a receipt's repr")

    def _check_error(self, sender: Sender, error: SenderError, use: str) -> None:
        assert error.gateway == sender.name, f"{use}: the error names {error.gateway!r}"
        link: BaseException | None = error
        while link is not None:
            said = (str(link), repr(link), *map(repr, link.args))
            self._discreet(*said, what=f"{use}: {type(link).__name__}")
            link = link.__cause__ or link.__context__
        self._discreet(error.reason, error.code or "", what=f"{use}: the error's reason")

    def _discreet(self, *said: str, what: str) -> None:
        for secret in (*SECRETS, *self.credentials):
            assert not any(secret in part for part in said), f"{what} shows {secret!r}"
