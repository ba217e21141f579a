"""The simulated WikiPayam, against the samples on its web-service page."""

import re

import httpx

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
    response = call(http, method, path, **more)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["data"]
    return response.json()["data"]


def receive(http: httpx.Client, text: str, sender: str = "09127782175") -> str:
    response = http.post("/_api/incoming", json={
        "gateway": "wikipayam", "from": sender, "to": "989999159314", "text": text,
    })  # fmt: skip
    return response.json()["id"]


def test_the_balance_is_in_rials(http):
    balance = data(http, "GET", "user/balance")
    assert list(balance) == ["balance", "currency", "user_id", "user_name"]
    assert balance["currency"] == "IRR"
    data(http, "POST", "sms/send", json=[SMS])
    assert data(http, "GET", "user/balance")["balance"] < balance["balance"]


def test_send_returns_an_id_for_each_message(http, simulator):
    second = {**SMS, "receiver": "09987654321", "track_id": "TRACK_002"}
    response = data(http, "POST", "sms/send", json=[SMS, second])
    for row, sent in zip(response, [SMS, second], strict=True):
        assert list(row) == ["id", "sender", "receiver", "track_id"]
        assert re.fullmatch(r"[0-9a-f]{24}", row["id"])
        assert {**sent, **row} == {**sent, "id": row["id"]}
    assert simulator.messages()[0]["to"] == "+989987654321"
    assert simulator.messages()[0]["code"] == "123456"


def test_note_may_replace_message(http, simulator):
    row = {"sender": "10002000", "receiver": "09123456789", "note": "salam", "track_id": "T"}
    data(http, "POST", "sms/send", json=[row])
    assert simulator.messages()[0]["text"] == "salam"


def test_deliver_omits_unknown_ids_and_has_no_track_id(http, clock):
    (sent,) = data(http, "POST", "sms/send", json=[SMS])
    ask = {"id": [sent["id"], "507f1f77bcf86cd799439012"]}
    waiting = {"id": sent["id"], "deliver_status": "WAITING_FOR_UPDATE", "track_id": None}
    assert data(http, "POST", "sms/deliver", json=ask) == [waiting]
    clock.advance(5)
    (there,) = data(http, "POST", "sms/deliver", json=ask)
    assert there["deliver_status"] == "DELIVERED"


def test_an_otp_is_sent_in_its_pattern(http, simulator):
    row = {
        "receiver": "09123456789", "code": "012345", "otp_pattern_id": 13, "track_id": "OTP_001",
    }  # fmt: skip
    (sent,) = data(http, "POST", "otp/sms/send", json=[row])
    assert list(sent) == ["id", "sender", "receiver", "track_id"]
    (message,) = simulator.messages()
    assert message["channel"] == "sms"
    assert message["code"] == "012345"
    assert message["text"] == "کد تأیید شما: 012345\n(الگوی 13)"


def test_a_voice_otp_is_a_call_that_reads_the_digits_twice(http, simulator):
    body = {"receiver": "09123456789", "code": "120", "track_id": "ORDER-1001"}
    response = data(http, "POST", "voice-otp/send", json=body)
    assert list(response) == ["message", "id", "track_id"]
    assert response["message"] == "Voice OTP queued successfully"
    assert response["track_id"] == "ORDER-1001"
    (call,) = simulator.messages()
    assert (call["channel"], call["code"]) == ("voice", "120")
    assert call["text"].count("یک، دو، صفر") == 2


def test_limit_and_offset_are_returned_as_strings(http, clock):
    receive(http, "۱۱")
    clock.advance(1)
    newest = receive(http, "لغو ", sender="09178100665")
    clock.advance(1)
    response = data(http, "GET", "receives?limit=1&offset=0&status=all")
    assert response["receives"] == [{
        "id": newest, "sender": "989178100665", "receiver": "989999159314", "message": "لغو ",
        "received_at": "2026-03-21 12:00:01",
    }]  # fmt: skip
    assert response["pagination"] == {
        "total": 2, "limit": "1", "offset": "0", "returned_count": 1, "total_pages": 2,
    }  # fmt: skip
    assert response["filters"] == {"status": "all"}


def test_received_messages_are_filtered_and_sorted(http):
    receive(http, "verification b")
    receive(http, "verification a")
    receive(http, "other", sender="09178100665")
    found = data(http, "GET", "receives", params={
        "sender": "09127782175", "search": "VERIFICATION", "from_date": "2026-03-21",
        "to_date": "2026-03-21", "sort_by": "message", "sort_order": "asc", "status": "unread",
    })  # fmt: skip
    assert [m["message"] for m in found["receives"]] == ["verification a", "verification b"]
    assert found["filters"]["search"] == "VERIFICATION"
    early = data(http, "GET", "receives", params={"to_date": "2026-03-20"})
    assert early["receives"] == []


