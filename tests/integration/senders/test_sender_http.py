"""The HTTP transport against a gateway that misbehaves."""

import gzip
import logging
import socket
import ssl
import subprocess
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from senders.cases import each_case

from flask_smsverify.errors import ConfigurationError, Rejected, SenderError, Unavailable, Unknown
from flask_smsverify.senders import network
from flask_smsverify.senders.base import SenderIdentity
from flask_smsverify.senders.deadline import deadline, remaining
from flask_smsverify.senders.http import MAX_ANSWER_BYTES, Answer, HttpTransport
from flask_smsverify.senders.options import Timeout
from flask_smsverify.testing import (
    LOST_ANSWERS,
    Exchange,
    LoopbackGateway,
    Misbehaviour,
    Reply,
    Request,
    close,
    drip_body,
    drip_head,
    hang,
    reset,
)

#: Long enough to connect on a busy machine.
SHORT = Timeout(connect=3, read=0.5, whole=3)
#: A call that waits this long, in seconds, has no deadline. A busy machine is much faster.
TOO_LONG = 30

ACME = SenderIdentity("main", "acme")


@pytest.fixture
def gateway() -> Iterator[LoopbackGateway]:
    with LoopbackGateway(lambda _: Reply(200, b'{"a": 1}')) as gateway:
        yield gateway


@pytest.fixture
def transport(gateway: LoopbackGateway) -> Iterator[HttpTransport]:
    with closing(HttpTransport(ACME, gateway.url)) as transport:
        yield transport


@pytest.fixture
def hasty(gateway: LoopbackGateway) -> Iterator[HttpTransport]:
    """A transport with short timeouts."""
    with closing(HttpTransport(ACME, gateway.url, timeout=SHORT)) as transport:
        yield transport


def failure(call: Callable[[], object]) -> tuple[SenderError, float]:
    """Return the error of a call, and how many seconds it took."""
    began = time.monotonic()
    with pytest.raises(SenderError) as raised:
        call()
    return raised.value, time.monotonic() - began


# --- a request and its answer --------------------------------------------------------------------


def test_a_request_is_written_and_its_answer_returned(
    transport: HttpTransport, gateway: LoopbackGateway
) -> None:
    answer = transport.request(
        "POST", "/send", json={"a": "سلام"}, params={"q": "1 2"}, headers={"X-Key": "k"}
    )
    assert (answer.status, answer.json(), answer.content_type) == (
        200,
        {"a": 1},
        "application/json",
    )
    [request] = gateway.requests
    assert (request.method, request.target) == ("POST", "/send?q=1+2")
    assert request.body == '{"a":"سلام"}'.encode()
    assert request.headers["x-key"] == "k"
    assert request.headers["user-agent"] == f"flask-smsverify/{version('flask-smsverify')}"
    assert request.headers["accept-encoding"] == "gzip, deflate"


def test_a_form_is_url_encoded(transport: HttpTransport, gateway: LoopbackGateway) -> None:
    transport.request("POST", "/send", form={"message": "سلام & more"})
    [request] = gateway.requests
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.body == b"message=%D8%B3%D9%84%D8%A7%D9%85+%26+more"


def test_a_whole_url_replaces_the_base_url(gateway: LoopbackGateway) -> None:
    with closing(HttpTransport(ACME, "https://a.example/x")) as transport:
        transport.request("POST", f"{gateway.url}/elsewhere")
    assert gateway.requests[0].target == "/elsewhere"


def test_connections_are_reused_across_threads(
    transport: HttpTransport, gateway: LoopbackGateway
) -> None:
    for _ in range(5):
        transport.request("GET", "/")
    assert gateway.connections == 1
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: transport.request("GET", "/"), range(40)))
    assert [answer.status for answer in answers] == [200] * 40
    assert gateway.connections <= 4


def test_a_closed_connection_is_replaced(
    transport: HttpTransport, gateway: LoopbackGateway
) -> None:
    def answer_and_close(exchange: Exchange) -> None:
        reply = Reply(200, b"{}")
        exchange.send(reply.head() + reply.body)

    gateway.misbehave = answer_and_close
    for _ in range(3):
        assert transport.request("GET", "/").status == 200
        while gateway.open_connections:  # the server closes without announcing it
            time.sleep(0.001)
    assert gateway.connections == 3


