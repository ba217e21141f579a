"""The host's users: the adapter to its user model, and the callbacks that replace its defaults."""

from __future__ import annotations

import contextlib
import inspect
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import flask_login
import sqlalchemy
from flask import current_app, has_app_context
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Connection, event, select
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError
from sqlalchemy.orm import Mapper, Session
from werkzeug.local import LocalProxy

from .db.commit_hooks import after_commit
from .db.engine import is_in_memory, refuse_blocking_reader
from .db.models import Verification
from .errors import (
    CodeExpired,
    ConfigurationError,
    MobileError,
    MobileTaken,
    StoreUnavailable,
)
from .settings import Settings
from .verification.policy import Policy

#: The key of `Session.info` with the rows that a SQLite connection had changed before its
#: transaction.
_CHANGES = "smsverify_total_changes"


#: Users that are read at a time for a bulk send.
_PAGE = 500


@dataclass(slots=True)
class Callbacks:
    """Functions of the host app that replace defaults; None keeps the default."""

    unverified_handler: Callable[[Any], Any] | None = None
    exempt_when: Callable[[Any], bool] | None = None
    mobile_getter: Callable[[Any], str | None] | None = None
    mobile_setter: Callable[[Any, str], None] | None = None
    groups_getter: Callable[[Any], Iterable[str]] | None = None
    locale_getter: Callable[[], str | None] | None = None
    address_getter: Callable[[], str | None] | None = None
    user_by_mobile: Callable[[str], Any] | None = None
    user_factory: Callable[[str], Any] | None = None
    before_anonymous_send: Callable[[str, str], None] | None = None
    staff_required: Callable[[], Any] | None = None
    user_locale_getter: Callable[[Any], str | None] | None = None
    recipients_loader: Callable[[str | None], Iterable[Any]] | None = None


