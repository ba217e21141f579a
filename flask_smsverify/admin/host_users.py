"""The host's users on the staff pages: finding them by email or number, and showing them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Select, UniqueConstraint, and_, func, inspect, or_, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import ColumnProperty

from ..db.errors import hidden_parameters, is_invalid_value
from ..state import AppState, get_state
from .keyset import Key, Page, cut

#: Sorts after every letter of an email, in the collations of all supported databases.
_LAST_LETTER = "\u9fff"


def load(user_ids: Iterable[str]) -> dict[str, Any]:
    """Return users by their primary keys as text. Those that the host has deleted are missing."""
    state = get_state()
    users = state.users
    keys = [key for user_id in user_ids if (key := users.key_from_text(user_id)) is not None]
    if not keys:
        return {}
    query = select(users.model).where(users.primary_key.in_(keys))
    return {users.id_of(user): user for user in state.db.session.scalars(query)}


def find(user_id: str) -> Any | None:
    """Return a user by the primary key as text; None if there is none."""
    state = get_state()
    try:
        user = state.users.find(user_id)
    except (OverflowError, DBAPIError) as error:
        if not is_invalid_value(error):  # a number that the key's column cannot hold
            raise
        state.db.session.rollback()
        return None
    # `int` also reads other spellings of a number, which are not the id.
    return user if user is not None and state.users.id_of(user) == user_id else None


def email_of(user: Any) -> str | None:
    """Return a user's email; None if the model has none."""
    email = getattr(user, get_state().settings.email_field, None) if user is not None else None
    return str(email) if email else None


def by_email(prefix: str, after: Key | None, limit: int) -> Page[str]:
    """Return the ids of users whose email begins with a text, in the order of their emails.

    The conditions are ranges, which an ordinary index on the email serves. `LIKE` would need an
    index of its own on PostgreSQL. If the database compares by bytes, capitals are found as typed
    and in lower case.
    """
    state = get_state()
    email = _column(state, state.settings.email_field)
    if email is None or not prefix:
        return Page([], None)
    key = state.users.primary_key
    query = select(email, key).where(or_(*(_begins_with(email, form) for form in _forms(prefix))))
    if after is not None:
        last = state.users.key_from_text(after[1])
        query = query.where(
            email >= after[0], or_(email > after[0], and_(email == after[0], key > last))
        )
    ordered = query.order_by(email, key).limit(limit + 1)
    rows = [(str(found), _text(value)) for found, value in state.db.session.execute(ordered)]
    page = cut(rows, limit, lambda row: row)
    return Page([user_id for _, user_id in page.rows], page.next)


def by_mobile(mobile: str) -> list[str]:
    """Return the ids of users whose own column holds a mobile in a usual spelling.

    :returns: nothing if the column has no index: a scan of the host's whole table would be slow.
    """
    state = get_state()
    column = _column(state, state.settings.mobile_field)
    if column is None or state.callbacks.mobile_getter or not _is_indexed(column):
        return []
    query: Select[Any] = select(state.users.primary_key).where(column.in_(_spellings(mobile)))
    with hidden_parameters:
        return [_text(value) for value in state.db.session.scalars(query.limit(200))]


def _spellings(mobile: str) -> list[str]:
    digits = mobile.removeprefix("+")
    spellings = [mobile, digits, f"00{digits}"]
    if mobile.startswith("+98"):
        spellings += [f"0{mobile[3:]}", mobile[3:]]
    return spellings


def _begins_with(email: Any, prefix: str) -> Any:
    # The range may include neighbours in the order of the collation; the comparison excludes them.
    return and_(
        email >= prefix,
        email < prefix + _LAST_LETTER,
        func.lower(func.substr(email, 1, len(prefix))) == prefix.lower(),
    )


def _forms(prefix: str) -> set[str]:
    return {prefix, prefix.lower()}


def _column(state: AppState, name: str) -> Any:
    """Return a mapped column of the user model; None if the attribute is something else."""
    attribute = inspect(state.users.model).attrs.get(name)
    return getattr(state.users.model, name) if isinstance(attribute, ColumnProperty) else None


def _is_indexed(attribute: Any) -> bool:
    [column] = attribute.property.columns
    unique = [item for item in column.table.constraints if isinstance(item, UniqueConstraint)]
    leading = [next(iter(item.columns), None) for item in (*column.table.indexes, *unique)]
    return bool(column.primary_key) or any(first is column for first in leading)


def _text(key: object) -> str:
    """Return a primary key as text, as `HostUsers.id_of` does."""
    return key.hex() if isinstance(key, bytes) else str(key)
