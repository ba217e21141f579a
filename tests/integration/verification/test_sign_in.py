"""Sign-in on real databases: concurrent first sign-ups, and what a response reveals."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from conftest import MakeApp
from flask import Flask
from flask.testing import FlaskClient
from flows import MEMORY, NO_LIMITS, Flow
from hostapp import User, db
from parallel import PROCESSES, Processes, race
from sqlalchemy import event

from flask_smsverify import SMSVerify
from flask_smsverify.db.models import Verification

SIGN_IN = "/verify-mobile/sign-in"
SIGN_IN_CHECK = "/verify-mobile/sign-in/check"
NEW = "0935 111 2233"
NEW_E164 = "+989351112233"
PAGE = {"Accept": "text/html", "Accept-Language": "en"}
PROGRAM = {"Accept": "application/json", "Accept-Language": "en"}

# --- races -------------------------------------------------------------------------------------


def waiting_clients(app: Flask, mobile: str, count: int) -> list[tuple[FlaskClient, str]]:
    """Return clients with an open challenge for one number each, and the codes."""
    state = app.extensions["smsverify"]
    memory = state.delivery.routes.senders["memory"]
    found = []
    for _ in range(count):
        client = app.test_client()
        assert client.post(SIGN_IN, json={"mobile": mobile}).status_code == 200
        state.workers.wait()
        found.append((client, memory.last.code))
        with app.app_context():
            state.limit_report.reset_all()  # the cooldown
    return found


@pytest.mark.race
def test_parallel_requests_without_a_solution_use_their_limit_up_exactly(
    make_app: MakeApp, database: str
) -> None:
    """Requests that the cooldown refuses take no unit from the others, not even for a moment."""
    app = make_app(
        database,
        SMSVERIFY_SIGN_IN=True,
        SMSVERIFY_SENDERS=MEMORY,
        SMSVERIFY_ANONYMOUS_CHALLENGE="always",
        SMSVERIFY_LIMITS=NO_LIMITS | {"unsolved": "12/hour"},
    )

    def post(mobile: str, network: int) -> int:
        answer = app.test_client().post(
            SIGN_IN, json={"mobile": mobile}, environ_base={"REMOTE_ADDR": f"198.51.{network}.1"}
        )
        return answer.status_code

    assert [post(NEW, 100), post(NEW, 101)] == [200, 429]
    found: Counter[int] = Counter()

    def request(number: int) -> None:
        mobile = NEW if number % 2 else f"09120000{number:03}"
        found[post(mobile, number)] += 1

    assert race(2 * 20, request) == {"ok": 40}
    app.extensions["smsverify"].workers.wait()
    sent = app.extensions["smsverify"].delivery.routes.senders["memory"].messages
    assert len(sent) == 12
    assert found[200] == 11
    assert found[403] >= 9


@pytest.mark.race
@pytest.mark.parametrize("kind", ["one account", "transfer", "several accounts"])
def test_concurrent_first_sign_ups_of_one_number_create_one_account(
    make_app: MakeApp, database: str, kind: str
) -> None:
    settings: dict[str, Any] = {
        "one account": {},
        "transfer": {"SMSVERIFY_MOBILE_POLICY": "transfer"},
        "several accounts": {"SMSVERIFY_ACCOUNTS_PER_MOBILE": 0},
    }[kind]
    smsverify = SMSVerify()
    smsverify.user_factory(lambda mobile: User(mobile=mobile))
    if kind == "several accounts":
        smsverify.user_by_mobile(
            lambda mobile: db.session.scalars(
                db.select(User).filter_by(mobile=mobile).order_by(User.id)
            ).first()
        )
    app = make_app(
        database,
        users=0,
        smsverify=smsverify,
        SMSVERIFY_SIGN_IN=True,
        SMSVERIFY_LIMITS=NO_LIMITS,
        **settings,
    )
    clients = waiting_clients(app, NEW, 8)
    answers: Counter[str] = Counter()

    def enter(number: int) -> None:
        client, code = clients[number]
        answer = client.post(SIGN_IN_CHECK, json={"code": code})
        answers[f"{answer.status_code} {(answer.json or {}).get('state')}"] += 1

    assert race(len(clients), enter) == {"ok": len(clients)}
    assert answers == {"200 signed_in": len(clients)}
    with app.app_context():
        [user] = db.session.scalars(db.select(User)).all()
        assert user.mobile == NEW_E164
        rows = app.extensions["smsverify"].ledger.read(
            lambda session: session.query(Verification.user_id).all()
        )
        assert rows == [(str(user.id),)]


@pytest.mark.race
def test_concurrent_first_sign_ups_in_several_processes_create_one_account(
    make_app: MakeApp, database: str, processes: Processes
) -> None:
    config = {
        "SMSVERIFY_SIGN_IN": True,
        "SMSVERIFY_LIMITS": NO_LIMITS,
        "SMSVERIFY_SENDERS": MEMORY,
        "CREATES_USERS": True,
    }
    app = make_app(database, users=0, **config)
    pairs = []
    for client, code in waiting_clients(app, NEW, 2 * PROCESSES):
        cookie = client.get_cookie("session")
        assert cookie is not None
        pairs.append((cookie.value, code))
    ends = processes.race(database, config, "sign in", pairs, threads=2)
    assert ends == {"ok": 2 * PROCESSES}
    with app.app_context():
        assert [user.mobile for user in db.session.scalars(db.select(User))] == [NEW_E164]


@pytest.mark.race
def test_a_right_code_signs_in_once(make_app: MakeApp, database: str) -> None:
    """Case 2 of docs/safety.md."""
    app = make_app(database, users=0, SMSVERIFY_SIGN_IN=True, SMSVERIFY_LIMITS=NO_LIMITS)
    app.extensions["test_smsverify"].user_factory(lambda mobile: User(mobile=mobile))
    [(client, code)] = waiting_clients(app, NEW, 1)
    cookie = client.get_cookie("session")
    assert cookie is not None
    answers: Counter[int] = Counter()

    def enter(_number: int) -> None:
        rival = app.test_client()
        rival.set_cookie("session", cookie.value)
        answers[rival.post(SIGN_IN_CHECK, json={"code": code}).status_code] += 1

    assert race(8, enter) == {"ok": 8}
    assert answers[200] == 1
    assert set(answers) <= {200, 404, 429}


# --- what a response reveals -------------------------------------------------------------------

ACCOUNTS = {
    "unverified": "0912 345 0001",
    "verified": "0912 345 0002",
    "revoked": "0912 345 0003",
    "locked": "0912 345 0004",
}
UNKNOWN = "0935 000 0001"


@contextmanager
def recorded(app: Flask) -> Iterator[dict[str, list[str]]]:
    """Yield all SQL of the block, of the request and of the background, and the queued work."""
    state = app.extensions["smsverify"]
    seen: dict[str, list[str]] = {"request": [], "background": [], "queued": []}
    here = threading.get_ident()

    def record(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        same = re.sub(r"id_\d.*\) ORDER", "… ORDER", statement)  # keys may share a row
        seen["request" if threading.get_ident() == here else "background"].append(same)

    submit = state.workers.submit

    def count(work: Callable[..., object], *arguments: object, lane: str = "") -> None:
        seen["queued"].append(f"{work.__qualname__} {lane}")
        submit(work, *arguments, lane=lane)

    state.workers.submit = count
    engines = {db.engine, state.ledger.engine}
    for engine in engines:
        event.listen(engine, "before_cursor_execute", record)
    try:
        yield seen
        state.workers.wait()
    finally:
        state.workers.submit = submit
        for engine in engines:
            event.remove(engine, "before_cursor_execute", record)


def visible(answer: Any, mobile: str) -> tuple[object, ...]:
    """Return all that a visitor sees of a response, without the number and the session."""
    national = mobile[1:].replace(" ", "")
    text = answer.text
    for shown in (mobile, f"+98{national[:3]}•••{national[-4:]}"):
        text = text.replace(shown, "NUMBER")
    headers = [
        (name, value)
        for name, value in answer.headers
        if name not in ("Set-Cookie", "Content-Length")
    ]
    return answer.status_code, re.sub(r"\\u2022", "•", text), headers


@pytest.fixture
def accounts(make_flow: Callable[..., Flow], database: str) -> Flow:
    """Return a flow with an account of each kind, two days after their proofs."""
    flow = make_flow(
        database, users=4, SMSVERIFY_SIGN_IN=True, SMSVERIFY_SENDERS=MEMORY, JSON_AS_ASCII=False
    )
    flow.app.json.ensure_ascii = False  # type: ignore[attr-defined]
    for number in (2, 3, 4):
        flow.prove(number)
    flow.verifier.revoke(flow.user(3), by="staff")

    def lock(session: Any) -> None:
        session.get(Verification, "4").locked_at = flow.clock()

    flow.state.ledger.run(lock)
    db.session.rollback()
    flow.clock.advance(2 * 86_400)
    return flow


def attempts(flow: Flow, mobile: str, ip: str) -> list[object]:
    """Return what a visitor sees, and the work, of all steps before a right code."""
    client = flow.app.test_client()
    origin = {"environ_overrides": {"REMOTE_ADDR": ip}}
    steps: list[Callable[[], Any]] = [
        lambda: client.get(SIGN_IN, headers=PAGE, **origin),
        lambda: client.post(SIGN_IN, data={"mobile": mobile}, headers=PAGE, **origin),
        lambda: client.get(SIGN_IN, headers=PAGE, **origin),
        lambda: client.post(SIGN_IN, json={"mobile": mobile}, headers=PROGRAM, **origin),
        lambda: client.post(SIGN_IN_CHECK, data={"code": "12"}, headers=PAGE, **origin),
        lambda: client.get(SIGN_IN, headers=PAGE, **origin),
        *[lambda: client.post(SIGN_IN_CHECK, json={"code": guess()}, **origin)] * 6,
        lambda: client.get(SIGN_IN, headers=PAGE, **origin),
        *[lambda: client.post(SIGN_IN, json={}, headers=PROGRAM, **origin)] * 8,
        lambda: client.get(SIGN_IN, headers=PROGRAM, **origin),
    ]

    def guess() -> str:
        """Return a wrong code."""
        memory = flow.memory
        right = memory.last.code
        assert right is not None
        return right[:-1] + str((int(right[-1]) + 5) % 10)

    seen: list[object] = []
    for step in steps:
        with recorded(flow.app) as work:
            seen.append(visible(step(), mobile))
        seen.append(work)
        flow.clock.advance(40)
    return seen


def test_a_sign_in_does_not_reveal_whether_an_account_exists(accounts: Flow) -> None:
    """Case 41 of docs/safety.md: responses, statements and queued work, step by step."""
    flow = accounts
    began = flow.clock.now
    expected = attempts(flow, UNKNOWN, "192.0.2.1")
    for at, (kind, mobile) in enumerate(ACCOUNTS.items(), start=2):
        flow.clock.now = began
        flow.state.limit_report.reset_all()
        flow.memory.clear()
        seen = attempts(flow, mobile, f"192.0.2.{at}")
        for step, (one, other) in enumerate(zip(seen, expected, strict=True)):
            assert one == other, f"{kind}, step {step}"
    statuses = Counter(step[0] for step in expected if isinstance(step, tuple))
    assert statuses[200] > 4
    assert statuses[303] == 2
    assert {422, 429} <= set(statuses)


def test_only_the_right_code_reveals_that_there_is_no_account(accounts: Flow) -> None:
    flow = accounts
    client = flow.app.test_client()
    client.post(SIGN_IN, json={"mobile": UNKNOWN})
    flow.state.workers.wait()
    answer = client.post(SIGN_IN_CHECK, json={"code": flow.memory.last.code})
    assert answer.status_code == 403
    assert b"no_account" in answer.data


def test_an_account_that_is_proved_by_a_sign_in_is_verified_for_the_usual_time(
    accounts: Flow,
) -> None:
    flow = accounts
    flow.clock.advance(timedelta(days=100).total_seconds())
    assert flow.state_of(2) == "expired"
    client = flow.app.test_client()
    client.post(SIGN_IN, json={"mobile": ACCOUNTS["verified"]})
    flow.state.workers.wait()
    client.post(SIGN_IN_CHECK, json={"code": flow.memory.last.code})
    assert client.get("/guarded").text == "guarded"
    db.session.rollback()
    assert flow.state_of(2) == "verified"
