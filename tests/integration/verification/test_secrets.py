"""Logs, errors and tables contain no secrets: cases 15 and 17 of docs/safety.md."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import logging
import re
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy
from flows import NO_LIMITS, Flow, Native
from hostapp import db
from leaks import LONG_CODES
from parallel import outcome

from flask_smsverify import signals
from flask_smsverify.db.models import Base, Verification
from flask_smsverify.errors import SMSVerifyError, Unavailable, Unknown
from flask_smsverify.keyring import Keyring
from flask_smsverify.limits.other_counts import Charge
from flask_smsverify.settings.schema import Limit
from flask_smsverify.verification import challenges, check, ownership, policy
from flask_smsverify.web.visitor import Visitor

MakeFlow = Callable[..., Flow]
SECRET = "a secret of the tests"
MOBILES = ("9123450001", "9123450002", "9120000000")


def test_a_stolen_database_contains_no_code_and_no_digest_of_another_key(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 15."""
    flow = make_flow(database, **LONG_CODES)
    native = Native()
    challenge = flow.start()
    own = flow.code(challenge)
    flow.route(native)
    flow.clock.advance(601)
    second = flow.start()
    flow.check(second, native.sent[0][1])
    stolen = flow.state.ledger.read(
        lambda session: json.dumps(
            [
                [str(value) for value in row]
                for table in Base.metadata.sorted_tables
                for row in session.execute(sqlalchemy.select(table))
            ]
        )
    )
    assert challenge.id in stolen
    assert not re.search(rf"(?<!\d){own}(?!\d)", stolen)
    assert not re.search(rf"(?<!\d){native.sent[0][1]}(?!\d)", stolen)
    other = Keyring(["another key"], app_id="host")
    assert other.current_id != flow.state.keyring.current_id
    assert challenge.key_id not in other
    second = flow.verifier.load(second.id)
    used = flow.verifier._checker._native._accepted_digest(second, native.sent[0][1])
    assert used in stolen
    assert other.digest("native code", "native", second.mobile, native.sent[0][1]) not in stolen


def unkeyed_digests(code: str, stored: set[str]) -> dict[str, str]:
    """Return digests that a thief can compute from a code and stored values: digest → its kind."""
    made = {}
    for name in ("md5", "sha1", "sha256", "sha512", "sha3_256", "blake2b"):
        for other in stored:
            for text in {code} | {
                joined
                for separator in ("", ":", "|", " ", "\0")
                for joined in (f"{code}{separator}{other}", f"{other}{separator}{code}")
            }:
                made[hashlib.new(name, text.encode()).hexdigest()] = f"{name} of {text!r}"
            keyed = hmac.new(other.encode(), code.encode(), name)
            made[keyed.hexdigest()] = f"HMAC-{name} under {other!r}"
    return made


