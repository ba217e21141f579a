"""Holding: which accounts hold a mobile, and what a new proof takes from the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from .. import signals
from ..models import Challenge, Verification
from ..phone import mask
from .budgets import Claim
from .parts import Parts

#: So long a new proof holds its mobile though the host has not written that to the user yet.
NOT_WRITTEN_YET = timedelta(minutes=1)

#: A proof: whose, and of when.
ProofKey = tuple[str, datetime | None]

#: The columns that a proof writes.
_PROOF = ("mobile", "verified_at", "granted_at", "channel", "sender", "revoked_at")


@dataclass(frozen=True, slots=True)
class Granted:
    """A verification that was written.

    :param lost: the users who lost theirs to it.
    :param old_mobile: the number that the user had proved before, where it was another.
    :param before: what the row held before, by the names of `_PROOF`.
    """

    verification: Verification
    lost: tuple[str, ...]
    old_mobile: str | None = field(repr=False)
    before: Mapping[str, Any] = field(repr=False)


class Holding:
    """Writes proofs, and keeps to the number of accounts that one mobile may have."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def grant(
        self,
        session: Session,
        user_id: str,
        mobile: str,
        channel: str,
        sender: str | None,
        now: datetime,
        holding: Sequence[Verification],
        *,
        proved_at: datetime | None = None,
    ) -> Granted | None:
        """Write a user's verification; None where others hold the mobile and keep it.

        The caller holds the mobile's row of `holders`, so two grants of one mobile take turns.

        :param holding: the others that hold it, locked, oldest proof first.
        :param proved_at: when it was proved, where that was before now.
        """
        limit = self._parts.rules.accounts_per_mobile
        lost: list[str] = []
        if limit and len(holding) >= limit:
            if self._parts.rules.mobile_policy == "refuse":
                return None
            for earlier in holding[: len(holding) - limit + 1]:
                earlier.revoked_at = now
                lost.append(earlier.user_id)
        standing = session.get(Verification, user_id, with_for_update=True)
        if standing is None:
            standing = Verification(user_id=user_id, failures=0, created_at=now)
            session.add(standing)
        before = {name: getattr(standing, name) for name in _PROOF}
        # Not where the proof was taken back: since then the number may be somebody else's.
        was_held = standing.verified_at is not None and standing.revoked_at is None
        old = standing.mobile if was_held else None
        standing.mobile = mobile
        standing.verified_at = proved_at or now
        standing.granted_at = now
        standing.channel = channel
        standing.sender = sender
        standing.revoked_at = None
        return Granted(standing, tuple(lost), old if old != mobile else None, before)

    def take_back(self, granted: Granted) -> None:
        """Let what a proof changed stand as it did before, where nothing has changed it since.

        What was taken back meanwhile, by staff or by a transfer, is not given back.
        """
        proved, old = granted.verification, granted.before["mobile"]
        holders = [Claim("holders", mobile, ()) for mobile in (proved.mobile, old) if mobile]

        def work(session: Session) -> None:
            now = self._parts.clock()
            self._parts.budgets.lock(session, holders)
            row = session.get(Verification, proved.user_id, with_for_update=True)
            if row is not None and row.verified_at == proved.verified_at:
                revoked_at = row.revoked_at
                for name, value in granted.before.items():
                    setattr(row, name, value)
                row.revoked_at = row.revoked_at or revoked_at
                # Meanwhile the old mobile was nobody's, and another may have proved it.
                if row.verified_at is not None and not self._has_room(session, row, now):
                    row.revoked_at = row.revoked_at or now
            for user_id in reversed(granted.lost):
                earlier = session.get(Verification, user_id, with_for_update=True)
                if earlier is None or earlier.revoked_at != proved.verified_at:
                    continue
                if self._has_room(session, earlier, now):
                    earlier.revoked_at = None

        self._parts.budgets.prepare(holders, self._parts.clock())
        self._parts.ledger.run(work)

    def _has_room(self, session: Session, row: Verification, now: datetime) -> bool:
        """Whether this row's mobile may have one more holder than the others."""
        session.flush()  # what this transaction changed counts
        others = self.other_proofs(session, row.mobile or "", row.user_id, now, lock=True)
        limit = self._parts.rules.accounts_per_mobile
        return not limit or len(others) < limit

    def tell_others(self, granted: Granted, mobile: str) -> None:
        """Tell those whom a proof took something from."""
        for user_id in granted.lost:
            self._parts.emit(signals.verification_revoked, user_id=user_id, by="transfer")
            self._parts.tell("mobile.transferred", mobile=mobile)
        if granted.old_mobile is not None:
            self._parts.tell("mobile.changed", mobile=granted.old_mobile, new=mask(mobile))

    def other_proofs(
        self, session: Session, mobile: str, user_id: str | None, now: datetime, *, lock: bool
    ) -> list[Verification]:
        """The proofs of this mobile in force that others than this user have, oldest first.

        :param lock: read them as they are now, also in a transaction that began before, and keep
            them so until it ends.
        """
        query = (
            select(Verification)
            .where(Verification.mobile == mobile)
            .where(Verification.verified_at.is_not(None), Verification.revoked_at.is_(None))
        )
        found = [row for row in session.scalars(query) if row.user_id != user_id]
        if lock:
            # Each by its key: in a small table, MariaDB would look at every row to find them, and
            # wait for whoever holds one. New ones need the mobile's row of `holders` first.
            keys = sorted(row.user_id for row in found)
            again = [
                session.get(Verification, key, with_for_update=True, populate_existing=True)
                for key in keys
            ]
            found = [row for row in again if row is not None and row.mobile == mobile]
        holding = [row for row in found if self._parts.policy.proof_holds(row, now)]
        return sorted(holding, key=_proved_at)

    def holders_within(
        self,
        session: Session,
        mobile: str,
        user_id: str,
        gone: frozenset[ProofKey],
        now: datetime,
    ) -> list[Verification] | None:
        """`holders`, in a transaction of the host's that may see less than is committed.

        At REPEATABLE READ, PostgreSQL hides what came after its first look, also from a lock. What
        is hidden holds the mobile all the same, and cannot be taken back from here.

        :returns: None where so many are hidden that nobody else may hold the mobile.
        """
        others = self._parts.ledger.read(
            lambda beside: self.other_proofs(beside, mobile, user_id, now, lock=False)
        )
        hidden, proofs = 0, []
        for row in others:
            found = session.get(Verification, row.user_id, with_for_update=True)
            if found is None:
                hidden += proof_key(row) not in gone
            elif found.mobile == mobile and self._parts.policy.proof_holds(found, now):
                proofs.append(found)
        holding = self.holders(proofs, gone, now)
        limit = self._parts.rules.accounts_per_mobile
        return None if limit and hidden and len(holding) + hidden >= limit else holding

    def holders(
        self, proofs: Sequence[Verification], gone: frozenset[ProofKey], now: datetime
    ) -> list[Verification]:
        """Those of these locked proofs that hold their mobile; the others are taken back.

        :param gone: the proofs that do not, as `_gone` found before the lock; a newer one does.
        """
        if self._parts.rules.accounts_per_mobile:
            for row in proofs:
                if proof_key(row) in gone:
                    row.revoked_at = now  # or it would count again if its user came back to it
        return [row for row in proofs if proof_key(row) not in gone]

    def gone(self, mobile: str, user_id: str | None) -> frozenset[ProofKey]:
        """The proofs of this mobile whose users have another by now: they hold it against nobody.

        The host is asked while we hold no lock, since its connections are not ours.
        """
        now = self._parts.clock()
        proofs = self._parts.ledger.read(
            lambda session: [
                (row, _proved_by(session, row))
                for row in self.other_proofs(session, mobile, user_id, now, lock=False)
            ]
        )
        return frozenset(
            proof_key(row) for row, began in proofs if not self._keeps(row, began, now)
        )

    def _keeps(self, row: Verification, began: Challenge | None, now: datetime) -> bool:
        """Whether a user has the mobile of their proof, or is about to get it.

        A number that is being changed is written to the user after its proof, and a transaction
        of the host's that began before may not see it.

        :param began: the challenge that the proof came from; None where it was a token or staff.
        """
        user = self._parts.users.find(row.user_id)
        has = self._parts.mobile_of(user) if user is not None else None
        if has == row.mobile:
            return True
        if row.granted_at is None or now >= row.granted_at + NOT_WRITTEN_YET:
            return False
        return began is None or has == began.user_mobile


def _proved_at(row: Verification) -> datetime:
    assert row.verified_at is not None  # noqa: S101 -- for the type checker; it is a proof
    return row.verified_at


def proof_key(row: Verification) -> ProofKey:
    return row.user_id, row.verified_at


def _proved_by(session: Session, row: Verification) -> Challenge | None:
    return session.scalars(
        select(Challenge)
        .where(Challenge.user_id == row.user_id, Challenge.mobile == row.mobile)
        .where(Challenge.state == Challenge.VERIFIED)
        .order_by(Challenge.created_at.desc())
        .limit(1)
    ).one_or_none()
