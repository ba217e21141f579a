"""Signals to the host app, and notices to people. Implements `verification.host.Announcer`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from blinker import NamedSignal
from flask import Flask

from . import request_cache
from .app_context import host_context
from .log_events import log_external_error
from .messaging.notifier import Notifier

log = logging.getLogger(__name__)


class SignalEmitter:
    """Sends the signals of one app."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    def emit(self, signal: NamedSignal, **values: Any) -> None:
        """Send a signal. Receivers run in an app context, also in worker threads.

        An exception in a receiver is logged, because it must not undo a send or a proof. It does
        not keep the other receivers from running. If `app.testing` is on, it is raised.
        """
        request_cache.invalidate()
        if signal.is_muted:
            return
        with host_context(self._app):
            for receiver in signal.receivers_for(self._app):
                try:
                    self._app.ensure_sync(receiver)(self._app, **values)
                except Exception as error:
                    if self._app.testing:
                        raise
                    log_external_error(
                        log,
                        "a receiver of the signal %s failed",
                        signal.name,
                        error=error,
                        event="receiver_failed",
                    )


class AppAnnouncer:
    """Announces on behalf of one app."""

    def __init__(self, emit: Callable[..., None], notifier: Notifier) -> None:
        self.emit = emit
        self.notify = notifier.notify
        self.send_notice = notifier.send
