"""What verification needs of the host app: its users, and a way to inform it and people.

`users.HostUsers` and `announcer.AppAnnouncer` implement these interfaces, so nothing here imports
Flask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sqlalchemy import Connection

from ..db.models import Verification


class Users(Protocol):
    """The host's users. A user is an instance of the host's user model. See `users.HostUsers`."""

    def id_of(self, user: object) -> str:
        """Return the primary key as text."""

    def mobile_of(self, user: object) -> str | None:
        """Return the user's mobile in E.164; None if it is missing or invalid."""

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
        """Call a function after the host's transaction has committed; never after a rollback."""


class Announcer(Protocol):
    """Informs the host app with signals, and people with notices. See `announcer.AppAnnouncer`.

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
        """Send a security notice: `(event, *, mobile, new, url)`. Returns once a sender accepts it.

        :raises SendFailed: nothing was sent, or it is unknown whether it was.
        :raises ChannelUnavailable: no sender can send texts.
        """
