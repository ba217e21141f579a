"""Staff pages: lists, settings and actions for the host's staff, one file per page.

The pages are a blueprint at `SMSVERIFY_ADMIN_URL`. They do not exist until the host says who is
staff, with `@smsverify.staff_required`. The rules are in `verification`, `messaging` and
`delivery`; a page calls them and records the action in the audit.
"""

from __future__ import annotations

from datetime import timedelta

from flask import Flask, appcontext_pushed

from ..state import get_state
from ..web.hosts import registration_options
from . import audit as audit
from . import incoming as incoming
from . import messages as messages
from . import overview as overview
from . import send as send
from . import senders as senders
from . import settings as settings
from . import texts as texts
from . import verifications as verifications
from .blueprint import blueprint
from .figures import FigureCache
from .flask_admin_link import menu_link

__all__ = ["menu_link", "register"]


def register(app: Flask) -> None:
    """Attach the staff pages to an app."""
    state = get_state(app)
    options = registration_options(app, state.settings)
    app.extensions["smsverify_figures"] = FigureCache(
        timedelta(seconds=state.settings.code_lifetime)
    )
    app.register_blueprint(blueprint, url_prefix=state.settings.admin_url, **options)
    state.setting_store.start()
    appcontext_pushed.connect(state.setting_store.on_context, app)
