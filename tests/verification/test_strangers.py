"""What somebody without an account can spend and learn: cases 20 to 22, 26 and 41 of
docs/safety.md."""

from __future__ import annotations

import threading
from collections import Counter
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
from flask_smsverify.errors import LimitError, RateLimited, SMSVerifyError, Unavailable
from flask_smsverify.senders.base import DeliveryState, Receipt
from flask_smsverify.senders.memory import Memory

MakeFlow = Callable[..., Flow]


def ask(flow: Flow, mobile: str, **options: Any) -> Challenge:
    return flow.verifier.start_for(mobile, purpose="sign-up", **options)


# --- what they spend ------------------------------------------------------------------------------


def test_one_address_has_its_cap_whoever_asks_there(make_flow: MakeFlow, sqlite: str) -> None:
    """Case 21: for as many numbers of strangers as it likes, and for accounts besides."""
    flow = make_flow(sqlite, users=9)
    ends = Counter(
        outcome(lambda n=n: ask(flow, f"091200000{n:02}", ip="192.0.2.7")) for n in range(18)
    )
    ends.update(outcome(lambda n=n: flow.start(n, ip="192.0.2.7")) for n in range(1, 6))
    assert ends == {"ok": 20, "RateLimited": 3}
    flow.state.workers.wait()
    assert len(flow.memory.messages) == 20


