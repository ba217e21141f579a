"""The staff's pages about senders, messages from phones, messages, texts and sends."""

from __future__ import annotations

import csv
import io
import re
import secrets
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from flask import Flask
from flask.testing import FlaskClient
from leaks import LONG_CODES
from sqlalchemy import select, update
from staff import ADMIN, JSON, StaffUser, audited, db, listed, logged_in
from visiting import last_code, phone
from werkzeug.test import TestResponse

from flask_smsverify.db.models import Attempt, Incoming, Message, Template
from flask_smsverify.errors import Unavailable
from flask_smsverify.i18n.catalogue import available_locales
from flask_smsverify.messaging.template_language import MAX_SOURCE_LENGTH
from flask_smsverify.senders.base import Capability, Credit
from flask_smsverify.senders.memory import Memory
from flask_smsverify.simulator import Simulator

MakeStaffApp = Callable[..., Flask]


PAGES = (
    "/",
    "/verifications",
    "/messages",
    "/texts",
    "/send",
    "/incoming",
    "/senders",
    "/settings",
    "/audit",
)
#: Locale → characters of other languages.
FOREIGN = {"en": "[\u0600-\u06ff]", "fa": "[A-Za-zيكةى٠-٩0-9]", "ar": "[A-Za-zپچژگکی۰-۹]"}


def test_every_page_is_in_the_readers_language_alone(make_staff_app: MakeStaffApp) -> None:
    app = make_staff_app(SMSVERIFY_SITE_NAME="–")
    client = logged_in(app)
    client.post(f"{ADMIN}/verifications/verify", json={"ids": ["3", "4"]})
    for locale in available_locales():
        client.environ_base["HTTP_ACCEPT_LANGUAGE"] = locale
        for path in PAGES:
            page = client.get(ADMIN + path).text
            direction = "ltr" if locale == "en" else "rtl"
            assert f'<html lang="{locale}" dir="{direction}"' in page, path
            body = page[page.index("<body") :]
            # Names and numbers, and what staff typed.
            body = re.sub(r"<(code|textarea|bdi|option)\b.*?</\1>", "", body, flags=re.DOTALL)
            text = re.sub("<[^>]*>|UTC|Asia/Tehran|memory", "", body)
            assert not re.search(FOREIGN.get(locale, "(?!)"), text), (locale, path)


def test_the_overview_says_how_much_of_a_shared_limit_is_used(
    make_staff_app: MakeStaffApp,
) -> None:
    app = make_staff_app()
    client = logged_in(app)
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "en"
    alerts = app.extensions["smsverify"].verifier._checker._alerts
    for part, shown in (
        ("half", "50% of the limit “site” is used."),
        ("open", "100% of the open part of the limit “site” is used."),
        ("whole", "100% of the limit “site” is used."),
    ):
        with app.app_context():
            alerts.report([("site", part, 86_400)])
        assert shown in client.get(ADMIN + "/").text


# --- senders -----------------------------------------------------------------------------------


