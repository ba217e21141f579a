"""What the host app has: its users, its session, its functions in place of our defaults."""

from __future__ import annotations

import inspect
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import flask_login
import sqlalchemy
from flask import current_app, has_app_context
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Connection, event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapper, Session, SessionTransaction
from werkzeug.local import LocalProxy

from .errors import ConfigurationError, MobileTaken
from .settings import Settings
from .verification.policy import Policy


@dataclass(slots=True)
class Functions:
    """What a host put in the place of our defaults; None: the default."""

    unverified_handler: Callable[[Any], Any] | None = None
    exempt_when: Callable[[Any], bool] | None = None
    mobile_getter: Callable[[Any], str | None] | None = None
    mobile_setter: Callable[[Any, str], None] | None = None
    groups_getter: Callable[[Any], Iterable[str]] | None = None
    locale_getter: Callable[[], str | None] | None = None


class HostUsers:
    """The host's users, as the verifier asks about them.

    :raises ConfigurationError: the model has no single-column primary key.
    """

    def __init__(
        self,
        db: SQLAlchemy,
        model: type[Any],
        settings: Settings,
        policy: Policy,
        functions: Functions,
    ) -> None:
        mapper = sqlalchemy.inspect(model, raiseerr=False)
        if not isinstance(mapper, Mapper) or len(mapper.primary_key) != 1:
            raise ConfigurationError(
                "user_model must be a mapped class with a primary key of one column, "
                "as in init_app(app, db, user_model=User)"
            )
        self._db = db
        self.model = model
        self._mapper = mapper
        self._settings = settings
        self._policy = policy
        self._functions = functions

    def id_of(self, user: object) -> str:
        """The primary key as text: an int in decimal, a UUID with its hyphens, bytes in hex."""
        state = sqlalchemy.inspect(plain(user), raiseerr=False)
        if state is None or not isinstance(plain(user), self.model):
            raise TypeError(
                f"expected a {self.model.__name__}, got {type(plain(user)).__name__}; where users "
                "of another class log in too, exempt them with @smsverify.exempt_when"
            )
        key = state.identity[0] if state.identity else None
        if key is None:
            key = self._mapper.primary_key_from_instance(plain(user))[0]
        if key is None:
            raise ValueError("the user has no primary key yet; flush the session first")
        return key.hex() if isinstance(key, bytes) else str(key)

    def mobile_of(self, user: object) -> str | None:
        """The mobile as the host has it."""
        if self._functions.mobile_getter is not None:
            return self._functions.mobile_getter(plain(user))
        mobile: str | None = self._attribute(
            user, self._settings.mobile_field, "MOBILE_FIELD", "mobile_getter"
        )
        return mobile

    def read_again(self, user: object) -> None:
        """Read a user anew, and keep the row from others until the transaction ends.

        It is a new transaction, for an old one may show what was there when it began; so what the
        host's functions read beside the user is new as well. What was pending is committed.
        A user that is not of this session stays as it is.
        """
        session = self._db.session()
        if plain(user) not in session:
            return
        session.commit()
        session.expire_all()
        # Not the rows of what is loaded with a user: PostgreSQL locks nothing behind an outer join.
        session.refresh(plain(user), with_for_update={"of": self.model})

    def set_mobile(self, user: object, mobile: str) -> None:
        """Write a proved mobile to the user and commit the host's session."""
        self.write_mobile(user, mobile)
        self._db.session.commit()

    def write_mobile(self, user: object, mobile: str) -> None:
        """Write a proved mobile to the user, to be committed with the host's session."""
        if self._functions.mobile_setter is not None:
            self._functions.mobile_setter(plain(user), mobile)
        else:
            setattr(plain(user), self._settings.mobile_field, mobile)

    def admit(self, user: object, mobile: str) -> Connection:
        """The connection of the host's transaction, with what was pending written to it.

        :param mobile: what a new user gets before, whose row must hold a mobile.
        :raises MobileTaken: the host's table has it for another user.
        """
        state: Any = sqlalchemy.inspect(plain(user), raiseerr=False)
        column = self._mapper.columns.get(self._settings.mobile_field)
        is_new = state is not None and not state.persistent
        if not is_new or column is None or column.nullable:
            self.flush()
            return self._db.session.connection()
        self.write_mobile(user, mobile)
        try:
            self.flush()
        except IntegrityError as error:
            # By the name of a column or a constraint: a new user has other columns to be unique.
            if column.name in str(error.orig):
                raise MobileTaken("another user has this mobile") from None
            raise
        return self._db.session.connection()

    def flush(self) -> None:
        """Write what is pending to the host's transaction."""
        self._db.session.flush()

    def is_exempt(self, user: object) -> bool:
        """Whether a group of the user's, or the host's own rule, exempts them."""
        if self._functions.exempt_when is not None:
            said: object = self._functions.exempt_when(plain(user))
            if inspect.isawaitable(said):
                raise ConfigurationError("exempt_when must be a plain function, not an async one")
            if said:
                return True
        if not self._policy.exempt_groups:
            return False
        return self._policy.exempts(self._groups_of(user))

    def find(self, user_id: str) -> object | None:
        """The user with that key; None where there is none, or where it cannot be a key."""
        try:
            key = self._key_of(user_id)
        except ValueError:
            return None
        return self._db.session.get(self.model, key)

    def _key_of(self, user_id: str) -> object:
        """The text of a key as the key again. A type of the host's own takes the text itself."""
        wanted = self._mapper.primary_key[0].type.python_type
        if wanted is bytes:
            return bytes.fromhex(user_id)
        return wanted(user_id) if wanted in (int, uuid.UUID) else user_id

    def after_commit(self, announce: Callable[[], None]) -> None:
        """Call it when the session's outermost transaction is committed; never after a rollback."""
        session = self._db.session()
        if _ANNOUNCEMENTS not in session.info:
            session.info[_ANNOUNCEMENTS] = []
            event.listen(session, "after_commit", _announce)
            event.listen(session, "after_soft_rollback", _announce_less)
            event.listen(session, "after_transaction_end", _announce_nothing_more)
        within: list[SessionTransaction] = []
        transaction = session.get_nested_transaction() or session.get_transaction()
        while transaction is not None:
            within.append(transaction)
            transaction = transaction.parent
        session.info[_ANNOUNCEMENTS].append(_Announcement(announce, within))

    def is_writing(self) -> bool:
        """Whether the host's SQLite session holds writes that are not committed.

        The driver opens a transaction at the first write only, unless the host took that over
        (then `isolation_level` is None), where nothing can be told.
        """
        if not (has_app_context() and self._db.session.registry.has()):
            return False
        session = self._db.session()
        if not session.in_transaction():
            return False
        raw: Any = session.connection().connection.dbapi_connection
        return isinstance(raw, sqlite3.Connection) and (
            raw.isolation_level is not None and raw.in_transaction
        )

    def _groups_of(self, user: object) -> list[str]:
        groups: Any
        if self._functions.groups_getter is not None:
            groups = self._functions.groups_getter(plain(user))
        else:
            groups = self._attribute(
                user, self._settings.groups_field, "GROUPS_FIELD", "groups_getter"
            )
        if groups is None:
            return []
        listed = isinstance(groups, Iterable) and not isinstance(groups, str)
        groups = list(groups) if listed else [groups]
        return [
            group if isinstance(group, str) else str(getattr(group, "name", group))
            for group in groups
        ]

    def _attribute(self, user: object, name: str, key: str, instead: str) -> Any:
        try:
            return getattr(plain(user), name)
        except AttributeError:
            raise ConfigurationError(
                f"the user model has no attribute {name!r}: set SMSVERIFY_{key}, "
                f"or give a function with @smsverify.{instead}"
            ) from None


