"""Parse request bodies and render JSON responses.

All gateways read members through `Fields`, which accepts a value of the wrong JSON type. Each
gateway decides what a response contains.
"""

import json
from collections.abc import Mapping

from flask import Request, Response


class Fields:
    """The members of a JSON object, a form or a query.

    Names match in any case, because gateways built on .NET do that and their clients rely on it.
    Text and numbers convert to each other, because the documented samples quote some numbers.
    """

    def __init__(self, members: Mapping[str, object]) -> None:
        self._members = {name.casefold(): value for name, value in members.items()}

    def replaced(self, name: str, value: object) -> "Fields":
        """Return a copy with another value of one member."""
        return Fields({**self._members, name: value})

    def value(self, name: str) -> object:
        """Return a member as it was received, or None if it is missing."""
        return self._members.get(name.casefold())

    def text(self, name: str) -> str:
        """Return a member as text, or "" if it is missing or not a scalar."""
        return as_text(self.value(name))

    def integer(self, name: str) -> int | None:
        """Return a member as an integer, or None if it is not one."""
        return as_integer(self.value(name))

    def items(self, name: str) -> list[object] | None:
        """Return a member that is a list, or None."""
        value = self.value(name)
        return value if isinstance(value, list) else None

    def texts(self, name: str) -> list[str] | None:
        """Return a member that is a list, with its items as text, or None."""
        items = self.items(name)
        return None if items is None else [as_text(item) for item in items]


def as_text(value: object) -> str:
    """Return a scalar as text, and "" for anything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else ""


def as_integer(value: object) -> int | None:
    """Return an integer or a text of digits as an integer, and None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    try:
        return int(value) if isinstance(value, str) else None
    except ValueError:
        return None


def json_value(request: Request) -> object:
    """Parse the body as JSON, whatever its Content-Type.

    :raises ValueError: it is not JSON.
    """
    try:
        value: object = json.loads(request.get_data())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value


def json_fields(request: Request) -> Fields | None:
    """Return the members of a JSON object in the body, or None if there is no such object."""
    try:
        value = json_value(request)
    except ValueError:
        return None
    return Fields(value) if isinstance(value, dict) else None


def form_fields(request: Request) -> Fields:
    """Return the members of the query and the form. The form takes precedence."""
    return Fields({**request.args.to_dict(), **request.form.to_dict()})


def json_response(
    value: object, status: int = 200, content_type: str = "application/json; charset=utf-8"
) -> Response:
    """Return a JSON response with Persian letters unescaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Response(text, status, content_type=content_type)
