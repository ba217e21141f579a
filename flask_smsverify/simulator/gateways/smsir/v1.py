"""SMS.ir's API v1, with an API key in a header.

A response is `{"status", "message", "data"}`. Status 1 means success. Errors are HTTP 400, and 401
for the key.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeVar

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from ...account import Account
from ...http_data import Fields, form_fields, json_fields, json_response
from ...messages import Incoming, Message, MessageState
from ...phone_numbers import subscriber
from ...texts import count_parts
from ...times import TEHRAN, from_timestamp
from ..base import lower_rule
from .sending import (
    LINE,
    VALIDATION,
    ApiError,
    Outbox,
    send_time,
    status_text,
    template_text,
)

Row = TypeVar("Row")

MAX_RECIPIENTS: Final = 100
MAX_VALUE_LENGTH: Final = 25

# `deliveryState`: 1 delivered, 2 undelivered, 3 at the operator, 6 failed, 7 blacklist, 8 unknown.
DELIVERY_STATES: Final[dict[MessageState, int]] = {
    "queued": 8,
    "sent": 3,
    "delivered": 1,
    "undelivered": 2,
    "rejected": 7,
    "filtered": 7,
    "unknown": 8,
    "cancelled": 6,
}

# All values: 4 did not reach the telecom company, 5 at the operator.
RAW_STATES: Final[dict[str, MessageState]] = {
    "1": "delivered",
    "2": "undelivered",
    "3": "sent",
    "4": "undelivered",
    "5": "sent",
    "6": "undelivered",
    "7": "rejected",
    "8": "unknown",
}

# HTTP statuses of the envelope; all other errors are 400.
HTTP_STATUSES: Final = {10: 401, 11: 401, 12: 403, 13: 403, 14: 403, 15: 403, 20: 429}
MAX_PAGE_SIZE: Final = 100


class V1:
    """The calls under `/v1`."""

    def __init__(self, account: Account, outbox: Outbox) -> None:
        self._account = account
        self._outbox = outbox

    def add_routes(self, blueprint: Blueprint) -> None:
        """Add one route for each call."""
        calls: list[tuple[str, str, Callable[..., object]]] = [
            ("POST", "send/verify", self.verify),
            ("POST", "send/bulk", self.bulk),
            ("POST", "send/likeToLike", self.like_to_like),
            ("DELETE", "send/scheduled/<pack>", self.cancel_scheduled),
            ("GET", "credit", self.credit),
            ("GET", "line", self.lines),
            ("GET", "send/<int:number>", self.report),
            ("GET", "send/pack/<pack>", self.report_pack),
            ("GET", "send/live", self.report_today),
            ("GET", "send/archive", self.report_archive),
            ("GET", "receive/latest", self.latest),
            ("GET", "receive/live", self.received_today),
            ("GET", "receive/archive", self.received_archive),
        ]
        for method, path, call in calls:
            blueprint.add_url_rule(
                lower_rule(f"/v1/{path}"), f"v1 {path}", self._view(call), methods=[method]
            )

    def _view(self, call: Callable[..., object]) -> Callable[..., ResponseReturnValue]:
        def view(**values: str | int) -> ResponseReturnValue:
            has_key = bool(request.headers.get("X-API-KEY"))
            if not has_key or self._account.consume_fault("bad_credentials"):
                return v1_response(10, http=401)
            try:
                self._outbox.check_code()
                return v1_response(1, call(**values))
            except ApiError as error:
                if error.status == VALIDATION:
                    return _validation_problem()
                return v1_response(error.status, http=HTTP_STATUSES.get(error.status, 400))

        return view

    def verify(self) -> dict[str, object]:
        """Send a template to one recipient; return `{messageId, cost}`."""
        fields = _json_object()
        rows = fields.items("parameters")
        if not fields.integer("templateId"):
            raise ApiError(113)
        if rows is None:
            raise ApiError(16)
        values = [Fields(row).text("value") for row in rows if isinstance(row, dict)]
        if any(len(value) > MAX_VALUE_LENGTH for value in values):
            raise ApiError(114)
        message = self._outbox.send_one(fields.text("mobile"), template_text(values))
        return {"messageId": int(message.message_id), "cost": message.cost}

    def bulk(self) -> dict[str, object]:
        """Send one text to at most 100 recipients; return `{packId, messageIds, cost}`."""
        fields = _json_object()
        mobiles = fields.texts("mobiles")
        return self._send_pack(fields, mobiles, [fields.text("messageText")] * len(mobiles or ()))

    def like_to_like(self) -> dict[str, object]:
        """Send each recipient a text."""
        fields = _json_object()
        return self._send_pack(fields, fields.texts("mobiles"), fields.texts("messageTexts"))

    def cancel_scheduled(self, pack: str) -> dict[str, object]:
        """Cancel a scheduled send."""
        cancelled = self._account.cancel(pack)
        if not cancelled:
            raise ApiError(111)
        refund = sum(message.cost for message in cancelled)
        return {"returnedCreditCount": refund, "smsCount": len(cancelled)}

    def credit(self) -> float:
        """Return the credit, in messages."""
        return self._account.reported_credit()

    def lines(self) -> list[int]:
        """Return the lines of the account."""
        return [LINE]

    def report(self, number: int) -> dict[str, object]:
        """Return the report of a message."""
        message = self._account.message(str(number))
        if message is None:
            raise ApiError(111)
        return self._report(message)

    def report_pack(self, pack: str) -> list[dict[str, object]]:
        """Return the reports of a send."""
        messages = self._account.batch(pack)
        if not messages:
            raise ApiError(111)
        return [self._report(message) for message in messages]

    def report_today(self) -> list[dict[str, object]]:
        """Return today's reports, newest first, by `pageSize` and `pageNumber`."""
        today = self._today()
        sent = [m for m in self._account.messages() if m.accepted_at >= today]
        return [self._report(message) for message in _page(sent)]

    def report_archive(self) -> list[dict[str, object]]:
        """Return reports before today, between the timestamps `fromDate` and `toDate`."""
        start, end = _requested_span()
        today = self._today()
        sent = [m for m in self._account.messages() if start <= m.accepted_at < min(end, today)]
        return [self._report(message) for message in _page(sent)]

    def latest(self) -> list[dict[str, object]]:
        """Return the last received messages, at most `count` (100 by default)."""
        count = form_fields(request).integer("count") or 100
        return [_incoming_json(message) for message in self._account.incoming()[: max(count, 0)]]

    def received_today(self) -> list[dict[str, object]]:
        """Return today's received messages, newest first."""
        today = self._today()
        found = [message for message in self._account.incoming() if message.at >= today]
        return [_incoming_json(message) for message in _page(found)]

    def received_archive(self) -> list[dict[str, object]]:
        """Return received messages before today, between two timestamps."""
        start, end = _requested_span()
        today = self._today()
        found = [m for m in self._account.incoming() if start <= m.at < min(end, today)]
        return [_incoming_json(message) for message in _page(found)]

    def _send_pack(
        self, fields: Fields, mobiles: list[str] | None, texts: list[str] | None
    ) -> dict[str, object]:
        if not fields.integer("lineNumber"):
            raise ApiError(101)
        if not mobiles or texts is None or len(texts) != len(mobiles):
            raise ApiError(16)
        if len(mobiles) > MAX_RECIPIENTS:
            raise ApiError(105)
        if not all(text.strip() for text in texts):
            raise ApiError(103)
        self._outbox.check(max(texts, key=count_parts), len(mobiles))
        sent = self._outbox.send_batch(fields.text("lineNumber"), mobiles, texts, send_time(fields))
        return {
            "packId": sent[0].batch,
            "messageIds": [int(m.message_id) if m.is_reachable else None for m in sent],
            "cost": sum(message.cost for message in sent),
        }

    def _report(self, message: Message) -> dict[str, object]:
        state = self._account.state_of(message)
        delivered = int(message.delivery_reported_at.timestamp()) if state == "delivered" else None
        return {
            "messageId": int(message.message_id),
            "mobile": int(subscriber(message.to)) if message.is_reachable else message.to,
            "messageText": message.text,
            "sendDateTime": int(message.scheduled_at.timestamp()),
            "lineNumber": int(message.sender),
            "cost": message.cost,
            "deliveryState": self._account.report(message, DELIVERY_STATES),
            "deliveryDateTime": delivered,
        }

    def _today(self) -> datetime:
        now = self._account.now().astimezone(TEHRAN)
        return now.replace(hour=0, minute=0, second=0, microsecond=0)


