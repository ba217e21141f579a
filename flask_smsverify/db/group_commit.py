"""Group commit: what several threads want to write at the same time goes into one transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True)
class _Waiting(Generic[T, R]):
    item: T
    done: threading.Event = field(default_factory=threading.Event)
    results: list[R] = field(default_factory=list)
    error: BaseException | None = None


class GroupCommit(Generic[T, R]):
    """Calls a function with the items of all threads that wait at that moment.

    The first thread runs the function for itself and for those that came meanwhile, so no thread of
    its own is needed, and a single caller waits for nobody.

    :param write: writes items in one transaction and returns a result for each.
    """

    def __init__(self, write: Callable[[Sequence[T]], Sequence[R]], *, largest: int) -> None:
        self._write = write
        self._largest = largest
        self._lock = threading.Lock()
        self._waiting: list[_Waiting[T, R]] = []
        self._is_writing = False

    def __call__(self, item: T) -> R:
        """Write an item, and return its result when it is committed.

        :raises Exception: what the function raised for the group.
        """
        own: _Waiting[T, R] = _Waiting(item)
        with self._lock:
            self._waiting.append(own)
            leads = not self._is_writing
            self._is_writing = True
        if leads:
            self._write_all()
        own.done.wait()
        if own.error is not None:
            raise own.error
        return own.results[0]

    def _write_all(self) -> None:
        while True:
            with self._lock:
                group = self._waiting[: self._largest]
                self._waiting = self._waiting[self._largest :]
                if not group:
                    self._is_writing = False
                    return
            try:
                results = self._write([waiting.item for waiting in group])
                for waiting, result in zip(group, results, strict=True):
                    waiting.results.append(result)
            except BaseException as error:  # noqa: BLE001 -- raised in the threads that wait
                for waiting in group:
                    waiting.error = error
            for waiting in group:
                waiting.done.set()
