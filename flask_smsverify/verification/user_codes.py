"""Send and check the codes of users for the pages, which answer with the user's record.

A page decides by the record, and answers with the one after the write. Here the transaction that
sends or checks reads what the decision needs, and the new record is made from what it wrote, so
nothing is read twice. This does not cover users who are exempt, and users who have changed a proved
number or are about to: a page reads their record before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..db.models import Challenge, Verification
from ..errors import NoChallenge
from ..senders.base import Channel
from .challenges import Subject
from .check import CodeChecker, Proof
from .host import Users
from .issue import CodeIssuer, Sent
from .open_changes import has_proved
from .policy import Policy, Status
from .user_records import UserRecord, UserRecords
from .user_rows import UserRows


@dataclass(frozen=True, slots=True)
class UserSend:
    """A send to a user's own mobile.

    :param sent: None if the user has nothing left to prove, so that nothing was sent.
    :param record: the user's record afterwards.
    """

    sent: Sent | None
    record: UserRecord


class RecordNeeded(Exception):
    """The record must be read first. Nothing was sent or compared."""


class OtherMobileProved(NoChallenge):
    """The user has proved another mobile since the code was sent."""


class _Complete(Exception):
    """The user has nothing left to prove."""

    def __init__(self, status: Status) -> None:
        super().__init__("the user has nothing left to prove")
        self.status = status


class UserCodes:
    """Sends and checks the codes of users who are logged in."""

    def __init__(
        self,
        issuer: CodeIssuer,
        checker: CodeChecker,
        records: UserRecords,
        *,
        policy: Policy,
        users: Users,
    ) -> None:
        self._issuer = issuer
        self._checker = checker
        self._records = records
        self._policy = policy
        self._users = users

    def send_to_own(
        self,
        user: object,
        *,
        channel: Channel,
        ip: str | None,
        is_complete: Callable[[Status], bool],
    ) -> UserSend:
        """Send a code to the user's own mobile. `Verifier.send` documents the errors.

        `ChannelUnavailable` is raised before it is known whether anything is left to prove.

        :param is_complete: whether a user with this status, which is without the open challenge,
            has nothing left to prove. It is called in the transaction.
        :raises RecordNeeded: the user is exempt, has no mobile, or has changed a proved number or
            is about to.
        """
        own = self._users.mobile_of(user)
        if own is None or self._users.is_exempt(user):
            raise RecordNeeded
        statuses: list[Status] = []  # several if the transaction is tried again

        def on_read(rows: UserRows) -> None:
            if rows.has_changed_number:
                raise RecordNeeded
            status = self._policy.status(rows.verification, own, rows.now)
            if is_complete(status):
                raise _Complete(status)
            statuses.append(status)

        subject = Subject(self._users.id_of(user), own, own, "verify")
        try:
            sent = self._issuer.issue(subject, channel, ip, on_read=on_read)
        except _Complete as complete:
            return UserSend(None, self._records.without_codes(complete.status))
        before = self._records.without_codes(statuses[-1])
        return UserSend(sent, self._records.after_send(before, sent))

    def check(
        self,
        user: object,
        code: object,
        *,
        ip: str | None,
        store: Callable[[Verification], None],
        record: UserRecord | None,
    ) -> tuple[Verification, UserRecord]:
        """Check a code for `verify`. `Verifier.check` documents the errors.

        :param record: the user's, if the caller has read it.
        :returns: the verification, and the user's record afterwards.
        :raises RecordNeeded: there is none, and the user is exempt, or has changed a proved number
            or is about to.
        :raises OtherMobileProved: the code is open, and not for the mobile that the user has proved
            since.
        """
        if record is None and self._users.is_exempt(user):
            raise RecordNeeded
        own = self._users.mobile_of(user)

        def on_read(rows: UserRows) -> None:
            if record is None and rows.has_changed_number:
                raise RecordNeeded
            challenge = rows.challenge
            if own is None or challenge is None or challenge.state != Challenge.PENDING:
                return
            if challenge.mobile != own and has_proved(rows.verification, own):
                raise OtherMobileProved("another mobile was proved since the code was sent")

        proof = self._checker.check(
            user, code, ip=ip, purpose="verify", store=store, on_read=on_read
        )
        if isinstance(proof, Proof):
            raise TypeError("the challenge has no user")
        return proof, self._records.after_proof(record, user, proof)
