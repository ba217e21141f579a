"""The blueprint of the staff pages, who may see them, and how they respond to errors.

Each request passes these checks in order: the host has set `staff_required` (404), somebody is
logged in (Flask-Login's handler, or 401 for a program), the user is staff (403), the CSRF token of
a POST is valid (400), and a read-only member of the staff only reads (403).
"""

from __future__ import annotations

import inspect
from typing import Any, Literal, cast

from flask import abort, current_app, g, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import RequestEntityTooLarge

from ..errors import (
    ConfigurationError,
    CsrfFailed,
    InvalidRequest,
    LoginRequired,
    ProblemError,
    ReadOnly,
    StaffRequired,
)
from ..state import get_state
from ..users import current_user, is_logged_in, without_proxy
from ..web.csrf import csrf_headers, is_csrf_valid
from ..web.hosts import HostBlueprint
from ..web.interface import current_ui
from ..web.negotiation import wants_json
from ..web.problems import Problem, problem_from_error, problem_json
from ..web.request_limits import is_rejected, limit_request, reject_request
from ..web.security_headers import add_headers
from .rendering import back_url, flash, render_problem

blueprint = HostBlueprint("smsverify_admin", __name__)

Level = Literal["full", "read-only"]

#: The parts of a blueprint's requests that are safe (RFC 9110, 9.2.1).
_SAFE = ("GET", "HEAD", "OPTIONS")


def is_read_only() -> bool:
    """Return whether the current staff member may only look."""
    return cast(Level, g.smsverify_staff) == "read-only"


def staff_id() -> str:
    """Return the id of the current staff member, by Flask-Login's `get_id`."""
    return str(without_proxy(current_user()).get_id())


def may_enter() -> bool:
    """Return whether the current user may see the staff pages."""
    callback = get_state().callbacks.staff_required
    if callback is None or not is_logged_in(current_user()):
        return False
    return _level(current_app.ensure_sync(callback)()) is not None


@blueprint.before_request
def _check_access() -> ResponseReturnValue | None:
    """Refuse a request that may not see the page, or may not change what it shows."""
    callback = get_state().callbacks.staff_required
    if callback is None:
        abort(404)
    if is_rejected():
        raise InvalidRequest
    if not is_logged_in(current_user()):
        return _refuse_anonymous()
    level = _level(current_app.ensure_sync(callback)())
    if level is None:
        raise StaffRequired
    g.smsverify_staff = level
    if request.method in _SAFE:
        return None
    if not is_csrf_valid():
        raise _csrf_error()
    if level == "read-only":
        raise ReadOnly
    return None


def _level(answer: object) -> Level | None:
    """Return what `staff_required` allows; None if it refuses.

    :raises ConfigurationError: anything else, such as a method that was not called, would count as
        true.
    """
    if inspect.iscoroutine(answer):
        answer.close()
    elif answer is True:
        return "full"
    elif answer == "read-only":
        return "read-only"
    elif answer in (False, None):
        return None
    raise ConfigurationError(
        "staff_required must return True, False or 'read-only', and returned "
        f"{type(answer).__name__}"
    )


def _refuse_anonymous() -> ResponseReturnValue:
    if wants_json():
        raise LoginRequired
    if request.method not in _SAFE:
        # Flask-Login's handler redirects back to the request's URL, which may serve no GET.
        request.url = url_for("smsverify_admin.overview", _external=True)
    return get_state().guard_responses.anonymous()


def _csrf_error() -> CsrfFailed:
    if not wants_json():
        return CsrfFailed()
    return CsrfFailed(url_for("smsverify.status"), next(iter(csrf_headers()), ""))


@blueprint.url_value_preprocessor
def _check_size(_endpoint: str | None, _values: dict[str, Any] | None) -> None:
    """Check the body before the host's own `CSRFProtect` parses the form."""
    limit_request()


blueprint.after_request(add_headers)


# --- errors ------------------------------------------------------------------------------------


@blueprint.errorhandler(ProblemError)
def _on_problem(error: ProblemError) -> ResponseReturnValue:
    """Respond with problem JSON, or with a page; after a browser's POST, on the page it came from.

    The access checks respond with a page of their own: the page it came from is refused as well.
    """
    problem = problem_from_error(error)
    if wants_json():
        return problem_json(problem, current_ui())
    is_refused = isinstance(error, StaffRequired | LoginRequired)
    if request.method in _SAFE or is_refused or isinstance(error, CsrfFailed | ReadOnly):
        return render_problem(problem)
    return _back_with(problem)


def _back_with(problem: Problem) -> ResponseReturnValue:
    flash(problem)
    return redirect(back_url(), 303)


@blueprint.errorhandler(CSRFError)
def _on_host_csrf_error(_error: CSRFError) -> ResponseReturnValue:
    """Respond when the host's own `CSRFProtect` refused the token before the access was checked."""
    if get_state().callbacks.staff_required is None:
        abort(404)
    return _on_problem(InvalidRequest() if is_rejected() else _csrf_error())


@blueprint.errorhandler(RequestEntityTooLarge)
def _on_too_many_parts(_error: RequestEntityTooLarge) -> ResponseReturnValue:
    reject_request()
    return _on_problem(InvalidRequest())
