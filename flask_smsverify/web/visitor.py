"""The visitor of a page: a logged-in user, or one whose login waits for a code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, cast

import sqlalchemy
from flask import current_app, g, request, session
from sqlalchemy.exc import DBAPIError

from .. import credentials, fresh_login
from ..db.errors import is_operational
from ..errors import StoreUnavailable
from ..login_gate import pending_user
from ..request_cache import has_session
from ..state import AppState, get_state
from ..users import current_user, is_logged_in
from ..verification.issue import Sent
from ..verification.policy import Status
from ..verification.user_records import UserRecord

#: The session key of a mobile that was entered and is not proved yet.
_NEW_MOBILE = "_smsverify_mobile"


@dataclass(frozen=True, slots=True)
class Visitor:
    """A user, the input of this session so far, and what the ledger holds about the user.

    :param id: the user's primary key as text.
    :param new_mobile: a mobile that was entered and is not proved yet, in E.164; None without one.
    :param is_login_pending: whether the login waits for a code.
    """

    user: Any
    id: str
    new_mobile: str | None = field(repr=False)
    is_login_pending: bool
    _record: UserRecord | None = field(default=None, repr=False, compare=False)

    @property
    def record(self) -> UserRecord:
        """What the ledger holds about the user. It is read once, at the first use.

        A change of the user's number whose delay is over is applied before.

        :raises StoreUnavailable: the database did not answer.
        """
        if self._record is None:
            object.__setattr__(self, "_record", _read_record(self.user))
        return cast(UserRecord, self._record)

    @property
    def known_record(self) -> UserRecord | None:
        """The record, if it was read or follows from what was written; None otherwise."""
        return self._record

    @property
    def status(self) -> Status:
        """The user's status."""
        return self.record.status

    def after_write(self) -> Visitor:
        """Return the visitor after a write to the ledger. If needed, the ledger is read again."""
        return replace(self, _record=None)

    def with_record(self, record: UserRecord) -> Visitor:
        """Return the visitor with a record that follows from what was written."""
        return replace(self, _record=record)

    def after_send(self, sent: Sent) -> Visitor:
        """Return the visitor after a send, without a read: as it was when the code was sent."""
        records = get_state().verifier.records
        return self.with_record(records.after_send(self.record, sent))

    @property
    def has_fresh_login(self) -> bool:
        """Whether the visitor entered credentials a short time ago. A pending login is not one."""
        return fresh_login.is_fresh() and not self.is_login_pending

    def with_new_mobile(self, mobile: str | None) -> Visitor:
        """Keep a mobile in the session until it is proved; None removes it.

        Without a session, the open code determines which mobile is being proved.
        """
        if not has_session():
            pass
        elif mobile is None:
            session.pop(_NEW_MOBILE, None)
        else:
            session[_NEW_MOBILE] = [self.id, mobile]
        return replace(self, new_mobile=mobile)


class ExemptVisitor(Exception):
    """The visitor is a user of another class, whom the host exempts. The pages offer nothing."""


def _read_record(user: object) -> UserRecord:
    verifier = get_state().verifier
    record = verifier.records.read(user)
    if not verifier.changes.is_due(record):
        return record
    verifier.changes.apply_due(user, record=record)
    return verifier.records.read(user)


def current_visitor() -> Visitor | None:
    """Return the visitor of this request; None for an anonymous one.

    :raises ExemptVisitor: the visitor is exempt, and not an instance of the user model.
    :raises StoreUnavailable: a database did not respond.
    """
    state = get_state()
    with _host_database(state):
        if is_logged_in(current_user()):
            user, is_login_pending = state.users.unwrap(current_user()), False
        else:
            user, is_login_pending = pending_user(state), True
    if user is None:
        return None
    if not state.users.stands_for_user(user) and state.users.is_exempt(user):
        raise ExemptVisitor
    user_id = state.users.id_of(user)
    visitor = Visitor(user, user_id, _new_mobile_of(user_id), is_login_pending)
    if visitor.new_mobile is None and not is_login_pending and credentials.are_in_request():
        return replace(visitor, new_mobile=_mobile_of_open_code(visitor))
    return visitor


def is_authenticated_by_request() -> bool:
    """Return whether the request carries its user's credentials, and no other site can forge it.

    :raises StoreUnavailable: the host's database did not respond.
    """
    with _host_database(get_state()):
        return credentials.are_in_request() and not credentials.are_forgeable()


def reload_user() -> None:
    """Read the user's row again if the host's session has expired it.

    The layout of an error page may show the user. If the host's database does not respond, the
    visitor is anonymous from then on.
    """
    state = get_state()
    with suppress(StoreUnavailable), _host_database(state):
        row = sqlalchemy.inspect(state.users.unwrap(current_user()), raiseerr=False)
        if row is not None and row.expired and row.session is not None:
            row.session.refresh(row.object)


@contextmanager
def _host_database(state: AppState) -> Iterator[None]:
    """Raise `StoreUnavailable` if the host's database does not respond."""
    try:
        yield
    except DBAPIError as error:
        if not is_operational(error):
            raise
        _treat_as_anonymous(state)
        raise StoreUnavailable("the host's database did not respond") from error


def client_address() -> str | None:
    """Return the address whose limits this request counts against; None if it is unknown."""
    getter = get_state().callbacks.address_getter
    return request.remote_addr if getter is None else getter()


def _treat_as_anonymous(state: AppState) -> None:
    """Make it possible to render the error page: every template loads Flask-Login's user again."""
    state.db.session.rollback()
    g._login_user = current_app.login_manager.anonymous_user()  # type: ignore[attr-defined]  # Flask-Login's place for it


def _new_mobile_of(user_id: str) -> str | None:
    """Return the mobile that this user entered; a mobile that another user entered is ignored."""
    entered_by, mobile = session.get(_NEW_MOBILE) or (None, None)
    return mobile if entered_by == user_id else None


def _mobile_of_open_code(visitor: Visitor) -> str | None:
    """Return the mobile to which the newest open code was sent, if it is not the user's own.

    A program without cookies has no session that would keep the mobile that it entered.
    """
    record = visitor.record
    codes = (record.latest, record.to_new)
    is_open = [code for code in codes if code and code.state == code.PENDING]
    newest = max(is_open, key=lambda code: code.created_at, default=None)
    if newest is None or get_state().clock() >= newest.expires_at:
        return None
    return None if newest.mobile == record.status.mobile else newest.mobile
