"""Send one thing through a route: failover, deadline, a cap on sends in flight, the ledger.

A route is the senders that can do a job, in the order of failover. Failover happens only where it
can help: `Unavailable` moves on, `Rejected` and `Misconfigured` end the route, `Unknown` lets a
code, and only a code, go once more by another sender. Every try is a message in the ledger,
written before the gateway is asked and again when it has answered; no transaction is open in
between.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import ClassVar, TypeVar

from sqlalchemy import update
from sqlalchemy.orm import Session

from .breaker import Breakers
from .errors import (
    ChannelUnavailable,
    ConfigurationError,
    Misconfigured,
    Rejected,
    SenderError,
    SendFailed,
    StoreUnavailable,
    Unavailable,
    Unknown,
)
from .ledger import Ledger
from .models import Message
from .senders.base import Capability, CodeMessage, Receipt, Sender, Status, Text
from .senders.http import deadline, remaining
from .text import parts

log = logging.getLogger(__name__)

_T = TypeVar("_T")

#: With less than this many seconds left, no further sender is tried.
_WORTH_A_TRY = 0.5
#: Threads for what nobody waits for.
_WORKERS = 4


@dataclass(frozen=True, slots=True)
class CodeOrder:
    """A code to bring.

    :param own: the message with a code of ours.
    :param claim_native: asked, in the transaction that opens the message, whether this sender's
        native code may be used; it notes that it is.
    :param release_native: told that this sender's native code did not go out after all.
    :param claim_own: told, likewise, that a code of ours is on its way.
    :param pay_again: asked before a second copy goes out; raises or answers False to forbid it.
    """

    challenge_id: str
    user_id: str | None
    own: CodeMessage
    claim_native: Callable[[Session, str], bool]
    release_native: Callable[[str], None]
    claim_own: Callable[[Session], None]
    pay_again: Callable[[], bool]

    def __repr__(self) -> str:
        return f"<CodeOrder for challenge {self.challenge_id[:8]}…>"


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of an order.

    :param state: the receipt's status, or `unknown` where every answer left it open.
    :param sender: whose answer that is.
    """

    state: Status
    sender: str
    native: bool
    message_id: str


class Routes:
    """The configured senders, and the order in which each job tries them.

    :param senders: by name, in the order of the configuration.
    :param order: `sms`, `voice` and `text` → names, as in `SMSVERIFY_ROUTES`; a job left out gets
        every sender that can do it.
    :raises ConfigurationError: a route names a sender that cannot do its job.
    """

    _JOBS: ClassVar[Mapping[str, frozenset[Capability]]] = {
        "sms": frozenset({Capability.CODE_SMS, Capability.NATIVE_CODE}),
        "voice": frozenset({Capability.CODE_VOICE}),
        "text": frozenset({Capability.TEXT}),
    }

    def __init__(self, senders: Mapping[str, Sender], order: Mapping[str, Sequence[str]]) -> None:
        self.senders = dict(senders)
        self._routes: dict[str, list[Sender]] = {}
        for job, needed in self._JOBS.items():
            able = [sender for sender in senders.values() if sender.capabilities & needed]
            if job in order:
                route = [senders[name] for name in order[job]]
                unable = [sender.name for sender in route if sender not in able]
                if unable:
                    raise ConfigurationError(
                        f"SMSVERIFY_ROUTES[{job!r}] names {unable[0]!r}, whose gateway or options "
                        f"cannot do that"
                    )
            else:
                route = able
            self._routes[job] = route

    def route(self, job: str) -> list[Sender]:
        """The senders for `sms`, `voice` or `text`, in order; may be empty."""
        return self._routes[job]

    def can(self, job: str) -> bool:
        """Whether anybody can do it."""
        return bool(self._routes[job])

    def close(self) -> None:
        """Close every sender's connections."""
        for sender in self.senders.values():
            sender.close()


