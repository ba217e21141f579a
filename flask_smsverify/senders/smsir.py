"""SMS.ir: texts, codes by a template, states, credit and received messages over REST.

It has two interfaces. `v1` is the present one, with an API key alone. `legacy`, at RestfulSms.com,
takes an API key and a secret key for a token of half an hour, and reaches the account's customer
club. `SmsIr` is the sender over either; the calls that only one of them has are on `SmsIr.v1` and
`SmsIr.legacy`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import ClassVar, Literal
from urllib.parse import quote

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
    isolate,
    national,
    own_id,
    safe_reason,
    status_of,
)
from .http import DEFAULT_TIMEOUT, Answer, HttpTransport, Timeout, deadline, remaining

BASE_URLS = {"v1": "https://api.sms.ir/v1", "legacy": "https://RestfulSms.com/api"}

#: `status` of v1's envelope, 1 being success: SMS.ir's web-service documentation, "status codes".
V1_CODES: dict[int, tuple[type[SenderError], str]] = {
    10: (Unavailable, "the API key is not valid"),
    11: (Unavailable, "the API key is switched off"),
    12: (Unavailable, "our address is not among the allowed ones"),
    13: (Unavailable, "the account is not active"),
    14: (Unavailable, "the account is suspended"),
    15: (Unavailable, "the account's plan does not hold this"),
    16: (Misconfigured, "a parameter is not valid"),
    20: (Unavailable, "too many requests"),
    101: (Unavailable, "the line is not valid"),
    102: (Unavailable, "no credit"),
    103: (Rejected, "the text is empty"),
    104: (Rejected, "the recipient's number is not valid"),
    105: (Misconfigured, "more than 100 recipients in a call"),
    111: (Rejected, "there is no message or pack of this id"),
    113: (Misconfigured, "template_id is not a template that was approved"),
    114: (Misconfigured, "a value for the template is longer than 25 characters"),
    115: (Rejected, "the recipient is on the operators' black list"),
}

#: `V1_CODES` that mean one recipient of a call, not its text.
RECIPIENT_CODES = frozenset({"104", "115"})

#: `deliveryState` of v1's reports: SMS.ir's web-service documentation, "delivery status".
STATES: dict[object, Status] = {
    None: Status.QUEUED,  # taken, and no report yet
    1: Status.DELIVERED,
    2: Status.UNDELIVERED,
    3: Status.SENT,  # at the telecom company
    4: Status.UNDELIVERED,  # did not reach the telecom company
    5: Status.SENT,  # at the operator
    6: Status.UNDELIVERED,  # failed
    7: Status.REJECTED,  # black list
    8: Status.UNKNOWN,
}

#: Seconds that a legacy token is used: it is good for 30 minutes.
TOKEN_SECONDS = 25 * 60

#: Of ten contacts each. More than that is an answer that repeats itself.
MAX_PAGES = 100_000


class SmsIr(Sender):
    """One account at SMS.ir.

    :param line: the number to send texts from. Without it there are only codes.
    :param template_id: the template that carries codes. Without it a code goes as a text by v1, and
        by the account's own verification text by legacy.
    :param code_parameter: the template's variable that is the code.
    :param api: `"v1"`, or `"legacy"` with a `secret_key`.
    :param customer_club: legacy: send texts by the customer club's own line, to its contacts and
        others alike, also to those who refuse advertising; `line` is not used then.
    :param base_url: everything before the method's name; the default is the interface's own.
    :raises ConfigurationError: an option that cannot work.
    """

    gateway = "smsir"
    batch_limit: ClassVar[int] = 100  # v1's code 105

    def __init__(
        self,
        api_key: str,
        line: str = "",
        template_id: int | None = None,
        code_parameter: str = "CODE",
        *,
        api: Literal["v1", "legacy"] = "v1",
        secret_key: str | None = None,
        customer_club: bool = False,
        base_url: str | None = None,
        timeout: Timeout | tuple[float, float, float] = DEFAULT_TIMEOUT,
        allow_http: bool = False,
        client: httpx.Client | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        if api not in BASE_URLS:
            raise ConfigurationError(f"{self.name}: api must be 'v1' or 'legacy'")
        key = credential(self.name, "api_key", api_key)
        if not (key.isascii() and key.isprintable()):
            raise ConfigurationError(f"{self.name}: api_key holds what no key can hold")
        self._line = _number(self.name, "line", line)
        self._template_id = _number(self.name, "template_id", template_id)
        self._code_parameter = credential(self.name, "code_parameter", code_parameter)
        if not isinstance(customer_club, bool):
            raise ConfigurationError(f"{self.name}: customer_club must be true or false")
        if api == "v1" and (secret_key not in (None, "") or customer_club):
            raise ConfigurationError(f"{self.name}: secret_key and customer_club need api='legacy'")
        if api == "v1" and self._line is None and self._template_id is None:
            raise ConfigurationError(f"{self.name}: it needs a line, or a template_id for codes")
        self._http = HttpTransport(
            self.name,
            base_url or BASE_URLS[api],
            timeout=timeout,
            allow_http=allow_http,
            client=client,
        )
        self._customer_club = customer_club
        self._v1: V1 | None = None
        self._legacy: Legacy | None = None
        if api == "v1":
            self._v1 = V1(self._http, key)
        else:
            secret = credential(self.name, "secret_key", secret_key)
            self._legacy = Legacy(self._http, key, secret)

    @property
    def v1(self) -> V1:
        """The calls of v1.

        :raises ConfigurationError: this sender speaks legacy.
        """
        if self._v1 is None:
            raise ConfigurationError(f"{self.name}: this needs api='v1'")
        return self._v1

    @property
    def legacy(self) -> Legacy:
        """The calls of legacy.

        :raises ConfigurationError: this sender speaks v1.
        """
        if self._legacy is None:
            raise ConfigurationError(f"{self.name}: this needs api='legacy'")
        return self._legacy

    @property
    def capabilities(self) -> frozenset[Capability]:
        able = {Capability.CODE_SMS, Capability.CREDIT}
        if self._line is not None or self._customer_club:
            able.add(Capability.TEXT)
        if self._v1 is not None:
            able |= {Capability.STATUS, Capability.INCOMING}
        return frozenset(able)

    def _send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        if Capability.TEXT not in self.capabilities:
            raise self._unable("ordinary texts without a line")
        if self._v1 is not None:
            return isolate(batch, self._send_by_v1, RECIPIENT_CODES)
        mobiles, texts = [text.to for text in batch], [text.text for text in batch]
        if self._customer_club:
            sent = self.legacy.club_send(mobiles, texts)
        else:
            sent = self.legacy.send(mobiles, texts, line=str(self._line))
        return [self._legacy_receipt(text, sent) for text in batch]

    def _send_by_v1(self, batch: Sequence[Text]) -> list[Receipt]:
        mobiles, texts = [text.to for text in batch], [text.text for text in batch]
        line = self._line or 0
        if len(set(texts)) == 1:
            pack = self.v1.bulk(line, texts[0], mobiles)
        else:
            pack = self.v1.like_to_like(line, texts, mobiles)
        cost = pack.cost if len(batch) == 1 else None
        return [self._v1_receipt(text, pack, place, cost) for place, text in enumerate(batch)]

    def send_code(self, message: CodeMessage) -> Receipt:
        if message.channel != "sms":
            raise self._unable(f"codes by {message.channel}")
        if self._template_id is None and self._v1 is not None:
            return self.send_text(message.to, message.text, reference=message.reference)
        values = {self._code_parameter: message.code}
        if self._template_id is None:
            sent = Verified(self.legacy.verification_code(message.to, message.code), None)
        elif self._v1 is not None:
            sent = self._v1.verify(message.to, self._template_id, values)
        else:
            sent = Verified(
                self.legacy.ultra_fast_send(message.to, self._template_id, values), None
            )
        return Receipt(
            message.to, Status.QUEUED, sent.id, reference=message.reference, cost=sent.cost
        )

    def credit(self) -> Credit:
        """What is left, in the account's own unit."""
        return Credit((self._v1 or self.legacy).credit())

    def statuses(self, ids: Sequence[str]) -> dict[str, Status]:
        """Where these messages are. v1 tells of one message a call, so many ids take long.

        Where the gateway fails on the way, what it has told is returned.
        """
        if self._v1 is None:
            raise self._unable("telling where a message is")
        found = dict.fromkeys(ids, Status.UNKNOWN)
        told = False
        for id_ in found:
            if not (id_.isascii() and id_.isdigit()):
                continue
            try:
                found[id_] = self._v1.report(id_).status
            except Rejected:
                pass  # there is no such message
            except SenderError:
                if told:
                    break
                raise
            told = True
        return found

    def received(self, since: datetime) -> Iterator[Incoming]:
        """The messages among the latest hundred that came since then."""
        if self._v1 is None:
            raise self._unable("telling received messages")
        for message in self._v1.latest_received():
            if message.received_at is None or message.received_at >= since:
                yield message

    def close(self) -> None:
        self._http.close()

    def _v1_receipt(self, text: Text, pack: Pack, place: int, cost: Decimal | None) -> Receipt:
        """Ids come in the order of the recipients; 0 or null says that one was not sent to."""
        id_ = pack.ids[place] if place < len(pack.ids) else None
        if id_ is None:
            unsure = Unknown(self.name, "the answer does not say what became of this recipient")
            return Receipt(text.to, Status.UNKNOWN, reference=text.reference, error=unsure)
        if not id_:
            refused = Rejected(self.name, "not sent to this recipient")
            return Receipt(text.to, Status.REJECTED, reference=text.reference, error=refused)
        return Receipt(text.to, Status.QUEUED, id_, text.reference, cost=cost)

    def _legacy_receipt(self, text: Text, sent: dict[str, list[str]]) -> Receipt:
        ids = sent.get(text.to)
        if ids:
            return Receipt(text.to, Status.QUEUED, ids.pop(0), text.reference)
        unsure = Unknown(self.name, "the answer holds no id for this recipient")
        return Receipt(text.to, Status.UNKNOWN, reference=text.reference, error=unsure)


