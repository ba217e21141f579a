"""Raygan (Trez) as its web service guide describes it: JSON over POST, Basic authentication.

All methods answer the envelope `{"Code", "Message", "Result"}`, save the three code methods, which
answer a bare number or boolean. The guide prints one address for the methods and another host for
the code methods; both hosts answer all of them here.

What the guide leaves open is answered so: wrong credentials by HTTP 401 with ASP.NET's usual body,
a code that is not sent by an envelope.
"""

import math
import secrets
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import ClassVar, Final

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from .bodies import (
    Fields,
    as_text,
    as_whole,
    json_answer,
    json_fields,
    read_timestamp,
)
from .gateway import folded
from .numbers import bare, international, read_mobile, same_line
from .state import Account, Incoming, Message, State
from .texts import is_latin, parts

MAX_RECIPIENTS: Final = 50_000
MAX_PARTS: Final = 10
PAGE_SIZE: Final = 100
CODE_LINE: Final = "50002910"
FA_PRICE: Final = 112
EN_PRICE: Final = 275

# The guide's table of codes; the words are ours.
CODES: Final = {
    0: "عملیات با موفقیت انجام شد",
    1001: "ساختار درخواست درست نیست",
    1002: "شماره اختصاصی معتبر نیست",
    1003: "تاریخ معتبر نیست",
    1004: "پارامترهای درخواست معتبر نیست",
    2004: "تاریخ ارسال بیرون از محدوده مجاز است",
    2005: "بیش از ۵۰۰۰۰ مخاطب",
    2006: "متن بیش از ۱۰ پیامک است",
    2007: "شماره پورت مجاز نیست",
    2008: "شماره صفحه مجاز نیست",
    3002: "گروه پیام پیدا نشد",
    3003: "اعتبار کافی نیست",
    3004: "این سرویس برای اپراتور گیرنده تعریف نشده است",
    5002: "خطا هنگام ارسال پیام",
}

# The guide: 1 on the phone, 8 at the operator, 27 cannot be reached; anything not in its list is
# "being looked at", for which its own sample prints 0.
STATUSES: Final[dict[State, str]] = {
    "queued": "0",
    "sent": "8",
    "delivered": "1",
    "undelivered": "2",
    "rejected": "27",
    "cancelled": "16",
}


