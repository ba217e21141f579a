"""The pages for entering a code and sending it again, for browsers and for programs alike.

A view checks the form's shape, asks the verifier, and translates what came back. A POST from a
browser always ends in a redirect, so that a reload repeats nothing; a GET sends nothing and changes
nothing. No rule of proof stands here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import flask_login
from flask import (
    Blueprint,
    current_app,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import IntegrityError

from ..errors import ChannelUnavailable, MobileTaken, NoChallenge, SMSVerifyError, StoreUnavailable
from ..extension import PENDING_LOGIN, State
from ..host import plain
from ..models import Challenge, Verification
from ..phone import mask
from ..senders.base import Channel
from ..verification.policy import Status
from . import answers
from .answers import InvalidRequestError, Problem, problem, problem_of
from .guards import GuardAnswers
from .i18n import Interface
from .targets import Demands, next_of, safe_path

blueprint = Blueprint(
    "smsverify",
    __name__,
    template_folder="../templates",
    static_folder="../static/smsverify",
    static_url_path="/static",
)

#: The session key of a number that was given and is not proved yet.
_GIVEN = "_smsverify_mobile"
#: How long a login may wait for its code.
_LOGIN_WAITS = timedelta(minutes=30)

View = Callable[..., ResponseReturnValue]


@dataclass(frozen=True, slots=True)
class Web:
    """What the pages of one app need beside its state."""

    state: State
    ui: Interface
    demands: Demands
    guard: GuardAnswers


def _web() -> Web:
    return cast(Web, current_app.extensions["smsverify_web"])


# --- who is asking -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Visitor:
    """A user, and what this session has said so far.

    :param given: E.164, a number that was given and is not proved yet; None without one.
    :param logging_in: whether the login waits for the code.
    """

    user: Any
    given: str | None
    logging_in: bool


def _visitor(state: State) -> Visitor | None:
    given = session.get(_GIVEN)
    if flask_login.current_user.is_authenticated:
        return Visitor(plain(flask_login.current_user), given, logging_in=False)
    waiting = session.get(PENDING_LOGIN)
    if not isinstance(waiting, dict):
        return None
    age = datetime.now(UTC).timestamp() - waiting["at"]
    user = state.users.find(waiting["user"]) if 0 <= age < _LOGIN_WAITS.total_seconds() else None
    return Visitor(user, given, logging_in=True) if user is not None else None


def _for_visitors(view: View) -> View:
    """Give a view its visitor; send others to log in, and what goes wrong to the right head."""

    @functools.wraps(view)
    def wrapped() -> ResponseReturnValue:
        web = _web()
        try:
            if request.method == "POST" and not answers.csrf_holds():
                return _refused(problem(400, "csrf"))
            visitor = _visitor(web.state)
            if visitor is None:
                return web.guard.anonymous()
            return view(web, visitor)
        except InvalidRequestError:
            return _refused(problem(422, "invalid_request"))
        except StoreUnavailable as error:
            return _refused(problem_of(error))

    return wrapped


def _refused(found: Problem) -> ResponseReturnValue:
    """A problem that no form can be shown with."""
    web = _web()
    if answers.wants_json() or request.endpoint == "smsverify.status":
        return answers.problem_json(found, web.ui)
    return answers.problem_page(found, web.state, web.ui)


@blueprint.errorhandler(CSRFError)
def _host_refused_csrf(_error: CSRFError) -> ResponseReturnValue:
    """The host's own `CSRFProtect` was there first; the answer is ours all the same."""
    return _refused(problem(400, "csrf"))


blueprint.after_request(answers.no_store)


# --- the views ---------------------------------------------------------------------------------


@blueprint.get("/", endpoint="page")
@_for_visitors
def page(web: Web, visitor: Visitor) -> ResponseReturnValue:
    """What is asked, where the code went, the form for it, and sending it again."""
    status = web.state.verifier.status(visitor.user)
    target, demand = request.args.get("next"), request.args.get("demand", "")
    if safe_path(target) and _is_done(web, visitor, status, demand):
        return redirect(next_of(target, web.state))
    found, _ = answers.kept()
    shown = _shown(web, visitor, status, next_of(target, web.state), demand)
    return _render("page.html", web, shown, found)


