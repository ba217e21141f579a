"""SMS.ir: v1 by API key, and the older service at RestfulSms.com by a token of 30 minutes.

SMS.ir prints little of either; this is what its public clients send and read. v1 answers
`{"status", "message", "data"}`, status 1 for success, logical errors with HTTP 400. The older
service answers `IsSuccessful` and `Message` beside its own members, a token with HTTP 201.
"""

import math
import secrets
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Final, TypeVar

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from .bodies import (
    TEHRAN,
    Fields,
    form_fields,
    json_answer,
    json_fields,
    local_time,
    read_day,
    read_timestamp,
)
from .gateway import folded
from .numbers import bare, national, read_mobile
from .state import Account, Incoming, Message, State
from .texts import parts

Row = TypeVar("Row")

MAX_RECIPIENTS: Final = 100
LONGEST_VALUE: Final = 25
TOKEN_LIFE: Final = timedelta(minutes=30)
CONTACTS_A_PAGE: Final = 10
LINE: Final = 30007732000000

# v1's `status`; the words are ours.
STATUSES: Final = {
    1: "موفق",
    10: "کلید وب سرویس نامعتبر است",
    16: "پارامترهای ارسالی نامعتبر است",
    101: "شماره خط نامعتبر است",
    102: "اعتبار کافی نیست",
    103: "متن پیام خالی است",
    104: "شماره موبایل نامعتبر است",
    105: "بیش از ۱۰۰ موبایل",
    111: "شناسه ارسال نامعتبر است",
    113: "قالب یافت نشد",
    114: "طول مقدار پارامتر بیش از ۲۵ کاراکتر است",
    115: "موبایل در لیست سیاه است",
}

# v1's `deliveryState`: 1 delivered, 2 not, 3 at the operator, 7 black list, 8 unknown.
DELIVERY: Final[dict[State, int]] = {
    "queued": 8,
    "sent": 3,
    "delivered": 1,
    "undelivered": 2,
    "rejected": 7,
    "cancelled": 6,
}

# The older service describes a message's state in words.
LEGACY_DELIVERY: Final[dict[State, str]] = {
    "queued": "در صف ارسال",
    "sent": "رسیده به مخابرات",
    "delivered": "رسیده به گوشی",
    "undelivered": "نرسیده به گوشی",
    "rejected": "لیست سیاه",
    "cancelled": "لغو شده",
}


