"""The interface of a sender, and the values that it takes and returns.

A sender calls one gateway's API with one account. A gateway's file subclasses `Sender`, lists in
`capabilities` what it supports, and overrides the methods of those capabilities: `send_batch` for
texts, `send_pattern` for approved texts, `send_code` for own codes, `send_native_code` and
`check_native_code` for codes that the gateway generates and checks, then `credit`, `statuses`,
`find`, `contacts`, `part_price`, `reachable`, `received`, and `parse_push` for webhooks.
These methods raise `SenderError` subclasses and nothing else.

The transports are in `http` and `soap`, and conversions of values in `convert`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import ClassVar, Literal, NamedTuple, TypeVar

from ..errors import Misconfigured, SenderError, Unavailable, Unknown

_E = TypeVar("_E", bound=SenderError)

Channel = Literal["sms", "voice"]

# --- values --------------------------------------------------------------------------------------


class Capability(enum.StrEnum):
    """A feature of a sender. Routes are built from the senders that have the feature."""

    TEXT = "text"  #: ordinary texts: `send_text`, `send_many`
    PATTERN = "pattern"  #: texts that the gateway has approved: `send_pattern`
    CODE_SMS = "code_sms"  #: an own code by SMS: `send_code`
    CODE_VOICE = "code_voice"  #: an own code by a phone call: `send_code`
    NATIVE_CODE = "native_code"  #: a code that the gateway generates and checks
    CREDIT = "credit"  #: `credit`
    STATUS = "status"  #: `statuses`
    FIND = "find"  #: `find`: the outcome of a call whose answer was lost
    CONTACTS = "contacts"  #: `contacts`: the customer club
    PRICES = "prices"  #: `part_price`
    FILTER = "filter"  #: `reachable`: which numbers take advertising texts
    INCOMING = "incoming"  #: `received`


class DeliveryState(enum.StrEnum):
    """The state of a sent message."""

    QUEUED = "queued"  #: accepted by the gateway, not yet at the operator
    SENT = "sent"  #: at the operator
    DELIVERED = "delivered"  #: on the phone
    UNDELIVERED = "undelivered"  #: not delivered, and not tried again
    REJECTED = "rejected"  #: filtered, blacklisted or refused
    UNKNOWN = "unknown"  #: not known

    @property
    def final(self) -> bool:
        """Whether later reports cannot change this state."""
        return self in (
            DeliveryState.DELIVERED,
            DeliveryState.UNDELIVERED,
            DeliveryState.REJECTED,
        )


@dataclass(frozen=True, slots=True)
class Text:
    """An ordinary text to one mobile.

    :param to: E.164.
    :param reference: the app's id of the message, passed on if the gateway takes one.
    :param call: the app's id of the call, equal for all texts of one call, passed on if the gateway
        can find the call by it.
    """

    to: str
    text: str
    reference: str = ""
    call: str = ""

    def __repr__(self) -> str:
        return f"<Text {self.reference or 'without reference'}>"


@dataclass(frozen=True, slots=True)
class CodeMessage:
    """An own code to one mobile.

    :param to: E.164.
    :param text: the whole text including the code, for gateways that take a text. Gateways with a
        pattern or a phone call take `code` alone.
    :param locale: the language of the reader, such as `"fa"`.
    :param reference: the app's id of the message.
    """

    to: str
    code: str
    text: str
    channel: Channel = "sms"
    locale: str = "fa"
    reference: str = ""

    def __repr__(self) -> str:
        return f"<CodeMessage by {self.channel} {self.reference or 'without reference'}>"

    def without_webotp_line(self) -> CodeMessage:
        """Return the message without the line `@host #code`, for gateways that refuse links."""
        lines = self.text.split("\n")
        kept = [line for line in lines if not re.fullmatch(r"@\S+ #\S+", line.strip())]
        return replace(self, text="\n".join(kept)) if kept else self


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text that the gateway has approved, and the values for its variables.

    :param template: the gateway's id of the text.
    :param values: variable → value, in the order of the variables.
    """

    template: str
    values: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class PatternRules:
    """The rules of a gateway for the templates and values of patterns.

    :param max_template: the largest id of a template, if ids are whole numbers; None if an id is
        any text.
    :param max_length: characters of a value; None for no limit.
    :param max_values: variables of a template; None for no limit.
    :param forbidden: characters that a value must not contain.
    :param allows_links: whether a value may contain a link.
    """

    max_template: int | None = None
    max_length: int | None = None
    max_values: int | None = None
    forbidden: str = ""
    allows_links: bool = True

    def find_problem(self, pattern: Pattern) -> str | None:
        """Return a message about what the gateway would refuse; None if nothing.

        The message quotes no value, only a forbidden character in it.
        """
        template = pattern.template
        if self.max_template is not None and not (
            template.isascii()
            and template.isdigit()
            and len(template) <= 18
            and 0 < int(template) <= self.max_template
        ):
            return f"the template must be a whole number from 1 to {self.max_template}"
        if self.max_values is not None and len(pattern.values) > self.max_values:
            return f"there are more than {self.max_values} values"
        for name, value in pattern.values.items():
            if self.max_length is not None and len(value) > self.max_length:
                return f"the value {name!r} is longer than {self.max_length} characters"
            for char in self.forbidden:
                if char in value:
                    return f"the value {name!r} contains {char!r}"
            if not self.allows_links and _LINK.search(value):
                return f"the value {name!r} contains a link"
        return None


