"""The extension object, the per-app state, and the few methods that users call.

`SMSVerify.init_app` reads the settings, builds senders, ledger and verifier, and keeps them in
`app.extensions["smsverify"]`. What an app shows of it, the pages, guards and commands, attach
themselves through `installs`, so this module knows none of them.
"""

from __future__ import annotations

import difflib
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import flask_login
from blinker import NamedSignal
from flask import Blueprint, Flask, current_app, has_request_context, request, session
from flask.typing import ResponseReturnValue
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Select, bindparam, exists, select

from . import phone, text
from .delivery import Delivery, Routes
from .errors import ConfigurationError, MobileError
from .host import Functions, HostUsers, current_user, plain
from .ledger import Ledger, named_if_missing
from .messaging.notices import Notices
from .messaging.tracking import Tracker
from .models import Challenge, Verification, install
from .senders import build
from .senders.base import Sender
from .settings import Settings
from .verification.budgets import Budgets, Claim
from .verification.codes import Keyring
from .verification.parts import Parts, Rules
from .verification.policy import Decision, Policy, Status
from .verification.verifier import Verifier

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

_STAMP = "_smsverify_seen"
#: Where a request's environment keeps what guards and widgets looked up, and whether a standing
#: has changed since the request began. Not in `g`: a test's app context outlives its requests.
_SEEN = "smsverify.seen"
_CHANGED = "smsverify.changed"
#: Failures in a row above which the start warns.
_MOST_FAILURES = 100


def _look() -> Select[Any]:
    held, asked = Verification.__table__.c, Challenge.__table__.c
    waiting = exists().where(
        asked.user_id == held.user_id,
        asked.purpose == "verify",
        asked.state == Challenge.PENDING,
        asked.expires_at > bindparam("now"),
    )
    return select(held.mobile, held.verified_at, held.revoked_at, waiting.label("waiting")).where(
        held.user_id == bindparam("user_id")
    )


#: All that a guard or a widget asks about a user.
_LOOK = _look()


