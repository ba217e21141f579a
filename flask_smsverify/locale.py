"""The language and time zone that the host app or the visitor's browser asks for."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from types import ModuleType

from flask import current_app, has_app_context, has_request_context, request

from .i18n.catalogue import match_locale
from .i18n.locales import SOURCE_LOCALE, load_timezone

LocaleGetter = Callable[[], str | None]

#: A longer `Accept-Language` is ignored, because parsing it would take too long.
_MAX_HEADER_LENGTH = 1_000


def select_locale(
    locale_getter: LocaleGetter | None,
    available: Sequence[str],
    *,
    default: str = SOURCE_LOCALE,
) -> str:
    """Return the available locale for the current reader.

    It is taken from the first of these that names a language: Flask-Babel, if the host app uses it;
    the host app's `locale_getter`; the request's `Accept-Language` (RFC 9110, 12.5.4). English is
    used if the host app names a language that is not available.

    :param available: see `i18n.catalogue.available_locales`.
    :param default: the locale if nothing names an available language, or outside a request.
    """
    chosen = _flask_babel_locale() or (_call(locale_getter) if locale_getter else None)
    if chosen:
        return match_locale(chosen, available) or SOURCE_LOCALE
    return _accepted_locale(available) or default


def host_timezone() -> dt.tzinfo | None:
    """Return the time zone that the host app configured; None without one.

    Flask-Babel's own default, UTC, is not a choice of the host app.
    """
    if not has_app_context():
        return None
    babel = _flask_babel()
    settings = current_app.extensions.get("babel")
    if babel and (
        getattr(settings, "timezone_selector", None)
        or getattr(settings, "default_timezone", "UTC") != "UTC"
    ):
        chosen: dt.tzinfo | None = babel.get_timezone()
        return chosen
    configured = current_app.config.get("BABEL_DEFAULT_TIMEZONE")
    return load_timezone(str(configured)) if configured else None


def _accepted_locale(available: Sequence[str]) -> str | None:
    """Return the available locale that the request prefers."""
    if not has_request_context():
        return None
    if len(request.headers.get("Accept-Language", "")) > _MAX_HEADER_LENGTH:
        return None
    for name, quality in request.accept_languages:  # in order of quality
        found = match_locale(name, available) if quality > 0 else None
        if found is not None:
            return found
    return None


def _call(locale_getter: LocaleGetter) -> str | None:
    """Return the host app's choice; None if the function fails outside a request.

    Such functions often read `session` or `current_user`, which a command does not have.
    """
    try:
        return locale_getter()
    except Exception:
        if has_request_context():
            raise
        return None


def _flask_babel() -> ModuleType | None:
    """Return Flask-Babel if the current app uses it."""
    if not has_app_context() or "babel" not in current_app.extensions:
        return None
    try:
        import flask_babel
    except ImportError:  # another extension uses the key "babel"
        return None
    module: ModuleType = flask_babel
    return module


def _flask_babel_locale() -> str | None:
    babel = _flask_babel()
    locale = babel.get_locale() if babel else None
    return None if locale is None else str(locale)
