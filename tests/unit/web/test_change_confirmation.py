"""The pages and JSON of a change of a proved mobile, and the attack of case 61."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from clocks import Clock
from flask import Flask
from flask.testing import FlaskClient
from flask_login import confirm_login, login_user
from hostapp import User, db
from sqlalchemy import text
from visiting import (
    CHECK,
    CONFIRM,
    MOBILE,
    OTHER,
    OWN,
    PAGE,
    SEND,
    STATUS,
    api,
    browser,
    error_of,
    forget_limits,
    last_code,
    mobile_in_host,
    phone,
    prove,
    set_user,
    wrong,
)
from werkzeug.test import TestResponse

from flask_smsverify import require_verified_mobile
from flask_smsverify.errors import NoChallenge, Rejected, Unknown

MakeApp = Callable[..., Flask]
CANCEL = "/verify-mobile/mobile/cancel"
UNDO = re.compile(r"/verify-mobile/mobile/undo/[0-9A-Za-z._-]+")
ENGLISH = {"Accept-Language": "en"}
PROGRAM = {"Accept": "application/json"}


def build(make_app: MakeApp, url: str, **config: Any) -> Flask:
    """The host app with a view for recent proofs, a login through the gate, and a still clock."""
    app = make_app(url, users=2, **config)
    app.extensions["test_smsverify"].locale_getter(lambda: "en")
    app.extensions["smsverify"].clock.source = Clock()

    @app.route("/transfer")
    @require_verified_mobile(within=timedelta(minutes=10))
    def transfer() -> str:
        return "transferred"

    @app.route("/enter/<int:number>")
    def enter(number: int) -> Any:
        answer = app.extensions["test_smsverify"].login_user(db.session.get(User, number))
        return answer if answer not in (True, False) else "logged in"

    @app.route("/confirm-login")
    def enter_password_again() -> str:
        confirm_login()
        return "confirmed"

    @app.route("/profile/<mobile>")
    def profile(mobile: str) -> str:
        """A form of the host's own that writes the number."""
        set_user(app, mobile=mobile)
        return "saved"

    return app


def clock_of(app: Flask) -> Clock:
    clock = app.extensions["smsverify"].clock.source
    assert isinstance(clock, Clock)
    return clock


@pytest.fixture
def app(make_app: MakeApp, sqlite: str) -> Flask:
    return build(make_app, sqlite)


@pytest.fixture
def client(app: Flask) -> Iterator[FlaskClient]:
    """A browser of user 1, who has proved the old number."""
    client = browser(app)
    prove(app, client)
    forget_limits(app)
    return client


def code_to(app: Flask, mobile: str) -> str:
    """The code that was sent to a mobile last."""
    sent = [message.code for message in phone(app).messages if message.to == mobile]
    return next(code for code in reversed(sent) if code)


def codes_to(app: Flask, mobile: str) -> int:
    """The number of codes that were sent to a mobile."""
    return len(
        [message for message in phone(app).messages if message.to == mobile and message.code]
    )


def prove_new(app: Flask, client: FlaskClient, mobile: str = OTHER) -> TestResponse:
    """Enter a new number and its code."""
    client.post(MOBILE, data={"mobile": mobile, "send": "1"})
    return client.post(CHECK, data={"code": code_to(app, mobile), "next": "/guarded"})


def start_delay(app: Flask, client: FlaskClient) -> str:
    """Start the delay of an open change; return the path of the link in the notice."""
    assert client.post(CONFIRM, data={"lost": "1"}).location.startswith(CONFIRM)
    notice = phone(app).last
    assert (notice.to, notice.code) == (OWN, None)
    found = UNDO.search(notice.text)
    assert found
    return found[0]


def start_delay_at(app: Flask, client: FlaskClient, host: str) -> None:
    """Start the delay by a request that names another host."""
    session = client.get_cookie("session")
    assert session
    headers = {"Host": host, "Cookie": f"session={session.value}"}
    app.test_client(use_cookies=False).post(CONFIRM, data={"lost": "1"}, headers=headers)


def login_again(client: FlaskClient) -> None:
    client.get("/logout")
    client.get("/enter/1")


# --- the attack ---------------------------------------------------------------------------------


def passes(client: FlaskClient) -> bool:
    """Whether a client sees what only the owner of the proved number may see."""
    return client.get("/transfer").text == "transferred"


