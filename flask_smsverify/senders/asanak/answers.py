"""Read values from Asanak's answers, which differ in case and type."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone

from ...errors import Unknown
from ..base import SenderIdentity
from ..batching import UnclearRefusal
from ..convert import redact_reason

#: Asanak's times have no zone. Asanak is in Iran, which has had no daylight saving time since
#: September 2022.
TEHRAN = timezone(timedelta(hours=3, minutes=30))

#: Error codes have a smaller absolute value than this. Larger positive numbers are ids.
_MAX_CODE = 10_000

#: Words that are values of JSON, with or without quotes, and therefore not sentences.
_JSON_WORDS = frozenset({"true", "false", "null", "none", "nan", "infinity", "-infinity"})


def read_field(row: Mapping[object, object], name: str) -> object:
    """Return the member with this name, in upper or lower case; None if there is none."""
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


def read_code(value: object) -> int | None:
    """Return an error code, which is a number, or its digits, too small for an id; else None."""
    if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,9}\s*", value):
        value = int(value)
    return value if type(value) is int and abs(value) < _MAX_CODE else None


def read_sentences(value: object) -> list[str]:
    """Return the sentences of an answer: a text, or the members of an object that are text.

    A text without a word, or with bytes that are not UTF-8, is not a sentence.
    """
    texts = value.values() if isinstance(value, dict) else [value]
    return [text for text in texts if isinstance(text, str) and _is_sentence(text)]


def _is_sentence(text: str) -> bool:
    is_word = text.strip().casefold() not in _JSON_WORDS
    return is_word and "\ufffd" not in text and bool(re.search(r"[^\W\d_]{2}", text))


def read_time(value: object) -> datetime | None:
    """Return `2012-10-31 11:56:04` in UTC; None for `0000-00-00` and anything else."""
    try:
        local = datetime.strptime(str(value), "%Y-%m-%d %H:%M:%S").replace(tzinfo=TEHRAN)
    except ValueError:
        return None
    # Persian years, such as 1402, would be read as Gregorian years six centuries ago.
    return local.astimezone(UTC) if local.year >= 2000 else None


def make_refusal(
    sender: SenderIdentity, value: object, sent: Sequence[str] = (), *, code: int | None = None
) -> UnclearRefusal:
    """Return the error for an answer that has a message or a code instead of a result.

    :param sent: texts and credentials that the reason must not repeat.
    :param code: the gateway's code.
    """
    sentences = " ".join(read_sentences(value))
    reason = redact_reason(sentences, sent=sent) if sentences else "an error code without a message"
    return sender.make_error(
        UnclearRefusal,
        f"the gateway refused the request: {reason}",
        code=None if code is None else str(code),
        advice="Look for this message in Asanak's panel, or ask Asanak's support desk.",
    )


def make_unreadable(sender: SenderIdentity, value: object, expected: str) -> Unknown:
    """Return the error for an answer that is neither a success nor a refusal.

    :param expected: what the answer should have been, as a noun.
    """
    kind = {dict: "an object", list: "a list", str: "a text", int: "a number"}.get(type(value))
    return sender.make_error(Unknown, f"expected {expected}, got {kind or 'something else'}")