class Refusal(Exception):
    """A call that is answered by one of v1's statuses."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass
class Contact:
    """A member of the customer club. `mobile` is E.164."""

    number: int
    mobile: str
    prefix: str
    first_name: str
    last_name: str
    birthday: str
    category: int


class SMSIr:
    """The gateway at api.sms.ir and RestfulSms.com."""

    name: ClassVar[str] = "smsir"
    title: ClassVar[str] = "SMS.ir"
    hosts: ClassVar[tuple[str, ...]] = ("api.sms.ir", "restfulsms.com", "www.restfulsms.com")
    folds_case: ClassVar[bool] = True
    preparations: ClassVar[frozenset[str]] = frozenset({"legacy Token"})

    def __init__(self, account: Account) -> None:
        self.account = account
        self._tokens: dict[str, datetime] = {}
        self._contacts: dict[str, Contact] = {}
        account.on_reset(self._tokens.clear)
        account.on_reset(self._contacts.clear)

    def routes(self, blueprint: Blueprint) -> None:
        """v1 under `/v1`, the older service under `/api`."""
        v1: list[tuple[str, str, Callable[..., object]]] = [
            ("POST", "send/verify", self.verify),
            ("POST", "send/bulk", self.bulk),
            ("POST", "send/likeToLike", self.like_to_like),
            ("DELETE", "send/scheduled/<pack>", self.unschedule),
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
        for method, path, answer in v1:
            blueprint.add_url_rule(
                folded(f"/v1/{path}"), f"v1 {path}", self._v1(answer), methods=[method]
            )
        legacy: list[tuple[str, str, Callable[[Fields], Response]]] = [
            ("POST", "VerificationCode", self.legacy_code),
            ("POST", "UltraFastSend", self.legacy_template),
            ("POST", "MessageSend", self.legacy_send),
            ("GET", "MessageSend", self.legacy_report),
            ("POST", "MessageReport", self.legacy_report),
            ("GET", "ReceiveMessage", self.legacy_received),
            ("GET", "credit", self.legacy_credit),
            ("GET", "SMSLine", self.legacy_lines),
            ("POST", "CustomerClub/Send", self.legacy_send),
            ("POST", "CustomerClub/SendToCategories", self.legacy_send_to_categories),
            ("POST", "CustomerClub/DeleteContactCustomerClub", self.legacy_forget_contact),
            ("POST", "CustomerClubContact", self.legacy_contact),
            ("PUT", "CustomerClubContact", self.legacy_contact),
            ("GET", "CustomerClubContact/GetCategories", self.legacy_categories),
            ("GET", "CustomerClubContact/GetContacts", self.legacy_contacts),
            ("GET", "CustomerClubContact/GetContactsByCategoryById", self.legacy_contacts),
        ]
        blueprint.add_url_rule(folded("/api/Token"), "legacy Token", self.token, methods=["POST"])
        for method, path, reply in legacy:
            blueprint.add_url_rule(
                folded(f"/api/{path}"), f"legacy {method} {path}",
                self._legacy(reply), methods=[method],
            )  # fmt: skip

    # v1

    def _v1(self, answer: Callable[..., object]) -> Callable[..., ResponseReturnValue]:
        def view(**values: str | int) -> ResponseReturnValue:
            if not request.headers.get("X-API-KEY") or self.account.strikes("bad_credentials"):
                return v1_answer(10, http=401)
            try:
                return v1_answer(1, answer(**values))
            except Refusal as refusal:
                return v1_answer(refusal.status, http=400)

        return view

    def verify(self) -> dict[str, object]:
        """A template's text to one: `{messageId, cost}`."""
        fields = _object()
        rows = fields.rows("parameters")
        if not fields.whole("templateId"):
            raise Refusal(113)
        if rows is None:
            raise Refusal(16)
        values = [Fields(row).text("value") for row in rows if isinstance(row, dict)]
        if any(len(value) > LONGEST_VALUE for value in values):
            raise Refusal(114)
        message = self._one(fields.text("mobile"), _template_text(values))
        return {"messageId": int(message.ref), "cost": message.cost}

    def bulk(self) -> dict[str, object]:
        """One text to at most 100: `{packId, messageIds, cost}`."""
        fields = _object()
        mobiles = fields.texts("mobiles")
        return self._pack(fields, mobiles, [fields.text("messageText")] * len(mobiles or ()))

    def like_to_like(self) -> dict[str, object]:
        """To each its own text."""
        fields = _object()
        return self._pack(fields, fields.texts("mobiles"), fields.texts("messageTexts"))

    def unschedule(self, pack: str) -> dict[str, object]:
        """Take a send back whose time has not come."""
        taken = self.account.cancel(pack)
        if not taken:
            raise Refusal(111)
        return {"returnedCreditCount": sum(m.cost for m in taken), "smsCount": len(taken)}

    def credit(self) -> float:
        """The credit, in messages."""
        return self.account.left()

    def lines(self) -> list[int]:
        """The account's lines."""
        return [LINE]

    def report(self, number: int) -> dict[str, object]:
        """The state of a message."""
        message = self.account.message(str(number))
        if message is None:
            raise Refusal(111)
        return self._report(message)

    def report_pack(self, pack: str) -> list[dict[str, object]]:
        """The states of a send."""
        messages = self.account.batch(pack)
        if not messages:
            raise Refusal(111)
        return [self._report(message) for message in messages]

    def report_today(self) -> list[dict[str, object]]:
        """Today's messages, newest first, by `pageSize` and `pageNumber`."""
        today = self._today()
        sent = [m for m in self.account.messages() if m.taken_at >= today]
        return [self._report(message) for message in _paged(sent)]

    def report_archive(self) -> list[dict[str, object]]:
        """Messages before today, between the timestamps `fromDate` and `toDate`."""
        start, end = _span()
        today = self._today()
        sent = [m for m in self.account.messages() if start <= m.taken_at < min(end, today)]
        return [self._report(message) for message in _paged(sent)]

    def latest(self) -> list[dict[str, object]]:
        """The last received messages, at most `count` (100)."""
        wanted = form_fields(request).whole("count") or 100
        return [_received(message) for message in self.account.incoming()[: max(wanted, 0)]]

    def received_today(self) -> list[dict[str, object]]:
        """Today's received messages, newest first."""
        today = self._today()
        return [_received(m) for m in _paged([m for m in self.account.incoming() if m.at >= today])]

    def received_archive(self) -> list[dict[str, object]]:
        """Received messages before today, between two timestamps."""
        start, end = _span()
        today = self._today()
        found = [m for m in self.account.incoming() if start <= m.at < min(end, today)]
        return [_received(message) for message in _paged(found)]

    def _one(self, mobile: str, text: str, code: str | None = None) -> Message:
        if read_mobile(mobile) is None:
            raise Refusal(104)
        self._accept(text, 1)
        return self.account.send(
            ref=str(self.account.next_number()), sender=str(LINE), to=mobile, text=text, code=code
        )

    def _accept(self, text: str, recipients: int) -> None:
        if self.account.strikes("refuse"):
            raise Refusal(115)
        if not self.account.can_pay(parts(text) * recipients):
            raise Refusal(102)

    def _pack(
        self, fields: Fields, mobiles: list[str] | None, texts: list[str] | None
    ) -> dict[str, object]:
        if not fields.whole("lineNumber"):
            raise Refusal(101)
        if not mobiles or texts is None or len(texts) != len(mobiles):
            raise Refusal(16)
        if len(mobiles) > MAX_RECIPIENTS:
            raise Refusal(105)
        if not all(text.strip() for text in texts):
            raise Refusal(103)
        self._accept(max(texts, key=parts), len(mobiles))
        sent = self._send(fields.text("lineNumber"), mobiles, texts, _send_time(fields))
        return {
            "packId": sent[0].batch,
            "messageIds": [int(m.ref) if m.reaches else None for m in sent],
            "cost": sum(message.cost for message in sent),
        }

    def _send(
        self, line: str, mobiles: Sequence[str], texts: Sequence[str], at: datetime | None
    ) -> list[Message]:
        late = self.account.strikes("late_delivery")
        pack = str(uuid.uuid4())
        return [
            self.account.send(
                ref=str(self.account.next_number()), sender=line, to=mobile, text=text,
                batch=pack, at=at, late=late,
            )
            for mobile, text in zip(mobiles, texts, strict=True)
        ]  # fmt: skip

    def _report(self, message: Message) -> dict[str, object]:
        state = self.account.state_of(message)
        delivered = int(message.reported_at.timestamp()) if state == "delivered" else None
        return {
            "messageId": int(message.ref),
            "mobile": int(bare(message.to)) if message.reaches else message.to,
            "messageText": message.text,
            "sendDateTime": int(message.starts_at.timestamp()),
            "lineNumber": int(message.sender),
            "cost": message.cost,
            "deliveryState": DELIVERY[state],
            "deliveryDateTime": delivered,
        }

    def _today(self) -> datetime:
        now = self.account.now().astimezone(TEHRAN)
        return now.replace(hour=0, minute=0, second=0, microsecond=0)

    # The older service

    def token(self) -> Response:
        """A token for the two keys, good for 30 minutes."""
        fields = json_fields(request) or Fields({})
        complete = fields.text("UserApiKey") and fields.text("SecretKey")
        if not complete or self.account.strikes("bad_credentials"):
            return legacy_answer("کلید کاربر یا کد امنیتی نادرست است", {"TokenKey": None}, http=400)
        token = secrets.token_urlsafe(48)
        self._tokens[token] = self.account.now() + TOKEN_LIFE
        return legacy_answer("درخواست شما با موفقیت انجام شد", {"TokenKey": token})

    def _legacy(self, answer: Callable[[Fields], Response]) -> Callable[[], ResponseReturnValue]:
        def view() -> ResponseReturnValue:
            token = request.headers.get("x-sms-ir-secure-token", "")
            ends = self._tokens.get(token)
            alive = ends is not None and self.account.now() < ends
            if not alive or self.account.strikes("bad_credentials"):
                return json_answer({"Message": "Authorization has been denied."}, 401)
            asked = request.method == "GET"
            fields = form_fields(request) if asked else json_fields(request)
            if fields is None:
                return json_answer({"Message": "The request is invalid."}, 400)
            try:
                return answer(fields)
            except Refusal as refusal:
                return legacy_answer(STATUSES[refusal.status], http=201, successful=False)

        return view

    def legacy_code(self, fields: Fields) -> Response:
        """A code in SMS.ir's own words."""
        code = fields.text("Code")
        if not code:
            raise Refusal(16)
        message = self._one(fields.text("MobileNumber"), f"کد تأیید شما: {code}", code)
        return legacy_answer("کد تأیید ارسال شد", {"VerificationCodeId": int(message.ref)})

    def legacy_template(self, fields: Fields) -> Response:
        """A template's text."""
        rows = fields.rows("ParameterArray")
        if not fields.whole("TemplateId"):
            raise Refusal(113)
        if rows is None:
            raise Refusal(16)
        values = [Fields(row).text("ParameterValue") for row in rows if isinstance(row, dict)]
        message = self._one(fields.text("Mobile"), _template_text(values))
        return legacy_answer("عملیات با موفقیت انجام شد", {"VerificationCodeId": int(message.ref)})

    def legacy_send(self, fields: Fields) -> Response:
        """One text to all, or to each its own: an id for each that was taken."""
        mobiles = fields.texts("MobileNumbers")
        texts, line = fields.texts("Messages") or [], fields.text("LineNumber") or str(LINE)
        return self._legacy_send(fields, mobiles or [], texts, line)

    def legacy_send_to_categories(self, fields: Fields) -> Response:
        """One text, which is no list here, to the contacts of the club's categories; to all of
        them where none is named."""
        wanted = {row for row in fields.texts("contactsCustomerClubCategoryIds") or () if row}
        mobiles = [
            national(contact.mobile)
            for contact in self._contacts.values()
            if not wanted or str(contact.category) in wanted
        ]
        texts = fields.texts("Messages") or [fields.text("Messages")]
        return self._legacy_send(fields, mobiles, texts, str(LINE))

    def _legacy_send(
        self, fields: Fields, mobiles: list[str], texts: list[str], line: str
    ) -> Response:
        if not mobiles:
            raise Refusal(104)
        if not texts or not all(text.strip() for text in texts):
            raise Refusal(103)
        if len(texts) == 1:
            texts = texts * len(mobiles)
        if len(texts) != len(mobiles):
            raise Refusal(16)
        self._accept(max(texts, key=parts), len(mobiles))
        sent = self._send(line, mobiles, texts, _send_time(fields))
        ids = [
            {"ID": int(message.ref), "MobileNo": national(message.to)}
            for message in sent
            if message.reaches
        ]
        if not ids:
            raise Refusal(104)
        return legacy_answer("ارسال با موفقیت انجام شد", {"Ids": ids, "BatchKey": sent[0].batch})

    def legacy_report(self, fields: Fields) -> Response:
        """Messages by `id`, by `batchKey`, or all."""
        if fields.text("id"):
            found = [m for m in [self.account.message(fields.text("id"))] if m]
        elif fields.text("batchKey"):
            found = self.account.batch(fields.text("batchKey"))
        else:
            found = self.account.messages()
        rows = [
            {
                "ID": int(message.ref),
                "LineNumber": message.sender,
                "SMSMessageBody": message.text,
                "MobileNo": national(message.to) if message.reaches else message.to,
                "SendDateTime": local_time(message.starts_at),
                "DeliveryStatus": LEGACY_DELIVERY[self.account.state_of(message)],
            }
            for message in found
        ]
        return legacy_answer("عملیات با موفقیت انجام شد", {"Messages": rows})

    def legacy_received(self, fields: Fields) -> Response:
        """Received messages, those after `id` where it is given."""
        after = fields.whole("id") or 0
        rows = [
            {
                "ID": message.number,
                "LineNumber": message.line,
                "SMSMessageBody": message.text,
                "MobileNo": national(message.sender),
                "ReceiveDateTime": local_time(message.at),
            }
            for message in self.account.incoming()
            if message.number > after
        ]
        return legacy_answer("عملیات با موفقیت انجام شد", {"Messages": rows})

    def legacy_credit(self, _: Fields) -> Response:
        """The credit, in messages."""
        return legacy_answer("عملیات با موفقیت انجام شد", {"Credit": self.credit()})

    def legacy_lines(self, _: Fields) -> Response:
        """The account's lines."""
        return legacy_answer(
            "عملیات با موفقیت انجام شد", {"SMSLines": [{"ID": 1, "LineNumber": LINE}]}
        )

    def legacy_contact(self, fields: Fields) -> Response:
        """Put a contact into the club, or change the one with this mobile."""
        mobile = read_mobile(fields.text("Mobile"))
        if mobile is None:
            raise Refusal(104)
        known = self._contacts.get(mobile)
        self._contacts[mobile] = Contact(
            number=known.number if known else self.account.next_number(),
            mobile=mobile,
            prefix=fields.text("Prefix"),
            first_name=fields.text("FirstName"),
            last_name=fields.text("LastName"),
            birthday=fields.text("BirthDay"),
            category=fields.whole("CategoryId") or 0,
        )
        return legacy_answer("عملیات با موفقیت انجام شد")

    def legacy_forget_contact(self, fields: Fields) -> Response:
        """Take a contact out of the club."""
        mobile = read_mobile(fields.text("Mobile"))
        if mobile is None or self._contacts.pop(mobile, None) is None:
            raise Refusal(104)
        return legacy_answer("عملیات با موفقیت انجام شد")

    def legacy_categories(self, _: Fields) -> Response:
        """The categories that contacts were put into."""
        numbers = sorted({contact.category for contact in self._contacts.values()})
        rows = [{"Id": number, "Name": f"گروه {number}"} for number in numbers]
        return legacy_answer("عملیات با موفقیت انجام شد", {"ContactsCustomerClubCategories": rows})

    def legacy_contacts(self, fields: Fields) -> Response:
        """Contacts, ten a page from page 1, all or a category's."""
        category = fields.whole("categoryId")
        found = [c for c in self._contacts.values() if category in (None, c.category)]
        page = max(fields.whole("pageNumber") or 1, 1)
        shown = found[(page - 1) * CONTACTS_A_PAGE : page * CONTACTS_A_PAGE]
        rows = [
            {
                "Id": contact.number,
                "Prefix": contact.prefix,
                "FirstName": contact.first_name,
                "LastName": contact.last_name,
                "Mobile": int(bare(contact.mobile)),
                "BirthDay": contact.birthday,
                "CategoryId": contact.category,
                "IsActive": True,
            }
            for contact in shown
        ]
        return legacy_answer(
            "عملیات با موفقیت انجام شد",
            {
                "AllPages": math.ceil(len(found) / CONTACTS_A_PAGE),
                "AllRecords": len(found),
                "ContactsCustomerClubResponseDetails": rows,
            },
        )


