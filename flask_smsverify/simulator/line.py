"""The faults of the line: slow, hanging, broken and closed connections.

They work on the socket that werkzeug's server hands on. Without one (Flask's test client) a dropped
connection shows as `HungUp` alone.
"""

import select
import socket
import struct
import time

from flask import request

from .state import World

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class HungUp(ConnectionAbortedError):
    """The connection was closed without an answer. werkzeug's server takes it in silence."""


def hang_up() -> HungUp:
    """Close the connection as a server does that died: its client reads the end of the stream."""
    connection = _connection()
    if connection is not None:
        _quietly(connection.shutdown, socket.SHUT_RDWR)
    return HungUp("closed without an answer")


def reset() -> HungUp:
    """Have the connection reset when it is closed, which is as near to refused as a server comes
    whose port is shared by five gateways."""
    connection = _connection()
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    return HungUp("reset")


def resets_on_close(connection: socket.socket) -> bool:
    """Whether `reset` was called for this connection."""
    try:
        lingers = connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(_RESET_ON_CLOSE))
    except OSError:
        return False
    return lingers == _RESET_ON_CLOSE


def keep_waiting(world: World) -> None:
    """Say nothing until the client goes, the simulator stops or `Pace.hang` seconds are over."""
    connection = _connection()
    until = time.monotonic() + world.pace.hang
    while time.monotonic() < until and not world.closing.wait(0.02):
        if connection is not None and _is_gone(connection):
            return


def _is_gone(connection: socket.socket) -> bool:
    try:
        readable, _, _ = select.select([connection], [], [], 0)
        return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):
        return True


def _connection() -> socket.socket | None:
    connection = request.environ.get("werkzeug.socket")
    return connection if isinstance(connection, socket.socket) else None


def _quietly(shutdown: object, how: int) -> None:
    if callable(shutdown):
        try:
            shutdown(how)
        except OSError:
            return  # the client was faster
