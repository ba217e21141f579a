"""The factory: gateways, phone page and JSON interface in one Flask app.

It is an app of its own and has no blueprint to mount, so it cannot become part of another app by
accident; called from inside a production app it refuses.
"""

from collections.abc import Mapping, Sequence

from flask import Blueprint, Flask, Response, current_app, g, has_app_context, request
from flask.typing import ResponseReturnValue

from . import api, line, page
from .asanak import Asanak
from .gateway import Gateway
from .hosts import ORIGINAL_PATH, SOAP_ENCODING_HOST, Door
from .masking import mask_body, mask_form, mask_headers
from .melipayamak import MeliPayamak, soap_encoding_schema
from .raygan import Raygan
from .smsir import SMSIr
from .state import Clock, Pace, Received, World, utc_now
from .wikipayam import WikiPayam

GATEWAYS: Sequence[type[Gateway]] = (Raygan, WikiPayam, MeliPayamak, Asanak, SMSIr)
KEPT_BODY = 65_536
LARGEST_BODY = 64 * 1024 * 1024


def create_simulator(*, clock: Clock = utc_now, pace: Pace | None = None) -> Flask:
    """The simulator as a Flask app. Its memory is `app.extensions["simulator"]`, a `World`.

    `clock` returns the present as an aware datetime; message states, tokens and late deliveries
    follow it. `pace` says how long things take. Raises RuntimeError where an app is active that
    is neither debugging nor testing.
    """
    if has_app_context() and not (current_app.debug or current_app.testing):
        raise RuntimeError(
            "The SMS simulator does not run inside a production app: it takes any credentials "
            "and shows every code. Start it on its own with 'flask smsverify simulator'."
        )
    app = Flask("flask_smsverify.simulator", root_path=_here())
    app.config.update(MAX_CONTENT_LENGTH=LARGEST_BODY, PROPAGATE_EXCEPTIONS=True)
    app.json.ensure_ascii = False  # type: ignore[attr-defined]  # the default provider has it
    app.json.sort_keys = False  # type: ignore[attr-defined]  # likewise
    world = World([gateway.name for gateway in GATEWAYS], clock, pace or Pace())
    app.extensions["simulator"] = world
    gateways = {kind.name: kind(world.accounts[kind.name]) for kind in GATEWAYS}
    for gateway in gateways.values():
        app.register_blueprint(_blueprint(gateway))
    app.register_blueprint(api.blueprint(world, gateways))
    app.register_blueprint(page.blueprint(world, gateways))
    app.add_url_rule(f"/{SOAP_ENCODING_HOST}/soap/encoding/", "soap_encoding", soap_encoding_schema)
    app.before_request(_refuse_other_sites)
    _watch(app, world, gateways)
    app.wsgi_app = Door(app.wsgi_app, GATEWAYS)  # type: ignore[method-assign]  # Flask's own advice
    return app


def _here() -> str:
    return __file__.rpartition("app.py")[0]


def _refuse_other_sites() -> ResponseReturnValue | None:
    """A web page on another site may not press our buttons: browsers say where they come from."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return None
    origin = request.headers.get("Origin")
    ours = origin in (None, request.host_url.rstrip("/"))
    if ours and request.headers.get("Sec-Fetch-Site") != "cross-site":
        return None
    return Response("Not from another site.\n", 403, content_type="text/plain; charset=utf-8")


def _blueprint(gateway: Gateway) -> Blueprint:
    blueprint = Blueprint(gateway.name, __name__, url_prefix=f"/{gateway.name}")
    gateway.routes(blueprint)
    return blueprint


def _watch(app: Flask, world: World, gateways: Mapping[str, Gateway]) -> None:
    """Record what comes to a gateway's paths, known ones or not, and let its line fail."""

    def arrive() -> ResponseReturnValue | None:
        account = world.accounts.get(request.path.split("/")[1])
        if account is None:
            return None
        received = _record(account.gateway, world)
        g.received = received
        if account.strikes("down"):
            received.faults.append("down")
            raise line.reset()
        if account.strikes("timeout"):
            received.faults.append("timeout")
            line.keep_waiting(world)
            raise line.hang_up()
        if account.strikes("slow"):
            received.faults.append("slow")
            world.closing.wait(world.pace.slow)
        if account.strikes("http_500"):
            received.faults.append("http_500")
            return Response(
                "<html><head><title>500</title></head><body>Internal Server Error</body></html>",
                500,
                content_type="text/html; charset=utf-8",
            )
        return None

    def leave(response: Response) -> Response:
        received: Received | None = g.get("received")
        if received is None:
            return response
        endpoint = (request.endpoint or "").rpartition(".")[2]
        prepares = not endpoint or endpoint in gateways[received.gateway].preparations
        if not prepares and world.accounts[received.gateway].strikes("lost_answer"):
            received.faults.append("lost_answer")
            raise line.hang_up()
        received.status = response.status_code
        return response

    app.before_request(arrive)
    app.after_request(leave)


def _record(gateway: str, world: World) -> Received:
    query = request.environ.get("QUERY_STRING", "")
    received = Received(
        id=world.next_number(),
        at=world.clock(),
        gateway=gateway,
        method=request.method,
        host=request.headers.get("Host", ""),
        path=request.environ[ORIGINAL_PATH].encode("latin-1").decode("utf-8", "replace"),
        query=mask_form(query),
        headers=mask_headers(request.headers.items()),
        body=mask_body(request.get_data().decode("utf-8", "replace"))[:KEPT_BODY],
    )
    world.requests.append(received)
    return received
