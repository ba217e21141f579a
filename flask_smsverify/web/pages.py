"""The pages for entering and resending a code, for browsers and for programs.

A view checks the shape of the form, calls the verifier, and translates the result. A POST from a
browser always ends in a redirect, so a reload repeats nothing. A GET sends and changes nothing. The
rules of verification are not here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

import flask_login
from flask import Blueprint, current_app, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import RequestEntityTooLarge

from ..db.models import Challenge
from ..errors import (
    ChannelUnavailable,
    CsrfFailed,
    FreshLoginRequired,
    InvalidRequest,
    LoginRequired,
    MobileTaken,
    NoChallenge,
    RateLimited,
    SMSVerifyError,
    StoreUnavailable,
    TooManyAttempts,
    TooSoon,
)
from ..login_gate import complete_login
from ..senders.base import Channel
from ..state import get_state
from ..verification.policy import Status
from ..verification.rules import NEW_NUMBER
from .change_view import change_members, change_view
from .csrf import csrf_headers, csrf_token, is_csrf_valid
from .fields import read_fields
from .flash import flash_notice, flash_problem, pop_notice, pop_problem
from .interface import Interface
from .negotiation import wants_json
from .problems import Problem, problem_from_error, problem_json, problem_page
from .redirects import next_url, safe_path
from .request_limits import is_rejected, limit_request, reject_request
from .security_headers import add_headers
from .view_models import (
    Target,
    as_json,
    is_complete,
    load_target,
    page_view,
    purpose_of,
    render_page,
    sent_notice,
    shown_challenge,
)
from .visitor import Visitor, current_visitor

blueprint = Blueprint(
    "smsverify",
    __name__,
    template_folder="../templates",
    static_folder="../static/smsverify",
    static_url_path="/static",
)

View = Callable[[Visitor], ResponseReturnValue]

#: How much of an invalid mobile is shown again in its field.
_MAX_SHOWN_INPUT = 48


def _ui() -> Interface:
    return cast(Interface, current_app.extensions["smsverify_ui"])


# --- before a view -----------------------------------------------------------------------------


def _for_visitors(view: View) -> Callable[[], ResponseReturnValue]:
    """Call a view with its visitor. Refuse anonymous visitors and invalid requests."""

    @functools.wraps(view)
    def wrapped() -> ResponseReturnValue:
        try:
            if is_rejected():
                return _refuse(problem_from_error(InvalidRequest()))
            if request.method == "POST" and not is_csrf_valid():
                return _refuse(_csrf_problem())
            visitor = current_visitor()
            if visitor is not None:
                get_state().verifier.changes.apply_due(visitor.user)
            return view(visitor) if visitor is not None else _refuse_anonymous()
        except (InvalidRequest, StoreUnavailable) as error:
            return _refuse(problem_from_error(error))

    return wrapped


def _refuse_anonymous() -> ResponseReturnValue:
    if _is_for_program():
        return _refuse(problem_from_error(LoginRequired()))
    if request.method == "POST":
        # Flask-Login's handler redirects back to the request's URL, which serves no GET.
        target = safe_path(request.form.get("next"))
        request.url = url_for("smsverify.page", next=target, _external=True)
    return get_state().guard_responses.anonymous()


def _refuse(problem: Problem) -> ResponseReturnValue:
    """Respond with a problem that no form can show."""
    if _is_for_program():
        return problem_json(problem, _ui())
    return problem_page(problem, _ui())


def _csrf_problem() -> Problem:
    if not _is_for_program():
        return problem_from_error(CsrfFailed())
    header = next(iter(csrf_headers()), "")
    return problem_from_error(CsrfFailed(url_for("smsverify.status"), header))


def _is_for_program() -> bool:
    return wants_json() or request.endpoint == "smsverify.status"


@blueprint.url_value_preprocessor
def _check_size(_endpoint: str | None, _values: dict[str, Any] | None) -> None:
    """Check the body before the host's own `CSRFProtect` parses the form."""
    limit_request()


blueprint.after_request(add_headers)


