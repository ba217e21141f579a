"""What refuses a send, and when the next is allowed: the rate limits and the cooldown of sends.

`issue` and second copies use them. `limits.sends` counts, and `limits.cooldown` has the pauses.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from ..db.ledger import Ledger
from ..db.locks import SITE_SENDS, Held, Locks
from ..db.prepared import PreparedSelect, RowValues
from ..db.types import to_ms
from ..errors import RateLimited, StoreUnavailable, TooManyAttempts, TooSoon
from ..limits.other_counts import Charge, Counters, Reservation
from ..limits.sends import SendKeys, SendLog
from ..limits.usage_log import Overrun, Reached, Recorded
from ..log_events import log_event
from ..phone import region_of
from .alerts import LimitAlerts

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Send:
    """One send, with its evidence and what was counted.

    :param keys: what it counts against.
    :param is_owner: whether the whole limit of the mobile may be used.
    :param has_proved: whether the account has proved the mobile, so that the guesses of other
        accounts at it do not refuse it.
    :param has_evidence: whether the reserved part of the site's limit may be used.
    :param charges: units of other limits that it takes.
    :param recorded: its row in the log, once it was counted.
    :param reservation: its units of `foreign` and of `charges`.
    """

    keys: SendKeys
    mobile: str
    is_owner: bool = False
    has_proved: bool = False
    has_evidence: bool = False
    charges: tuple[Charge, ...] = ()
    recorded: Recorded | None = None
    reservation: Reservation = field(default_factory=Reservation)

    def __repr__(self) -> str:
        return "<Send>"  # it holds a mobile


class RefusedBySite(Exception):
    """Rolls back a send that a limit of the whole site or of a network refuses.

    Its wait is read afterwards, without the lock of the site.
    """

    def __init__(self, send: Send) -> None:
        super().__init__("a limit of the site refuses the send")
        self.send = send


class SendLimits:
    """The rate limits and cooldowns of sends.

    :param log: the log of sends.
    :param counters: count sends to foreign mobiles.
    :param foreign: the limit of these; None without one.
    :param default_region: mobiles of other regions are foreign.
    """

    def __init__(
        self,
        ledger: Ledger,
        locks: Locks,
        log: SendLog,
        *,
        counters: Counters,
        foreign: Charge | None,
        default_region: str,
        alerts: LimitAlerts,
    ) -> None:
        self._ledger = ledger
        self._locks = locks
        self.log = log
        self._counters = counters
        self._foreign = foreign
        self._default_region = default_region
        self._alerts = alerts

    def lock_keys(self, send: Send) -> list[int]:
        """Return the keys to lock before the decision."""
        return send.keys.locks + self._counters.keys_of(self._charges(send))

    def parameters(self, keys: SendKeys, now: datetime) -> dict[str, Any]:
        """Return the parameters of the log's counts."""
        return {"now": to_ms(now), **keys._asdict()}

    def refuse(self, session: Session, row: RowValues, send: Send, now: datetime) -> None:
        """Raise the error that refuses a send, except a limit of the whole site.

        If there are several, the one with the longest wait is raised.

        :param row: a row of `counts`.
        :raises TooManyAttempts: no guess is left for the code.
        :raises RateLimited: a limit is used up.
        :raises TooSoon: the cooldown is not over.
        """
        overruns = self._overruns(session, row, send, now)
        cooldown = self.log.cooldown(row, to_ms(now))
        longest = max(overruns, key=_by_wait, default=None)
        if longest is None or longest.wait < cooldown:
            if cooldown:
                raise TooSoon(cooldown)
        elif longest.scope == "failures":
            raise TooManyAttempts(longest.wait)
        else:
            raise RateLimited(longest.wait, longest.scope)

    def are_tries_used_up(self, send: Send) -> bool:
        """Return whether gateways refused too many sends of the address after this was counted.

        If the database does not answer, the send is not stopped.
        """
        now_ms = to_ms(self._ledger.clock())
        try:
            return self._ledger.read(
                lambda session: self.log.are_tries_used_up(session, send.keys, now_ms)
            )
        except StoreUnavailable:
            log.exception(
                "it is unknown whether a code that waited may still be sent",
                extra=log_event("tries_unclear"),
            )
            return False

    def refund_keys(self, send: Send) -> list[int]:
        """Return the keys to lock before a refund."""
        return [send.keys.guesses, *self._counters.keys_of(self._charges(send))]

    def resend_at(self, row: RowValues, now: datetime) -> datetime:
        """Return when the cooldown that this send starts will be over.

        :param row: a row of `counts`.
        """
        return now + timedelta(seconds=self.log.next_delay(row))

    def record(
        self,
        session: Session,
        row: RowValues,
        send: Send,
        now: datetime,
        challenge_id: str | None,
    ) -> Send:
        """Count a send, unless a limit of the whole site refuses it.

        :param row: a row of `counts`.
        :param challenge_id: None for a second copy, which starts no cooldown.
        :raises RateLimited: the limit `foreign`, or one of the send's own, is used up.
        :raises RefusedBySite: a limit of the site is used up, or by now one of a network.
        """
        reservation = self._counters.reserve_locked(session, self._charges(send), now)
        self._locks.lock_site(session, SITE_SENDS)
        recorded = self.log.record(
            session,
            row,
            send.keys,
            to_ms(now),
            challenge_id=challenge_id,
            is_owner=send.is_owner,
            has_evidence=send.has_evidence,
            is_alone=not self._locks.is_needed,
        )
        if recorded is None:
            raise RefusedBySite(send)
        return replace(send, recorded=recorded, reservation=reservation)

    def refusal_by_site(self, refused: RefusedBySite) -> RateLimited:
        """Return the error for a send that the site refuses, after the transaction."""
        send, now_ms = refused.send, to_ms(self._ledger.clock())
        overruns = self._ledger.read(
            lambda session: list(
                self.log.site_overruns(session, send.keys, now_ms, has_evidence=send.has_evidence)
            )
        )
        # A unit may be free again by now.
        longest = max(overruns, key=_by_wait, default=Overrun("site", 1))
        return RateLimited(max(1, longest.wait), longest.scope)

    def refund(self, session: Session, send: Send, *, is_refused: bool = False) -> list[Reached]:
        """Stop counting a send, in the caller's transaction.

        :returns: what the caller has to `report`: limits of which the send had used the half, if
            others have used it meanwhile.
        """
        if send.recorded is None:
            return []
        now_ms = to_ms(self._ledger.clock())
        self._counters.refund(session, send.reservation)
        foreign = self._counters.halves_used(session, self._charges(send), _foreign(send), now_ms)
        self._locks.lock_site(session, SITE_SENDS)
        site = self.log.refund(session, send.recorded, send.keys, now_ms, is_refused=is_refused)
        return [*site, *foreign]

    def report_send(self, send: Send) -> None:
        """Report limits that a send has half used or used up."""
        if send.recorded is not None:
            self.report([*send.recorded.reached, *_foreign(send)])

    def report(self, reached: Sequence[Reached]) -> None:
        """Report limits that are half used or used up."""
        self._alerts.report(reached)

    # --- second copies ----------------------------------------------------------------------------

    def reserve_second_copy(self, send: Send) -> Send | None:
        """Count a second copy of a code; return None if a limit or the database forbids it.

        It counts against the site, and against the same part of the mobile's limit as the first.
        """
        first = send.keys
        keys = SendKeys(first.mobile, first.cooldown, first.guesses, first.subject)
        copy = Send(keys, send.mobile, is_owner=send.is_owner, has_evidence=send.has_evidence)

        def work(session: Session, _held: Held) -> Send:
            now = self._ledger.clock()
            statement = self.log.statement("second copy", lambda: _copy_counts(self.log))
            row = statement.one(session, self.parameters(keys, now))
            _refuse_used_up(self._overruns(session, row, copy, now))
            return self.record(session, row, copy, now, None)

        try:
            counted = self._locks.run(self.lock_keys(copy), work)
        except (RateLimited, RefusedBySite, StoreUnavailable):
            return None
        self.report_send(counted)
        return counted

    def refund_second_copy(self, copy: Send) -> None:
        """Refund a second copy that was not sent."""
        try:
            reached = self._locks.run(
                self.refund_keys(copy), lambda session, _held: self.refund(session, copy)
            )
        except StoreUnavailable:
            log.exception(
                "a second copy that failed could not be refunded", extra=log_event("refund_failed")
            )
        else:
            self.report(reached)

    def _overruns(
        self, session: Session, row: RowValues, send: Send, now: datetime
    ) -> list[Overrun]:
        return self.log.overruns(
            session,
            row,
            send.keys,
            to_ms(now),
            is_owner=send.is_owner,
            has_proved=send.has_proved,
        )

    def _charges(self, send: Send) -> list[Charge]:
        is_foreign = region_of(send.mobile) != self._default_region
        foreign = [self._foreign] if is_foreign and self._foreign is not None else []
        return [*foreign, *send.charges]


def _copy_counts(log: SendLog) -> PreparedSelect:
    counts = log.counts(has_account=False, has_address=False)
    return PreparedSelect(select(*counts))


def _foreign(send: Send) -> list[Reached]:
    """Return what a send has used of the limit `foreign`. The other units are not reported."""
    return [reached for reached in send.reservation.reached if reached.scope == "foreign"]


def _by_wait(overrun: Overrun) -> tuple[int, bool]:
    """Sort by the wait. Of equal waits, guesses count more: no code helps before."""
    return overrun.wait, overrun.scope == "failures"


def _refuse_used_up(overruns: Sequence[Overrun]) -> None:
    if overruns:
        wait, scope = max((overrun.wait, overrun.scope) for overrun in overruns)
        raise RateLimited(wait, scope)
