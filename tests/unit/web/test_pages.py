"""The pages in a browser: redirects, errors, notices, database failures and headers."""

from __future__ import annotations

import html
import json
import re
from datetime import timedelta

import pytest
from conftest import MakeApp
from flask import Flask
from flask.testing import FlaskClient
from flows import Native
from hostapp import User, db
from jinja2 import DictLoader
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from visiting import (
    CHECK,
    CONFIRM,
    MOBILE,
    OTHER,
    OWN,
    PAGE,
    SEND,
    STATUS,
    age,
    api,
    browser,
    error_of,
    expire_codes,
    forget_limits,
    last_code,
    phone,
    prove,
    set_user,
    statements,
    store_down,
    wrong,
)
from werkzeug.test import TestResponse

from flask_smsverify.delivery import Routes
from flask_smsverify.errors import Unavailable, Unknown

ENGLISH = {"Accept-Language": "en", "Accept": "text/html"}


def page(client: FlaskClient, **query: str) -> TestResponse:
    answer = client.get(PAGE, query_string=query, headers=ENGLISH)
    assert answer.status_code == 200
    return answer


def test_sending_and_entering_a_code_opens_the_guarded_page(
    app: Flask, client: FlaskClient
) -> None:
    stopped = client.get("/guarded?a=1")
    assert stopped.location == "/verify-mobile/?next=/guarded?a%3D1"
    assert "Send the code by text message" in client.get(stopped.location, headers=ENGLISH).text
    sent = client.post(SEND, data={"next": "/guarded?a=1"})
    assert (sent.status_code, sent.location) == (303, stopped.location)
    assert "Enter the code from the text message" in client.get(sent.location, headers=ENGLISH).text
    checked = client.post(CHECK, data={"code": last_code(app), "next": "/guarded?a=1"})
    assert (checked.status_code, checked.location) == (303, "/guarded?a=1")
    assert client.get(checked.location).text == "guarded"


def test_the_whole_flow_works_on_every_database(make_app: MakeApp, database: str) -> None:
    app = make_app(database)
    client = browser(app)
    assert client.post(SEND).status_code == 303
    client.post(CHECK, data={"code": wrong(last_code(app))})
    assert error_of(page(client)) == "The code is wrong"
    assert client.post(CHECK, data={"code": last_code(app)}).location == "/"
    assert client.get("/guarded").text == "guarded"
    client.post(MOBILE, data={"mobile": OTHER})
    forget_limits(app)
    client.post(SEND)
    assert phone(app).last.to == OTHER
    client.post(CHECK, data={"code": last_code(app)})
    assert phone(app).last.to == OWN
    client.post(CONFIRM, data={"code": last_code(app)})
    with app.app_context():
        assert db.session.get(User, 1).mobile == OTHER
    assert client.get("/guarded").text == "guarded"


def test_the_page_of_a_verified_user_says_so_or_redirects(app: Flask, client: FlaskClient) -> None:
    prove(app, client)
    assert "Your mobile number is confirmed" in page(client).text
    assert client.get(PAGE, query_string={"next": "/guarded"}).location == "/guarded"


def test_a_get_sends_nothing_and_writes_nothing(app: Flask, client: FlaskClient) -> None:
    client.post(SEND)
    with statements(app) as seen:
        for path in (PAGE, MOBILE, STATUS):
            client.get(path)
            client.head(path)
        for path in (SEND, CHECK):
            assert client.get(path).status_code == 405
    assert len(phone(app).messages) == 1
    assert {statement.split()[0] for statement in seen} == {"SELECT"}


def test_a_head_request_with_a_body_changes_nothing(app: Flask) -> None:
    """Case 39: no token is asked of it."""
    app.config["WTF_CSRF_ENABLED"] = True
    client = browser(app)
    plain = {"mobile": "09351112233", "send": "1"}
    assert client.head(MOBILE).status_code == 200
    assert client.open(MOBILE, method="HEAD", data=plain).status_code == 200
    assert client.open(MOBILE, method="HEAD", json=plain).status_code == 200
    assert phone(app).messages == []
    page = client.get(MOBILE)
    assert error_of(page) is None
    assert "2233" not in page.text


