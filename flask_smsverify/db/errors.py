"""Which database error means what, by the databases' own error codes.

Sources: PostgreSQL documentation, Appendix A "Error Codes"; MariaDB documentation, "MariaDB Error
Codes".
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
)

from ..errors import ConfigurationError

# PostgreSQL: deadlock_detected, serialization_failure.
_POSTGRESQL_RETRYABLE = {"40P01", "40001"}
# MariaDB: ER_LOCK_DEADLOCK, ER_CHECKREAD.
_MARIADB_RETRYABLE = {1213, 1020}
# PostgreSQL: undefined_table. MariaDB: ER_NO_SUCH_TABLE.
_POSTGRESQL_NO_TABLE = "42P01"
_MARIADB_NO_TABLE = 1146

_TABLES_MISSING = (
    "The tables of flask_smsverify are not in the database. Run db.create_all(), "
    "or flask db migrate and flask db upgrade."
)


def is_retryable(error: Exception) -> bool:
    """Return whether the same transaction may succeed when it is run again."""
    if isinstance(error, IntegrityError):
        return True  # another transaction inserted the same key; the next run finds that row
    return _sqlstate(error) in _POSTGRESQL_RETRYABLE or _error_number(error) in _MARIADB_RETRYABLE


def is_missing_table(error: Exception) -> bool:
    """Return whether a table does not exist."""
    original = getattr(error, "orig", None)
    return (
        _sqlstate(error) == _POSTGRESQL_NO_TABLE
        or (isinstance(error, ProgrammingError) and _error_number(error) == _MARIADB_NO_TABLE)
        # SQLite has one code, SQLITE_ERROR, for every mistake in a statement.
        or (isinstance(original, sqlite3.OperationalError) and "no such table" in str(original))
    )


def is_unavailable(error: Exception) -> bool:
    """Return whether the database failed, as opposed to a statement that no database would run."""
    is_bad_statement = isinstance(error, DataError | ProgrammingError | NotSupportedError)
    return not is_bad_statement or bool(getattr(error, "connection_invalidated", False))


@contextlib.contextmanager
def explain_missing_tables() -> Iterator[None]:
    """Raise `ConfigurationError` instead of a database error about a missing table."""
    try:
        yield
    except DBAPIError as error:
        if is_missing_table(error):
            raise ConfigurationError(_TABLES_MISSING) from error
        raise


def _sqlstate(error: Exception) -> object:
    """Return PostgreSQL's error code. psycopg calls it `sqlstate`, psycopg2 `pgcode`."""
    original = getattr(error, "orig", None)
    return getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)


def _error_number(error: Exception) -> object:
    """Return MariaDB's error code, which its drivers put first in the exception's arguments."""
    arguments: tuple[object, ...] = getattr(getattr(error, "orig", None), "args", ())
    return arguments[0] if arguments else None
