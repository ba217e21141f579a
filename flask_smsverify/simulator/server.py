"""The server that runs the simulator on a loopback port, for a person or for a test.

It binds to loopback addresses only, because anyone who can reach the simulator can read every code.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from .api import message_json
from .app import create_simulator
from .hosts import host_name, is_loopback
from .network_faults import is_reset_on_close
from .phone_numbers import parse_mobile
from .state import Clock, SimulatorState, utc_now
from .timing import Timing

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_POLL_SECONDS: Final = 0.02


class _RequestHandler(WSGIRequestHandler):
    """Serves HTTP/1.1, as the gateways do, and logs nothing, because queries contain passwords."""

    protocol_version = "HTTP/1.1"

    def connection_dropped(
        self,
        error: BaseException,  # noqa: ARG002  # werkzeug's signature
        environ: "WSGIEnvironment | None" = None,  # noqa: ARG002  # werkzeug's signature
    ) -> None:
        """Stop reading requests from a dropped connection."""
        self.close_connection = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing. The phone page shows the requests with credentials masked."""


class _Server(ThreadedWSGIServer):
    """werkzeug's threaded server, which can also reset a connection."""

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, without the usual shutdown if the fault `down` marked it."""
        if isinstance(request, socket.socket) and is_reset_on_close(request):
            self.close_request(request)
        else:
            super().shutdown_request(request)


class Simulator:
    """The simulator on a port. `url` is its address, and `state` has its messages and requests.

    :param port: the port to listen on; 0 chooses a free one.
    :param clock: returns the current time, with its zone.
    :param timing: the simulator's delays.
    :raises ValueError: if `host` is not loopback.
    :raises OSError: if the port is in use.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        clock: Clock = utc_now,
        timing: Timing | None = None,
    ) -> None:
        if not is_loopback(host_name(host) if host.startswith("[") else host.lower()):
            raise ValueError(f"The simulator listens on loopback only, not on {host!r}.")
        address = host.strip("[]")
        self.app = create_simulator(clock=clock, timing=timing)
        self.state: SimulatorState = self.app.extensions["simulator"]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        # If the port is in use, werkzeug would exit the process, and create_server raises OSError.
        with socket.create_server((address, port), family=family, backlog=128) as listener:
            self._server = _Server(
                address, port, self.app, handler=_RequestHandler, fd=listener.fileno()
            )
        port = self._server.server_address[1]
        self.url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
        self._thread: threading.Thread | None = None

    def serve_forever(self) -> None:
        """Serve until `stop` is called from another thread, or until Ctrl-C."""
        self._server.serve_forever(poll_interval=_POLL_SECONDS)

    def start(self) -> None:
        """Serve in a new thread."""
        self._thread = threading.Thread(
            target=self.serve_forever, name="sms-simulator", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and end all delayed responses. A second call does nothing."""
        self.state.closing.set()
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()

    def messages(self, to: str | None = None) -> list[dict[str, object]]:
        """Return the messages on the phones, newest first, in the format of `/_api/messages`.

        :param to: a mobile in any spelling; None for all phones.
        """
        mobile = parse_mobile(to) if to else None
        return [
            message_json(message, self.state)
            for message in self.state.phones.messages(self.state.clock(), mobile)
        ]

    def fault(
        self,
        gateway: str,
        fault: str,
        times: int | None = None,
        *,
        code: int | None = None,
        state: str | None = None,
    ) -> None:
        """Switch a fault on, for `times` calls or until it is switched off.

        :param code: of the fault `code`: an error code of the gateway.
        :param state: of the fault `state`: `undelivered`, `filtered` and so on, or the
            gateway's own value.
        """
        self.state.faults.enable(gateway, fault, times, code=code, state=state)

    def clear_faults(self) -> None:
        """Switch all faults off."""
        self.state.faults.disable()

    def reset(self) -> None:
        """Delete all messages, requests and codes, and switch all faults off."""
        self.state.reset()


def serve(host: str = "127.0.0.1", port: int = 8025) -> None:
    """Print the address and serve until Ctrl-C."""
    simulator = Simulator(host, port)
    click.echo(f"The SMS simulator runs at {simulator.url}/  (press Ctrl-C to stop)")
    try:
        simulator.serve_forever()
    except KeyboardInterrupt:
        click.echo("")
    finally:
        simulator.stop()


@contextmanager
def running(
    port: int = 0, *, clock: Clock = utc_now, timing: Timing | None = None
) -> Iterator[Simulator]:
    """Run a simulator on a loopback port while the block runs.

    >>> with running() as simulator:
    ...     simulator.url.startswith("http://127.0.0.1:")
    True
    """
    simulator = Simulator(port=port, clock=clock, timing=timing)
    simulator.start()
    try:
        yield simulator
    finally:
        simulator.stop()
