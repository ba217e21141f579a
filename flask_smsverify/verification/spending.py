"""What a send or a guess draws on: which budgets, for whom, and who hears when one is spent."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from .. import signals
from ..errors import StoreUnavailable, TooManyAttempts
from ..models import Challenge, UsedToken, Verification
from ..phone import region_of
from ..settings import Limit
from .budgets import Claim, Pace, Reservation
from .challenges import Subject, is_used
from .parts import Parts

log = logging.getLogger(__name__)


class Spending:
    """Knows the claims on the budgets."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def for_send(self, subject: Subject, ip: str | None) -> list[Claim | Pace]:
        limits = self._parts.rules.budgets
        mobile = subject.mobile
        claims: list[Claim | Pace] = [Claim("mobile", mobile, limits["mobile"])]
        if self._is_stranger(subject):
            claims.append(self._strangers_claim(mobile))
        if subject.user_id is not None:
            user_id = subject.user_id
            claims.append(Claim("user", user_id, limits["user"]))
            item = self._parts.keyring.digest("mobile", mobile)[:16]
            claims.append(Claim("mobiles_per_user", user_id, limits["mobiles_per_user"], item))
        if ip is not None:
            claims.append(Claim("ip", network(ip), limits["ip"]))
        if region_of(mobile) != self._parts.rules.default_region:
            claims.append(Claim("foreign", "", limits["foreign"]))
        claims.append(Claim("site", "", limits["site"]))
        claims.append(Pace(self.pace_key(subject), self._parts.rules.resend_delays))
        return [claim for claim in claims if isinstance(claim, Pace) or claim.limits]

    def for_guess(self, about: Subject | Challenge, ip: str | None) -> list[Claim]:
        limits = self._parts.rules.budgets["failures"]
        if about.user_id is not None:
            claims = [Claim("failures", f"user {about.user_id}", limits)]
        else:
            claims = [Claim("failures", f"mobile {about.mobile}", limits)]
            if ip is not None:
                claims.append(Claim("failures", f"address {network(ip)}", limits))
        claims.append(Claim("site_failures", "", self._parts.rules.budgets["site_failures"]))
        return [claim for claim in claims if claim.limits]

    def claims_of(
        self, *, mobile: str | None = None, user_id: str | None = None, ip: str | None = None
    ) -> list[Claim]:
        """The budgets of a mobile, a user, an address; without any of them the site's."""
        limits = self._parts.rules.budgets
        claims = []
        if mobile is not None:
            claims.append(Claim("mobile", mobile, limits["mobile"]))
            claims.append(self._strangers_claim(mobile))
            claims.append(Claim("failures", f"mobile {mobile}", limits["failures"]))
        if user_id is not None:
            claims.append(Claim("user", user_id, limits["user"]))
            claims.append(Claim("mobiles_per_user", user_id, limits["mobiles_per_user"]))
            claims.append(Claim("failures", f"user {user_id}", limits["failures"]))
        if ip is not None:
            claims.append(Claim("ip", network(ip), limits["ip"]))
            claims.append(Claim("failures", f"address {network(ip)}", limits["failures"]))
        site = ("site", "foreign", "site_failures", "messages")
        return claims or [Claim(scope, "", limits[scope]) for scope in site]

    def _strangers_claim(self, mobile: str) -> Claim:
        """The part of a mobile's budget that those may use who have not proved it."""
        share = tuple(_stranger_share(limit) for limit in self._parts.rules.budgets["mobile"])
        return Claim("mobile", f"strangers {mobile}", share)

    def _is_stranger(self, subject: Subject) -> bool:
        """Whether part of the mobile's budget is kept from this subject.

        It is kept for the account that proved the mobile last. A challenge without an account is
        always a stranger's, so that a limit reached tells nothing about who has an account.
        """
        if subject.user_id is None:
            return True
        last = self._parts.ledger.read(
            lambda session: session.scalars(
                select(Verification.user_id)
                .where(Verification.mobile == subject.mobile)
                .where(Verification.verified_at.is_not(None))
                .where(Verification.revoked_at.is_(None))
                .order_by(Verification.verified_at.desc())
                .limit(1)
            ).one_or_none()
        )
        return last is not None and last != subject.user_id

    def pace_key(self, subject: Subject) -> str:
        who = f"user {subject.user_id}" if subject.user_id else f"mobile {subject.mobile}"
        return f"{subject.purpose} {who}"

    def refuse_if_no_guess_is_left(self, claims: Sequence[Claim]) -> None:
        """Refuse by a look who may not guess any more.

        :param claims: those of a guess.
        """
        if wait := self.wait_of(claims):
            raise TooManyAttempts(wait)

    def wait_of(self, claims: Sequence[Claim]) -> int:
        """Whole seconds until every one of these claims has a unit; 0: now. Takes nothing."""
        found = self._parts.budgets.usage(claims, self._parts.clock())
        return max((usage.wait for usage in found), default=0)

    def announce(self, reservation: Reservation) -> None:
        for scope in dict.fromkeys(reservation.spent):
            self._parts.emit(signals.budget_spent, scope=scope, limit="whole")
            if scope == "site":
                self._tell_staff(scope)
        for scope in reservation.half_spent:
            if scope == "site_failures":
                self._parts.emit(signals.budget_spent, scope=scope, limit="half")

    def _tell_staff(self, scope: str) -> None:
        """Tell the staff that a scope is spent. What was sent stays sent though this fails."""
        try:
            if self._is_first_today(scope):
                self._parts.tell("site_budget.spent", mobile=None)
        except StoreUnavailable:
            log.exception("the staff could not be told that the budget %s is spent", scope)

    def _is_first_today(self, scope: str) -> bool:
        """Whether nobody was told within a day that this scope is spent; notes that somebody is."""
        digest = self._parts.keyring.digest("told", scope)

        def work(session: Session) -> bool:
            now = self._parts.clock()
            if is_used(session, digest, now):
                return False
            session.merge(UsedToken(digest=digest, until=now + timedelta(days=1)))
            return True

        return self._parts.ledger.run(work)


def _stranger_share(limit: Limit) -> Limit:
    """What strangers may use of a limit: the half, rounded up."""
    return Limit(limit.amount - limit.amount // 2, limit.seconds)


def network(ip: str) -> str:
    """The address that a budget counts: an IPv4 as it is, an IPv6 by its /64."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return "not an address"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address), 64), strict=False))
    return str(address)
