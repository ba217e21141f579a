"""Sign in with a mobile: every step from the number to the account.

The code is sent and checked like that of any number without an account, so that nothing depends on
whether an account exists until the right code is entered. Then the account is looked up or created,
and gets the verification in the host's own transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from .. import signals
from ..db.ledger import Ledger
from ..db.locks import Locks
from ..db.models import Challenge, Verification
from ..errors import NoAccount, StoreUnavailable
from ..limits.other_counts import Charge
from ..phone import mask
from ..senders.base import Channel
from .check import Proof
from .host import Announcer
from .ownership import Ownership
from .verifier import Verifier

#: The purpose of the challenges and proof tokens of a sign-in.
SIGN_IN = "sign_in"

#: How often the account is looked up: once, and again each time a concurrent sign-up gets the
#: mobile.
_MAX_TRIES = 5


class SignInUsers(Protocol):
    """The accounts that a sign-in finds and creates. Implemented for the host's user model."""

    @property
    def custom_look_up(self) -> Callable[[str], object | None] | None:
        """The host's look-up `(mobile) -> user or None`; None for the default one."""

    @property
    def can_create(self) -> bool:
        """Whether the host creates accounts for new mobiles."""

    def find(self, user_id: str) -> object | None:
        """Return the user with this key."""

    def id_of(self, user: object) -> str:
        """Return the primary key as text."""

    def mobile_of(self, user: object) -> str | None:
        """Return the user's mobile in E.164; None if it is missing or invalid."""

    def may_log_in(self, user: object) -> bool:
        """Return whether the host lets the user log in."""

    def create(self, mobile: str) -> object:
        """Return a new account, added to the host's session.

        :raises MobileTaken: the host's table has the mobile for another user.
        """

    def begin_transaction(self) -> Connection:
        """Begin a new transaction of the host's session, and return its connection."""

    def commit(self) -> None:
        """Commit the host's session.

        :raises StoreUnavailable: the host's database did not take the write.
        """

    def rollback(self) -> None:
        """Roll the host's session back."""


@dataclass(frozen=True, slots=True)
class Account:
    """The account of a mobile that was proved.

    :param is_new: whether it was created for this proof.
    """

    user: object
    is_new: bool


