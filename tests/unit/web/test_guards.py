"""Guards: which requests they refuse, their responses and redirects, and their queries."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import MakeApp
from flask import Blueprint, Flask, abort, render_template_string
from flask.testing import FlaskClient
from flask.views import MethodView
from flask_login import UserMixin, login_required
from flows import flow_of
from hostapp import User, db
from visiting import (
    CHECK,
    MOBILE,
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
    set_user,
    statements,
)
from werkzeug.test import TestResponse, create_environ

from flask_smsverify import Decision, request_cache, require_verified_mobile
from flask_smsverify.errors import ConfigurationError, StoreUnavailable
from flask_smsverify.guard import current_status, decide
from flask_smsverify.web.demands import dump_demand

JSON = {"Accept": "application/json"}


def stopped(answer: TestResponse) -> bool:
    """Return whether a guard redirected to the page; otherwise the view must have responded."""
    if answer.status_code == 302:
        assert answer.location.startswith(PAGE)
        return True
    assert answer.status_code == 200
    return False


def is_served(client: FlaskClient, path: str) -> bool:
    """Return whether a file is served."""
    with client.get(path) as answer:
        return answer.status_code == 200


def smsverify_of(app: Flask) -> Any:
    return app.extensions["test_smsverify"]


def add(app: Flask, path: str, view: Callable[..., Any], **options: Any) -> None:
    app.add_url_rule(path, path.strip("/").replace("/", "_"), view, **options)


def ok() -> str:
    return "ok"


# --- the decorator ----------------------------------------------------------------------------


async def _waiting() -> str:
    return "ok"


class _ByMethod(MethodView):
    decorators = (require_verified_mobile,)

    def get(self) -> str:
        return "ok"


def test_the_decorator_runs_a_view_for_verified_users_only(app: Flask) -> None:
    views = {
        "bare": require_verified_mobile(ok),
        "called": require_verified_mobile()(ok),
        "area-first": require_verified_mobile("orders")(ok),
        "area": require_verified_mobile(area="orders")(ok),
        "within": require_verified_mobile(within=timedelta(hours=1))(ok),
        "async": require_verified_mobile(_waiting),
        "async-called": require_verified_mobile(area="orders")(_waiting),
        "under-login-required": login_required(require_verified_mobile(ok)),
        "over-login-required": require_verified_mobile(login_required(ok)),
        "class": _ByMethod.as_view("by_method"),
    }
    for name, view in views.items():
        add(app, f"/{name}", view)
    client, stranger = browser(app), browser(app, None)
    for name in views:
        assert stopped(client.get(f"/{name}")), name
        assert stranger.get(f"/{name}").status_code == 401, name
    prove(app, client)
    for name in views:
        assert client.get(f"/{name}").text == "ok", name


def test_an_app_decides_how_a_guarded_view_is_called(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flask documents `ensure_sync` as the method by which an app runs async views its own way."""

    class Asynchronous:
        __name__ = "asynchronous"

        async def __call__(self) -> str:
            return "ok"

    view = Asynchronous()
    ensure_sync = app.ensure_sync

    def ensure(function: Callable[..., Any]) -> Callable[..., Any]:
        return ensure_sync(view.__call__ if function is view else function)

    monkeypatch.setattr(app, "ensure_sync", ensure)
    add(app, "/own", require_verified_mobile(view))
    client = browser(app)
    prove(app, client)
    assert client.get("/own").text == "ok"


def test_a_guard_does_not_use_what_another_app_looked_up_in_the_same_request(
    make_app: MakeApp, sqlite: str, tmp_path: Path
) -> None:
    """Middleware that asks one app after the other gives all of them one WSGI environment."""
    first = make_app(sqlite)
    second = make_app(f"sqlite:///{tmp_path / 'second.sqlite'}")
    prove(first, browser(first))
    environ = create_environ()
    for app, reason in [(first, "verified"), (second, "unverified")]:
        with app.request_context(environ):
            assert decide(db.session.get(User, 1)).reason == reason
            assert not request_cache.demands_json()
            request_cache.demand_json()


def test_the_decorator_keeps_the_name_of_the_view() -> None:
    assert require_verified_mobile(ok).__name__ == "ok"


