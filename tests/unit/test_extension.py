"""`SMSVerify.init_app`: errors at start, several apps in one process, gateways of the host."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import flask_login
import pytest
from conftest import MakeApp
from flask import Blueprint, Flask
from flask_login import LoginManager
from flask_sqlalchemy import SQLAlchemy
from hostapp import TextUser, User, UuidUser, db
from schema import create_tables
from visiting import CHECK, PAGE, SEND, STATUS, browser, last_code, phone, prove

from flask_smsverify import SMSVerify, require_verified_mobile
from flask_smsverify.errors import ConfigurationError, NoChallenge, TooSoon
from flask_smsverify.senders.base import Capability, CodeMessage, Receipt, Sender
from flask_smsverify.senders.base import DeliveryState as ReceiptStatus


def bare(**config: Any) -> Flask:
    """An app without the extension."""
    app = Flask("bare")
    app.config.update(
        SECRET_KEY="x", TESTING=True, SQLALCHEMY_DATABASE_URI="sqlite://", WTF_CSRF_ENABLED=False
    )
    app.config.update(config)
    return app


@pytest.fixture
def started() -> Any:
    """Return a function that initializes the extension on an app; it is closed afterwards."""
    apps: list[Flask] = []

    def start(app: Flask, extension: SMSVerify | None = None, **more: Any) -> Flask:
        db.init_app(app)
        LoginManager(app).user_loader(lambda key: db.session.get(User, int(key)))
        (extension or SMSVerify()).init_app(app, db, **{"user_model": User, **more})
        apps.append(app)
        return app

    yield start
    for app in apps:
        app.extensions["smsverify"].close()
        with app.app_context():
            db.engine.dispose()


def test_init_app_twice_is_an_error(app: Flask) -> None:
    with pytest.raises(ConfigurationError, match="already"):
        SMSVerify(app, db, user_model=User)
    with pytest.raises(ConfigurationError, match="already"):
        app.extensions["test_smsverify"].init_app(app, db, user_model=User)
    prove(app, browser(app))


def test_a_missing_argument_or_extension_or_key_is_named() -> None:
    app = bare()
    with pytest.raises(ConfigurationError, match="user_model=User"):
        SMSVerify(app)
    with pytest.raises(ConfigurationError, match="user_model=User"):
        SMSVerify().init_app(app, db)
    with pytest.raises(ConfigurationError, match=r"db\.init_app"):
        SMSVerify().init_app(app, db, user_model=User)
    without_key = bare(SECRET_KEY=None)
    db.init_app(without_key)
    with pytest.raises(ConfigurationError, match="SECRET_KEY"):
        SMSVerify().init_app(without_key, db, user_model=User)
    assert "smsverify" not in app.extensions


@pytest.mark.parametrize("model", [object, "User", SQLAlchemy])
def test_a_user_model_that_is_not_mapped_is_refused(model: Any) -> None:
    app = bare()
    db.init_app(app)
    with pytest.raises(ConfigurationError, match="user_model"):
        SMSVerify().init_app(app, db, user_model=model)


def test_init_app_can_be_called_again_after_an_error(started: Any) -> None:
    app = bare(SMSVERIFY_CODE_LENGTH=99)
    db.init_app(app)
    with pytest.raises(ConfigurationError):
        SMSVerify().init_app(app, db, user_model=User)
    assert "smsverify" not in app.extensions
    app.config["SMSVERIFY_CODE_LENGTH"] = 6
    extension = SMSVerify()
    extension.init_app(app, db, user_model=User)
    app.extensions["smsverify"].close()
    with app.app_context():
        db.engine.dispose()


def test_a_default_database_is_required_beside_named_binds() -> None:
    app = bare(SQLALCHEMY_DATABASE_URI=None, SQLALCHEMY_BINDS={"other": "sqlite://"})
    named = SQLAlchemy(app)
    with pytest.raises(ConfigurationError, match="SQLALCHEMY_DATABASE_URI"):
        SMSVerify().init_app(app, named, user_model=User)


@pytest.mark.parametrize("place", ["config", "constructor", "bind"])
@pytest.mark.parametrize("how", ["connect_args", "creator"])
def test_the_ledger_connects_with_the_engine_options_of_the_host(
    tmp_path: Path, place: str, how: str
) -> None:
    """A host configures how to connect once, in any of the places that Flask-SQLAlchemy reads."""
    made: list[sqlite3.Connection] = []

    class Counted(sqlite3.Connection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    path = str(tmp_path / "test.sqlite")
    options: dict[str, Any] = {"connect_args": {"factory": Counted}}
    if how == "creator":
        options = {"creator": lambda: Counted(path, check_same_thread=False)}
    url = f"sqlite:///{path}"
    config: dict[str, Any] = {"SQLALCHEMY_DATABASE_URI": url}
    if place == "config":
        config["SQLALCHEMY_ENGINE_OPTIONS"] = options
    if place == "bind":
        config = {
            "SQLALCHEMY_DATABASE_URI": None,
            "SQLALCHEMY_BINDS": {None: {"url": url} | options},
        }
    app = bare(**config)
    other = SQLAlchemy(app, engine_options=options if place == "constructor" else {})

    class Person(other.Model):  # type: ignore[name-defined]  # the usual way
        id = other.Column(other.Integer, primary_key=True)

    SMSVerify(app, other, user_model=Person)
    with app.app_context():
        other.create_all()
        made.clear()
        state = app.extensions["smsverify"]
        with pytest.raises(NoChallenge):
            state.verifier.load("0" * 32)
        assert len(made) == 1
        state.close()
        other.engine.dispose()


@pytest.mark.parametrize("key", ["STAFF_MOBILES", "TEST_NUMBERS"])
def test_an_invalid_number_in_a_setting_is_named_by_its_position(key: str) -> None:
    numbers = ["09120000001", "0912"]
    value = numbers if key == "STAFF_MOBILES" else dict.fromkeys(numbers, "123456")
    app = bare(**{f"SMSVERIFY_{key}": value})
    db.init_app(app)
    with pytest.raises(ConfigurationError, match=f"{key}: number 2"):
        SMSVerify().init_app(app, db, user_model=User)


def test_init_app_can_run_before_the_login_manager(started: Any) -> None:
    app = bare()
    db.init_app(app)
    SMSVerify(app, db, user_model=User)
    LoginManager(app).user_loader(lambda key: db.session.get(User, int(key)))
    assert app.test_client().get(PAGE).status_code == 401
    app.extensions["smsverify"].close()
    with app.app_context():
        db.engine.dispose()


def guarded_three_times(app: Flask, extension: SMSVerify) -> None:
    """Guard a view by the decorator, one by its blueprint, and handle the errors of another."""
    shop = Blueprint("shop", __name__, url_prefix="/shop")

    @app.get("/decorated")
    @require_verified_mobile
    def decorated() -> str:
        return "decorated"

    @shop.get("/in-blueprint")
    def in_blueprint() -> str:
        return "in blueprint"

    @shop.get("/refused")
    def refused() -> str:
        raise TooSoon(7)

    extension.guard(shop, except_=["refused"])
    extension.handle_errors(shop)
    app.register_blueprint(shop)


def test_views_blueprints_and_callbacks_may_be_registered_before_init_app(started: Any) -> None:
    app, extension = bare(), SMSVerify()
    guarded_three_times(app, extension)
    extension.unverified_handler(lambda decision: decision.reason)
    extension.exempt_when(lambda user: user.id == 2)

    @app.get("/login/<int:number>")
    def login(number: int) -> str:
        flask_login.login_user(db.session.get(User, number))
        return "logged in"

    started(app, extension)
    with app.app_context():
        create_tables(db)
        db.session.add_all([User(id=1, mobile="09123450001"), User(id=2, mobile="09123450002")])
        db.session.commit()
    for path, text in (("/decorated", "decorated"), ("/shop/in-blueprint", "in blueprint")):
        assert browser(app, None).get(path).status_code == 401
        assert browser(app, 1).get(path).text == "unverified"
        assert browser(app, 2).get(path).text == text
    assert browser(app, 1).get("/shop/refused").status_code == 429


def test_a_guarded_view_without_init_app_is_an_error_that_names_the_call() -> None:
    app, extension = bare(), SMSVerify()
    guarded_three_times(app, extension)
    for path in ("/decorated", "/shop/in-blueprint", "/shop/refused"):
        with pytest.raises(ConfigurationError, match=r"smsverify\.init_app\(app, db"):
            app.test_client().get(path)
    with app.app_context(), pytest.raises(ConfigurationError, match=r"smsverify\.init_app\("):
        _ = extension.verifier


def test_several_apps_in_one_process_are_independent(make_app: MakeApp, tmp_path: Any) -> None:
    first = make_app(f"sqlite:///{tmp_path}/1", SMSVERIFY_CODE_LENGTH=4)
    second = make_app(
        f"sqlite:///{tmp_path}/2",
        SMSVERIFY_CODE_LENGTH=8,
        SMSVERIFY_URL_PREFIX="/phone",
        SMSVERIFY_AREAS={"all": ["open_view"]},
        SMSVERIFY_NEXT_URL="/open",
    )
    one, two = browser(first), browser(second)
    one.post(SEND)
    two.post("/phone/send")
    assert (len(last_code(first)), len(last_code(second))) == (4, 8)
    assert one.get("/open").text == "open"
    assert two.get("/open").location == "/phone/?next=/open"
    assert one.get("/phone/").status_code == two.get(PAGE).status_code == 404
    assert one.post(CHECK, data={"code": last_code(first)}).location == "/"
    assert two.post("/phone/check", data={"code": last_code(second)}).location == "/open"
    assert phone(first) is not phone(second)


def test_several_apps_serve_several_threads_in_parallel(make_app: MakeApp, tmp_path: Any) -> None:
    apps = [make_app(f"sqlite:///{tmp_path}/{number}", users=3) for number in (1, 2)]
    failed: list[BaseException] = []
    barrier = threading.Barrier(6)

    def walk(app: Flask, user: int) -> None:
        try:
            client = browser(app, user)
            barrier.wait(10)
            assert client.post(SEND).status_code == 303
            own = f"+98912345000{user}"
            [code] = [kept.code for kept in phone(app).messages if kept.to == own]
            assert client.post(CHECK, data={"code": code}).location == "/"
            assert client.get(STATUS).json["mobile"].endswith(f"000{user}")
            assert client.get("/guarded").text == "guarded"
        except BaseException as error:  # noqa: BLE001 -- raised by the main thread
            failed.append(error)

    threads = [
        threading.Thread(target=walk, args=(app, user)) for app in apps for user in (1, 2, 3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failed == []


def test_one_extension_object_serves_several_apps_with_its_callbacks(started: Any) -> None:
    smsverify = SMSVerify()
    smsverify.exempt_when(lambda _user: True)
    for app in (started(bare(), smsverify), started(bare(), smsverify)):
        with app.app_context():
            db.create_all()
            db.session.add(User(id=1))
            db.session.commit()
            assert smsverify.verifier.status(db.session.get(User, 1)).state == "exempt"
    with pytest.raises(RuntimeError):
        _ = smsverify.verifier  # outside any app


@pytest.mark.parametrize("model", [TextUser, UuidUser])
def test_users_with_text_or_uuid_keys_can_verify(
    make_app: MakeApp, database: str, model: Any
) -> None:
    app = make_app(database, user_model=model)
    with app.app_context():
        user = model(mobile="09123450001", **({"id": "áB3"} if model is TextUser else {}))
        db.session.add(user)
        db.session.commit()
        key = str(user.id)
    client = app.test_client()
    client.get(f"/login/{key}")
    assert client.get("/guarded").status_code == 302
    prove(app, client)
    assert client.get("/guarded").text == "guarded"


class Carrier(Sender):
    """A gateway of the host's own."""

    gateway = "carrier"

    def __init__(self, *, name: str | None = None, pigeons: int = 1) -> None:
        super().__init__(name=name)
        self.sent: list[CodeMessage] = []

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.CODE_SMS})

    def send_code(self, message: CodeMessage) -> Receipt:
        self.sent.append(message)
        return Receipt(message.to, ReceiptStatus.SENT, "1", reference=message.reference)


