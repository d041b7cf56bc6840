"""Decide which addresses are not public, by an explicit list.

The list is explicit, from the special-purpose registries of IANA and the multicast and site-local
blocks, because `ipaddress.is_global` lets several of them pass (6to4 and NAT64 of private
addresses, IPv4-compatible ones, site-local, multicast).
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable

from headgate.kit.errors import HeadgateError, Kind

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SPECIAL_V4 = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "shared by a carrier",
    "127.0.0.0/8": "this machine",
    "169.254.0.0/16": "link-local, where clouds keep their metadata",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "reserved for protocols",
    "192.0.2.0/24": "for documentation",
    "192.88.99.0/24": "a 6to4 relay",
    "192.168.0.0/16": "private",
    "198.18.0.0/15": "for benchmarks",
    "198.51.100.0/24": "for documentation",
    "203.0.113.0/24": "for documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
}
SPECIAL_V6 = {
    "::/96": "unspecified, this machine, or an old form of an IPv4 address",
    "64:ff9b:1::/48": "translated to a local IPv4 address",
    "100::/64": "discarded",
    "100:0:0:1::/64": "a dummy prefix",
    "2001::/23": "reserved for protocols",
    "2001:db8::/32": "for documentation",
    "2002::/16": "6to4",
    "3fff::/20": "for documentation",
    "5f00::/16": "for segment routing",
    "fc00::/7": "private",
    "fe80::/10": "link-local",
    "fec0::/10": "site-local",
    "ff00::/8": "multicast",
}
PUBLIC_V6 = "2000::/3"
"""The only IPv6 block from which public addresses are assigned."""
CARRIERS = ("::ffff:0:0/96", "64:ff9b::/96")
"""Blocks whose last 32 bits are an IPv4 address, which is judged instead."""

IPV4_BITS = 0xFFFF_FFFF


class AddressOutOfScopeError(HeadgateError):
    """The key may not be used from this network address.

    Call from an allowed network, or widen the key's `networks`.
    """

    kind = Kind.FORBIDDEN
    code = "address_out_of_scope"


def parse_address(text: str) -> Address | None:
    """Parse an address in its one strict form, without a zone; return None for other texts."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return None
    return address


def find_network(text: str) -> Network:
    """Parse a network such as `10.1.0.0/16`. Raise ValueError."""
    return ipaddress.ip_network(text)


def unwrap(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one carries (mapped or NAT64), else the address."""
    if isinstance(address, ipaddress.IPv6Address) and any(address in each for each in _CARRIERS):
        return ipaddress.IPv4Address(int(address) & IPV4_BITS)
    return address


def unmap(address: Address) -> Address:
    """Return the IPv4 address that is written as an IPv6 one, else the address."""
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address
    return address


def find_non_public_reason(address: Address) -> str | None:
    """Return what the address is instead of public; None for a public one."""
    inner = unwrap(address)
    for network, reason in _SPECIAL[inner.version]:
        if inner in network:
            return reason
    if isinstance(inner, ipaddress.IPv6Address) and inner not in _PUBLIC_V6:
        return "not given out to anybody"
    return None


def is_loopback_host(host: str) -> bool:
    """Return whether only this machine can reach an address to listen on."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_public_host(host: str) -> bool:
    """Return whether an address to listen on is public; a wildcard or a name is not."""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def is_within(address: Address, networks: Iterable[Network]) -> bool:
    """Return whether the address, or the one that it carries, is in one of the networks."""
    forms = {address, unwrap(address)}
    return any(form in network for form in forms for network in networks)


def check_address(address: str, networks: tuple[Network, ...]) -> None:
    """Raise `AddressOutOfScopeError` for a client from elsewhere or nowhere known."""
    if not is_inside(address, networks):
        raise AddressOutOfScopeError(
            f"This key may not be used from {address or 'an unknown address'}.", should_retry=False
        )


def is_inside(address: str, networks: tuple[Network, ...]) -> bool:
    """Return whether a client's address is in one of the networks; False for malformed ones."""
    parsed = _parse(address)
    return parsed is not None and any(parsed in network for network in networks)


@functools.lru_cache(maxsize=4096)
def _parse(text: str) -> Address | None:
    address = parse_address(text)
    return None if address is None else unmap(address)


_PUBLIC_V6 = ipaddress.IPv6Network(PUBLIC_V6)
_CARRIERS = [ipaddress.IPv6Network(text) for text in CARRIERS]
_SPECIAL = {
    version: [(ipaddress.ip_network(text), reason) for text, reason in table.items()]
    for version, table in ((4, SPECIAL_V4), (6, SPECIAL_V6))
}
