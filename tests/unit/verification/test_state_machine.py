"""Random sequences of steps, checked against a small model of the rules."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest
from examples import examples
from flows import MEMORY, Flow, Native, flow_of
from hostapp import User, create_app, db
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flask_smsverify.db.models import Attempt, Challenge
from flask_smsverify.errors import SMSVerifyError
from flask_smsverify.senders.base import DeliveryReport, DeliveryState
from flask_smsverify.senders.memory import Memory

USERS = (1, 2)
MOBILES = ("09123450001", "09123450002", "09120000003")
MAX_ATTEMPTS, MOBILE_LIMIT, FAILURES, CONSECUTIVE_FAILURES = 3, 4, 8, 6


class VerificationMachine(RuleBasedStateMachine):
    native: ClassVar[bool] = False
    resend: ClassVar[str] = "same"

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.app = create_app(
            f"sqlite:///{Path(self.folder.name) / 'test.sqlite'}",
            SMSVERIFY_SENDERS=MEMORY,
            SMSVERIFY_MAX_ATTEMPTS=MAX_ATTEMPTS,
            SMSVERIFY_RESEND=self.resend,
            SMSVERIFY_CONSECUTIVE_FAILURES=CONSECUTIVE_FAILURES,
            SMSVERIFY_LIMITS={
                "mobile": f"{MOBILE_LIMIT}/hour",
                "user": None,
                "failures": f"{FAILURES}/day",
            },
        )
        self.context = self.app.app_context()
        self.context.push()
        db.create_all()
        db.session.add_all(User(id=number, mobile=MOBILES[number - 1]) for number in USERS)
        db.session.commit()
        self.flow: Flow = flow_of(self.app)
        self.gateway: Any = Native(name="gateway") if self.native else Memory(name="gateway")
        self.flow.route(self.gateway)
        self.compared: Counter[str] = Counter()
        self.proved: Counter[str] = Counter()
        self.right: set[tuple[int, str]] = set()
        self.sent_at: list[tuple[float, str]] = []
        self.failed_at: list[tuple[float, int]] = []
        #: The failures at a number: of accounts that have not proved it, without an account, and on
        #: devices of its owner.
        self.failed_by_accounts: list[tuple[float, str]] = []
        self.failed_by_visitors: list[tuple[float, str]] = []
        self.failed_on_device: list[tuple[float, str]] = []
        self.signing_up: list[Challenge] = []
        self.recorded: Counter[str] = Counter()

    def teardown(self) -> None:
        self.app.extensions["smsverify"].close()
        db.session.remove()
        db.engine.dispose()
        self.context.pop()
        self.folder.cleanup()

    # --- steps ----------------------------------------------------------------------------------

    def attempt(self, act: Any) -> Any:
        """Run a step, which may raise only errors of this package; then record new messages."""
        try:
            return act()
        except SMSVerifyError:
            return None
        finally:
            arrived = self.arrived()
            now = self.flow.clock.now.timestamp()
            self.sent_at += [(now, to) for to in (arrived - self.recorded).elements()]
            self.recorded = arrived

    def arrived(self) -> Counter[str]:
        """Return how many codes each mobile got."""
        if self.native:
            native = Counter(to for to, _ in self.gateway.sent)
            return native + Counter(message.to for message in self.gateway.own)
        return Counter(message.to for message in self.gateway.messages if message.code)

    @rule(
        number=st.sampled_from(USERS),
        mobile=st.sampled_from((None, *MOBILES)),
        channel=st.sampled_from(("sms", "sms", "voice")),
    )
    def start(self, number: int, mobile: str | None, channel: str) -> None:
        self.attempt(lambda: self.flow.start(number, mobile=mobile, channel=channel))

    @rule(number=st.sampled_from(USERS), channel=st.sampled_from((None, "sms", "voice")))
    def resend_code(self, number: int, channel: str | None) -> None:
        latest = self.flow.verifier.latest(self.flow.user(number))
        if latest is not None:
            self.attempt(lambda: self.flow.verifier.resend(latest, channel=channel))

    @rule(number=st.sampled_from(USERS))
    def guess_right(self, number: int) -> None:
        latest = self.flow.verifier.latest(self.flow.user(number))
        if latest is not None:
            self.guess(number, latest, self.flow.code(latest), right=True)

    @precondition(lambda self: self.native)
    @rule(number=st.sampled_from(USERS), which=st.integers(0, 3))
    def guess_a_native_code(self, number: int, which: int) -> None:
        latest = self.flow.verifier.latest(self.flow.user(number))
        if latest is None or not self.gateway.sent:
            return
        to, code = self.gateway.sent[-1 - which % len(self.gateway.sent)]
        self.guess(number, latest, code, right=to == latest.mobile)

    @rule(number=st.sampled_from(USERS), times=st.integers(1, 4))
    def guess_wrong(self, number: int, times: int) -> None:
        latest = self.flow.verifier.latest(self.flow.user(number))
        for _ in range(times if latest else 0):
            self.guess(number, latest, self.flow.wrong(latest), right=False)

    def guess(self, number: int, challenge: Challenge, code: str, *, right: bool) -> None:
        before = self.flow.verifier.load(challenge.id).attempts
        is_holder = self.holds(number, challenge.mobile)
        proof = self.attempt(lambda: self.flow.verifier.check(self.flow.user(number), code))
        after = self.flow.verifier.load(challenge.id).attempts
        assert after - before in (0, 1)
        self.compared[challenge.id] += after - before
        if proof is not None:
            assert right, "a wrong code proved the mobile"
            self.proved[challenge.id] += 1
            self.right.add((number, proof.mobile))
        elif after > before:
            now = self.flow.clock.now.timestamp()
            self.failed_at.append((now, number))
            if not is_holder:
                self.failed_by_accounts.append((now, challenge.mobile))

    def holds(self, number: int, mobile: str) -> bool:
        """Return whether a user has proved a mobile."""
        row = self.flow.verification(number)
        is_proved = row is not None and row.verified_at is not None and row.revoked_at is None
        return is_proved and row is not None and row.mobile == mobile

    @rule(mobile=st.sampled_from(MOBILES), owner=st.sampled_from((None, *USERS)))
    def sign_up(self, mobile: str, owner: int | None) -> None:
        mobile = self.flow.state.parse_mobile(mobile)
        token = owner and self.flow.verifier.devices.dump(mobile, str(owner))
        is_owner = owner is not None and self.holds(owner, mobile)
        challenge = self.attempt(lambda: self.flow.sign_up(mobile, device=token))
        if challenge is not None:
            assert is_owner or not challenge.by_device
            self.signing_up.append(challenge)

    @precondition(lambda self: self.signing_up)
    @rule(which=st.integers(0, 3), times=st.integers(1, 4))
    def guess_wrong_without_an_account(self, which: int, times: int) -> None:
        challenge = self.signing_up[-1 - which % len(self.signing_up)]
        for _ in range(times):
            before = self.flow.verifier.load(challenge.id).attempts
            self.attempt(lambda: self.flow.check(challenge, self.flow.wrong(challenge)))
            tried = self.flow.verifier.load(challenge.id).attempts - before
            self.compared[challenge.id] += tried
            failed = self.failed_on_device if challenge.by_device else self.failed_by_visitors
            failed += [(self.flow.clock.now.timestamp(), challenge.mobile)] * tried

    @rule(seconds=st.sampled_from((1, 29, 31, 61, 121, 540, 601, 3600)))
    def wait(self, seconds: int) -> None:
        self.flow.clock.advance(seconds)

    @rule(number=st.sampled_from(USERS), mobile=st.sampled_from(MOBILES))
    def change_mobile(self, number: int, mobile: str) -> None:
        self.flow.set_mobile(number, mobile)

    @rule(number=st.sampled_from(USERS))
    def roll_back_the_host(self, number: int) -> None:
        latest = self.flow.verifier.latest(self.flow.user(number))
        self.flow.user(number).note = "never written"
        if latest is not None:
            self.guess(number, latest, self.flow.wrong(latest), right=False)
        db.session.rollback()

    @rule(number=st.sampled_from(USERS))
    def revoke(self, number: int) -> None:
        self.flow.verifier.revoke(self.flow.user(number), by="staff")
        self.right = {(user, mobile) for user, mobile in self.right if user != number}
        assert self.flow.verifier.status(self.flow.user(number)).state == "unverified"

    @rule(number=st.sampled_from(USERS))
    def unlock(self, number: int) -> None:
        self.flow.verifier.unlock(self.flow.user(number))
        assert not self.flow.verifier.status(self.flow.user(number)).locked

    @rule(number=st.sampled_from(USERS), status=st.sampled_from(DeliveryState))
    def delivery_report(self, number: int, status: DeliveryState) -> None:
        latest = self.flow.verifier.latest(self.flow.user(number))
        message = latest and self.flow.verifier.last_message(latest)
        if message is not None:
            # A native code has no gateway id, so its report matches no attempt.
            attempts = self.flow.state.ledger.read(
                lambda session: session.query(Attempt).filter_by(message_id=message.id).all()
            )
            report = DeliveryReport(attempts[-1].gateway_id or message.id, status)
            self.flow.state.tracker.record("gateway", [report])

    # --- invariants ------------------------------------------------------------------------

    @invariant()
    def no_challenge_compares_more_than_its_attempts(self) -> None:
        assert all(count <= MAX_ATTEMPTS for count in self.compared.values())

    @invariant()
    def no_challenge_succeeds_twice(self) -> None:
        assert all(count <= 1 for count in self.proved.values())

    @invariant()
    def no_mobile_exceeds_its_limit_in_an_hour(self) -> None:
        hour_ago = self.flow.clock.now.timestamp() - 3600
        recent = Counter(to for when, to in self.sent_at if when > hour_ago)
        assert all(count <= MOBILE_LIMIT for count in recent.values())

    @invariant()
    def no_account_exceeds_its_failures_in_a_day(self) -> None:
        day_ago = self.flow.clock.now.timestamp() - 86_400
        recent = Counter(number for when, number in self.failed_at if when > day_ago)
        assert all(count <= FAILURES for count in recent.values())

    @invariant()
    def no_number_exceeds_its_failures_in_a_day(self) -> None:
        day_ago = self.flow.clock.now.timestamp() - 86_400
        for failed in (self.failed_by_accounts, self.failed_by_visitors, self.failed_on_device):
            recent = Counter(mobile for when, mobile in failed if when > day_ago)
            assert all(count <= FAILURES for count in recent.values())

    @invariant()
    def no_user_is_verified_without_a_right_code(self) -> None:
        for number in USERS:
            status = self.flow.verifier.status(self.flow.user(number))
            if status.state == "verified":
                assert (number, status.mobile) in self.right

    @invariant()
    def at_most_one_account_is_verified_for_a_mobile(self) -> None:
        verified = [
            status.mobile
            for number in USERS
            if (status := self.flow.verifier.status(self.flow.user(number))).state == "verified"
        ]
        assert len(verified) == len(set(verified))

    @invariant()
    def at_most_one_challenge_is_open_for_a_user(self) -> None:
        pending = self.flow.state.ledger.read(
            lambda session: Counter(
                session.query(Challenge.user_id).filter(
                    Challenge.state == Challenge.PENDING, Challenge.user_id.is_not(None)
                )
            )
        )
        assert all(count == 1 for count in pending.values())


class NativeVerification(VerificationMachine):
    native = True


class NewCodeVerification(VerificationMachine):
    resend = "new"


@pytest.mark.parametrize("machine", [VerificationMachine, NativeVerification, NewCodeVerification])
def test_no_sequence_of_steps_breaks_an_invariant(machine: type[VerificationMachine]) -> None:
    case = machine.TestCase
    case.settings = settings(
        max_examples=examples(8),
        stateful_step_count=25,
        suppress_health_check=list(HealthCheck),  # the database may be slow
    )
    case("runTest").runTest()
