"""WikiPayam's calls, by the vendor's page "web services" (wikipayam.ir, API v1).

The API uses JSON and a bearer token, and answers are under `data`. The page shows no errors. The
service is written in Laravel, so this module reads Laravel's errors: 401 and 429 with `message`,
and 422 with `errors` by field.

Sends by GET ("Legacy Query Params" and Holoo's GET) are not supported, because they put the token
into the URL, and URLs are written to access logs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Literal
from urllib.parse import quote

from ...errors import (
    ConfigurationError,
    Misconfigured,
    Rejected,
    SenderError,
    TextRefused,
    Unavailable,
    Unknown,
)
from ...secret import Secret
from ..base import DeliveryState, KnownError
from ..convert import map_state, redact_reason, scalar_text, to_e164, to_national
from ..http import MAX_ANSWER_BYTES, Answer, HttpTransport

BASE_URL = "https://wikipayam.ir/api/v1"

#: The most entries of one page of `receives`, by the vendor's page.
MAX_LIMIT = 500

#: The most bytes of a page of `receives`. An entry has a text of several parts, and JSON may write
#: a Persian letter as six bytes.
MAX_PAGE_BYTES = 8 * 2**20

#: The most pages of received texts to request, in case the answers have no end.
MAX_PAGES = 10_000

#: The page's times have no zone. WikiPayam is in Iran, which has had no daylight saving time since
#: September 2022.
TEHRAN = timezone(timedelta(hours=3, minutes=30))

# --- states: wikipayam.ir, "delivery state" (sms/deliver) ----------------------------------------

#: The page shows only the first. The others are likely words for the other states.
DELIVER_STATES: Mapping[object, DeliveryState] = {
    "WAITING_FOR_UPDATE": DeliveryState.SENT,
    "QUEUED": DeliveryState.QUEUED,
    "PENDING": DeliveryState.QUEUED,
    "SENT": DeliveryState.SENT,
    "DELIVERED": DeliveryState.DELIVERED,
    "UNDELIVERED": DeliveryState.UNDELIVERED,
    "FAILED": DeliveryState.UNDELIVERED,
    "REJECTED": DeliveryState.REJECTED,
}

# --- errors: what Laravel answers to an invalid request ------------------------------------------

#: The fields of a request that come from the message. The others come from the sender's options.
MESSAGE_FIELDS = frozenset({"receiver", "to", "message", "note", "code"})
_TEXT_FIELDS = frozenset({"message", "note"})

_NO_MESSAGE = KnownError(Rejected, "there is no message with this id", "Check the id.")
_NO_CALL = KnownError(Misconfigured, "base_url has no such call", "Check the option base_url.")


class EntriesRefused(Rejected):
    """A 422 that names the refused entries of a request.

    :ivar positions: the refused entries, counted from 0.
    """

    positions: frozenset[int] = frozenset()


class TextsRefused(TextRefused):
    """A 422 that names entries of which only the text is refused.

    :ivar positions: the refused entries, counted from 0.
    """

    positions: frozenset[int] = frozenset()


# --- values --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OutgoingText:
    """An entry of `sms/send`.

    :param receiver: E.164.
    :param track_id: the caller's id.
    :param as_note: send the text under the field `note`, which the service also accepts.
    :param sender: the line; the option `line` by default.
    """

    receiver: str = field(repr=False)
    message: str = field(repr=False)
    track_id: str
    as_note: bool = False
    sender: str = ""


@dataclass(frozen=True, slots=True)
class OutgoingCode:
    """An entry of `otp/sms/send`.

    :param receiver: E.164.
    :param track_id: the caller's id.
    :param otp_pattern_id: the option of that name by default.
    """

    receiver: str = field(repr=False)
    code: str = field(repr=False)
    track_id: str
    otp_pattern_id: int | None = None


@dataclass(frozen=True, slots=True)
class AcceptedMessage:
    """A message that the service accepted.

    :param id: the service's id.
    :param receiver: E.164 for a mobile; `""` if the answer has none.
    :param track_id: the caller's id; `""` if the answer has none.
    """

    id: str
    sender: str
    receiver: str = field(repr=False)
    track_id: str


@dataclass(frozen=True, slots=True)
class QueuedCall:
    """A phone call that the service queued.

    :param id: the service's id.
    :param message: the service's sentence, "Voice OTP queued successfully" on the vendor's page;
        `""` if the answer has none.
    :param track_id: the caller's id; `""` if the answer has none.
    """

    id: str
    message: str
    track_id: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """The state of a message.

    :param deliver_status: the service's word.
    :param track_id: the caller's id; `""` if the answer has none.
    """

    id: str
    status: DeliveryState
    deliver_status: str
    track_id: str


@dataclass(frozen=True, slots=True)
class Balance:
    """The credit of the account.

    :param currency: `"IRR"` on the vendor's page; None if the answer has none.
    """

    amount: Decimal
    currency: str | None
    user_id: int | None
    user_name: str


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A text from a phone.

    :param sender: the phone: E.164 for a mobile, else as the service gave it.
    :param receiver: the line.
    :param received_at: aware, UTC, from a time that is read as Tehran's; None if it cannot be
        read.
    """

    id: str
    sender: str = field(repr=False)
    receiver: str
    message: str = field(repr=False)
    received_at: datetime | None


