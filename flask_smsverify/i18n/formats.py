"""Dates, times, countdowns and waiting times in the reader's language."""

from __future__ import annotations

import datetime as dt
import math
from typing import Literal

from babel.dates import format_date as babel_date
from babel.dates import format_timedelta, get_datetime_format

from .catalogue import Translator
from .locales import locale_data, uses_persian_calendar


def _(message: str) -> str:
    """Mark a message for extraction into the catalogues."""
    return message


#: Typed years below it are read as Persian; the Persian calendar has reached 1405.
FIRST_GREGORIAN_YEAR = 1700

_PERSIAN_MONTHS = (
    _("Farvardin"),
    _("Ordibehesht"),
    _("Khordad"),
    _("Tir"),
    _("Mordad"),
    _("Shahrivar"),
    _("Mehr"),
    _("Aban"),
    _("Azar"),
    _("Dey"),
    _("Bahman"),
    _("Esfand"),
)


def format_percent(value: int, translator: Translator) -> str:
    """Write a whole number of percent: "93%", and "۹۳٪" in Persian."""
    data = locale_data(translator.locale)
    symbols = data.number_symbols.get(data.default_numbering_system, {})
    return translator.digits(f"{value}{symbols.get('percentSign', '%')}")


def format_clock(seconds: float, translator: Translator) -> str:
    """Write a duration as a countdown: `1:05`, or `1:00:05` for an hour or more."""
    minutes, second = divmod(max(0, int(seconds)), 60)
    hour, minute = divmod(minutes, 60)
    text = f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"
    return translator.digits(text)


def format_wait(seconds: float, translator: Translator) -> str:
    """Write when something becomes possible: "in 5 minutes".

    The value is rounded up so that the stated time is never too early: to seconds below a minute,
    to minutes up to 90 minutes, to hours up to 36 hours, then to days.
    """
    whole = max(1, math.ceil(seconds))
    minutes = math.ceil(whole / 60)
    hours = math.ceil(minutes / 60)
    unit: Literal["second", "minute", "hour", "day"]
    if whole < 60:
        unit, wait = "second", dt.timedelta(seconds=whole)
    elif minutes <= 90:
        unit, wait = "minute", dt.timedelta(minutes=minutes)
    elif hours <= 36:
        unit, wait = "hour", dt.timedelta(hours=hours)
    else:
        unit, wait = "day", dt.timedelta(days=math.ceil(hours / 24))
    text = format_timedelta(
        wait,
        granularity=unit,
        threshold=math.inf,  # without it, Babel would round to a larger unit
        add_direction=True,
        locale=locale_data(translator.locale),
    )
    return translator.digits(text)


def format_date(day: dt.date, translator: Translator) -> str:
    """Write a day: "21 March 2025", or in the Persian calendar if the locale uses it.

    The Persian calendar needs the package `persiantools` (extra `fa`). Without it, the Gregorian
    date is written.
    """
    if uses_persian_calendar(translator.locale):
        persian = _format_persian_date(day, translator)
        if persian is not None:
            return persian
    text = babel_date(day, "long", locale=locale_data(translator.locale))
    return translator.digits(text)


class PersianCalendarMissing(ValueError):
    """A day of the Persian calendar cannot be read without the extra `fa`."""


def format_short_date(day: dt.date, translator: Translator) -> str:
    """Write a day in figures, year first: "2025-03-21", or "1404/01/01" in the Persian calendar."""
    if uses_persian_calendar(translator.locale):
        jalali = _to_persian(day)
        if jalali is not None:
            year, month, day_of_month = jalali
            return translator.digits(f"{year:04}/{month:02}/{day_of_month:02}")
    return translator.digits(day.isoformat())


def parse_short_date(text: str) -> dt.date:
    """Read a day in the format of `format_short_date`, in either calendar and with ASCII digits.

    A year before 1700 is read as Persian.

    :raises PersianCalendarMissing: the year is Persian, and `persiantools` is missing.
    :raises ValueError: it is not a day.
    """
    year, month, day = map(int, text.replace("/", "-").split("-"))
    if year >= FIRST_GREGORIAN_YEAR:
        return dt.date(year, month, day)
    try:
        from persiantools.jdatetime import JalaliDate
    except ImportError:
        raise PersianCalendarMissing from None
    return JalaliDate(year, month, day).to_gregorian()  # type: ignore[no-untyped-call]  # the package has no type hints


def format_time(moment: dt.datetime, translator: Translator) -> str:
    """Write the time of day on a 24-hour clock: "14:05". UTC is named: "14:05 UTC"."""
    text = translator.digits(f"{moment:%H:%M}")
    return f"{text} UTC" if moment.tzname() == "UTC" else text


def format_datetime(moment: dt.datetime, translator: Translator) -> str:
    """Write the day and the time of day."""
    pattern = str(get_datetime_format("long", locale=locale_data(translator.locale)))
    return pattern.replace("'", "").format(
        format_time(moment, translator), format_date(moment.date(), translator)
    )


def _format_persian_date(day: dt.date, translator: Translator) -> str | None:
    jalali = _to_persian(day)
    if jalali is None:
        return None
    year, month, day_of_month = jalali
    name = translator.gettext(_PERSIAN_MONTHS[month - 1])
    return translator.digits(f"{day_of_month} {name} {year}")


def _to_persian(day: dt.date) -> tuple[int, int, int] | None:
    """Return year, month and day in the Persian calendar; None without `persiantools`."""
    try:
        from persiantools.jdatetime import JalaliDate
    except ImportError:
        return None
    jalali = JalaliDate(day)  # type: ignore[no-untyped-call]  # the package has no type hints
    return jalali.year, jalali.month, jalali.day
