"""The composition root: build the objects of one app from its settings.

Nothing else constructs collaborators. Read `build_state` from top to bottom to see what uses what.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper

from . import phone
from .announcer import AppAnnouncer, SignalEmitter
from .app_context import host_context
from .clock import Clock
from .db.engine import refuse_autocommit
from .db.ledger import Ledger
from .db.locks import Locks
from .db.setting_store import SettingStore
from .delivery import Delivery, Routes
from .delivery.attempts import Attempts
from .delivery.background import BackgroundWorkers
from .delivery.health import HealthChecks
from .errors import ConfigurationError, MobileError, SenderError
from .i18n.by_language import complete_texts
from .i18n.catalogue import default_locale
from .i18n.code_text import CodeTexts, code_templates
from .keyring import Keyring
from .limits.guesses import GuessLog
from .limits.keys import UsageKeys
from .limits.other_counts import Charge, Counters
from .limits.report import LimitReport
from .limits.sends import SendLog
from .log_events import log_event
from .messaging.bulk import BulkSends
from .messaging.bulk_dispatch import BulkDispatcher
from .messaging.dispatch import EventDispatcher
from .messaging.event_catalogue import EventCatalogue
from .messaging.event_edits import EditStore
from .messaging.event_queue import EventQueue
from .messaging.event_texts import EventTexts
from .messaging.expansion import Expansion
from .messaging.first_checks import FirstChecks
from .messaging.notifier import Notifier
from .messaging.opt_out import OptOuts
from .messaging.outbox import Outbox
from .messaging.patterns import Patterns
from .messaging.quiet_hours import quiet_hours_of
from .messaging.recipients import Recipients
from .messaging.sync import StateSync
from .messaging.tasks import CeleryQueue
from .messaging.text_limits import TextLimits
from .messaging.tracking import Tracker
from .messaging.worker import InlineWorker, Queue
from .senders.base import Capability, Sender
from .senders.registry import build as build_sender
from .senders.registry import find_gateway, low_credits
from .settings import Limit, Settings
from .settings.checks import MAX_APP_ID
from .settings.quiet_hours import QuietHours
from .settings.runtime import LiveSettings
from .signing import TokenSigning
from .state import AppState, GuardResponses
from .users import Callbacks, HostUsers
from .verification.accounts import Accounts
from .verification.alerts import LimitAlerts
from .verification.challenges import Challenges
from .verification.change import CodeFlow, MobileChanges
from .verification.check import CodeChecker
from .verification.claim import TokenClaim
from .verification.code_job import CodeJobs
from .verification.devices import DeviceTokens
from .verification.issue import CodeIssuer
from .verification.native import NativeCodes
from .verification.ownership import Ownership
from .verification.policy import Policy
from .verification.pressure import SendPressure
from .verification.proof_of_work import ProofOfWork
from .verification.rules import Rules
from .verification.send_limits import SendLimits
from .verification.sign_in import SignIn
from .verification.tokens import ProofTokens, UndoTokens
from .verification.user_codes import UserCodes
from .verification.user_records import UserRecords
from .verification.verifier import Procedures, Verifier

log = logging.getLogger(__name__)

#: More consecutive failures than NIST SP 800-63B-4, 3.2.2 allows log a warning at start.
_MAX_FAILURES = 100
_RECOMMENDED_CODE_LENGTH = 6
#: Seconds by which a worker's lease outlasts the deadline of a route.
_LEASE_MARGIN = 45
#: A staff page waits no longer for the credit of a sender.
_HEALTH_SECONDS = 6.0


def build_state(
    app: Flask,
    db: SQLAlchemy,
    user_model: Any,
    *,
    settings: Settings,
    callbacks: Callbacks,
    gateways: Mapping[str, type[Sender]],
    events: EventCatalogue,
    guard_responses: GuardResponses,
    locale: Callable[[], str],
) -> AppState:
    """Build the state of an app.

    :param gateways: the sender classes that the host registered, by kind.
    :param events: the events that the host can report.
    :param locale: returns the language of a text, also outside a request.
    :raises ConfigurationError: a setting is missing or invalid.
    """
    is_development = _is_development(app)
    _check_model(app, user_model)
    _check_sign_in(settings, callbacks)
    _check_first_proof(app, settings, callbacks)
    _warn_of_weak_settings(settings, app.name, is_development=is_development)
    parse_mobile = partial(
        phone.parse,
        default_region=settings.default_region,
        allowed_regions=settings.allowed_regions,
    )
    clock = Clock()
    app_locale = default_locale(settings.default_region)
    live = LiveSettings(
        settings,
        default_site_name=app.name,
        complete_texts=partial(complete_texts, default=app_locale),
        parse_mobile=parse_mobile,
    )
    app_id = _app_id(app, settings)
    keyring = Keyring(secret_keys(app), app_id=app_id)
    rules = _rules(settings, _test_numbers(app, settings, parse_mobile, clock))
    policy = Policy(live, rules)
    users = HostUsers(
        db,
        user_model,
        settings=settings,
        policy=policy,
        callbacks=callbacks,
        parse_mobile=parse_mobile,
        dialect=partial(_dialect_of, app, db),
    )
    emit = SignalEmitter(app).emit
    ledger = _ledger(app, db, app_id, clock=clock, is_host_writing=users.is_writing)
    signing = TokenSigning(
        keyring,
        find_instance=ledger.find_identity,
        identify=ledger.identify,
        clock=clock,
    )

    # Delivery and messages
    opt_outs = OptOuts(ledger, emit=emit)
    tracker = Tracker(ledger, emit=emit, on_received=opt_outs.apply_replies)
    attempts = Attempts(
        ledger,
        emit=emit,
        after_receipt=tracker.apply_early_reports if settings.webhook_secret else None,
    )
    senders = _senders(app, settings, gateways, is_development=is_development)
    routes = Routes(senders, settings.routes)
    delivery = Delivery(
        ledger,
        routes,
        attempts,
        seconds=settings.send_deadline,
        in_flight=settings.sends_in_flight,
        context=partial(host_context, app),
    )
    workers = BackgroundWorkers(
        context=app.app_context,
        keeps_errors=lambda: app.testing,
        is_inline=lambda: ledger.is_joined,
    )
    locks = Locks(ledger)
    keys = UsageKeys(keyring)
    counters = Counters(ledger, locks, keyring)
    send_log = SendLog.shared(
        settings.limits,
        delays=settings.resend_delays,
        reserved=settings.site_reserved,
        network_share=settings.network_share,
    )
    guess_log = GuessLog.shared(settings.limits)
    report = LimitReport(ledger, locks, settings.limits, keys=keys, counters=counters)
    event_texts = EventTexts(
        events,
        EditStore(ledger),
        live=live,
        patterns=Patterns(
            settings.patterns, events, {sender.name: sender for sender in routes.route("event")}
        ),
        opt_out_footer=settings.opt_out_footer or "",
        parse_mobile=parse_mobile,
        on_failure=lambda event: notifier.report_failed_text(event),  # noqa: PLW0108 -- it is made below
    )
    notifier = Notifier(
        ledger,
        delivery,
        workers,
        texts=event_texts,
        locale=locale,
        fallback_locale=app_locale,
        reserve=lambda mobile: counters.reserve(notice_charges(settings.limits, mobile), clock()),
    )
    announcer = AppAnnouncer(emit, notifier)

    messages = _build_messages(
        app,
        settings,
        users,
        ledger,
        delivery,
        attempts,
        texts=event_texts,
        opt_outs=opt_outs,
        limits=TextLimits(ledger, counters, settings.limits, clock),
        live=live,
        own_sender=partial(_own_sender, settings, gateways, is_development),
        sync=StateSync(ledger, delivery, attempts, tracker),
        locale=locale,
        parse_mobile=parse_mobile,
    )

    # Verification
    alerts = LimitAlerts(ledger, announcer)
    foreign = settings.limits["foreign"]
    sends = SendLimits(
        ledger,
        locks,
        send_log,
        counters=counters,
        foreign=Charge("foreign", "", foreign) if foreign else None,
        default_region=settings.default_region,
        alerts=alerts,
    )
    devices = DeviceTokens(keyring, signing, timedelta(days=settings.device_token_days))
    challenges = Challenges(ledger, keyring, rules)
    native = NativeCodes(ledger, keyring, rules)
    tokens = ProofTokens(keyring, signing)
    ownership = Ownership(
        ledger,
        locks,
        keys=keys,
        keyring=keyring,
        rules=rules,
        policy=policy,
        users=users,
        announcer=announcer,
    )
    jobs = CodeJobs(
        attempts, native, sends, challenges=challenges, texts=_code_texts(app, settings, live)
    )
    issuer = CodeIssuer(
        ledger,
        locks,
        rules,
        challenges,
        keys=keys,
        limits=sends,
        devices=devices,
        jobs=jobs,
        delivery=delivery,
        workers=workers,
        live=live,
        locale=locale,
        announcer=announcer,
    )
    checker = CodeChecker(
        ledger,
        locks,
        rules,
        challenges,
        keys=keys,
        guesses=guess_log,
        sends=send_log,
        alerts=alerts,
        native=native,
        ownership=ownership,
        users=users,
        delivery=delivery,
        announcer=announcer,
    )
    records = UserRecords(
        ledger, policy, keys=keys, keyring=keyring, guesses=guess_log, users=users
    )
    verifier = Verifier(
        ledger,
        Procedures(
            issuer=issuer,
            checker=checker,
            claims=TokenClaim(
                ledger, locks, rules, tokens, ownership=ownership, users=users, announcer=announcer
            ),
            accounts=Accounts(
                ledger,
                rules,
                users=users,
                ownership=ownership,
                native=native,
                keys=keys,
                announcer=announcer,
            ),
            changes=MobileChanges(
                ledger,
                rules,
                CodeFlow(issuer=issuer, checker=checker),
                records=records,
                ownership=ownership,
                counters=counters,
                keyring=keyring,
                tokens=UndoTokens(signing),
                users=users,
                announcer=announcer,
            ),
            user_codes=UserCodes(issuer, checker, records, policy=policy, users=users),
        ),
        challenges=challenges,
        tokens=tokens,
        devices=devices,
        records=records,
        policy=policy,
        rules=rules,
        users=users,
        parse_mobile=parse_mobile,
        before_anonymous_send=partial(_before_anonymous_send, callbacks),
    )
    sign_in = SignIn(
        ledger,
        locks,
        verifier,
        ownership,
        users=users,
        announcer=announcer,
        may_sign_up=settings.sign_up,
    )
    return AppState(
        app=app,
        db=db,
        settings=settings,
        live=live,
        callbacks=callbacks,
        users=users,
        policy=policy,
        clock=clock,
        keyring=keyring,
        signing=signing,
        ledger=ledger,
        counters=counters,
        limit_report=report,
        workers=workers,
        delivery=delivery,
        event_texts=event_texts,
        health=HealthChecks(
            min(settings.send_deadline, _HEALTH_SECONDS),
            low_credit=low_credits(settings.senders),
            context=delivery.context,
        ),
        setting_store=SettingStore(
            ledger, live, is_used=lambda: callbacks.staff_required is not None
        ),
        tracker=tracker,
        outbox=messages.outbox,
        event_queue=messages.event_queue,
        batches=messages.batches,
        opt_outs=messages.opt_outs,
        sync=messages.sync,
        first_checks=FirstChecks(messages.sync, delivery, workers, clock=clock),
        queues=messages.queues,
        inline_workers=messages.inline_workers,
        verifier=verifier,
        sign_in=sign_in,
        proof_of_work=ProofOfWork(
            ledger,
            keyring,
            counters,
            signing,
            mode=settings.anonymous_challenge,
            is_under_pressure=SendPressure(ledger, report).is_high,
            unsolved=settings.limits["unsolved"],
        ),
        guard_responses=guard_responses,
        locale=locale,
        parse_mobile=parse_mobile,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Messages:
    """The objects that queue and send texts, under their names in `AppState`."""

    outbox: Outbox
    event_queue: EventQueue
    batches: BulkSends
    opt_outs: OptOuts
    sync: StateSync
    queues: tuple[Queue, ...]
    inline_workers: tuple[InlineWorker, ...]


def _build_messages(
    app: Flask,
    settings: Settings,
    users: HostUsers,
    ledger: Ledger,
    delivery: Delivery,
    attempts: Attempts,
    *,
    texts: EventTexts,
    opt_outs: OptOuts,
    limits: TextLimits,
    live: LiveSettings,
    own_sender: Callable[[Sender], Sender],
    sync: StateSync,
    locale: Callable[[], str],
    parse_mobile: Callable[[object], str],
) -> _Messages:
    """Build the outbox, and the workers that empty it."""
    clock = ledger.clock
    quiet_until = quiet_hours_of(settings.senders, live, clock, timezone=settings.timezone)

    def quiet_hours() -> QuietHours | None:
        return live.current.quiet_hours

    # The queues are made below.
    def wake_events(ids: Sequence[str]) -> None:
        if celery is not None:
            celery.wake(ids)
        else:
            event_worker.wake()

    def wake_bulk() -> None:
        if celery is not None:
            celery.wake_bulk()
        else:
            bulk_worker.wake()

    outbox = Outbox(
        ledger,
        lease_seconds=settings.send_deadline + _LEASE_MARGIN,
        wake_events=wake_events,
        wake_bulk=wake_bulk,
    )
    event_dispatcher = EventDispatcher(
        outbox,
        delivery,
        attempts,
        limits=limits,
        quiet_until=quiet_until,
        clock=clock,
        # The other calls in flight are left to codes.
        threads=max(1, settings.sends_in_flight // 2),
    )
    event_worker = InlineWorker(event_dispatcher, clock=clock, held_by=quiet_hours)
    app_locale = default_locale(settings.default_region)
    event_queue = EventQueue(
        outbox,
        texts,
        users,
        wake=wake_events,
        locale=locale,
        default_locale=app_locale,
        must_be_proved=None if settings.notify_unverified else limits.has_proved,
    )
    bulk_worker: InlineWorker
    recipients = Recipients(users, parse_mobile=parse_mobile, contacts=partial(_contacts, delivery))
    batches = BulkSends(
        ledger,
        outbox,
        Expansion(ledger, opt_outs, recipients, host_context=app.app_context, wake=wake_bulk),
        opt_outs,
        recipients,
        # A text to many has no language of its own.
        finish=partial(texts.finish, locale=app_locale),
        part_price=partial(_part_price, delivery),
        wake=wake_bulk,
    )
    bulk_dispatcher = BulkDispatcher(
        ledger,
        outbox,
        batches,
        delivery,
        attempts,
        quiet_until=quiet_until,
        own_sender=own_sender,
        in_flight=settings.sends_in_flight,
    )
    bulk_worker = InlineWorker(bulk_dispatcher, clock=clock, held_by=quiet_hours)
    celery: CeleryQueue | None = None
    if settings.queue == "celery":
        celery = CeleryQueue(
            app.extensions.get("celery"),
            events=event_dispatcher,
            bulk=bulk_dispatcher.send_due,
            has_bulk=bulk_dispatcher.has_work,
            sync=partial(_run_in, app, sync.run),
            clock=clock,
        )
    return _Messages(
        outbox=outbox,
        event_queue=event_queue,
        batches=batches,
        opt_outs=opt_outs,
        sync=sync,
        queues=(event_dispatcher, bulk_dispatcher),
        inline_workers=(event_worker, bulk_worker, *((celery.worker,) if celery else ())),
    )


def read_settings(app: Flask) -> Settings:
    """Read and check the settings of an app.

    :raises ConfigurationError: a setting is missing or invalid.
    """
    return Settings.read(app.config, development=_is_development(app))


def secret_keys(app: Flask) -> list[Any]:  # a secret is text or bytes
    """Return the app's `SECRET_KEY`, then its fallbacks."""
    return [app.config["SECRET_KEY"], *(app.config.get("SECRET_KEY_FALLBACKS") or ())]


