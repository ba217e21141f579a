"""Delivery reports and messages from phones."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from conftest import MakeApp
from flask import Flask
from flows import Flow, flow_of
from parallel import race
from sqlalchemy import delete, select
from sqlalchemy.exc import ProgrammingError

from flask_smsverify import signals
from flask_smsverify.db.models import Attempt, EarlyReport, Incoming, Message, OptOut
from flask_smsverify.delivery.states import best, further, progress
from flask_smsverify.errors import ConfigurationError, StoreUnavailable, Unknown
from flask_smsverify.senders import base
from flask_smsverify.senders.base import Capability, DeliveryReport, DeliveryState, Receipt
from flask_smsverify.senders.memory import Memory

SECRET = "a-secret-of-the-webhooks"
#: For events and threads that always come, however slow the machine is.
TIMEOUT = 60


class Reporting(Memory):
    """A sender with a webhook. `before_receipt` runs before a send returns."""

    gateway = "reporting"
    push_methods = frozenset({"POST"})
    before_receipt: Callable[[str], object] | None = None

    def _keep(self, message: Any) -> Receipt:
        receipt = super()._keep(message)
        if self.before_receipt is not None:
            self.before_receipt(str(receipt.id))
        return receipt


@pytest.fixture
def make_flow(make_app: MakeApp) -> Iterator[Callable[..., Flow]]:
    """Return the factory of flows with one `Reporting` sender, `make_flow(database_url)`."""
    with ExitStack() as contexts:

        def make(url: str, **config: Any) -> Flow:
            app: Flask = make_app(url, users=2, **{"SMSVERIFY_WEBHOOK_SECRET": SECRET, **config})
            contexts.enter_context(app.app_context())
            flow = flow_of(app)
            flow.route(Reporting())
            return flow

        yield make


@pytest.fixture
def flow(make_flow: Callable[..., Flow], sqlite: str) -> Flow:
    return make_flow(sqlite)


def report(
    flow: Flow, status: DeliveryState, gateway_id: str = "1", sender: str = "reporting"
) -> None:
    flow.state.tracker.record(sender, [DeliveryReport(gateway_id, status)])


def rows(flow: Flow, table: Any) -> list[Any]:
    return flow.state.ledger.read(lambda session: list(session.scalars(select(table))))


def states(flow: Flow) -> tuple[str, str]:
    """The states of the only message and of its only attempt."""
    [message], [attempt] = rows(flow, Message), rows(flow, Attempt)
    assert attempt.message_id == message.id
    return message.state, attempt.state


def clear(flow: Flow) -> None:
    """Delete all messages, and let the next send pass every cooldown."""

    def work(session: Any) -> None:
        session.execute(delete(Message))
        session.execute(delete(Attempt))

    flow.state.ledger.run(work)
    flow.clock.advance(700)


def gateway(flow: Flow) -> Reporting:
    return flow.state.delivery.routes.senders["reporting"]


def add_message(flow: Flow, *attempts: tuple[str, str], id_: str = "m" * 32) -> None:
    """Add a message with one attempt for each (sender, state); their gateway ids are 1, 2, …"""
    now = flow.clock.now
    message = Message(
        id=id_,
        kind=Message.CODE,
        recipient="+989123450001",
        channel="sms",
        state=best(state for _, state in attempts),
        created_at=now,
        updated_at=now,
    )
    tries = [
        Attempt(
            id=f"{number:032}",
            message_id=id_,
            sender=sender,
            native=False,
            gateway_id=str(number),
            state=state,
            created_at=now,
            updated_at=now,
        )
        for number, (sender, state) in enumerate(attempts, start=1)
    ]
    flow.state.ledger.run(lambda session: session.add_all([message, *tries]))


# --- states --------------------------------------------------------------------------------------

REPORTS = (
    DeliveryState.QUEUED,
    DeliveryState.SENT,
    DeliveryState.DELIVERED,
    DeliveryState.UNDELIVERED,
    DeliveryState.REJECTED,
)
ALL_STATES = (Attempt.SENDING, Attempt.FAILED, *map(str, DeliveryState))


def test_progress_is_final_for_exactly_the_states_that_never_change() -> None:
    final = {state for state in ALL_STATES if progress(state) == 3}
    assert final == {"failed", "delivered", "undelivered", "rejected"}
    assert progress("sending") == progress("unknown") < progress("queued") < progress("sent") < 3


def test_of_two_states_the_further_one_is_kept_and_of_two_final_ones_the_first() -> None:
    for first, second in itertools.product(ALL_STATES, ALL_STATES):
        kept = further(first, second)
        assert kept == (second if progress(second) > progress(first) else first), (first, second)
        assert type(kept) is str
        assert further(None, second) == second


def test_a_message_has_the_best_state_of_its_attempts() -> None:
    ranking = ("failed", "rejected", "undelivered", "sending", "unknown", "queued", "sent")
    ranking = (*ranking, "delivered")
    assert set(ranking) == set(ALL_STATES)
    for worse, better in itertools.combinations(ranking, 2):
        assert best([worse, better]) == best([better, worse]) == better
    assert best([DeliveryState.SENT]) == "sent"


def test_a_message_whose_answer_was_lost_is_found_with_its_cost(flow: Flow) -> None:
    class Finding(Memory):
        @property
        def capabilities(self) -> frozenset[Capability]:
            return super().capabilities | {Capability.FIND}

        def find(self, call: str, mobiles: Sequence[str]) -> dict[str, Receipt]:
            return {
                mobile: Receipt(mobile, DeliveryState.SENT, "found", cost=Decimal("1.5"))
                for mobile in mobiles
            }

    sender = Finding()
    flow.route(sender)
    sender.fail_with(Unknown("memory", "no whole answer"), times=None, arrives=True)
    flow.start()
    assert states(flow) == ("unknown", "unknown")
    [synced] = flow.state.sync.run()
    assert (synced.found, states(flow)) == (1, ("sent", "sent"))
    [attempt] = rows(flow, Attempt)
    assert (attempt.gateway_id, attempt.cost) == ("found", Decimal("1.5"))


# --- delivery reports ----------------------------------------------------------------------------


def test_a_report_moves_an_attempt_forward_and_never_back(
    make_flow: Callable[..., Flow], database: str
) -> None:
    """Case 56 of docs/safety.md, for every order of two reports."""
    flow = make_flow(database, SMSVERIFY_LIMITS={"mobile": None, "user": None})
    for first, second in itertools.product(REPORTS, REPORTS):
        clear(flow)
        flow.start()
        gateway_id = str(len(gateway(flow).messages))
        for status in (first, second, second):
            report(flow, status, gateway_id)
        expected = second if not first.final and second != DeliveryState.QUEUED else first
        if not expected.final:
            expected = DeliveryState.SENT  # the state of the receipt
        assert states(flow) == (expected, expected), (first, second)


def test_a_report_moves_only_its_own_attempt(make_flow: Callable[..., Flow], database: str) -> None:
    flow = make_flow(database)
    add_message(flow, ("reporting", "sent"), ("reporting", "sent"), ("other", "sent"))
    for gateway_id, status, expected_message in (
        ("1", DeliveryState.UNDELIVERED, "sent"),
        ("3", DeliveryState.DELIVERED, "sent"),  # the gateway id of another sender's attempt
        ("2", DeliveryState.REJECTED, "sent"),
    ):
        report(flow, status, gateway_id)
        [message] = rows(flow, Message)
        assert message.state == expected_message, gateway_id
    by_id = {attempt.gateway_id: attempt.state for attempt in rows(flow, Attempt)}
    assert by_id == {"1": "undelivered", "2": "rejected", "3": "sent"}
    report(flow, DeliveryState.UNDELIVERED, "3", "other")
    [message] = rows(flow, Message)
    assert message.state == "undelivered", "every copy failed; the best of the causes"


def test_one_delivered_copy_makes_the_message_delivered(flow: Flow) -> None:
    add_message(flow, ("reporting", "unknown"), ("reporting", "sent"))
    report(flow, DeliveryState.UNDELIVERED, "2")
    assert rows(flow, Message)[0].state == "unknown"
    report(flow, DeliveryState.DELIVERED, "1")
    assert rows(flow, Message)[0].state == "delivered"


@pytest.mark.race
def test_parallel_reports_on_the_copies_of_a_message_leave_it_with_the_best_state(
    make_flow: Callable[..., Flow], database: str
) -> None:
    flow = make_flow(database)
    add_message(flow, *[("reporting", "sent")] * 12)
    statuses = [DeliveryState.DELIVERED] + [DeliveryState.UNDELIVERED] * 11

    def act(number: int) -> None:
        report(flow, statuses[number], str(number + 1))

    assert race(12, act) == {"ok": 12}
    assert rows(flow, Message)[0].state == "delivered"
    assert sorted(attempt.state for attempt in rows(flow, Attempt)) == sorted(statuses)


def test_the_first_cost_of_a_message_that_is_reported_is_kept(
    make_flow: Callable[..., Flow], database: str
) -> None:
    flow = make_flow(database)
    add_message(flow, ("reporting", "sent"), ("reporting", "sent"))
    costs: list[Any] = [None, 1.5, Decimal("NaN"), Decimal("1.5"), Decimal(2), None]
    for cost in costs:
        one = DeliveryReport("1", DeliveryState.DELIVERED, cost)
        flow.state.tracker.record("reporting", [one])
    assert [(one.state, one.cost) for one in rows(flow, Attempt) if one.gateway_id == "1"] == [
        ("delivered", Decimal("1.5"))
    ]
    assert [one.cost for one in rows(flow, Attempt) if one.gateway_id == "2"] == [None]


def test_a_report_with_an_unknown_state_changes_nothing(flow: Flow) -> None:
    flow.start()
    report(flow, DeliveryState.UNKNOWN)
    report(flow, DeliveryState.UNKNOWN, "of another app")
    assert states(flow) == ("sent", "sent")
    assert rows(flow, EarlyReport) == []


def test_a_report_of_another_sender_does_not_match(flow: Flow) -> None:
    flow.start()
    report(flow, DeliveryState.DELIVERED, "1", "another")
    assert states(flow) == ("sent", "sent")


def test_several_reports_in_one_call_each_reach_their_message(
    make_flow: Callable[..., Flow], database: str
) -> None:
    flow = make_flow(database, SMSVERIFY_LIMITS={"mobile": None, "user": None})
    for _ in range(3):
        flow.start()
        flow.clock.advance(700)
    flow.state.tracker.record(
        "reporting",
        [
            DeliveryReport("3", DeliveryState.UNDELIVERED),
            DeliveryReport("1", DeliveryState.SENT),
            DeliveryReport("1", DeliveryState.DELIVERED),
            DeliveryReport("1", DeliveryState.REJECTED),
            DeliveryReport("2", DeliveryState.UNKNOWN),
            DeliveryReport("of another", DeliveryState.DELIVERED),
        ],
    )
    by_id = {attempt.gateway_id: attempt.state for attempt in rows(flow, Attempt)}
    assert by_id == {"1": "delivered", "2": "sent", "3": "undelivered"}
    assert sorted(row.state for row in rows(flow, Message)) == ["delivered", "sent", "undelivered"]
    assert len(rows(flow, EarlyReport)) == 1


def test_an_id_with_a_trailing_space_is_another_id(
    make_flow: Callable[..., Flow], database: str
) -> None:
    flow = make_flow(database)
    flow.start()
    report(flow, DeliveryState.DELIVERED, "1 ")
    assert states(flow) == ("sent", "sent")


def test_a_final_report_emits_its_signal_once(flow: Flow) -> None:
    emitted: list[tuple[str, dict[str, object]]] = []

    def delivered(_app: Flask, **values: object) -> None:
        emitted.append(("delivered", values))

    def failed(_app: Flask, **values: object) -> None:
        emitted.append(("failed", values))

    with (
        signals.message_delivered.connected_to(delivered),
        signals.message_failed.connected_to(failed),
    ):
        for status in REPORTS:
            clear(flow)
            emitted.clear()
            add_message(flow, ("reporting", "sent"))
            report(flow, status)
            report(flow, status)
            if not status.final:
                assert emitted == [], status
                continue
            values = {
                "message_id": "m" * 32,
                "kind": "code",
                "sender_name": "reporting",
                "mobile": "+98912•••0001",
            }
            name = "delivered" if status is DeliveryState.DELIVERED else "failed"
            assert emitted == [(name, values)], status


@pytest.mark.race
def test_parallel_reports_of_one_delivery_emit_one_signal(
    make_flow: Callable[..., Flow], database: str
) -> None:
    flow = make_flow(database)
    flow.start()
    emitted: list[str] = []

    def receive(_app: Flask, *, message_id: str, **_: object) -> None:
        emitted.append(message_id)

    with signals.message_delivered.connected_to(receive):
        assert race(12, lambda _: report(flow, DeliveryState.DELIVERED)) == {"ok": 12}
    assert emitted == [rows(flow, Message)[0].id]


def test_a_delivery_report_proves_no_mobile(flow: Flow) -> None:
    """Case 58 of docs/safety.md."""
    flow.start()
    report(flow, DeliveryState.DELIVERED)
    assert flow.verifier.status(flow.user()).state == "pending"
    verification = flow.verification()
    assert verification is not None
    assert verification.verified_at is None


# --- reports that arrive before the receipt ------------------------------------------------------


class CountingLedger:
    """A ledger that counts reads and can fail them."""

    def __init__(self, ledger: Any) -> None:
        self._ledger = ledger
        self.reads = 0
        self.error: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def read(self, work: Any) -> Any:
        self.reads += 1
        if self.error is not None:
            raise self.error
        return self._ledger.read(work)


def count_reads(flow: Flow) -> CountingLedger:
    """Count how often the tracker looks for early reports."""
    tracker = flow.state.tracker
    tracker._ledger = CountingLedger(tracker._ledger)
    return tracker._ledger


def test_a_report_before_the_receipt_is_applied_with_it(
    make_flow: Callable[..., Flow], database: str
) -> None:
    """Case 56 of docs/safety.md: the report arrives before the receipt is committed."""
    flow = make_flow(database)

    def two_reports(gateway_id: str) -> None:
        report(flow, DeliveryState.DELIVERED, gateway_id)
        report(flow, DeliveryState.SENT, gateway_id)

    gateway(flow).before_receipt = two_reports
    flow.start()
    assert states(flow) == ("delivered", "delivered")
    assert rows(flow, EarlyReport) == []
    report(flow, DeliveryState.SENT)
    assert states(flow) == ("delivered", "delivered")


@pytest.mark.race
def test_a_report_at_the_same_time_as_the_receipt_is_never_lost(
    make_flow: Callable[..., Flow], database: str
) -> None:
    """Case 56 of docs/safety.md."""
    flow = make_flow(database, SMSVERIFY_LIMITS={"mobile": None, "user": None})
    emitted: list[str] = []

    def receive(_app: Flask, *, message_id: str, **_: object) -> None:
        emitted.append(message_id)

    reporters: list[threading.Thread] = []

    def report_meanwhile(gateway_id: str) -> None:
        args = (flow, DeliveryState.DELIVERED, gateway_id)
        reporters.append(threading.Thread(target=report, args=args))
        reporters[-1].start()

    gateway(flow).before_receipt = report_meanwhile
    for _ in range(5):
        clear(flow)
        emitted.clear()
        with signals.message_delivered.connected_to(receive):
            flow.start()
            reporters.pop().join(TIMEOUT)
        assert states(flow) == ("delivered", "delivered")
        assert emitted == [rows(flow, Message)[0].id]
        assert rows(flow, EarlyReport) == []


def test_a_report_that_is_kept_while_an_earlier_one_is_applied_stays(
    make_flow: Callable[..., Flow], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 56 of docs/safety.md: a kept report is applied and deleted in one transaction.

    The order is: "sent" is kept; the reporter finds no attempt for "delivered"; the receipt is
    written and its thread finds "sent"; the reporter keeps "delivered"; "sent" is applied.
    """
    flow = make_flow(database)
    tracker = flow.state.tracker
    move, keep = tracker._move, tracker._keep
    looked, found, kept, moved = (threading.Event() for _ in range(4))
    reporters: list[threading.Thread] = []

    def two_reports(gateway_id: str) -> None:
        report(flow, DeliveryState.SENT, gateway_id)
        args = (flow, DeliveryState.DELIVERED, gateway_id)
        reporters.append(threading.Thread(target=report, args=args))
        reporters[-1].start()
        assert looked.wait(TIMEOUT)

    def ordered_move(sender: str, *reported: Any) -> set[str]:
        if threading.current_thread() not in reporters and reporters:
            found.set()
            assert kept.wait(TIMEOUT)
        known: set[str] = move(sender, *reported)
        (looked if threading.current_thread() in reporters else moved).set()
        return known

    def ordered_keep(sender: str, states: dict[str, str]) -> None:
        if threading.current_thread() not in reporters:
            keep(sender, states)
            return
        assert found.wait(TIMEOUT)
        keep(sender, states)
        moved.clear()
        kept.set()
        assert moved.wait(TIMEOUT)

    monkeypatch.setattr(tracker, "_move", ordered_move)
    monkeypatch.setattr(tracker, "_keep", ordered_keep)
    gateway(flow).before_receipt = two_reports
    flow.start()
    reporters[0].join(TIMEOUT)
    assert states(flow) == ("delivered", "delivered")
    assert rows(flow, EarlyReport) == []


