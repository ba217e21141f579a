"""Rows that one worker leases for several threads."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import pytest

from flask_smsverify.db.models import Message
from flask_smsverify.errors import StoreUnavailable
from flask_smsverify.messaging.lease_pool import LeasePool
from flask_smsverify.messaging.outbox import Lease

#: Seconds to wait for a thread, on a slow machine too.
TIMEOUT = 60


class Table:
    """Rows that are leased in order, up to `largest` by one lease.

    :param closed: rows that a lease finds and closes.
    """

    def __init__(self, rows: int, closed: Iterable[int] = ()) -> None:
        self.left = [Message(id=str(number)) for number in range(rows)]
        self.closed = {str(number) for number in closed}
        self.sizes: list[int] = []
        self.released: list[str] = []
        self.is_paused = False

    def lease(self, size: int) -> Lease | None:
        self.sizes.append(size)
        if self.is_paused:
            return None
        found, self.left = self.left[:size], self.left[size:]
        kept = [message for message in found if message.id not in self.closed]
        return Lease(f"lease {len(self.sizes)}", len(found), kept)

    def release(self, lease: Lease) -> None:
        self.released += ids(lease)


def pool_of(table: Table, *, threads: int = 4, largest: int = 100) -> LeasePool:
    return LeasePool(table.lease, table.release, threads=threads, largest=largest)


def take(pool: LeasePool, size: int) -> Lease | None:
    """Take exactly so many rows, where so many wait."""
    return pool.take(size, at_least=size)


def ids(lease: Lease | None) -> Sequence[str]:
    assert lease is not None
    return [message.id for message in lease.messages]


def test_one_lease_has_rows_for_every_thread() -> None:
    table = Table(40)
    pool = pool_of(table)
    assert ids(take(pool, 5)) == ["0", "1", "2", "3", "4"]
    assert ids(take(pool, 5)) == ["5", "6", "7", "8", "9"]
    assert table.sizes == [20]


def test_a_lease_is_not_larger_than_allowed_unless_one_portion_is() -> None:
    table = Table(1000)
    pool = pool_of(table, largest=100)
    assert len(ids(take(pool, 60))) == 60
    assert len(ids(take(pool, 300))) == 40
    assert len(ids(take(pool, 300))) == 300
    assert table.sizes[0] == 100
    assert set(table.sizes[1:]) == {300}


def test_every_row_is_handed_out_once_and_then_there_are_no_more() -> None:
    table = Table(23)
    pool = pool_of(table)
    taken: list[str] = []
    while (portion := take(pool, 3)) is not None:
        taken += ids(portion)
    assert taken == [str(number) for number in range(23)]
    calls = len(table.sizes)
    assert take(pool, 3) is None
    assert len(table.sizes) == calls


def test_the_threads_share_the_last_rows_and_end_together() -> None:
    """With portions of 30, the third thread would have sent nothing while the others did all."""
    pool = pool_of(Table(60), threads=3)
    taken = [len(ids(pool.take(30))) for _ in range(9)]
    assert taken == [20, 14, 9, 6, 4, 3, 2, 1, 1]
    assert pool.take(30) is None


def test_a_thread_gets_as_many_rows_as_one_call_takes_whatever_its_share_is() -> None:
    pool = pool_of(Table(60), threads=30)
    assert [len(ids(pool.take(30, at_least=25))) for _ in range(3)] == [25, 25, 10]


def test_rows_that_a_lease_closes_do_not_end_the_batch() -> None:
    pool = pool_of(Table(9, closed=range(4)), threads=1)
    assert ids(take(pool, 4)) == ["4", "5", "6", "7"]


def test_the_next_rows_are_leased_while_other_threads_take_what_is_left() -> None:
    table = Table(40)
    pool = pool_of(table)
    for _ in range(3):
        take(pool, 5)  # five of twenty are left
    may_lease, has_begun = threading.Event(), threading.Event()
    lease = table.lease

    def wait(size: int) -> Lease | None:
        has_begun.set()
        assert may_lease.wait(TIMEOUT)
        return lease(size)

    pool._lease = wait
    results: list[Sequence[str]] = []
    leasing = threading.Thread(target=lambda: results.append(ids(take(pool, 5))))
    leasing.start()
    assert has_begun.wait(TIMEOUT)
    assert ids(take(pool, 5)) == ["15", "16", "17", "18", "19"]
    waiting = threading.Thread(target=lambda: results.append(ids(take(pool, 5))))
    waiting.start()
    may_lease.set()
    for thread in (leasing, waiting):
        thread.join(TIMEOUT)
    assert sorted(results) == [
        ["20", "21", "22", "23", "24"],
        ["25", "26", "27", "28", "29"],
    ]


def test_where_a_batch_is_paused_the_rows_that_wait_are_given_back() -> None:
    table = Table(60)
    pool = pool_of(table)
    for _ in range(3):
        take(pool, 5)
    table.is_paused = True
    assert take(pool, 5) is None
    assert table.released == ["15", "16", "17", "18", "19"]


def test_a_lease_that_fails_takes_no_rows_from_the_thread_and_ends_the_others() -> None:
    table = Table(40)
    pool = pool_of(table)
    for _ in range(3):
        take(pool, 5)
    leases = 0

    def fail(_size: int) -> Lease | None:
        nonlocal leases
        leases += 1
        raise StoreUnavailable("the database is down")

    pool._lease = fail
    with pytest.raises(StoreUnavailable):
        take(pool, 5)
    assert ids(take(pool, 5)) == ["15", "16", "17", "18", "19"]
    assert take(pool, 5) is None
    assert leases == 1


def test_closing_gives_back_each_lease_even_if_one_cannot_be() -> None:
    table = Table(40)
    pool = pool_of(table)
    for _ in range(4):
        take(pool, 5)  # the fourth leases the next rows
    first, second = Lease("first", 1, [Message(id="a")]), Lease("second", 1, [Message(id="b")])
    pool._waiting.extend([first, second])
    released: list[Lease] = []

    def release(lease: Lease) -> None:
        released.append(lease)
        if lease is second:
            raise StoreUnavailable("the database is down")

    pool._release = release
    with pytest.raises(StoreUnavailable):
        pool.close()
    assert {lease.token for lease in released} == {"first", "second", "lease 2"}


def test_closing_gives_back_what_no_thread_has_taken() -> None:
    table = Table(40)
    pool = pool_of(table)
    portion = take(pool, 5)
    pool.close()
    assert table.released == [str(number) for number in range(5, 20)]
    assert take(pool, 5) is None
    assert portion is not None
    assert pool.tokens() == [portion.token]
    pool.done(portion)
    assert pool.tokens() == []