def test_a_registered_gateway_sends_codes(started: Any) -> None:
    smsverify = SMSVerify()
    smsverify.register_gateway("carrier", Carrier)
    senders = {"main": {"gateway": "carrier", "pigeons": 3}}
    app = started(bare(SMSVERIFY_SENDERS=senders), smsverify)
    with app.app_context():
        db.create_all()
        db.session.add(User(id=1, mobile="09123450001"))
        db.session.commit()
        user = db.session.get(User, 1)
        smsverify.verifier.start(user)
        sender = app.extensions["smsverify"].delivery.routes.senders["main"]
        assert smsverify.verifier.check(user, sender.sent[0].code).mobile == "+989123450001"


@pytest.mark.parametrize("gateway", [object, Carrier(), "carrier"])
def test_a_gateway_must_be_a_subclass_of_sender(gateway: Any) -> None:
    with pytest.raises(ConfigurationError, match="Sender"):
        SMSVerify().register_gateway("carrier", gateway)


WIKIPAYAM = {"gateway": "wikipayam", "token": "t", "line": "1000", "otp_pattern_id": 1}


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ({"SMSVERIFY_CODE_LENGTH": 5}, "one guess in 100,000 is right"),
        ({"SMSVERIFY_CONSECUTIVE_FAILURES": 101}, "at most 100 are recommended"),
        (
            {"TESTING": False, "SMSVERIFY_SITE_NAME": "Shop"},
            "only stores codes in memory and sends none",
        ),
        (
            {"TESTING": False, "SMSVERIFY_SENDERS": {"main": WIKIPAYAM}},
            "SMSVERIFY_SITE_NAME is not set",
        ),
        ({"SMSVERIFY_CODE_LENGTH": 6, "SMSVERIFY_CONSECUTIVE_FAILURES": 100}, ""),
    ],
)
def test_a_weak_setting_logs_a_warning(
    make_app: MakeApp,
    sqlite: str,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    warning: str,
) -> None:
    make_app(sqlite, **{"SMSVERIFY_SENDERS": {"memory": {"gateway": "memory"}}, **options})
    warned = [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("flask_smsverify")
    ]
    assert len(warned) == bool(warning), warned
    assert warning in "".join(warned)
