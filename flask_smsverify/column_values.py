"""Values of a host's columns in the form that the database gets, through SQLAlchemy's processing.

A column's Python type says little: a `TypeDecorator` has none, and a `Uuid` may be text. So a value
passes the type's own bind and result processing.
"""

from __future__ import annotations

import uuid
from decimal import Decimal, InvalidOperation
from typing import Any

import sqlalchemy
from sqlalchemy import util
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

#: Types whose values `from_text` makes itself.
_UNREAD = (
    sqlalchemy.Uuid,
    sqlalchemy.Integer,
    sqlalchemy.Numeric,
    sqlalchemy.LargeBinary,
    sqlalchemy.types._Binary,
    sqlalchemy.String,
)
#: Types of keys that have no text of their own.
_WITHOUT_TEXT = (
    sqlalchemy.Date,
    sqlalchemy.DateTime,
    sqlalchemy.Time,
    sqlalchemy.ARRAY,
    sqlalchemy.JSON,
)
#: The length of the longest key that fits into the column `user_id`.
MAX_KEY_LENGTH = 191


class ColumnValues:
    """Converts the values of one column.

    :param column_type: the type of the column.
    :param dialect: the dialect of the database that has the column.
    """

    def __init__(self, column_type: Any, dialect: Dialect) -> None:
        self._dialect = dialect
        self._decorators: list[Any] = []
        adapted: Any = column_type.dialect_impl(dialect)
        while isinstance(adapted, TypeDecorator):
            self._decorators.append(adapted)
            adapted = adapted.impl_instance
        #: The type below all decorators.
        self.leaf = adapted
        declared = column_type
        while isinstance(declared, TypeDecorator):
            declared = declared.load_dialect_impl(dialect)
        self._is_padded = isinstance(declared, sqlalchemy.CHAR)

    @property
    def is_decorated(self) -> bool:
        """Whether a `TypeDecorator` converts the values."""
        return bool(self._decorators)

    def bind(self, value: Any) -> Any:
        """Return the value that the decorators pass to the type below them."""
        for decorator in self._decorators:
            if util.method_is_overridden(decorator, TypeDecorator.process_bind_param):
                value = decorator.process_bind_param(value, self._dialect)
        return value

    def result(self, value: Any) -> Any:
        """Return the value that the decorators make from one that the type below them has read."""
        for decorator in reversed(self._decorators):
            if util.method_is_overridden(decorator, TypeDecorator.process_result_value):
                value = decorator.process_result_value(value, self._dialect)
        return value

    # --- keys as text ---------------------------------------------------------------------------

    @property
    def has_text(self) -> bool:
        """Whether a value can be converted to text and back."""
        return not isinstance(self.leaf, _WITHOUT_TEXT)

    def to_text(self, key: Any) -> str:
        """Return a key as text: an int in decimal, a UUID with hyphens, bytes in hex.

        :raises ValueError: the key has no text, or one that is too long.
        """
        stored = self.bind(key)
        if self._decorators:  # the same text for a new key and for one that was read
            stored = self.bind(self.result(stored))
        text = self._text_of(stored)
        if len(text) > MAX_KEY_LENGTH:
            raise ValueError(f"a user's key has more than {MAX_KEY_LENGTH} characters")
        return text

    def from_text(self, text: str) -> Any:
        """Return the key with this text.

        :raises ValueError: the text cannot be a key.
        """
        leaf = self.leaf
        value: Any = text
        if isinstance(leaf, sqlalchemy.Uuid):
            value = uuid.UUID(text)
            value = value if leaf.as_uuid else str(value)
        elif isinstance(leaf, sqlalchemy.Integer):
            value = int(text)
        elif isinstance(leaf, sqlalchemy.Numeric):
            try:
                value = Decimal(text)
            except InvalidOperation as error:
                raise ValueError("no number") from error
            value = value if leaf.asdecimal else float(value)
        elif isinstance(leaf, sqlalchemy.LargeBinary | sqlalchemy.types._Binary):
            value = bytes.fromhex(text.replace("-", ""))  # a UUID may be given with hyphens
        try:
            if isinstance(leaf, sqlalchemy.Enum) or not isinstance(leaf, _UNREAD):
                read = leaf.result_processor(self._dialect, None)
                value = read(text) if read is not None else text
            return self.result(value)
        except (TypeError, AttributeError, LookupError) as error:  # another form is expected
            raise ValueError("the text cannot be a key") from error

    def _text_of(self, stored: Any) -> str:
        leaf = self.leaf
        if isinstance(leaf, sqlalchemy.Uuid):
            return str(stored if isinstance(stored, uuid.UUID) else uuid.UUID(str(stored)))
        if isinstance(stored, bytes | bytearray | memoryview):
            return bytes(stored).hex()
        if isinstance(leaf, sqlalchemy.Integer):
            return f"{int(stored):d}"
        if isinstance(leaf, sqlalchemy.Numeric):
            return f"{Decimal(str(stored)).normalize():f}"
        if isinstance(leaf, sqlalchemy.Enum) or not isinstance(leaf, sqlalchemy.String):
            bind = leaf.bind_processor(self._dialect)
            stored = bind(stored) if bind is not None else stored
        if self._is_padded and isinstance(stored, str):
            stored = stored.rstrip(" ")  # PostgreSQL pads such a column
        if isinstance(stored, uuid.UUID | int | Decimal):
            return str(stored)
        if isinstance(stored, str):
            return str.__str__(stored)  # a subclass may have a text of its own
        raise ValueError(f"a user's key of the type {type(stored).__name__} has no text")
