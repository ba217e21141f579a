"""What every sender shares: words, shapes, and helpers for reading what gateways write."""

import logging
from collections.abc import Sequence

import pytest

from flask_smsverify.errors import ConfigurationError, Rejected, Unavailable, Unknown
from flask_smsverify.senders.base import (
    CodeMessage,
    Incoming,
    Receipt,
    Sender,
    Status,
    Text,
    credential,
    e164,
    national,
    safe_reason,
    status_of,
)

TO = "+989123456789"


@pytest.mark.parametrize(
    "written", ["09123456789", "9123456789", "989123456789", "+989123456789", "00989123456789"]
)
def test_an_iranian_mobile_is_read_in_every_form_that_gateways_write(written: str) -> None:
    assert e164(written) == TO
    assert e164(f" {written} ") == TO


@pytest.mark.parametrize("written", ["", "1000", "02112345678", "0912345678", "912345678a", "+1"])
def test_anything_else_stays_as_it_came(written: str) -> None:
    assert e164(written) == written


def test_numbers_go_out_in_the_national_form() -> None:
    assert national(TO) == "09123456789"
    assert national("+4915112345678") == "004915112345678"


@pytest.mark.parametrize(("given", "text"), [("s3cret", "s3cret"), (1234, "1234"), ("0", "0")])
def test_a_credential_is_text_or_digits(given: object, text: str) -> None:
    assert credential("acme", "key", given) == text


@pytest.mark.parametrize("given", [None, "", "  ", 1.5, True, ["s3cret"], b"s3cret"])
def test_a_credential_that_must_be_guessed_is_refused_by_name(given: object) -> None:
    with pytest.raises(ConfigurationError, match="acme: the option 'key'") as refused:
        credential("acme", "key", given)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Line not active", "Line not active"),
        ("to 09123456789: no", "to •••: no"),
        ("code 12 34 56", "code •••"),
        ("code ۱۲۳۴۵۶", "code •••"),
        ("a\r\nb\tc\x00d\u202ee", "a b c d e"),
        ("part 12 of 20", "part 12 of 20"),
        ("", "no reason given"),
        (None, "None"),
        ("x" * 1000, "x" * 160),
    ],
)
def test_a_gateways_words_are_made_fit_for_a_log(said: object, shown: str) -> None:
    assert safe_reason(said) == shown


def test_words_that_repeat_what_was_sent_are_not_shown() -> None:
    sent = ("Gooseberry jam", "s3cret-key")
    for said in ("bad text: gooseberry", "S3CRET is no key"):
        assert "not shown" in safe_reason(said, sent=sent)
    assert safe_reason("the line is closed", sent=sent) == "the line is closed"


def test_a_state_that_no_table_knows_is_unknown_and_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr("flask_smsverify.senders.base._unknown_states", set())
    table = {1: Status.DELIVERED}
    assert status_of(table, 1, gateway="acme") is Status.DELIVERED
    for value in (["a list"], ["a list"], "new 09123456789", "new 09123456789", None):
        assert status_of(table, value, gateway="acme") is Status.UNKNOWN
    assert [record.getMessage() for record in caplog.records] == [
        "acme: a state that no table knows: ['a list']",
        "acme: a state that no table knows: new •••",
        "acme: a state that no table knows: None",
    ]


def test_the_last_word_on_a_message_is_final() -> None:
    assert [status for status in Status if status.final] == [
        Status.DELIVERED,
        Status.UNDELIVERED,
        Status.REJECTED,
    ]


def test_no_shape_shows_a_mobile_or_a_text() -> None:
    for shape in (
        Text(TO, "a secret text", "r1"),
        CodeMessage(TO, "123456", "a secret text"),
        Receipt(TO, Status.SENT, "17"),
        Incoming("17", TO, "1000", "a secret text", None),
    ):
        assert not any(part in repr(shape) for part in (TO[1:], "secret", "123456"))


class Scripted(Sender):
    """Fails the batches that it is told to."""

    gateway = "scripted"
    batch_limit = 2

    def __init__(self, *errors: Exception | None) -> None:
        super().__init__()
        self.errors = list(errors)

    def _send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        return [Receipt(one.to, Status.SENT, reference=one.reference) for one in batch]


def test_a_batch_that_fails_takes_no_other_with_it() -> None:
    sender = Scripted(None, Unknown("scripted", "lost"), Rejected("scripted", "no"))
    receipts = list(sender.send_many(Text(TO, "a", str(n)) for n in range(7)))
    assert [one.reference for one in receipts] == list("0123456")
    assert [one.status for one in receipts] == [
        *([Status.SENT] * 2),
        *([Status.UNKNOWN] * 2),
        *([Status.REJECTED] * 2),
        Status.SENT,
    ]


def test_one_text_raises_what_stands_in_its_way() -> None:
    with pytest.raises(Rejected):
        Scripted(Rejected("scripted", "no")).send_text(TO, "a")


def test_a_sender_can_do_nothing_that_it_does_not_write() -> None:
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
    ):
        with pytest.raises(Unavailable) as refused:
            call()
        assert (refused.value.gateway, refused.value.written) == ("mine", False)
