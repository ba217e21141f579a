"""`python -m example_app`: the shop, and beside it the phone that its messages arrive on."""

from __future__ import annotations

import logging
import os
import signal
import socket
from contextlib import ExitStack, suppress

import click
from flask import Flask
from sqlalchemy import make_url
from werkzeug.serving import make_server

from flask_smsverify.errors import ConfigurationError
from flask_smsverify.simulator import running

from . import create_app
from .settings import smsverify_settings

HOST = "127.0.0.1"


def main() -> None:
    """Serve the shop until Ctrl-C; the simulator too, unless the environment says what to use."""
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.default_int_handler)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # no line for every request
    with ExitStack() as stack:
        config = {}
        if not {"SMSVERIFY_SENDERS", "SMSVERIFY_SIMULATOR_URL"} & smsverify_settings().keys():
            simulator = stack.enter_context(running(port=free_port("SIMULATOR_PORT", 8025)))
            config["SMSVERIFY_SIMULATOR_URL"] = simulator.url
        app = create_app(config)
        server = make_server(HOST, free_port("EXAMPLE_PORT", 5000), app, threaded=True)
        click.echo(banner(app, f"http://{HOST}:{server.server_port}/"))
        server.serve_forever()  # returns at Ctrl-C, and closes its socket
    click.echo("\nStopped.")


def free_port(variable: str, default: int) -> int:
    """The port that `variable` names, or the first one after it that nobody listens on."""
    wanted = int(os.environ.get(variable, default))
    for port in range(wanted, wanted + 50):
        with suppress(OSError):
            socket.create_server((HOST, port)).close()
            if port != wanted:
                click.echo(f"Port {wanted} is taken; using {port} ({variable} sets another).")
            return port
    raise SystemExit(f"No port from {wanted} on is free; {variable} sets another.")


def banner(app: Flask, shop_url: str) -> str:
    """What to open, whom to log in as, and how to stop."""
    database = make_url(app.config["SQLALCHEMY_DATABASE_URI"]).database
    phone_url = app.config.get("SMSVERIFY_SIMULATOR_URL")
    if phone_url:
        messages = f"The phone   {phone_url}/   (messages arrive here)"
    else:
        messages = (
            "Messages    go to real phones, by your own senders.\n"
            "              Log in as newcomer and give your own number: sara's is not yours."
        )
    return f"""
  Chenar, the demo shop of flask_smsverify

  The shop    {shop_url}
  {messages}

  Log in as   sara      sara-demo       has a mobile to verify
              newcomer  newcomer-demo   starts without a mobile
              reza      reza-demo       a reseller, exempt

  Ctrl-C stops it. To start over, delete {database}
"""


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
    except ConfigurationError as error:
        raise SystemExit(f"The shop cannot start: {error}") from None
