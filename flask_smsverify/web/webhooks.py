"""Webhooks: requests from a gateway, at `…/webhooks/<sender>/<secret>`.

Gateways can be configured with a URL and nothing else, so the secret is part of the URL. It is
removed from the request before the host's `before_request` functions run and before Flask logs
anything. A request without the secret gets 404, as if there were no webhooks.
"""

from __future__ import annotations

import hmac
import logging
from typing import Any

from flask import abort, current_app, request
from flask.blueprints import BlueprintSetupState
from flask.typing import ResponseReturnValue
from flask_wtf import CSRFProtect
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge

from ..delivery.calls import read_push
from ..errors import SenderError, StoreUnavailable
from ..log_events import log_event, log_external_error
from ..senders.base import Sender
from ..state import get_state
from .hosts import HostBlueprint
from .request_limits import is_rejected, limit_request

log = logging.getLogger(__name__)

blueprint = HostBlueprint("smsverify_webhooks", __name__)

#: A larger body is refused before it is read. The longest message has some kilobytes.
_MAX_BODY_BYTES = 256 * 1024
#: A request that reports more items is refused.
_MAX_ITEMS = 500


@blueprint.record
def _add_rule(setup: BlueprintSetupState) -> None:
    """Serve every method: 405 for an unused one would reveal that the webhook exists."""
    endpoint = f"{blueprint.name}.webhook"
    rule = setup.app.url_rule_class(
        f"{setup.url_prefix}/webhooks/<path:address>",
        endpoint=endpoint,
        methods=None,
        subdomain=setup.options.get("subdomain"),
        host=setup.options.get("host"),
    )
    setup.app.url_map.add(rule)
    setup.app.view_functions[endpoint] = webhook


@blueprint.url_value_preprocessor
def _authenticate(_endpoint: str | None, values: dict[str, Any] | None) -> None:
    """Refuse requests without the secret.

    It runs before the host's `before_request` functions and its `CSRFProtect`. No gateway has a
    CSRF token.
    """
    assert values is not None  # noqa: S101 -- the rule has a variable part
    name, _, secret = values.pop("address").rpartition("/")
    state = get_state()
    sender = state.delivery.routes.senders.get(name)
    shown_name = name if sender is not None else "***"  # it may be a secret followed by a slash
    _hide_secret(f"{state.settings.url_prefix}/webhooks/{shown_name}/***")
    expected = state.settings.webhook_secret or ""
    is_known = hmac.compare_digest(secret.encode(), expected.encode())
    if not is_known or sender is None or request.method not in sender.push_methods:
        abort(404)
    values["sender"] = sender
    protection = current_app.extensions.get("csrf")
    if isinstance(protection, CSRFProtect):
        protection.exempt(blueprint)
    limit_request(_MAX_BODY_BYTES)


def _hide_secret(path: str) -> None:
    """Replace the path of the request, which Flask logs with exceptions."""
    request.path = path
    request.environ["PATH_INFO"] = path.encode().decode("latin-1")  # the encoding of PEP 3333
    for cached in ("url", "base_url", "full_path"):
        request.__dict__.pop(cached, None)


def webhook(sender: Sender) -> ResponseReturnValue:
    """Record what a gateway reports.

    Respond 200 when it is recorded, 400 for an invalid payload, and 503 if the gateway should try
    again.
    """
    try:
        items = read_push(sender, _payload())
        if len(items) > _MAX_ITEMS:
            log.warning(
                "the webhook of %s received %d items at once",
                sender.name,
                len(items),
                extra=log_event("webhook_refused"),
            )
            return "", 413
        get_state().tracker.record(sender.name, items)
    except SenderError as error:
        log.warning(
            "the webhook of %s refused a request: %s",
            sender.name,
            error,
            extra=log_event("webhook_refused"),
        )
        return "", 400
    except HTTPException as error:
        log.warning(
            "the webhook of %s refused a request: %s",
            sender.name,
            error.name,
            extra=log_event("webhook_refused"),
        )
        return "", error.code or 400
    except StoreUnavailable as error:
        log.error(  # noqa: TRY400 -- a traceback does not help when the database is down
            "the webhook of %s responded with 503: %s",
            sender.name,
            error,
            extra=log_event("webhook_unavailable"),
        )
        return "", 503
    except Exception as error:  # noqa: BLE001 -- a gateway must get an answer
        log_external_error(
            log, "the webhook of %s failed", sender.name, error=error, event="webhook_failed"
        )
        return "", 500
    return "", 200


def _payload() -> object:
    """Return the query of a GET, a form, or the content of a JSON body."""
    if is_rejected():
        raise RequestEntityTooLarge
    if request.method == "GET":
        return request.args.to_dict()
    if not request.is_json:
        return request.form.to_dict()
    try:
        return request.get_json()
    except RecursionError as error:
        raise BadRequest from error
