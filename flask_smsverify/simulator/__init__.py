"""A simulator of five SMS gateways and of the phones that receive their messages.

It imports nothing from the rest of the package, so that a bug in the senders cannot be hidden by
the same bug here. Start it with `flask smsverify simulator`, or in a test with `running()`.

`gateways` has one module or package for each gateway. `state` holds what they record, `app` builds
the Flask app and `server` runs it.
"""

from .app import create_simulator
from .faults import FAULTS
from .server import Simulator, running, serve
from .timing import Timing

__all__ = ["FAULTS", "Simulator", "Timing", "create_simulator", "running", "serve"]
