"""The calls to gateways that a dispatcher may have in flight, each with connections of its own."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue

from ..log_events import log_external_error
from ..senders.base import Sender

log = logging.getLogger(__name__)

#: Seconds between two looks at whether the worker is stopped.
_POLL = 0.5


class NoSlot(Exception):
    """A call was not made: the worker is stopped, or no slot or connection was available."""


class CallSlots:
    """A fixed number of slots. A call takes one, and waits while all are taken.

    :param own_sender: returns a sender of the same account with connections of its own, or the
        sender itself if there can be only one.
    """

    def __init__(self, count: int, own_sender: Callable[[Sender], Sender]) -> None:
        self._count = count
        self._own_sender = own_sender
        self._free: SimpleQueue[dict[Sender, Sender]] = SimpleQueue()
        for _ in range(count):
            self._free.put({})

    @contextlib.contextmanager
    def take(self, sender: Sender, stop: threading.Event, *, timeout: float) -> Iterator[Sender]:
        """Keep a slot for the block, and yield its own sender in place of this one.

        :param stop: set when no more calls are to be made.
        :param timeout: seconds to wait for a slot.
        :raises NoSlot: nothing is to be called.
        """
        senders = self._wait(stop, timeout)
        try:
            if sender not in senders:
                senders[sender] = self._open(sender)
            yield senders[sender]
        finally:
            self._free.put(senders)

    def _wait(self, stop: threading.Event, timeout: float) -> dict[Sender, Sender]:
        ends = time.monotonic() + timeout
        while not stop.is_set():
            left = ends - time.monotonic()
            if left <= 0:
                raise NoSlot("every call takes too long")
            with contextlib.suppress(Empty):
                senders = self._free.get(timeout=min(left, _POLL))
                if not stop.is_set():
                    return senders
                self._free.put(senders)
        raise NoSlot("the worker was stopped")

    def _open(self, sender: Sender) -> Sender:
        try:
            return self._own_sender(sender)
        except Exception as error:
            log_external_error(
                log,
                "no further connection of %s could be opened",
                sender.name,
                error=error,
                event="sender_not_opened",
            )
            raise NoSlot("no connection could be opened") from error

    def close(self) -> None:
        """Close the slots' connections once no call is in flight any more."""
        with contextlib.ExitStack() as closing:
            for _ in range(self._count):
                for sender, own in self._free.get().items():
                    if own is not sender:
                        closing.callback(own.close)
