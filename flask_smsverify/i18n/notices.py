"""The texts of notices: messages about a verification that carry no code."""

from __future__ import annotations

from collections.abc import Mapping

from .catalogue import Translator


def _(message: str) -> str:
    """Mark a message for extraction into the catalogues."""
    return message


#: Event → message. `ending` is the last digits of the new mobile: inside right-to-left text, an SMS
#: app would display the characters of a masked number in the wrong order.
NOTICES: Mapping[str, str] = {
    "mobile.changed": _(
        "The mobile number of your %(site)s account was changed to a number ending in %(ending)s. "
        "If this was not you, contact support."
    ),
    "mobile.change_requested": _(
        "A change of the mobile number of your %(site)s account to a number ending in %(ending)s "
        "was requested. If this was not you, stop it here: %(url)s"
    ),
    "mobile.transferred": _(
        "Your mobile number was confirmed for another %(site)s account. "
        "It is no longer valid for the previous account."
    ),
    "limit.reached": _(
        "%(site)s has reached its limit for verification codes. No codes are sent for now."
    ),
}


def notice_text(
    event: str, translator: Translator, *, site: str, new_mobile: str | None = None, url: str = ""
) -> str:
    """Return the text of a notice.

    :param event: a key of `NOTICES`.
    :param new_mobile: the masked new mobile, for events about a change.
    :param url: where the change can be stopped, for `mobile.change_requested`.
    """
    ending = translator.digits((new_mobile or "").rpartition("•")[2])
    return translator.gettext(NOTICES[event], site=site, ending=ending, url=url)