def test_a_browsers_post_always_ends_in_a_redirect(app: Flask, client: FlaskClient) -> None:
    forms: list[tuple[str, dict[str, str]]] = [
        (SEND, {}),
        (SEND, {"channel": "pigeon"}),
        (CHECK, {}),
        (CHECK, {"code": "12"}),
        (CHECK, {"code": "000000"}),
        (MOBILE, {"mobile": "0935 111 2233"}),
        (MOBILE, {"mobile": "no"}),
        (MOBILE, {}),
    ]
    for path, form in forms:
        for _ in range(2):
            response = client.post(path, data=form)
            assert response.status_code == 303, (path, form)
            assert response.location.startswith("/verify-mobile/"), (path, form)
            assert client.get(response.location).status_code == 200, (path, form)


def test_an_error_is_shown_once_and_a_reload_repeats_nothing(
    app: Flask, client: FlaskClient
) -> None:
    client.post(SEND)
    client.post(CHECK, data={"code": wrong(last_code(app))})
    first = page(client)
    assert error_of(first) == "The code is wrong"
    assert "You have 4 attempts left." in first.text
    for _ in range(3):
        assert error_of(page(client)) is None
    assert client.get(STATUS).json["attempts_left"] == 4


def test_a_stored_error_is_shown_once_to_a_verified_user(app: Flask, client: FlaskClient) -> None:
    prove(app, client)
    client.post(CHECK, data={"code": "12", "next": "/guarded"})
    page(client)
    assert client.get(PAGE, query_string={"next": "/guarded"}).location == "/guarded"


def test_each_kind_of_invalid_code_has_its_error_and_costs_no_attempt(client: FlaskClient) -> None:
    client.post(SEND)
    for code, title in (
        ("", "Enter the code"),
        ("12a456", "The code must contain only digits"),
        ("123", "The code is too short"),
        ("1234567", "The code is too long"),
    ):
        client.post(CHECK, data={"code": code})
        assert error_of(page(client)) == title
    assert client.get(STATUS).json["attempts_left"] == 5


def test_five_wrong_codes_exhaust_the_challenge(app: Flask, client: FlaskClient) -> None:
    client.post(SEND)
    right = last_code(app)
    for _ in range(5):
        client.post(CHECK, data={"code": wrong(right)})
    last = page(client)
    assert error_of(last) == "The code is wrong"
    assert "That was your last attempt" in last.text
    assert 'name="code"' not in last.text
    for code in (right, wrong(right)):
        client.post(CHECK, data={"code": code})
        assert error_of(page(client)) == "Too many wrong codes"
    assert client.get("/guarded").status_code == 302


def test_submitting_the_right_code_twice_succeeds(app: Flask, client: FlaskClient) -> None:
    client.post(SEND)
    for _ in range(2):
        answer = client.post(CHECK, data={"code": last_code(app), "next": "/guarded"})
        assert (answer.status_code, answer.location) == (303, "/guarded")
    assert error_of(page(client)) is None


def test_submitting_send_twice_sends_once(app: Flask, client: FlaskClient) -> None:
    client.post(SEND)
    client.post(SEND)
    assert len(phone(app).messages) == 1
    shown = page(client)
    assert error_of(shown) is None
    assert (notice_of(shown) or "").startswith("The last code may still")


def test_a_call_carries_the_same_code(app: Flask, client: FlaskClient) -> None:
    client.post(SEND)
    by_sms = last_code(app)
    forget_limits(app)
    client.post(SEND, data={"channel": "voice"})
    assert phone(app).last.channel == "voice"
    assert last_code(app) == by_sms
    assert "Enter the code from the phone call" in page(client).text
    assert client.post(CHECK, data={"code": by_sms}).location == "/"


