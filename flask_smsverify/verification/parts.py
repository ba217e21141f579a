"""What verification works with: the rules' numbers, and the rooms it speaks to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol

from sqlalchemy import Connection

from ..delivery import Delivery
from ..errors import MobileError
from ..ledger import Ledger
from ..models import Verification
from ..settings import Limit
from ..text import CodeTexts
from .budgets import Budgets
from .codes import Keyring
from .policy import Policy


class Users(Protocol):
    """What the verifier asks about the host's users. A user is whatever the host says it is."""

    def id_of(self, user: object) -> str:
        """The primary key as text."""

    def mobile_of(self, user: object) -> str | None:
        """The mobile as the host has it, in any spelling."""

    def is_exempt(self, user: object) -> bool:
        """Whether the user need not verify."""

    def find(self, user_id: str) -> object | None:
        """The user with that key."""

    def write_mobile(self, user: object, mobile: str) -> None:
        """Write a mobile to the user, to be committed with the host's transaction."""

    def admit(self, user: object, mobile: str) -> Connection:
        """The connection of the host's transaction, with what was pending written to it.

        :param mobile: what a new user gets before, whose row must hold a mobile.
        """

    def flush(self) -> None:
        """Write what is pending to the host's transaction."""

    def after_commit(self, announce: Callable[[], None]) -> None:
        """Call it when the host's transaction is committed; never, where it is rolled back."""


class Tell(Protocol):
    """Tells people things. Verification itself tells nobody anything."""

    def __call__(self, event: str, *, mobile: str | None, **values: str) -> None:
        """Tell an event to a mobile, or to the staff where that is None. Must not raise."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The numbers that the verifier goes by, as `SMSVERIFY_*` has them."""

    code_length: int
    code_lifetime: timedelta
    max_attempts: int
    resend: Literal["same", "new"]
    resend_delays: tuple[int, ...]
    budgets: Mapping[str, tuple[Limit, ...]]
    consecutive_failures: int
    accounts_per_mobile: int
    mobile_policy: Literal["refuse", "transfer"]
    default_region: str
    #: E.164 → its fixed code; nothing is sent to these.
    test_numbers: Mapping[str, str] = field(repr=False)

    def is_locked(self, standing: Verification) -> bool:
        """Whether an account had too many failures in a row, also if nobody noted that yet."""
        return standing.locked_at is not None or standing.failures >= self.consecutive_failures


@dataclass(eq=False, repr=False, slots=True)
class Parts:
    """What the rules of proof work with; every room of verification holds the same one.

    :param parse: any spelling → E.164, or a `MobileError`.
    :param locale: the language of a code's text, asked at each send.
    :param emit: sends a signal.
    :param tell: tells a person what they must know: the holder of an old number, the staff.
    """

    ledger: Ledger
    budgets: Budgets
    keyring: Keyring
    policy: Policy
    delivery: Delivery
    users: Users
    rules: Rules
    texts: CodeTexts
    parse: Callable[[object], str]
    locale: Callable[[], str]
    emit: Callable[..., None]
    tell: Tell
    clock: Callable[[], datetime]

    def mobile_of(self, user: object) -> str | None:
        """A user's mobile as E.164; None where the host has none, or none that is valid."""
        try:
            return self.parse(self.users.mobile_of(user))
        except MobileError:
            return None
