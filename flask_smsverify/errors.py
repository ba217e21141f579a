"""The exceptions of this package.

::

    SMSVerifyError
    ├── ConfigurationError            invalid setting or API use
    ├── SenderError                   sender, gateway, reason, code, advice, written
    │   ├── Unavailable               service or account failure; another sender may help
    │   │   └── NotCarried            this gateway does not serve the number's operator
    │   │       └── TextRefused       this gateway does not carry this text
    │   ├── Rejected                  this recipient or text is refused; no sender would help
    │   ├── Unknown                   the message may have been sent
    │   └── Misconfigured             the gateway refuses the sender's options
    └── ProblemError                  has an HTTP status and a text for the visitor
        ├── MobileError
        │   ├── MobileRequired        the user has no mobile
        │   ├── InvalidMobile         not a mobile number
        │   ├── RegionNotAllowed      outside SMSVERIFY_ALLOWED_REGIONS
        │   └── MobileTaken           another account has proved it
        ├── ChannelUnavailable        no sender for this channel
        ├── LimitError
        │   ├── TooSoon               retry_after
        │   ├── RateLimited           retry_after, scope
        │   ├── TooManyAttempts       retry_after
        │   └── AccountLocked         only staff can unlock the account
        ├── CodeError
        │   ├── InvalidCode           problem; costs no attempt
        │   ├── WrongCode             attempts_left
        │   ├── CodeExpired
        │   └── NoChallenge
        ├── NoAccount                 a right code of a mobile without an account
        ├── SendRefused               reason: the host or the proof of work refused the send
        ├── InvalidToken              forged, expired or used proof token
        │   └── InvalidLink           is_signed: a link to undo a change, damaged or void
        ├── SendFailed                causes, maybe_sent
        │   └── NoticeFailed          no sender accepted the notice that a change needs
        ├── CheckFailed               cause: the gateway gave no verdict
        ├── StoreUnavailable          the database did not take the write
        │   └── UncommittedWrites     the host's session holds SQLite's only write lock
        ├── TemplateError             problem, name, line: a text that staff may not write
        └── RequestError              raised by the web layer alone
            ├── LoginRequired
            ├── VerificationRequired
            ├── FreshLoginRequired
            ├── FirstProofRequired
            ├── CsrfFailed
            ├── InvalidRequest
            ├── InvalidValues         errors: what is wrong with each field
            ├── StaffRequired         the user is not staff
            ├── ReadOnly              the staff member may only look
            └── NotFound              no such row

`ConfigurationError` is never caught by failover. No exception holds a code, a text, a credential
or a whole mobile.

`ProblemError` classes describe themselves: HTTP status, problem code, title and detail are class
attributes. Titles and details are English message ids; the catalogues hold the translations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from traceback import format_tb
from typing import ClassVar, NamedTuple


@dataclass(frozen=True, slots=True)
class Plural:
    """A sentence with a plural form.

    :param count: the name of the value that selects the form.
    """

    singular: str
    plural: str
    count: str


class Description(NamedTuple):
    """What a visitor reads about an error, as message ids.

    :param title: a short phrase without a full stop.
    :param detail: whole sentences. `%(when)s` stands for `retry_after` in words, other fields for
        the error's values of the same name.
    """

    title: str
    detail: tuple[str | Plural, ...]


def _(message: str) -> str:
    """Mark a message id for extraction into the catalogues."""
    return message


def _n(singular: str, plural: str, count: str) -> Plural:
    """Mark a message id that has a plural form."""
    return Plural(singular, plural, count)


class SMSVerifyError(Exception):
    """Base class of every error that this package raises on purpose. Errors can be pickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, vars(self))


def _rebuild(
    cls: type[SMSVerifyError], args: tuple[object, ...], attributes: dict[str, object]
) -> SMSVerifyError:
    """Restore a pickled error without calling `__init__`, whose parameters are not `args`."""
    error = cls.__new__(cls)
    error.args = args
    vars(error).update(attributes)
    return error


class ConfigurationError(SMSVerifyError):
    """Invalid setting or API use. The message says how to fix it."""


