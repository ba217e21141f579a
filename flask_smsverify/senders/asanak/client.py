"""The calls of both Asanak APIs: texts, states and credit.

Only v2rest can send different texts in one call, and templates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Protocol

from ..base import DeliveryState, SenderIdentity
from ..convert import map_state, scalar_text, to_national
from .answers import make_refusal, make_unreadable, read_code, read_field, read_id, read_time

#: The most recipients or ids of one call: Asanak's web-service guide, 3-1 and 3-2.
MAX_RECIPIENTS = 100

# --- states: Asanak's web-service guide, 3-2 "msgstatus"; 20 is not in the guide ----------------

STATES: Mapping[object, DeliveryState] = {
    "-1": DeliveryState.UNKNOWN,  # NotFound
    "1": DeliveryState.QUEUED,  # InQueue
    "4": DeliveryState.QUEUED,  # Pending: on its way to the operator
    "2": DeliveryState.SENT,  # Sent: at the operator
    "7": DeliveryState.UNKNOWN,  # NoResponse: the operator did not confirm
    "8": DeliveryState.REJECTED,  # Reject
    "10": DeliveryState.SENT,  # PartiallySent
    "9": DeliveryState.SENT,  # SentToDest
    "6": DeliveryState.DELIVERED,  # Success
    "5": DeliveryState.UNDELIVERED,  # Failed
    "11": DeliveryState.SENT,  # NoMsgID: parts are at the operator
    "12": DeliveryState.SENT,  # PartiallySuccess: parts are delivered, others are unknown
    "13": DeliveryState.UNKNOWN,  # NoDelivery: no report within four hours
    "20": DeliveryState.UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class MessageStatus:
    """The state of a message.

    :param code: `Status` as Asanak gave it; `""` if it is neither text nor a number.
    :param sent_at: `SendTime`: aware, UTC. Asanak's times have no zone and are read as Tehran time.
        None if there is none, such as `0000-00-00`.
    :param delivered_at: `DeliverTime`, likewise.
    """

    id: str
    status: DeliveryState
    code: str
    sent_at: datetime | None
    delivered_at: datetime | None


class Api(Protocol):
    """One of Asanak's APIs: `V1Rest` or `V2Rest`."""

    def call(
        self, method: str, request: Mapping[str, object], *, sent: Sequence[str] = ()
    ) -> object:
        """Make a call and return its answer as JSON types, or raise its error."""


class AsanakClient:
    """The methods of Asanak's web service.

    Each raises the `SenderError` of an error, and `Unknown` for an answer that it cannot interpret.

    :param line: the number to send from.
    """

    def __init__(self, api: Api, sender: SenderIdentity, *, line: str) -> None:
        self._api = api
        self._sender = sender
        self._line = line

    def __repr__(self) -> str:
        return f"<AsanakClient of {self._sender.name!r}>"

    # --- sending ---------------------------------------------------------------------------------

    def send_sms(self, to: Sequence[str], text: str) -> list[str | int | None]:
        """Send one text: the guide, 3-1 "sendsms".

        :param to: E.164, at most `MAX_RECIPIENTS`.
        :returns: per recipient, in order: an id as text, a negative error code, or None for
            anything else. The list may be too short.
        :raises Unavailable: a sentence or a code in place of a list; nothing was sent.
        """
        request = {
            "source": self._line,
            "destination": ",".join(to_national(mobile) for mobile in to),
            "message": text,
        }
        return self._send("sendsms", request, sent=[text])

    def send_p2p(self, texts: Sequence[tuple[str, str]]) -> list[str | int | None]:
        """Send different texts in one call: "p2psendsms" of v2rest.

        :param texts: pairs of a mobile (E.164) and its text, at most `MAX_RECIPIENTS`.
        :returns: ids as from `send_sms`.
        """
        data = [
            {"source": self._line, "destination": to_national(mobile), "message": text}
            for mobile, text in texts
        ]
        return self._send("p2psendsms", {"data": data}, sent=[text for _, text in texts])

    def send_template(
        self, to: str, template_id: int, parameters: Mapping[str, str]
    ) -> list[str | int | None]:
        """Send a template to one mobile: "template" of v2rest.

        :param to: E.164.
        :param parameters: the template's variables by name.
        :returns: ids as from `send_sms`.
        """
        request = {
            "template_id": template_id,
            "parameters": dict(parameters),
            "destination": to_national(to),
        }
        return self._send("template", request, sent=list(parameters.values()))

    def _send(
        self, method: str, request: Mapping[str, object], *, sent: Sequence[str]
    ) -> list[str | int | None]:
        """Make a call that sends. Only a list of ids is a success."""
        value = self._api.call(method, request, sent=sent)
        if not isinstance(value, list):
            raise make_unreadable(self._sender, value, "a list of ids")
        codes = [code if (code := read_code(item)) and code < 0 else None for item in value]
        if codes and all(codes):
            raise make_refusal(self._sender, None, code=codes[0])
        return [code or read_id(item) for item, code in zip(value, codes, strict=True)]

    # --- reading ---------------------------------------------------------------------------------

    def get_credit(self) -> Decimal:
        """Return the credit: the guide, 3-3 "getcredit"."""
        answer = self._api.call("getcredit", {})
        if isinstance(answer, list) and len(answer) == 1:
            [answer] = answer
        if isinstance(answer, dict):
            answer = read_field(answer, "credit")
        if isinstance(answer, int | float | str) and not isinstance(answer, bool):
            try:
                amount = Decimal(str(answer).strip())
            except InvalidOperation:
                amount = Decimal("NaN")
            # A negative number is an error code of the older API.
            if amount.is_finite() and 0 <= amount < 10**15:
                return amount
        raise make_unreadable(self._sender, answer, "a credit")

    def get_statuses(self, ids: Sequence[str]) -> list[MessageStatus]:
        """Return the states of messages: the guide, 3-2 "msgstatus".

        :param ids: at most `MAX_RECIPIENTS`.
        :returns: an entry for each of the ids that the answer lists. It may omit some.
        """
        answer = self._api.call("msgstatus", {"msgid": ",".join(ids)})
        if isinstance(answer, dict) and read_field(answer, "MsgID") is not None:
            answer = [answer]
        if not isinstance(answer, list):
            raise make_unreadable(self._sender, answer, "a list of states")
        requested = set(ids)
        rows = [row for row in answer if isinstance(row, dict)]
        return [
            self._read_status(id_, row)
            for row in rows
            if (id_ := read_id(read_field(row, "MsgID"))) is not None and id_ in requested
        ]

    def _read_status(self, id_: str, row: Mapping[object, object]) -> MessageStatus:
        value = read_field(row, "Status")
        code = scalar_text(value)
        return MessageStatus(
            id_,
            map_state(STATES, code or value, gateway=self._sender.name),
            code,
            read_time(read_field(row, "SendTime")),
            read_time(read_field(row, "DeliverTime")),
        )
