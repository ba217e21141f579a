"""Generated and oversized input: no server error, no unlimited parsing, no open redirect."""

from __future__ import annotations

import io
import json
import logging
import re
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
from conftest import MakeApp
from examples import examples
from flask import Flask, g, request
from flask.testing import FlaskClient
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from jinja2 import DictLoader
from leaks import LONG_CODES
from visiting import (
    CHECK,
    MOBILE,
    OTHER,
    PAGE,
    SEND,
    STATUS,
    age,
    api,
    browser,
    forget_limits,
    last_code,
    phone,
    prove,
    wrong,
)
from web.fuzzing import (
    FORM,
    HEAVY_BODIES,
    IN_A_STRING,
    LARGE,
    LONG_HEADERS,
    LONG_QUERIES,
    MULTIPART,
    PART,
    REFUSED_BODIES,
    Unread,
    body_of,
    json_values,
    parsed_sizes,
    shared_app,
)
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_smsverify.errors import InvalidCode, MobileError, Unavailable
from flask_smsverify.phone import parse
from flask_smsverify.verification import codes
from flask_smsverify.web.redirects import safe_path
from flask_smsverify.web.request_limits import MAX_BODY_BYTES

ACCEPT_JSON = {"Accept": "application/json"}

# --- where `next` leads -----------------------------------------------------------------------


def resolved_host(location: str) -> str:
    """The host that a browser goes to from our page, by the WHATWG URL standard, 4.4.

    "site.example" where it stays on the site; "" for a scheme of another kind, which
    leads off the site as well.
    """
    target = location.strip("".join(map(chr, range(33))))
    target = re.sub(r"[\t\n\r]", "", target)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.\-]*):", target)
    if scheme is not None:
        if scheme[1].lower() not in ("http", "https", "ftp", "ws", "wss"):
            return ""
        target = "//" + target[scheme.end() :].lstrip("/\\")
    target = target.replace("\\", "/")
    if target.startswith("//"):
        return re.split(r"[/?#]", target[2:].lstrip("/"), maxsplit=1)[0]
    return "site.example"


PIECES = st.sampled_from(
    [
        *"/\\?#@:.;%&=+- \t\n\r\x00\x0b\x0c\x1f\x7f\x85\xa0",
        *"／＼．：。\u2028\u2029\u200b\u202e\ufeff\u00ad\ud800",
        "//",
        "/\\",
        "https:",
        "http://",
        "javascript:",
        "data:",
        "evil.example",
        "site.example",
        "%2f",
        "%5c",
        "%0d%0a",
        "..",
        "a",
    ]
)


@settings(max_examples=examples(1500))
@given(st.lists(PIECES, max_size=8).map("".join) | st.text(max_size=12))
@example("//evil.example")
@example("/\\evil.example")
@example("\\/evil.example")
@example("/\t/evil.example")
@example("\t//evil.example")
@example("/\n/evil.example")
@example("https:evil.example")
@example("https:/evil.example")
@example("///evil.example")
@example("/\x00/evil.example")
@example("site.example.evil.example")
@example("@evil.example")
@example(".evil.example")
@example("/..//evil.example")
@example("/%2f/evil.example")
@example("/\u2028/evil.example")
@example("/\ud800")
def test_an_accepted_target_stays_on_this_site(target: str) -> None:
    """Case 38 of docs/safety.md."""
    found = safe_path(target)
    if found is not None:
        assert found == target
        assert resolved_host(found) == "site.example"
        found.encode()


def test_the_oracle_of_these_tests_recognizes_urls_of_other_sites() -> None:
    for target in ("//e", "/\\e", "\\\\e", "/\t/e", " //e", "https:e", "http:///e", "///e"):
        assert resolved_host(target) == "e", target
    assert resolved_host("javascript:alert(1)") == ""
    for target in ("/a", "/a//b", "/a?u=//e", "a", "?a", "/%2f/e"):
        assert resolved_host(target) == "site.example", target


def test_only_paths_are_accepted_as_targets() -> None:
    for target in (None, "", "a", "?a", "#a", "/" + "a" * 2000, 7, ["/a"], b"/a", {"/": 1}):
        assert safe_path(target) is None
    for target in ("/", "/a?b=c&d=%2F#e", "/سلام", "/a b", "/a//b", "/@x", "/a:b"):
        assert safe_path(target) == target


@shared_app
@given(target=st.lists(PIECES, max_size=6).map("".join))
def test_no_redirect_leads_to_another_site(client: FlaskClient, target: str) -> None:
    """Case 38 of docs/safety.md, for every way to pass `next`."""
    assume("\ud800" not in target)
    form = {"next": target, "code": "1", "mobile": "x"}
    for path in (SEND, CHECK, MOBILE):
        answer = client.post(path, data=form)
        assert resolved_host(answer.location) == "site.example"
    page = client.get(PAGE, query_string={"next": target})
    assert page.status_code == 200
    body = client.get(STATUS, query_string={"next": target}).json
    assert resolved_host(body["next"]) == "site.example"


