"""The pages: HTML structure, accessibility attributes, sizes, colours and the script.

A small app renders the templates with the values in `PAGES` and records what the forms post.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any

import axe
import hosts
import pytest
from flask import (
    Blueprint,
    Flask,
    Response,
    jsonify,
    render_template,
    render_template_string,
    request,
)
from jinja2 import DictLoader
from werkzeug.serving import make_server

from flask_smsverify import web
from flask_smsverify.errors import TooSoon
from flask_smsverify.i18n.catalogue import available_locales
from flask_smsverify.i18n.problems import problem_text
from flask_smsverify.web.change_view import ChangeView
from flask_smsverify.web.interface import Interface
from flask_smsverify.web.view_models import PageView

PACKAGE = Path(web.__file__).parent.parent
STATIC = PACKAGE / "static/smsverify"
CHROMIUM = Path("/usr/bin/chromium")
NOW = datetime(2025, 3, 21, 9, 30, tzinfo=UTC)
VOID = {"meta", "link", "input", "br", "img", "circle", "path"}


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
DELAYED = replace(WITHOUT_CODE, state="delayed", applies_at=NOW + timedelta(days=1))

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
    "verified, open change": ("page", {"verify": VERIFIED, "sv_change": CONFIRMING}),
    "mobile, delayed change": ("mobile", {"verify": VERIFIED, "sv_change": DELAYED}),
    "fresh login": ("mobile", {"verify": VERIFIED, "sv_needs_fresh_login": True}),
    "problem": ("problem", {"sv_error": Problem("csrf", "This page has expired", "Again.")}),
}
LANGUAGES = available_locales()
NUMBER = {"fa": "۰۹۱۲ ••• ۴۵۶۷", "ar": "0912 ••• 4567", "en": "0912 ••• 4567"}
NEW_NUMBER = {"fa": "۰۹۳۵ ۱۱۱ ۲۲۳۳", "ar": "0935 111 2233", "en": "0935 111 2233"}
EVERY_PAGE = [(name, lang) for name in PAGES for lang in LANGUAGES]


class Element:
    """A start tag with its attributes and all text inside it."""

    def __init__(self, tag: str, attributes: dict[str, str | None], parents: list["Element"]):
        self.tag, self.attributes, self.parents, self.text = tag, attributes, parents, ""

    def __getitem__(self, name: str) -> str | None:
        return self.attributes[name]

    def __contains__(self, name: str) -> bool:
        return name in self.attributes

    def get(self, name: str) -> str:
        return self.attributes.get(name) or ""


class Document(HTMLParser):
    """A page as a flat list of elements; an unbalanced tag is an error."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(source)
        assert not self._open, self._open[-1].tag

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        element = Element(tag, dict(attrs), list(self._open))
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str | None = None, **attributes: str) -> list[Element]:
        return [
            element
            for element in self.elements
            if tag in (None, element.tag)
            and all(
                wanted in element.get(name.strip("_").replace("_", "-")).split()
                for name, wanted in attributes.items()
            )
        ]

    def one(self, tag: str | None = None, **attributes: str) -> Element:
        (element,) = self.all(tag, **attributes)
        return element

    def inside(self, parent: Element, tag: str) -> list[Element]:
        return [element for element in self.all(tag) if parent in element.parents]

    def form(self, action: str) -> Element:
        return next(form for form in self.all("form") if form["action"] == action)

    def fields(self, form: Element) -> dict[str, str]:
        return {field.get("name"): field.get("value") for field in self.inside(form, "input")}


def make_app() -> Flask:
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


@pytest.fixture
def app() -> Flask:
    return make_app()


Show = Callable[..., Document]


@pytest.fixture
def show(app: Flask) -> Show:
    client = app.test_client()

    def show(name: str, lang: str = "en") -> Document:
        answer = client.get("/verify-mobile/", query_string={"name": name, "lang": lang})
        return Document(answer.text)

    return show


