"""The simulated Asanak: v1 against the samples in its guide, v2 as its clients call it."""

import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

V1 = "/asanak/webservice/v1rest"
V2 = "/asanak/webservice/v2rest"
ACCOUNT = {"username": "yourUsername", "password": "yourPass"}
SEND = ACCOUNT | {"source": "982164063188", "destination": "09123456789", "message": "test"}


def test_sendsms_returns_ids_as_text_by_default(http, simulator):
    response = http.post(f"{V1}/sendsms", data=SEND | {"destination": "09123456789,09121112233"})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    assert re.fullmatch(r"\[\d+, \d+\]", response.text)
    assert [m["to"] for m in simulator.messages()] == ["+989121112233", "+989123456789"]


def test_sendsms_returns_ids_as_xml_or_json_as_accept_requests(http):
    for accept in ("application/xhtml", "text/xml", "application/xhtml+xml"):
        response = http.post(f"{V1}/sendsms", data=SEND, headers={"Accept": accept})
        assert response.headers["content-type"].startswith("text/xml"), accept
        assert re.fullmatch(r"<response><MsgID>\d+</MsgID></response>", response.text), accept
    response = http.post(f"{V1}/sendsms", data=SEND, headers={"Accept": "application/json"})
    assert response.headers["content-type"].startswith("application/json")
    assert isinstance(response.json()[0], int)


def test_get_requests_send_and_hyphens_separate_recipients(http, simulator):
    http.get(f"{V1}/sendsms", params=SEND | {"destination": "09123456789-9891211122 33"})
    assert simulator.messages() == []
    http.get(f"{V1}/sendsms", params=SEND | {"destination": "09123456789-989121112233"})
    assert len(simulator.messages()) == 2


def test_states_are_strings_with_times_in_tehran(http, clock):
    (ref,) = http.post(f"{V1}/sendsms", data=SEND).json()
    ask = ACCOUNT | {"msgid": f"{ref},77"}
    queued, unknown = http.post(f"{V1}/msgstatus", data=ask).json()
    assert queued == {
        "MsgID": str(ref), "Status": "1", "SendTime": "2026-03-21 12:00:00",
        "DeliverTime": "0000-00-00",
    }  # fmt: skip
    assert unknown["Status"] == "-1"
    clock.advance(2)
    assert http.post(f"{V1}/msgstatus", data=ask).json()[0]["Status"] == "2"
    clock.advance(2)
    delivered = http.post(f"{V1}/msgstatus", data=ask).json()[0]
    assert (delivered["Status"], delivered["DeliverTime"]) == ("6", "2026-03-21 12:00:03")


def test_states_as_xml_match_the_sample(http):
    (ref,) = http.post(f"{V1}/sendsms", data=SEND).json()
    response = http.post(
        f"{V1}/msgstatus", data=ACCOUNT | {"msgid": ref}, headers={"Accept": "application/xhtml"}
    )
    assert response.text == (
        f"<response><MsgStatus><MsgID>{ref}</MsgID><Status>1</Status>"
        "<SendTime>2026-03-21 12:00:00</SendTime><DeliverTime>0000-00-00</DeliverTime>"
        "</MsgStatus></response>"
    )


def test_a_send_reduces_the_credit(http):
    before = int(http.post(f"{V1}/getcredit", data=ACCOUNT).text)
    http.post(f"{V1}/sendsms", data=SEND)
    assert int(http.post(f"{V1}/getcredit", data=ACCOUNT).text) == before - 1


def test_v1_and_v2_each_report_the_same_error_in_their_own_form(http, simulator):
    cases = [
        ({"password": ""}, "Username or Password is not valid", 401, 1008),
        ({"source": "x"}, "Source Number is not valid", 406, 1002),
        ({"destination": "09123456789,12"}, "Destination Number is not valid", 406, 1010),
        ({"destination": ",".join(["09123456789"] * 101)},
         "Destination count is more than 100", 406, 1010),
        ({"message": ""}, "Message is not valid", 422, 1003),
    ]  # fmt: skip
    for change, message, v2_http, v2_code in cases:
        sent = SEND | change
        text = http.post(f"{V1}/sendsms", data=sent)
        assert (text.status_code, text.text) == (200, message)
        as_json = http.post(f"{V1}/sendsms", data=sent, headers={"Accept": "application/json"})
        assert (as_json.status_code, as_json.json()["status"]) == (200, v2_code), message
        v2 = http.post(f"{V2}/sendsms", json=sent)
        assert (v2.status_code, v2.json()["meta"]["status"]) == (v2_http, v2_code), message
        assert simulator.messages() == [], message


