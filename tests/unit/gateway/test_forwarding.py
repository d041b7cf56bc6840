"""The client's address behind proxies: only what trusted proxies wrote counts."""

from __future__ import annotations

import pytest

from headgate.gateway.forwarding import (
    FORWARDED_CHARACTERS_MAX,
    HOPS_MAX,
    find_client_address,
    normalize_address,
    parse_networks,
    split_elements,
)
from headgate.gateway.limits import InvalidTrustedProxiesError, MalformedForwardedAddressError

TRUSTED = parse_networks(
    ("10.0.0.0/8", "192.0.2.7", "fd00::/8", "2001:db8:ffff::1"), allow_any=False
)
PROXY = "10.1.1.1"
XFF = b"x-forwarded-for"
STANDARD = b"forwarded"
Headers = list[tuple[bytes, bytes]]


def plain(*values: str) -> list[tuple[bytes, bytes]]:
    return [(XFF, value.encode("latin-1")) for value in values]


def standard(*values: str) -> list[tuple[bytes, bytes]]:
    return [(STANDARD, value.encode("latin-1")) for value in values]


FOUND: dict[str, tuple[str, Headers, str]] = {
    "no header": (PROXY, [], PROXY),
    "no header, stranger": ("203.0.113.9", [], "203.0.113.9"),
    "stranger says who": ("203.0.113.9", plain("1.2.3.4"), "203.0.113.9"),
    "stranger says who, standard": ("203.0.113.9", standard("for=1.2.3.4"), "203.0.113.9"),
    "stranger says a trusted one": ("203.0.113.9", plain("10.1.1.1"), "203.0.113.9"),
    "stranger talks nonsense": ("203.0.113.9", plain("%&/"), "203.0.113.9"),
    "neighbour of a trusted one": ("192.0.2.8", plain("1.2.3.4"), "192.0.2.8"),
    "one hop": (PROXY, plain("1.2.3.4"), "1.2.3.4"),
    "single trusted address": ("192.0.2.7", plain("1.2.3.4"), "1.2.3.4"),
    "two hops": (PROXY, plain("1.2.3.4, 10.9.9.9"), "1.2.3.4"),
    "without spaces": (PROXY, plain("1.2.3.4,10.9.9.9"), "1.2.3.4"),
    "tabs": (PROXY, plain("1.2.3.4\t,\t10.9.9.9"), "1.2.3.4"),
    "spoofed on the left": (PROXY, plain("9.9.9.9, 1.2.3.4"), "1.2.3.4"),
    "spoofed loopback": (PROXY, plain("127.0.0.1, 1.2.3.4"), "1.2.3.4"),
    "spoofed trusted one": (PROXY, plain("10.0.0.1, 1.2.3.4"), "1.2.3.4"),
    "nonsense on the left": (PROXY, plain("<script>, 1.2.3.4"), "1.2.3.4"),
    "empty on the left": (PROXY, plain(",, 1.2.3.4"), "1.2.3.4"),
    "many spoofed": (PROXY, plain("9.9.9.9, " * 500 + "1.2.3.4"), "1.2.3.4"),
    "all trusted": (PROXY, plain("10.3.3.3, 10.2.2.2"), "10.3.3.3"),
    "two lines": (PROXY, plain("9.9.9.9", "1.2.3.4"), "1.2.3.4"),
    "two lines, hop in the second": (PROXY, plain("1.2.3.4", "10.2.2.2"), "1.2.3.4"),
    "empty header": (PROXY, plain(""), PROXY),
    "port": (PROXY, plain("1.2.3.4:5678"), "1.2.3.4"),
    "IPv6": (PROXY, plain("2001:DB8::1"), "2001:db8::1"),
    "IPv6 in full": (PROXY, plain("2001:0db8:0:0:0:0:0:1"), "2001:db8::1"),
    "IPv6 in brackets": (PROXY, plain("[2001:db8::1]"), "2001:db8::1"),
    "IPv6 with a port": (PROXY, plain("[2001:db8::1]:443"), "2001:db8::1"),
    "mapped client": (PROXY, plain("::ffff:1.2.3.4"), "1.2.3.4"),
    "mapped hop": (PROXY, plain("1.2.3.4, ::ffff:10.2.2.2"), "1.2.3.4"),
    "mapped peer": ("::ffff:10.1.1.1", plain("1.2.3.4"), "1.2.3.4"),
    "mapped peer, stranger": ("::ffff:203.0.113.9", plain("1.2.3.4"), "203.0.113.9"),
    "IPv6 peer": ("fd00::1", plain("1.2.3.4"), "1.2.3.4"),
    "IPv6 hop": (PROXY, plain("1.2.3.4, [2001:db8:ffff::1]:80"), "1.2.3.4"),
    "peer without an address": ("", plain("1.2.3.4"), ""),
    "header with an underscore": (PROXY, [(b"x_forwarded_for", b"1.2.3.4")], PROXY),
    "other headers": (PROXY, [(b"x-real-ip", b"1.2.3.4"), (b"via", b"1.1 a")], PROXY),
    "standard": (PROXY, standard("for=1.2.3.4"), "1.2.3.4"),
    "standard, all pairs": (
        PROXY,
        standard('For="1.2.3.4:80";proto=https;by=10.0.0.1;host="a,b"'),
        "1.2.3.4",
    ),
    "standard, IPv6": (PROXY, standard('for="[2001:db8::1]:80"'), "2001:db8::1"),
    "standard, two hops": (PROXY, standard("for=9.9.9.9, for=1.2.3.4, for=10.2.2.2"), "1.2.3.4"),
    "standard, two lines": (PROXY, standard("for=1.2.3.4", "for=10.2.2.2"), "1.2.3.4"),
    "both agree": (PROXY, plain("1.2.3.4") + standard("for=1.2.3.4"), "1.2.3.4"),
}
DENIED = {
    "nonsense": plain("nonsense"),
    "unknown": plain("unknown"),
    "name": plain("client.example"),
    "empty hop": plain("1.2.3.4, "),
    "nonsense behind a hop": plain("nonsense, 10.2.2.2"),
    "leading zeros": plain("01.2.3.4"),
    "short form": plain("1.2.3"),
    "number": plain("16909060"),
    "hexadecimal": plain("0x01020304"),
    "too large": plain("1.2.3.256"),
    "network": plain("1.2.3.0/24"),
    "port of letters": plain("1.2.3.4:http"),
    "port too large": plain("1.2.3.4:65536"),
    "zone": plain("fe80::1%eth0"),
    "open bracket": plain("[2001:db8::1"),
    "IPv4 in brackets": plain("[1.2.3.4]"),
    "bytes behind the bracket": plain("[2001:db8::1]x"),
    "raw bytes": plain("1.2.3.4\xa0"),
    "full-width digits": [(XFF, "\uff11.2.3.4".encode())],
    "endless chain": plain("10.2.2.2, " * 40 + "10.2.2.2"),
    "standard, obfuscated": standard("for=_hidden"),
    "standard, unknown": standard("for=unknown"),
    "standard without for": standard("proto=https"),
    "standard, for twice": standard("for=1.2.3.4;for=5.6.7.8"),
    "standard, bare IPv6": standard("for=[2001:db8::1]"),
    "standard, open quote": standard('for="1.2.3.4'),
    "standard, other word": standard("Xfor=1.2.3.4"),
    "standard, no pair": standard("1.2.3.4"),
    "standard, endless": standard("for=1.2.3.4," * 5000),
    "both disagree": plain("1.2.3.4") + standard("for=5.6.7.8"),
    "one of both is nonsense": plain("1.2.3.4") + standard("for=nonsense"),
}


