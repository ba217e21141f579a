"""The sender for Asanak, with the API v1rest or v2rest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import httpx

from ...errors import ConfigurationError, Rejected, Unknown
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
from ..batching import batched, isolate, send_grouped
from ..convert import derived_id, to_e164
from ..http import HttpTransport
from ..options import DEFAULT_TIMEOUT, Timeout, parse_credential, parse_number, parse_text
from . import v1rest, v2rest
from .answers import read_time
from .client import MAX_RECIPIENTS, AsanakClient


class Asanak(Sender):
    """One account at Asanak.

    A code is sent with the template `template_id` of v2rest, or as a text without one. Texts are
    sent from `line` with `sendsms`, or with `p2psendsms` of v2rest if they differ. Only v2rest
    sends patterns, with `template`.

    :param line: the number to send from, `021…` or `9821…`.
    :param api: the API that the account was made for.
    :param template_id: v2rest's template for codes. Without it a code is sent as a text.
    :param code_parameter: the template's variable for the code.
    :param base_url: everything before the method's name; the API's own by default.
    :param http_client: an httpx client to use instead, for tests.
    :raises ConfigurationError: an option is invalid.
    """

    gateway = "asanak"
    batch_limit = MAX_RECIPIENTS
    pattern_rules: ClassVar[PatternRules] = PatternRules(max_template=2**31 - 1)
    push_methods: ClassVar[frozenset[str]] = frozenset({"GET"})  # the guide, 4

    def __init__(
        self,
        username: str | int,
        password: str | int,
        line: str | int,
        api: Literal["v1rest", "v2rest"] = "v1rest",
        template_id: int | None = None,
        code_parameter: str = "code",
        *,
        base_url: str | None = None,
        timeout: Timeout | tuple[float, float, float] = DEFAULT_TIMEOUT,
        allow_http: bool = False,
        http_client: httpx.Client | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        if api not in ("v1rest", "v2rest"):
            raise ConfigurationError(f"{self.name}: api must be 'v1rest' or 'v2rest'")
        user = parse_credential(self.name, "username", username)
        secret = parse_credential(self.name, "password", password)
        self._is_v2 = api == "v2rest"
        self._template_id = parse_number(self.name, "template_id", template_id)
        self._code_parameter = parse_text(self.name, "code_parameter", code_parameter)
        if self._template_id is not None and not self._is_v2:
            raise ConfigurationError(f"{self.name}: template_id requires api='v2rest'")
        self._http = HttpTransport(
            self.identity,
            base_url or (v2rest.BASE_URL if self._is_v2 else v1rest.BASE_URL),
            timeout=timeout,
            allow_http=allow_http,
            http_client=http_client,
        )
        #: The calls of Asanak's web service.
        self.client = AsanakClient(
            v2rest.V2Rest(self._http, user, secret)
            if self._is_v2
            else v1rest.V1Rest(self._http, user, secret),
            self.identity,
            line=parse_text(self.name, "line", line),
        )

    @property
    def capabilities(self) -> frozenset[Capability]:
        supported = {Capability.TEXT, Capability.CODE_SMS, Capability.CREDIT, Capability.STATUS}
        return frozenset(supported | {Capability.PATTERN} if self._is_v2 else supported)

    def close(self) -> None:
        self._http.close()

    # --- sending ---------------------------------------------------------------------------------

    def send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        """Send different texts in one call with v2rest, else with one call per different text.

        A call that is refused because of one recipient is split by `isolate`.
        """
        codes = v2rest.RECIPIENT_CODES
        if self._is_v2 and len({text.text for text in batch}) > 1:
            return isolate(batch, self._send_different, codes)
        return send_grouped(batch, lambda texts: isolate(texts, self._send_equal, codes))

    def _send_equal(self, texts: Sequence[Text]) -> list[Receipt]:
        ids = self.client.send_sms([text.to for text in texts], texts[0].text)
        return self._read_receipts(texts, ids)

    def _send_different(self, texts: Sequence[Text]) -> list[Receipt]:
        ids = self.client.send_p2p([(text.to, text.text) for text in texts])
        return self._read_receipts(texts, ids)

    def send_code(self, message: CodeMessage) -> Receipt:
        """Send an own code with the template, or as a text without one."""
        if message.channel != "sms":
            raise self.not_supported(f"codes by {message.channel}")
        if self._template_id is None:
            return self.send_text(message.to, message.text, reference=message.reference)
        values = {self._code_parameter: message.code}
        return self._send_template(message.to, self._template_id, values, message.reference)

    def send_pattern(self, to: str, pattern: Pattern, *, reference: str = "") -> Receipt:
        """Send a template. v1rest has no templates."""
        if not self._is_v2:
            raise self.not_supported("patterns with api='v1rest'")
        self.check_pattern(pattern)
        return self._send_template(to, int(pattern.template), pattern.values, reference)

    def _send_template(
        self, to: str, template_id: int, values: Mapping[str, str], reference: str
    ) -> Receipt:
        ids = self.client.send_template(to, template_id, values)
        [receipt] = self._read_receipts([Text(to, "", reference)], ids)
        if receipt.error is not None:
            raise receipt.error
        return receipt

    def _read_receipts(
        self, texts: Sequence[Text], ids: Sequence[str | int | None]
    ) -> list[Receipt]:
        """Return receipts from ids in the order of the recipients.

        If there are more ids than recipients, no id can be assigned.
        """
        if len(ids) > len(texts):
            ids = ()
        receipts = []
        for place, text in enumerate(texts):
            id_ = ids[place] if place < len(ids) else None
            if isinstance(id_, int):
                refused = self.make_error(
                    Rejected, "an error code in place of this recipient's id", code=str(id_)
                )
                receipt = Receipt.failed(text, refused)
            elif id_ is not None:
                receipt = Receipt(text.to, DeliveryState.QUEUED, id_, text.reference)
            else:
                missing = self.make_error(Unknown, "the answer has no id for this recipient")
                receipt = Receipt.failed(text, missing)
            receipts.append(receipt)
        return receipts

    # --- reading ---------------------------------------------------------------------------------

    def credit(self) -> Credit:
        """Return the credit in the account's unit."""
        return Credit(self.client.get_credit())

    def statuses(self, ids: Sequence[str]) -> dict[str, DeliveryState]:
        """Return delivery states, with one call per `MAX_RECIPIENTS` ids."""
        states = dict.fromkeys(ids, DeliveryState.UNKNOWN)
        for part in batched(ids, MAX_RECIPIENTS):
            states |= {one.id: one.status for one in self.client.get_statuses(part)}
        return states

    def parse_push(self, payload: object) -> Sequence[ReceivedText | DeliveryReport]:
        """Parse a text from a phone: the guide, 4.

        :param payload: the query's `Destination`, `Source`, `ReceiveTime` and `MsgBody`, in any
            case. The guide prints the last one also as `Msg Body`.
        :returns: one text. Asanak gives no id, so one is derived from the fields: the same text
            pushed twice has the same id.
        :raises Unknown: there is no source or no body.
        """
        query = payload if isinstance(payload, Mapping) else {}
        fields = {
            re.sub(r"[\s_+]", "", str(key)).casefold(): str(value) for key, value in query.items()
        }
        source, line, time = (
            fields.get(key, "").strip() for key in ("source", "destination", "receivetime")
        )
        if not source or "msgbody" not in fields:
            raise self.make_error(Unknown, "the pushed query is not a message", written=False)
        text, originator = fields["msgbody"], to_e164(source)
        return [
            ReceivedText(
                id=derived_id(self.gateway, line, originator, time, text),
                originator=originator,
                line=line,
                text=text,
                received_at=read_time(time),
            )
        ]
