"""What every sender shares: values, errors, options, batches and conversions."""

import logging
from collections.abc import Iterator, Sequence

import pytest

from flask_smsverify.errors import (
    ConfigurationError,
    Misconfigured,
    Rejected,
    SenderError,
    Unavailable,
    Unknown,
)
from flask_smsverify.senders import convert
from flask_smsverify.senders.base import (
    CodeMessage,
    DeliveryState,
    KnownError,
    Receipt,
    ReceivedText,
    Sender,
    SenderIdentity,
    Text,
)
from flask_smsverify.senders.batching import batched, isolate, send_grouped
from flask_smsverify.senders.convert import (
    derived_id,
    map_state,
    redact_reason,
    scalar_text,
    to_e164,
    to_national,
)
from flask_smsverify.senders.options import parse_credential, parse_flag, parse_number

TO = "+989123456789"

# --- conversions ---------------------------------------------------------------------------------


def test_an_iranian_mobile_is_read_in_every_form_that_gateways_write() -> None:
    for written in (
        "09123456789",
        "9123456789",
        "989123456789",
        "+989123456789",
        "00989123456789",
    ):
        assert to_e164(written) == TO, written
        assert to_e164(f" {written} ") == TO, written


def test_text_that_is_no_iranian_mobile_is_returned_unchanged() -> None:
    for written in ("", "1000", "02112345678", "0912345678", "912345678a", "+1"):
        assert to_e164(written) == written


def test_numbers_are_written_in_the_national_form() -> None:
    assert to_national(TO) == "09123456789"
    assert to_national("+4915112345678") == "004915112345678"


def test_a_derived_id_is_the_same_for_equal_parts_only() -> None:
    assert derived_id("a", "b") == derived_id("a", "b")
    assert derived_id("ab", "") != derived_id("a", "b")


def test_a_string_or_whole_number_is_read_as_text() -> None:
    given = (" a ", 17, 0, "", None, True, 1.5, [], {})
    assert [scalar_text(value) for value in given] == ["a", "17", "0", "", "", "", "", "", ""]


def test_a_gateways_message_is_shortened_and_its_numbers_are_hidden() -> None:
    for given, shown in (
        ("Line not active", "Line not active"),
        ("to 09123456789: no", "to •••: no"),
        ("code 12 34 56", "code •••"),
        ("code ۱۲۳۴۵۶", "code •••"),
        ("a\r\nb\tc\x00d\u202ee", "a b c d e"),
        ("part 12 of 20", "part 12 of 20"),
        ("", "no reason given"),
        (None, "None"),
        ("x" * 1000, "x" * 160),
    ):
        assert redact_reason(given) == shown, given


def test_a_gateways_message_that_repeats_the_request_is_hidden() -> None:
    sent = ("Gooseberry jam", "s3cret-key")
    for message in ("bad text: gooseberry", "S3CRET is no key"):
        assert "is hidden" in redact_reason(message, sent=sent), message
    assert redact_reason("the line is closed", sent=sent) == "the line is closed"


def test_a_state_outside_the_table_is_unknown_and_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(convert, "_logged_states", set())
    table = {1: DeliveryState.DELIVERED}
    assert map_state(table, 1, gateway="acme") is DeliveryState.DELIVERED
    for value in (["a list"], ["a list"], "new 09123456789", "new 09123456789", None):
        assert map_state(table, value, gateway="acme") is DeliveryState.UNKNOWN
    assert [record.getMessage() for record in caplog.records] == [
        "acme: unknown delivery state: ['a list']",
        "acme: unknown delivery state: new •••",
        "acme: unknown delivery state: None",
    ]


# --- options -------------------------------------------------------------------------------------


def test_a_credential_is_text_or_digits() -> None:
    for given, text in (("s3cret", "s3cret"), (1234, "1234"), ("0", "0")):
        assert parse_credential("acme", "key", given) == text


def test_a_credential_that_is_not_text_is_refused_by_name() -> None:
    for given in (None, "", "  ", 1.5, True, ["s3cret"], b"s3cret"):
        with pytest.raises(ConfigurationError, match="acme: the option 'key'") as refused:
            parse_credential("acme", "key", given)
        assert "s3cret" not in str(refused.value)


def test_a_number_is_digits_or_nothing() -> None:
    assert [parse_number("acme", "line", value) for value in (None, "", 7, "0012")] == [
        None,
        None,
        7,
        12,
    ]
    for given in ("x", "-1", "1.5", "۱۲", "9" * 19):
        with pytest.raises(ConfigurationError, match="acme: line must be a whole number"):
            parse_number("acme", "line", given)


def test_a_flag_is_true_or_false() -> None:
    assert parse_flag("acme", "club", True) is True
    for given in (1, 0, "true", None):
        with pytest.raises(ConfigurationError, match="acme: club must be true or false"):
            parse_flag("acme", "club", given)


# --- values and errors ---------------------------------------------------------------------------


def test_delivered_undelivered_and_rejected_are_final() -> None:
    assert [state for state in DeliveryState if state.final] == [
        DeliveryState.DELIVERED,
        DeliveryState.UNDELIVERED,
        DeliveryState.REJECTED,
    ]


