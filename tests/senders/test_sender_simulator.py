"""Every sender of ours against the simulator, which was written by the other side's documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from clocks import Clock
from senders.loopback import query

from flask_smsverify.errors import ConfigurationError, Rejected, SenderError, Unavailable, Unknown
from flask_smsverify.senders import build
from flask_smsverify.senders.asanak import Asanak
from flask_smsverify.senders.base import (
    Capability,
    CodeMessage,
    Incoming,
    Receipt,
    Sender,
    Status,
    Text,
)
from flask_smsverify.senders.melipayamak import MeliPayamak
from flask_smsverify.senders.raygan import OwnText, Raygan
from flask_smsverify.senders.smsir import Contact, SmsIr
from flask_smsverify.senders.wikipayam import OutgoingCode, OutgoingText, WikiPayam
from flask_smsverify.simulator import FAULTS, Pace, Simulator, running
from flask_smsverify.testing import LoopbackGateway, Reply

MOBILE = "+989123456789"
CODE = "480192"
CODE_TEXT = f"Your code is {CODE}"
TEXT = "Gooseberry marmalade ripens on Thursday"

ACCOUNT = {"username": "an-account", "password": "open-sesame"}

#: Name → options, as `SMSVERIFY_SENDERS` has them. Every gateway in all of its ways.
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

#: What a pattern or template takes besides.
PATTERNS: dict[str, dict[str, Any]] = {
    "wikipayam": {"otp_pattern_id": 7},
    "melipayamak": {"body_id": 12, "body_values": ["{code}", "the shop"]},
    "asanak v2rest": {"template_id": 3, "code_parameter": "code"},
    "smsir v1": {"template_id": 5},
    "smsir legacy": {"template_id": 5},
}

every_sender = pytest.mark.parametrize("kind", SENDERS)


@pytest.fixture(scope="module")
def _clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def _simulator(_clock: Clock) -> Iterator[Simulator]:
    pace = Pace(at_operator=1, delivered=3, late=30, slow=0.2, hang=20)
    with running(clock=_clock, pace=pace) as simulator:
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
    """Builds senders that go to the simulator: `make(kind, **options)`."""
    made: list[Sender] = []

    def build_one(kind: str, **options: Any) -> Sender:
        options = SENDERS[kind] | options
        made.append(build("main", options, registered={}, simulator_url=simulator.url))
        return made[-1]

    yield build_one
    for sender in made:
        sender.close()


def code_message(channel: str = "sms") -> CodeMessage:
    return CodeMessage(MOBILE, CODE, CODE_TEXT, channel, reference="ref-code")  # type: ignore[arg-type] -- a channel


def asked(simulator: Simulator) -> list[str]:
    """The last parts of the paths that were asked for, in order."""
    return [received.path.rpartition("/")[2] for received in simulator.world.requests]


# --- where a simulator is spoken to --------------------------------------------------------------


@every_sender
def test_a_simulators_address_takes_the_place_of_the_gateways(
    make: Make, simulator: Simulator, kind: str
) -> None:
    make(kind, base_url="https://gateway.example/api").credit()
    [received] = list(simulator.world.requests)[-1:]
    assert received.gateway == SENDERS[kind]["gateway"]
    assert received.status in (200, 201)


def test_the_methods_for_codes_go_to_the_simulator_too(make: Make, simulator: Simulator) -> None:
    make("raygan", code_base_url="https://gateway.example/api").send_code(code_message())
    assert len(simulator.messages()) == 1


def test_a_hosts_own_version_of_a_gateway_goes_to_the_simulator_too(simulator: Simulator) -> None:
    class Ours(Raygan):
        pass

    for kind in ("raygan", "ours"):
        options = {"gateway": kind, **ACCOUNT}
        sender = build("main", options, registered={kind: Ours}, simulator_url=f"{simulator.url}/")
        with closing(sender):
            assert sender.credit().amount > 0
    assert {received.path for received in simulator.world.requests} == {
        "/raygan/api/smsAPI/GetCredit"
    }


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gateway": "reygan"}, "no gateway 'reygan'; did you mean 'raygan'?"),
        ({"gateway": "nobody"}, "no gateway 'nobody'; known are raygan, wikipayam"),
        ({"gateway": "raygan", "username": "u"}, "the option 'password' is missing"),
        (
            {"gateway": "raygan", "username": "u", "passwort": "p"},
            "no option 'passwort'; did you mean 'password'?",
        ),
        ({"gateway": "memory", "name": "m"}, "no option 'name'"),
        ({"gateway": "memory", "client": None}, "no option 'client'"),
        ({"gateway": "raygan", **ACCOUNT, "enabled": True}, "no option 'enabled'"),
        ({"gateway": "console"}, "debug only"),
        ({"gateway": "smsir", "api_key": "k", "line": "1", "api": "v9"}, "api must be 'v1' or"),
        ({"gateway": "raygan", "username": 1.5, "password": "p"}, "'username' must be text"),
    ],
)
def test_an_option_that_cannot_work_is_named(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        build("main", options, registered={})
    assert str(error.value).startswith("SMSVERIFY_SENDERS['main']: ")
    assert said in str(error.value)
    assert "open-sesame" not in str(error.value)


class Nameless(Sender):
    gateway = "nameless"

    def __init__(self) -> None:
        super().__init__()


class Kindless(Sender):
    pass


@pytest.mark.parametrize(
    ("cls", "said"),
    [(Nameless, "Nameless must take the keyword 'name'"), (Kindless, "must say in `gateway`")],
)
def test_a_hosts_gateway_is_told_what_it_lacks(cls: type[Sender], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        build("main", {"gateway": "its"}, registered={"its": cls})


def test_a_hosts_gateway_wins_over_ours() -> None:
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
@pytest.mark.parametrize("alike", [True, False], ids=["alike", "unlike"])
def test_more_texts_than_a_batch_holds_arrive_once_each_in_order(
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
def test_a_batch_that_fails_leaves_the_others_be(
    make: Make, simulator: Simulator, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = make(kind)
    sender.credit()  # and what it signs in with
    monkeypatch.setattr(type(sender), "batch_limit", 2)
    simulator.fault(SENDERS[kind]["gateway"], "http_500", 1)
    texts = [Text(f"+98912{number:07}", TEXT, f"ref-{number}") for number in range(4)]
    receipts = list(sender.send_many(texts))
    assert [type(receipt.error) for receipt in receipts] == [Unavailable] * 2 + [type(None)] * 2
    assert {message["to"] for message in simulator.messages()} == {text.to for text in texts[2:]}


@pytest.mark.parametrize("kind", sorted({*SENDERS} - {"raygan", "asanak v1rest"}))
def test_a_number_that_is_none_fails_alone(make: Make, simulator: Simulator, kind: str) -> None:
    texts = [Text(MOBILE, TEXT), Text("+12025550123", TEXT), Text("+989356789012", TEXT)]
    receipts = list(make(kind).send_many(texts))
    assert receipts[0].error is None
    assert receipts[2].error is None
    assert isinstance(receipts[1].error, Rejected | Unknown)
    assert {message["to"] for message in simulator.messages()} == {MOBILE, "+989356789012"}


def test_v1rest_of_asanak_says_no_to_a_whole_call(make: Make, simulator: Simulator) -> None:
    """Its words for a bad number are in no document, so nobody knows who got the text."""
    texts = [Text(MOBILE, TEXT), Text("+12025550123", TEXT)]
    receipts = list(make("asanak v1rest").send_many(texts))
    assert {type(receipt.error) for receipt in receipts} == {Unknown}
    assert simulator.messages() == []


# --- codes ---------------------------------------------------------------------------------------


@every_sender
def test_a_code_of_ours_reaches_the_phone(make: Make, simulator: Simulator, kind: str) -> None:
    receipt = make(kind).send_code(code_message())
    [message] = simulator.messages()
    assert (message["to"], message["code"], message["channel"]) == (MOBILE, CODE, "sms")
    assert receipt.reference == "ref-code"
    assert receipt.status in (Status.QUEUED, Status.SENT)


@pytest.mark.parametrize("kind", PATTERNS)
def test_a_code_by_a_pattern_is_the_code_alone(make: Make, simulator: Simulator, kind: str) -> None:
    sender = make(kind, **PATTERNS[kind])
    receipt = sender.send_code(code_message())
    [message] = simulator.messages()
    assert message["code"] == CODE
    assert CODE_TEXT not in str(message["text"]), "its words are the pattern's"
    assert receipt.id
    assert receipt.reference == "ref-code"


def test_a_call_reads_the_code_out(make: Make, simulator: Simulator) -> None:
    make("wikipayam").send_code(code_message("voice"))
    [message] = simulator.messages()
    assert (message["channel"], message["code"], message["to"]) == ("voice", CODE, MOBILE)


@pytest.mark.parametrize("kind", [kind for kind in SENDERS if kind != "wikipayam"])
def test_who_cannot_call_says_so_with_nothing_written(
    make: Make, simulator: Simulator, kind: str
) -> None:
    with pytest.raises(Unavailable) as error:
        make(kind).send_code(code_message("voice"))
    assert not error.value.written
    assert asked(simulator) == []


def test_a_native_code_is_the_gateways_to_make_and_check(make: Make, simulator: Simulator) -> None:
    sender = make("raygan", footer="The shop")
    sender.send_native_code(MOBILE)
    [message] = simulator.messages()
    assert str(message["text"]).endswith("The shop")
    code = str(message["code"])
    wrong = "0000" if code != "0000" else "1111"
    assert sender.check_native_code(MOBILE, code)
    assert not sender.check_native_code(MOBILE, wrong)
    assert not sender.check_native_code("+989356789012", code)


def test_a_code_goes_out_without_a_line_where_the_gateway_has_one(
    make: Make, simulator: Simulator
) -> None:
    for kind in ("raygan", "smsir legacy"):
        make(kind, line="").send_code(code_message())
    for kind in ("wikipayam", "melipayamak", "smsir v1"):
        make(kind, line="", **PATTERNS[kind]).send_code(code_message())
    assert [message["code"] for message in simulator.messages()] == [CODE] * 5


# --- what it tells -------------------------------------------------------------------------------


@every_sender
def test_the_credit_falls_with_what_is_sent(make: Make, kind: str) -> None:
    sender = make(kind)
    before = sender.credit()
    sender.send_text(MOBILE, TEXT)
    after = sender.credit()
    assert isinstance(after.amount, Decimal)
    assert after.amount < before.amount
    assert after.currency == ("IRR" if kind == "wikipayam" else None)


@pytest.mark.parametrize(
    ("kind", "states"),
    [
        # WikiPayam has one word for both; SMS.ir tells nothing of what is not at the operator yet.
        ("raygan", ("queued", "sent", "delivered")),
        ("wikipayam", ("sent", "sent", "delivered")),
        ("melipayamak", ("queued", "sent", "delivered")),
        ("asanak v1rest", ("queued", "sent", "delivered")),
        ("asanak v2rest", ("queued", "sent", "delivered")),
        ("smsir v1", ("unknown", "sent", "delivered")),
    ],
)
def test_a_messages_state_goes_on(
    make: Make, clock: Clock, kind: str, states: tuple[str, ...]
) -> None:
    sender = make(kind)
    ids = [sender.send_text(MOBILE, TEXT).id or "", sender.send_text(MOBILE, f"{TEXT}!").id or ""]
    found = []
    for seconds in (0, 1.5, 3):
        clock.advance(seconds)
        told = sender.statuses([*ids, "4617000099999999"])
        assert told.pop("4617000099999999") is Status.UNKNOWN
        assert set(told) == set(ids)
        [state] = set(told.values())
        found.append(str(state))
    assert tuple(found) == states


@pytest.mark.parametrize("kind", ["raygan", "wikipayam", "smsir v1"])
def test_received_messages_come_with_sender_line_and_time(
    make: Make, simulator: Simulator, clock: Clock, kind: str
) -> None:
    line = SENDERS[kind]["line"]
    for number in range(3):
        clock.advance(1)
        arrives(simulator, kind, f"{TEXT} {number}")
    sender = make(kind)
    found = list(sender.received(clock.start - timedelta(hours=1)))
    assert {one.text for one in found} == {f"{TEXT} {number}" for number in range(3)}
    assert {(one.sender, one.line) for one in found} == {(MOBILE, line)}
    assert len({one.id for one in found}) == 3
    assert {one.id for one in found} == {
        one.id for one in sender.received(clock.start - timedelta(hours=1))
    }
    for one in found:
        assert one.received_at is not None
        assert abs(one.received_at - clock.start) < timedelta(seconds=10)


@pytest.mark.parametrize("kind", ["melipayamak", "asanak v1rest", "asanak v2rest", "smsir legacy"])
def test_who_tells_of_no_received_messages_says_so(make: Make, clock: Clock, kind: str) -> None:
    sender = make(kind)
    assert Capability.INCOMING not in sender.capabilities
    with pytest.raises(Unavailable):
        list(sender.received(clock.start))


# --- faults --------------------------------------------------------------------------------------

#: Fault → what a send raises; None: it does well.
FAULT_ERRORS: dict[str, type[SenderError] | None] = {
    "slow": None,
    "timeout": Unknown,
    "http_500": Unavailable,
    "down": Unknown,  # the connection is reset once the request is read
    "refuse": Rejected,
    "no_credit": Unavailable,
    "bad_credentials": Unavailable,
    "late_delivery": None,
    "lost_answer": Unknown,
}

#: Where a gateway differs, and why.
DIFFERENT: dict[tuple[str, str], type[SenderError]] = {
    # It refuses an operator that our account has no service for; another sender may have it.
    ("raygan", "refuse"): Unavailable,
    # Its guide promises "a message or an error code" and lists none.
    ("asanak v1rest", "refuse"): Unknown,
    ("asanak v1rest", "no_credit"): Unknown,
    # Without a token nothing was sent.
    ("smsir legacy", "timeout"): Unavailable,
    ("smsir legacy", "down"): Unavailable,
    # It has no error codes.
    ("smsir legacy", "refuse"): Unknown,
    ("smsir legacy", "no_credit"): Unknown,
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


def test_every_fault_of_the_simulator_is_spoken_of_here() -> None:
    assert set(FAULT_ERRORS) == set(FAULTS)


@pytest.mark.parametrize("fault", FAULT_ERRORS)
@pytest.mark.parametrize(
    ("kind", "pattern"), [(kind, False) for kind in SENDERS] + [(kind, True) for kind in PATTERNS]
)
def test_a_fault_is_the_right_error(
    make: Make, simulator: Simulator, clock: Clock, kind: str, fault: str, pattern: bool
) -> None:
    options = PATTERNS[kind] if pattern else {}
    expected = DIFFERENT.get((kind, fault), FAULT_ERRORS[fault])
    timeout = (5, 0.15, 5) if fault == "timeout" else (5, 5, 5)
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
        assert error.gateway == "main", name
        for secret in (CODE, TEXT, MOBILE[3:], *ACCOUNT.values(), "a-token", "a-key", "a-secret"):
            assert secret not in f"{error} {error!r}", f"{name} shows {secret}"
    if fault == "late_delivery":
        assert simulator.messages() == []
        clock.advance(31)
    on_the_phone = fault in ("slow", "late_delivery", "lost_answer")
    assert len(simulator.messages()) == (len(calls) if on_the_phone else 0)
    if fault != "timeout":  # a busy machine may take longer than so short a timeout
        simulator.world.switch_off()
        for call in calls.values():
            assert call().error is None, "it works again"


@every_sender
@pytest.mark.parametrize("fault", ["timeout", "http_500", "down", "lost_answer", "no_credit"])
def test_asking_for_the_credit_under_a_fault(
    make: Make, simulator: Simulator, kind: str, fault: str
) -> None:
    sender = make(kind, timeout=(5, 0.2, 5) if fault == "timeout" else (5, 5, 5))
    simulator.fault(SENDERS[kind]["gateway"], fault)
    if fault == "no_credit":
        assert sender.credit().amount == 0
    else:
        with pytest.raises((Unavailable, Unknown)):
            sender.credit()


@every_sender
def test_wrong_credentials_tell_no_credit(make: Make, simulator: Simulator, kind: str) -> None:
    sender = make(kind)
    simulator.fault(SENDERS[kind]["gateway"], "bad_credentials")
    if kind == "melipayamak":  # its service answers 0 to whom it does not know
        assert sender.credit().amount == 0
    else:
        with pytest.raises(Unavailable):
            sender.credit()


@pytest.mark.parametrize("fault", ["timeout", "down"])
def test_with_a_token_in_hand_a_lost_answer_of_the_older_service_is_unknown(
    make: Make, simulator: Simulator, fault: str
) -> None:
    sender = make("smsir legacy", timeout=(5, 1, 5))
    sender.credit()
    simulator.fault("smsir", fault)
    for call in sends(sender).values():
        with pytest.raises(Unknown):
            call()


def test_a_token_that_died_is_fetched_anew(make: Make, simulator: Simulator, clock: Clock) -> None:
    sender = make("smsir legacy")
    sender.send_code(code_message())
    clock.advance(31 * 60)
    sender.send_code(code_message())
    assert len(simulator.messages()) == 2
    assert asked(simulator).count("Token") == 2


@pytest.mark.parametrize(
    ("fault", "error"), [("timeout", Unknown), ("bad_credentials", Unavailable)]
)
def test_a_native_code_under_a_fault_gets_no_verdict(
    make: Make, simulator: Simulator, fault: str, error: type[SenderError]
) -> None:
    sender = make("raygan", timeout=(5, 1, 5))
    sender.send_native_code(MOBILE)
    code = str(simulator.messages()[0]["code"])
    simulator.fault("raygan", fault)
    with pytest.raises(error):
        sender.check_native_code(MOBILE, code)


@every_sender
def test_nobody_there_is_unavailable_with_nothing_written(make: Make, kind: str) -> None:
    with running() as gone:
        address = gone.url
    sender = build("main", SENDERS[kind], registered={}, simulator_url=address)
    with closing(sender):
        for call in sends(sender).values():
            with pytest.raises(Unavailable) as error:
                call()
            assert not error.value.written


# --- the gateways' other calls -------------------------------------------------------------------


def arrives(simulator: Simulator, kind: str, text: str, sender: str = MOBILE, **more: str) -> Any:
    """Have a phone send a message to the sender's line; what the simulator says of it."""
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


