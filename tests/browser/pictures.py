"""Take the pictures of the documentation, at `docs/images`.

    python -m tests.browser.pictures

The pages are those of the example shop. The clock stands still, so that the pictures differ only
where the pages do.
"""

from __future__ import annotations

import base64
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import services
from flask import Flask
from playwright.sync_api import Browser, sync_playwright
from werkzeug.serving import make_server

from example_app import create_app
from example_app.extensions import db, smsverify
from example_app.models import User
from flask_smsverify.db.models import Attempt, Challenge, Incoming, Message
from flask_smsverify.simulator import running

IMAGES = Path(__file__).parents[2] / "docs/images"
NOW = datetime(2026, 3, 9, 11, 30, tzinfo=UTC)
ADMIN = "/admin/smsverify"
DESK = {"width": 1280, "height": 760}
PHONE = {"width": 390, "height": 800}
#: The codes of each of the last 14 days. Nine of ten were proved.
DAYS = (31, 38, 29, 35, 44, 52, 41, 36, 39, 47, 45, 58, 49, 22)
QUALITY = 70


@contextmanager
def shop() -> Iterator[tuple[Flask, str]]:
    """Yield the example shop with messages and figures, and its URL."""
    with tempfile.TemporaryDirectory() as folder, running() as simulator:
        os.environ["EXAMPLE_DATABASE"] = str(Path(folder) / "shop.sqlite")
        app = create_app(
            {
                "SECRET_KEY": "only for pictures",
                "SMSVERIFY_SIMULATOR_URL": simulator.url,
                "SMSVERIFY_SITE_NAME": {"fa": "چنار", "en": "Chenar"},
                "SMSVERIFY_SIGNATURE": "Chenar",
                "SMSVERIFY_RESEND_DELAYS": (60,),
            }
        )
        app.extensions["smsverify"].clock.source = lambda: NOW
        fill(app)
        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield app, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            app.extensions["smsverify"].close()
            with app.app_context():
                db.engine.dispose()


def fill(app: Flask) -> None:
    """Add codes of two weeks, events, and a verified user."""
    state: Any = app.extensions["smsverify"]
    with app.app_context():
        users = {user.username: user for user in db.session.scalars(db.select(User))}
        users["newcomer"].mobile = "09351112233"
        for user in users.values():
            user.language = "en"
        db.session.commit()
        state.verifier.mark_verified(users["newcomer"], by="4")
        smsverify.notify("order.accepted", users["sara"], order_number="1042")
        smsverify.notify(
            "invoice.created",
            users["newcomer"],
            invoice_number="2071",
            amount="250,000 tomans",
            due_date=NOW.date() + timedelta(days=7),
        )
        db.session.commit()
        state.wait()
        state.verifier.start(users["sara"])
        state.wait()
    state.ledger.run(lambda session: session.add_all([*codes(), *incidents()]))


def codes() -> Iterator[object]:
    """Yield codes of today and of the days before."""
    for ago, count in enumerate(reversed(DAYS)):
        for number in range(count):
            at = NOW - timedelta(days=ago, minutes=5 + number)
            key = f"{ago:016x}{number:016x}"
            is_proved = number % 10 < 9
            mobile = "+989123456789" if number % 3 else "+989351112233"
            yield Challenge(
                id=key, user_id=None, mobile=mobile, purpose="verify", key_id="k", code_length=6,
                channel="sms", sends=1, state="verified" if is_proved else "expired",
                created_at=at, expires_at=at, resend_at=at, open_key=key, native_key=key,
            )  # fmt: skip
            yield Message(
                id=key, kind="code", challenge_id=key, recipient=mobile, channel="sms",
                state="delivered", parts=1, created_at=at, updated_at=at,
            )  # fmt: skip
            yield Attempt(
                id=key, message_id=key, sender="raygan" if number % 5 else "wikipayam",
                state="delivered", created_at=at, updated_at=at,
            )  # fmt: skip


