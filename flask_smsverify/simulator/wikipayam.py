"""WikiPayam as its web service page describes it: REST, a Bearer token, answers under `data`.

The page prints no errors; they are what Laravel, on which the service runs, answers: 401 with
`message`, 422 with `message` and `errors` by field. The answers to `otp/sms/send`, `sms/receive`,
`receives/statistics` and the Holoo call are not printed either and take the shape of their nearest
neighbour.
"""

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import wraps
from typing import ClassVar, Final

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from .bodies import Fields, as_whole, form_fields, json_answer, json_value, local_time, read_day
from .numbers import international, read_mobile, same_line
from .state import Account, Incoming, State, object_id
from .texts import call_script

MAX_LIMIT: Final = 500
PRICE: Final = 1_400.0
CALL_LINE: Final = "982191000000"
OTP_LINE: Final = "10002000"
SORT_FIELDS: Final = ("created_at", "sender", "message")

# The page knows WAITING_FOR_UPDATE alone; the others are our words for what must come after it.
STATUSES: Final[dict[State, str]] = {
    "queued": "WAITING_FOR_UPDATE",
    "sent": "WAITING_FOR_UPDATE",
    "delivered": "DELIVERED",
    "undelivered": "UNDELIVERED",
    "rejected": "REJECTED",
    "cancelled": "REJECTED",
}

Errors = dict[str, list[str]]


