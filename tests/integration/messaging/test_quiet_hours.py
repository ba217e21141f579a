"""Quiet hours that staff change, in workers that no request reaches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy
from conftest import MakeApp
from flask import Flask
from flows import MEMORY
from hostapp import db
from outbox_app import (
    memory_of,
    messages,
    notify,
    set_time,
    smsverify_of,
    state_of,
    states,
    without_inline_workers,
)
from outbox_worker import worker
from raygan_gateway import RayganGateway
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from flask_smsverify.db.models import Message
from flask_smsverify.db.types import to_ms
from flask_smsverify.limits.other_counts import Charge
from flask_smsverify.messaging.worker import DispatchProcess, InlineWorker
from flask_smsverify.settings import Limit

#: Seconds until a worker counts as one that does not notice a change.
_TIMEOUT = 120
_UTC = {"SMSVERIFY_TIMEZONE": "UTC", "SMSVERIFY_LIMITS": {"unproved_events": None}}


def around_now() -> str:
    """Return quiet hours that began six hours ago and end in six."""
    now = datetime.now(UTC)
    start, end = now - timedelta(hours=6), now + timedelta(hours=6)
    return f"{start:%H:%M}-{end:%H:%M}"


def make(make_app: MakeApp, url: str, **config: Any) -> Flask:
    """Return an app with staff, whose texts wait until the test runs a worker."""
    app = make_app(url, **{"SMSVERIFY_SENDERS": MEMORY, **_UTC, **config})
    smsverify_of(app).staff_required(lambda: False)
    without_inline_workers(app)
    return app


def save(app: Flask, **changes: object) -> None:
    """Save settings as a staff page does."""
    state_of(app).setting_store.save(changes, lambda *_: None)


def queue(app: Flask, count: int = 1) -> None:
    with app.app_context():
        for _ in range(count):
            notify(app)
        db.session.commit()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _TIMEOUT
    while not condition():
        assert time.monotonic() < end, "the worker has not noticed the change"
        time.sleep(0.02)


@contextmanager
def dispatching(app: Flask) -> Iterator[None]:
    """Run `flask smsverify dispatch --watch` in a thread, which has no app context."""
    process = DispatchProcess(state_of(app).queues, poll_seconds=0.02)
    thread = threading.Thread(target=process.run, kwargs={"watch": True})
    thread.start()
    try:
        yield
    finally:
        process.stop()
        thread.join(_TIMEOUT)


def test_another_process_sends_when_staff_end_the_quiet_hours(
    make_app: MakeApp, database: str
) -> None:
    with RayganGateway() as gateway:
        config = {
            "SMSVERIFY_SENDERS": {"main": gateway.sender},
            "SMSVERIFY_QUIET_HOURS": around_now(),
        }
        app = make(make_app, database, **config)
        save(app, quiet_hours=around_now())
        with worker(database, {**_UTC, **config}) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            queue(app, 2)
            with app.app_context():
                smsverify_of(app).send("hello", ["09121110001"])
            save(app, quiet_hours="03:00-03:01" if datetime.now(UTC).hour > 12 else "15:00-15:01")
            wait_for(lambda: gateway.taken.total() == 3)


@pytest.mark.parametrize("kind", ["event", "bulk"])
def test_a_worker_that_runs_holds_texts_when_staff_set_quiet_hours(
    make_app: MakeApp, sqlite: str, kind: str
) -> None:
    app = make(make_app, sqlite)
    other = make(make_app, sqlite, users=0)
    memory = memory_of(other)
    with dispatching(other):
        queue(app)
        wait_for(lambda: len(memory.messages) == 1)
        save(app, quiet_hours=around_now())
        # Nothing but the worker reads the settings of the other app.
        wait_for(lambda: state_of(other).live._current.quiet_hours is not None)
        if kind == "event":
            queue(app)
        else:
            with app.app_context():
                smsverify_of(app).send("hello", ["09121110001"])
        turns = threading.Semaphore(0)
        for waiting in state_of(other).queues:
            send_due = waiting.send_due
            waiting.send_due = lambda stop, send=send_due: (send(stop), turns.release())[0]
        for _ in range(8):
            assert turns.acquire(timeout=_TIMEOUT)
        assert len(memory.messages) == 1
        assert "waiting" in states(app)
        save(app, quiet_hours=None)
        wait_for(lambda: len(memory.messages) == 2)


def test_quiet_hours_that_begin_between_two_texts_of_a_lease_hold_the_second(
    make_app: MakeApp, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make(make_app, sqlite, SMSVERIFY_SENDS_IN_FLIGHT=1)
    other = make(make_app, sqlite, users=0, SMSVERIFY_SENDS_IN_FLIGHT=1)
    memory, rereading = memory_of(other), state_of(other).setting_store._rereading
    now = 100.0
    rereading._monotonic = lambda: now
    send: Callable[..., Any] = memory.send_batch

    def send_and_change(batch: Any) -> Any:
        nonlocal now
        save(app, quiet_hours=around_now())
        now += 1
        return send(batch)

    monkeypatch.setattr(memory, "send_batch", send_and_change)
    queue(app, 3)
    state_of(other).queues[0].send_due(threading.Event())
    assert len(memory.messages) == 1
    assert states(app) == {"sent", "waiting"}


@pytest.mark.parametrize(
    "event", ["quiet hours begin", "another worker takes it", "the database fails"]
)
def test_a_text_that_is_held_between_its_count_and_its_call_is_counted_once(
    make_app: MakeApp, database: str, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    app = make(
        make_app,
        database,
        SMSVERIFY_QUIET_HOURS="22:00-07:00",
        SMSVERIFY_LIMITS={"unproved_events": None, "messages": "1/day"},
    )
    start = datetime(2026, 11, 27, 21, 59, 59, tzinfo=UTC)
    set_time(app, start)
    queue(app)
    state = state_of(app)
    limits = state.queues[0]._limits  # type: ignore[attr-defined]  # of the event dispatcher
    reserve = limits.reserve

    def reserve_late(message: Message) -> Any:
        taken = reserve(message)
        monkeypatch.setattr(limits, "reserve", reserve)
        if event == "quiet hours begin":
            set_time(app, start, seconds=1)
        elif event == "another worker takes it":
            lose_lease(app)
        else:
            fail_next_attempt(app)
        return taken

    monkeypatch.setattr(limits, "reserve", reserve_late)
    state.queues[0].send_due(threading.Event())
    assert memory_of(app).messages == []
    set_time(app, start, hours=10)
    state.queues[0].send_due(threading.Event())
    assert len(memory_of(app).messages) == 1
    assert states(app) == {"sent"}


def test_a_refund_after_a_reset_takes_no_unit_of_another_text(
    make_app: MakeApp, database: str
) -> None:
    app = make(make_app, database, SMSVERIFY_LIMITS={"unproved_events": "3/day"})
    start, state = datetime.now(UTC), state_of(app)
    queue(app)
    [message] = messages(app)
    limits, counters = state.queues[0]._limits, state.counters
    charge = Charge("unproved_events", message.recipient, (Limit(3, 86400),))

    def used() -> int:
        [usage] = state.ledger.read(
            lambda session: counters.usage_in(session, [charge], to_ms(state.clock()))
        )
        return int(usage.used)

    set_time(app, start)
    before = limits.reserve(message)
    state.ledger.run(lambda session: counters.reset_in(session, [charge]))
    set_time(app, start, seconds=1)
    after = limits.reserve(message)
    limits.refund(before)
    assert used() == 1
    limits.refund(after)
    limits.refund(after)
    assert used() == 0


def fail_next_attempt(app: Flask) -> None:
    """Let the database fail when the next attempt is written."""
    has_failed: list[bool] = []

    def fail(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if not has_failed and statement.startswith("INSERT INTO smsverify_attempt"):
            has_failed.append(True)
            raise OperationalError(statement, {}, OSError("the disk is full"))

    sqlalchemy.event.listen(state_of(app).ledger.engine, "before_cursor_execute", fail)


def lose_lease(app: Flask) -> None:
    statement = update(Message).values(lease="f" * 32)
    state_of(app).ledger.run(lambda session: session.execute(statement) and None)


@pytest.mark.parametrize("number", [0, 1])
def test_a_waiting_thread_of_a_process_sends_when_staff_end_the_quiet_hours(
    make_app: MakeApp, sqlite: str, number: int
) -> None:
    app = make(make_app, sqlite, SMSVERIFY_QUIET_HOURS=around_now())
    other = make(make_app, sqlite, users=0, SMSVERIFY_QUIET_HOURS=around_now())
    if number == 0:
        queue(app)
    else:
        with app.app_context():
            smsverify_of(app).send("hello", ["09121110001"])
    inline: InlineWorker = state_of(other).inline_workers[number]
    InlineWorker.wake(inline)
    inline.wait()
    assert memory_of(other).messages == []
    save(app, quiet_hours="")
    wait_for(lambda: len(memory_of(other).messages) == 1)


def test_a_task_of_a_queue_uses_the_quiet_hours_that_staff_have_set(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make(make_app, sqlite)
    other = make(make_app, sqlite, users=0)
    with app.app_context():
        queued = notify(app)
        db.session.commit()
    save(app, quiet_hours=around_now())
    events: Any = state_of(other).queues[0]
    assert events.send_ids(queued.ids, threading.Event()) == 0
    save(app, quiet_hours=None)
    state_of(other).setting_store._rereading._read_at = None
    assert events.send_ids(queued.ids, threading.Event()) == 1


def test_a_program_that_keeps_one_app_context_uses_what_staff_have_changed(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make(make_app, sqlite)
    other = make(make_app, sqlite, users=0)
    now = 100.0
    state_of(other).setting_store._rereading._monotonic = lambda: now
    with other.app_context():
        notify(other)
        db.session.commit()
        save(app, signature="Chenar")
        now += 0.5
        queued = notify(other)
        db.session.commit()
    [text] = [message.text for message in messages(other) if message.id in queued.ids]
    assert (text or "").endswith("Chenar")
