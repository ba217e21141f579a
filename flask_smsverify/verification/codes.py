"""Codes: derive them, read what was typed, compare. No code is ever stored.

A code is HMAC-SHA-256 over the challenge's public id, the mobile, the purpose and the generation,
reduced to its digits (RFC 4226, section 5.3, without its counter). A stolen database therefore
holds nothing to try a code against without the app's `SECRET_KEY`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from ..errors import InvalidCode
from ..phone import ascii_digits

_SALT = b"flask_smsverify.code"
#: Gateways make codes of other lengths than ours (Raygan: 4 to 6 digits are seen).
NATIVE_LENGTHS = range(4, 11)
#: Longer than any spelling of ten digits with spaces, hyphens and marks between them.
_MAX_TYPED_LENGTH = 64
_BETWEEN_DIGITS = str.maketrans("", "", " \t\r\n\u00a0-\u2010\u2011\u2012\u2013\u2014\u2212")


class Keyring:
    """The keys that codes and digests are derived from: today's first, then fallbacks.

    :param secrets: the app's `SECRET_KEY`, then its `SECRET_KEY_FALLBACKS`.
    """

    def __init__(self, secrets: Sequence[str | bytes]) -> None:
        self._keys: dict[str, bytes] = {}
        for secret in secrets:
            raw = secret.encode() if isinstance(secret, str) else secret
            key = hmac.digest(raw, _SALT, hashlib.sha256)
            self._keys.setdefault(hmac.digest(key, b"id", hashlib.sha256).hex()[:8], key)
        self.current_id = next(iter(self._keys))

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._keys)}>"

    def __contains__(self, key_id: str) -> bool:
        return key_id in self._keys

    def code(
        self,
        key_id: str,
        challenge_id: str,
        mobile: str,
        purpose: str,
        generation: int,
        length: int,
    ) -> str:
        """The code of a challenge: `length` decimal digits, leading zeros kept.

        :raises KeyError: the key is gone.
        """
        parts = (challenge_id, mobile, purpose, str(generation))
        digest = hmac.digest(self._keys[key_id], _joined(parts), hashlib.sha256)
        return f"{int.from_bytes(digest) % 10**length:0{length}d}"

    def signing_keys(self) -> list[bytes]:
        """Every key, today's last, as itsdangerous wants them."""
        return list(self._keys.values())[::-1]

    def digests(self, *parts: str) -> list[str]:
        """The digest under every key, today's first."""
        text = _joined(parts)
        return [hmac.digest(key, text, hashlib.sha256).hex() for key in self._keys.values()]

    def digest(self, *parts: str) -> str:
        """A keyed digest, 64 hexadecimal digits: equal for equal parts, telling nothing of them.

        Under the oldest key that is listed still, so that a new key before it changes none.
        """
        return self.digests(*parts)[-1]


def _joined(parts: Sequence[str]) -> bytes:
    """The parts with their lengths, so that no two lists of parts look alike."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4) + part for part in encoded)


def read(typed: object, lengths: range) -> str:
    """What was typed as a code: ASCII digits.

    Persian, Arabic and full-width digits, spaces and hyphens between them pass.

    :param lengths: the numbers of digits that a code may have.
    :raises InvalidCode: it cannot be a code.
    """
    if not isinstance(typed, str):
        raise InvalidCode("empty" if typed is None else "not_digits")
    if len(typed) > _MAX_TYPED_LENGTH:
        raise InvalidCode("too_long")
    code = ascii_digits(typed).translate(_BETWEEN_DIGITS)
    if not code:
        raise InvalidCode("empty")
    if not (code.isascii() and code.isdecimal()):
        raise InvalidCode("not_digits")
    if len(code) < lengths.start:
        raise InvalidCode("too_short")
    if len(code) >= lengths.stop:
        raise InvalidCode("too_long")
    return code


def same(typed: str, right: str) -> bool:
    """Whether two codes are the same, in a time that does not tell how much of them is."""
    return hmac.compare_digest(typed.encode(), right.encode())