def test_a_sender_is_shown_with_its_state_credit_and_errors(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    [item] = client.get(f"{ADMIN}/senders", headers=JSON).json["items"]
    assert (item["name"], item["gateway"], item["breaker"]) == ("memory", "memory", "closed")
    assert item["errors_today"] == 0
    asked = []

    def credit(_sender: Memory) -> Credit:
        asked.append(1)
        return Credit(Decimal("1250000.50"), "IRR")

    own = Memory.capabilities.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(
        Memory, "capabilities", property(lambda self: own(self) | {Capability.CREDIT})
    )
    monkeypatch.setattr(Memory, "credit", credit)
    [item] = client.get(f"{ADMIN}/senders?check=1", headers=JSON).json["items"]
    assert (item["state"], item["reachable"], item["credit"]) == ("ok", True, "1250000.50")
    assert "1,250,000.5 rials" in client.get(f"{ADMIN}/senders").text
    assert len(asked) == 1, "a result is kept for a minute"
    health = app.extensions["smsverify"].health
    monkeypatch.setattr(health, "_low_credit", {"memory": Decimal("1250001")})
    [item] = client.get(f"{ADMIN}/senders?check=1", headers=JSON).json["items"]
    assert (item["state"], item["reachable"]) == ("low_credit", True)
    overview = client.get(f"{ADMIN}/").text
    assert re.search('sv-alert-wait"><a href="[^"]*">The sender memory is running out', overview)

    def fail(sender: Memory) -> Credit:
        raise sender.make_error(Unavailable, "connection refused", written=False)

    monkeypatch.setattr(Memory, "credit", fail)
    [item] = client.get(f"{ADMIN}/senders?check=1", headers=JSON).json["items"]
    assert (item["state"], item["reachable"]) == ("unreachable", False)
    assert "The last check of the sender memory failed." in client.get(f"{ADMIN}/").text


def test_a_test_message_goes_out_by_the_chosen_sender(app: Flask, client: FlaskClient) -> None:
    url = f"{ADMIN}/senders/memory/test"
    assert client.post(url, json={"mobile": "0912 345 6789"}).status_code == 200
    assert phone(app).last.to == "+989123456789"
    assert audited(app) == [("1", "test", "memory")]
    wrong = client.post(url, json={"mobile": "12"})
    assert (wrong.status_code, list(wrong.json["errors"])) == (422, ["mobile"])
    for typed, reason in (
        ("12", "Enter a valid mobile number"),
        ("", "Enter a mobile number."),
        (9123456789, "The mobile number must be a string"),
    ):
        assert client.post(url, json={"mobile": typed}).json["errors"] == {"mobile": reason}
    assert client.post(f"{ADMIN}/senders/none/test", json={"mobile": "x"}).status_code == 404
    assert len(audited(app)) == 1


def test_a_test_message_that_was_not_sent_is_explained_beside_its_field(
    make_staff_app: MakeStaffApp, simulator: Simulator
) -> None:
    sender = {"gateway": "smsir", "api_key": "k", "line": "30007732"}
    app = make_staff_app(
        SMSVERIFY_SENDERS={"first": sender, "second": sender}, SMSVERIFY_SIMULATOR_URL=simulator.url
    )
    client = logged_in(app)
    wrong = client.post(f"{ADMIN}/senders/second/test", data={"mobile": "0912<"})
    assert wrong.status_code == 422
    page = wrong.text
    assert "<title>Error: Senders" in page
    assert 'id="sv-test-2-error">Enter a valid mobile number<' in page
    assert 'value="0912&lt;" aria-describedby="sv-test-2-error"' in page
    assert page.count('aria-invalid="true"') == page.count("autofocus") == 1
    assert "Nothing was changed." not in page
    simulator.fault("smsir", "no_credit")
    failed = client.post(f"{ADMIN}/senders/first/test", data={"mobile": "09123456789"})
    error = "The gateway did not accept the message: no credit"
    assert f'id="sv-test-1-error">{error}<' in failed.text
    simulator.clear_faults()
    client.post(f"{ADMIN}/senders/first/test", data={"mobile": "09123456789"})
    assert "first accepted the test message." in client.get(f"{ADMIN}/senders").text


def test_the_page_of_senders_says_in_the_readers_language_what_to_do(
    make_staff_app: MakeStaffApp, simulator: Simulator
) -> None:
    app = make_staff_app(
        SMSVERIFY_SENDERS={"main": {"gateway": "smsir", "api_key": "k", "line": "30007732"}},
        SMSVERIFY_SIMULATOR_URL=simulator.url,
    )
    client = logged_in(app)
    simulator.fault("smsir", "bad_credentials")
    advice = "Create a new API key in SMS.ir&#39;s panel and put it into the option api_key."
    assert f"{advice}</p>" in client.get(f"{ADMIN}/senders").text
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "fa"
    page = client.get(f"{ADMIN}/senders").text
    assert "<p>کلید دسترسی درگاه معتبر نیست</p>" in page
    assert 'گزینهٔ <code dir="ltr">api_key</code> قرار دهید.</p>' in page


def test_no_test_message_goes_out_by_a_sender_that_sends_no_texts(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Memory.capabilities.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(
        Memory, "capabilities", property(lambda self: own(self) - {Capability.TEXT})
    )
    wrong = client.post(f"{ADMIN}/senders/memory/test", json={"mobile": "09123456789"})
    assert (wrong.status_code, wrong.json["code"]) == (422, "invalid_values")
    assert wrong.json["errors"] == {"mobile": "This sender cannot send texts."}
    assert audited(app) == []
    client.post(f"{ADMIN}/senders/memory/test", data={"mobile": "09123456789"})
    assert "This sender cannot send texts." in client.get(f"{ADMIN}/senders").text


# --- messages from phones ----------------------------------------------------------------------


def test_received_messages_are_read_and_deleted(app: Flask, client: FlaskClient) -> None:
    state = app.extensions["smsverify"]
    rows = [
        Incoming(
            id=f"{number:032}",
            sender="memory",
            originator=f"+98912345000{number}",
            line="50001234",
            text=f"text {number} <b>",
            received_at=state.clock() - timedelta(minutes=number),
        )
        for number in range(3)
    ]
    state.ledger.run(lambda session: session.add_all(rows))
    assert [item["text"][:6] for item in listed(client, "/incoming")] == [
        "text 0",
        "text 1",
        "text 2",
    ]
    first = f"{0:032}"
    assert client.post(f"{ADMIN}/incoming/{first}/read", json={}).status_code == 200
    assert len(listed(client, "/incoming", state="unread")) == 2
    assert [item["id"] for item in listed(client, "/incoming", state="read")] == [first]
    assert [item["from"] for item in listed(client, "/incoming", q="۰۹۱۲۳۴۵۰۰۰۱")] == [
        "+989123450001"
    ]
    both = {"ids": [first, f"{1:032}"]}
    assert client.post(f"{ADMIN}/incoming/delete", json=both).json["done"] == both["ids"]
    assert len(listed(client, "/incoming")) == 1
    assert client.post(f"{ADMIN}/incoming/{first}/delete", json={}).status_code == 404
    assert len(audited(app)) == 3
    assert "text 2 &lt;b&gt;" in client.get(f"{ADMIN}/incoming").text


# --- messages ----------------------------------------------------------------------------------


def test_messages_are_filtered_and_never_show_a_code(make_staff_app: MakeStaffApp) -> None:
    app = make_staff_app(**LONG_CODES)
    client = logged_in(app)
    logged_in(app, 3).post("/verify-mobile/send")
    code = last_code(app)
    [item] = listed(client, "/messages")
    assert (item["kind"], item["recipient"], item["sender"]) == ("code", "+989123450003", "memory")
    assert item["text"] is None
    for path in ("/messages", "/messages?format=csv", "/messages?format=json"):
        assert code not in client.get(f"{ADMIN}{path}").text
    assert len(listed(client, "/messages", q="09123450003", kind="code", state="sent")) <= 1
    assert listed(client, "/messages", q="09123450004") == []
    assert listed(client, "/messages", state="failed") == []
    wrong = client.get(f"{ADMIN}/messages", query_string={"kind": "x"}, headers=JSON)
    assert (wrong.status_code, list(wrong.json["errors"])) == (422, ["kind"])


def cost_cells(client: FlaskClient, language: str = "en") -> list[str]:
    """Return what the page of messages shows as costs."""
    page = client.get(f"{ADMIN}/messages", headers={"Accept-Language": language}).text
    label = {"en": "Cost", "fa": "هزینه", "ar": "التكلفة"}[language]
    assert re.search(f"<th[^>]*>{label}</th>", page)
    return re.findall(f'data-label="{label}">([^<]*)<', page)


def exported_costs(client: FlaskClient) -> list[str]:
    export = client.get(f"{ADMIN}/messages?format=csv").text.removeprefix("\ufeff")
    return [row["cost"] for row in csv.DictReader(io.StringIO(export))]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("/messages?q=12", "q"),
        ("/messages?kind=none", "kind"),
        ("/messages?from=soon", "from"),
        ("/verifications?state=none", "state"),
        ("/incoming?to=soon", "to"),
        ("/audit?from=soon", "from"),
    ],
)
def test_a_wrong_filter_is_explained_at_its_field_and_what_was_typed_is_kept(
    client: FlaskClient, query: str, field: str
) -> None:
    answer = client.get(ADMIN + query)
    assert answer.status_code == 422
    [control] = re.findall(f'<(?:input|select)[^>]* id="sv-f-{field}"[^>]*>', answer.text)
    assert f'aria-describedby="sv-e-{field} ' in control
    assert 'aria-invalid="true" autofocus' in control
    assert f'<p class="sv-field-error" id="sv-e-{field}">' in answer.text
    typed = query.partition("=")[2]
    assert (f'value="{typed}"' in control) == ("<input" in control)
    assert "<title>Error:" in answer.text
    assert "sv-menu" in answer.text
    assert "sv-empty" not in answer.text  # nothing was searched for
    program = client.get(ADMIN + query, headers=JSON)
    assert (program.status_code, list(program.json["errors"])) == (422, [field])


