"""Celery: send from the outbox on the workers of the host's Celery app.

Only the rows in the database count. The queue contains ids only, and a task that runs twice or is
lost changes nothing: a row is sent under a lease, and the periodic tasks find what was missed.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol

from ..errors import ConfigurationError
from ..log_events import log_event
from .worker import InlineWorker

log = logging.getLogger(__name__)

SEND, DISPATCH, BULK, SYNC = (
    "smsverify.send",
    "smsverify.dispatch",
    "smsverify.bulk",
    "smsverify.sync",
)
#: Ids in one task, which sends them one after the other.
_SLICE = 10
#: Seconds between two runs of the periodic tasks.
_DISPATCH_SECONDS = 30.0
_SYNC_SECONDS = 60.0
#: How long one task sends batches: longer than the time between two runs of `DISPATCH`, which
#: queues the next one, so that the workers do not pause.
_BULK_SECONDS = 50.0


class Dispatcher(Protocol):
    """What a task needs of the dispatcher of event texts."""

    def send_ids(self, ids: Sequence[str], stop: threading.Event) -> int:
        """Send these texts if they are due."""

    def send_due(self, stop: threading.Event) -> int:
        """Send the texts that are due."""


class CeleryQueue:
    """The tasks of one app on the host's Celery app. Implements `worker.Queue`.

    The tasks of a request are queued by a thread, because a request must not wait for a broker that
    does not answer: Celery waits several seconds for a connection, once for each task.

    :param celery: a Celery app.
    :param events: sends event texts.
    :param bulk: sends batches until nothing is due or the event is set.
    :param has_bulk: returns whether a batch has something to do.
    :param sync: asks the gateways.
    """

    def __init__(
        self,
        celery: Any,
        *,
        events: Dispatcher,
        bulk: Callable[[threading.Event], int],
        has_bulk: Callable[[], bool],
        sync: Callable[[], object],
        clock: Callable[[], datetime],
    ) -> None:
        if not hasattr(celery, "send_task"):
            raise ConfigurationError(
                "SMSVERIFY_QUEUE is 'celery', and app.extensions['celery'] is no Celery app. "
                "Create it before smsverify.init_app, as Flask's documentation of Celery does."
            )
        self.name = "celery"
        self._celery = celery
        # A deque needs no lock, which a fork could leave locked.
        self._ids: deque[str] = deque()
        self._has_bulk_task = False
        self.worker = InlineWorker(self, clock=clock)
        never = threading.Event()

        # A worker that is killed leaves the task to another one. A shared task would also be one of
        # other Celery apps in the process, which belong to other Flask apps.
        options: dict[str, Any] = {"acks_late": True, "ignore_result": True, "shared": False}

        @celery.task(name=SEND, **options)  # type: ignore[untyped-decorator]  # Celery has no types
        def send(ids: list[str]) -> None:
            events.send_ids(ids, never)

        @celery.task(name=DISPATCH, **options)  # type: ignore[untyped-decorator]  # likewise
        def dispatch() -> None:
            events.send_due(never)
            if has_bulk():
                # If one task queued the next, tasks would add up until they take every worker.
                self._put(BULK, [], expires=_DISPATCH_SECONDS)

        @celery.task(name=BULK, **options)  # type: ignore[untyped-decorator]  # likewise
        def send_batches() -> None:
            # A batch may take hours. A task must end, or brokers deliver it again. The next one is
            # queued by `dispatch`.
            ends = threading.Event()
            timer = threading.Timer(_BULK_SECONDS, ends.set)
            timer.daemon = True
            timer.start()
            try:
                bulk(ends)
            finally:
                timer.cancel()

        @celery.task(name=SYNC, **options)  # type: ignore[untyped-decorator]  # likewise
        def sync_states() -> None:
            sync()

        schedule = dict(celery.conf.beat_schedule or {})
        for task, seconds in ((DISPATCH, _DISPATCH_SECONDS), (SYNC, _SYNC_SECONDS)):
            # A task that has not started before the next run is pointless.
            schedule.setdefault(
                task, {"task": task, "schedule": seconds, "options": {"expires": seconds}}
            )
        celery.conf.beat_schedule = schedule

    def wake(self, ids: Sequence[str]) -> None:
        """Queue tasks for new texts, soon."""
        self._ids.extend(ids)
        self.worker.wake()

    def wake_bulk(self) -> None:
        """Queue a task for batches, soon."""
        self._has_bulk_task = True
        self.worker.wake()

    def send_due(self, stop: threading.Event) -> int:  # noqa: ARG002 -- the interface's
        """Queue the tasks of `wake` and `wake_bulk`.

        If the broker does not answer, all waiting ids are dropped: the periodic task sends the
        texts.

        :returns: how many texts the tasks cover.
        """
        count = 0
        while self._ids or self._has_bulk_task:
            if self._has_bulk_task:
                self._has_bulk_task = False
                task, arguments = BULK, []
            else:
                ids = [self._ids.popleft() for _ in range(min(_SLICE, len(self._ids)))]
                count += len(ids)
                task, arguments = SEND, [ids]
            if not self._put(task, arguments):
                self._ids.clear()
                self._has_bulk_task = False
        return count

    def next_due(self) -> None:
        """Return None: nothing waits for a later time."""

    def abandon(self) -> int:
        """Return 0: a task that was not queued is found by the periodic task."""
        return 0

    def _put(self, task: str, arguments: list[Any], *, expires: float | None = None) -> bool:
        """Queue a task, and return whether the broker took it.

        :param expires: seconds after which it is dropped if no worker has started it.
        """
        try:
            self._celery.send_task(
                task, arguments, retry=False, ignore_result=True, expires=expires
            )
        except self._errors() as error:
            log.error(  # noqa: TRY400 -- a traceback does not help when the broker is down
                "the task %s was not queued, and waits for %s: %s",
                task,
                DISPATCH,
                type(error).__name__,
                extra=log_event("task_not_queued"),
            )
            return False
        return True

    def _errors(self) -> tuple[type[Exception], ...]:
        from kombu.exceptions import KombuError

        return (KombuError, OSError)
