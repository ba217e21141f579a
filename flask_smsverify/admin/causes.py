"""Why a message was not sent, in the reader's language.

Causes are stored in English. The phrases of the senders and workers are translated, those with a
variable part by pattern. Anything else, such as a gateway's own words, is shown as it is.
"""

from __future__ import annotations

import re

from ..web.interface import Interface


def _(message: str) -> str:
    """Mark a message id for extraction into the catalogues."""
    return message


#: Sorted. A test looks for phrases in the sources that are missing here.
_PHRASES = frozenset(
    {
        _("a parameter is not valid"),
        _("a pattern can only go to one recipient"),
        _("a proxy had no answer in time"),
        _("a proxy requires credentials"),
        _("a text to several recipients must explain how to opt out"),
        _("a value of the pattern contains ';', which separates values"),
        _("a value of the pattern contains a link"),
        _("a value of the template is longer than 25 characters"),
        _("an error code in place of this recipient's id"),
        _("an error code without a message"),
        _("an error while reading the result of the send"),
        _("an error while sending"),
        _("an internal error"),
        _("base_url has no such call"),
        _("every call takes too long"),
        _("it is no longer configured"),
        _("it returned too few or too many receipts"),
        _("its receipt does not say whether it was sent"),
        _("its receipt says that nothing was sent"),
        _("its verdict is neither yes nor no"),
        _("more than 100 recipients in a call"),
        _("more than 50,000 recipients"),
        _("no connection could be opened"),
        _("no credit"),
        _("no reason given"),
        _("no token: the answer has none"),
        _("not enough credit"),
        _("not sent"),
        _("not sent to this recipient"),
        _("not sent: a return code that is not in the guide"),
        _("not sent: the number is not above 2000"),
        _("public lines cannot send through the web service"),
        _("redirects are not followed"),
        _("skipped until it recovers"),
        _("some messages failed"),
        _("the API key is disabled"),
        _("the API key is not valid"),
        _("the account does not serve this operator"),
        _("the account is not active"),
        _("the account is suspended"),
        _("the account may not be used"),
        _("the account may not do this"),
        _("the account may not use shared lines"),
        _("the account may not use the web service"),
        _("the account must list the allowed IP addresses"),
        _("the account must use its API key instead of the password"),
        _("the account's daily limit is reached"),
        _("the account's data could not be read"),
        _("the account's documents are incomplete"),
        _("the account's hourly limit is reached"),
        _("the account's plan does not include this"),
        _("the account's volume limit is reached"),
        _("the answer has no id for this recipient"),
        _("the answer has no list of ids"),
        _("the answer is not a list"),
        _("the answer omits this recipient"),
        _("the batch was stopped"),
        _("the credentials were refused"),
        _("the credit is not a number"),
        _("the credit is not a valid amount"),
        _("the date is malformed"),
        _("the date is outside the allowed range"),
        _("the deadline passed before the request"),
        _("the document is malformed"),
        _("the gateway could not store the data"),
        _("the gateway refused the request"),
        _("the gateway refuses the request"),
        _("the gateway's message is hidden because it repeats the request"),
        _("the line does not belong to the account"),
        _("the line is not valid"),
        _("the message cannot be written as XML"),
        _("the message group could not be read"),
        _("the number is on the operator's blacklist"),
        _("the number opted out"),
        _("the page number is not allowed"),
        _("the parameters are not valid"),
        _("the port is not allowed"),
        _("the pushed query is not a message"),
        _("the recipient is on the operators' blacklist"),
        _("the recipient's number is not valid"),
        _("the report is not an object"),
        _("the result is neither success nor an error code"),
        _("the server's IP address is blocked after failed logins"),
        _("the server's IP address is not allowed"),
        _("the service failed"),
        _("the service is being updated"),
        _("the shared line failed"),
        _("the shared line is not set up"),
        _("the text contains a filtered word"),
        _("the text contains a link"),
        _("the text is empty"),
        _("the text is longer than 10 parts"),
        _("the text is not valid Unicode"),
        _("the token did not arrive in time"),
        _("the values do not match the pattern"),
        _("the worker stopped before the gateway's answer was recorded"),
        _("the worker was stopped"),
        _("there is no approved pattern with this number"),
        _("there is no approved template with this id"),
        _("there is no message or pack with this id"),
        _("there is no message with this id"),
        _("there is no recipient"),
        _("this URL has no such method; check base_url"),
        _("too many calls are in flight"),
        _("too many requests"),
        _("two pages of the answer are the same"),
        _("wrong username or password"),
    }
)
_RECIPIENT_FIELD = "(?:mobiles?|receiver|to)"
#: Phrases with a variable part, and their translation. The first match is used. The group `reason`
#: is a phrase or the gateway's own words, and `count` is a number. Names of exceptions and details
#: of unreadable answers are for developers. The CSV and the JSON have them.
_PATTERNS = tuple(
    (re.compile(pattern), message)
    for pattern, message in (
        (r"an error code that is not in the guide: (?P<reason>.+)", _("an error: %(reason)s")),
        (r"an error that is not in the documentation: (?P<reason>.+)", _("an error: %(reason)s")),
        (r"expected .+", _("the gateway's answer could not be read")),
        (r"its code raised \w+", _("an error in the sender's code")),
        (
            r"neither success nor an error: (?P<reason>.+)",
            _("the gateway's answer is unclear: %(reason)s"),
        ),
        (r"no complete answer \(\w+\)", _("no complete answer from the gateway")),
        (r"no connection \(\w+\)", _("no connection to the gateway")),
        (r"no sender sends ordinary texts.*", _("no sender can send ordinary texts")),
        (r"no token: (?P<reason>.+)", _("no token from the gateway: %(reason)s")),
        (r"not sent: (?P<reason>.+)", _("not sent: %(reason)s")),
        (r"SOAP Fault: (?P<reason>.+)", _("an error: %(reason)s")),
        (
            r"the answer is larger than (?P<count>\d+) MiB",
            _("the gateway's answer is larger than %(count)s MiB"),
        ),
        (r"the call was not successful: (?P<reason>.+)", _("an error: %(reason)s")),
        (
            r"the gateway refused the request: (?P<reason>.+)",
            _("the gateway refused the request: %(reason)s"),
        ),
        (
            rf"the gateway refuses {_RECIPIENT_FIELD}(?:, {_RECIPIENT_FIELD})*",
            _("the gateway refuses the recipient's number"),
        ),
        (
            r"the gateway refuses (?P<fields>[a-z_]+(?:, [a-z_]+)*)",
            _("the gateway refuses these fields: %(fields)s"),
        ),
        (
            r"the limit '?(?P<scope>\w*?)'? is used up(?: for another \d+ s)?",
            _("the limit %(scope)s is used up"),
        ),
        (
            r"the number means success or ['\"](?P<reason>.+)['\"]",
            _("the gateway's answer means success or this error: %(reason)s"),
        ),
        (
            r"the template must be a whole number from 1 to (?P<count>\d+)",
            _("the template must be a whole number from 1 to %(count)s"),
        ),
        (
            r"the value '(?P<name>.+)' contains a link",
            _("the value %(name)s of the pattern contains a link"),
        ),
        (
            r"the value '(?P<name>.+)' contains ['\"](?P<char>.+)['\"]",
            _("the value %(name)s of the pattern contains the character %(char)s"),
        ),
        (
            r"the value '(?P<name>.+)' is longer than (?P<count>\d+) characters",
            _("the value %(name)s of the pattern is longer than %(count)s characters"),
        ),
        (
            r"there are more than (?P<count>\d+) values",
            _("the pattern has more than %(count)s values"),
        ),
        (r"this sender does not support .+", _("this sender does not support this")),
    )
)
#: A worker writes the name of each sender before its reason.
_OF_SENDER = re.compile(r"(?P<sender>[^\s:;]+): (?P<reason>.+)")
_BETWEEN_SENDERS = re.compile(r"; (?=[^\s:;]+: )")


