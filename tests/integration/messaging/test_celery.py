"""`QUEUE = "celery"`: real workers on Redis and RabbitMQ send what the app queues."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import services
from conftest import MakeApp, needs
from flask import Flask
from flows import MEMORY
from hostapp import db
from outbox_app import notify, run_due, set_time, smsverify_of, state_of, states
from raygan_gateway import RayganGateway

from flask_smsverify.errors import ConfigurationError
from flask_smsverify.messaging import tasks

SUPPORT = Path(__file__).parents[2] / "support"
BROKERS = {
    "redis": f"redis://{services.REDIS[0]}:{services.REDIS[1]}/9",
    "rabbitmq": f"amqp://guest:guest@{services.RABBITMQ[0]}:{services.RABBITMQ[1]}//",
}
#: Seconds until a worker counts as hanging.
_TIMEOUT = 300


@pytest.fixture
def gateway() -> Iterator[RayganGateway]:
    with RayganGateway() as gateway:
        yield gateway


@pytest.fixture(params=[pytest.param(name, marks=needs(name)) for name in BROKERS])
def config(request: pytest.FixtureRequest, gateway: RayganGateway) -> Iterator[dict[str, Any]]:
    """Return the configuration of an app with a queue of its own on the broker."""
    config = {
        "CELERY_BROKER": BROKERS[request.param],
        "CELERY_QUEUE": f"smsverify_test_{secrets.token_hex(4)}",
        "SMSVERIFY_QUEUE": "celery",
        "SMSVERIFY_SENDERS": {"main": gateway.sender},
    }
    yield config
    from celery import Celery

    with Celery(broker=config["CELERY_BROKER"], set_as_current=False).connection() as connection:
        channel = connection.channel()
        channel.queue_delete(config["CELERY_QUEUE"])
        channel.close()


@contextmanager
def worker(database: str, config: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    path = os.pathsep.join([str(SUPPORT), str(SUPPORT.parents[1])])
    process = subprocess.Popen(
        [sys.executable, str(SUPPORT / "celery_worker.py"), database, json.dumps(config)],
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


def wait_for(condition: Callable[[], bool], meanwhile: Callable[[], object] = lambda: None) -> None:
    """Wait for a condition.

    :param meanwhile: called every 30 seconds.
    """
    begin = called = time.monotonic()
    while not condition():
        now = time.monotonic()
        assert now < begin + _TIMEOUT, "it did not happen in time"
        if now - called > 30:
            called = now
            meanwhile()
        time.sleep(0.1)


def queue_all(app: Flask) -> None:
    with app.app_context():
        for number in range(1, 11):
            notify(app, number)
        db.session.commit()


def test_a_celery_worker_sends_each_text_and_each_batch_once(
    make_app: MakeApp, database: str, config: dict[str, Any], gateway: RayganGateway
) -> None:
    app = make_app(database, users=10, **config)
    queue_all(app)
    with app.app_context():
        batch = smsverify_of(app).send("Closed on Friday.", [f"0919{n:07}" for n in range(1, 601)])
    assert gateway.taken.total() == 0
    with worker(database, config):
        dispatch = app.extensions["celery"].tasks["smsverify.dispatch"]
        # A slow machine needs another task for the batch, as beat queues it.
        wait_for(
            lambda: state_of(app).batches.get(batch.id).state == "done", meanwhile=dispatch.delay
        )
        wait_for(lambda: states(app) == {"queued"})
    assert set(gateway.taken.values()) == {1}
    assert len(gateway.taken) == 610


def test_what_a_killed_celery_worker_had_is_neither_lost_nor_repeated(
    make_app: MakeApp, sqlite: str, config: dict[str, Any], gateway: RayganGateway
) -> None:
    app = make_app(sqlite, users=10, **config)
    queue_all(app)
    with worker(sqlite, config) as process:
        gateway.before_answer = lambda number: (
            os.kill(process.pid, signal.SIGKILL) if number == 3 else None
        )
        process.wait(_TIMEOUT)
    gateway.before_answer = lambda _number: None
    set_time(app, datetime.now(UTC), minutes=5)
    run_due(app)  # as the periodic task does
    assert set(gateway.taken.values()) == {1}
    unknown = state_of(app).outbox.unresolved()
    assert len(unknown) <= 2
    assert state_of(app).outbox.next_due() is None


@pytest.fixture
def silent_broker() -> Iterator[str]:
    """Yield the URL of a broker that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}//"


