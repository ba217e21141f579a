"""Statements and rows that bypass SQLAlchemy's session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pymysql
import pytest
from flask import Flask
from flows import Flow
from parallel import outcome
from sqlalchemy import Connection, bindparam, event, exc, select
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import flag_modified
from sqlalchemy.orm.exc import StaleDataError

from flask_smsverify.db.ledger import Ledger
from flask_smsverify.db.models import Streak, UsageGuess, Verification
from flask_smsverify.db.prepared import PreparedSelect
from flask_smsverify.db.rows import from_row, labelled, numbered_insert, update_row, write

NOW = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)
INSERT_GUESS = numbered_insert(UsageGuess)
READ = PreparedSelect(
    select(*labelled(Verification, "v_")).where(Verification.user_id == bindparam("user_id"))
)


@pytest.fixture(params=[False, True], ids=["unobserved", "observed"])
def ledger(
    request: pytest.FixtureRequest, make_app: Callable[..., Flask], database: str
) -> Iterator[Ledger]:
    """Return a ledger; the test runs once more with a listener to its statements."""
    app = make_app(database)
    ledger: Ledger = app.extensions["smsverify"].ledger
    seen: list[str] = []
    if request.param:
        event.listen(
            ledger.engine,
            "before_cursor_execute",
            lambda _connection, _cursor, statement, *_rest: seen.append(statement),
        )
    yield ledger
    assert bool(seen) == request.param


@pytest.mark.parametrize("event_name", ["after_cursor_execute", "do_execute"])
def test_a_listener_sees_each_statement(
    make_app: Callable[..., Flask], sqlite: str, event_name: str
) -> None:
    ledger: Ledger = make_app(sqlite).extensions["smsverify"].ledger
    seen: list[object] = []
    event.listen(ledger.engine, event_name, lambda *arguments: seen.append(arguments) and None)
    assert read(ledger, "1") is None
    assert any("FROM smsverify_verification" in str(arguments) for arguments in seen)


def test_a_listener_to_the_begin_of_sessions_is_called_before_the_first_statement(
    make_app: Callable[..., Flask], sqlite: str
) -> None:
    """Hosts set a role or a search path there."""
    ledger: Ledger = make_app(sqlite).extensions["smsverify"].ledger
    ledger.identify()
    statements: list[str] = []

    def on_begin(_session: Session, _transaction: object, connection: Connection) -> None:
        statements.append("begin")

    def on_statement(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    event.listen(ledger.engine, "before_cursor_execute", on_statement)
    event.listen(Session, "after_begin", on_begin)
    try:
        read(ledger, "1")
        ledger.run(lambda session: write(session, Streak(subject=7, failures=1, updated_at=NOW)))
    finally:
        event.remove(Session, "after_begin", on_begin)
    words = [statement.split()[0] for statement in statements]
    assert words == ["BEGIN", "begin", "SELECT", "BEGIN", "begin", "INSERT"]


def test_a_right_code_is_accepted_where_the_driver_counts_only_changed_rows(
    make_flow: Callable[..., Flow], database: str
) -> None:
    """A creator of the host's may connect to MariaDB without the flag FOUND_ROWS."""
    options = {}
    if make_url(database).get_backend_name() in ("mysql", "mariadb"):
        options["SQLALCHEMY_ENGINE_OPTIONS"] = {"creator": partial(connect_plainly, database)}
    flow = make_flow(database, SMSVERIFY_RESEND_DELAYS=(0,), **options)
    for wrong_guesses in (1, 0):
        challenge = flow.sign_up("09120000001")
        for _ in range(wrong_guesses):
            assert outcome(lambda c=challenge: flow.check(c, flow.wrong(c))) == "WrongCode"
        assert outcome(lambda c=challenge: flow.check(c, flow.code(c))) == "ok"


def connect_plainly(url: str) -> Any:
    parts = make_url(url)
    return pymysql.connect(
        host=parts.host,
        port=parts.port or 3306,
        user=parts.username,
        password=parts.password or "",
        database=parts.database,
    )


def read(ledger: Ledger, user_id: str) -> Verification | None:
    def work(session: Session) -> Verification | None:
        rows = READ.all(session, {"user_id": user_id})
        return from_row(Verification, rows[0], "v_") if rows else None

    return ledger.read(work)


def test_a_new_object_is_inserted_with_its_defaults_and_read_with_its_types(
    ledger: Ledger,
) -> None:
    row = Verification(user_id="1", mobile="+989120000001", verified_at=NOW, created_at=NOW)
    ledger.run(lambda session: write(session, row))
    assert row.failures == 0
    assert row.revoked_at is None
    found = read(ledger, "1")
    assert found is not None
    assert (found.mobile, found.verified_at, found.failures) == ("+989120000001", NOW, 0)
    assert read(ledger, "2") is None


