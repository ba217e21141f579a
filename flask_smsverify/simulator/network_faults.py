"""The faults of the network and the server: `slow`, `timeout`, `http_500`, `down`, `lost_answer`.

They act on the socket that werkzeug's server passes in the WSGI environ. Flask's test client has
no socket. With it, a dropped connection is only the exception `ConnectionDropped`.
"""

import select
import socket
import struct
import time
from typing import Final

from flask import Response, request

from .recording import RecordedRequest
from .state import SimulatorState

# The value of SO_LINGER (on, 0 seconds) that makes close() send a reset: socket(7).
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

_POLL_SECONDS: Final = 0.02


class ConnectionDropped(ConnectionAbortedError):
    """The connection ends without a response. werkzeug's server does not log this type."""


def apply_before(recorded: RecordedRequest, state: SimulatorState) -> Response | None:
    """Apply the faults that affect a request before the gateway processes it.

    :returns: the response to send instead of the gateway's, or None.
    :raises ConnectionDropped: the connection ends without a response.
    """

    def is_affected(fault: str) -> bool:
        affected = state.faults.consume(recorded.gateway, fault)
        if affected:
            recorded.faults.append(fault)
        return affected

    if is_affected("down"):
        # The five gateways share a port, so a refused connection is impossible. A reset before
        # processing is the nearest failure.
        _reset_connection()
        raise ConnectionDropped("reset")
    if is_affected("timeout"):
        _wait_for_client_to_leave(state)
        _close_connection()
        raise ConnectionDropped("closed without a response")
    if is_affected("slow"):
        state.closing.wait(state.timing.slow)
    if is_affected("http_500"):
        return Response(
            "<html><head><title>500</title></head><body>Internal Server Error</body></html>",
            500,
            content_type="text/html; charset=utf-8",
        )
    return None


def drop_response(recorded: RecordedRequest, state: SimulatorState) -> None:
    """Raise `ConnectionDropped` if the fault `lost_answer` affects this call."""
    if state.faults.consume(recorded.gateway, "lost_answer"):
        recorded.faults.append("lost_answer")
        _close_connection()
        raise ConnectionDropped("closed without a response")


def is_reset_on_close(connection: socket.socket) -> bool:
    """Return whether the fault `down` marked this connection for a reset."""
    try:
        linger = connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(_RESET_ON_CLOSE))
    except OSError:
        return False
    return linger == _RESET_ON_CLOSE


def _reset_connection() -> None:
    """Make the operating system reset the connection when the server closes it."""
    connection = _connection()
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def _close_connection() -> None:
    """End the stream, as the operating system does when a server process ends."""
    connection = _connection()
    if connection is not None:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the client closed the connection first


def _wait_for_client_to_leave(state: SimulatorState) -> None:
    """Wait until the client closes, the simulator stops or `Timing.timeout` has passed."""
    connection = _connection()
    deadline = time.monotonic() + state.timing.timeout
    while time.monotonic() < deadline and not state.closing.wait(_POLL_SECONDS):
        if connection is not None and _is_closed_by_client(connection):
            return


def _is_closed_by_client(connection: socket.socket) -> bool:
    try:
        readable, _, _ = select.select([connection], [], [], 0)
        return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):
        return True


def _connection() -> socket.socket | None:
    connection = request.environ.get("werkzeug.socket")
    return connection if isinstance(connection, socket.socket) else None
