"""Check a code: every step of a guess, from the input to the proof.

`CodeChecker.check` reads from top to bottom. One transaction locks, reads everything in one SELECT,
compares an own code, and writes either the failure or the proof. The result is returned only after
the commit, so a guess that a crash rolls back has revealed nothing. A native code is compared by
its gateway: the guess is committed before, and the verdict in a second transaction. `ownership`
grants the verification.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from sqlalchemy import bindparam, func, select, true
from sqlalchemy.orm import Session, aliased

from .. import signals
from ..db.ledger import Ledger
from ..db.locks import SITE_GUESSES, Held, Locks, claim_id, claimed
from ..db.models import Challenge, Streak, Verification
from ..db.prepared import PreparedSelect, RowValues, constant, one_row
from ..db.rows import from_row, labelled, write
from ..db.types import to_ms
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
from ..limits.addresses import parse_address
from ..limits.guesses import GuessKeys, GuessLog
from ..limits.keys import UsageKeys
from ..limits.sends import SendLog
from ..limits.usage_log import Counts, Overrun, Reached, Recorded, longest
from ..phone import mask
from . import codes
from .alerts import LimitAlerts
from .challenges import Challenges, is_expired, is_void, last_carrier
from .host import Announcer, Users
from .native import NativeCodes
from .open_changes import has_changed_number, has_proved
from .ownership import Claimant, Granted, Origin, Ownership, ReadAccount, forgotten_until
from .rules import CLOCK_SKEW, NEW_NUMBER, OLD_NUMBER, Rules
from .streaks import new_verification
from .user_rows import OnRead, UserRows

T = TypeVar("T")


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
class GuessSubject:
    """The subject of a guess, as far as it is known before the transaction.

    :param challenge_id: None for the user's latest challenge for the purpose.
    :param user_mobile: the user's mobile in the host.
    :param mobile: the expected mobile of the challenge, which is locked.
    :param by_device: the expected `Challenge.by_device`.
    :param ip: the address of the request.
    :param claimant: the host's data about other accounts with the mobile; None if it was not read.
    :param on_read: called with what was read about the account; None calls nothing.
    """

    challenge_id: str | None
    user_id: str | None
    user_mobile: str | None = field(repr=False)
    mobile: str = field(repr=False)
    purpose: str
    by_device: bool = False
    ip: str | None = None
    claimant: Claimant | None = field(default=None, repr=False)
    on_read: OnRead | None = field(default=None, repr=False)


@dataclass(slots=True)
class Guess:
    """A guess within its transaction.

    :param now: when the transaction had its locks.
    :param keys: what it counts against.
    :param verification: the account's verification; None without one.
    :param streak: the row that counts the failures if there is no account.
    :param row: the limits, and everything else that was read with them.
    """

    session: Session = field(repr=False)
    subject: GuessSubject
    challenge: Challenge
    typed: str = field(repr=False)
    now: datetime
    keys: GuessKeys
    verification: Verification | None
    streak: Streak | None
    row: RowValues = field(repr=False)

    @property
    def counted(self) -> Verification | Streak | None:
        """The row that counts the failures in a row; None if there is none yet."""
        return self.verification if self.challenge.user_id is not None else self.streak

    @property
    def number(self) -> int | None:
        """The key of the mobile; None without an account, and if the account has proved it.

        The failures of others must not refuse its guesses.
        """
        is_known = has_proved(self.verification, self.challenge.mobile)
        return None if is_known else self.keys.number

    def write(self) -> None:
        """Write what has changed in the rows of this guess."""
        rows = (self.challenge, self.verification, self.streak)
        write(self.session, *(row for row in rows if row is not None))

    def uncount_failure(self) -> None:
        """Remove this guess from the failures in a row, unless a proof has ended them meanwhile."""
        if self.counted is not None and self.counted.failures:
            self.counted.failures -= 1


@dataclass(frozen=True, slots=True)
class Wrong:
    """A wrong code was counted."""

    challenge: Challenge
    recorded: Recorded


@dataclass(frozen=True, slots=True)
class Asked:
    """A guess was counted that the gateway is to compare."""

    challenge: Challenge
    typed: str = field(repr=False)
    subject: GuessSubject
    recorded: Recorded


@dataclass(frozen=True, slots=True)
class Proved:
    """A right code was used up.

    :param proof: None if other accounts hold the mobile.
    """

    challenge: Challenge
    proof: Proof | Granted | None


class _OtherKeys(Exception):
    """The challenge is about a mobile other than the locked one, or counts otherwise."""

    def __init__(self, challenge: Challenge) -> None:
        super().__init__("the guess has other keys")
        self.challenge = challenge


class _HoldersUnknown(Exception):
    """Other accounts hold the mobile. The host's users must be read before the transaction."""