def take_over(app: Flask, client: FlaskClient, *, by_json: bool) -> None:
    """Do all that a password and a phone of the attacker's own allow."""
    if by_json:
        api(client, MOBILE, mobile=OTHER, send=True)
        if codes_to(app, OTHER):
            api(client, CHECK, code=code_to(app, OTHER))
            api(client, CONFIRM, code=code_to(app, OTHER))
            api(client, CONFIRM, code="000000")
            api(client, SEND)
            api(client, CHECK, code=code_to(app, OTHER))
        return
    client.post(MOBILE, data={"mobile": OTHER})
    client.post(SEND)
    if codes_to(app, OTHER):
        client.post(CHECK, data={"code": code_to(app, OTHER)})
        client.post(CONFIRM, data={"code": code_to(app, OTHER)})
        client.post(SEND)
        client.post(CHECK, data={"code": code_to(app, OTHER)})


@pytest.mark.parametrize("by_json", [False, True])
def test_a_password_does_not_replace_a_proved_number(
    make_app: MakeApp, database: str, *, by_json: bool
) -> None:
    """The gate is on and the old proof lets the login pass."""
    app = build(make_app, database, SMSVERIFY_LOGIN_GATE=True)
    prove(app, browser(app))
    forget_limits(app)
    clock_of(app).advance(hours=1)
    attacker = browser(app, None)
    assert attacker.get("/enter/1").text == "logged in"
    take_over(app, attacker, by_json=by_json)
    assert mobile_in_host(app) == "09123450001"
    assert not passes(attacker)
    status = attacker.get(STATUS).json
    assert status["mobile"] == "+98912•••0001"
    assert codes_to(app, OWN) >= 2, "the owner gets the code of the change"


def test_a_password_with_an_aged_proof_starts_no_change(make_app: MakeApp, sqlite: str) -> None:
    """The login is pending at the gate."""
    app = build(make_app, sqlite, SMSVERIFY_LOGIN_GATE=True)
    prove(app, browser(app))
    clock_of(app).advance(days=91)
    forget_limits(app)
    for by_json in (False, True):
        attacker = browser(app, None)
        assert attacker.get("/enter/1").status_code == 302
        take_over(app, attacker, by_json=by_json)
        for path in (CONFIRM, CANCEL):
            refused = api(attacker, path, code="123456")
            assert (refused.status_code, refused.get_json(force=True)["code"]) == (
                403,
                "fresh_login_required",
            )
        assert codes_to(app, OTHER) == 0
        assert not passes(attacker)


def test_a_password_without_the_gate_and_with_an_aged_proof_does_not_replace_the_number(
    app: Flask, client: FlaskClient
) -> None:
    clock_of(app).advance(days=91)
    login_again(client)
    take_over(app, client, by_json=False)
    assert mobile_in_host(app) == "09123450001"
    assert client.get("/guarded").status_code == 302


def test_an_exempt_accounts_proved_number_is_not_replaced_by_a_password(
    make_app: MakeApp, sqlite: str
) -> None:
    app = build(make_app, sqlite, SMSVERIFY_EXEMPT_GROUPS=["staff"])
    client = browser(app)
    prove(app, client)
    forget_limits(app)
    set_user(app, group="staff")
    take_over(app, client, by_json=True)
    assert mobile_in_host(app) == "09123450001"
    set_user(app, group=None)
    assert client.get(STATUS).json["mobile"] == "+98912•••0001"


def test_a_number_that_the_hosts_own_form_wrote_does_not_pass_within_for_a_day(
    app: Flask, client: FlaskClient
) -> None:
    assert passes(client)
    client.get(f"/profile/{OTHER}")
    assert client.get("/guarded").status_code == 302
    client.post(SEND)
    client.post(CHECK, data={"code": code_to(app, OTHER)})
    assert client.get("/guarded").text == "guarded"
    assert not passes(client)
    clock_of(app).advance(hours=24)
    assert not passes(client)
    login_again(client)
    client.post(SEND, data={"demand": demand_of(client)})
    client.post(CHECK, data={"code": code_to(app, OTHER)})
    assert passes(client)


