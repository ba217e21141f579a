"""WikiPayam's side, held against the samples on its web service page."""

import re

import httpx
import pytest

AUTH = {"Authorization": "Bearer YOUR_AUTH_TOKEN_HERE", "Accept": "application/json"}
SMS = {
    "sender": "100010000",
    "receiver": "09123456789",
    "message": "Your verification code is: 123456",
    "track_id": "TRACK_001",
}


def call(http: httpx.Client, method: str, path: str, **more: object) -> httpx.Response:
    return http.request(method, f"/wikipayam/api/v1/{path}", headers=AUTH, **more)


def data(http: httpx.Client, method: str, path: str, **more: object) -> object:
    answer = call(http, method, path, **more)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["data"]
    return answer.json()["data"]


def write(http: httpx.Client, text: str, sender: str = "09127782175") -> str:
    answer = http.post("/_api/incoming", json={
        "gateway": "wikipayam", "from": sender, "to": "989999159314", "text": text,
    })  # fmt: skip
    return answer.json()["id"]


def test_the_balance_is_in_rials(http):
    balance = data(http, "GET", "user/balance")
    assert list(balance) == ["balance", "currency", "user_id", "user_name"]
    assert balance["currency"] == "IRR"
    data(http, "POST", "sms/send", json=[SMS])
    assert data(http, "GET", "user/balance")["balance"] < balance["balance"]


def test_the_sample_of_send_answers_an_id_for_each(http, simulator):
    second = {**SMS, "receiver": "09987654321", "track_id": "TRACK_002"}
    answer = data(http, "POST", "sms/send", json=[SMS, second])
    for row, sent in zip(answer, [SMS, second], strict=True):
        assert list(row) == ["id", "sender", "receiver", "track_id"]
        assert re.fullmatch(r"[0-9a-f]{24}", row["id"])
        assert {**sent, **row} == {**sent, "id": row["id"]}
    assert simulator.messages()[0]["to"] == "+989987654321"
    assert simulator.messages()[0]["code"] == "123456"


def test_note_may_stand_for_message(http, simulator):
    row = {"sender": "10002000", "receiver": "09123456789", "note": "salam", "track_id": "T"}
    data(http, "POST", "sms/send", json=[row])
    assert simulator.messages()[0]["text"] == "salam"


def test_delivery_leaves_unknown_ids_out_and_has_no_track_id(http, clock):
    (sent,) = data(http, "POST", "sms/send", json=[SMS])
    ask = {"id": [sent["id"], "507f1f77bcf86cd799439012"]}
    waiting = {"id": sent["id"], "deliver_status": "WAITING_FOR_UPDATE", "track_id": None}
    assert data(http, "POST", "sms/deliver", json=ask) == [waiting]
    clock.advance(5)
    (there,) = data(http, "POST", "sms/deliver", json=ask)
    assert there["deliver_status"] == "DELIVERED"


def test_an_otp_is_put_into_its_pattern(http, simulator):
    row = {
        "receiver": "09123456789", "code": "012345", "otp_pattern_id": 13, "track_id": "OTP_001",
    }  # fmt: skip
    (sent,) = data(http, "POST", "otp/sms/send", json=[row])
    assert list(sent) == ["id", "sender", "receiver", "track_id"]
    (message,) = simulator.messages()
    assert message["channel"] == "sms"
    assert message["code"] == "012345"
    assert message["text"] == "کد تأیید شما: 012345\n(الگوی 13)"


def test_a_voice_otp_is_a_call_that_reads_the_digits(http, simulator):
    body = {"receiver": "09123456789", "code": "120", "track_id": "ORDER-1001"}
    answer = data(http, "POST", "voice-otp/send", json=body)
    assert list(answer) == ["message", "id", "track_id"]
    assert answer["message"] == "Voice OTP queued successfully"
    assert answer["track_id"] == "ORDER-1001"
    (call,) = simulator.messages()
    assert (call["channel"], call["code"]) == ("voice", "120")
    assert call["text"].count("یک، دو، صفر") == 2


def test_received_messages_come_with_limit_and_offset_as_strings(http, clock):
    write(http, "۱۱")
    clock.advance(1)
    newest = write(http, "لغو ", sender="09178100665")
    clock.advance(1)
    answer = data(http, "GET", "receives?limit=1&offset=0&status=all")
    assert answer["receives"] == [{
        "id": newest, "sender": "989178100665", "receiver": "989999159314", "message": "لغو ",
        "received_at": "2026-03-21 12:00:01",
    }]  # fmt: skip
    assert answer["pagination"] == {
        "total": 2, "limit": "1", "offset": "0", "returned_count": 1, "total_pages": 2,
    }  # fmt: skip
    assert answer["filters"] == {"status": "all"}