class WikiPayam:
    """The gateway at wikipayam.ir."""

    name: ClassVar[str] = "wikipayam"
    title: ClassVar[str] = "WikiPayam"
    hosts: ClassVar[tuple[str, ...]] = ("wikipayam.ir", "www.wikipayam.ir")
    folds_case: ClassVar[bool] = False
    preparations: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, account: Account) -> None:
        self.account = account

    def routes(self, blueprint: Blueprint) -> None:
        """The calls under `/api/v1`; all want the token."""
        calls: list[tuple[str, str, Callable[..., ResponseReturnValue]]] = [
            ("GET", "user/balance", self.balance),
            ("POST", "sms/send", self.send),
            ("POST", "sms/deliver", self.deliver),
            ("POST", "sms/receive", self.receive_old),
            ("POST", "otp/sms/send", self.send_otp),
            ("POST", "voice-otp/send", self.send_voice),
            ("GET", "receives", self.receives),
            ("DELETE", "receives", self.delete),
            ("GET", "receives/unread", self.unread),
            ("GET", "receives/unread/count", self.unread_count),
            ("GET", "receives/statistics", self.statistics),
            ("GET", "receives/<ref>", self.receive_one),
            ("POST", "receives/mark-read", self.mark_read),
        ]
        for method, path, view in calls:
            blueprint.add_url_rule(
                f"/api/v1/{path}", f"{method} {path}".replace(".", " "),
                self._for_token(view), methods=[method],
            )  # fmt: skip
        blueprint.add_url_rule(
            "/api/v1/service/holoo", "holoo", self.holoo, methods=["GET", "POST"]
        )

    def _for_token(self, view: Callable[..., ResponseReturnValue]) -> Callable[..., Response]:
        @wraps(view)
        def guarded(**values: str) -> Response:
            given = request.authorization
            token = given.token if given is not None and given.type == "bearer" else None
            if not self._is_good(token):
                return unauthenticated()
            answer = view(**values)
            if not isinstance(answer, Response):
                raise TypeError(f"{view.__name__} answers {type(answer).__name__}")
            return answer

        return guarded

    def _is_good(self, token: str | None) -> bool:
        return bool(token) and not self.account.strikes("bad_credentials")

    def balance(self) -> Response:
        """What is left, in rials."""
        left = int(self.account.left())
        return data({"balance": left, "currency": "IRR", "user_id": 1, "user_name": "simulator"})

    def send(self) -> Response:
        """Texts, each with its own line and receiver; `note` may stand for `message`."""
        rows = _rows()
        if rows is None:
            return invalid({"sms": ["The sms must be an array."]})
        errors: Errors = {}
        for place, row in enumerate(rows):
            _require(errors, row, place, "sender")
            _require_mobile(errors, row, place)
            if not row.text("message").strip() and not row.text("note").strip():
                _missing(errors, f"{place}.message")
        if problem := self._refused(errors, len(rows)):
            return problem
        late = self.account.strikes("late_delivery")
        return data([
            self._send(row, row.text("sender"), row.text("message") or row.text("note"), late)
            for row in rows
        ])  # fmt: skip

    def send_otp(self) -> Response:
        """Codes by a pattern that is kept with the gateway."""
        rows = _rows()
        if rows is None:
            return invalid({"otp": ["The otp must be an array."]})
        errors: Errors = {}
        for place, row in enumerate(rows):
            _require_mobile(errors, row, place)
            _require(errors, row, place, "code")
            if row.whole("otp_pattern_id") is None:
                _missing(errors, f"{place}.otp_pattern_id")
        if problem := self._refused(errors, len(rows)):
            return problem
        late = self.account.strikes("late_delivery")
        return data([
            self._send(row, OTP_LINE, _pattern(row), late, code=row.text("code")) for row in rows
        ])  # fmt: skip

    def send_voice(self) -> Response:
        """A call that reads the code out."""
        value = _json()
        row = Fields(value) if isinstance(value, dict) else Fields({})
        errors: Errors = {}
        for name in ("receiver", "code"):
            if not row.text(name):
                _missing(errors, name)
        if "receiver" not in errors and read_mobile(row.text("receiver")) is None:
            errors["receiver"] = ["The receiver format is invalid."]
        if problem := self._refused(errors, 1, field="receiver"):
            return problem
        message = self.account.send(
            ref=object_id(), sender=CALL_LINE, to=row.text("receiver"), channel="voice",
            text=call_script(row.text("code")), code=row.text("code"), price=PRICE,
        )  # fmt: skip
        return data(
            {
                "message": "Voice OTP queued successfully",
                "id": message.ref,
                "track_id": row.value("track_id"),
            }
        )

    def deliver(self) -> Response:
        """States by id. Unknown ids are left out and `track_id` is null, as in the sample."""
        value = _json()
        ids = Fields(value).texts("id") if isinstance(value, dict) else None
        if ids is None:
            return invalid({"id": ["The id field must be an array."]})
        found = [message for ref in ids if (message := self.account.message(ref))]
        return data([
            {
                "id": message.ref,
                "deliver_status": STATUSES[self.account.state_of(message)],
                "track_id": None,
            }
            for message in found
        ])  # fmt: skip

    def receive_old(self) -> Response:
        """The older way to received messages: all since a date."""
        value = _json()
        fields = Fields(value) if isinstance(value, dict) else Fields({})
        since = read_day(fields.text("from_date"))
        if since is None:
            return invalid({"from_date": ["The from date is not a valid date."]})
        return data([_received(m) for m in self.account.incoming() if m.at >= since])

    def receives(self) -> Response:
        """A page of received messages, filtered and sorted. `limit` and `offset` come back as
        the strings they were sent as."""
        fields = form_fields(request)
        window = Window.read(fields, default_limit="20")
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
            return invalid(errors)
        if status != "all":
            found = [message for message in found if message.read == (status == "read")]
        found.sort(key=_sort_key(sort_by), reverse=order == "desc")
        shown = window.cut(found)
        filters = {"status": status} | {
            name: fields.text(name)
            for name in ("sender", "from_date", "to_date", "search", "sort_by", "sort_order")
            if fields.text(name)
        }
        return data(
            {
                "receives": [_received(message) for message in shown],
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
        """A page of the unread messages."""
        fields = form_fields(request)
        window = Window.read(fields, default_limit="20")
        errors = dict(window.errors)
        found = [message for message in self._filtered(fields, errors) if not message.read]
        if errors:
            return invalid(errors)
        shown = window.cut(found)
        return data(
            {
                "total_unread": len(found),
                "receives": [_received(message) for message in shown],
                "pagination": {
                    "limit": window.limit,
                    "offset": window.offset,
                    "returned_count": len(shown),
                },
            }
        )

    def unread_count(self) -> Response:
        """How many are unread."""
        return data({"unread_count": sum(not m.read for m in self.account.incoming())})

    def statistics(self) -> Response:
        """How many were received, read and not, between two dates."""
        fields = form_fields(request)
        errors: Errors = {}
        found = self._filtered(fields, errors)
        if errors:
            return invalid(errors)
        read = sum(message.read for message in found)
        return data(
            {
                "total_receives": len(found),
                "read_count": read,
                "unread_count": len(found) - read,
                "from_date": fields.text("from_date") or None,
                "to_date": fields.text("to_date") or None,
            }
        )

    def receive_one(self, ref: str) -> Response:
        """One received message."""
        for message in self.account.incoming():
            if message.ref == ref:
                return data(_received(message))
        return laravel({"message": "Receive not found"}, 404)

    def mark_read(self) -> Response:
        """Mark some, or all, as read."""
        value = _json()
        fields = Fields(value) if isinstance(value, dict) else Fields({})
        if fields.value("mark_all") is True:
            everything = self.account.incoming()
            marked = self.account.mark_read(everything)
            return data({"marked_count": marked, "requested_count": len(everything)})
        refs = fields.texts("receive_ids")
        if not refs:
            return invalid({"receive_ids": ["The receive ids field is required."]})
        marked = self.account.mark_read(self._by_ref(refs))
        return data({"marked_count": marked, "requested_count": len(refs)})

    def delete(self) -> Response:
        """Delete some, all read, all unread, or all older than so many days."""
        value = _json()
        fields = Fields(value) if isinstance(value, dict) else Fields({})
        everything = self.account.incoming()
        if refs := fields.texts("receive_ids"):
            gone = self.account.forget_incoming(self._by_ref(refs))
            return data({"deleted_count": gone, "requested_count": len(refs)})
        if fields.value("delete_all_read") is True:
            gone = self.account.forget_incoming(m for m in everything if m.read)
            return _deleted(gone, "All read receives have been deleted")
        if fields.value("delete_all_unread") is True:
            gone = self.account.forget_incoming(m for m in everything if not m.read)
            return _deleted(gone, "All unread receives have been deleted")
        days = fields.whole("delete_older_than_days")
        if days is not None and 0 < days < 100_000:
            limit = self.account.now() - timedelta(days=days)
            gone = self.account.forget_incoming(m for m in everything if m.at < limit)
            return _deleted(gone, f"Receives older than {days} days have been deleted")
        return invalid({"receive_ids": ["The receive ids field is required."]})

    def holoo(self) -> Response:
        """The call of the Holoo accounting program. By GET its token stands in the URL; that is
        the gateway's design, and the reason not to use it."""
        value = _json() if request.method == "POST" else None
        fields = Fields(value) if isinstance(value, dict) else form_fields(request)
        if not fields.text("username") or not self._is_good(fields.text("password")):
            return unauthenticated()
        errors: Errors = {}
        for name in ("from", "to", "message"):
            if not fields.text(name):
                _missing(errors, name)
        if "to" not in errors and read_mobile(fields.text("to")) is None:
            errors["to"] = ["The to format is invalid."]
        if problem := self._refused(errors, 1, field="to"):
            return problem
        row = Fields({"receiver": fields.text("to"), "track_id": None})
        late = self.account.strikes("late_delivery")
        return data([self._send(row, fields.text("from"), fields.text("message"), late)])

    def _send(
        self, row: Fields, sender: str, text: str, late: bool, code: str | None = None
    ) -> dict[str, object]:
        message = self.account.send(
            ref=object_id(), sender=sender, to=row.text("receiver"), text=text, code=code,
            price=PRICE, late=late,
        )  # fmt: skip
        return {
            "id": message.ref,
            "sender": sender,
            "receiver": row.text("receiver"),
            "track_id": row.value("track_id"),
        }

    def _refused(
        self, errors: Errors, recipients: int, field: str = "0.receiver"
    ) -> Response | None:
        """Why nothing is sent, or None."""
        if errors:
            return invalid(errors)
        if self.account.strikes("refuse"):
            return invalid({field: [f"The {field} is on the black list."]})
        if not self.account.can_pay(PRICE * recipients):
            return laravel({"message": "Insufficient balance."}, 402)
        return None

    def _filtered(self, fields: Fields, errors: Errors) -> list[Incoming]:
        """Received messages by `sender`, `from_date`, `to_date` and `search`, newest first."""
        found = self.account.incoming()
        if sender := fields.text("sender"):
            found = [message for message in found if same_line(message.sender, sender)]
        if search := fields.text("search"):
            found = [message for message in found if search.casefold() in message.text.casefold()]
        if fields.text("from_date"):
            since = read_day(fields.text("from_date"))
            if since is None:
                errors["from_date"] = ["The from date is not a valid date."]
            else:
                found = [message for message in found if message.at >= since]
        if fields.text("to_date"):
            until = _end_of(fields.text("to_date"))
            if until is None:
                errors["to_date"] = ["The to date is not a valid date."]
            else:
                found = [message for message in found if message.at < until]
        return found

    def _by_ref(self, refs: list[str]) -> list[Incoming]:
        return [message for message in self.account.incoming() if message.ref in refs]


class Window:
    """`limit` (at most 500) and `offset` of a list, kept as the text they came as."""

    def __init__(self, limit: str, offset: str, errors: Errors) -> None:
        self.limit = limit
        self.offset = offset
        self.errors = errors

    @classmethod
    def read(cls, fields: Fields, default_limit: str) -> "Window":
        """From the query, with what is wrong with it."""
        errors: Errors = {}
        limit = fields.text("limit") or default_limit
        offset = fields.text("offset") or "0"
        if not 1 <= (as_whole(limit) or 0) <= MAX_LIMIT:
            errors["limit"] = [f"The limit must be between 1 and {MAX_LIMIT}."]
        if (whole := as_whole(offset)) is None or whole < 0:
            errors["offset"] = ["The offset must be at least 0."]
        return cls(limit, offset, errors)

    def cut(self, found: list[Incoming]) -> list[Incoming]:
        """The part of the list that is asked for."""
        return found[int(self.offset) : int(self.offset) + int(self.limit)]


def data(value: object) -> Response:
    """`{"data": …}`."""
    return laravel({"data": value}, 200)


def laravel(value: object, status: int) -> Response:
    """A JSON answer with Laravel's Content-Type."""
    return json_answer(value, status, content_type="application/json")


def unauthenticated() -> Response:
    """Laravel's answer to a missing or wrong token."""
    return laravel({"message": "Unauthenticated."}, 401)


def invalid(errors: Errors) -> Response:
    """Laravel's answer to a body that does not validate."""
    texts = [text for each in errors.values() for text in each]
    more = len(texts) - 1
    counted = f" (and {more} more error{'s' if more > 1 else ''})" if more else ""
    return laravel({"message": texts[0] + counted, "errors": errors}, 422)


def _json() -> object:
    try:
        return json_value(request)
    except ValueError:
        return None


def _rows() -> list[Fields] | None:
    value = _json()
    if not isinstance(value, list) or not value:
        return None
    return [Fields(row) if isinstance(row, dict) else Fields({}) for row in value]


def _missing(errors: Errors, field: str) -> None:
    errors[field] = [f"The {field} field is required."]


def _require(errors: Errors, row: Fields, place: int, name: str) -> None:
    if not row.text(name).strip():
        _missing(errors, f"{place}.{name}")


def _require_mobile(errors: Errors, row: Fields, place: int) -> None:
    _require(errors, row, place, "receiver")
    field = f"{place}.receiver"
    if field not in errors and read_mobile(row.text("receiver")) is None:
        errors[field] = [f"The {field} format is invalid."]


def _pattern(row: Fields) -> str:
    """A pattern's text. The real ones are written in the panel; this one says which it is."""
    return f"کد تأیید شما: {row.text('code')}\n(الگوی {row.text('otp_pattern_id')})"


def _received(message: Incoming) -> dict[str, object]:
    return {
        "id": message.ref,
        "sender": international(message.sender),
        "receiver": message.line,
        "message": message.text,
        "received_at": local_time(message.at),
    }


def _sort_key(sort_by: str) -> Callable[[Incoming], str]:
    if sort_by == "sender":
        return lambda message: message.sender
    if sort_by == "message":
        return lambda message: message.text
    return lambda message: message.at.isoformat()


def _end_of(text: str) -> datetime | None:
    """The moment up to which a `to_date` reaches: a day without a time is included."""
    moment = read_day(text)
    if moment is None:
        return None
    return moment + (timedelta(days=1) if len(text) <= len("2024-01-01") else timedelta(seconds=1))


def _deleted(gone: int, message: str) -> Response:
    return data({"deleted_count": gone, "message": message})