def demand_of(client: FlaskClient) -> str:
    """The signed demand for a recent proof in the URL that a guard redirects to."""
    location = client.get("/transfer").location
    assert location
    return location.partition("demand=")[2]


def test_a_lost_number_is_replaced_after_two_days_at_the_earliest(
    app: Flask, client: FlaskClient
) -> None:
    """A day until the new number replaces the old one, a day until `within` counts it."""
    prove_new(app, client)
    start_delay(app, client)
    for hours, may_guarded in ((23, True), (1, True), (23, True)):
        clock_of(app).advance(hours=hours)
        client.get(STATUS)
        assert (client.get("/guarded").text == "guarded") is may_guarded
        assert not passes(client)
    assert mobile_in_host(app) == OTHER
    client.get(PAGE)
    clock_of(app).advance(hours=2)
    forget_limits(app)
    client.post(SEND, data={"demand": demand_of(client)})
    client.post(CHECK, data={"code": code_to(app, OTHER)})
    assert passes(client)


def test_the_owner_stops_the_attackers_change_by_the_link(app: Flask, client: FlaskClient) -> None:
    prove_new(app, client)
    path = start_delay(app, client)
    owner = browser(app, None)
    assert "Stop the change" in owner.get(path).text
    owner.post(path)
    clock_of(app).advance(hours=25)
    client.get(PAGE)
    assert mobile_in_host(app) == "09123450001"


# --- the pages ----------------------------------------------------------------------------------


def test_the_new_numbers_code_leads_to_the_page_for_the_old_number(
    app: Flask, client: FlaskClient
) -> None:
    answer = prove_new(app, client)
    assert answer.location == f"{CONFIRM}?next=/guarded"
    shown = client.get(answer.location)
    assert "Confirm with your current number" in shown.text
    assert "0912 ••• 0001" in shown.text
    assert "0935 ••• 2233" in shown.text
    assert 'autocomplete="one-time-code"' in shown.text
    assert codes_to(app, OWN) == 2
    assert mobile_in_host(app) == "09123450001"


def test_the_old_numbers_code_finishes_the_change_and_a_second_click_ends_well(
    app: Flask, client: FlaskClient
) -> None:
    prove_new(app, client)
    for _ in range(2):
        answer = client.post(CONFIRM, data={"code": code_to(app, OWN), "next": "/guarded"})
        assert (answer.status_code, answer.location) == (303, "/guarded")
    assert mobile_in_host(app) == OTHER
    assert passes(client)
    assert error_of(client.get(MOBILE)) is None


def test_a_second_click_after_the_host_refused_the_number_does_not_end_well(
    app: Flask, client: FlaskClient
) -> None:
    with app.app_context():
        db.session.execute(text("CREATE UNIQUE INDEX one_each ON host_user (mobile)"))
        db.session.commit()
    prove_new(app, client)
    set_user(app, 2, mobile=OTHER)
    for error in ("This number belongs to another account", "There is no active code"):
        answer = client.post(CONFIRM, data={"code": code_to(app, OWN), "next": "/guarded"})
        assert error in (error_of(client.get(answer.location)) or "")
    assert "change" not in client.get(STATUS).json
    assert mobile_in_host(app) == "09123450001"
    assert passes(client)


def test_a_second_click_on_the_new_numbers_code_leads_to_the_same_page(
    app: Flask, client: FlaskClient
) -> None:
    client.post(MOBILE, data={"mobile": OTHER, "send": "1"})
    with client.session_transaction() as session:
        entered = session["_smsverify_mobile"]
    for _ in range(2):
        with client.session_transaction() as session:
            session["_smsverify_mobile"] = entered
        answer = client.post(CHECK, data={"code": code_to(app, OTHER)})
        assert answer.location.startswith(CONFIRM)
    assert error_of(client.get(answer.location)) is None


def test_a_wrong_code_is_shown_on_the_page_and_a_reload_repeats_nothing(
    app: Flask, client: FlaskClient
) -> None:
    prove_new(app, client)
    answer = client.post(CONFIRM, data={"code": wrong(code_to(app, OWN))})
    assert answer.status_code == 303
    assert error_of(client.get(answer.location)) == "The code is wrong"
    assert error_of(client.get(answer.location)) is None
    assert client.get(STATUS).json["change"]["attempts_left"] == 4


