"""Entering and changing the mobile: storage, permission and conflicts."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy
from conftest import MakeApp
from flask import Flask, redirect
from flask.testing import FlaskClient
from flask_login import current_user
from flows import Native
from hostapp import User, db
from visiting import (
    CHECK,
    CONFIRM,
    MOBILE,
    OTHER,
    OWN,
    PAGE,
    SEND,
    STATUS,
    age,
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

from flask_smsverify.delivery import Routes

ENGLISH = {"Accept-Language": "en"}
LEAVE = "/verify-mobile/leave"


def stale(client: FlaskClient) -> FlaskClient:
    """Turn the login into one that was only remembered."""
    with client.session_transaction() as kept:
        kept["_fresh"] = False
    return client


def test_a_new_mobile_is_stored_only_after_its_proof(app: Flask, client: FlaskClient) -> None:
    """Case 33 of docs/safety.md."""
    prove(app, client)
    forget_limits(app)
    client.post(MOBILE, data={"mobile": "0935-111-2233"})
    assert mobile_in_host(app) == "09123450001"
    client.post(SEND)
    assert mobile_in_host(app) == "09123450001"
    assert client.get("/guarded").text == "guarded"
    client.post(CHECK, data={"code": wrong(last_code(app))})
    assert client.get("/guarded").text == "guarded"
    client.post(CHECK, data={"code": last_code(app)})
    assert mobile_in_host(app) == "09123450001"
    client.post(CONFIRM, data={"code": last_code(app)})
    assert mobile_in_host(app) == OTHER
    assert client.get("/guarded").text == "guarded"
    assert "_smsverify_mobile" not in dict(_session_of(client))


def _session_of(client: FlaskClient) -> dict[str, Any]:
    with client.session_transaction() as kept:
        return dict(kept)


def test_mobile_setter_writes_the_mobile(app: Flask, client: FlaskClient) -> None:
    written = []

    @app.extensions["test_smsverify"].mobile_setter
    def write(user: User, mobile: str) -> None:
        written.append((user.id, mobile))
        user.mobile = mobile

    client.post(MOBILE, data={"mobile": "۰۹۳۵ ۱۱۱ ۲۲۳۳", "send": "1"})
    client.post(CHECK, data={"code": last_code(app)})
    assert written == [(1, OTHER)]
    assert mobile_in_host(app) == OTHER


def test_entering_the_own_confirmed_mobile_says_so_and_sends_nothing(
    app: Flask, client: FlaskClient
) -> None:
    prove(app, client)
    sent = len(phone(app).messages)
    answer = client.post(MOBILE, data={"mobile": "0912 345 0001", "send": "1", "next": "/guarded"})
    assert answer.location == f"{MOBILE}?next=/guarded"
    form = client.get(answer.location, headers=ENGLISH)
    assert error_of(form) is None
    assert "This is already your confirmed number. To change it, enter another one." in form.text
    assert 'name="mobile"' in form.text
    assert len(phone(app).messages) == sent
    assert api(client, MOBILE, mobile=OWN, send=True).json["state"] == "verified"


def test_proving_the_same_mobile_does_not_rewrite_it(app: Flask, client: FlaskClient) -> None:
    client.post(MOBILE, data={"mobile": OWN, "send": "1"})
    client.post(CHECK, data={"code": last_code(app)})
    assert mobile_in_host(app) == "09123450001"


def test_a_remembered_login_cannot_change_a_verified_mobile(
    app: Flask, client: FlaskClient
) -> None:
    """Case 33 of docs/safety.md: when it is given, when it is sent, and when it is checked."""
    prove(app, client)
    forget_limits(app)
    for body in (
        api(stale(client), MOBILE, mobile=OTHER),
        api(stale(client), MOBILE, mobile=OTHER, send=True),
    ):
        assert json.loads(body.text)["code"] == "fresh_login_required"
        assert body.status_code == 403
    with client.session_transaction() as kept:
        kept["_fresh"] = True
    api(client, MOBILE, mobile=OTHER)
    refused = api(stale(client), SEND)
    assert json.loads(refused.text)["code"] == "fresh_login_required"
    with client.session_transaction() as kept:
        kept["_fresh"] = True
    api(client, SEND)
    refused = api(stale(client), CHECK, code=last_code(app))
    assert json.loads(refused.text)["code"] == "fresh_login_required"
    assert mobile_in_host(app) == "09123450001"
    assert [kept.to for kept in phone(app).messages] == [OWN, OTHER]


def test_an_exempt_users_remembered_login_is_not_fresh(make_app: MakeApp, sqlite: str) -> None:
    """Case 33 of docs/safety.md: also when the user is exempt and has no proof."""
    app = make_app(sqlite, users=2, SMSVERIFY_EXEMPT_GROUPS=["staff"])
    client, other = browser(app), browser(app, 2)
    prove(app, client)
    forget_limits(app)
    for number in (1, 2):
        set_user(app, number, group="staff")
    refused = api(stale(client), MOBILE, mobile=OTHER, send=True)
    assert json.loads(refused.text)["code"] == "fresh_login_required"
    assert 'name="mobile"' not in client.get(MOBILE).text
    assert client.get(STATUS).json["state"] == "exempt"
    assert [kept.to for kept in phone(app).messages] == [OWN]
    assert api(stale(other), MOBILE, mobile=OTHER, send=True).json["state"] == "pending"


def login_form() -> Any:
    """Stand for a login view that only redirects users who are logged in."""
    return redirect("/") if current_user.is_authenticated else "the form"


def test_a_browser_is_sent_to_a_fresh_login(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite)
    app.add_url_rule("/login", "login_form", login_form)
    app.login_manager.login_view = "login_form"
    client = browser(app)
    prove(app, client)
    answer = stale(client).post(MOBILE, data={"mobile": OTHER})
    assert answer.location.startswith(MOBILE)
    form = client.get(answer.location, headers=ENGLISH)
    assert error_of(form) == "Sign in again"
    assert 'name="mobile"' not in form.text
    assert 'name="again"' in form.text
    login = client.post(LEAVE, data={"again": "1", "next": "/guarded"}).location
    assert login == "/login?next=%2Fverify-mobile%2Fmobile%3Fnext%3D%2Fguarded"
    assert client.get(login).text == "the form"
    client.get("/login/1")
    assert 'name="mobile"' in client.get(MOBILE).text


def test_a_browser_is_sent_to_the_refresh_view_with_its_login(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite)
    app.add_url_rule("/again", "again", lambda: "the form")
    app.login_manager.refresh_view = "again"
    client = browser(app)
    prove(app, client)
    form = stale(client).get(MOBILE).text
    assert 'href="/again?next=' in form
    assert 'name="again"' not in form


def test_leave_ends_a_completed_login_only_with_again(app: Flask, client: FlaskClient) -> None:
    assert client.post(LEAVE).location.startswith(PAGE)
    assert client.get(STATUS).json["state"] == "unverified"
    assert api(client, LEAVE, again=True).json["state"] == "signed_out"
    assert client.get(STATUS).status_code == 401


def test_a_remembered_login_can_prove_the_current_mobile(app: Flask, client: FlaskClient) -> None:
    prove(app, client)
    age(app, timedelta(days=91))
    forget_limits(app)
    stale(client).post(SEND)
    assert client.post(CHECK, data={"code": last_code(app)}).location == "/"
    assert client.get("/guarded").text == "guarded"


def _make_mobiles_unique(app: Flask) -> None:
    with app.app_context():
        db.session.execute(sqlalchemy.text("CREATE UNIQUE INDEX one_each ON host_user (mobile)"))
        db.session.commit()


@pytest.mark.parametrize("program", [False, True])
def test_a_mobile_that_a_unique_column_refuses_is_taken(
    make_app: MakeApp, database: str, *, program: bool
) -> None:
    """The number stays as it was, and so does its proof."""
    app = make_app(database, users=2)
    _make_mobiles_unique(app)
    set_user(app, 2, mobile=OTHER)
    client = browser(app)
    prove(app, client)
    with app.app_context():
        verifier = app.extensions["smsverify"].verifier
        before = verifier.status(db.session.get(User, 1))
    forget_limits(app)
    api(client, MOBILE, mobile=OTHER, send=True)
    api(client, CHECK, code=last_code(app))
    if program:
        answer = api(client, CONFIRM, code=last_code(app))
        assert (answer.status_code, json.loads(answer.text)["code"]) == (409, "mobile_taken")
    else:
        answer = client.post(CONFIRM, data={"code": last_code(app), "next": "/guarded"})
        shown = client.get(answer.location, headers=ENGLISH)
        assert error_of(shown) == "This number belongs to another account"
    assert mobile_in_host(app) == "09123450001"
    assert client.get("/guarded").text == "guarded"
    with app.app_context():
        after = verifier.status(db.session.get(User, 1))
    assert (after.state, after.verified_at) == ("verified", before.verified_at)
    assert client.get(STATUS).json["mobile"] == "+98912•••0001"


def test_a_first_mobile_that_is_taken_proves_nothing(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, users=2)
    _make_mobiles_unique(app)
    set_user(app, 2, mobile=OTHER)
    client = browser(app)
    api(client, MOBILE, mobile=OTHER, send=True)
    assert api(client, CHECK, code=last_code(app)).status_code == 409
    assert client.get(STATUS).json["state"] == "unverified"
    assert client.get("/guarded").status_code == 302


def test_a_database_that_fails_to_store_the_number_is_a_503(
    app: Flask, client: FlaskClient
) -> None:
    @app.extensions["test_smsverify"].mobile_setter
    def write(_user: User, _mobile: str) -> None:
        raise sqlalchemy.exc.OperationalError("", {}, Exception("gone"))

    prove(app, client)
    forget_limits(app)
    api(client, MOBILE, mobile=OTHER, send=True)
    api(client, CHECK, code=last_code(app))
    answer = api(client, CONFIRM, code=last_code(app))
    assert (answer.status_code, json.loads(answer.text)["code"]) == (503, "store_unavailable")
    assert client.get(STATUS).json["change"]["state"] == "confirming"
    assert client.get("/guarded").text == "guarded"


def test_a_mobile_that_another_account_proved_is_taken(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, users=2)
    prove(app, browser(app, 1))
    forget_limits(app)
    client = browser(app, 2)
    api(client, MOBILE, mobile=OWN, send=True)
    answer = api(client, CHECK, code=last_code(app))
    assert (answer.status_code, json.loads(answer.text)["code"]) == (409, "mobile_taken")
    assert mobile_in_host(app, 2) == "09123450002"
    assert client.get("/guarded").status_code == 302
    assert client.get(STATUS).json["mobile"] == "+98912•••0002"


class Thinking(Native):
    """A gateway that has others act while it thinks about a code."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        super().__init__(name="thinking")
        self._meanwhile = meanwhile

    def check_native_code(self, to: str, code: str) -> bool:
        self._meanwhile()
        return super().check_native_code(to, code)


