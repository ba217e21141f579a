"""The public surface: an app of thirty lines, and every promised name and number.

Apps are written against these names. A test that fails here is a change that breaks apps.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from blinker import Signal
from flask import Flask
from flask.testing import FlaskClient
from flask_login import LoginManager, UserMixin, login_required, login_user
from flask_sqlalchemy import SQLAlchemy

import flask_smsverify
from flask_smsverify import (
    Proof,
    Sender,
    SMSVerify,
    Verifier,
    errors,
    require_verified_mobile,
    signals,
)
from flask_smsverify.settings import DEFAULT_LIMITS
from flask_smsverify.settings.schema import Settings
from flask_smsverify.simulator import Simulator
from flask_smsverify.testing import SenderContract, outbox

# --- an app of thirty lines -------------------------------------------------------------------

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
    app.config.update(
        SECRET_KEY="secret",
        TESTING=True,
        SQLALCHEMY_DATABASE_URI=url,
        SMSVERIFY_WEBHOOK_SECRET="a-webhook-secret",
        SMSVERIFY_SENDERS={
            "main": {"gateway": "asanak", "username": "u", "password": "p", "line": "9821000"}
        },
    )
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
    refused = visitor.get("/orders/new")
    assert (refused.status_code, refused.location) == (302, "/verify-mobile/?next=/orders/new")
    page = visitor.get(refused.location).text
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
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    assert re.fullmatch(time, sent.json["expires_at"])
    assert re.fullmatch(time, sent.json["resend_at"])
    promised = {
        "state": "pending",
        "mobile": "+98912•••4567",
        "channel": "sms",
        "attempts_left": 5,
        "delivery": "sent",
        "next": "/orders/new",
    }
    assert promised.items() <= sent.json.items()
    checked = visitor.post("/verify-mobile/check", json={"code": code}, headers=header)
    assert (checked.status_code, checked.json["state"]) == (200, "verified")
    assert visitor.get("/orders/new", headers=accept).text == "ordered"


def test_init_app_twice_is_an_error(shop: Flask) -> None:
    with pytest.raises(errors.ConfigurationError, match="already"):
        smsverify.init_app(shop, db, user_model=Customer)


def test_an_unknown_setting_is_an_error_that_names_the_nearest_known_one() -> None:
    with pytest.raises(errors.ConfigurationError, match="SMSVERIFY_LIMITS"):
        Settings.read({"SMSVERIFY_LIMIT": {}}, development=True)


def test_an_app_can_close_its_connections_and_go_on(shop: Flask, visitor: FlaskClient) -> None:
    for _ in range(2):
        with shop.app_context():
            smsverify.close()
        assert visitor.get("/verify-mobile/").status_code == 200


# --- the verifier -----------------------------------------------------------------------------


def test_the_verifier_starts_checks_revokes_and_forgets(shop: Flask) -> None:
    with shop.app_context(), outbox(shop) as box:
        user, verifier = db.session.get(Customer, 1), smsverify.verifier
        assert isinstance(verifier, Verifier)
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
            verifier.check(user, other_code(right), ip="1.2.3.4")
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


def other_code(code: str) -> str:
    """Return a wrong code of the same length."""
    return f"{(int(code) + 1) % 10 ** len(code):0{len(code)}}"


def test_a_mobile_can_be_proved_before_there_is_an_account(shop: Flask) -> None:
    with shop.app_context(), outbox(shop) as box:
        verifier = smsverify.verifier
        challenge = verifier.start_for("0935 111 2233", purpose="sign-up", ip=None)
        proof = verifier.check(verifier.load(challenge.id), box.last.code)
        assert isinstance(proof, Proof)
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


def test_public_calls_have_their_promised_parameters() -> None:
    for call, parameters in (
        (require_verified_mobile, ["area", "within"]),
        (SMSVerify.init_app, ["self", "app", "db", "user_model"]),
        (SMSVerify.guard, ["self", "blueprint_or_app", "area", "except_"]),
        (SMSVerify.login_user, ["self", "user", "remember"]),
        (SMSVerify.is_login_fresh, ["self"]),
        (SMSVerify.register_gateway, ["self", "name", "cls"]),
        (SMSVerify.close, ["self"]),
        (Verifier.start, ["self", "user", "channel", "mobile", "purpose", "ip"]),
        (Verifier.resend, ["self", "challenge", "channel", "ip"]),
        (Verifier.check, ["self", "challenge_or_user", "code", "ip"]),
        (Verifier.status, ["self", "user"]),
        (Verifier.mark_verified, ["self", "user", "by"]),
        (Verifier.revoke, ["self", "user", "by"]),
        (Verifier.forget, ["self", "user"]),
        (Verifier.start_for, ["self", "mobile", "purpose", "ip"]),
        (Verifier.load, ["self", "challenge_id"]),
        (Verifier.proof_token, ["self", "proof"]),
        (Verifier.load_proof, ["self", "token", "purpose", "max_age"]),
        (Verifier.claim, ["self", "token", "user", "purpose"]),
    ):
        actual = list(inspect.signature(call).parameters)
        in_order = [name for name in actual if name in parameters]
        assert in_order == parameters, call.__qualname__


def test_a_callback_can_be_registered_by_decorator() -> None:
    extension = SMSVerify()
    for name in (
        "unverified_handler",
        "exempt_when",
        "mobile_getter",
        "mobile_setter",
        "groups_getter",
    ):

        def callback(*_arguments: Any) -> None:
            raise AssertionError

        assert getattr(extension, name)(callback) is callback


# --- errors and signals -----------------------------------------------------------------------

#: Name → the arguments, and the attributes that the error has then.
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
    "CheckFailed": ((errors.Unavailable("main", "down"),), {}),
    "StoreUnavailable": (("m",), {}),
}


def test_every_error_has_its_name_and_its_attributes() -> None:
    for name, (arguments, attributes) in ERRORS.items():
        error = getattr(flask_smsverify, name)(*arguments)
        assert isinstance(error, flask_smsverify.SMSVerifyError), name
        assert {key: getattr(error, key) for key in attributes} == attributes, name
    cause = errors.Unavailable("main", "down")
    assert errors.SendFailed([cause]).causes == (cause,)
    assert errors.CheckFailed(cause).cause is cause


def test_every_error_can_be_imported_from_the_package() -> None:
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, errors.SMSVerifyError):
            assert getattr(flask_smsverify, name) is value
            assert name in flask_smsverify.__all__, name


def test_a_gateways_error_names_the_sender_the_gateway_the_cause_and_the_remedy() -> None:
    for name in ("Unavailable", "Rejected", "Unknown", "Misconfigured"):
        cls = getattr(flask_smsverify, name)
        error = cls("main", "no credit", gateway="raygan", code="14", advice="Buy credit.")
        assert isinstance(error, flask_smsverify.SenderError), name
        assert isinstance(error, flask_smsverify.SMSVerifyError), name
        assert (error.sender, error.gateway) == ("main", "raygan")
        assert (error.code, error.reason, error.advice) == ("14", "no credit", "Buy credit.")
        assert cls("main", "down").advice, f"{name} advises nothing by default"


def test_failover_cannot_catch_a_configuration_error() -> None:
    assert not issubclass(errors.ConfigurationError, errors.SenderError)


def test_every_signal_has_its_name() -> None:
    for name in (
        "code_sent",
        "mobile_verified",
        "verification_failed",
        "verification_revoked",
        "message_sent",
        "message_failed",
        "message_delivered",
        "message_received",
        "limit_reached",
    ):
        assert isinstance(getattr(signals, name), Signal), name


def test_signals_are_sent_with_the_app_and_without_a_code_or_a_mobile(shop: Flask) -> None:
    seen: list[tuple[str, Any, dict[str, Any]]] = []

    def receiver(name: str) -> Any:
        def receive(sender: Any, **values: Any) -> None:  # the usual signature of a receiver
            seen.append((name, sender, values))

        return receive

    names = [name for name, value in vars(signals).items() if isinstance(value, Signal)]
    receivers = {name: receiver(name) for name in names}  # blinker holds receivers weakly
    for name, receive in receivers.items():
        getattr(signals, name).connect(receive)
    with shop.app_context(), outbox(shop) as box:
        user, verifier = db.session.get(Customer, 1), smsverify.verifier
        verifier.start(user)
        right = box.last.code
        with pytest.raises(errors.WrongCode):
            verifier.check(user, other_code(right))
        verifier.check(user, right)
        verifier.revoke(user, by="staff")
    assert [name for name, _, _ in seen] == [
        "message_sent",
        "code_sent",
        "verification_failed",
        "mobile_verified",
        "verification_revoked",
    ]
    assert all(sender is shop for _, sender, _ in seen)
    values = repr([values for _, _, values in seen])
    assert right not in values
    assert "9121234567" not in values


# --- settings ---------------------------------------------------------------------------------

KEYS = """
SENDERS ROUTES CODE_LENGTH CODE_LIFETIME MAX_ATTEMPTS RESEND RESEND_DELAYS REVALIDATION_DAYS
EXEMPT_GROUPS AREAS LOGIN_GATE MOBILE_FIELD EMAIL_FIELD GROUPS_FIELD ACCOUNTS_PER_MOBILE
MOBILE_POLICY DEFAULT_REGION ALLOWED_REGIONS LIMITS SEND_DEADLINE RECHECK_SECONDS
CONSECUTIVE_FAILURES SIGNATURE SITE_NAME CODE_TEXT WEBOTP_HOST URL_PREFIX ADMIN_URL NEXT_URL QUEUE
STAFF_MOBILES TEST_NUMBERS TEST_NUMBERS_UNTIL WEBHOOK_SECRET SIMULATOR_URL SIGN_IN SIGN_UP
SIGN_UP_URL ANONYMOUS_CHALLENGE SIGN_IN_TOKEN SMS_RETRIEVER_HASH LOGIN_GATE_FIRST_PROOF
"""
SCOPES = "mobile user mobiles_per_user ip foreign site failures site_failures messages"


def test_every_setting_and_every_limit_has_its_name() -> None:
    settings = Settings.read({}, development=True)
    for key in KEYS.split():
        assert hasattr(settings, key.lower()), key
    assert set(SCOPES.split()) <= set(DEFAULT_LIMITS)


# --- URLs, statuses and codes -----------------------------------------------------------------


def test_every_endpoint_has_its_url_and_its_methods(shop: Flask) -> None:
    for endpoint, path, methods in (
        ("smsverify.page", "/verify-mobile/", {"GET"}),
        ("smsverify.send", "/verify-mobile/send", {"POST"}),
        ("smsverify.check", "/verify-mobile/check", {"POST"}),
        ("smsverify.mobile", "/verify-mobile/mobile", {"GET", "POST"}),
        ("smsverify.status", "/verify-mobile/status", {"GET"}),
        ("smsverify.sign_in", "/verify-mobile/sign-in", {"GET", "POST"}),
        ("smsverify.sign_in_check", "/verify-mobile/sign-in/check", {"POST"}),
    ):
        [rule] = shop.url_map.iter_rules(endpoint)
        assert rule.rule == path
        assert (rule.methods or set()) - {"HEAD", "OPTIONS"} == methods, path


def test_a_webhook_has_its_url_and_needs_no_csrf_token(shop: Flask) -> None:
    push = {"Destination": "9821000", "Source": "989123450001", "MsgBody": "سلام"}
    push["ReceiveTime"] = "2026-11-20 11:56:04"
    gateway = shop.test_client()
    url = "/verify-mobile/webhooks/main/a-webhook-secret"
    assert gateway.get(url, query_string=push).status_code == 200
    assert gateway.get(url[:-1], query_string=push).status_code == 404


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


def test_every_problem_code_has_its_status_and_a_text_of_its_own() -> None:
    from flask_smsverify.i18n.catalogue import Translator
    from flask_smsverify.i18n.problems import problem_text

    english = Translator("en")
    unknown = problem_text(errors.ProblemError, {}, english)
    for status, codes in STATUSES.items():
        for code in codes:
            assert errors.PROBLEMS[code].status == status, code
            title, detail = problem_text(errors.PROBLEMS[code], {}, english)
            assert title not in ("", unknown.title), code
            assert detail.endswith("."), code


def test_every_error_of_the_verifier_has_the_problem_code_of_its_name() -> None:
    from flask_smsverify.web.problems import problem_from_error

    for name, (arguments, _) in ERRORS.items():
        error = getattr(errors, name)(*arguments)
        if name == "ConfigurationError":
            with pytest.raises(errors.ConfigurationError):
                problem_from_error(error)
            continue
        problem = problem_from_error(error)
        assert problem.code == re.sub("(?<!^)(?=[A-Z])", "_", name).lower()
        assert problem.code in STATUSES[problem.error.status]


def test_a_problem_has_the_promised_members(visitor: FlaskClient, shop: Flask) -> None:
    header = {"X-CSRFToken": visitor.get("/verify-mobile/status").json["csrf_token"]}
    with outbox(shop):
        visitor.post("/verify-mobile/send", json={}, headers=header)
        response = visitor.post("/verify-mobile/send", json={}, headers=header)
    body = json.loads(response.text)
    assert response.mimetype == "application/problem+json"
    assert set(body) == {"type", "title", "status", "detail", "code", "final", "retry_after"}
    assert (body["status"], body["code"], body["final"]) == (429, "too_soon", False)
    assert response.headers["Retry-After"] == str(body["retry_after"])


def test_a_used_up_limit_is_rate_limited_and_the_reset_command_allows_the_next_send(
    make_app: Any, sqlite: str
) -> None:
    app = make_app(sqlite, SMSVERIFY_LIMITS={"user": "1/hour"})
    client = app.test_client()
    client.get("/login/1")
    reached: list[str] = []

    def receive(sender: Flask, scope: str, **values: Any) -> None:
        reached.append(scope)

    with outbox(app) as box, signals.limit_reached.connected_to(receive):
        assert client.post("/verify-mobile/send", json={}).status_code == 200
        assert reached == ["user"]
        box.advance(timedelta(minutes=1))  # the cooldown is over, the window is not
        refused = client.post("/verify-mobile/send", json={})
        assert (refused.status_code, json.loads(refused.text)["code"]) == (429, "rate_limited")
        command = ["smsverify", "limits", "--user", "1", "--reset", "--yes"]
        assert app.test_cli_runner().invoke(args=command).exit_code == 0
        assert client.post("/verify-mobile/send", json={}).status_code == 200


def test_the_templates_and_widgets_have_their_names(shop: Flask) -> None:
    for name in ("page", "mobile", "base", "widgets"):
        assert shop.jinja_env.get_template(f"smsverify/{name}.html")
    with shop.test_request_context():
        user = db.session.get(Customer, 1)
        widgets = shop.jinja_env.get_template("smsverify/widgets.html").module
        for name in ("status_badge", "status_card", "sidebar_item"):
            assert "sv-" in getattr(widgets, name)(user), name


# --- commands, simulator, helpers for tests ---------------------------------------------------


def test_every_command_has_its_name(shop: Flask) -> None:
    output = shop.test_cli_runner().invoke(args=["smsverify", "--help"]).output
    for name in ("senders", "status", "verify", "revoke", "unlock", "limits", "simulator"):
        assert re.search(rf"^  {name} ", output, re.M), name
    for command, option in (("limits", "--reset"), ("simulator", "--port")):
        assert option in shop.test_cli_runner().invoke(args=["smsverify", command, "--help"]).output


def test_the_simulator_serves_its_phone_its_gateways_and_its_api(simulator: Simulator) -> None:
    with httpx.Client(base_url=simulator.url, trust_env=False) as http:
        assert "text/html" in http.get("/").headers["Content-Type"]
        assert http.get("/_api/requests").json() == []
        text = {"gateway": "raygan", "from": "+989123450001", "to": "50002910", "text": "سلام"}
        assert http.post("/_api/incoming", json=text).is_success
        fault = {"gateway": "raygan", "fault": "down", "times": 1}
        assert http.post("/_api/faults", json=fault).is_success
        assert http.delete("/_api/faults").is_success
        assert http.get("/_api/messages").json() == []
        assert http.delete("/_api/messages").is_success
        for path in (
            "/raygan/api/smsAPI/SendAutoCode",
            "/wikipayam/api/v1/sms/send",
            "/melipayamak/post/Send.asmx",
            "/asanak/webservice/v1rest/sendsms",
            "/asanak/webservice/v2rest/sendsms",
            "/smsir/v1/send/verify",
            "/smsir/api/Token",
        ):
            assert http.post(path).status_code != 404, path


def test_senders_and_their_contract_are_classes_to_subclass() -> None:
    assert inspect.isclass(Sender)
    assert inspect.isclass(SenderContract)
