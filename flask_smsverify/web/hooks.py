"""Hooks: what a gateway calls to tell us something, `…/hooks/<sender>/<secret>`.

The secret is part of the address, since gateways can be given an address and nothing else. So no
error leaves this module, or Flask would log it with the address; and whoever lacks the secret is
told nothing, not even which senders there are.
"""

from __future__ import annotations

import hmac
import logging

from flask import Blueprint, abort, current_app, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, HTTPException

from ..errors import StoreUnavailable, Unknown
from ..extension import State, state_of
from ..senders.base import Sender
from .answers import limit_body

log = logging.getLogger(__name__)

blueprint = Blueprint("smsverify_hooks", __name__)

#: A body larger than this is refused before it is read; the longest message is a fiftieth of it.
_MAX_BODY_BYTES = 256 * 1024


@blueprint.url_value_preprocessor
def _exempt(_endpoint: str | None, _values: object) -> None:
    """A gateway has no CSRF token.

    Runs before the host's `CSRFProtect`, whichever of us was initialised first.
    """
    protection = current_app.extensions.get("csrf")
    if protection is not None:
        protection.exempt(blueprint)


@blueprint.route(
    "/hooks/<sender>/<secret>",
    methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
    provide_automatic_options=False,  # it would tell of the address to those without the secret
)
def hook(sender: str, secret: str) -> ResponseReturnValue:
    """What a gateway tells: 200 when it is noted, 400 for what it never says, 503 to try again."""
    state = state_of()
    speaker = _speaker(state, sender, secret)
    if speaker is None:
        abort(404)
    try:
        state.tracker.take(speaker.name, state.delivery.read_push(speaker, _said()))
    except Unknown as error:
        log.warning("the hook of %s was called: %s", speaker.name, error)
        return "", 400
    except StoreUnavailable as error:
        log.error("the hook of %s answered with 503: %s", speaker.name, error)  # noqa: TRY400 -- no traceback helps with a database that is away
        return "", 503
    except HTTPException as error:
        return "", error.code or 400
    except Exception:  # raised on, Flask would log it with the address, and with it the secret
        log.exception("the hook of %s failed", speaker.name)
        return "", 500
    return "", 200


def _speaker(state: State, sender: str, secret: str) -> Sender | None:
    """The sender whose gateway calls us; None where it is not that gateway."""
    expected = state.settings.hook_secret or ""
    if not hmac.compare_digest(secret.encode(), expected.encode()):
        return None
    speaker = state.delivery.routes.senders.get(sender)
    return speaker if speaker is not None and request.method in speaker.push_methods else None


def _said() -> object:
    """What the request carries, from where its method carries it."""
    if request.method == "GET":
        return request.args.to_dict()
    limit_body(_MAX_BODY_BYTES)
    if not request.is_json:
        return request.form.to_dict()
    try:
        return request.get_json()
    except RecursionError as error:
        raise BadRequest from error
