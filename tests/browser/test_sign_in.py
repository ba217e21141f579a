"""Sign-in with a mobile as people do it: a browser, the demo shop, and the phone with the code."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import axe
import pytest
from conftest import needs
from playwright.sync_api import Page, expect

from example_app.extensions import db
from example_app.models import User

pytestmark = needs("chromium")

SCREENSHOTS = os.environ.get("SMSTESTS_SCREENSHOTS")
PERSIAN = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")
NUMBER, E164 = "0935 111 2233", "+989351112233"
#: Milliseconds that a slow machine may compute.
SOLVING = 60_000
NARROW = {"width": 360, "height": 740}

TEXTS: dict[str, dict[str, str]] = {
    "fa": {
        "link": "ورود یا ثبت‌نام با شمارهٔ موبایل",
        "heading": "ورود یا ثبت‌نام",
        "label": "شمارهٔ موبایل",
        "next": "ادامه",
        "code": "کد تأیید",
        "enter": "ورود",
        "edit": "ویرایش",
        "shown": NUMBER.translate(PERSIAN),
        "invalid": "شمارهٔ موبایل معتبر نیست",
        "wrong": "کد اشتباه است",
        "customer": "مشتری جدید",
    },
    "en": {
        "link": "Sign in or sign up with your mobile",
        "heading": "Sign in or create an account",
        "label": "Mobile number",
        "next": "Continue",
        "code": "Code",
        "enter": "Sign in",
        "edit": "Edit",
        "shown": NUMBER,
        "invalid": "Enter a valid mobile number",
        "wrong": "The code is wrong",
        "customer": "New customer",
    },
}


def newest_code(shop: Any) -> str:
    """Return the code on the phone, once it has arrived."""
    shop.app.extensions["smsverify"].workers.wait()
    return str(shop.simulator.messages()[0]["code"])


def customers(shop: Any) -> int:
    with shop.app.app_context():
        return int(db.session.scalar(db.select(db.func.count(User.id)).filter_by(mobile=E164)))


def fits(page: Page, name: str) -> None:
    """Check a page with axe-core and its width, and take a screenshot if asked."""
    page.wait_for_load_state("load")  # the stylesheet
    wide = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    assert not wide, name
    small = page.evaluate(
        """() => [...document.querySelectorAll('.sv-panel :is(a, button, .sv-input)')]
          .filter(e => e.offsetParent && e.getBoundingClientRect().height < 43.5)
          .map(e => e.textContent.trim())"""
    )
    assert small == [], name
    for scheme in ("light", "dark") if "plain" not in name else ():  # axe-core is a script
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        assert axe.violations(page, colours_only=scheme == "dark") == [], (name, scheme)
    if SCREENSHOTS:
        folder = Path(SCREENSHOTS)
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=folder / f"sign-in-{name}.png", full_page=True)


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
@pytest.mark.parametrize("language", ["fa", "en"])
def test_a_new_customer_signs_up_and_in_again_with_a_mobile(visit, shop, language, script):
    texts = TEXTS[language]
    name = f"{language}-{'script' if script else 'plain'}"
    visitor = visit(shop, java_script_enabled=script)
    axe.load_into(visitor.context)
    page = visitor.page
    page.set_viewport_size(NARROW)
    visitor.speaks(language)
    visitor.go("/orders")
    page.get_by_role("link", name=texts["link"]).click()
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text(texts["heading"])
    number = page.get_by_label(texts["label"])
    expect(number).to_be_focused()
    fits(page, f"{name}-number")

    number.fill("0935 111")
    page.get_by_role("button", name=texts["next"], exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text(texts["invalid"])
    expect(number).to_have_value("0935 111")
    fits(page, f"{name}-invalid")

    number.fill(texts["shown"])
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name=texts["next"], exact=True).click()
    code = page.get_by_label(texts["code"], exact=True)
    expect(code).to_be_focused()
    expect(page.locator(".sv-mobile")).to_have_text(texts["shown"])
    right = newest_code(shop)
    fits(page, f"{name}-code")

    code.fill(right[:-1] + str((int(right[-1]) + 1) % 10))
    page.get_by_role("button", name=texts["enter"], exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text(texts["wrong"])
    fits(page, f"{name}-wrong")

    page.get_by_role("link", name=texts["edit"]).click()
    expect(page.get_by_label(texts["label"])).to_have_value(texts["shown"])
    page.get_by_role("button", name=texts["next"], exact=True).click()  # too soon: the code page
    expect(page.get_by_role("alert")).to_have_count(0)
    typed = right.translate(PERSIAN) if language == "fa" else f"{right[:3]} {right[3:]}"
    page.get_by_label(texts["code"], exact=True).fill(typed)
    page.get_by_role("button", name=texts["enter"], exact=True).click()
    expect(page).to_have_url(f"{shop.url}/orders")
    assert customers(shop) == 1

    sign_in_again(visitor, language)
    expect(page).to_have_url(f"{shop.url}/profile")
    expect(page.locator("body")).to_contain_text(texts["customer"])
    assert customers(shop) == 1


def sign_in_again(visitor: Any, language: str) -> None:
    """Sign in without the cookies of the first time."""
    shop, page, texts = visitor.shop, visitor.page, TEXTS[language]
    visitor.context.clear_cookies()
    shop.app.extensions["smsverify"].limit_report.reset_all()
    visitor.speaks(language)
    visitor.go("/verify-mobile/sign-in?next=/profile")
    page.get_by_label(texts["label"]).fill(NUMBER)
    page.get_by_role("button", name=texts["next"], exact=True).click()
    expect(page.get_by_label(texts["code"], exact=True)).to_be_focused()
    page.get_by_label(texts["code"], exact=True).fill(newest_code(shop))
    page.get_by_role("button", name=texts["enter"], exact=True).click()


def test_a_code_from_a_call_signs_in(visit, open_shop):
    shop = open_shop(SMSVERIFY_RESEND_DELAYS=(1,))
    visitor = visit(shop)
    visitor.go("/verify-mobile/sign-in")
    visitor.give_mobile(NUMBER)
    visitor.wait_for_code_page()
    visitor.page.get_by_role("button", name="دریافت کد با تماس").click()
    expect(visitor.page.get_by_role("heading", level=1)).to_have_text(
        "کدی را که در تماس شنیدید وارد کنید"
    )
    shop.app.extensions["smsverify"].workers.wait()
    visitor.code_field.fill(visitor.look_at_phone().listen())
    visitor.page.get_by_role("button", name="ورود", exact=True).click()
    expect(visitor.page).to_have_url(f"{shop.url}/")


def test_a_code_that_no_gateway_sends_leads_to_the_page_for_a_new_code(visitor, shop):
    axe.load_into(visitor.context)
    visitor.page.set_viewport_size(NARROW)
    visitor.speaks("en")
    for gateway in ("raygan", "wikipayam"):
        shop.simulator.fault(gateway, "refuse")
    visitor.go("/verify-mobile/sign-in")
    page = visitor.page
    page.get_by_label("Mobile number").fill(NUMBER)
    page.get_by_role("button", name="Continue", exact=True).click()
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("Get a new code", timeout=60_000)
    expect(page.get_by_text("The text message could not be sent")).to_be_visible()
    expect(page.get_by_label("Code", exact=True)).to_have_count(0)
    fits(page, "en-unsent")
    button = page.get_by_role("button", name="Send the code by text message")
    expect(button).to_be_visible()


def test_the_browser_reads_the_code_from_the_text_message(visitor, shop):
    """WebOTP, with the browser's part replaced: the code is filled in and submitted."""
    visitor.page.add_init_script(
        """
        window.OTPCredential = function () {};
        navigator.credentials.get = (options) => new Promise((resolve) => {
          window.giveCode = (code) => resolve({ code });
        });
        """
    )
    visitor.go("/verify-mobile/sign-in?next=/profile")
    visitor.give_mobile(NUMBER)
    visitor.wait_for_code_page()
    visitor.page.evaluate("code => window.giveCode(code)", newest_code(shop))
    expect(visitor.page).to_have_url(f"{shop.url}/profile")


