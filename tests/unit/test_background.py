"""Background workers: work is done, waited for, and its errors are logged."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from flask_smsverify.delivery import background
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
    assert caplog.text.count("background work failed: ValueError at\n  File ") == 10
    assert "a bug" not in caplog.text  # a message of the host's code may contain a mobile


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


def test_a_lane_with_much_work_delays_other_lanes_by_one_function_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Case 82: 200 sends of one network are waiting when an honest person asks for a code."""
    monkeypatch.setattr(background, "_WORKERS", 1)  # so that the order is known
    release = threading.Event()
    order: list[str] = []
    with closing(BackgroundWorkers()) as workers:
        workers.submit(release.wait, 60, lane="192.0.2.0/24")
        for number in range(200):
            workers.submit(order.append, f"attacker {number}", lane="192.0.2.0/24")
        workers.submit(order.append, "honest", lane="198.51.100.0/24")
        release.set()
    assert order.index("honest") <= 1
    order.remove("honest")
    assert order == [f"attacker {number}" for number in range(200)]
