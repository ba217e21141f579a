"""Hooks: who may call one, what is noted, and what nobody would send."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from conftest import MakeApp
from flask import Flask, request
from flask.testing import FlaskClient
from flask_wtf import CSRFProtect
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import select
from visiting import SEND, browser, cpu_seconds, statements, store_down
from web.fuzzing import json_values, shared_app
from werkzeug.serving import BaseWSGIServer, make_server
from werkzeug.test import TestResponse

from flask_smsverify.db.models import Attempt, EarlyReport, Incoming, Message
from flask_smsverify.delivery import Routes
from flask_smsverify.errors import Misconfigured, Rejected, Unavailable, Unknown
from flask_smsverify.senders import base
from flask_smsverify.senders.base import DeliveryReport, DeliveryState
from flask_smsverify.senders.memory import Memory
from flask_smsverify.simulator import running

SECRET = "a-secret-of-the-hooks"
SENDERS = {
    "memory": {"gateway": "memory"},
    "asanak": {"gateway": "asanak", "username": "u", "password": "p", "line": "9821000"},
}
PUSH = {
    "Destination": "9821000",
    "Source": "989123450001",
    "ReceiveTime": "2026-11-20 11:56:04",
    "MsgBody": "سلام",
}


class Reporting(Memory):
    """A gateway that posts `{"id": …, "state": …}`, as a form or as JSON."""

    gateway = "reporting"
    push_methods = frozenset({"POST"})

    def parse_push(self, payload: object) -> Sequence[base.ReceivedText | DeliveryReport]:
        if not isinstance(payload, dict) or not isinstance(payload.get("id"), str):
            raise Unknown(self.name, "no report", written=False)
        return [DeliveryReport(payload["id"], DeliveryState(payload.get("state", "unknown")))]


class Broken(Memory):
    """A gateway whose code does not work."""

    gateway = "broken"
    push_methods = frozenset({"POST"})

    def parse_push(self, payload: object) -> Sequence[Any]:
        if isinstance(payload, dict) and payload.get("what") in ODD:
            return ODD[payload["what"]]
        raise KeyError(str(payload))


AT = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
MESSAGE = base.ReceivedText("1", "+989123450001", "3000", "text", AT)
#: What a gateway's own code might make of a push.
ODD: dict[str, Any] = {
    "neither": ["neither"],
    "none": None,
    "a number": 7,
    "no id": [DeliveryReport(None, DeliveryState.SENT)],  # type: ignore[arg-type]  # as the next ones: on purpose
    "a number for an id": [DeliveryReport(7, DeliveryState.SENT)],  # type: ignore[arg-type]
    "NUL in an id": [DeliveryReport("a\0", DeliveryState.SENT)],
    "half a character in an id": [DeliveryReport("\ud800", DeliveryState.SENT)],
    "a state that there is not": [DeliveryReport("1", "to 09123450001 hidden words")],  # type: ignore[arg-type]
    "no text": [replace(MESSAGE, text=None)],
    "no sender": [replace(MESSAGE, originator=None)],
    "a naive time": [replace(MESSAGE, received_at=datetime(2026, 11, 21))],  # noqa: DTZ001 -- likewise
    "a text for a time": [replace(MESSAGE, received_at="now")],
    "a time before all": [
        replace(MESSAGE, received_at=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=3))))
    ],
}


def hook(sender: str = "asanak", secret: str = SECRET) -> str:
    return f"/verify-mobile/webhooks/{sender}/{secret}"


@pytest.fixture
def app(make_app: MakeApp, sqlite: str) -> Flask:
    return hooked(make_app, sqlite)


def hooked(make_app: MakeApp, url: str, **config: Any) -> Flask:
    """An app with hooks, and beside Asanak two gateways of its own."""
    config = {"SMSVERIFY_SENDERS": SENDERS, "SMSVERIFY_WEBHOOK_SECRET": SECRET} | config
    app = make_app(url, **config)
    delivery = app.extensions["smsverify"].delivery
    senders = [*delivery.routes.senders.values(), Reporting(name="own"), Broken(name="broken")]
    delivery.use_routes(Routes({sender.name: sender for sender in senders}, {"sms": ["own"]}))
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A gateway: no session, no token."""
    return app.test_client()


