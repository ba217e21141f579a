"""The events of the example shop: each is queued by a button on one of its pages."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest
from example_shop import Browser, log_in
from flask import Flask
from parallel import race
from sqlalchemy import text

from example_app.extensions import db, smsverify
from example_app.models import Domain, Invoice, Order, RegistrarAccount, Ticket, User, today
from flask_smsverify.db.models import Message
from flask_smsverify.testing import Outbox, outbox

MakeShop = Callable[..., Flask]
STAFF_MOBILE = "+989121111111"
SARA = "+989123456789"

#: Events that the extension reports by itself.
OWN_EVENTS = {
    "mobile.changed",
    "mobile.change_requested",
    "mobile.transferred",
    "limit.reached",
    "text.failed",
}

#: (event, audience) → what its text shows. Sara reads English, and the staff get Persian.
EXPECTED = {
    ("order.accepted", "user"): "order 4 has",
    ("package.changed", "user"): "The plan of Sapling hosting is now Grove.",
    ("service.password_changed", "user"): "password of Grove hosting was changed",
    ("hosting.created", "user"): "Sapling hosting for site-4.chenar.example is ready",
    ("service.suspended", "user"): "Grove hosting has been suspended",
    ("service.unsuspended", "user"): "Grove hosting is active again",
    ("domain.registered", "user"): "sara-new.ir is registered until {in_a_year}",
    ("domain.registered", "staff"): "دامنهٔ sara-new.ir برای سارا محمدی ثبت شد",
    ("domain.registration_failed", "user"): "sara-late.com could not be registered",
    ("domain.registration_failed", "staff"): "سارا محمدی انجام نشد: اعتبار شما نزد ثبت‌کنندهٔ",
    ("domain.renewed", "user"): "atr-sara.ir is renewed until {renewed}",
    ("domain.renewed", "staff"): "دامنهٔ atr-sara.ir برای سارا محمدی تمدید شد",
    ("domain.renewal_failed", "staff"): "sara-khat.com برای سارا محمدی انجام نشد: اعتبار شما",
    ("domain.renewal_notice", "user"): "sara-khat.com expires on {notice}. Days left: 15.",
    ("client.registered", "user"): "Welcome to Chenar, New customer.",
    ("client.registered", "staff"): "New customer ثبت‌نام کرد",
    ("client.password_changed", "user"): "The password of your account was changed",
    ("client.logged_in", "staff"): "سارا محمدی با آی‌پی 127.0.0.1 وارد",
    ("staff.logged_in", "staff"): "مریم صادقی با آی‌پی 127.0.0.1 وارد پنل مدیریت",
    ("invoice.created", "user"): "for 95,000 tomans is ready. Please pay it by {today}",
    ("invoice.paid", "user"): "received 95,000 tomans for invoice",
    ("invoice.reminder", "user"): "for 95,000 tomans is due on {in_three_days}",
    ("invoice.first_overdue", "user"): "for 240,000 tomans was due on {yesterday}",
    ("invoice.second_overdue", "user"): "is still unpaid. It was due on {a_week_ago}",
    ("invoice.third_overdue", "user"): "Last reminder: invoice",
    ("ticket.opened", "staff"): "سارا محمدی: The site is slow",
    ("ticket.replied", "user"): "new reply to your ticket 2: The site is slow",
    ("ticket.user_replied", "staff"): "سارا محمدی در تیکت 2: The site is slow",
    ("ticket.closed", "user"): "Your ticket 2 was closed",
    ("verification.expiring", "user"): "Your mobile number is confirmed until",
}


@pytest.fixture
def guarded_shop(make_shop: MakeShop, filled_database: Path, tmp_path: Path) -> Flask:
    """A shop with CSRF tokens, an in-memory sender and a mobile of the staff."""
    shutil.copy(filled_database, tmp_path / "shop.sqlite")
    return make_shop(
        SMSVERIFY_SENDERS={"memory": {"gateway": "memory"}}, SMSVERIFY_STAFF_MOBILES=[STAFF_MOBILE]
    )


@pytest.fixture
def open_shop(make_shop: MakeShop, filled_database: Path, tmp_path: Path) -> Flask:
    """A shop that asks for no code."""
    shutil.copy(filled_database, tmp_path / "shop.sqlite")
    return make_shop(
        SMSVERIFY_SENDERS={"memory": {"gateway": "memory"}},
        SMSVERIFY_STAFF_MOBILES=[STAFF_MOBILE],
        SMSVERIFY_AREAS=dict.fromkeys(("orders", "billing", "domains", "wallet", "emails"), False),
    )


def sign_in(shop: Flask, username: str, language: str = "en") -> Browser:
    browser = Browser(shop)
    browser.open("/login")
    if language == "en":
        browser.press("English")
    enter = "Sign in" if language == "en" else "ورود"
    browser.press(enter, username=username, password=f"{username}-demo")
    return browser


def events(shop: Flask) -> list[Message]:
    """Return the texts of events, oldest first."""
    with shop.app_context():
        rows = db.select(Message).filter_by(kind="event").order_by(Message.created_at)
        return list(db.session.scalars(rows))


def english(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


# --- every event ----------------------------------------------------------------------------------


def last_code(box: Outbox) -> str:
    """Return the last code. Threads may have sent texts of events since."""
    return [message.code for message in box.messages if message.code][-1]


def sign_up_by_phone(shop: Flask, box: Outbox) -> Browser:
    newcomer = Browser(shop)
    newcomer.open("/login")
    newcomer.press("English")
    newcomer.open("/verify-mobile/sign-in")
    newcomer.press("Continue", mobile="0935 111 2233")
    newcomer.press("Sign in", code=last_code(box))
    return newcomer


def confirm_mobile(customer: Browser, box: Outbox) -> None:
    customer.open("/verify-mobile/")
    customer.press("Send the code by text message")
    customer.press("Confirm", code=last_code(box))


def change_account_password(customer: Browser) -> None:
    customer.open("/profile/password")
    customer.press("Change password", current_password="sara-demo", new_password="a new password")


def order_hosting(customer: Browser) -> None:
    customer.open("/orders/new?plan=sapling")
    customer.press("Place order")
    customer.press("Pay")  # the newest invoice is the first
    customer.open("/orders/4")
    customer.press("Set up", domain_name="site-4.chenar.example", new_password="long enough")
    customer.press("Change plan", plan="grove")
    customer.open("/orders/4/password")
    customer.press("Change password", new_password="another one")


def suspend_and_unsuspend(staff: Browser) -> None:
    staff.open("/staff")
    staff.press("Suspend", within="site-4.chenar.example")
    staff.press("Unsuspend", within="site-4.chenar.example")


def register_and_renew_domains(customer: Browser) -> None:
    """The shop's credit of 2,000,000 toman ends after the second registration."""
    customer.open("/domains/new")
    customer.press("Pay and register", name="sara-new.ir")
    customer.press("Renew for a year: 150,000 toman", within="atr-sara.ir")
    for name in ("sara-large.com", "sara-late.com"):
        customer.open("/domains/new")
        customer.press("Pay and register", name=name)
    customer.press("Renew for a year: 900,000 toman", within="sara-khat.com")