@blueprint.errorhandler(CSRFError)
def _on_host_csrf_error(_error: CSRFError) -> ResponseReturnValue:
    """Respond when the host's own `CSRFProtect` refused the token first."""
    body_rejected = is_rejected()  # the body was dropped, and the token with it
    return _refuse(problem_from_error(InvalidRequest()) if body_rejected else _csrf_problem())


@blueprint.errorhandler(RequestEntityTooLarge)
def _on_too_many_parts(_error: RequestEntityTooLarge) -> ResponseReturnValue:
    reject_request()
    return _refuse(problem_from_error(InvalidRequest()))


# --- the page ----------------------------------------------------------------------------------


@blueprint.get("/", endpoint="page")
@_for_visitors
def page(visitor: Visitor) -> ResponseReturnValue:
    """Show where the code went, the form for it, and how to send it again."""
    if wants_json():
        return _status_json(visitor)
    problem, _ = pop_problem(visitor.id)
    notice = pop_notice(visitor.id)
    target = _target(visitor, request.args)
    status = get_state().verifier.status(visitor.user)
    wanted = safe_path(request.args.get("next"))
    if wanted and problem is None and is_complete(visitor, status, target):
        return redirect(wanted)
    view = page_view(visitor, status, target)
    is_about_guess = problem and (problem.field == "code" or problem.code == TooManyAttempts.code)
    if view.guess_in and is_about_guess:
        # No guess is left, and the wait is longer than the kept problem says.
        problem = problem_from_error(TooManyAttempts(view.guess_in))
    return render_page("page.html", _ui(), view, problem, notice, sv_change=change_view(visitor))


@blueprint.post("/send", endpoint="send")
@_for_visitors
def send(visitor: Visitor) -> ResponseReturnValue:
    """Send a code, or send it again."""
    form = read_fields()
    target = _target(visitor, form)
    verifier = get_state().verifier
    status = verifier.status(visitor.user)
    if is_complete(visitor, status, target):
        return _succeed(visitor, target, is_done=True)
    if _needs_fresh_login(visitor, status, visitor.new_mobile):
        return _fail(visitor, problem_from_error(FreshLoginRequired()), target, page="mobile")
    before = shown_challenge(visitor, status, visitor.new_mobile or status.mobile)
    try:
        challenge = _start(visitor, status, channel=_channel(form.get("channel", "sms")))
    except SMSVerifyError as error:
        problem = problem_from_error(error)
        page = "mobile" if problem.field == "mobile" else "page"
        if _is_one_mobile_too_many(visitor, error):
            visitor = visitor.with_new_mobile(None)
            page = "mobile"
        return _fail(visitor, problem, target, page=page)
    notice = sent_notice(challenge, before)
    return _succeed(visitor, target, is_done=False, notice=notice)


def _start(visitor: Visitor, status: Status, *, channel: Channel = "sms") -> Challenge:
    """Send a code to the mobile that the visitor entered, or else to the visitor's own."""
    verifier, mobile, ip = get_state().verifier, visitor.new_mobile, request.remote_addr
    if mobile is not None and purpose_of(visitor, status) == NEW_NUMBER:
        return verifier.changes.send_to_new(visitor.user, mobile, channel=channel, ip=ip)
    return verifier.start(visitor.user, channel=channel, mobile=mobile, ip=ip)


@blueprint.post("/check", endpoint="check")
@_for_visitors
def check(visitor: Visitor) -> ResponseReturnValue:
    """Check a code; redirect to `next` if it is right."""
    form = read_fields()
    target = _target(visitor, form)
    state = get_state()
    try:
        status = state.verifier.status(visitor.user)
        if purpose_of(visitor, status) == NEW_NUMBER:
            return _check_new_number(visitor, form.get("code"), target)
        challenge = state.verifier.latest(visitor.user)
        is_pending = challenge is not None and challenge.state == Challenge.PENDING
        if state.verifier.replaces_proved(
            visitor.user, status, challenge.mobile if challenge and is_pending else None
        ):
            # Another mobile was proved since the code was sent.
            return _fail(visitor, problem_from_error(NoChallenge()), target)
        state.verifier.check(
            visitor.user,
            form.get("code"),
            ip=request.remote_addr,
            store=functools.partial(
                state.users.store_proved_mobile, visitor.user, expected=status.mobile
            ),
        )
    except NoChallenge as error:
        if _is_second_click(visitor, target):
            return _succeed(visitor, target, is_done=True)
        return _fail(visitor, problem_from_error(error), target)
    except SMSVerifyError as error:
        if isinstance(error, MobileTaken):
            visitor = visitor.with_new_mobile(None)
        return _fail(visitor, problem_from_error(error), target)
    visitor = visitor.with_new_mobile(None)
    if visitor.is_login_pending:
        complete_login(visitor.user)
        visitor = Visitor(visitor.user, visitor.id, None, is_login_pending=False)
    return _succeed(visitor, target, is_done=True)


