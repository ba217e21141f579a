"""Circuit breakers: a sender at fault rests, so that nobody waits for it.

One breaker a sender, of the library purgatory. It opens after some failures in a row; when its
rest is over, one call is let through as a probe, and closes it if that one does well. What counts
as a failure is the service's or the account's trouble, and no answer; a refused number or text is
the work of a service that works.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator

from purgatory import ContextChanged, Event, SyncCircuitBreakerFactory

from .errors import Misconfigured, Rejected, SenderError

log = logging.getLogger(__name__)

#: So many failures in a row open a breaker.
FAILURES = 5
#: Seconds that a sender rests before it is probed.
REST = 30


class Breakers:
    """The breakers of one process, by the senders' names.

    purgatory counts and keeps the states. It is silent about threads, so each step is taken under
    a lock. How long a rest lasts is told here: purgatory goes by the time of day, which may be set
    back, and lets every caller through at once.

    :param clock: seconds that never go back.
    """

    def __init__(
        self,
        failures: int = FAILURES,
        rest: float = REST,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._rest = rest
        self._rested_at: dict[str, float] = {}
        self._probed: set[str] = set()
        # Whoever is let through here, purgatory shall let through: to it every rest is over.
        self._factory = SyncCircuitBreakerFactory(
            default_threshold=failures, default_ttl=-math.inf, exclude=[Rejected, Misconfigured]
        )
        self._factory.add_listener(self._changed)

    def state(self, name: str) -> str:
        """`closed` (in use), `opened` (resting) or `half-opened` (being probed)."""
        with self._lock:
            return str(self._factory.get_breaker(name).context.state)

    @contextlib.contextmanager
    def turn(self, name: str) -> Iterator[bool]:
        """Whether a sender may be asked. After its rest one caller may, until its block ends."""
        with self._lock:
            closed = self._factory.get_breaker(name).context.state == "closed"
            probe = not closed and name not in self._probed and self._is_rested(name)
            if probe:
                self._probed.add(name)
        try:
            yield closed or probe
        finally:
            if probe:
                with self._lock:
                    self._probed.discard(name)

    @contextlib.contextmanager
    def watching(self, name: str) -> Iterator[None]:
        """Count how a call ends. One that is made in spite of a rest counts as a probe."""
        with self._lock:
            breaker = self._factory.get_breaker(name)
            probe = breaker.context.state != "closed"
            breaker.__enter__()
        failed: BaseException | None = None
        try:
            yield
        except BaseException as error:
            failed = error
            raise
        finally:
            with self._lock:
                self._count(name, failed, probe=probe)

    def _count(self, name: str, failed: BaseException | None, *, probe: bool) -> None:
        if failed is not None and not isinstance(failed, SenderError):
            return  # it was cut short here, which says nothing about the gateway
        breaker = self._factory.get_breaker(name)
        state = breaker.context.state
        if not probe and state != "closed":
            return  # it began before the rest; how things are now is the probe's to say
        if probe and state == "opened":
            breaker.__enter__()  # another probe failed meanwhile; this one's word is the later
        breaker.__exit__(type(failed) if failed else None, failed, None)

    def _is_rested(self, name: str) -> bool:
        return self._clock() >= self._rested_at.get(name, -math.inf)

    def _changed(self, name: str, _kind: str, event: Event) -> None:
        if not isinstance(event, ContextChanged):
            return
        if event.state == "opened":
            self._rested_at[name] = self._clock() + self._rest
            log.warning("%s is at fault and rests for %g s", name, self._rest)
        elif event.state == "closed":
            log.warning("%s works again", name)