def test_raygans_groups_have_a_state_and_a_name(raygan: Raygan, clock: Clock) -> None:
    group = raygan.send_message(TEXT, [MOBILE, "+989356789012"])
    assert raygan.get_group_message_id("77") == group
    clock.advance(4)
    state = raygan.group_message_status(group)
    assert state.status is Status.SENT
    assert {(one.mobile, one.status) for one in state.recipients} == {
        (MOBILE, Status.DELIVERED),
        ("+989356789012", Status.DELIVERED),
    }


def test_raygan_sends_at_a_time(raygan: Raygan, simulator: Simulator, clock: Clock) -> None:
    raygan.send_message(TEXT, [MOBILE], at=clock.now + timedelta(hours=1))
    assert simulator.messages() == []
    clock.advance(3601)
    assert len(simulator.messages()) == 1


@pytest.mark.parametrize("to_port", [False, True])
def test_raygan_sends_each_their_own_text(
    raygan: Raygan, simulator: Simulator, clock: Clock, to_port: bool
) -> None:
    texts = [OwnText("1", MOBILE, f"{TEXT} 1"), OwnText("2", "+989356789012", f"{TEXT} 2")]
    if to_port:
        sent = raygan.send_message_to_port(texts, receive_port=16_000, send_port=16_001)
    else:
        sent = raygan.send_corresponding_message(texts)
    assert {(one.id, one.mobile) for one in sent} == {("1", MOBILE), ("2", "+989356789012")}
    assert {message["text"] for message in simulator.messages()} == {f"{TEXT} 1", f"{TEXT} 2"}
    clock.advance(4)
    states = raygan.corresponding_message_status([one.message_id for one in sent])
    assert [one.status for one in states] == [Status.DELIVERED] * 2