def test_every_page_works_under_a_strict_content_security_policy(show: Show) -> None:
    for name, lang in EVERY_PAGE:
        page = show(name, lang)
        for element in page.elements:
            assert element.tag != "style", name
            assert "style" not in element, name
            assert not any(attribute.startswith("on") for attribute in element.attributes), name
            for place in ("src", "href", "action"):
                if element.get(place) == "https://help.example":
                    continue
                assert not re.match(r"(?i)(https?:)?//|data:|javascript:", element.get(place))
        scripts = page.all("script")
        assert [script["src"] for script in scripts] == ["/verify-mobile/static/smsverify.js"]
        assert all("defer" in script and not script.text for script in scripts), name


def test_every_page_declares_its_language_and_direction(show: Show) -> None:
    for name, lang in EVERY_PAGE:
        page = show(name, lang)
        for element in (page.one("html"), page.one("div", class_="sv-panel")):
            direction = "ltr" if lang == "en" else "rtl"
            assert (element["lang"], element["dir"]) == (lang, direction), name
        assert page.one("meta", name="color-scheme")["content"] == "light dark"
        assert "width=device-width" in page.one("meta", name="viewport").get("content")
        assert "maximum-scale" not in page.source


def test_every_page_has_one_heading_and_its_title_repeats_it(show: Show) -> None:
    for name, lang in EVERY_PAGE:
        page = show(name, lang)
        assert page.one("h1").text.strip() in page.one("title").text, name
        assert page.one("title").text.endswith("– Shop & Co")
        assert len(page.all("main")) == 1


def test_pages_have_no_text_of_another_language(show: Show) -> None:
    persian = "[یکپچژگ۰-۹]"
    for name, lang in EVERY_PAGE:
        text = show(name, lang).one("main").text
        error = PAGES[name][1].get("sv_error")
        for value in (error.detail, error.title) if isinstance(error, Problem) else ():
            text = text.replace(value, "")
        text = text.replace(str(PAGES[name][1].get("sv_notice")), "").replace("UTC", "")
        assert bool(re.search("[A-Za-z]", text)) is (lang == "en" and bool(text.strip())), name
        assert bool(re.search(persian, text)) is (lang == "fa" and bool(text.strip())), name


def test_ids_are_unique_and_every_reference_has_a_target(show: Show) -> None:
    for name in PAGES:
        page = show(name)
        ids = [element.get("id") for element in page.elements if "id" in element]
        assert len(set(ids)) == len(ids), name
        for element in page.elements:
            for attribute in ("aria-describedby", "aria-labelledby", "for"):
                assert set(element.get(attribute).split()) <= set(ids), (name, attribute)
            if element.get("href").startswith("#"):
                assert element.get("href")[1:] in ids, name


def test_every_form_carries_the_csrf_token_next_and_the_demand(show: Show) -> None:
    for name in PAGES:
        page = show(name)
        for form in page.all("form"):
            fields = page.fields(form)
            assert form["method"] == "post", name
            assert fields["csrf_token"] == "t0ken", name
            assert fields["next"] == "/orders?a=1&b=2", name
            assert fields["demand"] == "signed", name


def test_every_button_works_without_the_script(show: Show) -> None:
    for name in PAGES:
        for button in show(name).all("button"):
            assert button["type"] == "submit", name
            assert "disabled" not in button, name
            assert "hidden" not in button, name


def test_the_code_field_accepts_any_pasted_text(show: Show) -> None:
    for lang in LANGUAGES:
        field = show("pending", lang).one("input", name="code")
        assert field["type"] == "text"
        assert field["inputmode"] == "numeric"
        assert field["autocomplete"] == "one-time-code"
        assert field["dir"] == "ltr"
        forbidden = {"maxlength", "minlength", "pattern", "required", "value"}
        assert not forbidden & set(field.attributes)


def test_a_mobile_is_written_left_to_right(show: Show) -> None:
    for lang in LANGUAGES:
        for name in ("unsent", "pending", "verified", "mobile"):
            shown = [
                element
                for element in show(name, lang).elements
                if element.text.strip() == NUMBER[lang] and element.tag in ("p", "bdi")
            ]
            assert [element["dir"] for element in shown] == ["ltr"], name
        assert show("mobile", lang).one("input", name="mobile")["dir"] == "ltr"


