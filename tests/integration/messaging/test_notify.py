"""`notify`: texts wait in the host's transaction, are sent once after it, and never without it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy
from conftest import MakeApp
from flask import Flask
from flows import MEMORY
from hostapp import User, db
from outbox_app import (
    memory_of,
    messages,
    notify,
    run_due,
    set_time,
    state_of,
    states,
    without_inline_workers,
)
from parallel import race
from sqlalchemy import select

from flask_smsverify.db.models import Attempt, Message
from flask_smsverify.delivery import Routes
from flask_smsverify.errors import (
    ConfigurationError,
    NotCarried,
    Rejected,
    TextRefused,
    Unavailable,
    Unknown,
)
from flask_smsverify.messaging.event_queue import Skipped
from flask_smsverify.messaging.worker import InlineWorker
from flask_smsverify.senders.base import DeliveryReport, DeliveryState, Receipt, Text
from flask_smsverify.senders.memory import Memory

STAFF = "+989121111111"


@pytest.fixture
def app(make_app: MakeApp, database: str) -> Flask:
    return make_app(
        database,
        users=3,
        SMSVERIFY_SENDERS=MEMORY,
        SMSVERIFY_STAFF_MOBILES=[STAFF],
        SMSVERIFY_LIMITS={"unproved_events": None},
    )


@pytest.fixture
def sqlite_app(make_app: MakeApp, sqlite: str) -> Flask:
    return make_app(
        sqlite, users=3, SMSVERIFY_SENDERS=MEMORY, SMSVERIFY_LIMITS={"unproved_events": None}
    )


@contextmanager
def statements(app: Flask) -> Iterator[list[str]]:
    """Collect the statements of all connections to the host's database."""
    seen: list[str] = []
    lock = threading.Lock()

    def record(*arguments: Any) -> None:
        with lock:
            seen.append(arguments[2])

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", record)
    try:
        yield seen
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", record)


def test_a_text_is_sent_once_after_the_commit(app: Flask) -> None:
    with app.app_context():
        queued = notify(app)
        assert len(queued.ids) == 1
        assert memory_of(app).messages == []
        db.session.commit()
    state_of(app).wait()
    [sent] = memory_of(app).messages
    [message] = messages(app)
    assert (sent.to, sent.text) == ("+989123450001", message.text)
    assert (message.id, message.state, message.next_try_at) == (queued.ids[0], "sent", None)


def test_notify_costs_one_insert_and_no_network(app: Flask) -> None:
    with app.app_context():
        user = db.session.get(User, 1)
        app.extensions["test_smsverify"].events  # noqa: B018 -- loads the catalogue
        state_of(app).ledger.run(lambda _session: None)  # the first write stores the app's id
        notify(app, dedupe_key="warm up: the edited texts are read once a second")
        with statements(app) as seen:
            notify(app, event="domain.registered", dedupe_key="one")
        assert user is not None
        inserts = [text for text in seen if "smsverify_message" in text]
        assert len(inserts) == 1
        assert inserts[0].startswith("INSERT INTO smsverify_message")
        assert not [text for text in seen if not text.startswith(("INSERT", "SELECT"))]
        assert memory_of(app).messages == []
        db.session.rollback()


def test_nothing_is_sent_for_a_transaction_that_is_rolled_back(app: Flask) -> None:
    """Case 55."""
    with app.app_context():
        notify(app)
        db.session.rollback()
        db.session.commit()
        state_of(app).wait()
        assert memory_of(app).messages == []
        assert messages(app) == []


def test_nothing_is_sent_for_a_savepoint_that_is_rolled_back(app: Flask) -> None:
    """Case 55."""
    with app.app_context():
        notify(app, 1)
        inner = db.session.begin_nested()
        notify(app, 2)
        inner.rollback()
        kept = db.session.begin_nested()
        notify(app, 3)
        kept.commit()
        assert memory_of(app).messages == []
        db.session.commit()
    state_of(app).wait()
    assert sorted(sent.to[-1] for sent in memory_of(app).messages) == ["1", "3"]