def test_an_empty_list_says_whether_something_was_searched_for(client: FlaskClient) -> None:
    def shown(answer: TestResponse) -> list[str]:
        return re.findall('<p class="sv-empty">([^<]*)<', answer.text)

    for path in ("/messages", "/incoming", "/audit"):
        assert shown(client.get(ADMIN + path)) == ["There is nothing here yet."], path
    assert shown(client.get(f"{ADMIN}/messages?state=failed")) == ["No messages match."]
    assert shown(client.get(f"{ADMIN}/send")) == ["Nothing has been sent yet."]
    by_code = client.post(f"{ADMIN}/verifications", data={"q": "123456"})
    assert shown(by_code) == ["No verifications match."]


def test_a_wrong_value_that_no_field_shows_is_a_problem_page(client: FlaskClient) -> None:
    answer = client.get(f"{ADMIN}/messages?limit=9000")
    assert answer.status_code == 422
    assert "Enter a number from 1 to 200." in answer.text
    assert answer.text.count("Check the highlighted values") == 2  # the title and the heading


def test_an_action_that_fails_says_why_and_names_no_field(client: FlaskClient) -> None:
    client.post(f"{ADMIN}/messages/resend", data={}, headers={"Referer": f"{ADMIN}/messages"})
    page = client.get(f"{ADMIN}/messages").text
    assert "Select at least one row." in page
    assert "Check the highlighted values" not in page


