"""The app factory: the gateways, the phone page and the JSON API in one Flask app.

It is a whole app and offers no blueprint, so that no other app includes it by accident.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from flask import Blueprint, Flask, Response, current_app, g, has_app_context, request
from flask.typing import ResponseReturnValue

from . import api, network_faults, page
from .gateways.asanak import Asanak
from .gateways.base import Gateway
from .gateways.melipayamak import MeliPayamak
from .gateways.raygan import Raygan
from .gateways.smsir import SMSIr
from .gateways.wikipayam import WikiPayam
from .hosts import SOAP_ENCODING_HOST, HostRouter
from .recording import RecordedRequest, record
from .soap import ENCODING_SCHEMA
from .state import Clock, SimulatorState, utc_now
from .timing import Timing

GATEWAYS: Final[Sequence[type[Gateway]]] = (Raygan, WikiPayam, MeliPayamak, Asanak, SMSIr)
MAX_REQUEST_BYTES: Final = 64 * 1024 * 1024


def create_simulator(*, clock: Clock = utc_now, timing: Timing | None = None) -> Flask:
    """Create the simulator's Flask app. Its `SimulatorState` is `app.extensions["simulator"]`.

    :param clock: returns the current time, with its zone. Message states, token lifetimes and late
        deliveries follow it.
    :param timing: the simulator's delays.
    :raises RuntimeError: if another app is active and neither debugs nor tests.
    """
    if has_app_context() and not (current_app.debug or current_app.testing):
        raise RuntimeError(
            "The SMS simulator does not run inside a production app: it accepts any credentials "
            "and shows every code. Run it on its own with 'flask smsverify simulator'."
        )
    app = Flask("flask_smsverify.simulator", root_path=str(Path(__file__).parent))
    app.config.update(MAX_CONTENT_LENGTH=MAX_REQUEST_BYTES, PROPAGATE_EXCEPTIONS=True)
    app.json.ensure_ascii = False  # type: ignore[attr-defined]  # the default provider has it
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it
    state = SimulatorState([gateway.name for gateway in GATEWAYS], clock, timing or Timing())
    app.extensions["simulator"] = state
    gateways = {gateway.name: gateway(state.accounts[gateway.name]) for gateway in GATEWAYS}
    for gateway in gateways.values():
        state.accounts[gateway.name].raw_states = gateway.raw_states
        app.register_blueprint(_create_blueprint(gateway))
    app.register_blueprint(api.create_blueprint(state, gateways))
    app.register_blueprint(page.create_blueprint(state, gateways))
    app.add_url_rule(
        f"/{SOAP_ENCODING_HOST}/soap/encoding/", "soap_encoding", _soap_encoding_schema
    )
    app.before_request(_refuse_other_sites)
    _add_gateway_hooks(app, state, gateways)
    app.wsgi_app = HostRouter(app.wsgi_app, GATEWAYS)  # type: ignore[method-assign]  # as in Flask's docs
    return app


def _create_blueprint(gateway: Gateway) -> Blueprint:
    blueprint = Blueprint(gateway.name, __name__, url_prefix=f"/{gateway.name}")
    gateway.add_routes(blueprint)
    return blueprint


def _soap_encoding_schema() -> Response:
    return Response(ENCODING_SCHEMA, content_type="text/xml; charset=utf-8")


def _refuse_other_sites() -> ResponseReturnValue | None:
    """Refuse a form that a page of another site posts. Browsers send its origin with it."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return None
    is_same_origin = request.headers.get("Origin") in (None, request.host_url.rstrip("/"))
    if is_same_origin and request.headers.get("Sec-Fetch-Site") != "cross-site":
        return None
    return Response(
        "Requests from another site are refused.\n", 403, content_type="text/plain; charset=utf-8"
    )


def _add_gateway_hooks(app: Flask, state: SimulatorState, gateways: Mapping[str, Gateway]) -> None:
    """Record every request under a gateway's path, even if unknown, and apply network faults."""

    def before() -> ResponseReturnValue | None:
        gateway = request.path.split("/")[1]
        if gateway not in gateways:
            return None
        recorded = record(request, gateway, number=state.next_id(), clock=state.clock)
        state.requests.append(recorded)
        g.recorded = recorded
        return network_faults.apply_before(recorded, state)

    def after(response: Response) -> Response:
        recorded: RecordedRequest | None = g.get("recorded")
        if recorded is None:
            return response
        endpoint = (request.endpoint or "").rpartition(".")[2]
        if endpoint and endpoint not in gateways[recorded.gateway].setup_endpoints:
            network_faults.drop_response(recorded, state)
        recorded.status = response.status_code
        return response

    app.before_request(before)
    app.after_request(after)
