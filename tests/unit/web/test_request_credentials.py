"""Programs whose requests carry their credentials: Flask-Login's `request_loader`, no cookies."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import MakeApp
from flask import Blueprint, Flask, Request, request
from flask.sessions import SecureCookieSessionInterface
from flask.testing import FlaskClient
from flask_login import login_user
from flask_wtf import CSRFProtect
from hostapp import User, db
from visiting import (
    CHECK,
    CONFIRM,
    MOBILE,
    OTHER,
    OWN,
    SEND,
    STATUS,
    browser,
    last_code,
    mobile_in_host,
    phone,
    prove,
    set_user,
)
from werkzeug.test import TestResponse

BEARER = {"Authorization": "Bearer 1"}
BASIC = {"Authorization": "Basic MTox"}
FORM = {"Accept": "application/json"}  # a form of a program
EVIL = {"Origin": "http://evil.example"}


def _load(request: Request) -> Any:
    """Load a user by a token, Basic credentials, or a cookie of the host's own."""
    authorization = request.authorization
    key = authorization and (authorization.token or authorization.username)
    key = key or request.headers.get("X-Api-Key") or request.cookies.get("own_token")
    return db.session.get(User, int(key)) if key else None


@pytest.fixture(params=["alone", "with CSRFProtect"])
def program(request: pytest.FixtureRequest, make_app: MakeApp, sqlite: str) -> Flask:
    """An app with CSRF protection and a `request_loader`."""
    app = make_app(sqlite, WTF_CSRF_ENABLED=True)
    app.login_manager.request_loader(_load)  # type: ignore[attr-defined]  # Flask-Login's
    if request.param == "with CSRFProtect":
        CSRFProtect(app)
    return app


def without_cookies(app: Flask) -> FlaskClient:
    return app.test_client(use_cookies=False)


class NoSessions(SecureCookieSessionInterface):
    """Opens no session at all, as an API without cookies may."""

    def open_session(self, app: Flask, request: Request) -> None:
        return None


@pytest.mark.parametrize("seconds", [0, 60])
def test_a_program_verifies_where_the_app_has_no_sessions(
    make_app: MakeApp, sqlite: str, seconds: int
) -> None:
    app = make_app(sqlite, WTF_CSRF_ENABLED=True, SMSVERIFY_RECHECK_SECONDS=seconds)
    app.login_manager.request_loader(_load)  # type: ignore[attr-defined]  # Flask-Login's
    app.session_interface = NoSessions()
    client = without_cookies(app)
    status = client.get(STATUS, headers=BEARER).json
    assert (status["state"], status["csrf_token"]) == ("unverified", "")
    sent = client.post(MOBILE, json={"mobile": OTHER, "send": True}, headers=BEARER)
    assert sent.json["state"] == "pending"
    proved = client.post(CHECK, json={"code": last_code(app)}, headers=BEARER)
    assert proved.json["state"] == "verified"
    assert client.get("/guarded", headers=BEARER).text == "guarded"
    assert mobile_in_host(app) == OTHER


def is_refused(answer: TestResponse) -> bool:
    """Return whether the token was refused; otherwise the request succeeded."""
    if answer.status_code == 400:
        assert json.loads(answer.text)["code"] == "csrf"
        return True
    assert answer.status_code == 200, answer.text
    return False


def test_a_program_without_cookies_verifies_without_a_csrf_token(program: Flask) -> None:
    client = without_cookies(program)
    assert client.get("/guarded", headers=BEARER | FORM).status_code == 403
    assert not is_refused(client.post(SEND, json={}, headers=BEARER))
    right = {"code": last_code(program)}
    assert not is_refused(client.post(CHECK, json=right, headers=BEARER))
    assert client.get("/guarded", headers=BEARER).text == "guarded"


def test_a_program_without_cookies_enters_its_first_number(program: Flask) -> None:
    set_user(program, mobile=None)
    client = without_cookies(program)
    entered = client.post(MOBILE, json={"mobile": OTHER, "send": True}, headers=BEARER)
    assert not is_refused(entered)
    status = client.get(STATUS, headers=BEARER).json
    assert status is not None
    assert (status["state"], status["mobile"]) == ("pending", "+98935•••2233")
    right = {"code": last_code(program)}
    assert not is_refused(client.post(CHECK, json=right, headers=BEARER))
    assert mobile_in_host(program) == OTHER