def test_within_must_be_a_positive_timedelta() -> None:
    for within in (timedelta(0), timedelta(days=-1), 600, "10 minutes"):
        with pytest.raises(ConfigurationError, match="within"):
            require_verified_mobile(within=within)  # type: ignore[arg-type]  # wrong on purpose


def test_a_guard_on_an_app_without_the_extension_is_a_configuration_error() -> None:
    app = Flask("bare")
    add(app, "/view", require_verified_mobile(ok))
    app.testing = True
    with pytest.raises(ConfigurationError, match="init_app"):
        app.test_client().get("/view")


# --- a fresh proof ----------------------------------------------------------------------------


def test_a_demand_for_a_recent_proof_is_passed_to_the_page_and_met_there(app: Flask) -> None:
    add(app, "/pay", require_verified_mobile(within=timedelta(minutes=10))(ok))
    client = browser(app)
    prove(app, client)
    assert client.get("/pay").text == "ok"
    age(app, timedelta(minutes=11))
    assert client.get("/guarded").text == "guarded"
    asked = client.get("/pay")
    assert stopped(asked)
    page = client.get(asked.location)
    assert page.status_code == 200
    demand = page.text.split('name="demand" value="')[1].split('"')[0]
    assert demand
    assert api(client, STATUS.replace("status", "check"), code="x").status_code in (404, 422)
    status = client.get(STATUS, query_string={"demand": demand}).json
    assert status["state"] == "expired"
    forget_limits(app)
    form = {"next": "/pay", "demand": demand}
    sent = client.post(SEND, data=form)
    page = client.get(sent.location)
    assert page.status_code == 200
    # Without the demand the page would leave by itself, because the earlier proof is still valid.
    polled = html.unescape(page.text.split('data-sv-status-url="')[1].split('"')[0])
    assert client.get(polled).json["state"] == "pending"
    assert client.post(CHECK, data=form | {"code": last_code(app)}).location == "/pay"
    assert client.get("/pay").text == "ok"


def test_a_demand_that_is_forged_or_of_another_user_is_ignored(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, users=2)
    client = browser(app)
    prove(app, client)
    age(app, timedelta(hours=1))
    with app.app_context():
        own = dump_demand("1", timedelta(minutes=1))
        anothers = dump_demand("2", timedelta(minutes=1))
    for demand in ("x", "1.2.3", anothers, own[:-2], "d" * 100_000):
        query = {"next": "/guarded", "demand": demand}
        assert client.get(PAGE, query_string=query).location == "/guarded"
        answer = client.post(SEND, data=query)
        assert answer.location == "/guarded"
        wrong = client.post(CHECK, data=query | {"code": "1"})
        assert "demand" not in wrong.location
        assert client.get(wrong.location).status_code == 200  # shows the error, once
    assert client.get(PAGE, query_string={"next": "/guarded", "demand": own}).status_code == 200


# --- blueprints and whole apps ----------------------------------------------------------------


def _shop(name: str = "shop") -> Blueprint:
    shop = Blueprint(name, __name__, static_folder=".", static_url_path="/static")
    shop.add_url_rule("/list", "list", ok)
    shop.add_url_rule("/index", "index", ok)
    return shop


def test_a_guarded_blueprint_guards_every_endpoint_but_the_exceptions(app: Flask) -> None:
    shop, inner = _shop(), Blueprint("inner", __name__)
    inner.add_url_rule("/deep", "deep", ok)
    inner.add_url_rule("/index", "index", ok)
    shop.register_blueprint(inner, url_prefix="/inner")
    smsverify_of(app).guard(shop, except_=["index"])
    app.register_blueprint(shop, url_prefix="/shop")
    app.register_blueprint(shop, url_prefix="/again", name="again")
    client = browser(app)
    for prefix in ("/shop", "/again"):
        assert not stopped(client.get(f"{prefix}/index"))
        assert stopped(client.get(f"{prefix}/list"))
        assert stopped(client.get(f"{prefix}/inner/deep"))
        assert stopped(client.get(f"{prefix}/inner/index"))
        assert browser(app, None).get(f"{prefix}/list").status_code == 401
    assert not stopped(client.get("/open"))


def test_an_exception_can_be_a_full_endpoint_name(app: Flask) -> None:
    shop = _shop()
    smsverify_of(app).guard(shop, except_="shop.index")
    app.register_blueprint(shop, url_prefix="/shop")
    client = browser(app)
    assert not stopped(client.get("/shop/index"))
    assert stopped(client.get("/shop/list"))


