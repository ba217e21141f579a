"""Records of users: one SELECT returns what the pages show of a user, on every database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from conftest import MakeApp
from flows import MEMORY, Flow
from visiting import CHECK, CONFIRM, MOBILE, OTHER, SEND, STATUS, api, browser, last_code
from werkzeug.test import TestResponse

from flask_smsverify.db.models import Challenge
from flask_smsverify.verification.rules import NEW_NUMBER
from flask_smsverify.verification.user_records import UserRecord

MakeFlow = Callable[..., Flow]


def read(flow: Flow, number: int = 1) -> UserRecord:
    return flow.verifier.records.read(flow.user(number))


def same(one: Challenge | None, other: Challenge | None) -> bool:
    """Return whether both are the same challenge with the same values."""
    columns = Challenge.__table__.columns.keys()
    values = [
        challenge and [getattr(challenge, name) for name in columns if name != "mobile_end"]
        for challenge in (one, other)
    ]
    return values[0] == values[1]


def test_a_record_of_a_user_holds_the_latest_challenges_and_their_deliveries(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, users=2)

    def compare() -> UserRecord:
        record, user = read(flow), flow.user()
        assert same(record.latest, flow.verifier.latest(user))
        assert same(record.to_new, flow.verifier.latest(user, purpose=NEW_NUMBER))
        for challenge in filter(None, (record.latest, record.to_new)):
            message = flow.verifier.last_message(challenge)
            assert record.deliveries[challenge.id] == (message and message.state)
        return record

    assert compare().status.state == "unverified"
    flow.start(2)  # another user's rows do not count
    assert compare().latest is None
    flow.start(1)
    flow.clock.advance(3601)
    challenge = flow.start(1)
    assert compare().deliveries == {challenge.id: "sent"}
    assert compare().status.challenge is not None
    flow.check(challenge, flow.code(challenge))
    assert compare().status.state == "verified"
    changes = flow.verifier.changes
    flow.clock.advance(61)
    to_new = changes.send_to_new(flow.user(), OTHER).challenge
    assert compare().to_new is not None
    assert compare().change is None
    changes.prove_new(flow.user(), flow.code(to_new))
    assert compare().change is not None
    assert compare().to_old is None
    to_old = changes.send_to_old(flow.user()).challenge
    assert same(compare().to_old, to_old)
    changes.cancel(flow.user())
    assert (compare().change, compare().to_old) == (None, None)


def test_a_code_of_an_earlier_change_is_not_the_open_changes(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite)
    flow.prove(1)
    changes = flow.verifier.changes
    changes.prove_new(flow.user(), flow.code(changes.send_to_new(flow.user(), OTHER).challenge))
    changes.send_to_old(flow.user())
    assert read(flow).to_old is not None
    flow.clock.advance(3600)
    changes.prove_new(flow.user(), flow.code(changes.send_to_new(flow.user(), OTHER).challenge))
    assert read(flow).change is not None
    assert read(flow).to_old is None


def test_the_record_of_an_exempt_user_shows_the_proof_and_the_challenge(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, SMSVERIFY_EXEMPT_GROUPS=["staff"])
    flow.prove(1)
    flow.user().group = "staff"
    record = read(flow)
    assert record.status.exempt
    assert record.status.verified_at is None
    assert record.latest is not None
    assert record.replaces_proved(OTHER)
    assert not record.replaces_proved(record.status.mobile)


def test_the_record_after_a_proof_is_the_one_that_is_read(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database)
    flow.start(1)
    for _ in range(2):  # a first proof, and one that makes an open change void
        before = read(flow)
        verification = flow.verifier.check(flow.user(), flow.memory.last.code)
        made = flow.verifier.records.after_proof(before, flow.user(), verification)
        found = read(flow)
        assert made.status == found.status
        for name in ("change", "to_old", "proved_at", "is_locked", "guess_wait"):
            assert getattr(made, name) == getattr(found, name), name
        flow.clock.advance(3600)
        changes = flow.verifier.changes
        changes.prove_new(flow.user(), flow.code(changes.send_to_new(flow.user(), OTHER).challenge))
        assert read(flow).change is not None
        flow.clock.advance(61)
        flow.start(1)


def test_every_response_to_a_post_is_the_status_that_a_get_returns(
    make_app: MakeApp, database: str
) -> None:
    app = make_app(database, SMSVERIFY_SENDERS=MEMORY)
    client = browser(app)
    steps: list[tuple[str, Callable[[], TestResponse]]] = [
        ("pending", lambda: api(client, SEND)),
        ("verified", lambda: api(client, CHECK, code=last_code(app))),
        ("pending", lambda: api(client, MOBILE, mobile=OTHER, send=True)),
        ("verified", lambda: api(client, CHECK, code=last_code(app))),
        ("verified", lambda: api(client, CONFIRM, code=last_code(app))),
    ]
    for state, step in steps:
        answer = step().get_json()
        assert answer["state"] == state
        assert answer == {
            name: value
            for name, value in client.get(STATUS).get_json().items()
            if name != "csrf_token"
        }


def test_a_due_change_is_applied_before_the_page_is_made(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database)
    flow.prove(1)
    changes = flow.verifier.changes
    changes.prove_new(flow.user(), flow.code(changes.send_to_new(flow.user(), OTHER).challenge))
    changes.delay(flow.user(), link=str, record=read(flow))
    flow.clock.advance(timedelta(days=1).total_seconds())
    record = read(flow)
    assert changes.is_due(record)
    assert changes.apply_due(flow.user(), record=record)
    assert not changes.is_due(read(flow))
    assert read(flow).status.mobile == OTHER
    assert read(flow).status.state == "verified"
