"""The text of a code message.

The text takes one SMS segment, so that each code costs one segment. Its last line is read by
browsers (WebOTP specification, "Format": `@host #code`).
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ConfigurationError
from .by_language import check_language
from .catalogue import Translator, available_locales, match_locale
from .segments import count_segments

#: The longest text from which browsers read a code (WebOTP specification, "Format").
WEBOTP_MAX_LENGTH = 140


@dataclass(frozen=True, slots=True)
class CodeTexts:
    """Composes the text of a code in each language.

    :param templates: locale → text with `{code}` and optionally `{site}`.
    :param webotp_host: the host in the WebOTP line; None for no such line.
    :param retriever_hash: the last line, with which an Android app reads the code (SMS Retriever
        API, "Construct a verification message"); None for no such line.
    """

    templates: Mapping[str, str]
    webotp_host: str | None = None
    retriever_hash: str | None = None

    def compose(self, code: str, locale: str, *, site: str, signature: str = "") -> str:
        """Return the text of a code.

        If it takes more than one segment, the signature is left out, then the app's hash, then the
        WebOTP line. A locale without a template gets the first one.

        :param signature: the line after the text; may be empty.
        :raises ConfigurationError: the text alone takes more than one segment.
        """
        found = match_locale(locale, tuple(self.templates)) or next(iter(self.templates))
        body = self.templates[found].format(code=code, site=site)
        webotp = f"@{self.webotp_host} #{code}" if self.webotp_host else ""
        tail = self.retriever_hash or ""
        for lines in (
            (body, signature, webotp, tail),
            (body, webotp, tail),
            (body, webotp),
            (body, tail),
            (body,),
        ):
            text = "\n".join(line for line in lines if line)
            is_read_by_program = bool(webotp or tail) and len(lines) > 1
            if count_segments(text) == 1 and not (
                is_read_by_program and len(text) > WEBOTP_MAX_LENGTH
            ):
                return text
        raise ConfigurationError(
            f"SMSVERIFY_CODE_TEXT ({locale}) takes more than one SMS segment with "
            f"SMSVERIFY_SITE_NAME {site!r}. Shorten one of them."
        )

    def check(self, code_length: int, *, sites: Mapping[str, str]) -> None:
        """Compose the text in every language.

        :param sites: locale → name of the site.
        :raises ConfigurationError: a text takes more than one segment.
        """
        for locale in self.templates:
            self.compose("0" * code_length, locale, site=sites[locale])


def code_templates(configured: str | Mapping[str, str] | None) -> dict[str, str]:
    """Return the template of every available locale.

    :param configured: `SMSVERIFY_CODE_TEXT`: one text for all languages, or locale → text.
        Languages that it leaves out get the built-in text.
    :raises ConfigurationError: an unknown language, or an invalid template.
    """
    available = available_locales()
    if isinstance(configured, str):
        return dict.fromkeys(available, check_template(configured))
    templates = {locale: built_in_template(locale) for locale in available}
    for name, template in (configured or {}).items():
        try:
            locale = check_language(name)
        except ConfigurationError as error:
            raise ConfigurationError(f"SMSVERIFY_CODE_TEXT {error}") from None
        templates[locale] = check_template(template)
    return templates


def built_in_template(locale: str) -> str:
    """Return the catalogue's text of a code.

    :raises ConfigurationError: the translation has other fields than the English text.
    """
    return check_template(Translator(locale).gettext("Your {site} verification code is {code}"))


def check_template(template: str) -> str:
    """Return a template unchanged if it has `{code}` and no other field except `{site}`.

    :raises ConfigurationError: any other template.
    """
    try:
        fields = {
            # A conversion or format is part of the name here, so `{code!r}` and `{code:>9}` fail.
            f"{field}{conversion or ''}{form}"
            for _, field, form, conversion in string.Formatter().parse(template)
            if field is not None
        }
    except ValueError:
        fields = {""}
    if "code" not in fields or fields - {"code", "site"}:
        raise ConfigurationError(
            "SMSVERIFY_CODE_TEXT must contain {code}, may contain {site}, and no other field."
        )
    return template
