"""The verifier: start a challenge, send again, check a code, and what follows from it.

Every step of the story is one short transaction of the ledger, and no transaction is open while a
gateway thinks. Rows are locked in one order everywhere: who holds the mobile, the verifications,
the challenge, and last the budgets, since all users share the site's: what a transaction of the
host's may hold up, a claim that is not committed yet, holds up that mobile and that user alone.
HTML, JSON and Python callers come through the same methods, so there is one budget for all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import and_, delete, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from .. import signals
from ..errors import AccountLocked, InvalidToken, MobileRequired, MobileTaken, NoChallenge
from ..models import Challenge, Incoming, Message, UsedToken, Verification
from ..phone import mask
from ..senders.base import Channel
from ..settings import printable
from .budgets import Claim
from .challenges import Challenges, Subject, is_over, is_used, is_void, latest_of
from .checking import Checking, Proof
from .holding import Granted, Holding
from .parts import Parts
from .policy import Status
from .sending import Sending
from .spending import Spending
from .tokens import ProofTokens

#: So long a used proof token is noted at least, whatever age its claim allowed.
_TOKEN_NOTED = timedelta(days=1)

#: Characters that are kept of a purpose, and of who did something.
_LONGEST_PURPOSE, _LONGEST_NAME = 64, 191


class Verifier:
    """The rules of proof over a ledger, budgets, and a delivery."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._tokens = ProofTokens(parts.keyring)
        self._challenges = Challenges(parts)
        self._spending = Spending(parts)
        self._holding = Holding(parts)
        self._sending = Sending(parts, self._challenges, self._spending)
        self._checking = Checking(parts, self._challenges, self._spending, self._holding)

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
        :param purpose: what the proof is for: one line of at most 64 characters.
        :raises MobileError: no number, or none that we may send to.
        :raises TooSoon: the pause since the last send is not over.
        :raises BudgetSpent: nothing more may go out for now.
        :raises AccountLocked: until staff unlock the account.
        :raises TooManyAttempts: no guess is left for the account, or for the site.
        :raises ChannelUnavailable: no sender has this channel.
        :raises SendFailed: no gateway took it; what it had cost was given back.
        :raises StoreUnavailable: the database did not take it; nothing was sent.
        :raises ValueError: the purpose is none, or the user has no primary key yet.
        :raises TypeError: that is no user.
        """
        _check_line("a purpose", purpose, _LONGEST_PURPOSE)
        user_id = self._parts.users.id_of(user)
        own = self._parts.mobile_of(user)
        if mobile is None and own is None:
            # Says what is wrong with the number that the host has, or that there is none.
            self._parts.parse(self._parts.users.mobile_of(user))
            raise MobileRequired("the user has no mobile")
        target = self._parts.parse(mobile) if mobile is not None else own
        subject = Subject(user_id, own, target or "", purpose)
        return self._sending.send(subject, channel, ip, again=None)

    def start_for(
        self, mobile: str, *, purpose: str, channel: Channel = "sms", ip: str | None = None
    ) -> Challenge:
        """Send a code to a number before there is an account; each call is a challenge of its own.

        The gateway is asked in the background, so that neither the answer nor its time tells who
        has an account; `last_message` says what became of it.

        :raises: what `start` raises, but for `SendFailed`.
        """
        _check_line("a purpose", purpose, _LONGEST_PURPOSE)
        subject = Subject(None, None, self._parts.parse(mobile), purpose)
        return self._sending.send(subject, channel, ip, again=None)

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
            user = self._parts.users.find(challenge.user_id)
            own = self._parts.mobile_of(user) if user is not None else None
            if is_void(challenge, own):
                raise NoChallenge("the user's mobile changed after the code was sent")
        subject = Subject(challenge.user_id, own, challenge.mobile, challenge.purpose)
        return self._sending.send(subject, channel or challenge.channel, ip, again=challenge.id)  # type: ignore[arg-type]  # the column holds a channel

    def load(self, challenge_id: str) -> Challenge:
        """A challenge by its public id, as it stands now.

        :raises NoChallenge: there is none.
        """
        return self._challenges.load(challenge_id)

    def latest(self, user: object, *, purpose: str = "verify") -> Challenge | None:
        """A user's last challenge for a purpose, whatever its state; None before the first."""
        return self._challenges.latest(user, purpose=purpose)

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
        return self._checking.check(challenge_or_user, code, ip=ip, purpose=purpose, store=store)

    # --- proofs before there is an account -----------------------------------------------------

    def proof_token(self, proof: Proof) -> str:
        """A proof as a signed token, for a form field or a program to carry to the sign-up."""
        return self._tokens.dump(proof.mobile, proof.purpose, proof.challenge_id, proof.proved_at)

    def load_proof(self, token: str, *, purpose: str, max_age: int = 600) -> str:
        """The mobile that a token proves, E.164. Only looks; `claim` uses it up.

        :param max_age: whole seconds since the token was made.
        :raises InvalidToken: forged, for another purpose, too old, or used.
        :raises TypeError: `max_age` is no whole number.
        """
        mobile, _, digests = self._tokens.load(token, purpose, max_age)
        now = self._parts.clock()
        if self._parts.ledger.read(
            lambda session: any(is_used(session, digest, now) for digest in digests)
        ):
            raise InvalidToken("this proof token was used already")
        return mobile

    def claim(self, token: str, user: object, *, purpose: str, max_age: int = 600) -> Verification:
        """Use a token up and give a user the verification, in the host's own transaction.

        The user is flushed if need be, and gets the mobile; the proof counts from when the code was
        right. Nothing holds until the host commits; after a rollback the token can be used again.

        Commit soon: until then nobody else can prove this mobile.

        :raises InvalidToken: forged, for another purpose, too old, used, or older than what took
            the user's verification back.
        :raises MobileTaken: others hold the mobile already, or the host's own table says so.
        :raises AccountLocked: until staff unlock the account.
        :raises TypeError: `max_age` is no whole number, or that is no user.
        """
        mobile, proved_at, digests = self._tokens.load(token, purpose, max_age)
        gone = self._holding.gone(mobile, None)
        holders = Claim("holders", mobile, ())
        self._parts.budgets.prepare_beside(holders, self._parts.clock())
        connection = self._parts.users.admit(user, mobile)
        user_id = self._parts.users.id_of(user)

        def work(session: Session) -> Granted | None:
            now = self._parts.clock()
            if any(is_used(session, digest, now) for digest in digests):
                raise InvalidToken("this proof token was used already")
            self._parts.budgets.lock_within(session, holders, now)
            standing = self._standing_within(session, user_id, now)
            if self._parts.rules.is_locked(standing):
                raise AccountLocked("too many failures in a row; staff must unlock this account")
            if standing.revoked_at is not None and standing.revoked_at >= proved_at:
                raise InvalidToken("the user's verification was taken back after this proof")
            holding = self._holding.holders_within(session, mobile, user_id, gone, now)
            granted = holding is not None and self._holding.grant(
                session, user_id, mobile, "sms", "proof", now, holding, proved_at=proved_at
            )
            if not granted:
                return None
            # Noted under every key, for servers that have not got the newest yet.
            until = now + max(timedelta(seconds=max_age), _TOKEN_NOTED)
            for digest in digests:
                used = {"digest": digest, "until": until}
                if not self._parts.ledger.insert_if_absent(session, UsedToken, used):
                    raise InvalidToken("this proof token was used already")
            return granted

        granted = self._parts.ledger.within(connection, work)
        if granted is None:
            raise MobileTaken("another account holds this mobile")
        self._parts.users.write_mobile(user, mobile)
        try:
            self._parts.users.flush()
        except IntegrityError:
            raise MobileTaken("another user has this mobile") from None

        def announce() -> None:
            self._holding.tell_others(granted, mobile)
            self._parts.emit(
                signals.mobile_verified,
                user_id=user_id,
                mobile=mask(mobile),
                channel="sms",
                purpose=purpose,
            )

        self._parts.users.after_commit(announce)
        return granted.verification

    def _standing_within(self, session: Session, user_id: str, now: datetime) -> Verification:
        """A user's standing as it is now, locked in a transaction of the host's.

        By key alone, and a row that is not there is made before it is locked: at REPEATABLE READ,
        MariaDB locks gaps too, and two sign-ups would wait for each other.
        """
        if session.get(Verification, user_id) is None:
            self._parts.ledger.insert_if_absent(
                session, Verification, {"user_id": user_id, "failures": 0, "created_at": now}
            )
        # What was read before may be older: the transaction's first look decides, on MariaDB.
        return session.get_one(Verification, user_id, with_for_update=True, populate_existing=True)

    # --- standing ------------------------------------------------------------------------------

    def status(self, user: object) -> Status:
        """Where a user stands, with the open challenge if there is one. Reads the ledger."""
        if self._parts.users.is_exempt(user):
            return Status("exempt", self._parts.mobile_of(user), exempt=True)
        user_id = self._parts.users.id_of(user)
        now = self._parts.clock()
        row, challenge = self._parts.ledger.read(
            lambda session: (
                session.get(Verification, user_id),
                latest_of(session, user_id, "verify", now),
            )
        )
        status = self._parts.policy.standing(row, self._parts.mobile_of(user), now)
        if row is not None and self._parts.rules.is_locked(row):
            return replace(status, locked=True)
        if challenge is None or challenge.state != Challenge.PENDING:
            return status
        if is_over(challenge, now) or is_void(challenge, status.mobile):
            return status
        state = status.state if status.state == "verified" else "pending"
        return replace(status, state=state, challenge=challenge)

    def mark_verified(self, user: object, *, by: str) -> Verification:
        """Vouch for a user's mobile by hand.

        :param by: who vouches, for the record: one line of at most 191 characters.
        :raises MobileError: the user has no valid mobile, or others hold it already.
        :raises ValueError: nobody is named.
        """
        _check_line("who vouches", by, _LONGEST_NAME)
        user_id = self._parts.users.id_of(user)
        mobile = self._parts.parse(self._parts.users.mobile_of(user))
        holders = Claim("holders", mobile, ())
        gone = self._holding.gone(mobile, user_id)

        def work(session: Session) -> Granted | None:
            now = self._parts.clock()
            self._parts.budgets.lock(session, [holders])
            others = self._holding.other_proofs(session, mobile, user_id, now, lock=True)
            holding = self._holding.holders(others, gone, now)
            granted = self._holding.grant(session, user_id, mobile, "staff", by, now, holding)
            if granted is not None:
                granted.verification.failures, granted.verification.locked_at = 0, None
            return granted

        self._parts.budgets.prepare([holders], self._parts.clock())
        granted = self._parts.ledger.run(work)
        if granted is None:
            raise MobileTaken("another account holds this mobile")
        self._holding.tell_others(granted, mobile)
        row = granted.verification
        self._parts.emit(
            signals.mobile_verified,
            user_id=row.user_id,
            mobile=mask(mobile),
            channel="staff",
            purpose="verify",
        )
        return row

    def revoke(self, user: object, *, by: str) -> None:
        """Take a user's verification back, and close what is open.

        :param by: who does, for the signal: one line of at most 191 characters.
        :raises ValueError: nobody is named.
        """
        _check_line("who takes it back", by, _LONGEST_NAME)

        def change(row: Verification, now: datetime) -> None:
            row.revoked_at = now

        row = self._change(user, change, cancel_open=True)
        self._parts.emit(signals.verification_revoked, user_id=row.user_id, by=by)

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
        user_id = self._parts.users.id_of(user)

        def work(session: Session) -> Verification:
            now = self._parts.clock()
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

        return self._parts.ledger.run(work)

    def forget(self, user: object) -> None:
        """Erase all that is held on a user. Budgets stay: they hold digests, and guard the rest."""
        user_id = self._parts.users.id_of(user)

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
            theirs = or_(
                Challenge.user_id == user_id,
                and_(Challenge.user_id.is_(None), Challenge.mobile.in_(mobiles)),
            )
            until = self._parts.clock() + self._parts.rules.code_lifetime
            for mobile, sender in session.execute(
                select(Challenge.mobile, Challenge.native_sender)
                .where(theirs, Challenge.native_sender.is_not(None))
                .distinct()
            ):
                digest = self._challenges.outliving_digest(mobile, sender)
                session.merge(UsedToken(digest=digest, until=until))
            session.execute(delete(Challenge).where(theirs))
            session.execute(delete(Incoming).where(Incoming.originator.in_(mobiles)))
            if row is not None:
                session.delete(row)

        self._parts.ledger.run(work)

    # --- small things --------------------------------------------------------------------------

    def mobile_of(self, user: object) -> str | None:
        """A user's mobile as E.164; None where the host has none, or none that is valid."""
        return self._parts.mobile_of(user)

    def last_message(self, challenge: Challenge) -> Message | None:
        """The last message that carried a challenge's code; None where nothing was sent."""
        return self._parts.ledger.read(
            lambda session: session.scalars(
                select(Message)
                .where(Message.challenge_id == challenge.id)
                .order_by(Message.created_at.desc())
                .limit(1)
            ).one_or_none()
        )

    def guess_wait(self, user: object) -> int:
        """Whole seconds until this user may guess again; 0: now. A look, which takes nothing."""
        subject = Subject(self._parts.users.id_of(user), None, "", "verify")
        return self._spending.wait_of(self._spending.for_guess(subject, ip=None))

    def budget_claims(
        self, *, mobile: str | None = None, user_id: str | None = None, ip: str | None = None
    ) -> list[Claim]:
        """The budgets of a mobile, a user, an address; without any of them the site's."""
        return self._spending.claims_of(mobile=mobile, user_id=user_id, ip=ip)


def _check_line(what: str, said: object, longest: int) -> None:
    """Refuse what some databases would cut, refuse, or keep as nothing."""
    if not (isinstance(said, str) and printable(said) and len(said) <= longest):
        raise ValueError(f"{what} must be one line of 1 to {longest} characters")
