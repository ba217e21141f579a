"""Read values from SMS.ir's answers, for both APIs."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from ...errors import Unknown
from ..http import Answer


def read_object(answer: Answer) -> dict[str, object] | None:
    """Return the body as a JSON object; None if it is something else."""
    try:
        value = answer.json()
    except Unknown:
        return None
    return value if isinstance(value, dict) else None


def raise_for_status(answer: Answer, envelope: dict[str, object] | None) -> None:
    """Raise for an error in the HTTP status, or for a body that is not a JSON object."""
    answer.raise_for_service_error()
    if envelope is None or "IsSuccessful" not in envelope:
        answer.raise_for_wrong_url()
        answer.raise_for_refusal()
    if envelope is None:
        answer.raise_unreadable("a JSON object")


def read_message_id(value: object) -> str | None:
    """Return the id of a message as text.

    :returns: `""` for 0 and null, which mean not sent; None for a value that is not an id.
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    text = str(value).strip()
    if not text.isascii() or not text.isdigit() or len(text) > 30:
        return None
    return text if text.strip("0") else ""


def read_pack_id(value: object) -> str | None:
    """Return the id of a pack of messages; None if there is none."""
    return str(value)[:64] if isinstance(value, int | str) and value else None


def read_amount(value: object) -> Decimal | None:
    """Return a non-negative number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    amount = Decimal(str(value))
    return amount if amount.is_finite() and 0 <= amount < 10**15 else None


def read_time(value: object) -> datetime | None:
    """Return a Unix timestamp as an aware time; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**40:
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
