"""Check a code: the story of a guess, from the input to the proof.

`CodeChecker.check` reads from top to bottom. The attempt is counted and committed before anything
is compared. A right code uses its challenge up once and proves the mobile in one transaction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from .. import signals
from ..db.ledger import Ledger
from ..db.models import Attempt, Challenge, Message, Verification
from ..delivery.failover import Delivery
from ..errors import (
    AccountLocked,
    CheckFailed,
    CodeExpired,
    MobileTaken,
    NoChallenge,
    SenderError,
    TooManyAttempts,
    WrongCode,
)
from ..limits.policy import cooldown_key
from ..limits.usage import Charge, Reservation
from ..phone import mask
from . import codes
from .challenges import Challenges, is_expired, is_void
from .limits import GuessLimits, refund_proved
from .native import NativeCodes
from .ownership import Granted, Ownership
from .rules import NEW_NUMBER, OLD_NUMBER, Announcer, Rules, Users


@dataclass(frozen=True, slots=True)
class Proof:
    """A mobile that was proved before there is an account, or as a step of a change.

    :param mobile: E.164.
    """

    mobile: str
    purpose: str
    challenge_id: str
    proved_at: datetime

    def __repr__(self) -> str:
        return f"<Proof of {mask(self.mobile)} for {self.purpose}>"


@dataclass(frozen=True, slots=True)
class _Guess:
    """A guess that was counted.

    :param challenge: as it was after the guess was counted.
    """

    challenge: Challenge
    typed: str = field(repr=False)
    charges: Sequence[Charge]
    reservation: Reservation


class CodeChecker:
    """Checks codes."""

    def __init__(
        self,
        ledger: Ledger,
        rules: Rules,
        challenges: Challenges,
        *,
        native: NativeCodes,
        guesses: GuessLimits,
        ownership: Ownership,
        users: Users,
        delivery: Delivery,
        announcer: Announcer,
    ) -> None:
        self._ledger = ledger
        self._rules = rules
        self._challenges = challenges
        self._native = native
        self._guesses = guesses
        self._ownership = ownership
        self._users = users
        self._delivery = delivery
        self._announcer = announcer

    def check(
        self,
        challenge_or_user: object,
        code: object,
        *,
        ip: str | None,
        purpose: str,
        store: Callable[[Verification], None] | None,
    ) -> Verification | Proof:
        """Check a code. `Verifier.check` documents the parameters and errors."""
        challenge = self._find_challenge(challenge_or_user, purpose)
        typed = codes.parse_code(code, self._lengths(challenge))
        self._refuse_changed_mobile(challenge, challenge_or_user)
        charges = self._guesses.charges(challenge, ip)
        self._refuse_early(challenge, charges)
        guess = self._count(challenge, typed, charges)
        try:
            origin = self._compare(guess)
        except SenderError as error:
            self._no_verdict(guess, error)
            raise CheckFailed(error) from error
        if origin is None:
            self._record_wrong(guess)
            raise WrongCode(self._attempts_left(guess.challenge))
        return self._prove(guess, is_native=origin == "native", store=store)

    # --- 1: find the challenge, and refuse what can be refused without a guess ------------------

    def _find_challenge(self, challenge_or_user: object, purpose: str) -> Challenge:
        if isinstance(challenge_or_user, Challenge):
            return self._challenges.load(challenge_or_user.id)
        challenge = self._challenges.latest(self._users.id_of(challenge_or_user), purpose)
        if challenge is None:
            raise NoChallenge("no code was sent")
        return challenge

    def _lengths(self, challenge: Challenge) -> range:
        if challenge.native_sender is not None:
            return codes.NATIVE_LENGTHS
        return range(challenge.code_length, challenge.code_length + 1)

    def _refuse_changed_mobile(self, challenge: Challenge, challenge_or_user: object) -> None:
        if challenge.user_id is None:
            return
        user = challenge_or_user
        if isinstance(challenge_or_user, Challenge):
            user = self._users.find(challenge.user_id)
        if is_void(challenge, self._users.mobile_of(user) if user is not None else None):
            raise CodeExpired("the user's mobile changed after the code was sent")

    def _refuse_early(self, challenge: Challenge, charges: Sequence[Charge]) -> None:
        """Refuse without a lock, so that a flood of guesses does not block other guesses.

        `_count` repeats these checks under its locks.
        """
        standing = None
        if challenge.user_id is not None:
            standing = self._ledger.read(
                lambda session: session.get(Verification, challenge.user_id)
            )
        self._refuse_closed(challenge, standing, self._ledger.clock())
        self._guesses.refuse_if_used_up(charges)

    def _refuse_closed(
        self, challenge: Challenge | None, standing: Verification | None, now: datetime
    ) -> None:
        """Raise the reason why a challenge takes no more guesses."""
        if challenge is None or challenge.state in (
            Challenge.VERIFIED,
            Challenge.SUPERSEDED,
            Challenge.CANCELLED,
        ):
            raise NoChallenge("the challenge is no longer open")
        if standing is not None and self._rules.is_locked(standing):
            raise AccountLocked
        exhausted = challenge.attempts >= self._rules.max_attempts
        if exhausted or challenge.state == Challenge.EXHAUSTED:
            left = (challenge.resend_at - now).total_seconds()
            raise TooManyAttempts(max(1, math.ceil(left)))
        if challenge.state == Challenge.EXPIRED or is_expired(challenge, now):
            raise CodeExpired
        if not self._challenges.has_key(challenge):
            raise CodeExpired("the key of this code is no longer configured")

    # --- 2: count the guess ---------------------------------------------------------------------

    def _count(self, challenge: Challenge, typed: str, charges: Sequence[Charge]) -> _Guess:
        """Count the guess against challenge, account and limits, and commit."""

        def work(session: Session) -> _Guess:
            standing = self._standing(session, challenge)
            row = session.get(Challenge, challenge.id, with_for_update=True)
            self._refuse_closed(row, standing, self._ledger.clock())
            assert row is not None  # noqa: S101 -- for the type checker; refused above
            reservation = self._guesses.reserve(session, charges)
            row.attempts += 1
            if standing is not None:
                standing.failures += 1
            return _Guess(row, typed, charges, reservation)

        # Equal work for known and unknown mobiles: response time must not tell them apart.
        uniformly = challenge.user_id is None
        self._guesses.store.prepare(charges, self._ledger.clock(), uniformly=uniformly)
        return self._ledger.run(work)

    def _standing(self, session: Session, challenge: Challenge) -> Verification | None:
        """Return the user's verification, locked; None without a user or before the first."""
        if challenge.user_id is None:
            return None
        return session.get(Verification, challenge.user_id, with_for_update=True)

    # --- 3: compare -------------------------------------------------------------------------------

    def _compare(self, guess: _Guess) -> Literal["own", "native"] | None:
        """Return which code the guess equals; None if neither.

        :raises SenderError: the native gateway gave no verdict.
        """
        challenge, typed = guess.challenge, guess.typed
        # The right code is no local variable: error collectors show those of every frame.
        if challenge.own_sent and codes.is_same_code(typed, self._challenges.own_code(challenge)):
            return "own"
        sender = challenge.native_sender
        if sender is None or self._native.is_accepted(challenge, typed):
            return None
        right = self._delivery.check_native_code(sender, challenge.mobile, typed)
        return "native" if right else None

    # --- 4a: no verdict, or a wrong code ----------------------------------------------------------

    def _no_verdict(self, guess: _Guess, error: SenderError) -> None:
        """Refund the guess if it revealed nothing.

        It revealed something if the gateway may have seen it, or if an own code was compared: while
        the gateway is down, that would be a free guess.
        """
        if error.written or guess.challenge.own_sent:
            self._guesses.report(guess.reservation)
            return

        def work(session: Session) -> None:
            standing = self._standing(session, guess.challenge)
            if standing and standing.failures:
                standing.failures -= 1
            row = session.get(Challenge, guess.challenge.id, with_for_update=True)
            if row and row.attempts:
                row.attempts -= 1
            self._guesses.refund(session, guess.charges, guess.reservation)

        self._ledger.run(work)

    def _record_wrong(self, guess: _Guess) -> None:
        """Close an exhausted challenge, lock an account after too many failures, and announce."""
        challenge = guess.challenge

        def work(session: Session) -> None:
            standing = self._standing(session, challenge)
            if standing and not standing.locked_at and self._rules.is_locked(standing):
                standing.locked_at = self._ledger.clock()
            row = session.get(Challenge, challenge.id, with_for_update=True)
            is_exhausted = row is not None and row.attempts >= self._rules.max_attempts
            if row is not None and row.state == Challenge.PENDING and is_exhausted:
                row.state = Challenge.EXHAUSTED
                row.open_key = None

        self._ledger.run(work)
        self._guesses.report(guess.reservation)
        self._announcer.emit(
            signals.verification_failed,
            user_id=challenge.user_id,
            mobile=mask(challenge.mobile),
            attempts_left=self._attempts_left(challenge),
        )

    def _attempts_left(self, challenge: Challenge) -> int:
        return max(0, self._rules.max_attempts - challenge.attempts)

    # --- 4b: a right code -------------------------------------------------------------------------

    def _prove(
        self, guess: _Guess, *, is_native: bool, store: Callable[[Verification], None] | None
    ) -> Verification | Proof:
        """Use the challenge up and write what it proves, in one transaction."""
        challenge = guess.challenge
        key = cooldown_key(challenge.purpose, challenge.user_id, challenge.mobile)
        cooldown_row = self._guesses.store.row_id("cooldown", key)
        claimant = self._ownership.prepare(challenge.mobile, challenge.user_id)

        def work(session: Session) -> Proof | Granted | None:
            now = self._ledger.clock()
            others = self._ownership.lock(session, claimant, now)
            standing = self._standing(session, challenge)
            if standing is not None and standing.locked_at is not None:
                raise AccountLocked("the account was locked meanwhile")
            row = self._use_up(session, guess, now, is_native=is_native)
            refund_proved(self._guesses.store, session, row, guess.reservation, cooldown_row)
            if standing is not None and challenge.purpose == NEW_NUMBER:
                # A number that was never the account's ends no streak of failures.
                standing.failures -= 1
            elif standing is not None:
                standing.failures = 0
            if challenge.user_id is None or challenge.purpose in (NEW_NUMBER, OLD_NUMBER):
                return Proof(row.mobile, row.purpose, row.id, now)
            sender = row.native_sender if is_native else carrier_of(session, row.id)
            return self._ownership.prove(
                session, claimant, others, now, channel=row.channel, sender=sender
            )

        try:
            proved = self._ledger.run(work)
        except NoChallenge:
            # A concurrent request with the same right code was faster, which is not a failure.
            self._guesses.store.refund(guess.reservation)
            raise
        if proved is None:
            raise MobileTaken
        if isinstance(proved, Granted):
            self._store(proved, store)
            self._ownership.announce(proved)
        elif challenge.user_id is not None:
            return proved  # a step of a change, which announces itself when it is applied
        self._announcer.emit(
            signals.mobile_verified,
            user_id=challenge.user_id,
            mobile=mask(challenge.mobile),
            channel=challenge.channel,
            purpose=challenge.purpose,
        )
        return proved.verification if isinstance(proved, Granted) else proved

    def _use_up(
        self, session: Session, guess: _Guess, now: datetime, *, is_native: bool
    ) -> Challenge:
        """Close a challenge whose code was right, so that none of its codes is right again."""
        row = session.get(Challenge, guess.challenge.id, with_for_update=True)
        # A concurrent wrong guess may have used up the attempts; this one was counted before.
        if row is None or row.state not in (Challenge.PENDING, Challenge.EXHAUSTED):
            raise NoChallenge("the challenge is no longer open")
        if is_native and not self._native.accept(session, guess.challenge, guess.typed, now):
            raise NoChallenge("the code was used before")
        row.state = Challenge.VERIFIED
        # `native_key` stays: the gateway may still accept the challenge's other codes.
        row.open_key = None
        return row

    def _store(self, granted: Granted, store: Callable[[Verification], None] | None) -> None:
        """Let the host store the mobile; undo the proof if it fails."""
        if store is None:
            return
        try:
            store(granted.verification)
        except BaseException:
            self._ownership.undo(granted)
            raise


def carrier_of(session: Session, challenge_id: str) -> str | None:
    """Return the sender that carried a challenge's last code."""
    return session.scalars(
        select(Attempt.sender)
        .join(Message, Message.id == Attempt.message_id)
        .where(Message.challenge_id == challenge_id, Attempt.state != Attempt.FAILED)
        .order_by(Attempt.created_at.desc())
        .limit(1)
    ).one_or_none()
