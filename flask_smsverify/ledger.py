"""The ledger: short transactions of our own, on an engine of our own.

Attempts, sends and proofs must survive a host that rolls back, and must not wait for a connection
that the same request already holds; so they are written through a small pool beside the host's.
An in-memory SQLite has one connection only, which is then shared.
"""

from __future__ import annotations

import contextlib
import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, sessionmaker

from .errors import ConfigurationError, StoreUnavailable, UncommittedWrites
from .forks import after_fork

#: Seconds that a statement of ours waits for another's lock: on a machine that has more to do than
#: it can, a hundred at once take some five. For its turn, a transaction waits half as long again.
LOCK_SECONDS = 10
_TRIES = 8
_READ_ONLY = "smsverify_read_only"
_LOG_NAME = "smsverify"

_NO_TABLES = (
    "the tables of flask_smsverify are not in the database: run db.create_all(), "
    "or flask db migrate and flask db upgrade"
)

T = TypeVar("T")


def _never() -> bool:
    return False


class Ledger:
    """Runs small pieces of work, each in a transaction that commits on its own.

    :param host_engine: the host's engine; its address is taken over.
    :param options: the host's engine options; how it connects is taken over from them.
    :param schema: the schema of the host's metadata.
    :param host_is_writing: whether the host's session holds uncommitted writes; asked on SQLite,
        which has one writer.
    """

    def __init__(
        self,
        host_engine: Engine,
        *,
        schema: str | None = None,
        options: Mapping[str, Any] | None = None,
        host_is_writing: Callable[[], bool] = _never,
    ) -> None:
        self.dialect = host_engine.dialect.name
        self._host_is_writing = host_is_writing if self.dialect == "sqlite" else _never
        self._shared = _Shared(host_engine) if _in_memory(host_engine) else None
        # SQLite lets its writers try again until one is in luck; our threads rather stand in line.
        self._writers = threading.Lock() if self.dialect == "sqlite" else None
        engine = host_engine if self._shared else _own_engine(host_engine, options or {})
        self.engine = engine.execution_options(
            schema_translate_map={None: schema} if schema else {}
        )
        self._session = sessionmaker(self.engine, expire_on_commit=False, autoflush=False)
        if self._shared is None:
            after_fork(self._begin_anew)

    def run(self, work: Callable[[Session], T]) -> T:
        """Do the work in one transaction and commit it.

        The work may be done several times: after a deadlock, and after a row that another
        transaction made at the same moment, it starts again from nothing.

        :raises StoreUnavailable: the database did not take it; nothing was written.
        :raises UncommittedWrites: SQLite's one writer is the host's own session.
        """
        return self._tried(work, read_only=False)

    def read(self, work: Callable[[Session], T]) -> T:
        """Do the work, which only reads, in a fresh transaction that sees all that is committed.

        :raises StoreUnavailable: the database did not answer.
        """
        return self._tried(work, read_only=True)

    def within(self, connection: Connection, work: Callable[[Session], T]) -> T:
        """Do the work in a transaction of the host's: it is committed, or not, with the rest of it.

        The work must not provoke constraint errors, which would spoil the host's transaction.
        """
        schema = self.engine.get_execution_options().get("schema_translate_map") or {}
        before = connection.get_execution_options().get("schema_translate_map")
        session = Session(
            connection.execution_options(schema_translate_map=schema),
            expire_on_commit=False,
            autoflush=False,
            join_transaction_mode="rollback_only",
        )
        try:
            done = work(session)
            session.flush()
            session.expunge_all()
        finally:
            session.close()
            connection.execution_options(schema_translate_map=before or {})
        return done

    def insert_if_absent(self, session: Session, table: Any, values: dict[str, object]) -> bool:
        """Insert a row unless its key is there; whether it was inserted."""
        # SQLAlchemy keeps an INSERT's row count only where it is asked to.
        result: Any = session.execute(
            self._insert(table).values(values), execution_options={"preserve_rowcount": True}
        )
        return bool(result.rowcount == 1)

    def _tried(self, work: Callable[[Session], T], *, read_only: bool) -> T:
        for tries_left in reversed(range(_TRIES)):
            try:
                with self._turn(read_only=read_only), self._session.begin() as session:
                    session.connection(execution_options={_READ_ONLY: read_only})
                    return work(session)
            except (DBAPIError, PoolTimeoutError) as error:
                if _missing_table(error):
                    raise ConfigurationError(_NO_TABLES) from error
                if not (_passing(error) and tries_left):
                    if _unavailable(error):
                        raise StoreUnavailable("the database did not take the write") from error
                    raise
            time.sleep(random.uniform(0.001, 0.02) * (_TRIES - tries_left))  # noqa: S311 -- spreads rivals, hides nothing
        raise AssertionError("the last try returns or raises")

    @contextlib.contextmanager
    def _turn(self, *, read_only: bool) -> Iterator[None]:
        """This thread's turn, where the database takes one writer or has one connection."""
        with contextlib.ExitStack() as turn:
            if self._writers is not None and not read_only:
                if not self._writers.acquire(timeout=LOCK_SECONDS * 1.5):
                    raise StoreUnavailable("too many threads wait to write")
                turn.callback(self._writers.release)
            if self._shared is not None:
                turn.enter_context(self._shared.turn(read_only=read_only))
            if not read_only and self._host_is_writing():
                raise UncommittedWrites(
                    "the session holds uncommitted writes, and SQLite has one writer: "
                    "call db.session.commit() before the verifier"
                )
            yield

    def insert_ignoring(
        self, table: Any, rows: list[dict[str, object]], *, touching: str | None = None
    ) -> None:
        """Make rows that may be there already, each committed by itself.

        One row a transaction, so that no two that make the same rows can hold what the other
        waits for; all in one on SQLite, whose writers cannot meet, and which waits for the disk
        at each commit.

        :param table: a mapped class.
        :param touching: a column to write where a row is there, so that this takes the same work.
        """

        def work(session: Session, some: list[dict[str, object]]) -> None:
            for row in some:
                session.execute(self._insert(table, touching).values(row))

        together = [rows] if rows and self.dialect == "sqlite" else [[row] for row in rows]
        for some in together:
            self.run(partial(work, some=some))

    def _insert(self, table: Any, touching: str | None = None) -> Any:
        if self.dialect in ("postgresql", "sqlite"):
            from sqlalchemy.dialects import postgresql, sqlite

            dialect: Any = postgresql if self.dialect == "postgresql" else sqlite
            insert = dialect.insert(table)
            if touching is None:
                return insert.on_conflict_do_nothing()
            return insert.on_conflict_do_update(
                index_elements=list(table.__table__.primary_key),
                set_={touching: insert.excluded[touching]},
            )
        from sqlalchemy.dialects import mysql

        if touching is None:
            return mysql.insert(table).prefix_with("IGNORE")
        once_more = mysql.insert(table)
        return once_more.on_duplicate_key_update({touching: once_more.inserted[touching]})

    def _begin_anew(self) -> None:
        """In a forked process, leave the parent's connections to it (SQLAlchemy's own advice)."""
        self.engine.dispose(close=False)
        if self._writers is not None:
            self._writers = threading.Lock()

    def close(self) -> None:
        """Close the pool's connections; the next use opens new ones. A shared one is the host's."""
        if self._shared is None:
            self.engine.dispose()


