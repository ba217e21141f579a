"""Texts: how many parts one takes, and the text that a code travels in.

A code's text always fits one part, so that a code costs what a code costs. Its last line is the
one that browsers read (the WebOTP specification, "Format": `@host #code`).
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import ConfigurationError

#: A WebOTP message is at most this long, whatever its alphabet.
WEBOTP_MAX_LENGTH = 140

CODE_TEXTS: Mapping[str, str] = {
    "fa": "کد تأیید شما در {site}: {code}",
    "en": "Your {site} verification code is {code}",
}

# 3GPP TS 23.038, 6.2.1: the default alphabet, and its extension table, whose characters take two.
_GSM_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_EXTENDED = frozenset("\f^{}\\[~]|€")


def parts(text: str) -> int:
    """How many SMS parts a text takes: 160 or 153 septets, or 70 or 67 UTF-16 units, a part.

    A character of two units is never cut in two, as 3GPP TS 23.040, 9.2.3.24.1 asks. The empty
    text takes one.
    """
    if all(char in _GSM_BASIC or char in _GSM_EXTENDED for char in text):
        units = [2 if char in _GSM_EXTENDED else 1 for char in text]
        single, several = 160, 153
    else:
        units = [2 if ord(char) > 0xFFFF else 1 for char in text]
        single, several = 70, 67
    if sum(units) <= single:
        return 1
    count, room = 1, several
    for size in units:
        if size > room:
            count, room = count + 1, several
        room -= size
    return count


@dataclass(frozen=True, slots=True)
class CodeTexts:
    """Writes the text of a code, in each language.

    :param templates: language → text with `{code}` and perhaps `{site}`.
    :param signature: ends the text, before the WebOTP line; may be empty.
    :param webotp_host: the host of the WebOTP line; None for none.
    """

    templates: Mapping[str, str]
    site: str
    signature: str = ""
    webotp_host: str | None = None

    def compose(self, code: str, locale: str) -> str:
        """The text: whole if it fits one part, else without the signature, else bare.

        :raises ConfigurationError: even the bare text takes two parts.
        """
        template = self.templates.get(locale) or next(iter(self.templates.values()))
        body = template.format(code=code, site=self.site)
        webotp = f"@{self.webotp_host} #{code}" if self.webotp_host else ""
        for lines in ((body, self.signature, webotp), (body, webotp), (body,)):
            text = "\n".join(line for line in lines if line)
            too_long_for_webotp = bool(webotp) and len(lines) > 1 and len(text) > WEBOTP_MAX_LENGTH
            if parts(text) == 1 and not too_long_for_webotp:
                return text
        raise ConfigurationError(
            f"SMSVERIFY_CODE_TEXT ({locale}) takes more than one part with SMSVERIFY_SITE_NAME "
            f"{self.site!r}; shorten either"
        )

    def check(self, code_length: int) -> None:
        """See that every language's text fits, before anybody waits for one."""
        for locale in self.templates:
            self.compose("0" * code_length, locale)


def checked_template(template: str) -> str:
    """A text of a code: `{code}` must be in it, and nothing but `{code}` and `{site}`.

    :raises ConfigurationError: anything else.
    """
    try:
        fields = {
            # A format or a conversion would be part of it: `{code:>9}`, `{code!r}`.
            f"{field}{conversion or ''}{form}"
            for _, field, form, conversion in string.Formatter().parse(template)
            if field is not None
        }
    except ValueError:
        fields = {""}
    if "code" not in fields or fields - {"code", "site"}:
        raise ConfigurationError(
            "SMSVERIFY_CODE_TEXT must hold {code}, may hold {site}, and no other field"
        )
    return template
