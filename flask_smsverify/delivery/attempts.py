"""Attempts: written before a gateway is called, and again when it has answered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Context, Decimal

from blinker import NamedSignal
from sqlalchemy import bindparam, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from .. import signals
from ..db.ids import new_id
from ..db.ledger import Ledger
from ..db.models import ATTEMPTS, MESSAGES, Attempt, Message
from ..db.prepared import PreparedSelect
from ..db.rows import new_row, update_row
from ..errors import ConfigurationError, SenderError, StoreUnavailable, Unknown
from ..log_events import log_event
from ..phone import mask
from ..senders.base import Capability, DeliveryState, Receipt, Sender
from .checks import next_check
from .states import TAKEN, best

log = logging.getLogger(__name__)

#: The longest gateway id that `Attempt.gateway_id` stores.
_MAX_GATEWAY_ID = 128
_MAX_CAUSE = 191
#: No message costs that much. A cost is rounded to these decimals, because gateways add floats.
_MAX_COST, _COST_DECIMALS = Decimal(10) ** 15, Decimal("1e-6")
#: The precision of a host's own context may be too low.
_COST_CONTEXT = Context(prec=28)

_LOCK = PreparedSelect(
    select(MESSAGES.c.state).where(MESSAGES.c.id == bindparam("message")).with_for_update()
)
_STATES = PreparedSelect(
    select(ATTEMPTS.c.id, ATTEMPTS.c.state).where(ATTEMPTS.c.message_id == bindparam("message"))
)


class Attempts:
    """Records attempts and the state of their messages.

    :param emit: sends a signal.
    :param after_receipt: called with a sender's name and gateway ids when receipts were recorded,
        for senders that push delivery reports.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        emit: Callable[..., None],
        after_receipt: Callable[[str, Sequence[str]], None] | None = None,
    ) -> None:
        self._ledger = ledger
        self._emit = emit
        self._after_receipt = after_receipt

    def new(self, message_id: str, sender: Sender, *, native: bool = False) -> Attempt:
        """Return a new attempt in the state `sending`, not stored yet."""
        now = self._ledger.clock()
        attempt_id = new_id()
        return new_row(
            Attempt,
            id=attempt_id,
            message_id=message_id,
            sender=sender.name,
            native=native,
            call_reference=attempt_id,
            state=Attempt.SENDING,
            created_at=now,
            updated_at=now,
        )

    def record_receipt(
        self,
        message: Message,
        attempt: Attempt,
        sender: Sender,
        receipt: Receipt,
        *,
        is_only: bool,
    ) -> None:
        """Record the gateway's answer, and announce that the message was sent.

        :param is_only: whether the message certainly has no other attempt.
        """
        gateway_id = storable_id(receipt)
        self._record(
            attempt,
            is_only=is_only,
            state=str(receipt.status),
            gateway_id=gateway_id,
            cost=storable_cost(receipt.cost),
            next_check_at=self.first_check(sender, receipt),
        )
        self.apply_early_reports(sender, [gateway_id] if gateway_id is not None else [])
        self.announce(signals.message_sent, message, attempt)

    def apply_early_reports(self, sender: Sender, gateway_ids: Sequence[str]) -> None:
        """Apply delivery reports that arrived before these receipts were recorded."""
        if self._after_receipt is None or not gateway_ids or not sender.push_methods:
            return
        try:
            self._after_receipt(sender.name, gateway_ids)
        except (StoreUnavailable, ConfigurationError, SQLAlchemyError):
            log.exception(
                "early reports of %s could not be applied",
                sender.name,
                extra=log_event("early_reports_failed"),
            )

    def first_check(self, sender: Sender, receipt: Receipt) -> datetime | None:
        """Return when to ask the gateway for the state; None if it cannot be asked."""
        is_open = receipt.id is not None and not receipt.status.final
        if not is_open or Capability.STATUS not in sender.capabilities:
            return None
        now = self._ledger.clock()
        return next_check(now, 0, now)

    def record_failure(
        self,
        message: Message,
        attempt: Attempt,
        sender: Sender,
        error: SenderError,
        *,
        is_only: bool,
    ) -> None:
        """Record why the gateway did not take the message.

        :param is_only: whether the message certainly has no other attempt.
        """
        state = str(DeliveryState.UNKNOWN) if isinstance(error, Unknown) else Attempt.FAILED
        # A gateway that stores the reference of a call can be asked for its outcome.
        asks = state != Attempt.FAILED and Capability.FIND in sender.capabilities
        self._record(
            attempt,
            is_only=is_only,
            state=state,
            cause=error.reason[:_MAX_CAUSE],
            next_check_at=self._ledger.clock() if asks else None,
        )
        if state == Attempt.FAILED:
            self.announce(signals.message_failed, message, attempt)

    def _record(self, attempt: Attempt, *, is_only: bool, state: str, **values: object) -> None:
        """Write an outcome. The gateway has already acted, so a failed write is only logged."""
        now = self._ledger.clock()

        def work(session: Session) -> None:
            states, waits_again = [state], False
            if not is_only:
                message = {"message": attempt.message_id}
                # Staff may have sent a text again since its lease ended and it became unknown.
                waits_again = _LOCK.all(session, message) == [{"state": Message.WAITING}]
                others = _STATES.all(session, message)
                states += [row["state"] for row in others if row["id"] != attempt.id]
            becomes: dict[str, object] = {"state": best(states), "updated_at": now}
            if state != Attempt.FAILED:  # the outbox has nothing more to do
                becomes |= {"next_try_at": None, "lease": None, "cause": None}
            # The message first: its lock orders this after a report that is being recorded.
            if not waits_again or becomes["state"] in TAKEN:
                update_row(session, Message, attempt.message_id, **becomes)
            update_row(session, Attempt, attempt.id, state=state, **values, updated_at=now)

        try:
            self._ledger.run(work)
        except (StoreUnavailable, SQLAlchemyError, ValueError):  # ValueError: not encodable
            log.exception(
                "the outcome of attempt %s could not be recorded",
                attempt.id,
                extra=log_event("attempt_not_recorded"),
            )

    def announce(self, signal: NamedSignal, message: Message, attempt: Attempt) -> None:
        """Send a signal about an attempt."""
        self._emit(
            signal,
            message_id=message.id,
            kind=message.kind,
            mobile=mask(message.recipient),
            sender_name=attempt.sender,
        )


def storable_id(receipt: Receipt) -> str | None:
    """Return the gateway's id if its column can hold it. A truncated id would match nothing."""
    if receipt.id is None or len(receipt.id) > _MAX_GATEWAY_ID or "\0" in receipt.id:
        return None
    try:
        receipt.id.encode()
    except UnicodeEncodeError:  # an unpaired surrogate
        return None
    return receipt.id


def storable_cost(cost: object) -> Decimal | None:
    """Return a reported cost if its column can hold it.

    A sender of the host may put any value there.
    """
    if not isinstance(cost, Decimal) or not cost.is_finite() or not 0 <= cost < _MAX_COST:
        return None
    rounded = cost.copy_abs().quantize(_COST_DECIMALS, context=_COST_CONTEXT)  # no minus zero
    return rounded.normalize(_COST_CONTEXT)
