"""MeliPayamak's REST calls, which respond with `{"Value", "RetStatus", "StrRetStatus"}`."""

from collections.abc import Callable, Sequence

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from ...account import Account
from ...http_data import Fields, form_fields, json_fields, json_response
from ...soap import Record
from ..base import lower_rule
from .sending import BASE_LINE, DONE, NOT_SENT, WRONG_CREDENTIALS, ApiError, Outbox


class RestService:
    """The calls under `/api/SendSMS`."""

    def __init__(self, account: Account, outbox: Outbox) -> None:
        self._account = account
        self._outbox = outbox

    def add_routes(self, blueprint: Blueprint) -> None:
        """Add one POST route for each call."""
        calls: dict[str, Callable[[Fields], Response]] = {
            "SendSMS": self.send,
            "BaseServiceNumber": self.send_pattern,
            "GetDeliveries2": self.delivery,
            "GetMessages": self.messages,
            "GetCredit": self.credit,
            "GetBasePrice": self.price,
            "GetUserNumbers": self.numbers,
        }
        for name, call in calls.items():
            blueprint.add_url_rule(
                lower_rule(f"/api/SendSMS/{name}"), f"rest {name}", self._view(call),
                methods=["POST"],
            )  # fmt: skip

    def _view(self, call: Callable[[Fields], Response]) -> Callable[[], ResponseReturnValue]:
        def view() -> ResponseReturnValue:
            fields = json_fields(request) if request.is_json else form_fields(request)
            if fields is None:
                return json_response({"Message": "The request is invalid."}, 400)
            if not self._outbox.has_valid_credentials(
                fields.text("username"), fields.text("password")
            ):
                return value_response("0", WRONG_CREDENTIALS)
            return call(fields)

        return view

    def send(self, fields: Fields) -> Response:
        """Send one text to recipients joined by commas; return their ids joined by commas."""
        to = [number for number in fields.text("to").split(",") if number]
        try:
            sent = self._outbox.send(fields.text("from"), to, fields.text("text"))
        except ApiError as error:
            return value_response(str(error.code), error.code)
        if not any(message.is_reachable for message in sent):
            return value_response(str(NOT_SENT), NOT_SENT)
        return value_response(
            ",".join(message.message_id for message in sent if message.is_reachable)
        )

    def send_pattern(self, fields: Fields) -> Response:
        """Send a pattern to one recipient."""
        result = self._outbox.send_pattern(
            fields.text("to"), fields.text("text").split(";"), fields.integer("bodyId") or 0
        )
        return value_response(result, DONE if len(result) >= 15 else int(result))

    def delivery(self, fields: Fields) -> Response:
        """Return the state of a message."""
        return value_response(str(self._outbox.status(fields.text("recID"))))

    def messages(self, fields: Fields) -> Response:
        """Return received or sent messages in `Data`."""
        found = self._outbox.messages(
            fields.integer("location") or 1, fields.text("from"),
            fields.integer("index") or 0, fields.integer("count") or 0,
        )  # fmt: skip
        return data_response(found)

    def credit(self, _: Fields) -> Response:
        """Return the credit, in messages."""
        return value_response(str(self._account.reported_credit()))

    def price(self, _: Fields) -> Response:
        """Return the price of a part, in rials."""
        return value_response("1400")

    def numbers(self, _: Fields) -> Response:
        """Return the lines of the account."""
        return data_response([{"Number": BASE_LINE}])


def value_response(value: str, status: int = DONE) -> Response:
    """Return a value. `RetStatus` is 1 for success, and otherwise the error number."""
    word = "Ok" if status == DONE else "InvalidData"
    return json_response({"Value": value, "RetStatus": status, "StrRetStatus": word})


def data_response(rows: Sequence[Record]) -> Response:
    """Return a list together with the status."""
    base = {"Value": str(len(rows)), "RetStatus": DONE, "StrRetStatus": "Ok"}
    return json_response({"Data": rows, "MyBase": base})
