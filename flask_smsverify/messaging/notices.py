"""Notices: the few texts that verification itself must have told, at once and by the way.

An old number hears that it was replaced, a holder that a mobile was transferred, the staff that
the site's budget is spent. A notice never makes the action fail that caused it: it is sent by a
worker thread, and what goes wrong is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from ..delivery import Delivery
from ..errors import ChannelUnavailable, LimitError, SendFailed, StoreUnavailable
from ..senders.base import Text

log = logging.getLogger(__name__)

#: Event → language → text. `{site}` is the site's name; `{new}` the last digits of a new mobile,
#: since the signs of a masked one change places in a line that runs from right to left.
TEXTS: Mapping[str, Mapping[str, str]] = {
    "mobile.changed": {
        "fa": "شمارهٔ موبایل حساب شما در {site} به شماره‌ای که به {new} ختم می‌شود تغییر کرد. "
        "اگر کار شما نبوده، با پشتیبانی تماس بگیرید.",
        "en": "The mobile of your {site} account was changed to the one ending in {new}. "
        "If that was not you, contact support.",
    },
    "mobile.transferred": {
        "fa": "شمارهٔ شما در {site} برای حساب دیگری تأیید شد و دیگر برای حساب پیشین معتبر نیست.",
        "en": "Your number was verified for another account at {site} "
        "and no longer counts for the earlier one.",
    },
    "site_budget.spent": {
        "fa": "سقف ارسال کد تأیید {site} پر شد؛ فعلاً کدی فرستاده نمی‌شود.",
        "en": "The verification code budget of {site} is spent; no codes go out for now.",
    },
}


class Notices:
    """Sends notices.

    :param reserve: takes a unit of the budget `messages`; raises `LimitError` when it is spent.
    :param staff: the mobiles of the staff, E.164.
    """

    def __init__(
        self,
        delivery: Delivery,
        *,
        reserve: Callable[[], object],
        locale: Callable[[], str],
        site_name: str,
        signature: str,
        staff: Sequence[str],
    ) -> None:
        self._delivery = delivery
        self._reserve = reserve
        self._locale = locale
        self._site_name = site_name
        self._signature = signature
        self._staff = tuple(staff)

    def tell(self, event: str, *, mobile: str | None, **values: str) -> None:
        """Tell an event to a mobile, or to the staff where that is None. Raises nothing.

        :param values: masked mobiles.
        """
        recipients = self._staff if mobile is None else (mobile,)
        endings = {name: masked.rpartition("•")[2] for name, masked in values.items()}
        body = TEXTS[event][self._language()].format(site=self._site_name, **endings)
        text = f"{body}\n{self._signature}" if self._signature else body
        for recipient in recipients:
            self._delivery.in_background(self._send, event, Text(recipient, text))

    def _language(self) -> str:
        try:
            return self._locale()
        except Exception:  # what a host's function raises must not undo what is being told
            log.exception("the language of a notice could not be asked for; it goes in Persian")
            return "fa"

    def _send(self, event: str, text: Text) -> None:
        try:
            self._reserve()
            self._delivery.send_text(text)
        except (ChannelUnavailable, LimitError, SendFailed, StoreUnavailable) as error:
            log.warning("the notice %s was not sent: %s", event, error)
