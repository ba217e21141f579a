"""What a send or a check has read about its user, for a decision of the caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from ..db.models import Challenge, Verification


@dataclass(frozen=True, slots=True)
class UserRows:
    """What a transaction has read about a user.

    :param challenge: the open challenge that is sent again, or the one that is checked.
    :param has_changed_number: whether the user has changed a proved number, or is about to.
    :param now: when the transaction had its locks.
    """

    verification: Verification | None
    challenge: Challenge | None
    has_changed_number: bool
    now: datetime


#: Called under the locks of a transaction, before it decides and counts anything. What it raises
#: rolls the transaction back and reaches the caller.
OnRead = Callable[[UserRows], None]
