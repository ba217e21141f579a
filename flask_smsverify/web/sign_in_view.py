"""The data of a sign-in for templates and programs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..db.models import Challenge
from ..phone import mask, national
from ..state import get_state
from .bodies import SignInBody
from .times import earliest, latest, seconds_left, seconds_until
from .view_models import shown_delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInView:
    """The variable `sv_sign_in` of the template.

    :param state: `number` while a number is asked for; `code` while a code can be entered; `closed`
        if a new code must be requested.
    :param mobile: the whole number that was entered, in national form; empty before.
    :param delivery: the delivery state of the last message; empty before it is known.
    :param can_sign_up: whether a number without an account may get one.
    """

    state: str
    mobile: str
    channel: str
    delivery: str
    can_sms: bool
    can_voice: bool
    can_sign_up: bool
    expires_at: datetime | None
    expires_in: int
    resend_at: datetime | None
    resend_in: int
    attempts_left: int | None
    code_length: int | None
    remember: bool
    next: str


def sign_in_view(
    challenge: Challenge | None, *, next_url: str, remember: bool, is_changing: bool = False
) -> SignInView:
    """Return what the page shows.

    :param challenge: the challenge of this session; None before the first code.
    :param is_changing: whether the visitor wants to enter another number.
    """
    app = get_state()
    now = app.clock()
    if challenge is None or is_changing:
        state = "number"
    else:
        state = "code" if is_open(challenge) else "closed"
    resend_at = challenge.resend_at if challenge and challenge.resend_at > now else None
    is_code_open = state == "code" and challenge is not None
    expires_at = challenge.expires_at if challenge and is_code_open else None
    return SignInView(
        state=state,
        mobile=national(challenge.mobile) if challenge else "",
        channel=challenge.channel if challenge else "sms",
        delivery=_delivery(challenge) if challenge and state != "number" else "",
        can_sms=app.delivery.routes.can("sms"),
        can_voice=app.delivery.routes.can("voice"),
        can_sign_up=app.sign_in.can_sign_up,
        expires_at=expires_at,
        expires_in=seconds_left(expires_at, now),
        resend_at=resend_at,
        resend_in=seconds_until(resend_at, now),
        attempts_left=attempts_left(challenge) if challenge and is_code_open else None,
        code_length=(
            challenge.code_length
            if challenge and is_code_open and challenge.native_sender is None
            else None
        ),
        remember=remember,
        next=next_url,
    )


def is_open(challenge: Challenge) -> bool:
    """Return whether a code of this challenge can be entered."""
    is_pending = challenge.state == Challenge.PENDING and attempts_left(challenge) > 0
    return is_pending and get_state().clock() < challenge.expires_at


def attempts_left(challenge: Challenge) -> int:
    """Return how many more guesses a challenge allows."""
    return max(0, get_state().settings.max_attempts - challenge.attempts)


def sign_in_json(
    challenge: Challenge | None, *, next_url: str, just_sent: bool = False
) -> SignInBody:
    """Return the JSON object of a sign-in.

    :param just_sent: whether the code was sent by this request. Its delivery runs in the
        background and is not known yet, whatever the number.
    """
    if challenge is None:
        return {"state": "signed_out", "next": next_url}
    has_code = is_open(challenge)
    resend_at = challenge.resend_at if challenge.resend_at > get_state().clock() else None
    return {
        "state": "pending" if has_code else "signed_out",
        "mobile": mask(challenge.mobile),
        "channel": challenge.channel,
        "expires_at": latest(challenge.expires_at) if has_code else None,
        "resend_at": earliest(resend_at),
        "attempts_left": attempts_left(challenge) if has_code else None,
        "delivery": "queued" if just_sent else _delivery(challenge) or None,
        "next": next_url,
    }


def _delivery(challenge: Challenge) -> str:
    message = get_state().verifier.last_message(challenge)
    return "" if message is None else shown_delivery(message.state)
