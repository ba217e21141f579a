"""SMS.ir's side: v1 and the older service, as its public clients speak to them."""

import httpx
import pytest

KEY = {"X-API-KEY": "key"}
CODE = [{"name": "CODE", "value": "12345"}]


def v1(http: httpx.Client, method: str, path: str, **more: object) -> httpx.Response:
    return http.request(method, f"/smsir/v1/{path}", headers=KEY, **more)


def data(http: httpx.Client, method: str, path: str, **more: object) -> object:
    answer = v1(http, method, path, **more)
    assert answer.status_code == 200, answer.text
    assert list(answer.json()) == ["status", "message", "data"]
    assert (answer.json()["status"], answer.json()["message"]) == (1, "موفق")
    return answer.json()["data"]


def verify(**more: object) -> dict[str, object]:
    return {"mobile": "09123456789", "templateId": 100000, "parameters": CODE, **more}


def bulk(**more: object) -> dict[str, object]:
    return {
        "lineNumber": 30007732000000, "messageText": "سلام", "mobiles": ["09123456789"],
        "sendDateTime": None, **more,
    }  # fmt: skip


def test_verify_sends_the_template_and_answers_id_and_cost(http, simulator):
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


def test_bulk_answers_null_for_a_number_that_is_none(http, simulator):
    sent = data(http, "POST", "send/bulk", json=bulk(mobiles=["09123456789", "12"]))
    assert list(sent) == ["packId", "messageIds", "cost"]
    assert isinstance(sent["messageIds"][0], int)
    assert sent["messageIds"][1] is None
    assert len(simulator.messages()) == 1
    assert len(data(http, "GET", f"send/pack/{sent['packId']}")) == 2


def test_like_to_like_sends_to_each_its_own(http, simulator):
    body = {
        "lineNumber": 3000, "messageTexts": ["a", "b"],
        "mobiles": ["09123456789", "09121112233"],
    }  # fmt: skip
    data(http, "POST", "send/likeToLike", json=body)
    assert {m["to"]: m["text"] for m in simulator.messages()} == {
        "+989123456789": "a",
        "+989121112233": "b",
    }


def test_a_send_that_waits_can_be_taken_back(http, simulator, clock):
    at = int(clock().timestamp()) + 600
    sent = data(http, "POST", "send/bulk", json=bulk(sendDateTime=at))
    taken = data(http, "DELETE", f"send/scheduled/{sent['packId']}")
    assert taken["smsCount"] == 1
    clock.advance(minutes=20)
    assert simulator.messages() == []
    assert v1(http, "DELETE", f"send/scheduled/{sent['packId']}").json()["status"] == 111


def test_credit_lines_and_received_messages(http):
    before = data(http, "GET", "credit")
    data(http, "POST", "send/bulk", json=bulk())
    assert data(http, "GET", "credit") == before - 1
    assert data(http, "GET", "line")
    http.post("/_api/incoming", json={
        "gateway": "smsir", "from": "09123456789", "to": "30007732000000", "text": "سلام",
    })  # fmt: skip
    (received,) = data(http, "GET", "receive/latest?count=5")
    assert (received["mobile"], received["messageText"]) == (9123456789, "سلام")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("send/verify", verify(mobile="12"), 104),
        ("send/verify", verify(templateId=0), 113),
        ("send/verify", verify(parameters=None), 16),
        ("send/verify", verify(parameters=[{"name": "CODE", "value": "x" * 26}]), 114),
        ("send/bulk", bulk(mobiles=["09123456789"] * 101), 105),
        ("send/bulk", bulk(lineNumber=None), 101),
        ("send/bulk", bulk(messageText=" "), 103),
        ("send/bulk", bulk(mobiles=[]), 16),
        ("send/bulk", [], 16),
    ],
)
def test_a_logical_error_is_http_400_with_its_status(http, simulator, path, body, status):
    answer = v1(http, "POST", path, json=body)
    assert (answer.status_code, answer.json()["status"]) == (400, status)
    assert answer.json()["data"] is None
    assert simulator.messages() == []


def test_twenty_five_characters_are_a_value(http):
    data(http, "POST", "send/verify", json=verify(parameters=[{"name": "X", "value": "x" * 25}]))


def test_without_a_key_nobody_enters(http):
    answer = http.get("/smsir/v1/credit")
    assert (answer.status_code, answer.json()["status"]) == (401, 10)


# The older service


@pytest.fixture
def token(http):
    answer = http.post("/smsir/api/Token", json={"UserApiKey": "k", "SecretKey": "s"})
    assert answer.status_code == 201
    assert answer.json()["IsSuccessful"] is True
    return {"x-sms-ir-secure-token": answer.json()["TokenKey"]}


def test_a_token_is_good_for_thirty_minutes(http, token, clock):
    clock.advance(minutes=29, seconds=59)
    assert http.get("/smsir/api/credit", headers=token).json()["IsSuccessful"] is True
    clock.advance(1)
    assert http.get("/smsir/api/credit", headers=token).status_code == 401


def test_no_token_without_both_keys(http):
    answer = http.post("/smsir/api/Token", json={"UserApiKey": "k"})
    assert answer.status_code == 400
    assert answer.json()["IsSuccessful"] is False
    assert http.get("/smsir/api/credit").status_code == 401


def test_codes_and_templates_are_sent(http, token, simulator):
    answer = http.post(
        "/smsir/api/VerificationCode", headers=token,
        json={"Code": "4821", "MobileNumber": "09123456789"},
    )  # fmt: skip
    assert answer.json()["IsSuccessful"] is True
    assert simulator.messages()[0]["code"] == "4821"
    http.post("/smsir/api/UltraFastSend", headers=token, json={
        "ParameterArray": [{"Parameter": "VerificationCode", "ParameterValue": "55555"}],
        "Mobile": "09123456789", "TemplateId": "1",
    })  # fmt: skip
    assert simulator.messages()[0]["code"] == "55555"


def test_message_send_answers_an_id_for_each_mobile(http, token):
    answer = http.post("/smsir/api/MessageSend", headers=token, json={
        "Messages": ["سلام"], "MobileNumbers": ["09123456789", "09121112233"],
        "LineNumber": "3000", "SendDateTime": "", "CanContinueInCaseOfError": "false",
    }).json()  # fmt: skip
    assert [row["MobileNo"] for row in answer["Ids"]] == ["09123456789", "09121112233"]
    report = http.get(
        f"/smsir/api/MessageSend?pageId=1&batchKey={answer['BatchKey']}", headers=token
    )
    assert len(report.json()["Messages"]) == 2


def test_the_customer_club_keeps_contacts_ten_a_page_and_sends_to_them(http, token, simulator):
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


def test_an_error_says_that_it_was_not_successful(http, token):
    answer = http.post(
        "/smsir/api/VerificationCode", headers=token, json={"Code": "1", "MobileNumber": "12"}
    )
    assert answer.json()["IsSuccessful"] is False
