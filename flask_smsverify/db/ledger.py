"""The ledger: short transactions that commit on their own, apart from the host's session.

Attempts, sends and proofs must survive a host that rolls back, and must not wait for a connection
that the same request already holds. So they are written through a small pool in addition to the
host's (`engine.py`). An in-memory SQLite database has one connection, which is shared
(`shared_connection.py`).
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from ..clock import Clock
from ..errors import StoreUnavailable, UncommittedWrites
from ..forks import after_fork
from .app_identity import AppIdentity, new_identity, read_identity
from .engine import HostDatabase, LedgerDatabase, LedgerSession, translated
from .errors import is_disconnect, is_retryable, is_unavailable, own_statements
from .models import App

#: Seconds that a statement waits for a lock of another transaction. On an overloaded machine, a
#: hundred transactions on the same rows take about five.
LOCK_SECONDS = 10
#: The most times that a transaction is run.
_MAX_RUNS = 8
#: Seconds after which the database's clock is read again.
_CLOCK_SECONDS = 60
_MYSQL_CLOCK = text("SELECT UTC_TIMESTAMP(6)")
#: Dialect → the database's time now; the time of a transaction would be its start.
_CLOCK_OF = {
    "postgresql": text("SELECT clock_timestamp()"),
    "mysql": _MYSQL_CLOCK,
    "mariadb": _MYSQL_CLOCK,
}

T = TypeVar("T")


class _ThreadState(threading.local):
    """The ledger's state for one thread."""

    is_running = False


def _is_host_idle() -> bool:
    return False


