"""The settings that are fixed at start, and the numbers and purposes that several modules share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol

#: A proof or challenge dated further ahead than this was written by a wrong clock.
CLOCK_SKEW = timedelta(minutes=1)

#: The purposes of challenges about a change of mobile. Their right codes are steps of the change
#: and grant no verification.
NEW_NUMBER, OLD_NUMBER = "smsverify.new_number", "smsverify.old_number"


class FailureColumns(Protocol):
    """The columns of a verification or a streak that count the wrong guesses in a row."""

    @property
    def failures(self) -> int: ...
    @property
    def locked_at(self) -> datetime | None: ...


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings of verification that are fixed at start."""

    code_length: int
    code_lifetime: timedelta
    max_attempts: int
    resend: Literal["same", "new"]
    resend_delays: tuple[int, ...]
    consecutive_failures: int
    accounts_per_mobile: int
    mobile_policy: Literal["refuse", "transfer"]
    #: How long `within` does not count a number that replaced a proved one.
    mobile_settled: timedelta
    #: How long a change waits if the old number does not confirm it.
    change_delay: timedelta
    #: E.164 → fixed code. Nothing is sent to these mobiles.
    test_numbers: Mapping[str, str] = field(repr=False)

    def is_locked(self, counted: FailureColumns) -> bool:
        """Return whether an account, or a mobile without one, had too many failures in a row."""
        return counted.locked_at is not None or counted.failures >= self.consecutive_failures