def test_raygans_codes_by_its_own_calls(raygan: Raygan, simulator: Simulator) -> None:
    assert raygan.send_auto_code(MOBILE, "The end") > 2000
    assert raygan.send_own_code("+989356789012", CODE_TEXT) > 2000
    own, native = simulator.messages()
    assert own["text"] == CODE_TEXT
    assert str(native["text"]).endswith("The end")
    assert raygan.check_send_code(MOBILE, str(native["code"]))


def test_raygans_received_messages_come_page_by_page(
    raygan: Raygan, simulator: Simulator, clock: Clock
) -> None:
    account = simulator.world.accounts["raygan"]
    for number in range(150):
        account.take_incoming(sender=MOBILE, line=raygan.line, text=f"{TEXT} {number}")
    since, until = clock.start - timedelta(hours=1), clock.start + timedelta(hours=1)
    first = raygan.receive_messages(since, until)
    assert first.total_pages == 2
    everything = [message.message for message in raygan.iter_received(since, until)]
    assert sorted(everything) == sorted(f"{TEXT} {number}" for number in range(150))


def test_raygan_tells_prices_credit_and_the_white_list(raygan: Raygan) -> None:
    prices = raygan.get_prices()
    assert prices.persian > 0
    assert prices.latin > 0
    assert raygan.get_credit() == raygan.credit().amount
    assert raygan.show_white_list([MOBILE, "+989356789012"]) == [MOBILE, "+989356789012"]