def test_received_messages_are_filtered_and_sorted(http):
    write(http, "verification b")
    write(http, "verification a")
    write(http, "other", sender="09178100665")
    found = data(http, "GET", "receives", params={
        "sender": "09127782175", "search": "VERIFICATION", "from_date": "2026-03-21",
        "to_date": "2026-03-21", "sort_by": "message", "sort_order": "asc", "status": "unread",
    })  # fmt: skip
    assert [m["message"] for m in found["receives"]] == ["verification a", "verification b"]
    assert found["filters"]["search"] == "VERIFICATION"
    early = data(http, "GET", "receives", params={"to_date": "2026-03-20"})
    assert early["receives"] == []


def test_reading_lowers_the_unread(http):
    refs = [write(http, "یک"), write(http, "دو"), write(http, "سه")]
    assert data(http, "GET", "receives/unread/count") == {"unread_count": 3}
    marked = data(http, "POST", "receives/mark-read", json={"receive_ids": [refs[0], "x"]})
    assert marked == {"marked_count": 1, "requested_count": 2}
    unread = data(http, "GET", "receives/unread?limit=2&offset=0")
    assert unread["total_unread"] == 2
    assert unread["pagination"] == {"limit": "2", "offset": "0", "returned_count": 2}
    assert data(http, "GET", f"receives/{refs[0]}")["message"] == "یک"
    statistics = data(http, "GET", "receives/statistics?from_date=2026-01-01")
    assert (statistics["read_count"], statistics["unread_count"]) == (1, 2)
    assert data(http, "POST", "receives/mark-read", json={"mark_all": True})["marked_count"] == 2


def test_received_messages_are_deleted_by_id_by_state_and_by_age(http, clock):
    first, second, _ = write(http, "یک"), write(http, "دو"), write(http, "سه")
    gone = data(http, "DELETE", "receives", json={"receive_ids": [first, "x"]})
    assert gone == {"deleted_count": 1, "requested_count": 2}
    data(http, "POST", "receives/mark-read", json={"receive_ids": [second]})
    gone = data(http, "DELETE", "receives", json={"delete_all_read": True})
    assert gone == {"deleted_count": 1, "message": "All read receives have been deleted"}
    clock.advance(days=31)
    write(http, "چهار")
    assert (
        data(http, "DELETE", "receives", json={"delete_older_than_days": 30})["deleted_count"] == 1
    )
    assert data(http, "DELETE", "receives", json={"delete_all_unread": True})["deleted_count"] == 1


def test_the_older_way_to_received_messages(http):
    write(http, "یک")
    assert data(http, "POST", "sms/receive", json={"from_date": "2026-01-01"})[0]["message"] == "یک"
    assert data(http, "POST", "sms/receive", json={"from_date": "2026-03-22"}) == []


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_holoo_sends_by_the_token_in_its_password(http, simulator, method):
    values = {
        "username": "u", "password": "TOKEN", "from": "10002000", "to": "09123456789",
        "message": "تست",
    }  # fmt: skip
    sent = {"json": values} if method == "POST" else {"params": values}
    answer = http.request(method, "/wikipayam/api/v1/service/holoo", **sent)
    assert answer.status_code == 200
    assert simulator.messages()[0]["text"] == "تست"
    assert "TOKEN" not in http.get("/_api/requests").text


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("sms/send", [SMS, {**SMS, "receiver": "12"}], "1.receiver"),
        ("sms/send", [{**SMS, "message": " "}], "0.message"),
        ("sms/send", [{**SMS, "sender": None}], "0.sender"),
        ("sms/send", SMS, "sms"),
        ("otp/sms/send", [{"receiver": "09123456789", "code": "1"}], "0.otp_pattern_id"),
        ("voice-otp/send", {"receiver": "09123456789"}, "code"),
        ("sms/deliver", {"id": "x"}, "id"),
        ("receives/mark-read", {}, "receive_ids"),
    ],
)
def test_what_does_not_validate_is_answered_as_laravel_does(http, simulator, path, body, field):
    answer = call(http, "POST", path, json=body)
    assert answer.status_code == 422
    assert list(answer.json()) == ["message", "errors"]
    assert field in answer.json()["errors"]
    assert simulator.messages() == []


def test_a_limit_over_500_does_not_validate(http):
    assert call(http, "GET", "receives?limit=501").status_code == 422


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic dTpw"}])
def test_without_a_token_nobody_enters(http, headers):
    answer = http.get("/wikipayam/api/v1/user/balance", headers=headers)
    assert answer.status_code == 401
    assert answer.json() == {"message": "Unauthenticated."}
