"""The verifier: start a challenge, send again, check a code, and what follows from it.

Every step of the story is one short transaction of the ledger, and no transaction is open while a
gateway thinks. Rows are locked in one order everywhere: budgets, then the verification, then the
challenge. HTML, JSON and Python callers come through the same methods, so there is one budget for
all of them.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import math
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from sqlalchemy import Connection, and_, delete, func, or_, select
from sqlalchemy.orm import Session

from .. import signals
from ..delivery import CodeOrder, Delivery
from ..errors import (
    AccountLocked,
    BudgetSpent,
    ChannelUnavailable,
    CheckFailed,
    CodeExpired,
    InvalidToken,
    MobileError,
    MobileRequired,
    MobileTaken,
    NoChallenge,
    Rejected,
    SenderError,
    SendFailed,
    StoreUnavailable,
    TooManyAttempts,
    WrongCode,
)
from ..ledger import Ledger
from ..models import Challenge, Message, UsedToken, Verification
from ..phone import mask, region_of
from ..senders.base import Channel, CodeMessage
from ..settings import Limit
from ..text import CodeTexts
from . import codes
from .budgets import Budgets, Claim, Pace, Reservation
from .codes import Keyring
from .policy import CLOCK_SKEW, Policy, Status
from .tokens import ProofTokens

log = logging.getLogger(__name__)

#: With less than this left, a resend is a new challenge: nobody can use a code that fast.
WORTH_RESENDING = timedelta(minutes=1)
#: So long a new proof holds its mobile though the host has not written that to the user yet.
NOT_WRITTEN_YET = timedelta(minutes=1)

_CHALLENGE_ID = re.compile(r"[0-9a-f]{32}")

#: A proof: whose, and of when.
_ProofKey = tuple[str, datetime | None]


class Users(Protocol):
    """What the verifier asks about the host's users. A user is whatever the host says it is."""

    def id_of(self, user: object) -> str:
        """The primary key as text."""

    def mobile_of(self, user: object) -> str | None:
        """The mobile as the host has it, in any spelling."""

    def is_exempt(self, user: object) -> bool:
        """Whether the user need not verify."""

    def find(self, user_id: str) -> object | None:
        """The user with that key."""

    def write_mobile(self, user: object, mobile: str) -> None:
        """Write a mobile to the user, to be committed with the host's transaction."""

    def connection(self) -> Connection:
        """The connection of the host's transaction, with what was pending written to it."""

    def after_commit(self, announce: Callable[[], None]) -> None:
        """Call it when the host's transaction is committed; never, where it is rolled back."""


class Tell(Protocol):
    """Tells people things. Verification itself tells nobody anything."""

    def __call__(self, event: str, *, mobile: str | None, **values: str) -> None:
        """Tell an event to a mobile, or to the staff where that is None. Must not raise."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The numbers that the verifier goes by, as `SMSVERIFY_*` has them."""

    code_length: int
    code_lifetime: timedelta
    max_attempts: int
    resend: Literal["same", "new"]
    resend_delays: tuple[int, ...]
    budgets: Mapping[str, tuple[Limit, ...]]
    consecutive_failures: int
    accounts_per_mobile: int
    mobile_policy: Literal["refuse", "transfer"]
    default_region: str
    #: E.164 → its fixed code; nothing is sent to these.
    test_numbers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Proof:
    """A mobile that was proved by somebody who has no account yet."""

    mobile: str
    purpose: str
    challenge_id: str
    proved_at: datetime

    def __repr__(self) -> str:
        return f"<Proof of {mask(self.mobile)} for {self.purpose}>"


@dataclass(frozen=True, slots=True)
class _Subject:
    """Whom a challenge is about: a user, or whoever holds the mobile."""

    user_id: str | None
    user_mobile: str | None = field(repr=False)
    mobile: str = field(repr=False)
    purpose: str


#: The columns that a proof writes.
_PROOF = ("mobile", "verified_at", "channel", "sender", "revoked_at")


@dataclass(frozen=True, slots=True)
class _Granted:
    """A verification that was written.

    :param lost: the users who lost theirs to it.
    :param old_mobile: the number that the user had proved before, where it was another.
    :param before: what the row held before, by the names of `_PROOF`.
    """

    verification: Verification
    lost: tuple[str, ...]
    old_mobile: str | None
    before: Mapping[str, Any]


