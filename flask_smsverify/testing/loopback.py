"""A gateway on 127.0.0.1: an HTTP server that answers with a function, or misbehaves."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

from ..senders.http import MAX_ANSWER_BYTES

#: How long a misbehaving gateway hangs, in seconds. A sender without a deadline waits this long.
HANG_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Request:
    """A request that the gateway received.

    :param target: path and query, as in the request line.
    :param headers: by name in lower case.
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def json(self) -> object:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete HTTP response."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    def head(self) -> bytes:
        """Return the status line and the headers."""
        lines = [f"HTTP/1.1 {self.status} Whatever", f"Content-Type: {self.content_type}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += [f"Content-Length: {len(self.body)}", "", ""]
        return "\r\n".join(lines).encode()


class Exchange:
    """One request and its connection, for a misbehaviour.

    :param hang_seconds: how long to hang, in seconds.
    """

    def __init__(
        self,
        request: Request,
        connection: socket.socket,
        stop: threading.Event,
        hang_seconds: float = HANG_SECONDS,
    ) -> None:
        self.request = request
        self.hang_seconds = hang_seconds
        self._connection = connection
        self._stop = stop

    def send(self, data: bytes) -> bool:
        """Write bytes, and return whether the connection is still open."""
        try:
            self._connection.sendall(data)
        except OSError:
            return False
        return True

    def answer(self, reply: Reply) -> None:
        """Write a complete response that announces the end of the connection.

        Without the announcement, a client could write its next request into the closing connection.
        """
        closing = replace(reply, headers={"Connection": "close", **reply.headers})
        self.send(closing.head() + closing.body)

    def wait(self, seconds: float) -> bool:
        """Pause, and return whether the gateway is still running."""
        return not self._stop.wait(seconds)

    def wait_for_client(self) -> None:
        """Wait until the client closes the connection, or for `hang_seconds` seconds."""
        ends = time.monotonic() + self.hang_seconds
        self._connection.settimeout(0.05)
        while time.monotonic() < ends and not self._stop.is_set():
            try:
                if not self._connection.recv(65_536):
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    def reset(self) -> None:
        """Close the connection with a TCP reset."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()


#: What a gateway does with a request. The connection is closed when it returns.
Misbehaviour = Callable[[Exchange], None]


def hang(exchange: Exchange) -> None:
    """Read the request and send nothing."""
    exchange.wait_for_client()


def hang_after_head(exchange: Exchange) -> None:
    """Send headers that announce a body, and nothing more."""
    exchange.send(Reply(200, b"x" * 100).head())
    exchange.wait_for_client()


def drip_head(exchange: Exchange) -> None:
    """Send headers slowly, each soon enough for a timeout per read."""
    exchange.send(b"HTTP/1.1 200 OK\r\n")
    _drip(exchange, b"X-Still: here\r\n")


def drip_body(exchange: Exchange) -> None:
    """Send a body slowly, each byte soon enough for a timeout per read."""
    exchange.send(Reply(200, b" " * 100_000).head())
    _drip(exchange, b" ")


def _drip(exchange: Exchange, chunk: bytes) -> None:
    ends = time.monotonic() + exchange.hang_seconds
    while time.monotonic() < ends and exchange.wait(0.03):
        if not exchange.send(chunk):
            return


def reset(exchange: Exchange) -> None:
    """Reset the connection after reading the request."""
    exchange.reset()


def close(_exchange: Exchange) -> None:
    """Close the connection after reading the request."""


def close_in_head(exchange: Exchange) -> None:
    """Close the connection in the middle of the headers."""
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Ty")


def close_in_body(exchange: Exchange) -> None:
    """Close the connection in the middle of the body."""
    exchange.send(Reply(200, b'{"data": [{"id": "1", "Code": 0}]}').head() + b'{"data": [')


def send_endless_body(exchange: Exchange) -> None:
    """Send four times the size limit of an answer."""
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(4 * MAX_ANSWER_BYTES // 0x10000):
        exchange.send(chunk)
    exchange.send(b"0\r\n\r\n")


def send_gzip_bomb(exchange: Exchange) -> None:
    """Send a few kilobytes that decompress to four times the size limit of an answer."""
    packed = _compress_spaces(4 * MAX_ANSWER_BYTES)
    reply = Reply(200, packed, headers={"Content-Encoding": "gzip"})
    exchange.send(reply.head() + packed)


@cache
def _compress_spaces(length: int) -> bytes:
    return gzip.compress(b" " * length)


def send_no_gzip(exchange: Exchange) -> None:
    """Announce gzip and send something else."""
    reply = Reply(200, b"{} is not gzip", headers={"Content-Encoding": "gzip"})
    exchange.send(reply.head() + reply.body)


def send_no_http(exchange: Exchange) -> None:
    """Send another protocol."""
    exchange.send(b"SSH-2.0-OpenSSH_9.9\r\n")


class LoopbackGateway:
    """A context manager: an HTTP server on 127.0.0.1 that answers with a function, or misbehaves.

    :param answer: returns the reply to a request.
    :param tls: the TLS settings; None: no TLS.
    :param hang_seconds: how long a misbehaviour hangs, in seconds.
    """

    def __init__(
        self,
        answer: Callable[[Request], Reply],
        *,
        tls: ssl.SSLContext | None = None,
        hang_seconds: float = HANG_SECONDS,
    ) -> None:
        self.answer = answer
        #: What the gateway does instead of answering; None: it answers.
        self.misbehave: Misbehaviour | None = None
        #: All requests, in order.
        self.requests: list[Request] = []
        #: The number of accepted connections.
        self.connections = 0
        self.hang_seconds = hang_seconds
        self._tls = tls
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def open_connections(self) -> int:
        """The number of connections that this server has not closed."""
        return len(self._open)

    def __enter__(self) -> LoopbackGateway:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        with contextlib.suppress(OSError):  # ends the thread that waits for a connection
            socket.create_connection(self._listener.getsockname(), timeout=1).close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):  # ends the thread that reads from it
                connection.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(5)
        self._listener.close()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name="loopback-gateway", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._stop.is_set():
                return connection.close()
            connection.settimeout(30)
            self.connections += 1
            self._open.add(connection)
            self._start(self._serve, connection)

    def _serve(self, plain: socket.socket) -> None:
        connection = plain
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(plain, server_side=True)
                self._open.add(connection)
            while (request := self._read(connection)) is not None:
                self.requests.append(request)
                if self.misbehave is not None:
                    return self.misbehave(
                        Exchange(request, connection, self._stop, self.hang_seconds)
                    )
                reply = self.answer(request)
                connection.sendall(reply.head() + reply.body)
        except OSError:
            return None
        finally:
            connection.close()
            plain.close()
            self._open -= {plain, connection}

    def _read(self, connection: socket.socket) -> Request | None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (more := connection.recv(65_536)):
                return None
            head += more
        head, _, body = head.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        pairs = (line.split(":", 1) for line in lines)
        headers = {name.strip().lower(): value.strip() for name, value in pairs}
        while len(body) < int(headers.get("content-length", 0)):
            if not (more := connection.recv(65_536)):
                return None
            body += more
        return Request(method, target, headers, body)
