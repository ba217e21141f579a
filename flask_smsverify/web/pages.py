"""The pages for entering and resending a code, for browsers and for programs.

A view checks the shape of the form, calls the verifier, and translates the result. A POST from a
browser ends in a redirect, so a reload repeats nothing. A GET sends no code and uses nothing up. It
applies a change of number whose delay is over, and a GET of the status may cause a request to the
gateway for the delivery state. The rules of verification are not here.
"""

from __future__ import annotations

import functools
from contextlib import suppress
from dataclasses import replace

import flask_login
from flask import current_app, redirect, request, url_for
from flask.typing import ResponseReturnValue

from .. import credentials
from ..db.models import Challenge
from ..errors import (
    ChannelUnavailable,
    FreshLoginRequired,
    MobileTaken,
    NoChallenge,
    RateLimited,
    SendFailed,
    SMSVerifyError,
    StoreUnavailable,
    TooManyAttempts,
    TooSoon,
    UncommittedWrites,
)
from ..login_gate import complete_login, discard_login
from ..senders.base import Channel
from ..state import get_state
from ..verification.issue import Sent
from ..verification.rules import NEW_NUMBER
from ..verification.user_codes import OtherMobileProved, RecordNeeded
from ..verification.user_records import UserRecord
from .blueprint import for_unread_visitors, for_visitors, serve
from .bodies import LoginDiscardedBody, VerificationBody
from .change_view import change_view
from .device import remember_device
from .fields import is_set, read_body, read_channel, read_mobile, read_query
from .flash import (
    MAX_SHOWN_INPUT,
    flash_notice,
    flash_problem,
    flash_success,
    incomplete_code,
    pop_notice,
    pop_problem,
)
from .interface import current_ui
from .negotiation import wants_json
from .operations import (
    CHANNEL,
    CHECK_ERRORS,
    CODE,
    DEMAND,
    MOBILE,
    NEXT,
    SEND_ERRORS,
    Field,
    Operation,
)
from .problems import Problem, problem_from_error
from .redirects import safe_target
from .responses import fail, json_response, status_json, succeed, to_page
from .returns import may_return
from .view_models import (
    Target,
    is_complete,
    is_on_its_way,
    page_view,
    purpose_of,
    read_target,
    render_page,
    replaces_proved,
    sent_notice,
    shown_challenge,
)
from .visitor import Visitor, client_address

# --- the page ----------------------------------------------------------------------------------


@serve(
    "/",
    "page",
    GET=Operation(summary="Get the status", returns=(VerificationBody,), query=(NEXT, DEMAND)),
)
@for_visitors
def page(visitor: Visitor) -> ResponseReturnValue:
    """Show where the code went, the form for it, and how to send it again."""
    if wants_json():
        return status_json(visitor)
    problem, typed = pop_problem(visitor.id)
    notice = pop_notice(visitor.id)
    target = read_target(visitor, read_query())
    wanted = safe_target(read_query().get("next"))
    if wanted and problem is None and is_complete(visitor, target) and may_return():
        return redirect(wanted)
    view = page_view(visitor, target)
    if view.state == "unsent" and view.mobile is None and not view.guess_in:
        return _mobile_page(visitor, target, problem, notice)
    is_about_guess = problem and (problem.field == "code" or problem.code == TooManyAttempts.code)
    if view.guess_in and is_about_guess:
        # No guess is left, and the wait is longer than the kept problem says.
        problem = problem_from_error(TooManyAttempts(view.guess_in))
    return render_page(
        "page.html",
        current_ui(),
        view,
        problem,
        notice,
        sv_typed_code=typed.get("code", ""),
        sv_change=change_view(visitor),
    )


@serve(
    "/send",
    "send",
    POST=Operation(
        summary="Send a code, or send it again",
        returns=(VerificationBody,),
        query=(DEMAND,),
        body=(CHANNEL, NEXT, DEMAND),
        errors=(*SEND_ERRORS, SendFailed, FreshLoginRequired),
    ),
)
@for_unread_visitors
def send(visitor: Visitor) -> ResponseReturnValue:
    """Send a code, or send it again."""
    form = read_body()
    target = read_target(visitor, form)
    try:
        visitor, sent = _send_unless_complete(visitor, target, form.get("channel", "sms"))
    except FreshLoginRequired as error:
        return fail(visitor, problem_from_error(error), target, page="mobile")
    except StoreUnavailable:
        raise  # no form can show it
    except SMSVerifyError as error:
        problem = problem_from_error(error)
        page = "mobile" if problem.field == "mobile" else "page"
        if _is_one_mobile_too_many(visitor, error):
            visitor = visitor.with_new_mobile(None)
            page = "mobile"
        return fail(visitor, problem, target, page=page)
    if sent is None:
        return succeed(visitor, target, is_done=True)
    return succeed(visitor, target, is_done=False, notice=sent_notice(sent))


