"""The ledger's engine: a small pool in addition to the host's, to the same database.

It is derived from the host's engine and not rebuilt from the URL: it has the same dialect, the same
function that creates connections, with the events `do_connect` and `connect`, and the same
execution options. The host may replace its engine, dispose of it, or listen to further events after
the start, so the engine is derived again when one of these has changed.

Tests often replace the host's engine with one connection and roll its transaction back. Then the
ledger joins this transaction using savepoints.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from ..errors import ConfigurationError
from .driver import execute, has_listeners
from .errors import is_stale_plan
from .shared_connection import SharedConnection

#: Returns the host's engine, or the connection with which a test has replaced it.
HostDatabase = Callable[[], Engine | Connection]

_LOG_NAME = "smsverify"
#: Execution options of the host that contradict the ledger's transactions.
_OWN_OPTIONS = ("isolation_level", "postgresql_readonly", "postgresql_deferrable")
#: The value of `sqlite3.Connection.autocommit` since Python 3.12 that stands for the behaviour
#: before it.
_LEGACY_TRANSACTION_CONTROL = -1

#: Drivers of PostgreSQL whose attribute `autocommit` sends nothing to the server, if the connection
#: has no isolation level.
_CLIENT_SIDE_AUTOCOMMIT = ("psycopg", "psycopg2")

_AUTOCOMMIT_REFUSED = (
    "the SQLite connection has autocommit=False. In this mode the driver keeps a transaction open "
    "all the time, and flask_smsverify cannot commit beside it. Remove 'autocommit' from "
    "connect_args in SQLALCHEMY_ENGINE_OPTIONS."
)
_BEGIN_REFUSED = (
    "a listener to the event 'begin' of the class sqlalchemy.Engine begins SQLite's transactions. "
    "It would begin those of flask_smsverify as well, which need BEGIN IMMEDIATE. Listen to the "
    "app's own engine instead, inside an app context: event.listen(db.engine, 'begin', …), and the "
    "same for 'connect'."
)
_BEGIN_IN_MEMORY_REFUSED = (
    "a listener to the event 'begin' begins the transactions of an in-memory database. This "
    "database has one connection, which flask_smsverify shares with the app, and one transaction. "
    "Remove the listener, or use a database in a file."
)

_READERS_BLOCK = (
    "the app begins SQLite's transactions itself, and the database is not in WAL mode. Then a "
    "transaction of the app that has only read blocks every commit of flask_smsverify. Execute "
    "PRAGMA journal_mode=WAL in the listener to 'connect'."
)


def is_in_memory(engine: Engine) -> bool:
    """Return whether an engine's database is an in-memory SQLite database."""
    if engine.dialect.name != "sqlite":
        return False
    database = engine.url.database
    return not database or ":memory:" in database or engine.url.query.get("mode") == "memory"


