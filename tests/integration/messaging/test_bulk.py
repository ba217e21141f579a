"""Bulk sends: every recipient once, in batches that can be paused, stopped and continued."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

import pytest
from conftest import MakeApp, database_params
from flask import Flask
from flows import MEMORY
from hostapp import User, db
from outbox_app import (
    memory_of,
    messages,
    run_due,
    set_time,
    smsverify_of,
    state_of,
    states,
    without_inline_workers,
)
from parallel import race
from sqlalchemy import event, select, update

from flask_smsverify import signals
from flask_smsverify.db.models import Attempt, Batch, Message
from flask_smsverify.delivery import Routes
from flask_smsverify.errors import ConfigurationError, Rejected, TextRefused, Unavailable, Unknown
from flask_smsverify.messaging.lease_pool import LeasePool
from flask_smsverify.messaging.outbox import Lease
from flask_smsverify.senders.base import (
    Capability,
    DeliveryReport,
    DeliveryState,
    Receipt,
    Sender,
    Text,
)
from flask_smsverify.senders.memory import Memory

TEXT = "We are closed on Friday."

on_servers = pytest.mark.parametrize(
    "database", database_params("postgresql", "mariadb"), indirect=True
)


@pytest.fixture
def app(make_app: MakeApp, database: str) -> Flask:
    app = make_app(database, users=3, SMSVERIFY_SENDERS=MEMORY)
    without_inline_workers(app)
    return app


@pytest.fixture
def sqlite_app(make_app: MakeApp, sqlite: str) -> Flask:
    app = make_app(sqlite, users=3, SMSVERIFY_SENDERS=MEMORY)
    without_inline_workers(app)
    return app


def numbers(count: int) -> Iterator[str]:
    return (f"0912{number:07}" for number in range(1, count + 1))


def send(app: Flask, to: Any, **options: Any) -> Batch:
    with app.app_context():
        batch: Batch = smsverify_of(app).send(TEXT, to, **options)
    return batch


def reload(app: Flask, batch: Batch) -> Batch:
    found: Batch = state_of(app).batches.get(batch.id)
    return found


def test_every_recipient_gets_the_text_once(app: Flask) -> None:
    spellings = ["0912 345 0001", "+98 912 345 0001", "۰۹۱۲۳۴۵۰۰۰۱", "abc", "", None]
    with app.app_context():
        user = db.session.get(User, 2)
        batch = send(app, [spellings, user, numbers(1200), iter(["09123450002"])])
    run_due(app)
    sent = Counter(message.to for message in memory_of(app).messages)
    assert len(sent) == 1202
    assert set(sent.values()) == {1}
    batch = reload(app, batch)
    assert (batch.state, batch.recipients, batch.sent) == ("done", 1202, 1202)
    assert (batch.invalid, batch.duplicates) == (3, 3)


def test_all_users_and_groups_are_read_from_the_user_model(app: Flask) -> None:
    with app.app_context():
        db.session.add_all(
            User(mobile=f"0935{number:07}", group="gold" if number % 2 else None)
            for number in range(1, 1101)
        )
        db.session.commit()
    everybody, gold = send(app, "all"), send(app, "group:gold")
    assert (everybody.recipients, gold.recipients) == (1103, 550)
    assert everybody.source == "all"
    with app.app_context():
        smsverify_of(app).recipients_loader(lambda group: [db.session.get(User, 1)])
    assert send(app, "group:other").recipients == 1


@pytest.mark.race
def test_a_job_that_is_delivered_twice_is_one_batch(app: Flask) -> None:
    """Case 53."""
    found: list[str] = []

    def act(_number: int) -> None:
        found.append(send(app, list(numbers(700)), dedupe_key="friday").id)

    assert race(4, act) == {"ok": 4}
    assert len(set(found)) == 1
    stop = threading.Event()
    assert race(2, lambda _: state_of(app).queues[1].send_due(stop)) == {"ok": 2}
    sent = Counter(message.to for message in memory_of(app).messages)
    assert (len(sent), set(sent.values())) == (700, {1})
    batch = state_of(app).batches.get(found[0])
    assert (batch.state, batch.sent) == ("done", 700)


def test_an_interrupted_expansion_is_continued_with_the_same_key(sqlite_app: Flask) -> None:
    app = sqlite_app

    def broken() -> Iterator[str]:
        yield from numbers(600)
        raise OSError("the file was cut off")

    with pytest.raises(OSError, match="cut off"):
        send(app, broken(), dedupe_key="friday")
    run_due(app)
    assert len(memory_of(app).messages) == 500
    batch = send(app, numbers(900), dedupe_key="friday")
    assert (batch.state, batch.recipients, batch.duplicates) == ("running", 900, 0)
    run_due(app)
    assert len(memory_of(app).messages) == 900
    assert reload(app, batch).state == "done"


def test_a_worker_continues_the_expansion_of_a_dead_process(sqlite_app: Flask) -> None:
    app = sqlite_app
    now = datetime.now(UTC)
    cut, listed = send(app, "all"), send(app, list(numbers(3)))
    state = state_of(app)

    def interrupt(session: Any) -> None:
        for batch in (session.get(Batch, cut.id), session.get(Batch, listed.id)):
            batch.state = Batch.EXPANDING
        for message in session.query(type(messages(app)[0])).filter_by(batch_id=cut.id)[:2]:
            session.delete(message)
        session.get(Batch, cut.id).recipients = 1

    state.ledger.run(interrupt)
    set_time(app, now, minutes=5)
    run_due(app)
    assert len(memory_of(app).messages) == 6
    assert (reload(app, cut).state, reload(app, cut).recipients) == ("done", 3)
    assert reload(app, listed).state == "incomplete"
    assert reload(app, listed).finished_at is not None


def test_a_batch_is_paused_resumed_and_stopped(sqlite_app: Flask) -> None:
    app = sqlite_app
    batch = send(app, numbers(30))
    batches = state_of(app).batches
    assert batches.pause(batch.id).state == "paused"
    run_due(app)
    assert memory_of(app).messages == []
    batches.resume(batch.id)
    run_due(app)
    assert len(memory_of(app).messages) == 30
    other = send(app, numbers(30))
    assert batches.stop(other.id).state == "stopped"
    run_due(app)
    assert len(memory_of(app).messages) == 30
    assert (reload(app, other).skipped, reload(app, other).finished_at is not None) == (30, True)
    assert state_of(app).queues[1].next_due() is None


def test_a_batch_that_is_paused_while_recipients_are_added_sends_nothing(app: Flask) -> None:
    batches = state_of(app).batches
    paused: list[str] = []

    def pause(batch: Batch) -> None:
        if not paused:
            paused.append(batches.pause(batch.id).state)

    with app.app_context():
        batch = batches.send(TEXT, numbers(1200), progress=pause)
    assert paused == ["paused"]
    assert (batch.state, batch.recipients) == ("paused", 1200)
    run_due(app)
    assert memory_of(app).messages == []
    assert batches.resume(batch.id).state == "running"
    run_due(app)
    assert (reload(app, batch).state, reload(app, batch).sent) == ("done", 1200)


def test_a_paused_batch_is_incomplete_after_its_recipients_ended_in_an_error(app: Flask) -> None:
    batches = state_of(app).batches

    def broken() -> Iterator[str]:
        yield from numbers(500)
        [batch_id] = batches.open_ids()
        batches.pause(batch_id)
        raise OSError("the file was cut off")

    with pytest.raises(OSError, match="cut off"):
        send(app, broken(), dedupe_key="friday")
    batch = send(app, numbers(600), dedupe_key="friday")
    assert (batch.state, batch.recipients) == ("paused", 600)
    run_due(app)
    assert memory_of(app).messages == []
    batches.resume(batch.id)
    run_due(app)
    assert (reload(app, batch).state, reload(app, batch).sent) == ("done", 600)


def test_an_expansion_that_died_is_continued_although_its_batch_is_paused(
    sqlite_app: Flask,
) -> None:
    app = sqlite_app
    now = datetime.now(UTC)
    batch = cut_off(app, send(app, "all"))
    state_of(app).batches.pause(batch.id)
    set_time(app, now, minutes=5)
    assert state_of(app).queues[1].has_work()
    run_due(app)
    assert not state_of(app).queues[1].has_work()
    assert memory_of(app).messages == []
    assert (reload(app, batch).state, reload(app, batch).recipients) == ("paused", 3)
    state_of(app).batches.resume(batch.id)
    run_due(app)
    assert (reload(app, batch).state, reload(app, batch).sent) == ("done", 3)


def test_sends_of_a_batch_do_not_hide_that_its_expansion_died(sqlite_app: Flask) -> None:
    app = sqlite_app
    now = datetime.now(UTC)
    batch = cut_off(app, send(app, "all"))
    set_time(app, now, minutes=1)
    run_due(app)
    assert (reload(app, batch).state, len(memory_of(app).messages)) == ("expanding", 1)
    set_time(app, now, minutes=2, seconds=1)
    run_due(app)
    assert (reload(app, batch).state, len(memory_of(app).messages)) == ("done", 3)


def test_an_expansion_is_continued_at_once_when_asked(sqlite_app: Flask) -> None:
    app = sqlite_app
    batches = state_of(app).batches
    batch = cut_off(app, send(app, "all"))
    listed = cut_off(app, send(app, list(numbers(3))))
    with app.app_context():
        assert (batches.expand_again(batch.id).state, reload(app, batch).recipients) == (
            "running",
            3,
        )
        # Its numbers cannot be read again, and another process may still read them.
        assert batches.expand_again(listed.id).state == "expanding"
        with pytest.raises(ConfigurationError, match="no batch 'x'"):
            batches.expand_again("x")
    run_due(app)
    assert (reload(app, batch).state, reload(app, batch).sent) == ("done", 3)
    with app.app_context():
        assert batches.expand_again(batch.id).state == "done"


def test_recipients_that_a_slow_process_adds_to_a_finished_batch_are_sent_to(app: Flask) -> None:
    """Another process has continued the expansion meanwhile, and has read fewer numbers."""
    now = datetime.now(UTC)
    found: list[Batch] = []

    def slow() -> Iterator[str]:
        yield from numbers(500)
        set_time(app, now, minutes=5)
        found.append(send(app, numbers(500), dedupe_key="friday"))
        run_due(app)
        found.append(reload(app, found[0]))
        yield from numbers(800)

    batch = send(app, slow(), dedupe_key="friday")
    assert [one.state for one in found] == ["running", "done"]
    assert (batch.state, batch.recipients, batch.finished_at) == ("running", 800, None)
    run_due(app)
    assert (reload(app, batch).state, reload(app, batch).sent) == ("done", 800)
    assert len(memory_of(app).messages) == 800


@on_servers
def test_an_expansion_that_is_run_again_does_not_wait_for_texts_that_are_being_sent(
    app: Flask,
) -> None:
    batch = cut_off(app, send(app, "all"))
    state, [sending] = state_of(app), messages(app)
    with state.ledger.engine.begin() as worker, app.app_context():
        worker.execute(select(Message.id).where(Message.id == sending.id).with_for_update())
        assert state.batches.expand_again(batch.id).recipients == 3


def test_an_expansion_that_is_run_again_counts_each_item_once(app: Flask) -> None:
    batch = send(app, "all")
    [first, *_others] = messages(app)
    with app.app_context():
        smsverify_of(app).opt_out(first.recipient)
        cut_off(app, batch, after=3)
        again = state_of(app).batches.expand_again(batch.id)
    assert (again.recipients, again.opted_out, again.duplicates) == (3, 0, 0)
    with app.app_context():
        smsverify_of(app).opt_out("0912 000 0001")
    twice = send(app, [*numbers(500), *numbers(501)])
    assert (twice.recipients, twice.opted_out, twice.duplicates) == (500, 1, 500)


def test_an_expansion_that_fails_beside_another_one_changes_no_counts(app: Flask) -> None:
    now = datetime.now(UTC)

    def slow() -> Iterator[str]:
        yield from numbers(500)
        set_time(app, now, minutes=5)
        send(app, ["abc", *numbers(1200), *numbers(3)], dedupe_key="friday")
        yield from islice(numbers(1000), 500, None)
        raise OSError("the file was cut off")

    with pytest.raises(OSError, match="cut off"):
        send(app, slow(), dedupe_key="friday")
    batch = send(app, [], dedupe_key="friday")
    assert (batch.state, batch.recipients) == ("running", 1200)
    assert (batch.invalid, batch.duplicates) == (1, 3)


def test_an_expansion_that_goes_on_after_another_one_has_failed_is_not_over(app: Flask) -> None:
    now = datetime.now(UTC)
    found: list[tuple[str, datetime | None]] = []

    def broken() -> Iterator[str]:
        yield from numbers(1000)
        raise OSError("the file was cut off")

    def slow() -> Iterator[str]:
        yield from numbers(500)
        set_time(app, now, minutes=5)
        with pytest.raises(OSError, match="cut off"):
            send(app, broken(), dedupe_key="friday")
        run_due(app)
        yield from islice(numbers(1000), 500, None)
        batch = send(app, [], dedupe_key="friday")
        found.append((batch.state, batch.finished_at))
        yield from numbers(1)

    batch = send(app, slow(), dedupe_key="friday")
    assert found == [("expanding", None)]
    run_due(app)
    assert (reload(app, batch).state, reload(app, batch).sent) == ("done", 1000)


def test_recipients_that_cannot_be_read_again_keep_no_other_batch(
    sqlite_app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    app = sqlite_app
    now, mobile = datetime.now(UTC), "09121234567"
    broken = cut_off(app, send(app, "all"))
    other = send(app, list(numbers(2)))

    def fail(_group: str | None) -> list[User]:
        raise OSError(f"the directory does not know {mobile}")  # which no log shows

    with app.app_context():
        smsverify_of(app).recipients_loader(fail)
    set_time(app, now, minutes=5)
    run_due(app)
    assert (reload(app, other).state, reload(app, other).sent) == ("done", 2)
    assert (reload(app, broken).state, reload(app, broken).sent) == ("incomplete", 1)
    assert "were not read to the end: OSError at\n" in caplog.text


def test_a_batch_that_was_paused_before_the_phase_was_stored_is_resumed(
    sqlite_app: Flask,
) -> None:
    app = sqlite_app
    batch = send(app, numbers(2))
    batches = state_of(app).batches
    batches.pause(batch.id)
    forget = update(Batch).values(paused_phase=None)
    state_of(app).ledger.run(lambda session: session.execute(forget) and None)
    assert batches.resume(batch.id).state == "running"
    run_due(app)
    assert reload(app, batch).state == "done"


def cut_off(app: Flask, batch: Batch, *, after: int = 1) -> Batch:
    """Leave a batch as a process does that dies after its first recipients."""

    def work(session: Any) -> None:
        stored = session.get(Batch, batch.id)
        stored.state, stored.recipients = Batch.EXPANDING, after
        for message in session.query(Message).filter_by(batch_id=batch.id)[after:]:
            session.delete(message)

    state_of(app).ledger.run(work)
    return batch


def test_opted_out_numbers_are_left_out_before_and_at_the_send(sqlite_app: Flask) -> None:
    app = sqlite_app
    with app.app_context():
        smsverify_of(app).opt_out("0912 000 0001")
    batch = send(app, numbers(3))
    assert (batch.recipients, batch.opted_out) == (2, 1)
    with app.app_context():
        smsverify_of(app).opt_out("0912 000 0002")
    run_due(app)
    assert [message.to for message in memory_of(app).messages] == ["+989120000003"]
    assert (reload(app, batch).sent, reload(app, batch).skipped) == (1, 1)


class Filtering(Memory):
    """A gateway with a blacklist."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        return super().capabilities | {Capability.FILTER}

    def reachable(self, mobiles: Any) -> set[str]:
        return {mobile for mobile in mobiles if not mobile.endswith("2")}