def test_no_table_contains_a_code_or_an_unkeyed_digest_of_one(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 15: every table, after codes of all kinds were sent and checked."""
    flow = make_flow(database, users=3, SMSVERIFY_LIMITS=NO_LIMITS, **LONG_CODES)
    proved = flow.start(1, ip="192.0.2.1")
    assert outcome(lambda: flow.check(proved, flow.wrong(proved))) == "WrongCode"
    flow.clock.advance(31)
    flow.verifier.resend(proved, channel="voice")
    flow.check(proved, flow.code(proved))
    still_open = flow.start(2)
    sign_up = flow.sign_up("09120000009", ip="192.0.2.1")
    token = flow.verifier.proof_token(flow.check(sign_up, flow.code(sign_up)))
    flow.verifier.claim(token, flow.user(2), purpose="sign-up")
    db.session.commit()
    native = Native()
    flow.route(native)
    flow.check(flow.start(3), native.sent[0][1])
    flow.clock.advance(121)
    flow.start(3)
    sent = {flow.code(one) for one in (proved, still_open, sign_up)}
    sent |= {code for _, code in native.sent}
    assert len(sent) == 5

    everything = sqlalchemy.MetaData()
    everything.reflect(db.engine)
    with db.engine.connect() as connection:
        values = [
            value.decode("latin-1") if isinstance(value, bytes) else str(value)
            for table in everything.sorted_tables
            for row in connection.execute(sqlalchemy.select(table))
            for value in row
            if not isinstance(value, datetime)
        ]
    stolen = "\n".join(values)
    assert {table.name for table in Base.metadata.sorted_tables} < set(everything.tables)
    assert proved.id in stolen
    assert "a secret of the tests" not in stolen
    stored = {value for value in values if 0 < len(value) < 64}
    for code in sent:
        assert not re.search(rf"(?<!\d){code}(?!\d)", stolen)
        for digest, how in unkeyed_digests(code, stored).items():
            assert digest[:16] not in stolen, how
            assert base64.b64encode(bytes.fromhex(digest))[:16].decode() not in stolen, how


class Recorder:
    """Collects everything that is logged, returned or raised, as text."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.codes: set[str] = set()

    def add(self, value: object) -> None:
        self.texts.append(str(value))
        self.texts.append(repr(value))

    def assert_clean(self) -> None:
        assert self.texts
        assert self.codes
        for text in self.texts:
            assert SECRET not in text, text
            for mobile in MOBILES:
                assert mobile not in text, text
            for code in self.codes:
                assert not re.search(rf"(?<!\d){code}(?!\d)", text), text


@pytest.fixture
def recorder(caplog: pytest.LogCaptureFixture) -> Iterator[Recorder]:
    recorder = Recorder()
    with contextlib.ExitStack() as stack:
        stack.enter_context(caplog.at_level(logging.DEBUG))
        stack.enter_context(caplog.at_level(logging.DEBUG, logger="sqlalchemy"))

        def receive(_app: object, **values: object) -> None:
            recorder.add(values)

        for name in (
            "code_sent",
            "mobile_verified",
            "verification_failed",
            "verification_revoked",
            "limit_reached",
        ):
            stack.enter_context(getattr(signals, name).connected_to(receive))
        yield recorder
    for record in caplog.records:
        if not record.name.startswith("sqlalchemy") or record.name.endswith("smsverify"):
            recorder.add(record.getMessage())
            if record.exc_info:
                recorder.texts.append("".join(traceback.format_exception(*record.exc_info)))
    recorder.assert_clean()


def record(recorder: Recorder, act: Callable[[], object]) -> object:
    try:
        result = act()
    except SMSVerifyError as error:
        recorder.add(error)
        recorder.add(error.args)
        recorder.add(vars(error))
        recorder.add(error.__cause__)
        return None
    recorder.add(result)
    return result


def test_logs_and_errors_contain_no_code_mobile_or_secret(
    make_flow: MakeFlow, database: str, recorder: Recorder
) -> None:
    flow = make_flow(database, users=2, SMSVERIFY_LIMITS={"site": "12/day"}, **LONG_CODES)
    challenge: Any = record(recorder, lambda: flow.start(1, ip="192.0.2.1"))
    recorder.codes |= {flow.code(challenge), flow.wrong(challenge)}
    for typed in (flow.wrong(challenge), "+12", flow.code(challenge), flow.code(challenge)):
        record(recorder, lambda typed=typed: flow.check(challenge, typed, ip="192.0.2.1"))
    flow.memory.fail_with(Unavailable("memory", "down"))
    record(recorder, lambda: flow.start(2))
    flow.memory.fail_with(Unknown("memory", "no answer"))
    record(recorder, lambda: flow.start(2))
    record(recorder, lambda: flow.start(2))
    flow.clock.advance(31)
    changed: Any = record(recorder, lambda: flow.start(2, mobile="09120000000"))
    recorder.codes.add(flow.code(changed))
    record(recorder, lambda: flow.verifier.status(flow.user(2)))
    proof = record(recorder, lambda: flow.sign_up("09120000000"))
    flow.state.workers.wait()
    recorder.codes.add(flow.code(proof))  # type: ignore[arg-type]  # a challenge
    record(recorder, lambda: flow.check(proof, flow.code(proof)))  # type: ignore[arg-type]  # likewise
    for _ in range(12):
        flow.clock.advance(3600)
        record(recorder, lambda: flow.start(1))
    record(recorder, lambda: flow.verifier.mark_verified(flow.user(1), by="staff"))
    record(recorder, lambda: flow.verification(1))
    record(recorder, lambda: flow.verifier.revoke(flow.user(1), by="staff"))
    for value in (
        flow.state.keyring,
        flow.state.settings,
        flow.state.policy,
        flow.verifier._rules,
    ):
        recorder.add(value)


def test_logs_and_errors_contain_no_native_code(
    make_flow: MakeFlow, sqlite: str, recorder: Recorder
) -> None:
    flow = make_flow(sqlite)
    native = Native()
    flow.route(native)
    challenge: Any = record(recorder, flow.start)
    recorder.codes |= {native.sent[0][1], "47110815"}
    native.checking.append(Unknown("native", "no answer"))
    for typed in ("47110815", "47110815", native.sent[0][1]):
        record(recorder, lambda typed=typed: flow.check(challenge, typed))


def test_a_database_error_contains_no_code_or_mobile(
    make_flow: MakeFlow, database: str, recorder: Recorder
) -> None:
    flow = make_flow(database, **LONG_CODES)
    challenge = flow.start()
    recorder.codes.add(flow.code(challenge))
    user = flow.user()
    db.session.commit()
    with db.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE smsverify_challenge RENAME TO gone")
    try:
        flow.clock.advance(31)
        try:
            flow.verifier.start(user)
        except SMSVerifyError as error:
            recorder.add(error)
            recorder.texts.append("".join(traceback.format_exception_only(error)))
            recorder.add(error.__cause__)
    finally:
        with db.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE gone RENAME TO smsverify_challenge")
    recorder.add("the end of the test")


def test_no_repr_contains_a_mobile_or_a_key() -> None:
    for value in (
        Charge("mobile", "+989123450001", (Limit(1, 60),)),
        challenges.Subject("1", "+989123450001", "+989123450002", "verify"),
        check.Proof("+989123450001", "sign-up", "0" * 32, None),  # type: ignore[arg-type]  # the time is not shown
        policy.Status("verified", "+989123450001"),
        policy.Status("unverified"),
        ownership.Granted(
            Verification(), "+989123450003", ("1",), "+989123450001", {"mobile": "+989123450002"}
        ),
        ownership.Claimant("+989123450001", "1", frozenset()),
        Visitor(None, "1", "+989123450001", is_login_pending=False),
        Keyring([SECRET], app_id="host"),
    ):
        assert all(mobile not in repr(value) for mobile in MOBILES), type(value)
        assert SECRET not in repr(value), type(value)


def test_the_repr_of_the_rules_contains_no_code_of_a_test_number(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, SMSVERIFY_TEST_NUMBERS={"09123450001": "246810"})
    assert "246810" not in repr(flow.verifier._rules)
    challenge = flow.start()
    assert flow.memory.messages == []
    assert flow.check(challenge, "246810").mobile == "+989123450001"


def test_sqlalchemy_logs_no_ledger_rows_at_debug(
    make_flow: MakeFlow, sqlite: str, caplog: pytest.LogCaptureFixture
) -> None:
    """`hide_parameters` hides parameters only; at DEBUG, SQLAlchemy logs the rows of results."""
    flow = make_flow(sqlite)
    challenge = flow.start()
    db.session.rollback()
    db.engine.dispose()
    with caplog.at_level(logging.DEBUG, logger="sqlalchemy"):
        flow.state.ledger.close()
        caplog.clear()
        flow.verifier.load(challenge.id)
        assert "9123450001" not in caplog.text
        # The same row through an engine whose rows are logged.
        logged = sqlalchemy.create_engine(sqlite)
        with logged.connect() as connection:
            connection.exec_driver_sql("SELECT mobile FROM smsverify_challenge").all()
        logged.dispose()
        assert "9123450001" in caplog.text
