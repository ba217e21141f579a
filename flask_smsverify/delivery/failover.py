"""Failover: try the senders of a route in order until one accepts the message.

Failover happens only if it can help. After `Unavailable`, the next sender is tried. `Rejected` and
`Misconfigured` end the route. After `Unknown` the message may have been sent: a code may be sent
once more by another sender, an ordinary text may not. Every try is an attempt in the ledger,
written before the gateway is called and again when it has answered. No transaction is open in
between.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from sqlalchemy.orm import Session

from ..db.ids import new_id
from ..db.ledger import Ledger
from ..db.models import Attempt, Message
from ..errors import (
    ChannelUnavailable,
    Misconfigured,
    Rejected,
    SenderError,
    SendFailed,
    StoreUnavailable,
    Unavailable,
    Unknown,
)
from ..forks import after_fork
from ..i18n.segments import count_segments
from ..senders.base import Capability, DeliveryState, Pattern, Receipt, Sender, Text
from ..senders.deadline import deadline, remaining
from .attempts import Attempts
from .breaker import Breakers
from .calls import SenderCalls
from .routes import Routes

#: With fewer seconds left, no further sender is tried.
_MIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Delivered:
    """The outcome of a delivery.

    :param state: the receipt's status; `unknown` if no gateway said whether it sent the message.
    :param sender: the name of the sender that answered.
    :param native: whether the gateway generated the code.
    """

    state: DeliveryState
    sender: str
    native: bool


class Job(Protocol):
    """A message to deliver, and how far failover may go for it."""

    @property
    def kind(self) -> str:
        """The kind that its senders must be able to send: `sms`, `voice`, `text` or `event`."""

    @property
    def message(self) -> Message:
        """The message, as stored or about to be stored by `open_attempt`."""

    def can_use(self, sender: Sender) -> bool:
        """Return whether a sender may be tried now. Called outside of transactions."""

    def open_attempt(self, session: Session, sender: Sender) -> Attempt | None:
        """Add the next attempt to the session; return None to skip this sender."""

    def call(self, sender: Sender, attempt: Attempt) -> Receipt:
        """Pass the message to the sender."""

    def may_send_second_copy(self) -> bool:
        """Return whether the message may be sent again although the first copy may have been sent.

        Asked once, before the first attempt at a second copy.
        """

    def second_copy_failed(self) -> None:
        """Undo what `may_send_second_copy` reserved: no second copy was sent."""

    def attempt_failed(self, attempt: Attempt) -> None:
        """Undo what `open_attempt` reserved: this attempt certainly sent nothing."""


@dataclass(slots=True)
class _Progress:
    """How far a delivery has come.

    :param opened: an attempt that was written before the delivery began and is not used yet. Until
        then, its message has no other.
    :param first_copy: the attempt that may have sent the message without a receipt.
    :param second_copy_allowed: the answer of `may_send_second_copy`; None before it was asked.
    """

    opened: Attempt | None = None
    causes: list[SenderError] = field(default_factory=list)
    first_copy: Delivered | None = None
    second_copy_allowed: bool | None = None


class Delivery:
    """Delivers messages through the configured routes.

    :param seconds: the deadline of a whole route, in seconds (`SMSVERIFY_SEND_DEADLINE`).
    :param in_flight: how many calls of this process may wait for one sender at a time.
    :param context: returns the context in which senders' code runs, such as an app context: a
        gateway may be the host's.
    """

    def __init__(
        self,
        ledger: Ledger,
        routes: Routes,
        attempts: Attempts,
        *,
        seconds: float,
        in_flight: int,
        context: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.context = context
        self._ledger = ledger
        self._attempts = attempts
        self._seconds = seconds
        self._in_flight = in_flight
        self.use_routes(routes)
        after_fork(self._reset_after_fork)

    def use_routes(self, routes: Routes) -> None:
        """Replace the routes, with new breakers."""
        self.routes = routes
        self._calls = SenderCalls(routes.senders, self._in_flight, context=self.context)

    def _reset_after_fork(self) -> None:
        self.use_routes(self.routes)

    @property
    def breakers(self) -> Breakers:
        """The senders' breakers in this process."""
        return self._calls.breakers

    @contextlib.contextmanager
    def rerouted(self, routes: Routes) -> Iterator[None]:
        """Use other routes within the block, for tests."""
        before = self.routes
        self.use_routes(routes)
        try:
            yield
        finally:
            self.use_routes(before)

    def close(self) -> None:
        """Close the connections of every sender."""
        self.routes.close()

    def first_sender(self, kind: str) -> Sender | None:
        """Return the sender that would be tried first now; None for an empty route."""
        senders = self.routes.route(kind)
        admitted = (sender for sender in senders if self.breakers.would_admit(sender.name))
        return next(admitted, senders[0] if senders else None)

    def deliver(self, job: Job, opened: Attempt | None = None) -> Delivered:
        """Try the senders of the job's route in order.

        :param opened: the first attempt, if it was written with the message. It is used if its
            sender's turn comes first.
        :returns: the first receipt, or `unknown` if a gateway may have sent the message.
        :raises ChannelUnavailable: the route is empty.
        :raises SendFailed: certainly nothing was sent.
        :raises StoreUnavailable: an attempt could not be recorded, and nothing was sent.
        """
        return self._deliver(job, _Progress(opened=opened))

    def _deliver(
        self, job: Job, progress: _Progress, route: Sequence[Sender] | None = None
    ) -> Delivered:
        if route is None:
            route = self.routes.route(job.kind)
        if not route:
            raise ChannelUnavailable("text" if job.kind == "event" else job.kind)
        with deadline(self._seconds), contextlib.closing(self._in_order(route)) as turns:
            for sender, is_admitted in turns:
                if progress.causes and (remaining() or 0) < _MIN_SECONDS:
                    break
                if progress.first_copy is not None and not (
                    is_admitted and self._may_send_second_copy(job, progress)
                ):
                    break
                opened = progress.opened
                try:
                    attempt = self._next_attempt(job, sender, progress)
                except StoreUnavailable:
                    if progress.first_copy is None:
                        raise
                    break
                if attempt is None:
                    continue
                is_only = attempt is opened
                delivered = self._try(job, sender, attempt, progress, is_only=is_only)
                if delivered is not None:
                    return delivered
                if isinstance(progress.causes[-1], Rejected | Misconfigured):
                    break
        if progress.second_copy_allowed:
            job.second_copy_failed()
        if progress.first_copy is not None:
            return progress.first_copy
        raise SendFailed(progress.causes)

    def _try(
        self, job: Job, sender: Sender, attempt: Attempt, progress: _Progress, *, is_only: bool
    ) -> Delivered | None:
        """Call one sender. Return the outcome, or None if the next sender may be tried.

        :param is_only: whether the message has no other attempt.
        """
        try:
            receipt = self._calls.send(sender, lambda: job.call(sender, attempt))
        except SenderError as error:
            self._attempts.record_failure(job.message, attempt, sender, error, is_only=is_only)
            progress.causes.append(error)
            if not isinstance(error, Unknown):
                job.attempt_failed(attempt)
                return None
            if progress.first_copy is not None:
                return progress.first_copy  # two copies may be out; a third would not help
            progress.first_copy = Delivered(DeliveryState.UNKNOWN, sender.name, attempt.native)
            return None
        self._attempts.record_receipt(job.message, attempt, sender, receipt, is_only=is_only)
        return Delivered(receipt.status, sender.name, attempt.native)

    def _may_send_second_copy(self, job: Job, progress: _Progress) -> bool:
        if progress.second_copy_allowed is None:
            progress.second_copy_allowed = job.may_send_second_copy()
        return progress.second_copy_allowed

    def _next_attempt(self, job: Job, sender: Sender, progress: _Progress) -> Attempt | None:
        """Return the attempt that is written for this sender; None to skip it."""
        opened, progress.opened = progress.opened, None
        if opened is not None and opened.sender == sender.name:
            return opened
        if opened is not None:  # its breaker opened meanwhile
            first = self.routes.senders[opened.sender]
            error = first.make_error(Unavailable, "skipped until it recovers", written=False)
            self._attempts.record_failure(job.message, opened, first, error, is_only=True)
            job.attempt_failed(opened)
        return self._open_attempt(job, sender) if job.can_use(sender) else None

    def _open_attempt(self, job: Job, sender: Sender) -> Attempt | None:
        def work(session: Session) -> Attempt | None:
            attempt = job.open_attempt(session, sender)
            if attempt is not None:
                session.add(attempt)
            return attempt

        return self._ledger.run(work)

    def _in_order(self, route: Sequence[Sender]) -> Generator[tuple[Sender, bool], None, None]:
        """Yield the senders of a route with whether their breaker admits the call.

        Senders with an open breaker come last, because a failing sender is better than none. When
        a breaker is due for a probe, it admits one caller at a time, until the generator moves on.
        """
        skipped = []
        for sender in route:
            with self.breakers.admit(sender.name) as is_admitted:
                if is_admitted:
                    yield sender, True
                else:
                    skipped.append(sender)
        for sender in skipped:
            yield sender, False

    def send_batch(self, sender: Sender, texts: Sequence[Text]) -> list[Receipt]:
        """Send several texts with one call of one sender, and return a receipt for each.

        :raises SenderError: the failure of the whole call.
        """
        with deadline(self._seconds):
            return self._calls.send_batch(sender, texts)

    def send_text(
        self,
        text: Text,
        *,
        event: str | None = None,
        patterns: Mapping[str, Pattern] = MappingProxyType({}),
        sender: Sender | None = None,
    ) -> Delivered:
        """Send an ordinary text. It is never sent twice.

        :param event: the event that the text reports.
        :param patterns: sender → the pattern that this sender sends instead of the text. A missing
            sender sends the text if it can.
        :param sender: the only sender to try; by default those of the route of texts.
        :raises ChannelUnavailable: no sender can send the text or a pattern.
        :raises SendFailed: nothing was sent, or it is unknown whether it was.
        """
        job = _TextJob(text, self._attempts, event, patterns)
        route = self.routes.route(job.kind) if sender is None else [sender]
        if not any(map(job.can_use, route)):
            raise ChannelUnavailable("text")
        progress = _Progress()
        delivered = self._deliver(job, progress, route)
        if delivered.state is DeliveryState.UNKNOWN:
            raise SendFailed(progress.causes)
        return delivered

    def check_native_code(self, sender_name: str, mobile: str, code: str) -> bool:
        """Return a native gateway's verdict on a code.

        :raises SenderError: it gave none; `written` says if the gateway may have seen the code.
        """
        sender = self.routes.senders.get(sender_name)
        if sender is None:
            raise Unavailable(sender_name, "it is no longer configured", written=False)
        with deadline(self._seconds):
            return self._calls.check_native_code(sender, mobile, code)


