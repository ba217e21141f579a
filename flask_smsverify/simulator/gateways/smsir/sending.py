"""Error numbers, checks and sends, for both services of SMS.ir."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from ...account import Account
from ...http_data import Fields
from ...messages import Message
from ...phone_numbers import parse_mobile
from ...texts import count_parts
from ...times import from_timestamp, parse_tehran_time

LINE: Final = 30007732000000

# `status` in the responses of v1; the texts are made up.
STATUSES: Final = {
    1: "موفق",
    10: "کلید وب سرویس نامعتبر است",
    11: "کلید وب سرویس غیرفعال است",
    12: "آدرس آی‌پی مجاز نیست",
    13: "حساب کاربری فعال نیست",
    14: "حساب کاربری معلق است",
    15: "پلن حساب این امکان را ندارد",
    16: "پارامترهای ارسالی نامعتبر است",
    20: "تعداد درخواست بیش از حد مجاز است",
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


VALIDATION: Final = 400
"""The code of the fault `code` for a request that ASP.NET's validation refuses."""

CODES: Final = (*(status for status in STATUSES if status != 1), VALIDATION)


def status_text(status: int) -> str:
    """Return the text of a status, even if it is not documented."""
    return STATUSES.get(status, f"خطای {status}")


class ApiError(Exception):
    """A refused call, with a number from `STATUSES`."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Outbox:
    """The checks and sends of an account."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def check_code(self) -> None:
        """Raise `ApiError` for the fault `code`."""
        code = self._account.take_error_code()
        if code is not None:
            raise ApiError(code)

    def check(self, text: str, recipients: int) -> None:
        """Raise `ApiError` if a fault or the credit prevents a send."""
        if self._account.consume_fault("refuse"):
            raise ApiError(115)
        if not self._account.can_pay(count_parts(text) * recipients):
            raise ApiError(102)

    def send_one(self, mobile: str, text: str, code: str | None = None) -> Message:
        """Send a text to one recipient.

        :raises ApiError: the send is refused.
        """
        if parse_mobile(mobile) is None:
            raise ApiError(104)
        self.check(text, 1)
        return self._account.send(
            message_id=str(self._account.next_id()),
            sender=str(LINE),
            to=mobile,
            text=text,
            code=code,
        )

    def send_batch(
        self, line: str, mobiles: Sequence[str], texts: Sequence[str], at: datetime | None
    ) -> list[Message]:
        """Send each mobile its text, as one batch. `at` is None to send now."""
        faults = self._account.take_message_faults()
        batch = str(uuid.uuid4())
        return [
            self._account.send(
                message_id=str(self._account.next_id()), sender=line, to=mobile, text=text,
                batch=batch, at=at, faults=faults,
            )
            for mobile, text in zip(mobiles, texts, strict=True)
        ]  # fmt: skip


def template_text(values: Sequence[str]) -> str:
    """Return the text of a template. Real ones are written in the gateway's panel."""
    return f"کد تأیید شما: {values[0] if values else ''}" + "".join(f"\n{v}" for v in values[1:])


def send_time(fields: Fields) -> datetime | None:
    """Return when to send, or None for now.

    Clients of v1 send a UNIX time, those of the legacy service a date as text.
    """
    seconds = fields.integer("sendDateTime")
    if seconds is not None:
        return from_timestamp(seconds)
    return parse_tehran_time(fields.text("sendDateTime"))
