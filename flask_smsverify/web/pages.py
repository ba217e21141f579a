"""The pages for entering a code and sending it again, for browsers and for programs alike.

A view checks the form's shape, asks the verifier, and translates what came back. A POST from a
browser always ends in a redirect, so that a reload repeats nothing; a GET sends nothing and changes
nothing. No rule of proof stands here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import flask_login
from flask import (
    Blueprint,
    current_app,
    g,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError
from werkzeug.exceptions import RequestEntityTooLarge

from ..errors import (
    ChannelUnavailable,
    CodeExpired,
    ConfigurationError,
    MobileTaken,
    NoChallenge,
    SMSVerifyError,
    StoreUnavailable,
)
from ..extension import PENDING_LOGIN, State
from ..host import current_user, plain
from ..models import Challenge, Verification
from ..phone import mask
from ..senders.base import Channel
from ..verification.policy import CLOCK_SKEW, Status
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
#: The deliveries of a message that may well have reached nobody.
DOUBTFUL = ("unknown", "undelivered", "rejected")
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

    :param id: the user's primary key as text.
    :param given: E.164, a number that was given and is not proved yet; None without one.
    :param logging_in: whether the login waits for the code.
    """

    user: Any
    id: str
    given: str | None = field(repr=False)
    logging_in: bool


def _visitor(state: State) -> Visitor | None:
    try:
        if current_user().is_authenticated:
            user, logging_in = plain(current_user()), False
        else:
            user, logging_in = _waiting_user(state), True
    except (OperationalError, InterfaceError) as error:
        _ask_no_more_who_it_is(state)
        raise StoreUnavailable("the host's database did not answer") from error
    if user is None:
        return None
    user_id = state.users.id_of(user)
    return Visitor(user, user_id, _given_by(user_id), logging_in)


def _ask_no_more_who_it_is(state: State) -> None:
    """Let this be a stranger's request: every template asks for the user, and would fail by it."""
    state.db.session.rollback()
    g._login_user = current_app.login_manager.anonymous_user()  # type: ignore[attr-defined]  # Flask-Login's place for it


def _waiting_user(state: State) -> Any:
    """The user whose login waits for its code in this session; None without one."""
    waiting = session.get(PENDING_LOGIN)
    if not isinstance(waiting, dict):
        return None
    age = datetime.now(UTC).timestamp() - waiting["at"]
    user: Any = None
    if -CLOCK_SKEW.total_seconds() <= age < _LOGIN_WAITS.total_seconds():
        user = state.users.find(waiting["user"])
    return user if user is not None and user.is_active else None


def _given_by(user_id: str) -> str | None:
    """The number that this user gave in this session; another user's is not theirs."""
    whose, mobile = session.get(_GIVEN) or (None, None)
    return mobile if whose == user_id else None


def _for_visitors(view: View) -> View:
    """Give a view its visitor; send others to log in, and what goes wrong to the right head."""

    @functools.wraps(view)
    def wrapped() -> ResponseReturnValue:
        web = _web()
        try:
            if answers.is_refused():
                return _refused(problem(422, "invalid_request"))
            if request.method == "POST" and not answers.csrf_holds():
                return _refused(_csrf_problem())
            visitor = _visitor(web.state)
            return view(web, visitor) if visitor is not None else _anonymous(web)
        except InvalidRequestError:
            return _refused(problem(422, "invalid_request"))
        except StoreUnavailable as error:
            return _refused(problem_of(error))

    return wrapped


def _anonymous(web: Web) -> ResponseReturnValue:
    if _for_program():
        return _refused(problem(401, "login_required"))
    if request.method == "POST":
        # Flask-Login's handler sends back to the address of this request, where no GET is served.
        target = safe_path(request.form.get("next"))
        request.url = url_for("smsverify.page", next=target, _external=True)
    return web.guard.anonymous()