def test_a_field_with_an_error_takes_the_focus_and_describes_it(show: Show) -> None:
    for name, field_id in (("wrong code", "sv-code"), ("bad mobile", "sv-mobile")):
        page = show(name)
        summary = page.one(role="alert")
        assert "autofocus" not in summary
        assert page.one("title").text.startswith("Error:")
        assert [link["href"] for link in page.inside(summary, "a")] == [f"#{field_id}"]
        field = page.one("input", id=field_id)
        assert field["aria-invalid"] == "true"
        assert "autofocus" in field
        assert field.get("aria-describedby").split()[0] == f"{field_id}-error"
        error = PAGES[name][1]["sv_error"]
        assert isinstance(error, Problem)
        assert page.one(id=f"{field_id}-error").text == error.title


def test_an_error_without_a_field_takes_the_focus(show: Show) -> None:
    for name in ("no attempts left", "too many"):
        summary = show(name).one(role="alert")
        assert summary["tabindex"] == "-1"
        assert "autofocus" in summary


def test_a_wait_is_a_notice_and_not_an_error(show: Show) -> None:
    page = show("too soon")
    assert not page.all(role="alert")
    assert page.one("p", class_="sv-notice").text == "28 s."
    assert not page.one("title").text.startswith("Error:")
    assert "autofocus" in page.one("input", id="sv-code")


def test_an_incomplete_code_is_shown_again(show: Show) -> None:
    assert show("short code").one("input", id="sv-code")["value"] == "123"
    assert "value" not in show("pending").one("input", id="sv-code")


def test_a_change_of_number_has_one_heading_and_one_primary_action(show: Show) -> None:
    page = show("pending change")
    assert page.one("h1").text == "Confirm your new number"
    primary = [one.text for one in page.all("button") if one.get("class") == "sv-button"]
    assert primary == ["Confirm"]
    plate = page.one("div", class_="sv-plate")
    assert [one.text for one in page.inside(plate, "button")] == ["Cancel the change"]


def test_a_locked_user_finds_support_and_can_leave_a_login(show: Show) -> None:
    assert show("locked with support").one("a")["href"] == "https://help.example"
    (form,) = show("locked login").all("form")
    assert form["action"] == "/verify-mobile/leave"


def test_without_an_error_the_field_takes_the_focus_and_describes_where_the_code_was_sent(
    show: Show,
) -> None:
    page = show("notice")
    field = page.one("input", id="sv-code")
    assert "autofocus" in field
    assert "aria-invalid" not in field
    assert field.get("aria-describedby").split() == ["sv-notice", "sv-to", "sv-code-hint"]
    assert not page.all(role="alert")


def test_a_page_asks_for_one_thing_at_a_time(show: Show) -> None:
    assert not show("unsent").all("input", name="code")
    assert not show("no attempts left").all("input", name="code")
    assert not show("too many").all("input", name="code")
    assert not show("locked").all("form")
    assert not show("fresh login").all("form")


def test_the_page_offers_a_new_code_a_call_and_another_number(show: Show) -> None:
    page = show("pending")
    channels = [
        page.fields(f).get("channel") for f in page.all("form", action="/verify-mobile/send")
    ]
    assert channels == ["sms", "voice"]
    links = [link.get("href") for link in page.all("a")]
    assert links == ["/verify-mobile/mobile?next=/orders?a%3D1%26b%3D2"]


def test_after_a_call_another_call_is_offered_first(show: Show) -> None:
    page = show("pending call")
    channels = [
        page.fields(f).get("channel") for f in page.all("form", action="/verify-mobile/send")
    ]
    assert channels == ["voice", "sms"]
    assert "data-sv-webotp" not in page.one("input", name="code")


