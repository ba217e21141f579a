"""Callbacks for forked processes.

A child process has none of its parent's threads. Pools, locks and thread pools that were created
before the fork must be replaced in it.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from types import TracebackType


def after_fork(reset: Callable[[], None]) -> None:
    """Call a bound method in every child process for as long as its object is alive.

    :param reset: a bound method. Only a weak reference to its object is kept.
    """
    method = weakref.WeakMethod(reset)

    def reset_in_child() -> None:
        call = method()
        if call is not None:
            call()

    if hasattr(os, "register_at_fork"):  # Windows has no fork
        os.register_at_fork(after_in_child=reset_in_child)


class Lock:
    """A mutex that is released in a forked process, even if the parent holds it at the fork."""

    def __init__(self) -> None:
        self._reset()
        after_fork(self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()

    def acquire(self, timeout: float = -1) -> bool:
        """Return whether the lock was acquired within `timeout` seconds; -1: wait for ever."""
        return self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._lock.release()
