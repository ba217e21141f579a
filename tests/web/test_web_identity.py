"""Whose number, whose login: the login gate, the change of number, and what a session may say."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy
from conftest import MakeApp
from flask import Flask, redirect, request, session
from flask.sessions import SecureCookieSessionInterface
from flask.testing import FlaskClient
from flask_login import current_user, login_user
from flows import Native
from hostapp import User, db
from visiting import (
    CHECK,
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
from flask_smsverify.errors import ConfigurationError
from flask_smsverify.users import HostUsers
from flask_smsverify import login_gate

ENGLISH = {"Accept-Language": "en"}


def with_gate(app: Flask) -> Flask:
    """Gives an app a login view that asks the gate, and one that tells who is logged in."""
    smsverify = app.extensions["test_smsverify"]

    @app.route("/enter/<int:key>", methods=["GET", "POST"])
    def enter(key: int) -> Any:
        answer = smsverify.login_user(
            db.session.get(User, key), remember="remember" in request.args
        )
        return redirect("/open") if answer is True else answer

    @app.route("/remember/<int:key>")
    def remember(key: int) -> str:
        login_user(db.session.get(User, key), remember=True)
        return "remembered"

    @app.route("/me")
    def me() -> str:
        return str(current_user.id) if current_user.is_authenticated else "nobody"

    @app.route("/session")
    def whole_session() -> dict[str, Any]:
        return dict(session)

    return app


@pytest.fixture
def gated(make_app: MakeApp, sqlite: str) -> Flask:
    """An app whose login demands a verified mobile; three users."""
    app = make_app(sqlite, users=3, SMSVERIFY_LOGIN_GATE=True, SMSVERIFY_EXEMPT_GROUPS=["staff"])
    return with_gate(app)


def stale(client: FlaskClient) -> FlaskClient:
    """Makes a login one that was only remembered."""
    with client.session_transaction() as kept:
        kept["_fresh"] = False
    return client


# --- the login gate ----------------------------------------------------------------------------


def test_the_login_waits_for_the_code(gated: Flask) -> None:
    client = browser(gated, None)
    assert client.get("/enter/1").location == PAGE
    assert client.get("/me").text == "nobody"
    assert "+98912•••0001" in client.get(PAGE).text
    client.post(SEND)
    client.post(CHECK, data={"code": wrong(last_code(gated))})
    assert client.get("/me").text == "nobody"
    assert client.post(CHECK, data={"code": last_code(gated)}).location == "/"
    assert client.get("/me").text == "1"
    assert client.get("/guarded").text == "guarded"


def test_the_login_that_waited_gets_a_new_session(gated: Flask) -> None:
    """Case 43 of docs/safety.md."""
    client = browser(gated, None)
    with client.session_transaction() as before:
        before["planted"] = "by who was here before"
    client.get("/enter/1")
    client.post(SEND)
    client.post(CHECK, data={"code": last_code(gated)})
    after = client.get("/session").json
    assert after["_user_id"] == "1"
    assert "planted" not in after
    assert not [name for name in after if name.startswith("_smsverify")]


def test_a_session_kept_on_the_server_gets_a_new_id(gated: Flask) -> None:
    """Case 43 of docs/safety.md."""
    regenerated = []

    class OnServer(SecureCookieSessionInterface):
        def regenerate(self, _session: Any) -> None:
            regenerated.append(True)

    gated.session_interface = OnServer()
    client = browser(gated, None)
    client.get("/enter/1")
    client.post(SEND)
    assert not regenerated
    client.post(CHECK, data={"code": last_code(gated)})
    assert regenerated == [True]


def test_the_gate_logs_nobody_in_whose_number_the_host_does_not_read_back(gated: Flask) -> None:
    """A getter of the host's without its setter: what was proved is not what the host has."""
    gated.extensions["test_smsverify"].mobile_getter(lambda _user: "09123450001")
    client = browser(gated, None)
    client.get("/enter/1")
    client.post(MOBILE, data={"mobile": OTHER, "send": "1"})
    with pytest.raises(ConfigurationError, match="mobile_setter"):
        client.post(CHECK, data={"code": last_code(gated)})
    assert client.get("/me").text == "nobody"
    assert client.get("/guarded").status_code in (302, 401)


