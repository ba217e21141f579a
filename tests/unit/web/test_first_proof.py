"""Who vouches for the first number of an account whose password alone is known: case 70."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from clocks import Clock
from conftest import MakeApp
from flask import Flask, redirect, session
from flask.testing import FlaskClient
from flask_login import current_user
from hostapp import User, create_app, db
from visiting import CHECK, MOBILE, OTHER, PAGE, SEND, STATUS, api, last_code, phone

from flask_smsverify import SMSVerify, login_gate
from flask_smsverify.db.purge import purge
from flask_smsverify.errors import ConfigurationError

FIRST_PROOF = "/verify-mobile/first-proof"
ENGLISH = {"Accept-Language": "en"}


class Gate:
    """An app whose login needs a voucher, and the links that its host has sent."""

    def __init__(self, make_app: MakeApp, url: str, mode: str, **config: Any) -> None:
        self.links: list[tuple[int, str]] = []
        smsverify = SMSVerify()
        smsverify.email_sender(lambda user, link: self.links.append((user.id, link)))
        self.app: Flask = make_app(
            url,
            users=2,
            smsverify=smsverify,
            SMSVERIFY_LOGIN_GATE=True,
            SMSVERIFY_LOGIN_GATE_FIRST_PROOF=mode,
            SERVER_NAME="shop.example",
            **config,
        )

        @self.app.route("/enter/<int:key>", methods=["GET", "POST"])
        def enter(key: int) -> Any:
            result = smsverify.login_user(db.session.get(User, key))
            return redirect("/open") if result is True else result

        @self.app.route("/me")
        def me() -> str:
            return str(current_user.id) if current_user.is_authenticated else "nobody"

        @self.app.route("/session")
        def whole_session() -> dict[str, Any]:
            return dict(session)

    def enter(self, key: int = 1) -> FlaskClient:
        """Return a browser with the password of a user."""
        client = self.app.test_client()
        assert client.get(f"/enter/{key}").location == PAGE
        return client

    def mark_verified(self, key: int) -> None:
        with self.app.app_context():
            verifier = self.app.extensions["smsverify"].verifier
            verifier.mark_verified(db.session.get(User, key), by="staff")


MakeGate = Callable[[str], Gate]


@pytest.fixture
def make_gate(make_app: MakeApp, sqlite: str) -> MakeGate:
    return lambda mode: Gate(make_app, sqlite, mode)


def path_of(link: str) -> str:
    parts = urlsplit(link)
    assert (parts.scheme, parts.netloc) == ("http", "shop.example")
    return f"{parts.path}?{parts.query}"


@pytest.mark.parametrize("mode", ["email", "staff"])
def test_a_password_alone_leads_to_no_form_for_the_first_number(
    make_gate: MakeGate, mode: str
) -> None:
    """Case 70 of docs/safety.md."""
    gate = make_gate(mode)
    thief = gate.enter()
    for answer in (
        thief.get(PAGE),
        thief.get(MOBILE),
        thief.post(SEND),
        thief.post(MOBILE, data={"mobile": OTHER, "send": "1"}),
        thief.post(CHECK, data={"code": "123456"}),
    ):
        assert answer.status_code == 303
        assert answer.location.startswith(FIRST_PROOF)
    for answer in (thief.get(STATUS), api(thief, SEND), api(thief, MOBILE, mobile=OTHER)):
        body = json.loads(answer.text)
        assert (answer.status_code, body["code"]) == (403, "first_proof_required")
    assert phone(gate.app).messages == []
    assert thief.get("/me").text == "nobody"


def test_the_owner_opens_the_link_and_proves_a_number(make_gate: MakeGate) -> None:
    gate = make_gate("email")
    owner = gate.enter()
    page = owner.get(f"{FIRST_PROOF}?next=/open", headers=ENGLISH)
    assert "open the link that we send to your email" in page.text
    assert gate.links == [], "a GET sends nothing"
    owner.post(FIRST_PROOF, data={"next": "/open"})
    sent = owner.get(FIRST_PROOF, headers=ENGLISH).text
    assert "We sent a link" in sent
    assert "open the link that we send" not in sent
    assert re.search('<button class="sv-button sv-quiet"[^>]*>Send the link again<', sent)
    [(user_id, link)] = gate.links
    assert user_id == 1
    page = owner.get(path_of(link), headers=ENGLISH)
    assert "Continue" in page.text
    assert owner.get(PAGE).location == FIRST_PROOF, "a GET accepts nothing"
    accepted = owner.post(path_of(link))
    assert accepted.location == f"{PAGE}?next=/open"
    owner.post(MOBILE, data={"mobile": OTHER, "send": "1"})
    owner.post(CHECK, data={"code": last_code(gate.app)})
    assert owner.get("/me").text == "1"


def test_a_program_gets_json_from_every_url_about_the_first_number(make_gate: MakeGate) -> None:
    gate = make_gate("email")
    program = gate.app.test_client()
    asks = {"Accept": "application/json"}
    program.get("/enter/1", headers=asks)
    assert program.get(FIRST_PROOF, headers=asks).json["state"] == "email"
    assert api(program, FIRST_PROOF).json == {"state": "email"}
    [(_, link)] = gate.links
    opened = program.get(path_of(link), headers=asks)
    assert (opened.status_code, opened.json["state"]) == (200, "link")
    assert program.get(STATUS).status_code == 403, "a GET accepts nothing"
    assert api(program, path_of(link)).json == {"state": "confirmed"}
    assert program.get(FIRST_PROOF, headers=asks).json["state"] == "unverified"
    assert program.get(FIRST_PROOF, headers=asks).json == program.get(STATUS).json


def test_a_link_works_only_in_the_login_that_requested_it(make_gate: MakeGate) -> None:
    """The owner, who opens the thief's link in good faith, vouches for nothing."""
    gate = make_gate("email")
    thief, owner, other = gate.enter(), gate.enter(), gate.enter(2)
    thief.post(FIRST_PROOF)
    [(_, link)] = gate.links
    logged_in = gate.app.test_client()
    logged_in.get("/login/1")
    assert "This link does not work here" in logged_in.post(path_of(link), headers=ENGLISH).text
    for browser in (owner, other):
        answer = browser.post(path_of(link), headers=ENGLISH)
        assert "This link does not work here" in answer.text
        assert browser.get(PAGE).location == FIRST_PROOF
    assert gate.app.test_client().post(path_of(link)).status_code == 401
    assert thief.get(PAGE).location == FIRST_PROOF
    # Nor does one that the thief makes from the session.
    nonce = thief.get("/session").json["_smsverify_pending_login"]["email"]
    assert "does not work here" in thief.post(f"{FIRST_PROOF}/{nonce}", headers=ENGLISH).text
    assert api(thief, f"{FIRST_PROOF}/{nonce}").status_code == 422


