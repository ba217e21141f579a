"""The faults that a user can switch on for a gateway."""

import threading
from dataclasses import dataclass, replace
from typing import Final

FAULTS: Final = {
    "slow": "Responds after some seconds.",
    "timeout": "Receives the request and never responds.",
    "http_500": "Responds with HTTP 500.",
    "down": "Resets the connection before the request is processed.",
    "code": "Answers with an error code of the gateway.",
    "state": "Reports messages in a state, such as undelivered or filtered.",
    "refuse_links": "Refuses texts with a link.",
    "refuse": "Refuses the recipient with the gateway's own error.",
    "no_credit": "Reports that the account has no credit.",
    "bad_credentials": "Reports that the credentials are wrong.",
    "late_delivery": "Accepts the message and delivers it late.",
    "lost_answer": "Delivers the message and closes the connection without a response.",
}
"""Every fault, with what the gateway does while it is on."""

LINK_GATEWAYS: Final = ("melipayamak",)
"""The gateways that have an error code for texts with a link."""


@dataclass(frozen=True)
class Fault:
    """A fault that is on for a gateway.

    :param times: how many calls it still affects; None for every call until it is switched off.
    :param code: of the fault `code`: the error code to answer with.
    :param state: of the fault `state`: a `messages.MessageState`, or the gateway's own value.
    """

    gateway: str
    name: str
    times: int | None
    code: int | None = None
    state: str | None = None


class Faults:
    """The faults that are on, for all gateways. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: dict[tuple[str, str], Fault] = {}

    def enable(
        self,
        gateway: str,
        name: str,
        times: int | None = None,
        *,
        code: int | None = None,
        state: str | None = None,
    ) -> Fault:
        """Switch a fault on, for `times` calls or until it is switched off."""
        fault = Fault(gateway, name, times, code, state)
        with self._lock:
            self._faults[gateway, name] = fault
        return fault

    def disable(self, gateway: str | None = None, name: str | None = None) -> None:
        """Switch faults off: all of them, those of a gateway, or a single one."""
        with self._lock:
            for key in list(self._faults):
                if gateway in (None, key[0]) and name in (None, key[1]):
                    del self._faults[key]

    def active(self) -> list[Fault]:
        """Return the faults that are on."""
        with self._lock:
            return list(self._faults.values())

    def find(self, gateway: str, name: str) -> Fault | None:
        """Return a fault that is on, without counting a call; else None."""
        with self._lock:
            return self._faults.get((gateway, name))

    def is_active(self, gateway: str, name: str) -> bool:
        """Return whether a fault is on, without counting a call."""
        return self.find(gateway, name) is not None

    def consume(self, gateway: str, name: str) -> bool:
        """Return whether a fault affects this call, and count the call."""
        return self.take(gateway, name) is not None

    def take(self, gateway: str, name: str) -> Fault | None:
        """Return the fault that affects this call, and count the call; None if there is none."""
        with self._lock:
            fault = self._faults.get((gateway, name))
            if fault is None:
                return None
            if fault.times is not None:
                if fault.times > 1:
                    self._faults[gateway, name] = replace(fault, times=fault.times - 1)
                else:
                    del self._faults[gateway, name]
            return fault
