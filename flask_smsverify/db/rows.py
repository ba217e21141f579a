"""Objects that are selected together with other columns, and the values to insert one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, TypeVar, cast

from sqlalchemy import ColumnElement, Insert, Table, insert, inspect
from sqlalchemy.orm import Session, make_transient_to_detached
from sqlalchemy.orm.util import AliasedClass

from .models import Base
from .prepared import RowValues

M = TypeVar("M", bound=Base)


def labelled(model: type[Base] | AliasedClass[Any], prefix: str) -> list[ColumnElement[Any]]:
    """Return the columns of a table or its alias, each labelled with a prefix and its name."""
    table: Any = inspect(model).selectable
    return [column.label(prefix + column.key) for column in table.columns]


def from_row(session: Session, model: type[M], row: RowValues, prefix: str) -> M | None:
    """Return the object that `labelled` columns hold, as if the session had loaded it.

    :returns: None if the row was outer-joined and absent.
    """
    values = {column.key: row[prefix + column.key] for column in model.__table__.columns}
    if any(values[column.key] is None for column in model.__table__.primary_key):
        return None
    instance = model(**values)
    make_transient_to_detached(instance)
    session.add(instance)
    return instance


def insert_rows(session: Session, instances: Iterable[Base]) -> None:
    """Insert objects one by one, without the session's bookkeeping."""
    for instance in instances:
        given = vars(instance)  # what is left out gets the column's default
        values = {key: given[key] for key in instance.__table__.c.keys() if key in given}  # noqa: SIM118 -- the collection's iterator gives columns
        session.connection().execute(insert_into(type(instance)), values)


@cache
def insert_into(model: type[Base]) -> Insert:
    """Return an INSERT into a model's table, for a connection."""
    return insert(cast("Table", model.__table__))


def insert_numbered(session: Session, statement: Insert, values: Mapping[str, object]) -> int:
    """Insert a row whose key the database numbers; return the number."""
    key = session.connection().execute(statement, dict(values)).inserted_primary_key
    assert key is not None  # noqa: S101 -- for the type checker; the table has a key
    return int(key[0])
