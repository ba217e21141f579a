"""The ids of challenges, messages and other rows that the database does not number."""

from __future__ import annotations

import secrets
import time


def new_id() -> str:
    """Return a new id: 12 hexadecimal digits of Unix time in milliseconds, and 20 random ones.

    Ids are sorted by time, like a UUID of version 7 (RFC 9562), so that new rows are neighbours in
    the indexes of ids. With random ids, nearly every insert into a large table touches a different
    page of each. The clock of the host decides nothing here: a wrong one costs speed only.
    """
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def shorten(row_id: str) -> str:
    """Return the end of an id, for a `repr` or a log. The beginnings of new ids are equal."""
    return f"…{row_id[-8:]}"
