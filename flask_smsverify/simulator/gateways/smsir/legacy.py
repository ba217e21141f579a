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
from ...messages import MessageState
from ...phone_numbers import national, parse_mobile, subscriber
from ...texts import count_parts
from ...times import tehran_time
from ..base import lower_rule
from .sending import LINE, STATUSES, ApiError, Outbox, send_time, template_text

TOKEN_LIFETIME: Final = timedelta(minutes=30)
CONTACTS_PER_PAGE: Final = 10
SUCCESS: Final = "عملیات با موفقیت انجام شد"

# The service describes the state of a message in words.
DELIVERY_STATES: Final[dict[MessageState, str]] = {
    "queued": "در صف ارسال",
    "sent": "رسیده به مخابرات",
    "delivered": "رسیده به گوشی",
    "undelivered": "نرسیده به گوشی",
    "rejected": "لیست سیاه",
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
            ("POST", "MessageReport", self.report),
            ("GET", "ReceiveMessage", self.received),
            ("GET", "credit", self.credit),
            ("GET", "SMSLine", self.lines),
            ("POST", "CustomerClub/Send", self.send),
            ("POST", "CustomerClub/SendToCategories", self.send_to_categories),
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
                return call(fields)
            except ApiError as error:
                return legacy_response(STATUSES[error.status], http=201, successful=False)

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
        """Return sent messages by `id`, by `batchKey`, or all."""
        if fields.text("id"):
            found = [m for m in [self._account.message(fields.text("id"))] if m]
        elif fields.text("batchKey"):
            found = self._account.batch(fields.text("batchKey"))
        else:
            found = self._account.messages()
        rows = [
            {
                "ID": int(message.message_id),
                "LineNumber": message.sender,
                "SMSMessageBody": message.text,
                "MobileNo": national(message.to) if message.is_reachable else message.to,
                "SendDateTime": tehran_time(message.scheduled_at),
                "DeliveryStatus": DELIVERY_STATES[self._account.state_of(message)],
            }
            for message in found
        ]
        return legacy_response(SUCCESS, {"Messages": rows})

    def received(self, fields: Fields) -> Response:
        """Return received messages, or those after `id`."""
        after = fields.integer("id") or 0
        rows = [
            {
                "ID": message.number,
                "LineNumber": message.line,
                "SMSMessageBody": message.text,
                "MobileNo": national(message.sender),
                "ReceiveDateTime": tehran_time(message.at),
            }
            for message in self._account.incoming()
            if message.number > after
        ]
        return legacy_response(SUCCESS, {"Messages": rows})

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