def _check_new_number(visitor: Visitor, code: object, target: Target) -> ResponseReturnValue:
    """Check the code of a number that is to replace a proved one; then ask the old number."""
    if visitor.is_login_pending or not flask_login.login_fresh():
        return _fail(visitor, problem_from_error(FreshLoginRequired()), target, page="mobile")
    verifier = get_state().verifier
    changes = verifier.changes
    try:
        changes.prove_new(visitor.user, code, ip=request.remote_addr)
    except NoChallenge:
        proved = verifier.latest(visitor.user, purpose=NEW_NUMBER)
        is_proved = proved is not None and proved.state == Challenge.VERIFIED
        if wants_json() or not is_proved or changes.current(visitor.user) is None:
            raise
        return _to_page(target, "confirm")  # a second click on the right code
    visitor = visitor.with_new_mobile(None)
    try:
        changes.send_to_old(visitor.user, ip=request.remote_addr)
    except SMSVerifyError as error:  # the page offers to send it
        if not wants_json():
            flash_problem(problem_from_error(error), visitor.id)
    if wants_json():
        return _succeed(visitor, target, is_done=False)
    return _to_page(target, "confirm")


def _is_second_click(visitor: Visitor, target: Target) -> bool:
    """Return whether a browser sent the right code twice, and the first request has done it all.

    If the first request completed a login, its response set the new session. This one must not
    write to the session, or it would replace the new one.
    """
    if wants_json():
        return False
    status = get_state().verifier.status(visitor.user)
    if visitor.is_login_pending:
        return status.state == "verified"
    return is_complete(visitor, status, target)


@blueprint.get("/status", endpoint="status")
@_for_visitors
def status(visitor: Visitor) -> ResponseReturnValue:
    """Return the status as JSON, with a CSRF token for the next POST."""
    return _status_json(visitor)


def _status_json(visitor: Visitor) -> ResponseReturnValue:
    status = get_state().verifier.status(visitor.user)
    body = as_json(visitor, status, _target(visitor, request.args)) | change_members(visitor)
    return current_app.json.response(body | {"csrf_token": csrf_token()})


# --- the mobile --------------------------------------------------------------------------------


@blueprint.route("/mobile", methods=["GET", "POST"], endpoint="mobile")
@_for_visitors
def mobile(visitor: Visitor) -> ResponseReturnValue:
    """Enter or change the mobile."""
    if request.method == "POST":
        return _enter_mobile(visitor)
    if wants_json():
        return _status_json(visitor)
    status = get_state().verifier.status(visitor.user)
    target = _target(visitor, request.args)
    problem, typed = pop_problem(visitor.id)
    return render_page(
        "mobile.html",
        _ui(),
        page_view(visitor, status, target),
        problem,
        pop_notice(visitor.id),
        sv_typed=typed.get("mobile", ""),
        sv_needs_fresh_login=_needs_fresh_login(visitor, status, ""),
        sv_login_url=_login_url(),
        sv_change=change_view(visitor),
    )


