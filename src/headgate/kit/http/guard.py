"""Decide where the egress client may connect, whenever a connection is opened (law 6).

The public internet over TLS, and beyond it only what the operator has named in the configuration.
A name is resolved here and nowhere else; every one of its addresses is judged, one bad one refuses
them all, and the connection goes to an address that was judged: what a name server says a moment
later changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from headgate.kit.http.addresses import (
    Network,
    find_network,
    find_non_public_reason,
    is_within,
    parse_address,
)
from headgate.kit.http.errors import ForbiddenAddressError
from headgate.kit.http.head import PORTS
from headgate.kit.http.lookup import SystemLookup
from headgate.kit.http.message import Origin

ALLOW_VARIABLE = "HEADGATE_EGRESS_ALLOW"
ADDRESSES_MAX = 8
"""How many addresses of a name are tried; all are judged."""
NAME_CHARACTERS_MAX = 253
REFUSED_PORTS = frozenset(
    {
        *(0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95),
        *(101, 102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 138, 139, 143, 161),
        *(162, 179, 389, 427, 445, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556),
        *(563, 587, 601, 623, 636, 873, 989, 990, 993, 995, 1080, 1433, 1521, 1719, 1720, 1723),
        *(2049, 2375, 2376, 2379, 2380, 3306, 3389, 3659, 4045, 4190, 4369, 5060, 5061, 5432, 5672),
        *(5900, 5984, 6000, 6379, 6380, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 9042, 9092),
        *(10080, 10250, 10255, 11211, 26379, 27017, 27018, 27019),
    }
)
"""Ports of services that are not HTTP APIs: the blocked ports of the Fetch standard, databases,
caches, queues, desktops, and the control ports of container hosts."""

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


class Lookup(Protocol):
    """Ask the name service, without judging the answer."""

    async def find(self, host: str) -> Sequence[str]:
        """Return every address of a name, the preferred first. Raise `ConnectError` or OSError."""
        ...


class EgressRule(msgspec.Struct, frozen=True):
    """Allow origins and networks beyond the public internet over TLS. Origins are compared as they
    are written; in the networks, plain HTTP is allowed, too."""

    origins: frozenset[Origin] = frozenset()
    networks: tuple[Network, ...] = ()

    def check(self, origin: Origin) -> None:
        """Judge an origin by what is written in it. Raise `ForbiddenAddressError`. What a name
        resolves to is judged by `judge`, when a connection is opened."""
        fault = find_host_fault(origin.host)
        if fault:
            raise ForbiddenAddressError(f"{origin.host!r} is no host: {fault}.")
        if origin.scheme not in PORTS:
            raise ForbiddenAddressError(
                f"{origin.scheme}:// is not spoken here, only https and http."
            )
        if origin in self.origins:
            return
        if origin.port in REFUSED_PORTS or not 0 < origin.port < 65536:
            raise _refuse(origin, f"port {origin.port} is not one of a web service")
        if parse_address(origin.host) is not None:
            self.judge(origin, [origin.host])
        elif origin.scheme == "http" and not self.networks:
            raise _refuse(origin, "plain http shows the secret to the network")

    def judge(self, origin: Origin, addresses: Iterable[str]) -> None:
        """Judge the addresses of an origin; a single bad one forbids it. Raise
        `ForbiddenAddressError`."""
        if origin in self.origins:
            return
        for text in addresses:
            address = parse_address(text)
            if address is None:
                raise _refuse(origin, "its address has a zone")
            if is_within(address, self.networks):
                continue
            reason = find_non_public_reason(address)
            if reason is not None:
                raise _refuse(origin, f"{text} is no public address ({reason})")
            if origin.scheme == "http":
                raise _refuse(origin, "plain http shows the secret to the network")

    def with_origins(self, *origins: Origin) -> EgressRule:
        """Return this rule with more origins allowed."""
        return EgressRule(self.origins.union(origins), self.networks)


class EgressRules(msgspec.Struct, frozen=True):
    """Hold the default rule, and other ones for purposes with exceptions of their own. What is
    allowed for one purpose is allowed for no other."""

    everybody: EgressRule = EgressRule()
    purposes: Mapping[str, EgressRule] = {}

    def find(self, purpose: str) -> EgressRule:
        return self.purposes.get(purpose, self.everybody)

    def with_origins(self, purpose: str, *origins: Origin) -> EgressRules:
        """Return these rules with more origins allowed for one purpose."""
        rule = self.find(purpose).with_origins(*origins)
        return EgressRules(self.everybody, {**self.purposes, purpose: rule})


class Guard:
    """Resolve and judge origins for the egress client; implements `dial.Resolver`."""

    def __init__(
        self, rules: EgressRules | EgressRule | None = None, lookup: Lookup | None = None
    ) -> None:
        """Accept a single rule for every purpose; None allows the public internet only."""
        if not isinstance(rules, EgressRules):
            rules = EgressRules(rules or EgressRule())
        self._rules = rules
        self._lookup = lookup or SystemLookup()

    async def resolve(self, origin: Origin, purpose: str = "") -> Sequence[str]:
        """Return the addresses that may be connected to. Raise `ForbiddenAddressError`,
        `ConnectError` or OSError."""
        rule = self._rules.find(purpose)
        rule.check(origin)
        if parse_address(origin.host) is not None:
            return [origin.host]
        addresses = await self._lookup.find(origin.host)
        rule.judge(origin, addresses)
        return addresses[:ADDRESSES_MAX]


def find_host_fault(host: str) -> str | None:
    """Return why a text is no unambiguous host; None for a good one.

    An address has exactly one spelling here; `getaddrinfo` would also take octal, hexadecimal,
    decimal and short ones, and digits of other scripts. Names are in lower case.
    """
    if ":" in host:
        return None if parse_address(host) is not None else "not an IPv6 address without a zone"
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return None if parse_address(host) is not None else "not four decimal numbers"
    if len(host) > NAME_CHARACTERS_MAX:
        return f"longer than {NAME_CHARACTERS_MAX} characters"
    if not host.isascii() or not all(_LABEL.fullmatch(label) for label in labels):
        return "a name has labels of a-z, 0-9, - and _ with single dots between them"
    return None


def parse_rule(entries: Iterable[str]) -> EgressRule:
    """Parse the allow-list: origins (`http://127.0.0.1:11434`) and networks (`10.1.0.0/16`). Raise
    ValueError with a sentence that names the bad entry."""
    origins: set[Origin] = set()
    networks: list[Network] = []
    for entry in entries:
        if "://" in entry:
            origins.add(_parse_origin(entry))
            continue
        try:
            networks.append(find_network(entry))
        except ValueError as error:
            raise ValueError(
                f"{entry!r} is neither an origin such as http://127.0.0.1:11434 "
                f"nor a network such as 10.1.0.0/16 ({error})"
            ) from error
    return EgressRule(frozenset(origins), tuple(networks))


_ORIGIN = re.compile(r"(https?)://(?:\[([0-9a-f:.]+)\]|([^\[\]/?#@:\\]+))(?::([0-9]{1,5}))?/?")


def _parse_origin(entry: str) -> Origin:
    found = _ORIGIN.fullmatch(entry.lower())
    if found is None:
        raise ValueError(f"{entry!r} is no origin: scheme://host[:port], without user and path")
    scheme, literal, name, port = found.groups()
    origin = Origin(scheme, literal or name, int(port) if port else PORTS[scheme])
    fault = find_host_fault(origin.host)
    if fault or not 0 < origin.port < 65536:
        raise ValueError(f"{entry!r} is no origin: {fault or 'there is no such port'}")
    return origin


def _refuse(origin: Origin, reason: str) -> ForbiddenAddressError:
    default = PORTS.get(origin.scheme) == origin.port
    shown = str(origin).rpartition(":")[0] if default else str(origin)
    return ForbiddenAddressError(
        f"{shown} is refused: {reason}",
        f". Who runs Headgate can allow it: {ALLOW_VARIABLE}={shown}",
    )
