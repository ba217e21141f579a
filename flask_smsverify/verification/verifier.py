"""The verifier: the public API of verification.

Pages, JSON and the host's own Python code use the same methods, so they share the same limits.
Each method delegates to the module that holds its steps: `issue`, `check`, `claim`, `accounts`,
`change`.

Every transaction locks its keys first (`db.locks`): the mobile, the account, and for a send the
address. The rows that it changes then belong to these keys. The counts of the whole site and of
networks are locked last. If a proof token is claimed in the host's transaction, that transaction
may hold a mobile and an account for seconds. A transaction that waits for it holds no other lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from sqlalchemy import select

from ..db.ledger import Ledger
from ..db.models import Challenge, Message, Verification
from ..errors import InvalidToken, MobileRequired, NoChallenge
from ..limits.other_counts import Charge
from ..senders.base import Channel
from .accounts import Accounts, check_line
from .challenges import Challenges, Subject, is_void
from .change import MobileChanges
from .check import CodeChecker, Proof
from .claim import TokenClaim
from .codes import NATIVE_LENGTHS, is_same_code, parse_code
from .devices import DeviceTokens
from .expiring import ExpiringProof, find_expiring
from .host import Users
from .issue import CodeIssuer, Sent
from .native import is_token_used
from .policy import Policy, Status
from .rules import CLOCK_SKEW, Rules
from .tokens import ProofTokens
from .user_codes import UserCodes
from .user_records import UserRecords

#: The longest purpose that is stored.
_MAX_PURPOSE = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Procedures:
    """The objects to which a verifier delegates, one for each procedure."""

    issuer: CodeIssuer
    checker: CodeChecker
    claims: TokenClaim
    accounts: Accounts
    changes: MobileChanges
    user_codes: UserCodes


class Verifier:
    """Starts challenges, checks codes and returns the status of users: the API of verification.

    Many methods only pass their arguments on to the object that does the work, so that hosts, pages
    and commands have one object with one documentation.

    A method that takes a user raises `TypeError` for an object that does not stand for an instance
    of the user model, and `ValueError` for a user without a primary key. Every method that uses the
    database raises `StoreUnavailable` if it does not respond.
    """

    def __init__(
        self,
        ledger: Ledger,
        procedures: Procedures,
        *,
        challenges: Challenges,
        tokens: ProofTokens,
        devices: DeviceTokens,
        records: UserRecords,
        policy: Policy,
        rules: Rules,
        users: Users,
        parse_mobile: Callable[[object], str],
        before_anonymous_send: Callable[[str, Channel], None],
    ) -> None:
        self._ledger = ledger
        self._before_anonymous_send = before_anonymous_send
        self._issuer = procedures.issuer
        self._checker = procedures.checker
        self._claims = procedures.claims
        self._accounts = procedures.accounts
        #: The changes of proved mobiles.
        self.changes = procedures.changes
        #: The codes of users who are logged in, for the pages.
        self.user_codes = procedures.user_codes
        self._challenges = challenges
        self._tokens = tokens
        #: The tokens of devices that have proved a mobile.
        self.devices = devices
        #: The records of users that the pages show, each read with one SELECT.
        self.records = records
        self._policy = policy
        self._rules = rules
        self._users = users
        self._parse_mobile = parse_mobile

    # --- sending --------------------------------------------------------------------------------

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

        :param mobile: the number to prove, in any spelling; by default the user's own.
        :param purpose: what the code is for: one line of at most 64 characters. A right code
            verifies the user whatever its purpose.
        :param ip: the address of the request, for the limits of addresses; None skips them.
        :raises MobileError: no number, or one that codes may not be sent to.
        :raises TooSoon: the cooldown since the last send is not over.
        :raises RateLimited: a limit is used up.
        :raises AccountLocked: staff must unlock the account.
        :raises TooManyAttempts: no guess is left for the account, the number or the site.
        :raises ChannelUnavailable: no sender serves the channel.
        :raises SendFailed: no gateway took the code. The send was refunded.
        :raises StoreUnavailable: the database did not take the write. Nothing was sent.
        :raises ValueError: an invalid purpose, or a user without a primary key.
        :raises TypeError: not an instance of the user model.
        """
        return self.send(user, channel=channel, mobile=mobile, purpose=purpose, ip=ip).challenge

    def send(
        self,
        user: object,
        *,
        channel: Channel = "sms",
        mobile: str | None = None,
        purpose: str = "verify",
        ip: str | None = None,
    ) -> Sent:
        """Send a code as `start` does; return the challenge together with the gateway's answer."""
        check_line("purpose", purpose, _MAX_PURPOSE)
        user_id = self._users.id_of(user)
        own = self._users.mobile_of(user)
        if mobile is None and own is None:
            self._users.valid_mobile_of(user)  # raises what is wrong with the mobile
            raise MobileRequired
        target = self._parse_mobile(mobile) if mobile is not None else cast(str, own)
        return self._issuer.issue(Subject(user_id, own, target, purpose), channel, ip)

    def start_for(
        self,
        mobile: str,
        *,
        purpose: str,
        channel: Channel = "sms",
        ip: str | None = None,
        device: str | None = None,
    ) -> Challenge:
        """Send a code to a mobile before there is an account. Each call starts a new challenge.

        The gateway is called in the background, so that neither the result nor response time
        reveals whether an account exists. `last_message` returns the outcome.

        :param ip: the address of the request, for the limits of addresses; None skips them.
        :param device: the device token of the request (cookie `smsverify_device`), which opens the
            half of the mobile's limit that is reserved for its owner. Guesses at the challenge then
            count apart from those of others.
        :raises SendRefused: the host's `before_anonymous_send` refused it.
        :raises: what `start` raises, except `SendFailed`.
        """
        check_line("purpose", purpose, _MAX_PURPOSE)
        return self.start_charged(
            mobile, (), purpose=purpose, channel=channel, ip=ip, device=device
        )

    def start_charged(
        self,
        mobile: str,
        charges: tuple[Charge, ...],
        *,
        purpose: str,
        channel: Channel,
        ip: str | None,
        device: str | None,
    ) -> Challenge:
        """Send a code as `start_for` does, and take units of other limits. For the sign-in pages.

        :param charges: the units, which are taken in the transaction of the send.
        """
        subject = Subject(None, None, self._parse_mobile(mobile), purpose)
        self._before_anonymous_send(subject.mobile, channel)
        return self._issuer.issue(subject, channel, ip, device=device, charges=charges).challenge

    def resend(
        self,
        challenge: Challenge,
        *,
        channel: Channel | None = None,
        ip: str | None = None,
        device: str | None = None,
        may_replace: bool = True,
    ) -> Challenge:
        """Send the code of an open challenge again.

        A challenge with less than a minute of lifetime left, or without guesses left, is replaced
        by a new one.

        :param channel: another channel; by default the same.
        :param may_replace: False raises `NoChallenge` instead of replacing the challenge.
        :param device: the device token of the request, for a challenge without an account.
        :raises NoChallenge: it is closed, or the user's mobile changed after it began.
        :raises: what `start` raises.
        """
        own = None
        if challenge.user_id is not None:
            user = self._users.find(challenge.user_id)
            own = self._users.mobile_of(user) if user is not None else None
            if is_void(challenge, own):
                raise NoChallenge("the user's mobile changed after the code was sent")
        subject = Subject(challenge.user_id, own, challenge.mobile, challenge.purpose)
        return self._issuer.issue(
            subject,
            channel or cast(Channel, challenge.channel),
            ip,
            resend_of=challenge.id,
            may_replace=may_replace,
            device=device,
        ).challenge

    def load(self, challenge_id: str) -> Challenge:
        """Return a challenge in its current state, by its public id.

        :raises NoChallenge: there is none with this id.
        """
        return self._challenges.load(challenge_id)

    def latest(self, user: object, *, purpose: str = "verify") -> Challenge | None:
        """Return a user's latest challenge for a purpose in any state; None before the first."""
        return self._challenges.latest(self._users.id_of(user), purpose)

    # --- checking -------------------------------------------------------------------------------

    def check(
        self,
        challenge_or_user: object,
        code: object,
        *,
        ip: str | None = None,
        purpose: str = "verify",
        store: Callable[[Verification], None] | None = None,
    ) -> Verification | Proof:
        """Check a code against an open challenge.

        The result is returned after the guess is committed. A right code counts against no limit.

        :param challenge_or_user: a challenge, or a user, which stands for the latest challenge for
            `purpose`.
        :param ip: the address of the request, for `failures_ip` and `failures_network`.
        :param store: called with the verification before anybody is notified, to store the mobile
            in the host. If it raises, the proof is undone, but the code stays used.
        :returns: the user's verification, or a `Proof` if the challenge has no user.
        :raises InvalidCode: the input cannot be a code. Nothing was counted.
        :raises WrongCode: with the attempts left.
        :raises CodeExpired: the lifetime is over, or the user's mobile changed.
        :raises TooManyAttempts: no guess is left for the challenge, the account, the number or the
            site.
        :raises AccountLocked: staff must unlock the account.
        :raises NoChallenge: no challenge is open.
        :raises MobileTaken: the code was right, but other accounts hold the mobile.
        :raises CheckFailed: the gateway that generated the code gave no verdict.
        :raises StoreUnavailable: the database did not take the guess, and nothing was compared; or
            it did not take the gateway's verdict.
        :raises TypeError: neither a challenge nor an instance of the user model.
        :raises ValueError: a user without a primary key.
        :raises Exception: what `store` raises.
        """
        return self._checker.check(challenge_or_user, code, ip=ip, purpose=purpose, store=store)

    # --- proofs before there is an account ------------------------------------------------------

    def proof_token(self, proof: Proof) -> str:
        """Return a proof as a signed token, for a form field or a program."""
        return self._tokens.dump(proof.mobile, proof.purpose, proof.challenge_id, proof.proved_at)

    def load_proof(self, token: str, *, purpose: str, max_age: int = 600) -> str:
        """Return the mobile that a token proves, in E.164. `claim` uses the token up.

        :param max_age: whole seconds since the token was made.
        :raises InvalidToken: forged, for another purpose, too old, or used.
        :raises TypeError: `max_age` is not a whole number.
        """
        content = self._tokens.load(token, purpose, max_age)
        now = self._ledger.clock()
        if self._ledger.read(
            lambda session: any(is_token_used(session, digest, now) for digest in content.digests)
        ):
            raise InvalidToken("this proof token was used before")
        return content.mobile

    def claim(self, token: str, user: object, *, purpose: str, max_age: int = 600) -> Verification:
        """Use a token up and give the user the verification, in the host's own transaction.

        The user is flushed if needed and gets the mobile. The proof is dated to the time of the
        right code. Nothing takes effect until the host commits, and after a rollback the token is
        usable again. Commit soon: until then no other account can prove this mobile.

        :param max_age: whole seconds since the token was made.
        :raises InvalidToken: forged, for another purpose, too old, used, or older than the user's
            last revocation.
        :raises MobileTaken: other accounts hold the mobile, or the host's table has it already.
        :raises AccountLocked: staff must unlock the account.
        :raises TypeError: `max_age` is not a whole number, or not an instance of the user model.
        """
        return self._claims.claim(token, user, purpose=purpose, max_age=max_age)

    # --- status ---------------------------------------------------------------------------------

    def status(self, user: object) -> Status:
        """Return a user's status with the open challenge, if there is one. Reads the ledger."""
        if self._users.is_exempt(user):
            return Status("exempt", self._users.mobile_of(user), exempt=True)
        return self.records.read(user).status

    # --- staff ----------------------------------------------------------------------------------

    def mark_verified(self, user: object, *, by: str) -> Verification:
        """Vouch for a user's mobile.

        :param by: the person who vouches, for the record: one line of at most 191 characters.
        :raises MobileError: the user has no valid mobile, or other accounts hold it.
        :raises ValueError: `by` is empty or too long.
        """
        return self._accounts.mark_verified(user, by=by)

    def revoke(self, user: object, *, by: str) -> None:
        """Revoke a user's verification and cancel open challenges.

        :param by: the person who revokes, for the signal: one line of at most 191 characters.
        :raises ValueError: `by` is empty or too long.
        """
        self._accounts.revoke(user, by=by)

    def unlock(self, user_or_mobile: object) -> None:
        """Unlock an account, or a mobile without one, after too many failures.

        A mobile is unlocked for everybody who has no account, and for its owner's devices.

        :param user_or_mobile: a user, or a mobile in any spelling.
        :raises MobileError: the text is not a mobile.
        """
        if isinstance(user_or_mobile, str):
            self._accounts.unlock_mobile(self._parse_mobile(user_or_mobile))
        else:
            self._accounts.unlock(user_or_mobile)

    def forget(self, user: object) -> None:
        """Erase everything that is stored about a user, except usage, which holds digests only."""
        self._accounts.forget(user)

    def forget_id(self, user_id: str) -> None:
        """Erase everything that is stored about a user whom the host may have deleted.

        :param user_id: the primary key as text.
        """
        self._accounts.forget_id(user_id)

    def find_by_code(self, typed: str) -> list[Challenge]:
        """Return the open challenges that have this own code, newest first. For staff.

        Codes are not stored, so the code of each open challenge is derived and compared. Only the
        gateway can check a native code.

        :raises InvalidCode: the input cannot be a code.
        """
        code = parse_code(typed, NATIVE_LENGTHS)
        now = self._ledger.clock()
        found = (
            select(Challenge)
            .where(Challenge.created_at > now - self._rules.code_lifetime - CLOCK_SKEW)
            .where(Challenge.state == Challenge.PENDING, Challenge.own_sent)
            .where(Challenge.expires_at > now)
            .order_by(Challenge.created_at.desc())
        )
        pending = self._ledger.read(lambda session: session.scalars(found).all())
        return [
            challenge
            for challenge in pending
            if self._challenges.has_key(challenge)
            and is_same_code(code, self._challenges.own_code(challenge))
        ]

    # --- details for pages and commands ---------------------------------------------------------

    def expiring(self, within: timedelta) -> Iterator[ExpiringProof]:
        """Yield the valid proofs that end within a duration, soonest first.

        For a daily job that reports `verification.expiring`. Exempt users are left out.
        """
        return find_expiring(self._ledger, self._policy, self._users, within)

    def mobile_of(self, user: object) -> str | None:
        """Return a user's mobile in E.164; None if it is missing or invalid."""
        return self._users.mobile_of(user)

    def last_message(self, challenge: Challenge) -> Message | None:
        """Return the last message with a challenge's code; None if none was sent."""
        return self._ledger.read(
            lambda session: session.scalars(
                select(Message)
                .where(Message.challenge_id == challenge.id)
                .order_by(Message.created_at.desc())
                .limit(1)
            ).one_or_none()
        )

    def guess_wait(self, user: object) -> int:
        """Return whole seconds until this user may guess again; 0 if now.

        By the limits of the account and the site. Those of a number depend on the challenge.
        """
        return self.records.read(user).guess_wait
