"""Codes as users type them: reading and comparing."""

from __future__ import annotations

import hmac

from ..errors import InvalidCode
from ..phone import ascii_digits

#: Lengths of native codes. Raygan generates codes of 4 to 6 digits.
NATIVE_LENGTHS = range(4, 11)
#: Longer than any ten digits with separators and direction marks.
_MAX_TYPED_LENGTH = 64
_SEPARATORS = str.maketrans("", "", " \t\r\n\u00a0-\u2010\u2011\u2012\u2013\u2014\u2212")


def parse_code(typed: object, lengths: range) -> str:
    """Return a typed code as ASCII digits.

    Persian, Arabic and full-width digits are accepted, and spaces and hyphens are removed.

    :param lengths: the allowed numbers of digits.
    :raises InvalidCode: the input cannot be a code.
    """
    if not isinstance(typed, str):
        raise InvalidCode("empty" if typed is None else "not_text")
    if len(typed) > _MAX_TYPED_LENGTH:
        raise InvalidCode("too_long")
    code = ascii_digits(typed).translate(_SEPARATORS)
    if not code:
        raise InvalidCode("empty")
    if not code.isdecimal():
        raise InvalidCode("not_digits")
    if len(code) < lengths.start:
        raise InvalidCode("too_short")
    if len(code) >= lengths.stop:
        raise InvalidCode("too_long")
    return code


def is_same_code(typed: str, right: str) -> bool:
    """Compare two codes in constant time."""
    return hmac.compare_digest(typed.encode(), right.encode())
