"""Facts about a locale: writing direction, digits, calendar and time zone.

Babel's copy of the Unicode CLDR supplies the facts. The two tables below fill its gaps. Which
languages there are, `catalogue` finds in `translations/`.
"""

from __future__ import annotations

import datetime as dt
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from babel import Locale, localedata
from babel.core import get_global

#: The locale of the messages in the source code.
SOURCE_LOCALE = "en"
#: English without a country uses international formats; CLDR alone would choose those of the US.
_SOURCE_FORMATS = "en_001"

#: CLDR numbering system → code point of its zero. Babel has the names but not the digits.
_ZEROS = {
    "arab": 0x0660,
    "arabext": 0x06F0,
    "beng": 0x09E6,
    "deva": 0x0966,
    "mymr": 0x1040,
    "tibt": 0x0F20,
}
#: Territories whose preferred calendar is `persian` (CLDR, `calendarPreferenceData`).
_PERSIAN_CALENDAR = frozenset({"AF", "IR"})


@cache
def locale_data(locale: str) -> Locale:
    """Return Babel's data about a locale.

    :param locale: a locale identifier such as `fa`, `ar_EG` or `ar-EG`.
    :raises babel.UnknownLocaleError: CLDR has no such locale.
    """
    name = locale.replace("-", "_")
    return Locale.parse(_SOURCE_FORMATS if name == SOURCE_LOCALE else name)


def language_tag(locale: str) -> str:
    """Return the BCP 47 language tag of a locale, as HTML's `lang` attribute needs it."""
    return locale.replace("_", "-")


def intl_tag(locale: str) -> str:
    """Return the tag that gives JavaScript's `Intl` the digits that the server uses."""
    return f"{language_tag(locale)}-u-nu-{_numbering_system(locale)}"


def direction(locale: str) -> str:
    """Return `"rtl"` or `"ltr"`."""
    return locale_data(locale).text_direction


def replace_digits(text: str, locale: str) -> str:
    """Replace the ASCII digits of a text with the digits of the locale."""
    return text.translate(_digits(_numbering_system(locale)))


def uses_persian_calendar(locale: str) -> bool:
    """Whether dates are written in the Persian (Jalali) calendar."""
    return _territory(locale) in _PERSIAN_CALENDAR


def usual_timezone(locale: str) -> dt.tzinfo:
    """Return the time zone of the locale's main territory, or UTC if it has several."""
    zones = get_global("territory_zones").get(_territory(locale) or "", ())
    return load_timezone(zones[0]) if len(zones) == 1 else dt.UTC


@cache
def load_timezone(name: str) -> dt.tzinfo:
    """Return a time zone of the IANA database.

    :raises zoneinfo.ZoneInfoNotFoundError: unknown name.
    """
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError:
        # Windows without the package `tzdata`. Iran has kept one offset since September 2022
        # (tz database, 2022b).
        if name == "Asia/Tehran":
            return dt.timezone(dt.timedelta(hours=3, minutes=30))
        raise


def _numbering_system(locale: str) -> str:
    return locale_data(locale).default_numbering_system


@cache
def _digits(numbering_system: str) -> dict[int, int]:
    """Return a translation table from ASCII digits; empty for Latin and unknown systems."""
    zero = _ZEROS.get(numbering_system)
    return {} if zero is None else {ord("0") + value: zero + value for value in range(10)}


@cache
def _territory(locale: str) -> str | None:
    """Return the territory of a locale; without one, the territory with most of its speakers.

    None for a language of many countries, such as Arabic. CLDR has an international variant of it,
    with the territory `001` (the world).
    """
    data = locale_data(locale)
    if data.territory is not None:
        return data.territory
    if localedata.exists(f"{data.language}_001"):
        return None
    likely = get_global("likely_subtags").get(str(data))
    return Locale.parse(likely).territory if likely else None
