"""The interface that the app factory expects of a gateway.

A gateway has a name, the host names of the real service, and routes. It parses and renders its own
wire format, and has its own account. Network faults are applied before it is called.
"""

import re
from collections.abc import Mapping
from typing import ClassVar, Protocol, runtime_checkable

from flask import Blueprint

from ..account import Account
from ..messages import Incoming, MessageState


class Gateway(Protocol):
    """A simulated gateway.

    :cvar name: the first part of its paths, and its name in the JSON API.
    :cvar title: its name on the phone page.
    :cvar hosts: the host names of the real service, in lower case.
    :cvar is_case_insensitive: whether its paths match in any case, with or without a final slash,
        as on Microsoft's servers. `HostRouter` then lowers the path of a request.
    :cvar setup_endpoints: endpoints that only prepare a call, such as a token or a WSDL. The fault
        `lost_answer` affects the call itself and not these.
    :cvar codes: the documented error codes, which the fault `code` answers with.
    :cvar takes_any_code: whether the fault `code` may also name a code that is not documented.
    :cvar raw_states: its own values for states of messages, which the fault `state` may name.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    hosts: ClassVar[tuple[str, ...]]
    is_case_insensitive: ClassVar[bool]
    setup_endpoints: ClassVar[frozenset[str]]
    codes: ClassVar[tuple[int, ...]]
    takes_any_code: ClassVar[bool]
    raw_states: ClassVar[Mapping[str, MessageState]]

    def __init__(self, account: Account) -> None: ...

    def add_routes(self, blueprint: Blueprint) -> None:
        """Add the gateway's calls to its blueprint."""


@runtime_checkable
class PushesIncoming(Protocol):
    """A gateway that pushes received messages to a URL of the user's app."""

    def push_query(self, message: Incoming) -> dict[str, str]:
        """Return the query that the gateway adds to that URL."""


def lower_rule(rule: str) -> str:
    """Return a URL rule in lower case, except the variables, for a case-insensitive gateway."""
    return "".join(
        piece if piece.startswith("<") else piece.lower() for piece in re.split(r"(<[^>]*>)", rule)
    )