def _enter_mobile(visitor: Visitor) -> ResponseReturnValue:
    """Keep the entered mobile; with the field `send` send a code; with `keep` discard it."""
    state = get_state()
    form = read_fields()
    target = _target(visitor, form)
    status = state.verifier.status(visitor.user)
    if _is_true(form.get("keep")):
        visitor = visitor.with_new_mobile(None)
        return _succeed(visitor, target, is_done=is_complete(visitor, status, target))
    typed = form.get("mobile")
    mobile_before = visitor.new_mobile
    try:
        entered = state.parse_mobile(typed)
        if _needs_fresh_login(visitor, status, entered):
            return _fail(visitor, problem_from_error(FreshLoginRequired()), target, page="mobile")
        visitor = visitor.with_new_mobile(None if entered == status.mobile else entered)
        if _is_true(form.get("send")) and not is_complete(visitor, status, target):
            _start(visitor, status)
    except SMSVerifyError as error:
        problem = problem_from_error(error)
        shown_again = typed[:_MAX_SHOWN_INPUT] if isinstance(typed, str) else ""
        if _is_one_mobile_too_many(visitor, error):
            is_other = mobile_before != visitor.new_mobile
            visitor = visitor.with_new_mobile(mobile_before if is_other else None)
        elif problem.field != "mobile":
            is_kept = isinstance(error, TooSoon) and _is_without_code(visitor, status)
            if is_kept and not wants_json():
                return _succeed(visitor, target, is_done=False, notice="number_saved")
            return _fail(visitor, problem, target)
        return _fail(visitor, problem, target, page="mobile", mobile=shown_again)
    return _succeed(visitor, target, is_done=False)


def _is_without_code(visitor: Visitor, status: Status) -> bool:
    """Return whether a new mobile was entered and no code was sent to it yet."""
    mobile = visitor.new_mobile
    return mobile is not None and shown_challenge(visitor, status, mobile) is None


def _is_one_mobile_too_many(visitor: Visitor, error: SMSVerifyError) -> bool:
    """Return whether the entered mobile exceeds the limit of mobiles or of changes per user."""
    is_limit = isinstance(error, RateLimited) and error.scope in ("mobiles_per_user", "changes")
    return is_limit and visitor.new_mobile is not None


def _login_url() -> str | None:
    """Return where to log in again and come back; None if Flask-Login knows no such view."""
    manager = current_app.login_manager  # type: ignore[attr-defined]  # Flask-Login sets it
    view = manager.refresh_view or manager.login_view
    return str(flask_login.login_url(view, next_url=request.url)) if view else None


# --- fields ------------------------------------------------------------------------------------


def _target(visitor: Visitor, fields: Mapping[str, Any]) -> Target:
    demand = fields.get("demand") or request.args.get("demand")
    return load_target(next_url(fields.get("next")), demand, visitor)


def _channel(value: object) -> Channel:
    if value == "sms" or value == "voice":  # noqa: PLR1714 -- this spelling narrows the type
        return value
    raise ChannelUnavailable(value)


def _is_true(value: object) -> bool:
    """Return whether a field is set: in a form by its presence, in JSON by being true."""
    return value is True or (isinstance(value, str) and value.lower() not in ("", "0", "false"))


def _needs_fresh_login(visitor: Visitor, status: Status, wanted: str | None) -> bool:
    return get_state().verifier.needs_fresh_login(
        visitor.user, status, wanted, has_fresh_login=visitor.has_fresh_login
    )


# --- responses ---------------------------------------------------------------------------------


def _succeed(
    visitor: Visitor, target: Target, *, is_done: bool, notice: str | None = None
) -> ResponseReturnValue:
    if wants_json():
        status = get_state().verifier.status(visitor.user)
        return current_app.json.response(as_json(visitor, status, target) | change_members(visitor))
    if notice is not None:
        flash_notice(notice, visitor.id)
    if is_done:
        return redirect(target.url, 303)
    return _to_page(target, "page")


def _fail(
    visitor: Visitor, problem: Problem, target: Target, *, page: str = "page", **typed: str
) -> ResponseReturnValue:
    if wants_json():
        return problem_json(problem, _ui())
    flash_problem(problem, visitor.id, **typed)
    return _to_page(target, page)


def _to_page(target: Target, page: str) -> ResponseReturnValue:
    url = url_for(f"smsverify.{page}", next=target.url, demand=target.demand or None)
    return redirect(url, 303)
