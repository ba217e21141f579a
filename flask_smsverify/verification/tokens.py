"""Tokens that leave the app in forms, links and JSON, signed with itsdangerous.

A proof token holds a proved mobile, for a sign-up form or a program; it is dated and bound to its
purpose. An undo token is part of a link in a notice and names the change that it stops.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from itsdangerous import BadSignature

from ..errors import InvalidLink, InvalidToken
from ..keyring import Keyring
from ..signing import TokenSigning

_MAX_LENGTH = 1000
_UNDO_SALT = "flask_smsverify.undo"


@dataclass(frozen=True, slots=True)
class TokenContent:
    """A valid token.

    :param mobile: E.164.
    :param challenge_id: the challenge that was proved.
    :param proved_at: when the code was right.
    :param digests: what is recorded when the token is used: one digest per key, the current key's
        first, so that a change of keys makes no token usable again.
    """

    mobile: str = field(repr=False)
    challenge_id: str
    proved_at: datetime
    digests: tuple[str, ...]


class ProofTokens:
    """Dumps and loads proof tokens."""

    def __init__(self, keyring: Keyring, signing: TokenSigning) -> None:
        self._keyring = keyring
        self._signing = signing

    def dump(self, mobile: str, purpose: str, challenge_id: str, proved_at: datetime) -> str:
        """Return a token for a proved mobile that fits into a form field or a URL."""
        content = [mobile, challenge_id, proved_at.timestamp()]
        return self._signing.dump(content, _proof_salt(purpose))

    def load(self, token: object, purpose: str, max_age: int) -> TokenContent:
        """Verify a token. Does not check whether it was used.

        :param max_age: seconds since the token was made.
        :raises InvalidToken: forged, for another purpose, or too old.
        :raises TypeError: `max_age` is not a whole number.
        """
        if not isinstance(max_age, int):  # itsdangerous takes None as "any age"
            raise TypeError("max_age must be whole seconds")
        if not isinstance(token, str) or len(token) > _MAX_LENGTH:
            raise InvalidToken("this is not a proof token")
        try:
            content = self._signing.load(token, _proof_salt(purpose), max_age=max_age)
            mobile, challenge_id, proved = content
        except (BadSignature, ValueError, TypeError):
            raise InvalidToken("this proof token is forged, expired or for another use") from None
        digests = self._keyring.digests("token", purpose, challenge_id)
        proved_at = datetime.fromtimestamp(proved, UTC)
        return TokenContent(mobile, challenge_id, proved_at, tuple(digests))


def _proof_salt(purpose: str) -> str:
    return f"flask_smsverify.proof {purpose}"


class UndoTokens:
    """Dumps and loads the tokens of links that undo a change.

    A token is the change's id and its signature, and not a serialized object: a link in a text
    message must be short.
    """

    def __init__(self, signing: TokenSigning) -> None:
        self._signing = signing

    def dump(self, change_id: str) -> str:
        """Return the token of a change."""
        return self._signing.sign(change_id, _UNDO_SALT)

    def load(self, token: object) -> str:
        """Return the id of the change.

        :raises InvalidLink: forged or cut off.
        """
        if not isinstance(token, str) or len(token) > _MAX_LENGTH:
            raise InvalidLink(is_signed=False)
        try:
            return self._signing.unsign(token, _UNDO_SALT)
        except (BadSignature, UnicodeError):
            raise InvalidLink(is_signed=False) from None