class Refusal(Exception):
    """A call that is answered by one of the guide's codes."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Raygan:
    """The gateway at raygansms.com and smspanel.trez.ir."""

    name: ClassVar[str] = "raygan"
    title: ClassVar[str] = "Raygan (Trez)"
    hosts: ClassVar[tuple[str, ...]] = ("raygansms.com", "www.raygansms.com", "smspanel.trez.ir")
    folds_case: ClassVar[bool] = True
    preparations: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, account: Account) -> None:
        self.account = account
        self._user_groups: dict[str, str] = {}
        account.on_reset(self._user_groups.clear)

    def routes(self, blueprint: Blueprint) -> None:
        """One POST route a method."""
        results: dict[str, Callable[[Fields], object]] = {
            "SendMessage": self.send_message,
            "SendCorrespondingMessage": self.send_corresponding,
            "SendMessageToPort": self.send_to_port,
            "GroupMessageStatus": self.group_status,
            "CorrespondingMessageStatus": self.corresponding_status,
            "GetGroupMessageId": self.group_id,
            "ReceiveMessages": self.receive,
            "GetCredit": self.credit,
            "GetPrices": self.prices,
            "ShowWhiteList": self.white_list,
        }
        scalars: dict[str, Callable[[Fields], int | bool]] = {
            "SendAutoCode": self.send_auto_code,
            "CheckSendCode": self.check_code,
            "SendCode": self.send_code,
        }
        for method, result in results.items():
            self._add(blueprint, method, result, enveloped=True)
        for method, scalar in scalars.items():
            self._add(blueprint, method, scalar, enveloped=False)

    def _add(
        self,
        blueprint: Blueprint,
        method: str,
        answer: Callable[[Fields], object],
        *,
        enveloped: bool,
    ) -> None:
        def view() -> ResponseReturnValue:
            if not self._may_enter():
                return json_answer({"Message": "Authorization has been denied."}, 401)
            fields = json_fields(request)
            if fields is None:
                return envelope(1001)
            try:
                result = answer(fields)
            except Refusal as refusal:
                return envelope(refusal.code)
            return envelope(0, result) if enveloped else json_answer(result)

        rule = folded(f"/api/smsAPI/{method}")
        blueprint.add_url_rule(rule, method, view, methods=["POST"])

    def _may_enter(self) -> bool:
        given = request.authorization
        complete = given is not None and given.type == "basic" and given.username and given.password
        return bool(complete) and not self.account.strikes("bad_credentials")

    def send_message(self, fields: Fields) -> str:
        """One text to many. Answers the id of the send; numbers that are none end as status 27."""
        line = _line(fields)
        text = _text(fields, "Message")
        mobiles = _recipients(fields.texts("Mobiles"))
        at = self._send_time(fields)
        price = self._accept(text, len(mobiles))
        late = self.account.strikes("late_delivery")
        group = str(uuid.uuid4())
        for mobile in mobiles:
            self.account.send(
                ref=self._number(), sender=line, to=mobile, text=text, batch=group,
                price=price, at=at, late=late,
            )  # fmt: skip
        if fields.text("UserGroupID"):
            self._user_groups[fields.text("UserGroupID")] = group
        return group

    def send_corresponding(self, fields: Fields) -> list[dict[str, object]]:
        """To each its own text. A recipient that cannot be reached is left out of the answer, as
        the guide's sample of `SendMessageToPort` leaves one out."""
        line = _line(fields)
        rows = [
            Fields(row) for row in fields.rows("RecipientsMessage") or () if isinstance(row, dict)
        ]
        _recipients([row.text("Mobile") for row in rows])
        price = self._accept(max((_text(row, "Message") for row in rows), key=len), len(rows))
        late = self.account.strikes("late_delivery")
        group = str(uuid.uuid4())
        answer: list[dict[str, object]] = []
        for row in rows:
            if read_mobile(row.text("Mobile")) is None and not _nearly_mobile(row.text("Mobile")):
                continue
            message = self.account.send(
                ref=self._number(), sender=line, to=row.text("Mobile"),
                text=row.text("Message"), batch=group, price=price, late=late,
            )  # fmt: skip
            own = row.text("Id")
            answer.append(
                {
                    "Id": int(own) if own.isdecimal() else own,
                    "Mobile": row.text("Mobile"),
                    "Result": int(message.ref),
                }
            )
        if not answer:
            raise Refusal(5002)
        if fields.text("UserGroupID"):
            self._user_groups[fields.text("UserGroupID")] = group
        return answer

    def send_to_port(self, fields: Fields) -> list[dict[str, object]]:
        """As `send_corresponding`, to an application's port; the guide spells it `recieve`."""
        for name in ("recievePortNumber", "sendPortNumber"):
            port = fields.whole(name)
            if port is None or not 0 <= port <= 65_535:
                raise Refusal(2007)
        return self.send_corresponding(fields)

    def group_status(self, fields: Fields) -> dict[str, object]:
        """The state of a send, asked for by its id or by the user's own group."""
        messages = self.account.batch(self._group(fields.text("GroupMessageId")))
        if not messages:
            raise Refusal(3002)
        states = [self.account.state_of(message) for message in messages]
        return {
            "StatusCode": "2" if all(state == "queued" for state in states) else "1",
            "MessagesListState": [
                {"Mobile": _without_zero(message), "Status": STATUSES[state]}
                for message, state in zip(messages, states, strict=True)
            ],
        }

    def corresponding_status(self, fields: Fields) -> list[dict[str, str]]:
        """The state of messages by their own ids; unknown ids are left out."""
        refs = fields.texts("messageId")
        if not refs:
            raise Refusal(1004)
        found = [message for ref in refs if (message := self.account.message(ref))]
        return [
            {"MsgId": message.ref, "Status": STATUSES[self.account.state_of(message)]}
            for message in found
        ]

    def group_id(self, fields: Fields) -> str:
        """The id of the last send of the user's own group."""
        group = self._group(fields.text("groupId"))
        if not self.account.batch(group):
            raise Refusal(3002)
        return group

    def receive(self, fields: Fields) -> dict[str, object]:
        """Received messages of a line between two UNIX times, newest first, a hundred a page."""
        line = _line(fields)
        start, end = _moment(fields, "StartDate"), _moment(fields, "EndDate")
        page = fields.whole("Page")
        if page is None or page < 1:
            raise Refusal(2008)
        found = [
            message
            for message in self.account.incoming()
            if same_line(message.line, line) and start <= message.at <= end
        ]
        shown = found[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
        return {
            "Page": page,
            "TotalPage": math.ceil(len(found) / PAGE_SIZE),
            "ReceivedMsgs": [_received(message) for message in shown],
        }

    def credit(self, _: Fields) -> int:
        """The credit: declared a string by the guide, and a number in its sample."""
        return int(self.account.left())

    def prices(self, _: Fields) -> dict[str, int]:
        """What a Persian and a Latin part cost."""
        return {"Fa_Price": FA_PRICE, "En_Price": EN_PRICE}

    def white_list(self, fields: Fields) -> list[int]:
        """Those of the numbers that are not on the operators' black list.

        The guide's table calls the member `Mobiles` and its sample `MobilesList`. On the list is
        who wrote «لغو» to one of the lines, and everybody while the gateway refuses.
        """
        mobiles = fields.texts("Mobiles")
        mobiles = fields.texts("MobilesList") if mobiles is None else mobiles
        if mobiles is None:
            raise Refusal(1004)
        if self.account.strikes("refuse"):
            return []
        black = {
            message.sender
            for message in self.account.incoming()
            if message.text.strip().startswith("لغو")
        }
        read = [read_mobile(mobile) for mobile in mobiles]
        return [int(bare(mobile)) for mobile in read if mobile and mobile not in black]

    def send_auto_code(self, fields: Fields) -> int:
        """Make a code, send it, and answer a number above 2000."""
        mobile = _code_mobile(fields)
        self._accept(fields.text("Footer"), 1)
        code = self.account.make_code(mobile)
        lines = [f"کد فعال سازی شما: {code}", fields.text("Footer")]
        return self._send_code(mobile, "\n".join(line for line in lines if line), code)

    def check_code(self, fields: Fields) -> bool:
        """Whether this is the last code made for the mobile. Yes twice, and for any purpose."""
        mobile = read_mobile(fields.text("Mobile"))
        return mobile is not None and self.account.knows_code(mobile, fields.text("Code"))

    def send_code(self, fields: Fields) -> int:
        """Send the caller's text, which holds the caller's code."""
        mobile = _code_mobile(fields)
        text = _text(fields, "Message")
        self._accept(text, 1)
        return self._send_code(mobile, text, None)

    def _send_code(self, mobile: str, text: str, code: str | None) -> int:
        self.account.send(
            ref=self._number(), sender=CODE_LINE, to=mobile, text=text, code=code, price=FA_PRICE
        )
        # Above 2000 and clear of the error codes (2001 to 2009, 3001 to 3004, 5001 to 5004).
        return 6000 + secrets.randbelow(4000)

    def _accept(self, text: str, recipients: int) -> int:
        """The price of a part, or why nothing is sent."""
        if parts(text) > MAX_PARTS:
            raise Refusal(2006)
        if self.account.strikes("refuse"):
            raise Refusal(3004)
        price = EN_PRICE if is_latin(text) else FA_PRICE
        if not self.account.can_pay(price * parts(text) * recipients):
            raise Refusal(3003)
        return price

    def _send_time(self, fields: Fields) -> datetime | None:
        """When to send. The guide: a past date sends at once."""
        if not fields.text("SendDateInTimeStamp"):
            return None
        at = _moment(fields, "SendDateInTimeStamp")
        if at > self.account.now() + timedelta(days=365):
            raise Refusal(2004)
        return at

    def _group(self, given: str) -> str:
        return self._user_groups.get(given, given)

    def _number(self) -> str:
        return str(self.account.next_number())


def envelope(code: int, result: object = None) -> Response:
    """`{"Code", "Message", "Result"}`."""
    return json_answer({"Code": code, "Message": CODES[code], "Result": result})


def _line(fields: Fields) -> str:
    line = fields.text("PhoneNumber")
    if not line.strip("+").isdecimal():
        raise Refusal(1002)
    return line


def _text(fields: Fields, name: str) -> str:
    text = fields.text(name)
    if not text.strip():
        raise Refusal(1004)
    return text


def _recipients(mobiles: list[str] | None) -> list[str]:
    if not mobiles:
        raise Refusal(1004)
    if len(mobiles) > MAX_RECIPIENTS:
        raise Refusal(2005)
    return mobiles


def _code_mobile(fields: Fields) -> str:
    mobile = read_mobile(fields.text("Mobile"))
    if mobile is None:
        raise Refusal(1004)
    return mobile


def _moment(fields: Fields, name: str) -> datetime:
    seconds = as_whole(fields.value(name))
    moment = None if seconds is None else read_timestamp(seconds)
    if moment is None:
        raise Refusal(1003)
    return moment


def _nearly_mobile(text: str) -> bool:
    """The guide's own samples have numbers a digit short; they are taken and never arrive."""
    return text.isdecimal() and text.startswith(("09", "9"))


def _without_zero(message: Message) -> str:
    return bare(message.to) if message.reaches else as_text(message.to).lstrip("0")


def _received(message: Incoming) -> dict[str, object]:
    return {
        "Mobile": international(message.sender),
        "Date": int(message.at.timestamp()),
        "MsgBody": message.text,
    }
