"""Hooks: what a gateway calls to tell us something, `…/hooks/<sender>/<secret>`.

The secret is part of the address, since gateways can be given an address and nothing else. So it
is taken out of the request before anybody, the host's own functions too, can log it; and whoever
lacks it is told nothing, not even which senders there are.
"""

from __future__ import annotations

import hmac
import logging
from typing import Any

from flask import Blueprint, abort, current_app, request
from flask.typing import ResponseReturnValue
from flask_wtf import CSRFProtect
from werkzeug.exceptions import BadRequest, HTTPException

from ..errors import SenderError, StoreUnavailable, place_of
from ..extension import state_of
from ..senders.base import Sender
from .answers import limit_body

log = logging.getLogger(__name__)

blueprint = Blueprint("smsverify_hooks", __name__)

#: A body larger than this is refused before it is read. The longest message has some kilobytes.
_MAX_BODY_BYTES = 256 * 1024


@blueprint.url_value_preprocessor
def _admit(_endpoint: str | None, values: dict[str, Any] | None) -> None:
    """Let a gateway in that knows the secret, and nobody else.

    Runs before the host's own functions and its `CSRFProtect`, whose token no gateway has.
    """
    values = values if values is not None else {}
    sender, secret = values.pop("sender"), values.pop("secret")
    state = state_of()
    _hide(f"{state.settings.url_prefix}/hooks/{sender}/…")
    expected = state.settings.hook_secret or ""
    known = hmac.compare_digest(secret.encode(), expected.encode())
    speaker = state.delivery.routes.senders.get(sender) if known else None
    if speaker is None or request.method not in speaker.push_methods:
        abort(404)
    values["speaker"] = speaker
    protection = current_app.extensions.get("csrf")
    if isinstance(protection, CSRFProtect):
        protection.exempt(blueprint)
    limit_body(_MAX_BODY_BYTES)


def _hide(path: str) -> None:
    """Give the request an address without the secret: Flask logs it with whatever is raised."""
    request.path = path
    for worked_out in ("url", "base_url", "full_path"):
        request.__dict__.pop(worked_out, None)


@blueprint.route(
    "/hooks/<sender>/<secret>", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
)
def hook(speaker: Sender) -> ResponseReturnValue:
    """What a gateway tells: 200 when it is noted, 400 for what it never says, 503 to try again."""
    state = state_of()
    try:
        state.tracker.take(speaker.name, state.delivery.read_push(speaker, _said()))
    except SenderError as error:
        log.warning("the hook of %s was called in vain: %s", speaker.name, error)
        return "", 400
    except HTTPException as error:  # a body that Flask cannot read
        return "", error.code or 400
    except StoreUnavailable as error:
        log.error("the hook of %s answered with 503: %s", speaker.name, error)  # noqa: TRY400 -- no traceback helps with a database that is away
        return "", 503
    except Exception as error:  # noqa: BLE001 -- its words may hold what was told
        log.error("the hook of %s failed: %s", speaker.name, place_of(error))  # noqa: TRY400 -- likewise
        return "", 500
    return "", 200


def _said() -> object:
    """What the request carries, from where its method carries it."""
    if request.method == "GET":
        return request.args.to_dict()
    if not request.is_json:
        return request.form.to_dict()
    try:
        return request.get_json()
    except RecursionError as error:
        raise BadRequest from error
