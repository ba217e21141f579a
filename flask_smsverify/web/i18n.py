"""What our pages say it in: language, direction, digits, dates and times.

One `Interface` per app is the Jinja global `smsverify_ui`. The texts are English in the code and
in the templates, and gettext catalogues of our own (domain `smsverify`, in `translations/`) hold
the other languages, so pages work without Flask-Babel. What a page says of a problem is in
`problems`; what a message on the phone says is in neither.
"""

from __future__ import annotations

import datetime as dt
import gettext
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from flask import current_app, has_app_context, has_request_context, request

DOMAIN = "smsverify"
CATALOGUES = Path(__file__).resolve().parent.parent / "translations"
LANGUAGES = ("fa", "en")

_PERSIAN_DIGITS = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")
_JALALI_MONTHS = (
    "فروردین",
    "اردیبهشت",
    "خرداد",
    "تیر",
    "مرداد",
    "شهریور",
    "مهر",
    "آبان",
    "آذر",
    "دی",
    "بهمن",
    "اسفند",
)
_GREGORIAN_MONTHS = {
    "en": (
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ),
    "fa": (
        "ژانویه",
        "فوریه",
        "مارس",
        "آوریل",
        "مه",
        "ژوئن",
        "ژوئیه",
        "اوت",
        "سپتامبر",
        "اکتبر",
        "نوامبر",
        "دسامبر",
    ),
}


class Translate(Protocol):
    """Gives a text in the reader's language, with `%(name)s` filled in from `values`."""

    def __call__(self, message: str, /, **values: object) -> str: ...


class Standing(Protocol):
    """What the widgets read of a user's standing; times are aware and in UTC."""

    @property
    def state(self) -> str:
        """`verified`, `unverified`, `expired`, `pending` or `exempt`."""

    @property
    def mobile(self) -> str | None:
        """Masked."""

    @property
    def verified_at(self) -> dt.datetime | None: ...

    @property
    def expires_at(self) -> dt.datetime | None: ...


#: An `Accept-Language` longer than this says nothing: what it asks for would take long to find out.
_LONGEST = 1_000


def select_locale(locale_getter: Callable[[], str | None] | None = None) -> str:
    """Return `"fa"` or `"en"` for whoever is being answered.

    Asked in this order, and the first that answers decides: Flask-Babel, where the host uses it;
    the host's `locale_getter`; the request's `Accept-Language` (RFC 9110, 12.5.4) between our two
    languages. Persian where none of them says anything, and where there is no request. A language
    we do not speak is answered in English.
    """
    chosen = _flask_babel_locale() or (_asked(locale_getter) if locale_getter else None)
    if chosen:
        return language_of(chosen)
    if has_request_context() and len(request.headers.get("Accept-Language", "")) <= _LONGEST:
        return _accepted() or "fa"
    return "fa"


def _accepted() -> str | None:
    """Which of our languages the request accepts rather, in whichever country's form."""
    for locale, quality in request.accept_languages:  # the best first
        language = _language(locale)
        if quality > 0 and language in LANGUAGES:
            return language
    return None


def _asked(locale_getter: Callable[[], str | None]) -> str | None:
    """The host's choice; None where it looks at a request and there is none, as in a command.

    It need not fail by the lack of a request itself: without one, `current_user` is None.
    """
    try:
        return locale_getter()
    except Exception:
        if has_request_context():
            raise
        return None


def language_of(locale: str) -> str:
    """Reduce a locale's name (`fa`, `fa_IR`, `fa-IR`, `en_GB`, …) to one of our languages."""
    return "fa" if _language(locale) == "fa" else "en"


def _language(locale: str) -> str:
    language = locale.replace("-", "_").partition("_")[0].lower()
    return "fa" if language in ("per", "fas") else language


