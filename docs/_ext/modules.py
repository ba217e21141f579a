"""The directive `modules`: a Markdown table of a package's modules, from their docstrings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

import flask_smsverify

_ROOT = Path(flask_smsverify.__file__).parent


class Modules(SphinxDirective):
    """Lists every module of a subpackage of `flask_smsverify`, by the name in the argument."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        table = ["| module | contents |", "| --- | --- |", *_rows(_ROOT / self.arguments[0])]
        holder = nodes.Element()
        self.state.nested_parse(StringList(table, source="modules"), 0, holder)
        return holder.children


def _rows(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        summary = re.sub(r"\s+", " ", docstring.split("\n\n")[0]).replace("|", "\\|")
        name = path.relative_to(folder).with_suffix("").as_posix().removesuffix("/__init__")
        if name != "__init__":
            yield f"| `{name}` | {summary} |"


def setup(app: Any) -> dict[str, bool]:
    """Register the directive. Called by Sphinx."""
    app.add_directive("modules", Modules)
    return {"parallel_read_safe": True}
