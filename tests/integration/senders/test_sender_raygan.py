"""Raygan's sender against a loopback gateway that follows the samples of the web-service guide."""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest
from senders.cases import each_case

from flask_smsverify.errors import (
    ConfigurationError,
    Misconfigured,
    NotCarried,
    SenderError,
    TextRefused,
    Unavailable,
    Unknown,
)
from flask_smsverify.senders.base import Capability, CodeMessage, DeliveryState, Text
from flask_smsverify.senders.raygan import Raygan
from flask_smsverify.senders.raygan.client import PersonalText
from flask_smsverify.testing import LoopbackGateway, Reply, Request, SenderContract

DONE = " شد انجام موفقیت با عملیات "
GROUP = "973c22de-292d-4403-8baa-2f32cc762086"
PASSWORD = "sesame-Π:x"
AUTHORIZATION = "Basic " + base64.b64encode("reza:sesame-Π:x".encode()).decode()


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def envelope(result: object, code: int = 0) -> bytes:
    """Return an envelope in the layout of the guide."""
    return json.dumps(
        {"Code": code, "Message": DONE, "Result": result}, indent=4, ensure_ascii=False
    ).encode()


# --- the gateway ---------------------------------------------------------------------------------


def answer(request: Request) -> Reply:
    """Return the guide's answer to any recipient, text and code."""
    if request.method != "POST":
        return Reply(405)
    if request.headers.get("authorization") != AUTHORIZATION:
        return Reply(401, b"Unauthorized", "text/plain")
    body = request.json
    assert isinstance(body, dict)
    match request.path.rpartition("/")[2]:
        case "SendMessage":
            return Reply(200, envelope(GROUP))
        case "SendCorrespondingMessage" | "SendMessageToPort":
            rows = [
                {"Id": int(row["Id"]), "Mobile": row["Mobile"], "Result": 2825 + int(row["Id"])}
                for row in body["RecipientsMessage"]
            ]
            return Reply(200, envelope(rows))
        case "GroupMessageStatus":
            rows = [{"Mobile": "9123456789", "Status": "0"}]
            return Reply(200, envelope({"StatusCode": "1", "MessagesListState": rows}))
        case "CorrespondingMessageStatus":
            rows = [{"MsgId": one, "Status": "1"} for one in body["messageId"] if one.isdecimal()]
            return Reply(200, envelope(rows))
        case "ReceiveMessages":
            rows = [{"Mobile": "989116420422", "Date": 1613388346, "MsgBody": " 1تست "}]
            return Reply(200, envelope({"Page": 1, "TotalPage": 1, "ReceivedMsgs": rows}))
        case "GetCredit":
            return Reply(200, envelope(129249))
        case "SendAutoCode" | "SendCode":
            return Reply(200, b"2826")
        case "CheckSendCode":
            return Reply(200, b"true")
    return Reply(404, b"no such method", "text/plain")


def raygan(base_url: str, **options: object) -> Raygan:
    given = {"username": "reza", "password": PASSWORD, "line": "50002910001080"} | options
    return Raygan(base_url=f"{base_url}/api/smsAPI", **given)  # type: ignore[arg-type] -- options vary by test


@pytest.fixture
def gateway() -> Iterator[LoopbackGateway]:
    with LoopbackGateway(answer) as gateway:
        yield gateway


@pytest.fixture
def sender(gateway: LoopbackGateway) -> Iterator[Raygan]:
    with closing(raygan(gateway.url)) as sender:
        yield sender


class TestRayganContract(SenderContract):
    credentials = (PASSWORD, "sesame", AUTHORIZATION.removeprefix("Basic "))

    def make_sender(self, base_url: str) -> Raygan:
        return raygan(base_url)

    def answer(self, request: Request) -> Reply:
        return answer(request)


# --- every method, byte by byte ------------------------------------------------------------------

THREE = [
    PersonalText("1", "+989112170848", "کاربراول"),
    PersonalText("2", "+989116662206", "کاربردوم"),
    PersonalText("3", "+989119048697", "کاربرسوم"),
]

Call = Callable[[Raygan], object]

