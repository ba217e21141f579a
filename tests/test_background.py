"""Background workers: work is done, waited for, and its errors are logged."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from flask_smsverify.delivery.background import BackgroundWorkers
from flask_smsverify.errors import StoreUnavailable


@pytest.fixture
def workers() -> Iterator[BackgroundWorkers]:
    with closing(BackgroundWorkers()) as workers:
        yield workers


def test_wait_includes_work_that_is_submitted_by_work(workers: BackgroundWorkers) -> None:
    done: list[int] = []

    def work(number: int) -> None:
        if number < 20:
            workers.submit(work, number + 1)
        done.append(number)

    workers.submit(work, 1)
    workers.wait()
    assert sorted(done) == list(range(1, 21))


def test_wait_returns_at_once_without_work(workers: BackgroundWorkers) -> None:
    before = threading.active_count()
    workers.wait()
    assert threading.active_count() == before, "threads start with the first work"


def test_errors_are_logged_and_do_not_stop_the_workers(
    workers: BackgroundWorkers, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(error: Exception) -> None:
        raise error

    for _ in range(10):  # more than there are threads
        workers.submit(fail, StoreUnavailable())
        workers.submit(fail, ValueError("a bug"))
    done = threading.Event()
    workers.submit(done.set)
    workers.wait()
    assert done.is_set()
    levels = [record.levelno for record in caplog.records]
    assert sorted(levels) == [logging.WARNING] * 10 + [logging.ERROR] * 10
    has_traceback = {record.levelno: bool(record.exc_info) for record in caplog.records}
    assert has_traceback == {logging.WARNING: False, logging.ERROR: True}


def test_close_finishes_all_work_and_a_later_submit_starts_new_threads(
    workers: BackgroundWorkers,
) -> None:
    done: list[int] = []
    for number in range(50):
        workers.submit(done.append, number)
    workers.close()
    assert sorted(done) == list(range(50))
    workers.submit(done.append, 50)
    workers.wait()
    assert done[-1] == 50