_LINK = re.compile(r"https?://|\bwww\.", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Receipt:
    """A gateway's answer to a send, for one recipient.

    :param to: the mobile as the caller gave it, E.164.
    :param id: the gateway's id of the message; None if it gave none.
    :param reference: the reference of the message that was sent.
    :param error: the failure for this recipient; None if the gateway accepted the message.
    :param cost: what this message cost, in the gateway's unit; None if the gateway does not say,
        or says only what all messages of a call cost. It is never computed from a price.
    """

    to: str
    status: DeliveryState
    id: str | None = None
    reference: str = ""
    error: SenderError | None = None
    cost: Decimal | None = None

    def __repr__(self) -> str:
        return f"<Receipt {self.status} {self.id or '-'}>"

    @classmethod
    def failed(cls, text: Text, error: SenderError, *, id: str | None = None) -> Receipt:  # noqa: A002 -- the field's name
        """Return the receipt of a text that failed: unknown after `Unknown`, else rejected."""
        unknown = isinstance(error, Unknown)
        status = DeliveryState.UNKNOWN if unknown else DeliveryState.REJECTED
        return cls(text.to, status, id, text.reference, error)


@dataclass(frozen=True, slots=True)
class Credit:
    """The credit of an account, in the gateway's unit.

    :param currency: `"IRR"` or `"messages"`; None if the gateway does not say.
    """

    amount: Decimal
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class ReceivedText:
    """A text from a phone to one of the account's lines.

    :param id: the gateway's id, or `derived_id` if it gives none.
    :param originator: the phone that sent it: E.164 for a mobile, else as the gateway gave it.
    :param line: the number that received it.
    :param received_at: aware, UTC; None if the gateway gave no readable time.
    """

    id: str
    originator: str
    line: str
    text: str
    received_at: datetime | None

    def __repr__(self) -> str:
        return f"<ReceivedText {self.id}>"


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """A delivery state that a gateway pushed to the webhook, or returned from a status call.

    :param id: the gateway's id of the message, as in its receipt.
    :param cost: as in a receipt, if the gateway reports it with the state.
    """

    id: str
    status: DeliveryState
    cost: Decimal | None = None


# --- errors --------------------------------------------------------------------------------------


class KnownError(NamedTuple):
    """A row of a gateway's error table.

    :param kind: the error to raise.
    :param reason: the meaning of the gateway's code.
    :param advice: what the operator of the app can do; None for the advice of `kind`.
    """

    kind: type[SenderError]
    reason: str
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class SenderIdentity:
    """The two names that every error of a sender has. Clients and transports make errors with it.

    :param name: the sender's name in `SMSVERIFY_SENDERS`.
    :param gateway: the kind of gateway, such as `raygan`.
    """

    name: str
    gateway: str

    def make_error(
        self,
        kind: type[_E],
        reason: str,
        *,
        code: str | None = None,
        advice: str | None = None,
        written: bool = True,
    ) -> _E:
        """Return an error of this sender. The parameters are those of `SenderError`."""
        return kind(
            self.name, reason, gateway=self.gateway, code=code, advice=advice, written=written
        )

    def make_known_error(self, error: KnownError, *, code: object = None) -> SenderError:
        """Return the error of a row of an error table."""
        text = None if code is None else str(code)
        return self.make_error(error.kind, error.reason, code=text, advice=error.advice)


# --- the interface -------------------------------------------------------------------------------


class Sender:
    """One account at one gateway. Subclass it to add a gateway.

    Methods are thread-safe, may be called outside a request, and raise only `SenderError`
    subclasses.

    :param name: the sender's name in `SMSVERIFY_SENDERS`; the gateway's kind by default.
    """

    #: The kind of gateway, such as `raygan`.
    gateway: ClassVar[str]
    #: The most texts that one call of `send_batch` gets.
    batch_limit: ClassVar[int] = 1
    #: What the gateway accepts in a pattern.
    pattern_rules: ClassVar[PatternRules] = PatternRules()
    #: The HTTP methods with which the gateway calls the webhook; empty if it never does.
    push_methods: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *, name: str | None = None) -> None:
        self.name = name or self.gateway

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    @property
    def identity(self) -> SenderIdentity:
        """The sender's name and gateway, for transports and errors."""
        return SenderIdentity(self.name, self.gateway)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this sender supports with its options. The routes read it once, at start."""
        return frozenset()

    # --- sending ---------------------------------------------------------------------------------

    def send_text(self, to: str, text: str, *, reference: str = "") -> Receipt:
        """Send one ordinary text.

        :param to: E.164.
        :raises SenderError: the text was not accepted, or the outcome is unknown.
        """
        [receipt] = self.send_batch([Text(to, text, reference)])
        if receipt.error is not None:
            raise receipt.error
        return receipt

    def send_many(self, texts: Iterable[Text]) -> Iterator[Receipt]:
        """Send texts in batches of `batch_limit`, and yield a receipt for each, in order.

        An error of one batch is written into the receipts of its texts. The next batches are sent.
        """
        source = iter(texts)
        while batch := list(islice(source, self.batch_limit)):
            try:
                yield from self.send_batch(batch)
            except SenderError as error:
                yield from (Receipt.failed(text, error) for text in batch)

    def send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        """Send at most `batch_limit` texts, equal or different, and return a receipt for each.

        Override it for `Capability.TEXT`. The receipts are in the order of the texts.

        :raises SenderError: the failure of the whole batch.
        """
        raise self.not_supported("ordinary texts")

    def send_pattern(self, to: str, pattern: Pattern, *, reference: str = "") -> Receipt:
        """Send a text that the gateway has approved, to one mobile.

        Override it for `Capability.PATTERN`, and call `check_pattern` first.

        :param to: E.164.
        :raises SenderError: the text was not accepted, or the outcome is unknown.
        """
        raise self.not_supported("patterns")

    def check_pattern(self, pattern: Pattern) -> None:
        """Check a pattern against the gateway's rules, without calling the gateway.

        Override it if `pattern_rules` cannot express a rule.

        :raises Misconfigured: the gateway would refuse the pattern.
        """
        problem = self.pattern_rules.find_problem(pattern)
        if problem is not None:
            raise self.make_error(
                Misconfigured,
                problem,
                advice="Change the pattern in SMSVERIFY_PATTERNS or on the staff pages.",
                written=False,
            )

    def send_code(self, message: CodeMessage) -> Receipt:
        """Send an own code over the message's channel.

        Override it for `Capability.CODE_SMS` and `Capability.CODE_VOICE`.
        """
        raise self.not_supported(f"codes by {message.channel}")

    def send_native_code(self, to: str) -> Receipt:
        """Ask the gateway to generate a code and to send it by SMS.

        Override it and `check_native_code` for `Capability.NATIVE_CODE`.

        :param to: E.164.
        """
        raise self.not_supported("native codes")

    def check_native_code(self, to: str, code: str) -> bool:
        """Return whether the gateway accepts a code that it generated for this mobile.

        :param to: E.164.
        :raises SenderError: the gateway gave no verdict.
        """
        raise self.not_supported("native codes")

    # --- reading ---------------------------------------------------------------------------------

    def credit(self) -> Credit:
        """Return the credit of the account. Override it for `Capability.CREDIT`."""
        raise self.not_supported("credit")

    def statuses(self, ids: Sequence[str]) -> dict[str, DeliveryState]:
        """Return the delivery states of messages. Override it for `Capability.STATUS`.

        :param ids: the gateway's ids, as in receipts.
        :returns: a state for every id; `UNKNOWN` for ids that the gateway omits.
        """
        raise self.not_supported("delivery states")

    def reports(self, ids: Sequence[str]) -> list[DeliveryReport]:
        """Return the delivery states of messages, with their costs if the gateway reports them.

        Override it in addition to `statuses` if the gateway reports costs.
        """
        return [DeliveryReport(id_, state) for id_, state in self.statuses(ids).items()]

    def find(self, call: str, mobiles: Sequence[str]) -> dict[str, Receipt]:
        """Return what the gateway reports about a call whose answer was lost.

        Override it for `Capability.FIND`.

        :param call: the reference of the call, as in `Text.call`.
        :param mobiles: the recipients of the call, E.164.
        :returns: mobile → receipt. A mobile that the gateway omits stays unknown.
        """
        raise self.not_supported("looking up calls")

    def contacts(self) -> Iterator[str]:
        """Yield the mobiles of the customer club in E.164. Override it for `CONTACTS`."""
        raise self.not_supported("a customer club")

    def part_price(self, text: str) -> Decimal:
        """Return the price of one part of a text. Override it for `Capability.PRICES`."""
        raise self.not_supported("prices")

    def reachable(self, mobiles: Sequence[str]) -> set[str]:
        """Return the numbers that are not on the operator's blacklist for advertising texts.

        Override it for `Capability.FILTER`.

        :param mobiles: E.164.
        """
        raise self.not_supported("the blacklist")

    def received(self, since: datetime) -> Iterator[ReceivedText]:
        """Yield texts from phones since a time. Override it for `Capability.INCOMING`.

        Each page is requested when the iteration reaches it.

        :param since: aware.
        """
        raise self.not_supported("received texts")

    def parse_push(self, payload: object) -> Sequence[ReceivedText | DeliveryReport]:
        """Parse a webhook call. Override it together with `push_methods`.

        :param payload: the query of a GET or the fields of a form, text by name, the first value
            of a repeated name; or the value of a JSON body.
        :raises Unknown: the gateway does not send such a payload.
        """
        raise self.not_supported("webhooks")

    def close(self) -> None:
        """Close connections. A closed sender cannot be used again."""

    # --- for subclasses --------------------------------------------------------------------------

    def make_error(
        self,
        kind: type[_E],
        reason: str,
        *,
        code: str | None = None,
        advice: str | None = None,
        written: bool = True,
    ) -> _E:
        """Return an error of this sender. The parameters are those of `SenderError`."""
        return self.identity.make_error(kind, reason, code=code, advice=advice, written=written)

    def not_supported(self, feature: str) -> Unavailable:
        """Return the error of a method that this sender does not support.

        :param feature: a plural noun or a phrase, such as `"codes by voice"`.
        """
        return self.make_error(
            Unavailable,
            f"this sender does not support {feature}",
            advice="Use another sender for this, or complete this sender's options.",
            written=False,
        )
