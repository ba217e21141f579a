"""What people do on the users' pages and the staff pages by keyboard alone, with and without
JavaScript.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from conftest import needs
from keyboard import Keyboard
from playwright.sync_api import expect

if TYPE_CHECKING:
    from .conftest import Shop, Visit

pytestmark = needs("chromium")


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_a_customer_confirms_another_number_by_keyboard_alone(
    visit: Visit, open_shop: Callable[..., Shop], script: bool
) -> None:
    shop = open_shop(SMSVERIFY_RESEND_DELAYS=(0,))
    visitor = visit(shop, java_script_enabled=script)
    visitor.log_in("newcomer", "/orders")
    page, keys = visitor.page, Keyboard(visitor.page)
    number = page.locator("#sv-mobile")

    expect(number).to_be_focused()
    keys.write("021 8877 6655")
    page.keyboard.press("Enter")
    expect(number).to_have_attribute("aria-invalid", "true")
    expect(number).to_be_focused()
    keys.write("0912 222 3344")
    page.keyboard.press("Enter")

    code = page.locator("#sv-code")
    expect(code).to_be_focused()
    keys.write("12")
    page.keyboard.press("Enter")
    expect(code).to_have_attribute("aria-invalid", "true")
    expect(code).to_be_focused()

    keys.press(page.get_by_role("button", name="ارسال مجدد کد"), "Space")
    expect(page.locator(".sv-notice")).to_be_visible()
    expect(code).to_be_focused()
    assert len(shop.simulator.messages()) == 2

    keys.press(page.get_by_role("link", name="ویرایش"))
    expect(number).to_be_focused()
    keys.write("0935 111 2233")
    keys.press(page.get_by_role("button", name=re.compile("^ادامه$")), "Space")
    expect(page.locator(".sv-mobile")).to_have_text("۰۹۳۵ ۱۱۱ ۲۲۳۳")
    expect(code).to_be_focused()
    keys.write(str(shop.simulator.messages()[0]["code"]))
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{shop.url}/orders")
    assert shop.stored_mobile("newcomer") == "+989351112233"


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_staff_send_a_text_by_keyboard_alone(visit: Visit, shop: Shop, script: bool) -> None:
    visitor = visit(shop, java_script_enabled=script)
    visitor.log_in("staff")
    visitor.go("/admin/smsverify/")
    page, keys = visitor.page, Keyboard(visitor.page)
    keys.press(page.get_by_role("link", name="ارسال پیامک"))

    keys.press(page.locator(".sv-skip"))
    expect(page.locator("#sv-content")).to_be_focused()
    recipients, text = page.locator("#sv-to"), page.locator("#sv-text")
    keys.tab_to(recipients)
    keys.press(page.get_by_role("button", name="پیش‌نمایش"))
    expect(recipients).to_be_focused()
    expect(recipients).to_have_accessible_description(re.compile("حداقل یک گیرنده وارد کنید"))
    expect(page).to_have_title(re.compile("^خطا:"))
    visitor.complaints.clear()  # the browser reports the refused form
    keys.write("0935 111 2233")
    keys.tab_to(text)
    keys.write("جمعه تعطیل هستیم.")
    keys.press(page.get_by_role("button", name="پیش‌نمایش"), "Space")
    keys.press(page.get_by_role("button", name="ارسال به ۱ گیرنده"))
    expect(page.locator(".sv-progress")).to_be_visible()
    shop.app.extensions["smsverify"].wait()
    [message] = shop.simulator.messages()
    assert "جمعه تعطیل هستیم." in str(message["text"])


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_staff_revoke_a_verification_by_keyboard_alone(
    visit: Visit, shop: Shop, script: bool
) -> None:
    customer = visit(shop)
    customer.log_in("sara", "/orders")
    customer.verify()
    expect(customer.page).to_have_url(f"{shop.url}/orders")
    visitor = visit(shop, java_script_enabled=script)
    visitor.log_in("staff")
    visitor.go("/admin/smsverify/verifications")
    page, keys = visitor.page, Keyboard(visitor.page)
    row = page.get_by_role("row").filter(has_text="۰۹۱۲ ۳۴۵ ۶۷۸۹")
    keys.press(row.locator(".sv-actions > summary"))
    keys.press(row.locator(".sv-ask > summary", has_text="لغو تأیید"), "Space")
    keys.press(row.get_by_role("button", name="لغو تأیید"))
    expect(page.get_by_role("status")).to_have_text("تأیید شماره لغو شد.")