@each_case(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)]
)
def test_compressed_answers_are_decompressed(
    transport: HttpTransport,
    gateway: LoopbackGateway,
    encoding: str,
    pack: Callable[[bytes], bytes],
) -> None:
    body = pack(b'{"a": "%s"}' % (b"x" * 100_000))
    gateway.answer = lambda _: Reply(200, body, headers={"Content-Encoding": encoding})
    assert transport.request("GET", "/").json() == {"a": "x" * 100_000}


@each_case("extra", [0, 1])
def test_an_answer_above_the_size_limit_is_unknown(
    transport: HttpTransport, gateway: LoopbackGateway, extra: int
) -> None:
    gateway.answer = lambda _: Reply(200, b" " * (MAX_ANSWER_BYTES + extra))
    if extra:
        with pytest.raises(Unknown, match="larger"):
            transport.request("GET", "/")
    else:
        assert len(transport.request("GET", "/").body) == MAX_ANSWER_BYTES


def test_a_gzip_bomb_is_not_decompressed(
    transport: HttpTransport, gateway: LoopbackGateway
) -> None:
    bomb = gzip.compress(b" " * (16 * MAX_ANSWER_BYTES))
    gateway.answer = lambda _: Reply(200, bomb, headers={"Content-Encoding": "gzip"})
    tracemalloc.start()
    try:
        with pytest.raises(Unknown, match="larger"):
            transport.request("GET", "/")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MAX_ANSWER_BYTES


def test_a_given_http_client_is_used() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"path": request.url.path})

    client = httpx.Client(transport=httpx.MockTransport(answer))
    with closing(HttpTransport(ACME, "https://a.example/x", http_client=client)) as transport:
        assert transport.request("GET", "/y").json() == {"path": "/x/y"}


def test_a_given_http_client_has_the_same_size_limit() -> None:
    large = httpx.Response(200, content=b" " * (MAX_ANSWER_BYTES + 1))
    client = httpx.Client(transport=httpx.MockTransport(lambda _: large))
    transport = HttpTransport(ACME, "https://a.example", http_client=client)
    with closing(transport), pytest.raises(Unknown, match="larger"):
        transport.request("GET", "/")


@each_case("kind", ["json", "form"])
def test_a_text_that_is_not_unicode_is_rejected_and_nothing_is_written(
    transport: HttpTransport, gateway: LoopbackGateway, kind: str
) -> None:
    body = {"message": "secret \ud800"}
    error, _ = failure(
        lambda: transport.request(
            "POST",
            "/",
            json=body if kind == "json" else None,
            form=body if kind == "form" else None,
        )
    )
    assert isinstance(error, Rejected)
    assert not error.written
    assert error.__context__ is None
    assert not gateway.requests


# --- time ----------------------------------------------------------------------------------------


@each_case("misbehaviour", [hang, drip_head, drip_body])
def test_one_deadline_spans_the_whole_answer(
    hasty: HttpTransport, gateway: LoopbackGateway, misbehaviour: Misbehaviour
) -> None:
    gateway.misbehave = misbehaviour
    error, took = failure(lambda: hasty.request("POST", "/"))
    assert isinstance(error, Unknown)
    assert took < TOO_LONG


def test_an_outer_deadline_ends_the_call(gateway: LoopbackGateway) -> None:
    gateway.misbehave = drip_head
    with closing(HttpTransport(ACME, gateway.url)) as transport, deadline(0.5):
        _, took = failure(lambda: transport.request("POST", "/"))
        assert remaining() == 0
        error, _ = failure(lambda: transport.request("POST", "/"))
    assert took < TOO_LONG
    assert isinstance(error, Unavailable)
    assert not error.written
    assert len(gateway.requests) == 1


def test_an_inner_deadline_cannot_extend_the_outer_one() -> None:
    assert remaining() is None
    with deadline(60):
        with deadline(600):
            assert (remaining() or 600) <= 60
        with deadline(0.1):
            assert (remaining() or 60) <= 0.1
        assert (remaining() or 0) > 0.1
    assert remaining() is None


