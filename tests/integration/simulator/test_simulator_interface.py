"""The simulator itself: JSON API, phone page, allowed hosts, and where it may run."""

import ast
import base64
import html
import re
import socket
import time
from pathlib import Path

import httpx
import pytest
from flask import Flask

import flask_smsverify.simulator as package
from flask_smsverify.simulator import FAULTS, Simulator, create_simulator, running
from flask_smsverify.simulator.page_texts import FAULT_DESCRIPTIONS_FA, PAGE_TEXTS

BEARER = {"Authorization": "Bearer hush"}
PERSIAN_DIGITS = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")


def send(http: httpx.Client, text: str = "کد تأیید شما: 123456", to: str = "09123456789") -> None:
    row = {"sender": "10002000", "receiver": to, "message": text}
    response = http.post("/wikipayam/api/v1/sms/send", json=[row], headers=BEARER)
    assert response.status_code == 200


def connect(simulator: Simulator) -> socket.socket:
    host, port = simulator.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


# Messages


def test_a_message_has_the_documented_members(http):
    send(http)
    (message,) = http.get("/_api/messages").json()
    assert message.pop("id")
    assert message == {
        "gateway": "wikipayam", "channel": "sms", "from": "10002000", "to": "+989123456789",
        "text": "کد تأیید شما: 123456", "code": "123456", "state": "queued",
        "at": "2026-03-21T08:30:00.000Z",
    }  # fmt: skip


def test_messages_are_listed_newest_first_and_by_mobile(http, clock):
    send(http, "one")
    clock.advance(1)
    send(http, "two")
    send(http, "three", to="09121112233")
    assert [m["text"] for m in http.get("/_api/messages").json()] == ["three", "two", "one"]
    for spelling in ("+989123456789", "09123456789", "9123456789"):
        found = http.get("/_api/messages", params={"to": spelling}).json()
        assert [m["text"] for m in found] == ["two", "one"], spelling
    assert http.get("/_api/messages?to=%20989123456789&limit=1").json()[0]["text"] == "two"
    assert http.get("/_api/messages?to=nobody").status_code == 422


def test_deleted_messages_are_gone(http):
    send(http)
    send(http, to="09121112233")
    assert http.delete("/_api/messages?to=09121112233").status_code == 204
    assert len(http.get("/_api/messages").json()) == 1
    http.delete("/_api/messages")
    assert http.get("/_api/messages").json() == []


def test_a_code_is_found_in_a_text_that_contains_one(http):
    cases = [
        ("کد تأیید شما: ۱۲۳۴۵۶", "123456"),
        ("Your verification code is: 4821", "4821"),
        ("4821 is your code", "4821"),
        ("Code: 111111\n@example.ir #222222", "222222"),
        ("رمز یکبار مصرف: 77777 برای خرید 120000 ریال", "77777"),
        ("فاکتور 12345 صادر شد", None),
        ("code 123", None),
        ("Call 02188776655", None),
        ("Your code will come on 2026/03/21", None),
    ]
    for text, code in cases:
        send(http, text)
        assert http.get("/_api/messages").json()[0]["code"] == code, text


# Incoming


def test_an_incoming_message_needs_a_mobile_and_a_line(http):
    body = {"gateway": "raygan", "from": "0912 1", "to": "5000", "text": "x"}
    assert http.post("/_api/incoming", json=body).status_code == 422
    response = http.post("/_api/incoming", json=body | {"from": "+989121112233"})
    assert response.status_code == 201
    assert response.json()["pushed"] is None
    assert http.post("/_api/incoming", json=body | {"to": " "}).status_code == 422


# Requests


def test_a_request_is_recorded_as_it_was_received(http):
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


def test_credentials_are_masked_in_every_part_of_a_request(http, capfd):
    cases = [
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
    ]  # fmt: skip
    basic = base64.b64encode(f"u:{SECRET}".encode()).decode()
    for path, sent in cases:
        http.post(path, **sent)
        assert len(http.get("/_api/requests").json()) == 1, (path, sent)
        for shown in (http.get("/_api/requests").text, http.get("/").text):
            assert SECRET not in shown, (path, sent)
            assert basic not in shown, (path, sent)
        http.delete("/_api/requests")
    assert SECRET not in "".join(capfd.readouterr())


