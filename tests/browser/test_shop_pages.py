"""The example shop's own pages in a browser, in both languages and colours."""

from __future__ import annotations

import axe
import pytest
from conftest import needs
from playwright.sync_api import expect

pytestmark = needs("chromium")

PAGES = {
    "sara": (
        "/orders", "/orders/1", "/orders/2", "/orders/1/password", "/invoices", "/wallet",
        "/domains", "/domains/new", "/emails", "/tickets", "/tickets/new",
        "/tickets/1", "/profile", "/profile/password",
    ),
    "staff": ("/staff", "/staff/tickets/1"),
}  # fmt: skip
OPEN_AREAS = dict.fromkeys(("orders", "billing", "domains", "wallet", "emails"), False)
#: Controls that are smaller than 44 px. A radio button is as large as its label.
SMALL = """() => [...document.querySelectorAll("a, button, input, select, textarea")]
  .filter(one => one.checkVisibility() && !one.matches(".skip, [type=radio]"))
  .filter(one => !(one.tagName === "A" && getComputedStyle(one).display === "inline"))
  .filter(one => {
    const box = one.getBoundingClientRect();
    return Math.min(box.width, box.height) < 44;
  })
  .map(one => one.outerHTML)"""


@pytest.mark.parametrize("language", ["fa", "en"])
@pytest.mark.parametrize("username", PAGES)
def test_every_page_of_the_shop_is_accessible_and_fits_a_phone(
    visit, open_shop, language, username
):
    visitor = visit(open_shop(SMSVERIFY_AREAS=OPEN_AREAS))
    axe.load_into(visitor.context)
    visitor.speaks(language)
    visitor.log_in(username)
    page = visitor.page
    page.set_viewport_size({"width": 360, "height": 780})
    for path in PAGES[username]:
        visitor.go(path)
        expect(page.locator("html")).to_have_attribute("lang", language)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
        assert page.evaluate(SMALL) == [], path
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            assert axe.violations(page, colours_only=scheme == "dark") == [], (path, scheme)


def test_a_refused_action_is_an_alert_and_a_customer_sees_no_staff_page(visit, open_shop):
    shop = open_shop(SMSVERIFY_AREAS=OPEN_AREAS)
    staff = visit(shop)
    staff.log_in("staff")
    staff.page.get_by_role("link", name="مدیریت فروشگاه").click()
    field = staff.page.get_by_label("مبلغ (تومان)")
    field.fill("صفر")
    staff.page.get_by_role("button", name="افزایش اعتبار").click()
    expect(staff.page.get_by_role("alert")).to_contain_text("مبلغی بین ۱ تا")
    field.fill("۵۰۰۰۰۰")
    staff.page.get_by_role("button", name="افزایش اعتبار").click()
    expect(staff.page.get_by_role("status")).to_have_text("اعتبار افزایش یافت.")
    expect(staff.page.locator("main")).to_contain_text("۲٬۵۰۰٬۰۰۰ تومان")

    sara = visit(shop)
    sara.log_in("sara")
    sara.go("/staff")
    expect(sara.page.get_by_role("heading", level=1)).to_have_text("اجازهٔ دسترسی ندارید")
    assert "403" in sara.complaints.pop()