def write_tickets(customer: Browser, staff: Browser) -> None:
    customer.open("/tickets/new")
    customer.press("Send ticket", subject="The site is slow", text="Since yesterday.")
    staff.open("/staff/tickets/2")
    staff.press("Send reply", text="We are looking into it.")
    customer.press("Send reply", text="Thank you.")
    staff.press("Close ticket")


def send_reminders(staff: Browser) -> None:
    staff.open("/staff")
    staff.press("Send today's reminders")
    for days in (7, 14):
        due_on = (today() - timedelta(days=days)).isoformat()
        staff.press("Change due date", within="240,000", due_on=due_on)
        staff.press("Send today's reminders")


def test_every_event_of_the_catalogue_is_queued_by_a_button_of_the_shop(guarded_shop):
    shop = guarded_shop
    with outbox(shop) as box:
        sign_up_by_phone(shop, box)
        sara, staff = sign_in(shop, "sara"), sign_in(shop, "staff")
        confirm_mobile(sara, box)
        change_account_password(sara)
        order_hosting(sara)
        suspend_and_unsuspend(staff)
        register_and_renew_domains(sara)
        write_tickets(sara, staff)
        send_reminders(staff)
        box.advance(timedelta(days=85))
        staff = sign_in(shop, "staff")
        staff.open("/staff")
        staff.press("Send today's reminders")

    with shop.app_context():
        renewed = db.session.scalar(db.select(Domain.expires_on).filter_by(name="atr-sara.ir"))
        catalogue = {
            (event.name, audience)
            for event in smsverify.events.values()
            for audience in event.audiences
            if event.name not in OWN_EVENTS
        }
    days = {
        "today": today(),
        "in_a_year": today() + timedelta(days=365),
        "renewed": renewed,
        "notice": today() + timedelta(days=15),
        "in_three_days": today() + timedelta(days=3),
        "yesterday": today() - timedelta(days=1),
        "a_week_ago": today() - timedelta(days=7),
    }
    shown = {name: english(day) for name, day in days.items()}
    assert catalogue == set(EXPECTED)
    queued = events(shop)
    for event, audience in sorted(catalogue):
        expected = EXPECTED[event, audience].format(**shown)
        texts = [row.text for row in queued if (row.event, row.audience) == (event, audience)]
        assert any(expected in one for one in texts), (event, audience, expected, texts)
    recipients = {(row.audience, row.recipient) for row in queued}
    assert recipients == {("user", SARA), ("user", "+989351112233"), ("staff", STAFF_MOBILE)}