@pytest.fixture
def slow_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A resolver that hangs while the test runs."""
    over = threading.Event()

    def look_up(*_: object, **__: object) -> object:
        over.wait(60)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield
    over.set()
    for thread in threading.enumerate():
        if thread.name == "smsverify-resolve":
            thread.join(5)


@pytest.mark.usefixtures("slow_names")
def test_a_hanging_resolver_is_cut_off_at_the_deadline() -> None:
    with closing(HttpTransport(ACME, "https://a.example", timeout=(60, 60, 0.3))) as transport:
        error, took = failure(lambda: transport.request("POST", "/"))
    assert took < TOO_LONG
    assert isinstance(error, Unavailable)
    assert not error.written


@each_case("trouble", [socket.gaierror(-2, "unknown"), UnicodeError("label")])
def test_a_name_without_an_address_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    def look_up(*_: object, **__: object) -> object:
        raise trouble

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with closing(HttpTransport(ACME, "https://a.example")) as transport:
        error, _ = failure(lambda: transport.request("POST", "/"))
    assert isinstance(error, Unavailable)
    assert not error.written


def test_the_next_address_is_tried_if_one_refuses(
    gateway: LoopbackGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(gateway.url.rpartition(":")[2])

    def look_up(*_: object, **__: object) -> list[tuple[object, ...]]:
        rows = [(2, 1, 6, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1")]
        return [*rows, *rows]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    url = f"http://gateway.localhost:{port}"
    with closing(HttpTransport(ACME, url)) as transport:
        assert transport.request("GET", "/").status == 200


def test_a_hanging_tls_handshake_is_cut_off_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        with closing(HttpTransport(ACME, url, timeout=(60, 60, 0.3))) as transport:
            error, took = failure(lambda: transport.request("POST", "/"))
    assert took < TOO_LONG
    assert isinstance(error, Unavailable)
    assert not error.written


def test_waiting_for_a_full_pool_ends_at_the_deadline(gateway: LoopbackGateway) -> None:
    leave = threading.Event()
    gateway.misbehave = lambda _: leave.wait(60)
    with (
        closing(HttpTransport(ACME, gateway.url, timeout=(60, 60, 60))) as transport,
        ThreadPoolExecutor(32) as threads,
    ):
        for _ in range(32):
            threads.submit(transport.request, "POST", "/")
        while len(gateway.requests) < 32:
            time.sleep(0.01)
        with deadline(0.1):
            error, took = failure(lambda: transport.request("POST", "/"))
        leave.set()
    assert str(error) == "main: no connection (PoolTimeout)"
    assert not error.written
    assert took < TOO_LONG


def test_connections_go_through_the_backend_that_keeps_the_deadline(
    monkeypatch: pytest.MonkeyPatch, gateway: LoopbackGateway
) -> None:
    hosts = []
    connect = network.DeadlineBackend.connect_tcp

    def record(backend: network.DeadlineBackend, host: str, *args: Any, **more: Any) -> Any:
        hosts.append(host)
        return connect(backend, host, *args, **more)

    monkeypatch.setattr(network.DeadlineBackend, "connect_tcp", record)
    with closing(HttpTransport(ACME, gateway.url)) as transport:
        transport.request("GET", "/")
    assert hosts == ["127.0.0.1"]


# --- lost answers and refused connections --------------------------------------------------------


@each_case("misbehaviour", LOST_ANSWERS)
def test_a_lost_answer_is_unknown(
    hasty: HttpTransport, gateway: LoopbackGateway, misbehaviour: Misbehaviour
) -> None:
    gateway.misbehave = misbehaviour
    error, took = failure(lambda: hasty.request("POST", "/?to=09123456789", json={"a": 1}))
    assert isinstance(error, Unknown)
    assert error.written
    assert took < TOO_LONG
    assert (error.__cause__, error.__context__) == (None, None), "it would hold the request"
    gateway.misbehave = None
    assert hasty.request("GET", "/").status == 200


def test_a_refused_connection_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with closing(HttpTransport(ACME, url)) as transport:
        error, _ = failure(lambda: transport.request("POST", "/?to=09123456789"))
    assert isinstance(error, Unavailable)
    assert not error.written
    assert (error.__cause__, error.__context__) == (None, None)
    assert str(error) == "main: no connection (ConnectError)"


@each_case("misbehaviour", [reset, close])
def test_a_failed_request_is_not_repeated(
    transport: HttpTransport, gateway: LoopbackGateway, misbehaviour: Misbehaviour
) -> None:
    transport.request("POST", "/")
    gateway.misbehave = misbehaviour
    failure(lambda: transport.request("POST", "/"))
    assert len(gateway.requests) == 2


@each_case("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(
    transport: HttpTransport, gateway: LoopbackGateway, status: int
) -> None:
    gateway.answer = lambda _: Reply(status, headers={"Location": f"{gateway.url}/elsewhere"})
    answer = transport.request("POST", "/")
    assert answer.status == status
    with pytest.raises(Unavailable, match="redirect"):
        answer.raise_for_service_error()
    assert len(gateway.requests) == 1


def test_proxies_of_the_environment_are_not_used(
    gateway: LoopbackGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with closing(HttpTransport(ACME, gateway.url)) as transport:
        assert transport.request("GET", "/").status == 200
    assert gateway.requests[0].target == "/"


# --- certificates --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


@pytest.fixture
def tls_gateway(certificate: tuple[Path, Path]) -> Iterator[LoopbackGateway]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with LoopbackGateway(lambda _: Reply(200, b"{}"), tls=context) as gateway:
        yield gateway


def test_a_self_signed_certificate_is_refused(tls_gateway: LoopbackGateway) -> None:
    with closing(HttpTransport(ACME, tls_gateway.url)) as transport:
        error, _ = failure(lambda: transport.request("POST", "/"))
    assert isinstance(error, Unavailable)
    assert not error.written
    assert not tls_gateway.requests


@pytest.fixture
def trusted(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the environment trust the test's certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    network.default_ssl_context.cache_clear()
    yield
    network.default_ssl_context.cache_clear()


@pytest.mark.usefixtures("trusted")
def test_a_trusted_certificate_is_accepted(tls_gateway: LoopbackGateway) -> None:
    with closing(HttpTransport(ACME, tls_gateway.url, timeout=(60, 60, 60))) as transport:
        assert transport.request("POST", "/").status == 200
        tls_gateway.misbehave = drip_head
        with deadline(1):
            error, took = failure(lambda: transport.request("POST", "/"))
    assert isinstance(error, Unknown)
    assert took < TOO_LONG


@pytest.mark.usefixtures("trusted")
def test_a_certificate_for_another_name_is_refused(tls_gateway: LoopbackGateway) -> None:
    url = tls_gateway.url.replace("127.0.0.1", "localhost")
    with closing(HttpTransport(ACME, url)) as transport:
        error, _ = failure(lambda: transport.request("POST", "/"))
    assert isinstance(error, Unavailable)
    assert not tls_gateway.requests


# --- invalid URLs and timeouts -------------------------------------------------------------------


@each_case(
    "url",
    [
        "http://a.example",
        "http://127.0.0.1.a.example",
        "http://localhost.a.example",
        "http://10.0.0.1",
        "HTTP://a.example",
        "https://user:secret@a.example",
        "https://user@a.example",
        "https://:secret@a.example",
        "https://a.example/x?key=secret",
        "https://a.example/x#secret",
        "ftp://a.example",
        "file:///etc/passwd",
        "a.example",
        "https://",
        "https:///x",
        "https://a.example:99999",
        "https://a.example:secret",
        "https://[::1",
        "https://a\r\nb.example",
        "",
        None,
        1,
    ],
)
def test_an_unsafe_or_invalid_base_url_is_refused(url: object) -> None:
    with pytest.raises(ConfigurationError, match="main: base_url") as refused:
        HttpTransport(ACME, url)  # type: ignore[arg-type] -- on purpose
    assert "secret" not in str(refused.value)
    assert not refused.value.__context__ or refused.value.__suppress_context__


@each_case(
    "url",
    [
        "https://a.example/x/",
        "http://127.0.0.1:8025/raygan",
        "http://localhost:8025",
        "http://gateway.localhost",
        "http://[::1]:8025",
        "http://127.8.8.8",
    ],
)
def test_https_and_plain_http_to_loopback_are_accepted(url: str) -> None:
    with closing(HttpTransport(ACME, url)) as transport:
        assert transport.base_url == url.rstrip("/")


def test_plain_http_to_other_hosts_needs_allow_http() -> None:
    with closing(HttpTransport(ACME, "http://a.example", allow_http=True)) as transport:
        assert transport.base_url == "http://a.example"


@each_case(
    "timeout",
    [
        *((1, 2), (1, 2, 0), (1, -2, 3), 5, None, ("1", "2", "3"), (1, 2, True)),
        *((1, 2, float("inf")), (1, 2, float("nan"))),
    ],
)
def test_an_invalid_timeout_is_refused(timeout: object) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        HttpTransport(ACME, "https://a.example", timeout=timeout)  # type: ignore[arg-type] -- on purpose


def test_a_timeout_can_be_a_list() -> None:
    transport = HttpTransport(ACME, "https://a.example", timeout=[1, 2, 3.5])  # type: ignore[arg-type] -- as JSON gives it
    with closing(transport):
        assert transport.timeout == Timeout(1, 2, 3.5)


# --- answers -------------------------------------------------------------------------------------


def answer(status: int = 200, body: bytes = b"", content_type: str = "text/html") -> Answer:
    return Answer(ACME, status, content_type, body)


def test_a_byte_order_mark_is_skipped() -> None:
    assert answer(body=b'\xef\xbb\xbf{"a": 1}').json() == {"a": 1}


@each_case(
    "body",
    [b"", b"{", b"<html>", b"NaN", b"Infinity", b"[" * 100_000, b"1" * 5000, b"\xff", b"{'a': 1}"],
)
def test_a_body_that_is_not_json_is_unknown(body: bytes) -> None:
    with pytest.raises(Unknown, match="expected JSON, got HTTP 200 with text/html") as raised:
        answer(body=body, content_type="text/html; charset=utf-8").json()
    assert (raised.value.__cause__, raised.value.__context__) == (None, None)


@each_case("status", [300, 301, 399, 401, 402, 403, 407, 429, 500, 502, 599])
def test_a_status_about_the_service_or_the_account_is_unavailable(status: int) -> None:
    with pytest.raises(Unavailable) as raised:
        answer(status).raise_for_service_error()
    assert raised.value.code == str(status)


def test_a_gateway_timeout_is_unknown() -> None:
    with pytest.raises(Unknown) as raised:
        answer(504).raise_for_service_error()
    assert raised.value.code == "504"


@each_case("status", [200, 201, 204, 400, 404, 409, 422])
def test_other_statuses_raise_nothing(status: int) -> None:
    answer(status).raise_for_service_error()


def test_the_repr_shows_no_body(transport: HttpTransport) -> None:
    assert repr(answer(body=b"secret")) == "<Answer of main: 200, 6 bytes>"
    assert repr(transport) == "<HttpTransport of 'main'>"


@each_case("value", ["no", "False", "0", "yes", 1, None])
def test_allow_http_must_be_true_or_false(value: object) -> None:
    with pytest.raises(ConfigurationError, match="allow_http"):
        HttpTransport(ACME, "http://gateway.example", allow_http=value)  # type: ignore[arg-type]  # the mistake


# --- the log -------------------------------------------------------------------------------------


def test_own_urls_are_not_logged_and_other_urls_are(
    transport: HttpTransport, gateway: LoopbackGateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    transport.request("GET", "/own-path", params={"to": "09123456789"}, headers={"X": "secret"})
    gateway.misbehave = close
    failure(lambda: transport.request("GET", "/own-path", params={"to": "09123456789"}))
    gateway.misbehave = None
    assert "own-path" not in caplog.text
    assert "09123456789" not in caplog.text
    assert "secret" not in caplog.text
    with httpx.Client(trust_env=False) as client:
        client.get(f"{gateway.url}/the-hosts-own")
    assert "the-hosts-own" in caplog.text


def test_the_loopback_gateway_reads_a_large_request(gateway: LoopbackGateway) -> None:
    gateway.answer = lambda request: Reply(200, request.body)
    with closing(HttpTransport(ACME, gateway.url)) as transport:
        large = "x" * 300_000
        assert transport.request("POST", "/", json=large).json() == large
    [request] = gateway.requests
    assert isinstance(request, Request)
    assert large not in repr(request)
