"""Keys derived from `SECRET_KEY`, and the codes and digests made with them.

A code is HMAC-SHA-256 over the challenge's public id, the mobile, the purpose and the generation,
truncated to decimal digits (RFC 4226, section 5.3, without the counter). No code is stored: a
stolen database holds nothing to test a code against without `SECRET_KEY`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

_SALT = b"flask_smsverify.code"


class Keyring:
    """The current key and its fallbacks.

    :param secrets: the app's `SECRET_KEY`, then its `SECRET_KEY_FALLBACKS`.
    :param app_id: `SMSVERIFY_APP_ID`. It gives apps with the same secrets different keys.
    """

    def __init__(self, secrets: Sequence[str | bytes], *, app_id: str) -> None:
        self._keys: dict[str, bytes] = {}
        for secret in secrets:
            raw = secret.encode() if isinstance(secret, str) else secret
            key = hmac.digest(raw, _SALT + b" " + app_id.encode(), hashlib.sha256)
            self._keys.setdefault(hmac.digest(key, b"id", hashlib.sha256).hex()[:8], key)
        self.current_id = next(iter(self._keys))
        self._oldest = list(self._keys.values())[-1]

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
        """Return the code of a challenge: `length` decimal digits, including leading zeros.

        :raises KeyError: the key was removed from the configuration.
        """
        parts = (challenge_id, mobile, purpose, str(generation))
        digest = hmac.digest(self._keys[key_id], _join(parts), hashlib.sha256)
        return f"{int.from_bytes(digest) % 10**length:0{length}d}"

    def signing_keys(self) -> list[bytes]:
        """Return every key, the current one last, as itsdangerous expects them."""
        return list(self._keys.values())[::-1]

    def digests(self, *parts: str) -> list[str]:
        """Return the digest under every key, the current one first."""
        message = _join(parts)
        return [hmac.digest(key, message, hashlib.sha256).hex() for key in self._keys.values()]

    def digest(self, *parts: str) -> str:
        """Return a keyed digest of 64 hexadecimal digits.

        It is made with the oldest configured key, so that adding a new key changes no digest.
        """
        return self._digest(parts).hex()

    def key(self, *parts: str) -> int:
        """Return the first 64 bits of `digest` as a signed number, to fit into a BIGINT column."""
        return int.from_bytes(self._digest(parts)[:8], signed=True)

    def _digest(self, parts: Sequence[str]) -> bytes:
        return hmac.digest(self._oldest, _join(parts), hashlib.sha256)


def _join(parts: Sequence[str]) -> bytes:
    """Join the parts with their lengths, so that different lists give different bytes."""
    joined = bytearray()
    for part in parts:
        encoded = part.encode()
        joined += len(encoded).to_bytes(4) + encoded
    return bytes(joined)
