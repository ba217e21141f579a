"""Collect the messages of an app in a test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta

from flask import Flask

from ..delivery import Routes
from ..senders.memory import Memory, SentMessage
from ..state import AppState, get_state


class Outbox:
    """The messages that an app sent inside `outbox`, oldest first."""

    def __init__(self, state: AppState, memory: Memory) -> None:
        self._state = state
        self._memory = memory

    def __len__(self) -> int:
        return len(self.messages)

    @property
    def messages(self) -> list[SentMessage]:
        """The messages, each with `to`, `text`, `code` and `channel`.

        Reading them waits until background sends are done.

        :raises Exception: what a receiver of a signal has raised during such a send.
        """
        self._state.wait()
        self._state.workers.raise_error()
        return self._memory.messages

    @property
    def last(self) -> SentMessage:
        """The last message.

        :raises AssertionError: nothing was sent.
        """
        messages = self.messages
        if not messages:
            raise AssertionError("nothing was sent")
        return messages[-1]

    def advance(self, duration: timedelta) -> None:
        """Move the app's clock forward until the end of the `outbox` block."""
        source = self._state.clock.source
        self._state.clock.source = lambda: source() + duration

    def clear(self) -> None:
        """Remove the messages that were sent so far."""
        self._state.wait()
        self._memory.clear()


@contextlib.contextmanager
def outbox(app: Flask) -> Iterator[Outbox]:
    """Collect the messages of an app instead of sending them, whatever its senders are.

    Rate limits and cooldowns are empty at the start of the block and reset at its end.

    Example::

        with outbox(app) as box:
            client.post("/verify-mobile/send")
            client.post("/verify-mobile/check", data={"code": box.last.code})
            box.advance(timedelta(days=91))
    """
    state = get_state(app)
    memory = Memory(name="outbox")
    source = state.clock.source
    state.wait()
    with app.app_context():
        state.limit_report.reset_all()
    with state.delivery.rerouted(Routes({"outbox": memory}, {})):
        try:
            yield Outbox(state, memory)
        finally:
            state.wait()
            state.clock.source = source
            with app.app_context():
                state.limit_report.reset_all()
    state.workers.raise_error()