class Delivery:
    """Walks routes.

    :param seconds: for a whole route, failover included (`SMSVERIFY_SEND_DEADLINE`).
    :param in_flight: how many calls of this process may wait for one sender at a time.
    """

    def __init__(
        self,
        ledger: Ledger,
        routes: Routes,
        *,
        seconds: float,
        in_flight: int,
        clock: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._workers: ThreadPoolExecutor | None = None
        self._pending: set[Future[None]] = set()
        self._in_flight = in_flight
        self._use(routes)

    def _use(self, routes: Routes) -> None:
        self.routes = routes
        self._breakers = Breakers()
        self._free = {name: threading.BoundedSemaphore(self._in_flight) for name in routes.senders}

    def breaker_state(self, sender: str) -> str:
        """`closed` (in use), `opened` (resting) or `half-opened` (being probed)."""
        return self._breakers.state(sender)

    @contextlib.contextmanager
    def rerouted(self, routes: Routes) -> Iterator[None]:
        """Send everything in this block through other routes; for tests."""
        before = self.routes
        self._use(routes)
        try:
            yield
        finally:
            self.settle()
            self._use(before)

    def send_code(self, order: CodeOrder) -> Delivered:
        """Bring a code through its channel's route.

        :returns: the first receipt; or `unknown`, where a gateway may have sent it and none said.
        :raises ChannelUnavailable: the route has no sender.
        :raises SendFailed: nobody sent it, for certain.
        """
        route = self.routes.route(order.own.channel)
        if not route:
            raise ChannelUnavailable(order.own.channel)
        causes: list[SenderError] = []
        open_ended: Delivered | None = None
        with deadline(self._seconds):
            for sender in self._in_use(route):
                if (remaining() or 0) < _WORTH_A_TRY:
                    break
                if open_ended is not None and not order.pay_again():
                    break
                message = self._open(order, sender)
                if message is None:
                    continue
                native = message.kind == "native_code"
                try:
                    receipt = self._call(sender, order.own, native=native)
                except SenderError as error:
                    self._note_failure(message, error)
                    causes.append(error)
                    if native and not isinstance(error, Unknown):
                        order.release_native(sender.name)
                    if isinstance(error, Unknown):
                        if open_ended is not None:
                            break  # one more copy was tried; a third would help nobody
                        open_ended = Delivered(Status.UNKNOWN, sender.name, native, message.id)
                    elif isinstance(error, Rejected | Misconfigured):
                        break
                    continue
                self._note_receipt(message, receipt)
                return Delivered(receipt.status, sender.name, native, message.id)
        if open_ended is not None:
            return open_ended
        raise SendFailed(causes)

    def send_text(self, text: Text, *, kind: str = "notice") -> Receipt:
        """Send an ordinary text through its route. One that may have gone out does not go again.

        :raises ChannelUnavailable: no sender can send texts.
        :raises SendFailed: nobody sent it, or nobody said so.
        """
        route = self.routes.route("text")
        if not route:
            raise ChannelUnavailable("text")
        causes: list[SenderError] = []
        with deadline(self._seconds):
            for sender in self._in_use(route):
                if (remaining() or 0) < _WORTH_A_TRY:
                    break
                message = self._new_message(
                    kind=kind, sender=sender, recipient=text.to, channel="sms", text=text.text
                )
                self._ledger.run(partial(_add, row=message))
                try:
                    receipt = self._held(sender, partial(sender.send_text, text.to, text.text))
                except SenderError as error:
                    self._note_failure(message, error)
                    causes.append(error)
                    if isinstance(error, Unavailable):
                        continue
                    break
                self._note_receipt(message, receipt)
                return receipt
        raise SendFailed(causes)

    def in_background(self, work: Callable[..., None], *arguments: object) -> None:
        """Do work that nobody waits for in a worker thread; what it raises is logged."""

        def guarded() -> None:
            try:
                work(*arguments)
            except Exception:  # the last frame of a thread: there is nobody above to tell
                log.exception("work in the background failed")

        with self._lock:
            if self._workers is None:
                self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="smsverify")
            self._pending = {job for job in self._pending if not job.done()}
            self._pending.add(self._workers.submit(guarded))

    def settle(self) -> None:
        """Wait until everything in the background is done."""
        with self._lock:
            pending = set(self._pending)
        wait(pending)

    def close(self) -> None:
        """Finish what is in the background, and close every sender's connections."""
        self.settle()
        with self._lock:
            if self._workers is not None:
                self._workers.shutdown()
                self._workers = None
        self.routes.close()

    def check_native_code(self, sender_name: str, mobile: str, code: str) -> bool:
        """The verdict of the gateway that made the code.

        :raises SenderError: there is none; `written` says whether the question had left us.
        """
        sender = self.routes.senders.get(sender_name)
        if sender is None:
            raise Unavailable(sender_name, "it is not configured any more", written=False)
        with deadline(self._seconds):
            return self._held(sender, partial(sender.check_native_code, mobile, code))

    # --- one sender ----------------------------------------------------------------------------

    def _in_use(self, route: Sequence[Sender]) -> list[Sender]:
        """The route without the senders that are resting; the whole of it where all of them are."""
        return [sender for sender in route if not self._breakers.is_resting(sender.name)] or [
            *route
        ]

    def _call(self, sender: Sender, message: CodeMessage, *, native: bool) -> Receipt:
        if native:
            return self._held(sender, partial(sender.send_native_code, message.to))
        return self._held(sender, partial(sender.send_code, message))

    def _held(self, sender: Sender, call: Callable[[], _T]) -> _T:
        """Make a call within the cap on calls in flight; a full house is as good as a busy one."""
        free = self._free[sender.name]
        if not free.acquire(blocking=False):
            raise Unavailable(sender.name, "too many calls are waiting for it", written=False)
        try:
            with self._breakers.watching(sender.name):
                return call()
        except SenderError as error:
            level = logging.ERROR if isinstance(error, Misconfigured) else logging.WARNING
            log.log(level, "%s: %s", type(error).__name__, error)
            raise
        finally:
            free.release()

    # --- the ledger ----------------------------------------------------------------------------

    def _open(self, order: CodeOrder, sender: Sender) -> Message | None:
        """Note, before the gateway is asked, that it will be; None where it has nothing to do."""
        can_own = (
            Capability.CODE_SMS if order.own.channel == "sms" else Capability.CODE_VOICE
        ) in sender.capabilities
        can_native = order.own.channel == "sms" and Capability.NATIVE_CODE in sender.capabilities

        def work(session: Session) -> Message | None:
            if can_native and order.claim_native(session, sender.name):
                kind = "native_code"
            elif can_own:
                order.claim_own(session)
                kind = "code"
            else:
                return None
            message = self._new_message(
                kind=kind,
                sender=sender,
                recipient=order.own.to,
                channel=order.own.channel,
                text=order.own.text if kind == "code" else None,
                challenge_id=order.challenge_id,
                user_id=order.user_id,
            )
            session.add(message)
            return message

        return self._ledger.run(work)

    def _new_message(
        self,
        *,
        kind: str,
        sender: Sender,
        recipient: str,
        channel: str,
        text: str | None,
        challenge_id: str | None = None,
        user_id: str | None = None,
    ) -> Message:
        now = self._clock()
        return Message(
            id=secrets.token_hex(16),
            kind=kind,
            challenge_id=challenge_id,
            user_id=user_id,
            recipient=recipient,
            channel=channel,
            sender=sender.name,
            state=Message.SENDING,
            parts=parts(text) if text is not None and channel == "sms" else None,
            created_at=now,
            updated_at=now,
        )

    def _note_receipt(self, message: Message, receipt: Receipt) -> None:
        self._note(message, state=str(receipt.status), gateway_id=receipt.id)

    def _note_failure(self, message: Message, error: SenderError) -> None:
        state = str(Status.UNKNOWN) if isinstance(error, Unknown) else Message.FAILED
        self._note(message, state=state, reason=error.reason[:191])

    def _note(self, message: Message, **values: object) -> None:
        """Write the outcome down. The gateway has acted already, so what fails here fails alone."""
        statement = update(Message).where(Message.id == message.id)
        statement = statement.values(updated_at=self._clock(), **values)
        try:
            self._ledger.run(lambda session: session.execute(statement))
        except StoreUnavailable:
            log.exception("the outcome of message %s could not be written down", message.id)


def _add(session: Session, row: Message) -> None:
    session.add(row)
