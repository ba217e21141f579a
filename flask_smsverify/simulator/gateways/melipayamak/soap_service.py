"""MeliPayamak's web service `Send.asmx`, with SOAP and with its plain HTTP binding."""

from collections.abc import Callable, Mapping
from typing import Final

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from ... import soap
from ...account import Account
from ...hosts import ORIGINAL_PATH, host_name, is_loopback
from ...soap import Arguments, Field, Operation, Value
from ...texts import count_parts
from ...wsdl import render_wsdl
from ..base import lower_rule
from .sending import DONE, NOT_SENT, WRONG_CREDENTIALS, ApiError, Outbox

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


class SendService:
    """The operations of `Send.asmx`."""

    def __init__(self, account: Account, outbox: Outbox) -> None:
        self._account = account
        self._outbox = outbox
        self._operations = {operation.name: operation for operation in self._list_operations()}

    def add_routes(self, blueprint: Blueprint) -> None:
        """Add SOAP, the WSDL and the HTTP binding."""
        service = lower_rule("/post/Send.asmx")
        blueprint.add_url_rule(service, "soap", self.call, methods=["POST"])
        blueprint.add_url_rule(service, "describe", self.describe, methods=["GET"])
        for name, operation in self._operations.items():
            blueprint.add_url_rule(
                lower_rule(f"/post/Send.asmx/{name}"), f"http {name}",
                self._http_view(operation), methods=["GET", "POST"],
            )  # fmt: skip

    def _list_operations(self) -> tuple[Operation, ...]:
        to_list, to_one = Field("to", "ArrayOfString"), Field("to", "string")
        rec_id, body_id = Field("recId", "string"), Field("bodyId", "int")
        return (
            Operation(
                "SendSms",
                (*_ACCOUNT, to_list, *_TEXT, Field("udh", "string"),
                 Field("recId", "ArrayOfLong"), Field("status", "base64Binary")),
                "int", self.send_sms,
                extra_results=(Field("recId", "ArrayOfLong"), Field("status", "base64Binary")),
            ),
            Operation("SendSimpleSMS", (*_ACCOUNT, to_list, *_TEXT), "ArrayOfString",
                      self.send_simple),
            Operation("SendSimpleSMS2", (*_ACCOUNT, to_one, *_TEXT), "string", self.send_simple_2),
            Operation("SendWithDomain", (*_ACCOUNT, to_one, *_TEXT, Field("domainName", "string")),
                      "string", self.send_with_domain),
            Operation("SendByBaseNumber",
                      (*_ACCOUNT, Field("text", "ArrayOfString"), to_one, body_id), "string",
                      self.send_by_base_number),
            Operation("SendByBaseNumber2", (*_ACCOUNT, Field("text", "string"), to_one, body_id),
                      "string", self.send_by_base_number_2),
            Operation("GetDelivery", (Field("recId", "long"),), "int", self.delivery),
            Operation("GetDelivery2", (rec_id,), "int", self.delivery_2),
            Operation("GetDeliveries", (Field("recIds", "ArrayOfLong"), *_ACCOUNT), "ArrayOfInt",
                      self.deliveries),
            Operation("GetDeliveries2", (rec_id,), "int", self.deliveries_2),
            Operation("GetDeliveries3", (Field("recId", "ArrayOfString"), *_ACCOUNT),
                      "ArrayOfInt", self.deliveries_3),
            Operation("GetMultiDelivery2", (rec_id,), "ArrayOfString", self.multi_delivery),
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

    def call(self) -> Response:
        """Respond to a SOAP call. The response to an invalid request is a fault of ASP.NET."""
        content_type = request.headers.get("Content-Type", "")
        version = soap.SOAP12 if content_type.startswith("application/soap+xml") else soap.SOAP11
        if not content_type.startswith(("text/xml", "application/soap+xml")):
            return Response("", 415)
        response_type = content_type.partition(";")[0] + "; charset=utf-8"
        try:
            call = soap.parse_call(
                request.get_data(), content_type,
                request.headers.get("SOAPAction", ""), self._operations,
            )  # fmt: skip
            results = call.operation.handler(call.arguments)
        except soap.InvalidRequest as error:
            fault = soap.render_fault(version, str(error))
            return Response(fault, error.status, content_type=response_type)
        return Response(soap.render_response(call, results), content_type=response_type)

    def describe(self) -> Response:
        """Return the WSDL for `?wsdl`, with the requested address; else a list of operations."""
        location = f"http://{request.host}{request.environ[ORIGINAL_PATH]}"
        if not any(name.lower() == "wsdl" for name in request.args):
            names = "\n".join(self._operations)
            return Response(f"Send\n\n{names}\n", content_type="text/plain; charset=utf-8")
        wsdl = render_wsdl(
            "Send", self._operations, _RECORDS, location,
            # A client of a loopback URL uses no proxy, so it would fetch the imported schema from
            # the internet.
            imports_encoding=not is_loopback(host_name(request.host)),
        )  # fmt: skip
        return Response(wsdl, content_type="text/xml; charset=utf-8")

    def _http_view(self, operation: Operation) -> Callable[[], ResponseReturnValue]:
        def view() -> ResponseReturnValue:
            members = request.form if request.method == "POST" else request.args
            form = {name: members.getlist(name) for name in members}
            try:
                results = operation.handler(soap.parse_form(operation, form))
            except soap.InvalidRequest as error:
                return Response(
                    f"{error}\r\n", error.status, content_type="text/plain; charset=utf-8"
                )
            return Response(
                soap.render_form_response(operation, results),
                content_type="text/xml; charset=utf-8",
            )

        return view

    # Operations

    def send_sms(self, arguments: Arguments) -> Mapping[str, Value]:
        """Send one text to at most 100 recipients.

        `recId` has an id for each recipient. `status` has a byte for each: 0 sent, 1 not sent. Both
        are missing if nothing was sent.
        """
        to = arguments.texts("to")
        try:
            self._check_credentials(arguments)
            sent = self._outbox.send(arguments.text("from"), to, arguments.text("text"))
        except ApiError as error:
            return {"SendSmsResult": error.code}
        if not any(message.is_reachable for message in sent):
            return {"SendSmsResult": NOT_SENT}
        return {
            "SendSmsResult": DONE,
            "recId": [int(message.message_id) if message.is_reachable else 0 for message in sent],
            "status": bytes(0 if message.is_reachable else 1 for message in sent),
        }

    def send_simple(self, arguments: Arguments) -> Mapping[str, Value]:
        """Send one text to many; return an id for each, or one error number."""
        to = arguments.texts("to")
        try:
            self._check_credentials(arguments)
            sent = self._outbox.send(arguments.text("from"), to, arguments.text("text"))
        except ApiError as error:
            return {"SendSimpleSMSResult": [str(error.code)]}
        return {
            "SendSimpleSMSResult": [
                message.message_id if message.is_reachable else str(NOT_SENT) for message in sent
            ]
        }

    def send_simple_2(self, arguments: Arguments) -> Mapping[str, Value]:
        """Send one text to one recipient; return its id or an error number."""
        return {"SendSimpleSMS2Result": self._send_one(arguments)}

    def send_with_domain(self, arguments: Arguments) -> Mapping[str, Value]:
        """Send as `send_simple_2`, for the panel of a reseller."""
        return {"SendWithDomainResult": self._send_one(arguments)}

    def send_by_base_number(self, arguments: Arguments) -> Mapping[str, Value]:
        """Send a pattern with its values in a list."""
        return {"SendByBaseNumberResult": self._send_pattern(arguments, arguments.texts("text"))}

    def send_by_base_number_2(self, arguments: Arguments) -> Mapping[str, Value]:
        """Send a pattern with its values joined by `;`."""
        values = arguments.text("text").split(";")
        return {"SendByBaseNumber2Result": self._send_pattern(arguments, values)}

    def delivery(self, arguments: Arguments) -> Mapping[str, Value]:
        """Return the state of a message, without credentials."""
        return {"GetDeliveryResult": self._outbox.status(str(arguments.integer("recId")))}

    def delivery_2(self, arguments: Arguments) -> Mapping[str, Value]:
        """Return the state of a message by an id that is text."""
        return {"GetDelivery2Result": self._outbox.status(arguments.text("recId"))}

    def deliveries_2(self, arguments: Arguments) -> Mapping[str, Value]:
        """Return the state of a message, as `delivery_2`."""
        return {"GetDeliveries2Result": self._outbox.status(arguments.text("recId"))}

    def deliveries(self, arguments: Arguments) -> Mapping[str, Value]:
        """Return states in the order of the ids, or an empty list for wrong credentials."""
        return {"GetDeliveriesResult": self._statuses(arguments, "recIds")}

    def deliveries_3(self, arguments: Arguments) -> Mapping[str, Value]:
        """Return states as `deliveries`, by ids that are text."""
        return {"GetDeliveries3Result": self._statuses(arguments, "recId")}

    def multi_delivery(self, arguments: Arguments) -> Mapping[str, Value]:
        """Return states as text, by ids joined by commas."""
        ids = arguments.text("recId").split(",")
        return {"GetMultiDelivery2Result": [str(self._outbox.status(each.strip())) for each in ids]}

    def credit(self, arguments: Arguments) -> Mapping[str, Value]:
        """Return the credit in messages, or 0 for wrong credentials."""
        is_valid = self._has_valid_credentials(arguments)
        return {"GetCreditResult": self._account.reported_credit() if is_valid else 0.0}

    def price(self, arguments: Arguments) -> Mapping[str, Value]:
        """Return the cost of a send, in messages."""
        recipients = arguments.integer("irancellCount") + arguments.integer("mtnCount")
        return {"GetSmsPriceResult": float(recipients * count_parts(arguments.text("text")))}

    def inbox_count(self, arguments: Arguments) -> Mapping[str, Value]:
        """Return the number of read, or of unread, received messages."""
        if not self._has_valid_credentials(arguments):
            return {"GetInboxCountResult": 0}
        is_read = arguments.boolean("isRead")
        count = sum(message.is_read == is_read for message in self._account.incoming())
        return {"GetInboxCountResult": count}

    def messages(self, arguments: Arguments) -> Mapping[str, Value]:
        """Return messages from `index` on: received ones for `location` 1, sent ones for 2."""
        if not self._has_valid_credentials(arguments):
            return {"getMessagesResult": []}
        found = self._outbox.messages(
            arguments.integer("location"), arguments.text("from"),
            arguments.integer("index"), arguments.integer("count"),
        )  # fmt: skip
        return {"getMessagesResult": found}

    # Helpers

    def _has_valid_credentials(self, arguments: Arguments) -> bool:
        return self._outbox.has_valid_credentials(
            arguments.text("username"), arguments.text("password")
        )

    def _check_credentials(self, arguments: Arguments) -> None:
        self._outbox.check_credentials(arguments.text("username"), arguments.text("password"))

    def _send_one(self, arguments: Arguments) -> str:
        try:
            self._check_credentials(arguments)
            sent = self._outbox.send(
                arguments.text("from"), [arguments.text("to")], arguments.text("text")
            )
        except ApiError as error:
            return str(error.code)
        return sent[0].message_id if sent[0].is_reachable else str(NOT_SENT)

    def _send_pattern(self, arguments: Arguments, values: list[str]) -> str:
        if not self._has_valid_credentials(arguments):
            return str(WRONG_CREDENTIALS)
        return self._outbox.send_pattern(arguments.text("to"), values, arguments.integer("bodyId"))

    def _statuses(self, arguments: Arguments, name: str) -> list[int]:
        if not self._has_valid_credentials(arguments):
            return []
        return [self._outbox.status(each) for each in arguments.texts(name)]
