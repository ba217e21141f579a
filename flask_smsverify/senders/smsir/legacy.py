"""SMS.ir's older API at RestfulSms.com, with a customer club.

Every answer has `IsSuccessful` and `Message`. There are no error codes. `IsSuccessful` false means
that nothing was sent. The call then raises `Rejected` if the message is about a mobile, and
otherwise `UnclearRefusal`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from ...errors import Rejected, Unavailable, Unknown
from ...forks import Lock
from ...secret import Secret
from ..batching import UnclearRefusal
from ..convert import redact_reason, to_e164, to_national
from ..deadline import deadline, remaining
from ..http import Answer, HttpTransport
from .answers import (
    raise_for_status,
    read_amount,
    read_message_id,
    read_object,
    read_pack_id,
)

BASE_URL = "https://RestfulSms.com/api"

#: How long a token is used, in seconds. The gateway accepts it for 30 minutes.
TOKEN_SECONDS = 25 * 60

#: The most pages of ten contacts to request, in case the answers have no end.
MAX_PAGES = 100_000

#: Words of a `Message` that is about a recipient: the number is invalid or on the blacklist.
_RECIPIENT_WORDS = ("موبایل", "شماره همراه", "گیرنده", "لیست سیاه", "mobile")

#: Errors about a recipient have no code.
RECIPIENT_CODES: frozenset[str | None] = frozenset({None})

_KEY_ADVICE = "Check the options api_key and secret_key."


@dataclass(frozen=True, slots=True)
class Contact:
    """A contact of the customer club.

    :param mobile: E.164.
    """

    mobile: str = field(repr=False)
    first_name: str = field(default="", repr=False)
    last_name: str = field(default="", repr=False)
    id: str | None = None
    active: bool = True


@dataclass(frozen=True, slots=True)
class LegacyMessage:
    """The state of a message.

    :param mobile: E.164.
    :param state: the gateway's text. There is no list of its values, so there is no
        `DeliveryState`.
    :param final: `NeedsReCheck` is false: the gateway does not check the state again.
    """

    id: str
    mobile: str = field(repr=False)
    state: str
    final: bool


class LegacyClient:
    """The calls of the older API. Thread-safe.

    A token is requested before the first call, renewed before it expires, and renewed once when the
    gateway refuses it. One thread requests a token while the others wait.
    """

    def __init__(self, http: HttpTransport, api_key: str, secret_key: str) -> None:
        self._http = http
        self._sender = http.sender
        self._api_key = api_key
        self._secret_key = secret_key
        self._lock = Lock()
        self._token = ""
        self._token_expires = 0.0

    def __repr__(self) -> str:
        return f"<LegacyClient of {self._sender.name!r}>"

    # --- sending ---------------------------------------------------------------------------------

    def send_verification_code(self, to: str, code: str) -> str | None:
        """Send a code in the account's verification text: `POST VerificationCode`.

        :param to: E.164.
        :returns: the id of the message; None if the answer has none.
        """
        request = {"Code": code, "MobileNumber": to_national(to)}
        answer = self._call("POST", "/VerificationCode", request, sent=(code,))
        return read_message_id(answer.get("VerificationCodeId")) or None

    def send_ultra_fast(self, to: str, template_id: int, values: Mapping[str, str]) -> str | None:
        """Send a template to one mobile: `POST UltraFastSend`.

        :param to: E.164.
        :param values: the template's variables by name.
        :returns: the id of the message; None if the answer has none.
        """
        request = {
            "ParameterArray": [
                {"Parameter": name, "ParameterValue": value} for name, value in values.items()
            ],
            "Mobile": to_national(to),
            "TemplateId": template_id,
        }
        answer = self._call("POST", "/UltraFastSend", request, sent=tuple(values.values()))
        return read_message_id(answer.get("VerificationCodeId")) or None

    def send_messages(
        self, mobiles: Sequence[str], texts: Sequence[str], *, line: str
    ) -> dict[str, list[str]]:
        """Send each mobile a text: `POST MessageSend`.

        :param mobiles: E.164, as many as `texts`.
        :returns: ids by mobile; `""` for a text that was not sent. The answer may omit mobiles.
        """
        request = _make_request(mobiles, texts) | {"LineNumber": line}
        return _read_ids(self._call("POST", "/MessageSend", request, sent=tuple(texts)))

    def send_club_messages(
        self, mobiles: Sequence[str], texts: Sequence[str]
    ) -> dict[str, list[str]]:
        """Send as `send_messages` from the customer club's line: `POST CustomerClub/Send`."""
        request = _make_request(mobiles, texts)
        return _read_ids(self._call("POST", "/CustomerClub/Send", request, sent=tuple(texts)))

    def send_to_club_categories(self, text: str, categories: Sequence[int]) -> str | None:
        """Send one text to all contacts of categories: `POST CustomerClub/SendToCategories`.

        :returns: the batch key of the send.
        """
        request = {
            "Messages": text,
            "contactsCustomerClubCategoryIds": list(categories),
            "SendDateTime": "",
            "CanContinueInCaseOfError": True,
        }
        answer = self._call("POST", "/CustomerClub/SendToCategories", request, sent=(text,))
        return read_pack_id(answer.get("BatchKey"))

    # --- the customer club -----------------------------------------------------------------------

    def add_contact(self, contact: Contact, *, category: int | None = None) -> None:
        """Add a contact to the customer club: `POST CustomerClubContact`."""
        request = {
            "Prefix": "",
            "FirstName": contact.first_name,
            "LastName": contact.last_name,
            "Mobile": to_national(contact.mobile),
            "BirthDay": "",
            "CategoryId": "" if category is None else category,
        }
        names = (contact.first_name, contact.last_name)
        self._call("POST", "/CustomerClubContact", request, sent=names)

    def iter_contacts(self) -> Iterator[Contact]:
        """Yield the contacts of the customer club: `GET CustomerClubContact/GetContacts`.

        Pages are requested when the iteration reaches them.
        """
        for page in range(1, MAX_PAGES + 1):
            answer = self._call(
                "GET", "/CustomerClubContact/GetContacts", params={"pageNumber": str(page)}
            )
            rows = answer.get("ContactsCustomerClubResponseDetails")
            if not isinstance(rows, list) or not rows:
                return
            yield from (_read_contact(row) for row in rows if isinstance(row, dict))
            pages = read_amount(answer.get("AllPages"))
            if pages is not None and page >= pages:
                return

    # --- reading ---------------------------------------------------------------------------------

    def get_message(self, message_id: str) -> LegacyMessage:
        """Return the state of a message: `GET MessageSend?id=`.

        :param message_id: an id of `send_messages`.
        """
        row = self._call("GET", "/MessageSend", params={"id": message_id}).get("Messages")
        if not isinstance(row, dict):
            raise self._sender.make_error(Unknown, "the report is not an object")
        return LegacyMessage(
            id=read_message_id(row.get("ID")) or message_id,
            mobile=to_e164(str(row.get("MobileNo", ""))),
            state=redact_reason(row.get("DeliveryStatus") or ""),
            final=row.get("NeedsReCheck") is False,
        )

    def get_credit(self) -> Decimal:
        """Return the credit: `GET credit`."""
        amount = read_amount(self._call("GET", "/credit").get("Credit"))
        if amount is None:
            raise self._sender.make_error(Unknown, "the credit is not a number")
        return amount

    def get_lines(self) -> list[str]:
        """Return the account's numbers: `GET SMSLine`."""
        rows = self._call("GET", "/SMSLine").get("SMSLines")
        if not isinstance(rows, list):
            raise self._sender.make_error(Unknown, "the answer is not a list")
        numbers = [row.get("LineNumber") for row in rows if isinstance(row, dict)]
        return [str(number) for number in numbers if read_message_id(number)]

    # --- calls and tokens ------------------------------------------------------------------------

    def _call(
        self,
        method: str,
        path: str,
        request: object = None,
        *,
        params: Mapping[str, str] | None = None,
        sent: tuple[str, ...] = (),
    ) -> dict[str, object]:
        """Make a call with a token, and again with a new one if the gateway refuses it.

        :param sent: texts of the request that an error's reason must not repeat.
        """
        with deadline(self._http.timeout.whole):
            token = self._get_token()
            answer = self._request(method, path, request, params, token)
            if answer.status == 401:
                # The gateway checks the token first, so the refused call had no effect.
                token = self._get_token(refused=token)
                answer = self._request(method, path, request, params, token)
        return self._read(answer, (self._api_key, self._secret_key, *sent))

    def _request(
        self,
        method: str,
        path: str,
        request: object,
        params: Mapping[str, str] | None,
        token: str,
    ) -> Answer:
        headers = {"Accept": "application/json", "x-sms-ir-secure-token": token}
        return self._http.request(method, path, json=request, params=params, headers=headers)

    def _read(self, answer: Answer, sent: tuple[str, ...]) -> dict[str, object]:
        envelope = read_object(answer)
        raise_for_status(answer, envelope)
        if envelope is not None and answer.status < 300 and envelope.get("IsSuccessful") is True:
            return envelope
        message = str((envelope or {}).get("Message") or "")
        reason = f"the call was not successful: {redact_reason(message, sent=sent)}"
        if envelope is None or envelope.get("IsSuccessful") is not False:
            raise self._sender.make_error(Unknown, reason)
        is_about_recipient = any(word in message.casefold() for word in _RECIPIENT_WORDS)
        raise self._sender.make_error(Rejected if is_about_recipient else UnclearRefusal, reason)

    def _get_token(self, *, refused: str = "") -> str:
        """Return a valid token.

        :param refused: a token that the gateway refused.
        :raises Unavailable: the keys are refused, or another thread takes too long.
        """
        left = remaining()
        if not self._lock.acquire(timeout=-1 if left is None else left):
            raise self._sender.make_error(
                Unavailable, "the token did not arrive in time", written=False
            )
        try:
            is_expired = time.monotonic() >= self._token_expires
            if not self._token or self._token == refused or is_expired:
                self._token = ""
                self._token = self._request_token()
                self._token_expires = time.monotonic() + TOKEN_SECONDS
            return self._token
        finally:
            self._lock.release()

    def _request_token(self) -> str:
        """Request a token: `POST Token`. Nothing is sent without one, so failures are final."""
        try:
            answer = self._http.request(
                "POST",
                "/Token",
                json={"UserApiKey": self._api_key, "SecretKey": self._secret_key},
                headers={"Accept": "application/json"},
            )
            envelope = self._read(answer, (self._api_key, self._secret_key))
        except (Unknown, UnclearRefusal, Rejected) as error:
            reason, code = f"no token: {error.reason}", error.code
        else:
            token = envelope.get("TokenKey")
            # The token is sent as a header, so it must be printable ASCII.
            if isinstance(token, str) and token and token.isascii() and token.isprintable():
                return Secret(token)
            reason, code = "no token: the answer has none", None
        raise self._sender.make_error(
            Unavailable, reason, code=code, advice=_KEY_ADVICE, written=False
        )


def _make_request(mobiles: Sequence[str], texts: Sequence[str]) -> dict[str, object]:
    return {
        "Messages": list(texts),
        "MobileNumbers": [to_national(mobile) for mobile in mobiles],
        "SendDateTime": "",
        # The answer then omits a bad number, and the other numbers get their texts.
        "CanContinueInCaseOfError": True,
    }


def _read_ids(answer: Mapping[str, object]) -> dict[str, list[str]]:
    rows = answer.get("Ids")
    ids: dict[str, list[str]] = {}
    for row in rows if isinstance(rows, list) else ():
        id_ = read_message_id(row.get("ID")) if isinstance(row, dict) else None
        if id_ is not None:
            ids.setdefault(to_e164(str(row.get("MobileNo", ""))), []).append(id_)
    return ids


def _read_contact(row: Mapping[str, object]) -> Contact:
    return Contact(
        mobile=to_e164(str(row.get("Mobile", ""))),
        first_name=str(row.get("FirstName") or ""),
        last_name=str(row.get("LastName") or ""),
        id=read_message_id(row.get("Id")) or None,
        active=row.get("IsActive") is not False,
    )
