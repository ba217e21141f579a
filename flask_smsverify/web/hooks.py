"""Hooks: what a gateway calls to tell us something, `…/hooks/<sender>/<secret>`.

The secret is part of the address, since gateways can be given an address and nothing else. So it
is taken out of the request before the host's `before_request` functions run or Flask has anything
to log; and whoever lacks it is told nothing, not even that there are hooks.
"""

from __future__ import annotations

import hmac
import logging
from typing import Any

from flask import Blueprint, abort, current_app, request
from flask.blueprints import BlueprintSetupState
from flask.typing import ResponseReturnValue
from flask_wtf import CSRFProtect
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge

from ..errors import SenderError, StoreUnavailable, place_of
from ..extension import state_of
from ..senders.base import Sender
from .answers import is_refused, look_over

log = logging.getLogger(__name__)

blueprint = Blueprint("smsverify_hooks", __name__)

#: A body larger than this is refused before it is read. The longest message has some kilobytes.
_MAX_BODY_BYTES = 256 * 1024
#: A push that tells more than this is refused.
_MOST = 500


@blueprint.record
def _serve(setup: BlueprintSetupState) -> None:
    """Serve every method: one that no gateway uses finds nothing, instead of what there is."""
    endpoint = f"{blueprint.name}.hook"
    rule = setup.app.url_rule_class(
        f"{setup.url_prefix}/hooks/<path:address>", endpoint=endpoint, methods=None
    )
    setup.app.url_map.add(rule)
    setup.app.view_functions[endpoint] = hook


@blueprint.url_value_preprocessor
def _admit(_endpoint: str | None, values: dict[str, Any] | None) -> None:
    """Let a gateway in that knows the secret, and nobody else.

    Runs before the host's `before_request` functions and its `CSRFProtect`, whose token no gateway
    has.
    """
    assert values is not None  # noqa: S101 -- our rule gives one
    sender, _, secret = values.pop("address").rpartition("/")
    state = state_of()
    speaker = state.delivery.routes.senders.get(sender)
    shown = sender if speaker is not None else "***"  # it may be a secret with a slash behind it
    _hide(f"{state.settings.url_prefix}/hooks/{shown}/***")
    expected = state.settings.hook_secret or ""
    known = hmac.compare_digest(secret.encode(), expected.encode())
    if not known or speaker is None or request.method not in speaker.push_methods:
        abort(404)
    values["speaker"] = speaker
    protection = current_app.extensions.get("csrf")
    if isinstance(protection, CSRFProtect):
        protection.exempt(blueprint)
    look_over(_MAX_BODY_BYTES)


def _hide(path: str) -> None:
    """Give the request an address without the secret: Flask logs it with whatever is raised."""
    request.path = path
    request.environ["PATH_INFO"] = path.encode().decode("latin-1")  # as WSGI has it: PEP 3333
    for worked_out in ("url", "base_url", "full_path"):
        request.__dict__.pop(worked_out, None)


def hook(speaker: Sender) -> ResponseReturnValue:
    """What a gateway tells: 200 when it is noted, 400 for what it never says, 503 to try again."""
    state = state_of()
    try:
        told = state.delivery.read_push(speaker, _said())
        if len(told) > _MOST:
            log.warning("the hook of %s was told %d things at once", speaker.name, len(told))
            return "", 413
        state.tracker.take(speaker.name, told)
    except SenderError as error:
        log.warning("the hook of %s was called in vain: %s", speaker.name, error)
        return "", 400
    except HTTPException as error:
        log.warning("the hook of %s was called in vain: %s", speaker.name, error.name)
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
    if is_refused():
        raise RequestEntityTooLarge
    if request.method == "GET":
        return request.args.to_dict()
    if not request.is_json:
        return request.form.to_dict()
    try:
        return request.get_json()
    except RecursionError as error:
        raise BadRequest from error
