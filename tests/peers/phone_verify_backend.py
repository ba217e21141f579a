"""The SMS backend that django-phone-verify is given: it sends nothing and counts.

By itself, because the package can be imported only once Django is set up.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from attack import Meter
from phone_verify.backends.base import BaseBackend


class Counting(BaseBackend):
    """Notes messages, and the verdicts that tell of a comparison."""

    meter: ClassVar[Meter]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.exception_class = OSError

    def send_sms(self, number: str, message: str) -> None:
        """Note a message."""
        self.meter.note_message(re.findall(r"\d{6}", message)[-1])

    def send_bulk_sms(self, numbers: list[str], message: str) -> None:
        """Note a message for each number."""
        for number in numbers:
            self.send_sms(number, message)

    def validate_security_code(self, *args: Any, **kwargs: Any) -> Any:
        """What the package does; any other verdict than these two came before the comparison."""
        verification, verdict = super().validate_security_code(*args, **kwargs)
        if verdict in (self.SECURITY_CODE_VALID, self.SECURITY_CODE_INVALID):
            self.meter.note_comparison()
        return verification, verdict
