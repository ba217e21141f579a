"""Ownership: which accounts hold a mobile, and which ones lose it to a new proof.

`Ownership.prove` is the only function that grants a verification. It serves a right code, a proof
token that an account claims, and a staff member who vouches for a user. Proofs of one mobile, and
changes of one account, are serialized by the locks of `db.locks`, so the number of accounts per
mobile is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import ScalarSelect, bindparam, select
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import flag_modified

from .. import signals
from ..db.ledger import Ledger
from ..db.locks import Held, Locks, claim_id
from ..db.models import Challenge, Lock, UsedToken, Verification
from ..keyring import Keyring
from ..limits.keys import UsageKeys
from ..phone import mask
from .challenges import code_path
from .host import Announcer, Users
from .policy import Policy
from .rules import Rules

T = TypeVar("T")

#: How long a new proof holds its mobile before the host has written the mobile to the user.
_WRITE_GRACE = timedelta(minutes=1)

#: Identifies a proof: the user and when the mobile was proved.
ProofKey = tuple[str, datetime | None]

#: The columns that a proof writes.
_PROOF_COLUMNS = (
    "mobile",
    "verified_at",
    "granted_at",
    "channel",
    "sender",
    "revoked_at",
    "settled_at",
    "devices_from",
)


@dataclass(frozen=True, slots=True)
class Claimant:
    """An account that is about to prove a mobile.

    :param user_id: None for a proof without an account.
    :param stale: proofs of this mobile whose users now have another mobile.
    """

    mobile: str = field(repr=False)
    user_id: str | None
    stale: frozenset[ProofKey]


@dataclass(frozen=True, slots=True)
class Origin:
    """How a mobile was proved.

    :param channel: `sms`, `voice` or `staff`; None if it is no longer known.
    :param sender: the sender of the code, or the person who vouched.
    :param proved_at: when the code was right; None: now.
    :param is_confirmed: whether the mobile that this one replaces confirmed the change.
    """

    channel: str | None
    sender: str | None
    proved_at: datetime | None = None
    is_confirmed: bool = False


@dataclass(frozen=True, slots=True)
class ReadAccount:
    """What the caller of `Ownership.prove` has read of the claimant's account, under its lock.

    :param row: its verification, which the caller then writes.
    :param forgotten_until: `forgotten_until` in the caller's SELECT.
    """

    row: Verification
    forgotten_until: datetime | None


@dataclass(frozen=True, slots=True)
class Granted:
    """A verification that was granted.

    :param mobile: the mobile that was proved.
    :param revoked: the ids of the users who lost their verification to it.
    :param old_mobile: the mobile that the user had proved before, if it was another one.
    :param before: the row's columns before, by name.
    """

    verification: Verification
    mobile: str = field(repr=False)
    revoked: tuple[str, ...]
    old_mobile: str | None = field(repr=False)
    before: Mapping[str, Any] = field(repr=False)


class Ownership:
    """Grants verifications within `SMSVERIFY_ACCOUNTS_PER_MOBILE`."""

    def __init__(
        self,
        ledger: Ledger,
        locks: Locks,
        *,
        keys: UsageKeys,
        keyring: Keyring,
        rules: Rules,
        policy: Policy,
        users: Users,
        announcer: Announcer,
    ) -> None:
        self._ledger = ledger
        self._locks = locks
        self._keys = keys
        self._keyring = keyring
        self._rules = rules
        self._policy = policy
        self._users = users
        self._announcer = announcer

    # --- prepare and lock -----------------------------------------------------------------------

    def prepare(self, mobile: str, user_id: str | None) -> Claimant:
        """Do what must happen before the transaction that proves a mobile.

        The host's users are read here, because no lock may be held while waiting for the host's
        database connections.
        """
        return Claimant(mobile, user_id, self._stale_proofs(mobile, user_id))

    def run(
        self,
        claimant: Claimant,
        work: Callable[[Session, list[Verification]], T],
        *,
        also: Sequence[int] = (),
    ) -> T:
        """Run a function in a transaction that has locked the mobile and the account.

        :param work: gets the valid proofs of the mobile by other users, oldest first.
        :param also: other keys to lock.
        """
        keys = self.lock_keys(claimant.mobile, claimant.user_id)

        def locked(session: Session, held: Held) -> T:
            self.require_claims(session, held, keys)
            now = self._ledger.clock()
            return work(session, self.other_proofs(session, claimant, now))

        return self._locks.run([*keys, *also], locked)

    def run_for_account(self, user_id: str, work: Callable[[Session], T]) -> T:
        """Run a function in a transaction that has locked the account."""
        keys = [self._keys.guesses("", user_id)]

        def locked(session: Session, held: Held) -> T:
            self.require_claims(session, held, keys)
            return work(session)

        return self._locks.run(keys, locked)

    def lock_keys(self, mobile: str, user_id: str | None) -> list[int]:
        """Return the keys that are locked for a proof: of the mobile, and of the account."""
        keys = [self._keys.mobile(mobile)]
        return keys if user_id is None else [*keys, self._keys.guesses(mobile, user_id)]

    def require_claims(self, session: Session, held: Held, keys: Sequence[int]) -> None:
        """Restart the transaction if a host's transaction may be claiming one of these keys."""
        if self._locks.is_needed:
            ids = [claim_id(key) for key in keys]
            held.require(*session.scalars(select(Lock.id).where(Lock.id.in_(ids))))

    def other_proofs(
        self, session: Session, claimant: Claimant, now: datetime
    ) -> list[Verification]:
        """Return the valid proofs of the mobile by other users, locked, oldest first."""
        return self._other_proofs(session, claimant.mobile, claimant.user_id, now, lock=True)

    def _stale_proofs(self, mobile: str, user_id: str | None) -> frozenset[ProofKey]:
        """Return the proofs of this mobile whose users now have another mobile."""
        now = self._ledger.clock()
        proofs = self._ledger.read(
            lambda session: [
                (row, _proving_challenge(session, row))
                for row in self._other_proofs(session, mobile, user_id, now, lock=False)
            ]
        )
        return frozenset(
            _proof_key(row) for row, challenge in proofs if not self._holds(row, challenge, now)
        )

    def _holds(self, row: Verification, challenge: Challenge | None, now: datetime) -> bool:
        """Return whether a user has the mobile of their proof, or is about to get it.

        The host writes a changed mobile after its proof, and an older transaction of the host may
        not see it yet.

        :param challenge: the challenge that led to the proof; None for a token or staff.
        """
        user = self._users.find(row.user_id)
        mobile = self._users.mobile_of(user) if user is not None else None
        if mobile == row.mobile:
            return True
        if row.granted_at is None or now >= row.granted_at + _WRITE_GRACE:
            return False
        return challenge is None or mobile == challenge.user_mobile

    # --- prove ------------------------------------------------------------------------------------

    def prove(
        self,
        session: Session,
        claimant: Claimant,
        others: Sequence[Verification],
        now: datetime,
        origin: Origin,
        *,
        account: ReadAccount | None = None,
    ) -> Granted | None:
        """Grant the claimant the verification; return None if other accounts hold the mobile.

        :param others: what `other_proofs` returned.
        :param account: what the caller has read of it; None to read it here.
        """
        holders = self._revoke_stale(others, claimant.stale, now)
        return self._grant(session, claimant, holders, now, origin, account)

    def has_room_for(self, claimant: Claimant, others: Sequence[Verification]) -> bool:
        """Return whether `prove` would grant the claimant the verification.

        :param others: what `other_proofs` returned.
        """
        limit = self._rules.accounts_per_mobile
        holders = [row for row in others if _proof_key(row) not in claimant.stale]
        return not limit or len(holders) < limit or self._rules.mobile_policy == "transfer"

    def prove_in_host_transaction(
        self,
        session: Session,
        claimant: Claimant,
        now: datetime,
        *,
        challenge_id: str,
        proved_at: datetime,
    ) -> Granted | None:
        """Grant the claimant the verification in the host's transaction.

        At REPEATABLE READ, PostgreSQL hides rows committed after the transaction's first query,
        even from a locking query. Hidden proofs are read on another connection. They hold the
        mobile, and this transaction cannot revoke them.

        :param challenge_id: the challenge that was proved. It may have been erased since; then the
            channel and the sender of its code are unknown.
        """
        others, path = self._ledger.read(
            lambda beside: (
                self._other_proofs(beside, claimant.mobile, claimant.user_id, now, lock=False),
                code_path(beside, challenge_id),
            )
        )
        # Only this session sees what an earlier claim in the host's transaction has written.
        own = self._other_proofs(session, claimant.mobile, claimant.user_id, now, lock=False)
        hidden, visible = 0, []
        for row in {row.user_id: row for row in [*own, *others]}.values():
            found = session.get(
                Verification, row.user_id, with_for_update=True, populate_existing=True
            )
            if found is None:
                hidden += _proof_key(row) not in claimant.stale
            elif found.mobile == claimant.mobile and self._policy.is_proof(found, now):
                visible.append(found)
        visible.sort(key=_verified_at)
        holders = self._revoke_stale(visible, claimant.stale, now)
        limit = self._rules.accounts_per_mobile
        if limit and hidden and len(holders) + hidden >= limit:
            return None
        channel, sender = (path.channel, path.sender) if path else (None, None)
        origin = Origin(channel, sender, proved_at)
        return self._grant(session, claimant, holders, now, origin)

    def _other_proofs(
        self, session: Session, mobile: str, user_id: str | None, now: datetime, *, lock: bool
    ) -> list[Verification]:
        """Return the valid proofs of this mobile by other users, oldest first.

        :param lock: lock them, and read their committed state.
        """
        found = session.scalars(
            select(Verification)
            .where(Verification.mobile == mobile)
            .where(Verification.verified_at.is_not(None), Verification.revoked_at.is_(None))
        ).all()
        others = [row for row in found if row.user_id != user_id]
        if lock:
            # One by one: in a small table MariaDB scans every row, and waits for each lock on the
            # way. New proofs need the mobile's lock first.
            locked = [
                session.get(Verification, key, with_for_update=True, populate_existing=True)
                for key in sorted(row.user_id for row in others)
            ]
            others = [row for row in locked if row is not None and row.mobile == mobile]
        proofs = [row for row in others if self._policy.is_proof(row, now)]
        return sorted(proofs, key=_verified_at)

    def _revoke_stale(
        self, proofs: Sequence[Verification], stale: frozenset[ProofKey], now: datetime
    ) -> list[Verification]:
        """Revoke the stale ones of these locked proofs; return the others."""
        holders = []
        for row in proofs:
            if _proof_key(row) not in stale:
                holders.append(row)
            elif self._rules.accounts_per_mobile:
                row.revoked_at = now  # or it would count again if its user went back to the mobile
        return holders

    def _grant(
        self,
        session: Session,
        claimant: Claimant,
        holders: Sequence[Verification],
        now: datetime,
        origin: Origin,
        account: ReadAccount | None = None,
    ) -> Granted | None:
        assert claimant.user_id is not None  # noqa: S101 -- only accounts get a verification
        limit = self._rules.accounts_per_mobile
        revoked: list[str] = []
        if limit and len(holders) >= limit:
            if self._rules.mobile_policy == "refuse":
                return None
            for earlier in holders[: len(holders) - limit + 1]:
                earlier.revoked_at = now
                revoked.append(earlier.user_id)
        account = account or self._read_account(session, claimant.user_id, now)
        row = account.row
        before = {name: getattr(row, name) for name in _PROOF_COLUMNS}
        # A revoked proof does not count: the number may belong to somebody else since.
        was_proved = row.verified_at is not None and row.revoked_at is None
        old_mobile = row.mobile if was_proved and row.mobile != claimant.mobile else None
        if row.revoked_at is not None:
            row.devices_from = row.revoked_at
        row.mobile = claimant.mobile
        row.verified_at = origin.proved_at or now
        row.granted_at = now
        row.channel = origin.channel
        row.sender = origin.sender
        row.revoked_at = None
        # Written in any case: a concurrent transfer of the mobile before may have revoked the row
        # since it was read, because that takes no lock of this account.
        flag_modified(row, "revoked_at")
        if old_mobile is not None and not origin.is_confirmed:
            # An earlier date is never cleared here: a mobile that is not settled must not settle
            # by confirming the next change, or by losing and proving the mobile again.
            row.settled_at = now + self._rules.mobile_settled
        elif before["verified_at"] is None:
            row.settled_at = account.forgotten_until
        return Granted(row, claimant.mobile, tuple(revoked), old_mobile, before)

    def announce(self, granted: Granted) -> None:
        """Notify users who lost a verification or a number because of a proof."""
        for user_id in granted.revoked:
            self._announcer.emit(signals.verification_revoked, user_id=user_id, by="transfer")
            self._announcer.notify("mobile.transferred", mobile=granted.mobile)
        if granted.old_mobile is not None:
            self._announcer.notify(
                "mobile.changed", mobile=granted.old_mobile, new=mask(granted.mobile)
            )

    def remember_forgotten(self, session: Session, row: Verification, now: datetime) -> None:
        """Record, as a digest, that a user's proof is erased.

        The next number of this user replaces it: `forget` must not make it a first one at once.
        """
        until = row.settled_at
        if row.verified_at is not None and row.revoked_at is None:
            until = now + self._rules.mobile_settled
        if until is not None and until > now:
            session.merge(UsedToken(digest=self.forgotten_digest(row.user_id), until=until))

    def _read_account(self, session: Session, user_id: str, now: datetime) -> ReadAccount:
        """Read the verification of a locked account, or add one to the session."""
        row = session.get(Verification, user_id)
        if row is None:
            row = Verification(user_id=user_id, failures=0, created_at=now)
            session.add(row)
        forgotten = session.get(UsedToken, self.forgotten_digest(user_id))
        return ReadAccount(row, forgotten.until if forgotten is not None else None)

    def forgotten_digest(self, user_id: str) -> str:
        """Return the parameter of `forgotten_until`."""
        return self._keyring.digest("forgotten proof", user_id)

    # --- undo -------------------------------------------------------------------------------------

    def undo(self, granted: Granted) -> None:
        """Restore what a proof changed, except what has changed again since.

        A verification that was revoked meanwhile stays revoked. The locks of both mobiles and of
        all accounts are held, so no row needs a lock of its own.
        """
        proved, old_mobile = granted.verification, granted.before["mobile"]
        keys = [self._keys.mobile(mobile) for mobile in (granted.mobile, old_mobile) if mobile]
        for user_id in (proved.user_id, *granted.revoked):
            keys.append(self._keys.guesses("", user_id))

        def work(session: Session, held: Held) -> None:
            self.require_claims(session, held, keys)
            now = self._ledger.clock()
            row = session.get(Verification, proved.user_id)
            if row is not None and row.verified_at == proved.verified_at:
                revoked_at = row.revoked_at
                for name, value in granted.before.items():
                    setattr(row, name, value)
                row.revoked_at = row.revoked_at or revoked_at
                # Another account may have proved the old mobile while nobody held it.
                if not self._has_room(session, row, now):
                    row.revoked_at = row.revoked_at or now
            for user_id in reversed(granted.revoked):
                earlier = session.get(Verification, user_id)
                if earlier is None or earlier.revoked_at != proved.verified_at:
                    continue
                if self._has_room(session, earlier, now):
                    earlier.revoked_at = None

        self._locks.run(keys, work)

    def _has_room(self, session: Session, row: Verification, now: datetime) -> bool:
        """Return whether this row's mobile may have one more holder than the others."""
        session.flush()  # count what this transaction changed
        others = self._other_proofs(session, row.mobile or "", row.user_id, now, lock=True)
        limit = self._rules.accounts_per_mobile
        return not limit or len(others) < limit


def forgotten_until(name: str) -> ScalarSelect[datetime]:
    """Return an SQL expression: until when the next number of a user replaces an erased proof.

    :param name: the bind parameter with the `forgotten_digest` of the user.
    """
    return select(UsedToken.until).where(UsedToken.digest == bindparam(name)).scalar_subquery()


def _verified_at(row: Verification) -> datetime:
    assert row.verified_at is not None  # noqa: S101 -- for the type checker; it is a proof
    return row.verified_at


def _proof_key(row: Verification) -> ProofKey:
    return row.user_id, row.verified_at


def _proving_challenge(session: Session, row: Verification) -> Challenge | None:
    """Return the challenge that led to a proof; None for a token or staff."""
    return session.scalars(
        select(Challenge)
        .where(Challenge.user_id == row.user_id, Challenge.mobile == row.mobile)
        .where(Challenge.state == Challenge.VERIFIED)
        .order_by(Challenge.created_at.desc())
        .limit(1)
    ).one_or_none()
