"""Asanak: `v1rest` as its guide describes it, and `v2rest` as its public clients call it.

v1 takes GET or POST with a form and answers in the format that `Accept` asks for: text (the
default), XML or JSON. What it says of errors is "a message or a code": as text and XML they are
messages with HTTP 200, as JSON an object with `status`. v2 takes JSON, answers `meta` and `data`,
and its HTTP statuses mean something. Received messages are pushed on by GET.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Final
from xml.sax.saxutils import escape

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from .bodies import Fields, as_text, form_fields, json_answer, json_fields, local_time
from .numbers import international, latin_digits, read_mobile
from .state import Account, Incoming, State
from .texts import parts

MAX_AT_ONCE: Final = 100
TEMPLATE_LINE: Final = "982100021000"
NEVER: Final = "0000-00-00"

# The guide's table: 1 in the queue, 2 handed to the operator, 6 delivered, 5 failed, 8 rejected.
STATUSES: Final[dict[State, int]] = {
    "queued": 1,
    "sent": 2,
    "delivered": 6,
    "undelivered": 5,
    "rejected": 8,
    "cancelled": 8,
}
NOT_FOUND: Final = -1


class Refusal(Exception):
    """Why nothing is sent: v2's HTTP status and code, and the message that v1 prints."""

    def __init__(self, http: int, code: int, message: str) -> None:
        super().__init__(message)
        self.http = http
        self.code = code
        self.message = message


def no_account() -> Refusal:
    """Credentials that are wrong or missing."""
    return Refusal(401, 1008, "Username or Password is not valid")


class Asanak:
    """The gateway at panel.asanak.com (v1) and sms.asanak.ir (v2)."""

    name: ClassVar[str] = "asanak"
    title: ClassVar[str] = "Asanak"
    hosts: ClassVar[tuple[str, ...]] = ("panel.asanak.com", "sms.asanak.ir", "panel.asanak.ir")
    folds_case: ClassVar[bool] = False
    preparations: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, account: Account) -> None:
        self.account = account

    def routes(self, blueprint: Blueprint) -> None:
        """Both versions' calls."""
        first: dict[str, Callable[[Fields], str | int | list[int] | list[dict[str, str]]]] = {
            "sendsms": self.send,
            "msgstatus": self.status,
            "getcredit": self.credit,
        }
        second: dict[str, Callable[[Fields], object]] = {
            "sendsms": self.send,
            "p2psendsms": self.send_pairs,
            "template": self.send_template,
            "msgstatus": self.status,
            "getcredit": self.credit_object,
            "getrialcredit": self.credit_object,
            "templatelist": self.templates,
        }
        for method, answer in first.items():
            blueprint.add_url_rule(
                f"/webservice/v1rest/{method}", f"v1 {method}",
                self._v1(answer), methods=["GET", "POST"],
            )  # fmt: skip
        for method, reply in second.items():
            blueprint.add_url_rule(
                f"/webservice/v2rest/{method}", f"v2 {method}", self._v2(reply), methods=["POST"]
            )

    def push_query(self, message: Incoming) -> dict[str, str]:
        """A received message as the guide's section on receiving spells it."""
        return {
            "Destination": message.line,
            "Source": international(message.sender),
            "ReceiveTime": local_time(message.at),
            "MsgBody": message.text,
        }

    def _v1(
        self, answer: Callable[[Fields], str | int | list[int] | list[dict[str, str]]]
    ) -> Callable[[], ResponseReturnValue]:
        def view() -> ResponseReturnValue:
            fields = form_fields(request)
            try:
                self._enter(fields)
                return v1_answer(answer(fields))
            except Refusal as refusal:
                return v1_error(refusal)

        return view

    def _v2(self, answer: Callable[[Fields], object]) -> Callable[[], ResponseReturnValue]:
        def view() -> ResponseReturnValue:
            fields = json_fields(request) if request.is_json else form_fields(request)
            try:
                self._enter(fields or Fields({}))
                return v2_answer(answer(fields or Fields({})))
            except Refusal as refusal:
                return v2_answer([], refusal.http, refusal.code, refusal.message)

        return view

    def _enter(self, fields: Fields) -> None:
        complete = fields.text("username") and fields.text("password")
        if not complete or self.account.strikes("bad_credentials"):
            raise no_account()

    def send(self, fields: Fields) -> list[int]:
        """One text to at most 100, joined by `,` or `-`: an id each, in their order."""
        mobiles = re.split(r"[,\-]", fields.text("destination"))
        rows = [
            (fields.text("source"), mobile.strip(), fields.text("message")) for mobile in mobiles
        ]
        return self._send(rows)

    def send_pairs(self, fields: Fields) -> list[int]:
        """To each its own text from its own line (`data`, or three lists of one length)."""
        rows = [Fields(row) for row in fields.rows("data") or () if isinstance(row, dict)]
        if rows:
            return self._send(
                [(row.text("source"), row.text("destination"), row.text("message")) for row in rows]
            )
        lists = [fields.texts(name) or [] for name in ("source", "destination", "message")]
        if not lists[0] or len({len(each) for each in lists}) != 1:
            raise Refusal(422, 1003, "data is not valid")
        return self._send(list(zip(*lists, strict=True)))

    def send_template(self, fields: Fields) -> list[int]:
        """A text that is kept with the gateway, to one."""
        given = fields.value("parameters")
        if not fields.whole("template_id") or not isinstance(given, dict):
            raise Refusal(422, 1003, "template_id or parameters is not valid")
        values = [as_text(value) for value in given.values()]
        # A template's words are the panel's; these stand for them.
        text = f"کد تأیید شما: {values[0] if values else ''}"
        text += "".join(f"\n{value}" for value in values[1:])
        return self._send([(TEMPLATE_LINE, fields.text("destination"), text)])

    def status(self, fields: Fields) -> list[dict[str, str]]:
        """States of at most 100 messages, all members texts; an unknown id has status -1."""
        refs = [ref.strip() for ref in re.split(r"[,\-]", fields.text("msgid")) if ref.strip()]
        if not refs or len(refs) > MAX_AT_ONCE:
            raise Refusal(422, 1003, "MsgID is not valid")
        return [self._status(ref) for ref in refs]

    def _status(self, ref: str) -> dict[str, str]:
        message = self.account.message(ref)
        if message is None:
            return {
                "MsgID": ref, "Status": str(NOT_FOUND), "SendTime": NEVER, "DeliverTime": NEVER
            }  # fmt: skip
        state = self.account.state_of(message)
        return {
            "MsgID": ref,
            "Status": str(STATUSES[state]),
            "SendTime": local_time(message.starts_at),
            "DeliverTime": local_time(message.reported_at) if state == "delivered" else NEVER,
        }

    def credit(self, _: Fields) -> int:
        """The credit, in messages."""
        return int(self.account.left())

    def credit_object(self, fields: Fields) -> dict[str, int]:
        """The credit as v2 gives it."""
        return {"credit": self.credit(fields)}

    def templates(self, _: Fields) -> list[dict[str, object]]:
        """The account's templates: one."""
        return [{"id": 1, "template": "کد تأیید شما: {code}", "parameters": ["code"]}]

    def _send(self, rows: Sequence[tuple[str, str, str]]) -> list[int]:
        """Send rows of line, recipient and text. All or none: one bad row refuses the call."""
        if len(rows) > MAX_AT_ONCE:
            raise Refusal(406, 1010, "Destination count is more than 100")
        for line, mobile, text in rows:
            if not re.fullmatch(r"\+?\d{3,15}", latin_digits(line)):
                raise Refusal(406, 1002, "Source Number is not valid")
            if read_mobile(mobile) is None:
                raise Refusal(406, 1010, "Destination Number is not valid")
            if not text.strip():
                raise Refusal(422, 1003, "Message is not valid")
        if self.account.strikes("refuse"):
            raise Refusal(406, 1010, "Destination Number is not valid")
        if not self.account.can_pay(sum(parts(text) for _, _, text in rows)):
            raise Refusal(402, 1006, "Credit is not enough")
        late = self.account.strikes("late_delivery")
        refs = [str(self.account.next_number() + 2_450_000) for _ in rows]
        for ref, (line, mobile, text) in zip(refs, rows, strict=True):
            self.account.send(ref=ref, sender=line, to=mobile, text=text, late=late)
        return [int(ref) for ref in refs]


