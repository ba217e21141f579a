"""The meaning of database errors, from the databases' own error codes.

Sources: PostgreSQL documentation, Appendix A "Error Codes"; MariaDB documentation, "MariaDB Error
Codes".
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    StatementError,
)

from ..errors import ConfigurationError

# PostgreSQL: deadlock_detected, serialization_failure.
_POSTGRESQL_RETRYABLE = {"40P01", "40001"}
# MariaDB: ER_LOCK_DEADLOCK, ER_CHECKREAD.
_MARIADB_RETRYABLE = {1213, 1020}
# PostgreSQL: classes of codes for data exceptions and violated constraints; and, with these, for
# what is wrong with a statement: not supported, syntax and access rules.
_POSTGRESQL_INVALID_VALUE = "22"
_POSTGRESQL_VIOLATION = "23"
_POSTGRESQL_BAD_STATEMENTS = {_POSTGRESQL_INVALID_VALUE, _POSTGRESQL_VIOLATION, "0A", "42"}
# PostgreSQL: classes of codes for failures of the server: connection, authorization, rollback,
# resources, program limit, object state such as a lock, intervention of an operator, system. The
# other drivers raise these as OperationalErrors.
_POSTGRESQL_OPERATIONAL = {"08", "28", "40", "53", "54", "55", "57", "58"}
# PostgreSQL: unique_violation. MariaDB: ER_DUP_ENTRY.
_POSTGRESQL_UNIQUE = "23505"
_MARIADB_DUPLICATE = 1062
# ER_CONSTRAINT_FAILED; MySQL: ER_CHECK_CONSTRAINT_VIOLATED. For SQLAlchemy, OperationalErrors.
_MARIADB_REFUSALS = {4025, 3819}
# PostgreSQL: raise_exception, and check_violation, which a trigger may raise as well. MariaDB:
# ER_SIGNAL_EXCEPTION.
_POSTGRESQL_RAISED = {"P0001", "23514"}
_MARIADB_SIGNAL = 1644
_SQLITE_RAISED = "SQLITE_CONSTRAINT_TRIGGER"
# PostgreSQL: lock_not_available. MariaDB: ER_LOCK_WAIT_TIMEOUT.
_POSTGRESQL_LOCKED = "55P03"
_MARIADB_LOCKED = 1205
# PostgreSQL: undefined_table. MariaDB: ER_NO_SUCH_TABLE.
_POSTGRESQL_NO_TABLE = "42P01"
_MARIADB_NO_TABLE = 1146
# PostgreSQL: feature_not_supported, and the function in its source that raises this for a prepared
# statement. The message is in the language of the server.
_POSTGRESQL_NOT_SUPPORTED = "0A000"
_POSTGRESQL_PLAN_CHECK = "RevalidateCachedQuery"

# What PostgreSQL's detail of a refusal begins with.
_DETAIL_COLUMNS = r"Key \((.*?)\)="
# The fields of PostgreSQL's errors without values: severity, code, and the names of schema, table,
# column, type and constraint.
_PG8000_NAMES = ("S", "V", "C", "s", "t", "c", "d", "n")
# "Duplicate entry '…' for key 'mobile'", "Incorrect integer value: '…' for column 'mobile'".
_VALUE_OF_MARIADB = re.compile(r"(?<=entry )'.*'(?= for )|(?<=value: )'.*'(?= for |$)", re.DOTALL)
# PostgreSQL: 'invalid input syntax for type bigint: "…"'. Python: "invalid literal …: '…'".
_LAST_VALUE = re.compile(r"(?<=: )(['\"]).*\1$")

_TABLES_MISSING = (
    "The tables of flask_smsverify are not in the database. Run db.create_all(), "
    "or flask db migrate and flask db upgrade."
)


def is_retryable(error: Exception) -> bool:
    """Return whether the same transaction may succeed when it is run again."""
    if is_violation(error):
        return True  # another transaction inserted the same key; the next run finds that row
    return _sqlstate(error) in _POSTGRESQL_RETRYABLE or _error_number(error) in _MARIADB_RETRYABLE


def is_lock_not_available(error: BaseException | None) -> bool:
    """Return whether another transaction held a lock for too long, or, with NOWAIT, at all."""
    return _sqlstate(error) == _POSTGRESQL_LOCKED or _error_number(error) == _MARIADB_LOCKED


def is_missing_table(error: Exception) -> bool:
    """Return whether a table does not exist."""
    original = getattr(error, "orig", None)
    return (
        _sqlstate(error) == _POSTGRESQL_NO_TABLE
        or (isinstance(error, ProgrammingError) and _error_number(error) == _MARIADB_NO_TABLE)
        # SQLite has one code, SQLITE_ERROR, for every mistake in a statement.
        or (isinstance(original, sqlite3.OperationalError) and "no such table" in str(original))
    )


def is_disconnect(error: Exception) -> bool:
    """Return whether the server has closed the connection."""
    return bool(getattr(error, "connection_invalidated", False))


def is_stale_plan(error: BaseException) -> bool:
    """Return whether a prepared statement has columns that have another type by now.

    psycopg prepares frequent statements. It prepares them again after a rollback. Without a
    transaction there is none, and the statement fails until the connection is closed.
    """
    diagnosis = getattr(getattr(error, "orig", None), "diag", None)
    return (
        _sqlstate(error) == _POSTGRESQL_NOT_SUPPORTED
        and getattr(diagnosis, "source_function", None) == _POSTGRESQL_PLAN_CHECK
    )


def is_unavailable(error: Exception) -> bool:
    """Return whether the database failed, as opposed to a statement that no database would run."""
    is_bad_statement = isinstance(error, DataError | ProgrammingError | NotSupportedError)
    return not is_bad_statement or is_disconnect(error) or _is_other_failure_of_pg8000(error)


def is_operational(error: BaseException) -> bool:
    """Return whether the database failed to run a statement that it can run at other times.

    Unlike `is_unavailable`, this is for the host's statements, whose other errors the host sees.
    """
    return (
        isinstance(error, OperationalError | InterfaceError)
        or _pg8000_code(error)[:2] in _POSTGRESQL_OPERATIONAL
    )


def is_invalid_value(error: BaseException) -> bool:
    """Return whether a value cannot be stored in a column or compared with it.

    The driver of SQLite raises an OverflowError for a number of more than 64 bits.
    """
    return (
        isinstance(error, DataError | OverflowError)
        or _pg8000_code(error)[:2] == _POSTGRESQL_INVALID_VALUE
    )


def is_violation(error: BaseException) -> bool:
    """Return whether a row violated a constraint."""
    return isinstance(error, IntegrityError) or _pg8000_code(error)[:2] == _POSTGRESQL_VIOLATION


def hide_values(error: StatementError) -> None:
    """Remove the values of a statement from its error: its parameters, and what the driver quotes.

    The host's engine shows parameters, unless it has the option `hide_parameters`. PostgreSQL's
    messages quote rows after their first line, and psycopg2's the statement with its values.
    """
    error.hide_parameters = True
    original = error.orig
    if original is None:
        return
    kind = type(original)
    driver = kind.__module__.partition(".")[0]
    shown: BaseException | None = original
    while shown is not None and type(shown).__module__.partition(".")[0] == driver:
        shown.args = tuple(map(_without_values, shown.args))
        shown = shown.__cause__ or shown.__context__
    error.args = (f"({kind.__module__}.{kind.__name__}) {original}", *error.args[1:])


def _without_values(argument: object) -> object:
    """Return an argument of a driver's exception without values of rows and statements."""
    if isinstance(argument, str):
        (first_line, *_) = _VALUE_OF_MARIADB.sub("'…'", argument).splitlines() or [""]
        return _LAST_VALUE.sub("…", first_line)
    if isinstance(argument, dict):  # pg8000; `read_refusal` needs the columns in the detail
        shown = {name: argument[name] for name in _PG8000_NAMES if name in argument}
        shown["M"] = _LAST_VALUE.sub("…", argument.get("M", ""))
        detail = re.match(_DETAIL_COLUMNS, argument.get("D", ""))
        return shown | ({"D": f"{detail[0]}(…)"} if detail else {})
    return argument