@pytest.fixture
def verified(app: Flask, client: FlaskClient) -> FlaskClient:
    """A browser of a verified user."""
    prove(app, client)
    return client


@shared_app
@given(target=st.lists(PIECES, max_size=6).map("".join))
def test_no_redirect_of_a_verified_user_leads_to_another_site(
    verified: FlaskClient, target: str
) -> None:
    """Case 38 of docs/safety.md, where the response redirects to `next` directly."""
    assume("\ud800" not in target)
    for answer in (
        verified.get(PAGE, query_string={"next": target}),
        verified.post(SEND, data={"next": target}),
        verified.post(CHECK, data={"next": target, "code": "1"}),
    ):
        if answer.status_code != 200:
            assert resolved_host(answer.location) == "site.example"


@pytest.mark.parametrize("server_name", [None, "site.example"])
def test_a_forged_host_header_appears_in_no_text_and_no_link(
    make_app: MakeApp, sqlite: str, server_name: str | None
) -> None:
    """Case 40 of docs/safety.md."""
    app = make_app(sqlite, SERVER_NAME=server_name)
    client = browser(app)
    forged: dict[str, Any] = {
        "headers": {
            "Host": "evil.example",
            "X-Forwarded-Host": "evil.example",
            "X-Original-Host": "evil.example",
            "Forwarded": "host=evil.example",
        }
    }
    cookie = client.get_cookie("session", domain=server_name or "localhost")
    assert cookie is not None
    client.set_cookie("session", cookie.value, domain="evil.example")
    seen = [client.get("/guarded", **forged), client.get(PAGE, **forged)]
    seen += [client.post(SEND, **forged), client.get(PAGE, **forged), client.get(STATUS, **forged)]
    seen += [client.post(CHECK, data={"code": "1"}, **forged), client.get(MOBILE, **forged)]
    for answer in seen:
        assert answer.status_code < 400
        assert "evil.example" not in answer.text
        assert "evil.example" not in (answer.location or "")
    assert phone(app).messages
    assert "evil.example" not in phone(app).last.text
    assert ("@site.example #" in phone(app).last.text) is (server_name is not None)


def test_x_forwarded_for_is_ignored_without_proxy_fix(make_app: MakeApp, sqlite: str) -> None:
    """Case 24 of docs/safety.md."""
    limits = {"ip": "1/day"}
    app = make_app(sqlite, users=4, SMSVERIFY_LIMITS=limits)
    for user, status in ((1, 200), (2, 429)):
        header = {"X-Forwarded-For": f"10.0.0.{user}", "X-Real-IP": f"10.0.0.{user}"}
        assert browser(app, user).post(SEND, json={}, headers=header).status_code == status
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]  # as Flask's docs say
    for user, status in ((3, 200), (4, 200)):
        header = {"X-Forwarded-For": f"10.0.0.{user}"}
        assert browser(app, user).post(SEND, json={}, headers=header).status_code == status


# --- bodies that nobody would send ------------------------------------------------------------

VALUES = json_values(OTHER, "123456", "sms", "voice", "/guarded", "\ud800", "۱۲۳۴۵۶")
BODIES = st.dictionaries(
    st.sampled_from(["code", "channel", "mobile", "next", "demand", "send", "x"]), VALUES
)


@shared_app
@given(path=st.sampled_from([SEND, CHECK, MOBILE]), body=BODIES | VALUES)
def test_any_json_body_is_answered_without_a_server_error(
    client: FlaskClient, path: str, body: Any
) -> None:
    answer = client.post(path, data=json.dumps(body), content_type="application/json")
    assert answer.status_code in (200, 404, 422, 429), answer.text
    assert json.loads(answer.text)
    assert client.get(PAGE).status_code == 200


@shared_app
@given(
    path=st.sampled_from([SEND, CHECK, MOBILE]),
    form=st.dictionaries(
        st.sampled_from(["code", "channel", "mobile", "next", "demand", "send"]),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    ),
)
def test_any_form_is_answered_without_a_server_error(
    client: FlaskClient, path: str, form: dict[str, str]
) -> None:
    answer = client.post(path, data=form)
    assert answer.status_code == 303
    assert client.get(answer.location).status_code in (200, 302)


