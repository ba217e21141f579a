"""The main job as people do it: a browser, the demo shop, and a phone that gets the code."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import needs
from flask import Flask
from playwright.sync_api import Page, expect

from example_app.extensions import db
from flask_smsverify.db.models import Verification

pytestmark = needs("chromium")

SCREENSHOTS = os.environ.get("SMSTESTS_SCREENSHOTS")
PERSIAN = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")
SARA, NEW_NUMBER = "+989123456789", "+989351112233"

both_scripts = pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])


def in_persian(code: str) -> str:
    """As a Persian keyboard writes it, with a space in the middle."""
    return f"{code[:3]} {code[3:]}".translate(PERSIAN)


def national(mobile: str) -> str:
    """Return a mobile as Persian pages show it: «۰۹۱۲ ۳۴۵ ۶۷۸۹»."""
    number = "0" + mobile.removeprefix("+98")
    return f"{number[:4]} {number[4:7]} {number[7:]}".translate(PERSIAN)


def wrong(code: str) -> str:
    """Another code of the same length."""
    return code[:-1] + str((int(code[-1]) + 1) % 10)


@both_scripts
def test_a_customer_verifies_and_continues_to_the_requested_page(visit, shop, script):
    sara = visit(shop, java_script_enabled=script)
    sara.log_in("sara", "/orders")
    expect(sara.page.get_by_role("heading", level=1)).to_have_text("تأیید شمارهٔ موبایل")
    assert shop.simulator.messages() == []
    sara.send()
    expect(sara.page.get_by_role("heading", level=1)).to_have_text("کد تأیید را وارد کنید")
    expect(sara.page.locator(".sv-mobile")).to_have_text("۰۹۱۲ ••• ۶۷۸۹")

    phone = sara.look_at_phone()
    expect(phone.messages).to_have_count(1)
    expect(phone.messages).to_contain_text(national(SARA))
    [code] = phone.codes()

    sara.type_code(in_persian(code))
    expect(sara.page).to_have_url(f"{shop.url}/orders")
    expect(sara.page.get_by_role("heading", level=1)).to_have_text("سفارش‌ها")


def test_a_code_from_a_call_works(visitor, shop):
    visitor.log_in("sara", "/invoices")
    visitor.page.get_by_role("button", name="دریافت کد با تماس").click()
    heading = visitor.page.get_by_role("heading", level=1)
    expect(heading).to_have_text("کدی را که در تماس شنیدید وارد کنید")
    code = visitor.look_at_phone().listen()
    visitor.type_code(code.translate(PERSIAN))
    expect(visitor.page).to_have_url(f"{shop.url}/invoices")


def test_the_second_gateway_sends_while_the_first_is_down(visitor, shop):
    visitor.log_in("sara", "/orders")
    visitor.look_at_phone().switch("raygan", "قطع ارتباط")
    visitor.send()
    expect(visitor.page.get_by_role("alert")).to_have_count(0)
    phone = visitor.look_at_phone()
    expect(phone.messages).to_have_count(1)
    expect(phone.messages.locator(".tag")).to_have_text("wikipayam")
    visitor.type_code(in_persian(phone.codes()[0]))
    expect(visitor.page).to_have_url(f"{shop.url}/orders")


@pytest.mark.parametrize("gateway", ["raygan", "wikipayam"])
def test_both_codes_work_after_a_lost_answer(visitor, shop, gateway):
    visitor.log_in("sara", "/orders")
    visitor.look_at_phone().switch("raygan", "نرسیدن پاسخ")
    visitor.send()
    phone = visitor.look_at_phone()
    expect(phone.messages).to_have_count(2)
    expect(phone.messages.locator(".tag")).to_have_text(["wikipayam", "raygan"])
    code = phone.messages.filter(has=phone.page.locator(f".tag.{gateway}")).locator("mark")
    if gateway == "raygan":  # it must be asked whether its own code is right
        phone.page.locator(".gateway.raygan").get_by_role("button", name="نرسیدن پاسخ").click()
    visitor.type_code(code.inner_text())
    expect(visitor.page).to_have_url(f"{shop.url}/orders")


def test_a_gateway_opens_with_its_first_request_and_stays_as_it_is_left(visitor):
    visitor.log_in("sara", "/orders")
    phone = visitor.look_at_phone()
    gateway = phone.page.locator(".gateway.raygan")
    expect(gateway).not_to_have_attribute("open", "")
    visitor.page.bring_to_front()
    visitor.send()
    phone.page.bring_to_front()
    expect(gateway).to_have_attribute("open", "")
    gateway.locator("> summary").click()
    for _ in range(2):  # after the second answer, the first has been shown
        with phone.page.expect_response(re.compile("/$|lang=")):
            pass
    expect(gateway).not_to_have_attribute("open", "")


def test_an_exempt_customer_is_not_asked_for_a_code(visitor, shop):
    visitor.log_in("reza", "/orders")
    expect(visitor.page).to_have_url(f"{shop.url}/orders")
    for path in ("/invoices", "/domains", "/domains/karimi-web.ir/transfer"):
        visitor.go(path)
        expect(visitor.page).to_have_url(shop.url + path)
    expect(visitor.look_at_phone().messages).to_have_count(0)


@both_scripts
def test_a_new_customer_enters_a_number_and_sees_its_errors(visit, shop, script):
    newcomer = visit(shop, java_script_enabled=script)
    newcomer.log_in("newcomer", "/orders")
    summary = newcomer.page.get_by_role("alert")
    number = newcomer.page.locator("#sv-mobile")
    for typed in ("021 8877 6655", "سلام"):
        newcomer.give_mobile(typed)
        expect(number).to_be_focused()
        expect(summary).to_contain_text("شمارهٔ موبایل معتبر نیست")
        expect(number).to_have_value(typed)
        expect(number).to_have_accessible_description(re.compile("شمارهٔ موبایل معتبر نیست"))
    newcomer.give_mobile("۰۹۳۵ ۱۱۱ ۲۲۳۳")
    expect(newcomer.page.locator(".sv-mobile")).to_have_text("۰۹۳۵ ۱۱۱ ۲۲۳۳")
    assert shop.stored_mobile("newcomer") is None

    phone = newcomer.look_at_phone()
    expect(phone.messages).to_contain_text(national(NEW_NUMBER))
    newcomer.type_code(in_persian(phone.codes()[0]))
    expect(newcomer.page).to_have_url(f"{shop.url}/orders")
    assert shop.stored_mobile("newcomer") == NEW_NUMBER


@both_scripts
def test_five_wrong_codes_exhaust_the_challenge(visit, open_shop, script):
    shop = open_shop()
    guesser = visit(shop, java_script_enabled=script)
    guesser.log_in("sara", "/orders")
    guesser.send()
    code = guesser.look_at_phone().codes()[0]
    kept_open = guesser.context.new_page()
    kept_open.goto(guesser.page.url)
    summary = guesser.page.get_by_role("alert")
    for typed, said in (
        ("", "کد را وارد کنید"),
        ("12", "کامل نیست"),
        ("abcdef", "باید فقط عدد باشد"),
    ):
        guesser.type_code(typed)  # cannot be a code, so it costs no try
        expect(guesser.code_field).to_be_focused()
        expect(summary).to_contain_text(said)
    for left in "۴۳۲۱":
        guesser.type_code(wrong(code))
        expect(guesser.code_field).to_be_focused()
        expect(summary).to_contain_text(f"{left} تلاش دیگر باقی مانده است")
        expect(summary.get_by_role("link")).to_have_attribute("href", "#sv-code")
        expect(guesser.code_field).to_have_accessible_description(re.compile("کد اشتباه است"))
        expect(guesser.code_field).to_have_attribute("aria-invalid", "true")
    guesser.type_code(wrong(code))
    expect(summary).to_contain_text("تعداد تلاش‌های مجاز برای این کد تمام شد")
    expect(guesser.code_field).to_have_count(0)
    guesser.page.reload()
    expect(guesser.page.get_by_text("تعداد تلاش‌های مجاز برای این کد تمام شد")).to_be_visible()

    guesser.page = kept_open
    guesser.type_code(code)
    summary = kept_open.get_by_role("alert")
    expect(summary).to_contain_text("تعداد کدهای اشتباه بیش از حد مجاز است")
    expect(summary).to_contain_text(re.compile("[۰-۹]+ (ثانیه|دقیقه) بعد دوباره تلاش کنید"))
    guesser.go("/orders")
    expect(kept_open).to_have_url(re.compile("/verify-mobile/"))
    assert len(shop.simulator.messages()) == 1


def test_reloading_and_going_back_send_nothing(visit, shop):
    sara = visit(shop)
    sara.log_in("sara", "/orders")
    sara.send()
    code = sara.look_at_phone().codes()[0]
    sara.page.reload()
    sara.type_code(wrong(code))
    expect(sara.code_field).to_be_focused()
    sara.page.reload()
    expect(sara.page.get_by_role("alert")).to_have_count(0)
    sara.page.go_back()
    sara.page.go_forward()
    expect(sara.code_field).to_be_visible()
    assert len(shop.simulator.messages()) == 1
    sara.type_code(code)
    expect(sara.page).to_have_url(f"{shop.url}/orders")
    sara.page.go_back()
    sara.page.go_back()
    assert len(shop.simulator.messages()) == 1


def test_the_code_can_be_sent_again_after_the_countdown(visit, open_shop):
    shop = open_shop(SMSVERIFY_RESEND_DELAYS=(3,))
    sara = visit(shop)
    sara.log_in("sara", "/orders")
    sara.send()
    again = sara.page.get_by_role("button", name="ارسال مجدد کد")
    timer = sara.page.get_by_role("timer")
    expect(again).to_be_disabled()
    expect(timer).to_have_text("۰:۰۱")
    expect(again).to_be_enabled()
    expect(timer).to_be_hidden()
    expect(sara.page.get_by_role("status")).to_have_text("اکنون می‌توانید کد جدید دریافت کنید.")
    again.click()
    expect(again).to_be_disabled()
    phone = sara.look_at_phone()
    expect(phone.messages).to_have_count(2)
    sara.type_code(phone.codes()[0])
    expect(sara.page).to_have_url(f"{shop.url}/orders")


def test_without_the_script_an_early_resend_states_the_wait(visit, shop):
    sara = visit(shop, java_script_enabled=False)
    sara.log_in("sara", "/orders")
    sara.send()
    sara.page.get_by_role("button", name="ارسال مجدد کد").click()
    expect(sara.page.get_by_text(re.compile("[۰-۹]+ ثانیه بعد"))).to_be_visible()
    expect(sara.code_field).to_be_visible()
    assert len(shop.simulator.messages()) == 1


def age_proofs(app: Flask, **by: float) -> None:
    """Let time have passed since every proof."""
    with app.app_context():
        db.session.execute(
            db.update(Verification).values(verified_at=datetime.now(UTC) - timedelta(**by))
        )
        db.session.commit()


def test_one_proof_opens_all_areas_and_an_old_proof_not_the_page_with_within(visit, open_shop):
    shop = open_shop(SMSVERIFY_RESEND_DELAYS=(1,))
    visitor = visit(shop)
    visitor.log_in("sara", "/orders")
    for path in ("/invoices", "/domains", "/orders"):
        visitor.go(path)
        expect(visitor.page).to_have_url(f"{shop.url}/verify-mobile/?next={path}")
    visitor.verify()
    for path in ("/orders", "/invoices", "/domains"):
        visitor.go(path)
        expect(visitor.page).to_have_url(shop.url + path)

    age_proofs(shop.app, minutes=11)
    visitor.page.reload()
    expect(visitor.page).to_have_url(f"{shop.url}/domains")
    visitor.page.get_by_role("listitem").filter(has_text="atr-sara.ir").get_by_role("link").click()
    expect(visitor.page).to_have_url(re.compile("/verify-mobile/"))
    visitor.verify()
    expect(visitor.page).to_have_url(f"{shop.url}/domains/atr-sara.ir/transfer")
    expect(visitor.page.get_by_text("Wv4-nQ72-kzPe")).to_be_visible()


def test_an_order_continues_after_the_verification(visitor, shop):
    visitor.go("/")
    visitor.page.get_by_role("link", name="سفارش باغ").click()
    visitor.page.locator("#username").fill("sara")
    visitor.page.locator("#password").fill("sara-demo")
    visitor.page.locator("main form button").click()
    visitor.verify()
    expect(visitor.page.get_by_role("radio", name="باغ")).to_be_checked()
    visitor.page.get_by_role("button", name="ثبت سفارش").click()
    expect(visitor.page.get_by_role("status")).to_contain_text("سفارش شما ثبت شد")
    visitor.page.get_by_role("button", name="پرداخت").first.click()
    expect(visitor.page.get_by_role("status")).to_contain_text("پرداخت با موفقیت انجام شد")


def only_remembered(visitor) -> None:
    """Make the login one that a browser remembered from days ago."""
    app = visitor.shop.app
    signer = app.session_interface.get_signing_serializer(app)
    [cookie] = [one for one in visitor.context.cookies() if one["name"] == "session"]
    session = signer.loads(cookie["value"]) | {"_fresh": False}
    visitor.context.add_cookies([{**cookie, "value": signer.dumps(session)}])


def test_changing_a_number_needs_a_fresh_login_and_a_code_to_the_old_number(visitor, shop):
    visitor.log_in("sara", "/orders")
    visitor.verify()
    only_remembered(visitor)
    visitor.page.get_by_role("link", name="حساب کاربری").click()
    visitor.page.get_by_role("link", name="تغییر شماره").click()
    expect(visitor.page.locator("#sv-mobile")).to_have_count(0)
    expect(visitor.page.get_by_text("دوباره وارد شوید")).to_be_visible()
    visitor.page.get_by_role("link", name="ورود مجدد").click()
    visitor.page.locator("#username").fill("sara")
    visitor.page.locator("#password").fill("sara-demo")
    visitor.page.locator("main form button").click()

    stored = shop.stored_mobile("sara")
    visitor.give_mobile("0935 111 2233")
    expect(visitor.page.locator(".sv-mobile")).to_have_text("۰۹۳۵ ۱۱۱ ۲۲۳۳")
    phone = visitor.look_at_phone()
    expect(phone.messages.first).to_contain_text(national(NEW_NUMBER))
    assert shop.stored_mobile("sara") == stored
    visitor.type_code(phone.codes()[0])
    expect(visitor.page.get_by_role("heading", level=1)).to_have_text("تأیید با شمارهٔ فعلی")
    visitor.look_at_phone()
    expect(phone.messages.first).to_contain_text(national(SARA))
    assert shop.stored_mobile("sara") == stored
    visitor.type_code(phone.codes()[0])
    expect(visitor.page).to_have_url(f"{shop.url}/profile")
    expect(visitor.page.get_by_role("region", name="تأیید شمارهٔ موبایل")).to_contain_text(
        "۰۹۳۵ ••• ۲۲۳۳"
    )
    assert shop.stored_mobile("sara") == NEW_NUMBER
    notice = phone.messages.filter(has_text="به شماره‌ای که به ۲۲۳۳ ختم می‌شود تغییر کرد")
    expect(notice).to_contain_text(national(SARA))


def test_the_page_is_in_the_language_that_the_visitor_chooses(visitor):
    visitor.log_in("sara", "/orders")
    visitor.send()
    html, panel = visitor.page.locator("html"), visitor.page.locator(".sv-panel")
    timer = visitor.page.get_by_role("timer")
    for language, direction, digits, heading, switch in (
        ("fa", "rtl", "[۰-۹]", "کد تأیید را وارد کنید", "English"),
        ("en", "ltr", "[0-9]", "Enter the code from the text message", "فارسی"),
        ("fa", "rtl", "[۰-۹]", "کد تأیید را وارد کنید", None),
    ):
        for element in (html, panel):
            expect(element).to_have_attribute("lang", language)
            expect(element).to_have_attribute("dir", direction)
        expect(visitor.page.get_by_role("heading", level=1)).to_have_text(heading)
        expect(timer).to_have_text(re.compile(f"^{digits}:{digits}{{2}}$"))
        for written in (timer, visitor.code_field, visitor.page.locator(".sv-mobile")):
            expect(written).to_have_css("direction", "ltr")
        if switch:
            visitor.page.get_by_role("button", name=switch).click()


def test_a_violation_of_the_content_security_policy_is_detected(visitor):
    visitor.go("/")
    assert visitor.complaints == []
    visitor.page.evaluate(
        "() => { const bad = document.createElement('script');"
        " bad.textContent = 'window.bad = 1'; document.head.append(bad); }"
    )
    assert visitor.page.evaluate("window.bad") is None
    visitor.go("/login")
    assert "Content Security Policy" in visitor.complaints.pop()


SIZES = """
() => [...document.querySelectorAll("a, button, input:not([type=hidden]), select, summary")]
  .filter(one => one.checkVisibility() && !one.matches(".skip:not(:focus)"))
  .filter(one => !(one.tagName === "A" && getComputedStyle(one).display === "inline"))
  .map(one => [one.outerHTML.slice(0, 120), one.getBoundingClientRect()])
  .filter(([, box]) => Math.min(box.width, box.height) < 44)
  .map(([html, box]) => `${Math.round(box.width)}x${Math.round(box.height)} ${html}`)