class SignIn:
    """Sends and checks the codes of sign-ins, and finds or creates the accounts.

    :param may_sign_up: `SMSVERIFY_SIGN_UP`; None if it depends on whether there is a factory.
    """

    def __init__(
        self,
        ledger: Ledger,
        locks: Locks,
        verifier: Verifier,
        ownership: Ownership,
        *,
        users: SignInUsers,
        announcer: Announcer,
        may_sign_up: bool | None,
    ) -> None:
        self._ledger = ledger
        self._locks = locks
        self._verifier = verifier
        self._ownership = ownership
        self._users = users
        self._announcer = announcer
        self._may_sign_up = may_sign_up

    # --- the code -------------------------------------------------------------------------------

    def start(
        self,
        mobile: str,
        *,
        channel: Channel,
        ip: str | None,
        device: str | None,
        charges: tuple[Charge, ...] = (),
    ) -> Challenge:
        """Send a new code to a mobile. `Verifier.start_for` documents parameters and errors."""
        return self._verifier.start_charged(
            mobile, charges, purpose=SIGN_IN, channel=channel, ip=ip, device=device
        )

    def resend(
        self, challenge: Challenge, *, channel: Channel, ip: str | None, device: str | None
    ) -> Challenge:
        """Send the code of an open challenge again.

        :raises NoChallenge: it cannot be sent again, so a new code must be sent by `start`.
        :raises: what `start` raises, except `SendRefused`.
        """
        return self._verifier.resend(
            challenge, channel=channel, ip=ip, device=device, may_replace=False
        )

    def check(self, challenge: Challenge, code: object, *, ip: str | None) -> Proof:
        """Check a code. `Verifier.check` documents the errors."""
        proof = self._verifier.check(challenge, code, ip=ip)
        if not isinstance(proof, Proof):
            raise TypeError("the challenge of a sign-in has no account")
        return proof

    # --- the account ----------------------------------------------------------------------------

    @property
    def can_sign_up(self) -> bool:
        """Whether a mobile without an account may get one."""
        return self._users.can_create if self._may_sign_up is None else self._may_sign_up

    def find(self, mobile: str) -> object | None:
        """Return the account of a mobile; None without one.

        By default it is the account that proved the mobile last, unless that proof was revoked or
        the account now has another mobile. A mobile that nobody has proved never matches: anybody
        could have entered it.

        :param mobile: E.164.
        """
        if self._users.custom_look_up is not None:
            return self._users.custom_look_up(mobile)
        last = self._ledger.read(
            lambda session: session.scalars(
                select(Verification)
                .where(Verification.mobile == mobile, Verification.verified_at.is_not(None))
                .order_by(Verification.verified_at.desc(), Verification.granted_at.desc())
                .limit(1)
            ).one_or_none()
        )
        if last is None or last.revoked_at is not None:
            return None
        user = self._users.find(last.user_id)
        return user if user is not None and self._users.mobile_of(user) == mobile else None

    def has_account(self, proof: Proof) -> bool:
        """Return whether the mobile of a proof has an account."""
        return self.find(proof.mobile) is not None

    def enter(self, proof: Proof) -> Account:
        """Find or create the account of a proof, give it the verification, and commit.

        Concurrent first sign-ups of one mobile create one account.

        :raises NoAccount: the mobile has no account and may not sign up, or the host does not let
            the account log in.
        :raises MobileTaken: other accounts hold the mobile, or the host's table has it already.
        :raises AccountLocked: staff must unlock the account.
        :raises StoreUnavailable: the database did not take the write.
        """
        for _ in range(_MAX_TRIES):
            try:
                account = self._try_to_enter(proof)
            except BaseException:
                self._users.rollback()
                raise
            if account is not None:
                return account
            self._users.rollback()
        raise StoreUnavailable("concurrent sign-ups of one mobile did not end")

    def _try_to_enter(self, proof: Proof) -> Account | None:
        """Return the account; None if a concurrent sign-up got the mobile first."""
        mobile = proof.mobile
        before = self._holders(mobile)
        connection = self._users.begin_transaction()
        user = self.find(mobile)
        is_new = user is None
        if user is None:
            if not self.can_sign_up or not self._users.can_create:
                raise NoAccount
            [key] = self._ownership.lock_keys(mobile, None)
            self._locks.open_claim(key)
            self._ledger.run_in(connection, lambda session: self._locks.lock_claim(session, key))
            # A concurrent sign-up that had the lock before has committed. The host's own
            # transaction may be too old to see it.
            if self._holders(mobile) != before:
                return None
            user = self._users.create(mobile)
        elif not self._users.may_log_in(user):
            raise NoAccount(is_inactive=True)
        self._verifier.claim(self._verifier.proof_token(proof), user, purpose=SIGN_IN)
        self._users.commit()
        return Account(user, is_new)

    def _holders(self, mobile: str) -> frozenset[tuple[str, datetime | None]]:
        """Return the users who have proved a mobile, and when the proofs were granted."""

        def work(session: Session) -> frozenset[tuple[str, datetime | None]]:
            rows = session.execute(
                select(Verification.user_id, Verification.granted_at).where(
                    Verification.mobile == mobile
                )
            )
            return frozenset((user_id, granted_at) for user_id, granted_at in rows)

        return self._ledger.read(work)

    def announce(self, account: Account, mobile: str) -> None:
        """Send the signal of a login.

        :param mobile: E.164.
        """
        self._announcer.emit(
            signals.signed_in,
            user_id=self._users.id_of(account.user),
            mobile=mask(mobile),
            is_new=account.is_new,
        )