@dataclass(slots=True, kw_only=True)
class State:
    """What the extension keeps for one app."""

    app: Flask
    db: SQLAlchemy
    settings: Settings
    site_name: str
    functions: Functions
    users: HostUsers
    policy: Policy
    keyring: Keyring
    ledger: Ledger
    budgets: Budgets
    delivery: Delivery
    tracker: Tracker
    verifier: Verifier
    schema: str | None
    parse_mobile: Callable[[object], str]
    #: Set by the pages: what a guard answers to who may not pass, what the login gate does, and
    #: what a guard answers to who is not logged in.
    answer: Callable[[Decision], ResponseReturnValue] = field(default=lambda _decision: ("", 403))
    answer_login: Callable[[Decision], ResponseReturnValue] = field(
        default=lambda _decision: ("", 403)
    )
    answer_anonymous: Callable[[], ResponseReturnValue] = field(default=lambda: ("", 401))
    locale: Callable[[], str] = field(default=lambda: "fa")

    def decide(
        self, user: object, *, area: str | None = None, within: timedelta | None = None
    ) -> Decision:
        """What a guard does with a user; at most one SELECT of ours in a request."""
        if not self.policy.is_on(area):
            return Decision("off", area, within)
        if self.users.is_exempt(user):
            return Decision("exempt", area, within, Status("exempt", exempt=True))
        now = _now()
        user_id, mobile = self.users.id_of(user), self.verifier.mobile_of(user)
        if (stamped := self._stamped(user_id, mobile, now)) is not None:
            decision = self.policy.judge(stamped, now, area=area, within=within)
            if decision.allowed:
                return decision  # what it does not allow, a proof since then may
        status = self.policy.standing(self._look_up(user_id, now), mobile, now)
        if self.settings.recheck_seconds and status.state == "verified":
            self._stamp(user_id, status, now)
        return self.policy.judge(status, now, area=area, within=within)

    def standing(self, user: object) -> Status:
        """Where a user stands, for showing: no challenge comes with it.

        It takes the guards' own SELECT, so a page that was guarded shows it for nothing.
        """
        mobile = self.verifier.mobile_of(user)
        if self.users.is_exempt(user):
            return Status("exempt", mobile, exempt=True)
        now = _now()
        row = self._look_up(self.users.id_of(user), now)
        status = self.policy.standing(row, mobile, now)
        waiting = row is not None and row.waiting and status.state != "verified"
        return replace(status, state="pending") if waiting else status

    def _look_up(self, user_id: str, now: datetime) -> Any:
        """What the database has on a user: read once in a request, and again after a change."""
        environ = request.environ if has_request_context() else {}
        seen: dict[str, Any] = environ.setdefault(_SEEN, {})
        if user_id not in seen:
            asked = {"user_id": user_id, "now": now}
            if environ.get(_CHANGED):
                # The request's own transaction may be older than the change, and blind to it.
                seen[user_id] = self.ledger.read(
                    lambda session: session.execute(_LOOK, asked).one_or_none()
                )
            else:
                # Core on the tables, so that the host's pending changes are not flushed by it.
                schema = {None: self.schema}
                with named_if_missing():
                    seen[user_id] = self.db.session.execute(
                        _LOOK,
                        asked,
                        execution_options={"schema_translate_map": schema} if self.schema else {},
                    ).one_or_none()
        return seen[user_id]

    def _stamped(self, user_id: str, mobile: str | None, now: datetime) -> Status | None:
        """A standing that this session saw a moment ago, while `RECHECK_SECONDS` allow it."""
        stamp = session.get(_STAMP) if self.settings.recheck_seconds else None
        if not isinstance(stamp, list) or len(stamp) != 3 or mobile is None:
            return None
        whose, verified, seen = stamp
        age = now.timestamp() - seen
        if whose != self.keyring.digest("seen", user_id, mobile):
            return None
        if not 0 <= age < self.settings.recheck_seconds:
            return None
        verified_at = datetime.fromtimestamp(verified, UTC)
        expires_at = self.policy.expiry(verified_at)
        if expires_at is not None and now >= expires_at:
            return None
        return Status("verified", mobile, verified_at, expires_at)

    def _stamp(self, user_id: str, status: Status, now: datetime) -> None:
        if status.mobile is not None and status.verified_at is not None:
            whose = self.keyring.digest("seen", user_id, status.mobile)
            session[_STAMP] = [whose, status.verified_at.timestamp(), now.timestamp()]

    def stand_guard(
        self, *, area: str | None, within: timedelta | None = None, anonymous_pass: bool = False
    ) -> ResponseReturnValue | None:
        """What a guard says to this request: None to let it through."""
        if request.method == "OPTIONS" or self.app.config.get("LOGIN_DISABLED"):
            return None
        if not self.policy.is_on(area):
            return None
        user = current_user()
        if not user.is_authenticated:
            if anonymous_pass:
                return None
            return _not_none(self.answer_anonymous(), "Flask-Login's unauthorized_handler")
        decision = self.decide(user, area=area, within=within)
        if decision.allowed:
            return None
        handler = self.functions.unverified_handler or self.answer
        return _not_none(handler(decision), "the unverified_handler")

    def close(self) -> None:
        """Close connections to gateways and to the database."""
        self.delivery.close()
        self.ledger.close()


_installers: list[Callable[[Flask, State], None]] = []


def installs(installer: Callable[[Flask, State], None]) -> Callable[[Flask, State], None]:
    """Have a part of the package attach itself to every app, at the end of `init_app`."""
    _installers.append(installer)
    return installer


def state_of(app: Flask | None = None) -> State:
    """The state of an app, by default the current one.

    :raises ConfigurationError: `init_app` has not been called on it.
    """
    try:
        state: State = (app or current_app).extensions["smsverify"]
    except KeyError:
        raise ConfigurationError("SMSVerify.init_app has not been called on this app") from None
    return state


