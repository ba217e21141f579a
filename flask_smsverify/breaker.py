"""Circuit breakers: a sender at fault rests, so that nobody waits for it.

One breaker a sender, of the library purgatory. It opens after some failures in a row, lets one
call through as a probe when its rest is over, and closes when that one does well. What counts as
a failure is the service's or the account's trouble, and no answer; a refused number or text is
the work of a service that works.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from purgatory import SyncCircuitBreakerFactory
from purgatory.domain.model import HalfOpenedState
from purgatory.service._sync.circuitbreaker import SyncCircuitBreaker

from .errors import Misconfigured, Rejected

#: So many failures in a row open a breaker.
FAILURES = 5
#: Seconds that a sender rests before it is probed.
REST = 30


class Breakers:
    """The breakers of one process, by the senders' names.

    purgatory lets every caller through at once when a rest is over, and is silent about threads;
    so each step is taken under a lock, and one probe at a time is let through.
    """

    def __init__(self, failures: int = FAILURES, rest: float = REST) -> None:
        self._lock = threading.Lock()
        self._probing: set[str] = set()
        self._rest = rest
        self._factory = SyncCircuitBreakerFactory(
            default_threshold=failures, default_ttl=rest, exclude=[Rejected, Misconfigured]
        )

    def state(self, name: str) -> str:
        """`closed`, `opened` or `half-opened`."""
        with self._lock:
            return str(self._breaker(name).context.state)

    def is_resting(self, name: str) -> bool:
        """Whether to leave this sender alone: its rest is not over, or another call probes it."""
        with self._lock:
            context = self._breaker(name).context
            if context.state == "closed":
                return False
            rested = time.time() > (context.opened_at or 0) + self._rest
            return name in self._probing or (context.state == "opened" and not rested)

    @contextlib.contextmanager
    def watching(self, name: str) -> Iterator[None]:
        """Count how a call ends. One that is made in spite of a rest counts as a probe."""
        with self._lock:
            probe = self._breaker(name).context.state != "closed"
            if probe:
                self._probing.add(name)
        failed: BaseException | None = None
        try:
            yield
        except BaseException as error:
            failed = error
            raise
        finally:
            with self._lock:
                self._end(name, failed, probe=probe)

    def _end(self, name: str, failed: BaseException | None, *, probe: bool) -> None:
        breaker = self._breaker(name)
        if probe:
            self._probing.discard(name)
            if breaker.context.state == "opened":
                breaker.context.set_state(HalfOpenedState())
        breaker.__exit__(type(failed) if failed else None, failed, None)

    def _breaker(self, name: str) -> SyncCircuitBreaker:
        return self._factory.get_breaker(name)