def notice_charges(limits: Mapping[str, tuple[Limit, ...]], mobile: str) -> list[Charge]:
    """Return what one notice to a mobile counts against."""
    charges = [
        Charge("notices", mobile, limits["notices"]),
        Charge("messages", "", limits["messages"]),
    ]
    return [charge for charge in charges if charge.limits]


# --- settings ---------------------------------------------------------------------------------


def _is_development(app: Flask) -> bool:
    return _switch(app, "DEBUG") or _switch(app, "TESTING")


def _switch(app: Flask, name: str) -> bool:
    """Return whether `DEBUG` or `TESTING` is on.

    From the environment, `False` comes as text, which Python treats as true. Such a text is
    refused.
    """
    value = app.config.get(name)
    if value in (True, False, None):
        return bool(value)
    raise ConfigurationError(f"{name} must be true or false; in the environment, in lower case")


def _check_model(app: Flask, user_model: Any) -> None:
    """Refuse a configured attribute that the user model lacks."""
    for key in ("MOBILE_FIELD", "EMAIL_FIELD", "GROUPS_FIELD"):
        name = app.config.get(f"SMSVERIFY_{key}")
        if name is not None and not hasattr(user_model, name):
            known = difflib.get_close_matches(name, dir(user_model), n=1)
            hint = f"; did you mean {known[0]!r}?" if known else ""
            raise ConfigurationError(
                f"SMSVERIFY_{key} names {name!r}, which {user_model.__name__} does not have{hint}"
            )


