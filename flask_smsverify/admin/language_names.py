"""The languages of texts for a reader: with their names, the reader's own first."""

from __future__ import annotations

from collections.abc import Sequence

from ..i18n.locales import locale_data


def language_name(locale: str, reader: str) -> str:
    """Return the name of a language, such as "Persian" or "فارسی".

    :param reader: the locale of the name.
    """
    return str(locale_data(reader).languages.get(locale_data(locale).language, locale))


def reader_first(locales: Sequence[str], reader: str) -> list[str]:
    """Return locales in their order, but the reader's first.

    :param reader: a locale, which need not be one of them.
    """
    return sorted(locales, key=lambda locale: locale != reader)
