"""Checks, sends and reports, for both the SOAP service and the REST calls of MeliPayamak."""

import itertools
from collections.abc import Sequence
from typing import Final

from ...account import Account
from ...messages import Incoming, Message, MessageState
from ...phone_numbers import is_same_line, national, parse_mobile
from ...soap import Record
from ...texts import count_parts
from ...times import tehran_time

MAX_RECIPIENTS: Final = 100
BASE_LINE: Final = "50004001"

# `SendSmsResult` in the documentation. 35 (blacklist) is from the REST guide.
WRONG_CREDENTIALS, DONE, NO_CREDIT, OVER_VOLUME, BAD_LINE, NOT_SENT = 0, 1, 2, 4, 5, 11
LINK, BLACK_LIST, PATTERN_LINK = 14, 35, -10

# The error numbers of `SendSms`, those of the REST guide, and those of a pattern.
CODES: Final = (
    0, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 14,
    15, 16, 17, 18, 35, -108, -109, -110, -111,
    -10, -7, -6, -5, -4, -3, -2, -1, 19,
)  # fmt: skip

# Results of `GetDeliveries`.
STATUSES: Final[dict[MessageState, int]] = {
    "queued": 400,
    "sent": 8,
    "delivered": 1,
    "undelivered": 2,
    "rejected": 500,
    "filtered": 300,
    "unknown": 5,
    "cancelled": 500,
}

# All results of `GetDeliveries`.
RAW_STATES: Final[dict[str, MessageState]] = {
    "0": "sent",
    "1": "delivered",
    "2": "undelivered",
    "3": "undelivered",
    "5": "unknown",
    "8": "sent",
    "16": "undelivered",
    "35": "rejected",
    "100": "unknown",
    "200": "sent",
    "300": "filtered",
    "400": "queued",
    "500": "rejected",
}
UNKNOWN_MESSAGE: Final = 100


class ApiError(Exception):
    """A refused call, with one of the result numbers."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Outbox:
    """The checks, sends and reports of an account."""

    def __init__(self, account: Account) -> None:
        self._account = account
        # Clients recognize an id by its length: 15 digits or more.
        self._ids = itertools.count(4_617_000_000_000_001)

    def has_valid_credentials(self, username: str, password: str) -> bool:
        """Return whether credentials are valid. Only missing ones are invalid by default."""
        return bool(username and password) and not self._account.consume_fault("bad_credentials")

    def check_credentials(self, username: str, password: str) -> None:
        """Raise `ApiError` if credentials are invalid."""
        if not self.has_valid_credentials(username, password):
            raise ApiError(WRONG_CREDENTIALS)

    def send(self, line: str, to: Sequence[str], text: str) -> list[Message]:
        """Send a text to several recipients.

        :raises ApiError: the send is refused.
        """
        code = self._account.take_error_code()
        if code is not None:
            raise ApiError(code)
        if not line.strip("+").isdecimal():
            raise ApiError(BAD_LINE)
        if not to or not text.strip():
            raise ApiError(NOT_SENT)
        if len(to) > MAX_RECIPIENTS:
            raise ApiError(OVER_VOLUME)
        if self._account.refuses_link(text):
            raise ApiError(LINK)
        if self._account.consume_fault("refuse"):
            raise ApiError(BLACK_LIST)
        if not self._account.can_pay(count_parts(text) * len(to)):
            raise ApiError(NO_CREDIT)
        faults = self._account.take_message_faults()
        return [
            self._account.send(
                message_id=str(next(self._ids)), sender=line, to=mobile, text=text, faults=faults
            )
            for mobile in to
        ]

    def send_pattern(self, to: str, values: Sequence[str], body_id: int) -> str:
        """Send a pattern's text to one recipient; return its id or an error number.

        Errors are -2 (several recipients), -4 (pattern), -5 (no values), -10 (a link), or a result
        number of `SendSms`.
        """
        code = self._account.take_error_code()
        if code is not None:
            return str(code)
        if "," in to or ";" in to:
            return "-2"
        if body_id <= 0:
            return "-4"
        if not any(value.strip() for value in values):
            return "-5"
        if any("://" in value or self._account.refuses_link(value) for value in values):
            return str(PATTERN_LINK)
        # Real patterns are written in the gateway's panel; this text replaces them.
        text = f"کد تأیید شما: {values[0]}" + "".join(f"\n{value}" for value in values[1:])
        try:
            sent = self.send(BASE_LINE, [to], text)
        except ApiError as error:
            return str(error.code)
        return sent[0].message_id if sent[0].is_reachable else str(NOT_SENT)

    def status(self, message_id: str) -> int:
        """Return the status number of a message."""
        message = self._account.message(message_id)
        return UNKNOWN_MESSAGE if message is None else self._account.report(message, STATUSES)

    def messages(self, location: int, line: str, index: int, size: int) -> list[Record]:
        """Return received messages for location 1, and sent ones for any other location."""
        if location == 1:
            rows: list[Record] = [
                _incoming_row(m)
                for m in self._account.incoming()
                if not line or is_same_line(m.line, line)
            ]
        else:
            rows = [
                _sent_row(m)
                for m in self._account.messages()
                if m.is_reachable and (not line or is_same_line(m.sender, line))
            ]
        return rows[max(index, 0) : max(index, 0) + max(size, 0)]


def _incoming_row(message: Incoming) -> Record:
    return {
        "MsgID": message.number,
        "Body": message.text,
        "SendDate": tehran_time(message.at).replace(" ", "T"),
        "Sender": national(message.sender),
        "Receiver": message.line,
        "Parts": count_parts(message.text),
        "IsRead": message.is_read,
    }


def _sent_row(message: Message) -> Record:
    mobile = parse_mobile(message.to)
    return {
        "MsgID": int(message.message_id),
        "Body": message.text,
        "SendDate": tehran_time(message.scheduled_at).replace(" ", "T"),
        "Sender": message.sender,
        "Receiver": national(mobile) if mobile else message.to,
        "Parts": count_parts(message.text),
        "IsRead": True,
    }
