"""SMS.ir's sender against a loopback gateway, over both APIs."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace

import pytest
from senders.cases import each_case
from senders.loopback import answer, answer_json, check_no_secrets, query, scripted

from flask_smsverify.errors import (
    ConfigurationError,
    Misconfigured,
    Rejected,
    SenderError,
    TextRefused,
    Unavailable,
    Unknown,
)
from flask_smsverify.senders.base import (
    Capability,
    CodeMessage,
    DeliveryReport,
    DeliveryState,
    Text,
)
from flask_smsverify.senders.batching import UnclearRefusal
from flask_smsverify.senders.http import DEFAULT_TIMEOUT, deadline
from flask_smsverify.senders.smsir import SmsIr, legacy
from flask_smsverify.senders.smsir.legacy import Contact
from flask_smsverify.testing import Reply, Request, SenderContract, close_in_body, hang

MOBILES = [f"+98912000000{place}" for place in range(4)]
ALI = MOBILES[0]
KEY, SECRET = "the-api-key", "the-secret-key"
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
        legacy = options.get("api") == "legacy"
        if legacy:
            options = {"secret_key": SECRET} | options
        options = {"line": "30007732"} | options
        sender = SmsIr(
            KEY,
            base_url=gateway.url + ("/api" if legacy else "/v1"),
            name="sir",
            **options,
        )
        made.append(sender)
        return sender

    yield build
    for sender in made:
        sender.close()


def error_of(call, *args) -> SenderError:
    with pytest.raises(SenderError) as caught:
        call(*args)
    check_no_secrets(caught.value, KEY, SECRET, "481516", ALI[-10:], TEXT, "the-token")
    assert caught.value.sender == "sir"
    return caught.value


def good(data):
    """Return an answer of v1 for success."""
    return answer_json({"status": 1, "message": "موفق", "data": data})


def bad(http: int, status: object, message: str = "ناموفق"):
    return answer_json({"data": None, "status": status, "message": message}, status=http)


def pack(*ids):
    return good({"packId": "2b99e7a1-0000", "messageIds": list(ids), "cost": 2.5})


# --- v1: texts -----------------------------------------------------------------------------------


def test_equal_texts_are_one_bulk_call(gateway, make):
    gateway.will(pack(89545112, 89545113))
    texts = [Text(mobile, "سلام", mobile) for mobile in MOBILES[:2]]
    receipts = list(make().send_many(texts))
    asked = gateway.last
    assert (asked.method, asked.target) == ("POST", "/v1/send/bulk")
    assert asked.headers["x-api-key"] == KEY
    assert asked.headers["accept"] == "application/json"
    assert asked.headers["content-type"] == "application/json"
    assert asked.json == {
        "lineNumber": 30007732,
        "messageText": "سلام",
        "mobiles": ["09120000000", "09120000001"],
        "sendDateTime": None,
    }
    assert [receipt.id for receipt in receipts] == ["89545112", "89545113"]
    assert [receipt.reference for receipt in receipts] == MOBILES[:2]
    assert {receipt.status for receipt in receipts} == {DeliveryState.QUEUED}


def test_different_texts_are_one_like_to_like_call(gateway, make):
    gateway.will(pack(1, 2))
    texts = [Text(MOBILES[0], "a"), Text(MOBILES[1], "b")]
    receipts = list(make().send_many(texts))
    assert gateway.last.target == "/v1/send/likeToLike"
    assert gateway.last.json == {
        "lineNumber": 30007732,
        "messageTexts": ["a", "b"],
        "mobiles": ["09120000000", "09120000001"],
        "sendDateTime": None,
    }
    assert [receipt.id for receipt in receipts] == ["1", "2"]


def test_a_send_can_be_scheduled(gateway, make):
    gateway.will(pack(1))
    later = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
    sent = make().v1.send_bulk(3000, "x", [ALI], at=later)
    assert gateway.last.json["sendDateTime"] == int(later.timestamp())
    assert (sent.id, sent.ids, sent.cost) == ("2b99e7a1-0000", ("1",), Decimal("2.5"))


def test_the_cost_of_one_text_is_on_its_receipt(gateway, make):
    gateway.will(pack(1))
    assert make().send_text(ALI, "x").cost == Decimal("2.5")


@each_case(
    ("ids", "expected"),
    [
        ([1, 0, 3], "queued rejected queued"),
        ([1, None, 3], "queued rejected queued"),
        ([1], "queued unknown unknown"),
        ([], "unknown unknown unknown"),
        ([1, "x", {}], "queued unknown unknown"),
        ([1, -5, True], "queued unknown unknown"),
        (["1", "2", "3"], "queued queued queued"),
        ([1, 2, 3, 4], "unknown unknown unknown"),
    ],
)
def test_each_id_decides_the_receipt_of_its_recipient(gateway, make, ids, expected):
    gateway.will(pack(*ids))
    receipts = list(make().send_many(Text(mobile, "alike") for mobile in MOBILES[:3]))
    assert [receipt.status for receipt in receipts] == expected.split()
    kinds = {
        DeliveryState.UNKNOWN: Unknown,
        DeliveryState.REJECTED: Rejected,
        DeliveryState.QUEUED: type(None),
    }
    for receipt in receipts:
        assert type(receipt.error) is kinds[receipt.status]


@each_case("texts", ["aaaa", "abcd"])
def test_one_bad_number_does_not_fail_the_others(gateway, make, texts):
    gateway.will(bad(400, 104), bad(400, 115), pack(11), bad(400, 104), pack(13, 14))
    batch = [Text(mobile, text) for mobile, text in zip(MOBILES, texts, strict=True)]
    receipts = list(make().send_many(batch))
    assert [receipt.id for receipt in receipts] == ["11", None, "13", "14"]
    assert isinstance(receipts[1].error, Rejected)


CODES = {
    # The last ones are not in the documentation. Every status but 1 is an error.
    Unavailable: [10, 11, 12, 13, 14, 15, 20, 101, 102, 0, 2, 99, 199, 9999, -1],
    Rejected: [103, 104, 111, 115],
    Misconfigured: [16, 105, 113, 114],
}


@each_case(("code", "kind"), [(code, kind) for kind, codes in CODES.items() for code in codes])
@each_case("http", [400, 200])
def test_every_status_of_v1_raises_its_error(gateway, make, code, kind, http):
    gateway.will(bad(http, code))
    error = error_of(make().send_text, ALI, TEXT)
    assert (type(error), error.code) == (kind, str(code))


@each_case(
    ("step", "kind"),
    [
        (bad(401, 10), Unavailable), (bad(401, 77), Unavailable), (bad(403, 77), Unavailable),
        (bad(429, 20), Unavailable), (bad(429, None), Unavailable), (bad(500, 0), Unavailable),
        (bad(500, 1), Unavailable), (bad(400, 1), Unknown), (bad(400, None), Unavailable),
        (bad(200, None), Unknown), (bad(200, 1), Unknown), (bad(200, 400), Unavailable),
        (answer("", status=401), Unavailable), (answer("<html>", status=502), Unavailable),
        (answer("<html>", status=404), Misconfigured), (answer("<html>", status=400), Unavailable),
        (answer("", status=413), Unavailable), (answer("[]", status=400), Unavailable),
        (answer("", status=307, Location="http://127.0.0.1:9"), Unavailable),
        (close_in_body, Unknown),
    ],
)  # fmt: skip
def test_a_service_failure_is_unavailable_and_a_lost_answer_unknown(gateway, make, step, kind):
    gateway.will(step)
    assert type(error_of(make().send_text, ALI, TEXT)) is kind
    assert len(gateway.asked) == 1


def problem(*fields: str, status: int = 400):
    """Return ASP.NET's answer to a request that does not pass the validation."""
    return answer(
        json.dumps({
            "type": "https://tools.ietf.org/html/rfc9110#section-15.5.1",
            "title": "One or more validation errors occurred.",
            "status": status,
            "errors": {name: [f"The field {name} with {TEXT} is invalid."] for name in fields},
            "traceId": "00-5f0d",
        }),
        status=status,
        kind="application/problem+json",
    )  # fmt: skip


