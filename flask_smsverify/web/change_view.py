"""The data of an open change of a proved mobile for templates and programs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NotRequired, TypedDict

from ..db.models import Challenge, MobileChange
from ..phone import mask
from ..state import get_state
from .bodies import ChangeBody
from .times import earliest, latest, seconds_until
from .visitor import Visitor


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeView:
    """The variable `sv_change` of the templates.

    :param state: `confirming` while the old number can confirm and no delay has started, then
        `delayed`.
    :param old_mobile: the number that is to be replaced, masked.
    :param new_mobile: the number that replaces it, masked.
    :param applies_at: when the delay is over; None before it starts.
    :param is_code_open: whether a code of the old number can be entered.
    :param resend_in: whole seconds until the next send is allowed.
    """

    state: str
    old_mobile: str
    new_mobile: str
    applies_at: datetime | None
    is_code_open: bool
    channel: str
    code_length: int | None
    code_expires_at: datetime | None
    attempts_left: int | None
    resend_at: datetime | None
    resend_in: int
    can_sms: bool
    can_voice: bool


def change_view(visitor: Visitor) -> ChangeView | None:
    """Return the visitor's open change; None without one, and for a login that is pending."""
    if visitor.is_login_pending:
        return None
    record = visitor.record
    return None if record.change is None else _view(record.change, record.to_old)


def _view(change: MobileChange, code: Challenge | None) -> ChangeView:
    app = get_state()
    now = app.clock()
    is_open = code is not None and code.state == Challenge.PENDING and now < code.expires_at
    shown = code if is_open else None
    resend_at = code.resend_at if code is not None and code.resend_at > now else None
    return ChangeView(
        state=change.state,
        old_mobile=mask(change.old_mobile),
        new_mobile=mask(change.new_mobile),
        applies_at=change.applies_at,
        is_code_open=is_open,
        channel=shown.channel if shown else "sms",
        code_length=shown.code_length if shown and shown.native_sender is None else None,
        code_expires_at=shown.expires_at if shown else None,
        attempts_left=max(0, app.settings.max_attempts - shown.attempts) if shown else None,
        resend_at=resend_at,
        resend_in=seconds_until(resend_at, now),
        can_sms=app.delivery.routes.can("sms"),
        can_voice=app.delivery.routes.can("voice"),
    )


class ChangeMembers(TypedDict):
    """The members of a response in addition to the state of the verification."""

    change: NotRequired[ChangeBody]


def change_members(visitor: Visitor) -> ChangeMembers:
    """Return the member `change` of JSON responses; nothing without an open change."""
    view = change_view(visitor)
    if view is None:
        return {}
    return {
        "change": {
            "state": view.state,
            "old_mobile": view.old_mobile,
            "new_mobile": view.new_mobile,
            "applies_at": earliest(view.applies_at),
            "code_expires_at": latest(view.code_expires_at),
            "attempts_left": view.attempts_left,
            "resend_at": earliest(view.resend_at),
        }
    }
