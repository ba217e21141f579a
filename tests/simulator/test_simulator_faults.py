"""The switches: each fault on the line and in each gateway's own words."""

import threading
import time
from collections.abc import Callable
from itertools import pairwise

import httpx
import pytest

SOAP = (
    '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
    '<SendSms xmlns="http://tempuri.org/"><username>u</username><password>p</password>'
    "<to><string>09123456789</string></to><from>50004001</from><text>salam</text>"
    "<isflash>false</isflash></SendSms></s:Body></s:Envelope>"
)


def raygan(http: httpx.Client) -> httpx.Response:
    body = {"Mobile": "09123456789", "Message": "salam"}
    return http.post("/raygan/api/smsAPI/SendCode", json=body, auth=("u", "p"))


def wikipayam(http: httpx.Client) -> httpx.Response:
    row = {"sender": "10002000", "receiver": "09123456789", "message": "salam"}
    headers = {"Authorization": "Bearer t"}
    return http.post("/wikipayam/api/v1/sms/send", json=[row], headers=headers)


def melipayamak(http: httpx.Client) -> httpx.Response:
    headers = {"Content-Type": "text/xml", "SOAPAction": "http://tempuri.org/SendSms"}
    return http.post("/melipayamak/post/Send.asmx", content=SOAP, headers=headers)


ASANAK = {
    "username": "u", "password": "p", "source": "982100", "destination": "09123456789",
    "message": "salam",
}  # fmt: skip


def asanak(http: httpx.Client) -> httpx.Response:
    return http.post("/asanak/webservice/v1rest/sendsms", data=ASANAK)


def asanak_v2(http: httpx.Client) -> httpx.Response:
    return http.post("/asanak/webservice/v2rest/sendsms", json=ASANAK)


def smsir(http: httpx.Client) -> httpx.Response:
    body = {"lineNumber": 3000, "messageText": "salam", "mobiles": ["09123456789"]}
    return http.post("/smsir/v1/send/bulk", json=body, headers={"X-API-KEY": "k"})


def smsir_legacy(http: httpx.Client) -> httpx.Response:
    keys = {"UserApiKey": "k", "SecretKey": "s"}
    token = http.post("/smsir/api/Token", json=keys).json()["TokenKey"]
    body = {"Code": "1234", "MobileNumber": "09123456789"}
    headers = {"x-sms-ir-secure-token": token or ""}
    return http.post("/smsir/api/VerificationCode", json=body, headers=headers)


Send = Callable[[httpx.Client], httpx.Response]
SENDS: list[Send] = [raygan, wikipayam, melipayamak, asanak, smsir]

every_gateway = pytest.mark.parametrize("send", SENDS, ids=lambda send: send.__name__)


def switch(http: httpx.Client, gateway: str, fault: str, times: int | None = None) -> None:
    body = {"gateway": gateway, "fault": fault, "times": times}
    answer = http.post("/_api/faults", json=body)
    assert (answer.status_code, answer.json()) == (201, body)


def answered(http: httpx.Client) -> list[object]:
    return [request["status"] for request in http.get("/_api/requests").json()]


@every_gateway
def test_slow_answers_after_a_while(http, simulator, send):
    switch(http, send.__name__, "slow", 1)
    before = time.monotonic()
    assert send(http).is_success
    assert time.monotonic() - before >= 0.3
    assert len(simulator.messages()) == 1


@pytest.mark.parametrize("send", [raygan, melipayamak], ids=lambda send: send.__name__)
def test_timeout_never_answers_and_sends_nothing(http, simulator, send):
    switch(http, send.__name__, "timeout")
    hurry = httpx.Timeout(5, read=0.2)
    with (
        httpx.Client(base_url=simulator.url, trust_env=False, timeout=hurry) as hurried,
        pytest.raises(httpx.ReadTimeout),
    ):
        send(hurried)
    assert simulator.messages() == []
    assert answered(http) == [None]


@every_gateway
def test_http_500_sends_nothing(http, simulator, send):
    switch(http, send.__name__, "http_500")
    answer = send(http)
    assert answer.status_code == 500
    assert answer.headers["content-type"].startswith("text/html")
    assert simulator.messages() == []


@every_gateway
def test_down_resets_the_connection_and_sends_nothing(http, simulator, send):
    switch(http, send.__name__, "down")
    with pytest.raises((httpx.ReadError, httpx.WriteError)):
        send(http)
    assert simulator.messages() == []


@every_gateway
def test_lost_answer_delivers_and_closes_without_an_answer(http, simulator, send):
    switch(http, send.__name__, "lost_answer", 1)
    with pytest.raises(httpx.RemoteProtocolError):
        send(http)
    assert len(simulator.messages()) == 1
    assert answered(http) == [None]
    assert send(http).is_success


def test_a_lost_answer_strikes_the_call_and_not_its_token(http, simulator):
    switch(http, "smsir", "lost_answer", 1)
    with pytest.raises(httpx.RemoteProtocolError):
        smsir_legacy(http)
    assert len(simulator.messages()) == 1


@every_gateway
def test_late_delivery_reaches_the_phone_later(http, simulator, clock, send):
    switch(http, send.__name__, "late_delivery", 1)
    assert send(http).is_success
    clock.advance(29)
    assert simulator.messages() == []
    clock.advance(1)
    assert [message["state"] for message in simulator.messages()] == ["delivered"]


