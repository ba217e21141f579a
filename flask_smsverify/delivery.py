"""Send one thing through a route: failover, deadline, a cap on sends in flight, the ledger.

A route is the senders that can do a job, in the order of failover; one that rests comes last.
Failover happens only where it can help: `Unavailable` moves on, `Rejected` and `Misconfigured` end
the route, `Unknown` lets a code, and only a code, go once more by another sender. Every try is a
message in the ledger, written before the gateway is asked and again when it has answered; no
transaction is open in between.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import ClassVar, TypeVar

from blinker import NamedSignal
from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from . import signals
from .breaker import Breakers
from .errors import (
    ChannelUnavailable,
    ConfigurationError,
    Misconfigured,
    Rejected,
    SenderError,
    SendFailed,
    SMSVerifyError,
    StoreUnavailable,
    Unavailable,
    Unknown,
    place_of,
)
from .forks import after_fork
from .ledger import Ledger
from .models import Message
from .phone import mask
from .senders.base import (
    Capability,
    CodeMessage,
    Incoming,
    Receipt,
    Report,
    Sender,
    Status,
    Text,
)
from .senders.http import deadline, remaining
from .text import parts

log = logging.getLogger(__name__)

_T = TypeVar("_T")

#: With less than this many seconds left, no second sender is tried.
_WORTH_A_TRY = 0.5
#: The longest id of a gateway that `Message.gateway_id` holds.
_LONGEST_ID = 128
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
    :param pay_again: asked before a second copy goes out; answers False to forbid it.
    :param repay: told that the second copy, which was paid for, did not go out after all.
    """

    challenge_id: str
    user_id: str | None
    own: CodeMessage
    claim_native: Callable[[Session, str], bool]
    release_native: Callable[[str], None]
    claim_own: Callable[[Session], None]
    pay_again: Callable[[], bool]
    repay: Callable[[], None]

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


