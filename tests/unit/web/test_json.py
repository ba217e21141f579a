"""The JSON interface: bodies, media types, statuses and problem codes."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import MakeApp
from flask import Flask
from flask.testing import FlaskClient
from hostapp import User, db
from visiting import (
    CHECK,
    CONFIRM,
    MOBILE,
    OTHER,
    PAGE,
    SEND,
    STATUS,
    age,
    api,
    browser,
    error_of,
    expire_codes,
    forget_limits,
    last_code,
    mobile_in_host,
    phone,
    prove,
    set_user,
    statements,
    store_down,
    transactions,
    wrong,
)
from werkzeug.test import TestResponse

from flask_smsverify.errors import Rejected, Unavailable, Unknown
from flask_smsverify.web.demands import dump_demand

JSON = {"Accept": "application/json"}


def problem(answer: TestResponse, status: int, code: str, **more: Any) -> dict[str, Any]:
    """Check the members that every problem has, and return its body."""
    body: dict[str, Any] = json.loads(answer.text)
    assert (answer.status_code, body["code"]) == (status, code), body
    assert answer.mimetype == "application/problem+json"
    assert body["status"] == status
    assert body["type"].endswith(code)
    assert body["title"]
    assert body["detail"]
    assert isinstance(body["final"], bool)
    assert answer.headers.get("Retry-After") == (
        str(body["retry_after"]) if "retry_after" in body else None
    )
    for name, value in more.items():
        assert body[name] == value
    return body


def moment(text: str) -> datetime:
    """Parse a time of the interface: UTC, ending in Z, in whole seconds."""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text)
    return datetime.fromisoformat(text)


def test_a_send_returns_the_pending_state_with_its_times(app: Flask, client: FlaskClient) -> None:
    before = datetime.now(UTC)
    answer = api(client, SEND, next="/orders/new")
    after = datetime.now(UTC)
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    body = answer.json
    expires, resend = moment(body.pop("expires_at")), moment(body.pop("resend_at"))
    assert before + timedelta(seconds=598) <= expires <= after + timedelta(seconds=601)
    assert before + timedelta(seconds=29) <= resend <= after + timedelta(seconds=32)
    expected = {
        "state": "pending",
        "mobile": "+98912•••0001",
        "channel": "sms",
        "attempts_left": 5,
        "delivery": "sent",
        "next": "/orders/new",
    }
    assert {name: body[name] for name in expected} == expected


def test_a_right_code_returns_verified(app: Flask, client: FlaskClient) -> None:
    api(client, SEND)
    answer = api(client, CHECK, code=last_code(app), next="/orders/new")
    assert answer.status_code == 200
    body = answer.json
    assert (body["state"], body["next"]) == ("verified", "/orders/new")
    assert moment(body["expires_at"]) > datetime.now(UTC) + timedelta(days=89)
    assert client.get(STATUS).json["state"] == "verified"
    assert api(client, SEND).json["state"] == "verified"
    assert len(phone(app).messages) == 1


def test_resend_at_is_never_too_early(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite)
    client = browser(app)
    until = moment(api(client, SEND).json["resend_at"])
    app.extensions["smsverify"].clock.source = lambda: until
    assert api(client, SEND).status_code == 200


def test_the_status_is_json_for_every_client(app: Flask, client: FlaskClient) -> None:
    for accept in ("text/html", "*/*", "application/json", ""):
        answer = client.get(STATUS, headers={"Accept": accept})
        assert (answer.status_code, answer.mimetype) == (200, "application/json")
        assert answer.json["state"] == "unverified"
        refused = browser(app, None).get(STATUS, headers={"Accept": accept})
        problem(refused, 401, "login_required")
    with store_down(app):
        problem(client.get(STATUS, headers={"Accept": "text/html"}), 503, "store_unavailable")


@pytest.mark.parametrize("path", [PAGE, MOBILE])
def test_a_program_that_requests_a_page_gets_the_status(
    app: Flask, client: FlaskClient, path: str
) -> None:
    client.post(CHECK, data={"code": "1"})
    query = {"next": "/guarded"}
    answer = client.get(path, query_string=query, headers=JSON)
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert answer.json == client.get(STATUS, query_string=query).json
    assert answer.json["state"] == "unverified"
    assert "csrf_token" in answer.json
    shown = client.get(path, headers={"Accept": "text/html", "Accept-Language": "en"})
    assert error_of(shown) == "There is no active code", "the program did not consume it"
    prove(app, client)
    answer = client.get(path, query_string=query, headers=JSON)
    assert (answer.status_code, answer.json["state"]) == (200, "verified")


def test_a_client_that_prefers_json_to_html_gets_json(client: FlaskClient) -> None:
    programs = [
        {"Accept": "application/json"},
        {"Accept": "application/problem+json"},
        {"Accept": "application/json, text/plain, */*"},  # what axios sends
        {"Accept": "application/json;q=0.5, text/html;q=0.4"},
    ]
    browsers = [
        {"Accept": "*/*"},
        {"Accept": ""},
        {},
        {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
        {"Accept": "text/html, application/json"},
    ]
    for headers in programs + browsers:
        program = headers in programs
        answer = client.post(CHECK, data={"code": "123456"}, headers=headers)
        assert answer.status_code == (404 if program else 303), headers
        stopped = client.get("/guarded", headers=headers)
        assert stopped.status_code == (403 if program else 302), headers


def test_a_client_that_sends_json_gets_json(client: FlaskClient) -> None:
    answer = client.post(CHECK, json={"code": "1"}, headers={"Accept": "text/html"})
    problem(answer, 404, "no_challenge")
    answer = client.post(CHECK, data="{}", content_type="application/vnd.api+json")
    problem(answer, 404, "no_challenge")


def test_a_guards_problem_contains_the_url_of_the_page(client: FlaskClient) -> None:
    body = problem(client.get("/guarded?a=1", headers=JSON), 403, "verification_required")
    assert body["verify_url"] == "/verify-mobile/?next=/guarded?a%3D1"


def test_wrong_codes_reduce_the_attempts_until_there_are_too_many(
    app: Flask, client: FlaskClient
) -> None:
    api(client, SEND)
    right = last_code(app)
    for left in (4, 3, 2, 1, 0):
        answer = api(client, CHECK, code=wrong(right))
        problem(answer, 422, "wrong_code", attempts_left=left, final=False)
    for code in (right, wrong(right), right):
        body = problem(api(client, CHECK, code=code), 429, "too_many_attempts", final=False)
        assert isinstance(body["retry_after"], int)
        assert body["retry_after"] >= 1


INVALID = [
    "+123456",
    "123_456",
    "12345",
    "1234567",
    "abcdef",
    "",
    "123\x00456",
    "१२३४५",
    "½½½½½½",
    "\ud800" * 6,
    ["1", "2", "3", "4", "5", "6"],
    {"code": "123456"},
    None,
    True,
    123456,
    1.5,
    "1" * 1_000_000,
    " " * 1_000_000,
]


def test_input_that_cannot_be_a_code_is_422_and_costs_no_attempt(client: FlaskClient) -> None:
    """Case 13 of docs/safety.md."""
    api(client, SEND)
    for code in INVALID:
        answer = api(client, CHECK, code=code)
        problem(answer, 422, "invalid_code", final=False)
    assert client.get(STATUS).json["attempts_left"] == 5


def test_a_code_that_is_no_string_is_refused_with_the_type_that_is_needed(
    client: FlaskClient,
) -> None:
    api(client, SEND)
    english = {"Accept-Language": "en"}
    for code in (123456, 1.5, True, ["123456"], {"code": "123456"}):
        answer = client.post(CHECK, json={"code": code}, headers=english).json
        assert answer["title"] == "The code must be a string", code
        assert answer["detail"].startswith("Send the code in quotes."), code


def test_a_mobile_that_is_no_string_is_refused_with_the_type_that_is_needed(
    client: FlaskClient,
) -> None:
    english = {"Accept-Language": "en"}
    for mobile in (9123450001, 1.5, True, ["09123450001"], {"to": "0912"}):
        answer = client.post(MOBILE, json={"mobile": mobile}, headers=english)
        problem(answer, 422, "invalid_mobile")
        assert answer.json["title"] == "The mobile number must be a string", mobile
        assert answer.json["detail"].startswith("Send the number in quotes."), mobile


def test_a_form_field_of_a_megabyte_is_an_invalid_code(client: FlaskClient) -> None:
    client.post(SEND)
    answer = client.post(CHECK, data={"code": "1" * 1_000_000}, headers=JSON)
    problem(answer, 422, "invalid_code")


def test_a_code_is_accepted_in_every_spelling(make_app: MakeApp, sqlite: str) -> None:
    """Case 13 of docs/safety.md."""
    shapes = ["{}{}{}{}{}{}", "{}{}{} {}{}{}", "{}{}{}-{}{}{}", " {}{}{}\u2013{}{}{}\u200f\n"]
    scripts = ["0123456789", "۰۱۲۳۴۵۶۷۸۹", "٠١٢٣٤٥٦٧٨٩", "０１２３４５６７８９"]
    spellings = list(itertools.product(shapes, scripts))
    app = make_app(sqlite, users=len(spellings))
    for user, (shape, digits) in enumerate(spellings, start=1):
        client = browser(app, user)
        api(client, SEND)
        typed = shape.format(*last_code(app).translate(str.maketrans("0123456789", digits)))
        assert api(client, CHECK, code=typed).json["state"] == "verified", repr(typed)
        forget_limits(app)


def test_a_body_that_is_not_an_object_is_an_invalid_request(
    app: Flask, client: FlaskClient
) -> None:
    bodies = [
        b"[]",
        b'"123456"',
        b"null",
        b"17",
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"code":' * 100_000,
        b'{"code": ' + b"9" * 10_000 + b"}",
        b'{"code": "' + b"1" * 3_000_000 + b'"}',
    ]
    for path, body in itertools.product((SEND, CHECK, MOBILE), bodies):
        answer = client.post(path, data=body, content_type="application/json")
        problem(answer, 422, "invalid_request")
    assert phone(app).messages == []


def test_a_form_that_is_too_large_is_an_invalid_request_with_and_without_csrf(
    app: Flask, client: FlaskClient
) -> None:
    for enabled in (False, True):
        app.config["WTF_CSRF_ENABLED"] = enabled
        answer = client.post(CHECK, data={"code": "1" * 3_000_000}, headers=JSON)
        problem(answer, 422, "invalid_request")
        assert client.post(CHECK, data={"code": "1" * 3_000_000}).status_code == 422


def test_a_smaller_max_content_length_of_the_host_applies(make_app: MakeApp, sqlite: str) -> None:
    client = browser(make_app(sqlite, MAX_CONTENT_LENGTH=1000))
    problem(api(client, CHECK, code="1" * 2000), 422, "invalid_request")


def test_a_number_that_cannot_receive_a_code_uses_no_limit(make_app: MakeApp, sqlite: str) -> None:
    """Case 23 of docs/safety.md."""
    refused = [
        (None, "mobile_required"),
        ("", "mobile_required"),
        ("no number", "invalid_mobile"),
        ("02188776655", "invalid_mobile"),  # landline
        ("9090000", "invalid_mobile"),  # short
        ("+80012345678", "invalid_mobile"),  # freephone
        ("+19005550123", "invalid_mobile"),  # premium
        ("+16502530000", "region_not_allowed"),
        ("+4915112345678", "region_not_allowed"),
        ("+870773111632", "region_not_allowed"),  # satellite
    ]
    app = make_app(sqlite, SMSVERIFY_LIMITS={"user": "1/day"})
    client = browser(app)
    for mobile, code in refused:
        set_user(app, mobile=mobile)
        final = code == "region_not_allowed"
        problem(api(client, SEND), 422, code, final=final)
        problem(api(client, MOBILE, mobile=mobile, send=True), 422, code, final=final)
    assert phone(app).messages == []
    set_user(app, mobile="09123450001")
    assert api(client, SEND).json["state"] == "pending"


def test_a_mobile_of_the_wrong_type_is_an_invalid_mobile(client: FlaskClient) -> None:
    for mobile in (9123450001, ["09123450001"], {}, True, "0" * 10_000, "\ud800", "0912\x00"):
        problem(api(client, MOBILE, mobile=mobile), 422, "invalid_mobile")


def test_an_unknown_channel_is_unavailable(app: Flask, client: FlaskClient) -> None:
    for channel in ("pigeon", "SMS", "", None, 7, ["sms"], "x" * 100_000, OTHER):
        problem(api(client, SEND, channel=channel), 422, "channel_unavailable", final=True)
    assert phone(app).messages == []


def test_a_channel_without_a_sender_is_unavailable(make_app: MakeApp, sqlite: str) -> None:
    senders = {"memory": {"gateway": "memory"}}
    app = make_app(sqlite, SMSVERIFY_SENDERS=senders, SMSVERIFY_ROUTES={"voice": []})
    problem(api(browser(app), SEND, channel="voice"), 422, "channel_unavailable")


def test_too_soon_states_the_wait(app: Flask, client: FlaskClient) -> None:
    api(client, SEND)
    body = problem(api(client, SEND), 429, "too_soon", final=False)
    assert 1 <= body["retry_after"] <= 30
    assert len(phone(app).messages) == 1


def test_a_right_code_ends_the_cooldown(app: Flask, client: FlaskClient) -> None:
    prove(app, client)
    with app.app_context():
        app.extensions["smsverify"].verifier.revoke(db.session.get(User, 1), by="support")
    assert client.get(STATUS).json["resend_at"] is None
    assert 'role="timer"' not in client.get(PAGE).text
    assert api(client, SEND).json["state"] == "pending"


def test_rate_limited_states_the_wait(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_LIMITS={"user": "1/hour"}, SMSVERIFY_RESEND_DELAYS=(1,))
    client = browser(app)
    api(client, SEND)
    body = problem(api(client, SEND), 429, "rate_limited", final=False)
    assert 1 <= body["retry_after"] <= 3900


def test_an_expired_code_is_422(app: Flask, client: FlaskClient) -> None:
    api(client, SEND)
    expire_codes(app)
    problem(api(client, CHECK, code=last_code(app)), 422, "code_expired", final=False)


def test_a_check_without_a_challenge_or_after_the_proof_is_404(
    app: Flask, client: FlaskClient
) -> None:
    problem(api(client, CHECK, code="123456"), 404, "no_challenge")
    api(client, SEND)
    api(client, CHECK, code=last_code(app))
    problem(api(client, CHECK, code=last_code(app)), 404, "no_challenge")


def test_a_locked_account_is_final_and_has_no_wait(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_CONSECUTIVE_FAILURES=2)
    client = browser(app)
    api(client, SEND)
    for _ in range(2):
        api(client, CHECK, code=wrong(last_code(app)))
    body = problem(api(client, CHECK, code=last_code(app)), 429, "account_locked", final=True)
    assert "retry_after" not in body


@pytest.mark.parametrize("error", [Unavailable("memory", "HTML"), Rejected("memory", "no")])
def test_a_send_that_every_gateway_refused_is_503(
    app: Flask, client: FlaskClient, error: Exception
) -> None:
    phone(app).fail_with(error)
    problem(api(client, SEND), 503, "send_failed", final=False)
    assert client.get(STATUS).json["state"] == "unverified"


def test_a_send_with_an_unclear_answer_has_unknown_delivery(
    app: Flask, client: FlaskClient
) -> None:
    phone(app).fail_with(Unknown("memory", "the answer was HTML"))
    answer = api(client, SEND)
    assert (answer.status_code, answer.json["delivery"]) == (200, "unknown")


@pytest.mark.parametrize("path", [SEND, CHECK, MOBILE])
def test_a_database_failure_is_503_and_sends_nothing(
    app: Flask, client: FlaskClient, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Case 25 of docs/safety.md."""
    with store_down(app):
        problem(api(client, path, mobile=OTHER, code="123456"), 503, "store_unavailable")
    assert "Traceback" not in caplog.text
    assert phone(app).messages == []


