"""MeliPayamak's sender against a loopback service that follows the web-service guide."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal

import pytest
from senders.cases import each_case
from senders.loopback import check_no_secrets, scripted
from senders.soap_wire import INVALID_ANSWERS, fault, parsed, result, sent, whole, xml

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
from flask_smsverify.senders.melipayamak import MeliPayamak
from flask_smsverify.testing import Reply, Request, SenderContract, close_in_body

NS = "{http://tempuri.org/}"
MOBILES = [f"+98912000000{place}" for place in range(4)]
ALI = MOBILES[0]
PASSWORD = "pass-word-7"
TEXT = "کد شما 481516 است"
CODE = CodeMessage(ALI, "481516", TEXT, reference="r1")


@pytest.fixture
def gateway():
    with scripted() as server:
        yield server


@pytest.fixture
def make(gateway):
    made = []

    def build(**options):
        options = {"line": "50004001"} | options
        sender = MeliPayamak(
            "the-user",
            PASSWORD,
            base_url=gateway.url + "/post",
            name="meli",
            **options,
        )
        made.append(sender)
        return sender

    yield build
    for sender in made:
        sender.close()


def operation_of(gateway, place=-1):
    """Return the operation of a request, and its fields by name."""
    [operation] = parsed(gateway.asked[place].body)[0]
    fields = {}
    for field in operation:
        inner = [(item.tag.removeprefix(NS), item.text) for item in field]
        fields[field.tag.removeprefix(NS)] = inner if len(field) else field.text
    return operation.tag.removeprefix(NS), fields


def error_of(call, *args) -> SenderError:
    with pytest.raises(SenderError) as caught:
        call(*args)
    check_no_secrets(caught.value, PASSWORD, "the-user", "481516", ALI[-10:], TEXT)
    assert caught.value.sender == "meli"
    return caught.value


# --- texts ---------------------------------------------------------------------------------------


def test_a_text_has_every_field_of_the_guide(gateway, make):
    gateway.will(sent(1, [5_021_000_000_000_001], b"\0"))
    receipt = make().send_text(ALI, "سلام <&>", reference="r9")
    assert operation_of(gateway) == (
        "SendSms",
        {
            "username": "the-user",
            "password": PASSWORD,
            "to": [("string", "09120000000")],
            "from": "50004001",
            "text": "سلام <&>",
            "isflash": "false",
            "udh": None,
            "recId": [("long", "0")],
            "status": "AA==",
        },
    )
    assert gateway.last.target == "/post/Send.asmx"
    assert gateway.last.headers["soapaction"] == '"http://tempuri.org/SendSms"'
    assert (receipt.to, receipt.status, receipt.id) == (ALI, DeliveryState.SENT, "5021000000000001")
    assert (receipt.reference, receipt.error) == ("r9", None)


def test_every_recipient_of_a_text_is_in_the_request(gateway, make):
    gateway.will(sent(1, [11, 12, 13, 14], b"\0\0\0\0"))
    receipts = list(make().send_many(Text(mobile, "alike") for mobile in MOBILES))
    assert operation_of(gateway)[1]["to"] == [("string", "0" + mobile[3:]) for mobile in MOBILES]
    assert len(gateway.asked) == 1
    assert [receipt.id for receipt in receipts] == ["11", "12", "13", "14"]


def test_flash_and_udh_are_sent(gateway, make):
    gateway.will(sent(1, [11], b"\0"))
    make().client.send_sms([ALI], "x", flash=True, udh="060504")
    assert operation_of(gateway)[1]["isflash"] == "true"
    assert operation_of(gateway)[1]["udh"] == "060504"


def test_different_texts_are_several_calls_with_receipts_in_order(gateway, make):
    gateway.will(sent(1, [11, 12], b"\0\0"), sent(2), sent(1, [14], b"\0"))
    texts = [Text(mobile, text) for mobile, text in zip(MOBILES, "abac", strict=True)]
    receipts = list(make().send_many(texts))
    assert [operation_of(gateway, place)[1]["text"] for place in range(3)] == ["a", "b", "c"]
    assert [receipt.id for receipt in receipts] == ["11", None, "12", "14"]
    assert [receipt.to for receipt in receipts] == MOBILES
    assert isinstance(receipts[1].error, Unavailable)
    assert receipts[1].status is DeliveryState.REJECTED


def test_more_than_a_hundred_recipients_are_several_calls(gateway, make):
    gateway.will(sent(1, list(range(1, 101)), bytes(100)), sent(1, [7], b"\0"))
    texts = [Text(f"+98912{number:07}", "alike") for number in range(101)]
    receipts = list(make().send_many(texts))
    assert [len(operation_of(gateway, place)[1]["to"]) for place in range(2)] == [100, 1]
    assert all(receipt.status is DeliveryState.SENT for receipt in receipts)


@each_case(
    ("ids", "status", "expected"),
    [
        ([11, 12, 13], b"\0\1\0", "sent rejected sent"),
        ([11, 12, 13], None, "sent sent sent"),
        ([11, 12, 13], b"", "sent sent sent"),
        (None, b"\0\1\0", "sent rejected sent"),
        (None, None, "unknown unknown unknown"),
        ([], b"", "unknown unknown unknown"),
        ([11], None, "sent unknown unknown"),
        ([11], b"\0\0", "sent sent unknown"),
        ([11, 0, -1], None, "sent unknown unknown"),
        ([11, "x", ""], None, "sent unknown unknown"),
        ([11, 12, 13], b"\0\7\1", "sent unknown rejected"),
        ([11, 12, 13, 14], b"\0\0\0\0", "sent sent sent"),
    ],
)
def test_each_list_entry_decides_the_receipt_of_its_recipient(gateway, make, ids, status, expected):
    gateway.will(sent(1, ids, status))
    receipts = list(make().send_many(Text(mobile, "alike") for mobile in MOBILES[:3]))
    assert [receipt.status for receipt in receipts] == expected.split()
    for receipt in receipts:
        kinds = {
            DeliveryState.UNKNOWN: Unknown,
            DeliveryState.REJECTED: Rejected,
            DeliveryState.SENT: type(None),
        }
        assert type(receipt.error) is kinds[receipt.status]


@each_case("status", [None, b""])
def test_success_without_lists_is_enough_for_one_recipient(gateway, make, status):
    gateway.will(sent(1, None, status))
    receipt = make().send_text(MOBILES[0], "alone")
    assert (receipt.status, receipt.id, receipt.error) == (DeliveryState.SENT, None, None)


def test_one_bad_number_does_not_fail_the_others(gateway, make):
    # The calls: all four (refused), each half, and the two of the refused half.
    gateway.will(sent(35), sent(35), sent(1, [11], b"\0"), sent(35), sent(1, [13, 14], b"\0\0"))
    receipts = list(make().send_many(Text(mobile, "alike") for mobile in MOBILES))
    assert [receipt.id for receipt in receipts] == ["11", None, "13", "14"]
    assert isinstance(receipts[1].error, Rejected)


def test_a_call_refused_for_its_text_is_not_halved(gateway, make):
    gateway.will(sent(7))
    receipts = list(make().send_many(Text(mobile, "alike") for mobile in MOBILES))
    assert len(gateway.asked) == 1
    assert all(isinstance(receipt.error, TextRefused) for receipt in receipts)


CODES = {
    Unavailable: [0, 2, 3, 4, 5, 6, 9, 10, 11, 12, -108, -109, -110, -111],
    TextRefused: [7, 14, 15],
    Rejected: [16, 17, 18, 35],
    # So large that it could be an id.
    Unknown: [1000, 2_000_000_000],
}


@each_case(("code", "kind"), [(code, kind) for kind, codes in CODES.items() for code in codes])
def test_every_return_code_of_a_text_raises_its_error(gateway, make, code, kind):
    gateway.will(sent(code))
    error = error_of(make().send_text, ALI, TEXT)
    assert type(error) is kind
    assert error.code == (str(code) if abs(code) < 1000 else None)


@each_case("code", [-1, 8, 13, 99, -5000])
def test_an_error_code_that_is_not_in_the_guide_means_that_nothing_was_sent(gateway, make, code):
    gateway.will(sent(code))
    assert type(error_of(make().send_text, ALI, TEXT)) is Unavailable


WEBOTP_CODE = CodeMessage(ALI, "481516", f"{TEXT}\nچنار\n@chenar.example #481516", reference="r1")


def test_after_a_link_was_refused_codes_are_sent_without_their_webotp_line(gateway, make):
    sender, other = make(), make()
    gateway.will(sent(14))
    assert type(error_of(sender.send_code, WEBOTP_CODE)) is TextRefused
    assert "@chenar.example" in operation_of(gateway)[1]["text"]
    gateway.will(sent(1, [11], b"\0"))
    for sending in (sender, sender):
        assert sending.send_code(WEBOTP_CODE).id == "11"
        assert operation_of(gateway)[1]["text"] == f"{TEXT}\nچنار"
    other.send_code(WEBOTP_CODE)
    assert operation_of(gateway)[1]["text"] == WEBOTP_CODE.text, "another sender keeps the line"


def test_a_filtered_word_leaves_the_webotp_line_in_place(gateway, make):
    sender = make()
    gateway.will(sent(7), sent(1, [11], b"\0"))
    assert type(error_of(sender.send_code, WEBOTP_CODE)) is TextRefused
    sender.send_code(WEBOTP_CODE)
    assert operation_of(gateway)[1]["text"] == WEBOTP_CODE.text


# --- codes ---------------------------------------------------------------------------------------


def test_a_code_without_a_pattern_is_sent_as_a_text(gateway, make):
    gateway.will(sent(1, [11], b"\0"))
    receipt = make().send_code(CODE)
    assert operation_of(gateway)[0] == "SendSms"
    assert operation_of(gateway)[1]["text"] == TEXT
    assert (receipt.id, receipt.reference) == ("11", "r1")


def test_a_code_by_a_pattern_fills_its_variables_in_order(gateway, make):
    gateway.will(result("SendByBaseNumber2", "4512345678901234567"))
    receipt = make(body_id="1234", body_values=["فروشگاه", "{code}"]).send_code(CODE)
    assert operation_of(gateway) == (
        "SendByBaseNumber2",
        {
            "username": "the-user",
            "password": PASSWORD,
            "text": "فروشگاه;481516",
            "to": "09120000000",
            "bodyId": "1234",
        },
    )
    assert (receipt.status, receipt.id) == (DeliveryState.QUEUED, "4512345678901234567")
    assert receipt.reference == "r1"


PATTERN_CODES = {
    Unavailable: [0, 2, 3, 4, 5, 6, 10, 11, 12, 19, -1, -3, -6, -7, -108, -109, -110, -111],
    TextRefused: [7, 14, -10],
    Rejected: [16, 17, 18, 35],
    Misconfigured: [-5, -4, -2],
    Unknown: [1, 12_345_678, 99_999_999_999_999],
}


@each_case(
    ("code", "kind"), [(code, kind) for kind, codes in PATTERN_CODES.items() for code in codes]
)
def test_every_return_code_of_a_pattern_raises_its_error(gateway, make, code, kind):
    gateway.will(result("SendByBaseNumber2", str(code)))
    assert type(error_of(make(body_id=1).send_code, CODE)) is kind


@each_case("code", [8, 99, -99, -8])
def test_a_small_or_negative_number_of_a_pattern_means_that_nothing_was_sent(gateway, make, code):
    gateway.will(result("SendByBaseNumber2", str(code)))
    assert type(error_of(make(body_id=1).send_code, CODE)) is Unavailable


@each_case("content", ["", "ok", "۴۵۱۲۳۴۵۶۷۸۹۰۱۲۳۴۵", "1e20", "-" * 20, "45 " * 9])
def test_a_pattern_answer_without_an_id_is_unknown(gateway, make, content):
    gateway.will(result("SendByBaseNumber2", content))
    assert type(error_of(make(body_id=1).send_code, CODE)) is Unknown


def test_a_pattern_value_with_a_separator_is_refused(gateway, make):
    error = error_of(make().client.send_by_base_number, ALI, 1, ["a;b"])
    assert isinstance(error, Misconfigured)
    assert not gateway.asked


def test_a_phone_call_is_not_supported(gateway, make):
    error = error_of(make().send_code, CodeMessage(ALI, "481516", TEXT, channel="voice"))
    assert isinstance(error, Unavailable)
    assert not error.written


def test_the_options_decide_the_capabilities(make):
    always = {
        Capability.PATTERN,
        Capability.CODE_SMS,
        Capability.CREDIT,
        Capability.STATUS,
    }
    assert make().capabilities == always | {Capability.TEXT}
    assert make(line="", body_id=1).capabilities == always
    assert isinstance(error_of(make(line="", body_id=1).send_text, ALI, "x"), Unavailable)


# --- credit and states ---------------------------------------------------------------------------


def test_credit_is_a_number_without_a_currency(gateway, make):
    gateway.will(result("GetCredit", "1234.5"))
    credit = make().credit()
    assert operation_of(gateway) == ("GetCredit", {"username": "the-user", "password": PASSWORD})
    assert (credit.amount, credit.currency) == (Decimal("1234.5"), None)


@each_case("content", ["", "NaN", "INF", "-1", "much"])
def test_an_invalid_credit_is_unknown(gateway, make, content):
    gateway.will(result("GetCredit", content))
    assert isinstance(error_of(make().credit), Unknown)


def test_states_are_read_in_the_order_of_the_ids(gateway, make):
    states = {
        0: "sent", 1: "delivered", 2: "undelivered", 3: "undelivered", 5: "unknown", 8: "sent",
        16: "undelivered", 35: "rejected", 100: "unknown", 200: "sent", 300: "rejected",
        400: "queued", 500: "rejected", 77: "unknown",
    }  # fmt: skip
    gateway.will(result("GetDeliveries3", "".join(f"<int>{state}</int>" for state in states)))
    ids = [str(9000 + state) for state in states]
    assert make().statuses(ids) == dict(zip(ids, states.values(), strict=True))
    operation, fields = operation_of(gateway)
    assert operation == "GetDeliveries3"
    assert fields["recId"] == [("string", id_) for id_ in ids]


@each_case(
    ("content", "expected"),
    [
        ("<int>1</int>", "delivered unknown"),
        ("", "unknown unknown"),
        ("<int>x</int><int>1</int>", "unknown delivered"),
    ],
)
def test_a_state_that_the_answer_omits_is_unknown(gateway, make, content, expected):
    gateway.will(result("GetDeliveries3", content))
    assert list(make().statuses(["1", "2"]).values()) == expected.split()


def test_no_ids_need_no_request(gateway, make):
    assert make().statuses([]) == {}
    assert not gateway.asked


# --- invalid answers -----------------------------------------------------------------------------


@each_case("name", INVALID_ANSWERS)
@each_case("method", ["text", "pattern", "credit"])
def test_an_invalid_answer_raises_a_sender_error(gateway, make, name, method):
    gateway.will(INVALID_ANSWERS[name])
    sender = make(body_id=1)
    calls = {
        "text": lambda: sender.send_text(ALI, TEXT),
        "pattern": lambda: sender.send_code(CODE),
        "credit": sender.credit,
    }
    assert isinstance(error_of(calls[method]), Unknown)


@each_case("name", INVALID_ANSWERS)
def test_an_invalid_answer_gives_no_state(gateway, make, name):
    gateway.will(INVALID_ANSWERS[name])
    states = {"1": DeliveryState.UNKNOWN}
    with suppress(Unknown):
        states = make().statuses(["1"])
    assert states == {"1": DeliveryState.UNKNOWN}


@each_case(
    ("step", "kind"),
    [
        (whole("<html/>", status=503), Unavailable),
        (whole("", status=302), Unavailable),
        (fault("soap:Server", "busy"), Unavailable),
        (fault("soap:Client", "no such action"), Misconfigured),
        (whole("<html/>", status=404, kind="text/html"), Misconfigured),
        (close_in_body, Unknown),
    ],
)
def test_a_service_failure_is_unavailable_and_a_lost_answer_unknown(gateway, make, step, kind):
    gateway.will(step)
    assert type(error_of(make().send_text, ALI, TEXT)) is kind


def test_the_sender_recovers_with_the_service(gateway, make):
    gateway.will(whole("", status=503), close_in_body, sent(1, [11], b"\0"))
    sender = make()
    for kind in (Unavailable, Unknown):
        assert type(error_of(sender.send_text, ALI, TEXT)) is kind
    assert sender.send_text(ALI, TEXT).id == "11"


def test_a_failed_batch_gives_its_error_to_each_recipient(gateway, make):
    gateway.will(xml(""))
    receipts = list(make().send_many(Text(mobile, "alike") for mobile in MOBILES))
    assert [receipt.status for receipt in receipts] == [DeliveryState.UNKNOWN] * 4
    assert all(isinstance(receipt.error, Unknown) for receipt in receipts)


# --- options -------------------------------------------------------------------------------------


@each_case(
    "options",
    [
        {"username": ""},
        {"password": 1.5},
        {"password": True},
        {"line": ""},
        {"line": 1.5},
        {"body_id": "abc"},
        {"body_id": True},
        {"body_id": -1},
        {"body_id": 2**31},
        {"body_values": "{code}"},
        {"body_values": ["code"]},
        {"body_values": ["{code};"]},
        {"body_values": [1]},
        {"base_url": "http://api.payamak-panel.com/post"},
        {"base_url": "https://u:p@api.payamak-panel.com/post"},
        {"timeout": 5},
    ],
)
def test_an_invalid_option_is_refused(options):
    good = {"username": "u", "password": "p", "line": "3000"}
    with pytest.raises(ConfigurationError):
        MeliPayamak(**good | options)


def test_credentials_of_digits_can_be_numbers(gateway, make):
    gateway.will(result("GetCredit", "1"))
    sender = MeliPayamak(9120000000, 123456, 50004001, base_url=gateway.url + "/post")
    sender.credit()
    sender.close()
    assert operation_of(gateway)[1] == {"username": "9120000000", "password": "123456"}


def test_the_repr_shows_only_the_name(make):
    assert repr(make()) == "<MeliPayamak 'meli'>"


# --- the contract --------------------------------------------------------------------------------


class TestTexts(SenderContract):
    credentials = ("the-user", PASSWORD)

    def make_sender(self, base_url):
        return MeliPayamak("the-user", PASSWORD, "50004001", base_url=base_url + "/post")

    def answer(self, request: Request) -> Reply:
        [operation] = parsed(request.body)[0]
        name = operation.tag.removeprefix(NS)
        if name == "SendSms":
            recipients = len(operation.find(NS + "to"))
            return sent(1, list(range(11, 11 + recipients)), bytes(recipients))
        if name == "GetDeliveries3":
            return result(name, "<int>1</int>")
        return result(name, "4512345678901234567" if name == "SendByBaseNumber2" else "12.5")


class TestPatterns(TestTexts):
    def make_sender(self, base_url):
        return MeliPayamak("the-user", PASSWORD, "50004001", body_id=7, base_url=base_url + "/post")
