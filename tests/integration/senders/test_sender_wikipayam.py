"""WikiPayam's sender against a loopback gateway that follows the samples of the vendor's page."""

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from senders.cases import each_case

from flask_smsverify.errors import (
    ConfigurationError,
    Misconfigured,
    Rejected,
    SenderError,
    TextRefused,
    Unavailable,
    Unknown,
)
from flask_smsverify.senders.base import Capability, CodeMessage, DeliveryState, Text
from flask_smsverify.senders.wikipayam import WikiPayam
from flask_smsverify.senders.wikipayam.client import (
    Marked,
    OutgoingCode,
    OutgoingText,
    Pagination,
    ReceivedMessage,
)
from flask_smsverify.testing import LoopbackGateway, Reply, Request, SenderContract

TOKEN = "17|kJsQ0OmpgQxGZv"
TO = "+989123456789"
HEX = itertools.count(0x69E5EEAB439260D336015405)


def data(value: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps({"data": value}, indent=2, ensure_ascii=False).encode())


# --- the gateway ---------------------------------------------------------------------------------


def answer(request: Request) -> Reply:
    """Return the page's answer to any recipient, text and code."""
    if request.headers.get("authorization") != f"Bearer {TOKEN}":
        return Reply(401, b'{"message": "Unauthenticated."}')
    match request.method, request.path.removeprefix("/api/v1/"):
        case "GET", "user/balance":
            return data(
                {"balance": 34359938, "currency": "IRR", "user_id": 1, "user_name": "admin"}
            )
        case "POST", "sms/send" | "otp/sms/send":
            entries = request.json
            assert isinstance(entries, list)
            return data(
                [
                    {
                        "id": f"{next(HEX):x}",
                        "sender": one.get("sender", "100010000"),
                        "receiver": one["receiver"],
                        "track_id": one["track_id"],
                    }
                    for one in entries
                ]
            )
        case "POST", "sms/deliver":
            asked = request.json["id"]  # type: ignore[index] -- it is an object
            known = [one for one in asked if one.isalnum()]
            return data(
                [
                    {"id": one, "deliver_status": "WAITING_FOR_UPDATE", "track_id": None}
                    for one in known
                ]
            )
        case "POST", "voice-otp/send":
            track = request.json.get("track_id")  # type: ignore[attr-defined] -- it is an object
            return data(
                {
                    "message": "Voice OTP queued successfully",
                    "id": "6a02f05a3492873a9e086e86",
                    "track_id": track,
                }
            )
        case "GET", "receives":
            return RECEIVES
    return Reply(404, b'{"message": "The route could not be found."}')


RECEIVES = data(
    {
        "receives": [
            {
                "id": "65109b3030ca072f7a047623",
                "sender": "989127782175",
                "receiver": "989999159314",
                "message": "۱۱",
                "received_at": "2023-09-24 23:55:20",
            },
            {
                "id": "65109b3030ca072f7a047624",
                "sender": "989178100665",
                "receiver": "989999159314",
                "message": "لغو ",
                "received_at": "2023-09-24 23:55:20",
            },
        ],
        "pagination": {
            "total": 2,
            "limit": "2",
            "offset": "0",
            "returned_count": 2,
            "total_pages": 1,
        },
        "filters": {"status": "all"},
    }
)

TWO_RECEIVED = (
    ReceivedMessage(
        "65109b3030ca072f7a047623",
        "+989127782175",
        "989999159314",
        "۱۱",
        datetime(2023, 9, 24, 20, 25, 20, tzinfo=UTC),
    ),
    ReceivedMessage(
        "65109b3030ca072f7a047624",
        "+989178100665",
        "989999159314",
        "لغو ",
        datetime(2023, 9, 24, 20, 25, 20, tzinfo=UTC),
    ),
)


def wikipayam(base_url: str, **options: object) -> WikiPayam:
    given = {"token": TOKEN, "line": "100010000", "otp_pattern_id": 13} | options
    return WikiPayam(base_url=f"{base_url}/api/v1", **given)  # type: ignore[arg-type] -- options vary by test


@pytest.fixture
def gateway() -> Iterator[LoopbackGateway]:
    with LoopbackGateway(answer) as gateway:
        yield gateway


@pytest.fixture
def sender(gateway: LoopbackGateway) -> Iterator[WikiPayam]:
    with closing(wikipayam(gateway.url)) as sender:
        yield sender


