"""MeliPayamak's calls: four operations of its SOAP service `Send.asmx`.

`service.wsdl` beside this file describes them. The service reports errors as numbers without text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from ...errors import (
    Misconfigured,
    Rejected,
    SenderError,
    TextRefused,
    Unavailable,
    Unknown,
)
from ..base import DeliveryState, KnownError
from ..convert import to_national
from ..http import HttpTransport
from ..soap import SoapTransport, WsdlFile

BASE_URL = "https://api.payamak-panel.com/post"

#: The most recipients of one `SendSms`: MeliPayamak's web-service guide, "SendSMS".
MAX_RECIPIENTS = 100

# --- states: MeliPayamak's web-service guide, "GetDeliveries3" -----------------------------------

STATES: Mapping[object, DeliveryState] = {
    0: DeliveryState.SENT,  # at the operator
    1: DeliveryState.DELIVERED,
    2: DeliveryState.UNDELIVERED,
    3: DeliveryState.UNDELIVERED,  # an error at the operator
    5: DeliveryState.UNKNOWN,
    8: DeliveryState.SENT,  # at the operator
    16: DeliveryState.UNDELIVERED,  # did not reach the operator
    35: DeliveryState.REJECTED,  # blacklisted
    100: DeliveryState.UNKNOWN,
    200: DeliveryState.SENT,
    300: DeliveryState.REJECTED,  # filtered
    400: DeliveryState.QUEUED,
    500: DeliveryState.REJECTED,
}

# --- errors --------------------------------------------------------------------------------------

_SUPPORT = "Ask MeliPayamak's support desk."
_LIMIT = "Raise the account's limit in MeliPayamak's panel, or add a second sender."
_IP = "Allow this server's IP address in MeliPayamak's panel."
_SHARED_LINE = "Ask MeliPayamak to enable shared lines for the account."
_RECIPIENT = "Check the recipient's number."

#: The result for a text with a link.
LINK_REFUSED = 14

#: The results that every operation may return. 0 to 14: MeliPayamak's web-service guide, "SendSMS",
#: return value. The others: its REST guide, "SendSMS" and "IP".
RETURN_CODES: Mapping[int, KnownError] = {
    0: KnownError(
        Unavailable,
        "wrong username or password",
        "Check the options username and password.",
    ),
    2: KnownError(Unavailable, "no credit", "Add credit in MeliPayamak's panel."),
    3: KnownError(Unavailable, "the account's daily limit is reached", _LIMIT),
    4: KnownError(Unavailable, "the account's volume limit is reached", _LIMIT),
    5: KnownError(Unavailable, "the line is not valid", "Check the option line."),
    6: KnownError(Unavailable, "the service is being updated", "Wait until the update is over."),
    7: KnownError(
        TextRefused,
        "the text contains a filtered word",
        "Remove the filtered word, or add a second sender.",
    ),
    9: KnownError(
        Unavailable,
        "public lines cannot send through the web service",
        "Use a line of the account in the option line.",
    ),
    10: KnownError(Unavailable, "the account is not active", _SUPPORT),
    11: KnownError(Unavailable, "not sent"),
    12: KnownError(
        Unavailable,
        "the account's documents are incomplete",
        "Upload the missing documents in MeliPayamak's panel.",
    ),
    LINK_REFUSED: KnownError(
        TextRefused,
        "the text contains a link",
        "Remove the link, or ask MeliPayamak to allow it.",
    ),
    15: KnownError(
        TextRefused,
        "a text to several recipients must explain how to opt out",
        "Add the opt-out text, for example with SMSVERIFY_OPT_OUT_FOOTER.",
    ),
    16: KnownError(Rejected, "there is no recipient", _RECIPIENT),
    17: KnownError(Rejected, "the text is empty", "Write a text."),
    18: KnownError(Rejected, "the recipient's number is not valid", _RECIPIENT),
    35: KnownError(
        Rejected,
        "the recipient is on the operators' blacklist",
        "The recipient can leave the blacklist at the operator.",
    ),
    -108: KnownError(
        Unavailable, "the server's IP address is blocked after failed logins", _SUPPORT
    ),
    -109: KnownError(Unavailable, "the account must list the allowed IP addresses", _IP),
    -110: KnownError(
        Unavailable,
        "the account must use its API key instead of the password",
        "Put the API key into the option password.",
    ),
    -111: KnownError(Unavailable, "the server's IP address is not allowed", _IP),
}

#: Codes of `RETURN_CODES` that are about one recipient of a call.
RECIPIENT_CODES = frozenset({"16", "18", "35"})

#: The results of a pattern: MeliPayamak's web-service guide, "SendByBaseNumber2".
PATTERN_CODES: Mapping[int, KnownError] = {
    **RETURN_CODES,
    -10: KnownError(
        TextRefused,
        "a value of the pattern contains a link",
        "Remove it from body_values, or from the values in SMSVERIFY_PATTERNS.",
    ),
    -7: KnownError(Unavailable, "the shared line failed", _SUPPORT),
    -6: KnownError(Unavailable, "an internal error"),
    -5: KnownError(
        Misconfigured,
        "the values do not match the pattern",
        "Give body_values, or the values in SMSVERIFY_PATTERNS, one value per variable.",
    ),
    -4: KnownError(
        Misconfigured,
        "there is no approved pattern with this number",
        "Check the option body_id, or the template in SMSVERIFY_PATTERNS.",
    ),
    -3: KnownError(Unavailable, "the shared line is not set up", _SHARED_LINE),
    -2: KnownError(Misconfigured, "a pattern can only go to one recipient"),
    -1: KnownError(Unavailable, "the account may not use shared lines", _SHARED_LINE),
    19: KnownError(Unavailable, "the account's hourly limit is reached", _LIMIT),
}


@dataclass(frozen=True, slots=True)
class SendResult:
    """The answer to a `SendSms` that was accepted.

    :param recipients: the number of recipients in the request.
    :param ids: `recId`, an id per recipient. It may be shorter than the list of recipients.
    :param failed: `status`, a byte per recipient: 0 sent, 1 not sent. It may be shorter too.
    """

    recipients: int
    ids: tuple[int | None, ...]
    failed: bytes


class MeliPayamakClient:
    """The operations of MeliPayamak's service.

    :param line: the number to send from.
    """

    def __init__(self, http: HttpTransport, *, username: str, password: str, line: str) -> None:
        self._sender = http.sender
        self._username = username
        self._password = password
        self._line = line
        self._soap = SoapTransport(
            http,
            "/Send.asmx",
            wsdl=WsdlFile(__package__, "service.wsdl"),
            binding="{http://tempuri.org/}MessagesOverSoap",
        )

    def __repr__(self) -> str:
        return f"<MeliPayamakClient of {self._sender.name!r}>"

    # --- sending ---------------------------------------------------------------------------------

    def send_sms(
        self, to: Sequence[str], text: str, *, flash: bool = False, udh: str = ""
    ) -> SendResult:
        """Send one text: MeliPayamak's web-service guide, "SendSMS".

        :param to: E.164, at most `MAX_RECIPIENTS`.
        :param flash: show the text immediately instead of storing it.
        :param udh: the message's user data header in hexadecimal, for a text to a port.
        :raises Rejected: a recipient is refused; nothing was sent.
        :raises TextRefused: the text has a filtered word or a link; nothing was sent.
        :raises Unavailable: the account, the line or the service failed; nothing was sent.
        :raises Unknown: the result is neither in a table nor an error code. It may be an id.
        """
        numbers = [to_national(mobile) for mobile in to]
        answer = self._call(
            "SendSms",
            {
                # For a bare list zeep writes only the first element, so an array is a dict.
                "to": {"string": numbers},
                "from": self._line,
                "text": text,
                "isflash": flash,
                "udh": udh,
                "recId": {"long": [0]},
                "status": b"\0",
            },
            sent=(text, *numbers),
        )
        fields = answer if isinstance(answer, dict) else {}
        result = fields.get("SendSmsResult")
        if result != 1:
            raise self._make_result_error(RETURN_CODES, result)
        status = fields.get("status")
        return SendResult(
            len(numbers),
            tuple(_read_array(fields.get("recId"), "long")),
            status if isinstance(status, bytes) else b"",
        )

    def send_by_base_number(self, to: str, body_id: int, values: Sequence[str]) -> str:
        """Send a pattern from MeliPayamak's shared line: the guide, "SendByBaseNumber2".

        :param to: E.164.
        :param body_id: the approved pattern.
        :param values: the pattern's variables in order. None may contain `;`, the separator.
        :returns: the id of the message.
        :raises Misconfigured: the pattern or the number of values is wrong; nothing was sent.
        :raises Rejected: the recipient is refused; nothing was sent.
        :raises TextRefused: a value has a filtered word or a link; nothing was sent.
        :raises Unavailable: the account or the service failed; nothing was sent.
        :raises Unknown: the result is neither an id nor in a table.
        """
        if any(";" in value for value in values):
            raise self._sender.make_error(
                Misconfigured,
                "a value of the pattern contains ';', which separates values",
                advice="Remove ';' from body_values.",
                written=False,
            )
        answer = self._call(
            "SendByBaseNumber2",
            {"text": ";".join(values), "to": to_national(to), "bodyId": body_id},
            sent=(*values, to_national(to)),
        )
        text = answer.strip() if isinstance(answer, str) else ""
        if text.isascii() and text.isdigit() and len(text) >= 15:
            return text
        raise self._make_result_error(PATTERN_CODES, _read_code(text))

    # --- reading ---------------------------------------------------------------------------------

    def get_credit(self) -> Decimal:
        """Return the credit: the guide, "GetCredit"."""
        amount = self._call("GetCredit", {})
        if not isinstance(amount, float) or not math.isfinite(amount) or amount < 0:
            raise self._sender.make_error(Unknown, "the credit is not a valid amount")
        return Decimal(str(amount))

    def get_deliveries(self, ids: Sequence[str]) -> list[int | None]:
        """Return the states of messages: the guide, "GetDeliveries3".

        :param ids: ids of `recId`.
        :returns: keys of `STATES` in the order of the ids; None for a value that is not a number.
        """
        answer = self._call("GetDeliveries3", {"recId": {"string": list(ids)}})
        return _read_array(answer, "int")

    def _call(
        self, operation: str, fields: dict[str, object], *, sent: tuple[str, ...] = ()
    ) -> object:
        account: dict[str, object] = {"username": self._username, "password": self._password}
        return self._soap.call(
            operation, account | fields, sent=(self._username, self._password, *sent)
        )

    def _make_result_error(self, table: Mapping[int, KnownError], result: object) -> SenderError:
        if isinstance(result, int) and result in table:
            return self._sender.make_known_error(table[result], code=result)
        # Ids are large, and 1 means success. Every other number means that nothing was sent.
        if isinstance(result, int) and result < 1000 and result != 1:
            return self._sender.make_error(
                Unavailable,
                "not sent: a return code that is not in the guide",
                code=str(result) if result > -1000 else None,
                advice=_SUPPORT,
            )
        return self._sender.make_error(Unknown, "the result is neither success nor an error code")


def _read_array(array: object, item: str) -> list[int | None]:
    """Return the members of an array, `{"long": [...]}` or bare; None for a non-number."""
    members = array.get(item) if isinstance(array, dict) else array
    if not isinstance(members, list):
        return []
    return [member if isinstance(member, int) else None for member in members]


def _read_code(text: str) -> int | None:
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 15 else None