class LedgerSession(Session):
    """A session in a transaction that has begun on a connection, and that the caller ends.

    It does nothing until objects are read or added with it: statements on `connection()` cost no
    more than they do without a session. A host may listen to the event `after_begin` of all
    sessions, to set a role or a search path, so the listeners must be called.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(
            connection,
            expire_on_commit=False,
            autoflush=False,
            join_transaction_mode="rollback_only",
        )
        self._connection = connection

    @property
    def has_listeners(self) -> bool:
        """Whether the host listens to `after_begin` of all sessions."""
        return bool(self.dispatch.after_begin)

    def call_listeners(self) -> None:
        """Call the listeners to `after_begin`, before the first statement."""
        if self.has_listeners:
            super().connection()

    def connection(self, *args: Any, **options: Any) -> Connection:
        """Return the connection of the transaction."""
        return super().connection(*args, **options) if args or options else self._connection

    def close(self) -> None:
        """Release the objects, if there can be any."""
        if self.in_transaction():
            super().close()


@dataclass(frozen=True, slots=True)
class _Derived:
    """An engine, and the host's objects from which it was derived.

    :param listeners: the host's listeners to new connections.
    :param shared: the only connection, if the database is in memory.
    """

    host: Engine
    listeners: tuple[Any, ...]
    engine: Engine
    shared: SharedConnection | None


class LedgerDatabase:
    """Gives the ledger its engine, or the connection that it joins.

    :param host: returns the host's engine. If its database is in memory, it must not have connected
        yet.
    :param schema: the schema of the host's metadata.
    :param lock_seconds: how many seconds a statement waits for a lock.
    :raises ConfigurationError: the ledger cannot work together with this engine. The message says
        why.
    """

    def __init__(self, host: HostDatabase, *, schema: str | None, lock_seconds: float) -> None:
        self._host = host
        self._schema = schema
        self._lock_seconds = lock_seconds
        self._lock = threading.RLock()
        self._join_lock = threading.RLock()
        self._derived: _Derived | None = None
        self._hosts: weakref.WeakSet[Engine] = weakref.WeakSet()
        self._open: list[Engine] = []
        # Connections that are never closed are ResourceWarnings.
        weakref.finalize(self, _dispose_all, self._open)
        if self.joined is None:
            self._derive()

    # --- the host's current engine --------------------------------------------------------------

    @property
    def dialect(self) -> str:
        """The name of the host's dialect."""
        return self._host().dialect.name

    @property
    def joined(self) -> Connection | None:
        """The connection that replaces the host's engine, if a test has replaced it."""
        host = self._host()
        return host if isinstance(host, Connection) else None

    @property
    def engine(self) -> Engine:
        """The ledger's engine. For an in-memory database it has the host's connection."""
        return self._derive().engine

    @property
    def shared(self) -> SharedConnection | None:
        """The only connection of an in-memory database; None for others and when joined."""
        return None if self.joined is not None else self._derive().shared

    @property
    def schema(self) -> str | None:
        """The schema of the tables of this package; None: the connection's default."""
        return _schema_of(self._host(), self._schema)

    # --- sessions -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def session(self, *, read_only: bool) -> Iterator[Session]:
        """Open a session in a transaction, and commit it at the end."""
        connection = self.joined
        if connection is not None:
            with self._join(connection) as session:
                yield session
            return
        derived = self._derive()
        with (
            derived.engine.connect() as connection,
            _closing_stale_plans(connection),
            connection.begin(),
            LedgerSession(connection) as session,
        ):
            # A listener may need the transaction that it was called in, for `SET LOCAL`.
            is_listened_to = session.has_listeners or has_listeners(connection, "begin")
            if derived.shared is not None:
                derived.shared.check(connection)
            elif connection.dialect.name == "sqlite" and (is_listened_to or not read_only):
                _begin(connection, read_only=read_only)
            session.call_listeners()
            with (
                _autocommit(connection)
                if read_only and not is_listened_to
                else contextlib.nullcontext()
            ):
                yield session

    @contextlib.contextmanager
    def _join(self, connection: Connection) -> Iterator[Session]:
        """Open a session in a savepoint of the connection's transaction."""
        with (
            self._join_lock,  # savepoints of two threads would be nested
            translated(connection, self.schema),
            Session(
                connection,
                expire_on_commit=False,
                autoflush=False,
                join_transaction_mode="create_savepoint",
            ) as session,
        ):
            if connection.in_transaction():
                _begin_for_savepoints(connection)
            with session.begin():
                yield session

    # --- close ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the pool's connections; the next use opens new ones. A shared one stays open."""
        with self._lock:
            if self._derived is not None and self._derived.shared is None:
                self._derived = None
            _dispose_all(self._open)

    def reset_after_fork(self) -> None:
        """Leave the parent's connections to the parent, as SQLAlchemy's documentation advises."""
        self._lock, self._join_lock = threading.RLock(), threading.RLock()
        for engine in self._open:
            engine.dispose(close=False)

    # --- derive ---------------------------------------------------------------------------------

    def _derive(self) -> _Derived:
        host = self._host()
        if isinstance(host, Connection):
            host = host.engine
        listeners = tuple(host.pool.dispatch.connect)
        derived = self._derived
        if derived is not None and derived.host is host and derived.listeners == listeners:
            return derived
        with self._lock:
            if derived is not None and derived.host is host and derived.shared is not None:
                return derived
            _dispose_all(self._open)
            self._derived = self._derive_from(host, listeners)
            return self._derived

    def _derive_from(self, host: Engine, listeners: tuple[Any, ...]) -> _Derived:
        shared, engine = None, host
        if is_in_memory(host):
            shared = SharedConnection(host)
            shared.check_engine(host)
            if _begins_transactions(host):
                raise ConfigurationError(_BEGIN_IN_MEMORY_REFUSED)
            engine = host.execution_options(
                schema_translate_map=_schema_map(_schema_of(host, self._schema))
            )
        else:
            engine = _ledger_engine(host, self._schema, self._lock_seconds)
            self._open.append(engine)
            if engine.dialect.name == "sqlite" and _begins_transactions(host):
                _refuse_blocking_readers(engine)
            self._close_with(host)
        return _Derived(host, listeners, engine, shared)

    def _close_with(self, host: Engine) -> None:
        """Close our connections when the host disposes of its engine, as tests do at their end."""
        if host in self._hosts:
            return
        self._hosts.add(host)
        database = weakref.ref(self)

        def on_disposed(_host: Engine) -> None:
            ours = database()
            if ours is not None:
                ours.close()

        # SQLAlchemy calls every event of each statement on an engine with a listener to any event.
        had_listeners = "_has_events" in vars(host)
        event.listen(host, "engine_disposed", on_disposed)
        if not had_listeners:
            del vars(host)["_has_events"]


