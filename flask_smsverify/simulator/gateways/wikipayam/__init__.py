"""WikiPayam as on its web-service page: REST with a Bearer token, and responses under `data`.

The page lists no errors. Here they are those of Laravel, in which the service is written: 401 with
`message`, 422 with `message` and `errors` by field. The page shows no responses of `otp/sms/send`,
`sms/receive`, `receives/statistics` and the Holoo call. Here they are like those of similar calls.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import ClassVar, Final

from flask import Blueprint, Response, request

from ...account import Account, MessageFaults
from ...http_data import Fields, form_fields
from ...messages import MessageState, object_id
from ...phone_numbers import parse_mobile
from ...texts import call_script
from .inbox import Inbox
from .laravel import (
    Errors,
    add_missing,
    data_response,
    invalid_response,
    json_body,
    json_rows,
    laravel_response,
    require,
    require_mobile,
    unauthenticated_response,
)

PRICE: Final = 1_400.0
CALL_LINE: Final = "982191000000"
OTP_LINE: Final = "10002000"

# The page documents WAITING_FOR_UPDATE only; the other values are made up.
STATUSES: Final[dict[MessageState, str]] = {
    "queued": "WAITING_FOR_UPDATE",
    "sent": "WAITING_FOR_UPDATE",
    "delivered": "DELIVERED",
    "undelivered": "UNDELIVERED",
    "rejected": "REJECTED",
    "filtered": "REJECTED",
    "unknown": "UNKNOWN",
    "cancelled": "REJECTED",
}
RAW_STATES: Final[dict[str, MessageState]] = {
    "WAITING_FOR_UPDATE": "sent",
    "DELIVERED": "delivered",
    "UNDELIVERED": "undelivered",
    "REJECTED": "rejected",
    "UNKNOWN": "unknown",
}

# HTTP status of Laravel → its message.
ERRORS: Final[Mapping[int, str]] = {
    400: "Bad request.",
    401: "Unauthenticated.",
    402: "Insufficient balance.",
    403: "This action is unauthorized.",
    404: "Not Found",
    405: "Method Not Allowed",
    422: "The given data was invalid.",
    429: "Too Many Attempts.",
    500: "Server Error",
    503: "Service Unavailable",
}

View = Callable[..., Response]


class WikiPayam:
    """The gateway at wikipayam.ir."""

    name: ClassVar[str] = "wikipayam"
    title: ClassVar[str] = "WikiPayam"
    hosts: ClassVar[tuple[str, ...]] = ("wikipayam.ir", "www.wikipayam.ir")
    is_case_insensitive: ClassVar[bool] = False
    setup_endpoints: ClassVar[frozenset[str]] = frozenset()
    codes: ClassVar[tuple[int, ...]] = tuple(ERRORS)
    takes_any_code: ClassVar[bool] = False
    raw_states: ClassVar[Mapping[str, MessageState]] = RAW_STATES

    def __init__(self, account: Account) -> None:
        self.account = account

    def add_routes(self, blueprint: Blueprint) -> None:
        """Add the calls under `/api/v1`. All of them require the token."""
        calls: list[tuple[str, str, View]] = [
            ("GET", "user/balance", self.balance),
            ("POST", "sms/send", self.send),
            ("POST", "sms/deliver", self.deliver),
            ("POST", "otp/sms/send", self.send_otp),
            ("POST", "voice-otp/send", self.send_voice),
            *Inbox(self.account).calls(),
        ]
        for method, path, view in calls:
            blueprint.add_url_rule(
                f"/api/v1/{path}", f"{method} {path}",
                self._require_token(view), methods=[method],
            )  # fmt: skip
        blueprint.add_url_rule(
            "/api/v1/service/holoo", "holoo", self.holoo, methods=["GET", "POST"]
        )

    def _require_token(self, view: View) -> View:
        @wraps(view)
        def guarded(**values: str) -> Response:
            sent = request.authorization
            token = sent.token if sent is not None and sent.type == "bearer" else None
            if not self._is_valid(token):
                return unauthenticated_response()
            return self._code_response() or view(**values)

        return guarded

    def _code_response(self) -> Response | None:
        """Return the response of the fault `code`, or None."""
        code = self.account.take_error_code()
        if code is None:
            return None
        if code == 422:
            return invalid_response({"0.message": ["The 0.message is not allowed."]})
        return laravel_response({"message": ERRORS[code]}, code)

    def _is_valid(self, token: str | None) -> bool:
        return bool(token) and not self.account.consume_fault("bad_credentials")

    def balance(self) -> Response:
        """Return the credit, in rials."""
        return data_response({
            "balance": int(self.account.reported_credit()), "currency": "IRR",
            "user_id": 1, "user_name": "simulator",
        })  # fmt: skip

    def send(self) -> Response:
        """Send texts, each with a line and a receiver. `note` may replace `message`."""
        rows = json_rows()
        if rows is None:
            return invalid_response({"sms": ["The sms must be an array."]})
        errors: Errors = {}
        for index, row in enumerate(rows):
            require(errors, row, index, "sender")
            require_mobile(errors, row, index)
            if not row.text("message").strip() and not row.text("note").strip():
                add_missing(errors, f"{index}.message")
        if error := self._check_send(errors, len(rows)):
            return error
        faults = self.account.take_message_faults()
        return data_response([
            self._send(row, row.text("sender"), row.text("message") or row.text("note"), faults)
            for row in rows
        ])  # fmt: skip

    def send_otp(self) -> Response:
        """Send codes in a pattern that is stored at the gateway."""
        rows = json_rows()
        if rows is None:
            return invalid_response({"otp": ["The otp must be an array."]})
        errors: Errors = {}
        for index, row in enumerate(rows):
            require_mobile(errors, row, index)
            require(errors, row, index, "code")
            if row.integer("otp_pattern_id") is None:
                add_missing(errors, f"{index}.otp_pattern_id")
        if error := self._check_send(errors, len(rows)):
            return error
        faults = self.account.take_message_faults()
        return data_response([
            self._send(row, OTP_LINE, _pattern_text(row), faults, code=row.text("code"))
            for row in rows
        ])  # fmt: skip

    def send_voice(self) -> Response:
        """Make a call that reads a code out."""
        value = json_body()
        row = Fields(value) if isinstance(value, dict) else Fields({})
        errors: Errors = {}
        for name in ("receiver", "code"):
            if not row.text(name):
                add_missing(errors, name)
        if "receiver" not in errors and parse_mobile(row.text("receiver")) is None:
            errors["receiver"] = ["The receiver format is invalid."]
        if error := self._check_send(errors, 1, field="receiver"):
            return error
        message = self.account.send(
            message_id=object_id(), sender=CALL_LINE, to=row.text("receiver"), channel="voice",
            text=call_script(row.text("code")), code=row.text("code"), price=PRICE,
        )  # fmt: skip
        return data_response(
            {
                "message": "Voice OTP queued successfully",
                "id": message.message_id,
                "track_id": row.value("track_id"),
            }
        )

    def deliver(self) -> Response:
        """Return states by id, without unknown ids. `track_id` is null, as in the sample."""
        value = json_body()
        ids = Fields(value).texts("id") if isinstance(value, dict) else None
        if ids is None:
            return invalid_response({"id": ["The id field must be an array."]})
        found = [message for each in ids if (message := self.account.message(each))]
        return data_response([
            {
                "id": message.message_id,
                "deliver_status": self.account.report(message, STATUSES),
                "track_id": None,
            }
            for message in found
        ])  # fmt: skip

    def holoo(self) -> Response:
        """Send a text in the form of the Holoo accounting program.

        A POST request has the token in the body and as the Bearer. A GET request has it in the URL.
        The real gateway accepts that too.
        """
        value = json_body() if request.method == "POST" else None
        fields = Fields(value) if isinstance(value, dict) else form_fields(request)
        sent = request.authorization
        has_bearer = sent is not None and sent.type == "bearer" and bool(sent.token)
        if request.method == "POST" and not has_bearer:
            return unauthenticated_response()
        if not fields.text("username") or not self._is_valid(fields.text("password")):
            return unauthenticated_response()
        if code_response := self._code_response():
            return code_response
        errors: Errors = {}
        for name in ("from", "to", "message"):
            if not fields.text(name):
                add_missing(errors, name)
        if "to" not in errors and parse_mobile(fields.text("to")) is None:
            errors["to"] = ["The to format is invalid."]
        if error := self._check_send(errors, 1, field="to"):
            return error
        row = Fields({"receiver": fields.text("to"), "track_id": None})
        faults = self.account.take_message_faults()
        return data_response([self._send(row, fields.text("from"), fields.text("message"), faults)])

    def _send(
        self, row: Fields, sender: str, text: str, faults: MessageFaults, code: str | None = None
    ) -> dict[str, object]:
        message = self.account.send(
            message_id=object_id(), sender=sender, to=row.text("receiver"), text=text, code=code,
            price=PRICE, faults=faults,
        )  # fmt: skip
        return {
            "id": message.message_id,
            "sender": sender,
            "receiver": row.text("receiver"),
            "track_id": row.value("track_id"),
        }

    def _check_send(
        self, errors: Errors, recipients: int, field: str = "0.receiver"
    ) -> Response | None:
        """Return the response that refuses a send, or None."""
        if errors:
            return invalid_response(errors)
        if self.account.consume_fault("refuse"):
            return invalid_response({field: [f"The {field} is on the blacklist."]})
        if not self.account.can_pay(PRICE * recipients):
            return laravel_response({"message": "Insufficient balance."}, 402)
        return None


def _pattern_text(row: Fields) -> str:
    """Return the text of a pattern, with its number. Real ones are written in the panel."""
    return f"کد تأیید شما: {row.text('code')}\n(الگوی {row.text('otp_pattern_id')})"
