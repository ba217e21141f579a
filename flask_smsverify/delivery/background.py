"""A small thread pool for work that no request waits for. Its queue is fair between lanes."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext

from ..errors import SMSVerifyError
from ..forks import after_fork
from ..log_events import log_event, log_external_error

log = logging.getLogger(__name__)

#: Number of threads.
_WORKERS = 4

_Work = Callable[[], object]


class BackgroundWorkers:
    """Runs functions in worker threads, which start with the first function.

    Each function is in a lane, such as the network of the request. The threads take one function
    from each lane in turn, so a lane with hundreds of functions delays the others by one.

    A forked process starts its own threads, without its parent's unfinished work.

    :param context: returns the context in which each function runs, such as an app context: senders
        and receivers of signals are the host's code.
    :param keeps_errors: returns whether `raise_error` raises the functions' errors, for tests.
    :param is_inline: returns whether a function runs at once, in the thread that submits it. A test
        that shares one database connection needs this.
    """

    def __init__(
        self,
        *,
        context: Callable[[], AbstractContextManager[object]] = nullcontext,
        keeps_errors: Callable[[], bool] = lambda: False,
        is_inline: Callable[[], bool] = lambda: False,
    ) -> None:
        self._context = context
        self._keeps_errors = keeps_errors
        self._errors: list[Exception] = []
        self._is_inline = is_inline
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._pending: set[Future[None]] = set()
        self._lanes: OrderedDict[str, deque[_Work]] = OrderedDict()
        after_fork(self._reset_after_fork)

    def submit(self, work: Callable[..., object], *arguments: object, lane: str = "") -> None:
        """Run a function in a worker thread. Its result is dropped and its errors are logged.

        :param lane: functions of one lane run in the order of their submission.
        """
        if self._is_inline():
            self._run_logged(lambda: work(*arguments))
            return
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="smsverify")
            self._lanes.setdefault(lane, deque()).append(lambda: work(*arguments))
            self._pending = {future for future in self._pending if not future.done()}
            # The pool runs as many calls as there are functions; each takes the next one in turn.
            self._pending.add(self._pool.submit(self._run_next))

    def _run_next(self) -> None:
        with self._lock:
            lane, queue = self._lanes.popitem(last=False)
            work = queue.popleft()
            if queue:
                self._lanes[lane] = queue  # behind the other lanes
        self._run_logged(work)

    def _run_logged(self, work: _Work) -> None:
        try:
            with self._context():
                work()
        except SMSVerifyError as error:
            log.warning("background work failed: %s", error, extra=log_event("background_failed"))
        except Exception as error:  # noqa: BLE001 -- the last frame of the thread: no caller could handle it
            log_external_error(
                log, "background work failed", error=error, event="background_failed"
            )
            if self._keeps_errors():
                self._errors.append(error)

    def raise_error(self) -> None:
        """Raise the first unexpected error of the functions that have run, and drop the others."""
        errors, self._errors = self._errors, []
        if errors:
            raise errors[0]

    def wait(self) -> None:
        """Wait until all work is done, including work that was submitted meanwhile."""
        while True:
            with self._lock:
                pending = {future for future in self._pending if not future.done()}
            if not pending:
                return
            wait(pending)

    def close(self) -> None:
        """Wait for all work and stop the threads. A later `submit` starts new ones."""
        self.wait()
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()

    def _reset_after_fork(self) -> None:
        self._lock = threading.Lock()
        self._pool, self._pending = None, set()
        self._lanes = OrderedDict()