def test_an_area_guards_what_another_guard_leaves_open(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_AREAS={"shop": ["shop.*"]})
    shop = _shop()
    smsverify_of(app).guard(shop, except_=["index"])
    app.register_blueprint(shop, url_prefix="/shop")
    assert stopped(browser(app).get("/shop/index"))


def test_guarding_a_registered_blueprint_is_a_configuration_error(app: Flask) -> None:
    shop = _shop()
    app.register_blueprint(shop, url_prefix="/shop")
    with pytest.raises(ConfigurationError, match=r"before app\.register_blueprint"):
        smsverify_of(app).guard(shop)


def test_a_guarded_app_leaves_anonymous_visitors_own_pages_and_static_files_open(
    app: Flask,
) -> None:
    app.register_blueprint(_shop(), url_prefix="/shop")
    smsverify_of(app).guard(app, except_=["logout", "shop.index"])
    client = browser(app)
    stranger = browser(app, None)
    assert stranger.get("/open").text == "open"
    assert stranger.get("/shop/list").text == "ok"
    assert stopped(client.get("/open"))
    assert stopped(client.get("/shop/list"))
    assert not stopped(client.get("/shop/index"))
    assert is_served(client, "/shop/static/test_guards.py")
    assert is_served(client, "/verify-mobile/static/smsverify.css")
    assert client.get("/nothing").status_code == 404
    assert client.options("/open").status_code == 200
    assert client.get(PAGE).status_code == 200
    assert client.get(STATUS).status_code == 200
    assert client.get("/logout").text == "logged out"
    again = browser(app)
    again.get("/login/1")
    prove(app, again)
    assert again.get("/open").text == "open"


def test_a_view_named_static_is_guarded(app: Flask) -> None:
    reports = Blueprint("reports", __name__)
    reports.add_url_rule("/static", "static", ok)
    app.register_blueprint(reports, url_prefix="/reports")
    smsverify_of(app).guard(app)
    client = browser(app)
    assert stopped(client.get("/reports/static"))


def test_a_pattern_guards_the_static_files_of_a_blueprint_and_not_those_of_the_app(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, SMSVERIFY_AREAS={"all": ["*"]})
    app.static_folder = str(Path(__file__).parent)
    app.register_blueprint(_shop(), url_prefix="/shop")
    client = browser(app)
    assert is_served(client, "/static/test_guards.py")
    assert stopped(client.get("/shop/static/test_guards.py"))


def test_an_area_is_on_unless_it_is_switched_off(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_AREAS={"orders": False, "billing": True})
    shop = _shop()
    smsverify_of(app).guard(shop, area="orders")
    app.register_blueprint(shop, url_prefix="/shop")
    for area in ("orders", "billing", "unlisted"):
        add(app, f"/{area}", require_verified_mobile(area=area)(ok))
    client = browser(app)
    assert not stopped(client.get("/orders"))
    assert browser(app, None).get("/orders").text == "ok"
    assert stopped(client.get("/billing"))
    assert stopped(client.get("/unlisted"))
    assert not stopped(client.get("/shop/list"))


def test_an_area_guards_endpoints_by_pattern(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_AREAS={"shop": ["shop.*"], "one": ["logout"]})
    app.register_blueprint(_shop(), url_prefix="/shop")
    client = browser(app)
    assert stopped(client.get("/shop/list"))
    assert stopped(client.get("/logout"))
    assert not stopped(client.get("/open"))
    assert browser(app, None).get("/shop/list").status_code == 401
    assert client.options("/shop/list").status_code == 200
    prove(app, client)
    assert client.get("/shop/list").text == "ok"


def test_an_area_that_staff_switch_off_during_a_request_lets_it_pass(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, SMSVERIFY_AREAS={"first": ["open*"], "second": ["open_*"]})
    live = app.extensions["smsverify"].live

    def switch_off(_user: object) -> bool:
        live.update(areas={"first": ["open*"], "second": False})
        return True

    smsverify_of(app).exempt_when(switch_off)
    assert browser(app).get("/open").text == "open"


def test_a_guard_without_a_login_manager_is_a_configuration_error(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite)
    del app.login_manager  # type: ignore[attr-defined]  # Flask-Login puts it there
    with pytest.raises(ConfigurationError, match="LoginManager"):
        app.test_client().get("/guarded")


