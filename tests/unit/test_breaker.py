"""Circuit breakers: a failing sender is skipped, probed by one call, and used again."""

from __future__ import annotations

import contextlib
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from clocks import Stopwatch

from flask_smsverify.delivery.breaker import FAILURE_THRESHOLD, OPEN_SECONDS, Breakers
from flask_smsverify.errors import Misconfigured, Rejected, TextRefused, Unavailable, Unknown

NAME = "acme"


@pytest.fixture
def clock() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
def breakers(clock: Stopwatch) -> Breakers:
    return Breakers(clock=clock)


def call(breakers: Breakers, error: BaseException | None = None, name: str = NAME) -> None:
    with contextlib.suppress(BaseException), breakers.watch(name):
        if error is not None:
            raise error


def open_breaker(breakers: Breakers, name: str = NAME) -> None:
    for _ in range(FAILURE_THRESHOLD):
        call(breakers, Unavailable(name, "down"), name)


def is_admitted(breakers: Breakers, name: str = NAME) -> bool:
    with breakers.admit(name) as admitted:
        return admitted


def test_consecutive_failures_open_the_breaker(clock: Stopwatch) -> None:
    for kind in (Unavailable, Unknown):
        breakers = Breakers(clock=clock)
        for _ in range(FAILURE_THRESHOLD - 1):
            call(breakers, kind(NAME, "no answer"))
        assert is_admitted(breakers), kind
        assert breakers.state(NAME) == "closed", kind
        call(breakers, kind(NAME, "no answer"))
        assert not is_admitted(breakers), kind
        assert breakers.state(NAME) == "open", kind


def test_refusals_are_not_failures(breakers: Breakers) -> None:
    for kind in (Rejected, Misconfigured, TextRefused):
        for _ in range(100):
            call(breakers, kind(NAME, "this number"))
        assert is_admitted(breakers), kind


def test_any_success_or_refusal_resets_the_count_of_failures(breakers: Breakers) -> None:
    for between in (None, Rejected(NAME, "this number")):
        for _ in range(20):
            for _ in range(FAILURE_THRESHOLD - 1):
                call(breakers, Unavailable(NAME, "down"))
            call(breakers, between)
        assert is_admitted(breakers), between


def test_an_interrupted_call_counts_as_neither_success_nor_failure(clock: Stopwatch) -> None:
    for error in (KeyboardInterrupt(), SystemExit(), ValueError()):
        breakers = Breakers(clock=clock)
        for _ in range(FAILURE_THRESHOLD * 2):
            call(breakers, error)
        assert is_admitted(breakers), error
        open_breaker(breakers)
        clock.advance(OPEN_SECONDS)
        call(breakers, error)
        assert breakers.state(NAME) == "open", error
        assert is_admitted(breakers), error
        call(breakers)
        assert breakers.state(NAME) == "closed", error


def test_senders_have_separate_breakers(breakers: Breakers) -> None:
    open_breaker(breakers)
    assert is_admitted(breakers, "other")


def test_an_open_breaker_admits_a_probe_after_its_time(
    breakers: Breakers, clock: Stopwatch
) -> None:
    open_breaker(breakers)
    clock.advance(OPEN_SECONDS - 0.001)
    assert not is_admitted(breakers)
    clock.advance(0.001)
    assert is_admitted(breakers)


