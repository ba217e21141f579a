"""The rows that a worker has claimed, for the threads that send them."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, deque
from collections.abc import Callable

from .outbox import Claim


class ClaimPool:
    """Claims rows for several threads at a time, and hands them out in portions.

    Transactions that claim wait for each other, so one for all threads is faster than one for each.
    One thread claims the next rows while the others still have some.

    :param claim: claims up to a number of rows. Returns a claim that found none where there are no
        more, and None where no more are to be sent, also of those that were claimed before.
    :param release: gives back the rows of a claim.
    :param threads: the number of threads that take portions.
    :param largest: the most rows of one claim, unless a portion is larger.
    """

    def __init__(
        self,
        claim: Callable[[int], Claim | None],
        release: Callable[[Claim], None],
        *,
        threads: int,
        largest: int,
    ) -> None:
        self._claim = claim
        self._release = release
        self._threads = threads
        self._largest = largest
        self._claiming = threading.Lock()
        self._lock = threading.Lock()
        self._waiting: deque[Claim] = deque()
        self._held: Counter[str] = Counter()
        self._is_exhausted = False

    def take(self, size: int) -> Claim | None:
        """Return up to `size` rows, which the caller passes to `done` later; None for no more.

        :raises Exception: what the claim raised. Then nothing is claimed any more, so that the
            other threads end and do not wait for the same error one after the other.
        """
        if self._is_low(size) and self._claiming.acquire(blocking=False):
            try:
                self._claim_more(size)
            finally:
                self._claiming.release()
        portion = self._next_portion(size)
        if portion is None:
            with self._claiming:  # until the thread that claims has claimed
                portion = self._next_portion(size)
                if portion is None:
                    self._claim_more(size)
                    portion = self._next_portion(size)
        return portion

    def done(self, portion: Claim) -> None:
        """Forget rows that were sent, closed or given back."""
        with self._lock:
            self._held[portion.token] -= len(portion.messages)

    def tokens(self) -> list[str]:
        """Return the tokens of the claims with rows that are not done."""
        with self._lock:
            return [token for token, count in self._held.items() if count > 0]

    def close(self) -> None:
        """Give back the rows that no thread has taken, and claim no more."""
        with self._lock:
            self._is_exhausted = True
            left = list(self._waiting)
            self._waiting.clear()
        with contextlib.ExitStack() as giving_back:  # each of them, also if one fails
            for claim in left:
                giving_back.callback(self.done, claim)
                giving_back.callback(self._release, claim)

    def _next_portion(self, size: int) -> Claim | None:
        with self._lock:
            if not self._waiting:
                return None
            claim = self._waiting.popleft()
            taken, left = claim.messages[:size], claim.messages[size:]
            if left:
                self._waiting.appendleft(Claim(claim.token, len(left), left))
            return Claim(claim.token, len(taken), taken)

    def _is_low(self, size: int) -> bool:
        """Return whether the threads may take all rows before the next ones are claimed."""
        with self._lock:
            waiting = sum(len(claim.messages) for claim in self._waiting)
            return not self._is_exhausted and waiting * 2 < self._claim_size(size)

    def _claim_size(self, size: int) -> int:
        return max(size, min(self._largest, size * self._threads))

    def _claim_more(self, size: int) -> None:
        while not self._is_exhausted:
            try:
                claim = self._claim(self._claim_size(size))
            except BaseException:
                self._is_exhausted = True
                raise
            if claim is None:
                self.close()
            elif not claim.found:
                self._is_exhausted = True
            elif claim.messages:
                with self._lock:
                    self._waiting.append(claim)
                    self._held[claim.token] += len(claim.messages)
                return
