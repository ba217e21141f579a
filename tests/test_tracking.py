"""What gateways say later: delivery reports, and messages from phones."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
from conftest import MakeApp
from flask import Flask
from flows import Flow, flow_of
from parallel import race
from sqlalchemy import delete, select
from sqlalchemy.exc import ProgrammingError

from flask_smsverify import signals
from flask_smsverify.errors import ConfigurationError, StoreUnavailable
from flask_smsverify.models import EarlyReport, Incoming, Message
from flask_smsverify.senders import base
from flask_smsverify.senders.base import Receipt, Report, Status
from flask_smsverify.senders.memory import Memory
from flask_smsverify.verification.policy import Status as Standing

SECRET = "a-secret-of-the-hooks"


class Reporting(Memory):
    """A gateway that reports by itself; `before_receipt` is called before it has answered."""

    gateway = "reporting"
    push_methods = frozenset({"POST"})
    before_receipt: Callable[[str], object] | None = None

    def _take(self, kept: Any) -> Receipt:
        receipt = super()._take(kept)
        if self.before_receipt is not None:
            self.before_receipt(str(receipt.id))
        return receipt


@pytest.fixture
def make_flow(make_app: MakeApp) -> Iterator[Callable[..., Flow]]:
    """Builds flows over a gateway that reports: `make_flow(database_url)`."""
    with ExitStack() as contexts:

        def make(url: str, **config: Any) -> Flow:
            app: Flask = make_app(url, users=2, SMSVERIFY_HOOK_SECRET=SECRET, **config)
            contexts.enter_context(app.app_context())
            flow = flow_of(app)
            flow.state.tracker._clock = flow.clock
            flow.route(Reporting())
            return flow

        yield make


@pytest.fixture
def flow(make_flow: Callable[..., Flow], sqlite: str) -> Flow:
    return make_flow(sqlite)


def told(flow: Flow, status: Status, id_: str = "1") -> None:
    """The gateway reports."""
    flow.state.tracker.take("reporting", [Report(id_, status)])


def message(flow: Flow) -> Message:
    """The only message of the ledger."""
    return flow.state.ledger.read(lambda session: session.scalars(select(Message)).one())


def rows(flow: Flow, table: Any) -> list[Any]:
    return flow.state.ledger.read(lambda session: list(session.scalars(select(table))))


def gateway(flow: Flow) -> Reporting:
    return flow.state.delivery.routes.senders["reporting"]


# --- delivery reports ----------------------------------------------------------------------------

REPORTS = (Status.QUEUED, Status.SENT, Status.DELIVERED, Status.UNDELIVERED, Status.REJECTED)


def test_a_report_moves_a_message_on_and_nothing_moves_it_back(
    make_flow: Callable[..., Flow], database: str
) -> None:
    """Case 56 of docs/safety.md, for every order of two reports."""
    flow = make_flow(database, SMSVERIFY_BUDGETS={"mobile": None, "user": None})
    for first, second in itertools.product(REPORTS, REPORTS):
        flow.state.ledger.run(lambda session: session.execute(delete(Message)))
        flow.clock.advance(700)
        flow.start()
        id_ = str(len(gateway(flow).messages))
        for status in (first, second, second):
            told(flow, status, id_)
        expected = second if not first.final and second != Status.QUEUED else first
        if not expected.final:
            expected = Status.SENT  # the receipt said so
        assert message(flow).state == expected, (first, second)


def test_a_report_of_a_state_that_nobody_knows_changes_nothing(flow: Flow) -> None:
    flow.start()
    told(flow, Status.UNKNOWN)
    told(flow, Status.UNKNOWN, "of another app")
    assert message(flow).state == "sent"
    assert rows(flow, EarlyReport) == []


def test_a_report_is_of_the_senders_own_messages(flow: Flow) -> None:
    flow.start()
    flow.state.tracker.take("another", [Report("1", Status.DELIVERED)])
    assert message(flow).state == "sent"


def test_a_sender_that_never_reports_is_not_looked_for(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(flow.state.delivery, "_noted", lambda *who: asked.append(who))
    flow.route(Memory())
    flow.start()
    assert asked == []
    flow.route(Reporting())
    flow.clock.advance(60)
    flow.start()
    assert asked == [("reporting", ["1"])]


def test_a_report_before_the_receipt_waits_for_it(
    make_flow: Callable[..., Flow], database: str
) -> None:
    """Case 56 of docs/safety.md: the report comes before our own commit."""
    flow = make_flow(database)

    def report(id_: str) -> None:
        told(flow, Status.DELIVERED, id_)
        told(flow, Status.SENT, id_)

    gateway(flow).before_receipt = report
    flow.start()
    assert message(flow).state == "delivered"
    assert rows(flow, EarlyReport) == []
    told(flow, Status.SENT)
    assert message(flow).state == "delivered"


@pytest.mark.race
def test_a_report_at_the_moment_of_the_receipt_is_never_lost(
    make_flow: Callable[..., Flow], database: str
) -> None:
    """Case 56 of docs/safety.md."""
    flow = make_flow(database, SMSVERIFY_BUDGETS={"mobile": None, "user": None})
    heard: list[str] = []

    def hear(_app: Flask, *, message_id: str, **_: object) -> None:
        heard.append(message_id)

    reporters: list[threading.Thread] = []

    def report_meanwhile(id_: str) -> None:
        reporters.append(threading.Thread(target=told, args=(flow, Status.DELIVERED, id_)))
        reporters[-1].start()

    gateway(flow).before_receipt = report_meanwhile
    for _ in range(5):
        flow.clock.advance(700)
        flow.state.ledger.run(lambda session: session.execute(delete(Message)))
        with signals.message_delivered.connected_to(hear):
            flow.start()
            reporters.pop().join(30)
        assert message(flow).state == "delivered"
        assert heard == [message(flow).id], "announced once"
        assert rows(flow, EarlyReport) == []
        heard.clear()


def test_a_report_that_comes_while_an_earlier_one_is_applied_stays(
    make_flow: Callable[..., Flow], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 56 of docs/safety.md: one transaction uses a report and takes it away."""
    flow = make_flow(database)
    tracker = flow.state.tracker
    move, keep = tracker._move, tracker._keep
    looked, found, kept, moved = (threading.Event() for _ in range(4))
    reporters: list[threading.Thread] = []

    def two_reports(id_: str) -> None:
        told(flow, Status.SENT, id_)  # kept, as the receipt is not written down yet
        reporters.append(threading.Thread(target=told, args=(flow, Status.DELIVERED, id_)))
        reporters[-1].start()
        assert looked.wait(10)

    def moves(sender: str, states: dict[str, str]) -> set[str]:
        if threading.current_thread() not in reporters and reporters:
            found.set()  # the receipt is written down, and whoever wrote it has found "sent"
            assert kept.wait(10)
        known: set[str] = move(sender, states)
        (looked if threading.current_thread() in reporters else moved).set()
        return known

    def keeps(sender: str, states: dict[str, str]) -> None:
        if threading.current_thread() not in reporters:
            keep(sender, states)
            return
        assert found.wait(10)
        keep(sender, states)
        moved.clear()
        kept.set()
        assert moved.wait(10)

    monkeypatch.setattr(tracker, "_move", moves)
    monkeypatch.setattr(tracker, "_keep", keeps)
    gateway(flow).before_receipt = two_reports
    flow.start()
    reporters[0].join(30)
    assert message(flow).state == "delivered"
    assert rows(flow, EarlyReport) == []


