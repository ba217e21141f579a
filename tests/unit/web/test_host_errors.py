"""Errors of this package in views of the host's: `problem` and `handle_errors`."""

from __future__ import annotations

import html
import json
from typing import Any

import pytest
from conftest import MakeApp
from flask import Blueprint, Flask, request
from visiting import browser, phone, wrong

from flask_smsverify.errors import (
    ConfigurationError,
    InvalidMobile,
    SMSVerifyError,
    TooSoon,
    Unavailable,
    WrongCode,
)
from flask_smsverify.testing import outbox

JSON = {"Accept": "application/json"}
ENGLISH = {"Accept-Language": "en"}


@pytest.fixture
def sign_up(app: Flask) -> Flask:
    """An app with two views that call the verifier, and errors of the path `/raise`."""
    smsverify = app.extensions["test_smsverify"]
    views = Blueprint("sign_up", __name__, url_prefix="/sign-up")

    @views.post("/")
    def start() -> dict[str, Any]:
        return {"id": smsverify.verifier.start_for(request.form["mobile"], purpose="up").id}

    @views.post("/code")
    def check() -> str:
        challenge = smsverify.verifier.load(request.form["id"])
        smsverify.verifier.check(challenge, request.form["code"])
        return "proved"

    @views.route("/raise", methods=["GET", "POST"])
    def fail() -> str:
        raise ERRORS[request.values["error"]]

    smsverify.handle_errors(views)
    app.register_blueprint(views)
    return app


ERRORS: dict[str, Exception] = {
    "too_soon": TooSoon(7),
    "gateway": Unavailable("main", "no credit", gateway="raygan"),
    "setting": ConfigurationError("SMSVERIFY_X is wrong"),
    "other": RuntimeError("of the host"),
}


def test_a_wrong_code_in_a_view_of_the_host_is_a_problem_and_no_server_error(
    sign_up: Flask,
) -> None:
    client = sign_up.test_client()
    assert client.post("/sign-up/", data={"mobile": "12"}, headers=JSON).status_code == 422
    with outbox(sign_up) as box:
        started = client.post("/sign-up/", data={"mobile": "0935 000 0001"})
        right = box.last.code
    assert started.json is not None
    assert right is not None
    form = {"id": started.json["id"], "code": wrong(right)}
    for headers in (JSON, ENGLISH):
        answer = client.post("/sign-up/code", data=form, headers=headers)
        assert answer.status_code == 422
        assert answer.headers["Cache-Control"] == "no-store"
        if headers is JSON:
            assert json.loads(answer.text)["code"] == "wrong_code"
            assert json.loads(answer.text)["attempts_left"] == 4
        else:
            assert "The code is wrong" in answer.text
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert client.post("/sign-up/code", data={"id": "x", "code": "1"}).status_code == 404
    form["code"] = right
    assert client.post("/sign-up/code", data=form).text == "proved"


def test_the_page_leads_back_to_the_form(sign_up: Flask) -> None:
    client = sign_up.test_client()
    form, referrer = {"error": "too_soon"}, {"Referer": "http://localhost/sign-up/code?a=1"}
    answer = client.post("/sign-up/raise", data=form, headers=referrer)
    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "7"
    assert 'href="/sign-up/code?a=1"' in html.unescape(answer.text)
    foreign = client.post("/sign-up/raise", data=form, headers={"Referer": "http://evil.example/"})
    assert "evil" not in foreign.text
    assert '<a class="sv-button sv-quiet" href="/sign-up/raise"' in foreign.text


def test_without_a_referrer_the_page_leads_to_the_form_of_the_same_url(sign_up: Flask) -> None:
    client = sign_up.test_client()
    same_url = client.post("/sign-up/raise?a=1", data={"error": "too_soon"})
    assert '<a class="sv-button sv-quiet" href="/sign-up/raise?a=1"' in same_url.text
    no_form = client.post("/sign-up/code", data={"id": "x", "code": "1"})
    assert '<a class="sv-button sv-quiet" href="/"' in no_form.text
    shown = client.get("/sign-up/raise?error=too_soon")  # a link to itself would raise it again
    assert '<a class="sv-button sv-quiet" href="/"' in shown.text


def test_an_error_of_a_gateway_is_503_without_its_reason(sign_up: Flask) -> None:
    answer = sign_up.test_client().get("/sign-up/raise?error=gateway", headers=JSON)
    assert answer.status_code == 503
    assert json.loads(answer.text)["code"] == "send_failed"
    assert "credit" not in answer.text


@pytest.mark.parametrize("name", ["setting", "other"])
def test_errors_that_are_not_for_visitors_reach_the_host(sign_up: Flask, name: str) -> None:
    with pytest.raises(type(ERRORS[name])):
        sign_up.test_client().get(f"/sign-up/raise?error={name}")


def test_problem_responds_where_the_host_catches_the_error_itself(app: Flask) -> None:
    smsverify = app.extensions["test_smsverify"]

    @app.route("/own")
    def own() -> Any:
        try:
            raise WrongCode(2)
        except SMSVerifyError as error:
            return smsverify.problem(error)

    client = browser(app)
    assert client.get("/own").status_code == 422
    assert json.loads(client.get("/own", headers=JSON).text)["attempts_left"] == 2
    assert browser(app, None).get("/own").status_code == 422
    with app.test_request_context("/own"), pytest.raises(ConfigurationError, match="SMSVERIFY_X"):
        smsverify.problem(ERRORS["setting"])


def test_a_blueprint_with_answer_json_gets_problem_json_for_its_errors(app: Flask) -> None:
    smsverify = app.extensions["test_smsverify"]
    api = Blueprint("api", __name__, url_prefix="/api")

    @api.get("/open")
    def open_view() -> str:
        raise InvalidMobile

    smsverify.guard(api, except_=["open"], answer="json")
    smsverify.handle_errors(api)
    app.register_blueprint(api)
    answer = browser(app).get("/api/open", headers={"Accept": "text/html"})
    assert answer.mimetype == "application/problem+json"


def test_handle_errors_covers_a_whole_app(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite)
    app.extensions["test_smsverify"].handle_errors(app)

    @app.route("/own")
    def own() -> str:
        raise WrongCode(1)

    assert app.test_client().get("/own").status_code == 422
    assert phone(app).messages == []


def test_handle_errors_too_late_is_a_configuration_error(app: Flask) -> None:
    late = Blueprint("late", __name__)
    app.register_blueprint(late)
    for target in (late, app):
        app.test_client().get("/open")
        with pytest.raises(ConfigurationError, match="handle_errors before"):
            app.extensions["test_smsverify"].handle_errors(target)
