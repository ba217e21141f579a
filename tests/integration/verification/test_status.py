"""Statuses: guards, widgets, the verifier and the staff pages agree about a user."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from flows import Flow
from hostapp import db

from flask_smsverify.admin.verifications import _items
from flask_smsverify.errors import WrongCode
from flask_smsverify.guard import current_status, decide
from flask_smsverify.verification.policy import Status

MakeFlow = Callable[..., Flow]
OTHER = "+989351112233"
DAY = 86_400


def lock(flow: Flow) -> None:
    challenge = flow.start()
    for _ in range(3):
        with contextlib.suppress(WrongCode):
            flow.check(challenge, flow.wrong(challenge))


def lock_with_an_open_code(flow: Flow) -> None:
    """The challenge takes five guesses, and the account three failures in a row."""
    lock(flow)
    assert flow.verifier.latest(flow.user()).state == "pending"


def lock_a_verified_account(flow: Flow) -> None:
    flow.prove()
    flow.clock.advance(3600)
    lock(flow)


def replace_a_proved_mobile(flow: Flow) -> None:
    flow.prove()
    flow.clock.advance(3600)
    challenge = flow.start(mobile=OTHER)
    flow.check(challenge, flow.code(challenge))
    flow.set_mobile(1, OTHER)


def replace_it_with_an_open_code(flow: Flow) -> None:
    flow.start()
    flow.set_mobile(1, OTHER)


def write_a_new_mobile_before_its_code_is_entered(flow: Flow) -> None:
    flow.start(mobile=OTHER)
    flow.set_mobile(1, OTHER)


def start_for_a_user_without_mobile(flow: Flow) -> None:
    flow.set_mobile(1, None)
    flow.start(mobile=OTHER)


def age(flow: Flow) -> None:
    flow.prove()
    flow.clock.advance(91 * DAY)


def age_and_start(flow: Flow) -> None:
    age(flow)
    flow.start()


def revoke(flow: Flow) -> None:
    flow.prove()
    flow.verifier.revoke(flow.user(), by="staff")


def let_a_code_expire(flow: Flow) -> None:
    flow.start()
    flow.clock.advance(601)


def prove_and_start_again(flow: Flow) -> None:
    flow.prove()
    flow.clock.advance(3600)
    flow.start()


def start_for_another_purpose(flow: Flow) -> None:
    flow.start(purpose="payout")


def let_another_user_start_with_the_same_mobile(flow: Flow) -> None:
    challenge = flow.start()
    flow.clock.advance((challenge.expires_at - flow.clock()).total_seconds())
    flow.start(2, mobile="09123450001")


def let_another_user_prove(flow: Flow) -> None:
    flow.prove(2, mobile="09123450001")


def reach_the_end_of_a_code(flow: Flow) -> None:
    challenge = flow.start()
    flow.clock.advance((challenge.expires_at - flow.clock()).total_seconds())


def set_the_clock_back(flow: Flow) -> None:
    flow.start()
    flow.clock.advance(-3600)


def set_the_clock_back_by_the_skew(flow: Flow) -> None:
    flow.start()
    flow.clock.advance(-60)


def exempt(flow: Flow) -> None:
    flow.prove()
    flow.user().group = "friends"
    db.session.commit()


SITUATIONS: dict[Callable[[Flow], Any], tuple[str, bool]] = {
    lambda _flow: None: ("unverified", False),
    lambda flow: flow.set_mobile(1, None): ("unverified", False),
    Flow.start: ("pending", False),
    Flow.prove: ("verified", False),
    age: ("expired", False),
    age_and_start: ("pending", False),
    revoke: ("unverified", False),
    let_a_code_expire: ("unverified", False),
    prove_and_start_again: ("verified", False),
    start_for_another_purpose: ("unverified", False),
    let_another_user_start_with_the_same_mobile: ("unverified", False),
    let_another_user_prove: ("unverified", False),
    reach_the_end_of_a_code: ("unverified", False),
    set_the_clock_back: ("unverified", False),
    set_the_clock_back_by_the_skew: ("pending", False),
    replace_a_proved_mobile: ("verified", False),
    replace_it_with_an_open_code: ("unverified", False),
    write_a_new_mobile_before_its_code_is_entered: ("pending", False),
    start_for_a_user_without_mobile: ("pending", False),
    lock_with_an_open_code: ("unverified", True),
    lock_a_verified_account: ("verified", True),
    exempt: ("exempt", False),
}


def without_challenge(status: Status) -> Status:
    return replace(status, challenge=None, latest=None)


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda function: function.__name__)
def test_guards_widgets_and_staff_see_the_status_that_the_verifier_returns(
    make_flow: MakeFlow, database: str, situation: Callable[[Flow], Any]
) -> None:
    flow = make_flow(
        database, users=2, SMSVERIFY_CONSECUTIVE_FAILURES=3, SMSVERIFY_EXEMPT_GROUPS=("friends",)
    )
    situation(flow)
    db.session.remove()  # the snapshot of an older transaction does not show what was written
    status = without_challenge(flow.verifier.status(flow.user()))
    assert (status.state, status.locked) == SITUATIONS[situation]
    with flow.app.test_request_context():
        shown = current_status(flow.user())
        decision = decide(flow.user())
        [item] = _items(["1"])
    assert {field.name: getattr(shown, field.name) for field in fields(Status)} == {
        field.name: getattr(status, field.name) for field in fields(Status)
    }
    # A guard does not ask the host for the mobile of an exempt user.
    seen = replace(status, mobile=None) if status.exempt else status
    assert decision.status == seen
    assert decision.allowed is (status.state in ("verified", "exempt"))
    assert (item["state"], item["locked"]) == SITUATIONS[situation]


def test_a_refusal_keeps_its_reason_while_a_code_is_open(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite)
    age_and_start(flow)
    with flow.app.test_request_context():
        decision = decide(flow.user())
    assert decision.reason == "expired"
    assert decision.status is not None
    assert decision.status.state == "pending"


def test_a_mobile_that_changes_during_a_request_is_looked_up_again(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite)
    flow.start()
    with flow.app.test_request_context():
        assert current_status(flow.user()).state == "pending"
        flow.set_mobile(1, OTHER)
        assert current_status(flow.user()).state == "unverified"