def _send_unless_complete(
    visitor: Visitor, target: Target, channel: object
) -> tuple[Visitor, Sent | None]:
    """Send a code, and return the visitor afterwards; None if there is nothing left to prove.

    The transaction that sends reads what the decision needs, if this is a code to the visitor's own
    mobile and the record was not read. Otherwise the record decides.
    """
    if visitor.known_record is None and visitor.new_mobile is None:
        # The last two are errors of a send only: there may be nothing left to prove.
        with suppress(RecordNeeded, ChannelUnavailable, UncommittedWrites):
            done = get_state().verifier.user_codes.send_to_own(
                visitor.user,
                channel=read_channel(channel),
                ip=client_address(),
                is_complete=functools.partial(is_complete, visitor, target),
            )
            return visitor.with_record(done.record), done.sent
    if is_complete(visitor, target):
        return visitor, None
    if _needs_fresh_login(visitor, visitor.new_mobile):
        raise FreshLoginRequired
    sent = _send_code(visitor, channel=read_channel(channel))
    return visitor.after_send(sent), sent


def _send_code(visitor: Visitor, *, channel: Channel = "sms") -> Sent:
    """Send a code to the mobile that the visitor entered, or else to the visitor's own.

    A mobile that would replace a proved one goes through `changes`, which writes it to the user
    when the change is complete. Any other one is written by the check that proves it.
    """
    verifier, mobile, ip = get_state().verifier, visitor.new_mobile, client_address()
    if mobile is not None:
        get_state().users.refuse_unstorable(visitor.user, mobile)
    if mobile is not None and purpose_of(visitor) == NEW_NUMBER:
        return verifier.changes.send_to_new(visitor.user, mobile, channel=channel, ip=ip)
    return verifier.send(visitor.user, channel=channel, mobile=mobile, ip=ip)


@serve(
    "/check",
    "check",
    POST=Operation(
        summary="Check a code",
        returns=(VerificationBody,),
        query=(DEMAND,),
        body=(CODE, NEXT, DEMAND),
        errors=(*CHECK_ERRORS, RateLimited, FreshLoginRequired),
    ),
)
@for_unread_visitors
def check(visitor: Visitor) -> ResponseReturnValue:
    """Check a code; redirect to `next` if it is right."""
    form = read_body()
    target = read_target(visitor, form)
    try:
        if purpose_of(visitor) == NEW_NUMBER:
            return _check_new_number(visitor, form.get("code"), target)
        mobile, visitor = _check_code(visitor, form.get("code"))
    except NoChallenge as error:
        is_other = isinstance(error, OtherMobileProved)
        if not is_other and _is_second_click(visitor, target):
            return succeed(visitor, target, is_done=True)
        return fail(visitor, problem_from_error(error), target)
    except StoreUnavailable:
        raise  # no form can show it
    except SMSVerifyError as error:
        if isinstance(error, MobileTaken):
            visitor = visitor.with_new_mobile(None)
        kept = incomplete_code(error, form.get("code"))
        return fail(visitor, problem_from_error(error), target, **kept)
    remember_device(mobile, visitor.id)
    visitor = visitor.with_new_mobile(None)
    if visitor.is_login_pending:
        complete_login(visitor.user)
        visitor = replace(visitor, is_login_pending=False)
    if not wants_json():
        flash_success()
    return succeed(visitor, target, is_done=True)


def _check_code(visitor: Visitor, code: object) -> tuple[str | None, Visitor]:
    """Check a code, and return the proved mobile and the visitor afterwards.

    The transaction that checks reads what it needs, unless the visitor's record must be read first.
    """
    try:
        return _check_with(visitor, code, visitor.known_record)
    except RecordNeeded:
        return _check_with(visitor, code, visitor.record)


def _check_with(
    visitor: Visitor, code: object, record: UserRecord | None
) -> tuple[str | None, Visitor]:
    state, user = get_state(), visitor.user
    proof, record = state.verifier.user_codes.check(
        user,
        code,
        ip=client_address(),
        store=functools.partial(
            state.users.store_proved_mobile, user, expected=state.users.mobile_of(user)
        ),
        record=record,
    )
    return proof.mobile, visitor.with_record(record)


