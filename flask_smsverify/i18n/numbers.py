"""Amounts in the reader's language."""

from __future__ import annotations

from decimal import Decimal

from babel.numbers import format_decimal

from .catalogue import Translator
from .locales import locale_data


def format_amount(amount: Decimal, translator: Translator, *, decimals: int = 2) -> str:
    """Write a number with thousands separators and at most `decimals` decimals: "1,250,000"."""
    locale = locale_data(translator.locale)
    pattern = "#,##0." + "#" * decimals
    text = format_decimal(amount, pattern, locale=locale, numbering_system="default")
    return translator.digits(text)