@pytest.mark.race
def test_of_parallel_early_reports_the_furthest_is_kept(
    make_flow: Callable[..., Flow], database: str
) -> None:
    flow = make_flow(database)
    statuses = [
        DeliveryState.SENT,
        DeliveryState.QUEUED,
        DeliveryState.DELIVERED,
        DeliveryState.SENT,
    ] * 3
    assert race(12, lambda number: report(flow, statuses[number], "early")) == {"ok": 12}
    assert [early.state for early in rows(flow, EarlyReport)] == ["delivered"]


def test_an_early_report_that_could_not_be_read_is_applied_with_the_next_report(
    make_flow: Callable[..., Flow], sqlite: str
) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS={"mobile": None, "user": None})
    tracker_ledger = count_reads(flow)
    errors = (
        StoreUnavailable(),
        ConfigurationError("a table is missing"),
        ProgrammingError("", {}, Exception("no permission to read it")),
    )

    def report_and_fail(error: Exception) -> Callable[[str], None]:
        def before_receipt(gateway_id: str) -> None:
            report(flow, DeliveryState.DELIVERED, gateway_id)
            tracker_ledger.error = error

        return before_receipt

    for error, second in itertools.product(errors, REPORTS):
        clear(flow)
        gateway(flow).before_receipt = report_and_fail(error)
        assert flow.start().state == "pending", "the error must not affect the send"
        tracker_ledger.error = None
        assert states(flow) == ("sent", "sent"), (error, second)
        report(flow, second, str(len(gateway(flow).messages)))
        assert states(flow) == ("delivered", "delivered"), (error, second)
        assert rows(flow, EarlyReport) == []


