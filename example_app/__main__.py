"""`python -m example_app`: serve the shop, and a simulator that receives its text messages."""

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
from .settings import DEMO_STAFF_MOBILES, smsverify_settings

HOST = "127.0.0.1"


def main() -> None:
    """Serve the shop until Ctrl-C.

    The simulator runs too, unless the environment configures senders or another simulator.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # do not log every request
    with ExitStack() as stack:
        port = find_free_port("EXAMPLE_PORT", 5000)
        # The host of the links in text messages, and of the line from which browsers fill in a
        # code.
        config: dict[str, object] = {"SERVER_NAME": f"{HOST}:{port}"}
        settings = smsverify_settings()
        if not {"SMSVERIFY_SENDERS", "SMSVERIFY_SIMULATOR_URL"} & settings.keys():
            simulator = stack.enter_context(running(port=find_free_port("SIMULATOR_PORT", 8025)))
            config["SMSVERIFY_SIMULATOR_URL"] = simulator.url
            config["SMSVERIFY_STAFF_MOBILES"] = settings.get(
                "SMSVERIFY_STAFF_MOBILES", DEMO_STAFF_MOBILES
            )
        app = create_app(config)
        server = make_server(HOST, port, app, threaded=True)
        click.echo(start_message(app, f"http://{HOST}:{server.server_port}/"))
        server.serve_forever()  # returns after Ctrl-C
    click.echo("\nStopped.")


def find_free_port(variable: str, default: int) -> int:
    """Return the port in an environment variable, or the next free port after it."""
    wanted = int(os.environ.get(variable, default))
    for port in range(wanted, wanted + 50):
        with suppress(OSError):
            socket.create_server((HOST, port)).close()
            if port != wanted:
                click.echo(f"Port {wanted} is in use. Using {port}; set {variable} to choose one.")
            return port
    raise SystemExit(f"Ports {wanted} to {wanted + 49} are in use. Set {variable} to a free port.")


def start_message(app: Flask, shop_url: str) -> str:
    """Return the addresses, the demo accounts, and how to stop."""
    database = make_url(app.config["SQLALCHEMY_DATABASE_URI"]).database
    simulator_url = app.config.get("SMSVERIFY_SIMULATOR_URL")
    if simulator_url:
        messages = f"Phone       {simulator_url}/   (text messages arrive here)"
    else:
        messages = (
            "Messages    go to real phones through your senders.\n"
            "              Sign in as newcomer and enter your own number."
        )
    return f"""
  Chenar, the example shop of flask_smsverify

  Shop        {shop_url}
  {messages}

  Sign in as  sara      sara-demo       must confirm her mobile number
              newcomer  newcomer-demo   has no mobile number yet
              reza      reza-demo       is exempt, as a reseller
              staff     staff-demo      manages the shop at {shop_url}staff
                                        and messages at {shop_url}admin/smsverify/

  Press Ctrl-C to stop. To start again from the beginning, delete
  {database}
"""


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
    except ConfigurationError as error:
        raise SystemExit(f"The shop cannot start: {error}") from None
