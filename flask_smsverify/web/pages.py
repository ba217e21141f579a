"""The pages for entering a code and sending it again, for browsers and for programs alike.

A view checks the form's shape, asks the verifier, and translates what came back. A POST from a
browser always ends in a redirect, so that a reload repeats nothing; a GET sends nothing and changes
nothing. No rule of proof stands here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import flask_login
from flask import (
    Blueprint,
    current_app,
    redirect,
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
from ..extension import State
from ..models import Challenge, Verification
from ..senders.base import Channel
from . import answers
from .answers import InvalidRequestError, Problem, problem, problem_of
from .showing import as_json, is_new, notice_of, render, show
from .targets import next_of, safe_path
from .visitors import (
    GIVEN,
    Visitor,
    Web,
    given_by,
    is_done,
    log_in,
    needs_fresh_login,
    visitor_of,
)

blueprint = Blueprint(
    "smsverify",
    __name__,
    template_folder="../templates",
    static_folder="../static/smsverify",
    static_url_path="/static",
)

View = Callable[..., ResponseReturnValue]


def _web() -> Web:
    return cast(Web, current_app.extensions["smsverify_web"])


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
            visitor = visitor_of(web.state)
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
    if wanted and found is None and is_done(web, visitor, status, demand):
        return redirect(wanted)
    shown = show(web, visitor, status, target, demand)
    if shown.guess_in and found and (found.field == "code" or found.code == "too_many_attempts"):
        # Whatever was said of the last guess, there is none left, and for longer than it says.
        found = Problem(429, "too_many_attempts", None, {"retry_after": shown.guess_in})
    return render("page.html", web, shown, found, notice)


@blueprint.post("/send", endpoint="send")
@_for_visitors
def send(web: Web, visitor: Visitor) -> ResponseReturnValue:
    """Send a code, or send it again."""
    form = answers.fields()
    target, demand = _target(web, visitor, form)
    status = web.state.verifier.status(visitor.user)
    if is_done(web, visitor, status, demand):
        return _succeeded(web, visitor, target, demand, done=True)
    if needs_fresh_login(web.state, visitor, status, visitor.given):
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
            session.pop(GIVEN, None)
            to = "mobile"
        return _failed(web, visitor, found, target, demand, to=to)
    notice = notice_of(web.state, challenge, status.challenge)
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
        if needs_fresh_login(state, visitor, before, open_for):
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
            session.pop(GIVEN, None)
        return _failed(web, visitor, problem_of(error), target, demand)
    session.pop(GIVEN, None)
    if visitor.logging_in:
        log_in(visitor)
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
    return is_done(web, visitor, status, demand)


@blueprint.route("/mobile", methods=["GET", "POST"], endpoint="mobile")
@_for_visitors
def mobile(web: Web, visitor: Visitor) -> ResponseReturnValue:
    """Give or change the number, with the field `send` have a code sent too; or `keep` the old."""
    if request.method == "POST":
        return _take_mobile(web, visitor)
    if answers.wants_json():
        return _tell_status(web, visitor)
    status = web.state.verifier.status(visitor.user)
    target, demand = _target(web, visitor, request.args)
    found, typed = answers.kept(visitor.id)
    return render(
        "mobile.html",
        web,
        show(web, visitor, status, target, demand),
        found,
        answers.kept_notice(visitor.id),
        sv_typed=typed.get("mobile", ""),
        sv_needs_fresh_login=needs_fresh_login(web.state, visitor, status, ""),
        sv_login_url=_login_url(),
    )


def _take_mobile(web: Web, visitor: Visitor) -> ResponseReturnValue:
    state = web.state
    status = state.verifier.status(visitor.user)
    form = answers.fields()
    target, demand = _target(web, visitor, form)
    if _is_yes(form.get("keep")):
        session.pop(GIVEN, None)
        visitor = replace(visitor, given=None)
        done = is_done(web, visitor, status, demand)
        return _succeeded(web, visitor, target, demand, done=done)
    typed = form.get("mobile")
    again = typed[:48] if isinstance(typed, str) else ""
    given_before = session.get(GIVEN)
    try:
        given = state.parse_mobile(typed)
        if needs_fresh_login(state, visitor, status, given):
            found = problem(403, "fresh_login_required")
            return _failed(web, visitor, found, target, demand, to="mobile")
        if given == status.mobile:
            session.pop(GIVEN, None)
        else:
            session[GIVEN] = [visitor.id, given]
        visitor = replace(visitor, given=given_by(visitor.id))
        if _is_yes(form.get("send")) and not is_done(web, visitor, status, demand):
            state.verifier.start(visitor.user, mobile=given, ip=request.remote_addr)
    except SMSVerifyError as error:
        found = problem_of(error)
        if _is_one_too_many(visitor, found):
            session.pop(GIVEN, None)
            if given_before and given_before != [visitor.id, visitor.given]:
                session[GIVEN] = given_before
        elif found.field != "mobile":
            noted = found.code == "too_soon" and is_new(state, visitor, status)
            if noted and not answers.wants_json():
                return _succeeded(web, visitor, target, demand, done=False, notice="noted")
            return _failed(web, visitor, found, target, demand)
        return _failed(web, visitor, found, target, demand, to="mobile", mobile=again)
    return _succeeded(web, visitor, target, demand, done=False)


def _is_yes(value: object) -> bool:
    """Whether a field says yes: a form's by being there, a program's by being true."""
    return value is True or (isinstance(value, str) and value.lower() not in ("", "0", "false"))


@blueprint.get("/status", endpoint="status")
@_for_visitors
def status(web: Web, visitor: Visitor) -> ResponseReturnValue:
    """Where the visitor stands, always as JSON, with a CSRF token for the next POST."""
    return _tell_status(web, visitor)


def _tell_status(web: Web, visitor: Visitor) -> ResponseReturnValue:
    target, demand = _target(web, visitor, request.args)
    standing = web.state.verifier.status(visitor.user)
    body = as_json(web, visitor, standing, target, demand)
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
    raise ChannelUnavailable(value)


def _is_one_too_many(visitor: Visitor, found: Problem) -> bool:
    """Whether the number that was given is refused for having been preceded by too many others."""
    spent = found.code == "budget_spent" and found.data["scope"] == "mobiles_per_user"
    return spent and visitor.given is not None


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
        return current_app.json.response(as_json(web, visitor, standing, target, demand))
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
