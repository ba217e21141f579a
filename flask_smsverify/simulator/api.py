"""The JSON API under `/_api`, which tests and other programs use.

Times are ISO 8601 in UTC and mobiles are E.164. An invalid request is answered with HTTP 422 and
`error`, and with `allowed` if there is a list to choose from.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from .faults import FAULTS, LINK_GATEWAYS, Fault
from .gateways.base import Gateway, PushesIncoming
from .http_data import Fields, form_fields, json_fields
from .messages import FORCED_STATES, Message
from .phone_numbers import parse_landline, parse_mobile
from .push import check_url, push
from .recording import RecordedRequest
from .state import SimulatorState

#: Error codes that are not documented have fewer digits than this number.
MAX_CODE = 1_000_000


class InvalidInput(ValueError):
    """A request with an invalid value. `allowed` lists the valid ones if there is such a list."""

    def __init__(self, error: str, allowed: Iterable[str] = ()) -> None:
        super().__init__(error)
        self.allowed = list(allowed)


def create_blueprint(state: SimulatorState, gateways: Mapping[str, Gateway]) -> Blueprint:
    """Create the routes under `/_api`."""
    api = Blueprint("api", __name__, url_prefix="/_api")

    @api.errorhandler(InvalidInput)
    def invalid_input(error: InvalidInput) -> ResponseReturnValue:
        body: dict[str, object] = {"error": str(error)}
        if error.allowed:
            body["allowed"] = error.allowed
        return body, 422

    @api.get("/messages")
    def messages() -> ResponseReturnValue:
        found = state.phones.messages(
            state.clock(), _requested_mobile(), request.args.get("limit", type=int)
        )
        return [message_json(message, state) for message in found]

    @api.delete("/messages")
    def delete_messages() -> ResponseReturnValue:
        state.phones.delete(_requested_mobile())
        return "", 204

    @api.get("/requests")
    def requests() -> ResponseReturnValue:
        gateway = request.args.get("gateway")
        return [
            request_json(recorded)
            for recorded in reversed(list(state.requests))
            if gateway in (None, recorded.gateway)
        ]

    @api.delete("/requests")
    def delete_requests() -> ResponseReturnValue:
        state.requests.clear()
        return "", 204

    @api.get("/faults")
    def faults() -> ResponseReturnValue:
        return [fault_json(fault) for fault in state.faults.active()]

    @api.post("/faults")
    def post_fault() -> ResponseReturnValue:
        return fault_json(enable_fault(state, gateways, _body())), 201

    @api.delete("/faults")
    def delete_faults() -> ResponseReturnValue:
        disable_faults(state, _body() if request.get_data() else form_fields(request))
        return "", 204

    @api.post("/incoming")
    def incoming() -> ResponseReturnValue:
        return receive_message(state, gateways, _body()), 201

    @api.post("/push")
    def set_push_url() -> ResponseReturnValue:
        fields = _body()
        gateway = _pushing_gateway(state, gateways, fields)
        account = state.accounts[gateway]
        account.push_url = _push_url(fields)
        return {"gateway": gateway, "push_url": account.push_url or None}

    @api.post("/reset")
    def reset() -> ResponseReturnValue:
        state.reset()
        return "", 204

    @api.after_request
    def forbid_caching(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        return response

    return api


def enable_fault(state: SimulatorState, gateways: Mapping[str, Gateway], fields: Fields) -> Fault:
    """Switch on the fault in `{"gateway", "fault", "times"}`.

    The fault `code` also has the member `code`, and the fault `state` the member `state`.

    :raises InvalidInput: a member is invalid.
    """
    gateway = _choice("gateway", fields.text("gateway"), state.accounts)
    fault = _choice("fault", fields.text("fault"), FAULTS)
    times = fields.integer("times")
    if fields.value("times") not in (None, "") and (times is None or times < 1):
        raise InvalidInput("times must be a whole number from 1, or null until it is deleted")
    code = _error_code(gateways[gateway], fields) if fault == "code" else None
    message_state = _message_state(gateways[gateway], fields) if fault == "state" else None
    if fault == "refuse_links" and gateway not in LINK_GATEWAYS:
        raise InvalidInput(f"{gateway} has no error for texts with a link", LINK_GATEWAYS)
    return state.faults.enable(gateway, fault, times, code=code, state=message_state)


def _error_code(gateway: Gateway, fields: Fields) -> int:
    code = fields.integer("code")
    is_known = code in gateway.codes
    if code is None or (not is_known and not (gateway.takes_any_code and abs(code) < MAX_CODE)):
        allowed = map(str, gateway.codes)
        raise InvalidInput(f"code must be an error code of {gateway.name}", allowed)
    return code


def _message_state(gateway: Gateway, fields: Fields) -> str:
    return _choice("state", fields.text("state"), [*FORCED_STATES, *gateway.raw_states])


def disable_faults(state: SimulatorState, fields: Fields) -> None:
    """Switch off the faults that `{"gateway", "fault"}` selects.

    A missing member selects every gateway, or every fault.

    :raises InvalidInput: there is no such gateway or fault.
    """
    gateway, fault = fields.text("gateway"), fields.text("fault")
    state.faults.disable(
        _choice("gateway", gateway, state.accounts) if gateway else None,
        _choice("fault", fault, FAULTS) if fault else None,
    )


def receive_message(
    state: SimulatorState, gateways: Mapping[str, Gateway], fields: Fields
) -> dict[str, object]:
    """Receive the message `{"gateway", "from", "to", "text"}` from a phone.

    A gateway that pushes received messages then calls `push_url`, or the URL that was set before.

    :raises InvalidInput: a member is invalid.
    """
    gateway = _choice("gateway", fields.text("gateway"), state.accounts)
    sender = parse_mobile(fields.text("from"))
    if sender is None:
        raise InvalidInput("from must be an Iranian mobile such as +989123456789")
    line = fields.text("to").strip()
    if not line:
        raise InvalidInput("to must be the line that receives the message")
    url = _push_url(fields)
    if url:
        _pushing_gateway(state, gateways, fields)
    account = state.accounts[gateway]
    message = account.add_incoming(sender=sender, line=line, text=fields.text("text"))
    receiver = gateways[gateway]
    url = url or account.push_url
    pushed = None
    if url and isinstance(receiver, PushesIncoming):
        pushed = push(url, receiver.push_query(message))
    return {
        "id": message.message_id,
        "gateway": gateway,
        "from": message.sender,
        "to": message.line,
        "text": message.text,
        "at": iso_time(message.at),
        "pushed": pushed,
    }


def message_json(message: Message, state: SimulatorState) -> dict[str, object]:
    """Return a message in the format of `/_api/messages`."""
    return {
        "id": message.id,
        "gateway": message.gateway,
        "channel": message.channel,
        "from": message.sender,
        "to": message.to,
        "text": message.text,
        "code": message.code,
        "state": message.state_at(state.clock(), state.timing),
        "at": iso_time(message.arrives_at),
    }


def request_json(recorded: RecordedRequest) -> dict[str, object]:
    """Return a request in the format of `/_api/requests`."""
    return {
        "id": recorded.id,
        "at": iso_time(recorded.at),
        "gateway": recorded.gateway,
        "method": recorded.method,
        "host": recorded.host,
        "path": recorded.path,
        "query": recorded.query,
        "headers": recorded.headers,
        "body": recorded.body,
        "status": recorded.status,
        "faults": recorded.faults,
    }


def fault_json(fault: Fault) -> dict[str, object]:
    """Return a fault in the format of `/_api/faults`."""
    body: dict[str, object] = {
        "gateway": fault.gateway, "fault": fault.name, "times": fault.times,
    }  # fmt: skip
    if fault.code is not None:
        body["code"] = fault.code
    if fault.state is not None:
        body["state"] = fault.state
    return body


def iso_time(moment: datetime) -> str:
    """Return a time as ISO 8601 in UTC with milliseconds and Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _body() -> Fields:
    if request.mimetype in ("application/x-www-form-urlencoded", "multipart/form-data"):
        return form_fields(request)
    fields = json_fields(request)
    if fields is None:
        raise InvalidInput("the body must be a JSON object")
    return fields


def _choice(name: str, value: str, allowed: Iterable[str]) -> str:
    if value in allowed:
        return value
    raise InvalidInput(f"{name} is unknown: {value!r}", allowed)


def _requested_mobile() -> str | None:
    # An unescaped plus sign in a query arrives as a space; parse_mobile accepts that.
    to = request.args.get("to")
    if not to:
        return None
    mobile = parse_mobile(to) or parse_landline(to)
    if mobile is None:
        raise InvalidInput("to must be an Iranian mobile such as 09123456789")
    return mobile


def _push_url(fields: Fields) -> str:
    url = fields.text("push_url")
    if url:
        try:
            check_url(url)
        except ValueError as error:
            raise InvalidInput(str(error)) from error
    return url


def _pushing_gateway(state: SimulatorState, gateways: Mapping[str, Gateway], fields: Fields) -> str:
    name = _choice("gateway", fields.text("gateway"), state.accounts)
    pushing = [key for key, gateway in gateways.items() if isinstance(gateway, PushesIncoming)]
    if name not in pushing:
        raise InvalidInput(f"{name} does not push received messages", pushing)
    return name
