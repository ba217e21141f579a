"""A proof that the host cannot store is undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flows import Flow

from flask_smsverify import signals

MakeFlow = Callable[..., Flow]


class HostRefusesError(Exception):
    """An error of the host's own table."""


def refuse(_proved: Any) -> None:
    raise HostRefusesError


def test_a_proof_that_the_host_cannot_store_is_undone(make_flow: MakeFlow, database: str) -> None:
    flow = make_flow(database, users=2, SMSVERIFY_MOBILE_POLICY="transfer")
    flow.prove(1)
    flow.prove(2)
    notices = len([message for message in flow.memory.messages if not message.code])
    emitted: list[str] = []

    def receive(_app: Any, **values: Any) -> None:
        emitted.append(values["user_id"])

    flow.clock.advance(3600)
    challenge = flow.start(2, mobile="09123450001")
    with (
        signals.mobile_verified.connected_to(receive, flow.app),
        signals.verification_revoked.connected_to(receive, flow.app),
        pytest.raises(HostRefusesError),
    ):
        flow.verifier.check(flow.user(2), flow.code(challenge), store=refuse)
    flow.state.workers.wait()
    assert [flow.state_of(1), flow.state_of(2)] == ["verified", "verified"]
    assert emitted == []
    assert len([message for message in flow.memory.messages if not message.code]) == notices


def test_undo_does_not_restore_a_mobile_that_another_account_proved_meanwhile(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, users=2)
    flow.prove(1)
    flow.clock.advance(3600)
    challenge = flow.start(1, mobile="09129990000")
    code = flow.code(challenge)

    def another_proves(_proved: Any) -> None:
        flow.set_mobile(2, "09123450001")
        flow.prove(2)
        raise HostRefusesError

    with pytest.raises(HostRefusesError):
        flow.verifier.check(flow.user(1), code, store=another_proves)
    assert [flow.state_of(1), flow.state_of(2)] == ["unverified", "verified"]


def test_undo_keeps_a_newer_proof_of_the_same_user(make_flow: MakeFlow, database: str) -> None:
    flow = make_flow(database, SMSVERIFY_LIMITS={"user": None})
    challenge = flow.start(mobile="09129990000")

    def prove_newer(_proved: Any) -> None:
        flow.clock.advance(31)
        newer = flow.start()
        flow.check(newer, flow.code(newer))
        raise HostRefusesError

    with pytest.raises(HostRefusesError):
        flow.verifier.check(flow.user(), flow.code(challenge), store=prove_newer)
    assert flow.state_of(1) == "verified"
    assert flow.verification().mobile == "+989123450001"


def test_undo_does_not_restore_a_proof_that_staff_revoked_meanwhile(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, users=2, SMSVERIFY_MOBILE_POLICY="transfer")
    flow.prove(1)
    flow.clock.advance(3600)
    challenge = flow.start(2, mobile="09123450001")

    def staff_revoke(_proved: Any) -> None:
        flow.clock.advance(1)
        flow.verifier.revoke(flow.user(1), by="staff")
        raise HostRefusesError

    with pytest.raises(HostRefusesError):
        flow.verifier.check(flow.user(2), flow.code(challenge), store=staff_revoke)
    assert [flow.state_of(1), flow.state_of(2)] == ["unverified", "unverified"]


def test_undo_does_not_restore_the_users_own_proof_that_staff_revoked_meanwhile(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database)
    flow.prove()
    flow.clock.advance(3600)
    challenge = flow.start(mobile="09129990000")

    def staff_revoke(_proved: Any) -> None:
        flow.verifier.revoke(flow.user(), by="staff")
        raise HostRefusesError

    with pytest.raises(HostRefusesError):
        flow.verifier.check(flow.user(), flow.code(challenge), store=staff_revoke)
    assert flow.state_of(1) == "unverified"


