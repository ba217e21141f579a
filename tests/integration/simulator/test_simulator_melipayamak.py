"""The simulated MeliPayamak: SOAP by hand and with zeep, the HTTP binding, and REST."""

import base64

import httpx
import pytest
import zeep
import zeep.exceptions
import zeep.helpers

PATH = "/melipayamak/post/Send.asmx"
XML = "text/xml; charset=utf-8"


def envelope(inner: str, version: str = "http://schemas.xmlsoap.org/soap/envelope/") -> bytes:
    return (
        f'<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="{version}">'
        f"<s:Body>{inner}</s:Body></s:Envelope>"
    ).encode()


def send_sms(to: list[str], **more: str) -> str:
    fields = {"username": "u", "password": "p", "from": "50004001", "text": "کد: 12345"} | more
    numbers = "".join(f"<string>{number}</string>" for number in to)
    return (
        '<SendSms xmlns="http://tempuri.org/">'
        f"<username>{fields['username']}</username><password>{fields['password']}</password>"
        f"<to>{numbers}</to><from>{fields['from']}</from><text>{fields['text']}</text>"
        "<isflash>false</isflash><udh></udh></SendSms>"
    )


def post(
    http: httpx.Client, inner: str, action: str = '"http://tempuri.org/SendSms"'
) -> httpx.Response:
    headers = {"Content-Type": XML, "SOAPAction": action}
    return http.post(PATH, content=envelope(inner), headers=headers)


@pytest.fixture
def service(simulator):
    with zeep.Client(f"{simulator.url}{PATH}?wsdl") as client:
        yield client.service


def test_send_sms_returns_the_documented_envelope(http, simulator):
    response = post(http, send_sms(["09123456789"]))
    assert response.status_code == 200
    assert response.headers["content-type"] == XML
    rec_id = response.text.partition("<long>")[2].partition("</long>")[0]
    assert len(rec_id) >= 15
    assert response.text == (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        ' xmlns:xsd="http://www.w3.org/2001/XMLSchema"><soap:Body>'
        '<SendSmsResponse xmlns="http://tempuri.org/"><SendSmsResult>1</SendSmsResult>'
        f"<recId><long>{rec_id}</long></recId><status>AA==</status></SendSmsResponse>"
        "</soap:Body></soap:Envelope>"
    )
    assert simulator.messages()[0]["code"] == "12345"


def test_a_soap_12_request_gets_a_soap_12_response(http):
    version = "http://www.w3.org/2003/05/soap-envelope"
    response = http.post(
        PATH,
        content=envelope(send_sms(["09123456789"]), version),
        headers={"Content-Type": "application/soap+xml; charset=utf-8"},
    )
    assert response.headers["content-type"].startswith("application/soap+xml")
    assert version in response.text
    assert "<SendSmsResult>1</SendSmsResult>" in response.text


def test_zeep_sends_to_many_with_the_generated_wsdl(service, simulator, clock):
    response = service.SendSms(
        username="u", password="p", to={"string": ["09123456789", "12", "09121112233"]},
        isflash=False, text="سلام", udh="", **{"from": "50004001"},
    )  # fmt: skip
    assert response.SendSmsResult == 1
    assert bytes(response.status) == b"\x00\x01\x00"
    assert response.recId.long[1] == 0
    assert [m["to"] for m in simulator.messages()] == ["+989121112233", "+989123456789"]
    ids = {"string": [str(response.recId.long[0]), "999"]}
    queued = service.GetDeliveries3(recId=ids, username="u", password="p")
    clock.advance(5)
    delivered = service.GetDeliveries3(recId=ids, username="u", password="p")
    assert (queued, delivered) == ([400, 100], [1, 100])


def test_a_pattern_returns_a_long_id(service, simulator):
    response = service.SendByBaseNumber2(
        username="u", password="p", text="12345;فروشگاه", to="09123456789", bodyId=7
    )
    assert len(response) >= 15
    assert simulator.messages()[0]["text"] == "کد تأیید شما: 12345\nفروشگاه"
    assert simulator.messages()[0]["code"] == "12345"


def test_a_refused_pattern_returns_an_error_number(service):
    cases = [
        ({"bodyId": 0}, "-4"),
        ({"to": "09123456789,09121112233"}, "-2"),
        ({"text": "https://example.ir"}, "-10"),
        ({"text": ""}, "-5"),
        ({"password": ""}, "0"),
    ]
    valid = {"username": "u", "password": "p", "text": "1", "to": "09123456789", "bodyId": 7}
    for change, number in cases:
        assert service.SendByBaseNumber2(**valid | change) == number, change


def test_a_send_reduces_the_credit_by_its_parts(service):
    before = service.GetCredit(username="u", password="p")
    service.SendSimpleSMS2(
        username="u", password="p", to="09123456789", text="م" * 71, isflash=False,
        **{"from": "50004001"},
    )  # fmt: skip
    assert service.GetCredit(username="u", password="p") == before - 2


