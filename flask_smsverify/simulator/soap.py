"""A small ASMX: reads SOAP 1.1 and 1.2 and plain form calls, writes answers and a WSDL.

It knows types and envelopes; what an operation does is the gateway's affair. lxml is imported when
the first SOAP request comes. XML is read without DTDs, entities and the network.

The WSDL is composed from the table of operations, so that it cannot say anything else than what is
served.
"""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape, quoteattr

if TYPE_CHECKING:
    from lxml import etree

TEMPURI: Final = "http://tempuri.org/"
SOAP11: Final = "http://schemas.xmlsoap.org/soap/envelope/"
SOAP12: Final = "http://www.w3.org/2003/05/soap-envelope"

Scalar = str | int | float | bool | bytes
Record = Mapping[str, Scalar | None]
Value = Scalar | list[str] | list[int] | list[Record] | None
"""What an operation takes and gives: a scalar, a list of scalars or of records, or nothing."""

_ITEMS: Final = {"ArrayOfString": "string", "ArrayOfLong": "long", "ArrayOfInt": "int"}


@dataclass(frozen=True)
class Field:
    """A member of a request, an answer or a record.

    `type` is an XSD type without prefix, `ArrayOfString`, `ArrayOfLong`, `ArrayOfInt`, or the
    `ArrayOf…` of a record.
    """

    name: str
    type: str


@dataclass(frozen=True)
class Operation:
    """A call: what it takes, what it gives first (`<name>Result`) and besides, and who answers."""

    name: str
    takes: Sequence[Field]
    result: str
    answer: Callable[["Arguments"], Mapping[str, Value]]
    gives: Sequence[Field] = ()

    @property
    def result_name(self) -> str:
        """The name of the element that holds the result."""
        return f"{self.name}Result"


