"""Webhooks: authentication, what is stored, and input that no gateway sends."""

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
from visiting import SEND, browser, statements, store_down
from web.fuzzing import (
    FORM,
    JSON,
    LARGE,
    MULTIPART,
    body_of,
    json_values,
    parsed_sizes,
    shared_app,
)
from werkzeug.serving import BaseWSGIServer, make_server
from werkzeug.test import TestResponse

from flask_smsverify.db.models import Attempt, EarlyReport, Incoming, Message
from flask_smsverify.delivery import Routes
from flask_smsverify.errors import Misconfigured, Rejected, SenderError, Unavailable, Unknown
from flask_smsverify.senders import base
from flask_smsverify.senders.base import DeliveryReport, DeliveryState
from flask_smsverify.senders.memory import Memory
from flask_smsverify.simulator import running

SECRET = "a-secret-of-the-webhooks"
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
    """A gateway whose code fails."""

    gateway = "broken"
    push_methods = frozenset({"POST"})

    def parse_push(self, payload: object) -> Sequence[Any]:
        if isinstance(payload, dict) and payload.get("what") in ODD:
            return ODD[payload["what"]]
        raise KeyError(str(payload))


AT = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
MESSAGE = base.ReceivedText("1", "+989123450001", "3000", "text", AT)
#: Invalid results of a gateway's `parse_push`.
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


def webhook(sender: str = "asanak", secret: str = SECRET) -> str:
    return f"/verify-mobile/webhooks/{sender}/{secret}"


@pytest.fixture
def app(make_app: MakeApp, sqlite: str) -> Flask:
    return make_webhook_app(make_app, sqlite)


def make_webhook_app(make_app: MakeApp, url: str, **config: Any) -> Flask:
    """An app with webhooks, for Asanak and two gateways of its own."""
    config = {"SMSVERIFY_SENDERS": SENDERS, "SMSVERIFY_WEBHOOK_SECRET": SECRET} | config
    app = make_app(url, **config)
    delivery = app.extensions["smsverify"].delivery
    senders = [*delivery.routes.senders.values(), Reporting(name="own"), Broken(name="broken")]
    delivery.use_routes(Routes({sender.name: sender for sender in senders}, {"sms": ["own"]}))
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A gateway: it has no session and no token."""
    return app.test_client()


def kept(app: Flask, table: Any = Incoming) -> list[Any]:
    ledger = app.extensions["smsverify"].ledger
    return ledger.read(lambda session: list(session.scalars(select(table))))


# --- authentication ---------------------------------------------------------------------------


def test_a_received_text_is_stored_and_answered_with_200(app: Flask, client: FlaskClient) -> None:
    for _ in range(2):
        answer = client.get(webhook(), query_string=PUSH)
        assert (answer.status_code, answer.text) == (200, "")
        assert "no-store" in answer.headers["Cache-Control"]
        assert "Set-Cookie" not in answer.headers
    [message] = kept(app)
    assert (message.sender, message.originator) == ("asanak", "+989123450001")
    assert message.text == "سلام"


def test_a_url_without_the_secret_or_a_pushing_sender_is_404(
    app: Flask, client: FlaskClient
) -> None:
    """Case 57 of docs/safety.md; the response is that of a URL that does not exist."""
    missing = client.get("/verify-mobile/no-such-page")
    for path in (
        "/verify-mobile/webhooks/",
        "/verify-mobile/webhooks/asanak",
        "/verify-mobile/webhooks/asanak/",
        f"/verify-mobile/webhooks/{SECRET}",
        webhook(secret="a-secret-of-the-webhookz"),
        webhook(secret=SECRET[:-1]),
        webhook(secret=SECRET + "s"),
        webhook(secret=SECRET.upper()),
        webhook(secret="%00"),
        webhook(secret="%ff%fe"),
        webhook(secret="ی"),
        webhook(sender="nobody"),
        webhook(sender="memory"),
        webhook(sender="ASANAK"),
        webhook() + "/",
        webhook() + "/more",
        f"/verify-mobile/webhooks/asanak/more/{SECRET}",
    ):
        for method in ("GET", "POST", "TRACE", "PROPFIND"):
            response = client.open(path, method=method, query_string=PUSH)
            assert (response.status_code, response.text) == (404, missing.text), (path, method)
    assert kept(app) == []


def test_a_method_that_the_gateway_does_not_use_is_404(app: Flask, client: FlaskClient) -> None:
    """Case 57 of docs/safety.md."""
    methods = ("HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND")
    for method in methods:
        response = client.open(webhook(), method=method, query_string=PUSH)
        assert response.status_code == 404, method
    assert client.get(webhook("own"), query_string={"id": "1"}).status_code == 404
    assert kept(app) == []


def test_fields_are_read_only_from_the_place_of_the_method(client: FlaskClient) -> None:
    """Case 57 of docs/safety.md: a query beside a POST's body says nothing."""
    beside = {"id": "1", "state": "delivered"}
    assert client.post(webhook("own"), query_string=beside).status_code == 400
    assert client.post(webhook("own"), data=beside).status_code == 200
    assert client.get(webhook(), data=PUSH).status_code == 400