def current_user() -> Any:
    """Flask-Login's `current_user`.

    :raises ConfigurationError: the app has no login manager.
    """
    if not hasattr(current_app, "login_manager"):
        raise ConfigurationError(
            "Flask-Login is not set up on this app: LoginManager(app), with a user_loader"
        )
    return flask_login.current_user


def plain(user: object) -> Any:
    """The user behind Flask-Login's `current_user`."""
    return user._get_current_object() if isinstance(user, LocalProxy) else user


#: Where a session keeps what is announced when it commits.
_ANNOUNCEMENTS = "smsverify_announcements"


@dataclass(frozen=True, slots=True)
class _Announcement:
    """What is announced once a transaction is committed.

    :param within: the savepoints it was made in, innermost first, and the transaction.
    """

    make: Callable[[], None]
    within: Sequence[SessionTransaction]


def _announce(session: Session) -> None:
    if session.in_nested_transaction():  # a savepoint; the transaction itself is still open
        return
    waiting, session.info[_ANNOUNCEMENTS] = session.info[_ANNOUNCEMENTS], []
    for announcement in waiting:
        announcement.make()


def _announce_less(session: Session, ended: SessionTransaction) -> None:
    """Drop what was to be announced of a transaction, or a savepoint, that was rolled back."""
    rolled_back = ended
    while rolled_back.parent is not None and not rolled_back.nested:
        rolled_back = rolled_back.parent  # a flush that failed ends what it was made in
    session.info[_ANNOUNCEMENTS] = [
        announcement
        for announcement in session.info[_ANNOUNCEMENTS]
        if rolled_back not in announcement.within
    ]


def _announce_nothing_more(session: Session, ended: SessionTransaction) -> None:
    if ended.parent is None:  # also by `close`, which is neither a commit nor a rollback
        session.info[_ANNOUNCEMENTS] = []