class TestWikiPayamContract(SenderContract):
    credentials = (TOKEN, "kJsQ0OmpgQxGZv")

    def make_sender(self, base_url: str) -> WikiPayam:
        return wikipayam(base_url)

    def answer(self, request: Request) -> Reply:
        return answer(request)


class TestWikiPayamWithoutAPatternContract(SenderContract):
    credentials = (TOKEN, "kJsQ0OmpgQxGZv")

    def make_sender(self, base_url: str) -> WikiPayam:
        return wikipayam(base_url, otp_pattern_id=None)

    def answer(self, request: Request) -> Reply:
        return answer(request)


# --- every call, byte by byte --------------------------------------------------------------------

Call = Callable[[WikiPayam], object]


def sent(*rows: tuple[str, str, str]) -> Reply:
    return data(
        [
            {"id": given, "sender": "100010000", "receiver": receiver, "track_id": track}
            for given, receiver, track in rows
        ]
    )


#: The method and target, the call, the request's body, the answer, the call's result.
SAMPLES: list[tuple[str, str, Call, str, Reply, object]] = [
    (
        "GET",
        "user/balance",
        lambda s: (
            s.client.get_balance().amount,
            s.client.get_balance().currency,
            s.client.get_balance().user_id,
            s.client.get_balance().user_name,
        ),
        "",
        data({"balance": 34359938, "currency": "IRR", "user_id": 1, "user_name": "admin"}),
        (Decimal(34359938), "IRR", 1, "admin"),
    ),
    (
        "POST",
        "sms/send",
        lambda s: [
            (o.id, o.sender, o.receiver, o.track_id)
            for o in s.client.send(
                [OutgoingText(TO, "Your verification code is: 123456", "TRACK_001")]
            )
        ],
        '[{"sender":"100010000","receiver":"09123456789",'
        '"message":"Your verification code is: 123456","track_id":"TRACK_001"}]',
        sent(("69e5eeab439260d336015405", "09123456789", "TRACK_001")),
        [("69e5eeab439260d336015405", "100010000", TO, "TRACK_001")],
    ),
    (
        "POST",
        "sms/send",
        lambda s: [
            (o.id, o.track_id)
            for o in s.client.send(
                [
                    OutgoingText(TO, "Hello from sender 1", "TRACK_001"),
                    OutgoingText("+989987654321", "Hello from sender 1", "TRACK_002"),
                    OutgoingText(TO, "Hello from sender 2", "TRACK_003", sender="10002000"),
                ]
            )
        ],
        '[{"sender":"100010000","receiver":"09123456789",'
        '"message":"Hello from sender 1","track_id":"TRACK_001"},'
        '{"sender":"100010000","receiver":"09987654321",'
        '"message":"Hello from sender 1","track_id":"TRACK_002"},'
        '{"sender":"10002000","receiver":"09123456789",'
        '"message":"Hello from sender 2","track_id":"TRACK_003"}]',
        sent(
            ("69e5eee2439260d336015409", "09123456789", "TRACK_001"),
            ("69e5eee2439260d33601540a", "09987654321", "TRACK_002"),
            ("69e5eee2439260d33601540b", "09123456789", "TRACK_003"),
        ),
        [
            ("69e5eee2439260d336015409", "TRACK_001"),
            ("69e5eee2439260d33601540a", "TRACK_002"),
            ("69e5eee2439260d33601540b", "TRACK_003"),
        ],
    ),
    (
        "POST",
        "sms/send",
        lambda s: len(s.client.send([OutgoingText(TO, "As a note", "TRACK_004", as_note=True)])),
        '[{"sender":"100010000","receiver":"09123456789","note":"As a note",'
        '"track_id":"TRACK_004"}]',
        sent(("69e5eeab439260d336015405", "09123456789", "TRACK_004")),
        1,
    ),
    (
        "POST",
        "sms/deliver",
        lambda s: [
            (o.id, o.status, o.deliver_status, o.track_id)
            for o in s.client.deliver(["69e5eeab439260d336015405", "507f1f77bcf86cd799439012"])
        ],
        '{"id":["69e5eeab439260d336015405","507f1f77bcf86cd799439012"]}',
        data(
            [
                {
                    "id": "69e5eeab439260d336015405",
                    "deliver_status": "WAITING_FOR_UPDATE",
                    "track_id": None,
                }
            ]
        ),
        [("69e5eeab439260d336015405", DeliveryState.SENT, "WAITING_FOR_UPDATE", "")],
    ),
    (
        "POST",
        "sms/receive",
        lambda s: s.client.receive(date(2024, 1, 1)),
        '{"from_date":"2024-01-01"}',
        data([{"anything": 1}]),
        [{"anything": 1}],
    ),
    (
        "GET",
        "receives?limit=20&offset=0&status=all",
        lambda s: s.client.get_receives().messages,
        "",
        RECEIVES,
        TWO_RECEIVED,
    ),
    (
        "GET",
        "receives?limit=50&offset=0&status=unread&sender=09123456789&from_date=2024-01-01"
        "&to_date=2024-12-31&search=verification&sort_by=created_at&sort_order=desc",
        lambda s: (
            s.client.get_receives(
                limit=50,
                status="unread",
                sender=TO,
                from_date=date(2024, 1, 1),
                to_date=date(2024, 12, 31),
                search="verification",
                sort_by="created_at",
                sort_order="desc",
            ).total
        ),
        "",
        RECEIVES,
        2,
    ),
    (
        "GET",
        "receives/unread?limit=30&offset=0&sender=100020003000&from_date=2024-01-01"
        "&to_date=2024-02-01",
        lambda s: (
            s.client.get_unread(
                limit=30,
                sender="100020003000",
                from_date=date(2024, 1, 1),
                to_date=date(2024, 2, 1),
            ).total
        ),
        "",
        data(
            {
                "total_unread": 178,
                "receives": [],
                "pagination": {"limit": "2", "offset": "0", "returned_count": 2},
            }
        ),
        178,
    ),
    (
        "GET",
        "receives/unread/count",
        lambda s: s.client.get_unread_count(),
        "",
        data({"unread_count": 178}),
        178,
    ),
    (
        "GET",
        "receives/statistics?from_date=2024-01-01&to_date=2024-12-31",
        lambda s: s.client.get_statistics(from_date=date(2024, 1, 1), to_date=date(2024, 12, 31)),
        "",
        data({"total": 5}),
        {"total": 5},
    ),
    (
        "GET",
        "receives/507f1f77bcf86cd799439011",
        lambda s: s.client.get_received("507f1f77bcf86cd799439011").id,
        "",
        data({"id": "507f1f77bcf86cd799439011", "sender": "989127782175"}),
        "507f1f77bcf86cd799439011",
    ),
    (
        "POST",
        "receives/mark-read",
        lambda s: s.client.mark_read(["507f1f77bcf86cd799439011", "507f1f77bcf86cd799439012"]),
        '{"receive_ids":["507f1f77bcf86cd799439011","507f1f77bcf86cd799439012"]}',
        data({"marked_count": 1, "requested_count": 1}),
        Marked(1, 1),
    ),
    (
        "POST",
        "receives/mark-read",
        lambda s: s.client.mark_all_read().marked,
        '{"mark_all":true}',
        data({"marked_count": 3}),
        3,
    ),
    (
        "DELETE",
        "receives",
        lambda s: (
            s.client.delete_receives(
                ["507f1f77bcf86cd799439011", "507f1f77bcf86cd799439012"]
            ).requested
        ),
        '{"receive_ids":["507f1f77bcf86cd799439011","507f1f77bcf86cd799439012"]}',
        data({"deleted_count": 1, "requested_count": 1}),
        1,
    ),
    (
        "DELETE",
        "receives",
        lambda s: s.client.delete_all_read().deleted,
        '{"delete_all_read":true}',
        data({"deleted_count": 1, "message": "All read receives have been deleted"}),
        1,
    ),
    (
        "DELETE",
        "receives",
        lambda s: s.client.delete_all_unread().deleted,
        '{"delete_all_unread":true}',
        data({"deleted_count": "4", "message": "..."}),
        4,
    ),
    (
        "DELETE",
        "receives",
        lambda s: s.client.delete_older_than(30).deleted,
        '{"delete_older_than_days":30}',
        data({"deleted_count": 0}),
        0,
    ),
    (
        "POST",
        "otp/sms/send",
        lambda s: [o.id for o in s.client.send_otp([OutgoingCode(TO, "123456", "OTP_001")])],
        '[{"receiver":"09123456789","code":"123456","otp_pattern_id":13,"track_id":"OTP_001"}]',
        sent(("69e5eeab439260d336015405", "09123456789", "OTP_001")),
        ["69e5eeab439260d336015405"],
    ),
    (
        "POST",
        "otp/sms/send",
        lambda s: [o.id for o in s.client.send_otp([OutgoingCode(TO, "123456", "OTP_001", 14)])],
        '[{"receiver":"09123456789","code":"123456","otp_pattern_id":14,"track_id":"OTP_001"}]',
        data({"message": "queued", "id": "69e5eeab439260d336015405"}),
        ["69e5eeab439260d336015405"],
    ),
    (
        "POST",
        "voice-otp/send",
        lambda s: s.client.send_voice_otp(TO, "123456", "ORDER-1001").id,
        '{"receiver":"09123456789","code":"123456","track_id":"ORDER-1001"}',
        data(
            {
                "message": "Voice OTP queued successfully",
                "id": "6a02f05a3492873a9e086e86",
                "track_id": "ORDER-1001",
            }
        ),
        "6a02f05a3492873a9e086e86",
    ),
    (
        "POST",
        "voice-otp/send",
        lambda s: s.client.send_voice_otp(TO, "123456").id,
        '{"receiver":"09123456789","code":"123456"}',
        data({"message": "Voice OTP queued successfully", "id": 17, "track_id": None}),
        "17",
    ),
    (
        "POST",
        "service/holoo",
        lambda s: s.client.send_holoo("reza", TO, "This is a test message from Holoo SMS").id,
        '{"username":"reza","password":"17|kJsQ0OmpgQxGZv","from":"100010000",'
        '"to":"09123456789","message":"This is a test message from Holoo SMS"}',
        sent(("69e5eeab439260d336015405", "09123456789", "")),
        "69e5eeab439260d336015405",
    ),
]


