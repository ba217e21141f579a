"""Whether the attribute that `SMSVERIFY_MOBILE_FIELD` names can hold a mobile.

Otherwise the fault would only be found after the right code, which is then used up.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy
from sqlalchemy import CheckConstraint, Column, Table, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import ColumnProperty, Mapper, SynonymProperty

from .column_values import ColumnValues
from .errors import ConfigurationError, MobileError

_REMEDY = (
    "Use a column String(16), or register @smsverify.mobile_getter and @smsverify.mobile_setter "
    "before init_app"
)


def column_of(mapper: Mapper[Any], name: str) -> Column[Any] | None:
    """Return the table's column that an attribute is mapped to; None if there is none."""
    prop = mapper.attrs.get(name)
    if isinstance(prop, SynonymProperty):
        return column_of(mapper, prop.name)
    if isinstance(prop, ColumnProperty) and isinstance(prop.columns[0], Column):
        return prop.columns[0]
    return None


def constraint_names(column: Column[Any]) -> set[str]:
    """Return the names of the constraints and indexes of a column."""
    return {
        str(item.name)
        for item in _constraints(column)
        if item.name is not None and _is_about(item, column)
    }


def _constraints(column: Column[Any]) -> list[Any]:
    """Return the constraints and indexes of a column's table."""
    table: Any = column.table
    return [*table.constraints, *table.indexes] if isinstance(table, Table) else []


def _is_about(item: Any, column: Column[Any]) -> bool:
    """Return whether a constraint or index contains a column. A CHECK is a text that names it."""
    if isinstance(item, CheckConstraint) and not list(item.columns):
        return re.search(rf"\b{re.escape(column.name)}\b", str(item.sqltext)) is not None
    return column.name in item.columns


def is_unique_alone(column: Column[Any]) -> bool:
    """Return whether no two rows may have the same value in a column."""
    if column.unique or column.primary_key:
        return True
    return any(
        (isinstance(item, UniqueConstraint) or getattr(item, "unique", False))
        and list(item.columns) == [column]
        for item in _constraints(column)
    )


def check_mobile_attribute(
    mapper: Mapper[Any],
    name: str,
    dialect: Dialect,
    *,
    example: str,
    parse_mobile: Callable[[object], str],
) -> None:
    """Refuse an attribute that cannot hold a mobile.

    A missing one is not refused: the callbacks that replace it may be registered later.

    :param example: the longest mobile that may be stored, in E.164.
    :param parse_mobile: any spelling, as the attribute returns it → E.164.
    :raises ConfigurationError: the message names the attribute and the remedy.
    """
    label = f"{mapper.class_.__name__}.{name}"
    column = column_of(mapper, name)
    if column is not None:
        if column.computed is not None:
            raise ConfigurationError(f"{label} is computed by the database. {_REMEDY}")
        _check_type(label, ColumnValues(column.type, dialect), example, parse_mobile)
        return
    if name in mapper.attrs:
        raise ConfigurationError(f"{label} is no plain column, and no text can be set. {_REMEDY}")
    static: object = inspect.getattr_static(mapper.class_, name, None)
    if static is None and not hasattr(mapper.class_, name):
        return
    if isinstance(static, property | hybrid_property):
        if static.fset is None:
            raise ConfigurationError(f"{label} is read-only. Give it a setter. {_REMEDY}")
    elif not hasattr(static, "__set__") and name not in mapper.all_orm_descriptors:
        raise ConfigurationError(f"{label} is no column, so nothing would be stored. {_REMEDY}")


def check_unique(
    mapper: Mapper[Any], name: str, *, mobile_policy: str, accounts_per_mobile: int
) -> None:
    """Refuse a UNIQUE column together with settings that need two rows with one mobile.

    :raises ConfigurationError: the message names the column and the remedy.
    """
    column = column_of(mapper, name)
    if column is None or not is_unique_alone(column):
        return
    if mobile_policy == "transfer":
        setting = "SMSVERIFY_MOBILE_POLICY = 'transfer'"
    elif accounts_per_mobile != 1:
        setting = f"SMSVERIFY_ACCOUNTS_PER_MOBILE = {accounts_per_mobile}"
    else:
        return
    raise ConfigurationError(
        f"the column {column.table}.{column.name} is UNIQUE, but with {setting} two rows may have "
        "the same mobile. Remove the UNIQUE constraint, which SMSVERIFY_ACCOUNTS_PER_MOBILE "
        "replaces, or remove the setting."
    )


def longest_mobile(regions: Iterable[str]) -> str:
    """Return the example mobile of these regions that is longest in E.164."""
    import phonenumbers

    examples = (
        phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
        for region in regions
    )
    e164 = [
        phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        for number in examples
        if number is not None
    ]
    return max(e164, key=len, default="+989123456789")


def _check_type(
    label: str, values: ColumnValues, example: str, parse_mobile: Callable[[object], str]
) -> None:
    leaf = values.leaf
    kind = type(leaf).__name__
    if not values.is_decorated and isinstance(
        leaf,
        sqlalchemy.Numeric
        | sqlalchemy.Integer
        | sqlalchemy.Boolean
        | sqlalchemy.LargeBinary
        | sqlalchemy.Uuid
        | sqlalchemy.DateTime
        | sqlalchemy.Date
        | sqlalchemy.Enum,
    ):
        raise ConfigurationError(
            f"{label} has the type {kind}, which cannot hold {_shape(example)}. {_REMEDY}"
        )
    try:
        stored = values.bind(example)
        read = parse_mobile(values.result(stored))
    except MobileError:
        read = None
    except Exception as error:
        raise ConfigurationError(
            f"the type of {label} raised {type(error).__name__} for a number in E.164. {_REMEDY}"
        ) from error
    length = getattr(leaf, "length", None)
    if isinstance(stored, str) and isinstance(length, int) and len(stored) > length:
        raise ConfigurationError(
            f"{label} has {length} characters, and {_shape(example)} needs {len(stored)}. {_REMEDY}"
        )
    if read != example:
        raise ConfigurationError(
            f"the type of {label} does not return the number that was stored. {_REMEDY}"
        )


def _shape(example: str) -> str:
    return f"a number in E.164 such as {example[:3]}{'0' * (len(example) - 3)}"
