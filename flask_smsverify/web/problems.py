"""Responses to errors: problem details (RFC 9457) for programs, pages for browsers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from flask import Response, current_app

from ..errors import (
    ProblemError,
    SenderError,
    SendFailed,
    SMSVerifyError,
    StoreUnavailable,
)
from ..i18n.problems import problem_text
from ..log_events import log_event
from ..state import get_state
from .bodies import ProblemMembers
from .interface import Interface
from .security_headers import render_own_template

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Problem:
    """The class of a `ProblemError` and its values, so that it can be stored in the session."""

    error: type[ProblemError]
    values: Mapping[str, Any]

    @classmethod
    def of(cls, error: ProblemError) -> Problem:
        """Return the problem of an error."""
        return cls(type(error), {name: getattr(error, name) for name in error.values})

    @property
    def code(self) -> str:
        """The problem code, such as `wrong_code`."""
        return self.error.code

    @property
    def field(self) -> str | None:
        """The form field that the problem is about: `code`, `mobile`, `text` or None."""
        return self.error.form_field


def problem_from_error(error: SMSVerifyError) -> Problem:
    """Return the problem of an error; re-raise an error that has no HTTP status.

    An error of a gateway is the problem of a message that was not sent.
    """
    if isinstance(error, SenderError):
        log.error("responded with 503: %s", error, extra=log_event("service_unavailable"))
        error = SendFailed((error,))
    if not isinstance(error, ProblemError):
        raise error
    if isinstance(error, StoreUnavailable):
        log.error("responded with 503: %s", error, extra=log_event("service_unavailable"))
    return Problem.of(error)


def problem_json(problem: Problem, ui: Interface, added: ProblemMembers | None = None) -> Response:
    """Return problem details. `retry_after` is also a header (RFC 9110, 10.2.3).

    :param added: the members that `bodies.ADDED_MEMBERS` has for this error.
    """
    text = problem_text(problem.error, problem.values, ui.translator)
    body: dict[str, object] = {
        "type": f"urn:flask-smsverify:{problem.code}",
        "title": text.title,
        "status": problem.error.status,
        "detail": text.detail,
        "code": problem.code,
        "final": problem.error.final,
    }
    body |= {name: problem.values[name] for name in problem.error.members if name in problem.values}
    body |= added or {}
    response = cast(Response, current_app.json.response(body))
    response.mimetype = "application/problem+json"
    return _with_status(response, problem, body.get("retry_after"))


def problem_page(problem: Problem, ui: Interface, back_url: str) -> Response:
    """Return a page for a problem that cannot be shown beside a form.

    :param back_url: where its button leads.
    """
    response = current_app.make_response(
        render_own_template(
            "problem.html",
            sv_error=problem_view(problem, ui),
            sv_back_url=back_url,
        )
    )
    return _with_status(response, problem, problem.values.get("retry_after"))


def _with_status(response: Response, problem: Problem, retry_after: object) -> Response:
    response.status_code = problem.error.status
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    return response


@dataclass(frozen=True, slots=True)
class ProblemView:
    """A problem in the reader's language, as `sv_error` in the templates."""

    code: str
    title: str
    detail: str
    field: str | None
    retry_at: datetime | None
    errors: Mapping[str, str]


def problem_view(problem: Problem, ui: Interface) -> ProblemView:
    """Return a problem in the reader's language."""
    text = problem_text(problem.error, problem.values, ui.translator)
    wait = problem.values.get("retry_after")
    retry_at = None if wait is None else get_state().clock() + timedelta(seconds=wait)
    errors = problem.values.get("errors") or {}
    return ProblemView(problem.code, text.title, text.detail, problem.field, retry_at, errors)