def send_by_one_who_thinks(app: Flask, meanwhile: Callable[[], None]) -> Thinking:
    """Lets a gateway bring the codes during whose checks something happens."""
    sender = Thinking(meanwhile)
    app.extensions["smsverify"].delivery.use_routes(Routes({sender.name: sender}, {}))
    return sender


def support_writes(number: int, mobile: str) -> None:
    """Another transaction gives a user a mobile, and commits."""
    with db.engine.begin() as connection:
        connection.execute(sqlalchemy.update(User).where(User.id == number).values(mobile=mobile))


@pytest.mark.parametrize("program", [False, True])
def test_a_mobile_written_by_another_transaction_during_the_check_is_kept(
    make_app: MakeApp, database: str, *, program: bool
) -> None:
    """Case 34 of docs/safety.md: the change that was open is void."""
    app = make_app(database)
    client = browser(app)
    prove(app, client)
    forget_limits(app)
    sender = send_by_one_who_thinks(app, lambda: None)
    api(client, MOBILE, mobile=OTHER, send=True)
    api(client, CHECK, code=sender.sent[-1][1])
    sender._meanwhile = lambda: support_writes(1, "09129998877")
    code = sender.sent[-1][1]
    if program:
        answer = api(client, CONFIRM, code=code)
        assert (answer.status_code, json.loads(answer.text)["code"]) == (422, "code_expired")
    else:
        answer = client.post(CONFIRM, data={"code": code})
        assert error_of(client.get(answer.location, headers=ENGLISH)) == "The code has expired"
    assert mobile_in_host(app) == "09129998877"
    assert client.get("/guarded").status_code == 302
    set_user(app, mobile="09123450001")
    assert client.get("/guarded").text == "guarded", "the earlier proof is as it was"


