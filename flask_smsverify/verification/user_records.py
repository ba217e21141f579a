"""What the ledger holds about one user, read with one SELECT.

A request of the pages needs the status, the challenges, the open change and the limits of guesses.
Read separately, each would take a transaction. Few users change their number. The SELECT for the
others has less than half of the columns, and says whether the one for all must be executed instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ScalarSelect, Select, bindparam, select
from sqlalchemy.orm import Session, aliased

from ..db.ledger import Ledger
from ..db.models import Challenge, Message, MobileChange, Verification
from ..db.prepared import PreparedSelect, RowValues, constant, one_row
from ..db.rows import from_row, labelled
from ..db.types import to_ms
from ..keyring import Keyring
from ..limits.guesses import GuessLog
from ..limits.keys import UsageKeys
from ..limits.usage_log import longest
from .challenges import is_open
from .host import Users
from .issue import Sent
from .open_changes import has_changed_number, is_valid, open_change_key
from .policy import Policy, Status
from .rules import CLOCK_SKEW, NEW_NUMBER, OLD_NUMBER


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRecord:
    """What the ledger held about a user when it was read.

    :param status: the user's status with the open challenge.
    :param latest: the latest challenge for `verify` in any state, also of an exempt user.
    :param to_new: the latest challenge of a number that is to replace the proved one.
    :param change: the open change of the proved number.
    :param to_old: the latest challenge of the change's old number.
    :param proved_at: when the user's mobile was proved, also of an exempt user, whose status does
        not show it. An aged proof counts, a revoked one does not.
    :param is_locked: whether only staff can unlock the account, also of an exempt user.
    :param guess_wait: whole seconds until the user may guess again; 0 if now. The failures of a
        number are not part of it, because the user may enter another number.
    :param deliveries: the state of the last message of `latest` and of `to_new`, by challenge id.
    """

    status: Status
    latest: Challenge | None
    to_new: Challenge | None
    change: MobileChange | None
    to_old: Challenge | None
    proved_at: datetime | None
    is_locked: bool
    guess_wait: int
    deliveries: Mapping[str, str | None]

    def replaces_proved(self, wanted: str) -> bool:
        """Return whether a mobile would replace one that the user has proved.

        :param wanted: the mobile to prove, in E.164.
        """
        return wanted != self.status.mobile and self.proved_at is not None


class UserRecords:
    """Reads the records of users."""

    def __init__(
        self,
        ledger: Ledger,
        policy: Policy,
        *,
        keys: UsageKeys,
        keyring: Keyring,
        guesses: GuessLog,
        users: Users,
    ) -> None:
        self._ledger = ledger
        self._policy = policy
        self._keys = keys
        self._keyring = keyring
        self._guesses = guesses
        self._users = users
        self._usual = guesses.statement("user record", lambda: _build_usual(guesses))
        self._complete = guesses.statement(
            "user record with a change", lambda: _build_complete(guesses)
        )

    def read(self, user: object) -> UserRecord:
        """Return a user's record, in one transaction that only reads.

        :raises StoreUnavailable: the database did not answer.
        """
        # The host is called before the transaction, which must not wait for the host's connections.
        mobile, is_exempt = self._users.mobile_of(user), self._users.is_exempt(user)
        user_id, now = self._users.id_of(user), self._ledger.clock()
        guesses = self._keys.guesses("", user_id)
        parameters = {
            "now": to_ms(now),
            "subject": guesses,
            "user_id": user_id,
            "open_change": open_change_key(self._keyring, user_id),
            "created_before": now + CLOCK_SKEW,
        }

        def work(session: Session) -> UserRecord:
            row = self._usual.one(session, parameters)
            if row["has_change"]:
                row = {**row, **self._complete.one(session, parameters)}
            latest = from_row(Challenge, row, "latest_")
            is_first = latest is None or latest.attempts == 0
            overruns = self._guesses.overruns(session, row, guesses, to_ms(now), is_first=is_first)
            wait = longest(overruns)
            return self._record(row, latest, mobile, now, wait, is_exempt=is_exempt)

        return self._ledger.read(work)

    def without_codes(self, status: Status) -> UserRecord:
        """Return the record of a user who has no code and has never changed a proved number.

        :param status: without the open challenge.
        """
        return UserRecord(
            status=status,
            latest=None,
            to_new=None,
            change=None,
            to_old=None,
            proved_at=status.verified_at,
            is_locked=status.locked,
            guess_wait=0,
            deliveries={},
        )

    def after_send(self, before: UserRecord, sent: Sent) -> UserRecord:
        """Return the record after a send, without a read.

        :param before: the record before the send.
        """
        challenge = sent.challenge
        deliveries = {**before.deliveries, challenge.id: sent.delivery}
        if challenge.purpose == OLD_NUMBER:
            return replace(before, to_old=challenge)
        if challenge.purpose == NEW_NUMBER:
            return replace(before, to_new=challenge, deliveries=deliveries)
        status = before.status
        if not status.exempt:
            status = _with_challenge(status, challenge, self._ledger.clock())
        return replace(before, status=status, latest=challenge, deliveries=deliveries)

    def after_proof(
        self, before: UserRecord | None, user: object, proof: Verification
    ) -> UserRecord:
        """Return the record after the right code of a challenge for `verify`, without a read.

        :param before: the record before the check; None for a user who is not exempt and has never
            changed a proved number.
        :param proof: what the check returned.
        """
        mobile, now = self._users.mobile_of(user), self._ledger.clock()
        status = self._policy.status(proof, mobile, now)
        if before is None:
            return self.without_codes(status)
        is_change_valid = before.change is not None and is_valid(before.change, proof, mobile, now)
        return replace(
            before,
            status=_exempt(mobile) if before.status.exempt else status,
            latest=None,  # it is used up, and its cooldown is over
            change=before.change if is_change_valid else None,
            to_old=before.to_old if is_change_valid else None,
            proved_at=status.verified_at,
            is_locked=status.locked,
        )

    def _record(
        self,
        row: RowValues,
        latest: Challenge | None,
        mobile: str | None,
        now: datetime,
        guess_wait: int,
        *,
        is_exempt: bool,
    ) -> UserRecord:
        verification = from_row(Verification, row, "verification_")
        deliveries = {} if latest is None else {latest.id: row["latest_delivery"]}
        change = to_new = to_old = None
        if row["has_change"]:
            change = from_row(MobileChange, row, "change_")
            to_new = from_row(Challenge, row, "to_new_")
            to_old = from_row(Challenge, row, "to_old_")
        if change is not None and not is_valid(change, verification, mobile, now):
            change = None
        if change is None or (to_old is not None and to_old.created_at < change.proved_at):
            to_old = None  # of an earlier change
        if to_new is not None:
            deliveries[to_new.id] = row["to_new_delivery"]
        status = self._policy.status(verification, mobile, now)
        return UserRecord(
            status=_exempt(mobile) if is_exempt else _with_challenge(status, latest, now),
            latest=latest,
            to_new=to_new,
            change=change,
            to_old=to_old,
            proved_at=status.verified_at,
            is_locked=status.locked,
            guess_wait=guess_wait,
            deliveries=deliveries,
        )


def _exempt(mobile: str | None) -> Status:
    return Status("exempt", mobile, exempt=True)


def _with_challenge(status: Status, latest: Challenge | None, now: datetime) -> Status:
    """Return a status with the latest challenge, which makes it `pending` if it is open."""
    if latest is None or status.locked or not is_open(latest, status.mobile, now):
        return replace(status, latest=latest)
    return replace(status.with_open_challenge(), latest=latest, challenge=latest)


def _build_usual(guesses: GuessLog) -> PreparedSelect:
    """Return the SELECT for users who have not changed their number."""
    has_change = has_changed_number().label("has_change")
    return PreparedSelect(_select_status(guesses).add_columns(has_change))


def _build_complete(guesses: GuessLog) -> PreparedSelect:
    """Return the SELECT for users who have changed their number, or are about to."""
    to_new = aliased(Challenge, name="to_new")
    to_old = aliased(Challenge, name="to_old")
    statement = (
        _select_status(guesses)
        .add_columns(
            *labelled(MobileChange, "change_"),
            *labelled(to_new, "to_new_"),
            *labelled(to_old, "to_old_"),
            _last_delivery(to_new).label("to_new_delivery"),
        )
        .outerjoin(MobileChange, MobileChange.open_key == bindparam("open_change"))
        .outerjoin(to_new, to_new.id == _latest_id(NEW_NUMBER))
        .outerjoin(to_old, to_old.id == _latest_id(OLD_NUMBER))
    )
    return PreparedSelect(statement)


def _select_status(guesses: GuessLog) -> Select[Any]:
    """Select the limits, the verification and the latest challenge for `verify`."""
    latest = aliased(Challenge, name="latest")
    counts = guesses.counts
    return select(
        *counts,
        *labelled(Verification, "verification_"),
        *labelled(latest, "latest_"),
        _last_delivery(latest).label("latest_delivery"),
    ).select_from(
        one_row()
        .outerjoin(Verification, Verification.user_id == bindparam("user_id"))
        .outerjoin(latest, latest.id == _latest_id("verify"))
    )


def _latest_id(purpose: str) -> ScalarSelect[str]:
    """Return an SQL expression: the id of the user's latest challenge for a purpose."""
    return (
        select(Challenge.id)
        .where(Challenge.user_id == bindparam("user_id"), Challenge.purpose == purpose)
        .where(Challenge.created_at <= bindparam("created_before"))
        .order_by(Challenge.created_at.desc())
        .limit(constant(1))
        .scalar_subquery()
    )


def _last_delivery(challenge: type[Challenge]) -> ScalarSelect[str]:
    """Return an SQL expression: the state of the last message with a challenge's code."""
    return (
        select(Message.state)
        .where(Message.challenge_id == challenge.id)
        .order_by(Message.created_at.desc())
        .limit(constant(1))
        .scalar_subquery()
    )