@pytest.fixture
def wikipayam(make: Make) -> WikiPayam:
    sender = make("wikipayam", otp_pattern_id=7)
    assert isinstance(sender, WikiPayam)
    return sender


def test_wikipayams_sends_by_its_own_calls(
    wikipayam: WikiPayam, simulator: Simulator, clock: Clock
) -> None:
    [text] = wikipayam.send([OutgoingText(MOBILE, TEXT, "t-1", as_note=True)])
    [code] = wikipayam.send_otp([OutgoingCode(MOBILE, CODE, "t-2", otp_pattern_id=9)])
    call = wikipayam.send_voice_otp(MOBILE, CODE, "t-3")
    holoo = wikipayam.send_holoo("an-account", MOBILE, f"{TEXT} by Holoo")
    assert (text.track_id, code.track_id, call.track_id) == ("t-1", "t-2", "t-3")
    arrived = simulator.messages()
    assert [message["channel"] for message in arrived] == ["sms", "voice", "sms", "sms"]
    assert [message["code"] for message in arrived] == [None, CODE, CODE, None]
    clock.advance(4)
    ids = [text.id, code.id, holoo.id]
    assert [one.status for one in wikipayam.deliver(ids)] == [Status.DELIVERED] * 3
    assert wikipayam.balance().currency == "IRR"