def secrets_of(app: Flask) -> list[Any]:  # a secret is text or bytes
    """The app's `SECRET_KEY`, then its fallbacks."""
    return [app.config["SECRET_KEY"], *(app.config.get("SECRET_KEY_FALLBACKS") or ())]


def _not_none(answer: ResponseReturnValue | None, whose: str) -> ResponseReturnValue:
    """An answer in a view's place. None would let the view run."""
    if answer is None:
        raise ConfigurationError(f"{whose} returned None; it must return a response")
    return answer


def _now() -> datetime:
    return datetime.now(UTC)


class SMSVerify:
    """Phone verification for a Flask app.

    ::

        smsverify = SMSVerify()
        smsverify.init_app(app, db, user_model=User)

    Functions that replace defaults, such as `mobile_getter`, belong to the object and serve every
    app it was initialised on; everything else is kept per app.
    """

    def __init__(
        self, app: Flask | None = None, db: SQLAlchemy | None = None, *, user_model: Any = None
    ) -> None:
        self._functions = Functions()
        self._gateways: dict[str, type[Sender]] = {}
        if app is not None:
            self.init_app(app, db, user_model=user_model)

    def init_app(self, app: Flask, db: SQLAlchemy | None = None, *, user_model: Any = None) -> None:
        """Read the settings and attach everything to an app.

        :param db: the host's Flask-SQLAlchemy object, initialised on the app before.
        :param user_model: the mapped class of the host's users.
        :raises ConfigurationError: something is missing or wrong; the message says what is right.
        """
        if "smsverify" in app.extensions:
            raise ConfigurationError("SMSVerify.init_app was called on this app already")
        if db is None or user_model is None:
            raise ConfigurationError(
                "init_app needs the database and the users: init_app(app, db, user_model=User)"
            )
        if "sqlalchemy" not in app.extensions:
            raise ConfigurationError("call db.init_app(app) before smsverify.init_app(app, db, …)")
        if not app.config.get("SECRET_KEY"):
            raise ConfigurationError("SECRET_KEY is not set; codes and tokens are derived from it")
        development = _is_on(app, "DEBUG") or _is_on(app, "TESTING")
        settings = Settings.read(app.config, development=development)
        _check_model(app, user_model)
        state = self._state(app, db, user_model, settings)
        app.extensions["smsverify"] = state
        try:
            install(db.metadata)
            for installer in _installers:
                installer(app, state)
        except BaseException:
            del app.extensions["smsverify"]  # what failed is the error, not a second call
            raise
        if not development:
            _warn_of_memory(settings)
        _warn_of_odds(settings)

    def _state(self, app: Flask, db: SQLAlchemy, user_model: Any, settings: Settings) -> State:
        policy = Policy(
            areas=settings.areas,
            exempt_groups=frozenset(settings.exempt_groups),
            lifetime=timedelta(days=settings.revalidation_days)
            if settings.revalidation_days
            else None,
        )
        users = HostUsers(db, user_model, settings, policy, self._functions)
        site_name = settings.site_name or app.name
        texts = _texts(app, settings, site_name)
        texts.check(settings.code_length)
        keyring = Keyring(secrets_of(app))
        schema = db.metadata.schema
        with app.app_context():
            if None not in db.engines:
                raise ConfigurationError(
                    "there is no default database; set SQLALCHEMY_DATABASE_URI beside the binds"
                )
            ledger = Ledger(
                db.engine,
                schema=schema,
                options=_engine_options(app, db),
                host_is_writing=users.is_writing,
            )
        budgets = Budgets(ledger, keyring)

        def emit(signal: NamedSignal, **values: Any) -> None:
            if has_request_context():
                request.environ[_CHANGED] = True
                request.environ.pop(_SEEN, None)
            try:
                signal.send(app, **values)
            except Exception:  # what a host's receiver raises must not undo a send or a proof
                log.exception("a receiver of the signal %s failed", signal.name)

        tracker = Tracker(ledger, emit=emit, clock=_now)
        delivery = Delivery(
            ledger,
            Routes(self._senders(app, settings), settings.routes),
            seconds=settings.send_deadline,
            in_flight=settings.sends_in_flight,
            emit=emit,
            clock=_now,
            noted=tracker.catch_up if settings.hook_secret else None,
        )
        parse_mobile = functools.partial(
            phone.parse,
            default_region=settings.default_region,
            allowed_regions=settings.allowed_regions,
        )

        def locale() -> str:
            return state_of(app).locale()

        messages = Claim("messages", "", settings.budgets["messages"])
        notices = Notices(
            delivery,
            reserve=lambda: budgets.reserve([messages] if messages.limits else [], _now()),
            locale=locale,
            site_name=site_name,
            signature=settings.signature,
            staff=_parsed("STAFF_MOBILES", settings.staff_mobiles, parse_mobile),
        )
        verifier = Verifier(
            Parts(
                ledger=ledger,
                budgets=budgets,
                keyring=keyring,
                policy=policy,
                delivery=delivery,
                users=users,
                rules=_rules(settings, _test_numbers(app, settings, parse_mobile)),
                texts=texts,
                parse=parse_mobile,
                locale=locale,
                emit=emit,
                tell=notices.tell,
                clock=_now,
            )
        )
        return State(
            app=app,
            db=db,
            settings=settings,
            site_name=site_name,
            functions=self._functions,
            users=users,
            policy=policy,
            keyring=keyring,
            ledger=ledger,
            budgets=budgets,
            delivery=delivery,
            tracker=tracker,
            verifier=verifier,
            schema=schema,
            parse_mobile=parse_mobile,
        )

    def _senders(self, app: Flask, settings: Settings) -> dict[str, Sender]:
        configured = settings.senders
        if not configured:  # only in debug and testing; `Settings` saw to that
            kind = "memory" if app.testing else "console"
            configured = {kind: {"gateway": kind}}
        return {
            name: build(
                name,
                options,
                registered=self._gateways,
                simulator_url=settings.simulator_url,
                debug=_is_on(app, "DEBUG") or _is_on(app, "TESTING"),
            )
            for name, options in configured.items()
        }

    # --- what users call -----------------------------------------------------------------------

    @property
    def verifier(self) -> Verifier:
        """The current app's rules of proof: `start`, `check`, `status` …"""
        return state_of().verifier

    @property
    def tracker(self) -> Tracker:
        """The current app's notes of what gateways say: `incoming` …"""
        return state_of().tracker

    def guard(
        self,
        blueprint_or_app: Blueprint | Flask,
        area: str | None = None,
        except_: Iterable[str] = (),
    ) -> None:
        """Guard every endpoint of a blueprint, or of the app.

        On an app, anonymous visitors, our own pages and static files pass.

        :param except_: endpoints that stay open, by their full names, or for a blueprint by the
            part behind its dot.
        :raises ConfigurationError: the blueprint is registered already, or the app has served.
        """
        open_endpoints = frozenset([except_] if isinstance(except_, str) else except_)
        whole_app = isinstance(blueprint_or_app, Flask)

        def stand() -> ResponseReturnValue | None:
            endpoint = request.endpoint
            if endpoint is None or endpoint in open_endpoints:
                return None
            if whole_app and is_ours_or_static(current_app, endpoint):
                return None
            for name in request.blueprints:
                ours = current_app.blueprints.get(name) is blueprint_or_app
                if ours and endpoint.removeprefix(f"{name}.") in open_endpoints:
                    return None
            return state_of().stand_guard(area=area, anonymous_pass=whole_app)

        try:
            blueprint_or_app.before_request(stand)
        except AssertionError as error:  # Flask's own, for what comes too late
            raise ConfigurationError(
                "call smsverify.guard before app.register_blueprint, and before the first request"
            ) from error

    def login_user(self, user: Any, remember: bool = False) -> ResponseReturnValue | bool:
        """Log a user in, unless `SMSVERIFY_LOGIN_GATE` demands a verified mobile first.

        :returns: what Flask-Login's `login_user` returns; or the redirect to the page, where the
            gate is on and the user is neither verified nor exempt. The login then follows the code,
            and after it the `next` that this request carries, as Flask-Login's login views do.
        """
        state = state_of()
        user = plain(user)
        if state.settings.login_gate and user.is_active:
            decision = state.decide(user)
            if not decision.allowed:
                if current_user().is_authenticated:
                    flask_login.logout_user()  # whoever it was, the page is not for them
                session[PENDING_LOGIN] = {
                    "user": state.users.id_of(user),
                    "remember": bool(remember),
                    "at": _now().timestamp(),
                }
                return state.answer_login(decision)
        session.pop(PENDING_LOGIN, None)
        return bool(flask_login.login_user(user, remember=remember))

    def register_gateway(self, name: str, cls: type[Sender]) -> None:
        """Make a sender class known to `SMSVERIFY_SENDERS`, before `init_app`.

        :param name: the kind, as an option `gateway` names it.
        """
        if not (isinstance(cls, type) and issubclass(cls, Sender)):
            raise ConfigurationError(f"a gateway is a subclass of Sender, and {cls!r} is not")
        self._gateways[name] = cls

    # --- functions in place of defaults --------------------------------------------------------

    def unverified_handler(self, f: F) -> F:
        """Replace what a guard answers: `(decision) -> response`."""
        self._functions.unverified_handler = f
        return f

    def exempt_when(self, f: F) -> F:
        """Exempt more users than those of `EXEMPT_GROUPS`: `(user) -> bool`."""
        self._functions.exempt_when = f
        return f

    def mobile_getter(self, f: F) -> F:
        """Replace reading `MOBILE_FIELD`: `(user) -> str | None`."""
        self._functions.mobile_getter = f
        return f

    def mobile_setter(self, f: F) -> F:
        """Replace writing `MOBILE_FIELD`: `(user, mobile)`; the session is committed after it."""
        self._functions.mobile_setter = f
        return f

    def groups_getter(self, f: F) -> F:
        """Replace reading `GROUPS_FIELD`: `(user) -> iterable of names`."""
        self._functions.groups_getter = f
        return f

    def locale_getter(self, f: F) -> F:
        """Say which language to speak: `() -> "fa" or "en"`, or None to leave it to us."""
        self._functions.locale_getter = f
        return f


