"""The catalogue of events, their default texts, and what staff edit of them."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from conftest import MakeApp
from flask import Flask
from hostapp import User, db

from flask_smsverify import SMSVerify
from flask_smsverify.db.models import Template
from flask_smsverify.errors import ConfigurationError, InvalidMobile, TemplateError
from flask_smsverify.i18n.catalogue import available_locales
from flask_smsverify.i18n.segments import count_segments
from flask_smsverify.messaging.event_texts import EventTexts
from flask_smsverify.messaging.template_language import MAX_PARTS
from flask_smsverify.testing import outbox

#: The catalogue of the contract.
USER_EVENTS = {
    "order.accepted",
    "package.changed",
    "service.password_changed",
    "hosting.created",
    "service.suspended",
    "service.unsuspended",
    "domain.registered",
    "domain.registration_failed",
    "domain.renewed",
    "client.registered",
    "client.password_changed",
    "domain.renewal_notice",
    "invoice.created",
    "invoice.paid",
    "invoice.reminder",
    "invoice.first_overdue",
    "invoice.second_overdue",
    "invoice.third_overdue",
    "ticket.replied",
    "ticket.closed",
}
STAFF_EVENTS = {
    "staff.logged_in",
    "domain.registered",
    "domain.registration_failed",
    "domain.renewed",
    "domain.renewal_failed",
    "client.registered",
    "client.logged_in",
    "ticket.opened",
    "ticket.user_replied",
}
OUR_EVENTS = {"verification.expiring", "mobile.changed", "mobile.transferred", "limit.reached"}
ORDER = {"order_number": "1042"}


def texts_of(app: Flask) -> EventTexts:
    return app.extensions["smsverify"].event_texts


def extension_of(app: Flask) -> SMSVerify:
    return app.extensions["test_smsverify"]


def compose(app: Flask, locale: str = "fa", **values: object) -> str:
    return texts_of(app).compose("order.accepted", "user", locale, ORDER | values).text


# --- the catalogue --------------------------------------------------------------------------------


def test_the_catalogue_has_the_20_texts_for_users_and_the_9_for_staff(app: Flask) -> None:
    events = extension_of(app).events
    assert len(USER_EVENTS) == 20
    assert len(STAFF_EVENTS) == 9
    for name in USER_EVENTS:
        assert "user" in events[name].audiences
    for name in STAFF_EVENTS:
        assert "staff" in events[name].audiences
    assert set(events) >= OUR_EVENTS
    for event in events.values():
        assert set(event.examples) == set(event.values)
        assert all(event.examples.values()), event


def test_every_default_text_renders_in_each_language_and_fits_into_three_parts(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, SMSVERIFY_SITE_NAME="Chenar", SMSVERIFY_OPT_OUT_FOOTER="لغو۱۱")
    texts = texts_of(app)
    with app.app_context():
        for event in texts.catalogue.values():
            for audience in event.audiences:
                for locale in available_locales():
                    letters = "[A-Za-z]" if locale == "en" else "[؀-ۿ]"
                    values = event.example_values(locale)
                    composed = texts.compose(event.name, audience, locale, values)
                    assert re.search(letters, composed.text)
                    assert "Chenar" in composed.text
                    assert not re.search(r"[{}]|\bNone\b", composed.text), composed.text
                    assert composed.text.endswith("\nلغو۱۱")
                    assert composed.parts == count_segments(composed.text)
                    assert composed.parts <= 4, composed.text
                    for name, value in values.items():
                        if not re.fullmatch(r"\d{4}-\d\d-\d\d|\d+", value):
                            source = event.default_text(audience, locale)
                            assert (value in composed.text) is (name in source), (event, name)


def test_a_persian_text_has_persian_dates_and_the_values_as_they_are(app: Flask) -> None:
    with app.app_context():
        composed = texts_of(app).compose(
            "invoice.created",
            "user",
            "fa-IR",
            {"invoice_number": 2071, "amount": "۲۵۰٬۰۰۰ تومان", "due_date": "2026-12-21"},
        )
    assert composed.text == (
        "host: صورتحساب 2071 به مبلغ ۲۵۰٬۰۰۰ تومان صادر شد. مهلت پرداخت: ۳۰ آذر ۱۴۰۵"
    )
    assert composed.parts == 2


def test_signature_and_footer_end_every_text_and_count_in_its_parts(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, SMSVERIFY_SIGNATURE="Chenar", SMSVERIFY_OPT_OUT_FOOTER="لغو۱۱")
    with app.app_context():
        shown = extension_of(app).render_event("order.accepted", "user", "a" * 57, ORDER)
        assert shown == "a" * 57 + "\nChenar\nلغو۱۱"
        render = texts_of(app).render
        assert render("order.accepted", "user", "a" * 57, ORDER, "fa").parts == 1
        assert render("order.accepted", "user", "a" * 58, ORDER, "fa").parts == 2
        app.extensions["smsverify"].live.update(signature="")
        assert compose(app).endswith("متشکریم.\nلغو۱۱")


def test_events_have_the_name_and_signature_of_their_language(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(
        sqlite,
        SMSVERIFY_SITE_NAME={"fa": "چنار", "en": "Chenar"},
        SMSVERIFY_SIGNATURE={"fa": "چنار دات کام", "en": ""},
    )
    with app.app_context():
        assert compose(app, "fa").startswith("چنار: ")
        assert compose(app, "fa").endswith("\nچنار دات کام")
        assert compose(app, "en").startswith("Chenar: ")
        assert "\n" not in compose(app, "en")
        # A text to many has no language: its signature is that of the app's language.
        preview = app.extensions["smsverify"].batches.preview("Hello", ["09123456789"])
        assert preview.text == "Hello\nچنار دات کام"


def test_missing_and_unknown_values_are_named(app: Flask) -> None:
    compose = texts_of(app).compose
    with app.app_context():
        with pytest.raises(ConfigurationError, match="needs the value 'order_number'"):
            compose("order.accepted", "user", "fa", {})
        with pytest.raises(ConfigurationError, match="no value 'order_numbr'; did you mean"):
            compose("order.accepted", "user", "fa", {"order_numbr": 1})
        unknown = r"no event 'order\.acepted'; did you mean order\.accepted\? Add events"
        with pytest.raises(ConfigurationError, match=unknown):
            compose("order.acepted", "user", "fa", ORDER)
        with pytest.raises(ConfigurationError, match="no text for 'staff'"):
            compose("order.accepted", "staff", "fa", ORDER)


def test_long_values_of_a_default_text_are_cut_until_it_can_be_sent(app: Flask) -> None:
    long = {"order_number": "ش" * 5000}
    with app.app_context():
        composed = texts_of(app).compose("order.accepted", "user", "fa", long)
        assert composed.parts <= MAX_PARTS
        many = {
            "ticket_number": "1" * 500,
            "ticket_subject": "ش" * 500,
            "client_name": "س" * 500,
        }
        composed = texts_of(app).compose("ticket.opened", "staff", "fa", many)
        assert composed.parts <= MAX_PARTS
        assert "…" in composed.text


# --- registration ---------------------------------------------------------------------------------


def test_a_registered_event_is_composed_like_a_built_in_one(app: Flask) -> None:
    smsverify = extension_of(app)
    event = smsverify.register_event(
        "parcel.delivered",
        audiences=("user", "staff"),
        values={"parcel_number": "7002"},
        texts={
            "user": {"fa": "مرسولهٔ {{ parcel.number }} رسید.", "en": "{{ parcel_number }} came."},
            "staff": "{{ parcel_number }} delivered",
        },
    )
    assert smsverify.events["parcel.delivered"] is event
    assert (event.audiences, event.values) == (("user", "staff"), ("parcel_number",))
    values = {"parcel_number": 5}
    with app.app_context():
        compose = texts_of(app).compose
        assert compose("parcel.delivered", "user", "fa", values).text == "مرسولهٔ 5 رسید."
        assert compose("parcel.delivered", "user", "de", values).text == "مرسولهٔ 5 رسید."
        assert compose("parcel.delivered", "user", "en-GB", values).text == "5 came."
        assert compose("parcel.delivered", "staff", "fa", values).text == "5 delivered"
    simple = smsverify.register_event(
        "parcel.lost", values=("parcel_number",), texts={"fa": "گم شد"}
    )
    assert simple.audiences == ("user",)
    assert simple.examples == {"parcel_number": "parcel number"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "order.accepted"}, "already an event"),
        ({"name": "Parcel"}, "lower-case words with dots"),
        ({"name": "a" * 57}, "longer than 56"),
        ({"audiences": "user"}, "audiences must be"),
        ({"audiences": ("admin",)}, "audiences must be"),
        ({"audiences": ()}, "audiences must be"),
        ({"values": "number"}, "values must be a list"),
        ({"values": ("order.number",)}, "lower-case word such as 'order_number'"),
        ({"values": ("site",)}, "'site' is reserved"),
        ({"values": ("dedupe_key",)}, "'dedupe_key' is reserved"),
        ({"texts": {}}, "texts must be"),
        ({"texts": {"fa": 7}}, "texts must be"),
        ({"texts": {"staff": "x"}}, "a text for each audience: user"),
        ({"texts": {"en": "{{ nobody }}"}}, "for 'user' in 'en': unknown value 'nobody'"),
        ({"texts": {"en": "{% for a in b %}{% endfor %}"}}, "not allowed"),
        ({"texts": {"en": "  "}}, "empty"),
    ],
)
def test_a_wrong_registration_says_what_is_wrong(
    app: Flask, arguments: dict[str, Any], message: str
) -> None:
    given = {"name": "parcel.sent", "values": ("number",), "texts": {"en": "x"}} | arguments
    with pytest.raises(ConfigurationError, match=message):
        extension_of(app).register_event(**given)
    assert "parcel.sent" not in extension_of(app).events


# --- editing --------------------------------------------------------------------------------------


def test_an_edited_text_is_used_in_its_language_until_it_is_reset(app: Flask) -> None:
    texts = texts_of(app)
    with app.app_context():
        texts.save("order.accepted", "user", texts={"fa": "سفارش {{ order.number }} رسید"})
        assert compose(app) == "سفارش 1042 رسید"
        assert compose(app, "fa-AF") == "سفارش 1042 رسید"
        assert compose(app, "en").startswith("host: Your order 1042")
        texts.save("order.accepted", "user", enabled=False)
        assert not texts.is_enabled("order.accepted", "user")
        assert compose(app) == "سفارش 1042 رسید"
        texts.save("order.accepted", "user", texts={"fa": " "}, enabled=True)
        assert texts.is_enabled("order.accepted", "user")
        assert "ثبت شد" in compose(app)
        texts.save("order.accepted", "user", texts={"fa": "الف", "en": "B"}, enabled=False)
        texts.reset("order.accepted", "user", "fa")
        assert texts.edits("order.accepted", "user").texts == {"en": "B"}
        texts.reset("order.accepted", "user")
        assert db.session.scalars(db.select(Template.__table__.c.event)).all() == []
        assert texts.is_enabled("order.accepted", "user")


def test_staff_texts_go_to_their_own_recipients_or_else_to_the_staff(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, SMSVERIFY_STAFF_MOBILES=["09121110000"])
    texts = texts_of(app)
    with app.app_context():
        assert texts.recipients("ticket.opened") == ("+989121110000",)
        texts.save("ticket.opened", "staff", recipients=["0912 111 0001", "+989121110001"])
        assert texts.recipients("ticket.opened") == ("+989121110001",)
        assert texts.recipients("ticket.user_replied") == ("+989121110000",)
        texts.save("ticket.opened", "staff", recipients=[])
        assert texts.recipients("ticket.opened") == ("+989121110000",)
        with pytest.raises(InvalidMobile):
            texts.save("ticket.opened", "staff", recipients=["12"])
        with pytest.raises(ConfigurationError, match="only staff texts have recipients"):
            texts.save("ticket.replied", "user", recipients=["09121110001"])


def test_a_text_that_staff_may_not_write_is_not_stored(app: Flask) -> None:
    texts = texts_of(app)
    with app.app_context():
        for text in ("{{ nobody }}", "{{ order_number() }}", "ش" * 700):
            with pytest.raises(TemplateError):
                texts.save("order.accepted", "user", texts={"en": "fine", "fa": text})
        with pytest.raises(ConfigurationError, match="no texts in the language 'xx'"):
            texts.save("order.accepted", "user", texts={"xx": "fine"})
        assert texts.edits("order.accepted", "user").texts == {}


def test_security_notices_keep_their_link_and_cannot_be_switched_off(app: Flask) -> None:
    texts = texts_of(app)
    with app.app_context():
        with pytest.raises(TemplateError, match="required value 'url'"):
            texts.save("mobile.change_requested", "user", texts={"en": "{{ mobile_ending }}"})
        condition = "{% if url %}{{ mobile_ending }}{% endif %}"
        with pytest.raises(TemplateError, match="required value 'url'"):
            texts.save("mobile.change_requested", "user", texts={"en": condition})
        texts.save("mobile.change_requested", "user", texts={"en": "Stop: {{ url }}"})
        for event in ("mobile.changed", "mobile.change_requested", "mobile.transferred"):
            with pytest.raises(ConfigurationError, match="cannot be switched off"):
                texts.save(event, "user", enabled=False)


def test_a_stored_text_that_cannot_be_rendered_falls_back_and_staff_hear_of_it_once_a_day(
    make_app: MakeApp, sqlite: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(sqlite, SMSVERIFY_STAFF_MOBILES=["09121110000"])
    texts = texts_of(app)
    with app.app_context(), outbox(app) as box, caplog.at_level(logging.WARNING):
        # As after an update that removed a value.
        texts._store.save("order.accepted", "user", texts={"fa": "{{ order_total }}"})
        for _ in range(3):
            assert "سفارش 1042 ثبت شد" in compose(app)
        [notice] = box.messages
        assert notice.to == "+989121110000"
        assert "order.accepted" in notice.text
        assert "unknown value 'order_total'" in caplog.text


def test_an_edited_notice_is_sent(app: Flask) -> None:
    texts = texts_of(app)
    verifier = app.extensions["smsverify"].verifier
    with app.app_context(), outbox(app) as box:
        texts.save("mobile.changed", "user", texts={"fa": "شمارهٔ جدید: {{ mobile_ending|digits }}"})
        user = db.session.get(User, 1)
        for mobile in (None, "+989129998877"):
            verifier.check(verifier.start(user, mobile=mobile), box.last.code)
        assert box.last.text == "شمارهٔ جدید: ۸۸۷۷"


# --- the snapshot ---------------------------------------------------------------------------------


def test_edits_are_read_twice_a_second_and_not_for_each_text(app: Flask) -> None:
    texts = texts_of(app)
    store = texts._store
    reads = []
    now = 100.0
    store._rereading._monotonic = lambda: now
    read = store._ledger.read
    store._ledger.read = lambda work: reads.append(work) or read(work)
    with app.app_context():
        for _ in range(5):
            compose(app)
        assert len(reads) == 1
        other = type(store)(store._ledger)
        other.save("order.accepted", "user", texts={"fa": "از پردازهٔ دیگر"})
        assert "ثبت شد" in compose(app)
        now += 0.5
        assert compose(app) == "از پردازهٔ دیگر"


def test_the_last_texts_are_used_while_the_database_does_not_answer(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    texts = texts_of(app)
    with app.app_context():
        texts.save("order.accepted", "user", texts={"fa": "سفارش رسید"})
        db.session.execute(db.text("ALTER TABLE smsverify_template RENAME TO elsewhere"))
        db.session.commit()
        for _ in range(3):
            texts._store._rereading._read_at = None
            assert compose(app) == "سفارش رسید"
        assert caplog.text.count("the edited texts could not be read") == 1