def test_a_late_message_is_not_reported_before_it_arrives(http, clock):
    switch(http, "wikipayam", "late_delivery")
    ids = {"id": [wikipayam(http).json()["data"][0]["id"]]}
    clock.advance(29)
    headers = {"Authorization": "Bearer t"}
    report = http.post("/wikipayam/api/v1/sms/deliver", json=ids, headers=headers).json()
    assert report["data"][0]["deliver_status"] == "WAITING_FOR_UPDATE"


def _has_code(code: int) -> Callable[[httpx.Response], bool]:
    return lambda answer: answer.status_code == 200 and answer.json()["Code"] == code


def _has_result(result: int) -> Callable[[httpx.Response], bool]:
    return lambda answer: f"<SendSmsResult>{result}</SendSmsResult>" in answer.text


def _says(text: str) -> Callable[[httpx.Response], bool]:
    return lambda answer: answer.status_code == 200 and answer.text == text


def _is(http_status: int, *path: str | int) -> Callable[[httpx.Response], bool]:
    *names, wanted = path or (None,)

    def holds(answer: httpx.Response) -> bool:
        value = answer.json() if names else None
        for name in names:
            value = value[name]
        return answer.status_code == http_status and value == wanted

    return holds


@pytest.mark.parametrize(
    ("send", "fault", "holds"),
    [
        (raygan, "refuse", _has_code(3004)),
        (raygan, "no_credit", _has_code(3003)),
        (raygan, "bad_credentials", _is(401)),
        (wikipayam, "refuse", lambda answer: "0.receiver" in answer.json()["errors"]),
        (wikipayam, "no_credit", _is(402, "message", "Insufficient balance.")),
        (wikipayam, "bad_credentials", _is(401, "message", "Unauthenticated.")),
        (melipayamak, "refuse", _has_result(35)),
        (melipayamak, "no_credit", _has_result(2)),
        (melipayamak, "bad_credentials", _has_result(0)),
        (asanak, "refuse", _says("Destination Number is not valid")),
        (asanak, "no_credit", _says("Credit is not enough")),
        (asanak, "bad_credentials", _says("Username or Password is not valid")),
        (asanak_v2, "refuse", _is(406, "meta", "status", 1010)),
        (asanak_v2, "no_credit", _is(402, "meta", "status", 1006)),
        (asanak_v2, "bad_credentials", _is(401, "meta", "status", 1008)),
        (smsir, "refuse", _is(400, "status", 115)),
        (smsir, "no_credit", _is(400, "status", 102)),
        (smsir, "bad_credentials", _is(401, "status", 10)),
        (smsir_legacy, "refuse", _is(201, "IsSuccessful", False)),
        (smsir_legacy, "no_credit", _is(201, "IsSuccessful", False)),
        (smsir_legacy, "bad_credentials", _is(401)),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_the_gateway_says_no_in_its_own_words(http, simulator, send, fault, holds):
    switch(http, send.__name__.partition("_")[0], fault)
    assert holds(send(http))
    assert simulator.messages() == []


def test_a_fault_strikes_as_often_as_it_says(http, simulator):
    switch(http, "wikipayam", "http_500", 2)
    assert [wikipayam(http).status_code for _ in range(3)] == [500, 500, 200]
    assert http.get("/_api/faults").json() == []
    assert len(simulator.messages()) == 1


def test_asking_for_the_credit_shows_none_and_uses_no_fault_up(http):
    switch(http, "smsir", "no_credit", 1)
    for _ in range(2):
        credit = http.get("/smsir/v1/credit", headers={"X-API-KEY": "k"}).json()
        assert credit["data"] == 0
    assert [smsir(http).status_code for _ in range(2)] == [400, 200]


def test_a_fault_strikes_its_own_gateway_alone(http):
    switch(http, "raygan", "http_500")
    assert wikipayam(http).is_success


def test_faults_are_deleted_all_or_a_gateways_or_one(http):
    for gateway, fault in (("raygan", "slow"), ("raygan", "refuse"), ("asanak", "slow"),
                           ("smsir", "slow")):  # fmt: skip
        switch(http, gateway, fault)
    left = [len(http.get("/_api/faults").json())]
    for query in ({"gateway": "raygan", "fault": "slow"}, {"gateway": "raygan"}, {}):
        assert http.delete("/_api/faults", params=query).status_code == 204
        left.append(len(http.get("/_api/faults").json()))
    assert left == [4, 3, 2, 0]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"gateway": "nobody", "fault": "slow"}, "gateway"),
        ({"gateway": "raygan", "fault": "gone"}, "fault"),
        ({"gateway": "raygan", "fault": "slow", "times": 0}, "times"),
        ({"gateway": "raygan", "fault": "slow", "times": "x"}, "times"),
        ([], "JSON object"),
    ],
)
def test_a_wrong_name_is_answered_with_what_would_be_right(http, body, word):
    answer = http.post("/_api/faults", json=body)
    assert answer.status_code == 422
    assert word in answer.json()["error"]
    assert http.get("/_api/faults").json() == []


def test_a_counted_fault_strikes_exactly_so_many_of_many_at_once(http, simulator):
    switch(http, "asanak", "refuse", 5)
    answers: list[str] = []

    def send() -> None:
        with httpx.Client(base_url=simulator.url, trust_env=False, timeout=4) as client:
            answers.append(asanak(client).text)

    threads = [threading.Thread(target=send) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count("Destination Number is not valid") == 5
    ids = sorted(int(text.strip("[]")) for text in answers if text.startswith("["))
    assert len(ids) == 7
    assert all(one < other for one, other in pairwise(ids))