def test_early_reports_are_looked_for_only_where_the_gateway_calls_webhooks(
    make_flow: Callable[..., Flow], sqlite: str
) -> None:
    flow = make_flow(sqlite)
    tracker_ledger = count_reads(flow)
    flow.route(Memory())
    flow.start()
    assert tracker_ledger.reads == 0
    flow.route(Reporting())
    flow.clock.advance(60)
    flow.start()
    assert tracker_ledger.reads == 1


def test_early_reports_are_not_looked_for_without_a_webhook_secret(
    make_flow: Callable[..., Flow], sqlite: str
) -> None:
    flow = make_flow(sqlite, SMSVERIFY_WEBHOOK_SECRET=None)
    tracker_ledger = count_reads(flow)
    flow.start()
    assert tracker_ledger.reads == 0


def test_an_early_report_expires_before_its_id_is_used_again(flow: Flow) -> None:
    """A gateway may reset its counter of ids."""
    for is_reported_again in (False, True):
        report(flow, DeliveryState.DELIVERED, "1")
        flow.clock.advance(301)
        flow.start()
        if is_reported_again:
            report(flow, DeliveryState.QUEUED, "1")
        assert states(flow) == ("sent", "sent")
        clear(flow)
        flow.route(Reporting())


def test_an_early_report_without_an_attempt_is_deleted_after_five_minutes(flow: Flow) -> None:
    report(flow, DeliveryState.DELIVERED, "of another app on the same account")
    assert len(rows(flow, EarlyReport)) == 1
    flow.clock.advance(299)
    report(flow, DeliveryState.DELIVERED, "another")
    assert len(rows(flow, EarlyReport)) == 2
    flow.clock.advance(2)
    report(flow, DeliveryState.DELIVERED, "another")
    [left] = rows(flow, EarlyReport)
    assert left.until > flow.clock.now


