"""The names of log records, for filters and alerts that must not depend on the text."""

from __future__ import annotations

from collections.abc import Mapping


def log_event(name: str) -> Mapping[str, object]:
    """Return the argument `extra` of a log call: the record's attribute `event` is the name."""
    return {"event": f"smsverify.{name}"}