@pytest.mark.parametrize("path", [SEND, CHECK, MOBILE, PAGE, STATUS])
def test_an_anonymous_request_is_401(app: Flask, path: str) -> None:
    client = browser(app, None)
    method = client.get if path in (PAGE, STATUS) else client.post
    problem(method(path, headers=JSON), 401, "login_required", final=False)


def test_a_deleted_user_is_anonymous(app: Flask, client: FlaskClient) -> None:
    api(client, SEND)
    with app.app_context():
        db.session.delete(db.session.get(User, 1))
        db.session.commit()
    problem(api(client, CHECK, code=last_code(app)), 401, "login_required")


def test_a_change_of_number_is_unverified_pending_and_verified(
    app: Flask, client: FlaskClient
) -> None:
    prove(app, client)
    forget_limits(app)
    given = api(client, MOBILE, mobile="0935 111 2233").json
    assert (given["state"], given["mobile"]) == ("unverified", "+98935•••2233")
    assert client.get("/guarded").text == "guarded"
    sent = api(client, SEND).json
    assert (sent["state"], sent["mobile"]) == ("pending", "+98935•••2233")
    assert client.get("/guarded").text == "guarded"
    checked = api(client, CHECK, code=last_code(app)).json
    assert (checked["state"], checked["mobile"]) == ("verified", "+98912•••0001")
    assert checked["change"]["state"] == "confirming"
    confirmed = api(client, CONFIRM, code=last_code(app)).json
    assert (confirmed["state"], confirmed["mobile"]) == ("verified", "+98935•••2233")
    assert "change" not in confirmed
    assert client.get(STATUS).json["state"] == "verified"


