"""Host connections that commit each statement: they have no transaction to roll back."""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy import Connection

from ..errors import ConfigurationError

_REFUSED = (
    "the app's database connection commits each statement (AUTOCOMMIT), and a proof must be "
    "claimed in one transaction. Remove AUTOCOMMIT from SQLALCHEMY_ENGINE_OPTIONS"
)
_OR_BEGIN = (
    ", or begin a transaction before the first query of the request: "
    "db.session.connection(execution_options={'isolation_level': 'READ COMMITTED'})"
)


def commits_each_statement(connection: Connection) -> bool:
    """Return whether the driver commits each statement, whichever option caused this."""
    raw: Any = connection.connection.dbapi_connection
    mode = getattr(raw, "autocommit", None)
    if isinstance(raw, sqlite3.Connection):
        # A listener to `begin` may begin the transactions of a connection that commits by itself.
        return (mode is True or raw.isolation_level is None) and not raw.in_transaction
    if callable(mode):  # PyMySQL and mysqlclient set it with a method of this name
        return bool(raw.get_autocommit())
    return bool(mode)


def require_transaction(connection: Connection) -> Connection:
    """Return a connection in a transaction.

    :raises ConfigurationError: it commits each statement.
    """
    if commits_each_statement(connection):
        is_sqlite = connection.dialect.name == "sqlite"
        raise ConfigurationError(_REFUSED + ("" if is_sqlite else _OR_BEGIN))
    return connection
