"""Native codes: which challenge may use a gateway's codes, and that each is accepted once.

A native gateway checks a code by mobile alone. It has no purposes and may accept a code twice. So
the native codes of one sender for one mobile belong to one challenge until they have expired, and a
digest of every accepted code is kept for the same time.
"""

from __future__ import annotations

from datetime import datetime
from typing import cast

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ..db.ledger import Ledger
from ..db.models import Attempt, Challenge, Message, NativeHold, UsedToken
from ..keyring import Keyring
from .challenges import lock_challenge
from .rules import Rules


class NativeCodes:
    """Assigns native codes to challenges."""

    def __init__(self, ledger: Ledger, keyring: Keyring, rules: Rules) -> None:
        self._ledger = ledger
        self._keyring = keyring
        self._rules = rules

    # --- sending -------------------------------------------------------------------------------

    def assign(self, session: Session, challenge: Challenge, sender: str) -> bool:
        """Assign the sender's native codes for this mobile to a locked challenge.

        :returns: whether the challenge may use them.
        """
        if challenge.native_sender is not None:
            return False
        key = self._keyring.digest("native", sender, challenge.mobile)
        holder = session.scalars(
            select(Challenge).where(Challenge.native_key == key).with_for_update()
        ).one_or_none()
        if holder is not None:
            if not self._may_follow(session, holder, challenge):
                return False
            holder.native_key = holder.id
            session.flush()
        elif self._may_be_accepted_elsewhere(session, challenge, sender):
            return False
        challenge.native_sender = sender
        challenge.native_key = key
        return True

    def release(self, challenge_id: str, sender: str) -> None:
        """Undo an assignment after the gateway certainly sent nothing."""

        def work(session: Session) -> None:
            row = lock_challenge(session, challenge_id)
            if row.native_sender == sender:
                row.native_sender, row.native_key = None, row.id

        self._ledger.run(work)

    def hold(self, session: Session, mobile: str, sender: str, until: datetime) -> None:
        """Record that the sender may accept codes for this mobile until `until`.

        Called before the challenge that they belong to is erased.
        """
        session.merge(NativeHold(digest=self._hold_digest(mobile, sender), until=until))

    def _may_follow(self, session: Session, holder: Challenge, challenge: Challenge) -> bool:
        """Return whether a challenge may take over the native codes of another one.

        A challenge of the same user and purpose can take over those of a closed one at once. Any
        other challenge can do so once the last code has expired: until then the gateway accepts it.
        """
        now = self._ledger.clock()
        closed = holder.state != Challenge.PENDING  # an expired one was closed by the next one
        owner = (holder.user_id, holder.purpose)
        if closed and holder.user_id and owner == (challenge.user_id, challenge.purpose):
            return True
        last_sent = session.scalar(
            select(func.max(Attempt.created_at))
            .join(Message, Message.id == Attempt.message_id)
            .where(Message.challenge_id == holder.id, Attempt.native)
        )
        return last_sent is None or now >= last_sent + self._rules.code_lifetime

    def _may_be_accepted_elsewhere(
        self, session: Session, challenge: Challenge, sender: str
    ) -> bool:
        """Return whether the gateway may still accept a code that belonged to another challenge.

        That challenge was superseded by one whose send failed, or it was erased.
        """
        now = self._ledger.clock()
        held = session.get(NativeHold, self._hold_digest(challenge.mobile, sender))
        if held is not None and held.until > now:
            return True
        sent_for = session.execute(
            select(Challenge.user_id, Challenge.purpose)
            .join(Message, Message.challenge_id == Challenge.id)
            .join(Attempt, Attempt.message_id == Message.id)
            .where(Message.recipient == challenge.mobile)
            .where(Attempt.sender == sender, Attempt.native, Attempt.state != Attempt.FAILED)
            .where(Attempt.created_at > now - self._rules.code_lifetime)
            .where(Challenge.id != challenge.id)
        )
        owner = (challenge.user_id, challenge.purpose)
        return any(user_id is None or (user_id, purpose) != owner for user_id, purpose in sent_for)

    def _hold_digest(self, mobile: str, sender: str) -> str:
        return self._keyring.digest("native hold", sender, mobile)

    # --- checking ------------------------------------------------------------------------------

    def is_accepted(self, session: Session, challenge: Challenge, code: str) -> bool:
        """Return whether this native code was accepted before."""
        digest = self._accepted_digest(challenge, code)
        return is_token_used(session, digest, self._ledger.clock())

    def accept(self, session: Session, challenge: Challenge, code: str, now: datetime) -> bool:
        """Record that a native code was accepted; return False if it was accepted before."""
        digest = self._accepted_digest(challenge, code)
        if is_token_used(session, digest, now):
            return False
        session.merge(UsedToken(digest=digest, until=now + self._rules.code_lifetime))
        return True

    def _accepted_digest(self, challenge: Challenge, code: str) -> str:
        sender = cast(str, challenge.native_sender)
        # Gateways that parse codes as numbers accept `01234` for `1234`.
        return self._keyring.digest("native code", sender, challenge.mobile, code.lstrip("0"))


def is_token_used(session: Session, digest: str, now: datetime) -> bool:
    """Return whether a token or native code with this digest was used."""
    row = session.get(UsedToken, digest)
    return row is not None and row.until > now
