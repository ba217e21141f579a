"""Finding the proofs that end soon."""

from __future__ import annotations

from datetime import timedelta

import pytest
from conftest import MakeApp
from flows import Flow
from hostapp import User, db

from flask_smsverify.testing import outbox
from flask_smsverify.verification import expiring

WEEK = timedelta(days=7)


def test_proofs_that_end_soon_are_found_once_and_in_order(
    make_app: MakeApp, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiring, "_PAGE", 2)
    app = make_app(database, users=8, SMSVERIFY_EXEMPT_GROUPS=["staff"])
    state = app.extensions["smsverify"]
    verifier = state.verifier
    with app.app_context(), outbox(app) as box:
        users = [db.session.get(User, number) for number in range(1, 9)]
        for user in users[:7]:
            verifier.mark_verified(user, by="test")
        verifier.revoke(users[1], by="test")
        users[2].mobile = "+989129998877"
        users[3].group = "staff"
        db.session.commit()
        assert list(verifier.expiring(WEEK)) == []
        box.advance(timedelta(days=84))
        verifier.mark_verified(users[7], by="test")
        found = list(verifier.expiring(WEEK))
        assert [proof.user for proof in found] == [users[0], *users[4:7]]
        assert [proof.expires_at for proof in found] == [
            verifier.status(proof.user).expires_at for proof in found
        ]
        state.live.update(revalidation_days=0)
        assert list(verifier.expiring(WEEK)) == []
        state.live.update(revalidation_days=90)
        box.advance(timedelta(days=6))
        assert list(verifier.expiring(WEEK)) == [], "an ended proof needs no reminder"


def test_a_proof_is_found_from_so_long_before_its_end_until_its_end(flow: Flow) -> None:
    flow.prove()
    proved_at, moment = flow.clock.now, timedelta(microseconds=1)
    for age, count in [
        (timedelta(days=83) - moment, 0),
        (timedelta(days=83), 1),
        (timedelta(days=90) - moment, 1),
        (timedelta(days=90), 0),
    ]:
        flow.clock.now = proved_at + age
        assert len(list(flow.verifier.expiring(WEEK))) == count, age


def test_the_proof_of_a_deleted_user_is_not_found(flow: Flow) -> None:
    flow.prove(1)
    flow.prove(2)
    flow.clock.advance(days=89)
    db.session.delete(flow.user(1))
    db.session.commit()
    assert [proof.user for proof in flow.verifier.expiring(WEEK)] == [flow.user(2)]


def test_each_proof_is_found_once_if_a_page_ends_among_proofs_of_one_moment(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiring, "_PAGE", 2)
    flow.prove(3)
    flow.clock.advance(1)
    flow.prove(2)
    flow.prove(1)
    flow.clock.advance(days=89)
    found = [proof.user for proof in flow.verifier.expiring(WEEK)]
    assert found == [flow.user(number) for number in (3, 1, 2)]
