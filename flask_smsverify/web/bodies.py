"""The bodies of JSON responses. The type checker compares them with what the views return.

A schema of the OpenAPI document has the name of its class without `Body`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NotRequired, TypedDict, get_args

from ..db.models import MobileChange
from ..errors import ProblemError, SendRefused, VerificationRequired
from ..senders.base import Channel, DeliveryState
from .schemas import Keywords, one_of

Time = Annotated[str, Keywords(format="date-time")]
Mobile = Annotated[str, Keywords(examples=["+98912•••4567"])]
ChannelName = Annotated[str, one_of(*get_args(Channel))]
Delivery = Annotated[str, one_of(*DeliveryState)]
Count = Annotated[int, Keywords(minimum=0)]
Seconds = Annotated[int, Keywords(minimum=1)]
Url = Annotated[str, Keywords(examples=["/orders/new"])]

_NEXT = "Where to go afterwards."
_CSRF_TOKEN = "The token for the CSRF header of the next POST; empty if none is needed."  # noqa: S105 -- a description
_RESEND_AT = "When the cooldown of the last send is over; null if it is."
_ATTEMPTS_LEFT = "How many guesses the open code takes; null without one."


class ChangeBody(TypedDict):
    """An open change of a verified number."""

    state: Annotated[
        str,
        one_of(MobileChange.CONFIRMING, MobileChange.DELAYED),
        "`delayed` if the change waits because the old number is lost.",
    ]
    old_mobile: Annotated[Mobile, "The number that is replaced, masked."]
    new_mobile: Annotated[Mobile, "The number that replaces it, masked."]
    applies_at: Annotated[Time | None, "When the delay is over; null before it starts."]
    code_expires_at: Annotated[Time | None, "When the old number's open code expires."]
    attempts_left: Annotated[Count | None, _ATTEMPTS_LEFT]
    resend_at: Annotated[Time | None, _RESEND_AT]


class VerificationBody(TypedDict):
    """The state of the user's verification."""

    state: Annotated[str, one_of("unverified", "pending", "verified", "expired", "exempt")]
    mobile: Annotated[Mobile | None, "The number that `state` is about, masked."]
    verified_mobile: Annotated[Mobile | None, "The number whose proof is valid, masked."]
    channel: Annotated[ChannelName | None, "How the open code was sent; null without one."]
    verified_at: Annotated[Time | None, "When the number was verified."]
    expires_at: Annotated[Time | None, "When the open code expires, or else the proof."]
    resend_at: Annotated[Time | None, _RESEND_AT]
    attempts_left: Annotated[Count | None, _ATTEMPTS_LEFT]
    delivery: Annotated[Delivery | None, "What is known of the message with the open code."]
    exempt: Annotated[bool, "Whether the app exempts the user."]
    next: Annotated[Url, _NEXT]
    settled_at: NotRequired[
        Annotated[Time, "When a number that was changed counts for a demand of a recent proof."]
    ]
    change: NotRequired[ChangeBody]
    csrf_token: NotRequired[Annotated[str, _CSRF_TOKEN]]


class LoginDiscardedBody(TypedDict):
    """A login that waited for a code was discarded."""

    state: Annotated[str, one_of("signed_out")]
    next: Annotated[Url, _NEXT]


class UndoLinkBody(TypedDict):
    """The change that a link stops."""

    state: Annotated[
        str, one_of(MobileChange.CONFIRMING, MobileChange.DELAYED, MobileChange.UNDONE)
    ]
    new_mobile: Annotated[Mobile, "The new number, masked."]
    csrf_token: Annotated[str, _CSRF_TOKEN]


class ChangeUndoneBody(TypedDict):
    """The change was stopped."""

    state: Annotated[str, one_of(MobileChange.UNDONE)]


class FirstProofBody(TypedDict):
    """What must come before the first number of an account."""

    state: Annotated[str, one_of("email", "staff"), "Who vouches for the account."]
    csrf_token: NotRequired[Annotated[str, _CSRF_TOKEN]]


class FirstProofLinkBody(TypedDict):
    """A link that confirms an account when it is posted to."""

    state: Annotated[str, one_of("link")]
    csrf_token: Annotated[str, _CSRF_TOKEN]


class FirstProofConfirmedBody(TypedDict):
    """The account is confirmed, and its number can be entered."""

    state: Annotated[str, one_of("confirmed")]


class PuzzleBody(TypedDict):
    """A proof of work. The documentation of the sign-in says how to solve it."""

    seed: str
    puzzles: Annotated[int, "How many nonces to find."]
    bits: Annotated[int, "How many leading bits of each hash are zero."]


class SignInBody(TypedDict):
    """The state of a sign-in with a mobile. Without a number, only `next` is known."""

    state: Annotated[str, one_of("signed_out", "pending")]
    mobile: NotRequired[Annotated[Mobile, "The number that was entered, masked."]]
    channel: NotRequired[ChannelName]
    expires_at: NotRequired[Annotated[Time | None, "When the open code expires."]]
    resend_at: NotRequired[Annotated[Time | None, _RESEND_AT]]
    attempts_left: NotRequired[Annotated[Count | None, _ATTEMPTS_LEFT]]
    delivery: NotRequired[Annotated[Delivery | None, "What is known of the message."]]
    next: Annotated[Url, _NEXT]
    proof_of_work: NotRequired[PuzzleBody]
    csrf_token: NotRequired[Annotated[str, _CSRF_TOKEN]]


class SignedInBody(TypedDict):
    """The user is signed in."""

    state: Annotated[str, one_of("signed_in")]
    next: Annotated[Url, _NEXT]
    csrf_token: Annotated[str, _CSRF_TOKEN]


class ProvedBody(TypedDict):
    """The number is proved, and the app decides what follows."""

    state: Annotated[str, one_of("proved")]
    proof_token: Annotated[str, "For the app; it can be used once."]
    next: Annotated[Url, _NEXT]


Body = (
    VerificationBody
    | LoginDiscardedBody
    | UndoLinkBody
    | ChangeUndoneBody
    | FirstProofBody
    | FirstProofLinkBody
    | FirstProofConfirmedBody
    | SignInBody
    | SignedInBody
    | ProvedBody
)


# --- members of problems that the web layer adds --------------------------------------------------


class VerificationRequiredMembers(TypedDict):
    """How to verify."""

    verify_url: Annotated[Url, "The page that verifies the user."]
    demand: Annotated[str | None, "Sent back with `send` and `check` where it is set."]
    retry_after: NotRequired[Annotated[Seconds, "After so many seconds the number counts."]]


class SendRefusedMembers(TypedDict):
    """What must be solved before the send."""

    proof_of_work: NotRequired[PuzzleBody]


ProblemMembers = VerificationRequiredMembers | SendRefusedMembers

#: Error → the members that are added to those of its class.
ADDED_MEMBERS: Mapping[type[ProblemError], type] = {
    VerificationRequired: VerificationRequiredMembers,
    SendRefused: SendRefusedMembers,
}
