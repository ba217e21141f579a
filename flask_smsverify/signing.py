"""Signatures of tokens: bound to the app's tables, and dated by the app's clock."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from datetime import datetime
from typing import Any

from itsdangerous import Signer, TimestampSigner, URLSafeTimedSerializer

from .keyring import Keyring


class TokenSigning:
    """Makes the signers of tokens.

    :param find_instance: returns the random id that is stored in the database; None before its
        first use. A token of staging does not work in production, even with its `SECRET_KEY`.
    :param identify: does the same, but stores an id if there is none.
    :param clock: returns the time, aware.
    """

    def __init__(
        self,
        keyring: Keyring,
        *,
        find_instance: Callable[[], str | None],
        identify: Callable[[], str],
        clock: Callable[[], datetime],
    ) -> None:
        self._keyring = keyring
        self._find_instance = find_instance
        self._identify = identify
        self._clock = clock

    def dump(self, content: object, salt: str) -> str:
        """Return JSON content as a dated token that fits into a URL."""
        return str(self._serializer(self._identify(), salt).dumps(content))

    def load(self, token: str, salt: str, *, max_age: int) -> Any:
        """Return the content of a dated token.

        :param max_age: seconds since it was made.
        :raises BadSignature: forged, of another app or database, or too old.
        """
        return self.load_dated(token, salt, max_age=max_age)[0]

    def load_dated(self, token: str, salt: str, *, max_age: int) -> tuple[Any, datetime]:
        """Return the content of a dated token, and when it was made, in whole seconds.

        :param max_age: seconds since it was made.
        :raises BadSignature: forged, of another app or database, or too old.
        """
        serializer = self._serializer(self._find_instance() or "", salt)
        content, made_at = serializer.loads(token, max_age=max_age, return_timestamp=True)
        return content, made_at

    def sign(self, text: str, salt: str) -> str:
        """Return a text with a signature that is shorter than that of `dump` and not dated."""
        return Signer(self._keys(self._identify()), salt=salt).sign(text).decode()

    def unsign(self, signed: str, salt: str) -> str:
        """Return the signed text.

        :raises BadSignature: forged, or of another app or database.
        :raises UnicodeError: not text.
        """
        keys = self._keys(self._find_instance() or "")
        return Signer(keys, salt=salt).unsign(signed).decode()

    def _serializer(self, instance: str, salt: str) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(
            self._keys(instance),
            salt=salt,
            signer=_DatedSigner,
            signer_kwargs={"clock": self._clock},
        )

    def _keys(self, instance: str) -> list[bytes]:
        message = b"tokens of " + instance.encode()
        return [hmac.digest(key, message, hashlib.sha256) for key in self._keyring.signing_keys()]


class _DatedSigner(TimestampSigner):
    def __init__(self, *args: Any, clock: Callable[[], datetime], **options: Any) -> None:
        super().__init__(*args, **options)
        self._clock = clock

    def get_timestamp(self) -> int:
        return int(self._clock().timestamp())
