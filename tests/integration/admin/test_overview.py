"""`/`: the figures of the last two weeks, and what needs attention, on every database."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import staff
from clocks import Clock
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete
from staff import ADMIN, JSON, logged_in

from flask_smsverify.db.models import Attempt, Challenge, Incoming, Message
from flask_smsverify.errors import Rejected
from flask_smsverify.senders.memory import Memory

#: Half an hour after midnight in Tehran.
NOW = datetime(2026, 3, 10, 21, 0, tzinfo=UTC)


class Ledger:
    """Adds the codes of an app at given times."""

    def __init__(self, app: Flask) -> None:
        self._state: Any = app.extensions["smsverify"]
        self.clock = Clock(NOW)
        self._state.clock.source = self.clock
        self._added = 0

    def add(self, ago: timedelta, *senders: str, proved: bool = False, end: str = "2") -> None:
        """Add a code that these senders were asked to send, one after the other."""
        at = NOW - ago
        self._added += 1
        key = f"{self._added:032}"
        challenge = Challenge(
            id=key,
            user_id="3",
            mobile=f"+9891{end}3456789",
            purpose="verify",
            key_id="k",
            code_length=6,
            channel="sms",
            sends=1,
            state=Challenge.VERIFIED if proved else Challenge.EXPIRED,
            created_at=at,
            expires_at=at,
            resend_at=at,
            open_key=key,
            native_key=key,
        )
        message = Message(
            id=key,
            kind=Message.CODE,
            challenge_id=key,
            recipient=challenge.mobile,
            channel="sms",
            state="sent",
            created_at=at,
            updated_at=at,
        )
        attempts = [
            Attempt(
                id=f"{sender:>32}"[:31] + str(self._added),
                message_id=key,
                sender=sender,
                state="sent",
                created_at=at,
                updated_at=at,
            )
            for sender in senders
        ]
        self._state.ledger.run(lambda session: session.add_all([challenge, message, *attempts]))

    def delete_all(self) -> None:
        self._state.ledger.run(lambda session: session.execute(delete(Challenge)))


@pytest.fixture
def app(database: str) -> Iterator[Flask]:
    app = staff.staff_app(database)
    yield app
    staff.release(app)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return logged_in(app)


@pytest.fixture
def ledger(app: Flask) -> Ledger:
    return Ledger(app)


def overview(client: FlaskClient) -> dict[str, Any]:
    body: dict[str, Any] = client.get(f"{ADMIN}/", headers=JSON).json
    return body


def test_codes_are_counted_by_day_sender_and_operator(ledger: Ledger, client: FlaskClient) -> None:
    ledger.add(timedelta(minutes=10), "raygan", proved=True)  # today in Tehran, not in UTC
    ledger.add(timedelta(minutes=40), "raygan", "wikipayam", proved=True)
    ledger.add(timedelta(hours=20), "raygan", end="9")
    ledger.add(timedelta(days=13), "wikipayam")
    ledger.add(timedelta(days=15), "wikipayam")
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "fa"
    body = overview(client)
    days = {day["day"]: (day["sent"], day["proved"]) for day in body["days"] if day["sent"]}
    assert days == {"2026-02-26": (1, 0), "2026-03-10": (2, 1), "2026-03-11": (1, 1)}
    senders = [(one["sender"], one["sent"], one["proved"]) for one in body["senders"]]
    assert senders == [("raygan", 3, 2), ("wikipayam", 2, 1)]
    assert sum(one["sent"] for one in body["operators"]) == 4


def test_a_code_that_no_sender_sent_is_counted_for_its_operator_only(
    ledger: Ledger, client: FlaskClient
) -> None:
    """The code of a test number is such a code."""
    ledger.add(timedelta(minutes=10), proved=True)
    body = overview(client)
    assert body["senders"] == []
    assert [(one["sent"], one["proved"]) for one in body["operators"]] == [(1, 1)]


def test_a_finished_day_is_counted_again_after_an_hour_and_today_at_each_view(
    ledger: Ledger, client: FlaskClient
) -> None:
    def sent() -> list[int]:
        return [day["sent"] for day in overview(client)["days"] if day["sent"]]

    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "fa"
    ledger.add(timedelta(days=3), "raygan")
    ledger.add(timedelta(minutes=5), "raygan")
    assert sent() == [1, 1]
    ledger.add(timedelta(minutes=3), "raygan")
    ledger.delete_all()
    ledger.add(timedelta(minutes=1), "raygan")
    assert sent() == [1, 1]
    ledger.clock.advance(hours=1)
    assert sent() == [1]


def test_a_day_is_kept_only_once_its_codes_cannot_be_proved_any_more(
    ledger: Ledger, client: FlaskClient
) -> None:
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "fa"
    ledger.clock.now = NOW - timedelta(minutes=25)  # five minutes after midnight
    ledger.add(timedelta(minutes=31), "raygan")
    assert overview(client)["days"][-2]["sent"] == 1
    ledger.add(timedelta(minutes=32), "raygan")
    assert overview(client)["days"][-2]["sent"] == 2


@pytest.mark.parametrize(
    ("count", "shown"),
    [(1, "1 unread message."), (99, "99 unread messages."), (150, "99+ unread messages.")],
)
def test_more_rows_than_are_counted_are_not_given_a_number(
    app: Flask, client: FlaskClient, count: int, shown: str
) -> None:
    state: Any = app.extensions["smsverify"]
    rows = [
        Incoming(
            id=f"{number:032}",
            sender="memory",
            originator="+989123456789",
            line="3000",
            text="hello",
            received_at=state.clock(),
        )
        for number in range(count)
    ]
    state.ledger.run(lambda session: session.add_all(rows))
    assert overview(client)["attention"][-1:] == [shown]


def add_messages(app: Flask, *rows: tuple[str, str, timedelta]) -> None:
    """Add messages with a kind, a state and an age."""
    state: Any = app.extensions["smsverify"]
    now = state.clock()
    messages = [
        Message(
            id=f"{number:032}",
            kind=kind,
            recipient="+989123456789",
            channel="sms",
            state=condition,
            created_at=now - age,
            updated_at=now,
        )
        for number, (kind, condition, age) in enumerate(rows)
    ]
    state.ledger.run(lambda session: session.add_all(messages))


def linked_rows(client: FlaskClient) -> dict[str, list[str]]:
    """Return the text of each item that needs attention, and the ids of the rows that it links."""
    page = client.get(f"{ADMIN}/").text
    found = re.findall('sv-alert-bad"><a href="([^"]*)">([^<]*)<', page)
    lists = {text: client.get(html.unescape(url), headers=JSON) for url, text in found}
    return {text: [int(row["id"]) for row in one.json["items"]] for text, one in lists.items()}


def test_the_overview_counts_what_the_lists_that_it_links_show(
    app: Flask, client: FlaskClient, ledger: Ledger
) -> None:
    hour, day = timedelta(hours=1), timedelta(days=1)
    add_messages(
        app,
        ("code", "failed", hour),
        ("code", "failed", day),
        ("code", "failed", 3 * day),
        ("event", "failed", 3 * day),
        ("event", "failed", 8 * day),
        ("bulk", "failed", hour),
        ("notice", "failed", hour),
        ("event", "unknown", timedelta(minutes=1)),
        ("code", "unknown", hour),
        ("code", "unknown", 3 * day),
        ("code", "sending", timedelta(minutes=1)),
        ("code", "sending", hour),
        ("code", "sent", hour),
    )
    assert linked_rows(client) == {
        "2 codes could not be sent since yesterday.": [0, 1],
        "Event: 1 message of the last 7 days could not be sent.": [3],
        "Bulk send: 1 message of the last 7 days could not be sent.": [5],
        "Notice: 1 message of the last 7 days could not be sent.": [6],
        "The gateway did not answer for 1 code since yesterday.": [11],
        "It is unknown whether 2 messages were sent since yesterday.": [7, 8],
    }
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "fa"
    shown = linked_rows(client)
    assert shown["از دیروز تاکنون ارسال ۲ کد ناموفق بوده است."] == [0, 1]
    assert [len(rows) for rows in shown.values()] == [2, 1, 1, 1, 1, 2]


def test_the_list_of_codes_without_an_answer_has_dates_of_the_readers_calendar(
    app: Flask, client: FlaskClient, ledger: Ledger
) -> None:
    add_messages(app, ("code", "sending", timedelta(hours=1)))
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "fa"
    [url] = re.findall('sv-alert-bad"><a href="([^"]*)">', client.get(f"{ADMIN}/").text)
    page = client.get(html.unescape(url)).text
    assert re.findall('id="sv-f-(?:from|to)"[^>]* value="([^"]*)"', page) == [
        "۱۴۰۴/۱۲/۱۹",
        "۱۴۰۴/۱۲/۲۰ ۰۰:۱۵",
    ]


def test_the_overview_reports_codes_that_every_sender_refuses(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(sender: Memory, *_: object, **__: object) -> None:
        raise sender.make_error(Rejected, "no credit")

    assert "Everything works." in client.get(f"{ADMIN}/").text
    monkeypatch.setattr(Memory, "send_code", refuse)
    logged_in(app, 3).post("/verify-mobile/send")
    app.extensions["smsverify"].wait()
    page = client.get(f"{ADMIN}/").text
    assert "Everything works." not in page
    assert "1 code could not be sent since yesterday." in page
