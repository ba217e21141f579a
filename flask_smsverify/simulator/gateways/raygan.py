"""Raygan (Trez) as in its web-service guide: JSON over POST with Basic authentication.

All methods respond with the envelope `{"Code", "Message", "Result"}`, except the three methods for
codes, which respond with a bare number or boolean. In the guide these three have another host. Here
both hosts serve all methods.

The guide does not describe two answers. Here, wrong credentials are HTTP 401 with ASP.NET's usual
body, and a code that is not sent is an envelope.
"""

import math
import secrets
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import ClassVar, Final

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from ..account import Account
from ..http_data import Fields, as_text, json_fields, json_response
from ..messages import Incoming, Message, MessageState
from ..phone_numbers import international, is_same_line, parse_mobile, subscriber
from ..texts import count_parts, is_gsm
from ..times import from_timestamp
from .base import lower_rule

MAX_RECIPIENTS: Final = 50_000
MAX_PARTS: Final = 10
PAGE_SIZE: Final = 100
CODE_LINE: Final = "50002910"
PERSIAN_PRICE: Final = 112
LATIN_PRICE: Final = 275

# The guide lists the codes without texts; these texts are made up.
CODES: Final = {
    0: "عملیات با موفقیت انجام شد",
    1001: "ساختار درخواست درست نیست",
    1002: "شماره اختصاصی معتبر نیست",
    1003: "تاریخ معتبر نیست",
    1004: "پارامترهای درخواست معتبر نیست",
    2001: "شماره اختصاصی متعلق به این کاربر نیست",
    2002: "کاربر مجوز استفاده از وب سرویس را ندارد",
    2003: "آدرس آی‌پی مجاز نیست",
    2004: "تاریخ ارسال بیرون از محدوده مجاز است",
    2005: "بیش از ۵۰۰۰۰ مخاطب",
    2006: "متن بیش از ۱۰ پیامک است",
    2007: "شماره پورت مجاز نیست",
    2008: "شماره صفحه مجاز نیست",
    2009: "خطا در دریافت اطلاعات کاربری",
    3001: "خطا در ثبت اطلاعات",
    3002: "گروه پیام پیدا نشد",
    3003: "اعتبار کافی نیست",
    3004: "این سرویس برای اپراتور گیرنده تعریف نشده است",
    5001: "خطای داخلی",
    5002: "خطا هنگام ارسال پیام",
    5003: "خطا هنگام دریافت نتیجه ارسال پیام",
    5004: "ارسال برخی پیام‌ها ناموفق بود",
}
SOME_FAILED: Final = 5004

# From the guide: 1 on the phone, 2 not on the phone, 8 at the operator, 16 not at the operator, 27
# number cannot be reached. Every other number means "in progress", such as 0 in its sample.
STATUSES: Final[dict[MessageState, str]] = {
    "queued": "0",
    "sent": "8",
    "delivered": "1",
    "undelivered": "2",
    "rejected": "27",
    "filtered": "27",
    "unknown": "0",
    "cancelled": "16",
}

# All values of the guide. x stands for "any other value" there, and 0 is in its sample.
RAW_STATES: Final[dict[str, MessageState]] = {
    "1": "delivered",
    "2": "undelivered",
    "8": "sent",
    "16": "undelivered",
    "23": "queued",
    "27": "rejected",
    "0": "sent",
    "x": "sent",
}