def kept(app: Flask, table: Any = Incoming) -> list[Any]:
    ledger = app.extensions["smsverify"].ledger
    return ledger.read(lambda session: list(session.scalars(select(table))))


# --- who may call --------------------------------------------------------------------------------


def test_a_gateway_tells_of_a_message_and_is_answered_200(app: Flask, client: FlaskClient) -> None:
    for _ in range(2):
        answer = client.get(hook(), query_string=PUSH)
        assert (answer.status_code, answer.text) == (200, "")
        assert "no-store" in answer.headers["Cache-Control"]
        assert "Set-Cookie" not in answer.headers
    [message] = kept(app)
    assert (message.sender, message.originator) == ("asanak", "+989123450001")
    assert message.text == "سلام"


@pytest.mark.parametrize(
    "path",
    [
        "/verify-mobile/webhooks/",
        "/verify-mobile/webhooks/asanak",
        "/verify-mobile/webhooks/asanak/",
        f"/verify-mobile/webhooks/{SECRET}",
        hook(secret="a-secret-of-the-hookz"),
        hook(secret=SECRET[:-1]),
        hook(secret=SECRET + "s"),
        hook(secret=SECRET.upper()),
        hook(secret="%00"),
        hook(secret="%ff%fe"),
        hook(secret="ی"),
        hook(sender="nobody"),
        hook(sender="memory"),
        hook(sender="ASANAK"),
        hook() + "/",
        hook() + "/more",
        f"/verify-mobile/webhooks/asanak/more/{SECRET}",
    ],
)
def test_without_the_secret_or_a_gateway_that_calls_there_is_nothing(
    app: Flask, client: FlaskClient, path: str
) -> None:
    """Case 57 of docs/safety.md; the answer is the one of a page that there is not."""
    nothing = client.get("/verify-mobile/nothing-of-ours")
    for method in ("GET", "POST", "TRACE", "PROPFIND"):
        answer = client.open(path, method=method, query_string=PUSH)
        assert (answer.status_code, answer.text) == (404, nothing.text)
    assert kept(app) == []


@pytest.mark.parametrize(
    "method", ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"]
)
def test_a_hook_is_not_there_for_another_method_than_the_gateways(
    app: Flask, client: FlaskClient, method: str
) -> None:
    """Case 57 of docs/safety.md."""
    answer = client.open(hook(), method=method, query_string=PUSH)
    assert answer.status_code == 404
    assert client.get(hook("own"), query_string={"id": "1"}).status_code == 404
    assert kept(app) == []


def test_fields_count_only_where_the_method_has_them(client: FlaskClient) -> None:
    """Case 57 of docs/safety.md: a query beside a POST's body says nothing."""
    beside = {"id": "1", "state": "delivered"}
    assert client.post(hook("own"), query_string=beside).status_code == 400
    assert client.post(hook("own"), data=beside).status_code == 200
    assert client.get(hook(), data=PUSH).status_code == 400


def test_there_are_no_hooks_without_a_secret(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_SENDERS=SENDERS)
    for secret in (SECRET, "None", ""):
        assert app.test_client().get(hook(secret=secret), query_string=PUSH).status_code == 404
    assert "smsverify_webhooks" not in app.blueprints


