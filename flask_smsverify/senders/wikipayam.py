"""WikiPayam: texts, codes by SMS and by a call, delivery states, received messages.

Everything here follows the vendor's page "web services of WikiPayam" (wikipayam.ir, API v1): JSON,
a bearer token, answers under `data`. The page prints no error; what is read here is what Laravel,
which the service is written in, answers: 401 and 429 with `message`, 422 with `errors` by field.

The ids in `Receipt.id`, as `statuses` takes them: what `sms/send` and `otp/sms/send` gave, as it
came; and `voice:<id>` for a call, about which the page has nothing to ask.

Left out: sending by GET with everything in the URL, the page's "Legacy Query Params" and Holoo's
GET. A URL with a token in it ends up in every access log on the way.
"""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Literal
from urllib.parse import quote

import httpx

from ..errors import ConfigurationError, Misconfigured, Rejected, SenderError, Unknown
from .base import (
    Capability,
    CodeMessage,
    Credit,
    Incoming,
    Receipt,
    Sender,
    Status,
    Text,
    credential,
    e164,
    lost,
    national,
    safe_reason,
    status_of,
)
from .http import DEFAULT_TIMEOUT, Answer, HttpTransport, Timeout

BASE_URL = "https://wikipayam.ir/api/v1"

# --- its states: wikipayam.ir, "delivery state" (sms/deliver) ------------------------------------

#: The page prints the first alone. The others are its like in plain words, taken at their meaning.
DELIVER_STATUS: Mapping[object, Status] = {
    "WAITING_FOR_UPDATE": Status.SENT,
    "QUEUED": Status.QUEUED,
    "PENDING": Status.QUEUED,
    "SENT": Status.SENT,
    "DELIVERED": Status.DELIVERED,
    "UNDELIVERED": Status.UNDELIVERED,
    "FAILED": Status.UNDELIVERED,
    "REJECTED": Status.REJECTED,
}

#: Fields of a request that come from the message. Every other is made of our options.
MESSAGE_FIELDS = frozenset({"receiver", "to", "message", "note", "code"})

#: The most records of one page of `receives`, by the vendor's page.
MAX_LIMIT = 500

#: More pages of received messages than this are not believed.
MAX_PAGES = 10_000

#: The page's times have no zone. The service and its customers are in Iran, without DST since 2022.
TEHRAN = timezone(timedelta(hours=3, minutes=30))

# --- what its calls take and give ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OutgoingText:
    """One entry of `sms/send`.

    :param receiver: E.164.
    :param track_id: our own id of it.
    :param as_note: send the text under the other name that the service takes, `note`.
    :param sender: the line; the option `line` unless given.
    """

    receiver: str = field(repr=False)
    message: str = field(repr=False)
    track_id: str
    as_note: bool = False
    sender: str = ""


@dataclass(frozen=True, slots=True)
class OutgoingCode:
    """One entry of `otp/sms/send`.

    :param receiver: E.164.
    :param otp_pattern_id: the option of that name unless given.
    """

    receiver: str = field(repr=False)
    code: str = field(repr=False)
    track_id: str
    otp_pattern_id: int | None = None


@dataclass(frozen=True, slots=True)
class SentText:
    """What the service took.

    :param id: the service's.
    :param receiver: E.164 where it is a mobile, `""` where the answer has none.
    :param track_id: ours, `""` where the answer has none.
    """

    id: str
    sender: str
    receiver: str = field(repr=False)
    track_id: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where a message is.

    :param deliver_status: in the service's own word.
    :param track_id: ours, `""` where the answer has none.
    """

    id: str
    status: Status
    deliver_status: str
    track_id: str


@dataclass(frozen=True, slots=True)
class Balance:
    """What is left on the account.

    :param currency: `"IRR"` on the vendor's page; None where the answer has none.
    """

    amount: Decimal
    currency: str | None
    user_id: int | None
    user_name: str


@dataclass(frozen=True, slots=True)
class Received:
    """A text from a phone.

    :param sender: E.164 where it is a mobile, else as the service gave it.
    :param received_at: aware, UTC, the service's clock being taken for Tehran's; None where it is
        not readable.
    """

    id: str
    sender: str = field(repr=False)
    receiver: str
    message: str = field(repr=False)
    received_at: datetime | None


@dataclass(frozen=True, slots=True)
class ReceivedPage:
    """Some of the received messages.

    :param total: how many there are in all; None where the answer does not say.
    """

    messages: tuple[Received, ...]
    total: int | None


@dataclass(frozen=True, slots=True)
class Marked:
    """How many received messages were marked as read.

    :param requested: how many were asked for; None where the answer does not say.
    """

    marked: int
    requested: int | None


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many received messages were deleted.

    :param requested: how many were asked for; None where the answer does not say.
    """

    deleted: int
    requested: int | None