def test_no_repr_shows_a_mobile_a_text_or_a_code() -> None:
    for value in (
        Text(TO, "a secret text", "r1"),
        CodeMessage(TO, "123456", "a secret text"),
        Receipt(TO, DeliveryState.SENT, "17"),
        ReceivedText("17", TO, "1000", "a secret text", None),
    ):
        assert not any(part in repr(value) for part in (TO[1:], "secret", "123456"))


def test_an_error_has_the_names_of_its_sender_and_advice() -> None:
    identity = SenderIdentity("main", "acme")
    error = identity.make_error(Rejected, "no", code="7", written=False)
    assert (error.sender, error.gateway, error.reason) == ("main", "acme", "no")
    assert (error.code, error.written) == ("7", False)
    for kind in (Unavailable, Rejected, Unknown, Misconfigured):
        assert identity.make_error(kind, "no").advice
    known = KnownError(Unavailable, "no credit", "Add credit.")
    error = identity.make_known_error(known, code=3)
    assert type(error) is Unavailable
    assert (error.sender, error.gateway, error.code) == ("main", "acme", "3")
    assert (error.reason, error.advice) == ("no credit", "Add credit.")


# --- the base class ------------------------------------------------------------------------------


class FailsBatches(Sender):
    """Raises the given errors, one per batch."""

    gateway = "scripted"
    batch_limit = 2

    def __init__(self, *errors: SenderError | None) -> None:
        super().__init__()
        self.errors = list(errors)

    def send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        return [Receipt(one.to, DeliveryState.SENT, reference=one.reference) for one in batch]


def test_a_batch_that_fails_does_not_stop_the_next() -> None:
    sender = FailsBatches(None, Unknown("scripted", "lost"), Rejected("scripted", "no"))
    receipts = list(sender.send_many(Text(TO, "a", str(n)) for n in range(7)))
    assert [one.reference for one in receipts] == list("0123456")
    assert [one.status for one in receipts] == [
        *([DeliveryState.SENT] * 2),
        *([DeliveryState.UNKNOWN] * 2),
        *([DeliveryState.REJECTED] * 2),
        DeliveryState.SENT,
    ]


def test_send_text_raises_the_error_of_its_batch() -> None:
    with pytest.raises(Rejected):
        FailsBatches(Rejected("scripted", "no")).send_text(TO, "a")


def test_a_sender_supports_only_what_it_overrides() -> None:
    class Bare(Sender):
        gateway = "bare"

    sender = Bare(name="mine")
    assert repr(sender) == "<Bare 'mine'>"
    assert sender.capabilities == frozenset()
    for call in (
        lambda: sender.send_text(TO, "a"),
        lambda: sender.send_code(CodeMessage(TO, "1234", "1234")),
        lambda: sender.send_native_code(TO),
        lambda: sender.check_native_code(TO, "1234"),
        sender.credit,
        lambda: sender.statuses(["1"]),
        lambda: sender.parse_push({}),
    ):
        with pytest.raises(Unavailable) as refused:
            call()
        error = refused.value
        assert (error.sender, error.gateway, error.written) == ("mine", "bare", False)
        assert error.advice


# --- batches -------------------------------------------------------------------------------------


def test_batches_are_read_as_they_are_needed() -> None:
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(5):
            read.append(number)
            yield number

    batches = batched(numbers(), 2)
    assert next(batches) == [0, 1]
    assert read == [0, 1]
    assert list(batches) == [[2, 3], [4]]


def test_equal_texts_share_a_call_and_its_error() -> None:
    calls: list[list[str]] = []

    def send(texts: list[Text]) -> list[Receipt]:
        calls.append([text.reference for text in texts])
        if texts[0].text == "b":
            raise Unknown("main", "lost")
        return [Receipt(text.to, DeliveryState.SENT, reference=text.reference) for text in texts]

    receipts = send_grouped([Text(TO, "abab"[n], str(n)) for n in range(4)], send)
    assert calls == [["0", "2"], ["1", "3"]]
    assert [receipt.reference for receipt in receipts] == list("0123")
    assert [str(receipt.status) for receipt in receipts] == ["sent", "unknown", "sent", "unknown"]


def test_a_call_refused_for_one_recipient_is_halved_until_that_one_is_alone() -> None:
    calls: list[list[str]] = []

    def send(texts: Sequence[Text]) -> list[Receipt]:
        calls.append([text.reference for text in texts])
        if any(text.reference == "2" for text in texts):
            raise Rejected("main", "bad number", code="104")
        return [Receipt(text.to, DeliveryState.SENT, reference=text.reference) for text in texts]

    texts = [Text(TO, "a", str(n)) for n in range(4)]
    receipts = isolate(texts, send, frozenset({"104"}))
    assert calls == [["0", "1", "2", "3"], ["0", "1"], ["2", "3"], ["2"], ["3"]]
    assert [receipt.error is None for receipt in receipts] == [True, True, False, True]
    calls.clear()
    with pytest.raises(Rejected):
        isolate(texts, send, frozenset({"1"}))
    assert calls == [["0", "1", "2", "3"]]
