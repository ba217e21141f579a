"""A process that dies between two steps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flows import Flow
from parallel import outcome

from flask_smsverify.errors import TooSoon

MakeFlow = Callable[..., Flow]


class CrashError(BaseException):
    """Stands for the death of the process: no `except Exception` catches it."""


def test_after_a_crash_before_the_gateway_call_the_code_can_be_sent_again(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise CrashError

    with monkeypatch.context() as patched:
        patched.setattr(flow.state.delivery, "deliver", crash)
        with pytest.raises(CrashError):
            flow.start()
    assert flow.used("site") == 1
    with pytest.raises(TooSoon):
        flow.start()
    flow.clock.advance(31)
    challenge = flow.start()
    assert challenge.sends == 2
    assert flow.check(challenge, flow.memory.last.code).verified_at


def test_a_crash_before_the_comparison_costs_the_attempt(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    challenge = flow.start()

    def crash(*_: object) -> None:
        raise CrashError

    with monkeypatch.context() as patched:
        patched.setattr(flow.verifier._checker, "_compare", crash)
        for _ in range(5):
            with pytest.raises(CrashError):
                flow.check(challenge, flow.code(challenge))
    assert outcome(lambda: flow.check(challenge, flow.code(challenge))) == "TooManyAttempts"
    flow.clock.advance(31)
    assert flow.start().id != challenge.id
