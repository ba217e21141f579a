"""The ledger: its own transactions beside the host's, and a database that fails."""

from __future__ import annotations

import os
import random
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import flask_migrate
import pytest
import sqlalchemy
from clocks import Clock
from conftest import database_params
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flows import MEMORY, Flow, flow_of
from hostapp import User, create_app, db
from parallel import guess, outcome, race
from sqlalchemy import delete, event, exc, text
from sqlalchemy.orm import Session

from flask_smsverify import SMSVerify, guard
from flask_smsverify.db.commit_hooks import after_commit
from flask_smsverify.db.ledger import Ledger
from flask_smsverify.db.locks import SITE_SENDS, Locks
from flask_smsverify.db.models import Base, Lock, OptOut, Streak, UsedToken, Verification
from flask_smsverify.errors import ConfigurationError, StoreUnavailable, UncommittedWrites

MakeApp = Callable[..., Flask]
DOWN = {
    "postgresql": "postgresql+psycopg://postgres@127.0.0.1:1/none",
    "mariadb": "mysql+pymysql://root@127.0.0.1:1/none",
    "sqlite": "sqlite:////nowhere/at/all.sqlite",
}


# --- a database that does not answer --------------------------------------------------------------


def test_nothing_is_sent_or_compared_while_the_database_is_down(
    make_flow: Callable[..., Flow], tmp_path: Path
) -> None:
    """Case 25 of docs/safety.md."""
    for kind, url in DOWN.items():
        flow = make_flow(f"sqlite:///{tmp_path / kind}.sqlite")
        challenge, user = flow.start(), flow.user()
        calls = _calls(flow, user, challenge, flow.code(challenge))
        engine = sqlalchemy.create_engine(url)
        flow.state.ledger._database = Ledger(lambda host=engine: host, app_id="host")._database
        for call in calls:
            with pytest.raises(StoreUnavailable) as caught:
                call()
            assert "9123450001" not in str(caught.value), kind
        assert len(flow.memory.messages) == 1, kind


def _calls(flow: Flow, user: User, challenge: Any, code: str) -> list[Callable[[], object]]:
    """Every call of the verifier that reads or writes the ledger."""
    return [
        lambda: flow.verifier.start(user),
        lambda: flow.verifier.start_for("09120000000", purpose="sign-up"),
        lambda: flow.verifier.resend(challenge),
        lambda: flow.verifier.check(challenge, code),
        lambda: flow.verifier.check(user, code),
        lambda: flow.verifier.status(user),
        lambda: flow.verifier.revoke(user, by="staff"),
    ]


def test_missing_tables_are_a_configuration_error_that_says_how_to_create_them(
    make_flow: Callable[..., Flow], database: str
) -> None:
    flow = make_flow(database)
    user = flow.user()
    db.session.commit()
    with db.engine.begin() as connection:
        Base.metadata.drop_all(connection)
    for act in (lambda: flow.verifier.start(user), lambda: flow.verifier.check(user, "123456")):
        with pytest.raises(ConfigurationError, match="flask db migrate"):
            act()
    assert flow.memory.messages == []


def test_a_connection_that_the_server_closed_is_replaced(
    make_flow: Callable[..., Flow], database: str
) -> None:
    flow = make_flow(database)
    if flow.state.ledger.dialect == "sqlite":
        flow.state.ledger.close()
    else:
        flow.start()
        dialect = flow.state.ledger.dialect
        _close_others(dialect, _own_id(dialect))
        flow.clock.advance(31)
    assert flow.start().state == "pending"


def _is_in_transaction(session: Session) -> bool:
    """Execute a statement, and return whether the driver has begun a transaction for it."""
    session.execute(text("SELECT 1"))
    raw: Any = session.connection().connection.dbapi_connection
    is_sqlite = session.connection().dialect.name == "sqlite"
    return bool(raw.in_transaction if is_sqlite else raw.info.transaction_status)


@pytest.mark.parametrize("database", database_params("sqlite", "postgresql"), indirect=True)
def test_what_only_reads_begins_no_transaction_on_sqlite_and_postgresql(
    make_app: MakeApp, database: str
) -> None:
    app = make_app(database)
    ledger = app.extensions["smsverify"].ledger
    assert ledger.read(_is_in_transaction) is False
    assert ledger.run(_is_in_transaction) is True
    assert ledger.read(_is_in_transaction) is False


