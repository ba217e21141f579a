"""The connections of the HTTP transport: an httpx transport that obeys the deadline.

httpx's timeouts apply per read, so they do not end a call to a gateway that sends one byte a
second, and they do not apply to DNS. The network backend here limits every wait (DNS, connect, TLS,
write, read) to the time that is left until the deadline. httpx has no parameter for a network
backend and httpcore has one, so `DeadlineTransport` implements `httpx.BaseTransport` over
`httpcore.ConnectionPool`. It does not read proxies from the environment.
"""

from __future__ import annotations

import contextlib
import ipaddress
import queue
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import httpcore
import httpx

from .deadline import remaining

MAX_CONNECTIONS = 32
MAX_IDLE_CONNECTIONS = 8
IDLE_SECONDS = 20

#: httpcore's exceptions → httpx's. A subclass that is not listed is mapped like its base class.
_EXCEPTIONS: dict[type[Exception], type[httpx.TransportError]] = {
    httpcore.ConnectTimeout: httpx.ConnectTimeout,
    httpcore.ReadTimeout: httpx.ReadTimeout,
    httpcore.WriteTimeout: httpx.WriteTimeout,
    httpcore.PoolTimeout: httpx.PoolTimeout,
    httpcore.TimeoutException: httpx.TimeoutException,
    httpcore.ConnectError: httpx.ConnectError,
    httpcore.ReadError: httpx.ReadError,
    httpcore.WriteError: httpx.WriteError,
    httpcore.NetworkError: httpx.NetworkError,
    httpcore.LocalProtocolError: httpx.LocalProtocolError,
    httpcore.RemoteProtocolError: httpx.RemoteProtocolError,
    httpcore.ProtocolError: httpx.ProtocolError,
    httpcore.UnsupportedProtocol: httpx.UnsupportedProtocol,
}


class DeadlineTransport(httpx.BaseTransport):
    """An httpx transport with a connection pool of its own. Thread-safe."""

    def __init__(self) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=default_ssl_context(),
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=MAX_IDLE_CONNECTIONS,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=DeadlineBackend(),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return the response with an unread body."""
        # A stream of either kind is possible by type; httpx.Client makes synchronous ones.
        assert isinstance(request.stream, httpx.SyncByteStream)  # noqa: S101 -- narrows the type: the client is synchronous
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        with _httpx_exceptions():
            response = self._pool.handle_request(
                httpcore.Request(
                    method=request.method,
                    url=url,
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_BodyStream(response),
            extensions=response.extensions,
        )

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()


class _BodyStream(httpx.SyncByteStream):
    """The body of a response, in chunks as they arrive."""

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        with _httpx_exceptions():
            yield from self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


@contextlib.contextmanager
def _httpx_exceptions() -> Iterator[None]:
    """Raise httpx's exception instead of httpcore's."""
    try:
        yield
    except Exception as error:
        for kind in type(error).__mro__:
            if kind in _EXCEPTIONS:
                raise _EXCEPTIONS[kind](str(error)) from error
        raise


@cache
def default_ssl_context() -> ssl.SSLContext:
    """Return the TLS settings, which are read once per process because that takes long."""
    return httpx.create_ssl_context()


# --- the network backend -------------------------------------------------------------------------


def _limit(timeout: float | None, expired: type[Exception]) -> float | None:
    """Return the timeout or the time until the deadline, whichever is shorter."""
    left = remaining()
    if left is None:
        return timeout
    if left <= 0:
        raise expired("the deadline has passed")
    return left if timeout is None else min(timeout, left)


class DeadlineBackend(httpcore.NetworkBackend):
    """Opens TCP connections within the deadline."""

    def __init__(self) -> None:
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of the host that accepts a connection."""
        *others, last = _resolve(host, port, _limit(timeout, httpcore.ConnectTimeout))
        for address in others:
            with contextlib.suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return self._connect(address, port, timeout, local_address, socket_options)
        return self._connect(last, port, timeout, local_address, socket_options)

    def _connect(
        self,
        address: str,
        port: int,
        timeout: float | None,
        local_address: str | None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None,
    ) -> httpcore.NetworkStream:
        left = _limit(timeout, httpcore.ConnectTimeout)
        return _DeadlineStream(
            self._backend.connect_tcp(address, port, left, local_address, socket_options)
        )


class _DeadlineStream(httpcore.NetworkStream):
    """A connection that reads and writes within the deadline."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _limit(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _limit(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = _limit(timeout, httpcore.ConnectTimeout)
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:  # httpcore's signature
        return self._stream.get_extra_info(info)


def _resolve(host: str, port: int, timeout: float | None) -> list[str]:
    """Return the host's addresses.

    `getaddrinfo` has no timeout, so it runs in a thread that can be abandoned.
    """
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(host))]
    results: queue.SimpleQueue[list[str] | OSError | UnicodeError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            results.put(list(dict.fromkeys(str(row[4][0]) for row in rows)))
        except (OSError, UnicodeError) as error:
            results.put(error)

    threading.Thread(target=look_up, name="smsverify-resolve", daemon=True).start()
    try:
        result = results.get(timeout=timeout)
    except queue.Empty:
        raise httpcore.ConnectTimeout("the host name was not resolved in time") from None
    if isinstance(result, OSError | UnicodeError):
        raise httpcore.ConnectError("the host name cannot be resolved")
    return result
