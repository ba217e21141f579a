"""Addresses of requests, and the networks that they count against."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

#: Bits of the network of an IPv4 address.
_BITS = 24
#: Bits of the networks of an IPv6 address. A subscriber has a /64 or more, a site a /56 or a /48
#: (RFC 6177).
_BITS_V6 = (64, 56, 48)
#: The address of an IPv4 client behind a translator (RFC 6052, 2.1) ends with the IPv4 address.
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
_WITH_PORT = re.compile(r"\[(?P<v6>[^\]]*)\](?::\d*)?|(?P<v4>[\d.]+):\d*")


class Address(NamedTuple):
    """An address and the networks, of growing size, in which it is counted.

    :param ip: an IPv4 address, or the /64 of an IPv6 address.
    :param network: the /24 or the /56.
    :param wide: the /48 of IPv6; for IPv4 the /24 again.
    """

    ip: str
    network: str
    wide: str


#: Requests whose address is text that is not an IP address share one set of limits.
_UNREADABLE = Address("not an address", "not an address", "not an address")


def parse_address(raw: str | None) -> Address | None:
    """Return the networks that a request's address counts against; None without an address.

    A port, brackets and a zone are ignored. Behind a Unix socket, servers report no address.

    :param raw: the address as the server or `address_getter` gives it.
    """
    text = (raw or "").strip()
    if not text or text.startswith(("unix:", "@", "/")):
        return None
    match = _WITH_PORT.fullmatch(text)
    if match:
        text = match["v6"] or match["v4"] or ""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return _UNREADABLE
    if isinstance(address, ipaddress.IPv6Address):
        address = _ipv4_in(address) or address
    if isinstance(address, ipaddress.IPv4Address):
        network = str(ipaddress.IPv4Network((address, _BITS), strict=False))
        return Address(str(address), network, network)
    number = int(address)  # without the zone
    return Address(*(str(ipaddress.IPv6Network((number, bits), strict=False)) for bits in _BITS_V6))


def _ipv4_in(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address whose owner has this address; None if it is not made from one.

    It is mapped, translated, or of 6to4, which gives each IPv4 address a /48 (RFC 3056).
    """
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