def incidents() -> Iterator[object]:
    """Yield codes that no gateway sent, and messages from phones that nobody has read."""
    for number in range(3):
        at = NOW - timedelta(hours=4, minutes=number)
        key = f"{'f' * 16}{number:016x}"
        yield Message(
            id=key, kind="code", recipient="+989351112233", channel="sms", state="failed",
            parts=1, created_at=at, updated_at=at,
        )  # fmt: skip
        yield Attempt(
            id=key, message_id=key, sender="wikipayam", state="failed",
            cause="not enough credit", created_at=at, updated_at=at,
        )  # fmt: skip
    for number, text in enumerate(("سلام، کد به دستم نرسید.", "سپاسگزارم.")):
        yield Incoming(
            id=f"{number:032x}", sender="raygan", originator="+989123456789", line="50001234",
            text=text, received_at=NOW - timedelta(minutes=number),
        )  # fmt: skip


class Camera:
    """A browser that is logged in to the shop, and what takes its pictures."""

    def __init__(self, browser: Browser, url: str, language: str, **options: Any) -> None:
        self._url = url
        options["locale"] = "fa-IR"
        self.page = browser.new_context(device_scale_factor=1.5, **options).new_page()
        self.go("/login")
        if language == "en":
            self.page.get_by_role("button", name="English").click()

    def log_in(self, username: str) -> None:
        self.go("/login")
        self.page.locator("#username").fill(username)
        self.page.locator("#password").fill(f"{username}-demo")
        self.page.locator("main form button").click()

    def go(self, path: str) -> None:
        self.page.goto(self._url + path)

    def take(self, name: str, part: str = "body", height: int = 10_000) -> None:
        """Keep a part of the page, from its upper edge to at most so many pixels below it."""
        box = self.page.locator(part).first.bounding_box()
        assert box is not None
        clip = {**box, "height": min(box["height"], height), "scale": 1}
        taken = self.page.context.new_cdp_session(self.page).send(
            "Page.captureScreenshot",
            {"format": "webp", "quality": QUALITY, "clip": clip, "captureBeyondViewport": True},
        )
        picture = IMAGES / f"{name}.webp"
        picture.write_bytes(base64.b64decode(taken["data"]))
        sys.stdout.write(f"{picture.name}: {picture.stat().st_size // 1000} kB\n")


def take_all(browser: Browser, url: str) -> None:
    """Take every picture."""
    desk = Camera(browser, url, "en", viewport=DESK)
    desk.log_in("staff")
    for name, path, height in (
        ("staff-overview", "/", 760),
        ("staff-verifications", "/verifications", 700),
        ("staff-messages", "/messages?from=2026-03-09", 700),
        ("staff-text", "/texts/user/invoice.created", 640),
        ("staff-settings", "/settings", 860),
    ):
        desk.go(ADMIN + path)
        desk.take(name, height=height)
    desk.go(f"{ADMIN}/send")
    desk.page.locator("#sv-to").fill("0912 345 6789, 09351112233")
    desk.page.locator("#sv-text").fill("We are closed on Friday.")
    desk.page.get_by_role("button", name="Preview").click()
    desk.take("staff-send", height=700)

    phone = Camera(browser, url, "fa", viewport=PHONE, timezone_id="Asia/Tehran")
    phone.log_in("staff")
    phone.go(f"{ADMIN}/verifications")
    phone.take("staff-phone-fa", height=800)
    for language in ("en", "fa"):
        customer = Camera(browser, url, language, viewport=PHONE, timezone_id="Asia/Tehran")
        customer.log_in("sara")
        customer.go("/profile")
        if language == "en":
            customer.take("status-card", part=".sv-card")
        customer.go("/verify-mobile/")
        customer.take(f"verify-page-{language}", height=800)


def main() -> None:
    """Take the pictures with the browser of the system."""
    with shop() as (_, url), sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=services.CHROMIUM, args=["--no-sandbox", "--headless"]
        )
        take_all(browser, url)
        browser.close()


if __name__ == "__main__":
    main()