def test_keep_cancels_a_change_of_number(app: Flask, client: FlaskClient) -> None:
    prove(app, client)
    forget_limits(app)
    api(client, MOBILE, mobile=OTHER, send=True)
    body = api(client, MOBILE, keep=True).json
    assert (body["state"], body["mobile"]) == ("verified", "+98912•••0001")
    assert client.get(STATUS).json["state"] == "verified"


def test_a_mobile_with_send_gets_its_code_immediately(app: Flask, client: FlaskClient) -> None:
    body = api(client, MOBILE, mobile=OTHER, send=True).json
    assert (body["state"], body["mobile"]) == ("pending", "+98935•••2233")
    assert phone(app).last.to == OTHER


def test_a_new_mobile_after_a_send_is_not_pending(app: Flask, client: FlaskClient) -> None:
    api(client, SEND)
    body = api(client, MOBILE, mobile=OTHER).json
    assert (body["state"], body["attempts_left"]) == ("unverified", None)


def test_an_aged_proof_is_expired(app: Flask, client: FlaskClient) -> None:
    prove(app, client)
    age(app, timedelta(days=91))
    assert client.get(STATUS).json["state"] == "expired"


def test_an_exempt_user_is_exempt(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_EXEMPT_GROUPS=["staff"])
    set_user(app, group="staff")
    client = browser(app)
    assert client.get(STATUS).json["state"] == "exempt"
    assert api(client, SEND).json["state"] == "exempt"
    assert phone(app).messages == []