@pytest.mark.parametrize("written", [OTHER, "0912 345 0001"])
def test_another_transaction_may_write_the_same_or_the_new_mobile(
    make_app: MakeApp, database: str, written: str
) -> None:
    app = make_app(database)
    client = browser(app)
    sender = send_by_one_who_thinks(app, lambda: support_writes(1, written))
    api(client, MOBILE, mobile=OTHER, send=True)
    assert api(client, CHECK, code=sender.sent[-1][1]).json["state"] == "verified"
    assert mobile_in_host(app) == OTHER


def test_a_mobile_in_another_row_is_also_read_again(make_app: MakeApp, database: str) -> None:
    """As with a getter that reads `user.profile.phone`; here another row of the same table."""
    app = make_app(database, users=2)
    smsverify = app.extensions["test_smsverify"]
    smsverify.mobile_getter(lambda _user: db.session.get(User, 2).mobile)

    @smsverify.mobile_setter
    def write(_user: User, mobile: str) -> None:
        db.session.get(User, 2).mobile = mobile

    client = browser(app)
    sender = send_by_one_who_thinks(app, lambda: support_writes(2, "09129998877"))
    api(client, MOBILE, mobile=OTHER, send=True)
    assert api(client, CHECK, code=sender.sent[-1][1]).status_code == 422
    assert mobile_in_host(app, 2) == "09129998877"
