"""`flask smsverify sync`."""

from __future__ import annotations

from ..state import get_state
from .group import smsverify
from .output import print_table


@smsverify.command("sync")
def sync() -> None:
    """Ask the gateways for delivery states and for messages from phones."""
    results = get_state().sync.run()
    print_table(
        ("SENDER", "STATES", "FOUND", "RECEIVED", "PROBLEM"),
        (
            (
                result.sender,
                str(result.asked),
                str(result.found),
                str(result.received),
                result.failed or "-",
            )
            for result in results
        ),
    )
