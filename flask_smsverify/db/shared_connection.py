"""The only connection of an in-memory SQLite database, which the ledger shares with the host.

Such a database lives in one connection, so every thread's sessions use that connection at once,
and a COMMIT or ROLLBACK by one of them ends the transaction of all. Three rules protect the ledger
and the host from each other:

- while the ledger is in a transaction, statements, commits and rollbacks of other threads wait;
- a transaction in which the ledger only reads may join one of the host's, so its end does nothing;
- a statement has read all its rows before another thread's turn, because a ROLLBACK in between
  would cut them off: a row would seem not to exist.

SQLAlchemy's events for commit and rollback run before them and none runs after, so an event cannot
hold a lock over them. Instead, the event `do_connect` makes sqlite3 create the connection with a
class of this module, with the parameter `factory` of sqlite3.connect.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Self

from sqlalchemy import Connection, Engine, event

from ..errors import ConfigurationError


class SharedConnection:
    """Lets one thread at a time end a transaction on the connection of an in-memory database.

    :param engine: the host's engine, before its first connection.
    """

    def __init__(self, engine: Engine) -> None:
        self._lock = threading.RLock()
        self._reader: int | None = None
        event.listen(engine, "do_connect", self._set_factory)

    @contextlib.contextmanager
    def hold(self, *, read_only: bool) -> Iterator[None]:
        """Keep the connection for a transaction of this thread.

        :param read_only: whether commits and rollbacks of this thread do nothing in the meantime.
        """
        with self._lock:
            before = self._reader
            self._reader = threading.get_ident() if read_only else None
            try:
                yield
            finally:
                self._reader = before

    def check_engine(self, engine: Engine) -> None:
        """Raise `ConfigurationError` if the engine has opened its connection already."""
        with engine.connect() as connection:
            self.check(connection)

    def check(self, connection: Connection) -> None:
        """Raise `ConfigurationError` if a connection was not created by this object's factory."""
        raw: object = connection.connection.dbapi_connection
        if not (isinstance(raw, _HeldConnection) and raw.owner is self):
            raise ConfigurationError(
                "The in-memory database was opened before SMSVerify.init_app, or by a creator or "
                "connection factory of its own. Call init_app before the first query, without "
                "these options, or use a database in a file."
            )

    def _set_factory(
        self, _dialect: object, _record: object, _cargs: object, cparams: dict[str, Any]
    ) -> None:
        if "factory" not in cparams:
            cparams["factory"] = self._connect

    def _connect(self, *args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection = _HeldConnection(*args, **kwargs)
        connection.owner = self
        return connection

    def run(self, statement: Callable[[], None]) -> None:
        """Run a statement when no other thread holds the connection."""
        with self._lock:
            statement()

    def end(self, end_transaction: Callable[[], None]) -> None:
        """Commit or roll back when no other thread holds the connection."""
        with self._lock:
            if self._reader != threading.get_ident():
                end_transaction()


class _HeldCursor(sqlite3.Cursor):
    """A cursor whose statements wait for the thread that holds the connection and read all rows."""

    def __init__(self, connection: _HeldConnection) -> None:
        super().__init__(connection)
        self._owner = connection.owner
        self._rows: deque[Any] = deque()

    def execute(self, sql: str, parameters: Any = ()) -> Self:
        def run() -> None:
            super(_HeldCursor, self).execute(sql, parameters)
            self._rows = deque(super(_HeldCursor, self).fetchall())

        self._owner.run(run)
        return self

    def executemany(self, sql: str, parameters: Any) -> Self:
        def run() -> None:
            super(_HeldCursor, self).executemany(sql, parameters)

        self._owner.run(run)
        return self

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if not self._rows:
            raise StopIteration
        return self._rows.popleft()

    def fetchone(self) -> Any:
        return next(self, None)

    def fetchmany(self, size: int | None = None) -> list[Any]:
        return list(islice(self, self.arraysize if size is None else size))

    def fetchall(self) -> list[Any]:
        return list(self)


class _HeldConnection(sqlite3.Connection):
    """A connection whose transactions and statements wait for the thread that holds it."""

    owner: SharedConnection

    def cursor(self, factory: Any = _HeldCursor) -> Any:
        return super().cursor(factory)

    def commit(self) -> None:
        self.owner.end(super().commit)

    def rollback(self) -> None:
        self.owner.end(super().rollback)
