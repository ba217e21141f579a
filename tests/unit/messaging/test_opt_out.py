"""Opt-out by a reply: the words, what they change, and what opted-out numbers still get."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import MakeApp
from flask import Flask
from flask.testing import FlaskClient
from hostapp import User, db
from outbox_app import (
    memory_of,
    messages,
    notify,
    run_due,
    smsverify_of,
    state_of,
    without_inline_workers,
)

from flask_smsverify import signals
from flask_smsverify.db.models import Incoming, OptOut
from flask_smsverify.senders.base import ReceivedText

SECRET = "a-secret-of-the-webhooks"
SENDERS = {
    "memory": {"gateway": "memory"},
    "asanak": {"gateway": "asanak", "username": "u", "password": "p", "line": "9821000"},
}
MOBILE = "+989123450001"
AT = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


@pytest.fixture
def app(make_app: MakeApp, sqlite: str) -> Flask:
    app = make_app(
        sqlite, users=2, SMSVERIFY_SENDERS=SENDERS, SMSVERIFY_WEBHOOK_SECRET=SECRET,
        SMSVERIFY_ROUTES={"sms": ["memory"], "voice": ["memory"], "text": ["memory"]},
    )  # fmt: skip
    without_inline_workers(app)
    return app


@pytest.fixture
def emitted() -> Iterator[list[dict[str, object]]]:
    found: list[dict[str, object]] = []

    def receive(_app: Flask, **values: object) -> None:
        found.append(values)

    with signals.opted_out.connected_to(receive):
        yield found


def push(client: FlaskClient, text: str, time: str) -> int:
    """Let the gateway's webhook report a message from the mobile."""
    path = f"/verify-mobile/webhooks/asanak/{SECRET}"
    query = {
        "Destination": "9821000",
        "Source": "989123450001",
        "ReceiveTime": f"2026-11-20 {time}",
        "MsgBody": text,
    }
    return client.get(path, query_string=query).status_code


def record(app: Flask, *texts: str | tuple[str, int], **values: Any) -> None:
    """Report messages in one call; with a number, those that many minutes later."""
    items = []
    for number, item in enumerate(texts):
        text, minutes = (item, 0) if isinstance(item, str) else item
        given = {
            "id": f"{text}{minutes}{number}",
            "originator": MOBILE,
            "line": "3000",
            "text": text,
            "received_at": AT + timedelta(minutes=minutes),
        }
        items.append(ReceivedText(**(given | values)))
    state_of(app).tracker.record("memory", items)


def is_out(app: Flask) -> bool:
    return bool(state_of(app).opt_outs.opted_out(MOBILE))


def test_a_reply_through_the_webhook_opts_a_number_out_and_in(
    app: Flask, emitted: list[dict[str, object]]
) -> None:
    client = app.test_client()
    assert push(client, "۱۱", "11:00:00") == 200
    assert is_out(app)
    assert emitted == [{"mobile": "+98912•••0001", "line": "9821000"}]
    assert push(client, "لغو", "11:01:00") == 200
    assert push(client, "۱۱", "11:00:00") == 200  # the gateway repeats itself
    assert len(emitted) == 1
    assert push(client, "12", "11:02:00") == 200
    assert not is_out(app)
    assert push(client, "۱۱", "11:00:00") == 200
    assert not is_out(app), "a repeated call does not take back what the number asked for later"
    assert push(client, "لغو", "11:03:00") == 200
    assert (is_out(app), len(emitted)) == (True, 2)


#: Texts that opt a number out.
OUT = [
    "11", "۱۱", "١١", "۱۱\n", "\u202b۱۱\u202c", "لغو", " لغو. ", "لغو؟", "«لغو»",
    "\u200fلغو\u200f", "لغو۱۱", "لغو ۱۱", "STOP", "Off",
]  # fmt: skip


def test_a_word_opts_out_as_phones_write_it(app: Flask) -> None:
    for number, text in enumerate(OUT):
        record(app, (text, 2 * number))
        assert is_out(app), text
        record(app, ("\u200f۱۲!", 2 * number + 1))
        assert not is_out(app), text


@pytest.mark.parametrize(
    "text", ["", "111", "1 2 1", "سفارش ۱۱ را لغو کنید", "لغو سفارش", "ساعت ۱۱", "11 " + " " * 40]
)
def test_other_texts_change_nothing(app: Flask, text: str) -> None:
    record(app, text)
    assert not is_out(app)
    with app.app_context():
        smsverify_of(app).opt_out(MOBILE)
    record(app, (text, 1))
    assert is_out(app)


