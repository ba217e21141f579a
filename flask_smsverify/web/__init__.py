"""What a user's browser sees: pages, JSON, guards' answers. No rule of proof lives here."""

from __future__ import annotations

import functools
from dataclasses import replace

from flask import Flask

from ..extension import State, installs
from ..host import plain
from ..phone import mask
from ..verification.policy import Status
from . import hooks
from .answers import keep_private
from .guards import GuardAnswers, guard_patterns
from .i18n import Interface
from .pages import blueprint
from .targets import Demands
from .visitors import Web


@installs
def _install(app: Flask, state: State) -> None:
    """Attach the pages, the guards' answers and the templates' `smsverify_ui` to an app."""

    def locale() -> str | None:
        getter = state.functions.locale_getter
        return getter() if getter is not None else None

    def status(user: object) -> Status:
        if not plain(user).is_authenticated:  # a layout shows its widgets to strangers too
            return Status("unverified")
        found = state.standing(user)
        return replace(found, mobile=mask(found.mobile) if found.mobile else None)

    ui = Interface(locale, status=status)
    demands = Demands(state)
    guard = GuardAnswers(state, ui, demands)
    state.locale = lambda: ui.locale
    state.answer = guard.unverified
    state.answer_login = guard.login_waits
    state.answer_anonymous = guard.anonymous
    app.extensions["smsverify_web"] = Web(state, ui, demands, guard)
    app.jinja_env.globals["smsverify_ui"] = ui
    app.register_blueprint(blueprint, url_prefix=state.settings.url_prefix)
    if state.settings.hook_secret is not None:
        app.register_blueprint(hooks.blueprint, url_prefix=state.settings.url_prefix)
    app.after_request(functools.partial(keep_private, state.settings.url_prefix))
    guard_patterns(app, state)
