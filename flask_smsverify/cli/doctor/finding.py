"""The result of a check of `flask smsverify doctor`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from ...state import AppState

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the output.

    :param level: `error` if it will cause a failure in production, `warning` if it might.
    :param subject: one word that says what was checked.
    :param text: what was found and, unless it is good, what to do about it.
    """

    level: Level
    subject: str
    text: str


Check = Callable[[AppState], Iterator[Finding]]
