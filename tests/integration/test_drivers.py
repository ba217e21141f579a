"""PostgreSQL's other drivers. The other tests use psycopg."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import commands
import pytest
import sqlalchemy
import staff
from conftest import MakeApp, needs
from flask import Flask
from flask.testing import FlaskClient
from flows import NO_LIMITS, flow_of
from hostapp import User, db
from parallel import race
from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.exc import DBAPIError
from staff import ADMIN, JSON, logged_in
from visiting import CHECK, MOBILE, OTHER, PAGE, SEND, browser, last_code

from flask_smsverify.db import errors
from flask_smsverify.db.models import OptOut
from flask_smsverify.errors import ConfigurationError, StoreUnavailable

pytestmark = needs("postgresql")


@pytest.fixture(params=["psycopg2", "pg8000"])
def url(request: pytest.FixtureRequest, server_databases: dict[str, str]) -> str:
    """Return the URL of an empty database, for one driver."""
    base = make_url(server_databases["postgresql"]).set(drivername=f"postgresql+{request.param}")
    admin = sqlalchemy.create_engine(base.set(query={}), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    admin.dispose()
    return base.set(query={}).render_as_string(False)


@pytest.fixture
def app(make_app: MakeApp, url: str) -> Flask:
    return make_app(url, users=3)


@pytest.fixture
def connections(url: str) -> Iterator[Callable[[], Connection]]:
    """Return a function that opens a connection."""
    engine = sqlalchemy.create_engine(url, isolation_level="REPEATABLE READ")
    opened: list[Connection] = []

    def connect() -> Connection:
        opened.append(engine.connect())
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()
    engine.dispose()


def error_of(connection: Connection, statement: str) -> DBAPIError:
    """Return the error that a statement raises."""
    with pytest.raises(DBAPIError) as raised:
        connection.execute(text(statement))
    connection.rollback()
    return raised.value


def test_a_code_opens_a_guarded_view(app: Flask) -> None:
    client = browser(app, 1)
    assert client.get("/guarded").location.startswith(PAGE)
    client.post(SEND)
    client.post(CHECK, data={"code": "000000"})
    client.post(CHECK, data={"code": last_code(app)})
    assert client.get("/guarded").text == "guarded"


@pytest.fixture
def staff_client(url: str) -> Iterator[FlaskClient]:
    """Return a browser of a member of staff."""
    app = staff.staff_app(url)
    yield logged_in(app)
    staff.release(app)


def test_the_overview_counts_the_codes_of_each_day(staff_client: FlaskClient) -> None:
    staff_client.post(SEND)
    figures = staff_client.get(f"{ADMIN}/", headers=JSON)
    assert figures.status_code == 200
    assert figures.json["days"][-1]["sent"] == 1


@pytest.mark.race
def test_of_parallel_wrong_codes_exactly_5_are_compared(make_app: MakeApp, url: str) -> None:
    with (app := make_app(url, SMSVERIFY_LIMITS=NO_LIMITS)).app_context():
        flow = flow_of(app)
        challenge = flow.start()
        wrong = flow.wrong(challenge)

    def guess(_number: int) -> None:
        with app.app_context():
            flow.check(challenge, wrong)

    assert race(12, guess) == {"WrongCode": 5, "TooManyAttempts": 7}


def test_a_missing_table_is_reported_as_such(app: Flask) -> None:
    with app.app_context():
        db.session.execute(text("DROP TABLE smsverify_verification"))
        db.session.commit()
        with pytest.raises(ConfigurationError, match=r"db\.create_all"):
            app.extensions["smsverify"].verifier.status(db.session.get(User, 1))


def test_a_database_that_stops_responding_is_unavailable(app: Flask) -> None:
    ledger = app.extensions["smsverify"].ledger
    with app.app_context():
        with pytest.raises(StoreUnavailable):
            ledger.run(
                lambda session: session.execute(
                    text("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(60)")
                )
            )
        assert app.extensions["smsverify"].verifier.status(db.session.get(User, 1))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT CAST(:mobile AS text) FROM nowhere",
        "INSERT INTO smsverify_opt_out (mobile, since) VALUES (:mobile, now())",
        "SELECT CAST(CAST(:mobile || 'x' AS text) AS bigint)",
    ],
)
def test_an_error_shows_no_value(app: Flask, statement: str) -> None:
    ledger, mobile = app.extensions["smsverify"].ledger, "+989123450001"
    opt_out = OptOut(mobile=mobile, since=datetime.now(UTC))
    ledger.run(lambda session: session.merge(opt_out))
    query = text(statement)
    with pytest.raises(Exception) as raised:
        ledger.run(lambda session: session.execute(query, {"mobile": mobile}))
    assert mobile[3:] not in "".join(traceback.format_exception(raised.value))


def test_a_serialization_failure_can_pass(connections: Callable[[], Connection]) -> None:
    one, other = connections(), connections()
    one.execute(text("CREATE TABLE counts (n int)"))
    one.execute(text("INSERT INTO counts VALUES (0)"))
    one.commit()
    one.execute(text("SELECT n FROM counts"))
    other.execute(text("UPDATE counts SET n = 1"))
    other.commit()
    assert errors.is_retryable(error_of(one, "UPDATE counts SET n = 2"))
    assert not errors.is_retryable(error_of(one, "SELECT nothing"))


def test_a_row_that_is_locked_by_another_transaction_is_recognized(
    connections: Callable[[], Connection],
) -> None:
    one, other = connections(), connections()
    one.execute(text("CREATE TABLE counts AS SELECT 0 n"))
    one.commit()
    one.execute(text("SELECT n FROM counts FOR UPDATE"))
    locked = error_of(other, "SELECT n FROM counts FOR UPDATE NOWAIT")
    assert errors.is_lock_not_available(locked)
    assert not errors.is_lock_not_available(error_of(other, "SELECT nothing"))


REFUSALS: dict[str, tuple[str, Any]] = {
    "unique": (
        "INSERT INTO phones VALUES (1, '1', 1)",
        errors.Refusal(True, "phones_key", frozenset({"mobile", "kind"})),
    ),
    "check": (
        "INSERT INTO phones VALUES (2, '22', 1)",
        errors.Refusal(False, "phones_length", frozenset()),
    ),
    "not null": (
        "INSERT INTO phones VALUES (2, NULL, 1)",
        errors.Refusal(False, None, frozenset({"mobile"})),
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_names_the_constraint_and_the_columns(
    connections: Callable[[], Connection], case: str
) -> None:
    one = connections()
    one.execute(
        text(
            "CREATE TABLE phones (id int, mobile text NOT NULL, kind int,"
            " CONSTRAINT phones_key UNIQUE (mobile, kind),"
            " CONSTRAINT phones_length CHECK (length(mobile) = 1))"
        )
    )
    one.execute(text("INSERT INTO phones VALUES (1, '1', 1)"))
    one.commit()
    statement, refusal = REFUSALS[case]
    error = error_of(one, statement)
    assert errors.is_refusal(error)
    assert errors.read_refusal(error) == refusal


def test_a_refusal_by_a_trigger_is_recognized(connections: Callable[[], Connection]) -> None:
    one = connections()
    error = error_of(one, "DO $$ BEGIN RAISE EXCEPTION 'no'; END $$")
    assert errors.is_raised_by_trigger(error)
    assert not errors.is_raised_by_trigger(error_of(one, "SELECT nothing"))


def test_a_value_that_a_column_cannot_hold_is_recognized(
    connections: Callable[[], Connection],
) -> None:
    one = connections()
    assert errors.is_invalid_value(error_of(one, "SELECT CAST('1234567890123' AS int)"))
    assert not errors.is_invalid_value(error_of(one, "SELECT nothing"))


# --- the host's table -----------------------------------------------------------------------------


def test_a_number_that_the_key_cannot_hold_is_no_user(staff_client: FlaskClient) -> None:
    number = "9" * 23
    assert staff.listed(staff_client, "/verifications", q=number) == []
    output = commands.run(staff_client.application, "status", number, ends=1)
    assert f"there is no user {number}" in output


def test_the_page_answers_503_while_the_users_are_locked(app: Flask, url: str) -> None:
    client = browser(app, 1)
    with app.app_context():
        event.listen(
            db.engine,
            "begin",
            lambda connection: connection.exec_driver_sql("SET LOCAL lock_timeout = '100ms'"),
        )
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as other:
        other.execute(text("LOCK TABLE host_user"))
        assert client.get(PAGE).status_code == 503
    engine.dispose()


def test_a_column_that_is_shorter_in_the_database_is_named(app: Flask) -> None:
    client = browser(app, 1)
    with app.app_context():
        db.session.execute(text("UPDATE host_user SET mobile = NULL"))
        db.session.execute(text("ALTER TABLE host_user ALTER mobile TYPE varchar(5)"))
        db.session.commit()
    with pytest.raises(ConfigurationError, match=r"a number in E\.164 in User\.mobile"):
        client.post(MOBILE, data={"mobile": OTHER, "send": "1"})
