"""What a guard answers, and the areas that guard endpoints by pattern."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Mapping

from flask import Flask, current_app, redirect, request, url_for
from flask.typing import ResponseReturnValue

from ..extension import State, is_ours_or_static
from ..host import current_user
from ..verification.policy import Decision
from .answers import no_store, problem, problem_json, wants_json
from .i18n import Interface
from .targets import Demands, here, safe_path

log = logging.getLogger(__name__)


class GuardAnswers:
    """The default answers: a redirect to the page for browsers, problem JSON for programs."""

    def __init__(self, state: State, ui: Interface, demands: Demands) -> None:
        self._state = state
        self._ui = ui
        self._demands = demands

    def unverified(self, decision: Decision) -> ResponseReturnValue:
        """To a user who must prove a mobile first."""
        demand = None
        if decision.within is not None:
            user_id = self._state.users.id_of(current_user())
            demand = self._demands.dump(user_id, decision.within)
        return self._to_page(here(), demand)

    def login_waits(self, _decision: Decision) -> ResponseReturnValue:
        """To a user whose login waits for a code; afterwards on to the login form's `next`."""
        said = request.get_json(silent=True) if request.is_json else request.values
        target = said.get("next") if isinstance(said, Mapping) else None
        return self._to_page(safe_path(target), None)

    def _to_page(self, target: str | None, demand: str | None) -> ResponseReturnValue:
        url = url_for("smsverify.page", next=target, demand=demand)
        if wants_json():
            found = problem(403, "verification_required")
            return no_store(problem_json(found, self._ui, verify_url=url, demand=demand))
        return no_store(current_app.make_response(redirect(url)))

    def anonymous(self) -> ResponseReturnValue:
        """To a visitor who is not logged in."""
        if wants_json():
            return no_store(problem_json(problem(401, "login_required"), self._ui))
        return current_app.login_manager.unauthorized()  # type: ignore[attr-defined,no-any-return]  # Flask-Login puts it there


def guard_patterns(app: Flask, state: State) -> None:
    """Guard the endpoints that `SMSVERIFY_AREAS` names by pattern."""

    looked = False

    def stand() -> ResponseReturnValue | None:
        nonlocal looked
        if not looked:  # at the first request, when every blueprint is registered
            looked = True
            _warn_of_idle_patterns(app, state)
        endpoint = request.endpoint
        if endpoint is None or is_ours_or_static(app, endpoint):
            return None
        for area in state.policy.areas_of(endpoint):
            refused = state.stand_guard(area=area)
            if refused is not None:
                return refused
        return None

    app.before_request(stand)


def _warn_of_idle_patterns(app: Flask, state: State) -> None:
    """Say which patterns guard nothing: a typing mistake in one would show nowhere else."""
    for area, patterns in state.policy.areas.items():
        for pattern in () if isinstance(patterns, bool) else patterns:
            if not fnmatch.filter(app.view_functions, pattern):
                log.warning(
                    "SMSVERIFY_AREAS: no endpoint has a name like %r, so %r guards nothing by it",
                    pattern,
                    area,
                )
