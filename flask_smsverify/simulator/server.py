"""Runs the simulator: on a port of this machine's own, for a person or for a test.

werkzeug's threaded server does the serving. Nothing but a loopback address is listened on: whoever
reaches the simulator reads every code.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from .api import message_view
from .app import create_simulator
from .hosts import host_name, is_loopback
from .line import resets_on_close
from .numbers import read_mobile
from .state import Clock, Pace, World, utc_now

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

POLL_SECONDS = 0.02


class _Handler(WSGIRequestHandler):
    """Speaks HTTP/1.1 as the gateways do, and writes no log: queries hold passwords."""

    protocol_version = "HTTP/1.1"

    def connection_dropped(
        self,
        error: BaseException,  # noqa: ARG002  # werkzeug's signature
        environ: "WSGIEnvironment | None" = None,  # noqa: ARG002  # likewise
    ) -> None:
        """Wait for no further request on a connection that was given up."""
        self.close_connection = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: the requests are on the page, with their credentials masked."""


class _Server(ThreadedWSGIServer):
    """werkzeug's server, save that a connection can be reset."""

    def shutdown_request(self, request: Any) -> None:
        """Close a connection; without the polite end where `line.reset` was called for it."""
        if isinstance(request, socket.socket) and resets_on_close(request):
            self.close_request(request)
        else:
            super().shutdown_request(request)


class Simulator:
    """The simulator on a port. `port` 0 takes a free one; `url` then says which.

    Raises ValueError for an address that is not loopback, OSError for a port that is taken.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        clock: Clock = utc_now,
        pace: Pace | None = None,
    ) -> None:
        if not is_loopback(host_name(host) if host.startswith("[") else host.lower()):
            raise ValueError(f"The simulator listens on loopback only, not on {host!r}.")
        address = host.strip("[]")
        self.app = create_simulator(clock=clock, pace=pace)
        self.world: World = self.app.extensions["simulator"]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.create_server((address, port), family=family, backlog=128) as listening:
            self._server = _Server(address, port, self.app, handler=_Handler, fd=listening.fileno())
        port = self._server.server_address[1]
        self.url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
        self._thread: threading.Thread | None = None

    def serve_forever(self) -> None:
        """Serve until `stop` is called from another thread, or Ctrl-C."""
        self._server.serve_forever(poll_interval=POLL_SECONDS)

    def start(self) -> None:
        """Serve in a thread."""
        self._thread = threading.Thread(
            target=self.serve_forever, name="sms-simulator", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and let go of whoever is kept waiting. Twice does no harm."""
        self.world.closing.set()
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()

    def messages(self, to: str | None = None) -> list[dict[str, object]]:
        """What is on the phones, newest first, as `/_api/messages` shows it."""
        mobile = read_mobile(to) if to else None
        return [message_view(message, self.world) for message in self.world.arrived(mobile)]

    def fault(self, gateway: str, fault: str, times: int | None = None) -> None:
        """Switch a fault on, for so many calls or until it is switched off."""
        self.world.switch_on(gateway, fault, times)

    def reset(self) -> None:
        """Forget everything that happened and switch all faults off."""
        self.world.reset()


def serve(host: str = "127.0.0.1", port: int = 8025) -> None:
    """Serve until Ctrl-C, saying where."""
    simulator = Simulator(host, port)
    click.echo(f"The gateways and the phone are at {simulator.url}/  (Ctrl-C ends it)")
    try:
        simulator.serve_forever()
    except KeyboardInterrupt:
        click.echo("")
    finally:
        simulator.stop()


@contextmanager
def running(
    port: int = 0, *, clock: Clock = utc_now, pace: Pace | None = None
) -> Iterator[Simulator]:
    """A simulator on a loopback port while the block runs.

    >>> with running() as simulator:
    ...     simulator.url.startswith("http://127.0.0.1:")
    True
    """
    simulator = Simulator(port=port, clock=clock, pace=pace)
    simulator.start()
    try:
        yield simulator
    finally:
        simulator.stop()
