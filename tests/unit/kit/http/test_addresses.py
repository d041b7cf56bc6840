"""The list of addresses that are not public."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headgate.kit.http.addresses import (
    find_network,
    find_non_public_reason,
    is_within,
    parse_address,
)
from tests.fakes.places import PRIVATE_V4, PRIVATE_V6, PUBLIC

# Told a second time, by first and last address, after the registries of IANA (IPv4 and IPv6
# special-purpose, multicast) and RFC 3879 (site-local), 4291 (compatible, mapped), 6052 (NAT64).
RANGES_V4 = [
    (0x00000000, 0x00FFFFFF),
    (0x0A000000, 0x0AFFFFFF),
    (0x64400000, 0x647FFFFF),
    (0x7F000000, 0x7FFFFFFF),
    (0xA9FE0000, 0xA9FEFFFF),
    (0xAC100000, 0xAC1FFFFF),
    (0xC0000000, 0xC00000FF),
    (0xC0000200, 0xC00002FF),
    (0xC0586300, 0xC05863FF),
    (0xC0A80000, 0xC0A8FFFF),
    (0xC6120000, 0xC613FFFF),
    (0xC6336400, 0xC63364FF),
    (0xCB007100, 0xCB0071FF),
    (0xE0000000, 0xFFFFFFFF),
]
RANGES_OF_PUBLIC_V6 = [
    (0x2001_0000 << 96, (0x2001_0200 << 96) - 1),
    (0x2001_0DB8 << 96, (0x2001_0DB9 << 96) - 1),
    (0x2002 << 112, (0x2003 << 112) - 1),
    (0x3FFF << 112, ((0x3FFF_1000) << 96) - 1),
]
MAPPED, TRANSLATED = 0xFFFF, 0x64_FF9B << 64


def is_special_v4(number: int) -> bool:
    return any(first <= number <= last for first, last in RANGES_V4)


def is_special_v6(number: int) -> bool:
    if number >> 32 in (MAPPED, TRANSLATED):
        return is_special_v4(number & 0xFFFFFFFF)
    if number >> 125 != 1:
        return True
    return any(first <= number <= last for first, last in RANGES_OF_PUBLIC_V6)


def near(edges: list[int], bits: int) -> st.SearchStrategy[int]:
    """Anything, and often a number at an edge."""
    top = (1 << bits) - 1
    around = st.tuples(st.sampled_from(edges), st.integers(-2, 2)).map(
        lambda pair: min(max(sum(pair), 0), top)
    )
    return st.one_of(around, st.integers(0, top))


EDGES_V4 = [edge for pair in RANGES_V4 for edge in pair]
EDGES_V6 = [
    *(edge for pair in RANGES_OF_PUBLIC_V6 for edge in pair),
    *(prefix << 32 | edge for prefix in (MAPPED, TRANSLATED, 0) for edge in EDGES_V4),
    *(1 << 125, 2 << 125, 0x64_FF9B_0001 << 80, 0xFC << 120, 0xFE80 << 112, 0xFF << 120),
]


@given(near(EDGES_V4, 32))
def test_verdict_on_any_ipv4_address_is_that_of_the_registries(number: int) -> None:
    address = ipaddress.IPv4Address(number)
    assert (find_non_public_reason(address) is not None) == is_special_v4(number)


@given(near(EDGES_V6, 128))
@example(0x2002_7F00_0001 << 80)
@example(TRANSLATED << 32 | 0xA9FEA9FE)
def test_verdict_on_any_ipv6_address_is_that_of_the_registries(number: int) -> None:
    address = ipaddress.IPv6Address(number)
    assert (find_non_public_reason(address) is not None) == is_special_v6(number)


ADDRESSES = st.one_of(
    near(EDGES_V4, 32).map(ipaddress.IPv4Address), near(EDGES_V6, 128).map(ipaddress.IPv6Address)
)


@given(ADDRESSES)
def test_nothing_that_the_standard_library_calls_special_is_public(address: Any) -> None:
    inner = getattr(address, "ipv4_mapped", None) or address
    special = (
        *(inner.is_private, inner.is_loopback, inner.is_link_local, inner.is_multicast),
        *(inner.is_unspecified, getattr(inner, "is_site_local", False)),
    )
    if any(special):
        assert find_non_public_reason(address) is not None


@pytest.mark.parametrize("text", PRIVATE_V4 + PRIVATE_V6)
def test_address_is_not_public(text: str) -> None:
    address = parse_address(text)
    assert address is not None
    assert find_non_public_reason(address)


@pytest.mark.parametrize("text", PUBLIC)
def test_address_is_public(text: str) -> None:
    address = parse_address(text)
    assert address is not None
    assert find_non_public_reason(address) is None


@pytest.mark.parametrize("text", ["fe80::1%eth0", "127.1", "0177.0.0.1", "", "localhost", "1"])
def test_unusual_spelling_of_an_address_is_rejected(text: str) -> None:
    assert parse_address(text) is None


@pytest.mark.parametrize("text", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3"])
def test_address_is_within_a_network_in_every_form(text: str) -> None:
    address = parse_address(text)
    assert address is not None
    assert is_within(address, [find_network("10.1.0.0/16")])
    assert not is_within(address, [find_network("10.2.0.0/16"), find_network("fc00::/7")])
