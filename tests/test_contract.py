"""The public surface as it was promised: an app written from it, and each name and number in it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from blinker import Signal
from flask import Flask
from flask.testing import FlaskClient
from flask_login import LoginManager, UserMixin, login_required, login_user
from flask_sqlalchemy import SQLAlchemy

from flask_smsverify import SMSVerify, errors, require_verified_mobile, signals
from flask_smsverify.settings.schema import Settings
from flask_smsverify.testing import SenderContract, outbox

# --- an app written from the contract alone ----------------------------------------------------

db = SQLAlchemy()
login_manager = LoginManager()
smsverify = SMSVerify()


class Customer(UserMixin, db.Model):
    id = db.Column(db.Integer, primary_key=True)
    mobile = db.Column(db.String(20))
    groups: tuple[str, ...] = ()


@login_manager.user_loader
def load(key: str) -> Customer | None:
    return db.session.get(Customer, int(key))


def create_app(url: str) -> Flask:
    app = Flask(__name__)
    app.config.update(SECRET_KEY="secret", TESTING=True, SQLALCHEMY_DATABASE_URI=url)
    db.init_app(app)
    login_manager.init_app(app)
    smsverify.init_app(app, db, user_model=Customer)

    @app.route("/login")
    def login() -> str:
        login_user(db.session.get(Customer, 1))
        return "in"

    @app.route("/orders/new")
    @login_required
    @require_verified_mobile
    def new_order() -> str:
        return "ordered"

    with app.app_context():
        db.create_all()
        db.session.add(Customer(id=1, mobile="0912 123 4567"))
        db.session.commit()
    return app


@pytest.fixture
def shop(sqlite: str) -> Iterator[Flask]:
    app = create_app(sqlite)
    yield app
    app.extensions["smsverify"].close()
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def visitor(shop: Flask) -> FlaskClient:
    client = shop.test_client()
    client.get("/login")
    return client


def test_an_app_of_thirty_lines_works_in_a_browser(shop: Flask, visitor: FlaskClient) -> None:
    stopped = visitor.get("/orders/new")
    assert (stopped.status_code, stopped.location) == (302, "/verify-mobile/?next=/orders/new")
    page = visitor.get(stopped.location).text
    token = page.split('name="csrf_token" value="')[1].split('"')[0]
    form = {"csrf_token": token, "next": "/orders/new"}
    with outbox(shop) as box:
        assert visitor.post("/verify-mobile/send", data=form).status_code == 303
        checked = visitor.post("/verify-mobile/check", data=form | {"code": box.last.code})
    assert (checked.status_code, checked.location) == (303, "/orders/new")
    assert visitor.get("/orders/new").text == "ordered"


def test_an_app_of_thirty_lines_works_for_a_program(shop: Flask, visitor: FlaskClient) -> None:
    accept = {"Accept": "application/json"}
    assert visitor.get("/orders/new", headers=accept).status_code == 403
    header = {"X-CSRFToken": visitor.get("/verify-mobile/status").json["csrf_token"]}
    with outbox(shop) as box:
        sent = visitor.post("/verify-mobile/send", json={"next": "/orders/new"}, headers=header)
        code = box.last.code
    assert {name: type(value) for name, value in sent.json.items() if name in SUCCESS} == SUCCESS
    assert (sent.json["state"], sent.json["mobile"]) == ("pending", "+98912•••4567")
    assert (sent.json["channel"], sent.json["delivery"]) == ("sms", "sent")
    assert (sent.json["attempts_left"], sent.json["next"]) == (5, "/orders/new")
    assert sent.json["expires_at"].endswith("Z")
    checked = visitor.post("/verify-mobile/check", json={"code": code}, headers=header)
    assert (checked.status_code, checked.json["state"]) == (200, "verified")
    assert visitor.get("/orders/new", headers=accept).text == "ordered"


SUCCESS = {
    "state": str,
    "mobile": str,
    "channel": str,
    "expires_at": str,
    "resend_at": str,
    "attempts_left": int,
    "delivery": str,
    "next": str,
}

# --- the verifier ------------------------------------------------------------------------------


def test_the_verifier_does_what_the_table_says(shop: Flask) -> None:
    verifier_of = type(smsverify).verifier
    assert isinstance(verifier_of, property)
    with shop.app_context(), outbox(shop) as box:
        user, verifier = db.session.get(Customer, 1), smsverify.verifier
        assert verifier.status(user).state == "unverified"
        challenge = verifier.start(user, channel="sms", mobile=None, purpose="verify", ip="1.2.3.4")
        status = verifier.status(user)
        assert status.state == "pending"
        assert status.challenge is not None
        with pytest.raises(errors.TooSoon) as soon:
            verifier.resend(challenge, channel="voice", ip=None)
        assert 1 <= soon.value.retry_after <= 30
        right = box.last.code
        with pytest.raises(errors.InvalidCode):
            verifier.check(challenge, "12x456")
        with pytest.raises(errors.WrongCode) as wrong:
            verifier.check(user, f"{(int(right) + 1) % 10**6:06}", ip="1.2.3.4")
        assert wrong.value.attempts_left == 4
        verifier.check(challenge, right)
        status = verifier.status(user)
        assert (status.state, status.mobile, status.exempt) == ("verified", "+989121234567", False)
        assert status.expires_at - status.verified_at == timedelta(days=90)
        with pytest.raises(errors.NoChallenge):
            verifier.check(user, right)
        verifier.revoke(user, by="staff")
        assert verifier.status(user).state == "unverified"
        verifier.mark_verified(user, by="staff")
        assert verifier.status(user).state == "verified"
        verifier.forget(user)
        assert verifier.status(user).state == "unverified"


def test_a_number_is_proved_before_there_is_an_account(shop: Flask) -> None:
    with shop.app_context(), outbox(shop) as box:
        verifier = smsverify.verifier
        challenge = verifier.start_for("0935 111 2233", purpose="sign-up", ip=None)
        proof = verifier.check(verifier.load(challenge.id), box.last.code)
        token = verifier.proof_token(proof)
        mobile = verifier.load_proof(token, purpose="sign-up", max_age=600)
        assert mobile == "+989351112233"
        user = db.session.get(Customer, 1)
        user.mobile = mobile
        verifier.claim(token, user, purpose="sign-up")
        db.session.commit()
        assert verifier.status(user).state == "verified"
        with pytest.raises(errors.SMSVerifyError):
            verifier.claim(token, user, purpose="sign-up")


@pytest.mark.parametrize(
    ("call", "parameters"),
    [
        (require_verified_mobile, ["area", "within"]),
        (SMSVerify.init_app, ["self", "app", "db", "user_model"]),
        (SMSVerify.guard, ["self", "blueprint_or_app", "area", "except_"]),
        (SMSVerify.login_user, ["self", "user", "remember"]),
        (SMSVerify.register_gateway, ["self", "name", "cls"]),
        (SMSVerify.unverified_handler, ["self", "f"]),
        (SMSVerify.exempt_when, ["self", "f"]),
        (SMSVerify.mobile_getter, ["self", "f"]),
        (SMSVerify.mobile_setter, ["self", "f"]),
        (SMSVerify.groups_getter, ["self", "f"]),
    ],
)
def test_a_call_has_its_promised_parameters(call: Any, parameters: list[str]) -> None:
    assert list(inspect.signature(call).parameters) == parameters


def test_what_replaces_a_default_can_be_a_decorator() -> None:
    extension = SMSVerify()
    for name in (
        "unverified_handler",
        "exempt_when",
        "mobile_getter",
        "mobile_setter",
        "groups_getter",
    ):

        def given(*_arguments: Any) -> None:
            raise AssertionError

        assert getattr(extension, name)(given) is given


# --- errors, signals, settings -----------------------------------------------------------------

ERRORS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "ConfigurationError": (("m",), {}),
    "MobileRequired": (("m",), {}),
    "InvalidMobile": (("m",), {}),
    "RegionNotAllowed": (("m",), {}),
    "MobileTaken": (("m",), {}),
    "ChannelUnavailable": (("voice",), {}),
    "TooSoon": ((7,), {"retry_after": 7}),
    "RateLimited": ((7, "ip"), {"retry_after": 7, "scope": "ip"}),
    "InvalidCode": (("empty",), {}),
    "WrongCode": ((3,), {"attempts_left": 3}),
    "CodeExpired": (("m",), {}),
    "TooManyAttempts": ((7,), {"retry_after": 7}),
    "AccountLocked": (("m",), {}),
    "NoChallenge": (("m",), {}),
    "SendFailed": (([],), {"causes": ()}),
    "CheckFailed": ((errors.Unavailable("g", "r"),), {}),
    "StoreUnavailable": (("m",), {}),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_has_its_name_and_carries_what_was_promised(name: str) -> None:
    arguments, carried = ERRORS[name]
    error = getattr(errors, name)(*arguments)
    assert isinstance(error, errors.SMSVerifyError)
    assert {key: getattr(error, key) for key in carried} == carried


@pytest.mark.parametrize("name", ["Unavailable", "Rejected", "Unknown", "Misconfigured"])
def test_a_gateways_error_says_which_gateway_and_why(name: str) -> None:
    error = getattr(errors, name)("main", "no credit", code="14")
    assert isinstance(error, errors.SenderError)
    assert (error.sender, error.code, error.reason) == ("main", "14", "no credit")
    assert isinstance(error, errors.SMSVerifyError)
    assert not issubclass(errors.ConfigurationError, errors.SenderError)


@pytest.mark.parametrize(
    "name",
    [
        "code_sent",
        "mobile_verified",
        "verification_failed",
        "verification_revoked",
        "message_sent",
        "message_failed",
        "message_delivered",
        "message_received",
        "limit_reached",
    ],
)
def test_a_signal_has_its_name(name: str) -> None:
    assert isinstance(getattr(signals, name), Signal)


def test_signals_are_sent_with_the_app_and_without_a_code(shop: Flask) -> None:
    seen: list[tuple[str, Any, dict[str, Any]]] = []

    def receiver(name: str) -> Any:
        def receive(sender: Any, **values: Any) -> None:
            seen.append((name, sender, values))

        return receive

    names = ("code_sent", "mobile_verified", "verification_failed", "verification_revoked")
    receivers = {name: receiver(name) for name in names}
    for name, receive in receivers.items():
        getattr(signals, name).connect(receive)
    with shop.app_context(), outbox(shop) as box:
        user, verifier = db.session.get(Customer, 1), smsverify.verifier
        verifier.start(user)
        right = box.last.code
        with pytest.raises(errors.WrongCode):
            verifier.check(user, f"{(int(right) + 1) % 10**6:06}")
        verifier.check(user, right)
        verifier.revoke(user, by="staff")
    assert [name for name, _, _ in seen] == [
        "code_sent",
        "verification_failed",
        "mobile_verified",
        "verification_revoked",
    ]
    assert all(sender is shop for _, sender, _ in seen)
    said = repr([values for _, _, values in seen])
    assert right not in said
    assert "9121234567" not in said


KEYS = """
SENDERS ROUTES CODE_LENGTH CODE_LIFETIME MAX_ATTEMPTS RESEND RESEND_DELAYS REVALIDATION_DAYS
EXEMPT_GROUPS AREAS LOGIN_GATE MOBILE_FIELD EMAIL_FIELD GROUPS_FIELD ACCOUNTS_PER_MOBILE
MOBILE_POLICY DEFAULT_REGION ALLOWED_REGIONS LIMITS SEND_DEADLINE RECHECK_SECONDS
CONSECUTIVE_FAILURES SIGNATURE SITE_NAME CODE_TEXT WEBOTP_HOST URL_PREFIX ADMIN_URL NEXT_URL QUEUE
STAFF_MOBILES TEST_NUMBERS TEST_NUMBERS_UNTIL WEBHOOK_SECRET SIMULATOR_URL
"""


@pytest.mark.parametrize("key", KEYS.split())
def test_a_setting_has_its_name(key: str) -> None:
    assert hasattr(Settings.read({}, development=True), key.lower())


# --- addresses, statuses and codes -------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "path", "methods"),
    [
        ("smsverify.page", "/verify-mobile/", {"GET"}),
        ("smsverify.send", "/verify-mobile/send", {"POST"}),
        ("smsverify.check", "/verify-mobile/check", {"POST"}),
        ("smsverify.mobile", "/verify-mobile/mobile", {"GET", "POST"}),
        ("smsverify.status", "/verify-mobile/status", {"GET"}),
    ],
)
def test_an_endpoint_has_its_address_and_methods(
    shop: Flask, endpoint: str, path: str, methods: set[str]
) -> None:
    [rule] = shop.url_map.iter_rules(endpoint)
    assert rule.rule == path
    assert (rule.methods or set()) - {"HEAD", "OPTIONS"} == methods


STATUSES = {
    400: ["csrf"],
    401: ["login_required"],
    403: ["verification_required", "fresh_login_required"],
    404: ["no_challenge"],
    409: ["mobile_taken"],
    422: [
        "mobile_required",
        "invalid_mobile",
        "region_not_allowed",
        "channel_unavailable",
        "invalid_code",
        "wrong_code",
        "code_expired",
        "invalid_request",
    ],
    429: ["too_soon", "rate_limited", "too_many_attempts", "account_locked"],
    503: ["send_failed", "check_failed", "store_unavailable"],
}


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_of_the_verifier_has_a_status_and_a_code(error: str) -> None:
    from flask_smsverify.web.problems import problem_from_error

    if error == "ConfigurationError":
        with pytest.raises(errors.ConfigurationError):
            problem_from_error(errors.ConfigurationError("the host's to mend"))
        return
    found = problem_from_error(getattr(errors, error)(*ERRORS[error][0]))
    assert found.code in STATUSES[found.error.status]
    assert found.code == "".join(
        f"_{letter.lower()}" if letter.isupper() else letter for letter in error
    ).lstrip("_")


@pytest.mark.parametrize("code", [code for codes in STATUSES.values() for code in codes])
def test_every_code_has_words_of_its_own(code: str) -> None:
    from flask_smsverify.i18n.catalogue import Translator
    from flask_smsverify.i18n.problems import problem_text

    title, detail = problem_text(errors.PROBLEMS[code], {}, Translator("en"))
    unknown = problem_text(errors.ProblemError, {}, Translator("en"))
    assert title
    assert detail.endswith(".")
    assert title != unknown.title


def test_a_problem_has_the_promised_keys(visitor: FlaskClient) -> None:
    header = {"X-CSRFToken": visitor.get("/verify-mobile/status").json["csrf_token"]}
    visitor.post("/verify-mobile/send", json={}, headers=header)
    answer = visitor.post("/verify-mobile/send", json={}, headers=header)
    body = json.loads(answer.text)
    assert answer.mimetype == "application/problem+json"
    assert set(body) == {"type", "title", "status", "detail", "code", "final", "retry_after"}
    assert (body["status"], body["code"], body["final"]) == (429, "too_soon", False)
    assert answer.headers["Retry-After"] == str(body["retry_after"])


@pytest.mark.parametrize("name", ["page", "mobile", "base", "widgets"])
def test_a_template_has_its_name(shop: Flask, name: str) -> None:
    assert shop.jinja_env.get_template(f"smsverify/{name}.html")


def test_the_widgets_have_their_names(shop: Flask) -> None:
    with shop.test_request_context():
        user = db.session.get(Customer, 1)
        widgets = shop.jinja_env.get_template("smsverify/widgets.html").module
        for name in ("status_badge", "status_card", "sidebar_item"):
            assert "sv-" in getattr(widgets, name)(user)


def test_the_contract_of_senders_is_a_class_for_pytest() -> None:
    assert inspect.isclass(SenderContract)