def test_there_are_no_webhooks_without_a_secret(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_SENDERS=SENDERS)
    for secret in (SECRET, "None", ""):
        assert app.test_client().get(webhook(secret=secret), query_string=PUSH).status_code == 404
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
    client.get(webhook(secret="wrong"))
    client.get(webhook(sender="nobody", secret="wrong"))
    client.get(webhook(), query_string=PUSH)
    assert compared == [(said.encode(), SECRET.encode()) for said in ("wrong", "wrong", SECRET)]


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_a_webhook_needs_no_csrf_token_in_either_order_of_the_extensions(
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
            app = make_webhook_app(make_app, sqlite, WTF_CSRF_ENABLED=True)
        assert protected == [app]
    else:
        app = make_webhook_app(make_app, sqlite, WTF_CSRF_ENABLED=True)
        CSRFProtect(app)
    client = app.test_client()
    assert client.post(webhook("own"), data={"id": "1"}).status_code == 200
    assert client.post(webhook("own"), json={"id": "1"}).status_code == 200
    assert browser(app).post(SEND).status_code == 400, "the pages are still protected"


def test_a_webhook_is_open_in_a_guarded_app(app: Flask, client: FlaskClient) -> None:
    app.extensions["test_smsverify"].guard(app)
    client.get("/login/1")
    assert client.get("/open").status_code == 302
    assert client.get(webhook(), query_string=PUSH).status_code == 200


# --- reports and received texts ---------------------------------------------------------------


@pytest.mark.parametrize("form", [True, False])
def test_a_delivery_report_updates_the_message(app: Flask, client: FlaskClient, form: bool) -> None:
    visitor = browser(app)
    assert visitor.post(SEND, json={}).json["delivery"] == "sent"
    report = {"id": "1", "state": "delivered"}
    answer = (
        client.post(webhook("own"), data=report)
        if form
        else client.post(webhook("own"), json=report)
    )
    assert answer.status_code == 200
    assert [message.state for message in kept(app, Message)] == ["delivered"]
    status = visitor.get("/verify-mobile/status").json
    assert (status["state"], status["delivery"]) == ("pending", "delivered")


def test_a_push_of_the_simulated_asanak_is_stored(app: Flask) -> None:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    with running() as simulator, serving(server):
        sent = {
            "gateway": "asanak",
            "from": "+989123450001",
            "to": "9821000",
            "text": "سلام به پشتیبانی",
            "push_url": f"http://127.0.0.1:{server.port}{webhook()}",
        }
        answer = httpx.post(f"{simulator.url}/_api/incoming", json=sent, trust_env=False)
    assert answer.json()["pushed"]["status"] == 200
    [message] = kept(app)
    assert (message.originator, message.line) == ("+989123450001", "9821000")
    assert message.text == "سلام به پشتیبانی"


@contextmanager
def serving(server: BaseWSGIServer) -> Iterator[None]:
    """Serve an app in a thread while the block runs."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_invalid_payload_is_400_and_an_oversized_one_413(
    app: Flask, client: FlaskClient
) -> None:
    assert client.get(webhook(), query_string={"Source": "1"}).status_code == 400
    assert (
        client.post(webhook("own"), data=b"{", content_type="application/json").status_code == 400
    )
    deep = b"[" * 19_000 + b"]" * 19_000
    assert (
        client.post(webhook("own"), data=deep, content_type="application/json").status_code == 400
    )
    many = "".join(
        f'--x\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n1\r\n' for n in range(1100)
    )
    answer = client.post(webhook("own"), data=many, content_type="multipart/form-data; boundary=x")
    assert answer.status_code == 413
    large = {"id": "1" * 300_000}
    assert client.post(webhook("own"), data=large).status_code == 413
    assert client.post(webhook("own"), json=large).status_code == 413
    assert kept(app) == []


def test_an_error_in_a_gateways_code_is_400_and_logged_without_the_payload(
    app: Flask, client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    for payload in (*ODD, "something that its code fails on"):
        caplog.clear()
        assert client.post(webhook("broken"), json={"what": payload}).status_code == 400, payload
        assert kept(app) == []
        assert "broken" in caplog.text, payload
        for hidden in ("hidden words", "0001", "fails on"):
            assert all(hidden not in record.getMessage() for record in caplog.records), payload


def test_any_sender_error_is_400(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (Unavailable, Rejected, Misconfigured, Unknown):

        def fail(*_: object, error: type[SenderError] = error) -> None:
            raise error("own", "no")

        monkeypatch.setattr(Reporting, "parse_push", fail)
        assert client.post(webhook("own"), json={"id": "1"}).status_code == 400, error


@pytest.mark.parametrize("known", [True, False])
def test_a_push_of_500_reports_needs_no_more_queries_than_one(
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
        assert client.post(webhook("own"), json=batch).status_code == 200
    reads = [one for one in seen if one.startswith("SELECT")]
    assert len(reads) <= 8
    states = {message.state for message in kept(app, Message)}
    assert states == ({"delivered"} if known else set())
    assert len(kept(app, EarlyReport)) == (0 if known else 500)
    assert client.post(webhook("own"), json=[*batch, batch[0]]).status_code == 413


def test_a_webhook_answers_503_while_the_database_is_down(app: Flask, client: FlaskClient) -> None:
    with store_down(app):
        assert client.get(webhook(), query_string=PUSH).status_code == 503
    assert client.get(webhook(), query_string=PUSH).status_code == 200
    assert len(kept(app)) == 1


def test_no_log_line_contains_the_secret_or_the_payload(
    app: Flask,
    client: FlaskClient,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Case 57 of docs/safety.md, with tests' `PROPAGATE_EXCEPTIONS` off, as in production."""
    caplog.set_level(logging.DEBUG)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    answers: list[TestResponse] = [client.get(webhook(), query_string=PUSH)]
    answers.append(client.get(webhook(), query_string={"Source": "9123450001"}))
    answers.append(client.post(webhook("broken"), json={"a text": "of somebody"}))
    with store_down(app):
        answers.append(client.get(webhook(), query_string=PUSH))

    def fall(*_: object) -> None:
        raise RuntimeError(" ".join(["a fault", "of ours"]))  # a log shows this line

    monkeypatch.setattr(app.extensions["smsverify"].tracker, "record", fall)
    answers.append(client.get(webhook(), query_string=PUSH))
    assert [answer.status_code for answer in answers] == [200, 400, 400, 503, 500]
    ours = [record for record in caplog.records if record.name.startswith("flask_smsverify")]
    assert len(ours) >= 4
    said = "\n".join(map(logging.Formatter().format, caplog.records))
    said += "\n".join(answer.text + str(answer.headers) for answer in answers)
    for hidden in (SECRET, "of somebody", "9123450001", "سلام", "a fault of ours"):
        assert hidden not in said, hidden
    assert "RuntimeError" in said


def test_before_request_functions_and_flasks_log_do_not_get_the_secret(
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
    for path in (
        webhook(),
        webhook("nobody"),
        webhook("%D8%A7"),
        f"{webhook()}/",
        f"{webhook()}/x",
    ):
        assert client.get(path, query_string=PUSH).status_code == 500
    assert client.post(webhook(), query_string=PUSH).status_code == 500
    assert len(caplog.records) == 6
    assert seen[0] == "/verify-mobile/webhooks/asanak/***"
    said = caplog.text + repr(seen)
    assert "/verify-mobile/webhooks/" in said
    assert SECRET not in said


def test_before_request_functions_do_not_run_without_the_secret(
    app: Flask, client: FlaskClient
) -> None:
    ran: list[str] = []
    app.before_request(lambda: ran.append(request.path))
    assert client.get(webhook(secret="wrong"), query_string=PUSH).status_code == 404
    assert ran == []
    assert client.get(webhook(), query_string=PUSH).status_code == 200
    assert len(ran) == 1


# --- generated and oversized input ------------------------------------------------------------

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
def test_any_query_is_answered_without_a_server_error(
    client: FlaskClient, query: dict[str, str]
) -> None:
    assert client.get(webhook(), query_string=query).status_code in (200, 400)


@shared_app
@given(st.binary(max_size=60))
@example(b"\xe1\xe3")
def test_any_query_bytes_are_answered_without_a_server_error(
    client: FlaskClient, query: bytes
) -> None:
    quoted = urlencode({"MsgBody": query, "Source": query})
    assert client.get(f"{webhook()}?{quoted}").status_code in (200, 400)
    raw = {"QUERY_STRING": f"Source=1&MsgBody={query.decode('latin-1')}"}
    assert client.get(webhook(), environ_overrides=raw).status_code in (200, 400, 413)


@shared_app
@given(
    json_values()
    | st.fixed_dictionaries(
        {"id": st.text(max_size=200)},
        optional={"state": st.sampled_from([str(status) for status in DeliveryState])},
    )
)
def test_any_json_is_answered_without_a_server_error(client: FlaskClient, body: Any) -> None:
    answer = client.post(webhook("own"), data=json.dumps(body), content_type="application/json")
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
def test_any_body_bytes_are_answered_without_a_server_error(
    client: FlaskClient, body: bytes, kind: str
) -> None:
    answer = client.post(webhook("own"), data=body, content_type=kind)
    assert answer.status_code in (200, 400)


@shared_app
@given(sender=ANYTHING, secret=ANYTHING)
def test_any_webhook_url_is_answered_without_a_server_error(
    client: FlaskClient, sender: str, secret: str
) -> None:
    sender, secret = (part.replace("?", "").replace("/", "") for part in (sender, secret))
    answer = client.get(f"/verify-mobile/webhooks/{sender}/{secret}", query_string=PUSH)
    assert answer.status_code in (308, 404)  # 308: where the address has two slashes


def test_long_values_in_a_query_are_answered(client: FlaskClient) -> None:
    for text in ("1", " ", "٠", "09", "%", "_", "\u202e"):
        long = body_of(text, size=4_000)  # servers accept URLs of 8 to 64 kB
        for query in (dict.fromkeys(PUSH, long), PUSH | {long: long}, PUSH | {"Source": long}):
            assert client.get(webhook(), query_string=query).status_code in (200, 400), text


def test_a_body_beyond_the_limits_is_refused_unparsed(client: FlaskClient) -> None:
    part = "--x\r\nContent-Disposition: "
    for kind, body in (
        (JSON, body_of("[],", size=250_000)),
        (FORM, body_of("a=1&", size=250_000)),
        (FORM, "id=" + body_of("%2f", size=250_000)),
        (MULTIPART, part + body_of(";a=1", size=250_000)),
        (MULTIPART, part + body_of(";a=1", size=64_000)),
    ):
        with parsed_sizes() as sizes:
            response = client.post(webhook("own"), data=body, content_type=kind)
        assert max(sizes, default=0) < LARGE, (kind, body[:60])
        assert response.status_code == 413, (kind, body[:60])


def test_the_largest_bodies_within_the_limits_are_answered(client: FlaskClient) -> None:
    for kind, body in (
        (JSON, f"[{body_of('[],', size=59_000)}0]"),
        (JSON, f'{{"id":"{body_of("1", size=250_000)}"}}'),
        (FORM, "id=" + body_of("1", size=250_000)),
    ):
        response = client.post(webhook("own"), data=body, content_type=kind)
        assert response.status_code in (200, 400), (kind, body[:60])
