"""Who gets JSON, who gets pages, and what HTMX gets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import MakeApp
from flask import Blueprint, Flask
from visiting import CHECK, PAGE, SEND, browser, last_code
from werkzeug.test import TestResponse

from flask_smsverify import require_verified_mobile
from flask_smsverify.errors import ConfigurationError

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
FETCH = {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Mode": "cors"}
HTMX = {**FETCH, "HX-Request": "true", "Accept": "*/*"}


def is_problem(answer: TestResponse, code: str = "verification_required") -> bool:
    if answer.mimetype != "application/problem+json":
        return False
    assert json.loads(answer.text)["code"] == code
    assert answer.status_code == {"verification_required": 403, "login_required": 401}[code]
    return True


#: Headers, and whether they are a program's.
CLIENTS: list[tuple[dict[str, str], bool]] = [
    ({}, False),
    ({"Accept": ""}, False),
    ({"Accept": BROWSER}, False),
    ({"Accept": BROWSER, "Sec-Fetch-Dest": "document"}, False),
    ({"Accept": BROWSER, "Sec-Fetch-Dest": "iframe"}, False),
    ({"Accept": "*/*"}, False),
    ({"Accept": "text/*"}, False),
    ({"Accept": "application/xhtml+xml"}, False),
    ({"Accept": "text/html, application/json;q=0.9"}, False),
    ({"Accept": "application/json"}, True),
    ({"Accept": "application/problem+json"}, True),
    ({"Accept": "application/json, text/plain, */*"}, True),
    ({"Accept": "application/xml"}, True),
    ({"Accept": "text/plain"}, True),
    ({"Accept": "image/png"}, True),
    ({"Accept": "text/event-stream"}, True),
    ({"Accept": "application/vnd.api+json"}, True),
    ({"Accept": "text/html;q=0, */*"}, True),
    ({"Accept": "*/*", **FETCH}, True),
    ({"Accept": "*/*", "X-Requested-With": "XMLHttpRequest"}, True),
    ({"Content-Type": "application/json"}, True),
    ({"Content-Type": "application/vnd.api+json"}, True),
]


def test_a_program_gets_json_and_a_browser_a_redirect(app: Flask) -> None:
    app.login_manager.login_view = "open_view"  # type: ignore[attr-defined]  # Flask-Login's
    for headers, is_program in CLIENTS:
        assert is_problem(browser(app).get("/guarded", headers=headers)) is is_program, headers
        anonymous = browser(app, None).get("/guarded", headers=headers)
        assert is_problem(anonymous, "login_required") is is_program, headers
        if not is_program:
            assert anonymous.location.startswith("/open?next="), headers


def test_a_fetch_returns_to_the_page_that_it_runs_on(app: Flask) -> None:
    referrer = {"Referer": "http://localhost/cart?a=1"}
    body = json.loads(browser(app).get("/guarded", headers=FETCH | referrer).text)
    assert body["verify_url"] == "/verify-mobile/?next=/cart?a%3D1"
    foreign = {"Referer": "http://evil.example/cart"}
    body = json.loads(browser(app).get("/guarded", headers=FETCH | foreign).text)
    assert body["verify_url"] == "/verify-mobile/?next=/guarded"


# --- HTMX ---------------------------------------------------------------------------------------


def test_a_guard_sends_htmx_to_the_page_and_back_to_what_the_browser_shows(app: Flask) -> None:
    shown = {"HX-Current-URL": "http://localhost/cart?a=1"}
    for method in ("GET", "POST"):
        answer = browser(app).open("/guarded", method=method, headers=HTMX | shown)
        assert answer.status_code == 200
        assert answer.text == ""
        assert answer.headers["HX-Redirect"] == "/verify-mobile/?next=/cart?a%3D1"
        assert "Location" not in answer.headers
    foreign = {"HX-Current-URL": "http://evil.example/cart"}
    answer = browser(app).get("/guarded", headers=HTMX | foreign)
    assert answer.headers["HX-Redirect"] == PAGE


def test_an_anonymous_htmx_request_goes_to_the_login_and_back_to_what_the_browser_shows(
    app: Flask,
) -> None:
    app.login_manager.login_view = "open_view"  # type: ignore[attr-defined]  # Flask-Login's
    shown = {"HX-Current-URL": "http://localhost/cart"}
    answer = browser(app, None).get("/guarded", headers=HTMX | shown)
    assert answer.headers["HX-Redirect"] == "/open?next=%2Fcart"
    assert answer.status_code == 200


def test_the_pages_answer_htmx_with_redirects_of_its_own(app: Flask) -> None:
    client = browser(app)
    sent = client.post(SEND, headers=HTMX, data={"next": "/cart"})
    assert sent.headers["HX-Redirect"] == "/verify-mobile/?next=/cart"
    form = {"code": last_code(app), "next": "/cart"}
    assert client.post(CHECK, headers=HTMX, data=form).headers["HX-Redirect"] == "/cart"
    assert client.get("/guarded", headers=HTMX).text == "guarded"


# --- answer="json" ------------------------------------------------------------------------------


def test_a_blueprint_with_answer_json_answers_every_client_in_json(app: Flask) -> None:
    smsverify = app.extensions["test_smsverify"]
    api = Blueprint("api", __name__, url_prefix="/api")
    api.add_url_rule("/orders", "orders", lambda: "orders")
    smsverify.guard(api, answer="json")
    app.register_blueprint(api)
    for headers in ({}, {"Accept": BROWSER}, HTMX):
        assert is_problem(browser(app).get("/api/orders", headers=headers))
        assert is_problem(browser(app, None).get("/api/orders", headers=headers), "login_required")
        assert not is_problem(browser(app).get("/guarded", headers=headers))


def test_a_view_with_answer_json_answers_every_client_in_json(app: Flask) -> None:
    view = require_verified_mobile(answer="json")(lambda: "view")
    app.add_url_rule("/view", "view", view)
    assert is_problem(browser(app).get("/view", headers={"Accept": BROWSER}))
    assert is_problem(browser(app, None).get("/view"), "login_required")


def test_a_guarded_app_with_answer_json_answers_every_client_in_json(app: Flask) -> None:
    app.extensions["test_smsverify"].guard(app, answer="json")
    assert is_problem(browser(app).get("/open", headers={"Accept": BROWSER}))
    assert browser(app, None).get("/open").text == "open"


@pytest.mark.parametrize("answer", ["JSON", "html", "", None, True])
def test_another_answer_is_a_configuration_error(
    make_app: MakeApp, sqlite: str, answer: Any
) -> None:
    app = make_app(sqlite)
    with pytest.raises(ConfigurationError, match="answer"):
        app.extensions["test_smsverify"].guard(Blueprint("a", __name__), answer=answer)
    with pytest.raises(ConfigurationError, match="answer"):
        require_verified_mobile(answer=answer)