@dataclass(frozen=True, slots=True)
class Pagination:
    """The position of a page in the list of received texts. A member is None if it is missing.

    :param total: the number of texts on all pages.
    :param limit: the most texts of a page, which the service returns as text.
    :param offset: the number of texts before the page, likewise.
    :param returned_count: the number of texts of this page.
    :param total_pages: the number of pages.
    """

    total: int | None = None
    limit: int | None = None
    offset: int | None = None
    returned_count: int | None = None
    total_pages: int | None = None


@dataclass(frozen=True, slots=True)
class ReceivedPage:
    """A page of received texts.

    :param pagination: the position of the page in the list.
    :param filters: the filters that the service applied, as it gave them, such as `status`.
    :param total_unread: the number of unread texts, in a page of unread texts; else None.
    """

    messages: tuple[ReceivedMessage, ...]
    pagination: Pagination = Pagination()
    filters: Mapping[str, object] = field(default_factory=dict, repr=False)
    total_unread: int | None = None

    @property
    def total(self) -> int | None:
        """The number of texts on all pages; None if the answer does not say."""
        total = self.pagination.total
        return self.total_unread if total is None else total


@dataclass(frozen=True, slots=True)
class Marked:
    """The result of marking received texts as read.

    :param requested: the number of texts in the request; None if the answer does not say.
    """

    marked: int
    requested: int | None


@dataclass(frozen=True, slots=True)
class Deleted:
    """The result of deleting received texts.

    :param requested: the number of texts in the request; None if the answer does not say.
    :param message: the service's sentence, such as "All read receives have been deleted"; `""`
        where the answer has none.
    """

    deleted: int
    requested: int | None
    message: str = ""


