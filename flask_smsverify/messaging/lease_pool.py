"""The rows that a worker has leased, for the threads that send them."""

from __future__ import annotations

import contextlib
import math
import threading
from collections import Counter, deque
from collections.abc import Callable

from .outbox import Lease


class LeasePool:
    """Leases rows for several threads at a time, and hands them out in portions.

    Transactions that lease wait for each other, so one for all threads is faster than one for each.
    One thread leases the next rows while the others still have some.

    :param lease: leases up to a number of rows. Returns a lease that found none if there are no
        more, and None if no more are to be sent, including those that were leased before.
    :param release: gives back the rows of a lease.
    :param threads: the number of threads that take portions.
    :param largest: the most rows of one lease, unless a portion is larger.
    """

    def __init__(
        self,
        lease: Callable[[int], Lease | None],
        release: Callable[[Lease], None],
        *,
        threads: int,
        largest: int,
    ) -> None:
        self._lease = lease
        self._release = release
        self._threads = threads
        self._largest = largest
        self._leasing = threading.Lock()
        self._lock = threading.Lock()
        self._waiting: deque[Lease] = deque()
        self._held: Counter[str] = Counter()
        self._is_exhausted = False

    def take(self, size: int, *, at_least: int = 1) -> Lease | None:
        """Return up to `size` rows, which the caller passes to `done` later; None for no more.

        The rows that wait are shared between the threads, so that all of them end together.

        :param at_least: how many rows to return, if so many wait, although that is more than the
            thread's share.
        :raises Exception: what the lease raised. Then nothing is leased any more, so that the
            other threads end and do not wait for the same error one after the other.
        """
        if self._is_low(size) and self._leasing.acquire(blocking=False):
            try:
                self._lease_more(size)
            finally:
                self._leasing.release()
        portion = self._next_portion(size, at_least)
        if portion is None:
            with self._leasing:  # until the thread that leases has leased
                portion = self._next_portion(size, at_least)
                if portion is None:
                    self._lease_more(size)
                    portion = self._next_portion(size, at_least)
        return portion

    def done(self, portion: Lease) -> None:
        """Forget rows that were sent, closed or given back."""
        with self._lock:
            self._held[portion.token] -= len(portion.messages)

    def tokens(self) -> list[str]:
        """Return the tokens of the leases with rows that are not done."""
        with self._lock:
            return [token for token, count in self._held.items() if count > 0]

    def close(self) -> None:
        """Give back the rows that no thread has taken, and lease no more."""
        with self._lock:
            self._is_exhausted = True
            left = list(self._waiting)
            self._waiting.clear()
        with contextlib.ExitStack() as giving_back:  # each of them, also if one fails
            for lease in left:
                giving_back.callback(self.done, lease)
                giving_back.callback(self._release, lease)

    def _next_portion(self, size: int, at_least: int) -> Lease | None:
        with self._lock:
            if not self._waiting:
                return None
            share = math.ceil(self._count_waiting() / self._threads)
            size = min(size, max(at_least, share))
            lease = self._waiting.popleft()
            taken, left = lease.messages[:size], lease.messages[size:]
            if left:
                self._waiting.appendleft(Lease(lease.token, len(left), left))
            return Lease(lease.token, len(taken), taken)

    def _is_low(self, size: int) -> bool:
        """Return whether the threads may take all rows before the next ones are leased."""
        with self._lock:
            waiting = self._count_waiting()
            return not self._is_exhausted and waiting * 2 < self._lease_size(size)

    def _count_waiting(self) -> int:
        return sum(len(lease.messages) for lease in self._waiting)

    def _lease_size(self, size: int) -> int:
        return max(size, min(self._largest, size * self._threads))

    def _lease_more(self, size: int) -> None:
        while not self._is_exhausted:
            try:
                lease = self._lease(self._lease_size(size))
            except BaseException:
                self._is_exhausted = True
                raise
            if lease is None:
                self.close()
            elif not lease.found:
                self._is_exhausted = True
            elif lease.messages:
                with self._lock:
                    self._waiting.append(lease)
                    self._held[lease.token] += len(lease.messages)
                return
