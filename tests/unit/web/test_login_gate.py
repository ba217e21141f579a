"""The login gate: pending logins, how they are completed, and how they end."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
import sqlalchemy
from clocks import Clock
from flask import Flask
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
    forget_limits,
    last_code,
    mobile_in_host,
    phone,
    prove,
    set_user,
    wrong,
)

from flask_smsverify import login_gate
from flask_smsverify.errors import ConfigurationError
from flask_smsverify.users import HostUsers

ENGLISH = {"Accept-Language": "en"}


def test_a_login_is_pending_until_the_right_code(gated: Flask) -> None:
    client = browser(gated, None)
    assert client.get("/enter/1").location == PAGE
    assert client.get("/me").text == "nobody"
    assert "۰۹۱۲ ••• ۰۰۰۱" in client.get(PAGE).text
    client.post(SEND)
    client.post(CHECK, data={"code": wrong(last_code(gated))})
    assert client.get("/me").text == "nobody"
    assert client.post(CHECK, data={"code": last_code(gated)}).location == "/"
    assert client.get("/me").text == "1"
    assert client.get("/guarded").text == "guarded"


def test_a_completed_login_keeps_what_the_host_stored(gated: Flask) -> None:
    client = browser(gated, None)
    with client.session_transaction() as before:
        before["cart"] = ["tea"]
        before.permanent = True
    client.get("/enter/1")
    client.post(SEND)
    client.post(CHECK, data={"code": last_code(gated)})
    after = client.get("/session").json
    assert after["_user_id"] == "1"
    assert (after["cart"], after["_permanent"]) == (["tea"], True)
    assert not [name for name in after if name.startswith("_smsverify")]


def test_a_mobile_getter_without_its_setter_completes_no_login(gated: Flask) -> None:
    """A getter of the host's without its setter: what was proved is not what the host has."""
    gated.extensions["test_smsverify"].mobile_getter(lambda _user: "09123450001")
    client = browser(gated, None)
    client.get("/enter/1")
    client.post(MOBILE, data={"mobile": OTHER, "send": "1"})
    with pytest.raises(ConfigurationError, match="mobile_setter"):
        client.post(CHECK, data={"code": last_code(gated)})
    assert client.get("/me").text == "nobody"
    assert client.get("/guarded").status_code in (302, 401)


