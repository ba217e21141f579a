"""The change of a proved mobile, with a clock that the test turns (case 61 of docs/safety.md)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from conftest import database_params
from flask import Flask
from flows import MEMORY, NO_LIMITS, Flow, Native, flow_of
from hostapp import User, db
from parallel import is_waiting, outcome, wait_until
from sqlalchemy import select, update

from flask_smsverify import signals
from flask_smsverify.db.models import Challenge, MobileChange, UsedToken, Verification
from flask_smsverify.errors import (
    AccountLocked,
    InvalidLink,
    MobileTaken,
    NoChallenge,
    NoticeFailed,
    RateLimited,
    Rejected,
    StoreUnavailable,
    TooManyAttempts,
    TooSoon,
    Unknown,
    WrongCode,
)
from flask_smsverify.guard import decide
from flask_smsverify.limits.other_counts import Charge
from flask_smsverify.settings import Limit
from flask_smsverify.verification.change import MobileChanges
from flask_smsverify.verification.ownership import Granted
from flask_smsverify.verification.user_records import UserRecord

MakeApp = Callable[..., Flask]
OLD, NEW, OTHER = "+989123450001", "+989351112233", "+989351112244"
WITHIN = timedelta(minutes=10)


@dataclass
class Changing:
    """User 1 of an app, who has proved the old number."""

    flow: Flow

    @property
    def changes(self) -> MobileChanges:
        return self.flow.verifier.changes

    @property
    def user(self) -> User:
        return self.flow.user()

    def code(self, mobile: str) -> str:
        """The code that was sent to a mobile last."""
        sent = [message for message in self.flow.memory.messages if message.to == mobile]
        return next(message.code for message in reversed(sent) if message.code)

    def prove_new(self, mobile: str = NEW) -> MobileChange:
        self.changes.send_to_new(self.user, mobile)
        return self.changes.prove_new(self.user, self.code(mobile))

    def states(self) -> dict[str, str]:
        """The state of every change, by its id."""
        read = select(MobileChange.id, MobileChange.state)
        return self.flow.state.ledger.read(lambda session: dict(session.execute(read).all()))

    def after_the_check(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
        """Call a function each time a right code was entered, before the next transaction."""
        check = self.changes._check

        def check_then_act(*arguments: Any) -> Any:
            proof = check(*arguments)
            act()
            return proof

        monkeypatch.setattr(self.changes, "_check", check_then_act)

    def confirm(self) -> Any:
        self.changes.send_to_old(self.user)
        return self.changes.confirm(self.user, self.code(OLD))

    def delay(self) -> str:
        """Start the delay; return the token of the link in the notice."""
        tokens: list[str] = []

        def link(token: str) -> str:
            tokens.append(token)
            return f"https://shop.example/{token}"

        self.changes.delay(self.user, link=link)
        notice = self.flow.memory.last
        assert (notice.to, notice.code) == (OLD, None)
        assert f"https://shop.example/{tokens[0]}" in notice.text
        return tokens[0]

    def decide(self, within: timedelta | None = None) -> str:
        """The reason of a guard's decision in a new request."""
        with self.flow.app.test_request_context():
            return decide(self.user, within=within).reason

    @property
    def mobile(self) -> str | None:
        db.session.expire_all()
        return self.flow.verifier.mobile_of(self.user)


def changing_in(app: Flask) -> Changing:
    flow = flow_of(app)
    flow.prove()
    return Changing(flow)


@pytest.fixture
def changing(make_app: MakeApp, sqlite: str) -> Iterator[Changing]:
    app = make_app(sqlite, users=2, SMSVERIFY_SENDERS=MEMORY)
    with app.app_context():
        yield changing_in(app)


# --- confirmed by the old number ----------------------------------------------------------------


def test_a_right_code_to_the_new_number_alone_changes_nothing(changing: Changing) -> None:
    changing.prove_new()
    assert changing.mobile == OLD
    assert changing.flow.verification().mobile == OLD
    assert changing.decide() == "verified"


def test_a_right_code_to_the_old_number_applies_the_change(
    make_app: MakeApp, database: str
) -> None:
    app = make_app(database, SMSVERIFY_SENDERS=MEMORY)
    with app.app_context():
        changing = changing_in(app)
        change = changing.prove_new()
        assert repr(change).endswith("confirming>")
        changing.confirm()
        assert changing.mobile == NEW
        found = changing.flow.verification()
        assert (found.mobile, found.channel, found.sender) == (NEW, "sms", "memory")
        assert changing.decide(within=WITHIN) == "verified"
        assert changing.changes.current(changing.user) is None
        app.extensions["smsverify"].workers.wait()
        notice = changing.flow.memory.last
        assert (notice.to, notice.code) == (OLD, None)
        assert "۲۲۳۳" in notice.text


def test_a_wrong_code_to_the_old_number_changes_nothing_and_counts(changing: Changing) -> None:
    changing.prove_new()
    changing.changes.send_to_old(changing.user)
    right = changing.code(OLD)
    wrong = right[:-1] + str((int(right[-1]) + 5) % 10)
    for left in (4, 3, 2, 1, 0):
        with pytest.raises(WrongCode) as refused:
            changing.changes.confirm(changing.user, wrong)
        assert refused.value.attempts_left == left
    assert changing.mobile == OLD


