"""The pages: HTML structure, accessibility attributes, sizes, colours and the script.

Tests of what a browser shows are in `tests/browser/test_users_pages.py`.
"""

import re
from collections.abc import Callable
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from flask import (
    Flask,
    render_template,
    render_template_string,
)
from sample_pages import (
    EVERY_PAGE,
    LANGUAGES,
    NEW_NUMBER,
    NUMBER,
    PAGES,
    STATIC,
    WRONG,
    Problem,
    Verify,
    make_app,
)

from flask_smsverify.errors import TooSoon
from flask_smsverify.i18n.problems import problem_text
from flask_smsverify.web.view_models import PageView

VOID = {"meta", "link", "input", "br", "img", "circle", "path"}


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
            if "verify" in PAGES[name][1]:
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


def test_a_page_of_a_delayed_change_says_only_when_the_number_changes(show: Show) -> None:
    text = show("mobile, delayed change").source
    assert "Your number will change on" in text
    assert "will not change until" not in text
    assert "will not change until" in show("mobile").source


@pytest.mark.parametrize(
    ("name", "instruction"),
    [
        ("delayed change", "Get a code on your current number"),
        ("delayed change with a code", "Enter the code that we sent to your current number"),
        ("delayed change with a call", "Enter the code from the phone call to your current number"),
    ],
)
def test_the_page_of_a_delayed_change_says_which_code_changes_the_number_now(
    show: Show, name: str, instruction: str
) -> None:
    page = show(name)
    assert f"{instruction} to change your number now." in page.one("p", id="sv-now").text
    for field in page.all("input", name="code"):
        assert "sv-now" in field.get("aria-describedby").split()
        assert "autofocus" not in field


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


def test_a_problem_page_shows_the_text_of_a_problem(app: Flask) -> None:
    with app.test_request_context("/?lang=fa"):
        ui = app.jinja_env.globals["smsverify_ui"]
        text = problem_text(TooSoon, {"retry_after": 28}, ui.translator)
        page = render_template("smsverify/problem.html", sv_error=text, sv_site_name="")
    assert text.detail in page
