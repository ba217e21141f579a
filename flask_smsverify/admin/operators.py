"""The operator of a mobile, by the first digits of its number.

A number that its owner has taken to another operator is still counted for the first one.
"""

from __future__ import annotations

import functools

#: A mobile in Iran has seven digits after `+98912`.
_REST = "1234567"


@functools.lru_cache(maxsize=2048)
def operator_of(start: str, locale: str) -> str:
    """Return the name of the operator of mobiles with these first digits; empty if unknown.

    :param start: the first six characters in E.164, such as `+98912`.
    :param locale: the language of the name, if the library phonenumbers has it.
    """
    import phonenumbers
    from phonenumbers import carrier

    try:
        number = phonenumbers.parse(start + _REST, None)
    except phonenumbers.NumberParseException:
        return ""
    name: str = carrier.name_for_number(number, locale.partition("_")[0])
    return name
