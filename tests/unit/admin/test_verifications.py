"""The staff's list of verifications: what it shows, search by code, and the actions."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import staff
from flask import Flask
from flask.testing import FlaskClient
from leaks import LONG_CODES
from staff import ADMIN, JSON, audited, listed, logged_in
from visiting import last_code, phone, wrong

from flask_smsverify.admin.csv_export import safe_cell
from flask_smsverify.i18n.catalogue import available_locales
from flask_smsverify.testing import outbox
from flask_smsverify.web.interface import current_ui

MakeStaffApp = Callable[..., Flask]
LIST = f"{ADMIN}/verifications"


def act(client: FlaskClient, action: str, user: object, **body: Any) -> Any:
    return client.post(f"{LIST}/{user}/{action}", json=body)


def send_code(app: Flask, user: int) -> str:
    """Let a user ask for a code, and return it."""
    logged_in(app, user).post("/verify-mobile/send")
    return last_code(app)


def test_an_item_has_the_mobile_whole_and_the_state_of_the_user(
    app: Flask, client: FlaskClient
) -> None:
    code = send_code(app, 3)
    [item] = listed(client, "/verifications")
    assert {name: item[name] for name in ("user_id", "email", "mobile", "state")} == {
        "user_id": "3",
        "email": "user3@example.com",
        "mobile": "+989123450003",
        "state": "pending",
    }
    assert item["verified_at"] is None
    assert item["last_sent_at"].endswith("Z")
    assert len(listed(client, "/verifications", state="pending")) == 1
    logged_in(app, 3).post("/verify-mobile/check", data={"code": code})
    assert listed(client, "/verifications", state="pending") == []
    [item] = listed(client, "/verifications")
    assert (item["state"], item["channel"]) == ("verified", "sms")
    assert item["expires_at"] > item["verified_at"]


def test_the_lifecycle_of_a_user_is_one_audit_row_for_each_change(
    app: Flask, client: FlaskClient
) -> None:
    def state_of(user: int) -> str:
        [item] = listed(client, "/verifications", q=f"user{user}@")
        state: str = item["state"]
        return state

    assert act(client, "verify", 3).json == {"done": ["3"], "failed": []}
    assert state_of(3) == "verified"
    assert [item["user_id"] for item in listed(client, "/verifications", state="verified")] == ["3"]
    assert act(client, "revoke", 3).status_code == 200
    assert state_of(3) == "unverified"
    assert [item["user_id"] for item in listed(client, "/verifications", state="revoked")] == ["3"]
    assert act(client, "resend", 3).status_code == 200
    assert state_of(3) == "pending"
    assert phone(app).last.to == "+989123450003"
    assert act(client, "unlock", 3).status_code == 200
    assert act(client, "delete", 3).status_code == 200
    assert listed(client, "/verifications") == []
    assert audited(app) == [
        ("1", action, "3") for action in ("verify", "revoke", "send_code", "unlock", "delete")
    ]
    items = listed(client, "/audit")
    assert [item["action"] for item in items] == [
        "delete",
        "unlock",
        "send_code",
        "revoke",
        "verify",
    ]
    assert (items[0]["who"], items[0]["subject"]) == ("1", "3")


def test_a_locked_user_is_listed_and_unlocked(make_staff_app: Any) -> None:
    app = make_staff_app(SMSVERIFY_CONSECUTIVE_FAILURES=2)
    client = logged_in(app)
    code = send_code(app, 3)
    visitor = logged_in(app, 3)
    for _ in range(2):
        visitor.post("/verify-mobile/check", data={"code": wrong(code)})
    [item] = listed(client, "/verifications", state="locked")
    assert (item["user_id"], item["locked"]) == ("3", True)
    assert "locked" in client.get(f"{ADMIN}/", headers=JSON).text
    act(client, "unlock", 3)
    assert listed(client, "/verifications", state="locked") == []


def test_a_search_keeps_to_the_state_and_the_days_that_are_chosen(
    app: Flask, client: FlaskClient
) -> None:
    def found(**query: str) -> set[str]:
        return {item["user_id"] for item in listed(client, "/verifications", **query)}

    act(client, "verify", 3)
    send_code(app, 4)
    for search, user in (("user3@", "3"), ("0003", "3"), ("09123450003", "3"), ("3", "3")):
        assert found(q=search) == {user}, search
        assert found(q=search, state="verified") == {user}, search
        for state in ("unverified", "expired", "pending", "locked", "revoked"):
            assert found(q=search, state=state) == set(), (search, state)
        assert found(q=search, **{"from": "2020-01-01"}) == {user}
        assert found(q=search, to="2020-01-01") == set()
        assert found(q=search, state="verified", to="2020-01-01") == set()
    assert found(q="user", state="pending") == {"4"}
    assert found(q="user", state="unverified") == {"1", "2", "4"}
    act(client, "revoke", 3)
    assert found(q="user", state="revoked") == {"3"}


def test_a_refused_action_changes_nothing_and_is_not_in_the_audit(
    app: Flask, client: FlaskClient
) -> None:
    answer = act(client, "verify", 99)
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    with app.app_context():
        staff.db.session.get(staff.StaffUser, 4).mobile = "12"
        staff.db.session.commit()
    answer = act(client, "verify", 4)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_mobile")
    assert act(client, "resend", 3).status_code == 200
    answer = act(client, "resend", 3)
    assert (answer.status_code, answer.json["code"]) == (429, "too_soon")
    assert audited(app) == [("1", "send_code", "3")]


def test_an_action_on_many_users_lists_which_failed(app: Flask, client: FlaskClient) -> None:
    answer = client.post(f"{LIST}/verify", json={"user_ids": ["3", "99", "4"]})
    assert answer.status_code == 200
    assert answer.json["done"] == ["3", "4"]
    [failed] = answer.json["failed"]
    assert (failed["id"], failed["code"]) == ("99", "not_found")
    assert audited(app) == [("1", "verify", "3"), ("1", "verify", "4")]
    none = client.post(f"{LIST}/verify", json={})
    assert (none.status_code, none.json["code"]) == (422, "invalid_values")


def test_a_browser_returns_to_its_list_with_a_notice(client: FlaskClient) -> None:
    here = f"http://localhost{LIST}?q=user3"
    answer = client.post(f"{LIST}/3/verify", headers={"Referer": here})
    assert (answer.status_code, answer.location) == (303, f"{LIST}?q=user3")
    assert "The number is marked as confirmed." in client.get(answer.location).text
    assert "The number is marked as confirmed." not in client.get(answer.location).text
    away = client.post(f"{LIST}/99/verify", headers={"Referer": "https://elsewhere.example/"})
    assert away.location == f"{ADMIN}/"
    assert "Not found" in client.get(away.location).text


def test_a_deleted_user_of_the_host_can_still_be_erased(app: Flask, client: FlaskClient) -> None:
    act(client, "verify", 4)
    with app.app_context():
        staff.db.session.delete(staff.db.session.get(staff.StaffUser, 4))
        staff.db.session.commit()
    assert [item["mobile"] for item in listed(client, "/verifications")] == ["+989123450004"]
    assert act(client, "resend", 4).status_code == 404
    assert act(client, "delete", 4).status_code == 200
    assert listed(client, "/verifications") == []


# --- search by code ----------------------------------------------------------------------------


def test_an_open_code_finds_who_was_sent_it_until_it_is_used(
    make_staff_app: MakeStaffApp,
) -> None:
    app = make_staff_app(**LONG_CODES)
    client = logged_in(app)
    code = send_code(app, 3)
    found = client.post(LIST, json={"q": code})
    assert [item["user_id"] for item in found.json["items"]] == ["3"]
    assert found.json["next"] is None
    spelled = code[:3] + " " + code[3:].translate(str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹"))
    assert len(client.post(LIST, json={"q": spelled}).json["items"]) == 1
    assert client.post(LIST, json={"q": wrong(code)}).json["items"] == []
    logged_in(app, 3).post("/verify-mobile/check", data={"code": code})
    assert client.post(LIST, json={"q": code}).json["items"] == []
    assert audited(app) == [("1", "verifications", "")] * 4
    assert code not in client.get(f"{ADMIN}/audit", headers=JSON).text


def test_a_code_for_a_number_without_an_account_is_found(app: Flask, client: FlaskClient) -> None:
    with app.app_context():
        state = app.extensions["smsverify"]
        state.verifier.start_for("09351112233", purpose="sign-up")
        state.workers.wait()
    [item] = client.post(LIST, json={"q": last_code(app)}).json["items"]
    assert (item["user_id"], item["mobile"]) == (None, "+989351112233")


def test_codes_are_searched_at_most_thirty_times_an_hour_by_one_person(
    app: Flask, client: FlaskClient
) -> None:
    with outbox(app) as box:
        for _ in range(30):
            assert client.post(LIST, json={"q": "000000"}).status_code == 200
        refused = client.post(LIST, json={"q": "000000"})
        assert (refused.status_code, refused.json["code"]) == (429, "rate_limited")
        assert 3500 < refused.json["retry_after"] <= 3600
        assert len(audited(app)) == 30
        box.advance(timedelta(hours=1, seconds=1))
        assert client.post(LIST, json={"q": "000000"}).status_code == 200


@pytest.mark.parametrize(
    ("typed", "error"),
    [
        ("12", "The code is too short."),
        ("x", "The code must contain only digits."),
        ("", "Enter the code."),
    ],
)
def test_a_search_for_what_is_no_code_is_explained_without_attempts(
    client: FlaskClient, typed: str, error: str
) -> None:
    page = client.post(LIST, data={"q": typed})
    assert page.status_code == 422
    assert f'id="sv-code-search-error">{error}<' in page.text
    assert "attempt" not in page.text
    answer = client.post(LIST, json={"q": typed})
    assert (answer.status_code, answer.json["errors"]) == (422, {"q": error})


def test_the_last_code_of_a_user_is_not_one_that_another_user_was_sent(
    app: Flask, client: FlaskClient
) -> None:
    state = app.extensions["smsverify"]
    with app.app_context():
        user = staff.db.session.get(staff.StaffUser, 3)
        state.verifier.start(user, mobile="09123450004")
    state.workers.wait()
    assert act(client, "verify", 3).status_code == 200
    assert act(client, "verify", 4).status_code == 200
    [other] = listed(client, "/verifications", q="user4@")
    assert (other["mobile"], other["last_sent_at"]) == ("+989123450004", None)
    state.limit_report.reset_all()
    assert act(client, "resend", 4).status_code == 200
    [other] = listed(client, "/verifications", q="user4@")
    assert other["last_sent_at"] is not None


def test_the_activity_names_a_code_and_a_revoked_verification(
    app: Flask, client: FlaskClient
) -> None:
    for action in ("resend", "verify", "revoke"):
        act(client, action, 3)
    page = client.get(f"{ADMIN}/audit").text
    assert [label in page for label in ("Sent a code", "Revoked a verification")] == [True] * 2
    assert "Sent again" not in page


def test_read_only_staff_cannot_search_by_code(app: Flask) -> None:
    assert logged_in(app, 2).post(LIST, json={"q": "123456"}).status_code == 403


def test_a_browser_sees_the_result_of_a_search_by_code(app: Flask, client: FlaskClient) -> None:
    code = send_code(app, 3)
    page = client.post(LIST, data={"q": code})
    assert page.status_code == 200
    assert "user3@example.com" in page.text


# --- CSV, and values of the query --------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1"]
)
def test_a_cell_that_a_spreadsheet_takes_for_a_formula_is_text(value: str) -> None:
    assert safe_cell(value) == f"'{value}"


def test_an_export_has_every_row_and_no_formula(app: Flask, client: FlaskClient) -> None:
    with app.app_context():
        staff.db.session.get(staff.StaffUser, 3).email = '=HYPERLINK("http://x.example")'
        staff.db.session.commit()
    client.post(f"{LIST}/verify", json={"ids": ["3", "4"]})
    answer = client.get(LIST, query_string={"format": "csv", "limit": 1})
    assert answer.mimetype == "text/csv"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="verifications.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))
    assert {row["user_id"] for row in rows} == {"3", "4"}
    assert {row["mobile"] for row in rows} == {"'+989123450003", "'+989123450004"}
    assert {row["email"][0] for row in rows} == {"'", "u"}


def test_wrong_parameters_of_a_list_are_problems(client: FlaskClient) -> None:
    for query in (
        {"state": "happy"},
        {"from": "yesterday"},
        {"to": "2026-13-01"},
        {"from": "1404-12-30"},  # no day of that year; as a Gregorian one it would match every row
        {"from": "1404-01-01T10:00"},
        {"from": "1404/01/01 24:00"},
        {"to": "9999-12-31 23:59 PST"},
        {"to": "9999-12-31"},
        {"to": "9999-12-31T23:59-12:00"},
        {"from": "99999999999999999999-1-1"},
        {"limit": "0"},
        {"limit": "x"},
        {"after": "!"},
        {"after": "W10"},
        {"after": "WzEsMl0"},
        {"q": "x" * 300},
    ):
        answer = client.get(LIST, query_string=query, headers=JSON)
        assert (answer.status_code, answer.json["code"]) == (422, "invalid_values")
        assert list(answer.json["errors"]) == list(query), query
        assert client.get(LIST, query_string=query).status_code == 422, query


def test_a_persian_day_without_the_extra_is_refused_with_what_it_needs(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "persiantools.jdatetime", None)
    for day in ("1404/11/11", "1404-11-11", "۱۴۰۴/۱۱/۱۱"):
        answer = client.get(LIST, query_string={"from": day}, headers=JSON)
        assert answer.status_code == 422
        assert answer.json["errors"]["from"] == (
            "Dates of the Persian calendar need the extra `fa`. Enter a date such as 2026-01-31."
        )


def test_days_are_read_in_both_calendars_and_in_the_readers_time_zone(
    app: Flask, client: FlaskClient
) -> None:
    act(client, "verify", 3)
    now = app.extensions["smsverify"].clock()
    tehran = (now + timedelta(hours=3, minutes=30)).date()
    for language in available_locales():
        client.environ_base["HTTP_ACCEPT_LANGUAGE"] = language
        assert len(listed(client, "/verifications", to="1390/01/01")) == 0
        assert len(listed(client, "/verifications", **{"from": "۱۳۹۰/۱/۱"})) == 1
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "fa"
    assert len(listed(client, "/verifications", **{"from": tehran.isoformat()})) == 1
    assert len(listed(client, "/verifications", to=tehran.isoformat())) == 1
    after = (tehran + timedelta(days=1)).isoformat()
    assert listed(client, "/verifications", **{"from": after}) == []


def test_a_time_is_read_as_the_lists_show_it(app: Flask, client: FlaskClient) -> None:
    act(client, "verify", 3)
    now = app.extensions["smsverify"].clock()
    for language in available_locales():
        client.environ_base["HTTP_ACCEPT_LANGUAGE"] = language
        for minutes, rows in ((-1, 0), (1, 1)):
            with app.test_request_context(headers={"Accept-Language": language}):
                shown = current_ui().short(now + timedelta(minutes=minutes))
            assert len(listed(client, "/verifications", to=shown)) == rows, shown
            assert len(listed(client, "/verifications", **{"from": shown})) == 1 - rows, shown


def test_a_parameter_that_is_no_filter_does_not_reach_the_links(client: FlaskClient) -> None:
    client.post(f"{LIST}/verify", json={"ids": ["3", "4"]})
    page = client.get(f"{LIST}?limit=1&_external=1&_scheme=javascript&endpoint=x&filename=y")
    assert page.status_code == 200
    assert "javascript:" not in page.text
    assert "limit=1" in page.text


def test_markup_in_an_email_is_escaped(app: Flask, client: FlaskClient) -> None:
    with app.app_context():
        staff.db.session.get(staff.StaffUser, 3).email = "<script>alert(1)</script>@x.example"
        staff.db.session.commit()
    act(client, "verify", 3)
    page = client.get(f"{LIST}?q=%3Cscript%3E").text
    assert "&lt;script&gt;" in page
    assert "<script>alert" not in page
