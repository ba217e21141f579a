"""Hosts whose clocks differ (case 86)."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest
from conftest import MakeApp, database_params
from flask import Flask
from flows import Flow

from flask_smsverify.cli.doctor import database as checks
from flask_smsverify.errors import CodeExpired

SKEW = timedelta(seconds=90)
pytestmark = pytest.mark.parametrize(
    "database", database_params("postgresql", "mariadb"), indirect=True
)


def on_host(app: Flask, skew: timedelta) -> Flow:
    """Return the flow of an app on a host whose clock is ahead by this much."""
    clock = app.extensions["smsverify"].clock
    clock.host_time = lambda: datetime.now(UTC) + skew
    return Flow(app, clock)


@pytest.fixture(params=[SKEW, -SKEW], ids=["ahead", "behind"])
def hosts(request: pytest.FixtureRequest, make_app: MakeApp, database: str) -> tuple[Flow, Flow]:
    """Two hosts of one app. The clock of the first differs from the other's."""
    first = make_app(database, SMSVERIFY_CODE_LIFETIME=60)
    second = make_app(database, users=0, SMSVERIFY_CODE_LIFETIME=60)
    return on_host(first, request.param), on_host(second, timedelta(0))


def test_codes_and_tokens_of_a_host_are_accepted_by_one_with_another_clock(
    hosts: tuple[Flow, Flow],
) -> None:
    first, second = hosts
    with first.app.app_context():
        challenge = first.start()
        code = first.code(challenge)
        started = first.sign_up("+989121112233")
        proof = first.check(started, first.code(started))
        token = first.verifier.proof_token(proof)
    with second.app.app_context():
        assert second.check(challenge, code).verified_at
        assert second.state_of() == "verified"
        assert second.verifier.load_proof(token, purpose="sign-up") == "+989121112233"
    with first.app.app_context():
        assert first.state_of() == "verified"


def test_a_code_expires_at_the_same_moment_on_every_host(hosts: tuple[Flow, Flow]) -> None:
    for sending, checking, digit in ((*hosts, 1), (*hosts[::-1], 2)):
        with sending.app.app_context():
            young = sending.sign_up(f"+98912111000{digit}")
            old = sending.sign_up(f"+98912222000{digit}")
        with checking.app.app_context():
            clock = checking.state.clock
            now = clock.source
            clock.source = lambda now=now: now() + timedelta(seconds=30)
            assert checking.check(young, checking.code(young)).mobile == young.mobile
            clock.source = lambda now=now: now() + timedelta(seconds=61)
            with pytest.raises(CodeExpired):
                checking.check(old, checking.code(old))
            clock.source = now


def test_a_wrong_clock_of_a_host_is_reported(
    hosts: tuple[Flow, Flow], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = hosts
    with caplog.at_level(logging.WARNING):
        for flow, found in ((first, ["clock"]), (second, [])):
            with flow.app.app_context():
                findings = list(checks.check_database(flow.state))
            assert [item.subject for item in findings if item.level == "warning"] == found
    [record] = [item for item in caplog.records if item.name == "flask_smsverify.clock"]
    assert record.event == "smsverify.clock_differs"  # type: ignore[attr-defined]  # from `extra`


def test_the_databases_clock_is_read_once_a_minute(make_app: MakeApp, database: str) -> None:
    flow = on_host(make_app(database), timedelta(0))
    ledger = flow.state.ledger
    ledger.identify()
    flow.state.clock.host_time = lambda: datetime.now(UTC) + SKEW
    ledger.read(lambda session: None)
    assert abs(flow.state.clock() - datetime.now(UTC)) > SKEW / 2
    ledger._clock_is_due_at = 0.0  # a minute later
    ledger.read(lambda session: None)
    assert abs(flow.state.clock() - datetime.now(UTC)) < SKEW / 2
