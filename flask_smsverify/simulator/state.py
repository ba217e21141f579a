"""All that the simulator remembers: sends, phones, incoming messages, requests, faults, credit.

Nothing here knows HTTP or a gateway's dialect. A `World` holds one `Account` for each gateway and
the one phone that all of them reach. It may be used from many threads at once.
"""

import secrets
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final, Literal

from .numbers import read_mobile
from .texts import find_code, parts

Channel = Literal["sms", "voice"]
State = Literal["queued", "sent", "delivered", "undelivered", "rejected", "cancelled"]
Clock = Callable[[], datetime]

FAULTS: Final = {
    "slow": "answers, but only after some seconds",
    "timeout": "takes the request and never answers",
    "http_500": "answers HTTP 500",
    "down": "resets the connection before anything is processed",
    "refuse": "refuses the number, in the gateway's own words",
    "no_credit": "says that the account has no credit",
    "bad_credentials": "says that the credentials are wrong",
    "late_delivery": "accepts; the message reaches the phone late",
    "lost_answer": "delivers the message, then closes without an answer",
}
"""Every fault that can be switched on, with what the gateway then does."""

KEPT_MESSAGES = 200_000
KEPT_REQUESTS = 500
STARTING_CREDIT = 1_000_000_000.0


def utc_now() -> datetime:
    """The present, with its zone."""
    return datetime.now(UTC)


def object_id() -> str:
    """24 hexadecimal digits, as WikiPayam's identifiers are."""
    return secrets.token_hex(12)


@dataclass(frozen=True)
class Pace:
    """How long things take, in seconds.

    The phone shows a message at once; the gateway's report lags behind it as real reports do, from
    `queued` through `sent` (at `at_operator`) to `delivered` (at `delivered`).
    """

    at_operator: float = 0.4
    delivered: float = 1.2
    late: float = 20.0
    slow: float = 5.0
    hang: float = 60.0


@dataclass
class Message:
    """One SMS or call that a gateway took.

    `to` is E.164, or the recipient as written where that is no Iranian mobile: such a message
    is `rejected` and reaches no phone. `ref` is what the gateway calls the message.
    """

    gateway: str
    channel: Channel
    ref: str
    sender: str
    to: str
    text: str
    code: str | None
    cost: float
    taken_at: datetime
    starts_at: datetime
    arrives_at: datetime
    reported_at: datetime
    batch: str = ""
    reaches: bool = True
    cancelled: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def state(self, now: datetime, pace: Pace) -> State:
        """What the gateway reports of this message at a moment."""
        if self.cancelled:
            return "cancelled"
        if not self.reaches:
            return "rejected"
        if now < self.starts_at + timedelta(seconds=pace.at_operator):
            return "queued"
        return "sent" if now < self.reported_at else "delivered"


@dataclass
class Incoming:
    """A message from a phone to a line. `sender` is E.164, `line` as the phone dialled it."""

    gateway: str
    sender: str
    line: str
    text: str
    at: datetime
    number: int
    read: bool = False
    ref: str = field(default_factory=object_id)


@dataclass
class Received:
    """A request as it came in, credentials masked. `status` is None where no answer went out."""

    id: int
    at: datetime
    gateway: str
    method: str
    host: str
    path: str
    query: str
    headers: dict[str, str]
    body: str
    status: int | None = None
    faults: list[str] = field(default_factory=list)


@dataclass
class Fault:
    """A fault that is switched on. `times` is how many calls it still strikes; None: all."""

    gateway: str
    fault: str
    times: int | None


