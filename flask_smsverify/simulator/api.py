"""The JSON interface under `/_api`: what tests and other programs ask of the phone and switch.

Times are ISO 8601 with Z, mobiles E.164. What is wrong in a request is answered 422 with `error`,
and with `allowed` where there is a list to choose from.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from .bodies import Fields, form_fields, json_fields
from .gateway import Gateway, Pushing
from .numbers import read_mobile
from .push import check_address, push
from .state import FAULTS, Fault, Message, Received, World


class Wrong(ValueError):
    """A request that cannot be meant; `allowed` is what could be."""

    def __init__(self, error: str, allowed: Iterable[str] = ()) -> None:
        super().__init__(error)
        self.allowed = list(allowed)


def blueprint(world: World, gateways: Mapping[str, Gateway]) -> Blueprint:
    """The routes under `/_api`."""
    routes = Blueprint("api", __name__, url_prefix="/_api")

    @routes.errorhandler(Wrong)
    def wrong(error: Wrong) -> ResponseReturnValue:
        body: dict[str, object] = {"error": str(error)}
        if error.allowed:
            body["allowed"] = error.allowed
        return body, 422

    @routes.get("/messages")
    def messages() -> ResponseReturnValue:
        found = world.arrived(_mobile_asked(), request.args.get("limit", type=int))
        return [message_view(message, world) for message in found]

    @routes.delete("/messages")
    def forget_messages() -> ResponseReturnValue:
        world.clear_phone(_mobile_asked())
        return "", 204

    @routes.get("/requests")
    def requests() -> ResponseReturnValue:
        gateway = request.args.get("gateway")
        return [
            request_view(received)
            for received in reversed(list(world.requests))
            if gateway in (None, received.gateway)
        ]

    @routes.delete("/requests")
    def forget_requests() -> ResponseReturnValue:
        world.requests.clear()
        return "", 204

    @routes.get("/faults")
    def faults() -> ResponseReturnValue:
        return [fault_view(fault) for fault in world.faults()]

    @routes.post("/faults")
    def switch_on() -> ResponseReturnValue:
        return fault_view(switch_fault(world, _body())), 201

    @routes.delete("/faults")
    def switch_off() -> ResponseReturnValue:
        fields = _body() if request.get_data() else form_fields(request)
        world.switch_off(*fault_named(world, fields))
        return "", 204

    @routes.post("/incoming")
    def incoming() -> ResponseReturnValue:
        return receive(world, gateways, _body()), 201

    @routes.post("/push")
    def configure_push() -> ResponseReturnValue:
        fields = _body()
        gateway = _pushing(world, gateways, fields)
        account = world.accounts[gateway]
        account.push_url = _address(fields.text("push_url")) if fields.text("push_url") else ""
        return {"gateway": gateway, "push_url": account.push_url or None}

    @routes.post("/reset")
    def reset() -> ResponseReturnValue:
        world.reset()
        return "", 204

    @routes.after_request
    def not_stored(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        return response

    return routes


def switch_fault(world: World, fields: Fields) -> Fault:
    """Switch on what `{"gateway", "fault", "times"}` says; raises `Wrong`."""
    gateway = _one_of("gateway", fields.text("gateway"), world.accounts)
    fault = _one_of("fault", fields.text("fault"), FAULTS)
    times = fields.whole("times")
    if fields.value("times") not in (None, "") and (times is None or times < 1):
        raise Wrong("times must be a whole number from 1, or null until it is deleted")
    return world.switch_on(gateway, fault, times)


def fault_named(world: World, fields: Fields) -> tuple[str | None, str | None]:
    """The gateway and the fault in `{"gateway", "fault"}`, None for one that is left out; raises
    `Wrong`."""
    gateway, fault = fields.text("gateway"), fields.text("fault")
    return (
        _one_of("gateway", gateway, world.accounts) if gateway else None,
        _one_of("fault", fault, FAULTS) if fault else None,
    )


def receive(world: World, gateways: Mapping[str, Gateway], fields: Fields) -> dict[str, object]:
    """Take `{"gateway", "from", "to", "text"}` from a phone, and push it on where the gateway
    pushes: to `push_url`, or to the address configured before. Raises `Wrong`."""
    gateway = _one_of("gateway", fields.text("gateway"), world.accounts)
    sender = read_mobile(fields.text("from"))
    if sender is None:
        raise Wrong("from must be an Iranian mobile such as +989123456789")
    if not fields.text("to").strip():
        raise Wrong("to must be the line that the message is for")
    url = fields.text("push_url")
    if url:
        _pushing(world, gateways, fields)
        url = _address(url)
    account = world.accounts[gateway]
    message = account.take_incoming(
        sender=sender, line=fields.text("to").strip(), text=fields.text("text")
    )
    speaker = gateways[gateway]
    url = url or account.push_url
    pushed = None
    if url and isinstance(speaker, Pushing):
        pushed = push(url, speaker.push_query(message))
    return {
        "id": message.ref,
        "gateway": gateway,
        "from": message.sender,
        "to": message.line,
        "text": message.text,
        "at": iso(message.at),
        "pushed": pushed,
    }


def message_view(message: Message, world: World) -> dict[str, object]:
    """A message as `/_api/messages` shows it."""
    return {
        "id": message.id,
        "gateway": message.gateway,
        "channel": message.channel,
        "from": message.sender,
        "to": message.to,
        "text": message.text,
        "code": message.code,
        "state": message.state(world.clock(), world.pace),
        "at": iso(message.arrives_at),
    }


def request_view(received: Received) -> dict[str, object]:
    """A request as `/_api/requests` shows it. `status` is null where no answer went out."""
    return {
        "id": received.id,
        "at": iso(received.at),
        "gateway": received.gateway,
        "method": received.method,
        "host": received.host,
        "path": received.path,
        "query": received.query,
        "headers": received.headers,
        "body": received.body,
        "status": received.status,
        "faults": received.faults,
    }


def fault_view(fault: Fault) -> dict[str, object]:
    """A fault as `/_api/faults` takes and shows it."""
    return {"gateway": fault.gateway, "fault": fault.fault, "times": fault.times}


def iso(moment: datetime) -> str:
    """ISO 8601 with milliseconds and Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _body() -> Fields:
    """The body: JSON, or a form where that is what came."""
    if request.mimetype in ("application/x-www-form-urlencoded", "multipart/form-data"):
        return form_fields(request)
    fields = json_fields(request)
    if fields is None:
        raise Wrong("the body must be a JSON object")
    return fields


def _one_of(name: str, given: str, allowed: Iterable[str]) -> str:
    if given in allowed:
        return given
    raise Wrong(f"{name} is unknown: {given!r}", allowed)


def _mobile_asked() -> str | None:
    to = request.args.get("to")
    if not to:
        return None
    # A plus sign that a client left unescaped in the query arrives as a space.
    mobile = read_mobile(to)
    if mobile is None:
        raise Wrong("to must be an Iranian mobile such as 09123456789")
    return mobile


def _address(url: str) -> str:
    try:
        return check_address(url)
    except ValueError as error:
        raise Wrong(str(error)) from error


def _pushing(world: World, gateways: Mapping[str, Gateway], fields: Fields) -> str:
    pushing = [name for name, gateway in gateways.items() if isinstance(gateway, Pushing)]
    name = _one_of("gateway", fields.text("gateway"), world.accounts)
    if name not in pushing:
        raise Wrong(f"{name} does not push received messages", pushing)
    return name
