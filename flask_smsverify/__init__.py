"""Phone verification for Flask: an extension object, a decorator, and pages that ask for a code.

`SMSVerify` and `require_verified_mobile` are for apps. `Sender` and the names around it are for
apps with a gateway of their own. They are imported on first use, because an app without one needs
no HTTP client at start.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from . import errors, signals
from .errors import (
    AccountLocked,
    ChannelUnavailable,
    CheckFailed,
    CodeError,
    CodeExpired,
    ConfigurationError,
    CsrfFailed,
    FirstProofRequired,
    FreshLoginRequired,
    InvalidCode,
    InvalidLink,
    InvalidMobile,
    InvalidRequest,
    InvalidToken,
    InvalidValues,
    LimitError,
    LoginRequired,
    Misconfigured,
    MobileError,
    MobileRequired,
    MobileTaken,
    NoAccount,
    NoChallenge,
    NotFound,
    NoticeFailed,
    ProblemError,
    RateLimited,
    ReadOnly,
    RegionNotAllowed,
    Rejected,
    RequestError,
    SenderError,
    SendFailed,
    SendRefused,
    SMSVerifyError,
    StaffRequired,
    StoreUnavailable,
    TemplateError,
    TextRefused,
    TooManyAttempts,
    TooSoon,
    Unavailable,
    UncommittedWrites,
    Unknown,
    VerificationRequired,
    WrongCode,
)
from .extension import SMSVerify
from .guard import require_verified_mobile
from .messaging.events import Event
from .messaging.reminders import DueReminder, Reminder, due_reminders
from .verification.check import Proof
from .verification.policy import Decision, Status
from .verification.verifier import Verifier

if TYPE_CHECKING:
    from .senders.base import (
        Capability,
        CodeMessage,
        Credit,
        DeliveryReport,
        DeliveryState,
        KnownError,
        Pattern,
        PatternRules,
        Receipt,
        ReceivedText,
        Sender,
        SenderIdentity,
        Text,
    )
    from .senders.batching import (
        UnclearRefusal,
        batched,
        failed_receipts,
        isolate,
        send_grouped,
    )
    from .senders.convert import derived_id, map_state, redact_reason, to_e164, to_national
    from .senders.deadline import deadline, remaining
    from .senders.http import Answer, HttpTransport
    from .senders.options import (
        DEFAULT_TIMEOUT,
        Timeout,
        parse_credential,
        parse_flag,
        parse_number,
    )
    from .senders.soap import SoapTransport, WsdlFile

__all__ = [
    "DEFAULT_TIMEOUT",
    "AccountLocked",
    "Answer",
    "Capability",
    "ChannelUnavailable",
    "CheckFailed",
    "CodeError",
    "CodeExpired",
    "CodeMessage",
    "ConfigurationError",
    "Credit",
    "CsrfFailed",
    "Decision",
    "DeliveryReport",
    "DeliveryState",
    "DueReminder",
    "Event",
    "FirstProofRequired",
    "FreshLoginRequired",
    "HttpTransport",
    "InvalidCode",
    "InvalidLink",
    "InvalidMobile",
    "InvalidRequest",
    "InvalidToken",
    "InvalidValues",
    "KnownError",
    "LimitError",
    "LoginRequired",
    "Misconfigured",
    "MobileError",
    "MobileRequired",
    "MobileTaken",
    "NoAccount",
    "NoChallenge",
    "NotFound",
    "NoticeFailed",
    "Pattern",
    "PatternRules",
    "ProblemError",
    "Proof",
    "RateLimited",
    "ReadOnly",
    "Receipt",
    "ReceivedText",
    "RegionNotAllowed",
    "Rejected",
    "Reminder",
    "RequestError",
    "SMSVerify",
    "SMSVerifyError",
    "SendFailed",
    "SendRefused",
    "Sender",
    "SenderError",
    "SenderIdentity",
    "SoapTransport",
    "StaffRequired",
    "Status",
    "StoreUnavailable",
    "TemplateError",
    "Text",
    "TextRefused",
    "Timeout",
    "TooManyAttempts",
    "TooSoon",
    "Unavailable",
    "UnclearRefusal",
    "UncommittedWrites",
    "Unknown",
    "VerificationRequired",
    "Verifier",
    "WrongCode",
    "WsdlFile",
    "batched",
    "deadline",
    "derived_id",
    "due_reminders",
    "errors",
    "failed_receipts",
    "isolate",
    "map_state",
    "parse_credential",
    "parse_flag",
    "parse_number",
    "redact_reason",
    "remaining",
    "require_verified_mobile",
    "send_grouped",
    "signals",
    "to_e164",
    "to_national",
]

#: Name → module in `senders`, of the names that are imported on first use.
_SENDER_NAMES = {
    "Capability": "base",
    "CodeMessage": "base",
    "Credit": "base",
    "DeliveryReport": "base",
    "DeliveryState": "base",
    "KnownError": "base",
    "Pattern": "base",
    "PatternRules": "base",
    "Receipt": "base",
    "ReceivedText": "base",
    "Sender": "base",
    "SenderIdentity": "base",
    "Text": "base",
    "UnclearRefusal": "batching",
    "batched": "batching",
    "failed_receipts": "batching",
    "isolate": "batching",
    "send_grouped": "batching",
    "derived_id": "convert",
    "map_state": "convert",
    "redact_reason": "convert",
    "to_e164": "convert",
    "to_national": "convert",
    "deadline": "deadline",
    "remaining": "deadline",
    "Answer": "http",
    "HttpTransport": "http",
    "DEFAULT_TIMEOUT": "options",
    "Timeout": "options",
    "parse_credential": "options",
    "parse_flag": "options",
    "parse_number": "options",
    "SoapTransport": "soap",
    "WsdlFile": "soap",
}


def __getattr__(name: str) -> object:
    """Import a name for authors of gateways on first use."""
    if name not in _SENDER_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".senders.{_SENDER_NAMES[name]}", __name__), name)
