"""Checking: what was typed against an open challenge.

The attempt is paid for before anything is compared, and a code that was right is used up once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from .. import signals
from ..errors import (
    AccountLocked,
    BudgetSpent,
    CheckFailed,
    CodeExpired,
    MobileTaken,
    NoChallenge,
    SenderError,
    TooManyAttempts,
    WrongCode,
)
from ..models import Challenge, Message, UsedToken, Verification
from ..phone import mask
from . import codes
from .budgets import Claim, Reservation
from .challenges import Challenges, is_over, is_used, is_void, subject_of
from .holding import Granted, Holding
from .parts import Parts
from .spending import Spending


@dataclass(frozen=True, slots=True)
class Proof:
    """A mobile that was proved by somebody who has no account yet."""

    mobile: str
    purpose: str
    challenge_id: str
    proved_at: datetime

    def __repr__(self) -> str:
        return f"<Proof of {mask(self.mobile)} for {self.purpose}>"


class Checking:
    """Checks codes, and has a right one prove its mobile."""

    def __init__(
        self, parts: Parts, challenges: Challenges, spending: Spending, holding: Holding
    ) -> None:
        self._parts = parts
        self._challenges = challenges
        self._spending = spending
        self._holding = holding

    def check(
        self,
        challenge_or_user: object,
        code: object,
        *,
        ip: str | None,
        purpose: str,
        store: Callable[[Verification], None] | None,
    ) -> Verification | Proof:
        """Check what was typed against an open challenge, as `Verifier.check` tells it."""
        challenge = self._challenge_of(challenge_or_user, purpose)
        typed = codes.read(code, self._lengths(challenge))
        if challenge.user_id is not None:
            self._refuse_if_mobile_changed(challenge, challenge_or_user)
        claims = self._spending.for_guess(challenge, ip)
        self._refuse_early(challenge, claims)
        challenge, reservation = self._take_attempt(challenge, claims)
        try:
            maker = self._maker_of(challenge, typed)
        except SenderError as error:
            if error.written or challenge.own_sent:
                self._spending.announce(reservation)
            else:
                self._untake_attempt(challenge, claims, reservation)
            raise CheckFailed(error) from error
        if maker is None:
            self._note_wrong(challenge, reservation)
            raise WrongCode(max(0, self._parts.rules.max_attempts - challenge.attempts))
        return self._consume(challenge, typed if maker == "gateway" else None, reservation, store)

    def _challenge_of(self, challenge_or_user: object, purpose: str) -> Challenge:
        if isinstance(challenge_or_user, Challenge):
            return self._challenges.load(challenge_or_user.id)
        challenge = self._challenges.latest(challenge_or_user, purpose=purpose)
        if challenge is None:
            raise NoChallenge("no code was sent")
        return challenge

    def _lengths(self, challenge: Challenge) -> range:
        if challenge.native_sender is not None:
            return codes.NATIVE_LENGTHS
        return range(challenge.code_length, challenge.code_length + 1)

    def _refuse_if_mobile_changed(self, challenge: Challenge, challenge_or_user: object) -> None:
        user = challenge_or_user
        if isinstance(challenge_or_user, Challenge):
            user = self._parts.users.find(challenge.user_id or "")
        if is_void(challenge, self._parts.mobile_of(user) if user is not None else None):
            raise CodeExpired("the user's mobile changed after the code was sent")

    def _refuse_early(self, challenge: Challenge, claims: Sequence[Claim]) -> None:
        """Refuse by a look who has no guess left, so that a flood of guesses locks no row.

        The site's row among them, which every other guess waits for. The limits hold without it.
        """
        standing = None
        if challenge.user_id is not None:
            standing = self._parts.ledger.read(
                lambda session: session.get(Verification, challenge.user_id)
            )
        self._refuse_closed(challenge, standing, self._parts.clock())
        self._spending.refuse_if_no_guess_is_left(claims)

    def _take_attempt(
        self, challenge: Challenge, claims: Sequence[Claim]
    ) -> tuple[Challenge, Reservation]:
        def work(session: Session) -> tuple[Challenge, Reservation]:
            now = self._parts.clock()
            standing = self._standing(session, challenge)
            row = session.get(Challenge, challenge.id, with_for_update=True)
            self._refuse_closed(row, standing, now)
            assert row is not None  # noqa: S101 -- for the type checker; refused above
            rows = self._parts.budgets.lock(session, claims)
            try:
                reservation = self._parts.budgets.take(rows, claims, now)
            except BudgetSpent as error:
                raise TooManyAttempts(error.retry_after) from error
            row.attempts += 1
            if standing is not None:
                standing.failures += 1
            return row, reservation

        silently = challenge.user_id is None
        self._parts.budgets.prepare(claims, self._parts.clock(), silently=silently)
        return self._parts.ledger.run(work)

    def _standing(self, session: Session, challenge: Challenge) -> Verification | None:
        """The standing of a challenge's user, locked; None without a user, or without one yet."""
        if challenge.user_id is None:
            return None
        return session.get(Verification, challenge.user_id, with_for_update=True)

    def _refuse_closed(
        self, challenge: Challenge | None, standing: Verification | None, now: datetime
    ) -> None:
        """Raise what stands against one more attempt, before any budget is touched."""
        if challenge is None or challenge.state in (
            Challenge.VERIFIED,
            Challenge.SUPERSEDED,
            Challenge.CANCELLED,
        ):
            raise NoChallenge("this challenge is not open any more")
        if standing is not None and self._parts.rules.is_locked(standing):
            raise AccountLocked("too many failures in a row; staff must unlock this account")
        exhausted = challenge.attempts >= self._parts.rules.max_attempts
        if exhausted or challenge.state == Challenge.EXHAUSTED:
            left = (challenge.resend_at - now).total_seconds()
            raise TooManyAttempts(max(1, math.ceil(left)))
        if challenge.state == Challenge.EXPIRED or is_over(challenge, now):
            raise CodeExpired("the code has expired")
        if challenge.key_id not in self._parts.keyring:
            raise CodeExpired("the key of this code is gone")

    def _maker_of(self, challenge: Challenge, typed: str) -> Literal["us", "gateway"] | None:
        """Who made the code that was typed; None where it is neither's, and so wrong."""
        if challenge.own_sent and codes.same(typed, self._challenges.own_code(challenge)):
            return "us"
        sender = challenge.native_sender
        if sender is None:
            return None
        used = self._challenges.native_digest(challenge, typed)
        now = self._parts.clock()
        if self._parts.ledger.read(lambda session: is_used(session, used, now)):
            return None
        right = self._parts.delivery.check_native_code(sender, challenge.mobile, typed)
        return "gateway" if right else None

    def _note_wrong(self, challenge: Challenge, reservation: Reservation) -> None:
        """Close what has no guess left, and lock whom the streak is enough for."""

        def work(session: Session) -> None:
            standing = self._standing(session, challenge)
            if standing and not standing.locked_at and self._parts.rules.is_locked(standing):
                standing.locked_at = self._parts.clock()
            row = session.get(Challenge, challenge.id, with_for_update=True)
            if (
                row
                and row.state == Challenge.PENDING
                and row.attempts >= self._parts.rules.max_attempts
            ):
                row.state = Challenge.EXHAUSTED
                row.open_key = None

        self._parts.ledger.run(work)
        self._spending.announce(reservation)
        self._parts.emit(
            signals.verification_failed,
            user_id=challenge.user_id,
            mobile=mask(challenge.mobile),
            attempts_left=max(0, self._parts.rules.max_attempts - challenge.attempts),
        )

    def _untake_attempt(
        self, challenge: Challenge, claims: Sequence[Claim], reservation: Reservation
    ) -> None:
        """The question never left us, so it told nobody anything: the attempt is returned.

        Not so where a code of ours was compared first: with the gateway down, that would be a
        guess for nothing.
        """

        def work(session: Session) -> None:
            standing = self._standing(session, challenge)
            if standing and standing.failures:
                standing.failures -= 1
            row = session.get(Challenge, challenge.id, with_for_update=True)
            if row and row.attempts:
                row.attempts -= 1
            self._parts.budgets.put_back(self._parts.budgets.lock(session, claims), reservation)

        self._parts.ledger.run(work)

    def _consume(
        self,
        challenge: Challenge,
        native_code: str | None,
        reservation: Reservation,
        store: Callable[[Verification], None] | None,
    ) -> Verification | Proof:
        """The code was right: use the challenge up, once, and write what it proves."""
        holders = Claim("holders", challenge.mobile, ())
        pace_key = self._spending.pace_key(subject_of(challenge))
        returnable = Reservation.load(challenge.returnable)
        ids = {row for row, *_ in returnable.units + reservation.units}
        ids.add(self._parts.budgets.row_id("pace", pace_key))

        def work(session: Session) -> Proof | Granted | None:
            now = self._parts.clock()
            self._parts.budgets.lock(session, [holders])
            standing = self._standing(session, challenge)
            if standing is not None and standing.locked_at is not None:
                raise AccountLocked("the account was locked meanwhile")
            others = self._holding.other_proofs(
                session, challenge.mobile, challenge.user_id, now, lock=True
            )
            row = self._use_up(session, challenge, native_code, now)
            rows = self._parts.budgets.lock_ids(session, ids)
            # A send may have begun since `ids`; what it took of other rows just ages out.
            self._parts.budgets.put_back(rows, reservation)
            self._parts.budgets.put_back(rows, Reservation.load(row.returnable))
            row.returnable = "[]"
            self._parts.budgets.rest(rows, pace_key)
            if challenge.user_id is None:
                return Proof(row.mobile, row.purpose, row.id, now)
            if standing is not None:
                standing.failures = 0
            sender = row.native_sender if native_code is not None else _carrier(session, row.id)
            holding = self._holding.holders(others, gone, now)
            return self._holding.grant(
                session, challenge.user_id, row.mobile, row.channel, sender, now, holding
            )

        self._parts.budgets.prepare([holders], self._parts.clock())
        gone = self._holding.gone(challenge.mobile, challenge.user_id)
        try:
            proved = self._parts.ledger.run(work)
        except NoChallenge:
            # Right, but another request with the same code was faster: that is no failure.
            self._parts.budgets.give_back(reservation)
            raise
        if proved is None:
            raise MobileTaken("another account holds this mobile")
        if isinstance(proved, Granted):
            if store is not None:
                try:
                    store(proved.verification)
                except BaseException:
                    self._holding.take_back(proved)
                    raise
            self._holding.tell_others(proved, challenge.mobile)
        self._parts.emit(
            signals.mobile_verified,
            user_id=challenge.user_id,
            mobile=mask(challenge.mobile),
            channel=challenge.channel,
            purpose=challenge.purpose,
        )
        return proved.verification if isinstance(proved, Granted) else proved

    def _use_up(
        self, session: Session, challenge: Challenge, native_code: str | None, now: datetime
    ) -> Challenge:
        """Close a challenge whose code was right, so that no code of it is right again."""
        row = session.get(Challenge, challenge.id, with_for_update=True)
        # A wrong guess beside this right one may have used the attempts up; ours was taken before.
        if row is None or row.state not in (Challenge.PENDING, Challenge.EXHAUSTED):
            raise NoChallenge("this challenge is not open any more")
        if native_code is not None:
            digest = self._challenges.native_digest(challenge, native_code)
            if is_used(session, digest, now):
                raise NoChallenge("this code was used already")
            session.merge(UsedToken(digest=digest, until=now + self._parts.rules.code_lifetime))
        row.state = Challenge.VERIFIED
        row.open_key = None  # but not `native_key`: the gateway may take its other codes still
        return row


def _carrier(session: Session, challenge_id: str) -> str | None:
    """The sender that brought a challenge's last code of ours."""
    return session.scalars(
        select(Message.sender)
        .where(Message.challenge_id == challenge_id, Message.state != Message.FAILED)
        .order_by(Message.created_at.desc())
        .limit(1)
    ).one_or_none()
