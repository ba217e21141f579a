"""The memory: what is sent is kept in a list, for tests."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import SenderError
from .base import Capability, Channel, CodeMessage, Receipt, Sender, Status, Text, lost


@dataclass(frozen=True, slots=True)
class Kept:
    """A message that arrived.

    :param to: E.164.
    :param text: the whole text; of a call too, though only its code was to be read out.
    :param code: None for an ordinary text.
    """

    to: str
    text: str
    code: str | None
    channel: Channel
    reference: str

    def __repr__(self) -> str:
        return f"<Kept by {self.channel} {self.reference or 'without reference'}>"


@dataclass(slots=True)
class _Failure:
    error: SenderError
    times: int | None
    to: str | None
    arrives: bool


class Memory(Sender):
    """Keeps messages in `messages`, oldest first. Thread-safe."""

    gateway = "memory"
    batch_limit = 100

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self._lock = threading.Lock()
        self._messages: list[Kept] = []
        self._failures: list[_Failure] = []
        self._count = 0

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.TEXT, Capability.CODE_SMS, Capability.CODE_VOICE})

    @property
    def messages(self) -> list[Kept]:
        """A copy of what has arrived."""
        with self._lock:
            return list(self._messages)

    @property
    def last(self) -> Kept:
        """What arrived last.

        :raises IndexError: nothing has.
        """
        with self._lock:
            return self._messages[-1]

    def clear(self) -> None:
        """Forget what has arrived, and every failure that was asked for."""
        with self._lock:
            self._messages.clear()
            self._failures.clear()

    def fail_with(
        self,
        error: SenderError,
        *,
        times: int | None = 1,
        to: str | None = None,
        arrives: bool = False,
    ) -> None:
        """Let the next messages fail. Several calls are used up in their order.

        :param times: for how many messages; None until `clear`.
        :param to: only for this mobile.
        :param arrives: the message arrives all the same, as when an answer is lost.
        """
        with self._lock:
            self._failures.append(_Failure(error, times, to, arrives))

    def _send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        receipts = []
        for text in batch:
            try:
                kept = Kept(text.to, text.text, None, "sms", text.reference)
                receipts.append(self._take(kept))
            except SenderError as error:
                receipts += lost([text], error)
        return receipts

    def send_code(self, message: CodeMessage) -> Receipt:
        """Keep a code."""
        return self._take(
            Kept(message.to, message.text, message.code, message.channel, message.reference)
        )

    def _take(self, kept: Kept) -> Receipt:
        with self._lock:
            failure = self._next_failure(kept.to)
            if failure is None or failure.arrives:
                self._messages.append(kept)
                self._count += 1
            number = self._count
        if failure is not None:
            # A new one each time: raising one error in two threads would mix their tracebacks.
            error = failure.error
            raise type(error)(error.gateway, error.reason, code=error.code, written=error.written)
        return Receipt(kept.to, Status.SENT, str(number), reference=kept.reference)

    def _next_failure(self, to: str) -> _Failure | None:
        for failure in self._failures:
            if failure.to in (None, to):
                if failure.times is not None:
                    failure.times -= 1
                    if failure.times <= 0:
                        self._failures.remove(failure)
                return failure
        return None
