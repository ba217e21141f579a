"""Raygan's side, held against the samples in its web service guide."""

import base64
import json
import re

import httpx
import pytest

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
    answer = call(http, method, body)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    envelope = answer.json()
    assert list(envelope) == ["Code", "Message", "Result"]
    assert envelope["Code"] == 0, envelope
    assert envelope["Message"] == "عملیات با موفقیت انجام شد"
    return envelope["Result"]


def code_of(http: httpx.Client, method: str, body: object) -> int:
    answer = call(http, method, body)
    assert answer.status_code == 200
    return int(answer.json()["Code"])


def group(mobiles: list[str], **more: object) -> dict[str, object]:
    return {
        "PhoneNumber": LINE, "Message": "test", "Mobiles": mobiles, "UserGroupID": "13",
        "SendDateInTimeStamp": 1537701659, **more,
    }  # fmt: skip


def test_the_sample_of_send_message_answers_the_id_of_the_send(http):
    answer = result(http, "SendMessage", group(["0911111111", "0911111112"]))
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", answer)


def test_a_text_to_many_is_on_every_phone(http, simulator):
    result(http, "SendMessage", group(["09112170848", "09116662206"]))
    assert {m["to"] for m in simulator.messages()} == {"+989112170848", "+989116662206"}
    assert {m["from"] for m in simulator.messages()} == {LINE}


def test_a_date_to_come_keeps_the_message_back(http, simulator, clock):
    at = int(clock().timestamp()) + 3600
    result(http, "SendMessage", group(["09112170848"], SendDateInTimeStamp=at))
    assert simulator.messages() == []
    clock.advance(hours=1)
    assert len(simulator.messages()) == 1


def test_auto_code_answers_a_bare_number_above_2000(http):
    answer = call(http, "SendAutoCode", {"Mobile": "09116420422", "Footer": "RayganSMS.com"})
    assert answer.status_code == 200
    assert re.fullmatch(r"\d{4}", answer.text)
    assert int(answer.text) > 5004


def test_auto_code_puts_a_code_of_its_own_on_the_phone(http, simulator):
    call(http, "SendAutoCode", {"Mobile": "09116420422", "Footer": "RayganSMS.com"})
    (message,) = simulator.messages(to="09116420422")
    assert re.fullmatch(r"\d{4,6}", message["code"])
    assert message["code"] in message["text"]
    assert message["text"].endswith("\nRayganSMS.com")


def test_the_code_is_good_twice_and_another_is_not(http, simulator):
    call(http, "SendAutoCode", {"Mobile": "09116420422", "Footer": ""})
    code = simulator.messages()[0]["code"]
    for _ in range(2):
        answer = call(http, "CheckSendCode", {"Mobile": "09116420422", "Code": code})
        assert answer.text == "true"
    wrong = call(http, "CheckSendCode", {"Mobile": "09116420422", "Code": code + "1"})
    assert wrong.text == "false"


def test_a_new_code_takes_the_place_of_the_old(http, simulator):
    codes = []
    while len(set(codes)) < 2:
        call(http, "SendAutoCode", {"Mobile": "09116420422", "Footer": ""})
        codes.append(simulator.messages()[0]["code"])
    old = call(http, "CheckSendCode", {"Mobile": "09116420422", "Code": codes[0]})
    assert old.text == "false"


@pytest.mark.parametrize("code", ["545668", "", 0])
def test_a_mobile_that_was_sent_nothing_has_no_code(http, code):
    answer = call(http, "CheckSendCode", {"Mobile": "09116420422", "Code": code})
    assert answer.text == "false"


def test_send_code_sends_the_callers_text(http, simulator):
    text = "با سلام کد احراز هویت شما : 21335"
    answer = call(http, "SendCode", {"Mobile": "09116420422", "Message": text})
    assert int(answer.text) > 2000
    (message,) = simulator.messages()
    assert (message["text"], message["code"]) == (text, "21335")


