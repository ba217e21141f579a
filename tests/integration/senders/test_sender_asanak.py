"""Asanak's sender against a loopback gateway that follows the web-service guide."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from senders.cases import each_case
from senders.loopback import answer, answer_json, check_no_secrets, form, scripted
from senders.soap_wire import BOMB

from flask_smsverify.errors import (
    ConfigurationError,
    Misconfigured,
    Rejected,
    SenderError,
    Unavailable,
    Unknown,
)
from flask_smsverify.senders.asanak import Asanak
from flask_smsverify.senders.base import Capability, CodeMessage, DeliveryState, Text
from flask_smsverify.senders.batching import UnclearRefusal
from flask_smsverify.testing import Reply, Request, SenderContract, close_in_body

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

    def build(api="v1rest", **options):
        sender = Asanak(
            "the-user",
            PASSWORD,
            "982164063188",
            api,
            base_url=f"{gateway.url}/webservice/{api}",
            name="asa",
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
    check_no_secrets(caught.value, PASSWORD, "the-user", "481516", ALI[-10:], TEXT)
    assert caught.value.sender == "asa"
    return caught.value


def good(ids):
    """Return an answer of v2rest for success."""
    return answer_json({"meta": {"status": 200, "message": "success"}, "data": ids})


def bad(http: int, code: object, message: str = "bad request"):
    return answer_json({"meta": {"status": code, "message": message}, "data": None}, status=http)


# --- v1rest: sendsms -----------------------------------------------------------------------------


def test_a_text_is_sent_as_a_form_that_accepts_json(gateway, make):
    gateway.will(answer("[2456544, 2456545]"))
    receipts = list(make().send_many(Text(mobile, "test & سلام", mobile) for mobile in MOBILES[:2]))
    asked = gateway.last
    assert (asked.method, asked.target) == ("POST", "/webservice/v1rest/sendsms")
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
    assert asked.headers["accept"] == "application/json"
    assert form(asked) == {
        "username": "the-user",
        "password": PASSWORD,
        "source": "982164063188",
        "destination": "09120000000,09120000001",
        "message": "test & سلام",
    }
    assert [receipt.id for receipt in receipts] == ["2456544", "2456545"]
    assert [receipt.to for receipt in receipts] == MOBILES[:2]
    assert [receipt.reference for receipt in receipts] == MOBILES[:2]
    assert {receipt.status for receipt in receipts} == {DeliveryState.QUEUED}


IDS = {
    "text": answer(" [2456544, 2456545] \n", kind="text/html"),
    "xml": answer(
        "<response> \n <MsgID>2456544</MsgID> \n <MsgID>2456545</MsgID> \n </response>",
        kind="text/xml",
    ),
    "XML with a declaration": answer(
        '<?xml version="1.0" encoding="UTF-8"?><response><MsgID>2456544</MsgID>'
        "<MsgID>2456545</MsgID></response>",
        kind="application/xhtml",
    ),
    "xml after a newline": answer(
        '\r\n\n<?xml version="1.0" encoding="UTF-8"?>\n<response><MsgID>2456544</MsgID>'
        "<MsgID>2456545</MsgID></response>",
        kind="text/xml",
    ),
    "XML after a byte order mark and a newline": answer(
        b'\xef\xbb\xbf\n<?xml version="1.0"?><response><MsgID>2456544</MsgID>'
        b"<MsgID>2456545</MsgID></response>",
    ),
    "JSON after a newline and a byte order mark": answer(b"\n\xef\xbb\xbf[2456544, 2456545]"),
    "json": answer('[\n2456544,\n2456545\n]'),
    "json of texts": answer('["2456544", "2456545"]'),
    "JSON with a byte order mark": answer(b"\xef\xbb\xbf[2456544, 2456545]"),
}  # fmt: skip


@each_case("shape", IDS)
def test_ids_are_read_in_every_format(gateway, make, shape):
    gateway.will(IDS[shape])
    receipts = list(make().send_many(Text(mobile, "alike") for mobile in MOBILES[:2]))
    assert [receipt.id for receipt in receipts] == ["2456544", "2456545"]


@each_case(
    ("body", "expected"),
    [
        ("[2456544]", "2456544 - -"),
        ("[]", "- - -"),
        ("[2456544, null, 2456546]", "2456544 - 2456546"),
        ('[2456544, "x", true]', "2456544 - -"),
        ("[1, 2, 3, 4]", "- - -"),
        ("<response><MsgID>7</MsgID><MsgID/><MsgID>x</MsgID></response>", "7 - -"),
    ],
)
def test_a_recipient_without_an_id_is_unknown(gateway, make, body, expected):
    gateway.will(answer(body))
    receipts = list(make().send_many(Text(mobile, "alike") for mobile in MOBILES[:3]))
    assert " ".join(receipt.id or "-" for receipt in receipts) == expected
    for receipt in receipts:
        assert (receipt.status is DeliveryState.UNKNOWN) == (receipt.id is None)
        assert isinstance(receipt.error, Unknown) == (receipt.id is None)


def test_an_error_code_in_place_of_an_id_is_a_failed_recipient(gateway, make):
    gateway.will(answer("[2456544, -5, 0]"), answer("[-5]"))
    sender = make()
    receipts = list(sender.send_many(Text(mobile, "alike") for mobile in MOBILES[:3]))
    assert [receipt.status for receipt in receipts] == ["queued", "rejected", "unknown"]
    assert (type(receipts[1].error), receipts[1].error.code) == (Rejected, "-5")
    error = error_of(sender.send_text, ALI, TEXT)
    assert isinstance(error, Unavailable), "a code alone may be about the account"
    assert error.code == "-5"


BAD = "Destination Number is not valid"
REFUSALS = {
    "a sentence": answer(BAD, kind="text/html"),
    "an object": answer_json({"status": 1010, "message": BAD}),
    "XML": answer(f"\n<?xml version='1.0'?>\n<response><Message>{BAD}</Message></response>"),
    "an unknown sentence": answer("Number 3 of the list is wrong", kind="text/html"),
    "a code": answer("-7"),
}


@each_case("shape", REFUSALS)
def test_one_number_that_v1_refuses_does_not_fail_the_others(gateway, make, shape):
    # The calls: all four (refused), each half, and the two of the refused half.
    no = REFUSALS[shape]
    gateway.will(no, no, answer("[11]"), no, answer("[13, 14]"))
    receipts = list(make().send_many(Text(mobile, "alike") for mobile in MOBILES))
    assert [receipt.id for receipt in receipts] == ["11", None, "13", "14"]
    assert type(receipts[1].error) is Rejected
    assert [receipt.status for receipt in receipts].count(DeliveryState.REJECTED) == 1


def test_an_unclear_refusal_of_every_recipient_is_unavailable(gateway, make):
    gateway.will(answer("Your panel is closed", kind="text/html"))
    receipts = list(make().send_many(Text(f"+98912{n:07}", "alike") for n in range(100)))
    assert all(isinstance(receipt.error, Unavailable) for receipt in receipts)
    assert len(gateway.asked) <= 10, "no call follows after two refused recipients"


def test_different_texts_are_several_calls(gateway, make):
    gateway.will(answer("[1, 3]"), answer("Source Number is not valid", kind="text/html"))
    texts = [Text(mobile, text) for mobile, text in zip(MOBILES, "abab", strict=True)]
    receipts = list(make().send_many(texts))
    assert [form(asked)["message"] for asked in gateway.asked] == ["a", "b"]
    assert [receipt.id for receipt in receipts] == ["1", None, "3", None]
    assert isinstance(receipts[1].error, Unavailable)


def test_more_than_a_hundred_recipients_are_several_calls(gateway, make):
    gateway.will(answer(json.dumps(list(range(1, 101)))), answer("[101]"))
    texts = [Text(f"+98912{number:07}", "alike") for number in range(101)]
    assert len([1 for receipt in make().send_many(texts) if receipt.id]) == 101
    assert [form(asked)["destination"].count(",") for asked in gateway.asked] == [99, 0]


V1_ERRORS = {
    "the password": (answer("Username or Password is not valid", kind="text/html"), Unavailable),
    "the line": (answer(" Source Number is not valid\n", kind="text/html"), Unavailable),
    "quoted": (answer('"Source Number is not valid"'), Unavailable),
    "an object": (answer_json({"status": "Source Number is not valid"}), Unavailable),
    "an object with a message": (
        answer_json({"status": -3, "message": "Username or Password is not valid"}),
        Unavailable,
    ),
    "as XML": (
        answer("<response><Error>Source Number is not valid</Error></response>"),
        Unavailable,
    ),
    "with HTTP 400": (answer("Source Number is not valid", status=400), Unavailable),
    "a bad number": (answer("Destination Number is not valid", kind="text/html"), Rejected),
    "no credit": (answer("Credit is not enough", kind="text/html"), Unavailable),
    "no credit in Persian": (answer("اعتبار کافی نیست", kind="text/html"), Unavailable),
    "a bad number in Persian": (answer("شماره گیرنده معتبر نیست", kind="text/html"), Rejected),
    "a code of v2": (answer_json({"status": 1006}), Unavailable),
    "a code of v2 as text": (answer_json({"status": "1010"}), Rejected),
    "a code": (answer("-5"), UnclearRefusal),
    "a code in quotes": (answer('"-5"'), UnclearRefusal),
    "an object with a code": (answer_json({"status": -5}), UnclearRefusal),
    "an object with words": (answer_json({"error": "Something new"}), UnclearRefusal),
    "other words": (answer("Something new", kind="text/html"), UnclearRefusal),
    "other words in XML after a newline": (
        answer("\r\n<?xml version='1.0' encoding='UTF-8'?><response>Something new</response>"),
        UnclearRefusal,
    ),
    "words with HTTP 400": (answer("Something new", status=400), UnclearRefusal),
    "HTML with HTTP 400": (answer("<html><p>no", status=400), Unavailable),
    "ids with HTTP 400": (answer("[5]", status=400), Unknown),
    "one id alone": (answer("2456544"), UnclearRefusal),
    "an id as XML's text": (answer("<response>2456544</response>"), UnclearRefusal),
    "ids in an object": (answer_json({"ids": [5]}), Unknown),
    "HTTP 401": (answer("", status=401), Unavailable),
    "HTTP 402": (answer("", status=402), Unavailable),
    "HTTP 404": (answer("<html/>", status=404), Misconfigured),
    "HTTP 429": (answer("[5]", status=429), Unavailable),
    "HTTP 500": (answer("[5]", status=500), Unavailable),
    "a redirect": (answer("", status=302, Location="http://127.0.0.1:9/"), Unavailable),
}


@each_case("name", V1_ERRORS)
def test_any_answer_but_a_list_of_ids_is_an_error(gateway, make, name):
    step, kind = V1_ERRORS[name]
    gateway.will(step)
    assert type(error_of(make().send_text, ALI, TEXT)) is kind


def test_an_error_code_is_kept_and_a_repeated_request_is_hidden(gateway, make):
    gateway.will(answer("-5"), answer(f"the text {TEXT} to {ALI} by {PASSWORD}"), answer("New"))
    sender = make()
    assert error_of(sender.send_text, ALI, TEXT).code == "-5"
    assert "repeat" in error_of(sender.send_text, ALI, TEXT).reason
    assert "New" in error_of(sender.send_text, ALI, TEXT).reason


# --- v1rest: invalid answers ---------------------------------------------------------------------

INVALID_ANSWERS = {
    "html": answer("<html><body>Welcome</body></html>", kind="text/html"),
    "HTML that is not XML": answer("<!doctype html><p>busy<br>", kind="text/html"),
    "empty": answer(""),
    "half a list": answer("[2456544, 24565"),
    "half XML": answer("<response><MsgID>2456544</MsgID><Msg"),
    "another root": answer("<ids><MsgID>2456544</MsgID></ids>"),
    "XML too deep": answer("<response>" + "<a>" * 50_000),
    "JSON too deep": answer("[" * 200_000),
    "a list of lists": answer("[[5]]"),
    "a list of objects": answer('[{"MsgID": "5"}]'),
    "mixed XML": answer("<response><MsgID>5</MsgID><More>6</More></response>"),
    "a number too long": answer("[" + "9" * 5000 + "]"),
    "a number without end": answer("[Infinity, NaN]"),
    "a truth": answer("true"),
    "nothing": answer("null"),
    "a DTD": answer('<!DOCTYPE response><response><MsgID>5</MsgID></response>'),
    "a DTD from elsewhere": answer(
        '<!DOCTYPE response SYSTEM "http://127.0.0.1:9/x.dtd"><response><MsgID>5</MsgID></response>'
    ),
    "an entity": answer(
        '<!DOCTYPE response [<!ENTITY e "5">]><response><MsgID>&e;</MsgID></response>'
    ),
    "an entity of a file": answer(
        '<!DOCTYPE response [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
        "<response><MsgID>&e;</MsgID></response>"
    ),
    "a bomb": answer(BOMB),
    "not UTF-8": answer(b"\xff\xfe\xfa"),
    "XML in an unknown encoding": answer(b'<?xml version="1.0" encoding="none"?><response/>'),
    "too large": answer("[" + "5," * 1_500_000 + "5]"),
}  # fmt: skip


@each_case("name", INVALID_ANSWERS)
@each_case("api", ["v1rest", "v2rest"])
def test_an_invalid_answer_to_a_send_is_never_a_success(gateway, make, api, name):
    gateway.will(INVALID_ANSWERS[name])
    assert type(error_of(make(api).send_text, ALI, TEXT)) is Unknown
    assert len(gateway.asked) == 1


@each_case("name", INVALID_ANSWERS)
@each_case("api", ["v1rest", "v2rest"])
def test_an_invalid_answer_gives_neither_a_credit_nor_a_state(gateway, make, api, name):
    gateway.will(INVALID_ANSWERS[name])
    sender = make(api)
    assert type(error_of(sender.credit)) is Unknown
    gateway.will(INVALID_ANSWERS[name])
    states = {}
    try:
        states = sender.statuses(["1"])
    except SenderError as error:
        check_no_secrets(error, PASSWORD)
    assert states in ({}, {"1": DeliveryState.UNKNOWN})


def test_the_sender_recovers_with_the_gateway(gateway, make):
    gateway.will(answer("", status=503), close_in_body, answer("[5]"))
    sender = make()
    assert type(error_of(sender.send_text, ALI, TEXT)) is Unavailable
    assert type(error_of(sender.send_text, ALI, TEXT)) is Unknown
    assert sender.send_text(ALI, TEXT).id == "5"


# --- v1rest: msgstatus, getcredit ----------------------------------------------------------------

ROWS = [
    {
        "MsgID": id_,
        "Status": state,
        "SendTime": "2012-10-31 11:56:04",
        "DeliverTime": "2012-10-31 12:05:00",
    }
    for id_, state in [("4456772", "6"), ("4456773", "5")]
]
STATUS_ANSWERS = {
    "json": answer_json(ROWS),
    "text": answer(json.dumps(ROWS), kind="text/html"),
    "xml": answer(
        "<response>\n"
        + "".join(
            "<MsgStatus>\n" + "".join(f"<{key}>{row[key]}</{key}> \n" for key in row)
            + "</MsgStatus>\n"
            for row in ROWS
        )
        + "</response>",
        kind="application/xhtml",
    ),
}  # fmt: skip


@each_case("shape", STATUS_ANSWERS)
def test_states_are_read_in_every_format(gateway, make, shape):
    gateway.will(STATUS_ANSWERS[shape])
    states = make().statuses(["4456773", "4456772", "9"])
    assert states == {
        "4456773": DeliveryState.UNDELIVERED,
        "4456772": DeliveryState.DELIVERED,
        "9": DeliveryState.UNKNOWN,
    }
    assert gateway.last.target == "/webservice/v1rest/msgstatus"
    assert form(gateway.last) == {
        "username": "the-user",
        "password": PASSWORD,
        "msgid": "4456773,4456772,9",
    }


@each_case("shape", STATUS_ANSWERS)
def test_send_and_delivery_times_are_kept(gateway, make, shape):
    gateway.will(STATUS_ANSWERS[shape])
    delivered, failed = make().client.get_statuses(["4456772", "4456773"])
    assert (delivered.id, delivered.status, delivered.code) == ("4456772", "delivered", "6")
    assert delivered.sent_at == datetime(2012, 10, 31, 8, 26, 4, tzinfo=UTC)
    assert delivered.delivered_at == datetime(2012, 10, 31, 8, 35, tzinfo=UTC)
    assert (failed.id, failed.status, failed.code) == ("4456773", "undelivered", "5")


@each_case("time", ["0000-00-00", "0000-00-00 00:00:00", "", None, 5, "1403-08-10 11:56:04"])
def test_a_missing_delivery_time_is_none(gateway, make, time):
    gateway.will(answer_json([{"MsgID": "7", "Status": "20", "DeliverTime": time}]))
    [one] = make().client.get_statuses(["7"])
    assert (one.code, one.sent_at, one.delivered_at) == ("20", None, None)


@each_case(
    ("state", "expected"),
    [
        ("-1", "unknown"), ("1", "queued"), ("4", "queued"), ("2", "sent"), ("7", "unknown"),
        ("8", "rejected"), ("10", "sent"), ("9", "sent"), ("6", "delivered"),
        ("5", "undelivered"), ("11", "sent"), ("12", "sent"), ("13", "unknown"),
        ("20", "unknown"), ("77", "unknown"), (6, "delivered"), (True, "unknown"),
        (None, "unknown"), ([], "unknown"), ({"a": 1}, "unknown"),
    ],
)  # fmt: skip
def test_every_delivery_state_is_mapped(gateway, make, state, expected):
    row = {"MsgID": 7, "Status": state, "DeliverTime": "0000-00-00"}
    gateway.will(answer_json([row]))
    assert make().statuses(["7"]) == {"7": expected}


def test_a_status_call_has_at_most_a_hundred_ids(gateway, make):
    gateway.will(answer("[]"))
    ids = [str(id_) for id_ in range(1, 102)]
    assert len(make().statuses(ids)) == 101
    assert [form(asked)["msgid"].count(",") for asked in gateway.asked] == [99, 0]
    assert make().statuses([]) == {}


@each_case(
    "body",
    [
        "15000.5",
        '"15000.5"',
        "[15000.5]",
        '{"credit": 15000.5}',
        '{"Credit": "15000.5"}',
        "<response>15000.5</response>",
        "<response><Credit>15000.5</Credit></response>",
    ],
)
def test_credit_is_read_in_every_format(gateway, make, body):
    gateway.will(answer(body))
    credit = make().credit()
    assert (credit.amount, credit.currency) == (Decimal("15000.5"), None)
    assert gateway.last.target == "/webservice/v1rest/getcredit"
    assert form(gateway.last) == {"username": "the-user", "password": PASSWORD}


@each_case(
    ("body", "kind"),
    [
        ("-5", UnclearRefusal), ("9" * 100, Unknown), ("Something new", UnclearRefusal),
        ("1e400000000000000000000", Unknown), ('"NaN"', Unknown),
        ('{"credit": true}', Unknown), ("[1, 2]", Unknown), ("Infinity", Unknown),
        ("Username or Password is not valid", Unavailable),
    ],
)  # fmt: skip
def test_an_invalid_credit_is_an_error(gateway, make, body, kind):
    gateway.will(answer(body))
    assert type(error_of(make().credit)) is kind


# --- v2rest --------------------------------------------------------------------------------------


def test_v2_sends_json_with_the_credentials(gateway, make):
    gateway.will(good([7, 8]))
    receipts = list(make("v2rest").send_many(Text(mobile, "سلام") for mobile in MOBILES[:2]))
    assert (gateway.last.method, gateway.last.target) == ("POST", "/webservice/v2rest/sendsms")
    assert gateway.last.headers["content-type"] == "application/json"
    assert gateway.last.json == {
        "username": "the-user",
        "password": PASSWORD,
        "source": "982164063188",
        "destination": "09120000000,09120000001",
        "message": "سلام",
    }
    assert [receipt.id for receipt in receipts] == ["7", "8"]


def test_v2_sends_different_texts_in_one_call(gateway, make):
    gateway.will(good([7, 8]))
    texts = [Text(MOBILES[0], "a"), Text(MOBILES[1], "b")]
    receipts = list(make("v2rest").send_many(texts))
    assert gateway.last.target == "/webservice/v2rest/p2psendsms"
    assert gateway.last.json["data"] == [
        {"source": "982164063188", "destination": "09120000000", "message": "a"},
        {"source": "982164063188", "destination": "09120000001", "message": "b"},
    ]
    assert [receipt.id for receipt in receipts] == ["7", "8"]


def test_v2_sends_a_code_by_a_template(gateway, make):
    gateway.will(good([7]))
    sender = make("v2rest", template_id="55", code_parameter="otp")
    receipt = sender.send_code(CODE)
    assert gateway.last.target == "/webservice/v2rest/template"
    assert gateway.last.json == {
        "username": "the-user",
        "password": PASSWORD,
        "template_id": 55,
        "parameters": {"otp": "481516"},
        "destination": "09120000000",
    }
    assert (receipt.id, receipt.status, receipt.reference) == ("7", DeliveryState.QUEUED, "r1")


@each_case("ids", [[], [None], [0], [1, 2], "7", None, {"id": 7}])
def test_a_template_without_exactly_one_id_is_an_error(gateway, make, ids):
    gateway.will(good(ids))
    assert type(error_of(make("v2rest", template_id=55).send_code, CODE)) is Unknown


@each_case("api", ["v1rest", "v2rest"])
def test_a_code_without_a_template_is_sent_as_a_text(gateway, make, api):
    gateway.will(answer("[7]") if api == "v1rest" else good([7]))
    receipt = make(api).send_code(CODE)
    asked = form(gateway.last) if api == "v1rest" else gateway.last.json
    assert asked["message"] == TEXT
    assert (receipt.id, receipt.reference) == ("7", "r1")


@each_case(
    ("step", "kind", "code"),
    [
        (bad(402, 1006), Unavailable, "1006"),
        (bad(406, 1002), Unavailable, "1002"),
        (bad(406, 1010), Rejected, "1010"),
        (bad(401, 1008), Unavailable, "1008"),
        (bad(401, 1009), Unavailable, "1009"),
        (bad(401, 1012), Unavailable, "1012"),
        (bad(401, 1015), Unavailable, "1015"),
        (bad(200, 1006), Unavailable, "1006"),
        (bad(406, "1010"), Rejected, "1010"),
        (bad(401, 9999), Unavailable, "401"),
        (bad(429, 9999), Unavailable, "429"),
        (bad(500, 500), Unavailable, "500"),
        (bad(406, 1999), UnclearRefusal, "1999"),
        (bad(200, 1999), UnclearRefusal, "1999"),
        (bad(422, None), Unavailable, "422"),
        (bad(400, 200), Unknown, None),
        (bad(200, 9_999_999), Unknown, None),
        (bad(200, None), Unknown, None),
        (bad(200, [200]), Unknown, None),
        (bad(200, True), Unknown, None),
        (answer_json({"data": [7]}), Unknown, None),
        (answer_json([7]), Unknown, None),
        (answer("<html/>", status=404), Misconfigured, "404"),
        (answer("<html/>", status=400), Unavailable, "400"),
    ],
)
def test_every_code_of_v2_raises_its_error(gateway, make, step, kind, code):
    gateway.will(step)
    error = error_of(make("v2rest").send_text, ALI, TEXT)
    assert (type(error), error.code) == (kind, code)


def test_the_message_of_v2_is_shown_unless_it_repeats_the_request(gateway, make):
    gateway.will(bad(406, 1999, "no such template"), bad(406, 1999, f"no {TEXT}"))
    sender = make("v2rest")
    assert "no such template" in error_of(sender.send_text, ALI, TEXT).reason
    assert "repeat" in error_of(sender.send_text, ALI, TEXT).reason


@each_case("texts", ["aaaa", "abcd"])
def test_one_bad_number_does_not_fail_the_others(gateway, make, texts):
    gateway.will(bad(406, 1010), bad(406, 1010), good([11]), bad(406, 1010), good([13, 14]))
    batch = [Text(mobile, text) for mobile, text in zip(MOBILES, texts, strict=True)]
    receipts = list(make("v2rest").send_many(batch))
    assert [receipt.id for receipt in receipts] == ["11", None, "13", "14"]
    assert isinstance(receipts[1].error, Rejected)


def test_states_and_credit_of_v2_are_read(gateway, make):
    gateway.will(good(ROWS), good({"credit": 250}))
    sender = make("v2rest")
    assert sender.statuses(["4456772"]) == {"4456772": DeliveryState.DELIVERED}
    assert gateway.last.target == "/webservice/v2rest/msgstatus"
    assert gateway.last.json["msgid"] == "4456772"
    assert sender.credit().amount == 250
    assert gateway.last.target == "/webservice/v2rest/getcredit"


# --- pushed texts --------------------------------------------------------------------------------

PUSH = {
    "Destination": "982164063188",
    "Source": "989120000000",
    "ReceiveTime": "2026-11-20 11:56:04",
    "MsgBody": "سلام 12 ",
}


def test_a_pushed_text_is_parsed(make):
    [message] = make().parse_push(PUSH)
    assert (message.originator, message.line) == (ALI, "982164063188")
    assert message.text == "سلام 12 "
    assert message.received_at == datetime(2026, 11, 20, 8, 26, 4, tzinfo=UTC)
    assert PUSH["MsgBody"] not in repr(message)


@each_case("key", ["Msg Body", "msgbody", "MSGBODY", "Msg+Body", "msg_body"])
def test_the_body_of_a_pushed_text_is_found_in_any_spelling(make, key):
    push = {name.upper(): value for name, value in PUSH.items() if name != "MsgBody"}
    [message] = make().parse_push(push | {key: "x"})
    assert message.text == "x"


def test_a_text_that_is_pushed_twice_has_the_same_id(make):
    sender = make()
    [first] = sender.parse_push(PUSH)
    assert sender.parse_push(PUSH | {"Source": "09120000000"}) == [first]
    others = [
        PUSH | {"MsgBody": "x"},
        PUSH | {"Source": "989120000001"},
        PUSH | {"ReceiveTime": "2026-11-20 11:56:05"},
        PUSH | {"Destination": "1", "Source": "982164063188989120000000"},
    ]
    ids = {message.id for push in others for message in sender.parse_push(push)}
    assert len({first.id, *ids}) == 5


@each_case("time", ["", "yesterday", "1405-08-29 11:56:04", "0000-00-00 00:00:00"])
def test_an_unreadable_time_is_none(make, time):
    [message] = make().parse_push(PUSH | {"ReceiveTime": time})
    assert message.received_at is None


@each_case("missing", ["Source", "MsgBody"])
def test_a_push_without_a_source_or_a_body_is_refused(make, missing):
    push = {name: value for name, value in PUSH.items() if name != missing}
    assert isinstance(error_of(make().parse_push, push), Unknown)


@each_case("shown", [None, [], "x", 7, {}, {"Source": None}, {1: 2}])
def test_a_push_without_fields_is_refused(make, shown):
    assert isinstance(error_of(make().parse_push, shown), Unknown)


def test_a_pushed_text_can_be_empty(make):
    [message] = make().parse_push(PUSH | {"MsgBody": ""})
    assert message.text == ""


# --- options -------------------------------------------------------------------------------------


def test_the_capabilities_are_listed(make):
    assert make().capabilities == {
        Capability.TEXT,
        Capability.CODE_SMS,
        Capability.CREDIT,
        Capability.STATUS,
    }
    call = CodeMessage(ALI, "481516", TEXT, channel="voice")
    assert type(error_of(make().send_code, call)) is Unavailable


@each_case("api", ["v1rest", "v2rest"])
def test_each_api_has_its_own_url(api):
    sender = Asanak("u", "p", "021", api)
    hosts = {"v1rest": "https://panel.asanak.com", "v2rest": "https://sms.asanak.ir"}
    assert sender._http.base_url == f"{hosts[api]}/webservice/{api}"
    sender.close()


@each_case(
    "options",
    [
        {"username": ""}, {"password": True}, {"line": ""}, {"api": "v3rest"},
        {"template_id": 5}, {"api": "v2rest", "template_id": "x"}, {"code_parameter": ""},
        {"base_url": "http://panel.asanak.com/webservice/v1rest"},
    ],
)  # fmt: skip
def test_an_invalid_option_is_refused(options):
    good_options = {"username": "u", "password": "p", "line": "021"}
    with pytest.raises(ConfigurationError):
        Asanak(**good_options | options)


def test_a_text_that_is_not_unicode_is_rejected(gateway, make):
    for api in ("v1rest", "v2rest"):
        error = error_of(make(api).send_text, ALI, "a\ud800")
        assert isinstance(error, Rejected)
        assert not error.written
    assert not gateway.asked


def test_the_repr_shows_only_the_name(make):
    assert repr(make()) == "<Asanak 'asa'>"


# --- the contract --------------------------------------------------------------------------------


class TestV1(SenderContract):
    credentials = ("the-user", PASSWORD)

    def make_sender(self, base_url):
        return Asanak("the-user", PASSWORD, "982164063188", base_url=base_url + "/v1rest")

    def answer(self, request: Request) -> Reply:
        fields = form(request)
        if request.path == "/v1rest/sendsms":
            return answer_json([4456772 + place for place, _ in enumerate(_list_of(fields))])
        if request.path == "/v1rest/msgstatus":
            return answer_json(ROWS)
        return answer("15000", kind="text/html")


class TestV2(SenderContract):
    credentials = ("the-user", PASSWORD)

    def make_sender(self, base_url):
        return Asanak(
            "the-user",
            PASSWORD,
            "982164063188",
            "v2rest",
            template_id=5,
            base_url=base_url + "/v2rest",
        )

    def answer(self, request: Request) -> Reply:
        if request.path == "/v2rest/p2psendsms":
            return good([4456772 + place for place, _ in enumerate(request.json["data"])])
        if request.path in ("/v2rest/sendsms", "/v2rest/template"):
            return good([4456772 + place for place, _ in enumerate(_list_of(request.json))])
        return good(ROWS if request.path == "/v2rest/msgstatus" else {"credit": 15000})


def _list_of(fields) -> list[str]:
    return fields["destination"].split(",")
