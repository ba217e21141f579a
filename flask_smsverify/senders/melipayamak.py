"""MeliPayamak (payamak-panel.com): texts, codes by a pattern, credit and states, over SOAP.

Its service `Send.asmx` has dozens of operations; the four used here are described in
`melipayamak.wsdl` beside this file. A return code below 1000 is a verdict, and the service gives no
others in words, so the tables say what each means to us.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

import httpx

from ..errors import (
    ConfigurationError,
    Misconfigured,
    Rejected,
    SenderError,
    Unavailable,
    Unknown,
)
from .base import (
    Capability,
    CodeMessage,
    Credit,
    Receipt,
    Sender,
    Status,
    Text,
    credential,
    isolate,
    national,
    send_alike,
    status_of,
)
from .http import DEFAULT_TIMEOUT, HttpTransport, Timeout
from .soap import SoapTransport

BASE_URL = "https://api.payamak-panel.com/post"

#: What every operation may return instead of its result. Zero to 14: MeliPayamak's web-service
#: guide, "SendSMS", return value; the others: its REST guide, "SendSMS" and "IP".
RETURN_CODES: dict[int, tuple[type[SenderError], str]] = {
    0: (Unavailable, "wrong username or password"),
    2: (Unavailable, "no credit"),
    3: (Unavailable, "the account's daily limit is reached"),
    4: (Unavailable, "the account's volume limit is reached"),
    5: (Unavailable, "the line is not valid"),
    6: (Unavailable, "the service is being updated"),
    7: (Rejected, "the text holds a filtered word"),
    9: (Unavailable, "a public line may not send through the web service"),
    10: (Unavailable, "the account is not active"),
    11: (Unavailable, "not sent"),
    12: (Unavailable, "the account's documents are not complete"),
    14: (Rejected, "the text holds a link"),
    15: (Rejected, "a text to several recipients must say how to opt out"),
    16: (Rejected, "there is no recipient"),
    17: (Rejected, "the text is empty"),
    18: (Rejected, "the recipient's number is not valid"),
    35: (Rejected, "the recipient is on the operators' black list"),
    -108: (Unavailable, "our address is blocked after failed attempts"),
    -109: (Unavailable, "the account must name the addresses that may use it"),
    -110: (Unavailable, "the account must use its API key instead of the password"),
    -111: (Unavailable, "our address is not among the allowed ones"),
}

#: `RETURN_CODES` that mean one recipient of a call, not its text.
RECIPIENT_CODES = frozenset({"16", "18", "35"})

#: What a pattern may return besides: MeliPayamak's web-service guide, "SendByBaseNumber2".
PATTERN_CODES: dict[int, tuple[type[SenderError], str]] = {
    **RETURN_CODES,
    -10: (Misconfigured, "a value for the pattern holds a link"),
    -7: (Unavailable, "the shared line failed"),
    -6: (Unavailable, "an internal error"),
    -5: (Misconfigured, "body_values does not fit the pattern"),
    -4: (Misconfigured, "body_id is not a pattern that was approved"),
    -3: (Unavailable, "the shared line is not set up"),
    -2: (Misconfigured, "a pattern goes to one recipient at a time"),
    -1: (Unavailable, "the account may not use shared lines"),
    19: (Unavailable, "the account's hourly limit is reached"),
}

#: MeliPayamak's web-service guide, "GetDeliveries3".
STATES: dict[object, Status] = {
    0: Status.SENT,  # at the operator
    1: Status.DELIVERED,
    2: Status.UNDELIVERED,
    3: Status.UNDELIVERED,  # an error at the operator
    5: Status.UNKNOWN,
    8: Status.SENT,  # at the operator
    16: Status.UNDELIVERED,  # did not reach the operator
    35: Status.REJECTED,  # black list
    100: Status.UNKNOWN,
    200: Status.SENT,
    300: Status.REJECTED,  # filtered
    400: Status.QUEUED,
    500: Status.REJECTED,
}


@dataclass(frozen=True, slots=True)
class Sent:
    """What `SendSms` answered to a request it took.

    :param recipients: how many were asked for.
    :param ids: `recId`, an id per recipient; shorter than the recipients where it left some out.
    :param failed: `status`, a byte per recipient, 0 sent and 1 not; likewise.
    """

    recipients: int
    ids: tuple[int | None, ...]
    failed: bytes


class MeliPayamak(Sender):
    """One account at MeliPayamak.

    :param line: the number to send from. Without it there are only pattern codes.
    :param body_id: the approved pattern that carries codes; without it a code goes as a text.
    :param body_values: the pattern's variables in order; `{code}` in them is the code.
    :param base_url: everything before `/Send.asmx`.
    :raises ConfigurationError: an option that cannot work.
    """

    gateway = "melipayamak"
    batch_limit: ClassVar[int] = 100  # the web-service guide, "SendSMS"

    def __init__(
        self,
        username: str,
        password: str,
        line: str = "",
        body_id: int | None = None,
        body_values: Sequence[str] = ("{code}",),
        *,
        base_url: str = BASE_URL,
        timeout: Timeout | tuple[float, float, float] = DEFAULT_TIMEOUT,
        allow_http: bool = False,
        client: httpx.Client | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self._username = credential(self.name, "username", username)
        self._password = credential(self.name, "password", password)
        self._line = credential(self.name, "line", line) if line not in ("", None) else ""
        self._body_id = _body_id(self.name, body_id)
        self._body_values = _body_values(self.name, body_values)
        if not self._line and self._body_id is None:
            raise ConfigurationError(f"{self.name}: it needs a line, or a body_id for codes alone")
        self._http = HttpTransport(
            self.name, base_url, timeout=timeout, allow_http=allow_http, client=client
        )
        self._soap = SoapTransport(
            self._http,
            "/Send.asmx",
            wsdl="melipayamak.wsdl",
            binding="{http://tempuri.org/}MessagesOverSoap",
        )

    @property
    def capabilities(self) -> frozenset[Capability]:
        able = {Capability.CODE_SMS, Capability.CREDIT, Capability.STATUS}
        return frozenset(able | {Capability.TEXT} if self._line else able)

    # --- what it writes -------------------------------------------------------------------------

    def _send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        if not self._line:
            raise self._unable("ordinary texts without a line")
        return send_alike(batch, lambda texts: isolate(texts, self._send_one_text, RECIPIENT_CODES))

    def _send_one_text(self, texts: Sequence[Text]) -> list[Receipt]:
        sent = self.send_sms([text.to for text in texts], texts[0].text)
        return [self._receipt(text, sent, place) for place, text in enumerate(texts)]

    def send_code(self, message: CodeMessage) -> Receipt:
        if message.channel != "sms":
            raise self._unable(f"codes by {message.channel}")
        if self._body_id is None:
            return self.send_text(message.to, message.text, reference=message.reference)
        values = [value.replace("{code}", message.code) for value in self._body_values]
        sent = self.send_by_base_number(message.to, self._body_id, values)
        return Receipt(message.to, Status.QUEUED, id=sent, reference=message.reference)

    def send_sms(self, to: Sequence[str], text: str, *, flash: bool = False, udh: str = "") -> Sent:
        """One text to at most 100 recipients: MeliPayamak's web-service guide, "SendSMS".

        :param to: E.164.
        :param flash: show it at once instead of storing it.
        :param udh: the message's header, for a text to a port; hexadecimal.
        :raises Rejected: this text, or one of these recipients; nobody got it.
        :raises Unavailable: our account, our line or the service; nobody got it.
        :raises Unknown: a return code that is in no table.
        """
        numbers = [national(mobile) for mobile in to]
        answer = self._call(
            "SendSms",
            {
                # An array as `{"string": [...]}`: of a bare list zeep writes the first alone.
                "to": {"string": numbers},
                "from": self._line,
                "text": text,
                "isflash": flash,
                "udh": udh,
                "recId": {"long": [0]},
                "status": b"\0",
            },
            sent=(text, *numbers),
        )
        fields = answer if isinstance(answer, dict) else {}
        result = fields.get("SendSmsResult")
        if result != 1:
            raise self._verdict(RETURN_CODES, result)
        status = fields.get("status")
        return Sent(
            len(numbers),
            tuple(_items(fields.get("recId"), "long")),
            status if isinstance(status, bytes) else b"",
        )

    def send_by_base_number(self, to: str, body_id: int, values: Sequence[str]) -> str:
        """A pattern to one mobile, from MeliPayamak's shared line: the guide, "SendByBaseNumber2".

        :param to: E.164.
        :param values: the pattern's variables in order; none may hold `;`, which separates them.
        :returns: the id of the message.
        :raises Misconfigured: the pattern, or that the values do not fit it; nothing was sent.
        :raises Rejected: this recipient or a value.
        :raises Unavailable: our account or the service.
        :raises Unknown: an answer that is neither an id nor in a table.
        """
        if any(";" in value for value in values):
            raise Misconfigured(
                self.name,
                "a value for the pattern holds ';', which separates values",
                written=False,
            )
        answer = self._call(
            "SendByBaseNumber2",
            {"text": ";".join(values), "to": national(to), "bodyId": body_id},
            sent=(*values, national(to)),
        )
        text = answer.strip() if isinstance(answer, str) else ""
        if text.isascii() and text.isdigit() and len(text) >= 15:
            return text
        raise self._verdict(PATTERN_CODES, _whole(text))

    # --- what it reads --------------------------------------------------------------------------

    def credit(self) -> Credit:
        """What is left, in the account's own unit: the guide, "GetCredit"."""
        amount = self._call("GetCredit", {})
        if not isinstance(amount, float) or not math.isfinite(amount) or amount < 0:
            raise Unknown(self.name, "its credit is not a number that a credit can be")
        return Credit(Decimal(str(amount)))

    def statuses(self, ids: Sequence[str]) -> dict[str, Status]:
        found: dict[str, Status] = {}
        for start in range(0, len(ids), self.batch_limit):
            part = list(ids[start : start + self.batch_limit])
            states = self.deliveries(part)
            for place, id_ in enumerate(part):
                # None: left out, or not a number.
                state = states[place] if place < len(states) else None
                found[id_] = (
                    Status.UNKNOWN if state is None else status_of(STATES, state, gateway=self.name)
                )
        return found

    def deliveries(self, ids: Sequence[str]) -> list[int | None]:
        """The states of messages by their `recId`, in order: the guide, "GetDeliveries3".

        :returns: keys of `STATES`; None for one that is not a number.
        """
        answer = self._call("GetDeliveries3", {"recId": {"string": list(ids)}})
        return _items(answer, "int")

    def close(self) -> None:
        self._http.close()

    def _call(
        self, operation: str, fields: dict[str, object], *, sent: tuple[str, ...] = ()
    ) -> object:
        account: dict[str, object] = {"username": self._username, "password": self._password}
        return self._soap.call(
            operation, account | fields, sent=(self._username, self._password, *sent)
        )

    def _verdict(
        self, table: dict[int, tuple[type[SenderError], str]], result: object
    ) -> SenderError:
        if isinstance(result, int) and result in table:
            kind, reason = table[result]
            return kind(self.name, reason, code=str(result))
        if isinstance(result, int) and abs(result) < 1000:
            return Unknown(
                self.name, "a return code that its guide does not list", code=str(result)
            )
        return Unknown(self.name, "what it returned is neither a success nor an error code")

    def _receipt(self, text: Text, sent: Sent, place: int) -> Receipt:
        """What the lists say of one recipient. Both may be missing, empty or too short."""
        id_ = sent.ids[place] if place < len(sent.ids) else None
        known = str(id_) if id_ is not None and id_ > 0 else None
        failed = sent.failed[place] if place < len(sent.failed) else None
        if failed == 1:
            refused = Rejected(self.name, "not sent to this recipient")
            return Receipt(text.to, Status.REJECTED, known, text.reference, refused)
        # "Done" for one recipient can mean nobody else; for several it leaves open whom.
        alone = sent.recipients == 1 and not sent.ids and not sent.failed
        if failed == 0 or alone or (failed is None and known is not None):
            return Receipt(text.to, Status.SENT, known, text.reference)
        unsure = Unknown(self.name, "the answer does not say what became of this recipient")
        return Receipt(text.to, Status.UNKNOWN, known, text.reference, unsure)


def _items(array: object, item: str) -> list[int | None]:
    """The members of an array, as `{"long": [...]}` or bare; None for what is no number."""
    members = array.get(item) if isinstance(array, dict) else array
    if not isinstance(members, list):
        return []
    return [member if isinstance(member, int) else None for member in members]


def _whole(text: str) -> int | None:
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 15 else None


def _body_id(name: str, value: object) -> int | None:
    if value in (None, ""):
        return None
    text = credential(name, "body_id", value)
    if not text.isascii() or not text.isdigit() or int(text) >= 2**31:
        raise ConfigurationError(f"{name}: body_id must be the pattern's number")
    return int(text)


def _body_values(name: str, values: object) -> tuple[str, ...]:
    if (
        not isinstance(values, list | tuple)
        or not all(isinstance(value, str) and ";" not in value for value in values)
        or not any("{code}" in value for value in values)
    ):
        raise ConfigurationError(
            f"{name}: body_values must be a list of texts without ';', one of them with {{code}}"
        )
    return tuple(values)