@pytest.mark.parametrize("name", FOUND)
def test_client_is_the_first_untrusted_hop(name: str) -> None:
    peer, headers, client = FOUND[name]
    assert find_client_address(peer, headers, TRUSTED) == client


@pytest.mark.parametrize("name", DENIED)
def test_malformed_header_of_a_trusted_hop_is_refused(name: str) -> None:
    with pytest.raises(MalformedForwardedAddressError):
        find_client_address(PROXY, DENIED[name], TRUSTED)
    assert find_client_address("203.0.113.9", DENIED[name], TRUSTED) == "203.0.113.9"


@pytest.mark.parametrize("name", FOUND)
def test_only_named_networks_are_trusted(name: str) -> None:
    peer, headers, _ = FOUND[name]
    assert find_client_address(peer, headers, ()) == peer.removeprefix("::ffff:")


@pytest.mark.parametrize("name", ["*", "0.0.0.0/0", "::/0"])
def test_trusting_all_addresses_needs_an_asterisk(name: str) -> None:
    with pytest.raises(InvalidTrustedProxiesError, match="HEADGATE_TRUST_ANY_PROXY"):
        parse_networks((name,), allow_any=False)
    assert parse_networks((name,), allow_any=True)


def test_with_all_trusted_the_leftmost_hop_counts() -> None:
    networks = parse_networks(("*",), allow_any=True)
    assert find_client_address("203.0.113.9", plain("1.2.3.4, 5.6.7.8"), networks) == "1.2.3.4"


