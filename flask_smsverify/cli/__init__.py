"""`flask smsverify …`: commands for staff and developers."""

from __future__ import annotations

from . import limits, purge, senders, simulator, users
from .group import smsverify

__all__ = ["limits", "purge", "senders", "simulator", "smsverify", "users"]
