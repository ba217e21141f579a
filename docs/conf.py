"""Sphinx builds the documentation from Markdown."""

project = "flask_smsverify"
author = "the flask_smsverify authors"
project_copyright = "2026, the flask_smsverify authors"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "Phone verification for Flask", "fixed_sidebar": True}
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]  # links to files beside the docs work on the repository's page
autodoc_typehints = "description"
