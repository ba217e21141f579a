"""Dispatch: send the event texts that are due, and retry or close those that were not sent.

A text is tried again only if it certainly was not sent and a later try may help, at most
`MAX_RETRIES` times. The waits have full jitter, so that many texts do not come back at once.
"""

from __future__ import annotations

import json
import logging
import math
import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from ..db.models import Attempt, Message
from ..delivery.attempts import Attempts
from ..delivery.failover import Delivery
from ..errors import (
    ChannelUnavailable,
    ConfigurationError,
    LimitError,
    NotCarried,
    SenderError,
    SendFailed,
    StoreUnavailable,
    Unavailable,
)
from ..forks import Lock, after_fork
from ..limits.other_counts import Reservation
from ..log_events import log_event
from ..senders.base import Capability, Pattern, Receipt, Sender, Text
from .outbox import Lease, LeaseLostError, Outbox
from .quiet_hours import QuietUntil
from .text_limits import TextLimits
from .worker import run_in_threads

log = logging.getLogger(__name__)

#: How often a text is tried again after the first time.
MAX_RETRIES = 5
#: The longest wait in seconds before each retry.
_RETRY_SECONDS = (60, 240, 900, 3600, 4 * 3600)
#: The most rows that one thread leases at a time.
_LEASE_SIZE = 10
#: Seconds after which locked rows are tried again.
_LOCKED_SECONDS = 0.1


def retry_wait(tries: int) -> timedelta:
    """Return a random wait before the next try.

    :param tries: how often the route was walked before this time.
    """
    longest = _RETRY_SECONDS[min(tries, len(_RETRY_SECONDS) - 1)]
    return timedelta(seconds=random.uniform(0, longest))  # noqa: S311 -- no secret depends on it


class EventDispatcher:
    """Sends event texts from the outbox. Implements `worker.Queue`.

    :param threads: how many texts are sent at the same time.
    :param limits: count each text once.
    :param quiet_until: sender → when its quiet hours end; None if it may send now.
    """

    def __init__(
        self,
        outbox: Outbox,
        delivery: Delivery,
        attempts: Attempts,
        *,
        limits: TextLimits,
        quiet_until: QuietUntil,
        clock: Callable[[], datetime],
        threads: int,
    ) -> None:
        self.name = "events"
        self._threads = threads
        self._outbox = outbox
        self._delivery = delivery
        self._attempts = attempts
        self._limits = limits
        self._quiet_until = quiet_until
        self._clock = clock
        self._lock = Lock()
        self._reset()
        after_fork(self._reset)

    def _reset(self) -> None:
        """Start without leases, as a forked process does."""
        self._held: set[str] = set()

    def send_due(self, stop: threading.Event) -> int:
        """Send texts until none is due or the event is set.

        :returns: how many texts were leased.
        """
        is_quiet = self.quiet_until() is not None
        due = 0 if is_quiet else self._outbox.count_due(Message.EVENT, self._threads * _LEASE_SIZE)
        if not due:
            return 0
        # Each thread has its share of few texts, so that they do not wait for one another.
        threads = min(self._threads, due)
        size = math.ceil(due / threads)
        return run_in_threads(threads, lambda: self._send_due(stop, None, size))

    def send_ids(self, ids: Iterable[str], stop: threading.Event) -> int:
        """Send these texts if they are due."""
        return self._send_due(stop, list(ids), _LEASE_SIZE)

    def next_due(self) -> datetime | None:
        """Return when the next text may be sent."""
        due = self._outbox.next_due((Message.EVENT,))
        quiet = self.quiet_until() if due is not None else None
        return due if quiet is None or due is None else max(due, quiet)

    def _send_due(self, stop: threading.Event, ids: list[str] | None, size: int) -> int:
        count = 0
        while not stop.is_set() and self.quiet_until() is None:
            lease = self._outbox.lease(Message.EVENT, size, ids=ids)
            if not lease.found:
                if ids is None or not self._outbox.has_due(ids):
                    break
                # A lease skips rows that another transaction has locked: on MariaDB, also rows that
                # a lease of other texts only looks at. Another worker may find these ids late.
                stop.wait(_LOCKED_SECONDS)
            count += len(lease.messages)
            self._send_leased(lease, stop)
        return count

    def quiet_until(self) -> datetime | None:
        """Return when the first sender of texts may send; None if one may send now."""
        ends = [self._quiet_until(sender.name) for sender in self._delivery.routes.route("event")]
        known = [end for end in ends if end is not None]
        return min(known) if known and len(known) == len(ends) else None

    def abandon(self) -> int:
        """Record the unfinished attempts of this process's threads if they cannot be waited for.

        :returns: how many texts may have been sent.
        """
        with self._lock:
            held = list(self._held)
        return sum(map(self._outbox.abandon, held))

    def _send_leased(self, lease: Lease, stop: threading.Event) -> None:
        with self._lock:
            self._held.add(lease.token)
        try:
            for position, message in enumerate(lease.messages):
                if stop.is_set():
                    self._outbox.release(lease, lease.messages[position:])
                    return
                self._send(message, lease.token)
        finally:
            with self._lock:
                self._held.discard(lease.token)

    def _send(self, message: Message, token: str) -> None:
        """Send one text; if it was not sent, let it wait or close it."""
        taken = Reservation()
        try:
            if not message.tries:  # the tries after the first one took their unit with it
                taken = self._limits.reserve(message)
        except LimitError as error:
            self._limited(message, token, error)
            return
        job = _EventJob(message, token, self._outbox, self._attempts, self._quiet_until)
        if not any(map(job.is_sent_by, self._delivery.routes.route(job.kind))):
            cause = str(ChannelUnavailable("text"))
            self._outbox.close(message, token, Attempt.FAILED, cause, tries=message.tries + 1)
            return
        try:
            self._delivery.deliver(job)
        except SendFailed as error:
            self._not_sent(message, token, error, taken)
        except LeaseLostError as error:
            self._refund(taken)  # the worker that has the text counts it too
            log.warning("message %s: %s", message.id, error, extra=log_event("message_not_sent"))
        except (ChannelUnavailable, ConfigurationError) as error:
            log.error("message %s: %s", message.id, error, extra=log_event("message_not_sent"))  # noqa: TRY400 -- a traceback adds nothing
            self._outbox.close(message, token, Attempt.FAILED, str(error), tries=message.tries + 1)
        except StoreUnavailable as error:
            # The row is due again when the lease ends, and is counted again then.
            self._refund(taken)
            log.error("message %s: %s", message.id, error, extra=log_event("message_not_sent"))  # noqa: TRY400 -- likewise

    def _refund(self, taken: Reservation) -> None:
        """Refund the unit of a text that was not sent and will be counted again.

        A failed refund is only logged: the text waits all the same.
        """
        try:
            self._limits.refund(taken)
        except StoreUnavailable as error:
            log.error(  # noqa: TRY400 -- a traceback adds nothing
                "a unit of the limits of texts was not refunded: %s",
                error,
                extra=log_event("limit_not_refunded"),
            )

    def _limited(self, message: Message, token: str, error: LimitError) -> None:
        """Let a text wait for the site's limit; drop one that a stranger could cause."""
        scope, wait = getattr(error, "scope", ""), getattr(error, "retry_after", None)
        if scope == "messages" and wait is not None:
            until = self._clock() + timedelta(seconds=wait)
            self._outbox.postpone(message, token, until, tries=message.tries, cause=str(error))
            return
        self._outbox.close(
            message, token, Message.SKIPPED, f"the limit {scope} is used up", tries=message.tries
        )

    def _not_sent(
        self, message: Message, token: str, error: SendFailed, taken: Reservation
    ) -> None:
        may_help = may_retry_help(error.causes)
        quiet = self.quiet_until()
        if not error.causes and quiet is not None:  # the quiet hours began meanwhile
            self._refund(taken)
            self._outbox.postpone(message, token, quiet, tries=message.tries, cause=None)
            return
        reason = "; ".join(f"{cause.sender}: {cause.reason}" for cause in error.causes)
        if not may_help or message.tries >= MAX_RETRIES:
            self._outbox.close(message, token, Attempt.FAILED, reason, tries=message.tries + 1)
            return
        until = self._clock() + retry_wait(message.tries)
        self._outbox.postpone(message, token, until, tries=message.tries + 1, cause=reason)