class WikiPayamClient:
    """The calls of WikiPayam's web service.

    :param line: the number that texts are sent from.
    :param otp_pattern_id: the pattern of codes by SMS.
    """

    def __init__(
        self, http: HttpTransport, *, token: str, line: str, otp_pattern_id: int | None
    ) -> None:
        self._http = http
        self._sender = http.sender
        self._token = token
        self._headers = {
            "Authorization": Secret(f"Bearer {token}"),
            "Accept": "application/json",
        }
        self._line = line
        self._otp_pattern_id = otp_pattern_id

    def __repr__(self) -> str:
        return f"<WikiPayamClient of {self._sender.name!r}>"

    # --- sending ---------------------------------------------------------------------------------

    def send(self, texts: Sequence[OutgoingText]) -> list[AcceptedMessage]:
        """Send texts: POST sms/send.

        :returns: an entry for each text that the answer lists. It may omit some.
        :raises EntriesRefused: the service refuses some entries; nothing was sent.
        :raises TextsRefused: the same, and only their texts are the cause.
        """
        body = [
            {
                "sender": text.sender or self._line,
                "receiver": to_national(text.receiver),
                "note" if text.as_note else "message": text.message,
                "track_id": text.track_id,
            }
            for text in texts
        ]
        sent = [value for text in texts for value in (text.receiver, text.message)]
        return self._read_accepted(self._call("POST", "/sms/send", body, sent=sent))

    def send_otp(self, codes: Sequence[OutgoingCode]) -> list[AcceptedMessage]:
        """Send codes by a pattern: POST otp/sms/send.

        The vendor's page shows no answer. It is read like the answer of `sms/send`, or like one
        entry of it.
        """
        body = [
            {
                "receiver": to_national(code.receiver),
                "code": code.code,
                "otp_pattern_id": (
                    self._otp_pattern_id if code.otp_pattern_id is None else code.otp_pattern_id
                ),
                "track_id": code.track_id,
            }
            for code in codes
        ]
        sent = [value for code in codes for value in (code.receiver, code.code)]
        return self._read_accepted(self._call("POST", "/otp/sms/send", body, sent=sent))

    def send_voice_otp(self, receiver: str, code: str, track_id: str = "") -> QueuedCall:
        """Call a phone and read a code out: POST voice-otp/send.

        :param receiver: E.164.
        :param track_id: the caller's id; omitted if empty.
        """
        body = {"receiver": to_national(receiver), "code": code}
        if track_id:
            body["track_id"] = track_id
        data = self._call("POST", "/voice-otp/send", body, sent=(receiver, code))
        accepted = self._read_one_accepted(data)
        [row] = [data] if isinstance(data, dict) else self._read_rows(data)
        return QueuedCall(accepted.id, scalar_text(row.get("message")), accepted.track_id)

    def send_holoo(self, username: str, receiver: str, message: str) -> AcceptedMessage:
        """Send a text as the accounting software Holoo does: POST service/holoo.

        The password is the token, so the GET on the vendor's page is not supported, see the top of
        this module. The page shows no answer. It is read like an entry of `sms/send`.

        :param receiver: E.164.
        """
        body = {
            "username": username,
            "password": self._token,
            "from": self._line,
            "to": to_national(receiver),
            "message": message,
        }
        sent = (username, receiver, message)
        return self._read_one_accepted(self._call("POST", "/service/holoo", body, sent=sent))

    # --- states and the account ------------------------------------------------------------------

    def deliver(self, ids: Sequence[str]) -> list[Delivery]:
        """Return the states of messages: POST sms/deliver.

        :returns: an entry for each message that the answer lists. It may omit some.
        """
        rows = self._read_rows(self._call("POST", "/sms/deliver", {"id": list(ids)}))
        return [
            Delivery(
                scalar_text(row.get("id")),
                map_state(DELIVER_STATES, row.get("deliver_status"), gateway=self._sender.name),
                scalar_text(row.get("deliver_status")),
                scalar_text(row.get("track_id")),
            )
            for row in rows
        ]

    def get_balance(self) -> Balance:
        """Return the credit of the account: GET user/balance."""
        data = self._read_fields(self._call("GET", "/user/balance"))
        amount = data.get("balance")
        text = str(amount) if isinstance(amount, int | float | str) else ""
        if isinstance(amount, bool) or not re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,9})?", text):
            raise self._make_unreadable("a balance")
        return Balance(
            Decimal(text),
            scalar_text(data.get("currency")) or None,
            _read_number(data.get("user_id")),
            scalar_text(data.get("user_name")),
        )

    # --- received texts --------------------------------------------------------------------------

    def receive(self, from_date: date) -> list[Mapping[str, object]]:
        """Return received texts by the older call: POST sms/receive.

        :returns: the entries unchanged, because the vendor's page shows none.
        """
        body = {"from_date": _format_day(from_date)}
        data = self._call("POST", "/sms/receive", body, max_bytes=MAX_PAGE_BYTES)
        return [*self._read_rows(data)]

    def get_receives(
        self,
        *,
        limit: int = 20,
        offset: int = 0,
        status: Literal["all", "read", "unread"] = "all",
        sender: str = "",
        from_date: date | None = None,
        to_date: date | None = None,
        search: str = "",
        sort_by: Literal["created_at", "sender", "message"] | None = None,
        sort_order: Literal["asc", "desc"] | None = None,
    ) -> ReceivedPage:
        """Return a page of received texts: GET receives.

        :param limit: 1 to `MAX_LIMIT`.
        :param sender: E.164, or a number as the service writes it.
        """
        params = self._make_page(limit, offset) | {"status": status}
        params |= _without_empty(
            sender=_format_number(sender),
            from_date=_format_day(from_date),
            to_date=_format_day(to_date),
            search=search,
            sort_by=sort_by,
            sort_order=sort_order,
        )
        return self._read_page(
            self._call("GET", "/receives", params=params, max_bytes=MAX_PAGE_BYTES)
        )

    def iter_receives(self, *, from_date: date) -> Iterator[ReceivedMessage]:
        """Yield the received texts since a day, oldest first: GET receives.

        Pages are requested when the iteration reaches them. In this order a new text does not move
        the texts between pages.
        """
        offset = 0
        last: tuple[ReceivedMessage, ...] = ()
        for _ in range(MAX_PAGES):
            page = self.get_receives(
                limit=MAX_LIMIT,
                offset=offset,
                from_date=from_date,
                sort_by="created_at",
                sort_order="asc",
            )
            if page.messages and page.messages == last:
                raise self._sender.make_error(Unknown, "two pages of the answer are the same")
            yield from page.messages
            offset, last = offset + len(page.messages), page.messages
            if not page.messages or (page.total is not None and offset >= page.total):
                return

    def get_unread(
        self,
        *,
        limit: int = 20,
        offset: int = 0,
        sender: str = "",
        from_date: date | None = None,
        to_date: date | None = None,
    ) -> ReceivedPage:
        """Return a page of unread texts: GET receives/unread.

        :param limit: 1 to `MAX_LIMIT`.
        """
        params = self._make_page(limit, offset)
        params |= _without_empty(
            sender=_format_number(sender),
            from_date=_format_day(from_date),
            to_date=_format_day(to_date),
        )
        return self._read_page(
            self._call("GET", "/receives/unread", params=params, max_bytes=MAX_PAGE_BYTES)
        )

    def get_unread_count(self) -> int:
        """Return the number of unread texts: GET receives/unread/count."""
        return self._read_count(self._call("GET", "/receives/unread/count"), "unread_count")

    def get_statistics(
        self, *, from_date: date | None = None, to_date: date | None = None
    ) -> Mapping[str, object]:
        """Return statistics of received texts: GET receives/statistics.

        :returns: the fields unchanged, because the vendor's page shows none.
        """
        params = _without_empty(from_date=_format_day(from_date), to_date=_format_day(to_date))
        return self._read_fields(self._call("GET", "/receives/statistics", params=params))

    def get_received(self, receive_id: str) -> ReceivedMessage:
        """Return one received text: GET receives/{id}.

        :raises Rejected: there is no text with this id.
        """
        row = self._read_fields(
            self._call("GET", f"/receives/{quote(receive_id, safe='')}", is_by_id=True)
        )
        [message] = self._read_received([row])
        return message

    def mark_read(self, ids: Sequence[str]) -> Marked:
        """Mark received texts as read: POST receives/mark-read."""
        return self._mark({"receive_ids": list(ids)})

    def mark_all_read(self) -> Marked:
        """Mark all received texts as read: POST receives/mark-read."""
        return self._mark({"mark_all": True})

    def delete_receives(self, ids: Sequence[str]) -> Deleted:
        """Delete received texts: DELETE receives."""
        return self._delete({"receive_ids": list(ids)})

    def delete_all_read(self) -> Deleted:
        """Delete all received texts that are read: DELETE receives."""
        return self._delete({"delete_all_read": True})

    def delete_all_unread(self) -> Deleted:
        """Delete all received texts that are unread: DELETE receives."""
        return self._delete({"delete_all_unread": True})

    def delete_older_than(self, days: int) -> Deleted:
        """Delete old received texts: DELETE receives.

        :param days: the least age of the texts, at least 1.
        """
        if days < 1:
            raise ConfigurationError(f"{self._sender.name}: days must be at least 1")
        return self._delete({"delete_older_than_days": days})

    def _mark(self, body: Mapping[str, object]) -> Marked:
        data = self._call("POST", "/receives/mark-read", body)
        requested = _read_number(self._read_fields(data).get("requested_count"))
        return Marked(self._read_count(data, "marked_count"), requested)

    def _delete(self, body: Mapping[str, object]) -> Deleted:
        data = self._read_fields(self._call("DELETE", "/receives", body))
        return Deleted(
            self._read_count(data, "deleted_count"),
            _read_number(data.get("requested_count")),
            scalar_text(data.get("message")),
        )

    # --- writing ---------------------------------------------------------------------------------

    def _call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, str] | None = None,
        sent: Sequence[str] = (),
        is_by_id: bool = False,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> object:
        """Make a call and return the `data` of its answer.

        :param sent: texts of the request that an error's reason must not repeat.
        :param is_by_id: whether the path ends in an id. A 404 then means that it does not exist.
        """
        answer = self._http.request(
            method, path, json=body, params=params, headers=self._headers, max_bytes=max_bytes
        )
        answer.raise_for_service_error()
        try:
            parsed = answer.json()
        except Unknown:
            parsed = None
        if not isinstance(parsed, dict):
            answer.raise_for_wrong_url()
            answer.raise_for_refusal()
            answer.raise_unreadable("an object with data")
        if not 200 <= answer.status < 300:
            self._raise_for_status(answer, parsed, [*sent, self._token], is_by_id=is_by_id)
        if "data" not in parsed:
            answer.raise_unreadable("an object with data")
        return parsed["data"]

    def _make_page(self, limit: int, offset: int) -> dict[str, str]:
        if not 1 <= limit <= MAX_LIMIT or offset < 0:
            raise ConfigurationError(
                f"{self._sender.name}: limit must be 1 to {MAX_LIMIT}, and offset 0 or more"
            )
        return {"limit": str(limit), "offset": str(offset)}

    # --- reading ---------------------------------------------------------------------------------

    def _raise_for_status(
        self, answer: Answer, body: Mapping[str, object], sent: Sequence[str], *, is_by_id: bool
    ) -> None:
        """Raise for a status that is not about the service or the account."""
        code = answer.status
        if code == 422:
            raise self._make_validation_error(body)
        if code in (404, 405):
            not_found = _NO_MESSAGE if code == 404 and is_by_id else _NO_CALL
            raise self._sender.make_known_error(not_found, code=code)
        reason = redact_reason(body.get("message") or "", sent=sent)
        # A 4xx means that the request was refused, unless the answer also has a result.
        is_refusal = 400 <= code < 500 and not body.get("data")
        raise self._sender.make_error(
            Unavailable if is_refusal else Unknown,
            f"the gateway refused the request: {reason}" if is_refusal else reason,
            code=str(code),
        )

    def _make_validation_error(self, body: Mapping[str, object]) -> SenderError:
        """Return the error of a 422, by the refused fields.

        `1.receiver` or `data.1.receiver` is a field of the second entry.
        """
        errors = body.get("errors")
        paths = [str(name).split(".") for name in errors] if isinstance(errors, dict) else []
        names = {path[-1] for path in paths}
        shown = sorted(name for name in names if re.fullmatch(r"[a-z_]{1,30}", name))
        reason = "the gateway refuses " + (", ".join(shown[:5]) or "the request")
        if names - MESSAGE_FIELDS:
            return self._sender.make_error(Misconfigured, reason, code="422")
        positions = [
            [int(part) for part in path if re.fullmatch(r"[0-9]{1,5}", part)] for path in paths
        ]
        is_about_text = bool(names) and names <= _TEXT_FIELDS
        if not all(positions) or not positions:
            whole = TextRefused if is_about_text else Rejected
            return self._sender.make_error(whole, reason, code="422")
        refused: EntriesRefused | TextsRefused = (
            self._sender.make_error(TextsRefused, reason, code="422")
            if is_about_text
            else self._sender.make_error(EntriesRefused, reason, code="422")
        )
        refused.positions = frozenset(position[0] for position in positions)
        return refused

    def _read_accepted(self, data: object) -> list[AcceptedMessage]:
        """Return the entries with an id. A single entry may be outside a list."""
        rows = [data] if isinstance(data, dict) else self._read_rows(data)
        return [
            AcceptedMessage(
                id_,
                scalar_text(row.get("sender")),
                to_e164(scalar_text(row.get("receiver"))),
                scalar_text(row.get("track_id")),
            )
            for row in rows
            if (id_ := scalar_text(row.get("id"))) not in ("", "0") and not id_.startswith("-")
        ]

    def _read_one_accepted(self, data: object) -> AcceptedMessage:
        accepted = self._read_accepted(data)
        if len(accepted) != 1:
            raise self._make_unreadable("one message's id")
        return accepted[0]

    def _read_page(self, data: object) -> ReceivedPage:
        fields = self._read_fields(data)
        given, filters = fields.get("pagination"), fields.get("filters")
        pagination = given if isinstance(given, dict) else {}
        return ReceivedPage(
            tuple(self._read_received(self._read_rows(fields.get("receives")))),
            Pagination(
                total=_read_number(pagination.get("total")),
                limit=_read_number(pagination.get("limit")),
                offset=_read_number(pagination.get("offset")),
                returned_count=_read_number(pagination.get("returned_count")),
                total_pages=_read_number(pagination.get("total_pages")),
            ),
            filters if isinstance(filters, dict) else {},
            _read_number(fields.get("total_unread")),
        )

    def _read_received(self, rows: Sequence[Mapping[str, object]]) -> Iterator[ReceivedMessage]:
        for row in rows:
            if not (id_ := scalar_text(row.get("id"))):
                raise self._make_unreadable("a received message's id")
            text = row.get("message")
            yield ReceivedMessage(
                id_,
                to_e164(scalar_text(row.get("sender"))),
                scalar_text(row.get("receiver")),
                text if isinstance(text, str) else scalar_text(text),
                _read_time(row.get("received_at")),
            )

    def _read_fields(self, value: object) -> dict[str, object]:
        if not isinstance(value, dict):
            raise self._make_unreadable("an object")
        return value

    def _read_rows(self, value: object) -> list[dict[str, object]]:
        if not isinstance(value, list):
            raise self._make_unreadable("a list")
        return [row for row in value if isinstance(row, dict)]

    def _read_count(self, data: object, name: str) -> int:
        count = _read_number(self._read_fields(data).get(name))
        if count is None:
            raise self._make_unreadable(f"a number as {name}")
        return count

    def _make_unreadable(self, expected: str) -> Unknown:
        return self._sender.make_error(Unknown, f"expected {expected} in data")


def _format_number(number: str) -> str:
    return to_national(number) if number.startswith("+") else number


def _format_day(day: date | None) -> str | None:
    return None if day is None else f"{day:%Y-%m-%d}"


def _without_empty(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def _read_number(value: object) -> int | None:
    """Return a whole number or a string of digits as a number. The service uses both."""
    if type(value) is int:
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        return int(value)
    return None


def _read_time(value: object) -> datetime | None:
    """Return `2023-09-24 23:55:20`, with or without a time zone, in UTC."""
    try:
        moment = datetime.fromisoformat(scalar_text(value))
        return (moment if moment.tzinfo else moment.replace(tzinfo=TEHRAN)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
