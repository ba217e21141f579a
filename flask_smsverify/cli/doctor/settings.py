"""Checks of the settings: what is only for development, and what production needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...open_endpoints import is_named_login_or_logout, is_own, unmatched
from ...state import AppState
from .finding import Check, Finding

_LOCAL_GATEWAYS = ("console", "memory")
_PLACEHOLDERS = ("dev", "secret", "change", "test", "example", "password")
_MIN_KEY_LENGTH = 16
#: Setting → the setting without which it has no effect.
_NEEDS = {
    "sign_up": "sign_in",
    "sign_up_url": "sign_in",
    "sign_in_token": "sign_in",
    "anonymous_challenge": "sign_in",
    "login_gate_first_proof": "login_gate",
    "test_numbers_until": "test_numbers",
}
#: Values of the former that are off.
_OFF = (None, False, "off", "phone")


def check_secret_key(state: AppState) -> Iterator[Finding]:
    """Codes and tokens are derived from `SECRET_KEY`."""
    key = state.app.config["SECRET_KEY"]
    text = key.decode("latin-1") if isinstance(key, bytes) else str(key)
    if len(text) < _MIN_KEY_LENGTH or text.lower().startswith(_PLACEHOLDERS):
        yield Finding(
            "error",
            "SECRET_KEY",
            "is short or a placeholder, and codes are derived from it. Generate one: "
            "python -c 'import secrets; print(secrets.token_hex())'",
        )
    else:
        yield Finding("ok", "SECRET_KEY", f"has {len(text)} characters")


def check_development_settings(state: AppState) -> Iterator[Finding]:
    """Some settings send nothing, or open every guard."""
    settings, config = state.settings, state.app.config
    if state.app.debug or state.app.testing:
        mode = "debug" if state.app.debug else "testing"
        yield Finding(
            "warning", "mode", f"the app is in {mode} mode; what follows is about production"
        )
    if settings.simulator_url and not settings.senders:
        yield Finding(
            "error",
            "SMSVERIFY_SIMULATOR_URL",
            "has no effect, because SMSVERIFY_SENDERS is empty: codes are printed to the console",
        )
    if settings.simulator_url:
        yield Finding(
            "error",
            "SMSVERIFY_SIMULATOR_URL",
            "is set: the app does not start in production. Remove it",
        )
    if settings.test_numbers and settings.test_numbers_until is None:
        yield Finding(
            "error",
            "SMSVERIFY_TEST_NUMBERS",
            "is set: the app does not start in production. Remove it, or set "
            "SMSVERIFY_TEST_NUMBERS_UNTIL",
        )
    elif settings.test_numbers:
        yield Finding(
            "warning",
            "SMSVERIFY_TEST_NUMBERS",
            f"anybody can prove these numbers until {settings.test_numbers_until}",
        )
    if config.get("LOGIN_DISABLED"):
        yield Finding("error", "LOGIN_DISABLED", "is true: all guards are off. Remove it")


def check_texts(state: AppState) -> Iterator[Finding]:
    """Texts name the site, and links in them need a host."""
    settings, app = state.settings, state.app
    if settings.site_name is None:
        yield Finding(
            "warning",
            "SMSVERIFY_SITE_NAME",
            f"is not set: texts and pages call the site {app.name!r}, the app's import name",
        )
    else:
        names = dict.fromkeys(state.live.current.site_name.values())
        yield Finding("ok", "SMSVERIFY_SITE_NAME", f"is {', '.join(map(repr, names))}")
    host = settings.pages_host(app.config.get("SERVER_NAME")) or settings.webotp_host
    if host is None:
        yield Finding(
            "warning",
            "host",
            "none is configured: browsers do not fill in codes, and the link that stops the "
            "change of a number has no host. Set SERVER_NAME or SMSVERIFY_WEBOTP_HOST",
        )
    else:
        yield Finding("ok", "host", f"texts name {host}")


def check_limits(state: AppState) -> Iterator[Finding]:
    """A limit that is lifted leaves the costs or the codes open."""
    lifted = [
        scope
        for scope, limits in state.settings.limits.items()
        if not limits and scope not in ("messages", "unsolved")
    ]
    if lifted:
        yield Finding(
            "warning",
            "SMSVERIFY_LIMITS",
            f"no limit for {', '.join(lifted)}: attackers can cause costs or guess without end",
        )
    else:
        yield Finding("ok", "SMSVERIFY_LIMITS", "codes and guesses are limited")


def check_areas(state: AppState) -> Iterator[Finding]:
    """A pattern that matches no endpoint guards nothing, or leaves nothing open."""
    views = state.app.view_functions
    for area, patterns in state.live.current.areas.items():
        if patterns is False:
            yield Finding(
                "warning", "SMSVERIFY_AREAS", f"{area!r} is off: its views are not guarded"
            )
        for pattern in unmatched(() if isinstance(patterns, bool) else patterns, views):
            text = f"{area!r}: no endpoint matches {pattern!r}"
            yield Finding("error", "SMSVERIFY_AREAS", text)
    for pattern in unmatched(state.settings.open_endpoints, views):
        yield Finding("warning", "SMSVERIFY_OPEN_ENDPOINTS", f"no endpoint matches {pattern!r}")
    own = sorted(name for name in views if _is_way_out(state, name) and not is_own(name))
    yield Finding(
        "ok",
        "guards",
        f"guards of many views leave open: {', '.join(own) or 'no view by its name'}",
    )


def _is_way_out(state: AppState, endpoint: str) -> bool:
    manager: Any = getattr(state.app, "login_manager", None)
    if manager is not None and endpoint in (manager.login_view, manager.refresh_view):
        return True
    return is_named_login_or_logout(state.app, endpoint)


def check_settings_without_effect(state: AppState) -> Iterator[Finding]:
    """Some settings only change what another one switches on."""
    settings = state.settings
    for name, needed in _NEEDS.items():
        if getattr(settings, name) not in _OFF and not getattr(settings, needed):
            yield Finding(
                "warning",
                f"SMSVERIFY_{name.upper()}",
                f"has no effect, because SMSVERIFY_{needed.upper()} is not set",
            )


def check_senders_are_real(state: AppState) -> Iterator[Finding]:
    """The app does not start in production without senders, and some send nothing."""
    senders = state.settings.senders
    if not senders:
        yield Finding(
            "error",
            "SMSVERIFY_SENDERS",
            "is empty: the app does not start in production. Configure a sender",
        )
        return
    for name, options in senders.items():
        if options["gateway"] in _LOCAL_GATEWAYS:
            yield Finding(
                "error", "SMSVERIFY_SENDERS", f"{name!r} only keeps or prints messages. Remove it"
            )
    if not state.delivery.routes.can("event"):
        yield Finding(
            "warning",
            "SMSVERIFY_ROUTES",
            "no sender sends texts: users are not notified when their number is changed, and a "
            "number whose owner cannot confirm it cannot be changed",
        )
    if not state.delivery.routes.can("sms"):
        yield Finding("error", "SMSVERIFY_ROUTES", "no sender sends codes by SMS")
    elif len(state.delivery.routes.route("sms")) == 1:
        yield Finding(
            "warning",
            "SMSVERIFY_ROUTES",
            "one sender sends codes: none arrive when its gateway is down",
        )
    else:
        count = len(state.delivery.routes.route("sms"))
        yield Finding("ok", "SMSVERIFY_ROUTES", f"{count} senders send codes by SMS")


CHECKS: tuple[Check, ...] = (
    check_development_settings,
    check_secret_key,
    check_senders_are_real,
    check_texts,
    check_limits,
    check_areas,
    check_settings_without_effect,
)
