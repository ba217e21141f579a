"""The status card on pages of the app: what its viewer may do."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

import pytest
from flask import Flask, render_template_string
from staff import StaffUser, db, logged_in
from visiting import SEND, phone

CARD = '{% from "smsverify/widgets.html" import status_card %}{{ status_card(user) }}'


@pytest.fixture
def app(make_staff_app: Callable[..., Flask]) -> Flask:
    """Return an app with a page for the card of each user."""
    app = make_staff_app()

    @app.get("/card/<int:key>")
    def card(key: int) -> str:
        return render_template_string(CARD, user=db.session.get(StaffUser, key))

    return app


def form_of(text: str) -> tuple[str, dict[str, str]] | None:
    """Return where the card's form is sent, and its fields."""
    found = re.search(r'<form method="post" action="([^"]+)">', text)
    fields = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', text)
    return (found[1], {name: html.unescape(value) for name, value in fields}) if found else None


def test_staff_send_a_code_from_the_card_of_a_user(app: Flask) -> None:
    client = logged_in(app)
    card = client.get("/card/3").text
    assert "0912 ••• 0003" in card
    form = form_of(card)
    assert form is not None
    assert client.post(form[0], data=form[1]).status_code in (302, 303)
    assert phone(app).last.to == "+989123450003"


def test_users_send_a_new_code_from_their_own_card_and_return_to_its_page(app: Flask) -> None:
    client = logged_in(app, 3)
    assert form_of(client.get("/card/3").text) is None, "the link leads to the page that sends"
    client.post(SEND)
    form = form_of(client.get("/card/3?tab=1").text)
    assert form is not None
    assert form[0] == SEND
    assert form[1]["next"] == "/card/3?tab=1"


def test_nobody_else_can_send_a_code_from_a_card(app: Flask) -> None:
    for viewer in (2, 4, None):
        card = logged_in(app, viewer).get("/card/3").text
        assert form_of(card) is None, viewer
