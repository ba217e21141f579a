"""A process that dies between two steps."""

from __future__ import annotations

from typing import Any

import pytest
from flows import Flow

from flask_smsverify.errors import TooSoon


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


def test_a_crash_before_the_commit_of_a_guess_reveals_nothing_and_changes_nothing(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a wrong code nor the right one: the caller has no answer, and nothing is written."""
    challenge = flow.start()
    ledger = flow.state.ledger
    run = ledger.run

    def crash(work: Any) -> Any:
        def work_and_crash(session: Any) -> None:
            work(session)
            raise CrashError

        return run(work_and_crash)

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "run", crash)
        for code in (flow.wrong(challenge), flow.code(challenge)):
            with pytest.raises(CrashError):
                flow.check(challenge, code)
    after = flow.verifier.load(challenge.id)
    assert (after.attempts, after.state) == (0, "pending")
    assert flow.used("failures", "user 1") == 0
    assert flow.check(challenge, flow.code(challenge)).verified_at
