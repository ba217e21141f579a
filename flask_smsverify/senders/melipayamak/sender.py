"""The sender for MeliPayamak."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import httpx

from ...errors import ConfigurationError, Rejected, TextRefused, Unknown
from ..base import (
    Capability,
    CodeMessage,
    Credit,
    DeliveryState,
    Pattern,
    PatternRules,
    Receipt,
    Sender,
    Text,
)
from ..batching import batched, isolate, send_grouped
from ..convert import map_state
from ..http import HttpTransport
from ..options import DEFAULT_TIMEOUT, Timeout, parse_credential, parse_number, parse_text
from .client import (
    BASE_URL,
    LINK_REFUSED,
    MAX_RECIPIENTS,
    RECIPIENT_CODES,
    STATES,
    MeliPayamakClient,
    SendResult,
)


class MeliPayamak(Sender):
    """One account at MeliPayamak.

    A code is sent with the approved pattern `body_id` from a shared line, or as a text without one.
    Texts are sent from `line` with `SendSms`, one call per different text. Patterns are sent from a
    shared line with `SendByBaseNumber2`.

    :param line: the number to send from. Without it only patterns can be sent.
    :param body_id: the approved pattern for codes. Without it a code is sent as a text.
    :param body_values: the pattern's variables in order. `{code}` in them stands for the code.
    :param base_url: everything before `/Send.asmx`.
    :param http_client: an httpx client to use instead, for tests.
    :raises ConfigurationError: an option is invalid.
    """

    gateway = "melipayamak"
    batch_limit = MAX_RECIPIENTS
    # The id is an xsd:int, `;` separates the values, and -10 refuses links.
    pattern_rules: ClassVar[PatternRules] = PatternRules(
        max_template=2**31 - 1, forbidden=";", allows_links=False
    )

    def __init__(
        self,
        username: str | int,
        password: str | int,
        line: str | int = "",
        body_id: str | int | None = None,
        body_values: Sequence[str] = ("{code}",),
        *,
        base_url: str = BASE_URL,
        timeout: Timeout | tuple[float, float, float] = DEFAULT_TIMEOUT,
        allow_http: bool = False,
        http_client: httpx.Client | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        #: Whether MeliPayamak has refused a code's text because of a link (14). Codes are then sent
        #: without the WebOTP line. The account's setting cannot be read, so in each process one
        #: code is refused first.
        self.refuses_links = False
        self._line = parse_text(self.name, "line", line) if line not in ("", None) else ""
        self._body_id = parse_number(self.name, "body_id", body_id)
        if self._body_id is not None and self._body_id >= 2**31:  # an xsd:int
            raise ConfigurationError(f"{self.name}: body_id is too large for a pattern's number")
        self._body_values = _parse_body_values(self.name, body_values)
        if not self._line and self._body_id is None:
            raise ConfigurationError(
                f"{self.name}: set the option line, or body_id to send only codes"
            )
        self._http = HttpTransport(
            self.identity,
            base_url,
            timeout=timeout,
            allow_http=allow_http,
            http_client=http_client,
        )
        #: The operations of MeliPayamak's service.
        self.client = MeliPayamakClient(
            self._http,
            username=parse_credential(self.name, "username", username),
            password=parse_credential(self.name, "password", password),
            line=self._line,
        )

    @property
    def capabilities(self) -> frozenset[Capability]:
        supported = {
            Capability.PATTERN,
            Capability.CODE_SMS,
            Capability.CREDIT,
            Capability.STATUS,
        }
        return frozenset(supported | {Capability.TEXT} if self._line else supported)

    def close(self) -> None:
        self._http.close()

    # --- sending ---------------------------------------------------------------------------------

    def send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        """Send with one call per different text. A refused call is split by `isolate`."""
        if not self._line:
            raise self.not_supported("ordinary texts without the option 'line'")
        return send_grouped(batch, lambda texts: isolate(texts, self._send_equal, RECIPIENT_CODES))

    def _send_equal(self, texts: Sequence[Text]) -> list[Receipt]:
        result = self.client.send_sms([text.to for text in texts], texts[0].text)
        return [self._read_receipt(text, result, place) for place, text in enumerate(texts)]

    def _read_receipt(self, text: Text, result: SendResult, place: int) -> Receipt:
        """Return the receipt of one recipient. Both lists may be missing, empty or too short."""
        id_ = result.ids[place] if place < len(result.ids) else None
        message_id = str(id_) if id_ is not None and id_ > 0 else None
        failed = result.failed[place] if place < len(result.failed) else None
        if failed == 1:
            refused = self.make_error(Rejected, "not sent to this recipient")
            return Receipt.failed(text, refused, id=message_id)
        # Without lists, the result is certain for a single recipient only.
        is_only_one = result.recipients == 1 and not result.ids and not result.failed
        if failed == 0 or is_only_one or (failed is None and message_id is not None):
            return Receipt(text.to, DeliveryState.SENT, message_id, text.reference)
        missing = self.make_error(Unknown, "the answer omits this recipient")
        return Receipt.failed(text, missing, id=message_id)

    def send_code(self, message: CodeMessage) -> Receipt:
        """Send an own code with the pattern `body_id`, or as a text without one.

        After MeliPayamak has refused a link, a text is sent without its WebOTP line.
        """
        if message.channel != "sms":
            raise self.not_supported(f"codes by {message.channel}")
        if self._body_id is None:
            return self._send_code_as_text(message)
        values = [value.replace("{code}", message.code) for value in self._body_values]
        id_ = self.client.send_by_base_number(message.to, self._body_id, values)
        return Receipt(message.to, DeliveryState.QUEUED, id_, message.reference)

    def _send_code_as_text(self, message: CodeMessage) -> Receipt:
        if self.refuses_links:
            message = message.without_webotp_line()
        try:
            return self.send_text(message.to, message.text, reference=message.reference)
        except TextRefused as error:
            if error.code == str(LINK_REFUSED):
                self.refuses_links = True
            raise

    def send_pattern(self, to: str, pattern: Pattern, *, reference: str = "") -> Receipt:
        """Send a pattern from a shared line, with the values in their order."""
        self.check_pattern(pattern)
        values = list(pattern.values.values())
        id_ = self.client.send_by_base_number(to, int(pattern.template), values)
        return Receipt(to, DeliveryState.QUEUED, id_, reference)

    # --- reading ---------------------------------------------------------------------------------

    def credit(self) -> Credit:
        """Return the credit in the account's unit."""
        return Credit(self.client.get_credit())

    def statuses(self, ids: Sequence[str]) -> dict[str, DeliveryState]:
        """Return delivery states, with one call per `MAX_RECIPIENTS` ids."""
        states: dict[str, DeliveryState] = {}
        for part in batched(ids, MAX_RECIPIENTS):
            values = self.client.get_deliveries(part)
            for place, id_ in enumerate(part):
                # None: the answer is too short, or is not a number here.
                value = values[place] if place < len(values) else None
                states[id_] = (
                    DeliveryState.UNKNOWN
                    if value is None
                    else map_state(STATES, value, gateway=self.name)
                )
        return states


def _parse_body_values(name: str, values: object) -> tuple[str, ...]:
    if (
        not isinstance(values, list | tuple)
        or not all(isinstance(value, str) and ";" not in value for value in values)
        or not any("{code}" in value for value in values)
    ):
        raise ConfigurationError(
            f"{name}: body_values must be a list of texts without ';', one of them with {{code}}"
        )
    return tuple(values)