class ProblemError(SMSVerifyError):
    """An error with an HTTP status and a text for the visitor (RFC 9457).

    Subclasses override the class attributes.
    """

    #: The `code` member of the problem details.
    code: ClassVar[str] = "error"
    #: The HTTP status.
    status: ClassVar[int] = 500
    #: Whether neither waiting nor other input helps.
    final: ClassVar[bool] = False
    #: The form field that the error is about: `code`, `mobile`, `text` or None.
    form_field: ClassVar[str | None] = None
    #: Attributes that the description depends on.
    values: ClassVar[tuple[str, ...]] = ()
    #: Those of `values` that are members of the problem details.
    members: ClassVar[tuple[str, ...]] = ()
    #: The message of the exception if the caller gives none.
    message: ClassVar[str] = "the request failed"
    title: ClassVar[str] = _("Something went wrong")
    detail: ClassVar[tuple[str | Plural, ...]] = (_("Go back and try again, or contact support."),)

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.message)

    @classmethod
    def describe(cls, values: Mapping[str, object]) -> Description:  # noqa: ARG003 -- subclasses use it
        """Return the text for the visitor.

        :param values: the error's attributes named in `values`; each may be missing.
        """
        return Description(cls.title, cls.detail)


# --- mobiles ------------------------------------------------------------------------------------


class MobileError(ProblemError):
    """Base class of errors about a mobile."""

    status = 422
    form_field: ClassVar[str | None] = "mobile"


class MobileRequired(MobileError):
    """The user has no mobile."""

    code = "mobile_required"
    message = "the user has no mobile"
    title = _("Enter your mobile number")
    detail = (_("We need your mobile number to send you a code."),)


class InvalidMobile(MobileError):
    """Not a mobile number that can receive messages.

    :param problem: `"not_text"` if the JSON value is not a string; otherwise empty.
    """

    code = "invalid_mobile"
    values = ("problem",)
    message = "this is not a mobile number"
    title = _("Enter a valid mobile number")
    detail = (_("Check the digits. The number must be a mobile, not a landline."),)

    def __init__(self, message: str | None = None, *, problem: str = "") -> None:
        super().__init__(message)
        self.problem = problem

    @classmethod
    def describe(cls, values: Mapping[str, object]) -> Description:
        if values.get("problem") == "not_text":  # for programs: a form has only texts
            return Description(
                _("The mobile number must be a string"),
                (_("Send the number in quotes. A JSON number would lose the zero at its start."),),
            )
        return super().describe(values)


class RegionNotAllowed(MobileError):
    """A mobile of a region outside `SMSVERIFY_ALLOWED_REGIONS`."""

    code = "region_not_allowed"
    final = True
    message = "mobiles of this region are not allowed"
    title = _("Numbers from this country are not supported")
    detail = (_("Use a mobile number from another country."),)


class MobileTaken(MobileError):
    """The mobile is proved by as many accounts as `SMSVERIFY_ACCOUNTS_PER_MOBILE` allows."""

    code = "mobile_taken"
    status = 409
    final = True
    form_field = None
    message = "another account has proved this mobile"
    title = _("This number belongs to another account")
    detail = (_("Use a different number. If this number is yours, contact support."),)


_NO_SENDER = "; see SMSVERIFY_SENDERS and SMSVERIFY_ROUTES"


class ChannelUnavailable(ProblemError):
    """No configured sender serves this channel: `sms`, `voice`, or `text` for ordinary texts.

    An unknown channel is not repeated in the message, because it could hold anything.
    """

    _messages: ClassVar[Mapping[str, str]] = {
        "sms": f"no sender sends codes by SMS{_NO_SENDER}",
        "voice": f"no sender sends codes by phone call{_NO_SENDER}",
        "text": f"no sender sends ordinary texts{_NO_SENDER}",
        "unknown": "the channel must be 'sms' or 'voice'",
    }

    code = "channel_unavailable"
    status = 422
    final = True
    values = ("channel",)
    title = _("This option is not available")
    detail = (_("Choose another way to get the code."),)

    def __init__(self, channel: object) -> None:
        self.channel = str(channel) if channel in ("sms", "voice", "text") else "unknown"
        super().__init__(self._messages[self.channel])

    @classmethod
    def describe(cls, values: Mapping[str, object]) -> Description:
        if values.get("channel") == "voice":
            return Description(
                _("Phone calls are not available"), (_("Get the code by text message instead."),)
            )
        if values.get("channel") == "sms":
            return Description(_("Text messages are not available"), cls.detail)
        return super().describe(values)


