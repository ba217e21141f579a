"""The ledger's engine has what the host has given its own engine, and joins a test's connection."""

from __future__ import annotations

import gc
import sqlite3
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import services
import sqlalchemy
from conftest import MakeApp, database_params
from flask import Flask
from hostapp import User, create_app, db
from sqlalchemy import event, make_url, text
from visiting import CHECK, MOBILE, OTHER, PAGE, SEND, browser, last_code, mobile_in_host, wrong

from flask_smsverify import SMSVerify, guard
from flask_smsverify.db.models import UsedToken
from flask_smsverify.errors import ConfigurationError, UncommittedWrites, WrongCode
from flask_smsverify.testing import outbox

TABLES = ("smsverify_verification", "smsverify_challenge", "smsverify_message")


def walk(app: Flask, number: int = 1) -> None:
    """Send a code, enter it, and open the guarded view."""
    client = browser(app, number)
    assert client.get("/guarded").location.startswith(PAGE)
    assert client.post(SEND).location.startswith(PAGE)
    assert client.post(CHECK, data={"code": last_code(app), "next": "/guarded"}).status_code == 303
    assert client.get("/guarded").text == "guarded"


def ledger_of(app: Flask) -> Any:
    return app.extensions["smsverify"].ledger


def scalar(app: Flask, statement: str) -> Any:
    """Return what a statement returns on a connection of the ledger."""
    return ledger_of(app).read(lambda session: session.execute(text(statement)).scalar())


# --- execution options ----------------------------------------------------------------------------


@pytest.fixture
def tenant(database: str) -> Iterator[Callable[[Flask], None]]:
    """Create the schema `tenant`, and return a function that opens it on an app's engine."""

    def attach(app: Flask) -> None:
        def on_connect(connection: Any, _record: object) -> None:
            if isinstance(connection, sqlite3.Connection):
                connection.execute(f"ATTACH '{make_url(database).database}.tenant' AS tenant")

        event.listen(db.engine, "connect", on_connect)

    create = {"postgresql": "CREATE SCHEMA tenant", "mysql": "CREATE DATABASE tenant"}
    drop = {"postgresql": "DROP SCHEMA tenant CASCADE", "mysql": "DROP DATABASE tenant"}
    admin = sqlalchemy.create_engine(database, isolation_level="AUTOCOMMIT")
    if admin.dialect.name in create:
        with admin.connect() as connection:
            connection.exec_driver_sql(create[admin.dialect.name])
    yield attach
    if admin.dialect.name in drop:
        with admin.connect() as connection:
            connection.exec_driver_sql(drop[admin.dialect.name])
    admin.dispose()


def test_the_ledger_follows_the_schema_translate_map_of_the_host(
    make_app: MakeApp, database: str, tenant: Callable[[Flask], None]
) -> None:
    options = {"execution_options": {"schema_translate_map": {None: "tenant"}}}
    app = make_app(database, prepare=tenant, SQLALCHEMY_ENGINE_OPTIONS=options)
    walk(app)
    assert scalar(app, "SELECT count(*) FROM tenant.smsverify_verification") == 1
    app.extensions["smsverify"].close()