def test_corresponding_messages_answer_an_id_each(http, simulator):
    body = {"PhoneNumber": LINE, "RecipientsMessage": ROWS, "UserGroupID": "14"}
    answer = result(http, "SendCorrespondingMessage", body)
    assert [row["Id"] for row in answer] == [1, 2, 3]
    assert [row["Mobile"] for row in answer] == [row["Mobile"] for row in ROWS]
    assert all(isinstance(row["Result"], int) for row in answer)
    assert {m["text"] for m in simulator.messages()} == {row["Message"] for row in ROWS}


def test_a_recipient_that_is_no_mobile_is_left_out_of_the_answer(http):
    rows = [ROWS[0], {"Id": "2", "Message": "x", "Mobile": "12345"}]
    body = {
        "PhoneNumber": LINE, "recievePortNumber": 20, "sendPortNumber": 40,
        "RecipientsMessage": rows, "UserGroupID": "123456789",
    }  # fmt: skip
    assert [row["Id"] for row in result(http, "SendMessageToPort", body)] == [1]


def test_states_go_from_looked_at_to_the_phone(http, clock):
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
    answer = result(http, "CorrespondingMessageStatus", {"messageId": [str(sent["Result"]), "1"]})
    assert answer == [{"MsgId": str(sent["Result"]), "Status": "1"}]


def test_the_users_own_group_leads_to_the_send(http):
    send = result(http, "SendMessage", group(["09116420422"], UserGroupID="16"))
    assert result(http, "GetGroupMessageId", {"groupId": "16"}) == send
    assert result(http, "GroupMessageStatus", {"GroupMessageId": "16"})["MessagesListState"]
    assert code_of(http, "GetGroupMessageId", {"groupId": "17"}) == 3002


def test_received_messages_come_with_country_code_and_timestamp(http, clock):
    http.post("/_api/incoming", json={
        "gateway": "raygan", "from": "+989116420422", "to": "5000299558253", "text": " 1تست ",
    })  # fmt: skip
    now = int(clock().timestamp())
    answer = result(http, "ReceiveMessages", {
        "PhoneNumber": "5000299558253", "StartDate": str(now - 1), "EndDate": str(now),
        "Page": "1",
    })  # fmt: skip
    received = {"Mobile": "989116420422", "Date": now, "MsgBody": " 1تست "}
    assert answer == {"Page": 1, "TotalPage": 1, "ReceivedMsgs": [received]}


def test_credit_is_a_number_that_sending_lowers(http):
    before = result(http, "GetCredit", {})
    result(http, "SendMessage", group(["09112170848"], Message="سلام"))
    prices = result(http, "GetPrices", {})
    assert result(http, "GetCredit", {}) == before - prices["Fa_Price"]


@pytest.mark.parametrize("name", ["Mobiles", "MobilesList"])
def test_the_white_list_leaves_out_who_wrote_laghv(http, name):
    http.post("/_api/incoming", json={
        "gateway": "raygan", "from": "09333152378", "to": LINE, "text": "لغو11",
    })  # fmt: skip
    answer = result(http, "ShowWhiteList", {name: ["09112170848", "09333152378"]})
    assert answer == [9112170848]


@pytest.mark.parametrize(
    ("method", "body", "code"),
    [
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
    ],
)  # fmt: skip
def test_what_is_wrong_has_the_guides_code(http, method, body, code):
    assert code_of(http, method, body) == code


def test_ten_parts_are_taken(http):
    result(http, "SendMessage", group(["09112170848"], Message="م" * 670))


def test_a_body_that_is_not_json_is_malformed(http):
    answer = http.post("/raygan/api/smsAPI/GetCredit", headers=AUTH, content=b"{")
    assert json.loads(answer.text)["Code"] == 1001


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Basic " + base64.b64encode(b"user:").decode()},
     {"Authorization": "Bearer x"}],
)  # fmt: skip
def test_without_credentials_nobody_enters(http, headers):
    answer = http.post("/raygan/api/smsAPI/GetCredit", headers=headers, json={})
    assert answer.status_code == 401


def test_paths_are_taken_in_any_case(http):
    answer = http.post("/raygan/API/smsapi/getcredit/", headers=AUTH, json={})
    assert answer.json()["Code"] == 0
