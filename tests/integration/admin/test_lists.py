"""The staff's lists on every database: search, paging, and that an index serves each of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy
import staff
from conftest import database_params, needs
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, insert
from staff import ADMIN, JSON, StaffUser, db, listed, logged_in

from flask_smsverify.db.models import Attempt, Message, Verification
from flask_smsverify.senders.base import DeliveryState

ROWS = 60


@pytest.fixture
def app(database: str) -> Iterator[Flask]:
    """An app with 60 proofs of users 1 to 60, two for each time, and 40 users without one."""
    app = staff.staff_app(database, users=100)
    state = app.extensions["smsverify"]
    now = state.clock()
    rows = [
        {
            "user_id": str(number),
            "mobile": f"+98912345{number:04}",
            "created_at": now - timedelta(minutes=number // 2),
            "verified_at": now - timedelta(minutes=number // 2, days=100 * (number % 2)),
            "failures": 0,
        }
        for number in range(1, ROWS + 1)
    ]
    state.ledger.run(lambda session: session.execute(insert(Verification), rows))
    yield app
    staff.release(app)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return logged_in(app)


def pages(client: FlaskClient, path: str, **query: Any) -> list[list[str]]:
    """Return the user ids on each page of a list."""
    found = []
    key = ""
    while key is not None:
        answer = client.get(f"{ADMIN}{path}", query_string={**query, "after": key}, headers=JSON)
        assert answer.status_code == 200, answer.text
        found.append([item["user_id"] for item in answer.json["items"]])
        key = answer.json["next"]
    return found


def test_paging_shows_every_row_once_the_newest_first(client: FlaskClient) -> None:
    found = pages(client, "/verifications", limit=7)
    assert [len(page) for page in found] == [7] * 8 + [4]
    ids = [user_id for page in found for user_id in page]
    assert len(set(ids)) == ROWS
    minutes = [int(user_id) // 2 for user_id in ids]
    assert minutes == sorted(minutes)


@pytest.mark.parametrize(("state", "is_counted"), [("verified", 0), ("expired", 1)])
def test_a_state_is_filtered_and_paged(client: FlaskClient, state: str, is_counted: int) -> None:
    ids = [key for page in pages(client, "/verifications", state=state, limit=7) for key in page]
    wanted = [number for number in range(1, ROWS + 1) if number % 2 == is_counted]
    assert sorted(map(int, ids)) == wanted


@pytest.mark.parametrize(
    "typed", ["09123450042", "+98 912 345 0042", "0098-912-345-0042", "۰۹۱۲ ۳۴۵ ۰۰۴۲", "9123450042"]
)
def test_a_mobile_is_found_in_any_spelling(client: FlaskClient, typed: str) -> None:
    assert pages(client, "/verifications", q=typed) == [["42"]]


def test_the_last_four_digits_find_proofs_and_pending_users(
    app: Flask, client: FlaskClient
) -> None:
    state = app.extensions["smsverify"]
    with app.app_context():
        state.verifier.start(db.session.get(StaffUser, 90), mobile="09351110042")
    assert pages(client, "/verifications", q="0042") == [["42", "90"]]
    assert pages(client, "/verifications", q="۰۰۴۲") == [["42", "90"]]
    assert pages(client, "/verifications", q="0042", limit=1) == [["42"], ["90"]]
    assert pages(client, "/verifications", q="09351110042") == [["90"]]


@pytest.fixture
def icu_database(server_databases: dict[str, str]) -> Iterator[str]:
    """Return the URL of a database that orders text as English does, with a before B."""
    url = sqlalchemy.make_url(server_databases["postgresql"])
    server = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    name = f"{url.database}_icu"
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")
        connection.exec_driver_sql(
            f"CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US' "
            "LOCALE 'C.UTF-8'"
        )
        yield url.set(database=name).render_as_string(False)
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    server.dispose()


@needs("postgresql")
def test_the_last_four_digits_find_each_user_once_in_any_collation(icu_database: str) -> None:
    app = staff.staff_app(icu_database, users=1)
    state = app.extensions["smsverify"]
    ids = ["a1", "B2", "c3", "D4", "e5", "F6", "é7", "_8"]
    rows = [
        {"user_id": key, "mobile": "+989123450042", "created_at": state.clock(), "failures": 0}
        for key in ids
    ]
    state.ledger.run(lambda session: session.execute(insert(Verification), rows))
    found = pages(logged_in(app), "/verifications", q="0042", limit=2)
    staff.release(app)
    assert [key for page in found for key in page] == sorted(ids)


def test_a_number_in_an_indexed_column_of_the_host_is_found_before_any_code(
    app: Flask, client: FlaskClient
) -> None:
    with app.app_context():
        db.session.get(StaffUser, 95).mobile = "09357770000"
        db.session.commit()
    [item] = listed(client, "/verifications", q="+989357770000")
    assert (item["user_id"], item["state"]) == ("95", "unverified")


def test_an_email_is_found_by_its_beginning(app: Flask, client: FlaskClient) -> None:
    assert pages(client, "/verifications", q="user42@") == [["42"]]
    assert pages(client, "/verifications", q="USER42@example") == [["42"]]
    found = pages(client, "/verifications", q="user9", limit=4)
    assert [len(page) for page in found] == [4, 4, 3]
    assert {key for page in found for key in page} == {"9", *(str(90 + tens) for tens in range(10))}
    assert pages(client, "/verifications", q="ser42@") == [[]]
    assert pages(client, "/verifications", q="user4%") == [[]]
    assert pages(client, "/verifications", q="user4_@") == [[]]


def test_a_user_is_found_by_the_id(client: FlaskClient) -> None:
    assert pages(client, "/verifications", q="99") == [["99"]]
    assert pages(client, "/verifications", q="99999999999999999999999") == [[]]


def test_rows_that_appear_meanwhile_do_not_shift_the_next_page(
    app: Flask, client: FlaskClient
) -> None:
    first = client.get(f"{ADMIN}/verifications", query_string={"limit": 10}, headers=JSON).json
    state = app.extensions["smsverify"]
    newer = Verification(user_id="new", failures=0, created_at=state.clock())
    state.ledger.run(lambda session: session.add(newer))
    second = client.get(
        f"{ADMIN}/verifications", query_string={"limit": 10, "after": first["next"]}, headers=JSON
    ).json
    seen = [item["user_id"] for item in first["items"] + second["items"]]
    assert len(set(seen)) == 20
    assert "new" not in seen


def test_the_audit_is_searched_and_paged(app: Flask, client: FlaskClient) -> None:
    for number in range(3, 9):
        client.post(f"{ADMIN}/verifications/{number}/verify", json={})
    found = client.get(f"{ADMIN}/audit", query_string={"limit": 4}, headers=JSON).json
    rest = listed(client, "/audit", limit=4, after=found["next"])
    assert [item["subject"] for item in found["items"] + rest] == ["8", "7", "6", "5", "4", "3"]
    assert [item["subject"] for item in listed(client, "/audit", q="5")] == ["5"]
    assert len(listed(client, "/audit", q="1")) == 6


def test_messages_of_several_states_are_paged_in_one_order(app: Flask, client: FlaskClient) -> None:
    state = app.extensions["smsverify"]
    now = state.clock()
    states = ("failed", "delivered", "unknown", "undelivered", "rejected", "sent")
    rows = [
        {
            "id": f"{number:032x}",
            "kind": Message.EVENT,
            "recipient": "+989123450042",
            "channel": "sms",
            "state": states[number % len(states)],
            "created_at": now - timedelta(minutes=number // 9),
            "updated_at": now,
        }
        for number in range(36)
    ]
    state.ledger.run(lambda session: session.execute(insert(Message), rows))
    found: list[str] = []
    key = ""
    while key is not None:
        query = {"state": "unresolved", "limit": 5, "after": key}
        page = client.get(f"{ADMIN}/messages", query_string=query, headers=JSON).json
        assert len(page["items"]) == 5 or page["next"] is None
        found += [item["id"] for item in page["items"]]
        key = page["next"]
    wanted = [row for row in rows if row["state"] not in ("delivered", "sent")]
    wanted.sort(key=lambda row: (row["created_at"], row["id"]), reverse=True)
    assert found == [row["id"] for row in wanted]


STATES = [*DeliveryState, Attempt.SENDING, Attempt.FAILED]
STATES += [Message.WAITING, Message.EXPIRED, Message.SKIPPED]
KINDS = (Message.CODE, Message.NOTICE, Message.EVENT, Message.BULK)


@pytest.mark.parametrize(
    "query",
    [
        {"kind": "event"},
        {"state": "delivered"},
        {"kind": "code", "state": "failed"},
        {"kind": "bulk", "state": "unresolved"},
        {"batch": "b" * 32},
        {"batch": "b" * 32, "state": "unknown"},
        {"batch": "b" * 32, "kind": "code"},
        {"q": "09123450001", "state": "unresolved", "kind": "notice"},
    ],
    ids=str,
)
def test_filters_find_messages_of_every_kind_and_state_in_one_order(
    app: Flask, client: FlaskClient, query: dict[str, str]
) -> None:
    state = app.extensions["smsverify"]
    now = state.clock()
    rows = [
        {
            "id": f"{number:032x}",
            "kind": kind,
            "batch_id": "b" * 32 if kind == Message.BULK else None,
            "recipient": f"+98912345000{number % 2}",
            "channel": "sms",
            "state": str(one),
            "created_at": now - timedelta(minutes=number % 7),
            "updated_at": now,
        }
        for number, (kind, one) in enumerate(itertools.product(KINDS, STATES * 2))
    ]
    state.ledger.run(lambda session: session.execute(insert(Message), rows))
    found: list[str] = []
    key = ""
    while key is not None:
        parameters = {**query, "limit": 5, "after": key}
        page = client.get(f"{ADMIN}/messages", query_string=parameters, headers=JSON).json
        found += [item["id"] for item in page["items"]]
        key = page["next"]
    unresolved = ("failed", "unknown", "rejected", "undelivered")
    wanted = [
        row
        for row in rows
        if query.get("kind") in (None, row["kind"])
        and query.get("batch") in (None, row["batch_id"])
        and query.get("state") in (None, row["state"], row["state"] in unresolved and "unresolved")
        and ("q" not in query or row["recipient"].endswith("1"))
    ]
    wanted.sort(key=lambda row: (row["created_at"], row["id"]), reverse=True)
    assert found == [row["id"] for row in wanted]


# --- indexes -----------------------------------------------------------------------------------

QUERIES: list[tuple[str, dict[str, str]]] = [
    *(
        ("/verifications", query)
        for query in (
            {},
            *({"state": state} for state in ("verified", "expired", "unverified", "locked")),
            {"state": "revoked"},
            {"state": "pending"},
            {"q": "0042"},
            {"q": "09123450042"},
            {"q": "user42"},
            {"from": "2020-01-01", "to": "2030-01-01"},
        )
    ),
    *(
        ("/messages", query)
        for query in (
            {},
            {"state": "failed"},
            {"state": "unresolved"},
            {"kind": "bulk"},
            {"kind": "code", "state": "failed"},
            {"kind": "bulk", "state": "unresolved"},
            {"batch": "1" * 32},
            {"batch": "1" * 32, "state": "unknown"},
            {"q": "09123450042"},
            {"from": "2020-01-01", "to": "2030-01-01"},
        )
    ),
]


@pytest.mark.parametrize("database", database_params("postgresql"), indirect=True)
@pytest.mark.parametrize(("path", "query"), QUERIES, ids=str)
def test_no_list_counts_skips_or_sorts_a_whole_table(
    app: Flask, client: FlaskClient, path: str, query: dict[str, str]
) -> None:
    """With few rows the planner prefers to read a whole table, so that is switched off."""
    statements: list[tuple[str, Any]] = []

    def collect(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.lstrip().startswith("SELECT"):
            statements.append((statement, parameters))

    with app.app_context():
        engines = {db.engine, app.extensions["smsverify"].ledger.engine}
    for engine in engines:
        event.listen(engine, "before_cursor_execute", collect)
    try:
        assert client.get(f"{ADMIN}{path}", query_string=query).status_code == 200
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", collect)
    assert statements
    with next(iter(engines)).connect() as connection:
        for parameter in ("enable_seqscan", "enable_sort"):
            connection.exec_driver_sql(f"SET LOCAL {parameter} = off")
        for statement, parameters in statements:
            if "FROM smsverify_setting" in statement:  # a few rows, read again after half a second
                continue
            assert "count(" not in statement.lower(), statement
            assert "offset" not in statement.lower(), statement
            rows = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
            plan = "\n".join(rows.scalars())
            assert "Seq Scan" not in plan, (statement, plan)
            if path == "/messages" and "FROM smsverify_message" in statement and "q" not in query:
                assert "Filter:" not in plan, (statement, plan)
                assert "Sort" not in plan, (statement, plan)