# --- orders and services --------------------------------------------------------------------------


def test_hosting_is_set_up_once_and_only_after_the_payment(open_shop):
    reza = sign_in(open_shop, "reza")
    reza.open("/orders/new?plan=sapling")
    reza.press("Place order")
    assert "Set up" not in reza.open("/orders/4")
    reza.open("/invoices")
    reza.press("Pay")
    form = reza.open("/orders/4")
    reza.press("Set up", domain_name="site-4.chenar.example", new_password="long enough")
    before = len(events(open_shop))
    reza.page = form
    page = reza.press("Set up", domain_name="site-4.chenar.example", new_password="long enough")
    assert "This hosting is already set up." in page
    assert len(events(open_shop)) == before


def test_hosting_cannot_use_the_domain_of_another_customer_or_service(open_shop):
    sara = sign_in(open_shop, "sara")
    sara.open("/orders/2")
    for name in ("karimi-web.ir", "atr-sara.ir", "evil.example"):
        page = sara.press("Set up", domain_name=name, new_password="long enough")
        assert "You cannot use this domain." in page, name
    page = sara.press("Set up", domain_name="sara-khat.com", new_password="long enough")
    assert "Your hosting is ready." in page


def test_a_suspended_hosting_cannot_be_changed_by_its_customer(open_shop):
    sara, staff = sign_in(open_shop, "sara"), sign_in(open_shop, "staff")
    sara.open("/orders/1")
    staff.open("/staff")
    staff.press("Suspend", within="atr-sara.ir")
    assert "This hosting is not active." in sara.press("Change plan", plan="grove")
    assert "This hosting is not active." in sara.open("/orders/1/password")
    with open_shop.app_context():
        assert db.session.get(Order, 1).plan_key == "sapling"


def test_two_members_of_staff_suspend_a_service_once(open_shop):
    staff, colleague = sign_in(open_shop, "staff"), sign_in(open_shop, "staff")
    staff.open("/staff")
    colleague.open("/staff")
    staff.press("Suspend", within="atr-sara.ir")
    before = len(events(open_shop))
    assert "This service is not active." in colleague.press("Suspend", within="atr-sara.ir")
    assert len(events(open_shop)) == before


def test_a_service_in_each_state_takes_only_the_actions_of_that_state(make_shop):
    shop = make_shop(WTF_CSRF_ENABLED=False, SMSVERIFY_SENDERS={"memory": {"gateway": "memory"}})
    staff = log_in(shop, "staff")
    staff.post("/language", data={"language": "en"})
    for action, message in (
        ("unsuspend", "This service is not suspended."),
        ("terminate", "Suspend the service first."),
        ("suspend", "The service was suspended."),
        ("suspend", "This service is not active."),
        ("unsuspend", "The service is active again."),
        ("suspend", "The service was suspended."),
        ("terminate", "The service was terminated."),
        ("unsuspend", "This service is not suspended."),
        ("suspend", "This service is not active."),
    ):
        response = staff.post(f"/staff/services/1/{action}", follow_redirects=True)
        assert message in response.text, action
    response = staff.post("/staff/orders/1/invoice", follow_redirects=True)
    assert "This service is terminated." in response.text


# --- invoices and reminders -----------------------------------------------------------------------