@blueprint.post("/send", endpoint="send")
@_for_visitors
def send(web: Web, visitor: Visitor) -> ResponseReturnValue:
    """Send a code, or send it again."""
    form = answers.fields()
    target, demand = _target(web, form)
    status = web.state.verifier.status(visitor.user)
    if _is_done(web, visitor, status, demand):
        return _succeeded(web, visitor, target, demand, done=True)
    if _needs_fresh_login(visitor, status, visitor.given):
        return _failed(web, problem(403, "fresh_login_required"), target, demand, to="mobile")
    try:
        web.state.verifier.start(
            visitor.user,
            channel=_channel(form.get("channel", "sms")),
            mobile=visitor.given,
            ip=request.remote_addr,
        )
    except SMSVerifyError as error:
        found = problem_of(error)
        to = "mobile" if found.field == "mobile" else "page"
        return _failed(web, found, target, demand, to=to)
    return _succeeded(web, visitor, target, demand, done=False)


@blueprint.post("/check", endpoint="check")
@_for_visitors
def check(web: Web, visitor: Visitor) -> ResponseReturnValue:
    """Check the code; on to `next` when it is right."""
    form = answers.fields()
    target, demand = _target(web, form)
    state = web.state
    challenge = state.verifier.latest(visitor.user)
    if challenge is not None and challenge.mobile != state.verifier.mobile_of(visitor.user):
        status = state.verifier.status(visitor.user)
        if _needs_fresh_login(visitor, status, challenge.mobile):
            return _failed(web, problem(403, "fresh_login_required"), target, demand, to="mobile")
    try:
        verification = state.verifier.check(visitor.user, form.get("code"), ip=request.remote_addr)
        _store_mobile(state, visitor, cast(Verification, verification))
    except NoChallenge as error:
        # The second of two clicks on the same right code, in a browser: all is well.
        status = state.verifier.status(visitor.user)
        if not answers.wants_json() and _is_done(web, visitor, status, demand):
            return _succeeded(web, visitor, target, demand, done=True)
        return _failed(web, problem_of(error), target, demand)
    except SMSVerifyError as error:
        return _failed(web, problem_of(error), target, demand)
    session.pop(_GIVEN, None)
    if visitor.logging_in:
        _log_in(visitor)
    return _succeeded(web, visitor, target, demand, done=True)


@blueprint.route("/mobile", methods=["GET", "POST"], endpoint="mobile")
@_for_visitors
def mobile(web: Web, visitor: Visitor) -> ResponseReturnValue:
    """Give or change the number. With the field `send`, as our form has it, a code goes out too."""
    state = web.state
    status = state.verifier.status(visitor.user)
    if request.method == "GET":
        target, demand = next_of(request.args.get("next"), state), request.args.get("demand", "")
        found, typed = answers.kept()
        shown = _shown(web, visitor, status, target, demand)
        return _render(
            "mobile.html",
            web,
            shown,
            found,
            typed=typed.get("mobile", ""),
            needs_fresh_login=_needs_fresh_login(visitor, status, ""),
        )
    form = answers.fields()
    target, demand = _target(web, form)
    typed_mobile = form.get("mobile")
    try:
        given = state.parse_mobile(typed_mobile)
        if _needs_fresh_login(visitor, status, given):
            found = problem(403, "fresh_login_required")
            return _failed(web, found, target, demand, to="mobile")
        if given == status.mobile:
            session.pop(_GIVEN, None)
        else:
            session[_GIVEN] = given
        visitor = Visitor(visitor.user, session.get(_GIVEN), visitor.logging_in)
        if form.get("send") and not _is_done(web, visitor, status, demand):
            state.verifier.start(visitor.user, mobile=given, ip=request.remote_addr)
    except SMSVerifyError as error:
        found = problem_of(error)
        if found.field != "mobile":
            return _failed(web, found, target, demand)
        again = typed_mobile[:48] if isinstance(typed_mobile, str) else ""
        return _failed(web, found, target, demand, to="mobile", mobile=again)
    return _succeeded(web, visitor, target, demand, done=False)


