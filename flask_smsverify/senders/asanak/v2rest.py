"""Asanak's API v2rest: JSON both ways, in an envelope `{"meta": {"status": 200}, "data": …}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...errors import Rejected, Unavailable, Unknown
from ..base import KnownError
from ..http import Answer, HttpTransport
from .answers import make_refusal, make_unreadable, read_code

BASE_URL = "https://sms.asanak.ir/webservice/v2rest"

_ACCOUNT = KnownError(
    Unavailable,
    "the account may not be used",
    "Check username and password, and ask Asanak's support desk about the account.",
)

#: `meta.status` → error, from the public clients of v2rest.
ERRORS: Mapping[int, KnownError] = {
    1002: KnownError(Unavailable, "the line is not valid", "Check the option line."),
    1006: KnownError(Unavailable, "no credit", "Add credit in Asanak's panel."),
    1008: _ACCOUNT,
    1009: _ACCOUNT,
    1010: KnownError(
        Rejected, "the recipient's number is not valid", "Check the recipient's number."
    ),
    1012: _ACCOUNT,
    1015: _ACCOUNT,
}

#: Codes of a `Rejected` that are about one recipient of a call. A sentence of v1rest has no code.
RECIPIENT_CODES: frozenset[str | None] = frozenset({"1010", None})


class V2Rest:
    """Makes the calls of v2rest."""

    def __init__(self, http: HttpTransport, username: str, password: str) -> None:
        self._http = http
        self._account = {"username": username, "password": password}

    def call(
        self, method: str, request: Mapping[str, object], *, sent: Sequence[str] = ()
    ) -> object:
        """Make a call and return the `data` of its envelope.

        :param sent: texts of the request that an error's reason must not repeat.
        :raises SenderError: the answer is an error.
        """
        answer = self._http.request(
            "POST",
            f"/{method}",
            json=self._account | dict(request),
            headers={"Accept": "application/json"},
        )
        return self._read(answer, [*self._account.values(), *sent])

    def _read(self, answer: Answer, sent: Sequence[str]) -> object:
        try:
            value = answer.json()
        except Unknown:
            value = None
        meta = value.get("meta") if isinstance(value, dict) else None
        code = read_code(meta.get("status")) if isinstance(meta, dict) else None
        if code is not None and code in ERRORS:
            raise self._http.sender.make_known_error(ERRORS[code], code=code)
        answer.raise_for_service_error()
        if code not in (None, 200):
            raise make_refusal(self._http.sender, meta, sent, code=code)
        answer.raise_for_wrong_url()
        if code != 200:  # a success with an HTTP error status may mean that it was sent
            answer.raise_for_refusal()
        if value is None:
            answer.raise_unreadable("JSON")
        if answer.status == 200 and code == 200 and isinstance(value, dict):
            return value.get("data")
        raise make_unreadable(self._http.sender, value, "a success")