# --- v1 -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verified:
    """A code that was taken.

    :param cost: in the account's unit; None where the interface does not tell.
    """

    id: str | None
    cost: Decimal | None


@dataclass(frozen=True, slots=True)
class Pack:
    """A send that was taken.

    :param ids: in the order of the recipients, shorter where the answer left some out: an id, `""`
        for one who was not sent to, None for what is no id.
    """

    id: str | None
    ids: tuple[str | None, ...]
    cost: Decimal | None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What a cancelled pack gave back: credit, in the account's unit, and messages."""

    credit: Decimal | None
    messages: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """Where a message is.

    :param mobile: E.164.
    :param sent_at: aware, UTC, as `delivered_at`; None where it is not known.
    """

    id: str
    mobile: str = field(repr=False)
    status: Status
    sent_at: datetime | None
    delivered_at: datetime | None
    cost: Decimal | None


class V1:
    """The calls of `https://api.sms.ir/v1`. Every one raises `SenderError`s as `V1_CODES` says,
    and `Unknown` for an answer in no table. Times to the gateway are Unix seconds.
    """

    def __init__(self, http: HttpTransport, api_key: str) -> None:
        self._http = http
        self._key = api_key

    def __repr__(self) -> str:
        return f"<V1 of {self._http.gateway!r}>"

    def verify(self, to: str, template_id: int, values: Mapping[str, str]) -> Verified:
        """`POST send/verify`: a template to one mobile, its variables by name."""
        data = self._call(
            "POST",
            "/send/verify",
            {
                "mobile": national(to),
                "templateId": template_id,
                "parameters": [{"name": name, "value": value} for name, value in values.items()],
            },
            sent=tuple(values.values()),
        )
        id_ = _message_id(data.get("messageId", _MISSING) if isinstance(data, dict) else _MISSING)
        if id_ is None or not isinstance(data, dict):
            raise Unknown(self._http.gateway, "the answer holds no id for this recipient")
        if not id_:
            raise Rejected(self._http.gateway, "not sent to this recipient")
        return Verified(id_, _decimal(data.get("cost")))

    def bulk(
        self, line: int, text: str, mobiles: Sequence[str], *, at: datetime | None = None
    ) -> Pack:
        """`POST send/bulk`: one text to at most 100 mobiles, E.164, at once or `at` a time."""
        return self._pack(
            "/send/bulk",
            {
                "lineNumber": line,
                "messageText": text,
                "mobiles": [national(mobile) for mobile in mobiles],
                "sendDateTime": _seconds(at),
            },
            (text,),
            len(mobiles),
        )

    def like_to_like(
        self,
        line: int,
        texts: Sequence[str],
        mobiles: Sequence[str],
        *,
        at: datetime | None = None,
    ) -> Pack:
        """`POST send/likeToLike`: a text of its own to each of at most 100 mobiles, E.164."""
        return self._pack(
            "/send/likeToLike",
            {
                "lineNumber": line,
                "messageTexts": list(texts),
                "mobiles": [national(mobile) for mobile in mobiles],
                "sendDateTime": _seconds(at),
            },
            tuple(texts),
            len(mobiles),
        )

    def cancel(self, pack_id: str) -> Cancelled:
        """`DELETE send/scheduled/{packId}`: call back a pack whose time has not come."""
        data = self._call("DELETE", f"/send/scheduled/{quote(pack_id, safe='')}")
        row = data if isinstance(data, dict) else {}
        messages = row.get("smsCount")
        return Cancelled(
            _decimal(row.get("returnedCreditCount")),
            messages if isinstance(messages, int) and not isinstance(messages, bool) else None,
        )

    def credit(self) -> Decimal:
        """`GET credit`."""
        amount = _decimal(self._call("GET", "/credit"))
        if amount is None:
            raise Unknown(self._http.gateway, "its credit is not a number")
        return amount

    def lines(self) -> list[str]:
        """`GET line`: the account's numbers."""
        return [str(line) for line in self._list("/line") if _message_id(line)]

    def report(self, message_id: str) -> Report:
        """`GET send/{id}`: one message.

        :raises Rejected: there is none of this id.
        """
        data = self._call("GET", f"/send/{quote(message_id, safe='')}")
        if not isinstance(data, dict):
            raise Unknown(self._http.gateway, "its report is not an object")
        return self._report({"messageId": message_id} | data)

    def pack_report(self, pack_id: str) -> list[Report]:
        """`GET send/pack/{id}`: the messages of a pack."""
        return self._reports(self._list(f"/send/pack/{quote(pack_id, safe='')}"))

    def live_report(self, page: int = 1, size: int = 100) -> list[Report]:
        """`GET send/live`: today's messages, a page of them, the first being 1."""
        params = {"pageNumber": str(page), "pageSize": str(size)}
        return self._reports(self._list("/send/live", params))

    def latest_received(self, count: int = 100) -> list[Incoming]:
        """`GET receive/latest`: the latest messages from phones.

        The gateway gives them no ids; the same message has the same id of our own making.
        """
        rows = self._list("/receive/latest", {"count": str(count)})
        return [_incoming(row) for row in rows if isinstance(row, dict)]

    def _pack(
        self, path: str, request: dict[str, object], sent: tuple[str, ...], recipients: int
    ) -> Pack:
        data = self._call("POST", path, request, sent=sent)
        ids = data.get("messageIds") if isinstance(data, dict) else None
        if not isinstance(data, dict) or not isinstance(ids, list):
            raise Unknown(self._http.gateway, "the answer holds no list of ids")
        # More ids than recipients belong to nobody in particular.
        read = tuple(map(_message_id, ids)) if len(ids) <= recipients else ()
        return Pack(_pack_id(data.get("packId")), read, _decimal(data.get("cost")))

    def _list(self, path: str, params: Mapping[str, str] | None = None) -> list[object]:
        data = self._call("GET", path, params=params)
        if not isinstance(data, list):
            raise Unknown(self._http.gateway, "the answer is not a list")
        return data

    def _reports(self, rows: Sequence[object]) -> list[Report]:
        return [self._report(row) for row in rows if isinstance(row, dict)]

    def _report(self, row: Mapping[str, object]) -> Report:
        state = row.get("deliveryState", "")
        known = state is None or (isinstance(state, int) and not isinstance(state, bool))
        return Report(
            id=str(row.get("messageId", "")),
            mobile=e164(str(row.get("mobile", ""))),
            status=status_of(STATES, state, gateway=self._http.gateway)
            if known
            else Status.UNKNOWN,
            sent_at=_moment(row.get("sendDateTime")),
            delivered_at=_moment(row.get("deliveryDateTime")),
            cost=_decimal(row.get("cost")),
        )

    def _call(
        self,
        method: str,
        path: str,
        request: object = None,
        *,
        params: Mapping[str, str] | None = None,
        sent: tuple[str, ...] = (),
    ) -> object:
        """Make a call; `data` of its envelope `{"status": 1, "message": …, "data": …}`."""
        answer = self._http.request(
            method,
            path,
            json=request,
            params=params,
            headers={"X-API-KEY": self._key, "Accept": "application/json"},
        )
        envelope = _object(answer)
        status = envelope.get("status") if envelope is not None else None
        code = status if isinstance(status, int) and not isinstance(status, bool) else None
        if code in V1_CODES:
            kind, reason = V1_CODES[code]
            raise kind(self._http.gateway, reason, code=str(code))
        _refuse_other_faults(answer, envelope)
        if code == 1 and answer.status < 300 and envelope is not None:
            return envelope.get("data")
        words = safe_reason((envelope or {}).get("message") or "", sent=(self._key, *sent))
        raise Unknown(
            self._http.gateway,
            f"neither a success nor a known error: {words}",
            code=str(code) if code is not None and abs(code) < 10_000 else None,
        )