def test_the_same_dedupe_key_queues_once_and_leaves_the_transaction_usable(app: Flask) -> None:
    with app.app_context():
        first = notify(app, dedupe_key="ticket 318")
        db.session.commit()
        user = db.session.get(User, 1)
        assert user is not None
        user.note = "written in the same transaction"
        again = notify(app, dedupe_key="ticket 318")
        other = notify(app, dedupe_key="ticket 319")
        db.session.commit()
        assert (len(first.ids), again.ids, len(other.ids)) == (1, (), 1)
        assert again.skipped == (Skipped("user", "duplicate"),)
        state_of(app).wait()
        assert len(memory_of(app).messages) == 2
        assert db.session.get(User, 1).note == "written in the same transaction"


@pytest.mark.race
def test_parallel_calls_with_one_dedupe_key_queue_once_and_raise_nothing(app: Flask) -> None:
    def act(number: int) -> None:
        with app.app_context():
            db.session.scalars(select(User)).all()  # an older snapshot, where there are any
            if app.config["SQLALCHEMY_DATABASE_URI"].startswith("sqlite"):
                db.session.rollback()
            notify(app, None, "ticket.opened", dedupe_key="one")
            db.session.commit()

    assert race(8, act) == {"ok": 8}
    state_of(app).wait()
    assert len(memory_of(app).messages) == 1


def test_a_duplicate_raises_nothing_under_repeatable_read(make_app: MakeApp, database: str) -> None:
    if database.startswith("sqlite"):
        pytest.skip("SQLite has one isolation level")
    app = make_app(
        database,
        users=3,
        SMSVERIFY_SENDERS=MEMORY,
        SQLALCHEMY_ENGINE_OPTIONS={"isolation_level": "REPEATABLE READ"},
    )
    with app.app_context():
        db.session.scalars(select(User)).all()  # takes the snapshot

        def elsewhere() -> None:
            with app.app_context():
                notify(app, dedupe_key="one")
                db.session.commit()

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        queued = notify(app, dedupe_key="one")
        assert queued.ids == ()
        assert len(notify(app, 2, dedupe_key="one").ids) == 1
        db.session.commit()
    state_of(app).wait()
    assert len(memory_of(app).messages) == 2


def test_the_result_says_what_was_not_queued(sqlite_app: Flask) -> None:
    app = sqlite_app
    with app.app_context():
        db.session.add(User(id=9, mobile=None))
        db.session.commit()
        assert notify(app, None).skipped == (Skipped("user", "no_user"),)
        assert notify(app, 9).skipped == (Skipped("user", "no_mobile"),)
        assert notify(app, 1, "domain.registered").skipped == (Skipped("staff", "no_recipients"),)
        db.session.rollback()
        state_of(app).event_texts.save("ticket.closed", "user", enabled=False)
        assert notify(app, 1).skipped == (Skipped("user", "disabled"),)
        with pytest.raises(ConfigurationError, match="no value 'numbr'"):
            app.extensions["test_smsverify"].notify("ticket.closed", None, numbr=1)


def test_only_proved_mobiles_get_texts_where_the_host_says_so(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, users=2, SMSVERIFY_SENDERS=MEMORY, SMSVERIFY_NOTIFY_UNVERIFIED=False)
    with app.app_context():
        verifier = app.extensions["test_smsverify"].verifier
        verifier.mark_verified(db.session.get(User, 2), by="a test")
        assert notify(app, 1).skipped == (Skipped("user", "unverified"),)
        assert len(notify(app, 2).ids) == 1


def test_a_text_waits_for_its_time_and_expires(sqlite_app: Flask) -> None:
    """Case 54: what is due only after its end is not sent."""
    app = sqlite_app
    now = datetime.now(UTC)
    with app.app_context():
        notify(app, 1, not_before=now + timedelta(hours=1))
        notify(app, 2, not_before=now + timedelta(hours=1), expires_at=now + timedelta(minutes=90))
        db.session.commit()
    run_due(app)
    assert memory_of(app).messages == []
    set_time(app, now, hours=2)
    run_due(app)
    assert [sent.to for sent in memory_of(app).messages] == ["+989123450001"]
    assert sorted(message.state for message in messages(app)) == ["expired", "sent"]


