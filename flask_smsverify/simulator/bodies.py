"""Reading what a client sent and writing JSON back, without trust in either's types.

`Fields` is the one way in which the gateways look at a body. What an answer holds is each gateway's
own affair.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone

from flask import Request, Response

TEHRAN = timezone(timedelta(hours=3, minutes=30))
"""The gateways print local times without a zone; Iran has kept +03:30 all year since 2022."""


class Fields:
    """The members of a JSON object, a form or a query, whatever the case of their names.

    The .NET gateways bind names in any case, and their clients rely on it. Numbers are read from
    text and texts from numbers, since documented samples quote the one and not the other.
    """

    def __init__(self, members: Mapping[str, object]) -> None:
        self._members = {name.casefold(): value for name, value in members.items()}

    def __contains__(self, name: str) -> bool:
        return name.casefold() in self._members

    def value(self, name: str) -> object:
        """The member as it came; None where it is missing."""
        return self._members.get(name.casefold())

    def text(self, name: str) -> str:
        """The member as text, "" where it is missing or neither text nor a number."""
        return as_text(self.value(name))

    def whole(self, name: str) -> int | None:
        """The member as an integer, None where it is not one."""
        return as_whole(self.value(name))

    def rows(self, name: str) -> list[object] | None:
        """The member as a list, None where it is not one."""
        value = self.value(name)
        return value if isinstance(value, list) else None

    def texts(self, name: str) -> list[str] | None:
        """The member as a list of texts, None where it is not a list."""
        rows = self.rows(name)
        return None if rows is None else [as_text(row) for row in rows]

    def flag(self, name: str) -> bool:
        """Whether the member says yes: true, 1 or "true"."""
        return self.text(name).casefold() in ("true", "1")


def as_text(value: object) -> str:
    """Text of a scalar; "" for anything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else ""


def as_whole(value: object) -> int | None:
    """An integer, also from its digits as text; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    try:
        return int(value) if isinstance(value, str) else None
    except ValueError:
        return None


def json_value(request: Request) -> object:
    """The body as JSON, whatever Content-Type it came with; raises ValueError where it is not."""
    try:
        value: object = json.loads(request.get_data())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value


def json_fields(request: Request) -> Fields | None:
    """The body as a JSON object, None where it is something else."""
    try:
        value = json_value(request)
    except ValueError:
        return None
    return Fields(value) if isinstance(value, dict) else None


def form_fields(request: Request) -> Fields:
    """The members of the form and of the query; the form's win."""
    return Fields({**request.args.to_dict(), **request.form.to_dict()})


def json_answer(
    value: object, status: int = 200, content_type: str = "application/json; charset=utf-8"
) -> Response:
    """A JSON answer with Persian written as itself."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Response(text, status, content_type=content_type)


def local_time(moment: datetime) -> str:
    """`2023-09-24 23:55:20` in Tehran, as the gateways print it."""
    return moment.astimezone(TEHRAN).strftime("%Y-%m-%d %H:%M:%S")


def read_day(text: str) -> datetime | None:
    """The start of a `2024-01-01` (or that second of `2024-01-01 10:00:00`) in Tehran."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=TEHRAN)


def read_timestamp(seconds: int) -> datetime | None:
    """The moment of a UNIX timestamp, None where it is out of all range."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
