"""Whether senders work now: reachable, with valid credentials and with credit.

A check asks for the credit, which sends nothing. Senders that do not report credit are not asked.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from ..errors import Misconfigured, SenderError, Unavailable
from ..forks import after_fork
from ..log_events import log_external_error
from ..senders.base import Capability, Credit, Sender
from ..senders.deadline import deadline

log = logging.getLogger(__name__)

State = Literal[
    "ok",
    "low_credit",
    "no_credit",
    "unreachable",
    "refused",
    "misconfigured",
    "unclear",
    "broken",
    "unchecked",
]

#: Seconds for which a result is shown again.
_MAX_AGE = 60.0
#: How many senders are asked at the same time.
_MAX_THREADS = 8


@dataclass(frozen=True, slots=True)
class Health:
    """The result of asking a sender for its credit.

    :param state: `ok`; `low_credit`; `no_credit`; `unreachable`: no answer came; `refused`: an
        error came; `misconfigured`; `unclear`: an answer that the sender cannot read; `broken`: the
        sender's code raised something else; `unchecked`: it does not report credit.
    :param seconds: how long the answer took.
    :param reason: the reason of the error; empty without one.
    :param code: the gateway's code of the error.
    :param advice: what to do about it.
    """

    state: State
    credit: Credit | None = None
    seconds: float = 0.0
    reason: str = ""
    code: str | None = None
    advice: str = ""

    @property
    def can_send(self) -> bool:
        """Whether no reason is known why the sender could not send."""
        return self.state in ("ok", "low_credit", "unchecked")

    @property
    def is_reachable(self) -> bool | None:
        """Whether the gateway answered; None if it was not asked or the answer is unclear."""
        if self.state in ("unchecked", "unclear", "broken"):
            return None
        return self.state != "unreachable"


def check(sender: Sender, seconds: float, *, low_credit: Decimal = Decimal(0)) -> Health:
    """Ask a sender for its credit.

    :param seconds: the deadline.
    :param low_credit: less than this is `low_credit`.
    """
    if Capability.CREDIT not in sender.capabilities:
        return Health("unchecked")
    started = time.monotonic()
    try:
        with deadline(seconds):
            credit = sender.credit()
    except SenderError as error:
        return Health(
            _state_of(error), reason=error.reason, code=error.code, advice=error.advice or ""
        )
    except Exception as error:  # noqa: BLE001 -- a sender of the host's own may raise anything
        log_external_error(
            log, "the credit of %s is unknown", sender.name, error=error, event="credit_unknown"
        )
        return Health("broken", reason=type(error).__name__)
    took = time.monotonic() - started
    if credit.amount <= 0:
        return Health("no_credit", credit, took)
    return Health("ok" if credit.amount >= low_credit else "low_credit", credit, took)


def check_all(
    senders: Sequence[Sender],
    seconds: float,
    *,
    low_credit: Mapping[str, Decimal],
    context: Callable[[], AbstractContextManager[object]],
) -> list[Health]:
    """Ask senders for their credit at the same time.

    :param seconds: the deadline of each check.
    :param low_credit: sender → the credit below which it is `low_credit`.
    :param context: returns the context in which a sender's code runs.
    """
    if not senders:
        return []

    def check_one(sender: Sender) -> Health:
        with context():
            return check(sender, seconds, low_credit=low_credit.get(sender.name, Decimal(0)))

    with ThreadPoolExecutor(min(len(senders), _MAX_THREADS)) as threads:
        return list(threads.map(check_one, senders))


def _state_of(error: SenderError) -> State:
    if isinstance(error, Misconfigured):
        return "misconfigured"
    if not isinstance(error, Unavailable):
        return "unclear"
    return "refused" if error.written else "unreachable"


class HealthChecks:
    """Checks senders at the same time, and keeps each result for a minute. Thread-safe.

    :param seconds: the deadline of a check.
    :param low_credit: sender → the credit below which it is `low_credit`.
    :param context: returns the context in which a sender's code runs.
    """

    def __init__(
        self,
        seconds: float,
        *,
        low_credit: Mapping[str, Decimal],
        context: Callable[[], AbstractContextManager[object]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._low_credit = low_credit
        self._context = context
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._results: dict[str, tuple[float, Health]] = {}
        after_fork(self._reset_after_fork)

    def latest(self, name: str) -> Health | None:
        """Return the last result of a sender without asking it; None before the first."""
        found = self._results.get(name)
        return found[1] if found is not None else None

    def check(self, senders: Sequence[Sender], *, again: bool = False) -> dict[str, Health]:
        """Return sender → result.

        :param again: ask every sender, however young its last result is.
        """
        with self._lock:  # a second reader waits for the answers instead of asking as well
            now = self._monotonic()
            due = [sender for sender in senders if again or self._is_due(sender.name, now)]
            results = check_all(
                due, self._seconds, low_credit=self._low_credit, context=self._context
            )
            for sender, health in zip(due, results, strict=True):
                self._results[sender.name] = (self._monotonic(), health)
            return {sender.name: self._results[sender.name][1] for sender in senders}

    def _is_due(self, name: str, now: float) -> bool:
        found = self._results.get(name)
        return found is None or now - found[0] >= _MAX_AGE

    def _reset_after_fork(self) -> None:
        self._lock = threading.Lock()