@contextlib.contextmanager
def _autocommit(connection: Connection) -> Iterator[None]:
    """Read without BEGIN and COMMIT on PostgreSQL, where they are two more round trips.

    With READ COMMITTED, each statement sees what is committed when it starts, in a transaction too.
    On SQLite the driver begins nothing.

    :param connection: in a transaction of SQLAlchemy's, of which the driver knows nothing yet.
    """
    if connection.dialect.driver not in _CLIENT_SIDE_AUTOCOMMIT:
        yield
        return
    raw: Any = connection.connection.dbapi_connection
    level = raw.isolation_level
    try:
        raw.isolation_level = None  # with a level, psycopg2 would reset the session's default
        raw.autocommit = True
        yield
    finally:
        try:
            raw.autocommit = False
            raw.isolation_level = level
        except Exception:  # noqa: BLE001 -- it is closed, or was interrupted within a statement
            connection.invalidate()


@contextlib.contextmanager
def _closing_stale_plans(connection: Connection) -> Iterator[None]:
    """Treat a connection whose prepared statements are stale as one that the server has closed.

    Then the whole pool connects again, as its other connections have the same statements.
    """
    try:
        yield
    except DBAPIError as error:
        if is_stale_plan(error) and not connection.invalidated:
            connection.engine.pool._invalidate(connection.connection, error)
            connection.invalidate(error)
            error.connection_invalidated = True
        raise


@contextlib.contextmanager
def translated(connection: Connection, schema: str | None) -> Iterator[None]:
    """Set the schema of this package's tables on a connection, and restore it at the end."""
    before = connection.get_execution_options().get("schema_translate_map")
    connection.execution_options(schema_translate_map=_schema_map(schema))
    try:
        yield
    finally:
        connection.execution_options(schema_translate_map=before or {})


def refuse_autocommit(connect_args: Mapping[str, Any], dialect: str) -> None:
    """Refuse a driver's mode in which the ledger cannot commit, before the first connection.

    :param connect_args: of the host's engine.
    """
    mode = connect_args.get("autocommit")
    if dialect == "sqlite" and mode is not None and not mode:
        raise ConfigurationError(_AUTOCOMMIT_REFUSED)


def refuse_blocking_reader(connection: sqlite3.Connection) -> None:
    """Refuse a connection of the host whose transaction has read and so blocks the ledger."""
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        raise ConfigurationError(_READERS_BLOCK)


def _refuse_blocking_readers(engine: Engine) -> None:
    """Check the journal mode at start, if the database can be opened yet."""
    try:
        raw: Any = engine.raw_connection()
    except OperationalError:
        return
    try:
        refuse_blocking_reader(raw.dbapi_connection)
    finally:
        raw.close()
        engine.dispose()


def _dispose_all(engines: list[Engine]) -> None:
    while engines:
        engines.pop().dispose()


def _schema_of(host: Engine | Connection, schema: str | None) -> str | None:
    """Return the schema to which the host's execution options map that of its metadata."""
    host_map: Mapping[str | None, str | None] = (
        host.get_execution_options().get("schema_translate_map") or {}
    )
    return host_map.get(schema, schema)


def _schema_map(schema: str | None) -> Mapping[str | None, str | None]:
    """Return the execution option `schema_translate_map` for our tables, whose schema is None."""
    return {} if schema is None else {None: schema}


