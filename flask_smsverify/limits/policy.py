"""Which rate limits a send or a guess counts against."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from ..keyring import Keyring
from ..phone import region_of
from ..settings import Limit
from .usage import Charge, Cooldown

#: Limits of the whole site.
_SITE_SCOPES = ("site", "foreign", "site_failures", "messages")


class LimitPolicy:
    """The limits of `SMSVERIFY_LIMITS`, as charges for one request.

    :param limits: scope → its limits; empty for a scope without a limit.
    :param default_region: mobiles of other regions also count against `foreign`.
    :param resend_delays: seconds of cooldown before the second, third … send.
    """

    def __init__(
        self,
        limits: Mapping[str, tuple[Limit, ...]],
        keyring: Keyring,
        *,
        default_region: str,
        resend_delays: tuple[int, ...],
    ) -> None:
        self._limits = limits
        self._keyring = keyring
        self._default_region = default_region
        self._resend_delays = resend_delays

    def for_send(
        self,
        mobile: str,
        user_id: str | None,
        ip: str | None,
        *,
        purpose: str,
        is_owner: bool,
        counts_mobile: bool = True,
    ) -> list[Charge | Cooldown]:
        """Return what one send of a code counts against.

        :param is_owner: whether the whole limit of the mobile may be used. Half of it is reserved
            for the account that proved the mobile last.
        :param counts_mobile: whether the mobile counts as one of the account's different ones.
        """
        charges: list[Charge | Cooldown] = [self._charge("mobile", mobile)]
        if not is_owner:
            charges.append(self.unproven_share(mobile))
        if user_id is not None:
            charges.append(self._charge("user", user_id))
        if user_id is not None and counts_mobile:
            item = self._keyring.digest("mobile", mobile)[:16]
            charges.append(self._charge("mobiles_per_user", user_id, item=item))
        if ip is not None:
            charges.append(self._charge("ip", normalize_ip(ip)))
        if region_of(mobile) != self._default_region:
            charges.append(self._charge("foreign"))
        charges.append(self._charge("site"))
        charges.append(Cooldown(cooldown_key(purpose, user_id, mobile), self._resend_delays))
        return [charge for charge in charges if isinstance(charge, Cooldown) or charge.limits]

    def for_guess(self, mobile: str, user_id: str | None, ip: str | None) -> list[Charge]:
        """Return what one guess counts against: the account, or the mobile and the address."""
        if user_id is not None:
            charges = [self._charge("failures", f"user {user_id}")]
        else:
            charges = [self._charge("failures", f"mobile {mobile}")]
            if ip is not None:
                charges.append(self._charge("failures", f"address {normalize_ip(ip)}"))
        charges.append(self._charge("site_failures"))
        return [charge for charge in charges if charge.limits]

    def for_notice(self) -> list[Charge]:
        """Return what one notice counts against."""
        charge = self._charge("messages")
        return [charge] if charge.limits else []

    def of(
        self, *, mobile: str | None = None, user_id: str | None = None, ip: str | None = None
    ) -> list[Charge]:
        """Return the limits of a mobile, a user or an address; without any, those of the site."""
        charges = []
        if mobile is not None:
            charges.append(self._charge("mobile", mobile))
            charges.append(self.unproven_share(mobile))
            charges.append(self._charge("failures", f"mobile {mobile}"))
        if user_id is not None:
            charges.append(self._charge("user", user_id))
            charges.append(self._charge("mobiles_per_user", user_id))
            charges.append(self._charge("failures", f"user {user_id}"))
        if ip is not None:
            charges.append(self._charge("ip", normalize_ip(ip)))
            charges.append(self._charge("failures", f"address {normalize_ip(ip)}"))
        found = charges or [self._charge(scope) for scope in _SITE_SCOPES]
        return [charge for charge in found if charge.limits]

    def unproven_share(self, mobile: str) -> Charge:
        """Return the half of a mobile's limit that is open to requests without a proof of it."""
        half = tuple(
            Limit(limit.amount - limit.amount // 2, limit.seconds)
            for limit in self._limits["mobile"]
        )
        return Charge("mobile", f"unproven {mobile}", half)

    def _charge(self, scope: str, key: str = "", *, item: str | None = None) -> Charge:
        return Charge(scope, key, self._limits[scope], item)


def cooldown_key(purpose: str, user_id: str | None, mobile: str) -> str:
    """Return the key of a cooldown: the account, or the mobile where there is none."""
    return f"{purpose} {f'user {user_id}' if user_id else f'mobile {mobile}'}"


def network_of(ip: str | None) -> str:
    """Return the network of an address: the /24 of IPv4, the /56 of IPv6; empty for None."""
    try:
        address = ipaddress.ip_address(ip or "")
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    bits = 24 if isinstance(address, ipaddress.IPv4Address) else 56
    return str(ipaddress.ip_network((int(address), bits), strict=False))


def normalize_ip(ip: str) -> str:
    """Return the address that is counted: an IPv4 address as it is, an IPv6 address as its /64."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return "not an address"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address), 64), strict=False))
    return str(address)
