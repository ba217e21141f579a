"""The sender for WikiPayam.

A receipt has the id of `sms/send` or `otp/sms/send` unchanged, or `voice:<id>` for a phone call.
The API does not report the state of a phone call, so its state is `unknown`.
"""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import httpx

from ...errors import ConfigurationError, Rejected, SenderError, TextRefused, Unknown
from ..base import (
    Capability,
    CodeMessage,
    Credit,
    DeliveryState,
    Receipt,
    ReceivedText,
    Sender,
    Text,
)
from ..batching import batched, failed_receipts
from ..http import HttpTransport
from ..options import DEFAULT_TIMEOUT, Timeout, parse_credential, parse_number, parse_text
from .client import (
    BASE_URL,
    MAX_LIMIT,
    AcceptedMessage,
    EntriesRefused,
    OutgoingCode,
    OutgoingText,
    TextsRefused,
    WikiPayamClient,
)


class WikiPayam(Sender):
    """One account at WikiPayam.

    A code by SMS is sent with the pattern `otp_pattern_id`, or as a text without one. A code by
    phone is read out, and needs neither. Texts are sent from `line` with `sms/send`. Patterns of
    events are not supported.

    :param line: the number that texts are sent from. Without it ordinary texts cannot be sent.
    :param otp_pattern_id: the pattern of codes by SMS. Without it a code is sent as a text, which
        needs a line.
    :param base_url: everything before the call's path.
    :param http_client: an httpx client to use instead, for tests.
    :raises ConfigurationError: an option is invalid.
    """

    gateway = "wikipayam"
    #: Limits the size of a request. The vendor's page has no limit.
    batch_limit = 100

    def __init__(
        self,
        *,
        token: str | int,
        line: str | int = "",
        otp_pattern_id: str | int | None = None,
        base_url: str = BASE_URL,
        timeout: Timeout | tuple[float, float, float] = DEFAULT_TIMEOUT,
        allow_http: bool = False,
        http_client: httpx.Client | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        bearer = parse_credential(self.name, "token", token)
        if not re.fullmatch(r"[!-~]+", bearer):  # it is sent as a header
            raise ConfigurationError(
                f"{self.name}: the option 'token' must be printable ASCII without spaces"
            )
        self.line = "" if line == "" else parse_text(self.name, "line", line)
        self.otp_pattern_id = parse_number(self.name, "otp_pattern_id", otp_pattern_id)
        self._http = HttpTransport(
            self.identity,
            base_url,
            timeout=timeout,
            allow_http=allow_http,
            http_client=http_client,
        )
        #: The calls of WikiPayam's web service.
        self.client = WikiPayamClient(
            self._http, token=bearer, line=self.line, otp_pattern_id=self.otp_pattern_id
        )

    @property
    def capabilities(self) -> frozenset[Capability]:
        supported = {
            Capability.CODE_VOICE,
            Capability.CREDIT,
            Capability.STATUS,
            Capability.INCOMING,
        }
        if self.line:
            supported |= {Capability.TEXT, Capability.CODE_SMS}
        if self.otp_pattern_id is not None:
            supported.add(Capability.CODE_SMS)
        return frozenset(supported)

    def close(self) -> None:
        self._http.close()

    # --- sending ---------------------------------------------------------------------------------

    def send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        """Send with one call. If it is refused because of some texts, send the others again."""
        if not self.line:
            raise self.not_supported("ordinary texts without the option 'line'")
        try:
            return self._send_texts(batch)
        except (EntriesRefused, TextsRefused) as error:
            refused = error
        if not refused.positions or max(refused.positions) >= len(batch):
            raise refused
        # Laravel validates the whole request first, so nothing was sent.
        kind = TextRefused if isinstance(refused, TextsRefused) else Rejected
        cause = self.make_error(kind, refused.reason, code=refused.code)
        receipts = {place: Receipt.failed(batch[place], cause) for place in refused.positions}
        others = [place for place in range(len(batch)) if place not in receipts]
        texts = [batch[place] for place in others]
        try:
            answered = self._send_texts(texts) if texts else []
        except SenderError as error:
            answered = failed_receipts(texts, error)
        receipts.update(zip(others, answered, strict=True))
        return [receipts[place] for place in range(len(batch))]

    def _send_texts(self, batch: Sequence[Text]) -> list[Receipt]:
        track_ids = _make_track_ids([text.reference for text in batch])
        accepted = self.client.send(
            [
                OutgoingText(text.to, text.text, track_id)
                for text, track_id in zip(batch, track_ids, strict=True)
            ]
        )
        requested = [(id_, text.to) for text, id_ in zip(batch, track_ids, strict=True)]
        receipts = []
        for text, message in zip(batch, _match(accepted, requested), strict=True):
            if message is None:
                receipts.append(Receipt.failed(text, self._make_missing()))
            else:
                receipts.append(Receipt(text.to, DeliveryState.QUEUED, message.id, text.reference))
        return receipts

    def send_code(self, message: CodeMessage) -> Receipt:
        """Send an own code by a phone call, with the OTP pattern, or as an ordinary text.

        A phone call and a pattern take the code alone. The gateway has their text.
        """
        if message.channel == "voice":
            call = self.client.send_voice_otp(message.to, message.code, message.reference)
            return Receipt(message.to, DeliveryState.QUEUED, f"voice:{call.id}", message.reference)
        if self.otp_pattern_id is None:
            return self.send_text(message.to, message.text, reference=message.reference)
        [track_id] = _make_track_ids([message.reference])
        sent = self.client.send_otp([OutgoingCode(message.to, message.code, track_id)])
        [accepted] = _match(sent, [(track_id, message.to)])
        if accepted is None:
            raise self._make_missing()
        return Receipt(message.to, DeliveryState.QUEUED, accepted.id, message.reference)

    def _make_missing(self) -> Unknown:
        return self.make_error(Unknown, "the answer omits this recipient")

    # --- reading ---------------------------------------------------------------------------------

    def credit(self) -> Credit:
        """Return the credit in the currency of the answer."""
        balance = self.client.get_balance()
        return Credit(balance.amount, balance.currency)

    def statuses(self, ids: Sequence[str]) -> dict[str, DeliveryState]:
        """Return delivery states, with one call per `MAX_LIMIT` ids."""
        states = dict.fromkeys(ids, DeliveryState.UNKNOWN)
        texts = [id_ for id_ in states if not id_.startswith("voice:")]
        for part in batched(texts, MAX_LIMIT):
            for delivery in self.client.deliver(part):
                if delivery.id in states:
                    states[delivery.id] = delivery.status
        return states

    def received(self, since: datetime) -> Iterator[ReceivedText]:
        """Yield the texts since the day of `since`, oldest first.

        The service filters by whole days and does not document the time zone, so a text may be up
        to one day older than `since`.
        """
        for message in self.client.iter_receives(from_date=since.astimezone(UTC).date()):
            yield ReceivedText(
                id=message.id,
                originator=message.sender,
                line=message.receiver,
                text=message.message,
                received_at=message.received_at,
            )


def _make_track_ids(references: Sequence[str]) -> list[str]:
    """Return a unique track id for each reference: the reference itself if it is unique."""
    count = Counter(references)
    return [
        reference if reference and count[reference] == 1 else secrets.token_hex(8)
        for reference in references
    ]


def _match(
    accepted: Sequence[AcceptedMessage], requested: Sequence[tuple[str, str]]
) -> list[AcceptedMessage | None]:
    """Return the answer's entry of each message, by track id and mobile; None for missing ones.

    Without a track id, an entry is matched by a mobile that was requested once.

    :param requested: pairs of track id and mobile (E.164).
    """
    untracked = [message for message in accepted if not message.track_id]
    if len(requested) == 1 and len(accepted) == 1 and untracked and not untracked[0].receiver:
        return [untracked[0]]
    by_track_id = {message.track_id: message for message in accepted if message.track_id}
    by_mobile = {message.receiver: message for message in untracked}
    entries = Counter(message.receiver for message in untracked)
    requests = Counter(mobile for _, mobile in requested)
    matches: list[AcceptedMessage | None] = []
    for track_id, mobile in requested:
        match = by_track_id.get(track_id)
        if match is None and requests[mobile] == 1 and entries[mobile] == 1:
            match = by_mobile[mobile]
        matches.append(match if match is not None and match.receiver in ("", mobile) else None)
    return matches
