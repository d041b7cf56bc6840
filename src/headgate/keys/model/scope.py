"""The scope of a key in eleven dimensions, and whether one scope includes another."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from headgate.keys.model import pattern as patterns
from headgate.keys.model import permission
from headgate.kit.http.addresses import CARRIERS, IPV4_BITS, Network
from headgate.llm.providers.openai import PROVIDER

REQUESTS_PER_MINUTE_MAX = 1_000_000
TOKENS_PER_MINUTE_MAX = 1_000_000_000
ENTRIES_MAX = 256
# Endpoints that a key must name: no pattern grants them.
RESTRICTED = frozenset(row.name for row in PROVIDER.endpoints if row.restricted)

_PATTERN = re.compile(r"[A-Za-z0-9_.:/*@-]{1,200}")
_NAME = re.compile(r"[A-Za-z0-9_.:/@-]{1,200}")
_MAPPED = ipaddress.IPv6Network(CARRIERS[0])
_PATTERN_FORM = "of letters, digits and _.:/@-, with * for any part"
_NAME_FORM = "of letters, digits and _.:/@-"


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Limit what a key may do. Empty, 0 and None mean no limit.

    `models`, `endpoints`, `tools` and `permissions` are patterns, `projects` and `resources` names,
    `networks` CIDR blocks. `projects` are added to the key's own. Money is in nano-dollars, the
    expiry in unix seconds.
    """

    expires_at: float | None = None
    models: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    monthly_budget_nano: int | None = None
    budget_managed_only: bool = False
    """Whether the budget counts only the calls that the wallet pays."""
    requires_signature: bool = False
    """Whether only signed requests are accepted."""


class InvalidScopeFormError(ValueError):
    """Reject the value of one dimension."""

    def __init__(self, dimension: str, message: str) -> None:
        super().__init__(message)
        self.dimension = dimension
        self.message = message


def normalize_lists(scope: Scope) -> dict[str, tuple[str, ...]]:
    """Return the lists as they are stored: single stars, canonical networks, no duplicates. Raise
    `InvalidScopeFormError`."""
    normalized: dict[str, tuple[str, ...]] = {}
    for dimension, (form, requested) in _FORMS.items():
        entries: tuple[str, ...] = getattr(scope, dimension)
        if len(entries) > ENTRIES_MAX or not all(map(form.fullmatch, entries)):
            raise InvalidScopeFormError(
                dimension, f"A list of {dimension} has at most {ENTRIES_MAX} entries {requested}."
            )
        normalized[dimension] = tuple(dict.fromkeys(map(patterns.collapse_stars, entries)))
    normalized["networks"] = _check_networks(scope.networks)
    for dimension, limit in _RATES_MAX.items():
        if not 0 <= getattr(scope, dimension) <= limit:
            named = dimension.replace("_", " ").capitalize()
            raise InvalidScopeFormError(dimension, f"{named} are 0 (no limit) to {limit}.")
    return normalized


def _check_networks(networks: Sequence[str]) -> tuple[str, ...]:
    if len(networks) > ENTRIES_MAX:
        raise InvalidScopeFormError(
            "networks", f"A list of networks has at most {ENTRIES_MAX} entries."
        )
    try:
        return tuple(dict.fromkeys(str(parse_network(each)) for each in networks))
    except ValueError as error:
        raise InvalidScopeFormError(
            "networks", f"A network is an address or a block such as 10.0.0.0/8: {error}."
        ) from error


def parse_network(text: str) -> Network:
    """Parse a CIDR block or an address. IPv4-mapped IPv6 becomes IPv4. Raise ValueError."""
    network = ipaddress.ip_network(text)
    if isinstance(network, ipaddress.IPv6Network):
        if "%" in text:
            raise ValueError("a network cannot have a zone")
        # A dual-stack socket reports IPv4 clients so; both spellings must mean one network.
        if network.subnet_of(_MAPPED):
            inner = int(network.network_address) & IPV4_BITS
            return ipaddress.IPv4Network((inner, network.prefixlen - _MAPPED.prefixlen))
    return network


def find_excess(requested: Scope, held: Scope) -> str | None:
    """Return the first dimension in which `requested` exceeds `held`, or None. Both must be
    effective scopes."""
    for dimension, is_within in _WITHIN.items():
        if not is_within(getattr(requested, dimension), getattr(held, dimension)):
            return dimension
    # A budget that counts less than the budget of its issuer allows more.
    if held.monthly_budget_nano is not None and (
        requested.budget_managed_only and not held.budget_managed_only
    ):
        return "budget_managed_only"
    if held.requires_signature and not requested.requires_signature:
        return "requires_signature"
    return None


def _are_patterns_within(requested: Sequence[str], held: Sequence[str]) -> bool:
    return not held or (
        bool(requested) and all(patterns.is_within(each, held) for each in requested)
    )


def _are_endpoints_within(requested: Sequence[str], held: Sequence[str]) -> bool:
    # A pattern does not grant a restricted endpoint, so `held` must name it as well.
    named = {each for each in requested if each in RESTRICTED}
    return _are_patterns_within(requested, held) and (not held or named.issubset(held))


def _are_names_within(requested: Sequence[str], held: Sequence[str]) -> bool:
    return not held or (bool(requested) and set(requested).issubset(held))


def _are_networks_within(requested: Sequence[str], held: Sequence[str]) -> bool:
    return not held or (
        bool(requested)
        and all(
            any(_is_subnet(network, each) for each in blocks)
            for network, blocks in ((parse_network(text), _join(held)) for text in requested)
        )
    )


def _join(networks: Sequence[str]) -> list[Network]:
    """Merge adjacent blocks, so that a network that spans several of them is found within one."""
    parsed = [parse_network(each) for each in networks]
    first: list[Network] = list(
        ipaddress.collapse_addresses(n for n in parsed if isinstance(n, ipaddress.IPv4Network))
    )
    return first + list(
        ipaddress.collapse_addresses(n for n in parsed if isinstance(n, ipaddress.IPv6Network))
    )


def _is_subnet(network: Network, of: Network) -> bool:
    if isinstance(network, ipaddress.IPv4Network):
        return isinstance(of, ipaddress.IPv4Network) and network.subnet_of(of)
    return isinstance(of, ipaddress.IPv6Network) and network.subnet_of(of)


def _is_rate_within(requested: int, held: int) -> bool:
    return (requested or math.inf) <= (held or math.inf)


def _is_ceiling_within(requested: float | None, held: float | None) -> bool:
    return held is None or (requested is not None and requested <= held)


_FORMS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "models": (_PATTERN, _PATTERN_FORM),
    "endpoints": (_PATTERN, _PATTERN_FORM),
    "projects": (_NAME, _NAME_FORM),
    "resources": (_NAME, _NAME_FORM),
    "tools": (_PATTERN, _PATTERN_FORM),
    "permissions": (permission.FORM, "such as keys:read or credentials:*, or * alone"),
}
_RATES_MAX = {
    "requests_per_minute": REQUESTS_PER_MINUTE_MAX,
    "tokens_per_minute": TOKENS_PER_MINUTE_MAX,
}
_WITHIN: Mapping[str, Callable[[Any, Any], bool]] = {
    "permissions": permission.is_within,
    "projects": _are_names_within,
    "models": _are_patterns_within,
    "endpoints": _are_endpoints_within,
    "resources": _are_names_within,
    "tools": _are_patterns_within,
    "networks": _are_networks_within,
    "requests_per_minute": _is_rate_within,
    "tokens_per_minute": _is_rate_within,
    "monthly_budget_nano": _is_ceiling_within,
    "expires_at": _is_ceiling_within,
}
