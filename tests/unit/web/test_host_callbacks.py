"""Callbacks of the host: plain functions, users of other classes, and objects that wrap a user."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from flask import Flask, render_template_string
from flask_login import UserMixin, current_user
from hostapp import User, db
from models import host, model_of
from visiting import CHECK, MOBILE, OTHER, OWN, PAGE, SEND, STATUS, last_code

from flask_smsverify import SMSVerify
from flask_smsverify.errors import ConfigurationError

CARD = '{% from "smsverify/widgets.html" import status_card %}{{ status_card(user) }}'
SIGN_IN = "/verify-mobile/sign-in"
CALLBACKS = (
    "unverified_handler",
    "exempt_when",
    "mobile_getter",
    "mobile_setter",
    "groups_getter",
    "user_getter",
    "locale_getter",
    "address_getter",
    "user_by_mobile",
    "user_factory",
    "before_anonymous_send",
    "staff_required",
)


async def asynchronous(*_arguments: Any) -> bool:
    return True


class AsyncCall:
    async def __call__(self, *_arguments: Any) -> bool:
        return True


@pytest.mark.parametrize("name", CALLBACKS)
def test_an_async_callback_is_refused_by_name_at_registration(name: str) -> None:
    register = getattr(SMSVerify(), name)
    for function in (asynchronous, functools.partial(asynchronous, 1), AsyncCall()):
        with pytest.raises(ConfigurationError, match=f"@smsverify.{name} must be a plain"):
            register(function)
    with pytest.raises(ConfigurationError, match=f"@smsverify.{name} must be given a function"):
        register(True)


def hidden(user: Any) -> Any:
    """Look like a plain function, and return an awaitable."""
    return asynchronous(user)


def test_a_callback_that_returns_an_awaitable_is_refused_by_name(app: Flask) -> None:
    app.extensions["test_smsverify"].mobile_getter(hidden)
    with (
        app.app_context(),
        pytest.raises(ConfigurationError, match=r"@smsverify\.mobile_getter must be a plain"),
    ):
        app.extensions["smsverify"].verifier.status(db.session.get(User, 1))


class Admin(UserMixin):
    """A user of another class, without a row in the user model's table."""

    id = "admin"


class Wrapped(UserMixin):
    """What Flask-Login knows a user as, in a host that wraps its users."""

    def __init__(self, user: Any) -> None:
        self.user = user

    def get_id(self) -> str:
        return str(self.user.id)


def define(db: Any) -> Any:
    return model_of(db, mobile=db.Column(db.String(16)))


def load(db: Any, model: Any, key: str) -> Any:
    return Admin() if key == "admin" else Wrapped(db.session.get(model, int(key)))


def prepare(smsverify: SMSVerify) -> None:
    smsverify.user_getter(lambda current: getattr(current, "user", None))
    smsverify.exempt_when(lambda user: isinstance(user, Admin))


def test_an_exempt_user_of_another_class_passes_guards_and_pages(sqlite: str) -> None:
    config = {"SMSVERIFY_EXEMPT_GROUPS": ["staff"], "loader": load, "prepare": prepare}
    with host(sqlite, define, **config) as (app, _db, _model):
        client = app.test_client()
        client.get("/login/admin")
        assert client.get("/guarded").text == "guarded"
        assert client.get(PAGE, query_string={"next": "/guarded"}).location == "/guarded"
        assert client.post(SEND).location == "/"
        status = client.get(STATUS).json
        assert (status["state"], status["exempt"], status["mobile"]) == ("exempt", True, None)
        assert {"channel", "expires_at", "attempts_left", "delivery"} <= set(status)
        with app.test_request_context():
            verifier = app.extensions["smsverify"].verifier
            assert verifier.status(Admin()).state == "exempt"


def test_the_login_gate_logs_an_exempt_user_of_another_class_in(sqlite: str) -> None:
    config = {"SMSVERIFY_LOGIN_GATE": True, "loader": load, "prepare": prepare}
    with host(sqlite, define, **config) as (app, _db, _model):
        smsverify = app.extensions["test_smsverify"]
        app.add_url_rule("/enter", "enter", lambda: str(smsverify.login_user(Admin())))
        client = app.test_client()
        assert client.get("/enter").text == "True"
        assert client.get("/guarded").text == "guarded"


