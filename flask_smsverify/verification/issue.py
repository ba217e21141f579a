"""Issue a code: every step of a send, from the limits to the gateway.

`CodeIssuer.issue` reads from top to bottom. One transaction locks, reads everything that the
decision needs in one SELECT, and writes the challenge, the message, the first attempt and what the
send counts against. No transaction is open during a call to a gateway. A send that certainly failed
is refunded.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from .. import signals
from ..db.ids import new_id
from ..db.ledger import Ledger
from ..db.locks import Held, Locks, claim_id, claimed
from ..db.models import Attempt, Base, Challenge, Message, Streak, Verification
from ..db.prepared import PreparedSelect, RowValues, constant, one_row
from ..db.rows import from_row, labelled, new_row, write
from ..db.types import to_ms
from ..delivery.background import BackgroundWorkers
from ..delivery.failover import Delivery
from ..errors import (
    AccountLocked,
    ChannelUnavailable,
    NoChallenge,
    SendFailed,
    StoreUnavailable,
)
from ..limits.addresses import parse_address
from ..limits.keys import UsageKeys
from ..limits.other_counts import Charge
from ..limits.usage_log import Counts, Reached
from ..log_events import log_event
from ..phone import mask
from ..senders.base import Channel
from ..settings.runtime import LiveSettings
from .challenges import Challenges, Subject, is_expired, is_void
from .code_job import CodeJob, CodeJobs
from .devices import DeviceTokens
from .host import Announcer
from .open_changes import has_changed_number, has_proved, is_proved
from .rules import OLD_NUMBER, Rules
from .send_limits import RefusedBySite, Send, SendLimits
from .streaks import new_verification
from .user_rows import OnRead, UserRows

log = logging.getLogger(__name__)

#: A challenge with less time left is replaced instead of being sent again.
MIN_LIFETIME_LEFT = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Opened:
    """What the opening transaction wrote.

    :param job: delivers the code; None for a test number.
    :param attempt: the first attempt; None if the first sender cannot send the code.
    :param channel_before: the channel of the challenge before this send.
    """

    challenge: Challenge
    send: Send
    job: CodeJob | None
    attempt: Attempt | None
    channel_before: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A code that was sent.

    :param delivery: the delivery state from the gateway's answer: `queued`, `sent` or `delivered`,
        or `unknown` if it may have sent the code; `sending` while the send runs in the background,
        and None for a test number.
    :param channel_before: the channel of the challenge's send before this one; that of this one if
        it is the first.
    """

    challenge: Challenge
    delivery: str | None
    channel_before: str