@each_case(
    ("step", "kind"),
    [
        (problem("Mobiles[0]"), Rejected), (problem("$.mobiles[0]"), Rejected),
        (problem("MessageText"), TextRefused), (problem("mobiles", "messageText"), TextRefused),
        (problem("LineNumber"), Misconfigured), (problem("lineNumber", "Mobiles"), Misconfigured),
        (problem(), Unavailable), (problem("$"), Unavailable), (problem("request"), Unavailable),
        (problem(status=415), Unavailable), (problem("Mobiles[0]", status=422), Rejected),
        (answer_json({"message": "An error has occurred."}, status=400), Unavailable),
    ],
)  # fmt: skip
def test_a_refusal_outside_the_envelope_sent_nothing(gateway, make, step, kind):
    gateway.will(step)
    error = error_of(make().send_text, ALI, TEXT)
    assert type(error) is kind
    assert error.code == str(step.status)


def test_a_validation_problem_of_one_recipient_does_not_fail_the_others(gateway, make):
    gateway.will(problem("Mobiles[1]"), problem("Mobiles[1]"), pack(11), problem("Mobiles[0]"),
                 pack(13, 14))  # fmt: skip
    receipts = list(make().send_many(Text(mobile, "alike") for mobile in MOBILES))
    assert [receipt.id for receipt in receipts] == ["11", None, "13", "14"]
    assert isinstance(receipts[1].error, Rejected)


