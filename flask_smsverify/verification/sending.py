"""Sending: a challenge is opened, or sent again, and its code handed to the delivery.

The budgets are taken and the challenge is written in one transaction; no transaction is open while
a gateway thinks; and what certainly did not go out is given back.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from .. import signals
from ..delivery import CodeOrder
from ..errors import (
    AccountLocked,
    BudgetSpent,
    ChannelUnavailable,
    NoChallenge,
    Rejected,
    SendFailed,
    StoreUnavailable,
    TooSoon,
)
from ..models import Challenge, Message, Verification
from ..phone import mask
from ..senders.base import Channel, CodeMessage
from .budgets import Claim, Pace, Reservation
from .challenges import Challenges, Subject, is_over, is_used, is_void, locked
from .parts import Parts
from .spending import Spending, network

log = logging.getLogger(__name__)

#: With less than this left, a resend is a new challenge: nobody can use a code that fast.
WORTH_RESENDING = timedelta(minutes=1)


class Sending:
    """Sends codes."""

    def __init__(self, parts: Parts, challenges: Challenges, spending: Spending) -> None:
        self._parts = parts
        self._challenges = challenges
        self._spending = spending

    def send(
        self, subject: Subject, channel: Channel, ip: str | None, *, again: str | None
    ) -> Challenge:
        if channel not in ("sms", "voice"):
            raise ChannelUnavailable(channel)
        fixed = subject.mobile in self._parts.rules.test_numbers
        if not fixed and not self._parts.delivery.routes.can(channel):
            raise ChannelUnavailable(channel)
        # A code that nobody may type need not be paid for; but an address may be many people's.
        self._spending.refuse_if_no_guess_is_left(self._spending.for_guess(subject, ip=None))
        claims = self._spending.for_send(subject, ip)
        challenge, reservation = self._open(subject, channel, ip, claims, again)
        if fixed:
            return challenge
        order = self._order(challenge, channel, claims)
        if subject.user_id is None:
            # Who asks for a number that is not theirs learns nothing, not even from the time.
            self._parts.delivery.in_background(self._deliver, challenge, order, reservation)
        else:
            self._deliver(challenge, order, reservation)
        return challenge

    def _deliver(self, challenge: Challenge, order: CodeOrder, reservation: Reservation) -> None:
        if self._parts.clock() >= challenge.expires_at:  # it waited in the background for too long
            self._undo(challenge, reservation)
            raise SendFailed([])
        try:
            delivered = self._parts.delivery.send_code(order)
        except (SendFailed, StoreUnavailable) as error:
            causes = error.causes if isinstance(error, SendFailed) else ()
            refused = any(isinstance(cause, Rejected) for cause in causes)
            self._undo(challenge, reservation, refused=refused)
            raise
        self._spending.announce(reservation)
        self._parts.emit(
            signals.code_sent,
            challenge_id=challenge.id,
            user_id=challenge.user_id,
            mobile=mask(challenge.mobile),
            channel=order.own.channel,
            gateway=delivered.sender,
        )

    def _open(
        self,
        subject: Subject,
        channel: Channel,
        ip: str | None,
        claims: Sequence[Claim | Pace],
        again: str | None,
    ) -> tuple[Challenge, Reservation]:
        """Take the send's budgets and write the challenge, in one transaction."""

        def work(session: Session) -> tuple[Challenge, Reservation]:
            now = self._parts.clock()
            standing = self._unlocked(session, subject)
            current = self._current(session, subject, again, now)
            rows = self._parts.budgets.lock(session, claims)
            reservation = self._parts.budgets.take(rows, claims, now)
            if current is None:
                current = self._new_challenge(subject, channel, now)
                session.add(current)
                if subject.user_id is not None and standing is None:
                    session.add(Verification(user_id=subject.user_id, failures=0, created_at=now))
            elif self._parts.rules.resend == "new":
                current.generation += 1
            current.channel = channel
            current.sends += 1
            sends_in_row = next((after[0] for _, _, after in reservation.paces), current.sends)
            delays = self._parts.rules.resend_delays
            pause = delays[min(int(sends_in_row), len(delays)) - 1]
            current.resend_at = now + timedelta(seconds=pause)
            if subject.mobile in self._parts.rules.test_numbers:
                current.own_sent = True
            if ip is not None:
                address = self._parts.budgets.row_id("ip", network(ip))
                units = json.loads(current.returnable) + reservation.of([address]).units
                current.returnable = json.dumps(units)
            return current, reservation

        try:
            self._parts.budgets.look(claims, self._parts.clock())
        except TooSoon:
            self._parts.ledger.read(lambda session: self._refuse_closed(session, subject, again))
            raise
        silently = subject.user_id is None
        self._parts.budgets.prepare(claims, self._parts.clock(), silently=silently)
        return self._parts.ledger.run(work)

    def _unlocked(self, session: Session, subject: Subject) -> Verification | None:
        """The standing of who gets a code, unless that is locked; None without one."""
        standing = session.get(Verification, subject.user_id) if subject.user_id else None
        if standing is not None and self._parts.rules.is_locked(standing):
            raise AccountLocked("too many failures in a row; staff must unlock this account")
        return standing

    def _refuse_closed(self, session: Session, subject: Subject, again: str | None) -> None:
        """Raise what no waiting helps against."""
        self._unlocked(session, subject)
        challenge = session.get(Challenge, again) if again is not None else None
        if again is not None and (challenge is None or challenge.state != Challenge.PENDING):
            raise NoChallenge("this challenge is not open any more")

    def _current(
        self, session: Session, subject: Subject, again: str | None, now: datetime
    ) -> Challenge | None:
        """The challenge to send again, or None where a new one is due; closes what it replaces."""
        query = select(Challenge).with_for_update()
        if again is not None:
            query = query.where(Challenge.id == again)
        elif subject.user_id is not None:
            query = query.where(Challenge.open_key == self._challenges.open_key(subject))
        else:
            return None
        current = session.scalars(query).one_or_none()
        if current is None or current.state != Challenge.PENDING:
            if again is not None:
                raise NoChallenge("this challenge is not open any more")
            return None
        usable = (
            current.mobile == subject.mobile
            and not is_void(current, subject.user_mobile)
            and current.key_id in self._parts.keyring
            and current.attempts < self._parts.rules.max_attempts
            and not is_over(current, now)
            and now + WORTH_RESENDING <= current.expires_at
        )
        if usable:
            return current
        expired = is_over(current, now)
        current.state = Challenge.EXPIRED if expired else Challenge.SUPERSEDED
        current.open_key = None
        session.flush()  # frees the unique key before the new challenge takes it
        return None

    def _new_challenge(self, subject: Subject, channel: Channel, now: datetime) -> Challenge:
        return Challenge(
            id=secrets.token_hex(16),
            user_id=subject.user_id,
            user_mobile=subject.user_mobile,
            mobile=subject.mobile,
            purpose=subject.purpose,
            key_id=self._parts.keyring.current_id,
            code_length=self._parts.rules.code_length,
            generation=0,
            own_sent=False,
            channel=channel,
            attempts=0,
            sends=0,
            state=Challenge.PENDING,
            created_at=now,
            expires_at=now + self._parts.rules.code_lifetime,
            resend_at=now,
            open_key=self._challenges.open_key(subject) if subject.user_id is not None else None,
            returnable="[]",
        )

    def _undo(
        self, challenge: Challenge, reservation: Reservation, *, refused: bool = False
    ) -> None:
        """Nothing went out, for certain: give back what it took, and the pause with it.

        Where the database does not take even that, the units stay spent until they age out.

        :param challenge: as it was when the send began.
        :param refused: a gateway said no to this number. Asking again would not help, so the pause
            and the address's unit stay, lest somebody asks gateways without end.
        """

        def work(session: Session) -> None:
            row = session.get(Challenge, challenge.id, with_for_update=True)
            rows = self._parts.budgets.lock_ids(session, reservation.rows)
            units = reservation.units
            if refused or (row is not None and row.state == Challenge.VERIFIED):
                # Proved by an earlier copy meanwhile, which gave the address its units back.
                units = [unit for unit in units if unit[0] in rows and rows[unit[0]].scope != "ip"]
            paces = [] if refused else reservation.paces
            self._parts.budgets.put_back(rows, replace(reservation, units=units, paces=paces))
            if row is None:
                return
            kept = json.loads(row.returnable)
            for unit in map(list, units):
                if unit in kept:
                    kept.remove(unit)
            row.returnable = json.dumps(kept)
            if row.state != Challenge.PENDING:
                return
            row.sends -= 1
            if not refused:
                row.resend_at = self._parts.clock()
            if row.generation == challenge.generation and challenge.generation > 0:
                row.generation -= 1  # the code that is on the phone is right again
            if row.sends <= 0:
                row.state = Challenge.CANCELLED
                row.open_key = row.native_key = None

        try:
            self._parts.ledger.run(work)
        except StoreUnavailable:
            log.exception("what a send that failed had cost could not be given back")

    def _order(
        self, challenge: Challenge, channel: Channel, claims: Sequence[Claim | Pace]
    ) -> CodeOrder:
        code = self._challenges.own_code(challenge)
        locale = self._parts.locale()
        message = CodeMessage(
            to=challenge.mobile,
            code=code,
            text=self._parts.texts.compose(code, locale),
            channel=channel,
            locale=locale,
            reference=challenge.id,
        )
        copies = [claim for claim in claims if claim.scope in ("site", "foreign", "mobile")]
        paid: list[Reservation] = []
        claimed_now: set[str] = set()

        def claim_native(session: Session, sender: str) -> bool:
            row = locked(session, challenge.id)
            had_it = row.native_sender == sender
            claimed = had_it or self._claim_native(session, row, sender)
            if claimed and not had_it:
                claimed_now.add(sender)
            return claimed

        def release_native(sender: str) -> None:
            if sender in claimed_now:
                self._parts.ledger.run(
                    lambda session: _release_native(session, challenge.id, sender)
                )

        def claim_own(session: Session) -> None:
            locked(session, challenge.id).own_sent = True

        def pay_again() -> bool:
            try:
                paid.append(self._parts.budgets.reserve(copies, self._parts.clock()))
            except BudgetSpent:
                return False
            self._spending.announce(paid[-1])
            return True

        def repay() -> None:
            try:
                self._parts.budgets.give_back(paid.pop())
            except StoreUnavailable:
                log.exception("what a copy that failed had cost could not be given back")

        return CodeOrder(
            challenge_id=challenge.id,
            user_id=challenge.user_id,
            own=message,
            claim_native=claim_native,
            release_native=release_native,
            claim_own=claim_own,
            pay_again=pay_again,
            repay=repay,
        )

    def _claim_native(self, session: Session, challenge: Challenge, sender: str) -> bool:
        """Whether this challenge may use the sender's native code; notes that it does.

        A native gateway checks by mobile and code alone. So a sender's native codes for one
        mobile belong to one challenge, until they have died.
        """
        if challenge.native_sender is not None:
            return False
        key = self._parts.keyring.digest("native", sender, challenge.mobile)
        holder = session.scalars(
            select(Challenge).where(Challenge.native_key == key).with_for_update()
        ).one_or_none()
        if holder is not None:
            if not self._gives_way(session, holder, challenge):
                return False
            holder.native_key = None
            session.flush()
        elif self._lives_elsewhere(session, challenge, sender):
            return False
        challenge.native_sender = sender
        challenge.native_key = key
        return True

    def _gives_way(self, session: Session, holder: Challenge, challenge: Challenge) -> bool:
        """Whether another challenge may follow the one that holds a sender's native codes.

        Once closed, to one of the same user and purpose, for whom those codes were; to any other
        when the last of them has died, however the challenge ended: the gateway still takes them.
        """
        now = self._parts.clock()
        closed = holder.state != Challenge.PENDING or is_over(holder, now)
        whose = (holder.user_id, holder.purpose)
        if closed and holder.user_id and whose == (challenge.user_id, challenge.purpose):
            return True
        last_sent = session.scalar(
            select(func.max(Message.created_at)).where(
                Message.challenge_id == holder.id, Message.kind == "native_code"
            )
        )
        return last_sent is None or now >= last_sent + self._parts.rules.code_lifetime

    def _lives_elsewhere(self, session: Session, challenge: Challenge, sender: str) -> bool:
        """Whether a native code that was sent for somebody else may live, though nobody holds it.

        So it is where its challenge gave way to one whose send then failed, or was erased.
        """
        now = self._parts.clock()
        if is_used(session, self._challenges.outliving_digest(challenge.mobile, sender), now):
            return True
        sent_for = session.execute(
            select(Challenge.user_id, Challenge.purpose)
            .join(Message, Message.challenge_id == Challenge.id)
            .where(Message.recipient == challenge.mobile, Message.sender == sender)
            .where(Message.kind == "native_code", Message.state != Message.FAILED)
            .where(Message.created_at > now - self._parts.rules.code_lifetime)
            .where(Challenge.id != challenge.id)
        )
        whose = (challenge.user_id, challenge.purpose)
        return any(user_id is None or (user_id, purpose) != whose for user_id, purpose in sent_for)


def _release_native(session: Session, challenge_id: str, sender: str) -> None:
    row = locked(session, challenge_id)
    if row.native_sender == sender:
        row.native_sender = row.native_key = None
