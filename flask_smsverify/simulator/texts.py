"""Message texts: how many parts they have, the code in them, and how a call reads a code out.

The senders have code of their own for this. The simulator does not share it, so a wrong count or
text there becomes a visible difference.
"""

import re

from .phone_numbers import latin_digits

# The basic alphabet of GSM 03.38, and the characters that take two places in it.
_GSM = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    "ÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_EXTENDED = frozenset("^{}\\[~]|€")

_WEBOTP_LINE = re.compile(r"@\S+ #(\S+)\s*$")
_LINK = re.compile(
    r"https?://|\bwww\.|(?<![\w.])[a-z0-9][a-z0-9-]*(?:\.[a-z0-9-]+)*\.[a-z]{2,}\b", re.IGNORECASE
)
_CODE_WORD = re.compile(
    r"کد|رمز|گذرواژه|تایید|تأیید|\b(?:code|otp|pin|password|passcode|verification)\b",
    re.IGNORECASE,
)
_CODE = re.compile(r"(?<![\d/.,:+\-])\d{4,10}(?![\d/]|[.,:\-]\d)")

_DIGIT_NAMES = ("صفر", "یک", "دو", "سه", "چهار", "پنج", "شش", "هفت", "هشت", "نه")


def is_gsm(text: str) -> bool:
    """Return whether the GSM alphabet can encode the text. Other texts are sent as UCS-2."""
    return all(letter in _GSM or letter in _GSM_EXTENDED for letter in text)


def count_parts(text: str) -> int:
    """Return how many parts the text is charged as.

    One part holds 160 characters in the GSM alphabet and 70 in UCS-2. Several parts hold 153 and
    67 each. WikiPayam publishes these numbers; the other gateways count the same way.
    """
    if is_gsm(text):
        length = sum(2 if letter in _GSM_EXTENDED else 1 for letter in text)
        single, several = 160, 153
    else:
        length = len(text.encode("utf-16-le")) // 2
        single, several = 70, 67
    return 1 if length <= single else -(-length // several)


def has_link(text: str) -> bool:
    """Return whether a text contains a URL or a host name, such as that of a WebOTP line."""
    return bool(_LINK.search(text))


def find_code(text: str) -> str | None:
    """Return the code that a person would type from this text, or None if there is none.

    A WebOTP line states the code. Otherwise it is the first number of 4 to 10 digits after a word
    such as «کد» or "code", or the last such number before the word.
    """
    plain = latin_digits(text)
    webotp = _WEBOTP_LINE.search(plain)
    if webotp:
        return webotp[1]
    word = _CODE_WORD.search(plain)
    if not word:
        return None
    after = _CODE.search(plain, word.end())
    if after:
        return after[0]
    before = _CODE.findall(plain, 0, word.start())
    return before[-1] if before else None


def spoken_digits(code: str) -> str:
    """Return the code digit by digit in Persian words."""
    return "، ".join(_DIGIT_NAMES[int(digit)] for digit in latin_digits(code) if digit.isdecimal())


def call_script(code: str) -> str:
    """Return the words of a voice call. The code is read twice, so that it can be written down."""
    digits = spoken_digits(code)
    return f"سلام. کد تأیید شما: {digits}. تکرار می‌کنم: {digits}. خدانگهدار."