def test_numbers_on_the_gateways_blacklist_are_left_out(sqlite_app: Flask) -> None:
    app = sqlite_app
    gateway = Filtering()
    state_of(app).delivery.use_routes(Routes({"memory": gateway}, {}))
    batch = send(app, numbers(3))
    run_due(app)
    assert sorted(message.to[-1] for message in gateway.messages) == ["1", "3"]
    assert (reload(app, batch).sent, reload(app, batch).skipped) == (2, 1)


def test_the_preview_counts_and_sends_nothing(sqlite_app: Flask) -> None:
    app = sqlite_app
    with app.app_context():
        smsverify_of(app).opt_out("0912 000 0001")
        preview = state_of(app).batches.preview("x" * 161, ["abc", *numbers(3), *numbers(3)])
    assert (preview.recipients, preview.parts, preview.duplicates) == (2, 2, 3)
    assert (preview.opted_out, preview.invalid, preview.cost) == (1, ("abc",), None)
    assert messages(app) == []


def test_a_bad_number_fails_alone(sqlite_app: Flask) -> None:
    app = sqlite_app
    memory = memory_of(app)
    memory.fail_with(Rejected("memory", "no such number"), to="+989120000001")
    memory.fail_with(Unknown("memory", "no answer"), to="+989120000002", arrives=True)
    batch = send(app, numbers(5))
    run_due(app)
    batch = reload(app, batch)
    assert (batch.sent, batch.failed, batch.unknown, batch.state) == (3, 1, 1, "done")
    assert len(memory.messages) == 4
    assert {found.state for found in state_of(app).outbox.unresolved()} == {"failed", "unknown"}


