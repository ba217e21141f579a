"""The host's users: the adapter to its user model, and the callbacks that replace its defaults."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import flask_login
import sqlalchemy
from flask import current_app, has_app_context
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Column, Connection, Engine, event, select
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.orm import Mapper, Session, object_session
from sqlalchemy.orm.attributes import instance_state, set_committed_value
from werkzeug.local import LocalProxy

from .column_values import ColumnValues
from .db.autocommit import commits_each_statement, require_transaction
from .db.commit_hooks import after_commit
from .db.engine import is_in_memory, refuse_blocking_reader
from .db.errors import (
    Refusal,
    hidden_parameters,
    hide_values,
    is_invalid_value,
    is_operational,
    is_raised_by_trigger,
    is_refusal,
    is_violation,
    read_refusal,
)
from .db.models import Verification
from .errors import (
    CodeExpired,
    ConfigurationError,
    MobileError,
    MobileRequired,
    MobileTaken,
    SMSVerifyError,
    StoreUnavailable,
)
from .log_events import log_external_error
from .mobile_column import (
    check_mobile_attribute,
    check_unique,
    column_of,
    constraint_names,
    longest_mobile,
)
from .settings import Settings
from .verification.policy import Policy

log = logging.getLogger(__name__)

_ASYNC_REFUSED = (
    "@smsverify.{} must be a plain function, not an async one. Call async code in it by "
    "asgiref.sync.async_to_sync."
)
#: The key of `Session.info` with the rows of users that the host keeps detached.
_ROWS = "smsverify_users"
#: The key of `Session.info` with the rows that a SQLite connection had changed before its
#: transaction.
_CHANGES = "smsverify_total_changes"


#: How many users are read at a time for a bulk send.
_PAGE = 500


@dataclass
class Callbacks:
    """Functions of the host app that replace defaults; None keeps the default.

    :raises ConfigurationError: on assignment of anything that is not a plain function.
    """

    unverified_handler: Callable[[Any], Any] | None = None
    exempt_when: Callable[[Any], bool] | None = None
    mobile_getter: Callable[[Any], str | None] | None = None
    mobile_setter: Callable[[Any, str], None] | None = None
    groups_getter: Callable[[Any], Iterable[str]] | None = None
    user_getter: Callable[[Any], Any] | None = None
    locale_getter: Callable[[], str | None] | None = None
    address_getter: Callable[[], str | None] | None = None
    email_sender: Callable[[Any, str], None] | None = None
    user_by_mobile: Callable[[str], Any] | None = None
    user_factory: Callable[[str], Any] | None = None
    before_anonymous_send: Callable[[str, str], None] | None = None
    staff_required: Callable[[], Any] | None = None
    user_locale_getter: Callable[[Any], str | None] | None = None
    recipients_loader: Callable[[str | None], Iterable[Any]] | None = None

    def __setattr__(self, name: str, function: Any) -> None:
        super().__setattr__(name, function if function is None else plain_function(name, function))


def plain_function(name: str, function: Any) -> Callable[..., Any]:
    """Return a callback that refuses an awaitable result.

    :raises ConfigurationError: it is async or not a function. The message names the callback.
    """
    if not callable(function):
        raise ConfigurationError(f"@smsverify.{name} must be given a function")
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    for candidate in (inner, getattr(inner, "__call__", None)):  # noqa: B004 -- not whether it is callable
        if inspect.iscoroutinefunction(candidate) or inspect.isasyncgenfunction(candidate):
            raise ConfigurationError(_ASYNC_REFUSED.format(name))

    def checked(*arguments: Any) -> Any:
        result = function(*arguments)
        if inspect.isawaitable(result) or inspect.isasyncgen(result):
            if inspect.iscoroutine(result):
                result.close()  # or Python warns that it was never awaited
            raise ConfigurationError(_ASYNC_REFUSED.format(name))
        return result

    return checked


class HostUsers:
    """Implements `verification.host.Users` for the host's user model.

    :param parse_mobile: any spelling → E.164; raises `MobileError`.
    :param dialect: returns the dialect of the database that has a mapper's table.
    :raises ConfigurationError: the model has no primary key of one column that can be converted to
        text, or cannot store a mobile.
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
        dialect: Callable[[Mapper[Any]], Dialect],
    ) -> None:
        mapper = sqlalchemy.inspect(model, raiseerr=False)
        if not isinstance(mapper, Mapper):
            raise ConfigurationError(
                "user_model must be a mapped class, as in init_app(app, db, user_model=User)"
            )
        if len(mapper.primary_key) != 1:
            columns = ", ".join(column.name for column in mapper.primary_key)
            raise ConfigurationError(
                f"the primary key of {model.__name__} has several columns ({columns}), and "
                "flask_smsverify needs a primary key of one column. Add one, and make these UNIQUE."
            )
        self._db = db
        if not event.contains(db.session, "after_begin", _remember_changes):
            event.listen(db.session, "after_begin", _remember_changes)
        self.model = model
        self._mapper = mapper
        self._keys = ColumnValues(mapper.primary_key[0].type, dialect(mapper))
        if not self._keys.has_text:
            raise ConfigurationError(
                f"the primary key of {model.__name__} is a {self._keys.leaf!r}, and "
                "flask_smsverify needs a number, text, a UUID or bytes. Add such a key, and make "
                "this one UNIQUE."
            )
        self._settings = settings
        self._policy = policy
        self._callbacks = callbacks
        self._parse_mobile = parse_mobile
        self._check_mobile_attribute(dialect(mapper))

    def _check_mobile_attribute(self, dialect: Dialect) -> None:
        """Refuse an attribute that cannot hold a mobile, unless the host's setter replaces it."""
        settings = self._settings
        if self._callbacks.mobile_setter is not None:
            return
        check_mobile_attribute(
            self._mapper,
            settings.mobile_field,
            dialect,
            example=longest_mobile(settings.allowed_regions),
            parse_mobile=self._parse,
        )
        check_unique(
            self._mapper,
            settings.mobile_field,
            mobile_policy=settings.mobile_policy,
            accounts_per_mobile=settings.accounts_per_mobile,
        )

    # --- instances ------------------------------------------------------------------------------

    def unwrap(self, user: object) -> Any:
        """Return the instance of the user model that Flask-Login's user stands for.

        That is `current_user` without its proxy, or what `user_getter` returns for it. An object
        that stands for no user of the model is returned as it is.
        """
        user = without_proxy(user)
        getter = self._callbacks.user_getter
        if getter is None or isinstance(user, self.model):
            return user
        found = without_proxy(getter(user))
        return user if found is None else found

    def stands_for_user(self, user: object) -> bool:
        """Return whether a logged-in object is, or stands for, an instance of the user model."""
        return isinstance(self.unwrap(user), self.model)

    def _attached(self, user: object) -> Any:
        """Return the user as an instance of a session, whose attributes are those of the row.

        A user loader may return a cached or expunged user, whose attributes may be old.
        """
        user = self.unwrap(user)
        if not isinstance(user, self.model):
            return user
        state = instance_state(user)
        if not state.detached:
            return user
        session = self._db.session()
        rows: dict[Any, Any] = session.info.setdefault(_ROWS, {})  # a session holds them weakly
        row = rows.get(state.identity)
        if row is None or row not in session:
            with session.no_autoflush:
                row = session.get(self.model, state.identity)
            rows[state.identity] = row
        return row if row is not None else user

    # --- keys -----------------------------------------------------------------------------------

    def id_of(self, user: object) -> str:
        """Return the primary key as text: an int in decimal, a UUID with hyphens, bytes in hex.

        :raises TypeError: not an instance of the user model.
        :raises ValueError: the user has no primary key yet.
        """
        user = self.unwrap(user)
        if getattr(user, "is_anonymous", False):
            raise TypeError("nobody is logged in: put @login_required above the view")
        if not isinstance(user, self.model):
            raise TypeError(
                f"expected a {self.model.__name__}, got {type(user).__name__}; where users "
                "of another class log in too, exempt them with @smsverify.exempt_when, and where "
                "a class wraps the user, set @smsverify.user_getter"
            )
        identity = instance_state(user).identity
        key = identity[0] if identity else None
        if key is None:
            key = self._mapper.primary_key_from_instance(user)[0]
        if key is None:
            raise ValueError("the user has no primary key yet; flush the session first")
        return self._keys.to_text(key)

    def find(self, user_id: str) -> object | None:
        """Return the user with this key; None if there is none or the text cannot be a key."""
        key = self.key_from_text(user_id)
        return None if key is None else self._db.session.get(self.model, key)

    def key_from_text(self, user_id: str) -> object | None:
        """Return the primary key that a text stands for; None if it cannot be one."""
        try:
            key: object = self._keys.from_text(user_id)
        except ValueError:
            return None
        return key

    @property
    def primary_key(self) -> Any:
        """The model's attribute of the primary key, for queries."""
        return self._mapper.get_property_by_column(self._mapper.primary_key[0]).class_attribute

    # --- mobiles --------------------------------------------------------------------------------

    def mobile_of(self, user: object) -> str | None:
        """Return the user's mobile in E.164; None if it is missing or invalid."""
        try:
            return self.valid_mobile_of(user)
        except MobileError:
            return None

    def valid_mobile_of(self, user: object) -> str:
        """Return the user's mobile in E.164, or raise the `MobileError` that says what is wrong."""
        user = self._attached(user)
        if not isinstance(user, self.model):
            raise MobileRequired  # a user of another class, whom the host exempts
        if self._callbacks.mobile_getter is not None:
            return self._parse(self._callbacks.mobile_getter(user))
        return self._parse(
            self._attribute(user, self._settings.mobile_field, "MOBILE_FIELD", "mobile_getter")
        )

    def _parse(self, value: object) -> str:
        """Return a mobile in E.164 from the host's value: text, or an object with its text."""
        if value is not None and not isinstance(value, str | bytes | int | float):
            import phonenumbers  # here, because its metadata takes long to load

            if isinstance(value, phonenumbers.PhoneNumber):  # also that of SQLAlchemy-Utils
                value = phonenumbers.format_number(value, phonenumbers.PhoneNumberFormat.E164)
            else:
                value = str(value)
        return self._parse_mobile(value)

    def write_mobile(self, user: object, mobile: str) -> None:
        """Set the user's mobile. The host's transaction commits it."""
        user = self.unwrap(user)
        if self._callbacks.mobile_setter is not None:
            self._callbacks.mobile_setter(user, mobile)
        else:
            setattr(user, self._settings.mobile_field, mobile)

    def refuse_unstorable(self, user: object, mobile: str) -> None:
        """Refuse a mobile that the host's table cannot store, before a code is sent to it.

        The mobile is written and rolled back. A mobile that another row has is not refused: that
        would reveal who has an account. A host's setter is not called, because it may do more. A
        connection that commits each statement could not roll back, so nothing is tried on it.

        :raises ConfigurationError: the message names the column and the remedy.
        :raises StoreUnavailable: the host's database did not take the write.
        """
        if self._callbacks.mobile_setter is not None or mobile == self.mobile_of(user):
            return
        row = self._attached(user)
        session = object_session(row)
        if session is None or commits_each_statement(
            session.connection(bind_arguments={"mapper": self._mapper})
        ):
            return
        trial = session.begin_nested()
        failure: Exception | None = None
        try:
            self._write(row, mobile)
            session.flush()
        except Exception as error:  # noqa: BLE001 -- a model's validation may raise anything
            failure = self._explain(error, is_written=True)
        trial.rollback()
        session.commit()  # releases the locks
        if failure is not None and not isinstance(failure, MobileTaken):
            raise failure from None

    def store_proved_mobile(
        self, user: object, verification: Verification, *, expected: str | None
    ) -> None:
        """Write a newly proved mobile to the user's row and commit the host's session.

        :param expected: the user's mobile when the request began, in E.164.
        :raises CodeExpired: in the meantime the host has given the user another mobile, which
            stays, or has deleted the user.
        :raises MobileTaken: the host's table has the mobile for another user.
        :raises StoreUnavailable: the host's database did not take the write.
        :raises ConfigurationError: the row cannot store the mobile, or the host's getter does not
            return what its setter wrote. The message names the remedy.
        """
        proved = verification.mobile
        if proved is None or proved == self.mobile_of(user):
            return
        row = self._attached(user)
        session = object_session(row)
        if session is None:
            raise CodeExpired("the user's row no longer exists")
        is_written = False
        try:
            self._reload(session, row)
            self._refuse_changed(row, (expected, proved))
            is_written = True
            is_column = self._write(row, proved)
            session.commit()
        except Exception as error:
            session.rollback()
            explained = self._explain(error, is_written=is_written)
            if explained is error:
                raise
            raise explained from None
        # A column that was flushed is stored. Reading it back could read a replica.
        is_stored = is_column and self._callbacks.mobile_getter is None
        if not is_stored and self.mobile_of(row) != proved:
            raise ConfigurationError(
                "the mobile that is read is not the one that was written: "
                "set @smsverify.mobile_setter together with @smsverify.mobile_getter"
            )
        given = self.unwrap(user)
        if given is not row and column_of(self._mapper, self._settings.mobile_field) is not None:
            set_committed_value(given, self._settings.mobile_field, proved)

    def _refuse_changed(self, row: Any, accepted: tuple[str | None, str]) -> None:
        if self.mobile_of(row) not in accepted:
            raise CodeExpired("the user's mobile changed while the code was checked")

    def _write(self, row: Any, mobile: str) -> bool:
        """Set a mobile; return whether a flush will write it to the column of `MOBILE_FIELD`."""
        self.write_mobile(row, mobile)
        column = column_of(self._mapper, self._settings.mobile_field)
        if column is None:
            return False
        prop = self._mapper.get_property_by_column(column)
        added = sqlalchemy.inspect(row).attrs[prop.key].history.added
        return bool(added) and self._is_spelling_of(added[0], mobile)

    def _is_spelling_of(self, value: object, mobile: str) -> bool:
        try:
            return self._parse(value) == mobile
        except MobileError:
            return False

    def _explain(self, error: Exception, *, is_written: bool) -> Exception:
        """Return the error that a failed write of the mobile means, without the mobile.

        :param is_written: whether the mobile had been set.
        """
        if isinstance(error, SMSVerifyError):
            return error
        name = f"{self.model.__name__}.{self._settings.mobile_field}"
        if isinstance(error, DBAPIError) and is_refusal(error):
            refusal = read_refusal(error)
            if is_written and self._is_about_mobile(refusal, error):
                if refusal.is_unique:
                    return MobileTaken("another user has this mobile")
                return ConfigurationError(
                    f"the database refused a number in E.164 in {name} ({refusal}). Change the "
                    "column or its constraint, or register @smsverify.mobile_setter"
                )
            return ConfigurationError(
                f"the database refused the user's row because of {refusal}, which is not about "
                f"{name}. flask_smsverify commits the host's session when it stores a mobile"
            )
        if is_operational(error):
            return StoreUnavailable("the host's database did not take the mobile")
        if isinstance(error, InvalidRequestError) and not is_written:
            return CodeExpired("the user's row no longer exists")
        if isinstance(error, DBAPIError):
            hide_values(error)  # the host logs it
        if is_written and not isinstance(error, DBAPIError):
            log_external_error(log, "%s was not set", name, error=error, event="mobile_not_set")
            return ConfigurationError(
                f"{name} cannot be set to a number in E.164: it raised {type(error).__name__}. "
                "Change the model, or register @smsverify.mobile_setter"
            )
        return error

    def _is_about_mobile(self, refusal: Refusal, error: DBAPIError) -> bool:
        """Return whether a refusal names the mobile's column, or cannot be about another one."""
        column = column_of(self._mapper, self._settings.mobile_field)
        if self._callbacks.mobile_setter is not None or column is None:
            return refusal.is_unique or is_invalid_value(error)  # the setter wrote little else
        if not refusal.names and (is_invalid_value(error) or is_raised_by_trigger(error)):
            return True
        names = {column.name, f"{column.table}.{column.name}"} | constraint_names(column)
        if refusal.constraint is not None and not refusal.columns:
            names |= self._names_in_database(column)
        return bool(names & refusal.names) or any(
            re.search(rf"\b{re.escape(column.name)}\b", name) for name in refusal.names
        )

    def _names_in_database(self, column: Column[Any]) -> set[str]:
        """Return the names of a column's constraints that migrations may have created."""
        table: Any = column.table
        bind = self._db.session().get_bind(mapper=self._mapper)
        if not isinstance(bind, Engine):
            return set()  # a test's connection, whose transaction has failed
        with bind.connect() as connection:
            inspector = sqlalchemy.inspect(connection)
            indexes = inspector.get_indexes(table.name, schema=table.schema)
            checks = inspector.get_check_constraints(table.name, schema=table.schema)
        word = re.compile(rf"\b{re.escape(column.name)}\b")
        return {str(index["name"]) for index in indexes if column.name in index["column_names"]} | {
            str(check["name"]) for check in checks if word.search(check["sqltext"])
        }

    def _reload(self, session: Session, row: Any) -> None:
        """Reload a user in a new transaction, and lock the row.

        An older transaction may return the snapshot of its first query. Pending changes are
        committed.
        """
        session.commit()
        session.expire_all()
        # Only the user's own table: PostgreSQL refuses to lock the nullable side of an outer join.
        session.refresh(row, with_for_update={"of": self.model})

    # --- exemption ------------------------------------------------------------------------------

    def is_exempt(self, user: object) -> bool:
        """Return whether one of the user's groups, or `exempt_when`, exempts the user."""
        if self._callbacks.exempt_when is not None:
            result: object = self._callbacks.exempt_when(self.unwrap(user))
            if result not in (True, False, None):  # a bound method, for one, would exempt everybody
                raise ConfigurationError(
                    f"exempt_when must return True or False, and returned {type(result).__name__}"
                )
            if result:
                return True
        if not self._policy.has_exempt_groups:
            return False
        return self._policy.exempts(self._groups_of(user))

    def _groups_of(self, user: object) -> list[str]:
        groups: Any
        if self._callbacks.groups_getter is not None:
            groups = self._callbacks.groups_getter(self.unwrap(user))
        elif not self.stands_for_user(user):
            return []  # a user of another class, whom only `exempt_when` can exempt
        else:
            groups = self._attribute(
                self._attached(user), self._settings.groups_field, "GROUPS_FIELD", "groups_getter"
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
            return getattr(user, name)
        except AttributeError:
            raise ConfigurationError(
                f"the user model has no attribute {name!r}: set SMSVERIFY_{key}, "
                f"or register a function with @smsverify.{callback}"
            ) from None
        except InvalidRequestError:  # the user loader left the column out, with `raiseload`
            session = object_session(user)
            if session is None or name not in self._mapper.column_attrs:
                raise
            session.refresh(user, [name])
            return getattr(user, name)

    # --- the host's transaction -----------------------------------------------------------------

    def join_transaction(self, user: object, mobile: str) -> Connection:
        """Flush the host's session and return the connection of its transaction.

        :param mobile: set on a new user whose row requires a mobile before it can be flushed.
        :raises MobileTaken: the host's table has the mobile for another user.
        :raises ConfigurationError: the connection commits each statement.
        """
        state: Any = sqlalchemy.inspect(self.unwrap(user), raiseerr=False)
        column = column_of(self._mapper, self._settings.mobile_field)
        is_new = state is not None and not state.persistent
        require_transaction(self._db.session.connection())
        if not is_new or column is None or column.nullable:
            self.flush()
            return self._db.session.connection()
        self.write_mobile(user, mobile)
        try:
            self.flush()
        except DBAPIError as error:
            if not is_violation(error):
                raise
            # A new user has other unique columns: the error must name this one.
            refusal = read_refusal(error)
            if refusal.is_unique and self._is_about_mobile(refusal, error):
                raise MobileTaken("another user has this mobile") from None
            raise
        return self._db.session.connection()

    def flush(self) -> None:
        """Flush the host's session."""
        with hidden_parameters:
            self._db.session.flush()

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call a function after the host's outermost commit; never after a rollback."""
        after_commit(self._db.session(), callback)

    # --- sign-in --------------------------------------------------------------------------------

    @property
    def custom_look_up(self) -> Callable[[str], object | None] | None:
        """The host's `user_by_mobile`; None if it has none."""
        look_up = self._callbacks.user_by_mobile
        return None if look_up is None else lambda mobile: without_proxy(look_up(mobile))

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
        user = None if factory is None else without_proxy(factory(mobile))
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
        """Commit the host's session, and return the connection of its next transaction.

        :raises ConfigurationError: the connection commits each statement.
        """
        with self._translating_errors():
            self._db.session.commit()
            return require_transaction(self._db.session.connection())

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
            with hidden_parameters:
                yield
        except DBAPIError as error:
            if is_refusal(error):
                refusal = read_refusal(error)
                # A user has other unique columns: the error must name this one.
                if refusal.is_unique and self._is_about_mobile(refusal, error):
                    raise MobileTaken("another user has this mobile") from None
                raise
            if is_operational(error):
                raise StoreUnavailable("the host's database did not take the write") from error
            raise

    def connection(self) -> Connection:
        """Return the connection of the host's current transaction."""
        return self._db.session.connection()

    def id_after_flush(self, user: object) -> str:
        """Return the primary key as text, after a flush if the user has none yet."""
        try:
            return self.id_of(user)
        except ValueError:
            self.flush()
            return self.id_of(user)

    def is_user(self, item: object) -> bool:
        """Return whether a recipient is a user of the host.

        Unlike `stands_for_user`, it does not call `user_getter`: a recipient may be a number.
        """
        return isinstance(without_proxy(item), self.model)

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
        """Yield all users, read page by page in a separate session."""
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
        """Return the language of texts to a user from `user_locale_getter`; None without one."""
        getter = self._callbacks.user_locale_getter
        return None if getter is None else getter(self.unwrap(user))

    def is_writing(self) -> bool:
        """Return whether the host's SQLite session holds uncommitted writes.

        :raises ConfigurationError: the session has only read, but still blocks other commits.
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
    """Return whether a user is authenticated: Flask-Login's `is_authenticated`.

    :raises ConfigurationError: it is a method, which would always count as true.
    """
    return _bool_of(user, "is_authenticated")


def is_active(user: Any) -> bool:
    """Return whether a user may log in: Flask-Login's `is_active`.

    :raises ConfigurationError: it is a method, which would always count as true.
    """
    return _bool_of(user, "is_active")


def _bool_of(user: Any, name: str) -> bool:
    value: object = getattr(user, name)
    if callable(value):
        raise ConfigurationError(
            f"{type(without_proxy(user)).__name__}.{name} is a method; make it a property"
        )
    return bool(value)


def without_proxy(user: object) -> Any:
    """Return the user behind Flask-Login's `current_user` proxy."""
    return user._get_current_object() if isinstance(user, LocalProxy) else user
