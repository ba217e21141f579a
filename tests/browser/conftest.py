"""A browser on a phone, the demo shop on a port, and the phone page where its messages arrive.

Whatever a test does, its pages may not complain: an error or a warning in the console, an uncaught
exception, a refusal by the Content-Security-Policy or a page without a strict one fails it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import services
from flask import Flask
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Response,
    expect,
    sync_playwright,
)
from werkzeug.security import generate_password_hash
from werkzeug.serving import make_server
from werkzeug.wsgi import ClosingIterator

from example_app import create_app, demo_data
from example_app.extensions import db
from example_app.models import User
from flask_smsverify.simulator import Simulator, running

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PHONE_SIZE = {"width": 390, "height": 844}
#: Milliseconds until a wait fails. On an overloaded machine, a page may take more than ten seconds.
TIMEOUT = 60_000
expect.set_options(timeout=TIMEOUT)
SPOKEN = ("صفر", "یک", "دو", "سه", "چهار", "پنج", "شش", "هفت", "هشت", "نه")


# One module long, not one session: while it runs, no other test could run an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=services.CHROMIUM, args=list(CHROMIUM_OPTIONS)
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def filled_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop's database as its first start leaves it, but with passwords that cost no time."""
    path = tmp_path_factory.mktemp("filled") / "shop.sqlite"
    with pytest.MonkeyPatch.context() as environment:
        _without_settings(environment)
        environment.setenv("EXAMPLE_DATABASE", str(path))
        app = create_app({"SECRET_KEY": "only for tests"})
    app.extensions["smsverify"].close()
    with app.app_context():
        for user in db.session.scalars(db.select(User)):
            password = demo_data.PASSWORDS[user.username]
            user.password_hash = generate_password_hash(password, "pbkdf2:sha256:1")
        db.session.commit()
        db.engine.dispose()
    return path


