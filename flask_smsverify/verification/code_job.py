"""The delivery job of a challenge's code: its text, and which code each sender sends."""

from __future__ import annotations

import logging

from sqlalchemy.orm import Session

from ..db.ids import shorten
from ..db.models import Attempt, Challenge, Message
from ..delivery.attempts import Attempts
from ..errors import StoreUnavailable
from ..i18n.code_text import CodeTexts
from ..i18n.segments import count_segments
from ..log_events import log_event
from ..senders.base import Capability, CodeMessage, Receipt, Sender
from ..settings.runtime import RuntimeSettings
from .challenges import Challenges, lock_challenge
from .native import NativeCodes
from .send_limits import Send, SendLimits

log = logging.getLogger(__name__)


class CodeJob:
    """Implements `delivery.Job` for the code of one challenge.

    Each sender sends its native code if the challenge may use it, and otherwise the own code.
    """

    def __init__(
        self,
        challenge: Challenge,
        message: Message,
        code: CodeMessage,
        send: Send,
        *,
        attempts: Attempts,
        native: NativeCodes,
        limits: SendLimits,
    ) -> None:
        self.message = message
        self._challenge = challenge
        self._code = code
        self._send = send
        self._attempts = attempts
        self._native = native
        self._limits = limits
        self._assigned_now: set[str] = set()
        self._copy: Send | None = None

    def __repr__(self) -> str:
        return f"<CodeJob for challenge {shorten(self._challenge.id)}>"

    @property
    def kind(self) -> str:
        return self._code.channel

    def can_use(self, sender: Sender) -> bool:  # noqa: ARG002 -- `carry` decides, with the challenge
        return True

    def open_attempt(self, session: Session, sender: Sender) -> Attempt | None:
        challenge = lock_challenge(session, self._challenge.id)
        message = session.get(Message, self.message.id, with_for_update=True)
        attempt = self.carry(session, challenge, message, sender)
        if attempt is not None and message is not None and message.state == Attempt.FAILED:
            message.state = Attempt.SENDING
        return attempt

    def carry(
        self, session: Session, challenge: Challenge, message: Message | None, sender: Sender
    ) -> Attempt | None:
        """Return an attempt by this sender; None if it can send no code of the challenge.

        The challenge and the message are changed accordingly.

        :param challenge: locked, or new.
        :param message: locked, or new; None if it was erased.
        """
        if self._uses_native_code(session, challenge, sender):
            native = True
        elif self._can_carry_own_code(sender):
            challenge.own_sent = True
            native = False
        else:
            return None
        if message is not None and not native and self._code.channel == "sms":
            message.parts = count_segments(self._code.text)
        return self._attempts.new(self.message.id, sender, native=native)

    def _uses_native_code(self, session: Session, challenge: Challenge, sender: Sender) -> bool:
        if self._code.channel != "sms" or Capability.NATIVE_CODE not in sender.capabilities:
            return False
        if challenge.native_sender == sender.name:
            return True
        if not self._native.assign(session, challenge, sender.name):
            return False
        self._assigned_now.add(sender.name)
        return True

    def _can_carry_own_code(self, sender: Sender) -> bool:
        is_sms = self._code.channel == "sms"
        needed = Capability.CODE_SMS if is_sms else Capability.CODE_VOICE
        return needed in sender.capabilities

    def call(self, sender: Sender, attempt: Attempt) -> Receipt:
        if attempt.native:
            return sender.send_native_code(self._code.to)
        return sender.send_code(self._code)

    def may_send_second_copy(self) -> bool:
        self._copy = self._limits.reserve_second_copy(self._send)
        return self._copy is not None

    def second_copy_failed(self) -> None:
        if self._copy is not None:
            self._limits.refund_second_copy(self._copy)

    def attempt_failed(self, attempt: Attempt) -> None:
        if attempt.sender not in self._assigned_now:
            return
        try:
            self._native.release(self._challenge.id, attempt.sender)
        except StoreUnavailable:  # the sender's error must not be replaced by this one
            log.exception(
                "the native codes of %s could not be released",
                attempt.sender,
                extra=log_event("native_codes_not_released"),
            )


class CodeJobs:
    """Prepares the jobs of codes."""

    def __init__(
        self,
        attempts: Attempts,
        native: NativeCodes,
        limits: SendLimits,
        *,
        challenges: Challenges,
        texts: CodeTexts,
    ) -> None:
        self._attempts = attempts
        self._native = native
        self._limits = limits
        self._challenges = challenges
        self._texts = texts

    def prepare(
        self,
        challenge: Challenge,
        message: Message,
        send: Send,
        *,
        locale: str,
        settings: RuntimeSettings,
    ) -> CodeJob:
        """Return the delivery job of a challenge's current code.

        :param settings: the site's name and the signature.
        """
        code = self._challenges.own_code(challenge)
        code_message = CodeMessage(
            to=challenge.mobile,
            code=code,
            text=self._texts.compose(
                code,
                locale,
                site=settings.site_name[locale],
                signature=settings.signature[locale],
            ),
            channel=message.channel,  # type: ignore[arg-type]  # the column holds a channel
            locale=locale,
            reference=challenge.id,
        )
        return CodeJob(
            challenge,
            message,
            code_message,
            send,
            attempts=self._attempts,
            native=self._native,
            limits=self._limits,
        )
