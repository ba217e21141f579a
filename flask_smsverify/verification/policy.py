"""Who must verify, and for how long a proof holds. Pure: times and rows come in as arguments."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol

from ..models import Challenge
from ..phone import mask

State = Literal["verified", "unverified", "expired", "pending", "exempt"]

#: A proof dated further ahead than this comes from a clock that was wrong, and does not count.
CLOCK_SKEW = timedelta(minutes=1)


class Held(Protocol):
    """What the rules read of a verification, or of a row with the same columns."""

    @property
    def mobile(self) -> str | None: ...
    @property
    def verified_at(self) -> datetime | None: ...
    @property
    def revoked_at(self) -> datetime | None: ...


@dataclass(frozen=True, slots=True)
class Status:
    """Where a user stands.

    :param mobile: E.164, the user's own as the host has it; None without a valid one.
    :param verified_at: when it was proved; None where it is not.
    :param expires_at: when that proof ages out; None where it never does.
    :param challenge: the open challenge, where one was looked for and is open.
    :param locked: whether only staff can let this user try again.
    """

    state: State
    mobile: str | None = None
    verified_at: datetime | None = None
    expires_at: datetime | None = None
    exempt: bool = False
    challenge: Challenge | None = None
    locked: bool = False

    def __repr__(self) -> str:
        return f"<Status {self.state} {mask(self.mobile) if self.mobile else 'without mobile'}>"


@dataclass(frozen=True, slots=True)
class Decision:
    """What a guard found.

    :param reason: `off`, `exempt` and `verified` let through; `unverified`, `expired` and
        `too_old` (the proof holds, but is older than `within`) do not.
    """

    reason: Literal["off", "exempt", "verified", "unverified", "expired", "too_old"]
    area: str | None = None
    within: timedelta | None = None
    status: Status | None = None

    @property
    def allowed(self) -> bool:
        """Whether the view may run."""
        return self.reason in ("off", "exempt", "verified")


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules.

    :param areas: area → on, off, or the endpoint patterns it guards by itself (and is on).
    :param lifetime: how long a proof holds; None: for ever.
    """

    areas: Mapping[str, bool | tuple[str, ...]]
    exempt_groups: frozenset[str]
    lifetime: timedelta | None

    def is_on(self, area: str | None) -> bool:
        """Whether an area demands verification. One that nobody listed does."""
        return area is None or self.areas.get(area, True) is not False

    def areas_of(self, endpoint: str) -> list[str]:
        """The areas that guard an endpoint by a pattern."""
        return [
            area
            for area, patterns in self.areas.items()
            if not isinstance(patterns, bool)
            and any(fnmatch.fnmatchcase(endpoint, pattern) for pattern in patterns)
        ]

    def exempts(self, groups: Iterable[str]) -> bool:
        """Whether any of these groups need not verify."""
        return not self.exempt_groups.isdisjoint(groups)

    def expiry(self, verified_at: datetime) -> datetime | None:
        """When a proof of that time ages out. Days are 24 hours, whatever the clocks do."""
        return None if self.lifetime is None else verified_at + self.lifetime

    def proof_holds(self, row: Held, now: datetime) -> bool:
        """Whether a row is a proof that is in force, whoever has that mobile today."""
        if row.verified_at is None or row.revoked_at is not None:
            return False
        expiry = self.expiry(row.verified_at)
        return row.verified_at <= now + CLOCK_SKEW and (expiry is None or now < expiry)

    def standing(self, row: Held | None, mobile: str | None, now: datetime) -> Status:
        """A user's state by their row and the mobile that the host has for them today."""
        if row is None or row.verified_at is None or row.revoked_at or row.mobile != mobile:
            return Status("unverified", mobile)
        state: State = "verified" if self.proof_holds(row, now) else "expired"
        return Status(state, mobile, row.verified_at, self.expiry(row.verified_at))

    def judge(
        self, status: Status, now: datetime, *, area: str | None, within: timedelta | None
    ) -> Decision:
        """What a guard does with somebody of that status."""
        if status.exempt:
            return Decision("exempt", area, within, status)
        if status.state != "verified" or status.verified_at is None:
            reason: Literal["expired", "unverified"] = (
                "expired" if status.state == "expired" else "unverified"
            )
            return Decision(reason, area, within, status)
        if within is not None and now - status.verified_at > within:
            return Decision("too_old", area, within, status)
        return Decision("verified", area, within, status)
