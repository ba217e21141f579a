"""The pages that confirm, delay, cancel and undo the change of a proved mobile.

The page of the new number is in `pages`. After its right code, the change is confirmed here with
the old number. A link in the notice to the old number leads to the undo page, which needs no login:
the link is signed and belongs to one change.
"""

from __future__ import annotations

import logging

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue

from ..db.models import MobileChange
from ..errors import (
    FreshLoginRequired,
    InvalidLink,
    InvalidRequest,
    NoChallenge,
    SendFailed,
    SMSVerifyError,
    StoreUnavailable,
)
from ..phone import mask
from ..state import get_state
from .blueprint import for_visitors, serve
from .bodies import ChangeUndoneBody, UndoLinkBody, VerificationBody
from .change_view import change_view
from .csrf import csrf_field_name, csrf_token, is_csrf_valid
from .fields import is_set, read_body, read_channel, read_query
from .flash import flash_notice, flash_success, incomplete_code, pop_notice, pop_problem
from .interface import current_ui
from .negotiation import wants_json
from .operations import (
    CHANNEL,
    CHECK_ERRORS,
    DEMAND,
    EVERYBODY,
    NEXT,
    SEND_ERRORS,
    Field,
    Operation,
)
from .problems import problem_from_error
from .redirects import external_url, next_url
from .request_limits import is_rejected
from .responses import csrf_problem, fail, json_response, refuse, status_json, succeed, to_page
from .security_headers import render_own_template
from .view_models import page_view, read_target, render_page
from .visitor import Visitor, client_address

log = logging.getLogger(__name__)


# --- confirm with the old number, or wait -------------------------------------------------------


@serve(
    "/mobile/confirm",
    "confirm",
    GET=Operation(
        summary="Get the status, with the open change",
        returns=(VerificationBody,),
        query=(NEXT, DEMAND),
    ),
    POST=Operation(
        summary="Confirm the change with the old number's code, or send that code",
        returns=(VerificationBody,),
        query=(DEMAND,),
        body=(
            Field("code", str, "The code of the old number. Without it, a code is sent."),
            Field("lost", bool, "Whether the old number is lost, so that the change waits."),
            CHANNEL,
            NEXT,
            DEMAND,
        ),
        errors=(*SEND_ERRORS, *CHECK_ERRORS, SendFailed, FreshLoginRequired),
    ),
)
@for_visitors
def confirm(visitor: Visitor) -> ResponseReturnValue:
    """Show the open change, and confirm it by the old number."""
    if request.method == "POST":
        return _confirm(visitor)
    if wants_json():
        return status_json(visitor)
    target = read_target(visitor, read_query())
    change = change_view(visitor)
    if change is None:
        return redirect(url_for("smsverify.mobile", next=target.url))
    problem, typed = pop_problem(visitor.id)
    return render_page(
        "change.html",
        current_ui(),
        page_view(visitor, target),
        problem,
        pop_notice(visitor.id),
        sv_typed_code=typed.get("code", ""),
        sv_change=change,
    )


