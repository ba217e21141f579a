"""Asanak: `v1rest` as in its guide, and `v2rest` as its public clients call it.

`v1rest` accepts GET or a POST form, and responds with text (the default), XML or JSON as `Accept`
requests. According to the guide, an error is "a message or a code". Here, text and XML errors are
messages with HTTP 200, and JSON errors are objects with `status`. `v2rest` accepts JSON, responds
with `meta` and `data`, and uses HTTP status codes. Received messages are pushed with GET.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Final
from xml.sax.saxutils import escape

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from ..account import Account
from ..http_data import Fields, as_text, form_fields, json_fields, json_response
from ..messages import Incoming, MessageState
from ..phone_numbers import international, latin_digits, parse_landline, parse_mobile
from ..texts import count_parts
from ..times import tehran_time

V1Result = str | int | list[int] | list[dict[str, str]]

MAX_ITEMS: Final = 100
"""The largest number of recipients, or of message ids, in one call."""

TEMPLATE_LINE: Final = "982100021000"
NO_TIME: Final = "0000-00-00"

# From the guide: 1 queued, 2 sent to the operator, 6 delivered, 5 failed, 8 rejected.
STATUSES: Final[dict[MessageState, int]] = {
    "queued": 1,
    "sent": 2,
    "delivered": 6,
    "undelivered": 5,
    "rejected": 8,
    "filtered": 8,
    "unknown": 13,
    "cancelled": 8,
}
NOT_FOUND: Final = -1

# All states of the guide, and 20, which the gateway also returns.
RAW_STATES: Final[dict[str, MessageState]] = {
    "-1": "unknown",
    "1": "queued",
    "4": "queued",
    "2": "sent",
    "7": "unknown",
    "8": "rejected",
    "10": "sent",
    "9": "sent",
    "6": "delivered",
    "5": "undelivered",
    "11": "sent",
    "12": "sent",
    "13": "unknown",
    "20": "unknown",
}

# Error code of v2 → its HTTP status, and the message of both versions.
ERRORS: Final[Mapping[int, tuple[int, str]]] = {
    1002: (406, "Source Number is not valid"),
    1003: (422, "Parameters are not valid"),
    1006: (402, "Credit is not enough"),
    1008: (401, "Username or Password is not valid"),
    1009: (401, "Username is not active"),
    1010: (406, "Destination Number is not valid"),
    1012: (401, "Username is blocked"),
    1015: (401, "Username may not use the web service"),
}

# The guide: a source starts with 021 or 9821.
_SOURCE = re.compile(r"(?:\+?98|0)21\d{0,10}")


class ApiError(Exception):
    """A refused call: the HTTP status and the code of v2, and the message of v1."""

    def __init__(self, http: int, code: int, message: str) -> None:
        super().__init__(message)
        self.http = http
        self.code = code
        self.message = message


def wrong_credentials() -> ApiError:
    """Return the error for wrong or missing credentials."""
    return ApiError(401, 1008, "Username or Password is not valid")


def error_of_code(code: int) -> ApiError:
    """Return the error for a code. An undocumented code has no message."""
    http, message = ERRORS.get(code, (400, ""))
    return ApiError(http, code, message)


class Asanak:
    """The gateway at panel.asanak.com (v1) and sms.asanak.ir (v2)."""

    name: ClassVar[str] = "asanak"
    title: ClassVar[str] = "Asanak"
    hosts: ClassVar[tuple[str, ...]] = ("panel.asanak.com", "sms.asanak.ir", "panel.asanak.ir")
    is_case_insensitive: ClassVar[bool] = False
    setup_endpoints: ClassVar[frozenset[str]] = frozenset()
    codes: ClassVar[tuple[int, ...]] = tuple(ERRORS)
    takes_any_code: ClassVar[bool] = True
    raw_states: ClassVar[Mapping[str, MessageState]] = RAW_STATES

    def __init__(self, account: Account) -> None:
        self.account = account

    def add_routes(self, blueprint: Blueprint) -> None:
        """Add the calls of both versions."""
        v1_calls: dict[str, Callable[[Fields], V1Result]] = {
            "sendsms": self.send,
            "msgstatus": self.status,
            "getcredit": self.credit,
        }
        v2_calls: dict[str, Callable[[Fields], object]] = {
            "sendsms": self.send,
            "p2psendsms": self.send_pairs,
            "template": self.send_template,
            "msgstatus": self.status,
            "getcredit": self.credit_object,
            "getrialcredit": self.credit_object,
            "templatelist": self.templates,
        }
        for name, call in v1_calls.items():
            blueprint.add_url_rule(
                f"/webservice/v1rest/{name}", f"v1 {name}",
                self._v1_view(call), methods=["GET", "POST"],
            )  # fmt: skip
        for name, v2_call in v2_calls.items():
            blueprint.add_url_rule(
                f"/webservice/v2rest/{name}", f"v2 {name}", self._v2_view(v2_call), methods=["POST"]
            )

    def push_query(self, message: Incoming) -> dict[str, str]:
        """Return a received message with the member names of the guide."""
        return {
            "Destination": message.line,
            "Source": international(message.sender),
            "ReceiveTime": tehran_time(message.at),
            "MsgBody": message.text,
        }

    def _v1_view(self, call: Callable[[Fields], V1Result]) -> Callable[[], ResponseReturnValue]:
        def view() -> ResponseReturnValue:
            fields = form_fields(request)
            try:
                self._check_credentials(fields)
                return v1_response(call(fields))
            except ApiError as error:
                return v1_error_response(error)

        return view

    def _v2_view(self, call: Callable[[Fields], object]) -> Callable[[], ResponseReturnValue]:
        def view() -> ResponseReturnValue:
            fields = json_fields(request) if request.is_json else form_fields(request)
            fields = fields or Fields({})
            try:
                self._check_credentials(fields)
                return v2_response(call(fields))
            except ApiError as error:
                return v2_response([], error.http, error.code, error.message)

        return view

    def _check_credentials(self, fields: Fields) -> None:
        """Raise `ApiError` for wrong credentials, and for the fault `code`."""
        is_complete = fields.text("username") and fields.text("password")
        if not is_complete or self.account.consume_fault("bad_credentials"):
            raise wrong_credentials()
        code = self.account.take_error_code()
        if code is not None:
            raise error_of_code(code)

    def send(self, fields: Fields) -> list[int]:
        """Send one text to at most 100 recipients, joined by `,` or `-`. Return ids in order."""
        mobiles = re.split(r"[,\-]", fields.text("destination"))
        rows = [
            (fields.text("source"), mobile.strip(), fields.text("message")) for mobile in mobiles
        ]
        return self._send(rows)

    def send_pairs(self, fields: Fields) -> list[int]:
        """Send each recipient a text: rows in `data`, or three lists of equal length."""
        rows = [Fields(row) for row in fields.items("data") or () if isinstance(row, dict)]
        if rows:
            return self._send(
                [(row.text("source"), row.text("destination"), row.text("message")) for row in rows]
            )
        lists = [fields.texts(name) or [] for name in ("source", "destination", "message")]
        if not lists[0] or len({len(column) for column in lists}) != 1:
            raise ApiError(422, 1003, "data is not valid")
        return self._send(list(zip(*lists, strict=True)))

    def send_template(self, fields: Fields) -> list[int]:
        """Send a text that is stored at the gateway to one recipient."""
        parameters = fields.value("parameters")
        if not fields.integer("template_id") or not isinstance(parameters, dict):
            raise ApiError(422, 1003, "template_id or parameters is not valid")
        values = [as_text(value) for value in parameters.values()]
        # Real templates are written in the gateway's panel; this text replaces them.
        text = f"کد تأیید شما: {values[0] if values else ''}"
        text += "".join(f"\n{value}" for value in values[1:])
        return self._send([(TEMPLATE_LINE, fields.text("destination"), text)])

    def status(self, fields: Fields) -> list[dict[str, str]]:
        """Return the states of at most 100 messages as text. An unknown id has status -1."""
        ids = [each.strip() for each in re.split(r"[,\-]", fields.text("msgid"))]
        ids = [each for each in ids if each]
        if not ids or len(ids) > MAX_ITEMS:
            raise ApiError(422, 1003, "MsgID is not valid")
        return [self._status(message_id) for message_id in ids]

    def _status(self, message_id: str) -> dict[str, str]:
        message = self.account.message(message_id)
        if message is None:
            return {
                "MsgID": message_id,
                "Status": str(NOT_FOUND),
                "SendTime": NO_TIME,
                "DeliverTime": NO_TIME,
            }
        state = self.account.state_of(message)
        return {
            "MsgID": message_id,
            "Status": str(self.account.report(message, STATUSES)),
            "SendTime": tehran_time(message.scheduled_at),
            "DeliverTime": tehran_time(message.delivery_reported_at)
            if state == "delivered"
            else NO_TIME,
        }

    def credit(self, _: Fields) -> int:
        """Return the credit, in messages."""
        return int(self.account.reported_credit())

    def credit_object(self, fields: Fields) -> dict[str, int]:
        """Return the credit in the form of v2."""
        return {"credit": self.credit(fields)}

    def templates(self, _: Fields) -> list[dict[str, object]]:
        """Return the templates of the account, of which there is one."""
        return [{"id": 1, "template": "کد تأیید شما: {code}", "parameters": ["code"]}]

    def _send(self, rows: Sequence[tuple[str, str, str]]) -> list[int]:
        """Send rows of line, recipient and text. One invalid row refuses the whole call."""
        if len(rows) > MAX_ITEMS:
            raise ApiError(406, 1010, "Destination count is more than 100")
        for line, mobile, text in rows:
            if not _SOURCE.fullmatch(latin_digits(line)):
                raise error_of_code(1002)
            if parse_mobile(mobile) is None and parse_landline(mobile) is None:
                raise error_of_code(1010)
            if not text.strip():
                raise ApiError(422, 1003, "Message is not valid")
        if self.account.consume_fault("refuse"):
            raise error_of_code(1010)
        if not self.account.can_pay(sum(count_parts(text) for _, _, text in rows)):
            raise error_of_code(1006)
        faults = self.account.take_message_faults()
        ids = [self.account.next_id() + 2_450_000 for _ in rows]
        for message_id, (line, mobile, text) in zip(ids, rows, strict=True):
            self.account.send(
                message_id=str(message_id), sender=line, to=mobile, text=text, faults=faults,
                takes_landlines=True,
            )  # fmt: skip
        return ids


def v1_response(value: V1Result) -> Response:
    """Return a result in the format that `Accept` requests."""
    format_ = _accepted_format()
    if format_ == "json":
        return json_response(value)
    if format_ == "xml":
        return _xml(value)
    text = json.dumps(value, ensure_ascii=False)
    return Response(text, content_type="text/html; charset=utf-8")


def v1_error_response(error: ApiError) -> Response:
    """Return an error in the format that `Accept` requests, with HTTP 200."""
    format_ = _accepted_format()
    if format_ == "json":
        message = {"message": error.message} if error.message else {}
        return json_response({"status": error.code, **message})
    text = error.message or str(error.code)
    if format_ == "xml":
        return Response(
            f"<response><Message>{escape(text)}</Message></response>",
            content_type="text/xml; charset=utf-8",
        )
    return Response(text, content_type="text/html; charset=utf-8")


def v2_response(
    value: object, http: int = 200, code: int = 200, message: str = "success"
) -> Response:
    """Return `{"meta": {"status", "message"}, "data"}`."""
    return json_response({"meta": {"status": code, "message": message}, "data": value}, http)


def _accepted_format() -> str:
    """Return `text`, `xml` or `json`. The guide names these types, also `application/xhtml`."""
    formats: Mapping[str, str] = {
        "text/html": "text",
        "application/json": "json",
        "text/xml": "xml",
        "application/xml": "xml",
        "application/xhtml": "xml",
        "application/xhtml+xml": "xml",
    }
    return formats[request.accept_mimetypes.best_match(list(formats), "text/html")]


def _xml(value: V1Result) -> Response:
    if isinstance(value, list):
        inner = "".join(
            f"<MsgID>{row}</MsgID>"
            if isinstance(row, int)
            else "<MsgStatus>"
            + "".join(f"<{name}>{escape(text)}</{name}>" for name, text in row.items())
            + "</MsgStatus>"
            for row in value
        )
    else:
        inner = f"<Credit>{value}</Credit>"
    return Response(f"<response>{inner}</response>", content_type="text/xml; charset=utf-8")
