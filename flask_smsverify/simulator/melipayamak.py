"""MeliPayamak: its SOAP service `Send.asmx`, that service's plain HTTP calls, and its REST.

The documentation has `SendSms` with its numbers and its answer; the other operations, their types
and the REST calls are those that the vendor's public clients make. `SendSmsResult` is 1 for done,
0 for wrong credentials, and otherwise the documented reason.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Final

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from . import soap
from .bodies import Fields, form_fields, json_answer, json_fields, local_time
from .gateway import folded
from .hosts import ORIGINAL_PATH, host_name, is_loopback
from .numbers import national, read_mobile, same_line
from .soap import Arguments, Field, Operation, Record, Value
from .state import Account, Incoming, Message, State
from .texts import parts

MAX_RECIPIENTS: Final = 100
BASE_LINE: Final = "50004001"

# SendSmsResult, as documented; 35 (on the black list) is what the REST guide adds.
WRONG_CREDENTIALS, DONE, NO_CREDIT, OVER_VOLUME, BAD_LINE, NOT_SENT = 0, 1, 2, 4, 5, 11
BLACK_LIST: Final = 35

# GetDeliveries: 400 queued, 8 at the operator, 1 delivered, 2 not, 500 rejected, 100 unknown.
STATUSES: Final[dict[State, int]] = {
    "queued": 400,
    "sent": 8,
    "delivered": 1,
    "undelivered": 2,
    "rejected": 500,
    "cancelled": 500,
}
UNKNOWN_MESSAGE: Final = 100

_ACCOUNT = (Field("username", "string"), Field("password", "string"))
_TEXT = (Field("from", "string"), Field("text", "string"), Field("isflash", "boolean"))
_RECORDS: Final = {
    "MessagesBL": (
        Field("MsgID", "long"),
        Field("Body", "string"),
        Field("SendDate", "dateTime"),
        Field("Sender", "string"),
        Field("Receiver", "string"),
        Field("Parts", "int"),
        Field("IsRead", "boolean"),
    )
}


class Stopped(Exception):
    """Why nothing is sent, as one of the service's numbers."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class MeliPayamak:
    """The gateway at api.payamak-panel.com and rest.payamak-panel.com."""

    name: ClassVar[str] = "melipayamak"
    title: ClassVar[str] = "MeliPayamak"
    hosts: ClassVar[tuple[str, ...]] = ("api.payamak-panel.com", "rest.payamak-panel.com")
    folds_case: ClassVar[bool] = True
    preparations: ClassVar[frozenset[str]] = frozenset({"describe"})

    def __init__(self, account: Account) -> None:
        self.account = account
        # Ids of 15 and more digits are how clients tell an id from an error number.
        self._ids = itertools.count(4_617_000_000_000_001)
        self.operations = {operation.name: operation for operation in self._operations()}

    def _operations(self) -> tuple[Operation, ...]:
        texts, one = Field("to", "ArrayOfString"), Field("to", "string")
        rec_text, body = Field("recId", "string"), Field("bodyId", "int")
        return (
            Operation(
                "SendSms",
                (*_ACCOUNT, texts, *_TEXT, Field("udh", "string"),
                 Field("recId", "ArrayOfLong"), Field("status", "base64Binary")),
                "int", self.send_sms,
                gives=(Field("recId", "ArrayOfLong"), Field("status", "base64Binary")),
            ),
            Operation("SendSimpleSMS", (*_ACCOUNT, texts, *_TEXT), "ArrayOfString",
                      self.send_simple),
            Operation("SendSimpleSMS2", (*_ACCOUNT, one, *_TEXT), "string", self.send_simple_2),
            Operation("SendWithDomain", (*_ACCOUNT, one, *_TEXT, Field("domainName", "string")),
                      "string", self.send_with_domain),
            Operation("SendByBaseNumber",
                      (*_ACCOUNT, Field("text", "ArrayOfString"), one, body), "string",
                      self.send_by_base_number),
            Operation("SendByBaseNumber2", (*_ACCOUNT, Field("text", "string"), one, body),
                      "string", self.send_by_base_number_2),
            Operation("GetDelivery", (Field("recId", "long"),), "int", self.delivery),
            Operation("GetDelivery2", (rec_text,), "int", self.delivery_2),
            Operation("GetDeliveries", (Field("recIds", "ArrayOfLong"), *_ACCOUNT), "ArrayOfInt",
                      self.deliveries),
            Operation("GetDeliveries2", (rec_text,), "int", self.deliveries_2),
            Operation("GetDeliveries3", (Field("recId", "ArrayOfString"), *_ACCOUNT),
                      "ArrayOfInt", self.deliveries_3),
            Operation("GetMultiDelivery2", (rec_text,), "ArrayOfString", self.multi_delivery),
            Operation("GetCredit", _ACCOUNT, "double", self.credit),
            Operation("GetSmsPrice",
                      (*_ACCOUNT, Field("irancellCount", "int"), Field("mtnCount", "int"),
                       Field("from", "string"), Field("text", "string")), "double", self.price),
            Operation("GetInboxCount", (*_ACCOUNT, Field("isRead", "boolean")), "int",
                      self.inbox_count),
            Operation("getMessages",
                      (*_ACCOUNT, Field("location", "int"), Field("from", "string"),
                       Field("index", "int"), Field("count", "int")), "ArrayOfMessagesBL",
                      self.messages),
        )  # fmt: skip

    def routes(self, blueprint: Blueprint) -> None:
        """The service by SOAP and by its HTTP binding, and the REST calls."""
        service = folded("/post/Send.asmx")
        blueprint.add_url_rule(service, "soap", self.soap, methods=["POST"])
        blueprint.add_url_rule(service, "describe", self.describe, methods=["GET"])
        for name, operation in self.operations.items():
            blueprint.add_url_rule(
                folded(f"/post/Send.asmx/{name}"), f"http {name}",
                self._http(operation), methods=["GET", "POST"],
            )  # fmt: skip
        rest: dict[str, Callable[[Fields], Response]] = {
            "SendSMS": self.rest_send,
            "BaseServiceNumber": self.rest_base_number,
            "GetDeliveries2": self.rest_deliveries,
            "GetMessages": self.rest_messages,
            "GetCredit": self.rest_credit,
            "GetBasePrice": self.rest_price,
            "GetUserNumbers": self.rest_numbers,
        }
        for method, answer in rest.items():
            blueprint.add_url_rule(
                folded(f"/api/SendSMS/{method}"), f"rest {method}",
                self._rest(answer), methods=["POST"],
            )  # fmt: skip

    # The three ways in

    def soap(self) -> Response:
        """A SOAP call. What cannot be read is a fault, as ASP.NET words it."""
        content_type = request.headers.get("Content-Type", "")
        version = soap.SOAP12 if content_type.startswith("application/soap+xml") else soap.SOAP11
        if not content_type.startswith(("text/xml", "application/soap+xml")):
            return Response("", 415)
        answer_type = content_type.partition(";")[0] + "; charset=utf-8"
        try:
            call = soap.read_call(
                request.get_data(), content_type,
                request.headers.get("SOAPAction", ""), self.operations,
            )  # fmt: skip
            given = call.operation.answer(call.arguments)
        except soap.CannotRead as problem:
            fault = soap.write_fault(version, str(problem))
            return Response(fault, problem.status, content_type=answer_type)
        return Response(soap.write_answer(call, given), content_type=answer_type)

    def describe(self) -> Response:
        """The WSDL by `?wsdl`, its address the one it was asked for at; else a list of calls."""
        location = f"http://{request.host}{request.environ[ORIGINAL_PATH]}"
        if not any(name.lower() == "wsdl" for name in request.args):
            names = "\n".join(self.operations)
            return Response(f"Send\n\n{names}\n", content_type="text/plain; charset=utf-8")
        wsdl = soap.write_wsdl(
            "Send", self.operations, _RECORDS, location,
            # Asked for by a loopback name, its reader has no way to us for the other schema.
            imports_encoding=not is_loopback(host_name(request.host)),
        )  # fmt: skip
        return Response(wsdl, content_type="text/xml; charset=utf-8")

    def _http(self, operation: Operation) -> Callable[[], ResponseReturnValue]:
        def view() -> ResponseReturnValue:
            members = request.form if request.method == "POST" else request.args
            form = {name: members.getlist(name) for name in members}
            try:
                given = operation.answer(soap.read_form(operation, form))
            except soap.CannotRead as problem:
                return Response(
                    f"{problem}\r\n", problem.status, content_type="text/plain; charset=utf-8"
                )
            return Response(
                soap.write_form_answer(operation, given), content_type="text/xml; charset=utf-8"
            )

        return view

    def _rest(self, answer: Callable[[Fields], Response]) -> Callable[[], ResponseReturnValue]:
        def view() -> ResponseReturnValue:
            fields = json_fields(request) if request.is_json else form_fields(request)
            if fields is None:
                return json_answer({"Message": "The request is invalid."}, 400)
            if not self._may_enter(fields.text("username"), fields.text("password")):
                return rest_value("0", WRONG_CREDENTIALS)
            return answer(fields)

        return view

    # SOAP operations

    def send_sms(self, arguments: Arguments) -> Mapping[str, Value]:
        """One text to at most 100. `recId` has an id for each recipient and `status` a byte: 0
        sent, 1 not; both are missing where nothing was sent."""
        to = arguments.texts("to")
        try:
            self._enter(arguments)
            sent = self._send(arguments.text("from"), to, arguments.text("text"))
        except Stopped as stopped:
            return {"SendSmsResult": stopped.code}
        if not any(message.reaches for message in sent):
            return {"SendSmsResult": NOT_SENT}
        return {
            "SendSmsResult": DONE,
            "recId": [int(message.ref) if message.reaches else 0 for message in sent],
            "status": bytes(0 if message.reaches else 1 for message in sent),
        }

    def send_simple(self, arguments: Arguments) -> Mapping[str, Value]:
        """One text to many: an id for each, or a number of one or two digits for all."""
        to = arguments.texts("to")
        try:
            self._enter(arguments)
            sent = self._send(arguments.text("from"), to, arguments.text("text"))
        except Stopped as stopped:
            return {"SendSimpleSMSResult": [str(stopped.code)]}
        return {
            "SendSimpleSMSResult": [
                message.ref if message.reaches else str(NOT_SENT) for message in sent
            ]
        }

    def send_simple_2(self, arguments: Arguments) -> Mapping[str, Value]:
        """One text to one: its id, or a reason."""
        return {"SendSimpleSMS2Result": self._send_one(arguments)}

    def send_with_domain(self, arguments: Arguments) -> Mapping[str, Value]:
        """As `send_simple_2`, for a reseller's panel."""
        return {"SendWithDomainResult": self._send_one(arguments)}

    def send_by_base_number(self, arguments: Arguments) -> Mapping[str, Value]:
        """A pattern's text with its values in a list."""
        return {"SendByBaseNumberResult": self._send_pattern(arguments, arguments.texts("text"))}

    def send_by_base_number_2(self, arguments: Arguments) -> Mapping[str, Value]:
        """A pattern's text with its values joined by `;`."""
        values = arguments.text("text").split(";")
        return {"SendByBaseNumber2Result": self._send_pattern(arguments, values)}

    def delivery(self, arguments: Arguments) -> Mapping[str, Value]:
        """The state of a message; wants no credentials."""
        return {"GetDeliveryResult": self._status(str(arguments.whole("recId")))}

    def delivery_2(self, arguments: Arguments) -> Mapping[str, Value]:
        """As `delivery`, by an id as text."""
        return {"GetDelivery2Result": self._status(arguments.text("recId"))}

    def deliveries_2(self, arguments: Arguments) -> Mapping[str, Value]:
        """As `delivery_2`."""
        return {"GetDeliveries2Result": self._status(arguments.text("recId"))}

    def deliveries(self, arguments: Arguments) -> Mapping[str, Value]:
        """States in the order of the ids; an empty list for wrong credentials."""
        return {"GetDeliveriesResult": self._statuses(arguments, "recIds")}

    def deliveries_3(self, arguments: Arguments) -> Mapping[str, Value]:
        """As `deliveries`, by ids as texts."""
        return {"GetDeliveries3Result": self._statuses(arguments, "recId")}

    def multi_delivery(self, arguments: Arguments) -> Mapping[str, Value]:
        """States as texts, by ids joined by commas."""
        refs = arguments.text("recId").split(",")
        return {"GetMultiDelivery2Result": [str(self._status(ref.strip())) for ref in refs]}

    def credit(self, arguments: Arguments) -> Mapping[str, Value]:
        """The credit in messages; 0 for wrong credentials."""
        entered = self._may_enter(arguments.text("username"), arguments.text("password"))
        return {"GetCreditResult": self.account.left() if entered else 0.0}

    def price(self, arguments: Arguments) -> Mapping[str, Value]:
        """What a send would cost, in messages."""
        recipients = arguments.whole("irancellCount") + arguments.whole("mtnCount")
        return {"GetSmsPriceResult": float(recipients * parts(arguments.text("text")))}

    def inbox_count(self, arguments: Arguments) -> Mapping[str, Value]:
        """How many received messages are read, or are not."""
        entered = self._may_enter(arguments.text("username"), arguments.text("password"))
        read = arguments.flag("isRead")
        found = [m for m in self.account.incoming() if m.read == read] if entered else []
        return {"GetInboxCountResult": len(found)}

    def messages(self, arguments: Arguments) -> Mapping[str, Value]:
        """Messages from `index` on: received for `location` 1, sent for 2."""
        if not self._may_enter(arguments.text("username"), arguments.text("password")):
            return {"getMessagesResult": []}
        found = self._listed(
            arguments.whole("location"), arguments.text("from"),
            arguments.whole("index"), arguments.whole("count"),
        )  # fmt: skip
        return {"getMessagesResult": found}

    # REST calls: {"Value", "RetStatus", "StrRetStatus"}

    def rest_send(self, fields: Fields) -> Response:
        """One text to one or, joined by commas, to many: the id, or several joined."""
        to = [number for number in fields.text("to").split(",") if number]
        try:
            sent = self._send(fields.text("from"), to, fields.text("text"))
        except Stopped as stopped:
            return rest_value(str(stopped.code), stopped.code)
        if not any(message.reaches for message in sent):
            return rest_value(str(NOT_SENT), NOT_SENT)
        return rest_value(",".join(message.ref for message in sent if message.reaches))

    def rest_base_number(self, fields: Fields) -> Response:
        """A pattern's text to one."""
        answer = self._pattern(
            fields.text("to"), fields.text("text").split(";"), fields.whole("bodyId") or 0
        )
        return rest_value(answer, DONE if len(answer) >= 15 else int(answer))

    def rest_deliveries(self, fields: Fields) -> Response:
        """The state of a message."""
        return rest_value(str(self._status(fields.text("recID"))))

    def rest_messages(self, fields: Fields) -> Response:
        """Messages, in `Data`."""
        found = self._listed(
            fields.whole("location") or 1, fields.text("from"),
            fields.whole("index") or 0, fields.whole("count") or 0,
        )  # fmt: skip
        return rest_data(found)

    def rest_credit(self, _: Fields) -> Response:
        """The credit in messages."""
        return rest_value(str(self.account.left()))

    def rest_price(self, _: Fields) -> Response:
        """The price of a part, in rials."""
        return rest_value("1400")

    def rest_numbers(self, _: Fields) -> Response:
        """The account's lines."""
        return rest_data([{"Number": BASE_LINE}])

    # What they share

    def _may_enter(self, username: str, password: str) -> bool:
        return bool(username and password) and not self.account.strikes("bad_credentials")

    def _enter(self, arguments: Arguments) -> None:
        if not self._may_enter(arguments.text("username"), arguments.text("password")):
            raise Stopped(WRONG_CREDENTIALS)

    def _send(self, line: str, to: list[str], text: str) -> list[Message]:
        if not line.strip("+").isdecimal():
            raise Stopped(BAD_LINE)
        if not to or not text.strip():
            raise Stopped(NOT_SENT)
        if len(to) > MAX_RECIPIENTS:
            raise Stopped(OVER_VOLUME)
        if self.account.strikes("refuse"):
            raise Stopped(BLACK_LIST)
        if not self.account.can_pay(parts(text) * len(to)):
            raise Stopped(NO_CREDIT)
        late = self.account.strikes("late_delivery")
        return [
            self.account.send(ref=str(next(self._ids)), sender=line, to=each, text=text, late=late)
            for each in to
        ]

    def _send_one(self, arguments: Arguments) -> str:
        try:
            self._enter(arguments)
            sent = self._send(
                arguments.text("from"), [arguments.text("to")], arguments.text("text")
            )
        except Stopped as stopped:
            return str(stopped.code)
        return sent[0].ref if sent[0].reaches else str(NOT_SENT)

    def _send_pattern(self, arguments: Arguments, values: list[str]) -> str:
        if not self._may_enter(arguments.text("username"), arguments.text("password")):
            return str(WRONG_CREDENTIALS)
        return self._pattern(arguments.text("to"), values, arguments.whole("bodyId"))

    def _pattern(self, to: str, values: list[str], body_id: int) -> str:
        """An id of 16 digits, or a reason: -2 several recipients, -4 the pattern, -5 its values,
        -10 a link among them."""
        if "," in to or ";" in to:
            return "-2"
        if body_id <= 0:
            return "-4"
        if not any(value.strip() for value in values):
            return "-5"
        if any("://" in value for value in values):
            return "-10"
        # A pattern's words are kept with the gateway; these stand for them.
        text = f"کد تأیید شما: {values[0]}" + "".join(f"\n{value}" for value in values[1:])
        try:
            sent = self._send(BASE_LINE, [to], text)
        except Stopped as stopped:
            return str(stopped.code)
        return sent[0].ref if sent[0].reaches else str(NOT_SENT)

    def _status(self, ref: str) -> int:
        message = self.account.message(ref)
        return UNKNOWN_MESSAGE if message is None else STATUSES[self.account.state_of(message)]

    def _statuses(self, arguments: Arguments, name: str) -> list[int]:
        if not self._may_enter(arguments.text("username"), arguments.text("password")):
            return []
        return [self._status(ref) for ref in arguments.texts(name)]

    def _listed(self, location: int, line: str, index: int, size: int) -> list[Record]:
        if location == 1:
            rows: list[Record] = [
                _incoming_row(m)
                for m in self.account.incoming()
                if not line or same_line(m.line, line)
            ]
        else:
            rows = [
                _sent_row(m)
                for m in self.account.messages()
                if m.reaches and (not line or same_line(m.sender, line))
            ]
        return rows[max(index, 0) : max(index, 0) + max(size, 0)]


