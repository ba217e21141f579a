"""SMS.ir's legacy service at RestfulSms.com, with a token that is valid for 30 minutes.

A response has `IsSuccessful` and `Message` beside its own members. Success is HTTP 201.
"""

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from ...account import Account
from ...http_data import Fields, form_fields, json_fields, json_response
from ...messages import Message, MessageState
from ...phone_numbers import national, parse_mobile, subscriber
from ...texts import count_parts
from ...times import TEHRAN, parse_shamsi_date, parse_tehran_time, tehran_time
from ..base import lower_rule
from .sending import LINE, ApiError, Outbox, send_time, status_text, template_text

TOKEN_LIFETIME: Final = timedelta(minutes=30)
CONTACTS_PER_PAGE: Final = 10
ROWS_PER_PAGE: Final = 10
SUCCESS: Final = "عملیات با موفقیت انجام شد"

# The service describes the state of a message in words.
DELIVERY_STATES: Final[dict[MessageState, str]] = {
    "queued": "در صف ارسال",
    "sent": "رسیده به مخابرات",
    "delivered": "رسیده به گوشی",
    "undelivered": "نرسیده به گوشی",
    "rejected": "لیست سیاه",
    "filtered": "فیلتر شده",
    "unknown": "نامشخص",
    "cancelled": "لغو شده",
}


@dataclass
class Contact:
    """A member of the customer club. `mobile` is E.164."""

    id: int
    mobile: str
    prefix: str
    first_name: str
    last_name: str
    birthday: str
    category: int


