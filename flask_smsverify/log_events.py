"""The names of log records, for filters and alerts that must not depend on the text."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from .errors import locate


def log_event(name: str) -> Mapping[str, object]:
    """Return the argument `extra` of a log call: the record's attribute `event` is the name."""
    return {"event": f"smsverify.{name}"}


def log_external_error(
    log: logging.Logger, text: str, *values: object, error: BaseException, event: str
) -> None:
    """Log an exception of the host's or a gateway's code: its class and traceback.

    Its message is not logged, because it may contain a mobile, a code or a credential.

    :param text: what failed, with placeholders for `values`.
    :param event: the name of the record.
    """
    log.error(f"{text}: %s", *values, locate(error), extra=log_event(event))