def test_a_code_that_could_not_be_sent_to_the_old_number_can_be_sent_from_the_page(
    app: Flask, client: FlaskClient
) -> None:
    phone(app).fail_with(Rejected("memory", "refused"), to=OWN)
    answer = prove_new(app, client)
    shown = client.get(answer.location)
    assert error_of(shown) == "The code could not be sent"
    assert "Send the code by text message" in shown.text
    clock_of(app).advance(minutes=1)
    assert client.post(CONFIRM).status_code == 303
    client.post(CONFIRM, data={"code": code_to(app, OWN)})
    assert mobile_in_host(app) == OTHER


def test_the_code_is_sent_again_and_by_phone_call(app: Flask, client: FlaskClient) -> None:
    prove_new(app, client)
    assert "The last code may still arrive." in client.get(client.post(CONFIRM).location).text
    clock_of(app).advance(minutes=1)
    shown = client.get(client.post(CONFIRM).location)
    assert "We sent the code again." in shown.text
    clock_of(app).advance(minutes=2)
    client.post(CONFIRM, data={"channel": "voice"})
    assert phone(app).last.channel == "voice"
    assert "phone call to your current number" in client.get(CONFIRM).text


def test_the_page_of_the_delay_says_when_and_cancels(app: Flask, client: FlaskClient) -> None:
    prove_new(app, client)
    path = start_delay(app, client)
    shown = client.get(CONFIRM)
    assert "Your number will change soon" in shown.text
    assert "I no longer have this number" not in shown.text
    for page in (MOBILE, PAGE):
        assert "Your number will change on" in client.get(page).text
    answer = client.post(CANCEL)
    assert answer.status_code == 303
    assert "The change was cancelled." in client.get(answer.location).text
    assert client.get(CONFIRM).location.startswith(MOBILE)
    assert client.get(path).status_code == 404
    clock_of(app).advance(hours=25)
    client.get(PAGE)
    assert mobile_in_host(app) == "09123450001"


def test_the_response_after_the_delay_shows_the_new_number(app: Flask, client: FlaskClient) -> None:
    prove_new(app, client)
    start_delay(app, client)
    clock_of(app).advance(hours=25)
    status = client.get(STATUS).get_json()
    assert (status["state"], status["mobile"]) == ("verified", "+98935•••2233")
    assert "change" not in status


def test_the_response_to_a_lost_number_shows_a_change_without_delay_as_applied(
    make_app: MakeApp, sqlite: str
) -> None:
    app = build(make_app, sqlite, SMSVERIFY_CHANGE_DELAY=0)
    client = browser(app)
    prove(app, client)
    forget_limits(app)
    prove_new(app, client)
    lost = api(client, CONFIRM, lost=True).get_json()
    assert (lost["state"], lost["mobile"]) == ("verified", "+98935•••2233")
    assert "change" not in lost
    assert mobile_in_host(app) == OTHER


def test_a_change_whose_delay_is_over_cannot_be_cancelled(app: Flask, client: FlaskClient) -> None:
    prove_new(app, client)
    start_delay(app, client)
    clock_of(app).advance(hours=25)
    client.post(CANCEL)
    assert mobile_in_host(app) == OTHER


def test_a_notice_that_no_sender_accepted_starts_no_delay(app: Flask, client: FlaskClient) -> None:
    prove_new(app, client)
    for failure in (Rejected("memory", "refused"), Unknown("memory", "no answer")):
        phone(app).fail_with(failure, to=OWN)
        answer = client.post(CONFIRM, data={"lost": "1"})
        shown = client.get(answer.location)
        assert error_of(shown) == "We could not send a message to your current number"
        assert client.get(STATUS).json["change"]["applies_at"] is None
    phone(app).fail_with(Rejected("memory", "refused"), to=OWN)
    refused = api(client, CONFIRM, lost=True)
    assert (refused.status_code, refused.get_json(force=True)["code"]) == (503, "send_failed")


def test_without_an_open_change_there_is_nothing_to_confirm(
    app: Flask, client: FlaskClient
) -> None:
    assert client.get(CONFIRM).location.startswith(MOBILE)
    for form in ({}, {"code": "123456"}, {"lost": "1"}):
        answer = client.post(CONFIRM, data=form)
        assert error_of(client.get(answer.location)) == "There is no active code"
        refused = api(client, CONFIRM, **form)
        assert (refused.status_code, refused.get_json(force=True)["code"]) == (
            404,
            "no_challenge",
        )
    assert client.post(CANCEL).status_code == 303


