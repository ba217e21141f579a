"""The WSDL of a SOAP service, generated from its table of operations."""

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import quoteattr

from .soap import ARRAY_ITEMS, TEMPURI, XML_DECLARATION, Field, Operation


def render_wsdl(
    name: str,
    operations: Mapping[str, Operation],
    records: Mapping[str, Sequence[Field]],
    location: str,
    *,
    imports_encoding: bool,
) -> str:
    """Return the WSDL of a service.

    :param records: the fields of each record type that operations return lists of.
    :param location: the URL of the service.
    :param imports_encoding: import SOAP's encoding schema without a location, as ASP.NET does. A
        client then fetches that schema from schemas.xmlsoap.org.
    """
    arrays = {
        **{kind: Field(item, item) for kind, item in ARRAY_ITEMS.items()},
        **{f"ArrayOf{record}": Field(record, record) for record in records},
    }
    schema = [_message_elements(operation) for operation in operations.values()]
    for kind, item in arrays.items():
        member = (
            f'<xsd:element name="{item.name}" type="{_qualified_type(item.type)}" '
            'minOccurs="0" maxOccurs="unbounded" nillable="true"/>'
        )
        schema.append(_complex_type(kind, member))
    schema += [
        _complex_type(record, _sequence_members(fields)) for record, fields in records.items()
    ]
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
        f'{XML_DECLARATION}<wsdl:definitions name="{name}" targetNamespace="{TEMPURI}" '
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


def _qualified_type(kind: str) -> str:
    xsd = ("string", "boolean", "int", "long", "double", "base64Binary", "dateTime", "unsignedByte")
    return f"xsd:{kind}" if kind in xsd else f"tns:{kind}"


def _sequence_members(fields: Sequence[Field]) -> str:
    return "".join(
        f'<xsd:element name="{field.name}" type="{_qualified_type(field.type)}" '
        f'minOccurs="{int(field.type in ("boolean", "int", "long", "double"))}" maxOccurs="1"/>'
        for field in fields
    )


def _complex_type(name: str, members: str) -> str:
    return (
        f'<xsd:complexType name="{name}"><xsd:sequence>{members}</xsd:sequence></xsd:complexType>'
    )


def _message_elements(operation: Operation) -> str:
    results = (Field(operation.result_name, operation.result), *operation.extra_results)
    return "".join(
        f'<xsd:element name="{name}"><xsd:complexType><xsd:sequence>{_sequence_members(fields)}'
        "</xsd:sequence></xsd:complexType></xsd:element>"
        for name, fields in (
            (operation.name, operation.parameters),
            (f"{operation.name}Response", results),
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
