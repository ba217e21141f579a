"""Case 44 of docs/safety.md: who may see the staff pages, and who may change what they show."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_wtf import CSRFProtect
from staff import ADMIN, JSON, audited, logged_in

MakeStaffApp = Callable[..., Flask]


def rules(app: Flask, method: str) -> list[str]:
    """Return a path for each view of the staff pages that takes a method."""
    paths = []
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("smsverify_admin.") and method in rule.methods:
            path = re.sub(r"<any\(([a-z_]+)[^>]*>", r"\1", rule.rule)
            paths.append(re.sub(r"<[^>]*>", "3", path))
    assert paths
    return paths


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_pages_do_not_exist_until_the_host_says_who_is_staff(
    make_staff_app: MakeStaffApp, method: str
) -> None:
    app = make_staff_app(open_pages=False)
    client = logged_in(app)
    for path in rules(app, method):
        assert client.open(path, method=method).status_code == 404, path


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_users_who_are_not_staff_are_refused_everywhere(app: Flask, method: str) -> None:
    client = logged_in(app, 3)
    for path in rules(app, method):
        assert client.open(path, method=method).status_code == 403, path
        answer = client.open(path, method=method, headers=JSON)
        assert (answer.status_code, answer.json["code"]) == (403, "staff_required"), path
    assert audited(app) == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_anonymous_visitors_go_to_the_login_and_programs_get_401(app: Flask, method: str) -> None:
    client = logged_in(app, None)
    app.login_manager.login_view = "open_view"  # type: ignore[attr-defined]
    for path in rules(app, method):
        answer = client.open(path, method=method)
        assert (answer.status_code, answer.location.partition("?")[0]) == (302, "/open"), path
        answer = client.open(path, method=method, headers=JSON)
        assert (answer.status_code, answer.json["code"]) == (401, "login_required"), path


def test_read_only_staff_see_every_page_and_change_nothing(app: Flask) -> None:
    client = logged_in(app, 2)
    for path in rules(app, "GET"):
        assert client.get(path).status_code in (200, 404), path
    for path in rules(app, "POST"):
        answer = client.post(path, headers=JSON)
        assert (answer.status_code, answer.json["code"]) == (403, "read_only"), path
        assert client.post(path).status_code == 403, path
    page = client.get(f"{ADMIN}/verifications").text
    assert 'method="post"' not in page
    assert audited(app) == []


@pytest.mark.parametrize("answer", ["yes", 1, "read_only", object()])
def test_an_unclear_answer_of_staff_required_opens_nothing(app: Flask, answer: object) -> None:
    app.extensions["test_smsverify"].staff_required(lambda: answer)
    app.testing = False
    client = logged_in(app)
    assert client.get(f"{ADMIN}/").status_code == 500


def test_a_change_needs_a_csrf_token(make_staff_app: MakeStaffApp) -> None:
    app = make_staff_app(WTF_CSRF_ENABLED=True)
    client = logged_in(app)
    client.post("/verify-mobile/send")
    for path in rules(app, "POST"):
        answer = client.post(path, headers=JSON)
        assert (answer.status_code, answer.json["code"]) == (400, "csrf"), path
        assert client.post(path).status_code == 400, path
    assert audited(app) == []


def test_the_token_of_a_page_is_accepted_also_under_the_hosts_own_protection(
    make_staff_app: MakeStaffApp,
) -> None:
    app = make_staff_app(WTF_CSRF_ENABLED=True)
    CSRFProtect(app)
    client = logged_in(app)
    page = client.get(f"{ADMIN}/verifications?q=user3").text
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found
    action = f"{ADMIN}/verifications/3/verify"
    refused = client.post(action, headers=JSON)
    assert (refused.status_code, refused.json["code"]) == (400, "csrf")
    answer = client.post(action, data={"csrf_token": found[1]})
    assert answer.status_code == 303
    assert audited(app) == [("1", "verify", "3")]


def test_pages_send_a_strict_policy_and_forbid_caching(app: Flask, client: FlaskClient) -> None:
    for path in rules(app, "GET"):
        answer = client.get(path)
        assert answer.headers["Cache-Control"] == "no-store", path
        if answer.status_code != 200:
            continue
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'"), path
        assert "unsafe" not in policy
        assert not re.search(r"<script(?! src)|<style| on\w+=| style=", answer.text), path
    assert client.get("/admin/smsverify/nowhere").headers["Cache-Control"] == "no-store"


def test_pages_stand_inside_the_hosts_template(
    make_staff_app: MakeStaffApp, tmp_path: object
) -> None:
    from jinja2 import ChoiceLoader, DictLoader

    app = make_staff_app(SMSVERIFY_ADMIN_TEMPLATE="host.html")
    layout = (
        "<title>{% block title %}{% endblock %}</title>{% block head %}{% endblock %}"
        "<p>layout of the host</p>{% block content %}{% endblock %}"
    )
    app.jinja_loader = ChoiceLoader([DictLoader({"host.html": layout}), app.jinja_loader])
    answer = logged_in(app).get(f"{ADMIN}/verifications")
    assert "layout of the host" in answer.text
    assert "staff.css" in answer.text
    assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'"


def test_flask_admins_menu_links_to_the_pages_for_staff_alone(
    make_staff_app: MakeStaffApp,
) -> None:
    from flask_admin import Admin
    from flask_babel import Babel

    from flask_smsverify.admin import menu_link

    app = make_staff_app()
    Babel(app, locale_selector=lambda: "en")  # Flask-Admin uses it where it is installed
    admin = Admin(app, name="shop", url="/flask-admin")
    menu_link(admin)
    page = logged_in(app, 2).get("/flask-admin/").text
    assert re.search(rf'href="{ADMIN}/"[^>]*>\s*Mobile verification', page)
    assert ADMIN not in logged_in(app, 3).get("/flask-admin/").text
    assert ADMIN not in logged_in(app, None).get("/flask-admin/").text