def test_a_successful_probe_closes_the_breaker(
    breakers: Breakers, clock: Stopwatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    open_breaker(breakers)
    clock.advance(OPEN_SECONDS)
    with breakers.admit(NAME) as admitted, breakers.watch(NAME):
        assert admitted
        assert breakers.state(NAME) == "half_open"
    assert breakers.state(NAME) == "closed"
    assert [record.getMessage() for record in caplog.records] == [
        "the sender acme fails; skipped for 30 s",
        "the sender acme has recovered",
    ]
    call(breakers, Unavailable(NAME, "down"))
    assert is_admitted(breakers), "earlier failures were counted"


def test_a_failed_probe_opens_the_breaker_for_the_whole_time_again(
    breakers: Breakers, clock: Stopwatch
) -> None:
    open_breaker(breakers)
    clock.advance(OPEN_SECONDS)
    call(breakers, Unknown(NAME, "no answer"))
    clock.advance(OPEN_SECONDS - 1)
    assert not is_admitted(breakers)
    clock.advance(1)
    assert is_admitted(breakers)


def test_a_probe_that_is_refused_closes_the_breaker(breakers: Breakers, clock: Stopwatch) -> None:
    open_breaker(breakers)
    clock.advance(OPEN_SECONDS)
    call(breakers, Rejected(NAME, "this number"))
    assert breakers.state(NAME) == "closed"


def test_only_one_of_many_callers_is_admitted_to_probe(
    breakers: Breakers, clock: Stopwatch
) -> None:
    open_breaker(breakers)
    clock.advance(OPEN_SECONDS)
    callers = 32
    start, all_decided = threading.Barrier(callers), threading.Barrier(callers)

    def ask(_: int) -> bool:
        start.wait()
        with breakers.admit(NAME) as admitted:
            all_decided.wait()  # the admission lasts until every caller has asked
            return admitted

    with ThreadPoolExecutor(callers) as threads:
        assert sum(threads.map(ask, range(callers))) == 1


def test_an_admission_that_was_not_used_is_free_again(breakers: Breakers, clock: Stopwatch) -> None:
    open_breaker(breakers)
    clock.advance(OPEN_SECONDS)
    with breakers.admit(NAME) as first, breakers.admit(NAME) as second:
        assert (first, second) == (True, False)
    assert is_admitted(breakers)


def test_a_call_without_admission_counts_as_a_probe(breakers: Breakers) -> None:
    open_breaker(breakers)
    call(breakers)
    assert breakers.state(NAME) == "closed"


def test_of_two_probes_the_later_outcome_counts(breakers: Breakers) -> None:
    open_breaker(breakers)
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(breakers.watch(NAME))
        second.enter_context(breakers.watch(NAME))
        with pytest.raises(Unavailable), first.pop_all():
            raise Unavailable(NAME, "down")
        assert breakers.state(NAME) == "open"
        second.pop_all().close()
    assert breakers.state(NAME) == "closed"


def test_a_call_that_began_before_the_breaker_opened_does_not_count_as_a_probe(
    clock: Stopwatch,
) -> None:
    for error in (None, Unavailable(NAME, "down")):
        breakers = Breakers(clock=clock)
        with ExitStack() as old, ExitStack() as probe:
            old.enter_context(breakers.watch(NAME))
            open_breaker(breakers)
            probe.enter_context(breakers.watch(NAME))
            if error is None:
                old.pop_all().close()
            else:
                with pytest.raises(Unavailable), old.pop_all():
                    raise error
            assert breakers.state(NAME) == "half_open", error
            probe.pop_all().close()
        assert breakers.state(NAME) == "closed", error


def test_no_lock_is_held_during_a_call(breakers: Breakers) -> None:
    """A second sender's call, and a second call to the same sender, run inside the first."""
    with breakers.admit(NAME), breakers.watch(NAME), ThreadPoolExecutor(1) as thread:
        for name in (NAME, "other"):
            thread.submit(open_breaker, breakers, name).result(30)
            assert breakers.state(name) == "open"


def test_parallel_calls_leave_a_breaker_that_can_close(
    breakers: Breakers, clock: Stopwatch
) -> None:
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        for turn in range(200):
            is_success = (number + turn) % 3 == 0
            with breakers.admit(NAME):
                call(breakers, None if is_success else Unavailable(NAME, "down"))
            clock.advance(OPEN_SECONDS / 7)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    call(breakers)
    assert breakers.state(NAME) == "closed"
    assert is_admitted(breakers)
    assert list(breakers._breakers) == [NAME], "state was kept beside the sender's own"
