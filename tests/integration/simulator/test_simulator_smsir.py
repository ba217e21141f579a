"""The simulated SMS.ir: v1 and the legacy service, as public clients call them."""

import httpx
import pytest

KEY = {"X-API-KEY": "key"}
CODE = [{"name": "CODE", "value": "12345"}]


def v1(http: httpx.Client, method: str, path: str, **more: object) -> httpx.Response:
    return http.request(method, f"/smsir/v1/{path}", headers=KEY, **more)


def data(http: httpx.Client, method: str, path: str, **more: object) -> object:
    response = v1(http, method, path, **more)
    assert response.status_code == 200, response.text
    assert list(response.json()) == ["status", "message", "data"]
    assert (response.json()["status"], response.json()["message"]) == (1, "موفق")
    return response.json()["data"]


def verify(**more: object) -> dict[str, object]:
    return {"mobile": "09123456789", "templateId": 100000, "parameters": CODE, **more}


def bulk(**more: object) -> dict[str, object]:
    return {
        "lineNumber": 30007732000000, "messageText": "سلام", "mobiles": ["09123456789"],
        "sendDateTime": None, **more,
    }  # fmt: skip


def test_verify_sends_a_template_and_returns_id_and_cost(http, simulator):
    sent = data(http, "POST", "send/verify", json=verify())
    assert list(sent) == ["messageId", "cost"]
    assert simulator.messages()[0]["code"] == "12345"


def test_a_message_is_reported_by_its_id(http, clock):
    sent = data(http, "POST", "send/verify", json=verify())
    path = f"send/{sent['messageId']}"
    states = []
    for seconds in (0, 2, 2):
        clock.advance(seconds)
        states.append(data(http, "GET", path)["deliveryState"])
    assert states == [8, 3, 1]
    assert data(http, "GET", path)["mobile"] == 9123456789
    assert data(http, "GET", "send/live")[0]["messageId"] == sent["messageId"]


def test_bulk_returns_null_for_an_invalid_number(http, simulator):
    sent = data(http, "POST", "send/bulk", json=bulk(mobiles=["09123456789", "12"]))
    assert list(sent) == ["packId", "messageIds", "cost"]
    assert isinstance(sent["messageIds"][0], int)
    assert sent["messageIds"][1] is None
    assert len(simulator.messages()) == 1
    assert len(data(http, "GET", f"send/pack/{sent['packId']}")) == 2


def test_like_to_like_sends_each_recipient_a_text(http, simulator):
    body = {
        "lineNumber": 3000, "messageTexts": ["a", "b"],
        "mobiles": ["09123456789", "09121112233"],
    }  # fmt: skip
    data(http, "POST", "send/likeToLike", json=body)
    assert {m["to"]: m["text"] for m in simulator.messages()} == {
        "+989123456789": "a",
        "+989121112233": "b",
    }


def test_a_scheduled_send_can_be_cancelled(http, simulator, clock):
    at = int(clock().timestamp()) + 600
    sent = data(http, "POST", "send/bulk", json=bulk(sendDateTime=at))
    cancelled = data(http, "DELETE", f"send/scheduled/{sent['packId']}")
    assert cancelled["smsCount"] == 1
    clock.advance(minutes=20)
    assert simulator.messages() == []
    assert v1(http, "DELETE", f"send/scheduled/{sent['packId']}").json()["status"] == 111


def test_credit_lines_and_received_messages_are_listed(http):
    before = data(http, "GET", "credit")
    data(http, "POST", "send/bulk", json=bulk())
    assert data(http, "GET", "credit") == before - 1
    assert data(http, "GET", "line")
    http.post("/_api/incoming", json={
        "gateway": "smsir", "from": "09123456789", "to": "30007732000000", "text": "سلام",
    })  # fmt: skip
    (received,) = data(http, "GET", "receive/latest?count=5")
    assert (received["mobile"], received["messageText"]) == (9123456789, "سلام")


def test_an_invalid_request_is_http_400_with_its_status(http, simulator):
    cases = [
        ("send/verify", verify(mobile="12"), 104),
        ("send/verify", verify(templateId=0), 113),
        ("send/verify", verify(parameters=None), 16),
        ("send/verify", verify(parameters=[{"name": "CODE", "value": "x" * 26}]), 114),
        ("send/bulk", bulk(mobiles=["09123456789"] * 101), 105),
        ("send/bulk", bulk(lineNumber=None), 101),
        ("send/bulk", bulk(messageText=" "), 103),
        ("send/bulk", bulk(mobiles=[]), 16),
        ("send/bulk", [], 16),
    ]
    for path, body, status in cases:
        response = v1(http, "POST", path, json=body)
        assert (response.status_code, response.json()["status"]) == (400, status), body
        assert response.json()["data"] is None, body
        assert simulator.messages() == [], body