@pytest.mark.parametrize("challenge", ["always", "auto"])
def test_the_browser_solves_the_proof_of_work(visit, open_shop, challenge):
    limits = {"site": "1/day"} if challenge == "auto" else {}
    shop = open_shop(SMSVERIFY_ANONYMOUS_CHALLENGE=challenge, SMSVERIFY_LIMITS=limits)
    visitor = visit(shop)
    visitor.go("/verify-mobile/sign-in?next=/profile")
    has_puzzle = challenge == "always"
    expect(visitor.page.locator("[data-sv-seed]")).to_have_count(1 if has_puzzle else 0)
    visitor.give_mobile(NUMBER)
    expect(visitor.code_field).to_be_focused(timeout=SOLVING)
    visitor.code_field.fill(newest_code(shop))
    visitor.page.get_by_role("button", name="ورود", exact=True).click()
    expect(visitor.page).to_have_url(f"{shop.url}/profile")


@pytest.mark.parametrize("seconds", [565, 605, 3600], ids=["last minute", "expired", "an hour"])
def test_the_browser_solves_the_puzzle_of_a_new_code_however_old_the_page_of_the_last_one_is(
    visit, open_shop, seconds
):
    shop = open_shop(SMSVERIFY_ANONYMOUS_CHALLENGE="always", SMSVERIFY_RESEND_DELAYS=(1,))
    visitor = visit(shop)
    page = visitor.page
    page.clock.install()
    visitor.go("/verify-mobile/sign-in?next=/profile")
    visitor.give_mobile(NUMBER)
    expect(visitor.code_field).to_be_focused(timeout=SOLVING)
    first = newest_code(shop)
    wait(shop, seconds)
    page.clock.fast_forward(seconds * 1000)
    subject = page.locator("[data-sv-subject]").first.get_attribute("data-sv-subject")
    page.get_by_role("button", name="ارسال مجدد کد").click()
    expect(page.locator(f"[data-sv-subject='{subject}']")).to_have_count(0, timeout=SOLVING)
    expect(visitor.code_field).to_be_focused()
    expect(page.get_by_role("alert")).to_have_count(0)
    assert newest_code(shop) != first


