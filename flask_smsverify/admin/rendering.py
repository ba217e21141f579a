"""Rendering of the staff pages, and the notices that they show after a redirect."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from flask import Response, current_app, request, session, url_for
from markupsafe import Markup

from .. import phone
from ..errors import PROBLEMS
from ..i18n.numbers import format_amount
from ..state import get_state
from ..web.csrf import csrf_field_name, csrf_token
from ..web.interface import current_ui
from ..web.problems import Problem, problem_view
from ..web.redirects import safe_path
from ..web.security_headers import render_own_template
from .menu import menu

_LAYOUT = "admin/base.html"
_E164 = re.compile(r"\+[1-9]\d{6,14}", re.ASCII)
#: The session keys of the notice and the problem that the next page shows.
_NOTICE, _PROBLEM = "_smsverify_staff_notice", "_smsverify_staff_problem"


def render(template: str, *, problem: Problem | None = None, **context: Any) -> str:
    """Render a staff page inside the host's `ADMIN_TEMPLATE`, or the built-in layout.

    :param template: a file in the folder `smsverify/admin`.
    :param problem: shown instead of the notice or problem from before a redirect.
    """
    shown = {"sv_error": problem_view(problem, current_ui())} if problem is not None else {}
    state = get_state()
    own = state.settings.admin_template
    return render_own_template(
        f"admin/{template}",
        (),
        None if own else _LAYOUT,
        sv_base=own or f"smsverify/{_LAYOUT}",
        sv_menu=menu(current_ui()),
        sv_csrf_field_name=csrf_field_name(),
        sv_csrf_token=csrf_token(),
        sv_mobile=show_mobile,
        sv_mobile_text=mobile_text,
        sv_cost=show_cost,
        **(_pop_messages() | shown),
        **context,
    )


def render_problem(problem: Problem) -> Response:
    """Return a page about a problem that no other page can show."""
    own = get_state().settings.admin_template
    body = render_own_template(
        "admin/problem.html",
        (),
        None if own else _LAYOUT,
        sv_base=own or f"smsverify/{_LAYOUT}",
        sv_menu=[],
        sv_error=problem_view(problem, current_ui()),
        sv_notice=None,
    )
    response = current_app.make_response(body)
    response.status_code = problem.error.status
    if "retry_after" in problem.values:
        response.headers["Retry-After"] = str(problem.values["retry_after"])
    return response


def show_mobile(mobile: str | None) -> Markup:
    """Return a whole mobile for staff: in national form and in the page's digits.

    A number that is not a mobile, such as that of a line, is shown unchanged.
    """
    if not mobile:
        return Markup("")
    return Markup('<bdi class="sv-mobile" dir="ltr">{}</bdi>').format(mobile_text(mobile))


def mobile_text(mobile: str) -> str:
    """Return what `show_mobile` shows, for a field."""
    is_mobile = _E164.fullmatch(mobile) is not None
    return current_ui().number(phone.national(mobile) if is_mobile else mobile)


def show_cost(cost: Decimal) -> str:
    """Return what messages cost, with the decimals that gateways report."""
    return format_amount(cost, current_ui().translator, decimals=6)


# --- after a redirect --------------------------------------------------------------------------


def flash(message: str | Problem) -> None:
    """Store a notice or a problem for the next staff page."""
    if isinstance(message, Problem):
        session[_PROBLEM] = [message.code, dict(message.values)]
    else:
        session[_NOTICE] = message


def _pop_messages() -> dict[str, object]:
    notice, stored = session.pop(_NOTICE, None), session.pop(_PROBLEM, None)
    problem = None
    if stored is not None:
        code, values = stored
        problem = problem_view(Problem(PROBLEMS[code], values), current_ui())
    return {"sv_notice": notice, "sv_error": problem}


def back_url() -> str:
    """Return the staff page that the browser came from, else the overview."""
    overview = url_for("smsverify_admin.overview")
    typed = safe_path(request.form.get("back"))
    if typed is None:
        try:
            referrer = urlsplit(request.referrer or "")
        except ValueError:
            return overview
        if referrer.netloc != request.host:
            return overview
        typed = safe_path(referrer.path + (f"?{referrer.query}" if referrer.query else ""))
    is_staff_page = typed is not None and f"{typed.partition('?')[0]}/".startswith(overview)
    return typed if typed is not None and is_staff_page else overview
