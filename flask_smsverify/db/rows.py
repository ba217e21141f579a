"""Objects that are selected together with other columns, and the values to insert one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    labels, key_labels = _labels(model, prefix)
    if any(row[label] is None for label in key_labels):
        return None
    instance = model(**{name: row[label] for name, label in labels})
    make_transient_to_detached(instance)
    session.add(instance)
    return instance


@cache
def _labels(model: type[Base], prefix: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Return each column's name with its label, and the labels of the primary key."""
    table = model.__table__
    labels = [(column.key, prefix + column.key) for column in table.columns]
    return labels, [prefix + column.key for column in table.primary_key]


def insert_rows(session: Session, instances: Iterable[Base]) -> None:
    """Insert objects one by one, without the session's bookkeeping."""
    for instance in instances:
        session.connection().execute(insert_into(type(instance)), _values(instance))


def insert_all(session: Session, instances: Sequence[Base]) -> None:
    """Insert objects of one class with the same attributes, without the session's bookkeeping."""
    if instances:
        statement = insert_into(type(instances[0]))
        session.connection().execute(statement, [_values(instance) for instance in instances])


def _values(instance: Base) -> dict[str, object]:
    """Return the attributes that were set. What is left out gets the column's default."""
    given = vars(instance)
    return {key: given[key] for key in instance.__table__.c.keys() if key in given}  # noqa: SIM118 -- the collection's iterator gives columns


@cache
def insert_into(model: type[Base]) -> Insert:
    """Return an INSERT into a model's table, for a connection."""
    return insert(cast("Table", model.__table__))


def insert_numbered(session: Session, statement: Insert, values: Mapping[str, object]) -> int:
    """Insert a row whose key the database numbers; return the number."""
    key = session.connection().execute(statement, dict(values)).inserted_primary_key
    assert key is not None  # noqa: S101 -- for the type checker; the table has a key
    return int(key[0])
