"""The HTTP transport: one request out, one bounded answer back, within a deadline.

What lives here is everything that a gateway may do to us by way of HTTP: hanging, dripping,
closing, redirecting, answering a gigabyte or a page of HTML. What an answer means is read in the
gateway's own file.

httpx's timeouts are per read, so a gateway that drips a byte a second, or a resolver that hangs,
outlasts them. The network backend below cuts every wait to what is left of one deadline.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import queue
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

import httpcore
import httpx

from ..errors import (
    ConfigurationError,
    Misconfigured,
    Rejected,
    SenderError,
    Unavailable,
    Unknown,
)

#: An answer of more than this, unpacked, is not an answer.
MAX_ANSWER_BYTES = 2 * 1024 * 1024

_deadline: ContextVar[float | None] = ContextVar("smsverify_deadline", default=None)


class Timeout(NamedTuple):
    """Seconds: to connect, between two reads, and for the whole call, resolving included."""

    connect: float = 3
    read: float = 10
    whole: float = 12


DEFAULT_TIMEOUT = Timeout()


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Let every call in this block, together, take at most so many seconds.

    An outer deadline that ends sooner stays in force.
    """
    ends = time.monotonic() + seconds
    outer = _deadline.get()
    token = _deadline.set(ends if outer is None else min(ends, outer))
    try:
        yield
    finally:
        _deadline.reset(token)


def remaining() -> float | None:
    """Seconds until the deadline in force; None without one, never below 0."""
    ends = _deadline.get()
    return None if ends is None else max(0.0, ends - time.monotonic())