def notice_of(answer: TestResponse) -> str | None:
    """Return the notice that a page shows; None without one."""
    found = re.search(r'class="sv-notice"[^>]*>([^<]*)', answer.text)
    return html.unescape(found[1]) if found else None


@pytest.mark.parametrize(
    ("resend", "walk"),
    [
        (
            "same",
            [
                ("sms", None),
                ("sms", "We sent the code again."),
                ("voice", "We are calling you now."),
                ("voice", "We are calling you again."),
                ("sms", "We sent the code again."),
            ],
        ),
        (
            "new",
            [
                ("voice", None),
                ("sms", "We sent a new code. The previous code no longer works."),
            ],
        ),
    ],
)
def test_a_notice_confirms_each_resend_once(
    make_app: MakeApp, sqlite: str, resend: str, walk: list[tuple[str, str | None]]
) -> None:
    app = make_app(sqlite, SMSVERIFY_RESEND=resend)
    client = browser(app)
    for channel, notice in walk:
        client.post(SEND, data={"channel": channel})
        shown = page(client)
        assert (notice_of(shown), error_of(shown)) == (notice, None)
        assert notice_of(page(client)) is None
        forget_limits(app)


def test_after_a_failover_from_a_native_gateway_the_notice_says_that_the_code_is_new(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, SMSVERIFY_RESEND="new")
    native = Native(name="native")
    senders = {"native": native, "memory": phone(app)}
    app.extensions["smsverify"].delivery.use_routes(Routes(senders, {}))
    client = browser(app)
    for _ in range(2):
        native.sending.append(Unavailable("native", "the service failed"))
        client.post(SEND)
        shown = page(client)
        forget_limits(app)
    assert len({message.code for message in phone(app).messages}) == 2
    assert notice_of(shown) == "We sent a new code. The previous code no longer works."


def test_an_error_replaces_the_notice(app: Flask, client: FlaskClient) -> None:
    client.post(SEND)
    forget_limits(app)
    client.post(SEND)
    client.post(SEND)
    shown = page(client)
    assert error_of(shown) is None
    assert (notice_of(shown) or "").startswith("The last code may still")
    assert notice_of(page(client)) is None


def test_a_notice_is_shown_to_its_user_only(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, users=2)
    client = browser(app)
    client.post(SEND)
    forget_limits(app)
    client.post(SEND)
    client.get("/login/2")
    assert notice_of(page(client)) is None
    client.get("/login/1")
    assert notice_of(page(client)) is None


def test_a_resend_with_unknown_delivery_has_no_notice(app: Flask, client: FlaskClient) -> None:
    client.post(SEND)
    forget_limits(app)
    phone(app).fail_with(Unknown("memory", "the answer was HTML"))
    client.post(SEND)
    assert client.get(STATUS).json["delivery"] == "unknown"
    assert notice_of(page(client)) is None


def test_a_send_by_a_program_leaves_no_notice(app: Flask, client: FlaskClient) -> None:
    api(client, SEND)
    forget_limits(app)
    api(client, SEND)
    assert notice_of(page(client)) is None


def test_a_mobile_entered_during_the_cooldown_is_saved(app: Flask, client: FlaskClient) -> None:
    client.post(SEND)
    answer = client.post(MOBILE, data={"mobile": OTHER, "send": "1"})
    shown = client.get(answer.location, headers=ENGLISH)
    assert error_of(shown) is None
    assert notice_of(shown) == (
        "Your new number is saved. You can get a code when the time below is up."
    )
    assert "0935 111 2233" in shown.text
    assert 'role="timer"' in shown.text
    assert len(phone(app).messages) == 1
    forget_limits(app)
    client.post(SEND)
    client.post(MOBILE, data={"mobile": OTHER, "send": "1"})
    assert (notice_of(page(client)) or "").startswith("The last code may still"), (
        "the number was given before"
    )
    answer = api(client, MOBILE, mobile="0935 111 2244", send=True)
    assert (answer.status_code, json.loads(answer.text)["code"]) == (429, "too_soon")