class HiddenParameters:
    """A context manager for statements with mobiles: a database error shows no values of them."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: object, _traceback: object) -> None:
        if isinstance(error, StatementError):
            hide_values(error)


class OwnStatements(HiddenParameters):
    """The same for statements on the tables of this package.

    A database error about a missing table becomes a `ConfigurationError`.
    """

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        super().__exit__(kind, error, traceback)
        if isinstance(error, DBAPIError) and is_missing_table(error):
            raise ConfigurationError(_TABLES_MISSING) from error


hidden_parameters = HiddenParameters()
own_statements = OwnStatements()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a database refused a row, without any value of the row.

    :param is_unique: whether another row has the same key.
    :param constraint: the name of the constraint or index; None if the database gave none.
    :param columns: the columns that the database named.
    """

    is_unique: bool
    constraint: str | None
    columns: frozenset[str]

    @property
    def names(self) -> frozenset[str]:
        """The columns and the constraint."""
        return self.columns | ({self.constraint} if self.constraint else set())

    def __str__(self) -> str:
        named = ", ".join(sorted(self.names))
        return named or "a constraint or trigger without a name"


def is_refusal(error: BaseException) -> bool:
    """Return whether a database refused the values of a row."""
    return (
        is_violation(error)
        or is_invalid_value(error)
        or _error_number(error) in _MARIADB_REFUSALS
        or is_raised_by_trigger(error)
    )