@shared_app
@given(
    body=st.binary(max_size=40),
    kind=st.sampled_from(
        [
            "application/json",
            "application/json; charset=utf-16",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "multipart/form-data; boundary=x",
            "text/plain",
            "x",
            "",
        ]
    ),
    accept=st.sampled_from(["text/html", "application/json", "x/y", ";;q=", "*/*;q=nan"]),
)
def test_any_body_is_answered_without_a_server_error(
    client: FlaskClient, body: bytes, kind: str, accept: str
) -> None:
    answer = client.post(CHECK, data=body, content_type=kind, headers={"Accept": accept})
    assert answer.status_code in (303, 404, 422)


@pytest.fixture
def everywhere(make_app: MakeApp, sqlite: str) -> FlaskClient:
    """A browser in an app that is guarded everywhere."""
    app = make_app(sqlite)
    app.extensions["test_smsverify"].guard(app, except_=["login"])
    app.add_url_rule("/any/<path:rest>", "any", lambda rest: rest, methods=["GET", "POST"])
    return browser(app)


@shared_app
@given(
    query=st.dictionaries(
        st.sampled_from(["next", "demand", "x"]),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    ),
    path=st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    referrer=st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=20),
)
def test_any_path_query_and_referrer_is_answered_without_a_server_error(
    everywhere: FlaskClient, query: dict[str, str], path: str, referrer: str
) -> None:
    client = everywhere
    stopped = client.get(f"/any/{path.replace('?', '')}", query_string=query)
    assert stopped.status_code in (302, 308, 404)
    assert client.get(PAGE, query_string=query).status_code == 200
    answer = client.post("/any/x", headers={"Referer": referrer})
    assert resolved_host(answer.location) == "site.example"


def test_oversized_input_is_refused_by_its_length_alone() -> None:
    """Cases 13 and 30 of docs/safety.md."""
    typed = Unread("/" * 10_000)
    with pytest.raises(MobileError):
        parse(typed, default_region="IR", allowed_regions=("IR",))
    with pytest.raises(InvalidCode):
        codes.parse_code(typed, range(6, 7))
    assert safe_path(typed) is None


def test_input_that_is_hard_to_normalize_is_refused() -> None:
    """Case 30 of docs/safety.md."""
    for character in "ﷺ\u03440-":
        with pytest.raises(MobileError):
            parse(character * 48, default_region="IR", allowed_regions=("IR",))
        with pytest.raises(InvalidCode):
            codes.parse_code(character * 48, range(6, 7))


def test_a_body_beyond_the_limits_is_refused_unparsed(client: FlaskClient) -> None:
    client.post(SEND)
    for kind, body in REFUSED_BODIES:
        for path in (SEND, CHECK, MOBILE):
            with parsed_sizes() as sizes:
                response = client.post(path, data=body, content_type=kind, headers=ACCEPT_JSON)
            assert max(sizes) < LARGE, (path, kind, body[:60])
            assert (response.status_code, response.json["code"]) == (422, "invalid_request")


def test_the_largest_bodies_within_the_limits_are_parsed_and_answered(client: FlaskClient) -> None:
    """`tests/benchmarks/large_requests.py` measures how long they take."""
    client.post(SEND)
    for kind, body in HEAVY_BODIES:
        with parsed_sizes() as sizes:
            response = client.post(CHECK, data=body, content_type=kind, headers=ACCEPT_JSON)
        assert max(sizes) >= min(LARGE, len(body)), (kind, body[:60])
        assert response.status_code == 422, (kind, body[:60])
        for path in (SEND, MOBILE):
            response = client.post(path, data=body, content_type=kind, headers=ACCEPT_JSON)
            assert response.status_code < 500, (path, kind, body[:60])


def test_a_body_is_refused_unparsed_even_if_the_host_reads_it_first(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite)
    app.before_request(lambda: request.form.get("x") and None)
    client = browser(app)
    for size in (MAX_BODY_BYTES, 100_000):
        with parsed_sizes() as sizes:
            response = client.post(CHECK, data=body_of("a=1&", size=size), content_type=FORM)
        assert response.status_code == 422
        assert max(sizes) < LARGE
    client.post(SEND)
    response = client.post(CHECK, data={"code": last_code(app)})
    assert (response.status_code, response.location) == (303, "/")


def test_a_refusal_is_rendered_after_the_hosts_before_request_functions(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite)
    layout = "{{ g.tenant.name }}: {% block content %}{% endblock %}"
    app.jinja_loader = DictLoader({"smsverify/base.html": layout})

    def come_first() -> None:
        g.tenant = SimpleNamespace(name="Chenar")
        assert not request.form

    app.before_request(come_first)
    client = browser(app)
    parts = "".join(f"--x\r\n{PART}\r\n\r\n1\r\n" for _ in range(1010))
    for kind, body in (
        (FORM, body_of("a=1&")),
        (FORM, body_of("1", size=5_000_000)),
        (MULTIPART, parts),
    ):
        answer = client.post(CHECK, data=body, content_type=kind)
        assert answer.status_code == 422
        assert answer.text.startswith("Chenar: ")