def test_a_pending_login_is_503_while_the_hosts_database_is_down(
    gated: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = browser(gated, None)
    client.get("/enter/1")

    def down(_self: object, _key: str) -> None:
        raise sqlalchemy.exc.OperationalError("SELECT", {}, Exception("gone"))

    monkeypatch.setattr(HostUsers, "find", down)
    assert client.get(STATUS).status_code == 503


def test_the_gate_passes_the_next_of_the_login_form_on(gated: Flask) -> None:
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


def test_the_gate_answers_a_program_with_a_problem(gated: Flask) -> None:
    client = browser(gated, None)
    answer = api(client, "/enter/1", next="/orders")
    body = json.loads(answer.text)
    assert (answer.status_code, body["code"]) == (403, "verification_required")
    assert body["verify_url"] == f"{PAGE}?next=/orders"
    api(client, SEND)
    done = api(client, CHECK, code=last_code(gated))
    assert done.json["state"] == "verified"
    assert client.get("/me").text == "1"


def test_verified_and_exempt_users_pass_the_gate(gated: Flask) -> None:
    client = browser(gated, 2)
    prove(gated, client)
    client.get("/logout")
    assert client.get("/enter/2").location == "/open"
    assert client.get("/me").text == "2"
    set_user(gated, 3, group="staff")
    exempt = browser(gated, None)
    assert exempt.get("/enter/3").location == "/open"
    assert exempt.get("/me").text == "3"


def test_a_pending_login_keeps_remember(gated: Flask) -> None:
    client = browser(gated, None)
    client.get("/enter/1?remember=1")
    client.post(SEND)
    client.post(CHECK, data={"code": last_code(gated)})
    assert client.get_cookie("remember_token") is not None


def test_submitting_a_pending_login_twice_keeps_the_new_session(gated: Flask) -> None:
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


def test_a_replayed_pending_login_logs_nobody_in(gated: Flask) -> None:
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


def test_a_pending_login_expires(gated: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    client = browser(gated, None)
    client.get("/enter/1")
    client.post(SEND)
    monkeypatch.setattr(login_gate, "_MAX_WAIT", timedelta(0))
    assert client.post(CHECK, data={"code": last_code(gated)}).status_code == 401
    assert client.get("/me").text == "nobody"


@pytest.mark.parametrize(("seconds", "status"), [(-60, 200), (-61, 401), (1799, 200), (1800, 401)])
def test_a_login_waits_for_half_an_hour_and_not_for_a_clock_that_was_set_back_further(
    gated: Flask, seconds: int, status: int
) -> None:
    """The clocks of two servers may differ by a minute."""
    clock = Clock()
    gated.extensions["smsverify"].clock.source = clock
    client = browser(gated, None)
    client.get("/enter/1")
    clock.advance(seconds)
    assert client.get(PAGE).status_code == status


def test_leaving_a_pending_login_removes_the_entered_number_from_the_session(gated: Flask) -> None:
    set_user(gated, mobile=None)
    client = browser(gated, None)
    client.get("/enter/1")
    client.post(MOBILE, data={"mobile": OTHER})
    assert OTHER in str(client.get("/session").json)
    client.post(f"{PAGE}leave")
    assert not [name for name in client.get("/session").json if name.startswith("_smsverify")]


def test_a_pending_login_of_a_deleted_user_is_anonymous(gated: Flask) -> None:
    client = browser(gated, None)
    client.get("/enter/1")
    with gated.app_context():
        db.session.delete(db.session.get(User, 1))
        db.session.commit()
    assert client.get(PAGE).status_code == 401


def test_a_pending_login_of_an_inactive_user_is_anonymous(
    gated: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = browser(gated, None)
    client.get("/enter/1")
    client.post(SEND)
    monkeypatch.setattr(User, "is_active", False)
    assert client.post(CHECK, data={"code": last_code(gated)}).status_code == 401
    assert client.get("/me").text == "nobody"


def test_a_pending_login_logs_the_previous_user_out(gated: Flask) -> None:
    client = browser(gated, 2)
    client.get("/enter/1")
    assert client.get("/me").text == "nobody"
    assert "۰۹۱۲ ••• ۰۰۰۱" in client.get(PAGE).text


def test_a_completed_login_ends_a_pending_one(gated: Flask) -> None:
    prove(gated, browser(gated, 2))
    client = browser(gated, None)
    client.get("/enter/1")
    client.get("/enter/2")
    client.get("/logout")
    assert client.get(PAGE).status_code == 401


def test_a_pending_login_can_enter_its_first_mobile(gated: Flask) -> None:
    set_user(gated, mobile=None)
    client = browser(gated, None)
    client.get("/enter/1")
    client.post(MOBILE, data={"mobile": OTHER, "send": "1"})
    client.post(CHECK, data={"code": last_code(gated)})
    assert client.get("/me").text == "1"
    assert mobile_in_host(gated) == OTHER


def test_a_pending_login_cannot_change_a_proved_mobile(gated: Flask) -> None:
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


@pytest.mark.parametrize("mobile", [None, OWN], ids=["no number", "number"])
def test_each_page_of_a_pending_login_lets_the_visitor_choose_another_account(
    gated: Flask, mobile: str | None
) -> None:
    set_user(gated, mobile=mobile)
    client = browser(gated, None)
    client.get("/enter/1")
    offer = "Sign in with another account"
    assert offer in client.get(PAGE, headers=ENGLISH).text
    client.post(MOBILE, data={"mobile": OTHER, "send": "1"})
    assert offer in client.get(PAGE, headers=ENGLISH).text
    client.post(CHECK, data={"code": last_code(gated)})
    assert offer not in client.get(PAGE, headers=ENGLISH).text


def test_a_pending_login_can_be_left_and_an_established_one_stays(gated: Flask) -> None:
    client = browser(gated, None)
    client.get("/enter/1")
    answer = client.post(f"{PAGE}leave", data={"next": "/guarded"})
    assert answer.status_code == 303
    assert "_smsverify_pending_login" not in client.get("/session").json
    assert client.post(SEND).status_code != 303, "nobody's login is pending"
    client.get("/enter/1")
    client.post(SEND)
    client.post(CHECK, data={"code": last_code(gated)})
    client.post(f"{PAGE}leave")
    assert client.get("/me").text == "1"
