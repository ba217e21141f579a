"""Asanak's side: v1 against the samples in its guide, v2 as its clients call it."""

import json
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


def test_the_sample_of_send_is_answered_as_text(http, simulator):
    answer = http.post(f"{V1}/sendsms", data=SEND | {"destination": "09123456789,09121112233"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert re.fullmatch(r"\[\d+, \d+\]", answer.text)
    assert [m["to"] for m in simulator.messages()] == ["+989121112233", "+989123456789"]


@pytest.mark.parametrize("accept", ["application/xhtml", "text/xml", "application/xhtml+xml"])
def test_ids_come_as_xml_where_it_is_accepted(http, accept):
    answer = http.post(f"{V1}/sendsms", data=SEND, headers={"Accept": accept})
    assert answer.headers["content-type"].startswith("text/xml")
    assert re.fullmatch(r"<response><MsgID>\d+</MsgID></response>", answer.text)


def test_ids_come_as_json_where_it_is_accepted(http):
    answer = http.post(f"{V1}/sendsms", data=SEND, headers={"Accept": "application/json"})
    assert answer.headers["content-type"].startswith("application/json")
    assert isinstance(answer.json()[0], int)


def test_get_sends_too_and_hyphens_join_recipients(http, simulator):
    http.get(f"{V1}/sendsms", params=SEND | {"destination": "09123456789-9891211122 33"})
    assert simulator.messages() == []
    http.get(f"{V1}/sendsms", params=SEND | {"destination": "09123456789-989121112233"})
    assert len(simulator.messages()) == 2


def test_states_are_strings_with_times_of_tehran(http, clock):
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


def test_states_as_xml_have_the_members_of_the_sample(http):
    (ref,) = http.post(f"{V1}/sendsms", data=SEND).json()
    answer = http.post(
        f"{V1}/msgstatus", data=ACCOUNT | {"msgid": ref}, headers={"Accept": "application/xhtml"}
    )
    assert answer.text == (
        f"<response><MsgStatus><MsgID>{ref}</MsgID><Status>1</Status>"
        "<SendTime>2026-03-21 12:00:00</SendTime><DeliverTime>0000-00-00</DeliverTime>"
        "</MsgStatus></response>"
    )


def test_credit_falls(http):
    before = int(http.post(f"{V1}/getcredit", data=ACCOUNT).text)
    http.post(f"{V1}/sendsms", data=SEND)
    assert int(http.post(f"{V1}/getcredit", data=ACCOUNT).text) == before - 1


@pytest.mark.parametrize(
    ("more", "message", "v2_http", "v2_code"),
    [
        ({"password": ""}, "Username or Password is not valid", 401, 1008),
        ({"source": "x"}, "Source Number is not valid", 406, 1002),
        ({"destination": "09123456789,12"}, "Destination Number is not valid", 406, 1010),
        ({"destination": ",".join(["09123456789"] * 101)},
         "Destination count is more than 100", 406, 1010),
        ({"message": ""}, "Message is not valid", 422, 1003),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_as_each_version_says_it(
    http, simulator, more, message, v2_http, v2_code
):
    text = http.post(f"{V1}/sendsms", data=SEND | more)
    assert (text.status_code, text.text) == (200, message)
    as_json = http.post(f"{V1}/sendsms", data=SEND | more, headers={"Accept": "application/json"})
    assert (as_json.status_code, as_json.json()["status"]) == (200, v2_code)
    v2 = http.post(f"{V2}/sendsms", json=SEND | more)
    assert (v2.status_code, v2.json()["meta"]["status"]) == (v2_http, v2_code)
    assert simulator.messages() == []


def test_v2_answers_meta_and_data(http, simulator):
    answer = http.post(f"{V2}/sendsms", json=SEND).json()
    assert answer["meta"] == {"status": 200, "message": "success"}
    (ref,) = answer["data"]
    state = http.post(f"{V2}/msgstatus", json=ACCOUNT | {"msgid": str(ref)}).json()
    assert state["data"][0]["MsgID"] == str(ref)
    http.post(f"{V2}/template", json=ACCOUNT | {
        "template_id": 5, "parameters": {"code": "4821"}, "destination": "09123456789",
    })  # fmt: skip
    assert simulator.messages()[0]["code"] == "4821"
    rows = [{"source": "9821", "destination": "09123456789", "message": text} for text in "ab"]
    assert len(http.post(f"{V2}/p2psendsms", json=ACCOUNT | {"data": rows}).json()["data"]) == 2
    assert http.post(f"{V2}/getcredit", json=ACCOUNT).json()["data"]["credit"] == 999_999_996


class _Hook(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]  # the test's own list
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def hook():
    with HTTPServer(("127.0.0.1", 0), _Hook) as server:
        server.asked = []
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


def test_a_received_message_is_pushed_on(http, hook):
    url = f"http://127.0.0.1:{hook.server_port}/getsms?key=1"
    answer = http.post("/_api/incoming", json=INCOMING | {"push_url": url})
    assert answer.status_code == 201
    assert answer.json()["pushed"] == {"url": url, "status": 204}
    assert parse_qs(urlsplit(hook.asked[0]).query) == {"key": ["1"], **PUSHED}


def test_the_address_to_push_to_can_be_set_once(http, hook):
    url = f"http://localhost:{hook.server_port}/getsms"
    assert http.post("/_api/push", json={"gateway": "asanak", "push_url": url}).is_success
    http.post("/_api/incoming", json=INCOMING)
    assert parse_qs(urlsplit(hook.asked[0]).query) == PUSHED


def test_a_push_that_nobody_takes_says_so(http, hook):
    url = "http://127.0.0.1:9/"
    pushed = http.post("/_api/incoming", json=INCOMING | {"push_url": url}).json()["pushed"]
    assert "refused" in pushed["error"]


@pytest.mark.parametrize(
    "url", ["http://example.com/", "https://127.0.0.1/", "file:///etc/passwd", "//127.0.0.1", "x"]
)
def test_nothing_is_pushed_off_this_machine(http, url):
    answer = http.post("/_api/incoming", json=INCOMING | {"push_url": url})
    assert answer.status_code == 422
    assert "push_url" in json.loads(answer.text)["error"]


def test_a_gateway_that_does_not_push_takes_no_address(http):
    body = INCOMING | {"gateway": "raygan", "push_url": "http://127.0.0.1:1/"}
    answer = http.post("/_api/incoming", json=body)
    assert answer.status_code == 422
    assert answer.json()["allowed"] == ["asanak"]


def test_credentials_in_a_query_are_masked(http):
    with httpx.Client(base_url=str(http.base_url), trust_env=False) as client:
        client.get(f"{V1}/getcredit", params={"Username": "me", "Password": "hush"})
    (request,) = http.get("/_api/requests").json()
    assert request["query"] == "Username=me&Password=•••"
