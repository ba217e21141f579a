"""Notices: messages that inform users or staff about a change and carry no code.

The old mobile is informed when it is replaced, its holder when it is transferred, and the staff
when the site's limit is reached. A notice is sent in the background and its errors are logged, so
it never fails the action that caused it. The texts are in `i18n.notices`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..delivery.background import BackgroundWorkers
from ..delivery.failover import Delivery
from ..errors import ChannelUnavailable, LimitError, SendFailed, StoreUnavailable
from ..i18n.catalogue import Translator
from ..i18n.notices import notice_text
from ..senders.base import Text
from ..settings.runtime import LiveSettings

log = logging.getLogger(__name__)

#: Notices that the limit `messages` does not stop: the owner of an account must get them also while
#: an attacker uses the limit up.
SECURITY_EVENTS = frozenset({"mobile.changed", "mobile.transferred", "mobile.change_requested"})


class Notifier:
    """Sends notices.

    :param live: the site's name, the signature and the staff's mobiles, read at each notice.
    :param reserve: takes a unit of the limit `messages`; raises `LimitError` when it is used up.
        Security notices take none.
    :param locale: returns the language of the current reader.
    :param fallback_locale: the language if `locale` fails.
    """

    def __init__(
        self,
        delivery: Delivery,
        background: BackgroundWorkers,
        *,
        live: LiveSettings,
        reserve: Callable[[], object],
        locale: Callable[[], str],
        fallback_locale: str,
    ) -> None:
        self._delivery = delivery
        self._background = background
        self._live = live
        self._reserve = reserve
        self._locale = locale
        self._fallback_locale = fallback_locale

    def notify(self, event: str, *, mobile: str | None, new: str | None = None) -> None:
        """Send the notice of an event in the background. Raise nothing.

        :param event: a key of `i18n.notices.NOTICES`.
        :param mobile: the recipient in E.164; None for every mobile of the staff.
        :param new: the masked new mobile, for `mobile.changed`.
        """
        text = self._compose(event, new)
        recipients = self._live.current.staff_mobiles if mobile is None else (mobile,)
        for recipient in recipients:
            self._background.submit(self._send, event, Text(recipient, text))

    def send(self, event: str, *, mobile: str, new: str, url: str) -> None:
        """Send a security notice, and return when a sender has accepted it.

        :param url: where the recipient can stop what the notice is about.
        :raises SendFailed: nothing was sent, or it is unknown whether it was.
        :raises ChannelUnavailable: no sender can send texts.
        """
        self._delivery.send_text(Text(mobile, self._compose(event, new, url)), event=event)

    def _compose(self, event: str, new: str | None, url: str = "") -> str:
        settings = self._live.current
        text = notice_text(
            event, self._translator(), site=settings.site_name, new_mobile=new, url=url
        )
        return f"{text}\n{settings.signature}" if settings.signature else text

    def _translator(self) -> Translator:
        try:
            return Translator(self._locale())
        except Exception:  # the host's locale_getter may raise anything
            log.exception("the language of a notice is unknown; using %r", self._fallback_locale)
            return Translator(self._fallback_locale)

    def _send(self, event: str, text: Text) -> None:
        try:
            if event not in SECURITY_EVENTS:
                self._reserve()
            self._delivery.send_text(text, event=event)
        except (ChannelUnavailable, LimitError, SendFailed, StoreUnavailable) as error:
            log.warning("the notice %s was not sent: %s", event, error)
