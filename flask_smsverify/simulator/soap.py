"""SOAP 1.1 and 1.2, and the plain HTTP binding, as in ASP.NET web services (ASMX).

This module parses calls and renders responses. The gateway performs the operations. XML is parsed
without DTDs, entities and network access. lxml is imported with the first SOAP request, because the
simulator needs it for nothing else.
"""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from lxml import etree

TEMPURI: Final = "http://tempuri.org/"
SOAP11: Final = "http://schemas.xmlsoap.org/soap/envelope/"
SOAP12: Final = "http://www.w3.org/2003/05/soap-envelope"

Scalar = str | int | float | bool | bytes
Record = Mapping[str, Scalar | None]
Value = Scalar | list[str] | list[int] | list[Record] | None
"""A parameter or a result: a scalar, a list of scalars or records, or None."""

ARRAY_ITEMS: Final = {"ArrayOfString": "string", "ArrayOfLong": "long", "ArrayOfInt": "int"}
"""Array types, with the type of their items."""

XML_DECLARATION: Final = '<?xml version="1.0" encoding="utf-8"?>\n'


@dataclass(frozen=True)
class Field:
    """A parameter, a result or a field of a record.

    :param type: an XSD type without prefix, a type in `ARRAY_ITEMS`, or `ArrayOf` and the name of a
        record type.
    """

    name: str
    type: str


@dataclass(frozen=True)
class Operation:
    """An operation of the service.

    :param result: the type of the element `<name>Result`.
    :param handler: performs the operation, and returns results by the name of their element.
    :param extra_results: further elements of the response.
    """

    name: str
    parameters: Sequence[Field]
    result: str
    handler: Callable[["Arguments"], Mapping[str, Value]]
    extra_results: Sequence[Field] = ()

    @property
    def result_name(self) -> str:
        """Return the name of the element that holds the result."""
        return f"{self.name}Result"