#: The method, the call, the request, the answer as the guide prints it, the call's result.
SAMPLES: list[tuple[str, Call, str, bytes, object]] = [
    (
        "SendMessage",
        lambda s: s.client.send_message(
            "test", ["+98911111111", "+98911111112"], at=at(1537701659)
        ),
        '{"PhoneNumber":"50002910001080","Message":"test","Mobiles":["0911111111","0911111112"],'
        '"UserGroupID":"13","SendDateInTimeStamp":1537701659}',
        envelope(GROUP),
        GROUP,
    ),
    (
        "SendAutoCode",
        lambda s: s.client.send_auto_code("+989116420422", "RayganSMS.com"),
        '{"Mobile":"09116420422","Footer":"RayganSMS.com"}',
        b"2001234",
        2001234,
    ),
    (
        "SendAutoCode",
        lambda s: s.client.send_auto_code("+989116420422"),
        '{"Mobile":"09116420422","Footer":"our footer"}',
        b"2826\r\n",
        2826,
    ),
    (
        "CheckSendCode",
        lambda s: s.client.check_send_code("+989116420422", "545668"),
        '{"Mobile":"09116420422","Code":"545668"}',
        b"true",
        True,
    ),
    (
        "SendCode",
        lambda s: s.client.send_own_code("+989116420422", "سلام کد احراز هویت شما : 21335"),
        '{"Mobile":"09116420422","Message":"سلام کد احراز هویت شما : 21335"}',
        b"2826",
        2826,
    ),
    (
        "SendCorrespondingMessage",
        lambda s: [
            (o.id, o.mobile, o.message_id) for o in s.client.send_corresponding_message(THREE)
        ],
        '{"PhoneNumber":"50002910001080","RecipientsMessage":['
        '{"Id":"1","Message":"کاربراول","Mobile":"09112170848"},'
        '{"Id":"2","Message":"کاربردوم","Mobile":"09116662206"},'
        '{"Id":"3","Message":"کاربرسوم","Mobile":"09119048697"}],"UserGroupID":"13"}',
        envelope(
            [
                {"Id": 1, "Mobile": "09112170848", "Result": 2826},
                {"Id": 2, "Mobile": "09116662206", "Result": 2827},
                {"Id": 3, "Mobile": "09119048697", "Result": 2828},
            ]
        ),
        [
            ("1", "+989112170848", "2826"),
            ("2", "+989116662206", "2827"),
            ("3", "+989119048697", "2828"),
        ],
    ),
    (
        "SendMessageToPort",
        lambda s: [
            (o.id, o.mobile, o.message_id)
            for o in s.client.send_message_to_port(THREE, receive_port=20, send_port=40)
        ],
        '{"PhoneNumber":"50002910001080","recievePortNumber":20,"sendPortNumber":40,'
        '"RecipientsMessage":['
        '{"Id":"1","Message":"کاربراول","Mobile":"09112170848"},'
        '{"Id":"2","Message":"کاربردوم","Mobile":"09116662206"},'
        '{"Id":"3","Message":"کاربرسوم","Mobile":"09119048697"}],"UserGroupID":"13"}',
        b'{"Code": 0, "Message": "...", "Result":[{"Id":1,"Mobile":"09112170848","Result":2000},'
        b'{"Id":2,"Mobile":"09116662206","Result":2001}]}',
        [("1", "+989112170848", "2000"), ("2", "+989116662206", "2001")],
    ),
    (
        "GroupMessageStatus",
        lambda s: [
            (o.mobile, o.status, o.code) for o in s.client.group_message_status("16").recipients
        ],
        '{"GroupMessageId":"16"}',
        envelope(
            {
                "StatusCode": "1",
                "MessagesListState": [
                    {"Mobile": "9116420422", "Status": "0"},
                    {"Mobile": "9116665601", "Status": "0"},
                ],
            }
        ),
        [("+989116420422", DeliveryState.SENT, 0), ("+989116665601", DeliveryState.SENT, 0)],
    ),
    (
        "CorrespondingMessageStatus",
        lambda s: [
            (o.message_id, o.status) for o in s.client.corresponding_message_status(["1", "2"])
        ],
        '{"messageId":["1","2"]}',
        envelope([{"MsgId": "1", "Status": "1"}, {"MsgId": "2", "Status": "1"}]),
        [("1", DeliveryState.DELIVERED), ("2", DeliveryState.DELIVERED)],
    ),
    (
        "GetGroupMessageId",
        lambda s: s.client.get_group_message_id("16"),
        '{"groupId":"16"}',
        envelope("8b856761-4375-49dc-960a-5addb6d9b843"),
        "8b856761-4375-49dc-960a-5addb6d9b843",
    ),
    (
        "ReceiveMessages",
        lambda s: [
            (o.mobile, o.timestamp, o.message)
            for o in s.client.receive_messages(at(1588923453), at(1620632253)).messages
        ],
        '{"PhoneNumber":"50002910001080","StartDate":"1588923453","EndDate":"1620632253",'
        '"Page":"1"}',
        envelope(
            {
                "Page": 1,
                "TotalPage": 1,
                "ReceivedMsgs": [
                    {"Mobile": "989116420422", "Date": 1613388346, "MsgBody": " 1تست "},
                    {"Mobile": "989116665601", "Date": 1606300605, "MsgBody": "1"},
                ],
            }
        ),
        [("+989116420422", 1613388346, " 1تست "), ("+989116665601", 1606300605, "1")],
    ),
    ("GetCredit", lambda s: s.client.get_credit(), "{}", envelope(129249), Decimal(129249)),
    ("GetCredit", lambda s: s.client.get_credit(), "{}", envelope("129249.5"), Decimal("129249.5")),
    (
        "GetPrices",
        lambda s: (s.client.get_prices().persian, s.client.get_prices().latin),
        "{}",
        envelope({"Fa_Price": 112, "En_Price": 275}),
        (Decimal(112), Decimal(275)),
    ),
    (
        "ShowWhiteList",
        lambda s: s.client.show_white_list(
            ["+989112170848", "+989333152378", "+989116662206", "+989119043011"]
        ),
        '{"Mobiles":["09112170848","09333152378","09116662206","09119043011"],'
        '"MobilesList":["09112170848","09333152378","09116662206","09119043011"]}',
        envelope([9112170848]),
        ["+989112170848"],
    ),
]


