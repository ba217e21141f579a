"""The simulator itself: its JSON interface, its page, its door, and where it may run."""

import ast
import base64
import socket
import time
from pathlib import Path

import httpx
import pytest
from flask import Flask

import flask_smsverify.simulator as package
from flask_smsverify.simulator import Simulator, create_simulator, running

BEARER = {"Authorization": "Bearer hush"}


def send(http: httpx.Client, text: str = "کد تأیید شما: 123456", to: str = "09123456789") -> None:
    row = {"sender": "10002000", "receiver": to, "message": text}
    answer = http.post("/wikipayam/api/v1/sms/send", json=[row], headers=BEARER)
    assert answer.status_code == 200


# Messages


def test_a_message_has_the_members_that_programs_read(http):
    send(http)
    (message,) = http.get("/_api/messages").json()
    assert message.pop("id")
    assert message == {
        "gateway": "wikipayam", "channel": "sms", "from": "10002000", "to": "+989123456789",
        "text": "کد تأیید شما: 123456", "code": "123456", "state": "queued",
        "at": "2026-03-21T08:30:00.000Z",
    }  # fmt: skip


def test_messages_come_newest_first_and_by_mobile(http, clock):
    send(http, "one")
    clock.advance(1)
    send(http, "two")
    send(http, "three", to="09121112233")
    assert [m["text"] for m in http.get("/_api/messages").json()] == ["three", "two", "one"]
    for spelling in ("+989123456789", "09123456789", "9123456789"):
        found = http.get("/_api/messages", params={"to": spelling}).json()
        assert [m["text"] for m in found] == ["two", "one"]
    assert http.get("/_api/messages?to=%20989123456789&limit=1").json()[0]["text"] == "two"
    assert http.get("/_api/messages?to=nobody").status_code == 422


def test_deleted_messages_are_gone(http):
    send(http)
    send(http, to="09121112233")
    assert http.delete("/_api/messages?to=09121112233").status_code == 204
    assert len(http.get("/_api/messages").json()) == 1
    http.delete("/_api/messages")
    assert http.get("/_api/messages").json() == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("کد تأیید شما: ۱۲۳۴۵۶", "123456"),
        ("Your verification code is: 4821", "4821"),
        ("4821 is your code", "4821"),
        ("Code: 111111\n@example.ir #222222", "222222"),
        ("رمز یکبار مصرف: 77777 برای خرید 120000 ریال", "77777"),
        ("فاکتور 12345 صادر شد", None),
        ("code 123", None),
        ("Call 02188776655", None),
        ("Your code will come on 2026/03/21", None),
    ],
)
def test_a_code_is_found_where_a_text_reads_like_one(http, text, code):
    send(http, text)
    assert http.get("/_api/messages").json()[0]["code"] == code


# Incoming


def test_an_incoming_message_waits_at_its_gateway(http):
    body = {"gateway": "raygan", "from": "0912 1", "to": "5000", "text": "x"}
    assert http.post("/_api/incoming", json=body).status_code == 422
    answer = http.post("/_api/incoming", json=body | {"from": "+989121112233"})
    assert answer.status_code == 201
    assert answer.json()["pushed"] is None
    assert http.post("/_api/incoming", json=body | {"to": " "}).status_code == 422


# Requests


def test_a_request_is_shown_as_it_was_received(http):
    send(http, "salam")
    (request,) = http.get("/_api/requests").json()
    assert (request["method"], request["path"]) == ("POST", "/wikipayam/api/v1/sms/send")
    assert request["body"] == ('[{"sender":"10002000","receiver":"09123456789","message":"salam"}]')
    assert (request["status"], request["gateway"]) == (200, "wikipayam")
    assert request["headers"]["Authorization"] == "Bearer •••"
    http.delete("/_api/requests")
    assert http.get("/_api/requests").json() == []