# --- limits -------------------------------------------------------------------------------------

_TRY_AGAIN = _("Try again %(when)s.")


class LimitError(ProblemError):
    """Base class of errors about a limit."""

    status = 429


class TooSoon(LimitError):
    """The cooldown since the last send is not over.

    :param retry_after: whole seconds until the next send, at least 1.
    """

    code = "too_soon"
    values = members = ("retry_after",)
    title = _("Wait before you request a new code")
    detail = (_("The last code may still arrive."), _("You can request a new one %(when)s."))

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"wait {retry_after} s before the next send")
        self.retry_after = retry_after


class RateLimited(LimitError):
    """A rate limit is used up.

    :param retry_after: whole seconds until the limit allows one more, at least 1.
    :param scope: the limit's name in `SMSVERIFY_LIMITS`. For `site` and `mobile`, it may be only
        the part open to this request that is used up. `network_share` is `SMSVERIFY_NETWORK_SHARE`
        of `site`. `changes` and `change_notices` (of a number) and `staff_search` have fixed
        limits.
    """

    code = "rate_limited"
    values = ("retry_after", "scope")
    members = ("retry_after",)
    title = _("Codes are temporarily unavailable")
    detail = (_("There are more requests than usual."), _TRY_AGAIN)

    def __init__(self, retry_after: int, scope: str) -> None:
        super().__init__(f"the limit {scope!r} is used up for another {retry_after} s")
        self.retry_after = retry_after
        self.scope = scope

    @classmethod
    def describe(cls, values: Mapping[str, object]) -> Description:
        scope = values.get("scope")
        if scope in ("mobile", "user"):
            return Description(
                _("Too many codes requested"),
                (_("You cannot get more codes for now."), _TRY_AGAIN),
            )
        if scope in ("mobiles_per_user", "changes"):
            return Description(
                _("Too many different numbers"),
                (_("You cannot use another number for now."), _TRY_AGAIN),
            )
        if scope == "staff_search":
            return Description(
                _("Too many searches by code"),
                (_("Search by email or number instead."), _TRY_AGAIN),
            )
        if scope == "ip":
            return Description(
                _("Too many codes requested"),
                (_("Too many codes were requested from your network."), _TRY_AGAIN),
            )
        return super().describe(values)


class TooManyAttempts(LimitError):
    """No guess is left for this challenge, this account, this number or the whole site.

    :param retry_after: whole seconds until a guess is accepted again, in a new challenge if this
        one is exhausted.
    """

    code = "too_many_attempts"
    values = members = ("retry_after",)
    title = _("Too many wrong codes")
    detail = (_("To protect your account, we are not accepting codes for now."), _TRY_AGAIN)

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"no attempts left; try again in {retry_after} s")
        self.retry_after = retry_after


class AccountLocked(LimitError):
    """An account, or a number without one, had `SMSVERIFY_CONSECUTIVE_FAILURES` failures in a row.

    Only staff can unlock it.
    """

    code = "account_locked"
    final = True
    message = "too many failures in a row; staff must unlock this account"
    title = _("Verification is locked")
    detail = (_("There were too many wrong codes for this account. Contact support to unlock it."),)


# --- codes --------------------------------------------------------------------------------------


class CodeError(ProblemError):
    """Base class of errors about a code or its challenge."""

    status = 422


