"""When a process reads a table of the staff's changes again."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from flask import Flask

from flask_smsverify.db.rereading import Rereading


class Table:
    """A table whose readings wait, if they are to, until they are released."""

    def __init__(self, app: Flask) -> None:
        self.now = 100.0
        self.readings = 0
        self.answers = True
        self.began = threading.Semaphore(0)
        self.is_released = threading.Event()
        self.is_released.set()
        self.ledger = app.extensions["smsverify"].ledger
        self.rereading = Rereading(self.ledger, self._read, monotonic=lambda: self.now)

    def _read(self) -> bool:
        self.began.release()
        assert self.is_released.wait(60)
        self.readings += 1
        return self.answers


@pytest.fixture
def table(app: Flask) -> Table:
    return Table(app)


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_table_is_read_again_after_half_a_second(table: Table) -> None:
    for now, readings in ((100.0, 1), (100.4, 1), (100.5, 2), (100.9, 2), (101.0, 3)):
        table.now = now
        table.rereading.if_due()
        table.rereading.if_due()
        assert table.readings == readings


def test_young_values_are_used_while_another_thread_reads(table: Table) -> None:
    table.rereading.if_due()
    table.now = 100.9
    table.is_released.clear()
    assert table.began.acquire(timeout=60)
    reader = in_thread(table.rereading.if_due)
    assert table.began.acquire(timeout=60)
    table.rereading.if_due()  # would not return if it waited for the reader
    assert table.readings == 1
    table.is_released.set()
    reader.join(60)
    assert table.readings == 2


@pytest.mark.parametrize("has_read", [False, True])
def test_a_thread_waits_for_the_reader_where_its_values_are_a_second_old(
    table: Table, has_read: bool
) -> None:
    if has_read:
        table.rereading.if_due()
        assert table.began.acquire(timeout=60)
        table.now = 101.0
    before = table.readings
    table.is_released.clear()
    reader = in_thread(table.rereading.if_due)
    assert table.began.acquire(timeout=60)
    seen: list[int] = []
    waiting = in_thread(lambda: (table.rereading.if_due(), seen.append(table.readings)))
    waiting.join(0.2)
    assert seen == []
    table.is_released.set()
    waiting.join(60)
    reader.join(60)
    assert seen == [before + 1], "the thread that waited did not read once more"


def test_no_thread_waits_while_the_database_does_not_answer(table: Table) -> None:
    table.answers = False
    table.rereading.if_due()
    assert table.began.acquire(timeout=60)
    table.now = 200.0
    table.is_released.clear()
    reader = in_thread(table.rereading.if_due)
    assert table.began.acquire(timeout=60)
    table.rereading.if_due()
    assert table.readings == 1
    table.is_released.set()
    reader.join(60)


def test_nothing_is_read_within_a_transaction_of_the_ledger(table: Table) -> None:
    table.ledger.read(lambda _session: table.rereading.if_due())
    table.ledger.run(lambda _session: table.rereading.if_due())
    assert table.readings == 0
    table.rereading.if_due()
    assert table.readings == 1


def test_a_transaction_of_another_thread_does_not_stop_the_reading(table: Table) -> None:
    def work(_session: object) -> None:
        in_thread(table.rereading.if_due).join(60)

    table.ledger.read(work)
    assert table.readings == 1