def test_wikipayams_box_of_received_messages(
    wikipayam: WikiPayam, simulator: Simulator, clock: Clock
) -> None:
    for number in range(5):
        clock.advance(1)
        arrives(simulator, "wikipayam", f"{TEXT} {number}")
    today = clock.start.date() - timedelta(days=1)
    first = wikipayam.receives(limit=2, sort_by="created_at", sort_order="asc")
    assert [one.message for one in first.messages] == [f"{TEXT} 0", f"{TEXT} 1"]
    assert first.total == 5
    assert len(list(wikipayam.iter_receives(from_date=today))) == 5
    assert len(wikipayam.receive(today)) == 5
    found = wikipayam.receives(search=f"{TEXT} 3").messages
    assert [one.message for one in found] == [f"{TEXT} 3"]
    assert wikipayam.received_by_id(found[0].id) == found[0]
    assert wikipayam.unread_count() == 5
    assert wikipayam.mark_read([found[0].id]).marked == 1
    assert wikipayam.unread(limit=1).total == 4
    assert wikipayam.statistics()["read_count"] == 1
    assert wikipayam.delete_all_read().deleted == 1
    assert wikipayam.delete_receives([first.messages[0].id, "none"]).deleted == 1
    assert wikipayam.mark_all_read().marked == 3
    assert wikipayam.delete_all_unread().deleted == 0
    clock.advance(3 * 86_400)
    assert wikipayam.delete_older_than(2).deleted == 3
    with pytest.raises(Rejected):
        wikipayam.received_by_id(found[0].id)


