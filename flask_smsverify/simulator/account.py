"""The user's account at one gateway: its messages, its credit, and the codes for it."""

import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from .faults import Faults
from .messages import (
    FORCED_STATES,
    MAX_MESSAGES,
    Channel,
    Incoming,
    Message,
    MessageState,
    Phones,
)
from .phone_numbers import parse_landline, parse_mobile
from .texts import count_parts, find_code, has_link
from .timing import Timing

INITIAL_CREDIT: Final = 1_000_000_000.0


Value = TypeVar("Value", str, int)


@dataclass(frozen=True)
class MessageFaults:
    """The faults that affect the messages of one call.

    :param is_late: the fault `late_delivery`: the messages arrive late.
    :param state: the fault `state`: the state that the gateway reports; None without this fault.
    :param raw_state: the gateway's own value for the state, if the fault named one.
    """

    is_late: bool = False
    state: MessageState | None = None
    raw_state: str = ""


class Account:
    """An account at one gateway. Safe to use from several threads.

    :param clock: returns the current time, with its zone.
    :param ids: numbers that no message of any gateway has had.
    :ivar raw_states: the gateway's own values for states. The fault `state` can name one.
    """

    raw_states: Mapping[str, MessageState] = {}

    def __init__(
        self,
        gateway: str,
        *,
        clock: Callable[[], datetime],
        timing: Timing,
        faults: Faults,
        phones: Phones,
        ids: Iterator[int],
    ) -> None:
        self.gateway = gateway
        self.now = clock
        self._timing = timing
        self._faults = faults
        self._phones = phones
        self._ids = ids
        self._lock = threading.Lock()
        self._reset_callbacks: list[Callable[[], None]] = []
        self.reset()

    def on_reset(self, callback: Callable[[], None]) -> None:
        """Register a function that clears what a gateway keeps outside the account."""
        self._reset_callbacks.append(callback)

    def reset(self) -> None:
        """Delete all messages and codes, and restore the credit."""
        for callback in self._reset_callbacks:
            callback()
        with self._lock:
            self.credit = INITIAL_CREDIT
            self.push_url = ""
            self._messages: dict[str, Message] = {}
            self._batches: dict[str, list[Message]] = {}
            self._codes: dict[str, str] = {}
            self._incoming: list[Incoming] = []

    def next_id(self) -> int:
        """Return a number that no message of any gateway has had."""
        return next(self._ids)

    def consume_fault(self, name: str) -> bool:
        """Return whether a fault affects this call, and count the call."""
        return self._faults.consume(self.gateway, name)

    def take_error_code(self) -> int | None:
        """Return the error code of the fault `code`, and count the call; None if it is off."""
        fault = self._faults.take(self.gateway, "code")
        return None if fault is None else fault.code

    def refuses_link(self, text: str) -> bool:
        """Return whether a text is refused because of a link. Only such a text counts as a call."""
        return has_link(text) and self.consume_fault("refuse_links")

    def take_message_faults(self) -> MessageFaults:
        """Return the faults that affect the messages of this call, and count the call."""
        fault = self._faults.take(self.gateway, "state")
        state, raw = self._read_state(fault.state if fault else None)
        return MessageFaults(self.consume_fault("late_delivery"), state, raw)

    def _read_state(self, value: str | None) -> tuple[MessageState | None, str]:
        """Return the state that a fault names, and the gateway's own value if it names that."""
        if value is None:
            return None, ""
        if value in FORCED_STATES:
            return value, ""
        return self.raw_states.get(value, "unknown"), value

    # Credit

    def reported_credit(self) -> float:
        """Return the credit that the gateway reports: 0 while the fault `no_credit` is on.

        A report does not count as a call that the fault affects.
        """
        return 0.0 if self._faults.is_active(self.gateway, "no_credit") else self.credit

    def can_pay(self, cost: float) -> bool:
        """Return whether the credit covers a cost. The fault `no_credit` makes it False."""
        return not self.consume_fault("no_credit") and self.credit >= cost

    # Sent messages

    def send(
        self,
        *,
        message_id: str,
        sender: str,
        to: str,
        text: str,
        channel: Channel = "sms",
        code: str | None = None,
        batch: str = "",
        price: float = 1.0,
        at: datetime | None = None,
        faults: MessageFaults | None = None,
        takes_landlines: bool = False,
    ) -> Message:
        """Accept a message, charge for it, and deliver it at its time.

        :param code: the code, if the gateway knows it. By default it is searched for in the text.
        :param price: the price of one part.
        :param at: when to send. A time in the past means now.
        :param faults: the faults that affect the message; by default they are taken here. A call
            that sends several messages must take them once and pass them.
        :param takes_landlines: whether the gateway also reaches landlines.
        """
        now = self.now()
        mobile = parse_mobile(to) or (parse_landline(to) if takes_landlines else None)
        scheduled_at = max(at, now) if at else now
        if faults is None:
            faults = self.take_message_faults()
        delay = self._timing.late_delivery if faults.is_late else 0
        arrives_at = scheduled_at + timedelta(seconds=delay)
        report_delay = 0 if faults.is_late else self._timing.delivered
        message = Message(
            gateway=self.gateway,
            channel=channel,
            message_id=message_id,
            sender=sender,
            to=mobile or to,
            text=text,
            code=code or find_code(text),
            cost=count_parts(text) * price if mobile else 0.0,
            accepted_at=now,
            scheduled_at=scheduled_at,
            arrives_at=arrives_at,
            delivery_reported_at=arrives_at + timedelta(seconds=report_delay),
            batch=batch,
            is_reachable=mobile is not None,
            forced_state=faults.state,
            raw_state=faults.raw_state,
        )
        with self._lock:
            self.credit -= message.cost
            self._messages[message_id] = message
            if batch:
                self._batches.setdefault(batch, []).append(message)
            if len(self._messages) > MAX_MESSAGES:
                oldest = self._messages.pop(next(iter(self._messages)))
                self._batches.pop(oldest.batch, None)
            if message.arrives:
                self._phones.add(message)
        return message

    def state_of(self, message: Message) -> MessageState:
        """Return the state that the gateway reports for a message now.

        While the fault `state` is on, it also applies to messages that were sent before.
        """
        return self._report(message)[0]

    def report(self, message: Message, statuses: Mapping[MessageState, Value]) -> Value:
        """Return the gateway's value for the state of a message now.

        :param statuses: the gateway's value for every state.
        """
        state, raw = self._report(message)
        value = statuses[state]
        return type(value)(raw) if raw else value

    def _report(self, message: Message) -> tuple[MessageState, str]:
        if message.is_cancelled or not message.is_reachable or message.forced_state is not None:
            return message.state_at(self.now(), self._timing), message.raw_state
        fault = self._faults.find(self.gateway, "state")
        state, raw = self._read_state(fault.state if fault else None)
        return state or message.state_at(self.now(), self._timing), raw

    def message(self, message_id: str) -> Message | None:
        """Return the message with this id, or None."""
        return self._messages.get(message_id)

    def batch(self, batch: str) -> list[Message]:
        """Return the messages of one send, or an empty list."""
        return list(self._batches.get(batch, ()))

    def messages(self) -> list[Message]:
        """Return all sent messages, newest first."""
        with self._lock:
            return list(reversed(self._messages.values()))

    def cancel(self, batch: str) -> list[Message]:
        """Cancel the messages of a send that are still scheduled, refund and return them."""
        now = self.now()
        with self._lock:
            scheduled = [
                m
                for m in self._batches.get(batch, ())
                if now < m.scheduled_at and not m.is_cancelled
            ]
            for message in scheduled:
                message.is_cancelled = True
                self.credit += message.cost
        return scheduled

    # Codes that the gateway generates

    def generate_code(self, mobile: str) -> str:
        """Generate a code of 4 to 6 digits for a mobile. It replaces the previous one."""
        length = secrets.choice((4, 5, 6))
        code = "".join(secrets.choice("0123456789") for _ in range(length))
        self._codes[mobile] = code
        return code

    def is_current_code(self, mobile: str, code: str) -> bool:
        """Return whether this is the mobile's current code. A check does not use the code up."""
        current = self._codes.get(mobile)
        return current is not None and secrets.compare_digest(current.encode(), code.encode())

    # Received messages

    def add_incoming(self, *, sender: str, line: str, text: str) -> Incoming:
        """Add a message from a phone (E.164) to one of the account's lines."""
        message = Incoming(self.gateway, sender, line, text, self.now(), number=self.next_id())
        with self._lock:
            self._incoming.append(message)
        return message

    def incoming(self) -> list[Incoming]:
        """Return the received messages, newest first."""
        with self._lock:
            return list(reversed(self._incoming))

    def mark_read(self, messages: Iterable[Incoming]) -> int:
        """Mark messages as read, and return how many were unread."""
        with self._lock:
            unread = [message for message in messages if not message.is_read]
            for message in unread:
                message.is_read = True
        return len(unread)

    def delete_incoming(self, messages: Iterable[Incoming]) -> int:
        """Delete received messages, and return how many were deleted."""
        deleted = {message.message_id for message in messages}
        with self._lock:
            before = len(self._incoming)
            self._incoming = [m for m in self._incoming if m.message_id not in deleted]
            return before - len(self._incoming)
