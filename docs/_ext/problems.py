"""The directive `problems`: a Markdown table of every problem code, from the error classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from flask_smsverify.errors import PROBLEMS, ProblemError

_HEADER = ("Error", "Code", "HTTP status", "Final", "Members", "Title")


class Problems(SphinxDirective):
    """Lists `errors.PROBLEMS`, ordered by HTTP status and then as declared."""

    def run(self) -> list[nodes.Node]:
        rows = map(_row, sorted(PROBLEMS.values(), key=lambda error: error.status))
        table = [_line(_HEADER), _line(["---"] * len(_HEADER)), *map(_line, rows)]
        holder = nodes.Element()
        self.state.nested_parse(StringList(table, source="problems"), 0, holder)
        return holder.children


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _row(error: type[ProblemError]) -> list[str]:
    return [
        f"{{exc}}`~flask_smsverify.errors.{error.__name__}`",
        f"`{error.code}`",
        str(error.status),
        "yes" if error.final else "no",
        ", ".join(f"`{member}`" for member in error.members) or "–",
        error.title,
    ]


def setup(app: Any) -> dict[str, bool]:
    """Register the directive. Called by Sphinx."""
    app.add_directive("problems", Problems)
    return {"parallel_read_safe": True}
