"""Message catalogues: which languages exist, and the translation of a message.

Messages are written in English in the source code. Every other language is a gettext catalogue
`translations/<locale>/LC_MESSAGES/smsverify.mo`.
"""

from __future__ import annotations

import gettext
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from babel.core import get_global
from babel.languages import get_official_languages

from .locales import SOURCE_LOCALE, replace_digits

DOMAIN = "smsverify"
FOLDER = Path(__file__).resolve().parent.parent / "translations"


class Translator:
    """Translates messages into one language.

    :param locale: a name from `available_locales()`. Messages stay in English for any other.
    """

    def __init__(self, locale: str = SOURCE_LOCALE) -> None:
        self.locale = match_locale(locale, available_locales()) or SOURCE_LOCALE
        self._catalogue = _load(FOLDER, self.locale)

    def gettext(self, message: str, /, **values: object) -> str:
        """Translate a message and fill in its `%(name)s` fields.

        Integers among the values are written in the digits of the language. The result is a plain
        `str`, so that a template escapes values that contain markup.
        """
        return self._fill(self._catalogue.gettext(message), values)

    def ngettext(self, singular: str, plural: str, count: int, /, **values: object) -> str:
        """Translate a message in the plural form for `count`, which is also the field `count`."""
        text = self._catalogue.ngettext(singular, plural, count)
        return self._fill(text, {"count": count} | values)

    def digits(self, text: str) -> str:
        """Replace the ASCII digits of a text with the digits of the language."""
        return replace_digits(text, self.locale)

    def _fill(self, text: str, values: dict[str, object]) -> str:
        if not values:  # a message without fields may contain a percent sign
            return text
        return text % {
            name: self.digits(str(value)) if isinstance(value, int) else str(value)
            for name, value in values.items()
        }


def available_locales() -> tuple[str, ...]:
    """Return the locales that have texts: English, then each catalogue in alphabetical order."""
    return _scan(FOLDER)


def match_locale(name: str, available: Sequence[str]) -> str | None:
    """Return the available locale that serves a requested one; None if none does.

    A catalogue of the language serves all its countries: `fa` serves `fa_IR` and `fa-AF`. Old and
    three-letter language codes (`per`, `fas`) are replaced as CLDR's `languageAlias` says.
    """
    known = {locale.lower(): locale for locale in available}
    language, *rest = name.replace("-", "_").lower().split("_")
    subtags = [get_global("language_aliases").get(language, language), *rest]
    for length in range(len(subtags), 0, -1):
        found = known.get("_".join(subtags[:length]))
        if found is not None:
            return found
    return None


def default_locale(region: str) -> str:
    """Return the locale for readers whose language is unknown.

    :param region: ISO 3166 code of the country that the app serves. Its first official language
        is used if a catalogue exists, otherwise English.
    """
    languages = get_official_languages(region, de_facto=True)
    matches = (match_locale(language, available_locales()) for language in languages)
    return next(filter(None, matches), SOURCE_LOCALE)


@cache
def _scan(folder: Path) -> tuple[str, ...]:
    found = sorted(path.parts[-3] for path in folder.glob(f"*/LC_MESSAGES/{DOMAIN}.mo"))
    return (SOURCE_LOCALE, *found)


@cache
def _load(folder: Path, locale: str) -> gettext.NullTranslations:
    if locale == SOURCE_LOCALE:
        return gettext.NullTranslations()
    return gettext.translation(DOMAIN, folder, [locale])
