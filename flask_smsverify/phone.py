"""Mobiles: parse every spelling into one form, and mask that form for display.

Everywhere else in this package a mobile is E.164 text (`+989123456789`), so two mobiles are the
same if their texts are equal. The library phonenumbers decides whether a number is valid and a
mobile; its metadata is loaded with the first number. Extensions, letters and other text around a
number are refused here, before the library is called.
"""

from __future__ import annotations

import functools
import re
import unicodedata

from .errors import InvalidMobile, MobileRequired, RegionNotAllowed

#: E.164 has at most 15 digits; the rest is for `00`, spaces, brackets and direction marks.
MAX_TYPED_LENGTH = 48

_TYPABLE = re.compile(r"\+?[0-9 ().\-]+\Z")
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—−", "-"))


def parse(typed: object, *, default_region: str, allowed_regions: tuple[str, ...]) -> str:
    """Return a mobile in E.164.

    Digits may be ASCII, Persian, Arabic or full-width. Spaces, hyphens, dots, brackets and
    direction marks are ignored.

    :param default_region: the region of numbers in national form (ISO 3166-1, two letters).
    :param allowed_regions: the regions that are accepted.
    :raises MobileRequired: the input is empty.
    :raises InvalidMobile: not a number, or not a mobile's: landline, premium, satellite …
    :raises RegionNotAllowed: a mobile of another region.
    """
    if typed is None or typed == "":
        raise MobileRequired
    if not isinstance(typed, str):
        raise InvalidMobile(f"a mobile must be a string, not {type(typed).__name__}")
    if len(typed) > MAX_TYPED_LENGTH:
        raise InvalidMobile
    return _parse(typed, default_region, allowed_regions)


@functools.lru_cache(maxsize=4096)
def _parse(typed: str, default_region: str, allowed_regions: tuple[str, ...]) -> str:
    import phonenumbers

    plain = ascii_digits(typed).translate(_DASHES).strip(" ")
    if not plain:
        raise MobileRequired
    if not _TYPABLE.match(plain):
        raise InvalidMobile
    try:
        number = phonenumbers.parse(plain, default_region)
    except phonenumbers.NumberParseException:
        number = None
    types = phonenumbers.PhoneNumberType
    kind = types.UNKNOWN if number is None else phonenumbers.number_type(number)
    if number is None or kind == types.UNKNOWN:  # the kind of every number that is not valid
        raise InvalidMobile
    if kind not in (types.MOBILE, types.FIXED_LINE_OR_MOBILE):  # some regions do not distinguish
        raise InvalidMobile("this number is not a mobile's")
    if phonenumbers.region_code_for_number(number) not in allowed_regions:
        raise RegionNotAllowed
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


@functools.lru_cache(maxsize=4096)
def region_of(mobile: str) -> str | None:
    """Return the two letters of a mobile's region.

    :param mobile: E.164.
    """
    import phonenumbers

    return phonenumbers.region_code_for_number(phonenumbers.parse(mobile, None))


def mask(mobile: str) -> str:
    """Return a mobile without its middle digits: `+98912•••4567`, and `+49•••678` elsewhere.

    :param mobile: E.164.
    """
    if mobile.startswith("+98") and len(mobile) == 13:
        return f"{mobile[:6]}•••{mobile[-4:]}"
    return f"{mobile[:3]}•••{mobile[-3:]}"


def national(mobile: str) -> str:
    """Return a whole mobile as people write it: `0912 345 6789`, and `+49 1512 3456789` elsewhere.

    Only for the visitor who has just entered it, and for staff.

    :param mobile: E.164.
    """
    import phonenumbers

    number = phonenumbers.parse(mobile, None)
    form = phonenumbers.PhoneNumberFormat
    is_iranian = number.country_code == 98
    return phonenumbers.format_number(number, form.NATIONAL if is_iranian else form.INTERNATIONAL)


def spaced(mobile: str) -> str:
    """Return a mobile as people write it: `0912 ••• 4567` of `+98912•••4567`, and `+49 ••• 678`.

    :param mobile: the result of `mask`, or E.164, which stays whole.
    """
    if "•" not in mobile:
        return national(mobile)
    start, end = mobile.split("•••")
    if start.startswith("+98") and len(start) == 6:
        start = f"0{start[3:]}"
    return f"{start} ••• {end}"


def ascii_digits(text: str) -> str:
    """Return a text with all decimal digits in ASCII and without invisible format characters.

    Full-width letters and signs become ASCII as well, so that `＋９８` equals `+98`.
    """
    if text.isascii():
        return text
    plain = []
    for char in unicodedata.normalize("NFKC", text):
        if unicodedata.category(char) == "Cf":
            continue
        plain.append(str(unicodedata.decimal(char)) if char.isdecimal() else char)
    return "".join(plain)
