"""The HTTP transport: one request, one answer of limited size, one deadline.

This module handles what any HTTP server may do: hang, send slowly, disconnect, redirect, or send a
huge or compressed body. The gateway's file interprets an answer. The connections are in `network`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import version
from typing import NoReturn

import httpx

from ..errors import Misconfigured, Rejected, SenderError, Unavailable, Unknown
from ..forks import after_fork
from .base import KnownError, SenderIdentity
from .deadline import deadline, remaining
from .network import DeadlineTransport
from .options import DEFAULT_TIMEOUT, Timeout, check_base_url, check_timeout

#: The most bytes of an answer, after decompression, unless the call sets another limit.
MAX_ANSWER_BYTES = 2 * 1024 * 1024
#: The largest list in XML, Asanak's states of 100 messages, has 1,000 tags.
_MAX_XML_TAGS = 20_000
_MAX_XML_TAG_BYTES = 4 * 1024

#: The meaning of HTTP statuses that are the same for every gateway (RFC 9110, 15.5; RFC 6585, 4).
STATUS_ERRORS: Mapping[int, KnownError] = {
    401: KnownError(
        Unavailable, "the credentials were refused", "Check the credentials in the options."
    ),
    402: KnownError(Unavailable, "no credit", "Add credit to the account."),
    403: KnownError(
        Unavailable,
        "the account may not do this",
        "Check the account's permissions and allowed IP addresses in the gateway's panel.",
    ),
    407: KnownError(
        Unavailable,
        "a proxy requires credentials",
        "Let this server connect to the gateway without a proxy.",
    ),
    429: KnownError(
        Unavailable, "too many requests", "Send less, or ask the gateway for a higher limit."
    ),
    504: KnownError(Unknown, "a proxy had no answer in time"),
}

#: Removed from the start of an answer: white space and byte order marks.
_LEADING = " \t\r\n\ufeff"

_REFUSED = KnownError(Unavailable, "the gateway refused the request")
_REDIRECT = KnownError(Unavailable, "redirects are not followed", "Check base_url.")
_WRONG_URL = KnownError(
    Misconfigured, "this URL has no such method; check base_url", "Check base_url."
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A gateway's HTTP response.

    :param sender: the sender that made the request, for errors.
    :param body: decompressed, at most as many bytes as the request allowed.
    """

    sender: SenderIdentity
    status: int
    content_type: str
    body: bytes

    def __repr__(self) -> str:
        return f"<Answer of {self.sender.name}: {self.status}, {len(self.body)} bytes>"

    @property
    def text(self) -> str:
        """The body as text. Bytes that are not UTF-8 become replacement characters.

        Leading line breaks and byte order marks are removed: some services write them before an
        answer, and parsers of JSON and XML refuse them.
        """
        return self.body.decode("utf-8", errors="replace").lstrip(_LEADING)

    def json(self) -> object:
        """Return the body as JSON.

        :raises Unknown: the body is not JSON, or is nested too deeply.
        """
        # `raise_unreadable` runs outside the block, because the decoder's exception holds the body.
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(self.text, parse_constant=_refuse_constant)
        return self.raise_unreadable("JSON")

    @property
    def xml(self) -> bytes:
        """The body without white space before it, which an XML declaration must not follow."""
        return re.sub(rb"\A(?:\xef\xbb\xbf|[ \t\r\n])+", b"", self.body)

    def raise_for_costly_xml(self) -> None:
        """Raise for XML that no gateway sends and that takes long to parse.

        The limit on bytes is not enough: a parser takes time per attribute and per element, and
        holds Python's interpreter lock meanwhile.

        :raises Unknown: a tag of more than 4 KiB, or more than 20,000 tags.
        """
        parts = self.body.split(b"<")
        longest = max(len(part.partition(b">")[0]) for part in parts)
        if len(parts) > _MAX_XML_TAGS or longest > _MAX_XML_TAG_BYTES:
            self.raise_unreadable("XML with small tags")

    def raise_unreadable(self, expected: str) -> NoReturn:
        """Raise `Unknown` for an answer that cannot be understood.

        :param expected: what the answer should have been, as a noun.
        """
        kind = self.content_type.partition(";")[0].strip()[:40] or "no content type"
        raise self.sender.make_error(
            Unknown, f"expected {expected}, got HTTP {self.status} with {kind}"
        )

    def raise_for_service_error(self) -> None:
        """Raise for a status that means a failure of the service or the account.

        :raises Unavailable: 401, 402, 403, 407, 429, every redirect and every 5xx except 504.
        :raises Unknown: 504, because the server behind the proxy may have handled the request
            (RFC 9110, 15.6.5).
        """
        code = self.status
        if code in STATUS_ERRORS:
            raise self.sender.make_known_error(STATUS_ERRORS[code], code=code)
        if 300 <= code < 400:
            raise self.sender.make_known_error(_REDIRECT, code=code)
        if code >= 500:
            raise self.sender.make_error(Unavailable, "the service failed", code=str(code))

    def raise_for_refusal(self) -> None:
        """Raise for every other status that means that the request was refused.

        :raises Unavailable: a 4xx. The server did not do what was requested (RFC 9110, 15.5).
        """
        if 400 <= self.status < 500:
            raise self.sender.make_known_error(_REFUSED, code=self.status)

    def raise_for_wrong_url(self) -> None:
        """Raise for a URL that has no such method.

        :raises Misconfigured: 404 and 405.
        """
        if self.status in (404, 405):
            raise self.sender.make_known_error(_WRONG_URL, code=self.status)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class HttpTransport:
    """Makes the requests of one sender. Thread-safe; connections are reused.

    :param sender: the sender's names, for errors.
    :param base_url: everything before the method's name, without a closing slash.
    :param timeout: seconds to connect, between two reads, and for the whole call.
    :param allow_http: accept `http:` for hosts that are not loopback.
    :param http_client: an httpx client to use instead, such as one with `httpx.MockTransport`.
    :raises ConfigurationError: an option is invalid.
    """

    def __init__(
        self,
        sender: SenderIdentity,
        base_url: str,
        *,
        timeout: Timeout | tuple[float, float, float] = DEFAULT_TIMEOUT,
        allow_http: bool = False,
        http_client: httpx.Client | None = None,
    ) -> None:
        self.sender = sender
        self.base_url = check_base_url(sender.name, base_url, allow_http=allow_http)
        self.timeout = check_timeout(sender.name, timeout)
        self._client = http_client or _make_client()
        if http_client is None:
            after_fork(self._reset_after_fork)

    def __repr__(self) -> str:
        return f"<HttpTransport of {self.sender.name!r}>"

    def _reset_after_fork(self) -> None:
        """Use new connections in a forked process.

        Two processes that read from one connection get each other's answers. The inherited client
        is kept, because closing it would write to the parent's TLS connections.
        """
        _inherited_clients.append(self._client)
        self._client = _make_client()

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
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """Make one request and return its answer, whatever its HTTP status.

        :param path: appended to `base_url`, or a whole URL.
        :param max_bytes: the most bytes of the answer, after decompression.
        :raises Unavailable: no connection; nothing was written.
        :raises Rejected: the text cannot be encoded as UTF-8; nothing was written.
        :raises Unknown: the request was written and no complete answer arrived.
        """
        url = path if "://" in path else self.base_url + path
        failure: SenderError
        with deadline(self.timeout.whole), _own_request():
            left = remaining() or 0.0
            if not left:
                raise self.sender.make_error(
                    Unavailable, "the deadline passed before the request", written=False
                )
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
                        self.sender,
                        response.status_code,
                        response.headers.get("content-type", ""),
                        _read_body(response, max_bytes),
                    )
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                failure = self.sender.make_error(
                    Unavailable,
                    f"no connection ({type(error).__name__})",
                    advice="Check base_url and whether this server can reach the gateway.",
                    written=False,
                )
            except UnicodeError:
                failure = self.sender.make_error(
                    Rejected, "the text is not valid Unicode", written=False
                )
            except _AnswerTooLarge:
                megabytes = max_bytes // 2**20
                failure = self.sender.make_error(
                    Unknown, f"the answer is larger than {megabytes} MiB"
                )
            except (httpx.HTTPError, zlib.error) as error:
                failure = self.sender.make_error(
                    Unknown, f"no complete answer ({type(error).__name__})"
                )
        # Raised outside the block: an httpx exception holds the request with its credentials and
        # text, and must not become the context of this error. Error collectors show the local
        # variables of this frame, so those with credentials in them are cleared.
        json = form = content = params = headers = None
        url = ""
        raise failure

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