class InvalidCode(CodeError):
    """The input cannot be a code. Nothing was compared and no attempt was counted.

    :param problem: `"empty"`, `"not_text"`, `"not_digits"`, `"too_short"` or `"too_long"`.
    """

    code = "invalid_code"
    form_field = "code"
    values = ("problem",)
    title = _("Check the code")
    detail = (_("This is not a valid code."),)

    _BY_PROBLEM: ClassVar[Mapping[str, Description]] = {
        "empty": Description(_("Enter the code"), (_("Enter the code that you received."),)),
        "not_text": Description(  # for programs: a form has only texts
            _("The code must be a string"),
            (_("Send the code in quotes. A number would lose zeros at its start."),),
        ),
        "not_digits": Description(
            _("The code must contain only digits"), (_("Remove everything else and try again."),)
        ),
        "too_short": Description(
            _("The code is too short"),
            (_("Some digits are missing. This did not count as an attempt."),),
        ),
        "too_long": Description(
            _("The code is too long"),
            (_("There are too many digits. This did not count as an attempt."),),
        ),
    }

    def __init__(self, problem: str) -> None:
        super().__init__(f"this cannot be a code: {problem}")
        self.problem = problem

    @classmethod
    def describe(cls, values: Mapping[str, object]) -> Description:
        return cls._BY_PROBLEM.get(str(values.get("problem")), super().describe(values))


class WrongCode(CodeError):
    """The code was compared and is wrong.

    :param attempts_left: how many more guesses this challenge allows.
    """

    code = "wrong_code"
    form_field = "code"
    values = members = ("attempts_left",)
    title = _("The code is wrong")
    detail = (
        _("Check the code and try again."),
        _n(
            "You have %(attempts_left)s attempt left.",
            "You have %(attempts_left)s attempts left.",
            "attempts_left",
        ),
    )

    def __init__(self, attempts_left: int) -> None:
        super().__init__(f"wrong code; {attempts_left} attempts left")
        self.attempts_left = attempts_left

    @classmethod
    def describe(cls, values: Mapping[str, object]) -> Description:
        if values.get("attempts_left") == 0:
            return Description(
                cls.title, (_("That was your last attempt for this code. Get a new code."),)
            )
        return super().describe(values)


class CodeExpired(CodeError):
    """The challenge has expired, or the user's mobile changed after it began."""

    code = "code_expired"
    message = "the code has expired"
    title = _("The code has expired")
    detail = (_("Get a new code."),)


class NoChallenge(CodeError):
    """No challenge is open."""

    code = "no_challenge"
    status = 404
    message = "no challenge is open"
    title = _("There is no active code")
    detail = (_("Get a new code."),)


class InvalidToken(ProblemError):
    """A proof token that is forged, expired, used, or made for another purpose."""

    code = "invalid_token"
    status = 422
    message = "this proof token is not valid"
    title = _("Your confirmation is no longer valid")
    detail = (_("Confirm your mobile number again."),)


class InvalidLink(InvalidToken):
    """A link to undo a change of mobile that is forged or cut off, or whose change is closed.

    :param is_signed: whether the link is one that this app sent, so that it was valid once.
    """

    status = 404
    values = ("is_signed",)
    message = "this link is not valid"
    title = _("This link no longer works")
    detail = (_("The change has already been made or stopped."),)

    def __init__(self, *, is_signed: bool = True) -> None:
        super().__init__(None if is_signed else "the signature of this link is wrong")
        self.is_signed = is_signed

    @classmethod
    def describe(cls, values: Mapping[str, object]) -> Description:
        if not values.get("is_signed", True):
            return Description(
                _("This link is not valid"),
                (
                    _("The link may be incomplete."),
                    _("Open the whole link from the text message."),
                ),
            )
        return super().describe(values)


class NoAccount(ProblemError):
    """The code of a sign-in was right, and no account can be entered with its mobile.

    :param is_inactive: whether there is an account that the host does not let in.
    """

    code = "no_account"
    status = 403
    final = True
    values = ("is_inactive",)
    title = _("There is no account with this number")
    detail = (_("Use a different number, or create an account first."),)

    def __init__(self, *, is_inactive: bool = False) -> None:
        super().__init__("the account is inactive" if is_inactive else "no account has this mobile")
        self.is_inactive = is_inactive

    @classmethod
    def describe(cls, values: Mapping[str, object]) -> Description:
        if values.get("is_inactive"):
            return Description(
                _("This account is not active"), (_("Contact support to use it again."),)
            )
        return super().describe(values)


