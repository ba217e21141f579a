"""The SOAP transport: one operation of a service that we describe ourselves, over `HttpTransport`.

zeep writes the envelope and reads the answer; bytes travel by our HTTP transport, so its deadline,
its cap on an answer's size, its refusal of redirects and its errors hold here too. The service's
description is a WSDL file of ours: no other document is ever loaded, neither by the WSDL nor by an
answer, and an answer with a DTD is refused.

zeep is imported on the first call, and a WSDL is read once per process.
"""

from __future__ import annotations

import contextlib
import io
import logging
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, NoReturn, Protocol

from ..errors import ConfigurationError, Misconfigured, Rejected, SenderError, Unavailable, Unknown
from .base import safe_reason
from .http import Answer, HttpTransport

if TYPE_CHECKING:
    from zeep import Settings
    from zeep.wsdl import Document


class SoapTransport:
    """Calls the operations of one service for one sender. Thread-safe.

    :param http: how bytes travel; its `base_url` is everything before `path`.
    :param path: the service's address below `base_url`, for instance `/Send.asmx`.
    :param wsdl: the name of the WSDL file beside this module.
    :param binding: the binding to use, as `{namespace}name`.
    """

    def __init__(self, http: HttpTransport, path: str, *, wsdl: str, binding: str) -> None:
        self._http = http
        self._path = path
        self._wsdl = wsdl
        self._binding = binding

    def __repr__(self) -> str:
        return f"<SoapTransport of {self._http.gateway!r}>"

    def call(
        self, operation: str, fields: dict[str, object], *, sent: tuple[str, ...] = ()
    ) -> object:
        """Call one operation.

        :param fields: what the operation takes; arrays as `{"string": [...]}`, since zeep makes
            one element of a bare list.
        :param sent: what must not show in the reason of an error, should the gateway echo it.
        :returns: what the answer holds: its value where it has one field, else a `dict`. An array
            is `{"string": [...]}` in a `dict`, and a bare list alone. A field that is missing, or
            whose value is not of its type, is None.
        :raises Rejected: a field holds what XML cannot carry; nothing was written.
        :raises Misconfigured: a SOAP Fault that blames the caller (SOAP 1.1 §4.4.1 `Client`): the
            request is made of our options, and the service did not take it.
        :raises Unavailable: a Fault that blames the server, and whatever the HTTP transport or the
            HTTP status say is the service's trouble.
        :raises Unknown: an answer that is not this operation's.
        """
        exchange = _exchange(self._http, self._path)
        document = _document(self._wsdl)
        fault = None
        with _own_call():
            try:
                return self._exchanged(document, exchange, operation, fields)
            except SenderError:
                raise
            except Exception as error:  # noqa: BLE001 -- strange XML makes zeep and lxml raise anything
                fault = _fault_of(error)
        # Raised out here: zeep's exceptions hold the answer, and some hold what was sent.
        if exchange.answer is None:
            raise Rejected(
                self._http.gateway, "what is to be sent cannot be written as XML", written=False
            )
        if fault is not None:
            code, words = fault
            raise self._of_fault(code, safe_reason(words, sent=sent))
        return _refuse_strange(exchange.answer)

    def _exchanged(
        self, document: Document, exchange: OneExchange, operation: str, fields: dict[str, object]
    ) -> object:
        from zeep import Client
        from zeep.helpers import serialize_object

        client = Client(document, transport=exchange, settings=_settings())  # type: ignore[no-untyped-call]  # zeep's own
        service = client.create_service(self._binding, self._http.base_url + self._path)  # type: ignore[no-untyped-call]  # zeep's own
        return serialize_object(service[operation](**fields), dict)  # type: ignore[no-untyped-call]  # zeep's own

    def _of_fault(self, code: str, words: str) -> SenderError:
        """What a SOAP Fault means, by SOAP 1.1 §4.4.1 and SOAP 1.2 part 1 §5.4.6."""
        blamed = code.rpartition(":")[2].partition(".")[0]
        gateway, reason = self._http.gateway, f"SOAP Fault: {words}"
        if blamed in _FAULTS_OF_CALLER:
            return Misconfigured(gateway, reason, code=blamed)
        if blamed in _FAULTS_OF_SERVER:
            return Unavailable(gateway, reason, code=blamed)
        return Unknown(gateway, reason)