def test_a_link_does_not_work_in_another_login_that_requested_one_too(make_gate: MakeGate) -> None:
    """A thief who has the password has requested a link as well, and gets the owner's."""
    gate = make_gate("email")
    clock = Clock()
    gate.app.extensions["smsverify"].clock.source = clock
    thief = gate.enter()
    thief.post(FIRST_PROOF)
    clock.advance(300)
    owner = gate.enter()
    owner.post(FIRST_PROOF)
    [_, (_, link)] = gate.links
    assert "This link does not work here" in thief.post(path_of(link), headers=ENGLISH).text
    assert thief.get(PAGE).location == FIRST_PROOF
    assert owner.post(path_of(link)).status_code == 303
    assert owner.get(PAGE).status_code == 200


def test_a_link_works_once_and_for_as_long_as_a_login_may_wait(
    make_gate: MakeGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = make_gate("email")
    owner = gate.enter()
    owner.post(FIRST_PROOF)
    [(_, link)] = gate.links
    waiting = owner.get_cookie("session", domain="shop.example") or owner.get_cookie("session")
    assert waiting is not None
    monkeypatch.setattr(login_gate, "_MAX_WAIT", timedelta(seconds=-1))
    assert owner.post(path_of(link)).status_code == 401, "the login has expired with it"
    monkeypatch.undo()
    assert owner.post(path_of(link)).status_code == 303
    assert "does not work here" in owner.post(path_of(link), headers=ENGLISH).text


def test_a_link_does_not_count_once_staff_must_vouch(make_gate: MakeGate) -> None:
    """The setting changes while a login waits."""
    gate = make_gate("email")
    owner = gate.enter()
    owner.post(FIRST_PROOF)
    [(_, link)] = gate.links
    owner.post(path_of(link))
    assert owner.get(PAGE).status_code == 200
    waiting = owner.get_cookie("session", domain="shop.example") or owner.get_cookie("session")
    assert waiting is not None
    later = make_gate("staff").app.test_client()
    later.set_cookie("session", waiting.value, domain="shop.example")
    assert later.get(PAGE).location == FIRST_PROOF


def test_an_account_gets_one_link_in_five_minutes(make_gate: MakeGate) -> None:
    gate = make_gate("email")
    state = gate.app.extensions["smsverify"]
    now = state.clock()
    state.clock.source = lambda: now  # within one period
    first, second = gate.enter(), gate.enter()
    first.post(FIRST_PROOF)
    second.post(FIRST_PROOF)
    assert len(gate.links) == 1
    assert 'class="sv-notice"' in second.get(FIRST_PROOF, headers=ENGLISH).text
    answer = api(second, FIRST_PROOF)
    assert (answer.status_code, json.loads(answer.text)["code"]) == (429, "too_soon")
    gate.enter(2).post(FIRST_PROOF)
    assert len(gate.links) == 2


def test_the_wait_for_the_next_link_ends_with_the_five_minutes(make_gate: MakeGate) -> None:
    gate = make_gate("email")
    clock = Clock(datetime(2026, 11, 20, 8, 0, tzinfo=UTC))
    gate.app.extensions["smsverify"].clock.source = clock
    browsers = [gate.enter() for _ in range(3)]
    api(browsers[0], FIRST_PROOF)
    refused = api(browsers[1], FIRST_PROOF)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "300")
    purge(gate.app.extensions["smsverify"].ledger, timedelta(days=2))
    clock.advance(299.5)
    refused = api(browsers[1], FIRST_PROOF)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    clock.advance(0.5)
    assert api(browsers[1], FIRST_PROOF).status_code == 200
    assert api(browsers[2], FIRST_PROOF).headers["Retry-After"] == "300"
    assert len(gate.links) == 2