def test_the_code_of_the_new_number_does_not_confirm_the_change(changing: Changing) -> None:
    changing.prove_new()
    changing.changes.send_to_old(changing.user)
    with pytest.raises(WrongCode):
        changing.changes.confirm(changing.user, changing.code(NEW))


def test_an_ordinary_code_of_the_old_number_does_not_confirm_the_change(
    changing: Changing,
) -> None:
    changing.prove_new()
    changing.flow.clock.advance(minutes=5)
    changing.flow.start()
    code = changing.code(OLD)
    with pytest.raises(NoChallenge):
        changing.changes.confirm(changing.user, code)
    changing.changes.send_to_old(changing.user)
    with pytest.raises(WrongCode):
        changing.changes.confirm(changing.user, code)


def test_a_proof_of_the_new_number_ends_no_streak_of_failures(changing: Changing) -> None:
    """Otherwise a password thief guesses the old number's codes without ever being locked."""
    changing.prove_new()
    changing.changes.send_to_old(changing.user)
    right = changing.code(OLD)
    with pytest.raises(WrongCode):
        changing.changes.confirm(changing.user, right[:-1] + str((int(right[-1]) + 5) % 10))
    changing.flow.clock.advance(minutes=5)
    changing.prove_new(OTHER)
    assert changing.flow.verification().failures == 1


def test_a_code_of_a_cancelled_change_does_not_confirm_the_next_one(changing: Changing) -> None:
    changing.prove_new()
    changing.changes.send_to_old(changing.user)
    code = changing.code(OLD)
    assert changing.changes.cancel(changing.user)
    changing.prove_new(OTHER)
    with pytest.raises(NoChallenge):
        changing.changes.confirm(changing.user, code)
    assert changing.mobile == OLD


def test_the_end_of_a_change_cancels_no_other_code(changing: Changing) -> None:
    flow, changes = changing.flow, changing.changes
    flow.prove(2)
    changes.send_to_new(flow.user(2), OTHER)
    changes.prove_new(flow.user(2), changing.code(OTHER))
    entered = changes.send_to_old(flow.user(2)).challenge
    changing.prove_new()
    ordinary = flow.start(purpose="payment")
    assert changes.cancel(changing.user)
    assert flow.verifier.load(ordinary.id).state == Challenge.PENDING
    changes.confirm(flow.user(2), changing.code("+989123450002"))
    assert flow.verifier.load(entered.id).state == Challenge.VERIFIED
    assert flow.verifier.mobile_of(flow.user(2)) == OTHER


def test_a_new_change_cancels_the_open_one(changing: Changing) -> None:
    first = changing.prove_new()
    token = changing.delay()
    changing.prove_new(OTHER)
    assert changing.changes.current(changing.user).new_mobile == OTHER
    with pytest.raises(InvalidLink):
        changing.changes.undo(token)
    states = changing.states()
    assert states[first.id] == "cancelled"
    assert sorted(states.values()) == ["cancelled", "confirming"]


def test_a_change_must_be_confirmed_within_an_hour(changing: Changing) -> None:
    changing.prove_new()
    changing.flow.clock.advance(minutes=59)
    changing.changes.send_to_old(changing.user)
    changing.flow.clock.advance(minutes=1)
    with pytest.raises(NoChallenge):
        changing.changes.confirm(changing.user, changing.code(OLD))


def test_a_change_has_just_been_made_for_a_minute_after_it_was_applied(
    changing: Changing,
) -> None:
    flow, changes = changing.flow, changing.changes
    changing.prove_new(OTHER)
    changes.cancel(changing.user)
    assert not changes.has_just_changed(changing.user)
    flow.clock.advance(minutes=5)
    changing.prove_new()
    assert not changes.has_just_changed(changing.user)
    changing.confirm()
    assert changes.has_just_changed(changing.user)
    assert not changes.has_just_changed(flow.user(2))
    flow.clock.advance(minutes=1, microseconds=-1)
    assert changes.has_just_changed(changing.user)
    flow.clock.advance(microseconds=1)
    assert not changes.has_just_changed(changing.user)


def test_the_change_is_void_after_what_replaces_or_revokes_the_old_proof(
    changing: Changing,
) -> None:
    flow = changing.flow

    def revoke() -> None:
        flow.verifier.revoke(changing.user, by="staff")

    def prove_again() -> None:
        revoke()
        flow.clock.advance(1)
        flow.verifier.mark_verified(changing.user, by="staff")

    for void in (lambda: flow.set_mobile(1, OTHER), revoke, prove_again):
        changing.prove_new()
        token = changing.delay()
        void()
        assert changing.changes.current(changing.user) is None, void
        flow.clock.advance(days=1)
        assert not changing.changes.apply_due(changing.user), void
        with pytest.raises(NoChallenge):
            changing.changes.send_to_old(changing.user)
        changing.changes.undo(token)
        flow.set_mobile(1, OLD)
        flow.verifier.mark_verified(changing.user, by="staff")


