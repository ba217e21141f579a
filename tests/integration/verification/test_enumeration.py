"""Responses do not reveal whether an account exists: case 41 of docs/safety.md."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from clocks import Clock
from flask import jsonify, request
from flows import Flow, flow_of
from hostapp import db
from parallel import outcome
from sqlalchemy import event

from flask_smsverify.db.models import Attempt, Challenge, Verification
from flask_smsverify.errors import LimitError, SMSVerifyError, Unavailable
from flask_smsverify.senders.base import DeliveryState, Receipt
from flask_smsverify.senders.memory import Memory

MakeFlow = Callable[..., Flow]


@contextmanager
def executed_sql(flow: Flow) -> Iterator[dict[str, list[str]]]:
    """Yield all SQL of the block, of the request's thread and of the others."""
    seen: dict[str, list[str]] = {"request": [], "background": []}
    here = threading.get_ident()

    def record(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        same = re.sub(r"id_\d.*\) ORDER", "… ORDER", statement)  # keys may share a row
        seen["request" if threading.get_ident() == here else "background"].append(same)

    engines = {db.engine, flow.state.ledger.engine}
    for engine in engines:
        event.listen(engine, "before_cursor_execute", record)
    try:
        yield seen
        flow.state.workers.wait()
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", record)


def visible_values(challenge: Challenge) -> dict[str, object]:
    """Return what a host could show of a challenge, with times relative to its start."""
    hidden = {"id", "mobile", "open_key", "native_key", "_sa_instance_state"}
    return {
        name: value - challenge.created_at if isinstance(value, datetime) else value
        for name, value in vars(challenge).items()
        if name not in hidden
    }


class TickingClock(Clock):
    """A clock that advances by a microsecond with each read."""

    def __call__(self) -> datetime:
        self.advance(0.000001)
        return self.now


ACCOUNTS = {
    "unverified": "09123450001",
    "verified": "09123450002",
    "revoked": "09123450003",
    "locked": "09123450004",
}


@pytest.fixture
def accounts(make_flow: MakeFlow, database: str) -> Flow:
    """Return a flow with an account of each kind, two days after their proofs."""
    flow = make_flow(database, users=4, SMSVERIFY_RESEND_DELAYS=(1,))
    for number in (2, 3, 4):
        flow.prove(number)
    flow.verifier.revoke(flow.user(3), by="staff")

    def lock(session: Any) -> None:
        session.get(Verification, "4").locked_at = flow.clock()

    flow.state.ledger.run(lock)
    db.session.rollback()
    return flow_of(flow.app, TickingClock(flow.clock.now + timedelta(days=2)))


def test_results_and_sql_do_not_reveal_whether_an_account_exists(accounts: Flow) -> None:
    """Case 41: the challenge, the errors with their waits, and the SQL, statement by statement."""
    flow = accounts

    def request_codes(mobile: str, ip: str) -> list[object]:
        """Return the results and the SQL of two requests every quarter of an hour."""
        shown: list[object] = []
        for turn in range(2 * 16):
            with executed_sql(flow) as seen:
                try:
                    challenge = flow.sign_up(mobile, ip=ip, wait=False)
                    shown.append(visible_values(challenge))
                except SMSVerifyError as error:
                    shown.append((type(error).__name__, str(error), vars(error)))
            shown.append(seen)
            if turn == 0:
                with executed_sql(flow) as seen:
                    shown.append(outcome(lambda c=challenge: flow.check(c, flow.wrong(c))))
                shown.append(seen)
            flow.clock.advance(0 if turn % 2 == 0 else 900)
        return shown

    began = flow.clock.now
    unknown: list[Any] = []
    for at, mobile in enumerate(("09350000001", *ACCOUNTS.values())):
        flow.clock.now = began + timedelta(days=3 * at)
        seen = request_codes(mobile, f"192.0.2.{at}")
        unknown = unknown or seen
        for step, (one, other) in enumerate(zip(seen, unknown, strict=True)):
            assert one == other, f"{mobile}, step {step}"
    refused = {shown[0] for shown in unknown if isinstance(shown, tuple)}
    assert refused == {"TooSoon", "RateLimited"}
    assert unknown[1]["request"]
    assert unknown[1]["background"]
    assert unknown[2] == "WrongCode"


def test_a_token_of_another_number_does_not_reveal_whether_an_account_exists(
    accounts: Flow,
) -> None:
    """Case 41: also if the owner of the number has failed on a device, or is locked there."""
    flow = accounts
    own = flow.verifier.devices.dump("+989123450002", "2")
    for number in (3, 4):
        mobile = f"+98912345000{number}"
        challenge = flow.sign_up(mobile, device=flow.verifier.devices.dump(mobile, str(number)))
        assert outcome(lambda c=challenge: flow.check(c, flow.wrong(c))) == "WrongCode"
        flow.state.limit_report.reset(flow.state.limit_report.scopes(mobile=mobile))
    flow.clock.advance(days=1)
    shown = []
    for mobile in (
        "09350000001",
        *(ACCOUNTS[kind] for kind in ("unverified", "revoked", "locked")),
    ):
        with executed_sql(flow) as seen:
            challenge = flow.sign_up(mobile, device=own, wait=False)
        shown.append((visible_values(challenge), seen["request"]))
    assert shown == [shown[0]] * 4


def test_a_token_of_the_owner_takes_no_more_statements_than_none(accounts: Flow) -> None:
    flow = accounts
    counts = []
    for device in (flow.verifier.devices.dump("+989123450002", "2"), None):
        with executed_sql(flow) as seen:
            flow.sign_up(ACCOUNTS["verified"], device=device, wait=False)
        counts.append(len(seen["request"]))
        flow.clock.advance(2)
    assert counts[0] == counts[1]


def test_a_sign_up_neither_waits_for_the_gateway_nor_reveals_its_answer(accounts: Flow) -> None:
    """Case 41."""
    flow = accounts
    leave = threading.Event()

    class Slow(Memory):
        def send_code(self, message: Any) -> Receipt:
            assert leave.wait(60)
            if message.to.endswith("1"):
                raise Unavailable("slow", "down")
            return Receipt(message.to, DeliveryState.SENT)

    flow.route(Slow(name="slow"))
    try:
        challenges = [
            flow.sign_up(mobile, wait=False) for mobile in ("09350000001", *ACCOUNTS.values())
        ]
        tries = flow.state.ledger.read(
            lambda session: session.query(Attempt.state).filter_by(sender="slow").all()
        )
    finally:
        leave.set()
    assert len({str(visible_values(challenge)) for challenge in challenges}) == 1
    assert set(tries) <= {("sending",)}, "no gateway has answered yet"
    flow.state.workers.wait()
    assert flow.verifier.last_message(challenges[0]).state == "failed"
    assert flow.verifier.last_message(challenges[2]).state == "sent"


def test_a_sign_up_page_does_not_reveal_whether_an_account_exists(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """Case 41, for a view of a host: status, body and headers, also of responses with 429."""
    flow = make_flow(sqlite, users=1)
    flow.prove()
    flow.clock.advance(2 * 86_400)

    @flow.app.post("/sign-up")
    def sign_up() -> Any:
        try:
            challenge = flow.sign_up(request.form["mobile"], ip=request.form["ip"], wait=False)
        except LimitError as error:
            return jsonify(wait=error.retry_after), 429, {"Retry-After": str(error.retry_after)}
        return jsonify(until=challenge.expires_at, again=challenge.resend_at)

    began = flow.clock.now
    answers = []
    for ip, mobile in (("192.0.2.1", "09123450001"), ("192.0.2.2", "09350000001")):
        flow.clock.now = began
        shown = []
        for _ in range(8):
            answer = flow.app.test_client().post("/sign-up", data={"mobile": mobile, "ip": ip})
            shown.append((answer.status_code, answer.text, sorted(answer.headers)))
            flow.clock.advance(20)
        answers.append(shown)
        flow.state.workers.wait()
    assert answers[0] == answers[1]
    assert {status for status, *_ in answers[0]} == {200, 429}