@pytest.mark.parametrize("database", database_params(), indirect=True)
def test_a_guard_reads_where_the_ledger_writes_whatever_the_hosts_session_translates(
    make_app: MakeApp, database: str, tenant: Callable[[Flask], None]
) -> None:
    app = make_app(database, prepare=tenant)
    walk(app)
    with app.test_request_context():
        user = db.session.get_one(User, 1)
        connection = db.session.connection()
        connection.execution_options(schema_translate_map={None: "tenant"})
        assert guard.decide(user).reason == "verified"
        assert connection.get_execution_options()["schema_translate_map"] == {None: "tenant"}
    app.extensions["smsverify"].close()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_hosts_engine_calls_no_events_for_the_sake_of_the_ledger(
    make_app: MakeApp, database: str
) -> None:
    """An engine with a listener calls all events of each statement."""
    app = make_app(database)
    seen: list[str] = []

    def on_execute(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    with app.app_context():
        walk(app)
        assert "_has_events" not in vars(db.engine)  # what all engines have is not the app's
        event.listen(sqlalchemy.Engine, "before_cursor_execute", on_execute)
        try:
            db.session.execute(text("SELECT 1"))
        finally:
            event.remove(sqlalchemy.Engine, "before_cursor_execute", on_execute)
        assert seen == ["SELECT 1"]


@pytest.mark.parametrize("database", database_params(), indirect=True)
def test_the_echo_of_the_hosts_engine_has_a_guards_statement_without_the_mobile(
    make_app: MakeApp, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(database, SQLALCHEMY_ECHO=True)
    with app.test_request_context():
        user = db.session.get_one(User, 1)
        assert user.mobile is not None
        app.extensions["smsverify"].ledger.find_identity()
        caplog.clear()
        guard.current_status(user)
        assert "FROM smsverify_verification" in caplog.text
        assert user.mobile[1:] not in caplog.text


@pytest.mark.parametrize("database", database_params(), indirect=True)
def test_a_failed_statement_on_the_hosts_connection_shows_no_mobile(
    make_app: MakeApp, database: str
) -> None:
    app = make_app(database)
    shown: list[BaseException] = []

    def fail(work: Callable[[], object], error: type[Exception]) -> None:
        with pytest.raises(error) as caught:
            work()
        shown.append(caught.value)
        db.session.rollback()

    with app.test_request_context():
        user = db.session.get_one(User, 1)
        users = app.extensions["smsverify"].users
        mobile = user.mobile
        ledger_of(app).find_identity()
        db.session.rollback()
        with db.engine.begin() as connection:
            connection.execute(text("ALTER TABLE smsverify_challenge RENAME TO renamed"))
        fail(lambda: guard.current_status(user), ConfigurationError)
        statement = text("SELECT :mobile FROM nowhere")
        fail(
            lambda: ledger_of(app).run_in(
                db.session.connection(),
                lambda session: session.execute(statement, {"mobile": mobile}),
            ),
            ConfigurationError,
        )
        db.session.expunge_all()
        db.session.add(User(id=1, mobile=mobile))
        fail(users.commit, sqlalchemy.exc.IntegrityError)
        with db.engine.begin() as connection:
            connection.execute(text("ALTER TABLE renamed RENAME TO smsverify_challenge"))
    for error in shown:
        assert mobile not in "".join(traceback.format_exception(error))
    app.extensions["smsverify"].close()


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "SERIALIZABLE"])
@pytest.mark.parametrize("database", database_params(), indirect=True)
def test_the_ledger_keeps_its_isolation_level_beside_the_hosts(
    make_app: MakeApp, database: str, level: str
) -> None:
    options = {"execution_options": {"isolation_level": level}}
    app = make_app(database, SQLALCHEMY_ENGINE_OPTIONS=options)
    walk(app)
    refuse_partial_writes(app)
    if ledger_of(app).dialect != "sqlite":
        assert isolation_of(app) == "read committed"


@pytest.mark.parametrize("mode", ["ANSI", "ORACLE"])
@pytest.mark.parametrize("database", database_params("mariadb"), indirect=True)
def test_a_code_is_checked_where_mariadb_reads_the_sql_of_another_database(
    make_app: MakeApp, database: str, mode: str
) -> None:
    """The mode `ORACLE` reserves words of its own, and has no operator `%`."""
    options = {"connect_args": {"init_command": f"SET sql_mode = '{mode}'"}}
    app = make_app(database, SQLALCHEMY_ENGINE_OPTIONS=options)
    with app.app_context():
        verifier = app.extensions["smsverify"].verifier
        challenge = verifier.start(db.session.get(User, 1))
        with pytest.raises(WrongCode):
            verifier.check(challenge, wrong(last_code(app)))
        assert verifier.check(challenge, last_code(app)).verified_at


