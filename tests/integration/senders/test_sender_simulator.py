"""Every built-in sender against the simulator, which shares no code with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from clocks import Clock
from senders.cases import each_case
from senders.loopback import query

from flask_smsverify.errors import (
    ConfigurationError,
    Misconfigured,
    NotCarried,
    Rejected,
    SenderError,
    TextRefused,
    Unavailable,
    Unknown,
)
from flask_smsverify.senders.asanak import Asanak
from flask_smsverify.senders.base import (
    Capability,
    CodeMessage,
    DeliveryState,
    Pattern,
    Receipt,
    ReceivedText,
    Sender,
    Text,
)
from flask_smsverify.senders.deadline import deadline
from flask_smsverify.senders.melipayamak import MeliPayamak
from flask_smsverify.senders.raygan import Raygan
from flask_smsverify.senders.raygan.client import PersonalText
from flask_smsverify.senders.registry import build
from flask_smsverify.senders.smsir import SmsIr
from flask_smsverify.senders.smsir.legacy import Contact
from flask_smsverify.senders.wikipayam import WikiPayam
from flask_smsverify.senders.wikipayam.client import OutgoingCode, OutgoingText
from flask_smsverify.simulator import FAULTS, Simulator, Timing, running
from flask_smsverify.simulator.app import GATEWAYS
from flask_smsverify.testing import LoopbackGateway, Reply

MOBILE = "+989123456789"
CODE = "480192"
CODE_TEXT = f"Your code is {CODE}"
TEXT = "Gooseberry marmalade ripens on Thursday"

ACCOUNT = {"username": "an-account", "password": "open-sesame"}

#: Name → options, as `SMSVERIFY_SENDERS` has them. Every gateway with each of its APIs.
SENDERS: dict[str, dict[str, Any]] = {
    "raygan": {"gateway": "raygan", **ACCOUNT, "line": "50002910"},
    "wikipayam": {"gateway": "wikipayam", "token": "a-token", "line": "10002000"},
    "melipayamak": {"gateway": "melipayamak", **ACCOUNT, "line": "50004001"},
    "asanak v1rest": {"gateway": "asanak", **ACCOUNT, "line": "982100021000"},
    "asanak v2rest": {"gateway": "asanak", **ACCOUNT, "line": "982100021000", "api": "v2rest"},
    "smsir v1": {"gateway": "smsir", "api_key": "a-key", "line": "30001234"},
    "smsir legacy": {
        "gateway": "smsir",
        "api_key": "a-key",
        "secret_key": "a-secret",
        "line": "30001234",
        "api": "legacy",
    },
}

#: The options for a pattern or template.
PATTERNS: dict[str, dict[str, Any]] = {
    "wikipayam": {"otp_pattern_id": 7},
    "melipayamak": {"body_id": 12, "body_values": ["{code}", "the shop"]},
    "asanak v2rest": {"template_id": 3, "code_parameter": "code"},
    "smsir v1": {"template_id": 5},
    "smsir legacy": {"template_id": 5},
}

every_sender = each_case("kind", SENDERS)


@pytest.fixture(scope="module")
def _clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def _simulator(_clock: Clock) -> Iterator[Simulator]:
    timing = Timing(at_operator=1, delivered=3, late_delivery=30, slow=0.2, timeout=20)
    with running(clock=_clock, timing=timing) as simulator:
        yield simulator


@pytest.fixture
def clock(_clock: Clock) -> Clock:
    return _clock


@pytest.fixture
def simulator(_simulator: Simulator, _clock: Clock) -> Simulator:
    _simulator.reset()
    _clock.now = _clock.start
    return _simulator


Make = Callable[..., Sender]


@pytest.fixture
def make(simulator: Simulator) -> Iterator[Make]:
    """Make senders that use the simulator: `make(kind, **options)`."""
    made: list[Sender] = []

    def build_one(kind: str, **options: Any) -> Sender:
        options = SENDERS[kind] | options
        made.append(build("main", options, registered={}, simulator_url=simulator.url))
        return made[-1]

    build_one.start_case = simulator.reset  # type: ignore[attr-defined] -- `each_case` reads it
    yield build_one
    for sender in made:
        sender.close()


def code_message(channel: str = "sms") -> CodeMessage:
    return CodeMessage(MOBILE, CODE, CODE_TEXT, channel, reference="ref-code")  # type: ignore[arg-type] -- a channel


def requested_calls(simulator: Simulator) -> list[str]:
    """Return the last part of each requested path, in order."""
    return [received.path.rpartition("/")[2] for received in simulator.state.requests]


# --- URLs ----------------------------------------------------------------------------------------


@every_sender
def test_the_simulators_url_replaces_the_gateways(
    make: Make, simulator: Simulator, kind: str
) -> None:
    make(kind, base_url="https://gateway.example/api").credit()
    [received] = list(simulator.state.requests)[-1:]
    assert received.gateway == SENDERS[kind]["gateway"]
    assert received.status in (200, 201)


def test_raygans_code_methods_use_the_simulator_too(make: Make, simulator: Simulator) -> None:
    make("raygan", code_base_url="https://gateway.example/api").send_code(code_message())
    assert len(simulator.messages()) == 1


def test_an_apps_subclass_of_a_gateway_uses_the_simulator_too(simulator: Simulator) -> None:
    class Ours(Raygan):
        pass

    for kind in ("raygan", "ours"):
        options = {"gateway": kind, **ACCOUNT}
        sender = build("main", options, registered={kind: Ours}, simulator_url=f"{simulator.url}/")
        with closing(sender):
            assert sender.credit().amount > 0
    assert {received.path for received in simulator.state.requests} == {
        "/raygan/api/smsAPI/GetCredit"
    }


# --- options -------------------------------------------------------------------------------------


@each_case(
    ("options", "shown"),
    [
        ({"gateway": "reygan"}, "no gateway 'reygan'; did you mean 'raygan'?"),
        ({"gateway": "nobody"}, "no gateway 'nobody'; the gateways are raygan, wikipayam"),
        ({"gateway": "raygan", "username": "u"}, "the option 'password' is missing"),
        (
            {"gateway": "raygan", "username": "u", "passwort": "p"},
            "no option 'passwort'; did you mean 'password'?",
        ),
        ({"gateway": "memory", "name": "m"}, "no option 'name'"),
        ({"gateway": "memory", "client": None}, "no option 'client'"),
        ({"gateway": "raygan", **ACCOUNT, "enabled": True}, "no option 'enabled'"),
        ({"gateway": "console"}, "debug mode only"),
        ({"gateway": "smsir", "api_key": "k", "line": "1", "api": "v9"}, "api must be 'v1' or"),
        ({"gateway": "raygan", "username": 1.5, "password": "p"}, "'username' must be text"),
    ],
)
def test_an_invalid_option_is_refused_by_name(options: dict[str, object], shown: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        build("main", options, registered={})
    assert str(error.value).startswith("SMSVERIFY_SENDERS['main']: ")
    assert shown in str(error.value)
    assert "open-sesame" not in str(error.value)


class WithoutName(Sender):
    gateway = "nameless"

    def __init__(self) -> None:
        super().__init__()


class WithoutGateway(Sender):
    pass


@each_case(
    ("cls", "shown"),
    [
        (WithoutName, "WithoutName must accept the keyword 'name'"),
        (WithoutGateway, "needs the class attribute `gateway`"),
    ],
)
def test_an_apps_gateway_without_name_or_kind_is_refused(cls: type[Sender], shown: str) -> None:
    with pytest.raises(ConfigurationError, match=shown):
        build("main", {"gateway": "its"}, registered={"its": cls})


def test_an_apps_gateway_replaces_a_built_in_one() -> None:
    class Mine(Sender):
        gateway = "memory"

    sender = build("main", {"gateway": "memory"}, registered={"memory": Mine})
    assert isinstance(sender, Mine)
    assert sender.name == "main"


# --- texts ---------------------------------------------------------------------------------------


@every_sender
def test_a_text_reaches_the_phone(make: Make, simulator: Simulator, kind: str) -> None:
    receipt = make(kind).send_text(MOBILE, TEXT, reference="ref-text")
    [message] = simulator.messages()
    assert (message["to"], message["text"], message["channel"]) == (MOBILE, TEXT, "sms")
    assert message["from"] == SENDERS[kind]["line"]
    assert (receipt.to, receipt.reference, receipt.error) == (MOBILE, "ref-text", None)
    assert receipt.id


@every_sender
@each_case("alike", [True, False])
def test_many_batches_arrive_once_each_and_in_order(
    make: Make, simulator: Simulator, kind: str, alike: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = make(kind)
    if sender.batch_limit > 100:
        monkeypatch.setattr(type(sender), "batch_limit", 100)
    texts = [
        Text(f"+98912{number:07}", TEXT if alike else f"{TEXT} {number % 3}", f"ref-{number}")
        for number in range(sender.batch_limit * 2 + 3)
    ]
    receipts = list(sender.send_many(iter(texts)))
    assert [receipt.reference for receipt in receipts] == [text.reference for text in texts]
    assert [receipt.to for receipt in receipts] == [text.to for text in texts]
    assert len({receipt.id for receipt in receipts}) == len(texts)
    arrived = {str(message["to"]): message["text"] for message in simulator.messages()}
    assert arrived == {text.to: text.text for text in texts}
    assert len(simulator.messages()) == len(texts)


@every_sender
def test_a_failed_batch_does_not_fail_the_others(
    make: Make, simulator: Simulator, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = make(kind)
    sender.credit()  # legacy requests its token here
    monkeypatch.setattr(type(sender), "batch_limit", 2)
    simulator.fault(SENDERS[kind]["gateway"], "http_500", 1)
    texts = [Text(f"+98912{number:07}", TEXT, f"ref-{number}") for number in range(4)]
    receipts = list(sender.send_many(texts))
    assert [type(receipt.error) for receipt in receipts] == [Unavailable] * 2 + [type(None)] * 2
    assert {message["to"] for message in simulator.messages()} == {text.to for text in texts[2:]}


@each_case("kind", sorted({*SENDERS} - {"raygan"}))
def test_one_bad_number_does_not_fail_the_others(
    make: Make, simulator: Simulator, kind: str
) -> None:
    texts = [Text(MOBILE, TEXT), Text("+12025550123", TEXT), Text("+989356789012", TEXT)]
    receipts = list(make(kind).send_many(texts))
    assert receipts[0].error is None
    assert receipts[2].error is None
    assert isinstance(receipts[1].error, Rejected | Unknown)
    assert {message["to"] for message in simulator.messages()} == {MOBILE, "+989356789012"}


# --- codes ---------------------------------------------------------------------------------------


@every_sender
def test_an_own_code_reaches_the_phone(make: Make, simulator: Simulator, kind: str) -> None:
    receipt = make(kind).send_code(code_message())
    [message] = simulator.messages()
    assert (message["to"], message["code"], message["channel"]) == (MOBILE, CODE, "sms")
    assert receipt.reference == "ref-code"
    assert receipt.status in (DeliveryState.QUEUED, DeliveryState.SENT)


@each_case("kind", PATTERNS)
def test_a_code_by_a_pattern_sends_the_code_alone(
    make: Make, simulator: Simulator, kind: str
) -> None:
    sender = make(kind, **PATTERNS[kind])
    receipt = sender.send_code(code_message())
    [message] = simulator.messages()
    assert message["code"] == CODE
    assert CODE_TEXT not in str(message["text"]), "the gateway has the text of the pattern"
    assert receipt.id
    assert receipt.reference == "ref-code"


@each_case("kind", ["melipayamak", "asanak v2rest", "smsir v1", "smsir legacy"])
def test_a_pattern_reaches_the_phone_with_its_values_in_their_order(
    make: Make, simulator: Simulator, kind: str
) -> None:
    sender = make(kind)
    values = {"order": "1042", "name": "Sara"}
    receipt = sender.send_pattern(MOBILE, Pattern("5", values), reference="ref-pattern")
    [message] = simulator.messages()
    assert message["to"] == MOBILE
    assert re.search("1042.*Sara", str(message["text"]), re.DOTALL)
    assert (receipt.to, receipt.reference) == (MOBILE, "ref-pattern")
    assert receipt.id


@each_case(
    ("kind", "pattern", "reason"),
    [
        ("melipayamak", Pattern("5", {"a": "one;two"}), "'a' contains ';'"),
        ("melipayamak", Pattern("5", {"a": "see www.example.com"}), "'a' contains a link"),
        ("melipayamak", Pattern(str(2**31), {}), "whole number from 1"),
        ("asanak v2rest", Pattern("five", {}), "whole number from 1"),
        ("smsir v1", Pattern("5", {"a": "x" * 26}), "'a' is longer than 25"),
        ("smsir legacy", Pattern("0", {}), "whole number from 1"),
    ],
)
def test_a_pattern_that_a_gateway_would_refuse_is_not_sent(
    make: Make, simulator: Simulator, kind: str, pattern: Pattern, reason: str
) -> None:
    with pytest.raises(Misconfigured, match=reason) as refused:
        make(kind).send_pattern(MOBILE, pattern)
    assert not refused.value.written
    assert simulator.messages() == []


@each_case("kind", ["raygan", "wikipayam", "asanak v1rest"])
def test_a_gateway_without_patterns_is_unavailable_for_them(make: Make, kind: str) -> None:
    with pytest.raises(Unavailable):
        make(kind).send_pattern(MOBILE, Pattern("5", {}))


def test_a_phone_call_reads_the_code_out(make: Make, simulator: Simulator) -> None:
    make("wikipayam").send_code(code_message("voice"))
    [message] = simulator.messages()
    assert (message["channel"], message["code"], message["to"]) == ("voice", CODE, MOBILE)


@each_case("kind", [kind for kind in SENDERS if kind != "wikipayam"])
def test_an_unsupported_phone_call_is_unavailable_and_nothing_is_written(
    make: Make, simulator: Simulator, kind: str
) -> None:
    with pytest.raises(Unavailable) as error:
        make(kind).send_code(code_message("voice"))
    assert not error.value.written
    assert requested_calls(simulator) == []


def test_the_gateway_generates_and_checks_a_native_code(make: Make, simulator: Simulator) -> None:
    sender = make("raygan", footer="The shop")
    sender.send_native_code(MOBILE)
    [message] = simulator.messages()
    assert str(message["text"]).endswith("The shop")
    code = str(message["code"])
    wrong = "0000" if code != "0000" else "1111"
    assert sender.check_native_code(MOBILE, code)
    assert not sender.check_native_code(MOBILE, wrong)
    assert not sender.check_native_code("+989356789012", code)


def test_a_code_is_sent_without_a_line_if_the_gateway_has_a_line_for_codes(
    make: Make, simulator: Simulator
) -> None:
    for kind in ("raygan", "smsir legacy"):
        make(kind, line="").send_code(code_message())
    for kind in ("wikipayam", "melipayamak", "smsir v1"):
        make(kind, line="", **PATTERNS[kind]).send_code(code_message())
    assert [message["code"] for message in simulator.messages()] == [CODE] * 5


# --- credit, states and received texts -----------------------------------------------------------


@every_sender
def test_a_send_lowers_the_credit(make: Make, kind: str) -> None:
    sender = make(kind)
    before = sender.credit()
    sender.send_text(MOBILE, TEXT)
    after = sender.credit()
    assert isinstance(after.amount, Decimal)
    assert after.amount < before.amount
    assert after.currency == ("IRR" if kind == "wikipayam" else None)


@each_case(
    ("kind", "states"),
    [
        # WikiPayam has one word for queued and sent. SMS.ir has no state before sent.
        ("raygan", ("queued", "sent", "delivered")),
        ("wikipayam", ("sent", "sent", "delivered")),
        ("melipayamak", ("queued", "sent", "delivered")),
        ("asanak v1rest", ("queued", "sent", "delivered")),
        ("asanak v2rest", ("queued", "sent", "delivered")),
        ("smsir v1", ("unknown", "sent", "delivered")),
    ],
)
def test_a_message_becomes_delivered(
    make: Make, clock: Clock, kind: str, states: tuple[str, ...]
) -> None:
    sender = make(kind)
    ids = [sender.send_text(MOBILE, TEXT).id or "", sender.send_text(MOBILE, f"{TEXT}!").id or ""]
    found = []
    for seconds in (0, 1.5, 3):
        clock.advance(seconds)
        by_id = sender.statuses([*ids, "4617000099999999"])
        assert by_id.pop("4617000099999999") is DeliveryState.UNKNOWN
        assert set(by_id) == set(ids)
        [state] = set(by_id.values())
        found.append(str(state))
    assert tuple(found) == states


@each_case("kind", ["raygan", "wikipayam", "smsir v1"])
def test_received_texts_have_originator_line_and_time(
    make: Make, simulator: Simulator, clock: Clock, kind: str
) -> None:
    line = SENDERS[kind]["line"]
    for number in range(3):
        clock.advance(1)
        receive_text(simulator, kind, f"{TEXT} {number}")
    sender = make(kind)
    found = list(sender.received(clock.start - timedelta(hours=1)))
    assert {one.text for one in found} == {f"{TEXT} {number}" for number in range(3)}
    assert {(one.originator, one.line) for one in found} == {(MOBILE, line)}
    assert len({one.id for one in found}) == 3
    assert {one.id for one in found} == {
        one.id for one in sender.received(clock.start - timedelta(hours=1))
    }
    for one in found:
        assert one.received_at is not None
        assert abs(one.received_at - clock.start) < timedelta(seconds=10)


@each_case("kind", ["melipayamak", "asanak v1rest", "asanak v2rest", "smsir legacy"])
def test_received_texts_are_refused_if_they_are_not_supported(
    make: Make, clock: Clock, kind: str
) -> None:
    sender = make(kind)
    assert Capability.INCOMING not in sender.capabilities
    with pytest.raises(Unavailable):
        list(sender.received(clock.start))


# --- faults --------------------------------------------------------------------------------------

#: Fault → the error of a send; None if the send succeeds.
FAULT_ERRORS: dict[str, type[SenderError] | None] = {
    "slow": None,
    "timeout": Unknown,
    "http_500": Unavailable,
    "down": Unknown,  # the connection is reset after the request is read
    "refuse": Rejected,
    "no_credit": Unavailable,
    "bad_credentials": Unavailable,
    "late_delivery": None,
    "lost_answer": Unknown,
}

#: The gateways that raise other errors, and why.
DIFFERENT: dict[tuple[str, str], type[SenderError]] = {
    # The account does not serve the operator, and another sender may.
    ("raygan", "refuse"): NotCarried,
    # Nothing is sent without a token.
    ("smsir legacy", "timeout"): Unavailable,
    ("smsir legacy", "down"): Unavailable,
}


def sends(sender: Sender) -> dict[str, Callable[[], Receipt]]:
    calls: dict[Capability, tuple[str, Callable[[], Receipt]]] = {
        Capability.TEXT: ("text", lambda: sender.send_text(MOBILE, TEXT)),
        Capability.CODE_SMS: ("code", lambda: sender.send_code(code_message())),
        Capability.CODE_VOICE: ("call", lambda: sender.send_code(code_message("voice"))),
        Capability.NATIVE_CODE: ("native code", lambda: sender.send_native_code(MOBILE)),
    }
    return {
        name: call
        for capability, (name, call) in calls.items()
        if capability in sender.capabilities
    }


def test_every_fault_of_the_simulator_has_an_expected_error() -> None:
    assert set(FAULT_ERRORS) | {"code", "state", "refuse_links"} == set(FAULTS)


@every_sender
def test_a_documented_error_code_is_never_unknown(
    make: Make, simulator: Simulator, kind: str
) -> None:
    """Nothing was sent, so the next sender is tried or the refusal is final."""
    gateway = SENDERS[kind]["gateway"]
    sender = make(kind)
    [codes] = [one.codes for one in GATEWAYS if one.name == gateway]
    for code in codes:
        simulator.fault(gateway, "code", code=code)
        with pytest.raises(SenderError) as raised:
            sender.send_text(MOBILE, TEXT)
        # Reading the result failed, so it is the only code after which the outcome is unknown.
        assert isinstance(raised.value, Unknown) == ((gateway, code) == ("raygan", 5003)), code
        assert raised.value.advice, code
    assert simulator.messages() == []


@each_case(
    ("kind", "state", "expected"),
    [
        (kind, state, expected)
        for kind in ("raygan", "wikipayam", "melipayamak", "asanak v1rest", "smsir v1")
        for state, expected in [
            ("undelivered", DeliveryState.UNDELIVERED),
            ("filtered", DeliveryState.REJECTED),
            ("rejected", DeliveryState.REJECTED),
            ("delivered", DeliveryState.DELIVERED),
        ]
    ],
)
def test_every_final_state_is_reported(
    make: Make, simulator: Simulator, kind: str, state: str, expected: DeliveryState
) -> None:
    sender = make(kind)
    simulator.fault(SENDERS[kind]["gateway"], "state", state=state)
    id_ = sender.send_text(MOBILE, TEXT).id
    assert id_ is not None
    assert sender.statuses([id_]) == {id_: expected}
    assert len(simulator.messages()) == (state == "delivered")


def test_codes_arrive_through_a_gateway_that_refuses_links(
    make: Make, simulator: Simulator
) -> None:
    sender = make("melipayamak")
    simulator.fault("melipayamak", "refuse_links")
    code = replace(code_message(), text=f"{CODE_TEXT}\n@chenar.example #{CODE}")
    with pytest.raises(TextRefused):
        sender.send_code(code)
    assert sender.send_code(code).error is None
    [message] = simulator.messages()
    assert (message["text"], message["code"]) == (CODE_TEXT, CODE)


@each_case("fault", FAULT_ERRORS)
@each_case(
    ("kind", "pattern"), [(kind, False) for kind in SENDERS] + [(kind, True) for kind in PATTERNS]
)
def test_every_fault_raises_its_error_in_every_send(
    make: Make, simulator: Simulator, clock: Clock, kind: str, fault: str, pattern: bool
) -> None:
    options = PATTERNS[kind] if pattern else {}
    expected = DIFFERENT.get((kind, fault), FAULT_ERRORS[fault])
    timeout = (30, 0.15, 30) if fault == "timeout" else (30, 30, 30)
    sender = make(kind, timeout=timeout, **options)
    simulator.fault(SENDERS[kind]["gateway"], fault)
    calls = sends(sender)
    for name, call in calls.items():
        if expected is None:
            assert call().error is None
            continue
        with pytest.raises(expected) as raised:
            call()
        error = raised.value
        assert (error.sender, error.gateway) == ("main", sender.gateway), name
        assert error.advice, name
        for secret in (CODE, TEXT, MOBILE[3:], *ACCOUNT.values(), "a-token", "a-key", "a-secret"):
            assert secret not in f"{error} {error!r}", f"{name} shows {secret}"
    if fault == "late_delivery":
        assert simulator.messages() == []
        clock.advance(31)
    on_the_phone = fault in ("slow", "late_delivery", "lost_answer")
    assert len(simulator.messages()) == (len(calls) if on_the_phone else 0)
    if fault != "timeout":  # a busy machine may exceed the short timeout
        simulator.clear_faults()
        for call in calls.values():
            assert call().error is None, "the send succeeds after the fault"


@every_sender
@each_case("fault", ["timeout", "http_500", "down", "lost_answer", "no_credit"])
def test_every_fault_raises_its_error_in_credit(
    make: Make, simulator: Simulator, kind: str, fault: str
) -> None:
    sender = make(kind, timeout=(30, 0.2, 30) if fault == "timeout" else (30, 30, 30))
    simulator.fault(SENDERS[kind]["gateway"], fault)
    if fault == "no_credit":
        assert sender.credit().amount == 0
    else:
        with pytest.raises((Unavailable, Unknown)):
            sender.credit()


@every_sender
def test_wrong_credentials_give_no_credit(make: Make, simulator: Simulator, kind: str) -> None:
    sender = make(kind)
    simulator.fault(SENDERS[kind]["gateway"], "bad_credentials")
    if kind == "melipayamak":  # the service returns 0 for wrong credentials
        assert sender.credit().amount == 0
    else:
        with pytest.raises(Unavailable):
            sender.credit()


@each_case("fault", ["timeout", "down"])
def test_a_lost_answer_of_legacy_is_unknown_if_there_was_a_token(
    make: Make, simulator: Simulator, fault: str
) -> None:
    sender = make("smsir legacy", timeout=(60, 60, 60))
    sender.credit()
    simulator.fault("smsir", fault)
    for call in sends(sender).values():
        with deadline(2), pytest.raises(Unknown):
            call()


def test_an_expired_token_is_renewed(make: Make, simulator: Simulator, clock: Clock) -> None:
    sender = make("smsir legacy")
    sender.send_code(code_message())
    clock.advance(31 * 60)
    sender.send_code(code_message())
    assert len(simulator.messages()) == 2
    assert requested_calls(simulator).count("Token") == 2


@each_case(("fault", "error"), [("timeout", Unknown), ("bad_credentials", Unavailable)])
def test_a_fault_gives_no_verdict_on_a_native_code(
    make: Make, simulator: Simulator, fault: str, error: type[SenderError]
) -> None:
    sender = make("raygan", timeout=(60, 60, 60))
    sender.send_native_code(MOBILE)
    code = str(simulator.messages()[0]["code"])
    simulator.fault("raygan", fault)
    with deadline(2), pytest.raises(error):
        sender.check_native_code(MOBILE, code)


@every_sender
def test_a_stopped_gateway_is_unavailable_and_nothing_is_written(make: Make, kind: str) -> None:
    with running() as gone:
        address = gone.url
    sender = build("main", SENDERS[kind], registered={}, simulator_url=address)
    with closing(sender):
        for call in sends(sender).values():
            with pytest.raises(Unavailable) as error:
                call()
            assert not error.value.written


# --- calls of single gateways --------------------------------------------------------------------


def receive_text(
    simulator: Simulator, kind: str, text: str, sender: str = MOBILE, **more: str
) -> Any:
    """Send a text from a phone to the sender's line, and return the simulator's answer."""
    body = {
        "gateway": SENDERS[kind]["gateway"],
        "from": sender,
        "to": SENDERS[kind]["line"],
        "text": text,
    }
    answer = httpx.post(f"{simulator.url}/_api/incoming", json=body | more, trust_env=False)
    answer.raise_for_status()
    return answer.json()


@pytest.fixture
def raygan(make: Make) -> Raygan:
    sender = make("raygan", group_id="77")
    assert isinstance(sender, Raygan)
    return sender


def test_raygans_groups_have_states_and_an_id(raygan: Raygan, clock: Clock) -> None:
    group = raygan.client.send_message(TEXT, [MOBILE, "+989356789012"])
    assert raygan.client.get_group_message_id("77") == group
    clock.advance(4)
    state = raygan.client.group_message_status(group)
    assert state.status is DeliveryState.SENT
    assert {(one.mobile, one.status) for one in state.recipients} == {
        (MOBILE, DeliveryState.DELIVERED),
        ("+989356789012", DeliveryState.DELIVERED),
    }


def test_raygan_sends_at_a_given_time(raygan: Raygan, simulator: Simulator, clock: Clock) -> None:
    raygan.client.send_message(TEXT, [MOBILE], at=clock.now + timedelta(hours=1))
    assert simulator.messages() == []
    clock.advance(3601)
    assert len(simulator.messages()) == 1


@each_case("to_port", [False, True])
def test_raygan_sends_each_recipient_a_different_text(
    raygan: Raygan, simulator: Simulator, clock: Clock, to_port: bool
) -> None:
    texts = [
        PersonalText("1", MOBILE, f"{TEXT} 1"),
        PersonalText("2", "+989356789012", f"{TEXT} 2"),
    ]
    if to_port:
        sent = raygan.client.send_message_to_port(texts, receive_port=16_000, send_port=16_001)
    else:
        sent = raygan.client.send_corresponding_message(texts)
    assert {(one.id, one.mobile) for one in sent} == {("1", MOBILE), ("2", "+989356789012")}
    assert {message["text"] for message in simulator.messages()} == {f"{TEXT} 1", f"{TEXT} 2"}
    clock.advance(4)
    states = raygan.client.corresponding_message_status([one.message_id for one in sent])
    assert [one.status for one in states] == [DeliveryState.DELIVERED] * 2


def test_raygans_code_calls_work(raygan: Raygan, simulator: Simulator) -> None:
    assert raygan.client.send_auto_code(MOBILE, "The end") > 2000
    assert raygan.client.send_own_code("+989356789012", CODE_TEXT) > 2000
    own, native = simulator.messages()
    assert own["text"] == CODE_TEXT
    assert str(native["text"]).endswith("The end")
    assert raygan.client.check_send_code(MOBILE, str(native["code"]))


def test_raygans_received_texts_are_requested_page_by_page(
    raygan: Raygan, simulator: Simulator, clock: Clock
) -> None:
    account = simulator.state.accounts["raygan"]
    for number in range(150):
        account.add_incoming(sender=MOBILE, line=raygan.line, text=f"{TEXT} {number}")
    since, until = clock.start - timedelta(hours=1), clock.start + timedelta(hours=1)
    first = raygan.client.receive_messages(since, until)
    assert first.total_pages == 2
    everything = [message.message for message in raygan.client.iter_received(since, until)]
    assert sorted(everything) == sorted(f"{TEXT} {number}" for number in range(150))


def test_raygans_prices_credit_and_white_list_are_read(raygan: Raygan) -> None:
    prices = raygan.client.get_prices()
    assert prices.persian > 0
    assert prices.latin > 0
    assert raygan.client.get_credit() == raygan.credit().amount
    assert raygan.client.show_white_list([MOBILE, "+989356789012"]) == [MOBILE, "+989356789012"]


@pytest.fixture
def wikipayam(make: Make) -> WikiPayam:
    sender = make("wikipayam", otp_pattern_id=7)
    assert isinstance(sender, WikiPayam)
    return sender


def test_wikipayams_send_calls_work(
    wikipayam: WikiPayam, simulator: Simulator, clock: Clock
) -> None:
    [text] = wikipayam.client.send([OutgoingText(MOBILE, TEXT, "t-1", as_note=True)])
    [code] = wikipayam.client.send_otp([OutgoingCode(MOBILE, CODE, "t-2", otp_pattern_id=9)])
    call = wikipayam.client.send_voice_otp(MOBILE, CODE, "t-3")
    assert call.message == "Voice OTP queued successfully"
    holoo = wikipayam.client.send_holoo("an-account", MOBILE, f"{TEXT} by Holoo")
    assert (text.track_id, code.track_id, call.track_id) == ("t-1", "t-2", "t-3")
    arrived = simulator.messages()
    assert [message["channel"] for message in arrived] == ["sms", "voice", "sms", "sms"]
    assert [message["code"] for message in arrived] == [None, CODE, CODE, None]
    clock.advance(4)
    ids = [text.id, code.id, holoo.id]
    assert [one.status for one in wikipayam.client.deliver(ids)] == [DeliveryState.DELIVERED] * 3
    assert wikipayam.client.get_balance().currency == "IRR"


def test_wikipayams_received_text_calls_work(
    wikipayam: WikiPayam, simulator: Simulator, clock: Clock
) -> None:
    for number in range(5):
        clock.advance(1)
        receive_text(simulator, "wikipayam", f"{TEXT} {number}")
    today = clock.start.date() - timedelta(days=1)
    first = wikipayam.client.get_receives(limit=2, sort_by="created_at", sort_order="asc")
    assert [one.message for one in first.messages] == [f"{TEXT} 0", f"{TEXT} 1"]
    assert first.total == 5
    assert (first.pagination.total_pages, first.pagination.limit) == (3, 2)
    assert first.filters["sort_order"] == "asc"
    assert len(list(wikipayam.client.iter_receives(from_date=today))) == 5
    assert len(wikipayam.client.receive(today)) == 5
    found = wikipayam.client.get_receives(search=f"{TEXT} 3").messages
    assert [one.message for one in found] == [f"{TEXT} 3"]
    assert wikipayam.client.get_received(found[0].id) == found[0]
    assert wikipayam.client.get_unread_count() == 5
    assert wikipayam.client.mark_read([found[0].id]).marked == 1
    assert wikipayam.client.get_unread(limit=1).total == 4
    assert wikipayam.client.get_statistics()["read_count"] == 1
    assert wikipayam.client.delete_all_read().deleted == 1
    assert wikipayam.client.delete_receives([first.messages[0].id, "none"]).deleted == 1
    assert wikipayam.client.mark_all_read().marked == 3
    assert wikipayam.client.delete_all_unread().deleted == 0
    clock.advance(3 * 86_400)
    assert wikipayam.client.delete_older_than(2).deleted == 3
    with pytest.raises(Rejected):
        wikipayam.client.get_received(found[0].id)


def test_melipayamaks_calls_work(make: Make, simulator: Simulator, clock: Clock) -> None:
    sender = make("melipayamak")
    assert isinstance(sender, MeliPayamak)
    sent = sender.client.send_sms([MOBILE, "+989356789012"], TEXT, flash=True)
    pattern = sender.client.send_by_base_number(MOBILE, 12, [CODE, "the shop"])
    assert [message["code"] for message in simulator.messages()] == [CODE, None, None]
    clock.advance(4)
    assert sender.client.get_deliveries([*map(str, sent.ids), pattern]) == [1, 1, 1]


def test_asanaks_calls_work(make: Make, simulator: Simulator) -> None:
    sender = make("asanak v2rest")
    assert isinstance(sender, Asanak)
    one = sender.client.send_sms([MOBILE], TEXT)
    pair = sender.client.send_p2p([(MOBILE, f"{TEXT} 1"), ("+989356789012", f"{TEXT} 2")])
    template = sender.client.send_template(MOBILE, 3, {"code": CODE})
    assert len({*one, *pair, *template}) == 4
    assert [message["text"] for message in simulator.messages()][1:] == [
        f"{TEXT} 2",
        f"{TEXT} 1",
        TEXT,
    ]
    [id_] = one
    assert id_ is not None
    assert [status.id for status in sender.client.get_statuses([str(id_)])] == [id_]
    assert sender.client.get_credit() == sender.credit().amount


def test_a_text_that_asanak_pushes_is_parsed(
    make: Make, simulator: Simulator, clock: Clock
) -> None:
    sender = make("asanak v1rest")
    assert isinstance(sender, Asanak)
    with LoopbackGateway(lambda _: Reply(200)) as host:
        receive_text(simulator, "asanak v1rest", TEXT, push_url=f"{host.url}/hook")
        [pushed] = host.requests
    [incoming] = sender.parse_push(query(pushed))
    assert isinstance(incoming, ReceivedText)
    assert (incoming.originator, incoming.text) == (MOBILE, TEXT)
    assert incoming.line == SENDERS["asanak v1rest"]["line"]
    assert incoming.received_at is not None
    assert abs(incoming.received_at - clock.now) < timedelta(seconds=2)


def test_smsirs_v1_calls_work(make: Make, simulator: Simulator, clock: Clock) -> None:
    sender = make("smsir v1")
    assert isinstance(sender, SmsIr)
    [line] = sender.v1.get_lines()
    code = sender.v1.verify(MOBILE, 5, {"CODE": CODE})
    pack = sender.v1.send_bulk(int(line), TEXT, [MOBILE, "+989356789012"])
    later = clock.now + timedelta(hours=1)
    own = sender.v1.send_like_to_like(int(line), [TEXT, f"{TEXT}!"], [MOBILE, MOBILE], at=later)
    assert len(simulator.messages()) == 3
    cancelled = sender.v1.cancel(own.id or "")
    assert cancelled.messages == 2
    clock.advance(4)
    assert sender.v1.get_report(code.id or "").status is DeliveryState.DELIVERED
    reports = sender.v1.get_pack_report(pack.id or "")
    assert {(one.mobile, one.status) for one in reports} == {
        (MOBILE, DeliveryState.DELIVERED),
        ("+989356789012", DeliveryState.DELIVERED),
    }
    assert len(sender.v1.get_live_report(size=2)) == 2
    receive_text(simulator, "smsir v1", TEXT)
    assert [message.text for message in sender.v1.get_latest_received(count=1)] == [TEXT]
    assert sender.v1.get_credit() == sender.credit().amount


def test_smsirs_legacy_calls_work(make: Make, simulator: Simulator) -> None:
    sender = make("smsir legacy", customer_club=True)
    assert isinstance(sender, SmsIr)
    legacy = sender.legacy
    for number in range(12):
        legacy.add_contact(Contact(f"+98912000{number:04}", "Sara"), category=4)
    assert [contact.first_name for contact in legacy.iter_contacts()] == ["Sara"] * 12
    assert legacy.send_to_club_categories(TEXT, [4])
    assert legacy.send_club_messages([MOBILE], [f"{TEXT} club"])[MOBILE]
    assert legacy.send_messages([MOBILE], [f"{TEXT} line"], line="30001234")[MOBILE]
    assert legacy.send_verification_code(MOBILE, CODE)
    assert legacy.send_ultra_fast(MOBILE, 5, {"CODE": CODE})
    assert len(simulator.messages()) == 16
    assert sender.send_text(MOBILE, TEXT).id
    [sent] = legacy.send_messages([MOBILE], [f"{TEXT} asked"], line="30001234")[MOBILE]
    report = legacy.get_message(sent)
    assert (report.id, report.mobile, report.final) == (sent, MOBILE, False)
    with pytest.raises(SenderError):
        legacy.get_message("1")
    assert legacy.get_lines()
    assert legacy.get_credit() == sender.credit().amount
