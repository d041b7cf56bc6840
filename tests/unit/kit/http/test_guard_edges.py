"""The bounds of the egress rule, to the port and the character, and the words of its refusals."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import pytest

from headgate.kit.http.addresses import find_non_public_reason
from headgate.kit.http.errors import ForbiddenAddressError
from headgate.kit.http.guard import (
    NAME_CHARACTERS_MAX,
    EgressRule,
    Guard,
    find_host_fault,
    parse_rule,
)
from headgate.kit.http.message import Origin

NOTHING_ALLOWED = EgressRule()
IN_THE_CLEAR = "plain http shows the secret to the network"


def refusal_of(rule: EgressRule, origin: Origin) -> str:
    with pytest.raises(ForbiddenAddressError) as refused:
        rule.check(origin)
    return str(refused.value)


def words(shown: str, reason: str) -> str:
    return (
        f"{shown} is refused: {reason}. "
        f"Who runs Headgate can allow it: HEADGATE_EGRESS_ALLOW={shown}"
    )


class Names:
    """A name server with one answer."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    async def find(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        return self.addresses


@pytest.mark.parametrize("port", [2, 80, 443, 8080, 65534, 65535])
def test_port_of_a_web_service_is_let_through(port: int) -> None:
    NOTHING_ALLOWED.check(Origin("https", "api.test", port))


@pytest.mark.parametrize("port", [-1, 0, 1, 22, 6379, 27019, 65536, 65537])
def test_port_of_anything_else_is_refused_with_its_number(port: int) -> None:
    told = refusal_of(NOTHING_ALLOWED, Origin("https", "api.test", port))
    reason = f"port {port} is not one of a web service"
    assert told == words(f"https://api.test:{port}", reason)


@pytest.mark.parametrize("port", [0, 1, 65535, 65536])
def test_allowed_origin_may_have_an_odd_port_but_no_impossible_one(port: int) -> None:
    entry = f"http://127.0.0.1:{port}"
    if 0 < port < 65536:
        parse_rule([entry]).check(Origin("http", "127.0.0.1", port))
    else:
        with pytest.raises(ValueError, match="is no origin") as refused:
            parse_rule([entry])
        assert str(refused.value) == f"{entry!r} is no origin: there is no such port"


def test_entry_with_a_bad_host_is_told_what_is_bad_about_it() -> None:
    with pytest.raises(ValueError, match=r"^'http://1\.2\.3' is no origin: not four decimal"):
        parse_rule(["http://1.2.3"])
    with pytest.raises(ValueError, match="is no origin") as refused:
        parse_rule(["http://a/b"])
    assert str(refused.value) == (
        "'http://a/b' is no origin: scheme://host[:port], without user and path"
    )


@pytest.mark.parametrize(
    ("host", "fault"),
    [
        ("::1%lo", "not an IPv6 address without a zone"),
        ("a:b", "not an IPv6 address without a zone"),
        ("127.1", "not four decimal numbers"),
        ("0x7f000001", "not four decimal numbers"),
        ("a b", "a name has labels of a-z, 0-9, - and _ with single dots between them"),
        ("A.test", "a name has labels of a-z, 0-9, - and _ with single dots between them"),
        ("", "a name has labels of a-z, 0-9, - and _ with single dots between them"),
        ("a." * 126 + "ab", "longer than 253 characters"),
    ],
)
def test_bad_host_is_told_its_fault(host: str, fault: str) -> None:
    assert find_host_fault(host) == fault
    assert (
        refusal_of(NOTHING_ALLOWED, Origin("https", host, 443)) == f"{host!r} is no host: {fault}."
    )


@pytest.mark.parametrize("host", ["::1", "2606:4700::1111", "8.8.8.8", "a_b-c.test", "1a.test"])
def test_host_with_one_meaning_has_no_fault(host: str) -> None:
    assert find_host_fault(host) is None


