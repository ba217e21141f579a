"""How many SMS segments (parts) a text takes."""

from __future__ import annotations

# 3GPP TS 23.038, 6.2.1: the default alphabet, and the extension table, whose characters take two
# septets each.
_GSM_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_EXTENSION = frozenset("\f^{}\\[~]|€")

#: Units in a text of one segment, and in each segment of a longer text.
_GSM_UNITS = (160, 153)
_UCS2_UNITS = (70, 67)


def count_segments(text: str) -> int:
    """Return the number of SMS segments of a text; 1 for the empty text.

    The units are septets if every character is in the GSM-7 alphabet, otherwise UTF-16 units. A
    character of two units is not split between segments (3GPP TS 23.040, 9.2.3.24.1).
    """
    if all(char in _GSM_BASIC or char in _GSM_EXTENSION for char in text):
        sizes = [2 if char in _GSM_EXTENSION else 1 for char in text]
        single, multiple = _GSM_UNITS
    else:
        sizes = [2 if ord(char) > 0xFFFF else 1 for char in text]
        single, multiple = _UCS2_UNITS
    if sum(sizes) <= single:
        return 1
    segments, free = 1, multiple
    for size in sizes:
        if size > free:
            segments, free = segments + 1, multiple
        free -= size
    return segments
