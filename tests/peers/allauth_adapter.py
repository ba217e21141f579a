"""The adapter that django-allauth is given: where numbers are kept, and what is called to send.

A user's number stands in the first name and whether it is proved in the last, so that no model of
its own is needed. It sends nothing and counts. By itself, because the package can be imported only
once Django is set up.
"""

from __future__ import annotations

from typing import Any, ClassVar

from allauth.account.adapter import DefaultAccountAdapter
from attack import Meter
from django.contrib.auth import get_user_model

_PROVED = "proved"


class Counting(DefaultAccountAdapter):
    """The part that allauth leaves to a site."""

    meter: ClassVar[Meter]

    def send_verification_code_sms(self, user: Any, phone: str, code: str, **kwargs: Any) -> None:
        """Note a code."""
        self.meter.note_message(code)

    def send_account_already_exists_sms(self, phone: str) -> None:
        """Note a message that carries no code; it costs as much."""
        self.meter.note_message("")

    def send_unknown_account_sms(self, phone: str, **kwargs: Any) -> None:
        """Note a message that carries no code; it costs as much."""
        self.meter.note_message("")

    def get_phone(self, user: Any) -> tuple[str, bool] | None:
        """A user's number, and whether it is proved."""
        return (user.first_name, user.last_name == _PROVED) if user.first_name else None

    def set_phone(self, user: Any, phone: str, verified: bool) -> None:
        """Keep a user's number."""
        user.first_name, user.last_name = phone, _PROVED if verified else ""
        user.save()

    def set_phone_verified(self, user: Any, phone: str) -> None:
        """Keep that a user's number is proved."""
        self.set_phone(user, phone, True)

    def get_user_by_phone(self, phone: str) -> Any:
        """The user with that number, or None."""
        return get_user_model().objects.filter(first_name=phone).first()