def test_an_unknown_call_is_recorded_too(http):
    assert http.get("/raygan/api/smsAPI/SendMessage").status_code == 405
    assert http.post("/wikipayam/v1/sms/send").status_code == 404
    shown = [(r["path"], r["status"]) for r in http.get("/_api/requests").json()]
    assert shown == [("/wikipayam/v1/sms/send", 404), ("/raygan/api/smsAPI/SendMessage", 405)]


def test_a_password_that_is_a_number_is_masked(http):
    http.post("/asanak/webservice/v2rest/getcredit", json={"username": "u", "password": 987654321})
    assert "987654321" not in http.get("/_api/requests").text


# Hosts


def test_an_unknown_host_is_refused(http):
    for host in ("evil.example", "127.0.0.1.evil.example", "", "169.254.1.1"):
        for path in ("/", "/_api/messages", "/raygan/api/smsAPI/GetCredit"):
            assert http.get(path, headers={"Host": host}).status_code == 421, (host, path)


def test_a_loopback_host_is_accepted(http):
    for host in ("localhost", "LOCALHOST:8025", "127.0.0.1", "[::1]:8025"):
        assert http.get("/_api/messages", headers={"Host": host}).status_code == 200, host


def test_a_gateways_host_name_reaches_that_gateway_only(http):
    host = {"Host": "RayganSMS.com:80"}
    response = http.post("/api/smsAPI/GetCredit", headers=host, json={}, auth=("u", "p"))
    assert response.json()["Code"] == 0
    assert http.get("/_api/messages", headers=host).status_code == 404
    assert http.get("/", headers=host).status_code == 404


def test_a_proxied_request_is_routed_by_its_host(simulator, http):
    cases = [
        ("raygansms.com", "/api/smsAPI/SendMessage", "raygan"),
        ("smspanel.trez.ir", "/api/smsAPI/SendAutoCode", "raygan"),
        ("wikipayam.ir", "/api/v1/sms/send", "wikipayam"),
        ("api.payamak-panel.com", "/post/Send.asmx", "melipayamak"),
        ("rest.payamak-panel.com", "/api/SendSMS/SendSMS", "melipayamak"),
        ("panel.asanak.com", "/webservice/v1rest/sendsms", "asanak"),
        ("sms.asanak.ir", "/webservice/v2rest/sendsms", "asanak"),
        ("api.sms.ir", "/v1/send/verify", "smsir"),
        ("RestfulSms.com", "/api/Token", "smsir"),
    ]
    for host, path, gateway in cases:
        with connect(simulator) as connection:
            connection.sendall(
                f"POST http://{host}{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n"
                "Connection: close\r\n\r\n".encode()
            )
            response = b"".join(iter(lambda c=connection: c.recv(65536), b""))
        assert response.startswith(b"HTTP/1.1 "), host
        assert response.split()[1] not in (b"404", b"421"), host
        recorded = http.get("/_api/requests").json()[0]
        assert (recorded["gateway"], recorded["host"], recorded["path"]) == (gateway, host, path)


def test_the_soap_encoding_schema_is_served_through_the_proxy(simulator):
    with httpx.Client(proxy=simulator.url) as client:
        response = client.get("http://schemas.xmlsoap.org/soap/encoding/")
    assert 'name="Array"' in response.text
    assert "arrayType" in response.text


def test_https_through_the_proxy_is_refused(simulator):
    with httpx.Client(proxy=simulator.url) as client, pytest.raises(httpx.ProxyError, match="501"):
        client.get("https://api.sms.ir/v1/credit")


def test_a_page_of_another_site_cannot_post(http):
    values = {"gateway": "raygan", "fault": "down", "on": "1"}
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        for path in ("/faults", "/_api/faults", "/raygan/api/smsAPI/GetCredit"):
            response = http.post(path, data=values, headers=headers)
            assert response.status_code == 403, (headers, path)
    assert http.get("/_api/faults").json() == []