def _check_sign_in(settings: Settings, callbacks: Callbacks) -> None:
    """Refuse a sign-in that could not find or create an account."""
    if not settings.sign_in:
        return
    if settings.accounts_per_mobile != 1 and callbacks.user_by_mobile is None:
        raise ConfigurationError(
            "SMSVERIFY_SIGN_IN with SMSVERIFY_ACCOUNTS_PER_MOBILE other than 1 needs a function "
            "that chooses the account: register it with @smsverify.user_by_mobile before init_app"
        )
    if settings.sign_up and callbacks.user_factory is None and settings.sign_up_url is None:
        raise ConfigurationError(
            "SMSVERIFY_SIGN_UP needs a function that creates accounts: register it with "
            "@smsverify.user_factory before init_app, or set SMSVERIFY_SIGN_UP_URL"
        )


def _check_first_proof(app: Flask, settings: Settings, callbacks: Callbacks) -> None:
    """Refuse a login gate whose link could not be sent."""
    if settings.login_gate_first_proof != "email":
        return
    if callbacks.email_sender is None:
        raise ConfigurationError(
            "SMSVERIFY_LOGIN_GATE_FIRST_PROOF = 'email' needs a function that sends the link: "
            "register it with @smsverify.email_sender before init_app"
        )
    # A link with the request's host would lead to the site of an attacker who forges it.
    if not (settings.pages_host(app.config.get("SERVER_NAME")) or settings.webotp_host):
        raise ConfigurationError(
            "SMSVERIFY_LOGIN_GATE_FIRST_PROOF = 'email' needs the host of the link: set "
            "SERVER_NAME or SMSVERIFY_WEBOTP_HOST"
        )