class CodeIssuer:
    """Issues codes.

    :param locale: returns the language of a text. The host's callback may raise anything.
    """

    def __init__(
        self,
        ledger: Ledger,
        locks: Locks,
        rules: Rules,
        challenges: Challenges,
        *,
        keys: UsageKeys,
        limits: SendLimits,
        devices: DeviceTokens,
        jobs: CodeJobs,
        delivery: Delivery,
        workers: BackgroundWorkers,
        live: LiveSettings,
        locale: Callable[[], str],
        announcer: Announcer,
    ) -> None:
        self._ledger = ledger
        self._locks = locks
        self._rules = rules
        self._challenges = challenges
        self._keys = keys
        self._limits = limits
        self._devices = devices
        self._jobs = jobs
        self._delivery = delivery
        self._workers = workers
        self._live = live
        self._locale = locale
        self._announcer = announcer

    def issue(
        self,
        subject: Subject,
        channel: Channel,
        ip: str | None,
        *,
        resend_of: str | None = None,
        may_replace: bool = True,
        device: str | None = None,
        charges: tuple[Charge, ...] = (),
        on_read: OnRead | None = None,
    ) -> Sent:
        """Send a code: of a new challenge, or of the open one again.

        Without an account the gateway is called in the background, so that response time does not
        reveal whether an account exists.

        :param resend_of: the id of the challenge that must still be open.
        :param may_replace: whether a new challenge may replace the open one.
        :param device: the device token of the request.
        :param charges: units of other limits that the send takes.
        :param on_read: called with what was read about the account, before any other decision.
        """
        self._refuse_channel(subject, channel)
        address = parse_address(ip)
        locale = self._locale()
        keys = self._keys.for_send(
            subject.mobile,
            subject.user_id,
            address,
            purpose=subject.purpose,
            by_device=self._devices.is_valid(device),  # whose it is, depends on the ledger
            counts_mobile=subject.purpose != OLD_NUMBER,
        )
        send = Send(keys, subject.mobile, charges=charges)
        opened = self._open(
            subject, channel, send, resend_of, device, locale, on_read, may_replace=may_replace
        )
        if opened.job is None:
            return Sent(opened.challenge, None, opened.channel_before)
        if subject.user_id is None:
            lane = address.wide if address else ""
            self._workers.submit(self._deliver_later, opened, opened.job, lane=lane)
            return Sent(opened.challenge, Attempt.SENDING, opened.channel_before)
        return self._deliver(opened, opened.job)

    def _refuse_channel(self, subject: Subject, channel: object) -> None:
        if channel not in ("sms", "voice"):
            raise ChannelUnavailable(channel)
        is_test = self._challenges.is_test_number(subject.mobile)
        if not is_test and not self._delivery.routes.can(channel):
            raise ChannelUnavailable(channel)

    # --- 1: decide, count the send and write the challenge --------------------------------------

    def _open(
        self,
        subject: Subject,
        channel: Channel,
        send: Send,
        resend_of: str | None,
        device: str | None,
        locale: str,
        on_read: OnRead | None,
        *,
        may_replace: bool,
    ) -> Opened:
        """Decide on the send and write it, in one transaction."""
        sender = self._delivery.first_sender(channel)
        settings = self._live.current  # within the transaction it may be an old one

        def work(session: Session, _held: Held) -> Opened:
            now = self._ledger.clock()
            row = self._read(session, subject, send, resend_of, now, reads_user=on_read is not None)
            verification = from_row(Verification, row, "verification_")
            current = from_row(Challenge, row, "challenge_")
            if on_read is not None:
                on_read(UserRows(verification, current, row["has_changed_number"], now))
            decided = self._with_evidence(send, subject, row, verification, device)
            if subject.user_id is None:
                decided, row = self._with_guesses(
                    session, decided, subject, current, row, resend_of, now
                )
            streak = from_row(Streak, row, "streak_")
            self._refuse_locked(verification, streak)
            if resend_of is not None and (current is None or current.state != Challenge.PENDING):
                raise NoChallenge("the challenge is no longer open")
            # A code is not sent if no guess is left for it, so the limit of guesses refuses it too.
            self._limits.refuse(session, row, decided, now)
            written: list[Base] = []
            if subject.user_id is not None and verification is None and row["claim"] is None:
                written.append(new_verification(subject.user_id, streak, now))
            challenge = self._challenge_for(
                session, current, subject, channel, decided, now, may_replace=may_replace
            )
            channel_before = challenge.channel
            challenge.channel = channel
            challenge.sends += 1
            challenge.resend_at = self._limits.resend_at(row, now)
            message = _new_message(challenge, now)
            written.append(challenge)
            job, attempt = None, None
            if self._challenges.is_test_number(subject.mobile):
                challenge.own_sent = True
            else:
                job = self._jobs.prepare(
                    challenge, message, decided, locale=locale, settings=settings
                )
                attempt = job.carry(session, challenge, message, sender) if sender else None
                written += [message, attempt] if attempt else [message]
            # The rows of this user, before the row that all sends share.
            write(session, *written)
            session.flush()
            counted = self._limits.record(session, row, decided, now, challenge.id)
            return Opened(challenge, counted, job, attempt, channel_before)

        try:
            return self._locks.run(self._limits.lock_keys(send), work)
        except RefusedBySite as refused:
            raise self._limits.refusal_by_site(refused) from None

    def _read(
        self,
        session: Session,
        subject: Subject,
        send: Send,
        resend_of: str | None,
        now: datetime,
        *,
        reads_user: bool,
    ) -> Any:
        """Return one row with everything that the decision needs."""
        keys = send.keys
        has_account, has_address = keys.account is not None, keys.ip is not None
        by, challenge = Challenge.id, resend_of
        if resend_of is None:
            by = Challenge.open_key
            challenge = self._challenges.open_key(subject) if has_account else None
        parameters: dict[str, Any] = {
            **self._limits.parameters(keys, now),
            "holder_mobile": subject.mobile,
            "user_id": subject.user_id,
            "claim_id": claim_id(keys.guesses),
            "challenge": challenge,
        }
        if subject.user_id is not None and reads_user:
            parameters["open_change"] = self._challenges.open_change_key(subject.user_id)
        log = self._limits.log
        statement = log.statement(
            ("send", has_account, has_address, by.key, reads_user),
            lambda: _build_statement(
                log.counts(has_account=has_account, has_address=has_address),
                by,
                reads_user=reads_user,
            ),
        )
        return statement.one(session, parameters)

    def _with_evidence(
        self,
        send: Send,
        subject: Subject,
        row: RowValues,
        verification: Verification | None,
        device: str | None,
    ) -> Send:
        """Return the send with its evidence.

        Half of a mobile's limit is reserved for its owner: the account that proved it last, or,
        without an account, a device of that account. A number alone is no evidence: a limit must
        not reveal whether an account exists.
        """
        if subject.user_id is None:
            is_device = self._devices.is_of_owner(
                device, subject.mobile, row["holder"], row["devices_from"]
            )
            return replace(send, is_owner=is_device, has_evidence=is_device)
        is_owner = row["holder"] is None or row["holder"] == subject.user_id
        return replace(
            send,
            is_owner=is_owner,
            has_proved=has_proved(verification, subject.mobile),
            has_evidence=verification is not None and is_proved(verification),
        )

    def _with_guesses(
        self,
        session: Session,
        send: Send,
        subject: Subject,
        current: Challenge | None,
        row: RowValues,
        resend_of: str | None,
        now: datetime,
    ) -> tuple[Send, RowValues]:
        """Return a send without an account with the key of the guesses that refuse it, and its row.

        A challenge that is sent again keeps its key. A new one counts its guesses on the owner's
        device apart from those of others. Once the device has no guess left, and others have one
        sooner, it counts like any other, and its open challenge is replaced: no token may be worse
        than none.

        :param current: the challenge to send again.
        :param row: what was read with the keys of the send.
        """

        def count(*, by_device: bool) -> tuple[Send, RowValues]:
            key = self._keys.guesses(subject.mobile, None, by_device=by_device)
            if key == send.keys.subject:
                return send, row
            keyed = replace(send, keys=send.keys._replace(subject=key))
            return keyed, self._read(session, subject, keyed, resend_of, now, reads_user=False)

        by_device = send.is_owner
        if current is not None and self._is_usable(current, subject, now):
            by_device = current.by_device
        if not (by_device and send.is_owner):
            return count(by_device=by_device)
        wait = self._guess_wait(session, send, row, now)
        if not wait:
            return send, row
        like_others = count(by_device=False)
        is_sooner = self._guess_wait(session, *like_others, now) < wait
        return like_others if is_sooner else (send, row)

    def _guess_wait(self, session: Session, send: Send, row: RowValues, now: datetime) -> float:
        """Return the seconds until a guess is left without an account; 0 if there is one now."""
        if self._is_locked(from_row(Streak, row, "streak_")):
            return math.inf
        return self._limits.log.guess_wait(session, row, send.keys, to_ms(now))

    def _is_locked(self, counted: Verification | Streak | None) -> bool:
        return counted is not None and self._rules.is_locked(counted)

    def _refuse_locked(self, verification: Verification | None, streak: Streak | None) -> None:
        if self._is_locked(verification or streak):
            raise AccountLocked

    def _challenge_for(
        self,
        session: Session,
        current: Challenge | None,
        subject: Subject,
        channel: Channel,
        send: Send,
        now: datetime,
        *,
        may_replace: bool,
    ) -> Challenge:
        """Return the challenge to send again, or a new one that replaces it."""
        by_device = send.keys.by_device
        is_same = current is not None and current.by_device == by_device
        if current is not None and is_same and self._is_usable(current, subject, now):
            if self._rules.resend == "new":
                current.generation += 1
            return current
        if current is not None:
            if not may_replace:
                raise NoChallenge("the challenge must be replaced by a new one")
            current.close(Challenge.EXPIRED if is_expired(current, now) else Challenge.SUPERSEDED)
            write(session, current)  # frees the unique key before the new challenge takes it
        return self._challenges.new(subject, channel, now, by_device=by_device)

    def _is_usable(self, challenge: Challenge, subject: Subject, now: datetime) -> bool:
        return (
            challenge.mobile == subject.mobile
            and not is_void(challenge, subject.user_mobile)
            and self._challenges.has_key(challenge)
            and challenge.attempts < self._rules.max_attempts
            and not is_expired(challenge, now)
            and now + MIN_LIFETIME_LEFT <= challenge.expires_at
        )

    # --- 2: deliver the code -------------------------------------------------------------------

    def _deliver_later(self, opened: Opened, job: CodeJob) -> None:
        """Deliver a code in the background, unless it waited too long or `tries` is used up now.

        The limit would not stop sends that were all accepted before a gateway refused the first.
        """
        is_late = self._ledger.clock() >= opened.challenge.expires_at
        if is_late or self._limits.are_tries_used_up(opened.send):
            self._refund(opened, job)
            raise SendFailed([])
        self._deliver(opened, job)

    def _deliver(self, opened: Opened, job: CodeJob) -> Sent:
        """Deliver the code."""
        challenge = opened.challenge
        try:
            delivered = self._delivery.deliver(job, opened.attempt)
        except SendFailed as error:
            self._refund(opened, job, refused=any(cause.is_refusal for cause in error.causes))
            raise
        except StoreUnavailable:
            self._refund(opened, job)
            raise
        self._limits.report_send(opened.send)
        self._announcer.emit(
            signals.code_sent,
            challenge_id=challenge.id,
            user_id=challenge.user_id,
            mobile=mask(challenge.mobile),
            channel=job.kind,
            sender_name=delivered.sender,
        )
        if opened.attempt is None or delivered.sender != opened.attempt.sender:
            challenge = self._reload(challenge)
        return Sent(challenge, str(delivered.state), opened.channel_before)

    def _reload(self, challenge: Challenge) -> Challenge:
        """Return a challenge after a failover, which may have changed whose code is accepted."""
        try:
            return self._challenges.load(challenge.id)
        except (StoreUnavailable, NoChallenge):  # the code was sent nevertheless
            return challenge

    # --- 3: refund a send that failed ----------------------------------------------------------

    def _refund(self, opened: Opened, job: CodeJob, *, refused: bool = False) -> None:
        """Refund a send if certainly nothing was sent.

        If the database does not take the refund, the units stay counted until they age out.

        :param refused: a gateway refused this mobile. The cooldown and a try stay counted, to
            prevent unlimited gateway calls.
        """

        def work(session: Session, _held: Held) -> list[Reached]:
            row = session.get(Challenge, opened.challenge.id, with_for_update=True)
            message = session.get(Message, job.message.id, with_for_update=True)
            if message is not None and message.state == Attempt.SENDING:
                message.state = Attempt.FAILED
            if row is not None and row.state == Challenge.PENDING:
                self._restore(row, opened, refused=refused)
            return self._limits.refund(session, opened.send, is_refused=refused)

        try:
            reached = self._locks.run(self._limits.refund_keys(opened.send), work)
        except StoreUnavailable:
            log.exception(
                "a send that failed could not be refunded", extra=log_event("refund_failed")
            )
        else:
            self._limits.report(reached)

    def _restore(self, row: Challenge, opened: Opened, *, refused: bool) -> None:
        """Restore a pending challenge to its state before the send."""
        written = opened.challenge  # as the opening transaction wrote it
        row.sends -= 1
        if row.channel == written.channel:
            row.channel = opened.channel_before  # that of the code on the phone
        if not refused:
            row.resend_at = self._ledger.clock()
        if row.generation == written.generation and written.generation > 0:
            row.generation -= 1  # the code on the phone becomes right again
        if row.sends <= 0:
            row.close(Challenge.CANCELLED)
            row.native_key = row.id


