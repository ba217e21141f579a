"""Sessions and users: what a session may contain, and what one user sees of another."""

from __future__ import annotations

import json

from conftest import MakeApp
from flask import Flask
from flask.testing import FlaskClient
from hostapp import User, db
from visiting import (
    CHECK,
    MOBILE,
    OTHER,
    OWN,
    PAGE,
    SEND,
    STATUS,
    api,
    browser,
    error_of,
    last_code,
    mobile_in_host,
    phone,
    wrong,
)

ENGLISH = {"Accept-Language": "en"}


def test_the_next_user_of_a_browser_sees_nothing_of_the_previous_one(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, users=2)
    client = browser(app, 1)
    client.post(MOBILE, data={"mobile": OTHER})
    client.post(MOBILE, data={"mobile": "0912 typo 77"})
    client.get("/logout")
    client.get("/login/2")
    seen = client.get(MOBILE, headers=ENGLISH)
    assert "0912 ••• 0002" in seen.text
    assert "2233" not in seen.text
    assert "typo" not in seen.text
    assert error_of(seen) is None
    assert client.get(STATUS).json["mobile"] == "+98912•••0002"
    client.post(SEND)
    assert [kept.to for kept in phone(app).messages] == ["+989123450002"]


def test_a_code_of_one_user_is_wrong_for_another(make_app: MakeApp, sqlite: str) -> None:
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


def test_the_session_contains_no_secret(gated: Flask) -> None:
    """Anyone who has the cookie can read a cookie session."""
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
