"""The users' pages in a browser: sizes, colours, accessibility and the script."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import axe
import hosts
import pytest
from conftest import needs
from flask import Flask, Response
from jinja2 import DictLoader
from keyboard import Keyboard
from sample_pages import LANGUAGES, PAGES, make_app
from werkzeug.serving import make_server

pytestmark = needs("chromium")


@pytest.fixture
def app() -> Flask:
    return make_app()


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


#: Pages that show every element of the stylesheet.
OF_EACH_KIND = (
    "pending change",
    "pending call",
    "wrong code",
    "codes blocked",
    "notice",
    "verified, open change",
    "locked with support",
    "locked login",
    "changed mobile",
    "bad mobile",
    "confirm a change",
    "delayed change",
    "fresh login",
    "problem",
    "undo a change",
    "first proof",
    "first proof, link sent",
    "sign in",
    "sign in with a code",
)


@pytest.mark.parametrize("host", hosts.STYLES)
def test_every_page_is_readable_in_a_layout_of_the_app(tab: Any, app: Flask, host: str) -> None:
    hosts.use(app, host)
    axe.load_into(tab.context)
    tab.emulate_media(color_scheme="light" if "dark" in host else "dark")
    found = {}
    with serving(app) as url:
        for name in OF_EACH_KIND:
            tab.goto(f"{url}?name={name}&lang={'en' if 'bootstrap' in host else 'fa'}")
            for width in (1280, 360):
                tab.set_viewport_size({"width": width, "height": 740})
                assert tab.evaluate("document.documentElement.scrollWidth") <= width, name
            if violations := axe.violations(tab, colours_only=True):
                found[name] = violations
    assert found == {}


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


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_page_passes_axe_and_fits_a_narrow_phone_and_text_of_twice_the_size(
    site: tuple[Flask, str], tab: Any, lang: str
) -> None:
    """WCAG 2.2, 1.4.10 and 1.4.4; the targets have 44 px."""
    axe.load_into(tab.context)
    for name in PAGES:
        tab.set_viewport_size({"width": 320, "height": 640})
        tab.goto(f"{site[1]}?name={name}&lang={lang}")
        assert axe.violations(tab) == [], (name, lang)
        if lang == "fa":  # the colours do not depend on the language
            tab.emulate_media(color_scheme="dark", reduced_motion="reduce")
            assert axe.violations(tab, colours_only=True) == [], name
            tab.emulate_media(color_scheme="light")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 320, (name, lang)
        heights = tab.eval_on_selector_all(
            "button, a, label:has(input), input:not([type=hidden], [type=checkbox])",
            "all => all.map(one => one.getBoundingClientRect().height)",
        )
        assert all(height >= 44 for height in heights), (name, lang)
        tab.set_viewport_size({"width": 390, "height": 844})
        tab.evaluate("document.documentElement.style.fontSize = '200%'")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390, (name, lang)
        outside = tab.eval_on_selector_all(
            ".sv-plate, .sv-plate p, .sv-facts div",
            "all => all.filter(one => one.scrollWidth > one.clientWidth).map(one => one.outerHTML)",
        )
        assert outside == [], (name, lang)


#: How many lines an error's title has, how far the text below is from the last of them, and how far
#: two lines of a paragraph are from one another.
TITLE_LINES = """() => {
  const tops = one => { const range = document.createRange(); range.selectNodeContents(one);
                        return [...range.getClientRects()].map(rect => rect.top); };
  const title = tops(document.querySelector(".sv-error-title a"));
  const detail = document.querySelector(".sv-error p:last-child");
  const lineHeight = parseFloat(getComputedStyle(detail).lineHeight);
  return [title.length, tops(detail)[0] - title.at(-1), lineHeight];
}"""


def test_the_second_line_of_an_errors_title_does_not_cover_the_text_below(
    site: tuple[Flask, str], tab: Any
) -> None:
    tab.goto(f"{site[1]}?name=country&lang=en")
    lines, distance, line_height = tab.evaluate(TITLE_LINES)
    assert lines > 1
    assert distance > line_height - 1


def test_tab_reaches_every_control_of_every_page(site: tuple[Flask, str], tab: Any) -> None:
    for number, name in enumerate(PAGES):
        tab.goto(f"{site[1]}?name={name}&lang={LANGUAGES[number % len(LANGUAGES)]}")
        Keyboard(tab).visit_all()


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


@pytest.mark.parametrize("name", ["pending", "confirm a change", "sign in with a code"])
def test_the_countdown_disables_the_send_buttons_until_it_ends(
    site: tuple[Flask, str], tab: Any, name: str
) -> None:
    tab.clock.install(time=0)
    tab.clock.pause_at(1_000)  # from here on, time passes only in `run_for`
    tab.goto(f"{site[1]}?name={name}&lang=fa")
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
        with tab.expect_response("**/status*"):
            tab.clock.run_for(3_100)
        tab.get_by_text("Text message delivered").wait_for()
        assert tab.locator("h1").inner_text() == "Enter the code from the text message"
        app.config["STATUS"] = {"state": "pending", "delivery": "undelivered"}
        with tab.expect_response("**/status*"):
            tab.clock.run_for(5_000)
        tab.get_by_text("The text message was not delivered").wait_for()
        assert tab.locator("h1").inner_text() == "If you get a code, enter it here"
        app.config["STATUS"] = {"state": "verified"}
        with tab.expect_navigation(url="**/orders*"):
            tab.clock.run_for(7_000)
    finally:
        app.config["STATUS"] = {"state": "pending", "delivery": "sent"}


@pytest.mark.parametrize("state", ["unverified", "signed_out"])
def test_the_page_is_reloaded_once_no_code_can_be_entered(
    site: tuple[Flask, str], tab: Any, state: str
) -> None:
    app, url = site
    tab.clock.install()
    app.config["STATUS"] = {"state": state, "delivery": "rejected"}
    try:
        tab.goto(f"{url}?name=pending&lang=en")
        with tab.expect_navigation():
            tab.clock.run_for(3_100)
    finally:
        app.config["STATUS"] = {"state": "pending", "delivery": "sent"}


def test_polling_stops_without_a_reload_once_the_visitor_is_signed_out(
    site: tuple[Flask, str], tab: Any
) -> None:
    loads: list[str] = []
    tab.on("request", lambda one: one.is_navigation_request() and loads.append(one.url))
    tab.clock.install()
    tab.route(
        "**/status*", lambda route: route.fulfill(status=401, json={"code": "login_required"})
    )
    tab.goto(f"{site[1]}?name=pending&lang=en")
    with tab.expect_response("**/status*"):
        tab.clock.run_for(3_100)
    tab.clock.run_for(60_000)
    assert len(loads) == 1


def test_an_expired_code_is_announced_and_polling_stops(site: tuple[Flask, str], tab: Any) -> None:
    polls: list[str] = []
    tab.on("request", lambda one: "/status" in one.url and polls.append(one.url))
    tab.clock.install()
    tab.goto(f"{site[1]}?name=notice&lang=en")
    tab.clock.fast_forward(601_000)
    tab.clock.run_for(60_000)
    assert tab.get_by_role("status").inner_text() == "The code has expired. Get a new code."
    before = len(polls)
    tab.clock.run_for(120_000)
    assert len(polls) == before <= 1


@pytest.mark.parametrize("name", ["pending", "confirm a change", "sign in with a code"])
def test_times_are_in_the_browsers_time_zone(site: tuple[Flask, str], tab: Any, name: str) -> None:
    tab.goto(f"{site[1]}?name={name}&lang=en")
    assert tab.locator("time[data-sv-clock]").inner_text() == "18:40"
