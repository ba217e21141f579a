"""Opt-out: numbers that get no more texts. Codes and security notices are sent to them anyway.

A number opts out with a message such as `11` or `لغو` to a line of the app, and in again with `12`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from .. import signals
from ..db.ledger import Ledger
from ..db.models import Incoming, OptOut
from ..phone import ascii_digits, mask

_OUT = frozenset({"11", "لغو", "لغو11", "off", "stop"})
_IN = frozenset({"12"})
#: Characters that people and phones put around the word: punctuation and invisible ones.
_NOISE = re.compile(
    r"[\s.,;:!?()\u060c\u061b\u061f«»\"'\-_*#\u0640\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]+"
)
_MAX_REPLY = 32
_MOBILE = re.compile(r"\+[0-9]{7,15}")


class OptOuts:
    """Records which numbers opted out of texts.

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
        is_new = self._ledger.run(lambda session: self._insert(session, mobile, line))
        if is_new:
            self._announce(mobile, line)
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

    def apply_replies(self, session: Session, messages: Sequence[Incoming]) -> Callable[[], None]:
        """Apply new messages from phones that opt out of texts, or in again.

        They are applied in the transaction that stores them, so that none is lost. Gateways may
        report messages late and in any order: the last one of a number decides.

        :param messages: the new messages, in the gateway's order.
        :returns: a function that announces what has changed, to be called after the commit.
        """
        new = {message.id: position for position, message in enumerate(messages)}
        asking = [message for message in messages if _wants_texts(message) is not None]
        if not asking:
            return lambda: None
        stored = session.scalars(
            select(Incoming).where(
                Incoming.originator.in_({message.originator for message in asking}),
                Incoming.received_at >= min(message.received_at for message in asking),
            )
        )
        last: dict[str, Incoming] = {}
        # Some gateways report whole seconds: of messages at the same time, the later in the list.
        for message in sorted(stored, key=lambda row: (row.received_at, new.get(row.id, -1))):
            if _wants_texts(message) is not None:
                last[message.originator] = message
        opted_out: list[tuple[str, str]] = []
        for mobile, message in sorted(last.items()):  # in one order, against deadlocks
            if message.id not in new:
                continue
            if _wants_texts(message):
                session.execute(delete(OptOut).where(OptOut.mobile == mobile))
            elif self._insert(session, mobile, message.line):
                opted_out.append((mobile, message.line))

        def announce() -> None:
            for mobile, line in opted_out:
                self._announce(mobile, line)

        return announce

    def _insert(self, session: Session, mobile: str, line: str | None) -> bool:
        row: dict[str, object] = {"mobile": mobile, "line": line, "since": self._ledger.clock()}
        return self._ledger.insert_if_absent(session, OptOut, row)

    def _announce(self, mobile: str, line: str | None) -> None:
        self._emit(signals.opted_out, mobile=mask(mobile), line=line)


def _wants_texts(message: Incoming) -> bool | None:
    """Return whether a message from a phone asks for texts or for none; None if for neither."""
    if len(message.text) > _MAX_REPLY or not _MOBILE.fullmatch(message.originator):
        return None
    word = _NOISE.sub("", ascii_digits(message.text)).lower()
    return False if word in _OUT else True if word in _IN else None