def v1_answer(value: str | int | list[int] | list[dict[str, str]]) -> Response:
    """A result in the format that is accepted."""
    kind = _accepted()
    if kind == "json":
        return json_answer(value)
    if kind == "xml":
        return _xml(value)
    text = json.dumps(value, ensure_ascii=False)
    return Response(text, content_type="text/html; charset=utf-8")


def v1_error(refusal: Refusal) -> Response:
    """A refusal in the format that is accepted; HTTP 200 in all of them."""
    kind = _accepted()
    if kind == "json":
        return json_answer({"status": refusal.code, "message": refusal.message})
    if kind == "xml":
        return Response(
            f"<response><Message>{escape(refusal.message)}</Message></response>",
            content_type="text/xml; charset=utf-8",
        )
    return Response(refusal.message, content_type="text/html; charset=utf-8")


def v2_answer(
    value: object, http: int = 200, code: int = 200, message: str = "success"
) -> Response:
    """`{"meta": {"status", "message"}, "data"}`."""
    return json_answer({"meta": {"status": code, "message": message}, "data": value}, http)


def _accepted() -> str:
    """`text`, `xml` or `json`: the guide names these types, `application/xhtml` among them."""
    kinds: Mapping[str, str] = {
        "text/html": "text",
        "application/json": "json",
        "text/xml": "xml",
        "application/xml": "xml",
        "application/xhtml": "xml",
        "application/xhtml+xml": "xml",
    }
    return kinds[request.accept_mimetypes.best_match(list(kinds), "text/html")]


def _xml(value: str | int | list[int] | list[dict[str, str]]) -> Response:
    if isinstance(value, list):
        inner = "".join(
            f"<MsgID>{row}</MsgID>"
            if isinstance(row, int)
            else "<MsgStatus>"
            + "".join(f"<{name}>{escape(text)}</{name}>" for name, text in row.items())
            + "</MsgStatus>"
            for row in value
        )
    else:
        inner = f"<Credit>{value}</Credit>"
    return Response(f"<response>{inner}</response>", content_type="text/xml; charset=utf-8")