@each_case(
    ("method", "target", "call", "request_body", "answered", "means"),
    SAMPLES,
)
def test_every_call_writes_and_reads_what_the_page_prints(
    sender: WikiPayam,
    gateway: LoopbackGateway,
    method: str,
    target: str,
    call: Call,
    request_body: str,
    answered: Reply,
    means: object,
) -> None:
    gateway.answer = lambda _: answered
    assert call(sender) == means
    request = gateway.requests[0]
    assert (request.method, request.target) == (method, f"/api/v1/{target}")
    assert request.body.decode() == request_body
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["accept"] == "application/json"
    assert request.headers.get("content-type") == ("application/json" if request_body else None)


def test_the_token_is_never_in_a_url(sender: WikiPayam, gateway: LoopbackGateway) -> None:
    for *_, call, _, answered, _ in SAMPLES:
        gateway.answer = lambda _, reply=answered: reply
        call(sender)
    assert not any("kJsQ0" in request.target for request in gateway.requests)
    assert len(gateway.requests) >= len(SAMPLES)


def test_an_id_is_quoted_in_the_path(sender: WikiPayam, gateway: LoopbackGateway) -> None:
    gateway.answer = lambda _: data({"id": "1"})
    sender.client.get_received("../user/balance?x=1#y")
    assert gateway.requests[0].target == "/api/v1/receives/..%2Fuser%2Fbalance%3Fx%3D1%23y"


