"""Edited texts in the databases."""

from __future__ import annotations

import pytest
from conftest import MakeApp
from parallel import race

from flask_smsverify.db.models import Template
from flask_smsverify.messaging.event_edits import EditStore

TEXT = "سفارش شما رسید 🎉\n{{ order_number }}"


def test_edits_are_stored_and_read_in_another_process(make_app: MakeApp, database: str) -> None:
    app = make_app(database, SMSVERIFY_STAFF_MOBILES=["09121110000"])
    texts = app.extensions["smsverify"].event_texts
    ledger = app.extensions["smsverify"].ledger
    patterns = {"main": None, "other": {"template": "قالب", "values": {"A": "{{ order_number }}"}}}
    with app.app_context():
        texts.save("order.accepted", "user", texts={"fa": TEXT, "en": "Hi"}, enabled=False)
        texts.save("ticket.opened", "staff", recipients=["09121110001", "09121110002"])
        EditStore(ledger).save("order.accepted", "user", patterns=patterns)
        elsewhere = EditStore(ledger)
        edits = elsewhere.get("order.accepted", "user")
        assert edits.texts == {"fa": TEXT, "en": "Hi"}
        assert edits.enabled is False
        assert edits.patterns == patterns
        assert elsewhere.get("order.accepted", "staff").enabled is True
        recipients = elsewhere.get("ticket.opened", "staff").recipients
        assert recipients == ("+989121110001", "+989121110002")
        elsewhere.reset("order.accepted", "user", "fa")
        assert EditStore(ledger).get("order.accepted", "user").texts == {"en": "Hi"}
        elsewhere.reset("order.accepted", "user")
        assert EditStore(ledger).get("order.accepted", "user").enabled is True


@pytest.mark.race
def test_staff_who_save_at_once_leave_one_row_for_each_language(
    make_app: MakeApp, database: str
) -> None:
    app = make_app(database)
    state = app.extensions["smsverify"]

    def save(number: int) -> None:
        with app.app_context():
            state.event_texts.save(
                "order.accepted",
                "user",
                texts={"fa": f"متن {number}", "en": f"text {number}"},
                enabled=bool(number % 2),
            )

    assert race(8, save) == {"ok": 8}
    with app.app_context():
        rows = state.ledger.read(lambda session: session.query(Template).count())
        assert rows == 3
        texts = EditStore(state.ledger).get("order.accepted", "user").texts
        numbers = {text.split()[1] for text in texts.values()}
        assert len(numbers) == 1, "the two languages are from one save"