class _TextJob:
    """An ordinary text or its pattern: one message, and no second copy after `Unknown`."""

    kind = "event"

    def __init__(
        self,
        text: Text,
        attempts: Attempts,
        event: str | None,
        patterns: Mapping[str, Pattern],
    ) -> None:
        self._text = text
        self._attempts = attempts
        self._event = event
        self._patterns = patterns
        self._message: Message | None = None

    @property
    def message(self) -> Message:
        assert self._message is not None  # noqa: S101 -- set by the first attempt
        return self._message

    def can_use(self, sender: Sender) -> bool:
        return sender.name in self._patterns or Capability.TEXT in sender.capabilities

    def open_attempt(self, session: Session, sender: Sender) -> Attempt:
        message_id = self._message.id if self._message else new_id()
        attempt = self._attempts.new(message_id, sender)
        if self._message is None:
            self._message = Message(
                id=message_id,
                kind=Message.NOTICE,
                event=self._event,
                recipient=self._text.to,
                channel="sms",
                state=Attempt.SENDING,
                created_at=attempt.created_at,
                updated_at=attempt.created_at,
            )
        is_pattern = sender.name in self._patterns
        self._message.parts = None if is_pattern else count_segments(self._text.text)
        session.merge(self._message)
        return attempt

    def call(self, sender: Sender, attempt: Attempt) -> Receipt:  # noqa: ARG002 -- the interface's
        pattern = self._patterns.get(sender.name)
        if pattern is not None:
            return sender.send_pattern(self._text.to, pattern, reference=self._text.reference)
        return sender.send_text(self._text.to, self._text.text, reference=self._text.reference)

    def may_send_second_copy(self) -> bool:
        return False

    def second_copy_failed(self) -> None:
        return None

    def attempt_failed(self, attempt: Attempt) -> None:  # noqa: ARG002 -- the interface's
        return None
