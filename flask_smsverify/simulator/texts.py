"""What the simulator needs to know of a text: its parts, the code in it, how a call reads digits.

The rules are written here anew and shared with nobody, so that a mistake in the sending side's
count or in its texts shows as a difference instead of agreeing with itself.
"""

import re

from .numbers import latin_digits

# The GSM 03.38 basic alphabet, and the characters that cost two places in it.
_GSM = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    "ÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_DOUBLE = frozenset("^{}\\[~]|€")

_WEBOTP = re.compile(r"@\S+ #(\S+)\s*$")
_WORD = re.compile(
    r"کد|رمز|گذرواژه|تایید|تأیید|\b(?:code|otp|pin|password|passcode|verification)\b",
    re.IGNORECASE,
)
_RUN = re.compile(r"(?<![\d/.,:+\-])\d{4,10}(?![\d/]|[.,:\-]\d)")

_SPOKEN = ("صفر", "یک", "دو", "سه", "چهار", "پنج", "شش", "هفت", "هشت", "نه")


def is_latin(text: str) -> bool:
    """Whether the text fits GSM's own alphabet; anything else goes out as UCS-2."""
    return all(letter in _GSM or letter in _GSM_DOUBLE for letter in text)


def parts(text: str) -> int:
    """How many messages the text is charged as.

    160 letters, or 153 a part, in GSM's alphabet; 70, or 67 a part, in any other. This is
    WikiPayam's published count and the same with all Iranian gateways.
    """
    if is_latin(text):
        length = sum(2 if letter in _GSM_DOUBLE else 1 for letter in text)
        single, several = 160, 153
    else:
        length = len(text.encode("utf-16-le")) // 2
        single, several = 70, 67
    return 1 if length <= single else -(-length // several)


def find_code(text: str) -> str | None:
    """The code a person would type from this text, or None where it does not read like one.

    A WebOTP line names it; otherwise it is the first run of 4 to 10 digits after a word such as
    «کد» or "code", or the last one before it.
    """
    plain = latin_digits(text)
    bound = _WEBOTP.search(plain)
    if bound:
        return bound[1]
    word = _WORD.search(plain)
    if not word:
        return None
    after = _RUN.search(plain, word.end())
    if after:
        return after[0]
    before = _RUN.findall(plain, 0, word.start())
    return before[-1] if before else None


def spoken(code: str) -> str:
    """The code as a Persian voice reads it, digit by digit."""
    return "، ".join(_SPOKEN[int(digit)] for digit in latin_digits(code) if digit.isdecimal())


def call_script(code: str) -> str:
    """What a voice call says: the code twice, so that there is time to write it down."""
    digits = spoken(code)
    return f"سلام. کد تأیید شما: {digits}. تکرار می‌کنم: {digits}. خدانگهدار."
