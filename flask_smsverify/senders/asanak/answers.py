"""Read values from Asanak's answers, which differ in case and type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...errors import Unknown
from ..base import SenderIdentity
from ..convert import redact_reason

#: Numbers from here on are ids; smaller ones are error codes.
_MAX_CODE = 10_000


def read_field(row: Mapping[object, object], name: str) -> object:
    """Return a member by its name in any case; None where there is none."""
    for key, value in row.items():
        if isinstance(key, str) and key.casefold() == name.casefold():
            return value
    return None


def read_id(value: object) -> str | None:
    """Return the id of a message, which is a positive number or its digits; else None.

    Negative numbers are error codes.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    text = str(value).strip()
    is_id = text.isascii() and text.isdigit() and len(text) <= 30 and text.strip("0") != ""
    return text if is_id else None


def read_sentences(value: object) -> list[str]:
    """Return the sentences of an answer: a text, or the members of an object that are text."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [member for member in value.values() if isinstance(member, str)]
    return []


def make_unreadable(
    sender: SenderIdentity,
    value: object,
    expected: str,
    sent: Sequence[str] = (),
    *,
    code: object = None,
) -> Unknown:
    """Return the error of an answer that is in no table, with the gateway's sentences.

    :param expected: what the answer should have been, as a noun.
    :param sent: texts and credentials that the reason must not repeat.
    """
    if _is_code(value):
        code = value
    sentences = " ".join(read_sentences(value))
    got = f": {redact_reason(sentences, sent=sent)}" if sentences else " something else"
    return sender.make_error(
        Unknown, f"expected {expected}, got{got}", code=str(code) if _is_code(code) else None
    )


def _is_code(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MAX_CODE