def test_only_changed_columns_are_written_and_each_change_once(ledger: Ledger) -> None:
    ledger.run(lambda session: write(session, Verification(user_id="1", created_at=NOW)))
    mine = read(ledger, "1")
    assert mine is not None
    ledger.run(lambda session: update_row(session, Verification, "1", failures=3))
    mine.revoked_at = NOW
    ledger.run(lambda session: write(session, mine))
    ledger.run(lambda session: update_row(session, Verification, "1", revoked_at=None))
    ledger.run(lambda session: write(session, mine))  # nothing has changed since
    found = read(ledger, "1")
    assert found is not None
    assert (found.failures, found.revoked_at) == (3, None)


def test_a_write_to_a_row_that_was_deleted_meanwhile_is_an_error(ledger: Ledger) -> None:
    streak = Streak(subject=7, failures=1, updated_at=NOW)
    ledger.run(lambda session: write(session, streak))

    def delete_and_write(session: Session) -> None:
        session.connection().execute(Streak.__table__.delete())
        streak.failures = 2
        write(session, streak)

    with pytest.raises(StaleDataError):
        ledger.run(delete_and_write)


def test_an_insert_returns_the_number_of_its_row(ledger: Ledger) -> None:
    def work(session: Session) -> list[int]:
        values = {"at": 1, "site_at": 1, "subject": 5, "number": None, "ip": None, "network": None}
        return [INSERT_GUESS.run(session, values) for _ in range(2)]

    numbers = ledger.run(work)
    stored = ledger.read(lambda session: list(session.scalars(select(UsageGuess.id))))
    assert sorted(stored) == numbers
    assert numbers[0] < numbers[1]


def test_an_error_of_the_driver_is_one_of_sqlalchemy_without_the_values(ledger: Ledger) -> None:
    def insert() -> None:
        write_raw(ledger, Verification(user_id="1", mobile="+989120000001", created_at=NOW))

    insert()
    with pytest.raises(exc.IntegrityError) as caught:
        insert()
    assert caught.value.hide_parameters
    assert "+989120000001" not in str(caught.value).replace(str(caught.value.orig), "")


def test_an_error_that_is_not_the_drivers_is_raised_as_it_is(ledger: Ledger) -> None:
    """A time limit of Celery is raised wherever the program is, and tasks catch its class."""
    not_utf_8 = "\ud800"
    guess = {
        "at": 1,
        "site_at": 1,
        "subject": not_utf_8,
        "number": None,
        "ip": None,
        "network": None,
    }
    with pytest.raises(UnicodeEncodeError):
        ledger.run(lambda session: INSERT_GUESS.run(session, guess))


def write_raw(ledger: Ledger, instance: Verification) -> None:
    """Write in a transaction that is not repeated."""
    with ledger._database.session(read_only=False) as session:
        write(session, instance)


def test_a_column_that_was_set_to_its_own_value_is_not_written(ledger: Ledger) -> None:
    """A driver without the flag FOUND_ROWS would not count the row."""
    ledger.run(lambda session: write(session, Verification(user_id="1", created_at=NOW)))
    mine = read(ledger, "1")
    assert mine is not None
    ledger.run(lambda session: update_row(session, Verification, "1", failures=3))
    mine.failures = 0
    ledger.run(lambda session: write(session, mine))
    found = read(ledger, "1")
    assert found is not None
    assert found.failures == 3
    flag_modified(mine, "failures")  # what has to be written in any case
    ledger.run(lambda session: write(session, mine))
    found = read(ledger, "1")
    assert found is not None
    assert found.failures == 0


def test_no_statement_runs_after_its_transaction_has_ended(ledger: Ledger) -> None:
    def work(session: Session) -> None:
        session.connection().get_transaction().rollback()  # type: ignore[union-attr]  # there is one
        write(session, Verification(user_id="1", created_at=NOW))

    with pytest.raises(exc.InvalidRequestError):
        ledger.run(work)
    assert read(ledger, "1") is None


def test_objects_belong_to_no_session(ledger: Ledger) -> None:
    def work(session: Session) -> int:
        write(session, Verification(user_id="1", created_at=NOW))
        found = from_row(Verification, READ.one(session, {"user_id": "1"}), "v_")
        assert found is not None
        found.failures = 9  # not written
        return len(session.identity_map) + len(session.new)

    assert ledger.run(work) == 0
    kept = read(ledger, "1")
    assert kept is not None
    assert kept.failures == 0
