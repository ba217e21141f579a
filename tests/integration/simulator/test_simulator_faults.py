"""The faults: those of the network, and those that each gateway reports in its own way."""

import threading
import time
from collections.abc import Callable
from itertools import pairwise

import httpx
import pytest
from simulated_sends import (
    asanak,
    asanak_v2,
    melipayamak,
    raygan,
    smsir,
    smsir_legacy,
    wikipayam,
)

Send = Callable[[httpx.Client], httpx.Response]
SENDS: list[Send] = [raygan, wikipayam, melipayamak, asanak, smsir]


def gateway_of(send: Send) -> str:
    return send.__name__.partition("_")[0]


def enable(http: httpx.Client, gateway: str, fault: str, times: int | None = None) -> None:
    body = {"gateway": gateway, "fault": fault, "times": times}
    response = http.post("/_api/faults", json=body)
    assert (response.status_code, response.json()) == (201, body)


def statuses(http: httpx.Client) -> list[object]:
    return [request["status"] for request in http.get("/_api/requests").json()]


def test_slow_delays_the_response_of_every_gateway(http, simulator):
    for send in SENDS:
        simulator.reset()
        enable(http, gateway_of(send), "slow", 1)
        before = time.monotonic()
        assert send(http).is_success, send
        assert time.monotonic() - before >= 0.3, send
        assert len(simulator.messages()) == 1, send


def test_timeout_sends_neither_a_response_nor_a_message(http, simulator):
    impatient = httpx.Timeout(30, read=0.2)
    for send in (raygan, melipayamak):
        simulator.reset()
        enable(http, gateway_of(send), "timeout")
        with httpx.Client(base_url=simulator.url, trust_env=False, timeout=impatient) as client:
            with pytest.raises(httpx.ReadTimeout):
                send(client)
            while not simulator.state.requests:  # a busy machine may not have read it yet
                time.sleep(0.01)
        assert simulator.messages() == [], send
        assert statuses(http) == [None], send


def test_http_500_sends_no_message_at_any_gateway(http, simulator):
    for send in SENDS:
        enable(http, gateway_of(send), "http_500")
        response = send(http)
        assert response.status_code == 500, send
        assert response.headers["content-type"].startswith("text/html"), send
        assert simulator.messages() == [], send


def test_down_resets_the_connection_and_sends_no_message_at_any_gateway(http, simulator):
    for send in SENDS:
        enable(http, gateway_of(send), "down")
        with pytest.raises((httpx.ReadError, httpx.WriteError)):
            send(http)
        assert simulator.messages() == [], send


def test_lost_answer_delivers_the_message_without_a_response_at_every_gateway(http, simulator):
    for send in SENDS:
        simulator.reset()
        enable(http, gateway_of(send), "lost_answer", 1)
        with pytest.raises(httpx.RemoteProtocolError):
            send(http)
        assert len(simulator.messages()) == 1, send
        assert statuses(http) == [None], send
        assert send(http).is_success, send


def test_lost_answer_affects_a_call_and_not_its_token(http, simulator):
    enable(http, "smsir", "lost_answer", 1)
    with pytest.raises(httpx.RemoteProtocolError):
        smsir_legacy(http)
    assert len(simulator.messages()) == 1


def test_late_delivery_delays_the_message_of_every_gateway(http, simulator, clock):
    for send in SENDS:
        simulator.reset()
        enable(http, gateway_of(send), "late_delivery", 1)
        assert send(http).is_success, send
        clock.advance(29)
        assert simulator.messages() == [], send
        clock.advance(1)
        assert [message["state"] for message in simulator.messages()] == ["delivered"], send


def test_a_late_message_is_not_reported_before_it_arrives(http, clock):
    enable(http, "wikipayam", "late_delivery")
    ids = {"id": [wikipayam(http).json()["data"][0]["id"]]}
    clock.advance(29)
    headers = {"Authorization": "Bearer t"}
    report = http.post("/wikipayam/api/v1/sms/deliver", json=ids, headers=headers).json()
    assert report["data"][0]["deliver_status"] == "WAITING_FOR_UPDATE"


def _has_code(code: int) -> Callable[[httpx.Response], bool]:
    return lambda response: response.status_code == 200 and response.json()["Code"] == code


def _has_result(result: int) -> Callable[[httpx.Response], bool]:
    return lambda response: f"<SendSmsResult>{result}</SendSmsResult>" in response.text


def _has_text(text: str) -> Callable[[httpx.Response], bool]:
    return lambda response: response.status_code == 200 and response.text == text


def _has_status(http_status: int, *path: str | int) -> Callable[[httpx.Response], bool]:
    """Check the HTTP status, and the last of `path` at the members before it."""
    *names, expected = path or (None,)

    def holds(response: httpx.Response) -> bool:
        value = response.json() if names else None
        for name in names:
            value = value[name]
        return response.status_code == http_status and value == expected

    return holds


