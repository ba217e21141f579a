"""The fields of a request, whether it is a form or JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import request
from werkzeug.exceptions import BadRequest

from ..errors import InvalidRequest


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