def test_a_user_of_another_class_is_an_error_unless_exempt(make_app: MakeApp, sqlite: str) -> None:
    class Robot(UserMixin):
        id = "1"

    app = make_app(sqlite)
    app.login_manager.user_loader(lambda _key: Robot())  # type: ignore[attr-defined]  # likewise
    client = app.test_client()
    with client.session_transaction() as kept:
        kept.update(_user_id="1", _fresh=True)
    with pytest.raises(TypeError, match="exempt_when"):
        client.get("/guarded")
    smsverify_of(app).exempt_when(lambda user: isinstance(user, Robot))
    assert client.get("/guarded").text == "guarded"


def test_an_async_exempt_when_is_a_configuration_error(app: Flask, client: FlaskClient) -> None:
    """It returns a coroutine, which is true."""

    async def rule(_user: object) -> bool:
        return False

    made: list[Any] = []
    smsverify_of(app).exempt_when(lambda user: made.append(rule(user)) or made[-1])
    with pytest.raises(ConfigurationError, match="exempt_when"):
        client.get("/guarded")
    made[-1].close()


def test_a_pattern_that_matches_everything_leaves_the_own_pages_open(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, SMSVERIFY_AREAS={"all": ["*"]})
    client = app.test_client()
    with client.session_transaction() as kept:
        kept.update(_user_id="1", _fresh=True)
    assert client.get(PAGE).status_code == 200
    assert is_served(client, "/verify-mobile/static/smsverify.js")
    assert stopped(client.get("/open"))
    prove(app, client)
    assert client.get("/open").text == "open"


# --- exempt users and callbacks ---------------------------------------------------------------


@pytest.mark.parametrize("groups", [["staff"], "staff", ("x", SimpleNamespace(name="staff")), None])
def test_a_group_exempts_from_the_next_request_on_and_only_while_the_user_is_in_it(
    make_app: MakeApp, sqlite: str, groups: Any
) -> None:
    """Case 36 of docs/safety.md."""
    app = make_app(sqlite, SMSVERIFY_EXEMPT_GROUPS=["staff"])
    if groups is not None:
        smsverify_of(app).groups_getter(lambda user: groups if user.group else [])
    client = browser(app)
    assert stopped(client.get("/guarded"))
    set_user(app, group="staff")
    assert client.get("/guarded").text == "guarded"
    assert client.get(PAGE, query_string={"next": "/guarded"}).location == "/guarded"
    client.post(SEND)
    assert phone(app).messages == []
    set_user(app, group=None)
    assert stopped(client.get("/guarded"))


def test_exempt_when_exempts_a_user(app: Flask, client: FlaskClient) -> None:
    smsverify_of(app).exempt_when(lambda user: user.note == "vip")
    assert stopped(client.get("/guarded"))
    set_user(app, note="vip")
    assert client.get("/guarded").text == "guarded"
    assert client.get(STATUS).json["state"] == "exempt"


def test_mobile_getter_replaces_the_mobile_field(app: Flask, client: FlaskClient) -> None:
    smsverify_of(app).mobile_getter(lambda user: user.note)
    set_user(app, note="0935 111 2233")
    prove(app, client)
    assert phone(app).last.to == "+989351112233"
    assert client.get("/guarded").text == "guarded"
    set_user(app, note="0935 111 2244")
    assert stopped(client.get("/guarded"))


def test_unverified_handler_replaces_the_response_and_gets_the_decision(app: Flask) -> None:
    seen: list[Decision] = []

    @smsverify_of(app).unverified_handler
    def answer(decision: Decision) -> tuple[str, int]:
        seen.append(decision)
        return "verify first", 402

    add(app, "/pay", require_verified_mobile(area="pay", within=timedelta(minutes=5))(ok))
    client = browser(app)
    got = client.get("/pay")
    assert (got.text, got.status_code) == ("verify first", 402)
    prove(app, client)
    age(app, timedelta(minutes=6))
    client.get("/pay")
    age(app, timedelta(days=91))
    client.get("/pay")
    assert [(found.reason, found.area) for found in seen] == [
        ("unverified", "pay"),
        ("too_old", "pay"),
        ("expired", "pay"),
    ]
    assert browser(app, None).get("/pay").status_code == 401