def test_a_text_of_a_finished_batch_can_be_sent_again(app: Flask) -> None:
    memory = memory_of(app)
    memory.fail_with(Rejected("memory", "blacklisted"), times=1)
    batch = send(app, list(numbers(2)))
    run_due(app)
    before = reload(app, batch)
    assert (before.state, before.sent + before.failed) == ("done", 2)
    failed = [message.id for message in messages(app) if message.state == "failed"]
    assert state_of(app).outbox.resend(failed) == before.failed > 0
    waiting = reload(app, batch)
    assert (waiting.state, waiting.failed, waiting.finished_at) == ("running", 0, None)
    run_due(app)
    after = reload(app, batch)
    assert (after.state, after.sent, after.failed) == ("done", 2, 0)
    assert after.finished_at is not None
    assert len(memory.messages) == 2


def test_the_texts_of_a_stopped_batch_are_not_sent_again(sqlite_app: Flask) -> None:
    app = sqlite_app
    batch = send(app, list(numbers(2)))
    state_of(app).batches.stop(batch.id)
    assert state_of(app).outbox.resend([message.id for message in messages(app)]) == 0
    run_due(app)
    assert memory_of(app).messages == []
    assert states(app) == {"skipped"}


def test_a_batch_that_is_stopped_after_its_worker_died_ends(app: Flask) -> None:
    """The worker had called a gateway for one of the texts that it held."""
    now = datetime.now(UTC)
    set_time(app, now)
    batch = send(app, list(numbers(5)))
    state = state_of(app)
    called, _prepared = state.outbox.lease(Message.BULK, 2, batch_id=batch.id).messages
    attempt = state.queues[1]._attempts.new(called.id, memory_of(app))
    state.ledger.run(lambda session: session.add(attempt))
    state.batches.stop(batch.id)
    assert (reload(app, batch).state, reload(app, batch).finished_at) == ("stopped", None)
    set_time(app, now, minutes=5)
    assert state.queues[1].next_due() is not None
    run_due(app)
    ended = reload(app, batch)
    assert (ended.state, ended.skipped, ended.unknown) == ("stopped", 4, 1)
    assert ended.finished_at is not None
    assert state.queues[1].next_due() is None
    assert memory_of(app).messages == []