def explain_cause(cause: str, ui: Interface) -> str:
    """Return a cause in the reader's language, or after a translated label."""
    return translate_cause(cause, ui) or ui.t("Reason: %(reason)s", reason=_isolated(cause))


def translate_cause(cause: str, ui: Interface) -> str | None:
    """Return a cause in the reader's language, with unknown parts as they are.

    :returns: None if no part of it is known.
    """
    is_known, texts = False, []
    for part in _BETWEEN_SENDERS.split(cause):
        of_sender = _OF_SENDER.fullmatch(part)
        if (text := _translate(part, ui)) is not None:
            is_known = True
            texts.append(text)
        elif of_sender is not None:
            reason = _translate(of_sender["reason"], ui)
            is_known = is_known or reason is not None
            shown = _isolated(of_sender["reason"]) if reason is None else reason
            texts.append(f"{_isolated(of_sender['sender'])}: {shown}")
        else:
            texts.append(_isolated(part))
    return ui.t("; ").join(texts) if is_known else None


def _isolated(text: str) -> str:
    """Isolate a text from the direction of the text around it (Unicode Standard Annex #9)."""
    return f"\N{FIRST STRONG ISOLATE}{text}\N{POP DIRECTIONAL ISOLATE}"


def _translate(phrase: str, ui: Interface) -> str | None:
    """Return one phrase in the reader's language; None if it is unknown."""
    if phrase in _PHRASES:
        return ui.t(phrase)
    for pattern, message in _PATTERNS:
        found = pattern.fullmatch(phrase)
        if found is not None:
            values = {name: _value(name, text, ui) for name, text in found.groupdict().items()}
            return ui.t(message, **values)
    return None


def _value(name: str, text: str, ui: Interface) -> str:
    """Return a variable part in the reader's language."""
    if name == "count":
        return ui.number(text)
    translated = _translate(text, ui) if name == "reason" else None
    return _isolated(text) if translated is None else translated
