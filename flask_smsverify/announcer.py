"""Signals to the host app, and notices to people. Implements `verification.rules.Announcer`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from blinker import NamedSignal
from flask import Flask

from . import request_cache

log = logging.getLogger(__name__)


class AppAnnouncer:
    """Announces on behalf of one app.

    :param notify: sends the text of an event; see `messaging.notifier`.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self.notifier: Callable[..., None] | None = None

    def emit(self, signal: NamedSignal, **values: Any) -> None:
        """Send a signal. An exception in a receiver must not undo a send or a proof."""
        request_cache.invalidate()
        try:
            signal.send(self._app, **values)
        except Exception:
            log.exception("a receiver of the signal %s failed", signal.name)

    def notify(self, event: str, *, mobile: str | None, **values: str) -> None:
        """Send the text of an event to a mobile, or to the staff where that is None."""
        if self.notifier is not None:
            self.notifier(event, mobile=mobile, **values)