def _before_anonymous_send(callbacks: Callbacks, mobile: str, channel: str) -> None:
    """Call the host's function, which may be registered later than `init_app`."""
    if callbacks.before_anonymous_send is not None:
        callbacks.before_anonymous_send(mobile, channel)


def _warn_of_weak_settings(settings: Settings, app_name: str, *, is_development: bool) -> None:
    if settings.code_length < _RECOMMENDED_CODE_LENGTH:
        log.warning(
            "SMSVERIFY_CODE_LENGTH is %d: one guess in %s is right; %d digits are recommended",
            settings.code_length,
            f"{10**settings.code_length:,}",
            _RECOMMENDED_CODE_LENGTH,
            extra=log_event("weak_setting"),
        )
    if settings.consecutive_failures > _MAX_FAILURES:
        log.warning(
            "SMSVERIFY_CONSECUTIVE_FAILURES is %d; at most %d are recommended "
            "(NIST SP 800-63B-4, 3.2.2)",
            settings.consecutive_failures,
            _MAX_FAILURES,
            extra=log_event("weak_setting"),
        )
    if settings.site_name is None and not is_development:
        log.warning(
            "SMSVERIFY_SITE_NAME is not set: texts and pages show %r",
            app_name,
            extra=log_event("weak_setting"),
        )
    for name, options in settings.senders.items():
        if options["gateway"] == "memory" and not is_development:
            log.warning(
                "SMSVERIFY_SENDERS[%r] only stores codes in memory and sends none",
                name,
                extra=log_event("weak_setting"),
            )


