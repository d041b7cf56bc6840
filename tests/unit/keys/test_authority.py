"""A key can only grant what its own scope allows, compared with an oracle that tries all cases."""

from __future__ import annotations

import functools
import itertools
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from headgate.keys.model import Scope, allows, find_excess
from headgate.keys.model.pattern import is_within
from headgate.keys.model.scope import normalize_lists

ALPHABET = "ab"
# Every name of up to five letters, including a letter that no pattern contains.
WORDS = [
    "".join(letters)
    for length in range(6)
    for letters in itertools.product(ALPHABET + "z", repeat=length)
]
NOUNS, VERBS = ("a", "b", "platform", "z"), ("r", "w", "z")
PERMISSIONS = [f"{noun}:{verb}" for noun in NOUNS for verb in VERBS]
V4 = [f"10.0.0.{last}" for last in range(8)]


def fits(word: str, pattern: str) -> bool:
    """Match a pattern independently of the code under test."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), word, re.DOTALL) is not None


@functools.cache
def names_of(patterns: tuple[str, ...]) -> set[str | None]:
    """Return the matching names. None stands for calls that name nothing."""
    if not patterns:
        return {*WORDS, None}
    return {word for word in WORDS if any(fits(word, pattern) for pattern in patterns)}


def addresses_of(networks: Sequence[str]) -> set[str]:
    """Return those of eight addresses. `elsewhere` stands for all others."""
    if not networks:
        return {*V4, "elsewhere"}
    found: set[str] = set()
    for network in networks:
        base, _, bits = network.partition("/")
        first, size = int(base.rpartition(".")[2]), 2 ** (32 - int(bits or 32))
        found |= set(V4[first : first + size])
    return found


def permissions_of(patterns: Sequence[str]) -> set[str]:
    """Return the permissions. `everything` stands for whatever else `*` alone includes."""
    found: set[str] = set()
    for pattern in patterns:
        if pattern == "*":
            return {*PERMISSIONS, "platform:everything"}
        is_platform = pattern.startswith("platform:")
        found |= {
            each
            for each in PERMISSIONS
            if fits(each, pattern) and each.startswith("platform:") is is_platform
        }
        if pattern == "platform:*":
            found.add("platform:everything")
    return found


def ids_of(names: Sequence[str]) -> set[str]:
    return set(names) or {"p1", "p2", "p3", "another"}


def up_to(limit: float | None) -> float:
    return limit if limit else float("inf")


ORACLE: dict[str, Callable[[Scope], set[Any] | float]] = {
    "models": lambda scope: names_of(scope.models),
    "endpoints": lambda scope: names_of(scope.endpoints),
    "projects": lambda scope: ids_of(scope.projects),
    "resources": lambda scope: ids_of(scope.resources),
    "tools": lambda scope: names_of(scope.tools),
    "networks": lambda scope: addresses_of(scope.networks),
    "permissions": lambda scope: permissions_of(scope.permissions),
    "requests_per_minute": lambda scope: up_to(scope.requests_per_minute),
    "tokens_per_minute": lambda scope: up_to(scope.tokens_per_minute),
    "monthly_budget_nano": lambda scope: up_to(scope.monthly_budget_nano),
    # What a budget counts matters only where the issuer has one; it then must count as much.
    "budget_managed_only": lambda scope: float(scope.budget_managed_only),
    "expires_at": lambda scope: up_to(scope.expires_at),
    # A key that must sign its requests issues none that need not.
    "requires_signature": lambda scope: float(not scope.requires_signature),
}


def draw(chance: random.Random, *, loose: float) -> Scope:
    """Draw a scope over small alphabets. `loose` is the share of dimensions without a limit."""

    def some(choices: Sequence[str], most: int) -> tuple[str, ...]:
        if chance.random() < loose:
            return ()
        return tuple(chance.choice(choices) for _ in range(chance.randint(1, most)))

    def limit() -> int:
        return 0 if chance.random() < loose else chance.randint(1, 3)

    patterns = ["".join(p) for n in (1, 2, 3) for p in itertools.product("ab*", repeat=n)]
    permissions = ["*", *(f"{n}:{v}" for n in ("a", "b", "*", "platform") for v in ("r", "w", "*"))]
    networks = ["10.0.0.0/29", "10.0.0.0/30", "10.0.0.4/30", "10.0.0.2/31", "10.0.0.5", "10.0.0.0"]
    drawn = Scope(
        models=some(patterns, 3),
        endpoints=some(patterns, 2),
        projects=some(["p1", "p2", "p3"], 2),
        resources=some(["p1", "p2", "p3"], 2),
        tools=some(patterns, 2),
        networks=some(networks, 2),
        permissions=some(permissions, 3) or ("*:*",),
        requests_per_minute=limit(),
        tokens_per_minute=limit(),
        monthly_budget_nano=limit() or None,
        budget_managed_only=chance.random() < loose,
        expires_at=limit() or None,
        requires_signature=chance.random() > loose,
    )
    tidied: dict[str, Any] = normalize_lists(drawn)
    return replace(drawn, **tidied)


def is_part(wanted: Scope, held: Scope, dimension: str) -> bool:
    if dimension == "budget_managed_only" and held.monthly_budget_nano is None:
        return True
    less: Any = ORACLE[dimension](wanted)
    return less <= ORACLE[dimension](held)


def test_every_dimension_has_an_oracle() -> None:
    assert set(ORACLE) == set(Scope.__struct_fields__)


def test_scope_comparison_agrees_with_the_oracle() -> None:
    chance = random.Random(20261121)
    accepted = refused = 0
    for _ in range(500):
        held = draw(chance, loose=0.6)
        # Most pairs differ in little, so that many are accepted and each dimension decides some.
        wanted = draw(chance, loose=0.3)
        keep = {n for n in ORACLE if chance.random() < 0.85}
        wanted = Scope(**{n: getattr(held if n in keep else wanted, n) for n in ORACLE})
        beyond = [n for n in ORACLE if not is_part(wanted, held, n)]
        excess = find_excess(wanted, held)
        assert (excess is None) == (not beyond), (wanted, held)
        assert excess is None or excess in beyond
        accepted += excess is None
        refused += excess is not None
    assert min(accepted, refused) > 100


@pytest.mark.parametrize("dimension", sorted({*ORACLE} - {"budget_managed_only"}))
def test_each_dimension_agrees_with_the_oracle(dimension: str) -> None:
    chance = random.Random(dimension)
    outcomes: set[bool] = set()
    for _ in range(300):
        wanted, held = draw(chance, loose=0.2), draw(chance, loose=0.2)
        base = Scope(permissions=("*",))
        less = Scope(**{**_fields(base), dimension: getattr(wanted, dimension)})
        more = Scope(**{**_fields(base), dimension: getattr(held, dimension)})
        within = find_excess(less, more) is None
        assert within == is_part(less, more, dimension), (less, more)
        outcomes.add(within)
    assert outcomes == {True, False}


def _fields(scope: Scope) -> dict[str, Any]:
    return {name: getattr(scope, name) for name in ORACLE}


@pytest.mark.parametrize(
    ("pattern", "among", "within"),
    [
        ("gpt-5*", ["gpt-*"], True),
        ("gpt-*", ["gpt-5*"], False),
        ("*", ["**"], True),
        ("a*b*c", ["a*c"], True),
        ("a*c", ["a*b*c"], False),
        ("*", ["a*", "*b"], False),
        ("ft:*:acme", ["ft:*", "x"], True),
    ],
)
def test_star_is_covered_only_by_a_star(pattern: str, among: list[str], within: bool) -> None:
    assert is_within(pattern, among) is within


def test_restricted_endpoint_is_granted_only_by_a_key_that_names_it() -> None:
    wanted = Scope(endpoints=("organization",))
    assert find_excess(wanted, Scope(endpoints=("*",))) == "endpoints"
    assert find_excess(wanted, Scope(endpoints=("*", "organization"))) is None
    assert find_excess(wanted, Scope()) is None


def test_network_that_spans_adjacent_networks_is_within_them() -> None:
    held = Scope(networks=("10.0.0.0/9", "10.128.0.0/9", "2001:db8::/33", "2001:db8:8000::/33"))
    assert find_excess(Scope(networks=("10.0.0.0/8", "2001:db8::/32")), held) is None
    assert find_excess(Scope(networks=("10.0.0.0/7",)), held) == "networks"
    assert find_excess(Scope(networks=("::/0",)), Scope(networks=("0.0.0.0/0",))) == "networks"


@pytest.mark.parametrize(
    ("held", "permission", "may"),
    [
        ((), "keys:write", True),
        ((), "platform:read", False),
        (("*",), "platform:read", True),
        (("*:read",), "keys:read", True),
        (("*:read",), "platform:read", False),
        (("platform*:read",), "platform:read", False),
        (("platform:*",), "platform:write", True),
        (("platform:*",), "keys:read", False),
        (("keys:*",), "credentials:read", False),
    ],
)
def test_platform_permissions_are_covered_only_where_they_are_named(
    held: tuple[str, ...], permission: str, may: bool
) -> None:
    assert allows(held, permission) is may
