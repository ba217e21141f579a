"""Statements that are compiled once for each dialect and passed to the driver as text.

SQLAlchemy caches compiled statements, but computes the cache key of a statement each time. For a
SELECT of sixty columns that takes longer than the database does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Insert,
    Integer,
    Select,
    literal_column,
    select,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Session
from sqlalchemy.sql.expression import ClauseElement

from .driver import Executed, execute

#: The columns of a row by their labels.
RowValues = Mapping[str, Any]
_Processor = Callable[[Any], Any]


class _Prepared:
    """A statement that is compiled once for each kind of dialect and schema.

    :param statement: its parameters are named.
    """

    def __init__(self, statement: ClauseElement, *, returns_rows: bool = False) -> None:
        self._statement = statement
        self._returns_rows = returns_rows
        self._of_dialect: WeakKeyDictionary[Dialect, dict[str | None, _Compiled]] = (
            WeakKeyDictionary()
        )
        self._of_kind: dict[object, _Compiled] = {}

    def compiled_for(self, dialect: Dialect, schema: str | None) -> _Compiled:
        """Return the compiled statement for a dialect and the schema that has our tables."""
        try:
            return self._of_dialect[dialect][schema]
        except KeyError:
            compiled = self._compile(dialect, schema)
            self._of_dialect.setdefault(dialect, {})[schema] = compiled
            return compiled

    def _compile(self, dialect: Dialect, schema: str | None) -> _Compiled:
        # Each engine has a dialect of its own, and apps of one process often have equal ones.
        kind = (_kind_of(dialect), schema)
        if kind not in self._of_kind:
            self._of_kind[kind] = _Compiled(self._statement, dialect, schema)
        return self._of_kind[kind]

    def execute(self, connection: Connection, parameters: Mapping[str, object]) -> Executed:
        """Execute the statement."""
        compiled = self.compiled_for(connection.dialect, _schema_of(connection))
        return compiled.execute(connection, parameters, returns_rows=self._returns_rows)


class PreparedSelect(_Prepared):
    """A SELECT whose columns have labels that differ."""

    def __init__(self, statement: Select[Any]) -> None:
        super().__init__(statement, returns_rows=True)
        self.statement = statement

    def one(self, session: Session, parameters: Mapping[str, object]) -> RowValues:
        """Execute the statement and return its one row."""
        (row,) = self.all(session, parameters)
        return row

    def all(self, session: Session, parameters: Mapping[str, object]) -> list[RowValues]:
        """Execute the statement and return its rows."""
        connection = session.connection()
        return self.rows(connection, parameters, schema=_schema_of(connection))

    def rows(
        self, connection: Connection, parameters: Mapping[str, object], *, schema: str | None
    ) -> list[RowValues]:
        """Execute the statement on a connection of the host and return its rows."""
        compiled = self.compiled_for(connection.dialect, schema)
        found = compiled.execute(connection, parameters, returns_rows=True)
        return [compiled.row(row) for row in found.rows]


class PreparedWrite(_Prepared):
    """An UPDATE, DELETE or INSERT."""

    def run(self, session: Session, parameters: Mapping[str, object]) -> int:
        """Execute the statement and return how many rows it found."""
        connection = session.connection()
        return self.execute(connection, parameters).rowcount


class PreparedNumberedInsert:
    """An INSERT of a row whose key the database numbers.

    :param statement: has all columns except the key.
    """

    def __init__(self, statement: Insert) -> None:
        (key,) = statement.table.primary_key
        self._plain = _Prepared(statement)
        self._returning = _Prepared(statement.returning(key), returns_rows=True)

    def run(self, session: Session, parameters: Mapping[str, object]) -> int:
        """Insert a row and return its number."""
        connection, row_id = session.connection(), None
        if connection.dialect.insert_returning:
            ((row_id,),) = self._returning.execute(connection, parameters).rows
        else:
            row_id = self._plain.execute(connection, parameters).row_id
        assert row_id is not None  # noqa: S101 -- for the type checker; a number was given
        return row_id


def one_row() -> FromClause:
    """Return a table of one row, for a SELECT whose other tables may have no row each."""
    return select(literal_column("1", Integer).label("one")).subquery("one_row")


def constant(number: int) -> ColumnElement[int]:
    """Return a constant that is part of the statement's text, such as that of a LIMIT.

    For a LIMIT in a parameter, PostgreSQL's plan for all values assumes a tenth of the rows. If the
    table is large, PostgreSQL then keeps no such plan, and plans a prepared statement each time.
    """
    return literal_column(str(int(number)), BigInteger)


def _schema_of(connection: Connection) -> str | None:
    """Return the schema of our tables according to a connection's execution options."""
    schemas = connection.get_execution_options().get("schema_translate_map")
    return schemas.get(None) if schemas else None


def _kind_of(dialect: Dialect) -> object:
    """Return a value that is equal for dialects that compile statements alike."""
    options = ((name, value) for name, value in vars(dialect).items() if _is_plain(value))
    return type(dialect), frozenset(options)


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)


class _Compiled:
    """The text of a statement for one dialect and schema, and how its values are converted."""

    def __init__(self, statement: ClauseElement, dialect: Dialect, schema: str | None) -> None:
        options: dict[str, Any] = {}
        if schema is not None:
            options = {"schema_translate_map": {None: schema}, "render_schema_translate": True}
        compiled: Any = statement.compile(dialect=dialect, **options)
        self._text: str = compiled.string
        # Not `compiled.binds`, which has the constants a second time, under names of its own.
        binds = {name: bind for bind, name in compiled.bind_names.items()}
        self._constants = {name: bind.value for name, bind in binds.items() if not bind.required}
        processors = {
            name: bind.type.dialect_impl(dialect).bind_processor(dialect)
            for name, bind in binds.items()
        }
        self._names = list(compiled.positiontup if compiled.positional else binds)
        self._parameters = [(name, processors[name]) for name in self._names]
        self._is_positional: bool = compiled.positional
        columns: Any = statement.selected_columns if isinstance(statement, Select) else ()
        self._result: list[tuple[str, _Processor | None]] = [
            (column.key, column.type.dialect_impl(dialect).result_processor(dialect, None))
            for column in columns
        ]

    def execute(
        self, connection: Connection, parameters: Mapping[str, object], *, returns_rows: bool
    ) -> Executed:
        """Execute the statement."""
        return execute(
            connection,
            self._text,
            self._driver_parameters(parameters),
            returns_rows=returns_rows,
        )

    def _driver_parameters(self, given: Mapping[str, object]) -> Any:
        """Return the parameters in the form that the driver expects."""
        values = {**self._constants, **given} if self._constants else given
        processed = [
            values[name] if process is None else process(values[name])
            for name, process in self._parameters
        ]
        return (
            tuple(processed)
            if self._is_positional
            else dict(zip(self._names, processed, strict=True))
        )

    def row(self, row: Sequence[Any]) -> RowValues:
        """Return the columns of a row by their labels."""
        return {
            label: value if process is None or value is None else process(value)
            for (label, process), value in zip(self._result, row, strict=True)
        }
