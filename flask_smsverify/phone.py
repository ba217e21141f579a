"""Mobiles: read them in every spelling, compare them, hide them.

A mobile is E.164 text (`+989123456789`) everywhere behind this door. What a number is, and which
numbers are mobiles, is phonenumbers' knowledge; here stands only what we refuse before asking it.
"""

from __future__ import annotations

import functools
import re
import unicodedata

import phonenumbers
from phonenumbers import PhoneNumberType

from .errors import InvalidMobile, MobileRequired, RegionNotAllowed

#: E.164 has 15 digits at most; this leaves room for `00`, spaces, brackets and bidi marks.
MAX_TYPED_LENGTH = 48

_TYPABLE = re.compile(r"\+?[0-9 ().\-]+\Z")
_MOBILE_TYPES = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE)
_DASHES_AND_SPACES = str.maketrans({"‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "−": "-"})


def parse(typed: object, *, default_region: str, allowed_regions: tuple[str, ...]) -> str:
    """A mobile in any spelling as E.164.

    Digits may be Persian, Arabic or full-width; spaces, hyphens, brackets and bidi marks pass.

    :param default_region: the two letters of the region whose national form is understood.
    :param allowed_regions: two letters each; a mobile of any other region is refused.
    :raises MobileRequired: nothing was typed.
    :raises InvalidMobile: not a number, or one that is no mobile: landline, premium, satellite …
    :raises RegionNotAllowed: a mobile of another region.
    """
    if typed is None or typed == "":
        raise MobileRequired("a mobile is required")
    if not isinstance(typed, str) or len(typed) > MAX_TYPED_LENGTH:
        raise InvalidMobile("this is not a mobile")
    return _parse(typed, default_region, allowed_regions)


@functools.lru_cache(maxsize=4096)
def _parse(typed: str, default_region: str, allowed_regions: tuple[str, ...]) -> str:
    plain = ascii_digits(typed).translate(_DASHES_AND_SPACES).strip(" ")
    if not plain:
        raise MobileRequired("a mobile is required")
    if not _TYPABLE.match(plain):
        raise InvalidMobile("this is not a mobile")
    try:
        number = phonenumbers.parse(plain, default_region)
    except phonenumbers.NumberParseException:
        number = None
    if number is None or not phonenumbers.is_valid_number(number):
        raise InvalidMobile("this is not a mobile")
    if phonenumbers.number_type(number) not in _MOBILE_TYPES:
        raise InvalidMobile("this number cannot get messages as a mobile does")
    region = phonenumbers.region_code_for_number(number)
    if region not in allowed_regions:
        raise RegionNotAllowed("mobiles of this region are not served here")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def region_of(mobile: str) -> str | None:
    """The two letters of a mobile's region.

    :param mobile: E.164.
    """
    return phonenumbers.region_code_for_number(phonenumbers.parse(mobile, None))


def mask(mobile: str) -> str:
    """The mobile as others may see it: `+98912•••4567`; fewer digits where numbers are shorter.

    :param mobile: E.164.
    """
    if mobile.startswith("+98") and len(mobile) == 13:
        return f"{mobile[:6]}•••{mobile[-4:]}"
    return f"{mobile[:3]}•••{mobile[-3:]}"


def ascii_digits(typed: str) -> str:
    """The same text with every decimal digit in ASCII and without invisible format marks.

    Full-width letters and signs become ASCII too, so that `＋９８` reads like `+98`.
    """
    if typed.isascii():
        return typed
    plain = []
    for char in unicodedata.normalize("NFKC", typed):
        if unicodedata.category(char) == "Cf":
            continue
        plain.append(str(unicodedata.decimal(char)) if char.isdecimal() else char)
    return "".join(plain)