class SendRefused(ProblemError):
    """The host, or the proof of work, refused to send a code.

    :param reason: a sentence for the visitor, in the visitor's language, or `"proof_of_work"`.
    """

    code = "send_refused"
    status = 403
    values = members = ("reason",)
    title = _("The code was not sent")
    detail = (_("Try again, or contact support."),)

    #: The reason if the proof of work is missing or wrong.
    PROOF_OF_WORK: ClassVar[str] = "proof_of_work"

    def __init__(self, reason: str = "") -> None:
        super().__init__("the send was refused")
        self.reason = str(reason)

    @classmethod
    def describe(cls, values: Mapping[str, object]) -> Description:
        reason = values.get("reason")
        if reason == cls.PROOF_OF_WORK:
            return Description(
                _("We could not check your browser"),
                (_("Try again. If it happens again, turn on JavaScript."),),
            )
        if reason:
            return Description(cls.title, ("%(reason)s",))
        return super().describe(values)


class StoreUnavailable(ProblemError):
    """The database did not take the ledger's write: nothing was sent and nothing compared."""

    code = "store_unavailable"
    status = 503
    message = "the database did not take the write"
    title = _("The service is temporarily unavailable")
    detail = (_("Nothing was sent or checked. Try again in a moment."),)


class UncommittedWrites(StoreUnavailable):
    """The host's session holds SQLite's only write lock. Commit before the call."""

    message = (
        "the session holds uncommitted writes, and SQLite has one writer: "
        "call db.session.commit() before the verifier"
    )


# --- gateways -----------------------------------------------------------------------------------

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def _one_line(text: object) -> str:
    """Replace line breaks and control characters: the text goes into logs."""
    return _CONTROL.sub(" ", str(text))


class SenderError(SMSVerifyError):
    """A gateway or network failure.

    :param sender: the sender's name in `SMSVERIFY_SENDERS`.
    :param reason: the cause, without a number, text or code.
    :param gateway: the kind of gateway, such as `raygan`.
    :param code: the gateway's own error code; None if it gave none.
    :param advice: what the operator of the app can do about it.
    :param written: whether any part of the request was written to the connection.
    """

    default_advice: ClassVar[str] = ""
    #: Whether a working gateway refuses this recipient or this message. Then nothing was sent.
    is_refusal: ClassVar[bool] = False

    def __init__(
        self,
        sender: str,
        reason: str,
        *,
        gateway: str = "",
        code: str | None = None,
        advice: str | None = None,
        written: bool = True,
    ) -> None:
        reason = _one_line(reason)
        code = _one_line(code) if code else code
        super().__init__(f"{sender}: {reason}" + (f" (code {code})" if code else ""))
        self.sender = sender
        self.gateway = gateway
        self.reason = reason
        self.code = code
        self.advice = self.default_advice if advice is None else advice
        self.written = written


class Unavailable(SenderError):
    """The service is down or busy, or the account cannot send. Nothing was sent."""

    default_advice = "Check the gateway's status page and the account."


class NotCarried(Unavailable):
    """This gateway does not carry messages to this number's operator; another may.

    Nothing was sent. The next sender is tried, and the breaker does not count it as a failure.
    """

    is_refusal = True
    default_advice = "Add a second sender."


class TextRefused(NotCarried):
    """This gateway does not carry this text: a filtered word, a link. Another may."""

    is_refusal = False
    default_advice = "Change the text, or add a second sender."


class Rejected(SenderError):
    """The gateway refuses this recipient or this text. Nothing was sent."""

    is_refusal = True
    default_advice = "Check the recipient and the text."


class Unknown(SenderError):
    """No answer after the request was written, or an answer that could mean either."""

    default_advice = "Check the gateway's panel before sending again."


class Misconfigured(SenderError):
    """The gateway refuses the request because of the sender's options. Nothing was sent."""

    default_advice = "Check the sender's options in SMSVERIFY_SENDERS."