def test_received_messages_are_listed(service, http):
    http.post("/_api/incoming", json={
        "gateway": "melipayamak", "from": "09123456789", "to": "50004001", "text": "سلام",
    })  # fmt: skip
    (row,) = service.getMessages(
        username="u", password="p", location=1, index=0, count=10, **{"from": ""}
    )
    assert (row.Sender, row.Receiver, row.Body) == ("09123456789", "50004001", "سلام")
    assert row.SendDate.hour == 12
    assert service.GetInboxCount(username="u", password="p", isRead=False) == 1


def test_a_refused_send_returns_an_error_number_and_no_ids(http, simulator):
    cases = [
        (send_sms(["09123456789"], password=""), 0),
        (send_sms(["09123456789"] * 101), 4),
        (send_sms(["09123456789"], **{"from": ""}), 5),
        (send_sms(["12"]), 11),
        (send_sms([]), 11),
        (send_sms(["09123456789"]).replace(' xmlns="http://tempuri.org/"', ""), 0),
    ]
    for inner, result in cases:
        response = post(http, inner)
        assert f"<SendSmsResult>{result}</SendSmsResult>" in response.text, inner
        assert "recId" not in response.text, inner
        assert simulator.messages() == [], inner


def test_an_invalid_soap_request_gets_a_fault(http):
    cases = [
        (b"<", "http://tempuri.org/SendSms", 400),
        (envelope(""), "http://tempuri.org/SendSms", 400),
        (envelope(send_sms(["09123456789"])), "", 500),
        (envelope(send_sms(["09123456789"])), "http://tempuri.org/GetCredit", 500),
        (envelope('<Nothing xmlns="http://tempuri.org/"/>'), "http://tempuri.org/Nothing", 500),
        (envelope(send_sms([])).replace(b"false", b"perhaps"), "http://tempuri.org/SendSms", 500),
    ]
    for body, action, status in cases:
        headers = {"Content-Type": XML, "SOAPAction": action}
        response = http.post(PATH, content=body, headers=headers)
        assert response.status_code == status, body
        assert "<faultcode>soap:Client</faultcode>" in response.text, body


def test_a_dtd_is_refused_in_every_encoding(http, simulator):
    body = envelope(send_sms(["09123456789"], text="&e;")).decode().partition("?>")[2]
    for encoding in ("utf-8", "utf-16"):
        declaration = f'<?xml version="1.0" encoding="{encoding}"?>'
        attack = f'{declaration}<!DOCTYPE s [<!ENTITY e SYSTEM "file:///etc/hostname">]>{body}'
        headers = {"Content-Type": XML, "SOAPAction": "http://tempuri.org/SendSms"}
        response = http.post(PATH, content=attack.encode(encoding), headers=headers)
        assert response.status_code == 400, encoding
        assert simulator.messages() == [], encoding


def test_the_http_binding_returns_only_the_result(http):
    values = {"username": "u", "password": "p"}
    for method, sent in (("GET", {"params": values}), ("POST", {"data": values})):
        response = http.request(method, f"{PATH}/GetCredit", **sent)
        assert response.headers["content-type"] == XML, method
        assert response.text == (
            '<?xml version="1.0" encoding="utf-8"?>\n'
            '<double xmlns="http://tempuri.org/">1000000000.0</double>'
        ), method


def test_the_http_binding_reads_repeated_members_as_a_list(http, simulator):
    values = {
        "username": "u", "password": "p", "to": ["09123456789", "09121112233"],
        "from": "50004001", "text": "x", "isflash": "false", "udh": "",
    }  # fmt: skip
    response = http.post(f"{PATH}/SendSms", data=values)
    assert response.text.endswith('<int xmlns="http://tempuri.org/">1</int>')
    assert len(simulator.messages()) == 2
    ids = http.post(f"{PATH}/SendSimpleSMS", data=values).text
    assert ids.count("<string>") == 2
    assert '<ArrayOfString xmlns="http://tempuri.org/">' in ids


def test_the_http_binding_names_a_missing_member(http):
    response = http.get(f"{PATH}/GetCredit", params={"username": "u"})
    assert (response.status_code, response.text) == (500, "Missing parameter: password.\r\n")


def test_rest_calls_return_value_and_status(http, clock):
    base = "/melipayamak/api/SendSMS"
    account = {"username": "u", "password": "p"}
    sent = http.post(f"{base}/SendSMS", data={
        **account, "to": "09123456789", "from": "50004001", "text": "x", "isFlash": "False",
    }).json()  # fmt: skip
    assert (sent["RetStatus"], sent["StrRetStatus"]) == (1, "Ok")
    assert len(sent["Value"]) >= 15
    clock.advance(5)
    state = http.post(f"{base}/GetDeliveries2", data={**account, "recId": sent["Value"]}).json()
    assert state["Value"] == "1"
    refused = http.post(f"{base}/GetCredit", data={"username": "u"}).json()
    assert refused["RetStatus"] == 0


def test_the_status_bytes_are_base64(http):
    response = post(http, send_sms(["09123456789", "1"]))
    status = response.text.partition("<status>")[2].partition("</status>")[0]
    assert base64.b64decode(status) == b"\x00\x01"
