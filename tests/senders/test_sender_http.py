"""The HTTP transport against a gateway that does what gateways do on a bad day."""

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

import httpx
import pytest

from flask_smsverify.errors import ConfigurationError, Rejected, SenderError, Unavailable, Unknown
from flask_smsverify.senders import http
from flask_smsverify.senders.http import MAX_ANSWER_BYTES, Answer, HttpTransport, Timeout
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
SHORT = Timeout(connect=1, read=0.5, whole=1)
#: How much later than its deadline a call may end on a busy machine.
GRACE = 1.5


@pytest.fixture
def gateway() -> Iterator[LoopbackGateway]:
    with LoopbackGateway(lambda _: Reply(200, b'{"a": 1}')) as gateway:
        yield gateway


@pytest.fixture
def transport(gateway: LoopbackGateway) -> Iterator[HttpTransport]:
    with closing(HttpTransport("acme", gateway.url)) as transport:
        yield transport


@pytest.fixture
def hasty(gateway: LoopbackGateway) -> Iterator[HttpTransport]:
    """One that does not wait long."""
    with closing(HttpTransport("acme", gateway.url, timeout=SHORT)) as transport:
        yield transport


def failure(call: Callable[[], object]) -> tuple[SenderError, float]:
    """What a call raised, and how many seconds it took."""
    began = time.monotonic()
    with pytest.raises(SenderError) as raised:
        call()
    return raised.value, time.monotonic() - began


# --- a request and its answer ---------------------------------------------------------------


def test_a_request_says_who_asks_and_gets_its_answer(
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


def test_a_form_is_sent_as_a_form(transport: HttpTransport, gateway: LoopbackGateway) -> None:
    transport.request("POST", "/send", form={"message": "سلام & more"})
    [request] = gateway.requests
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.body == b"message=%D8%B3%D9%84%D8%A7%D9%85+%26+more"


def test_a_whole_address_is_taken_as_it_is(gateway: LoopbackGateway) -> None:
    with closing(HttpTransport("acme", "https://a.example/x")) as transport:
        transport.request("POST", f"{gateway.url}/elsewhere")
    assert gateway.requests[0].target == "/elsewhere"


def test_connections_are_reused_also_by_threads(
    transport: HttpTransport, gateway: LoopbackGateway
) -> None:
    for _ in range(5):
        transport.request("GET", "/")
    assert gateway.connections == 1
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: transport.request("GET", "/"), range(40)))
    assert [answer.status for answer in answers] == [200] * 40
    assert gateway.connections <= 4


def test_a_connection_that_was_closed_meanwhile_is_replaced(
    transport: HttpTransport, gateway: LoopbackGateway
) -> None:
    def answer_and_close(exchange: Exchange) -> None:
        reply = Reply(200, b"{}")
        exchange.send(reply.head() + reply.body)

    gateway.misbehave = answer_and_close
    for _ in range(3):
        assert transport.request("GET", "/").status == 200
        while gateway.open_connections:  # it closes without having said so
            time.sleep(0.001)
    assert gateway.connections == 3


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)]
)
def test_packed_answers_are_unpacked(
    transport: HttpTransport,
    gateway: LoopbackGateway,
    encoding: str,
    pack: Callable[[bytes], bytes],
) -> None:
    body = pack(b'{"a": "%s"}' % (b"x" * 100_000))
    gateway.answer = lambda _: Reply(200, body, headers={"Content-Encoding": encoding})
    assert transport.request("GET", "/").json() == {"a": "x" * 100_000}


@pytest.mark.parametrize("extra", [0, 1])
def test_an_answer_may_be_so_large_and_no_larger(
    transport: HttpTransport, gateway: LoopbackGateway, extra: int
) -> None:
    gateway.answer = lambda _: Reply(200, b" " * (MAX_ANSWER_BYTES + extra))
    if extra:
        with pytest.raises(Unknown, match="larger"):
            transport.request("GET", "/")
    else:
        assert len(transport.request("GET", "/").body) == MAX_ANSWER_BYTES


def test_a_gzip_bomb_is_not_unpacked(transport: HttpTransport, gateway: LoopbackGateway) -> None:
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


def test_a_client_of_ones_own_is_used() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"path": request.url.path})

    client = httpx.Client(transport=httpx.MockTransport(answer))
    with closing(HttpTransport("acme", "https://a.example/x", client=client)) as transport:
        assert transport.request("GET", "/y").json() == {"path": "/x/y"}