class SendFailed(ProblemError):
    """No sender of the route took the message.

    :param causes: one `SenderError` per sender that was tried, in order.
    """

    code = "send_failed"
    status = 503
    values = ("maybe_sent", "is_notice")
    #: Whether the message was a notice and not a code.
    is_notice: ClassVar[bool] = False
    title = _("The code could not be sent")
    detail = (_("The messaging service did not accept it. Try again in a minute."),)

    def __init__(self, causes: Sequence[SenderError]) -> None:
        reasons = "; ".join(map(str, causes)) or "no sender was available"
        super().__init__(f"no sender took it: {reasons}")
        self.causes = tuple(causes)

    @property
    def maybe_sent(self) -> bool:
        """Whether any sender may have sent the message."""
        return any(isinstance(cause, Unknown) for cause in self.causes)

    @classmethod
    def describe(cls, values: Mapping[str, object]) -> Description:
        if values.get("is_notice"):
            return Description(
                _("We could not send a message to your current number"),
                (_("The change has not started. Try again in a minute."),),
            )
        if values.get("maybe_sent"):
            return Description(
                _("We do not know whether the code was sent"),
                (_("If it does not arrive within a minute, try again."),),
            )
        return super().describe(values)


class NoticeFailed(SendFailed):
    """No sender accepted the notice to the old number that a change needs, as far as is known."""

    is_notice = True


class CheckFailed(ProblemError):
    """The gateway that generated the code gave no verdict.

    :param cause: what its sender raised.
    """

    code = "check_failed"
    status = 503
    title = _("The code could not be checked")
    detail = (_("The messaging service did not respond. Try again in a moment."),)

    def __init__(self, cause: SenderError) -> None:
        super().__init__(f"no verdict: {cause}")
        self.cause = cause


# --- texts of events ----------------------------------------------------------------------------


class TemplateError(ProblemError):
    """A text of an event contains something that is not allowed, or cannot be rendered.

    :param problem: `"syntax"`, `"unknown_value"`, `"missing_value"`,
        `"required_value"`, `"unknown_filter"`, `"not_allowed"`, `"empty"`, `"too_long"`,
        `"too_many_parts"` or `"too_deep"`.
    :param name: the value, the filter or the syntax that the problem is about; empty for none.
    :param line: the line of the text; None if the problem is not in one line.
    :param limit: the most characters or parts of a text that has more; otherwise None.
    """

    code = "invalid_template"
    status = 422
    form_field = "text"
    values = ("problem", "name", "line", "limit")
    title = _("This text cannot be used")
    detail = (_("Check the text and try again."),)

    _BY_PROBLEM: ClassVar[Mapping[str, str]] = {
        "syntax": _("Check the braces and quotation marks."),
        "unknown_value": _("There is no value %(name)s for this text."),
        "missing_value": _("The value %(name)s is missing."),
        "required_value": _("The text must contain the value %(name)s."),
        "unknown_filter": _("There is no filter %(name)s."),
        "not_allowed": _("A text can contain only values, conditions and filters."),
        "empty": _("The text is empty."),
        "too_long": _("The text has more than %(limit)s characters."),
        "too_many_parts": _("The text has more than %(limit)s parts."),
        "too_deep": _("The text has too many filters or conditions in one another."),
    }

    def __init__(
        self, problem: str, *, name: str = "", line: int | None = None, limit: int | None = None
    ) -> None:
        shown = problem.replace("_", " ") + (f" {_one_line(name)[:60]!r}" if name else "")
        super().__init__(f"{shown} in line {line}" if line else shown)
        self.problem = problem
        self.name = _one_line(name)[:60]
        self.line = line
        self.limit = limit

    @classmethod
    def describe(cls, values: Mapping[str, object]) -> Description:
        detail = cls._BY_PROBLEM.get(str(values.get("problem")), "")
        is_complete = all(values.get(name) for name in ("name", "limit") if f"%({name})s" in detail)
        if not detail or not is_complete:
            return super().describe(values)
        return Description(cls.title, (detail,))


# --- requests -----------------------------------------------------------------------------------


class RequestError(ProblemError):
    """Base class of errors that only the web layer raises."""


class LoginRequired(RequestError):
    """The visitor is not logged in."""

    code = "login_required"
    status = 401
    message = "login required"
    title = _("Sign in first")
    detail = (_("You must be signed in to do this."),)


class VerificationRequired(RequestError):
    """The view is guarded and the user is not verified."""

    code = "verification_required"
    status = 403
    message = "verification required"
    title = _("Confirm your mobile number first")
    detail = (_("You need a confirmed mobile number to continue."),)