class CannotRead(Exception):
    """A request that ASP.NET answers with a fault and this HTTP status."""

    def __init__(self, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


class Arguments:
    """What a call brought. A member that is missing is the type's zero, as in .NET."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = values

    def text(self, name: str) -> str:
        """A string, "" where missing."""
        value = self._values.get(name)
        return value if isinstance(value, str) else ""

    def whole(self, name: str) -> int:
        """An int or long, 0 where missing."""
        value = self._values.get(name)
        return value if isinstance(value, int) else 0

    def flag(self, name: str) -> bool:
        """A boolean, false where missing."""
        return self._values.get(name) is True

    def texts(self, name: str) -> list[str]:
        """A list, empty where missing, its members as text."""
        value = self._values.get(name)
        return [str(item) for item in value] if isinstance(value, list) else []


@dataclass(frozen=True)
class Call:
    """A SOAP request that was understood."""

    operation: Operation
    arguments: Arguments
    version: str


def read_call(
    body: bytes, content_type: str, soap_action: str, operations: Mapping[str, Operation]
) -> Call:
    """The call in a SOAP request; raises `CannotRead`.

    SOAP 1.1 names its operation in `SOAPAction` and must; 1.2 may in the Content-Type.
    """
    from lxml import etree

    root = _parse(body)
    is_11 = content_type.startswith("text/xml")
    version = SOAP11 if is_11 else SOAP12
    if root.tag != f"{{{version}}}Envelope":
        raise CannotRead("Possible SOAP version mismatch.")
    payload = next(root.iterfind(f"{{{version}}}Body/*"), None)
    if payload is None:
        raise CannotRead("Server was unable to read request.", 400)
    name = etree.QName(payload).localname
    action = _action(content_type, soap_action, is_11)
    operation = operations.get(name)
    missing = action is None and is_11
    if missing or operation is None or action not in (None, TEMPURI + name):
        raise CannotRead(
            f"Server did not recognize the value of HTTP Header SOAPAction: {action or ''}."
        )
    if etree.QName(payload).namespace != TEMPURI:
        # .NET looks members up by namespace: a call without it is a call without arguments.
        return Call(operation, Arguments({}), version)
    return Call(operation, _arguments(operation, payload), version)


def _parse(body: bytes) -> "etree._Element":
    from lxml import etree

    if b"<!DOCTYPE" in body:  # before the parser sees it; other encodings are caught below
        raise CannotRead("Server was unable to read request: DTD is prohibited.", 400)
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )
    try:
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as error:
        raise CannotRead("Server was unable to read request.", 400) from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise CannotRead("Server was unable to read request: DTD is prohibited.", 400)
    return root


def _arguments(operation: Operation, payload: "etree._Element") -> Arguments:
    values: dict[str, Value] = {}
    for field in operation.takes:
        element = payload.find(f"{{{TEMPURI}}}{field.name}")
        if element is None:
            continue
        if field.type in _ITEMS:
            item = _ITEMS[field.type]
            found = element.findall(f"{{{TEMPURI}}}{item}")
            texts = [each.text or "" for each in found]
            values[field.name] = texts if item == "string" else [_whole(text) for text in texts]
        else:
            values[field.name] = _read(element.text or "", field.type)
    return Arguments(values)


def read_form(operation: Operation, form: Mapping[str, Sequence[str]]) -> Arguments:
    """The call in a form or query, by ASMX's HTTP binding; raises `CannotRead`."""
    values: dict[str, Value] = {}
    for field in operation.takes:
        given = form.get(field.name)
        if given is None:
            if field.type in ("boolean", "int", "long", "string"):
                raise CannotRead(f"Missing parameter: {field.name}.")
            continue
        if field.type in _ITEMS:
            strings = _ITEMS[field.type] == "string"
            values[field.name] = list(given) if strings else [_whole(text) for text in given]
        else:
            values[field.name] = _read(given[0], field.type)
    return Arguments(values)


def write_answer(call: Call, answer: Mapping[str, Value]) -> str:
    """The envelope with what the operation gave."""
    operation = call.operation
    fields = (Field(operation.result_name, operation.result), *operation.gives)
    members = "".join(_element(field, answer.get(field.name)) for field in fields)
    inner = f'<{operation.name}Response xmlns="{TEMPURI}">{members}</{operation.name}Response>'
    return _envelope(call.version, inner)


def write_fault(version: str, message: str) -> str:
    """A fault that blames the client, as ASP.NET words it."""
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


def write_form_answer(operation: Operation, answer: Mapping[str, Value]) -> str:
    """The result alone, as the HTTP binding gives it: `<int xmlns="http://tempuri.org/">1</int>`."""
    value = answer.get(operation.result_name)
    field = Field(operation.result, operation.result)
    text = _element(field, value) or f"<{operation.result} />"
    return _DECLARATION + text.replace(
        f"<{operation.result}", f'<{operation.result} xmlns="{TEMPURI}"', 1
    )


_DECLARATION = '<?xml version="1.0" encoding="utf-8"?>\n'


def _envelope(version: str, inner: str) -> str:
    return (
        f'{_DECLARATION}<soap:Envelope xmlns:soap="{version}" '
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


def _read(text: str, kind: str) -> Value:
    if kind == "string":
        return text
    if kind == "boolean":
        lowered = text.strip().lower()
        if lowered not in ("true", "false", "1", "0"):
            raise CannotRead(
                "Server was unable to read request. There is an error in XML document."
            )
        return lowered in ("true", "1")
    if kind == "base64Binary":
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise CannotRead("Server was unable to read request.") from error
    return _whole(text)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise CannotRead(
            "Server was unable to read request. Input string was not in a correct format."
        ) from error


def _element(field: Field, value: Value) -> str:
    """A member as XML; "" for None."""
    if value is None:
        return ""
    if not isinstance(value, list):
        return f"<{field.name}>{_scalar(value)}</{field.name}>"
    if field.type in _ITEMS:
        item = _ITEMS[field.type]
        members = [f"<{item}>{_scalar(v)}</{item}>" for v in value if not isinstance(v, Mapping)]
    else:
        item = field.type.removeprefix("ArrayOf")
        members = [
            f"<{item}>{''.join(_record(v))}</{item}>" for v in value if isinstance(v, Mapping)
        ]
    return f"<{field.name}>{''.join(members)}</{field.name}>"


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


def write_wsdl(
    name: str,
    operations: Mapping[str, Operation],
    records: Mapping[str, Sequence[Field]],
    location: str,
    *,
    imports_encoding: bool,
) -> str:
    """The service's description, with its address.

    `imports_encoding` adds the import of SOAP's encoding schema without a location, as ASP.NET
    writes it; a client then fetches that schema from schemas.xmlsoap.org.
    """
    arrays = {
        **{kind: Field(item, item) for kind, item in _ITEMS.items()},
        **{f"ArrayOf{record}": Field(record, record) for record in records},
    }
    schema = [_elements_of(operation) for operation in operations.values()]
    for kind, item in arrays.items():
        member = (
            f'<xsd:element name="{item.name}" type="{_qualified(item.type)}" '
            'minOccurs="0" maxOccurs="unbounded" nillable="true"/>'
        )
        schema.append(_complex(kind, member))
    schema += [_complex(record, _members(fields)) for record, fields in records.items()]
    encoding = (
        '<xsd:schema targetNamespace="http://tempuri.org/Encoded">'
        '<xsd:import namespace="http://schemas.xmlsoap.org/soap/encoding/"/>'
        '<xsd:complexType name="Texts"><xsd:complexContent>'
        '<xsd:restriction base="enc:Array"><xsd:sequence>'
        '<xsd:element name="item" type="xsd:string" minOccurs="0" maxOccurs="unbounded"/>'
        "</xsd:sequence></xsd:restriction></xsd:complexContent></xsd:complexType></xsd:schema>"
        if imports_encoding
        else ""
    )
    messages, ports = [], []
    for operation in operations:
        messages += [
            f'<wsdl:message name="{operation}In"><wsdl:part name="parameters" '
            f'element="tns:{operation}"/></wsdl:message>',
            f'<wsdl:message name="{operation}Out"><wsdl:part name="parameters" '
            f'element="tns:{operation}Response"/></wsdl:message>',
        ]
        ports.append(
            f'<wsdl:operation name="{operation}"><wsdl:input message="tns:{operation}In"/>'
            f'<wsdl:output message="tns:{operation}Out"/></wsdl:operation>'
        )
    return (
        f'{_DECLARATION}<wsdl:definitions name="{name}" targetNamespace="{TEMPURI}" '
        f'xmlns:tns="{TEMPURI}" xmlns:wsdl="http://schemas.xmlsoap.org/wsdl/" '
        'xmlns:xsd="http://www.w3.org/2001/XMLSchema" '
        'xmlns:enc="http://schemas.xmlsoap.org/soap/encoding/" '
        'xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/" '
        'xmlns:soap12="http://schemas.xmlsoap.org/wsdl/soap12/">\n'
        f'<wsdl:types><xsd:schema targetNamespace="{TEMPURI}" elementFormDefault="qualified">'
        f"{''.join(schema)}</xsd:schema>{encoding}</wsdl:types>\n"
        f"{''.join(messages)}\n"
        f'<wsdl:portType name="{name}Soap">{"".join(ports)}</wsdl:portType>\n'
        f"{_binding(name, operations, 'soap', f'{name}Soap')}\n"
        f"{_binding(name, operations, 'soap12', f'{name}Soap12')}\n"
        f'<wsdl:service name="{name}">'
        f'<wsdl:port name="{name}Soap" binding="tns:{name}Soap">'
        f"<soap:address location={quoteattr(location)}/></wsdl:port>"
        f'<wsdl:port name="{name}Soap12" binding="tns:{name}Soap12">'
        f"<soap12:address location={quoteattr(location)}/></wsdl:port>"
        "</wsdl:service></wsdl:definitions>\n"
    )


ENCODING_SCHEMA: Final = f"""{_DECLARATION}\
<xsd:schema xmlns:xsd="http://www.w3.org/2001/XMLSchema"
    xmlns:enc="http://schemas.xmlsoap.org/soap/encoding/"
    targetNamespace="http://schemas.xmlsoap.org/soap/encoding/">
  <!-- The simulator's stand-in: the two names that descriptions of services refer to. -->
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


def _qualified(kind: str) -> str:
    xsd = ("string", "boolean", "int", "long", "double", "base64Binary", "dateTime", "unsignedByte")
    return f"xsd:{kind}" if kind in xsd else f"tns:{kind}"


def _members(fields: Sequence[Field]) -> str:
    return "".join(
        f'<xsd:element name="{field.name}" type="{_qualified(field.type)}" '
        f'minOccurs="{int(field.type in ("boolean", "int", "long", "double"))}" maxOccurs="1"/>'
        for field in fields
    )


def _complex(name: str, members: str) -> str:
    return (
        f'<xsd:complexType name="{name}"><xsd:sequence>{members}</xsd:sequence></xsd:complexType>'
    )


def _elements_of(operation: Operation) -> str:
    given = (Field(operation.result_name, operation.result), *operation.gives)
    return "".join(
        f'<xsd:element name="{name}"><xsd:complexType><xsd:sequence>{_members(fields)}'
        "</xsd:sequence></xsd:complexType></xsd:element>"
        for name, fields in (
            (operation.name, operation.takes),
            (f"{operation.name}Response", given),
        )
    )


def _binding(name: str, operations: Mapping[str, Operation], prefix: str, binding: str) -> str:
    body = f'<{prefix}:body use="literal"/>'
    members = "".join(
        f'<wsdl:operation name="{operation}">'
        f'<{prefix}:operation soapAction="{TEMPURI}{operation}" style="document"/>'
        f"<wsdl:input>{body}</wsdl:input><wsdl:output>{body}</wsdl:output></wsdl:operation>"
        for operation in operations
    )
    return (
        f'<wsdl:binding name="{binding}" type="tns:{name}Soap">'
        f'<{prefix}:binding transport="http://schemas.xmlsoap.org/soap/http"/>{members}'
        "</wsdl:binding>"
    )
