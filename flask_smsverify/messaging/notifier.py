"""Notices: messages that inform users or staff about a change and contain no code.

Notices go to the old mobile when it is replaced, to its holder when it is transferred, and to the
staff when a limit that all requests share is half used or used up. A notice is sent in the
background and its errors are logged, so it never fails the action that caused it. The texts are
those of the events of the same names.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

from ..db.alerts import take_alert
from ..db.ledger import Ledger
from ..delivery.background import BackgroundWorkers
from ..delivery.failover import Delivery
from ..errors import ChannelUnavailable, LimitError, SendFailed, StoreUnavailable
from ..log_events import log_event, log_external_error
from ..senders.base import Text
from .event_texts import ComposedText, EventTexts

log = logging.getLogger(__name__)

_REPEAT_FAILED_TEXT = timedelta(days=1)


class Notifier:
    """Sends notices.

    :param texts: the texts and the recipients of staff texts.
    :param reserve: takes a unit of the limits `notices` and `messages` for a mobile; raises
        `LimitError` when one is used up. Security notices take none.
    :param locale: returns the language of the current request.
    :param fallback_locale: the language if `locale` fails.
    """

    def __init__(
        self,
        ledger: Ledger,
        delivery: Delivery,
        background: BackgroundWorkers,
        *,
        texts: EventTexts,
        reserve: Callable[[str], object],
        locale: Callable[[], str],
        fallback_locale: str,
    ) -> None:
        self._ledger = ledger
        self._delivery = delivery
        self._background = background
        self._texts = texts
        self._reserve = reserve
        self._locale = locale
        self._fallback_locale = fallback_locale

    def notify(
        self, event: str, *, mobile: str | None, new: str | None = None, **values: str
    ) -> None:
        """Send the notice of an event in the background. Raise nothing.

        :param event: the name of a built-in event.
        :param mobile: the recipient in E.164; None for every mobile of the staff.
        :param new: the masked new mobile, for `mobile.changed`.
        :param values: the values of other events.
        """
        if new is not None:
            values["mobile_ending"] = _ending(new)
        if mobile is None:
            self._notify_staff(event, values)
        elif self._texts.is_enabled(event, "user"):
            self._submit(event, mobile, self._compose(event, "user", values))

    def send(self, event: str, *, mobile: str, new: str, url: str) -> None:
        """Send a security notice, and return when a sender has accepted it.

        :param url: the URL at which the recipient can stop the change that the notice reports.
        :raises SendFailed: nothing was sent, or it is unknown whether it was.
        :raises ChannelUnavailable: no sender can send texts.
        """
        composed = self._compose(event, "user", {"mobile_ending": _ending(new), "url": url})
        self._delivery.send_text(
            Text(mobile, composed.text), event=event, patterns=composed.patterns
        )

    def report_failed_text(self, event: str) -> None:
        """Notify the staff in the background, once a day, that an edited text cannot be sent."""
        self._background.submit(self._report_failed_text, event)

    def _report_failed_text(self, event: str) -> None:
        if take_alert(self._ledger, f"text {event}", _REPEAT_FAILED_TEXT):
            self._notify_staff("text.failed", {"text_name": event})

    def _notify_staff(self, event: str, values: dict[str, str]) -> None:
        if self._texts.is_enabled(event, "staff"):
            composed = self._compose(event, "staff", values)
            for recipient in self._texts.recipients(event):
                self._submit(event, recipient, composed)

    def _compose(self, event: str, audience: str, values: dict[str, str]) -> ComposedText:
        return self._texts.compose(event, audience, self._current_locale(), values)

    def _current_locale(self) -> str:
        try:
            return self._locale()
        except Exception as error:  # noqa: BLE001 -- the host's locale_getter may raise anything
            log_external_error(
                log,
                "the language of a notice is unknown; using %r",
                self._fallback_locale,
                error=error,
                event="locale_unknown",
            )
            return self._fallback_locale

    def _submit(self, event: str, recipient: str, composed: ComposedText) -> None:
        self._background.submit(self._send, event, recipient, composed)

    def _send(self, event: str, recipient: str, composed: ComposedText) -> None:
        try:
            if not self._texts.catalogue[event].is_security_notice:
                self._reserve(recipient)
            text = Text(recipient, composed.text)
            self._delivery.send_text(text, event=event, patterns=composed.patterns)
        except (ChannelUnavailable, LimitError, SendFailed, StoreUnavailable) as error:
            log.warning(
                "the notice %s was not sent: %s", event, error, extra=log_event("notice_not_sent")
            )


def _ending(masked: str) -> str:
    """Return the last digits of a masked mobile."""
    return masked.rpartition("•")[2]