INVALID_ANSWERS = {
    "html": answer("<html>Welcome</html>", kind="text/html"),
    "empty": answer(""),
    "half": answer('{"status": 1, "data": {"messageIds": [1'),
    "a list": answer("[1]"),
    "a number": answer("1"),
    "no status": answer_json({"data": {"messageIds": [1], "messageId": 1}}),
    "a true status": answer_json({"status": True, "data": {"messageIds": [1], "messageId": 1}}),
    "a status in words": answer_json({"status": "1", "data": {"messageIds": [1]}}),
    "no data": answer_json({"status": 1}),
    "null data": good(None),
    "data in words": good("sent"),
    "data in a list": good([{"a": 1}]),
    "no ids": good({"packId": "x"}),
    "ids in words": good({"messageIds": "1", "messageId": "one"}),
    "an id too long": good({"messageIds": [10**40], "messageId": 10**40}),
    "too deep": answer('{"status": 1, "data":' + "[" * 200_000),
    "a constant": answer('{"status": 1, "data": NaN}'),
    "too large": answer('{"status": 1, "data": "' + "x" * 3_000_000 + '"}'),
    "not UTF-8": answer(b'{"status": 1, "data": "\xff"}'),
}


@each_case("name", INVALID_ANSWERS)
def test_an_invalid_answer_to_a_send_is_never_a_success(gateway, make, name):
    gateway.will(INVALID_ANSWERS[name])
    sender = make(template_id=5)
    assert type(error_of(sender.send_text, ALI, TEXT)) is Unknown
    assert type(error_of(sender.send_code, CODE)) is Unknown


@each_case("name", INVALID_ANSWERS)
@each_case(
    "call",
    [
        lambda sender: sender.credit(),
        lambda sender: sender.statuses(["1"]),
        lambda sender: list(sender.received(datetime(2020, 1, 1, tzinfo=UTC))),
        lambda sender: sender.v1.get_lines(),
        lambda sender: sender.v1.get_pack_report("x"),
        lambda sender: sender.v1.get_live_report(),
        lambda sender: sender.v1.cancel("x"),
    ],
)
def test_an_invalid_answer_to_a_query_raises_a_sender_error(gateway, make, name, call):
    gateway.will(INVALID_ANSWERS[name])
    error = None
    try:
        call(make())
    except SenderError as raised:
        error = raised
    assert error is None or type(error) is Unknown


def test_the_gateways_message_is_shown_unless_it_repeats_the_request(gateway, make):
    gateway.will(bad(400, 199, "خطای تازه"), bad(400, 199, f"متن {TEXT} با {KEY}"))
    sender = make()
    assert "خطای تازه" in error_of(sender.send_text, ALI, TEXT).reason
    assert "repeat" in error_of(sender.send_text, ALI, TEXT).reason


def test_the_sender_recovers_with_the_gateway(gateway, make):
    gateway.will(answer("", status=503), close_in_body, pack(5))
    sender = make()
    assert type(error_of(sender.send_text, ALI, TEXT)) is Unavailable
    assert type(error_of(sender.send_text, ALI, TEXT)) is Unknown
    assert sender.send_text(ALI, TEXT).id == "5"


# --- v1: codes -----------------------------------------------------------------------------------


def test_a_code_is_sent_by_its_template(gateway, make):
    gateway.will(good({"messageId": 89545112, "cost": 1.0}))
    receipt = make(template_id="100000", code_parameter="OTP", line="").send_code(CODE)
    assert (gateway.last.method, gateway.last.target) == ("POST", "/v1/send/verify")
    assert gateway.last.json == {
        "mobile": "09120000000",
        "templateId": 100000,
        "parameters": [{"name": "OTP", "value": "481516"}],
    }
    assert (receipt.id, receipt.status) == ("89545112", DeliveryState.QUEUED)
    assert (receipt.reference, receipt.cost) == ("r1", Decimal("1.0"))