def _refused(found: Problem) -> ResponseReturnValue:
    """A problem that no form can be shown with."""
    web = _web()
    if _for_program():
        return answers.problem_json(found, web.ui)
    return answers.problem_page(found, web.state, web.ui)


def _csrf_problem() -> Problem:
    """A token that is missing or not good; a program is told where to get one."""
    if not _for_program():
        return problem(400, "csrf")
    header = next(iter(answers.csrf_headers()), "")
    said = {"status_url": url_for("smsverify.status"), "header": header}
    return Problem(400, "csrf", None, said)


def _for_program() -> bool:
    return answers.wants_json() or request.endpoint == "smsverify.status"


@blueprint.url_value_preprocessor
def _look_over(_endpoint: str | None, _values: dict[str, Any] | None) -> None:
    """Runs before the host's own `CSRFProtect`, which reads the form."""
    answers.look_over()


@blueprint.errorhandler(CSRFError)
def _host_refused_csrf(_error: CSRFError) -> ResponseReturnValue:
    """The host's own `CSRFProtect` was there first; the answer is ours all the same."""
    refused = answers.is_refused()  # it was read as empty, so its token was not seen
    return _refused(problem(422, "invalid_request") if refused else _csrf_problem())


@blueprint.errorhandler(RequestEntityTooLarge)
def _too_many_parts(_error: RequestEntityTooLarge) -> ResponseReturnValue:
    answers.refuse()
    return _refused(problem(422, "invalid_request"))


# --- the views ---------------------------------------------------------------------------------


@blueprint.get("/", endpoint="page")
@_for_visitors
def page(web: Web, visitor: Visitor) -> ResponseReturnValue:
    """What is asked, where the code went, the form for it, and sending it again."""
    if answers.wants_json():
        return _tell_status(web, visitor)
    found, _ = answers.kept(visitor.id)
    notice = answers.kept_notice(visitor.id)
    target, demand = _target(web, visitor, request.args)
    status = web.state.verifier.status(visitor.user)
    wanted = safe_path(request.args.get("next"))
    if wanted and found is None and _is_done(web, visitor, status, demand):
        return redirect(wanted)
    shown = _shown(web, visitor, status, target, demand)
    if shown.guess_in and found and (found.field == "code" or found.code == "too_many_attempts"):
        # Whatever was said of the last guess, there is none left, and for longer than it says.
        found = Problem(429, "too_many_attempts", None, {"retry_after": shown.guess_in})
    return _render("page.html", web, shown, found, notice)


@blueprint.post("/send", endpoint="send")
@_for_visitors
def send(web: Web, visitor: Visitor) -> ResponseReturnValue:
    """Send a code, or send it again."""
    form = answers.fields()
    target, demand = _target(web, visitor, form)
    status = web.state.verifier.status(visitor.user)
    if _is_done(web, visitor, status, demand):
        return _succeeded(web, visitor, target, demand, done=True)
    if _needs_fresh_login(web.state, visitor, status, visitor.given):
        found = problem(403, "fresh_login_required")
        return _failed(web, visitor, found, target, demand, to="mobile")
    try:
        channel = _channel(form.get("channel", "sms"))
        challenge = web.state.verifier.start(
            visitor.user, channel=channel, mobile=visitor.given, ip=request.remote_addr
        )
    except SMSVerifyError as error:
        found = problem_of(error)
        to = "mobile" if found.field == "mobile" else "page"
        if _is_one_too_many(visitor, found):
            session.pop(_GIVEN, None)
            to = "mobile"
        return _failed(web, visitor, found, target, demand, to=to)
    notice = _notice_of(web.state, challenge, status.challenge)
    return _succeeded(web, visitor, target, demand, done=False, notice=notice)


