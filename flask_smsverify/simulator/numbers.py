"""Iranian mobile numbers as the gateways write them.

One form goes through the simulator, E.164 (`+989123456789`); the gateways' own spellings are made
from it at the edge. Nothing here knows other countries: these five gateways reach Iranian mobiles.
"""

import re

_DIGITS = str.maketrans("۰۱۲۳۴۵۶۷۸۹٠١٢٣٤٥٦٧٨٩", "01234567890123456789")
_MOBILE = re.compile(r"(?:\+98|0098|98|0)?(9\d{9})")


def latin_digits(text: str) -> str:
    """The text with Persian and Arabic digits written as 0 to 9."""
    return text.translate(_DIGITS)


def read_mobile(written: str) -> str | None:
    """The mobile in E.164, or None where the text is not an Iranian mobile."""
    match = _MOBILE.fullmatch(latin_digits(written.strip()))
    return f"+98{match[1]}" if match else None


def national(mobile: str) -> str:
    """`09123456789`."""
    return "0" + mobile.removeprefix("+98")


def international(mobile: str) -> str:
    """`989123456789`."""
    return mobile.removeprefix("+")


def bare(mobile: str) -> str:
    """`9123456789`, as Raygan and SMS.ir report recipients."""
    return mobile.removeprefix("+98")


def same_line(one: str, other: str) -> bool:
    """Whether two spellings name one line: `021…`, `9821…` and `+9821…` do."""
    return _line_key(one) == _line_key(other)


def _line_key(line: str) -> str:
    digits = re.sub(r"\D", "", latin_digits(line))
    return digits.removeprefix("00").removeprefix("98").lstrip("0")
