"""Guards of a whole app: what they leave open, and that they run last before the view."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import MakeApp
from flask import Blueprint, Flask, g, redirect, request
from flask.testing import FlaskClient
from flask_login import login_user, logout_user
from hostapp import User, db
from visiting import PAGE, browser, prove

from flask_smsverify.errors import ConfigurationError


def guard(app: Flask, target: Any = None, **options: Any) -> None:
    app.extensions["test_smsverify"].guard(target or app, **options)


def is_open(client: FlaskClient, path: str) -> bool:
    """Return whether a view ran; otherwise a guard must have redirected to the page."""
    answer = client.get(path)
    if answer.status_code == 302 and answer.location.startswith(PAGE):
        return False
    assert answer.status_code == 200, (path, answer.status)
    return True


def with_views(app: Flask, **endpoints: str) -> Flask:
    """Add views: endpoint → path."""
    for endpoint, path in endpoints.items():
        app.add_url_rule(path, endpoint, lambda **_: "view")
    return app


def manager_of(app: Flask) -> Any:
    return app.login_manager  # type: ignore[attr-defined]  # Flask-Login puts it there


# --- login and logout ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "path"),
    [
        ("logout", "/bye"),
        ("sign_out", "/x"),
        ("log-off", "/x"),
        ("user_login", "/x"),
        ("login_view", "/x"),
        ("leave", "/shop/logout"),
        ("leave", "/account/sign-out/"),
        ("enter", "/auth/login"),
    ],
)
def test_a_guarded_app_leaves_login_and_logout_open(app: Flask, endpoint: str, path: str) -> None:
    views = Blueprint("views", __name__)
    views.add_url_rule(path, endpoint.rpartition(".")[2], lambda: "view")
    app.register_blueprint(views)
    guard(app)
    assert is_open(browser(app), path)


@pytest.mark.parametrize(
    ("endpoint", "path"),
    [("login_history", "/x"), ("impersonate", "/users/<int:key>/login"), ("blog", "/blogin")],
)
def test_a_guarded_app_guards_views_that_only_resemble_a_login(
    app: Flask, endpoint: str, path: str
) -> None:
    with_views(app, **{endpoint: path})
    guard(app)
    assert not is_open(browser(app), path.replace("<int:key>", "2"))


@pytest.mark.parametrize("login_view", ["enter", "/enter", "http://localhost/enter", "area.enter"])
def test_the_login_view_of_flask_login_is_open_whatever_its_name(
    app: Flask, login_view: str
) -> None:
    with_views(app, enter="/enter", other="/other")
    area = Blueprint("area", __name__, url_prefix="/area")
    area.add_url_rule("/enter", "enter", lambda: "view")
    app.register_blueprint(area)
    manager_of(app).login_view = login_view
    guard(app)
    client = browser(app)
    in_area = login_view == "area.enter"
    assert is_open(client, "/enter") is not in_area
    assert is_open(client, "/area/enter") is in_area
    assert not is_open(client, "/other")


def test_the_refresh_view_and_login_views_of_blueprints_are_open(app: Flask) -> None:
    with_views(app, again="/again", staff_door="/staff", door="/door")
    manager_of(app).refresh_view = "again"
    manager_of(app).blueprint_login_views = {"staff": "staff_door"}
    guard(app)
    client = browser(app)
    assert is_open(client, "/again")
    assert is_open(client, "/staff")
    assert not is_open(client, "/door")


def test_the_login_that_the_change_of_a_number_leads_to_is_open(app: Flask) -> None:
    """The button "Sign in again" leads to it, and the user is logged out by then."""
    with_views(app, enter="/enter")
    manager_of(app).login_view = "enter"
    guard(app)
    client = browser(app)
    prove(app, client)
    with client.session_transaction() as session:
        session["_fresh"] = False
    client.post("/verify-mobile/mobile", data={"mobile": "0935 111 2233", "send": "1"})
    assert 'action="/verify-mobile/leave"' in client.get("/verify-mobile/mobile").text
    assert is_open(client, "/enter")
    assert is_open(client, client.post("/verify-mobile/leave", data={"again": "1"}).location)


def test_a_guarded_blueprint_leaves_its_login_open_to_anonymous_visitors(app: Flask) -> None:
    """A guarded login view would redirect to itself for ever."""
    account = Blueprint("account", __name__, url_prefix="/account")
    for name in ("enter", "logout", "profile"):
        account.add_url_rule(f"/{name}", name, lambda: "view")
    guard(app, account)
    app.register_blueprint(account)
    manager_of(app).login_view = ".enter"
    manager_of(app).blueprint_login_views = {"account": "account.enter"}
    stranger, client = browser(app, None), browser(app)
    assert is_open(stranger, "/account/enter")
    assert stranger.get("/account/profile").location.startswith("/account/enter?next=")
    assert is_open(client, "/account/logout")
    assert not is_open(client, "/account/profile")


def test_a_pattern_for_everything_leaves_login_and_logout_open(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, SMSVERIFY_AREAS={"all": ["*"]}, SMSVERIFY_OPEN_ENDPOINTS=["help"])
    with_views(app, enter="/enter", help="/help")
    manager_of(app).login_view = "enter"
    stranger, client = browser(app, None), browser(app)
    for path in ("/enter", "/logout", "/help"):
        assert is_open(stranger, path)
    assert is_open(client, "/help")
    assert not is_open(client, "/open")


def test_a_logout_view_that_an_area_names_is_guarded(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_AREAS={"odd": ["logout"]})
    assert not is_open(browser(app), "/logout")


# --- other exceptions ---------------------------------------------------------------------------


def test_open_endpoints_and_except_are_left_open_by_name_and_by_pattern(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, SMSVERIFY_OPEN_ENDPOINTS=["help", "legal.*"])
    with_views(app, help="/help", contact="/contact", shop_list="/list", shop_item="/item")
    legal = Blueprint("legal", __name__, url_prefix="/legal")
    legal.add_url_rule("/terms", "terms", lambda: "view")
    app.register_blueprint(legal)
    guard(app, except_=["contact", "shop_*"])
    client = browser(app)
    for path in ("/help", "/contact", "/legal/terms", "/list", "/item"):
        assert is_open(client, path), path
    assert not is_open(client, "/open")


def test_a_guarded_app_leaves_options_open_and_decorated_views_guarded(app: Flask) -> None:
    app.add_url_rule("/own", "own", lambda: "own", methods=["GET", "OPTIONS"])
    guard(app)
    client = browser(app)
    assert client.options("/own").text == "own"
    assert client.options("/open").status_code == 200
    assert not is_open(client, "/own")
    assert not is_open(client, "/guarded")


# --- the order of hooks -------------------------------------------------------------------------


def _guards(app: Flask) -> dict[str, str]:
    """Guard three paths, each in another way, and return them by the kind of guard."""
    shop = Blueprint("shop", __name__, url_prefix="/shop")
    inner = Blueprint("inner", __name__, url_prefix="/inner")
    inner.before_request(lambda: _note("inner"))
    inner.add_url_rule("/deep", "deep", lambda: "deep")
    guard(app, shop)
    shop.before_request(lambda: _note("shop"))
    shop.register_blueprint(inner)
    app.register_blueprint(shop)
    return {"blueprint": "/shop/inner/deep", "pattern": "/open", "app": "/other"}


def _note(name: str) -> None:
    request.environ.setdefault("test.order", []).append(name)


@pytest.fixture
def order(make_app: MakeApp, sqlite: str) -> tuple[Flask, dict[str, str], list[list[str]]]:
    """An app with each kind of guard, whose hooks and decisions are recorded."""
    app = make_app(sqlite, SMSVERIFY_AREAS={"all": ["open_view"]})
    with_views(app, other="/other")
    seen: list[list[str]] = []

    @app.extensions["test_smsverify"].unverified_handler
    def refuse(_decision: object) -> Any:
        seen.append([*request.environ.get("test.order", []), "guard"])
        return "refused", 403

    guard(app, except_=["open_view", "shop.*", "login"])
    paths = _guards(app)
    app.before_request(lambda: _note("app"))  # registered after every guard
    return app, paths, seen


def test_guards_run_after_every_before_request_function(
    order: tuple[Flask, dict[str, str], list[list[str]]],
) -> None:
    app, paths, seen = order
    client = browser(app)
    expected = {"blueprint": ["app", "shop", "inner"], "pattern": ["app"], "app": ["app"]}
    for kind, path in paths.items():
        assert client.get(path).status_code == 403, kind
        assert seen.pop() == [*expected[kind], "guard"]


def test_a_before_request_function_may_log_the_user_in(app: Flask) -> None:
    guard(app)

    @app.before_request
    def log_in() -> None:
        if request.headers.get("X-Remote-User"):
            login_user(db.session.get(User, int(request.headers["X-Remote-User"])))

    @app.before_request
    def log_out() -> None:
        if request.headers.get("X-Expired"):
            logout_user()

    client = app.test_client()
    assert client.get("/open", headers={"X-Remote-User": "1"}).location.startswith(PAGE)
    assert client.get("/open", headers={"X-Expired": "1"}).text == "open"


def test_a_before_request_function_may_respond_before_the_guard(app: Flask) -> None:
    guard(app)
    app.before_request(lambda: ("closed for maintenance", 503))
    assert browser(app, None).get("/open").status_code == 503


def test_every_request_is_guarded_although_its_checks_come_last(app: Flask) -> None:
    """No check of one request is left for the next one, or lost after an exception."""
    guard(app)

    @app.before_request
    def fail() -> None:
        if "fail" in request.args:
            raise RuntimeError

    client = browser(app)
    for _ in range(3):
        with pytest.raises(RuntimeError):
            client.get("/open?fail=1")
        assert client.get("/open").location.startswith(PAGE)


def test_an_empty_refusal_of_the_host_is_still_a_refusal(app: Flask) -> None:
    app.extensions["test_smsverify"].unverified_handler(lambda _decision: "")
    guard(app)
    assert browser(app).get("/open").text == ""


def test_guards_hold_when_another_extension_replaces_preprocess_request(app: Flask) -> None:
    guard(app)
    app.preprocess_request = lambda: Flask.preprocess_request(app)  # type: ignore[method-assign]
    assert browser(app).get("/open").location.startswith(PAGE)


def test_guards_hold_when_another_extension_replaces_dispatch_request(app: Flask) -> None:
    """Flask-DebugToolbar does."""
    guard(app)
    client = browser(app)
    app.dispatch_request = app.view_functions["open_view"]  # type: ignore[method-assign]
    assert client.get("/open").location.startswith(PAGE)


def test_a_guarded_blueprint_on_an_app_without_the_extension_stays_closed(app: Flask) -> None:
    shop = Blueprint("shop", __name__)
    shop.add_url_rule("/list", "list", lambda: "list")
    guard(app, shop)
    bare = Flask("bare")
    bare.testing = True
    bare.register_blueprint(shop)
    with pytest.raises(ConfigurationError, match="init_app"):
        bare.test_client().get("/list")


def test_a_tenant_that_a_before_request_function_chooses_is_there_for_the_callbacks(
    app: Flask,
) -> None:
    guard(app)

    @app.extensions["test_smsverify"].exempt_when
    def is_exempt(_user: object) -> bool:
        return bool(g.tenant == "free")

    @app.before_request
    def choose() -> None:
        g.tenant = request.args.get("tenant")

    client = browser(app)
    assert client.get("/open?tenant=free").text == "open"
    assert client.get("/open?tenant=paid").status_code == 302


def test_a_redirect_of_the_host_is_not_replaced(app: Flask) -> None:
    guard(app)
    app.before_request(lambda: redirect("/elsewhere") if request.path == "/open" else None)
    assert browser(app).get("/open").location == "/elsewhere"