def v1_response(status: int, data: object = None, *, http: int = 200) -> Response:
    """Return the envelope."""
    return json_response({"status": status, "message": status_text(status), "data": data}, http)


def _validation_problem() -> Response:
    """Return the problem with which ASP.NET refuses a request, outside the envelope."""
    return json_response(
        {
            "type": "https://tools.ietf.org/html/rfc9110#section-15.5.1",
            "title": "One or more validation errors occurred.",
            "status": 400,
            "errors": {"request": ["The request field is required."]},
        },
        400,
        content_type="application/problem+json; charset=utf-8",
    )


def _json_object() -> Fields:
    fields = json_fields(request)
    if fields is None:
        raise ApiError(16)
    return fields


def _page(rows: list[Row]) -> list[Row]:
    fields = form_fields(request)
    size = min(max(fields.integer("pageSize") or MAX_PAGE_SIZE, 1), MAX_PAGE_SIZE)
    page = max(fields.integer("pageNumber") or 1, 1)
    return rows[(page - 1) * size : page * size]


def _requested_span() -> tuple[datetime, datetime]:
    fields = form_fields(request)
    span: list[datetime] = []
    for name, default in (("fromDate", 0), ("toDate", 253_402_300_799)):
        seconds = fields.integer(name) if fields.text(name) else default
        moment = None if seconds is None else from_timestamp(seconds)
        if moment is None:
            raise ApiError(16)
        span.append(moment)
    return span[0], span[1]


def _incoming_json(message: Incoming) -> dict[str, object]:
    return {
        "messageText": message.text,
        "number": int(message.line) if message.line.isdecimal() else message.line,
        "mobile": int(subscriber(message.sender)),
        "receivedDateTime": int(message.at.timestamp()),
    }
