"""The visitor of a page: a logged-in user, or one whose login waits for a code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from flask import current_app, g, request, session
from sqlalchemy.exc import InterfaceError, OperationalError

from .. import credentials, fresh_login
from ..errors import StoreUnavailable
from ..login_gate import pending_user
from ..state import AppState, get_state
from ..users import current_user, is_logged_in
from ..verification.rules import NEW_NUMBER

#: The session key of a mobile that was entered and is not proved yet.
_NEW_MOBILE = "_smsverify_mobile"


@dataclass(frozen=True, slots=True)
class Visitor:
    """A user and what this session has entered so far.

    :param id: the user's primary key as text.
    :param new_mobile: a mobile that was entered and is not proved yet, in E.164; None without one.
    :param is_login_pending: whether the login waits for a code.
    """

    user: Any
    id: str
    new_mobile: str | None = field(repr=False)
    is_login_pending: bool

    @property
    def has_fresh_login(self) -> bool:
        """Whether the visitor entered credentials a short time ago. A pending login is not one."""
        return fresh_login.is_fresh() and not self.is_login_pending

    def with_new_mobile(self, mobile: str | None) -> Visitor:
        """Keep a mobile in the session until it is proved; None removes it."""
        if mobile is None:
            session.pop(_NEW_MOBILE, None)
        else:
            session[_NEW_MOBILE] = [self.id, mobile]
        return replace(self, new_mobile=mobile)


class ExemptVisitor(Exception):
    """The visitor is a user of another class, whom the host exempts. The pages offer nothing."""


def current_visitor() -> Visitor | None:
    """Return the visitor of this request; None for an anonymous one.

    :raises ExemptVisitor: the visitor is exempt, and no instance of the user model.
    :raises StoreUnavailable: the host's database did not respond.
    """
    state = get_state()
    with _host_database(state):
        if is_logged_in(current_user()):
            user, is_login_pending = state.users.unwrap(current_user()), False
        else:
            user, is_login_pending = pending_user(state), True
    if user is None:
        return None
    if not state.users.knows(user) and state.users.is_exempt(user):
        raise ExemptVisitor
    user_id = state.users.id_of(user)
    new_mobile = _new_mobile_of(user_id)
    if new_mobile is None and not is_login_pending and credentials.are_in_request():
        new_mobile = _mobile_of_open_code(state, user)
    return Visitor(user, user_id, new_mobile, is_login_pending)


def is_authenticated_by_request() -> bool:
    """Return whether the request carries its user's credentials, and no other site can forge it.

    :raises StoreUnavailable: the host's database did not respond.
    """
    with _host_database(get_state()):
        return credentials.are_in_request() and not credentials.are_forgeable()


@contextmanager
def _host_database(state: AppState) -> Iterator[None]:
    """Raise `StoreUnavailable` where the host's database does not respond."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        _treat_as_anonymous(state)
        raise StoreUnavailable("the host's database did not respond") from error


def client_address() -> str | None:
    """Return the address whose limits an anonymous request counts against, as the host gives it."""
    getter = get_state().callbacks.address_getter
    return request.remote_addr if getter is None else getter()


def _treat_as_anonymous(state: AppState) -> None:
    """Let the error page be rendered: every template asks Flask-Login for the user again."""
    state.db.session.rollback()
    g._login_user = current_app.login_manager.anonymous_user()  # type: ignore[attr-defined]  # Flask-Login's place for it


def _new_mobile_of(user_id: str) -> str | None:
    """Return the mobile that this user entered; a mobile that another user entered is ignored."""
    entered_by, mobile = session.get(_NEW_MOBILE) or (None, None)
    return mobile if entered_by == user_id else None


def _mobile_of_open_code(state: AppState, user: Any) -> str | None:
    """Return the mobile that the newest open code was sent to, if it is not the user's own.

    A program without cookies has no session that would keep the mobile that it entered.
    """
    now = state.clock()
    codes = [state.verifier.latest(user, purpose=purpose) for purpose in ("verify", NEW_NUMBER)]
    is_open = [code for code in codes if code and code.state == code.PENDING]
    newest = max(is_open, key=lambda code: code.created_at, default=None)
    if newest is None or now >= newest.expires_at or newest.mobile == state.users.mobile_of(user):
        return None
    return newest.mobile