def test_staff_create_the_invoices_of_the_next_month_once(open_shop):
    staff = sign_in(open_shop, "staff")
    staff.open("/staff")
    assert "The invoice was created." in staff.press("Create next invoice", within="Order 2")
    assert "The next invoice already exists." in staff.press(
        "Create next invoice", within="Order 2"
    )
    created = [row for row in events(open_shop) if row.event == "invoice.created"]
    assert len(created) == 1
    with open_shop.app_context():
        due = db.session.scalars(db.select(Invoice.due_on).filter_by(order_id=2)).all()
        assert max(due) == today() + timedelta(days=29)


def test_a_due_date_must_be_a_date_of_an_unpaid_invoice(open_shop):
    staff, sara = sign_in(open_shop, "staff"), sign_in(open_shop, "sara")
    staff.open("/staff")
    assert "Enter a valid date." in staff.press("Change due date", within="240,000", due_on="soon")
    sara.open("/invoices")
    sara.press("Pay", within="240,000")
    page = staff.press("Change due date", within="240,000", due_on="2030-01-01")
    assert "This invoice is paid." in page


def test_the_reminders_of_a_day_are_queued_once(open_shop):
    runner = open_shop.test_cli_runner()
    assert runner.invoke(args=["queue-reminders"]).output == "3 reminders\n"
    assert runner.invoke(args=["queue-reminders"]).output == "0 reminders\n"
    staff = sign_in(open_shop, "staff")
    staff.open("/staff")
    assert "There are no new reminders today." in staff.press("Send today's reminders")
    in_two_days = (today() + timedelta(days=2)).isoformat()
    staff.press("Change due date", within="240,000", due_on=in_two_days)
    assert "reminders were sent." in staff.press("Send today's reminders")
    sent = [row.event for row in events(open_shop) if row.audience == "user"]
    assert sorted(sent) == [
        "domain.renewal_notice",
        "invoice.first_overdue",
        "invoice.reminder",
        "invoice.reminder",
    ]


def test_texts_that_staff_cause_are_in_the_language_of_the_customer(open_shop):
    sign_in(open_shop, "sara", language="fa")
    staff = sign_in(open_shop, "staff")
    staff.open("/staff")
    staff.press("Suspend", within="atr-sara.ir")
    assert "هاست نهال غیرفعال شد" in events(open_shop)[-1].text
    sara = sign_in(open_shop, "sara", language="fa")
    sara.press("English")
    staff.press("Unsuspend", within="atr-sara.ir")
    assert "Sapling hosting is active again" in events(open_shop)[-1].text


# --- domains --------------------------------------------------------------------------------------


def use_up_the_credit(shop: Flask) -> None:
    with shop.app_context():
        db.session.get(RegistrarAccount, 1).credit = 0
        db.session.commit()


def test_a_refused_registration_is_completed_when_there_is_credit(open_shop):
    use_up_the_credit(open_shop)
    sara, staff = sign_in(open_shop, "sara"), sign_in(open_shop, "staff")
    sara.open("/domains/new")
    assert "could not be registered" in sara.press("Pay and register", name="sara-late.com")
    sara.open("/domains/new")
    assert "still completing your earlier order" in sara.press(
        "Pay and register", name="sara-late.com"
    )
    staff.open("/staff")
    before = len(events(open_shop))
    assert "refused the order again" in staff.press("Try again", within="sara-late.com")
    assert "Enter 1 to" in staff.press("Add credit", amount="-5")
    assert "Enter 1 to" in staff.press("Add credit", amount="much")
    staff.press("Add credit", amount="1000000")
    assert len(events(open_shop)) == before
    assert "The order was completed." in staff.press("Try again", within="sara-late.com")
    assert "sara-late.com" in sara.open("/domains")
    assert [row.event for row in events(open_shop)[before:]] == ["domain.registered"] * 2
    with open_shop.app_context():
        assert db.session.get(RegistrarAccount, 1).credit == 100_000


def test_a_refused_renewal_can_be_cancelled_and_ordered_again(open_shop):
    use_up_the_credit(open_shop)
    sara, staff, colleague = (sign_in(open_shop, name) for name in ("sara", "staff", "staff"))
    sara.open("/domains")
    page = sara.press("Renew for a year: 150,000 toman", within="atr-sara.ir")
    assert "Renewal pending" in page
    staff.open("/staff")
    colleague.open("/staff")
    staff.press("Cancel order", within="atr-sara.ir")
    assert "already completed or cancelled" in colleague.press("Try again", within="atr-sara.ir")
    sara.open("/domains")
    assert "Renew for a year: 150,000 toman" in sara.page


