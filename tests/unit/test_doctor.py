"""`flask smsverify doctor`: one finding for each fault of an app, and none for a good one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import MakeApp
from flask import Blueprint, Flask
from flask.cli import ScriptInfo
from flask.sessions import SessionInterface
from flask_login import login_required
from flask_wtf import CSRFProtect
from hostapp import create_app, db
from jinja2 import DictLoader
from sqlalchemy import text
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_smsverify import require_verified_mobile
from flask_smsverify.cli import smsverify
from flask_smsverify.cli.doctor import LOCAL_CHECKS
from flask_smsverify.cli.doctor.finding import Finding
from flask_smsverify.simulator import Simulator

GOOD: dict[str, Any] = {
    "SECRET_KEY": "8f42a73054b1749f8f58848be5e6502c",
    "WTF_CSRF_ENABLED": True,
    "SESSION_COOKIE_SECURE": True,
    "SESSION_COOKIE_SAMESITE": "Lax",
    "SERVER_NAME": "www.example.com",
    "SMSVERIFY_SITE_NAME": "Chenar",
    "SMSVERIFY_LIMITS": {"messages": "1000/day"},
}
ACCOUNT = {"username": "an-account", "password": "open-sesame", "line": "50002910"}
SENDERS = {
    "main": {"gateway": "raygan", **ACCOUNT},
    "second": {"gateway": "melipayamak", **ACCOUNT},
}


@pytest.fixture
def make_host(make_app: MakeApp, sqlite: str) -> Callable[..., Flask]:
    """Return a factory of apps that are ready for production but for `config`."""

    def make(**config: Any) -> Flask:
        app = make_app(sqlite, **{**GOOD, "SMSVERIFY_SENDERS": SENDERS, **config})
        app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]  # the usual way
        app.login_manager.login_view = "login"  # type: ignore[attr-defined]  # Flask-Login's
        return app

    return make


def run(app: Flask, *arguments: str, ends: int = 0) -> str:
    """Run the command and return its output, which has 80 columns."""
    result = app.test_cli_runner().invoke(args=["smsverify", "doctor", *arguments])
    assert result.exit_code == ends, result.output
    assert max(map(len, result.output.splitlines())) <= 80
    assert "open-sesame" not in result.output
    return result.output


def findings(app: Flask) -> list[Finding]:
    """Return what the local checks found in an app."""
    with app.app_context():
        state = app.extensions["smsverify"]
        return [finding for check in LOCAL_CHECKS for finding in check(state)]


def problems(app: Flask) -> list[str]:
    """Return what is not good, without the mode and SQLite, which all apps here have."""
    return [
        f"{found.level} {found.subject}: {found.text}"
        for found in findings(app)
        if found.level != "ok" and found.subject != "mode" and "one writer" not in found.text
    ]


def test_an_app_that_is_ready_for_production_has_no_problem(
    make_host: Callable[..., Flask],
) -> None:
    app = make_host()
    assert problems(app) == []
    assert len(findings(app)) > 15


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"SECRET_KEY": "change-me-please-change-me"}, ["error SECRET_KEY"]),
        ({"SECRET_KEY": "short"}, ["error SECRET_KEY"]),
        ({"SMSVERIFY_SENDERS": {}}, ["error SMSVERIFY_SENDERS: is empty"]),
        (
            {"SMSVERIFY_SENDERS": {**SENDERS, "log": {"gateway": "console"}}},
            ["error SMSVERIFY_SENDERS: 'log' only"],
        ),
        (
            {"SMSVERIFY_SENDERS": {"main": SENDERS["main"]}},
            ["warning SMSVERIFY_ROUTES: one sender"],
        ),
        (
            {"SMSVERIFY_SENDERS": {"main": {"gateway": "wikipayam", "token": "open-sesame"}}},
            [
                "warning SMSVERIFY_ROUTES: no sender sends texts: users are not notified",
                "error SMSVERIFY_ROUTES: no sender sends codes by SMS",
            ],
        ),
        ({"SMSVERIFY_SIMULATOR_URL": "http://127.0.0.1:9"}, ["error SMSVERIFY_SIMULATOR_URL"]),
        ({"SMSVERIFY_TEST_NUMBERS": {"09120000000": "123456"}}, ["error SMSVERIFY_TEST_NUMBERS"]),
        ({"SMSVERIFY_SITE_NAME": None}, ["warning SMSVERIFY_SITE_NAME: is not set"]),
        ({"SERVER_NAME": None}, ["warning host: none is configured"]),
        ({"SMSVERIFY_LIMITS": {"site": None}}, ["warning SMSVERIFY_LIMITS: no limit for site"]),
        (
            {"SMSVERIFY_AREAS": {"a": ["shop.*"]}},
            ["error SMSVERIFY_AREAS: 'a': no endpoint matches"],
        ),
        ({"SMSVERIFY_AREAS": {"a": False}}, ["warning SMSVERIFY_AREAS: 'a' is off"]),
        ({"SMSVERIFY_OPEN_ENDPOINTS": ["hlep"]}, ["warning SMSVERIFY_OPEN_ENDPOINTS: no endpoint"]),
        ({"WTF_CSRF_ENABLED": False}, ["error csrf"]),
        ({"LOGIN_DISABLED": True}, ["error LOGIN_DISABLED"]),
        ({"SESSION_COOKIE_SECURE": False}, ["warning session: set SESSION_COOKIE_SECURE"]),
        ({"SESSION_COOKIE_SAMESITE": "None"}, ["warning session: set SESSION_COOKIE_SAMESITE"]),
        ({"SESSION_COOKIE_HTTPONLY": False}, ["error session: SESSION_COOKIE_HTTPONLY"]),
        ({"SMSVERIFY_EXEMPT_GROUPS": ["staff"]}, []),
        (
            {"SMSVERIFY_SIGN_UP": True, "SMSVERIFY_SIGN_UP_URL": "/welcome"},
            [
                "warning SMSVERIFY_SIGN_UP: has no effect, because SMSVERIFY_SIGN_IN is not set",
                "warning SMSVERIFY_SIGN_UP_URL: has no effect",
            ],
        ),
        ({"SMSVERIFY_SIGN_IN_TOKEN": True}, ["warning SMSVERIFY_SIGN_IN_TOKEN: has no effect"]),
        (
            {"SMSVERIFY_ANONYMOUS_CHALLENGE": "auto"},
            ["warning SMSVERIFY_ANONYMOUS_CHALLENGE: has no effect"],
        ),
        ({"SMSVERIFY_SIGN_IN": True, "SMSVERIFY_SIGN_IN_TOKEN": True}, []),
        (
            {"SMSVERIFY_LOGIN_GATE_FIRST_PROOF": "staff"},
            ["warning SMSVERIFY_LOGIN_GATE_FIRST_PROOF: has no effect"],
        ),
        (
            {"SMSVERIFY_TEST_NUMBERS_UNTIL": "2050-01-01"},
            ["warning SMSVERIFY_TEST_NUMBERS_UNTIL: has no effect"],
        ),
        (
            {"SMSVERIFY_ADMIN_TEMPLATE": "layuot.html"},
            ["error SMSVERIFY_ADMIN_TEMPLATE: there is no template 'layuot.html'"],
        ),
        (
            {
                "SMSVERIFY_SIGN_IN": True,
                "SQLALCHEMY_ENGINE_OPTIONS": {"isolation_level": "AUTOCOMMIT"},
            },
            ["error database: the app's connections commit each statement"],
        ),
        (
            {"SQLALCHEMY_ENGINE_OPTIONS": {"isolation_level": "AUTOCOMMIT"}},
            ["warning database: the app's connections commit each statement"],
        ),
    ],
)
def test_a_setting_that_is_wrong_in_production_is_found(
    make_host: Callable[..., Flask], config: dict[str, Any], expected: list[str]
) -> None:
    found = problems(make_host(**config))
    assert len(found) == len(expected), found
    for problem, start in zip(found, expected, strict=True):
        assert problem.startswith(start)


class _Sessions(SessionInterface):
    pass


def _without_proxy(app: Flask) -> None:
    app.wsgi_app = app.wsgi_app.app  # type: ignore[method-assign, attr-defined]  # ProxyFix has it


def _without_login_manager(app: Flask) -> None:
    del app.login_manager  # type: ignore[attr-defined]  # Flask-Login puts it there


def _exempt(app: Flask) -> None:
    CSRFProtect(app).exempt(app.blueprints["smsverify"])


def _set_login_view(app: Flask) -> None:
    app.login_manager.login_view = "nowhere"  # type: ignore[attr-defined]  # likewise


def _replace_hook(app: Flask) -> None:
    app.preprocess_request = lambda: None  # type: ignore[method-assign]  # as an extension may


def _replace_sessions(app: Flask) -> None:
    app.session_interface = _Sessions()


def _leave_a_misspelled_endpoint_open(app: Flask) -> None:
    app.extensions["test_smsverify"].guard(app, except_=["open_veiw", "open_view", "log*"])


def _leave_a_view_of_a_blueprint_open(app: Flask) -> None:
    billing = Blueprint("billing", __name__)
    billing.add_url_rule("/terms", "terms", lambda: "terms")
    app.extensions["test_smsverify"].guard(billing, except_=["terms", "billing.terms", "prices"])
    app.register_blueprint(billing)


def _guard_above_the_route(app: Flask) -> None:
    @require_verified_mobile
    @login_required
    @app.route("/invoices")
    def invoices() -> str:
        return "invoices"

    @app.route("/orders")
    @login_required
    @require_verified_mobile
    def orders() -> str:
        return "orders"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_guard_above_the_route, "error guards: invoices: the route bypasses"),
        (_leave_a_misspelled_endpoint_open, "warning guards: except_ names open_veiw, which is no"),
        (_leave_a_view_of_a_blueprint_open, "warning guards: except_ names prices, which is no"),
        (_without_proxy, "warning address: there is no ProxyFix"),
        (_without_login_manager, "error login: there is no Flask-Login"),
        (_exempt, "warning csrf: the pages are exempt"),
        (_set_login_view, "error login: login_view names 'nowhere'"),
        (_replace_hook, "warning hooks: another extension replaced"),
        (_replace_sessions, "warning session: _Sessions has no function"),
    ],
)
def test_a_fault_of_the_app_is_found(
    make_host: Callable[..., Flask], change: Callable[[Flask], None], expected: str
) -> None:
    app = make_host()
    change(app)
    [found] = problems(app)
    assert found.startswith(expected)


def test_an_address_getter_makes_proxyfix_unnecessary(make_host: Callable[..., Flask]) -> None:
    app = make_host()
    _without_proxy(app)
    app.extensions["test_smsverify"].address_getter(lambda: "192.0.2.1")
    assert problems(app) == []


@pytest.mark.parametrize(
    ("templates", "expected"),
    [
        ({"smsverify/base.html": "{% block title %}{% endblock %}"}, "no block 'content'"),
        (
            {
                "smsverify/base.html": "{% extends 'layout.html' %}",
                "layout.html": "{% block content %}{% endblock %}",
            },
            "no block 'title'",
        ),
        ({"smsverify/base.html": "{% extends 'missing.html' %}"}, "does not compile: missing.html"),
        ({"smsverify/page.html": "{% block"}, "page.html does not compile"),
    ],
)
def test_a_broken_template_of_the_host_is_found(
    make_host: Callable[..., Flask], templates: dict[str, str], expected: str
) -> None:
    app = make_host()
    app.jinja_loader = DictLoader(templates)
    found = problems(app)
    assert len(found) == 1, found
    assert expected in found[0]


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("{% block title %}{% endblock %}{% block content %}{% endblock %}", "no block 'head'"),
        ("{% extends 'missing.html' %}", "there is no template 'missing.html'"),
        ("{% block", "does not compile"),
    ],
)
def test_a_broken_layout_of_the_staff_pages_is_found(
    make_host: Callable[..., Flask], layout: str, expected: str
) -> None:
    app = make_host(SMSVERIFY_ADMIN_TEMPLATE="staff.html")
    app.jinja_loader = DictLoader({"staff.html": layout})
    [found] = problems(app)
    assert found.startswith("error SMSVERIFY_ADMIN_TEMPLATE: ")
    assert expected in found


# --- the database -------------------------------------------------------------------------------


def alter(app: Flask, *statements: str) -> None:
    with app.app_context():
        for statement in statements:
            db.session.execute(text(statement))
        db.session.commit()


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        (["DROP TABLE smsverify_used_token"], "smsverify_used_token is missing. Run flask db"),
        (
            ["ALTER TABLE smsverify_verification DROP COLUMN settled_at"],
            "smsverify_verification has no column settled_at. Run flask db",
        ),
        (["UPDATE host_user SET mobile = '021 8888'"], "1 of 1 have a number that is not valid"),
    ],
)
def test_a_fault_of_the_tables_is_found(
    make_host: Callable[..., Flask], statements: list[str], expected: str
) -> None:
    app = make_host()
    alter(app, *statements)
    [found] = problems(app)
    assert expected in found


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("mobile VARCHAR(11)", ["error mobile: User.mobile has 11 characters"]),
        ("mobile INTEGER", ["error mobile: User.mobile is a number"]),
        ("mobile VARCHAR(16) NOT NULL", ["warning mobile: User.mobile is NOT NULL"]),
        ("mobile VARCHAR(16) UNIQUE", ["warning mobile: User.mobile is UNIQUE"]),
        ("phone VARCHAR(16)", ["error mobile: host_user has no column", "error users: cannot be"]),
    ],
)
def test_the_column_in_the_database_counts_and_not_the_model(
    make_host: Callable[..., Flask], column: str, expected: list[str]
) -> None:
    app = make_host()
    columns = 'id INTEGER PRIMARY KEY, "group" VARCHAR(32), note VARCHAR(64), ' + column
    alter(app, "DROP TABLE host_user", f"CREATE TABLE host_user ({columns})")
    found = problems(app)
    assert len(found) == len(expected), found
    for problem, start in zip(found, expected, strict=True):
        assert problem.startswith(start)


def test_missing_tables_are_one_line(make_host: Callable[..., Flask]) -> None:
    app = make_host()
    alter(app, "DROP TABLE smsverify_challenge", "DROP TABLE smsverify_used_token")
    [found] = problems(app)
    assert "smsverify_challenge, smsverify_used_token are missing. Run flask db" in found
    with app.app_context():
        db.drop_all()
    found_all = problems(app)
    assert any(re.search("error tables: all [0-9]+ are missing", problem) for problem in found_all)
    assert any("the table host_user is missing" in problem for problem in found_all)


# --- the command --------------------------------------------------------------------------------


def test_the_command_prints_a_line_each_and_exits_with_1_for_an_error(
    make_host: Callable[..., Flask], simulator: Simulator
) -> None:
    app = make_host(SMSVERIFY_SIMULATOR_URL=simulator.url)
    output = run(app, ends=1)
    assert "error    SMSVERIFY_SIMULATOR_URL: is set" in output
    assert "ok       sender: main (raygan): ok, responded in" in output
    assert "ok       sender: second (melipayamak): ok, responded in" in output
    simulator.fault("raygan", "no_credit")
    assert "error    sender: main (raygan): " in run(app, ends=1)
    assert "sender: " not in run(app, "--offline", ends=1)


def test_the_command_exits_with_0_for_warnings(make_host: Callable[..., Flask]) -> None:
    output = run(make_host(SMSVERIFY_SITE_NAME=None), "--offline")
    assert output.endswith("0 errors, 3 warnings\n")  # the mode and SQLite as well


def test_the_command_says_why_an_app_does_not_start(sqlite: str) -> None:
    info = ScriptInfo(create_app=lambda: create_app(sqlite, TESTING=False))
    result = CliRunner().invoke(smsverify, ["doctor"], obj=info)
    assert result.exit_code == 1
    assert "Error: SMSVERIFY_SENDERS is empty" in result.output
