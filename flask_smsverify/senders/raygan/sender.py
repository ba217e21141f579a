"""The sender for Raygan.

The receipts of this sender have these ids:

`<group id>:<digest>`
    one recipient of a `SendMessage`. Raygan gives one id for the whole group. The digest of group
    and mobile identifies a recipient without showing a mobile in a log. `statuses` compares it with
    the mobiles that `GroupMessageStatus` lists.
`2826`
    one message of a `SendCorrespondingMessage`.
`code:2826`
    a code. The guide has no method for the state of a code, so its state is `unknown`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial

import httpx

from ...errors import ConfigurationError, SenderError, Unavailable, Unknown
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
from ..convert import derived_id
from ..http import HttpTransport
from ..options import (
    DEFAULT_TIMEOUT,
    Timeout,
    check_base_url,
    parse_credential,
    parse_flag,
    parse_text,
)
from .client import (
    BASE_URL,
    CODE_BASE_URL,
    MAX_RECIPIENTS,
    MESSAGE_STATES,
    SOME_FAILED,
    PersonalText,
    RayganClient,
)

#: The error code for a `UserGroupID` that no send has.
_NO_SUCH_GROUP = "3002"


class Raygan(Sender):
    """One account at Raygan.

    A code is generated and checked by Raygan (`SendAutoCode`), or is an own code that is sent with
    its whole text (`SendCode`). Equal texts are sent from `line` with `SendMessage`, and different
    texts with `SendCorrespondingMessage`. Raygan has no patterns.

    :param line: the number that texts are sent from and received on. Without it only codes can be
        sent.
    :param footer: the end of the texts of native codes.
    :param native_codes: whether Raygan may generate and check codes.
    :param group_id: `UserGroupID`, the message group in which sends are filed.
    :param base_url: the base URL of all methods except those for codes.
    :param code_base_url: the base URL of the three methods for codes. If only `base_url` is given,
        it is used for these too.
    :param http_client: an httpx client to use instead, for tests.
    :raises ConfigurationError: an option is invalid.
    """

    gateway = "raygan"
    batch_limit = MAX_RECIPIENTS
    #: The most texts of one `SendCorrespondingMessage`, to limit the size of a request. The guide
    #: has no limit.
    personal_texts_limit = 1_000

    def __init__(
        self,
        *,
        username: str | int,
        password: str | int,
        line: str | int = "",
        footer: str = "",
        native_codes: bool = True,
        group_id: str | int = "",
        base_url: str | None = None,
        code_base_url: str | None = None,
        timeout: Timeout | tuple[float, float, float] = DEFAULT_TIMEOUT,
        allow_http: bool = False,
        http_client: httpx.Client | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        user = parse_credential(self.name, "username", username)
        if ":" in user:
            raise ConfigurationError(
                f"{self.name}: the username contains a colon, which HTTP Basic cannot encode"
            )
        self.line = "" if line == "" else parse_text(self.name, "line", line)
        self.native_codes = parse_flag(self.name, "native_codes", native_codes)
        #: Whether the option `group_id` is set. `UserGroupID` then cannot hold the reference by
        #: which `find` finds a call.
        self._has_group = group_id != ""
        self._http = HttpTransport(
            self.identity,
            base_url or BASE_URL,
            timeout=timeout,
            allow_http=allow_http,
            http_client=http_client,
        )
        #: The calls of Raygan's web service.
        self.client = RayganClient(
            self._http,
            username=user,
            password=parse_credential(self.name, "password", password),
            line=self.line,
            group_id="" if group_id == "" else parse_text(self.name, "group_id", group_id),
            footer=footer,
            code_base_url=check_base_url(
                self.name, code_base_url or base_url or CODE_BASE_URL, allow_http=allow_http
            ),
        )

    @property
    def capabilities(self) -> frozenset[Capability]:
        supported = {Capability.CODE_SMS, Capability.CREDIT}
        if self.native_codes:
            supported.add(Capability.NATIVE_CODE)
        if self.line:
            supported |= {Capability.TEXT, Capability.STATUS, Capability.INCOMING}
            supported |= {Capability.FILTER, Capability.PRICES}
            if not self._has_group:
                supported.add(Capability.FIND)
        return frozenset(supported)

    def close(self) -> None:
        self._http.close()

    # --- sending ---------------------------------------------------------------------------------

    def send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        """Send by `SendMessage` if all texts are equal, else by `SendCorrespondingMessage`."""
        if not self.line:
            raise self.not_supported("ordinary texts without the option 'line'")
        if len({text.text for text in batch}) == 1:
            return self._send_group(batch)
        receipts: list[Receipt] = []
        for part in batched(batch, self.personal_texts_limit):
            try:
                receipts += self._send_personal(part)
            except SenderError as error:
                # Other parts may have been sent, so the error applies to this part alone.
                receipts += failed_receipts(part, error)
        return receipts

    def _send_group(self, batch: Sequence[Text]) -> list[Receipt]:
        failure: Unknown | None = None
        group = ""
        try:
            group = self.client.send_message(
                batch[0].text,
                [text.to for text in batch],
                group_id=None if self._has_group else batch[0].call,
            )
        except Unknown as error:
            if len(batch) > 1 or error.code != SOME_FAILED:
                raise
            failure = error
        if failure is not None:  # "some messages failed" means that the only message failed
            raise self.make_error(Unavailable, failure.reason, code=failure.code)
        return [_group_receipt(group, text.to, text.reference) for text in batch]

    def _send_personal(self, batch: Sequence[Text]) -> list[Receipt]:
        sent = self.client.send_corresponding_message(
            [PersonalText(str(n), text.to, text.text) for n, text in enumerate(batch, start=1)]
        )
        ids = {result.id: result.message_id for result in sent}
        receipts = []
        for n, text in enumerate(batch, start=1):
            if message_id := ids.get(str(n)):
                receipt = Receipt(text.to, DeliveryState.QUEUED, message_id, text.reference)
            else:
                missing = self.make_error(Unknown, "the answer omits this recipient")
                receipt = Receipt.failed(text, missing)
            receipts.append(receipt)
        return receipts

    def send_code(self, message: CodeMessage) -> Receipt:
        """Send an own code with its whole text, by SMS only."""
        if message.channel != "sms":
            raise self.not_supported(f"codes by {message.channel}")
        number = self.client.send_own_code(message.to, message.text)
        return Receipt(message.to, DeliveryState.SENT, f"code:{number}", message.reference)

    def send_native_code(self, to: str) -> Receipt:
        """Let Raygan generate and send a code, with the option `footer` at the end of the text."""
        self._require_native_codes()
        number = self.client.send_auto_code(to)
        return Receipt(to, DeliveryState.SENT, f"code:{number}")

    def check_native_code(self, to: str, code: str) -> bool:
        """Return whether Raygan accepts the code for this mobile. It may accept a code twice.

        :raises SenderError: Raygan gave no verdict.
        """
        self._require_native_codes()
        return self.client.check_send_code(to, code)

    def _require_native_codes(self) -> None:
        if not self.native_codes:
            raise self.not_supported("native codes while 'native_codes' is false")

    # --- reading ---------------------------------------------------------------------------------

    def credit(self) -> Credit:
        """Return the credit. The guide does not name its unit."""
        return Credit(self.client.get_credit())

    def statuses(self, ids: Sequence[str]) -> dict[str, DeliveryState]:
        """Return delivery states. The ids are described at the top of this module.

        Each group takes one call, and so do `personal_texts_limit` single messages. The ids of a
        call that fails are unknown. If every call fails, the first error is raised.
        """
        states = dict.fromkeys(ids, DeliveryState.UNKNOWN)
        groups: dict[str, list[str]] = {}
        singles: list[str] = []
        for id_ in states:
            group, colon, digest = id_.rpartition(":")
            if not colon:
                singles.append(id_)
            elif group != "code":
                groups.setdefault(group, []).append(digest)
        calls = [
            *(partial(self._group_statuses, group, digests) for group, digests in groups.items()),
            *(
                partial(self._single_statuses, part)
                for part in batched(singles, self.personal_texts_limit)
            ),
        ]
        failures: list[SenderError] = []
        for call in calls:
            try:
                states |= call()
            except SenderError as error:
                failures.append(error)
        if failures and len(failures) == len(calls):
            raise failures[0]
        return states

    def _group_statuses(self, group: str, digests: Sequence[str]) -> dict[str, DeliveryState]:
        state = self.client.group_message_status(group)
        # If the group is queued or filtered, so is each recipient without a known state.
        has_own_state = state.code in (2, 3)
        listed = {
            _digest(group, recipient.mobile): recipient.status
            for recipient in state.recipients
            if recipient.code in MESSAGE_STATES or not has_own_state
        }
        default = state.status if has_own_state else DeliveryState.UNKNOWN
        return {f"{group}:{digest}": listed.get(digest, default) for digest in digests}

    def _single_statuses(self, ids: Sequence[str]) -> dict[str, DeliveryState]:
        requested = set(ids)
        states = self.client.corresponding_message_status(ids)
        return {state.message_id: state.status for state in states if state.message_id in requested}

    def find(self, call: str, mobiles: Sequence[str]) -> dict[str, Receipt]:
        """Return the receipts of a `SendMessage` by its `UserGroupID`."""
        try:
            group = self.client.get_group_message_id(call)
        except SenderError as error:
            if error.code == _NO_SUCH_GROUP:
                return {}
            raise
        return {mobile: _group_receipt(group, mobile) for mobile in mobiles}

    def part_price(self, text: str) -> Decimal:
        """Return the price of a part. Persian and Latin texts have different prices."""
        prices = self.client.get_prices()
        return prices.latin if text.isascii() else prices.persian

    def reachable(self, mobiles: Sequence[str]) -> set[str]:
        """Return the numbers that are not on the blacklist, by `ShowWhiteList`."""
        return set(self.client.show_white_list(mobiles))

    def received(self, since: datetime) -> Iterator[ReceivedText]:
        """Yield the texts that the line received since a time.

        The guide names no time zone. Timestamps are read as seconds since 1970 in UTC. They may be
        in Tehran time, which is ahead of UTC, so texts are requested until one day from now.

        Raygan gives no ids. An id is derived from line, mobile, time and text, and from the number
        of equal texts before it.
        """
        if not self.line:
            raise self.not_supported("received texts without the option 'line'")
        equal_texts: Counter[str] = Counter()
        until = datetime.now(UTC) + timedelta(days=1)
        for message in self.client.iter_received(since, until):
            id_ = derived_id(self.line, message.mobile, str(message.timestamp), message.message)
            count = equal_texts[id_]
            equal_texts[id_] += 1
            yield ReceivedText(
                id=id_ if count == 0 else f"{id_}.{count}",
                originator=message.mobile,
                line=self.line,
                text=message.message,
                received_at=_to_datetime(message.timestamp),
            )


def _group_receipt(group: str, mobile: str, reference: str = "") -> Receipt:
    id_ = f"{group}:{_digest(group, mobile)}"
    return Receipt(mobile, DeliveryState.QUEUED, id_, reference=reference)


def _digest(group: str, mobile: str) -> str:
    """Return a digest that identifies a recipient within a group without showing the mobile."""
    return hashlib.sha256(f"{group}:{mobile}".encode()).hexdigest()[:16]


def _to_datetime(timestamp: int | None) -> datetime | None:
    try:
        return None if timestamp is None else datetime.fromtimestamp(timestamp, UTC)
    except (OverflowError, ValueError, OSError):
        return None