def test_a_template_value_may_have_25_characters(http):
    data(http, "POST", "send/verify", json=verify(parameters=[{"name": "X", "value": "x" * 25}]))


def test_a_missing_key_is_refused(http):
    response = http.get("/smsir/v1/credit")
    assert (response.status_code, response.json()["status"]) == (401, 10)


# The legacy service


@pytest.fixture
def token(http):
    response = http.post("/smsir/api/Token", json={"UserApiKey": "k", "SecretKey": "s"})
    assert response.status_code == 201
    assert response.json()["IsSuccessful"] is True
    return {"x-sms-ir-secure-token": response.json()["TokenKey"]}


def test_a_token_is_valid_for_thirty_minutes(http, token, clock):
    clock.advance(minutes=29, seconds=59)
    assert http.get("/smsir/api/credit", headers=token).json()["IsSuccessful"] is True
    clock.advance(1)
    assert http.get("/smsir/api/credit", headers=token).status_code == 401


def test_a_token_requires_both_keys(http):
    response = http.post("/smsir/api/Token", json={"UserApiKey": "k"})
    assert response.status_code == 400
    assert response.json()["IsSuccessful"] is False
    assert http.get("/smsir/api/credit").status_code == 401


def test_codes_and_templates_are_sent(http, token, simulator):
    response = http.post(
        "/smsir/api/VerificationCode", headers=token,
        json={"Code": "4821", "MobileNumber": "09123456789"},
    )  # fmt: skip
    assert response.json()["IsSuccessful"] is True
    assert simulator.messages()[0]["code"] == "4821"
    http.post("/smsir/api/UltraFastSend", headers=token, json={
        "ParameterArray": [{"Parameter": "VerificationCode", "ParameterValue": "55555"}],
        "Mobile": "09123456789", "TemplateId": "1",
    })  # fmt: skip
    assert simulator.messages()[0]["code"] == "55555"


def test_message_send_returns_an_id_for_each_mobile(http, token):
    response = http.post("/smsir/api/MessageSend", headers=token, json={
        "Messages": ["سلام"], "MobileNumbers": ["09123456789", "09121112233"],
        "LineNumber": "3000", "SendDateTime": "", "CanContinueInCaseOfError": "false",
    }).json()  # fmt: skip
    assert [row["MobileNo"] for row in response["Ids"]] == ["09123456789", "09121112233"]
    report = http.get(
        f"/smsir/api/MessageSend?pageId=1&batchKey={response['BatchKey']}", headers=token
    )
    assert len(report.json()["Messages"]) == 2


def test_the_customer_club_lists_ten_contacts_per_page_and_sends_to_a_category(
    http, token, simulator
):
    http.post("/smsir/api/CustomerClubContact", headers=token, json={
        "Prefix": "", "FirstName": "ا", "LastName": "ب", "Mobile": "09121112233",
        "BirthDay": "", "CategoryId": 3,
    })  # fmt: skip
    for last in range(11):
        http.post("/smsir/api/CustomerClubContact", headers=token, json={
            "FirstName": "ا", "Mobile": f"09123456{last:03}", "CategoryId": 4,
        })  # fmt: skip
    page = http.get("/smsir/api/CustomerClubContact/GetContacts?pageNumber=2", headers=token).json()
    assert len(page["ContactsCustomerClubResponseDetails"]) == 2
    assert (page["AllPages"], page["AllRecords"]) == (2, 12)
    sent = http.post("/smsir/api/CustomerClub/SendToCategories", headers=token, json={
        "Messages": ["سلام"], "contactsCustomerClubCategoryIds": [4], "SendDateTime": "",
        "CanContinueInCaseOfError": "false",
    }).json()  # fmt: skip
    assert len(sent["Ids"]) == len(simulator.messages()) == 11


def test_a_refused_call_is_not_successful(http, token):
    response = http.post(
        "/smsir/api/VerificationCode", headers=token, json={"Code": "1", "MobileNumber": "12"}
    )
    assert response.json()["IsSuccessful"] is False
