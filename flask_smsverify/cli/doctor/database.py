"""Checks of the database: the package's tables, and what the user's table can hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy
from sqlalchemy import Engine, Inspector, Table, select
from sqlalchemy.exc import SQLAlchemyError

from ...db.autocommit import commits_each_statement
from ...db.models import Base
from ...errors import MobileError, SMSVerifyError
from ...state import AppState
from .finding import Check, Finding

#: E.164: a plus sign and up to 15 digits.
_MOBILE_LENGTH = 16
#: How many users are checked.
_SAMPLE = 100
_MIGRATE = "Run flask db migrate and flask db upgrade, or db.create_all()"


def check_database(state: AppState) -> Iterator[Finding]:
    """The ledger has connections of its own."""
    try:
        state.ledger.read(lambda session: session.execute(select(1)).scalar_one())
    except (SMSVerifyError, SQLAlchemyError) as error:
        yield Finding("error", "database", f"cannot be used: {_describe(error)}")
        return
    if state.clock.is_notable:
        yield Finding(
            "warning",
            "clock",
            "the clock of this host differs from the database's by "
            f"{abs(state.clock.offset.total_seconds()):.0f} seconds. flask_smsverify uses the "
            "database's, but sessions and certificates depend on this one. Set it, by NTP",
        )
    engine = state.db.engine
    if engine.dialect.name == "sqlite":
        yield from _check_sqlite(engine)
    else:
        yield Finding("ok", "database", f"{engine.dialect.name} answers")
    if engine.dialect.name in ("mysql", "mariadb"):
        yield from _check_storage_engine(state)
    yield from _check_transactions(state)


def _check_transactions(state: AppState) -> Iterator[Finding]:
    with state.db.engine.begin() as connection:
        is_autocommitting = commits_each_statement(connection)
    if is_autocommitting:
        yield Finding(
            "error" if state.settings.sign_in else "warning",
            "database",
            "the app's connections commit each statement (AUTOCOMMIT): the sign-in with a mobile "
            "and verifier.claim need a transaction, and are refused",
        )


def _check_sqlite(engine: Engine) -> Iterator[Finding]:
    if engine.url.database in (None, "", ":memory:"):
        yield Finding(
            "error",
            "database",
            "SQLite in memory forgets all verifications at a restart",
        )
    else:
        yield Finding(
            "warning", "database", "SQLite has one writer: several processes wait for each other"
        )


def _check_storage_engine(state: AppState) -> Iterator[Finding]:
    query = sqlalchemy.text(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() "
        "AND table_name LIKE 'smsverify\\_%' AND engine <> 'InnoDB'"
    )
    with state.db.engine.connect() as connection:
        for name in connection.execute(query).scalars():
            yield Finding(
                "error", "tables", f"{name} is not InnoDB: limits need transactions. Convert it"
            )


def check_tables(state: AppState) -> Iterator[Finding]:
    """Every table has the columns and the unique keys that the package relies on."""
    try:
        problems = list(_problems_of_tables(state))
    except SQLAlchemyError as error:
        yield Finding("error", "tables", f"cannot be inspected: {_describe(error)}")
        return
    for problem in problems:
        yield Finding("error", "tables", f"{problem}. {_MIGRATE}")
    if not problems:
        yield Finding("ok", "tables", f"all {len(Base.metadata.tables)} are complete")


def _problems_of_tables(state: AppState) -> Iterator[str]:
    inspector = sqlalchemy.inspect(state.db.engine)
    missing = []
    for name in Base.metadata.tables:
        schema = state.db.metadata.schema
        table = state.db.metadata.tables[f"{schema}.{name}" if schema else name]
        translated = _schema_of(state, table)
        if inspector.has_table(table.name, schema=translated):
            yield from _problems_of(inspector, table, translated)
        else:
            missing.append(table.name)
    if len(missing) == len(Base.metadata.tables):
        yield f"all {len(missing)} are missing"
    elif missing:
        yield f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"


def _schema_of(state: AppState, table: Table) -> str | None:
    """Return the schema of a table after the host's `schema_translate_map`."""
    translated = state.db.engine.get_execution_options().get("schema_translate_map") or {}
    schema: str | None = translated.get(table.schema, table.schema)
    return schema


def _problems_of(inspector: Inspector, table: Table, schema: str | None) -> Iterator[str]:
    found = {column["name"]: column for column in inspector.get_columns(table.name, schema=schema)}
    for column in table.columns:
        if column.name not in found:
            yield f"{table.name} has no column {column.name}"
            continue
        wanted = getattr(column.type, "length", None)
        length = getattr(found[column.name]["type"], "length", None)
        if isinstance(wanted, int) and isinstance(length, int) and length < wanted:
            yield f"{table.name}.{column.name} has {length} characters and needs {wanted}"
    unique = _unique_columns(inspector, table.name, schema)
    for column in table.columns:
        if column.unique and frozenset([column.name]) not in unique:
            yield f"{table.name}.{column.name} is not UNIQUE, so limits are not exact"


