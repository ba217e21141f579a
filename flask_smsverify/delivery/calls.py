"""Calls to one sender: the cap on calls in flight, the breaker, and the sender's errors."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC
from functools import partial
from typing import TypeVar

from ..errors import (
    Misconfigured,
    Rejected,
    SenderError,
    SMSVerifyError,
    Unavailable,
    Unknown,
)
from ..log_events import log_event, log_external_error
from ..senders.base import DeliveryReport, DeliveryState, Receipt, ReceivedText, Sender, Text
from .breaker import Breakers

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class SenderCalls:
    """Makes calls to senders.

    :param names: the senders' names.
    :param in_flight: how many calls of this process may wait for one sender at a time.
    :param context: returns the context in which a sender's code runs.
    """

    def __init__(
        self,
        names: Iterable[str],
        in_flight: int,
        *,
        context: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._context = context
        self.breakers = Breakers()
        self._slots = {name: threading.BoundedSemaphore(in_flight) for name in names}

    def send(self, sender: Sender, send: Callable[[], Receipt]) -> Receipt:
        """Make a call that sends.

        If a receipt reports a failure, the corresponding error is raised.

        :raises SenderError: nothing was sent, or it is unknown whether it was.
        """

        def checked() -> Receipt:
            receipt = send()
            if receipt.error is not None:
                raise receipt.error
            if receipt.status in (DeliveryState.REJECTED, DeliveryState.UNDELIVERED):
                raise sender.make_error(Rejected, "its receipt says that nothing was sent")
            if receipt.status is DeliveryState.UNKNOWN:
                raise sender.make_error(Unknown, "its receipt does not say whether it was sent")
            return receipt

        return self._call(sender, checked)

    def send_batch(self, sender: Sender, texts: Sequence[Text]) -> list[Receipt]:
        """Make a call that sends several texts, and return a receipt for each, in order.

        It takes none of the slots, which are for codes and single texts. The caller limits its own
        calls in flight.

        :raises SenderError: the failure of the whole call.
        """

        def checked() -> list[Receipt]:
            receipts = sender.send_batch(texts)
            if len(receipts) != len(texts):
                raise sender.make_error(Unknown, "it returned too few or too many receipts")
            return receipts

        try:
            with self._context(), self.breakers.watch(sender.name):
                return _translate_errors(sender, checked)
        except SenderError as error:
            _log_failure(error)
            raise

    def check_native_code(self, sender: Sender, mobile: str, code: str) -> bool:
        """Return a native gateway's verdict on a code.

        :raises SenderError: it gave none; `written` says if the gateway may have seen the code.
        """
        verdict: object = self._call(sender, partial(sender.check_native_code, mobile, code))
        if not isinstance(verdict, bool):
            raise sender.make_error(Unknown, "its verdict is neither yes nor no")
        return verdict

    def _call(self, sender: Sender, call: Callable[[], _T]) -> _T:
        slots = self._slots[sender.name]
        if not slots.acquire(blocking=False):
            raise sender.make_error(Unavailable, "too many calls are in flight", written=False)
        try:
            with self._context(), self.breakers.watch(sender.name):
                return _translate_errors(sender, call)
        except SenderError as error:
            _log_failure(error)
            raise
        finally:
            slots.release()


def _log_failure(error: SenderError) -> None:
    level = logging.ERROR if isinstance(error, Misconfigured) else logging.WARNING
    log.log(level, "%s: %s", type(error).__name__, error, extra=log_event("sender_failed"))


def read_push(sender: Sender, payload: object) -> list[ReceivedText | DeliveryReport]:
    """Return the reports and messages in a gateway's call of the webhook.

    :raises Unknown: the payload is not in the gateway's format.
    """
    return _translate_errors(sender, lambda: list(map(_validated, sender.parse_push(payload))))


def _validated(item: object) -> ReceivedText | DeliveryReport:
    """Return a reported item that the database can store.

    :raises ValueError: an id with NUL or an unpaired surrogate, an unknown state, a naive time.
    :raises TypeError: an item of another type.
    """
    if isinstance(item, DeliveryReport):
        if "\0" in item.id:
            raise ValueError("an id with NUL")
        item.id.encode()
        return DeliveryReport(item.id, DeliveryState(item.status), item.cost)
    if not isinstance(item, ReceivedText):
        raise TypeError("neither a received text nor a delivery report")
    if not all(isinstance(text, str) for text in (item.id, item.originator, item.line, item.text)):
        raise TypeError("a received text with a field that is not text")
    if item.received_at is not None and item.received_at.tzinfo is None:
        raise ValueError("a naive time")
    received_at = item.received_at and item.received_at.astimezone(UTC)
    return replace(item, received_at=received_at)


def _translate_errors(sender: Sender, call: Callable[[], _T]) -> _T:
    """Make a call. Any exception that is not a `SMSVerifyError` becomes `Unknown`.

    A sender of the host may raise anything. The exception's location is logged; its message is not,
    because it may contain what was sent.
    """
    try:
        return call()
    except SMSVerifyError:
        raise
    except Exception as error:  # noqa: BLE001 -- see the docstring
        log_external_error(
            log, "the code of %s failed", sender.name, error=error, event="sender_code_failed"
        )
        failure = sender.make_error(Unknown, f"its code raised {type(error).__name__}")
    # Raised outside the block, so that the original exception is not its context.
    raise failure