def test_each_gateway_reports_a_refusal_in_its_own_way(http, simulator):
    cases: list[tuple[Send, str, Callable[[httpx.Response], bool]]] = [
        (raygan, "refuse", _has_code(3004)),
        (raygan, "no_credit", _has_code(3003)),
        (raygan, "bad_credentials", _has_status(401)),
        (wikipayam, "refuse", lambda response: "0.receiver" in response.json()["errors"]),
        (wikipayam, "no_credit", _has_status(402, "message", "Insufficient balance.")),
        (wikipayam, "bad_credentials", _has_status(401, "message", "Unauthenticated.")),
        (melipayamak, "refuse", _has_result(35)),
        (melipayamak, "no_credit", _has_result(2)),
        (melipayamak, "bad_credentials", _has_result(0)),
        (asanak, "refuse", _has_text("Destination Number is not valid")),
        (asanak, "no_credit", _has_text("Credit is not enough")),
        (asanak, "bad_credentials", _has_text("Username or Password is not valid")),
        (asanak_v2, "refuse", _has_status(406, "meta", "status", 1010)),
        (asanak_v2, "no_credit", _has_status(402, "meta", "status", 1006)),
        (asanak_v2, "bad_credentials", _has_status(401, "meta", "status", 1008)),
        (smsir, "refuse", _has_status(400, "status", 115)),
        (smsir, "no_credit", _has_status(400, "status", 102)),
        (smsir, "bad_credentials", _has_status(401, "status", 10)),
        (smsir_legacy, "refuse", _has_status(201, "IsSuccessful", False)),
        (smsir_legacy, "no_credit", _has_status(201, "IsSuccessful", False)),
        (smsir_legacy, "bad_credentials", _has_status(401)),
    ]
    for send, fault, holds in cases:
        simulator.clear_faults()
        enable(http, gateway_of(send), fault)
        response = send(http)
        assert holds(response), (send, fault, response.text)
        assert simulator.messages() == [], (send, fault)


def test_a_fault_affects_as_many_calls_as_requested(http, simulator):
    enable(http, "wikipayam", "http_500", 2)
    assert [wikipayam(http).status_code for _ in range(3)] == [500, 500, 200]
    assert http.get("/_api/faults").json() == []
    assert len(simulator.messages()) == 1


def test_a_credit_report_does_not_count_as_a_call_under_no_credit(http):
    enable(http, "smsir", "no_credit", 1)
    for _ in range(2):
        credit = http.get("/smsir/v1/credit", headers={"X-API-KEY": "k"}).json()
        assert credit["data"] == 0
    assert [smsir(http).status_code for _ in range(2)] == [400, 200]


def test_a_fault_affects_its_own_gateway_only(http):
    enable(http, "raygan", "http_500")
    assert wikipayam(http).is_success


def test_faults_can_be_deleted_one_by_one_per_gateway_or_all(http):
    for gateway, fault in (("raygan", "slow"), ("raygan", "refuse"), ("asanak", "slow"),
                           ("smsir", "slow")):  # fmt: skip
        enable(http, gateway, fault)
    counts = [len(http.get("/_api/faults").json())]
    for query in ({"gateway": "raygan", "fault": "slow"}, {"gateway": "raygan"}, {}):
        assert http.delete("/_api/faults", params=query).status_code == 204
        counts.append(len(http.get("/_api/faults").json()))
    assert counts == [4, 3, 2, 0]


def test_an_invalid_fault_is_refused_with_the_reason(http):
    cases = [
        ({"gateway": "nobody", "fault": "slow"}, "gateway"),
        ({"gateway": "raygan", "fault": "gone"}, "fault"),
        ({"gateway": "raygan", "fault": "slow", "times": 0}, "times"),
        ({"gateway": "raygan", "fault": "slow", "times": "x"}, "times"),
        ([], "JSON object"),
    ]
    for body, word in cases:
        response = http.post("/_api/faults", json=body)
        assert response.status_code == 422, body
        assert word in response.json()["error"], body
        assert http.get("/_api/faults").json() == [], body


def test_a_counted_fault_affects_exactly_that_many_parallel_calls(http, simulator):
    enable(http, "asanak", "refuse", 5)
    responses: list[str] = []

    def send() -> None:
        with httpx.Client(base_url=simulator.url, trust_env=False, timeout=30) as client:
            responses.append(asanak(client).text)

    threads = [threading.Thread(target=send) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert responses.count("Destination Number is not valid") == 5
    ids = sorted(int(text.strip("[]")) for text in responses if text.startswith("["))
    assert len(ids) == 7
    assert all(one < other for one, other in pairwise(ids))