def test_the_activity_shows_a_number_as_staff_read_it(app: Flask, client: FlaskClient) -> None:
    client.post(f"{ADMIN}/senders/memory/test", json={"mobile": "09123456789"})
    assert ": <bdi>0912 345 6789</bdi>" in client.get(f"{ADMIN}/audit").text
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "fa"
    assert ": <bdi>۰۹۱۲ ۳۴۵ ۶۷۸۹</bdi>" in client.get(f"{ADMIN}/audit").text


def test_a_message_shows_what_its_gateway_said_it_cost(
    make_staff_app: MakeStaffApp, simulator: Simulator
) -> None:
    app = make_staff_app(
        SMSVERIFY_SENDERS={"main": {"gateway": "smsir", "api_key": "k", "template_id": 100000}},
        SMSVERIFY_SIMULATOR_URL=simulator.url,
    )
    client = logged_in(app)
    logged_in(app, 3).post("/verify-mobile/send")
    app.extensions["smsverify"].wait()
    [item] = listed(client, "/messages")
    assert (item["sender"], item["state"], item["cost"]) == ("main", "queued", 1)
    assert (cost_cells(client), exported_costs(client)) == (["1"], ["1"])


def test_texts_of_one_call_show_their_costs_once_the_gateway_reports_each(
    make_staff_app: MakeStaffApp, simulator: Simulator
) -> None:
    app = make_staff_app(
        SMSVERIFY_SENDERS={"main": {"gateway": "smsir", "api_key": "k", "line": "30001234"}},
        SMSVERIFY_SIMULATOR_URL=simulator.url,
    )
    client, state = logged_in(app), app.extensions["smsverify"]
    body = {"text": "hello", "to": "09123456789, 09351112233", "confirm": True}
    client.post(f"{ADMIN}/send", json=body)
    state.wait()
    found = listed(client, "/messages")
    assert [(item["state"], item["cost"]) for item in found] == [("queued", None)] * 2
    simulator.fault("smsir", "state", state="delivered")
    now = state.clock()
    state.clock.source = lambda: now + timedelta(minutes=10)
    state.sync.run()
    found = listed(client, "/messages")
    assert [(item["state"], item["cost"]) for item in found] == [("delivered", 1)] * 2


def test_a_message_without_a_reported_cost_shows_none(app: Flask, client: FlaskClient) -> None:
    logged_in(app, 3).post("/verify-mobile/send")
    [item] = listed(client, "/messages")
    assert (item["sender"], item["cost"]) == ("memory", None)
    assert (cost_cells(client), exported_costs(client)) == (["–"], [""])


def charge(app: Flask, sender: str, cost: str | None) -> None:
    """Add an attempt to the one message."""
    state = app.extensions["smsverify"]
    [message_id] = state.ledger.read(lambda session: session.scalars(select(Message.id)).all())
    now = state.clock()
    attempt = Attempt(
        id=secrets.token_hex(16),
        message_id=message_id,
        sender=sender,
        state="sent",
        cost=None if cost is None else Decimal(cost),
        created_at=now,
        updated_at=now,
    )
    state.ledger.run(lambda session: session.add(attempt))


def test_the_costs_of_all_attempts_at_a_message_are_added(app: Flask, client: FlaskClient) -> None:
    logged_in(app, 3).post("/verify-mobile/send")
    for cost in ("1200.5", None, "34.060001"):
        charge(app, "memory", cost)
    [item] = listed(client, "/messages")
    assert (item["attempts"], item["cost"]) == (4, 1234.560001)
    assert exported_costs(client) == ["1234.560001"]
    assert cost_cells(client) == ["1,234.560001"]
    assert cost_cells(client, "fa") == ["۱٬۲۳۴٫۵۶۰۰۰۱"]
    assert cost_cells(client, "ar") == ["1,234.560001"]


def test_costs_of_gateways_with_units_of_their_own_are_not_added(
    app: Flask, client: FlaskClient
) -> None:
    logged_in(app, 3).post("/verify-mobile/send")
    charge(app, "memory", "2")
    charge(app, "removed", "3000")
    assert [item["cost"] for item in listed(client, "/messages")] == [None]
    assert cost_cells(client) == ["–"]