@dataclass(slots=True)
class _Walk:
    """How far an order has come along its route.

    :param open_ended: the first copy that may be on its way though nobody said so.
    :param paid: whether a second copy is paid for.
    :param over: whether asking further senders would not help.
    """

    causes: list[SenderError] = field(default_factory=list)
    open_ended: Delivered | None = None
    paid: bool = False
    over: bool = False


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
                route = [senders[name] for name in dict.fromkeys(order[job])]
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
    :param emit: sends a signal.
    :param noted: told by sender and gateway ids of receipts that were written down, where that
        gateway reports by itself.
    """

    def __init__(
        self,
        ledger: Ledger,
        routes: Routes,
        *,
        seconds: float,
        in_flight: int,
        emit: Callable[..., None],
        clock: Callable[[], datetime],
        noted: Callable[[str, Sequence[str]], None] | None = None,
    ) -> None:
        self._ledger = ledger
        self._emit = emit
        self._noted = noted
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._workers: ThreadPoolExecutor | None = None
        self._pending: set[Future[None]] = set()
        self._in_flight = in_flight
        self._use(routes)
        after_fork(self._begin_anew)

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
        self.settle()
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
        :raises StoreUnavailable: a message could not be noted, and nobody was asked to send it.
        """
        route = self.routes.route(order.own.channel)
        if not route:
            raise ChannelUnavailable(order.own.channel)
        walk = _Walk()
        with deadline(self._seconds), contextlib.closing(self._in_turn(route)) as turns:
            for sender, rests in turns:
                if walk.causes and not _worth_a_try():
                    break
                if not self._may_go(order, walk, rests=rests):
                    break
                delivered = self._try(order, sender, walk)
                if delivered is not None:
                    return delivered
                if walk.over:
                    break
        if walk.paid:
            order.repay()
        if walk.open_ended is not None:
            return walk.open_ended
        raise SendFailed(walk.causes)

    def _may_go(self, order: CodeOrder, walk: _Walk, *, rests: bool) -> bool:
        """Whether one more sender may be asked; a second copy is paid for, once.

        For the sake of a second copy nobody waits for a sender at fault.
        """
        if walk.open_ended is None:
            return True
        if rests:
            return False
        if walk.paid:
            return True
        try:
            walk.paid = order.pay_again()
        except StoreUnavailable:
            return False
        return walk.paid

    def _try(self, order: CodeOrder, sender: Sender, walk: _Walk) -> Delivered | None:
        """Ask one sender: what came of the order, or None where the next is to be asked."""
        try:
            message = self._open(order, sender)
        except StoreUnavailable:
            if walk.open_ended is None:
                raise
            walk.over = True  # something may be on its way already, so this is no failure
            return None
        if message is None:
            return None
        native = message.kind == "native_code"
        try:
            receipt = self._call(sender, order.own, native=native)
        except SenderError as error:
            self._note_failure(message, error)
            walk.causes.append(error)
            if isinstance(error, Unknown):
                if walk.open_ended is not None:
                    return walk.open_ended  # a second copy may be out; a third helps nobody
                walk.open_ended = Delivered(Status.UNKNOWN, sender.name, native, message.id)
            elif native:
                self._release_native(order, sender)
            walk.over = isinstance(error, Rejected | Misconfigured)
            return None
        self._note_receipt(sender, message, receipt)
        return Delivered(receipt.status, sender.name, native, message.id)

    def send_text(self, text: Text, *, kind: str = "notice") -> Receipt:
        """Send an ordinary text through its route. One that may have gone out does not go again.

        :raises ChannelUnavailable: no sender can send texts.
        :raises SendFailed: nobody sent it, or nobody said so.
        """
        route = self.routes.route("text")
        if not route:
            raise ChannelUnavailable("text")
        causes: list[SenderError] = []
        with deadline(self._seconds), contextlib.closing(self._in_turn(route)) as turns:
            for sender, _ in turns:
                if causes and not _worth_a_try():
                    break
                message = self._new_message(
                    kind=kind, sender=sender, recipient=text.to, channel="sms", text=text.text
                )
                self._ledger.run(partial(_add, row=message))
                send = partial(sender.send_text, text.to, text.text, reference=text.reference)
                try:
                    receipt = self._sent(sender, send)
                except SenderError as error:
                    self._note_failure(message, error)
                    causes.append(error)
                    if isinstance(error, Unavailable):
                        continue
                    break
                self._note_receipt(sender, message, receipt)
                return receipt
        raise SendFailed(causes)

    def in_background(self, work: Callable[..., None], *arguments: object) -> None:
        """Do work that nobody waits for in a worker thread; what it raises is logged."""

        def guarded() -> None:
            try:
                work(*arguments)
            except SMSVerifyError as error:
                log.warning("work in the background failed: %s", error)
            except Exception:  # the last frame of a thread: there is nobody above to tell
                log.exception("work in the background failed")

        with self._lock:
            if self._workers is None:
                self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="smsverify")
            self._pending = {job for job in self._pending if not job.done()}
            self._pending.add(self._workers.submit(guarded))

    def _begin_anew(self) -> None:
        """In a forked process: the parent's threads are not here, whatever they were doing."""
        self._lock = threading.Lock()
        self._workers, self._pending = None, set()
        self._use(self.routes)

    def settle(self) -> None:
        """Wait until everything in the background is done, and what that has begun."""
        while True:
            with self._lock:
                pending = {job for job in self._pending if not job.done()}
            if not pending:
                return
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
        ask = partial(sender.check_native_code, mobile, code)
        with deadline(self._seconds):
            verdict: object = self._held(sender, ask)
        if not isinstance(verdict, bool):
            raise Unknown(sender.name, "its verdict is neither yes nor no")
        return verdict

    def read_push(self, sender: Sender, said: object) -> list[Incoming | Report]:
        """What a gateway tells by calling our hook.

        :raises Unknown: it is nothing that this gateway says.
        """
        return _with_errors_of_ours(sender, lambda: list(map(_checked, sender.read_push(said))))

    # --- one sender ----------------------------------------------------------------------------

    def _in_turn(self, route: Sequence[Sender]) -> Generator[tuple[Sender, bool], None, None]:
        """The route's senders, each with whether it rests; those come last, better than nobody.

        A sender whose rest is over has its turn with one caller at a time; closing the generator
        ends the turn.
        """
        resting = []
        for sender in route:
            with self._breakers.turn(sender.name) as in_use:
                if in_use:
                    yield sender, False
                else:
                    resting.append(sender)
        for sender in resting:
            yield sender, True

    def _release_native(self, order: CodeOrder, sender: Sender) -> None:
        """Release the claim; what fails here shall not hide what the gateway said."""
        try:
            order.release_native(sender.name)
        except StoreUnavailable:
            log.exception("the claim on a code of %s could not be released", sender.name)

    def _call(self, sender: Sender, message: CodeMessage, *, native: bool) -> Receipt:
        if native:
            return self._sent(sender, partial(sender.send_native_code, message.to))
        return self._sent(sender, partial(sender.send_code, message))

    def _sent(self, sender: Sender, send: Callable[[], Receipt]) -> Receipt:
        """Make a call that sends. A receipt that says no is as good as the error that says so."""

        def sent() -> Receipt:
            receipt = send()
            if receipt.error is not None:
                raise receipt.error
            if receipt.status in (Status.REJECTED, Status.UNDELIVERED):
                raise Rejected(sender.name, "its receipt says that it was not sent")
            if receipt.status is Status.UNKNOWN:
                raise Unknown(sender.name, "its receipt does not say whether it was sent")
            return receipt

        return self._held(sender, sent)

    def _held(self, sender: Sender, call: Callable[[], _T]) -> _T:
        """Make a call within the cap on calls in flight; a full house is as good as a busy one."""
        free = self._free[sender.name]
        if not free.acquire(blocking=False):
            raise Unavailable(sender.name, "too many calls are waiting for it", written=False)
        try:
            with self._breakers.watching(sender.name):
                return _with_errors_of_ours(sender, call)
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

    def _note_receipt(self, sender: Sender, message: Message, receipt: Receipt) -> None:
        # An id that the column cannot hold would be of no use cut short.
        fits = receipt.id is not None and len(receipt.id) <= _LONGEST_ID
        gateway_id = receipt.id if fits else None
        self._note(message, state=str(receipt.status), gateway_id=gateway_id)
        if self._noted is not None and gateway_id is not None and sender.push_methods:
            try:
                self._noted(sender.name, [gateway_id])
            except (StoreUnavailable, ConfigurationError, SQLAlchemyError):  # it went out already
                log.exception("no report could be looked for on message %s", message.id)
        self._announce(signals.message_sent, message, gateway=message.sender)

    def _note_failure(self, message: Message, error: SenderError) -> None:
        state = str(Status.UNKNOWN) if isinstance(error, Unknown) else Message.FAILED
        self._note(message, state=state, reason=error.reason[:191])
        if state == Message.FAILED:
            self._announce(signals.message_failed, message, gateway=message.sender)

    def _announce(self, signal: NamedSignal, message: Message, **values: str) -> None:
        self._emit(
            signal,
            message_id=message.id,
            kind=message.kind,
            mobile=mask(message.recipient),
            **values,
        )

    def _note(self, message: Message, **values: object) -> None:
        """Write the outcome down. The gateway has acted already, so what fails here fails alone."""
        statement = update(Message).where(Message.id == message.id)
        statement = statement.values(updated_at=self._clock(), **values)
        try:
            self._ledger.run(lambda session: session.execute(statement))
        except (StoreUnavailable, SQLAlchemyError, ValueError):  # the last: not to be encoded
            log.exception("the outcome of message %s could not be written down", message.id)