class HostUsers:
    """Implements `verification.rules.Users` for the host's user model.

    :param parse_mobile: any spelling → E.164; raises `MobileError`.
    :raises ConfigurationError: the model has no primary key of one column.
    """

    def __init__(
        self,
        db: SQLAlchemy,
        model: type[Any],
        *,
        settings: Settings,
        policy: Policy,
        callbacks: Callbacks,
        parse_mobile: Callable[[object], str],
    ) -> None:
        mapper = sqlalchemy.inspect(model, raiseerr=False)
        if not isinstance(mapper, Mapper) or len(mapper.primary_key) != 1:
            raise ConfigurationError(
                "user_model must be a mapped class with a primary key of one column, "
                "as in init_app(app, db, user_model=User)"
            )
        self._db = db
        if not event.contains(db.session, "after_begin", _remember_changes):
            event.listen(db.session, "after_begin", _remember_changes)
        self.model = model
        self._mapper = mapper
        self._settings = settings
        self._policy = policy
        self._callbacks = callbacks
        self._parse_mobile = parse_mobile

    # --- keys -----------------------------------------------------------------------------------

    def id_of(self, user: object) -> str:
        """Return the primary key as text: an int in decimal, a UUID with hyphens, bytes in hex.

        :raises TypeError: not an instance of the user model.
        :raises ValueError: the user has no primary key yet.
        """
        user = unwrap(user)
        state = sqlalchemy.inspect(user, raiseerr=False)
        if state is None or not isinstance(user, self.model):
            raise TypeError(
                f"expected a {self.model.__name__}, got {type(user).__name__}; where users "
                "of another class log in too, exempt them with @smsverify.exempt_when"
            )
        key = state.identity[0] if state.identity else None
        if key is None:
            key = self._mapper.primary_key_from_instance(user)[0]
        if key is None:
            raise ValueError("the user has no primary key yet; flush the session first")
        return key.hex() if isinstance(key, bytes) else str(key)

    def find(self, user_id: str) -> object | None:
        """Return the user with this key; None if there is none or the text cannot be a key."""
        key = self.key_from_text(user_id)
        return None if key is None else self._db.session.get(self.model, key)

    def key_from_text(self, user_id: str) -> object | None:
        """Return the primary key that a text stands for; None if it cannot be one."""
        wanted = self._mapper.primary_key[0].type.python_type
        try:
            if wanted is bytes:
                return bytes.fromhex(user_id)
            return wanted(user_id) if wanted in (int, uuid.UUID) else user_id
        except ValueError:
            return None

    @property
    def primary_key(self) -> Any:
        """The model's attribute of the primary key, for queries."""
        return self._mapper.get_property_by_column(self._mapper.primary_key[0]).class_attribute

    # --- mobiles --------------------------------------------------------------------------------

    def mobile_of(self, user: object) -> str | None:
        """Return the user's mobile in E.164; None where it is missing or invalid."""
        try:
            return self.valid_mobile_of(user)
        except MobileError:
            return None

    def valid_mobile_of(self, user: object) -> str:
        """Return the user's mobile in E.164, or raise the `MobileError` that says what is wrong."""
        if self._callbacks.mobile_getter is not None:
            mobile = self._callbacks.mobile_getter(unwrap(user))
        else:
            mobile = self._attribute(
                user, self._settings.mobile_field, "MOBILE_FIELD", "mobile_getter"
            )
        return self._parse_mobile(mobile)

    def write_mobile(self, user: object, mobile: str) -> None:
        """Set the user's mobile. The host's transaction commits it."""
        if self._callbacks.mobile_setter is not None:
            self._callbacks.mobile_setter(unwrap(user), mobile)
        else:
            setattr(unwrap(user), self._settings.mobile_field, mobile)

    def store_proved_mobile(
        self, user: object, verification: Verification, *, expected: str | None
    ) -> None:
        """Write a newly proved mobile to the user and commit the host's session.

        :param expected: the user's mobile when the request began, in E.164.
        :raises CodeExpired: the host has given the user another mobile meanwhile, which stays.
        :raises MobileTaken: the host's table has the mobile for another user.
        :raises StoreUnavailable: the host's database did not take the write.
        :raises ConfigurationError: the host's getter does not return what its setter wrote.
        """
        proved = verification.mobile
        if proved is None or proved == self.mobile_of(user):
            return
        try:
            self._replace_mobile(user, proved, expected)
        except Exception as error:
            self._db.session.rollback()
            if isinstance(error, IntegrityError):
                raise MobileTaken("another user has this mobile") from None
            if isinstance(error, OperationalError | InterfaceError):
                raise StoreUnavailable("the host's database did not take the mobile") from error
            raise
        if self.mobile_of(user) != proved:
            raise ConfigurationError(
                "the mobile that is read is not the one that was written: "
                "set @smsverify.mobile_setter together with @smsverify.mobile_getter"
            )

    def _replace_mobile(self, user: object, proved: str, expected: str | None) -> None:
        self._reload(user)
        if self.mobile_of(user) not in (expected, proved):
            raise CodeExpired("the user's mobile changed while the code was checked")
        self.write_mobile(user, proved)
        self._db.session.commit()

    def _reload(self, user: object) -> None:
        """Reload a user in a new transaction, and lock the row.

        An older transaction may return the snapshot of its first query. Pending changes are
        committed. A user of another session stays as it is.
        """
        session = self._db.session()
        if unwrap(user) not in session:
            return
        session.commit()
        session.expire_all()
        # Only the user's own table: PostgreSQL refuses to lock the nullable side of an outer join.
        session.refresh(unwrap(user), with_for_update={"of": self.model})

    # --- exemption ------------------------------------------------------------------------------

    def is_exempt(self, user: object) -> bool:
        """Return whether a group of the user's or `exempt_when` exempts the user."""
        if self._callbacks.exempt_when is not None:
            result: object = self._callbacks.exempt_when(unwrap(user))
            if inspect.isawaitable(result):
                raise ConfigurationError("exempt_when must be a plain function, not an async one")
            if result not in (True, False, None):  # a bound method, for one, would exempt everybody
                raise ConfigurationError(
                    f"exempt_when must return True or False, and returned {type(result).__name__}"
                )
            if result:
                return True
        return self._policy.has_exempt_groups and self._policy.exempts(self._groups_of(user))

    def _groups_of(self, user: object) -> list[str]:
        groups: Any
        if self._callbacks.groups_getter is not None:
            groups = self._callbacks.groups_getter(unwrap(user))
        else:
            groups = self._attribute(
                user, self._settings.groups_field, "GROUPS_FIELD", "groups_getter"
            )
        if groups is None:
            return []
        is_list = isinstance(groups, Iterable) and not isinstance(groups, str)
        groups = list(groups) if is_list else [groups]
        return [
            group if isinstance(group, str) else str(getattr(group, "name", group))
            for group in groups
        ]

    def _attribute(self, user: object, name: str, key: str, callback: str) -> Any:
        try:
            return getattr(unwrap(user), name)
        except AttributeError:
            raise ConfigurationError(
                f"the user model has no attribute {name!r}: set SMSVERIFY_{key}, "
                f"or register a function with @smsverify.{callback}"
            ) from None

    # --- the host's transaction -----------------------------------------------------------------

    def join_transaction(self, user: object, mobile: str) -> Connection:
        """Flush the host's session and return the connection of its transaction.

        :param mobile: set on a new user whose row requires a mobile before it can be flushed.
        :raises MobileTaken: the host's table has the mobile for another user.
        """
        state: Any = sqlalchemy.inspect(unwrap(user), raiseerr=False)
        column = self._mapper.columns.get(self._settings.mobile_field)
        is_new = state is not None and not state.persistent
        if not is_new or column is None or column.nullable:
            self.flush()
            return self._db.session.connection()
        self.write_mobile(user, mobile)
        try:
            self.flush()
        except IntegrityError as error:
            # A new user has other unique columns: the error must name this one.
            if column.name in str(error.orig):
                raise MobileTaken("another user has this mobile") from None
            raise
        return self._db.session.connection()

    def flush(self) -> None:
        """Flush the host's session."""
        self._db.session.flush()

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call back when the host's outermost transaction has committed; never after a rollback."""
        after_commit(self._db.session(), callback)

    # --- sign-in --------------------------------------------------------------------------------

    @property
    def custom_look_up(self) -> Callable[[str], object | None] | None:
        """The host's `user_by_mobile`; None if it has none."""
        look_up = self._callbacks.user_by_mobile
        return None if look_up is None else lambda mobile: unwrap(look_up(mobile))

    @property
    def can_create(self) -> bool:
        """Whether the host has a `user_factory`."""
        return self._callbacks.user_factory is not None

    def may_log_in(self, user: object) -> bool:
        """Return whether a user is active."""
        return is_active(user)

    def create(self, mobile: str) -> object:
        """Call `user_factory`, and flush the new user.

        :raises MobileTaken: the host's table has the mobile for another user.
        :raises ConfigurationError: the factory returned no user.
        """
        factory = self._callbacks.user_factory
        user = None if factory is None else unwrap(factory(mobile))
        if not isinstance(user, self.model):
            raise ConfigurationError(
                f"user_factory must return a {self.model.__name__}, and returned "
                f"{type(user).__name__}"
            )
        self._db.session.add(user)
        if self.mobile_of(user) is None:
            self.write_mobile(user, mobile)
        with self._translating_errors():
            self.flush()
        return user

    def begin_transaction(self) -> Connection:
        """Commit the host's session, and return the connection of its next transaction."""
        with self._translating_errors():
            self._db.session.commit()
            return self._db.session.connection()

    def commit(self) -> None:
        """Commit the host's session.

        :raises MobileTaken: the host's table has the mobile for another user.
        :raises StoreUnavailable: the host's database did not take the write.
        """
        with self._translating_errors():
            self._db.session.commit()

    def rollback(self) -> None:
        """Roll the host's session back."""
        self._db.session.rollback()

    @contextlib.contextmanager
    def _translating_errors(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            column = self._mapper.columns.get(self._settings.mobile_field)
            # A user has other unique columns: the error must name this one.
            if column is not None and column.name in str(error.orig):
                raise MobileTaken("another user has this mobile") from None
            raise
        except (OperationalError, InterfaceError) as error:
            raise StoreUnavailable("the host's database did not take the write") from error

    def connection(self) -> Connection:
        """Return the connection of the host's current transaction."""
        return self._db.session.connection()

    def key_of(self, user: object) -> str:
        """Return the primary key as text, after a flush if the user has none yet."""
        try:
            return self.id_of(user)
        except ValueError:
            self.flush()
            return self.id_of(user)

    def is_user(self, item: object) -> bool:
        """Return whether an object is a user of the host."""
        return isinstance(unwrap(item), self.model)

    def recipients(self, group: str | None) -> Iterable[Any]:
        """Yield the users of a group, or all users, without loading all at once.

        :param group: None: all users.
        """
        if self._callbacks.recipients_loader is not None:
            yield from self._callbacks.recipients_loader(group)
            return
        for user in self._pages():
            if group is None or group in self._groups_of(user):
                yield user

    def _pages(self) -> Iterator[Any]:
        """Yield all users, read by pages in a session of its own."""
        [key] = self._mapper.primary_key
        engine = self._db.session.get_bind(self._mapper)
        # The only connection of an in-memory database belongs to the host's session.
        own = not (isinstance(engine, sqlalchemy.Engine) and is_in_memory(engine))
        last: object = None
        while True:
            session = Session(engine) if own else self._db.session()
            query = select(self.model).order_by(key).limit(_PAGE)
            if last is not None:
                query = query.where(key > last)
            try:
                page = session.scalars(query).all()
                if not page:
                    return
                last = self._mapper.primary_key_from_instance(page[-1])[0]
                yield from page
            finally:
                if own:
                    session.close()

    def locale_of(self, user: object) -> str | None:
        """Return the language of texts to a user, by `user_locale_getter`; None without one."""
        getter = self._callbacks.user_locale_getter
        return None if getter is None else getter(unwrap(user))

    def is_writing(self) -> bool:
        """Return whether the host's SQLite session holds uncommitted writes.

        :raises ConfigurationError: the session has only read, and blocks other commits all the
            same.
        """
        if not (has_app_context() and self._db.session.registry.has()):
            return False
        session = self._db.session()
        if not session.in_transaction():
            return False
        raw: Any = session.connection().connection.dbapi_connection
        if not (isinstance(raw, sqlite3.Connection) and raw.in_transaction):
            return False
        if raw.isolation_level is not None:
            return True  # the driver begins a transaction at the first write
        if raw.total_changes > session.info.get(_CHANGES, raw.total_changes):
            return True
        refuse_blocking_reader(raw)
        return False


def _remember_changes(session: Session, transaction: Any, connection: Connection) -> None:
    """Remember how many rows a SQLite connection has changed when a transaction begins."""
    raw: object = connection.connection.dbapi_connection
    if isinstance(raw, sqlite3.Connection) and not transaction.nested:
        session.info[_CHANGES] = raw.total_changes


def current_user() -> Any:
    """Return Flask-Login's `current_user`.

    :raises ConfigurationError: the app has no login manager.
    """
    if not hasattr(current_app, "login_manager"):
        raise ConfigurationError(
            "Flask-Login is not set up on this app: create LoginManager(app) with a user_loader"
        )
    return flask_login.current_user


def is_logged_in(user: Any) -> bool:
    """Return whether a user is authenticated, by Flask-Login's `is_authenticated`.

    :raises ConfigurationError: it is a method, which would always count as true.
    """
    return _bool_of(user, "is_authenticated")


def is_active(user: Any) -> bool:
    """Return whether a user may log in, by Flask-Login's `is_active`.

    :raises ConfigurationError: it is a method, which would always count as true.
    """
    return _bool_of(user, "is_active")


def _bool_of(user: Any, name: str) -> bool:
    value: object = getattr(user, name)
    if callable(value):
        raise ConfigurationError(
            f"{type(unwrap(user)).__name__}.{name} is a method; make it a property"
        )
    return bool(value)


def unwrap(user: object) -> Any:
    """Return the user behind Flask-Login's `current_user` proxy."""
    return user._get_current_object() if isinstance(user, LocalProxy) else user
