"""One simulator for all tests of it, on a real port, with a clock that tests advance.

Each test starts with an empty simulator, all faults off, and the clock at its start.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import leaks
import pytest
from clocks import Clock

from flask_smsverify.simulator import Simulator, Timing, running


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Check the logs for secrets, as in all tests.

    The requests that httpx logs are excluded, because here the tests send them.
    """
    with leaks.watch(clients=False) as watched:
        yield
    assert watched.found() == []


@pytest.fixture(scope="session")
def _clock() -> Clock:
    return Clock(datetime(2026, 3, 21, 8, 30, tzinfo=UTC))


@pytest.fixture(scope="session")
def _simulator(_clock: Clock) -> Iterator[Simulator]:
    timing = Timing(at_operator=1, delivered=3, late_delivery=30, slow=0.3, timeout=60)
    with running(clock=_clock, timing=timing) as simulator:
        yield simulator


@pytest.fixture
def clock(_clock: Clock) -> Clock:
    """The simulator's clock."""
    return _clock


@pytest.fixture
def simulator(_simulator: Simulator, _clock: Clock) -> Simulator:
    """An empty simulator."""
    _simulator.reset()
    _clock.now = _clock.start
    return _simulator


@pytest.fixture(scope="session")
def _http(_simulator: Simulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=_simulator.url, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def http(simulator: Simulator, _http: httpx.Client) -> httpx.Client:
    """An HTTP client with the simulator's URL as base."""
    return _http
