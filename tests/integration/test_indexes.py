"""What the statements of requests and workers read, of tables that grow with use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from conftest import MakeApp, database_params
from flask import Flask
from flows import MEMORY, Flow, flow_of
from outbox_app import run_due, smsverify_of, without_inline_workers
from sqlalchemy import Connection, Engine, event, insert

from flask_smsverify.admin.figures import FigureCache
from flask_smsverify.admin.overview import findings
from flask_smsverify.db.models import Base, UsageSend
from flask_smsverify.errors import RateLimited, WrongCode
from flask_smsverify.senders.base import Capability, DeliveryReport, DeliveryState
from flask_smsverify.senders.memory import Memory

#: Tables with few rows, or one for each send to many users.
SMALL = {
    "smsverify_alert",
    "smsverify_app",
    "smsverify_batch",
    "smsverify_setting",
    "smsverify_template",
}

on_planners = pytest.mark.parametrize(
    "database", database_params("sqlite", "postgresql"), indirect=True
)


def plan_of(connection: Connection, statement: str, parameters: Any) -> str:
    """Return how the database executes a statement.

    With few rows PostgreSQL prefers to read a whole table, so that is switched off.
    """
    if connection.dialect.name == "sqlite":
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        return "\n".join(row.detail for row in plan)
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
    return "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars())


def whole_tables(statement: str, plan: str) -> set[str]:
    """Return the tables of which a statement reads every row."""
    found = re.findall(r"(?:SCAN|Seq Scan on) (\w+)", plan)
    tables = {name for name in found if name in Base.metadata.tables}
    if "ORDER BY smsverify_usage_send.id DESC" in statement:  # SQLite reads the last row alone
        tables.discard("smsverify_usage_send")
    return tables


class Polled(Memory):
    """A sender that is asked whether its messages have arrived."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        return super().capabilities | {Capability.STATUS}

    def reports(self, ids: Any) -> list[DeliveryReport]:
        return [DeliveryReport(gateway_id, DeliveryState.DELIVERED) for gateway_id in ids]


@contextmanager
def collected(engine: Engine) -> Iterator[dict[str, Any]]:
    """Collect the statements that an engine executes meanwhile, each with its parameters."""
    statements: dict[str, Any] = {}

    def collect(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            is_many = isinstance(parameters, list)
            statements[statement] = parameters[0] if is_many else parameters

    event.listen(engine, "before_cursor_execute", collect)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", collect)


def use_codes(flow: Flow) -> None:
    """Send and check codes, with and without an account, until a limit refuses."""
    flow.prove(1)
    challenge = flow.start(2, ip="192.0.2.1")
    with pytest.raises(WrongCode):
        flow.verifier.check(challenge, flow.wrong(challenge), ip="192.0.2.1")
    for _ in range(100):
        flow.clock.advance(minutes=2)
        try:
            challenge = flow.verifier.start_for("09121110000", purpose="sign-up", ip="192.0.2.1")
        except RateLimited:
            return
        flow.state.workers.wait()
        with pytest.raises(WrongCode):
            flow.verifier.check(challenge, flow.wrong(challenge), ip="192.0.2.1")
    pytest.fail("no limit refused")


def use_texts(flow: Flow, app: Flask) -> None:
    """Send texts to many, and ask whether they have arrived."""
    smsverify_of(app).send("We are closed on Friday.", ["09121110001", "09121110002"])
    run_due(app)
    for queue in flow.state.queues:
        queue.next_due()
    flow.clock.advance(hours=1)
    assert any(synced.asked for synced in flow.state.sync.run())


def count_codes(flow: Flow) -> None:
    """Count the codes of today and the messages of a week, for the first of the staff pages."""
    now = flow.clock()
    figures = FigureCache(timedelta(minutes=5))
    flow.state.ledger.read(lambda session: figures.count(session, [now - timedelta(hours=9)], now))
    days = [now - timedelta(days=back) for back in reversed(range(7))]
    for finding in findings(now, [(day.date(), day) for day in days]).values():
        rows = finding.rows.limit(100)
        flow.state.ledger.read(lambda session, rows=rows: session.scalars(rows).all())


#: Those of lists of the staff pages. Their tests look at the plans of the lists.
OF_STAFF = {"ix_smsverify_verification_locked_at", "ix_smsverify_verification_revoked_at"}
#: With few rows PostgreSQL may prefer other indexes of messages.
OF_MESSAGES = {
    "ix_smsverify_message_batch",
    "ix_smsverify_message_batch_state",
    "ix_smsverify_message_due",
}
PARTIAL = {
    str(index.name)
    for table in Base.metadata.tables.values()
    for index in table.indexes
    if index.dialect_options["sqlite"]["where"] is not None
}


@on_planners
def test_no_request_and_no_worker_reads_a_whole_table(make_app: MakeApp, database: str) -> None:
    """They use every index that has only the rows with a value."""
    app = make_app(database, users=3, SMSVERIFY_SENDERS=MEMORY)
    without_inline_workers(app)
    with app.app_context():
        flow = flow_of(app)
        flow.route(Polled())
        engine = flow.state.ledger.engine
        with collected(engine) as statements:
            use_codes(flow)
            use_texts(flow, app)
            flow.verifier.forget(flow.user(1))
            count_codes(flow)
        with engine.connect() as connection:
            plans = {
                statement: plan_of(connection, statement, parameters)
                for statement, parameters in statements.items()
            }
    read = {statement: whole_tables(statement, plan) - SMALL for statement, plan in plans.items()}
    assert {statement: tables for statement, tables in read.items() if tables} == {}
    used = set(re.findall(r"ix_smsverify_\w+", "\n".join(plans.values())))
    assert PARTIAL - used <= OF_STAFF | OF_MESSAGES


@pytest.mark.parametrize("database", database_params("mariadb"), indirect=True)
def test_mariadb_finds_the_sends_of_a_proved_code_with_two_indexes(
    make_app: MakeApp, database: str
) -> None:
    """By their challenge, and by their cooldown."""
    app = make_app(database, SMSVERIFY_SENDERS=MEMORY)
    others = [
        {
            "at": n,
            "site_at": n,
            "site_count": n,
            "open_count": n,
            "by_owner": False,
            "cooldown": n,
            "challenge_id": f"{n:032}",
        }
        for n in range(1, 2001)
    ]
    with app.app_context():
        flow = flow_of(app)
        flow.state.ledger.run(lambda session: session.execute(insert(UsageSend), others) and None)
        engine = flow.state.ledger.engine
        with collected(engine) as statements:
            flow.prove(1)
        [(statement, parameters)] = [
            (statement, parameters)
            for statement, parameters in statements.items()
            if statement.startswith("UPDATE smsverify_usage_send")
        ]
        with engine.connect() as connection:
            connection.exec_driver_sql("ANALYZE TABLE smsverify_usage_send").all()
            [plan] = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).all()
    assert plan.key == "ix_smsverify_usage_send_cooldown,ix_smsverify_usage_send_challenge"