@blueprint.get("/status", endpoint="status")
@_for_visitors
def status(web: Web, visitor: Visitor) -> ResponseReturnValue:
    """Where the visitor stands, always as JSON, with a CSRF token for the next POST."""
    target = next_of(request.args.get("next"), web.state)
    standing = web.state.verifier.status(visitor.user)
    body = _json(web, visitor, standing, target, request.args.get("demand", ""))
    return current_app.json.response(body | {"csrf_token": answers.csrf_token()})


# --- what follows from a form ------------------------------------------------------------------


def _target(web: Web, form: Any) -> tuple[str, str]:
    demand = form.get("demand", "")
    return next_of(form.get("next"), web.state), demand if isinstance(demand, str) else ""


def _channel(value: object) -> Channel:
    if value == "sms" or value == "voice":  # noqa: PLR1714 -- this spelling narrows the type
        return value
    raise ChannelUnavailable(str(value)[:16])


def _is_done(web: Web, visitor: Visitor, status: Status, demand: str) -> bool:
    """Whether nothing is asked of this visitor: no number to prove, no fresher proof demanded."""
    if status.exempt:
        return True
    if status.state != "verified" or status.verified_at is None or visitor.given:
        return False
    if visitor.logging_in:
        return False
    within = web.demands.load(demand, web.state.users.id_of(visitor.user))
    return within is None or datetime.now(UTC) - status.verified_at <= within


def _needs_fresh_login(visitor: Visitor, status: Status, wanted: str | None) -> bool:
    """Whether a verified number is to be changed by a login that was only remembered."""
    if wanted is None or wanted == status.mobile or status.verified_at is None:
        return False
    return not visitor.logging_in and not flask_login.login_fresh()


def _store_mobile(state: State, visitor: Visitor, verification: Verification) -> None:
    """Write a newly proved number to the user.

    :raises MobileTaken: the host's own table has it for another user.
    """
    proved = verification.mobile
    if proved is None or proved == state.verifier.mobile_of(visitor.user):
        return
    try:
        state.users.set_mobile(visitor.user, proved)
    except IntegrityError:
        state.db.session.rollback()
        raise MobileTaken("another user has this mobile") from None


def _log_in(visitor: Visitor) -> None:
    """Finish a login that waited, in a session that nobody knew before."""
    waiting = session.get(PENDING_LOGIN, {})
    session.clear()
    regenerate = getattr(current_app.session_interface, "regenerate", None)
    if regenerate is not None:  # sessions kept on the server have an id of their own
        regenerate(session)
    flask_login.login_user(visitor.user, remember=bool(waiting.get("remember")))


def _succeeded(
    web: Web, visitor: Visitor, target: str, demand: str, *, done: bool
) -> ResponseReturnValue:
    if answers.wants_json():
        standing = web.state.verifier.status(visitor.user)
        return current_app.json.response(_json(web, visitor, standing, target, demand))
    if done:
        return redirect(target, 303)
    return redirect(url_for("smsverify.page", next=target, demand=demand or None), 303)


def _failed(
    web: Web, found: Problem, target: str, demand: str, *, to: str = "page", **typed: str
) -> ResponseReturnValue:
    if answers.wants_json():
        return answers.problem_json(found, web.ui)
    answers.keep(found, **typed)
    return redirect(url_for(f"smsverify.{to}", next=target, demand=demand or None), 303)


