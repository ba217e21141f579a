"""The same attacks on flask_smsverify, on the host app of this project's tests.

Guesses go to the verification page of a logged-in user. Messages are asked for at a sign-up view
as the documentation shows it, by anybody. Runs in the project's own environment.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from attack import Browser, Target, Victim, main
from flask import Flask, request

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from hostapp import User, create_app, db

from flask_smsverify.errors import SMSVerifyError
from flask_smsverify.senders.base import CodeMessage, Receipt
from flask_smsverify.senders.memory import Memory
from flask_smsverify.verification import codes


class FlaskSmsverify(Target):
    """The defaults."""

    package = "flask-smsverify"
    beside = ("Flask",)
    limit = 5
    sender = "anybody who signs up"

    def app(self) -> Flask:
        """The tests' host app with its sender in memory, and a sign-up view."""
        meter = self.meter
        send_code = Memory.send_code

        def counted(self: Memory, message: CodeMessage) -> Receipt:
            meter.note_message(message.code)
            return send_code(self, message)

        Memory.send_code = counted
        codes.is_same_code = meter.watch(codes.is_same_code)
        app = create_app(f"sqlite:///{self.database}")
        smsverify = app.extensions["test_smsverify"]

        @app.post("/sign-up/send")
        def sign_up() -> str:
            with contextlib.suppress(SMSVerifyError):
                smsverify.verifier.start_for(
                    request.form["mobile"], purpose="sign-up", ip=request.remote_addr
                )
            return "if the number is right, a code is on its way"

        with app.app_context():
            db.create_all()
        self._app = app
        return app

    def enrol(self, victim: Victim) -> None:
        """A user with the victim's number; the attacker is logged in."""
        victim.data["mobile"] = f"0912345{victim.number:04}"
        with self._app.app_context():
            db.session.add(User(id=victim.number, mobile=victim.data["mobile"]))
            db.session.commit()
        victim.browser.get(f"/login/{victim.number}")

    def ask(self, victim: Victim) -> None:
        """Press the button that sends the code, or sends it again."""
        victim.browser.post_json("/verify-mobile/send", {})

    def guess(self, victim: Victim, code: str) -> bool:
        """Enter a code."""
        return victim.browser.post_json("/verify-mobile/check", {"code": code}).status == 200

    def come_again(self, victim: Victim) -> None:
        """The same page takes codes."""

    def flood(self, victim: Victim) -> None:
        """Ask for a sign-up code to the victim's number, in a new session."""
        stranger = Browser(victim.browser.port, victim.browser.address)
        stranger.post("/sign-up/send", {"mobile": victim.data["mobile"]})


if __name__ == "__main__":
    main(FlaskSmsverify)