def test_a_request_does_not_wait_for_a_broker_that_does_not_answer(
    make_app: MakeApp, sqlite: str, silent_broker: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(
        sqlite,
        users=10,
        CELERY_BROKER=silent_broker,
        CELERY_QUEUE="nowhere",
        SMSVERIFY_QUEUE="celery",
        SMSVERIFY_SENDERS=MEMORY,
    )
    app.extensions["celery"].conf.broker_connection_timeout = 1
    queue_all(app)
    assert "was not queued" not in caplog.text  # the request is over, and the thread still waits
    state_of(app).wait()
    assert caplog.text.count("was not queued") <= 2  # the texts of one request, together
    assert states(app) == {"waiting"}
    run_due(app)  # as the periodic task does
    assert states(app) == {"sent"}


def test_the_queue_carries_ids_only(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(
        sqlite,
        CELERY_BROKER="memory://",
        CELERY_QUEUE="ids",
        SMSVERIFY_QUEUE="celery",
        SMSVERIFY_SENDERS=MEMORY,
    )
    with app.app_context():
        queued = notify(app, 1)
        db.session.commit()
    with app.extensions["celery"].connection() as connection:
        message = connection.SimpleQueue("ids").get(timeout=5)
        assert message.payload[0] == [list(queued.ids)]


def test_two_apps_of_a_process_have_tasks_of_their_own(
    make_app: MakeApp, sqlite: str, tmp_path: Path
) -> None:
    urls = [sqlite, f"sqlite:///{tmp_path / 'second.sqlite'}"]
    apps = [
        make_app(
            url,
            users=1,
            CELERY_BROKER="memory://",
            CELERY_QUEUE=f"app {number}",
            SMSVERIFY_QUEUE="celery",
            SMSVERIFY_SENDERS=MEMORY,
        )
        for number, url in enumerate(urls)
    ]
    for app in apps:
        with app.app_context():
            notify(app, 1)
            db.session.commit()
    apps[1].extensions["celery"].tasks[tasks.DISPATCH]()
    assert [states(app) for app in apps] == [{"waiting"}, {"sent"}]


class NoEvents:
    """Stands for a dispatcher of event texts with nothing to send."""

    def send_ids(self, ids: Sequence[str], stop: threading.Event) -> int:
        return 0

    def send_due(self, stop: threading.Event) -> int:
        return 0


def test_tasks_for_a_long_batch_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that queued themselves again, beside the periodic one, would take every worker."""
    from celery import Celery

    monkeypatch.setattr(tasks, "_BULK_SECONDS", 0.0)
    celery = Celery(broker="memory://", set_as_current=False)
    celery.conf.task_default_queue = "a long batch"
    tasks.CeleryQueue(
        celery,
        events=NoEvents(),
        bulk=lambda ends: int(ends.wait(60)),  # until the task must end
        has_bulk=lambda: True,
        sync=lambda: None,
        clock=lambda: datetime.now(UTC),
    )
    with celery.connection() as connection:
        queue = connection.SimpleQueue("a long batch")
        celery.tasks[tasks.BULK]()
        assert queue.qsize() == 0
        celery.tasks[tasks.DISPATCH]()
        assert queue.qsize() == 1
        headers = queue.get_nowait().headers
    # If every worker is taken, it does not wait beside the next one.
    assert (headers["task"], headers["expires"] is not None) == (tasks.BULK, True)


def test_celery_must_be_set_up_before(make_app: MakeApp, sqlite: str) -> None:
    with pytest.raises(ConfigurationError, match="Create it before"):
        make_app(sqlite, SMSVERIFY_QUEUE="celery", SMSVERIFY_SENDERS=MEMORY)