@pytest.mark.parametrize("database", database_params("postgresql"), indirect=True)
def test_a_transaction_after_a_read_has_the_ledgers_isolation_level(
    make_app: MakeApp, database: str
) -> None:
    serializable = {"options": "-c default_transaction_isolation=serializable"}
    app = make_app(database, SQLALCHEMY_ENGINE_OPTIONS={"connect_args": serializable})
    ledger = app.extensions["smsverify"].ledger

    def level_of(session: Session) -> str:
        return str(session.scalar(text("SHOW transaction_isolation")))

    assert ledger.run(level_of) == "read committed"
    ledger.read(level_of)
    assert ledger.run(level_of) == "read committed"


@pytest.mark.parametrize("database", database_params("postgresql"), indirect=True)
def test_a_read_has_a_transaction_if_a_listener_may_set_something_in_it(
    make_app: MakeApp, database: str
) -> None:
    app = make_app(database)
    ledger = app.extensions["smsverify"].ledger

    def set_timezone(connection: Any) -> None:
        connection.exec_driver_sql("SET LOCAL timezone = 'Asia/Tehran'")

    def set_timezone_of_session(_session: object, _transaction: object, connection: Any) -> None:
        set_timezone(connection)

    def timezone_of(session: Session) -> str:
        return str(session.scalar(text("SHOW timezone")))

    for target, name, listener in (
        (ledger.engine, "begin", set_timezone),
        (Session, "after_begin", set_timezone_of_session),
    ):
        event.listen(target, name, listener)
        try:
            assert ledger.read(timezone_of) == "Asia/Tehran", name
        finally:
            event.remove(target, name, listener)
        assert ledger.read(timezone_of) != "Asia/Tehran", name


@pytest.mark.parametrize("database", database_params("postgresql"), indirect=True)
def test_a_read_that_is_interrupted_leaves_no_connection_that_commits_each_statement(
    make_app: MakeApp, database: str
) -> None:
    app = make_app(database)
    ledger = app.extensions["smsverify"].ledger

    def interrupt(session: Session) -> None:
        raw: Any = session.connection().connection.dbapi_connection
        raw.pgconn.send_query(b"SELECT pg_sleep(0.01)")
        raise KeyboardInterrupt

    def fail(session: Session) -> None:
        session.add(UsedToken(digest="d", until=datetime.now(UTC)))
        session.flush()
        raise ZeroDivisionError

    with pytest.raises(KeyboardInterrupt):
        ledger.read(interrupt)
    with pytest.raises(ZeroDivisionError):
        ledger.run(fail)
    assert ledger.read(lambda session: session.query(UsedToken).count()) == 0


@pytest.mark.parametrize("database", database_params("postgresql", "mariadb"), indirect=True)
def test_after_a_restart_of_the_server_no_request_fails(make_app: MakeApp, database: str) -> None:
    app = make_app(database)
    ledger = app.extensions["smsverify"].ledger
    ledger.identify()
    together = threading.Barrier(4)

    def use_a_connection(_number: int) -> None:
        ledger.read(lambda session: (session.execute(text("SELECT 1")), together.wait(60)))

    assert race(4, use_a_connection) == {"ok": 4}  # four connections are in the pool
    runs = []

    def insert(session: Session) -> None:
        runs.append(session)
        session.add(UsedToken(digest=f"{len(runs)}", until=datetime.now(UTC)))

    with app.app_context():
        _close_others(ledger.dialect, _own_id(ledger.dialect))
    for _ in range(6):
        ledger.run(insert)
    assert len(runs) == 7
    count = ledger.read(lambda session: session.query(UsedToken).count())
    assert count == 6


@pytest.mark.parametrize("database", database_params("postgresql"), indirect=True)
@pytest.mark.parametrize("kind", ["read", "run"])
def test_after_a_column_has_another_type_no_request_fails(
    make_app: MakeApp, database: str, kind: str
) -> None:
    """psycopg prepares a statement that a connection has executed five times."""
    app = make_app(database)
    ledger = app.extensions["smsverify"].ledger
    together = threading.Barrier(2)

    def query(session: Session) -> Any:
        return session.execute(text("SELECT sender FROM smsverify_verification")).all()

    def prepare(_number: int) -> None:
        ledger.read(lambda session: ([query(session) for _ in range(6)], together.wait(60)))

    assert race(2, prepare) == {"ok": 2}  # two connections are in the pool
    with app.app_context():
        table = "ALTER TABLE smsverify_verification ALTER sender TYPE"
        for length in (192, 193):
            db.session.execute(text(f"{table} varchar({length})"))
            db.session.commit()
            runs = []

            def work(session: Session) -> Any:
                runs.append(session)  # noqa: B023 -- runs at once
                return query(session)

            for _ in range(12):
                assert getattr(ledger, kind)(work) == []
            assert len(runs) == 13


