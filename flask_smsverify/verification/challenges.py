"""Challenges: loading them, their predicates, and the secrets that belong to one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ScalarSelect, select
from sqlalchemy.orm import Session

from ..db.ids import new_id
from ..db.ledger import Ledger
from ..db.models import Attempt, Challenge, Message
from ..db.prepared import constant
from ..db.rows import new_row
from ..errors import NoChallenge
from ..keyring import Keyring
from .open_changes import open_change_key
from .rules import CLOCK_SKEW, Rules

_CHALLENGE_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Subject:
    """The subject of a challenge.

    :param user_id: None for a mobile that is proved before there is an account.
    :param user_mobile: the user's mobile when the challenge began.
    :param mobile: the mobile to prove.
    """

    user_id: str | None
    user_mobile: str | None = field(repr=False)
    mobile: str = field(repr=False)
    purpose: str


@dataclass(frozen=True, slots=True)
class CodePath:
    """How the code of a challenge reached the phone.

    :param sender: the last sender of the code; None for a test number.
    """

    channel: str
    sender: str | None


class Challenges:
    """Loads and creates challenges, and derives their codes."""

    def __init__(self, ledger: Ledger, keyring: Keyring, rules: Rules) -> None:
        self._ledger = ledger
        self._keyring = keyring
        self._rules = rules

    def load(self, challenge_id: str) -> Challenge:
        """Return a challenge in its current state.

        :raises NoChallenge: there is none with this id.
        """
        # Some databases raise errors for text that cannot be an id, such as NUL.
        is_id = isinstance(challenge_id, str) and bool(_CHALLENGE_ID.fullmatch(challenge_id))
        challenge = is_id and self._ledger.read(
            lambda session: session.get(Challenge, challenge_id)
        )
        if not challenge:
            raise NoChallenge("there is no such challenge")
        return challenge

    def latest(self, user_id: str, purpose: str) -> Challenge | None:
        """Return a user's latest challenge for a purpose in any state; None before the first."""
        now = self._ledger.clock()
        return self._ledger.read(lambda session: latest_challenge(session, user_id, purpose, now))

    def new(self, subject: Subject, channel: str, now: datetime, *, by_device: bool) -> Challenge:
        """Return a new pending challenge that is not stored yet."""
        challenge_id = new_id()
        is_unique = subject.user_id is not None
        return new_row(
            Challenge,
            id=challenge_id,
            user_id=subject.user_id,
            user_mobile=subject.user_mobile,
            mobile=subject.mobile,
            purpose=subject.purpose,
            by_device=by_device,
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
            open_key=self.open_key(subject) if is_unique else challenge_id,
            native_key=challenge_id,
        )

    def open_key(self, subject: Subject) -> str:
        """Return the key that is unique among open challenges: one for each user and purpose."""
        return self._keyring.digest("open", subject.user_id or "", subject.purpose)

    def open_change_key(self, user_id: str) -> str:
        """Return the key that is unique among open changes of numbers: one for each user."""
        return open_change_key(self._keyring, user_id)

    def own_code(self, challenge: Challenge) -> str:
        """Return the current own code of a challenge.

        :raises KeyError: its key was removed from the configuration.
        """
        fixed = self._rules.test_numbers.get(challenge.mobile)
        return fixed or self._keyring.code(
            challenge.key_id,
            challenge.id,
            challenge.mobile,
            challenge.purpose,
            challenge.generation,
            challenge.code_length,
        )

    def has_key(self, challenge: Challenge) -> bool:
        """Return whether the key of its own code is still configured."""
        return challenge.key_id in self._keyring

    def is_test_number(self, mobile: str) -> bool:
        """Return whether the mobile is in `SMSVERIFY_TEST_NUMBERS`."""
        return mobile in self._rules.test_numbers


def lock_challenge(session: Session, challenge_id: str) -> Challenge:
    """Return a challenge, locked until the transaction ends.

    :raises NoChallenge: it was erased.
    """
    row = session.get(Challenge, challenge_id, with_for_update=True)
    if row is None:
        raise NoChallenge("the challenge no longer exists")
    return row


def latest_challenge(
    session: Session, user_id: str, purpose: str, now: datetime
) -> Challenge | None:
    """Return a user's latest challenge for a purpose in any state.

    Challenges dated in the future were written by a wrong clock and are ignored.
    """
    return session.scalars(
        select(Challenge)
        .where(Challenge.user_id == user_id, Challenge.purpose == purpose)
        .where(Challenge.created_at <= now + CLOCK_SKEW)
        .order_by(Challenge.created_at.desc())
        .limit(1)
    ).one_or_none()


def last_carrier() -> ScalarSelect[str]:
    """Return an SQL expression: the sender of the outer challenge's last code."""
    return (
        select(Attempt.sender)
        .join(Message, Message.id == Attempt.message_id)
        .where(Message.challenge_id == Challenge.id, Attempt.state != Attempt.FAILED)
        .order_by(Attempt.created_at.desc())
        .limit(constant(1))
        .correlate(Challenge)
        .scalar_subquery()
    )


def code_path(session: Session, challenge_id: str) -> CodePath | None:
    """Return how the code of a challenge reached the phone; None for an erased challenge."""
    row = session.execute(
        select(Challenge.channel, last_carrier()).where(Challenge.id == challenge_id)
    ).one_or_none()
    return None if row is None else CodePath(*row)


def is_void(challenge: Challenge, user_mobile: str | None) -> bool:
    """Return whether the user's mobile changed to one other than the challenge's."""
    if challenge.user_id is None:
        return False
    return user_mobile not in (challenge.user_mobile, challenge.mobile)


def is_open(challenge: Challenge, user_mobile: str | None, now: datetime) -> bool:
    """Return whether a code of the challenge can be right."""
    is_pending = challenge.state == Challenge.PENDING
    return is_pending and not is_expired(challenge, now) and not is_void(challenge, user_mobile)


def is_expired(challenge: Challenge, now: datetime) -> bool:
    """Return whether the lifetime is over, or the clock was set back to before the challenge."""
    return now >= challenge.expires_at or now < challenge.created_at - CLOCK_SKEW
