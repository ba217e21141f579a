"""The faults `code`, `state` and `refuse_links`: every error code and state of every gateway."""

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

from flask_smsverify.simulator.app import GATEWAYS

CODES = {gateway.name: gateway.codes for gateway in GATEWAYS}
STATES = {gateway.name: gateway.raw_states for gateway in GATEWAYS}


def enable(http, gateway, **fault):
    response = http.post("/_api/faults", json={"gateway": gateway, "times": None, **fault})
    assert response.status_code == 201, response.text
    assert response.json() == {"gateway": gateway, "times": None, **fault}


def test_the_documented_codes_are_complete():
    assert set(CODES["raygan"]) >= {*range(1001, 1005), *range(2001, 2010), *range(3001, 3005),
                                    *range(5001, 5005)}  # fmt: skip
    assert set(CODES["melipayamak"]) >= {0, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 14, -10, -1, 19, 35}
    assert set(CODES["asanak"]) >= {1002, 1006, 1008, 1009, 1010, 1012, 1015}
    assert set(CODES["smsir"]) >= {10, 11, 12, 13, 14, 15, 16, 20, 101, 102, 103, 104, 105, 111,
                                   113, 114, 115}  # fmt: skip
    assert set(STATES["melipayamak"]) >= {"2", "35", "300"}
    assert set(STATES["raygan"]) >= {"2", "16", "27", "23", "x"}
    assert set(STATES["asanak"]) >= {"5", "8", "13", "20"}
    assert set(STATES["smsir"]) >= {"2", "7"}


@pytest.mark.parametrize(
    ("send", "read"),
    [
        (raygan, lambda response: response.json()["Code"]),
        (wikipayam, lambda response: response.status_code),
        (melipayamak, lambda response: response.text.partition("<SendSmsResult>")[2]),
        (asanak_v2, lambda response: response.json()["meta"]["status"]),
        (smsir, lambda response: response.json()["status"]),
    ],
)
def test_every_gateway_answers_each_of_its_documented_codes(http, simulator, send, read):
    gateway = send.__name__.partition("_")[0]
    for code in CODES[gateway]:
        enable(http, gateway, fault="code", code=code)
        found = read(send(http))
        assert found == code or str(found).startswith(f"{code}<"), code
        assert simulator.messages() == [], code
    simulator.clear_faults()
    send(http)
    assert len(simulator.messages()) == 1


def test_an_undocumented_code_is_answered_by_gateways_with_numeric_codes(http):
    enable(http, "raygan", fault="code", code=1999)
    assert raygan(http).json() == 1999, "the methods for codes answer with a bare number"
    enable(http, "asanak", fault="code", code=-5)
    assert asanak(http).text == "-5"
    json_answer = http.post(
        "/asanak/webservice/v1rest/sendsms", data={"username": "u", "password": "p"},
        headers={"Accept": "application/json"},
    )  # fmt: skip
    assert json_answer.json() == {"status": -5}
    enable(http, "smsir", fault="code", code=999)
    assert smsir(http).json()["status"] == 999
    assert smsir_legacy(http).json()["IsSuccessful"] is False


def test_a_validation_problem_of_smsir_is_outside_its_envelope(http):
    enable(http, "smsir", fault="code", code=400)
    response = smsir(http)
    assert response.status_code == 400
    assert response.headers["content-type"].startswith("application/problem+json")
    assert "data" not in response.json()


def test_a_code_affects_as_many_calls_as_requested(http):
    http.post("/_api/faults", json={"gateway": "smsir", "fault": "code", "code": 20, "times": 2})
    assert [smsir(http).status_code for _ in range(3)] == [429, 429, 200]


def test_some_messages_failed_sends_all_but_the_last(http, simulator):
    enable(http, "raygan", fault="code", code=5004)
    rows = [{"Id": str(n), "Message": f"m{n}", "Mobile": f"0912345678{n}"} for n in (1, 2, 3)]
    answer = http.post(
        "/raygan/api/smsAPI/SendCorrespondingMessage", auth=("u", "p"),
        json={"PhoneNumber": "50002910", "UserGroupID": "1", "RecipientsMessage": rows},
    ).json()  # fmt: skip
    assert answer["Code"] == 5004
    assert [row["Id"] for row in answer["Result"]] == [1, 2]
    assert {message["text"] for message in simulator.messages()} == {"m1", "m2"}


