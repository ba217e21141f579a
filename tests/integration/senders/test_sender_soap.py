"""The SOAP transport against a loopback service that follows a script."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from senders.cases import each_case
from senders.loopback import answer, check_no_secrets, scripted
from senders.soap_wire import INVALID_ANSWERS, fault, parsed, result, sent, whole, xml

from flask_smsverify.errors import (
    ConfigurationError,
    Misconfigured,
    Rejected,
    SenderError,
    Unavailable,
    Unknown,
)
from flask_smsverify.senders import soap
from flask_smsverify.senders.base import SenderIdentity
from flask_smsverify.senders.deadline import deadline
from flask_smsverify.senders.http import HttpTransport
from flask_smsverify.testing import close_in_body, drip_head, hang

CODE = "481516"
MOBILE = "09121234567"
WSDL = soap.WsdlFile("flask_smsverify.senders.melipayamak", "service.wsdl")
SECRETS = ("the-user", "the-password", CODE, MOBILE)


@pytest.fixture
def gateway():
    with scripted() as server:
        yield server


@pytest.fixture
def service(gateway):
    http = HttpTransport(SenderIdentity("meli", "melipayamak"), gateway.url + "/post")
    yield soap.SoapTransport(
        http,
        "/Send.asmx",
        wsdl=WSDL,
        binding="{http://tempuri.org/}MessagesOverSoap",
    )
    http.close()


def send(service):
    return service.call(
        "SendSms",
        {
            "username": "the-user",
            "password": "the-password",
            "to": {"string": [MOBILE]},
            "from": "3000",
            "text": f"your code is {CODE}",
            "isflash": False,
        },
        sent=("the-user", "the-password", f"your code is {CODE}"),
    )


def failing(service) -> SenderError:
    with pytest.raises(SenderError) as caught:
        send(service)
    check_no_secrets(caught.value, *SECRETS)
    assert caught.value.sender == "meli"
    return caught.value


def test_importing_a_soap_sender_does_not_load_zeep():
    code = (
        "import sys, flask_smsverify.senders.melipayamak as m\n"
        "m.MeliPayamak('u', 'p', '3000')\n"
        "print(sorted({'zeep', 'lxml', 'requests'} & set(sys.modules)))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert finished.stdout.strip() == "[]"


def test_the_envelope_is_document_literal_soap_with_its_action(gateway, service):
    gateway.will(sent(1, [7_000_000_000_000_001], b"\0"))
    answered = send(service)
    assert answered == {
        "SendSmsResult": 1,
        "recId": {"long": [7_000_000_000_000_001]},
        "status": b"\0",
    }
    asked = gateway.last
    assert (asked.method, asked.target) == ("POST", "/post/Send.asmx")
    assert asked.headers["soapaction"] == '"http://tempuri.org/SendSms"'
    assert asked.headers["content-type"] == "text/xml; charset=utf-8"
    envelope = parsed(asked.body)
    assert envelope.tag == "{http://schemas.xmlsoap.org/soap/envelope/}Envelope"
    [body] = envelope
    [operation] = body
    assert operation.tag == "{http://tempuri.org/}SendSms"
    assert [field.tag.partition("}")[2] for field in operation] == [
        "username", "password", "to", "from", "text", "isflash",
    ]  # fmt: skip


def test_an_answer_after_a_newline_is_read(gateway, service):
    found = sent(1, [7], b"\0")
    gateway.will(answer(b"\r\n\n" + found.body, kind="text/xml"))
    assert found.body.startswith(b"<?xml")
    assert send(service)["SendSmsResult"] == 1


def test_an_answer_with_one_field_is_its_value(gateway, service):
    gateway.will(result("GetCredit", "1234.5"))
    assert service.call("GetCredit", {"username": "u", "password": "p"}) == 1234.5


@each_case("name", INVALID_ANSWERS)
def test_an_invalid_answer_raises_a_sender_error(gateway, service, name):
    gateway.will(INVALID_ANSWERS[name])
    error, answered = None, None
    try:
        answered = send(service)
    except SenderError as raised:
        error = raised
    if error is None:
        assert not isinstance(answered, dict) or answered["SendSmsResult"] is None
    else:
        check_no_secrets(error, *SECRETS)
        assert isinstance(error, Unknown)
    assert len(gateway.asked) == 1


@each_case("name", sorted(INVALID_ANSWERS.keys() - {"HTTP 202 without a body"}))
def test_an_invalid_answer_with_http_500_is_unavailable(gateway, service, name):
    gateway.will(replace(INVALID_ANSWERS[name], status=500))
    assert isinstance(failing(service), Unavailable)


@each_case(
    ("code", "status", "kind"),
    [
        ("soap:Client", 500, Misconfigured),
        ("soap:Client.Authentication", 500, Misconfigured),
        ("soap:VersionMismatch", 500, Misconfigured),
        ("soap:MustUnderstand", 200, Misconfigured),
        ("soap:Server", 500, Unavailable),
        ("soap:Server", 200, Unavailable),
        ("Server", 400, Unavailable),
        ("soap:Elsewhere", 200, Unknown),
        ("soap:Elsewhere", 500, Unknown),
    ],
)
def test_a_fault_raises_the_error_of_its_code(gateway, service, code, status, kind):
    gateway.will(fault(code, "Server was unable to process request.", status=status))
    error = failing(service)
    assert type(error) is kind
    assert "Server was unable to process request" in error.reason


def test_a_fault_that_repeats_the_request_is_hidden(gateway, service):
    gateway.will(fault("soap:Server", f"the-password is wrong; your code is {CODE} to {MOBILE}"))
    assert isinstance(failing(service), Unavailable)


def test_a_fault_without_a_code_is_unknown(gateway, service):
    gateway.will(xml("<soap:Fault><faultstring>x</faultstring></soap:Fault>"))
    assert isinstance(failing(service), Unknown)


@each_case(
    ("status", "kind"),
    [(301, Unavailable), (401, Unavailable), (403, Unavailable), (429, Unavailable),
     (502, Unavailable), (503, Unavailable), (404, Misconfigured), (405, Misconfigured),
     (400, Unavailable), (418, Unavailable)],
)  # fmt: skip
def test_an_http_status_raises_its_usual_error(gateway, service, status, kind):
    gateway.will(whole("<html></html>", status=status, kind="text/html"))
    assert type(failing(service)) is kind


@each_case("step", [hang, drip_head, close_in_body])
def test_a_lost_answer_is_unknown(gateway, service, step):
    gateway.will(step)
    with deadline(2):
        error = failing(service)
    assert isinstance(error, Unknown)
    assert error.written


def test_an_answer_above_the_size_limit_is_unknown(gateway, service):
    gateway.will(whole("<a>" + "x" * 3_000_000 + "</a>"))
    assert isinstance(failing(service), Unknown)


def test_xml_that_keeps_a_parser_busy_is_refused_before_it_is_parsed(gateway, service):
    """Case 66 of docs/safety.md."""
    attributes = " ".join(f'a{number}=""' for number in range(100_000))
    for body in (f"<a {attributes}/>", "<a>" + "<b/>" * 30_000 + "</a>"):
        gateway.will(whole(body))
        error = failing(service)
        assert isinstance(error, Unknown)
        assert "XML with small tags" in error.reason


@each_case("text", ["a\0b", "a\x1fb", "a\ud800b", "\ufffe"])
def test_a_text_that_xml_cannot_hold_is_rejected_and_nothing_is_written(gateway, service, text):
    gateway.will(sent(1))
    with pytest.raises(Rejected) as caught:
        service.call("SendSms", {"text": text, "isflash": False})
    check_no_secrets(caught.value)
    assert not caught.value.written
    assert not gateway.asked


def test_markup_in_a_text_is_escaped(gateway, service):
    gateway.will(sent(1))
    text = "<b>&amp; ]]> سلام\n🙂</b>"
    service.call("SendSms", {"text": text, "isflash": False})
    assert parsed(gateway.last.body).findtext(".//{http://tempuri.org/}text") == text


def test_only_the_shipped_wsdl_is_loaded():
    soap._load_document(WSDL)
    exchange = soap._make_exchange(None, "")
    for ask in (exchange.load, lambda url: exchange.get(url, {}, {})):
        for url in ("http://schemas.xmlsoap.org/soap/encoding/", "file:///etc/passwd", "x.xsd"):
            with pytest.raises(ConfigurationError):
                ask(url)
    with pytest.raises(ConfigurationError):
        exchange.post("http://127.0.0.1:9", b"", {})


@each_case("location", ["http://127.0.0.1:9/other.xsd", "file:///etc/other.xsd", "other.xsd"])
def test_a_wsdl_that_imports_another_document_is_refused(monkeypatch, tmp_path, location):
    (tmp_path / "bad.wsdl").write_text(
        '<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" targetNamespace="urn:x"><types>'
        '<schema xmlns="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:x">'
        f'<import namespace="urn:y" schemaLocation="{location}"/></schema></types></definitions>'
    )
    monkeypatch.setattr(soap, "files", lambda _package: tmp_path)
    with pytest.raises(Exception, match=r"another document|xternal|Forbidden"):
        soap._read_document(soap.WsdlFile(location, "bad.wsdl"))


def test_zeeps_settings_forbid_dtds_entities_and_huge_trees():
    settings = soap._settings()
    assert settings.strict
    assert settings.forbid_dtd
    assert settings.forbid_entities
    assert settings.forbid_external
    assert not settings.xml_huge_tree


def test_threads_that_start_together_read_the_wsdl_once(gateway, service, monkeypatch):
    from zeep.wsdl import Document

    read = []
    initialise = Document.__init__

    def counting(self, *args, **kwargs):
        read.append(1)
        initialise(self, *args, **kwargs)

    monkeypatch.setattr(Document, "__init__", counting)
    soap._read_document.cache_clear()
    gateway.will(sent(1, [5], b"\0"))
    barrier, answered = threading.Barrier(8), []

    def run() -> None:
        barrier.wait()
        answered.append(send(service))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answered) == 8
    assert len(read) == 1


@each_case("name", ["good", "wrong type", "html", "a bomb", "fault"])
def test_the_debug_log_shows_no_request_and_no_traceback(gateway, service, caplog, name):
    steps = {"good": sent(1, [5], b"\0"), "fault": fault("soap:Server", f"code {CODE}")}
    gateway.will(steps.get(name) or INVALID_ANSWERS[name])
    with caplog.at_level(logging.DEBUG):
        try:
            send(service)
        except SenderError as error:
            logging.getLogger("host").warning("failed: %r", error)
    shown = "\n".join(f"{record.getMessage()} {record.exc_text}" for record in caplog.records)
    for secret in SECRETS:
        assert secret not in shown
    assert "Traceback" not in caplog.text
    assert not any(record.name.startswith("zeep") for record in caplog.records)


def test_zeeps_log_is_unchanged_outside_of_a_call(service, gateway, caplog):
    gateway.will(sent(1))
    send(service)
    with caplog.at_level(logging.DEBUG, logger="zeep"):
        logging.getLogger("zeep.transports").debug("the host's own")
    assert "the host's own" in caplog.text


def test_the_repr_shows_only_the_name(service):
    assert repr(service) == "<SoapTransport of 'meli'>"
