"""Workers: threads that empty the outbox, in the app's processes or in `flask smsverify dispatch`.

All threads are daemons, because a thread that waits for a gateway must not keep a process from
ending. The unfinished work of such a thread is recorded by `abandon`, or found when its lease ends.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Protocol

from ..errors import SMSVerifyError
from ..forks import after_fork
from ..log_events import log_event, log_external_error

log = logging.getLogger(__name__)

#: Seconds within which a worker stops, including calls to gateways.
STOP_SECONDS = 4.0
#: Seconds after which a worker tries again after a failure of the database.
_AFTER_FAILURE = 5.0
#: The longest time in seconds between two checks while a message waits for a later time.
_LONGEST_WAIT = 60.0
#: Seconds between two checks of what holds texts back.
_LOOK_SECONDS = 0.5


class Queue(Protocol):
    """A queue that a worker empties: one kind of messages in the outbox, or tasks for a broker."""

    name: str

    def send_due(self, stop: threading.Event) -> int:
        """Send messages until none is due or the event is set.

        :returns: how many messages were taken.
        """

    def next_due(self) -> datetime | None:
        """Return when the next message is due; None if none waits."""

    def abandon(self) -> int:
        """Record the unfinished attempts of threads that cannot be waited for.

        :returns: the number of messages for which it is unknown whether they were sent.
        """


def run_in_threads(count: int, work: Callable[[], int]) -> int:
    """Run a function in several daemon threads, and return the sum of the results.

    If the system starts no more threads, the running ones do all the work.

    :raises RuntimeError: no thread could be started.
    :raises Exception: the first exception of a thread, when all have ended.
    """
    results: list[int] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:  # noqa: BLE001 -- raised below, in the caller's thread
            errors.append(error)

    threads = [
        threading.Thread(target=run, name="smsverify-outbox", daemon=True) for _ in range(count)
    ]
    started: list[threading.Thread] = []
    for thread in threads:
        try:
            thread.start()
        except RuntimeError:
            if not started:
                raise
            log.warning(
                "only %d of %d threads could be started",
                len(started),
                count,
                extra=log_event("threads_not_started"),
            )
            break
        started.append(thread)
    for thread in started:
        thread.join()
    if errors:
        raise errors[0]
    return sum(results)


class InlineWorker:
    """Sends what the app's requests have queued, in one thread of the process.

    The thread starts with the first `wake`, and ends when nothing waits any more. A forked process
    starts its own.

    :param held_by: returns what holds back texts that are due, such as quiet hours; None where
        nothing does. A change of it, also by another process, ends the thread's wait.
    """

    def __init__(
        self,
        queue: Queue,
        *,
        clock: Callable[[], datetime],
        held_by: Callable[[], object] = lambda: None,
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._held_by = held_by
        self._is_suspended = False
        self._reset()
        after_fork(self._reset)
        _inline_workers.add(self)

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._has_work = False
        self._is_idle = True

    def wake(self) -> None:
        """Send what is due now."""
        with self._changed:
            if self._stop.is_set() or self._is_suspended:
                return  # another worker sends it
            self._has_work, self._is_idle = True, False
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name=f"smsverify-{self._queue.name}", daemon=True
                )
                self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is due."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_idle)

    def close(self) -> None:
        """Stop within `STOP_SECONDS`. A later `wake` starts a new thread."""
        with self._changed:
            thread = self._thread
            self._stop.set()
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(STOP_SECONDS)
            if thread.is_alive():
                _abandon(self._queue)
        self._reset()

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Send nothing within the block, because its caller sends what is due itself."""
        self._is_suspended = True
        try:
            self.close()
            yield
        finally:
            self._is_suspended = False

    def _run(self) -> None:
        stop = self._stop
        while True:
            with self._changed:
                self._has_work = False
            held_by = self._look()
            wait = self._send(stop)
            with self._changed:
                if stop.is_set():
                    self._is_idle = True
                    self._changed.notify_all()
                    return
                if self._has_work:
                    continue
                self._is_idle = True
                self._changed.notify_all()
                if wait is None:
                    self._thread = None
                    return
            self._wait(wait, stop, held_by)
            with self._changed:
                self._is_idle = False

    def _wait(self, seconds: float, stop: threading.Event, held_by: object) -> None:
        """Wait for work, the stop or `seconds`, or until something else holds texts back."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            look = left if held_by is None else min(left, _LOOK_SECONDS)
            with self._changed:
                if self._changed.wait_for(lambda: self._has_work or stop.is_set(), look):
                    return
            if self._look() != held_by:
                return

    def _look(self) -> object:
        """Return what now holds texts back; None if that cannot be read."""
        try:
            return self._held_by()
        except Exception as error:  # noqa: BLE001 -- the thread must go on
            _log_failure(self._queue, error)
            return None

    def _send(self, stop: threading.Event) -> float | None:
        """Send what is due, and return for how many seconds to wait; None: until `wake`."""
        try:
            self._queue.send_due(stop)
            due = self._queue.next_due()
        except Exception as error:  # noqa: BLE001 -- likewise
            _log_failure(self._queue, error)
            return _AFTER_FAILURE
        if due is None:
            return None
        return min(max(0.0, (due - self._clock()).total_seconds()), _LONGEST_WAIT)


_inline_workers: weakref.WeakSet[InlineWorker] = weakref.WeakSet()


@atexit.register  # it runs before daemon threads are cut off
def _close_all() -> None:
    for worker in list(_inline_workers):
        worker.close()


class DispatchProcess:
    """Sends everything that is due, in a process of its own.

    :param poll_seconds: how long to wait after nothing was due, with `watch`.
    :param on_wait: called several times a second, for a progress bar.
    """

    def __init__(
        self,
        queues: tuple[Queue, ...],
        *,
        poll_seconds: float = 1.0,
        on_wait: Callable[[], None] | None = None,
    ) -> None:
        self._queues = queues
        self._on_wait = on_wait
        self._poll_seconds = poll_seconds
        self._stop = threading.Event()
        self._counts = dict.fromkeys((queue.name for queue in queues), 0)
        self._errors: list[Exception] = []

    def stop(self) -> None:
        """Stop soon. A signal handler may call it."""
        self._stop.set()

    def run(self, *, watch: bool) -> dict[str, int]:
        """Send until nothing is due, or with `watch` until `stop`.

        After `stop` it returns within `STOP_SECONDS`.

        :returns: queue → how many messages were leased.
        """
        threads = [
            threading.Thread(
                target=self._serve, args=(queue, watch), name=f"smsverify-{queue.name}", daemon=True
            )
            for queue in self._queues
        ]
        for thread in threads:
            thread.start()
        # Short waits, because a signal handler runs between two of them.
        while any(thread.is_alive() for thread in threads) and not self._stop.is_set():
            for thread in threads:
                thread.join(0.2)
            if self._on_wait is not None:
                self._on_wait()
        for thread in threads:
            thread.join(STOP_SECONDS / len(threads))
        for thread, queue in zip(threads, self._queues, strict=True):
            if thread.is_alive():
                _abandon(queue)
        if self._errors and not watch:
            raise self._errors[0]
        return self._counts

    def _serve(self, queue: Queue, watch: bool) -> None:
        while not self._stop.is_set():
            try:
                self._counts[queue.name] += queue.send_due(self._stop)
            except Exception as error:  # noqa: BLE001 -- likewise
                if not watch:
                    self._errors.append(error)
                    return
                _log_failure(queue, error)
                self._stop.wait(_AFTER_FAILURE)
            if not watch:
                return
            self._stop.wait(self._poll_seconds)


def _log_failure(queue: Queue, error: Exception) -> None:
    if isinstance(error, SMSVerifyError):
        log.error("the %s worker failed: %s", queue.name, error, extra=log_event("worker_failed"))
    else:
        log_external_error(
            log, "the %s worker failed", queue.name, error=error, event="worker_failed"
        )


def _abandon(queue: Queue) -> None:
    try:
        count = queue.abandon()
    except SMSVerifyError as error:
        log.error(  # noqa: TRY400 -- a traceback adds nothing
            "the %s worker stopped, and left its leases: %s",
            queue.name,
            error,
            extra=log_event("worker_failed"),
        )
        return
    if count:
        log.warning(
            "the %s worker stopped while gateways had not answered; it is unknown whether "
            "%d messages were sent",
            queue.name,
            count,
            extra=log_event("worker_abandoned_sends"),
        )
