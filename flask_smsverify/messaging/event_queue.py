"""`notify`: put the texts of an event into the outbox, in the host's transaction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple, Protocol

from sqlalchemy import Connection

from ..db.models import Message
from ..senders.base import Pattern
from .event_texts import EventTexts, check_values
from .outbox import Draft, Outbox

#: Why nothing was queued for an audience or a recipient.
Reason = Literal["no_user", "no_mobile", "unverified", "disabled", "no_recipients", "duplicate"]


class EventHost(Protocol):
    """What `notify` needs of the host app: its users and its session."""

    def connection(self) -> Connection:
        """Return the connection of the host's current transaction."""

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call back when the host's outermost transaction has committed."""

    def id_after_flush(self, user: object) -> str:
        """Return the user's primary key as text, after a flush if it has none yet."""

    def mobile_of(self, user: object) -> str | None:
        """Return the user's mobile in E.164; None if it is missing or invalid."""

    def locale_of(self, user: object) -> str | None:
        """Return the language of texts to the user, if the host names one."""


class Skipped(NamedTuple):
    """A text that was not queued."""

    audience: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Queued:
    """What one call of `notify` did.

    :param ids: the ids of the messages that wait now.
    :param skipped: the texts that were not queued, and why.
    """

    ids: tuple[str, ...]
    skipped: tuple[Skipped, ...]


class EventQueue:
    """Queues the texts of events.

    :param wake: called with the new messages' ids after the host's transaction has committed.
    :param locale: returns the language of the current request.
    :param default_locale: the language of texts to staff.
    :param must_be_proved: returns whether a user has proved a mobile; None if texts also go to
        mobiles that their users have not proved.
    """

    def __init__(
        self,
        outbox: Outbox,
        texts: EventTexts,
        host: EventHost,
        *,
        wake: Callable[[Sequence[str]], None],
        locale: Callable[[], str],
        default_locale: str,
        must_be_proved: Callable[[str, str], bool] | None,
    ) -> None:
        self._outbox = outbox
        self._texts = texts
        self._host = host
        self._wake = wake
        self._locale = locale
        self._default_locale = default_locale
        self._must_be_proved = must_be_proved

    def notify(
        self,
        event: str,
        user: object | None,
        values: Mapping[str, object],
        *,
        dedupe_key: str | None = None,
        not_before: datetime | None = None,
        expires_at: datetime | None = None,
    ) -> Queued:
        """Queue the texts of an event. See `SMSVerify.notify`."""
        not_before, expires_at = (
            _to_utc("not_before", not_before),
            _to_utc("expires_at", expires_at),
        )
        drafts: list[Draft] = []
        skipped: list[Skipped] = []

        def draft(
            audience: str, recipients: Sequence[str], locale: str, user_id: str | None
        ) -> None:
            composed = self._texts.compose(event, audience, locale, values)
            drafts.extend(
                Draft(
                    kind=Message.EVENT,
                    event=event,
                    audience=audience,
                    user_id=user_id,
                    recipient=recipient,
                    text=composed.text,
                    parts=composed.parts,
                    locale=locale,
                    patterns=_to_json(composed.patterns),
                    not_before=not_before,
                    expires_at=expires_at,
                    dedupe_key=_digest(event, audience, recipient, dedupe_key),
                )
                for recipient in dict.fromkeys(recipients)
            )

        found = self._texts.catalogue.find(event)
        check_values(found, values)  # also if no text is sent
        for audience in found.audiences:
            reason: Reason | None = None
            if not self._texts.is_enabled(event, audience):
                reason = "disabled"
            elif audience == "staff":
                recipients = self._texts.recipients(event)
                if recipients:
                    draft(audience, recipients, self._default_locale, None)
                else:
                    reason = "no_recipients"
            elif user is None:
                reason = "no_user"
            elif (mobile := self._host.mobile_of(user)) is None:
                reason = "no_mobile"
            elif self._must_be_proved is not None and not self._must_be_proved(
                self._host.id_after_flush(user), mobile
            ):
                reason = "unverified"
            else:
                locale = self._host.locale_of(user) or self._locale()
                draft(audience, [mobile], locale, self._host.id_after_flush(user))
            if reason is not None:
                skipped.append(Skipped(audience, reason))
        ids: list[str] = []
        if drafts:
            added = self._outbox.add(self._host.connection(), drafts)
            ids = [message_id for message_id, _ in added]
            new = {index for _, index in added}
            skipped += [
                Skipped(item.audience or "", "duplicate")
                for index, item in enumerate(drafts)
                if index not in new
            ]
        if ids:
            self._host.after_commit(lambda: self._wake(ids))
        return Queued(tuple(ids), tuple(skipped))


def _to_json(patterns: Mapping[str, Pattern]) -> str | None:
    if not patterns:
        return None
    return json.dumps(
        {
            sender: {"template": pattern.template, "values": dict(pattern.values)}
            for sender, pattern in patterns.items()
        }
    )


def _digest(event: str, audience: str, recipient: str, key: str | None) -> str | None:
    """Return the unique key of a text; None if it may be queued more than once."""
    if key is None:
        return None
    parts = ("event", event, audience, recipient, key)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _to_utc(name: str, moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError(f"{name} needs a time zone, such as datetime.now(UTC)")
    return moment.astimezone(UTC)