def test_a_worker_ends_the_batch_that_is_stopped_while_it_sends_it(
    make_app: MakeApp, database: str
) -> None:
    app, gateway = holding_site(make_app, database, in_flight=1)
    batch = send(app, numbers(40))
    worker = threading.Thread(target=state_of(app).queues[1].send_due, args=(threading.Event(),))
    worker.start()
    assert gateway.called.acquire(timeout=60)
    wait_until(lambda: len(attempts(app)) == 2)  # the other thread has prepared its call
    state_of(app).batches.stop(batch.id)
    gateway.is_released.set()
    worker.join(60)
    ended = reload(app, batch)
    assert (ended.state, ended.sent, ended.skipped) == ("stopped", 2, 38)
    assert ended.finished_at is not None


@on_servers
def test_a_text_is_not_sent_again_if_its_batch_is_stopped_meanwhile(app: Flask) -> None:
    memory_of(app).fail_with(Rejected("memory", "blacklisted"), times=1)
    batch = send(app, list(numbers(2)))
    run_due(app)
    failed = [message.id for message in messages(app) if message.state == "failed"]
    has_read, resent = threading.Event(), list[int]()

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if threading.current_thread() is resending and "smsverify_message" in statement:
            has_read.set()

    resending = threading.Thread(
        target=lambda: resent.append(state_of(app).outbox.resend(failed)), daemon=True
    )

    def stop(session: Any) -> None:
        stored = session.get(Batch, batch.id, with_for_update=True)
        stored.state = Batch.STOPPED
        session.flush()
        if not resending.ident:
            resending.start()
        assert has_read.wait(60)

    event.listen(state_of(app).ledger.engine, "after_cursor_execute", note)
    state_of(app).ledger.run(stop)
    resending.join(60)
    assert resent == [0]
    assert {message.state for message in messages(app) if message.id in failed} == {"failed"}


