"""The staff pages in a browser: every page on a phone and on a desk, in both languages and colours.

Every page and state of a page is checked with axe-core.

With `SMSTESTS_SCREENSHOTS=folder` each page is also saved as a picture.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import axe
import hosts
import pytest
from conftest import needs
from keyboard import Keyboard
from playwright.sync_api import expect
from sqlalchemy import update

from example_app.extensions import db
from example_app.models import User
from example_app.settings import DEMO_SENDERS
from flask_smsverify.db.models import Attempt, Incoming, Message, Verification

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from .conftest import Shop, Visit, Visitor

pytestmark = needs("chromium")

ADMIN = "/admin/smsverify"
PAGES = {
    "overview": "/",
    "verifications": "/verifications",
    "messages": "/messages",
    "texts": "/texts",
    "text": "/texts/user/invoice.created",
    "send": "/send",
    "incoming": "/incoming",
    "senders": "/senders",
    "settings": "/settings",
    "audit": "/audit",
}
SIZES = {"phone": {"width": 360, "height": 780}, "desk": {"width": 1280, "height": 900}}
#: Widths between those of a phone and a desk.
WIDTHS = (600, 800, 1030, 1100)
#: The pairs of controls, numbers and names that cover one another.
OVERLAPPING = """() => {
  const shown = ".sv-staff :is(a, button, summary, select, input, bdi, legend)";
  const all = [...document.querySelectorAll(shown)]
    .filter(one => one.checkVisibility()).map(one => [one, one.getBoundingClientRect()]);
  return all.flatMap(([one, a], at) => all.slice(at + 1)
    .filter(([other, b]) => !one.contains(other) && a.left < b.right - 1 && b.left < a.right - 1
      && a.top < b.bottom - 1 && b.top < a.bottom - 1)
    .map(([other]) => [one.outerHTML, other.outerHTML]));
}"""
FOLDER = os.environ.get("SMSTESTS_SCREENSHOTS")
LATER = timedelta(hours=1)
OPEN_ALL = "document.querySelectorAll('details').forEach(one => one.open = true)"


@pytest.fixture
def filled_shop(open_shop: Callable[..., Shop]) -> Shop:
    """A shop with a verified and a pending user, messages and an unread message."""
    return fill(open_shop())


def fill(shop: Shop) -> Shop:
    """Add users and messages to a shop."""
    state: Any = shop.app.extensions["smsverify"]
    with shop.app.app_context():
        users = {user.username: user for user in db.session.scalars(db.select(User))}
        users["newcomer"].mobile = "09351112233"
        db.session.commit()
        state.verifier.mark_verified(users["newcomer"], by="1")
        state.verifier.start(users["sara"])
        state.wait()
        cost = update(Attempt).values(cost=Decimal("1234.56"))
        state.ledger.run(lambda session: session.execute(cost))
        state.ledger.run(
            lambda session: session.add(
                Incoming(
                    id="1" * 32,
                    sender="raygan",
                    originator="+989123456789",
                    line="50001234",
                    text="سلام، کد به دستم نرسید. لطفاً بررسی کنید.",
                    received_at=state.clock() - timedelta(minutes=7),
                )
            )
        )
    return shop


def staff(visit: Visit, shop: Shop, **options: Any) -> Visitor:
    visitor = visit(shop, **options)
    visitor.log_in("staff")
    return visitor


@pytest.mark.parametrize("language", ["fa", "en"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_its_screen_in_both_languages_and_colours(
    visit: Visit, filled_shop: Shop, language: str, scheme: str
) -> None:
    visitor = visit(filled_shop, color_scheme=scheme)
    axe.load_into(visitor.context)
    visitor.speaks(language)
    visitor.log_in("staff")
    page = visitor.page
    visitor.go(f"{ADMIN}/settings")
    page.locator("#sv-signature").fill("چنار" if language == "fa" else "Chenar")
    page.locator(".sv-content form button").click()
    for name, path in PAGES.items():
        visitor.go(ADMIN + path)
        expect(page.locator("h1")).to_be_visible()
        expect(page.locator("html")).to_have_attribute("lang", language)
        title, _, _ = page.title().partition(" – ")
        assert title == page.locator("h1").inner_text().strip(), name
        for size, viewport in SIZES.items():
            page.set_viewport_size(viewport)
            fits(page, viewport["width"], (name, size))
            expect(page.locator(".sv-menu [aria-current]")).to_be_in_viewport(ratio=1)
            small = page.evaluate(
                """[...document.querySelectorAll('.sv-staff :is(button, summary, select)')]
                .filter(e => e.offsetParent && e.getBoundingClientRect().height < 24)
                .map(e => e.outerHTML)"""
            )
            assert small == [], name
            if scheme == "light" or size == "desk":
                found = axe.violations(page, colours_only=scheme == "dark")
                assert found == [], (name, size)
            if FOLDER:
                picture = Path(FOLDER) / f"{name}-{language}-{scheme}-{size}.png"
                page.screenshot(path=str(picture), full_page=True)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            fits(page, width, (name, f"{width} px"))
        for tag in page.locator(".sv-tag").all():
            expect(tag).to_have_css("text-decoration-line", "none")  # it is no link


BROKEN_NAMES = """[...document.querySelectorAll('td > .sv-code-text')]
  .filter(e => e.getBoundingClientRect().height > 1.9 * parseFloat(getComputedStyle(e).lineHeight))
  .map(e => e.textContent)"""
#: Persian texts whose last character, a full stop, stands right of the one before it.
MISPLACED_STOPS = """[...document.querySelectorAll('.sv-body')].map(e => e.firstChild)
  .filter(text => text.length > 9 && text.data.includes('\\n') && text.data.endsWith('.'))
  .map(text => [1, 2].map(back => {
    const range = document.createRange();
    range.setStart(text, text.length - back);
    range.setEnd(text, text.length - back + 1);
    return range.getBoundingClientRect().left;
  })).map(([stop, letter]) => stop > letter)"""


#: Where the lines of texts with several begin: their right edges on a page from right to left.
STARTS_OF_LINES = """is_rtl => [...document.querySelectorAll('.sv-body')].map(e => e.firstChild)
  .filter(text => text.data.includes('\\n')).map(text => {
    const range = document.createRange();
    return [[0, text.data.indexOf('\\n')], [text.data.indexOf('\\n') + 1, text.length]]
      .map(([from, to]) => {
        range.setStart(text, from);
        range.setEnd(text, to);
        const box = range.getBoundingClientRect();
        return is_rtl ? box.right : box.left;
      });
  })"""


@pytest.mark.parametrize("language", ["fa", "en"])
def test_messages_have_whole_names_of_senders_and_persian_texts_from_right_to_left(
    visit: Visit, filled_shop: Shop, language: str
) -> None:
    state: Any = filled_shop.app.extensions["smsverify"]
    now = state.clock()
    text = Message(
        id="2" * 32,
        kind=Message.EVENT,
        event="invoice.paid",
        audience="staff",
        recipient="+989121111111",
        channel="sms",
        text="چنار: فاکتور 127 پرداخت شد.",
        state="sent",
        created_at=now,
        updated_at=now,
    )
    state.ledger.run(lambda session: session.add(text))
    visitor = visit(filled_shop)
    visitor.page.set_viewport_size(SIZES["desk"])
    visitor.speaks(language)
    visitor.log_in("staff")
    visitor.go(f"{ADMIN}/messages")
    assert visitor.page.evaluate(BROKEN_NAMES) == []
    widths = visitor.page.locator("td .sv-body").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().width)"
    )
    assert min(widths) >= 160  # a text is no column of single words
    starts = visitor.page.evaluate(STARTS_OF_LINES, language == "fa")
    assert starts
    assert all(max(lines) - min(lines) < 2 for lines in starts)
    misplaced = visitor.page.evaluate(MISPLACED_STOPS)
    assert misplaced
    assert not any(misplaced)


@pytest.mark.parametrize("language", ["fa", "en"])
def test_the_overview_fits_a_phone_however_long_the_names_of_senders_are(
    visit: Visit, open_shop: Callable[..., Shop], language: str
) -> None:
    name = "melipayamak-backup-of-the-second-account"
    shop = fill(open_shop(SMSVERIFY_SENDERS={name: DEMO_SENDERS["raygan"]}))
    visitor = visit(shop)
    visitor.page.set_viewport_size(SIZES["phone"])
    visitor.speaks(language)
    visitor.log_in("staff")
    visitor.go(ADMIN + PAGES["overview"])
    expect(visitor.page.get_by_role("rowheader", name=name)).to_be_visible()
    fits(visitor.page, SIZES["phone"]["width"], name)


#: The lists of choices that are narrower than their longest choice, with their arrow.
CUT_CHOICES = """[...document.querySelectorAll('.sv-filters select')].filter(one => {
  const pen = document.createElement('canvas').getContext('2d');
  const style = getComputedStyle(one);
  pen.font = style.font;
  const longest = Math.max(...[...one.options].map(item => pen.measureText(item.text).width));
  const room = one.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  return longest > room - 16;
}).map(one => one.name)"""


@pytest.mark.parametrize("language", ["fa", "en"])
def test_a_phone_shows_whole_choices_and_what_the_first_line_of_a_card_is(
    visit: Visit, filled_shop: Shop, language: str
) -> None:
    visitor = visit(filled_shop)
    visitor.page.set_viewport_size(SIZES["phone"])
    visitor.speaks(language)
    visitor.log_in("staff")
    for name in ("verifications", "messages", "incoming"):
        visitor.go(ADMIN + PAGES[name])
        assert visitor.page.evaluate(CUT_CHOICES) == [], name
        label = visitor.page.locator("tbody tr:first-child td[data-label]").first.evaluate(
            "one => getComputedStyle(one, '::before').display"
        )
        assert label != "none", name


def test_a_page_about_a_problem_is_as_wide_as_the_others(visit: Visit, filled_shop: Shop) -> None:
    visitor = staff(visit, filled_shop)
    page = visitor.page
    page.set_viewport_size(SIZES["desk"])
    visitor.go(f"{ADMIN}/messages?limit=0")
    expect(page.locator(".sv-menu")).to_have_count(0)
    box = page.locator(".sv-content").bounding_box()
    assert box is not None
    assert box["width"] > 900
    visitor.complaints.clear()  # the browser reports the refused page


def test_the_example_of_quiet_hours_reads_as_it_is_typed(visit: Visit, filled_shop: Shop) -> None:
    visitor = staff(visit, filled_shop)
    page = visitor.page
    visitor.go(f"{ADMIN}/settings")
    page.locator("#sv-quiet_hours").fill("?")
    page.locator(".sv-content form button").click()
    error = page.locator("#sv-quiet_hours-error")
    expect(error).to_contain_text("۲۲:۰۰-۰۷:۰۰")
    start, end = error.evaluate(
        """one => ["۲۲", "۰۷"].map(hour => {
          const range = document.createRange();
          const at = one.firstChild.data.indexOf(hour);
          range.setStart(one.firstChild, at);
          range.setEnd(one.firstChild, at + 2);
          return range.getBoundingClientRect().left;
        })"""
    )
    assert start < end
    visitor.complaints.clear()  # the browser reports the refused form


def fits(page: Page, width: int, name: tuple[str, str]) -> None:
    """Check that a page is not wider than the screen, and that nothing covers anything."""
    actual = page.evaluate("document.documentElement.scrollWidth")
    assert actual <= width, f"{name} is {actual} px wide"
    assert page.evaluate(OVERLAPPING) == [], name


@pytest.mark.parametrize(
    ("language", "scheme", "size"),
    [("fa", "light", "phone"), ("en", "light", "desk"), ("fa", "dark", "desk")],
)
def test_axe_finds_nothing_where_staff_work_on_a_page(
    visit: Visit, filled_shop: Shop, language: str, scheme: str, size: str
) -> None:
    visitor = visit(filled_shop, color_scheme=scheme)
    axe.load_into(visitor.context)
    visitor.speaks(language)
    visitor.log_in("staff")
    page = visitor.page
    page.set_viewport_size(SIZES[size])

    def is_sound(name: str) -> None:
        assert axe.violations(page, colours_only=scheme == "dark") == [], name

    for path in ("verifications", "messages", "incoming"):
        visitor.go(f"{ADMIN}/{path}")
        page.evaluate(OPEN_ALL)
        is_sound(path)
    for path in ("verifications?q=nobody%40", "verifications?state=none", "messages?q=1"):
        visitor.go(f"{ADMIN}/{path}")
        is_sound(path)
    for path, wrong in (("settings", "revalidation_days"), ("send", "to")):
        visitor.go(f"{ADMIN}/{path}")
        page.locator(f"#sv-{wrong}").fill("?")
        page.locator(".sv-content form button").first.click()
        expect(page.locator(".sv-content [aria-invalid]")).to_be_visible()
        is_sound(path)
    visitor.go(f"{ADMIN}/send")
    page.locator("#sv-to").fill("0912 345 6789, 021")
    page.locator("#sv-text").fill("سلام")
    page.locator(".sv-content form button").first.click()
    expect(page.locator(".sv-confirm")).to_be_visible()
    is_sound("preview")
    page.locator(".sv-confirm button").click()
    expect(page.locator(".sv-progress")).to_be_visible()
    is_sound("progress")
    visitor.complaints.clear()  # the browser reports the refused forms and searches


def test_read_only_staff_see_every_page_without_actions_and_are_refused_by_the_server(
    visit: Visit, filled_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    state: Any = filled_shop.app.extensions["smsverify"]
    monkeypatch.setattr(state.callbacks, "staff_required", lambda: "read-only")
    batch = state.batches.send("سلام", ["09123450003"], not_before=state.clock() + LATER)
    visitor = visit(filled_shop)
    axe.load_into(visitor.context)
    visitor.log_in("sara")
    page = visitor.page
    page.set_viewport_size(SIZES["phone"])
    for name, path in (PAGES | {"progress": f"/send/{batch.id}"}).items():
        visitor.go(ADMIN + path)
        expect(page.locator("h1")).to_be_visible()
        assert page.locator("form[method=post] :is(button, [type=submit])").count() == 0, name
        fields = page.locator("form[method=post] :is(input:not([type=hidden]), select, textarea)")
        assert [one for one in fields.all() if one.is_enabled()] == [], name
        fits(page, SIZES["phone"]["width"], (name, "phone"))
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert axe.violations(page, colours_only=scheme == "dark") == [], (name, scheme)

    status = page.request.get(f"{filled_shop.url}/verify-mobile/status").json()
    for path in ("verifications/2/revoke", f"send/{batch.id}/stop", "settings", "incoming/delete"):
        answer = page.request.post(
            f"{filled_shop.url}{ADMIN}/{path}",
            form={"csrf_token": status["csrf_token"], "ids": "1" * 32},
            headers={"Referer": filled_shop.url, "Accept": "text/html"},
        )
        assert answer.status == 403, path
        assert "شما فقط اجازهٔ مشاهده دارید" in answer.text(), path
    visitor.go(f"{ADMIN}/audit")
    expect(page.locator(".sv-empty")).to_be_visible()


@dataclass(frozen=True)
class Clerk:
    """A staff member at work on the pages of lists."""

    page: Page

    @property
    def notice(self) -> Locator:
        return self.page.locator(".sv-notice")

    @property
    def rows(self) -> Locator:
        return self.page.locator("tbody tr")

    def act(self, row: Locator, label: str, said: str) -> None:
        """Press an action of a row, and confirm it if there is a question."""
        row.locator(".sv-actions > summary").click()
        self._press(row, label, said)

    def act_on(self, rows: Sequence[Locator], label: str, said: str) -> None:
        """Select rows and press an action below the list."""
        for row in rows:
            row.get_by_role("checkbox").check()
        self._press(self.page.locator(".sv-bulk"), label, said)

    def _press(self, place: Locator, label: str, said: str) -> None:
        question = place.locator(".sv-ask > summary", has_text=label)
        if question.count():
            question.click()
        place.get_by_role("button", name=label, exact=True).click()
        expect(self.notice).to_have_text(said)


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
def test_staff_perform_every_action_on_users_and_messages(
    visit: Visit, open_shop: Callable[..., Shop], script: bool
) -> None:
    own_codes = {"wikipayam": DEMO_SENDERS["wikipayam"]}  # a native code cannot be searched for
    shop = fill(open_shop(SMSVERIFY_SENDERS=own_codes, SMSVERIFY_RESEND_DELAYS=(0,)))
    state: Any = shop.app.extensions["smsverify"]
    with shop.app.app_context():
        ids = {user.username: str(user.id) for user in db.session.scalars(db.select(User))}
    visitor = staff(visit, shop, java_script_enabled=script)
    page, clerk = visitor.page, Clerk(visitor.page)
    sara, newcomer = (
        clerk.rows.filter(has=page.get_by_text(ids[name], exact=True))
        for name in ("sara", "newcomer")
    )

    [code] = [one["code"] for one in shop.simulator.messages() if one["code"]]
    visitor.go(f"{ADMIN}/verifications")
    page.locator("summary", has_text="جستجو با کد").click()
    page.locator("#sv-code-search").fill(str(code))
    page.locator(".sv-inline button").click()
    expect(clerk.rows).to_have_count(1)
    expect(sara).to_contain_text("در انتظار کد")
    lock = db.update(Verification).where(Verification.user_id == ids["sara"])
    state.ledger.run(lambda session: session.execute(lock.values(locked_at=state.clock())))
    visitor.go(f"{ADMIN}/verifications")
    clerk.act(sara, "رفع قفل", "قفل کاربر باز شد.")
    clerk.act(sara, "تأیید دستی", "شماره تأیید شد.")
    clerk.act(newcomer, "ارسال کد", "کد ارسال شد.")
    clerk.act_on((sara, newcomer), "لغو تأیید", "برای ۲ کاربر انجام شد.")
    clerk.act(newcomer, "حذف", "اطلاعات کاربر حذف شد.")
    expect(newcomer).to_have_count(0)

    visitor.go(f"{ADMIN}/messages")
    done = "برای ۱ پیام انجام شد."
    clerk.act(clerk.rows, "ارسال مجدد", done)
    expect(clerk.rows).to_have_count(2)
    clerk.act(clerk.rows.first, "حذف", done)
    clerk.act_on((clerk.rows,), "حذف", done)
    expect(page.locator(".sv-empty")).to_be_visible()

    visitor.go(f"{ADMIN}/incoming")
    clerk.act(clerk.rows, "علامت‌گذاری به‌عنوان خوانده‌شده", done)
    clerk.act(clerk.rows, "علامت‌گذاری به‌عنوان خوانده‌نشده", done)
    clerk.act_on((clerk.rows,), "علامت‌گذاری به‌عنوان خوانده‌شده", done)
    clerk.act(clerk.rows, "حذف", done)
    expect(page.locator(".sv-empty")).to_be_visible()


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
def test_staff_change_texts_sends_senders_and_settings(
    visit: Visit, filled_shop: Shop, script: bool
) -> None:
    state: Any = filled_shop.app.extensions["smsverify"]
    batch = state.batches.send("سلام", ["09123450003"], not_before=state.clock() + LATER)
    visitor = staff(visit, filled_shop, java_script_enabled=script)
    page, notice = visitor.page, visitor.page.locator(".sv-notice")
    visitor.go(f"{ADMIN}/texts/user/order.accepted")
    page.locator("#sv-text-fa").fill("سفارش ثبت شد: {{ site }}")
    page.get_by_role("button", name="پیش‌نمایش").click()
    expect(page.locator(".sv-bubble[lang=fa]")).to_have_text("سفارش ثبت شد: چنار")
    page.get_by_role("checkbox").uncheck()
    page.get_by_role("button", name="ذخیره").click()
    expect(notice).to_have_text("متن ذخیره شد و از این پس استفاده می‌شود.")
    visitor.go(f"{ADMIN}/texts")
    changed = page.get_by_role("listitem").filter(has_text="order.accepted")
    expect(changed).to_contain_text("خاموش")

    visitor.go(f"{ADMIN}/send")
    page.get_by_role("link", name="سلام").click()
    head = page.locator(".sv-sheet-head")
    page.get_by_role("button", name="توقف موقت").click()
    expect(head).to_contain_text("موقتاً متوقف")
    page.get_by_role("button", name="ادامه").click()
    expect(head).to_contain_text("در حال ارسال")
    page.locator(".sv-ask > summary").click()
    page.get_by_role("button", name="توقف", exact=True).click()
    expect(head).to_contain_text("متوقف شده")
    assert state.batches.get(batch.id).state == "stopped"

    visitor.go(f"{ADMIN}/senders")
    page.locator("#sv-test-1").fill("0912 345 6789")
    page.locator(".sv-inline button").first.click()
    expect(notice).to_be_visible()
    page.get_by_role("link", name="بررسی دوباره").click()
    expect(page.locator(".sv-sheet").first).to_be_visible()

    visitor.go(f"{ADMIN}/settings")
    page.locator("#sv-revalidation_days").fill("۳۰")
    page.locator(".sv-content form button").click()
    expect(notice).to_have_text("تنظیمات ذخیره و اعمال شد.")
    expect(page.locator("#sv-revalidation_days")).to_have_value("۳۰")
    assert state.live.current.revalidation_days == 30


@pytest.mark.parametrize("host", hosts.STYLES)
def test_every_page_is_readable_in_a_layout_of_the_app(
    visit: Visit, open_shop: Callable[..., Shop], host: str
) -> None:
    shop = fill(open_shop(SMSVERIFY_ADMIN_TEMPLATE="host.html"))
    hosts.use(shop.app, host)
    visitor = staff(visit, shop, color_scheme="light" if "dark" in host else "dark")
    axe.load_into(visitor.context)
    page = visitor.page
    for name, path in PAGES.items():
        visitor.go(ADMIN + path)
        for menu in page.locator("details.sv-actions > summary").all()[:1]:
            menu.click()
        for size, viewport in SIZES.items():
            page.set_viewport_size(viewport)
            fits(page, viewport["width"], (name, size))
            if FOLDER:
                picture = Path(FOLDER) / f"{name}-in-{host}-{size}.png"
                page.screenshot(path=str(picture), full_page=True)
        assert axe.violations(page, colours_only=True) == [], name
        unreadable = page.evaluate(
            """[...document.querySelectorAll('.sv-staff option')].map(getComputedStyle)
            .filter(one => one.color === one.backgroundColor
              || one.backgroundColor === 'rgba(0, 0, 0, 0)').length"""
        )
        assert unreadable == 0, name


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
def test_staff_find_a_user_and_act_on_the_verification(
    visit: Visit, filled_shop: Shop, script: bool
) -> None:
    visitor = staff(visit, filled_shop, java_script_enabled=script)
    page = visitor.page
    visitor.go(f"{ADMIN}/verifications")
    page.get_by_label("ایمیل، شماره یا چهار رقم آخر").fill("۲۲۳۳")
    page.get_by_role("button", name="جستجو").first.click()
    row = page.get_by_role("row").filter(has_text="۰۹۳۵ ۱۱۱ ۲۲۳۳")
    expect(row).to_contain_text("تأیید شده")
    row.get_by_text("عملیات", exact=True).click()
    row.locator("summary", has_text="لغو تأیید").click()
    row.get_by_role("button", name="لغو تأیید").click()
    expect(page.get_by_role("status")).to_have_text("تأیید شماره لغو شد.")
    expect(row).to_contain_text("تأیید نشده")
    visitor.go(f"{ADMIN}/audit")
    expect(page.get_by_role("row").nth(1)).to_contain_text("لغو تأیید")


def test_tab_reaches_every_control_of_every_page(visit: Visit, filled_shop: Shop) -> None:
    visitor = staff(visit, filled_shop, java_script_enabled=False)
    for path in PAGES.values():
        visitor.go(ADMIN + path)
        visitor.page.evaluate(OPEN_ALL)
        Keyboard(visitor.page).visit_all()


def test_staff_see_a_text_as_they_type(visit: Visit, filled_shop: Shop) -> None:
    visitor = staff(visit, filled_shop)
    page = visitor.page
    visitor.go(f"{ADMIN}/texts/user/invoice.created")
    editor = page.locator("#sv-text-fa")
    persian = page.locator("[data-sv-editor]").filter(has=editor)
    preview = persian.locator("[data-sv-preview]")
    editor.fill("صورتحساب جدید در {{ site }}")
    expect(preview).to_contain_text("صورتحساب جدید در چنار")
    with page.expect_response("**/preview") as answer:
        editor.fill("خطا {{ nothing }}")
    assert answer.value.status == 422
    expect(persian.locator("[data-sv-preview-error]")).to_be_visible()
    visitor.complaints.clear()  # the browser reports the refused preview
    editor.fill("صورتحساب جدید " * 12)
    expect(persian.locator("[data-sv-parts]")).to_have_text("۳ بخش")
    page.get_by_role("button", name="ذخیره").click()
    expect(page.get_by_role("status")).to_be_visible()


def test_an_error_in_a_text_stays_until_the_text_is_corrected(
    visit: Visit, filled_shop: Shop
) -> None:
    visitor = staff(visit, filled_shop)
    page = visitor.page
    visitor.go(f"{ADMIN}/texts/user/order.accepted")
    editor = page.locator("#sv-text-fa")
    persian = page.locator("[data-sv-editor]").filter(has=editor)
    errors = persian.locator(".sv-field-error:visible")
    editor.fill("{{ site }}: {{ nope }}")
    expect(errors).to_have_count(1)
    page.get_by_role("button", name="پیش‌نمایش").click()
    expect(persian.locator("#sv-text-fa-error")).to_be_visible()
    expect(errors).to_have_count(1)
    editor.fill("{{ site }}: {{ other }}")
    expect(errors).to_contain_text("other")
    expect(errors).to_have_count(1)
    editor.fill("{{ site }}")
    expect(errors).to_have_count(0)
    expect(editor).not_to_have_attribute("aria-invalid", "true")
    visitor.complaints.clear()  # the browser reports the refused previews


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
def test_staff_send_a_text_after_a_preview(visit: Visit, filled_shop: Shop, script: bool) -> None:
    visitor = staff(visit, filled_shop, java_script_enabled=script)
    page = visitor.page
    visitor.go(f"{ADMIN}/send")
    page.locator("#sv-to").fill("۰۹۱۲ ۳۴۵ ۶۷۸۹، 09351112233")
    page.locator("#sv-text").fill("جمعه تعطیل هستیم.")
    page.get_by_role("button", name="پیش‌نمایش").click()
    page.get_by_role("button", name="ارسال به ۲ گیرنده").click()
    filled_shop.app.extensions["smsverify"].wait()
    page.reload()
    expect(page.locator(".sv-sheet-head")).to_contain_text("انجام شده")
    texts = [message["text"] for message in filled_shop.simulator.messages()]
    assert sum("جمعه تعطیل هستیم." in text for text in texts) == 2