@pytest.mark.parametrize(
    "originator", ["3000", "+9891234500019999", "+98abc", "+", "Bank", "+" * 64]
)
def test_only_a_number_can_opt_out(app: Flask, originator: str) -> None:
    record(app, "11", originator=originator)
    ledger = state_of(app).ledger
    assert ledger.read(lambda session: session.query(Incoming).count()) == 1
    assert not state_of(app).opt_outs.among([originator])


def test_of_several_replies_the_last_one_decides_in_whatever_order_they_are_reported(
    app: Flask, emitted: list[dict[str, object]]
) -> None:
    for start, (first, second) in ((0, ("11", "12")), (100, ("12", "11"))):
        for number in range(8):  # ids in many orders
            begin = start + 10 * number
            record(app, (second, begin + 2), ("thanks", begin + 3), (first, begin + 1))
            assert is_out(app) is (second == "11")
    record(app, ("12", 150))
    assert is_out(app), "an older reply that arrives late changes nothing"
    record(app, ("12", 300), ("11", 300))
    assert is_out(app), "of replies in one second, the later in the gateway's list decides"
    assert len(emitted) == 1


def test_a_reply_is_followed_with_the_second_call_if_the_first_one_fails(app: Flask) -> None:
    """The message and what it asks for are stored in one transaction, so neither is lost."""
    client, ledger = app.test_client(), state_of(app).ledger
    insert = ledger.insert_if_absent

    def fail(session: Any, table: Any, values: Any) -> bool:
        if table is OptOut:
            raise RuntimeError("the process ends here")
        return bool(insert(session, table, values))

    ledger.insert_if_absent = fail
    app.config["PROPAGATE_EXCEPTIONS"] = False
    assert push(client, "11", "11:00:00") >= 500
    ledger.insert_if_absent = insert
    assert push(client, "11", "11:00:00") == 200
    assert is_out(app)


def test_an_opted_out_number_gets_codes_and_no_texts(app: Flask) -> None:
    smsverify = smsverify_of(app)
    with app.app_context():
        notify(app, 1)
        notify(app, 2)
        db.session.commit()
        record(app, "لغو")
        batch = smsverify.send("We are closed on Friday.", ["09123450001", "09123450002"])
    run_due(app)
    assert [message.to for message in memory_of(app).messages] == ["+989123450002"] * 2
    assert {(found.recipient, found.state) for found in messages(app)} == {
        (MOBILE, "skipped"),
        ("+989123450002", "sent"),
    }
    assert (batch.recipients, batch.opted_out) == (1, 1)
    with app.app_context():
        user = db.session.get(User, 1)
        challenge = smsverify.verifier.start(user)
        code = memory_of(app).last.code
        assert memory_of(app).last.to == MOBILE
        smsverify.verifier.check(challenge, code)
        record(app, ("12", 1))
        notify(app, 1)
        db.session.commit()
    run_due(app)
    assert memory_of(app).last.to == MOBILE


def test_the_host_opts_one_number_out_and_in(app: Flask, emitted: list[dict[str, object]]) -> None:
    smsverify, opt_outs = smsverify_of(app), state_of(app).opt_outs
    with app.app_context():
        smsverify.opt_out("09123450001")
        smsverify.opt_out("09123450002")
        smsverify.opt_out("09123450001")
    assert [found["mobile"] for found in emitted] == ["+98912•••0001", "+98912•••0002"]
    assert opt_outs.among([MOBILE, "+989123450003"]) == {MOBILE}
    with app.app_context():
        smsverify.opt_in("09123450001")
    assert opt_outs.among([MOBILE, "+989123450002"]) == {"+989123450002"}
    assert opt_outs.opt_in("+989123450002") is True
    assert opt_outs.opt_in("+989123450002") is False


def test_a_reply_opts_in_only_its_own_number(app: Flask) -> None:
    other = "+989123450002"
    record(app, "11")
    record(app, "11", originator=other, id="of the other number")
    record(app, ("12", 1))
    assert state_of(app).opt_outs.among([MOBILE, other]) == {other}


def test_a_text_of_32_characters_is_a_reply_and_a_longer_one_is_not(app: Flask) -> None:
    record(app, "11" + "." * 31)
    assert not is_out(app)
    record(app, "11" + "." * 30)
    assert is_out(app)