# --- legacy -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Contact:
    """A contact of the customer club.

    :param mobile: E.164.
    """

    mobile: str = field(repr=False)
    first_name: str = field(default="", repr=False)
    last_name: str = field(default="", repr=False)
    id: str | None = None
    active: bool = True


@dataclass(frozen=True, slots=True)
class LegacyMessage:
    """A message that legacy sent.

    :param mobile: E.164.
    :param state: in the gateway's own words, of which it has no list; hence there is no `Status`.
    :param final: whether the gateway will not look again.
    """

    id: str
    mobile: str = field(repr=False)
    state: str
    final: bool


class Legacy:
    """The calls of `https://RestfulSms.com/api`. Every answer holds `IsSuccessful` and `Message`.

    The interface has no error codes: a call that was not successful raises `Unknown` with the
    gateway's own words, save for the token, without which nothing can have been sent.

    A token is fetched with the first call, renewed before its half hour is over, and once more
    where the gateway refuses it all the same. Thread-safe: one thread fetches, the others wait.
    """

    def __init__(self, http: HttpTransport, api_key: str, secret_key: str) -> None:
        self._http = http
        self._api_key = api_key
        self._secret_key = secret_key
        self._lock = threading.Lock()
        self._token = ""
        self._token_ends = 0.0

    def __repr__(self) -> str:
        return f"<Legacy of {self._http.gateway!r}>"

    def verification_code(self, to: str, code: str) -> str | None:
        """`POST VerificationCode`: a code in the account's own verification text; its id."""
        request = {"Code": code, "MobileNumber": national(to)}
        answer = self._call("POST", "/VerificationCode", request, sent=(code,))
        return _message_id(answer.get("VerificationCodeId")) or None

    def ultra_fast_send(self, to: str, template_id: int, values: Mapping[str, str]) -> str | None:
        """`POST UltraFastSend`: a template to one mobile, its variables by name; its id."""
        request = {
            "ParameterArray": [
                {"Parameter": name, "ParameterValue": value} for name, value in values.items()
            ],
            "Mobile": national(to),
            "TemplateId": template_id,
        }
        answer = self._call("POST", "/UltraFastSend", request, sent=tuple(values.values()))
        return _message_id(answer.get("VerificationCodeId")) or None

    def send(
        self, mobiles: Sequence[str], texts: Sequence[str], *, line: str
    ) -> dict[str, list[str]]:
        """`POST MessageSend`: a text of its own to each mobile, E.164.

        :returns: the ids by mobile; who is missing, is left out by the answer.
        """
        request = self._texts(mobiles, texts) | {"LineNumber": line}
        return self._ids(self._call("POST", "/MessageSend", request, sent=tuple(texts)))

    def club_send(self, mobiles: Sequence[str], texts: Sequence[str]) -> dict[str, list[str]]:
        """`POST CustomerClub/Send`: as `send`, from the customer club's own line."""
        request = self._texts(mobiles, texts)
        return self._ids(self._call("POST", "/CustomerClub/Send", request, sent=tuple(texts)))

    def club_send_to_categories(self, text: str, categories: Sequence[int]) -> str | None:
        """`POST CustomerClub/SendToCategories`: one text to all contacts of these categories.

        :returns: the send's batch key.
        """
        request = {
            "Messages": text,
            "contactsCustomerClubCategoryIds": list(categories),
            "SendDateTime": "",
            "CanContinueInCaseOfError": True,
        }
        answer = self._call("POST", "/CustomerClub/SendToCategories", request, sent=(text,))
        return _pack_id(answer.get("BatchKey"))

    def add_contact(self, contact: Contact, *, category: int | None = None) -> None:
        """`POST CustomerClubContact`: take someone into the customer club."""
        request = {
            "Prefix": "",
            "FirstName": contact.first_name,
            "LastName": contact.last_name,
            "Mobile": national(contact.mobile),
            "BirthDay": "",
            "CategoryId": "" if category is None else category,
        }
        names = (contact.first_name, contact.last_name)
        self._call("POST", "/CustomerClubContact", request, sent=names)

    def message(self, message_id: str) -> LegacyMessage:
        """`GET MessageSend?id=`: one message by the id that `send` gave."""
        row = self._call("GET", "/MessageSend", params={"id": message_id}).get("Messages")
        if not isinstance(row, dict):
            raise Unknown(self._http.gateway, "its report is not an object")
        return LegacyMessage(
            id=_message_id(row.get("ID")) or message_id,
            mobile=e164(str(row.get("MobileNo", ""))),
            state=safe_reason(row.get("DeliveryStatus") or ""),
            final=row.get("NeedsReCheck") is False,
        )

    def contacts(self) -> Iterator[Contact]:
        """`GET CustomerClubContact/GetContacts`: everyone in the customer club, page by page."""
        for page in range(1, MAX_PAGES + 1):
            answer = self._call(
                "GET", "/CustomerClubContact/GetContacts", params={"pageNumber": str(page)}
            )
            rows = answer.get("ContactsCustomerClubResponseDetails")
            if not isinstance(rows, list) or not rows:
                return
            yield from (_contact(row) for row in rows if isinstance(row, dict))
            told = _decimal(answer.get("AllPages"))
            if told is not None and page >= told:
                return

    def credit(self) -> Decimal:
        """`GET credit`."""
        amount = _decimal(self._call("GET", "/credit").get("Credit"))
        if amount is None:
            raise Unknown(self._http.gateway, "its credit is not a number")
        return amount

    def lines(self) -> list[str]:
        """`GET SMSLine`: the account's numbers."""
        rows = self._call("GET", "/SMSLine").get("SMSLines")
        if not isinstance(rows, list):
            raise Unknown(self._http.gateway, "the answer is not a list")
        numbers = [row.get("LineNumber") for row in rows if isinstance(row, dict)]
        return [str(number) for number in numbers if _message_id(number)]

    def _texts(self, mobiles: Sequence[str], texts: Sequence[str]) -> dict[str, object]:
        return {
            "Messages": list(texts),
            "MobileNumbers": [national(mobile) for mobile in mobiles],
            "SendDateTime": "",
            # One bad number is then left out of the answer, instead of stopping the others.
            "CanContinueInCaseOfError": True,
        }

    def _ids(self, answer: Mapping[str, object]) -> dict[str, list[str]]:
        rows = answer.get("Ids")
        ids: dict[str, list[str]] = {}
        for row in rows if isinstance(rows, list) else ():
            id_ = _message_id(row.get("ID")) if isinstance(row, dict) else None
            if id_:
                ids.setdefault(e164(str(row.get("MobileNo", ""))), []).append(id_)
        return ids

    def _call(
        self,
        method: str,
        path: str,
        request: object = None,
        *,
        params: Mapping[str, str] | None = None,
        sent: tuple[str, ...] = (),
    ) -> dict[str, object]:
        """Make a call with a token, and once more with a new one where it is refused."""
        with deadline(self._http.timeout.whole):
            token = self._fresh_token()
            answer = self._ask(method, path, request, params, token)
            if answer.status == 401:
                # Refused at the door, so nothing of it was done.
                answer = self._ask(method, path, request, params, self._fresh_token(refused=token))
        return self._successful(answer, (self._api_key, self._secret_key, *sent))

    def _ask(
        self,
        method: str,
        path: str,
        request: object,
        params: Mapping[str, str] | None,
        token: str,
    ) -> Answer:
        headers = {"Accept": "application/json", "x-sms-ir-secure-token": token}
        return self._http.request(method, path, json=request, params=params, headers=headers)

    def _successful(self, answer: Answer, sent: tuple[str, ...]) -> dict[str, object]:
        envelope = _object(answer)
        _refuse_other_faults(answer, envelope)
        if envelope is not None and answer.status < 300 and envelope.get("IsSuccessful") is True:
            return envelope
        words = safe_reason((envelope or {}).get("Message") or "", sent=sent)
        raise Unknown(self._http.gateway, f"it was not successful: {words}")

    def _fresh_token(self, *, refused: str = "") -> str:
        """A token that is not the refused one.

        :raises Unavailable: our keys are refused, or another thread is fetching for too long.
        """
        left = remaining()
        if not self._lock.acquire(timeout=-1 if left is None else left):
            raise Unavailable(self._http.gateway, "its token did not come in time", written=False)
        try:
            if not self._token or self._token == refused or time.monotonic() >= self._token_ends:
                self._token = ""
                self._token = self._new_token()
                self._token_ends = time.monotonic() + TOKEN_SECONDS
            return self._token
        finally:
            self._lock.release()

    def _new_token(self) -> str:
        """`POST Token`. Without a token nothing is sent, so every failure is `Unavailable`."""
        try:
            answer = self._http.request(
                "POST",
                "/Token",
                json={"UserApiKey": self._api_key, "SecretKey": self._secret_key},
                headers={"Accept": "application/json"},
            )
            envelope = self._successful(answer, (self._api_key, self._secret_key))
        except Unknown as error:
            reason, code = f"no token: {error.reason}", error.code
        else:
            token = envelope.get("TokenKey")
            # It goes into a header.
            if isinstance(token, str) and token and token.isascii() and token.isprintable():
                return token
            reason, code = "no token: the answer holds none", None
        raise Unavailable(self._http.gateway, reason, code=code, written=False)


