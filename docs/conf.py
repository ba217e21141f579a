"""The configuration of Sphinx. Pages are Markdown, and the reference comes from docstrings."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "flask_smsverify"
author = "the flask_smsverify authors"
project_copyright = "2026, the flask_smsverify authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "modules", "problems"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "Phone verification for Flask", "fixed_sidebar": True}
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"

#: A link to a file of the repository outside `docs`.
_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]*\)")


def _write_code_as_literals(
    _app: Any, _what: str, _name: str, _object: object, _options: Any, lines: list[str]
) -> None:
    """Turn single backticks into double ones: docstrings use Markdown's, autodoc reads reST."""
    text = re.sub(r"(?<![`:\w])`([^`]+)`(?!`)", r"``\1``\\ ", "\n".join(lines))
    lines[:] = text.split("\n")


def _remove_outside_links(_app: Any, _page: str, source: list[str]) -> None:
    """Keep only the text of links to files of the repository that are not pages."""
    source[0] = _OUTSIDE.sub(r"\1", source[0])


def setup(app: Any) -> None:
    """Connect the hooks. Called by Sphinx."""
    app.connect("autodoc-process-docstring", _write_code_as_literals)
    app.connect("source-read", _remove_outside_links)
