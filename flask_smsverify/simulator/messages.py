"""Messages to phones, messages from phones, and the phones themselves."""

import secrets
import threading
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from .timing import Timing

Channel = Literal["sms", "voice"]
MessageState = Literal[
    "queued", "sent", "delivered", "undelivered", "rejected", "filtered", "unknown", "cancelled"
]
FORCED_STATES: Final[tuple[MessageState, ...]] = (
    "queued", "sent", "delivered", "undelivered", "rejected", "filtered", "unknown",
)  # fmt: skip
"""The states that the fault `state` can give to messages."""

_NEVER_ARRIVES: Final = frozenset({"queued", "undelivered", "rejected", "filtered"})

MAX_MESSAGES: Final = 200_000
"""How many messages the phones, and each account, keep. Older ones are dropped."""


def object_id() -> str:
    """Return 24 random hexadecimal digits, the form of WikiPayam's identifiers."""
    return secrets.token_hex(12)


@dataclass
class Message:
    """An SMS or a call that a gateway accepted.

    :param message_id: the id that the gateway gives it; `id` is the simulator's own.
    :param to: the mobile in E.164, or the recipient as written if it is not an Iranian mobile.
        Such a message is not reachable: its state is `rejected` and no phone shows it.
    :param scheduled_at: when the gateway sends it.
    :param arrives_at: when the phone shows it.
    :param delivery_reported_at: when the gateway reports it as delivered.
    :param batch: the id of the send that it is part of, if the gateway has such ids.
    :param forced_state: the state that the fault `state` gave it, from the start; else None.
    :param raw_state: the gateway's own value for `forced_state`, if the fault named one.
    """

    gateway: str
    channel: Channel
    message_id: str
    sender: str
    to: str
    text: str
    code: str | None
    cost: float
    accepted_at: datetime
    scheduled_at: datetime
    arrives_at: datetime
    delivery_reported_at: datetime
    batch: str = ""
    is_reachable: bool = True
    is_cancelled: bool = False
    forced_state: MessageState | None = None
    raw_state: str = ""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def arrives(self) -> bool:
        """Whether the message ever reaches a phone."""
        return self.is_reachable and self.forced_state not in _NEVER_ARRIVES

    def state_at(self, now: datetime, timing: Timing) -> MessageState:
        """Return the state that the gateway reports at a time."""
        if self.is_cancelled:
            return "cancelled"
        if not self.is_reachable:
            return "rejected"
        if self.forced_state is not None:
            return self.forced_state
        if now < self.scheduled_at + timedelta(seconds=timing.at_operator):
            return "queued"
        return "sent" if now < self.delivery_reported_at else "delivered"


@dataclass
class Incoming:
    """A message from a phone to a line.

    :param sender: the mobile in E.164.
    :param line: the line as the phone dialled it.
    :param number: an id for gateways that number their messages; `message_id` for the others.
    """

    gateway: str
    sender: str
    line: str
    text: str
    at: datetime
    number: int
    is_read: bool = False
    message_id: str = field(default_factory=object_id)


class Phones:
    """The messages on all phones, and those on their way. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._messages: deque[Message] = deque(maxlen=MAX_MESSAGES)

    def add(self, message: Message) -> None:
        """Add a message. The phone shows it from `arrives_at` on."""
        with self._lock:
            self._messages.append(message)

    def messages(
        self, now: datetime, to: str | None = None, limit: int | None = None
    ) -> list[Message]:
        """Return the messages that phones show at a time, newest first.

        :param to: a mobile in E.164; None for all phones.
        """
        with self._lock:
            shown = [
                message
                for message in reversed(self._messages)
                if message.arrives_at <= now
                and not message.is_cancelled
                and to in (None, message.to)
            ]
        # The sort is stable: messages that arrive at the same time stay in the order of sending.
        shown.sort(key=lambda message: message.arrives_at, reverse=True)
        return shown[:limit]

    def delete(self, to: str | None = None) -> None:
        """Delete messages from one phone or all of them. Gateways still report their state."""
        with self._lock:
            kept = [m for m in self._messages if to not in (None, m.to)]
            self._messages.clear()
            self._messages.extend(kept)