def _rules(settings: Settings, test_numbers: Mapping[str, str]) -> Rules:
    return Rules(
        code_length=settings.code_length,
        code_lifetime=timedelta(seconds=settings.code_lifetime),
        max_attempts=settings.max_attempts,
        resend=settings.resend,
        resend_delays=settings.resend_delays,
        consecutive_failures=settings.consecutive_failures,
        accounts_per_mobile=settings.accounts_per_mobile,
        mobile_policy=settings.mobile_policy,
        mobile_settled=timedelta(seconds=settings.mobile_settled),
        change_delay=timedelta(seconds=settings.change_delay),
        test_numbers=test_numbers,
    )


def _parse_mobiles(
    key: str, mobiles: Iterable[str], parse_mobile: Callable[[object], str]
) -> list[str]:
    """Return the mobiles of a setting in E.164. An error names the position, not the number."""
    parsed = []
    for position, mobile in enumerate(mobiles, start=1):
        try:
            parsed.append(parse_mobile(mobile))
        except MobileError as error:
            raise ConfigurationError(f"SMSVERIFY_{key}: number {position}: {error}") from None
    return parsed


def _test_numbers(
    app: Flask, settings: Settings, parse_mobile: Callable[[object], str], clock: Clock
) -> Mapping[str, str]:
    if any(len(code) != settings.code_length for code in settings.test_numbers.values()):
        raise ConfigurationError(
            f"SMSVERIFY_TEST_NUMBERS: a code must have {settings.code_length} digits"
        )
    mobiles = _parse_mobiles("TEST_NUMBERS", settings.test_numbers, parse_mobile)
    numbers = dict(zip(mobiles, settings.test_numbers.values(), strict=True))
    if settings.test_numbers_until is None or app.debug or app.testing:
        return numbers
    return _ExpiringNumbers(numbers, settings.test_numbers_until, clock)