class FreshLoginRequired(RequestError):
    """Changing a proved mobile requires a fresh login (OWASP ASVS 5.0, 7.5.1)."""

    code = "fresh_login_required"
    status = 403
    message = "fresh login required"
    title = _("Sign in again")
    detail = (_("To protect your account, sign in again before you change a confirmed number."),)


class FirstProofRequired(RequestError):
    """A pending login of an account without a proof: the password does not suffice for its number.

    `SMSVERIFY_LOGIN_GATE_FIRST_PROOF` says who vouches for it.
    """

    code = "first_proof_required"
    status = 403
    message = "the account's owner must be confirmed before its first number is added"
    title = _("Confirm that this is your account")
    detail = (_("This must happen before you add a mobile number."),)


class CsrfFailed(RequestError):
    """The CSRF token is missing or invalid.

    :param status_url: where a program gets a token; None for a browser.
    :param header: the header in which a program sends it.
    """

    code = "csrf"
    status = 400
    values = ("status_url", "header")
    title = _("This page has expired")
    detail = (_("For your security, we did not accept the form. Go back and submit it again."),)

    def __init__(self, status_url: str | None = None, header: str | None = None) -> None:
        super().__init__("the CSRF token is missing or invalid")
        self.status_url = status_url
        self.header = header

    @classmethod
    def describe(cls, values: Mapping[str, object]) -> Description:
        if values.get("status_url"):
            return Description(
                _("The CSRF token is missing or invalid"),
                (_("Send the `csrf_token` of %(status_url)s in the header %(header)s."),),
            )
        return super().describe(values)


class InvalidRequest(RequestError):
    """The body is neither a form nor a JSON object, or it is too large or too deeply nested."""

    code = "invalid_request"
    status = 422
    message = "the request cannot be read"
    title = _("The request could not be read")
    detail = (_("The data does not have the expected form. Try again."),)


class InvalidValues(RequestError):
    """Values of a staff page's form are wrong.

    :param errors: field → what is wrong with its value, in the reader's language.
    """

    code = "invalid_values"
    status = 422
    values = members = ("errors",)
    title = _("Check the highlighted values")
    detail = (_("Nothing was changed."),)

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("values are wrong: " + ", ".join(sorted(errors)))
        self.errors = dict(errors)


class StaffRequired(RequestError):
    """The logged-in user is not staff."""

    code = "staff_required"
    status = 403
    final = True
    message = "this page is for staff"
    title = _("This page is for staff")
    detail = (_("Sign in with an account that has access to it."),)


class ReadOnly(RequestError):
    """`staff_required` returned `"read-only"`, and the request would change something."""

    code = "read_only"
    status = 403
    final = True
    message = "this staff member may not change anything"
    title = _("You can view these pages, but not change anything")
    detail = (_("Ask an administrator for full access."),)


class NotFound(RequestError):
    """There is no row with the id of a staff page's URL."""

    code = "not_found"
    status = 404
    final = True
    message = "there is no such row"
    title = _("Not found")
    detail = (_("It may have been deleted. Go back and reload the list."),)


#: Every problem code → its class.
PROBLEMS: Mapping[str, type[ProblemError]] = {
    cls.code: cls
    for cls in (
        MobileRequired,
        InvalidMobile,
        RegionNotAllowed,
        MobileTaken,
        ChannelUnavailable,
        TooSoon,
        RateLimited,
        TooManyAttempts,
        AccountLocked,
        InvalidCode,
        WrongCode,
        CodeExpired,
        NoChallenge,
        NoAccount,
        SendRefused,
        InvalidToken,
        TemplateError,
        SendFailed,
        CheckFailed,
        StoreUnavailable,
        LoginRequired,
        VerificationRequired,
        FreshLoginRequired,
        FirstProofRequired,
        CsrfFailed,
        InvalidRequest,
        InvalidValues,
        StaffRequired,
        ReadOnly,
        NotFound,
    )
}


def locate(error: BaseException) -> str:
    """Return an error's class and traceback without its message, which may contain anything."""
    return f"{type(error).__name__} at\n{''.join(format_tb(error.__traceback__)).rstrip()}"
