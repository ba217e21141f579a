"""View models: the data of a visitor's verification for templates and programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flask.typing import ResponseReturnValue

from ..db.models import Challenge
from ..phone import mask
from ..state import get_state
from ..verification.issue import Sent
from ..verification.policy import Status
from ..verification.rules import NEW_NUMBER
from .bodies import VerificationBody
from .csrf import csrf_field_name, csrf_token
from .demands import load_demand
from .fields import read_query
from .flash import notice_text
from .interface import Interface
from .problems import Problem, problem_view
from .redirects import next_url
from .security_headers import render_own_template
from .times import earliest, latest, seconds_left, seconds_until
from .visitor import Visitor

#: Delivery states after which the visitor may never get the message.
_DOUBTFUL = ("unknown", "undelivered", "rejected")


@dataclass(frozen=True, slots=True)
class Target:
    """Where the visitor goes afterwards.

    :param url: a path of this site, or a URL on another host of the app.
    :param demand: the signed demand for a recent proof; empty without one.
    :param within: the maximal age of the proof that it demands.
    """

    url: str
    demand: str = ""
    within: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageView:
    """The variable `verify` of the templates. Hosts replace the templates, so the names are public.

    :param state: `unsent`, `pending`, `verified`, `exempt`, `locked`, or `unsettled` if only time
        is missing: the mobile replaced a proved one recently, and a recent proof is demanded.
    :param mobile: the mobile that the page is about, masked.
    :param present: the user's mobile in the host, masked.
    :param given: a mobile that was entered and is not proved yet, masked.
    :param entered: `given` without a mask; the visitor entered it in this session and can see a
        typo.
    :param delivery: the delivery state of the last message; None if nothing was sent.
    :param resend_in: whole seconds until the next send is allowed.
    :param is_login_pending: whether a login waits for the code.
    :param guess_in: whole seconds during which no code is accepted or sent.
    """

    state: str
    mobile: str | None
    present: str | None
    given: str | None
    entered: str | None
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
    settled_at: datetime | None
    attempts_left: int | None
    is_login_pending: bool
    code_length: int | None
    next: str
    demand: str


def is_complete(visitor: Visitor, target: Target, status: Status | None = None) -> bool:
    """Return whether this visitor has nothing left to prove.

    :param status: the visitor's status; by default that of the record.
    """
    app = get_state()
    return app.policy.is_complete(
        status or visitor.status,
        app.clock(),
        within=target.within,
        new_mobile=visitor.new_mobile,
        is_login_pending=visitor.is_login_pending,
    )


def read_target(visitor: Visitor, fields: Mapping[str, Any]) -> Target:
    """Return the target of a request, with its demand if it was made for this visitor."""
    url = next_url(fields.get("next"))
    demand = fields.get("demand") or read_query().get("demand")
    within = load_demand(demand, visitor.id)
    return Target(url) if within is None else Target(url, str(demand), within)


def page_view(visitor: Visitor, target: Target) -> PageView:
    """Return what the page shows to a visitor now."""
    app = get_state()
    now = app.clock()
    status = visitor.status
    mobile = visitor.new_mobile or status.mobile
    challenge = shown_challenge(visitor, mobile)
    complete = is_complete(visitor, target)
    if complete:
        state = "exempt" if status.exempt else "verified"
    elif status.locked:
        state = "locked"
    elif _is_unsettled(visitor, target):
        state = "unsettled"
    else:
        state = "pending" if challenge is not None else "unsent"
    pending = challenge if state == "pending" else None
    asked = pending.mobile if pending is not None else mobile
    expires_at = pending.expires_at if pending else status.expires_at if complete else None
    delivery = visitor.record.deliveries[pending.id] if pending else None
    resend_at = None if complete else _resend_at(visitor, pending, now)
    is_waiting = state in ("unsent", "pending")
    return PageView(
        state=state,
        mobile=_masked(asked),
        present=_masked(status.mobile),
        given=_masked(visitor.new_mobile),
        entered=visitor.new_mobile,
        channel=pending.channel if pending else "sms",
        delivery=shown_delivery(delivery) if delivery else None,
        can_sms=app.delivery.routes.can("sms"),
        can_voice=app.delivery.routes.can("voice"),
        can_change_mobile=not visitor.is_login_pending or status.verified_at is None,
        expires_at=expires_at,
        expires_in=seconds_left(expires_at, now),
        resend_at=resend_at,
        resend_in=seconds_until(resend_at, now),
        guess_in=visitor.record.guess_wait if is_waiting else 0,
        verified_at=status.verified_at if complete else None,
        settled_at=status.settled_at if state == "unsettled" else None,
        attempts_left=max(0, app.settings.max_attempts - pending.attempts) if pending else None,
        is_login_pending=visitor.is_login_pending,
        code_length=pending.code_length if pending and pending.native_sender is None else None,
        next=target.url,
        demand=target.demand,
    )


def _is_unsettled(visitor: Visitor, target: Target) -> bool:
    """Return whether this visitor can only wait until a recent proof counts."""
    app, status = get_state(), visitor.status
    is_verified = status.state == "verified" and visitor.new_mobile is None
    is_demanded = target.within is not None and not visitor.is_login_pending
    return is_verified and is_demanded and app.policy.is_unsettled(status, app.clock())


def shown_challenge(visitor: Visitor, mobile: str | None) -> Challenge | None:
    """Return the challenge about this mobile that is open or exhausted; None without one."""
    challenge, now = _latest(visitor), get_state().clock()
    if challenge is None or challenge.mobile != mobile or now >= challenge.expires_at:
        return None
    return challenge if challenge.state in (Challenge.PENDING, Challenge.EXHAUSTED) else None


def _latest(visitor: Visitor) -> Challenge | None:
    """Return the visitor's latest challenge, of the change if the visitor is changing a number."""
    record = visitor.record
    return record.to_new if purpose_of(visitor) == NEW_NUMBER else record.latest