_FAULTS_OF_CALLER = {"Client", "Sender", "VersionMismatch", "MustUnderstand"}
_FAULTS_OF_SERVER = {"Server", "Receiver"}


def _fault_of(error: Exception) -> tuple[str, str] | None:
    """The code and the words of a SOAP Fault; None for any other failure to read."""
    from zeep.exceptions import Fault

    if isinstance(error, Fault) and error.code:
        return str(error.code), str(error.message or "")
    return None


def _refuse_strange(answer: Answer) -> NoReturn:
    """Raise what an answer means that is neither this operation's nor a Fault."""
    answer.refuse_service_faults()
    answer.refuse_wrong_address()
    answer.unreadable("a SOAP answer")


# --- zeep, tamed --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Reply:
    """What zeep reads of an HTTP answer. The type is fixed: it would unpack a multipart one."""

    status_code: int
    content: bytes
    headers: dict[str, str]
    encoding: str = "utf-8"


_lock = threading.Lock()


@cache
def _settings() -> Settings:
    from zeep import Settings

    return Settings(
        strict=True,
        forbid_dtd=True,
        forbid_entities=True,
        forbid_external=True,
        xml_huge_tree=False,
    )


def _exchange(http: HttpTransport | None, path: str) -> OneExchange:
    return _exchange_class()(http, path)


class OneExchange(Protocol):
    """What posts one envelope; `answer` is None as long as nothing was written."""

    answer: Answer | None


@cache
def _exchange_class() -> Callable[[HttpTransport | None, str], OneExchange]:
    from zeep.transports import Transport

    _silence_own_calls()

    class ExchangeOverHttp(Transport):
        """Posts one envelope by our transport and keeps the answer; loads nothing.

        It does not call its parent's `__init__`, which opens a requests session.
        """

        _close_session = False

        def __init__(self, http: HttpTransport | None, path: str) -> None:
            self._http = http
            self._path = path
            self.answer: Answer | None = None

        def post(self, address: str, message: bytes, headers: dict[str, str]) -> _Reply:
            if self._http is None:
                self.load(address)
            answer = self._http.request("POST", self._path, content=message, headers=headers)
            self.answer = answer
            # SOAP 1.1 §6.2 sends a Fault as HTTP 500, so that one is read first.
            if answer.status != 500:
                answer.refuse_service_faults()
            return _Reply(answer.status, answer.body, {"Content-Type": "text/xml"})

        def get(self, address: str, params: object, headers: object) -> NoReturn:  # noqa: ARG002 -- zeep's signature
            self.load(address)

        def load(self, url: object) -> NoReturn:  # noqa: ARG002 -- zeep's signature
            raise ConfigurationError("a WSDL or an answer asked for another document")

    return ExchangeOverHttp


def _document(wsdl: str) -> Document:
    """The WSDL, read once per process however many threads ask at once."""
    with _lock:
        return _read_document(wsdl)


@cache
def _read_document(wsdl: str) -> Document:
    from zeep.wsdl import Document

    content = files(__package__).joinpath(wsdl).read_bytes()
    with _own_call():
        return Document(io.BytesIO(content), _exchange(None, ""), settings=_settings())  # type: ignore[arg-type]  # zeep means an instance


# --- zeep logs what it sends at DEBUG, and a value it cannot read, with a traceback, at ERROR -----

_in_own_call: ContextVar[bool] = ContextVar("smsverify_own_soap_call", default=False)


@contextlib.contextmanager
def _own_call() -> Iterator[None]:
    token = _in_own_call.set(True)
    try:
        yield
    finally:
        _in_own_call.reset(token)


def _silence_own_calls() -> None:
    """Filter zeep's loggers during our calls. A logger's filter does not hold for its children."""
    for name in ("zeep", *logging.root.manager.loggerDict):
        if name.partition(".")[0] == "zeep":
            logging.getLogger(name).addFilter(_not_in_own_call)


def _not_in_own_call(_record: logging.LogRecord) -> bool:
    return not _in_own_call.get()