def test_a_code_is_sent_again_and_a_message_deleted(app: Flask, client: FlaskClient) -> None:
    logged_in(app, 3).post("/verify-mobile/send")
    [item] = listed(client, "/messages")
    again = client.post(f"{ADMIN}/messages/{item['id']}/resend", json={})
    assert (again.status_code, again.json["code"]) == (429, "too_soon")
    app.extensions["smsverify"].limit_report.reset_all()
    assert audited(app) == []
    assert client.post(f"{ADMIN}/messages/{item['id']}/delete", json={}).status_code == 200
    assert listed(client, "/messages") == []
    assert audited(app) == [("1", "delete", item["id"])]


@pytest.mark.parametrize(
    ("kind", "state", "is_offered"),
    [
        ("event", "failed", True),
        ("event", "queued", False),
        ("event", "waiting", False),
        ("bulk", "unknown", True),
        ("notice", "failed", False),
        ("code", "sent", True),
    ],
)
def test_send_again_is_offered_only_where_it_is_possible(
    app: Flask, client: FlaskClient, kind: str, state: str, is_offered: bool
) -> None:
    logged_in(app, 3).post("/verify-mobile/send")
    values = update(Message).values(kind=kind, state=state)
    app.extensions["smsverify"].ledger.run(lambda session: session.execute(values))
    [item] = listed(client, "/messages")
    page = client.get(f"{ADMIN}/messages").text
    assert (f"/messages/{item['id']}/resend" in page) is is_offered
    assert f"/messages/{item['id']}/delete" in page
    if not is_offered:
        answer = client.post(f"{ADMIN}/messages/{item['id']}/resend", json={})
        assert answer.status_code == 422
        assert "Only a message that failed" in answer.json["errors"]["id"]


# --- texts -------------------------------------------------------------------------------------

TEXT = f"{ADMIN}/texts/user/invoice.created"


def test_a_text_is_edited_switched_off_and_restored(app: Flask, client: FlaskClient) -> None:
    before = client.get(TEXT, headers=JSON).json
    assert before["enabled"] is True
    value = before["values"][0]
    text = f"New: {{{{ {value} }}}}"
    answer = client.post(TEXT, json={"enabled": False, "texts": {"en": text}})
    assert answer.status_code == 200
    assert (answer.json["enabled"], answer.json["texts"]["en"]) == (False, text)
    assert audited(app) == [("1", "texts", "user/invoice.created")]
    assert "Edited: English" in client.get(f"{ADMIN}/texts").text
    restored = client.post(TEXT, json={"enabled": True, "texts": {"en": ""}}).json
    assert restored["texts"]["en"] == before["texts"]["en"]


def test_the_activity_shows_what_changed_in_the_readers_language(
    app: Flask, client: FlaskClient
) -> None:
    texts = client.get(TEXT, headers=JSON).json["texts"]
    form = {f"text.{locale}": text for locale, text in texts.items()} | {"enabled": "1"}
    client.post(TEXT, data=form)
    assert audited(app) == [], "every value is as before"
    client.post(TEXT, data=form | {"text.fa": "سلام {{ invoice_number }}"})
    client.post(TEXT, data=form | {"text.fa": ""})
    client.post(
        f"{ADMIN}/settings",
        json={"staff_mobiles": ["09121111111", "09122222222"], "exempt_groups": ["a", "b"]},
    )
    client.post(f"{ADMIN}/send", json={"text": "hi", "to": ["09121111111"], "confirm": True})
    [_, _, _, first, second] = sorted(listed(client, "/audit"), key=lambda item: item["id"])[::-1]
    assert second["detail"] == {"texts": {"fa": "سلام {{ invoice_number }}"}}
    assert first["detail"] == {"texts": {"fa": None}}
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "fa"
    page = client.get(f"{ADMIN}/audit").text
    assert "فارسی: <bdi>سلام {{ invoice_number }}</bdi>" in page
    assert "فارسی: <bdi>–</bdi>" in page
    assert "بعد: <bdi>۰۹۱۲ ۱۱۱ ۱۱۱۱، ۰۹۱۲ ۲۲۲ ۲۲۲۲</bdi>" in page
    assert "بعد: <bdi>a، b</bdi>" in page
    assert ">شمارهٔ کارکنان</td>" in page
    assert ">شماره‌ها</td>" in page
    assert "user/<wbr>invoice.<wbr>created" in page