def wait(shop: Any, seconds: int) -> None:
    """Advance the shop's clock."""
    clock = shop.app.extensions["smsverify"].clock
    now = clock.source
    clock.source = lambda: now() + timedelta(seconds=seconds)


def test_a_code_is_sent_from_a_page_that_was_open_longer_than_its_puzzle_is_valid(visit, open_shop):
    shop = open_shop(SMSVERIFY_ANONYMOUS_CHALLENGE="always")
    visitor = visit(shop)
    visitor.go("/verify-mobile/sign-in")
    wait(shop, 3600)
    visitor.give_mobile(NUMBER)
    expect(visitor.code_field).to_be_focused(timeout=SOLVING)
    expect(visitor.page.get_by_role("alert")).to_have_count(0)
    assert [message["to"] for message in shop.simulator.messages()] == [E164]


def test_two_tabs_can_request_codes_although_the_first_one_uses_their_puzzle_up(visit, open_shop):
    shop = open_shop(SMSVERIFY_ANONYMOUS_CHALLENGE="always", SMSVERIFY_RESEND_DELAYS=(1,))
    visitor = visit(shop)
    second = visitor.context.new_page()
    for page in (visitor.page, second):
        page.goto(f"{shop.url}/verify-mobile/sign-in")
    visitor.give_mobile(NUMBER)
    expect(visitor.code_field).to_be_focused(timeout=SOLVING)
    visitor.page = second
    visitor.give_mobile("0936 111 2233")
    expect(visitor.code_field).to_be_focused(timeout=SOLVING)
    expect(second.get_by_role("alert")).to_have_count(0)
    assert len(shop.simulator.messages()) == 2


def test_a_code_is_sent_although_the_page_cannot_ask_whether_its_puzzle_is_valid(visit, open_shop):
    shop = open_shop(SMSVERIFY_ANONYMOUS_CHALLENGE="always")
    visitor = visit(shop)
    visitor.go("/verify-mobile/sign-in")
    visitor.page.evaluate("() => { window.fetch = () => Promise.reject(new Error('no network')); }")
    visitor.give_mobile(NUMBER)
    expect(visitor.code_field).to_be_focused(timeout=SOLVING)


def test_without_javascript_the_page_says_what_the_proof_of_work_needs(visit, open_shop):
    shop = open_shop(SMSVERIFY_ANONYMOUS_CHALLENGE="always")
    visitor = visit(shop, java_script_enabled=False)
    visitor.go("/verify-mobile/sign-in")
    visitor.give_mobile(NUMBER)
    expect(visitor.page.get_by_role("alert")).to_contain_text("بررسی مرورگر شما انجام نشد")
    assert shop.simulator.messages() == []


def test_the_sign_in_follows_a_host_without_a_strict_layout(visitor, shop):
    """In the shop's layout, the page has the shop's header and its link to the password login."""
    visitor.go("/verify-mobile/sign-in?next=/orders")
    visitor.page.get_by_role("link", name=re.compile("ورود با رمز عبور")).click()
    expect(visitor.page.locator("#username")).to_be_visible()
    assert visitor.page.url.endswith("/login?next=/orders")