def test_a_get_of_the_page_changes_and_sends_nothing(app: Flask, client: FlaskClient) -> None:
    prove_new(app, client)
    path = start_delay(app, client)
    before = len(phone(app).messages)
    for _ in range(2):
        client.get(CONFIRM)
        client.get(path)
        client.head(path)
        assert client.get(CANCEL).status_code == 405
    assert len(phone(app).messages) == before
    assert client.get(STATUS).json["change"]["state"] == "delayed"


def test_an_anonymous_visitor_confirms_and_cancels_nothing(app: Flask, client: FlaskClient) -> None:
    prove_new(app, client)
    other = browser(app, None)
    for path in (CONFIRM, CANCEL):
        assert api(other, path, code=code_to(app, OWN)).status_code == 401
    assert client.get(STATUS).json["change"]["state"] == "confirming"


def test_another_account_does_not_see_or_confirm_the_change(
    app: Flask, client: FlaskClient
) -> None:
    prove_new(app, client)
    other = browser(app, 2)
    assert "change" not in other.get(STATUS).json
    for form in ({"code": code_to(app, OWN)}, {"lost": True}):
        assert api(other, CONFIRM, **form).status_code == 404
    api(other, CANCEL)
    assert client.get(STATUS).json["change"]["state"] == "confirming"


def test_a_due_change_is_applied_before_the_gate_decides(make_app: MakeApp, sqlite: str) -> None:
    """Otherwise the gate would send its code to the lost number."""
    app = build(make_app, sqlite, SMSVERIFY_LOGIN_GATE=True, SMSVERIFY_REVALIDATION_DAYS=1)
    client = browser(app)
    prove(app, client)
    forget_limits(app)
    clock_of(app).advance(hours=1)
    client = browser(app)
    prove_new(app, client)
    start_delay(app, client)
    clock_of(app).advance(hours=25)
    forget_limits(app)
    owner = browser(app, None)
    assert owner.get("/enter/1").status_code == 302, "the proof of the new number has aged as well"
    assert mobile_in_host(app) == OTHER
    before = codes_to(app, OTHER)
    owner.post(SEND)
    assert codes_to(app, OTHER) == before + 1


def test_a_guard_shows_when_a_recent_proof_counts_and_does_not_loop(
    app: Flask, client: FlaskClient
) -> None:
    client.get(f"/profile/{OTHER}")
    client.post(SEND)
    client.post(CHECK, data={"code": code_to(app, OTHER)})
    answer = client.get("/transfer")
    assert answer.status_code == 302
    shown = client.get(answer.location)
    assert shown.status_code == 200
    assert "You changed your number recently" in shown.text
    assert "not available until" in shown.text
    assert 'name="code"' not in shown.text
    refused = client.get("/transfer", headers=PROGRAM)
    body = refused.get_json(force=True)
    assert (refused.status_code, body["code"]) == (403, "verification_required")
    assert body["retry_after"] == 86_400
    assert refused.headers["Retry-After"] == "86400"
    status = client.get(f"{STATUS}?demand={body['demand']}").json
    assert status["state"] == "verified"
    assert status["settled_at"].endswith("Z")


# --- JSON ---------------------------------------------------------------------------------------


def test_a_program_changes_a_number(app: Flask, client: FlaskClient) -> None:
    assert "change" not in client.get(STATUS).json
    assert api(client, MOBILE, mobile=OTHER, send=True).json["state"] == "pending"
    checked = api(client, CHECK, code=code_to(app, OTHER)).json
    assert (checked["state"], checked["mobile"]) == ("verified", "+98912•••0001")
    change = checked["change"]
    assert change == client.get(STATUS).json["change"]
    assert change["state"] == "confirming"
    assert (change["old_mobile"], change["new_mobile"]) == ("+98912•••0001", "+98935•••2233")
    assert (change["attempts_left"], change["applies_at"]) == (5, None)
    assert change["code_expires_at"].endswith("Z")
    assert change["resend_at"].endswith("Z")
    too_soon = api(client, CONFIRM)
    assert (too_soon.status_code, too_soon.get_json(force=True)["code"]) == (429, "too_soon")
    for code in ("12", "", None, 5, ["x"]):
        refused = api(client, CONFIRM, code=code)
        assert (refused.status_code, refused.get_json(force=True)["code"]) == (
            422,
            "invalid_code",
        ), code
    confirmed = api(client, CONFIRM, code=code_to(app, OWN))
    assert (confirmed.status_code, confirmed.json["mobile"]) == (200, "+98935•••2233")
    assert "change" not in confirmed.json


