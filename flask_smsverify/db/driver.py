"""Statements that are passed directly to the driver's cursor, unless a listener observes them.

SQLAlchemy describes each result's columns and creates several objects for each statement. For the
small statements of the ledger that takes longer than the database does. Listeners to a cursor's
statements, such as those of tracing tools, are still called: then SQLAlchemy executes the
statements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import InvalidRequestError


class Executed(NamedTuple):
    """The result of a statement.

    :param rows: the returned rows.
    :param rowcount: how many rows it found or wrote. MySQL and MariaDB count only rows that
        changed, unless the connection has the client flag FOUND_ROWS.
    :param row_id: the number of an inserted row, if the driver reports it.
    """

    rows: Sequence[Any]
    rowcount: int
    row_id: int | None


def execute(
    connection: Connection, statement: str, parameters: Any = (), *, returns_rows: bool = False
) -> Executed:
    """Execute a statement in the transaction of a connection.

    :param statement: in the driver's parameter style.
    :param returns_rows: whether it does. psycopg would make an object for each column to answer.
    :raises DBAPIError: the error that SQLAlchemy would raise. Other errors are raised as they are.
    :raises InvalidRequestError: the transaction has ended. The driver would commit the statement
        alone, or lose it.
    """
    if not connection.in_transaction():
        raise InvalidRequestError("the transaction of this connection has ended")
    if _is_observed(connection):
        result: Any = connection.exec_driver_sql(statement, parameters)
        dialect: Any = connection.dialect
        if result.returns_rows:
            return Executed(result.all(), result.rowcount, None)
        return Executed(
            (), result.rowcount, result.lastrowid if dialect.postfetch_lastrowid else None
        )
    cursor = None
    try:
        if connection._echo:
            connection._log_info(statement)  # without the parameters, which may be mobiles
        cursor = connection.connection.cursor()
        cursor.execute(statement, parameters)
        rows = cursor.fetchall() if returns_rows else ()
        executed = Executed(rows, cursor.rowcount, getattr(cursor, "lastrowid", None))
        cursor.close()
    except BaseException as error:  # noqa: BLE001 -- SQLAlchemy's handler always raises
        # It translates the error, and drops the connection if the server has closed it. With a
        # statement, it would also wrap what is not the driver's, such as a time limit of Celery.
        driver: Any = connection.dialect.loaded_dbapi
        failed = statement if isinstance(error, driver.Error) else None
        connection._handle_dbapi_exception(error, failed, parameters, cursor, None)
    return executed


def has_listeners(connection: Connection, *names: str) -> bool:
    """Return whether a connection or its engine has listeners to one of these events."""
    # SQLAlchemy, too, looks for listeners only if there are any, because the search is slow.
    if not (connection._has_events or connection.engine._has_events):
        return False
    return any(getattr(connection.dispatch, name) for name in names)


def _is_observed(connection: Connection) -> bool:
    if has_listeners(connection, "before_cursor_execute", "after_cursor_execute"):
        return True
    dialect: Any = connection.dialect
    return bool(dialect._has_events and dialect.dispatch.do_execute)
