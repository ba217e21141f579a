"""Sample pages: a small app that renders the templates with the values in `PAGES`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import sleep

from flask import Blueprint, Flask, Response, jsonify, render_template, request

from flask_smsverify import web
from flask_smsverify.i18n.catalogue import available_locales
from flask_smsverify.web.change_view import ChangeView
from flask_smsverify.web.interface import Interface
from flask_smsverify.web.sign_in_view import SignInView

PACKAGE = Path(web.__file__).parent.parent
STATIC = PACKAGE / "static/smsverify"
NOW = datetime(2025, 3, 21, 9, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Verify:
    state: str = "pending"
    mobile: str | None = "+98912•••4567"
    present: str | None = "+98912•••4567"
    given: str | None = None
    entered: str | None = None
    channel: str = "sms"
    can_sms: bool = True
    can_voice: bool = True
    can_change_mobile: bool = True
    delivery: str | None = "sent"
    expires_at: datetime | None = NOW + timedelta(minutes=10)
    resend_at: datetime | None = NOW + timedelta(seconds=28)
    verified_at: datetime | None = None
    settled_at: datetime | None = None
    resend_in: int = 28
    guess_in: int = 0
    expires_in: int = 600
    attempts_left: int | None = 5
    is_login_pending: bool = False
    code_length: int = 6
    next: str = "/orders?a=1&b=2"
    demand: str = "signed"


@dataclass(frozen=True)
class Problem:
    code: str
    title: str
    detail: str
    field: str | None = None
    retry_at: datetime | None = None


@dataclass(frozen=True)
class Status:
    state: str
    mobile: str | None = "+98912•••4567"
    verified_at: datetime | None = NOW
    expires_at: datetime | None = NOW + timedelta(days=90)


@dataclass(frozen=True)
class Actions:
    is_own: bool
    send_url: str | None = "/send-again"
    fields: dict[str, str] = field(default_factory=lambda: {"csrf_token": "t0ken"})


def actions(_user: object) -> Actions:
    return Actions(is_own=request.args.get("viewer") != "staff")


WRONG = Problem("wrong_code", "The code is wrong", "You have 2 attempts left.", "code")
CHANGING = Verify(mobile="+98935•••2233", given="+98935•••2233", entered="+989351112233")
UNSENT = Verify("unsent", delivery=None, resend_in=0, attempts_left=None)
VERIFIED = Verify("verified", verified_at=NOW)
LOCKED = Verify("locked", resend_in=0)
CONFIRMING = ChangeView(
    state="confirming",
    old_mobile="+98912•••4567",
    new_mobile="+98935•••2233",
    applies_at=None,
    is_code_open=True,
    channel="sms",
    code_length=6,
    code_expires_at=NOW + timedelta(minutes=10),
    attempts_left=5,
    resend_at=NOW + timedelta(seconds=28),
    resend_in=28,
    can_sms=True,
    can_voice=True,
)
WITHOUT_CODE = replace(
    CONFIRMING,
    is_code_open=False,
    code_length=None,
    code_expires_at=None,
    attempts_left=None,
    resend_at=None,
    resend_in=0,
)
DELAYED_WITH_CODE = replace(CONFIRMING, state="delayed", applies_at=NOW + timedelta(days=1))
DELAYED = replace(WITHOUT_CODE, state="delayed", applies_at=NOW + timedelta(days=1))
UNDO = {
    "sv_is_undone": False,
    "sv_new_mobile": "+98935•••2233",
    "sv_undo_url": "/verify-mobile/mobile/undo/t0ken",
    "sv_next": "/",
}
FIRST_PROOF = {"sv_first_proof": "email", "sv_next": "/orders", "sv_link": ""}
SIGN_IN = SignInView(
    state="number",
    mobile="",
    channel="sms",
    delivery="",
    can_sms=True,
    can_voice=True,
    can_sign_up=True,
    expires_at=None,
    expires_in=0,
    resend_at=None,
    resend_in=0,
    attempts_left=None,
    code_length=None,
    remember=False,
    next="/orders",
)
SIGN_IN_CODE = replace(
    SIGN_IN,
    state="code",
    mobile="0935 111 2233",
    delivery="sent",
    expires_at=NOW + timedelta(minutes=10),
    expires_in=600,
    resend_at=NOW + timedelta(seconds=28),
    resend_in=28,
    attempts_left=2,
    code_length=6,
)

PAGES: dict[str, tuple[str, dict[str, object]]] = {
    "unsent": ("page", {"verify": UNSENT}),
    "pending": ("page", {"verify": Verify()}),
    "pending change": ("page", {"verify": CHANGING}),
    "pending call": ("page", {"verify": Verify(channel="voice")}),
    "short code": (
        "page",
        {
            "verify": Verify(),
            "sv_typed_code": "123",
            "sv_error": Problem("invalid_code", "The code is too short", "Some.", "code"),
        },
    ),
    "too soon": (
        "page",
        {"verify": Verify(), "sv_error": Problem("too_soon", "Wait", "28 s.")},
    ),
    "locked with support": (
        "page",
        {"verify": LOCKED, "sv_support_url": "https://help.example"},
    ),
    "wrong code": ("page", {"verify": Verify(attempts_left=2), "sv_error": WRONG}),
    "no attempts left": ("page", {"verify": Verify(attempts_left=0), "sv_error": WRONG}),
    "too many": (
        "page",
        {
            "verify": replace(UNSENT, resend_in=900),
            "sv_error": Problem("too_many_attempts", "Too many wrong codes", "Wait."),
        },
    ),
    "codes blocked": ("page", {"verify": Verify(guess_in=7200)}),
    "codes blocked during a change": ("page", {"verify": replace(CHANGING, guess_in=7200)}),
    "codes blocked, no mobile": (
        "page",
        {"verify": replace(UNSENT, mobile=None, present=None, guess_in=7200)},
    ),
    "notice": ("page", {"verify": Verify(resend_in=0), "sv_notice": "Sent again."}),
    "verified": ("page", {"verify": VERIFIED}),
    "exempt": ("page", {"verify": Verify("exempt", mobile=None)}),
    "locked": ("page", {"verify": LOCKED}),
    "pending login": ("page", {"verify": Verify(is_login_pending=True)}),
    "locked login": ("page", {"verify": replace(LOCKED, is_login_pending=True)}),
    "mobile": ("mobile", {"verify": VERIFIED}),
    "changed mobile": ("mobile", {"verify": CHANGING}),
    "first mobile": ("mobile", {"verify": replace(UNSENT, mobile=None, present=None)}),
    "first mobile again": ("mobile", {"verify": replace(CHANGING, present=None)}),
    "bad mobile": (
        "mobile",
        {
            "verify": UNSENT,
            "sv_typed": '021"<',
            "sv_error": Problem(
                "invalid_mobile", "Enter a valid mobile number", "Check.", "mobile"
            ),
        },
    ),
    "country": (
        "mobile",
        {
            "verify": UNSENT,
            "sv_typed": "+1 202 555 0143",
            "sv_error": Problem(
                "region_not_allowed",
                "Numbers from this country are not supported at this time",
                "Use a mobile number from another country.",
                "mobile",
            ),
        },
    ),
    "unsettled": ("page", {"verify": replace(VERIFIED, state="unsettled", settled_at=NOW)}),
    "confirm a change": ("change", {"verify": VERIFIED, "sv_change": CONFIRMING}),
    "wrong code of a change": (
        "change",
        {"verify": VERIFIED, "sv_change": replace(CONFIRMING, attempts_left=2), "sv_error": WRONG},
    ),
    "confirm a change by call": (
        "change",
        {"verify": VERIFIED, "sv_change": replace(CONFIRMING, channel="voice", code_length=None)},
    ),
    "change without a code": ("change", {"verify": VERIFIED, "sv_change": WITHOUT_CODE}),
    "delayed change": ("change", {"verify": VERIFIED, "sv_change": DELAYED}),
    "delayed change with a code": ("change", {"verify": VERIFIED, "sv_change": DELAYED_WITH_CODE}),
    "delayed change with a call": (
        "change",
        {"verify": VERIFIED, "sv_change": replace(DELAYED_WITH_CODE, channel="voice")},
    ),
    "verified, open change": ("page", {"verify": VERIFIED, "sv_change": CONFIRMING}),
    "mobile, delayed change": ("mobile", {"verify": VERIFIED, "sv_change": DELAYED}),
    "fresh login": ("mobile", {"verify": VERIFIED, "sv_needs_fresh_login": True}),
    "fresh login of a browser": (
        "mobile",
        {
            "verify": VERIFIED,
            "sv_needs_fresh_login": True,
            "sv_login_url": "/login?next=/verify-mobile/mobile",
            "sv_must_log_out": True,
        },
    ),
    "problem": ("problem", {"sv_error": Problem("csrf", "This page has expired", "Again.")}),
    "undo a change": ("undo", UNDO),
    "undone change": ("undo", UNDO | {"sv_is_undone": True}),
    "first proof": ("first_proof", FIRST_PROOF),
    "first proof, link sent": ("first_proof", FIRST_PROOF | {"sv_notice": "We sent a link."}),
    "first proof, too soon": (
        "first_proof",
        FIRST_PROOF | {"sv_error": Problem("too_soon", "Wait", "28 s.")},
    ),
    "first proof by staff": ("first_proof", FIRST_PROOF | {"sv_first_proof": "staff"}),
    "first proof by staff with support": (
        "first_proof",
        FIRST_PROOF | {"sv_first_proof": "staff", "sv_support_url": "https://help.example"},
    ),
    "first proof, opened link": (
        "first_proof",
        FIRST_PROOF | {"sv_first_proof": "link", "sv_link": "/verify-mobile/first-proof/t0ken?"},
    ),
    "first proof, invalid link": ("first_proof", FIRST_PROOF | {"sv_first_proof": "invalid"}),
    "sign in": ("sign_in", {"sv_sign_in": SIGN_IN}),
    "sign in with a code": ("sign_in", {"sv_sign_in": SIGN_IN_CODE}),
    "sign in again": (
        "sign_in",
        {"sv_sign_in": replace(SIGN_IN_CODE, state="closed", code_length=None, resend_in=0)},
    ),
}
LANGUAGES = available_locales()
NUMBER = {"fa": "۰۹۱۲ ••• ۴۵۶۷", "ar": "0912 ••• 4567", "en": "0912 ••• 4567"}
NEW_NUMBER = {"fa": "۰۹۳۵ ۱۱۱ ۲۲۳۳", "ar": "0935 111 2233", "en": "0935 111 2233"}
EVERY_PAGE = [(name, lang) for name in PAGES for lang in LANGUAGES]


def make_app() -> Flask:
    """Return the app. It keeps what the forms post in `config["SENT"]`."""
    app = Flask("shop")
    pages = Blueprint(
        "smsverify",
        web.__name__,
        url_prefix="/verify-mobile",
        template_folder=str(PACKAGE / "templates"),
        static_folder=str(STATIC),
        static_url_path="/static",
    )
    ui = Interface(
        lambda: request.args.get("lang"), status=lambda user: Status(str(user)), actions=actions
    )
    app.jinja_env.globals["smsverify_ui"] = ui
    app.config.update(SLOWNESS=0, SENT=[], STATUS={"state": "pending", "delivery": "sent"})

    @pages.get("/")
    def page() -> str:
        template, context = PAGES[request.args.get("name", "pending")]
        frame = {
            "sv_error": None,
            "sv_notice": None,
            "sv_typed": "",
            "sv_needs_fresh_login": False,
            "sv_csrf_field_name": "csrf_token",
            "sv_csrf_token": "t0ken",
            "sv_site_name": "Shop & Co",
        }
        return render_template(f"smsverify/{template}.html", **(frame | context))

    def record() -> Response:
        app.config["SENT"].append((request.endpoint, request.form.to_dict()))
        sleep(app.config["SLOWNESS"])
        return Response("taken")

    pages.add_url_rule("/send", "send", record, methods=["POST"])
    pages.add_url_rule("/check", "check", record, methods=["POST"])
    pages.add_url_rule("/leave", "leave", record, methods=["POST"])
    pages.add_url_rule("/mobile", "mobile", record, methods=["GET", "POST"])
    pages.add_url_rule("/mobile/confirm", "confirm", record, methods=["GET", "POST"])
    pages.add_url_rule("/mobile/cancel", "cancel", record, methods=["POST"])
    pages.add_url_rule("/first-proof", "first_proof", record, methods=["GET", "POST"])
    pages.add_url_rule("/sign-in", "sign_in", record, methods=["GET", "POST"])
    pages.add_url_rule("/sign-in/check", "sign_in_check", record, methods=["POST"])
    pages.add_url_rule("/status", "status", lambda: jsonify(app.config["STATUS"]))
    app.register_blueprint(pages)

    @app.get("/orders")
    def orders() -> str:
        return "orders"

    @app.after_request
    def strict_policy(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
            " form-action 'self'; base-uri 'none'"
        )
        return response

    return app
