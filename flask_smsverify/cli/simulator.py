"""`flask smsverify simulator`."""

from __future__ import annotations

import os

import click

from .group import smsverify


@smsverify.command("simulator", with_appcontext=False)
@click.option(
    "--port",
    default=8025,
    show_default=True,
    type=click.IntRange(0, 65_535),
    help="The port on 127.0.0.1; 0 chooses a free one.",
)
def simulator(port: int) -> None:
    """Serve all gateways and the phone on 127.0.0.1. Needs no app."""
    from ..simulator import serve

    try:
        serve(port=port)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise click.ClickException(
            f"port {port} cannot be used ({reason}); choose another with --port"
        ) from None
