"""SOAP answers as MeliPayamak's web-service guide prints them."""

from __future__ import annotations

import base64
from xml.etree import ElementTree as ET

from senders.loopback import answer

ENVELOPE = (
    '<?xml version="1.0" encoding="utf-8"?>\n'
    '<soap:Envelope xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    ' xmlns:xsd="http://www.w3.org/2001/XMLSchema"'
    ' xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/">\n'
    "  <soap:Body>\n    {}\n  </soap:Body>\n"
    "</soap:Envelope>"
)


def parsed(request: bytes) -> ET.Element:
    """Return the XML of a request."""
    return ET.fromstring(request)  # noqa: S314 -- it comes from the test itself


def xml(body: str, *, status: int = 200):
    return answer(ENVELOPE.format(body), status=status, kind="text/xml; charset=utf-8")


def whole(document: str, *, status: int = 200, kind: str = "text/xml; charset=utf-8"):
    return answer(document, status=status, kind=kind)


def sent(result: object, ids: list[object] | None = None, status: bytes | None = None):
    """Return a `SendSmsResponse` with or without its lists."""
    fields = f"<SendSmsResult>{result}</SendSmsResult>"
    if ids is not None:
        fields += "<recId>" + "".join(f"<long>{one}</long>" for one in ids) + "</recId>"
    if status is not None:
        fields += f"<status>{base64.b64encode(status).decode()}</status>"
    return xml(f'<SendSmsResponse xmlns="http://tempuri.org/">{fields}</SendSmsResponse>')


def result(operation: str, content: str):
    return xml(
        f'<{operation}Response xmlns="http://tempuri.org/">'
        f"<{operation}Result>{content}</{operation}Result></{operation}Response>"
    )


def fault(code: str, words: str, *, status: int = 500):
    return xml(
        f"<soap:Fault><faultcode>{code}</faultcode><faultstring>{words}</faultstring>"
        "<detail /></soap:Fault>",
        status=status,
    )


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE bomb [<!ENTITY a "' + "a" * 1000 + '">'
    + "".join(
        f'<!ENTITY {chr(98 + step)} "' + f"&{chr(97 + step)};" * 50 + '">' for step in range(8)
    )
    + "]><response>&i;</response>"
)  # fmt: skip

#: Answers with HTTP 200 that are not answers of the SOAP service.
INVALID_ANSWERS = {
    "html": whole("<html><body>Welcome</body></html>", kind="text/html"),
    "HTML that is not XML": whole("<!doctype html><p>busy<br>", kind="text/html"),
    "empty": whole(""),
    "incomplete": whole(ENVELOPE.format("<SendSmsResponse")[:200]),
    "json": whole('{"SendSmsResult": 1}', kind="application/json"),
    "another root": whole('<SendSmsResponse xmlns="http://tempuri.org/"/>'),
    "no body": whole('<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"/>'),
    "empty body": xml(""),
    "SOAP 1.2": whole(
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body/></s:Envelope>'
    ),
    "another operation": result("Goodbye", "1"),
    "another namespace": xml('<SendSmsResponse xmlns="urn:x"><SendSmsResult>1</SendSmsResult>'
                             "</SendSmsResponse>"),
    "an extra field": xml('<SendSmsResponse xmlns="http://tempuri.org/"><SendSmsResult>1'
                            "</SendSmsResult><More>1</More></SendSmsResponse>"),
    "wrong type": sent("one"),
    "not a number": sent(""),
    "too large a number": sent("9" * 5000),
    "an unknown type": xml('<SendSmsResponse xmlns="http://tempuri.org/"><SendSmsResult'
                             ' xsi:type="xsd:nothing">1</SendSmsResult></SendSmsResponse>'),
    "too deep": xml("<a>" * 2000 + "</a>" * 2000),
    "a DTD": whole('<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">' + ENVELOPE[39:].format("")),
    "a bomb": whole(BOMB),
    "an entity that reads a file": whole(
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><response>&e;</response>'
    ),
    "a multipart": whole("--x\r\n\r\n<a/>\r\n--x--", kind="multipart/related; boundary=x"),
    "HTTP 202 without a body": whole("", status=202),
    "not UTF-8": answer(b"\xff\xfe\xfa<a", kind="text/xml; charset=nonsense"),
    "a NUL": whole("<a>\0</a>"),
}  # fmt: skip
