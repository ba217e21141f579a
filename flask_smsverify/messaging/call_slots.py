"""The calls to gateways that a dispatcher may have in flight, each with connections of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from queue import SimpleQueue

from ..senders.base import Sender


class CallSlots:
    """A fixed number of slots. A call takes one, and waits while all are taken.

    :param own_sender: returns a sender of the same account with connections of its own, or the
        sender itself where there can be only one.
    """

    def __init__(self, count: int, own_sender: Callable[[Sender], Sender]) -> None:
        self._count = count
        self._own_sender = own_sender
        self._free: SimpleQueue[dict[Sender, Sender]] = SimpleQueue()
        for _ in range(count):
            self._free.put({})

    @contextlib.contextmanager
    def take(self, sender: Sender) -> Iterator[Sender]:
        """Keep a slot for the block, and yield its own sender in place of this one."""
        senders = self._free.get()
        try:
            if sender not in senders:
                senders[sender] = self._own_sender(sender)
            yield senders[sender]
        finally:
            self._free.put(senders)

    def close(self) -> None:
        """Close the slots' connections when no call is in flight any more."""
        for _ in range(self._count):
            for sender, own in self._free.get().items():
                if own is not sender:
                    own.close()