def test_a_program_starts_the_delay_and_cancels(app: Flask, client: FlaskClient) -> None:
    api(client, MOBILE, mobile=OTHER, send=True)
    api(client, CHECK, code=code_to(app, OTHER))
    delayed = api(client, CONFIRM, lost=True).json
    assert delayed["change"]["state"] == "delayed"
    assert delayed["change"]["applies_at"].endswith("Z")
    assert "change" not in api(client, CANCEL).json


def test_the_fourth_change_of_a_day_is_refused(make_app: MakeApp, sqlite: str) -> None:
    limits = {"mobile": None, "user": None, "mobiles_per_user": None, "ip": None}
    app = build(make_app, sqlite, SMSVERIFY_LIMITS=limits)
    client = browser(app)
    prove(app, client)
    for number in range(3):
        clock_of(app).advance(minutes=5)
        login_again(client)
        mobile = f"+98935111000{number}"
        assert prove_new(app, client, mobile).location.startswith(CONFIRM)
    clock_of(app).advance(minutes=5)
    login_again(client)
    refused = api(client, MOBILE, mobile=OTHER, send=True)
    body = refused.get_json(force=True)
    assert (refused.status_code, body["code"]) == (429, "rate_limited")
    assert 80_000 < body["retry_after"] < 95_000
    answer = client.post(MOBILE, data={"mobile": OTHER, "send": "1"})
    assert answer.location.startswith(MOBILE)
    assert error_of(client.get(answer.location)) == "Too many different numbers"
    assert codes_to(app, OTHER) == 0


# --- the link -----------------------------------------------------------------------------------


def test_the_link_works_without_a_login_and_once(app: Flask, client: FlaskClient) -> None:
    prove_new(app, client)
    path = start_delay(app, client)
    owner = browser(app, None)
    page = owner.get(path)
    assert page.status_code == 200
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "same-origin"
    assert "0935 ••• 2233" in page.text
    assert "0001" not in page.text
    answer = owner.post(path)
    assert (answer.status_code, answer.location) == (303, path)
    stopped = owner.get(path).text
    assert "The change was stopped" in stopped
    assert '<a class="sv-button" href="/">Continue</a>' in stopped
    assert "change" not in client.get(STATUS).json
    assert owner.post(path).status_code == 303
    again = owner.post(path, headers=PROGRAM)
    assert (again.status_code, again.get_json(force=True)["code"]) == (404, "invalid_token")


def test_a_program_undoes_the_change(app: Flask, client: FlaskClient) -> None:
    prove_new(app, client)
    path = start_delay(app, client)
    owner = browser(app, None)
    shown = owner.get(path, headers=PROGRAM).json
    assert (shown["state"], shown["new_mobile"]) == ("delayed", "+98935•••2233")
    assert api(owner, path).json == {"state": "undone"}


def test_a_damaged_link_is_to_be_opened_whole_and_a_void_one_no_longer_works(
    app: Flask, client: FlaskClient
) -> None:
    prove_new(app, client)
    path = start_delay(app, client)
    owner = browser(app, None)
    other = "AA" if path[-2:] != "AA" else "BA"
    for damaged_path in (path[:-2] + other, path[:-3], path[:-30]):
        damaged = owner.get(damaged_path)
        assert damaged.status_code == 404
        assert "The link may be incomplete" in damaged.text
        assert "Open the whole link from the text message." in damaged.text
        assert "already been made or stopped" not in damaged.text
        refused = api(owner, damaged_path).get_json(force=True)
        assert (refused["code"], refused["title"]) == ("invalid_token", "This link is not valid")
    assert client.get(STATUS).json["change"]["state"] == "delayed"
    client.post(CANCEL)
    void = owner.get(path)
    assert void.status_code == 404
    assert error_of(void) is None
    assert "This link no longer works" in void.text
    assert "The change has already been made or stopped." in void.text
    assert owner.get("/verify-mobile/mobile/undo/").status_code == 404


