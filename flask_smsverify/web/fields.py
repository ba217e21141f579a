"""The fields of a request, whether it is a form or JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import request
from werkzeug.exceptions import BadRequest

from ..errors import ChannelUnavailable, InvalidMobile, InvalidRequest
from ..senders.base import Channel
from .operations import OPERATIONS, Fields


def read_fields() -> Mapping[str, Any]:
    """Return the fields of a form or of a JSON object.

    :raises InvalidRequest: JSON that is not an object, or a body that is too large or too deep.
    """
    try:
        if not request.is_json:
            return request.form
        body = request.get_json()
    except (BadRequest, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise InvalidRequest
    return body


def read_body() -> Fields:
    """Return the declared fields of the request's body.

    :raises InvalidRequest: see `read_fields`.
    """
    return Fields(read_fields(), OPERATIONS[request.endpoint or ""][request.method].body)


def read_query() -> Fields:
    """Return the declared parameters of the request's query."""
    method = "GET" if request.method == "HEAD" else request.method
    return Fields(request.args, OPERATIONS[request.endpoint or ""][method].query)


def page_target() -> object:
    """Return the field `next` of a browser, also of a request that was refused unread."""
    return request.values.get("next")


def read_mobile(fields: Mapping[str, Any]) -> str | None:
    """Return the field `mobile` as it was typed; None if it is missing.

    :raises InvalidMobile: it is not text, for example a number in JSON.
    """
    value = fields.get("mobile")
    if value is None or isinstance(value, str):
        return value
    raise InvalidMobile("the field mobile must be a string", problem="not_text")


def read_channel(value: object) -> Channel:
    """Return the field `channel`.

    :raises ChannelUnavailable: there is no such channel.
    """
    if value == "sms" or value == "voice":  # noqa: PLR1714 -- this spelling narrows the type
        return value
    raise ChannelUnavailable(value)


def is_set(value: object) -> bool:
    """Return whether a field is set: in a form by its presence, in JSON by being true."""
    return value is True or (isinstance(value, str) and value.lower() not in ("", "0", "false"))