def test_the_same_page_renews_a_domain_once_and_for_ten_years_at_most(open_shop):
    sara = sign_in(open_shop, "sara")
    page = sara.open("/domains")
    sara.press("Renew for a year: 150,000 toman", within="atr-sara.ir")
    sara.page = page
    page = sara.press("Renew for a year: 150,000 toman", within="atr-sara.ir")
    assert "This domain was just renewed." in page
    with open_shop.app_context():
        domain = db.session.scalars(db.select(Domain).filter_by(name="atr-sara.ir")).one()
        assert domain.expires_on == today() + timedelta(days=212 + 365)
        domain.expires_on = today() + timedelta(days=9 * 365 + 1)
        db.session.commit()
    sara.open("/domains")
    page = sara.press("Renew for a year: 150,000 toman", within="atr-sara.ir")
    assert "at most 10 years" in page


@pytest.mark.race
def test_simultaneous_renewals_of_a_domain_from_the_same_page_renew_it_once(make_shop):
    shop = make_shop(
        WTF_CSRF_ENABLED=False,
        SMSVERIFY_SENDERS={"memory": {"gateway": "memory"}},
        SMSVERIFY_AREAS={"domains": False},
    )
    clients = [log_in(shop, "sara") for _ in range(4)]
    old = today() + timedelta(days=212)

    def renew(number: int) -> None:
        form = {"expires_on": old.isoformat()}
        response = clients[number].post("/domains/atr-sara.ir/renew", data=form)
        assert response.status_code == 302

    assert race(len(clients), renew) == {"ok": 4}
    with shop.app_context():
        expires_on = db.session.scalar(db.select(Domain.expires_on).filter_by(name="atr-sara.ir"))
        assert expires_on == old + timedelta(days=365)
        assert db.session.get(RegistrarAccount, 1).credit == 2_000_000 - 150_000


def test_only_free_and_valid_names_can_be_registered(open_shop):
    sara = sign_in(open_shop, "sara")
    sara.open("/domains/new")
    for name, message in (
        ("karimi-web.ir", "This domain is taken."),
        ("KARIMI-WEB.ir", "This domain is taken."),
        ("sara.org", "that ends in .ir or .com"),
        ("-sara.ir", "that ends in .ir or .com"),
        ("", "Fill in this field."),
    ):
        assert message in sara.press("Pay and register", name=name), name
    assert [row.event for row in events(open_shop)] == ["client.logged_in"]


# --- tickets --------------------------------------------------------------------------------------


def test_several_messages_in_a_row_inform_the_staff_once(open_shop):
    sara, staff = sign_in(open_shop, "sara"), sign_in(open_shop, "staff")
    before = len(events(open_shop))
    sara.open("/tickets/1")
    sara.press("Send reply", text="Is anybody there?")
    assert len(events(open_shop)) == before
    staff.open("/staff/tickets/1")
    staff.press("Close ticket")
    sara.press("Send reply", text="It is still slow.")
    sara.press("Send reply", text="Please help.")
    assert [row.event for row in events(open_shop)[before:]] == [
        "ticket.closed",
        "ticket.user_replied",
    ]


def test_staff_can_neither_answer_nor_close_a_closed_ticket(open_shop):
    staff, colleague = sign_in(open_shop, "staff"), sign_in(open_shop, "staff")
    staff.open("/staff/tickets/1")
    page = colleague.open("/staff/tickets/1")
    staff.press("Close ticket")
    before = len(events(open_shop))
    assert "This ticket is closed." in colleague.press("Send reply", text="Hello")
    colleague.page = page
    assert "This ticket is already closed." in colleague.press("Close ticket")
    assert len(events(open_shop)) == before
    with open_shop.app_context():
        assert len(db.session.get(Ticket, 1).messages) == 1


def test_a_customer_has_five_open_tickets_at_most(open_shop):
    sara = sign_in(open_shop, "sara")
    for number in range(2, 6):
        sara.open("/tickets/new")
        sara.press("Send ticket", subject=f"Question {number}", text="Please help.")
    sara.open("/tickets/new")
    page = sara.press("Send ticket", subject="Question 6", text="Please help.")
    assert "You have several unanswered tickets." in page
    assert "Question 6" not in page


