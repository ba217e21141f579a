"""Layouts of host apps in which the pages must be readable: light, dark, and Bootstrap."""

from __future__ import annotations

from pathlib import Path

import flask_bootstrap
from flask import Flask, Response
from jinja2 import ChoiceLoader, DictLoader

_BOOTSTRAP = Path(flask_bootstrap.__file__).parent / "static/bootstrap5/css/bootstrap.min.css"
#: The stylesheets. None declares `color-scheme`, so the dark mode of the phone must not apply.
STYLES = {
    "light": "body { background: #fff; color: #222; font: 15px/1.5 Georgia, serif; }",
    "dark": "body { background: #111; color: #eee; } a { color: #8cf; }",
    "bootstrap": _BOOTSTRAP.read_text("utf-8"),
    "dark bootstrap": _BOOTSTRAP.read_text("utf-8"),
}
_LAYOUT = """<!doctype html>
<html lang="{{ smsverify_ui.locale }}" dir="{{ smsverify_ui.dir }}"ATTRIBUTES>
<head>
  <title>{% block title %}{% endblock %}</title>
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <link rel="stylesheet" href="/host.css">
  {% block head %}ASSETS{% endblock %}
</head>
<body><main class="container">{% block content %}{% endblock %}</main></body>
</html>"""


def use(app: Flask, host: str) -> None:
    """Give an app a layout: `host.html` for staff, `smsverify/base.html` for users."""
    attributes = ' data-bs-theme="dark"' if host == "dark bootstrap" else ""
    layout = _LAYOUT.replace("ATTRIBUTES", attributes)
    assets = "{% include 'smsverify/assets.html' %}"
    icon = """<link rel="icon" href="{{ url_for('smsverify.static', filename='staff.svg') }}">"""
    templates = {
        "host.html": layout.replace("ASSETS", icon),
        "smsverify/base.html": layout.replace("ASSETS", assets),
    }
    others = [app.jinja_loader] if app.jinja_loader is not None else []
    app.jinja_loader = ChoiceLoader([DictLoader(templates), *others])
    app.add_url_rule("/host.css", "host_css", lambda: Response(STYLES[host], mimetype="text/css"))
