"""Transactions that several threads share."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from flask_smsverify.db.group_commit import GroupCommit
from flask_smsverify.errors import StoreUnavailable

#: Seconds to wait for a thread, on a slow machine too.
TIMEOUT = 60


class Held:
    """A write function whose calls wait until they are released one by one."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.begun = threading.Semaphore(0)
        self.released = threading.Semaphore(0)

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.groups.append(sorted(items))
        self.begun.release()
        assert self.released.acquire(timeout=TIMEOUT)
        if 13 in items:
            raise ValueError("no thirteen")
        return [10 * item for item in items]


def one(_item: int) -> int:
    return 1


def start(commit: GroupCommit[int, int], item: int, results: dict[int, object]) -> threading.Thread:
    def run() -> None:
        try:
            results[item] = commit(item)
        except ValueError as error:
            results[item] = error

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def wait_for(commit: GroupCommit[int, int], waiting: int) -> None:
    """Wait until so many items wait for the next group."""
    limit = threading.Event()
    for _ in range(TIMEOUT * 100):
        if len(commit._waiting) == waiting:
            return
        limit.wait(0.01)
    pytest.fail("the threads did not come")


def test_what_comes_during_a_write_is_the_next_group() -> None:
    write = Held()
    commit = GroupCommit(write, largest=64, size=one, pause=0)
    results: dict[int, object] = {}
    threads = [start(commit, 1, results)]
    assert write.begun.acquire(timeout=TIMEOUT)
    threads += [start(commit, item, results) for item in (2, 3, 4)]
    wait_for(commit, 3)
    write.released.release()
    assert write.begun.acquire(timeout=TIMEOUT)
    # The thread that wrote the first group does not write for the others.
    threads[0].join(TIMEOUT)
    assert results == {1: 10}
    write.released.release()
    for thread in threads:
        thread.join(TIMEOUT)
    assert write.groups == [[1], [2, 3, 4]]
    assert results == {1: 10, 2: 20, 3: 30, 4: 40}


def test_a_group_has_at_most_the_largest_number_of_items() -> None:
    write = Held()
    commit = GroupCommit(write, largest=2, size=one, pause=0)
    results: dict[int, object] = {}
    threads = [start(commit, 1, results)]
    assert write.begun.acquire(timeout=TIMEOUT)
    threads += [start(commit, item, results) for item in (2, 3, 4)]
    wait_for(commit, 3)
    for _ in range(3):
        write.released.release()
    for thread in threads:
        thread.join(TIMEOUT)
    assert [len(group) for group in write.groups] == [1, 2, 1]
    assert len(results) == 4


def test_an_item_that_cannot_be_written_does_not_spoil_the_others_of_its_group() -> None:
    write = Held()
    commit = GroupCommit(write, largest=64, size=one, pause=0)
    results: dict[int, object] = {}
    threads = [start(commit, 1, results)]
    assert write.begun.acquire(timeout=TIMEOUT)
    threads += [start(commit, item, results) for item in (12, 13)]
    wait_for(commit, 2)
    for _ in range(4):  # the first, both together, and each of them alone
        write.released.release()
    for thread in threads:
        thread.join(TIMEOUT)
    assert (results[1], results[12]) == (10, 120)
    assert isinstance(results[13], ValueError)
    write.released.release()
    assert commit(5) == 50, "the next caller writes again"


def test_when_the_database_is_away_every_thread_of_the_group_hears_of_it() -> None:
    def fail(_items: Sequence[int]) -> list[int]:
        calls.append(1)
        raise StoreUnavailable

    calls: list[int] = []
    commit = GroupCommit(fail, largest=64, size=one, pause=0)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            commit(1)
    assert len(calls) == 2, "nothing is tried again"


def test_the_next_write_waits_for_the_rest_of_the_pause() -> None:
    now = [100.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    commit: GroupCommit[int, int] = GroupCommit(
        list, largest=64, size=one, pause=0.5, clock=lambda: now[0], sleep=sleep
    )
    assert [commit(1), commit(2)] == [1, 2]
    now[0] += 2
    assert commit(3) == 3
    assert slept == [0, 0.5, 0]
