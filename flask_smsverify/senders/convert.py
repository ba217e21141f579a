"""Convert between this package's values and the forms that gateways use."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import unicodedata
from collections.abc import Hashable, Iterable, Mapping

from ..log_events import log_event
from .base import DeliveryState

logger = logging.getLogger(__name__)


def to_national(mobile: str) -> str:
    """Return a mobile in the form of Iranian gateways: `09123456789`, `0049…` for other countries.

    :param mobile: E.164.
    """
    return "0" + mobile[3:] if mobile.startswith("+98") else "00" + mobile[1:]


def to_e164(number: str) -> str:
    """Return an Iranian mobile (`0912…`, `98912…`, `912…`) as E.164, and other text unchanged."""
    digits = number.strip().lstrip("+")
    for prefix, length in (("0098", 4), ("98", 2), ("0", 1), ("", 0)):
        is_mobile = digits.startswith(prefix + "9") and len(digits) == length + 10
        if is_mobile and digits.isdecimal():
            return "+98" + digits[length:]
    return number


def derived_id(*parts: str) -> str:
    """Return an id for a received text without one. Equal parts have the same id."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def redact_reason(text: object, *, limit: int = 160, sent: Iterable[str] = ()) -> str:
    """Return a gateway's message in a form that may be logged: short, printable, without numbers.

    Gateways repeat numbers, and some repeat the text with the code, so every run of three or more
    digits is hidden.

    :param limit: the most characters of the result.
    :param sent: texts and credentials of the request. A message that repeats one of them, or a
        word of four or more letters from them, is hidden as a whole.
    """
    raw = str(text)[:2000]
    folded = raw.casefold()
    words = set(_WORD.findall(folded))
    if any(
        (part and part.casefold() in folded) or words.intersection(_WORD.findall(part.casefold()))
        for part in sent
    ):
        return "the gateway's message is hidden because it repeats the request"
    printable = "".join(" " if unicodedata.category(char).startswith("C") else char for char in raw)
    short = re.sub(r"\s+", " ", re.sub(r"\d[\d\s-]{1,}\d", "•••", printable)).strip()
    return short[:limit] or "no reason given"


_WORD = re.compile(r"\w{4,}")

_MAX_LOGGED_STATES = 1000
_logged_states: set[tuple[str, str]] = set()


def map_state(
    table: Mapping[object, DeliveryState], value: object, *, gateway: str = ""
) -> DeliveryState:
    """Return the delivery state of a gateway's value; `UNKNOWN` for a value outside the table.

    A value outside the table is logged once.
    """
    if isinstance(value, Hashable) and value in table:
        return table[value]
    shown = (gateway, redact_reason(value, limit=40))
    if shown not in _logged_states and len(_logged_states) < _MAX_LOGGED_STATES:
        _logged_states.add(shown)
        logger.warning(
            "%s: unknown delivery state: %s", *shown, extra=log_event("unknown_delivery_state")
        )
    return DeliveryState.UNKNOWN


def scalar_text(value: object) -> str:
    """Return a string or whole number as stripped text, and `""` for anything else."""
    return str(value).strip() if isinstance(value, str) or type(value) is int else ""