# --- messages from phones ------------------------------------------------------------------------

AT = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)


def incoming(**values: Any) -> base.ReceivedText:
    given = {
        "id": "7",
        "originator": "+989123450001",
        "line": "3000",
        "text": "لغو",
        "received_at": AT,
    }
    return base.ReceivedText(**(given | values))


def test_a_message_from_a_phone_is_stored_and_announced_once(
    make_flow: Callable[..., Flow], database: str
) -> None:
    """Case 56 of docs/safety.md: the same webhook call twice."""
    flow = make_flow(database)
    emitted: list[dict[str, object]] = []

    def receive(_app: Flask, **values: object) -> None:
        emitted.append(values)

    with signals.message_received.connected_to(receive):
        for _ in range(2):
            flow.state.tracker.record("reporting", [incoming(), incoming(id="8", text="بله 👍")])
        flow.state.tracker.record("another", [incoming()])
    stored = {(row.sender, row.text): row for row in rows(flow, Incoming)}
    assert set(stored) == {("reporting", "لغو"), ("reporting", "بله 👍"), ("another", "لغو")}
    row = stored["reporting", "لغو"]
    assert (row.originator, row.line, row.received_at) == ("+989123450001", "3000", AT)
    assert row.read_at is None
    assert len(emitted) == 3
    values = {"incoming_id": row.id, "sender_name": "reporting", "mobile": "+98912•••0001"}
    assert emitted.count(values) == 1
    assert "+98912" not in repr(row)
    assert "لغو" not in repr(row)