def test_marking_messages_as_read_reduces_the_unread_count(http):
    refs = [receive(http, "یک"), receive(http, "دو"), receive(http, "سه")]
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
    first, second, _ = receive(http, "یک"), receive(http, "دو"), receive(http, "سه")
    deleted = data(http, "DELETE", "receives", json={"receive_ids": [first, "x"]})
    assert deleted == {"deleted_count": 1, "requested_count": 2}
    data(http, "POST", "receives/mark-read", json={"receive_ids": [second]})
    deleted = data(http, "DELETE", "receives", json={"delete_all_read": True})
    assert deleted == {"deleted_count": 1, "message": "All read receives have been deleted"}
    clock.advance(days=31)
    receive(http, "چهار")
    assert (
        data(http, "DELETE", "receives", json={"delete_older_than_days": 30})["deleted_count"] == 1
    )
    assert data(http, "DELETE", "receives", json={"delete_all_unread": True})["deleted_count"] == 1


def test_sms_receive_returns_messages_since_a_date(http):
    receive(http, "یک")
    assert data(http, "POST", "sms/receive", json={"from_date": "2026-01-01"})[0]["message"] == "یک"
    assert data(http, "POST", "sms/receive", json={"from_date": "2026-03-22"}) == []


def test_holoo_sends_with_the_token_as_password(http, simulator):
    values = {
        "username": "u", "password": "TOKEN", "from": "10002000", "to": "09123456789",
        "message": "تست",
    }  # fmt: skip
    bearer = {"Authorization": "Bearer TOKEN"}
    for method, sent in (
        ("POST", {"json": values, "headers": bearer}),
        ("GET", {"params": values}),
    ):
        simulator.reset()
        response = http.request(method, "/wikipayam/api/v1/service/holoo", **sent)
        assert response.status_code == 200, method
        assert simulator.messages()[0]["text"] == "تست", method
        assert "TOKEN" not in http.get("/_api/requests").text, method


def test_holoo_by_post_needs_the_bearer(http, simulator):
    values = {"username": "u", "password": "t", "from": "1", "to": "09123456789", "message": "a"}
    for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Basic dTpw"}):
        sent = http.post("/wikipayam/api/v1/service/holoo", json=values, headers=headers)
        assert sent.status_code == 401, headers
    assert simulator.messages() == []


def test_parts_are_counted_by_the_pages_numbers_also_at_an_emoji(http, simulator):
    """70 characters in one part and 67 in each of several. An emoji counts as two."""
    account = simulator.state.accounts["wikipayam"]
    cases = [
        ("س" * 70, 1), ("س" * 71, 2), ("س" * 134, 2), ("س" * 135, 3),
        ("س" * 68 + "😀", 1), ("س" * 69 + "😀", 2),
        ("س" * 66 + "😀" + "س" * 66, 2),  # the emoji is at the edge of the first part
        ("a" * 160, 1), ("a" * 161, 2), ("a" * 306, 2), ("a" * 307, 3),
    ]  # fmt: skip
    for text, parts in cases:
        before = account.credit
        call(http, "POST", "sms/send", json=[{**SMS, "message": text}])
        assert before - account.credit == parts * 1_400, text


def test_an_invalid_request_is_answered_like_laravel(http, simulator):
    cases = [
        ("sms/send", [SMS, {**SMS, "receiver": "12"}], "1.receiver"),
        ("sms/send", [{**SMS, "message": " "}], "0.message"),
        ("sms/send", [{**SMS, "sender": None}], "0.sender"),
        ("sms/send", SMS, "sms"),
        ("otp/sms/send", [{"receiver": "09123456789", "code": "1"}], "0.otp_pattern_id"),
        ("voice-otp/send", {"receiver": "09123456789"}, "code"),
        ("sms/deliver", {"id": "x"}, "id"),
        ("receives/mark-read", {}, "receive_ids"),
    ]
    for path, body, field in cases:
        response = call(http, "POST", path, json=body)
        assert response.status_code == 422, body
        assert list(response.json()) == ["message", "errors"], body
        assert field in response.json()["errors"], body
        assert simulator.messages() == [], body


def test_a_limit_over_500_is_invalid(http):
    assert call(http, "GET", "receives?limit=501").status_code == 422


def test_a_missing_token_is_refused(http):
    for headers in ({}, {"Authorization": "Basic dTpw"}):
        response = http.get("/wikipayam/api/v1/user/balance", headers=headers)
        assert response.status_code == 401, headers
        assert response.json() == {"message": "Unauthenticated."}, headers
