"""Case 17 of docs/safety.md, for the rules of proof: what logs, reprs and errors never hold."""

from __future__ import annotations

import contextlib
import logging
import re
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flows import Flow, Native
from hostapp import db

from flask_smsverify import signals
from flask_smsverify.db.models import Verification
from flask_smsverify.errors import SMSVerifyError, Unavailable, Unknown
from flask_smsverify.keyring import Keyring
from flask_smsverify.limits.usage import Charge, Cooldown
from flask_smsverify.settings.schema import Limit
from flask_smsverify.verification import challenges, check, ownership, policy
from flask_smsverify.web.visitor import Visitor

MakeFlow = Callable[..., Flow]
SECRET = "a secret of the tests"
MOBILES = ("9123450001", "9123450002", "9120000000")


class Heard:
    """Everything that was logged or told while it listened, as text."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.codes: set[str] = set()

    def add(self, thing: object) -> None:
        self.texts.append(str(thing))
        self.texts.append(repr(thing))

    def assert_clean(self) -> None:
        assert self.texts
        assert self.codes
        for text in self.texts:
            # The tracebacks of tests show tests' own lines; only what ours add is looked at.
            assert SECRET not in text, text
            for mobile in MOBILES:
                assert mobile not in text, text
            for code in self.codes:
                assert not re.search(rf"(?<!\d){code}(?!\d)", text), text


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[Heard]:
    heard = Heard()
    with contextlib.ExitStack() as stack:
        stack.enter_context(caplog.at_level(logging.DEBUG))
        stack.enter_context(caplog.at_level(logging.DEBUG, logger="sqlalchemy"))

        def hear(_app: object, **values: object) -> None:
            heard.add(values)

        for name in (
            "code_sent",
            "mobile_verified",
            "verification_failed",
            "verification_revoked",
            "limit_reached",
        ):
            stack.enter_context(getattr(signals, name).connected_to(hear))
        yield heard
    for record in caplog.records:
        if not record.name.startswith("sqlalchemy") or record.name.endswith("smsverify"):
            heard.add(record.getMessage())
            if record.exc_info:
                heard.texts.append("".join(traceback.format_exception(*record.exc_info)))
    heard.assert_clean()


def note(heard: Heard, act: Callable[[], object]) -> object:
    try:
        result = act()
    except SMSVerifyError as error:
        heard.add(error)
        heard.add(error.args)
        heard.add(vars(error))
        heard.add(error.__cause__)
        return None
    heard.add(result)
    return result


def test_flows_at_debug_show_no_code_no_mobile_and_no_secret(
    make_flow: MakeFlow, database: str, heard: Heard
) -> None:
    flow = make_flow(database, users=2, SMSVERIFY_LIMITS={"site": "12/day"})
    challenge: Any = note(heard, lambda: flow.start(1, ip="192.0.2.1"))
    heard.codes |= {flow.code(challenge), flow.wrong(challenge)}
    for typed in (flow.wrong(challenge), "+12", flow.code(challenge), flow.code(challenge)):
        note(heard, lambda typed=typed: flow.check(challenge, typed, ip="192.0.2.1"))
    flow.memory.fail_with(Unavailable("memory", "down"))
    note(heard, lambda: flow.start(2))
    flow.memory.fail_with(Unknown("memory", "no answer"))
    note(heard, lambda: flow.start(2))
    note(heard, lambda: flow.start(2))
    flow.clock.advance(31)
    changed: Any = note(heard, lambda: flow.start(2, mobile="09120000000"))
    heard.codes.add(flow.code(changed))
    note(heard, lambda: flow.verifier.status(flow.user(2)))
    proof = note(heard, lambda: flow.verifier.start_for("09120000000", purpose="sign-up"))
    flow.state.workers.wait()
    heard.codes.add(flow.code(proof))  # type: ignore[arg-type]  # a challenge, or the test is over
    note(heard, lambda: flow.check(proof, flow.code(proof)))  # type: ignore[arg-type]  # likewise
    for _ in range(12):
        flow.clock.advance(3600)
        note(heard, lambda: flow.start(1))
    note(heard, lambda: flow.verifier.mark_verified(flow.user(1), by="staff"))
    note(heard, lambda: flow.verification(1))
    note(heard, lambda: flow.verifier.revoke(flow.user(1), by="staff"))
    for thing in (
        flow.state.keyring,
        flow.state.settings,
        flow.state.policy,
        flow.verifier._rules,
    ):
        heard.add(thing)


def test_native_flows_at_debug_show_no_code(make_flow: MakeFlow, sqlite: str, heard: Heard) -> None:
    flow = make_flow(sqlite)
    native = Native()
    flow.route(native)
    challenge: Any = note(heard, flow.start)
    heard.codes |= {native.sent[0][1], "4711"}
    native.checking.append(Unknown("native", "no answer"))
    for typed in ("4711", "4711", native.sent[0][1]):
        note(heard, lambda typed=typed: flow.check(challenge, typed))


def test_a_database_that_fails_in_the_middle_tells_nothing(
    make_flow: MakeFlow, database: str, heard: Heard
) -> None:
    flow = make_flow(database)
    challenge = flow.start()
    heard.codes.add(flow.code(challenge))
    user = flow.user()
    db.session.commit()
    with db.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE smsverify_challenge RENAME TO gone")
    try:
        flow.clock.advance(31)
        try:
            flow.verifier.start(user)
        except SMSVerifyError as error:
            heard.add(error)
            heard.texts.append("".join(traceback.format_exception_only(error)))
            heard.add(error.__cause__)
    finally:
        with db.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE gone RENAME TO smsverify_challenge")
    heard.add("the flow ended")


@pytest.mark.parametrize(
    "thing",
    [
        Charge("mobile", "+989123450001", (Limit(1, 60),)),
        Cooldown("verify mobile +989123450001", (30,)),
        challenges.Subject("1", "+989123450001", "+989123450002", "verify"),
        check.Proof("+989123450001", "sign-up", "0" * 32, None),  # type: ignore[arg-type]  # the time is not shown
        policy.Status("verified", "+989123450001"),
        ownership.Granted(
            Verification(), "+989123450003", ("1",), "+989123450001", {"mobile": "+989123450002"}
        ),
        ownership.Claimant("+989123450001", "1", frozenset()),
        Visitor(None, "1", "+989123450001", is_login_pending=False),
        Keyring([SECRET]),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_no_repr_shows_a_mobile_or_a_key(thing: object) -> None:
    assert all(mobile not in repr(thing) for mobile in MOBILES)
    assert SECRET not in repr(thing)


def test_rules_do_not_show_the_codes_of_test_numbers(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite, SMSVERIFY_TEST_NUMBERS={"09123450001": "246810"})
    assert "246810" not in repr(flow.verifier._rules)
    challenge = flow.start()
    assert flow.memory.messages == []
    assert flow.check(challenge, "246810").mobile == "+989123450001"


def test_sqlalchemys_loggers_show_no_row_of_ours_at_debug(
    make_flow: MakeFlow, sqlite: str, caplog: pytest.LogCaptureFixture
) -> None:
    """`hide_parameters` hides what goes in; at DEBUG, SQLAlchemy logs what comes out."""
    flow = make_flow(sqlite)
    challenge = flow.start()
    with caplog.at_level(logging.DEBUG, logger="sqlalchemy"):
        flow.state.ledger.close()
        flow.verifier.load(challenge.id)
        caplog.clear()
        flow.verifier.load(challenge.id)
    assert "9123450001" not in caplog.text
