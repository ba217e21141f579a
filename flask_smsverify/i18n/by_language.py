"""Settings that are one text for every language, or a text for each language."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..errors import ConfigurationError
from .catalogue import available_locales, match_locale


def complete_texts(configured: str | Mapping[str, str], default: str) -> Mapping[str, str]:
    """Return the text of every available locale.

    :param configured: one text for all languages, or language → text. A language that it leaves out
        gets the text of `default`, or the first text if that one is left out as well.
    :param default: the locale for readers whose language is unknown.
    :raises ConfigurationError: an unknown language, or two names of the same one.
    """
    available = available_locales()
    if isinstance(configured, str):
        return MappingProxyType(dict.fromkeys(available, configured))
    texts: dict[str, str] = {}
    for name, text in configured.items():
        locale = check_language(name)
        if locale in texts:
            raise ConfigurationError(f"names the language {locale!r} twice")
        texts[locale] = text
    given = tuple(texts)
    rest = texts[match_locale(default, given) or given[0]]
    matches = {locale: match_locale(locale, given) for locale in available}
    return MappingProxyType(
        {locale: rest if match is None else texts[match] for locale, match in matches.items()}
    )


def check_language(name: str) -> str:
    """Return the available locale that serves a language.

    :raises ConfigurationError: there is none.
    """
    available = available_locales()
    locale = match_locale(name, available)
    if locale is None:
        raise ConfigurationError(
            f"names the language {name!r}, in which there are no texts. "
            f"Use one of: {', '.join(available)}."
        )
    return locale