def test_v2_returns_meta_and_data(http, simulator):
    response = http.post(f"{V2}/sendsms", json=SEND).json()
    assert response["meta"] == {"status": 200, "message": "success"}
    (ref,) = response["data"]
    state = http.post(f"{V2}/msgstatus", json=ACCOUNT | {"msgid": str(ref)}).json()
    assert state["data"][0]["MsgID"] == str(ref)
    http.post(f"{V2}/template", json=ACCOUNT | {
        "template_id": 5, "parameters": {"code": "4821"}, "destination": "09123456789",
    })  # fmt: skip
    assert simulator.messages()[0]["code"] == "4821"
    rows = [{"source": "9821", "destination": "09123456789", "message": text} for text in "ab"]
    assert len(http.post(f"{V2}/p2psendsms", json=ACCOUNT | {"data": rows}).json()["data"]) == 2
    assert http.post(f"{V2}/getcredit", json=ACCOUNT).json()["data"]["credit"] == 999_999_996


class _Webhook(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.paths.append(self.path)  # type: ignore[attr-defined]  # set by the fixture
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def webhook():
    with HTTPServer(("127.0.0.1", 0), _Webhook) as server:
        server.paths = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


INCOMING = {"gateway": "asanak", "from": "+989123456789", "to": "982164063188", "text": "سلام + 1"}
PUSHED = {
    "Destination": ["982164063188"],
    "Source": ["989123456789"],
    "ReceiveTime": ["2026-03-21 12:00:00"],
    "MsgBody": ["سلام + 1"],
}


def test_a_received_message_is_pushed_to_the_given_url(http, webhook):
    url = f"http://127.0.0.1:{webhook.server_port}/getsms?key=1"
    response = http.post("/_api/incoming", json=INCOMING | {"push_url": url})
    assert response.status_code == 201
    assert response.json()["pushed"] == {"url": url, "status": 204}
    assert parse_qs(urlsplit(webhook.paths[0]).query) == {"key": ["1"], **PUSHED}


def test_a_push_url_can_be_set_once(http, webhook):
    url = f"http://localhost:{webhook.server_port}/getsms"
    assert http.post("/_api/push", json={"gateway": "asanak", "push_url": url}).is_success
    http.post("/_api/incoming", json=INCOMING)
    assert parse_qs(urlsplit(webhook.paths[0]).query) == PUSHED


def test_a_failed_push_is_reported(http, webhook):
    url = "http://127.0.0.1:9/"
    pushed = http.post("/_api/incoming", json=INCOMING | {"push_url": url}).json()["pushed"]
    assert "refused" in pushed["error"]


def test_a_push_url_must_be_http_on_loopback(http):
    urls = ("http://example.com/", "https://127.0.0.1/", "file:///etc/passwd", "//127.0.0.1", "x")
    for url in urls:
        response = http.post("/_api/incoming", json=INCOMING | {"push_url": url})
        assert response.status_code == 422, url
        assert "push_url" in response.json()["error"], url


def test_a_gateway_that_does_not_push_refuses_a_push_url(http):
    body = INCOMING | {"gateway": "raygan", "push_url": "http://127.0.0.1:1/"}
    response = http.post("/_api/incoming", json=body)
    assert response.status_code == 422
    assert response.json()["allowed"] == ["asanak"]


def test_credentials_in_a_query_are_masked(http):
    with httpx.Client(base_url=str(http.base_url), trust_env=False) as client:
        client.get(f"{V1}/getcredit", params={"Username": "me", "Password": "hush"})
    (request,) = http.get("/_api/requests").json()
    assert request["query"] == "Username=me&Password=•••"
