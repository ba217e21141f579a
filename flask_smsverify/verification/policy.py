"""Who must verify, and how long a proof is valid. Pure functions of rows, times and settings."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal, Protocol

from ..db.models import Challenge
from ..phone import mask
from ..settings.runtime import LiveSettings
from .rules import CLOCK_SKEW, FailureColumns, Rules

State = Literal["verified", "unverified", "expired", "pending", "exempt"]


class VerificationColumns(FailureColumns, Protocol):
    """The columns of a verification that the policy reads."""

    @property
    def mobile(self) -> str | None: ...
    @property
    def verified_at(self) -> datetime | None: ...
    @property
    def revoked_at(self) -> datetime | None: ...
    @property
    def settled_at(self) -> datetime | None: ...


@dataclass(frozen=True, slots=True)
class Status:
    """A user's verification status.

    :param state: `verified`, `unverified`, `expired`, `exempt`, or `pending` if no proof is valid
        and a code is open.
    :param mobile: the user's mobile in E.164; None if it is missing or invalid.
    :param verified_at: when the mobile was proved; None if it is not.
    :param expires_at: when the proof expires; None if it never does.
    :param challenge: the open challenge, if the caller looked for one.
    :param locked: whether only staff can unlock the account; False for an exempt user.
    :param settled_at: when `within` starts to count the proof; None if it always did.
    :param latest: the latest challenge in any state, if the caller looked for `challenge`.
    """

    state: State
    mobile: str | None = None
    verified_at: datetime | None = None
    expires_at: datetime | None = None
    exempt: bool = False
    challenge: Challenge | None = None
    locked: bool = False
    settled_at: datetime | None = None
    latest: Challenge | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        return f"<Status {self.state} {mask(self.mobile) if self.mobile else 'without mobile'}>"

    def with_open_challenge(self) -> Status:
        """Return the status of a user with an open challenge. A locked user can enter no code."""
        if self.locked or self.state == "verified":
            return self
        return replace(self, state="pending")


@dataclass(frozen=True, slots=True)
class Decision:
    """A guard's decision.

    :param reason: the view runs for `off`, `exempt` and `verified`. `too_old` means that the proof
        is valid but older than `within`, `unsettled` that the mobile replaced a proved one less
        than `SMSVERIFY_MOBILE_SETTLED` ago, which `within` does not count.
    :param status: what `Verifier.status` returns, without the challenge and without the mobile of
        an exempt user; None if the area is off. `locked` and `settled_at` are not read again within
        `SMSVERIFY_RECHECK_SECONDS`.
    """

    reason: Literal["off", "exempt", "verified", "unverified", "expired", "too_old", "unsettled"]
    area: str | None = None
    within: timedelta | None = None
    status: Status | None = None

    @property
    def allowed(self) -> bool:
        """Whether the view may run."""
        return self.reason in ("off", "exempt", "verified")


class Policy:
    """The rules. Those that staff can change are read from the run-time settings at each call."""

    def __init__(self, live: LiveSettings, rules: Rules) -> None:
        self._live = live
        self._rules = rules

    def is_on(self, area: str | None) -> bool:
        """Return whether an area demands verification. An area that is not listed does."""
        return area is None or self._live.current.areas.get(area, True) is not False

    def areas_of(self, endpoint: str) -> list[str]:
        """Return the areas whose patterns match an endpoint."""
        return [
            area
            for area, patterns in self._live.current.areas.items()
            if not isinstance(patterns, bool)
            and any(fnmatch.fnmatchcase(endpoint, pattern) for pattern in patterns)
        ]

    @property
    def has_exempt_groups(self) -> bool:
        """Whether any group is exempt."""
        return bool(self._live.current.exempt_groups)

    def exempts(self, groups: Iterable[str]) -> bool:
        """Return whether any of these groups is exempt."""
        return not set(groups).isdisjoint(self._live.current.exempt_groups)

    def expiry(self, verified_at: datetime) -> datetime | None:
        """Return when a proof expires; None if proofs never do. A day has 24 hours."""
        days = self._live.current.revalidation_days
        return verified_at + timedelta(days=days) if days else None

    def is_proof(self, row: VerificationColumns, now: datetime) -> bool:
        """Return whether a row is a valid proof, whatever mobile its user has today."""
        if row.verified_at is None or row.revoked_at is not None:
            return False
        return _is_valid(row.verified_at, self.expiry(row.verified_at), now)

    def status(self, row: VerificationColumns | None, mobile: str | None, now: datetime) -> Status:
        """Return a user's status from their row and the mobile that the host has today."""
        locked = row is not None and self._rules.is_locked(row)
        if row is None or row.verified_at is None or row.revoked_at or row.mobile != mobile:
            return Status("unverified", mobile, locked=locked)
        expires_at = self.expiry(row.verified_at)
        return Status(
            "verified" if _is_valid(row.verified_at, expires_at, now) else "expired",
            mobile,
            row.verified_at,
            expires_at,
            locked=locked,
            settled_at=row.settled_at,
        )

    def decide(
        self, status: Status, now: datetime, *, area: str | None, within: timedelta | None
    ) -> Decision:
        """Return a guard's decision about a user who is not exempt."""
        if status.state != "verified" or status.verified_at is None:
            reason: Literal["expired", "unverified"] = (
                "expired" if status.state == "expired" else "unverified"
            )
            return Decision(reason, area, within, status)
        if within is not None and self.is_unsettled(status, now):
            return Decision("unsettled", area, within, status)
        if within is not None and now - status.verified_at > within:
            return Decision("too_old", area, within, status)
        return Decision("verified", area, within, status)

    def is_unsettled(self, status: Status, now: datetime) -> bool:
        """Return whether `within` does not count this user's proof yet."""
        return status.settled_at is not None and now < status.settled_at

    def is_complete(
        self,
        status: Status,
        now: datetime,
        *,
        within: timedelta | None,
        new_mobile: str | None,
        is_login_pending: bool,
    ) -> bool:
        """Return whether a user has nothing left to prove.

        :param within: the maximal age of the proof.
        :param new_mobile: a mobile that the user entered and has not proved yet.
        :param is_login_pending: whether a login waits for the code; then only a proof completes it.
        """
        if new_mobile:
            return False
        if status.exempt:
            return True
        if status.state != "verified" or status.verified_at is None or is_login_pending:
            return False
        if within is None:
            return True
        return not self.is_unsettled(status, now) and now - status.verified_at <= within


def _is_valid(verified_at: datetime, expires_at: datetime | None, now: datetime) -> bool:
    return verified_at <= now + CLOCK_SKEW and (expires_at is None or now < expires_at)
