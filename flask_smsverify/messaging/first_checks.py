"""The first request for a code's delivery state, while its page waits.

`flask smsverify sync` asks every few minutes, which is too late for a visitor on the page. So a
poll of the page makes the app ask the gateway once, ten seconds after the send.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime

from ..db.models import Challenge
from ..delivery.background import BackgroundWorkers
from ..delivery.failover import Delivery
from ..errors import SenderError
from ..forks import after_fork
from ..log_events import log_event
from ..senders.base import Capability
from .sync import StateSync

log = logging.getLogger(__name__)

#: Seconds after which another question may begin although the last one has not ended.
_LONGEST = 60.0
#: How many codes whose gateway was asked a process remembers.
_REMEMBERED = 1000


class FirstChecks:
    """Asks gateways in the background, one at a time: the threads are there for sends."""

    def __init__(
        self,
        sync: StateSync,
        delivery: Delivery,
        workers: BackgroundWorkers,
        *,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sync = sync
        self._delivery = delivery
        self._workers = workers
        self._clock = clock
        self._monotonic = monotonic
        self._reset()
        after_fork(self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._busy_until = 0.0
        self._asked: OrderedDict[tuple[str, int], None] = OrderedDict()

    def request(self, challenge: Challenge) -> None:
        """Ask the gateway about a code in the background, unless it is closed or this was done
        before.

        Nothing happens while another question is in progress; the next poll requests it again.
        """
        is_open = challenge.state == Challenge.PENDING and self._clock() < challenge.expires_at
        senders = self._delivery.routes.senders.values()
        if not is_open or not any(Capability.STATUS in one.capabilities for one in senders):
            return
        code = (challenge.id, challenge.sends)
        with self._lock:
            if code in self._asked or self._monotonic() < self._busy_until:
                return
            self._busy_until = self._monotonic() + _LONGEST
        try:
            self._workers.submit(self._ask, code)
        except RuntimeError as error:  # the system starts no more threads
            log.warning("nothing was asked: %s", error, extra=log_event("gateway_not_asked"))

    def _ask(self, code: tuple[str, int]) -> None:
        try:
            if self._sync.ask_once(code[0]):
                self._remember(code)
        except SenderError as error:
            log.warning(
                "%s could not be asked: %s",
                error.sender,
                error,
                extra=log_event("gateway_not_asked"),
            )
            self._remember(code)
        finally:
            self._busy_until = 0.0

    def _remember(self, code: tuple[str, int]) -> None:
        with self._lock:
            self._asked[code] = None
            while len(self._asked) > _REMEMBERED:
                self._asked.popitem(last=False)
