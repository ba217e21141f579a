"""Everything that can go wrong, by name.

::

    SMSVerifyError
    ├── ConfigurationError            a setting or a call of the host's that cannot work
    ├── MobileError
    │   ├── MobileRequired            the user has no number yet
    │   ├── InvalidMobile             not a mobile that can get a message
    │   ├── RegionNotAllowed          a mobile, of a region we do not spend on
    │   └── MobileTaken               another account holds it
    ├── ChannelUnavailable            no sender can do this channel
    ├── LimitError
    │   ├── TooSoon                   retry_after
    │   ├── BudgetSpent               retry_after, scope
    │   ├── TooManyAttempts           retry_after
    │   └── AccountLocked             until staff unlock it
    ├── CodeError
    │   ├── InvalidCode               cannot be a code; costs nothing
    │   ├── WrongCode                 attempts_left
    │   ├── CodeExpired
    │   └── NoChallenge
    ├── InvalidToken                  a proof token that is forged, old, used or for something else
    ├── SendFailed                    causes: a SenderError for every sender that was tried
    ├── CheckFailed                   cause: the gateway gave no verdict on its own code
    ├── StoreUnavailable              the ledger's write did not happen
    │   └── UncommittedWrites         the host's own open transaction is what stands in the way
    └── SenderError                   gateway, code, reason, written
        ├── Unavailable               the service or our account there; another sender may help
        ├── Rejected                  this number or this text; nobody else would help
        ├── Unknown                   it may have been sent
        └── Misconfigured             our options are wrong; never skipped over in silence

`ConfigurationError` is outside what a route catches, so no failover can hide it. No exception
carries a code, a text, a credential or a whole mobile.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from traceback import format_tb


class SMSVerifyError(Exception):
    """Whatever this package raises on purpose. It can be copied and pickled, as queues do."""

    def __reduce__(self) -> tuple[object, ...]:
        return _made_again, (type(self), self.args, vars(self))


def _made_again(
    cls: type[SMSVerifyError], args: tuple[object, ...], attributes: dict[str, object]
) -> SMSVerifyError:
    """An error as it was; its own `__init__` takes other arguments than its text."""
    error = cls.__new__(cls)
    error.args = args
    vars(error).update(attributes)
    return error


class ConfigurationError(SMSVerifyError):
    """A setting, or a use of the package, that cannot work; the message names the mend."""


class MobileError(SMSVerifyError):
    """The number itself is the trouble."""


class MobileRequired(MobileError):
    """The user has given no mobile yet."""


class InvalidMobile(MobileError):
    """What was given is not a mobile that can get a message."""


class RegionNotAllowed(MobileError):
    """A mobile, but of a region outside `SMSVERIFY_ALLOWED_REGIONS`."""


class MobileTaken(MobileError):
    """As many other accounts as are allowed hold this mobile already."""


class ChannelUnavailable(SMSVerifyError):
    """No configured sender can bring a code by this channel.

    What is no channel is not repeated: anything may have been sent in its place, a mobile too.
    """

    def __init__(self, channel: object) -> None:
        self.channel = str(channel) if channel in ("sms", "voice", "text") else "unknown"
        super().__init__(f"no sender can bring a code by {self.channel!r}")


class LimitError(SMSVerifyError):
    """A limit was reached."""


class TooSoon(LimitError):
    """The pause between two sends is not over.

    :param retry_after: whole seconds until a send is allowed, at least 1.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"wait {retry_after} s before the next send")
        self.retry_after = retry_after


class BudgetSpent(LimitError):
    """A budget has nothing left.

    :param retry_after: whole seconds until its next unit can come back, at least 1.
    :param scope: the budget's name, as in `SMSVERIFY_BUDGETS`.
    """

    def __init__(self, retry_after: int, scope: str) -> None:
        super().__init__(f"the budget {scope!r} is spent for another {retry_after} s")
        self.retry_after = retry_after
        self.scope = scope


class TooManyAttempts(LimitError):
    """No guess is left: on this challenge, or for this account, or for the whole site.

    :param retry_after: whole seconds until a new challenge can be tried.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"no attempts left; try again in {retry_after} s")
        self.retry_after = retry_after


class AccountLocked(LimitError):
    """Too many failures in a row; only staff can unlock the account's verification."""


class CodeError(SMSVerifyError):
    """The code, or the challenge it was for."""


class InvalidCode(CodeError):
    """What was typed cannot be a code. Nothing was compared and nothing was counted.

    :param problem: `"empty"`, `"not_digits"`, `"too_short"` or `"too_long"`.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(f"this cannot be a code: {problem}")
        self.problem = problem


class WrongCode(CodeError):
    """The code was compared and is not the right one.

    :param attempts_left: how many guesses this challenge still takes.
    """

    def __init__(self, attempts_left: int) -> None:
        super().__init__(f"wrong code; {attempts_left} attempts left")
        self.attempts_left = attempts_left


class CodeExpired(CodeError):
    """The challenge's time is over, or what it asked about has changed since."""


class NoChallenge(CodeError):
    """No challenge is open."""


class InvalidToken(SMSVerifyError):
    """A proof token that is forged, too old, used already, or meant for another purpose."""


class StoreUnavailable(SMSVerifyError):
    """The database did not take the ledger's write, so nothing was sent and nothing compared."""


class UncommittedWrites(StoreUnavailable):
    """SQLite has one writer, and the host's session is holding it; commit before the call."""


def _one_line(said: str) -> str:
    """A gateway's words without line breaks and control characters: they stand in logs."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", str(said))


class SenderError(SMSVerifyError):
    """What a gateway, or the way to it, answered.

    :param gateway: the sender's name in `SMSVERIFY_SENDERS`.
    :param reason: why, in words that hold no number, text or code.
    :param code: the gateway's own error code, where it gave one.
    :param written: whether any of the request had left us when it failed.
    """

    def __init__(
        self, gateway: str, reason: str, *, code: str | None = None, written: bool = True
    ) -> None:
        reason = _one_line(reason)
        code = _one_line(code) if code else code
        super().__init__(f"{gateway}: {reason}" + (f" (code {code})" if code else ""))
        self.gateway = gateway
        self.reason = reason
        self.code = code
        self.written = written


class Unavailable(SenderError):
    """The service is down or busy, or our account there cannot send. Nothing went out."""


class Rejected(SenderError):
    """The gateway refuses this recipient or this text. Nothing went out."""


class Unknown(SenderError):
    """No answer after the request was written, or one that could mean either."""


class Misconfigured(SenderError):
    """The gateway says that what our options made of the request is wrong. Nothing went out."""


class SendFailed(SMSVerifyError):
    """No sender of the route took the message.

    :param causes: one `SenderError` for each sender that was tried, in order.
    """

    def __init__(self, causes: Sequence[SenderError]) -> None:
        super().__init__("no sender took it: " + ("; ".join(map(str, causes)) or "none was free"))
        self.causes = tuple(causes)

    @property
    def maybe_sent(self) -> bool:
        """Whether any sender may have sent it after all."""
        return any(isinstance(cause, Unknown) for cause in self.causes)


class CheckFailed(SMSVerifyError):
    """The gateway that made the code gave no verdict on it.

    :param cause: what its sender raised.
    """

    def __init__(self, cause: SenderError) -> None:
        super().__init__(f"no verdict: {cause}")
        self.cause = cause


def place_of(error: BaseException) -> str:
    """What kind of error it is and where it was raised, for a log. Its words may hold anything."""
    return f"{type(error).__name__} at\n{''.join(format_tb(error.__traceback__)).rstrip()}"
