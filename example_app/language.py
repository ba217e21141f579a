"""Persian and English: which one now, and how numbers, prices and dates look in it.

A text stands in both languages where it is used, `say("سلام", "Hello")`, so that a page reads as
one piece. A bigger shop would use Flask-Babel.
"""

from __future__ import annotations

from datetime import date
from typing import Literal

from flask import Flask, has_request_context, session

try:
    from persiantools.jdatetime import JalaliDate
except ImportError:  # Persian pages then show Gregorian dates
    JalaliDate = None

Language = Literal["fa", "en"]

_PERSIAN = str.maketrans("0123456789,", "۰۱۲۳۴۵۶۷۸۹٬")


def current_language() -> Language:
    """The visitor's choice; Persian until they choose."""
    if has_request_context() and session.get("language") == "en":
        return "en"
    return "fa"


def choose_language(language: str | None) -> None:
    """Keep the visitor's choice in the session; anything but English is Persian."""
    session["language"] = "en" if language == "en" else "fa"


def say(persian: str, english: str) -> str:
    """The one of the two that the visitor reads."""
    return english if current_language() == "en" else persian


def number(value: int) -> str:
    """Grouped by thousands, in the language's digits."""
    return say(f"{value:,}".translate(_PERSIAN), f"{value:,}")


def toman(amount: int) -> str:
    """A price with its unit."""
    return say(f"{number(amount)} تومان", f"{number(amount)} toman")


def day(value: date) -> str:
    """A date: Jalali in Persian where persiantools is installed, Gregorian otherwise."""
    if current_language() == "en":
        return f"{value.day} {value:%b %Y}"
    shown = JalaliDate(value) if JalaliDate else value
    return f"{shown.year}/{shown.month:02}/{shown.day:02}".translate(_PERSIAN)


def init_app(app: Flask) -> None:
    """Give the templates `say`, `language` and the filters."""
    app.add_template_global(say)
    app.add_template_filter(number)
    app.add_template_filter(toman)
    app.add_template_filter(day)
    app.context_processor(lambda: {"language": current_language()})