class Verifier:
    """The rules of proof over a ledger, budgets, and a delivery.

    :param parse_mobile: any spelling → E.164, or a `MobileError`.
    :param locale: the language of a code's text, asked at each send.
    :param emit: sends a signal.
    :param tell: tells a person what they must know: the holder of an old number, the staff.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        budgets: Budgets,
        keyring: Keyring,
        policy: Policy,
        delivery: Delivery,
        users: Users,
        rules: Rules,
        texts: CodeTexts,
        parse_mobile: Callable[[object], str],
        locale: Callable[[], str],
        emit: Callable[..., None],
        tell: Tell,
        clock: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._budgets = budgets
        self._keyring = keyring
        self._policy = policy
        self._delivery = delivery
        self._users = users
        self._rules = rules
        self._texts = texts
        self._parse = parse_mobile
        self._locale = locale
        self._emit = emit
        self._tell = tell
        self._tokens = ProofTokens(keyring)
        self._clock = clock

    # --- sending -------------------------------------------------------------------------------

    def start(
        self,
        user: object,
        *,
        channel: Channel = "sms",
        mobile: str | None = None,
        purpose: str = "verify",
        ip: str | None = None,
    ) -> Challenge:
        """Send a code to a user: a new challenge, or the open one again.

        :param mobile: the number to prove, in any spelling; the user's own by default.
        :raises MobileError: no number, or none that we may send to.
        :raises TooSoon: the pause since the last send is not over.
        :raises BudgetSpent: nothing more may go out for now.
        :raises AccountLocked: until staff unlock the account.
        :raises TooManyAttempts: no guess is left for the account, or for the site.
        :raises ChannelUnavailable: no sender has this channel.
        :raises SendFailed: no gateway took it; what it had cost was given back.
        :raises StoreUnavailable: the database did not take it; nothing was sent.
        """
        own = self.mobile_of(user)
        if mobile is None and own is None:
            # Says what is wrong with the number that the host has, or that there is none.
            self._parse(self._users.mobile_of(user))
            raise MobileRequired("the user has no mobile")
        target = self._parse(mobile) if mobile is not None else own
        subject = _Subject(self._users.id_of(user), own, target or "", purpose)
        return self._send(subject, channel, ip, again=None)

    def start_for(
        self, mobile: str, *, purpose: str, channel: Channel = "sms", ip: str | None = None
    ) -> Challenge:
        """Send a code to a number before there is an account; each call is a challenge of its own.

        The gateway is asked in the background, so that neither the answer nor its time tells who
        has an account; `last_message` says what became of it.

        :raises: what `start` raises, but for `SendFailed`.
        """
        subject = _Subject(None, None, self._parse(mobile), purpose)
        return self._send(subject, channel, ip, again=None)

    def resend(
        self, challenge: Challenge, *, channel: Channel | None = None, ip: str | None = None
    ) -> Challenge:
        """Send an open challenge's code again, by another channel if asked.

        With less than a minute of life left, what comes back is a new challenge.

        :raises NoChallenge: it is not open any more, or the user's mobile changed meanwhile.
        :raises: what `start` raises.
        """
        own = None
        if challenge.user_id is not None:
            user = self._users.find(challenge.user_id)
            own = self.mobile_of(user) if user is not None else None
            if _is_void(challenge, own):
                raise NoChallenge("the user's mobile changed after the code was sent")
        subject = _Subject(challenge.user_id, own, challenge.mobile, challenge.purpose)
        return self._send(subject, channel or challenge.channel, ip, again=challenge.id)  # type: ignore[arg-type]  # the column holds a channel

    def load(self, challenge_id: str) -> Challenge:
        """A challenge by its public id, as it stands now.

        :raises NoChallenge: there is none.
        """
        # What cannot be an id is not asked for: databases refuse some of it with errors.
        known = isinstance(challenge_id, str) and bool(_CHALLENGE_ID.fullmatch(challenge_id))
        challenge = known and self._ledger.read(
            lambda session: session.get(Challenge, challenge_id)
        )
        if not challenge:
            raise NoChallenge("there is no such challenge")
        return challenge

    def _send(
        self, subject: _Subject, channel: Channel, ip: str | None, *, again: str | None
    ) -> Challenge:
        if channel not in ("sms", "voice"):
            raise ChannelUnavailable(str(channel)[:16])
        fixed = subject.mobile in self._rules.test_numbers
        if not fixed and not self._delivery.routes.can(channel):
            raise ChannelUnavailable(channel)
        self._refuse_if_no_guess_is_left(subject)
        claims = self._send_claims(subject, ip)
        challenge, reservation = self._open(subject, channel, ip, claims, again)
        if fixed:
            return challenge
        order = self._order(challenge, channel, claims)
        if subject.user_id is None:
            # Who asks for a number that is not theirs learns nothing, not even from the time.
            self._delivery.in_background(self._deliver, challenge, order, reservation)
        else:
            self._deliver(challenge, order, reservation)
        return challenge

    def _refuse_if_no_guess_is_left(self, subject: _Subject) -> None:
        """A code that nobody may type need not be paid for. A look; the limits hold without it."""
        claims = self._failure_claims(subject, ip=None)  # an address may be many people's
        wait = max((usage.wait for usage in self._budgets.usage(claims, self._clock())), default=0)
        if wait:
            raise TooManyAttempts(wait)

    def _deliver(self, challenge: Challenge, order: CodeOrder, reservation: Reservation) -> None:
        if self._clock() >= challenge.expires_at:  # it waited in the background for too long
            self._undo_send(challenge, reservation)
            raise SendFailed([])
        try:
            delivered = self._delivery.send_code(order)
        except (SendFailed, StoreUnavailable) as error:
            causes = error.causes if isinstance(error, SendFailed) else ()
            refused = any(isinstance(cause, Rejected) for cause in causes)
            self._undo_send(challenge, reservation, refused=refused)
            raise
        self._announce_spent(reservation)
        self._emit(
            signals.code_sent,
            challenge_id=challenge.id,
            user_id=challenge.user_id,
            mobile=mask(challenge.mobile),
            channel=order.own.channel,
            gateway=delivered.sender,
        )

    def _open(
        self,
        subject: _Subject,
        channel: Channel,
        ip: str | None,
        claims: Sequence[Claim | Pace],
        again: str | None,
    ) -> tuple[Challenge, Reservation]:
        """Take the send's budgets and write the challenge, in one transaction."""

        def work(session: Session) -> tuple[Challenge, Reservation]:
            now = self._clock()
            rows = self._budgets.lock(session, claims)
            standing = session.get(Verification, subject.user_id) if subject.user_id else None
            if standing is not None and self._is_locked(standing):
                raise AccountLocked("too many failures in a row; staff must unlock this account")
            current = self._current(session, subject, again, now)
            reservation = self._budgets.take(rows, claims, now)
            if current is None:
                current = self._new_challenge(subject, channel, now)
                session.add(current)
                if subject.user_id is not None and standing is None:
                    session.add(Verification(user_id=subject.user_id, failures=0, created_at=now))
            elif self._rules.resend == "new":
                current.generation += 1
            current.channel = channel
            current.sends += 1
            sends_in_row = next((after[0] for _, _, after in reservation.paces), current.sends)
            delays = self._rules.resend_delays
            pause = delays[min(int(sends_in_row), len(delays)) - 1]
            current.resend_at = now + timedelta(seconds=pause)
            if subject.mobile in self._rules.test_numbers:
                current.own_sent = True
            if ip is not None:
                address = self._budgets.row_id("ip", _network(ip))
                units = json.loads(current.returnable) + reservation.of([address]).units
                current.returnable = json.dumps(units)
            return current, reservation

        self._refuse_early(claims)
        self._budgets.prepare(claims, self._clock())
        return self._ledger.run(work)

    def _refuse_early(self, claims: Sequence[Claim | Pace]) -> None:
        """Refuse by a look, so that who is refused anyway makes no rows. The limits are below."""
        budgets = [claim for claim in claims if isinstance(claim, Claim) and claim.item is None]
        spent = [
            (usage.wait, usage.scope)
            for usage in self._budgets.usage(budgets, self._clock())
            if usage.wait
        ]
        if spent:
            wait, scope = max(spent)
            raise BudgetSpent(wait, scope)

    def _current(
        self, session: Session, subject: _Subject, again: str | None, now: datetime
    ) -> Challenge | None:
        """The challenge to send again, or None where a new one is due; closes what it replaces."""
        query = select(Challenge).with_for_update()
        if again is not None:
            query = query.where(Challenge.id == again)
        elif subject.user_id is not None:
            query = query.where(Challenge.open_key == self._open_key(subject))
        else:
            return None
        current = session.scalars(query).one_or_none()
        if current is None or current.state != Challenge.PENDING:
            if again is not None:
                raise NoChallenge("this challenge is not open any more")
            return None
        usable = (
            current.mobile == subject.mobile
            and not _is_void(current, subject.user_mobile)
            and current.key_id in self._keyring
            and current.attempts < self._rules.max_attempts
            and not _is_over(current, now)
            and now + WORTH_RESENDING <= current.expires_at
        )
        if usable:
            return current
        expired = _is_over(current, now)
        current.state = Challenge.EXPIRED if expired else Challenge.SUPERSEDED
        current.open_key = None
        session.flush()  # frees the unique key before the new challenge takes it
        return None

    def _new_challenge(self, subject: _Subject, channel: Channel, now: datetime) -> Challenge:
        return Challenge(
            id=secrets.token_hex(16),
            user_id=subject.user_id,
            user_mobile=subject.user_mobile,
            mobile=subject.mobile,
            purpose=subject.purpose,
            key_id=self._keyring.current_id,
            code_length=self._rules.code_length,
            generation=0,
            own_sent=False,
            channel=channel,
            attempts=0,
            sends=0,
            state=Challenge.PENDING,
            created_at=now,
            expires_at=now + self._rules.code_lifetime,
            resend_at=now,
            open_key=self._open_key(subject) if subject.user_id is not None else None,
            returnable="[]",
        )

    def _undo_send(
        self, challenge: Challenge, reservation: Reservation, *, refused: bool = False
    ) -> None:
        """Nothing went out, for certain: give back what it took, and the pause with it.

        Where the database does not take even that, the units stay spent until they age out.

        :param challenge: as it was when the send began.
        :param refused: a gateway said no to this number. Asking again would not help, so the pause
            and the address's unit stay, lest somebody asks gateways without end.
        """

        def work(session: Session) -> None:
            rows = self._budgets.lock_ids(session, reservation.rows)
            row = session.get(Challenge, challenge.id, with_for_update=True)
            units = reservation.units
            if refused or (row is not None and row.state == Challenge.VERIFIED):
                # Proved by an earlier copy meanwhile, which gave the address its units back.
                units = [unit for unit in units if unit[0] in rows and rows[unit[0]].scope != "ip"]
            paces = [] if refused else reservation.paces
            self._budgets.put_back(rows, replace(reservation, units=units, paces=paces))
            if row is None or row.state != Challenge.PENDING:
                return
            row.sends -= 1
            if not refused:
                row.resend_at = self._clock()
            kept = json.loads(row.returnable)
            for unit in map(list, units):
                if unit in kept:
                    kept.remove(unit)
            row.returnable = json.dumps(kept)
            if row.generation == challenge.generation and challenge.generation > 0:
                row.generation -= 1  # the code that is on the phone is right again
            if row.sends <= 0:
                row.state = Challenge.CANCELLED
                row.open_key = row.native_key = None

        try:
            self._ledger.run(work)
        except StoreUnavailable:
            log.exception("what a send that failed had cost could not be given back")

    def _order(
        self, challenge: Challenge, channel: Channel, claims: Sequence[Claim | Pace]
    ) -> CodeOrder:
        code = self._own_code(challenge)
        locale = self._locale()
        message = CodeMessage(
            to=challenge.mobile,
            code=code,
            text=self._texts.compose(code, locale),
            channel=channel,
            locale=locale,
            reference=challenge.id,
        )
        copies = [claim for claim in claims if claim.scope in ("site", "foreign", "mobile")]
        paid: list[Reservation] = []
        claimed_now: set[str] = set()

        def claim_native(session: Session, sender: str) -> bool:
            row = _locked(session, challenge.id)
            had_it = row.native_sender == sender
            claimed = had_it or self._claim_native(session, row, sender)
            if claimed and not had_it:
                claimed_now.add(sender)
            return claimed

        def release_native(sender: str) -> None:
            if sender in claimed_now:
                self._ledger.run(lambda session: _release_native(session, challenge.id, sender))

        def claim_own(session: Session) -> None:
            _locked(session, challenge.id).own_sent = True

        def pay_again() -> bool:
            try:
                paid.append(self._budgets.reserve(copies, self._clock()))
            except BudgetSpent:
                return False
            self._announce_spent(paid[-1])
            return True

        def repay() -> None:
            try:
                self._budgets.give_back(paid.pop())
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
        key = self._keyring.digest("native", sender, challenge.mobile)
        holder = session.scalars(
            select(Challenge).where(Challenge.native_key == key).with_for_update()
        ).one_or_none()
        if holder is not None:
            if not self._gives_way(session, holder, challenge):
                return False
            holder.native_key = None
            session.flush()
        challenge.native_sender = sender
        challenge.native_key = key
        return True

    def _gives_way(self, session: Session, holder: Challenge, challenge: Challenge) -> bool:
        """Whether another challenge may follow the one that holds a sender's native codes.

        Once closed, to one of the same user and purpose, for whom those codes were; to any other
        when the last of them has died, however the challenge ended: the gateway still takes them.
        """
        now = self._clock()
        closed = holder.state != Challenge.PENDING or _is_over(holder, now)
        whose = (holder.user_id, holder.purpose)
        if closed and holder.user_id and whose == (challenge.user_id, challenge.purpose):
            return True
        last_sent = session.scalar(
            select(func.max(Message.created_at)).where(
                Message.challenge_id == holder.id, Message.kind == "native_code"
            )
        )
        return last_sent is None or now >= last_sent + self._rules.code_lifetime

    def _send_claims(self, subject: _Subject, ip: str | None) -> list[Claim | Pace]:
        limits = self._rules.budgets
        mobile = subject.mobile
        claims: list[Claim | Pace] = [Claim("mobile", mobile, limits["mobile"])]
        if self._is_stranger(subject):
            claims.append(self._strangers_claim(mobile))
        if subject.user_id is not None:
            user_id = subject.user_id
            claims.append(Claim("user", user_id, limits["user"]))
            item = self._keyring.digest("mobile", mobile)[:16]
            claims.append(Claim("mobiles_per_user", user_id, limits["mobiles_per_user"], item))
        if ip is not None:
            claims.append(Claim("ip", _network(ip), limits["ip"]))
        if region_of(mobile) != self._rules.default_region:
            claims.append(Claim("foreign", "", limits["foreign"]))
        claims.append(Claim("site", "", limits["site"]))
        claims.append(Pace(self._pace_key(subject), self._rules.resend_delays))
        return [claim for claim in claims if isinstance(claim, Pace) or claim.limits]

    def _strangers_claim(self, mobile: str) -> Claim:
        """The part of a mobile's budget that those may use who have not proved it."""
        share = tuple(_stranger_share(limit) for limit in self._rules.budgets["mobile"])
        return Claim("mobile", f"strangers {mobile}", share)

    def _is_stranger(self, subject: _Subject) -> bool:
        """Whether part of the mobile's budget is kept from this subject.

        It is kept for the account that proved the mobile last. A challenge without an account is
        always a stranger's, so that a limit reached tells nothing about who has an account.
        """
        if subject.user_id is None:
            return True
        last = self._ledger.read(
            lambda session: session.scalars(
                select(Verification.user_id)
                .where(Verification.mobile == subject.mobile)
                .where(Verification.verified_at.is_not(None))
                .where(Verification.revoked_at.is_(None))
                .order_by(Verification.verified_at.desc())
                .limit(1)
            ).one_or_none()
        )
        return last is not None and last != subject.user_id

    # --- checking ------------------------------------------------------------------------------

    def check(
        self,
        challenge_or_user: object,
        code: object,
        *,
        ip: str | None = None,
        purpose: str = "verify",
        store: Callable[[Verification], None] | None = None,
    ) -> Verification | Proof:
        """Check what was typed against an open challenge.

        The attempt and the failure budgets are taken and committed before anything is compared; a
        right code gives its failure units back.

        :param challenge_or_user: a challenge, or a user, whose latest for `purpose` is meant.
        :param store: has the host keep what was proved, before anybody is told; when it raises,
            everything stands as it did before, but for the code, which is used up.
        :returns: the user's verification; the `Proof` where the challenge has no user.
        :raises InvalidCode: it cannot be a code; nothing was counted.
        :raises WrongCode: with the attempts left.
        :raises CodeExpired: its time is over, or the user's mobile changed meanwhile.
        :raises TooManyAttempts: no guess is left here, for the account or for the site.
        :raises AccountLocked: until staff unlock it.
        :raises NoChallenge: none is open.
        :raises MobileTaken: the code was right, but others hold the mobile already.
        :raises CheckFailed: the gateway that made the code gave no verdict.
        :raises StoreUnavailable: the database did not take the attempt; nothing was compared.
        """
        challenge = self._challenge_of(challenge_or_user, purpose)
        typed = codes.read(code, self._lengths(challenge))
        if challenge.user_id is not None:
            self._refuse_if_mobile_changed(challenge, challenge_or_user)
        claims = self._failure_claims(challenge, ip)
        challenge, reservation = self._take_attempt(challenge.id, claims)
        try:
            native = self._matches(challenge, typed)
        except SenderError as error:
            if error.written or challenge.own_sent:
                self._announce_spent(reservation)
            else:
                self._untake_attempt(challenge, claims, reservation)
            raise CheckFailed(error) from error
        if native is None:
            self._note_wrong(challenge, reservation)
            raise WrongCode(max(0, self._rules.max_attempts - challenge.attempts))
        return self._consume(challenge, typed if native else None, reservation, store)

    def _challenge_of(self, challenge_or_user: object, purpose: str) -> Challenge:
        if isinstance(challenge_or_user, Challenge):
            return self.load(challenge_or_user.id)
        challenge = self.latest(challenge_or_user, purpose=purpose)
        if challenge is None:
            raise NoChallenge("no code was sent")
        return challenge

    def latest(self, user: object, *, purpose: str = "verify") -> Challenge | None:
        """A user's last challenge for a purpose, whatever its state; None before the first."""
        user_id = self._users.id_of(user)
        return self._ledger.read(lambda session: _latest(session, user_id, purpose))

    def _lengths(self, challenge: Challenge) -> range:
        if challenge.native_sender is not None:
            return codes.NATIVE_LENGTHS
        return range(challenge.code_length, challenge.code_length + 1)

    def _refuse_if_mobile_changed(self, challenge: Challenge, challenge_or_user: object) -> None:
        user = challenge_or_user
        if isinstance(challenge_or_user, Challenge):
            user = self._users.find(challenge.user_id or "")
        if _is_void(challenge, self.mobile_of(user) if user is not None else None):
            raise CodeExpired("the user's mobile changed after the code was sent")

    def _take_attempt(
        self, challenge_id: str, claims: Sequence[Claim]
    ) -> tuple[Challenge, Reservation]:
        def work(session: Session) -> tuple[Challenge, Reservation]:
            now = self._clock()
            rows = self._budgets.lock(session, claims)
            challenge = session.get(Challenge, challenge_id)
            user_id = challenge.user_id if challenge else None
            standing = session.get(Verification, user_id, with_for_update=True) if user_id else None
            challenge = session.get(
                Challenge, challenge_id, with_for_update=True, populate_existing=True
            )
            self._refuse_closed(challenge, standing, now)
            assert challenge is not None  # noqa: S101 -- for the type checker; refused above
            try:
                reservation = self._budgets.take(rows, claims, now)
            except BudgetSpent as error:
                raise TooManyAttempts(error.retry_after) from error
            challenge.attempts += 1
            if standing is not None:
                standing.failures += 1
            return challenge, reservation

        self._budgets.prepare(claims, self._clock())
        return self._ledger.run(work)

    def _refuse_closed(
        self, challenge: Challenge | None, standing: Verification | None, now: datetime
    ) -> None:
        """Raise what stands against one more attempt, before any budget is touched."""
        if challenge is None or challenge.state in (
            Challenge.VERIFIED,
            Challenge.SUPERSEDED,
            Challenge.CANCELLED,
        ):
            raise NoChallenge("this challenge is not open any more")
        if standing is not None and self._is_locked(standing):
            raise AccountLocked("too many failures in a row; staff must unlock this account")
        exhausted = challenge.attempts >= self._rules.max_attempts
        if exhausted or challenge.state == Challenge.EXHAUSTED:
            left = (challenge.resend_at - now).total_seconds()
            raise TooManyAttempts(max(1, math.ceil(left)))
        if challenge.state == Challenge.EXPIRED or _is_over(challenge, now):
            raise CodeExpired("the code has expired")
        if challenge.key_id not in self._keyring:
            raise CodeExpired("the key of this code is gone")

    def _is_locked(self, standing: Verification) -> bool:
        return (
            standing.locked_at is not None or standing.failures >= self._rules.consecutive_failures
        )

    def _matches(self, challenge: Challenge, typed: str) -> bool | None:
        """False: our code. True: the gateway's. None: neither."""
        if challenge.own_sent and codes.same(typed, self._own_code(challenge)):
            return False
        sender = challenge.native_sender
        if sender is None:
            return None
        used = self._native_digest(challenge, typed)
        now = self._clock()
        if self._ledger.read(lambda session: self._is_used(session, used, now)):
            return None
        return True if self._delivery.check_native_code(sender, challenge.mobile, typed) else None

    @staticmethod
    def _is_used(session: Session, digest: str, now: datetime) -> bool:
        row = session.get(UsedToken, digest)
        return row is not None and row.until > now

    def _own_code(self, challenge: Challenge) -> str:
        fixed = self._rules.test_numbers.get(challenge.mobile)
        return fixed or self._keyring.code(
            challenge.key_id,
            challenge.id,
            challenge.mobile,
            challenge.purpose,
            challenge.generation,
            challenge.code_length,
        )

    def _note_wrong(self, challenge: Challenge, reservation: Reservation) -> None:
        """Close what has no guess left, and lock whom the streak is enough for."""

        def work(session: Session) -> None:
            if challenge.user_id is not None:
                standing = session.get(Verification, challenge.user_id, with_for_update=True)
                if standing and not standing.locked_at and self._is_locked(standing):
                    standing.locked_at = self._clock()
            row = session.get(Challenge, challenge.id, with_for_update=True)
            if row and row.state == Challenge.PENDING and row.attempts >= self._rules.max_attempts:
                row.state = Challenge.EXHAUSTED
                row.open_key = None

        self._ledger.run(work)
        self._announce_spent(reservation)
        self._emit(
            signals.verification_failed,
            user_id=challenge.user_id,
            mobile=mask(challenge.mobile),
            attempts_left=max(0, self._rules.max_attempts - challenge.attempts),
        )

    def _untake_attempt(
        self, challenge: Challenge, claims: Sequence[Claim], reservation: Reservation
    ) -> None:
        """The question never left us, so it told nobody anything: the attempt is returned.

        Not so where a code of ours was compared first: with the gateway down, that would be a
        guess for nothing.
        """

        def work(session: Session) -> None:
            self._budgets.put_back(self._budgets.lock(session, claims), reservation)
            if challenge.user_id is not None:
                standing = session.get(Verification, challenge.user_id, with_for_update=True)
                if standing and standing.failures:
                    standing.failures -= 1
            row = session.get(Challenge, challenge.id, with_for_update=True)
            if row and row.attempts:
                row.attempts -= 1

        self._ledger.run(work)

    def _consume(
        self,
        challenge: Challenge,
        native_code: str | None,
        reservation: Reservation,
        store: Callable[[Verification], None] | None,
    ) -> Verification | Proof:
        """The code was right: use the challenge up, once, and write what it proves."""
        holders = Claim("holders", challenge.mobile, ())
        pace_key = self._pace_key(_subject_of(challenge))
        returnable = Reservation.load(challenge.returnable)
        ids = {row for row, *_ in returnable.units + reservation.units}
        ids |= {
            self._budgets.row_id("holders", holders.key),
            self._budgets.row_id("pace", pace_key),
        }

        def work(session: Session) -> Proof | _Granted | None:
            now = self._clock()
            rows = self._budgets.lock_ids(session, ids)
            standing = None
            if challenge.user_id is not None:
                standing = session.get(Verification, challenge.user_id, with_for_update=True)
                if standing is not None and standing.locked_at is not None:
                    raise AccountLocked("the account was locked meanwhile")
            row = self._use_up(session, challenge, native_code, now)
            # A send may have begun since `ids`; what it took of other rows just ages out.
            self._budgets.put_back(rows, reservation)
            self._budgets.put_back(rows, Reservation.load(row.returnable))
            row.returnable = "[]"
            self._budgets.rest(rows, pace_key)
            if challenge.user_id is None:
                return Proof(row.mobile, row.purpose, row.id, now)
            if standing is not None:
                standing.failures = 0
            sender = row.native_sender if native_code is not None else _carrier(session, row.id)
            others = self._other_proofs(session, row.mobile, challenge.user_id, now, lock=True)
            holding = self._holding(others, gone, now)
            return self._grant(
                session, challenge.user_id, row.mobile, row.channel, sender, now, holding
            )

        self._budgets.prepare([holders], self._clock())
        gone = self._gone(challenge.mobile, challenge.user_id)
        try:
            proved = self._ledger.run(work)
        except NoChallenge:
            # Right, but another request with the same code was faster: that is no failure.
            self._budgets.give_back(reservation)
            raise
        if proved is None:
            raise MobileTaken("another account holds this mobile")
        if isinstance(proved, _Granted):
            if store is not None:
                try:
                    store(proved.verification)
                except BaseException:
                    self._take_back(proved)
                    raise
            self._tell_others(proved, challenge.mobile)
        self._emit(
            signals.mobile_verified,
            user_id=challenge.user_id,
            mobile=mask(challenge.mobile),
            channel=challenge.channel,
            purpose=challenge.purpose,
        )
        return proved.verification if isinstance(proved, _Granted) else proved

    def _use_up(
        self, session: Session, challenge: Challenge, native_code: str | None, now: datetime
    ) -> Challenge:
        """Close a challenge whose code was right, so that no code of it is right again."""
        row = session.get(Challenge, challenge.id, with_for_update=True)
        # A wrong guess beside this right one may have used the attempts up; ours was taken before.
        if row is None or row.state not in (Challenge.PENDING, Challenge.EXHAUSTED):
            raise NoChallenge("this challenge is not open any more")
        if native_code is not None:
            digest = self._native_digest(challenge, native_code)
            if self._is_used(session, digest, now):
                raise NoChallenge("this code was used already")
            session.merge(UsedToken(digest=digest, until=now + self._rules.code_lifetime))
        row.state = Challenge.VERIFIED
        row.open_key = None  # but not `native_key`: the gateway may take its other codes still
        return row

    def _grant(
        self,
        session: Session,
        user_id: str,
        mobile: str,
        channel: str,
        sender: str | None,
        now: datetime,
        holding: Sequence[Verification],
    ) -> _Granted | None:
        """Write a user's verification; None where others hold the mobile and keep it.

        The caller holds the mobile's row of `holders`, so two grants of one mobile take turns.

        :param holding: the others that hold it, locked, oldest proof first.
        """
        limit = self._rules.accounts_per_mobile
        lost: list[str] = []
        if limit and len(holding) >= limit:
            if self._rules.mobile_policy == "refuse":
                return None
            for earlier in holding[: len(holding) - limit + 1]:
                earlier.revoked_at = now
                lost.append(earlier.user_id)
        standing = session.get(Verification, user_id, with_for_update=True)
        if standing is None:
            standing = Verification(user_id=user_id, failures=0, created_at=now)
            session.add(standing)
        before = {name: getattr(standing, name) for name in _PROOF}
        old = standing.mobile if standing.verified_at is not None else None
        standing.mobile = mobile
        standing.verified_at = now
        standing.channel = channel
        standing.sender = sender
        standing.revoked_at = None
        return _Granted(standing, tuple(lost), old if old != mobile else None, before)

    def _take_back(self, granted: _Granted) -> None:
        """Let what a proof changed stand as it did before, where nothing has changed it since."""
        proved, old = granted.verification, granted.before["mobile"]
        holders = [Claim("holders", mobile, ()) for mobile in (proved.mobile, old) if mobile]

        def work(session: Session) -> None:
            now = self._clock()
            self._budgets.lock(session, holders)
            row = session.get(Verification, proved.user_id, with_for_update=True)
            if row is None or row.verified_at != proved.verified_at:
                return
            for name, value in granted.before.items():
                setattr(row, name, value)
            for user_id in granted.lost:
                earlier = session.get(Verification, user_id, with_for_update=True)
                if earlier is not None and earlier.revoked_at == proved.verified_at:
                    earlier.revoked_at = None
            # Meanwhile the old mobile was nobody's, and another may have proved it.
            limit = self._rules.accounts_per_mobile
            others = self._other_proofs(session, row.mobile or "", row.user_id, now, lock=True)
            if limit and len(others) >= limit and row.verified_at is not None:
                row.revoked_at = row.revoked_at or now

        self._budgets.prepare(holders, self._clock())
        self._ledger.run(work)

    def _tell_others(self, granted: _Granted, mobile: str) -> None:
        """Tell those whom a proof took something from."""
        for user_id in granted.lost:
            self._emit(signals.verification_revoked, user_id=user_id, by="transfer")
            self._tell("mobile.transferred", mobile=mobile)
        if granted.old_mobile is not None:
            self._tell("mobile.changed", mobile=granted.old_mobile, new=mask(mobile))

    def _other_proofs(
        self, session: Session, mobile: str, user_id: str | None, now: datetime, *, lock: bool
    ) -> list[Verification]:
        """The proofs of this mobile in force that others than this user have, oldest first.

        :param lock: read them as they are now, also in a transaction that began before, and keep
            them so until it ends.
        """
        query = (
            select(Verification)
            .where(Verification.mobile == mobile)
            .where(Verification.verified_at.is_not(None), Verification.revoked_at.is_(None))
            .order_by(Verification.verified_at)
        )
        rows = session.scalars(query.with_for_update() if lock else query)
        return [
            row for row in rows if row.user_id != user_id and self._policy.proof_holds(row, now)
        ]

    def _holding(
        self, proofs: Sequence[Verification], gone: frozenset[_ProofKey], now: datetime
    ) -> list[Verification]:
        """Those of these locked proofs that hold their mobile; the others are taken back.

        :param gone: the proofs that do not, as `_gone` found before the lock; a newer one does.
        """
        if self._rules.accounts_per_mobile:
            for row in proofs:
                if _proof_key(row) in gone:
                    row.revoked_at = now  # or it would count again if its user came back to it
        return [row for row in proofs if _proof_key(row) not in gone]

    def _gone(self, mobile: str, user_id: str | None) -> frozenset[_ProofKey]:
        """The proofs of this mobile whose users have another by now: they hold it against nobody.

        The host is asked while we hold no lock, since its connections are not ours.
        """
        now = self._clock()
        proofs = self._ledger.read(
            lambda session: [
                (row, _proved_by(session, row))
                for row in self._other_proofs(session, mobile, user_id, now, lock=False)
            ]
        )
        return frozenset(
            _proof_key(row) for row, began in proofs if not self._keeps(row, began, now)
        )

    def _keeps(self, row: Verification, began: Challenge | None, now: datetime) -> bool:
        """Whether a user has the mobile of their proof, or is about to get it.

        A number that is being changed is written to the user after its proof, and a transaction
        of the host's that began before may not see it.

        :param began: the challenge that the proof came from; None where it was a token or staff.
        """
        user = self._users.find(row.user_id)
        has = self.mobile_of(user) if user is not None else None
        if has == row.mobile:
            return True
        if row.verified_at is None or now >= row.verified_at + NOT_WRITTEN_YET:
            return False
        return began is None or has == began.user_mobile

    def _failure_claims(self, about: _Subject | Challenge, ip: str | None) -> list[Claim]:
        limits = self._rules.budgets["failures"]
        if about.user_id is not None:
            claims = [Claim("failures", f"user {about.user_id}", limits)]
        else:
            claims = [Claim("failures", f"mobile {about.mobile}", limits)]
            if ip is not None:
                claims.append(Claim("failures", f"address {_network(ip)}", limits))
        claims.append(Claim("site_failures", "", self._rules.budgets["site_failures"]))
        return [claim for claim in claims if claim.limits]

    # --- proofs before there is an account -----------------------------------------------------

    def proof_token(self, proof: Proof) -> str:
        """A proof as a signed token, for a form field or a program to carry to the sign-up."""
        return self._tokens.dump(proof.mobile, proof.purpose, proof.challenge_id)

    def load_proof(self, token: str, *, purpose: str, max_age: int = 600) -> str:
        """The mobile that a token proves, E.164. Only looks; `claim` uses it up.

        :param max_age: seconds since the token was made.
        :raises InvalidToken: forged, for another purpose, too old, or used.
        """
        mobile, digests = self._tokens.load(token, purpose, max_age)
        now = self._clock()
        if self._ledger.read(
            lambda session: any(self._is_used(session, digest, now) for digest in digests)
        ):
            raise InvalidToken("this proof token was used already")
        return mobile

    def claim(self, token: str, user: object, *, purpose: str, max_age: int = 600) -> Verification:
        """Use a token up and give a user the verification, in the host's own transaction.

        The user is flushed if need be, and gets the mobile. Nothing holds until the host commits;
        after a rollback the token can be used again.

        Commit soon: until then nobody else can prove this mobile.

        :raises InvalidToken: forged, for another purpose, too old, or used.
        :raises MobileTaken: others hold the mobile already.
        :raises AccountLocked: until staff unlock the account.
        """
        mobile, (digest, *older) = self._tokens.load(token, purpose, max_age)
        gone = self._gone(mobile, None)
        holders = Claim("holders", mobile, ())
        self._budgets.prepare_beside(holders, self._clock())
        self._users.write_mobile(user, mobile)
        connection = self._users.connection()
        user_id = self._users.id_of(user)

        def work(session: Session) -> _Granted | None:
            now = self._clock()
            used = {"digest": digest, "until": now + timedelta(seconds=max_age)}
            was_used = any(self._is_used(session, past, now) for past in older)
            if was_used or not self._ledger.insert_if_absent(session, UsedToken, used):
                raise InvalidToken("this proof token was used already")
            standing = session.get(Verification, user_id)
            if standing is not None and self._is_locked(standing):
                raise AccountLocked("too many failures in a row; staff must unlock this account")
            self._budgets.lock_within(session, holders, now)
            # By key alone, and a row made before it is locked: at REPEATABLE READ, MariaDB locks
            # gaps too, and two sign-ups would wait for each other.
            self._ledger.insert_if_absent(
                session, Verification, {"user_id": user_id, "failures": 0, "created_at": now}
            )
            others = self._ledger.read(
                lambda beside: self._other_proofs(beside, mobile, user_id, now, lock=False)
            )
            locked = (
                session.get(Verification, row.user_id, with_for_update=True) for row in others
            )
            proofs = [
                row
                for row in locked
                if row and row.mobile == mobile and self._policy.proof_holds(row, now)
            ]
            holding = self._holding(proofs, gone, now)
            return self._grant(session, user_id, mobile, "sms", "proof", now, holding)

        granted = self._ledger.within(connection, work)
        if granted is None:
            raise MobileTaken("another account holds this mobile")

        def announce() -> None:
            self._tell_others(granted, mobile)
            self._emit(
                signals.mobile_verified,
                user_id=user_id,
                mobile=mask(mobile),
                channel="sms",
                purpose=purpose,
            )

        self._users.after_commit(announce)
        return granted.verification

    # --- standing ------------------------------------------------------------------------------

    def status(self, user: object) -> Status:
        """Where a user stands, with the open challenge if there is one. Reads the ledger."""
        if self._users.is_exempt(user):
            return Status("exempt", self.mobile_of(user), exempt=True)
        user_id = self._users.id_of(user)
        row, challenge = self._ledger.read(
            lambda session: (
                session.get(Verification, user_id),
                _latest(session, user_id, "verify"),
            )
        )
        now = self._clock()
        status = self._policy.standing(row, self.mobile_of(user), now)
        if row is not None and self._is_locked(row):
            return replace(status, locked=True)
        if challenge is None or challenge.state != Challenge.PENDING:
            return status
        if _is_over(challenge, now) or _is_void(challenge, status.mobile):
            return status
        state = status.state if status.state == "verified" else "pending"
        return replace(status, state=state, challenge=challenge)

    def mark_verified(self, user: object, *, by: str) -> Verification:
        """Vouch for a user's mobile by hand.

        :param by: who vouches, for the record.
        :raises MobileError: the user has no valid mobile, or others hold it already.
        """
        user_id = self._users.id_of(user)
        mobile = self._parse(self._users.mobile_of(user))
        holders = Claim("holders", mobile, ())
        gone = self._gone(mobile, user_id)

        def work(session: Session) -> _Granted | None:
            now = self._clock()
            self._budgets.lock(session, [holders])
            others = self._other_proofs(session, mobile, user_id, now, lock=True)
            holding = self._holding(others, gone, now)
            granted = self._grant(session, user_id, mobile, "staff", by, now, holding)
            if granted is not None:
                granted.verification.failures, granted.verification.locked_at = 0, None
            return granted

        self._budgets.prepare([holders], self._clock())
        granted = self._ledger.run(work)
        if granted is None:
            raise MobileTaken("another account holds this mobile")
        self._tell_others(granted, mobile)
        row = granted.verification
        self._emit(
            signals.mobile_verified,
            user_id=row.user_id,
            mobile=mask(mobile),
            channel="staff",
            purpose="verify",
        )
        return row

    def revoke(self, user: object, *, by: str) -> None:
        """Take a user's verification back, and close what is open.

        :param by: who does, for the record.
        """

        def change(row: Verification, now: datetime) -> None:
            row.revoked_at = now

        row = self._change(user, change, cancel_open=True)
        self._emit(signals.verification_revoked, user_id=row.user_id, by=by)

    def unlock(self, user: object) -> None:
        """Let an account that was locked after too many failures try again."""

        def change(row: Verification, _now: datetime) -> None:
            row.failures, row.locked_at = 0, None

        self._change(user, change)

    def _change(
        self,
        user: object,
        change: Callable[[Verification, datetime], None],
        *,
        cancel_open: bool = False,
    ) -> Verification:
        user_id = self._users.id_of(user)

        def work(session: Session) -> Verification:
            now = self._clock()
            row = session.get(Verification, user_id, with_for_update=True)
            if row is None:
                row = Verification(user_id=user_id, failures=0, created_at=now)
                session.add(row)
            change(row, now)
            if cancel_open:
                pending = select(Challenge).where(
                    Challenge.user_id == user_id, Challenge.state == Challenge.PENDING
                )
                for challenge in session.scalars(pending.with_for_update()):
                    challenge.state, challenge.open_key = Challenge.CANCELLED, None
            return row

        return self._ledger.run(work)

    def forget(self, user: object) -> None:
        """Erase all that is held on a user. Budgets stay: they hold digests, and guard the rest."""
        user_id = self._users.id_of(user)

        def work(session: Session) -> None:
            row = session.get(Verification, user_id, with_for_update=True)
            # Of messages without an account, those to a number that this user has proved.
            proved = row is not None and row.verified_at is not None and row.revoked_at is None
            mobiles = {row.mobile} if row is not None and proved else set()
            session.execute(
                delete(Message).where(
                    or_(
                        Message.user_id == user_id,
                        and_(Message.user_id.is_(None), Message.recipient.in_(mobiles)),
                    )
                )
            )
            session.execute(
                delete(Challenge).where(
                    or_(
                        Challenge.user_id == user_id,
                        and_(Challenge.user_id.is_(None), Challenge.mobile.in_(mobiles)),
                    )
                )
            )
            if row is not None:
                session.delete(row)

        self._ledger.run(work)

    # --- small things --------------------------------------------------------------------------

    def mobile_of(self, user: object) -> str | None:
        """A user's mobile as E.164; None where the host has none, or none that is valid."""
        try:
            return self._parse(self._users.mobile_of(user))
        except MobileError:
            return None

    def last_message(self, challenge: Challenge) -> Message | None:
        """The last message that carried a challenge's code; None where nothing was sent."""
        return self._ledger.read(
            lambda session: session.scalars(
                select(Message)
                .where(Message.challenge_id == challenge.id)
                .order_by(Message.created_at.desc())
                .limit(1)
            ).one_or_none()
        )

    def budget_claims(
        self, *, mobile: str | None = None, user_id: str | None = None, ip: str | None = None
    ) -> list[Claim]:
        """The budgets of a mobile, a user, an address; without any of them the site's."""
        limits = self._rules.budgets
        claims = []
        if mobile is not None:
            claims.append(Claim("mobile", mobile, limits["mobile"]))
            claims.append(self._strangers_claim(mobile))
            claims.append(Claim("failures", f"mobile {mobile}", limits["failures"]))
        if user_id is not None:
            claims.append(Claim("user", user_id, limits["user"]))
            claims.append(Claim("mobiles_per_user", user_id, limits["mobiles_per_user"]))
            claims.append(Claim("failures", f"user {user_id}", limits["failures"]))
        if ip is not None:
            claims.append(Claim("ip", _network(ip), limits["ip"]))
            claims.append(Claim("failures", f"address {_network(ip)}", limits["failures"]))
        site = ("site", "foreign", "site_failures", "messages")
        return claims or [Claim(scope, "", limits[scope]) for scope in site]

    def _open_key(self, subject: _Subject) -> str:
        return self._keyring.digest("open", subject.user_id or "", subject.purpose)

    def _pace_key(self, subject: _Subject) -> str:
        who = f"user {subject.user_id}" if subject.user_id else f"mobile {subject.mobile}"
        return f"{subject.purpose} {who}"

    def _native_digest(self, challenge: Challenge, code: str) -> str:
        sender = challenge.native_sender or ""
        # A gateway that reads codes as numbers takes `01234` for `1234`.
        return self._keyring.digest("native code", sender, challenge.mobile, code.lstrip("0"))

    def _is_first_today(self, scope: str) -> bool:
        """Whether nobody was told within a day that this scope is spent; notes that somebody is."""
        digest = self._keyring.digest("told", scope)

        def work(session: Session) -> bool:
            now = self._clock()
            if self._is_used(session, digest, now):
                return False
            session.merge(UsedToken(digest=digest, until=now + timedelta(days=1)))
            return True

        return self._ledger.run(work)

    def _announce_spent(self, reservation: Reservation) -> None:
        for scope in dict.fromkeys(reservation.spent):
            self._emit(signals.budget_spent, scope=scope, limit="whole")
            if scope == "site" and self._is_first_today(scope):
                self._tell("site_budget.spent", mobile=None)
        for scope in reservation.half_spent:
            if scope == "site_failures":
                self._emit(signals.budget_spent, scope=scope, limit="half")