def test_the_secret_is_compared_in_constant_time(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 57 of docs/safety.md."""
    from flask_smsverify.web import webhooks as hooks

    compared: list[tuple[object, object]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hooks.hmac, "compare_digest", compare)
    client.get(hook(secret="wrong"))
    client.get(hook(sender="nobody", secret="wrong"))
    client.get(hook(), query_string=PUSH)
    assert compared == [(said.encode(), SECRET.encode()) for said in ("wrong", "wrong", SECRET)]


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_a_hook_needs_no_csrf_token_whichever_extension_came_first(
    make_app: MakeApp, sqlite: str, first: str
) -> None:
    if first == "theirs":
        # `init_app` of the host's protection runs before `create_app` reaches ours.
        protected: list[Flask] = []
        original = Flask.__init__

        def init(self: Flask, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            CSRFProtect(self)
            protected.append(self)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Flask, "__init__", init)
            app = hooked(make_app, sqlite, WTF_CSRF_ENABLED=True)
        assert protected == [app]
    else:
        app = hooked(make_app, sqlite, WTF_CSRF_ENABLED=True)
        CSRFProtect(app)
    client = app.test_client()
    assert client.post(hook("own"), data={"id": "1"}).status_code == 200
    assert client.post(hook("own"), json={"id": "1"}).status_code == 200
    assert browser(app).post(SEND).status_code == 400, "the pages are protected all the same"


def test_a_hook_is_open_where_the_whole_app_is_guarded(app: Flask, client: FlaskClient) -> None:
    app.extensions["test_smsverify"].guard(app)
    client.get("/login/1")
    assert client.get("/open").status_code == 302
    assert client.get(hook(), query_string=PUSH).status_code == 200


# --- what is told --------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [True, False])
def test_a_report_moves_the_message_on(app: Flask, client: FlaskClient, form: bool) -> None:
    visitor = browser(app)
    assert visitor.post(SEND, json={}).json["delivery"] == "sent"
    report = {"id": "1", "state": "delivered"}
    answer = (
        client.post(hook("own"), data=report) if form else client.post(hook("own"), json=report)
    )
    assert answer.status_code == 200
    assert [message.state for message in kept(app, Message)] == ["delivered"]
    status = visitor.get("/verify-mobile/status").json
    assert (status["state"], status["delivery"]) == ("pending", "delivered")


def test_the_simulators_asanak_calls_the_hook(app: Flask) -> None:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    with running() as simulator, serving(server):
        sent = {
            "gateway": "asanak",
            "from": "+989123450001",
            "to": "9821000",
            "text": "سلام به پشتیبانی",
            "push_url": f"http://127.0.0.1:{server.port}{hook()}",
        }
        answer = httpx.post(f"{simulator.url}/_api/incoming", json=sent, trust_env=False)
    assert answer.json()["pushed"]["status"] == 200
    [message] = kept(app)
    assert (message.originator, message.line) == ("+989123450001", "9821000")
    assert message.text == "سلام به پشتیبانی"


@contextmanager
def serving(server: BaseWSGIServer) -> Iterator[None]:
    """Serves an app in a thread for as long as the block runs."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_what_the_gateway_never_says_is_400(app: Flask, client: FlaskClient) -> None:
    assert client.get(hook(), query_string={"Source": "1"}).status_code == 400
    assert client.post(hook("own"), data=b"{", content_type="application/json").status_code == 400
    deep = b"[" * 19_000 + b"]" * 19_000
    assert client.post(hook("own"), data=deep, content_type="application/json").status_code == 400
    many = "".join(
        f'--x\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n1\r\n' for n in range(1100)
    )
    answer = client.post(hook("own"), data=many, content_type="multipart/form-data; boundary=x")
    assert answer.status_code == 413
    large = {"id": "1" * 300_000}
    assert client.post(hook("own"), data=large).status_code == 413
    assert client.post(hook("own"), json=large).status_code == 413
    assert kept(app) == []


@pytest.mark.parametrize("what", [*ODD, "something that its code falls over"])
def test_what_a_gateways_code_gets_wrong_is_400_and_not_told(
    app: Flask, client: FlaskClient, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    assert client.post(hook("broken"), json={"what": what}).status_code == 400
    assert kept(app) == []
    assert "broken" in caplog.text
    for hidden in ("hidden words", "0001", "falls over"):
        assert all(hidden not in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("own", "away"),
        Rejected("own", "no"),
        Misconfigured("own", "wrong"),
        Unknown("own", "what"),
    ],
)
def test_whatever_a_sender_raises_of_ours_is_400(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Reporting, "parse_push", fail)
    assert client.post(hook("own"), json={"id": "1"}).status_code == 400


@pytest.mark.parametrize("known", [True, False])
def test_a_push_of_many_reports_takes_no_longer_than_one(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    def read(_: object, said: Any) -> list[DeliveryReport]:
        return [DeliveryReport(one["id"], DeliveryState(one["state"])) for one in said]

    monkeypatch.setattr(Reporting, "parse_push", read)
    ledger = app.extensions["smsverify"].ledger
    now = datetime.now(UTC)
    sent: list[Message | Attempt] = []
    for number in range(500 if known else 0):
        id_ = f"{number:032}"
        common: dict[str, Any] = {"id": id_, "state": "sent", "created_at": now, "updated_at": now}
        sent += [
            Message(kind="code", recipient="+989123450001", channel="sms", **common),
            Attempt(message_id=id_, sender="own", gateway_id=str(number), **common),
        ]
    ledger.run(lambda session: session.add_all(sent))
    batch = [{"id": str(number), "state": "delivered"} for number in range(500)]
    with statements(app) as seen:
        assert client.post(hook("own"), json=batch).status_code == 200
    reads = [one for one in seen if one.startswith("SELECT")]
    assert len(reads) <= 8
    states = {message.state for message in kept(app, Message)}
    assert states == ({"delivered"} if known else set())
    assert len(kept(app, EarlyReport)) == (0 if known else 500)
    assert client.post(hook("own"), json=[*batch, batch[0]]).status_code == 413


def test_a_hook_asks_to_be_called_again_while_the_database_is_away(
    app: Flask, client: FlaskClient
) -> None:
    with store_down(app):
        assert client.get(hook(), query_string=PUSH).status_code == 503
    assert client.get(hook(), query_string=PUSH).status_code == 200
    assert len(kept(app)) == 1


def test_no_log_line_of_ours_holds_the_secret_or_what_was_told(
    app: Flask,
    client: FlaskClient,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Case 57 of docs/safety.md, with tests' `PROPAGATE_EXCEPTIONS` off, as in production."""
    caplog.set_level(logging.DEBUG)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    answers: list[TestResponse] = [client.get(hook(), query_string=PUSH)]
    answers.append(client.get(hook(), query_string={"Source": "9123450001"}))
    answers.append(client.post(hook("broken"), json={"a text": "of somebody"}))
    with store_down(app):
        answers.append(client.get(hook(), query_string=PUSH))

    def fall(*_: object) -> None:
        raise RuntimeError(" ".join(["a fault", "of ours"]))  # a log shows this line

    monkeypatch.setattr(app.extensions["smsverify"].tracker, "record", fall)
    answers.append(client.get(hook(), query_string=PUSH))
    assert [answer.status_code for answer in answers] == [200, 400, 400, 503, 500]
    ours = [record for record in caplog.records if record.name.startswith("flask_smsverify")]
    assert len(ours) >= 4
    said = "\n".join(map(logging.Formatter().format, caplog.records))
    said += "\n".join(answer.text + str(answer.headers) for answer in answers)
    for hidden in (SECRET, "of somebody", "9123450001", "سلام", "a fault of ours"):
        assert hidden not in said, hidden
    assert "RuntimeError" in said


def test_no_function_of_the_hosts_sees_the_secret_or_makes_flask_log_it(
    app: Flask, client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Case 57 of docs/safety.md."""
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.config["TRAP_HTTP_EXCEPTIONS"] = True
    seen: list[object] = []

    def fall() -> None:
        seen.extend([request.path, request.url, request.full_path, request.base_url])
        seen.extend([request.view_args, request.environ["PATH_INFO"]])
        raise RuntimeError

    app.url_value_preprocessor(lambda *_: request.url + request.full_path + request.base_url)
    app.before_request(fall)
    for path in (hook(), hook("nobody"), hook("%D8%A7"), f"{hook()}/", f"{hook()}/x"):
        assert client.get(path, query_string=PUSH).status_code == 500
    assert client.post(hook(), query_string=PUSH).status_code == 500
    assert len(caplog.records) == 6
    assert seen[0] == "/verify-mobile/webhooks/asanak/***"
    said = caplog.text + repr(seen)
    assert "/verify-mobile/webhooks/" in said
    assert SECRET not in said


def test_the_hosts_functions_do_not_run_for_who_lacks_the_secret(
    app: Flask, client: FlaskClient
) -> None:
    ran: list[str] = []
    app.before_request(lambda: ran.append(request.path))
    assert client.get(hook(secret="wrong"), query_string=PUSH).status_code == 404
    assert ran == []
    assert client.get(hook(), query_string=PUSH).status_code == 200
    assert len(ran) == 1


# --- what nobody would send ----------------------------------------------------------------------

ANYTHING = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@shared_app
@given(
    query=st.dictionaries(
        st.sampled_from([*PUSH, "Msg Body", "MSGBODY", "x"]) | ANYTHING,
        st.sampled_from([*PUSH.values(), "\x00", "9999-12-31 23:59:59", "2000-01-01 00:00:00"])
        | ANYTHING,
    )
)
@example(PUSH | {"ReceiveTime": "9999-12-31 23:59:59"})
@example(PUSH | {"MsgBody": "\x00", "Source": "\x00"})
@example(PUSH | {"Destination": "x" * 2000})
def test_no_query_is_a_500(client: FlaskClient, query: dict[str, str]) -> None:
    assert client.get(hook(), query_string=query).status_code in (200, 400)


@shared_app
@given(st.binary(max_size=60))
@example(b"\xe1\xe3")
def test_no_bytes_of_a_query_are_a_500(client: FlaskClient, query: bytes) -> None:
    quoted = urlencode({"MsgBody": query, "Source": query})
    assert client.get(f"{hook()}?{quoted}").status_code in (200, 400)
    raw = {"QUERY_STRING": f"Source=1&MsgBody={query.decode('latin-1')}"}
    assert client.get(hook(), environ_overrides=raw).status_code in (200, 400, 413)


@shared_app
@given(
    json_values()
    | st.fixed_dictionaries(
        {"id": st.text(max_size=200)},
        optional={"state": st.sampled_from([str(status) for status in DeliveryState])},
    )
)
def test_no_json_of_a_report_is_a_500(client: FlaskClient, body: Any) -> None:
    answer = client.post(hook("own"), data=json.dumps(body), content_type="application/json")
    assert answer.status_code in (200, 400)


@shared_app
@given(
    body=st.binary(max_size=60),
    kind=st.sampled_from(
        [
            "application/json",
            "application/json; charset=utf-16",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "text/plain",
            "",
        ]
    ),
)
def test_no_bytes_of_a_body_are_a_500(client: FlaskClient, body: bytes, kind: str) -> None:
    answer = client.post(hook("own"), data=body, content_type=kind)
    assert answer.status_code in (200, 400)


@shared_app
@given(sender=ANYTHING, secret=ANYTHING)
def test_no_address_of_a_hook_is_a_500(client: FlaskClient, sender: str, secret: str) -> None:
    sender, secret = (part.replace("?", "").replace("/", "") for part in (sender, secret))
    answer = client.get(f"/verify-mobile/webhooks/{sender}/{secret}", query_string=PUSH)
    assert answer.status_code in (308, 404)  # 308: where the address has two slashes


def heavy(pattern: str, size: int = 250_000) -> str:
    """That pattern over and over."""
    return pattern * (size // len(pattern.encode()))


@pytest.mark.parametrize("text", ["1", " ", "٠", "09", "%", "_", "\u202e"])
def test_nothing_pushed_takes_long(client: FlaskClient, text: str) -> None:
    """In CPU time of this thread; the best of three, since others use the machine too."""
    long = heavy(text, 4_000)  # a server takes addresses of 8 to 64 kB
    for query in (dict.fromkeys(PUSH, long), PUSH | {long: long}, PUSH | {"Source": long}):
        assert cpu_seconds(lambda query=query: client.get(hook(), query_string=query)) < 0.05
        assert client.get(hook(), query_string=query).status_code in (200, 400)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", heavy("[],")),
        ("application/json", f"[{heavy('[],', 59_000)}0]"),
        ("application/json", f'{{"id":"{heavy("1")}"}}'),
        ("application/x-www-form-urlencoded", heavy("a=1&")),
        ("application/x-www-form-urlencoded", "id=" + heavy("%2f")),
        ("application/x-www-form-urlencoded", "id=" + heavy("1")),
        ("multipart/form-data; boundary=x", f"--x\r\nContent-Disposition: {heavy(';a=1')}"),
        ("multipart/form-data; boundary=x", f"--x\r\nContent-Disposition: {heavy(';a=1', 64_000)}"),
    ],
)
def test_no_body_of_a_hook_takes_long(client: FlaskClient, kind: str, body: str) -> None:
    post = {"data": body, "content_type": kind}
    assert cpu_seconds(lambda: client.post(hook("own"), **post)) < 0.05
    assert client.post(hook("own"), **post).status_code in (200, 400, 413)
