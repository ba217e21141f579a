"""`flask smsverify …`: commands for staff and developers."""

from __future__ import annotations

from . import limits, senders, simulator, users
from .group import smsverify

__all__ = ["limits", "senders", "simulator", "smsverify", "users"]