def test_many_addresses_that_ask_for_one_foreign_prefix_stop_at_the_sites_cap(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """Case 22: though that region is allowed and its own budget lifted; no other costs a unit."""
    flow = make_flow(
        sqlite,
        users=12,
        SMSVERIFY_ALLOWED_REGIONS=("IR", "AE"),
        SMSVERIFY_LIMITS={"foreign": None, "site": "7/day"},
    )
    ends: Counter[str] = Counter()
    for n in range(1, 13):
        ip = f"198.51.100.{n}"
        ends[outcome(lambda n=n, ip=ip: flow.start(n, mobile=f"+4915112345{n:03}", ip=ip))] += 1
        ends[outcome(lambda n=n, ip=ip: ask(flow, f"+4915112345{n:03}", ip=ip))] += 1
    assert ends == {"RegionNotAllowed": 24}
    assert flow.used("site") == 0
    scopes: Counter[str] = Counter()
    for n in range(1, 13):
        ip = f"198.51.100.{n}"
        try:
            if n % 2:
                flow.start(n, mobile=f"+9715012345{n:02}", ip=ip)
            else:
                ask(flow, f"+9715012345{n:02}", ip=ip)
        except RateLimited as error:
            scopes[error.scope] += 1
    assert scopes == {"site": 5}
    flow.state.workers.wait()
    assert len(flow.memory.messages) == 7


def test_strangers_who_ask_all_day_leave_a_mobiles_owner_half_of_the_day(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """Cases 20 and 26: by accounts and sign-ups, from ever new addresses, every ten minutes."""
    flow = make_flow(sqlite, users=25)
    flow.prove(1)
    flow.clock.advance(2 * 86_400)
    ends: Counter[str] = Counter()
    for turn in range(6 * 23):
        number, ip = 2 + turn % 24, f"198.51.{turn % 100}.1"
        if turn % 2:
            ends[outcome(lambda ip=ip: ask(flow, "09123450001", ip=ip))] += 1
        else:
            ends[outcome(lambda n=number, ip=ip: flow.start(n, mobile="09123450001", ip=ip))] += 1
        flow.state.workers.wait()
        flow.clock.advance(600)
    assert ends == {"ok": 5, "RateLimited": 6 * 23 - 5}
    flow.state.workers.wait()
    assert len(flow.memory.messages) == 1 + 5
    for _ in range(5):
        flow.clock.advance(120)
        challenge = flow.start(1)
    assert flow.check(challenge, flow.code(challenge)).verified_at
    assert outcome(lambda: flow.start(1)) == "RateLimited"


# --- what they learn ------------------------------------------------------------------------------


@contextmanager
def work_done(flow: Flow) -> Iterator[dict[str, list[str]]]:
    """Collects all SQL, of the request's thread and of the others."""
    seen: dict[str, list[str]] = {"request": [], "background": []}
    here = threading.get_ident()

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen["request" if threading.get_ident() == here else "background"].append(statement)

    engines = {db.engine, flow.state.ledger.engine}
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
        flow.state.workers.wait()
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)


def told(challenge: Challenge) -> dict[str, object]:
    """All that a host could show of a challenge but its id and number, with times since its own."""
    hidden = {"id", "mobile", "refundable", "_sa_instance_state"}
    return {
        name: value - challenge.created_at if isinstance(value, datetime) else value
        for name, value in vars(challenge).items()
        if name not in hidden
    }


class Ticking(Clock):
    """Goes on by a microsecond each time it is looked at, as clocks do."""

    def __call__(self) -> datetime:
        self.advance(0.000001)
        return self.now


ACCOUNTS = {
    "that never proved it": "09123450001",
    "that proved it": "09123450002",
    "whose proof was taken back": "09123450003",
    "that is locked": "09123450004",
}


@pytest.fixture
def accounts(make_flow: MakeFlow, database: str) -> Flow:
    """A site with an account of each kind, some days after they came."""
    flow = make_flow(database, users=4, SMSVERIFY_RESEND_DELAYS=(1,))
    for number in (2, 3, 4):
        flow.prove(number)
    flow.verifier.revoke(flow.user(3), by="staff")

    def lock(session: Any) -> None:
        session.get(Verification, "4").locked_at = flow.clock()

    flow.state.ledger.run(lock)
    db.session.rollback()
    return flow_of(flow.app, Ticking(flow.clock.now + timedelta(days=2)))


def test_who_has_an_account_shows_in_no_answer_and_in_no_work(accounts: Flow) -> None:
    """Case 41: the challenge, the errors with their waits, and the SQL, statement by statement."""
    flow = accounts

    def asks(mobile: str, ip: str) -> list[object]:
        """What asking for a number twice every quarter of an hour shows and does."""
        shown: list[object] = []
        for turn in range(2 * 16):
            with work_done(flow) as seen:
                try:
                    challenge = ask(flow, mobile, ip=ip)
                    shown.append(told(challenge))
                except SMSVerifyError as error:
                    shown.append((type(error).__name__, str(error), vars(error)))
            shown.append(seen)
            if turn == 0:
                with work_done(flow) as seen:
                    shown.append(outcome(lambda c=challenge: flow.check(c, flow.wrong(c))))
                shown.append(seen)
            flow.clock.advance(0 if turn % 2 == 0 else 900)
        return shown

    began = flow.clock.now
    unknown: list[Any] = []
    for at, mobile in enumerate(("09350000001", *ACCOUNTS.values())):
        flow.clock.now = began + timedelta(days=3 * at)
        seen = asks(mobile, f"192.0.2.{at}")
        unknown = unknown or seen
        for step, (one, other) in enumerate(zip(seen, unknown, strict=True)):
            assert one == other, f"{mobile}, step {step}"
    refused = {shown[0] for shown in unknown if isinstance(shown, tuple)}
    assert refused == {"TooSoon", "RateLimited"}
    assert unknown[1]["request"]
    assert unknown[1]["background"]
    assert unknown[2] == "WrongCode"


def test_the_answer_waits_for_no_gateway_whoever_has_an_account(accounts: Flow) -> None:
    """Case 41: nor does it tell whether one took the code."""
    flow = accounts
    leave = threading.Event()

    class Slow(Memory):
        def send_code(self, message: Any) -> Receipt:
            assert leave.wait(30)
            if message.to.endswith("1"):
                raise Unavailable("slow", "down")
            return Receipt(message.to, DeliveryState.SENT)

    flow.route(Slow(name="slow"))
    try:
        challenges = [ask(flow, mobile) for mobile in ("09350000001", *ACCOUNTS.values())]
        tries = flow.state.ledger.read(
            lambda session: session.query(Attempt.state).filter_by(sender="slow").all()
        )
    finally:
        leave.set()
    assert len({str(told(challenge)) for challenge in challenges}) == 1
    assert set(tries) <= {("sending",)}, "no gateway has answered yet"
    flow.state.workers.wait()
    assert flow.verifier.last_message(challenges[0]).state == "failed"
    assert flow.verifier.last_message(challenges[2]).state == "sent"


def test_a_sign_ups_page_answers_the_same_whoever_has_an_account(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """Case 41, through a view as a host would write it: status, body and headers, also of 429s."""
    flow = make_flow(sqlite, users=1)
    flow.prove()
    flow.clock.advance(2 * 86_400)

    @flow.app.post("/sign-up")
    def sign_up() -> Any:
        try:
            challenge = ask(flow, request.form["mobile"], ip=request.form["ip"])
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