@pytest.mark.parametrize(
    ("locale", "order", "sample"),
    [("en", ["en", "ar", "fa"], "New: 2071"), ("fa", ["fa", "en", "ar"], "صورتحساب 2071")],
)
def test_texts_are_shown_by_example_with_the_readers_language_first(
    client: FlaskClient, locale: str, order: list[str], sample: str
) -> None:
    client.post(TEXT, json={"texts": {"en": "New: {{ invoice_number }}"}})
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = locale
    item = client.get(f"{ADMIN}/texts").text.partition("user/invoice.created")[2]
    assert sample in item.partition("</li>")[0]
    assert re.findall('<textarea id="sv-text-([a-z]+)"', client.get(TEXT).text) == order


def test_a_text_that_staff_may_not_write_is_refused(app: Flask, client: FlaskClient) -> None:
    """Case 46 of docs/safety.md."""
    for body, field in (
        ({"texts": {"en": "{{ nothing }}"}}, "text.en"),
        ({"texts": {"en": "{{ site.__class__ }}"}}, "text.en"),
        ({"texts": {"en": "{% for x in y %}{% endfor %}"}}, "text.en"),
        ({"texts": {"xx": "text"}}, "text.xx"),
        ({"texts": {"en": 5}}, "text.en"),
        ({"texts": "text"}, "texts"),
        ({"enabled": "yes"}, "enabled"),
        ({"recipients": ["09123456789"]}, "recipients"),
        ({"patterns": [None]}, "patterns"),
        ({"patterns": {"memory": 5}}, "patterns"),
        ({"patterns": {"nobody": {"template": "1", "values": {}}}}, "patterns"),
        ({"colour": "red"}, "colour"),
    ):
        answer = client.post(TEXT, json=body)
        assert (answer.status_code, answer.json["code"]) == (422, "invalid_values")
        assert list(answer.json["errors"]) == [field], body
        assert audited(app) == [], body


def test_a_text_is_previewed_with_its_parts(client: FlaskClient) -> None:
    shown = client.post(f"{TEXT}/preview", json={"text": "Hello {{ site }}", "locale": "en"})
    assert shown.json == {"text": "Hello host", "parts": 1, "parts_text": "1 part"}
    long = {"text": "a" * 300, "locale": "en"}
    for reader, words in (("en", "2 parts"), ("fa", "۲ بخش"), ("ar", "جزءان")):
        answer = client.post(f"{TEXT}/preview", json=long, headers={"Accept-Language": reader})
        assert answer.json["parts_text"] == words
    wrong = client.post(f"{TEXT}/preview", json={"text": "{{", "locale": "en"})
    assert (wrong.status_code, wrong.json["code"]) == (422, "invalid_template")
    page = client.post(TEXT, data={"text.en": "Hi {{ site }}", "do": "preview", "enabled": "1"})
    assert "Hi host" in page.text
    assert client.get(f"{ADMIN}/texts/user/nothing", headers=JSON).status_code == 404


def test_a_preview_of_a_wrong_text_shows_the_error_that_saving_it_shows(
    app: Flask, client: FlaskClient
) -> None:
    wrong = {"text.en": "{{ site }}: {{ nope }}", "text.fa": " ", "enabled": "1"}
    saved = client.post(TEXT, data=wrong)
    shown = client.post(TEXT, data=wrong | {"do": "preview"})
    error = re.compile('<p class="sv-field-error" id="([^"]*)">([^<]*)<')
    assert (saved.status_code, shown.status_code) == (422, 422)
    assert error.findall(shown.text) == error.findall(saved.text)
    assert error.findall(shown.text) == [
        ("sv-text-en-error", "There is no value nope for this text.")
    ]
    assert "{{ site }}: {{ nope }}</textarea>" in shown.text
    assert audited(app) == []


def test_a_stored_text_that_can_no_longer_be_used_is_shown_with_the_reason(
    app: Flask, client: FlaskClient
) -> None:
    client.post(TEXT, json={"texts": {"en": "Hello {{ site }}"}})
    state = app.extensions["smsverify"]
    stored = update(Template).where(Template.locale == "en").values(text="Hello {{ nope }}")
    state.ledger.run(lambda session: session.execute(stored))
    state.event_texts._store._rereading.now()
    page = client.get(TEXT)
    assert page.status_code == 200
    assert "There is no value nope for this text." in page.text


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a" * (MAX_SOURCE_LENGTH + 1), f"The text has more than {MAX_SOURCE_LENGTH} characters."),
        ("b" * 1900, "The text has more than 10 parts."),
    ],
)
def test_a_text_that_is_too_long_is_refused_with_the_limit(
    client: FlaskClient, text: str, error: str
) -> None:
    answer = client.post(TEXT, json={"texts": {"en": text}})
    assert answer.json["errors"] == {"text.en": error}
    shown = client.post(f"{TEXT}/preview", json={"text": text, "locale": "en"})
    assert shown.json["detail"] == error


