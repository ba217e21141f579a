"""One simulator for all tests of it, on a real port, with a clock that tests turn.

Every test finds it as new: nothing sent, no fault switched on, its clock where it was.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import leaks
import pytest
from clocks import Clock

from flask_smsverify.simulator import Pace, Simulator, running


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """As everywhere; but here tests ask the simulator themselves, and their clients may log it."""
    with leaks.listening(wire=False) as heard:
        yield
    assert heard.found() == []


@pytest.fixture(scope="session")
def _clock() -> Clock:
    return Clock(datetime(2026, 3, 21, 8, 30, tzinfo=UTC))


@pytest.fixture(scope="session")
def _simulator(_clock: Clock) -> Iterator[Simulator]:
    pace = Pace(at_operator=1, delivered=3, late=30, slow=0.3, hang=5)
    with running(clock=_clock, pace=pace) as simulator:
        yield simulator


@pytest.fixture
def clock(_clock: Clock) -> Clock:
    """The simulator's clock."""
    return _clock


@pytest.fixture
def simulator(_simulator: Simulator, _clock: Clock) -> Simulator:
    """A simulator that has seen nothing yet."""
    _simulator.reset()
    _clock.now = _clock.start
    return _simulator


@pytest.fixture(scope="session")
def _http(_simulator: Simulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=_simulator.url, trust_env=False, timeout=4) as client:
        yield client


@pytest.fixture
def http(simulator: Simulator, _http: httpx.Client) -> httpx.Client:
    """A plain HTTP client at the simulator's address."""
    return _http
