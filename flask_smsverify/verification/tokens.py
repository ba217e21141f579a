"""Proof tokens: what somebody without an account carries from a proof to their sign-up.

A token is itsdangerous's: signed, dated, and bound to its purpose. It is used up once, in the
host's own transaction, so that a sign-up that is rolled back leaves it usable.
"""

from __future__ import annotations

from datetime import UTC, datetime

from itsdangerous import BadSignature, URLSafeTimedSerializer

from ..errors import InvalidToken
from .codes import Keyring


class ProofTokens:
    """Writes and reads proof tokens."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def dump(self, mobile: str, purpose: str, challenge_id: str, proved_at: datetime) -> str:
        """A token for a proved mobile, fit for a form field or a URL."""
        said = [mobile, challenge_id, proved_at.timestamp()]
        return str(self._serializer(purpose).dumps(said))

    def load(self, token: object, purpose: str, max_age: int) -> tuple[str, datetime, list[str]]:
        """The mobile, when it was proved, and the digests that note the token once it is used.

        One digest under each key, today's first, so that a change of keys revives no token.

        :param max_age: seconds.
        :raises InvalidToken: forged, for another purpose, or too old.
        :raises TypeError: `max_age` is no whole number.
        """
        if not isinstance(max_age, int):  # None, to itsdangerous, is any age
            raise TypeError("max_age must be whole seconds")
        if not isinstance(token, str) or len(token) > 1000:
            raise InvalidToken("this is not a proof token")
        try:
            mobile, challenge_id, proved = self._serializer(purpose).loads(token, max_age=max_age)
        except (BadSignature, ValueError, TypeError):
            raise InvalidToken("this proof token is not valid here, or not any more") from None
        digests = self._keyring.digests("token", purpose, challenge_id)
        return mobile, datetime.fromtimestamp(proved, UTC), digests

    def _serializer(self, purpose: str) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(
            self._keyring.signing_keys(), salt=f"flask_smsverify.proof {purpose}"
        )
