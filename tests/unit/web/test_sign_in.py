"""Sign-in with a mobile: the pages and the JSON, from the number to the session."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import flask_login
import pytest
from conftest import MakeApp
from flask import Flask, session
from flask.sessions import SecureCookieSessionInterface
from flask.testing import FlaskClient
from flask_login import current_user
from flows import flow_of
from hostapp import User, create_app, db
from visiting import (
    OTHER,
    OWN,
    api,
    browser,
    error_of,
    expire_codes,
    forget_limits,
    phone,
    prove,
    set_user,
    wrong,
)
from werkzeug.test import TestResponse

from flask_smsverify.db.models import Challenge, Verification
from flask_smsverify.errors import (
    ConfigurationError,
    MobileError,
    NoAccount,
    NoChallenge,
    SendRefused,
    WrongCode,
)
from flask_smsverify.signals import signed_in
from flask_smsverify.testing import outbox

SIGN_IN = "/verify-mobile/sign-in"
SIGN_IN_CHECK = "/verify-mobile/sign-in/check"
OWN_TYPED, NEW_TYPED = "0912 345 0001", "۰۹۳۵ ۱۱۱ ۲۲۳۳"
ENGLISH = {"Accept-Language": "en"}
PROGRAM = {"Accept": "application/json"}


def with_views(app: Flask) -> Flask:
    """Add views that show the user and the session."""

    @app.route("/me")
    def me() -> str:
        return str(current_user.id) if current_user.is_authenticated else "nobody"

    @app.route("/session")
    def whole_session() -> dict[str, Any]:
        return dict(session)

    return app


MakeSite = Callable[..., Flask]


@pytest.fixture
def make_site(make_app: MakeApp, sqlite: str) -> MakeSite:
    """Return a factory of apps with sign-in and two users, of whom the first is verified.

    `sign_up` lets new numbers sign up; `add_views` adds views of the host's.
    """

    def make(
        *, sign_up: bool = False, add_views: Callable[[Flask], object] = bool, **config: Any
    ) -> Flask:
        app = with_views(make_app(sqlite, users=2, SMSVERIFY_SIGN_IN=True, **config))
        add_views(app)
        if sign_up:
            app.extensions["test_smsverify"].user_factory(lambda mobile: User(mobile=mobile))
        prove(app, browser(app, 1))
        forget_limits(app)
        return app

    return make


@pytest.fixture
def site(make_site: MakeSite) -> Flask:
    return make_site()


def code_of(app: Flask) -> str:
    """Return the code that was sent last, after background sends are done."""
    app.extensions["smsverify"].workers.wait()
    code = phone(app).last.code
    assert code is not None
    return code


def problem_of(answer: TestResponse) -> tuple[int, str]:
    return answer.status_code, json.loads(answer.text)["code"]


def sign_in(app: Flask, client: Any, mobile: str, **fields: str) -> TestResponse:
    """Enter a number and its code; return the last response."""
    sent = client.post(SIGN_IN, data={"mobile": mobile, **fields})
    assert sent.status_code == 303
    return client.post(SIGN_IN_CHECK, data={"code": code_of(app), **fields})


# --- the way in --------------------------------------------------------------------------------


def test_a_number_and_its_code_sign_its_user_in(site: Flask) -> None:
    client = browser(site, None)
    page = client.get(f"{SIGN_IN}?next=/guarded")
    assert 'name="mobile"' in page.text
    assert 'autocomplete="tel"' in page.text
    sent = client.post(SIGN_IN, data={"mobile": "۰۹۱۲-۳۴۵-۰۰۰۱", "next": "/guarded"})
    assert (sent.status_code, sent.location) == (303, f"{SIGN_IN}?next=/guarded")
    page = client.get(sent.location, headers=ENGLISH)
    assert "0912 345 0001" in page.text
    assert 'autocomplete="one-time-code"' in page.text
    done = client.post(SIGN_IN_CHECK, data={"code": code_of(site), "next": "/guarded"})
    assert (done.status_code, done.location) == (303, "/guarded")
    assert client.get("/me").text == "1"
    assert client.get("/guarded").text == "guarded"


def test_a_number_that_is_no_string_is_refused_with_the_type_that_is_needed(site: Flask) -> None:
    before = phone(site).messages
    for mobile in (9123450001, False, ["09123450001"]):
        answer = browser(site, None).post(SIGN_IN, json={"mobile": mobile}, headers=ENGLISH)
        assert problem_of(answer) == (422, "invalid_mobile")
        assert answer.json["title"] == "The mobile number must be a string", mobile
        site.extensions["smsverify"].workers.wait()
        assert phone(site).messages == before, mobile


def test_a_wrong_code_signs_nobody_in_and_is_counted(site: Flask) -> None:
    client = browser(site, None)
    client.post(SIGN_IN, data={"mobile": OWN_TYPED})
    code = code_of(site)
    for _ in range(5):
        assert client.post(SIGN_IN_CHECK, data={"code": wrong(code)}).status_code == 303
    page = client.get(SIGN_IN, headers=ENGLISH)
    assert "Get a new code" in page.text
    assert 'name="code"' not in page.text
    client.post(SIGN_IN_CHECK, data={"code": code})
    assert client.get("/me").text == "nobody"
    forget_limits(site)
    client.post(SIGN_IN, data={})
    client.post(SIGN_IN_CHECK, data={"code": code_of(site)})
    assert client.get("/me").text == "1"


def test_the_page_shows_what_is_wrong_with_a_number_and_keeps_it(site: Flask) -> None:
    client = browser(site, None)
    client.post(SIGN_IN, data={"mobile": "021 8877 6655"})
    page = client.get(SIGN_IN, headers=ENGLISH)
    assert error_of(page) == "Enter a valid mobile number"
    assert 'value="021 8877 6655"' in page.text
    assert error_of(client.get(SIGN_IN, headers=ENGLISH)) is None, "it is shown once"


def test_the_number_can_be_changed_before_the_code(site: Flask) -> None:
    client = browser(site, None)
    client.post(SIGN_IN, data={"mobile": "0912 345 0009"})
    page = client.get(f"{SIGN_IN}?change=1", headers=ENGLISH)
    assert 'value="0912 345 0009"' in page.text
    sent = client.post(SIGN_IN, data={"mobile": "12"})
    assert "change=1" in sent.location
    assert "mobile number" in (error_of(client.get(sent.location, headers=ENGLISH)) or "")
    assert sign_in(site, client, OWN_TYPED).location == "/"
    assert client.get("/me").text == "1"


def test_next_is_kept_only_if_it_is_a_path_of_this_site(site: Flask) -> None:
    client = browser(site, None)
    for other in ("//evil.example", "https://evil.example/", "/\\evil.example"):
        assert client.post(SIGN_IN, data={"mobile": "12", "next": other}).location.endswith(
            f"{SIGN_IN}?next=/"
        )
        forget_limits(site)
        assert sign_in(site, client, OWN_TYPED, next=other).location == "/"
        client.get("/logout")


def test_flask_login_redirects_to_the_sign_in_and_back(site: Flask) -> None:
    site.login_manager.login_view = "smsverify.sign_in"  # type: ignore[attr-defined]
    client = browser(site, None)
    refused = client.get("/guarded?x=1")
    assert refused.location == f"{SIGN_IN}?next=%2Fguarded%3Fx%3D1"
    assert "/guarded?x=1" in client.get(refused.location).text
    site.config["USE_SESSION_FOR_NEXT"] = True
    assert client.get("/guarded?x=2").location == SIGN_IN
    assert "/guarded?x=2" in client.get(SIGN_IN).text


def test_a_code_is_sent_again_and_by_call(site: Flask) -> None:
    client = browser(site, None)
    client.post(SIGN_IN, data={"mobile": OWN_TYPED})
    first = code_of(site)
    assert client.post(SIGN_IN, data={"channel": "voice"}).status_code == 303
    page = client.get(SIGN_IN, headers=ENGLISH)
    assert "You can get a new code in" in page.text
    assert error_of(page) is None
    forget_limits(site)
    client.post(SIGN_IN, data={"channel": "voice"})
    assert code_of(site) == first
    assert phone(site).last.channel == "voice"
    page = client.get(SIGN_IN, headers=ENGLISH)
    assert "We are calling you now." in page.text
    client.post(SIGN_IN_CHECK, data={"code": first})
    assert client.get("/me").text == "1"


def test_an_expired_code_is_replaced_without_entering_the_number_again(site: Flask) -> None:
    client = browser(site, None)
    client.post(SIGN_IN, data={"mobile": OWN_TYPED})
    first = code_of(site)
    expire_codes(site)
    client.post(SIGN_IN_CHECK, data={"code": first})
    assert "Text message sent" not in (page := client.get(SIGN_IN, headers=ENGLISH)).text
    assert error_of(page) == "The code has expired"
    forget_limits(site)
    client.post(SIGN_IN, data={})
    client.post(SIGN_IN_CHECK, data={"code": code_of(site)})
    assert client.get("/me").text == "1"


def test_resending_without_a_number_asks_for_it(site: Flask) -> None:
    client = browser(site, None)
    client.post(SIGN_IN, data={})
    assert error_of(client.get(SIGN_IN, headers=ENGLISH)) == "Enter your mobile number"
    assert problem_of(api(client, SIGN_IN)) == (422, "mobile_required")


def test_entering_the_same_number_again_shows_the_code_page_and_sends_nothing(
    site: Flask,
) -> None:
    client = browser(site, None)
    client.post(SIGN_IN, data={"mobile": OWN_TYPED})
    code = code_of(site)
    again = client.post(SIGN_IN, data={"mobile": OWN_TYPED})
    assert again.location == f"{SIGN_IN}?next=/"
    page = client.get(again.location, headers=ENGLISH)
    assert error_of(page) is None
    assert 'name="code"' in page.text
    client.post(SIGN_IN_CHECK, data={"code": code})
    assert client.get("/me").text == "1"


def test_remember_sets_the_cookie_of_flask_login(site: Flask) -> None:
    client = browser(site, None)
    sign_in(site, client, OWN_TYPED)
    assert client.get_cookie("remember_token") is None
    client = browser(site, None)
    forget_limits(site)
    client.post(SIGN_IN, data={"mobile": OWN_TYPED, "remember": "1"})
    forget_limits(site)
    client.post(SIGN_IN, data={})
    client.post(SIGN_IN_CHECK, data={"code": code_of(site)})
    assert client.get_cookie("remember_token") is not None


def test_sign_in_is_off_by_default(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite)
    client = browser(app, None)
    for answer in (client.get(SIGN_IN), client.post(SIGN_IN), client.post(SIGN_IN_CHECK)):
        assert answer.status_code == 404
    with app.test_request_context(), pytest.raises(ConfigurationError, match="SIGN_IN"):
        app.extensions["test_smsverify"].sign_in_url()


def test_sign_in_url_carries_next(site: Flask) -> None:
    with site.test_request_context():
        smsverify = site.extensions["test_smsverify"]
        assert smsverify.sign_in_url() == SIGN_IN
        assert smsverify.sign_in_url(next="/orders") == f"{SIGN_IN}?next=/orders"


def test_a_signed_in_visitor_is_redirected(site: Flask) -> None:
    client = browser(site, None)
    sign_in(site, client, OWN_TYPED)
    assert client.get(f"{SIGN_IN}?next=/orders").location == "/orders"
    assert client.get(SIGN_IN, headers=PROGRAM).json["state"] == "signed_in"
    with outbox(site) as box:
        box.advance(timedelta(minutes=11))
        assert client.get(SIGN_IN, headers=PROGRAM).json["state"] == "signed_in"
        page = client.get(SIGN_IN)
        assert 'name="mobile"' in page.text, "the login may be renewed here"
        client.post(SIGN_IN, data={"mobile": OWN_TYPED})
        assert client.get(SIGN_IN, headers=PROGRAM).json["state"] == "pending"
        client.post(SIGN_IN_CHECK, data={"code": box.last.code})
        assert client.get("/me").text == "1"
        assert client.get(SIGN_IN).status_code == 302


def test_the_forms_need_a_csrf_token(make_site: MakeSite) -> None:
    app = make_site()
    app.config["WTF_CSRF_ENABLED"] = True
    client = browser(app, None)
    refused = client.post(SIGN_IN, data={"mobile": OWN_TYPED})
    assert refused.status_code == 400
    assert SIGN_IN in refused.text
    answer = api(client, SIGN_IN, mobile=OWN_TYPED)
    assert problem_of(answer) == (400, "csrf")
    assert SIGN_IN in json.loads(answer.text)["detail"]
    token = client.get(SIGN_IN, headers=PROGRAM).json["csrf_token"]
    with outbox(app) as box:
        sent = client.post(SIGN_IN, json={"mobile": OWN_TYPED}, headers={"X-CSRFToken": token})
        assert sent.status_code == 200
        assert len(box) == 1


def test_responses_are_not_stored(site: Flask) -> None:
    client = browser(site, None)
    for answer in (client.get(SIGN_IN), client.post(SIGN_IN, data={"mobile": OWN_TYPED})):
        assert answer.headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in client.get(SIGN_IN).headers["Content-Security-Policy"]


# --- programs ----------------------------------------------------------------------------------


def test_a_program_signs_in(site: Flask) -> None:
    client = browser(site, None)
    assert client.get(SIGN_IN, headers=PROGRAM).json["state"] == "signed_out"
    sent = api(client, SIGN_IN, mobile=OWN_TYPED, next="/orders")
    assert sent.json | {"expires_at": "", "resend_at": ""} == {
        "state": "pending",
        "mobile": "+98912•••0001",
        "channel": "sms",
        "expires_at": "",
        "resend_at": "",
        "attempts_left": 5,
        "delivery": "queued",
        "next": "/orders",
    }
    code = code_of(site)
    assert client.get(SIGN_IN, headers=PROGRAM).json["delivery"] == "sent"
    assert problem_of(api(client, SIGN_IN, mobile=OWN_TYPED)) == (429, "too_soon")
    assert problem_of(api(client, SIGN_IN_CHECK, code=wrong(code))) == (422, "wrong_code")
    done = api(client, SIGN_IN_CHECK, code=code, next="/orders")
    assert done.json["state"] == "signed_in"
    assert done.json["next"] == "/orders"
    assert client.get("/me").text == "1"
    assert problem_of(api(browser(site, None), SIGN_IN_CHECK, code=code)) == (404, "no_challenge")


def test_a_program_gets_a_proof_token_instead_of_a_session(make_site: MakeSite) -> None:
    app = make_site(SMSVERIFY_SIGN_IN_TOKEN=True)
    client = browser(app, None)
    api(client, SIGN_IN, mobile=OWN_TYPED)
    done = api(client, SIGN_IN_CHECK, code=code_of(app))
    assert done.json["state"] == "proved"
    assert client.get("/me").text == "nobody"
    token = done.json["proof_token"]
    with app.test_request_context():
        smsverify = app.extensions["test_smsverify"]
        mobile = smsverify.verifier.load_proof(token, purpose="sign_in")
        user = smsverify.find_user(mobile)
        assert (mobile, user.id) == (OWN, 1)
        smsverify.verifier.claim(token, user, purpose="sign_in")
        db.session.commit()
        assert smsverify.verifier.status(user).state == "verified"
    # A browser is signed in all the same.
    forget_limits(app)
    sign_in(app, client, OWN_TYPED)
    assert client.get("/me").text == "1"


# --- the session -------------------------------------------------------------------------------


def test_the_hosts_values_survive_in_a_session_with_a_new_id(site: Flask) -> None:
    """Case 43 of docs/safety.md."""
    regenerated = []

    class OnServer(SecureCookieSessionInterface):
        def regenerate(self, _session: Any) -> None:
            regenerated.append(True)

    site.session_interface = OnServer()
    client = browser(site, None)
    with client.session_transaction() as before:
        before["cart"] = ["a book"]
    sign_in(site, client, OWN_TYPED)
    after = client.get("/session").json
    assert regenerated == [True]
    assert after["cart"] == ["a book"]
    assert after["_user_id"] == "1"
    assert not [name for name in after if name.startswith("_smsverify")]


def test_the_values_of_another_user_do_not_survive(site: Flask) -> None:
    client = browser(site, 2)
    with client.session_transaction() as before:
        before["cart"] = ["of user 2"]
    sign_in(site, client, OWN_TYPED)
    after = client.get("/session").json
    assert after["_user_id"] == "1"
    assert "cart" not in after


def test_session_protection_is_honoured(site: Flask) -> None:
    site.login_manager.session_protection = "strong"  # type: ignore[attr-defined]
    client = browser(site, None)
    sign_in(site, client, OWN_TYPED)
    assert client.get("/me").text == "1"
    thief = browser(site, None)
    thief.set_cookie("session", client.get_cookie("session").value)
    assert thief.get("/me", headers={"User-Agent": "another"}).text == "nobody"


def test_a_login_with_a_code_is_fresh(site: Flask) -> None:
    client = browser(site, None)
    sign_in(site, client, OWN_TYPED)
    with client:
        client.get("/me")
        assert flask_login.login_fresh()


def test_the_signal_names_the_user_and_masks_the_mobile(make_site: MakeSite) -> None:
    app = make_site(sign_up=True)
    seen: list[dict[str, Any]] = []

    def listen(_app: Flask, **values: Any) -> None:
        seen.append(values)

    with signed_in.connected_to(listen, app):
        sign_in(app, browser(app, None), OWN_TYPED)
        sign_in(app, browser(app, None), NEW_TYPED)
    assert seen == [
        {"user_id": "1", "mobile": "+98912•••0001", "is_new": False},
        {"user_id": "3", "mobile": "+98935•••2233", "is_new": True},
    ]


def test_submitting_the_right_code_twice_keeps_the_new_session(site: Flask) -> None:
    client = browser(site, None)
    client.post(SIGN_IN, data={"mobile": OWN_TYPED})
    waiting = client.get_cookie("session").value
    form = {"code": code_of(site), "next": "/guarded"}
    client.post(SIGN_IN_CHECK, data=form)
    rival = browser(site, None)
    rival.set_cookie("session", waiting)
    second = rival.post(SIGN_IN_CHECK, data=form)
    assert (second.status_code, second.location) == (303, "/guarded")
    assert "Set-Cookie" not in second.headers
    assert rival.get("/me").text == "nobody"
    assert client.post(SIGN_IN_CHECK, data=form).location == "/guarded"
    assert client.get("/me").text == "1"


def test_a_code_works_only_in_the_session_that_requested_it(site: Flask) -> None:
    """Case 12 of docs/safety.md."""
    client, other = browser(site, None), browser(site, None)
    client.post(SIGN_IN, data={"mobile": OWN_TYPED})
    code = code_of(site)
    forget_limits(site)
    other.post(SIGN_IN, data={"mobile": OWN_TYPED})
    if code_of(site) != code:
        other.post(SIGN_IN_CHECK, data={"code": code})
        assert other.get("/me").text == "nobody"
    client.post(SIGN_IN_CHECK, data={"code": code})
    assert client.get("/me").text == "1"


# --- which account -----------------------------------------------------------------------------


def test_a_number_that_nobody_proved_matches_no_account(site: Flask) -> None:
    """User 2 entered the number; that does not make it theirs."""
    client = browser(site, None)
    api(client, SIGN_IN, mobile="0912 345 0002")
    answer = api(client, SIGN_IN_CHECK, code=code_of(site))
    assert problem_of(answer) == (403, "no_account")
    assert client.get("/me").text == "nobody"


def test_a_row_without_a_proof_matches_no_number(site: Flask) -> None:
    state = site.extensions["smsverify"]
    with site.app_context():
        assert state.sign_in.find(OWN).id == 1
        state.ledger.run(
            lambda session: setattr(session.get(Verification, "1"), "verified_at", None)
        )
        assert state.sign_in.find(OWN) is None


def test_a_deleted_account_matches_no_number_and_user_getter_is_not_asked_for_it(
    site: Flask,
) -> None:
    smsverify = site.extensions["test_smsverify"]
    smsverify.user_getter(lambda user: user.account)
    with site.app_context():
        assert smsverify.find_user(OWN_TYPED).id == 1
        db.session.delete(db.session.get(User, 1))
        db.session.commit()
        assert smsverify.find_user(OWN_TYPED) is None


def test_a_browser_sees_after_the_right_code_that_there_is_no_account(site: Flask) -> None:
    client = browser(site, None)
    sent = sign_in(site, client, NEW_TYPED)
    assert sent.location == f"{SIGN_IN}?next=/"
    page = client.get(sent.location, headers=ENGLISH)
    assert error_of(page) == "There is no account with this number"
    assert 'name="mobile"' in page.text


def test_an_aged_proof_matches_and_a_revoked_one_does_not(site: Flask) -> None:
    with outbox(site) as box:
        box.advance(timedelta(days=400))
        client = browser(site, None)
        client.post(SIGN_IN, data={"mobile": OWN_TYPED})
        client.post(SIGN_IN_CHECK, data={"code": box.last.code})
        assert client.get("/me").text == "1"
        assert client.get("/guarded").text == "guarded", "the proof is renewed"
        with site.app_context():
            verifier = site.extensions["smsverify"].verifier
            verifier.revoke(db.session.get(User, 1), by="staff")
        box.advance(timedelta(days=1))
        client = browser(site, None)
        api(client, SIGN_IN, mobile=OWN_TYPED)
        answer = api(client, SIGN_IN_CHECK, code=box.last.code)
        assert problem_of(answer) == (403, "no_account")


def test_an_account_with_another_mobile_by_now_does_not_match(site: Flask) -> None:
    """The number may belong to somebody else since."""
    set_user(site, 1, mobile=OTHER)
    with site.app_context():
        assert site.extensions["test_smsverify"].find_user(OWN_TYPED) is None


def test_an_earlier_holder_does_not_match_once_another_account_proved_the_number(
    make_site: MakeSite,
) -> None:
    app = make_site(SMSVERIFY_MOBILE_POLICY="transfer")
    set_user(app, 2, mobile=OWN)
    prove(app, browser(app, 2))
    with app.app_context():
        smsverify = app.extensions["test_smsverify"]
        assert smsverify.find_user(OWN_TYPED).id == 2
        smsverify.verifier.revoke(db.session.get(User, 2), by="staff")
        assert smsverify.find_user(OWN_TYPED) is None
        with pytest.raises(MobileError):
            smsverify.find_user("12")


def test_an_inactive_account_is_not_signed_in(site: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(User, "is_active", False)
    client = browser(site, None)
    api(client, SIGN_IN, mobile=OWN_TYPED)
    answer = api(client, SIGN_IN_CHECK, code=code_of(site))
    assert problem_of(answer) == (403, "no_account")
    assert json.loads(answer.text)["title"] == "این حساب کاربری فعال نیست"


def test_a_browser_that_verified_the_number_signs_in_after_a_strangers_wrong_codes(
    make_site: MakeSite,
) -> None:
    app = make_site(SMSVERIFY_CONSECUTIVE_FAILURES=3, SMSVERIFY_RESEND_DELAYS=(0,))
    own, stranger = browser(app, None), browser(app, None)
    sign_in(app, own, OWN_TYPED)
    own.get("/logout")
    api(stranger, SIGN_IN, mobile=OWN_TYPED)
    code = code_of(app)
    refused = [problem_of(api(stranger, SIGN_IN_CHECK, code=wrong(code))) for _ in range(4)]
    assert refused == [(422, "wrong_code")] * 3 + [(429, "account_locked")]
    assert problem_of(api(browser(app, None), SIGN_IN, mobile=OWN_TYPED)) == (
        429,
        "account_locked",
    )
    sign_in(app, own, OWN_TYPED)
    assert own.get("/me").text == "1"


def test_a_locked_account_is_not_signed_in(site: Flask) -> None:
    state = site.extensions["smsverify"]
    with site.app_context():
        state.ledger.run(
            lambda session: setattr(session.get(Verification, "1"), "locked_at", state.clock())
        )
    client = browser(site, None)
    api(client, SIGN_IN, mobile=OWN_TYPED)
    assert problem_of(api(client, SIGN_IN_CHECK, code=code_of(site))) == (429, "account_locked")
    assert client.get("/me").text == "nobody"


def test_the_hosts_look_up_replaces_the_default(make_site: MakeSite) -> None:
    app = make_site(SMSVERIFY_LOGIN_GATE=True)
    app.extensions["test_smsverify"].user_by_mobile(
        lambda mobile: db.session.scalar(db.select(User).filter_by(note=mobile))
    )
    set_user(app, 2, note=OTHER, mobile=None)
    client = browser(app, None)
    sign_in(app, client, NEW_TYPED)
    assert client.get("/me").text == "2"
    assert client.get("/guarded").text == "guarded"


def test_several_accounts_per_mobile_need_a_look_up(sqlite: str) -> None:
    for number in (0, 2):
        with pytest.raises(ConfigurationError, match="user_by_mobile"):
            create_app(sqlite, SMSVERIFY_SIGN_IN=True, SMSVERIFY_ACCOUNTS_PER_MOBILE=number)
    with pytest.raises(ConfigurationError, match="user_factory"):
        create_app(sqlite, SMSVERIFY_SIGN_IN=True, SMSVERIFY_SIGN_UP=True)


# --- sign-up -----------------------------------------------------------------------------------


def test_a_new_number_signs_up_where_there_is_a_factory(make_site: MakeSite) -> None:
    app = make_site(sign_up=True)
    client = browser(app, None)
    assert sign_in(app, client, NEW_TYPED, next="/guarded").location == "/guarded"
    assert client.get("/me").text == "3"
    assert client.get("/guarded").text == "guarded"
    client.get("/logout")
    forget_limits(app)
    sign_in(app, client, NEW_TYPED)
    assert client.get("/me").text == "3"
    with app.app_context():
        assert db.session.get(User, 3).mobile == OTHER


def test_sign_up_can_be_switched_off(make_site: MakeSite) -> None:
    app = make_site(sign_up=True, SMSVERIFY_SIGN_UP=False)
    client = browser(app, None)
    api(client, SIGN_IN, mobile=NEW_TYPED)
    assert problem_of(api(client, SIGN_IN_CHECK, code=code_of(app))) == (403, "no_account")
    with app.app_context():
        assert db.session.get(User, 3) is None


def test_a_page_of_the_host_creates_the_account(make_site: MakeSite) -> None:
    def add_page(app: Flask) -> None:
        smsverify = app.extensions["test_smsverify"]

        @app.post("/welcome")
        def welcome() -> str:
            user = User(note="chosen on the page")
            db.session.add(user)
            token = session.pop("smsverify_proof_token")
            smsverify.verifier.claim(token, user, purpose="sign_in")
            db.session.commit()
            flask_login.login_user(user)
            return "welcome"

    app = make_site(add_views=add_page, SMSVERIFY_SIGN_UP_URL="/welcome")
    client = browser(app, None)
    answer = sign_in(app, client, NEW_TYPED, next="/orders?a=1")
    assert answer.location == "/welcome?next=%2Forders%3Fa%3D1"
    assert client.get("/me").text == "nobody"
    assert client.post("/welcome").text == "welcome"
    assert client.get("/me").text == "3"
    assert client.get("/guarded").text == "guarded"
    # A known number does not go there.
    known = browser(app, None)
    assert sign_in(app, known, OWN_TYPED).location == "/"


def test_only_the_page_of_the_host_creates_an_account_where_there_is_no_factory(
    make_site: MakeSite,
) -> None:
    """The account may be deleted after the number was looked up."""
    app = make_site(SMSVERIFY_SIGN_UP=True, SMSVERIFY_SIGN_UP_URL="/welcome")
    sign_in_of = app.extensions["smsverify"].sign_in
    with app.app_context():
        challenge = sign_in_of.start(OTHER, channel="sms", ip=None, device=None)
        proof = sign_in_of.check(challenge, code_of(app), ip=None)
        assert sign_in_of.can_sign_up
        with pytest.raises(NoAccount):
            sign_in_of.enter(proof)


def test_a_sign_up_does_not_begin_again_because_another_number_was_proved_meanwhile(
    make_site: MakeSite,
) -> None:
    app = make_site(sign_up=True)
    asked: list[str] = []

    def prove_another() -> None:
        with app.app_context():
            app.extensions["smsverify"].verifier.mark_verified(db.session.get(User, 2), by="staff")

    @app.extensions["test_smsverify"].user_by_mobile
    def look_up(mobile: str) -> None:
        asked.append(mobile)
        rival = threading.Thread(target=prove_another)
        rival.start()
        rival.join()

    client = browser(app, None)
    sign_in(app, client, NEW_TYPED)
    assert client.get("/me").text == "3"
    assert asked == [OTHER]


def test_a_number_that_another_row_of_the_host_holds_is_taken(
    make_site: MakeSite, sqlite: str
) -> None:
    """The row was never verified, so the sign-in does not enter it."""
    app = make_site(sign_up=True)
    with app.app_context():
        db.session.execute(db.text("CREATE UNIQUE INDEX one_mobile ON host_user (mobile)"))
        db.session.get(User, 2).mobile = OTHER
        db.session.commit()
    client = browser(app, None)
    api(client, SIGN_IN, mobile=NEW_TYPED)
    assert problem_of(api(client, SIGN_IN_CHECK, code=code_of(app))) == (409, "mobile_taken")
    assert client.get("/me").text == "nobody"


def test_a_factory_that_returns_no_user_is_an_error_of_the_host(make_site: MakeSite) -> None:
    app = make_site()
    app.extensions["test_smsverify"].user_factory(lambda _mobile: None)
    client = browser(app, None)
    api(client, SIGN_IN, mobile=NEW_TYPED)
    with pytest.raises(ConfigurationError, match="user_factory must return a User"):
        api(client, SIGN_IN_CHECK, code=code_of(app))


# --- the host's own check ----------------------------------------------------------------------


def test_the_host_may_refuse_a_send(make_site: MakeSite) -> None:
    app = make_site()
    asked: list[tuple[str, str]] = []

    @app.extensions["test_smsverify"].before_anonymous_send
    def captcha(mobile: str, channel: str) -> None:
        asked.append((mobile, channel))
        if len(asked) < 3:
            raise SendRefused("Solve the captcha.")

    client = browser(app, None)
    answer = api(client, SIGN_IN, mobile=OWN_TYPED)
    assert problem_of(answer) == (403, "send_refused")
    assert json.loads(answer.text)["reason"] == "Solve the captcha."
    client.post(SIGN_IN, data={"mobile": OWN_TYPED})
    page = client.get(SIGN_IN, headers=ENGLISH)
    assert error_of(page) == "The code was not sent"
    assert "Solve the captcha." in page.text
    assert 'name="mobile"' in page.text
    with app.app_context():
        count = db.session.scalar(
            db.select(db.func.count())
            .select_from(db.metadata.tables[Challenge.__tablename__])
            .filter_by(purpose="sign_in")
        )
    assert count == 0
    sign_in(app, client, OWN_TYPED)
    assert asked == [(OWN, "sms")] * 3


@pytest.mark.parametrize(
    ("left", "is_replaced"),
    [
        (timedelta(minutes=1), False),
        (timedelta(minutes=1, milliseconds=-1), True),
        (timedelta(0), True),
    ],
)
def test_the_host_is_asked_before_a_code_is_replaced(
    make_site: MakeSite, left: timedelta, is_replaced: bool
) -> None:
    app = make_site()
    asked: list[str] = []
    app.extensions["test_smsverify"].before_anonymous_send(lambda mobile, _: asked.append(mobile))
    with app.app_context():
        flow = flow_of(app)
    client = browser(app, None)
    api(client, SIGN_IN, mobile=OWN_TYPED)
    first = challenge_of(client)
    flow.state.workers.wait()
    with app.app_context():
        flow.clock.now = flow.verifier.load(first).expires_at - left
    assert api(client, SIGN_IN).status_code == 200
    assert (challenge_of(client) != first) is is_replaced
    assert asked == ([OWN, OWN] if is_replaced else [OWN])


def challenge_of(client: FlaskClient) -> str:
    """Return the id of the challenge of a client's session."""
    with client.session_transaction() as kept:
        found: str = kept["_smsverify_sign_in"]["challenge"]
    return found


def test_a_resend_replaces_no_challenge_whose_last_guess_was_used_meanwhile(
    make_site: MakeSite,
) -> None:
    """A parallel guess must not lead to a new code that the host was not asked about."""
    app = make_site(SMSVERIFY_RESEND_DELAYS=(0,))
    with app.app_context():
        flow = flow_of(app)
        read_before = flow.state.sign_in.start(OWN, channel="sms", ip=None, device=None)
        for _ in range(5):
            with pytest.raises(WrongCode):
                flow.check(read_before, flow.wrong(read_before))
        with pytest.raises(NoChallenge):
            flow.state.sign_in.resend(read_before, channel="sms", ip=None, device=None)
        flow.state.workers.wait()
