"""Cases 67, 68, 69, 72, 74 and 84 of docs/safety.md: guards, logins and framing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from conftest import MakeApp
from flask import Blueprint, Flask, Response
from hostapp import User, db
from visiting import browser, prove

from flask_smsverify import SMSVerify, require_verified_mobile
from flask_smsverify.errors import ConfigurationError

PAGE = "/verify-mobile/"


def extension(app: Flask) -> SMSVerify:
    found: SMSVerify = app.extensions["test_smsverify"]
    return found


# --- 67: OPTIONS ------------------------------------------------------------------------------


def test_a_guarded_view_that_handles_options_itself_is_guarded(app: Flask) -> None:
    @app.route("/own-options", methods=["GET", "OPTIONS"])
    @require_verified_mobile
    def own_options() -> str:
        return "secret"

    client = browser(app)
    answer = client.options("/own-options")
    assert (answer.status_code, "secret" in answer.text) == (302, False)
    automatic = client.options("/guarded")
    assert automatic.status_code == 200
    assert "GET" in automatic.headers["Allow"]


# --- 68: values that only look right ----------------------------------------------------------


def test_an_area_pattern_that_matches_no_endpoint_fails_every_request(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, SMSVERIFY_AREAS={"billing": ["biling.*"]})
    app.register_blueprint(Blueprint("billing", __name__))
    app.add_url_rule("/invoices", "billing.invoices", lambda: "invoices")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"'biling\.\*'.*billing\.invoices"):
            app.test_client().get("/open")


def test_a_pattern_with_the_bare_name_of_a_nested_blueprint_is_refused(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, SMSVERIFY_AREAS={"billing": ["child.*"]})
    parent, child = Blueprint("parent", __name__), Blueprint("child", __name__)
    child.add_url_rule("/invoices", "invoices", lambda: "invoices")
    parent.register_blueprint(child)
    app.register_blueprint(parent)
    with pytest.raises(ConfigurationError, match=r"parent\.child\.view"):
        browser(app).get("/invoices")


def test_a_pattern_guards_the_static_files_of_its_blueprint(
    make_app: MakeApp, sqlite: str, tmp_path: Any
) -> None:
    (tmp_path / "invoice.txt").write_text("an invoice")
    app = make_app(sqlite, SMSVERIFY_AREAS={"billing": ["billing.*"]})
    billing = Blueprint("billing", __name__, static_folder=tmp_path, static_url_path="/files")
    app.register_blueprint(billing)
    client = browser(app)
    assert client.get("/files/invoice.txt").status_code == 302
    prove(app, client)
    with client.get("/files/invoice.txt") as answer:
        assert answer.text == "an invoice"


def test_a_view_of_the_hosts_that_is_named_static_is_guarded(
    make_app: MakeApp, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(sqlite, SMSVERIFY_AREAS={"all": ["reports"]})
    app.static_folder = None
    app.view_functions.pop("static", None)
    app.add_url_rule("/reports", "reports", lambda: "reports")
    app.add_url_rule("/named-static", "static", lambda: "a report")
    app.extensions["smsverify"].live.update(areas={"all": ["static"]})
    assert app.test_client().get("/named-static").status_code == 401


def test_login_disabled_as_text_fails_instead_of_opening_every_guard(app: Flask) -> None:
    app.config["LOGIN_DISABLED"] = "False"
    with pytest.raises(ConfigurationError, match="LOGIN_DISABLED must be true or false"):
        browser(app).get("/guarded")


def test_exempt_when_must_return_a_bool(app: Flask) -> None:
    client = browser(app)
    for result in (lambda: True, "no", 2, [], object()):
        extension(app).exempt_when(lambda user, result=result: result)
        with pytest.raises(ConfigurationError, match="exempt_when must return True or False"):
            client.get("/guarded")
    for result, status in ((True, 200), (False, 302), (None, 302)):
        extension(app).exempt_when(lambda user, result=result: result)
        assert client.get("/guarded").status_code == status


def test_is_authenticated_as_a_method_fails_instead_of_letting_everybody_in(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = browser(app)
    monkeypatch.setattr(User, "is_authenticated", lambda self: False)
    with pytest.raises(ConfigurationError, match="is_authenticated is a method"):
        client.get("/guarded")
    for value, status in ((1, 302), (0, 401), (None, 401)):  # a column of the host's
        monkeypatch.setattr(User, "is_authenticated", value)
        assert client.get("/guarded").status_code == status


# --- 69: a pending login ----------------------------------------------------------------------


def test_a_pending_login_is_void_after_get_id_changes(
    make_app: MakeApp, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(sqlite, SMSVERIFY_LOGIN_GATE=True)

    @app.route("/enter")
    def enter() -> Any:
        result = extension(app).login_user(db.session.get(User, 1))
        return result if not isinstance(result, bool) else "in"

    client = app.test_client()
    client.get("/enter")
    assert client.get(PAGE).status_code == 200
    monkeypatch.setattr(User, "get_id", lambda self: f"{self.id} after a new password")
    answer = client.get(PAGE)
    assert answer.status_code == 401, "the visitor is anonymous again"


# --- 72: text keys ----------------------------------------------------------------------------


def test_user_keys_that_differ_by_a_trailing_space_are_two_users(
    make_app: MakeApp, database: str
) -> None:
    from flask_smsverify.db.models import Verification

    ledger = make_app(database).extensions["smsverify"].ledger
    now = ledger.clock()
    for key in ("sara", "sara ", "SARA", "sára"):
        ledger.run(
            lambda session, key=key: session.add(
                Verification(user_id=key, failures=0, created_at=now)
            )
        )
    for key in ("sara", "sara ", "SARA", "sára"):
        row = ledger.read(lambda session, key=key: session.get(Verification, key))
        assert row.user_id == key


# --- 74: the session stamp --------------------------------------------------------------------


def stamped(make_app: MakeApp, sqlite: str) -> tuple[Flask, Any]:
    app = make_app(sqlite, SMSVERIFY_RECHECK_SECONDS=600)

    @app.route("/recent")
    @require_verified_mobile(within=timedelta(days=1))
    def recent() -> str:
        return "recent"

    client = browser(app)
    prove(app, client)
    assert client.get("/guarded").status_code == 200
    return app, client


def revoke(app: Flask) -> None:
    with app.app_context():
        extension(app).verifier.revoke(db.session.get(User, 1), by="staff")


def test_within_looks_up_in_spite_of_a_stamp(make_app: MakeApp, sqlite: str) -> None:
    app, client = stamped(make_app, sqlite)
    assert client.get("/recent").status_code == 200
    revoke(app)
    assert client.get("/guarded").status_code == 200, "within RECHECK_SECONDS the stamp is trusted"
    assert client.get("/recent").status_code == 302


@pytest.mark.parametrize("path", ["/logout", "/login/1"])
def test_a_stamp_ends_with_its_login(make_app: MakeApp, sqlite: str, path: str) -> None:
    app, client = stamped(make_app, sqlite)
    revoke(app)
    client.get(path)
    client.get("/login/1")
    assert client.get("/guarded").status_code == 302


# --- 84: framing ------------------------------------------------------------------------------


def csp_of(answer: Any) -> dict[str, str]:
    directives = answer.headers.get("Content-Security-Policy", "").split("; ")
    return dict(directive.partition(" ")[::2] for directive in directives if directive)


def test_a_page_on_the_own_layout_sends_a_full_policy(app: Flask) -> None:
    answer = browser(app).get(PAGE)
    policy = csp_of(answer)
    assert policy["frame-ancestors"] == "'none'"
    assert policy["default-src"] == "'none'"
    assert "unsafe" not in str(policy)
    assert answer.headers["Referrer-Policy"] == "same-origin"


def test_a_page_in_the_hosts_layout_restricts_frames_alone(
    make_app: MakeApp, sqlite: str, tmp_path: Any
) -> None:
    folder = tmp_path / "smsverify"
    folder.mkdir()
    (folder / "base.html").write_text("<title>host</title>{% block content %}{% endblock %}")
    app = make_app(sqlite, SMSVERIFY_FRAME_ANCESTORS="'self'")
    app.template_folder = str(tmp_path)
    app.jinja_env.cache.clear()  # type: ignore[union-attr] -- Flask's environment has a cache
    assert csp_of(browser(app).get(PAGE)) == {"frame-ancestors": "'self'"}


def test_a_page_that_the_host_replaced_restricts_frames_alone(
    make_app: MakeApp, sqlite: str, tmp_path: Any
) -> None:
    folder = tmp_path / "smsverify"
    folder.mkdir()
    (folder / "page.html").write_text("<title>host</title>")
    app = make_app(sqlite)
    app.template_folder = str(tmp_path)
    app.jinja_env.cache.clear()  # type: ignore[union-attr] -- Flask's environment has a cache
    assert csp_of(browser(app).get(PAGE)) == {"frame-ancestors": "'none'"}
    assert csp_of(browser(app, None).get(PAGE)) == {"frame-ancestors": "'none'"}, "the host's 401"


def test_no_policy_keeps_the_page_behind_a_form_from_redirecting_elsewhere(app: Flask) -> None:
    assert "form-action" not in csp_of(browser(app).get(PAGE))


def set_csp(app: Flask, policy: str) -> Callable[[Response], Response]:
    @app.after_request
    def add(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", policy)
        return response

    return add


def test_a_policy_of_the_hosts_is_not_replaced(app: Flask) -> None:
    set_csp(app, "default-src 'self'")
    assert csp_of(browser(app).get(PAGE)) == {"default-src": "'self'"}


def test_other_pages_of_the_host_get_no_policy(app: Flask) -> None:
    assert csp_of(browser(app).get("/open")) == {}