def test_a_client_of_ones_own_gets_no_larger_answers() -> None:
    large = httpx.Response(200, content=b" " * (MAX_ANSWER_BYTES + 1))
    client = httpx.Client(transport=httpx.MockTransport(lambda _: large))
    transport = HttpTransport("acme", "https://a.example", client=client)
    with closing(transport), pytest.raises(Unknown, match="larger"):
        transport.request("GET", "/")


@pytest.mark.parametrize("kind", ["json", "form"])
def test_a_text_that_is_no_unicode_is_rejected_with_nothing_written(
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


# --- time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("misbehaviour", [hang, drip_head, drip_body], ids=lambda m: m.__name__)
def test_one_deadline_spans_the_whole_answer(
    hasty: HttpTransport, gateway: LoopbackGateway, misbehaviour: Misbehaviour
) -> None:
    gateway.misbehave = misbehaviour
    error, took = failure(lambda: hasty.request("POST", "/"))
    assert isinstance(error, Unknown)
    assert took < SHORT.whole + GRACE


def test_an_outer_deadline_is_kept(gateway: LoopbackGateway) -> None:
    gateway.misbehave = drip_head
    with closing(HttpTransport("acme", gateway.url)) as transport, http.deadline(0.5):
        _, took = failure(lambda: transport.request("POST", "/"))
        assert http.remaining() == 0
        error, _ = failure(lambda: transport.request("POST", "/"))
    assert took < 0.5 + GRACE
    assert isinstance(error, Unavailable)
    assert not error.written
    assert len(gateway.requests) == 1


def test_an_inner_deadline_gives_no_more_time_than_the_outer() -> None:
    assert http.remaining() is None
    with http.deadline(0.5):
        with http.deadline(60):
            assert (http.remaining() or 60) <= 0.5
        with http.deadline(0.1):
            assert (http.remaining() or 60) <= 0.1
        assert (http.remaining() or 0) > 0.1
    assert http.remaining() is None


@pytest.fixture
def slow_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A resolver that does not answer while the test runs."""
    over = threading.Event()

    def look_up(*_: object, **__: object) -> object:
        over.wait(10)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield
    over.set()
    for thread in threading.enumerate():
        if thread.name == "smsverify-resolve":
            thread.join(5)


@pytest.mark.usefixtures("slow_names")
def test_a_resolver_that_hangs_is_not_waited_for() -> None:
    with closing(HttpTransport("acme", "https://a.example", timeout=(5, 5, 0.3))) as transport:
        error, took = failure(lambda: transport.request("POST", "/"))
    assert took < 0.3 + GRACE
    assert isinstance(error, Unavailable)
    assert not error.written


@pytest.mark.parametrize("trouble", [socket.gaierror(-2, "unknown"), UnicodeError("label")])
def test_a_name_without_address_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    def look_up(*_: object, **__: object) -> object:
        raise trouble

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with closing(HttpTransport("acme", "https://a.example")) as transport:
        error, took = failure(lambda: transport.request("POST", "/"))
    assert isinstance(error, Unavailable)
    assert not error.written
    assert took < GRACE


def test_the_next_address_is_tried_where_one_refuses(
    gateway: LoopbackGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(gateway.url.rpartition(":")[2])

    def look_up(*_: object, **__: object) -> list[tuple[object, ...]]:
        rows = [(2, 1, 6, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1")]
        return [*rows, *rows]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    url = f"http://gateway.localhost:{port}"
    with closing(HttpTransport("acme", url)) as transport:
        assert transport.request("GET", "/").status == 200


def test_a_tls_handshake_that_hangs_is_cut_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        with closing(HttpTransport("acme", url, timeout=(5, 5, 0.3))) as transport:
            error, took = failure(lambda: transport.request("POST", "/"))
    assert took < 0.3 + GRACE
    assert isinstance(error, Unavailable)
    assert not error.written


def test_a_full_pool_is_waited_for_within_the_deadline(gateway: LoopbackGateway) -> None:
    leave = threading.Event()
    gateway.misbehave = lambda _: leave.wait(60)
    with (
        closing(HttpTransport("acme", gateway.url, timeout=(30, 30, 30))) as transport,
        ThreadPoolExecutor(32) as threads,
    ):
        for _ in range(32):
            threads.submit(transport.request, "POST", "/")
        while len(gateway.requests) < 32:
            time.sleep(0.01)
        with http.deadline(0.1):
            error, took = failure(lambda: transport.request("POST", "/"))
        leave.set()
    assert str(error) == "acme: no connection (PoolTimeout)"
    assert not error.written
    assert took < 0.1 + GRACE


def test_the_network_is_reached_through_the_deadline_alone() -> None:
    """httpx has no door for a network backend, so a release of it may lose ours."""
    with closing(http._client()) as client:
        [pool] = {id(one): one for one in _pools(client)}.values()
        assert isinstance(pool._network_backend, http._WithinDeadline)


def _pools(client: httpx.Client) -> list[object]:
    transport = client._transport_for_url(httpx.URL("https://a.example"))
    return [transport._pool]  # type: ignore[attr-defined] -- what httpx itself uses to connect


# --- lost, refused, redirected --------------------------------------------------------------


@pytest.mark.parametrize("misbehaviour", LOST_ANSWERS, ids=lambda one: one.__name__)
def test_whatever_was_written_may_have_been_done(
    hasty: HttpTransport, gateway: LoopbackGateway, misbehaviour: Misbehaviour
) -> None:
    gateway.misbehave = misbehaviour
    error, took = failure(lambda: hasty.request("POST", "/?to=09123456789", json={"a": 1}))
    assert isinstance(error, Unknown)
    assert error.written
    assert took < SHORT.whole + GRACE
    assert (error.__cause__, error.__context__) == (None, None), "it would hold the request"
    gateway.misbehave = None
    assert hasty.request("GET", "/").status == 200


def test_a_refused_connection_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    with closing(HttpTransport("acme", url)) as transport:
        error, _ = failure(lambda: transport.request("POST", "/?to=09123456789"))
    assert isinstance(error, Unavailable)
    assert not error.written
    assert (error.__cause__, error.__context__) == (None, None)
    assert str(error) == "acme: no connection (ConnectError)"


@pytest.mark.parametrize("misbehaviour", [reset, close], ids=lambda one: one.__name__)
def test_nothing_is_written_twice(
    transport: HttpTransport, gateway: LoopbackGateway, misbehaviour: Misbehaviour
) -> None:
    transport.request("POST", "/")
    gateway.misbehave = misbehaviour
    failure(lambda: transport.request("POST", "/"))
    assert len(gateway.requests) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(
    transport: HttpTransport, gateway: LoopbackGateway, status: int
) -> None:
    gateway.answer = lambda _: Reply(status, headers={"Location": f"{gateway.url}/elsewhere"})
    answer = transport.request("POST", "/")
    assert answer.status == status
    with pytest.raises(Unavailable, match="redirect"):
        answer.refuse_service_faults()
    assert len(gateway.requests) == 1


def test_the_environments_proxy_is_not_used(
    gateway: LoopbackGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with closing(HttpTransport("acme", gateway.url)) as transport:
        assert transport.request("GET", "/").status == 200
    assert gateway.requests[0].target == "/"


# --- certificates ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody has signed, and its key."""
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


def test_a_certificate_that_nobody_signed_is_refused(tls_gateway: LoopbackGateway) -> None:
    with closing(HttpTransport("acme", tls_gateway.url)) as transport:
        error, _ = failure(lambda: transport.request("POST", "/"))
    assert isinstance(error, Unavailable)
    assert not error.written
    assert not tls_gateway.requests


@pytest.fixture
def trusted(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test's certificate, trusted by the environment."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    http._ssl_context.cache_clear()
    yield
    http._ssl_context.cache_clear()


@pytest.mark.usefixtures("trusted")
def test_the_same_certificate_is_taken_where_it_is_trusted(tls_gateway: LoopbackGateway) -> None:
    with closing(HttpTransport("acme", tls_gateway.url, timeout=SHORT)) as transport:
        assert transport.request("POST", "/").status == 200
        tls_gateway.misbehave = drip_head
        error, took = failure(lambda: transport.request("POST", "/"))
    assert isinstance(error, Unknown)
    assert took < SHORT.whole + GRACE


@pytest.mark.usefixtures("trusted")
def test_a_certificate_for_another_name_is_refused(tls_gateway: LoopbackGateway) -> None:
    url = tls_gateway.url.replace("127.0.0.1", "localhost")
    with closing(HttpTransport("acme", url)) as transport:
        error, _ = failure(lambda: transport.request("POST", "/"))
    assert isinstance(error, Unavailable)
    assert not tls_gateway.requests


# --- addresses and timeouts that cannot work ------------------------------------------------


@pytest.mark.parametrize(
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
def test_an_address_that_must_not_be_used_is_refused(url: object) -> None:
    with pytest.raises(ConfigurationError, match="acme: base_url") as refused:
        HttpTransport("acme", url)  # type: ignore[arg-type] -- on purpose
    assert "secret" not in str(refused.value)
    assert not refused.value.__context__ or refused.value.__suppress_context__


@pytest.mark.parametrize(
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
def test_https_and_plain_http_to_this_machine_are_taken(url: str) -> None:
    with closing(HttpTransport("acme", url)) as transport:
        assert transport.base_url == url.rstrip("/")


def test_plain_http_elsewhere_must_be_asked_for() -> None:
    with closing(HttpTransport("acme", "http://a.example", allow_http=True)) as transport:
        assert transport.base_url == "http://a.example"


@pytest.mark.parametrize(
    "timeout",
    [
        *((1, 2), (1, 2, 0), (1, -2, 3), 5, None, ("1", "2", "3"), (1, 2, True)),
        *((1, 2, float("inf")), (1, 2, float("nan"))),
    ],
    ids=str,
)
def test_a_timeout_that_cannot_work_is_refused(timeout: object) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        HttpTransport("acme", "https://a.example", timeout=timeout)  # type: ignore[arg-type] -- on purpose


def test_a_timeout_may_come_as_a_list() -> None:
    transport = HttpTransport("acme", "https://a.example", timeout=[1, 2, 3.5])  # type: ignore[arg-type] -- as JSON gives it
    with closing(transport):
        assert transport.timeout == Timeout(1, 2, 3.5)


# --- what an answer says --------------------------------------------------------------------


def answer(status: int = 200, body: bytes = b"", content_type: str = "text/html") -> Answer:
    return Answer("acme", status, content_type, body)


def test_an_answer_may_start_with_a_byte_order_mark() -> None:
    assert answer(body=b'\xef\xbb\xbf{"a": 1}').json() == {"a": 1}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"<html>", b"NaN", b"Infinity", b"[" * 100_000, b"1" * 5000, b"\xff", b"{'a': 1}"],
    ids=lambda body: str(body[:9]),
)
def test_what_is_no_json_may_have_been_sent(body: bytes) -> None:
    with pytest.raises(Unknown, match="expected JSON, got HTTP 200 with text/html") as raised:
        answer(body=body, content_type="text/html; charset=utf-8").json()
    assert (raised.value.__cause__, raised.value.__context__) == (None, None)


@pytest.mark.parametrize("status", [300, 301, 399, 401, 402, 403, 407, 429, 500, 502, 599])
def test_a_services_faults_are_unavailable(status: int) -> None:
    with pytest.raises(Unavailable) as raised:
        answer(status).refuse_service_faults()
    assert raised.value.code == str(status)


def test_a_proxy_that_had_no_answer_in_time_leaves_open_what_was_done() -> None:
    with pytest.raises(Unknown) as raised:
        answer(504).refuse_service_faults()
    assert raised.value.code == "504"


@pytest.mark.parametrize("status", [200, 201, 204, 400, 404, 409, 422])
def test_other_statuses_are_the_gateways_own_to_read(status: int) -> None:
    answer(status).refuse_service_faults()


def test_nothing_of_an_answer_shows_in_its_repr(transport: HttpTransport) -> None:
    assert repr(answer(body=b"secret")) == "<Answer of acme: 200, 6 bytes>"
    assert repr(transport) == "<HttpTransport of 'acme'>"


@pytest.mark.parametrize("said", ["no", "False", "0", "yes", 1, None])
def test_plain_http_is_allowed_by_true_alone(said: object) -> None:
    with pytest.raises(ConfigurationError, match="allow_http"):
        HttpTransport("acme", "http://gateway.example", allow_http=said)  # type: ignore[arg-type]  # the mistake


# --- the log --------------------------------------------------------------------------------


def test_no_address_of_ours_is_logged_and_every_other_is(
    transport: HttpTransport, gateway: LoopbackGateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    transport.request("GET", "/ours", params={"to": "09123456789"}, headers={"X": "secret"})
    gateway.misbehave = close
    failure(lambda: transport.request("GET", "/ours", params={"to": "09123456789"}))
    gateway.misbehave = None
    assert "ours" not in caplog.text
    assert "09123456789" not in caplog.text
    assert "secret" not in caplog.text
    with httpx.Client(trust_env=False) as client:
        client.get(f"{gateway.url}/the-hosts-own")
    assert "the-hosts-own" in caplog.text


def test_the_gateway_on_loopback_reads_what_was_written(gateway: LoopbackGateway) -> None:
    gateway.answer = lambda request: Reply(200, request.body)
    with closing(HttpTransport("acme", gateway.url)) as transport:
        large = "x" * 300_000
        assert transport.request("POST", "/", json=large).json() == large
    [request] = gateway.requests
    assert isinstance(request, Request)
    assert large not in repr(request)