def test_an_expired_code_has_its_error(app: Flask, client: FlaskClient) -> None:
    client.post(SEND)
    expire_codes(app)
    client.post(CHECK, data={"code": last_code(app)})
    assert error_of(page(client)) == "The code has expired"


def test_a_code_is_void_after_the_mobile_changed(app: Flask, client: FlaskClient) -> None:
    """Case 34 of docs/safety.md."""
    client.post(SEND)
    set_user(app, mobile="09129998877")
    client.post(CHECK, data={"code": last_code(app)})
    assert error_of(page(client)) == "The code has expired"
    assert client.get("/guarded").status_code == 302


def test_a_user_without_a_mobile_is_sent_to_the_form(app: Flask, client: FlaskClient) -> None:
    set_user(app, mobile=None)
    assert 'name="mobile"' in page(client).text
    answer = client.post(SEND)
    assert answer.location.startswith(MOBILE)
    assert error_of(client.get(answer.location, headers=ENGLISH)) == "Enter your mobile number"
    assert phone(app).messages == []


def test_the_mobile_form_sends_the_code_immediately(app: Flask, client: FlaskClient) -> None:
    set_user(app, mobile=None)
    form = client.get(MOBILE, headers=ENGLISH).text
    assert 'name="send"' in form
    answer = client.post(MOBILE, data={"mobile": "۰۹۳۵ ۱۱۱ ۲۲۳۳", "send": "1"})
    assert answer.location.startswith(PAGE)
    assert phone(app).last.to == OTHER
    client.post(CHECK, data={"code": last_code(app)})
    assert client.get("/guarded").text == "guarded"


def test_a_refused_number_is_shown_again_in_the_form(client: FlaskClient) -> None:
    answer = client.post(MOBILE, data={"mobile": '021"<b>'})
    form = client.get(answer.location, headers=ENGLISH)
    assert error_of(form) == "Enter a valid mobile number"
    assert 'value="021&#34;&lt;b&gt;"' in form.text


def test_a_change_of_number_can_be_cancelled(app: Flask, client: FlaskClient) -> None:
    prove(app, client)
    forget_limits(app)
    client.post(MOBILE, data={"mobile": OTHER, "send": "1"})
    form = client.get(MOBILE, headers=ENGLISH).text
    assert "Current number" in form
    assert "0912 ••• 0001" in form
    assert "New number (not confirmed)" in form
    assert "0935 111 2233" in form
    assert "Cancel the change" in page(client).text
    answer = client.post(MOBILE, data={"keep": "1", "next": "/guarded", "mobile": "x"})
    assert (answer.status_code, answer.location) == (303, "/guarded")
    form = client.get(MOBILE, headers=ENGLISH).text
    assert "0912 ••• 0001" in form
    assert "2233" not in form
    assert "Cancel the change" not in form
    assert "Your mobile number is confirmed" in page(client).text
    assert len(phone(app).messages) == 2


def test_cancelling_a_change_to_an_unproved_number_asks_for_its_proof(
    app: Flask, client: FlaskClient
) -> None:
    client.post(MOBILE, data={"mobile": OTHER, "send": "1"})
    answer = client.post(MOBILE, data={"keep": "1", "next": "/guarded"})
    assert (answer.status_code, answer.location) == (303, f"{PAGE}?next=/guarded")
    text = client.get(answer.location, headers=ENGLISH).text
    assert "0912 ••• 0001" in text
    assert 'name="code"' not in text


@pytest.mark.parametrize("by_form", [True, False])
@pytest.mark.parametrize("noted_before", [True, False])
def test_a_mobile_beyond_the_limit_is_not_saved(
    make_app: MakeApp, sqlite: str, *, by_form: bool, noted_before: bool
) -> None:
    app = make_app(sqlite, SMSVERIFY_LIMITS={"mobiles_per_user": "1/day"})
    client = browser(app)
    prove(app, client)
    given = {"mobile": "0935 111 2233"}
    if noted_before or not by_form:
        client.post(MOBILE, data=given)
    answer = client.post(MOBILE, data=given | {"send": "1"}) if by_form else client.post(SEND)
    assert answer.location.startswith(MOBILE)
    form = client.get(answer.location, headers=ENGLISH)
    assert error_of(form) == "Too many different numbers"
    assert ('value="0935 111 2233"' in form.text) is by_form
    assert "+98935" not in form.text
    assert "Your mobile number is confirmed" in page(client).text