def test_melipayamaks_sends_by_its_own_calls(
    make: Make, simulator: Simulator, clock: Clock
) -> None:
    sender = make("melipayamak")
    assert isinstance(sender, MeliPayamak)
    sent = sender.send_sms([MOBILE, "+989356789012"], TEXT, flash=True)
    pattern = sender.send_by_base_number(MOBILE, 12, [CODE, "the shop"])
    assert [message["code"] for message in simulator.messages()] == [CODE, None, None]
    clock.advance(4)
    assert sender.deliveries([*map(str, sent.ids), pattern]) == [1, 1, 1]


def test_asanaks_sends_by_its_own_calls(make: Make, simulator: Simulator) -> None:
    sender = make("asanak v2rest")
    assert isinstance(sender, Asanak)
    one = sender.send_sms([MOBILE], TEXT)
    pair = sender.send_p2p([(MOBILE, f"{TEXT} 1"), ("+989356789012", f"{TEXT} 2")])
    template = sender.send_template(MOBILE, 3, {"code": CODE})
    assert len({*one, *pair, *template}) == 4
    assert [message["text"] for message in simulator.messages()][1:] == [
        f"{TEXT} 2",
        f"{TEXT} 1",
        TEXT,
    ]


def test_what_asanak_pushes_is_read(make: Make, simulator: Simulator, clock: Clock) -> None:
    sender = make("asanak v1rest")
    assert isinstance(sender, Asanak)
    with LoopbackGateway(lambda _: Reply(200)) as host:
        arrives(simulator, "asanak v1rest", TEXT, push_url=f"{host.url}/hook")
        [pushed] = host.requests
    [incoming] = sender.read_push(query(pushed))
    assert isinstance(incoming, Incoming)
    assert (incoming.sender, incoming.text) == (MOBILE, TEXT)
    assert incoming.line == SENDERS["asanak v1rest"]["line"]
    assert incoming.received_at is not None
    assert abs(incoming.received_at - clock.now) < timedelta(seconds=2)


