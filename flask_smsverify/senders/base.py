"""What a sender is: the words, the shapes, and what a gateway's file has to write.

A sender speaks one gateway's API with one account. A gateway's file subclasses `Sender`, says in
`capabilities` what it can do, and writes the methods that belong to those: `_send_batch` for
texts, `send_code` for codes of our own, `send_native_code` and `check_native_code` where the
gateway makes and checks the code itself, `credit`, `statuses`, `received`, and `read_push` where
the gateway calls us. Everything raises `SenderError`s and nothing else. How bytes travel is the
transports' business.
"""

from __future__ import annotations

import enum
import hashlib
import json
import logging
import re
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import ClassVar, Literal

from ..errors import ConfigurationError, Rejected, SenderError, Unavailable, Unknown

Channel = Literal["sms", "voice"]

logger = logging.getLogger(__name__)


class Capability(enum.StrEnum):
    """What a sender can do. A route is made of the senders that can do its part."""

    TEXT = "text"  #: ordinary texts: `send_text`, `send_many`
    CODE_SMS = "code_sms"  #: a code of ours by SMS: `send_code`
    CODE_VOICE = "code_voice"  #: a code of ours by a call: `send_code`
    NATIVE_CODE = "native_code"  #: a code the gateway makes and checks
    CREDIT = "credit"  #: `credit`
    STATUS = "status"  #: `statuses`
    INCOMING = "incoming"  #: `received`


class Status(enum.StrEnum):
    """Where a message is. The last four never change again, save `unknown`."""

    QUEUED = "queued"  #: taken, not yet at the operator
    SENT = "sent"  #: at the operator
    DELIVERED = "delivered"  #: on the phone
    UNDELIVERED = "undelivered"  #: given up by the operator
    REJECTED = "rejected"  #: filtered, black-listed or refused
    UNKNOWN = "unknown"  #: nobody can say

    @property
    def final(self) -> bool:
        """Whether a later report can no longer change it."""
        return self in (Status.DELIVERED, Status.UNDELIVERED, Status.REJECTED)


@dataclass(frozen=True, slots=True)
class Text:
    """An ordinary text to one mobile.

    :param to: E.164.
    :param reference: our own id of it, passed on where the gateway takes one.
    """

    to: str
    text: str
    reference: str = ""

    def __repr__(self) -> str:
        return f"<Text {self.reference or 'without reference'}>"


@dataclass(frozen=True, slots=True)
class CodeMessage:
    """A code of ours to one mobile.

    :param to: E.164.
    :param text: the whole text with the code in it, for gateways that take a text; a gateway with
        a pattern or a voice takes `code` alone.
    :param locale: `"fa"` or `"en"`.
    :param reference: our own id of it.
    """

    to: str
    code: str
    text: str
    channel: Channel = "sms"
    locale: str = "fa"
    reference: str = ""

    def __repr__(self) -> str:
        return f"<CodeMessage by {self.channel} {self.reference or 'without reference'}>"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A gateway's answer to a send, for one recipient.

    :param to: the mobile as it was asked for, E.164.
    :param id: the gateway's id of the message; None where it gave none.
    :param error: why this recipient got nothing, where that is known.
    :param cost: in the gateway's own unit.
    """

    to: str
    status: Status
    id: str | None = None
    reference: str = ""
    error: SenderError | None = None
    cost: Decimal | None = None

    def __repr__(self) -> str:
        return f"<Receipt {self.status} {self.id or '-'}>"


@dataclass(frozen=True, slots=True)
class Credit:
    """What is left on the account, in the gateway's own unit.

    :param currency: `"IRR"`, or `"messages"` or None where the gateway does not say.
    """

    amount: Decimal
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message from a phone to one of our lines.

    :param sender: E.164 where it is a mobile, else as the gateway gave it.
    :param received_at: aware, UTC; None where the gateway gave no readable time.
    """

    id: str
    sender: str
    line: str
    text: str
    received_at: datetime | None

    def __repr__(self) -> str:
        return f"<Incoming {self.id}>"


