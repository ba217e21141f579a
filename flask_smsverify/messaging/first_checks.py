"""The first question about a code's delivery, while its page waits.

`flask smsverify sync` runs once a minute or less often. The page of a visitor who waits for a code
needs the state sooner, so a poll of this page requests it once.
"""

from __future__ import annotations

import logging
import threading

from ..delivery.background import BackgroundWorkers
from ..delivery.failover import Delivery
from ..errors import SenderError
from ..forks import after_fork
from ..log_events import log_event
from ..senders.base import Capability
from .sync import StateSync

log = logging.getLogger(__name__)


class FirstChecks:
    """Asks gateways in the background, one at a time, because sends need the threads."""

    def __init__(self, sync: StateSync, delivery: Delivery, workers: BackgroundWorkers) -> None:
        self._sync = sync
        self._delivery = delivery
        self._workers = workers
        self._reset()
        after_fork(self._reset)

    def _reset(self) -> None:
        self._turn = threading.Lock()

    def request(self, challenge_id: str) -> None:
        """Let the gateway be asked about a challenge's messages, unless it was asked before.

        Nothing happens while another question is under way; the next poll requests it again.
        """
        senders = self._delivery.routes.senders.values()
        if not any(Capability.STATUS in sender.capabilities for sender in senders):
            return
        turn = self._turn
        if turn.acquire(blocking=False):
            self._workers.submit(self._ask, challenge_id, turn)

    def _ask(self, challenge_id: str, turn: threading.Lock) -> None:
        try:
            self._sync.ask_once(challenge_id)
        except SenderError as error:
            log.warning(
                "%s could not be asked: %s",
                error.sender,
                error,
                extra=log_event("gateway_not_asked"),
            )
        finally:
            turn.release()