def test_a_naive_time_is_refused(sqlite_app: Flask) -> None:
    with sqlite_app.app_context(), pytest.raises(ValueError, match="not_before needs a time zone"):
        notify(sqlite_app, not_before=datetime(2026, 1, 1))  # noqa: DTZ001 -- the subject


# --- what was not sent ------------------------------------------------------------------------


def test_a_failure_that_may_pass_is_tried_again_five_times(sqlite_app: Flask) -> None:
    app = sqlite_app
    memory = memory_of(app)
    memory.fail_with(Unavailable("memory", "the service failed"), times=None)
    now = datetime.now(UTC)
    with app.app_context():
        notify(app)
        db.session.commit()
    for days in range(1, 9):
        run_due(app)
        set_time(app, now, days=days)
    [message] = messages(app)
    assert (message.state, message.tries, message.next_try_at) == ("failed", 6, None)
    assert "the service failed" in (message.cause or "")
    memory.clear()
    with app.app_context():
        outbox = app.extensions["test_smsverify"].outbox
        assert [found.id for found in outbox.unresolved()] == [message.id]
        assert outbox.resend([message.id]) == 1
        assert outbox.resend([message.id]) == 0
        assert outbox.unresolved() == []
    run_due(app)
    assert len(memory.messages) == 1