class WikiPayam(Sender):
    """One account at WikiPayam.

    :param line: the number that texts are sent from; without it there are no ordinary texts.
    :param otp_pattern_id: the pattern that codes by SMS are sent with. Without it they go as
        ordinary texts, where there is a line.
    :param base_url: `https://wikipayam.ir/api/v1` unless given.
    :param client: an httpx client of one's own.
    :raises ConfigurationError: an option that cannot work.
    """

    gateway = "wikipayam"
    #: The page says "one or many" and no number.
    batch_limit = 100

    def __init__(
        self,
        *,
        token: str | int,
        line: str | int = "",
        otp_pattern_id: str | int | None = None,
        base_url: str = BASE_URL,
        timeout: Timeout | tuple[float, float, float] = DEFAULT_TIMEOUT,
        allow_http: bool = False,
        client: httpx.Client | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self._token = credential(self.name, "token", token)
        if not re.fullmatch(r"[!-~]+", self._token):
            raise ConfigurationError(
                f"{self.name}: the option 'token' may hold ASCII signs only, and no spaces"
            )
        self._headers = {
            "Authorization": f"Bearer {self._token}",
            "Accept": "application/json",
        }
        self.line = "" if line == "" else credential(self.name, "line", line)
        self.otp_pattern_id: int | None = None
        if otp_pattern_id not in (None, ""):
            pattern = credential(self.name, "otp_pattern_id", otp_pattern_id)
            if not re.fullmatch(r"[0-9]{1,15}", pattern):
                raise ConfigurationError(f"{self.name}: otp_pattern_id must be a whole number")
            self.otp_pattern_id = int(pattern)
        self._http = HttpTransport(
            self.name, base_url, timeout=timeout, allow_http=allow_http, client=client
        )

    @property
    def capabilities(self) -> frozenset[Capability]:
        can = {
            Capability.CODE_VOICE,
            Capability.CREDIT,
            Capability.STATUS,
            Capability.INCOMING,
        }
        if self.line:
            can |= {Capability.TEXT, Capability.CODE_SMS}
        if self.otp_pattern_id is not None:
            can.add(Capability.CODE_SMS)
        return frozenset(can)

    def close(self) -> None:
        self._http.close()

    # --- what every sender does --------------------------------------------------------------

    def _send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        if not self.line:
            raise self._unable("ordinary texts without the option 'line'")
        try:
            return self._send_texts(batch)
        except EntriesRefused as refused:
            bad = refused.places
            if not bad or not all(0 <= place < len(batch) for place in bad):
                raise
            plain = Rejected(self.name, refused.reason, code=refused.code)
            errors = {place: lost([batch[place]], plain)[0] for place in bad}
        # Laravel checks a whole request before it does any of it: nothing has gone out, and the
        # other recipients are not to suffer for these.
        good = [text for place, text in enumerate(batch) if place not in errors]
        try:
            rest = iter(self._send_texts(good) if good else [])
        except SenderError as error:
            rest = iter(lost(good, error))
        return [errors.get(place) or next(rest) for place in range(len(batch))]

    def _send_texts(self, batch: Sequence[Text]) -> list[Receipt]:
        tracks = _tracks([text.reference for text in batch])
        sent = self.send(
            [
                OutgoingText(text.to, text.text, track)
                for text, track in zip(batch, tracks, strict=True)
            ]
        )
        found = _matched(
            sent, [(track, text.to) for text, track in zip(batch, tracks, strict=True)]
        )
        return [
            Receipt(text.to, Status.QUEUED, one.id, reference=text.reference)
            if one is not None
            else lost([text], Unknown(self.name, "its answer leaves this recipient out"))[0]
            for text, one in zip(batch, found, strict=True)
        ]

    def send_code(self, message: CodeMessage) -> Receipt:
        """Bring a code of ours: by a call, by the OTP pattern, or as an ordinary text.

        A pattern and a call take the code alone, and their words are the vendor's own.
        """
        if message.channel == "voice":
            answer = self.send_voice_otp(message.to, message.code, message.reference)
            return Receipt(
                message.to, Status.QUEUED, f"voice:{answer.id}", reference=message.reference
            )
        if self.otp_pattern_id is None:
            return self.send_text(message.to, message.text, reference=message.reference)
        [track] = _tracks([message.reference])
        [found] = _matched(
            self.send_otp([OutgoingCode(message.to, message.code, track)]), [(track, message.to)]
        )
        if found is None:
            raise Unknown(self.name, "its answer leaves this recipient out")
        return Receipt(message.to, Status.QUEUED, found.id, reference=message.reference)

    def credit(self) -> Credit:
        """What is left, in the currency that the answer names."""
        balance = self.balance()
        return Credit(balance.amount, balance.currency)

    def statuses(self, ids: Sequence[str]) -> dict[str, Status]:
        """Where messages are, `MAX_LIMIT` ids a call; who is missing is `unknown`."""
        found = dict.fromkeys(ids, Status.UNKNOWN)
        asked = [one for one in found if not one.startswith("voice:")]
        for start in range(0, len(asked), MAX_LIMIT):
            for one in self.deliver(asked[start : start + MAX_LIMIT]):
                if one.id in found:
                    found[one.id] = one.status
        return found

    def received(self, since: datetime) -> Iterator[Incoming]:
        """Messages to our lines since the day of that moment, oldest first.

        The service filters by whole days of a zone that it does not name, so some may be up to a
        day older; their ids tell which were seen.
        """
        for one in self.iter_receives(from_date=since.astimezone(UTC).date()):
            yield Incoming(one.id, one.sender, one.receiver, one.message, one.received_at)

    # --- the page's calls: the account, sending ----------------------------------------------

    def balance(self) -> Balance:
        """What is left on the account. wikipayam.ir, GET user/balance."""
        data = self._fields(self._call("GET", "/user/balance"))
        amount = data.get("balance")
        text = str(amount) if isinstance(amount, int | float | str) else ""
        if isinstance(amount, bool) or not re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,9})?", text):
            raise self._not_understood("a balance")
        return Balance(
            Decimal(text),
            _scalar(data.get("currency")) or None,
            _number(data.get("user_id")),
            _scalar(data.get("user_name")),
        )

    def send(self, texts: Sequence[OutgoingText]) -> list[SentText]:
        """Send one text or many. wikipayam.ir, POST sms/send.

        :returns: one for each that the answer names; it may leave some out.
        """
        body = [
            {
                "sender": one.sender or self.line,
                "receiver": national(one.receiver),
                "note" if one.as_note else "message": one.message,
                "track_id": one.track_id,
            }
            for one in texts
        ]
        sent = [value for one in texts for value in (one.receiver, one.message)]
        return self._sent(self._call("POST", "/sms/send", body, sent=sent))

    def deliver(self, ids: Sequence[str]) -> list[Delivery]:
        """Where messages are. wikipayam.ir, POST sms/deliver.

        :returns: one for each that the answer names; it may leave some out.
        """
        rows = self._rows(self._call("POST", "/sms/deliver", {"id": list(ids)}))
        return [
            Delivery(
                _scalar(row.get("id")),
                status_of(DELIVER_STATUS, row.get("deliver_status"), gateway=self.name),
                _scalar(row.get("deliver_status")),
                _scalar(row.get("track_id")),
            )
            for row in rows
        ]

    def send_otp(self, codes: Sequence[OutgoingCode]) -> list[SentText]:
        """Send codes by an OTP pattern. wikipayam.ir, POST otp/sms/send.

        The page prints no answer; the one of `sms/send` is expected, or one such entry alone.
        """
        body = [
            {
                "receiver": national(one.receiver),
                "code": one.code,
                "otp_pattern_id": (
                    self.otp_pattern_id if one.otp_pattern_id is None else one.otp_pattern_id
                ),
                "track_id": one.track_id,
            }
            for one in codes
        ]
        sent = [value for one in codes for value in (one.receiver, one.code)]
        return self._sent(self._call("POST", "/otp/sms/send", body, sent=sent))

    def send_voice_otp(self, receiver: str, code: str, track_id: str = "") -> SentText:
        """Have a code read out by a call. wikipayam.ir, POST voice-otp/send.

        :param track_id: our own id of it; left out where empty.
        """
        body = {"receiver": national(receiver), "code": code}
        if track_id:
            body["track_id"] = track_id
        data = self._call("POST", "/voice-otp/send", body, sent=(receiver, code))
        return self._one_sent(data)

    def send_holoo(self, username: str, receiver: str, message: str) -> SentText:
        """Send as the Holoo software does. wikipayam.ir, POST service/holoo.

        The token goes as the password too, which is why the page's GET form is not supported: it
        would put it in the URL. The page prints no answer; one entry of `sms/send` is expected.
        """
        body = {
            "username": username,
            "password": self._token,
            "from": self.line,
            "to": national(receiver),
            "message": message,
        }
        sent = (username, receiver, message)
        return self._one_sent(self._call("POST", "/service/holoo", body, sent=sent))

    # --- the page's calls: received messages -------------------------------------------------

    def receive(self, from_date: date) -> list[Mapping[str, object]]:
        """The older interface to received messages. wikipayam.ir, POST sms/receive.

        :returns: the entries as they come, since the page prints none.
        """
        data = self._call("POST", "/sms/receive", {"from_date": _day(from_date)})
        return [*self._rows(data)]

    def receives(
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
        """Received messages, by filters. wikipayam.ir, GET receives.

        :param limit: 1 to 500.
        :param sender: E.164, or a number as the service writes it.
        """
        params = self._page(limit, offset) | {"status": status}
        params |= _given(
            sender=_filter_number(sender),
            from_date=_day(from_date),
            to_date=_day(to_date),
            search=search,
            sort_by=sort_by,
            sort_order=sort_order,
        )
        return self._received_page(self._call("GET", "/receives", params=params))

    def iter_receives(self, *, from_date: date) -> Iterator[Received]:
        """Every received message since a day, oldest first, asking for pages as they are reached.

        In that order a message that comes meanwhile moves no page.
        """
        offset = 0
        last: tuple[Received, ...] = ()
        for _ in range(MAX_PAGES):
            page = self.receives(
                limit=MAX_LIMIT,
                offset=offset,
                from_date=from_date,
                sort_by="created_at",
                sort_order="asc",
            )
            if page.messages and page.messages == last:
                raise Unknown(self.name, "its pages repeat themselves")
            yield from page.messages
            offset, last = offset + len(page.messages), page.messages
            if not page.messages or (page.total is not None and offset >= page.total):
                return

    def unread(
        self,
        *,
        limit: int = 20,
        offset: int = 0,
        sender: str = "",
        from_date: date | None = None,
        to_date: date | None = None,
    ) -> ReceivedPage:
        """Received messages that are not marked as read. wikipayam.ir, GET receives/unread.

        :param limit: 1 to 500.
        """
        params = self._page(limit, offset)
        params |= _given(
            sender=_filter_number(sender), from_date=_day(from_date), to_date=_day(to_date)
        )
        return self._received_page(self._call("GET", "/receives/unread", params=params))

    def unread_count(self) -> int:
        """How many are not marked as read. wikipayam.ir, GET receives/unread/count."""
        return self._count(self._call("GET", "/receives/unread/count"), "unread_count")

    def statistics(
        self, *, from_date: date | None = None, to_date: date | None = None
    ) -> Mapping[str, object]:
        """Figures about received messages. wikipayam.ir, GET receives/statistics.

        :returns: as they come, since the page prints none.
        """
        params = _given(from_date=_day(from_date), to_date=_day(to_date))
        return self._fields(self._call("GET", "/receives/statistics", params=params))

    def received_by_id(self, receive_id: str) -> Received:
        """One received message. wikipayam.ir, GET receives/{id}.

        :raises Rejected: there is none of this id.
        """
        found = self._fields(
            self._call("GET", f"/receives/{quote(receive_id, safe='')}", by_id=True)
        )
        [message] = self._received([found])
        return message

    def mark_read(self, ids: Sequence[str]) -> Marked:
        """Mark received messages as read. wikipayam.ir, POST receives/mark-read."""
        return self._mark({"receive_ids": list(ids)})

    def mark_all_read(self) -> Marked:
        """Mark every received message as read. wikipayam.ir, POST receives/mark-read."""
        return self._mark({"mark_all": True})

    def delete_receives(self, ids: Sequence[str]) -> Deleted:
        """Delete received messages. wikipayam.ir, DELETE receives."""
        return self._delete({"receive_ids": list(ids)})

    def delete_all_read(self) -> Deleted:
        """Delete every received message that is marked as read. wikipayam.ir, DELETE receives."""
        return self._delete({"delete_all_read": True})

    def delete_all_unread(self) -> Deleted:
        """Delete every received message that is not read yet. wikipayam.ir, DELETE receives."""
        return self._delete({"delete_all_unread": True})

    def delete_older_than(self, days: int) -> Deleted:
        """Delete received messages older than so many days. wikipayam.ir, DELETE receives.

        :param days: at least 1.
        """
        if days < 1:
            raise ConfigurationError(f"{self.name}: delete_older_than takes 1 day or more")
        return self._delete({"delete_older_than_days": days})

    # --- what it writes ----------------------------------------------------------------------

    def _call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, str] | None = None,
        sent: Sequence[str] = (),
        by_id: bool = False,
    ) -> object:
        """Make one call; what its answer has under `data`.

        :param sent: what the request holds that no error may repeat.
        :param by_id: the path ends in an id, which may be of nothing.
        """
        answer = self._http.request(method, path, json=body, params=params, headers=self._headers)
        answer.refuse_service_faults()
        parsed = answer.json()
        if not isinstance(parsed, dict):
            answer.unreadable("an object with data")
        if not 200 <= answer.status < 300:
            self._refuse(answer, parsed, [*sent, self._token], by_id=by_id)
        if "data" not in parsed:
            answer.unreadable("an object with data")
        return parsed["data"]

    def _mark(self, body: Mapping[str, object]) -> Marked:
        data = self._call("POST", "/receives/mark-read", body)
        return Marked(
            self._count(data, "marked_count"), _number(self._fields(data).get("requested_count"))
        )

    def _delete(self, body: Mapping[str, object]) -> Deleted:
        data = self._call("DELETE", "/receives", body)
        return Deleted(
            self._count(data, "deleted_count"), _number(self._fields(data).get("requested_count"))
        )

    def _page(self, limit: int, offset: int) -> dict[str, str]:
        if not 1 <= limit <= MAX_LIMIT or offset < 0:
            raise ConfigurationError(
                f"{self.name}: limit must be 1 to {MAX_LIMIT}, offset 0 or more"
            )
        return {"limit": str(limit), "offset": str(offset)}

    # --- what it reads -----------------------------------------------------------------------

    def _refuse(
        self, answer: Answer, body: Mapping[str, object], sent: Sequence[str], *, by_id: bool
    ) -> None:
        """Raise for a 4xx that is not about the service or our account."""
        code = str(answer.status)
        if answer.status == 422:
            raise self._refused_fields(body)
        if answer.status == 404 and by_id:
            raise Rejected(self.name, "there is no message of this id", code=code)
        if answer.status in (404, 405):
            raise Misconfigured(self.name, "the base_url has no such call", code=code)
        raise Unknown(self.name, safe_reason(body.get("message", ""), sent=sent), code=code)

    def _refused_fields(self, body: Mapping[str, object]) -> Misconfigured | Rejected:
        """A 422 by its fields. `1.receiver`, or `data.1.receiver`, is the second entry's."""
        errors = body.get("errors")
        paths = [str(name).split(".") for name in errors] if isinstance(errors, dict) else []
        names = {path[-1] for path in paths}
        known = sorted(name for name in names if re.fullmatch(r"[a-z_]{1,30}", name))
        reason = "it refuses " + (", ".join(known[:5]) or "what was sent")
        if names - MESSAGE_FIELDS:
            return Misconfigured(self.name, reason, code="422")
        places = [
            [int(part) for part in path if re.fullmatch(r"[0-9]{1,5}", part)] for path in paths
        ]
        if not all(places):
            return Rejected(self.name, reason, code="422")
        return EntriesRefused(self.name, reason, {place[0] for place in places})

    def _sent(self, data: object) -> list[SentText]:
        """The entries with an id; a single one may come without a list around it."""
        rows = [data] if isinstance(data, dict) else self._rows(data)
        return [
            SentText(
                given,
                _scalar(row.get("sender")),
                e164(_scalar(row.get("receiver"))),
                _scalar(row.get("track_id")),
            )
            for row in rows
            if (given := _scalar(row.get("id"))) not in ("", "0") and not given.startswith("-")
        ]

    def _one_sent(self, data: object) -> SentText:
        sent = self._sent(data)
        if len(sent) != 1:
            raise self._not_understood("one message's id")
        return sent[0]

    def _received_page(self, data: object) -> ReceivedPage:
        fields = self._fields(data)
        pagination = fields.get("pagination")
        total = pagination.get("total") if isinstance(pagination, dict) else None
        return ReceivedPage(
            tuple(self._received(self._rows(fields.get("receives")))),
            _number(fields.get("total_unread") if total is None else total),
        )

    def _received(self, rows: Sequence[Mapping[str, object]]) -> Iterator[Received]:
        for row in rows:
            if not (given := _scalar(row.get("id"))):
                raise self._not_understood("a received message's id")
            text = row.get("message")
            yield Received(
                given,
                e164(_scalar(row.get("sender"))),
                _scalar(row.get("receiver")),
                text if isinstance(text, str) else _scalar(text),
                _instant(row.get("received_at")),
            )

    def _fields(self, value: object) -> dict[str, object]:
        if not isinstance(value, dict):
            raise self._not_understood("an object")
        return value

    def _rows(self, value: object) -> list[dict[str, object]]:
        if not isinstance(value, list):
            raise self._not_understood("a list")
        return [row for row in value if isinstance(row, dict)]

    def _count(self, data: object, name: str) -> int:
        count = _number(self._fields(data).get(name))
        if count is None:
            raise self._not_understood(f"a number as {name}")
        return count

    def _not_understood(self, expected: str) -> Unknown:
        return Unknown(self.name, f"expected {expected} as its data")


