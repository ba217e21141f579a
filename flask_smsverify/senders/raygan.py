"""Raygan SMS, also Trez: texts, codes of ours, and codes that Raygan makes and checks itself.

Everything here follows Raygan's web-service guide: POST, JSON both ways, HTTP Basic on every call.
All methods but three answer with an envelope, `{"Code": 0, "Message": "…", "Result": …}`. The
three methods for codes live on a host of their own and answer with a bare JSON scalar.

The ids in `Receipt.id`, as `statuses` takes them:

`<group id>:<mark>`
    one recipient of a `SendMessage`. A group's id alone names all its recipients, and an id must
    not show a mobile in a log, so the mark is a digest of group and mobile, which `statuses` finds
    again among the mobiles that `GroupMessageStatus` lists.
`2826`
    one message of a `SendCorrespondingMessage`.
`code:2826`
    a code. The guide has no method that tells where a code is, so nothing is asked about these.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial

import httpx

from ..errors import (
    ConfigurationError,
    Misconfigured,
    Rejected,
    SenderError,
    Unavailable,
    Unknown,
)
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
    own_id,
    status_of,
)
from .http import DEFAULT_TIMEOUT, Answer, HttpTransport, Timeout, checked_base_url

BASE_URL = "https://raygansms.com/api/smsAPI"
CODE_BASE_URL = "https://smspanel.trez.ir/api/smsAPI"

# --- its codes and states: Raygan's web-service guide, "result codes" and each method's notes ----

#: The guide's error codes: what each means, and what it means to us. 3001 and the last three speak
#: of a send that was under way, so they do not say that nothing went out.
ERRORS: Mapping[int, tuple[type[SenderError], str]] = {
    1001: (Misconfigured, "the document is malformed"),
    1002: (Misconfigured, "the line is not a valid one"),
    1003: (Misconfigured, "the date is malformed"),
    1004: (Misconfigured, "the parameters are not valid"),
    2001: (Unavailable, "the line does not belong to our account"),
    2002: (Unavailable, "our account may not use the web service"),
    2003: (Unavailable, "our address (IP) is not allowed"),
    2004: (Misconfigured, "the date is outside the allowed range"),
    2005: (Misconfigured, "more than 50,000 recipients"),
    2006: (Rejected, "the text is longer than 10 parts"),
    2007: (Misconfigured, "the port is not allowed"),
    2008: (Misconfigured, "the page number is not allowed"),
    2009: (Unavailable, "our account's data could not be read"),
    3001: (Unknown, "it could not store the data"),
    3002: (Misconfigured, "the message group could not be read"),
    3003: (Unavailable, "not enough credit"),
    3004: (Unavailable, "our account has no service for this operator"),
    5001: (Unavailable, "an internal error"),
    5002: (Unknown, "an error while sending"),
    5003: (Unknown, "an error while reading the send's result"),
    5004: (Unknown, "some messages failed"),
}

SOME_FAILED = 5004

#: More pages of received messages than this are not believed.
MAX_PAGES = 10_000

#: `StatusCode`, of a whole group.
GROUP_STATUS: Mapping[object, Status] = {
    1: Status.SENT,
    2: Status.QUEUED,
    3: Status.REJECTED,  # filtered
}

#: `Status`, of one message. Every other number is "being looked at", so sent and not final.
MESSAGE_STATUS: Mapping[object, Status] = {
    1: Status.DELIVERED,
    2: Status.UNDELIVERED,
    8: Status.SENT,
    16: Status.UNDELIVERED,  # did not reach the operator
    23: Status.QUEUED,  # the server is too busy to take it now
    27: Status.REJECTED,  # nothing can be sent to this number
}

# --- what its methods take and give --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OwnText:
    """One recipient of `SendCorrespondingMessage` or `SendMessageToPort`.

    :param id: ours, told apart within one call; comes back with the result.
    :param mobile: E.164.
    """

    id: str
    mobile: str = field(repr=False)
    message: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SentText:
    """What became of one `OwnText`.

    :param id: ours.
    :param mobile: E.164 where it was given and is readable, else `""`.
    :param message_id: Raygan's own, for `CorrespondingMessageStatus`.
    """

    id: str
    mobile: str = field(repr=False)
    message_id: str


@dataclass(frozen=True, slots=True)
class RecipientState:
    """Where one recipient's message of a group is.

    :param mobile: E.164.
    :param code: `Status` as Raygan gave it; None where it is no number.
    """

    mobile: str = field(repr=False)
    status: Status
    code: int | None


@dataclass(frozen=True, slots=True)
class GroupState:
    """Where a group is, as a whole and for each recipient that was listed.

    :param code: `StatusCode` as Raygan gave it; None where it is no number.
    """

    status: Status
    code: int | None
    recipients: tuple[RecipientState, ...]


@dataclass(frozen=True, slots=True)
class MessageState:
    """Where one message of its own id is.

    :param code: `Status` as Raygan gave it; None where it is no number.
    """

    message_id: str
    status: Status
    code: int | None


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A text from a phone.

    :param mobile: E.164 where it is a mobile, else as Raygan gave it.
    :param timestamp: seconds, as Raygan gave it; None where it is no number.
    """

    mobile: str = field(repr=False)
    message: str = field(repr=False)
    timestamp: int | None