@pytest.mark.parametrize("database", database_params("postgresql", "mariadb"), indirect=True)
def test_a_transaction_whose_commit_may_have_arrived_is_not_run_again(
    make_app: MakeApp, database: str
) -> None:
    app = make_app(database)
    ledger = app.extensions["smsverify"].ledger
    runs = []

    def close_before_the_commit(_connection: object) -> None:
        with app.app_context():
            _close_others(ledger.dialect, _own_id(ledger.dialect))

    def insert(session: Session) -> None:
        runs.append(session)
        session.add(UsedToken(digest="a", until=datetime.now(UTC)))
        event.listen(session.connection(), "commit", close_before_the_commit)

    ledger.identify()
    with pytest.raises(StoreUnavailable):
        ledger.run(insert)
    assert len(runs) == 1
    assert ledger.read(lambda session: session.query(UsedToken).count()) == 0


@pytest.mark.parametrize("database", database_params("postgresql", "mariadb"), indirect=True)
def test_a_server_that_closes_every_connection_is_a_store_that_is_unavailable(
    make_app: MakeApp, database: str
) -> None:
    app = make_app(database)
    ledger = app.extensions["smsverify"].ledger
    ledger.identify()
    runs = []

    def be_closed(session: Session) -> None:
        runs.append(session)
        session.execute(text("SELECT 1"))
        with app.app_context():
            _close_others(ledger.dialect, _own_id(ledger.dialect))
        session.execute(text("SELECT 1"))

    with pytest.raises(StoreUnavailable):
        ledger.run(be_closed)
    assert len(runs) == 2


@pytest.mark.parametrize("database", database_params("postgresql", "mariadb"), indirect=True)
def test_a_transaction_does_not_ping_the_server(
    make_app: MakeApp, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = make_app(database).extensions["smsverify"].ledger
    ledger.identify()
    pings = []
    monkeypatch.setattr(ledger.engine.dialect, "do_ping", pings.append)
    assert ledger.read(lambda session: session.scalar(text("SELECT 1"))) == 1
    assert pings == []


def _own_id(dialect: str) -> int:
    own_id = "pg_backend_pid()" if dialect == "postgresql" else "connection_id()"
    return int(db.session.execute(text(f"SELECT {own_id}")).scalar_one())


def _close_others(dialect: str, own_id: int) -> None:
    """Close every connection to the test's database but one."""
    if dialect == "postgresql":
        db.session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> :own_id"
            ),
            {"own_id": own_id},
        )
        return
    others = db.session.execute(
        text(
            "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> :own_id"
        ),
        {"own_id": own_id},
    )
    for other in others.scalars().all():
        db.session.execute(text(f"KILL {int(other)}"))