def test_an_exempt_user_may_still_prove_a_number(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_EXEMPT_GROUPS=["staff"])
    set_user(app, group="staff")
    client = browser(app)
    given = api(client, MOBILE, mobile=OTHER).json
    assert (given["state"], given["exempt"]) == ("unverified", True)
    assert given["mobile"] == "+98935•••2233"
    assert (
        "Send the code by text message" in client.get(PAGE, headers={"Accept-Language": "en"}).text
    )
    assert client.get("/guarded").text == "guarded"
    assert api(client, SEND).json["state"] == "pending"
    assert 'name="code"' in client.get(PAGE).text
    checked = api(client, CHECK, code=last_code(app)).json
    assert (checked["state"], checked["mobile"]) == ("exempt", "+98935•••2233")
    with app.app_context():
        assert db.session.get(User, 1).mobile == OTHER


def test_a_problem_is_in_the_language_of_the_client(client: FlaskClient) -> None:
    persian = client.post(CHECK, json={}, headers={"Accept-Language": "fa"})
    assert "کد" in json.loads(persian.text)["title"]
    other = client.post(CHECK, json={}, headers={"Accept-Language": "en"})
    assert json.loads(other.text)["title"] == "There is no active code"


def test_a_change_of_number_keeps_showing_the_verified_mobile(
    app: Flask, client: FlaskClient
) -> None:
    prove(app, client)
    body = api(client, MOBILE, mobile="09351112233").get_json()
    assert (body["state"], body["mobile"]) == ("unverified", "+98935•••2233")
    assert body["verified_mobile"] == "+98912•••0001"
    assert client.get("/guarded").text == "guarded"
    body = api(client, MOBILE, keep=True).get_json()
    assert (body["state"], body["mobile"]) == ("verified", "+98912•••0001")


