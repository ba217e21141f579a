"""The other party: five SMS gateways as their clients see them, and the phone that they reach.

It imports nothing of the rest of the package, so that a mistake in what is sent cannot be made good
by the same mistake in what is understood. Start it by `flask smsverify simulator`, or in a test by
`running()`. Each gateway is a file; `state` is what they all remember; `server` runs it.
"""

from .app import create_simulator
from .server import Simulator, running, serve
from .state import FAULTS, Pace

__all__ = ["FAULTS", "Pace", "Simulator", "create_simulator", "running", "serve"]
