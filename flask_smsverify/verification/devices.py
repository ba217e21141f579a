"""Device tokens: a signed cookie of a browser that has proved a mobile.

The token is evidence that a request without an account comes from the mobile's owner. It opens the
half of the mobile's limits that is reserved for its owner, and the reserved part of the site's
limit. Its guesses count apart from those of others. It contains no mobile. It is void once the
proof is revoked or erased, or another account has proved the mobile.
"""

from __future__ import annotations

import hmac
from datetime import timedelta

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
        return bool(self._load(token))

    def is_of_owner(self, token: object, mobile: str, owner: str | None) -> bool:
        """Return whether a token was made for this mobile and the account that now holds it.

        The same work is done for every token and owner, so response time reveals nothing.

        :param owner: the account that proved the mobile last; None without one.
        """
        expected = self._digest(mobile, owner or "")
        found = self._load(token)
        return hmac.compare_digest(found.encode(), expected.encode()) and owner is not None

    def _load(self, token: object) -> str:
        if not self.lifetime or not isinstance(token, str) or len(token) > _MAX_LENGTH:
            return ""
        try:
            max_age = int(self.lifetime.total_seconds())
            found = self._signing.load(token, _SALT, max_age=max_age)
        except BadSignature:
            return ""
        return found if isinstance(found, str) else ""

    def _digest(self, mobile: str, user_id: str) -> str:
        return self._keyring.digest("device", mobile, user_id)