@dataclass(frozen=True, slots=True)
class Answer:
    """What a gateway answered.

    :param body: unpacked, at most `MAX_ANSWER_BYTES`.
    """

    gateway: str
    status: int
    content_type: str
    body: bytes

    def __repr__(self) -> str:
        return f"<Answer of {self.gateway}: {self.status}, {len(self.body)} bytes>"

    @property
    def text(self) -> str:
        """The body as text; what is not UTF-8 shows as replacement marks."""
        return self.body.decode("utf-8-sig", errors="replace")

    def json(self) -> object:
        """The body as JSON.

        :raises Unknown: it is not JSON, or nested too deep.
        """
        # Raised outside the block: the decoder's exception holds the whole answer.
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(self.text, parse_constant=_no_constant)
        return self.unreadable("JSON")

    def unreadable(self, expected: str) -> NoReturn:
        """Raise what an answer that cannot be understood means: it may have been sent."""
        kind = self.content_type.partition(";")[0].strip()[:40] or "no content type"
        raise Unknown(self.gateway, f"expected {expected}, got HTTP {self.status} with {kind}")

    def refuse_service_faults(self) -> None:
        """Raise for what is the service's or our account's trouble, whoever the gateway.

        :raises Unavailable: 401, 402, 403, 407, 429, every other 5xx and every redirect.
        :raises Unknown: 504 (RFC 9110, 15.6.5): whoever stands behind may have done it, and only
            their answer came too late.
        """
        reasons = {
            401: "our credentials were refused",
            402: "no credit",
            403: "our account may not do this",
            407: "a proxy wants credentials",
            429: "too many requests",
        }
        if self.status in reasons:
            raise Unavailable(self.gateway, reasons[self.status], code=str(self.status))
        if 300 <= self.status < 400:
            raise Unavailable(
                self.gateway,
                "it answered with a redirect, which is not followed",
                code=str(self.status),
            )
        if self.status == 504:
            raise Unknown(self.gateway, "a proxy had no answer in time", code="504")
        if self.status >= 500:
            raise Unavailable(self.gateway, "the service failed", code=str(self.status))

    def refuse_wrong_address(self) -> None:
        """Raise for an address at which there is no such method.

        :raises Misconfigured: 404 and 405.
        """
        if self.status in (404, 405):
            raise Misconfigured(
                self.gateway,
                "there is no such method at this address; look at base_url",
                code=str(self.status),
            )


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class HttpTransport:
    """Makes requests for one sender. Thread-safe; connections are kept and reused.

    :param gateway: the sender's name, for errors.
    :param base_url: everything before the method's name, without a closing slash.
    :param allow_http: take plain `http:` to a host that is not loopback.
    :param client: a client of one's own, for instance over `httpx.MockTransport`.
    :raises ConfigurationError: an address that must not be used.
    """

    def __init__(
        self,
        gateway: str,
        base_url: str,
        *,
        timeout: Timeout | tuple[float, float, float] = DEFAULT_TIMEOUT,
        allow_http: bool = False,
        client: httpx.Client | None = None,
    ) -> None:
        self.gateway = gateway
        self.base_url = checked_base_url(gateway, base_url, allow_http=allow_http)
        self.timeout = checked_timeout(gateway, timeout)
        self._client = client or _client()

    def __repr__(self) -> str:
        return f"<HttpTransport of {self.gateway!r}>"

    def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make one request and read its whole answer, whatever its HTTP status.

        :param path: appended to `base_url` as it is, or a whole address of its own.
        :raises Unavailable: no connection; nothing was written.
        :raises Rejected: the text cannot be written as UTF-8; nothing was written.
        :raises Unknown: something was written and no whole answer came back.
        """
        url = path if "://" in path else self.base_url + path
        failure: SenderError
        with deadline(self.timeout.whole), _own_request():
            left = remaining() or 0.0
            if not left:
                raise Unavailable(self.gateway, "the deadline was over before it", written=False)
            limits = httpx.Timeout(
                self.timeout.read,
                connect=self.timeout.connect,
                pool=min(self.timeout.connect, left),
            )
            try:
                with self._client.stream(
                    method,
                    url,
                    json=json,
                    data=form,
                    content=content,
                    params=params,
                    headers=headers,
                    timeout=limits,
                    follow_redirects=False,
                ) as response:
                    return Answer(
                        self.gateway,
                        response.status_code,
                        response.headers.get("content-type", ""),
                        _read_bounded(response),
                    )
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                reason = f"no connection ({type(error).__name__})"
                failure = Unavailable(self.gateway, reason, written=False)
            except UnicodeError:
                failure = Rejected(self.gateway, "the text is not valid Unicode", written=False)
            except _TooLarge:
                failure = Unknown(self.gateway, "its answer is larger than any answer can be")
            except (httpx.HTTPError, zlib.error) as error:
                failure = Unknown(self.gateway, f"no whole answer ({type(error).__name__})")
        # Raised out here, so that no httpx exception, which holds the request with its
        # credentials and its text, hangs on ours as a context.
        raise failure

    def close(self) -> None:
        """Close the kept connections."""
        self._client.close()


def checked_base_url(gateway: str, base_url: object, *, allow_http: bool) -> str:
    """The address without its closing slash.

    :raises ConfigurationError: not an address, or plain http to a host that is not loopback.
    """
    if not isinstance(base_url, str):
        raise ConfigurationError(f"{gateway}: base_url must be text")
    if not isinstance(allow_http, bool):
        raise ConfigurationError(f"{gateway}: allow_http must be true or false")
    try:
        parts = urlsplit(base_url)
        host, _port, _checked = parts.hostname, parts.port, httpx.URL(base_url)
    except (ValueError, httpx.InvalidURL):
        raise ConfigurationError(f"{gateway}: base_url is not an address") from None
    if (
        parts.scheme not in ("http", "https")
        or not host
        or "@" in parts.netloc
        or parts.query
        or parts.fragment
    ):
        raise ConfigurationError(
            f"{gateway}: base_url must be an https address, without credentials or a query in it"
        )
    if parts.scheme == "http" and not allow_http and not _is_loopback(host):
        raise ConfigurationError(
            f"{gateway}: base_url is plain http, which shows credentials and codes to everyone on "
            "the way; use https, or set allow_http if you must"
        )
    return base_url.rstrip("/")


def checked_timeout(gateway: str, timeout: object) -> Timeout:
    """Three positive numbers of seconds.

    :raises ConfigurationError: anything else.
    """
    if (
        isinstance(timeout, tuple | list)
        and len(timeout) == 3
        and all(
            isinstance(part, int | float) and not isinstance(part, bool) and 0 < part < 86_400
            for part in timeout
        )
    ):
        return Timeout(*timeout)
    raise ConfigurationError(
        f"{gateway}: timeout must be three positive numbers: seconds to connect, to read, in all"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _TooLarge(Exception):
    """The answer passed `MAX_ANSWER_BYTES`."""


def _read_bounded(response: httpx.Response) -> bytes:
    """The whole body, unpacked within the bound. httpx's own decoders know no bound."""
    if response.is_stream_consumed:  # made in memory, by a client of the caller's own
        if len(response.content) > MAX_ANSWER_BYTES:
            raise _TooLarge
        return response.content
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    unpack: Callable[[bytes], bytes] = bytes
    if encoding in ("gzip", "deflate"):
        inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        unpack = lambda packed: inflate.decompress(packed, MAX_ANSWER_BYTES + 1)  # noqa: E731 -- two branches of one small choice
    body = bytearray()
    for chunk in response.iter_raw():
        body += unpack(chunk)
        if len(body) > MAX_ANSWER_BYTES:
            raise _TooLarge
    return bytes(body)


