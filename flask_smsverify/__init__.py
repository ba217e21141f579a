"""Phone verification for Flask: an extension object, a decorator, and pages that ask for a code."""

from __future__ import annotations

from . import cli, errors, signals, web
from .decorators import require_verified_mobile
from .extension import SMSVerify
from .verification.policy import Decision, Status

__all__ = [
    "Decision",
    "SMSVerify",
    "Status",
    "cli",
    "errors",
    "require_verified_mobile",
    "signals",
    "web",
]
