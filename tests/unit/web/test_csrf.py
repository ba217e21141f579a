"""CSRF: without the host's `CSRFProtect`, and with it initialized before or after `SMSVerify`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import MakeApp
from flask import Flask
from flask.testing import FlaskClient
from flask_wtf import CSRFProtect
from flask_wtf.csrf import CSRFError
from hostapp import User
from visiting import CHECK, MOBILE, OTHER, PAGE, SEND, STATUS, api, browser, last_code, phone
from werkzeug.test import TestResponse

from flask_smsverify import SMSVerify

JSON = {"Accept": "application/json"}


def _protected_after(make_app: MakeApp, url: str) -> Flask:
    app = make_app(url, WTF_CSRF_ENABLED=True)
    CSRFProtect(app)
    return app


def _protected_before(make_app: MakeApp, url: str, monkeypatch: pytest.MonkeyPatch) -> Flask:
    begin = SMSVerify.init_app

    def with_protection(self: SMSVerify, app: Flask, *arguments: Any, **more: Any) -> None:
        CSRFProtect(app)
        begin(self, app, *arguments, **more)

    monkeypatch.setattr(SMSVerify, "init_app", with_protection)
    return make_app(url, WTF_CSRF_ENABLED=True)


@pytest.fixture(params=["alone", "host before", "host after", "host answers itself"])
def protected(
    request: pytest.FixtureRequest,
    make_app: MakeApp,
    sqlite: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Flask:
    """An app with CSRF protection, in each order of the extensions."""
    if request.param == "alone":
        return make_app(sqlite, WTF_CSRF_ENABLED=True)
    if request.param == "host before":
        return _protected_before(make_app, sqlite, monkeypatch)
    app = _protected_after(make_app, sqlite)
    if request.param == "host answers itself":
        app.register_error_handler(CSRFError, lambda _error: ("the host's own page", 400))
    return app


def refused(answer: TestResponse, *, program: bool) -> None:
    """Check the response to a refused token."""
    assert answer.status_code == 400
    assert answer.headers["Cache-Control"] == "no-store"
    if program:
        assert answer.mimetype == "application/problem+json"
        assert json.loads(answer.text)["code"] == "csrf"
    else:
        assert 'class="sv-panel"' in answer.text


def token_of(client: FlaskClient) -> str:
    """Return the token in the form of the page."""
    return client.get(PAGE).text.split('name="csrf_token" value="')[1].split('"')[0]


def test_a_missing_or_wrong_token_is_refused_and_sends_nothing(protected: Flask) -> None:
    """Case 39 of docs/safety.md."""
    client = browser(protected)
    other = token_of(browser(protected))
    token_of(client)
    form = {"mobile": OTHER, "send": "1", "code": "123456"}
    for path in (SEND, CHECK, MOBILE):
        for token in ("", "x", other, "\x00", "ت"):
            refused(client.post(path, data=form | {"csrf_token": token}), program=False)
            header = {"X-CSRFToken": token.encode("ascii", "ignore").decode().replace("\x00", "")}
            refused(client.post(path, json=form, headers=header), program=True)
        refused(client.post(path, data=form), program=False)
        refused(client.post(path, data=form, headers=JSON), program=True)
        refused(client.post(path, json=form | {"csrf_token": other}), program=True)
        refused(client.post(path, data=json.dumps(form), content_type="text/plain"), program=False)
    assert phone(protected).messages == []
    assert client.get(STATUS).json["state"] == "unverified"


def test_the_token_of_the_form_is_accepted(protected: Flask) -> None:
    client = browser(protected)
    form = {"csrf_token": token_of(client)}
    assert client.post(SEND, data=form).status_code == 303
    assert client.post(CHECK, data=form | {"code": last_code(protected)}).location == "/"


def test_the_token_of_the_status_is_accepted_in_a_header(protected: Flask) -> None:
    client = browser(protected)
    header = {"X-CSRFToken": client.get(STATUS).json["csrf_token"]}
    assert client.post(SEND, json={}, headers=header).json["state"] == "pending"
    right = {"code": last_code(protected)}
    assert client.post(CHECK, json=right, headers=header).json["state"] == "verified"


def test_an_anonymous_request_without_a_token_gets_the_csrf_problem(protected: Flask) -> None:
    refused(browser(protected, None).post(SEND, json={}), program=True)


def test_the_csrf_problem_names_a_url_to_programs_and_the_form_to_people(
    protected: Flask,
) -> None:
    client = browser(protected)
    body = json.loads(client.post(SEND, json={}, headers={"Accept-Language": "en"}).text)
    assert body["title"] == "The CSRF token is missing or invalid"
    assert body["detail"] == (
        "Send the `csrf_token` of /verify-mobile/status in the header X-CSRFToken."
    )
    persian = json.loads(client.post(SEND, json={}, headers={"Accept-Language": "fa"}).text)
    assert "/verify-mobile/status" in persian["detail"]
    page = client.post(SEND, headers={"Accept-Language": "en"}).text
    assert "This page has expired" in page
    assert "Go back and submit it again." in page


def test_a_token_is_bound_to_its_session(protected: Flask) -> None:
    client = browser(protected)
    header = {"X-CSRFToken": client.get(STATUS).json["csrf_token"]}
    client.get("/logout")
    client.delete_cookie("session")
    client.get("/login/1")
    refused(client.post(SEND, json={}, headers=header), program=True)
    header = {"X-CSRFToken": client.get(STATUS).json["csrf_token"]}
    assert client.post(SEND, json={}, headers=header).status_code == 200


def test_wtf_csrf_enabled_is_read_at_each_request(app: Flask, client: FlaskClient) -> None:
    assert client.get(STATUS).json["csrf_token"] == ""
    assert "csrf_token" not in client.get(PAGE).text
    assert client.post(CHECK, data={"code": "1"}).status_code == 303
    app.config["WTF_CSRF_ENABLED"] = True
    refused(client.post(SEND), program=False)
    assert client.get(STATUS).json["csrf_token"]
    app.config["WTF_CSRF_ENABLED"] = False
    assert client.post(SEND).status_code == 303


def test_csrf_protection_is_on_by_default(app: Flask, client: FlaskClient) -> None:
    del app.config["WTF_CSRF_ENABLED"]
    refused(client.post(SEND), program=False)


def test_the_hosts_names_for_field_and_header_are_used(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(
        sqlite,
        WTF_CSRF_ENABLED=True,
        WTF_CSRF_FIELD_NAME="_token",
        WTF_CSRF_HEADERS=["X-XSRF-Token"],
    )
    client = browser(app)
    assert "X-XSRF-Token" in json.loads(client.post(SEND, json={}).text)["detail"]
    token = client.get(STATUS).json["csrf_token"]
    assert f'name="_token" value="{token[:8]}' in client.get(PAGE).text
    assert client.post(SEND, json={}, headers={"X-XSRF-Token": token}).status_code == 200
    assert client.post(CHECK, data={"code": "1", "_token": token}).status_code == 303


def test_completing_a_pending_login_voids_the_token(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, WTF_CSRF_ENABLED=True, SMSVERIFY_LOGIN_GATE=True)
    smsverify = app.extensions["test_smsverify"]

    @app.route("/enter")
    def enter() -> Any:
        return smsverify.login_user(app.extensions["sqlalchemy"].session.get(User, 1))

    client = browser(app, None)
    client.get("/enter")
    header = {"X-CSRFToken": client.get(STATUS).json["csrf_token"]}
    client.post(SEND, json={}, headers=header)
    answer = client.post(CHECK, json={"code": last_code(app)}, headers=header)
    assert answer.json["state"] == "verified"
    refused(client.post(MOBILE, json={"mobile": OTHER}, headers=header), program=True)
    header = {"X-CSRFToken": client.get(STATUS).json["csrf_token"]}
    assert client.post(MOBILE, json={"mobile": OTHER}, headers=header).status_code == 200


def test_an_unreadable_or_empty_body_without_a_token_is_refused(protected: Flask) -> None:
    client = browser(protected)
    refused(api(client, SEND), program=True)
    refused(client.post(SEND, data="{", content_type="application/json"), program=True)
    large = client.post(SEND, data="1" * 3_000_000, content_type="application/json")
    assert large.status_code in (400, 422)
    assert phone(protected).messages == []