def _check_new_number(visitor: Visitor, code: object, target: Target) -> ResponseReturnValue:
    """Check the code of a number that is to replace a proved one; then ask the old number."""
    if visitor.is_login_pending or not _is_login_fresh():
        return fail(visitor, problem_from_error(FreshLoginRequired()), target, page="mobile")
    changes = get_state().verifier.changes
    try:
        change = changes.prove_new(visitor.user, code, ip=client_address())
    except NoChallenge:
        if wants_json():
            raise
        record = visitor.after_write().record
        is_proved = record.to_new is not None and record.to_new.state == Challenge.VERIFIED
        if not is_proved or record.change is None:
            raise
        return to_page(target, "confirm")  # a second click on the right code
    record = replace(visitor.record, change=change, to_old=None)
    visitor = visitor.with_new_mobile(None).after_write()
    try:
        changes.send_to_old(visitor.user, ip=client_address(), record=record)
    except SMSVerifyError as error:  # the page offers to send it
        if not wants_json():
            flash_problem(problem_from_error(error), visitor.id)
    if wants_json():
        return succeed(visitor, target, is_done=False)
    return to_page(target, "confirm")


def _is_login_fresh() -> bool:
    """Return Flask-Login's mark of a fresh login, whatever its age: the login preceded the code."""
    return flask_login.login_fresh() or credentials.are_in_request()


def _is_second_click(visitor: Visitor, target: Target) -> bool:
    """Return whether a browser sent the right code twice, and the first request has done it all.

    If the first request completed a login, its response set the new session. This one must not
    write to the session, or it would replace the new one.
    """
    if wants_json():
        return False
    visitor = visitor.after_write()
    if visitor.is_login_pending:
        return visitor.status.state == "verified"
    return is_complete(visitor, target)


@serve(
    "/leave",
    "leave",
    POST=Operation(
        summary="Discard a login that waits for a code",
        returns=(LoginDiscardedBody, VerificationBody),
        query=(DEMAND,),
        body=(Field("again", bool, "Whether to end a completed login as well."), NEXT, DEMAND),
        is_offered=lambda settings: settings.login_gate,
    ),
)
@for_visitors
def leave(visitor: Visitor) -> ResponseReturnValue:
    """Discard a login that is pending, and return to the login view.

    The page for another number sends `again` if a new login must precede it: many login views only
    redirect users who are logged in.
    """
    form = read_body()
    target = read_target(visitor, form)
    return_to = target.url
    if visitor.is_login_pending:
        discard_login()
    elif is_set(form.get("again")):
        flask_login.logout_user()
        return_to = url_for("smsverify.mobile", next=target.url)
    else:
        return succeed(visitor, target, is_done=False)
    if wants_json():
        return json_response(LoginDiscardedBody(state="signed_out", next=target.url))
    view = current_app.login_manager.login_view  # type: ignore[attr-defined]  # Flask-Login sets it
    return redirect(flask_login.login_url(view, next_url=return_to) if view else return_to, 303)


@serve(
    "/status",
    "status",
    GET=Operation(
        summary="Get the status, and a CSRF token",
        returns=(VerificationBody,),
        query=(NEXT, DEMAND),
    ),
)
@for_visitors
def status(visitor: Visitor) -> ResponseReturnValue:
    """Return the status as JSON, with a CSRF token for the next POST."""
    waiting = shown_challenge(visitor, visitor.new_mobile or visitor.status.mobile)
    if waiting is not None and is_on_its_way(visitor.record.deliveries[waiting.id]):
        get_state().first_checks.request(waiting)
    return status_json(visitor)


# --- the mobile --------------------------------------------------------------------------------


@serve(
    "/mobile",
    "mobile",
    GET=Operation(summary="Get the status", returns=(VerificationBody,), query=(NEXT, DEMAND)),
    POST=Operation(
        summary="Enter a number, or change it",
        returns=(VerificationBody,),
        query=(DEMAND,),
        body=(
            MOBILE,
            Field("send", bool, "Whether to send a code to it at once."),
            Field("keep", bool, "Whether to discard the entered number and keep the present one."),
            NEXT,
            DEMAND,
        ),
        errors=(*SEND_ERRORS, SendFailed, FreshLoginRequired),
    ),
)
@for_visitors
def mobile(visitor: Visitor) -> ResponseReturnValue:
    """Enter or change the mobile."""
    if request.method == "POST":
        return _enter_mobile(visitor)
    if wants_json():
        return status_json(visitor)
    target = read_target(visitor, read_query())
    problem, typed = pop_problem(visitor.id)
    notice = pop_notice(visitor.id)
    return _mobile_page(visitor, target, problem, notice, typed.get("mobile", ""))