def test_an_invalid_code_or_state_is_refused_with_what_is_allowed(http):
    cases = [
        ({"gateway": "raygan", "fault": "code"}, "1001"),
        ({"gateway": "raygan", "fault": "code", "code": "x"}, "1001"),
        ({"gateway": "raygan", "fault": "code", "code": 10**9}, "1001"),
        ({"gateway": "wikipayam", "fault": "code", "code": 7}, "422"),
        ({"gateway": "asanak", "fault": "state"}, "undelivered"),
        ({"gateway": "asanak", "fault": "state", "state": "3"}, "20"),
        ({"gateway": "raygan", "fault": "refuse_links"}, "melipayamak"),
    ]
    for body, allowed in cases:
        response = http.post("/_api/faults", json=body)
        assert response.status_code == 422, body
        assert allowed in response.json()["allowed"], body
    assert http.get("/_api/faults").json() == []


def wikipayam_state(http):
    id_ = wikipayam(http).json()["data"][0]["id"]
    headers = {"Authorization": "Bearer t"}
    report = http.post("/wikipayam/api/v1/sms/deliver", json={"id": [id_]}, headers=headers)
    return report.json()["data"][0]["deliver_status"]


def asanak_state(http):
    account = {"username": "u", "password": "p"}
    ids = {"msgid": asanak(http).json()[0]}
    return http.post("/asanak/webservice/v1rest/msgstatus", data=account | ids).json()[0]["Status"]


def smsir_state(http):
    id_ = smsir(http).json()["data"]["messageIds"][0]
    return str(http.get(f"/smsir/v1/send/{id_}", headers={"X-API-KEY": "k"}).json()["data"]
               ["deliveryState"])  # fmt: skip


def raygan_state(http):
    body = {"PhoneNumber": "50002910", "Message": "hi", "Mobiles": ["09123456789"]}
    sent = http.post("/raygan/api/smsAPI/SendMessage", json=body, auth=("u", "p")).json()["Result"]
    status = http.post(
        "/raygan/api/smsAPI/GroupMessageStatus", json={"GroupMessageId": sent}, auth=("u", "p")
    )
    return status.json()["Result"]["MessagesListState"][0]["Status"]


def melipayamak_state(http):
    account = {"username": "u", "password": "p"}
    base = "/melipayamak/api/SendSMS/"
    message = {"to": "09123456789", "from": "50004001", "text": "salam"}
    id_ = http.post(base + "SendSMS", data=account | message).json()["Value"]
    return http.post(base + "GetDeliveries2", data=account | {"recID": id_}).json()["Value"]


REPORTS = {
    "raygan": raygan_state, "wikipayam": wikipayam_state, "melipayamak": melipayamak_state,
    "asanak": asanak_state, "smsir": smsir_state,
}  # fmt: skip


@pytest.mark.parametrize("gateway", REPORTS)
def test_every_state_of_a_gateway_is_reported(http, simulator, gateway):
    for value, state in STATES[gateway].items():
        simulator.reset()
        enable(http, gateway, fault="state", state=value)
        assert REPORTS[gateway](http) == value
        arrives = state not in ("queued", "undelivered", "rejected", "filtered")
        assert len(simulator.messages()) == arrives, (value, state)


@pytest.mark.parametrize(
    ("state", "values"),
    [
        ("undelivered", {"raygan": "2", "wikipayam": "UNDELIVERED", "melipayamak": "2",
                         "asanak": "5", "smsir": "2"}),
        ("filtered", {"raygan": "27", "wikipayam": "REJECTED", "melipayamak": "300",
                      "asanak": "8", "smsir": "7"}),
    ],
)  # fmt: skip
def test_undelivered_and_filtered_are_states_of_every_gateway(http, simulator, state, values):
    for gateway, value in values.items():
        enable(http, gateway, fault="state", state=state)
        assert REPORTS[gateway](http) == value
    assert simulator.messages() == []