def _ledger_engine(host: Engine, schema: str | None, lock_seconds: float) -> Engine:
    """Create an engine to the host's database with READ COMMITTED or BEGIN IMMEDIATE transactions.

    The creator and the listeners of a pool are private in SQLAlchemy. `Pool.recreate` passes the
    same ones on.
    """
    # At DEBUG, SQLAlchemy logs rows in spite of `hide_parameters`, and rows hold mobiles. The
    # separate logger keeps these rows out of a host's own debug log.
    logging.getLogger(f"sqlalchemy.engine.Engine.{_LOG_NAME}").setLevel(logging.WARNING)
    is_sqlite = host.dialect.name == "sqlite"
    pool = QueuePool(
        host.pool._creator,
        dialect=host.dialect,
        recycle=host.pool._recycle,
        pool_size=5,
        max_overflow=15 if is_sqlite else 10,
        # A connection is returned when its transaction ends, and that may wait for a lock.
        timeout=lock_seconds * 1.5,
        _dispatch=host.pool.dispatch,
    )
    options = {
        name: value
        for name, value in host.get_execution_options().items()
        if name not in _OWN_OPTIONS
    }
    engine = Engine(
        pool,
        host.dialect,
        host.url,
        logging_name=_LOG_NAME,
        hide_parameters=True,
        execution_options=options | {"schema_translate_map": _schema_map(_schema_of(host, schema))},
    )
    # After the host's listeners, which may set another isolation level.
    if is_sqlite:
        if _begins_transactions(engine):
            raise ConfigurationError(_BEGIN_REFUSED)
        event.listen(engine, "connect", _take_over_transactions(lock_seconds))
    else:
        event.listen(engine, "connect", _set_up_transactions(host.dialect, lock_seconds))
    return engine


def _begins_transactions(engine: Engine) -> bool:
    """Return whether listeners to the event `begin` begin SQLite's transactions.

    They are called with the connection of an empty database, because others only observe.
    """
    listeners = list(engine.dispatch.begin)
    if not listeners:
        return False
    scratch = create_engine("sqlite://")
    try:
        with scratch.connect() as connection:
            raw: Any = connection.connection.dbapi_connection
            raw.isolation_level = None
            with connection.begin():  # calls the listeners of the class
                for listener in listeners:
                    if not raw.in_transaction:
                        listener(connection)
                return bool(raw.in_transaction)
    finally:
        scratch.dispose()


def _take_over_transactions(lock_seconds: float) -> Callable[[sqlite3.Connection, object], None]:
    """Return a listener that stops the driver from beginning transactions.

    The driver begins them only before the first write.
    """

    def on_connect(connection: sqlite3.Connection, _record: object) -> None:
        mode = getattr(connection, "autocommit", _LEGACY_TRANSACTION_CONTROL)
        if mode is False:
            connection.close()
            raise ConfigurationError(_AUTOCOMMIT_REFUSED)
        if mode is True:  # then the driver's commit() would do nothing
            connection.autocommit = _LEGACY_TRANSACTION_CONTROL  # type: ignore[attr-defined, unused-ignore]  # since Python 3.12
        if connection.in_transaction:
            connection.commit()  # a transaction that a listener of the host has left open
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {lock_seconds * 1000:.0f}")

    return on_connect


def _begin(connection: Connection, *, read_only: bool) -> None:
    """Begin SQLite's transaction. To write, it needs the write lock at once, or it may fail later.

    Not in a listener: SQLAlchemy looks for listeners to every event of an engine that has one.
    """
    raw: Any = connection.connection.dbapi_connection
    if raw.in_transaction:  # a listener that was registered after the start
        raise ConfigurationError(_BEGIN_REFUSED)
    execute(connection, "BEGIN" if read_only else "BEGIN IMMEDIATE")


def _begin_for_savepoints(connection: Connection) -> None:
    """Begin SQLite's transaction: without one, the release of a savepoint commits."""
    raw: object = connection.connection.dbapi_connection
    if isinstance(raw, sqlite3.Connection) and not raw.in_transaction:
        connection.exec_driver_sql("BEGIN")


def _set_up_transactions(dialect: Any, lock_seconds: float) -> Callable[[Any, object], None]:
    """Return a listener that sets the isolation level and how long a statement waits for a lock."""
    if dialect.name == "postgresql":
        statement = f"SET lock_timeout = '{lock_seconds:.0f}s'"
    else:
        statement = f"SET SESSION innodb_lock_wait_timeout = {lock_seconds:.0f}"

    def on_connect(connection: Any, _record: object) -> None:
        connection.commit()  # the level cannot be set in a transaction that a listener left open
        dialect.set_isolation_level(connection, "READ COMMITTED")
        with contextlib.closing(connection.cursor()) as cursor:
            cursor.execute(statement)
        connection.commit()

    return on_connect