_inherited_clients: list[httpx.Client] = []


def _make_client() -> httpx.Client:
    return httpx.Client(
        transport=DeadlineTransport(),
        headers={
            "User-Agent": f"flask-smsverify/{version('flask-smsverify')}",
            "Accept-Encoding": "gzip, deflate",
        },
        trust_env=False,
    )


class _AnswerTooLarge(Exception):
    """The answer has more bytes than the request allowed."""


def _read_body(response: httpx.Response, max_bytes: int) -> bytes:
    """Return the decompressed body. httpx's own decoders have no size limit."""
    if response.is_stream_consumed:  # the option `http_client` may return a complete response
        if len(response.content) > max_bytes:
            raise _AnswerTooLarge
        return response.content
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    decompress: Callable[[bytes], bytes] = bytes
    if encoding in ("gzip", "deflate"):
        inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        decompress = lambda chunk: inflate.decompress(chunk, max_bytes + 1)  # noqa: E731 -- one of two short branches
    body = bytearray()
    for chunk in response.iter_raw():
        body += decompress(chunk)
        if len(body) > max_bytes:
            raise _AnswerTooLarge
    return bytes(body)


# --- logging: httpx logs every URL, and a URL may hold a mobile ----------------------------------

_in_own_request: ContextVar[bool] = ContextVar("smsverify_own_request", default=False)


@contextlib.contextmanager
def _own_request() -> Iterator[None]:
    token = _in_own_request.set(True)
    try:
        yield
    finally:
        _in_own_request.reset(token)


logging.getLogger("httpx").addFilter(lambda _record: not _in_own_request.get())
