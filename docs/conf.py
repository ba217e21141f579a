"""Sphinx builds the documentation from Markdown, and the reference from docstrings."""

from __future__ import annotations

import re
from typing import Any

project = "flask_smsverify"
author = "the flask_smsverify authors"
project_copyright = "2026, the flask_smsverify authors"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "Phone verification for Flask", "fixed_sidebar": True}
myst_heading_anchors = 3
# Links to files beside the docs work where the repository is read, not in the built pages.
suppress_warnings = ["myst.xref_missing"]
autodoc_typehints = "description"


def _code_in_backticks(
    _app: Any, _what: str, _name: str, _object: object, _options: Any, lines: list[str]
) -> None:
    """Docstrings write code in single backticks; reStructuredText wants two."""
    text = "\n".join(lines)
    text = re.sub(r"(?<![`:\w])`([^`]+)`(?!`)", r"``\1``\\ ", text)
    lines[:] = text.split("\n")


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _code_in_backticks)