def soap_encoding_schema() -> Response:
    """What is at http://schemas.xmlsoap.org/soap/encoding/, for who comes through us."""
    return Response(soap.ENCODING_SCHEMA, content_type="text/xml; charset=utf-8")


def rest_value(value: str, status: int = DONE) -> Response:
    """`RetStatus` is 1 for done, and otherwise the reason."""
    word = "Ok" if status == DONE else "InvalidData"
    return json_answer({"Value": value, "RetStatus": status, "StrRetStatus": word})


def rest_data(rows: Sequence[Record]) -> Response:
    """A list, beside the status."""
    base = {"Value": str(len(rows)), "RetStatus": DONE, "StrRetStatus": "Ok"}
    return json_answer({"Data": rows, "MyBase": base})


def _incoming_row(message: Incoming) -> Record:
    return {
        "MsgID": message.number,
        "Body": message.text,
        "SendDate": local_time(message.at).replace(" ", "T"),
        "Sender": national(message.sender),
        "Receiver": message.line,
        "Parts": parts(message.text),
        "IsRead": message.read,
    }


def _sent_row(message: Message) -> Record:
    mobile = read_mobile(message.to)
    return {
        "MsgID": int(message.ref),
        "Body": message.text,
        "SendDate": local_time(message.starts_at).replace(" ", "T"),
        "Sender": message.sender,
        "Receiver": national(mobile) if mobile else message.to,
        "Parts": parts(message.text),
        "IsRead": True,
    }