@pytest.mark.parametrize("database", database_params("postgresql", "mariadb"), indirect=True)
def test_the_ledger_has_transactions_where_the_driver_commits_each_statement(
    make_app: MakeApp, database: str
) -> None:
    app = make_app(database, SQLALCHEMY_ENGINE_OPTIONS={"connect_args": {"autocommit": True}})
    walk(app)
    refuse_partial_writes(app)
    assert isolation_of(app) == "read committed"


AUTOCOMMIT = {
    "isolation_level": {"isolation_level": "AUTOCOMMIT"},
    "execution_options": {"execution_options": {"isolation_level": "AUTOCOMMIT"}},
    "connect_args": {"connect_args": {"autocommit": True}},
}


@pytest.fixture(params=AUTOCOMMIT)
def autocommitting(request: Any, make_app: MakeApp, database: str) -> Flask:
    """Return an app whose own connections commit each statement."""
    is_sqlite = make_url(database).get_backend_name() == "sqlite"
    if request.param == "connect_args" and is_sqlite and sys.version_info < (3, 12):
        pytest.skip("sqlite3 has the parameter since Python 3.12")
    return make_app(database, users=2, SQLALCHEMY_ENGINE_OPTIONS=AUTOCOMMIT[request.param])


@pytest.mark.parametrize("database", database_params(), indirect=True)
def test_a_new_mobile_is_stored_after_its_proof_where_each_statement_commits(
    autocommitting: Flask,
) -> None:
    app = autocommitting
    client = browser(app)
    assert client.post(MOBILE, data={"mobile": OTHER, "send": "1"}).location.startswith(PAGE)
    assert mobile_in_host(app) == "09123450001"
    client.post(CHECK, data={"code": last_code(app)})
    assert mobile_in_host(app) == OTHER
    assert client.get("/guarded").text == "guarded"


@pytest.mark.parametrize("database", database_params(), indirect=True)
def test_a_claim_needs_a_transaction_where_each_statement_commits(autocommitting: Flask) -> None:
    """Without one, two claims of a token at once would both grant the verification."""
    app = autocommitting
    verifier = app.extensions["smsverify"].verifier
    with app.app_context():
        challenge = verifier.start_for(OTHER, purpose="sign-up")
        app.extensions["smsverify"].workers.wait()
        proof = verifier.check(challenge, last_code(app))
        token = verifier.proof_token(proof)
        db.session.add(user := User())
        with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
            verifier.claim(token, user, purpose="sign-up")
        db.session.rollback()
        assert db.session.query(User).count() == 2
        db.session.rollback()
        if db.engine.dialect.name == "sqlite":
            return  # it has no READ COMMITTED
        db.session.connection(execution_options={"isolation_level": "READ COMMITTED"})
        db.session.add(user := User())
        verifier.claim(token, user, purpose="sign-up")
        db.session.commit()
        assert verifier.status(user).state == "verified"


@pytest.mark.parametrize("database", database_params(), indirect=True)
def test_a_text_is_queued_once_where_each_statement_commits(autocommitting: Flask) -> None:
    app = autocommitting
    smsverify = app.extensions["test_smsverify"]
    with app.app_context():
        user = db.session.get(User, 1)
        values = {"client_name": "Sara", "dedupe_key": "registered"}
        first = smsverify.notify("client.registered", user, **values)
        second = smsverify.notify("client.registered", user, **values)
        db.session.commit()
        assert (len(first.ids), len(second.ids)) == (1, 0)


def isolation_of(app: Flask) -> str:
    is_mysql = ledger_of(app).dialect == "mysql"
    shown = scalar(app, "SELECT @@tx_isolation" if is_mysql else "SHOW transaction_isolation")
    return str(shown).lower().replace("-", " ")


def refuse_partial_writes(app: Flask) -> None:
    """Check that a failed transaction of the ledger leaves no row."""
    ledger = ledger_of(app)

    def work(session: Any) -> None:
        session.add(UsedToken(digest="partial", until=datetime.now(UTC)))
        session.flush()
        raise RuntimeError("after a write")

    with pytest.raises(RuntimeError):
        ledger.run(work)
    assert ledger.read(lambda session: session.get(UsedToken, "partial")) is None