@pytest.mark.race
@pytest.mark.parametrize("repeated", [True, False])
def test_parallel_calls_store_a_message_once_and_opt_its_number_out_once(
    make_flow: Callable[..., Flow], database: str, repeated: bool
) -> None:
    """Twelve calls with one message, or with one each, all from a number that writes `لغو`."""
    flow = make_flow(database)
    emitted: list[dict[str, object]] = []

    def receive(_app: Flask, **values: object) -> None:
        emitted.append(values)

    def act(number: int) -> None:
        flow.state.tracker.record("reporting", [incoming(id="7" if repeated else str(number))])

    with signals.opted_out.connected_to(receive):
        ends = race(12, act)
    assert ends == {"ok": 12}
    assert len(rows(flow, Incoming)) == (1 if repeated else 12)
    assert len(rows(flow, OptOut)) == 1
    assert emitted == [{"mobile": "+98912•••0001", "line": "3000"}]


def test_a_message_is_found_by_the_id_in_its_signal(flow: Flow) -> None:
    tracker = flow.app.extensions["test_smsverify"].tracker
    ids: list[str] = []

    def receive(_app: Flask, *, incoming_id: str, **_: object) -> None:
        ids.append(incoming_id)

    with signals.message_received.connected_to(receive):
        tracker.record("reporting", [incoming()])
    assert tracker.incoming(ids[0]).text == "لغو"
    assert tracker.incoming("0" * 32) is None


