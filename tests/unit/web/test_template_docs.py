"""The template variables and endpoints that docs/templates.md documents, compared with the code."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from flask import Flask, template_rendered
from flask.testing import FlaskClient
from jinja2 import Template
from visiting import MOBILE, PAGE, SEND

from flask_smsverify.web.problems import ProblemView
from flask_smsverify.web.view_models import PageView

FOR_TEMPLATES = (Path(__file__).parents[3] / "docs/templates.md").read_text("utf-8")
NAMED = re.compile(r"`(\w+)`")


def documented(heading: str) -> set[str]:
    """Return the names in the first column of the table below a heading."""
    rows = FOR_TEMPLATES.split(f"| {heading} | content |\n| --- | --- |\n")[1].split("\n\n")[0]
    return {name for row in rows.splitlines() for name in NAMED.findall(row.split("|")[1])}


def test_the_documented_variables_are_those_that_templates_get(client: FlaskClient) -> None:
    known: set[str] = set()

    def collect(_app: Flask, template: Template, context: dict[str, Any], **_more: object) -> None:
        known.update(name for name in context if name == "verify" or name.startswith("sv_"))

    app = client.application
    with template_rendered.connected_to(collect, app):
        client.get(PAGE)
        client.get(MOBILE)
        app.config["WTF_CSRF_ENABLED"] = True
        assert client.post(SEND).status_code == 400
    assert documented("variable") == known | {"smsverify_ui"}
    ui = app.jinja_env.globals["smsverify_ui"]
    row = next(row for row in FOR_TEMPLATES.splitlines() if row.startswith("| `smsverify_ui`"))
    named = re.findall(r"`(\w+)[`(]", row.split("|")[2])
    assert set(named) == {name for name in dir(ui) if not name.startswith("_")}
    row = next(row for row in FOR_TEMPLATES.splitlines() if row.startswith("| `sv_error`"))
    fields = {field.name for field in dataclasses.fields(ProblemView)}
    assert fields <= set(NAMED.findall(row))


def test_the_documented_fields_of_verify_are_its_fields() -> None:
    fields = {field.name for field in dataclasses.fields(PageView)}
    assert documented("field of `verify`") == fields


def test_the_documented_endpoints_are_those_that_accept_a_post(client: FlaskClient) -> None:
    posts = {
        rule.endpoint for rule in client.application.url_map.iter_rules() if "POST" in rule.methods
    }
    named = set(re.findall(r"url_for\('([\w.]+)'\)", FOR_TEMPLATES))
    # The form of the undo page has an address with a token, `sv_undo_url`. The page on the sign-in
    # has its own table.
    elsewhere = {
        f"smsverify.{name}"
        for name in ("undo", "sign_in", "sign_in_check", "first_proof", "first_proof_link")
    }
    assert named | elsewhere == {name for name in posts if name.startswith("smsverify.")}
    assert len(named) == 6
