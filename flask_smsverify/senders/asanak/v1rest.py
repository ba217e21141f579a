"""Asanak's API v1rest: a form in, and JSON, text or XML out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...errors import Unavailable
from ..base import KnownError
from ..http import Answer, HttpTransport
from .answers import make_unreadable, read_field, read_sentences
from .formats import read_any_format

BASE_URL = "https://panel.asanak.com/webservice/v1rest"

#: Sentences in place of a list of ids, with HTTP 200. Asanak's web-service guide, 3-1, promises "a
#: message or an error code" and lists none.
SENTENCES: Mapping[str, KnownError] = {
    "username or password is not valid": KnownError(
        Unavailable, "wrong username or password", "Check the options username and password."
    ),
    "source number is not valid": KnownError(
        Unavailable, "the line is not valid", "Check the option line."
    ),
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
        return self._read(answer, [*self._account.values(), *sent])

    def _read(self, answer: Answer, sent: Sequence[str]) -> object:
        answer.raise_for_service_error()
        answer.raise_for_wrong_url()
        value = read_any_format(answer)
        for sentence in read_sentences(value):
            for known, error in SENTENCES.items():
                if known in sentence.casefold():
                    raise self._http.sender.make_known_error(error)
        if answer.status != 200:
            raise make_unreadable(self._http.sender, value, "HTTP 200", sent)
        if (
            isinstance(value, dict)
            and "MsgID" not in value
            and read_field(value, "status") is not None
        ):
            raise make_unreadable(self._http.sender, value, "a success", sent)
        return value
