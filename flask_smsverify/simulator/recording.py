"""The record of the requests that gateways received."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from flask import Request

from .hosts import ORIGINAL_PATH
from .masking import mask_body, mask_form, mask_headers

MAX_REQUESTS: Final = 500
"""How many requests are kept. Older ones are dropped."""

MAX_BODY: Final = 65_536
"""How many characters of a body are kept."""


@dataclass
class RecordedRequest:
    """A request as it was received, with credentials masked.

    :param status: the HTTP status of the response; None if no response was sent.
    :param faults: the network faults that affected it.
    """

    id: int
    at: datetime
    gateway: str
    method: str
    host: str
    path: str
    query: str
    headers: dict[str, str]
    body: str
    status: int | None = None
    faults: list[str] = field(default_factory=list)


def record(
    request: Request, gateway: str, *, number: int, clock: Callable[[], datetime]
) -> RecordedRequest:
    """Return the record of a request to a gateway.

    :param number: the id of the record.
    """
    return RecordedRequest(
        id=number,
        at=clock(),
        gateway=gateway,
        method=request.method,
        host=request.headers.get("Host", ""),
        # WSGI hands over UTF-8 paths decoded as Latin-1 (PEP 3333).
        path=request.environ[ORIGINAL_PATH].encode("latin-1").decode("utf-8", "replace"),
        query=mask_form(request.environ.get("QUERY_STRING", "")),
        headers=mask_headers(request.headers.items()),
        body=mask_body(request.get_data().decode("utf-8", "replace"))[:MAX_BODY],
    )