@pytest.mark.parametrize("is_taken", [False, True])
def test_undo_restores_a_revoked_proof_as_revoked(
    make_flow: MakeFlow, sqlite: str, is_taken: bool
) -> None:
    """Else a failure of the host would verify a mobile that staff took from the account.

    :param is_taken: whether another account has proved the mobile since.
    """
    flow = make_flow(sqlite, users=2)
    flow.prove(1)
    flow.clock.advance(3600)
    flow.verifier.revoke(flow.user(1), by="staff")
    revoked_at = flow.clock()
    flow.clock.advance(3600)
    if is_taken:
        flow.set_mobile(2, "09123450001")
        flow.prove(2)
    challenge = flow.start(1, mobile="09129990000")
    with pytest.raises(HostRefusesError):
        flow.verifier.check(flow.user(1), flow.code(challenge), store=refuse)
    row = flow.verification(1)
    assert row is not None
    assert (row.mobile, row.revoked_at) == ("+989123450001", revoked_at)
    assert flow.state_of(1) == "unverified"


@pytest.mark.parametrize("erased", [1, 2])
def test_undo_restores_nothing_of_an_account_that_was_erased_meanwhile(
    make_flow: MakeFlow, sqlite: str, erased: int
) -> None:
    flow = make_flow(sqlite, users=2, SMSVERIFY_MOBILE_POLICY="transfer")
    flow.prove(1)
    flow.clock.advance(3600)
    challenge = flow.start(2, mobile="09123450001")

    def erase(_proved: Any) -> None:
        flow.verifier.forget(flow.user(erased))
        raise HostRefusesError

    with pytest.raises(HostRefusesError):
        flow.verifier.check(flow.user(2), flow.code(challenge), store=erase)
    assert flow.verification(erased) is None
    assert flow.state_of(2) == "unverified"
    assert flow.state_of(1) == ("verified" if erased == 2 else "unverified")


def test_undo_restores_a_proof_if_any_number_of_accounts_may_hold_a_mobile(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, users=2, SMSVERIFY_ACCOUNTS_PER_MOBILE=0)
    flow.set_mobile(2, "09123450001")
    flow.prove(1)
    flow.prove(2)
    flow.clock.advance(3600)
    challenge = flow.start(1, mobile="09129990000")
    with pytest.raises(HostRefusesError):
        flow.verifier.check(flow.user(1), flow.code(challenge), store=refuse)
    assert [flow.state_of(1), flow.state_of(2)] == ["verified", "verified"]


def test_undo_does_not_restore_a_proof_of_a_mobile_that_a_third_account_proved(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 31: account 2 takes the mobile from 1, and 3 from 2. Then the proof of 2 is undone."""
    flow = make_flow(database, users=3, SMSVERIFY_MOBILE_POLICY="transfer")
    flow.prove(1)
    flow.clock.advance(3600)
    challenge = flow.start(2, mobile="09123450001")

    def a_third_proves(_proved: Any) -> None:
        flow.clock.advance(1)
        flow.set_mobile(3, "09123450001")
        flow.prove(3)
        raise HostRefusesError

    with pytest.raises(HostRefusesError):
        flow.verifier.check(flow.user(2), flow.code(challenge), store=a_third_proves)
    assert [flow.state_of(number) for number in (1, 2, 3)] == [
        "unverified",
        "unverified",
        "verified",
    ]


def test_undo_restores_a_transferred_proof_if_the_new_holder_proved_another_mobile(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, users=2, SMSVERIFY_MOBILE_POLICY="transfer")
    flow.prove(1)
    flow.clock.advance(3600)
    challenge = flow.start(2, mobile="09123450001")

    def prove_another(_proved: Any) -> None:
        flow.clock.advance(31)
        flow.prove(2)
        raise HostRefusesError

    with pytest.raises(HostRefusesError):
        flow.verifier.check(flow.user(2), flow.code(challenge), store=prove_another)
    assert [flow.state_of(1), flow.state_of(2)] == ["verified", "verified"]


def test_a_transferred_mobile_gets_no_notice_of_later_changes(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """The mobile belongs to another account by then."""
    flow = make_flow(sqlite, users=2, SMSVERIFY_MOBILE_POLICY="transfer")
    flow.prove(1)
    flow.clock.advance(3600)
    flow.prove(2, mobile="09123450001")
    flow.state.workers.wait()
    before = len(flow.memory.messages)
    flow.clock.advance(3600)
    flow.prove(1, mobile="09129990000")
    flow.state.workers.wait()
    assert [message.to for message in flow.memory.messages[before:]] == ["+989129990000"]
