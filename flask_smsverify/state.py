"""The state of an app: a passive record of its objects, and `get_state` to find it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from flask import Flask, current_app
from flask.typing import ResponseReturnValue
from flask_sqlalchemy import SQLAlchemy

from .clock import Clock
from .db.ledger import Ledger
from .db.setting_store import SettingStore
from .delivery import Delivery
from .delivery.background import BackgroundWorkers
from .delivery.health import HealthChecks
from .errors import ConfigurationError
from .keyring import Keyring
from .limits.other_counts import Counters
from .limits.report import LimitReport
from .messaging.bulk import BulkSends
from .messaging.event_queue import EventQueue
from .messaging.event_texts import EventTexts
from .messaging.first_checks import FirstChecks
from .messaging.opt_out import OptOuts
from .messaging.outbox import Outbox
from .messaging.sync import StateSync
from .messaging.tracking import Tracker
from .messaging.worker import InlineWorker, Queue
from .settings import Settings
from .settings.runtime import LiveSettings
from .signing import TokenSigning
from .users import Callbacks, HostUsers
from .verification.policy import Decision, Policy
from .verification.proof_of_work import ProofOfWork
from .verification.sign_in import SignIn
from .verification.verifier import Verifier


class GuardResponses(Protocol):
    """The responses of a guard that refuses a request. The web layer implements it."""

    def unverified(self, decision: Decision) -> ResponseReturnValue:
        """Respond to a user who must prove a mobile first."""

    def login_pending(self, decision: Decision) -> ResponseReturnValue:
        """Respond to a user whose login waits for a code."""

    def anonymous(self) -> ResponseReturnValue:
        """Respond to a visitor who is not logged in."""


@dataclass(slots=True, kw_only=True)
class AppState:
    """The objects of one app, at `app.extensions["smsverify"]`."""

    app: Flask
    db: SQLAlchemy
    settings: Settings
    live: LiveSettings
    callbacks: Callbacks
    users: HostUsers
    policy: Policy
    clock: Clock
    keyring: Keyring
    signing: TokenSigning
    ledger: Ledger
    counters: Counters
    limit_report: LimitReport
    workers: BackgroundWorkers
    delivery: Delivery
    event_texts: EventTexts
    health: HealthChecks
    setting_store: SettingStore
    tracker: Tracker
    outbox: Outbox
    event_queue: EventQueue
    batches: BulkSends
    opt_outs: OptOuts
    sync: StateSync
    first_checks: FirstChecks
    #: The queues, and the threads of this process that empty them.
    queues: tuple[Queue, ...]
    inline_workers: tuple[InlineWorker, ...]
    verifier: Verifier
    sign_in: SignIn
    proof_of_work: ProofOfWork
    guard_responses: GuardResponses
    locale: Callable[[], str]
    parse_mobile: Callable[[object], str]

    def wait(self) -> None:
        """Wait until background work is done and the outbox contains no message that is due."""
        self.workers.wait()
        for worker in self.inline_workers:
            worker.wait()

    def close(self) -> None:
        """Finish background work, stop the outbox's threads, and close all connections."""
        for worker in self.inline_workers:
            worker.close()
        self.workers.close()
        self.delivery.close()
        self.ledger.close()


def get_state(app: Flask | None = None) -> AppState:
    """Return the state of an app, by default of the current one.

    :raises ConfigurationError: `init_app` was not called on it.
    """
    try:
        state: AppState = (app or current_app).extensions["smsverify"]
    except KeyError:
        raise ConfigurationError(
            "SMSVerify.init_app was not called on this app. Call smsverify.init_app(app, db, "
            "user_model=User) where the app is created."
        ) from None
    return state