# The page


def test_the_page_shows_messages_calls_and_requests_without_javascript(http, clock):
    send(http, "<b>code</b> 123456")
    http.post(
        "/wikipayam/api/v1/voice-otp/send", headers=BEARER,
        json={"receiver": "09121112233", "code": "4821"},
    )  # fmt: skip
    page = http.get("/")
    assert "&lt;b&gt;code&lt;/b&gt; <mark>123456</mark>" in page.text
    assert "چهار، هشت، دو، یک" in page.text
    assert "POST /wikipayam/api/v1/voice-otp/send" in page.text
    assert 'class="state delivered"' not in page.text
    clock.advance(5)
    assert '<span class="state delivered">Delivered</span>' in http.get("/").text


def test_the_page_has_no_inline_code_and_no_external_files(http):
    page = http.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "style=" not in page.text
    assert "onclick" not in page.text
    assert page.text.count("<script") == page.text.count('<script src="/static/')
    assert "https://" not in page.text
    for name in ("simulator.css", "simulator.js"):
        assert f"/static/{name}" in page.text
        assert http.get(f"/static/{name}").status_code == 200


def test_a_plain_form_switches_a_fault(http):
    values = {"gateway": "raygan", "fault": "refuse", "on": "1", "lang": "fa"}
    response = http.post("/faults", data=values)
    assert (response.status_code, response.headers["location"]) == (303, "/?lang=fa")
    assert http.get("/_api/faults").json() == [
        {"gateway": "raygan", "fault": "refuse", "times": None}
    ]
    assert "Number refused: Switch off" in http.get("/").text
    http.post("/faults", data=values | {"on": "0"})
    assert http.get("/_api/faults").json() == []


def test_the_menu_of_faults_sets_error_codes_and_states(http):
    page = html.unescape(http.get("/?lang=fa").text)
    raygan = page[page.index('id="gateway-raygan"') : page.index('id="gateway-wikipayam"')]
    [code, *_] = re.findall('<option value="code (-?[0-9]+)">', raygan)
    for choice in (f"code {code}", "state undelivered"):
        assert f'<option value="{choice}">' in raygan
        values = {"gateway": "raygan", "fault": choice, "on": "1"}
        assert http.post("/faults", data=values).status_code == 303
    on = {one["fault"]: one for one in http.get("/_api/faults").json()}
    assert (str(on["code"]["code"]), on["state"]["state"]) == (code, "undelivered")
    shown = http.get("/?lang=fa").text
    assert f"کد خطا <bdi>{code.translate(PERSIAN_DIGITS)}</bdi>: خاموش کردن" in shown
    assert "وضعیت پیام <bdi>تحویل نشد</bdi>: خاموش کردن" in shown


def test_an_idle_gateway_is_folded(http):
    def opened() -> list[str]:
        return re.findall('id="gateway-([a-z]+)" open', http.get("/").text)

    assert opened() == []
    send(http)
    assert len(opened()) == 1
    http.post("/faults", data={"gateway": "smsir", "fault": "slow", "on": "1"})
    assert len(opened()) == 2
    assert "smsir" in opened()


def test_the_page_shows_one_of_several_phones(http):
    send(http)
    assert "All phones" not in http.get("/").text
    send(http, to="09351112233")
    page = http.get("/").text
    assert "All phones" in page
    assert page.count('class="bubble"') == 2
    one = http.get("/", params={"to": "+989351112233"}).text
    assert one.count('class="bubble"') == 1
    assert 'dir="ltr" aria-current="true">+989351112233</a>' in one
    values = {"gateway": "raygan", "fault": "slow", "on": "1", "phone": "+989351112233"}
    assert http.post("/faults", data=values).headers["location"] == "/?to=%2B989351112233"


