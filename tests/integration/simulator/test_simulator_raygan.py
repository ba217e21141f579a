"""The simulated Raygan, against the samples in its web-service guide."""

import base64
import json
import re

import httpx

AUTH = {"Authorization": "Basic " + base64.b64encode(b"user:pass").decode()}
LINE = "50002910001080"
ROWS = [
    {"Id": "1", "Message": "کاربراول", "Mobile": "09112170848"},
    {"Id": "2", "Message": "کاربردوم", "Mobile": "09116662206"},
    {"Id": "3", "Message": "کاربرسوم", "Mobile": "09119048697"},
]


def call(http: httpx.Client, method: str, body: object) -> httpx.Response:
    return http.post(f"/raygan/api/smsAPI/{method}", headers=AUTH, json=body)


def result(http: httpx.Client, method: str, body: object) -> object:
    response = call(http, method, body)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    envelope = response.json()
    assert list(envelope) == ["Code", "Message", "Result"]
    assert envelope["Code"] == 0, envelope
    assert envelope["Message"] == "عملیات با موفقیت انجام شد"
    return envelope["Result"]


def code_of(http: httpx.Client, method: str, body: object) -> int:
    response = call(http, method, body)
    assert response.status_code == 200
    return int(response.json()["Code"])


def group(mobiles: list[str], **more: object) -> dict[str, object]:
    return {
        "PhoneNumber": LINE, "Message": "test", "Mobiles": mobiles, "UserGroupID": "13",
        "SendDateInTimeStamp": 1537701659, **more,
    }  # fmt: skip


def test_send_message_returns_the_id_of_the_send(http):
    response = result(http, "SendMessage", group(["0911111111", "0911111112"]))
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", response)


def test_a_text_to_many_reaches_every_phone(http, simulator):
    result(http, "SendMessage", group(["09112170848", "09116662206"]))
    assert {m["to"] for m in simulator.messages()} == {"+989112170848", "+989116662206"}
    assert {m["from"] for m in simulator.messages()} == {LINE}


def test_a_scheduled_message_is_sent_at_its_time(http, simulator, clock):
    at = int(clock().timestamp()) + 3600
    result(http, "SendMessage", group(["09112170848"], SendDateInTimeStamp=at))
    assert simulator.messages() == []
    clock.advance(hours=1)
    assert len(simulator.messages()) == 1


def test_auto_code_returns_a_bare_number_that_is_not_an_error_code(http):
    response = call(http, "SendAutoCode", {"Mobile": "09116420422", "Footer": "RayganSMS.com"})
    assert response.status_code == 200
    assert re.fullmatch(r"\d{4}", response.text)
    assert int(response.text) > 5004


def test_auto_code_sends_a_code_that_the_gateway_generates(http, simulator):
    call(http, "SendAutoCode", {"Mobile": "09116420422", "Footer": "RayganSMS.com"})
    (message,) = simulator.messages(to="09116420422")
    assert re.fullmatch(r"\d{4,6}", message["code"])
    assert message["code"] in message["text"]
    assert message["text"].endswith("\nRayganSMS.com")


def test_a_code_can_be_checked_twice_and_a_wrong_code_fails(http, simulator):
    call(http, "SendAutoCode", {"Mobile": "09116420422", "Footer": ""})
    code = simulator.messages()[0]["code"]
    for _ in range(2):
        response = call(http, "CheckSendCode", {"Mobile": "09116420422", "Code": code})
        assert response.text == "true"
    wrong = call(http, "CheckSendCode", {"Mobile": "09116420422", "Code": code + "1"})
    assert wrong.text == "false"


def test_a_new_code_replaces_the_old_one(http, simulator):
    codes = []
    while len(set(codes)) < 2:
        call(http, "SendAutoCode", {"Mobile": "09116420422", "Footer": ""})
        codes.append(simulator.messages()[0]["code"])
    old = call(http, "CheckSendCode", {"Mobile": "09116420422", "Code": codes[0]})
    assert old.text == "false"


def test_a_mobile_without_a_code_fails_every_check(http):
    for code in ("545668", "", 0):
        response = call(http, "CheckSendCode", {"Mobile": "09116420422", "Code": code})
        assert response.text == "false", code


def test_send_code_sends_the_text_of_the_client(http, simulator):
    text = "با سلام کد احراز هویت شما : 21335"
    response = call(http, "SendCode", {"Mobile": "09116420422", "Message": text})
    assert int(response.text) > 2000
    (message,) = simulator.messages()
    assert (message["text"], message["code"]) == (text, "21335")


def test_corresponding_messages_return_an_id_each(http, simulator):
    body = {"PhoneNumber": LINE, "RecipientsMessage": ROWS, "UserGroupID": "14"}
    response = result(http, "SendCorrespondingMessage", body)
    assert [row["Id"] for row in response] == [1, 2, 3]
    assert [row["Mobile"] for row in response] == [row["Mobile"] for row in ROWS]
    assert all(isinstance(row["Result"], int) for row in response)
    assert {m["text"] for m in simulator.messages()} == {row["Message"] for row in ROWS}


