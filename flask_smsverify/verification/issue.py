"""Issue a code: the story of a send, from the limits to the gateway.

`CodeIssuer.issue` reads from top to bottom. One transaction counts the send against its limits and
writes the challenge and the message. No transaction is open while a gateway works. A send that
certainly failed is refunded.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from .. import signals
from ..db.ledger import Ledger
from ..db.models import Attempt, Challenge, Message, Verification
from ..delivery.attempts import Attempts
from ..delivery.background import BackgroundWorkers
from ..delivery.failover import Delivery
from ..errors import (
    AccountLocked,
    ChannelUnavailable,
    NoChallenge,
    Rejected,
    SendFailed,
    StoreUnavailable,
    TooSoon,
)
from ..i18n.code_text import CodeTexts
from ..limits.policy import network_of
from ..limits.usage import Charge, Cooldown, Reservation
from ..phone import mask
from ..senders.base import Channel, CodeMessage
from ..settings.runtime import LiveSettings
from .challenges import Challenges, Subject, is_expired, is_void
from .code_job import CodeJob
from .limits import GuessLimits, SendLimits
from .native import NativeCodes
from .rules import Announcer, Rules

log = logging.getLogger(__name__)

#: A challenge with less time left is replaced instead of being sent again.
MIN_LIFETIME_LEFT = timedelta(minutes=1)


class Opened(NamedTuple):
    """What the opening transaction wrote."""

    challenge: Challenge
    message: Message
    charges: Sequence[Charge | Cooldown]
    reservation: Reservation


class CodeDispatcher:
    """Hands the code of a challenge to the delivery."""

    def __init__(
        self,
        delivery: Delivery,
        attempts: Attempts,
        workers: BackgroundWorkers,
        *,
        texts: CodeTexts,
        live: LiveSettings,
        locale: Callable[[], str],
        challenges: Challenges,
        native: NativeCodes,
        limits: SendLimits,
    ) -> None:
        self._delivery = delivery
        self._attempts = attempts
        self._texts = texts
        self._live = live
        self._locale = locale
        self._challenges = challenges
        self._native = native
        self._limits = limits
        self.run_in_background = workers.submit

    def can(self, channel: str) -> bool:
        """Return whether any sender serves the channel."""
        return self._delivery.routes.can(channel)

    def prepare(self, opened: Opened) -> CodeJob:
        """Return the delivery job of a challenge's current code."""
        challenge, message = opened.challenge, opened.message
        code = self._challenges.own_code(challenge)
        locale, settings = self._locale(), self._live.current
        code_message = CodeMessage(
            to=challenge.mobile,
            code=code,
            text=self._texts.compose(
                code, locale, site=settings.site_name, signature=settings.signature
            ),
            channel=message.channel,  # type: ignore[arg-type]  # the column holds a channel
            locale=locale,
            reference=challenge.id,
        )
        return CodeJob(
            challenge,
            message,
            code_message,
            opened.charges,
            attempts=self._attempts,
            native=self._native,
            limits=self._limits,
        )

    def deliver(self, job: CodeJob) -> str:
        """Deliver the code; return the name of the sender that took it.

        :raises SendFailed: certainly nothing was sent.
        :raises StoreUnavailable: an attempt could not be recorded, and nothing was sent.
        """
        return self._delivery.deliver(job).sender


