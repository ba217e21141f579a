"""`flask smsverify …`: commands for staff and developers."""

from __future__ import annotations

from . import dispatch, doctor, limits, openapi, purge, send, senders, simulator, sync, users
from .group import smsverify

__all__ = [
    "dispatch",
    "doctor",
    "limits",
    "openapi",
    "purge",
    "send",
    "senders",
    "simulator",
    "smsverify",
    "sync",
    "users",
]
