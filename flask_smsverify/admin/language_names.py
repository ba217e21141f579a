"""The names of languages in the reader's language."""

from __future__ import annotations

from ..i18n.locales import locale_data


def language_name(locale: str, reader: str) -> str:
    """Return the name of a language, such as "Persian" or "فارسی".

    :param reader: the locale of the name.
    """
    return str(locale_data(reader).languages.get(locale_data(locale).language, locale))