class Legacy:
    """The calls under `/api`."""

    def __init__(self, account: Account, outbox: Outbox) -> None:
        self._account = account
        self._outbox = outbox
        self._tokens: dict[str, datetime] = {}
        self._contacts: dict[str, Contact] = {}
        account.on_reset(self._tokens.clear)
        account.on_reset(self._contacts.clear)

    def add_routes(self, blueprint: Blueprint) -> None:
        """Add one route for each call."""
        calls: list[tuple[str, str, Callable[[Fields], Response]]] = [
            ("POST", "VerificationCode", self.send_code),
            ("POST", "UltraFastSend", self.send_template),
            ("POST", "MessageSend", self.send),
            ("GET", "MessageSend", self.report),
            ("POST", "MessageReport", self.report_of_post),
            ("GET", "ReceiveMessage", self.received),
            ("GET", "credit", self.credit),
            ("GET", "SMSLine", self.lines),
            ("POST", "CustomerClub/Send", self.send),
            ("POST", "CustomerClub/SendToCategories", self.send_to_categories),
            ("POST", "CustomerClub/AddContactAndSend", self.add_contact_and_send),
            ("GET", "CustomerClub/GetSendMessagesByPagination", self.club_messages),
            ("GET", "CustomerClub/GetSendMessagesByPaginationAndLastId", self.club_messages),
            ("POST", "CustomerClub/DeleteContactCustomerClub", self.delete_contact),
            ("POST", "CustomerClubContact", self.save_contact),
            ("PUT", "CustomerClubContact", self.save_contact),
            ("GET", "CustomerClubContact/GetCategories", self.categories),
            ("GET", "CustomerClubContact/GetContacts", self.contacts),
            ("GET", "CustomerClubContact/GetContactsByCategoryById", self.contacts),
        ]
        blueprint.add_url_rule(
            lower_rule("/api/Token"), "legacy Token", self.token, methods=["POST"]
        )
        for method, path, call in calls:
            blueprint.add_url_rule(
                lower_rule(f"/api/{path}"), f"legacy {method} {path}",
                self._view(call), methods=[method],
            )  # fmt: skip

    def token(self) -> Response:
        """Return a token for the two keys."""
        fields = json_fields(request) or Fields({})
        is_complete = fields.text("UserApiKey") and fields.text("SecretKey")
        if not is_complete or self._account.consume_fault("bad_credentials"):
            return legacy_response(
                "کلید کاربر یا کد امنیتی نادرست است", {"TokenKey": None}, http=400
            )
        token = secrets.token_urlsafe(48)
        self._tokens[token] = self._account.now() + TOKEN_LIFETIME
        return legacy_response("درخواست شما با موفقیت انجام شد", {"TokenKey": token})

    def _view(self, call: Callable[[Fields], Response]) -> Callable[[], ResponseReturnValue]:
        def view() -> ResponseReturnValue:
            token = request.headers.get("x-sms-ir-secure-token", "")
            expires_at = self._tokens.get(token)
            is_valid = expires_at is not None and self._account.now() < expires_at
            if not is_valid or self._account.consume_fault("bad_credentials"):
                return json_response({"Message": "Authorization has been denied."}, 401)
            is_get = request.method == "GET"
            fields = form_fields(request) if is_get else json_fields(request)
            if fields is None:
                return json_response({"Message": "The request is invalid."}, 400)
            try:
                self._outbox.check_code()
                return call(fields)
            except ApiError as error:
                return legacy_response(status_text(error.status), http=201, successful=False)

        return view

    def send_code(self, fields: Fields) -> Response:
        """Send a code in a text of SMS.ir."""
        code = fields.text("Code")
        if not code:
            raise ApiError(16)
        message = self._outbox.send_one(fields.text("MobileNumber"), f"کد تأیید شما: {code}", code)
        return legacy_response("کد تأیید ارسال شد", {"VerificationCodeId": int(message.message_id)})

    def send_template(self, fields: Fields) -> Response:
        """Send a template."""
        rows = fields.items("ParameterArray")
        if not fields.integer("TemplateId"):
            raise ApiError(113)
        if rows is None:
            raise ApiError(16)
        values = [Fields(row).text("ParameterValue") for row in rows if isinstance(row, dict)]
        message = self._outbox.send_one(fields.text("Mobile"), template_text(values))
        return legacy_response(SUCCESS, {"VerificationCodeId": int(message.message_id)})

    def send(self, fields: Fields) -> Response:
        """Send one text to all recipients, or each recipient a text; return the ids."""
        mobiles = fields.texts("MobileNumbers")
        texts, line = fields.texts("Messages") or [], fields.text("LineNumber") or str(LINE)
        return self._send(fields, mobiles or [], texts, line)

    def send_to_categories(self, fields: Fields) -> Response:
        """Send one text to the contacts of some categories, or to all contacts.

        `Messages` is a text here, not a list.
        """
        categories = {
            each for each in fields.texts("contactsCustomerClubCategoryIds") or () if each
        }
        mobiles = [
            national(contact.mobile)
            for contact in self._contacts.values()
            if not categories or str(contact.category) in categories
        ]
        texts = fields.texts("Messages") or [fields.text("Messages")]
        return self._send(fields, mobiles, texts, str(LINE))

    def _send(self, fields: Fields, mobiles: list[str], texts: list[str], line: str) -> Response:
        if not mobiles:
            raise ApiError(104)
        if not texts or not all(text.strip() for text in texts):
            raise ApiError(103)
        if len(texts) == 1:
            texts = texts * len(mobiles)
        if len(texts) != len(mobiles):
            raise ApiError(16)
        self._outbox.check(max(texts, key=count_parts), len(mobiles))
        sent = self._outbox.send_batch(line, mobiles, texts, send_time(fields))
        ids = [
            {"ID": int(message.message_id), "MobileNo": national(message.to)}
            for message in sent
            if message.is_reachable
        ]
        if not ids:
            raise ApiError(104)
        return legacy_response("ارسال با موفقیت انجام شد", {"Ids": ids, "BatchKey": sent[0].batch})

    def report(self, fields: Fields) -> Response:
        """Return one sent message as an object, by `id`; else a page of a list, newest first.

        The list is a batch, by `batchKey`, or all messages between two dates.
        """
        if fields.text("id"):
            message = self._account.message(fields.text("id"))
            if message is None:
                raise ApiError(111)
            return legacy_response(SUCCESS, {"Messages": self._sent_row(message)})
        batch = fields.text("batchKey")
        found = self._account.batch(batch) if batch else self._account.messages()
        start, end = _requested_span(fields)
        found = [message for message in found if start <= message.scheduled_at < end]
        return self._page_response(fields, [self._sent_row(message) for message in found])

    def report_of_post(self, fields: Fields) -> Response:
        """Return sent messages by `SentReturnId`, a message or a batch, and by dates."""
        wanted = fields.text("SentReturnId")
        found = self._account.messages()
        if wanted not in ("", "null"):
            found = [m for m in found if wanted in (m.message_id, m.batch)]
        start, end = _requested_span(fields)
        found = [message for message in found if start <= message.scheduled_at < end]
        return self._page_response(fields, [self._sent_row(message) for message in found])

    def club_messages(self, fields: Fields) -> Response:
        """Return a page of sent messages by `pageIndex` and `rowCount`, or those after `lastId`."""
        last = fields.integer("lastId") or 0
        found = [m for m in self._account.messages() if int(m.message_id) > last]
        return self._page_response(fields, [self._sent_row(message) for message in found])

    def _sent_row(self, message: Message) -> dict[str, object]:
        state = self._account.state_of(message)
        return {
            "ID": int(message.message_id),
            "LineNumber": message.sender,
            "SMSMessageBody": message.text,
            "MobileNo": national(message.to) if message.is_reachable else message.to,
            "SendDateTime": tehran_time(message.scheduled_at),
            "DeliveryStatus": DELIVERY_STATES[state],
            "NeedsReCheck": state in ("queued", "sent", "unknown"),
        }

    @staticmethod
    def _page_response(fields: Fields, rows: list[dict[str, object]]) -> Response:
        """Return a page of a list. The names of its number and its size differ between calls."""
        page, size = 1, len(rows) or 1
        for name in ("RequestedPageNumber", "pageId", "pageIndex"):
            if fields.text(name):
                page, size = max(fields.integer(name) or 1, 1), ROWS_PER_PAGE
        for name in ("RowsPerPage", "rowCount"):
            if fields.text(name):
                size = max(fields.integer(name) or ROWS_PER_PAGE, 1)
        shown = rows[(page - 1) * size : page * size]
        return legacy_response(SUCCESS, {"Messages": shown, "CountOfAll": len(rows)})

    def received(self, fields: Fields) -> Response:
        """Return received messages: those after `id`, or a page of those between two dates."""
        after = fields.integer("id") or 0
        start, end = _requested_span(fields)
        rows: list[dict[str, object]] = [
            {
                "ID": message.number,
                "LineNumber": message.line,
                "SMSMessageBody": message.text,
                "MobileNo": national(message.sender),
                "ReceiveDateTime": tehran_time(message.at),
            }
            for message in self._account.incoming()
            if message.number > after and start <= message.at < end
        ]
        return self._page_response(fields, rows)

    def credit(self, _: Fields) -> Response:
        """Return the credit, in messages."""
        return legacy_response(SUCCESS, {"Credit": self._account.reported_credit()})

    def lines(self, _: Fields) -> Response:
        """Return the lines of the account."""
        return legacy_response(SUCCESS, {"SMSLines": [{"ID": 1, "LineNumber": LINE}]})

    def save_contact(self, fields: Fields) -> Response:
        """Add a contact to the club, or change the contact with this mobile."""
        mobile = parse_mobile(fields.text("Mobile"))
        if mobile is None:
            raise ApiError(104)
        existing = self._contacts.get(mobile)
        self._contacts[mobile] = Contact(
            id=existing.id if existing else self._account.next_id(),
            mobile=mobile,
            prefix=fields.text("Prefix"),
            first_name=fields.text("FirstName"),
            last_name=fields.text("LastName"),
            birthday=fields.text("BirthDay"),
            category=fields.integer("CategoryId") or 0,
        )
        return legacy_response(SUCCESS)

    def add_contact_and_send(self, fields: Fields) -> Response:
        """Add a contact to the club, and send it a text from the club's line."""
        if not fields.text("MessageText").strip():
            raise ApiError(103)
        self.save_contact(fields)
        return self._send(fields, [fields.text("Mobile")], [fields.text("MessageText")], str(LINE))

    def delete_contact(self, fields: Fields) -> Response:
        """Remove a contact from the club."""
        mobile = parse_mobile(fields.text("Mobile"))
        if mobile is None or self._contacts.pop(mobile, None) is None:
            raise ApiError(104)
        return legacy_response(SUCCESS)

    def categories(self, _: Fields) -> Response:
        """Return the categories of all contacts."""
        numbers = sorted({contact.category for contact in self._contacts.values()})
        rows = [{"Id": number, "Name": f"گروه {number}"} for number in numbers]
        return legacy_response(SUCCESS, {"ContactsCustomerClubCategories": rows})

    def contacts(self, fields: Fields) -> Response:
        """Return a page of contacts, of all categories or of one."""
        category = fields.integer("categoryId")
        found = [c for c in self._contacts.values() if category in (None, c.category)]
        page = max(fields.integer("pageNumber") or 1, 1)
        shown = found[(page - 1) * CONTACTS_PER_PAGE : page * CONTACTS_PER_PAGE]
        rows = [
            {
                "Id": contact.id,
                "Prefix": contact.prefix,
                "FirstName": contact.first_name,
                "LastName": contact.last_name,
                "Mobile": int(subscriber(contact.mobile)),
                "BirthDay": contact.birthday,
                "CategoryId": contact.category,
                "IsActive": True,
            }
            for contact in shown
        ]
        return legacy_response(
            SUCCESS,
            {
                "AllPages": math.ceil(len(found) / CONTACTS_PER_PAGE),
                "AllRecords": len(found),
                "ContactsCustomerClubResponseDetails": rows,
            },
        )


def _requested_span(fields: Fields) -> tuple[datetime, datetime]:
    """Return the first moment of one date and the end of another. Clients send Persian dates."""
    start, end = datetime(1970, 1, 1, tzinfo=TEHRAN), datetime(9000, 1, 1, tzinfo=TEHRAN)
    for name in ("Shamsi_FromDate", "FromDate"):
        if fields.text(name):
            start = _read_date(fields.text(name))
    for name in ("Shamsi_ToDate", "ToDate"):
        if fields.text(name):
            end = _read_date(fields.text(name)) + timedelta(days=1)
    return start, end


def _read_date(text: str) -> datetime:
    day = parse_shamsi_date(text) or parse_tehran_time(text)
    if day is None:
        raise ApiError(16)
    return day


def legacy_response(
    message: str,
    members: dict[str, object] | None = None,
    *,
    http: int = 201,
    successful: bool = True,
) -> Response:
    """Return a response. This service uses HTTP 201 for success."""
    is_success = successful and http < 400
    return json_response({**(members or {}), "IsSuccessful": is_success, "Message": message}, http)
