"""Helpers for tests of the verifier: an app with a fixed clock, steps of users, a fake gateway."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

import pytest
from clocks import Clock
from flask import Flask
from hostapp import User, db
from sqlalchemy import func, select

from flask_smsverify.db.models import Challenge, Verification
from flask_smsverify.delivery import Routes
from flask_smsverify.senders.base import Capability, DeliveryState, Receipt, Sender
from flask_smsverify.senders.memory import Memory
from flask_smsverify.verification import codes
from flask_smsverify.verification.verifier import Verifier

MEMORY = {"memory": {"gateway": "memory"}}
#: Disables the limits, for tests that are not about limits.
NO_LIMITS = dict.fromkeys(
    (
        "mobile",
        "user",
        "mobiles_per_user",
        "ip",
        "network",
        "wide",
        "foreign",
        "site",
        "tries",
        "tries_network",
        "failures",
        "failures_ip",
        "failures_network",
        "site_failures",
    )
)


class Native(Sender):
    """A native gateway that compares mobile and code alone, and accepts a code more than once.

    `sent` has the mobiles and codes of native codes, `own` the messages with own codes. The next
    calls raise the errors in `sending` and `checking`.

    :param also_own: whether it can also send own codes.
    :param as_numbers: whether it compares codes as numbers.
    """

    gateway = "native"

    def __init__(
        self, *, name: str | None = None, also_own: bool = True, as_numbers: bool = False
    ) -> None:
        super().__init__(name=name)
        self._also_own = also_own
        self._as_numbers = as_numbers
        self._lock = threading.Lock()
        self.sent: list[tuple[str, str]] = []
        self.own: list[Any] = []
        self.checked: list[tuple[str, str]] = []
        self.sending: deque[Exception] = deque()
        self.checking: deque[Exception] = deque()

    @property
    def capabilities(self) -> frozenset[Capability]:
        own = {Capability.CODE_SMS, Capability.CODE_VOICE} if self._also_own else set()
        return frozenset({Capability.NATIVE_CODE, *own})

    def send_native_code(self, to: str) -> Receipt:
        with self._lock:
            if self.sending:
                raise self.sending.popleft()
            self.sent.append((to, f"{57310001 + len(self.sent)}"))
        return Receipt(to, DeliveryState.SENT)

    def check_native_code(self, to: str, code: str) -> bool:
        with self._lock:
            self.checked.append((to, code))
            if self.checking:
                raise self.checking.popleft()
            known = [(mobile, int(sent)) for mobile, sent in self.sent]
            return (to, int(code)) in known if self._as_numbers else (to, code) in self.sent

    def send_code(self, message: Any) -> Receipt:
        with self._lock:
            if self.sending:
                raise self.sending.popleft()
            self.own.append(message)
        return Receipt(message.to, DeliveryState.SENT)


@dataclass
class Flow:
    """One app, its clock, and the steps of its users. Use it inside an app context."""

    app: Flask
    clock: Clock

    @property
    def verifier(self) -> Verifier:
        return self.app.extensions["smsverify"].verifier

    @property
    def state(self) -> Any:
        return self.app.extensions["smsverify"]

    @property
    def memory(self) -> Memory:
        return self.state.delivery.routes.senders["memory"]

    def route(self, *senders: Sender, **order: list[str]) -> None:
        """Use these senders instead of the configured ones."""
        self.state.delivery.use_routes(Routes({sender.name: sender for sender in senders}, order))

    def user(self, number: int = 1) -> User:
        user = db.session.get(User, number)
        assert user is not None
        return user

    def start(self, number: int = 1, **options: Any) -> Challenge:
        return self.verifier.start(self.user(number), **options)

    def sign_up(self, mobile: str, *, wait: bool = True, **options: Any) -> Challenge:
        """Start a challenge for a mobile without an account.

        :param wait: wait until the background thread has sent the code.
        """
        challenge = self.verifier.start_for(mobile, purpose="sign-up", **options)
        if wait:
            self.state.workers.wait()
        return challenge

    def code(self, challenge: Challenge) -> str:
        """Return the own code of a challenge."""
        return self.verifier._challenges.own_code(challenge)

    def wrong(self, challenge: Challenge) -> str:
        """Return a wrong code of the right length."""
        right = self.code(challenge)
        return right[:-1] + str((int(right[-1]) + 5) % 10)

    def check(self, challenge: Challenge, code: str, **options: Any) -> Any:
        return self.verifier.check(self.verifier.load(challenge.id), code, **options)

    def prove(self, number: int = 1, **options: Any) -> Any:
        challenge = self.start(number, **options)
        return self.check(challenge, self.code(challenge))

    def verification(self, number: int = 1) -> Verification | None:
        return self.state.ledger.read(lambda session: session.get(Verification, str(number)))

    def state_of(self, number: int = 1) -> str:
        """Return the state of a user's verification."""
        return self.verifier.status(self.user(number)).state

    def holders(self, mobile: str) -> int:
        """Return how many accounts hold a mobile."""
        held = select(func.count()).where(
            Verification.mobile == mobile, Verification.revoked_at.is_(None)
        )
        return self.state.ledger.read(lambda session: session.scalar(held))

    def use_keys(self, *secrets: str) -> None:
        """Replace the secrets that codes and digests are derived from."""
        self.state.keyring.__init__(secrets, app_id="host")

    def set_mobile(self, number: int, mobile: str | None) -> None:
        """Change a user's mobile in the host."""
        self.user(number).mobile = mobile
        db.session.commit()

    def used(self, scope: str, key: str = "") -> int:
        """Return the usage of a key in the longest window of a limit.

        :param key: a mobile, a user's key or an address; for `failures`, with `user` or `mobile`
            before it.
        """
        kinds = {"mobile": "mobile", "user": "user_id", "mobiles_per_user": "user_id"}
        kind, _, rest = key.partition(" ")
        named = {kinds[kind]: rest} if scope == "failures" else {kinds.get(scope, "ip"): key}
        scopes = self.state.limit_report.scopes(**(named if key else {}))
        usages = self.state.limit_report.usage(scopes, self.clock())
        return [usage for usage in usages if usage.scope == scope][-1].used

    def reset(self, *names: str, **named: str) -> None:
        """Reset limits of the site, or those of a mobile, a user or an address, by their names."""
        scopes = self.state.limit_report.scopes(**named)
        self.state.limit_report.reset(
            [scope for scope in scopes if not names or scope.name in names]
        )


def flow_of(app: Flask, clock: Clock | None = None) -> Flow:
    """Return a flow of an app, and make the app use the clock."""
    clock = clock or Clock()
    state = app.extensions["smsverify"]
    state.clock.source = clock
    return Flow(app, clock)


def count_comparisons(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list that gets the result of every comparison of two codes."""
    results: list[bool] = []
    is_same_code = codes.is_same_code

    def compare(typed: str, right: str) -> bool:
        results.append(result := is_same_code(typed, right))
        return result

    monkeypatch.setattr(codes, "is_same_code", compare)
    return results