def test_name_may_have_253_characters_and_a_label_63() -> None:
    longest = "a." * 126 + "a"
    assert len(longest) == NAME_CHARACTERS_MAX == 253
    assert find_host_fault(longest) is None
    assert find_host_fault("a" * 63 + ".test") is None
    assert find_host_fault("a" * 64 + ".test") is not None


def test_other_schemes_are_refused_by_name() -> None:
    told = refusal_of(NOTHING_ALLOWED, Origin("gopher", "api.test", 70))
    assert told == "gopher:// is not spoken here, only https and http."


def test_plain_http_is_refused_for_a_public_name_and_a_public_address() -> None:
    for host in ("api.test", "8.8.8.8"):
        told = refusal_of(NOTHING_ALLOWED, Origin("http", host, 80))
        assert told == words(f"http://{host}", IN_THE_CLEAR)
    told = refusal_of(NOTHING_ALLOWED, Origin("http", "api.test", 443))
    assert told == words("http://api.test:443", IN_THE_CLEAR)


def test_plain_http_to_a_name_waits_for_its_address_where_a_network_is_allowed() -> None:
    rule = parse_rule(["10.1.0.0/16"])
    origin = Origin("http", "models.corp", 80)
    rule.check(origin)
    rule.judge(origin, ["10.1.2.3", "10.1.255.255"])
    with pytest.raises(ForbiddenAddressError) as refused:
        rule.judge(origin, ["10.1.2.3", "8.8.8.8"])
    assert str(refused.value) == words("http://models.corp", IN_THE_CLEAR)


def test_bad_address_is_named_with_what_it_is_instead() -> None:
    origin = Origin("https", "api.test", 443)
    with pytest.raises(ForbiddenAddressError) as refused:
        NOTHING_ALLOWED.judge(origin, ["8.8.8.8", "169.254.169.254"])
    reason = "link-local, where clouds keep their metadata"
    assert str(refused.value) == words(
        "https://api.test", f"169.254.169.254 is no public address ({reason})"
    )
    with pytest.raises(ForbiddenAddressError) as refused:
        NOTHING_ALLOWED.judge(origin, ["fe80::1%eth0"])
    assert str(refused.value) == words("https://api.test", "its address has a zone")


def test_address_outside_of_every_block_says_so() -> None:
    for text in ("4000::", "1fff::1"):
        assert find_non_public_reason(ipaddress.IPv6Address(text)) == "not given out to anybody"
    assert find_non_public_reason(ipaddress.IPv6Address("2000::")) is None


def test_more_origins_add_to_the_rule_and_take_nothing_from_it() -> None:
    first, second = Origin("http", "127.0.0.1", 1), Origin("http", "127.0.0.1", 2)
    before = parse_rule(["http://127.0.0.1:1", "10.1.0.0/16"])
    rule = before.with_origins(second, Origin("http", "models.corp", 8000))
    for origin in (first, second, Origin("http", "10.1.0.1", 80)):
        rule.check(origin)
    rule.judge(Origin("http", "models.corp", 8000), ["192.168.0.1"])
    refusal_of(before, second)
    refusal_of(rule, Origin("http", "127.0.0.1", 3))


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_address_asks_no_name_server_and_a_name_is_asked_for_as_it_is() -> None:
    names = Names("8.8.8.8")
    guard = Guard(None, names)
    assert await guard.resolve(Origin("https", "1.1.1.1", 443)) == ["1.1.1.1"]
    assert names.asked == []
    assert list(await guard.resolve(Origin("https", "api.test", 443))) == ["8.8.8.8"]
    assert names.asked == ["api.test"]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_eight_addresses_are_tried_in_order_and_the_ninth_is_judged_too() -> None:
    public = [f"8.8.8.{number}" for number in range(1, 10)]
    origin = Origin("https", "api.test", 443)
    assert list(await Guard(None, Names(*public)).resolve(origin)) == public[:8]
    with pytest.raises(ForbiddenAddressError):
        await Guard(None, Names(*public, "127.0.0.1")).resolve(origin)