def _add(session: Session, row: Message) -> None:
    session.add(row)


def _worth_a_try() -> bool:
    return (remaining() or 0) >= _WORTH_A_TRY


def _checked(item: object) -> Incoming | Report:
    """What a sender read, where it is of a kind that the ledger takes; raises whatever it is not.

    :raises ValueError: an id with half a character or NUL, a state that there is not.
    """
    if isinstance(item, Report):
        if "\0" in item.id:
            raise ValueError("an id with NUL")
        item.id.encode()
        return Report(item.id, Status(item.status))
    if not isinstance(item, Incoming):
        raise TypeError("neither a message nor a report")
    if not all(isinstance(text, str) for text in (item.id, item.sender, item.line, item.text)):
        raise TypeError("a message that is not all text")
    if item.received_at is not None and item.received_at.tzinfo is None:
        raise ValueError("a time without a zone")
    received_at = item.received_at and item.received_at.astimezone(UTC)
    return replace(item, received_at=received_at)


def _with_errors_of_ours(sender: Sender, call: Callable[[], _T]) -> _T:
    """Make a call; a mistake in a sender's own code means what no answer means.

    :raises Unknown: anything but an error of ours was raised. Its place is logged and its words
        are not, for they may hold what was sent.
    """
    try:
        return call()
    except SMSVerifyError:
        raise
    except Exception as error:  # noqa: BLE001 -- a host's own gateway may raise anything
        log.error("%s raised %s", sender.name, place_of(error))  # noqa: TRY400 -- see above
        failure = Unknown(sender.name, f"its code raised {type(error).__name__}")
    # Raised out here, so that what was raised does not hang on it as a context.
    raise failure