def test_a_filtered_group_of_raygan_has_the_state_filtered(http):
    enable(http, "raygan", fault="state", state="filtered")
    body = {"PhoneNumber": "50002910", "Message": "hi", "Mobiles": ["09123456789"]}
    sent = http.post("/raygan/api/smsAPI/SendMessage", json=body, auth=("u", "p")).json()["Result"]
    status = http.post(
        "/raygan/api/smsAPI/GroupMessageStatus", json={"GroupMessageId": sent}, auth=("u", "p")
    )
    assert status.json()["Result"]["StatusCode"] == "3"


def test_a_message_keeps_a_forced_state_and_earlier_messages_only_report_it(http, simulator, clock):
    fault = {"gateway": "smsir", "fault": "state", "state": "undelivered", "times": 1}
    http.post("/_api/faults", json=fault)
    assert [smsir_state(http), smsir_state(http)] == ["2", "8"]
    clock.advance(5)
    enable(http, "smsir", fault="state", state="7")
    [first, second] = http.get("/smsir/v1/send/live", headers={"X-API-KEY": "k"}).json()["data"]
    assert (first["deliveryState"], second["deliveryState"]) == (7, 2)
    simulator.clear_faults()
    [first, second] = http.get("/smsir/v1/send/live", headers={"X-API-KEY": "k"}).json()["data"]
    assert (first["deliveryState"], second["deliveryState"]) == (1, 2)


def test_melipayamak_refuses_links_while_the_fault_is_on(http, simulator):
    account = {"username": "u", "password": "p", "to": "09123456789", "from": "50004001"}
    texts = {
        "کد: 123456": 1, "chenar.example/orders": 14, "https://x.ir": 14, "www.chenar": 14,
        "کد: 123456\n@chenar.example #123456": 14, "ساعت 12.30 یا 1.5 میلیون": 1, "پایان.سلام": 1,
    }  # fmt: skip

    def send(text):
        answer = http.post("/melipayamak/api/SendSMS/SendSMS", data=account | {"text": text})
        return answer.json()["RetStatus"]

    assert {send(text) for text in texts} == {1}, "links are accepted by default"
    enable(http, "melipayamak", fault="refuse_links")
    assert {text: send(text) for text in texts} == texts
    pattern = {"text": "1234;chenar.example", "bodyId": "7"}
    answer = http.post("/melipayamak/api/SendSMS/BaseServiceNumber", data=account | pattern)
    assert answer.json()["RetStatus"] == -10


def test_asanak_takes_landlines_and_refuses_other_sources(http, simulator):
    account = {"username": "u", "password": "p", "message": "salam"}

    def send(source, destination):
        fields = {"source": source, "destination": destination}
        return http.post("/asanak/webservice/v1rest/sendsms", data=account | fields).text

    assert send("02164063188", "02188776655,982188776656,09123456789").count(",") == 2
    assert {message["to"] for message in simulator.messages()} == {
        "+982188776655", "+982188776656", "+989123456789",
    }  # fmt: skip
    assert len(http.get("/_api/messages", params={"to": "02188776655"}).json()) == 1
    for source in ("50004001", "30007732", "09123456789", "98912000", "2164063188", ""):
        assert send(source, "09123456789") == "Source Number is not valid", source
    assert send("982164063188", "0215") == "Destination Number is not valid"


def test_the_page_offers_codes_and_states(http, simulator):
    page = http.get("/").text
    assert '<option value="state filtered">Filtered</option>' in page
    assert '<option value="code 1010">Error code 1010</option>' in page
    assert page.count("Links refused") == 1
    fields = {"gateway": "asanak", "fault": "code", "code": "1010", "on": "1"}
    assert http.post("/faults", data=fields).status_code == 303
    assert "Error code <bdi>1010</bdi>" in http.get("/").text
    assert asanak(http).text == "Destination Number is not valid"
