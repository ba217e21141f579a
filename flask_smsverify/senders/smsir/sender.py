"""The sender for SMS.ir, with either API. `SmsIr.v1` and `SmsIr.legacy` have all calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import ClassVar, Literal

import httpx

from ...errors import ConfigurationError, Rejected, SenderError, Unknown
from ..base import (
    Capability,
    CodeMessage,
    Credit,
    DeliveryReport,
    DeliveryState,
    Pattern,
    PatternRules,
    Receipt,
    ReceivedText,
    Sender,
    Text,
)
from ..batching import isolate
from ..http import HttpTransport
from ..options import (
    DEFAULT_TIMEOUT,
    Timeout,
    parse_credential,
    parse_flag,
    parse_number,
    parse_text,
)
from . import legacy, v1
from .legacy import LegacyClient
from .v1 import Pack, SentTemplate, V1Client


class SmsIr(Sender):
    """One account at SMS.ir.

    A code is sent with the template `template_id`. Without one, v1 sends it as a text, and legacy
    in the account's verification text. Texts are sent from `line`, or from the line of the customer
    club. Patterns are templates, sent with `send/verify` of v1 or `UltraFastSend` of legacy.

    :param line: the number to send texts from. Without it only codes and patterns can be sent.
    :param template_id: the template for codes.
    :param code_parameter: the template's variable for the code.
    :param api: `"v1"`, or `"legacy"` with a `secret_key`.
    :param customer_club: legacy only: send texts from the customer club's line, to contacts and to
        other numbers, including numbers that block advertising. `line` is not used.
    :param base_url: everything before the method's name; the API's own by default.
    :param http_client: an httpx client to use instead, for tests.
    :raises ConfigurationError: an option is invalid.
    """

    gateway = "smsir"
    batch_limit = v1.MAX_RECIPIENTS
    # Error 114 of both APIs.
    pattern_rules: ClassVar[PatternRules] = PatternRules(max_template=2**31 - 1, max_length=25)

    def __init__(
        self,
        api_key: str | int,
        line: str | int = "",
        template_id: str | int | None = None,
        code_parameter: str = "CODE",
        *,
        api: Literal["v1", "legacy"] = "v1",
        secret_key: str | int | None = None,
        customer_club: bool = False,
        base_url: str | None = None,
        timeout: Timeout | tuple[float, float, float] = DEFAULT_TIMEOUT,
        allow_http: bool = False,
        http_client: httpx.Client | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        if api not in ("v1", "legacy"):
            raise ConfigurationError(f"{self.name}: api must be 'v1' or 'legacy'")
        key = parse_credential(self.name, "api_key", api_key)
        if not (key.isascii() and key.isprintable()):  # it is sent as a header
            raise ConfigurationError(f"{self.name}: api_key must be printable ASCII")
        self._line = parse_number(self.name, "line", line)
        self._template_id = parse_number(self.name, "template_id", template_id)
        self._code_parameter = parse_text(self.name, "code_parameter", code_parameter)
        self._customer_club = parse_flag(self.name, "customer_club", customer_club)
        if api == "v1" and (secret_key not in (None, "") or customer_club):
            raise ConfigurationError(
                f"{self.name}: secret_key and customer_club require api='legacy'"
            )
        if api == "v1" and self._line is None and self._template_id is None:
            raise ConfigurationError(
                f"{self.name}: set the option line, or template_id to send only codes"
            )
        self._http = HttpTransport(
            self.identity,
            base_url or (v1.BASE_URL if api == "v1" else legacy.BASE_URL),
            timeout=timeout,
            allow_http=allow_http,
            http_client=http_client,
        )
        self._v1: V1Client | None = None
        self._legacy: LegacyClient | None = None
        if api == "v1":
            self._v1 = V1Client(self._http, key)
        else:
            secret = parse_credential(self.name, "secret_key", secret_key)
            self._legacy = LegacyClient(self._http, key, secret)

    @property
    def v1(self) -> V1Client:
        """The calls of v1.

        :raises ConfigurationError: this sender uses legacy.
        """
        if self._v1 is None:
            raise ConfigurationError(f"{self.name}: this call requires api='v1'")
        return self._v1

    @property
    def legacy(self) -> LegacyClient:
        """The calls of legacy.

        :raises ConfigurationError: this sender uses v1.
        """
        if self._legacy is None:
            raise ConfigurationError(f"{self.name}: this call requires api='legacy'")
        return self._legacy

    @property
    def capabilities(self) -> frozenset[Capability]:
        supported = {Capability.PATTERN, Capability.CODE_SMS, Capability.CREDIT}
        if self._line is not None or self._customer_club:
            supported.add(Capability.TEXT)
        if self._v1 is not None:
            supported |= {Capability.STATUS, Capability.INCOMING}
        if self._legacy is not None and self._customer_club:
            supported.add(Capability.CONTACTS)
        return frozenset(supported)

    def close(self) -> None:
        self._http.close()

    # --- sending ---------------------------------------------------------------------------------

    def send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        """Send with one call. A refused call is split by `isolate`."""
        if Capability.TEXT not in self.capabilities:
            raise self.not_supported("ordinary texts without the option 'line'")
        if self._v1 is not None:
            return isolate(batch, self._send_v1, v1.RECIPIENT_CODES)
        return isolate(batch, self._send_legacy, legacy.RECIPIENT_CODES)

    def _send_legacy(self, batch: Sequence[Text]) -> list[Receipt]:
        mobiles, texts = [text.to for text in batch], [text.text for text in batch]
        if self._customer_club:
            ids = self.legacy.send_club_messages(mobiles, texts)
        else:
            ids = self.legacy.send_messages(mobiles, texts, line=str(self._line))
        return [self._read_legacy_receipt(text, ids) for text in batch]

    def _send_v1(self, batch: Sequence[Text]) -> list[Receipt]:
        mobiles, texts = [text.to for text in batch], [text.text for text in batch]
        line = self._line or 0
        if len(set(texts)) == 1:
            pack = self.v1.send_bulk(line, texts[0], mobiles)
        else:
            pack = self.v1.send_like_to_like(line, texts, mobiles)
        # The cost is that of the whole pack, and its texts may have different costs.
        cost = pack.cost if len(batch) == 1 else None
        return [self._read_v1_receipt(text, pack, place, cost) for place, text in enumerate(batch)]

    def _read_v1_receipt(self, text: Text, pack: Pack, place: int, cost: Decimal | None) -> Receipt:
        """Return the receipt of one recipient. The id 0 or null means not sent."""
        id_ = pack.ids[place] if place < len(pack.ids) else None
        if id_ is None:
            missing = self.make_error(Unknown, "the answer omits this recipient")
            return Receipt.failed(text, missing)
        if not id_:
            refused = self.make_error(Rejected, "not sent to this recipient")
            return Receipt.failed(text, refused)
        return Receipt(text.to, DeliveryState.QUEUED, id_, text.reference, cost=cost)

    def _read_legacy_receipt(self, text: Text, ids: dict[str, list[str]]) -> Receipt:
        own_ids = ids.get(text.to)
        if not own_ids:
            missing = self.make_error(Unknown, "the answer has no id for this recipient")
            return Receipt.failed(text, missing)
        if not (id_ := own_ids.pop(0)):
            refused = self.make_error(Rejected, "not sent to this recipient")
            return Receipt.failed(text, refused)
        return Receipt(text.to, DeliveryState.QUEUED, id_, text.reference)

    def send_code(self, message: CodeMessage) -> Receipt:
        """Send an own code with the template, or as the class describes if there is none."""
        if message.channel != "sms":
            raise self.not_supported(f"codes by {message.channel}")
        if self._template_id is None and self._v1 is not None:
            return self.send_text(message.to, message.text, reference=message.reference)
        if self._template_id is None:
            id_ = self.legacy.send_verification_code(message.to, message.code)
            return Receipt(message.to, DeliveryState.QUEUED, id_, message.reference)
        values = {self._code_parameter: message.code}
        sent = self._send_template(message.to, self._template_id, values)
        return Receipt(message.to, DeliveryState.QUEUED, sent.id, message.reference, cost=sent.cost)

    def send_pattern(self, to: str, pattern: Pattern, *, reference: str = "") -> Receipt:
        """Send a template with `send/verify` of v1 or `UltraFastSend` of legacy."""
        self.check_pattern(pattern)
        sent = self._send_template(to, int(pattern.template), pattern.values)
        return Receipt(to, DeliveryState.QUEUED, sent.id, reference, cost=sent.cost)

    def _send_template(self, to: str, template_id: int, values: Mapping[str, str]) -> SentTemplate:
        if self._v1 is not None:
            return self._v1.verify(to, template_id, values)
        return SentTemplate(self.legacy.send_ultra_fast(to, template_id, values), None)

    # --- reading ---------------------------------------------------------------------------------

    def credit(self) -> Credit:
        """Return the credit in the account's unit."""
        return Credit((self._v1 or self.legacy).get_credit())

    def statuses(self, ids: Sequence[str]) -> dict[str, DeliveryState]:
        """Return delivery states as `reports` does."""
        return {report.id: report.status for report in self.reports(ids)}

    def reports(self, ids: Sequence[str]) -> list[DeliveryReport]:
        """Return delivery states and costs, with one call per id.

        If a call fails, the states so far are returned. If the first call fails, its error is
        raised.
        """
        if self._v1 is None:
            raise self.not_supported("delivery states with api='legacy'")
        reports = {id_: DeliveryReport(id_, DeliveryState.UNKNOWN) for id_ in ids}
        has_answer = False
        for id_ in reports:
            if not (id_.isascii() and id_.isdigit()):
                continue
            try:
                found = self._v1.get_report(id_)
                reports[id_] = DeliveryReport(id_, found.status, found.cost)
            except Rejected:
                pass  # there is no message with this id
            except SenderError:
                if has_answer:
                    break
                raise
            has_answer = True
        return list(reports.values())

    def contacts(self) -> Iterator[str]:
        """Yield the mobiles of the active contacts of the customer club."""
        for contact in self.legacy.iter_contacts():
            if contact.active:
                yield contact.mobile

    def received(self, since: datetime) -> Iterator[ReceivedText]:
        """Yield the texts since a time. v1 returns the latest hundred only."""
        if self._v1 is None:
            raise self.not_supported("received texts with api='legacy'")
        for text in self._v1.get_latest_received():
            if text.received_at is None or text.received_at >= since:
                yield text
