"""The text of an error for the visitor (RFC 9457, `title` and `detail`).

Error classes describe themselves with message ids. This module translates them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..errors import Plural, ProblemError
from .catalogue import Translator
from .formats import format_wait


class ProblemText(NamedTuple):
    """A title without a full stop, and whole sentences."""

    title: str
    detail: str


def problem_text(
    error: type[ProblemError], values: Mapping[str, object], translator: Translator
) -> ProblemText:
    """Translate the description of an error.

    :param values: the error's attributes named in `error.values`; each may be missing.
    """
    description = error.describe(values)
    shown = dict(values)
    seconds = values.get("retry_after")
    if isinstance(seconds, int | float):
        shown["when"] = format_wait(seconds, translator)
    sentences = [_sentence(sentence, shown, translator) for sentence in description.detail]
    return ProblemText(translator.gettext(description.title), " ".join(filter(None, sentences)))


def _sentence(sentence: str | Plural, values: Mapping[str, object], translator: Translator) -> str:
    """Translate one sentence; empty if a value that it needs is missing."""
    if isinstance(sentence, Plural):
        count = values.get(sentence.count)
        if not isinstance(count, int):
            return ""
        return translator.ngettext(sentence.singular, sentence.plural, count, **values)
    if "%(when)s" in sentence and "when" not in values:
        return ""
    return translator.gettext(sentence, **values)