def _new_message(challenge: Challenge, now: datetime) -> Message:
    return new_row(
        Message,
        id=new_id(),
        kind=Message.CODE,
        challenge_id=challenge.id,
        user_id=challenge.user_id,
        recipient=challenge.mobile,
        channel=challenge.channel,
        state=Attempt.SENDING,
        created_at=now,
        updated_at=now,
    )


def _build_statement(
    counts: Counts, by: InstrumentedAttribute[str], *, reads_user: bool
) -> PreparedSelect:
    """Return the SELECT of everything that the decision on a send needs.

    Without an account the parameters `user_id` and `challenge` are NULL, which equals nothing.

    :param by: the column that selects the challenge to send again.
    :param reads_user: whether it selects what `UserRows` needs as well.
    """
    last_proof = (
        select(Verification.user_id)
        .where(Verification.mobile == bindparam("holder_mobile"))
        .where(Verification.verified_at.is_not(None), Verification.revoked_at.is_(None))
        .order_by(Verification.verified_at.desc())
        .limit(constant(1))
        .scalar_subquery()
    )
    holder = aliased(Verification)
    statement = select(
        *counts,
        holder.user_id.label("holder"),
        holder.devices_from.label("devices_from"),
        claimed("claim_id").label("claim"),
        *([has_changed_number().label("has_changed_number")] if reads_user else []),
        *labelled(Verification, "verification_"),
        *labelled(Streak, "streak_"),
        *labelled(Challenge, "challenge_"),
    ).select_from(
        one_row()
        .outerjoin(Verification, Verification.user_id == bindparam("user_id"))
        .outerjoin(holder, holder.user_id == last_proof)
        .outerjoin(Streak, Streak.subject == bindparam("subject"))
        .outerjoin(Challenge, by == bindparam("challenge"))
    )
    return PreparedSelect(statement)
