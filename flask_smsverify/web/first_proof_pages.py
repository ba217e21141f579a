"""The page of a pending login whose account has never proved a number.

With `SMSVERIFY_LOGIN_GATE_FIRST_PROOF`, the password alone does not lead to the form for the
number, because a thief of the password would enter their own number. The owner opens a link from
their email, or staff vouch for the number.
"""

from __future__ import annotations

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue

from ..errors import InvalidToken, SMSVerifyError, TooSoon
from ..login_gate import accept_email_link, is_vouched_for, send_email_link
from ..settings import Settings
from ..state import get_state
from .blueprint import for_visitors, serve
from .bodies import FirstProofBody, FirstProofConfirmedBody, FirstProofLinkBody, VerificationBody
from .csrf import csrf_field_name, csrf_token
from .fields import page_target, read_body, read_query
from .flash import flash_notice, flash_problem, notice_text, pop_notice, pop_problem
from .interface import current_ui
from .negotiation import wants_json
from .operations import DEMAND, NEXT, Operation
from .problems import Problem, problem_from_error, problem_json, problem_view
from .redirects import external_url, next_url
from .responses import json_response, status_json
from .security_headers import render_own_template
from .visitor import Visitor


def _is_offered(settings: Settings) -> bool:
    return settings.login_gate and settings.login_gate_first_proof != "phone"


def _is_link_offered(settings: Settings) -> bool:
    return settings.login_gate and settings.login_gate_first_proof == "email"


@serve(
    "/first-proof",
    "first_proof",
    GET=Operation(
        summary="Get what must come before the first number",
        returns=(FirstProofBody, VerificationBody),
        query=(NEXT, DEMAND),
        is_offered=_is_offered,
    ),
    POST=Operation(
        summary="Send the link that confirms the account",
        returns=(FirstProofBody,),
        body=(NEXT,),
        errors=(TooSoon,),
        is_offered=_is_offered,
    ),
)
@for_visitors
def first_proof(visitor: Visitor) -> ResponseReturnValue:
    """Say what must come before the first number; POST sends the link."""
    state = get_state()
    if request.method == "POST":
        return _send_link(visitor)
    target = next_url(read_query().get("next"))
    if not visitor.is_login_pending or is_vouched_for(state, visitor.status):
        if wants_json():
            return status_json(visitor)
        return redirect(url_for("smsverify.page", next=target))
    mode = state.settings.login_gate_first_proof
    if wants_json():
        return json_response(FirstProofBody(state=mode, csrf_token=csrf_token()))
    problem, _ = pop_problem(visitor.id)
    return _render(visitor, mode, target, problem=problem)


def _send_link(visitor: Visitor) -> ResponseReturnValue:
    state = get_state()
    target = next_url(read_body().get("next"))
    is_asked_for = visitor.is_login_pending and not is_vouched_for(state, visitor.status)
    if is_asked_for and state.settings.login_gate_first_proof == "email":
        try:
            send_email_link(
                state,
                visitor.user,
                lambda token: external_url(
                    url_for("smsverify.first_proof_link", token=token, next=target)
                ),
            )
        except SMSVerifyError as error:
            problem = problem_from_error(error)
            if wants_json():
                return problem_json(problem, current_ui())
            flash_problem(problem, visitor.id)
        else:
            flash_notice("email_sent", visitor.id)
    if wants_json():
        return json_response(FirstProofBody(state=state.settings.login_gate_first_proof))
    return redirect(url_for("smsverify.first_proof", next=target), 303)


@serve(
    "/first-proof/<token>",
    "first_proof_link",
    GET=Operation(
        summary="Get the token to accept the link with",
        returns=(FirstProofLinkBody,),
        is_offered=_is_link_offered,
    ),
    POST=Operation(
        summary="Confirm the account with the link",
        returns=(FirstProofConfirmedBody,),
        errors=(InvalidToken,),
        is_offered=_is_link_offered,
    ),
)
@for_visitors
def first_proof_link(visitor: Visitor, token: str) -> ResponseReturnValue:
    """Accept the link: GET shows a button, POST lets the pending login go on."""
    target = next_url(page_target())
    if request.method == "GET":
        if wants_json():
            return json_response(FirstProofLinkBody(state="link", csrf_token=csrf_token()))
        return _render(visitor, "link", target, link=request.full_path)
    if not accept_email_link(get_state(), visitor.user, token):
        if wants_json():
            return problem_json(problem_from_error(InvalidToken()), current_ui())
        return _render(visitor, "invalid", target)
    if wants_json():
        return json_response(FirstProofConfirmedBody(state="confirmed"))
    return redirect(url_for("smsverify.page", next=target), 303)


def _render(
    visitor: Visitor, state: str, target: str, *, problem: Problem | None = None, link: str = ""
) -> ResponseReturnValue:
    """Render the page.

    :param state: `email`, `staff`, `link` or `invalid`.
    """
    ui = current_ui()
    notice = pop_notice(visitor.id)
    return render_own_template(
        "first_proof.html",
        sv_first_proof=state,
        sv_link=link,
        sv_next=target,
        sv_error=problem_view(problem, ui) if problem else None,
        sv_notice=notice_text(notice, ui) if notice and not problem else None,
        sv_csrf_field_name=csrf_field_name(),
        sv_csrf_token=csrf_token(),
    )