#: The session key of a login that waits for its code.
PENDING_LOGIN = "_smsverify_pending_login"


def is_ours_or_static(app: Flask, endpoint: str) -> bool:
    """Whether an endpoint is a page of ours, or static files as Flask serves them."""
    blueprint, _, view = endpoint.rpartition(".")
    if view == "static":
        owner = app.blueprints.get(blueprint) if blueprint else app
        return owner is not None and owner.has_static_folder
    return endpoint.partition(".")[0] in ("smsverify", "smsverify_hooks")


def _engine_options(app: Flask, db: SQLAlchemy) -> dict[str, Any]:
    """The options of the host's default engine, which Flask-SQLAlchemy takes from three places."""
    general: dict[str, Any] = getattr(db, "_engine_options", {})
    bind = (app.config.get("SQLALCHEMY_BINDS") or {}).get(None)
    named = dict(bind) if isinstance(bind, Mapping) else {}
    return {**general, **named, **app.config.get("SQLALCHEMY_ENGINE_OPTIONS", {})}


def _is_on(app: Flask, switch: str) -> bool:
    """Whether `DEBUG` or `TESTING` is on; what only looks like a switch is refused.

    From the environment, `False` comes as text, which Python takes for true.
    """
    value = app.config.get(switch)
    if value in (True, False, None):
        return bool(value)
    raise ConfigurationError(
        f"{switch} must be true or false; in the environment, in small letters"
    )