def test_a_program_without_cookies_changes_a_proved_number(program: Flask) -> None:
    """Its own credentials satisfy the demand for a fresh login."""
    client = without_cookies(program)
    client.post(SEND, json={}, headers=BEARER)
    client.post(CHECK, json={"code": last_code(program)}, headers=BEARER)
    entered = client.post(MOBILE, json={"mobile": OTHER, "send": True}, headers=BEARER)
    assert not is_refused(entered)
    checked = client.post(CHECK, json={"code": last_code(program)}, headers=BEARER)
    assert not is_refused(checked)
    assert json.loads(checked.text)["change"]["state"] == "confirming"
    confirmed = client.post(CONFIRM, json={"code": last_code(program)}, headers=BEARER)
    assert not is_refused(confirmed)
    assert mobile_in_host(program) == OTHER


def test_a_program_returns_to_its_own_number_by_sending_to_it(program: Flask) -> None:
    client = without_cookies(program)
    client.post(MOBILE, json={"mobile": OTHER, "send": True}, headers=BEARER)
    program.extensions["smsverify"].limit_report.reset_all()
    client.post(MOBILE, json={"mobile": OWN, "send": True}, headers=BEARER)
    assert phone(program).last.to == OWN
    assert client.post(CHECK, json={"code": last_code(program)}, headers=BEARER).status_code == 200
    assert mobile_in_host(program) is not None
    assert client.get("/guarded", headers=BEARER).text == "guarded"


def test_a_program_that_keeps_the_cookies_needs_no_token_either(program: Flask) -> None:
    client = program.test_client()
    client.get(STATUS, headers=BEARER)
    assert client.get_cookie("session") is not None
    assert not is_refused(client.post(SEND, json={}, headers=BEARER))


def test_a_session_needs_a_token_although_there_is_a_request_loader(program: Flask) -> None:
    client = browser(program)
    client.get(STATUS)
    assert is_refused(client.post(SEND, json={}))
    assert is_refused(client.post(SEND, json={}, headers=BEARER))  # the session names the user
    assert phone(program).messages == []


def test_a_login_by_the_remember_cookie_needs_a_token(program: Flask) -> None:
    @program.route("/remember")
    def remember() -> str:
        login_user(db.session.get(User, 1), remember=True)
        return "logged in"

    client = program.test_client()
    client.get("/remember")
    client.delete_cookie("session")
    assert is_refused(client.post(SEND, json={}))


#: Headers of a form, and whether another site may have sent it.
FORMS: list[tuple[dict[str, str], bool]] = [
    (BASIC, False),
    (BASIC | {"Origin": "http://localhost"}, False),
    (BASIC | {"Sec-Fetch-Site": "same-origin"}, False),
    (BASIC | EVIL, True),
    (BASIC | {"Origin": "null"}, True),
    (BASIC | {"Sec-Fetch-Site": "cross-site"}, True),
    (BASIC | {"Sec-Fetch-Site": "same-site"}, True),
    ({"Cookie": "own_token=1"} | EVIL, True),
    ({"Cookie": "own_token=1"}, False),
    ({"X-Api-Key": "1"}, False),
    (BEARER | EVIL, False),
]


def test_a_form_of_another_site_cannot_use_credentials_that_the_browser_adds(
    program: Flask,
) -> None:
    for headers, is_forged in FORMS:
        sent = len(phone(program).messages)
        program.extensions["smsverify"].limit_report.reset_all()
        client = without_cookies(program)
        answer = client.post(SEND, data={"channel": "sms"}, headers=headers | FORM)
        assert is_refused(answer) is is_forged, headers
        assert (len(phone(program).messages) > sent) is not is_forged, headers