class Account:
    """The user's account with one gateway: what was sent from it, what came in, what is left."""

    def __init__(self, world: "World", gateway: str) -> None:
        self.gateway = gateway
        self._world = world
        self._on_reset: list[Callable[[], None]] = []
        self.reset()

    def on_reset(self, forget: Callable[[], None]) -> None:
        """Have something called when everything is forgotten: what a gateway keeps of its own."""
        self._on_reset.append(forget)

    def reset(self) -> None:
        """As on the first day."""
        for forget in self._on_reset:
            forget()
        self.credit = STARTING_CREDIT
        self.push_url = ""
        self._messages: dict[str, Message] = {}
        self._batches: dict[str, list[Message]] = {}
        self._codes: dict[str, str] = {}
        self._incoming: list[Incoming] = []

    def now(self) -> datetime:
        """The moment by the simulator's clock."""
        return self._world.clock()

    def next_number(self) -> int:
        """A number that no message of any gateway had before."""
        return self._world.next_number()

    def strikes(self, fault: str) -> bool:
        """Whether a fault strikes this call; one that strikes a counted number is counted down."""
        return self._world.strikes(self.gateway, fault)

    def left(self) -> float:
        """The credit that the gateway tells of; 0 under `no_credit`, which asking leaves on."""
        broke = any(
            f.gateway == self.gateway and f.fault == "no_credit" for f in self._world.faults()
        )
        return 0.0 if broke else self.credit

    def can_pay(self, cost: float) -> bool:
        """Whether the credit lasts for a cost, in the gateway's unit. False under `no_credit`."""
        return not self.strikes("no_credit") and self.credit >= cost

    def send(
        self,
        *,
        ref: str,
        sender: str,
        to: str,
        text: str,
        channel: Channel = "sms",
        code: str | None = None,
        batch: str = "",
        price: float = 1.0,
        at: datetime | None = None,
        late: bool | None = None,
    ) -> Message:
        """Take a message, charge it, and put it on the phone when its time comes.

        `code` is the code where the gateway knows it; otherwise it is looked for in the text.
        `at` is when to send; a moment that has passed is now. `late` says whether the delivery
        is late where one call sends many; otherwise the fault is asked for here.
        """
        now = self.now()
        mobile = read_mobile(to)
        starts = max(at, now) if at else now
        pace = self._world.pace
        if late is None:
            late = self.strikes("late_delivery")
        arrives = starts + timedelta(seconds=pace.late if late else 0)
        message = Message(
            gateway=self.gateway,
            channel=channel,
            ref=ref,
            sender=sender,
            to=mobile or to,
            text=text,
            code=code or find_code(text),
            cost=parts(text) * price if mobile else 0.0,
            taken_at=now,
            starts_at=starts,
            arrives_at=arrives,
            reported_at=arrives if late else arrives + timedelta(seconds=pace.delivered),
            batch=batch,
            reaches=mobile is not None,
        )
        with self._world.lock:
            self.credit -= message.cost
            self._messages[ref] = message
            if batch:
                self._batches.setdefault(batch, []).append(message)
            if len(self._messages) > KEPT_MESSAGES:
                oldest = self._messages.pop(next(iter(self._messages)))
                self._batches.pop(oldest.batch, None)
            if message.reaches:
                self._world.phone.append(message)
        return message

    def state_of(self, message: Message) -> State:
        """What the gateway reports of a message now."""
        return message.state(self.now(), self._world.pace)

    def message(self, ref: str) -> Message | None:
        """The message that the gateway calls so."""
        return self._messages.get(ref)

    def batch(self, ref: str) -> list[Message]:
        """The messages of one send; empty where there was none."""
        return list(self._batches.get(ref, ()))

    def messages(self) -> list[Message]:
        """All that was sent, newest first."""
        with self._world.lock:
            return list(reversed(self._messages.values()))

    def cancel(self, batch: str) -> list[Message]:
        """Take back what of a send has not started; returns it."""
        now = self.now()
        with self._world.lock:
            waiting = [
                m for m in self._batches.get(batch, ()) if now < m.starts_at and not m.cancelled
            ]
            for message in waiting:
                message.cancelled = True
                self.credit += message.cost
        return waiting

    def make_code(self, mobile: str) -> str:
        """A code of this gateway's own for a mobile: 4 to 6 digits, in place of the one before."""
        length = secrets.choice((4, 5, 6))
        code = "".join(secrets.choice("0123456789") for _ in range(length))
        self._codes[mobile] = code
        return code

    def knows_code(self, mobile: str, code: str) -> bool:
        """Whether this is the mobile's code. Says yes as often as it is asked."""
        return secrets.compare_digest(self._codes.get(mobile, "").encode(), code.encode()) and (
            mobile in self._codes
        )

    def take_incoming(self, *, sender: str, line: str, text: str) -> Incoming:
        """A message from a phone (E.164) to one of the account's lines."""
        message = Incoming(
            self.gateway, sender, line, text, self.now(), number=self._world.next_number()
        )
        with self._world.lock:
            self._incoming.append(message)
        return message

    def incoming(self) -> list[Incoming]:
        """The received messages, newest first."""
        with self._world.lock:
            return list(reversed(self._incoming))

    def mark_read(self, messages: Iterable[Incoming]) -> int:
        """Mark messages as read; returns how many were not."""
        with self._world.lock:
            unread = [message for message in messages if not message.read]
            for message in unread:
                message.read = True
        return len(unread)

    def forget_incoming(self, messages: Iterable[Incoming]) -> int:
        """Delete received messages; returns how many there were."""
        gone = {message.ref for message in messages}
        with self._world.lock:
            before = len(self._incoming)
            self._incoming = [m for m in self._incoming if m.ref not in gone]
            return before - len(self._incoming)