class CodeIssuer:
    """Issues codes."""

    def __init__(
        self,
        ledger: Ledger,
        rules: Rules,
        challenges: Challenges,
        *,
        limits: SendLimits,
        guesses: GuessLimits,
        dispatcher: CodeDispatcher,
        announcer: Announcer,
    ) -> None:
        self._ledger = ledger
        self._rules = rules
        self._challenges = challenges
        self._limits = limits
        self._guesses = guesses
        self._dispatcher = dispatcher
        self._announcer = announcer

    def issue(
        self, subject: Subject, channel: Channel, ip: str | None, *, resend_of: str | None = None
    ) -> Challenge:
        """Send a code: of a new challenge, or of the open one again.

        Without an account the gateway is called in the background, so that response time does not
        reveal whether an account exists.

        :param resend_of: the id of the challenge that must still be open.
        """
        self._refuse_channel(subject, channel)
        # A code that nobody may enter is not sent. The address is left out: many people share one.
        self._guesses.refuse_if_used_up(self._guesses.charges(subject, ip=None))
        charges = self._limits.charges(subject, ip)
        opened = self._open(subject, channel, ip, charges, resend_of)
        if self._challenges.is_test_number(subject.mobile):
            return opened.challenge
        try:
            job = self._dispatcher.prepare(opened)
        except BaseException:  # the host's locale_getter may raise anything
            self._refund(opened)
            raise
        if subject.user_id is None:
            self._dispatcher.run_in_background(self._deliver, opened, job, lane=network_of(ip))
        else:
            self._deliver(opened, job)
        return opened.challenge

    def _refuse_channel(self, subject: Subject, channel: object) -> None:
        if channel not in ("sms", "voice"):
            raise ChannelUnavailable(channel)
        is_test = self._challenges.is_test_number(subject.mobile)
        if not is_test and not self._dispatcher.can(channel):
            raise ChannelUnavailable(channel)

    # --- 1: count the send and write the challenge ---------------------------------------------

    def _open(
        self,
        subject: Subject,
        channel: Channel,
        ip: str | None,
        charges: Sequence[Charge | Cooldown],
        resend_of: str | None,
    ) -> Opened:
        """Count the send against its limits and write challenge and message, in one transaction."""
        self._refuse_early(subject, charges, resend_of)
        store = self._limits.store
        # Equal work for known and unknown mobiles: response time must not tell them apart.
        store.prepare(charges, self._ledger.clock(), uniformly=subject.user_id is None)

        def work(session: Session) -> Opened:
            now = self._ledger.clock()
            standing = self._unlocked_standing(session, subject)
            current = self._current(session, subject, resend_of, now)
            reservation = store.reserve_locked(store.lock(session, charges), charges, now)
            if current is None:
                current = self._challenges.new(subject, channel, now)
                session.add(current)
                if subject.user_id is not None and standing is None:
                    session.add(Verification(user_id=subject.user_id, failures=0, created_at=now))
            elif self._rules.resend == "new":
                current.generation += 1
            current.channel = channel
            current.sends += 1
            current.resend_at = now + self._cooldown(reservation, current.sends)
            units = self._limits.address_units(reservation, ip).units
            current.refundable = json.dumps(json.loads(current.refundable) + units)
            message = _new_message(current, now)
            if self._challenges.is_test_number(subject.mobile):
                current.own_sent = True
            else:
                session.add(message)
            return Opened(current, message, charges, reservation)

        return self._ledger.run(work)

    def _refuse_early(
        self, subject: Subject, charges: Sequence[Charge | Cooldown], resend_of: str | None
    ) -> None:
        """Refuse what the transaction would refuse, without writing or locking a row."""
        try:
            self._limits.store.check(charges, self._ledger.clock())
        except TooSoon:
            # A locked account or a closed challenge is the better answer: waiting does not help.
            self._ledger.read(lambda session: self._refuse_closed(session, subject, resend_of))
            raise

    def _refuse_closed(self, session: Session, subject: Subject, resend_of: str | None) -> None:
        self._unlocked_standing(session, subject)
        if resend_of is not None:
            challenge = session.get(Challenge, resend_of)
            if challenge is None or challenge.state != Challenge.PENDING:
                raise NoChallenge("the challenge is no longer open")

    def _unlocked_standing(self, session: Session, subject: Subject) -> Verification | None:
        standing = session.get(Verification, subject.user_id) if subject.user_id else None
        if standing is not None and self._rules.is_locked(standing):
            raise AccountLocked
        return standing

    def _current(
        self, session: Session, subject: Subject, resend_of: str | None, now: datetime
    ) -> Challenge | None:
        """Return the challenge to send again, locked; close it and return None to replace it."""
        query = select(Challenge).with_for_update()
        if resend_of is not None:
            query = query.where(Challenge.id == resend_of)
        elif subject.user_id is not None:
            query = query.where(Challenge.open_key == self._challenges.open_key(subject))
        else:
            return None
        current = session.scalars(query).one_or_none()
        if current is None or current.state != Challenge.PENDING:
            if resend_of is not None:
                raise NoChallenge("the challenge is no longer open")
            return None
        if self._is_usable(current, subject, now):
            return current
        current.state = Challenge.EXPIRED if is_expired(current, now) else Challenge.SUPERSEDED
        current.open_key = None
        session.flush()  # frees the unique key before the new challenge takes it
        return None

    def _is_usable(self, challenge: Challenge, subject: Subject, now: datetime) -> bool:
        return (
            challenge.mobile == subject.mobile
            and not is_void(challenge, subject.user_mobile)
            and self._challenges.has_key(challenge)
            and challenge.attempts < self._rules.max_attempts
            and not is_expired(challenge, now)
            and now + MIN_LIFETIME_LEFT <= challenge.expires_at
        )

    def _cooldown(self, reservation: Reservation, sends: int) -> timedelta:
        """Return the pause before the next send."""
        in_row = next((after[0] for _, _, after in reservation.cooldowns), sends)
        delays = self._rules.resend_delays
        return timedelta(seconds=delays[min(int(in_row), len(delays)) - 1])

    # --- 2: deliver the code -------------------------------------------------------------------

    def _deliver(self, opened: Opened, job: CodeJob) -> None:
        challenge = opened.challenge
        if self._ledger.clock() >= challenge.expires_at:  # it waited too long in the background
            self._refund(opened)
            raise SendFailed([])
        try:
            sender = self._dispatcher.deliver(job)
        except (SendFailed, StoreUnavailable) as error:
            causes = error.causes if isinstance(error, SendFailed) else ()
            self._refund(opened, refused=any(isinstance(cause, Rejected) for cause in causes))
            raise
        self._limits.report(opened.reservation)
        self._announcer.emit(
            signals.code_sent,
            challenge_id=challenge.id,
            user_id=challenge.user_id,
            mobile=mask(challenge.mobile),
            channel=job.route,
            sender_name=sender,
        )

    # --- 3: refund a send that failed ----------------------------------------------------------

    def _refund(self, opened: Opened, *, refused: bool = False) -> None:
        """Refund a send of which certainly nothing was sent.

        If the database does not take the refund, the units stay counted until they age out.

        :param refused: a gateway refused this mobile. The cooldown and the address's unit stay
            counted, to prevent unlimited gateway calls.
        """

        def work(session: Session) -> None:
            row = session.get(Challenge, opened.challenge.id, with_for_update=True)
            units = self._refund_units(session, opened.reservation, row, refused=refused)
            message = session.get(Message, opened.message.id, with_for_update=True)
            if message is not None and message.state == Attempt.SENDING:
                message.state = Attempt.FAILED
            if row is None:
                return
            kept = json.loads(row.refundable)
            for unit in map(list, units):
                if unit in kept:
                    kept.remove(unit)
            row.refundable = json.dumps(kept)
            if row.state == Challenge.PENDING:
                self._restore(row, opened.challenge, refused=refused)

        try:
            self._ledger.run(work)
        except StoreUnavailable:
            log.exception("a send that failed could not be refunded")

    def _refund_units(
        self, session: Session, reservation: Reservation, row: Challenge | None, *, refused: bool
    ) -> list[tuple[str, int, int, str | None]]:
        store = self._limits.store
        rows = store.lock_ids(session, reservation.rows)
        units = reservation.units
        # A challenge that an earlier copy proved meanwhile has refunded the address's units.
        if refused or (row is not None and row.state == Challenge.VERIFIED):
            units = [unit for unit in units if unit[0] in rows and rows[unit[0]].scope != "ip"]
        cooldowns = [] if refused else reservation.cooldowns
        store.refund_locked(rows, replace(reservation, units=units, cooldowns=cooldowns))
        return units

    def _restore(self, row: Challenge, opened: Challenge, *, refused: bool) -> None:
        """Restore a pending challenge to its state before the send.

        :param opened: the challenge as the opening transaction wrote it.
        """
        row.sends -= 1
        if not refused:
            row.resend_at = self._ledger.clock()
        if row.generation == opened.generation and opened.generation > 0:
            row.generation -= 1  # the code on the phone becomes right again
        if row.sends <= 0:
            row.state = Challenge.CANCELLED
            row.open_key = row.native_key = None


def _new_message(challenge: Challenge, now: datetime) -> Message:
    return Message(
        id=secrets.token_hex(16),
        kind=Message.CODE,
        challenge_id=challenge.id,
        user_id=challenge.user_id,
        recipient=challenge.mobile,
        channel=challenge.channel,
        state=Attempt.SENDING,
        created_at=now,
        updated_at=now,
    )