class CodeChecker:
    """Checks codes."""

    def __init__(
        self,
        ledger: Ledger,
        locks: Locks,
        rules: Rules,
        challenges: Challenges,
        *,
        keys: UsageKeys,
        guesses: GuessLog,
        sends: SendLog,
        alerts: LimitAlerts,
        native: NativeCodes,
        ownership: Ownership,
        users: Users,
        delivery: Delivery,
        announcer: Announcer,
    ) -> None:
        self._ledger = ledger
        self._locks = locks
        self._rules = rules
        self._challenges = challenges
        self._keys = keys
        self._guesses = guesses
        self._sends = sends
        self._alerts = alerts
        self._native = native
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
        on_read: OnRead | None = None,
    ) -> Verification | Proof:
        """Check a code. `Verifier.check` documents the parameters and errors.

        :param on_read: called with what was read about the account, before the code is compared.
        """
        subject = replace(self._subject(challenge_or_user, purpose, ip), on_read=on_read)
        outcome = self._in_transaction(subject, code, self._compare)
        if isinstance(outcome, Asked):
            outcome = self._ask_gateway(outcome)
        if isinstance(outcome, Wrong):
            self._announce_wrong(outcome)
            raise WrongCode(self._attempts_left(outcome.challenge))
        return self._announce(outcome, store)

    # --- 1: find the challenge, and refuse a closed one -------------------------------------------

    def _subject(self, challenge_or_user: object, purpose: str, ip: str | None) -> GuessSubject:
        """Return what is known without the ledger. The host is called before a lock is held."""
        if isinstance(challenge_or_user, Challenge):
            challenge = challenge_or_user
            own = None
            if challenge.user_id is not None:
                user = self._users.find(challenge.user_id)
                own = self._users.mobile_of(user) if user is not None else None
            return GuessSubject(
                challenge.id,
                challenge.user_id,
                own,
                challenge.mobile,
                challenge.purpose,
                challenge.by_device,
                ip,
            )
        user_id = self._users.id_of(challenge_or_user)
        own = self._users.mobile_of(challenge_or_user)
        return GuessSubject(None, user_id, own, own or "", purpose, ip=ip)

    def _in_transaction(
        self,
        subject: GuessSubject,
        code: object,
        work: Callable[[Guess], T],
        *,
        is_counted: bool = False,
    ) -> T:
        """Run a function in a transaction that holds the locks of the guess.

        It starts again if the challenge is about a mobile other than the expected one, and if the
        host has to be asked about other holders of the mobile.

        :param is_counted: whether the guess was counted in an earlier transaction.
        """
        while True:
            try:
                return self._in_one_transaction(subject, code, work, is_counted=is_counted)
            except _OtherKeys as found:
                challenge = found.challenge
                subject = replace(subject, mobile=challenge.mobile, by_device=challenge.by_device)
            except _HoldersUnknown:
                claimant = self._ownership.prepare(subject.mobile, subject.user_id)
                subject = replace(subject, claimant=claimant)

    def _in_one_transaction(
        self, subject: GuessSubject, code: object, work: Callable[[Guess], T], *, is_counted: bool
    ) -> T:
        keys = self._keys.for_guess(subject.mobile, subject.user_id, by_device=subject.by_device)

        def guess_under_locks(session: Session, held: Held) -> T:
            guess = self._read(session, held, subject, code, keys)
            if not is_counted:
                self._refuse_closed(guess)
            outcome = work(guess)
            guess.write()
            return outcome

        return self._locks.run(keys.locks, guess_under_locks)

    def _read(
        self,
        session: Session,
        held: Held,
        subject: GuessSubject,
        code: object,
        keys: GuessKeys,
    ) -> Guess:
        """Read everything that the guess depends on."""
        now = self._ledger.clock()
        has_account, by_id = subject.user_id is not None, subject.challenge_id is not None
        reads_user = subject.on_read is not None
        statement = self._guesses.statement(
            ("guess", has_account, by_id, reads_user),
            lambda: _build_statement(
                self._guesses.counts_of_account if has_account else self._guesses.counts,
                has_account=has_account,
                by_id=by_id,
                reads_user=reads_user,
            ),
        )
        parameters = {
            "now": to_ms(now),
            "subject": keys.subject,
            "number": keys.number,
            "challenge_id": subject.challenge_id,
            "user_id": subject.user_id,
            "purpose": subject.purpose,
            "created_before": now + CLOCK_SKEW,
            "holder_mobile": subject.mobile,
            "mobile_claim": claim_id(keys.mobile),
            "account_claim": claim_id(keys.guesses),
        }
        if subject.user_id is not None:
            parameters["forgotten"] = self._ownership.forgotten_digest(subject.user_id)
            if reads_user:
                parameters["open_change"] = self._challenges.open_change_key(subject.user_id)
        row = statement.one(session, parameters)
        held.require(row["mobile_claim"], row["account_claim"])
        challenge = from_row(Challenge, row, "challenge_")
        if challenge is None:
            raise NoChallenge("no code was sent")
        if (challenge.mobile, challenge.by_device) != (subject.mobile, subject.by_device):
            raise _OtherKeys(challenge)
        verification = from_row(Verification, row, "verification_")
        if subject.on_read is not None:
            subject.on_read(UserRows(verification, challenge, row["has_changed_number"], now))
        typed = codes.parse_code(code, self._lengths(challenge))
        return Guess(
            session,
            subject,
            challenge,
            typed,
            now,
            keys,
            verification,
            from_row(Streak, row, "streak_"),
            row,
        )

    def _lengths(self, challenge: Challenge) -> range:
        if challenge.native_sender is not None:
            return codes.NATIVE_LENGTHS
        return range(challenge.code_length, challenge.code_length + 1)

    def _refuse_closed(self, guess: Guess) -> None:
        """Raise the reason why a challenge allows no more guesses."""
        challenge, now = guess.challenge, guess.now
        if is_void(challenge, guess.subject.user_mobile):
            raise CodeExpired("the user's mobile changed after the code was sent")
        if challenge.state in (Challenge.VERIFIED, Challenge.SUPERSEDED, Challenge.CANCELLED):
            raise NoChallenge("the challenge is no longer open")
        counted = guess.verification or guess.streak
        if counted is not None and self._rules.is_locked(counted):
            raise AccountLocked
        exhausted = challenge.attempts >= self._rules.max_attempts
        if exhausted or challenge.state == Challenge.EXHAUSTED:
            cooldown = math.ceil((challenge.resend_at - now).total_seconds())
            raise TooManyAttempts(max(1, cooldown, self._wait_for_next(guess)))
        if challenge.state == Challenge.EXPIRED or is_expired(challenge, now):
            raise CodeExpired
        if not self._challenges.has_key(challenge):
            raise CodeExpired("the key of this code is no longer configured")

    # --- 2: compare, and write the failure or the proof -------------------------------------------

    def _compare(self, guess: Guess) -> Wrong | Asked | Proved:
        """Compare an own code, and write the result.

        :raises TooManyAttempts: a limit is used up. Then nothing is revealed: a wrong code beyond
            the site's limit is compared, but not counted and not answered.
        """
        challenge = guess.challenge
        is_first = challenge.attempts == 0
        self._refuse_used_up(self._overruns(guess, is_first=is_first))
        # The right code is not a local variable: error collectors show those of every frame.
        if challenge.own_sent and codes.is_same_code(
            guess.typed, self._challenges.own_code(challenge)
        ):
            challenge.attempts += 1
            return self._accept(guess, is_native=False)
        is_asked = challenge.native_sender is not None and not self._native.is_accepted(
            guess.session, challenge, guess.typed
        )
        recorded = self._count(guess)
        if is_asked:
            subject = replace(guess.subject, challenge_id=challenge.id, claimant=None, on_read=None)
            return Asked(challenge, guess.typed, subject, recorded)
        self._close_exhausted(guess)
        return Wrong(challenge, recorded)

    def _overruns(self, guess: Guess, *, is_first: bool) -> list[Overrun]:
        return self._guesses.overruns(
            guess.session,
            guess.row,
            guess.keys.subject,
            to_ms(guess.now),
            number=guess.number,
            is_first=is_first,
        )

    def _wait_for_next(self, guess: Guess) -> int:
        """Return whole seconds until there is a guess for the next code; 0 if there is one now."""
        wait = longest(self._overruns(guess, is_first=True))
        if wait and guess.challenge.by_device:  # then the device may count like any other
            others = self._guesses.wait_of(guess.session, guess.keys.guesses, to_ms(guess.now))
            wait = min(wait, others)
        return wait

    def _refuse_used_up(self, overruns: list[Overrun]) -> None:
        if overruns:
            raise TooManyAttempts(longest(overruns))

    def _count(self, guess: Guess) -> Recorded:
        """Count a guess against challenge, account and limits."""
        session, challenge, now_ms = guess.session, guess.challenge, to_ms(guess.now)
        is_first = challenge.attempts == 0
        challenge.attempts += 1
        self._counted(guess).failures += 1
        guess.write()  # the rows of this user, before the row that all guesses share
        self._locks.lock_site(session, SITE_GUESSES)
        site = self._guesses.read_site(session, now_ms)
        if not is_first:
            self._refuse_used_up(self._guesses.site_overruns(session, site, now_ms))
        address = parse_address(guess.subject.ip)
        keys = self._keys.of_address(address) if address else {}
        return self._guesses.record(
            session,
            site,
            now_ms,
            subject=guess.keys.subject,
            number=guess.number,
            ip=keys.get("ip"),
            network=keys.get("network"),
        )

    def _counted(self, guess: Guess) -> Verification | Streak:
        """Return the row that counts the failures in a row, creating it if needed."""
        user_id = guess.challenge.user_id
        if user_id is not None:
            if guess.verification is None:
                guess.verification = new_verification(user_id, guess.streak, guess.now)
            return guess.verification
        if guess.streak is None:
            guess.streak = Streak(subject=guess.keys.subject, failures=0)
        guess.streak.updated_at = guess.now
        return guess.streak

    def _close_exhausted(self, guess: Guess) -> None:
        """Close an exhausted challenge, and lock an account after too many failures."""
        counted = guess.counted
        if counted is not None and not counted.locked_at and self._rules.is_locked(counted):
            counted.locked_at = guess.now
        is_exhausted = guess.challenge.attempts >= self._rules.max_attempts
        if guess.challenge.state == Challenge.PENDING and is_exhausted:
            guess.challenge.close(Challenge.EXHAUSTED)

    def _attempts_left(self, challenge: Challenge) -> int:
        return max(0, self._rules.max_attempts - challenge.attempts)

    def _accept(self, guess: Guess, *, is_native: bool) -> Proved:
        """Use the challenge up and write the proof."""
        session, challenge, now = guess.session, guess.challenge, guess.now
        claimant = guess.subject.claimant
        is_step = challenge.user_id is None or challenge.purpose in (NEW_NUMBER, OLD_NUMBER)
        others: list[Verification] = []
        if not is_step and guess.row["other_holders"]:
            if claimant is None:
                raise _HoldersUnknown
            others = self._ownership.other_proofs(session, claimant, now)
        if is_native and not self._native.accept(session, challenge, guess.typed, now):
            raise NoChallenge("the code was used before")
        # `native_key` stays: the gateway may still accept the challenge's other codes.
        challenge.close(Challenge.VERIFIED)
        cooldown = self._keys.cooldown(challenge.mobile, challenge.user_id, challenge.purpose)
        self._sends.weigh_proved(session, challenge.id, cooldown)
        # A number that was never the account's does not end its streak of failures.
        if guess.verification is not None and challenge.purpose != NEW_NUMBER:
            guess.verification.failures = 0
        if guess.streak is not None and challenge.user_id is None:
            guess.streak.failures = 0
        if is_step:
            return Proved(challenge, Proof(challenge.mobile, challenge.purpose, challenge.id, now))
        assert challenge.user_id is not None  # noqa: S101 -- for the type checker; it is no step
        if guess.verification is None:
            guess.verification = new_verification(challenge.user_id, None, now)
        sender = challenge.native_sender if is_native else guess.row["carrier"]
        granted = self._ownership.prove(
            session,
            claimant or Claimant(challenge.mobile, challenge.user_id, frozenset()),
            others,
            now,
            Origin(challenge.channel, sender),
            account=ReadAccount(guess.verification, guess.row["forgotten_until"]),
        )
        return Proved(challenge, granted)

    # --- 3: let the gateway compare a native code -------------------------------------------------

    def _ask_gateway(self, asked: Asked) -> Wrong | Proved:
        """Ask for the gateway's verdict, and write it.

        :raises CheckFailed: there is none.
        """
        challenge = asked.challenge
        try:
            is_right = self._delivery.check_native_code(
                challenge.native_sender or "", challenge.mobile, asked.typed
            )
        except SenderError as error:
            self._without_verdict(asked, error)
            raise CheckFailed(error) from error

        reached: list[Reached] = []

        def write(guess: Guess) -> Wrong | Proved:
            nonlocal reached
            if not is_right:
                self._close_exhausted(guess)
                return Wrong(guess.challenge, asked.recorded)
            if guess.verification is not None and guess.verification.locked_at is not None:
                raise AccountLocked("the account was locked meanwhile")
            # A concurrent wrong guess may have used up the attempts; this one was counted before.
            if guess.challenge.state not in (Challenge.PENDING, Challenge.EXHAUSTED):
                raise NoChallenge("the challenge is no longer open")
            if challenge.purpose == NEW_NUMBER:  # the streak stays, without this guess
                guess.uncount_failure()
            proved = self._accept(guess, is_native=True)
            guess.write()
            reached = self._refund(guess.session, asked)
            return proved

        try:
            return self._in_transaction(asked.subject, asked.typed, write, is_counted=True)
        except NoChallenge:
            # A concurrent request with the same right code was faster, which is not a failure.
            if is_right:
                reached = self._ledger.run(lambda session: self._refund(session, asked))
            raise
        finally:
            self._alerts.report(reached)

    def _refund(self, session: Session, asked: Asked) -> list[Reached]:
        """Stop counting a guess against the limits, and return what must be reported.

        It may lock the row that all guesses share, so the rows of the user must be written before.
        """
        if asked.recorded.reached:
            self._locks.lock_site(session, SITE_GUESSES)
        return self._guesses.refund(session, asked.recorded, to_ms(self._ledger.clock()))

    def _without_verdict(self, asked: Asked, error: SenderError) -> None:
        """Refund the guess if it revealed nothing.

        It revealed something if the gateway may have received it, or if an own code was compared:
        while the gateway is down, that would be a free guess.
        """
        if error.written or asked.challenge.own_sent:
            self._alerts.report(asked.recorded.reached)
            return

        def refund(guess: Guess) -> list[Reached]:
            guess.challenge.attempts -= 1
            guess.uncount_failure()
            guess.write()
            return self._refund(guess.session, asked)

        reached = self._in_transaction(asked.subject, asked.typed, refund, is_counted=True)
        self._alerts.report(reached)

    # --- 4: announce the result -------------------------------------------------------------------

    def _announce_wrong(self, wrong: Wrong) -> None:
        self._alerts.report(wrong.recorded.reached)
        self._announcer.emit(
            signals.verification_failed,
            user_id=wrong.challenge.user_id,
            mobile=mask(wrong.challenge.mobile),
            attempts_left=self._attempts_left(wrong.challenge),
        )

    def _announce(
        self, proved: Proved, store: Callable[[Verification], None] | None
    ) -> Verification | Proof:
        """Let the host store the mobile, and announce the proof."""
        challenge, proof = proved.challenge, proved.proof
        if proof is None:
            raise MobileTaken
        if isinstance(proof, Granted):
            self._store(proof, store)
            self._ownership.announce(proof)
        elif challenge.user_id is not None:
            return proof  # a step of a change, which announces itself when it is applied
        self._announcer.emit(
            signals.mobile_verified,
            user_id=challenge.user_id,
            mobile=mask(challenge.mobile),
            channel=challenge.channel,
            purpose=challenge.purpose,
        )
        return proof.verification if isinstance(proof, Granted) else proof

    def _store(self, granted: Granted, store: Callable[[Verification], None] | None) -> None:
        """Let the host store the mobile; undo the proof if it fails."""
        if store is None:
            return
        try:
            store(granted.verification)
        except BaseException:
            self._ownership.undo(granted)
            raise


