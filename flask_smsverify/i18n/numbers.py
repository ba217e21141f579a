"""Amounts in the reader's language."""

from __future__ import annotations

from decimal import Decimal

from babel.numbers import format_decimal, get_decimal_symbol, get_group_symbol

from .catalogue import Translator
from .locales import locale_data


def format_amount(amount: Decimal, translator: Translator, *, decimals: int = 2) -> str:
    """Write a number with thousands separators and at most `decimals` decimals: "1,250,000"."""
    locale = locale_data(translator.locale)
    pattern = "#,##0." + "#" * decimals
    text = format_decimal(amount, pattern, locale=locale, numbering_system="default")
    return translator.digits(text)


def group_digits(whole: str, fraction: str, translator: Translator) -> str:
    """Write a number with thousands separators and every digit of its fraction: "1,250,000.50".

    :param whole: ASCII digits.
    :param fraction: ASCII digits; empty for a whole number.
    """
    locale = locale_data(translator.locale)
    group = get_group_symbol(locale, numbering_system="default")
    text = f"{int(whole):,}".replace(",", group)
    if fraction:
        text += get_decimal_symbol(locale, numbering_system="default") + fraction
    return translator.digits(text)
