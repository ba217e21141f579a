"""Claim a proof token: every step with which an account takes over a proof.

The token is used up and the verification granted in the host's own transaction, so a sign-up that
is rolled back leaves the token usable.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from .. import signals
from ..db.errors import is_violation
from ..db.ledger import Ledger
from ..db.locks import Locks
from ..db.models import UsedToken, Verification
from ..errors import AccountLocked, InvalidToken, MobileTaken
from ..phone import mask
from .host import Announcer, Users
from .native import is_token_used
from .ownership import Granted, Ownership
from .rules import Rules
from .tokens import ProofTokens, TokenContent

#: A used token is recorded at least this long, whatever `max_age` its claim allowed.
_MIN_RECORD = timedelta(days=1)


class TokenClaim:
    """Claims proof tokens."""

    def __init__(
        self,
        ledger: Ledger,
        locks: Locks,
        rules: Rules,
        tokens: ProofTokens,
        *,
        ownership: Ownership,
        users: Users,
        announcer: Announcer,
    ) -> None:
        self._ledger = ledger
        self._locks = locks
        self._rules = rules
        self._tokens = tokens
        self._ownership = ownership
        self._users = users
        self._announcer = announcer

    def claim(self, token: str, user: object, *, purpose: str, max_age: int) -> Verification:
        """Claim a token. `Verifier.claim` documents the parameters and errors."""
        content = self._tokens.load(token, purpose, max_age)
        prepared = self._ownership.prepare(content.mobile, None)
        [mobile_key] = self._ownership.lock_keys(content.mobile, None)
        self._locks.open_claim(mobile_key)
        connection = self._users.join_transaction(user, content.mobile)
        user_id = self._users.id_of(user)  # a new user has a key only now
        claimant = replace(prepared, user_id=user_id)
        keys = self._ownership.lock_keys(content.mobile, user_id)
        self._locks.open_claim(keys[-1])

        def work(session: Session) -> Granted | None:
            now = self._ledger.clock()
            self._refuse_used(session, content, now)
            for key in keys:
                self._locks.lock_claim(session, key)
            verification = self._locked_verification(session, user_id, now)
            if self._rules.is_locked(verification):
                raise AccountLocked
            if verification.revoked_at is not None and verification.revoked_at >= content.proved_at:
                raise InvalidToken("the user's verification was revoked after this proof")
            granted = self._ownership.prove_in_host_transaction(
                session,
                claimant,
                now,
                challenge_id=content.challenge_id,
                proved_at=content.proved_at,
            )
            if granted is not None:
                self._use_up(session, content, now, max_age)
            return granted

        granted = self._ledger.run_in(connection, work)
        if granted is None:
            raise MobileTaken
        self._write_mobile(user, content.mobile)
        self._users.after_commit(lambda: self._announce(granted, user_id, purpose))
        return granted.verification

    def _refuse_used(self, session: Session, content: TokenContent, now: datetime) -> None:
        if any(is_token_used(session, digest, now) for digest in content.digests):
            raise InvalidToken("this proof token was used before")

    def _use_up(self, session: Session, content: TokenContent, now: datetime, max_age: int) -> None:
        """Record the token under every key, for servers that do not have the newest one yet."""
        until = now + max(timedelta(seconds=max_age), _MIN_RECORD)
        for digest in content.digests:
            values = {"digest": digest, "until": until}
            if not self._ledger.insert_if_absent(session, UsedToken, values):
                raise InvalidToken("this proof token was used before")

    def _locked_verification(self, session: Session, user_id: str, now: datetime) -> Verification:
        """Return the user's verification, locked, creating it if needed.

        It is created before it is locked: at REPEATABLE READ, MariaDB locks the gap of a missing
        row, and two sign-ups would block each other.
        """
        if session.get(Verification, user_id) is None:
            self._ledger.insert_if_absent(
                session, Verification, {"user_id": user_id, "failures": 0, "created_at": now}
            )
        # A plain read may return the snapshot of the host transaction's first query.
        return session.get_one(Verification, user_id, with_for_update=True, populate_existing=True)

    def _write_mobile(self, user: object, mobile: str) -> None:
        self._users.write_mobile(user, mobile)
        try:
            self._users.flush()
        except DBAPIError as error:
            if not is_violation(error):
                raise
            raise MobileTaken("another user has this mobile") from None

    def _announce(self, granted: Granted, user_id: str, purpose: str) -> None:
        self._ownership.announce(granted)
        self._announcer.emit(
            signals.mobile_verified,
            user_id=user_id,
            mobile=mask(granted.mobile),
            channel=granted.verification.channel,
            purpose=purpose,
        )
