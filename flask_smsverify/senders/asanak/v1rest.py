"""Asanak's API v1rest: a form in, and JSON, text or XML out.

A list means success. If a send fails, the answer is "a message or an error code" (Asanak's
web-service guide, 3-1), and the guide lists neither. So a sentence, a number outside a list, or an
object with `status` means that nothing was sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...errors import Rejected, Unavailable, Unknown
from ..base import KnownError
from ..http import Answer, HttpTransport
from .answers import make_refusal, read_code, read_field, read_id, read_sentences
from .formats import read_any_format
from .v2rest import ERRORS

BASE_URL = "https://panel.asanak.com/webservice/v1rest"

_ACCOUNT = KnownError(
    Unavailable, "wrong username or password", "Check the options username and password."
)
_LINE = KnownError(Unavailable, "the line is not valid", "Check the option line.")
_RECIPIENT = KnownError(
    Rejected, "the recipient's number is not valid", "Check the recipient's number."
)
_CREDIT = KnownError(Unavailable, "no credit", "Add credit in Asanak's panel.")

#: Word → error. The first word that the gateway's sentence contains decides. Two whole sentences
#: are known: "Username or Password is not valid" and "Source Number is not valid".
SENTENCES: Mapping[str, KnownError] = {
    "username": _ACCOUNT,
    "password": _ACCOUNT,
    "نام کاربری": _ACCOUNT,
    "source": _LINE,
    "مبدا": _LINE,
    "destination": _RECIPIENT,
    "مقصد": _RECIPIENT,
    "گیرنده": _RECIPIENT,
    "credit": _CREDIT,
    "اعتبار کافی": _CREDIT,
}


class V1Rest:
    """Makes the calls of v1rest."""

    def __init__(self, http: HttpTransport, username: str, password: str) -> None:
        self._http = http
        self._account = {"username": username, "password": password}

    def call(
        self, method: str, request: Mapping[str, object], *, sent: Sequence[str] = ()
    ) -> object:
        """Make a call and return its answer as JSON types.

        :param sent: texts of the request that an error's reason must not repeat.
        :raises SenderError: the answer is an error.
        """
        form = self._account | {key: str(value) for key, value in request.items()}
        headers = {"Accept": "application/json"}
        answer = self._http.request("POST", f"/{method}", form=form, headers=headers)
        return self._read(answer, method, [*self._account.values(), *sent])

    def _read(self, answer: Answer, method: str, sent: Sequence[str]) -> object:
        answer.raise_for_service_error()
        answer.raise_for_wrong_url()
        failure: Unknown | None = None
        value: object = None
        try:
            value = read_any_format(answer)
        except Unknown as error:
            failure = error
        if failure is not None:
            answer.raise_for_refusal()
            raise failure
        self._raise_for_refusal(value, method, sent)
        if not isinstance(value, list):  # a list with an error status may mean that it was sent
            answer.raise_for_refusal()
        if answer.status != 200:
            answer.raise_unreadable("HTTP 200")
        return value

    def _raise_for_refusal(self, value: object, method: str, sent: Sequence[str]) -> None:
        """Raise for a sentence, a code, or an object with `status`."""
        status: object = None
        if isinstance(value, dict):
            if any(read_field(value, name) is not None for name in ("MsgID", "credit")):
                return
            status = read_field(value, "status")
        elif method != "getcredit" or (read_code(value) or 0) < 0:
            status = value
        code = read_code(status)
        sentences = read_sentences(value)
        for word, error in SENTENCES.items():
            if any(word in sentence.casefold() for sentence in sentences):
                raise self._http.sender.make_known_error(error, code=code)
        if code is not None and code in ERRORS:
            raise self._http.sender.make_known_error(ERRORS[code], code=code)
        is_number = isinstance(status, str | int) and (read_id(status) or code is not None)
        if sentences or is_number:
            raise make_refusal(self._http.sender, value, sent, code=code)