def test_every_step_of_a_change_needs_a_csrf_token(make_app: MakeApp, sqlite: str) -> None:
    app = build(make_app, sqlite)
    client = browser(app)
    prove(app, client)
    forget_limits(app)
    prove_new(app, client)
    path = start_delay(app, client)
    app.config["WTF_CSRF_ENABLED"] = True
    owner = browser(app, None)
    for visitor, target in ((client, CONFIRM), (client, CANCEL), (owner, path)):
        for form in ({}, {"code": code_to(app, OWN)}, {"lost": "1"}):
            assert visitor.post(target, data=form).status_code == 400
        refused = api(visitor, target, code=code_to(app, OWN))
        assert refused.get_json(force=True)["code"] == "csrf"
    assert client.get(STATUS).json["change"]["state"] == "delayed"
    token = re.search(r'name="csrf_token" value="([^"]+)"', owner.get(path).text)
    assert token
    assert owner.post(path, data={"csrf_token": token[1]}).status_code == 303
    assert "change" not in client.get(STATUS).json


def test_the_link_has_the_configured_host_and_never_the_requests(
    make_app: MakeApp, sqlite: str
) -> None:
    """Case 40 of docs/safety.md: a forged `Host` would send the owner elsewhere."""
    app = build(make_app, sqlite, SMSVERIFY_WEBOTP_HOST="shop.example")
    client = browser(app)
    prove(app, client)
    forget_limits(app)
    prove_new(app, client)
    start_delay_at(app, client, host="evil.example")
    text = phone(app).last.text
    assert "evil" not in text
    assert "http://shop.example/verify-mobile/mobile/undo/" in text


