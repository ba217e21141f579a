"""The blueprint of the users' pages: what runs before each view, and its error handlers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import RequestEntityTooLarge

from ..errors import FirstProofRequired, InvalidRequest, LoginRequired, StoreUnavailable
from ..login_gate import is_vouched_for
from ..state import get_state
from .bodies import VerificationBody
from .csrf import csrf_token, is_csrf_valid, take_over
from .fields import page_target
from .hosts import HostBlueprint
from .negotiation import adapt_redirect
from .operations import OPERATIONS, Operation
from .problems import problem_from_error
from .redirects import next_url, safe_target
from .request_limits import is_rejected, limit_request, reject_request
from .responses import csrf_problem, is_for_program, json_response, refuse
from .security_headers import add_headers
from .visitor import ExemptVisitor, Visitor, current_visitor, reload_user

blueprint = HostBlueprint(
    "smsverify",
    __name__,
    template_folder="../templates",
    static_folder="../static/smsverify",
    static_url_path="/static",
)
blueprint.after_request(add_headers)
blueprint.after_request(adapt_redirect)

View = Callable[..., ResponseReturnValue]


def serve(rule: str, endpoint: str, **operations: Operation) -> Callable[[View], View]:
    """Add a view of the pages, for the methods of its operations."""
    OPERATIONS[f"{blueprint.name}.{endpoint}"] = operations
    return blueprint.route(rule, methods=[*operations], endpoint=endpoint)


def for_visitors(view: View) -> Callable[..., ResponseReturnValue]:
    """Call a view with its visitor, after a change of the number that is due was applied.

    Invalid requests and anonymous visitors are refused, and so is a pending login whose first
    number nobody has vouched for. An exempt user of another class is sent to `next`.
    """

    @functools.wraps(view)
    def read_and_call(visitor: Visitor, **values: str) -> ResponseReturnValue:
        _ = visitor.record  # applies the change
        return view(visitor, **values)

    return for_unread_visitors(read_and_call)


def for_unread_visitors(view: View) -> Callable[..., ResponseReturnValue]:
    """Call a view as `for_visitors` does, but leave it to the view whether to read the record."""

    @functools.wraps(view)
    def wrapped(**values: str) -> ResponseReturnValue:
        try:
            if is_rejected():
                return refuse(problem_from_error(InvalidRequest()))
            if request.method == "POST" and not is_csrf_valid():
                return refuse(csrf_problem())
            visitor = current_visitor()
            if visitor is None:
                return _refuse_anonymous()
            if _needs_first_proof(visitor):
                return _refuse_first_proof()
            return view(visitor, **values)
        except ExemptVisitor:
            return _answer_exempt()
        except InvalidRequest as error:
            return refuse(problem_from_error(error))
        except StoreUnavailable as error:
            reload_user()
            return refuse(problem_from_error(error))

    return wrapped


def _answer_exempt() -> ResponseReturnValue:
    """Let a visitor pass who has nothing to verify and no row in the user model's table."""
    target = next_url(page_target())
    if is_for_program():
        body = VerificationBody(
            state="exempt",
            mobile=None,
            verified_mobile=None,
            channel=None,
            verified_at=None,
            expires_at=None,
            resend_at=None,
            attempts_left=None,
            delivery=None,
            exempt=True,
            next=target,
            csrf_token=csrf_token(),
        )
        return json_response(body)
    return redirect(target, 303 if request.method == "POST" else 302)


def _needs_first_proof(visitor: Visitor) -> bool:
    """Return whether this pending login must go to the page about the first number."""
    endpoint = request.endpoint or ""
    is_allowed = endpoint == "smsverify.leave" or endpoint.startswith("smsverify.first_proof")
    if is_allowed or not visitor.is_login_pending:
        return False
    return not is_vouched_for(get_state(), visitor.status)


def _refuse_first_proof() -> ResponseReturnValue:
    if is_for_program():
        return refuse(problem_from_error(FirstProofRequired()))
    target = safe_target(page_target())
    return redirect(url_for("smsverify.first_proof", next=target), 303)


def _refuse_anonymous() -> ResponseReturnValue:
    if is_for_program():
        return refuse(problem_from_error(LoginRequired()))
    if request.method == "POST":
        # Flask-Login's handler redirects back to the request's URL, which serves no GET.
        target = safe_target(page_target())
        request.url = url_for("smsverify.page", next=target, _external=True)
    return get_state().guard_responses.anonymous()


@blueprint.url_value_preprocessor
def _before_the_host(_endpoint: str | None, _values: dict[str, Any] | None) -> None:
    """Check the body before the host's `before_request` functions parse the form."""
    take_over(blueprint)
    limit_request()


@blueprint.errorhandler(CSRFError)
def _on_host_csrf_error(_error: CSRFError) -> ResponseReturnValue:
    """Respond if the host calls `CSRFProtect.protect` itself and it refused the token."""
    body_rejected = is_rejected()  # the body was dropped, and the token with it
    return refuse(problem_from_error(InvalidRequest()) if body_rejected else csrf_problem())


@blueprint.errorhandler(RequestEntityTooLarge)
def _on_too_many_parts(_error: RequestEntityTooLarge) -> ResponseReturnValue:
    reject_request()
    return refuse(problem_from_error(InvalidRequest()))