@each_case("id_", [0, None])
def test_a_code_with_the_id_zero_or_null_is_rejected(gateway, make, id_):
    gateway.will(good({"messageId": id_, "cost": 0}))
    assert type(error_of(make(template_id=5).send_code, CODE)) is Rejected


def test_a_code_without_a_template_is_sent_as_a_text(gateway, make):
    gateway.will(pack(7))
    assert make().send_code(CODE).id == "7"
    assert gateway.last.json["messageText"] == TEXT


# --- v1: queries ---------------------------------------------------------------------------------


def test_a_scheduled_pack_can_be_cancelled(gateway, make):
    gateway.will(good({"returnedCreditCount": 2.5, "smsCount": 3}))
    cancelled = make().v1.cancel("2b99e7a1/../x")
    assert gateway.last.method == "DELETE"
    assert gateway.last.target == "/v1/send/scheduled/2b99e7a1%2F..%2Fx"
    assert (cancelled.credit, cancelled.messages) == (Decimal("2.5"), 3)


def test_credit_and_lines_are_read(gateway, make):
    gateway.will(good(4321.5), good([30007732, "30004505"]))
    sender = make()
    credit = sender.credit()
    assert (credit.amount, credit.currency) == (Decimal("4321.5"), None)
    assert (gateway.last.method, gateway.last.target) == ("GET", "/v1/credit")
    assert sender.v1.get_lines() == ["30007732", "30004505"]
    assert gateway.last.target == "/v1/line"


@each_case("amount", [-1, "12", True, None, [], {}])
def test_an_invalid_credit_is_unknown(gateway, make, amount):
    gateway.will(good(amount))
    assert type(error_of(make().credit)) is Unknown


def report(id_, state):
    return {
        "messageId": id_,
        "mobile": 989120000000,
        "messageText": TEXT,
        "sendDateTime": 1_700_000_000,
        "lineNumber": 30007732,
        "cost": 1.1,
        "deliveryState": state,
        "deliveryDateTime": None,
    }


@each_case(
    ("state", "expected"),
    [
        (1, "delivered"), (2, "undelivered"), (3, "sent"), (4, "undelivered"), (5, "sent"),
        (6, "undelivered"), (7, "rejected"), (8, "unknown"), (9, "unknown"), (None, "queued"),
        (True, "unknown"), ("1", "unknown"), ([], "unknown"),
    ],
)  # fmt: skip
def test_every_delivery_state_is_mapped(gateway, make, state, expected):
    gateway.will(good(report(7, state)))
    assert make().statuses(["7"]) == {"7": expected}
    assert (gateway.last.method, gateway.last.target) == ("GET", "/v1/send/7")


def test_a_missing_message_is_unknown_and_does_not_fail_the_others(gateway, make):
    gateway.will(bad(400, 111), good(report(8, 1)), bad(500, 0))
    states = make().statuses(["7", "../x", "8", "9", "10"])
    assert list(states.values()) == ["unknown", "unknown", "delivered", "unknown", "unknown"]
    assert [asked.target for asked in gateway.asked] == ["/v1/send/7", "/v1/send/8", "/v1/send/9"]


def test_a_report_has_the_cost_of_its_message(gateway, make):
    gateway.will(good(report(7, 1)), bad(400, 111))
    assert make().reports(["7", "8"]) == [
        DeliveryReport("7", DeliveryState.DELIVERED, Decimal("1.1")),
        DeliveryReport("8", DeliveryState.UNKNOWN),
    ]


def test_an_error_of_the_first_status_call_is_raised(gateway, make):
    gateway.will(bad(401, 10))
    assert type(error_of(make().statuses, ["7", "8"])) is Unavailable
    assert make().statuses([]) == {}


def test_reports_of_a_pack_and_of_today_are_read(gateway, make):
    gateway.will(good([report(7, 1), "x", report(8, None)]))
    sender = make()
    first, second = sender.v1.get_pack_report("2b99e7a1-0000")
    assert gateway.last.target == "/v1/send/pack/2b99e7a1-0000"
    assert (first.id, first.mobile, first.status) == ("7", ALI, DeliveryState.DELIVERED)
    assert first.sent_at == datetime.fromtimestamp(1_700_000_000, UTC)
    assert (first.delivered_at, first.cost) == (None, Decimal("1.1"))
    assert second.status is DeliveryState.QUEUED
    assert ALI not in repr(first)
    assert TEXT not in repr(first)
    assert len(sender.v1.get_live_report(page=2, size=50)) == 2
    assert (gateway.last.path, query(gateway.last)) == (
        "/v1/send/live",
        {"pageNumber": "2", "pageSize": "50"},
    )


