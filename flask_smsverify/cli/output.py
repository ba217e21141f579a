"""Text output: wrapped name-value lines, tables, times and durations."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

import click

#: The width of the output in characters.
WIDTH = 80


def print_lines(*lines: tuple[str, str], indent: int = 0) -> None:
    """Print names and values below each other, wrapped."""
    width = max((len(name) for name, _ in lines), default=0) + 2
    for name, value in lines:
        head = " " * indent + f"{name}:".ljust(width)
        text = textwrap.fill(
            value,
            WIDTH,
            initial_indent=head,
            subsequent_indent=" " * len(head),
            break_on_hyphens=False,
        )
        click.echo(text)


def print_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Print rows with aligned columns below their names."""
    table = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def format_amount(amount: Decimal) -> str:
    """Return a number with thousands separators and without trailing zeros."""
    whole, _, fraction = f"{amount:,f}".partition(".")
    return f"{whole}.{fraction.rstrip('0')}".rstrip(".")


def format_time(moment: datetime | None) -> str:
    """Return a time in UTC, or a hyphen for None."""
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"


def format_window(seconds: int) -> str:
    """Return a window's length, such as `hour` or `2 days`."""
    for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            count = seconds // size
            return unit if count == 1 else f"{count} {unit}s"
    return f"{seconds} seconds"


def format_wait(seconds: int) -> str:
    """Return a wait, such as `90 s`, `3 min` or `5 h`."""
    if seconds < 120:
        return f"{seconds} s"
    return f"{-(-seconds // 60)} min" if seconds < 7200 else f"{-(-seconds // 3600)} h"
