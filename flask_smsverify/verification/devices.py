"""Device tokens: a signed cookie of a browser that has proved a mobile.

The token is evidence that a request without an account comes from the mobile's owner. It opens the
half of the mobile's limits that is reserved for its owner, and the reserved part of the site's
limit. Its guesses count apart from those of others. It contains no mobile. It is void once the
proof is revoked, also after the next one, and while the proof is erased, or another account has
proved the mobile.
"""

from __future__ import annotations

import hmac
from datetime import UTC, datetime, timedelta

from itsdangerous import BadSignature

from ..keyring import Keyring
from ..signing import TokenSigning

_MAX_LENGTH = 500
_SALT = "flask_smsverify.device"


class DeviceTokens:
    """Dumps and verifies device tokens.

    :param lifetime: `SMSVERIFY_DEVICE_TOKEN_DAYS`; no time turns device tokens off.
    """

    def __init__(self, keyring: Keyring, signing: TokenSigning, lifetime: timedelta) -> None:
        self._keyring = keyring
        self._signing = signing
        self.lifetime = lifetime

    def dump(self, mobile: str, user_id: str) -> str:
        """Return the token of a device on which this user has proved this mobile."""
        return self._signing.dump(self._digest(mobile, user_id), _SALT)

    def is_valid(self, token: object) -> bool:
        """Return whether a token was made here and has not expired, for whatever mobile."""
        return bool(self._load(token)[0])

    def is_of_owner(
        self, token: object, mobile: str, owner: str | None, since: datetime | None = None
    ) -> bool:
        """Return whether a token was made for this mobile and the account that now holds it.

        The same work is done for every token and owner, so response time reveals nothing.

        :param owner: the account that proved the mobile last; None without one.
        :param since: older tokens are void; None if there was no revocation.
        """
        expected = self._digest(mobile, owner or "")
        found, made_at = self._load(token)
        is_same = hmac.compare_digest(found.encode(), expected.encode())
        is_older = since is not None and made_at < since.replace(microsecond=0)
        return is_same and owner is not None and not is_older

    def _load(self, token: object) -> tuple[str, datetime]:
        """Return the digest of a valid token, and when it was made; an empty digest otherwise."""
        never = "", datetime.min.replace(tzinfo=UTC)
        if not self.lifetime or not isinstance(token, str) or len(token) > _MAX_LENGTH:
            return never
        try:
            max_age = int(self.lifetime.total_seconds())
            found, made_at = self._signing.load_dated(token, _SALT, max_age=max_age)
        except BadSignature:
            return never
        return (found, made_at) if isinstance(found, str) else never

    def _digest(self, mobile: str, user_id: str) -> str:
        return self._keyring.digest("device", mobile, user_id)
