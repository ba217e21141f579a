"""Routes: the ordered senders of each kind of message: `sms`, `voice`, `text` and `event`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from ..errors import ConfigurationError
from ..senders.base import Capability, Sender


class Routes:
    """The configured senders and their order.

    :param senders: sender name → sender, in the order of the configuration.
    :param order: `sms`, `voice` and `text` → sender names, as in `SMSVERIFY_ROUTES`. A missing kind
        gets every capable sender. The order of `text` is also that of `event`, which includes
        senders that can only send patterns.
    :raises ConfigurationError: a route names a sender that cannot send its kind.
    """

    _CAPABILITIES: ClassVar[Mapping[str, frozenset[Capability]]] = {
        "sms": frozenset({Capability.CODE_SMS, Capability.NATIVE_CODE}),
        "voice": frozenset({Capability.CODE_VOICE}),
        "event": frozenset({Capability.TEXT, Capability.PATTERN}),
    }

    def __init__(self, senders: Mapping[str, Sender], order: Mapping[str, Sequence[str]]) -> None:
        self.senders = dict(senders)
        self._routes: dict[str, list[Sender]] = {}
        for kind, needed in self._CAPABILITIES.items():
            capable = [sender for sender in senders.values() if sender.capabilities & needed]
            key = "text" if kind == "event" else kind
            if key not in order:
                self._routes[kind] = capable
                continue
            route = [senders[name] for name in dict.fromkeys(order[key])]
            for sender in route:
                if sender not in capable:
                    raise ConfigurationError(
                        f"SMSVERIFY_ROUTES[{key!r}] names {sender.name!r}, whose gateway or "
                        "options cannot do that"
                    )
            self._routes[kind] = route
        self._routes["text"] = [
            sender for sender in self._routes["event"] if Capability.TEXT in sender.capabilities
        ]

    def route(self, kind: str) -> list[Sender]:
        """Return the senders for `sms`, `voice`, `text` or `event`, in order; possibly none."""
        return self._routes[kind]

    def can(self, kind: str) -> bool:
        """Return whether there is a sender for `sms`, `voice`, `text` or `event`."""
        return bool(self._routes[kind])

    def close(self) -> None:
        """Close the connections of every sender."""
        for sender in self.senders.values():
            sender.close()