"""


def look(page: Page, picture: Path) -> None:
    """Keep pictures of a page on which nothing sticks out and every target is large enough."""
    page.bring_to_front()
    page.wait_for_load_state("load")  # the stylesheet
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=f"{picture}-{scheme}.png", animations="disabled")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), picture.name
    assert page.evaluate(SIZES) == [], picture.name


@pytest.mark.parametrize("language", ["fa", "en"])
def test_every_page_fits_a_phone_and_its_targets_have_44_px(visit, shop, tmp_path, language):
    folder = Path(SCREENSHOTS) if SCREENSHOTS else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    visitor = visit(shop, device_scale_factor=2, is_mobile=True)

    def see(name: str, page: Page = visitor.page) -> None:
        look(page, folder / f"{name}-{language}")

    visitor.speaks(language)
    visitor.log_in("sara", "/orders")
    see("send")
    visitor.send()
    see("code")
    phone = visitor.look_at_phone()
    code = phone.codes()[0]
    visitor.type_code(wrong(code))
    expect(visitor.code_field).to_be_focused()
    see("wrong-code")
    visitor.type_code(code)
    expect(visitor.page).to_have_url(f"{shop.url}/orders")
    visitor.go("/verify-mobile/")
    see("verified")
    visitor.go("/profile")
    see("profile")
    visitor.go("/verify-mobile/mobile")
    see("mobile")
    phone.page.set_viewport_size({"width": 1280, "height": 800})
    phone.page.goto(f"{shop.simulator.url}/?lang={language}")
    see("simulator", phone.page)
