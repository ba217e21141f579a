"""The sender `memory`: keeps messages in a list, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import SenderError
from ..forks import Lock
from .base import Capability, Channel, CodeMessage, DeliveryState, Receipt, Sender, Text


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message that was sent.

    :param to: E.164.
    :param text: the whole text, also for a call, although a real call reads out the code only.
    :param code: None for an ordinary text.
    """

    to: str
    text: str
    code: str | None
    channel: Channel
    reference: str

    def __repr__(self) -> str:
        return f"<SentMessage by {self.channel} {self.reference or 'without reference'}>"


@dataclass(slots=True)
class _Failure:
    """A failure that a test requested; see `Memory.fail_with`."""

    error: SenderError
    times: int | None
    to: str | None
    arrives: bool


class Memory(Sender):
    """Keeps texts and codes in `messages`, oldest first. Thread-safe.

    Patterns are not supported.
    """

    gateway = "memory"
    batch_limit = 100

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self._lock = Lock()
        self._messages: list[SentMessage] = []
        self._failures: list[_Failure] = []
        self._count = 0

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.TEXT, Capability.CODE_SMS, Capability.CODE_VOICE})

    @property
    def messages(self) -> list[SentMessage]:
        """A copy of the messages, oldest first."""
        with self._lock:
            return list(self._messages)

    @property
    def last(self) -> SentMessage:
        """The last message.

        :raises IndexError: there is no message.
        """
        with self._lock:
            return self._messages[-1]

    def clear(self) -> None:
        """Remove all messages and all failures."""
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
        """Make the next messages fail. Several failures are used in the order of the calls.

        :param error: the error to raise; it is raised as a copy.
        :param times: the number of messages that fail; None: until `clear`.
        :param to: fail messages to this mobile only.
        :param arrives: keep the message although the send fails, as when an answer is lost.
        """
        with self._lock:
            self._failures.append(_Failure(error, times, to, arrives))

    def send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        """Keep each text."""
        receipts = []
        for text in batch:
            try:
                message = SentMessage(text.to, text.text, None, "sms", text.reference)
                receipts.append(self._keep(message))
            except SenderError as error:
                receipts.append(Receipt.failed(text, error))
        return receipts

    def send_code(self, message: CodeMessage) -> Receipt:
        """Keep a code."""
        return self._keep(
            SentMessage(message.to, message.text, message.code, message.channel, message.reference)
        )

    def _keep(self, message: SentMessage) -> Receipt:
        with self._lock:
            failure = self._next_failure(message.to)
            if failure is None or failure.arrives:
                self._messages.append(message)
                self._count += 1
            number = self._count
        if failure is not None:
            error = failure.error
            # A copy each time, because one error raised in two threads would mix tracebacks.
            raise type(error)(
                error.sender,
                error.reason,
                gateway=error.gateway or self.gateway,
                code=error.code,
                advice=error.advice,
                written=error.written,
            )
        return Receipt(message.to, DeliveryState.SENT, str(number), reference=message.reference)

    def _next_failure(self, to: str) -> _Failure | None:
        for failure in self._failures:
            if failure.to in (None, to):
                if failure.times is not None:
                    failure.times -= 1
                    if failure.times <= 0:
                        self._failures.remove(failure)
                return failure
        return None