@pytest.mark.parametrize(
    ("header", "path", "language"),
    [
        ("fa-IR,fa;q=0.9,en;q=0.8", "/", "fa"),
        ("en-GB,fa;q=0.5", "/", "en"),
        ("de", "/", "en"),
        ("fa-IR", "/?lang=en", "en"),
        ("en", "/?lang=fa", "fa"),
    ],
)
def test_the_page_is_in_the_chosen_language_or_the_browsers(http, header, path, language):
    page = http.get(path, headers={"Accept-Language": header}).text
    assert f'<html lang="{language}"' in page


def test_the_page_has_all_texts_in_both_languages():
    english, persian = (set(PAGE_TEXTS[language]) for language in ("en", "fa"))
    assert english == persian
    assert set(FAULTS) < english
    assert set(FAULT_DESCRIPTIONS_FA) == set(FAULTS)


def test_the_page_is_right_to_left_in_persian(http):
    page = http.get("/?lang=fa").text
    assert '<html lang="fa" dir="rtl">' in page
    assert "شبیه‌ساز پیامک" in page


def test_the_page_shows_numbers_in_the_digits_of_its_language(http):
    send(http)
    english, persian = http.get("/").text, http.get("/?lang=fa").text
    assert "+989123456789" in english
    assert "999,998,600" in english
    assert "۰۹۱۲ ۳۴۵ ۶۷۸۹" in persian
    assert "۹۹۹٬۹۹۸٬۶۰۰" in persian


def test_every_text_of_the_page_is_rendered(http):
    send(http)
    for language in ("en", "fa"):
        page = html.unescape(http.get("/", params={"lang": language}).text)
        assert "built-in method" not in page, "a text has the name of a method of dict"
        for name in ("title", "lead", "phone", "gateways", "reply", "clear_lists", "send"):
            assert PAGE_TEXTS[language][name] in page, (language, name)


def test_a_plain_form_sends_a_message_from_the_phone(http):
    values = {"gateway": "wikipayam", "from": "09123456789", "to": "10002000", "text": "سلام"}
    assert http.post("/incoming", data=values).status_code == 303
    count = http.get("/wikipayam/api/v1/receives/unread/count", headers=BEARER).json()
    assert count == {"data": {"unread_count": 1}}
    assert http.post("/incoming", data=values | {"from": "x"}).status_code == 422


# Where it runs


def test_the_simulator_listens_on_loopback_only():
    for host in ("0.0.0.0", "192.168.1.2", "example.com", "", "::"):  # noqa: S104  # refused
        with pytest.raises(ValueError, match="loopback"):
            Simulator(host)


def test_the_simulator_does_not_run_inside_a_production_app():
    app = Flask("shop")
    with app.app_context(), pytest.raises(RuntimeError, match="production"):
        create_simulator()
    app.testing = True
    with app.app_context():
        create_simulator()


def test_stopping_ends_a_request_under_the_fault_timeout():
    with running() as simulator:
        simulator.fault("raygan", "timeout")
        waiting = connect(simulator)
        waiting.sendall(b"POST /raygan/api/smsAPI/GetCredit HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while not simulator.state.requests:
            time.sleep(0.01)
    with waiting:
        assert waiting.recv(1) == b""
    with pytest.raises(httpx.ConnectError):
        httpx.get(simulator.url, trust_env=False)


def test_a_port_in_use_raises_oserror():
    with running() as simulator:
        port = int(simulator.url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            Simulator(port=port)


def test_the_simulator_imports_no_sender_and_loads_lxml_on_demand():
    folder = Path(package.__file__).parent
    for file in folder.rglob("*.py"):
        tree = ast.parse(file.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                package_of_file = file.relative_to(folder).parent.parts
                assert node.level <= len(package_of_file) + 1, f"{file} imports from outside"
            names = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import)
                else [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level
                else []
            )  # fmt: skip
            assert not [name for name in names if name.startswith("flask_smsverify")], file
            assert not {"zeep", "requests", "httpx"} & {name.split(".")[0] for name in names}, file
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert "lxml" not in ast.dump(ast.Module(top, [])), file