def test_a_text_counts_once_against_the_limits_however_often_it_is_tried(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(
        sqlite,
        users=1,
        SMSVERIFY_SENDERS=MEMORY,
        SMSVERIFY_LIMITS={"unproved_events": "2/day", "messages": "2/day"},
    )
    without_inline_workers(app)
    memory = memory_of(app)
    memory.fail_with(Unavailable("memory", "the service failed"), times=3)
    now = datetime.now(UTC)
    with app.app_context():
        notify(app)
        db.session.commit()
    for hours in range(1, 5):
        run_due(app)
        set_time(app, now, hours=hours)
    assert [(message.state, message.tries) for message in messages(app)] == [("sent", 3)]
    with app.app_context():
        for _ in range(2):
            notify(app)
        db.session.commit()
    run_due(app)
    assert len(memory.messages) == 2  # the third text is one too many


def test_a_text_that_staff_send_again_is_sent_by_the_inline_worker(sqlite_app: Flask) -> None:
    app = sqlite_app
    memory_of(app).fail_with(Rejected("memory", "blacklisted"), times=1)
    with app.app_context():
        notify(app)
        db.session.commit()
    state_of(app).wait()
    [message] = messages(app)
    assert message.state == "failed"
    state_of(app).outbox.resend([message.id])
    state_of(app).wait()
    assert states(app) == {"sent"}


@pytest.mark.parametrize("state", ["unknown", "undelivered"])
def test_a_worker_that_stops_before_it_sends_a_text_again_loses_nothing(
    sqlite_app: Flask, state: str
) -> None:
    app = sqlite_app
    without_inline_workers(app)
    [message] = _sent_with_the_outcome(app, state)
    outbox = state_of(app).outbox
    outbox.resend([message.id])
    assert outbox.abandon(outbox.lease("event", 10).token) == 0  # SIGTERM
    assert outbox.lease("event", 10).messages  # and a worker that is killed
    set_time(app, datetime.now(UTC), minutes=3)
    run_due(app)
    assert len(memory_of(app).messages) == 2


@pytest.mark.parametrize(
    ("report", "sends"), [(DeliveryState.DELIVERED, 1), (DeliveryState.UNDELIVERED, 2)]
)
def test_a_text_that_waits_again_is_not_sent_if_its_first_copy_turns_out_to_have_arrived(
    app: Flask, report: DeliveryState, sends: int
) -> None:
    without_inline_workers(app)
    [message] = _sent_with_the_outcome(app, "unknown")
    state = state_of(app)
    state.outbox.resend([message.id])
    [attempt] = state.ledger.read(lambda session: session.scalars(select(Attempt)).all())
    state.tracker.record("memory", [DeliveryReport(attempt.gateway_id, report)])
    assert states(app) == {"delivered" if sends == 1 else "waiting"}
    run_due(app)
    assert len(memory_of(app).messages) == sends


def _sent_with_the_outcome(app: Flask, state: str) -> list[Message]:
    """Send a text and write what became of it, as its gateway's answer or report would."""

    def write(session: Any) -> None:
        for model in (Attempt, Message):
            session.execute(sqlalchemy.update(model).values(state=state))

    with app.app_context():
        notify(app)
        db.session.commit()
    run_due(app)
    state_of(app).ledger.run(write)
    return messages(app)


class Holding(Memory):
    """Holds the calls until they are released."""

    def __init__(self) -> None:
        super().__init__()
        self.called, self.is_released = threading.Event(), threading.Event()

    def send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        self.called.set()
        assert self.is_released.wait(60)
        return super().send_batch(batch)


@pytest.mark.parametrize(
    ("error", "sent"),
    [(None, 0), (Rejected("memory", "no such number"), 1), (Unknown("memory", "no answer"), 1)],
)
def test_a_text_that_staff_send_again_waits_on_unless_its_first_copy_is_taken_after_all(
    app: Flask, error: Rejected | Unknown | None, sent: int
) -> None:
    """The answer of the first gateway arrives after the lease, and after the second request."""
    state = state_of(app)
    without_inline_workers(app)
    gateway, start = Holding(), datetime.now(UTC)
    if error is not None:
        gateway.fail_with(error)
    set_time(app, start)
    with app.app_context():
        notify(app)
        db.session.commit()
    stop = threading.Event()
    with state.delivery.rerouted(Routes({"memory": gateway}, {})):
        slow = threading.Thread(target=state.queues[0].send_due, args=(stop,))
        slow.start()
        assert gateway.called.wait(60)
    set_time(app, start, minutes=2)
    run_due(app)
    [message] = messages(app)
    assert message.state == "unknown"
    assert state.outbox.resend([message.id]) == 1
    stop.set()
    gateway.is_released.set()
    slow.join(60)
    assert states(app) == {"waiting" if sent else "sent"}
    run_due(app)
    assert len(memory_of(app).messages) == sent
    assert states(app) == {"sent"}


def test_waits_between_tries_are_random_up_to_a_bound(sqlite_app: Flask) -> None:
    app = sqlite_app
    memory_of(app).fail_with(Unavailable("memory", "the service failed"), times=None)
    with app.app_context():
        for _ in range(20):
            notify(app)
        db.session.commit()
    set_time(app, datetime.now(UTC))
    run_due(app)
    waits = [
        (message.next_try_at - message.updated_at).total_seconds()
        for message in messages(app)
        if message.next_try_at is not None
    ]
    assert len(set(waits)) == len(waits) == 20
    assert all(0 <= wait <= 60 for wait in waits)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Rejected("memory", "blacklisted"), "failed"),
        (TextRefused("memory", "a filtered word"), "failed"),
        (NotCarried("memory", "another operator's number"), "failed"),
        (Unknown("memory", "no answer"), "unknown"),
    ],
)
def test_a_refusal_or_a_lost_answer_is_not_sent_again(
    sqlite_app: Flask, error: Exception, state: str
) -> None:
    app = sqlite_app
    memory_of(app).fail_with(error, arrives=isinstance(error, Unknown))
    now = datetime.now(UTC)
    with app.app_context():
        notify(app)
        db.session.commit()
    run_due(app)
    set_time(app, now, days=2)
    run_due(app)
    [message] = messages(app)
    assert (message.state, message.next_try_at) == (state, None)
    assert len(memory_of(app).messages) == (1 if state == "unknown" else 0)
    with app.app_context():
        assert len(app.extensions["test_smsverify"].outbox.unresolved()) == 1


# --- workers ----------------------------------------------------------------------------------


@pytest.mark.race
def test_two_workers_send_no_text_twice(app: Flask) -> None:
    state = state_of(app)
    without_inline_workers(app)
    with app.app_context():
        for _ in range(60):
            notify(app)
        db.session.commit()
    stop = threading.Event()
    assert race(4, lambda number: state.queues[0].send_due(stop)) == {"ok": 4}
    assert len(memory_of(app).messages) == 60
    assert states(app) == {"sent"}


