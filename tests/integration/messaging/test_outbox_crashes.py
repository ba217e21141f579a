"""Workers that are killed or stopped: nothing is lost, and no recipient gets a text twice."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from conftest import MakeApp
from flask import Flask
from hostapp import db
from outbox_app import (
    messages,
    notify,
    run_due,
    set_time,
    smsverify_of,
    state_of,
    states,
    without_inline_workers,
)
from outbox_worker import worker
from raygan_gateway import RayganGateway
from sqlalchemy import func, select

from flask_smsverify.db.models import Attempt, Message

#: Seconds until a process counts as hanging.
_TIMEOUT = 300


@pytest.fixture
def gateway() -> Iterator[RayganGateway]:
    with RayganGateway() as gateway:
        yield gateway


def config_of(gateway: RayganGateway) -> dict[str, Any]:
    return {"SMSVERIFY_SENDERS": {"main": gateway.sender}, "SMSVERIFY_SENDS_IN_FLIGHT": 4}


def make(make_app: MakeApp, database: str, gateway: RayganGateway) -> Flask:
    app = make_app(database, users=10, **config_of(gateway))
    without_inline_workers(app)
    return app


def queue_all(app: Flask, count: int = 10) -> None:
    with app.app_context():
        for number in range(1, count + 1):
            notify(app, number)
        db.session.commit()


def wait_for(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + _TIMEOUT
    while not condition():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.05)


def line_of(process: subprocess.Popen[str], expected: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == expected:
            return
    pytest.fail(f"the worker ended before {expected!r}")


def test_a_worker_that_is_killed_before_the_gateway_call_loses_nothing(
    make_app: MakeApp, database: str, gateway: RayganGateway
) -> None:
    """Case 52, before the send."""
    app = make(make_app, database, gateway)
    queue_all(app)
    with worker(database, config_of(gateway), hold="leased") as process:
        line_of(process, "holding")
        process.send_signal(signal.SIGKILL)
        process.wait(_TIMEOUT)
    assert gateway.taken.total() == 0
    set_time(app, datetime.now(UTC), minutes=5)
    run_due(app)
    assert (len(gateway.taken), gateway.taken.total()) == (10, 10)
    assert states(app) == {"queued"}


def test_a_worker_that_is_killed_between_the_gateways_yes_and_the_write_repeats_nothing(
    make_app: MakeApp, database: str, gateway: RayganGateway
) -> None:
    """Case 52, during the send: the text is unknown until the gateway is asked about the call."""
    app = make(make_app, database, gateway)
    queue_all(app)
    with worker(database, config_of(gateway)) as process:
        killed = threading.Event()

        def kill(number: int) -> None:
            if number == 3 and not killed.is_set():
                os.kill(process.pid, signal.SIGKILL)
                killed.set()

        gateway.before_answer = kill
        process.wait(_TIMEOUT)
    start = datetime.now(UTC)
    set_time(app, start, minutes=5)
    run_due(app)
    assert set(gateway.taken.values()) == {1}
    unknown = state_of(app).outbox.unresolved()
    assert 1 <= len(unknown) <= 4  # one for each thread, at the most
    assert {message.state for message in unknown} == {"unknown"}
    set_time(app, start, minutes=6)
    [synced] = state_of(app).sync.run()
    lost = 10 - gateway.taken.total()  # the attempt was open, and the gateway was not called yet
    assert synced.found == len(unknown) - lost
    unknown = state_of(app).outbox.unresolved()
    assert len(unknown) == lost
    assert state_of(app).outbox.resend([message.id for message in unknown]) == lost
    run_due(app)
    assert (len(gateway.taken), gateway.taken.total()) == (10, 10)
    set_time(app, start, minutes=7)
    state_of(app).sync.run()
    assert states(app) == {"delivered"}


def test_a_worker_that_is_killed_after_the_write_repeats_nothing(
    make_app: MakeApp, database: str, gateway: RayganGateway
) -> None:
    """Case 52, after the send."""
    app = make(make_app, database, gateway)
    queue_all(app)
    with worker(database, config_of(gateway)) as process:
        wait_for(lambda: states(app) == {"queued"})
        process.send_signal(signal.SIGKILL)
        process.wait(_TIMEOUT)
    set_time(app, datetime.now(UTC), minutes=5)
    run_due(app)
    assert (len(gateway.taken), gateway.taken.total()) == (10, 10)
    assert state_of(app).outbox.unresolved() == []


def test_a_worker_stops_within_five_seconds_and_loses_nothing(
    make_app: MakeApp, database: str, gateway: RayganGateway
) -> None:
    app = make(make_app, database, gateway)
    queue_all(app)
    held = threading.Event()
    gateway.before_answer = lambda _number: held.wait(_TIMEOUT) and None
    with worker(database, config_of(gateway)) as process:
        wait_for(lambda: gateway.taken.total() >= 2)
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(_TIMEOUT)
        seconds = time.monotonic() - begin
    held.set()
    assert process.returncode == 0
    assert seconds < 5 + 2  # a busy machine takes a while to end a process
    taken = gateway.taken.total()
    ended = [message.state for message in messages(app)]
    assert (ended.count("unknown"), ended.count("waiting")) == (taken, 10 - taken)
    run_due(app)
    assert (len(gateway.taken), gateway.taken.total()) == (10, 10)


def test_of_two_workers_on_a_batch_one_is_killed_and_nobody_gets_the_text_twice(
    make_app: MakeApp, database: str, gateway: RayganGateway
) -> None:
    """Cases 52 and 53."""
    app = make(make_app, database, gateway)
    numbers = [f"0912{number:07}" for number in range(1, 1201)]
    with app.app_context():
        batch = smsverify_of(app).send("We are closed on Friday.", numbers)
    with (
        worker(database, config_of(gateway)) as first,
        worker(database, config_of(gateway)) as second,
    ):
        gateway.before_answer = lambda number: (
            os.kill(first.pid, signal.SIGKILL) if number == 2 and first.poll() is None else None
        )
        wait_for(lambda: gateway.taken.total() + unsent(app) >= 1200 and first.poll() is not None)
        second.send_signal(signal.SIGTERM)
        second.wait(_TIMEOUT)
    start = datetime.now(UTC)
    set_time(app, start, minutes=5)
    run_due(app)
    assert set(gateway.taken.values()) == {1}
    batch = state_of(app).batches.get(batch.id)
    assert (batch.state, batch.sent + batch.unknown) == ("done", 1200)
    set_time(app, start, minutes=6)
    state_of(app).sync.run()
    # What is missing are calls that the dead worker was about to make.
    batch = state_of(app).batches.get(batch.id)
    assert (batch.sent, batch.unknown) == (len(gateway.taken), 1200 - len(gateway.taken))


def unsent(app: Flask) -> int:
    """Return how many messages of the dead worker wait for the end of its leases."""
    query = select(func.count()).where(Message.state == Attempt.SENDING)
    return state_of(app).ledger.read(lambda session: session.scalars(query).one())