def test_an_unverified_handler_that_returns_none_opens_nothing(
    app: Flask, client: FlaskClient
) -> None:
    smsverify_of(app).unverified_handler(lambda _decision: None)
    app.testing = app.config["PROPAGATE_EXCEPTIONS"] = False
    answer = client.get("/guarded")
    assert (answer.status_code, "guarded" in answer.text) == (500, False)


def test_an_unauthorized_handler_that_returns_none_opens_nothing(app: Flask) -> None:
    app.login_manager.unauthorized_handler(lambda: None)  # type: ignore[attr-defined]  # Flask-Login puts it there
    app.testing = app.config["PROPAGATE_EXCEPTIONS"] = False
    answer = browser(app, None).get("/guarded")
    assert (answer.status_code, "guarded" in answer.text) == (500, False)


def test_an_exception_of_unverified_handler_reaches_the_host(
    app: Flask, client: FlaskClient
) -> None:
    smsverify_of(app).unverified_handler(lambda _decision: abort(410))
    assert client.get("/guarded").status_code == 410


# --- anonymous visitors and methods -----------------------------------------------------------


def test_an_anonymous_browser_is_sent_to_the_login_and_a_program_gets_401(app: Flask) -> None:
    app.add_url_rule("/enter", "enter", ok)
    app.login_manager.login_view = "enter"  # type: ignore[attr-defined]  # Flask-Login puts it there
    stranger = browser(app, None)
    assert stranger.get("/guarded?a=1").location == "/enter?next=%2Fguarded%3Fa%3D1"
    assert stranger.get(PAGE).location == "/enter?next=%2Fverify-mobile%2F"
    answer = stranger.get("/guarded", headers=JSON)
    assert (answer.status_code, json.loads(answer.text)["code"]) == (401, "login_required")
    for path in (SEND, CHECK, MOBILE):
        sent = stranger.post(path, data={"next": "/open"})
        assert sent.location == "/enter?next=%2Fverify-mobile%2F%3Fnext%3D%2Fopen", path


def test_options_and_login_disabled_pass(app: Flask, client: FlaskClient) -> None:
    assert client.options("/guarded").status_code == 200
    assert browser(app, None).options("/guarded").status_code == 200
    app.config["LOGIN_DISABLED"] = True
    assert browser(app, None).get("/guarded").text == "guarded"
    assert client.get("/guarded").text == "guarded"


def test_a_head_request_is_guarded(app: Flask, client: FlaskClient) -> None:
    assert client.head("/guarded").location == "/verify-mobile/?next=/guarded"


# --- `next` -----------------------------------------------------------------------------------


def test_a_proof_redirects_to_the_page_that_was_requested(make_app: MakeApp, sqlite: str) -> None:
    targets = [
        "/guarded?a=1&b=2",
        "/guarded?q=%D8%B3%D9%84%D8%A7%D9%85&x=%26",
        "/find/a%3Fb?c=d",
        "/find/%23python",
        "/find/%D8%B3",
        "/find/50%25",
    ]
    app = make_app(sqlite, users=len(targets))
    add(app, "/find/<what>", require_verified_mobile(lambda what: what))
    for user, target in enumerate(targets, start=1):
        client = browser(app, user)
        page = client.get(client.get(target).location)
        client.post(SEND)
        wanted = html.unescape(page.text.split('name="next" value="')[1].split('"')[0])
        answer = client.post(CHECK, data={"code": last_code(app), "next": wanted})
        assert answer.location == target
        assert client.get(answer.location).status_code == 200
        forget_limits(app)


def test_after_a_refused_post_next_is_the_referrer_if_it_is_on_this_site(
    client: FlaskClient,
) -> None:
    foreign = [
        "http://evil.example/cart",
        "http://localhost.evil.example/cart",
        "http://localhost@evil.example/cart",
        "https://localhost:81/cart",
        "http://localhost//evil.example/",
        "javascript:alert(1)",
        "http://[",
        "about:client",
        "",
    ]
    for referrer in foreign:
        answer = client.post("/guarded", headers={"Referer": referrer})
        assert answer.location == PAGE, referrer
    ours = client.post("/guarded", headers={"Referer": "http://localhost/cart?a=1"})
    assert ours.location == "/verify-mobile/?next=/cart?a%3D1"


def test_a_very_long_url_is_not_passed_on_as_next(client: FlaskClient) -> None:
    assert client.get("/guarded?" + "a" * 3000).location == PAGE