@blueprint.post("/check", endpoint="check")
@_for_visitors
def check(web: Web, visitor: Visitor) -> ResponseReturnValue:
    """Check the code; on to `next` when it is right."""
    form = answers.fields()
    target, demand = _target(web, visitor, form)
    state = web.state
    try:
        before = state.verifier.status(visitor.user)
        challenge = state.verifier.latest(visitor.user)
        open_for = challenge.mobile if challenge and challenge.state == Challenge.PENDING else None
        if _needs_fresh_login(state, visitor, before, open_for):
            found = problem(403, "fresh_login_required")
            return _failed(web, visitor, found, target, demand, to="mobile")
        state.verifier.check(
            visitor.user,
            form.get("code"),
            ip=request.remote_addr,
            store=functools.partial(_store_mobile, state, visitor, before.mobile),
        )
    except NoChallenge as error:
        if _second_click(web, visitor, demand):
            return _succeeded(web, visitor, target, demand, done=True)
        return _failed(web, visitor, problem_of(error), target, demand)
    except SMSVerifyError as error:
        if isinstance(error, MobileTaken):
            session.pop(_GIVEN, None)
        return _failed(web, visitor, problem_of(error), target, demand)
    session.pop(_GIVEN, None)
    if visitor.logging_in:
        _log_in(visitor)
    return _succeeded(
        web, replace(visitor, given=None, logging_in=False), target, demand, done=True
    )


def _second_click(web: Web, visitor: Visitor, demand: str) -> bool:
    """Whether a browser sent the right code twice, and the first one did all there is to do.

    Where the first one logged the visitor in, its answer brought the new session. So this one
    leaves the session alone: what it wrote would take that one's place.
    """
    if answers.wants_json():
        return False
    status = web.state.verifier.status(visitor.user)
    if visitor.logging_in:
        return status.state == "verified"
    return _is_done(web, visitor, status, demand)


@blueprint.route("/mobile", methods=["GET", "POST"], endpoint="mobile")
@_for_visitors
def mobile(web: Web, visitor: Visitor) -> ResponseReturnValue:
    """Give or change the number, with the field `send` have a code sent too; or `keep` the old."""
    state = web.state
    if request.method == "GET" and answers.wants_json():
        return _tell_status(web, visitor)
    status = state.verifier.status(visitor.user)
    if request.method == "GET":
        target, demand = _target(web, visitor, request.args)
        found, typed = answers.kept(visitor.id)
        shown = _shown(web, visitor, status, target, demand)
        return _render(
            "mobile.html",
            web,
            shown,
            found,
            answers.kept_notice(visitor.id),
            sv_typed=typed.get("mobile", ""),
            sv_needs_fresh_login=_needs_fresh_login(web.state, visitor, status, ""),
            sv_login_url=_login_url(),
        )
    form = answers.fields()
    target, demand = _target(web, visitor, form)
    if form.get("keep"):
        session.pop(_GIVEN, None)
        visitor = replace(visitor, given=None)
        done = _is_done(web, visitor, status, demand)
        return _succeeded(web, visitor, target, demand, done=done)
    typed_mobile = form.get("mobile")
    again = typed_mobile[:48] if isinstance(typed_mobile, str) else ""
    given_before = session.get(_GIVEN)
    try:
        given = state.parse_mobile(typed_mobile)
        if _needs_fresh_login(web.state, visitor, status, given):
            found = problem(403, "fresh_login_required")
            return _failed(web, visitor, found, target, demand, to="mobile")
        if given == status.mobile:
            session.pop(_GIVEN, None)
        else:
            session[_GIVEN] = [visitor.id, given]
        visitor = replace(visitor, given=_given_by(visitor.id))
        if form.get("send") and not _is_done(web, visitor, status, demand):
            state.verifier.start(visitor.user, mobile=given, ip=request.remote_addr)
    except SMSVerifyError as error:
        found = problem_of(error)
        if _is_one_too_many(visitor, found):
            session.pop(_GIVEN, None)
            if given_before and given_before != [visitor.id, visitor.given]:
                session[_GIVEN] = given_before
        elif (
            found.code == "too_soon"
            and _is_new(state, visitor, status)
            and not answers.wants_json()
        ):
            return _succeeded(web, visitor, target, demand, done=False, notice="noted")
        elif found.field != "mobile":
            return _failed(web, visitor, found, target, demand)
        return _failed(web, visitor, found, target, demand, to="mobile", mobile=again)
    return _succeeded(web, visitor, target, demand, done=False)


