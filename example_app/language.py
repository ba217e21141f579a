"""Persian and English: the visitor's language, and numbers, prices and dates in it.

Each text is written in both languages where it is used: `tr("سلام", "Hello")`. That keeps the
example short; a larger app would use Flask-Babel.
"""

from __future__ import annotations

from datetime import date
from typing import Literal

from flask import Flask, has_request_context, request, session

try:
    from persiantools.jdatetime import JalaliDate
except ImportError:  # Persian pages then show Gregorian dates
    JalaliDate = None

Language = Literal["fa", "en"]

_PERSIAN_DIGITS = str.maketrans("0123456789,", "۰۱۲۳۴۵۶۷۸۹٬")


def current_language() -> Language:
    """Return the visitor's choice, otherwise the browser's language, otherwise Persian."""
    if not has_request_context():
        return "fa"
    tags = [session.get("language", ""), *request.accept_languages.values()]
    languages = [tag.partition("-")[0].lower() for tag in tags]
    return "en" if next((one for one in languages if one in ("fa", "en")), "fa") == "en" else "fa"


def choose_language(language: str | None) -> None:
    """Store the visitor's language in the session. Every value but `en` means Persian."""
    session["language"] = "en" if language == "en" else "fa"


def tr(persian: str, english: str, language: str | None = None) -> str:
    """Return the text in a language. None means the visitor's language."""
    return english if (language or current_language()) == "en" else persian


def format_number(value: int) -> str:
    """Format a number with thousands separators."""
    return tr(f"{value:,}".translate(_PERSIAN_DIGITS), f"{value:,}")


def format_price(toman: int) -> str:
    """Format a price in toman."""
    return tr(f"{format_number(toman)} تومان", f"{format_number(toman)} toman")


def format_date(value: date) -> str:
    """Format a date. Persian pages show Jalali dates if persiantools is installed."""
    if current_language() == "en":
        return f"{value.day} {value:%b %Y}"
    shown = JalaliDate(value) if JalaliDate else value
    return f"{shown.year}/{shown.month:02}/{shown.day:02}".translate(_PERSIAN_DIGITS)


def init_app(app: Flask) -> None:
    """Add `tr`, `language` and the filters `number`, `price` and `date` to the templates."""
    app.add_template_global(tr)
    app.add_template_filter(format_number, "number")
    app.add_template_filter(format_price, "price")
    app.add_template_filter(format_date, "date")
    app.context_processor(lambda: {"language": current_language()})
