"""The states of attempts and messages, and their order. Pure functions.

A state is `Attempt.SENDING`, `Attempt.FAILED` or a value of `senders.base.DeliveryState`.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..db.models import Attempt, Message
from ..senders.base import DeliveryState

#: How far each open state is. All other states are final.
_PROGRESS = {
    Attempt.SENDING: 0,
    DeliveryState.UNKNOWN: 0,
    DeliveryState.QUEUED: 1,
    DeliveryState.SENT: 2,
}
_FINAL = 3

#: From the worst to the best outcome for the recipient.
_RANKING = (
    Attempt.FAILED,
    DeliveryState.REJECTED,
    DeliveryState.UNDELIVERED,
    Attempt.SENDING,
    DeliveryState.UNKNOWN,
    DeliveryState.QUEUED,
    DeliveryState.SENT,
    DeliveryState.DELIVERED,
)

#: The states of a message that a gateway took and that may still arrive, or has.
TAKEN = (DeliveryState.QUEUED, DeliveryState.SENT, DeliveryState.DELIVERED)


def progress(state: str) -> int:
    """Return how far an attempt is, from 0 to 3. A state of 3 is final."""
    return _PROGRESS.get(state, _FINAL)


def further(first: str | None, second: str) -> str:
    """Return the state with more progress, and `first` if both have the same.

    So the first of two final states is kept.

    :param first: the earlier state, or None.
    """
    is_second_further = first is None or progress(first) < progress(second)
    return str(second if is_second_further else first)


def best(states: Iterable[str]) -> str:
    """Return the state of a message from the states of its one or more attempts.

    The message has arrived if one of its copies has arrived, and has failed only if all have
    failed.
    """
    return str(max(states, key=_RANKING.index))


def settle(message: Message, states: Iterable[str]) -> None:
    """Give a message the state of its attempts after a gateway has reported one.

    A message may wait to be sent again while an earlier attempt at it is unknown. It goes on
    waiting, unless the gateway has that attempt: then it is not sent a second time.

    :param states: the states of all its attempts.
    """
    state = best(states)
    if message.next_try_at is not None:
        if state not in TAKEN:
            return
        message.next_try_at = message.lease = None
    message.state = state
