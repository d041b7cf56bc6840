"""What the edge and the egress client let pass: addresses, hosts, proxies, compressed bodies."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import urllib.parse

from headgate.gateway.forwarding import find_client_address, parse_networks
from headgate.gateway.hosts import read_name
from headgate.gateway.limits import MalformedForwardedAddressError
from headgate.kit.decoding import Decoder, DecodingError
from headgate.kit.http import addresses
from headgate.kit.http.errors import ForbiddenAddressError
from headgate.kit.http.guard import EgressRule
from headgate.kit.http.message import Origin
from headgate.oauth.model.client import (
    REGISTERED_PREFIX,
    build_registered_client,
    parse_registered_client,
)
from headgate.oauth.model.errors import OAuthRequestError
from headgate.oauth.model.redirects import (
    LOOPBACK_HOSTS,
    check_redirect_uri,
    matches_redirect_uri,
)
from rigs.fuzz.checks.chunks import cut_in_many_ways, split_first_byte

CODINGS = ("gzip", "deflate", "br", "zstd")
OUTPUT_BYTES_MAX = 64 * 1024
TRUSTED = parse_networks(("10.0.0.0/8", "fd00::/8"), allow_any=False)
CLAIMS = b"203.0.113.99, junk, 10.9.9.9, "


def check_address(data: bytes) -> None:
    """Check that the standard library calls no accepted address, nor one in it, private."""
    for size in 4, 16:
        if len(data) >= size:
            address = ipaddress.ip_address(data[:size])
            if addresses.find_non_public_reason(address) is None:
                assert is_public(address)


def check_host(data: bytes) -> None:
    """Check that an accepted host is a name, or an address that all readers understand alike."""
    host = data.decode("latin-1")
    with contextlib.suppress(ForbiddenAddressError):
        EgressRule().check(Origin("https", host, 443))
        assert ":" in host or host == host.lower()
        assert host.isascii()
        try:
            packed = socket.inet_aton(host)  # reads octal, hexadecimal and short forms, too
        except OSError:
            packed = b""
        if packed:
            assert str(ipaddress.IPv4Address(packed)) == host
            assert is_public(ipaddress.IPv4Address(packed))
        elif ":" in host:
            assert is_public(ipaddress.IPv6Address(host))


def check_redirect(data: bytes) -> None:
    """Check that an accepted redirect URI leads where another parser says, and that an accepted
    client id is the one that its description gives."""
    text = data.decode("latin-1")
    with contextlib.suppress(OAuthRequestError):
        check_redirect_uri(text)
        parts = urllib.parse.urlsplit(text)
        assert not parts.fragment
        assert parts.username is None or parts.scheme not in ("http", "https")
        if parts.scheme == "http":
            assert parts.hostname in LOOPBACK_HOSTS
        assert matches_redirect_uri(text, text)
        client = build_registered_client("Agent", [text])
        assert parse_registered_client(client.id).id == client.id
    with contextlib.suppress(OAuthRequestError):
        assert parse_registered_client(REGISTERED_PREFIX + text).id == REGISTERED_PREFIX + text


def check_served_name(data: bytes) -> None:
    """Check that the name of a Host header is the one that another parser reads."""
    name = read_name(data)
    if name is None:
        return
    other = urllib.parse.urlsplit(b"http://" + data + b"/").hostname
    assert other is not None
    assert other.decode().removesuffix(".") == name


def check_forwarded(data: bytes) -> None:
    """Check that untrusted hops on the left of a chain change neither its address nor its error."""
    lines = [line.partition(b":") for line in data.split(b"\n")]
    headers = [
        (b"x-forwarded-for" if len(name) % 2 else b"forwarded", text) for name, _, text in lines
    ]
    assert find_client_address("198.51.100.7", headers, TRUSTED) == "198.51.100.7"
    try:
        client = find_client_address("10.0.0.1", headers, TRUSTED)
    except MalformedForwardedAddressError:
        return
    address = ipaddress.ip_address(client)
    assert str(address) == client
    names = {name for name, text in headers if text.strip(b" \t")}
    if names == {b"x-forwarded-for"} and not any(address in network for network in TRUSTED):
        assert (
            find_client_address("10.0.0.1", [(b"x-forwarded-for", CLAIMS), *headers], TRUSTED)
            == client
        )


def check_decoding(data: bytes) -> None:
    """Check that a body that decodes at two cuts decodes to the same bytes, within its bounds.

    libzstd refuses a frame that lies about its size when it sees all of it at once, and accepts it
    in pieces. So one cut may refuse what another reads.
    """
    order, body = split_first_byte(data)
    coding = CODINGS[order % len(CODINGS)]
    found = [decode(coding, chunks) for chunks in ([body], *cut_in_many_ways(order >> 2, body))]
    assert len({output for output in found if output is not None}) <= 1
    assert coding == "zstd" or len(set(found)) == 1


def decode(coding: str, chunks: list[bytes]) -> bytes | None:
    """Return the decoded body; None where it was refused."""
    decoder = Decoder(coding, output_bytes_max=OUTPUT_BYTES_MAX)
    try:
        output = b"".join([piece for chunk in chunks for piece in decoder.feed(chunk)])
        decoder.finish()
    except DecodingError:
        return None
    assert len(output) <= OUTPUT_BYTES_MAX
    return output


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Return whether the standard library calls the address, and any IPv4 address in it, public."""
    inner: list[ipaddress.IPv4Address] = []
    if isinstance(address, ipaddress.IPv6Address):
        carried = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in ipaddress.IPv6Network("64:ff9b::/96") or int(address) >> 32 == 0:
            carried.append(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
        inner = [each for each in carried if each is not None]
        if address.is_site_local:
            return False
    if inner:
        return all(is_public(each) for each in inner)
    return address.is_global and not (address.is_multicast or address.is_reserved)