def v1_answer(status: int, data: object = None, *, http: int = 200) -> Response:
    """v1's envelope."""
    return json_answer({"status": status, "message": STATUSES[status], "data": data}, http)


def legacy_answer(
    message: str,
    members: dict[str, object] | None = None,
    *,
    http: int = 201,
    successful: bool = True,
) -> Response:
    """The older service's answer; it says 201 where others say 200."""
    done = successful and http < 400
    return json_answer({**(members or {}), "IsSuccessful": done, "Message": message}, http)


def _object() -> Fields:
    fields = json_fields(request)
    if fields is None:
        raise Refusal(16)
    return fields


def _template_text(values: list[str]) -> str:
    """A template's words are kept with the gateway; these stand for them."""
    return f"کد تأیید شما: {values[0] if values else ''}" + "".join(f"\n{v}" for v in values[1:])


def _send_time(fields: Fields) -> datetime | None:
    """v1 sends a UNIX time, the older service a date as text; none is now."""
    seconds = fields.whole("sendDateTime")
    if seconds is not None:
        return read_timestamp(seconds)
    return read_day(fields.text("sendDateTime"))


def _paged(rows: list[Row]) -> list[Row]:
    fields = form_fields(request)
    size, page = fields.whole("pageSize") or 100, max(fields.whole("pageNumber") or 1, 1)
    return rows[(page - 1) * size : page * size]


def _span() -> tuple[datetime, datetime]:
    fields = form_fields(request)
    start = read_timestamp(fields.whole("fromDate") or 0)
    end = read_timestamp(fields.whole("toDate") or 253_402_300_799)
    if start is None or end is None:
        raise Refusal(16)
    return start, end


def _received(message: Incoming) -> dict[str, object]:
    return {
        "messageText": message.text,
        "number": int(message.line) if message.line.isdecimal() else message.line,
        "mobile": int(bare(message.sender)),
        "receivedDateTime": int(message.at.timestamp()),
    }
