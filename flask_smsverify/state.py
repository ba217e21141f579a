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
from .delivery import Delivery
from .delivery.background import BackgroundWorkers
from .errors import ConfigurationError
from .keyring import Keyring
from .limits.usage import LimitStore
from .messaging.event_texts import EventTexts
from .messaging.tracking import Tracker
from .settings import Settings
from .settings.runtime import LiveSettings
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
    ledger: Ledger
    usage: LimitStore
    workers: BackgroundWorkers
    delivery: Delivery
    event_texts: EventTexts
    tracker: Tracker
    verifier: Verifier
    sign_in: SignIn
    proof_of_work: ProofOfWork
    guard_responses: GuardResponses
    locale: Callable[[], str]
    parse_mobile: Callable[[object], str]

    def close(self) -> None:
        """Finish background work, and close connections to gateways and to the database."""
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
        raise ConfigurationError("SMSVerify.init_app was not called on this app") from None
    return state