def purpose_of(visitor: Visitor) -> str:
    """Return the purpose of the codes that the visitor gets."""
    return NEW_NUMBER if replaces_proved(visitor, visitor.new_mobile) else "verify"


def replaces_proved(visitor: Visitor, wanted: str | None) -> bool:
    """Return whether a mobile would replace one that the visitor has proved.

    :param wanted: the mobile to prove, in E.164; None if there is none.
    """
    return wanted is not None and visitor.record.replaces_proved(wanted)


def _resend_at(visitor: Visitor, pending: Challenge | None, now: datetime) -> datetime | None:
    last = pending or _latest(visitor)
    if last is None or last.state == Challenge.VERIFIED:  # a right code ends the cooldown
        return None
    return last.resend_at if last.resend_at > now else None


def _masked(mobile: str | None) -> str | None:
    return mask(mobile) if mobile else None


def shown_delivery(state: str) -> str:
    """Return a message's state as a delivery state that visitors understand."""
    return {"sending": "queued", "failed": "rejected"}.get(state, state)


def is_on_its_way(state: str | None) -> bool:
    """Return whether a gateway has taken a message and may still report its delivery.

    :param state: the message's state; None without a message.
    """
    return state in ("queued", "sent")


def as_json(visitor: Visitor, target: Target) -> VerificationBody:
    """Return the JSON object of a visitor's verification."""
    status, view = visitor.status, page_view(visitor, target)
    if view.state in ("pending", "verified", "exempt"):
        state = view.state
    elif view.state == "unsettled":
        state = "verified"
    elif status.verified_at is not None and not visitor.new_mobile:
        state = "expired"  # also for a valid proof that is older than `within`
    else:
        state = "unverified"
    body: VerificationBody = {
        "state": state,
        "mobile": view.mobile,
        "verified_mobile": view.present if status.state == "verified" else None,
        "channel": view.channel if view.state == "pending" else None,
        "verified_at": latest(view.verified_at),
        "expires_at": latest(view.expires_at),
        "resend_at": earliest(view.resend_at),
        "attempts_left": view.attempts_left,
        "delivery": view.delivery,
        "exempt": status.exempt,
        "next": view.next,
    }
    settled_at = earliest(view.settled_at)
    if settled_at is not None:
        body["settled_at"] = settled_at
    return body


def render_page(
    template: str,
    ui: Interface,
    view: PageView,
    problem: Problem | None,
    notice: str | None,
    **context: object,
) -> ResponseReturnValue:
    """Render a page.

    :param problem: shown instead of the notice.
    :param notice: a name that `flash.notice_text` knows.
    """
    return render_own_template(
        template,
        verify=view,
        # The prefix keeps these names apart from those of the host's layout.
        sv_error=problem_view(problem, ui) if problem else None,
        sv_notice=notice_text(notice, ui) if notice and not problem else None,
        sv_csrf_field_name=csrf_field_name(),
        sv_csrf_token=csrf_token(),
        **context,
    )


def sent_notice(sent: Sent) -> str | None:
    """Return the notice about a send; None about a challenge's first, and if it may have failed."""
    challenge = sent.challenge
    if challenge.sends <= 1 or sent.delivery is None or shown_delivery(sent.delivery) in _DOUBTFUL:
        return None
    # `RESEND` does not apply to native codes: the gateway decides.
    if get_state().settings.resend == "new" and challenge.native_sender is None:
        return "sent_new"
    if challenge.channel == "sms":
        return "sent_again"
    return "calling_again" if sent.channel_before == "voice" else "calling"
