"""Send many texts in few calls, and keep the failure of one apart from the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from ..errors import Rejected, SenderError
from .base import Receipt, Text

_T = TypeVar("_T")


def batched(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Yield lists of at most `size` items, reading the items as they are needed."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


def failed_receipts(batch: Sequence[Text], error: SenderError) -> list[Receipt]:
    """Return receipts for a batch that failed as a whole."""
    return [Receipt.failed(text, error) for text in batch]


def send_grouped(
    batch: Sequence[Text], send: Callable[[list[Text]], list[Receipt]]
) -> list[Receipt]:
    """Send a batch with one call per different text.

    For gateways that take one text for many recipients.

    :param send: sends texts that are equal and returns a receipt for each, in order. An error of
        one call fails its own texts alone, because the texts of other calls may have been sent.
    :returns: a receipt for each text, in the order of the batch.
    """
    positions: dict[str, list[int]] = {}
    for position, text in enumerate(batch):
        positions.setdefault(text.text, []).append(position)
    receipts: dict[int, Receipt] = {}
    for group in positions.values():
        texts = [batch[position] for position in group]
        try:
            answered = send(texts)
        except SenderError as error:
            answered = failed_receipts(texts, error)
        receipts.update(zip(group, answered, strict=True))
    return [receipts[position] for position in range(len(batch))]


def isolate(
    texts: Sequence[Text],
    send: Callable[[Sequence[Text]], list[Receipt]],
    recipient_codes: frozenset[str],
) -> list[Receipt]:
    """Send, and halve a call that is refused because of one recipient until that one is alone.

    For gateways that refuse a whole call for one bad number. A refused call sent nothing, so no
    recipient gets the text twice.

    :param recipient_codes: codes of a `Rejected` that are about a recipient and not the text.
    :returns: a receipt for each text, in order.
    """
    try:
        return send(texts)
    except Rejected as error:
        if len(texts) == 1 or error.code not in recipient_codes:
            raise
    receipts: list[Receipt] = []
    for half in (texts[: len(texts) // 2], texts[len(texts) // 2 :]):
        try:
            receipts += isolate(half, send, recipient_codes)
        except SenderError as error:
            receipts += failed_receipts(half, error)
    return receipts