def test_a_pending_login_ends_when_its_login_id_belongs_to_another_user_or_nobody(
    sqlite: str,
) -> None:
    holder: dict[str, int | None] = {"tea": 1}

    class Named(Wrapped):
        def get_id(self) -> str:
            return "tea"

    def load_by_name(db: Any, model: Any, key: str) -> Any:
        found = holder[key]
        return None if found is None else Named(db.session.get(model, found))

    config = {"SMSVERIFY_LOGIN_GATE": True, "loader": load_by_name, "prepare": prepare}
    with host(sqlite, define, **config) as (app, db, model):
        smsverify = app.extensions["test_smsverify"]
        with app.app_context():
            db.session.add_all([model(id=1, mobile=OWN), model(id=2, mobile=OTHER)])
            db.session.commit()

        @app.route("/enter")
        def enter() -> str:
            return str(smsverify.login_user(load_by_name(db, model, "tea")))

        client = app.test_client()
        client.get("/enter")
        assert client.get(PAGE).status_code == 200
        for other in (2, None):
            holder["tea"] = other
            assert client.get(PAGE).status_code == 401
        holder["tea"] = 1
        assert client.get(PAGE).status_code == 200


def test_cards_are_shown_to_an_exempt_user_of_another_class(sqlite: str) -> None:
    """A member of staff of another class sees an own card, and sends a code from a user's."""

    def prepare_staff(smsverify: SMSVerify) -> None:
        prepare(smsverify)
        smsverify.staff_required(lambda: isinstance(current_user._get_current_object(), Admin))

    with host(sqlite, define, loader=load, prepare=prepare_staff) as (app, db, model):
        with app.app_context():
            db.session.add(model(id=1, mobile=OWN))
            db.session.commit()

        @app.route("/card/<key>")
        def card(key: str) -> str:
            return render_template_string(CARD, user=load(db, model, key))

        client = app.test_client()
        client.get("/login/admin")
        assert "<form" not in client.get("/card/admin").text
        assert 'action="/admin/smsverify/verifications/1/resend"' in client.get("/card/1").text


class Plain:
    """Wraps a user, and is equal to no other object."""

    is_authenticated = is_active = True
    is_anonymous = False

    def __init__(self, user: Any) -> None:
        self.user = user

    def get_id(self) -> str:
        return str(self.user.id)


@pytest.mark.parametrize("number", [1, 2])
def test_a_second_sign_in_keeps_the_session_of_the_same_user_only(sqlite: str, number: int) -> None:
    def load_plain(db: Any, model: Any, key: str) -> Any:
        return Plain(db.session.get(model, int(key)))

    config = {"SMSVERIFY_SIGN_IN": True, "loader": load_plain, "prepare": prepare}
    with host(sqlite, define, **config) as (app, db, model):
        with app.app_context():
            db.session.add_all([model(id=1, mobile=OWN), model(id=2, mobile=OTHER)])
            db.session.commit()
            for user in db.session.scalars(db.select(model)).all():
                app.extensions["smsverify"].verifier.mark_verified(user, by="the tests")
        client = app.test_client()
        client.get("/login/1")
        with client.session_transaction() as session:
            session["cart"] = ["tea"]
        client.post(SIGN_IN, data={"mobile": {1: OWN, 2: OTHER}[number]})
        app.extensions["smsverify"].workers.wait()
        client.post(f"{SIGN_IN}/check", data={"code": last_code(app)})
        with client.session_transaction() as session:
            assert session["_user_id"] == str(number)
            assert ("cart" in session) is (number == 1)


@pytest.mark.parametrize("gate", [False, True])
def test_a_user_behind_a_wrapper_is_verified(sqlite: str, gate: bool) -> None:
    config = {"SMSVERIFY_LOGIN_GATE": gate, "loader": load, "prepare": prepare}
    with host(sqlite, define, **config) as (app, db, model):
        smsverify = app.extensions["test_smsverify"]

        @app.route("/enter/<key>")
        def enter(key: str) -> Any:
            answer = smsverify.login_user(load(db, model, key))
            return "logged in" if answer is True else answer

        with app.app_context():
            db.session.add(model(id=1))
            db.session.commit()
        client = app.test_client()
        client.get("/enter/1")
        client.post(MOBILE, data={"mobile": OTHER, "send": "1"})
        client.post(CHECK, data={"code": last_code(app)})
        assert client.get("/guarded").text == "guarded"
        with app.app_context():
            assert db.session.get(model, 1).mobile == OTHER


def test_the_locale_getter_of_users_gets_the_user_behind_a_wrapper(sqlite: str) -> None:
    asked: list[Any] = []

    def prepare_with_locale(smsverify: SMSVerify) -> None:
        prepare(smsverify)
        smsverify.user_locale_getter(lambda user: asked.append(user) or "en")

    config = {"loader": load, "prepare": prepare_with_locale}
    with host(sqlite, define, **config) as (app, db, model), app.app_context():
        user = model(id=1, mobile=OTHER)
        db.session.add(user)
        db.session.commit()
        smsverify = app.extensions["test_smsverify"]
        values = dict.fromkeys(smsverify.events["invoice.paid"].values, "1")
        smsverify.notify("invoice.paid", Wrapped(user), **values)
        assert asked == [user]
        db.session.rollback()