def test_staff_texts_have_recipients(client: FlaskClient) -> None:
    url = f"{ADMIN}/texts/staff/ticket.opened"
    answer = client.post(url, json={"recipients": ["0912 345 6789"]})
    assert answer.json["recipients"] == ["+989123456789"]
    assert client.post(url, data={"recipients": "12"}).status_code == 422


# --- sends -------------------------------------------------------------------------------------


def test_a_send_is_previewed_then_confirmed(app: Flask, client: FlaskClient) -> None:
    typed = "0912 345 6789, 09351112233\n+98 912 345 6789 abc"
    body = {"text": "We are closed on Friday.", "to": typed, "confirm": False}
    preview = client.post(f"{ADMIN}/send", json=body).json
    assert (preview["recipients"], preview["parts"]) == (2, 1)
    assert preview["invalid"] == ["abc"]
    assert preview["duplicates"] == 1
    assert "cost" in preview
    assert audited(app) == []
    assert phone(app).messages == []
    started = client.post(f"{ADMIN}/send", json=body | {"confirm": True}).json
    state = app.extensions["smsverify"]
    state.wait()
    item = client.get(f"{ADMIN}/send/{started['id']}", headers=JSON).json
    assert (item["recipients"], item["sent"], item["who"]) == (2, 2, "1")
    assert {message.to for message in phone(app).messages} == {"+989123456789", "+989351112233"}
    assert audited(app) == [("1", "send", "list")]
    assert len(listed(client, "/messages", kind="bulk", batch=started["id"])) == 2
    assert [item["id"] for item in listed(client, "/send")] == [started["id"]]
    assert "We are closed" in client.get(f"{ADMIN}/send/{started['id']}").text


def test_a_browser_confirms_on_the_page_of_the_preview_and_sends_once(
    app: Flask, client: FlaskClient
) -> None:
    form = {"text": "Hello", "to": "all"}
    page = client.post(f"{ADMIN}/send", data=form)
    assert page.status_code == 200
    assert "Send to 4 recipients" in page.text
    confirmed = form | {"confirm": "1", "token": "abc"}
    first = client.post(f"{ADMIN}/send", data=confirmed)
    second = client.post(f"{ADMIN}/send", data=confirmed)
    assert first.status_code == second.status_code == 303
    app.extensions["smsverify"].wait()
    assert len(phone(app).messages) == 4
    assert len(listed(client, "/send")) == 1


@pytest.mark.parametrize("body", [{"text": "", "to": "all"}, {"text": "x", "to": " ,\n"}])
def test_a_send_without_text_or_recipients_is_refused(
    client: FlaskClient, body: dict[str, str]
) -> None:
    answer = client.post(f"{ADMIN}/send", json=body | {"confirm": True})
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_values")
    assert client.post(f"{ADMIN}/send", data=body).status_code == 422


def test_an_empty_send_explains_both_fields(client: FlaskClient) -> None:
    page = client.post(f"{ADMIN}/send", data={"to": " ", "text": " "}).text
    assert 'id="sv-to-error">Enter at least one recipient.<' in page
    assert 'id="sv-text-error">Enter a text.<' in page


def test_a_send_is_paused_continued_and_stopped(app: Flask, client: FlaskClient) -> None:
    state = app.extensions["smsverify"]
    later = state.clock() + timedelta(hours=1)
    batch = state.batches.send("Hello", ["09123450003", "09123450004"], not_before=later)
    url = f"{ADMIN}/send/{batch.id}"

    def act(action: str) -> str:
        assert client.post(f"{url}/{action}", json={}).status_code == 200
        return str(client.get(url, headers=JSON).json["state"])

    assert act("pause") == "paused"
    assert act("resume") == "running"
    assert act("stop") == "stopped"
    assert [action for _, action, _ in audited(app)] == ["pause", "resume", "stop"]
    assert client.post(f"{ADMIN}/send/none/stop", json={}).status_code == 404


def test_an_action_on_a_send_that_has_ended_says_so(app: Flask, client: FlaskClient) -> None:
    state = app.extensions["smsverify"]
    batch = state.batches.send("Hello", ["09123450003"])
    state.wait()
    assert state.batches.get(batch.id).state == "done"
    for action in ("pause", "resume", "stop"):
        client.post(f"{ADMIN}/send/{batch.id}/{action}")
        page = client.get(f"{ADMIN}/send/{batch.id}").text
        assert "The send has already ended." in page
        assert "The send was" not in page


