"""Open changes of a proved mobile: their key, and their predicates."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, bindparam, exists, or_

from ..db.models import Challenge, MobileChange, Verification
from ..keyring import Keyring
from .rules import NEW_NUMBER, OLD_NUMBER

#: The old number must confirm within this time after the new one was proved.
_CONFIRM_WITHIN = timedelta(hours=1)
#: A change that waited is applied within this time after its delay. Later the new number may belong
#: to somebody else.
_APPLY_WITHIN = timedelta(days=30)


def open_change_key(keyring: Keyring, user_id: str) -> str:
    """Return the key that is unique among open changes: one for each user."""
    return keyring.digest("mobile change", user_id)


def has_changed_number() -> ColumnElement[bool]:
    """Return an SQL expression: whether a user has changed a proved number, or is about to.

    Its parameters are `user_id`, and `open_change` with the user's `open_change_key`.
    """
    of_change = or_(Challenge.purpose == NEW_NUMBER, Challenge.purpose == OLD_NUMBER)
    return or_(
        exists().where(Challenge.user_id == bindparam("user_id"), of_change),
        exists().where(MobileChange.open_key == bindparam("open_change")),
    )


def is_proved(verification: Verification) -> bool:
    """Return whether the mobile counts as proved: also if expired, but not if revoked."""
    return verification.verified_at is not None and verification.revoked_at is None


def has_proved(verification: Verification | None, mobile: str) -> bool:
    """Return whether an account has proved this mobile: also if expired, but not if revoked."""
    return verification is not None and verification.mobile == mobile and is_proved(verification)


def is_valid(
    change: MobileChange, verification: Verification | None, own: str | None, now: datetime
) -> bool:
    """Return whether a change can still be applied.

    A change cannot be applied after the host has changed the mobile, after a revocation, or after a
    new proof of the old number, which shows that the number is not lost.

    :param own: the user's mobile today.
    """
    if not change.is_open or verification is None or not is_proved(verification):
        return False
    if not change.old_mobile == verification.mobile == own:
        return False
    if verification.granted_at is not None and verification.granted_at > change.proved_at:
        return False
    if change.applies_at is None:
        return now < change.proved_at + _CONFIRM_WITHIN
    return now < change.applies_at + _APPLY_WITHIN


def is_due(change: MobileChange, now: datetime) -> bool:
    """Return whether the delay of a change is over."""
    return change.applies_at is not None and now >= change.applies_at