@pytest.mark.race
def test_reports_at_once_are_announced_once(make_flow: Callable[..., Flow], database: str) -> None:
    flow = make_flow(database)
    flow.start()
    heard: list[str] = []

    def hear(_app: Flask, *, message_id: str, **_: object) -> None:
        heard.append(message_id)

    with signals.message_delivered.connected_to(hear):
        assert race(12, lambda _: told(flow, Status.DELIVERED)) == {"ok": 12}
    assert heard == [message(flow).id]


@pytest.mark.race
def test_of_early_reports_at_once_the_furthest_stays(
    make_flow: Callable[..., Flow], database: str
) -> None:
    flow = make_flow(database)
    statuses = [Status.SENT, Status.QUEUED, Status.DELIVERED, Status.SENT] * 3
    assert race(12, lambda number: told(flow, statuses[number], "early")) == {"ok": 12}
    assert [early.state for early in rows(flow, EarlyReport)] == ["delivered"]


FAILURES = [
    StoreUnavailable("away"),
    ConfigurationError("a table is missing"),
    ProgrammingError("", {}, Exception("no right to read it")),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
@pytest.mark.parametrize("second", REPORTS)
def test_a_report_that_the_receipts_look_missed_is_applied_with_the_next(
    flow: Flow, monkeypatch: pytest.MonkeyPatch, second: Status, failure: Exception
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(flow.state.delivery, "_noted", fail)
    gateway(flow).before_receipt = lambda id_: told(flow, Status.DELIVERED, id_)
    assert flow.start().state == "pending", "the send is not spoilt"
    assert message(flow).state == "sent"
    told(flow, second)
    assert message(flow).state == "delivered"
    assert rows(flow, EarlyReport) == []


def test_of_several_reports_at_once_each_finds_its_message(
    make_flow: Callable[..., Flow], database: str
) -> None:
    flow = make_flow(database, SMSVERIFY_BUDGETS={"mobile": None, "user": None})
    for _ in range(3):
        flow.start()
        flow.clock.advance(700)
    told_at_once = [
        Report("3", Status.UNDELIVERED),
        Report("1", Status.SENT),
        Report("1", Status.DELIVERED),
        Report("1", Status.REJECTED),
        Report("2", Status.UNKNOWN),
        Report("of another", Status.DELIVERED),
    ]
    flow.state.tracker.take("reporting", told_at_once)
    states = {one.gateway_id: one.state for one in rows(flow, Message)}
    assert states == {"1": "delivered", "2": "sent", "3": "undelivered"}
    assert len(rows(flow, EarlyReport)) == 1


def test_an_id_is_another_with_a_space_behind_it(
    make_flow: Callable[..., Flow], database: str
) -> None:
    flow = make_flow(database)
    flow.start()
    told(flow, Status.DELIVERED, "1 ")
    assert message(flow).state == "sent"


def test_a_report_does_not_wait_for_a_later_message_of_that_id(flow: Flow) -> None:
    """A gateway may count its ids anew."""
    for later in (False, True):
        told(flow, Status.DELIVERED, "1")
        flow.clock.advance(301)
        flow.start()
        if later:
            told(flow, Status.QUEUED, "1")
        assert message(flow).state == "sent"
        flow.state.ledger.run(lambda session: session.execute(delete(Message)))
        flow.route(Reporting())
        flow.clock.advance(700)


def test_a_report_that_no_message_comes_for_is_forgotten(flow: Flow) -> None:
    told(flow, Status.DELIVERED, "of another app on the same account")
    assert len(rows(flow, EarlyReport)) == 1
    flow.clock.advance(299)
    told(flow, Status.DELIVERED, "another")
    assert len(rows(flow, EarlyReport)) == 2
    flow.clock.advance(2)
    told(flow, Status.DELIVERED, "another")
    [left] = rows(flow, EarlyReport)
    assert left.until > flow.clock.now


@pytest.mark.parametrize("status", REPORTS)
def test_a_final_report_is_announced_once(flow: Flow, status: Status) -> None:
    flow.start()
    heard: list[tuple[str, dict[str, object]]] = []

    def delivered(_app: Flask, **carried: object) -> None:
        heard.append(("delivered", carried))

    def failed(_app: Flask, **carried: object) -> None:
        heard.append(("failed", carried))

    with (
        signals.message_delivered.connected_to(delivered),
        signals.message_failed.connected_to(failed),
    ):
        told(flow, status)
        told(flow, status)
    if not status.final:
        assert heard == []
        return
    carried = {
        "message_id": message(flow).id,
        "kind": "code",
        "gateway": "reporting",
        "mobile": "+98912•••0001",
    }
    assert heard == [("delivered" if status is Status.DELIVERED else "failed", carried)]


def test_a_report_proves_nothing(flow: Flow) -> None:
    """Case 58 of docs/safety.md."""
    flow.start()
    told(flow, Status.DELIVERED)
    standing: Standing = flow.verifier.status(flow.user())
    assert standing.state == "pending"
    assert flow.standing().verified_at is None  # type: ignore[union-attr]  # there since the start


def test_without_hooks_no_report_is_looked_for(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite)
    assert app.extensions["smsverify"].delivery._noted is None


# --- messages from phones ------------------------------------------------------------------------

AT = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)


def incoming(**values: Any) -> base.Incoming:
    given = {"id": "7", "sender": "+989123450001", "line": "3000", "text": "لغو", "received_at": AT}
    return base.Incoming(**(given | values))


def test_a_message_from_a_phone_is_kept_and_announced_once(
    make_flow: Callable[..., Flow], database: str
) -> None:
    """Case 56 of docs/safety.md: the same one twice."""
    flow = make_flow(database)
    heard: list[dict[str, object]] = []

    def hear(_app: Flask, **carried: object) -> None:
        heard.append(carried)

    with signals.message_received.connected_to(hear):
        for _ in range(2):
            flow.state.tracker.take("reporting", [incoming(), incoming(id="8", text="بله 👍")])
        flow.state.tracker.take("another", [incoming()])
    kept = {(row.sender, row.text): row for row in rows(flow, Incoming)}
    assert set(kept) == {("reporting", "لغو"), ("reporting", "بله 👍"), ("another", "لغو")}
    row = kept["reporting", "لغو"]
    assert (row.originator, row.line, row.received_at) == ("+989123450001", "3000", AT)
    assert row.read_at is None
    assert len(heard) == 3
    told_of = {"incoming_id": row.id, "gateway": "reporting", "mobile": "+98912•••0001"}
    assert heard.count(told_of) == 1
    assert "+98912" not in repr(row)
    assert "لغو" not in repr(row)


@pytest.mark.race
def test_a_message_that_is_told_many_times_at_once_is_kept_once(
    make_flow: Callable[..., Flow], database: str
) -> None:
    flow = make_flow(database)
    ends = race(12, lambda _: flow.state.tracker.take("reporting", [incoming()]))
    assert ends == {"ok": 12}
    assert len(rows(flow, Incoming)) == 1


def test_a_message_is_found_by_the_id_that_was_announced(flow: Flow) -> None:
    tracker = flow.app.extensions["test_smsverify"].tracker
    ids: list[str] = []

    def hear(_app: Flask, *, incoming_id: str, **_: object) -> None:
        ids.append(incoming_id)

    with signals.message_received.connected_to(hear):
        tracker.take("reporting", [incoming()])
    assert tracker.incoming(ids[0]).text == "لغو"
    assert tracker.incoming("0" * 32) is None


def test_a_message_without_a_time_has_ours(flow: Flow) -> None:
    flow.state.tracker.take("reporting", [incoming(received_at=None)])
    [row] = rows(flow, Incoming)
    assert row.received_at == flow.clock.now


def test_what_no_column_takes_is_made_fit(make_flow: Callable[..., Flow], database: str) -> None:
    flow = make_flow(database)
    odd = incoming(
        id="i" * 5000, sender="s" * 500, line="", text="a\x00b\ud800" + "\U0001f44d" * 50_000
    )
    flow.state.tracker.take("reporting", [odd])
    [row] = rows(flow, Incoming)
    assert row.text.startswith("a\ufffdb?\U0001f44d")
    assert len(row.text) == 16_000
    assert row.originator == "s" * 64


def test_who_is_forgotten_has_no_messages_left(flow: Flow) -> None:
    flow.prove()
    spelt = ("+989123450001", "09123450001", "989123450001", "۰۹۱۲۳۴۵۰۰۰۱", "+989123450002")
    flow.state.tracker.take("reporting", [incoming(id=one, sender=one) for one in spelt])
    flow.verifier.forget(flow.user())
    assert [row.originator for row in rows(flow, Incoming)] == ["+989123450002"]
