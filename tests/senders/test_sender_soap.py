"""The SOAP transport, against a service on loopback that answers by a script."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from senders.loopback import holds_nothing_of, scripted
from senders.soap_wire import STRANGE, fault, parsed, result, sent, whole, xml

from flask_smsverify.errors import (
    ConfigurationError,
    Misconfigured,
    Rejected,
    SenderError,
    Unavailable,
    Unknown,
)
from flask_smsverify.senders import soap
from flask_smsverify.senders.http import HttpTransport, deadline
from flask_smsverify.testing import close_in_body, drip_head, hang

CODE = "481516"
MOBILE = "09121234567"
SECRETS = ("the-user", "the-password", CODE, MOBILE)


@pytest.fixture
def gateway():
    with scripted() as server:
        yield server


@pytest.fixture
def service(gateway):
    http = HttpTransport("meli", gateway.url + "/post")
    yield soap.SoapTransport(
        http,
        "/Send.asmx",
        wsdl="melipayamak.wsdl",
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
    holds_nothing_of(caught.value, *SECRETS)
    assert caught.value.gateway == "meli"
    return caught.value


def test_importing_the_sender_loads_neither_zeep_nor_what_zeep_needs():
    code = (
        "import sys, flask_smsverify.senders.melipayamak as m\n"
        "m.MeliPayamak('u', 'p', '3000')\n"
        "print(sorted({'zeep', 'lxml', 'requests'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


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


def test_an_operation_with_one_field_gives_its_value(gateway, service):
    gateway.will(result("GetCredit", "1234.5"))
    assert service.call("GetCredit", {"username": "u", "password": "p"}) == 1234.5


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_answer_is_never_a_success_and_never_another_exception(gateway, service, name):
    gateway.will(STRANGE[name])
    error, answered = None, None
    try:
        answered = send(service)
    except SenderError as raised:
        error = raised
    if error is None:
        assert not isinstance(answered, dict) or answered["SendSmsResult"] is None
    else:
        holds_nothing_of(error, *SECRETS)
        assert isinstance(error, Unknown)
    assert len(gateway.asked) == 1


@pytest.mark.parametrize("name", sorted(STRANGE.keys() - {"accepted, and nothing else"}))
def test_a_strange_answer_with_a_server_error_is_the_services_trouble(gateway, service, name):
    gateway.will(replace(STRANGE[name], status=500))
    assert isinstance(failing(service), Unavailable)


@pytest.mark.parametrize(
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
def test_a_fault_blames_the_caller_or_the_server(gateway, service, code, status, kind):
    gateway.will(fault(code, "Server was unable to process request.", status=status))
    error = failing(service)
    assert type(error) is kind
    assert "Server was unable to process request" in error.reason


def test_a_fault_that_echoes_what_was_sent_shows_none_of_it(gateway, service):
    gateway.will(fault("soap:Server", f"the-password is wrong; your code is {CODE} to {MOBILE}"))
    assert isinstance(failing(service), Unavailable)


def test_a_fault_without_a_code_is_not_understood(gateway, service):
    gateway.will(xml("<soap:Fault><faultstring>x</faultstring></soap:Fault>"))
    assert isinstance(failing(service), Unknown)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(301, Unavailable), (401, Unavailable), (403, Unavailable), (429, Unavailable),
     (502, Unavailable), (503, Unavailable), (404, Misconfigured), (405, Misconfigured),
     (400, Unknown), (418, Unknown)],
)  # fmt: skip
def test_an_http_status_means_here_what_it_means_everywhere(gateway, service, status, kind):
    gateway.will(whole("<html></html>", status=status, kind="text/html"))
    assert type(failing(service)) is kind


@pytest.mark.parametrize("step", [hang, drip_head, close_in_body])
def test_a_service_that_does_not_answer_may_have_sent_it(gateway, service, step):
    gateway.will(step)
    with deadline(0.6):
        error = failing(service)
    assert isinstance(error, Unknown)
    assert error.written


def test_an_answer_larger_than_any_answer_is_not_read(gateway, service):
    gateway.will(whole("<a>" + "x" * 3_000_000 + "</a>"))
    assert isinstance(failing(service), Unknown)


@pytest.mark.parametrize("text", ["a\0b", "a\x1fb", "a\ud800b", "\ufffe"])
def test_a_text_that_xml_cannot_carry_is_rejected_before_anything_is_written(
    gateway, service, text
):
    gateway.will(sent(1))
    with pytest.raises(Rejected) as caught:
        service.call("SendSms", {"text": text, "isflash": False})
    holds_nothing_of(caught.value)
    assert not caught.value.written
    assert not gateway.asked


def test_markup_in_a_text_stays_text(gateway, service):
    gateway.will(sent(1))
    text = "<b>&amp; ]]> سلام\n🙂</b>"
    service.call("SendSms", {"text": text, "isflash": False})
    assert parsed(gateway.last.body).findtext(".//{http://tempuri.org/}text") == text


def test_nothing_but_the_shipped_description_is_ever_loaded():
    soap._document("melipayamak.wsdl")
    exchange = soap._exchange(None, "")
    for ask in (exchange.load, lambda url: exchange.get(url, {}, {})):
        for url in ("http://schemas.xmlsoap.org/soap/encoding/", "file:///etc/passwd", "x.xsd"):
            with pytest.raises(ConfigurationError):
                ask(url)
    with pytest.raises(ConfigurationError):
        exchange.post("http://127.0.0.1:9", b"", {})


@pytest.mark.parametrize(
    "location", ["http://127.0.0.1:9/other.xsd", "file:///etc/other.xsd", "other.xsd"]
)
def test_a_description_that_imports_another_is_refused(monkeypatch, tmp_path, location):
    (tmp_path / "bad.wsdl").write_text(
        '<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" targetNamespace="urn:x"><types>'
        '<schema xmlns="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:x">'
        f'<import namespace="urn:y" schemaLocation="{location}"/></schema></types></definitions>'
    )
    monkeypatch.setattr(soap, "files", lambda _package: tmp_path)
    with pytest.raises(Exception, match=r"another document|xternal|Forbidden"):
        soap._read_document("bad.wsdl")


def test_zeeps_settings_forbid_what_an_answer_has_no_need_of():
    settings = soap._settings()
    assert settings.strict
    assert settings.forbid_dtd
    assert settings.forbid_entities
    assert settings.forbid_external
    assert not settings.xml_huge_tree


def test_threads_that_start_together_read_the_description_once(gateway, service, monkeypatch):
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


@pytest.mark.parametrize("name", ["good", "wrong type", "html", "a bomb", "fault"])
def test_no_log_at_debug_holds_what_was_sent_or_a_traceback(gateway, service, caplog, name):
    steps = {"good": sent(1, [5], b"\0"), "fault": fault("soap:Server", f"code {CODE}")}
    gateway.will(steps.get(name) or STRANGE[name])
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


def test_the_hosts_own_zeep_keeps_its_log(service, gateway, caplog):
    gateway.will(sent(1))
    send(service)
    with caplog.at_level(logging.DEBUG, logger="zeep"):
        logging.getLogger("zeep.transports").debug("the host's own")
    assert "the host's own" in caplog.text


def test_a_transport_shows_nothing_but_its_name(service):
    assert repr(service) == "<SoapTransport of 'meli'>"