class InvalidRequest(Exception):
    """A request that ASP.NET answers with a fault and this HTTP status."""

    def __init__(self, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


class Arguments:
    """The arguments of a call. A missing argument has the zero value of its type, as in .NET."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = values

    def text(self, name: str) -> str:
        """Return a string, or "" if it is missing."""
        value = self._values.get(name)
        return value if isinstance(value, str) else ""

    def integer(self, name: str) -> int:
        """Return an int or long, or 0 if it is missing."""
        value = self._values.get(name)
        return value if isinstance(value, int) else 0

    def boolean(self, name: str) -> bool:
        """Return a boolean, or False if it is missing."""
        return self._values.get(name) is True

    def texts(self, name: str) -> list[str]:
        """Return a list with its items as text, or an empty list if it is missing."""
        value = self._values.get(name)
        return [str(item) for item in value] if isinstance(value, list) else []


@dataclass(frozen=True)
class Call:
    """A valid SOAP call. `version` is the namespace of its envelope."""

    operation: Operation
    arguments: Arguments
    version: str


def parse_call(
    body: bytes, content_type: str, soap_action: str, operations: Mapping[str, Operation]
) -> Call:
    """Parse a SOAP request.

    SOAP 1.1 requires the operation in the header `SOAPAction`. In SOAP 1.2 it is an optional
    parameter of the Content-Type.

    :raises InvalidRequest: the request is not a call of one of the operations.
    """
    from lxml import etree

    root = _parse_xml(body)
    is_11 = content_type.startswith("text/xml")
    version = SOAP11 if is_11 else SOAP12
    if root.tag != f"{{{version}}}Envelope":
        raise InvalidRequest("Possible SOAP version mismatch.")
    payload = next(root.iterfind(f"{{{version}}}Body/*"), None)
    if payload is None:
        raise InvalidRequest("Server was unable to read request.", 400)
    name = etree.QName(payload).localname
    action = _action(content_type, soap_action, is_11)
    operation = operations.get(name)
    is_action_missing = action is None and is_11
    if is_action_missing or operation is None or action not in (None, TEMPURI + name):
        raise InvalidRequest(
            f"Server did not recognize the value of HTTP Header SOAPAction: {action or ''}."
        )
    if etree.QName(payload).namespace != TEMPURI:
        # .NET finds arguments by namespace, so a call without the namespace has no arguments.
        return Call(operation, Arguments({}), version)
    return Call(operation, _arguments(operation, payload), version)


def _parse_xml(body: bytes) -> "etree._Element":
    from lxml import etree

    if b"<!DOCTYPE" in body:  # UTF-8 only; the check below covers other encodings
        raise InvalidRequest("Server was unable to read request: DTD is prohibited.", 400)
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )
    try:
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as error:
        raise InvalidRequest("Server was unable to read request.", 400) from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise InvalidRequest("Server was unable to read request: DTD is prohibited.", 400)
    return root


def _arguments(operation: Operation, payload: "etree._Element") -> Arguments:
    values: dict[str, Value] = {}
    for field in operation.parameters:
        element = payload.find(f"{{{TEMPURI}}}{field.name}")
        if element is None:
            continue
        if field.type in ARRAY_ITEMS:
            item = ARRAY_ITEMS[field.type]
            items = element.findall(f"{{{TEMPURI}}}{item}")
            texts = [each.text or "" for each in items]
            values[field.name] = (
                texts if item == "string" else [_parse_integer(text) for text in texts]
            )
        else:
            values[field.name] = _parse_scalar(element.text or "", field.type)
    return Arguments(values)


def parse_form(operation: Operation, form: Mapping[str, Sequence[str]]) -> Arguments:
    """Parse a form or a query in the HTTP binding.

    :raises InvalidRequest: a member is missing or invalid.
    """
    values: dict[str, Value] = {}
    for field in operation.parameters:
        given = form.get(field.name)
        if given is None:
            if field.type in ("boolean", "int", "long", "string"):
                raise InvalidRequest(f"Missing parameter: {field.name}.")
            continue
        if field.type in ARRAY_ITEMS:
            is_text = ARRAY_ITEMS[field.type] == "string"
            values[field.name] = (
                list(given) if is_text else [_parse_integer(text) for text in given]
            )
        else:
            values[field.name] = _parse_scalar(given[0], field.type)
    return Arguments(values)


def render_response(call: Call, results: Mapping[str, Value]) -> str:
    """Return the envelope with the results of an operation."""
    operation = call.operation
    fields = (Field(operation.result_name, operation.result), *operation.extra_results)
    members = "".join(_element(field, results.get(field.name)) for field in fields)
    inner = f'<{operation.name}Response xmlns="{TEMPURI}">{members}</{operation.name}Response>'
    return _envelope(call.version, inner)


def render_fault(version: str, message: str) -> str:
    """Return the envelope of a client fault, as ASP.NET writes it."""
    if version == SOAP12:
        return _envelope(
            SOAP12,
            "<soap:Fault><soap:Code><soap:Value>soap:Sender</soap:Value></soap:Code>"
            f'<soap:Reason><soap:Text xml:lang="en">{escape(message)}</soap:Text></soap:Reason>'
            "<soap:Detail /></soap:Fault>",
        )
    return _envelope(
        SOAP11,
        f"<soap:Fault><faultcode>soap:Client</faultcode><faultstring>{escape(message)}"
        "</faultstring><detail /></soap:Fault>",
    )


def render_form_response(operation: Operation, results: Mapping[str, Value]) -> str:
    """Return the result in the HTTP binding: `<int xmlns="http://tempuri.org/">1</int>`."""
    value = results.get(operation.result_name)
    field = Field(operation.result, operation.result)
    text = _element(field, value) or f"<{operation.result} />"
    return XML_DECLARATION + text.replace(
        f"<{operation.result}", f'<{operation.result} xmlns="{TEMPURI}"', 1
    )


def _envelope(version: str, inner: str) -> str:
    return (
        f'{XML_DECLARATION}<soap:Envelope xmlns:soap="{version}" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xmlns:xsd="http://www.w3.org/2001/XMLSchema">'
        f"<soap:Body>{inner}</soap:Body></soap:Envelope>"
    )


def _action(content_type: str, soap_action: str, is_11: bool) -> str | None:
    if is_11:
        return soap_action.strip().strip('"') or None
    for piece in content_type.split(";")[1:]:
        key, _, value = piece.strip().partition("=")
        if key.lower() == "action":
            return value.strip('"')
    return None


def _parse_scalar(text: str, kind: str) -> Value:
    if kind == "string":
        return text
    if kind == "boolean":
        lowered = text.strip().lower()
        if lowered not in ("true", "false", "1", "0"):
            raise InvalidRequest(
                "Server was unable to read request. There is an error in XML document."
            )
        return lowered in ("true", "1")
    if kind == "base64Binary":
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise InvalidRequest("Server was unable to read request.") from error
    return _parse_integer(text)


def _parse_integer(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise InvalidRequest(
            "Server was unable to read request. Input string was not in a correct format."
        ) from error


def _element(field: Field, value: Value) -> str:
    """Return a field as XML, or "" for None."""
    if value is None:
        return ""
    if not isinstance(value, list):
        return f"<{field.name}>{_scalar(value)}</{field.name}>"
    if field.type in ARRAY_ITEMS:
        item = ARRAY_ITEMS[field.type]
        items = [f"<{item}>{_scalar(v)}</{item}>" for v in value if not isinstance(v, Mapping)]
    else:
        item = field.type.removeprefix("ArrayOf")
        items = [f"<{item}>{''.join(_record(v))}</{item}>" for v in value if isinstance(v, Mapping)]
    return f"<{field.name}>{''.join(items)}</{field.name}>"


def _record(record: Record) -> list[str]:
    return [f"<{name}>{_scalar(v)}</{name}>" for name, v in record.items() if v is not None]


def _scalar(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float):
        return f"{value:g}" if value == int(value) and abs(value) < 1e5 else repr(value)
    return escape(str(value))


ENCODING_SCHEMA: Final = f"""{XML_DECLARATION}\
<xsd:schema xmlns:xsd="http://www.w3.org/2001/XMLSchema"
    xmlns:enc="http://schemas.xmlsoap.org/soap/encoding/"
    targetNamespace="http://schemas.xmlsoap.org/soap/encoding/">
  <!-- A replacement with the two names that WSDLs use. -->
  <xsd:attribute name="arrayType" type="xsd:string"/>
  <xsd:complexType name="Array">
    <xsd:sequence>
      <xsd:any namespace="##any" minOccurs="0" maxOccurs="unbounded" processContents="lax"/>
    </xsd:sequence>
    <xsd:attribute ref="enc:arrayType"/>
    <xsd:anyAttribute namespace="##other" processContents="lax"/>
  </xsd:complexType>
</xsd:schema>
"""
"""The schema at http://schemas.xmlsoap.org/soap/encoding/, reduced to what WSDLs use."""
