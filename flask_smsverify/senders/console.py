"""The sender `console`: writes messages to the log, for development.

The log then contains codes, so this sender works in debug mode only.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..errors import ConfigurationError
from ..log_events import log_event
from .base import Capability, CodeMessage, DeliveryState, Receipt, Sender, Text

logger = logging.getLogger("flask_smsverify.console")


class Console(Sender):
    """Writes messages to the logger `flask_smsverify.console`.

    Texts and codes by SMS are logged whole, and of a call only the code. Patterns are not
    supported. Messages are logged as warnings, which appear even if logging is not configured.

    :param enabled: whether the app runs in debug mode.
    :raises ConfigurationError: the app does not run in debug mode.
    """

    gateway = "console"
    batch_limit = 100

    def __init__(self, *, enabled: bool, name: str | None = None) -> None:
        super().__init__(name=name)
        if enabled is not True:
            raise ConfigurationError(
                f"{self.name}: the console writes codes to the log, so it works in debug mode "
                "only. Remove it from SMSVERIFY_SENDERS, or run with --debug."
            )

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.TEXT, Capability.CODE_SMS, Capability.CODE_VOICE})

    def send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        """Log each text."""
        receipts = []
        for text in batch:
            # %r, so that a line break in a text cannot start a forged log line.
            logger.warning("sms to %s: %r", text.to, text.text, extra=log_event("console_message"))
            receipts.append(Receipt(text.to, DeliveryState.SENT, reference=text.reference))
        return receipts

    def send_code(self, message: CodeMessage) -> Receipt:
        """Log a code: the whole text for an SMS, the code alone for a call."""
        shown = message.text if message.channel == "sms" else message.code
        logger.warning(
            "%s to %s: %r", message.channel, message.to, shown, extra=log_event("console_message")
        )
        return Receipt(message.to, DeliveryState.SENT, reference=message.reference)
