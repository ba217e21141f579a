"""Inserts of many rows, of which some may exist already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError

from .errors import is_retryable

#: Isolation levels at which each statement has a snapshot of its own.
_READING_COMMITTED = ("READ COMMITTED", "READ UNCOMMITTED", "AUTOCOMMIT")


def insert_absent(
    connection: Connection, model: Any, rows: Sequence[Mapping[str, object]]
) -> list[str]:
    """Insert rows, each unless a unique key of it exists, with one statement.

    If another transaction has inserted the same key and not committed yet, the statement waits for
    that transaction. The rows should be in the order of their unique keys, so that two transactions
    do not wait for each other.

    The statement never raises because of an existing row: a host's transaction stays usable.

    :param model: a mapped class with the text primary key `id`.
    :returns: the ids of the inserted rows.
    """
    table = model.__table__
    statement, returns_ids = _statement(connection, table)
    if connection.dialect.name == "postgresql" and not _reads_committed(connection):
        # A key that was committed after this transaction's snapshot raises a serialization failure
        # and not a conflict. The savepoint keeps the transaction usable.
        try:
            with connection.begin_nested():
                return [row.id for row in connection.execute(statement, rows)]
        except DBAPIError as error:
            if not is_retryable(error):
                raise
            return _insert_each(connection, statement, rows)
    if returns_ids:
        wanted = {row["id"] for row in rows}  # MariaDB also returns the row that was there
        return [row.id for row in connection.execute(statement, rows) if row.id in wanted]
    connection.execute(statement, rows)
    present = select(table.c.id).where(table.c.id.in_([row["id"] for row in rows]))
    return [str(row.id) for row in connection.execute(present)]


def _insert_each(
    connection: Connection, statement: Any, rows: Sequence[Mapping[str, object]]
) -> list[str]:
    """Insert the rows one by one, without those whose keys a newer transaction has inserted."""
    inserted: list[str] = []
    for row in rows:
        try:
            with connection.begin_nested():
                inserted += [found.id for found in connection.execute(statement, [row])]
        except DBAPIError as error:
            if not is_retryable(error):
                raise
    return inserted


def _statement(connection: Connection, table: Any) -> tuple[Any, bool]:
    """Return the INSERT, and whether it returns the ids of the inserted rows."""
    dialect: Any = connection.dialect
    if dialect.name in ("postgresql", "sqlite"):
        from sqlalchemy.dialects import postgresql, sqlite

        module: Any = postgresql if dialect.name == "postgresql" else sqlite
        insert = module.insert(table).on_conflict_do_nothing()
    else:
        from sqlalchemy.dialects import mysql

        # IGNORE would also turn invalid values into warnings.
        insert = mysql.insert(table).on_duplicate_key_update(id=table.c.id)
    returns_ids = bool(dialect.insert_returning)
    return (insert.returning(table.c.id) if returns_ids else insert), returns_ids


def _reads_committed(connection: Connection) -> bool:
    """Return, without a query, whether each statement reads everything committed before it."""
    dialect: Any = connection.dialect
    level = (
        connection.get_execution_options().get("isolation_level")
        or getattr(dialect, "_on_connect_isolation_level", None)
        or connection.default_isolation_level
    )
    return str(level).upper().replace("_", " ") in _READING_COMMITTED
