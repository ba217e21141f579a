"""The Jinja global `smsverify_ui`: functions that write in the reader's language."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Protocol, cast

from flask import current_app

from ..i18n import formats, locales
from ..i18n.catalogue import Translator, available_locales
from ..locale import LocaleGetter, host_timezone, select_locale
from ..phone import spaced


class StatusView(Protocol):
    """The status of a user for the widgets. Times are aware and in UTC."""

    @property
    def state(self) -> str:
        """`verified`, `unverified`, `expired`, `pending` or `exempt`."""

    @property
    def mobile(self) -> str | None:
        """The masked mobile."""

    @property
    def verified_at(self) -> dt.datetime | None: ...

    @property
    def expires_at(self) -> dt.datetime | None: ...


class CardActionsView(Protocol):
    """What the viewer of a status card may do."""

    @property
    def is_own(self) -> bool:
        """Whether the card is about the viewer."""

    @property
    def send_url(self) -> str | None:
        """Where a form sends a code; None if the viewer may not."""

    @property
    def fields(self) -> dict[str, str]:
        """The hidden fields of this form."""


class Interface:
    """Translations and formats for templates.

    One object serves every request of an app: each call determines the reader's language.

    :param locale_getter: the host app's choice of language, see `select_locale`.
    :param default_locale: the locale if nothing names an available language.
    :param timezone: the zone in which times are shown. By default the host app's, otherwise the
        usual zone of the reader's locale, otherwise UTC, which is then shown with each time.
    :param status: returns the status of a user, for the widgets.
    :param actions: returns what the viewer of a user's status card may do.
    """

    def __init__(
        self,
        locale_getter: LocaleGetter | None = None,
        *,
        default_locale: str = locales.SOURCE_LOCALE,
        timezone: str | dt.tzinfo | None = None,
        status: Callable[[object], StatusView] | None = None,
        actions: Callable[[object], CardActionsView] | None = None,
    ) -> None:
        self._locale_getter = locale_getter
        self._default_locale = default_locale
        self._timezone = locales.load_timezone(timezone) if isinstance(timezone, str) else timezone
        self._status = status
        self._actions = actions

    @property
    def translator(self) -> Translator:
        """The translator for the current reader."""
        return Translator(
            select_locale(self._locale_getter, available_locales(), default=self._default_locale)
        )

    @property
    def locale(self) -> str:
        """The language tag for the HTML attribute `lang`, such as `fa` or `ar-EG`."""
        return locales.language_tag(self.translator.locale)

    @property
    def intl_locale(self) -> str:
        """The language tag for JavaScript's `Intl`, which includes the digits."""
        return locales.intl_tag(self.translator.locale)

    @property
    def dir(self) -> str:
        """`"rtl"` or `"ltr"`, for the HTML attribute `dir`."""
        return locales.direction(self.translator.locale)

    def t(self, message: str, /, **values: object) -> str:
        """Translate a message, see `Translator.gettext`."""
        return self.translator.gettext(message, **values)

    def n(self, singular: str, plural: str, count: int, /, **values: object) -> str:
        """Translate a message with a plural form, see `Translator.ngettext`."""
        return self.translator.ngettext(singular, plural, count, **values)

    def number(self, value: object) -> str:
        """Write a number, or a text that contains digits, in the reader's digits."""
        return self.translator.digits(str(value))

    def mobile(self, mobile: str) -> str:
        """Write a mobile, masked or whole, in national form and in the reader's digits."""
        return self.number(spaced(mobile))

    def percent(self, value: int) -> str:
        """Write a whole number of percent."""
        return formats.format_percent(value, self.translator)

    def clock(self, seconds: float) -> str:
        """Write a duration as a countdown: `1:05`."""
        return formats.format_clock(seconds, self.translator)

    def wait(self, seconds: float) -> str:
        """Write when something becomes possible: "in 5 minutes"."""
        return formats.format_wait(seconds, self.translator)

    def date(self, moment: dt.date | None) -> str:
        """Write a day in the reader's calendar and time zone; empty for None."""
        if moment is None:
            return ""
        day = self._local(moment).date() if isinstance(moment, dt.datetime) else moment
        return formats.format_date(day, self.translator)

    def time(self, moment: dt.datetime | None) -> str:
        """Write a time of day in the reader's time zone; empty for None."""
        return "" if moment is None else formats.format_time(self._local(moment), self.translator)

    def datetime(self, moment: dt.datetime | None) -> str:
        """Write a day and a time of day; empty for None."""
        if moment is None:
            return ""
        return formats.format_datetime(self._local(moment), self.translator)

    def short(self, moment: dt.datetime | None) -> str:
        """Write a day and a time of day in figures, for tables; empty for None."""
        if moment is None:
            return ""
        local = self._local(moment)
        day = formats.format_short_date(local.date(), self.translator)
        return f"{day} {formats.format_time(local, self.translator)}"

    def short_date(self, day: dt.date) -> str:
        """Write a day in figures, in the reader's calendar."""
        return formats.format_short_date(day, self.translator)

    def status(self, user: object) -> StatusView:
        """Return the status of a user, for the widgets."""
        if self._status is None:
            raise LookupError("this Interface was created without a status function")
        return self._status(user)

    def card_actions(self, user: object) -> CardActionsView:
        """Return what the viewer of a user's status card may do."""
        if self._actions is None:
            raise LookupError("this Interface was created without a function for card actions")
        return self._actions(user)

    @property
    def timezone(self) -> dt.tzinfo:
        """The time zone in which times are shown."""
        return self._timezone or host_timezone() or locales.usual_timezone(self.translator.locale)

    def _local(self, moment: dt.datetime) -> dt.datetime:
        """Convert to the reader's time zone. A time without a zone is UTC."""
        aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
        return aware.astimezone(self.timezone)


def current_ui() -> Interface:
    """Return the `smsverify_ui` of the current app."""
    return cast(Interface, current_app.extensions["smsverify_ui"])
