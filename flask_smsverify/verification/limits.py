"""The limits of sends and of guesses, as `issue` and `check` use them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from ..db.ledger import Ledger
from ..db.models import Challenge, Verification
from ..errors import RateLimited, StoreUnavailable, TooManyAttempts
from ..limits.policy import LimitPolicy, cooldown_key, normalize_ip
from ..limits.usage import Charge, Cooldown, LimitStore, Reservation
from .alerts import LimitAlerts
from .challenges import Subject
from .rules import OLD_NUMBER

log = logging.getLogger(__name__)

_SECOND_COPY_SCOPES = ("mobile", "site", "foreign")


class SendLimits:
    """The rate limits and cooldowns of sends."""

    def __init__(
        self, ledger: Ledger, policy: LimitPolicy, store: LimitStore, alerts: LimitAlerts
    ) -> None:
        self._ledger = ledger
        self._policy = policy
        self._alerts = alerts
        self.store = store

    def charges(self, subject: Subject, ip: str | None) -> list[Charge | Cooldown]:
        """Return what a send counts against."""
        return self._policy.for_send(
            subject.mobile,
            subject.user_id,
            ip,
            purpose=subject.purpose,
            is_owner=self._is_owner(subject),
            counts_mobile=subject.purpose != OLD_NUMBER,
        )

    def _is_owner(self, subject: Subject) -> bool:
        """Return whether the subject may use the whole limit of its mobile.

        Half of it is reserved for the account that proved the mobile last. Without an account the
        answer is always no, so that a limit does not reveal whether an account exists.
        """
        if subject.user_id is None:
            return False
        last_owner = self._ledger.read(
            lambda session: session.scalars(
                select(Verification.user_id)
                .where(Verification.mobile == subject.mobile)
                .where(Verification.verified_at.is_not(None))
                .where(Verification.revoked_at.is_(None))
                .order_by(Verification.verified_at.desc())
                .limit(1)
            ).one_or_none()
        )
        return last_owner is None or last_owner == subject.user_id

    def address_units(self, reservation: Reservation, ip: str | None) -> Reservation:
        """Return the part of a reservation that counts against the address."""
        return reservation.of([self.store.row_id("ip", normalize_ip(ip))] if ip else [])

    def cooldown_row(self, subject: Subject) -> str:
        """Return the id of the row that holds the subject's cooldown."""
        key = cooldown_key(subject.purpose, subject.user_id, subject.mobile)
        return self.store.row_id("cooldown", key)

    def report(self, reservation: Reservation) -> None:
        """Report limits that a reservation used up."""
        self._alerts.report(reservation)

    def reserve_second_copy(self, charges: Sequence[Charge | Cooldown]) -> Reservation | None:
        """Count a second copy of a code; return None if a limit or the database forbids it.

        :param charges: what the first copy counted against. The second one counts against the
            mobile, with the share of it that the first one used, and the site.
        """
        copied = [
            charge
            for charge in charges
            if isinstance(charge, Charge) and charge.scope in _SECOND_COPY_SCOPES
        ]
        try:
            reservation = self.store.reserve(copied, self._ledger.clock())
        except (RateLimited, StoreUnavailable):
            return None
        self._alerts.report(reservation)
        return reservation

    def refund_second_copy(self, reservation: Reservation) -> None:
        """Refund a second copy that was not sent."""
        try:
            self.store.refund(reservation)
        except StoreUnavailable:
            log.exception("a second copy that failed could not be refunded")


class GuessLimits:
    """The rate limits of guesses."""

    def __init__(
        self, ledger: Ledger, policy: LimitPolicy, store: LimitStore, alerts: LimitAlerts
    ) -> None:
        self._ledger = ledger
        self._policy = policy
        self._alerts = alerts
        self.store = store

    def charges(self, about: Subject | Challenge, ip: str | None) -> list[Charge]:
        """Return what a guess counts against."""
        return self._policy.for_guess(about.mobile, about.user_id, ip)

    def wait(self, charges: Sequence[Charge]) -> int:
        """Return whole seconds until a guess is allowed; 0 if one is allowed now."""
        found = self.store.usage(charges, self._ledger.clock())
        return max((usage.wait for usage in found), default=0)

    def refuse_if_used_up(self, charges: Sequence[Charge]) -> None:
        """Raise if no guess is left, without locking a row.

        :raises TooManyAttempts: with the wait in seconds.
        """
        if wait := self.wait(charges):
            raise TooManyAttempts(wait)

    def reserve(self, session: Session, charges: Sequence[Charge]) -> Reservation:
        """Count one guess in the caller's transaction.

        :raises TooManyAttempts: with the wait in seconds.
        """
        rows = self.store.lock(session, charges)
        try:
            return self.store.reserve_locked(rows, charges, self._ledger.clock())
        except RateLimited as error:
            raise TooManyAttempts(error.retry_after) from error

    def refund(self, session: Session, charges: Sequence[Charge], reservation: Reservation) -> None:
        """Refund a guess in the caller's transaction."""
        self.store.refund_locked(self.store.lock(session, charges), reservation)

    def report(self, reservation: Reservation) -> None:
        """Report limits that a reservation used up."""
        self._alerts.report(reservation)


def refund_proved(
    store: LimitStore, session: Session, row: Challenge, guess: Reservation, cooldown_row: str
) -> None:
    """Refund the guess and the address's sends of a challenge whose code was right.

    :param row: the challenge, locked.
    """
    sends = Reservation.load(row.refundable)
    rows = store.lock_ids(session, guess.rows | sends.rows | {cooldown_row})
    store.refund_locked(rows, guess)
    store.refund_locked(rows, sends)
    store.reset_row(rows, cooldown_row)
    row.refundable = "[]"
