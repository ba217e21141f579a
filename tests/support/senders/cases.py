"""Run a test for many cases as one pytest item, because items of a large matrix are slow."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from clocks import Clock
from senders.loopback import Script

from flask_smsverify.simulator import Simulator
from flask_smsverify.testing import LoopbackGateway


def each_case(names: str | tuple[str, ...], cases: Iterable[Any]) -> Callable[..., Any]:
    """Call a test once for each case. A failure names its case.

    The cases share the test's fixtures. Before each case, the gateway, the simulator, the clock and
    the log are reset, and the method `start_case` of a fixture is called.

    :param names: as for `pytest.mark.parametrize`.
    """
    arguments = names.replace(" ", "").split(",") if isinstance(names, str) else list(names)

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def run_all(*args: Any, **fixtures: Any) -> None:
            gateways = [one for one in fixtures.values() if isinstance(one, LoopbackGateway)]
            before = [(one, one.answer, one.misbehave) for one in gateways]
            count = 0
            for case in cases:
                count += 1
                for gateway, answer, misbehave in before:
                    gateway.answer, gateway.misbehave = answer, misbehave
                for fixture in fixtures.values():
                    _clear(fixture)
                values = (case,) if len(arguments) == 1 else tuple(case)
                try:
                    test(*args, **fixtures, **dict(zip(arguments, values, strict=True)))
                except BaseException as error:
                    error.add_note(f"in the case {dict(zip(arguments, values, strict=True))!r}")
                    raise
            assert count, "there are no cases"

        signature = inspect.signature(test)
        kept = [p for name, p in signature.parameters.items() if name not in arguments]
        run_all.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined] -- pytest reads it for fixtures
        return run_all

    return decorate


def _clear(fixture: object) -> None:
    if isinstance(fixture, LoopbackGateway):
        fixture.requests.clear()
    elif isinstance(fixture, Script):
        fixture.asked.clear()
    elif isinstance(fixture, pytest.LogCaptureFixture):
        fixture.clear()
    elif isinstance(fixture, Simulator):
        fixture.reset()
    elif isinstance(fixture, Clock):
        fixture.now = fixture.start
    elif hasattr(fixture, "start_case"):
        fixture.start_case()
