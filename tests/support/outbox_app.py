"""Helpers for tests of the outbox: queue texts, and run the app's workers step by step."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import Any

from flask import Flask
from hostapp import User, db
from sqlalchemy import select

from flask_smsverify.db.models import Message
from flask_smsverify.messaging.event_queue import Queued

#: The event of most tests, and its values.
EVENT = "ticket.closed"


def state_of(app: Flask) -> Any:
    return app.extensions["smsverify"]


def smsverify_of(app: Flask) -> Any:
    return app.extensions["test_smsverify"]


def memory_of(app: Flask) -> Any:
    return state_of(app).delivery.routes.senders["memory"]


def notify(app: Flask, user: int | None = 1, event: str = EVENT, **options: Any) -> Queued:
    """Call `notify` in the host's session, without a commit."""
    values = dict.fromkeys(smsverify_of(app).events[event].values, "x")
    found = None if user is None else db.session.get(User, user)
    queued: Queued = smsverify_of(app).notify(event, found, **options, **values)
    return queued


def messages(app: Flask) -> list[Message]:
    """Return all messages, oldest first."""
    query = select(Message).order_by(Message.created_at, Message.recipient)
    return list(state_of(app).ledger.read(lambda session: session.scalars(query).all()))


def states(app: Flask) -> set[str]:
    """Return the states of all messages. It is fast enough for polling."""
    query = select(Message.state).distinct()
    return set(state_of(app).ledger.read(lambda session: session.scalars(query).all()))


def without_inline_workers(app: Flask) -> None:
    """Keep texts queued until the test runs a worker."""
    for worker in state_of(app).inline_workers:
        worker.wake = lambda: None


def run_due(app: Flask) -> None:
    """Send the due texts, after the inline workers have finished."""
    state_of(app).wait()
    stop = threading.Event()
    for queue in state_of(app).queues:
        queue.send_due(stop)


def set_time(app: Flask, start: datetime, **later: float) -> None:
    """Set the app's clock to a time after the start, given as in `timedelta`."""
    state_of(app).clock.source = lambda: start + timedelta(**later)