def test_a_mobile_beyond_the_limit_leaves_the_previous_change_open(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(
        sqlite, SMSVERIFY_LIMITS={"mobiles_per_user": "1/day"}, SMSVERIFY_RESEND_DELAYS=(1,)
    )
    client = browser(app)
    client.post(MOBILE, data={"mobile": OTHER, "send": "1"})
    client.post(MOBILE, data={"mobile": "0935 111 2244", "send": "1"})
    assert client.get(STATUS).json["mobile"] == "+98935•••2233"
    assert client.post(CHECK, data={"code": last_code(app)}).location == "/"


def test_a_failed_send_is_an_error_and_uses_no_limit(app: Flask, client: FlaskClient) -> None:
    phone(app).fail_with(Unavailable("memory", "down"))
    client.post(SEND)
    assert error_of(page(client)) == "The code could not be sent"
    client.post(SEND)
    assert error_of(page(client)) is None
    assert len(phone(app).messages) == 1


def test_a_code_with_unknown_delivery_is_accepted(app: Flask, client: FlaskClient) -> None:
    phone(app).fail_with(Unknown("memory", "the answer was HTML"), arrives=True)
    client.post(SEND)
    assert client.get(STATUS).json["delivery"] == "unknown"
    assert "If you get a code, enter it here" in page(client).text
    assert client.post(CHECK, data={"code": last_code(app)}).location == "/"


@pytest.mark.parametrize("path", [PAGE, MOBILE])
def test_a_database_failure_shows_a_page(
    app: Flask, client: FlaskClient, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with store_down(app):
        answer = client.get(path, headers=ENGLISH)
    assert answer.status_code == 503
    assert "The service is temporarily unavailable" in answer.text
    assert "Traceback" not in answer.text + caplog.text
    assert "503" in caplog.text


@pytest.mark.parametrize("path", [PAGE, MOBILE, STATUS])
@pytest.mark.parametrize("kind", [OperationalError, InterfaceError])
def test_a_failure_of_the_hosts_database_shows_a_page(
    app: Flask, client: FlaskClient, path: str, kind: type[DBAPIError]
) -> None:
    """It fails when the user is loaded. The host's layout may load the user again."""
    app.jinja_loader = DictLoader(
        {
            "smsverify/base.html": "{{ current_user.is_authenticated }}"
            " {% block content %}{% endblock %}"
        }
    )

    def gone(*_arguments: object) -> None:
        raise kind("SELECT", {}, Exception("the server is gone"))

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", gone)
    try:
        answers = [client.get(path, headers=ENGLISH), client.post(SEND, headers=ENGLISH)]
        problem = client.get(path, headers={"Accept": "application/json"})
    finally:
        event.remove(engine, "before_cursor_execute", gone)
    assert [answer.status_code for answer in (*answers, problem)] == [503] * 3
    assert "The service is temporarily unavailable" in answers[1].text
    assert "False" in answers[1].text
    assert json.loads(problem.text)["code"] == "store_unavailable"
    assert client.get("/open").status_code == 200
    assert client.get(STATUS).json["state"] == "unverified"


@pytest.mark.parametrize("is_back", [False, True])
def test_a_failure_of_the_hosts_database_to_store_the_mobile_shows_a_page(
    app: Flask, client: FlaskClient, *, is_back: bool
) -> None:
    """The rollback has expired the user, whom the host's layout shows."""
    app.jinja_loader = DictLoader(
        {"smsverify/base.html": "<{{ current_user.note }}>{% block content %}{% endblock %}"}
    )
    set_user(app, note="Sara")
    client.post(MOBILE, data={"mobile": OTHER, "send": "1"})
    failed: list[str] = []

    def gone(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("UPDATE host_user") or (failed and not is_back):
            failed.append(statement)
            raise OperationalError("", {}, Exception("the server is gone"))

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", gone)
    try:
        answer = client.post(CHECK, data={"code": last_code(app)}, headers=ENGLISH)
    finally:
        event.remove(engine, "before_cursor_execute", gone)
    assert failed
    assert answer.status_code == 503
    assert "The service is temporarily unavailable" in answer.text
    assert ("<Sara>" in answer.text) is is_back
    assert client.get(STATUS).json["state"] == "unverified"


@pytest.mark.parametrize(
    ("path", "form"),
    [(SEND, {}), (CHECK, {"code": "123456"}), (MOBILE, {"mobile": OTHER, "send": "1"})],
)
def test_a_post_during_a_database_failure_is_503_and_sends_nothing(
    app: Flask, client: FlaskClient, path: str, form: dict[str, str]
) -> None:
    with store_down(app):
        answer = client.post(path, data=form, headers=ENGLISH)
        if answer.status_code == 303:
            answer = client.get(answer.location, headers=ENGLISH)
    assert answer.status_code == 503
    assert "The service is temporarily unavailable" in answer.text
    assert phone(app).messages == []
    assert error_of(page(client)) is None


def test_every_response_forbids_caching(app: Flask, client: FlaskClient) -> None:
    """Case 42 of docs/safety.md."""
    app.config["WTF_CSRF_ENABLED"] = True
    refused = client.post(SEND)
    assert refused.status_code == 400
    app.config["WTF_CSRF_ENABLED"] = False
    answers = [
        refused,
        client.get(PAGE),
        client.get(MOBILE),
        client.get(STATUS),
        client.post(SEND),
        client.post(SEND, json={}),
        client.post(CHECK, data={"code": "1"}),
        client.post(CHECK, json=[]),
        client.get(SEND),
        client.get("/verify-mobile"),
        client.get("/verify-mobile/nothing-here"),
        client.get("/guarded"),
        client.get("/guarded", headers={"Accept": "application/json"}),
        browser(app, None).get(PAGE),
        browser(app, None).get(STATUS),
        browser(app, None).get("/guarded", headers={"Accept": "application/json"}),
    ]
    with store_down(app):
        answers += [client.get(PAGE), client.get(STATUS), client.post(SEND)]
    for answer in answers:
        assert answer.headers["Cache-Control"] == "no-store", answer.request.path
        assert "Cookie" in answer.vary, answer.request.path


def test_a_response_of_the_host_on_an_own_url_forbids_caching(
    app: Flask, client: FlaskClient
) -> None:
    app.before_request_funcs[None].append(lambda: ("closed", 418))
    answer = client.get(PAGE)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (418, "no-store")


def test_the_stylesheet_can_be_cached(client: FlaskClient) -> None:
    answer = client.get("/verify-mobile/static/smsverify.css")
    assert answer.status_code == 200
    assert "no-store" not in answer.headers["Cache-Control"]
    answer.close()


@pytest.mark.parametrize("path", [PAGE, MOBILE])
def test_a_page_contains_no_inline_script_or_style(client: FlaskClient, path: str) -> None:
    """A strict Content-Security-Policy, `default-src 'self'`, must not break it."""
    client.post(SEND)
    text = client.get(path).text
    assert "<style" not in text
    assert " style=" not in text
    assert "javascript:" not in text
    assert text.count("<script") == text.count("<script src=")
    assert " on" not in {part[:3] for part in text.split('"') if part.endswith("=")}


def test_an_expired_proof_is_requested_again(app: Flask, client: FlaskClient) -> None:
    """Case 35 of docs/safety.md: day 90 and day 91."""
    prove(app, client)
    age(app, timedelta(days=89, hours=23))
    assert client.get("/guarded").text == "guarded"
    age(app, timedelta(hours=2))
    assert client.get("/guarded").status_code == 302
    assert client.get(STATUS).json["state"] == "expired"
    assert "Send the code by text message" in page(client).text


def test_a_locked_user_is_referred_to_support(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_CONSECUTIVE_FAILURES=2, SMSVERIFY_SUPPORT_URL="/help")
    client = browser(app)
    client.post(SEND)
    for _ in range(3):
        client.post(CHECK, data={"code": wrong(last_code(app))})
    text = page(client).text
    assert "Verification is locked" in text
    assert 'href="/help">Contact support</a>' in text
    assert "<form" not in text
    forget_limits(app)
    client.post(SEND)
    assert len(phone(app).messages) == 1


@pytest.mark.parametrize("scope", ["failures", "site_failures"])
def test_a_used_up_limit_of_failures_shows_the_wait_and_no_form(
    make_app: MakeApp, sqlite: str, scope: str
) -> None:
    app = make_app(sqlite, users=2, SMSVERIFY_LIMITS={scope: "2/day"})
    client = browser(app)
    client.post(SEND)
    for _ in range(2):
        assert 'name="code"' in page(client).text
        client.post(CHECK, data={"code": wrong(last_code(app))})
    first, again = page(client), page(client)
    assert error_of(first) == "Too many wrong codes"
    assert error_of(again) is None
    for answer in (first, again):
        assert re.search(r"not accepting codes for now\. Try again in 24 hours\.", answer.text)
        assert "0912 ••• 0001" in answer.text
        assert "<form" not in answer.text
        assert "<button" not in answer.text
    assert "<form" in page(browser(app, 2)).text, "nobody else's first guess is refused"
    if scope == "failures":
        client.post(SEND)
        assert error_of(page(client)) == "Too many wrong codes"
    assert client.get(STATUS).json["state"] == "pending"
    with app.app_context():
        state = app.extensions["smsverify"]
        assert state.verifier.guess_wait(db.session.get(User, 1)) >= 86_300
        state.limit_report.reset(state.limit_report.scopes(user_id="1"))
        state.limit_report.reset(state.limit_report.scopes())
        assert state.verifier.guess_wait(db.session.get(User, 1)) == 0
    assert 'name="code"' in page(client).text


def test_a_lock_does_not_revoke_a_valid_proof(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_CONSECUTIVE_FAILURES=2)
    client = browser(app)
    prove(app, client)
    client.post(MOBILE, data={"mobile": OTHER})
    forget_limits(app)
    client.post(SEND)
    for _ in range(2):
        client.post(CHECK, data={"code": wrong(last_code(app))})
    assert client.get("/guarded").text == "guarded"
    client.get("/logout")
    again = browser(app)
    assert again.get(STATUS).json["state"] == "verified"
    assert "Your mobile number is confirmed" in page(again).text


def test_a_test_number_has_its_fixed_code_and_no_message(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_TEST_NUMBERS={"0912 345 0001": "424242"})
    client = browser(app)
    client.post(SEND)
    assert phone(app).messages == []
    assert client.post(CHECK, data={"code": "424242"}).location == "/"
    assert client.get("/guarded").text == "guarded"


def test_pages_work_under_a_script_name(app: Flask, client: FlaskClient) -> None:
    under = {"SCRIPT_NAME": "/shop"}
    stopped = client.get("/guarded", environ_overrides=under)
    assert stopped.location == "/shop/verify-mobile/?next=/shop/guarded"
    sent = client.post(SEND, data={"next": "/shop/guarded"}, environ_overrides=under)
    assert sent.location == stopped.location
    text = client.get(PAGE, environ_overrides=under).text
    assert 'action="/shop/verify-mobile/check"' in text
    assert 'name="next" value="/shop/"' in text
    checked = client.post(CHECK, data={"code": last_code(app)}, environ_overrides=under)
    assert checked.location == "/shop/"


def test_other_methods_are_405_and_other_paths_404(client: FlaskClient) -> None:
    assert client.post(PAGE).status_code == 405
    assert client.post(STATUS).status_code == 405
    assert client.put(SEND).status_code == 405
    assert client.get("/verify-mobile/nothing").status_code == 404
    assert client.get("/verify-mobile").location.endswith("/verify-mobile/")
    assert client.options(SEND).status_code == 200


def test_url_prefix_moves_every_page(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_URL_PREFIX="/account/phone", SMSVERIFY_NEXT_URL="/open")
    client = browser(app)
    assert client.get("/guarded").location == "/account/phone/?next=/guarded"
    assert client.get("/account/phone/").headers["Cache-Control"] == "no-store"
    client.post("/account/phone/send")
    answer = client.post("/account/phone/check", data={"code": last_code(app)})
    assert answer.location == "/open"


def test_guesses_by_page_and_json_by_sms_and_call_share_one_count(
    make_app: MakeApp, sqlite: str
) -> None:
    """Case 6 of docs/safety.md: five guesses, whichever way each goes; then not even the right."""
    app = make_app(sqlite, SMSVERIFY_RESEND_DELAYS=(1,))
    client = browser(app)
    client.post(SEND)
    right = last_code(app)
    client.post(CHECK, data={"code": wrong(right)})
    assert api(client, CHECK, code=wrong(right)).json["attempts_left"] == 3
    forget_limits(app)
    assert api(client, SEND, channel="voice").json["state"] == "pending"
    assert (phone(app).last.channel, last_code(app)) == ("voice", right)
    client.post(CHECK, data={"code": wrong(right)})
    assert api(client, CHECK, code=wrong(right)).json["attempts_left"] == 1
    client.post(CHECK, data={"code": wrong(right)})
    assert api(client, CHECK, code=right).status_code == 429
    client.post(CHECK, data={"code": right})
    assert client.get("/guarded").status_code == 302


def test_markup_in_a_name_is_escaped_on_every_page(make_app: MakeApp, sqlite: str) -> None:
    """Case 45 of docs/safety.md: the site's, and whatever the host has for a mobile."""
    name = "<script>alert(1)</script>"
    app = make_app(sqlite, users=2, SMSVERIFY_SITE_NAME=name)
    set_user(app, 2, mobile="<img src=x onerror=alert(2)>")
    client, other = browser(app), browser(app, 2)
    answers = [client.get(PAGE), client.post(SEND), client.get(PAGE), client.get(MOBILE)]
    answers += [other.get(PAGE), other.get(MOBILE), other.post(SEND), other.get(PAGE)]
    other.post(MOBILE, data={"mobile": name})
    answers += [other.get(MOBILE), other.get(STATUS)]
    with store_down(app):
        answers += [client.get(PAGE), client.get(PAGE, headers={"Accept": "application/json"})]
    for answer in answers:
        assert "<script>alert" not in answer.text
        assert "<img src=x" not in answer.text
    assert sum("&lt;script&gt;alert(1)&lt;/script&gt;" in answer.text for answer in answers) >= 7
    assert name in phone(app).last.text, "a text message is not escaped"


def test_the_page_after_the_right_code_says_once_that_the_number_is_confirmed(
    app: Flask, client: FlaskClient
) -> None:
    client.post(SEND, headers=ENGLISH)
    client.post(CHECK, data={"code": last_code(app)}, headers=ENGLISH)
    with client.session_transaction() as session:
        assert session.pop("_flashes") == [("success", "Your mobile number is confirmed.")]


def test_an_incomplete_code_stays_in_the_field_and_a_wrong_one_does_not(
    app: Flask, client: FlaskClient
) -> None:
    client.post(SEND)
    client.post(CHECK, data={"code": "12"})
    assert 'value="12"' in page(client).text
    assert 'value="12"' not in page(client).text
    bad = wrong(last_code(app))
    client.post(CHECK, data={"code": bad})
    assert f'value="{bad}"' not in page(client).text