class Ledger:
    """Runs functions, each in a transaction of its own that is committed at its end.

    :param host: returns the host's engine. If its database is in memory, it must not have connected
        yet.
    :param app_id: `SMSVERIFY_APP_ID`. An app with another one cannot use the same tables.
    :param schema: the schema of the host's metadata.
    :param is_host_writing: returns whether the host's session holds uncommitted writes. Called on
        SQLite only, which allows one writer.
    :param clock: the app's clock, which the ledger corrects with the database's.
    """

    def __init__(
        self,
        host: HostDatabase,
        *,
        app_id: str,
        schema: str | None = None,
        is_host_writing: Callable[[], bool] = _is_host_idle,
        clock: Clock | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self._clock_is_due_at = 0.0
        self._app_id = app_id
        self._identity: AppIdentity | None = None
        self._database = LedgerDatabase(host, schema=schema, lock_seconds=LOCK_SECONDS)
        self._turn_seconds = LOCK_SECONDS * 1.5
        self._is_host_writing = is_host_writing
        # SQLite makes writers poll for its lock, so one of many threads can starve.
        self._write_lock = threading.Lock()
        self._thread = _ThreadState()
        after_fork(self._reset_after_fork)

    @property
    def dialect(self) -> str:
        """The name of the database's dialect."""
        return self._database.dialect

    @property
    def engine(self) -> Engine:
        """The engine of the ledger's connections."""
        return self._database.engine

    @property
    def is_joined(self) -> bool:
        """Whether a test has replaced the host's engine with a connection that the ledger joins."""
        return self._database.joined is not None

    @property
    def is_in_transaction(self) -> bool:
        """Whether the calling thread is in a transaction of the ledger, or about to begin one."""
        return self._thread.is_running

    @property
    def schema(self) -> str | None:
        """The schema of the tables, for statements on the host's connections."""
        return self._database.schema

    # --- the app that the tables belong to -------------------------------------------------------

    def identify(self) -> str:
        """Return the random id of this app's tables, and store one at the first use.

        :raises ConfigurationError: the tables belong to another app, or do not exist.
        :raises StoreUnavailable: the database did not answer.
        """
        if self._identity is None and self.find_identity() is None:
            self._keep(self._run(self._store_identity, read_only=False))
        assert self._identity is not None  # noqa: S101 -- for the type checker
        return self._identity.instance_id

    def find_identity(self) -> str | None:
        """Return the random id of this app's tables; None before the first use.

        :raises ConfigurationError: the tables belong to another app, or do not exist.
        :raises StoreUnavailable: the database did not answer.
        """
        if self._identity is None:
            self._keep(self._run(read_identity, read_only=True))
        return None if self._identity is None else self._identity.instance_id

    def _keep(self, found: AppIdentity | None) -> None:
        if found is not None:
            found.require(self._app_id)
            self._identity = found

    def _store_identity(self, session: Session) -> AppIdentity:
        new = new_identity(self._app_id)
        values = {
            "id": App.ONLY,
            "app_id": new.app_id,
            "instance_id": new.instance_id,
            "created_at": self.clock(),
        }
        if self.insert_if_absent(session, App, values):
            return new
        found = read_identity(session)  # another process was first
        assert found is not None  # noqa: S101 -- the row is never deleted
        return found

    # --- transactions ----------------------------------------------------------------------------

    def run(self, work: Callable[[Session], T]) -> T:
        """Run a function in a transaction and commit it.

        After a deadlock, and after another transaction has inserted the same row, the transaction
        is rolled back and `work` is called again. It is also called again, once, if the server
        closed the connection before the commit, for example during a restart.

        :returns: what `work` returned in the run that was committed.
        :raises StoreUnavailable: nothing was written.
        :raises UncommittedWrites: on SQLite, the host's session has the write lock.
        :raises ConfigurationError: the tables do not exist.
        """
        self.identify()
        return self._run(work, read_only=False)

    def read(self, work: Callable[[Session], T]) -> T:
        """Run a function that only reads, in a new transaction that sees all committed rows.

        :raises StoreUnavailable: the database did not answer.
        :raises ConfigurationError: the tables do not exist.
        """
        self.find_identity()
        return self._run(work, read_only=True)

    def run_in(self, connection: Connection, work: Callable[[Session], T]) -> T:
        """Run a function in the host's transaction, which the host commits or rolls back.

        `work` must not cause constraint errors: they would abort the host's transaction.
        """
        self.find_identity()
        with (
            own_statements,
            translated(connection, self.schema),
            LedgerSession(connection) as session,
        ):
            session.call_listeners()
            result = work(session)
            session.flush()
            session.expunge_all()
        return result

    def close(self) -> None:
        """Close the pool's connections; the next use opens new ones. A shared one stays open."""
        self._database.close()

    # --- inserts that may meet an existing row ---------------------------------------------------

    def insert_if_absent(self, session: Session, table: Any, values: dict[str, object]) -> bool:
        """Insert a row unless its key exists.

        :param table: a mapped class.
        :returns: whether the row was inserted.
        """
        # SQLAlchemy keeps the row count of an INSERT only with this option.
        result: Any = session.execute(
            self._insert(table).values(values), execution_options={"preserve_rowcount": True}
        )
        return bool(result.rowcount == 1)

    def insert_missing(
        self, session: Session, table: Any, rows: Sequence[Mapping[str, object]]
    ) -> None:
        """Insert rows, each unless its key exists.

        :param table: a mapped class.
        """
        session.execute(self._insert(table), rows)

    def _insert(self, table: Any) -> Any:
        if self.dialect in ("postgresql", "sqlite"):
            from sqlalchemy.dialects import postgresql, sqlite

            dialect: Any = postgresql if self.dialect == "postgresql" else sqlite
            return dialect.insert(table).on_conflict_do_nothing()
        from sqlalchemy.dialects import mysql

        return mysql.insert(table).prefix_with("IGNORE")

    # --- one transaction -------------------------------------------------------------------------

    def _run(self, work: Callable[[Session], T], *, read_only: bool) -> T:
        was_running, self._thread.is_running = self._thread.is_running, True
        try:
            return self._run_with_retries(work, read_only=read_only)
        finally:
            self._thread.is_running = was_running

    def _run_with_retries(self, work: Callable[[Session], T], *, read_only: bool) -> T:
        """Run a function in a transaction, which is repeated if that may help."""
        was_lost = False
        for run in range(1, _MAX_RUNS + 1):
            is_committing = False
            try:
                with (
                    own_statements,
                    self._turn(read_only=read_only),
                    self._database.session(read_only=read_only) as session,
                ):
                    self._read_clock(session)
                    result = work(session)
                    session.flush()
                    is_committing = True
            except StaleDataError:  # a row was deleted meanwhile; the next run does not find it
                if run == _MAX_RUNS:
                    raise
            except (DBAPIError, PoolTimeoutError) as error:
                # The server has closed a connection of the pool, and has rolled back everything for
                # which it got no COMMIT. The error has emptied the pool, so the next run connects.
                is_lost = is_disconnect(error) and not (is_committing or was_lost)
                if run == _MAX_RUNS or not (is_lost or is_retryable(error)):
                    if is_unavailable(error):
                        raise StoreUnavailable from error
                    raise
                if is_lost:
                    was_lost = True
                    continue
            else:
                return result
            # A random pause keeps competing transactions from meeting again.
            time.sleep(random.uniform(0.001, 0.02) * run)  # noqa: S311 -- no secret depends on it
        raise AssertionError("the last run returns or raises")

    def _read_clock(self, session: Session) -> None:
        """Compare the host's clock with the database's, once a minute.

        SQLite runs on the host itself.
        """
        statement = _CLOCK_OF.get(self.dialect)
        if statement is None or time.monotonic() < self._clock_is_due_at:
            return
        self._clock_is_due_at = time.monotonic() + _CLOCK_SECONDS
        before = self.clock.host_time()
        reading = session.execute(statement).scalar_one()
        if reading.tzinfo is None:
            reading = reading.replace(tzinfo=UTC)
        self.clock.correct(reading, before=before, after=self.clock.host_time())

    @contextlib.contextmanager
    def _turn(self, *, read_only: bool) -> Iterator[None]:
        """Wait for the other threads if the database has one writer or one connection."""
        if self.dialect != "sqlite" or self.is_joined:
            yield
            return
        with contextlib.ExitStack() as held:
            if not read_only:
                if not self._write_lock.acquire(timeout=self._turn_seconds):
                    raise StoreUnavailable("too many threads wait for SQLite's one writer")
                held.callback(self._write_lock.release)
            shared = self._database.shared
            if shared is not None:
                held.enter_context(shared.hold(read_only=read_only))
            if not read_only and self._is_host_writing():
                raise UncommittedWrites
            yield

    def _reset_after_fork(self) -> None:
        self._database.reset_after_fork()
        self._write_lock = threading.Lock()
