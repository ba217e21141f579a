"""What the five gateways' files have in common: the shape that the simulator builds on.

A gateway is an object with a name, the real host names it stands for, and routes. It knows its
dialect and its account; faults of the line (slow, down, …) happen before it is asked.
"""

import re
from collections.abc import Callable
from typing import ClassVar, Protocol, runtime_checkable

from flask import Blueprint
from flask.typing import ResponseReturnValue

from .state import Account, Incoming

View = Callable[..., ResponseReturnValue]


class Gateway(Protocol):
    """One gateway, as the factory needs it.

    `hosts` are its real host names in lower case. `folds_case` says that its paths are matched in
    any case and with or without a slash at the end, as on Microsoft's servers; the factory lowers
    them on the way in. `preparations` are the endpoints that only prepare a call (a token, a
    WSDL): a lost answer strikes the call itself.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    hosts: ClassVar[tuple[str, ...]]
    folds_case: ClassVar[bool]
    preparations: ClassVar[frozenset[str]]

    def __init__(self, account: Account) -> None: ...

    def routes(self, blueprint: Blueprint) -> None:
        """Add the gateway's calls to its blueprint."""


@runtime_checkable
class Pushing(Protocol):
    """A gateway that pushes received messages on to the user's app."""

    def push_query(self, message: Incoming) -> dict[str, str]:
        """What the user's address is called with."""


def folded(rule: str) -> str:
    """A rule in the documented spelling, for a gateway that `folds_case`."""
    return "".join(
        piece if piece.startswith("<") else piece.lower() for piece in re.split(r"(<[^>]*>)", rule)
    )