def is_raised_by_trigger(error: BaseException) -> bool:
    """Return whether a trigger refused a row. The error then names no column."""
    return (
        _sqlstate(error) in _POSTGRESQL_RAISED
        or _error_number(error) == _MARIADB_SIGNAL
        or getattr(getattr(error, "orig", None), "sqlite_errorname", None) == _SQLITE_RAISED
    )


def read_refusal(error: Exception) -> Refusal:
    """Return why the database refused a row.

    PostgreSQL has fields for it. The texts of SQLite and MariaDB are stable and documented.
    """
    original: Any = getattr(error, "orig", None)
    diagnosis, fields = getattr(original, "diag", None), _pg8000_fields(original)
    if diagnosis is not None:
        fields = {
            "n": diagnosis.constraint_name,
            "c": diagnosis.column_name,
            "D": diagnosis.message_detail,
        }
    if fields:
        detail = re.match(_DETAIL_COLUMNS, fields.get("D") or "")
        columns = set(re.findall(r"\w+", detail[1])) if detail else set()
        if fields.get("c"):
            columns.add(fields["c"])
        is_unique = _sqlstate(error) == _POSTGRESQL_UNIQUE
        return Refusal(is_unique, fields.get("n"), frozenset(columns))
    text = str(original)
    if isinstance(original, sqlite3.Error):
        kind, _, named = text.partition(" constraint failed: ")
        index = re.fullmatch(r"index '(.*)'", named)
        if index or kind == "CHECK":
            return Refusal(kind == "UNIQUE", index[1] if index else named, frozenset())
        columns = {part.rpartition(".")[2] for part in named.split(", ") if part}
        return Refusal(kind == "UNIQUE", None, frozenset(columns))
    text = str(getattr(original, "args", ())[-1:])
    key = re.search(r"for key '(?:[^']*\.)?([^'.]+)'[^']*\Z", text)
    column = re.search(r"[Cc]olumn '([^']+)'", text)
    constraint = re.search(r"CONSTRAINT `([^`]+)`", text)
    return Refusal(
        _error_number(error) == _MARIADB_DUPLICATE,
        key[1] if key else constraint[1] if constraint else None,
        frozenset({column[1].rpartition(".")[2]} if column else ()),
    )


def _sqlstate(error: BaseException | None) -> object:
    """Return PostgreSQL's error code. psycopg calls it `sqlstate`, psycopg2 `pgcode`."""
    original = getattr(error, "orig", None)
    given = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    return given or _pg8000_code(error)


def _is_other_failure_of_pg8000(error: BaseException) -> bool:
    """Return whether pg8000 raised a failure that is not about the statement.

    It raises all errors but violations of unique keys as `ProgrammingError`.
    """
    code = _pg8000_code(error)
    return bool(code) and code[:2] not in _POSTGRESQL_BAD_STATEMENTS


def _pg8000_code(error: BaseException | None) -> str:
    return _pg8000_fields(getattr(error, "orig", None)).get("C", "")


def _pg8000_fields(original: object) -> Mapping[str, str]:
    """Return the fields of an error of pg8000, as in PostgreSQL's protocol; empty for others."""
    argument = _first_argument(original)
    return argument if isinstance(argument, dict) else {}


def _error_number(error: BaseException | None) -> int | None:
    """Return MariaDB's error code.

    PyMySQL and mysqlclient put it first in the exception's arguments. The connectors of MariaDB and
    MySQL have `errno`.
    """
    original = getattr(error, "orig", None)
    number = getattr(original, "errno", None) or _first_argument(original)
    return number if isinstance(number, int) else None


def _first_argument(original: object) -> object:
    arguments: tuple[object, ...] = getattr(original, "args", ())
    return arguments[0] if arguments else None
