"""Raygan's calls, by its web-service guide: POST, JSON both ways, HTTP Basic on every call.

Most methods answer with an envelope, `{"Code": 0, "Message": "…", "Result": …}`. The three methods
for codes have a host of their own and answer with a bare JSON scalar.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from ...errors import Misconfigured, NotCarried, TextRefused, Unavailable, Unknown
from ...secret import Secret
from ..base import DeliveryState, KnownError
from ..convert import map_state, redact_reason, scalar_text, to_e164, to_national
from ..http import MAX_ANSWER_BYTES, Answer, HttpTransport

BASE_URL = "https://raygansms.com/api/smsAPI"
CODE_BASE_URL = "https://smspanel.trez.ir/api/smsAPI"

#: The most recipients of one `SendMessage`.
MAX_RECIPIENTS = 50_000

#: The most bytes of an answer that lists up to `MAX_RECIPIENTS` recipients of a group. One entry
#: takes about 40 bytes, and up to 100 with white space.
MAX_RECIPIENTS_BYTES = 8 * 2**20
#: The most bytes of a page of received messages. The guide does not say how large a page is.
MAX_PAGE_BYTES = 8 * 2**20

#: The most pages of received messages to request, in case the answers have no end.
MAX_PAGES = 10_000

# --- states: Raygan's web-service guide, notes of the two status methods -------------------------

#: `StatusCode`, the state of a whole group.
GROUP_STATES: Mapping[object, DeliveryState] = {
    1: DeliveryState.SENT,
    2: DeliveryState.QUEUED,
    3: DeliveryState.REJECTED,  # filtered
}

#: `Status`, the state of one message. The guide calls every other value "being checked", which is
#: sent and not final.
MESSAGE_STATES: Mapping[object, DeliveryState] = {
    1: DeliveryState.DELIVERED,
    2: DeliveryState.UNDELIVERED,
    8: DeliveryState.SENT,
    16: DeliveryState.UNDELIVERED,  # did not reach the operator
    23: DeliveryState.QUEUED,  # the server is too busy
    27: DeliveryState.REJECTED,  # the number cannot receive messages
}

# --- errors: Raygan's web-service guide, "result codes" ------------------------------------------

_SUPPORT = "Ask Raygan's support desk."
_LINE = "Check the option line: it must be a line of this account."

#: `Code` of the envelope. An error means that nothing was sent, with two exceptions: 5003 is about
#: reading the result of a send, and 5004 about some of the messages.
ERRORS: Mapping[int, KnownError] = {
    1001: KnownError(Misconfigured, "the document is malformed", _SUPPORT),
    1002: KnownError(Misconfigured, "the line is not valid", _LINE),
    1003: KnownError(Misconfigured, "the date is malformed", _SUPPORT),
    1004: KnownError(Misconfigured, "the parameters are not valid", _SUPPORT),
    2001: KnownError(Unavailable, "the line does not belong to the account", _LINE),
    2002: KnownError(
        Unavailable,
        "the account may not use the web service",
        "Enable the web service in Raygan's panel.",
    ),
    2003: KnownError(
        Unavailable,
        "the server's IP address is not allowed",
        "Allow this server's IP address in Raygan's panel.",
    ),
    2004: KnownError(
        Misconfigured, "the date is outside the allowed range", "Choose an earlier date."
    ),
    2005: KnownError(Misconfigured, "more than 50,000 recipients", "Send in smaller batches."),
    2006: KnownError(TextRefused, "the text is longer than 10 parts", "Shorten the text."),
    2007: KnownError(Misconfigured, "the port is not allowed", "Choose another port."),
    2008: KnownError(Misconfigured, "the page number is not allowed", "Request an existing page."),
    2009: KnownError(Unavailable, "the account's data could not be read", _SUPPORT),
    3001: KnownError(Unavailable, "the gateway could not store the data", _SUPPORT),
    3002: KnownError(
        Misconfigured, "the message group could not be read", "Check the option group_id."
    ),
    3003: KnownError(Unavailable, "not enough credit", "Add credit in Raygan's panel."),
    3004: KnownError(
        NotCarried,
        "the account does not serve this operator",
        "Ask Raygan to enable the recipient's operator, or add a second sender.",
    ),
    5001: KnownError(Unavailable, "an internal error"),
    5002: KnownError(Unavailable, "an error while sending"),
    5003: KnownError(Unknown, "an error while reading the result of the send"),
    5004: KnownError(Unknown, "some messages failed"),
}

#: The code of a send after which only some messages failed.
SOME_FAILED = "5004"

# --- values --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PersonalText:
    """One recipient of `SendCorrespondingMessage` or `SendMessageToPort`.

    :param id: the caller's id, unique within the call. The result repeats it.
    :param mobile: E.164.
    """

    id: str
    mobile: str = field(repr=False)
    message: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SentText:
    """The result for one `PersonalText`.

    :param id: the caller's id.
    :param mobile: E.164; `""` if the answer has none.
    :param message_id: Raygan's id, for `corresponding_message_status`.
    """

    id: str
    mobile: str = field(repr=False)
    message_id: str


@dataclass(frozen=True, slots=True)
class RecipientState:
    """The state of one recipient's message in a group.

    :param mobile: E.164.
    :param code: `Status` as Raygan gave it; None if it is not a number, such as the guide's `x`.
    """

    mobile: str = field(repr=False)
    status: DeliveryState
    code: int | None


@dataclass(frozen=True, slots=True)
class GroupState:
    """The state of a group, and of each recipient in the answer.

    :param code: `StatusCode` as Raygan gave it; None if it is not a number.
    """

    status: DeliveryState
    code: int | None
    recipients: tuple[RecipientState, ...]


@dataclass(frozen=True, slots=True)
class MessageState:
    """The state of one message with an id of its own.

    :param code: `Status` as Raygan gave it; None if it is not a number.
    """

    message_id: str
    status: DeliveryState
    code: int | None


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A text from a phone.

    :param mobile: E.164 for a mobile, else as Raygan gave it.
    :param timestamp: seconds as Raygan gave them; None if it is not a number.
    """

    mobile: str = field(repr=False)
    message: str = field(repr=False)
    timestamp: int | None


