"""SMS.ir's API v1: JSON with an API key, in an envelope `{"status": 1, "data": …}`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import NoReturn
from urllib.parse import quote

from ...errors import Misconfigured, Rejected, TextRefused, Unavailable, Unknown
from ..base import DeliveryState, KnownError, ReceivedText
from ..convert import derived_id, map_state, redact_reason, to_e164, to_national
from ..http import Answer, HttpTransport
from .answers import (
    read_amount,
    read_message_id,
    read_object,
    read_pack_id,
    read_time,
)

BASE_URL = "https://api.sms.ir/v1"

#: The most recipients of one call: error 105.
MAX_RECIPIENTS = 100

# --- states: SMS.ir's web-service documentation, "delivery status" -------------------------------

#: `deliveryState` of a report.
STATES: Mapping[object, DeliveryState] = {
    None: DeliveryState.QUEUED,  # accepted, not reported yet
    1: DeliveryState.DELIVERED,
    2: DeliveryState.UNDELIVERED,
    3: DeliveryState.SENT,  # at the telecom company
    4: DeliveryState.UNDELIVERED,  # did not reach the telecom company
    5: DeliveryState.SENT,  # at the operator
    6: DeliveryState.UNDELIVERED,  # failed
    7: DeliveryState.REJECTED,  # blacklisted
    8: DeliveryState.UNKNOWN,
}

# --- errors: SMS.ir's web-service documentation, "status codes" ----------------------------------

_KEY = "Create a new API key in SMS.ir's panel and put it into the option api_key."
_ACCOUNT = "Ask SMS.ir's support desk about the account."
_RECIPIENT = "Check the recipient's number."

#: `status` of the envelope. 1 is success.
ERRORS: Mapping[int, KnownError] = {
    10: KnownError(Unavailable, "the API key is not valid", _KEY),
    11: KnownError(Unavailable, "the API key is disabled", _KEY),
    12: KnownError(
        Unavailable,
        "the server's IP address is not allowed",
        "Allow this server's IP address for the API key in SMS.ir's panel.",
    ),
    13: KnownError(Unavailable, "the account is not active", _ACCOUNT),
    14: KnownError(Unavailable, "the account is suspended", _ACCOUNT),
    15: KnownError(
        Unavailable, "the account's plan does not include this", "Upgrade the plan at SMS.ir."
    ),
    16: KnownError(
        Misconfigured,
        "a parameter is not valid",
        "Check the options line, template_id and code_parameter.",
    ),
    20: KnownError(
        Unavailable, "too many requests", "Send less, or ask SMS.ir for a higher limit."
    ),
    101: KnownError(Unavailable, "the line is not valid", "Check the option line."),
    102: KnownError(Unavailable, "no credit", "Add credit in SMS.ir's panel."),
    103: KnownError(Rejected, "the text is empty", "Write a text."),
    104: KnownError(Rejected, "the recipient's number is not valid", _RECIPIENT),
    105: KnownError(
        Misconfigured, "more than 100 recipients in a call", "Send in smaller batches."
    ),
    111: KnownError(Rejected, "there is no message or pack with this id", "Check the id."),
    113: KnownError(
        Misconfigured,
        "there is no approved template with this id",
        "Check the option template_id, or the template in SMSVERIFY_PATTERNS.",
    ),
    114: KnownError(
        Misconfigured,
        "a value of the template is longer than 25 characters",
        "Shorten the template's values.",
    ),
    115: KnownError(
        Rejected,
        "the recipient is on the operators' blacklist",
        "The recipient can leave the blacklist at the operator.",
    ),
}

#: Codes that are about one recipient of a call: of `ERRORS`, and the HTTP status of a request whose
#: recipients do not pass the validation.
RECIPIENT_CODES = frozenset({"104", "115", "400"})

#: The fields of a request that come from the message, in lower case. The others come from the
#: sender's options.
_RECIPIENT_FIELDS = frozenset({"mobile", "mobiles"})
_TEXT_FIELDS = frozenset({"messagetext", "messagetexts", "parameters", "value"})

# --- values --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SentTemplate:
    """A template that was accepted.

    :param cost: in the account's unit; None if the API reports none.
    """

    id: str | None
    cost: Decimal | None


@dataclass(frozen=True, slots=True)
class Pack:
    """A send that was accepted.

    :param ids: in the order of the recipients: an id, `""` for a recipient without a message, None
        for a value that is not an id. The list may be too short.
    """

    id: str | None
    ids: tuple[str | None, ...]
    cost: Decimal | None


@dataclass(frozen=True, slots=True)
class Refund:
    """The refund of a cancelled pack.

    :param credit: in the account's unit.
    :param messages: the number of messages.
    """

    credit: Decimal | None
    messages: int | None


@dataclass(frozen=True, slots=True)
class MessageReport:
    """The state of a message.

    :param mobile: E.164.
    :param sent_at: aware, UTC; None if it is not known.
    :param delivered_at: likewise.
    """

    id: str
    mobile: str = field(repr=False)
    status: DeliveryState
    sent_at: datetime | None
    delivered_at: datetime | None
    cost: Decimal | None


class V1Client:
    """The calls of v1.

    Each raises the error of `ERRORS`, and `Unknown` for an answer that it cannot interpret.
    """

    def __init__(self, http: HttpTransport, api_key: str) -> None:
        self._http = http
        self._sender = http.sender
        self._key = api_key

    def __repr__(self) -> str:
        return f"<V1Client of {self._sender.name!r}>"

    # --- sending ---------------------------------------------------------------------------------

    def verify(self, to: str, template_id: int, values: Mapping[str, str]) -> SentTemplate:
        """Send a template to one mobile: `POST send/verify`.

        :param to: E.164.
        :param values: the template's variables by name.
        """
        data = self._call(
            "POST",
            "/send/verify",
            {
                "mobile": to_national(to),
                "templateId": template_id,
                "parameters": [{"name": name, "value": value} for name, value in values.items()],
            },
            sent=tuple(values.values()),
        )
        # null means not sent. A missing id is an answer that cannot be interpreted.
        id_ = read_message_id(data.get("messageId", ())) if isinstance(data, dict) else None
        if id_ is None or not isinstance(data, dict):
            raise self._sender.make_error(Unknown, "the answer has no id for this recipient")
        if not id_:
            raise self._sender.make_error(Rejected, "not sent to this recipient")
        return SentTemplate(id_, read_amount(data.get("cost")))

    def send_bulk(
        self, line: int, text: str, mobiles: Sequence[str], *, at: datetime | None = None
    ) -> Pack:
        """Send one text: `POST send/bulk`.

        :param mobiles: E.164, at most `MAX_RECIPIENTS`.
        :param at: when to send; None: immediately.
        """
        return self._send(
            "/send/bulk",
            {
                "lineNumber": line,
                "messageText": text,
                "mobiles": [to_national(mobile) for mobile in mobiles],
                "sendDateTime": _to_timestamp(at),
            },
            (text,),
            len(mobiles),
        )

    def send_like_to_like(
        self,
        line: int,
        texts: Sequence[str],
        mobiles: Sequence[str],
        *,
        at: datetime | None = None,
    ) -> Pack:
        """Send each recipient a different text: `POST send/likeToLike`.

        :param mobiles: E.164, at most `MAX_RECIPIENTS`, as many as `texts`.
        :param at: when to send; None: immediately.
        """
        return self._send(
            "/send/likeToLike",
            {
                "lineNumber": line,
                "messageTexts": list(texts),
                "mobiles": [to_national(mobile) for mobile in mobiles],
                "sendDateTime": _to_timestamp(at),
            },
            tuple(texts),
            len(mobiles),
        )

    def cancel(self, pack_id: str) -> Refund:
        """Cancel a scheduled pack: `DELETE send/scheduled/{packId}`."""
        data = self._call("DELETE", f"/send/scheduled/{quote(pack_id, safe='')}")
        row = data if isinstance(data, dict) else {}
        messages = row.get("smsCount")
        return Refund(
            read_amount(row.get("returnedCreditCount")),
            messages if isinstance(messages, int) and not isinstance(messages, bool) else None,
        )

    def _send(
        self, path: str, request: dict[str, object], sent: tuple[str, ...], recipients: int
    ) -> Pack:
        data = self._call("POST", path, request, sent=sent)
        ids = data.get("messageIds") if isinstance(data, dict) else None
        if not isinstance(data, dict) or not isinstance(ids, list):
            raise self._sender.make_error(Unknown, "the answer has no list of ids")
        # If there are more ids than recipients, no id can be assigned.
        read = tuple(map(read_message_id, ids)) if len(ids) <= recipients else ()
        return Pack(read_pack_id(data.get("packId")), read, read_amount(data.get("cost")))

    # --- reading ---------------------------------------------------------------------------------

    def get_credit(self) -> Decimal:
        """Return the credit: `GET credit`."""
        amount = read_amount(self._call("GET", "/credit"))
        if amount is None:
            raise self._sender.make_error(Unknown, "the credit is not a number")
        return amount

    def get_lines(self) -> list[str]:
        """Return the account's numbers: `GET line`."""
        return [str(line) for line in self._get_list("/line") if read_message_id(line)]

    def get_report(self, message_id: str) -> MessageReport:
        """Return the state of one message: `GET send/{id}`.

        :raises Rejected: there is no message with this id.
        """
        data = self._call("GET", f"/send/{quote(message_id, safe='')}")
        if not isinstance(data, dict):
            raise self._sender.make_error(Unknown, "the report is not an object")
        return self._read_report({"messageId": message_id} | data)

    def get_pack_report(self, pack_id: str) -> list[MessageReport]:
        """Return the states of a pack's messages: `GET send/pack/{id}`."""
        return self._read_reports(self._get_list(f"/send/pack/{quote(pack_id, safe='')}"))

    def get_live_report(self, page: int = 1, size: int = 100) -> list[MessageReport]:
        """Return a page of the states of today's messages: `GET send/live`. The first page is 1."""
        params = {"pageNumber": str(page), "pageSize": str(size)}
        return self._read_reports(self._get_list("/send/live", params))

    def get_latest_received(self, count: int = 100) -> list[ReceivedText]:
        """Return the latest texts from phones: `GET receive/latest`.

        SMS.ir gives no ids, so one is derived from the fields: the same text has the same id.
        """
        rows = self._get_list("/receive/latest", {"count": str(count)})
        return [_read_received(row) for row in rows if isinstance(row, dict)]

    def _get_list(self, path: str, params: Mapping[str, str] | None = None) -> list[object]:
        data = self._call("GET", path, params=params)
        if not isinstance(data, list):
            raise self._sender.make_error(Unknown, "the answer is not a list")
        return data

    def _read_reports(self, rows: Sequence[object]) -> list[MessageReport]:
        return [self._read_report(row) for row in rows if isinstance(row, dict)]

    def _read_report(self, row: Mapping[str, object]) -> MessageReport:
        state = row.get("deliveryState", "")
        is_state = state is None or (isinstance(state, int) and not isinstance(state, bool))
        return MessageReport(
            id=str(row.get("messageId", "")),
            mobile=to_e164(str(row.get("mobile", ""))),
            status=map_state(STATES, state, gateway=self._sender.name)
            if is_state
            else DeliveryState.UNKNOWN,
            sent_at=read_time(row.get("sendDateTime")),
            delivered_at=read_time(row.get("deliveryDateTime")),
            cost=read_amount(row.get("cost")),
        )

    def _call(
        self,
        method: str,
        path: str,
        request: object = None,
        *,
        params: Mapping[str, str] | None = None,
        sent: tuple[str, ...] = (),
    ) -> object:
        """Make a call and return the `data` of its envelope.

        :param sent: texts of the request that an error's reason must not repeat.
        """
        answer = self._http.request(
            method,
            path,
            json=request,
            params=params,
            headers={"X-API-KEY": self._key, "Accept": "application/json"},
        )
        envelope = read_object(answer)
        status = envelope.get("status") if envelope is not None else None
        code = status if isinstance(status, int) and not isinstance(status, bool) else None
        # ASP.NET's problems (RFC 9457) also have a `status`, which is the HTTP status.
        is_problem = code is None or (code == answer.status and code >= 400)
        if code is not None and code in ERRORS and not is_problem:
            raise self._sender.make_known_error(ERRORS[code], code=code)
        answer.raise_for_service_error()
        if is_problem and 400 <= answer.status < 500:
            self._raise_for_problem(answer, envelope or {}, (self._key, *sent))
        if envelope is None:
            answer.raise_unreadable("a JSON object")
        if code == 1 and answer.status < 300:
            return envelope.get("data")
        message = redact_reason(envelope.get("message") or "", sent=(self._key, *sent))
        if code in (None, 1):
            raise self._sender.make_error(
                Unknown,
                f"neither success nor an error: {message}",
                code=None if code is None else str(code),
            )
        # Every status except 1 is an error, even if it is not in the documentation.
        raise self._sender.make_error(
            Unavailable,
            f"an error that is not in the documentation: {message}",
            code=str(code) if code is not None and abs(code) < 10_000 else None,
        )

    def _raise_for_problem(
        self, answer: Answer, body: Mapping[str, object], sent: tuple[str, ...]
    ) -> NoReturn:
        """Raise for a refusal that is not in the envelope.

        The validation of ASP.NET names the refused fields in `errors`, such as `mobiles[1]` or
        `$.lineNumber`. Nothing was sent (RFC 9110, 15.5).

        :raises Rejected: a field of the message is refused, and no other.
        :raises Misconfigured: a field that comes from the options is refused, or there is no such
            call.
        :raises Unavailable: no field is named.
        """
        answer.raise_for_wrong_url()
        errors = body.get("errors")
        words = {
            word
            for name in (errors if isinstance(errors, dict) else ())
            for word in re.findall(r"[a-z]{2,30}", str(name).lower())
        } - {"request", "body", "model", "command"}
        code = str(answer.status)
        if not words:
            said = redact_reason(body.get("title") or body.get("message") or "", sent=sent)
            reason = f"the gateway refused the request: {said}"
            raise self._sender.make_error(Unavailable, reason, code=code)
        reason = "the gateway refuses " + ", ".join(sorted(words)[:5])
        if words <= _RECIPIENT_FIELDS:
            raise self._sender.make_error(Rejected, reason, code=code)
        if words <= _RECIPIENT_FIELDS | _TEXT_FIELDS:
            raise self._sender.make_error(TextRefused, reason, code=code)
        raise self._sender.make_error(Misconfigured, reason, code=code)


def _read_received(row: Mapping[str, object]) -> ReceivedText:
    originator, line = to_e164(str(row.get("mobile", ""))), str(row.get("number", ""))
    text, received = str(row.get("messageText") or ""), row.get("receivedDateTime")
    return ReceivedText(
        id=derived_id("smsir", line, originator, str(received), text),
        originator=originator,
        line=line,
        text=text,
        received_at=read_time(received),
    )


def _to_timestamp(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())