def _mobile_page(
    visitor: Visitor,
    target: Target,
    problem: Problem | None,
    notice: str | None,
    typed: str = "",
) -> ResponseReturnValue:
    """Render the page with the field for a mobile.

    :param typed: the input that was rejected.
    """
    return render_page(
        "mobile.html",
        current_ui(),
        page_view(visitor, target),
        problem,
        notice,
        sv_typed=typed,
        sv_needs_fresh_login=_needs_fresh_login(visitor, ""),
        sv_login_url=_login_url(),
        sv_must_log_out=_must_log_out(),
        sv_change=change_view(visitor),
    )


def _enter_mobile(visitor: Visitor) -> ResponseReturnValue:
    """Keep the entered mobile; with the field `send` send a code; with `keep` discard it."""
    state = get_state()
    form = read_body()
    target = read_target(visitor, form)
    if is_set(form.get("keep")):
        visitor = visitor.with_new_mobile(None)
        return succeed(visitor, target, is_done=is_complete(visitor, target))
    typed = form.get("mobile")
    mobile_before = visitor.new_mobile
    try:
        entered = state.parse_mobile(read_mobile(form))
        if _needs_fresh_login(visitor, entered):
            return fail(visitor, problem_from_error(FreshLoginRequired()), target, page="mobile")
        visitor = visitor.with_new_mobile(None if entered == visitor.status.mobile else entered)
        if is_set(form.get("send")) and not is_complete(visitor, target):
            visitor = visitor.after_send(_send_code(visitor))
        elif _is_proved_already(visitor, target, entered) and not wants_json():
            flash_notice("own_number", visitor.id)
            return to_page(target, "mobile")
    except SMSVerifyError as error:
        problem = problem_from_error(error)
        shown_again = typed[:MAX_SHOWN_INPUT] if isinstance(typed, str) else ""
        if _is_one_mobile_too_many(visitor, error):
            is_other = mobile_before != visitor.new_mobile
            visitor = visitor.with_new_mobile(mobile_before if is_other else None)
        elif problem.field != "mobile":
            is_early = isinstance(error, TooSoon) and not wants_json()
            # Another request may have sent a code meanwhile.
            if is_early and _is_without_code(visitor.after_write()):
                return succeed(visitor, target, is_done=False, notice="number_saved")
            return fail(visitor, problem, target)
        return fail(visitor, problem, target, page="mobile", mobile=shown_again)
    return succeed(visitor, target, is_done=False)


def _is_proved_already(visitor: Visitor, target: Target, entered: str) -> bool:
    """Return whether the visitor entered the number that is the visitor's own and proved."""
    status = visitor.status
    is_own = entered == status.mobile and status.state == "verified"
    return is_own and is_complete(visitor, target)


def _is_without_code(visitor: Visitor) -> bool:
    """Return whether a new mobile was entered and no code was sent to it yet."""
    mobile = visitor.new_mobile
    return mobile is not None and shown_challenge(visitor, mobile) is None


def _is_one_mobile_too_many(visitor: Visitor, error: SMSVerifyError) -> bool:
    """Return whether the entered mobile exceeds the limit of mobiles or of changes per user."""
    is_limit = isinstance(error, RateLimited) and error.scope in ("mobiles_per_user", "changes")
    return is_limit and visitor.new_mobile is not None


def _login_url() -> str | None:
    """Return the URL to log in again and come back; None if Flask-Login has no such view."""
    manager = current_app.login_manager  # type: ignore[attr-defined]  # Flask-Login sets it
    view = manager.refresh_view or manager.login_view
    return str(flask_login.login_url(view, next_url=request.url)) if view else None


def _must_log_out() -> bool:
    """Return whether to log out first: only a `refresh_view` is for users who are logged in."""
    return current_app.login_manager.refresh_view is None  # type: ignore[attr-defined]  # likewise


def _needs_fresh_login(visitor: Visitor, wanted: str | None) -> bool:
    """Return whether a fresh login must precede the proof of another mobile.

    It must if the user's current mobile was ever proved (OWASP ASVS 5.0, 7.5.1).

    :param wanted: the mobile to prove, in E.164; None if there is none.
    """
    return not visitor.has_fresh_login and replaces_proved(visitor, wanted)