def test_received_texts_since_a_time_are_returned(gateway, make):
    row = {"messageText": "سلام", "number": 30007732, "mobile": 9120000000}
    times = [1_700_000_000, 1_700_000_100, None, "x", 10**30]
    gateway.will(good([row | {"receivedDateTime": at} for at in times] + ["x"]))
    since = datetime.fromtimestamp(1_700_000_100, UTC)
    messages = list(make().received(since))
    assert (gateway.last.path, query(gateway.last)) == ("/v1/receive/latest", {"count": "100"})
    assert [message.received_at for message in messages] == [since, None, None, None]
    assert {(message.originator, message.line, message.text) for message in messages} == {
        (ALI, "30007732", "سلام")
    }
    assert len({message.id for message in messages}) == 4
    again = list(make().received(since))
    assert [message.id for message in again] == [message.id for message in messages]


# --- legacy --------------------------------------------------------------------------------------


def token(name="the-token"):
    return answer_json({"TokenKey": name, "IsSuccessful": True, "Message": "ok"}, status=201)


def done(**fields):
    return answer_json({"IsSuccessful": True, "Message": "ok"} | fields, status=201)


def failed(http=201, message="ناموفق"):
    return answer_json({"IsSuccessful": False, "Message": message}, status=http)


def test_one_token_is_requested_and_sent_with_every_call(gateway, make):
    gateway.will(token(), done(Credit=12.5), done(SMSLines=[{"ID": 1, "LineNumber": 30007732}]))
    sender = make(api="legacy")
    assert sender.credit().amount == Decimal("12.5")
    assert sender.legacy.get_lines() == ["30007732"]
    first, second, third = gateway.asked
    assert (first.method, first.target) == ("POST", "/api/Token")
    assert first.json == {"UserApiKey": KEY, "SecretKey": SECRET}
    assert (second.method, second.target) == ("GET", "/api/credit")
    assert second.headers["x-sms-ir-secure-token"] == "the-token"
    assert (third.target, third.headers["x-sms-ir-secure-token"]) == ("/api/SMSLine", "the-token")
    assert "x-sms-ir-secure-token" not in first.headers


def test_a_token_is_renewed_before_it_expires(gateway, make, monkeypatch):
    assert 20 * 60 < legacy.TOKEN_SECONDS < 30 * 60 - DEFAULT_TIMEOUT.whole
    now = 1000.0
    monkeypatch.setattr(legacy, "time", SimpleNamespace(monotonic=lambda: now))
    gateway.will(token("one"), done(Credit=1), done(Credit=1), token("two"), done(Credit=1))
    sender = make(api="legacy")
    sender.credit()
    now += legacy.TOKEN_SECONDS - 1
    sender.credit()
    now += 1
    sender.credit()
    tokens = [asked.headers.get("x-sms-ir-secure-token") for asked in gateway.asked]
    assert tokens == [None, "one", "one", None, "two"]


def test_a_refused_token_is_renewed_once(gateway, make):
    gateway.will(token("one"), answer("", status=401), token("two"), done(Credit=3), done(Credit=4))
    sender = make(api="legacy")
    assert sender.credit().amount == 3
    assert sender.credit().amount == 4
    tokens = [asked.headers.get("x-sms-ir-secure-token") for asked in gateway.asked]
    assert tokens == [None, "one", None, "two", "two"]


def test_a_token_that_is_refused_twice_is_unavailable(gateway, make):
    gateway.will(token("one"), answer("", status=401), token("two"), answer("", status=401))
    assert type(error_of(make(api="legacy").send_text, ALI, TEXT)) is Unavailable
    assert len(gateway.asked) == 4


@each_case(
    "step",
    [
        failed(), failed(400), failed(401), answer("", status=500), answer("<html>"), answer(""),
        answer_json({"IsSuccessful": True}), answer_json({"TokenKey": "x"}),
        answer_json({"IsSuccessful": True, "TokenKey": 5}), token(""), token("a\r\nb: c"),
        token("ت"), answer_json([]), close_in_body,
    ],
)  # fmt: skip
def test_a_call_without_a_token_is_unavailable_and_nothing_is_written(gateway, make, step):
    gateway.will(step)
    error = error_of(make(api="legacy").send_text, ALI, TEXT)
    assert type(error) is Unavailable
    assert {asked.target for asked in gateway.asked} == {"/api/Token"}


