"""What staff and the host do with an account's verification: vouch, revoke, unlock, erase."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import and_, delete, or_, select
from sqlalchemy.orm import Session

from .. import signals
from ..db.ledger import Ledger
from ..db.models import Attempt, Challenge, Incoming, Message, MobileChange, Streak, Verification
from ..errors import MobileTaken
from ..limits.keys import UsageKeys
from ..phone import mask
from ..settings import is_printable
from .host import Announcer, Users
from .native import NativeCodes
from .open_changes import is_proved
from .ownership import Granted, Origin, Ownership
from .rules import Rules
from .streaks import keep_streak

#: The longest name of a staff member that is stored.
_MAX_NAME = 191


class Accounts:
    """Changes an account's verification without a code."""

    def __init__(
        self,
        ledger: Ledger,
        rules: Rules,
        *,
        users: Users,
        ownership: Ownership,
        native: NativeCodes,
        keys: UsageKeys,
        announcer: Announcer,
    ) -> None:
        self._ledger = ledger
        self._rules = rules
        self._users = users
        self._ownership = ownership
        self._native = native
        self._keys = keys
        self._announcer = announcer

    def mark_verified(self, user: object, *, by: str) -> Verification:
        """Grant a verification for which a person vouches."""
        check_line("by", by, _MAX_NAME)
        user_id = self._users.id_of(user)
        mobile = self._users.valid_mobile_of(user)
        claimant = self._ownership.prepare(mobile, user_id)

        def work(session: Session, others: list[Verification]) -> Granted | None:
            now = self._ledger.clock()
            origin = Origin("staff", by)
            granted = self._ownership.prove(session, claimant, others, now, origin)
            if granted is not None:
                granted.verification.failures, granted.verification.locked_at = 0, None
            return granted

        granted = self._ownership.run(claimant, work)
        if granted is None:
            raise MobileTaken
        self._ownership.announce(granted)
        self._announcer.emit(
            signals.mobile_verified,
            user_id=user_id,
            mobile=mask(mobile),
            channel="staff",
            purpose="verify",
        )
        return granted.verification

    def revoke(self, user: object, *, by: str) -> None:
        """Revoke a verification and cancel the user's open challenges."""
        check_line("by", by, _MAX_NAME)

        def revoke(row: Verification, now: datetime) -> None:
            row.revoked_at = now
            row.settled_at = None  # the next proof counts as the account's first

        row = self._change(user, revoke, cancel_challenges=True)
        self._announcer.emit(signals.verification_revoked, user_id=row.user_id, by=by)

    def unlock(self, user: object) -> None:
        """Unlock an account that was locked after too many failures."""

        def unlock(row: Verification, _now: datetime) -> None:
            row.failures, row.locked_at = 0, None

        self._change(user, unlock)

    def unlock_mobile(self, mobile: str) -> None:
        """Unlock a mobile that is proved without an account, also for its owner's devices."""
        subjects = [self._keys.guesses(mobile, None, by_device=own) for own in (False, True)]
        self._ledger.run(
            lambda session: session.execute(delete(Streak).where(Streak.subject.in_(subjects)))
        )

    def _change(
        self,
        user: object,
        change: Callable[[Verification, datetime], None],
        *,
        cancel_challenges: bool = False,
    ) -> Verification:
        """Change the user's verification, under the account's lock."""
        user_id = self._users.id_of(user)

        def work(session: Session) -> Verification:
            now = self._ledger.clock()
            row = session.get(Verification, user_id)
            if row is None:
                row = Verification(user_id=user_id, failures=0, created_at=now)
                session.add(row)
            change(row, now)
            if cancel_challenges:
                pending = select(Challenge).where(
                    Challenge.user_id == user_id, Challenge.state == Challenge.PENDING
                )
                for challenge in session.scalars(pending):
                    challenge.close(Challenge.CANCELLED)
            return row

        return self._ownership.run_for_account(user_id, work)

    def forget(self, user: object) -> None:
        """Erase everything that is stored about a user, except usage, which holds digests only."""
        self.forget_id(self._users.id_of(user))

    def forget_id(self, user_id: str) -> None:
        """Erase everything that is stored about a user whom the host may have deleted."""

        def work(session: Session) -> None:
            row = session.get(Verification, user_id)
            # Rows without an account belong to this user if they are about the proved mobile.
            mobiles = {row.mobile} if row is not None and is_proved(row) else set()
            messages = or_(
                Message.user_id == user_id,
                and_(Message.user_id.is_(None), Message.recipient.in_(mobiles)),
            )
            challenges = or_(
                Challenge.user_id == user_id,
                and_(Challenge.user_id.is_(None), Challenge.mobile.in_(mobiles)),
            )
            # Locked in the order of all other transactions: challenges, messages, attempts.
            for model, condition in ((Challenge, challenges), (Message, messages)):
                locked = select(model.id).where(condition).order_by(model.id)
                session.execute(locked.with_for_update()).all()
            sent = select(Message.id).where(messages)
            session.execute(delete(Attempt).where(Attempt.message_id.in_(sent)))
            session.execute(delete(Message).where(messages))
            until = self._ledger.clock() + self._rules.code_lifetime
            for mobile, sender in session.execute(
                select(Challenge.mobile, Challenge.native_sender)
                .where(challenges, Challenge.native_sender.is_not(None))
                .distinct()
            ):
                self._native.hold(session, mobile, sender or "", until)
            session.execute(delete(Challenge).where(challenges))
            session.execute(delete(MobileChange).where(MobileChange.user_id == user_id))
            session.execute(delete(Incoming).where(Incoming.originator.in_(mobiles)))
            if row is not None:
                self._ownership.remember_forgotten(session, row, self._ledger.clock())
                keep_streak(session, self._keys.guesses("", user_id), row, self._ledger.clock())
                session.delete(row)

        self._ownership.run_for_account(user_id, work)


def check_line(parameter: str, value: object, max_length: int) -> None:
    """Refuse text that a database would truncate, refuse or store as empty.

    :raises ValueError: not one printable line of 1 to `max_length` characters.
    """
    if not (isinstance(value, str) and is_printable(value) and len(value) <= max_length):
        raise ValueError(f"{parameter} must be one line of 1 to {max_length} characters")