# --- connections ----------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before init_app", "after init_app"])
@pytest.mark.parametrize("database", database_params(), indirect=True)
def test_the_ledger_connects_through_the_hosts_do_connect(
    make_app: MakeApp, database: str, when: str
) -> None:
    """The URL has no valid credentials; a listener adds them, as for short-lived tokens."""
    url = make_url(database)
    without = (
        url.set(database="/nowhere/at/all.sqlite")
        if url.drivername == "sqlite"
        else url.set(username="nobody", password="no")
    )

    def listen(_app: Flask) -> None:
        def add_token(
            _dialect: Any, _record: Any, cargs: list[Any], cparams: dict[str, Any]
        ) -> Any:
            if url.drivername == "sqlite":
                return sqlite3.connect(url.database or "", check_same_thread=False)
            cparams["user"] = url.username
            cparams.pop("password", None)
            return None

        event.listen(db.engine, "do_connect", add_token)

    config: dict[str, Any] = {"prepare": listen} if when == "before init_app" else {}
    app = create_app(without.render_as_string(False), **config)
    with app.app_context():
        if not config:
            listen(app)
        db.create_all()
        db.session.add(User(mobile="09123450001"))
        db.session.commit()
    walk(app)
    app.extensions["smsverify"].close()
    with app.app_context():
        db.drop_all()
        db.engine.dispose()


@pytest.mark.parametrize("when", ["before init_app", "after init_app", "after the first use"])
@pytest.mark.parametrize("database", database_params(), indirect=True)
def test_listeners_to_the_hosts_connections_serve_the_ledger_too(
    make_app: MakeApp, database: str, when: str
) -> None:
    statement = {
        "sqlite": "PRAGMA cache_size = 4321",
        "postgresql": "SET application_name = '4321'",
        "mysql": "SET SESSION wait_timeout = 4321",
    }
    query = {
        "sqlite": "PRAGMA cache_size",
        "postgresql": "SHOW application_name",
        "mysql": "SELECT @@wait_timeout",
    }
    seen: list[object] = []

    def listen(_app: Flask) -> None:
        def on_connect(connection: Any, _record: object) -> None:
            cursor = connection.cursor()  # and leaves the transaction open, as many do
            cursor.execute(statement[db.engine.dialect.name])
            cursor.close()
            seen.append(connection)

        event.listen(db.engine, "connect", on_connect)

    app = make_app(database, **({"prepare": listen} if when == "before init_app" else {}))
    if when == "after the first use":
        walk(app)
    with app.app_context():
        if when != "before init_app":
            listen(app)
        assert str(scalar(app, query[db.engine.dialect.name])) == "4321"
    assert len(seen) == len(set(map(id, seen))), "called once for each connection"
    app.extensions["smsverify"].close()


def test_listeners_to_the_class_serve_the_ledger_once_for_each_connection(
    make_app: MakeApp, database: str
) -> None:
    seen: list[Any] = []

    def on_connect(connection: Any, _record: object) -> None:
        seen.append(connection)

    event.listen(sqlalchemy.Engine, "connect", on_connect)
    try:
        app = make_app(database)
        scalar(app, "SELECT 1")
        assert len(seen) == len(set(map(id, seen)))
    finally:
        event.remove(sqlalchemy.Engine, "connect", on_connect)


def test_the_ledger_follows_an_engine_that_replaces_the_hosts(
    make_app: MakeApp, database: str, tmp_path: Any
) -> None:
    app = make_app(database)
    replacement = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'other.sqlite'}")
    with app.app_context():
        before = db.engine
        db.engines[None] = replacement  # type: ignore[index]
        db.create_all()
        db.session.add(User(mobile="09123450001"))
        db.session.commit()
    walk(app)
    with replacement.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM smsverify_verification")).scalar() == 1
    with app.app_context():
        db.session.remove()
        db.engines[None] = before  # type: ignore[index]
        assert scalar(app, "SELECT count(*) FROM smsverify_verification") == 0
    replacement.dispose()


# --- what cannot be honoured ----------------------------------------------------------------------