def test_a_message_without_a_time_has_the_time_of_the_call(flow: Flow) -> None:
    flow.state.tracker.record("reporting", [incoming(received_at=None)])
    [row] = rows(flow, Incoming)
    assert row.received_at == flow.clock.now


def test_text_that_a_column_would_refuse_is_changed_to_fit(
    make_flow: Callable[..., Flow], database: str
) -> None:
    flow = make_flow(database)
    odd = incoming(
        id="i" * 5000, originator="s" * 500, line="", text="a\x00b\ud800" + "\U0001f44d" * 50_000
    )
    flow.state.tracker.record("reporting", [odd])
    [row] = rows(flow, Incoming)
    assert row.text.startswith("a\ufffdb?\U0001f44d")
    assert len(row.text) == 16_000
    assert row.originator == "s" * 64


def test_erasing_a_user_deletes_the_messages_from_their_mobile(flow: Flow) -> None:
    flow.prove()
    spellings = ("+989123450001", "09123450001", "989123450001", "۰۹۱۲۳۴۵۰۰۰۱", "+989123450002")
    messages = [incoming(id=number, originator=number) for number in spellings]
    flow.state.tracker.record("reporting", messages)
    flow.verifier.forget(flow.user())
    assert [row.originator for row in rows(flow, Incoming)] == ["+989123450002"]