def test_unavailable_options_are_not_offered(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = Verify(can_voice=False, can_change_mobile=False)
    monkeypatch.setitem(PAGES, "bare", ("page", {"verify": bare}))
    page = Document(app.test_client().get("/verify-mobile/?name=bare&lang=en").text)
    assert len(page.all("form", action="/verify-mobile/send")) == 1
    assert not page.all("a")
    none = replace(bare, can_sms=False)
    monkeypatch.setitem(PAGES, "none", ("page", {"verify": none}))
    text = app.test_client().get("/verify-mobile/?name=none&lang=en").text
    assert "We cannot send codes right now" in text


def test_the_countdown_is_silent_and_a_status_announces_its_end(show: Show) -> None:
    page = show("pending", "fa")
    timer = page.one(role="timer")
    assert timer["aria-live"] == "off"
    assert timer.text == "۰:۲۸"
    status = page.one(role="status")
    assert not status.text.strip()
    assert "می‌توانید" in status.get("data-sv-ready")
    assert not show("notice").all(role="timer")


Rendered = Callable[[Verify], Document]


@pytest.fixture
def render(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Rendered:
    """Render page.html in English with other values."""
    client = app.test_client()

    def render(verify: Verify) -> Document:
        monkeypatch.setitem(PAGES, "rendered", ("page", {"verify": verify}))
        return Document(client.get("/verify-mobile/?name=rendered&lang=en").text)

    return render


def test_the_delivery_state_is_written_in_words(render: Rendered) -> None:
    texts = set()
    for channel in ("sms", "voice"):
        for state in ("queued", "sent", "delivered", "undelivered", "rejected", "unknown"):
            line = render(Verify(delivery=state, channel=channel)).one("p", class_="sv-delivery")
            assert line.text.strip() == line[f"data-sv-{state}"]
            texts.add(line.text)
    assert len(texts) == 12


def test_the_heading_is_uncertain_if_the_delivery_is(render: Rendered) -> None:
    certain = {
        "sms": "Enter the code from the text message",
        "voice": "Enter the code from the phone call",
    }
    uncertain = "If you get a code, enter it here"
    for channel, heading in certain.items():
        for state in (None, "queued", "sent", "delivered"):
            title = render(Verify(delivery=state, channel=channel)).one("h1")
            assert (title.text, title["data-sv-uncertain"]) == (heading, uncertain), state
        for state in ("unknown", "undelivered", "rejected"):
            assert render(Verify(delivery=state, channel=channel)).one("h1").text == uncertain


def test_the_attempts_left_have_a_plural_form(render: Rendered) -> None:
    for left, text in {1: "1 attempt left", 2: "2 attempts left"}.items():
        small, *_ = render(Verify(attempts_left=left)).all("p", class_="sv-small")
        assert text in small.text
    small, *_ = render(Verify(attempts_left=4)).all("p", class_="sv-small")
    assert "attempt" not in small.text


def test_a_page_on_which_codes_are_blocked_offers_no_form(show: Show) -> None:
    for lang in LANGUAGES:
        for name in ("codes blocked", "codes blocked, no mobile"):
            page = show(name, lang)
            assert not page.all("form")
            assert not page.all("button")
            text = page.one("p", class_="sv-lead").text
            assert ("Try again in 2 hours." in text) is (lang == "en")
            assert [link.get("href") for link in page.all("a")] == [
                "/verify-mobile/?next=/orders?a%3D1%26b%3D2&demand=signed"
            ]
    assert show("codes blocked").one("p", class_="sv-mobile").text == NUMBER["en"]
    assert show("codes blocked", "en").one("p", class_="sv-plate-label").text == "Mobile number"
    changing = show("codes blocked during a change", "en")
    assert changing.one("p", class_="sv-plate-label").text == "New number (not confirmed)"
    (form,) = changing.all("form")
    assert form["action"] == "/verify-mobile/mobile"


def test_a_rejected_number_is_shown_again_and_escaped(show: Show) -> None:
    page = show("bad mobile")
    assert page.one("input", id="sv-mobile")["value"] == '021"<'


def test_the_current_number_is_shown_beside_the_new_one(show: Show) -> None:
    for lang in LANGUAGES:

        def plate(name: str, lang: str = lang) -> list[str]:
            page = show(name, lang)
            return [part.text for part in page.inside(page.one("div", class_="sv-plate"), "p")]

        both = plate("changed mobile")
        assert both[1::2] == [NUMBER[lang], NEW_NUMBER[lang]]
        assert plate("mobile") == both[:2]
        assert plate("first mobile again") == both[2:]
        if lang == "en":
            assert both[::2] == ["Current number", "New number (not confirmed)"]


def test_a_change_can_be_cancelled_if_there_is_a_current_number(show: Show) -> None:
    for name in ("changed mobile", "pending change"):
        page = show(name)
        (form,) = (form for form in page.all("form") if "keep" in page.fields(form))
        assert form["action"] == "/verify-mobile/mobile"
        assert page.fields(form)["keep"] == "1"
        assert "mobile" not in page.fields(form)
    for name in ("mobile", "first mobile", "first mobile again", "pending", "unsent"):
        assert not show(name).all("input", name="keep")


def test_a_problem_page_links_back(app: Flask, show: Show) -> None:
    assert show("problem").one("a")["href"] == "/verify-mobile/"
    with app.test_request_context("/?lang=en"):
        text = render_template(
            "smsverify/problem.html", sv_error=WRONG, sv_back_url="/basket", sv_site_name=""
        )
    assert Document(text).one("a")["href"] == "/basket"


def test_a_base_template_of_the_host_app_replaces_the_layout(app: Flask, tmp_path: Path) -> None:
    (tmp_path / "smsverify").mkdir()
    (tmp_path / "smsverify/base.html").write_text(
        "<html><head>{% include 'smsverify/assets.html' %}</head>"
        "<body>the shop {% block content %}{% endblock %}</body></html>"
    )
    app.template_folder = str(tmp_path)
    page = Document(app.test_client().get("/verify-mobile/?lang=fa").text)
    assert "the shop" in page.source
    assert page.one("div", class_="sv-panel")["dir"] == "rtl"
    assert page.one("input", name="code")


CARD = '{% from "smsverify/widgets.html" import status_card %}{{ status_card(user) }}'
WIDGETS = (
    '{% from "smsverify/widgets.html" import status_badge, status_card, sidebar_item %}'
    "<p>{{ status_badge(user) }}</p>{{ status_card(user) }}<nav>{{ sidebar_item(user) }}</nav>"
    "{% call status_card(user) %}<b>mine</b>{% endcall %}"
)


def test_the_widgets_work_in_any_page(app: Flask) -> None:
    for state in ("verified", "unverified", "expired", "pending", "exempt"):
        for lang in LANGUAGES:
            with app.test_request_context(f"/?lang={lang}"):
                page = Document(render_template_string(WIDGETS, user=state))
            badges = page.all("span", class_=f"sv-{state}")
            assert len(badges) == 4, state
            assert len({badge.text for badge in badges}) == 1, state
            assert page.one("b").text == "mine"
            assert page.one("a", class_="sv-item")["href"] == "/verify-mobile/"
            assert bool(re.search("[A-Za-z]", badges[0].text)) is (lang == "en")
            (form,) = page.all("form") or (None,)
            assert (form is not None) is (state == "pending")
            links = [link["href"] for link in page.all("a", class_="sv-link")]
            expected = {"verified": ["/verify-mobile/mobile"], "exempt": []}
            assert links == expected.get(state, ["/verify-mobile/"]), state


def test_a_card_on_a_page_of_staff_sends_a_code_to_its_user(app: Flask) -> None:
    for state in ("verified", "unverified", "expired", "pending", "exempt"):
        with app.test_request_context("/?lang=en&viewer=staff"):
            page = Document(render_template_string(CARD, user=state))
        forms = [form["action"] for form in page.all("form")]
        assert forms == (["/send-again"] if state not in ("verified", "exempt") else []), state
        assert not page.all("a"), "these pages are about the viewer"


def test_the_stylesheet_and_the_script_are_together_under_15_kb() -> None:
    sizes = {path.name: path.stat().st_size for path in STATIC.iterdir()}
    assert sizes.pop("smsverify.css") + sizes.pop("smsverify.js") < 15_000
    for name in ("staff.css", "staff.js", "staff.svg"):
        sizes.pop(name)  # only for the staff pages
    # Only for a sign-in that asks for a proof of work.
    assert set(sizes) == {"pow.js", "pow-worker.js"}
    assert sum(sizes.values()) < 6_500


def test_the_stylesheet_uses_only_its_own_classes_and_loads_no_file() -> None:
    css = re.sub(r"/\*.*?\*/", "", (STATIC / "smsverify.css").read_text(), flags=re.DOTALL)
    assert "url(" not in css
    assert "@import" not in css
    assert "color-scheme: light dark" in css
    assert "prefers-reduced-motion" in css
    for rule in re.findall(r"([^{}]+)\{", css):
        for selector in re.split(r",(?![^()]*\))", rule.strip()):
            assert selector.strip().startswith(("@media", "@supports")) or re.search(
                r"\.sv-|data-sv-", selector
            ), selector
    assert not re.search(r"(?<![\w-])(left|right)\s*:|(margin|padding|border)-(left|right)", css)


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2.2 defines it, of `#rgb` or `#rrggbb`."""
    digits = colour.lstrip("#")
    if len(digits) == 3:
        digits = "".join(digit * 2 for digit in digits)
    channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_keep_wcag_aa_contrast_in_both_schemes(scheme: int) -> None:
    css = (STATIC / "smsverify.css").read_text()
    colour = dict(
        re.findall(r"--sv-([\w-]+): (#\w+);", css.split("@media (prefers-color-scheme")[scheme])
    )
    for text, grounds in {  # 1.4.3: 4.5 for text
        "ink": ("ground", "surface", "plate", "bad-ground"),
        "muted": ("ground", "surface", "plate"),
        "accent": ("surface", "plate"),
        "accent-strong": ("plate",),
        "on-accent": ("accent", "accent-strong"),
        "bad": ("surface", "bad-ground"),
    }.items():
        for ground in grounds:
            assert contrast(colour[text], colour[ground]) >= 4.5, (text, ground)
    assert contrast(colour["line"], colour["surface"]) >= 3  # 1.4.11: what shows a control


def test_the_verify_object_of_these_tests_has_the_real_fields() -> None:
    assert {field.name for field in fields(Verify)} == {field.name for field in fields(PageView)}


# In a browser


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/verify-mobile/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[Flask, str]]:
    app = make_app()
    with serving(app) as url:
        yield app, url


LAYOUT = (
    "<html><head><link rel='stylesheet' href='/layout.css'>"
    "{% include 'smsverify/assets.html' %}</head>"
    "<body>{% block content %}{% endblock %}</body></html>"
)
COLOURS = """() => {
  const colour = one => getComputedStyle(document.querySelector(one)).color;
  return [colour("body"), colour(".sv-title"), colour(".sv-input"), colour(".sv-link"),
          getComputedStyle(document.querySelector(".sv-panel")).colorScheme];
}"""


@pytest.mark.parametrize(
    ("css", "text", "scheme"),
    [
        ("body { background: #fff; color: #222; }", "rgb(34, 34, 34)", "normal"),
        ("body { background: #111; color: #eee; }", "rgb(238, 238, 238)", "normal"),
        (":root { color-scheme: dark; }", "rgb(255, 255, 255)", "dark"),
    ],
    ids=["light", "dark", "declared"],
)
@pytest.mark.parametrize("phone", ["light", "dark"])
def test_in_a_layout_of_the_app_the_colours_are_those_of_the_layout(
    tab: Any, app: Flask, css: str, text: str, scheme: str, phone: str
) -> None:
    app.jinja_loader = DictLoader({"smsverify/base.html": LAYOUT})
    app.add_url_rule("/layout.css", "layout", lambda: Response(css, mimetype="text/css"))
    tab.emulate_media(color_scheme=phone)
    with serving(app) as url:
        tab.goto(f"{url}?name=wrong code&lang=en")
        assert tab.evaluate(COLOURS) == [text, text, text, text, scheme]


@pytest.mark.parametrize("phone", ["light", "dark"])
@pytest.mark.parametrize("host", hosts.STYLES)
def test_every_page_is_readable_in_a_layout_of_the_app(
    tab: Any, app: Flask, host: str, phone: str
) -> None:
    hosts.use(app, host)
    tab.emulate_media(color_scheme=phone)
    found = {}
    with serving(app) as url:
        for name in PAGES:
            tab.goto(f"{url}?name={name}&lang={'fa' if phone == 'light' else 'en'}")
            for width in (1280, 360):
                tab.set_viewport_size({"width": width, "height": 740})
                assert tab.evaluate("document.documentElement.scrollWidth") <= width, name
            if violations := axe.violations(tab):
                found[name] = violations
    assert found == {}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=["--no-sandbox", "--headless", "--disable-gpu", "--no-first-run"],
        )
        yield chromium
        chromium.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 320, "height": 640}, timezone_id="Asia/Tokyo")
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "console",
        lambda message: "Content Security" in message.text and errors.append(message.text),
    )
    yield page
    context.close()
    assert errors == []


def test_on_a_narrow_phone_nothing_overflows_and_targets_have_44_px(
    site: tuple[Flask, str], tab: Any
) -> None:
    for name, lang in EVERY_PAGE:
        tab.goto(f"{site[1]}?name={name}&lang={lang}")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 320, (name, lang)
        heights = tab.eval_on_selector_all(
            "button, a, input:not([type=hidden])",
            "all => all.map(one => one.getBoundingClientRect().height)",
        )
        assert all(height >= 44 for height in heights), (name, lang)


def test_with_text_of_twice_the_size_nothing_overflows(site: tuple[Flask, str], tab: Any) -> None:
    """WCAG 2.2, 1.4.4."""
    tab.set_viewport_size({"width": 390, "height": 844})
    for name, lang in EVERY_PAGE:
        tab.goto(f"{site[1]}?name={name}&lang={lang}")
        tab.evaluate("document.documentElement.style.fontSize = '200%'")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390, (name, lang)
        outside = tab.eval_on_selector_all(
            ".sv-plate, .sv-plate p, .sv-facts div",
            "all => all.filter(one => one.scrollWidth > one.clientWidth).map(one => one.outerHTML)",
        )
        assert outside == [], (name, lang)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(site: tuple[Flask, str], tab: Any, scheme: str) -> None:
    tab.emulate_media(color_scheme=scheme)
    found = {}
    for name, lang in EVERY_PAGE:
        tab.goto(f"{site[1]}?name={name}&lang={lang}")
        if violations := axe.violations(tab, colours_only=scheme == "dark"):
            found[name, lang] = violations
    assert found == {}


def test_the_field_with_an_error_has_the_focus_with_and_without_the_script(
    site: tuple[Flask, str], tab: Any, browser: Any
) -> None:
    without_script = browser.new_context(java_script_enabled=False)
    try:
        for page in (tab, without_script.new_page()):
            page.goto(f"{site[1]}?name=wrong code&lang=en")
            assert page.locator("#sv-code:focus").count() == 1
    finally:
        without_script.close()


def test_the_script_focuses_the_field_if_the_browser_does_not(
    site: tuple[Flask, str], tab: Any
) -> None:
    def without_autofocus(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace(" autofocus", ""))

    tab.route("**/verify-mobile/?*", without_autofocus)
    tab.goto(f"{site[1]}?name=wrong code&lang=en")
    assert tab.locator("#sv-code:focus").count() == 1


def test_the_countdown_disables_the_send_buttons_until_it_ends(
    site: tuple[Flask, str], tab: Any
) -> None:
    tab.clock.install(time=0)
    tab.clock.pause_at(1_000)  # from here on, time passes only in `run_for`
    tab.goto(f"{site[1]}?name=pending&lang=fa")
    again = tab.locator("[data-sv-send] button").first
    assert again.is_disabled()
    assert tab.locator("[data-sv-check] button").is_enabled()
    tab.clock.run_for(8_000)
    assert tab.get_by_role("timer").inner_text() == "۰:۲۰"
    tab.clock.run_for(21_000)
    assert again.is_enabled()
    assert not tab.locator("[data-sv-wait]").is_visible()
    assert "می‌توانید" in tab.get_by_role("status").inner_text()


def test_a_form_is_submitted_once_however_often_it_is_pressed(
    site: tuple[Flask, str], tab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, url = site
    monkeypatch.setitem(app.config, "SLOWNESS", 0.4)
    app.config["SENT"].clear()
    tab.goto(f"{url}?name=pending&lang=en")
    tab.fill("#sv-code", "۱۲۳ ۴۵۶")
    with tab.expect_navigation():
        tab.evaluate(
            "() => { const form = document.querySelector('[data-sv-check]');"
            " for (const wait of [0, 100, 200]) setTimeout(() => form.requestSubmit(), wait); }"
        )
    ((endpoint, fields),) = app.config["SENT"]
    assert endpoint == "smsverify.check"
    assert fields["code"] == "۱۲۳ ۴۵۶"
    tab.go_back()
    assert tab.locator("[data-sv-check] button").is_enabled()


WEBOTP = """
window.OTPCredential = function () {};
Object.defineProperty(navigator, "credentials", {value: {get: (options) => {
  window.otpOptions = options;
  return new Promise((resolve, reject) => {
    window.resolveOtp = resolve;
    options.signal.addEventListener("abort", () => reject(new Error("aborted")));
  });
}}});
"""


def test_a_code_from_webotp_is_submitted_and_a_typed_code_is_not(
    site: tuple[Flask, str], tab: Any
) -> None:
    app, url = site
    app.config["SENT"].clear()
    tab.add_init_script(WEBOTP)
    tab.goto(f"{url}?name=pending&lang=en")
    assert tab.evaluate("window.otpOptions.otp.transport") == ["sms"]
    tab.locator("#sv-code").press_sequentially("123456")
    tab.wait_for_timeout(100)
    assert app.config["SENT"] == []
    with tab.expect_navigation():
        tab.evaluate("window.resolveOtp({code: '654321'})")
    assert app.config["SENT"][0][1]["code"] == "654321"


def test_webotp_is_aborted_when_the_form_is_submitted(site: tuple[Flask, str], tab: Any) -> None:
    tab.add_init_script(WEBOTP)
    tab.goto(f"{site[1]}?name=pending&lang=en")
    aborted = tab.evaluate(
        "() => { const form = document.querySelector('[data-sv-check]');"
        " form.addEventListener('submit', event => event.preventDefault());"
        " form.requestSubmit(); return window.otpOptions.signal.aborted; }"
    )
    assert aborted


def test_the_delivery_state_is_updated_and_a_proof_in_another_tab_redirects(
    site: tuple[Flask, str], tab: Any
) -> None:
    app, url = site
    tab.clock.install()
    app.config["STATUS"] = {"state": "pending", "delivery": "delivered"}
    try:
        tab.goto(f"{url}?name=pending&lang=en")
        with tab.expect_response("**/status"):
            tab.clock.run_for(3_100)
        tab.get_by_text("Delivered").wait_for()
        assert tab.locator("h1").inner_text() == "Enter the code from the text message"
        app.config["STATUS"] = {"state": "pending", "delivery": "undelivered"}
        with tab.expect_response("**/status"):
            tab.clock.run_for(5_000)
        tab.get_by_text("The text message was not delivered").wait_for()
        assert tab.locator("h1").inner_text() == "If you get a code, enter it here"
        app.config["STATUS"] = {"state": "verified"}
        with tab.expect_navigation(url="**/orders*"):
            tab.clock.run_for(7_000)
    finally:
        app.config["STATUS"] = {"state": "pending", "delivery": "sent"}


def test_an_expired_code_is_announced_and_polling_stops(site: tuple[Flask, str], tab: Any) -> None:
    polls: list[str] = []
    tab.on("request", lambda one: one.url.endswith("/status") and polls.append(one.url))
    tab.clock.install()
    tab.goto(f"{site[1]}?name=notice&lang=en")
    tab.clock.fast_forward(601_000)
    tab.clock.run_for(60_000)
    assert tab.get_by_role("status").inner_text() == "The code has expired. Get a new code."
    before = len(polls)
    tab.clock.run_for(120_000)
    assert len(polls) == before <= 1


def test_times_are_in_the_browsers_time_zone(site: tuple[Flask, str], tab: Any) -> None:
    tab.goto(f"{site[1]}?name=pending&lang=en")
    assert tab.locator("time[data-sv-clock]").inner_text() == "18:40"


def test_a_problem_page_shows_the_text_of_a_problem(app: Flask) -> None:
    with app.test_request_context("/?lang=fa"):
        ui = app.jinja_env.globals["smsverify_ui"]
        text = problem_text(TooSoon, {"retry_after": 28}, ui.translator)
        page = render_template("smsverify/problem.html", sv_error=text, sv_site_name="")
    assert text.detail in page