def test_the_link_has_no_host_where_none_is_configured(
    app: Flask, client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    prove_new(app, client)
    start_delay_at(app, client, host="evil.example")
    text = phone(app).last.text
    assert "evil" not in text
    assert UNDO.search(text)
    assert "SERVER_NAME is not set" in caplog.text


# --- the age of a login -------------------------------------------------------------------------


def test_a_login_of_ten_minutes_starts_no_change(app: Flask, client: FlaskClient) -> None:
    clock_of(app).advance(599)
    assert api(client, MOBILE, mobile=OTHER).status_code == 200
    clock_of(app).advance(1)
    for path, body in ((MOBILE, {"mobile": "+989351112244"}), (SEND, {})):
        refused = api(client, path, **body)
        assert (refused.status_code, refused.get_json(force=True)["code"]) == (
            403,
            "fresh_login_required",
        )
    assert "sign in again before you change a confirmed number" in client.get(MOBILE).text
    login_again(client)
    assert api(client, MOBILE, mobile=OTHER, send=True).json["state"] == "pending"


def test_a_change_that_a_fresh_login_started_can_be_finished_later(
    app: Flask, client: FlaskClient
) -> None:
    clock_of(app).advance(590)
    client.post(MOBILE, data={"mobile": OTHER, "send": "1"})
    clock_of(app).advance(60)
    client.post(CHECK, data={"code": code_to(app, OTHER)})
    client.post(CONFIRM, data={"code": code_to(app, OWN)})
    assert mobile_in_host(app) == OTHER


def test_fresh_login_can_be_set(make_app: MakeApp, sqlite: str) -> None:
    app = build(make_app, sqlite, SMSVERIFY_FRESH_LOGIN=60)
    client = browser(app)
    prove(app, client)
    clock_of(app).advance(60)
    assert api(client, MOBILE, mobile=OTHER).status_code == 403


@pytest.mark.parametrize(("seconds", "status"), [(-60, 200), (-61, 403), (599, 200), (600, 403)])
def test_a_login_is_fresh_for_ten_minutes_and_not_after_a_clock_that_was_set_back_further(
    app: Flask, client: FlaskClient, seconds: int, status: int
) -> None:
    """The clocks of two servers may differ by a minute."""
    clock_of(app).advance(seconds)
    assert api(client, MOBILE, mobile=OTHER).status_code == status


def test_a_first_number_needs_no_fresh_login(app: Flask) -> None:
    client = browser(app, 2)
    clock_of(app).advance(hours=1)
    assert api(client, MOBILE, mobile=OTHER, send=True).json["state"] == "pending"


def test_a_login_without_a_time_and_one_of_another_user_are_not_fresh(
    app: Flask, client: FlaskClient
) -> None:
    with client.session_transaction() as session:
        at = session.pop("smsverify_login_at")
    assert api(client, MOBILE, mobile=OTHER).status_code == 403
    for forged in (["2", at[1]], "now", [None, at[1]], at[:1]):
        with client.session_transaction() as session:
            session["smsverify_login_at"] = forged
        assert api(client, MOBILE, mobile=OTHER).status_code == 403


def test_a_confirmed_login_is_fresh_again(app: Flask, client: FlaskClient) -> None:
    clock_of(app).advance(hours=1)
    assert api(client, MOBILE, mobile=OTHER).status_code == 403
    client.get("/confirm-login")
    assert api(client, MOBILE, mobile=OTHER).status_code == 200


def test_the_refresh_view_can_ask_whether_a_login_is_fresh(make_app: MakeApp, sqlite: str) -> None:
    app = build(make_app, sqlite)
    smsverify = app.extensions["test_smsverify"]
    app.add_url_rule("/fresh", "fresh", lambda: str(smsverify.is_login_fresh()))
    client = browser(app)
    clock_of(app).advance(599)
    assert client.get("/fresh").text == "True"
    clock_of(app).advance(1)
    assert client.get("/fresh").text == "False"
    login_again(client)
    assert client.get("/fresh").text == "True"
    assert browser(app, None).get("/fresh").text == "False"


# --- a number that was proved meanwhile ---------------------------------------------------------


def test_a_code_of_before_the_first_proof_does_not_replace_it(app: Flask) -> None:
    """Staff vouch for the account's own number while a code for another one is open."""
    client = browser(app, 2)
    client.post(MOBILE, data={"mobile": OTHER, "send": "1"})
    with app.app_context():
        app.extensions["smsverify"].verifier.mark_verified(db.session.get(User, 2), by="staff")
    for keeps_entered in (True, False):
        if not keeps_entered:
            with client.session_transaction() as session:
                session.pop("_smsverify_mobile")
        refused = api(client, CHECK, code=code_to(app, OTHER))
        assert (refused.status_code, refused.get_json(force=True)["code"]) == (
            404,
            "no_challenge",
        )
    # A browser sees the problem: the code was not that of a second click.
    refused = client.post(CHECK, data={"code": code_to(app, OTHER)})
    assert error_of(client.get(refused.location, headers=ENGLISH)) == "There is no active code"
    assert mobile_in_host(app, 2) == "09123450002"


def test_a_closed_code_for_another_number_shows_no_problem_to_a_verified_browser(
    app: Flask,
) -> None:
    """It is as with a closed code for the user's own number: nothing is left to prove."""
    client = browser(app, 2)
    phone(app).fail_with(Rejected("memory", "refused"))
    client.post(MOBILE, data={"mobile": OTHER, "send": "1"})
    client.post(MOBILE, data={"keep": "1"})
    with app.app_context():
        app.extensions["smsverify"].verifier.mark_verified(db.session.get(User, 2), by="staff")
    answer = client.post(CHECK, data={"code": "123456", "next": "/guarded"})
    assert (answer.status_code, answer.location) == (303, "/guarded")
    refused = api(client, CHECK, code="123456")
    assert (refused.status_code, refused.get_json(force=True)["code"]) == (404, "no_challenge")


def test_the_hosts_own_check_of_a_code_does_not_finish_a_change(app: Flask) -> None:
    """A host that has a page of its own beside ours."""

    @app.post("/own-check/<code>")
    def own_check(code: str) -> str:
        user = db.session.get(User, 1)
        login_user(user)
        app.extensions["smsverify"].verifier.check(user, code)
        return "checked"

    client = browser(app)
    prove(app, client)
    forget_limits(app)
    client.post(MOBILE, data={"mobile": OTHER, "send": "1"})
    with pytest.raises(NoChallenge):
        client.post(f"/own-check/{last_code(app)}")
    assert mobile_in_host(app) == "09123450001"
    assert client.get(STATUS).json["verified_mobile"] == "+98912•••0001"
