"""Iranian mobile numbers in the gateways' spellings.

The simulator uses E.164 (`+989123456789`) everywhere and converts when it reads or writes a wire
format. Other countries are not supported, because these gateways reach Iranian mobiles only.
"""

import re

_DIGITS = str.maketrans("۰۱۲۳۴۵۶۷۸۹٠١٢٣٤٥٦٧٨٩", "01234567890123456789")
_MOBILE = re.compile(r"(?:\+98|0098|98|0)?(9\d{9})")
_LANDLINE = re.compile(r"(?:\+98|0098|98|0)(21\d{8})")


def latin_digits(text: str) -> str:
    """Return the text with Persian and Arabic digits replaced by 0 to 9."""
    return text.translate(_DIGITS)


def parse_mobile(text: str) -> str | None:
    """Return the mobile in E.164, or None if the text is not an Iranian mobile."""
    match = _MOBILE.fullmatch(latin_digits(text.strip()))
    return f"+98{match[1]}" if match else None


def parse_landline(text: str) -> str | None:
    """Return a landline of Tehran in E.164, or None if the text is not one."""
    match = _LANDLINE.fullmatch(latin_digits(text.strip()))
    return f"+98{match[1]}" if match else None


def national(mobile: str) -> str:
    """Return `09123456789` for an E.164 mobile."""
    return "0" + mobile.removeprefix("+98")


def international(mobile: str) -> str:
    """Return `989123456789` for an E.164 mobile."""
    return mobile.removeprefix("+")


def subscriber(mobile: str) -> str:
    """Return `9123456789` for an E.164 mobile, as Raygan and SMS.ir report recipients."""
    return mobile.removeprefix("+98")


def is_same_line(one: str, other: str) -> bool:
    """Return whether two spellings mean the same line, such as `021…`, `9821…` and `+9821…`."""
    return _line_key(one) == _line_key(other)


def _line_key(line: str) -> str:
    digits = re.sub(r"\D", "", latin_digits(line))
    return digits.removeprefix("00").removeprefix("98").lstrip("0")
