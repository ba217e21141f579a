"""The delays of the simulator."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Delays in seconds.

    A message reaches the phone at once. The gateway reports it later, as real gateways do.

    :param at_operator: until the gateway reports a message as `sent` instead of `queued`.
    :param delivered: until it reports the message as `delivered`.
    :param slow: added to each response under the fault `slow`.
    :param timeout: until a connection under the fault `timeout` is closed.
    :param late_delivery: until a message under the fault `late_delivery` reaches the phone.
    """

    at_operator: float = 0.4
    delivered: float = 1.2
    slow: float = 5.0
    timeout: float = 60.0
    late_delivery: float = 20.0
