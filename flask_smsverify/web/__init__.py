"""The users' pages, their JSON, guard responses and webhooks. No rules live here."""

from __future__ import annotations

import functools

from flask import Flask

from ..i18n.catalogue import default_locale
from ..state import get_state
from ..users import Callbacks
from . import change_pages as change_pages  # adds its views to the blueprint
from . import first_proof_pages as first_proof_pages  # likewise
from . import openapi as openapi  # likewise
from . import pages as pages  # likewise
from . import sign_in_pages as sign_in_pages  # likewise
from . import templating, webhooks
from .blueprint import blueprint
from .caching import no_store_below
from .guard_responses import GuardResponses
from .hosts import registration_options
from .interface import Interface
from .responses import respond_to
from .security_headers import PolicyMiddleware
from .widgets import card_actions, widget_status

__all__ = ["GuardResponses", "Interface", "make_interface", "register", "respond_to"]


def make_interface(callbacks: Callbacks, *, default_region: str) -> Interface:
    """Return the Jinja global `smsverify_ui` of an app.

    :param default_region: its first official language is the default.
    """

    def locale() -> str | None:
        getter = callbacks.locale_getter
        return getter() if getter is not None else None

    return Interface(
        locale,
        default_locale=default_locale(default_region),
        status=widget_status,
        actions=card_actions,
    )


def register(app: Flask, ui: Interface) -> None:
    """Attach the pages, the webhooks and the Jinja global to an app."""
    settings = get_state(app).settings
    app.extensions["smsverify_ui"] = ui
    templating.install(app, ui)
    options = {"url_prefix": settings.url_prefix, **registration_options(app, settings)}
    app.register_blueprint(blueprint, **options)
    if settings.webhook_secret is not None:
        app.register_blueprint(webhooks.blueprint, **options)
    own_urls = (settings.url_prefix, settings.admin_url)
    app.after_request(functools.partial(no_store_below, own_urls))
    app.wsgi_app = PolicyMiddleware(app.wsgi_app)  # type: ignore[method-assign]  # Flask's own way