def test_a_late_token_is_unavailable_and_nothing_is_written(gateway, make):
    gateway.will(hang)
    with deadline(0.2):
        error = error_of(make(api="legacy").send_text, ALI, TEXT)
    assert type(error) is Unavailable
    assert not error.written


def test_threads_that_start_together_request_one_token(gateway, make):
    def slow_token(exchange):
        exchange.wait(0.05)
        exchange.answer(token())

    gateway.will(slow_token, done(Credit=1))
    sender = make(api="legacy")
    barrier, got = threading.Barrier(8), []

    def run():
        barrier.wait()
        got.append(sender.credit().amount)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [1] * 8
    assert [asked.target for asked in gateway.asked].count("/api/Token") == 1


def test_a_thread_waits_for_a_token_within_its_deadline(make):
    sender = make(api="legacy", timeout=(60, 60, 60))
    began = time.monotonic()
    with sender.legacy._lock, deadline(0.1):
        error = error_of(sender.credit)
    assert type(error) is Unavailable
    assert not error.written
    assert time.monotonic() - began < 30, "the timeout ended it, not the deadline"


def test_legacy_ids_are_matched_by_mobile(gateway, make):
    ids = [
        {"ID": 12, "MobileNo": "9120000001"},
        {"ID": 11, "MobileNo": "09120000000"},
        {"ID": 0, "MobileNo": "989120000002"},
        "x",
    ]
    gateway.will(token(), done(Ids=ids, BatchKey="b"))
    texts = [Text(mobile, text) for mobile, text in zip(MOBILES, "aabc", strict=True)]
    receipts = list(make(api="legacy").send_many(texts))
    assert (gateway.last.method, gateway.last.target) == ("POST", "/api/MessageSend")
    assert gateway.last.json == {
        "Messages": ["a", "a", "b", "c"],
        "MobileNumbers": ["0" + mobile[3:] for mobile in MOBILES],
        "LineNumber": "30007732",
        "SendDateTime": "",
        "CanContinueInCaseOfError": True,
    }
    assert [receipt.id for receipt in receipts] == ["11", "12", None, None]
    assert [receipt.status for receipt in receipts] == ["queued", "queued", "rejected", "unknown"]
    assert isinstance(receipts[2].error, Rejected), "the id 0 means not sent"
    assert isinstance(receipts[3].error, Unknown)


@each_case("message", ["شماره موبایل نامعتبر است", "ناموفق"])
def test_a_number_that_legacy_refuses_does_not_fail_the_others(gateway, make, message):
    ids = [{"ID": place, "MobileNo": mobile} for place, mobile in enumerate(MOBILES, start=11)]
    no = failed(message=message)
    gateway.will(token(), no, no, done(Ids=ids[:1]), no, done(Ids=ids[2:]))
    receipts = list(make(api="legacy").send_many(Text(mobile, "alike") for mobile in MOBILES))
    assert [receipt.id for receipt in receipts] == ["11", None, "13", "14"]
    assert type(receipts[1].error) is Rejected


def test_the_customer_club_sends_from_its_own_line(gateway, make):
    gateway.will(token(), done(Ids=[{"ID": 11, "MobileNo": "9120000000"}]))
    sender = make(api="legacy", customer_club=True, line="")
    assert sender.send_text(ALI, "x").id == "11"
    assert gateway.last.target == "/api/CustomerClub/Send"
    assert gateway.last.json == {
        "Messages": ["x"],
        "MobileNumbers": ["09120000000"],
        "SendDateTime": "",
        "CanContinueInCaseOfError": True,
    }


def test_a_legacy_code_is_sent_by_a_template_or_in_the_accounts_text(gateway, make):
    gateway.will(token(), done(VerificationCodeId=501), done(VerificationCodeId=0))
    plain = make(api="legacy").send_code(CODE)
    assert gateway.last.target == "/api/VerificationCode"
    assert gateway.last.json == {"Code": "481516", "MobileNumber": "09120000000"}
    assert (plain.id, plain.status, plain.reference) == ("501", DeliveryState.QUEUED, "r1")
    gateway.will(token(), done(VerificationCodeId=0))
    by_template = make(api="legacy", template_id=77, code_parameter="OTP").send_code(CODE)
    assert gateway.last.target == "/api/UltraFastSend"
    assert gateway.last.json == {
        "ParameterArray": [{"Parameter": "OTP", "ParameterValue": "481516"}],
        "Mobile": "09120000000",
        "TemplateId": 77,
    }
    assert by_template.id is None


