"""The edits that staff made to events: texts, recipients, patterns, and events switched off.

They are in the table `smsverify_template`. `EditStore` reads the whole table at once and keeps it
as a snapshot, so `notify()` needs no query for it. A snapshot is less than a second old.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from sqlalchemy import Delete, delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from ..db.ledger import Ledger
from ..db.models import Template
from ..db.rereading import Rereading
from ..errors import ConfigurationError, StoreUnavailable
from ..log_events import log_event

log = logging.getLogger(__name__)

_ALL_LANGUAGES = ""


@dataclass(frozen=True, slots=True)
class EventEdits:
    """The edits that staff made to an event, for one audience.

    :param enabled: whether the text is sent at all.
    :param texts: locale → edited text. A missing locale gets the default text.
    :param recipients: the staff who get the text, in E.164; None for `SMSVERIFY_STAFF_MOBILES`.
    :param patterns: sender → pattern as in `SMSVERIFY_PATTERNS`. A missing sender has the pattern
        of the setting; None stands for no pattern.
    """

    enabled: bool = True
    texts: Mapping[str, str] = field(default_factory=dict)
    recipients: tuple[str, ...] | None = field(default=None, repr=False)
    patterns: Mapping[str, Mapping[str, object] | None] = field(default_factory=dict)


_NO_EDITS = EventEdits()
_Snapshot = Mapping[tuple[str, str], EventEdits]


class EditStore:
    """Reads and writes edits. Thread-safe. `EventTexts` checks them before it writes them."""

    def __init__(self, ledger: Ledger, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._snapshot: _Snapshot = {}
        self._has_failed = False
        self._rereading = Rereading(ledger, self._read, monotonic=monotonic)

    def get(self, event: str, audience: str) -> EventEdits:
        """Return the edits of an event. Do not call it within a transaction of the ledger.

        If the database does not answer, the last snapshot is used.
        """
        self._rereading.if_due()
        return self._snapshot.get((event, audience), _NO_EDITS)

    def save(
        self,
        event: str,
        audience: str,
        *,
        enabled: bool | None = None,
        texts: Mapping[str, str | None] | None = None,
        recipients: Iterable[str] | None = None,
        patterns: Mapping[str, Mapping[str, object] | None] | None = None,
    ) -> EventEdits:
        """Write changes and return the edits. A parameter that is None keeps its value.

        :param texts: locale → text; None for the default text.
        :param recipients: mobiles in E.164; empty for `SMSVERIFY_STAFF_MOBILES`.
        :param patterns: sender → pattern; replaces all patterns that staff have set.
        :raises StoreUnavailable: nothing was written.
        """
        mobiles = None if recipients is None else list(recipients)

        def work(session: Session) -> None:
            now = self._ledger.clock()
            for locale, text in (texts or {}).items():
                if text is None:
                    session.execute(_delete_rows(event, audience).where(Template.locale == locale))
                else:
                    row = self._row(session, event, audience, locale)
                    row.text, row.updated_at = text, now
            row = self._row(session, event, audience, _ALL_LANGUAGES)
            row.updated_at = now
            if enabled is not None:
                row.enabled = enabled
            if mobiles is not None:
                row.recipients = json.dumps(mobiles) if mobiles else None
            if patterns is not None:
                row.patterns = json.dumps(patterns, ensure_ascii=False) if patterns else None

        self._ledger.run(work)
        return self._reread(event, audience)

    def reset(self, event: str, audience: str, locale: str | None = None) -> EventEdits:
        """Restore the default text of a language; None restores everything of the event.

        :raises StoreUnavailable: nothing was written.
        """
        rows = _delete_rows(event, audience)
        if locale is not None:
            rows = rows.where(Template.locale == locale)
        self._ledger.run(lambda session: session.execute(rows))
        return self._reread(event, audience)

    def _row(self, session: Session, event: str, audience: str, locale: str) -> Template:
        """Return a row, which is inserted if it does not exist."""
        key = {"event": event, "audience": audience, "locale": locale}
        now = self._ledger.clock()
        self._ledger.insert_if_absent(session, Template, key | {"enabled": True, "updated_at": now})
        return session.get_one(Template, tuple(key.values()), with_for_update=True)

    # --- the snapshot -----------------------------------------------------------------------------

    def _reread(self, event: str, audience: str) -> EventEdits:
        """Read what was just written, so that this process does not use the old text."""
        self._rereading.now()
        return self._snapshot.get((event, audience), _NO_EDITS)

    def _read(self) -> bool:
        try:
            self._snapshot = self._ledger.read(_read_all)
        except (StoreUnavailable, ConfigurationError, SQLAlchemyError, ValueError) as error:
            # A message must not fail because of this. The default text is better than none.
            if not self._has_failed:  # once, and not each second while the database is down
                log.warning(
                    "the edited texts could not be read; using the last ones: %s",
                    error,
                    extra=log_event("edited_texts_not_read"),
                )
            self._has_failed = True
        else:
            self._has_failed = False
        return not self._has_failed


def _delete_rows(event: str, audience: str) -> Delete:
    return delete(Template).where(Template.event == event, Template.audience == audience)


def _read_all(session: Session) -> _Snapshot:
    common: dict[tuple[str, str], Template] = {}
    texts: dict[tuple[str, str], dict[str, str]] = {}
    for row in session.scalars(select(Template)):
        key = row.event, row.audience
        if row.locale == _ALL_LANGUAGES:
            common[key] = row
        elif row.text is not None:
            texts.setdefault(key, {})[row.locale] = row.text
    return {key: _read_edits(common.get(key), texts.get(key, {})) for key in {*common, *texts}}


def _read_edits(row: Template | None, texts: Mapping[str, str]) -> EventEdits:
    if row is None:
        return EventEdits(texts=MappingProxyType(dict(texts)))
    return EventEdits(
        enabled=row.enabled,
        texts=MappingProxyType(dict(texts)),
        recipients=None if row.recipients is None else tuple(json.loads(row.recipients)),
        patterns=MappingProxyType(json.loads(row.patterns) if row.patterns else {}),
    )
