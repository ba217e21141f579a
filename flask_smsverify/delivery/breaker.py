"""Circuit breakers: a failing sender is skipped until it recovers.

There is one breaker for each sender, in each process:

- *closed*: the sender is used.
- *open*: after 5 consecutive failures, the sender is skipped for 30 seconds.
- *half-open*: one call at a time is let through as a probe. A probe that succeeds closes the
  breaker, and one that fails opens it for another 30 seconds.

`Unavailable` and `Unknown` are failures. `Rejected`, `NotCarried` and `Misconfigured` are answers
of a service that works, and count as successes. Any other exception is no answer and counts as
neither.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from ..errors import Misconfigured, NotCarried, Rejected, SenderError
from ..log_events import log_event

log = logging.getLogger(__name__)

State = Literal["closed", "open", "half_open"]

#: How many consecutive failures open a breaker.
FAILURE_THRESHOLD = 5
#: For how many seconds a breaker stays open.
OPEN_SECONDS = 30


@dataclass(slots=True)
class _Breaker:
    """The state of one sender.

    :param failures: consecutive failures while closed.
    :param open_until: when the next probe may be made, by the monotonic clock.
    :param is_admitting: whether a caller has been admitted to probe and has not left yet.
    """

    state: State = "closed"
    failures: int = 0
    open_until: float = 0
    is_admitting: bool = False


class Breakers:
    """The breakers of one process. No lock is held during a call.

    :param clock: returns seconds that never go back.
    """

    def __init__(
        self,
        failure_threshold: int = FAILURE_THRESHOLD,
        open_seconds: float = OPEN_SECONDS,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failure_threshold = failure_threshold
        self._open_seconds = open_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._breakers: defaultdict[str, _Breaker] = defaultdict(_Breaker)

    def state(self, name: str) -> State:
        """Return a sender's state. `half_open` means that a probe is being made."""
        with self._lock:
            return self._breakers[name].state

    def would_admit(self, name: str) -> bool:
        """Return whether the sender may be called now, without admitting a caller."""
        with self._lock:
            breaker = self._breakers[name]
            is_due = not breaker.is_admitting and self._clock() >= breaker.open_until
            return breaker.state == "closed" or is_due

    @contextlib.contextmanager
    def admit(self, name: str) -> Iterator[bool]:
        """Yield whether the sender may be called.

        While the breaker is not closed, one caller at a time is admitted, from the end of
        `open_seconds` on; its admission lasts until the block ends.
        """
        with self._lock:
            breaker = self._breakers[name]
            is_closed = breaker.state == "closed"
            may_probe = (
                not is_closed and not breaker.is_admitting and self._clock() >= breaker.open_until
            )
            if may_probe:
                breaker.is_admitting = True
        try:
            yield is_closed or may_probe
        finally:
            if may_probe:
                with self._lock:
                    breaker.is_admitting = False

    @contextlib.contextmanager
    def watch(self, name: str) -> Iterator[None]:
        """Count the outcome of the call in the block.

        A call without admission while the breaker is not closed counts as a probe.
        """
        with self._lock:
            breaker = self._breakers[name]
            is_probe = breaker.state != "closed"
            if is_probe:
                breaker.state = "half_open"
        try:
            yield
        except (Rejected, NotCarried, Misconfigured):
            self._count(name, breaker, is_failure=False, is_probe=is_probe)
            raise
        except SenderError:
            self._count(name, breaker, is_failure=True, is_probe=is_probe)
            raise
        except BaseException:  # not an answer of the gateway
            with self._lock:
                if is_probe and breaker.state == "half_open":
                    breaker.state = "open"
            raise
        else:
            self._count(name, breaker, is_failure=False, is_probe=is_probe)

    def _count(self, name: str, breaker: _Breaker, *, is_failure: bool, is_probe: bool) -> None:
        with self._lock:
            if not is_probe and breaker.state != "closed":
                return  # the call began before the breaker opened; only probes are newer
            if not is_failure:
                if breaker.state != "closed":
                    log.warning(
                        "the sender %s has recovered", name, extra=log_event("sender_recovered")
                    )
                breaker.state, breaker.failures = "closed", 0
                return
            breaker.failures += 1
            # Another probe may have closed the breaker meanwhile; then this is one failure.
            is_reopened = is_probe and breaker.state != "closed"
            if is_reopened or breaker.failures >= self._failure_threshold:
                breaker.state, breaker.failures = "open", 0
                breaker.open_until = self._clock() + self._open_seconds
                log.warning(
                    "the sender %s fails; skipped for %g s",
                    name,
                    self._open_seconds,
                    extra=log_event("sender_skipped"),
                )