def test_staff_vouch_for_the_number(make_gate: MakeGate) -> None:
    gate = make_gate("staff")
    client = gate.enter()
    page = client.get(FIRST_PROOF, headers=ENGLISH)
    assert "Contact support to sign in" in page.text
    assert FIRST_PROOF not in page.text, "no form sends a link"
    client.post(FIRST_PROOF)
    assert gate.links == []
    gate.mark_verified(1)
    assert client.get("/enter/1").location == "/open"
    assert client.get("/me").text == "1"


@pytest.mark.parametrize("mode", ["email", "staff"])
def test_the_page_leads_to_support_and_to_another_account(
    make_app: MakeApp, sqlite: str, mode: str
) -> None:
    gate = Gate(make_app, sqlite, mode, SMSVERIFY_SUPPORT_URL="https://help.example")
    client = gate.enter()
    page = client.get(f"{FIRST_PROOF}?next=/open", headers=ENGLISH).text
    assert ('href="https://help.example"' in page) is (mode == "staff")
    assert "Sign in with another account" in page
    assert client.post(f"{PAGE}leave", data={"next": "/open"}).location == "/open"
    assert client.get(FIRST_PROOF).status_code == 401, "the login is discarded"


def test_an_account_that_proved_a_number_needs_no_voucher(make_gate: MakeGate) -> None:
    gate = make_gate("email")
    gate.mark_verified(1)
    state = gate.app.extensions["smsverify"]
    source = state.clock.source
    state.clock.source = lambda: source() + timedelta(days=100)
    client = gate.enter()
    assert client.get(FIRST_PROOF).location.startswith(PAGE)
    client.post(SEND)
    client.post(CHECK, data={"code": last_code(gate.app)})
    assert client.get("/me").text == "1"


def test_the_email_needs_a_sender_and_a_host(sqlite: str) -> None:
    settings = {"SMSVERIFY_LOGIN_GATE_FIRST_PROOF": "email"}
    with pytest.raises(ConfigurationError, match="email_sender"):
        create_app(sqlite, **settings)
    smsverify = SMSVerify()
    smsverify.email_sender(lambda _user, _url: None)
    with pytest.raises(ConfigurationError, match="SERVER_NAME"):
        create_app(sqlite, smsverify=smsverify, **settings)