class World:
    """The gateways' accounts and the phone that they all reach."""

    def __init__(self, gateways: Iterable[str], clock: Clock, pace: Pace) -> None:
        self.clock = clock
        self.pace = pace
        self.lock = threading.RLock()
        self.closing = threading.Event()
        self.phone: deque[Message] = deque(maxlen=KEPT_MESSAGES)
        self.requests: deque[Received] = deque(maxlen=KEPT_REQUESTS)
        self._faults: dict[tuple[str, str], Fault] = {}
        self._numbers = count(2826)
        self.accounts = {gateway: Account(self, gateway) for gateway in gateways}

    def next_number(self) -> int:
        """A number that no message had before."""
        return next(self._numbers)

    def reset(self) -> None:
        """Forget everything: messages, requests, faults, codes; credit is full again."""
        with self.lock:
            self.phone.clear()
            self.requests.clear()
            self._faults.clear()
            for account in self.accounts.values():
                account.reset()

    def arrived(self, to: str | None = None, limit: int | None = None) -> list[Message]:
        """What is on the phones, newest first; only one mobile's (E.164) where `to` is given."""
        now = self.clock()
        with self.lock:
            there = [
                message
                for message in reversed(self.phone)
                if message.arrives_at <= now
                and not message.cancelled
                and (to is None or message.to == to)
            ]
        # Stable, so messages of one moment stay in the order of their sending, newest first.
        there.sort(key=lambda message: message.arrives_at, reverse=True)
        return there[:limit]

    def clear_phone(self, to: str | None = None) -> None:
        """Forget messages on the phones and on their way; the gateways' reports on them stay."""
        with self.lock:
            kept = [m for m in self.phone if to is not None and m.to != to]
            self.phone.clear()
            self.phone.extend(kept)

    def switch_on(self, gateway: str, fault: str, times: int | None) -> Fault:
        """Switch a fault on, in place of the same one."""
        switched = Fault(gateway, fault, times)
        with self.lock:
            self._faults[gateway, fault] = switched
        return switched

    def switch_off(self, gateway: str | None = None, fault: str | None = None) -> None:
        """Switch faults off: all, a gateway's, or one."""
        with self.lock:
            for key in list(self._faults):
                if gateway in (None, key[0]) and fault in (None, key[1]):
                    del self._faults[key]

    def faults(self) -> list[Fault]:
        """The faults that are switched on."""
        with self.lock:
            return [Fault(f.gateway, f.fault, f.times) for f in self._faults.values()]

    def strikes(self, gateway: str, fault: str) -> bool:
        """Whether a fault strikes this call, and count it down."""
        with self.lock:
            switched = self._faults.get((gateway, fault))
            if switched is None:
                return False
            if switched.times is not None:
                switched.times -= 1
                if switched.times <= 0:
                    del self._faults[gateway, fault]
            return True