class _Shared:
    """Lets threads take turns on the one connection of an in-memory database.

    A commit or rollback on it ends whatever is open there, whoever began it. So the host's wait
    for our turn to end, and our reading, which may fall into a transaction of the host's, ends
    nothing.
    """

    def __init__(self, engine: Engine) -> None:
        self._lock = threading.RLock()
        self._reader: int | None = None
        dialect: Any = engine.dialect  # its methods are replaced, for this engine alone
        dialect.do_commit = self._in_turn(dialect.do_commit)
        dialect.do_rollback = self._in_turn(dialect.do_rollback)

    @contextlib.contextmanager
    def turn(self, *, read_only: bool) -> Iterator[None]:
        with self._lock:
            before = self._reader
            self._reader = threading.get_ident() if read_only else None
            try:
                yield
            finally:
                self._reader = before

    def _in_turn(self, end: Callable[[Any], None]) -> Callable[[Any], None]:
        def in_turn(connection: Any) -> None:
            with self._lock:
                if self._reader != threading.get_ident():
                    end(connection)

        return in_turn


@contextlib.contextmanager
def named_if_missing() -> Iterator[None]:
    """Say by name that our tables are missing, where that is what a database complains of."""
    try:
        yield
    except DBAPIError as error:
        if _missing_table(error):
            raise ConfigurationError(_NO_TABLES) from error
        raise