def test_an_invalid_recipient_is_missing_from_the_response(http):
    rows = [ROWS[0], {"Id": "2", "Message": "x", "Mobile": "12345"}]
    body = {
        "PhoneNumber": LINE, "recievePortNumber": 20, "sendPortNumber": 40,
        "RecipientsMessage": rows, "UserGroupID": "123456789",
    }  # fmt: skip
    assert [row["Id"] for row in result(http, "SendMessageToPort", body)] == [1]


def test_a_message_passes_from_in_progress_to_delivered(http, clock):
    send = result(http, "SendMessage", group(["09116420422", "0911"]))
    seen = []
    for seconds in (0, 1, 2):
        clock.advance(seconds)
        seen.append(result(http, "GroupMessageStatus", {"GroupMessageId": send}))
    assert [state["StatusCode"] for state in seen] == ["1", "1", "1"]
    assert [state["MessagesListState"][0]["Status"] for state in seen] == ["0", "8", "1"]
    assert seen[0]["MessagesListState"][0]["Mobile"] == "9116420422"
    assert seen[0]["MessagesListState"][1] == {"Mobile": "911", "Status": "27"}


def test_states_of_corresponding_messages_are_strings(http, clock):
    body = {"PhoneNumber": LINE, "RecipientsMessage": ROWS[:1], "UserGroupID": "14"}
    (sent,) = result(http, "SendCorrespondingMessage", body)
    clock.advance(5)
    response = result(http, "CorrespondingMessageStatus", {"messageId": [str(sent["Result"]), "1"]})
    assert response == [{"MsgId": str(sent["Result"]), "Status": "1"}]


def test_a_send_is_found_by_the_users_group_id(http):
    send = result(http, "SendMessage", group(["09116420422"], UserGroupID="16"))
    assert result(http, "GetGroupMessageId", {"groupId": "16"}) == send
    assert result(http, "GroupMessageStatus", {"GroupMessageId": "16"})["MessagesListState"]
    assert code_of(http, "GetGroupMessageId", {"groupId": "17"}) == 3002


def test_received_messages_have_a_country_code_and_a_timestamp(http, clock):
    http.post("/_api/incoming", json={
        "gateway": "raygan", "from": "+989116420422", "to": "5000299558253", "text": " 1تست ",
    })  # fmt: skip
    now = int(clock().timestamp())
    response = result(http, "ReceiveMessages", {
        "PhoneNumber": "5000299558253", "StartDate": str(now - 1), "EndDate": str(now),
        "Page": "1",
    })  # fmt: skip
    received = {"Mobile": "989116420422", "Date": now, "MsgBody": " 1تست "}
    assert response == {"Page": 1, "TotalPage": 1, "ReceivedMsgs": [received]}


def test_a_send_reduces_the_credit_by_its_price(http):
    before = result(http, "GetCredit", {})
    result(http, "SendMessage", group(["09112170848"], Message="سلام"))
    prices = result(http, "GetPrices", {})
    assert result(http, "GetCredit", {}) == before - prices["Fa_Price"]


def test_the_white_list_omits_mobiles_that_sent_laghv(http):
    http.post("/_api/incoming", json={
        "gateway": "raygan", "from": "09333152378", "to": LINE, "text": "لغو11",
    })  # fmt: skip
    for name in ("Mobiles", "MobilesList"):
        response = result(http, "ShowWhiteList", {name: ["09112170848", "09333152378"]})
        assert response == [9112170848], name


def test_an_invalid_call_gets_the_code_from_the_guide(http):
    cases = [
        ("SendMessage", group([]), 1004),
        ("SendMessage", group(["09112170848"] * 50_001), 2005),
        ("SendMessage", group(["09112170848"], Message="م" * 671), 2006),
        ("SendMessage", group(["09112170848"], PhoneNumber=""), 1002),
        ("SendMessage", group(["09112170848"], SendDateInTimeStamp="soon"), 1003),
        ("SendMessage", group(["09112170848"], SendDateInTimeStamp=99_999_999_999), 2004),
        ("SendMessageToPort", {"PhoneNumber": LINE, "recievePortNumber": 70_000}, 2007),
        ("GroupMessageStatus", {"GroupMessageId": "none"}, 3002),
        ("ReceiveMessages",
         {"PhoneNumber": LINE, "StartDate": 1, "EndDate": 2, "Page": 0}, 2008),
        ("SendMessage", [1], 1001),
    ]  # fmt: skip
    for method, body, code in cases:
        assert code_of(http, method, body) == code, (method, code)


def test_a_text_may_have_ten_parts(http):
    result(http, "SendMessage", group(["09112170848"], Message="م" * 670))


def test_a_body_that_is_not_json_is_malformed(http):
    response = http.post("/raygan/api/smsAPI/GetCredit", headers=AUTH, content=b"{")
    assert json.loads(response.text)["Code"] == 1001


def test_missing_credentials_are_refused(http):
    without_password = "Basic " + base64.b64encode(b"user:").decode()
    for value in (None, without_password, "Bearer x"):
        headers = {"Authorization": value} if value else {}
        response = http.post("/raygan/api/smsAPI/GetCredit", headers=headers, json={})
        assert response.status_code == 401, value


def test_paths_match_in_any_case(http):
    response = http.post("/raygan/API/smsapi/getcredit/", headers=AUTH, json={})
    assert response.json()["Code"] == 0
