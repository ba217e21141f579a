"""The policy at the ends of its times: what a guard lets pass, the page calls complete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from flows import Flow

from flask_smsverify.verification.challenges import is_expired, is_open
from flask_smsverify.verification.policy import Policy, Status

MakeFlow = Callable[..., Flow]

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MOBILE = "+989123450001"
WITHIN = timedelta(minutes=10)
MOMENT = timedelta(milliseconds=1)


@pytest.fixture
def policy(flow: Flow) -> Policy:
    policy: Policy = flow.state.policy
    assert policy.expiry(NOW) == NOW + timedelta(days=90)
    return policy


def proof(**columns: Any) -> Any:
    """The columns of a verification that was proved just now."""
    proved: dict[str, Any] = {
        "mobile": MOBILE,
        "verified_at": NOW,
        "revoked_at": None,
        "settled_at": None,
        "failures": 0,
        "locked_at": None,
    }
    return SimpleNamespace(**proved | columns)


def is_complete(policy: Policy, status: Status, now: datetime, **options: Any) -> bool:
    asked: dict[str, Any] = {"within": WITHIN, "new_mobile": None, "is_login_pending": False}
    return policy.is_complete(status, now, **asked | options)


@pytest.mark.parametrize(
    ("columns", "mobile", "state"),
    [
        ({}, MOBILE, "verified"),
        ({"verified_at": None}, MOBILE, "unverified"),
        ({"revoked_at": NOW}, MOBILE, "unverified"),
        ({}, "+989123450002", "unverified"),
        ({}, None, "unverified"),
        ({"verified_at": NOW - timedelta(days=90)}, MOBILE, "expired"),
        ({"verified_at": NOW - timedelta(days=90) + MOMENT}, MOBILE, "verified"),
        ({"verified_at": NOW + timedelta(minutes=1)}, MOBILE, "verified"),
        ({"verified_at": NOW + timedelta(minutes=1) + MOMENT}, MOBILE, "expired"),
    ],
)
def test_only_a_proof_of_todays_mobile_that_is_neither_revoked_nor_old_verifies(
    policy: Policy, columns: dict[str, Any], mobile: str | None, state: str
) -> None:
    row = proof(**columns)
    status = policy.status(row, mobile, NOW)
    assert status.state == state
    assert policy.decide(status, NOW, area=None, within=None).allowed == (state == "verified")
    assert is_complete(policy, status, NOW, within=None) == (state == "verified")
    if mobile == MOBILE:
        assert policy.is_proof(row, NOW) == (state == "verified")


def test_a_proof_never_expires_without_revalidation(make_flow: MakeFlow, sqlite: str) -> None:
    policy: Policy = make_flow(sqlite, SMSVERIFY_REVALIDATION_DAYS=0).state.policy
    row = proof(verified_at=NOW - timedelta(days=10_000))
    status = policy.status(row, MOBILE, NOW)
    assert (status.state, status.expires_at) == ("verified", None)
    assert policy.is_proof(row, NOW)


@pytest.mark.parametrize(("age", "reason"), [(WITHIN, "verified"), (WITHIN + MOMENT, "too_old")])
def test_the_guard_and_the_page_agree_at_the_end_of_within(
    policy: Policy, age: timedelta, reason: str
) -> None:
    """Else each of them would redirect to the other."""
    status = policy.status(proof(verified_at=NOW - age), MOBILE, NOW)
    assert policy.decide(status, NOW, area=None, within=WITHIN).reason == reason
    assert is_complete(policy, status, NOW) == (reason == "verified")


@pytest.mark.parametrize(("left", "reason"), [(timedelta(0), "verified"), (MOMENT, "unsettled")])
def test_the_guard_and_the_page_agree_when_a_mobile_settles(
    policy: Policy, left: timedelta, reason: str
) -> None:
    status = policy.status(proof(settled_at=NOW + left), MOBILE, NOW)
    assert policy.decide(status, NOW, area=None, within=WITHIN).reason == reason
    assert is_complete(policy, status, NOW) == (reason == "verified")
    assert policy.decide(status, NOW, area=None, within=None).reason == "verified"


def test_a_pending_login_and_an_entered_mobile_leave_something_to_prove(policy: Policy) -> None:
    verified = policy.status(proof(), MOBILE, NOW)
    assert is_complete(policy, verified, NOW)
    assert not is_complete(policy, verified, NOW, is_login_pending=True)
    assert not is_complete(policy, verified, NOW, new_mobile="+989123450002")
    exempt = Status("exempt", MOBILE, exempt=True)
    assert is_complete(policy, exempt, NOW)
    assert not is_complete(policy, exempt, NOW, new_mobile="+989123450002")


@pytest.mark.parametrize(
    ("failures", "locked_at", "is_locked"),
    [(0, None, False), (14, None, False), (15, None, True), (0, NOW, True)],
)
def test_an_account_is_locked_from_the_configured_failure_on(
    flow: Flow, failures: int, locked_at: datetime | None, is_locked: bool
) -> None:
    rules = replace(flow.verifier._rules, consecutive_failures=15)
    assert rules.is_locked(proof(failures=failures, locked_at=locked_at)) is is_locked


def test_a_code_expires_exactly_at_its_end_and_before_a_clock_that_was_set_back(
    flow: Flow,
) -> None:
    challenge = flow.start()
    ends, began = challenge.expires_at, challenge.created_at
    skew = timedelta(minutes=1)
    for now, expired in [
        (ends - MOMENT, False),
        (ends, True),
        (began - skew, False),
        (began - skew - MOMENT, True),
    ]:
        assert is_expired(challenge, now) is expired, now
        assert is_open(challenge, challenge.mobile, now) is not expired, now
    assert not is_open(challenge, "+989123450002", began)