@pytest.mark.parametrize(
    ("send", "sent"), [(True, 1), ("1", 1), (False, 0), ("false", 0), ("0", 0), (None, 0), ([], 0)]
)
def test_a_mobile_gets_a_code_only_if_send_is_true(
    app: Flask, client: FlaskClient, send: object, sent: int
) -> None:
    assert api(client, MOBILE, mobile="09351112233", send=send).status_code == 200
    assert len(phone(app).messages) == sent


def test_a_request_reads_nothing_twice(app: Flask, client: FlaskClient) -> None:
    """The transaction of the write reads what its decision needs; the answer is what it wrote."""
    app.extensions["smsverify"].ledger.identify()

    def counted(request: Callable[[], TestResponse]) -> tuple[int, int]:
        with transactions(app) as ended, statements(app) as seen:
            request()
        return len(ended), len(seen)

    assert counted(lambda: client.get(STATUS)) == (1, 1)
    assert counted(lambda: client.get(PAGE)) == (1, 1)
    assert counted(lambda: api(client, SEND)) == (2, 9)
    assert client.get(STATUS).get_json()["state"] == "pending"
    assert counted(lambda: client.get(STATUS)) == (1, 1)
    assert counted(lambda: client.get(PAGE)) == (1, 1)
    code = last_code(app)
    assert counted(lambda: api(client, CHECK, code=wrong(code))) == (1, 5)
    assert counted(lambda: api(client, CHECK, code=code)) == (1, 4)
    assert client.get(STATUS).get_json()["state"] == "verified"
    assert counted(lambda: client.get(STATUS)) == (1, 1)
    assert counted(lambda: api(client, SEND)) == (0, 1)  # nothing is left to send


