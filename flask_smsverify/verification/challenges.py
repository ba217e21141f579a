"""Challenges as they stand: whom one is about, which code is its own, when it is over."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from ..errors import NoChallenge
from ..models import Challenge, UsedToken
from .parts import Parts
from .policy import CLOCK_SKEW

_CHALLENGE_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a challenge is about: a user, or whoever holds the mobile."""

    user_id: str | None
    user_mobile: str | None = field(repr=False)
    mobile: str = field(repr=False)
    purpose: str


class Challenges:
    """Finds challenges, and knows their secrets."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def load(self, challenge_id: str) -> Challenge:
        """A challenge by its public id, as it stands now.

        :raises NoChallenge: there is none.
        """
        # What cannot be an id is not asked for: databases refuse some of it with errors.
        known = isinstance(challenge_id, str) and bool(_CHALLENGE_ID.fullmatch(challenge_id))
        challenge = known and self._parts.ledger.read(
            lambda session: session.get(Challenge, challenge_id)
        )
        if not challenge:
            raise NoChallenge("there is no such challenge")
        return challenge

    def latest(self, user: object, *, purpose: str = "verify") -> Challenge | None:
        """A user's last challenge for a purpose, whatever its state; None before the first."""
        user_id = self._parts.users.id_of(user)
        now = self._parts.clock()
        return self._parts.ledger.read(lambda session: latest_of(session, user_id, purpose, now))

    def own_code(self, challenge: Challenge) -> str:
        """The code of ours that is right for a challenge now.

        :raises KeyError: the key that it was derived from is gone.
        """
        fixed = self._parts.rules.test_numbers.get(challenge.mobile)
        return fixed or self._parts.keyring.code(
            challenge.key_id,
            challenge.id,
            challenge.mobile,
            challenge.purpose,
            challenge.generation,
            challenge.code_length,
        )

    def native_digest(self, challenge: Challenge, code: str) -> str:
        """What is kept of a native code that was accepted, so that it is accepted once."""
        sender = challenge.native_sender or ""
        # A gateway that reads codes as numbers takes `01234` for `1234`.
        return self._parts.keyring.digest("native code", sender, challenge.mobile, code.lstrip("0"))

    def outliving_digest(self, mobile: str, sender: str | None) -> str:
        """What is noted while a sender's native codes for a mobile may outlive their challenge."""
        return self._parts.keyring.digest("outliving", sender or "", mobile)

    def open_key(self, subject: Subject) -> str:
        """The same for all challenges of which one at a time may be open."""
        return self._parts.keyring.digest("open", subject.user_id or "", subject.purpose)


def locked(session: Session, challenge_id: str) -> Challenge:
    """A challenge, locked.

    :raises NoChallenge: it was erased meanwhile.
    """
    row = session.get(Challenge, challenge_id, with_for_update=True)
    if row is None:
        raise NoChallenge("this challenge is not there any more")
    return row


def is_void(challenge: Challenge, user_mobile: str | None) -> bool:
    """Whether the user's mobile is neither what it was at the start nor what is being proved."""
    if challenge.user_id is None:
        return False
    return user_mobile not in (challenge.user_mobile, challenge.mobile)


def is_over(challenge: Challenge, now: datetime) -> bool:
    """Whether its time is over; also where the clock was set back to long before its start."""
    return now >= challenge.expires_at or now < challenge.created_at - CLOCK_SKEW


def latest_of(session: Session, user_id: str, purpose: str, now: datetime) -> Challenge | None:
    """A user's last challenge for a purpose, whatever its state.

    One that began in the future, by a clock that was set back since, is none: it would hide those
    that begin now.
    """
    return session.scalars(
        select(Challenge)
        .where(Challenge.user_id == user_id, Challenge.purpose == purpose)
        .where(Challenge.created_at <= now + CLOCK_SKEW)
        .order_by(Challenge.created_at.desc())
        .limit(1)
    ).one_or_none()


def subject_of(challenge: Challenge) -> Subject:
    """Whom a challenge is about, as it was when it began."""
    return Subject(challenge.user_id, challenge.user_mobile, challenge.mobile, challenge.purpose)


def is_used(session: Session, digest: str, now: datetime) -> bool:
    """Whether what has this digest was used up, and the note of that still counts."""
    row = session.get(UsedToken, digest)
    return row is not None and row.until > now