class _ExpiringNumbers(Mapping[str, str]):
    """Test numbers that disappear on a date, also in a process that runs past it."""

    def __init__(self, numbers: Mapping[str, str], until: date, clock: Clock) -> None:
        self._numbers = numbers
        self._until = until
        self._clock = clock

    def __getitem__(self, mobile: str) -> str:
        if self._clock().date() >= self._until:
            raise KeyError(mobile)
        return self._numbers[mobile]

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


# --- parts that need more than one line -------------------------------------------------------


def _app_id(app: Flask, settings: Settings) -> str:
    """Return the id that separates the app from others with its `SECRET_KEY` or database."""
    if settings.app_id is not None:
        return settings.app_id
    if len(app.name) > MAX_APP_ID:
        raise ConfigurationError(
            f"the app's name has more than {MAX_APP_ID} characters; set SMSVERIFY_APP_ID"
        )
    return app.name


def _ledger(
    app: Flask,
    db: SQLAlchemy,
    app_id: str,
    *,
    clock: Clock,
    is_host_writing: Callable[[], bool],
) -> Ledger:
    with app.app_context():
        engines = db.engines  # Flask-SQLAlchemy's own mapping, in which tests replace engines
        _default_engine(engines)
        connect_args = _engine_options(app, db).get("connect_args") or {}
        refuse_autocommit(connect_args, engines[None].dialect.name)
        return Ledger(
            lambda: engines[None],
            app_id=app_id,
            schema=db.metadata.schema,
            is_host_writing=is_host_writing,
            clock=clock,
        )


