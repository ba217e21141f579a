"""`flask smsverify openapi`."""

from __future__ import annotations

import click
from flask import current_app

from ..state import get_state
from ..web.openapi import build_document
from .group import smsverify


@smsverify.command("openapi")
def openapi() -> None:
    """Print the OpenAPI document of the pages' JSON."""
    config = current_app.config
    host = get_state().settings.pages_host(config["SERVER_NAME"])
    path = config["APPLICATION_ROOT"].rstrip("/")
    root = f"{config['PREFERRED_URL_SCHEME']}://{host}{path}" if host else path
    click.echo(current_app.json.dumps(build_document(root), indent=2, ensure_ascii=False))