SECRET = "hush-4711"
SOAP = (
    '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" xmlns:t="http://tempuri.org/">'
    f"<e:Body><t:GetCredit><t:username>u</t:username><t:password a='b'><![CDATA[{SECRET}]]>"
    "</t:password></t:GetCredit></e:Body></e:Envelope>"
)


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/raygan/api/smsAPI/GetCredit", {"auth": ("u", SECRET), "json": {}}),
        ("/wikipayam/api/v1/sms/deliver",
         {"headers": {"Authorization": f"Bearer {SECRET}"}, "json": {}}),
        ("/wikipayam/api/v1/sms/deliver", {"headers": {"Authorization": SECRET}}),
        ("/wikipayam/api/v1/service/holoo", {"json": {"username": "u", "password": SECRET}}),
        ("/wikipayam/api/v1/service/holoo", {"params": {"username": "u", "Password": SECRET}}),
        ("/asanak/webservice/v1rest/getcredit", {"data": {"username": "u", "PASSWORD": SECRET}}),
        ("/asanak/webservice/v2rest/getcredit",
         {"content": b'{"password" :\n"a\\"' + SECRET.encode() + b'", "username": "u"}'}),
        ("/asanak/webservice/v2rest/getcredit",
         {"content": b'{"password": "' + SECRET.encode()}),
        ("/smsir/v1/send/verify", {"headers": {"X-API-KEY": SECRET}, "json": {}}),
        ("/smsir/api/Token", {"json": {"UserApiKey": SECRET, "SecretKey": SECRET}}),
        ("/smsir/api/MessageSend", {"headers": {"x-sms-ir-secure-token": SECRET}, "json": {}}),
        ("/melipayamak/post/Send.asmx", {"content": SOAP.encode()}),
        ("/melipayamak/post/Send.asmx/GetCredit", {"data": {"username": "u", "password": SECRET}}),
        ("/raygan/nowhere", {"params": {"password": SECRET}}),
        ("/raygan/nowhere", {"content": f'{{"password":"{SECRET}"}}',
                             "headers": {"Content-Type": "application/x-www-form-urlencoded"}}),
        ("/asanak/webservice/v1rest/getcredit",
         {"data": {"username": "u", "password": SECRET}, "files": {"f": b"x"}}),
        ("/melipayamak/post/Send.asmx", {"content": f"<password >{SECRET}"}),
    ],
)  # fmt: skip
def test_credentials_are_masked_wherever_they_stand(http, capfd, path, sent):
    http.post(path, **sent)
    for shown in (http.get("/_api/requests").text, http.get("/").text):
        assert SECRET not in shown
        assert base64.b64encode(f"u:{SECRET}".encode()).decode() not in shown
    assert SECRET not in "".join(capfd.readouterr())


def test_a_call_that_does_not_exist_is_recorded_too(http):
    assert http.get("/raygan/api/smsAPI/SendMessage").status_code == 405
    assert http.post("/wikipayam/v1/sms/send").status_code == 404
    shown = [(r["path"], r["status"]) for r in http.get("/_api/requests").json()]
    assert shown == [("/wikipayam/v1/sms/send", 404), ("/raygan/api/smsAPI/SendMessage", 405)]


def test_numbers_as_passwords_are_masked(http):
    http.post("/asanak/webservice/v2rest/getcredit", json={"username": "u", "password": 987654321})
    assert "987654321" not in http.get("/_api/requests").text


