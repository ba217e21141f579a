"""Settings: every `SMSVERIFY_*` key with its type, default and check, and the run-time snapshot."""

from __future__ import annotations

from .checks import is_printable
from .limits_notation import Limit, parse_limits
from .runtime import LiveSettings, RuntimeSettings
from .schema import DEFAULT_LIMITS, PREFIX, Settings

__all__ = [
    "DEFAULT_LIMITS",
    "PREFIX",
    "Limit",
    "LiveSettings",
    "RuntimeSettings",
    "Settings",
    "is_printable",
    "parse_limits",
]
