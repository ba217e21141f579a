"""Operations: what a URL of the pages takes and returns as JSON, declared next to its view.

The declarations are enforced: a route serves only the methods of its operations, and the fields of
a request are read only by their declared names. The OpenAPI document is generated from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import (
    AccountLocked,
    ChannelUnavailable,
    CheckFailed,
    CodeExpired,
    FirstProofRequired,
    InvalidCode,
    InvalidMobile,
    InvalidRequest,
    LoginRequired,
    MobileRequired,
    MobileTaken,
    NoChallenge,
    ProblemError,
    RateLimited,
    RegionNotAllowed,
    StoreUnavailable,
    TooManyAttempts,
    TooSoon,
    WrongCode,
)
from ..settings import Settings
from .bodies import ChannelName, Url

Errors = tuple[type[ProblemError], ...]

#: What any send of a code may raise.
SEND_ERRORS: Errors = (
    MobileRequired,
    InvalidMobile,
    RegionNotAllowed,
    ChannelUnavailable,
    TooSoon,
    RateLimited,
    TooManyAttempts,
    AccountLocked,
)
#: What any check of a code may raise.
CHECK_ERRORS: Errors = (
    NoChallenge,
    MobileTaken,
    InvalidCode,
    WrongCode,
    CodeExpired,
    TooManyAttempts,
    AccountLocked,
    CheckFailed,
)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a JSON body or a form, or a parameter of a query.

    :param hint: the type of its value. A value of another type is not an error: the view treats it
        as wrong or missing.
    :param is_required: whether the request is refused without it.
    """

    name: str
    hint: Any
    description: str
    is_required: bool = False


NEXT = Field("next", Url, "Where to go afterwards: a path of this site, or a URL on its hosts.")
DEMAND = Field("demand", str, "The `demand` of a guarded view's problem.")
CHANNEL = Field("channel", ChannelName, "How to send the code: `sms` by default.")
CODE = Field("code", str, "The code, in any digits and with spaces or hyphens.", is_required=True)
MOBILE = Field("mobile", str, "A mobile number in any spelling.")


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call an operation.

    :param needs_user: whether it is for logged-in users and pending logins alone.
    :param errors: what every such operation may respond with.
    """

    needs_user: bool
    errors: Errors


VISITORS = Access(True, (InvalidRequest, LoginRequired, FirstProofRequired, StoreUnavailable))
EVERYBODY = Access(False, (InvalidRequest, StoreUnavailable))


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A method of a URL.

    :param returns: the bodies of its 200 responses.
    :param query: the parameters that it reads.
    :param body: the fields that it reads.
    :param errors: what it may respond with, besides the errors of `access` and `CsrfFailed`.
    :param is_offered: whether an app with these settings has a use for it.
    """

    summary: str
    returns: tuple[type, ...]
    query: tuple[Field, ...] = ()
    body: tuple[Field, ...] = ()
    errors: Errors = ()
    access: Access = VISITORS
    is_offered: Callable[[Settings], bool] = lambda _settings: True


#: Endpoint → method → operation.
OPERATIONS: dict[str, Mapping[str, Operation]] = {}


class Fields(Mapping[str, Any]):
    """The declared fields of a request. A view that reads another name is a programming error."""

    def __init__(self, values: Mapping[str, Any], declared: tuple[Field, ...]) -> None:
        self._names = frozenset(field.name for field in declared)
        self._values = {name: values[name] for name in self._names if name in values}

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise LookupError(f"the field {name!r} is not declared by the operation")
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        if name not in self._names:
            raise LookupError(f"the field {name!r} is not declared by the operation")
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