@dataclass(frozen=True, slots=True)
class Report:
    """A gateway's word, unasked, on where a message is.

    :param id: the gateway's id of the message, as its receipt gave it.
    """

    id: str
    status: Status


class Sender:
    """One account at one gateway.

    Calls are thread-safe, may be made outside a request, and raise `SenderError`s only. `name` is
    the sender's name in `SMSVERIFY_SENDERS` and the `gateway` of its errors.
    """

    gateway: ClassVar[str]
    #: The most recipients that one call of `_send_batch` may get.
    batch_limit: ClassVar[int] = 1
    #: The HTTP methods by which the gateway calls our hook; empty where it never does.
    push_methods: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *, name: str | None = None) -> None:
        self.name = name or self.gateway

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this sender, with the options it has, can do."""
        return frozenset()

    def send_text(self, to: str, text: str, *, reference: str = "") -> Receipt:
        """Send one ordinary text; raises what stands in the way."""
        [receipt] = self._send_batch([Text(to, text, reference)])
        if receipt.error is not None:
            raise receipt.error
        return receipt

    def send_many(self, texts: Iterable[Text]) -> Iterator[Receipt]:
        """Send texts in the gateway's batches; a receipt for each, in order.

        A batch that fails as a whole gives its recipients receipts with that error, and the rest
        goes on: `Unavailable` for one batch says nothing about receipts already given.
        """
        for batch in batched(texts, self.batch_limit):
            try:
                yield from self._send_batch(batch)
            except SenderError as error:
                yield from lost(batch, error)

    def _send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        """Send at most `batch_limit` texts, the texts alike or not; a receipt each, in order."""
        raise self._unable("ordinary texts")

    def send_code(self, message: CodeMessage) -> Receipt:
        """Bring a code of ours by the message's channel."""
        raise self._unable(f"codes by {message.channel}")

    def send_native_code(self, to: str) -> Receipt:
        """Have the gateway make a code and bring it by SMS."""
        raise self._unable("codes of its own")

    def check_native_code(self, to: str, code: str) -> bool:
        """The gateway's verdict on a code it made for this mobile."""
        raise self._unable("codes of its own")

    def credit(self) -> Credit:
        """What is left on the account."""
        raise self._unable("telling its credit")

    def statuses(self, ids: Sequence[str]) -> dict[str, Status]:
        """Where these messages are, by the gateway's ids; who is missing is `unknown`."""
        raise self._unable("telling where a message is")

    def received(self, since: datetime) -> Iterator[Incoming]:
        """Messages from phones since then, page by page as they are asked for."""
        raise self._unable("telling received messages")

    def read_push(self, said: object) -> Sequence[Incoming | Report]:
        """What the gateway tells by calling our hook, by one of `push_methods`.

        :param said: the fields of a GET's query or of a form, text by name, of which the first
            counts where one comes twice; or what a JSON body holds.
        :raises Unknown: it is nothing that this gateway says.
        """
        raise self._unable("pushing")

    def close(self) -> None:
        """Let go of connections. A closed sender may not be used again."""

    def _unable(self, what: str) -> Unavailable:
        return Unavailable(self.name, f"this sender does not do {what}", written=False)


def batched(items: Iterable[Text], size: int) -> Iterator[list[Text]]:
    """Cut into lists of at most `size`, streaming."""
    batch: list[Text] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def lost(batch: Sequence[Text], error: SenderError) -> list[Receipt]:
    """Receipts for a batch that failed as a whole."""
    status = Status.UNKNOWN if isinstance(error, Unknown) else Status.REJECTED
    return [Receipt(text.to, status, reference=text.reference, error=error) for text in batch]


def send_alike(batch: Sequence[Text], send: Callable[[list[Text]], list[Receipt]]) -> list[Receipt]:
    """Send a batch through a gateway that takes one text for many recipients.

    :param send: gets the texts that are alike and gives a receipt for each, in order. Where it
        raises, only its own texts are lost, since those of another call may be on their way.
    :returns: a receipt for each text of the batch, in the batch's order.
    """
    places: dict[str, list[int]] = {}
    for place, text in enumerate(batch):
        places.setdefault(text.text, []).append(place)
    receipts: dict[int, Receipt] = {}
    for alike in places.values():
        texts = [batch[place] for place in alike]
        try:
            answered = send(texts)
        except SenderError as error:
            answered = lost(texts, error)
        receipts.update(zip(alike, answered, strict=True))
    return [receipts[place] for place in range(len(batch))]