# The door


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "169.254.1.1"])
def test_a_strange_host_is_refused(http, host):
    for path in ("/", "/_api/messages", "/raygan/api/smsAPI/GetCredit"):
        assert http.get(path, headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8025", "127.0.0.1", "[::1]:8025"])
def test_loopback_names_are_taken(http, host):
    assert http.get("/_api/messages", headers={"Host": host}).status_code == 200


def test_a_gateways_own_name_reaches_that_gateway_and_nothing_else(http):
    host = {"Host": "RayganSMS.com:80"}
    answer = http.post("/api/smsAPI/GetCredit", headers=host, json={}, auth=("u", "p"))
    assert answer.json()["Code"] == 0
    assert http.get("/_api/messages", headers=host).status_code == 404
    assert http.get("/", headers=host).status_code == 404


@pytest.mark.parametrize(
    ("host", "path", "gateway"),
    [
        ("raygansms.com", "/api/smsAPI/SendMessage", "raygan"),
        ("smspanel.trez.ir", "/api/smsAPI/SendAutoCode", "raygan"),
        ("wikipayam.ir", "/api/v1/sms/send", "wikipayam"),
        ("api.payamak-panel.com", "/post/Send.asmx", "melipayamak"),
        ("rest.payamak-panel.com", "/api/SendSMS/SendSMS", "melipayamak"),
        ("panel.asanak.com", "/webservice/v1rest/sendsms", "asanak"),
        ("sms.asanak.ir", "/webservice/v2rest/sendsms", "asanak"),
        ("api.sms.ir", "/v1/send/verify", "smsir"),
        ("RestfulSms.com", "/api/Token", "smsir"),
    ],
)
def test_a_proxys_absolute_address_is_dispatched_by_its_host(simulator, http, host, path, gateway):
    with socket.create_connection((simulator.url[7:].split(":")[0], int(simulator.url[-5:]))) as c:
        c.sendall(
            f"POST http://{host}{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        answer = b"".join(iter(lambda: c.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 ")
    assert answer.split()[1] not in (b"404", b"421")
    (request,) = http.get("/_api/requests").json()
    assert (request["gateway"], request["host"], request["path"]) == (gateway, host, path)


def test_the_soap_encoding_schema_is_answered_through_the_proxy(simulator):
    with httpx.Client(proxy=simulator.url) as client:
        answer = client.get("http://schemas.xmlsoap.org/soap/encoding/")
    assert 'name="Array"' in answer.text
    assert "arrayType" in answer.text


def test_https_through_the_proxy_is_refused_with_the_way_out(simulator):
    with httpx.Client(proxy=simulator.url) as client, pytest.raises(httpx.ProxyError, match="501"):
        client.get("https://api.sms.ir/v1/credit")


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_another_sites_page_presses_no_button(http, headers):
    values = {"gateway": "raygan", "fault": "down", "on": "1"}
    for path in ("/faults", "/_api/faults", "/raygan/api/smsAPI/GetCredit"):
        assert http.post(path, data=values, headers=headers).status_code == 403
    assert http.get("/_api/faults").json() == []


# The page


def test_the_page_shows_messages_calls_and_requests_without_a_script(http, clock):
    send(http, "<b>code</b> 123456")
    http.post(
        "/wikipayam/api/v1/voice-otp/send", headers=BEARER,
        json={"receiver": "09121112233", "code": "4821"},
    )  # fmt: skip
    page = http.get("/")
    assert "&lt;b&gt;code&lt;/b&gt; <mark>123456</mark>" in page.text
    assert "چهار، هشت، دو، یک" in page.text
    assert "POST /wikipayam/api/v1/voice-otp/send" in page.text
    assert "delivered" not in page.text
    clock.advance(5)
    assert "delivered" in http.get("/").text


def test_the_page_needs_nothing_inline_and_nothing_from_outside(http):
    page = http.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "style=" not in page.text
    assert "onclick" not in page.text
    assert page.text.count("<script") == page.text.count('<script src="/static/')
    assert "https://" not in page.text
    for name in ("simulator.css", "simulator.js"):
        assert f"/static/{name}" in page.text
        assert http.get(f"/static/{name}").status_code == 200


def test_a_fault_is_switched_by_a_plain_form(http):
    values = {"gateway": "raygan", "fault": "refuse", "on": "1", "lang": "fa"}
    answer = http.post("/faults", data=values)
    assert (answer.status_code, answer.headers["location"]) == (303, "/?lang=fa")
    assert http.get("/_api/faults").json() == [
        {"gateway": "raygan", "fault": "refuse", "times": None}
    ]
    assert 'aria-pressed="true"' in http.get("/").text
    http.post("/faults", data=values | {"on": "0"})
    assert http.get("/_api/faults").json() == []


def test_the_page_speaks_persian_too(http):
    page = http.get("/?lang=fa").text
    assert '<html lang="fa" dir="rtl">' in page
    assert "شبیه‌ساز پیامک" in page


def test_one_writes_from_the_phone_by_a_plain_form(http):
    values = {"gateway": "wikipayam", "from": "09123456789", "to": "10002000", "text": "سلام"}
    assert http.post("/incoming", data=values).status_code == 303
    count = http.get("/wikipayam/api/v1/receives/unread/count", headers=BEARER).json()
    assert count == {"data": {"unread_count": 1}}
    assert http.post("/incoming", data=values | {"from": "x"}).status_code == 422


# Where it runs


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "example.com", "", "::"])  # noqa: S104  # refused
def test_it_listens_on_loopback_only(host):
    with pytest.raises(ValueError, match="loopback"):
        Simulator(host)


def test_it_does_not_run_inside_a_production_app():
    app = Flask("shop")
    with app.app_context(), pytest.raises(RuntimeError, match="production"):
        create_simulator()
    app.testing = True
    with app.app_context():
        create_simulator()


def test_it_stops_at_once_while_a_client_is_kept_waiting():
    with running() as simulator:
        simulator.fault("raygan", "timeout")
        address = simulator.url.removeprefix("http://").split(":")
        waiting = socket.create_connection((address[0], int(address[1])), timeout=4)
        waiting.sendall(b"POST /raygan/api/smsAPI/GetCredit HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while not simulator.world.requests:
            time.sleep(0.01)
    with waiting:
        assert waiting.recv(1) == b""
    with pytest.raises(httpx.ConnectError):
        httpx.get(simulator.url, trust_env=False)


def test_a_taken_port_is_an_error_and_not_an_exit():
    with running() as simulator:
        port = int(simulator.url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            Simulator(port=port)


def test_it_imports_nothing_of_the_sending_side_and_no_xml_until_it_is_asked():
    folder = Path(package.__file__).parent
    for file in folder.rglob("*.py"):
        tree = ast.parse(file.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert node.level < 2, file
            names = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import)
                else [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level
                else []
            )  # fmt: skip
            assert not [name for name in names if name.startswith("flask_smsverify")], file
            assert not {"zeep", "requests", "httpx"} & {name.split(".")[0] for name in names}, file
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert "lxml" not in ast.dump(ast.Module(top, [])), file