def test_the_limits_of_frequent_selects_are_no_parameters(app: Flask, client: FlaskClient) -> None:
    """PostgreSQL would plan such a SELECT each time once its table is large."""
    prove(app, client)
    forget_limits(app)
    with statements(app) as seen:
        api(client, MOBILE, mobile=OTHER, send=True)
        api(client, CHECK, code=wrong(last_code(app)))
        client.get(STATUS)
    limited = [statement for statement in seen if "LIMIT" in statement]
    assert len(limited) >= 4
    assert [statement for statement in limited if re.search(r"LIMIT\W+[?%:$]", statement)] == []


def test_a_browsers_post_has_only_the_transactions_that_write(
    app: Flask, client: FlaskClient
) -> None:
    app.extensions["smsverify"].ledger.identify()
    with transactions(app) as ended:
        client.post(SEND)
    assert len(ended) == 2
    with transactions(app) as ended:
        client.post(CHECK, data={"code": wrong(last_code(app))})
    assert len(ended) == 1
    with transactions(app) as ended:
        client.post(CHECK, data={"code": last_code(app)})
    assert len(ended) == 1


@pytest.mark.parametrize("within", [None, timedelta(hours=1)])
def test_the_response_to_a_right_code_is_the_status_that_is_read_afterwards(
    app: Flask, client: FlaskClient, within: timedelta | None
) -> None:
    with app.app_context():
        demand = dump_demand("1", within) if within else ""
    api(client, SEND)
    answer = api(client, CHECK, code=last_code(app), demand=demand).get_json()
    status = client.get(STATUS, query_string={"demand": demand}).get_json()
    del status["csrf_token"]
    assert answer == status


