"""`flask smsverify …`: commands for staff and developers."""

from __future__ import annotations

from . import dispatch, limits, purge, send, senders, simulator, sync, users
from .group import smsverify

__all__ = [
    "dispatch",
    "limits",
    "purge",
    "send",
    "senders",
    "simulator",
    "smsverify",
    "sync",
    "users",
]
