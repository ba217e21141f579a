"""Send many texts in few calls, so that the failure of one text does not fail the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from ..errors import Rejected, SenderError, Unavailable
from .base import Receipt, Text

_T = TypeVar("_T")


class UnclearRefusal(Unavailable):
    """Nothing was sent, and it is unclear whether a recipient or the account is the cause."""


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
    recipient_codes: frozenset[str] | frozenset[str | None],
) -> list[Receipt]:
    """Send texts in one call. If it is refused because of a recipient, repeat it with each half.

    For gateways that refuse a whole call because of one bad number. The calls are halved until that
    number is alone. A refused call sent nothing, so no recipient gets the text twice.

    A call that raises `UnclearRefusal` is halved too. If two recipients are refused alone and
    nothing was sent, the account is the cause, and no further call is made. If other recipients
    got the text, the recipient is the cause, and its receipt has a `Rejected`.

    :param recipient_codes: codes of a `Rejected` that are about a recipient and not the text; None
        among them stands for a `Rejected` without a code.
    :returns: a receipt for each text, in order.
    :raises SenderError: the refusal of a call with one recipient, or one that halving cannot help.
    """
    isolation = _Isolation(send, recipient_codes)
    try:
        return send(texts)
    except SenderError as error:
        if len(texts) == 1 or not isolation.may_be_about_recipient(error):
            raise
    receipts = isolation.halve(texts)
    return [isolation.settle(text, one) for text, one in zip(texts, receipts, strict=True)]


class _Isolation:
    """The calls of one `isolate`."""

    def __init__(
        self,
        send: Callable[[Sequence[Text]], list[Receipt]],
        recipient_codes: frozenset[str] | frozenset[str | None],
    ) -> None:
        self._send = send
        self._recipient_codes = recipient_codes
        self._has_accepted = False
        self._refused_alone = 0
        self._refusal: SenderError | None = None

    def may_be_about_recipient(self, error: SenderError) -> bool:
        is_known = isinstance(error, Rejected) and error.code in self._recipient_codes
        return is_known or isinstance(error, UnclearRefusal)

    def halve(self, texts: Sequence[Text]) -> list[Receipt]:
        middle = len(texts) // 2
        return self._send_part(texts[:middle]) + self._send_part(texts[middle:])

    def _send_part(self, texts: Sequence[Text]) -> list[Receipt]:
        if self._refusal and self._refused_alone >= 2 and not self._has_accepted:
            return failed_receipts(texts, self._refusal)
        try:
            receipts = self._send(texts)
        except SenderError as error:
            if not self.may_be_about_recipient(error):
                return failed_receipts(texts, error)
            if len(texts) > 1:
                return self.halve(texts)
            if isinstance(error, UnclearRefusal):
                self._refused_alone += 1
                self._refusal = error
            return failed_receipts(texts, error)
        self._has_accepted = True
        return receipts

    def settle(self, text: Text, receipt: Receipt) -> Receipt:
        """Return the receipt. If others got the text, an unclear error becomes `Rejected`."""
        error = receipt.error
        if not self._has_accepted or error is None or not isinstance(error, UnclearRefusal):
            return receipt
        refused = Rejected(error.sender, error.reason, gateway=error.gateway, code=error.code)
        return Receipt.failed(text, refused, id=receipt.id)
