"""Objects of mapped classes in the statements of `prepared`: read, inserted and updated.

SQLAlchemy's session does the same for any statement and any relation between objects. Here each
object is one row, so a few lines replace its bookkeeping, which costs more than the statements.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, TypeVar, cast

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Table,
    bindparam,
    insert,
    inspect,
    update,
)
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state, manager_of_class
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.orm.util import AliasedClass

from .models import Base
from .prepared import PreparedNumberedInsert, PreparedWrite, RowValues

M = TypeVar("M", bound=Base)


def labelled(model: type[Base] | AliasedClass[Any], prefix: str) -> list[ColumnElement[Any]]:
    """Return the columns of a table or its alias, each labelled with a prefix and its name.

    Columns that the database computes are left out: only lists of the staff pages need them.
    """
    columns: Any = inspect(model).selectable.columns
    return [column.label(prefix + column.key) for column in columns if column.computed is None]


def new_row(model: type[M], **values: object) -> M:
    """Return a new object that `write` inserts. No event of an attribute is sent."""
    instance: M = manager_of_class(model).new_instance()
    vars(instance).update(values)
    return instance


def from_row(model: type[M], row: RowValues, prefix: str) -> M | None:
    """Return the object from `labelled` columns. It belongs to no session.

    :returns: None if the row was outer-joined and absent.
    """
    labels, key_labels = _labels(model, prefix)
    if any(row[label] is None for label in key_labels):
        return None
    instance: M = manager_of_class(model).new_instance()
    vars(instance).update({name: row[label] for name, label in labels})
    _set_key(instance)
    return instance


def _set_key(instance: Base) -> None:
    """Let SQLAlchemy take an object as one that has a row."""
    state, values = instance_state(instance), vars(instance)
    key = tuple(values[name] for name in _key_names(type(instance)))
    state.key = state.mapper.identity_key_from_primary_key(key)


@cache
def _key_names(model: type[Base]) -> list[str]:
    return [column.key for column in model.__table__.primary_key]


@cache
def _labels(model: type[Base], prefix: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Return each column's name with its label, and the labels of the primary key."""
    labels = [(column.key, prefix + column.key) for column in _writable(model)]
    return labels, [prefix + name for name in _key_names(model)]


def write(session: Session, *instances: Base) -> None:
    """Insert new objects, and update the columns that have changed in those of `from_row`.

    The objects belong to no session. New ones are created in the same transaction, because they
    count as stored from then on, even if it is rolled back.

    :raises StaleDataError: a row was deleted meanwhile.
    """
    for instance in instances:
        if instance_state(instance).key is None:
            _insert(session, instance)
        else:
            _update(session, instance)


def _insert(session: Session, instance: Base) -> None:
    values = vars(instance)
    for name, default in _columns(type(instance)):
        values.setdefault(name, default)
    _prepared_insert(type(instance)).run(session, values)
    _set_key(instance)
    instance_state(instance).committed_state.clear()


def _update(session: Session, instance: Base) -> None:
    model, values = type(instance), vars(instance)
    # An attribute that was set to the value it had is left out: MySQL might not count the row.
    before = instance_state(instance).committed_state  # of the attributes that were set
    changed = frozenset(name for name, value in before.items() if values[name] != value)
    if not changed:
        return
    if _prepared_update(model, changed).run(session, values) != 1:
        raise StaleDataError(f"a row of {model.__name__} was deleted meanwhile")
    before.clear()


def update_row(session: Session, model: type[Base], key: object, /, **values: object) -> None:
    """Set columns of the row with this primary key, if it exists."""
    (key_column,) = model.__table__.primary_key
    statement = _prepared_update(model, frozenset(values))
    statement.run(session, {**values, key_column.key: key})


@cache
def _columns(model: type[Base]) -> list[tuple[str, object]]:
    """Return the name of each column that can be written, with its default, which is a value."""
    columns = _writable(model)
    assert not any(callable(getattr(column.default, "arg", None)) for column in columns)  # noqa: S101 -- a mistake in a model
    return [(column.key, getattr(column.default, "arg", None)) for column in columns]


@cache
def _prepared_insert(model: type[Base]) -> PreparedWrite:
    return PreparedWrite(insert(_table(model)).values(_parameters(_writable(model))))


@cache
def _prepared_update(model: type[Base], names: frozenset[str]) -> PreparedWrite:
    table = _table(model)
    changed = [table.columns[name] for name in sorted(names)]
    keys = [column == bindparam(column.key, type_=column.type) for column in table.primary_key]
    return PreparedWrite(update(table).where(*keys).values(_parameters(changed)))


def _writable(model: type[Base]) -> list[Column[Any]]:
    return [column for column in _table(model).columns if column.computed is None]


def _parameters(columns: Iterable[Column[Any]]) -> dict[str, BindParameter[Any]]:
    return {column.key: bindparam(column.key, type_=column.type) for column in columns}


def _table(model: type[Base]) -> Table:
    return cast("Table", model.__table__)


def numbered_insert(model: type[Base]) -> PreparedNumberedInsert:
    """Return an INSERT of all columns except the key, which the database numbers."""
    table = _table(model)
    others = [column for column in _writable(model) if not column.primary_key]
    return PreparedNumberedInsert(insert(table).values(_parameters(others)))


def insert_all(session: Session, instances: Sequence[Base]) -> None:
    """Insert objects of one class with the same attributes, without the session's bookkeeping."""
    if instances:
        table = _table(type(instances[0]))
        names = [column.key for column in table.columns]
        rows = [
            {name: vars(instance)[name] for name in names if name in vars(instance)}
            for instance in instances
        ]
        session.connection().execute(insert(table), rows)