def _without_settings(environment: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("SMSVERIFY_") or name == "SECRET_KEY":
            environment.delenv(name)


@dataclass(frozen=True)
class Shop:
    """The demo shop at `url`, and the simulator that has its gateways and its phone."""

    app: Flask
    url: str
    simulator: Simulator

    def stored_mobile(self, username: str) -> str | None:
        """What the shop's own table holds."""
        with self.app.app_context():
            return db.session.scalar(db.select(User.mobile).filter_by(username=username))


OpenShop = Callable[..., Shop]


def sent_at_once(app: Flask) -> WSGIApplication:
    """The app, with each answer read whole and closed before it is sent.

    Where a browser goes away while a file is sent, Werkzeug's server leaves the file open.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        with contextlib.closing(ClosingIterator(app(environ, start_response))) as parts:
            return list(parts)

    return answer


@pytest.fixture
def open_shop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filled_database: Path
) -> Iterator[OpenShop]:
    """Opens the shop with a database and a simulator of its own; takes more settings."""
    _without_settings(monkeypatch)
    monkeypatch.setenv("EXAMPLE_DATABASE", str(tmp_path / "shop.sqlite"))
    shutil.copy(filled_database, tmp_path / "shop.sqlite")
    closing: list[Callable[[], object]] = []

    with running() as simulator:

        def open_shop(**config: Any) -> Shop:
            settings: Mapping[str, Any] = {
                "SECRET_KEY": "only for tests",
                "SMSVERIFY_SIMULATOR_URL": simulator.url,
                **config,
            }
            app = create_app(settings)
            server = make_server("127.0.0.1", 0, sent_at_once(app), threaded=True)
            thread = threading.Thread(
                target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="shop"
            )
            thread.start()

            def close() -> None:
                server.shutdown()
                thread.join()
                server.server_close()
                app.extensions["smsverify"].close()
                with app.app_context():
                    db.engine.dispose()

            closing.append(close)
            return Shop(app, f"http://127.0.0.1:{server.server_port}", simulator)

        try:
            yield open_shop
        finally:
            for close in closing:
                close()


@pytest.fixture
def shop(open_shop: OpenShop) -> Shop:
    """The shop as `python -m example_app` serves it."""
    return open_shop()


@dataclass
class Visitor:
    """Somebody with a browser. `complaints` is what its pages had to say against themselves."""

    context: BrowserContext
    shop: Shop
    complaints: list[str] = field(default_factory=list)
    phone: Phone | None = None

    def __post_init__(self) -> None:
        self.context.set_default_timeout(TIMEOUT)
        self.context.on("console", self._listen)
        self.context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        self.context.on("response", self._inspect)
        self.page = self.context.new_page()

    def _listen(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.location['url']}: {message.text}")

    def _inspect(self, response: Response) -> None:
        if response.request.resource_type != "document":
            return
        policy = response.headers.get("content-security-policy", "")
        strict = re.match("default-src '(self|none)'", policy) and "unsafe" not in policy
        if not strict:
            self.complaints.append(f"no strict policy: {response.url} {policy}")

    def go(self, path: str) -> None:
        self.page.goto(self.shop.url + path)

    def speaks(self, language: str) -> None:
        """Chooses a language with the shop's own button."""
        if language == "en":
            self.go("/login")
            self.page.get_by_role("button", name="English").click()
            expect(self.page.locator("html")).to_have_attribute("lang", "en")

    def log_in(self, username: str, then: str = "/") -> None:
        """Asks for a page of the shop and logs in on the way to it."""
        self.go(then if then != "/" else "/login")
        if then != "/":
            assert "/login?" in self.page.url
        self.page.locator("#username").fill(username)
        self.page.locator("#password").fill(f"{username}-demo")
        self.page.locator("main form button").click()

    def send(self) -> None:
        """Press "Send the code by text message"."""
        self.page.get_by_role(
            "button", name=re.compile("ارسال کد با پیامک|code by text message")
        ).click()
        self.wait_for_code_page()

    def wait_for_code_page(self) -> None:
        """Wait until the code can be entered and the page's scripts have run."""
        expect(self.code_field).to_be_focused()
        self.page.wait_for_load_state("load")

    @property
    def code_field(self) -> Locator:
        return self.page.get_by_label(re.compile("^(کد تأیید|Code)$"))

    def type_code(self, code: str) -> None:
        """Types a code and confirms it."""
        self.code_field.fill(code)
        self.page.get_by_role("button", name=re.compile("^(تأیید|Confirm)$")).click()

    def give_mobile(self, mobile: str) -> None:
        """Types a number on the form for it and goes on."""
        self.page.get_by_label(re.compile("موبایل|mobile number", re.IGNORECASE)).fill(mobile)
        self.page.get_by_role("button", name=re.compile("^(ادامه|Continue)$")).click()

    def verify(self) -> None:
        """Proves the mobile, on the page that asks for it."""
        self.send()
        self.type_code(self.look_at_phone().codes()[0])

    def look_at_phone(self) -> Phone:
        """Opens the phone page in another tab, by the link at the foot of the shop's pages."""
        if self.phone is not None:
            self.phone.page.reload()
            return self.phone
        with self.context.expect_page() as opened:
            self.page.locator("footer a").click()
        opened.value.wait_for_load_state()
        self.phone = Phone(opened.value)
        return self.phone


@dataclass(frozen=True)
class Phone:
    """The phone page in a tab."""

    page: Page

    @property
    def messages(self) -> Locator:
        return self.page.locator("#messages > li:not(.empty)")

    def codes(self) -> list[str]:
        """The codes in the texts on the phone, newest first."""
        expect(self.messages.first).to_be_visible()
        return self.page.locator("#messages .bubble mark").all_inner_texts()

    def listen(self) -> str:
        """Answers the newest call; returns the first code that it says."""
        call = self.page.locator("#messages li.voice details").first
        script = call.locator("[data-script]")
        expect(script).to_be_hidden()
        call.locator("summary").click()
        expect(script).to_be_visible()
        said = re.search(r"شما: ([^.]+)\.", script.inner_text())
        assert said, script.inner_text()
        return "".join(str(SPOKEN.index(word)) for word in said[1].split("، "))

    def switch(self, gateway: str, fault: str) -> None:
        """Switches a fault of a gateway on."""
        shown = self.page.locator(f".gateway.{gateway}")
        menu = shown.get_by_role("combobox")
        if not menu.is_visible():
            shown.locator("> summary").click()
        menu.select_option(label=fault)
        shown.get_by_role("button", name="روشن کردن").click()
        expect(shown.locator(".faults").get_by_role("button", name=fault)).to_be_visible()


Visit = Callable[..., Visitor]


@pytest.fixture
def visit(browser: Browser, open_shop: OpenShop) -> Iterator[Visit]:
    """Brings visitors into a shop, `visit(shop, java_script_enabled=False)`; they leave first."""
    visitors: list[Visitor] = []

    def visit(shop: Shop, **options: Any) -> Visitor:
        # Without transitions: colours are checked, and one on its way to another is none of ours.
        context = browser.new_context(
            viewport=PHONE_SIZE, locale="fa-IR", **{"reduced_motion": "reduce", **options}
        )
        visitors.append(Visitor(context, shop))
        return visitors[-1]

    yield visit
    for visitor in visitors:
        visitor.context.close()
    assert [visitor.complaints for visitor in visitors if visitor.complaints] == []


@pytest.fixture
def visitor(visit: Visit, shop: Shop) -> Visitor:
    """Somebody in the shop, with an ordinary browser."""
    return visit(shop)
