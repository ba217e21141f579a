"""The data that the widgets show, and the form with which their card sends a code again."""

from __future__ import annotations

from dataclasses import dataclass, replace

from flask import current_app, request, url_for
from flask_wtf.csrf import generate_csrf

from ..guard import current_status
from ..phone import mask
from ..state import get_state
from ..users import current_user, is_logged_in
from ..verification.policy import Status
from .csrf import csrf_field_name


@dataclass(frozen=True, slots=True)
class CardActions:
    """What the viewer of a status card may do.

    :param is_own: whether the card is about the viewer.
    :param send_url: where a form sends a code; None if the viewer may not.
    :param fields: the hidden fields of this form.
    """

    is_own: bool
    send_url: str | None
    fields: dict[str, str]


def widget_status(user: object) -> Status:
    """Return the status that a widget shows, with a masked mobile."""
    if not is_logged_in(user):  # a layout shows its widgets to anonymous visitors too
        return Status("unverified")
    status = current_status(user)
    return replace(status, mobile=mask(status.mobile) if status.mobile else None)


def card_actions(user: object) -> CardActions:
    """Return what the viewer may do: users for themselves, staff for everybody."""
    viewer = current_user()
    if not is_logged_in(user) or not is_logged_in(viewer):
        return CardActions(is_own=True, send_url=None, fields={})
    state = get_state()
    users = state.users
    if not users.stands_for_user(user):  # of another class, and exempt
        return CardActions(is_own=False, send_url=None, fields={})
    user_id = users.id_of(user)
    if users.stands_for_user(viewer) and user_id == users.id_of(viewer):
        channel = "sms" if state.delivery.routes.can("sms") else "voice"
        fields = {"channel": channel, "next": request.full_path.rstrip("?")} | _csrf_field()
        return CardActions(is_own=True, send_url=url_for("smsverify.send"), fields=fields)
    staff_required = state.callbacks.staff_required
    if staff_required is None or staff_required() is not True:
        return CardActions(is_own=False, send_url=None, fields={})
    url = url_for("smsverify_admin.verifications_act", user_id=user_id, action="resend")
    return CardActions(is_own=False, send_url=url, fields=_csrf_field())


def _csrf_field() -> dict[str, str]:
    is_required = current_app.config.get("WTF_CSRF_ENABLED", True)
    return {csrf_field_name(): generate_csrf()} if is_required else {}