def test_the_response_to_a_send_is_the_status_that_is_read_afterwards(
    app: Flask, client: FlaskClient
) -> None:
    def send_and_compare(path: str = SEND, **body: str) -> dict[str, Any]:
        answer = api(client, path, **body).get_json()
        status = client.get(STATUS).get_json()
        del status["csrf_token"]
        assert answer == status
        return answer  # type: ignore[no-any-return]  # a JSON object

    assert send_and_compare()["delivery"] == "sent"
    forget_limits(app)
    phone(app).fail_with(Unknown("memory", "the answer was HTML"))
    assert send_and_compare()["delivery"] == "unknown"  # the same code again
    forget_limits(app)
    assert send_and_compare(MOBILE, mobile=OTHER, send="1")["state"] == "pending"  # another number
    prove(app, client)
    forget_limits(app)
    third = "+989121110000"
    assert send_and_compare(MOBILE, mobile=third, send="1")["state"] == "pending"  # a change
    api(client, CHECK, code=last_code(app))
    forget_limits(app)
    assert send_and_compare(CONFIRM)["change"]["state"] == "confirming"


def test_a_user_who_changed_a_number_is_read_before_a_send(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_REVALIDATION_DAYS=90)
    client = browser(app)
    prove(app, client)
    api(client, MOBILE, mobile=OTHER, send="1")
    api(client, CHECK, code=last_code(app))
    api(client, CONFIRM, code=last_code(app))
    assert mobile_in_host(app) == OTHER
    age(app, timedelta(days=91))
    forget_limits(app)
    sent = api(client, SEND).get_json()
    assert (sent["state"], sent["mobile"]) == ("pending", "+98935•••2233")
    with transactions(app) as ended:
        checked = api(client, CHECK, code=last_code(app)).get_json()
    assert (checked["state"], len(ended)) == ("verified", 2)


def test_the_response_to_a_send_shows_an_open_change(app: Flask, client: FlaskClient) -> None:
    prove(app, client)
    api(client, MOBILE, mobile=OTHER, send="1")
    api(client, CHECK, code=last_code(app))  # the change waits for the old number
    api(client, MOBILE, keep=True)
    age(app, timedelta(days=91))
    forget_limits(app)
    sent = api(client, SEND).get_json()
    assert (sent["mobile"], sent["change"]["state"]) == ("+98912•••0001", "confirming")


def test_a_user_who_became_exempt_after_the_send_stays_exempt_after_the_check(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, SMSVERIFY_EXEMPT_GROUPS=["staff"])
    client = browser(app)
    api(client, SEND)
    set_user(app, group="staff")
    checked = api(client, CHECK, code=last_code(app)).get_json()
    assert (checked["state"], checked["exempt"]) == ("exempt", True)


def test_a_send_that_finds_the_user_verified_under_its_locks_sends_nothing(
    app: Flask, client: FlaskClient
) -> None:
    """A parallel request has checked the code between the load of the user and the transaction."""
    issuer = app.extensions["smsverify"].verifier.user_codes._issuer
    issue = issuer.issue

    def issue_late(*arguments: Any, **options: Any) -> Any:
        issuer.issue = issue
        prove(app, browser(app))
        return issue(*arguments, **options)

    issuer.issue = issue_late
    answer = api(client, SEND)
    assert (answer.status_code, answer.get_json()["state"]) == (200, "verified")
    assert len(phone(app).messages) == 1


def test_a_verified_user_needs_no_sender_for_the_channel(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_ROUTES={"voice": []})
    client = browser(app)
    prove(app, client)
    assert api(client, SEND, channel="voice").get_json()["state"] == "verified"
    assert api(client, SEND, channel="fax").get_json()["state"] == "verified"


def test_a_verified_user_needs_no_free_write_lock_of_sqlite(make_app: MakeApp, sqlite: str) -> None:
    """The host writes before each view, and commits after it."""
    app = make_app(sqlite)
    written: list[str] = []

    @app.before_request
    def write() -> None:
        if written:
            db.session.get(User, 1).note = written[-1]
            db.session.flush()

    client = browser(app)
    prove(app, client)
    written.append("seen")
    assert api(client, SEND).get_json()["state"] == "verified"
    age(app, timedelta(days=91))
    assert api(client, SEND).status_code == 503
