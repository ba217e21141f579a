"""Why a message was not sent, in the reader's language.

Causes are stored in English. The fixed phrases of the senders and workers are translated. Any other
cause, such as a gateway's own words, is shown as it is, after a translated label.
"""

from __future__ import annotations

import re

from ..web.interface import Interface


def _(message: str) -> str:
    """Mark a message id for extraction into the catalogues."""
    return message


_PHRASES = frozenset(
    {
        _("no credit"),
        _("not enough credit"),
        _("too many requests"),
        _("the credentials were refused"),
        _("the account may not do this"),
        _("the account is not active"),
        _("the account is suspended"),
        _("the service failed"),
        _("the gateway refused the request"),
        _("a proxy had no answer in time"),
        _("too many calls are in flight"),
        _("skipped until it recovers"),
        _("the recipient's number is not valid"),
        _("not sent to this recipient"),
        _("the answer omits this recipient"),
        _("the line is not valid"),
        _("the API key is not valid"),
        _("the API key is disabled"),
        _("the number opted out"),
        _("the number is on the operator's blacklist"),
        _("the batch was stopped"),
        _("the worker stopped before the gateway's answer was recorded"),
    }
)
#: The names of exceptions are for developers. The CSV and the JSON have them.
_NO_ANSWER = re.compile(r"no complete answer \(\w+\)")
_NO_CONNECTION = re.compile(r"no connection \(\w+\)")
_REFUSED_FIELDS = re.compile(r"the gateway refuses ([a-z_]+(?:, [a-z_]+)*)")
_RECIPIENT_FIELDS = {"receiver", "to", "mobile", "mobiles"}
_USED_UP = re.compile(r"the limit (\w*) is used up")
#: A worker writes the name of each sender before its reason.
_OF_SENDER = re.compile(r"(?P<sender>[^\s:;]+): (?P<reason>[^;]+)")


def explain_cause(cause: str, ui: Interface) -> str:
    """Return a cause in the reader's language, or after a translated label."""
    return translate_cause(cause, ui) or ui.t("Reason: %(reason)s", reason=_isolated(cause))


def translate_cause(cause: str, ui: Interface) -> str | None:
    """Return a cause in the reader's language; None if a part of it is unknown."""
    parts = [_translate(part, ui) for part in cause.split("; ")]
    known = [part for part in parts if part is not None]
    return ui.t("; ").join(known) if len(known) == len(parts) else None


def _isolated(text: str) -> str:
    """Isolate a text from the direction of the text around it (Unicode Standard Annex #9)."""
    return f"\N{FIRST STRONG ISOLATE}{text}\N{POP DIRECTIONAL ISOLATE}"


def _translate(part: str, ui: Interface) -> str | None:
    """Return one phrase in the reader's language; None if it is unknown."""
    of_sender = _OF_SENDER.fullmatch(part)
    if of_sender is not None:
        reason = _translate(of_sender["reason"], ui)
        return None if reason is None else f"{_isolated(of_sender['sender'])}: {reason}"
    t = ui.t
    if part in _PHRASES:
        return t(part)
    if _NO_ANSWER.fullmatch(part):
        return t("no complete answer from the gateway")
    if _NO_CONNECTION.fullmatch(part):
        return t("no connection to the gateway")
    refused = _REFUSED_FIELDS.fullmatch(part)
    if refused is not None:
        if set(refused[1].split(", ")) <= _RECIPIENT_FIELDS:
            return t("the gateway refuses the recipient's number")
        return t("the gateway refuses these fields: %(fields)s", fields=refused[1])
    used_up = _USED_UP.fullmatch(part)
    return t("the limit %(scope)s is used up", scope=used_up[1]) if used_up is not None else None