@dataclass(frozen=True, slots=True)
class ReceivedPage:
    """A page of `ReceiveMessages`. The first page is 1.

    :param page: `Page` of the answer; the requested page where the answer has none.
    """

    page: int
    total_pages: int
    messages: tuple[ReceivedMessage, ...]


@dataclass(frozen=True, slots=True)
class Prices:
    """The price of one part of a text, in Raygan's unit."""

    persian: Decimal
    latin: Decimal


class RayganClient:
    """The methods of Raygan's web service. Each raises the `SenderError` of its error code.

    :param code_base_url: the base URL of the three methods for codes.
    :param line: the number that texts are sent from and received on.
    :param group_id: `UserGroupID`, the message group in which sends are filed, unless a call names
        another.
    :param footer: the end of the texts of native codes.
    """

    def __init__(
        self,
        http: HttpTransport,
        *,
        username: str,
        password: str,
        line: str,
        group_id: str,
        footer: str,
        code_base_url: str,
    ) -> None:
        credentials = Secret(base64.b64encode(f"{username}:{password}".encode()).decode())
        self._headers = {"Authorization": Secret(f"Basic {credentials}")}
        self._username = username
        self._password = password
        self._http = http
        self._sender = http.sender
        self._line = line
        self._group_id = group_id
        self._footer = footer
        self._code_base_url = code_base_url

    def __repr__(self) -> str:
        return f"<RayganClient of {self._sender.name!r}>"

    # --- texts -----------------------------------------------------------------------------------

    def send_message(
        self,
        message: str,
        mobiles: Sequence[str],
        *,
        at: datetime | None = None,
        group_id: str | None = None,
    ) -> str:
        """Send one text to many recipients: the guide's SendMessage.

        :param mobiles: E.164, at most `MAX_RECIPIENTS`.
        :param at: when to send; None or a past time: immediately.
        :param group_id: `UserGroupID`, by which `get_group_message_id` finds this send; None: the
            client's.
        :returns: the id of the group, for `group_message_status`.
        """
        # The guide sends past dates immediately and names no time zone. One day ago is past in
        # every zone.
        timestamp = time.time() - 86_400 if at is None else at.timestamp()
        result = self._call(
            "SendMessage",
            {
                "PhoneNumber": self._line,
                "Message": message,
                "Mobiles": [to_national(mobile) for mobile in mobiles],
                "UserGroupID": self._group_id if group_id is None else group_id,
                "SendDateInTimeStamp": int(timestamp),
            },
            sent=[message],
        )
        return self._read_id(result, "the id of a group")

    def send_corresponding_message(
        self, messages: Sequence[PersonalText], *, group_id: str | None = None
    ) -> list[SentText]:
        """Send each recipient a different text: the guide's SendCorrespondingMessage.

        :param group_id: `UserGroupID`, by which `get_group_message_id` finds this send; None: the
            client's.
        :returns: an entry for each text that the answer lists with an id. It may omit some.
        """
        return self._send_personal("SendCorrespondingMessage", {}, messages, group_id)

    def send_message_to_port(
        self,
        messages: Sequence[PersonalText],
        *,
        receive_port: int,
        send_port: int,
        group_id: str | None = None,
    ) -> list[SentText]:
        """Send each recipient a text to an app's port: the guide's SendMessageToPort.

        :param group_id: as for `send_corresponding_message`.
        :returns: an entry for each text that the answer lists with an id. It may omit some.
        """
        ports = {"recievePortNumber": receive_port, "sendPortNumber": send_port}
        return self._send_personal("SendMessageToPort", ports, messages, group_id)

    def _send_personal(
        self,
        method: str,
        extra: Mapping[str, int],
        messages: Sequence[PersonalText],
        group_id: str | None,
    ) -> list[SentText]:
        result = self._call(
            method,
            {
                "PhoneNumber": self._line,
                **extra,
                "RecipientsMessage": [
                    {"Id": text.id, "Message": text.message, "Mobile": to_national(text.mobile)}
                    for text in messages
                ],
                "UserGroupID": self._group_id if group_id is None else group_id,
            },
            allow_partial=True,
            sent=[text.message for text in messages],
        )
        sent = []
        for row in self._read_rows(result):
            own_id, message_id = scalar_text(row.get("id")), scalar_text(row.get("result"))
            # 0 and negative numbers are not ids. A row without the caller's id has no recipient.
            if own_id and message_id and message_id != "0" and not message_id.startswith("-"):
                mobile = to_e164(scalar_text(row.get("mobile")))
                sent.append(SentText(own_id, mobile, message_id))
        return sent

    # --- codes -----------------------------------------------------------------------------------

    def send_auto_code(self, mobile: str, footer: str | None = None) -> int:
        """Generate and send a code: the guide's SendAutoCode.

        :param footer: the end of the text; None: the client's.
        :returns: the number above 2000 that means the code was sent.
        """
        footer = self._footer if footer is None else footer
        body = {"Mobile": to_national(mobile), "Footer": footer}
        return self._read_sent_number(self._call_code_method("SendAutoCode", body), [footer])

    def check_send_code(self, mobile: str, code: str) -> bool:
        """Return whether this is the code that SendAutoCode sent: the guide's CheckSendCode.

        :raises SenderError: the answer is neither true nor false.
        """
        body = {"Mobile": to_national(mobile), "Code": code}
        answer = self._call_code_method("CheckSendCode", body)
        # The guide prints both `True` and `true`.
        word = answer.text.strip().lower() if 200 <= answer.status < 300 else ""
        if word in ("true", "false"):
            return word == "true"
        self._raise_for_error(answer, _parse_json(answer), [code])
        return answer.raise_unreadable("true or false")

    def send_own_code(self, mobile: str, message: str) -> int:
        """Send a text that contains an own code: the guide's SendCode.

        :returns: the number above 2000 that means the text was sent.
        """
        body = {"Mobile": to_national(mobile), "Message": message}
        return self._read_sent_number(self._call_code_method("SendCode", body), [message])

    def _call_code_method(self, method: str, body: Mapping[str, str]) -> Answer:
        return self._http.request(
            "POST", f"{self._code_base_url}/{method}", json=body, headers=self._headers
        )

    def _read_sent_number(self, answer: Answer, sent: Sequence[str]) -> int:
        """Return a bare number above 2000, which means sent.

        :raises Unavailable: a number up to 2000. According to the guide, "a number above 2000 means
            that the message was sent", so it was not sent.
        :raises Unknown: the answer is not a number, or is a number above 2000 that is also an error
            code.
        """
        body = _parse_json(answer)
        self._raise_for_error(answer, body, sent)
        if type(body) is not int or not -(2**63) <= body < 2**63:
            answer.raise_unreadable("a number above 2000")
        known = ERRORS.get(body)
        if body <= 2000:
            error = KnownError(
                Unavailable,
                f"not sent: {known.reason}" if known else "not sent: the number is not above 2000",
                known.advice if known else None,
            )
            raise self._sender.make_known_error(error, code=body if body > -10_000 else None)
        if known:
            reason = f"the number means success or {known.reason!r}"
            raise self._sender.make_known_error(KnownError(Unknown, reason), code=body)
        return body

    # --- states ----------------------------------------------------------------------------------

    def group_message_status(self, group_message_id: str) -> GroupState:
        """Return the states of a `send_message`: the guide's GroupMessageStatus."""
        result = _read_fields(
            self._call(
                "GroupMessageStatus",
                {"GroupMessageId": group_message_id},
                max_bytes=MAX_RECIPIENTS_BYTES,
            )
        )
        if result is None:
            raise self._make_unreadable("the state of a group")
        code = _read_number(result.get("statuscode"))
        return GroupState(
            map_state(GROUP_STATES, code, gateway=self._sender.name),
            code,
            tuple(
                RecipientState(
                    to_e164(scalar_text(row.get("mobile"))), *self._read_message_state(row)
                )
                for row in self._read_rows(result.get("messagesliststate") or [])
            ),
        )

    def corresponding_message_status(self, message_ids: Sequence[str]) -> list[MessageState]:
        """Return the states of messages: the guide's CorrespondingMessageStatus.

        :param message_ids: ids of `SentText`.
        :returns: an entry for each message that the answer lists. It may omit some.
        """
        result = self._call("CorrespondingMessageStatus", {"messageId": list(message_ids)})
        return [
            MessageState(scalar_text(row.get("msgid")), *self._read_message_state(row))
            for row in self._read_rows(result)
        ]

    def _read_message_state(self, row: Mapping[str, object]) -> tuple[DeliveryState, int | None]:
        code = _read_number(row.get("status"))
        if code is None:
            return DeliveryState.SENT, None
        return MESSAGE_STATES.get(code, DeliveryState.SENT), code

    def get_group_message_id(self, group_id: str) -> str:
        """Return the id of a send by its `UserGroupID`: the guide's GetGroupMessageId."""
        result = self._call("GetGroupMessageId", {"groupId": group_id})
        return self._read_id(result, "the id of a group")

    # --- received texts --------------------------------------------------------------------------

    def receive_messages(self, start: datetime, end: datetime, page: int = 1) -> ReceivedPage:
        """Return a page of the texts that the line received: the guide's ReceiveMessages."""
        result = _read_fields(
            self._call(
                "ReceiveMessages",
                {
                    "PhoneNumber": self._line,
                    "StartDate": str(int(start.timestamp())),
                    "EndDate": str(int(end.timestamp())),
                    "Page": str(page),
                },
                max_bytes=MAX_PAGE_BYTES,
            )
        )
        if result is None or (total := _read_number(result.get("totalpage"))) is None:
            raise self._make_unreadable("a page of received messages")
        answered_page = _read_number(result.get("page"))
        return ReceivedPage(
            page if answered_page is None else answered_page,
            total,
            tuple(
                ReceivedMessage(
                    to_e164(scalar_text(row.get("mobile"))),
                    body if isinstance(body := row.get("msgbody"), str) else scalar_text(body),
                    _read_number(row.get("date")),
                )
                for row in self._read_rows(result.get("receivedmsgs") or [])
            ),
        )

    def iter_received(self, start: datetime, end: datetime) -> Iterator[ReceivedMessage]:
        """Yield the texts that the line received. Each page is requested when it is reached."""
        page, total, last = 1, 1, None
        while page <= total:
            answer = self.receive_messages(start, end, page)
            if not answer.messages:
                return
            if answer.messages == last:
                raise self._sender.make_error(Unknown, "two pages of the answer are the same")
            yield from answer.messages
            page, total, last = page + 1, min(answer.total_pages, MAX_PAGES), answer.messages

    # --- the account -----------------------------------------------------------------------------

    def get_credit(self) -> Decimal:
        """Return the credit: the guide's GetCredit, a number or a string of a number."""
        return self._read_amount(self._call("GetCredit", {}))

    def get_prices(self) -> Prices:
        """Return the prices of a Persian and a Latin part: the guide's GetPrices."""
        result = _read_fields(self._call("GetPrices", {}))
        if result is None:
            raise self._make_unreadable("prices")
        return Prices(
            self._read_amount(result.get("fa_price")), self._read_amount(result.get("en_price"))
        )

    def show_white_list(self, mobiles: Sequence[str]) -> list[str]:
        """Return the mobiles that are not on the blacklist: the guide's ShowWhiteList.

        The guide calls the parameter `Mobiles` in its table and `MobilesList` in its sample, so
        both are sent.

        :param mobiles: E.164.
        :returns: E.164, in the order of `mobiles`.
        """
        numbers = [to_national(mobile) for mobile in mobiles]
        result = self._call(
            "ShowWhiteList",
            {"Mobiles": numbers, "MobilesList": numbers},
            max_bytes=MAX_RECIPIENTS_BYTES,
        )
        if not isinstance(result, list):
            raise self._make_unreadable("a list of mobiles")
        allowed = {to_e164(scalar_text(number)) for number in result}
        return [mobile for mobile in mobiles if mobile in allowed]

    # --- writing and reading ---------------------------------------------------------------------

    def _call(
        self,
        method: str,
        body: Mapping[str, object],
        *,
        allow_partial: bool = False,
        sent: Sequence[str] = (),
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> object:
        """Make a call and return the `Result` of its envelope.

        :param sent: texts of the request that an error's reason must not repeat.
        :param allow_partial: also return the result of "some messages failed" if it is a list,
            because it lists the messages that were sent.
        """
        answer = self._http.request(
            "POST", f"/{method}", json=body, headers=self._headers, max_bytes=max_bytes
        )
        envelope = _read_fields(parsed := _parse_json(answer))
        result = (envelope or {}).get("result")
        if (
            allow_partial
            and 200 <= answer.status < 300
            and envelope is not None
            and scalar_text(envelope.get("code")) == SOME_FAILED
            and isinstance(result, list)
        ):
            return result
        self._raise_for_error(answer, parsed, sent)
        if envelope is None or _read_number(envelope.get("code")) != 0:
            answer.raise_unreadable("an envelope with a code")
        return result

    def _raise_for_error(self, answer: Answer, body: object, sent: Sequence[str]) -> None:
        """Raise for an error in the HTTP status or in the `Code` of an envelope.

        Every code but 0 is an error, also one that is not in the guide's table.
        """
        envelope = _read_fields(body) or {}
        code = _read_number(envelope.get("code"))
        # The code of a 5xx is more precise than its status.
        if answer.status < 500 or code not in ERRORS:
            answer.raise_for_service_error()
        if code is not None and code in ERRORS:
            raise self._sender.make_known_error(ERRORS[code], code=code)
        if code is not None and code != 0:
            message = redact_reason(
                envelope.get("message") or "", sent=[self._username, self._password, *sent]
            )
            raise self._sender.make_error(
                Unavailable,
                f"an error code that is not in the guide: {message}",
                code=str(code) if abs(code) < 10_000 else None,
            )
        if code is None:  # 0 with an HTTP error status may mean that it was sent
            answer.raise_for_wrong_url()
            answer.raise_for_refusal()
        if not 200 <= answer.status < 300:
            answer.raise_unreadable("success")

    def _read_rows(self, value: object) -> list[dict[str, object]]:
        if not isinstance(value, list):
            raise self._make_unreadable("a list")
        return [row for row in map(_read_fields, value) if row is not None]

    def _read_id(self, value: object, expected: str) -> str:
        if not (found := scalar_text(value)) or found == "0" or len(found) > 100:
            raise self._make_unreadable(expected)
        return found

    def _read_amount(self, value: object) -> Decimal:
        text = str(value) if isinstance(value, int | float | str) else ""
        if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,9})?", text):
            raise self._make_unreadable("an amount")
        return Decimal(text)

    def _make_unreadable(self, expected: str) -> Unknown:
        return self._sender.make_error(Unknown, f"expected {expected} as the result")


def _parse_json(answer: Answer) -> object:
    """Return the body as JSON; None if it is not JSON."""
    try:
        return answer.json()
    except Unknown:
        return None


def _read_fields(value: object) -> dict[str, object] | None:
    """Return an object with its names in lower case; None for anything else.

    The guide's tables and samples spell some names in different case.
    """
    return {name.lower(): item for name, item in value.items()} if isinstance(value, dict) else None


def _read_number(value: object) -> int | None:
    """Return a whole number, also from a string: the guide's types and samples differ."""
    if type(value) is int:
        return value
    if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,18}\s*", value):
        return int(value)
    return None