@each_case(
    ("step", "kind"),
    [
        (failed(), UnclearRefusal), (failed(400), UnclearRefusal),
        (failed(message=f"{TEXT} {SECRET}"), UnclearRefusal),
        (failed(message="اعتبار کافی نیست"), UnclearRefusal),
        (failed(message="شماره موبایل نامعتبر است"), Rejected),
        (failed(message="موبایل در لیست سیاه است"), Rejected),
        (answer_json({"Message": "The request is invalid."}, status=400), Unavailable),
        (answer("<html>", status=400), Unavailable),
        (answer_json({"IsSuccessful": "true", "Ids": []}), Unknown),
        (answer_json({"IsSuccessful": 1, "Ids": []}), Unknown),
        (answer_json({"Ids": [{"ID": 1, "MobileNo": "9120000000"}]}), Unknown),
        (done(), Unknown), (done(Ids="x"), Unknown), (done(Ids=[{}]), Unknown),
        (answer_json([]), Unknown), (answer("<html>"), Unknown), (answer(""), Unknown),
        (answer('{"IsSuccessful": true'), Unknown), (answer("[" * 200_000), Unknown),
        (answer("<html>", status=404), Misconfigured), (failed(403), Unavailable),
        (failed(429), Unavailable), (failed(500), Unavailable),
        (answer("", status=302), Unavailable),
        (close_in_body, Unknown),
    ],
)  # fmt: skip
def test_an_unsuccessful_legacy_answer_is_an_error(gateway, make, step, kind):
    gateway.will(token(), step)
    assert type(error_of(make(api="legacy").send_text, ALI, TEXT)) is kind


def test_contacts_of_the_customer_club_are_requested_page_by_page(gateway, make):
    def page(*mobiles, pages: object = 2.0):
        rows = [
            {"Id": 5, "FirstName": "علی", "LastName": None, "Mobile": mobile, "IsActive": True}
            for mobile in mobiles
        ]
        return done(ContactsCustomerClubResponseDetails=rows, AllPages=pages, AllRecords=3)

    gateway.will(token(), page(9120000000, 9120000001), page(9120000002), page(9120000003))
    contacts = list(make(api="legacy").legacy.iter_contacts())
    assert [contact.mobile for contact in contacts] == MOBILES[:3]
    assert (contacts[0].first_name, contacts[0].last_name, contacts[0].id) == ("علی", "", "5")
    assert ALI not in repr(contacts[0])
    assert "علی" not in repr(contacts[0])
    assert [query(asked) for asked in gateway.asked[1:]] == [
        {"pageNumber": "1"},
        {"pageNumber": "2"},
    ]
    assert gateway.last.path == "/api/CustomerClubContact/GetContacts"
    gateway.will(token(), page(9120000000, pages=None), page(pages="x"))
    assert len(list(make(api="legacy").legacy.iter_contacts())) == 1


def test_a_contact_can_be_added_and_categories_can_be_sent_to(gateway, make):
    gateway.will(token(), done(), done(BatchKey="b-7"))
    sender = make(api="legacy")
    sender.legacy.add_contact(Contact(ALI, "علی", "رضایی"), category=3)
    assert gateway.last.target == "/api/CustomerClubContact"
    assert gateway.last.json == {
        "Prefix": "",
        "FirstName": "علی",
        "LastName": "رضایی",
        "Mobile": "09120000000",
        "BirthDay": "",
        "CategoryId": 3,
    }
    assert sender.legacy.send_to_club_categories("سلام", [3, 4]) == "b-7"
    assert gateway.last.target == "/api/CustomerClub/SendToCategories"
    assert gateway.last.json == {
        "Messages": "سلام",
        "contactsCustomerClubCategoryIds": [3, 4],
        "SendDateTime": "",
        "CanContinueInCaseOfError": True,
    }


def test_the_state_of_a_legacy_message_is_the_gateways_text(gateway, make):
    row = {"ID": 7, "MobileNo": "9120000000", "DeliveryStatus": "رسیده", "NeedsReCheck": False}
    gateway.will(token(), done(Messages=row), done(Messages=None))
    sender = make(api="legacy")
    message = sender.legacy.get_message("7")
    assert (gateway.last.path, query(gateway.last)) == ("/api/MessageSend", {"id": "7"})
    assert (message.id, message.mobile, message.state) == ("7", ALI, "رسیده")
    assert message.final
    assert type(error_of(sender.legacy.get_message, "7")) is Unknown