def test_a_stopped_send_cannot_be_paused_or_continued(app: Flask, client: FlaskClient) -> None:
    state = app.extensions["smsverify"]
    later = state.clock() + timedelta(hours=1)
    batch = state.batches.send("Hello", ["09123450003"], not_before=later)
    state.batches.stop(batch.id)
    for action in ("pause", "resume"):
        client.post(f"{ADMIN}/send/{batch.id}/{action}")
        page = client.get(f"{ADMIN}/send/{batch.id}").text
        assert "The send has already ended." in page
        assert "The send was" not in page
    client.post(f"{ADMIN}/send/{batch.id}/stop")
    assert "The send was stopped." in client.get(f"{ADMIN}/send/{batch.id}").text


# --- what staff read about failures ------------------------------------------------------------


def test_recipients_that_cannot_be_read_are_explained_in_the_readers_language(
    client: FlaskClient,
) -> None:
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "fa"
    for to, error in (
        ("club", "هیچ درگاهی باشگاه مشتریان ندارد."),
        ("group:", "نام گروه را بعد از دونقطه وارد کنید."),
    ):
        answer = client.post(f"{ADMIN}/send", data={"text": "سلام", "to": to})
        assert answer.status_code == 422
        assert f'id="sv-to-error">{error}<' in answer.text


def test_users_without_a_number_are_named_as_users_in_the_preview_of_a_send(
    app: Flask, client: FlaskClient
) -> None:
    with app.app_context():
        for number, mobile in ((2, None), (4, "")):
            db.session.get(StaffUser, number).mobile = mobile
        db.session.commit()
    page = client.post(f"{ADMIN}/send", data={"text": "Hello", "to": "all"}).text
    facts = re.sub("<[^>]*>", "", page.partition("Users without a valid number")[2])
    assert facts.startswith("2: 2, 4")
    assert "Invalid numbers" not in page
    page = client.post(f"{ADMIN}/send", data={"text": "Hello", "to": "12, 09123456789"}).text
    assert "Invalid numbers" in page


def test_a_wrong_page_key_is_explained_in_the_readers_language(client: FlaskClient) -> None:
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "fa"
    answer = client.get(f"{ADMIN}/messages?after=zz")
    assert answer.status_code == 422
    assert "این مقدار به ردیفی از این فهرست اشاره نمی‌کند." in answer.text


@pytest.mark.parametrize(
    ("cause", "persian"),
    [
        ("no credit", "اعتبار تمام شده است"),
        ("the gateway refuses receiver", "درگاه شمارهٔ گیرنده را نمی‌پذیرد"),
        ("no complete answer (ReadError)", "پاسخ کاملی از درگاه دریافت نشد"),
        ("no connection (ConnectError)", "اتصال به درگاه برقرار نشد"),
        (
            "main: no credit; second: the service failed",
            "main: اعتبار تمام شده است؛ second: سرویس درگاه با خطا روبه‌رو شد",
        ),
        ("main: no credit; second: busy", "main: اعتبار تمام شده است؛ second: busy"),
        ("main: full; second: busy", "علت: main: full; second: busy"),
        (
            "raygan: wrong username or password; wikipayam: too many requests",
            "raygan: نام کاربری یا رمز عبور درگاه اشتباه است؛ "
            "wikipayam: تعداد درخواست‌ها بیش از حد مجاز است",
        ),
        (
            "main: this URL has no such method; check base_url",
            "main: این نشانی چنین سرویسی ندارد؛ نشانی درگاه را در تنظیمات بررسی کنید",
        ),
        (
            "the gateway refused the request: Invalid token; try again",
            "درگاه درخواست را نپذیرفت: Invalid token; try again",
        ),
        ("not sent: not enough credit", "ارسال نشد: اعتبار کافی نیست"),
        ("the answer is larger than 2 MiB", "پاسخ درگاه از ۲ مگابایت بزرگ‌تر است"),
        (
            "the limit 'messages' is used up for another 30 s",
            "سقف messages پر شده است",
        ),
        ("شماره اشتباه است", "علت: شماره اشتباه است"),
    ],
)
def test_the_cause_of_a_failure_is_shown_in_the_readers_language(
    app: Flask, client: FlaskClient, cause: str, persian: str
) -> None:
    logged_in(app, 3).post("/verify-mobile/send")
    state = app.extensions["smsverify"]
    failed = update(Message).values(state="failed", cause=cause)
    state.ledger.run(lambda session: session.execute(failed))
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "fa"
    page = client.get(f"{ADMIN}/messages").text
    [shown] = re.findall('<span class="sv-cause">([^<]*)</span>', page)
    assert re.sub("[\u2068\u2069]", "", shown) == persian
    assert [item["cause"] for item in listed(client, "/messages")] == [cause]
