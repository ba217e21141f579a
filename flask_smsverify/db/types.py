"""Column types that behave the same on SQLite, PostgreSQL and MariaDB.

With SQLAlchemy's default types, MariaDB drops time zones and microseconds, and its default
collation treats `aB3` and `áb3` as equal.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import DateTime, String, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeDecorator


def to_ms(time: datetime) -> int:
    """Return milliseconds since 1970, the form in which the usage log stores times."""
    return round(time.timestamp() * 1000)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC with microseconds.

    MariaDB and SQLite store no time zone, so it is dropped on write and set to UTC on read. A naive
    time raises a `ValueError`.
    """

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:  # the signature of the base class
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=dialect.name == "postgresql"))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone cannot be stored")
        utc = value if value.tzinfo is UTC else value.astimezone(UTC)
        return utc if dialect.name == "postgresql" else utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class ExactText(TypeDecorator[str]):
    """Text of any script that is compared by bytes, including trailing spaces.

    On MariaDB and MySQL it is stored as UTF-8 in a VARBINARY column: their collations ignore case,
    accents or trailing spaces (even `utf8mb4_bin`), and no collation without these exists on both.

    :param length: in characters.
    """

    impl = String
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def load_dialect_impl(self, dialect: Dialect) -> Any:  # the signature of the base class
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.VARBINARY(4 * self.length))
        return dialect.type_descriptor(String(self.length))

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | bytes | None:
        if value is None or dialect.name not in ("mysql", "mariadb"):
            return value
        return value.encode()

    def process_result_value(self, value: str | bytes | None, dialect: Dialect) -> str | None:
        return value.decode() if isinstance(value, bytes) else value


class ExactDecimal(TypeDecorator[Decimal]):
    """A decimal number, stored as text.

    SQLite has no decimals: it stores a NUMERIC as a float.

    :param length: of the text, in characters.
    """

    impl = String
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def load_dialect_impl(self, dialect: Dialect) -> Any:  # the signature of the base class
        return dialect.type_descriptor(ascii_text(self.length))

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:
        return None if value is None else f"{value:f}"

    def process_result_value(self, value: str | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


def by_bytes(column: Any, session: Session) -> Any:
    """Return a column of `ExactText` that is ordered as Python orders its values in UTF-8.

    SQLite and MariaDB order it so. PostgreSQL has the collation of the database, and no index of
    that collation serves this order.
    """
    is_postgresql = session.connection().dialect.name == "postgresql"
    return column.collate("C") if is_postgresql else column


def exact_text(length: int) -> ExactText:
    """Return the type of text in any script that is compared by bytes."""
    return ExactText(length)


def ascii_text(length: int) -> String:
    """Return the type of ASCII text that is compared by bytes.

    An index on it takes one byte per character.
    """
    exact = mysql.VARCHAR(length, charset="ascii", collation="ascii_bin")
    return String(length).with_variant(exact, "mysql", "mariadb")


def long_text() -> Text:
    """Return the type of unlimited text in any script, whatever the database's own charset is."""
    return Text().with_variant(mysql.TEXT(charset="utf8mb4"), "mysql", "mariadb")


def plain_type(column_type: Any, *, is_mysql: bool) -> Any:  # TypeEngine is generic
    """Return the same type without classes of this package, for migrations.

    :param is_mysql: whether MariaDB's and MySQL's variants are included.
    """
    if isinstance(column_type, UtcDateTime):
        plain: Any = DateTime(timezone=True)
        return plain.with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb") if is_mysql else plain
    if isinstance(column_type, ExactText):
        plain = String(column_type.length)
        binary = mysql.VARBINARY(4 * column_type.length)
        return plain.with_variant(binary, "mysql", "mariadb") if is_mysql else plain
    if isinstance(column_type, ExactDecimal):
        column_type = ascii_text(column_type.length)
    if is_mysql:
        return column_type
    if isinstance(column_type, Text):
        return Text()
    return String(column_type.length) if isinstance(column_type, String) else column_type
