"""Keyset paging: a page begins after the key of the last row of the page before it.

A page costs the same whatever its position, because the key is found through an index. Nothing is
counted and no rows are skipped.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, and_, or_
from sqlalchemy.orm import Session

T = TypeVar("T")

#: How many rows a page has by default, and the most that a request may ask for.
PAGE_SIZE, MAX_PAGE_SIZE = 50, 200

#: The key of a row: the values of the sorting columns.
Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list.

    :param next: the key of the last row; None on the last page.
    """

    rows: Sequence[T]
    next: Key | None


#: Returns the page of at most so many rows after a key.
Source = Callable[[Key | None, int], Page[T]]


def dump_key(key: Key) -> str:
    """Return a key as text for a URL."""
    values = [
        value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value for value in key
    ]
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def load_key(text: str, types: Sequence[type]) -> Key:
    """Return the key of a URL.

    :param types: of the values.
    :raises ValueError: it is not a key of this list.
    """
    try:
        padded = text + "=" * (-len(text) % 4)
        values = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        return tuple(_load_value(*pair) for pair in zip(values, types, strict=True))
    except (binascii.Error, TypeError, ValueError, RecursionError):
        raise ValueError(text) from None


def _load_value(value: object, kind: type) -> object:
    if not isinstance(value, str):
        raise ValueError(value)  # noqa: TRY004 -- `load_key` treats every malformed key alike
    if kind is datetime:
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return value


def newest_first(
    session: Session, query: Select[Any], at: Any, id_: Any, after: Key | None, limit: int
) -> Page[Any]:
    """Return a page of rows, the newest first.

    :param query: selects one mapped class.
    :param at: the column of the time, which an index starts with.
    :param id_: the unique column that orders rows of the same time.
    """
    if after is not None:
        # MariaDB uses the index for the first condition and not for a comparison of tuples.
        query = query.where(
            at <= after[0], or_(at < after[0], and_(at == after[0], id_ < after[1]))
        )
    ordered = query.order_by(at.desc(), id_.desc()).limit(limit + 1)
    rows = session.scalars(ordered).all()
    return cut(rows, limit, lambda row: (getattr(row, at.key), getattr(row, id_.key)))


def merged(pages: Sequence[Page[Any]], at: Any, id_: Any, limit: int) -> Page[Any]:
    """Return the newest rows of several pages that `newest_first` has read after the same key."""

    def key_of(row: Any) -> Key:
        return getattr(row, at.key), getattr(row, id_.key)

    rows = sorted((row for page in pages for row in page.rows), key=key_of, reverse=True)
    page = cut(rows, limit, key_of)
    if page.next is None and any(one.next is not None for one in pages):
        return Page(page.rows, key_of(page.rows[-1]))
    return page


def cut(rows: Sequence[T], limit: int, key_of: Callable[[T], Key]) -> Page[T]:
    """Return the page of `limit` rows out of up to one more."""
    shown = rows[:limit]
    return Page(shown, key_of(shown[-1]) if len(rows) > limit else None)


def all_rows(source: Source[T], size: int = 500) -> Iterator[Sequence[T]]:
    """Yield every page of a source, for an export."""
    after: Key | None = None
    while True:
        page = source(after, size)
        yield page.rows
        if page.next is None:
            return
        after = page.next