def test_a_program_that_a_before_request_function_logs_in_needs_no_token(program: Flask) -> None:
    @program.before_request
    def log_in() -> None:
        if request.headers.get("X-Remote-User"):
            login_user(db.session.get(User, int(request.headers["X-Remote-User"])))

    client = without_cookies(program)
    assert not is_refused(client.post(SEND, json={}, headers={"X-Remote-User": "1"}))


# --- exemptions of the host ---------------------------------------------------------------------


def _exempt_blueprint(csrf: CSRFProtect, app: Flask) -> None:
    csrf.exempt(app.blueprints["smsverify"])


def _exempt_view(csrf: CSRFProtect, app: Flask) -> None:
    csrf.exempt(app.view_functions["smsverify.send"])


@pytest.mark.parametrize("exempt", [_exempt_blueprint, _exempt_view])
def test_an_exemption_of_the_pages_is_honoured(make_app: MakeApp, sqlite: str, exempt: Any) -> None:
    app = make_app(sqlite, WTF_CSRF_ENABLED=True)
    exempt(CSRFProtect(app), app)
    client = browser(app)
    for _ in range(2):
        assert client.post(SEND, headers=FORM).status_code != 400
    is_everything = exempt is _exempt_blueprint
    assert client.post(CHECK, json={"code": "1"}).status_code == (422 if is_everything else 400)
    assert bool(client.get(STATUS).json["csrf_token"]) is not is_everything  # type: ignore[index]


def test_an_exemption_of_another_blueprint_is_not_one_of_the_pages(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, WTF_CSRF_ENABLED=True)
    other = Blueprint("other", __name__)
    app.register_blueprint(other)
    CSRFProtect(app).exempt(other)
    assert is_refused(browser(app).post(SEND, headers=FORM))


def test_two_apps_that_share_a_csrf_protect_are_both_protected(
    make_app: MakeApp, sqlite: str
) -> None:
    csrf = CSRFProtect()
    for _ in range(2):
        app = make_app(sqlite, users=0, WTF_CSRF_ENABLED=True)
        csrf.init_app(app)
        if not mobile_of_first_user(app):
            set_first_user(app)
        for _ in range(2):
            assert is_refused(browser(app).post(SEND, headers=FORM))


def mobile_of_first_user(app: Flask) -> bool:
    with app.app_context():
        return db.session.get(User, 1) is not None


def set_first_user(app: Flask) -> None:
    with app.app_context():
        db.session.add(User(mobile=OWN))
        db.session.commit()


def test_a_view_of_the_host_is_still_protected_by_its_own_csrf_protect(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, WTF_CSRF_ENABLED=True)
    CSRFProtect(app)
    client = browser(app)
    client.post(SEND, headers=FORM)
    assert client.post("/guarded").status_code == 400


def test_a_host_that_calls_protect_itself_gets_the_problem_of_the_pages(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, WTF_CSRF_ENABLED=True, WTF_CSRF_CHECK_DEFAULT=False)
    csrf = CSRFProtect(app)
    app.before_request(csrf.protect)
    assert is_refused(browser(app).post(SEND, headers=FORM))


def test_the_referrer_check_of_csrf_protect_is_made_over_https(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, WTF_CSRF_ENABLED=True)
    CSRFProtect(app)
    client = browser(app)
    token = client.get(STATUS).json["csrf_token"]  # type: ignore[index]
    https = {"base_url": "https://localhost", "json": {}}
    headers = {"X-CSRFToken": token}
    assert is_refused(client.post(SEND, headers=headers, **https))
    foreign = {"Referer": "https://evil.example/"}
    assert is_refused(client.post(SEND, headers=headers | foreign, **https))
    ours = {"Referer": "https://localhost/verify-mobile/"}
    assert not is_refused(client.post(SEND, headers=headers | ours, **https))


def test_a_session_without_a_fresh_login_still_cannot_change_a_proved_number(
    program: Flask,
) -> None:
    program.config["WTF_CSRF_ENABLED"] = False
    client = browser(program)
    prove(program, client)
    with client.session_transaction() as session:
        session["_fresh"] = False
    answer = client.post(MOBILE, json={"mobile": OTHER, "send": True}, headers=BEARER)
    assert json.loads(answer.text)["code"] == "fresh_login_required"
