"""Group commit: writes that several threads request at the same time share one transaction."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ..errors import StoreUnavailable

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True)
class _Waiting(Generic[T, R]):
    """An item whose write a thread waits for.

    :param wake: set when the item is written, or when the thread is to write the next group.
    """

    item: T
    wake: threading.Event = field(default_factory=threading.Event)
    is_done: bool = False
    results: list[R] = field(default_factory=list)
    error: BaseException | None = None


class GroupCommit(Generic[T, R]):
    """Calls a function with the items of all threads that wait at that moment.

    If no thread is writing, the calling thread runs the function for itself and for those that
    wait, so no separate thread is needed. Then one of the threads that came in the meantime writes
    the next group, so no thread writes for others for long.

    :param write: writes items in one transaction and returns a result for each.
    :param largest: the largest total size that one transaction writes, unless one item alone is
        larger.
    :param size: returns the size of an item.
    :param pause: seconds between two transactions, during which more items are collected.
    """

    def __init__(
        self,
        write: Callable[[Sequence[T]], Sequence[R]],
        *,
        largest: int,
        size: Callable[[T], int],
        pause: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._write = write
        self._largest = largest
        self._size = size
        self._pause = pause
        self._clock, self._sleep = clock, sleep
        self._next_at = clock()
        self._lock = threading.Lock()
        self._waiting: list[_Waiting[T, R]] = []
        self._is_writing = False

    def __call__(self, item: T) -> R:
        """Write an item, and return its result once it is committed.

        :raises Exception: what the function raised for the item.
        """
        own: _Waiting[T, R] = _Waiting(item)
        with self._lock:
            self._waiting.append(own)
            if not self._is_writing:
                self._is_writing = True
                own.wake.set()
        own.wake.wait()
        if not own.is_done:
            self._write_group()
        if own.error is not None:
            raise own.error
        return own.results[0]

    def _write_group(self) -> None:
        """Write the items that wait longest, and let the first of the others write the next group.

        The caller's own item is among them, because the first of those that wait is the one that
        writes.
        """
        self._sleep(max(0.0, self._next_at - self._clock()))
        group = self._take_group()
        try:
            self._write_items(group)
        except StoreUnavailable as error:
            for waiting in group:
                waiting.error = error
        except Exception:  # noqa: BLE001 -- an item that cannot be written must not spoil the others
            for waiting in group:
                self._write_alone(waiting)
        except BaseException as error:
            for waiting in group:
                waiting.error = error
            raise
        finally:
            self._hand_over(group)

    def _take_group(self) -> list[_Waiting[T, R]]:
        with self._lock:
            count = total = 0
            for waiting in self._waiting:
                total += self._size(waiting.item)
                if count and total > self._largest:
                    break
                count += 1
            group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    def _write_items(self, group: Sequence[_Waiting[T, R]]) -> None:
        results = self._write([waiting.item for waiting in group])
        for waiting, result in zip(group, results, strict=True):
            waiting.results.append(result)

    def _write_alone(self, waiting: _Waiting[T, R]) -> None:
        try:
            self._write_items([waiting])
        except Exception as error:  # noqa: BLE001 -- raised in the thread that waits
            waiting.error = error

    def _hand_over(self, group: Sequence[_Waiting[T, R]]) -> None:
        for waiting in group:
            waiting.is_done = True
            waiting.wake.set()
        self._next_at = self._clock() + self._pause
        with self._lock:
            if self._waiting:
                self._waiting[0].wake.set()
            else:
                self._is_writing = False
