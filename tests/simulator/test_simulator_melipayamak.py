"""MeliPayamak's side: SOAP by hand and by zeep, plain HTTP calls, and REST."""

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


def test_the_envelope_of_the_documentation_comes_back(http, simulator):
    answer = post(http, send_sms(["09123456789"]))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == XML
    rec_id = answer.text.partition("<long>")[2].partition("</long>")[0]
    assert len(rec_id) >= 15
    assert answer.text == (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        ' xmlns:xsd="http://www.w3.org/2001/XMLSchema"><soap:Body>'
        '<SendSmsResponse xmlns="http://tempuri.org/"><SendSmsResult>1</SendSmsResult>'
        f"<recId><long>{rec_id}</long></recId><status>AA==</status></SendSmsResponse>"
        "</soap:Body></soap:Envelope>"
    )
    assert simulator.messages()[0]["code"] == "12345"


def test_soap_12_is_answered_in_soap_12(http):
    version = "http://www.w3.org/2003/05/soap-envelope"
    answer = http.post(
        PATH,
        content=envelope(send_sms(["09123456789"]), version),
        headers={"Content-Type": "application/soap+xml; charset=utf-8"},
    )
    assert answer.headers["content-type"].startswith("application/soap+xml")
    assert version in answer.text
    assert "<SendSmsResult>1</SendSmsResult>" in answer.text


def test_zeep_sends_to_many_with_the_wsdl_it_is_given(service, simulator, clock):
    answer = service.SendSms(
        username="u", password="p", to={"string": ["09123456789", "12", "09121112233"]},
        isflash=False, text="سلام", udh="", **{"from": "50004001"},
    )  # fmt: skip
    assert answer.SendSmsResult == 1
    assert bytes(answer.status) == b"\x00\x01\x00"
    assert answer.recId.long[1] == 0
    assert [m["to"] for m in simulator.messages()] == ["+989121112233", "+989123456789"]
    ids = {"string": [str(answer.recId.long[0]), "999"]}
    queued = service.GetDeliveries3(recId=ids, username="u", password="p")
    clock.advance(5)
    delivered = service.GetDeliveries3(recId=ids, username="u", password="p")
    assert (queued, delivered) == ([400, 100], [1, 100])


def test_a_pattern_is_answered_by_a_long_id(service, simulator):
    answer = service.SendByBaseNumber2(
        username="u", password="p", text="12345;فروشگاه", to="09123456789", bodyId=7
    )
    assert len(answer) >= 15
    assert simulator.messages()[0]["text"] == "کد تأیید شما: 12345\nفروشگاه"
    assert simulator.messages()[0]["code"] == "12345"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"bodyId": 0}, "-4"),
        ({"to": "09123456789,09121112233"}, "-2"),
        ({"text": "https://example.ir"}, "-10"),
        ({"text": ""}, "-5"),
        ({"password": ""}, "0"),
    ],
)
def test_a_pattern_that_is_not_sent_is_answered_by_a_small_number(service, more, reason):
    call = {"username": "u", "password": "p", "text": "1", "to": "09123456789", "bodyId": 7} | more
    assert service.SendByBaseNumber2(**call) == reason


def test_credit_falls_by_parts(service):
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


@pytest.mark.parametrize(
    ("inner", "result"),
    [
        (send_sms(["09123456789"], password=""), 0),
        (send_sms(["09123456789"] * 101), 4),
        (send_sms(["09123456789"], **{"from": ""}), 5),
        (send_sms(["12"]), 11),
        (send_sms([]), 11),
        (send_sms(["09123456789"]).replace(' xmlns="http://tempuri.org/"', ""), 0),
    ],
)
def test_what_is_not_sent_has_a_number_and_no_ids(http, simulator, inner, result):
    answer = post(http, inner)
    assert f"<SendSmsResult>{result}</SendSmsResult>" in answer.text
    assert "recId" not in answer.text
    assert simulator.messages() == []


@pytest.mark.parametrize(
    ("body", "action", "status"),
    [
        (b"<", "http://tempuri.org/SendSms", 400),
        (envelope(""), "http://tempuri.org/SendSms", 400),
        (envelope(send_sms(["09123456789"])), "", 500),
        (envelope(send_sms(["09123456789"])), "http://tempuri.org/GetCredit", 500),
        (envelope('<Nothing xmlns="http://tempuri.org/"/>'), "http://tempuri.org/Nothing", 500),
        (envelope(send_sms([])).replace(b"false", b"perhaps"), "http://tempuri.org/SendSms", 500),
    ],
)
def test_what_cannot_be_read_is_a_fault(http, body, action, status):
    headers = {"Content-Type": XML, "SOAPAction": action}
    answer = http.post(PATH, content=body, headers=headers)
    assert answer.status_code == status
    assert "<faultcode>soap:Client</faultcode>" in answer.text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_dtd_is_refused_and_its_entities_are_not_expanded(http, simulator, encoding):
    body = envelope(send_sms(["09123456789"], text="&e;")).decode().partition("?>")[2]
    declared = f'<?xml version="1.0" encoding="{encoding}"?>'
    bomb = f'{declared}<!DOCTYPE s [<!ENTITY e SYSTEM "file:///etc/hostname">]>{body}'
    headers = {"Content-Type": XML, "SOAPAction": "http://tempuri.org/SendSms"}
    answer = http.post(PATH, content=bomb.encode(encoding), headers=headers)
    assert answer.status_code == 400
    assert simulator.messages() == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_plain_http_answers_the_result_alone(http, method):
    values = {"username": "u", "password": "p"}
    sent = {"params": values} if method == "GET" else {"data": values}
    answer = http.request(method, f"{PATH}/GetCredit", **sent)
    assert answer.headers["content-type"] == XML
    assert answer.text == (
        '<?xml version="1.0" encoding="utf-8"?>\n<double xmlns="http://tempuri.org/">1000000000.0</double>'
    )


def test_plain_http_takes_repeated_members_as_a_list(http, simulator):
    values = {
        "username": "u", "password": "p", "to": ["09123456789", "09121112233"],
        "from": "50004001", "text": "x", "isflash": "false", "udh": "",
    }  # fmt: skip
    answer = http.post(f"{PATH}/SendSms", data=values)
    assert answer.text.endswith('<int xmlns="http://tempuri.org/">1</int>')
    assert len(simulator.messages()) == 2
    ids = http.post(f"{PATH}/SendSimpleSMS", data=values).text
    assert ids.count("<string>") == 2
    assert '<ArrayOfString xmlns="http://tempuri.org/">' in ids


def test_plain_http_names_the_member_that_is_missing(http):
    answer = http.get(f"{PATH}/GetCredit", params={"username": "u"})
    assert (answer.status_code, answer.text) == (500, "Missing parameter: password.\r\n")


def test_rest_answers_value_and_status(http, clock):
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


def test_the_status_byte_is_base64(http):
    answer = post(http, send_sms(["09123456789", "1"]))
    status = answer.text.partition("<status>")[2].partition("</status>")[0]
    assert base64.b64decode(status) == b"\x00\x01"