def test_texts_that_are_due_together_do_not_wait_for_one_another(
    sqlite_app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = sqlite_app
    without_inline_workers(app)
    memory, meeting = memory_of(app), threading.Barrier(2, timeout=10)
    send: Callable[..., Any] = memory.send_batch
    monkeypatch.setattr(memory, "send_batch", lambda batch: (meeting.wait(), send(batch))[1])
    with app.app_context():
        notify(app)
        notify(app)
        db.session.commit()
    run_due(app)
    assert len(memory.messages) == 2


def test_a_task_sends_its_texts_when_another_transaction_no_longer_locks_them(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = state_of(app)
    without_inline_workers(app)
    lease, leased = state.outbox.lease, threading.Event()

    def announced(*arguments: Any, **options: Any) -> Any:
        result = lease(*arguments, **options)
        leased.set()
        return result

    monkeypatch.setattr(state.outbox, "lease", announced)
    with app.app_context():
        ids = notify(app).ids
        db.session.commit()
        db.session.execute(select(Message).where(Message.id.in_(ids)).with_for_update())
        task = threading.Thread(target=state.queues[0].send_ids, args=(ids, threading.Event()))
        task.start()
        assert leased.wait(30)
        db.session.rollback()
        task.join(30)
    assert states(app) == {"sent"}


def test_the_rows_of_a_dead_worker_are_sent_when_its_lease_ends(app: Flask) -> None:
    """Case 52: nothing is lost if a worker dies before it has called a gateway."""
    state = state_of(app)
    without_inline_workers(app)
    with app.app_context():
        notify(app)
        db.session.commit()
    assert len(state.outbox.lease("event", 10).messages) == 1
    run_due(app)
    assert memory_of(app).messages == []
    now = datetime.now(UTC)
    set_time(app, now, minutes=3)
    run_due(app)
    assert len(memory_of(app).messages) == 1


def test_a_worker_whose_lease_was_taken_sends_nothing(app: Flask) -> None:
    state = state_of(app)
    without_inline_workers(app)
    with app.app_context():
        notify(app)
        db.session.commit()
    slow = state.outbox.lease("event", 10)
    now = datetime.now(UTC)
    set_time(app, now, minutes=3)
    run_due(app)
    state.queues[0]._send_leased(slow, threading.Event())
    assert len(memory_of(app).messages) == 1
    [message] = messages(app)
    assert message.state == "sent"


def test_an_attempt_of_a_dead_worker_becomes_unknown_and_is_not_sent_again(app: Flask) -> None:
    """Case 52."""
    state = state_of(app)
    without_inline_workers(app)
    with app.app_context():
        notify(app)
        db.session.commit()
    lease = state.outbox.lease("event", 10)
    [message] = lease.messages
    memory = memory_of(app)

    def open_attempt(session: Any) -> None:
        state.outbox.hold(session, message.id, lease.token)
        session.add(
            Attempt(
                id="a" * 32,
                message_id=message.id,
                sender=memory.name,
                state=Attempt.SENDING,
                created_at=state.clock(),
                updated_at=state.clock(),
            )
        )

    state.ledger.run(open_attempt)
    now = datetime.now(UTC)
    set_time(app, now, minutes=3)
    run_due(app)
    assert memory.messages == []
    [found] = state.outbox.unresolved()
    assert (found.id, found.state) == (message.id, "unknown")


def test_the_inline_worker_stops_soon_and_gives_back_what_it_has_not_sent(
    sqlite_app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = sqlite_app
    state, memory = state_of(app), memory_of(app)
    entered, release = threading.Event(), threading.Event()
    send: Callable[..., Any] = memory.send_batch

    def slow(batch: Any) -> Any:
        entered.set()
        assert release.wait(30)
        return send(batch)

    monkeypatch.setattr(memory, "send_batch", slow)
    with app.app_context():
        for _ in range(40):
            notify(app)
        db.session.commit()
    assert entered.wait(30)
    worker: InlineWorker = state.inline_workers[0]
    closing = threading.Thread(target=worker.close)
    closing.start()
    release.set()
    closing.join(30)
    assert not closing.is_alive()
    monkeypatch.undo()
    waiting = [message for message in messages(app) if message.state == "waiting"]
    assert len(waiting) + len(memory.messages) == 40
    assert waiting
    run_due(app)
    assert len(memory.messages) == 40
