"""The numbers that verification works with, and the interfaces it expects from its surroundings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol

from sqlalchemy import Connection

from ..db.models import Verification

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
    #: How long a number that replaced a proved one is held before `within` counts it.
    mobile_settled: timedelta
    #: How long a change waits that the old number did not confirm.
    change_delay: timedelta
    #: E.164 → fixed code. Nothing is sent to these mobiles.
    test_numbers: Mapping[str, str] = field(repr=False)

    def is_locked(self, counted: FailureColumns) -> bool:
        """Return whether an account, or a mobile without one, had too many failures in a row."""
        return counted.locked_at is not None or counted.failures >= self.consecutive_failures


class Users(Protocol):
    """The host's users. A user is an instance of the host's user model."""

    def id_of(self, user: object) -> str:
        """Return the primary key as text."""

    def mobile_of(self, user: object) -> str | None:
        """Return the user's mobile in E.164; None where it is missing or invalid."""

    def valid_mobile_of(self, user: object) -> str:
        """Return the user's mobile in E.164, or raise the `MobileError` that says what is wrong."""

    def is_exempt(self, user: object) -> bool:
        """Return whether the user does not have to verify."""

    def find(self, user_id: str) -> object | None:
        """Return the user with this key."""

    def write_mobile(self, user: object, mobile: str) -> None:
        """Set the user's mobile. The host's transaction commits it."""

    def store_proved_mobile(
        self, user: object, verification: Verification, *, expected: str | None
    ) -> None:
        """Write a newly proved mobile to the user and commit the host's session.

        :param expected: the user's mobile when the request began, in E.164.
        """

    def join_transaction(self, user: object, mobile: str) -> Connection:
        """Flush the host's session and return the connection of its transaction.

        :param mobile: set on a new user whose row requires a mobile before it can be flushed.
        """

    def flush(self) -> None:
        """Flush the host's session."""

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call back when the host's transaction has committed; never after a rollback."""


class Announcer(Protocol):
    """Informs the host app by signals, and people by notices.

    `emit` and `notify` raise nothing.
    """

    @property
    def emit(self) -> Callable[..., None]:
        """Send a signal: `(signal, **values)`."""

    @property
    def notify(self) -> Callable[..., None]:
        """Send the notice of an event: `(event, *, mobile, new=None, **values)`.

        `mobile` is None for the staff; `new` is the masked new mobile; `values` are the event's.
        """

    @property
    def send_notice(self) -> Callable[..., None]:
        """Send a security notice: `(event, *, mobile, new, url)`. Returns when a sender took it.

        :raises SendFailed: nothing was sent, or it is unknown whether it was.
        :raises ChannelUnavailable: no sender can send texts.
        """
