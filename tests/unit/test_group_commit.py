"""Transactions that several threads share."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from flask_smsverify.db.group_commit import GroupCommit

#: Seconds for what always comes, however slow the machine is.
PATIENCE = 60


class Held:
    """A write function whose calls wait until they are released one by one."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.begun = threading.Semaphore(0)
        self.released = threading.Semaphore(0)

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.groups.append(sorted(items))
        self.begun.release()
        assert self.released.acquire(timeout=PATIENCE)
        if 13 in items:
            raise ValueError("no thirteen")
        return [10 * item for item in items]


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
    for _ in range(PATIENCE * 100):
        if len(commit._waiting) == waiting:
            return
        limit.wait(0.01)
    pytest.fail("the threads did not come")


def test_what_comes_during_a_write_is_the_next_group() -> None:
    write = Held()
    commit = GroupCommit(write, largest=64, pause=0)
    results: dict[int, object] = {}
    threads = [start(commit, 1, results)]
    assert write.begun.acquire(timeout=PATIENCE)
    threads += [start(commit, item, results) for item in (2, 3, 4)]
    wait_for(commit, 3)
    write.released.release()
    assert write.begun.acquire(timeout=PATIENCE)
    # The thread that wrote the first group does not write for the others.
    threads[0].join(PATIENCE)
    assert results == {1: 10}
    write.released.release()
    for thread in threads:
        thread.join(PATIENCE)
    assert write.groups == [[1], [2, 3, 4]]
    assert results == {1: 10, 2: 20, 3: 30, 4: 40}


def test_a_group_has_at_most_the_largest_number_of_items() -> None:
    write = Held()
    commit = GroupCommit(write, largest=2, pause=0)
    results: dict[int, object] = {}
    threads = [start(commit, 1, results)]
    assert write.begun.acquire(timeout=PATIENCE)
    threads += [start(commit, item, results) for item in (2, 3, 4)]
    wait_for(commit, 3)
    for _ in range(3):
        write.released.release()
    for thread in threads:
        thread.join(PATIENCE)
    assert [len(group) for group in write.groups] == [1, 2, 1]
    assert len(results) == 4


def test_an_error_is_raised_in_every_thread_of_its_group_and_in_no_other() -> None:
    write = Held()
    commit = GroupCommit(write, largest=64, pause=0)
    results: dict[int, object] = {}
    threads = [start(commit, 1, results)]
    assert write.begun.acquire(timeout=PATIENCE)
    threads += [start(commit, item, results) for item in (12, 13)]
    wait_for(commit, 2)
    write.released.release()
    write.released.release()
    for thread in threads:
        thread.join(PATIENCE)
    assert results[1] == 10
    assert results[12] is results[13]
    assert isinstance(results[12], ValueError)
    write.released.release()
    assert commit(5) == 50, "the next caller writes again"


def test_items_come_together_during_the_pause() -> None:
    now = [100.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    commit: GroupCommit[int, int] = GroupCommit(
        list, largest=64, pause=0.5, clock=lambda: now[0], sleep=sleep
    )
    assert [commit(1), commit(2)] == [1, 2]
    now[0] += 2
    assert commit(3) == 3
    assert slept == [0, 0.5, 0]