def _unique_columns(inspector: Inspector, table: str, schema: str | None) -> set[frozenset[str]]:
    """Return the sets of columns in which no two rows have the same values."""
    constraints = inspector.get_unique_constraints(table, schema=schema)
    # SQLite reports an unnamed UNIQUE of a column as an index that it made itself.
    every = inspector.get_indexes(table, schema=schema, include_auto_indexes=True)
    indexes = [index for index in every if index["unique"]]
    key = inspector.get_pk_constraint(table, schema=schema)["constrained_columns"]
    columns: list[Any] = [item["column_names"] for item in (*constraints, *indexes)]
    return {frozenset(names) for names in (*columns, key) if names}


def check_mobile_column(state: AppState) -> Iterator[Finding]:
    """The mobile's column in the database, which may differ from the model's."""
    if state.callbacks.mobile_setter is not None:
        yield Finding("ok", "mobile", "mobile_setter stores it")
        return
    model, name = state.users.model, state.settings.mobile_field
    mapper = sqlalchemy.inspect(model)
    label = f"{model.__name__}.{name}"
    if not hasattr(model, name):
        yield Finding(
            "error",
            "mobile",
            f"{label} does not exist. Set SMSVERIFY_MOBILE_FIELD, or register "
            "@smsverify.mobile_getter and @smsverify.mobile_setter",
        )
        return
    column = mapper.columns.get(name)
    if column is None or not isinstance(column.table, Table):
        yield Finding("ok", "mobile", f"{label} is no column of one table; it is not inspected")
        return
    yield from _compare_mobile_column(state, column, label)


def _compare_mobile_column(state: AppState, column: Any, label: str) -> Iterator[Finding]:
    table, schema = column.table, _schema_of(state, column.table)
    inspector = sqlalchemy.inspect(state.db.engine)
    if not inspector.has_table(table.name, schema=schema):
        yield Finding("error", "mobile", f"the table {table.name} is missing. {_MIGRATE}")
        return
    columns = {item["name"]: item for item in inspector.get_columns(table.name, schema=schema)}
    found = columns.get(column.name)
    if found is None:
        yield Finding("error", "mobile", f"{table.name} has no column {column.name}. {_MIGRATE}")
        return
    is_good = True
    length = getattr(found["type"], "length", None)
    if isinstance(length, int) and length < _MOBILE_LENGTH:
        is_good = False
        yield Finding(
            "error",
            "mobile",
            f"{label} has {length} characters in the database; numbers need {_MOBILE_LENGTH}",
        )
    if isinstance(found["type"], sqlalchemy.Numeric | sqlalchemy.Integer):
        is_good = False
        yield Finding(
            "error", "mobile", f"{label} is a number in the database: a plus sign is lost"
        )
    if not found["nullable"]:
        is_good = False
        yield Finding(
            "warning",
            "mobile",
            f"{label} is NOT NULL: an account cannot exist before its number is known",
        )
    if frozenset([column.name]) in _unique_columns(inspector, table.name, schema):
        is_good = False
        yield Finding(
            "warning",
            "mobile",
            f"{label} is UNIQUE: a stranger who enters a number first blocks its owner. "
            "SMSVERIFY_ACCOUNTS_PER_MOBILE counts proved numbers instead",
        )
    if is_good:
        yield Finding("ok", "mobile", f"{label} can hold every number")


def check_users(state: AppState) -> Iterator[Finding]:
    """The keys, numbers and groups of some users can be read."""
    try:
        users = state.db.session.scalars(select(state.users.model).limit(_SAMPLE)).all()
        unreadable = [user for user in users if not _is_found_again(state, user)]
        invalid = [user for user in users if not _has_readable_mobile(state, user)]
        for user in users[:1]:
            state.users.is_exempt(user)
    except (SMSVerifyError, SQLAlchemyError) as error:
        yield Finding("error", "users", f"cannot be read: {_describe(error)}")
        return
    except Exception as error:  # noqa: BLE001 -- a callback of the host's may raise anything
        yield Finding("error", "users", f"a callback raised {type(error).__name__}: {error}")
        return
    finally:
        state.db.session.rollback()
    if unreadable:
        yield Finding("error", "users", "a user is not found again by its primary key as text")
    if invalid:
        yield Finding(
            "warning",
            "users",
            f"{len(invalid)} of {len(users)} have a number that is not valid or not allowed: they "
            "must enter another one",
        )
    if not unreadable and not invalid:
        yield Finding("ok", "users", f"{len(users)} were read")


def _is_found_again(state: AppState, user: object) -> bool:
    return state.users.find(state.users.id_of(user)) is user


def _has_readable_mobile(state: AppState, user: object) -> bool:
    """Return whether the user's number is valid; a user without one is fine."""
    try:
        state.users.valid_mobile_of(user)
    except MobileError as error:
        return error.code == "mobile_required"
    return True


def _describe(error: Exception) -> str:
    """Return the first line of an error, without statement and parameters."""
    text = str(getattr(error, "orig", None) or error)
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__


CHECKS: tuple[Check, ...] = (check_database, check_tables, check_mobile_column, check_users)
