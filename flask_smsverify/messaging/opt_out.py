"""Opt-out: numbers that want no more texts. Codes and security notices go to them all the same.

A number opts out by a message with `11` or `لغو` to a line of the app, and in again by `12`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from .. import signals
from ..db.ledger import Ledger
from ..db.models import OptOut
from ..phone import ascii_digits, mask

_OUT = frozenset({"11", "لغو", "لغو11", "off", "stop"})
_IN = frozenset({"12"})
#: What people put around the word, and letters that Arabic keyboards write differently.
_NOISE = re.compile(r"[\s.,;:!()«»\"'\-_*#\u200c]+")
_MAX_REPLY = 32


class OptOuts:
    """Records who wants no more texts.

    :param emit: sends a signal.
    """

    def __init__(self, ledger: Ledger, *, emit: Callable[..., None]) -> None:
        self._ledger = ledger
        self._emit = emit

    def opt_out(self, mobile: str, *, line: str | None = None) -> bool:
        """Send no more texts to a mobile.

        :param mobile: E.164.
        :param line: the line that the mobile wrote to.
        :returns: whether it had not opted out before.
        """
        row: dict[str, object] = {"mobile": mobile, "line": line, "since": self._ledger.clock()}
        is_new = self._ledger.run(
            lambda session: self._ledger.insert_if_absent(session, OptOut, row)
        )
        if is_new:
            self._emit(signals.opted_out, mobile=mask(mobile), line=line)
        return is_new

    def opt_in(self, mobile: str) -> bool:
        """Send texts to a mobile again. Return whether it had opted out."""

        def work(session: Session) -> bool:
            row = session.get(OptOut, mobile)
            session.execute(delete(OptOut).where(OptOut.mobile == mobile))
            return row is not None

        return self._ledger.run(work)

    def opted_out(self, mobile: str) -> bool:
        """Return whether a mobile has opted out."""
        return bool(self.among([mobile]))

    def among(self, mobiles: Iterable[str]) -> set[str]:
        """Return those of the mobiles that have opted out."""
        query = select(OptOut.mobile).where(OptOut.mobile.in_(set(mobiles)))
        return self._ledger.read(lambda session: set(session.scalars(query)))

    def record_reply(self, mobile: str, text: str, line: str) -> None:
        """Follow a message from a phone if it asks for no more texts, or for texts again."""
        if len(text) > _MAX_REPLY or not mobile.startswith("+"):
            return
        word = _NOISE.sub("", ascii_digits(text)).lower()
        if word in _OUT:
            self.opt_out(mobile, line=line)
        elif word in _IN:
            self.opt_in(mobile)
