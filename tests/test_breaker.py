"""A sender at fault rests, is probed by one call, and comes back by itself."""

from __future__ import annotations

import contextlib
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from clocks import Stopwatch

from flask_smsverify.breaker import FAILURES, REST, Breakers
from flask_smsverify.errors import (
    Misconfigured,
    Rejected,
    SenderError,
    Unavailable,
    Unknown,
)

NAME = "acme"


@pytest.fixture
def clock() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
def breakers(clock: Stopwatch) -> Breakers:
    return Breakers(clock=clock)


def call(breakers: Breakers, error: BaseException | None = None, name: str = NAME) -> None:
    with contextlib.suppress(BaseException), breakers.watching(name):
        if error is not None:
            raise error


def break_down(breakers: Breakers, name: str = NAME) -> None:
    for _ in range(FAILURES):
        call(breakers, Unavailable(name, "down"), name)


def may(breakers: Breakers, name: str = NAME) -> bool:
    with breakers.turn(name) as in_use:
        return in_use


@pytest.mark.parametrize("kind", [Unavailable, Unknown])
def test_faults_in_a_row_make_a_sender_rest(breakers: Breakers, kind: type[SenderError]) -> None:
    for _ in range(FAILURES - 1):
        call(breakers, kind(NAME, "no answer"))
    assert may(breakers)
    assert breakers.state(NAME) == "closed"
    call(breakers, kind(NAME, "no answer"))
    assert not may(breakers)
    assert breakers.state(NAME) == "opened"


@pytest.mark.parametrize("kind", [Rejected, Misconfigured])
def test_what_is_refused_is_no_fault_of_the_service(
    breakers: Breakers, kind: type[SenderError]
) -> None:
    for _ in range(100):
        call(breakers, kind(NAME, "this number"))
    assert may(breakers)


@pytest.mark.parametrize("between", [None, Rejected(NAME, "this number")])
def test_a_sender_that_works_now_and_then_stays_in_use(
    breakers: Breakers, between: SenderError | None
) -> None:
    for _ in range(20):
        for _ in range(FAILURES - 1):
            call(breakers, Unavailable(NAME, "down"))
        call(breakers, between)
    assert may(breakers)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), ValueError()])
def test_a_call_that_is_cut_short_here_says_nothing_about_the_gateway(
    breakers: Breakers, clock: Stopwatch, error: BaseException
) -> None:
    for _ in range(FAILURES * 2):
        call(breakers, error)
    assert may(breakers)
    break_down(breakers)
    clock.advance(REST)
    call(breakers, error)
    assert breakers.state(NAME) != "closed"
    assert may(breakers)
    call(breakers)
    assert breakers.state(NAME) == "closed"


def test_one_sender_at_fault_leaves_the_others_alone(breakers: Breakers) -> None:
    break_down(breakers)
    assert may(breakers, "other")


def test_a_rest_lasts_its_time(breakers: Breakers, clock: Stopwatch) -> None:
    break_down(breakers)
    clock.advance(REST - 0.001)
    assert not may(breakers)
    clock.advance(0.001)
    assert may(breakers)


def test_a_probe_that_does_well_ends_the_rest(
    breakers: Breakers, clock: Stopwatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    break_down(breakers)
    clock.advance(REST)
    with breakers.turn(NAME) as in_use, breakers.watching(NAME):
        assert in_use
        assert breakers.state(NAME) == "half-opened"
    assert breakers.state(NAME) == "closed"
    assert [record.getMessage() for record in caplog.records] == [
        "acme is at fault and rests for 30 s",
        "acme works again",
    ]
    call(breakers, Unavailable(NAME, "down"))
    assert may(breakers), "the failures before the rest are forgotten"


def test_a_probe_that_fails_begins_the_rest_anew(breakers: Breakers, clock: Stopwatch) -> None:
    break_down(breakers)
    clock.advance(REST)
    call(breakers, Unknown(NAME, "no answer"))
    clock.advance(REST - 1)
    assert not may(breakers)
    clock.advance(1)
    assert may(breakers)


def test_a_probe_whose_number_is_refused_shows_that_the_service_works(
    breakers: Breakers, clock: Stopwatch
) -> None:
    break_down(breakers)
    clock.advance(REST)
    call(breakers, Rejected(NAME, "this number"))
    assert breakers.state(NAME) == "closed"


def test_of_many_callers_one_gets_the_turn_to_probe(breakers: Breakers, clock: Stopwatch) -> None:
    break_down(breakers)
    clock.advance(REST)
    callers = 32
    barrier, decided = threading.Barrier(callers), threading.Barrier(callers)

    def ask(_: int) -> bool:
        barrier.wait()
        with breakers.turn(NAME) as in_use:
            decided.wait()  # nobody gives the turn up before everybody has asked
            return in_use

    with ThreadPoolExecutor(callers) as threads:
        assert sum(threads.map(ask, range(callers))) == 1


def test_a_turn_that_was_not_used_is_free_again(breakers: Breakers, clock: Stopwatch) -> None:
    break_down(breakers)
    clock.advance(REST)
    with breakers.turn(NAME) as first, breakers.turn(NAME) as second:
        assert (first, second) == (True, False)
    assert may(breakers)


def test_a_call_made_in_spite_of_a_rest_counts_as_a_probe(breakers: Breakers) -> None:
    break_down(breakers)
    call(breakers)
    assert breakers.state(NAME) == "closed"


def test_the_last_word_of_two_probes_counts(breakers: Breakers) -> None:
    break_down(breakers)
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(breakers.watching(NAME))
        second.enter_context(breakers.watching(NAME))
        with pytest.raises(Unavailable), first.pop_all():
            raise Unavailable(NAME, "down")
        assert breakers.state(NAME) == "opened"
        second.pop_all().close()
    assert breakers.state(NAME) == "closed"


@pytest.mark.parametrize("error", [None, Unavailable(NAME, "down")])
def test_a_call_that_began_before_the_rest_does_not_speak_for_the_probe(
    breakers: Breakers, error: SenderError | None
) -> None:
    with ExitStack() as old, ExitStack() as probe:
        old.enter_context(breakers.watching(NAME))
        break_down(breakers)
        probe.enter_context(breakers.watching(NAME))
        if error is None:
            old.pop_all().close()
        else:
            with pytest.raises(Unavailable), old.pop_all():
                raise error
        assert breakers.state(NAME) == "half-opened"
        probe.pop_all().close()
    assert breakers.state(NAME) == "closed"


def test_threads_break_no_count(breakers: Breakers, clock: Stopwatch) -> None:
    barrier = threading.Barrier(8)

    def work(number: int) -> None:
        barrier.wait()
        for turn in range(200):
            good = (number + turn) % 3 == 0
            with breakers.turn(NAME):
                call(breakers, None if good else Unavailable(NAME, "down"))
            clock.advance(REST / 7)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    call(breakers)
    assert breakers.state(NAME) == "closed"
    assert may(breakers)


def test_nothing_piles_up_over_a_long_life(breakers: Breakers, clock: Stopwatch) -> None:
    for _ in range(50):
        break_down(breakers)
        for error in (ValueError(), Unknown(NAME, "no answer"), None):
            clock.advance(REST)
            with breakers.turn(NAME):
                call(breakers, error)
    context = breakers._factory.get_breaker(NAME).context
    assert len(context.messages) == 0
    assert not breakers._probed
    assert list(breakers._rested_at) == [NAME]