def test_smsirs_calls_of_v1(make: Make, simulator: Simulator, clock: Clock) -> None:
    sender = make("smsir v1")
    assert isinstance(sender, SmsIr)
    [line] = sender.v1.lines()
    code = sender.v1.verify(MOBILE, 5, {"CODE": CODE})
    pack = sender.v1.bulk(int(line), TEXT, [MOBILE, "+989356789012"])
    later = clock.now + timedelta(hours=1)
    own = sender.v1.like_to_like(int(line), [TEXT, f"{TEXT}!"], [MOBILE, MOBILE], at=later)
    assert len(simulator.messages()) == 3
    cancelled = sender.v1.cancel(own.id or "")
    assert cancelled.messages == 2
    clock.advance(4)
    assert sender.v1.report(code.id or "").status is Status.DELIVERED
    reports = sender.v1.pack_report(pack.id or "")
    assert {(one.mobile, one.status) for one in reports} == {
        (MOBILE, Status.DELIVERED),
        ("+989356789012", Status.DELIVERED),
    }
    assert len(sender.v1.live_report(size=2)) == 2
    arrives(simulator, "smsir v1", TEXT)
    assert [message.text for message in sender.v1.latest_received(count=1)] == [TEXT]
    assert sender.v1.credit() == sender.credit().amount


def test_smsirs_calls_of_the_older_interface(make: Make, simulator: Simulator) -> None:
    sender = make("smsir legacy", customer_club=True)
    assert isinstance(sender, SmsIr)
    legacy = sender.legacy
    for number in range(12):
        legacy.add_contact(Contact(f"+98912000{number:04}", "Sara"), category=4)
    assert [contact.first_name for contact in legacy.contacts()] == ["Sara"] * 12
    assert legacy.club_send_to_categories(TEXT, [4])
    assert legacy.club_send([MOBILE], [f"{TEXT} club"])[MOBILE]
    assert legacy.send([MOBILE], [f"{TEXT} line"], line="30001234")[MOBILE]
    assert legacy.verification_code(MOBILE, CODE)
    assert legacy.ultra_fast_send(MOBILE, 5, {"CODE": CODE})
    assert len(simulator.messages()) == 16
    assert sender.send_text(MOBILE, TEXT).id
    assert legacy.lines()
    assert legacy.credit() == sender.credit().amount