class EntriesRefused(Rejected):
    """A 422 that names which entries of a request it refuses.

    :param places: theirs, counted from 0.
    """

    def __init__(self, gateway: str, reason: str, places: set[int]) -> None:
        super().__init__(gateway, reason, code="422")
        self.places = places


def _tracks(references: Sequence[str]) -> list[str]:
    """A track id for each, no two the same: the reference where it is one's own."""
    count = Counter(references)
    return [
        reference if reference and count[reference] == 1 else secrets.token_hex(8)
        for reference in references
    ]


def _matched(sent: Sequence[SentText], asked: Sequence[tuple[str, str]]) -> list[SentText | None]:
    """Each message's entry of the answer, by track id and mobile; None for who is missing.

    Where the answer repeats no track id, a mobile that was asked for once tells it.

    :param asked: pairs of track id and mobile, E.164.
    """
    by_track = {one.track_id: one for one in sent if one.track_id}
    untracked = Counter(one.receiver for one in sent if not one.track_id)
    by_mobile = {one.receiver: one for one in sent if not one.track_id}
    times = Counter(mobile for _, mobile in asked)
    found: list[SentText | None] = []
    for track, mobile in asked:
        one = by_track.get(track)
        if one is None and times[mobile] == 1 and untracked[mobile] == 1:
            one = by_mobile[mobile]
        found.append(one if one is not None and one.receiver in ("", mobile) else None)
    if len(asked) == 1 and len(sent) == 1 and not sent[0].track_id and not sent[0].receiver:
        return [sent[0]]
    return found


def _filter_number(number: str) -> str:
    return national(number) if number.startswith("+") else number


def _given(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def _day(day: date | None) -> str | None:
    return None if day is None else f"{day:%Y-%m-%d}"


def _number(value: object) -> int | None:
    """A whole number, also as a string of digits, as which the service gives some."""
    if type(value) is int:
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        return int(value)
    return None


def _scalar(value: object) -> str:
    """A string or whole number as text, `""` for anything else."""
    return str(value).strip() if isinstance(value, str) or type(value) is int else ""


def _instant(value: object) -> datetime | None:
    """`2023-09-24 23:55:20`, or with a zone of its own, as UTC."""
    try:
        moment = datetime.fromisoformat(_scalar(value))
        return (moment if moment.tzinfo else moment.replace(tzinfo=TEHRAN)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