def in_how_long(seconds: float, t: Translate) -> str:
    """Say when something will be possible, as "in 5 minutes".

    Rounded up, so that who comes back at the said time is never early: whole seconds under a
    minute, then minutes to an hour and a half, hours to a day and a half, then days.
    """
    whole = max(1, -int(-seconds // 1))
    if whole < 60:
        return t("in 1 second") if whole == 1 else t("in %(seconds)s seconds", seconds=whole)
    minutes = -(-whole // 60)
    if minutes <= 90:
        return t("in 1 minute") if minutes == 1 else t("in %(minutes)s minutes", minutes=minutes)
    hours = -(-minutes // 60)
    if hours <= 36:
        return t("in %(hours)s hours", hours=hours)
    return t("in %(days)s days", days=-(-hours // 24))


class Interface:
    """The Jinja global `smsverify_ui`: everything a template needs to speak to its reader.

    It holds no language itself: each call asks for the reader's, so one object serves every
    request of an app.

    :param locale_getter: the host's own choice of language, if it made one: returns a locale's
        name, or None to leave it to us. See `select_locale`.
    :param timezone: the zone times are shown in. By default Flask-Babel's, where the host set one;
        else `BABEL_DEFAULT_TIMEZONE`; else Tehran's for Persian readers and UTC, named as such,
        for the others.
    :param status: what `smsverify_ui.status(user)` answers in the widgets.
    """

    def __init__(
        self,
        locale_getter: Callable[[], str | None] | None = None,
        *,
        timezone: str | dt.tzinfo | None = None,
        status: Callable[[object], Standing] | None = None,
    ) -> None:
        self._locale_getter = locale_getter
        self._timezone = _zone(timezone) if isinstance(timezone, str) else timezone
        self._status = status

    @property
    def locale(self) -> str:
        """`"fa"` or `"en"`; good as an HTML `lang`."""
        return select_locale(self._locale_getter)

    @property
    def dir(self) -> str:
        """`"rtl"` or `"ltr"`, for an HTML `dir`."""
        return "rtl" if self.locale == "fa" else "ltr"

    def t(self, message: str, /, **values: object) -> str:
        """Translate `message` and fill in its `%(name)s` fields.

        Whole numbers among the values get the reader's digits. The answer is a plain `str`
        whatever the values were, so a template escapes all of it.
        """
        locale = self.locale
        text = str(_catalogue(locale).gettext(message))
        if not values:
            return text
        return text % {
            name: _digits(str(value), locale) if isinstance(value, int) else str(value)
            for name, value in values.items()
        }

    def number(self, n: object) -> str:
        """Write a number in the reader's digits; anything else that holds digits too."""
        return _digits(str(n), self.locale)

    def clock(self, seconds: int) -> str:
        """Write a span as a countdown shows it: `1:05`, from an hour on `1:00:05`."""
        minutes, rest = divmod(max(0, int(seconds)), 60)
        hours, minutes = divmod(minutes, 60)
        text = f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
        return _digits(text, self.locale)

    def wait(self, seconds: float) -> str:
        """Say when, as "in 5 minutes"."""
        return in_how_long(seconds, self.t)

    def date(self, moment: dt.date | None) -> str:
        """Write a day, "21 March 2025", for Persian readers in the Jalali calendar.

        Without `persiantools` (the extra `fa`) Persian readers get the Gregorian day in Persian.
        A time is first brought into the reader's zone. None gives nothing.
        """
        if moment is None:
            return ""
        day = self._local(moment).date() if isinstance(moment, dt.datetime) else moment
        locale = self.locale
        if locale == "fa" and (jalali := _jalali(day)):
            return jalali
        month = _GREGORIAN_MONTHS[locale][day.month - 1]
        return _digits(f"{day.day} {month} {day.year}", locale)

    def time(self, moment: dt.datetime | None) -> str:
        """Write a time of day, "14:05", in the reader's zone; "14:05 UTC" where that is UTC."""
        if moment is None:
            return ""
        local = self._local(moment)
        text = _digits(f"{local:%H:%M}", self.locale)
        return f"{text} UTC" if local.tzname() == "UTC" else text

    def datetime(self, moment: dt.datetime | None) -> str:
        """Write a day and a time of day."""
        if moment is None:
            return ""
        return self.t("%(date)s at %(time)s", date=self.date(moment), time=self.time(moment))

    def status(self, user: object) -> Standing:
        """Where this user stands, for the widgets."""
        if self._status is None:
            raise LookupError("this Interface was made without a status callable")
        return self._status(user)

    def _local(self, moment: dt.datetime) -> dt.datetime:
        """Bring a time into the reader's zone; one without a zone is taken for UTC."""
        aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
        return aware.astimezone(self._timezone or _host_timezone() or _usual_timezone(self.locale))


def _flask_babel() -> ModuleType | None:
    """Flask-Babel, where the app being served uses it."""
    if not has_app_context() or "babel" not in current_app.extensions:
        return None
    try:
        import flask_babel
    except ImportError:  # another extension has registered under that name
        return None
    module: ModuleType = flask_babel
    return module


def _flask_babel_locale() -> str | None:
    babel = _flask_babel()
    locale = babel.get_locale() if babel else None
    return None if locale is None else str(locale)


def _host_timezone() -> dt.tzinfo | None:
    """The zone the host chose. Flask-Babel's own default, UTC, is nobody's choice."""
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
    return _zone(str(configured)) if configured else None


def _usual_timezone(locale: str) -> dt.tzinfo:
    return _zone("Asia/Tehran") if locale == "fa" else dt.UTC


@cache
def _zone(name: str) -> dt.tzinfo:
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError:
        # Windows without the tzdata package. Iran has kept one offset since September 2022
        # (tz database, 2022b).
        if name == "Asia/Tehran":
            return dt.timezone(dt.timedelta(hours=3, minutes=30))
        raise


@cache
def _catalogue(locale: str) -> gettext.NullTranslations:
    if locale == "en":
        return gettext.NullTranslations()
    return gettext.translation(DOMAIN, CATALOGUES, [locale])


def _digits(text: str, locale: str) -> str:
    return text.translate(_PERSIAN_DIGITS) if locale == "fa" else text


def _jalali(day: dt.date) -> str | None:
    try:
        from persiantools.jdatetime import JalaliDate
    except ImportError:
        return None
    jalali = JalaliDate(day)  # type: ignore[no-untyped-call]  # it ships no types
    return _digits(f"{jalali.day} {_JALALI_MONTHS[jalali.month - 1]} {jalali.year}", "fa")
