"""A small thread pool for work that no request waits for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from ..errors import SMSVerifyError
from ..forks import after_fork

log = logging.getLogger(__name__)

#: Number of threads.
_WORKERS = 4


class BackgroundWorkers:
    """Runs functions in worker threads, which start with the first function.

    A forked process starts its own threads. It does not have its parent's unfinished work.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._pending: set[Future[None]] = set()
        after_fork(self._reset_after_fork)

    def submit(self, work: Callable[..., object], *arguments: object) -> None:
        """Run a function in a worker thread. Its result is dropped and its errors are logged."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="smsverify")
            self._pending = {future for future in self._pending if not future.done()}
            self._pending.add(self._pool.submit(_run_logged, work, arguments))

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


def _run_logged(work: Callable[..., object], arguments: tuple[object, ...]) -> None:
    try:
        work(*arguments)
    except SMSVerifyError as error:
        log.warning("background work failed: %s", error)
    except Exception:  # the last frame of the thread: no caller could handle it
        log.exception("background work failed")
