"""WikiPayam's calls for received messages."""

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from flask import Response, request

from ...account import Account
from ...http_data import Fields, as_integer, form_fields
from ...messages import Incoming
from ...phone_numbers import international, is_same_line
from ...times import parse_tehran_time, tehran_time
from .laravel import Errors, data_response, invalid_response, json_body, laravel_response

MAX_LIMIT: Final = 500
DEFAULT_LIMIT: Final = "20"
SORT_FIELDS: Final = ("created_at", "sender", "message")

View = Callable[..., Response]


class Inbox:
    """The received messages of an account."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def calls(self) -> list[tuple[str, str, View]]:
        """Return the method, the path and the view of each call."""
        return [
            ("POST", "sms/receive", self.received_since),
            ("GET", "receives", self.receives),
            ("DELETE", "receives", self.delete),
            ("GET", "receives/unread", self.unread),
            ("GET", "receives/unread/count", self.unread_count),
            ("GET", "receives/statistics", self.statistics),
            ("GET", "receives/<message_id>", self.receive),
            ("POST", "receives/mark-read", self.mark_read),
        ]

    def received_since(self) -> Response:
        """Return all messages since a date. `receives` replaced this call."""
        value = json_body()
        fields = Fields(value) if isinstance(value, dict) else Fields({})
        since = parse_tehran_time(fields.text("from_date"))
        if since is None:
            return invalid_response({"from_date": ["The from date is not a valid date."]})
        return data_response([_incoming_json(m) for m in self._account.incoming() if m.at >= since])

    def receives(self) -> Response:
        """Return a page of messages, filtered and sorted.

        `limit` and `offset` are returned as text, as in the page's sample.
        """
        fields = form_fields(request)
        window = Window.parse(fields)
        status = fields.text("status") or "all"
        sort_by = fields.text("sort_by") or "created_at"
        order = fields.text("sort_order") or "desc"
        errors: Errors = {}
        if status not in ("all", "read", "unread"):
            errors["status"] = ["The selected status is invalid."]
        if sort_by not in SORT_FIELDS:
            errors["sort_by"] = ["The selected sort by is invalid."]
        if order not in ("asc", "desc"):
            errors["sort_order"] = ["The selected sort order is invalid."]
        found = self._filtered(fields, errors)
        errors.update(window.errors)
        if errors:
            return invalid_response(errors)
        if status != "all":
            found = [message for message in found if message.is_read == (status == "read")]
        found.sort(key=_sort_key(sort_by), reverse=order == "desc")
        shown = window.slice(found)
        filters = {"status": status} | {
            name: fields.text(name)
            for name in ("sender", "from_date", "to_date", "search", "sort_by", "sort_order")
            if fields.text(name)
        }
        return data_response(
            {
                "receives": [_incoming_json(message) for message in shown],
                "pagination": {
                    "total": len(found),
                    "limit": window.limit,
                    "offset": window.offset,
                    "returned_count": len(shown),
                    "total_pages": math.ceil(len(found) / max(int(window.limit), 1)),
                },
                "filters": filters,
            }
        )

    def unread(self) -> Response:
        """Return a page of unread messages."""
        fields = form_fields(request)
        window = Window.parse(fields)
        errors = dict(window.errors)
        found = [message for message in self._filtered(fields, errors) if not message.is_read]
        if errors:
            return invalid_response(errors)
        shown = window.slice(found)
        return data_response(
            {
                "total_unread": len(found),
                "receives": [_incoming_json(message) for message in shown],
                "pagination": {
                    "limit": window.limit,
                    "offset": window.offset,
                    "returned_count": len(shown),
                },
            }
        )

    def unread_count(self) -> Response:
        """Return the number of unread messages."""
        return data_response({"unread_count": sum(not m.is_read for m in self._account.incoming())})

    def statistics(self) -> Response:
        """Return the number of read and unread messages between two dates."""
        fields = form_fields(request)
        errors: Errors = {}
        found = self._filtered(fields, errors)
        if errors:
            return invalid_response(errors)
        read = sum(message.is_read for message in found)
        return data_response(
            {
                "total_receives": len(found),
                "read_count": read,
                "unread_count": len(found) - read,
                "from_date": fields.text("from_date") or None,
                "to_date": fields.text("to_date") or None,
            }
        )

    def receive(self, message_id: str) -> Response:
        """Return one message."""
        for message in self._account.incoming():
            if message.message_id == message_id:
                return data_response(_incoming_json(message))
        return laravel_response({"message": "Receive not found"}, 404)

    def mark_read(self) -> Response:
        """Mark some or all messages as read."""
        value = json_body()
        fields = Fields(value) if isinstance(value, dict) else Fields({})
        if fields.value("mark_all") is True:
            messages = self._account.incoming()
            marked = self._account.mark_read(messages)
            return data_response({"marked_count": marked, "requested_count": len(messages)})
        ids = fields.texts("receive_ids")
        if not ids:
            return invalid_response({"receive_ids": ["The receive ids field is required."]})
        marked = self._account.mark_read(self._by_id(ids))
        return data_response({"marked_count": marked, "requested_count": len(ids)})

    def delete(self) -> Response:
        """Delete messages by id, all read or unread ones, or those older than some days."""
        value = json_body()
        fields = Fields(value) if isinstance(value, dict) else Fields({})
        messages = self._account.incoming()
        if ids := fields.texts("receive_ids"):
            deleted = self._account.delete_incoming(self._by_id(ids))
            return data_response({"deleted_count": deleted, "requested_count": len(ids)})
        if fields.value("delete_all_read") is True:
            deleted = self._account.delete_incoming(m for m in messages if m.is_read)
            return _deleted_response(deleted, "All read receives have been deleted")
        if fields.value("delete_all_unread") is True:
            deleted = self._account.delete_incoming(m for m in messages if not m.is_read)
            return _deleted_response(deleted, "All unread receives have been deleted")
        days = fields.integer("delete_older_than_days")
        if days is not None and 0 < days < 100_000:
            oldest = self._account.now() - timedelta(days=days)
            deleted = self._account.delete_incoming(m for m in messages if m.at < oldest)
            return _deleted_response(deleted, f"Receives older than {days} days have been deleted")
        return invalid_response({"receive_ids": ["The receive ids field is required."]})

    def _filtered(self, fields: Fields, errors: Errors) -> list[Incoming]:
        """Return messages by `sender`, `search`, `from_date` and `to_date`, newest first."""
        found = self._account.incoming()
        if sender := fields.text("sender"):
            found = [message for message in found if is_same_line(message.sender, sender)]
        if search := fields.text("search"):
            found = [message for message in found if search.casefold() in message.text.casefold()]
        if fields.text("from_date"):
            since = parse_tehran_time(fields.text("from_date"))
            if since is None:
                errors["from_date"] = ["The from date is not a valid date."]
            else:
                found = [message for message in found if message.at >= since]
        if fields.text("to_date"):
            until = _end_of_date(fields.text("to_date"))
            if until is None:
                errors["to_date"] = ["The to date is not a valid date."]
            else:
                found = [message for message in found if message.at < until]
        return found

    def _by_id(self, ids: list[str]) -> list[Incoming]:
        return [message for message in self._account.incoming() if message.message_id in ids]


class Window:
    """`limit` and `offset` of a list, as the text they were sent as."""

    def __init__(self, limit: str, offset: str, errors: Errors) -> None:
        self.limit = limit
        self.offset = offset
        self.errors = errors

    @classmethod
    def parse(cls, fields: Fields) -> "Window":
        """Parse the query. `errors` holds the errors in it."""
        errors: Errors = {}
        limit = fields.text("limit") or DEFAULT_LIMIT
        offset = fields.text("offset") or "0"
        if not 1 <= (as_integer(limit) or 0) <= MAX_LIMIT:
            errors["limit"] = [f"The limit must be between 1 and {MAX_LIMIT}."]
        if (start := as_integer(offset)) is None or start < 0:
            errors["offset"] = ["The offset must be at least 0."]
        return cls(limit, offset, errors)

    def slice(self, found: list[Incoming]) -> list[Incoming]:
        """Return the requested part of a list."""
        return found[int(self.offset) : int(self.offset) + int(self.limit)]


def _incoming_json(message: Incoming) -> dict[str, object]:
    return {
        "id": message.message_id,
        "sender": international(message.sender),
        "receiver": message.line,
        "message": message.text,
        "received_at": tehran_time(message.at),
    }


def _sort_key(sort_by: str) -> Callable[[Incoming], str]:
    if sort_by == "sender":
        return lambda message: message.sender
    if sort_by == "message":
        return lambda message: message.text
    return lambda message: message.at.isoformat()


def _end_of_date(text: str) -> datetime | None:
    """Return the time at which a `to_date` ends. A date without a time includes its day."""
    moment = parse_tehran_time(text)
    if moment is None:
        return None
    return moment + (timedelta(days=1) if len(text) <= len("2024-01-01") else timedelta(seconds=1))


def _deleted_response(deleted: int, message: str) -> Response:
    return data_response({"deleted_count": deleted, "message": message})
