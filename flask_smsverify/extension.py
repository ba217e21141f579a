"""The extension object: `SMSVerify.init_app` and the methods that apps call."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import flask_login
from flask import Blueprint, Flask, current_app, has_app_context, url_for
from flask.typing import ResponseReturnValue
from flask_sqlalchemy import SQLAlchemy

from . import admin, cli, credentials, fresh_login, guard, login_gate, web
from .build import build_state, read_settings
from .db import models
from .db.models import Batch
from .errors import ConfigurationError, ProblemError, SenderError, SMSVerifyError
from .i18n.catalogue import default_locale
from .messaging.bulk import BulkSends
from .messaging.event_catalogue import Event, EventCatalogue
from .messaging.event_queue import Queued
from .messaging.outbox import Outbox
from .messaging.tracking import Tracker
from .senders.base import Sender
from .state import get_state
from .users import Callbacks
from .verification.verifier import Verifier

F = TypeVar("F", bound=Callable[..., Any])


class SMSVerify:
    """Phone verification for a Flask app.

    ::

        smsverify = SMSVerify()
        smsverify.init_app(app, db, user_model=User)

    Callbacks such as `mobile_getter` belong to the object and serve every app that it was
    initialized on. Everything else is kept per app, in `app.extensions["smsverify"]`.
    """

    def __init__(
        self, app: Flask | None = None, db: SQLAlchemy | None = None, *, user_model: Any = None
    ) -> None:
        self._callbacks = Callbacks()
        self._gateways: dict[str, type[Sender]] = {}
        self._events = EventCatalogue()
        self._apps: weakref.WeakSet[Flask] = weakref.WeakSet()
        if app is not None:
            self.init_app(app, db, user_model=user_model)

    def init_app(self, app: Flask, db: SQLAlchemy | None = None, *, user_model: Any = None) -> None:
        """Read the settings and attach pages, guards and commands to an app.

        :param db: the host's Flask-SQLAlchemy object, already initialized on the app.
        :param user_model: the mapped class of the host's users.
        :raises ConfigurationError: a setting is missing or invalid; the message says how to fix it.
        """
        if "smsverify" in app.extensions:
            raise ConfigurationError("SMSVerify.init_app was already called on this app")
        if db is None or user_model is None:
            raise ConfigurationError(
                "init_app needs the database and the user model: init_app(app, db, user_model=User)"
            )
        if "sqlalchemy" not in app.extensions:
            raise ConfigurationError("call db.init_app(app) before smsverify.init_app(app, db, …)")
        if not app.config.get("SECRET_KEY"):
            raise ConfigurationError("SECRET_KEY is not set; codes and tokens are derived from it")
        settings = read_settings(app)
        ui = web.make_interface(self._callbacks, default_region=settings.default_region)
        app.extensions["smsverify"] = build_state(
            app,
            db,
            user_model,
            settings=settings,
            callbacks=self._callbacks,
            gateways=self._gateways,
            events=self._events,
            guard_responses=web.GuardResponses(ui),
            locale=lambda: ui.translator.locale,
        )
        try:
            models.install(db.metadata, dialect=app.extensions["smsverify"].ledger.dialect)
            web.register(app, ui)
            admin.register(app)
            guard.run_checks_last(app)
            guard.guard_patterns(app)
            fresh_login.connect(app)
            credentials.connect(app)
            for changed in (flask_login.user_logged_in, flask_login.user_logged_out):
                changed.connect(guard.drop_stamp, app)
            app.cli.add_command(cli.smsverify)
        except BaseException:
            del app.extensions["smsverify"]  # a second call must report this error again
            raise
        self._apps.add(app)

    # --- messages -------------------------------------------------------------------------------

    def notify(
        self,
        event: str,
        user: Any = None,
        *,
        dedupe_key: str | None = None,
        not_before: datetime | None = None,
        expires_at: datetime | None = None,
        **values: object,
    ) -> Queued:
        """Queue the texts of an event, for a user and for the staff, in the host's session.

        They are sent after the host has committed, and never if the transaction or the savepoint is
        rolled back. This costs one INSERT and no network access. ::

            smsverify.notify("invoice.created", invoice.user, invoice_number=invoice.number, …)
            db.session.commit()

        :param user: the user whose mobile gets the user's text; None if the event is not about a
            user.
        :param dedupe_key: a second text of the same event to the same recipient with the same key
            is not queued. It raises nothing, so a job that runs twice sends the text once.
        :param not_before: when to send at the earliest; aware.
        :param expires_at: when the text becomes pointless; aware.
        :param values: the values that the texts show.
        :raises ConfigurationError: there is no such event.
        """
        return get_state().event_queue.notify(
            event,
            user,
            values,
            dedupe_key=dedupe_key,
            not_before=not_before,
            expires_at=expires_at,
        )

    def send(
        self,
        text: str,
        to: Any,
        *,
        batch: str | None = None,
        dedupe_key: str | None = None,
        not_before: datetime | None = None,
    ) -> Batch:
        """Queue one text to many, and return the batch with its id and counts.

        Recipients are read one by one and added in slices, each with a commit, so the number of
        recipients is not limited by memory. Nothing is sent here. ::

            smsverify.send("We are closed on Friday.", User.query.filter_by(city="Yazd"))

        :param to: a number in any spelling, a user, or an iterable of either; `"all"` for all
            users, `"group:NAME"` for a group, `"club"` for the contacts of the gateway's customer
            club. Items that are not mobiles are counted as invalid. A number gets the text once.
        :param batch: a name for staff.
        :param dedupe_key: a second call with the same key returns the first batch. It continues an
            expansion that was interrupted.
        :param not_before: when to send at the earliest; aware.
        :raises ValueError: the text is empty.
        """
        return get_state().batches.send(
            text, to, batch=batch, dedupe_key=dedupe_key, not_before=not_before
        )

    @property
    def outbox(self) -> Outbox:
        """The current app's waiting and failed texts: `resend`, `unresolved`."""
        return get_state().outbox

    @property
    def batches(self) -> BulkSends:
        """The current app's bulk sends.

        Its methods are `preview`, `get`, `pause`, `resume`, `stop` and `expand_again`.
        """
        return get_state().batches

    def opt_out(self, mobile: str) -> None:
        """Send no more texts to a mobile in any spelling, except codes and security notices."""
        state = get_state()
        state.opt_outs.opt_out(state.parse_mobile(mobile))

    def opt_in(self, mobile: str) -> None:
        """Send texts to a mobile again."""
        state = get_state()
        state.opt_outs.opt_in(state.parse_mobile(mobile))

    def opted_out(self, mobile: str) -> bool:
        """Return whether a mobile has opted out of texts."""
        state = get_state()
        return state.opt_outs.opted_out(state.parse_mobile(mobile))

    # --- per app --------------------------------------------------------------------------------

    @property
    def verifier(self) -> Verifier:
        """The current app's verifier: `start`, `check`, `status` …"""
        return get_state().verifier

    @property
    def tracker(self) -> Tracker:
        """The current app's delivery reports and received texts: `incoming` …"""
        return get_state().tracker

    def guard(
        self,
        blueprint_or_app: Blueprint | Flask,
        area: str | None = None,
        except_: Iterable[str] = (),
        answer: guard.Answer = "auto",
    ) -> None:
        """Guard every endpoint of a blueprint, or of the app.

        Login and logout views pass. On an app, anonymous visitors, `OPTIONS`, pages of this
        extension, static files and `SMSVERIFY_OPEN_ENDPOINTS` pass as well. The guard runs after
        all `before_request` functions.

        :param area: the area of the endpoints.
        :param except_: endpoints that stay open, by their full names; for a blueprint also by the
            part after its dot. `*` matches any text.
        :param answer: `"json"` answers every client with problem JSON, `"auto"` only programs.
        :raises ConfigurationError: the blueprint is already registered, or the app has already
            served a request.
        """
        guard.guard_endpoints(blueprint_or_app, area, except_, answer)

    def problem(self, error: SMSVerifyError, *, back_url: str | None = None) -> ResponseReturnValue:
        """Return the response to an error, as the extension's own pages would give it.

        That is problem JSON for programs and a page for browsers.

        :param back_url: where the link of the page leads; by default to the form that was sent.
        :raises ConfigurationError: it is the error, because it is not for visitors; or `init_app`
            was not called.
        """
        get_state()
        return web.respond_to(error, back_url)

    def handle_errors(self, blueprint_or_app: Blueprint | Flask) -> None:
        """Respond with `problem` to errors that views of a blueprint or an app raise.

        `ConfigurationError` still reaches the app.

        :raises ConfigurationError: the blueprint is already registered, or the app has already
            served a request.
        """
        try:
            for error in (ProblemError, SenderError):
                blueprint_or_app.register_error_handler(error, self.problem)
        except AssertionError as late:
            raise ConfigurationError(
                "call smsverify.handle_errors before app.register_blueprint, and before the first "
                "request"
            ) from late

    def login_user(self, user: Any, remember: bool = False) -> ResponseReturnValue | bool:
        """Log a user in, unless `SMSVERIFY_LOGIN_GATE` demands a verified mobile first.

        :returns: the result of Flask-Login's `login_user`. If the gate is on and the user is
            neither verified nor exempt: the redirect to the page. After the right code, the user is
            logged in, and the page redirects to the `next` of this request.
        """
        return login_gate.login_user(user, remember=remember)

    def is_login_fresh(self) -> bool:
        """Return whether the user signed in at most `SMSVERIFY_FRESH_LOGIN` seconds ago.

        A `refresh_view` must show its form while this is false. Flask-Login's `login_fresh` does
        not suffice, because it stays true however old the login is.
        """
        return fresh_login.is_fresh()

    def sign_in_url(self, next: str | None = None) -> str:  # noqa: A002 -- the URL's own name
        """Return the URL of the sign-in page.

        :param next: where the user goes afterwards: a path of this site.
        :raises ConfigurationError: `SMSVERIFY_SIGN_IN` is off.
        """
        if not get_state().settings.sign_in:
            raise ConfigurationError("there is no sign-in page; set SMSVERIFY_SIGN_IN = True")
        return url_for("smsverify.sign_in", next=next)

    def find_user(self, mobile: str) -> Any:
        """Return the account that a sign-in with this mobile would enter; None without one.

        Do not show the result to a visitor who has not proved the mobile.

        :param mobile: in any spelling.
        :raises MobileError: not a mobile that codes may be sent to.
        """
        state = get_state()
        return state.sign_in.find(state.parse_mobile(mobile))

    def close(self) -> None:
        """Finish background work, and release connections to gateways and to the database.

        Outside an app context, this is done for every app of this object. Later use opens new
        connections.
        """
        for app in [current_app] if has_app_context() else list(self._apps):
            get_state(app).close()

    def register_gateway(self, name: str, cls: type[Sender]) -> None:
        """Make a sender class known to `SMSVERIFY_SENDERS`. Call it before `init_app`.

        :param name: the kind, as the option `gateway` names it.
        :raises ConfigurationError: it is not a subclass of `Sender`, or has an async method.
        """
        if not (isinstance(cls, type) and issubclass(cls, Sender)):
            raise ConfigurationError(f"a gateway must be a subclass of Sender, and {cls!r} is not")
        for method, function in inspect.getmembers(cls, callable):
            if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
                raise ConfigurationError(
                    f"{cls.__name__}.{method} must be a plain method, not an async one. Call async "
                    "code in it by asgiref.sync.async_to_sync."
                )
        self._gateways[name] = cls

    # --- events -----------------------------------------------------------------------------------

    @property
    def events(self) -> Mapping[str, Event]:
        """The events by name: the built-in ones, and those of `register_event`."""
        return self._events

    def register_event(
        self,
        name: str,
        *,
        audiences: Iterable[str] = ("user",),
        values: Mapping[str, str] | Iterable[str],
        texts: Mapping[str, object] | str,
    ) -> Event:
        """Add an event that the app reports with `notify`, with its values and default texts.

        An event that `SMSVERIFY_PATTERNS` names must be added before `init_app`. The object keeps
        the events for every app that it is initialized on.

        ::

            smsverify.register_event(
                "parcel.delivered",
                values={"parcel_number": "7002"},
                texts={"en": "Your parcel {{ parcel_number }} has been delivered."},
            )

        :param name: lower-case words with dots.
        :param audiences: `"user"`, `"staff"` or both.
        :param values: the names of the values that `notify` takes, or name → example. Previews
            show the examples.
        :param texts: language → default text; for several audiences, audience → language → text.
        :raises ConfigurationError: a parameter is wrong, a text cannot be rendered, or there is
            already an event with this name.
        """
        return self._events.register(name, audiences=audiences, values=values, texts=texts)

    def render_event(
        self,
        name: str,
        audience: str,
        text: str,
        values: Mapping[str, object],
        locale: str | None = None,
    ) -> str:
        """Return an edited text of an event as it would be sent, with signature and footer.

        :param audience: `"user"` or `"staff"`.
        :param text: the text as staff wrote it.
        :param values: the event's values.
        :param locale: by default the language of `SMSVERIFY_DEFAULT_REGION`.
        :raises TemplateError: staff may not write this text.
        :raises ConfigurationError: the event does not exist, or has no text for the audience.
        """
        state = get_state()
        locale = locale or default_locale(state.settings.default_region)
        return state.event_texts.render(name, audience, text, values, locale).text

    # --- callbacks that replace defaults --------------------------------------------------------

    def unverified_handler(self, f: F) -> F:
        """Replace the response of a guard: `(decision) -> response`."""
        self._callbacks.unverified_handler = f
        return f

    def exempt_when(self, f: F) -> F:
        """Exempt users in addition to those of `EXEMPT_GROUPS`: `(user) -> bool`."""
        self._callbacks.exempt_when = f
        return f

    def mobile_getter(self, f: F) -> F:
        """Replace reading `MOBILE_FIELD`: `(user) -> str | None`."""
        self._callbacks.mobile_getter = f
        return f

    def mobile_setter(self, f: F) -> F:
        """Replace writing `MOBILE_FIELD`: `(user, mobile)`. The session is committed after it."""
        self._callbacks.mobile_setter = f
        return f

    def groups_getter(self, f: F) -> F:
        """Replace reading `GROUPS_FIELD`: `(user) -> iterable of names`."""
        self._callbacks.groups_getter = f
        return f

    def staff_required(self, f: F) -> F:
        """Open the staff pages: `() -> bool or "read-only"`, called for a logged-in user.

        Without it the staff pages do not exist.
        """
        self._callbacks.staff_required = f
        return f

    def user_getter(self, f: F) -> F:
        """Return the user that Flask-Login's user stands for: `(current_user) -> user or None`.

        It is called if Flask-Login's user is not an instance of the user model, for example an
        object that wraps one. None means that there is no such user, for example for an
        administrator of another class.
        """
        self._callbacks.user_getter = f
        return f

    def locale_getter(self, f: F) -> F:
        """Set the language: `() -> locale`, or None to use the request's `Accept-Language`."""
        self._callbacks.locale_getter = f
        return f

    def address_getter(self, f: F) -> F:
        """Set the client's address that limits count: `() -> str`, or None if it is unknown.

        The default is `request.remote_addr`.
        """
        self._callbacks.address_getter = f
        return f

    def email_sender(self, f: F) -> F:
        """Send the link of `SMSVERIFY_LOGIN_GATE_FIRST_PROOF = "email"`: `(user, url)`.

        Register it before `init_app`.
        """
        self._callbacks.email_sender = f
        return f

    # --- sign-in --------------------------------------------------------------------------------

    def user_by_mobile(self, f: F) -> F:
        """Replace the look-up of a sign-in: `(mobile) -> user or None`.

        The mobile is E.164, and the code sent to it was right. Return only users who have proved
        it: anybody can have entered a number that nobody proved.
        """
        self._callbacks.user_by_mobile = f
        return f

    def user_factory(self, f: F) -> F:
        """Create an account at the first sign-in with a mobile: `(mobile) -> user`.

        The extension adds the user to the session, writes the mobile and commits.
        """
        self._callbacks.user_factory = f
        return f

    def before_anonymous_send(self, f: F) -> F:
        """Check a send that is not for a logged-in account: `(mobile, channel)`.

        Raise `SendRefused` to stop it, for example if a CAPTCHA was not solved. The function is
        called before each new challenge of `start_for` and of the sign-in pages.
        """
        self._callbacks.before_anonymous_send = f
        return f

    def user_locale_getter(self, f: F) -> F:
        """Set the language of texts to a user: `(user) -> locale`, or None for the default."""
        self._callbacks.user_locale_getter = f
        return f

    def recipients_loader(self, f: F) -> F:
        """Set the recipients of bulk sends: `(group or None) -> iterable of users`.

        None stands for all users. The default reads the user model page by page.
        """
        self._callbacks.recipients_loader = f
        return f