def _build_statement(
    counts: Counts, *, has_account: bool, by_id: bool, reads_user: bool
) -> PreparedSelect:
    """Return the SELECT of everything that a guess depends on.

    Without an account `user_id` is NULL, which equals nothing, so there is no verification.

    :param reads_user: whether it selects what `UserRows` needs as well.
    """
    if by_id:
        is_challenge = Challenge.id == bindparam("challenge_id")
    else:
        latest = (
            select(Challenge.id)
            .where(Challenge.user_id == bindparam("user_id"))
            .where(Challenge.purpose == bindparam("purpose"))
            .where(Challenge.created_at <= bindparam("created_before"))
            .order_by(Challenge.created_at.desc())
            .limit(constant(1))
            .scalar_subquery()
        )
        is_challenge = Challenge.id == latest
    other = aliased(Verification)
    others = (
        select(func.count())
        .where(other.mobile == bindparam("holder_mobile"))
        .where(other.verified_at.is_not(None), other.revoked_at.is_(None))
        .where(func.coalesce(other.user_id != bindparam("user_id"), true()))
        .scalar_subquery()
    )
    statement = select(
        *counts,
        others.label("other_holders"),
        last_carrier().label("carrier"),
        claimed("mobile_claim").label("mobile_claim"),
        claimed("account_claim").label("account_claim"),
        *([forgotten_until("forgotten").label("forgotten_until")] if has_account else []),
        *([has_changed_number().label("has_changed_number")] if reads_user else []),
        *labelled(Challenge, "challenge_"),
        *labelled(Verification, "verification_"),
        *labelled(Streak, "streak_"),
    ).select_from(
        one_row()
        .outerjoin(Challenge, is_challenge)
        .outerjoin(Verification, Verification.user_id == bindparam("user_id"))
        .outerjoin(Streak, Streak.subject == bindparam("subject"))
    )
    return PreparedSelect(statement)