def test_a_request_without_a_body_passes_a_limit_of_zero_bytes(
    make_app: MakeApp, sqlite: str
) -> None:
    client = browser(make_app(sqlite, MAX_CONTENT_LENGTH=0))
    assert client.get(PAGE).status_code == 200


def test_a_form_with_the_longest_next_is_accepted(client: FlaskClient) -> None:
    """The longest `next` in its longest encoding."""
    target = "/" + "س" * 1999
    answer = client.post(SEND, data={"next": target})
    assert (answer.status_code, unquote(answer.location)) == (303, f"{PAGE}?next={target}")
    answer = client.post(SEND, data={"next": target}, content_type="multipart/form-data")
    assert unquote(answer.location) == f"{PAGE}?next={target}"


def test_a_chunked_body_is_read_whole_or_refused(client: FlaskClient) -> None:
    """A server passes a body in chunks without a Content-Length."""
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    client.post(SEND)
    for kind, ends in (("application/json", IN_A_STRING), (FORM, ("code=", ""))):
        for size, said in ((MAX_BODY_BYTES - 100, "invalid_code"), (5_000_000, "invalid_request")):
            answer = client.post(
                CHECK,
                input_stream=io.BytesIO(body_of("1", size=size, ends=ends).encode()),
                content_type=kind,
                headers={"Accept": "application/json"},
                environ_overrides=chunked,
            )
            assert answer.json["code"] == said, kind


@shared_app
@given(st.binary(max_size=30))
@example(b"\xff")
def test_any_query_bytes_are_answered_without_a_server_error(
    client: FlaskClient, query: bytes
) -> None:
    raw = {"QUERY_STRING": f"next=/{query.decode('latin-1')}"}
    for path in (PAGE, STATUS, MOBILE, "/guarded"):
        answer = client.get(path, environ_overrides=raw)
        assert answer.status_code in (200, 302, 422), path


def test_a_long_accept_header_is_not_parsed(client: FlaskClient) -> None:
    client.post(SEND)
    for headers in LONG_HEADERS:
        with parsed_sizes() as sizes:
            responses = [client.get(path, headers=headers) for path in (PAGE, "/guarded", STATUS)]
            responses.append(client.post(CHECK, data={"code": "1"}, headers=headers))
        assert max(sizes) < LARGE, headers
        assert all(response.status_code < 500 for response in responses), headers


def test_a_long_query_is_answered(client: FlaskClient) -> None:
    for query in LONG_QUERIES:
        response = client.get(PAGE, environ_overrides={"QUERY_STRING": query})
        assert response.status_code == 200, query[:20]


# --- what is shown and what is written down ---------------------------------------------------


def test_logs_and_responses_contain_no_code_and_no_whole_mobile(
    make_app: MakeApp, sqlite: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Case 17 of docs/safety.md, at DEBUG."""
    caplog.set_level(logging.DEBUG)
    app = make_app(sqlite, SQLALCHEMY_ENGINE_OPTIONS={"hide_parameters": True}, **LONG_CODES)
    client = browser(app)
    phone(app).fail_with(Unavailable("memory", "down"))
    seen = [client.post(SEND), client.get(PAGE), api(client, SEND)]
    code = last_code(app)
    for typed in (wrong(code), "x", code[:3]):
        seen += [api(client, CHECK, code=typed), client.post(CHECK, data={"code": typed})]
        seen += [client.get(PAGE), client.get(STATUS)]
    forget_limits(app)
    seen += [api(client, MOBILE, mobile=OTHER, send=True), client.get(MOBILE), client.get(PAGE)]
    second = last_code(app)
    seen += [api(client, CHECK, code=second), client.get(PAGE), client.get(STATUS)]
    ours = [record for record in caplog.records if not _is_the_hosts(record)]
    said = "\n".join(record.getMessage() + str(record.exc_text or "") for record in ours)
    said += "\n".join(answer.text + str(answer.headers) for answer in seen)
    for secret in (code, second):
        assert secret not in said
    for mobile in ("+989123450001", OTHER):
        assert mobile not in said
        assert mobile.removeprefix("+98") not in said


def _is_the_hosts(record: logging.LogRecord) -> bool:
    """Return whether a log record is of the host's engine, whose logging the host controls."""
    return record.name == "sqlalchemy.engine.Engine" or record.name.startswith("sqlalchemy.orm")


def test_the_page_of_a_verified_user_shows_a_masked_mobile(app: Flask, client: FlaskClient) -> None:
    prove(app, client)
    age(app, timedelta(days=1))
    text = client.get(PAGE).text
    assert "۰۹۱۲ ••• ۰۰۰۱" in text
    assert "9123450001" not in text
