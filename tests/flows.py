"""What tests of the verifier share: a clock, a native gateway, a user's way through a proof."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

from clocks import Clock
from flask import Flask
from hostapp import User, db

from flask_smsverify.db.models import Challenge, Verification
from flask_smsverify.delivery import Routes
from flask_smsverify.limits.usage import Charge
from flask_smsverify.senders.base import Capability, DeliveryState, Receipt, Sender
from flask_smsverify.senders.memory import Memory
from flask_smsverify.verification.verifier import Verifier

MEMORY = {"memory": {"gateway": "memory"}}
#: Every budget lifted, for tests of something else.
NO_LIMITS = dict.fromkeys(
    (
        "mobile",
        "user",
        "mobiles_per_user",
        "ip",
        "foreign",
        "site",
        "failures",
        "site_failures",
    )
)


class Native(Sender):
    """A gateway that makes and checks codes: by mobile and code alone, as often as asked.

    Codes are known by `sent`; failures to come stand in `sending` and `checking`.
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
            self.sent.append((to, f"{1234 + len(self.sent)}"))
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
    """One app, its clock, and its users' steps. Lives inside an app context."""

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
        """Send through these instead of what was configured."""
        self.state.delivery.use_routes(Routes({sender.name: sender for sender in senders}, order))

    def user(self, number: int = 1) -> User:
        user = db.session.get(User, number)
        assert user is not None
        return user

    def start(self, number: int = 1, **options: Any) -> Challenge:
        return self.verifier.start(self.user(number), **options)

    def code(self, challenge: Challenge) -> str:
        """The code of ours that is right for a challenge."""
        return self.verifier._challenges.own_code(challenge)

    def wrong(self, challenge: Challenge) -> str:
        """A code of the right length that is wrong."""
        right = self.code(challenge)
        return right[:-1] + str((int(right[-1]) + 5) % 10)

    def check(self, challenge: Challenge, code: str, **options: Any) -> Any:
        return self.verifier.check(self.verifier.load(challenge.id), code, **options)

    def prove(self, number: int = 1, **options: Any) -> Any:
        challenge = self.start(number, **options)
        return self.check(challenge, self.code(challenge))

    def verification(self, number: int = 1) -> Verification | None:
        return self.state.ledger.read(lambda session: session.get(Verification, str(number)))

    def use_keys(self, *secrets: str) -> None:
        """Derive codes and digests from other secrets from now on."""
        self.state.keyring.__init__(secrets)

    def move(self, number: int, mobile: str | None) -> None:
        """Change a user's mobile in the host."""
        self.user(number).mobile = mobile
        db.session.commit()

    def used(self, scope: str, key: str = "") -> int:
        """The units that a budget's key holds now, in the longest of its windows."""
        charge = Charge(scope, key, self.state.settings.limits[scope][-1:])
        [usage] = self.state.usage.usage([charge], self.clock())
        return usage.used


def flow_of(app: Flask, clock: Clock | None = None) -> Flow:
    """A flow over an app, whose verifier and delivery go by the clock from now on."""
    clock = clock or Clock()
    state = app.extensions["smsverify"]
    state.clock.source = clock
    return Flow(app, clock)