def test_a_number_that_the_host_writes_before_its_code_is_entered_opens_no_change(
    changing: Changing,
) -> None:
    """The host's number is not proved, so nothing is left that the new one could replace."""
    changing.changes.send_to_new(changing.user, NEW)
    changing.flow.set_mobile(1, NEW)
    with pytest.raises(NoChallenge, match="no longer proved"):
        changing.changes.prove_new(changing.user, changing.code(NEW))
    assert changing.changes.current(changing.user) is None


@pytest.mark.parametrize("what", ["revoked", "erased"])
def test_an_old_proof_that_ends_while_the_new_numbers_code_is_checked_opens_no_change(
    changing: Changing, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    flow = changing.flow

    def end() -> None:
        if what == "revoked":
            flow.verifier.revoke(changing.user, by="staff")
        else:
            flow.verifier.forget(changing.user)

    changing.after_the_check(monkeypatch, end)
    with pytest.raises(NoChallenge, match="no longer proved"):
        changing.prove_new()
    assert changing.states() == {}


@pytest.mark.parametrize("what", ["cancelled", "undone", "revoked", "erased", "locked", "replaced"])
def test_a_change_that_ends_while_its_code_is_checked_is_not_applied(
    changing: Changing, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    flow, changes = changing.flow, changing.changes
    changing.prove_new()
    token = changing.delay()
    changes.send_to_old(changing.user)

    def end() -> None:
        if what == "cancelled":
            changes.cancel(changing.user)
        elif what == "undone":
            changes.undo(token)
        elif what == "revoked":
            flow.verifier.revoke(changing.user, by="staff")
        elif what == "erased":
            flow.verifier.forget(changing.user)
        elif what == "replaced":
            flow.set_mobile(1, OTHER)
        else:
            flow.state.ledger.run(
                lambda session: setattr(
                    session.get_one(Verification, "1"), "locked_at", flow.clock.now
                )
            )

    changing.after_the_check(monkeypatch, end)
    with pytest.raises(AccountLocked if what == "locked" else NoChallenge):
        changes.confirm(changing.user, changing.code(OLD))
    assert changing.mobile == (OTHER if what == "replaced" else OLD)
    if what != "erased":
        assert flow.verification().mobile == OLD


def test_a_number_that_another_account_holds_cannot_replace_the_old_one(
    changing: Changing,
) -> None:
    flow = changing.flow
    flow.set_mobile(2, NEW)
    flow.verifier.mark_verified(flow.user(2), by="staff")
    with pytest.raises(MobileTaken):
        changing.prove_new()
    assert changing.changes.current(changing.user) is None


def test_with_the_policy_transfer_a_confirmed_change_takes_a_held_number(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, users=2, SMSVERIFY_SENDERS=MEMORY, SMSVERIFY_MOBILE_POLICY="transfer")
    with app.app_context():
        changing = changing_in(app)
        flow = changing.flow
        flow.set_mobile(2, NEW)
        flow.prove(2)
        flow.clock.advance(hours=1)
        changing.prove_new()
        assert flow.state_of(2) == "verified"
        changing.confirm()
        assert changing.mobile == NEW
        assert flow.state_of(2) == "unverified"


def test_a_number_that_another_account_proves_meanwhile_does_not_replace_the_old_one(
    changing: Changing,
) -> None:
    flow = changing.flow
    changing.prove_new()
    flow.set_mobile(2, NEW)
    flow.verifier.mark_verified(flow.user(2), by="staff")
    with pytest.raises(MobileTaken):
        changing.confirm()
    assert changing.mobile == OLD
    assert flow.verification().mobile == OLD
    assert changing.changes.current(changing.user) is None


@pytest.mark.parametrize("state", ["confirming", "delayed"])
def test_a_change_that_the_hosts_database_did_not_store_stays_open(
    changing: Changing, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    change = changing.prove_new()
    if state == "delayed":
        changing.delay()
    with monkeypatch.context() as patch:
        fail_to_store(changing, patch)
        with pytest.raises(StoreUnavailable):
            changing.confirm()
    assert changing.mobile == OLD
    assert changing.flow.state_of() == "verified"
    assert changing.states() == {change.id: state}
    assert changing.changes.current(changing.user).closed_at is None
    changing.flow.clock.advance(minutes=5)
    changing.confirm()
    assert changing.mobile == NEW


def test_a_change_that_was_not_stored_does_not_open_beside_a_newer_one(
    changing: Changing, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = changing.prove_new()
    ownership = changing.changes._ownership
    undo = ownership.undo

    def undo_then_begin(granted: Granted) -> None:
        undo(granted)
        changing.prove_new(OTHER)

    fail_to_store(changing, monkeypatch)
    monkeypatch.setattr(ownership, "undo", undo_then_begin)
    with pytest.raises(StoreUnavailable):
        changing.confirm()
    newer = changing.changes.current(changing.user)
    assert newer.new_mobile == OTHER
    assert changing.states() == {first.id: "cancelled", newer.id: "confirming"}


def test_a_change_that_was_not_stored_does_not_return_after_it_was_erased(
    changing: Changing, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing.prove_new()
    fail_to_store(
        changing, monkeypatch, meanwhile=lambda: changing.flow.verifier.forget(changing.user)
    )
    with pytest.raises(StoreUnavailable):
        changing.confirm()
    assert changing.states() == {}


def fail_to_store(
    changing: Changing, patch: pytest.MonkeyPatch, *, meanwhile: Callable[[], object] = int
) -> None:
    """Let the host's database fail to store a proved number."""

    def store(*_arguments: Any, **_named: Any) -> None:
        meanwhile()
        raise StoreUnavailable("the host's database is away")

    patch.setattr(changing.flow.state.users, "store_proved_mobile", store)


@pytest.mark.race
def test_one_of_ten_parallel_confirmations_applies_the_change(
    make_app: MakeApp, database: str
) -> None:
    app = make_app(database, SMSVERIFY_SENDERS=MEMORY)
    with app.app_context():
        changing = changing_in(app)
        changing.prove_new()
        changing.changes.send_to_old(changing.user)
        code = changing.code(OLD)
    barrier, results = threading.Barrier(10), []

    def confirm() -> None:
        with app.app_context():
            user = db.session.get(User, 1)
            barrier.wait()
            try:
                changing.changes.confirm(user, code)
                results.append("applied")
            except (NoChallenge, TooManyAttempts) as error:
                results.append(type(error).__name__)
            except Exception as error:  # noqa: BLE001 -- a thread reports what it raised
                results.append(repr(error))
            finally:
                db.session.rollback()

    threads = [threading.Thread(target=confirm) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count("applied") == 1
    assert set(results) <= {"applied", "NoChallenge", "TooManyAttempts"}, results
    with app.app_context():
        assert changing.mobile == NEW


@pytest.mark.parametrize("database", database_params("postgresql", "mariadb"), indirect=True)
@pytest.mark.parametrize("step", ["confirm", "delay", "apply", "cancel", "undo"])
def test_a_step_waits_for_one_that_ends_the_change_in_a_parallel_transaction(
    make_app: MakeApp, database: str, step: str
) -> None:
    """And then it finds the change closed."""
    app = make_app(database, SMSVERIFY_SENDERS=MEMORY)
    with app.app_context():
        changing = changing_in(app)
        change = changing.prove_new()
        token = changing.changes._tokens.dump(change.id)
        changing.changes.send_to_old(changing.user)
        code = changing.code(OLD)
        if step == "apply":
            changing.delay()
            changing.flow.clock.advance(days=1)
        db.session.remove()
    ends: list[object] = []

    def act() -> None:
        with app.app_context():
            changes, user = changing.changes, changing.user
            steps: dict[str, Callable[[], object]] = {
                "confirm": lambda: changes.confirm(user, code),
                "delay": lambda: changes.delay(user, link=str),
                "apply": lambda: changes.apply_due(user),
                "cancel": lambda: changes.cancel(user),
                "undo": lambda: changes.undo(token),
            }
            try:
                ends.append(steps[step]())
            except (NoChallenge, InvalidLink) as error:
                ends.append(type(error))
            db.session.remove()

    thread, engine = threading.Thread(target=act), changing.flow.state.ledger.engine

    def undo(session: Any) -> None:
        row = session.get_one(MobileChange, change.id)
        row.state, row.open_key, row.closed_at = "undone", row.id, changing.flow.clock()
        session.flush()
        thread.start()
        wait_until(lambda: bool(ends) or is_waiting(engine))

    changing.changes._ownership.run_for_account("1", undo)
    thread.join(60)
    expected = {"apply": False, "cancel": False, "undo": InvalidLink}
    assert ends == [expected.get(step, NoChallenge)]
    with app.app_context():
        assert changing.states() == {change.id: "undone"}
        assert changing.mobile == OLD


@pytest.mark.parametrize("database", database_params("postgresql", "mariadb"), indirect=True)
def test_a_change_is_applied_if_another_account_takes_the_old_number_at_the_same_time(
    make_app: MakeApp, database: str
) -> None:
    """The other account's transaction has revoked the old proof, and is not committed yet."""
    app = make_app(database, SMSVERIFY_SENDERS=MEMORY)
    with app.app_context():
        changing = changing_in(app)
        changing.prove_new()
        changing.changes.send_to_old(changing.user)
        code = changing.code(OLD)
        db.session.remove()
    ends: list[str] = []

    def confirm() -> None:
        with app.app_context():
            ends.append(outcome(lambda: changing.changes.confirm(changing.user, code)))
            db.session.remove()

    thread, engine = threading.Thread(target=confirm), changing.flow.state.ledger.engine
    with engine.begin() as connection:
        connection.execute(update(Verification).values(revoked_at=changing.flow.clock()))
        thread.start()
        wait_until(lambda: bool(ends) or is_waiting(engine))
    thread.join(60)
    assert ends == ["ok"]
    with app.app_context():
        proof = changing.flow.verification()
        assert (proof.mobile, proof.revoked_at, changing.mobile) == (NEW, None, NEW)


# --- the delay ----------------------------------------------------------------------------------


def test_without_the_old_number_the_change_applies_after_the_delay(
    make_app: MakeApp, database: str
) -> None:
    app = make_app(database, SMSVERIFY_SENDERS=MEMORY)
    with app.app_context():
        changing = changing_in(app)
        changing.prove_new()
        changing.delay()
        changing.flow.clock.advance(hours=24, seconds=-1)
        assert not changing.changes.apply_due(changing.user)
        assert changing.mobile == OLD
        changing.flow.clock.advance(1)
        assert changing.changes.apply_due(changing.user)
        assert changing.mobile == NEW
        assert changing.decide() == "verified"


def test_nothing_is_logged_until_a_change_is_due(
    changing: Changing, caplog: pytest.LogCaptureFixture
) -> None:
    """A page asks at every request."""
    assert not changing.changes.apply_due(changing.user)
    changing.prove_new()
    assert not changing.changes.apply_due(changing.user)
    changing.delay()
    assert not changing.changes.apply_due(changing.user)
    assert "was not applied" not in caplog.text


def test_within_counts_a_number_that_the_old_one_did_not_confirm_only_once_settled(
    changing: Changing,
) -> None:
    flow = changing.flow
    changing.prove_new()
    changing.delay()
    flow.clock.advance(hours=24)
    changing.changes.apply_due(changing.user)
    flow.prove()
    assert changing.decide(within=WITHIN) == "unsettled"
    flow.clock.advance(hours=24, seconds=-1)
    flow.prove()
    assert changing.decide(within=WITHIN) == "unsettled"
    flow.clock.advance(1)
    assert changing.decide(within=WITHIN) == "verified"


def test_the_delay_starts_only_when_a_sender_has_accepted_the_notice(changing: Changing) -> None:
    changing.prove_new()
    for failure in (Rejected("memory", "refused"), Unknown("memory", "no answer")):
        changing.flow.memory.fail_with(failure, to=OLD)
        with pytest.raises(NoticeFailed):
            changing.changes.delay(changing.user, link=str)
        assert changing.changes.current(changing.user).applies_at is None
    changing.delay()
    started = changing.flow.clock()
    assert changing.changes.current(changing.user).applies_at == started + timedelta(days=1)


def test_the_delay_does_not_start_where_no_sender_sends_texts(changing: Changing) -> None:
    changing.prove_new()
    changing.flow.route(Native(also_own=False))
    with pytest.raises(NoticeFailed, match="no sender was available"):
        changing.changes.delay(changing.user, link=str)
    assert changing.changes.current(changing.user).applies_at is None


def test_a_delay_that_runs_sends_no_second_notice_and_is_not_shortened(changing: Changing) -> None:
    changing.prove_new()
    changing.delay()
    applies_at = changing.changes.current(changing.user).applies_at
    sent = len(changing.flow.memory.messages)
    changing.flow.clock.advance(hours=1)
    assert changing.changes.delay(changing.user, link=str).applies_at == applies_at
    assert len(changing.flow.memory.messages) == sent


def test_the_old_number_can_confirm_while_the_delay_runs(changing: Changing) -> None:
    changing.prove_new()
    changing.delay()
    changing.confirm()
    assert changing.mobile == NEW
    assert changing.decide(within=WITHIN) == "verified"


def test_a_change_that_nobody_came_back_for_is_not_applied_a_month_later(
    changing: Changing,
) -> None:
    changing.prove_new()
    changing.delay()
    changing.flow.clock.advance(days=31)
    assert not changing.changes.apply_due(changing.user)


def test_a_locked_account_starts_no_delay_and_is_not_changed(changing: Changing) -> None:
    flow = changing.flow

    def lock(session: Any) -> None:
        session.get(Verification, "1").locked_at = flow.clock()

    changing.prove_new()
    flow.state.ledger.run(lock)
    with pytest.raises(AccountLocked):
        changing.changes.delay(changing.user, link=str)
    flow.verifier.unlock(changing.user)
    changing.delay()
    flow.state.ledger.run(lock)
    flow.clock.advance(days=1)
    assert not changing.changes.apply_due(changing.user)
    assert changing.mobile == OLD


def test_failed_notices_are_bounded(changing: Changing) -> None:
    changing.prove_new()
    for _ in range(10):
        changing.flow.memory.fail_with(Rejected("memory", "refused"), to=OLD)
        with pytest.raises(NoticeFailed):
            changing.changes.delay(changing.user, link=str)
    with pytest.raises(RateLimited):
        changing.changes.delay(changing.user, link=str)


# --- undo and cancel ----------------------------------------------------------------------------


def test_the_link_stops_the_change_once(make_app: MakeApp, database: str) -> None:
    app = make_app(database, SMSVERIFY_SENDERS=MEMORY)
    with app.app_context():
        changing = changing_in(app)
        changing.prove_new()
        token = changing.delay()
        assert changing.changes.find(token).state == "delayed"
        changing.changes.undo(token)
        assert changing.changes.find(token).state == "undone"
        with pytest.raises(InvalidLink):
            changing.changes.undo(token)
        changing.flow.clock.advance(days=1)
        assert not changing.changes.apply_due(changing.user)
        assert changing.mobile == OLD


def test_the_link_stops_a_change_that_is_due_and_not_yet_applied(changing: Changing) -> None:
    changing.prove_new()
    token = changing.delay()
    changing.flow.clock.advance(days=2)
    changing.changes.undo(token)
    assert not changing.changes.apply_due(changing.user)


def test_the_link_is_void_after_the_change_was_applied_or_cancelled(changing: Changing) -> None:
    changing.prove_new()
    token = changing.delay()
    changing.changes.cancel(changing.user)
    for act in (changing.changes.find, changing.changes.undo):
        with pytest.raises(InvalidLink):
            act(token)
    changing.flow.clock.advance(minutes=5)
    changing.prove_new()
    token = changing.delay()
    changing.flow.clock.advance(days=1)
    changing.changes.apply_due(changing.user)
    for act in (changing.changes.find, changing.changes.undo):
        with pytest.raises(InvalidLink):
            act(token)
    assert changing.mobile == NEW


def test_a_forged_link_is_refused(changing: Changing) -> None:
    change = changing.prove_new()
    token = changing.delay()
    for forged in (
        change.id,
        f"{change.id}.",
        token[:-2] + ("AA" if token[-2:] != "AA" else "BA"),
        "0" * 32 + token[32:],
        "é" * 60,
        "x" * 100_000,
        "",
        None,
        ["x"],
    ):
        for act in (changing.changes.find, changing.changes.undo):
            with pytest.raises(InvalidLink):
                act(forged)
    assert changing.changes.current(changing.user) is not None


def test_the_link_of_an_erased_change_is_refused(
    changing: Changing, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing.prove_new()
    token = changing.delay()
    find = changing.changes.find

    def find_then_erase(token: object) -> MobileChange:
        found = find(token)
        changing.flow.verifier.forget(changing.user)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(changing.changes, "find", find_then_erase)
        with pytest.raises(InvalidLink):
            changing.changes.undo(token)
    for act in (changing.changes.find, changing.changes.undo):
        with pytest.raises(InvalidLink):
            act(token)


def test_a_link_works_after_the_secret_key_was_replaced(changing: Changing) -> None:
    changing.prove_new()
    token = changing.delay()
    changing.flow.use_keys("a newer secret", "a secret of the tests")
    changing.changes.undo(token)
    assert changing.changes.current(changing.user) is None


def test_cancelling_without_an_open_change_does_nothing(changing: Changing) -> None:
    assert not changing.changes.cancel(changing.user)


def test_forget_erases_the_changes_and_keeps_their_count(changing: Changing) -> None:
    changing.prove_new()
    changing.flow.verifier.forget(changing.user)
    assert changing.changes.current(changing.user) is None
    rows = changing.flow.state.ledger.read(
        lambda session: session.scalars(select(MobileChange)).all()
    )
    assert rows == []


def test_forget_does_not_make_the_next_number_a_first_one(changing: Changing) -> None:
    """A host may offer `forget` to its users, and so to a password thief."""
    flow = changing.flow
    for _ in range(2):
        flow.verifier.forget(changing.user)
        flow.set_mobile(1, NEW)
        flow.clock.advance(minutes=5)
        flow.prove()
        assert changing.decide() == "verified"
        assert changing.decide(within=WITHIN) == "unsettled"
    flow.clock.advance(hours=24)
    flow.prove()
    assert changing.decide(within=WITHIN) == "verified"


@pytest.mark.parametrize("before", ["a wrong code", "a revoked proof"])
def test_forget_does_not_delay_the_first_number_of_an_account_without_a_proof(
    changing: Changing, before: str
) -> None:
    flow = changing.flow
    number = 1 if before == "a revoked proof" else 2
    if before == "a revoked proof":
        flow.verifier.revoke(flow.user(1), by="staff")
    else:
        challenge = flow.start(2)
        with pytest.raises(WrongCode):
            flow.check(challenge, flow.wrong(challenge))
    flow.clock.advance(hours=1)
    flow.verifier.forget(flow.user(number))
    flow.set_mobile(number, NEW)
    flow.prove(number)
    assert flow.verification(number).settled_at is None


def test_forget_does_not_delay_the_first_number_of_another_account(changing: Changing) -> None:
    flow = changing.flow
    flow.verifier.forget(changing.user)
    flow.prove(2)
    assert flow.verification(2).settled_at is None


def test_forget_records_nothing_of_an_account_whose_number_is_settled_at_once(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, SMSVERIFY_SENDERS=MEMORY, SMSVERIFY_MOBILE_SETTLED=0)
    with app.app_context():
        changing = changing_in(app)
        changing.flow.verifier.forget(changing.user)
        used = changing.flow.state.ledger.read(
            lambda session: session.scalars(select(UsedToken)).all()
        )
    assert used == []


@pytest.mark.parametrize(
    ("policy", "limit", "since", "expected"),
    [
        ("transfer", 1, timedelta(hours=1), OLD),
        ("transfer", 1, timedelta(hours=-1), NEW),
        ("transfer", 0, timedelta(hours=1), NEW),
        ("refuse", 2, timedelta(hours=1), NEW),
        ("refuse", 1, timedelta(hours=1), OLD),
    ],
)
def test_a_change_that_waited_is_applied_unless_a_newer_proof_would_lose_the_number(
    make_app: MakeApp, sqlite: str, policy: str, limit: int, since: timedelta, expected: str
) -> None:
    """`since` is when another account proved the new number, after the start of the change."""
    app = make_app(
        sqlite,
        users=2,
        SMSVERIFY_SENDERS=MEMORY,
        SMSVERIFY_MOBILE_POLICY=policy,
        SMSVERIFY_ACCOUNTS_PER_MOBILE=limit,
    )
    with app.app_context():
        changing = changing_in(app)
        flow = changing.flow
        start = flow.clock.now + timedelta(days=1)

        def begin() -> None:
            changing.prove_new()
            changing.delay()

        flow.set_mobile(2, NEW)
        steps = [(start, begin), (start + since, lambda: flow.prove(2))]
        for flow.clock.now, act in sorted(steps, key=lambda step: step[0]):
            act()
        flow.clock.advance(hours=25)
        assert changing.changes.apply_due(changing.user) is (expected == NEW)
        assert changing.mobile == expected
        is_taken = policy == "transfer" and limit and expected == NEW
        assert flow.state_of(2) == ("unverified" if is_taken else "verified")


def test_a_change_that_waited_takes_no_number_from_an_account_that_proved_it_since(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(
        sqlite,
        users=3,
        SMSVERIFY_SENDERS=MEMORY,
        SMSVERIFY_MOBILE_POLICY="transfer",
        SMSVERIFY_ACCOUNTS_PER_MOBILE=2,
    )
    with app.app_context():
        changing = changing_in(app)
        flow = changing.flow
        flow.set_mobile(3, NEW)
        flow.prove(3)
        flow.clock.advance(hours=1)
        changing.prove_new()
        changing.delay()
        flow.clock.advance(hours=1)
        flow.set_mobile(2, NEW)
        flow.prove(2)
        flow.clock.advance(hours=24)
        assert not changing.changes.apply_due(changing.user)
        assert changing.mobile == OLD
        assert flow.verifier.status(flow.user(2)).state == "verified"
        assert flow.verifier.status(flow.user(3)).state == "verified"


def test_a_step_does_not_read_the_record_that_its_caller_has_read(
    changing: Changing, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, reads = changing.changes, []
    read = changes._records.read

    def read_and_count(user: object) -> UserRecord:
        reads.append(user)
        return read(user)

    monkeypatch.setattr(changes._records, "read", read_and_count)
    changing.prove_new()
    changes.send_to_old(changing.user, record=read(changing.user))
    changes.delay(changing.user, link=str, record=read(changing.user))
    assert not changes.apply_due(changing.user, record=read(changing.user))
    changes.confirm(changing.user, changing.code(OLD), record=read(changing.user))
    assert reads == []


# --- limits -------------------------------------------------------------------------------------


def test_an_account_starts_three_changes_a_day(make_app: MakeApp, database: str) -> None:
    app = make_app(database, SMSVERIFY_SENDERS=MEMORY, SMSVERIFY_LIMITS=NO_LIMITS)
    with app.app_context():
        changing = changing_in(app)
        for number in range(3):
            changing.prove_new(f"+98935111000{number}")
            changing.flow.clock.advance(minutes=10)
        with pytest.raises(RateLimited) as refused:
            changing.changes.send_to_new(changing.user, NEW)
        assert refused.value.scope == "changes"
        changing.flow.clock.advance(hours=26)
        changing.prove_new()


def test_codes_that_were_sent_before_the_limit_start_no_fourth_change(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, SMSVERIFY_SENDERS=MEMORY, SMSVERIFY_LIMITS=NO_LIMITS)
    with app.app_context():
        changing = changing_in(app)
        changing.changes.send_to_new(changing.user, NEW)
        started = [Charge("changes", "1", (Limit(3, 86_400),))]
        for _ in range(3):  # as by other sessions of the account meanwhile
            changing.flow.state.counters.reserve(started, changing.flow.clock())
        with pytest.raises(RateLimited):
            changing.changes.prove_new(changing.user, changing.code(NEW))
        assert changing.changes.current(changing.user) is None


def test_three_changes_and_their_confirmations_fit_the_default_limits(changing: Changing) -> None:
    """The old number is the account's own and not one of its three different numbers a day."""
    flow = changing.flow
    flow.clock.advance(days=1, hours=3)
    sent = len(flow.memory.messages)
    for number in range(3):
        changing.prove_new(f"+98935111000{number}")
        flow.clock.advance(minutes=30)
        changing.changes.send_to_old(changing.user)
        assert len(flow.memory.messages) == sent + 2 * (number + 1)
        flow.clock.advance(minutes=45)


def test_the_code_to_the_old_number_has_a_cooldown(changing: Changing) -> None:
    changing.prove_new()
    changing.changes.send_to_old(changing.user)
    with pytest.raises(TooSoon):
        changing.changes.send_to_old(changing.user)


# --- what `within` counts -----------------------------------------------------------------------


def test_a_first_number_counts_at_once(changing: Changing) -> None:
    assert changing.decide(within=WITHIN) == "verified"
    assert changing.flow.verification().settled_at is None


def test_a_number_that_the_host_replaced_counts_only_once_settled(changing: Changing) -> None:
    """The proved number is the ledger's, whatever the host's own form has written meanwhile."""
    flow = changing.flow
    for between in (None, ""):
        flow.set_mobile(1, between)
    flow.set_mobile(1, NEW)
    flow.prove()
    assert changing.decide() == "verified"
    assert changing.decide(within=WITHIN) == "unsettled"
    flow.clock.advance(hours=24)
    flow.prove()
    assert changing.decide(within=WITHIN) == "verified"


def test_an_aged_proof_counts_as_proved(changing: Changing) -> None:
    flow = changing.flow
    flow.clock.advance(days=91)
    flow.set_mobile(1, NEW)
    flow.prove()
    assert changing.decide(within=WITHIN) == "unsettled"


def test_a_revoked_proof_does_not_count_as_proved(changing: Changing) -> None:
    flow = changing.flow
    flow.verifier.revoke(changing.user, by="staff")
    flow.set_mobile(1, NEW)
    flow.prove()
    assert changing.decide(within=WITHIN) == "verified"


def test_a_number_that_is_not_settled_does_not_settle_by_confirming_the_next_change(
    changing: Changing,
) -> None:
    flow = changing.flow
    flow.set_mobile(1, NEW)
    flow.prove()
    changing.changes.send_to_new(changing.user, OTHER)
    changing.changes.prove_new(changing.user, changing.code(OTHER))
    changing.changes.send_to_old(changing.user)
    changing.changes.confirm(changing.user, changing.code(NEW))
    assert changing.mobile == OTHER
    assert changing.decide(within=WITHIN) == "unsettled"


def test_a_number_that_is_not_settled_does_not_settle_by_a_transfer(
    make_app: MakeApp, sqlite: str
) -> None:
    """The attacker's second account takes the number, and the first proves it again."""
    app = make_app(
        sqlite,
        users=2,
        SMSVERIFY_SENDERS=MEMORY,
        SMSVERIFY_MOBILE_POLICY="transfer",
        SMSVERIFY_LIMITS=NO_LIMITS,
    )
    with app.app_context():
        changing = changing_in(app)
        flow = changing.flow
        flow.set_mobile(1, NEW)
        flow.prove()
        flow.set_mobile(2, NEW)
        flow.prove(2)
        assert changing.decide() == "unverified"
        flow.clock.advance(minutes=5)
        flow.set_mobile(1, OTHER)
        flow.prove()
        assert changing.decide() == "verified"
        assert changing.decide(within=WITHIN) == "unsettled"


def test_a_claimed_token_that_replaces_a_proved_number_counts_only_once_settled(
    changing: Changing,
) -> None:
    flow = changing.flow
    challenge = flow.verifier.start_for(NEW, purpose="form")
    flow.state.workers.wait()
    proof = flow.check(challenge, flow.code(challenge))
    token = flow.verifier.proof_token(proof)
    flow.verifier.claim(token, changing.user, purpose="form")
    db.session.commit()
    assert changing.decide() == "verified"
    assert changing.decide(within=WITHIN) == "unsettled"


def test_a_stamp_does_not_answer_within(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_SENDERS=MEMORY, SMSVERIFY_RECHECK_SECONDS=3600)
    with app.app_context():
        changing = changing_in(app)
        flow = changing.flow
        flow.set_mobile(1, NEW)
        flow.prove()
        with app.test_request_context():
            assert decide(changing.user).allowed
            assert decide(changing.user, within=WITHIN).reason == "unsettled"


def test_mobile_settled_can_be_off(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_SENDERS=MEMORY, SMSVERIFY_MOBILE_SETTLED=0)
    with app.app_context():
        changing = changing_in(app)
        changing.flow.set_mobile(1, NEW)
        changing.flow.prove()
        assert changing.decide(within=WITHIN) == "verified"


# --- signals ------------------------------------------------------------------------------------


def test_the_change_is_announced_when_it_is_applied(changing: Changing) -> None:
    seen: list[dict[str, str]] = []

    def receive(_app: Flask, **values: str) -> None:
        seen.append(values)

    with signals.mobile_verified.connected_to(receive, changing.flow.app):
        changing.prove_new()
        changing.changes.send_to_old(changing.user)
        assert seen == []
        changing.changes.confirm(changing.user, changing.code(OLD))
    [values] = seen
    assert values["user_id"] == "1"
    assert values["purpose"] == "change"
    assert values["mobile"] == "+98935•••2233"


def test_the_ledger_holds_no_undo_token(changing: Changing) -> None:
    changing.prove_new()
    token = changing.delay()
    signature = token.partition(".")[2]
    rows = changing.flow.state.ledger.read(
        lambda session: [
            str(vars(row))
            for table in (MobileChange, UsedToken, Challenge)
            for row in session.scalars(select(table))
        ]
    )
    assert signature
    assert not any(signature in row for row in rows)
