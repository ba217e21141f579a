"""`flask smsverify dispatch`."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

import click

from ..messaging.worker import DispatchProcess
from ..state import get_state
from .group import smsverify


@contextlib.contextmanager
def stopped_by_signals(process: DispatchProcess) -> Iterator[None]:
    """Stop a process on SIGTERM and Ctrl-C within the block."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        process.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@smsverify.command("dispatch")
@click.option("--watch", is_flag=True, help="Keep running, until SIGTERM or Ctrl-C.")
def dispatch(watch: bool) -> None:
    """Send the texts in the outbox that are due."""
    process = DispatchProcess(get_state().queues)
    with stopped_by_signals(process):
        counts = process.run(watch=watch)
    for name, count in counts.items():
        click.echo(f"{name}: {count} taken")