def _warn_of_odds(settings: Settings) -> None:
    if settings.code_length < 6:
        log.warning(
            "SMSVERIFY_CODE_LENGTH is %d: one guess in %s is right, which only the limits on "
            "failures make up for; 6 is advised",
            settings.code_length,
            f"{10**settings.code_length:,}",
        )
    if settings.consecutive_failures > _MOST_FAILURES:
        log.warning(
            "SMSVERIFY_CONSECUTIVE_FAILURES is %d: more guesses in a row than the %d that are "
            "advised (NIST SP 800-63B-4, 3.2.2)",
            settings.consecutive_failures,
            _MOST_FAILURES,
        )


def _warn_of_memory(settings: Settings) -> None:
    for name, options in settings.senders.items():
        if options["gateway"] == "memory":
            log.warning("SMSVERIFY_SENDERS[%r] only keeps codes: nobody gets them", name)


def _texts(app: Flask, settings: Settings, site_name: str) -> text.CodeTexts:
    configured = settings.code_text
    if configured is None:
        templates = dict(text.CODE_TEXTS)
    elif isinstance(configured, str):
        templates = dict.fromkeys(text.CODE_TEXTS, configured)
    else:
        templates = {**text.CODE_TEXTS, **configured}
    host = settings.webotp_host
    if host is None and app.config.get("SERVER_NAME"):
        host = str(app.config["SERVER_NAME"]).partition(":")[0]
    return text.CodeTexts(
        {locale: text.checked_template(template) for locale, template in templates.items()},
        site_name,
        settings.signature,
        host,
    )