# --- options -------------------------------------------------------------------------------------


def test_the_options_decide_the_capabilities(make):
    codes = {Capability.PATTERN, Capability.CODE_SMS, Capability.CREDIT}
    asked = {Capability.STATUS, Capability.INCOMING}
    assert make().capabilities == codes | asked | {Capability.TEXT}
    assert make(line="", template_id=5).capabilities == codes | asked
    assert make(api="legacy").capabilities == codes | {Capability.TEXT}
    assert make(api="legacy", line="").capabilities == codes


def test_an_unsupported_call_is_refused_without_a_request(gateway, make):
    call = CodeMessage(ALI, "481516", TEXT, channel="voice")
    legacy, codes_alone = make(api="legacy"), make(line="", template_id=5)
    for ask in (
        lambda: legacy.statuses(["1"]),
        lambda: list(legacy.received(datetime.now(UTC))),
        lambda: legacy.send_code(call),
        lambda: codes_alone.send_text(ALI, "x"),
    ):
        error = error_of(ask)
        assert type(error) is Unavailable
        assert not error.written
    assert not gateway.asked
    with pytest.raises(ConfigurationError):
        _ = legacy.v1
    with pytest.raises(ConfigurationError):
        _ = codes_alone.legacy


@each_case("api", ["v1", "legacy"])
def test_each_api_has_its_own_url(api):
    secret = "s" if api == "legacy" else None
    sender = SmsIr("k", "3000", api=api, secret_key=secret)
    urls = {"v1": "https://api.sms.ir/v1", "legacy": "https://RestfulSms.com/api"}
    assert sender._http.base_url == urls[api]
    sender.close()


@each_case(
    "options",
    [
        {"api_key": ""}, {"api_key": True}, {"api_key": "a\nb"}, {"api_key": "کلید"},
        {"line": "abc"}, {"line": 1.5}, {"line": ""}, {"template_id": "x"},
        {"code_parameter": ""}, {"api": "v2"}, {"secret_key": "s"}, {"customer_club": True},
        {"api": "legacy"}, {"api": "legacy", "secret_key": "s", "customer_club": "false"},
        {"base_url": "http://api.sms.ir/v1"},
    ],
)  # fmt: skip
def test_an_invalid_option_is_refused(options):
    with pytest.raises(ConfigurationError):
        SmsIr(**{"api_key": "k", "line": "3000"} | options)


def test_the_repr_shows_only_the_name(make):
    sender = make(api="legacy")
    shown = [repr(sender), repr(sender.legacy), repr(make().v1)]
    assert shown == ["<SmsIr 'sir'>", "<LegacyClient of 'sir'>", "<V1Client of 'sir'>"]


# --- the contract --------------------------------------------------------------------------------


class TestV1(SenderContract):
    credentials = (KEY,)
    known_ids = ("89545112",)

    def make_sender(self, base_url):
        return SmsIr(KEY, "30007732", template_id=5, base_url=base_url + "/v1")

    def answer(self, request: Request) -> Reply:
        if request.path in ("/v1/send/bulk", "/v1/send/likeToLike"):
            return pack(*(89545112 + place for place, _ in enumerate(request.json["mobiles"])))
        if request.path == "/v1/send/verify":
            return good({"messageId": 89545112, "cost": 1.0})
        if request.path == "/v1/credit":
            return good(4321.5)
        if request.path == "/v1/receive/latest":
            row = {"messageText": "سلام", "number": 30007732, "mobile": 989120000000}
            return good([row | {"receivedDateTime": int(time.time())}])
        return good(report(89545112, 1))


class TestLegacy(SenderContract):
    credentials = (KEY, SECRET, "the-token")
    signs_in_first = True

    def make_sender(self, base_url):
        return SmsIr(
            KEY, "30007732", 5, api="legacy", secret_key=SECRET, base_url=base_url + "/api"
        )

    def answer(self, request: Request) -> Reply:
        if request.path == "/api/Token":
            return token()
        if request.path == "/api/MessageSend":
            mobiles = request.json["MobileNumbers"]
            return done(Ids=[{"ID": 7, "MobileNo": mobile[1:]} for mobile in mobiles])
        return done(Credit=12.5, VerificationCodeId=8)
