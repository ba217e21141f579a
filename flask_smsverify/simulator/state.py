"""The whole state of the simulator in one object. It does not depend on HTTP or on a gateway."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import count

from .account import Account
from .faults import Faults
from .messages import Phones
from .recording import MAX_REQUESTS, RecordedRequest
from .timing import Timing

Clock = Callable[[], datetime]
"""Returns the current time, with its zone."""


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


class SimulatorState:
    """One account for each gateway, the phones, the recorded requests and the faults.

    `closing` is set when the server stops, so that delayed responses end at once.
    """

    def __init__(self, gateways: Iterable[str], clock: Clock, timing: Timing) -> None:
        self.clock = clock
        self.timing = timing
        self.closing = threading.Event()
        self.faults = Faults()
        self.phones = Phones()
        self.requests: deque[RecordedRequest] = deque(maxlen=MAX_REQUESTS)
        self._ids = count(2826)
        self.accounts = {
            gateway: Account(
                gateway, clock=clock, timing=timing, faults=self.faults, phones=self.phones,
                ids=self._ids,
            )
            for gateway in gateways
        }  # fmt: skip

    def next_id(self) -> int:
        """Return a number that no message and no request has had."""
        return next(self._ids)

    def reset(self) -> None:
        """Delete messages, requests and codes, switch all faults off and restore all credit."""
        self.faults.disable()
        self.requests.clear()
        for account in self.accounts.values():
            account.reset()
        self.phones.delete()