def test_the_counts_of_a_batch_follow_later_delivery_reports(app: Flask) -> None:
    batch = send(app, numbers(4))
    run_due(app)
    assert (reload(app, batch).sent, reload(app, batch).failed) == (4, 0)
    ids = gateway_ids(app)
    states = (DeliveryState.REJECTED, DeliveryState.REJECTED, DeliveryState.DELIVERED)
    reports = [DeliveryReport(*report) for report in zip(ids, states, strict=False)]
    for _ in range(2):  # the gateway calls twice
        state_of(app).tracker.record("memory", reports)
    assert (reload(app, batch).sent, reload(app, batch).failed) == (2, 2)


def gateway_ids(app: Flask) -> list[str]:
    query = select(Attempt.gateway_id)
    return list(state_of(app).ledger.read(lambda session: session.scalars(query).all()))


def test_another_sender_carries_what_the_first_cannot(sqlite_app: Flask) -> None:
    app = sqlite_app
    first, second = Memory(name="first"), Memory(name="second")
    first.fail_with(Unavailable("first", "no credit"), times=None)
    state_of(app).delivery.use_routes(Routes({"first": first, "second": second}, {}))
    batch = send(app, numbers(5))
    run_due(app)
    assert len(second.messages) == 5
    assert reload(app, batch).sent == 5


def test_a_batch_waits_for_its_gateway_to_recover(sqlite_app: Flask) -> None:
    app = sqlite_app
    memory, now = memory_of(app), datetime.now(UTC)
    memory.fail_with(Unavailable("memory", "no credit"), times=None)
    batch = send(app, numbers(5))
    run_due(app)
    assert states(app) == {"waiting"}
    assert reload(app, batch).state == "running"
    memory.clear()
    set_time(app, now, hours=1)
    run_due(app)
    assert (len(memory.messages), reload(app, batch).state) == (5, "done")