def test_a_transaction_that_waits_too_long_for_a_lock_is_a_store_that_is_unavailable(
    make_app: MakeApp, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_smsverify.db.ledger.LOCK_SECONDS", 1)
    ledger = make_app(database).extensions["smsverify"].ledger
    row = UsedToken(digest="a", until=datetime.now(UTC))
    ledger.run(lambda session: session.merge(row))
    other = sqlalchemy.create_engine(database)
    with other.connect() as holder, holder.begin():
        if other.dialect.name == "sqlite":
            holder.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            holder.exec_driver_sql("SELECT * FROM smsverify_used_token FOR UPDATE")
        with pytest.raises(StoreUnavailable):
            ledger.run(lambda session: session.execute(sqlalchemy.delete(UsedToken)))
    other.dispose()
    assert ledger.read(lambda session: session.query(UsedToken).count()) == 1
    ledger.run(lambda session: session.execute(sqlalchemy.delete(UsedToken)))
    assert ledger.read(lambda session: session.query(UsedToken).count()) == 0


# --- transactions that are run again --------------------------------------------------------------


class _OriginalError(Exception):
    def __init__(self, sqlstate: str | None = None, pgcode: str | None = None, *args: Any) -> None:
        super().__init__(*args)
        self.sqlstate, self.pgcode = sqlstate, pgcode


class _ConnectorError(Exception):
    """An error of MariaDB's or MySQL's own connector."""

    def __init__(self, errno: int) -> None:
        super().__init__("a message")
        self.errno = errno


#: A database error, how often its transaction is run, and what the caller gets.
RUNS: list[tuple[Exception, int, type[Exception]]] = [
    (exc.OperationalError("", {}, _OriginalError("40P01")), 8, StoreUnavailable),
    (exc.OperationalError("", {}, _OriginalError(None, "40P01")), 8, StoreUnavailable),
    (exc.OperationalError("", {}, _OriginalError(None, None, 1213)), 8, StoreUnavailable),
    (exc.OperationalError("", {}, _ConnectorError(1213)), 8, StoreUnavailable),
    (exc.IntegrityError("", {}, _OriginalError()), 8, StoreUnavailable),
    (exc.OperationalError("", {}, _OriginalError("55P03")), 1, StoreUnavailable),
    (exc.OperationalError("", {}, _OriginalError(None, None, 1205)), 1, StoreUnavailable),
    (exc.InternalError("", {}, _OriginalError()), 1, StoreUnavailable),
    (exc.TimeoutError(), 1, StoreUnavailable),
    (exc.ProgrammingError("", {}, _OriginalError("42P01")), 1, ConfigurationError),
    (exc.ProgrammingError("", {}, _OriginalError(None, "42P01")), 1, ConfigurationError),
    (exc.ProgrammingError("", {}, _OriginalError(None, None, 1146)), 1, ConfigurationError),
    (exc.ProgrammingError("", {}, _ConnectorError(1146)), 1, ConfigurationError),
    (exc.ProgrammingError("", {}, _OriginalError("42601")), 1, exc.ProgrammingError),
    (exc.DataError("", {}, _OriginalError("22001")), 1, exc.DataError),
]


def test_a_transaction_is_run_again_only_after_an_error_that_can_pass_and_at_most_8_times(
    app: Flask,
) -> None:
    for error, runs, raised in RUNS:
        ran: list[int] = []

        def work(_session: object, error: Exception = error, ran: list[int] = ran) -> None:
            ran.append(1)
            raise error

        with pytest.raises(raised):
            app.extensions["smsverify"].ledger.run(work)
        assert len(ran) == runs, (error, error.orig if hasattr(error, "orig") else None)


#: Statements that fail because of a mobile, which the databases' messages quote.
DUPLICATE = "INSERT INTO smsverify_opt_out (mobile, since) VALUES (:mobile, '2025-01-01')"
WRONG_TYPES = {
    "postgresql": "UPDATE smsverify_streak SET failures = CAST(CONCAT(:mobile, 'x') AS int)",
    "mariadb": "UPDATE smsverify_streak SET failures = CONCAT(:mobile, 'x')",
}


def test_an_error_shows_no_mobile(make_app: MakeApp, database: str) -> None:
    app = make_app(database)
    ledger, mobile, now = app.extensions["smsverify"].ledger, "+989123450001", datetime.now(UTC)

    def fill(session: Any) -> None:
        session.add(OptOut(mobile=mobile, since=now))
        session.add(Streak(subject=1, failures=0, updated_at=now))

    ledger.run(fill)
    kind = "mariadb" if ledger.dialect in ("mysql", "mariadb") else ledger.dialect
    for statement in (DUPLICATE, WRONG_TYPES.get(kind)):
        if statement is None:
            continue

        def fail(session: Any, statement: str = statement) -> None:
            session.execute(text(statement), {"mobile": mobile})

        for work in (
            lambda fail=fail: ledger.run(fail),
            lambda fail=fail: ledger.run_in(db.session.connection(), fail),
        ):
            with (
                app.app_context(),
                pytest.raises((exc.DBAPIError, StoreUnavailable)) as raised,
            ):
                work()
            shown = "".join(traceback.format_exception(raised.value))
            assert "sqlalchemy.exc." in shown
            assert mobile[3:] not in shown


def test_a_transaction_that_is_run_again_starts_empty(make_app: MakeApp, database: str) -> None:
    ledger = make_app(database).extensions["smsverify"].ledger
    now = datetime.now(UTC)
    runs = []

    def work(session: Any) -> None:
        runs.append(1)
        session.add(UsedToken(digest="a", until=now))
        session.flush()
        if len(runs) < 3:
            raise exc.IntegrityError("", {}, _OriginalError())

    ledger.run(work)
    assert len(runs) == 3
    assert ledger.read(lambda session: session.query(UsedToken).count()) == 1


def test_an_exception_rolls_the_transaction_back_and_returns_its_connection(
    make_app: MakeApp, database: str
) -> None:
    ledger = make_app(database).extensions["smsverify"].ledger

    def work(session: Any) -> None:
        session.add(UsedToken(digest="a", until=datetime.now(UTC)))
        session.flush()
        raise RuntimeError("after a write")

    with pytest.raises(RuntimeError):
        ledger.run(work)
    assert ledger.read(lambda session: session.query(UsedToken).count()) == 0
    assert ledger.engine.pool.checkedout() == 0


@pytest.mark.race
def test_parallel_inserts_leave_an_existing_row_unchanged(make_app: MakeApp, database: str) -> None:
    ledger = make_app(database).extensions["smsverify"].ledger
    now = datetime.now(UTC)
    row = {"subject": 7, "failures": 1, "locked_at": None, "updated_at": now}

    def insert(failures: int) -> None:
        rows = [row | {"failures": failures}]
        ledger.run(lambda session: ledger.insert_missing(session, Streak, rows))

    insert(1)
    assert race(12, lambda _: insert(2)) == {"ok": 12}
    assert ledger.read(lambda session: session.get(Streak, 7)).failures == 1


@pytest.mark.race
def test_parallel_first_transactions_create_the_rows_of_the_locks(
    make_app: MakeApp, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_smsverify.db.ledger._MAX_RUNS", 1)  # no deadlock to hide
    ledger = make_app(database).extensions["smsverify"].ledger
    locks = Locks(ledger)

    def lock_all(number: int) -> None:
        for key in range(number, 512, 16):
            locks.run([key, key + 500], lambda session, _held: locks.lock_site(session, SITE_SENDS))

    for _ in range(3):
        ledger.run(lambda session: session.execute(delete(Lock)))
        assert race(16, lock_all) == {"ok": 16}


def test_sqlite_has_no_rows_of_locks(make_app: MakeApp, sqlite: str) -> None:
    ledger = make_app(sqlite).extensions["smsverify"].ledger
    locks = Locks(ledger)
    locks.open_claim(1)
    locks.run([1], lambda session, _held: locks.lock_site(session, SITE_SENDS))
    assert ledger.read(lambda session: session.query(Lock).count()) == 0


def test_on_sqlite_a_claim_takes_the_lock_of_all_writers(make_app: MakeApp, sqlite: str) -> None:
    """Before it reads who holds the mobile. Without a write it would have no transaction yet."""
    app = make_app(sqlite)
    ledger = app.extensions["smsverify"].ledger
    locks = Locks(ledger)
    other = sqlalchemy.create_engine(sqlite, connect_args={"timeout": 0})
    with app.app_context(), other.connect() as writer:
        ledger.run_in(db.session.connection(), lambda session: locks.lock_claim(session, 1))
        with pytest.raises(exc.OperationalError, match="locked"):
            writer.exec_driver_sql("BEGIN IMMEDIATE")
        db.session.rollback()
        writer.exec_driver_sql("BEGIN IMMEDIATE")
    other.dispose()


# --- beside the host's session --------------------------------------------------------------------


def test_on_sqlite_uncommitted_writes_of_the_host_are_an_error_that_says_so(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, users=2)
    verifier = app.extensions["smsverify"].verifier
    with app.app_context():
        user, other = db.session.get(User, 1), db.session.get(User, 2)
        challenge = verifier.start(user)
        user.note = "not committed"
        db.session.flush()
        for act in (lambda: verifier.start(other), lambda: verifier.check(challenge, "123456")):
            with pytest.raises(UncommittedWrites, match="commit"):
                act()
        db.session.commit()
        assert outcome(lambda: verifier.check(challenge, "123456")) in ("WrongCode", "ok")


def test_pending_objects_of_the_hosts_session_do_not_matter(app: Flask) -> None:
    with app.app_context():
        user = db.session.get(User, 1)
        db.session.add(User(id=99))
        with db.session.no_autoflush:
            assert app.extensions["smsverify"].verifier.start(user).sends == 1


def test_on_a_server_the_ledger_commits_beside_uncommitted_writes_of_the_host(
    make_flow: Callable[..., Flow], database: str
) -> None:
    flow = make_flow(database)
    user = flow.user()
    if flow.state.ledger.dialect == "sqlite":
        return  # one writer: the tests above
    user.note = "not committed"
    db.session.flush()
    challenge = flow.verifier.start(user)
    db.session.rollback()
    assert flow.verifier.load(challenge.id).state == "pending"
    assert flow.user().note is None


# --- an in-memory database ------------------------------------------------------------------------


def test_a_verification_works_in_an_in_memory_database(make_flow: Callable[..., Flow]) -> None:
    flow = make_flow("sqlite://")
    assert flow.prove().mobile == "+989123450001"
    assert flow.verifier.status(flow.user()).state == "verified"


def test_a_read_in_an_in_memory_database_does_not_end_the_hosts_transaction(
    make_flow: Callable[..., Flow],
) -> None:
    flow = make_flow("sqlite://")
    user = flow.user()
    user.note = "not committed"
    db.session.flush()
    assert flow.verifier.status(user).state == "unverified"
    db.session.rollback()
    assert flow.user().note is None
    flow.user().note = "committed"
    db.session.flush()
    flow.verifier.status(flow.user())
    db.session.commit()
    assert flow.user().note == "committed"


def test_uncommitted_writes_in_an_in_memory_database_are_an_error_and_stay_uncommitted(
    make_flow: Callable[..., Flow],
) -> None:
    flow = make_flow("sqlite://")
    flow.user().note = "not committed"
    db.session.flush()
    with pytest.raises(UncommittedWrites):
        flow.start()
    db.session.rollback()
    assert flow.user().note is None


# Threads share the record of SQLAlchemy's StaticPool, which two of them may check in at once.
@pytest.mark.filterwarnings("ignore:Double checkin attempted:sqlalchemy.exc.SAWarning")
@pytest.mark.race
def test_commits_and_rollbacks_of_other_threads_wait_for_a_transaction_in_memory(
    make_app: MakeApp,
) -> None:
    """A rollback on the shared connection would undo another thread's unfinished transaction."""
    app = make_app("sqlite://", users=1, SMSVERIFY_SENDERS=MEMORY)
    with app.app_context():
        flow = flow_of(app)
        challenge = flow.start()
        wrong = flow.wrong(challenge)
        db.session.remove()
    is_over = threading.Event()

    def open_and_close_sessions() -> None:
        while not is_over.is_set():
            with app.app_context():
                db.session.execute(text("SELECT 1"))

    others = [threading.Thread(target=open_and_close_sessions) for _ in range(4)]
    for thread in others:
        thread.start()
    try:
        ends = race(20, lambda _: guess(app, challenge.id, wrong))
    finally:
        is_over.set()
        for thread in others:
            thread.join()
    assert ends == {"WrongCode": 5, "TooManyAttempts": 15}


def test_the_host_cannot_commit_or_roll_back_during_a_transaction_in_memory(
    make_app: MakeApp,
) -> None:
    """The same, in a fixed order: the host's thread asks while the transaction is open."""
    app = make_app("sqlite://", users=1, SMSVERIFY_SENDERS=MEMORY)
    ledger = app.extensions["smsverify"].ledger
    order: list[str] = []
    asks, asked = threading.Event(), threading.Event()

    def end_transactions(end: str) -> None:
        with app.app_context():
            db.session.execute(text("SELECT 1"))
            assert asks.wait(60)
            asked.set()
            getattr(db.session, end)()
            order.append(end)

    for end in ("commit", "rollback"):
        order.clear()
        asks.clear()
        asked.clear()
        host = threading.Thread(target=end_transactions, args=(end,))
        host.start()

        def work(session: Any) -> None:
            session.add(UsedToken(digest=end, until=datetime.now(UTC)))  # noqa: B023 -- runs at once
            session.flush()
            asks.set()
            assert asked.wait(60)
            host.join(0.2)  # noqa: B023 -- runs at once; a host that does not wait ends here
            order.append("ledger")
            raise RuntimeError("roll back")

        with pytest.raises(RuntimeError):
            ledger.run(work)
        host.join(60)
        assert order == ["ledger", end]
    assert ledger.read(lambda session: session.query(UsedToken).count()) == 0


def test_an_in_memory_database_that_was_opened_before_init_app_is_refused() -> None:
    app = Flask("early")
    app.config.update(
        SECRET_KEY="secret",
        TESTING=True,
        SQLALCHEMY_DATABASE_URI="sqlite://",
        SMSVERIFY_SENDERS=MEMORY,
    )
    db.init_app(app)
    with app.app_context():
        db.session.execute(text("SELECT 1"))
        with pytest.raises(ConfigurationError, match=r"before SMSVerify\.init_app"):
            SMSVerify(app, db, user_model=User)
        db.session.remove()
        db.engine.dispose()


def test_closing_the_ledger_keeps_an_in_memory_database(
    make_flow: Callable[..., Flow],
) -> None:
    flow = make_flow("sqlite://")
    flow.state.ledger.close()
    assert flow.user().mobile == "09123450001"


# --- a schema, migrations, types ------------------------------------------------------------------


def test_the_tables_are_in_the_schema_of_the_hosts_metadata(
    server_databases: dict[str, str],
) -> None:
    """On PostgreSQL, which has schemas."""
    if "postgresql" not in server_databases:
        return  # the summary of the run names the missing server
    url = server_databases["postgresql"]
    schema = f"house_{os.getpid()}"
    own = SQLAlchemy(metadata=sqlalchemy.MetaData(schema=schema))

    class Person(own.Model):
        id = own.Column(own.Integer, primary_key=True)
        mobile = own.Column(own.String(32))

    app = Flask("house")
    app.config.update(
        SECRET_KEY="secret", TESTING=True, SQLALCHEMY_DATABASE_URI=url, SMSVERIFY_SENDERS=MEMORY
    )
    own.init_app(app)
    SMSVerify(app, own, user_model=Person)
    with app.app_context():
        try:
            with own.engine.begin() as connection:
                connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
                connection.exec_driver_sql("DROP TABLE IF EXISTS smsverify_verification")
            own.create_all()
            own.session.add(Person(id=1, mobile="09120000000"))
            own.session.commit()
            flow = flow_of(app)
            challenge = flow.verifier.start(own.session.get(Person, 1))
            flow.check(challenge, flow.code(challenge))
            assert guard.decide(own.session.get(Person, 1)).allowed
            inspector = sqlalchemy.inspect(own.engine)
            assert set(Base.metadata.tables) <= set(inspector.get_table_names(schema=schema))
            assert "smsverify_verification" not in inspector.get_table_names()
        finally:
            own.session.remove()
            app.extensions["smsverify"].close()
            with own.engine.begin() as connection:
                connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
            own.engine.dispose()


def test_create_all_creates_the_tables(make_app: MakeApp, database: str) -> None:
    with make_app(database).app_context():
        db.drop_all()
        db.create_all()
        assert set(Base.metadata.tables) <= set(sqlalchemy.inspect(db.engine).get_table_names())


# Flask-Migrate's `env.py` calls the deprecated method first.
@pytest.mark.filterwarnings("ignore:'get_engine' is deprecated:DeprecationWarning")
def test_a_migration_creates_all_tables_without_importing_the_package(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Flask-Migrate's `env.py` would disable all loggers of this process.
    monkeypatch.setattr("logging.config.fileConfig", lambda *_: None)
    app = create_app(database, SMSVERIFY_SENDERS=MEMORY)
    flask_migrate.Migrate(app, db)
    folder = str(tmp_path / "migrations")
    try:
        with app.app_context():
            flask_migrate.init(folder)
            flask_migrate.migrate(folder, message="all")
            [script] = (tmp_path / "migrations" / "versions").glob("*.py")
            source = script.read_text()
            assert "flask_smsverify" not in source
            for name in Base.metadata.tables:
                assert f"create_table('{name}'" in source
            flask_migrate.upgrade(folder)
            db.session.remove()
            with db.engine.begin() as connection:
                connection.execute(sqlalchemy.insert(User).values(id=1, mobile="09120000000"))
            flow = flow_of(app)
            assert flow.prove().mobile == "+989120000000"
            db.session.remove()
            flask_migrate.migrate(folder, message="no change")
            assert len(list((tmp_path / "migrations" / "versions").glob("*.py"))) == 1
            db.session.remove()
            flask_migrate.downgrade(folder)
            assert not set(Base.metadata.tables) & set(
                sqlalchemy.inspect(db.engine).get_table_names()
            )
    finally:
        app.extensions["smsverify"].close()
        with app.app_context():
            db.session.remove()
            db.engine.dispose()


def test_times_are_read_as_they_were_written_to_the_microsecond(
    make_flow: Callable[..., Flow], database: str
) -> None:
    flow = make_flow(database)
    tehran = timezone(timedelta(hours=3, minutes=30))
    written = [
        datetime(2026, 3, 29, 0, 30, 0, 123456, UTC),
        datetime(2026, 3, 29, 4, 0, 0, 654321, tehran),
        datetime(2030, 12, 31, 23, 59, 59, 999999, UTC),
    ]
    flow.state.ledger.run(
        lambda session: session.add_all(
            UsedToken(digest=f"{at}", until=when) for at, when in enumerate(written)
        )
    )
    read = [
        flow.state.ledger.read(lambda session, at=at: session.get(UsedToken, f"{at}")).until
        for at in range(3)
    ]
    assert read == written
    assert all(when.tzinfo is UTC for when in read)
    proved = flow.prove().verified_at
    db.session.rollback()  # a transaction of MariaDB sees the rows of its start
    seen = db.session.execute(sqlalchemy.select(Verification.__table__.c.verified_at)).scalar_one()
    assert seen == proved == flow.clock.now


def test_a_time_without_a_time_zone_is_refused(app: Flask) -> None:
    row = UsedToken(digest="a", until=datetime(2026, 1, 1))  # noqa: DTZ001 -- naive on purpose
    with pytest.raises(exc.StatementError, match="without a time zone"):
        app.extensions["smsverify"].ledger.run(lambda session: session.add(row))


# --- callbacks after the host's commit ------------------------------------------------------------


def test_a_callback_runs_once_after_the_outermost_commit(app: Flask) -> None:
    called: list[str] = []
    with app.app_context():
        session = db.session()
        session.execute(text("SELECT 1"))
        with session.begin_nested():
            after_commit(session, lambda: called.append("in a savepoint"))
        after_commit(session, lambda: called.append("outside"))
        assert called == []
        session.commit()
        assert called == ["in a savepoint", "outside"]
        session.add(User(mobile="1"))
        session.commit()
        assert len(called) == 2


def test_a_callback_is_dropped_by_a_rollback_and_by_close(app: Flask) -> None:
    called: list[str] = []
    with app.app_context():
        session = db.session()
        for end in (session.rollback, session.close):
            session.execute(text("SELECT 1"))
            after_commit(session, lambda: called.append("dropped"))
            end()
            session.execute(text("SELECT 1"))
            session.commit()
        assert called == []


def test_a_rollback_to_a_savepoint_drops_the_callbacks_inside_it_alone(app: Flask) -> None:
    called: list[str] = []
    with app.app_context():
        session = db.session()
        session.execute(text("SELECT 1"))
        after_commit(session, lambda: called.append("outside"))
        savepoint = session.begin_nested()
        with session.begin_nested():
            after_commit(session, lambda: called.append("inside"))
        savepoint.rollback()
        session.commit()
    assert called == ["outside"]


# --- many users at once ---------------------------------------------------------------------------

#: How many steps each user takes.
SOAK_STEPS = int(os.environ.get("SMSTESTS_SOAK_STEPS", "12"))
SOAK_USERS = 16
EXPECTED = {
    "ok",
    "TooSoon",
    "RateLimited",
    "WrongCode",
    "NoChallenge",
    "TooManyAttempts",
    "CodeExpired",
    "MobileTaken",
    "AccountLocked",
}


def test_16_users_in_parallel_meet_only_errors_about_their_codes_and_limits(
    make_app: MakeApp,
    database: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each user holds a connection of the host's pool, as Flask-Login's user loader does.

    `SMSTESTS_SOAK_STEPS` sets how many steps each user takes.
    """
    # On a slow machine a transaction may wait long for the others. None may wait for ever.
    monkeypatch.setattr("flask_smsverify.db.ledger.LOCK_SECONDS", 300)
    app = make_app(
        database,
        users=SOAK_USERS,
        SQLALCHEMY_ENGINE_OPTIONS={"pool_size": SOAK_USERS},
        SMSVERIFY_SENDERS=MEMORY,
        SMSVERIFY_RESEND_DELAYS=(1,),
        SMSVERIFY_SENDS_IN_FLIGHT=64,
        SMSVERIFY_MOBILE_POLICY="transfer",
        SMSVERIFY_CONSECUTIVE_FAILURES=1_000_000,
        SMSVERIFY_LIMITS={
            "mobile": "100000/hour",
            "user": None,
            "mobiles_per_user": None,
            "site": "1000000/day",
            "failures": "100000/day",
            "site_failures": "1000000/hour",
        },
    )
    state = app.extensions["smsverify"]
    ends: Counter[str] = Counter()
    lock = threading.Lock()

    def take_steps(number: int) -> None:
        for step in range(SOAK_STEPS):
            end = outcome(partial(_take_step, app, number + 1, step))
            with lock:
                ends[end] += 1

    assert race(SOAK_USERS, take_steps, timeout=600) == {"ok": SOAK_USERS}
    state.workers.wait()
    if SOAK_STEPS > 100:
        with capsys.disabled():
            print(f"\n{state.ledger.dialect}: {dict(ends)}")  # noqa: T201 -- the result of a soak
    assert set(ends) <= EXPECTED, ends
    assert ends.total() == SOAK_USERS * SOAK_STEPS
    assert ends["ok"] >= SOAK_USERS
    assert state.ledger.engine.pool.checkedout() == 0


def _take_step(app: Flask, number: int, step: int) -> None:
    with app.app_context():
        user = db.session.get(User, number)
        verifier = app.extensions["smsverify"].verifier
        mobile = f"09120000{(number * 7 + step) % 8:03}"
        action = random.Random(number * 100_000 + step).randrange(6)
        if step == 0 or action == 0:
            verifier.start(user, mobile=mobile, ip=f"192.0.2.{step % 4}")
        elif action == 1 and (latest := verifier.latest(user)) is not None:
            verifier.resend(latest, channel="voice", ip="192.0.2.1")
        elif action in (2, 3) and (latest := verifier.latest(user)) is not None:
            right = Flow(app, Clock()).code(latest)
            verifier.check(user, right if action == 2 else right[1:] + "0", ip="192.0.2.1")
        elif action == 4:
            verifier.start_for(mobile, purpose=f"sign-up {number}")
        else:
            verifier.status(user)