@pytest.mark.parametrize("name", ["proxy.example", "10.0.0.1/8", "10.0.0.0/33", "10.0.0", ""])
def test_invalid_network_is_named_in_the_error(name: str) -> None:
    with pytest.raises(InvalidTrustedProxiesError, match="HEADGATE_TRUSTED_PROXIES"):
        parse_networks((name,), allow_any=False)


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        ("for=a", ["for=a"]),
        ("for=a,for=b", ["for=a", "for=b"]),
        ('for="a,b",for=c', ['for="a,b"', "for=c"]),
        ("for=a,", ["for=a", ""]),
        (",", ["", ""]),
        ('by=",,";for=a', ['by=",,";for=a']),
        ("", [""]),
    ],
)
def test_quoted_comma_does_not_split_elements(text: str, elements: list[str]) -> None:
    assert split_elements(text) == elements


def refusal(headers: Headers) -> str:
    with pytest.raises(MalformedForwardedAddressError) as caught:
        find_client_address(PROXY, headers, TRUSTED)
    return caught.value.message


def test_forwarding_error_names_the_defect() -> None:
    chain = "The chain of forwarded addresses cannot be followed: "
    assert refusal(plain("x" * 61)) == f"{chain}'{'x' * 60}' is not an address."
    assert refusal(plain("10.2.2.2, " * 32 + "10.2.2.2")) == f"{chain}it is too long."
    assert refusal(standard("proto=https")) == f"{chain}'' is not an address."
    assert refusal(standard("nonsense")) == f"{chain}'' is not an address."
    assert refusal(standard('for="1.2.3.4')) == f"{chain}'' is not an address."
    assert refusal(plain("1.2.3.4") + standard("for=5.6.7.8")) == (
        "X-Forwarded-For and Forwarded name different clients."
    )


def test_chain_is_followed_up_to_the_maximum_length() -> None:
    hops = ", ".join(["10.9.9.9"] + ["10.2.2.2"] * (HOPS_MAX - 1))
    assert find_client_address(PROXY, plain(hops), TRUSTED) == "10.9.9.9"


@pytest.mark.parametrize(("excess", "is_read"), [(0, True), (1, False)])
def test_forwarded_is_read_up_to_the_maximum_length(excess: int, is_read: bool) -> None:
    value = "for=1.2.3.4".rjust(FORWARDED_CHARACTERS_MAX + excess)
    if is_read:
        assert find_client_address(PROXY, standard(value), TRUSTED) == "1.2.3.4"
    else:
        refusal(standard(value))


@pytest.mark.parametrize("blank", [" ", "\t", " \t "])
def test_blank_header_is_ignored(blank: str) -> None:
    assert find_client_address(PROXY, plain(blank), TRUSTED) == PROXY
    assert find_client_address(PROXY, standard(blank), TRUSTED) == PROXY


@pytest.mark.parametrize("value", ["X", "XX", "X1.2.3.4X", "\x0b", "\x0b1.2.3.4", "1:2:80"])
def test_unusual_blanks_are_no_address(value: str) -> None:
    refusal(plain(value))
    refusal(standard(value))
    refusal(standard(f"for={value}"))
    refusal(standard("\x0bfor=1.2.3.4"))


@pytest.mark.parametrize(
    ("hop", "client"),
    [
        ("1.2.3.4:0", "1.2.3.4"),
        ("1.2.3.4:65535", "1.2.3.4"),
        ("[2001:db8::1]:65535", "2001:db8::1"),
    ],
)
def test_port_of_a_hop_is_ignored(hop: str, client: str) -> None:
    assert find_client_address(PROXY, plain(hop), TRUSTED) == client
    assert find_client_address(PROXY, standard(f'\tFor="{hop}" ; proto=http'), TRUSTED) == client


@pytest.mark.parametrize("hop", ["[2001:db8::1]]", "[2001:db8::1]:1]", "[2001:db8::1]:123456"])
def test_superfluous_bracket_is_malformed(hop: str) -> None:
    refusal(plain(hop))


def test_all_networks_are_parsed_and_errors_name_the_setting() -> None:
    assert len(parse_networks(("10.0.0.0/8", "*", "fd00::/8"), allow_any=True)) == 4
    with pytest.raises(InvalidTrustedProxiesError) as caught:
        parse_networks(("*",), allow_any=False)
    assert caught.value.message == (
        "HEADGATE_TRUSTED_PROXIES=* would let every client choose the address that it is "
        "seen with. Name the networks of your proxies; or, if nothing but them can connect, set "
        "HEADGATE_TRUST_ANY_PROXY=true."
    )


@pytest.mark.parametrize(
    ("peer", "said"),
    [
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("::ffff:0a01:0203", "10.1.2.3"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("10.1.2.3", "10.1.2.3"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("", ""),
        ("a socket", "a socket"),
    ],
)
def test_peer_address_is_normalized(peer: str, said: str) -> None:
    assert normalize_address(peer) == said