# --- what is shown -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the templates know of a visitor's standing; `verify` in them.

    :param state: `unsent`, `pending`, `verified`, `exempt` or `locked`.
    :param mobile: masked.
    :param delivery: what is known of the last message: a `Status`, or None.
    :param resend_in: whole seconds until another send is allowed.
    """

    state: str
    mobile: str | None
    channel: str
    delivery: str | None
    can_sms: bool
    can_voice: bool
    can_change_mobile: bool
    expires_at: datetime | None
    expires_in: int
    resend_at: datetime | None
    resend_in: int
    verified_at: datetime | None
    attempts_left: int | None
    code_length: int | None
    next: str
    demand: str


def _shown(web: Web, visitor: Visitor, status: Status, target: str, demand: str) -> Shown:
    state = web.state
    now = datetime.now(UTC)
    mobile = visitor.given or status.mobile
    challenge = _challenge_on(state, visitor, status, mobile, now)
    done = _is_done(web, visitor, status, demand)
    if status.locked:
        word = "locked"
    elif status.exempt:
        word = "exempt"
    elif done:
        word = "verified"
    else:
        word = "pending" if challenge is not None else "unsent"
    asked = challenge.mobile if challenge is not None and word == "pending" else mobile
    pending = challenge if word == "pending" else None
    expires_at = pending.expires_at if pending else status.expires_at if done else None
    message = state.verifier.last_message(pending) if pending else None
    last = state.verifier.latest(visitor.user) if pending is None and not done else pending
    resend_at = last.resend_at if last is not None and last.resend_at > now else None
    return Shown(
        state=word,
        mobile=mask(asked) if asked else None,
        channel=pending.channel if pending else "sms",
        delivery=_delivery(message.state) if message else None,
        can_sms=state.delivery.routes.can("sms"),
        can_voice=state.delivery.routes.can("voice"),
        can_change_mobile=not visitor.logging_in,
        expires_at=expires_at,
        expires_in=_seconds_to(expires_at, now),
        resend_at=resend_at,
        resend_in=_seconds_to(resend_at, now),
        verified_at=status.verified_at if done else None,
        attempts_left=max(0, state.settings.max_attempts - pending.attempts) if pending else None,
        code_length=pending.code_length if pending and pending.native_sender is None else None,
        next=target,
        demand=demand,
    )


def _challenge_on(
    state: State, visitor: Visitor, status: Status, mobile: str | None, now: datetime
) -> Challenge | None:
    """The challenge on this number that the page is about: open, or with no guess left."""
    challenge = status.challenge or state.verifier.latest(visitor.user)
    if challenge is None or challenge.mobile != mobile or now >= challenge.expires_at:
        return None
    return challenge if challenge.state in (Challenge.PENDING, Challenge.EXHAUSTED) else None


def _delivery(state: str) -> str:
    return "queued" if state == "sending" else "rejected" if state == "failed" else state


def _seconds_to(moment: datetime | None, now: datetime) -> int:
    if moment is None:
        return 0
    return max(0, -int(-(moment - now).total_seconds() // 1))


def _render(
    template: str, web: Web, shown: Shown, found: Problem | None, **more: object
) -> ResponseReturnValue:
    return render_template(
        f"smsverify/{template}",
        verify=shown,
        error=answers.shown(found, web.ui) if found else None,
        notice=None,
        csrf_field_name=answers.csrf_field_name(),
        csrf_token=answers.csrf_token(),
        site_name=web.state.site_name,
        **more,
    )


def _json(
    web: Web, visitor: Visitor, status: Status, target: str, demand: str
) -> dict[str, object]:
    shown = _shown(web, visitor, status, target, demand)
    state = status.state
    if shown.state in ("pending", "verified"):
        state = "pending" if shown.state == "pending" else "verified"
    elif state == "verified":
        state = "expired"  # the proof holds, but a fresher one, or another number's, is asked
    return {
        "state": state,
        "mobile": shown.mobile,
        "channel": shown.channel if shown.state == "pending" else None,
        "verified_at": _iso(shown.verified_at),
        "expires_at": _iso(shown.expires_at),
        "resend_at": _iso(shown.resend_at),
        "attempts_left": shown.attempts_left,
        "delivery": shown.delivery,
        "exempt": status.exempt,
        "next": shown.next,
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")