def _client() -> httpx.Client:
    transport = httpx.HTTPTransport(verify=_ssl_context())
    # httpx takes no network backend, httpcore's pool does; `tests/senders/test_http.py` notices if
    # a release of httpx stops using the pool it is given.
    transport._pool = httpcore.ConnectionPool(
        ssl_context=_ssl_context(),
        max_connections=32,
        max_keepalive_connections=8,
        keepalive_expiry=20,
        network_backend=_WithinDeadline(),
    )
    return httpx.Client(
        transport=transport,
        headers={
            "User-Agent": f"flask-smsverify/{version('flask-smsverify')}",
            "Accept-Encoding": "gzip, deflate",
        },
        trust_env=False,
    )


@cache
def _ssl_context() -> ssl.SSLContext:
    return httpx.create_ssl_context()


# --- one deadline over resolving, connecting, TLS, writing and reading -------------------------


def _cut(timeout: float | None, expired: type[Exception]) -> float | None:
    left = remaining()
    if left is None:
        return timeout
    if left <= 0:
        raise expired("the deadline is over")
    return left if timeout is None else min(timeout, left)


class _StreamWithinDeadline(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _cut(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _cut(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = _cut(timeout, httpcore.ConnectTimeout)
        return _StreamWithinDeadline(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:  # httpcore's own signature
        return self._stream.get_extra_info(info)


class _WithinDeadline(httpcore.NetworkBackend):
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
        addresses = _resolve(host, port, _cut(timeout, httpcore.ConnectTimeout))
        for address in addresses[:-1]:
            with contextlib.suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return self._connect(address, port, timeout, local_address, socket_options)
        return self._connect(addresses[-1], port, timeout, local_address, socket_options)

    def _connect(
        self,
        address: str,
        port: int,
        timeout: float | None,
        local_address: str | None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None,
    ) -> httpcore.NetworkStream:
        left = _cut(timeout, httpcore.ConnectTimeout)
        return _StreamWithinDeadline(
            self._backend.connect_tcp(address, port, left, local_address, socket_options)
        )


def _resolve(host: str, port: int, timeout: float | None) -> list[str]:
    """The host's addresses. `getaddrinfo` knows no timeout, so it waits in a thread that may."""
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(host))]
    found: queue.SimpleQueue[list[str] | OSError | UnicodeError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.put(list(dict.fromkeys(str(row[4][0]) for row in rows)))
        except (OSError, UnicodeError) as error:
            found.put(error)

    threading.Thread(target=look_up, name="smsverify-resolve", daemon=True).start()
    try:
        result = found.get(timeout=timeout)
    except queue.Empty:
        raise httpcore.ConnectTimeout("the host's address did not come in time") from None
    if isinstance(result, OSError | UnicodeError):
        raise httpcore.ConnectError("the host has no address")
    return result


# --- httpx logs every address it asks, and an address may hold a mobile ------------------------

_in_own_request: ContextVar[bool] = ContextVar("smsverify_own_request", default=False)


@contextlib.contextmanager
def _own_request() -> Iterator[None]:
    token = _in_own_request.set(True)
    try:
        yield
    finally:
        _in_own_request.reset(token)


logging.getLogger("httpx").addFilter(lambda _record: not _in_own_request.get())