# --- reading --------------------------------------------------------------------------------------

_MISSING = object()


def _object(answer: Answer) -> dict[str, object] | None:
    try:
        value = answer.json()
    except Unknown:
        return None
    return value if isinstance(value, dict) else None


def _refuse_other_faults(answer: Answer, envelope: dict[str, object] | None) -> None:
    """Raise what the HTTP status says where the envelope's own code does not."""
    answer.refuse_service_faults()
    if envelope is None:
        answer.refuse_wrong_address()
        answer.unreadable("a JSON object")


def _message_id(value: object) -> str | None:
    """An id as text; `""` for 0 and null, which say that nothing was sent; None for no id."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    text = str(value).strip()
    if not text.isascii() or not text.isdigit() or len(text) > 30:
        return None
    return text if text.strip("0") else ""


def _pack_id(value: object) -> str | None:
    return str(value)[:64] if isinstance(value, int | str) and value else None


def _decimal(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    amount = Decimal(str(value))
    return amount if amount.is_finite() and 0 <= amount < 10**15 else None


def _moment(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**40:
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())


def _incoming(row: Mapping[str, object]) -> Incoming:
    sender, line = e164(str(row.get("mobile", ""))), str(row.get("number", ""))
    text, received = str(row.get("messageText") or ""), row.get("receivedDateTime")
    return Incoming(
        id=own_id("smsir", line, sender, str(received), text),
        sender=sender,
        line=line,
        text=text,
        received_at=_moment(received),
    )


def _contact(row: Mapping[str, object]) -> Contact:
    return Contact(
        mobile=e164(str(row.get("Mobile", ""))),
        first_name=str(row.get("FirstName") or ""),
        last_name=str(row.get("LastName") or ""),
        id=_message_id(row.get("Id")) or None,
        active=row.get("IsActive") is not False,
    )


def _number(name: str, option: str, value: object) -> int | None:
    if value in (None, ""):
        return None
    text = credential(name, option, value)
    if not text.isascii() or not text.isdigit():
        raise ConfigurationError(f"{name}: {option} must be a number")
    return int(text)