@contextmanager
def listening(target: Any, name: str, listener: Any) -> Iterator[None]:
    event.listen(target, name, listener)
    try:
        yield
    finally:
        event.remove(target, name, listener)


def begin(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN")


def leave_begin(connection: Any, _record: object) -> None:
    connection.isolation_level = None


def test_a_begin_recipe_on_the_class_is_refused_at_start(sqlite: str) -> None:
    with (
        listening(sqlalchemy.Engine, "connect", leave_begin),
        listening(sqlalchemy.Engine, "begin", begin),
        pytest.raises(ConfigurationError, match=r"event\.listen\(db\.engine, 'begin'"),
    ):
        create_app(sqlite)


def test_a_begin_recipe_on_the_class_after_the_start_is_refused_by_name(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite)
    with (
        listening(sqlalchemy.Engine, "begin", begin),
        pytest.raises(ConfigurationError, match=r"event\.listen\(db\.engine, 'begin'"),
    ):
        scalar(app, "SELECT 1")


def test_a_listener_to_begin_that_only_observes_is_no_recipe(
    make_app: MakeApp, database: str
) -> None:
    seen: list[object] = []
    with listening(sqlalchemy.Engine, "begin", seen.append):
        walk(make_app(database))
    assert seen


def use_wal(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")


def begin_recipe(on_connect: Any) -> Callable[[Flask], None]:
    """Return SQLAlchemy's recipe for SQLite, on the host's engine."""

    def listen(_app: Flask) -> None:
        event.listen(db.engine, "connect", on_connect)
        event.listen(db.engine, "begin", begin)

    return listen


def test_a_begin_recipe_on_the_hosts_engine_works_in_wal_mode(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, prepare=begin_recipe(use_wal))
    walk(app)
    with app.app_context():
        db.session.get(User, 1).note = "uncommitted"
        db.session.flush()
        with pytest.raises(UncommittedWrites):
            app.extensions["smsverify"].verifier.revoke(db.session.get(User, 1), by="staff")


def test_a_begin_recipe_without_wal_mode_is_refused(make_app: MakeApp, sqlite: str) -> None:
    """A transaction that has read would make every send wait for ten seconds, and fail."""
    with pytest.raises(ConfigurationError, match="journal_mode=WAL"):
        create_app(sqlite, prepare=begin_recipe(leave_begin))
    app = make_app(sqlite)
    with app.app_context():
        begin_recipe(leave_begin)(app)  # too late for the check at start
        db.engine.dispose()
        user = db.session.get(User, 1)
        with pytest.raises(ConfigurationError, match="journal_mode=WAL"):
            app.extensions["smsverify"].verifier.start(user)


def test_a_begin_recipe_in_memory_is_refused_at_start() -> None:
    with pytest.raises(ConfigurationError, match="database in a file"):
        create_app("sqlite://", prepare=begin_recipe(leave_begin))


def test_a_connection_without_autocommit_is_refused_at_start(sqlite: str) -> None:
    options = {"connect_args": {"autocommit": False}}
    with pytest.raises(ConfigurationError, match="connect_args in SQLALCHEMY_ENGINE_OPTIONS"):
        create_app(sqlite, SQLALCHEMY_ENGINE_OPTIONS=options)


# --- tests of the host ----------------------------------------------------------------------------


@contextmanager
def rolled_back(app: Flask) -> Iterator[None]:
    """Replace the engine of a test by one connection and roll it back, as hosts' fixtures do."""
    with app.app_context():
        engines: Any = db.engines
    engine = engines[None]
    connection = engine.connect()
    transaction = connection.begin()
    engines[None] = connection
    try:
        yield
    finally:
        with app.app_context():
            db.session.remove()
        transaction.rollback()
        connection.close()
        engines[None] = engine


def counts(app: Flask) -> list[int]:
    return [
        scalar(app, f"SELECT count(*) FROM {table}")  # noqa: S608 -- the names are above
        for table in TABLES
    ]


@pytest.mark.parametrize("kind", [*database_params(), pytest.param("memory")])
def test_tests_that_roll_one_connection_back_leave_no_row(
    make_app: MakeApp, request: pytest.FixtureRequest, kind: str, tmp_path: Any
) -> None:
    servers = request.getfixturevalue("server_databases")
    from conftest import _empty

    url = "sqlite://" if kind == "memory" else _empty(kind, tmp_path, servers)
    app = make_app(url)
    for _ in range(6):  # more than the limits of one hour
        with rolled_back(app), outbox(app) as box:
            client = browser(app, 1)
            with app.app_context():
                db.session.get(User, 1).note = "uncommitted"
                db.session.commit()
            client.post(SEND)
            client.post(CHECK, data={"code": box.last.code})
            assert client.get("/guarded").text == "guarded"
            with app.app_context():
                verifier = app.extensions["smsverify"].verifier
                challenge = verifier.start_for("09350000000", purpose="sign-up")
                proof = verifier.check(challenge, box.last.code)
                user = User()
                db.session.add(user)
                verifier.claim(verifier.proof_token(proof), user, purpose="sign-up")
                db.session.commit()
                assert verifier.status(user).state == "verified"
    assert counts(app) == [0, 0, 0]
    with app.app_context():
        assert db.session.get(User, 1).note is None
        assert db.session.query(User).count() == 1
    walk(app)
    assert counts(app) == [1, 1, 1]


def test_a_database_can_be_dropped_after_the_engine_was_disposed(
    make_app: MakeApp, server_databases: dict[str, str]
) -> None:
    """Either `db.engine.dispose()` or `smsverify.close()` releases the ledger's connections."""
    if "postgresql" not in server_databases:
        pytest.skip("PostgreSQL does not answer")
    admin = sqlalchemy.create_engine(services.POSTGRESQL, isolation_level="AUTOCOMMIT")
    for by in ("dispose", "close"):
        with admin.connect() as connection:
            connection.exec_driver_sql("CREATE DATABASE smsverify_dropped")
        app = make_app(
            make_url(services.POSTGRESQL).set(database="smsverify_dropped").render_as_string(False)
        )
        walk(app)
        with app.app_context():
            db.session.remove()
            if by == "dispose":
                db.engine.dispose()
        if by == "close":
            smsverify: SMSVerify = app.extensions["test_smsverify"]
            smsverify.close()  # also outside an app context
            with app.app_context():
                db.engine.dispose()
        with admin.connect() as connection:
            connection.exec_driver_sql("DROP DATABASE smsverify_dropped")
    admin.dispose()


def test_an_app_that_is_dropped_leaves_no_open_connection(database: str) -> None:
    """An unclosed connection is a ResourceWarning when it is collected."""
    app = create_app(database)
    with app.app_context():
        db.create_all()
        db.session.add(User(mobile="09123450001"))
        db.session.commit()
    walk(app)
    database_of_ledger = ledger_of(app)._database
    engines = list(database_of_ledger._open)
    with app.app_context():
        db.session.remove()
    ledger_of(app)._database = None
    pools = [engine.pool for engine in engines]
    del database_of_ledger
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()
    assert pools
    assert [engine.pool for engine in engines] != pools
    with app.app_context():
        db.engine.dispose()


def test_a_suite_inside_one_app_context_walks_as_each_user(
    make_app: MakeApp, database: str
) -> None:
    """Flask-Login keeps the user in `g`, which such a context shares between requests."""
    app = make_app(database, users=3)
    with app.app_context():
        for number in (1, 2, 3):
            with outbox(app) as box:
                client = app.test_client()
                client.get(f"/login/{number}")
                client.post(MOBILE, data={"mobile": f"{OTHER[:-1]}{number}", "send": "1"})
                assert box.last.to == f"{OTHER[:-1]}{number}"
                client.post(CHECK, data={"code": box.last.code})
                assert client.get("/guarded").text == "guarded"
                client.get("/logout")
                assert client.get("/guarded").status_code == 401
        assert {user.mobile for user in db.session.query(User)} == {
            f"{OTHER[:-1]}{number}" for number in (1, 2, 3)
        }
