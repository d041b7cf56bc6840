"""Find a client's address: the peer of the connection, or the client that trusted proxies name.

Any client can send any header, so `X-Forwarded-For` and `Forwarded` (RFC 7239) count only as far as
trusted proxies wrote them: from the right, past every trusted hop, to the first address that is not
trusted. What stands left of it is an unproven claim and is ignored.
"""

from __future__ import annotations

import re

from headgate.gateway.limits import InvalidTrustedProxiesError, MalformedForwardedAddressError
from headgate.kit.http.addresses import Address, Network, find_network, parse_address, unmap
from headgate.kit.http.message import Headers

HOPS_MAX = 32
"""No real chain of proxies is longer."""
FORWARDED_CHARACTERS_MAX = 4096
"""No real Forwarded header is longer."""

Networks = tuple[Network, ...]

_PORT = re.compile(r"(?::[0-9]{1,5})?")
_PAIR = re.compile(r'([!#$%&\'*+.^_`|~0-9a-z-]+)=([^\s";,=]*|"[^"\\]*")')


def parse_networks(names: tuple[str, ...], *, allow_any: bool) -> Networks:
    """Parse the networks of trusted proxies: addresses, CIDR blocks, or `*` for any peer.

    Raise `InvalidTrustedProxiesError` for anything else, and for all addresses unless `allow_any`.
    """
    networks: list[Network] = []
    for name in names:
        try:
            found = [find_network(each) for each in ANY_PEER.get(name, (name,))]
        except ValueError as error:
            raise InvalidTrustedProxiesError(
                f"HEADGATE_TRUSTED_PROXIES has {name!r}, which is neither an address nor a network "
                f"like 10.0.0.0/8: {error}."
            ) from error
        if not allow_any and any(network.prefixlen == 0 for network in found):
            raise InvalidTrustedProxiesError(
                f"HEADGATE_TRUSTED_PROXIES={name} would let every client choose the address "
                "that it is seen with. Name the networks of your proxies; or, if nothing but them "
                "can connect, set HEADGATE_TRUST_ANY_PROXY=true."
            )
        networks += found
    return tuple(networks)


ANY_PEER = {"*": ("0.0.0.0/0", "::/0")}


def find_client_address(peer: str, headers: Headers, trusted: Networks) -> str:
    """Return the client's address in its shortest form, IPv4 also where it is mapped into IPv6.

    `peer` is the connected address; names of `headers` are in lower case. Raise
    `MalformedForwardedAddressError` where a trusted proxy passed on something that is no address,
    too many hops, or two headers that disagree: a wrong guess could grant access, a refusal cannot.
    """
    address = parse_unmapped(peer)
    if address is None:
        return peer
    if not is_trusted(address, trusted):
        return str(address)
    plain = [value for name, value in headers if name == b"x-forwarded-for"]
    standard = [value for name, value in headers if name == b"forwarded"]
    found = {
        find_first_untrusted(address, hops, trusted)
        for hops in (split_x_forwarded_for(plain), split_forwarded(standard))
        if hops
    }
    if len(found) > 1:
        raise MalformedForwardedAddressError(
            "X-Forwarded-For and Forwarded name different clients."
        )
    return str(found.pop() if found else address)


def normalize_address(peer: str) -> str:
    """Return the peer's address in its shortest form, or unchanged where it is no address."""
    address = parse_unmapped(peer)
    return peer if address is None else str(address)


def find_first_untrusted(peer: Address, hops: list[str], trusted: Networks) -> Address:
    """Return the first untrusted hop from the right; the leftmost where all are trusted."""
    address = peer
    for count, hop in enumerate(reversed(hops)):
        found = parse_node(hop)
        if found is None or count >= HOPS_MAX:
            raise MalformedForwardedAddressError(
                "The chain of forwarded addresses cannot be followed: "
                + ("it is too long." if found is not None else f"{hop[:60]!r} is not an address.")
            )
        address = found
        if not is_trusted(address, trusted):
            break
    return address


def split_x_forwarded_for(values: list[bytes]) -> list[str]:
    """Return the hops of all X-Forwarded-For lines, in order."""
    text = ",".join(value.decode("latin-1") for value in values)
    return [hop.strip(" \t") for hop in text.split(",")] if text.strip(" \t") else []


def split_forwarded(values: list[bytes]) -> list[str]:
    """Return the hops of all Forwarded lines, in order; an element without a `for` is empty."""
    text = ",".join(value.decode("latin-1") for value in values)
    if not text.strip(" \t"):
        return []
    if len(text) > FORWARDED_CHARACTERS_MAX or text.count('"') % 2:
        return [""]
    return [read_for(element) for element in split_elements(text)]


def split_elements(text: str) -> list[str]:
    """Split a list whose commas may also stand in quotes, in linear time."""
    parts = text.split('"')
    # A header contains no line break, so it can stand for the unquoted commas.
    parts[::2] = [part.replace(",", "\n") for part in parts[::2]]
    return '"'.join(parts).split("\n")


def read_for(element: str) -> str:
    """Return the `for` of one element (RFC 7239 4); empty unless there is exactly one valid."""
    nodes: list[str] = []
    for pair in element.split(";"):
        found = _PAIR.fullmatch(pair.strip(" \t").lower())
        if found is None:
            return ""
        if found[1] == "for":
            nodes.append(found[2])
    if len(nodes) != 1 or (":" in nodes[0] and not nodes[0].startswith('"')):
        return ""
    return nodes[0].strip('"')


def parse_node(text: str) -> Address | None:
    """Parse an address as proxies write it: with or without port, IPv6 with or without brackets."""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        return parse_unmapped(host) if bracket and ":" in host and is_port(port) else None
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return parse_unmapped(host) if is_port(f":{port}") else None
    return parse_unmapped(text)


def is_port(text: str) -> bool:
    """Return whether the text is a colon with a port, or empty."""
    return _PORT.fullmatch(text) is not None and int(text[1:] or 0) < 65_536


def parse_unmapped(text: str) -> Address | None:
    """Return an address without port and zone, IPv4 also where it is mapped into IPv6."""
    address = parse_address(text)
    return None if address is None else unmap(address)


def is_trusted(address: Address, trusted: Networks) -> bool:
    return any(address in network for network in trusted)