@each_case(("method", "call", "request_body", "answered", "means"), SAMPLES)
def test_every_call_writes_and_reads_what_the_guide_prints(
    gateway: LoopbackGateway,
    method: str,
    call: Call,
    request_body: str,
    answered: bytes,
    means: object,
) -> None:
    gateway.answer = lambda _: Reply(200, answered, "application/json; charset=utf-8")
    with closing(raygan(gateway.url, group_id="13", footer="our footer")) as sender:
        assert call(sender) == means
    request = gateway.requests[0]
    assert (request.method, request.target) == ("POST", f"/api/smsAPI/{method}")
    assert request.body.decode() == request_body
    assert request.headers["authorization"] == AUTHORIZATION
    assert request.headers["content-type"] == "application/json"


# --- URLs ----------------------------------------------------------------------------------------


def addresses(**options: object) -> list[str]:
    seen = []

    def see(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200, content=b"2826" if "Code" in request.url.path else envelope(1))

    client = httpx.Client(transport=httpx.MockTransport(see))
    sender = Raygan(username="u", password="p", http_client=client, **options)  # type: ignore[arg-type] -- options vary
    with closing(sender):
        sender.client.send_auto_code("+989123456789")
        sender.client.get_credit()
    return seen


def test_the_code_methods_have_their_own_host() -> None:
    assert addresses() == [
        "https://smspanel.trez.ir/api/smsAPI/SendAutoCode",
        "https://raygansms.com/api/smsAPI/GetCredit",
    ]


def test_base_url_alone_is_used_for_codes_too() -> None:
    assert addresses(base_url="https://a.example/x/") == [
        "https://a.example/x/SendAutoCode",
        "https://a.example/x/GetCredit",
    ]


def test_code_base_url_is_used_for_codes() -> None:
    assert addresses(base_url="https://a.example/x", code_base_url="https://b.example/y") == [
        "https://b.example/y/SendAutoCode",
        "https://a.example/x/GetCredit",
    ]
    assert addresses(code_base_url="https://b.example/y")[1].startswith("https://raygansms.com/")


