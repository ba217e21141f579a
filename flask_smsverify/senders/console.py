"""The console: what would be sent is written to the log, for a developer's own machine.

The log then holds codes, so it works in debug only.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..errors import ConfigurationError
from .base import Capability, CodeMessage, Receipt, Sender, Status, Text

logger = logging.getLogger("flask_smsverify.console")


class Console(Sender):
    """Writes messages to the logger `flask_smsverify.console`.

    As warnings, because those show also where no logging is set up.

    :param enabled: whether this is debug.
    :raises ConfigurationError: it is not.
    """

    gateway = "console"
    batch_limit = 100

    def __init__(self, *, enabled: bool, name: str | None = None) -> None:
        super().__init__(name=name)
        if enabled is not True:
            raise ConfigurationError(
                f"{self.name}: the console shows codes in the log, so it works in debug only; "
                "take it out of SMSVERIFY_SENDERS or turn debug on"
            )

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.TEXT, Capability.CODE_SMS, Capability.CODE_VOICE})

    def _send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        receipts = []
        for text in batch:
            # As a literal, so that a text's line break makes no line of the log.
            logger.warning("sms to %s: %r", text.to, text.text)
            receipts.append(Receipt(text.to, Status.SENT, reference=text.reference))
        return receipts

    def send_code(self, message: CodeMessage) -> Receipt:
        """Show a code: the whole text for an SMS, the code alone for a call."""
        said = message.text if message.channel == "sms" else message.code
        logger.warning("%s to %s: %r", message.channel, message.to, said)
        return Receipt(message.to, Status.SENT, reference=message.reference)
