"""The responses of the pages: JSON for programs, redirects and problem pages for browsers."""

from __future__ import annotations

from typing import cast

from flask import Response, current_app, redirect, request, url_for
from flask.typing import ResponseReturnValue

from ..errors import CsrfFailed, SMSVerifyError
from .bodies import Body
from .caching import no_store
from .change_view import change_members
from .csrf import csrf_headers, csrf_token
from .fields import page_target, read_query
from .flash import flash_notice, flash_problem
from .interface import current_ui
from .negotiation import wants_json
from .problems import Problem, problem_from_error, problem_json, problem_page
from .redirects import form_url, is_sign_in, safe_target
from .security_headers import add_headers
from .view_models import Target, as_json, read_target
from .visitor import Visitor


def is_for_program() -> bool:
    """Whether the response is JSON: the client is a program, or the URL serves nothing else."""
    return wants_json() or request.endpoint == "smsverify.status"


def json_response(body: Body) -> Response:
    """Return one of the bodies that operations declare."""
    return cast(Response, current_app.json.response(body))


def refuse(problem: Problem) -> ResponseReturnValue:
    """Respond with a problem that no form can show."""
    if is_for_program():
        return problem_json(problem, current_ui())
    page = "smsverify.sign_in" if is_sign_in() else "smsverify.page"
    back_url = url_for(page, next=safe_target(page_target()))
    return problem_page(problem, current_ui(), back_url)


def respond_to(error: SMSVerifyError, back_url: str | None = None) -> Response:
    """Respond to an error in a view of the host, as a page of this package does.

    :param back_url: where the link of the page leads; by default to the form.
    """
    problem = problem_from_error(error)
    if wants_json():
        response = problem_json(problem, current_ui())
    else:
        response = problem_page(problem, current_ui(), back_url or form_url())
    return add_headers(no_store(response))


def csrf_problem() -> Problem:
    """Return the problem of a refused CSRF token. For a program, it says where to get one."""
    if not is_for_program():
        return problem_from_error(CsrfFailed())
    header = next(iter(csrf_headers()), "")
    source = "smsverify.sign_in" if is_sign_in() else "smsverify.status"
    return problem_from_error(CsrfFailed(url_for(source), header))


def status_json(visitor: Visitor) -> ResponseReturnValue:
    """Return the visitor's status as JSON, with a CSRF token for the next POST."""
    body = as_json(visitor, read_target(visitor, read_query()))
    return json_response({**body, **change_members(visitor), "csrf_token": csrf_token()})


def succeed(
    visitor: Visitor, target: Target, *, is_done: bool, notice: str | None = None
) -> ResponseReturnValue:
    """Respond to a POST that succeeded.

    :param is_done: whether the visitor has nothing left to prove, and goes to the target.
    :param notice: shown on the next page; a name that `flash.notice_text` knows.
    """
    if wants_json():
        return json_response({**as_json(visitor, target), **change_members(visitor)})
    if notice is not None:
        flash_notice(notice, visitor.id)
    if is_done:
        return redirect(target.url, 303)
    return to_page(target, "page")


def fail(
    visitor: Visitor, problem: Problem, target: Target, *, page: str = "page", **typed: str
) -> ResponseReturnValue:
    """Respond to a POST with a problem.

    :param page: the view that shows it to a browser.
    :param typed: rejected form input, which the form shows again.
    """
    if wants_json():
        return problem_json(problem, current_ui())
    flash_problem(problem, visitor.id, **typed)
    return to_page(target, page)


def to_page(target: Target, page: str) -> ResponseReturnValue:
    """Redirect a browser after a POST.

    :param page: the view, such as `page` or `mobile`.
    """
    url = url_for(f"smsverify.{page}", next=target.url, demand=target.demand or None)
    return redirect(url, 303)