def test_a_login_that_waits_while_the_hosts_database_is_down_is_told_so(
    gated: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = browser(gated, None)
    client.get("/enter/1")

    def down(_self: object, _key: str) -> None:
        raise sqlalchemy.exc.OperationalError("SELECT", {}, Exception("gone"))

    monkeypatch.setattr(HostUsers, "find", down)
    assert client.get(STATUS).status_code == 503


def test_the_gate_goes_on_to_the_next_of_the_login_form(gated: Flask) -> None:
    client = browser(gated, None)
    form = {"headers": {"Referer": "http://localhost/enter/1?next=/orders"}}
    for sent in (
        client.post("/enter/1?next=/orders", **form),
        client.post("/enter/1", data={"next": "/orders"}),
    ):
        assert sent.location == f"{PAGE}?next=/orders"
    for other in ("//evil.example/", "https://evil.example/", "orders"):
        assert client.post("/enter/1", query_string={"next": other}).location == PAGE
    assert client.post("/enter/1", **{**form, "data": {}}).location == PAGE


def test_the_gate_tells_a_program_what_is_asked(gated: Flask) -> None:
    client = browser(gated, None)
    answer = api(client, "/enter/1", next="/orders")
    body = json.loads(answer.text)
    assert (answer.status_code, body["code"]) == (403, "verification_required")
    assert body["verify_url"] == f"{PAGE}?next=/orders"
    api(client, SEND)
    done = api(client, CHECK, code=last_code(gated))
    assert done.json["state"] == "verified"
    assert client.get("/me").text == "1"


def test_a_verified_user_passes_the_gate_and_so_does_an_exempt_one(gated: Flask) -> None:
    client = browser(gated, 2)
    prove(gated, client)
    client.get("/logout")
    assert client.get("/enter/2").location == "/open"
    assert client.get("/me").text == "2"
    set_user(gated, 3, group="staff")
    exempt = browser(gated, None)
    assert exempt.get("/enter/3").location == "/open"
    assert exempt.get("/me").text == "3"


def test_the_gate_remembers_whom_it_should(gated: Flask) -> None:
    client = browser(gated, None)
    client.get("/enter/1?remember=1")
    client.post(SEND)
    client.post(CHECK, data={"code": last_code(gated)})
    assert client.get_cookie("remember_token") is not None


def test_a_second_click_of_a_waiting_login_leaves_the_new_session_alone(gated: Flask) -> None:
    client = browser(gated, None)
    client.get("/enter/1")
    client.post(SEND)
    waiting = client.get_cookie("session").value
    form = {"code": last_code(gated), "next": "/guarded"}
    assert client.post(CHECK, data=form).location == "/guarded"
    rival = browser(gated, None)
    rival.set_cookie("session", waiting)
    second = rival.post(CHECK, data=form)
    assert (second.status_code, second.location) == (303, "/guarded")
    assert "Set-Cookie" not in second.headers
    assert rival.get("/me").text == "nobody"


def test_a_waiting_login_that_is_replayed_logs_nobody_in(gated: Flask) -> None:
    """Case 5 of docs/safety.md."""
    client = browser(gated, None)
    client.get("/enter/1")
    client.post(SEND)
    waiting = client.get_cookie("session").value
    code = last_code(gated)
    client.post(CHECK, data={"code": code})
    replay = browser(gated, None)
    replay.set_cookie("session", waiting)
    api(replay, CHECK, code=code)
    replay.post(CHECK, data={"code": code})
    assert replay.get("/me").text == "nobody"
    assert replay.get("/guarded").status_code == 401


def test_a_login_does_not_wait_for_ever(gated: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    client = browser(gated, None)
    client.get("/enter/1")
    client.post(SEND)
    monkeypatch.setattr(login_gate, "_MAX_WAIT", timedelta(0))
    assert client.post(CHECK, data={"code": last_code(gated)}).status_code == 401
    assert client.get("/me").text == "nobody"


def test_a_waiting_user_who_was_deleted_is_nobody(gated: Flask) -> None:
    client = browser(gated, None)
    client.get("/enter/1")
    with gated.app_context():
        db.session.delete(db.session.get(User, 1))
        db.session.commit()
    assert client.get(PAGE).status_code == 401


def test_a_waiting_user_who_was_closed_out_is_nobody(
    gated: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = browser(gated, None)
    client.get("/enter/1")
    client.post(SEND)
    monkeypatch.setattr(User, "is_active", False)
    assert client.post(CHECK, data={"code": last_code(gated)}).status_code == 401
    assert client.get("/me").text == "nobody"


def test_another_user_who_was_logged_in_is_not_whom_the_page_is_for(gated: Flask) -> None:
    client = browser(gated, 2)
    client.get("/enter/1")
    assert client.get("/me").text == "nobody"
    assert "+98912•••0001" in client.get(PAGE).text


def test_a_login_that_passes_ends_the_one_that_waited(gated: Flask) -> None:
    prove(gated, browser(gated, 2))
    client = browser(gated, None)
    client.get("/enter/1")
    client.get("/enter/2")
    client.get("/logout")
    assert client.get(PAGE).status_code == 401


def test_a_waiting_login_may_give_its_first_number(gated: Flask) -> None:
    set_user(gated, mobile=None)
    client = browser(gated, None)
    client.get("/enter/1")
    client.post(MOBILE, data={"mobile": OTHER, "send": "1"})
    client.post(CHECK, data={"code": last_code(gated)})
    assert client.get("/me").text == "1"
    assert mobile_in_host(gated) == OTHER


def test_a_waiting_login_changes_no_number_that_was_proved_once(gated: Flask) -> None:
    """A password alone must not put another phone in the place of the one that was proved."""
    prove(gated, browser(gated, 1))
    age(gated, timedelta(days=91))
    client = browser(gated, None)
    client.get("/enter/1")
    assert 'name="mobile"' not in client.get(MOBILE).text
    for answer in (
        api(client, MOBILE, mobile=OTHER, send=True),
        client.post(MOBILE, data={"mobile": OTHER}, headers={"Accept": "application/json"}),
    ):
        body = json.loads(answer.text)
        assert (answer.status_code, body["code"]) == (403, "fresh_login_required")
    forget_limits(gated)
    client.post(SEND)
    assert {kept.to for kept in phone(gated).messages} == {OWN}
    client.post(CHECK, data={"code": last_code(gated)})
    assert client.get("/me").text == "1"


# --- changing the number -----------------------------------------------------------------------


def test_a_new_number_is_stored_when_it_is_proved_and_not_before(
    app: Flask, client: FlaskClient
) -> None:
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
    assert mobile_in_host(app) == OTHER
    assert client.get("/guarded").text == "guarded"
    assert "_smsverify_mobile" not in dict(_session_of(client))


def _session_of(client: FlaskClient) -> dict[str, Any]:
    with client.session_transaction() as kept:
        return dict(kept)


def test_the_hosts_setter_writes_the_number(app: Flask, client: FlaskClient) -> None:
    written = []

    @app.extensions["test_smsverify"].mobile_setter
    def write(user: User, mobile: str) -> None:
        written.append((user.id, mobile))
        user.mobile = mobile

    client.post(MOBILE, data={"mobile": "۰۹۳۵ ۱۱۱ ۲۲۳۳", "send": "1"})
    client.post(CHECK, data={"code": last_code(app)})
    assert written == [(1, OTHER)]
    assert mobile_in_host(app) == OTHER


def test_a_number_that_is_the_users_own_is_not_written_again(
    app: Flask, client: FlaskClient
) -> None:
    client.post(MOBILE, data={"mobile": OWN, "send": "1"})
    client.post(CHECK, data={"code": last_code(app)})
    assert mobile_in_host(app) == "09123450001"


def test_a_login_that_was_only_remembered_changes_no_verified_number(
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


def test_an_exemption_makes_no_remembered_login_fresh(make_app: MakeApp, sqlite: str) -> None:
    """Case 33 of docs/safety.md: also where the status of the exempt tells of no proof."""
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


def test_a_browser_is_led_to_a_fresh_login(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite)
    app.add_url_rule("/login", "login_form", lambda: "the form")
    app.login_manager.login_view = "login_form"
    client = browser(app)
    prove(app, client)
    answer = stale(client).post(MOBILE, data={"mobile": OTHER})
    assert answer.location.startswith(MOBILE)
    form = client.get(answer.location, headers=ENGLISH)
    assert error_of(form) == "Sign in again"
    assert 'name="mobile"' not in form.text
    assert 'href="/login?next=' in form.text


def test_a_remembered_login_may_prove_the_number_it_has(app: Flask, client: FlaskClient) -> None:
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
def test_a_number_that_the_hosts_table_has_already_is_taken(
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
    if program:
        answer = api(client, CHECK, code=last_code(app))
        assert (answer.status_code, json.loads(answer.text)["code"]) == (409, "mobile_taken")
    else:
        answer = client.post(CHECK, data={"code": last_code(app), "next": "/guarded"})
        shown = client.get(answer.location, headers=ENGLISH)
        assert error_of(shown) == "This number belongs to another account"
    assert mobile_in_host(app) == "09123450001"
    assert client.get("/guarded").text == "guarded"
    with app.app_context():
        after = verifier.status(db.session.get(User, 1))
    assert (after.state, after.verified_at) == ("verified", before.verified_at)
    assert client.get(STATUS).json["mobile"] == "+98912•••0001"


def test_a_first_number_that_is_taken_proves_nothing(make_app: MakeApp, sqlite: str) -> None:
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
    answer = api(client, CHECK, code=last_code(app))
    assert (answer.status_code, json.loads(answer.text)["code"]) == (503, "store_unavailable")
    assert client.get("/guarded").text == "guarded"


def test_a_number_that_another_account_proved_is_taken(make_app: MakeApp, sqlite: str) -> None:
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
def test_a_number_that_support_wrote_while_the_code_was_checked_stays(
    make_app: MakeApp, database: str, *, program: bool
) -> None:
    """Case 34 of docs/safety.md: the change that was open is void."""
    app = make_app(database)
    client = browser(app)
    prove(app, client)
    forget_limits(app)
    sender = send_by_one_who_thinks(app, lambda: support_writes(1, "09129998877"))
    api(client, MOBILE, mobile=OTHER, send=True)
    code = sender.sent[-1][1]
    if program:
        answer = api(client, CHECK, code=code)
        assert (answer.status_code, json.loads(answer.text)["code"]) == (422, "code_expired")
    else:
        answer = client.post(CHECK, data={"code": code})
        assert error_of(client.get(answer.location, headers=ENGLISH)) == "The code has expired"
    assert mobile_in_host(app) == "09129998877"
    assert client.get("/guarded").status_code == 302
    set_user(app, mobile="09123450001")
    assert client.get("/guarded").text == "guarded", "the earlier proof is as it was"


@pytest.mark.parametrize("written", [OTHER, "0912 345 0001"])
def test_what_support_wrote_meanwhile_may_be_the_same_number_or_the_new_one(
    make_app: MakeApp, database: str, written: str
) -> None:
    app = make_app(database)
    client = browser(app)
    sender = send_by_one_who_thinks(app, lambda: support_writes(1, written))
    api(client, MOBILE, mobile=OTHER, send=True)
    assert api(client, CHECK, code=sender.sent[-1][1]).json["state"] == "verified"
    assert mobile_in_host(app) == OTHER


def test_a_number_that_is_kept_beside_the_user_is_read_again_too(
    make_app: MakeApp, database: str
) -> None:
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


# --- what a session may say --------------------------------------------------------------------


def test_the_next_user_of_a_browser_sees_nothing_of_the_last(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, users=2)
    client = browser(app, 1)
    client.post(MOBILE, data={"mobile": OTHER})
    client.post(MOBILE, data={"mobile": "0912 typo 77"})
    client.get("/logout")
    client.get("/login/2")
    seen = client.get(MOBILE, headers=ENGLISH)
    assert "+98912•••0002" in seen.text
    assert "2233" not in seen.text
    assert "typo" not in seen.text
    assert error_of(seen) is None
    assert client.get(STATUS).json["mobile"] == "+98912•••0002"
    client.post(SEND)
    assert [kept.to for kept in phone(app).messages] == ["+989123450002"]


def test_a_code_of_one_user_is_no_code_of_another(make_app: MakeApp, sqlite: str) -> None:
    """Case 12 of docs/safety.md."""
    app = make_app(sqlite, users=2)
    first, second = browser(app, 1), browser(app, 2)
    api(first, SEND)
    code = last_code(app)
    assert api(second, CHECK, code=code).status_code == 404
    api(second, SEND)
    if last_code(app) != code:
        assert json.loads(api(second, CHECK, code=code).text)["code"] == "wrong_code"
    assert second.get("/guarded").status_code == 302


def test_fields_that_claim_something_are_ignored(make_app: MakeApp, sqlite: str) -> None:
    """Case 37 of docs/safety.md."""
    app = make_app(sqlite, users=2)
    client = browser(app, 1)
    claims = {
        "verified": "true",
        "state": "verified",
        "user_id": "2",
        "user": "2",
        "mobile": OTHER,
        "exempt": "1",
        "challenge": "x",
        "attempts": "0",
        "_smsverify_pending_login": "2",
    }
    for name, value in claims.items():
        client.set_cookie(name, value)
    client.get(PAGE, query_string=claims)
    assert api(client, SEND, **claims).json["mobile"] == "+98912•••0001"
    assert phone(app).last.to == OWN
    client.post(CHECK, data=claims | {"code": wrong(last_code(app))})
    api(client, CHECK, **claims | {"code": wrong(last_code(app))})
    assert client.get("/guarded", query_string=claims).status_code == 302
    assert client.get(STATUS, query_string=claims).json["attempts_left"] == 3
    api(client, CHECK, **claims | {"code": last_code(app)})
    assert mobile_in_host(app, 1) == "09123450001"
    assert browser(app, 2).get("/guarded").status_code == 302


def test_no_secret_stands_in_the_session(gated: Flask) -> None:
    """A cookie session can be read by whoever holds the cookie."""
    client = browser(gated, None)
    client.get("/enter/1?remember=1")
    client.post(SEND)
    code = last_code(gated)
    client.post(CHECK, data={"code": wrong(code)})
    kept = json.dumps(client.get("/session").json)
    assert code not in kept
    assert wrong(code) not in kept
    with gated.app_context():
        challenge = gated.extensions["smsverify"].verifier.latest(db.session.get(User, 1))
    assert challenge.id not in kept


def test_attempts_are_not_counted_in_the_session(app: Flask, client: FlaskClient) -> None:
    """Case 5 of docs/safety.md: an old cookie, a new session."""
    client.post(SEND)
    code = last_code(app)
    cookie = client.get_cookie("session").value
    for left in (4, 3, 2):
        other = browser(app) if left == 3 else browser(app, None)
        if left != 3:
            other.set_cookie("session", cookie)
        answer = api(other, CHECK, code=wrong(code))
        assert json.loads(answer.text)["attempts_left"] == left