def test_quiet_hours_that_begin_during_a_batch_hold_what_is_not_yet_prepared(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(
        sqlite,
        users=1,
        SMSVERIFY_SENDERS=MEMORY,
        SMSVERIFY_QUIET_HOURS="22:00-07:00",
        SMSVERIFY_SENDS_IN_FLIGHT=1,
    )
    without_inline_workers(app)
    start = datetime(2026, 11, 27, 18, 29, 59, tzinfo=UTC)  # 21:59:59 in Tehran
    set_time(app, start)
    memory = OneByOne(lambda: set_time(app, start, seconds=1))
    state_of(app).delivery.use_routes(Routes({"memory": memory}, {}))
    batch = send(app, numbers(20))
    run_due(app)
    # A second thread may have prepared its call before the first one was made.
    assert 1 <= len(memory.messages) <= 2
    waiting = [message for message in messages(app) if message.state == "waiting"]
    assert len(waiting) == 20 - len(memory.messages)
    assert {(message.tries, message.cause, message.lease) for message in waiting} == {
        (0, None, None)
    }
    set_time(app, start, hours=9, seconds=1)
    run_due(app)
    assert (reload(app, batch).sent, reload(app, batch).state) == (20, "done")
    assert len({message.to for message in memory.messages}) == len(memory.messages) == 20


class OneByOne(Memory):
    """A gateway that takes one text a call, and does something before the first."""

    batch_limit = 1

    def __init__(self, before_first: Callable[[], None]) -> None:
        super().__init__()
        self._before_first = before_first

    def send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        if not self.messages:
            self._before_first()
        return super().send_batch(batch)


def test_bulk_and_event_texts_wait_for_the_end_of_the_quiet_hours(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, users=1, SMSVERIFY_SENDERS=MEMORY, SMSVERIFY_QUIET_HOURS="22:00-07:00")
    without_inline_workers(app)
    evening = datetime(2026, 11, 27, 19, 0, tzinfo=UTC)  # 22:30 in Tehran
    set_time(app, evening)
    send(app, numbers(3))
    run_due(app)
    assert memory_of(app).messages == []
    assert state_of(app).queues[1].next_due() == datetime(2026, 11, 28, 3, 30, tzinfo=UTC)
    set_time(app, evening, hours=8, minutes=29)
    run_due(app)
    assert memory_of(app).messages == []
    set_time(app, evening, hours=8, minutes=30)
    run_due(app)
    assert len(memory_of(app).messages) == 3


def test_a_text_that_no_gateway_carries_is_not_tried_again(sqlite_app: Flask) -> None:
    app = sqlite_app
    memory_of(app).fail_with(TextRefused("memory", "a filtered word"), times=None)
    batch = send(app, numbers(3))
    run_due(app)
    assert (reload(app, batch).failed, reload(app, batch).state) == (3, "done")
    assert {message.cause for message in messages(app)} == {"memory: a filtered word"}


class Holding(Memory):
    """A gateway that takes one text a call, and holds all calls until they are released."""

    batch_limit = 1

    def __init__(self) -> None:
        super().__init__()
        self.called = threading.Semaphore(0)
        self.is_released = threading.Event()

    def send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        self.called.release()
        assert self.is_released.wait(60)
        return super().send_batch(batch)


def holding_site(make_app: MakeApp, database: str, in_flight: int) -> tuple[Flask, Holding]:
    app = make_app(database, SMSVERIFY_SENDS_IN_FLIGHT=in_flight)
    without_inline_workers(app)
    gateway = Holding()
    state_of(app).delivery.use_routes(Routes({"memory": gateway}, {}))
    return app, gateway


def test_as_many_calls_are_in_flight_as_allowed_and_no_more(make_app: MakeApp, sqlite: str) -> None:
    app, gateway = holding_site(make_app, sqlite, in_flight=3)
    batch = send(app, numbers(90))
    worker = threading.Thread(target=state_of(app).queues[1].send_due, args=(threading.Event(),))
    worker.start()
    for _ in range(3):
        assert gateway.called.acquire(timeout=60)
    # The two other threads have prepared their calls meanwhile, and wait.
    wait_until(lambda: len(attempts(app)) == 5)
    assert not gateway.called.acquire(timeout=0.3)
    gateway.is_released.set()
    worker.join(60)
    assert reload(app, batch).sent == 90


def test_a_worker_that_is_stopped_while_its_gateway_hangs_gives_back_what_was_not_called(
    make_app: MakeApp, sqlite: str
) -> None:
    app, gateway = holding_site(make_app, sqlite, in_flight=2)
    state = state_of(app)
    failed: list[Any] = []
    batch = send(app, numbers(30))

    def note(_app: Flask, **values: Any) -> None:
        failed.append(values)

    stop, queue = threading.Event(), state.queues[1]
    worker = threading.Thread(target=queue.send_due, args=(stop,))
    with signals.message_failed.connected_to(note, app):
        worker.start()
        for _ in range(2):
            assert gateway.called.acquire(timeout=60)
        wait_until(lambda: len(attempts(app)) == 3)
        stop.set()
        # The texts of the third thread are free before the others are abandoned.
        wait_until(lambda: "waiting" in states_of_failed_attempts(app))
        assert queue.abandon() == 2
    assert failed == [], "nothing has failed"
    assert Counter(m.state for m in messages(app)) == {"waiting": 28, "unknown": 2}
    assert sorted(a.state for a in attempts(app)) == ["failed", "unknown", "unknown"]
    gateway.is_released.set()
    worker.join(60)
    run_due(app)
    assert (reload(app, batch).sent, reload(app, batch).unknown) == (30, 0)
    assert len({m.to for m in gateway.messages}) == len(gateway.messages) == 30


def test_texts_are_sent_later_when_no_connection_can_be_opened(
    make_app: MakeApp, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(sqlite)
    without_inline_workers(app)
    batch, now = send(app, numbers(5)), datetime.now(UTC)

    def fail(_sender: Sender) -> Sender:
        raise OSError(24, "too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(state_of(app).queues[1], "_own_sender", fail)
        run_due(app)
    assert {(m.state, m.cause) for m in messages(app)} == {("waiting", None)}
    set_time(app, now, minutes=2)
    run_due(app)
    assert reload(app, batch).sent == 5


def test_the_cost_of_each_text_of_a_call_is_stored(app: Flask) -> None:
    class Charging(Memory):
        """Reports a cost for every number but the last."""

        def send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
            costs = [None if text.to.endswith("3") else Decimal(text.to[-1]) / 8 for text in batch]
            receipts = super().send_batch(batch)
            return [replace(item, cost=cost) for item, cost in zip(receipts, costs, strict=True)]

    state_of(app).delivery.use_routes(Routes({"memory": Charging()}, {}))
    send(app, numbers(3))
    run_due(app)
    query = select(Message.recipient, Attempt.cost).join(Attempt, Attempt.message_id == Message.id)
    rows = state_of(app).ledger.read(lambda session: session.execute(query).all())
    found = {recipient[-1]: cost for recipient, cost in rows}
    assert found == {"1": Decimal("0.125"), "2": Decimal("0.25"), "3": None}


def test_a_receipt_with_an_id_that_no_database_stores_spoils_no_other(sqlite_app: Flask) -> None:
    class Odd(Memory):
        batch_limit = 1

        def send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
            [receipt] = super().send_batch(batch)
            return [replace(receipt, id="\ud800" if batch[0].to.endswith("3") else "1\0")]

    app = sqlite_app
    state_of(app).delivery.use_routes(Routes({"memory": Odd()}, {}))
    batch = send(app, numbers(6))
    run_due(app)
    assert (reload(app, batch).sent, reload(app, batch).state) == (6, "done")


def test_a_process_that_is_forked_during_a_bulk_send_sends_its_own_batches(
    make_app: MakeApp, sqlite: str
) -> None:
    app, gateway = holding_site(make_app, sqlite, in_flight=2)
    send(app, numbers(10))
    queue = state_of(app).queues[1]
    gateway.is_released.set()
    pool = LeasePool(
        lambda _size: Lease("of the parent", 1, [Message(id="1")]),
        lambda _lease: None,
        threads=1,
        largest=1,
    )
    queue._pools.append(pool)
    pool.take(1)
    with queue._write._lock, pool._lock:  # as other threads hold them
        child = os.fork()
        if child == 0:
            status = 2
            try:
                has_leases = bool(queue._pools)
                status = int(has_leases or queue.send_due(threading.Event()) != 10)
            finally:
                os._exit(status)
    _, ended = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(ended) == 0


def test_a_lease_is_renewed_for_a_call_when_ten_seconds_are_over(app: Flask) -> None:
    start = datetime.now(UTC)
    set_time(app, start)
    batch = send(app, numbers(1))
    state = state_of(app)
    [leased] = state.outbox.lease(Message.BULK, 1, batch_id=batch.id).messages

    def end_of_lease(seconds: int) -> datetime | None:
        set_time(app, start, seconds=seconds)
        state.ledger.run(lambda session: state.outbox.renew(session, [leased]))
        [message] = messages(app)
        return message.next_try_at

    assert end_of_lease(9) == leased.next_try_at
    assert end_of_lease(11) == leased.next_try_at + timedelta(seconds=11)


def test_a_worker_whose_leases_have_ended_sends_only_what_it_is_sending(
    make_app: MakeApp, sqlite: str
) -> None:
    slow, gateway = holding_site(make_app, sqlite, in_flight=1)
    start = datetime.now(UTC)
    set_time(slow, start)
    batch = send(slow, numbers(12))
    worker = threading.Thread(target=state_of(slow).queues[1].send_due, args=(threading.Event(),))
    worker.start()
    assert gateway.called.acquire(timeout=60)
    wait_until(lambda: len(attempts(slow)) == 2)  # the other thread has prepared its call
    other = make_app(sqlite, SMSVERIFY_SENDERS=MEMORY)
    without_inline_workers(other)
    set_time(other, start, minutes=2)
    run_due(other)
    taken = {message.to for message in memory_of(other).messages}
    gateway.is_released.set()
    worker.join(60)
    assert len(taken) == 10
    assert {message.to for message in gateway.messages}.isdisjoint(taken)
    assert len(gateway.messages) == 2
    assert Counter(message.state for message in messages(other)) == {"sent": 12}
    assert reload(other, batch).sent == 12


def test_the_counts_of_a_batch_add_up_after_a_user_was_erased(app: Flask) -> None:
    batch = send(app, "all")
    with app.app_context():
        state_of(app).verifier.forget(db.session.get(User, 2))
    run_due(app)
    ended = reload(app, batch)
    assert (ended.state, ended.recipients, ended.sent) == ("done", 2, 2)


def test_what_a_worker_closes_without_a_call_is_counted_at_once(app: Flask) -> None:
    now = datetime.now(UTC)
    set_time(app, now)
    batch = send(app, list(numbers(3)))
    state = state_of(app)
    called, *_rest = state.outbox.lease(Message.BULK, 3, batch_id=batch.id).messages
    attempt = state.queues[1]._attempts.new(called.id, memory_of(app))
    state.ledger.run(lambda session: session.add(attempt))
    with app.app_context():
        [opted_out, *_] = {f"+98{number[1:]}" for number in numbers(3)} - {called.recipient}
        smsverify_of(app).opt_out(opted_out)
    set_time(app, now, minutes=5)
    assert len(state.outbox.lease(Message.BULK, 3, batch_id=batch.id).messages) == 1
    assert (reload(app, batch).unknown, reload(app, batch).skipped) == (1, 1)


@pytest.mark.parametrize("is_resent", [False, True])
@pytest.mark.parametrize("error", [None, Rejected("memory", "no such number")])
def test_an_answer_that_arrives_after_the_lease_ended_is_counted_once(
    make_app: MakeApp,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    error: Rejected | None,
    is_resent: bool,
) -> None:
    """Another worker has closed the text as unknown, and staff may have sent it again."""
    slow, gateway = holding_site(make_app, database, in_flight=1)
    if error is not None:
        gateway.fail_with(error)
    start = datetime.now(UTC)
    set_time(slow, start)
    batch = send(slow, numbers(1))
    # The worker is killed before it counts again.
    monkeypatch.setattr(state_of(slow).batches, "finish", lambda _batch_id: False)
    worker = threading.Thread(target=state_of(slow).queues[1].send_due, args=(threading.Event(),))
    worker.start()
    assert gateway.called.acquire(timeout=60)
    other = make_app(database, SMSVERIFY_SENDERS=MEMORY)
    without_inline_workers(other)
    set_time(other, start, minutes=2)
    run_due(other)
    assert (reload(other, batch).state, reload(other, batch).unknown) == ("done", 1)
    if is_resent:
        [message] = messages(other)
        assert state_of(other).outbox.resend([message.id]) == 1
    gateway.is_released.set()
    worker.join(60)
    counted = reload(other, batch)
    counts = (counted.sent, counted.failed, counted.unknown)
    assert counts == ((1, 0, 0) if error is None else (0, 0, 0) if is_resent else (0, 1, 0))
    run_due(other)
    assert len(memory_of(other).messages) == int(is_resent and error is not None)
    ended = reload(other, batch)
    assert (ended.state, ended.sent + ended.failed, ended.unknown) == ("done", 1, 0)


class BusyThenHolding(Holding):
    """Refuses the first call as overloaded, and holds the others until they are released."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = ""

    def send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        if not self.refused:
            self.refused = batch[0].to
            raise Unavailable("memory", "overloaded")
        return super().send_batch(batch)


def test_a_text_that_another_worker_has_sent_meanwhile_does_not_wait_again(
    make_app: MakeApp, sqlite: str
) -> None:
    """The first worker wants to try a text again, but its lease has ended."""
    slow = make_app(sqlite, SMSVERIFY_SENDS_IN_FLIGHT=1)
    without_inline_workers(slow)
    gateway = BusyThenHolding()
    state_of(slow).delivery.use_routes(Routes({"memory": gateway}, {}))
    state_of(slow).queues[1]._threads = 1
    start = datetime.now(UTC)
    set_time(slow, start)
    batch = send(slow, numbers(3))
    worker = threading.Thread(target=state_of(slow).queues[1].send_due, args=(threading.Event(),))
    worker.start()
    assert gateway.called.acquire(timeout=60)
    other = make_app(sqlite, SMSVERIFY_SENDERS=MEMORY)
    without_inline_workers(other)
    set_time(other, start, minutes=2)
    run_due(other)
    taken = [message.to for message in memory_of(other).messages]
    assert gateway.refused in taken
    set_time(slow, start, minutes=2)
    gateway.is_released.set()
    worker.join(60)
    set_time(other, start, hours=9)
    run_due(other)
    sent = [message.to for message in [*memory_of(other).messages, *gateway.messages]]
    assert len(sent) == len(set(sent)) == 3
    assert reload(other, batch).sent == 3
    assert Counter(message.state for message in messages(other)) == {"sent": 3}


def test_a_batch_that_is_paused_makes_only_the_calls_that_are_prepared(
    make_app: MakeApp, sqlite: str
) -> None:
    app, gateway = holding_site(make_app, sqlite, in_flight=1)
    batch = send(app, numbers(40))
    worker = threading.Thread(target=state_of(app).queues[1].send_due, args=(threading.Event(),))
    worker.start()
    assert gateway.called.acquire(timeout=60)
    wait_until(lambda: len(attempts(app)) == 2)  # the other thread has prepared its call
    state_of(app).batches.pause(batch.id)
    gateway.is_released.set()
    worker.join(60)
    assert len(gateway.messages) == 2
    waiting = [message for message in messages(app) if message.state == "waiting"]
    assert {(message.lease, message.tries, message.cause) for message in waiting} == {
        (None, 0, None)
    }
    assert len(waiting) == 38
    state_of(app).batches.resume(batch.id)
    run_due(app)
    assert len({message.to for message in gateway.messages}) == len(gateway.messages) == 40
    assert (reload(app, batch).sent, reload(app, batch).state) == (40, "done")


def states_of_failed_attempts(app: Flask) -> set[str]:
    """Return the states of the messages with a failed attempt."""
    failed = {attempt.message_id for attempt in attempts(app) if attempt.state == Attempt.FAILED}
    return {message.state for message in messages(app) if message.id in failed}


def attempts(app: Flask) -> list[Attempt]:
    return list(state_of(app).ledger.read(lambda session: session.scalars(select(Attempt)).all()))


def wait_until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.02)