# --- queries ----------------------------------------------------------------------------------

WIDGETS = """
{% from "smsverify/widgets.html" import status_badge, status_card, sidebar_item %}
{{ status_badge(user) }}{{ status_card(user) }}{{ sidebar_item(user) }}
"""


def _with_widgets(app: Flask) -> None:
    from flask_login import current_user

    def view() -> str:
        return render_template_string(WIDGETS, user=current_user)

    add(app, "/widgets", view)
    add(app, "/guarded-widgets", require_verified_mobile(require_verified_mobile("b")(view)))


def test_guards_and_widgets_of_a_request_share_one_select(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_AREAS={"all": ["guarded*"]})
    _with_widgets(app)
    smsverify_of(app).guard(app, except_=["login", "widgets"])
    client = browser(app)
    prove(app, client)
    for path in ("/guarded", "/guarded-widgets", "/widgets"):
        with statements(app) as seen:
            assert client.get(path).status_code == 200
        assert len(seen) == 1, path
        assert seen[0].startswith("SELECT")


def test_a_guard_reads_no_challenge_of_a_verified_user(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite)
    client = browser(app)
    prove(app, client)
    with statements(app) as seen:
        assert client.get("/guarded").status_code == 200
    (select,) = seen
    assert "smsverify_verification" in select
    assert "smsverify_challenge" not in select


def test_a_guards_decision_shows_that_a_code_is_open(make_app: MakeApp, database: str) -> None:
    app = make_app(database)
    states: list[str] = []

    def refuse(decision: Decision) -> tuple[str, int]:
        assert decision.status is not None
        states.append(decision.status.state)
        return "", 403

    smsverify_of(app).unverified_handler(refuse)
    client = browser(app)
    client.get("/guarded")
    client.post(SEND)
    client.get("/guarded")
    assert states == ["unverified", "pending"]