def _in_memory(engine: Engine) -> bool:
    if engine.dialect.name != "sqlite":
        return False
    database = engine.url.database
    return not database or ":memory:" in database or engine.url.query.get("mode") == "memory"


def _own_engine(host: Engine, options: Mapping[str, Any]) -> Engine:
    connecting: dict[str, Any] = {"connect_args": dict(options.get("connect_args") or {})}
    if options.get("creator") is not None:
        connecting["creator"] = options["creator"]
    # At DEBUG, SQLAlchemy logs rows whatever `hide_parameters` says, and rows hold mobiles. A level
    # of its own keeps a host that debugs its own statements from getting ours.
    logging.getLogger(f"sqlalchemy.engine.Engine.{_LOG_NAME}").setLevel(logging.WARNING)
    if host.dialect.name == "sqlite":
        connecting["connect_args"]["timeout"] = LOCK_SECONDS
        engine = create_engine(
            host.url,
            **connecting,
            hide_parameters=True,
            logging_name=_LOG_NAME,
            pool_size=5,
            max_overflow=15,
            pool_timeout=LOCK_SECONDS * 1.5,
        )
        event.listen(engine, "connect", _sqlite_connect)
        event.listen(engine, "begin", _sqlite_begin)
        return engine
    engine = create_engine(
        host.url,
        **connecting,
        hide_parameters=True,
        logging_name=_LOG_NAME,
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=10,
        pool_timeout=LOCK_SECONDS * 1.5,
    )
    event.listen(engine, "connect", _server_connect(host.dialect.name))
    return engine


def _sqlite_connect(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver's own BEGIN comes too late; ours is below


def _sqlite_begin(connection: Connection) -> None:
    reading = connection.get_execution_options().get(_READ_ONLY)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _server_connect(dialect: str) -> Callable[[Any, object], None]:
    statement = (
        f"SET lock_timeout = '{LOCK_SECONDS}s'"
        if dialect == "postgresql"
        else f"SET SESSION innodb_lock_wait_timeout = {LOCK_SECONDS}"
    )

    def on_connect(connection: Any, _record: object) -> None:
        with contextlib.closing(connection.cursor()) as cursor:
            cursor.execute(statement)
        connection.commit()

    return on_connect


# --- which errors mean what, by the databases' own codes ---------------------------------------

# PostgreSQL, Appendix A: deadlock_detected, serialization_failure.
_POSTGRESQL_PASSING = {"40P01", "40001"}
# MariaDB error codes: ER_LOCK_DEADLOCK, ER_CHECKREAD.
_MYSQL_PASSING = {1213, 1020}


def _passing(error: Exception) -> bool:
    """Whether the same work may do well when it is done again."""
    if isinstance(error, IntegrityError):
        return True  # another made the same row; the next look will find it
    original = getattr(error, "orig", None)
    if _sqlstate(original) in _POSTGRESQL_PASSING:
        return True
    arguments: tuple[Any, ...] = getattr(original, "args", ())
    return len(arguments) > 0 and arguments[0] in _MYSQL_PASSING


def _missing_table(error: Exception) -> bool:
    # PostgreSQL 42P01 undefined_table, MariaDB 1146 ER_NO_SUCH_TABLE; SQLite has words only.
    original = getattr(error, "orig", None)
    arguments: tuple[Any, ...] = getattr(original, "args", ())
    return (
        _sqlstate(original) == "42P01"
        or (isinstance(error, ProgrammingError) and arguments[:1] == (1146,))
        or (isinstance(original, sqlite3.OperationalError) and "no such table" in str(original))
    )


def _sqlstate(original: object) -> object:
    """PostgreSQL's code of an error; psycopg2 has it by another name than psycopg."""
    return getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)


def _unavailable(error: Exception) -> bool:
    """Whether it is the database's trouble rather than a mistake in what it was asked."""
    return not isinstance(error, DataError | ProgrammingError | NotSupportedError) or bool(
        getattr(error, "connection_invalidated", False)
    )