def _confirm(visitor: Visitor) -> ResponseReturnValue:
    """Check `code`; with `lost` start the delay; with neither send a code to the old number."""
    form = read_body()
    target = read_target(visitor, form)
    if visitor.is_login_pending:
        return fail(visitor, problem_from_error(FreshLoginRequired()), target)
    changes = get_state().verifier.changes
    try:
        if is_set(form.get("lost")):
            changes.delay(visitor.user, link=_undo_url, record=visitor.record)
            visitor = visitor.after_write()
        elif "code" in form:
            changes.confirm(visitor.user, form["code"], ip=client_address(), record=visitor.record)
            if not wants_json():
                flash_success()
            return succeed(visitor.after_write(), target, is_done=True)
        else:
            before = visitor.record.to_old
            sent = changes.send_to_old(
                visitor.user,
                channel=read_channel(form.get("channel", "sms")),
                ip=client_address(),
                record=visitor.record,
            )
            is_again = before is not None and before.id == sent.challenge.id
            if is_again and not wants_json():
                is_sms = sent.challenge.channel == "sms"
                flash_notice("sent_again" if is_sms else "calling", visitor.id)
            visitor = visitor.after_send(sent)
    except SMSVerifyError as error:
        problem = problem_from_error(error)
        if wants_json():
            return fail(visitor, problem, target)
        is_open = visitor.after_write().record.change is not None
        is_closed = isinstance(error, NoChallenge) and not is_open
        if is_closed and changes.has_just_changed(visitor.user):
            return succeed(visitor, target, is_done=True)  # a second click on the right code
        page = "confirm" if is_open else "mobile"
        kept = incomplete_code(error, form.get("code"))
        return fail(visitor, problem, target, page=page, **kept)
    if wants_json():
        return succeed(visitor, target, is_done=False)
    return to_page(target, "confirm")


@serve(
    "/mobile/cancel",
    "cancel",
    POST=Operation(
        summary="Cancel the open change",
        returns=(VerificationBody,),
        query=(DEMAND,),
        body=(NEXT, DEMAND),
        errors=(FreshLoginRequired,),
    ),
)
@for_visitors
def cancel(visitor: Visitor) -> ResponseReturnValue:
    """Cancel the open change."""
    target = read_target(visitor, read_body())
    if visitor.is_login_pending:
        return fail(visitor, problem_from_error(FreshLoginRequired()), target)
    is_cancelled = get_state().verifier.changes.cancel(visitor.user)
    visitor = visitor.with_new_mobile(None).after_write()
    if wants_json():
        return succeed(visitor, target, is_done=False)
    if is_cancelled:
        flash_notice("change_cancelled", visitor.id)
    return to_page(target, "mobile")


# --- undo ---------------------------------------------------------------------------------------


def _undo_url(token: str) -> str:
    """Return the URL that undoes a change."""
    return external_url(url_for("smsverify.undo", token=token))


@serve(
    "/mobile/undo/<token>",
    "undo",
    GET=Operation(
        summary="Get the change that a link stops",
        returns=(UndoLinkBody,),
        errors=(InvalidLink,),
        access=EVERYBODY,
    ),
    POST=Operation(
        summary="Stop the change that a link belongs to",
        returns=(ChangeUndoneBody,),
        errors=(InvalidLink,),
        access=EVERYBODY,
    ),
)
def undo(token: str) -> ResponseReturnValue:
    """Stop the change that a link belongs to: GET shows a button, POST stops it."""
    if is_rejected():
        return refuse(problem_from_error(InvalidRequest()))
    try:
        return _undo(token) if request.method == "POST" else _show_undo(token)
    except (InvalidLink, StoreUnavailable) as error:
        return refuse(problem_from_error(error))


def _undo(token: str) -> ResponseReturnValue:
    if not is_csrf_valid():
        return refuse(csrf_problem())
    try:
        get_state().verifier.changes.undo(token)
    except InvalidLink:
        if wants_json():
            raise
    # A second click ends here as well. The page shows whether the link has stopped the change.
    if wants_json():
        return json_response(ChangeUndoneBody(state=MobileChange.UNDONE))
    return redirect(url_for("smsverify.undo", token=token), 303)


def _show_undo(token: str) -> ResponseReturnValue:
    change = get_state().verifier.changes.find(token)
    if wants_json():
        body = UndoLinkBody(
            state=change.state, new_mobile=mask(change.new_mobile), csrf_token=csrf_token()
        )
        return json_response(body)
    return render_own_template(
        "undo.html",
        sv_is_undone=change.state == MobileChange.UNDONE,
        sv_new_mobile=mask(change.new_mobile),
        sv_undo_url=url_for("smsverify.undo", token=token),
        sv_next=next_url(None),
        sv_csrf_field_name=csrf_field_name(),
        sv_csrf_token=csrf_token(),
    )