class ApiError(Exception):
    """A refused call, with a code from `CODES`."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Raygan:
    """The gateway at raygansms.com and smspanel.trez.ir."""

    name: ClassVar[str] = "raygan"
    title: ClassVar[str] = "Raygan (Trez)"
    hosts: ClassVar[tuple[str, ...]] = ("raygansms.com", "www.raygansms.com", "smspanel.trez.ir")
    is_case_insensitive: ClassVar[bool] = True
    setup_endpoints: ClassVar[frozenset[str]] = frozenset()
    codes: ClassVar[tuple[int, ...]] = tuple(code for code in CODES if code)
    takes_any_code: ClassVar[bool] = True
    raw_states: ClassVar[Mapping[str, MessageState]] = RAW_STATES

    def __init__(self, account: Account) -> None:
        self.account = account
        self._user_groups: dict[str, str] = {}
        account.on_reset(self._user_groups.clear)

    def add_routes(self, blueprint: Blueprint) -> None:
        """Add one POST route for each method."""
        enveloped: dict[str, Callable[[Fields], object]] = {
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
        bare: dict[str, Callable[[Fields], int | bool]] = {
            "SendAutoCode": self.send_auto_code,
            "CheckSendCode": self.check_code,
            "SendCode": self.send_code,
        }
        for name, method in enveloped.items():
            self._add_method(blueprint, name, method, render=lambda result: envelope(0, result))
        for name, scalar_method in bare.items():
            self._add_method(blueprint, name, scalar_method, render=json_response, is_bare=True)

    def _add_method(
        self,
        blueprint: Blueprint,
        name: str,
        method: Callable[[Fields], object],
        *,
        render: Callable[[object], Response],
        is_bare: bool = False,
    ) -> None:
        def view() -> ResponseReturnValue:
            if not self._has_valid_credentials():
                return json_response({"Message": "Authorization has been denied."}, 401)
            fields = json_fields(request)
            if fields is None:
                return envelope(1001)
            code = self.account.take_error_code()
            if code is not None and is_bare and code not in CODES:
                return json_response(code)  # as in the guide for a code that is not sent
            try:
                if code is None:
                    return render(method(fields))
                result = (
                    self._send_all_but_the_last(method, fields) if code == SOME_FAILED else None
                )
            except ApiError as error:
                return envelope(error.code)
            return envelope(code, result)

        rule = lower_rule(f"/api/smsAPI/{name}")
        blueprint.add_url_rule(rule, name, view, methods=["POST"])

    @staticmethod
    def _send_all_but_the_last(method: Callable[[Fields], object], fields: Fields) -> object:
        """Call a method that sends each recipient a text, but omit the last recipient."""
        rows = fields.items("RecipientsMessage")
        if rows is None:
            return None
        return method(fields.replaced("RecipientsMessage", rows[:-1])) if rows[1:] else []

    def _has_valid_credentials(self) -> bool:
        sent = request.authorization
        is_complete = sent is not None and sent.type == "basic" and sent.username and sent.password
        return bool(is_complete) and not self.account.consume_fault("bad_credentials")

    def send_message(self, fields: Fields) -> str:
        """Send one text to many; return the id of the send. Invalid numbers get status 27."""
        line = _line(fields)
        text = _text(fields, "Message")
        mobiles = _recipients(fields.texts("Mobiles"))
        at = self._send_time(fields)
        price = self._check_send(text, len(mobiles))
        faults = self.account.take_message_faults()
        group = str(uuid.uuid4())
        for mobile in mobiles:
            self.account.send(
                message_id=self._next_id(), sender=line, to=mobile, text=text, batch=group,
                price=price, at=at, faults=faults,
            )  # fmt: skip
        if fields.text("UserGroupID"):
            self._user_groups[fields.text("UserGroupID")] = group
        return group

    def send_corresponding(self, fields: Fields) -> list[dict[str, object]]:
        """Send each recipient a text; return the ids of the messages.

        An invalid number is missing from the response, as in the guide's sample of
        `SendMessageToPort`.
        """
        line = _line(fields)
        rows = [
            Fields(row) for row in fields.items("RecipientsMessage") or () if isinstance(row, dict)
        ]
        _recipients([row.text("Mobile") for row in rows])
        price = self._check_send(max((_text(row, "Message") for row in rows), key=len), len(rows))
        faults = self.account.take_message_faults()
        group = str(uuid.uuid4())
        sent: list[dict[str, object]] = []
        for row in rows:
            mobile = row.text("Mobile")
            if parse_mobile(mobile) is None and not _looks_like_mobile(mobile):
                continue
            message = self.account.send(
                message_id=self._next_id(), sender=line, to=mobile,
                text=row.text("Message"), batch=group, price=price, faults=faults,
            )  # fmt: skip
            row_id = row.text("Id")
            sent.append(
                {
                    "Id": int(row_id) if row_id.isdecimal() else row_id,
                    "Mobile": mobile,
                    "Result": int(message.message_id),
                }
            )
        if not sent:
            raise ApiError(5002)
        if fields.text("UserGroupID"):
            self._user_groups[fields.text("UserGroupID")] = group
        return sent

    def send_to_port(self, fields: Fields) -> list[dict[str, object]]:
        """Send as `send_corresponding` to a port. The guide spells its member `recieve…`."""
        for name in ("recievePortNumber", "sendPortNumber"):
            port = fields.integer(name)
            if port is None or not 0 <= port <= 65_535:
                raise ApiError(2007)
        return self.send_corresponding(fields)

    def group_status(self, fields: Fields) -> dict[str, object]:
        """Return the state of a send, by its id or by the user's group id."""
        messages = self.account.batch(self._group(fields.text("GroupMessageId")))
        if not messages:
            raise ApiError(3002)
        states = {self.account.state_of(message) for message in messages}
        return {
            "StatusCode": {"queued": "2", "filtered": "3"}.get(_only(states), "1"),
            "MessagesListState": [
                {
                    "Mobile": _reported_mobile(message),
                    "Status": self.account.report(message, STATUSES),
                }
                for message in messages
            ],
        }

    def corresponding_status(self, fields: Fields) -> list[dict[str, str]]:
        """Return the states of messages by id, without unknown ids."""
        ids = fields.texts("messageId")
        if not ids:
            raise ApiError(1004)
        found = [message for each in ids if (message := self.account.message(each))]
        return [
            {"MsgId": message.message_id, "Status": self.account.report(message, STATUSES)}
            for message in found
        ]

    def group_id(self, fields: Fields) -> str:
        """Return the id of the last send with the user's group id."""
        group = self._group(fields.text("groupId"))
        if not self.account.batch(group):
            raise ApiError(3002)
        return group

    def receive(self, fields: Fields) -> dict[str, object]:
        """Return the messages that a line received between two UNIX times, newest first."""
        line = _line(fields)
        start, end = _timestamp(fields, "StartDate"), _timestamp(fields, "EndDate")
        page = fields.integer("Page")
        if page is None or page < 1:
            raise ApiError(2008)
        found = [
            message
            for message in self.account.incoming()
            if is_same_line(message.line, line) and start <= message.at <= end
        ]
        shown = found[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
        return {
            "Page": page,
            "TotalPage": math.ceil(len(found) / PAGE_SIZE),
            "ReceivedMsgs": [_incoming_json(message) for message in shown],
        }

    def credit(self, _: Fields) -> int:
        """Return the credit. The guide declares a string, and its sample has a number."""
        return int(self.account.reported_credit())

    def prices(self, _: Fields) -> dict[str, int]:
        """Return the price of a Persian and of a Latin part."""
        return {"Fa_Price": PERSIAN_PRICE, "En_Price": LATIN_PRICE}

    def white_list(self, fields: Fields) -> list[int]:
        """Return the numbers that are not on the operators' blacklist.

        Mobiles that sent «لغو» to a line are on the list, and all of them are under the fault
        `refuse`. The guide's table names the member `Mobiles`, its sample `MobilesList`.
        """
        mobiles = fields.texts("Mobiles")
        mobiles = fields.texts("MobilesList") if mobiles is None else mobiles
        if mobiles is None:
            raise ApiError(1004)
        if self.account.consume_fault("refuse"):
            return []
        blacklisted = {
            message.sender
            for message in self.account.incoming()
            if message.text.strip().startswith("لغو")
        }
        parsed = [parse_mobile(mobile) for mobile in mobiles]
        return [
            int(subscriber(mobile)) for mobile in parsed if mobile and mobile not in blacklisted
        ]

    def send_auto_code(self, fields: Fields) -> int:
        """Generate a code and send it; return a number above 2000."""
        mobile = _code_mobile(fields)
        self._check_send(fields.text("Footer"), 1)
        code = self.account.generate_code(mobile)
        lines = [f"کد فعال سازی شما: {code}", fields.text("Footer")]
        return self._send_code(mobile, "\n".join(line for line in lines if line), code)

    def check_code(self, fields: Fields) -> bool:
        """Return whether this is the mobile's last code. A check does not use the code up."""
        mobile = parse_mobile(fields.text("Mobile"))
        return mobile is not None and self.account.is_current_code(mobile, fields.text("Code"))

    def send_code(self, fields: Fields) -> int:
        """Send a text that contains the client's own code."""
        mobile = _code_mobile(fields)
        text = _text(fields, "Message")
        self._check_send(text, 1)
        return self._send_code(mobile, text, None)

    def _send_code(self, mobile: str, text: str, code: str | None) -> int:
        self.account.send(
            message_id=self._next_id(), sender=CODE_LINE, to=mobile, text=text, code=code,
            price=PERSIAN_PRICE,
        )  # fmt: skip
        # Above 2000, and different from all error codes (2001-2009, 3001-3004, 5001-5004).
        return 6000 + secrets.randbelow(4000)

    def _check_send(self, text: str, recipients: int) -> int:
        """Check a send against limits, faults and credit; return the price of one part."""
        if count_parts(text) > MAX_PARTS:
            raise ApiError(2006)
        if self.account.consume_fault("refuse"):
            raise ApiError(3004)
        price = LATIN_PRICE if is_gsm(text) else PERSIAN_PRICE
        if not self.account.can_pay(price * count_parts(text) * recipients):
            raise ApiError(3003)
        return price

    def _send_time(self, fields: Fields) -> datetime | None:
        """Return when to send, or None for now. A past date sends at once (the guide)."""
        if not fields.text("SendDateInTimeStamp"):
            return None
        at = _timestamp(fields, "SendDateInTimeStamp")
        if at > self.account.now() + timedelta(days=365):
            raise ApiError(2004)
        return at

    def _group(self, group: str) -> str:
        return self._user_groups.get(group, group)

    def _next_id(self) -> str:
        return str(self.account.next_id())


def envelope(code: int, result: object = None) -> Response:
    """Return `{"Code", "Message", "Result"}`."""
    message = CODES.get(code, f"خطای {code}")
    return json_response({"Code": code, "Message": message, "Result": result})


def _only(states: set[MessageState]) -> str:
    """Return the state if there is only one, else an empty text."""
    return next(iter(states)) if len(states) == 1 else ""


def _line(fields: Fields) -> str:
    line = fields.text("PhoneNumber")
    if not line.strip("+").isdecimal():
        raise ApiError(1002)
    return line


def _text(fields: Fields, name: str) -> str:
    text = fields.text(name)
    if not text.strip():
        raise ApiError(1004)
    return text


def _recipients(mobiles: list[str] | None) -> list[str]:
    if not mobiles:
        raise ApiError(1004)
    if len(mobiles) > MAX_RECIPIENTS:
        raise ApiError(2005)
    return mobiles


def _code_mobile(fields: Fields) -> str:
    mobile = parse_mobile(fields.text("Mobile"))
    if mobile is None:
        raise ApiError(1004)
    return mobile


def _timestamp(fields: Fields, name: str) -> datetime:
    seconds = fields.integer(name)
    moment = None if seconds is None else from_timestamp(seconds)
    if moment is None:
        raise ApiError(1003)
    return moment


def _looks_like_mobile(text: str) -> bool:
    """Return whether a number is accepted although it is not a mobile.

    The guide's samples contain numbers that lack a digit. They are accepted and never delivered.
    """
    return text.isdecimal() and text.startswith(("09", "9"))


def _reported_mobile(message: Message) -> str:
    return subscriber(message.to) if message.is_reachable else as_text(message.to).lstrip("0")


def _incoming_json(message: Incoming) -> dict[str, object]:
    return {
        "Mobile": international(message.sender),
        "Date": int(message.at.timestamp()),
        "MsgBody": message.text,
    }