@each_case("option", ["base_url", "code_base_url"])
@each_case("url", ["http://a.example", "https://u:p@a.example", "a.example"])
def test_a_url_that_exposes_credentials_is_refused(option: str, url: str) -> None:
    with pytest.raises(ConfigurationError):
        Raygan(username="u", password="p", **{option: url})  # type: ignore[arg-type] -- on purpose


# --- options -------------------------------------------------------------------------------------


def test_a_password_of_digits_can_be_a_number(gateway: LoopbackGateway) -> None:
    gateway.answer = lambda _: Reply(200, envelope(1))
    with closing(raygan(gateway.url, username=912, password=1234)) as sender:
        sender.credit()
    given = gateway.requests[0].headers["authorization"].removeprefix("Basic ")
    assert base64.b64decode(given) == b"912:1234"


@each_case(
    ("options", "named"),
    [
        ({"password": 1.5}, "password"),
        ({"password": True}, "password"),
        ({"password": ""}, "password"),
        ({"username": None}, "username"),
        ({"username": "a:b"}, "username"),
        ({"line": 5.0}, "line"),
        ({"native_codes": "yes"}, "native_codes"),
        ({"timeout": (1, 2)}, "timeout"),
    ],
)
def test_an_invalid_option_is_refused_by_name(options: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        raygan("https://a.example", **options)


def test_without_a_line_only_codes_can_be_sent(gateway: LoopbackGateway) -> None:
    with closing(raygan(gateway.url, line="", native_codes=False)) as sender:
        assert sender.capabilities == {Capability.CODE_SMS, Capability.CREDIT}
        for call in (
            lambda: sender.send_text("+989123456789", "hi"),
            lambda: list(sender.received(at(0))),
            lambda: sender.send_native_code("+989123456789"),
            lambda: sender.check_native_code("+989123456789", "123456"),
        ):
            with pytest.raises(Unavailable) as refused:
                call()
            assert not refused.value.written
    assert not gateway.requests


# --- errors --------------------------------------------------------------------------------------

CODES: dict[type[SenderError], list[int]] = {
    Misconfigured: [1001, 1002, 1003, 1004, 2004, 2005, 2007, 2008, 3002],
    # The last ones are not in the guide. Every code except 0 is an error.
    Unavailable: [2001, 2002, 2003, 2009, 3001, 3003, 5001, 5002, 4000, -1, 1],
    NotCarried: [3004],
    TextRefused: [2006],
    Unknown: [5003, 5004],
}


@each_case(("kind", "code"), [(kind, code) for kind, codes in CODES.items() for code in codes])
@each_case("status", [200, 500])
def test_every_error_code_raises_its_error(
    sender: Raygan, gateway: LoopbackGateway, kind: type[SenderError], code: int, status: int
) -> None:
    gateway.answer = lambda _: Reply(status, envelope(None, code))
    documented = code in (1001, 1002, 1003, 1004) or code >= 2000
    for call in (
        lambda: sender.client.send_message("hi", ["+989123456789"]),
        lambda: sender.client.send_auto_code("+989123456789"),
        lambda: sender.client.send_own_code("+989123456789", "code 123456"),
        lambda: sender.client.check_send_code("+989123456789", "123456"),
        sender.client.get_credit,
    ):
        with pytest.raises(SenderError) as refused:
            call()
        if status == 500 and (not documented or code == 4000):
            assert type(refused.value) is Unavailable
        else:
            assert (type(refused.value), refused.value.code) == (kind, str(code))
        if documented and code != 4000:
            assert DONE.strip() not in str(refused.value)


def test_wrong_credentials_are_unavailable(sender: Raygan, gateway: LoopbackGateway) -> None:
    with closing(raygan(gateway.url, password="wrong")) as other:
        client = other.client
        for call in (client.get_credit, lambda: client.send_auto_code("+989123456789")):
            with pytest.raises(Unavailable, match="credentials") as refused:
                call()
            assert refused.value.code == "401"


# --- bare answers --------------------------------------------------------------------------------

SEND_CODES = (
    lambda s: s.client.send_auto_code("+989123456789"),
    lambda s: s.client.send_own_code("+989123456789", "code 123456"),
)


@each_case("body", [b"2010", b"2826", b"9999", b" 3005\n", b"637841258741258"])
@each_case("call", SEND_CODES)
def test_a_bare_number_above_2000_means_sent(
    sender: Raygan, gateway: LoopbackGateway, call: Call, body: bytes
) -> None:
    gateway.answer = lambda _: Reply(200, body)
    assert call(sender) == int(body)


@each_case(
    "body",
    [
        *[str(code).encode() for code in (*range(2001, 2010), *range(3001, 3005))],
        *[str(code).encode() for code in range(5001, 5005)],
        b'"2826"',
        b"2826.0",
        b"2826.5",
        b"2e9",
        b"1e999",
        b"99999999999999999999999",
        b"true",
        b"[2826]",
        b'{"Result": 2826}',
        b'{"Code": 0, "Message": "", "Result": 2826}',
        b"2826 sent",
        b"<string>2826</string>",
    ],
)
@each_case("call", SEND_CODES)
def test_any_other_bare_answer_to_a_send_is_unknown(
    sender: Raygan, gateway: LoopbackGateway, call: Call, body: bytes
) -> None:
    gateway.answer = lambda _: Reply(200, body)
    with pytest.raises(Unknown):
        call(sender)


@each_case("body", [b"2000", b"1999", b"0", b"1", b"-2826", b"1001", b"1002", b"1003", b"1004"])
@each_case("call", SEND_CODES)
def test_a_bare_number_up_to_2000_means_that_nothing_was_sent(
    sender: Raygan, gateway: LoopbackGateway, call: Call, body: bytes
) -> None:
    gateway.answer = lambda _: Reply(200, body)
    with pytest.raises(Unavailable) as refused:
        call(sender)
    assert refused.value.code == body.decode()
    assert refused.value.reason.startswith("not sent: ")


@each_case(
    ("body", "verdict"),
    [
        (b"true", True),
        (b"True", True),
        (b" TRUE\r\n", True),
        (b"\xef\xbb\xbftrue", True),
        (b"false", False),
        (b"False", False),
    ],
)
def test_the_words_true_and_false_are_verdicts(
    sender: Raygan, gateway: LoopbackGateway, body: bytes, verdict: bool
) -> None:
    gateway.answer = lambda _: Reply(200, body)
    assert sender.check_native_code("+989123456789", "123456") is verdict


@each_case(
    "body",
    [
        b'"true"',
        b'"false"',
        b"1",
        b"0",
        b"2826",
        b"yes",
        b"true false",
        b"truefalse",
        b"[true]",
        b'{"Result": true}',
        b'{"Code": 0, "Message": "", "Result": true}',
        b"null",
        b"",
        "ｔｒｕｅ".encode(),
    ],
)
def test_any_other_answer_to_a_check_raises_an_error(
    sender: Raygan, gateway: LoopbackGateway, body: bytes
) -> None:
    gateway.answer = lambda _: Reply(200, body)
    with pytest.raises(Unknown):
        sender.check_native_code("+989123456789", "123456")


# --- receipts and their states -------------------------------------------------------------------


def test_equal_texts_are_one_group_with_one_status_call(
    sender: Raygan, gateway: LoopbackGateway
) -> None:
    mobiles = [f"+98912000{number:04d}" for number in range(1200)]
    receipts = list(sender.send_many(Text(to, "hi", to[-4:]) for to in mobiles))
    [request] = gateway.requests
    assert request.json["Mobiles"] == ["0" + to[3:] for to in mobiles]  # type: ignore[index] -- it is an object
    assert [receipt.to for receipt in receipts] == mobiles
    ids = [receipt.id or "" for receipt in receipts]
    assert len(set(ids)) == 1200
    assert not any(to[-7:] in one for to, one in zip(mobiles, ids, strict=True))

    rows = [
        {"Mobile": "9120000003", "Status": "2"},
        {"Mobile": "9120000001", "Status": 1},
        {"Mobile": "989120000000", "Status": "77"},
    ]
    states = {"StatusCode": "1", "MessagesListState": rows}
    gateway.answer = lambda _: Reply(200, envelope(states))
    found = sender.statuses(ids[:5])
    assert len(gateway.requests) == 2
    assert [found[one] for one in ids[:5]] == [
        DeliveryState.SENT,
        DeliveryState.DELIVERED,
        DeliveryState.UNKNOWN,
        DeliveryState.UNDELIVERED,
        DeliveryState.UNKNOWN,
    ]


@each_case(
    ("group", "status"),
    [
        (1, DeliveryState.UNKNOWN),
        (2, DeliveryState.QUEUED),
        (3, DeliveryState.REJECTED),
        (9, DeliveryState.UNKNOWN),
    ],
)
def test_a_queued_or_filtered_group_gives_its_state_to_recipients_without_one(
    sender: Raygan, gateway: LoopbackGateway, group: int, status: DeliveryState
) -> None:
    receipt = sender.send_text("+989123456789", "hi")
    states = {"StatusCode": group, "MessagesListState": []}
    gateway.answer = lambda _: Reply(200, envelope(states))
    assert sender.statuses([receipt.id or ""]) == {receipt.id: status}
    states["MessagesListState"] = [{"Mobile": "9123456789", "Status": "0"}]
    looked_at = status if group in (2, 3) else DeliveryState.SENT
    assert sender.statuses([receipt.id or ""]) == {receipt.id: looked_at}
    states["MessagesListState"] = [{"Mobile": "9123456789", "Status": "1"}]
    assert sender.statuses([receipt.id or ""]) == {receipt.id: DeliveryState.DELIVERED}


@each_case(
    ("code", "status"),
    [
        ("1", DeliveryState.DELIVERED),
        (2, DeliveryState.UNDELIVERED),
        ("8", DeliveryState.SENT),
        (16, DeliveryState.UNDELIVERED),
        ("27", DeliveryState.REJECTED),
        (23, DeliveryState.QUEUED),
        ("0", DeliveryState.SENT),
        (4, DeliveryState.SENT),
        # Every other value means "being checked", which is sent and not final.
        ("x", DeliveryState.SENT),
        (None, DeliveryState.SENT),
        (True, DeliveryState.SENT),
        ([1], DeliveryState.SENT),
    ],
)
def test_every_message_state_is_mapped(
    sender: Raygan, gateway: LoopbackGateway, code: object, status: DeliveryState
) -> None:
    gateway.answer = lambda _: Reply(200, envelope([{"MsgId": 2826, "Status": code}]))
    assert sender.statuses(["2826", "2827"]) == {"2826": status, "2827": DeliveryState.UNKNOWN}


def test_the_message_of_an_unknown_code_is_kept(sender: Raygan, gateway: LoopbackGateway) -> None:
    body = {"Code": 4711, "Message": "پنل شما بسته شده است", "Result": None}
    gateway.answer = lambda _: Reply(200, json.dumps(body).encode())
    with pytest.raises(Unavailable, match="پنل شما بسته شده است") as refused:
        sender.send_text("+989123456789", "hello there")
    assert refused.value.code == "4711"
    body["Message"] = "hello there is not allowed for 09123456789"
    with pytest.raises(Unavailable) as hidden:
        sender.send_text("+989123456789", "hello there")
    assert "hello" not in str(hidden.value)
    assert "9123456789" not in str(hidden.value)


def test_some_messages_failed_is_unavailable_for_a_single_recipient(
    sender: Raygan, gateway: LoopbackGateway
) -> None:
    gateway.answer = lambda _: Reply(200, envelope(None, 5004))
    with pytest.raises(Unavailable):
        sender.send_text("+989123456789", "hi")
    texts = [Text("+989123456789", "hi"), Text("+989356789012", "hi")]
    assert all(isinstance(receipt.error, Unknown) for receipt in sender.send_many(texts))


def test_each_send_can_have_its_own_group(gateway: LoopbackGateway) -> None:
    with closing(raygan(gateway.url, group_id="fruit")) as sender:
        send_to_groups(sender)
    groups = [asked.json["UserGroupID"] for asked in gateway.requests]
    assert groups == ["invoice-7", "invoice-8", "invoice-9", "fruit"]


def send_to_groups(sender: Raygan) -> None:
    text = [PersonalText("1", "+989123456789", "hi")]
    sender.client.send_message("hi", ["+989123456789"], group_id="invoice-7")
    sender.client.send_corresponding_message(text, group_id="invoice-8")
    sender.client.send_message_to_port(text, receive_port=20, send_port=40, group_id="invoice-9")
    sender.client.send_message("hi", ["+989123456789"])


def test_the_states_of_fifty_thousand_recipients_are_read(
    sender: Raygan, gateway: LoopbackGateway
) -> None:
    rows = [{"Mobile": f"9{number:09}", "Status": "1"} for number in range(50_000)]
    body = envelope({"StatusCode": "1", "MessagesListState": rows})
    assert len(body) > 4 * 2**20
    gateway.answer = lambda _: Reply(200, body)
    state = sender.client.group_message_status(GROUP)
    assert len(state.recipients) == 50_000
    assert {one.status for one in state.recipients} == {DeliveryState.DELIVERED}
    with pytest.raises(Unknown, match="larger than 2 MiB"):
        sender.client.get_credit()


def test_a_state_that_is_not_a_number_is_sent(sender: Raygan, gateway: LoopbackGateway) -> None:
    rows = [{"Mobile": "9123456789", "Status": "x"}]
    gateway.answer = lambda _: Reply(200, envelope({"StatusCode": 1, "MessagesListState": rows}))
    [one] = sender.client.group_message_status(GROUP).recipients
    assert (one.status, one.code) == (DeliveryState.SENT, None)
    assert not one.status.final


def test_the_page_of_the_answer_is_kept(sender: Raygan, gateway: LoopbackGateway) -> None:
    gateway.answer = lambda _: Reply(200, envelope({"Page": 3, "TotalPage": 9, "ReceivedMsgs": []}))
    page = sender.client.receive_messages(at(0), at(1), page=4)
    assert (page.page, page.total_pages) == (3, 9)


def test_different_texts_are_one_call_with_an_id_each(
    sender: Raygan, gateway: LoopbackGateway
) -> None:
    texts = [Text("+989123456789", f"hi {number}") for number in range(1001)]
    receipts = list(sender.send_many(texts))
    assert [one.path.rpartition("/")[2] for one in gateway.requests] == [
        "SendCorrespondingMessage",
        "SendCorrespondingMessage",
    ]
    assert receipts[999].id == "3825"
    assert receipts[1000].id == "2826"


@each_case("code", [0, 5004])
def test_a_recipient_that_the_answer_omits_is_unknown(
    sender: Raygan, gateway: LoopbackGateway, code: int
) -> None:
    rows = [
        {"Id": "3", "Mobile": "09123456789", "Result": "2001"},
        {"Id": 1, "Result": 2000},
        {"Id": 2, "Result": 0},
        {"Id": 4, "Result": None},
        {"Id": 5, "Result": True},
        {"Id": 6, "Result": -3},
        {"Id": 99, "Result": 2826},
        "row",
    ]
    gateway.answer = lambda _: Reply(200, envelope(rows, code))
    receipts = list(sender.send_many(Text("+989123456789", f"hi {n}") for n in range(7)))
    assert [receipt.id for receipt in receipts] == ["2000", None, "2001", None, None, None, None]
    for receipt in receipts:
        assert (receipt.status is DeliveryState.QUEUED) == (receipt.id is not None)
        assert receipt.id or isinstance(receipt.error, Unknown)


def test_a_failed_part_of_a_batch_does_not_fail_the_others(
    sender: Raygan, gateway: LoopbackGateway
) -> None:
    def only_the_first(request: Request) -> Reply:
        return answer(request) if len(gateway.requests) == 1 else Reply(200, envelope(None, 3003))

    gateway.answer = only_the_first
    texts = [Text("+989123456789", f"hi {number}") for number in range(1002)]
    receipts = list(sender.send_many(texts))
    assert all(receipt.error is None for receipt in receipts[:1000])
    assert all(isinstance(receipt.error, Unavailable) for receipt in receipts[1000:])


def test_a_failed_status_call_does_not_fail_the_others(
    sender: Raygan, gateway: LoopbackGateway
) -> None:
    def only_singles(request: Request) -> Reply:
        single = request.path.endswith("CorrespondingMessageStatus")
        return answer(request) if single else Reply(200, envelope(None, 1004))

    gateway.answer = only_singles
    assert sender.statuses(["2826", "group:mark"]) == {
        "2826": DeliveryState.DELIVERED,
        "group:mark": DeliveryState.UNKNOWN,
    }
    with pytest.raises(Misconfigured):
        sender.statuses(["group:mark"])


def test_the_state_of_a_code_is_unknown_without_a_request(
    sender: Raygan, gateway: LoopbackGateway
) -> None:
    own = sender.send_code(CodeMessage("+989123456789", "123456", "code 123456"))
    native = sender.send_native_code("+989123456789")
    assert own.id == native.id == "code:2826"
    asked = len(gateway.requests)
    assert sender.statuses(["code:2826"]) == {"code:2826": DeliveryState.UNKNOWN}
    assert len(gateway.requests) == asked


def test_a_text_without_a_date_gets_one_that_is_past_in_every_zone(
    sender: Raygan, gateway: LoopbackGateway
) -> None:
    sender.send_text("+989123456789", "hi")
    [request] = gateway.requests
    sent = request.json["SendDateInTimeStamp"]  # type: ignore[index] -- it is an object
    assert datetime.now(UTC).timestamp() - sent == pytest.approx(86_400, abs=60)


# --- received texts ------------------------------------------------------------------------------


def pages(gateway: LoopbackGateway, *rows: list[dict[str, object]], total: int) -> None:
    def page(request: Request) -> Reply:
        number = int(request.json["Page"])  # type: ignore[index] -- it is an object
        found = rows[number - 1] if number <= len(rows) else []
        return Reply(200, envelope({"Page": number, "TotalPage": total, "ReceivedMsgs": found}))

    gateway.answer = page


def row(body: str, date: object = 1613388346) -> dict[str, object]:
    return {"Mobile": "989116420422", "Date": date, "MsgBody": body}


def test_received_texts_are_requested_page_by_page(
    sender: Raygan, gateway: LoopbackGateway
) -> None:
    pages(gateway, [row("a"), row("a")], [row("b", "1606300605")], total=2)
    messages = sender.received(at(1600000000))
    first = next(messages)
    assert len(gateway.requests) == 1
    rest = list(messages)
    assert len(gateway.requests) == 2
    assert [one.text for one in (first, *rest)] == ["a", "a", "b"]
    assert len({one.id for one in (first, *rest)}) == 3
    assert (first.originator, first.line) == ("+989116420422", "50002910001080")
    assert rest[1].received_at == at(1606300605)
    assert [one.id for one in sender.received(at(1600000001))] == [one.id for one in (first, *rest)]


def test_endless_pages_stop_with_an_error(sender: Raygan, gateway: LoopbackGateway) -> None:
    pages(gateway, [row("a")], total=10**9)
    assert len(list(sender.received(at(0)))) == 1
    pages(gateway, [row("a")], [row("a")], total=10**9)
    with pytest.raises(Unknown, match="are the same"):
        list(sender.received(at(0)))


@each_case("date", [None, "soon", True, 10**17, -(10**17), [1]])
def test_an_unreadable_time_is_none(sender: Raygan, gateway: LoopbackGateway, date: object) -> None:
    pages(gateway, [row("a", date)], total=1)
    [message] = sender.received(at(0))
    assert message.received_at is None


@each_case("result", [None, True, "", "x", [], {}, "1,000", "NaN", "1e5", 1e300, "٣"])
@each_case(
    "call",
    [
        lambda s: s.client.get_prices(),
        lambda s: s.client.get_credit(),
        lambda s: s.client.group_message_status("16"),
        lambda s: s.client.receive_messages(at(0), at(1)),
    ],
)
def test_a_result_of_the_wrong_type_is_unknown(
    sender: Raygan, gateway: LoopbackGateway, call: Call, result: object
) -> None:
    gateway.answer = lambda _: Reply(200, envelope(result))
    try:
        state = call(sender)
    except Unknown:
        return
    assert result == {}
    assert getattr(state, "status", None) is DeliveryState.UNKNOWN
