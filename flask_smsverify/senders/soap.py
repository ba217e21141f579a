"""The SOAP transport: one operation of a service, over `HttpTransport`.

zeep writes the envelope and parses the answer. `HttpTransport` sends the bytes, so its deadline,
size limit and errors apply here too, and redirects are not followed. A WSDL file that ships with
this package describes the service. No other document is ever loaded, and an answer with a DTD is
refused.

zeep is imported on the first call, because the import is slow. A WSDL is read once per process.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Protocol

from ..errors import (
    ConfigurationError,
    Misconfigured,
    Rejected,
    SenderError,
    Unavailable,
    Unknown,
)
from ..forks import Lock
from .convert import redact_reason
from .http import Answer, HttpTransport

if TYPE_CHECKING:
    from zeep import Settings
    from zeep.wsdl import Document


class WsdlFile(NamedTuple):
    """A WSDL file that ships with a package.

    :param package: the package's full name.
    :param name: the file's name in it.
    """

    package: str
    name: str


class SoapTransport:
    """Calls the operations of one service for one sender. Thread-safe.

    :param http: the transport of the bytes; its `base_url` is everything before `path`.
    :param path: the service's path below `base_url`, such as `/Send.asmx`.
    :param binding: the binding to use, as `{namespace}name`.
    """

    def __init__(self, http: HttpTransport, path: str, *, wsdl: WsdlFile, binding: str) -> None:
        self._http = http
        self._path = path
        self._wsdl = wsdl
        self._binding = binding

    def __repr__(self) -> str:
        return f"<SoapTransport of {self._http.sender.name!r}>"

    def call(
        self, operation: str, fields: dict[str, object], *, sent: tuple[str, ...] = ()
    ) -> object:
        """Call one operation.

        :param fields: the operation's parameters. An array is `{"string": [...]}`, because zeep
            writes one element for a bare list.
        :param sent: texts and credentials that an error's reason must not repeat.
        :returns: the value of the answer's field if it has one field, else a `dict`. An array is
            `{"string": [...]}` inside a `dict` and a bare list alone. A field that is missing or
            has the wrong type is None.
        :raises Rejected: a parameter cannot be written as XML; nothing was written.
        :raises Misconfigured: a SOAP Fault that blames the caller (SOAP 1.1, 4.4.1 `Client`),
            because the request is made from the sender's options.
        :raises Unavailable: a SOAP Fault that blames the server, and every error of
            `HttpTransport.request` and `Answer.raise_for_service_error`.
        :raises Unknown: the answer is not an answer to this operation.
        """
        exchange = _make_exchange(self._http, self._path)
        document = _load_document(self._wsdl)
        fault = failure = None
        with _own_call():
            try:
                return self._call(document, exchange, operation, fields)
            except SenderError as error:
                failure = error
            except Exception as error:  # noqa: BLE001 -- zeep and lxml raise anything on malformed XML
                fault = _read_fault(error)
        # Raised outside the block, because zeep's exceptions hold the answer, and some hold the
        # request. zeep's frames hold them too, so they are cut from the traceback.
        if failure is not None:
            raise failure.with_traceback(None)
        if exchange.answer is None:
            raise self._http.sender.make_error(
                Rejected, "the message cannot be written as XML", written=False
            )
        if fault is not None:
            code, message = fault
            raise self._make_fault_error(code, redact_reason(message, sent=sent))
        exchange.answer.raise_for_service_error()
        exchange.answer.raise_for_wrong_url()
        exchange.answer.raise_for_refusal()
        return exchange.answer.raise_unreadable("a SOAP answer")

    def _call(
        self, document: Document, exchange: _Exchange, operation: str, fields: dict[str, object]
    ) -> object:
        from zeep import Client
        from zeep.helpers import serialize_object

        client = Client(document, transport=exchange, settings=_settings())  # type: ignore[no-untyped-call]  # zeep has no annotations
        service = client.create_service(self._binding, self._http.base_url + self._path)  # type: ignore[no-untyped-call]  # zeep has no annotations
        return serialize_object(service[operation](**fields), dict)  # type: ignore[no-untyped-call]  # zeep has no annotations

    def _make_fault_error(self, code: str, message: str) -> SenderError:
        """Return the error of a SOAP Fault (SOAP 1.1, 4.4.1; SOAP 1.2 part 1, 5.4.6)."""
        name = code.rpartition(":")[2].partition(".")[0]
        sender, reason = self._http.sender, f"SOAP Fault: {message}"
        if name in _CALLER_FAULTS:
            return sender.make_error(Misconfigured, reason, code=name)
        if name in _SERVER_FAULTS:
            return sender.make_error(Unavailable, reason, code=name)
        return sender.make_error(Unknown, reason)


_CALLER_FAULTS = {"Client", "Sender", "VersionMismatch", "MustUnderstand"}
_SERVER_FAULTS = {"Server", "Receiver"}


def _read_fault(error: Exception) -> tuple[str, str] | None:
    """Return the code and the message of a SOAP Fault; None for other exceptions."""
    from zeep.exceptions import Fault

    if isinstance(error, Fault) and error.code:
        return str(error.code), str(error.message or "")
    return None


# --- zeep without network access -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Reply:
    """The parts of an HTTP response that zeep reads.

    The content type is fixed, because zeep would unpack a multipart one.
    """

    status_code: int
    content: bytes
    headers: dict[str, str]
    encoding: str = "utf-8"


_lock = Lock()


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


def _make_exchange(http: HttpTransport | None, path: str) -> _Exchange:
    return _exchange_class()(http, path)


class _Exchange(Protocol):
    """A zeep transport for one envelope. `answer` is None until an answer arrived."""

    answer: Answer | None


@cache
def _exchange_class() -> Callable[[HttpTransport | None, str], _Exchange]:
    from zeep.transports import Transport

    _filter_zeep_logs()

    class HttpExchange(Transport):
        """Posts one envelope over `HttpTransport`, keeps the answer, and loads no documents.

        It does not call the `__init__` of its base class, which opens a requests session.
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
            # A Fault comes with HTTP 500 (SOAP 1.1, 6.2), so zeep has to read that body first.
            if answer.status != 500:
                answer.raise_for_service_error()
            answer.raise_for_costly_xml()
            return _Reply(answer.status, answer.xml, {"Content-Type": "text/xml"})

        def get(self, address: str, params: object, headers: object) -> NoReturn:  # noqa: ARG002 -- zeep's signature
            self.load(address)

        def load(self, url: object) -> NoReturn:  # noqa: ARG002 -- zeep's signature
            raise ConfigurationError("a WSDL file or an answer refers to another document")

    return HttpExchange