def test_a_ticket_needs_a_subject_and_a_text_that_fit(open_shop):
    sara = sign_in(open_shop, "sara")
    sara.open("/tickets/new")
    assert "Fill in this field." in sara.press("Send ticket", subject=" ", text="Help")
    assert "at most 120 characters" in sara.press("Send ticket", subject="a" * 121, text="Help")
    assert "at most 4,000 characters" in sara.press("Send ticket", subject="a", text="a" * 4001)


# --- accounts -------------------------------------------------------------------------------------


def test_a_password_changes_only_with_the_current_one(open_shop):
    sara = sign_in(open_shop, "sara")
    sara.open("/profile/password")
    page = sara.press("Change password", current_password="wrong", new_password="long enough")
    assert "The current password is wrong." in page
    page = sara.press("Change password", current_password="sara-demo", new_password="short")
    assert "Use at least 8 characters." in page
    assert "client.password_changed" not in [row.event for row in events(open_shop)]


def test_a_customer_who_signed_up_by_phone_can_set_a_password(guarded_shop):
    with outbox(guarded_shop) as box:
        customer = sign_up_by_phone(guarded_shop, box)
        customer.open("/profile/password")
        assert "Current password" not in customer.page
        customer.press("Change password", new_password="long enough")
    assert events(guarded_shop)[-1].event == "client.password_changed"
    with guarded_shop.app_context():
        user = db.session.scalars(db.select(User).order_by(User.id.desc())).first()
        assert user.has_password("long enough")


# --- access ---------------------------------------------------------------------------------------


def shop_paths(shop: Flask, method: str, *blueprints: str) -> list[str]:
    """Return a path of each rule of these blueprints."""
    return [
        re.sub("<int:[a-z_]+>", "1", rule.rule).replace("<name>", "atr-sara.ir")
        for rule in shop.url_map.iter_rules()
        if method in rule.methods and rule.endpoint.split(".")[0] in blueprints
    ]


def test_staff_pages_and_actions_are_for_staff_alone(shop, visitor):
    sara = log_in(shop, "sara")
    for method in ("GET", "POST"):
        paths = shop_paths(shop, method, "staff")
        assert paths
        for path in paths:
            assert sara.open(path, method=method).status_code == 403, path
            assert visitor.open(path, method=method).location.startswith("/login?"), path


def test_a_customer_cannot_act_on_what_belongs_to_another(shop):
    reza = log_in(shop, "reza")
    for method in ("GET", "POST"):
        for path in shop_paths(shop, method, "orders", "billing", "domains", "tickets", "emails"):
            if "1" in path or "atr-sara" in path:
                assert reza.open(path, method=method).status_code == 404, path


def test_every_action_requires_the_csrf_token(guarded_shop):
    blueprints = ("accounts", "orders", "billing", "domains", "tickets", "wallet", "staff")
    client = guarded_shop.test_client()
    paths = shop_paths(guarded_shop, "POST", *blueprints)
    assert len(paths) > 20
    for path in paths:
        assert client.post(path).status_code == 400, path


def test_a_database_of_an_earlier_version_gets_the_new_tables_and_columns(
    make_shop, filled_database, tmp_path
):
    shutil.copy(filled_database, tmp_path / "shop.sqlite")
    config = {"SMSVERIFY_SENDERS": {"memory": {"gateway": "memory"}}}
    earlier = make_shop(**config)
    with earlier.app_context():
        for table in (
            "service", "domain_order", "registrar_account", "ticket_message", "ticket", "deposit",
            "email",
        ):  # fmt: skip
            db.session.execute(text(f"DROP TABLE {table}"))
        for column in ("language", "balance"):
            db.session.execute(text(f"ALTER TABLE user DROP COLUMN {column}"))
        db.session.execute(text("ALTER TABLE smsverify_attempt DROP COLUMN cost"))
        db.session.commit()
        db.engine.dispose()
    shop = make_shop(**config)
    sara, staff = sign_in(shop, "sara"), sign_in(shop, "staff")
    assert "Sign out" in sara.open("/tickets")
    assert "0 toman" in sign_in(shop, "reza").open("/wallet")  # resellers are exempt
    staff.open("/staff")
    assert "Ready to set up" in staff.page
    assert "2,000,000 toman" in staff.page
    sara.open("/verify-mobile")
    assert staff.open("/admin/smsverify/messages")
