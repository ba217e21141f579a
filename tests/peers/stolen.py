"""Whether a stolen SQLite file gives an open code away to somebody who has no key.

Tried are: the code as text; its plain digests; a Django session that holds it; and the key that
a clock code is made from. Whatever needs a secret of the app counts as not found.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import re
import sqlite3
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

DIGESTS = ("md5", "sha1", "sha256", "sha512")
_HEX_KEY = re.compile(r"(?:[0-9a-f]{2}){10,64}\Z", re.IGNORECASE)
_BASE32_KEY = re.compile(r"[A-Z2-7]{16,128}=*\Z")
_SIGNED = re.compile(r"\.?[A-Za-z0-9_-]{20,}")


def find_code(database: Path, code: str) -> str | None:
    """How the code can be read from the file; None where it cannot."""
    cells = list(_cells(database))
    if any(_holds(cell, code) for cell in cells):
        return "in clear"
    digests = {hashlib.new(name, code.encode()).hexdigest() for name in DIGESTS}
    if any(digest in cell.lower() for cell in cells for digest in digests):
        return "as a plain digest"
    if any(_holds(inside, code) for cell in cells for inside in _unpacked(cell)):
        return "in clear, in the session's row"
    if any(code in _clock_codes(key) for cell in cells for key in _keys(cell)):
        return "as its clock key in clear"
    return None


def _cells(database: Path) -> Iterator[str]:
    """Every value of every table, as text."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for (table,) in tables.fetchall():
            for row in connection.execute(f'SELECT * FROM "{table}"'):  # noqa: S608 -- its own name
                for value in row:
                    if isinstance(value, bytes):
                        yield value.decode(errors="replace")
                    elif value is not None:
                        yield str(value)


def _holds(text: str, code: str) -> bool:
    """Whether the code stands there by itself, and not inside a longer number or word."""
    return re.search(rf"(?<![0-9A-Za-z.]){re.escape(code)}(?![0-9A-Za-z])", text) is not None


def _unpacked(cell: str) -> Iterator[str]:
    """What signed, but not encrypted, values hold: base64, perhaps compressed."""
    for piece in cell.split(":")[:1]:
        if not _SIGNED.fullmatch(piece):
            continue
        packed = piece.removeprefix(".")
        with contextlib.suppress(binascii.Error, ValueError, zlib.error):
            raw = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))
            yield (zlib.decompress(raw) if piece.startswith(".") else raw).decode()


def _keys(cell: str) -> Iterator[bytes]:
    """What may be the key of a clock code (RFC 6238)."""
    if _HEX_KEY.match(cell):
        yield bytes.fromhex(cell)
    if _BASE32_KEY.match(cell):
        with contextlib.suppress(binascii.Error):
            yield base64.b32decode(cell + "=" * (-len(cell) % 8))


def _clock_codes(key: bytes) -> set[str]:
    """The six digits of this half minute and of the two before it (RFC 4226, section 5.3)."""
    step = int(time.time()) // 30
    codes = set()
    for counter in range(step - 2, step + 1):
        digest = hmac.digest(key, counter.to_bytes(8), "sha1")
        at = digest[-1] & 15
        number = int.from_bytes(digest[at : at + 4]) & 0x7FFFFFFF
        codes.add(f"{number % 10**6:06d}")
    return codes