def isolate(
    texts: Sequence[Text],
    send: Callable[[Sequence[Text]], list[Receipt]],
    culprits: frozenset[str],
) -> list[Receipt]:
    """Send; where a call is refused for one recipient's sake, halve it until that one is alone.

    For gateways that refuse a whole call for one bad number. Nothing went out then, so nobody gets
    the text twice.

    :param culprits: the codes of a `Rejected` that mean a recipient rather than the text.
    """
    try:
        return send(texts)
    except Rejected as error:
        if len(texts) == 1 or error.code not in culprits:
            raise
    receipts: list[Receipt] = []
    for half in (texts[: len(texts) // 2], texts[len(texts) // 2 :]):
        try:
            receipts += isolate(half, send, culprits)
        except SenderError as error:
            receipts += lost(half, error)
    return receipts


def own_id(*parts: str) -> str:
    """An id for a received message whose gateway gives none: the same for the same message."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def national(mobile: str) -> str:
    """An Iranian mobile as its gateways write it: `09123456789`; others keep `00` and country.

    :param mobile: E.164.
    """
    return "0" + mobile[3:] if mobile.startswith("+98") else "00" + mobile[1:]


def e164(mobile: str) -> str:
    """What a gateway wrote (`0912…`, `98912…`, `912…`) as E.164; anything else as it came."""
    digits = mobile.strip().lstrip("+")
    for prefix, cut in (("0098", 4), ("98", 2), ("0", 1), ("", 0)):
        if digits.startswith(prefix + "9") and len(digits) == cut + 10 and digits.isdecimal():
            return "+98" + digits[cut:]
    return mobile


def credential(gateway: str, option: str, value: object) -> str:
    """A credential as text. The environment turns digits into `int`, which is taken as its text.

    :raises ConfigurationError: missing, or of a type whose text is a guess (`float`, `bool`).
    """
    if isinstance(value, bool | float) or not isinstance(value, str | int):
        raise ConfigurationError(
            f"{gateway}: the option {option!r} must be text, not {type(value).__name__}; "
            "in the environment, put it in double quotes"
        )
    text = str(value)
    if not text.strip():
        raise ConfigurationError(f"{gateway}: the option {option!r} is missing or empty")
    return text


def safe_reason(text: object, *, limit: int = 160, sent: Iterable[str] = ()) -> str:
    """A gateway's own words, fit for a log: no long run of digits, no control characters, short.

    Gateways echo numbers, and some echo the text with the code in it, so every run of three or
    more digits is hidden.

    :param sent: what the request held, text and credentials. Where the words repeat one of these,
        or any longer word in them, none of them is shown.
    """
    raw = str(text)[:2000]
    folded = raw.casefold()
    said = set(_WORD.findall(folded))
    if any(
        (part and part.casefold() in folded) or said.intersection(_WORD.findall(part.casefold()))
        for part in sent
    ):
        return "its words repeat what was sent, so they are not shown"
    printable = "".join(" " if unicodedata.category(char).startswith("C") else char for char in raw)
    short = re.sub(r"\s+", " ", re.sub(r"\d[\d\s-]{1,}\d", "•••", printable)).strip()
    return short[:limit] or "no reason given"


_WORD = re.compile(r"\w{4,}")


def status_of(table: Mapping[object, Status], value: object, *, gateway: str = "") -> Status:
    """A gateway's state by its table; what the table does not know is `unknown`, logged once."""
    if isinstance(value, Hashable) and value in table:
        return table[value]
    seen = (gateway, safe_reason(value, limit=40))
    if seen not in _unknown_states and len(_unknown_states) < 1000:
        _unknown_states.add(seen)
        logger.warning("%s: a state that no table knows: %s", *seen)
    return Status.UNKNOWN


_unknown_states: set[tuple[str, str]] = set()
