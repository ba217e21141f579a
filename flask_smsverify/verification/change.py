"""Change a proved mobile: every step from the new number's proof until it replaces the old.

A password alone must not be enough to replace a proved mobile. So the old number confirms the
change with a code. If the old number is lost, the change waits for `SMSVERIFY_CHANGE_DELAY` seconds
after a sender has accepted a notice to the old number with a link that stops the change.

`MobileChanges` reads from top to bottom: prove the new number, confirm with the old one or wait,
and apply. A change that waited is applied when its account next logs in at the gate or opens a
page. Every step locks the account, so the steps of one user are serialized. Only an account that
takes the old number does not wait for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from .. import signals
from ..db.ids import new_id, shorten
from ..db.ledger import Ledger
from ..db.models import Challenge, MobileChange, Verification
from ..errors import (
    AccountLocked,
    ChannelUnavailable,
    InvalidLink,
    MobileTaken,
    NoChallenge,
    NoticeFailed,
    ProblemError,
    SendFailed,
    StoreUnavailable,
)
from ..keyring import Keyring
from ..limits.other_counts import Charge, Counters
from ..log_events import log_event
from ..phone import mask
from ..senders.base import Channel
from ..settings import Limit
from .challenges import Subject, code_path
from .check import CodeChecker, Proof
from .host import Announcer, Users
from .issue import CodeIssuer, Sent
from .open_changes import is_due, is_proved, is_valid, open_change_key
from .ownership import Granted, Origin, Ownership
from .rules import NEW_NUMBER, OLD_NUMBER, Rules
from .tokens import UndoTokens
from .user_records import UserRecord, UserRecords

log = logging.getLogger(__name__)

_DAY = 86_400
#: Changes that one account may start.
_STARTS = (Limit(3, _DAY),)
#: Calls to gateways with notices to old numbers, for one account. More than `_STARTS`, because a
#: notice that no sender accepted is sent again.
_NOTICES = (Limit(10, _DAY),)


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeFlow:
    """The send and the check of the codes of a change."""

    issuer: CodeIssuer
    checker: CodeChecker


class MobileChanges:
    """Changes the proved mobiles of accounts."""

    def __init__(
        self,
        ledger: Ledger,
        rules: Rules,
        codes: CodeFlow,
        *,
        records: UserRecords,
        ownership: Ownership,
        counters: Counters,
        keyring: Keyring,
        tokens: UndoTokens,
        users: Users,
        announcer: Announcer,
    ) -> None:
        self._ledger = ledger
        self._rules = rules
        self._codes = codes
        self._records = records
        self._ownership = ownership
        self._counters = counters
        self._keyring = keyring
        self._tokens = tokens
        self._users = users
        self._announcer = announcer

    def current(self, user: object) -> MobileChange | None:
        """Return the user's open change; None without one."""
        return self._records.read(user).change

    def has_just_changed(self, user: object) -> bool:
        """Return whether a change of the user was applied within the last minute."""
        user_id, since = self._users.id_of(user), self._ledger.clock() - timedelta(minutes=1)
        applied = select(MobileChange.id).where(
            MobileChange.user_id == user_id,
            MobileChange.state == MobileChange.APPLIED,
            MobileChange.closed_at > since,
        )
        return self._ledger.read(lambda session: session.scalars(applied).first() is not None)

    # --- 1: prove the new number ----------------------------------------------------------------

    def send_to_new(
        self, user: object, mobile: str, *, channel: Channel = "sms", ip: str | None = None
    ) -> Sent:
        """Send a code to the number that is to replace the user's proved one.

        :param mobile: the new number in E.164.
        :raises RateLimited: the account has started three changes within a day.
        :raises: what `Verifier.start` raises.
        """
        user_id, own = self._users.id_of(user), self._users.valid_mobile_of(user)
        self._counters.check([Charge("changes", user_id, _STARTS)], self._ledger.clock())
        return self._codes.issuer.issue(Subject(user_id, own, mobile, NEW_NUMBER), channel, ip)

    def prove_new(self, user: object, code: object, *, ip: str | None = None) -> MobileChange:
        """Check the code that was sent to the new number, and open the change.

        An earlier open change of the user is cancelled.

        :raises MobileTaken: the code was right, but other accounts hold the new number.
        :raises RateLimited: the account has started three changes within a day.
        :raises: what `Verifier.check` raises.
        """
        proof = self._check(user, code, ip, NEW_NUMBER)
        user_id, own = self._users.id_of(user), self._users.mobile_of(user)
        claimant = self._ownership.prepare(proof.mobile, user_id)
        charges = [Charge("changes", user_id, _STARTS)]

        def work(session: Session, others: list[Verification]) -> MobileChange:
            now = self._ledger.clock()
            verification = session.get(Verification, user_id)
            if verification is None or not is_proved(verification) or verification.mobile != own:
                raise NoChallenge("the old number is no longer proved")
            if not self._ownership.has_room_for(claimant, others):
                raise MobileTaken
            earlier = self._open_change(session, user_id)
            if earlier is not None:
                _close(session, earlier, MobileChange.CANCELLED, now)
                session.flush()  # frees the unique key before the new change takes it
            self._counters.reserve_locked(session, charges, now)
            path = code_path(session, proof.challenge_id)
            if path is None:
                raise NoChallenge("the challenge was erased meanwhile")
            change = MobileChange(
                id=new_id(),
                user_id=user_id,
                old_mobile=verification.mobile,
                new_mobile=proof.mobile,
                channel=path.channel,
                sender=path.sender,
                state=MobileChange.CONFIRMING,
                proved_at=proof.proved_at,
                open_key=self._open_key(user_id),
            )
            session.add(change)
            return change

        return self._ownership.run(claimant, work, also=self._counters.keys_of(charges))

    def _check(self, user: object, code: object, ip: str | None, purpose: str) -> Proof:
        proof = self._codes.checker.check(user, code, ip=ip, purpose=purpose, store=None)
        assert isinstance(proof, Proof)  # noqa: S101 -- these purposes grant no verification
        return proof

    # --- 2a: confirm with the old number --------------------------------------------------------

    def send_to_old(
        self,
        user: object,
        *,
        channel: Channel = "sms",
        ip: str | None = None,
        record: UserRecord | None = None,
    ) -> Sent:
        """Send a code to the old number.

        :param record: the user's, if the caller has read it.
        :raises NoChallenge: no change is open.
        :raises: what `Verifier.start` raises.
        """
        change = _require(record or self._records.read(user))
        subject = Subject(change.user_id, change.old_mobile, change.old_mobile, OLD_NUMBER)
        return self._codes.issuer.issue(subject, channel, ip)

    def confirm(
        self,
        user: object,
        code: object,
        *,
        ip: str | None = None,
        record: UserRecord | None = None,
    ) -> Verification:
        """Check the code that was sent to the old number, and apply the change.

        :param record: the user's, if the caller has read it.
        :raises NoChallenge: no change is open, or no code was sent.
        :raises MobileTaken: other accounts now hold the new number.
        :raises: what `Verifier.check` raises.
        """
        record = record or self._records.read(user)
        change = _require(record)
        if record.to_old is None:
            raise NoChallenge("no code was sent to the old number")
        self._check(user, code, ip, OLD_NUMBER)
        return self._apply(user, change, is_confirmed=True)

    # --- 2b: or wait ----------------------------------------------------------------------------

    def delay(
        self, user: object, *, link: Callable[[str], str], record: UserRecord | None = None
    ) -> MobileChange:
        """Let the change wait, because the old number cannot confirm it.

        The delay starts when a sender has accepted the notice to the old number. Nothing happens if
        the delay has already started.

        :param link: returns the URL that undoes the change, from its token.
        :param record: the user's, if the caller has read it.
        :raises NoChallenge: no change is open.
        :raises AccountLocked: staff must unlock the account.
        :raises RateLimited: too many notices were sent.
        :raises NoticeFailed: no sender accepted the notice, or it is unknown whether one did.
        """
        record = record or self._records.read(user)
        change = _require(record)
        if change.state == MobileChange.DELAYED:
            return change
        own = self._users.mobile_of(user)
        if record.is_locked:
            raise AccountLocked
        charge = Charge("change_notices", change.user_id, _NOTICES)
        self._counters.reserve([charge], self._ledger.clock())
        try:
            self._announcer.send_notice(
                "mobile.change_requested",
                mobile=change.old_mobile,
                new=mask(change.new_mobile),
                url=link(self._tokens.dump(change.id)),
            )
        except SendFailed as error:
            raise NoticeFailed(error.causes) from error
        except ChannelUnavailable as error:
            raise NoticeFailed(()) from error

        def work(session: Session) -> MobileChange:
            now = self._ledger.clock()
            row = self._read_valid(session, change, own, now)
            if row.state == MobileChange.CONFIRMING:
                row.state = MobileChange.DELAYED
                row.applies_at = now + self._rules.change_delay
            return row

        return self._ownership.run_for_account(change.user_id, work)

    # --- 3: apply -------------------------------------------------------------------------------

    def is_due(self, record: UserRecord) -> bool:
        """Return whether the open change has waited long enough to be applied."""
        change = record.change
        return change is not None and is_due(change, self._ledger.clock())

    def apply_due(self, user: object, *, record: UserRecord | None = None) -> bool:
        """Apply a change whose delay is over. Errors are logged: the old number stays.

        :param record: the user's, if the caller has read it.
        :returns: whether the user now has the new number.
        """
        record = record or self._records.read(user)
        change = record.change
        if change is None or not self.is_due(record):
            return False
        try:
            self._apply(user, change, is_confirmed=False)
        except ProblemError as error:
            log.warning(
                "the change %s was not applied: %s",
                shorten(change.id),
                error,
                extra=log_event("mobile_change_not_applied"),
            )
            return False
        return True

    def _apply(self, user: object, change: MobileChange, *, is_confirmed: bool) -> Verification:
        """Let the new number replace the old one, here and in the host.

        :raises NoChallenge: the change was closed meanwhile.
        :raises MobileTaken: other accounts hold the new number. The change is cancelled.
        """
        claimant = self._ownership.prepare(change.new_mobile, change.user_id)
        own = self._users.mobile_of(user)

        def work(session: Session, others: list[Verification]) -> Granted | None:
            now = self._ledger.clock()
            row = self._read_valid(session, change, own, now)
            if not is_confirmed and not is_due(row, now):
                raise NoChallenge("the delay of the change is not over")
            granted = None
            if not self._is_proved_since(row, others):
                origin = Origin(row.channel, row.sender, row.proved_at, is_confirmed)
                granted = self._ownership.prove(session, claimant, others, now, origin)
            done = MobileChange.APPLIED if granted is not None else MobileChange.CANCELLED
            _close(session, row, done, now)
            return granted

        granted = self._ownership.run(claimant, work)
        if granted is None:
            raise MobileTaken
        try:
            self._users.store_proved_mobile(user, granted.verification, expected=own)
        except BaseException as error:
            self._ownership.undo(granted)
            self._take_back(change, may_reopen=isinstance(error, StoreUnavailable))
            raise
        self._ownership.announce(granted)
        self._announcer.emit(
            signals.mobile_verified,
            user_id=change.user_id,
            mobile=mask(change.new_mobile),
            channel=change.channel,
            purpose="change",
        )
        return granted.verification

    def _is_proved_since(self, change: MobileChange, others: Sequence[Verification]) -> bool:
        """Return whether another account has since proved the new number, and would lose it."""
        if not self._rules.accounts_per_mobile or self._rules.mobile_policy == "refuse":
            return False  # nobody loses a number; `Ownership.prove` counts the holders
        return any(row.verified_at and row.verified_at > change.proved_at for row in others)

    def _take_back(self, change: MobileChange, *, may_reopen: bool) -> None:
        """Record that the host did not store the new number of an applied change.

        :param may_reopen: whether to open the change again. Otherwise it is cancelled, and so it is
            if the user has opened another one meanwhile.
        """

        def work(session: Session) -> None:
            is_open = self._open_change(session, change.user_id) is not None
            row = session.get(MobileChange, change.id)
            if row is None:
                return  # the user was erased meanwhile
            if may_reopen and not is_open:
                row.state, row.closed_at = change.state, None
                row.open_key = self._open_key(change.user_id)
            else:
                row.state = MobileChange.CANCELLED

        self._ownership.run_for_account(change.user_id, work)

    # --- stop -----------------------------------------------------------------------------------

    def cancel(self, user: object) -> bool:
        """Cancel the user's open change; return whether there was one."""
        user_id = self._users.id_of(user)

        def work(session: Session) -> bool:
            change = self._open_change(session, user_id)
            if change is not None:
                _close(session, change, MobileChange.CANCELLED, self._ledger.clock())
            return change is not None

        return self._ownership.run_for_account(user_id, work)

    def find(self, token: object) -> MobileChange:
        """Return the change that a link belongs to: open, or undone by this link.

        :raises InvalidLink: forged or cut off, or the change was applied or cancelled.
        """
        change_id = self._tokens.load(token)
        change = self._ledger.read(lambda session: session.get(MobileChange, change_id))
        if change is None or not (change.is_open or change.state == MobileChange.UNDONE):
            raise InvalidLink
        return change

    def undo(self, token: object) -> None:
        """Stop the open change that a link belongs to.

        :raises InvalidLink: forged or cut off, or the change is closed.
        """
        found = self.find(token)

        def work(session: Session) -> None:
            change = session.get(MobileChange, found.id)
            if change is None or not change.is_open:
                raise InvalidLink
            _close(session, change, MobileChange.UNDONE, self._ledger.clock())

        self._ownership.run_for_account(found.user_id, work)

    # --- shared ---------------------------------------------------------------------------------

    def _open_key(self, user_id: str) -> str:
        return open_change_key(self._keyring, user_id)

    def _open_change(self, session: Session, user_id: str) -> MobileChange | None:
        return session.scalars(
            select(MobileChange).where(MobileChange.open_key == self._open_key(user_id))
        ).one_or_none()

    def _read_valid(
        self, session: Session, change: MobileChange, own: str | None, now: datetime
    ) -> MobileChange:
        """Return the change as it is under the account's lock.

        :raises NoChallenge: the change is no longer open.
        :raises AccountLocked: staff must unlock the account.
        """
        verification = session.get(Verification, change.user_id)
        row = session.get(MobileChange, change.id)
        if row is None or not is_valid(row, verification, own, now):
            raise NoChallenge("the change is no longer open")
        if verification is not None and self._rules.is_locked(verification):
            raise AccountLocked
        return row


def _require(record: UserRecord) -> MobileChange:
    if record.change is None:
        raise NoChallenge("no change is open")
    return record.change


def _close(session: Session, change: MobileChange, state: str, now: datetime) -> None:
    """Close a change, and cancel its codes so that none of them confirms a later change."""
    change.state, change.closed_at, change.open_key = state, now, change.id
    codes = select(Challenge).where(
        Challenge.user_id == change.user_id,
        Challenge.purpose == OLD_NUMBER,
        Challenge.state == Challenge.PENDING,
    )
    for challenge in session.scalars(codes):
        challenge.close(Challenge.CANCELLED)
