"""Statements that are compiled once for each dialect and given to the driver as text.

SQLAlchemy caches compiled statements, but computes the cache key of a statement each time. For a
SELECT of sixty columns that takes longer than the database does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Select
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Session

#: The columns of a row by their labels.
RowValues = Mapping[str, Any]
_Processor = Callable[[Any], Any]


class PreparedSelect:
    """A SELECT that returns one row.

    :param statement: its columns have labels that differ, and its parameters are named.
    """

    def __init__(self, statement: Select[Any]) -> None:
        self._statement = statement
        self._compiled: dict[tuple[Dialect, str | None], _Compiled] = {}

    def one(self, session: Session, parameters: Mapping[str, object]) -> RowValues:
        """Execute the statement and return its row."""
        connection = session.connection()
        schemas = connection.get_execution_options().get("schema_translate_map") or {}
        key = (connection.dialect, schemas.get(None))
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = _Compiled(self._statement, *key)
        sent = compiled.parameters(parameters)
        return compiled.row(connection.exec_driver_sql(compiled.text, sent).one())


class _Compiled:
    """The text of a statement for one dialect and schema, and how its values are converted."""

    def __init__(self, statement: Select[Any], dialect: Dialect, schema: str | None) -> None:
        options: dict[str, Any] = {}
        if schema is not None:
            options = {"schema_translate_map": {None: schema}, "render_schema_translate": True}
        compiled: Any = statement.compile(dialect=dialect, **options)
        self.text: str = compiled.string
        self._names: list[str] = (
            list(compiled.positiontup) if compiled.positional else list(compiled.binds)
        )
        self._is_positional: bool = compiled.positional
        self._constants = {
            name: bind.value for name, bind in compiled.binds.items() if not bind.required
        }
        self._bind: dict[str, _Processor | None] = {
            name: bind.type.dialect_impl(dialect).bind_processor(dialect)
            for name, bind in compiled.binds.items()
        }
        columns = statement.selected_columns
        self._labels = list(columns.keys())
        self._result: list[_Processor | None] = [
            column.type.dialect_impl(dialect).result_processor(dialect, None) for column in columns
        ]

    def parameters(self, given: Mapping[str, object]) -> Any:
        """Return the parameters as the driver takes them."""
        values = {}
        for name, process in self._bind.items():
            value = self._constants[name] if name in self._constants else given[name]
            values[name] = process(value) if process is not None else value
        return tuple(values[name] for name in self._names) if self._is_positional else values

    def row(self, row: Any) -> RowValues:
        """Return the columns of a row by their labels."""
        return {
            label: value if process is None or value is None else process(value)
            for label, process, value in zip(self._labels, self._result, row, strict=True)
        }
