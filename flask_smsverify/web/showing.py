"""What is shown of a visitor's standing, to a template and to a program."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from flask import render_template
from flask.typing import ResponseReturnValue

from ..extension import State
from ..models import Challenge
from ..phone import mask
from ..verification.policy import Status
from . import answers
from .answers import Problem
from .visitors import Visitor, Web, is_done

#: The deliveries of a message that may well have reached nobody.
DOUBTFUL = ("unknown", "undelivered", "rejected")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the templates know of a visitor's standing; `verify` in them.

    :param state: `unsent`, `pending`, `verified`, `exempt` or `locked`.
    :param mobile: masked: the number that all this is about.
    :param present: masked: the user's own number, as the host has it.
    :param given: masked: a number that was given in its place and is not proved yet.
    :param delivery: what is known of the last message: a `Status`, or None.
    :param resend_in: whole seconds until another send is allowed.
    :param guess_in: whole seconds in which no code is taken, and none sent therefore; 0: none.
    """

    state: str
    mobile: str | None
    present: str | None
    given: str | None
    channel: str
    delivery: str | None
    can_sms: bool
    can_voice: bool
    can_change_mobile: bool
    expires_at: datetime | None
    expires_in: int
    resend_at: datetime | None
    resend_in: int
    guess_in: int
    verified_at: datetime | None
    attempts_left: int | None
    code_length: int | None
    next: str
    demand: str


def show(web: Web, visitor: Visitor, status: Status, target: str, demand: str) -> Shown:
    """What there is to show of a visitor now.

    :param target: where to go afterwards.
    :param demand: the demand for a fresh proof, where one was made of this visitor.
    """
    state = web.state
    now = datetime.now(UTC)
    mobile = visitor.given or status.mobile
    challenge = challenge_on(state, visitor, status, mobile, now)
    done = is_done(web, visitor, status, demand)
    if done:
        word = "exempt" if status.exempt else "verified"
    elif status.locked:
        word = "locked"
    else:
        word = "pending" if challenge is not None else "unsent"
    asked = challenge.mobile if challenge is not None and word == "pending" else mobile
    pending = challenge if word == "pending" else None
    expires_at = pending.expires_at if pending else status.expires_at if done else None
    message = state.verifier.last_message(pending) if pending else None
    last = state.verifier.latest(visitor.user) if pending is None and not done else pending
    if last is not None and last.state == Challenge.VERIFIED:
        last = None  # a right code ends the pauses
    resend_at = last.resend_at if last is not None and last.resend_at > now else None
    return Shown(
        state=word,
        mobile=mask(asked) if asked else None,
        present=mask(status.mobile) if status.mobile else None,
        given=mask(visitor.given) if visitor.given else None,
        channel=pending.channel if pending else "sms",
        delivery=_delivery(message.state) if message else None,
        can_sms=state.delivery.routes.can("sms"),
        can_voice=state.delivery.routes.can("voice"),
        can_change_mobile=not visitor.logging_in or status.verified_at is None,
        expires_at=expires_at,
        expires_in=_seconds_to(expires_at, now),
        resend_at=resend_at,
        resend_in=_seconds_to(resend_at, now),
        guess_in=state.verifier.guess_wait(visitor.user) if word in ("unsent", "pending") else 0,
        verified_at=status.verified_at if done else None,
        attempts_left=max(0, state.settings.max_attempts - pending.attempts) if pending else None,
        code_length=pending.code_length if pending and pending.native_sender is None else None,
        next=target,
        demand=demand,
    )


def challenge_on(
    state: State, visitor: Visitor, status: Status, mobile: str | None, now: datetime
) -> Challenge | None:
    """The challenge on this number that the page is about: open, or with no guess left."""
    challenge = status.challenge or state.verifier.latest(visitor.user)
    if challenge is None or challenge.mobile != mobile or now >= challenge.expires_at:
        return None
    return challenge if challenge.state in (Challenge.PENDING, Challenge.EXHAUSTED) else None


def is_new(state: State, visitor: Visitor, status: Status) -> bool:
    """Whether a number was given that no code was sent to yet."""
    given, now = visitor.given, datetime.now(UTC)
    return given is not None and challenge_on(state, visitor, status, given, now) is None


def _delivery(state: str) -> str:
    return "queued" if state == "sending" else "rejected" if state == "failed" else state


def _seconds_to(moment: datetime | None, now: datetime) -> int:
    if moment is None:
        return 0
    return max(0, -int(-(moment - now).total_seconds() // 1))


def as_json(
    web: Web, visitor: Visitor, status: Status, target: str, demand: str
) -> dict[str, object]:
    """The same for a program."""
    shown = show(web, visitor, status, target, demand)
    if shown.state in ("pending", "verified", "exempt"):
        state = shown.state
    elif status.verified_at is not None and not visitor.given:
        state = "expired"  # also where the proof holds, but a fresher one is demanded
    else:
        state = "unverified"
    return {
        "state": state,
        "mobile": shown.mobile,
        "verified_mobile": shown.present if status.state == "verified" else None,
        "channel": shown.channel if shown.state == "pending" else None,
        "verified_at": _iso(shown.verified_at),
        "expires_at": _iso(shown.expires_at),
        # Rounded up, so that who comes back at that time is not early.
        "resend_at": _iso(shown.resend_at and shown.resend_at + timedelta(microseconds=999_999)),
        "attempts_left": shown.attempts_left,
        "delivery": shown.delivery,
        "exempt": status.exempt,
        "next": shown.next,
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def render(
    template: str,
    web: Web,
    shown: Shown,
    found: Problem | None,
    notice: str | None,
    **more: object,
) -> ResponseReturnValue:
    """A page.

    :param found: what went wrong; then there is no notice.
    """
    return render_template(
        f"smsverify/{template}",
        verify=shown,
        # The names have a prefix, so that a host's own layout around them keeps its own.
        sv_error=answers.shown(found, web.ui) if found else None,
        sv_notice=answers.notice_text(notice, web.ui) if notice and not found else None,
        sv_csrf_field_name=answers.csrf_field_name(),
        sv_csrf_token=answers.csrf_token(),
        sv_site_name=web.state.site_name,
        **more,
    )


def notice_of(state: State, sent: Challenge, before: Challenge | None) -> str | None:
    """What to tell of a send, where it was not the challenge's first."""
    if sent.sends <= 1:
        return None
    message = state.verifier.last_message(sent)
    if message is None or _delivery(message.state) in DOUBTFUL:
        return None
    # The gateway's own codes are as the gateway makes them.
    if state.settings.resend == "new" and sent.native_sender is None:
        return "sent_new"
    if sent.channel == "sms":
        return "sent_again"
    return "calling_again" if before is not None and before.channel == "voice" else "calling"
