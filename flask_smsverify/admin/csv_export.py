"""Lists as CSV that is safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from flask import Response, current_app, stream_with_context

#: A cell that begins with one of these is a formula to a spreadsheet (OWASP, "CSV Injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
#: Excel reads UTF-8 only after this mark.
_BYTE_ORDER_MARK = "\ufeff"


def csv_response(
    name: str, columns: Sequence[str], pages: Iterable[Iterable[Mapping[str, object]]]
) -> Response:
    """Return a list as a file, which is made while it is sent.

    :param columns: the names of the columns, which are keys of the items.
    """

    def lines() -> Iterator[str]:
        yield _BYTE_ORDER_MARK + _lines([columns])
        for page in pages:
            yield _lines([safe_cell(item.get(column)) for column in columns] for item in page)

    response = current_app.response_class(stream_with_context(lines()), mimetype="text/csv")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return response


def safe_cell(value: object) -> str:
    """Return a value as the text of a cell that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    text = str(value)
    # Some spreadsheets skip blanks before a formula.
    return f"'{text}" if text.lstrip(" \u00a0").startswith(_FORMULA_STARTS) else text


def _lines(rows: Iterable[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerows(rows)
    return buffer.getvalue()