@blueprint.get("/status", endpoint="status")
@_for_visitors
def status(web: Web, visitor: Visitor) -> ResponseReturnValue:
    """Where the visitor stands, always as JSON, with a CSRF token for the next POST."""
    return _tell_status(web, visitor)


def _tell_status(web: Web, visitor: Visitor) -> ResponseReturnValue:
    target, demand = _target(web, visitor, request.args)
    standing = web.state.verifier.status(visitor.user)
    body = _json(web, visitor, standing, target, demand)
    return current_app.json.response(body | {"csrf_token": answers.csrf_token()})


# --- what follows from a form ------------------------------------------------------------------


def _target(web: Web, visitor: Visitor, said: Mapping[str, Any]) -> tuple[str, str]:
    """Where to go afterwards, and the demand, where it was made of this visitor, else nothing."""
    demand = said.get("demand") or request.args.get("demand")
    genuine = web.demands.load(demand, visitor.id) is not None
    return next_of(said.get("next"), web.state), str(demand) if genuine else ""


def _channel(value: object) -> Channel:
    if value == "sms" or value == "voice":  # noqa: PLR1714 -- this spelling narrows the type
        return value
    raise ChannelUnavailable(str(value)[:16])


def _is_done(web: Web, visitor: Visitor, status: Status, demand: str) -> bool:
    """Whether nothing is asked of this visitor: no number to prove, no fresher proof demanded."""
    if visitor.given:
        return False
    if status.exempt:
        return True
    if status.state != "verified" or status.verified_at is None or visitor.logging_in:
        return False
    within = web.demands.load(demand, visitor.id)
    return within is None or datetime.now(UTC) - status.verified_at <= within


def _needs_fresh_login(state: State, visitor: Visitor, status: Status, wanted: str | None) -> bool:
    """Whether a number that was proved once is to be changed by a login that is not fresh.

    One that was only remembered is not, and one that still waits for its code is none yet.
    """
    if wanted is None or wanted == status.mobile:
        return False
    is_fresh = flask_login.login_fresh() and not visitor.logging_in
    return not is_fresh and _was_proved(state, visitor, status)


def _was_proved(state: State, visitor: Visitor, status: Status) -> bool:
    """Whether the user's number was ever proved; the status of an exempt one does not tell."""
    if status.exempt:
        row = state.ledger.read(lambda session: session.get(Verification, visitor.id))
        status = state.policy.standing(row, status.mobile, datetime.now(UTC))
    return status.verified_at is not None


def _is_one_too_many(visitor: Visitor, found: Problem) -> bool:
    """Whether the number that was given is refused for having been preceded by too many others."""
    spent = found.code == "budget_spent" and found.data["scope"] == "mobiles_per_user"
    return spent and visitor.given is not None


def _is_new(state: State, visitor: Visitor, status: Status) -> bool:
    """Whether a number was given that no code was sent to yet."""
    given, now = visitor.given, datetime.now(UTC)
    return given is not None and _challenge_on(state, visitor, status, given, now) is None


def _login_url() -> str | None:
    """Where to log in afresh and come back; None where Flask-Login was told of no such view."""
    manager = current_app.login_manager  # type: ignore[attr-defined]  # Flask-Login puts it there
    view = manager.refresh_view or manager.login_view
    return str(flask_login.login_url(view, next_url=request.url)) if view else None