def test_a_widget_shows_the_open_code_after_a_guard_could_not_read_the_ledger(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.register_error_handler(StoreUnavailable, lambda _error: _state())
    client = browser(app)
    client.post(SEND)

    def read(_work: object) -> None:
        raise StoreUnavailable("the pool is exhausted")

    monkeypatch.setattr(app.extensions["smsverify"].ledger, "read", read)
    assert client.get("/guarded").text == "pending"


def test_a_widget_shows_the_open_code_if_the_proof_ends_after_the_guard(app: Flask) -> None:
    def view() -> str:
        before = _state()
        app.extensions["smsverify"].live.update(revalidation_days=1)
        return f"{before}, {_state()}"

    add(app, "/ending", require_verified_mobile(view))
    client = browser(app)
    prove(app, client)
    age(app, timedelta(days=2))
    forget_limits(app)
    with app.app_context():
        app.extensions["smsverify"].verifier.start(db.session.get(User, 1))
    assert client.get("/ending").text == "verified, pending"


def test_the_widgets_after_a_proof_that_ended_share_one_more_select(app: Flask) -> None:
    def view() -> str:
        app.extensions["smsverify"].live.update(revalidation_days=1)
        return ", ".join(_state() for _ in range(3))

    add(app, "/ending", require_verified_mobile(view))
    client = browser(app)
    prove(app, client)
    age(app, timedelta(days=2))
    with statements(app) as seen:
        assert client.get("/ending").text == "expired, expired, expired"
    assert len([statement for statement in seen if "smsverify_verification" in statement]) == 2


def _state() -> str:
    from flask_login import current_user

    return current_status(current_user).state


def test_a_refused_request_makes_two_selects_and_an_exempt_one_none(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, SMSVERIFY_EXEMPT_GROUPS=["staff"])
    app.extensions["smsverify"].ledger.identify()  # once for each process
    client = browser(app)
    with statements(app) as seen:
        assert stopped(client.get("/guarded"))
    assert len(seen) == 2  # the second reads the ledger, which decides
    set_user(app, group="staff")
    with statements(app) as seen:
        client.get("/guarded")
    assert seen == []


def test_the_widgets_show_the_status_of_a_user(app: Flask) -> None:
    _with_widgets(app)
    client = browser(app)

    def badge() -> str:
        text = client.get("/widgets", headers={"Accept-Language": "en"}).text
        assert "+989123450001" not in text
        return text.split('class="sv-badge sv-')[1].split('"')[0]

    with browser(app, None).get("/widgets") as answer:
        assert "sv-badge sv-unverified" in answer.text
    assert badge() == "unverified"
    client.post(SEND)
    assert badge() == "pending"
    client.post(CHECK, data={"code": last_code(app)})
    assert badge() == "verified"
    age(app, timedelta(days=91))
    assert badge() == "expired"


def test_a_widget_shows_a_change_made_in_the_same_request(make_app: MakeApp, database: str) -> None:
    """On MariaDB the transaction of the request does not see the change."""
    app = make_app(database)

    def revoke() -> str:
        from flask_login import current_user

        before = render_template_string(WIDGETS, user=current_user)
        smsverify_of(app).verifier.revoke(current_user, by="test")
        return before + "<hr>" + render_template_string(WIDGETS, user=current_user)

    add(app, "/revoke", require_verified_mobile(revoke))
    client = browser(app)
    prove(app, client)
    before, _, after = client.get("/revoke").text.partition("<hr>")
    assert "sv-badge sv-verified" in before
    assert "sv-badge sv-unverified" in after
    assert stopped(client.get("/guarded"))


def test_no_status_is_cached_across_requests(app: Flask, client: FlaskClient) -> None:
    """Tests of host apps often keep one app context open over many requests."""
    prove(app, client)
    with app.app_context():
        assert client.get("/guarded").text == "guarded"
        db.session.execute(db.text("UPDATE smsverify_verification SET mobile = '+989120000000'"))
        db.session.commit()
        assert stopped(client.get("/guarded"))


# --- RECHECK_SECONDS --------------------------------------------------------------------------


@pytest.fixture
def trusting(make_app: MakeApp, sqlite: str) -> Flask:
    """An app whose guards trust a session stamp for an hour, with two users."""
    app = make_app(sqlite, users=2, SMSVERIFY_RECHECK_SECONDS=3600)
    app.extensions["smsverify"].ledger.identify()  # once for each process
    return app


def looks(app: Flask, client: FlaskClient, path: str = "/guarded") -> tuple[int, int]:
    """Return the status of a GET, and the number of statements on `smsverify_` tables.

    A refusal takes two: the ledger decides before it.
    """
    with statements(app) as seen:
        status = client.get(path).status_code
    return status, len(seen)


def test_a_stamp_replaces_the_query(trusting: Flask) -> None:
    client = browser(trusting)
    assert looks(trusting, client) == (302, 2)
    prove(trusting, client)
    assert looks(trusting, client) == (200, 1)
    assert looks(trusting, client) == (200, 0)
    assert looks(trusting, client) == (200, 0)


def test_a_stamp_counts_for_its_user_and_mobile_only(trusting: Flask) -> None:
    client = browser(trusting)
    prove(trusting, client)
    looks(trusting, client)
    cookie = client.get_cookie("session").value
    client.get("/login/2")
    assert looks(trusting, client) == (302, 2)
    replay = browser(trusting, None)
    replay.set_cookie("session", cookie)
    assert looks(trusting, replay) == (200, 0)
    for mobile in ("09129998877", None):
        set_user(trusting, mobile=mobile)
        assert looks(trusting, replay) == (302, 2)


def test_a_stamp_that_is_old_or_from_the_future_is_ignored(trusting: Flask) -> None:
    client = browser(trusting)
    prove(trusting, client)
    looks(trusting, client)
    for shift in (-3601, 60):
        with client.session_transaction() as kept:
            whose, verified, seen = kept["_smsverify_seen"]
            kept["_smsverify_seen"] = [whose, verified, seen + shift]
        assert looks(trusting, client) == (200, 1)
    with trusting.app_context():
        db.session.execute(db.text("DELETE FROM smsverify_verification"))
        db.session.commit()
    assert looks(trusting, client) == (200, 0)
    with client.session_transaction() as kept:
        whose, verified, seen = kept["_smsverify_seen"]
        kept["_smsverify_seen"] = [whose, verified, seen - 3601]
    assert looks(trusting, client) == (302, 2)


def test_a_stamp_does_not_outlast_the_proof(trusting: Flask) -> None:
    client = browser(trusting)
    prove(trusting, client)
    looks(trusting, client)
    with client.session_transaction() as kept:
        whose, verified, seen = kept["_smsverify_seen"]
        kept["_smsverify_seen"] = [whose, verified - 90 * 86_400, seen]
    age(trusting, timedelta(days=90))
    assert looks(trusting, client) == (302, 2)


def test_a_stamp_ends_at_the_moments_at_which_it_and_the_proof_end(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, SMSVERIFY_RECHECK_SECONDS=3600)
    with app.app_context():
        flow = flow_of(app)
        flow.prove()
        end = flow.clock.now + timedelta(days=90)
        with app.test_request_context():
            for left, state in [(1, "verified"), (0, "expired")]:
                flow.clock.now = end - timedelta(seconds=left)
                request_cache.lookups().rows.clear()
                assert decide(flow.user()).status.state == state
        flow.verifier.mark_verified(flow.user(), by="staff")
        with app.test_request_context():
            assert decide(flow.user()).allowed
            with statements(app) as seen:
                for seconds, selects in [(0, 0), (3599, 0), (1, 1)]:
                    flow.clock.advance(seconds)
                    request_cache.lookups().rows.clear()
                    assert decide(flow.user()).allowed
                    assert len(seen) == selects, seconds


def test_a_stamp_of_a_proof_that_never_expires_is_used(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_RECHECK_SECONDS=3600, SMSVERIFY_REVALIDATION_DAYS=0)
    client = browser(app)
    prove(app, client)
    assert [looks(app, client) for _ in range(2)] == [(200, 1), (200, 0)]


@pytest.mark.parametrize("stamp", ["x", {}, ["x", 1.0], ["x", 1.0, 2.0, 3.0], ["x", 1.0, 2.0]])
def test_a_stamp_of_another_version_or_database_is_ignored(
    make_app: MakeApp, sqlite: str, stamp: object
) -> None:
    """Also in a database without any row yet."""
    app = make_app(sqlite, SMSVERIFY_RECHECK_SECONDS=3600)
    client = browser(app)
    with client.session_transaction() as kept:
        kept["_smsverify_seen"] = stamp
    assert stopped(client.get("/guarded"))


def test_no_stamp_is_written_for_a_proof_of_the_future(make_app: MakeApp, sqlite: str) -> None:
    """It is dated by a wrong clock, and a guard refuses it."""
    app = make_app(sqlite, SMSVERIFY_RECHECK_SECONDS=3600)
    with app.app_context():
        flow = flow_of(app)
        flow.prove()
        flow.clock.advance(-3600)
        with app.test_request_context():
            for _ in range(2):
                request_cache.lookups().rows.clear()
                assert decide(flow.user()).reason == "expired"


def test_a_stamp_of_an_older_proof_does_not_hide_a_newer_one(trusting: Flask) -> None:
    add(trusting, "/pay", require_verified_mobile(within=timedelta(minutes=10))(ok))
    client = browser(trusting)
    prove(trusting, client)
    age(trusting, timedelta(minutes=20))
    assert client.get("/guarded").text == "guarded"
    asked = client.get("/pay")
    assert stopped(asked)
    demand = client.get(asked.location).text.split('name="demand" value="')[1].split('"')[0]
    forget_limits(trusting)
    form = {"next": "/pay", "demand": demand}
    client.post(SEND, data=form)
    assert client.post(CHECK, data=form | {"code": last_code(trusting)}).location == "/pay"
    assert client.get("/pay").text == "ok"
    assert looks(trusting, client, "/pay") == (200, 1), "`within` ignores the stamp"


def test_no_stamp_is_written_without_recheck_seconds(app: Flask, client: FlaskClient) -> None:
    prove(app, client)
    client.get("/guarded")
    with client.session_transaction() as kept:
        assert "_smsverify_seen" not in kept


def test_no_stamp_is_written_for_an_exempt_user(make_app: MakeApp, sqlite: str) -> None:
    """Case 36 of docs/safety.md: a group that ends ends at the next request, with stamps too."""
    app = make_app(sqlite, SMSVERIFY_RECHECK_SECONDS=3600, SMSVERIFY_EXEMPT_GROUPS=["staff"])
    client = browser(app)
    set_user(app, group="staff")
    for _ in range(2):
        assert client.get("/guarded").text == "guarded"
    set_user(app, group=None)
    assert stopped(client.get("/guarded"))
    set_user(app, group="staff")
    assert client.get("/guarded").text == "guarded"