def _default_engine(engines: Mapping[str | None, Engine]) -> Engine:
    if None not in engines:
        raise ConfigurationError(
            "there is no default database; set SQLALCHEMY_DATABASE_URI beside the binds"
        )
    return engines[None]


def _dialect_of(app: Flask, db: SQLAlchemy, mapper: Mapper[Any]) -> Dialect:
    """Return the dialect of the database that has a mapper's table."""
    with app.app_context():
        bind_key = mapper.local_table.metadata.info.get("bind_key")  # type: ignore[attr-defined]  # it is a Table
        return (db.engines.get(bind_key) or _default_engine(db.engines)).dialect


def _engine_options(app: Flask, db: SQLAlchemy) -> dict[str, Any]:
    """Return the options of the host's default engine. Flask-SQLAlchemy merges three sources."""
    general: dict[str, Any] = getattr(db, "_engine_options", {})
    bind = (app.config.get("SQLALCHEMY_BINDS") or {}).get(None)
    named = dict(bind) if isinstance(bind, Mapping) else {}
    return {**general, **named, **app.config.get("SQLALCHEMY_ENGINE_OPTIONS", {})}


def _senders(
    app: Flask,
    settings: Settings,
    gateways: Mapping[str, type[Sender]],
    *,
    is_development: bool,
) -> dict[str, Sender]:
    configured = settings.senders
    if not configured:  # only in debug and testing; `Settings` refuses it elsewhere
        kind = "memory" if app.testing else "console"
        configured = {kind: {"gateway": kind}}
    return {
        name: build_sender(
            name,
            options,
            registered=gateways,
            simulator_url=settings.simulator_url,
            debug=is_development,
        )
        for name, options in configured.items()
    }


def _run_in(app: Flask, work: Callable[[], object]) -> object:
    with host_context(app):
        return work()


def _own_sender(
    settings: Settings, gateways: Mapping[str, type[Sender]], is_development: bool, sender: Sender
) -> Sender:
    """Return a second sender of the same account, with connections of its own.

    A sender of the host's class, and one that keeps messages in memory, may have a state that a
    second object would not share. Such a sender is returned itself.
    """
    options = settings.senders.get(sender.name)
    if (
        options is None
        or type(sender) is not find_gateway(str(options["gateway"]))
        or sender.gateway in ("memory", "console")
    ):
        return sender
    return build_sender(
        sender.name,
        options,
        registered=gateways,
        simulator_url=settings.simulator_url,
        debug=is_development,
    )


def _part_price(delivery: Delivery, text: str) -> Decimal | None:
    """Return the price of a part at the first sender of texts; None if it is not known."""
    for sender in delivery.routes.route("text")[:1]:
        if Capability.PRICES in sender.capabilities:
            try:
                return sender.part_price(text)
            except SenderError as error:
                log.warning(
                    "the prices were not read: %s", error, extra=log_event("prices_not_read")
                )
    return None


def _contacts(delivery: Delivery) -> Iterator[str]:
    """Yield the numbers of the first customer club of a sender."""
    for sender in delivery.routes.senders.values():
        if Capability.CONTACTS in sender.capabilities:
            return sender.contacts()
    raise ConfigurationError(
        "no sender has a customer club; one of SMS.ir needs api='legacy' and customer_club=True"
    )


def _code_texts(app: Flask, settings: Settings, live: LiveSettings) -> CodeTexts:
    host = settings.webotp_host
    if host is None:
        host = (settings.pages_host(app.config.get("SERVER_NAME")) or "").partition(":")[0] or None
    texts = CodeTexts(code_templates(settings.code_text), host, settings.sms_retriever_hash)
    texts.check(settings.code_length, sites=live.current.site_name)
    return texts
