"""The responses of a guard that refuses a request. Implements `state.GuardResponses`."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urljoin

from flask import current_app, redirect, request, url_for
from flask.typing import ResponseReturnValue

from ..errors import LoginRequired, VerificationRequired
from ..state import get_state
from ..users import current_user
from ..verification.policy import Decision
from .bodies import VerificationRequiredMembers
from .caching import no_store
from .demands import dump_demand
from .interface import Interface
from .negotiation import adapt_redirect, is_htmx, wants_json
from .problems import problem_from_error, problem_json
from .redirects import requested_url, safe_target, visible_url
from .times import seconds_until


def _settled_in(decision: Decision) -> int | None:
    """Return whole seconds until `within` counts the user's proof; None if only a code helps."""
    settled_at = decision.status.settled_at if decision.status is not None else None
    if decision.reason != "unsettled" or settled_at is None:
        return None
    return max(1, seconds_until(settled_at, get_state().clock()))


class GuardResponses:
    """Redirects browsers to the page, and answers programs with problem JSON."""

    def __init__(self, ui: Interface) -> None:
        self._ui = ui

    def unverified(self, decision: Decision) -> ResponseReturnValue:
        """Respond to a user who must prove a mobile first."""
        demand = None
        if decision.within is not None:
            user_id = get_state().users.id_of(current_user())
            demand = dump_demand(user_id, decision.within)
        return self._to_page(requested_url(), demand, _settled_in(decision))

    def login_pending(self, decision: Decision) -> ResponseReturnValue:  # noqa: ARG002 -- the interface's
        """Respond to a user whose login waits; the page redirects to the login form's `next`."""
        fields = request.get_json(silent=True) if request.is_json else request.values
        target = fields.get("next") if isinstance(fields, Mapping) else None
        return self._to_page(safe_target(target), None)

    def _to_page(
        self, target: str | None, demand: str | None, retry_after: int | None = None
    ) -> ResponseReturnValue:
        url = url_for("smsverify.page", next=target, demand=demand)
        if wants_json():
            problem = problem_from_error(VerificationRequired())
            how: VerificationRequiredMembers = {"verify_url": url, "demand": demand}
            if retry_after is not None:
                how["retry_after"] = retry_after
            return no_store(problem_json(problem, self._ui, how))
        return no_store(adapt_redirect(current_app.make_response(redirect(url))))

    def anonymous(self) -> ResponseReturnValue:
        """Respond to a visitor who is not logged in."""
        if wants_json():
            return no_store(problem_json(problem_from_error(LoginRequired()), self._ui))
        if is_htmx():
            # Flask-Login's handler returns to the request's URL, which serves a fragment.
            request.url = urljoin(request.url, visible_url() or request.url)
        response: ResponseReturnValue | None = current_app.login_manager.unauthorized()  # type: ignore[attr-defined]  # Flask-Login sets it
        if response is None or not is_htmx():
            return response  # type: ignore[return-value]  # the guard refuses None by name
        return adapt_redirect(current_app.make_response(response))