def _load_document(wsdl: WsdlFile) -> Document:
    """Return the parsed WSDL, which is read once per process."""
    with _lock:
        return _read_document(wsdl)


@cache
def _read_document(wsdl: WsdlFile) -> Document:
    from zeep.wsdl import Document

    content = files(wsdl.package).joinpath(wsdl.name).read_bytes()
    with _own_call():
        return Document(io.BytesIO(content), _make_exchange(None, ""), settings=_settings())  # type: ignore[arg-type]  # zeep annotates the class, and takes an instance


# --- logging: zeep logs envelopes at DEBUG and unreadable values at ERROR ------------------------

_in_own_call: ContextVar[bool] = ContextVar("smsverify_own_soap_call", default=False)


@contextlib.contextmanager
def _own_call() -> Iterator[None]:
    token = _in_own_call.set(True)
    try:
        yield
    finally:
        _in_own_call.reset(token)


def _filter_zeep_logs() -> None:
    """Hide zeep's log records during calls of this module.

    A logger's filter does not apply to its children, so every zeep logger gets one.
    """
    for name in ("zeep", *logging.root.manager.loggerDict):
        if name.partition(".")[0] == "zeep":
            logging.getLogger(name).addFilter(_is_not_own_call)


def _is_not_own_call(_record: logging.LogRecord) -> bool:
    return not _in_own_call.get()