def _store_mobile(
    state: State, visitor: Visitor, before: str | None, verification: Verification
) -> None:
    """Write a newly proved number to the user.

    :param before: E.164, the user's number when this request began.
    :raises CodeExpired: somebody else gave the user another number meanwhile, which stays.
    :raises MobileTaken: the host's own table has it for another user.
    :raises StoreUnavailable: the host's database did not take it.
    :raises ConfigurationError: the host's functions do not read what they wrote.
    """
    proved = verification.mobile
    if proved is None or proved == state.verifier.mobile_of(visitor.user):
        return
    try:
        _replace_mobile(state, visitor, before, proved)
    except Exception as error:
        state.db.session.rollback()
        if isinstance(error, IntegrityError):
            raise MobileTaken("another user has this mobile") from None
        if isinstance(error, OperationalError | InterfaceError):
            raise StoreUnavailable("the host's database did not take the new mobile") from error
        raise
    if state.verifier.mobile_of(visitor.user) != proved:
        raise ConfigurationError(
            "the mobile that was written is not the one that is read: "
            "with @smsverify.mobile_getter goes a @smsverify.mobile_setter"
        )


def _replace_mobile(state: State, visitor: Visitor, before: str | None, proved: str) -> None:
    state.users.read_again(visitor.user)
    if state.verifier.mobile_of(visitor.user) not in (before, proved):
        raise CodeExpired("the user's mobile changed while the code was checked")
    state.users.set_mobile(visitor.user, proved)


def _log_in(visitor: Visitor) -> None:
    """Finish a login that waited, in a session that nobody knew before."""
    waiting = session.get(PENDING_LOGIN, {})
    session.clear()
    regenerate = getattr(current_app.session_interface, "regenerate", None)
    if regenerate is not None:  # sessions kept on the server have an id of their own
        regenerate(session)
    flask_login.login_user(visitor.user, remember=bool(waiting.get("remember")))


def _notice_of(state: State, sent: Challenge, before: Challenge | None) -> str | None:
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


def _succeeded(
    web: Web,
    visitor: Visitor,
    target: str,
    demand: str,
    *,
    done: bool,
    notice: str | None = None,
) -> ResponseReturnValue:
    if answers.wants_json():
        standing = web.state.verifier.status(visitor.user)
        return current_app.json.response(_json(web, visitor, standing, target, demand))
    if notice is not None:
        answers.keep_notice(notice, visitor.id)
    if done:
        return redirect(target, 303)
    return redirect(url_for("smsverify.page", next=target, demand=demand or None), 303)


def _failed(
    web: Web,
    visitor: Visitor,
    found: Problem,
    target: str,
    demand: str,
    *,
    to: str = "page",
    **typed: str,
) -> ResponseReturnValue:
    if answers.wants_json():
        return answers.problem_json(found, web.ui)
    answers.keep(found, visitor.id, **typed)
    return redirect(url_for(f"smsverify.{to}", next=target, demand=demand or None), 303)


# --- what is shown -----------------------------------------------------------------------------


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


def _shown(web: Web, visitor: Visitor, status: Status, target: str, demand: str) -> Shown:
    state = web.state
    now = datetime.now(UTC)
    mobile = visitor.given or status.mobile
    challenge = _challenge_on(state, visitor, status, mobile, now)
    done = _is_done(web, visitor, status, demand)
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
    template: str,
    web: Web,
    shown: Shown,
    found: Problem | None,
    notice: str | None,
    **more: object,
) -> ResponseReturnValue:
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


def _json(
    web: Web, visitor: Visitor, status: Status, target: str, demand: str
) -> dict[str, object]:
    shown = _shown(web, visitor, status, target, demand)
    if shown.state in ("pending", "verified", "exempt"):
        state = shown.state
    elif status.verified_at is not None and not visitor.given:
        state = "expired"  # also where the proof holds, but a fresher one is demanded
    else:
        state = "unverified"
    return {
        "state": state,
        "mobile": shown.mobile,
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