def _rules(settings: Settings, test_numbers: Mapping[str, str]) -> Rules:
    return Rules(
        code_length=settings.code_length,
        code_lifetime=timedelta(seconds=settings.code_lifetime),
        max_attempts=settings.max_attempts,
        resend=settings.resend,
        resend_delays=settings.resend_delays,
        budgets=settings.budgets,
        consecutive_failures=settings.consecutive_failures,
        accounts_per_mobile=settings.accounts_per_mobile,
        mobile_policy=settings.mobile_policy,
        default_region=settings.default_region,
        test_numbers=test_numbers,
    )


def _check_model(app: Flask, user_model: Any) -> None:
    """Refuse a named attribute that the model lacks. Unnamed ones may be replaced by a getter."""
    for key in ("MOBILE_FIELD", "EMAIL_FIELD", "GROUPS_FIELD"):
        name = app.config.get(f"SMSVERIFY_{key}")
        if name is not None and not hasattr(user_model, name):
            known = difflib.get_close_matches(name, dir(user_model), n=1)
            hint = f"; did you mean {known[0]!r}?" if known else ""
            raise ConfigurationError(
                f"SMSVERIFY_{key} names {name!r}, which {user_model.__name__} does not have{hint}"
            )


def _parsed(key: str, mobiles: Iterable[str], parse_mobile: Callable[[object], str]) -> list[str]:
    """Mobiles of a setting as E.164; one that is none is named by its place."""
    parsed = []
    for place, mobile in enumerate(mobiles, start=1):
        try:
            parsed.append(parse_mobile(mobile))
        except MobileError as error:
            raise ConfigurationError(f"SMSVERIFY_{key}: number {place}: {error}") from None
    return parsed


class _UntilDate(Mapping[str, str]):
    """Test numbers that are none any more from a date on, also in a process that runs past it."""

    def __init__(self, numbers: Mapping[str, str], until: date) -> None:
        self._numbers = numbers
        self._until = until

    def __getitem__(self, mobile: str) -> str:
        if _now().date() >= self._until:
            raise KeyError(mobile)
        return self._numbers[mobile]

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


def _test_numbers(
    app: Flask, settings: Settings, parse_mobile: Callable[[object], str]
) -> Mapping[str, str]:
    if any(len(code) != settings.code_length for code in settings.test_numbers.values()):
        raise ConfigurationError(
            f"SMSVERIFY_TEST_NUMBERS: a code has {settings.code_length} digits here"
        )
    mobiles = _parsed("TEST_NUMBERS", settings.test_numbers, parse_mobile)
    numbers = dict(zip(mobiles, settings.test_numbers.values(), strict=True))
    if settings.test_numbers_until is None or app.debug or app.testing:
        return numbers
    return _UntilDate(numbers, settings.test_numbers_until)