# --- options -------------------------------------------------------------------------------------


@each_case(
    ("options", "named"),
    [
        ({"token": ""}, "token"),
        ({"token": 1.5}, "token"),
        ({"token": "a\r\nX-Evil: 1"}, "token"),
        ({"token": "توکن"}, "token"),
        ({"line": True}, "line"),
        ({"otp_pattern_id": "thirteen"}, "otp_pattern_id"),
        ({"otp_pattern_id": -1}, "otp_pattern_id"),
        ({"otp_pattern_id": 1.0}, "otp_pattern_id"),
    ],
)
def test_an_invalid_option_is_refused_by_name(options: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as refused:
        wikipayam("https://a.example", **options)
    assert "Evil" not in str(refused.value)


def test_the_options_decide_the_capabilities(gateway: LoopbackGateway) -> None:
    always = {
        Capability.CODE_VOICE,
        Capability.CREDIT,
        Capability.STATUS,
        Capability.INCOMING,
    }
    code, text = Capability.CODE_SMS, Capability.TEXT
    for line, pattern, more in (
        ("", None, set()),
        ("", "", set()),
        ("", "13", {code}),
        (100010000, None, {code, text}),
        ("1000", 13, {code, text}),
    ):
        with closing(wikipayam(gateway.url, line=line, otp_pattern_id=pattern)) as sender:
            assert sender.capabilities == always | more
            if code not in more:
                with pytest.raises(Unavailable) as refused:
                    sender.send_code(CodeMessage(TO, "123456", "code 123456"))
                assert not refused.value.written
    assert not gateway.requests


def test_a_code_by_a_pattern_sends_the_code_alone(
    sender: WikiPayam, gateway: LoopbackGateway
) -> None:
    receipt = sender.send_code(CodeMessage(TO, "0123", "code 0123", reference="r1"))
    assert gateway.requests[-1].json == [
        {"receiver": "09123456789", "code": "0123", "otp_pattern_id": 13, "track_id": "r1"}
    ]
    assert receipt.status is DeliveryState.QUEUED


def test_a_code_without_a_pattern_is_sent_as_a_text(gateway: LoopbackGateway) -> None:
    with closing(wikipayam(gateway.url, otp_pattern_id=None)) as sender:
        sender.send_code(CodeMessage(TO, "0123", "code 0123", reference="r1"))
    [entry] = gateway.requests[-1].json  # type: ignore[misc] -- it is a list
    assert entry["message"] == "code 0123"


def test_the_state_of_a_phone_call_is_unknown_without_a_request(
    sender: WikiPayam, gateway: LoopbackGateway
) -> None:
    receipt = sender.send_code(CodeMessage(TO, "0123", "code 0123", channel="voice"))
    assert receipt.id == "voice:6a02f05a3492873a9e086e86"
    asked = len(gateway.requests)
    assert sender.statuses([receipt.id]) == {receipt.id: DeliveryState.UNKNOWN}
    assert len(gateway.requests) == asked


# --- errors --------------------------------------------------------------------------------------


def laravel(*fields: str) -> bytes:
    return json.dumps(
        {"message": "The given data was invalid.", "errors": {one: ["Bad."] for one in fields}}
    ).encode()


@each_case(
    ("status", "body", "kind", "reason"),
    [
        (401, b'{"message": "Unauthenticated."}', Unavailable, "credentials"),
        (402, b'{"message": "No credit."}', Unavailable, "no credit"),
        (403, b'{"message": "Forbidden."}', Unavailable, "may not"),
        (429, b'{"message": "Too Many Attempts."}', Unavailable, "too many"),
        (500, b'{"message": "Server Error"}', Unavailable, "failed"),
        (503, b"<h1>Maintenance</h1>", Unavailable, "failed"),
        (422, laravel("0.receiver"), Rejected, "receiver"),
        (422, laravel("receiver"), Rejected, "receiver"),
        (422, laravel("0.message"), TextRefused, "message"),
        (422, laravel("message"), TextRefused, "message"),
        (422, laravel("0.message", "0.receiver"), Rejected, "message, receiver"),
        (422, laravel("0.code", "0.receiver"), Rejected, "code, receiver"),
        (422, laravel("0.sender"), Misconfigured, "sender"),
        (422, laravel("0.otp_pattern_id", "0.receiver"), Misconfigured, "otp_pattern_id"),
        (422, laravel("0.surprise"), Misconfigured, "surprise"),
        (422, laravel("0.09123456789"), Misconfigured, "refuses the request"),
        (422, b'{"message": "No."}', Rejected, "refuses the request"),
        (404, b'{"message": "Not found"}', Misconfigured, "base_url"),
        (405, b'{"message": "Not allowed"}', Misconfigured, "base_url"),
        (400, b'{"message": "Line 100010000 is not yours"}', Unavailable, "••• is not yours"),
        (409, b"{}", Unavailable, "no reason given"),
        (413, b"<h1>Too large</h1>", Unavailable, "refused the request"),
        (404, b"<h1>Not found</h1>", Misconfigured, "base_url"),
        (400, b'{"data": [{"id": "17", "track_id": "r1"}]}', Unknown, "no reason given"),
        (200, b'{"message": "Unauthenticated."}', Unknown, "data"),
        (200, b'{"data": null}', Unknown, "list"),
        (200, b'{"data": []}', Unknown, "omits this recipient"),
        (200, b'{"data": {"message": "queued"}}', Unknown, "omits this recipient"),
        (200, b'{"data": [{"id": null, "track_id": "r1"}]}', Unknown, "omits"),
        (200, b'{"data": [{"id": true, "track_id": "r1"}]}', Unknown, "omits"),
        (200, b'{"data": [{"id": 0, "track_id": "r1"}]}', Unknown, "omits"),
        (200, b'{"data": [{"id": "17", "track_id": "r2"}]}', Unknown, "omits"),
        (200, b'{"data": [{"id": "17", "receiver": "09350000000"}]}', Unknown, "omits"),
        (
            200,
            b'{"data": [{"id": "17", "track_id": "r1", "receiver": "09350000000"}]}',
            Unknown,
            "omits",
        ),
    ],
)
def test_every_error_answer_raises_its_error(
    sender: WikiPayam,
    gateway: LoopbackGateway,
    status: int,
    body: bytes,
    kind: type[SenderError],
    reason: str,
) -> None:
    gateway.answer = lambda _: Reply(status, body)
    for call in (
        lambda: sender.send_text(TO, "hi", reference="r1"),
        lambda: sender.send_code(CodeMessage(TO, "0123", "code", reference="r1")),
    ):
        with pytest.raises(SenderError, match=reason) as refused:
            call()
        assert isinstance(refused.value, kind)
        assert refused.value.sender == "wikipayam"


def test_an_unknown_received_text_is_rejected(sender: WikiPayam, gateway: LoopbackGateway) -> None:
    with pytest.raises(Rejected, match="no message with this id"):
        sender.client.get_received("507f1f77bcf86cd799439011")


@each_case("prefix", ["", "data.", "messages."])
def test_one_bad_number_does_not_fail_the_others(
    sender: WikiPayam, gateway: LoopbackGateway, prefix: str
) -> None:
    def picky(request: Request) -> Reply:
        entries = request.json
        assert isinstance(entries, list)
        bad = [n for n, one in enumerate(entries) if one["receiver"].endswith("0000")]
        if bad:
            return Reply(422, laravel(*[f"{prefix}{n}.receiver" for n in bad]))
        return answer(request)

    gateway.answer = picky
    mobiles = ["+989120000000", TO, "+989350000000", "+989121111111"]
    receipts = list(sender.send_many(Text(to, "hi", to[-4:]) for to in mobiles))
    assert [receipt.to for receipt in receipts] == mobiles
    assert [type(receipt.error) for receipt in receipts] == [
        Rejected,
        type(None),
        Rejected,
        type(None),
    ]
    assert [receipt.status for receipt in receipts[:2]] == [
        DeliveryState.REJECTED,
        DeliveryState.QUEUED,
    ]
    assert [len(request.json) for request in gateway.requests] == [4, 2]  # type: ignore[arg-type] -- lists


def test_an_error_after_a_refused_number_applies_to_the_others_only(
    sender: WikiPayam, gateway: LoopbackGateway
) -> None:
    def worse(_: Request) -> Reply:
        first = len(gateway.requests) == 1
        return Reply(422, laravel("0.receiver")) if first else Reply(200, b"")

    gateway.answer = worse
    first, second = sender.send_many([Text(TO, "hi", "r1"), Text(TO, "hi", "r2")])
    assert isinstance(first.error, Rejected)
    assert isinstance(second.error, Unknown)


def test_a_refused_entry_outside_the_request_fails_all(
    sender: WikiPayam, gateway: LoopbackGateway
) -> None:
    gateway.answer = lambda _: Reply(422, laravel("7.receiver"))
    receipts = list(sender.send_many([Text(TO, "hi", "r1"), Text(TO, "hi", "r2")]))
    assert all(isinstance(receipt.error, Rejected) for receipt in receipts)
    assert len(gateway.requests) == 1


# --- matching ------------------------------------------------------------------------------------


def test_receipts_are_matched_by_track_id_in_any_order(
    sender: WikiPayam, gateway: LoopbackGateway
) -> None:
    def shuffled(request: Request) -> Reply:
        rows = json.loads(answer(request).body)["data"]
        for place, one in enumerate(rows):
            one["id"] = f"id-{place}"
        return data([rows[2], "row", rows[0], None])

    gateway.answer = shuffled
    texts = [Text(TO, "a", "r1"), Text(TO, "b", "r2"), Text(TO, "c", "r3")]
    receipts = list(sender.send_many(texts))
    assert [receipt.id for receipt in receipts] == ["id-0", None, "id-2"]
    assert receipts[1].status is DeliveryState.UNKNOWN
    assert isinstance(receipts[1].error, Unknown)


@each_case("references", [("", "", ""), ("same", "same", "same")])
def test_texts_without_a_unique_reference_get_a_unique_track_id(
    sender: WikiPayam, gateway: LoopbackGateway, references: tuple[str, ...]
) -> None:
    receipts = list(sender.send_many(Text(TO, "a", one) for one in references))
    tracks = [one["track_id"] for one in gateway.requests[0].json]  # type: ignore[attr-defined] -- a list
    assert len(set(tracks)) == 3
    assert all(tracks)
    assert len({receipt.id for receipt in receipts}) == 3
    assert tuple(receipt.reference for receipt in receipts) == references


def test_an_answer_without_track_ids_is_matched_by_a_unique_mobile(
    sender: WikiPayam, gateway: LoopbackGateway
) -> None:
    mobiles = [TO, "+989121111111", "+989122222222", "+989122222222"]

    def untracked(request: Request) -> Reply:
        rows = json.loads(answer(request).body)["data"]
        return data([{"id": f"id-{n}", "receiver": one["receiver"]} for n, one in enumerate(rows)])

    gateway.answer = untracked
    receipts = list(sender.send_many(Text(to, "a", f"r{n}") for n, to in enumerate(mobiles)))
    assert [receipt.id for receipt in receipts] == ["id-0", "id-1", None, None]


@each_case(
    ("word", "status"),
    [
        ("WAITING_FOR_UPDATE", DeliveryState.SENT),
        ("DELIVERED", DeliveryState.DELIVERED),
        ("UNDELIVERED", DeliveryState.UNDELIVERED),
        ("REJECTED", DeliveryState.REJECTED),
        ("SOMETHING_NEW", DeliveryState.UNKNOWN),
        ("", DeliveryState.UNKNOWN),
        (None, DeliveryState.UNKNOWN),
        (["DELIVERED"], DeliveryState.UNKNOWN),
        (1, DeliveryState.UNKNOWN),
    ],
)
def test_every_delivery_state_is_mapped(
    sender: WikiPayam, gateway: LoopbackGateway, word: object, status: DeliveryState
) -> None:
    gateway.answer = lambda _: data([{"id": "a1", "deliver_status": word}, {"id": "not-asked"}])
    assert sender.statuses(["a1", "b2"]) == {"a1": status, "b2": DeliveryState.UNKNOWN}


def test_many_ids_are_several_status_calls(sender: WikiPayam, gateway: LoopbackGateway) -> None:
    states = sender.statuses([f"a{number}" for number in range(1001)])
    assert set(states.values()) == {DeliveryState.SENT}
    assert len(gateway.requests) == 3


# --- received texts ------------------------------------------------------------------------------


def test_pagination_and_filters_of_each_listing_are_kept(
    sender: WikiPayam, gateway: LoopbackGateway
) -> None:
    page = sender.client.get_receives(limit=2)
    assert page.pagination == Pagination(
        total=2, limit=2, offset=0, returned_count=2, total_pages=1
    )
    assert page.filters == {"status": "all"}
    assert (page.total, page.total_unread) == (2, None)
    listing = {"limit": "30", "offset": "60", "returned_count": 0}
    gateway.answer = lambda _: data({"total_unread": 178, "receives": [], "pagination": listing})
    unread = sender.client.get_unread(limit=30, offset=60)
    assert unread.pagination == Pagination(limit=30, offset=60, returned_count=0)
    assert (unread.total, unread.total_unread, unread.filters) == (178, 178, {})


@each_case("omitted", [{"receives": []}, {"receives": [], "pagination": [], "filters": []}])
def test_a_listing_without_pagination_is_read(
    sender: WikiPayam, gateway: LoopbackGateway, omitted: dict[str, object]
) -> None:
    gateway.answer = lambda _: data(omitted)
    page = sender.client.get_receives()
    assert (page.pagination, page.filters, page.total) == (Pagination(), {}, None)


def test_the_sentences_of_a_call_and_a_deletion_are_kept(
    sender: WikiPayam, gateway: LoopbackGateway
) -> None:
    told = {"message": "Voice OTP queued successfully", "id": "6a02f0", "track_id": "ORDER-1001"}
    gateway.answer = lambda _: data(told)
    call = sender.client.send_voice_otp(TO, "123456", "ORDER-1001")
    assert (call.id, call.message, call.track_id) == (told["id"], told["message"], "ORDER-1001")
    sentence = "All read receives have been deleted"
    gateway.answer = lambda _: data({"deleted_count": 1, "message": sentence})
    deleted = sender.client.delete_all_read()
    assert (deleted.deleted, deleted.requested, deleted.message) == (1, None, sentence)


def test_a_page_of_five_hundred_long_texts_is_read(
    sender: WikiPayam, gateway: LoopbackGateway
) -> None:
    rows = [{"id": f"m{number}", "message": "س" * 670} for number in range(500)]
    gateway.answer = lambda _: data({"receives": rows})  # JSON with escapes: six bytes a letter
    assert len(sender.client.get_receives(limit=500).messages) == 500


def pages(gateway: LoopbackGateway, count: int, *, per_page: int, total: object) -> None:
    def page(request: Request) -> Reply:
        query = dict(part.split("=") for part in request.target.partition("?")[2].split("&"))
        offset = int(query["offset"])
        rows = [{"id": f"m{n}"} for n in range(offset, min(offset + per_page, count))]
        return data({"receives": rows, "pagination": {"total": total}})

    gateway.answer = page


@each_case("total", [5, "5", None, "many"])
def test_received_texts_are_requested_page_by_page(
    sender: WikiPayam, gateway: LoopbackGateway, total: object
) -> None:
    pages(gateway, 5, per_page=2, total=total)
    messages = sender.received(datetime(2024, 1, 1, 1, tzinfo=UTC))
    assert next(messages).id == "m0"
    assert [request.target for request in gateway.requests] == [
        "/api/v1/receives?limit=500&offset=0&status=all&from_date=2024-01-01"
        "&sort_by=created_at&sort_order=asc"
    ]
    assert [one.id for one in messages] == ["m1", "m2", "m3", "m4"]
    assert len(gateway.requests) == (3 if total in (5, "5") else 4)


def test_endless_pages_stop_with_an_error(sender: WikiPayam, gateway: LoopbackGateway) -> None:
    gateway.answer = lambda _: data({"receives": [{"id": "m1"}], "pagination": {"total": 10**9}})
    with pytest.raises(Unknown, match="are the same"):
        list(sender.received(datetime(2024, 1, 1, tzinfo=UTC)))


@each_case(
    ("given", "read"),
    [
        ("2023-09-24 23:55:20", datetime(2023, 9, 24, 20, 25, 20, tzinfo=UTC)),
        ("2023-09-24T20:25:20Z", datetime(2023, 9, 24, 20, 25, 20, tzinfo=UTC)),
        ("2023-09-24T20:25:20.000000Z", datetime(2023, 9, 24, 20, 25, 20, tzinfo=UTC)),
        ("0000-00-00 00:00:00", None),
        ("0001-01-01 00:00:00", None),
        ("yesterday", None),
        (None, None),
        (1695586520, None),
    ],
)
def test_a_time_without_a_zone_is_read_as_tehrans(
    sender: WikiPayam, gateway: LoopbackGateway, given: object, read: datetime | None
) -> None:
    gateway.answer = lambda _: data({"receives": [{"id": "m1", "received_at": given}]})
    [message] = sender.client.get_receives().messages
    assert message.received_at == read


@each_case(("limit", "offset"), [(0, 0), (501, 0), (1, -1)])
def test_an_invalid_page_is_refused_without_a_request(
    sender: WikiPayam, gateway: LoopbackGateway, limit: int, offset: int
) -> None:
    with pytest.raises(ConfigurationError):
        sender.client.get_receives(limit=limit, offset=offset)
    with pytest.raises(ConfigurationError):
        sender.client.get_unread(limit=limit, offset=offset)
    with pytest.raises(ConfigurationError):
        sender.client.delete_older_than(0)
    assert not gateway.requests


@each_case("value", [None, True, [], {}, "", "1e3", "NaN", 1e300, "1,000", -1.5])
def test_data_of_the_wrong_type_is_unknown(
    sender: WikiPayam, gateway: LoopbackGateway, value: object
) -> None:
    keys = ("balance", "unread_count", "marked_count", "deleted_count", "receives")
    gateway.answer = lambda _: data(dict.fromkeys(keys, value))
    client = sender.client
    calls = [client.get_unread_count, client.mark_all_read, client.delete_all_read]
    if value != -1.5:
        calls.append(client.get_balance)
    if value != []:
        calls.append(client.get_receives)
    for call in calls:
        with pytest.raises(Unknown):
            call()