def may_retry_help(causes: Sequence[SenderError]) -> bool:
    """Return whether the senders that failed may send the same text later.

    A gateway that does not accept the text or the number will not accept it later either.
    """
    if not causes:  # every sender was skipped
        return True
    is_temporary = all(isinstance(cause, Unavailable) for cause in causes)
    return is_temporary and not all(isinstance(cause, NotCarried) for cause in causes)


class _EventJob:
    """The delivery job of an event text. It is never sent twice."""

    kind = "event"

    def __init__(
        self,
        message: Message,
        token: str,
        outbox: Outbox,
        attempts: Attempts,
        quiet_until: QuietUntil,
    ) -> None:
        self.message = message
        self._token = token
        self._outbox = outbox
        self._attempts = attempts
        self._quiet_until = quiet_until
        self._patterns = _read_patterns(message)

    def is_sent_by(self, sender: Sender) -> bool:
        """Return whether a sender can send the text, or has a pattern for it."""
        return sender.name in self._patterns or Capability.TEXT in sender.capabilities

    def can_use(self, sender: Sender) -> bool:
        return self.is_sent_by(sender) and self._quiet_until(sender.name) is None

    def open_attempt(self, session: Session, sender: Sender) -> Attempt:
        self._outbox.hold(session, self.message.id, self._token)
        return self._attempts.new(self.message.id, sender)

    def call(self, sender: Sender, attempt: Attempt) -> Receipt:
        pattern = self._patterns.get(sender.name)
        if pattern is not None:
            return sender.send_pattern(self.message.recipient, pattern, reference=self.message.id)
        text = Text(
            self.message.recipient, self.message.text or "", self.message.id, call=attempt.id
        )
        [receipt] = sender.send_batch([text])
        return receipt

    def may_send_second_copy(self) -> bool:
        return False

    def second_copy_failed(self) -> None:
        return None

    def attempt_failed(self, attempt: Attempt) -> None:  # noqa: ARG002 -- the interface's
        return None


def _read_patterns(message: Message) -> Mapping[str, Pattern]:
    stored = json.loads(message.patterns) if message.patterns else {}
    return {
        sender: Pattern(pattern["template"], pattern["values"])
        for sender, pattern in stored.items()
    }
