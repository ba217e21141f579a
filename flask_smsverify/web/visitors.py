"""Who is asking: a user, and what their session has said so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import flask_login
from flask import current_app, g, session
from sqlalchemy.exc import InterfaceError, OperationalError

from ..errors import StoreUnavailable
from ..extension import PENDING_LOGIN, State
from ..host import current_user, plain
from ..models import Verification
from ..verification.policy import CLOCK_SKEW, Status
from .guards import GuardAnswers
from .i18n import Interface
from .targets import Demands

#: The session key of a number that was given and is not proved yet.
GIVEN = "_smsverify_mobile"
#: How long a login may wait for its code.
LOGIN_WAITS = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Web:
    """What the pages of one app need beside its state."""

    state: State
    ui: Interface
    demands: Demands
    guard: GuardAnswers


@dataclass(frozen=True, slots=True)
class Visitor:
    """A user, and what this session has said so far.

    :param id: the user's primary key as text.
    :param given: E.164, a number that was given and is not proved yet; None without one.
    :param logging_in: whether the login waits for the code.
    """

    user: Any
    id: str
    given: str | None = field(repr=False)
    logging_in: bool


def visitor_of(state: State) -> Visitor | None:
    """Who is asking; None for a stranger.

    :raises StoreUnavailable: the host's database could not say.
    """
    try:
        if current_user().is_authenticated:
            user, logging_in = plain(current_user()), False
        else:
            user, logging_in = _waiting_user(state), True
    except (OperationalError, InterfaceError) as error:
        _ask_no_more_who_it_is(state)
        raise StoreUnavailable("the host's database did not answer") from error
    if user is None:
        return None
    user_id = state.users.id_of(user)
    return Visitor(user, user_id, given_by(user_id), logging_in)


def _ask_no_more_who_it_is(state: State) -> None:
    """Let this be a stranger's request: every template asks for the user, and would fail by it."""
    state.db.session.rollback()
    g._login_user = current_app.login_manager.anonymous_user()  # type: ignore[attr-defined]  # Flask-Login's place for it


def _waiting_user(state: State) -> Any:
    """The user whose login waits for its code in this session; None without one."""
    waiting = session.get(PENDING_LOGIN)
    if not isinstance(waiting, dict):
        return None
    age = datetime.now(UTC).timestamp() - waiting["at"]
    user: Any = None
    if -CLOCK_SKEW.total_seconds() <= age < LOGIN_WAITS.total_seconds():
        user = state.users.find(waiting["user"])
    return user if user is not None and user.is_active else None


def given_by(user_id: str) -> str | None:
    """The number that this user gave in this session; another user's is not theirs."""
    whose, mobile = session.get(GIVEN) or (None, None)
    return mobile if whose == user_id else None


def is_done(web: Web, visitor: Visitor, status: Status, demand: str) -> bool:
    """Whether nothing is asked of this visitor: no number to prove, no fresher proof demanded."""
    if visitor.given:
        return False
    if status.exempt:
        return True
    if status.state != "verified" or status.verified_at is None or visitor.logging_in:
        return False
    within = web.demands.load(demand, visitor.id)
    return within is None or datetime.now(UTC) - status.verified_at <= within


def needs_fresh_login(state: State, visitor: Visitor, status: Status, wanted: str | None) -> bool:
    """Whether a number that was proved once is to be changed by a login that is not fresh.

    One that was only remembered is not, and one that still waits for its code is none yet.
    """
    if wanted is None or wanted == status.mobile:
        return False
    is_fresh = flask_login.login_fresh() and not visitor.logging_in
    return not is_fresh and _was_proved(state, visitor, status)


def _was_proved(state: State, visitor: Visitor, status: Status) -> bool:
    """Whether the user's number was ever proved; the status of an exempt one does not tell."""
    if status.exempt:
        row = state.ledger.read(lambda session: session.get(Verification, visitor.id))
        status = state.policy.standing(row, status.mobile, datetime.now(UTC))
    return status.verified_at is not None


def log_in(visitor: Visitor) -> None:
    """Finish a login that waited, in a session that nobody knew before."""
    waiting = session.get(PENDING_LOGIN, {})
    session.clear()
    regenerate = getattr(current_app.session_interface, "regenerate", None)
    if regenerate is not None:  # sessions kept on the server have an id of their own
        regenerate(session)
    flask_login.login_user(visitor.user, remember=bool(waiting.get("remember")))