@dataclass(frozen=True, slots=True)
class ReceivedPage:
    """One page of `ReceiveMessages`, the first being 1."""

    page: int
    total_pages: int
    messages: tuple[ReceivedMessage, ...]


@dataclass(frozen=True, slots=True)
class Prices:
    """What one part costs, in Raygan's own unit."""

    persian: Decimal
    latin: Decimal


class Raygan(Sender):
    """One account at Raygan.

    :param line: the number that texts are sent from and received on; without it there are codes
        only.
    :param footer: the end of the texts that Raygan makes for its own codes.
    :param native_codes: whether Raygan may make and check codes.
    :param group_id: `UserGroupID`, the message group that texts are filed under.
    :param base_url: for everything but codes, `https://raygansms.com/api/smsAPI` unless given.
    :param code_base_url: for the three methods for codes, `https://smspanel.trez.ir/api/smsAPI`
        unless given. Where only `base_url` is given, that serves both.
    :param client: an httpx client of one's own.
    :raises ConfigurationError: an option that cannot work.
    """

    gateway = "raygan"
    #: `SendMessage` takes so many recipients of one text.
    batch_limit = 50_000
    #: So many go into one `SendCorrespondingMessage`; the guide names no limit, a body has one.
    own_texts_limit = 1_000

    def __init__(
        self,
        *,
        username: str | int,
        password: str | int,
        line: str | int = "",
        footer: str = "",
        native_codes: bool = True,
        group_id: str | int = "",
        base_url: str | None = None,
        code_base_url: str | None = None,
        timeout: Timeout | tuple[float, float, float] = DEFAULT_TIMEOUT,
        allow_http: bool = False,
        client: httpx.Client | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        user = credential(self.name, "username", username)
        if ":" in user:
            raise ConfigurationError(
                f"{self.name}: a username with a colon cannot be told from its password"
            )
        pair = f"{user}:{credential(self.name, 'password', password)}"
        self._headers = {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
        self.line = "" if line == "" else credential(self.name, "line", line)
        self.group_id = "" if group_id == "" else credential(self.name, "group_id", group_id)
        self.footer = footer
        if not isinstance(native_codes, bool):
            raise ConfigurationError(f"{self.name}: native_codes must be true or false")
        self.native_codes = native_codes
        self._code_url = checked_base_url(
            self.name, code_base_url or base_url or CODE_BASE_URL, allow_http=allow_http
        )
        self._http = HttpTransport(
            self.name, base_url or BASE_URL, timeout=timeout, allow_http=allow_http, client=client
        )

    @property
    def capabilities(self) -> frozenset[Capability]:
        can = {Capability.CODE_SMS, Capability.CREDIT}
        if self.native_codes:
            can.add(Capability.NATIVE_CODE)
        if self.line:
            can |= {Capability.TEXT, Capability.STATUS, Capability.INCOMING}
        return frozenset(can)

    def close(self) -> None:
        self._http.close()

    # --- what every sender does --------------------------------------------------------------

    def _send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        if not self.line:
            raise self._unable("ordinary texts without the option 'line'")
        if len({text.text for text in batch}) == 1:
            return self._send_alike(batch)
        receipts: list[Receipt] = []
        for start in range(0, len(batch), self.own_texts_limit):
            part = batch[start : start + self.own_texts_limit]
            try:
                receipts += self._send_own(part)
            except SenderError as error:
                # Other parts may be on their way, so this one's error is its own.
                receipts += lost(part, error)
        return receipts

    def _send_alike(self, batch: Sequence[Text]) -> list[Receipt]:
        group = self.send_message(batch[0].text, [text.to for text in batch])
        return [
            Receipt(
                text.to, Status.QUEUED, f"{group}:{_mark(group, text.to)}", reference=text.reference
            )
            for text in batch
        ]

    def _send_own(self, batch: Sequence[Text]) -> list[Receipt]:
        sent = self.send_corresponding_message(
            [OwnText(str(n), text.to, text.text) for n, text in enumerate(batch, start=1)]
        )
        ids = {one.id: one.message_id for one in sent}
        receipts = []
        for n, text in enumerate(batch, start=1):
            if message_id := ids.get(str(n)):
                receipts.append(
                    Receipt(text.to, Status.QUEUED, message_id, reference=text.reference)
                )
            else:
                left_out = Unknown(self.name, "its answer leaves this recipient out")
                receipts += lost([text], left_out)
        return receipts

    def send_code(self, message: CodeMessage) -> Receipt:
        """Bring a code of ours with its whole text, by SMS only."""
        if message.channel != "sms":
            raise self._unable(f"codes by {message.channel}")
        number = self.send_own_code(message.to, message.text)
        return Receipt(message.to, Status.SENT, f"code:{number}", reference=message.reference)

    def send_native_code(self, to: str) -> Receipt:
        """Have Raygan make a code and bring it, with the option `footer` at the text's end."""
        if not self.native_codes:
            raise self._unable("codes of its own while 'native_codes' is false")
        return Receipt(to, Status.SENT, f"code:{self.send_auto_code(to)}")

    def check_native_code(self, to: str, code: str) -> bool:
        """Raygan's verdict. It knows no purpose, and may say yes to one code twice."""
        if not self.native_codes:
            raise self._unable("codes of its own while 'native_codes' is false")
        return self.check_send_code(to, code)

    def credit(self) -> Credit:
        """What is left, in a unit that the guide does not name."""
        return Credit(self.get_credit())

    def statuses(self, ids: Sequence[str]) -> dict[str, Status]:
        """Where messages are, by the ids that this module's first lines describe.

        A group costs one call, ids of single messages one for every `own_texts_limit` of them. A
        call that fails leaves its own ids unknown; only where every call failed is that raised.
        """
        found = dict.fromkeys(ids, Status.UNKNOWN)
        marks: dict[str, list[str]] = {}
        singles: list[str] = []
        for one in found:
            group, colon, mark = one.rpartition(":")
            if not colon:
                singles.append(one)
            elif group != "code":
                marks.setdefault(group, []).append(mark)
        calls = [partial(self._group_statuses, group, wanted) for group, wanted in marks.items()]
        for start in range(0, len(singles), self.own_texts_limit):
            part = singles[start : start + self.own_texts_limit]
            calls.append(partial(self._single_statuses, part))
        failures: list[SenderError] = []
        for call in calls:
            try:
                found |= call()
            except SenderError as error:
                failures.append(error)
        if failures and len(failures) == len(calls):
            raise failures[0]
        return found

    def _group_statuses(self, group: str, marks: Sequence[str]) -> dict[str, Status]:
        state = self.group_message_status(group)
        # A group that waits or was filtered says so of everyone whose own state says nothing.
        waits = state.code in (2, 3)
        listed = {
            _mark(group, one.mobile): one.status
            for one in state.recipients
            if one.code in MESSAGE_STATUS or not waits
        }
        rest = state.status if waits else Status.UNKNOWN
        return {f"{group}:{mark}": listed.get(mark, rest) for mark in marks}

    def _single_statuses(self, ids: Sequence[str]) -> dict[str, Status]:
        asked = set(ids)
        states = self.corresponding_message_status(ids)
        return {one.message_id: one.status for one in states if one.message_id in asked}

    def received(self, since: datetime) -> Iterator[Incoming]:
        """Messages to our line since then.

        The guide names no zone for its timestamps. They are read as seconds since 1970 UTC; should
        they be Tehran's, they are ahead of it, which is why the window ends a day from now.
        Raygan gives no id, so one is made of line, mobile, time and text, and of how many equal
        ones came before it.
        """
        if not self.line:
            raise self._unable("telling received messages without the option 'line'")
        equals: Counter[str] = Counter()
        for message in self.iter_received(since, datetime.now(UTC) + timedelta(days=1)):
            one = own_id(self.line, message.mobile, str(message.timestamp), message.message)
            count = equals[one]
            equals[one] += 1
            yield Incoming(
                id=one if count == 0 else f"{one}.{count}",
                sender=message.mobile,
                line=self.line,
                text=message.message,
                received_at=_instant(message.timestamp),
            )

    # --- the guide's methods: sending --------------------------------------------------------

    def send_message(
        self, message: str, mobiles: Sequence[str], *, at: datetime | None = None
    ) -> str:
        """Send one text to many. Raygan's web-service guide, SendMessage.

        :param mobiles: E.164, at most 50,000.
        :param at: when; None or a past time is at once.
        :returns: the group's id, for `group_message_status`.
        """
        # The guide sends at once what has a past date and names no zone for its dates. A day ago
        # is past in all of them.
        moment = time.time() - 86_400 if at is None else at.timestamp()
        result = self._call(
            "SendMessage",
            {
                "PhoneNumber": self.line,
                "Message": message,
                "Mobiles": [national(mobile) for mobile in mobiles],
                "UserGroupID": self.group_id,
                "SendDateInTimeStamp": int(moment),
            },
        )
        return self._id(result, "a group's id")

    def send_corresponding_message(self, messages: Sequence[OwnText]) -> list[SentText]:
        """Send each recipient a text of their own. The guide's SendCorrespondingMessage.

        :returns: one for each that the answer names with an id; it may leave some out.
        """
        return self._own_texts("SendCorrespondingMessage", {}, messages)

    def send_message_to_port(
        self, messages: Sequence[OwnText], *, receive_port: int, send_port: int
    ) -> list[SentText]:
        """The same to an application's port on the phone. The guide's SendMessageToPort.

        :returns: one for each that the answer names with an id; it may leave some out.
        """
        ports = {"recievePortNumber": receive_port, "sendPortNumber": send_port}
        return self._own_texts("SendMessageToPort", ports, messages)

    def _own_texts(
        self, method: str, extra: Mapping[str, int], messages: Sequence[OwnText]
    ) -> list[SentText]:
        result = self._call(
            method,
            {
                "PhoneNumber": self.line,
                **extra,
                "RecipientsMessage": [
                    {"Id": one.id, "Message": one.message, "Mobile": national(one.mobile)}
                    for one in messages
                ],
                "UserGroupID": self.group_id,
            },
            some_may_fail=True,
        )
        sent = []
        for row in self._rows(result):
            own, message_id = _scalar(row.get("id")), _scalar(row.get("result"))
            # 0 and below are no ids, whatever else they are; without ours it is nobody's.
            if own and message_id and message_id != "0" and not message_id.startswith("-"):
                sent.append(SentText(own, e164(_scalar(row.get("mobile"))), message_id))
        return sent

    # --- the guide's methods: codes ----------------------------------------------------------

    def send_auto_code(self, mobile: str, footer: str | None = None) -> int:
        """Have a code made and sent. The guide's SendAutoCode.

        :param footer: the text's end; the option `footer` unless given.
        :returns: the number above 2000 that means it was sent.
        """
        body = {"Mobile": national(mobile), "Footer": self.footer if footer is None else footer}
        return self._sent_number(self._ask_code("SendAutoCode", body))

    def check_send_code(self, mobile: str, code: str) -> bool:
        """Whether this is the code that SendAutoCode sent. The guide's CheckSendCode.

        :raises SenderError: anything but a plain yes or no.
        """
        answer = self._ask_code("CheckSendCode", {"Mobile": national(mobile), "Code": code})
        # The guide prints `True` and `true` both.
        word = answer.text.strip().lower() if 200 <= answer.status < 300 else ""
        if word in ("true", "false"):
            return word == "true"
        self._refuse(answer, _parsed(answer))
        return answer.unreadable("true or false")

    def send_own_code(self, mobile: str, message: str) -> int:
        """Send a text with a code of ours in it. The guide's SendCode.

        :returns: the number above 2000 that means it was sent.
        """
        body = {"Mobile": national(mobile), "Message": message}
        return self._sent_number(self._ask_code("SendCode", body))

    def _ask_code(self, method: str, body: Mapping[str, str]) -> Answer:
        return self._http.request(
            "POST", f"{self._code_url}/{method}", json=body, headers=self._headers
        )

    def _sent_number(self, answer: Answer) -> int:
        """A bare number above 2000 that is none of the error codes; those mean either."""
        body = _parsed(answer)
        self._refuse(answer, body)
        if type(body) is not int or not 0 <= body < 2**63:
            answer.unreadable("a number above 2000")
        if body in ERRORS:
            kind, meaning = ERRORS[body]
            if body > 2000:
                kind, meaning = Unknown, f"a number that is both a success and {meaning!r}"
            raise kind(self.name, meaning, code=str(body))
        if body <= 2000:
            raise Unknown(self.name, "a number that is not above 2000")
        return body

    # --- the guide's methods: what became of it ----------------------------------------------

    def group_message_status(self, group_message_id: str) -> GroupState:
        """Where a `SendMessage` is. The guide's GroupMessageStatus."""
        result = _fields(self._call("GroupMessageStatus", {"GroupMessageId": group_message_id}))
        if result is None:
            raise self._not_understood("a group's state")
        code = _number(result.get("statuscode"))
        whole = status_of(GROUP_STATUS, code, gateway=self.name)
        return GroupState(
            whole,
            code,
            tuple(
                RecipientState(e164(_scalar(row.get("mobile"))), *self._state(row))
                for row in self._rows(result.get("messagesliststate") or [])
            ),
        )

    def corresponding_message_status(self, message_ids: Sequence[str]) -> list[MessageState]:
        """Where messages of their own ids are. The guide's CorrespondingMessageStatus.

        :returns: one for each that the answer names; it may leave some out.
        """
        result = self._call("CorrespondingMessageStatus", {"messageId": list(message_ids)})
        return [
            MessageState(_scalar(row.get("msgid")), *self._state(row)) for row in self._rows(result)
        ]

    def _state(self, row: Mapping[str, object]) -> tuple[Status, int | None]:
        code = _number(row.get("status"))
        if code is not None and code not in MESSAGE_STATUS:
            return Status.SENT, code
        return status_of(MESSAGE_STATUS, code, gateway=self.name), code

    def get_group_message_id(self, group_id: str) -> str:
        """A send's group id, by the account's own id of it. The guide's GetGroupMessageId."""
        return self._id(self._call("GetGroupMessageId", {"groupId": group_id}), "a group's id")

    # --- the guide's methods: what phones sent, and the account ------------------------------

    def receive_messages(self, start: datetime, end: datetime, page: int = 1) -> ReceivedPage:
        """One page of what was received on our line. The guide's ReceiveMessages."""
        result = _fields(
            self._call(
                "ReceiveMessages",
                {
                    "PhoneNumber": self.line,
                    "StartDate": str(int(start.timestamp())),
                    "EndDate": str(int(end.timestamp())),
                    "Page": str(page),
                },
            )
        )
        if result is None or (total := _number(result.get("totalpage"))) is None:
            raise self._not_understood("a page of received messages")
        return ReceivedPage(
            page,
            total,
            tuple(
                ReceivedMessage(
                    e164(_scalar(row.get("mobile"))),
                    body if isinstance(body := row.get("msgbody"), str) else _scalar(body),
                    _number(row.get("date")),
                )
                for row in self._rows(result.get("receivedmsgs") or [])
            ),
        )

    def iter_received(self, start: datetime, end: datetime) -> Iterator[ReceivedMessage]:
        """What was received on our line, asking for each page when it is reached."""
        page, total, last = 1, 1, None
        while page <= total:
            answer = self.receive_messages(start, end, page)
            if not answer.messages:
                return
            if answer.messages == last:
                raise Unknown(self.name, "its pages repeat themselves")
            yield from answer.messages
            page, total, last = page + 1, min(answer.total_pages, MAX_PAGES), answer.messages

    def get_credit(self) -> Decimal:
        """What is left on the account. The guide's GetCredit: a number, also as a string."""
        return self._amount(self._call("GetCredit", {}))

    def get_prices(self) -> Prices:
        """What a Persian and a Latin part cost. The guide's GetPrices."""
        result = _fields(self._call("GetPrices", {}))
        if result is None:
            raise self._not_understood("prices")
        return Prices(self._amount(result.get("fa_price")), self._amount(result.get("en_price")))

    def show_white_list(self, mobiles: Sequence[str]) -> list[str]:
        """Those of the mobiles that are not on the black list. The guide's ShowWhiteList.

        The guide's table calls the parameter `Mobiles` and its sample `MobilesList`; both are sent.

        :param mobiles: E.164.
        :returns: E.164, in the order of `mobiles`.
        """
        asked = [national(mobile) for mobile in mobiles]
        result = self._call("ShowWhiteList", {"Mobiles": asked, "MobilesList": asked})
        if not isinstance(result, list):
            raise self._not_understood("a list of mobiles")
        white = {e164(_scalar(one)) for one in result}
        return [mobile for mobile in mobiles if mobile in white]

    # --- what it writes, and what it reads ---------------------------------------------------

    def _call(
        self, method: str, body: Mapping[str, object], *, some_may_fail: bool = False
    ) -> object:
        """Make one call and open its envelope.

        :param some_may_fail: also give the result of "some messages failed", where it is a list
            that tells which.
        """
        answer = self._http.request("POST", f"/{method}", json=body, headers=self._headers)
        envelope = _fields(parsed := _parsed(answer))
        result = (envelope or {}).get("result")
        if (
            some_may_fail
            and 200 <= answer.status < 300
            and envelope is not None
            and _number(envelope.get("code")) == SOME_FAILED
            and isinstance(result, list)
        ):
            return result
        self._refuse(answer, parsed)
        if envelope is None or _number(envelope.get("code")) != 0:
            answer.unreadable("an envelope with a code")
        return result

    def _refuse(self, answer: Answer, body: object) -> None:
        """Raise for an answer that says no, by its HTTP status or by an envelope's error code."""
        code = _number((_fields(body) or {}).get("code"))
        # A 5xx that names its code says more than that the service failed.
        if answer.status < 500 or code not in ERRORS:
            answer.refuse_service_faults()
        if code is not None and code != 0:
            kind, meaning = ERRORS.get(
                code, (Unknown, "an error code that the guide does not know")
            )
            raise kind(self.name, meaning, code=str(code) if abs(code) < 10_000 else None)
        if not 200 <= answer.status < 300:
            answer.unreadable("success")

    def _rows(self, value: object) -> list[dict[str, object]]:
        if not isinstance(value, list):
            raise self._not_understood("a list")
        return [row for row in map(_fields, value) if row is not None]

    def _id(self, value: object, what: str) -> str:
        if not (found := _scalar(value)) or found == "0" or len(found) > 100:
            raise self._not_understood(what)
        return found

    def _amount(self, value: object) -> Decimal:
        text = str(value) if isinstance(value, int | float | str) else ""
        if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,9})?", text):
            raise self._not_understood("an amount")
        return Decimal(text)

    def _not_understood(self, expected: str) -> Unknown:
        return Unknown(self.name, f"expected {expected} as the result")


def _mark(group: str, mobile: str) -> str:
    """What tells a group's recipients apart without showing their mobiles."""
    return hashlib.sha256(f"{group}:{mobile}".encode()).hexdigest()[:16]


def _parsed(answer: Answer) -> object:
    """The body as JSON; None where it is none."""
    try:
        return answer.json()
    except Unknown:
        return None


def _fields(value: object) -> dict[str, object] | None:
    """An object's fields by their names in small letters, None for anything else.

    The guide's tables and samples differ in the case of some names.
    """
    return {name.lower(): one for name, one in value.items()} if isinstance(value, dict) else None


def _number(value: object) -> int | None:
    """A whole number, also as a string of digits; the guide's types and samples differ in that."""
    if type(value) is int:
        return value
    if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,18}\s*", value):
        return int(value)
    return None


def _scalar(value: object) -> str:
    """A string or whole number as text, `""` for anything else."""
    return str(value).strip() if isinstance(value, str) or type(value) is int else ""


def _instant(timestamp: int | None) -> datetime | None:
    try:
        return None if timestamp is None else datetime.fromtimestamp(timestamp, UTC)
    except (OverflowError, ValueError, OSError):
        return None
