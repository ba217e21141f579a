"""How many SMS segments (parts) a text takes."""

from __future__ import annotations

import re

# 3GPP TS 23.038, 6.2.1: the default alphabet, and the extension table, whose characters take two
# septets each.
_GSM_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_EXTENSION = "\f^{}\\[~]|€"

#: Units in a text of one segment, and in each segment of a longer text.
_GSM_UNITS = (160, 153)
_UCS2_UNITS = (70, 67)

# A text is examined as a whole with functions that are written in C: a loop over its characters
# takes ten times as long, and the count is needed for each recipient of a bulk send.
_LATIN_BASIC = _GSM_BASIC.encode("latin-1", "ignore")
_LATIN_EXTENSION = _GSM_EXTENSION.encode("latin-1", "ignore")
#: Finds a character that is neither in Latin-1 nor in the alphabet.
_find_other = re.compile("[^\x00-\xffΔΦΓΛΩΠΨΣΘΞ€]").search
#: How many characters are looked at first: a text in another script has one of it among them.
_FIRST = 8
#: Byte → 1 for a character of the extension table, otherwise 0.
_SECOND_SEPTET = bytes(byte in _LATIN_EXTENSION for byte in range(256))


def count_segments(text: str) -> int:
    """Return the number of SMS segments of a text; 1 for the empty text.

    The units are septets if every character is in the GSM-7 alphabet, otherwise UTF-16 units. A
    character of two units is not split between segments (3GPP TS 23.040, 9.2.3.24.1).
    """
    if not text.isascii() and _find_other(text, 0, _FIRST):
        return _count_ucs2(text)
    # Of the characters that Latin-1 lacks, `€` becomes another one of the extension table, and the
    # capitals become `?`: the number of septets stays the same.
    gsm = text.replace("€", "^")
    latin = gsm.encode("latin-1", "ignore")
    if len(latin) != len(text):
        if _find_other(text):
            return _count_ucs2(text)
        latin = gsm.encode("latin-1", "replace")
    extended = latin.translate(None, _LATIN_BASIC)
    if not extended:
        return _count_gsm(latin, 0)
    if extended.translate(None, _LATIN_EXTENSION):
        return _count_ucs2(text)
    return _count_gsm(latin, len(extended))


def _count_gsm(latin: bytes, extended: int) -> int:
    """Count the segments of a text in GSM-7.

    :param latin: a byte per character.
    :param extended: how many of them are in the extension table.
    """
    single, multiple = _GSM_UNITS
    length = len(latin)
    septets = length + extended
    if septets <= single:
        return 1
    segments = -(-septets // multiple)
    if not extended or septets < segments * (multiple - 1) + 2:
        return segments  # every segment but the last may lack one septet, and still all fit
    second = latin.translate(_SECOND_SEPTET)
    segments = start = 0
    while start < length:
        end = min(length, start + multiple)
        # A character has two septets at most, so half of the excess is never too much to remove.
        while (excess := end - start + second.count(1, start, end) - multiple) > 0:
            end -= (excess + 1) // 2
        segments, start = segments + 1, end
    return segments


def _count_ucs2(text: str) -> int:
    single, multiple = _UCS2_UNITS
    units = text.encode("utf-16-le", "surrogatepass")
    count = len(units) // 2
    if count <= single:
        return 1
    segments = -(-count // multiple)
    if count == len(text) or count < segments * (multiple - 1) + 2:
        return segments
    segments, end = 1, multiple
    while end < count:
        # The byte of a low surrogate: it follows the high one of the same character.
        if 0xDC <= units[2 * end + 1] <= 0xDF and 0xD8 <= units[2 * end - 1] <= 0xDB:
            end -= 1
        segments, end = segments + 1, end + multiple
    return segments