def _stranger_share(limit: Limit) -> Limit:
    """What strangers may use of a limit: the half, rounded up."""
    return Limit(limit.amount - limit.amount // 2, limit.seconds)


def _locked(session: Session, challenge_id: str) -> Challenge:
    """A challenge, locked.

    :raises NoChallenge: it was erased meanwhile.
    """
    row = session.get(Challenge, challenge_id, with_for_update=True)
    if row is None:
        raise NoChallenge("this challenge is not there any more")
    return row


def _is_void(challenge: Challenge, user_mobile: str | None) -> bool:
    """Whether the user's mobile is neither what it was at the start nor what is being proved."""
    if challenge.user_id is None:
        return False
    return user_mobile not in (challenge.user_mobile, challenge.mobile)


def _is_over(challenge: Challenge, now: datetime) -> bool:
    """Whether its time is over; also where the clock was set back to long before its start."""
    return now >= challenge.expires_at or now < challenge.created_at - CLOCK_SKEW


def _proof_key(row: Verification) -> _ProofKey:
    return row.user_id, row.verified_at


def _release_native(session: Session, challenge_id: str, sender: str) -> None:
    row = _locked(session, challenge_id)
    if row.native_sender == sender:
        row.native_sender = row.native_key = None


def _carrier(session: Session, challenge_id: str) -> str | None:
    """The sender that brought a challenge's last code of ours."""
    return session.scalars(
        select(Message.sender)
        .where(Message.challenge_id == challenge_id, Message.state != Message.FAILED)
        .order_by(Message.created_at.desc())
        .limit(1)
    ).one_or_none()


def _proved_by(session: Session, row: Verification) -> Challenge | None:
    return session.scalars(
        select(Challenge)
        .where(Challenge.user_id == row.user_id, Challenge.mobile == row.mobile)
        .where(Challenge.state == Challenge.VERIFIED)
        .order_by(Challenge.created_at.desc())
        .limit(1)
    ).one_or_none()


def _latest(session: Session, user_id: str, purpose: str) -> Challenge | None:
    return session.scalars(
        select(Challenge)
        .where(Challenge.user_id == user_id, Challenge.purpose == purpose)
        .order_by(Challenge.created_at.desc())
        .limit(1)
    ).one_or_none()


def _subject_of(challenge: Challenge) -> _Subject:
    return _Subject(challenge.user_id, challenge.user_mobile, challenge.mobile, challenge.purpose)


def _network(ip: str) -> str:
    """The address that a budget counts: an IPv4 as it is, an IPv6 by its /64."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return "not an address"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address), 64), strict=False))
    return str(address)
